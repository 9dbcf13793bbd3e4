//! A Kamailio that asks by SIP: `kamailio/redirect.cfg`, the redirect server, stand-in nodes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::{POOL, Stage, Stand, refusing, stands};
use crate::Case;
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::wait_until;
use crate::parts::{self, Part};
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};
use crate::store::{Kind, Store};

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];

pub const CASES: &[Case] = &[
    Case {
        name: "redirect::calls_follow_the_contacts",
        needs: PARTS,
        run: |lab| follow(lab, Version::System, "udp"),
    },
    Case {
        name: "redirect::calls_follow_the_contacts_on_kamailio_6",
        needs: PARTS_NEW,
        run: |lab| follow(lab, Version::New, "udp"),
    },
    Case {
        name: "redirect::calls_follow_the_contacts_over_tcp",
        needs: PARTS,
        run: |lab| follow(lab, Version::System, "tcp"),
    },
    Case {
        name: "redirect::the_next_contact_when_one_fails",
        needs: PARTS,
        run: |lab| next(lab, Version::System),
    },
    Case {
        name: "redirect::the_next_contact_when_one_fails_on_kamailio_6",
        needs: PARTS_NEW,
        run: |lab| next(lab, Version::New),
    },
    Case {
        name: "redirect::the_next_contact_when_one_refuses_connections",
        needs: PARTS,
        run: |lab| refused(lab, Version::System),
    },
    Case {
        name: "redirect::the_next_contact_when_one_refuses_connections_on_kamailio_6",
        needs: PARTS_NEW,
        run: |lab| refused(lab, Version::New),
    },
    Case { name: "redirect::a_full_pool_is_the_callers_answer", needs: PARTS, run: full },
    Case { name: "redirect::a_lease_that_nobody_settles_ends", needs: PARTS, run: unsettled },
    Case {
        name: "redirect::kamailio_5_6_takes_every_switch",
        needs: &[Part::Kamailio],
        run: |lab| switches(lab, Version::System),
    },
    Case {
        name: "redirect::kamailio_6_takes_every_switch",
        needs: &[Part::KamailioNew],
        run: |lab| switches(lab, Version::New),
    },
];

/// What runs each day. The others take turns.
pub const ALWAYS: &[&str] = &[
    "redirect::calls_follow_the_contacts",
    "redirect::the_next_contact_when_one_fails",
    "redirect::kamailio_5_6_takes_every_switch",
    "redirect::kamailio_6_takes_every_switch",
];

const LIMIT: Duration = Duration::from_secs(60);

/// How long a stand-in node rings.
const RINGING: Duration = Duration::from_millis(200);

struct Plan<'a> {
    version: Version,
    transport: &'a str,
    nodes: Vec<Stand>,
    pool: &'a str,
    helper: &'a str,
    /// Whether Kamailio tells what becomes of its calls.
    settle: bool,
}

impl Plan<'_> {
    fn new(version: Version, nodes: Vec<Stand>) -> Plan<'static> {
        Plan { version, transport: "udp", nodes, pool: "", helper: "", settle: true }
    }
}

fn config(lab: &Lab, name: &str) -> Result<(KamailioConfig, String)> {
    let text = std::fs::read_to_string(parts::checkout().join("kamailio/redirect.cfg"))?;
    Ok((KamailioConfig::new(lab, name), text))
}

fn stage(lab: &Lab, plan: Plan<'_>) -> Result<Stage> {
    let store = Store::start(lab, Kind::Alone)?;
    let mut nodes = Vec::new();
    for (stand, number) in plan.nodes.iter().zip(1..) {
        let node = sipp::callee(&format!("ast{number}"), Scenario::File(stand.scenario));
        nodes.push(node.hold(RINGING).start(lab)?);
    }
    let defined = nodes.iter().zip(&plan.nodes).zip(1..);
    let defined =
        defined.map(|((node, stand), n)| Node::new(&format!("ast{n}"), node.uri(), stand.capacity)).collect();
    let mut pool = Pool::new(POOL, defined);
    pool.extra = plan.pool.to_owned();
    let sip = SocketAddrV4::new(lab.address(), 5062);
    let mut helper = MqsConfig::new("mqs1", store.url(), vec![pool]);
    helper.listen = format!("sip = [\"udp:{sip}\", \"tcp:{sip}\"]");
    helper.extra = plan.helper.to_owned();
    let helper = Mqs::start(lab, helper)?;

    let caller = lab.address();
    let nets: Vec<String> = nodes.iter().map(Sipp::ip).map(|ip: Ipv4Addr| format!("{ip}/32")).collect();
    let (base, text) = config(lab, "k1")?;
    let run = plan.version.sees(lab, &lab.path("k1").join("run"))?;
    let mut proxy =
        base.clone().define("LISTEN", format!("udp:{}", base.address)).define("RUN_DIR", run.display());
    proxy = proxy.define("TRUNK_NETS", format!("{caller}/32")).define("NODE_NETS", nets.join(","));
    proxy = proxy.define("NODE_FR_MS", 500);
    proxy = match plan.transport {
        "tcp" => {
            let proxy = proxy.switch("WITH_TCP").define("LISTEN_TCP", format!("tcp:{}", base.address));
            proxy.define("MQS_SIP", format!("sip:{sip};transport=tcp"))
        }
        _ => proxy.define("MQS_SIP", format!("sip:{sip}")),
    };
    if plan.settle {
        let socket = plan.version.sees(lab, helper.socket())?;
        proxy = proxy.switch("WITH_MQS_SETTLE").define("MQS_SOCKET", socket.display());
    }
    let proxy = Kamailio::start_text(lab, plan.version, proxy, &text)?;
    Ok(Stage {
        store,
        capacities: plan.nodes.iter().map(|stand| stand.capacity).collect(),
        nodes,
        helpers: vec![helper],
        proxies: vec![proxy],
        callers: vec![caller],
        links: Vec::new(),
    })
}

/// Calls spread evenly, carry their token as a header and not in the address, and their leases end with them.
fn follow(lab: &Lab, version: Version, transport: &str) -> Result<()> {
    const CALLS: u64 = 40;
    let stage = stage(lab, Plan { transport, ..Plan::new(version, stands("node.xml", &[20, 60])) })?;
    let call = stage.call("caller", 0, "caller.xml").calls(40).rate(20).limit(40);
    let mut caller = call.hold(Duration::from_secs(5)).start(lab)?;
    stage.watch_arrivals(CALLS, LIMIT)?;
    let loads = stage.loads()?;
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == CALLS, "{stats:?}");
    let gone = stage.wait_empty(Duration::from_secs(5))?;
    for node in 0..2 {
        let logs = stage.nodes[node].logs();
        let invites: Vec<&String> = logs.iter().filter(|line| line.contains("event=invite ")).collect();
        ensure!(
            invites.len() as u64 == loads[node],
            "node {node} saw {} calls, load {loads:?}",
            invites.len()
        );
        let prefix = format!("lease=m1.{POOL}.ast{}.", node + 1);
        ensure!(invites.iter().all(|line| line.contains(&prefix)), "{invites:#?}");
    }
    ensure!(stage.leases()? == CALLS, "{} leases", stage.leases()?);
    let redirects = stage.counted("mqs_sip_requests_total{method=\"INVITE\",answer=\"302\"}")?;
    let confirmed = stage.counted("mqs_settles_total{verb=\"confirm\",result=\"confirmed\"}")?;
    ensure!((redirects, confirmed) == (CALLS, CALLS), "{redirects} redirects, {confirmed} confirmed");
    // Kamailio's ACKs for the 302s.
    let acks = stage.counted("mqs_sip_unanswered_total{reason=\"ack\"}")?;
    ensure!(acks == CALLS, "{acks} ACKs were absorbed");
    lab.tell(format!(
        "{CALLS} calls over {transport}, loads {loads:?}, leases gone {gone:?} after the last one"
    ));
    Ok(())
}

/// One node is silent, one answers 503; the calls end at the live one, each under one lease that went with it.
fn next(lab: &Lab, version: Version) -> Result<()> {
    const CALLS: u64 = 30;
    let nodes = ["node-silent.xml", "node-503.xml", "node.xml"];
    let nodes = nodes.map(|scenario| Stand { scenario, capacity: 60 }).into_iter().collect();
    let stage = stage(lab, Plan::new(version, nodes))?;
    let call = stage.call("caller", 0, "caller.xml").calls(30).rate(10).limit(30);
    let mut caller = call.hold(Duration::from_secs(7)).start(lab)?;
    wait_until("all calls are up, on the live node", LIMIT, || Ok(stage.loads()? == [0, 0, CALLS]))
        .with_context(|| format!("loads: {:?}", stage.loads()))?;
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == CALLS, "{stats:?}");
    let live: BTreeSet<String> = stage.seen(2).into_iter().collect();
    ensure!(
        live.len() as u64 == CALLS && stage.seen(2).len() == live.len(),
        "{} at the live node",
        live.len()
    );
    let moved = stage.counted("mqs_settles_total{verb=\"fail\",result=\"moved\"}")?;
    ensure!(
        moved > 10 && !stage.seen(1).is_empty(),
        "only {moved} leases were moved: the test shows nothing"
    );
    ensure!(stage.leases()? == CALLS, "{} leases", stage.leases()?);
    stage.wait_empty(Duration::from_secs(5))?;
    lab.tell(format!(
        "{CALLS} calls at the live node, {moved} moves, {} of them after a 503",
        stage.seen(1).len()
    ));
    Ok(())
}

/// One node cannot be sent to: its calls go to the live one.
fn refused(lab: &Lab, version: Version) -> Result<()> {
    let gone = refusing(lab);
    let plan = Plan { transport: "tcp", pool: &gone, ..Plan::new(version, stands("node.xml", &[100])) };
    let stage = stage(lab, plan)?;
    let call = stage.call("caller", 0, "caller.xml").calls(10).rate(5).hold(Duration::from_millis(300));
    ensure!(call.start(lab)?.success(LIMIT)?.successful() == 10, "a call was lost");
    let moved = stage.counted("mqs_settles_total{verb=\"fail\",result=\"moved\"}")?;
    ensure!(moved > 0, "no lease was moved: the test shows nothing");
    ensure!(stage.seen(0).len() == 10, "{} calls came to the live node", stage.seen(0).len());
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}

/// The refusal's own code and Reason reach the caller, and nobody who is up is lost.
fn full(lab: &Lab) -> Result<()> {
    let pool = "refuse_code = 486";
    let stage = stage(lab, Plan { pool, ..Plan::new(Version::System, stands("node.xml", &[4, 6])) })?;
    let mut calls =
        stage.call("caller", 0, "caller.xml").calls(10).rate(20).hold(Duration::from_secs(15)).start(lab)?;
    wait_until("the pool is full", LIMIT, || Ok(stage.load()? == 10))?;
    let from = SocketAddrV4::new(stage.callers[0], 5070);
    let more = stage.call("refused", 0, "caller-expect-refusal.xml").local(from).calls(5).rate(10);
    let more = more.set("expect", "486").set("need_reason", "1");
    ensure!(more.start(lab)?.success(LIMIT)?.successful() == 5, "not all were refused with 486");
    ensure!(calls.success(LIMIT)?.successful() == 10, "a call was lost");
    let refused =
        stage.counted(&format!("mqs_lookups_total{{pool=\"{POOL}\",result=\"full\",transport=\"sip\"}}"))?;
    ensure!(refused == 5, "{refused} refused lookups counted");
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}

/// Without the switch nothing is told: calls go on, and their leases end `held_ms` after the answer.
fn unsettled(lab: &Lab) -> Result<()> {
    let helper = "[dispatch]\nheld_ms = 3000\n";
    let plan = Plan { helper, settle: false, ..Plan::new(Version::System, stands("node.xml", &[20, 20])) };
    let stage = stage(lab, plan)?;
    let mut caller =
        stage.call("caller", 0, "caller.xml").calls(10).rate(50).hold(Duration::from_secs(8)).start(lab)?;
    wait_until("all leases are held", LIMIT, || Ok(stage.load()? == 10))?;
    let gone = stage.wait_empty(Duration::from_secs(6))?;
    ensure!(
        caller.process.check().is_ok(),
        "the calls have ended before their leases: the test shows nothing"
    );
    ensure!(caller.success(LIMIT)?.successful() == 10, "a call was lost");
    lab.tell(format!("10 leases ended by time {gone:?} after the last one was taken, their calls went on"));
    Ok(())
}

fn switches(lab: &Lab, version: Version) -> Result<()> {
    let (base, text) = config(lab, "k1")?;
    let file = lab.write("k1-config/kamailio.cfg", &text)?;
    let plain = KamailioConfig { directory: file.parent().map(std::path::Path::to_owned), ..base };
    let plain = plain.define("RUN_DIR", "/tmp");
    for config in [plain.clone(), plain.clone().switch("WITH_MQS_SETTLE").switch("WITH_TCP")] {
        Kamailio::check(lab, version, &config)?;
    }
    // The check can say no.
    let wrong = plain.define("MQS_ASK_MS", "soon");
    ensure!(Kamailio::check(lab, version, &wrong).is_err(), "a time-out of \"soon\" is taken");
    Ok(())
}
