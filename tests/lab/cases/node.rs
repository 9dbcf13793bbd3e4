//! What MQS can rely on at a node: how callers and codes come to it, where it can send them, what they hear without it.

use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Case;
use crate::ari::App;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::net;
use crate::parts::Part;
use crate::phone::Invite;
use crate::room::Lab;
use crate::voice::TONES;

pub const CASES: &[Case] = &[
    Case { name: "node::rings_while_nobody_leads", needs: &[Part::Asterisk], run: rings_while_nobody_leads },
    Case { name: "node::hands_over_a_late_caller", needs: &[Part::Asterisk], run: hands_over_a_late_caller },
    Case {
        name: "node::tells_where_a_caller_waits",
        needs: &[Part::Asterisk],
        run: tells_where_a_caller_waits,
    },
    Case { name: "node::survives_odd_texts", needs: &[Part::Asterisk], run: survives_odd_texts },
    Case { name: "node::lists_what_is_noted", needs: &[Part::Asterisk], run: lists_what_is_noted },
    Case { name: "node::plays_an_announcement", needs: &[Part::Asterisk], run: plays_an_announcement },
    Case { name: "node::ends_the_longest_wait", needs: &[Part::Asterisk], run: ends_the_longest_wait },
    Case { name: "node::hangs_up_who_is_silent", needs: &[Part::Asterisk], run: hangs_up_who_is_silent },
    Case { name: "node::takes_messages", needs: &[Part::Asterisk], run: takes_messages },
    Case { name: "node::has_voicemail", needs: &[Part::Asterisk], run: has_voicemail },
    Case { name: "node::knows_who_dials_a_code", needs: &[Part::Asterisk], run: knows_who_dials_a_code },
    Case { name: "node::says_sorry_for_a_code", needs: &[Part::Asterisk], run: says_sorry_for_a_code },
    Case { name: "node::calls_out_through_each", needs: &[Part::Asterisk], run: calls_out_through_each },
    Case { name: "node::connects_to_mqs", needs: &[Part::Asterisk], run: connects_to_mqs },
    Case { name: "node::loads_every_module", needs: &[Part::Asterisk], run: loads_every_module },
];

const SOON: Duration = Duration::from_secs(5);
const CALL_ID: &str = "4711-a.b@example.com";
const LEASE: &str = "m1.default.ast1.24cc70bad90350706f7176bed7da4676.0.6b03d1c8.vvOeFj_HHJo1lGZ38c3wkQ";

/// A node behind one Kamailio, whose socket the tests speak through.
struct Stage {
    kamailio: UdpSocket,
    node: Asterisk,
}

impl Stage {
    fn new(lab: &Lab, options: &[&str]) -> Result<Stage> {
        Stage::with_site(lab, options, None)
    }

    fn with_site(lab: &Lab, options: &[&str], site: Option<&str>) -> Result<Stage> {
        let address = SocketAddrV4::new(lab.address(), 5060);
        let kamailio = UdpSocket::bind(address)?;
        let mut all = vec!["--queue", "7000=sales", "--queue", "7001=support,10,german,visa"];
        all.extend(options);
        let config = NodeConfig {
            options: all.into_iter().map(str::to_owned).collect(),
            dialplan: site.map(str::to_owned),
            ..NodeConfig::behind(address)
        };
        Ok(Stage { kamailio, node: Asterisk::start(lab, "ast1", &config)? })
    }

    fn send(&self, invite: &Invite<'_>) -> Result<crate::phone::Call> {
        invite.send(&self.kamailio, self.node.sip())
    }

    /// A request that has to succeed.
    fn post(&self, path: &str) -> Result<()> {
        let answer = self.node.ari("POST", path, None)?;
        ensure!((200..300).contains(&answer.status), "POST {path}: {} {}", answer.status, answer.body);
        Ok(())
    }

    fn no_channel_is_left(&self) -> Result<()> {
        net::wait_until("no channel is left", SOON, || Ok(self.node.channels()?.is_empty()))
    }
}

fn arguments(start: &Value) -> Vec<&str> {
    start["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn channel(start: &Value) -> Result<&str> {
    start["channel"]["id"].as_str().context("no channel")
}

fn rings_while_nobody_leads(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &["--hold-for-leader", "2"])?;
    let mut call = stage.send(&Invite::to("7000", CALL_ID))?;
    call.wait_final(SOON)?;
    ensure!(call.codes() == [100, 180, 503], "{}", call.story());
    let (rang, left) = (call.when(180)?, call.when(503)?);
    ensure!(rang < Duration::from_millis(500), "{}", call.story());
    ensure!((1900..3000).contains(&(left.as_millis() as u64)), "{}", call.story());
    stage.no_channel_is_left()
}

fn hands_over_a_late_caller(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &[])?;
    let mut call = stage.send(&Invite::to("7000", CALL_ID))?;
    call.until("ringing", SOON, |call| call.codes().contains(&180))?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let start = app.event("StasisStart", Duration::from_millis(1500))?;
    ensure!(start["channel"]["state"] == "Ring", "answered before the queue said so: {start}");
    // Who leaves without being sent anywhere is hung up.
    stage.post(&format!("/channels/{}/continue", channel(&start)?))?;
    let code = call.wait_final(SOON)?;
    ensure!(code >= 400, "{}", call.story());
    stage.no_channel_is_left()
}

fn tells_where_a_caller_waits(lab: &Lab) -> Result<()> {
    let site = "[site]\nexten => 8000,1,Set(SKILL=ita)\n same => n,Gosub(queue,s,1(support,,${SKILL}lian))\n";
    let stage = Stage::with_site(lab, &[], Some(site))?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let lease = format!("X-MQS-Lease: {LEASE}");
    for (number, queue, priority, wishes) in [
        ("7000", "sales", "", ""),
        ("7001", "support", "10", "german,visa"),
        ("8000", "support", "", "italian"),
    ] {
        let call_id = format!("{number}-{CALL_ID}");
        let mut call = stage.send(&Invite::to(number, &call_id).with(&[&lease]))?;
        let start = app.event("StasisStart", SOON)?;
        ensure!(arguments(&start) == ["in", queue, &call_id, LEASE], "{number}: {start}");
        let noted = &start["channel"]["channelvars"];
        let expected = [
            ("MQS_QUEUE", queue),
            ("MQS_PRIORITY", priority),
            ("MQS_WISHES", wishes),
            ("MQS_LEASE", LEASE),
            ("MQS_OFFER", ""),
        ];
        for (name, value) in expected {
            ensure!(noted[name] == value, "{number}: {name}: {noted}");
        }
        ensure!(start["channel"]["protocol_id"] == call_id.as_str(), "{start}");
        call.cancel()?;
        app.event("StasisEnd", SOON)?;
    }
    stage.no_channel_is_left()
}

/// What would change how the dialplan or `Stasis()` is read is left out; everything else stays in its place.
fn survives_odd_texts(lab: &Lab) -> Result<()> {
    let site = "[site]\nexten => odd1,1,Gosub(queue,s,1(a b,1001,x y,good))\n\
                exten => odd2,1,Gosub(queue,s,1({sales},{},))\n\
                exten => odd3,1,Gosub(queue,s,1)\n\
                exten => odd4,1,Gosub(queue,s,1(${PJSIP_HEADER(read,X-Queue)}))\n";
    let stage = Stage::with_site(lab, &[], Some(site))?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let odd = [
        "a,b",
        "{}",
        "${EXTEN}",
        "x\"y",
        "\"",
        "(z",
        "b\\c",
        "q'r",
        "$[1+1]",
        "${SHELL(touch /x)}",
        "<t>",
        "a|b",
        "a;b",
        "a:Hangup(17)",
        ")?Hangup(17):Hangup(17)",
        "&amp;",
        "é",
    ];
    for text in odd {
        // A colon and a question mark do no harm where they are not followed by brackets.
        let call_id = format!("{text}@host");
        let lease = format!("X-MQS-Lease: {text}");
        let mut call = stage.send(&Invite::to("7000", &call_id).with(&[&lease]))?;
        let start = app.event("StasisStart", SOON).with_context(|| format!("Call-ID {call_id}"))?;
        ensure!(arguments(&start) == ["in", "sales", "", ""], "{text}: {start}");
        ensure!(start["channel"]["channelvars"]["MQS_LEASE"] == "", "{text}: {start}");
        ensure!(start["channel"]["protocol_id"] == call_id.as_str(), "{text}: {start}");
        call.cancel()?;
        app.event("StasisEnd", SOON)?;
    }
    for (number, queue, priority, wishes) in
        [("odd1", "", "", "good"), ("odd2", "", "", ""), ("odd3", "", "", ""), ("odd4", "", "", "")]
    {
        let invite = Invite::to(number, number);
        let mut call =
            stage.send(&invite.with(&["X-Queue: sales)?System(touch /x):x(", "X-MQS-Lease: m1.x"]))?;
        let start = app.event("StasisStart", SOON).with_context(|| number)?;
        ensure!(arguments(&start) == ["in", queue, number, "m1.x"], "{number}: {start}");
        let noted = &start["channel"]["channelvars"];
        ensure!(noted["MQS_PRIORITY"] == priority && noted["MQS_WISHES"] == wishes, "{number}: {noted}");
        call.cancel()?;
        app.event("StasisEnd", SOON)?;
    }
    stage.no_channel_is_left()
}

fn lists_what_is_noted(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &[])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let mut call = stage.send(&Invite::to("7000", CALL_ID))?;
    let start = app.event("StasisStart", SOON)?;
    let id = channel(&start)?;
    stage.post(&format!("/channels/{id}/variable?variable=MQS_PLACE&value=sales%2C10%2C1700000000000"))?;
    stage.post(&format!("/channels/{id}/answer"))?;
    let listed = stage.node.channels()?;
    let seen = listed.first().context("no channel is listed")?;
    ensure!(seen["channelvars"]["MQS_PLACE"] == "sales,10,1700000000000", "{seen}");
    ensure!(seen["dialplan"]["app_data"] == format!("mqs,in,sales,{CALL_ID},"), "{seen}");
    call.until("an answer", SOON, |call| call.codes().contains(&200))?;
    call.hang_up()?;
    let end = app.event("StasisEnd", SOON)?;
    ensure!(end["channel"]["channelvars"]["MQS_PLACE"] == "sales,10,1700000000000", "{end}");
    stage.no_channel_is_left()
}

fn plays_an_announcement(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &[])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    // A sound that is not there becomes a tone.
    for (sound, packets) in [("vm-nobodyavail", 60), ("digits/1", 10), ("no-such-sound", 60)] {
        let mut call = stage.send(&Invite::to("7000", sound))?;
        let start = app.event("StasisStart", SOON)?;
        let to = format!("context=mqs-announce&extension={}&priority=1", sound.replace('/', "%2F"));
        stage.post(&format!("/channels/{}/continue?{to}", channel(&start)?))?;
        call.wait_end(Duration::from_secs(12))?;
        ensure!(call.codes().contains(&200) && call.heard() >= packets, "{sound}: {}", call.story());
    }
    stage.no_channel_is_left()
}

/// Also of a caller who was answered and hears music, and while MQS is away.
fn ends_the_longest_wait(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &["--wait-max", "3"])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let mut unanswered = stage.send(&Invite::to("7000", "unanswered"))?;
    app.event("StasisStart", SOON)?;
    unanswered.wait_end(Duration::from_secs(10))?;
    let answered_at = unanswered.when(200)?;
    ensure!((2900..4500).contains(&(answered_at.as_millis() as u64)), "{}", unanswered.story());
    ensure!(unanswered.heard() > 60, "{}", unanswered.story());

    let mut held = stage.send(&Invite::to("7000", "held"))?;
    let start = app.event("StasisStart", SOON)?;
    stage.post(&format!("/channels/{}/answer", channel(&start)?))?;
    stage.post("/bridges?type=holding&bridgeId=hold")?;
    stage.post(&format!("/bridges/hold/addChannel?channel={}", channel(&start)?))?;
    drop(app);
    held.wait_end(Duration::from_secs(10))?;
    ensure!(held.heard() > 60, "{}", held.story());
    stage.no_channel_is_left()
}

/// A caller whose network is gone says no BYE: without RTP the call is over by itself, in the queue, too. Whoever is heard stays.
fn hangs_up_who_is_silent(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &["--rtp-timeout", "2"])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    stage.post("/bridges?type=holding&bridgeId=hold")?;
    for (name, says) in [("heard", Some(TONES[0])), ("silent", None)] {
        let mut call = stage.send(&Invite { says, ..Invite::to("7000", name) })?;
        let start = app.event("StasisStart", SOON)?;
        stage.post(&format!("/channels/{}/answer", channel(&start)?))?;
        stage.post(&format!("/bridges/hold/addChannel?channel={}", channel(&start)?))?;
        call.until("an answer", SOON, |call| call.codes().contains(&200))?;
        let answered = call.when(200)?;
        if says.is_some() {
            call.listen(Duration::from_secs(6))?;
            ensure!(call.ended.is_none(), "{name}: {}", call.story());
            call.hang_up()?;
        } else {
            call.wait_end(Duration::from_secs(10))?;
            let after = call.ended.context("no end")?.saturating_sub(answered);
            ensure!((1_500..6_000).contains(&after.as_millis()), "{name}: {}", call.story());
            lab.tell(format!("hung up {:.1} s after the answer, 2 s are allowed", after.as_secs_f64()));
        }
        app.event("StasisEnd", SOON)?;
    }
    stage.no_channel_is_left()
}

fn takes_messages(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &[])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let mut call = stage.send(&Invite::to("7000", CALL_ID))?;
    let start = app.event("StasisStart", SOON)?;
    stage.post(&format!(
        "/channels/{}/continue?context=mqs-voicemail&extension=sales&priority=1",
        channel(&start)?
    ))?;
    // The prompt and the tone, some seconds; then the caller speaks, and hangs up.
    call.until("a prompt", Duration::from_secs(15), |call| call.heard() > 200)?;
    net::wait_until("the message is being recorded", Duration::from_secs(15), || {
        call.listen(Duration::from_millis(50))?;
        Ok(messages(lab, "recording").iter().any(|name| name.starts_with("voicemail.sales.ast1-")))
    })?;
    call.hang_up()?;
    stage.no_channel_is_left()?;
    let stored = stage.node.ari("GET", "/recordings/stored", None)?;
    ensure!(stored.body.contains("\"voicemail.sales.ast1-"), "{}", stored.body);
    Ok(())
}

fn has_voicemail(lab: &Lab) -> Result<()> {
    let boxes = lab.write("boxes.conf", "[default]\n17 => 4321,Sales\n")?;
    let stage = Stage::new(lab, &["--voicemail", &text(&boxes)])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    let mut call = stage.send(&Invite::to("7000", "known"))?;
    let start = app.event("StasisStart", SOON)?;
    stage.post(&format!(
        "/channels/{}/continue?context=mqs-voicemail&extension=17&priority=1",
        channel(&start)?
    ))?;
    call.until("a prompt", Duration::from_secs(10), |call| call.heard() > 100)?;
    let channels = stage.node.channels()?;
    let app_name = &channels.first().context("no channel")?["dialplan"]["app_name"];
    ensure!(app_name == "VoiceMail", "{channels:?}");
    call.hang_up()?;
    // Without the mailbox, the caller hears so.
    let mut lost = stage.send(&Invite::to("7000", "unknown"))?;
    let start = app.event("StasisStart", SOON)?;
    stage.post(&format!(
        "/channels/{}/continue?context=mqs-voicemail&extension=99&priority=1",
        channel(&start)?
    ))?;
    lost.wait_end(Duration::from_secs(10))?;
    ensure!(lost.heard() > 20, "{}", lost.story());
    stage.no_channel_is_left()
}

fn knows_who_dials_a_code(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &["--code-pause", "*77"])?;
    let mut app = App::attach(&stage.node, "mqs")?;
    for (code, word, header, user) in [
        ("*45", "login", "P-Asserted-Identity: <sip:agent17@example.com>", "agent17"),
        ("*77", "pause", "P-Asserted-Identity: <sips:a.b_c-1@example.com>", "a.b_c-1"),
    ] {
        let mut call = stage.send(&Invite::to(code, code).with(&[header]))?;
        let start = app.event("StasisStart", SOON)?;
        ensure!(arguments(&start) == ["code", word, user], "{header}: {start}");
        ensure!(start["channel"]["state"] == "Ring" && start["channel"]["protocol_id"] == code, "{start}");
        call.cancel()?;
        app.event("StasisEnd", SOON)?;
    }
    let nobody: [&[&str]; 8] = [
        &[],
        &["Remote-Party-ID: <sip:boss@example.com>;party=calling;privacy=off"],
        &["P-Preferred-Identity: <sip:boss@example.com>"],
        &["P-Asserted-Identity: <sip:boss@example.com>", "P-Asserted-Identity: <sip:agent17@example.com>"],
        &["P-Asserted-Identity: \"x\" <sip:boss@example.com>"],
        &["P-Asserted-Identity: <sip:boss,code,x@example.com>"],
        &["P-Asserted-Identity: <sip:a@b>, <sip:boss@example.com>"],
        &["P-Asserted-Identity: <sip:${CALLERID(num)}@example.com>"],
    ];
    for (number, headers) in nobody.into_iter().enumerate() {
        let call_id = format!("nobody-{number}");
        let mut call = stage.send(&Invite::to("*45", &call_id).with(headers))?;
        call.wait_end(Duration::from_secs(10)).with_context(|| format!("{headers:?}"))?;
        ensure!(call.heard() > 20, "{headers:?}: {}", call.story());
    }
    // From: <sip:bob@example.com> was in all of them.
    app.listen(Duration::from_millis(200))?;
    let starts = app.seen.iter().filter(|event| event["type"] == "StasisStart").count();
    ensure!(starts == 2, "{starts} calls came in");
    stage.no_channel_is_left()
}

fn says_sorry_for_a_code(lab: &Lab) -> Result<()> {
    let stage = Stage::new(lab, &[])?;
    let header = "P-Asserted-Identity: <sip:agent17@example.com>";
    let mut call = stage.send(&Invite::to("*46", CALL_ID).with(&[header]))?;
    call.wait_end(Duration::from_secs(10))?;
    let answered = call.when(200)?;
    ensure!((2900..4200).contains(&(answered.as_millis() as u64)), "{}", call.story());
    ensure!(call.codes() == [100, 180, 200] && call.heard() > 20, "{}", call.story());
    stage.no_channel_is_left()
}

fn calls_out_through_each(lab: &Lab) -> Result<()> {
    let addresses = [(); 3].map(|()| SocketAddrV4::new(lab.address(), 5070));
    let [first, second, third] = addresses;
    let config = NodeConfig {
        options: vec!["--kamailio".to_owned(), format!("edge.b={third}")],
        kamailios: vec![first, second],
        ..NodeConfig::default()
    };
    let node = Asterisk::start(lab, "ast1", &config)?;
    let _app = App::attach(&node, "mqs")?;
    for (id, address) in ["k1", "k2", "edge.b"].into_iter().zip(addresses) {
        let kamailio = UdpSocket::bind(address)?;
        kamailio.set_read_timeout(Some(SOON))?;
        let query = format!(
            "endpoint=PJSIP%2F{id}%2Fsip:agent17@example.com&app=mqs&appArgs=offer,o1&channelId=leg-{id}"
        );
        let answer = node.ari("POST", &format!("/channels?{query}"), None)?;
        ensure!(answer.status == 200, "{id}: {} {}", answer.status, answer.body);
        let mut buffer = [0; 4096];
        let (length, from) = kamailio.recv_from(&mut buffer).with_context(|| format!("no INVITE at {id}"))?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure!(text.starts_with("INVITE sip:agent17@example.com SIP/2.0\r\n"), "{id}: {text}");
        ensure!(from == std::net::SocketAddr::V4(node.sip()), "{id}: from {from}");
        ensure!(node.ari("DELETE", &format!("/channels/leg-{id}"), None)?.status == 204, "{id}: hanging up");
        drop(kamailio);
        // Calls from each of them are taken.
        let kamailio = UdpSocket::bind(address)?;
        let mut call = Invite::to("1234", id).send(&kamailio, node.sip())?;
        ensure!(call.wait_final(SOON)? == 200, "{id}: {}", call.story());
        let names: Vec<String> = node.channels()?.iter().map(|channel| channel["name"].to_string()).collect();
        ensure!(names.iter().any(|name| name.starts_with(&format!("\"PJSIP/{id}-"))), "{id}: {names:?}");
        call.hang_up()?;
    }
    Ok(())
}

/// The other way round: the node dials. Who comes while nothing listens hears ringing, and is told of when something does.
fn connects_to_mqs(lab: &Lab) -> Result<()> {
    let address = SocketAddrV4::new(lab.address(), 8765);
    let secret = lab.write("connect.secret", "a-secret-of-mqs\n")?;
    let uri = format!("ws://{address}/ari");
    let stage = Stage::new(lab, &["--ari-connect", &uri, "--ari-connect-secret-file", &text(&secret)])?;
    let mut early = stage.send(&Invite::to("7000", "early"))?;
    early.until("ringing", SOON, |call| call.codes() == [100, 180])?;

    let listener = TcpListener::bind(address)?;
    let mut app = App::accept(&listener, "ast1", "a-secret-of-mqs", SOON)?;
    let start = app.event("StasisStart", SOON)?;
    ensure!(arguments(&start) == ["in", "sales", "early", ""], "{start}");
    ensure!(app.rest("POST", &format!("channels/{}/answer", channel(&start)?))? == 204, "answering");
    ensure!(early.wait_final(SOON)? == 200, "{}", early.story());
    drop((app, listener));

    let mut between = stage.send(&Invite::to("7000", "between"))?;
    between.until("ringing", SOON, |call| call.codes() == [100, 180])?;
    ensure!(early.ended.is_none(), "the one inside was dropped: {}", early.story());
    let listener = TcpListener::bind(address)?;
    let mut app = App::accept(&listener, "ast1", "a-secret-of-mqs", SOON)?;
    let start = app.event("StasisStart", SOON)?;
    ensure!(arguments(&start) == ["in", "sales", "between", ""], "{start}");
    // A request by HTTP does as well.
    stage.post(&format!("/channels/{}/answer", channel(&start)?))?;
    between.wait_final(SOON)?;
    between.hang_up()?;
    early.hang_up()?;
    stage.no_channel_is_left()
}

fn loads_every_module(lab: &Lab) -> Result<()> {
    let boxes = lab.write("boxes.conf", "[default]\n17 => 4321,Sales\n")?;
    let stage = Stage::new(lab, &["--voicemail", &text(&boxes)])?;
    let asked = std::fs::read_to_string(lab.path("ast1/etc/modules.conf"))?;
    let asked: Vec<&str> = asked.lines().filter_map(|line| line.strip_prefix("load = ")).collect();
    ensure!(asked.len() > 60 && asked.contains(&"app_voicemail.so"), "{asked:?}");
    let shown = stage.node.cli(lab, "module show")?;
    let runs = |module: &str| {
        let line = shown.lines().find(|line| line.starts_with(module));
        line.is_some_and(|line| line.contains(" Running "))
    };
    let missing: Vec<&&str> = asked.iter().filter(|module| !runs(module)).collect();
    ensure!(missing.is_empty(), "{missing:?}");
    let log = stage.node.process.log_text();
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("ERROR[") || line.contains("WARNING["))
        .filter(|line| !line.contains("No music on hold classes"))
        .collect();
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

/// The files of a folder of the node's spool.
fn messages(lab: &Lab, folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(lab.path(&format!("ast1/spool/{folder}"))).into_iter().flatten().flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

fn text(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
