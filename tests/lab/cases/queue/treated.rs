//! Callers whom a queue does not serve: they hear why, leave a message, or wait in another queue; and silence, where music is not wanted.

use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::PARTS;
use super::floor::{DOMAIN, Floor, LIMIT, Plan, SALES, agent};
use super::media::{CALLER, meets};
use crate::Case;
use crate::net::wait_until;
use crate::phone::{Call, Invite};
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "queue::treated_by_an_announcement", needs: PARTS, run: announcement },
    Case { name: "queue::treated_by_voicemail", needs: PARTS, run: voicemail },
    Case { name: "queue::treated_by_another_queue", needs: PARTS, run: another_queue },
    Case { name: "queue::treated_by_a_menu_that_leads_to_another_queue", needs: PARTS, run: menu },
    Case { name: "queue::the_time_of_a_talk_does_not_end_a_wait", needs: PARTS, run: time_of_a_talk },
    Case { name: "queue::silence_and_then_the_agent", needs: PARTS, run: silence },
];

/// Behind `sales` there is `care`, which anne serves, agent 3; and every treatment.
const EXTRA: &str = "[[queue]]\nid = \"care\"\nnumbers = [\"7100\"]\nwrap_up_s = 0\n\n\
    [[agent]]\nid = \"anne\"\naor = \"agent3@pbx.example\"\nqueues = [\"care\"]\n\n\
    [[treatment]]\nid = \"sorry\"\ncontext = \"mqs-announce\"\nextension = \"vm-nobodyavail\"\n\n\
    [[treatment]]\nid = \"message\"\ncontext = \"mqs-voicemail\"\nextension = \"sales\"\n\n\
    [[treatment]]\nid = \"menu\"\ncontext = \"site\"\nextension = \"menu\"\n\n\
    [[treatment]]\nid = \"over\"\noverflow = \"care\"\n\n";

/// In `site`: whoever has waited here goes to another queue, as by a key of a menu.
const MENU: &str =
    "[site]\nexten => menu,1,Answer()\n same => n,Gosub(mqs-queue,s,1(care))\n same => n,Hangup()\n";

/// More than a click, in packets of 20 ms.
const HEARD: usize = 60;

fn plan(queue: &str) -> Plan<'_> {
    Plan { queue, extra: EXTRA, ..Plan::default() }
}

fn calls(lab: &Lab, floor: &Floor<'_>, name: &str) -> Result<(UdpSocket, Call)> {
    let local = UdpSocket::bind(SocketAddrV4::new(floor.trunk, 5059))?;
    let call = Invite::to(SALES, name).saying(CALLER).send(&local, floor.proxies[0].address())?;
    lab.tell(format!("{name} calls"));
    Ok((local, call))
}

/// Anne's phone, which takes calls and ends them.
fn anne(floor: &mut Floor<'_>, lab: &Lab) -> Result<Sipp> {
    floor.know(&agent(3))?;
    let phone = sipp::callee("anne", Scenario::File("agent-hangs-up.xml"));
    let phone = phone.hold(Duration::from_millis(500)).start(lab)?;
    floor.register_at(0, phone.local(), &[3])?;
    floor.registrations_are_read();
    Ok(phone)
}

fn anne_logs_in(floor: &Floor<'_>) -> Result<()> {
    let login = floor.instances[0].http("POST", "/v1/agents/anne/login", Some("{}"))?;
    ensure!(login.status == 200, "{}", login.body);
    Ok(())
}

fn of<'e>(events: &'e [Value], kind: &str, queue: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind && event["queue"] == queue).collect()
}

/// One waits, and that is all who may.
fn announcement(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan("waiting_max = 1\nends = { full = \"sorry\" }"))?;
    let mut first = floor.callers(1, 1, Duration::from_secs(12))?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    let (_local, mut call) = calls(lab, &floor, "too-many")?;
    call.wait_end(LIMIT)?;
    ensure!(call.codes().last() == Some(&200) && call.heard() >= HEARD, "{}", call.story());
    lab.tell(call.story());
    first.success(LIMIT)?;
    floor.is_empty()?;
    let events = floor.events()?;
    let treated = of(&events, "treated", "sales");
    ensure!(treated.len() == 1 && treated[0]["why"] == "full" && treated[0]["treatment"] == "sorry");
    ensure!(of(&events, "done", "sales").iter().any(|done| done["reason"] == "treated"), "{events:?}");
    Ok(())
}

fn voicemail(lab: &Lab) -> Result<()> {
    let floor = Floor::set(lab, &plan("wait_max_s = 1\nends = { longest-wait = \"message\" }"))?;
    let (_local, mut call) = calls(lab, &floor, "speaks")?;
    call.until("an answer", LIMIT, |call| call.codes().contains(&200))?;
    let spool = lab.path(floor.nodes[0].id()).join("spool/recording");
    let limit = Duration::from_secs(20);
    let begun = wait_begun(&mut call, &spool, limit)?;
    call.listen(Duration::from_secs(3))?;
    ensure!(call.ended.is_none(), "it may speak for longer; {}", call.story());
    call.hang_up()?;
    call.listen(Duration::from_secs(1))?;
    floor.is_empty()?;
    let bytes = std::fs::metadata(&begun)?.len();
    lab.tell(format!("{bytes} bytes were recorded"));
    // 16 bits, 8,000 a second.
    ensure!(bytes >= 2 * 16_000, "a message of {bytes} bytes");
    Ok(())
}

/// A message is being recorded; its file.
fn wait_begun(call: &mut Call, spool: &Path, limit: Duration) -> Result<std::path::PathBuf> {
    let end = crate::net::now() + limit;
    loop {
        let files = std::fs::read_dir(spool)?.filter_map(|entry| Some(entry.ok()?.path()));
        let name = |path: &std::path::PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("voicemail.sales."))
        };
        if let Some(file) = files.into_iter().find(name) {
            return Ok(file);
        }
        ensure!(crate::net::now() < end, "nothing is recorded in {}; {}", spool.display(), call.story());
        call.step()?;
    }
}

fn another_queue(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan("waiting_max = 1\nends = { full = \"over\" }"))?;
    let phone = anne(&mut floor, lab)?;
    let mut first = floor.callers(1, 1, Duration::from_secs(8))?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    anne_logs_in(&floor)?;
    let mut second = floor.waiting_callers(1, 1)?;
    floor.wait_for("connected", 1, LIMIT)?;
    second.success(LIMIT)?;
    first.success(LIMIT)?;
    floor.is_empty()?;
    let events = floor.events()?;
    ensure!(of(&events, "connected", "care").len() == 1, "{events:?}");
    ensure!(phone.logged("invite") == 1);
    Ok(())
}

/// The place in the queue that was left is not that in the queue that is entered.
fn menu(lab: &Lab) -> Result<()> {
    let site = lab.write("menu.conf", MENU)?.display().to_string();
    let plan = plan("wait_max_s = 2\nends = { longest-wait = \"menu\" }");
    let mut floor = Floor::set(lab, &Plan { node: &["--dialplan", &site], ..plan })?;
    let phone = anne(&mut floor, lab)?;
    anne_logs_in(&floor)?;
    let mut caller = floor.waiting_callers(1, 1)?;
    let entered = |floor: &Floor<'_>| Ok(floor.count("enqueued")? >= 2);
    wait_until("the caller is in a queue again", LIMIT, || entered(&floor))?;
    let events = floor.events()?;
    let queues: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "enqueued").map(|event| &event["queue"]).collect();
    ensure!(queues == ["sales", "care"], "{queues:?}");
    caller.success(LIMIT)?;
    floor.is_empty()?;
    let events = floor.events()?;
    ensure!(of(&events, "treated", "sales").first().context("not treated")?["why"] == "longest-wait");
    ensure!(of(&events, "connected", "care").len() == 1, "{events:?}");
    ensure!(phone.logged("invite") == 1);
    Ok(())
}

/// A talk may last for 10 s. Whoever is passed on after one of them waits as long as the other queue says.
fn time_of_a_talk(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan("talk_max_s = 10"))?;
    let _anne = anne(&mut floor, lab)?;
    let phone = sipp::callee("passes-on", Scenario::File("agent-transfers.xml")).patient();
    let phone = phone.hold(Duration::from_secs(1)).key("target", "7100").key("domain", DOMAIN).start(lab)?;
    floor.register_at(0, phone.local(), &[1])?;
    floor.registrations_are_read();
    floor.login([1])?;
    let mut caller = floor.waiting_callers(1, 1)?;
    floor.wait_for("connected", 1, LIMIT)?;
    std::thread::sleep(Duration::from_secs(13));
    let channels = floor.nodes[0].channels()?;
    let [channel] = channels.as_slice() else { anyhow::bail!("there is one caller: {channels:?}") };
    let place = channel["channelvars"]["MQS_PLACE"].as_str().unwrap_or_default();
    ensure!(place.starts_with("care,"), "{channel}");
    let path = format!(
        "/channels/{}/variable?variable=TIMEOUT(absolute)",
        channel["id"].as_str().unwrap_or_default()
    );
    let left = floor.nodes[0].ari("GET", &path, None)?.body;
    lab.tell(format!("{place}; the node ends the wait in {left}"));
    anne_logs_in(&floor)?;
    floor.wait_for("connected", 2, LIMIT)?;
    caller.success(LIMIT)?;
    floor.is_empty()
}

fn silence(lab: &Lab) -> Result<()> {
    meets(lab, "music = \"none\"", |call| {
        ensure!(call.codes().last() == Some(&200), "{}", call.story());
        ensure!(call.heard() == 0, "{}", call.story());
        Ok(())
    })
}
