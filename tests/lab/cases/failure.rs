//! Nodes that fail, callers that vanish, helpers that are slow: every call reaches a live node, has one lease, and the lease ends.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::stage::{Plan, Stage, Stand, refusing, stands};
use crate::Case;
use crate::kamailio::Version;
use crate::net::wait_until;
use crate::parts::Part;
use crate::relay::{Faults, Relay};
use crate::room::Lab;

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];

/// What the metrics say of the first node while it has the pause that it asked for.
const LEFT_ALONE: &str = r#"mqs_node_health{pool="default",node="ast1",health="overloaded"}"#;

pub const CASES: &[Case] = &[
    Case { name: "failure::calls_leave_failing_nodes", needs: PARTS, run: failing_nodes },
    Case { name: "failure::calls_leave_failing_nodes_on_kamailio_6", needs: PARTS_NEW, run: failing_nodes_6 },
    Case { name: "failure::a_node_that_asks_for_a_pause_has_it", needs: PARTS, run: pause },
    Case { name: "failure::a_node_that_asks_for_a_pause_has_it_over_http", needs: PARTS, run: pause_http },
    Case { name: "failure::a_node_that_cannot_be_reached", needs: PARTS, run: unreachable },
    Case {
        name: "failure::a_node_that_cannot_be_reached_on_kamailio_6",
        needs: PARTS_NEW,
        run: unreachable_6,
    },
    Case {
        name: "failure::a_node_that_asks_for_a_pause_has_it_on_kamailio_6",
        needs: PARTS_NEW,
        run: pause_6,
    },
    Case { name: "failure::no_other_node_after_ringing", needs: PARTS, run: no_failover_after_ringing },
    Case { name: "failure::repeats_take_one_lease", needs: PARTS, run: repeats },
    Case { name: "failure::leases_of_calls_that_never_were_end", needs: PARTS, run: leases_end },
    Case { name: "failure::a_full_pool_is_refused_with_its_code", needs: PARTS, run: full_pool },
];

/// What runs each day. The same in other ways (over HTTP, on the other Kamailio) takes turns.
pub const ALWAYS: &[&str] = &[
    "failure::calls_leave_failing_nodes",
    "failure::a_node_that_asks_for_a_pause_has_it",
    "failure::a_node_that_cannot_be_reached",
    "failure::no_other_node_after_ringing",
    "failure::repeats_take_one_lease",
    "failure::leases_of_calls_that_never_were_end",
    "failure::a_full_pool_is_refused_with_its_code",
];

const LIMIT: Duration = Duration::from_secs(90);

fn failing_nodes(lab: &Lab) -> Result<()> {
    leave_failing_nodes(lab, Version::System)
}

fn failing_nodes_6(lab: &Lab) -> Result<()> {
    leave_failing_nodes(lab, Version::New)
}

/// One node silent, one answers 503, one 603 before ringing, two live ones.
fn leave_failing_nodes(lab: &Lab, version: Version) -> Result<()> {
    const CALLS: u32 = 200;
    let nodes = ["node-silent.xml", "node-503.xml", "node-603.xml", "node.xml", "node.xml"];
    let nodes = nodes.map(|scenario| Stand { scenario, capacity: 200 }).into_iter().collect();
    let pool = "targets_max = 5\nfr_timer_ms = 500";
    let stage = Stage::set(lab, Plan { version, pool, ..Plan::new(nodes) })?;
    let call = stage.call("caller", 0, "caller.xml").calls(CALLS).rate(20).limit(CALLS);
    let mut caller = call.hold(Duration::from_secs(14)).start(lab)?;
    // All are up together once: then each has exactly one lease, and it is counted where the call is.
    wait_until("all calls are up, on the live nodes", LIMIT, || {
        Ok(stage.loads()?[3..].iter().sum::<u64>() == u64::from(CALLS) && stage.load()? == u64::from(CALLS))
    })?;
    let loads = stage.loads()?;
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    let mut answered: BTreeMap<String, u32> = BTreeMap::new();
    for id in stage.seen(3).into_iter().chain(stage.seen(4)) {
        *answered.entry(id).or_default() += 1;
    }
    ensure!(answered.len() == CALLS as usize, "{} calls reached a live node", answered.len());
    ensure!(answered.values().all(|times| *times == 1), "a call reached live nodes twice");
    let failed: Vec<usize> = (0..3).map(|node| stage.seen(node).len()).collect();
    ensure!(failed.iter().skip(1).all(|n| *n > 0), "no call met a failing node: {failed:?}");
    // Without an ejection nearly all calls would: a node that answers nothing carries nothing, so it is the least loaded.
    ensure!((3..60).contains(&failed[0]), "{} calls met the silent node", failed[0]);
    ensure!(stage.leases()? == u64::from(CALLS), "{} leases", stage.leases()?);
    stage.wait_empty(Duration::from_secs(5))?;
    lab.tell(format!("{CALLS} calls up with loads {loads:?}; failing nodes saw {failed:?} first"));
    Ok(())
}

fn pause(lab: &Lab) -> Result<()> {
    leave_alone(lab, Version::System, false)
}

fn pause_http(lab: &Lab) -> Result<()> {
    leave_alone(lab, Version::System, true)
}

fn pause_6(lab: &Lab) -> Result<()> {
    leave_alone(lab, Version::New, false)
}

/// One node answers 503 with Retry-After: once MQS has been told, not one call more goes there.
fn leave_alone(lab: &Lab, version: Version, http: bool) -> Result<()> {
    const CALLS: u32 = 40;
    let nodes = vec![
        Stand { scenario: "node-503-retry-after.xml", capacity: 1000 },
        Stand { scenario: "node.xml", capacity: 100 },
    ];
    let stage = Stage::set(lab, Plan { version, http, ..Plan::new(nodes) })?;
    // The larger node is the least loaded for the first call. How soon the proxy tells MQS is the machine's affair.
    let first = stage.call("first", 0, "caller.xml").calls(1).hold(Duration::from_millis(100));
    ensure!(first.start(lab)?.success(LIMIT)?.successful() == 1, "the first call was lost");
    wait_until("the node is left alone", LIMIT, || Ok(stage.counted(LEFT_ALONE)? == 1))?;
    let call = stage.call("caller", 0, "caller.xml").calls(CALLS).rate(10).limit(CALLS);
    let stats = call.hold(Duration::from_secs(1)).start(lab)?.success(LIMIT)?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    let seen = stage.seen(0).len();
    ensure!(seen == 1, "{seen} calls met a node that had asked for a pause");
    lab.tell(format!("1 call met the node that asked for a pause, and none of {CALLS} after it"));
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}

/// A node that cannot be sent to answers nothing: it is ejected for that, and says so.
fn unreachable(lab: &Lab) -> Result<()> {
    unreached(lab, Version::System)
}

fn unreachable_6(lab: &Lab) -> Result<()> {
    unreached(lab, Version::New)
}

fn unreached(lab: &Lab, version: Version) -> Result<()> {
    let gone = refusing(lab);
    let defines = vec!["WITH_TCP".to_owned(), format!("LISTEN_TCP=tcp:{}:5060", lab.address())];
    let plan = Plan { version, pool: &gone, defines, ..Plan::new(stands("node.xml", &[100])) };
    let stage = Stage::set(lab, plan)?;
    let call = stage.call("caller", 0, "caller.xml").calls(10).rate(5).hold(Duration::from_millis(300));
    ensure!(call.start(lab)?.success(LIMIT)?.successful() == 10, "a call was lost");
    // Kamailio tells of it as of any silence: nothing was heard.
    wait_until("the node is ejected for it", LIMIT, || {
        let nodes = stage.helpers[0].http("GET", "/v1/nodes", None)?.body;
        Ok(nodes.contains("3 calls in a row: no answer"))
    })?;
    ensure!(stage.seen(0).len() == 10, "{} calls came to the live node", stage.seen(0).len());
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}

/// A caller who hears ringing may already be in a queue: the node's failure is the call's.
fn no_failover_after_ringing(lab: &Lab) -> Result<()> {
    let stage = Stage::set(lab, Plan::new(stands("node-ring-then-503.xml", &[10, 10])))?;
    let call = stage.call("caller", 0, "caller-expect-refusal.xml").calls(10).rate(10);
    // Kamailio hands a 503 on as 500 (RFC 3261 §16.7 step 6).
    let mut caller = call.set("expect", "500").start(lab)?;
    ensure!(caller.success(LIMIT)?.successful() == 10, "not all calls ended with the node's failure");
    let seen = stage.seen(0).len() + stage.seen(1).len();
    ensure!(seen == 10, "10 calls came {seen} times");
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}

/// SIP retransmits, and Kamailio's Redis client repeats a command that is answered late: one lease a call all the same.
fn repeats(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 100;
    let (front, relay_at) = (lab.path("front.sock"), lab.path("mqs1.sock"));
    // Kamailio gives up after 150 ms and asks again: the first answer of each connection comes too late, the repeat's in time.
    let defines = vec!["MQS_CMD_TIMEOUT_MS=150".to_owned(), "MQS_AWAY_AFTER=1000000".to_owned()];
    let plan = Plan { socket: Some(&front), defines, ..Plan::new(stands("node.xml", &[60, 90])) };
    // The relay stands before the helper's socket is there: it connects when it is connected to.
    let relay = Relay::unix(&front, &relay_at)?;
    let stage = Stage::set(lab, plan)?;
    let slow = Faults { answers_delay: Duration::from_millis(180), ..Faults::default() };
    let call = stage.call("caller", 0, "caller-retransmit.xml").calls(CALLS).rate(20).limit(CALLS);
    let before = relay.connections();
    let mut caller = call.hold(Duration::from_secs(8)).start(lab)?;
    // Slow for 100 ms out of each 500 ms, for as long as calls arrive: when Kamailio asks again, answers are quick again.
    for _ in 0..10 {
        relay.set(slow);
        std::thread::sleep(Duration::from_millis(100));
        relay.restore();
        std::thread::sleep(Duration::from_millis(400));
    }
    wait_until("all calls are up", LIMIT, || Ok(stage.load()? == u64::from(CALLS)))?;
    let leases = stage.leases()?;
    let repeats = stage.helpers[0].http("GET", "/metrics", None)?;
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    ensure!(leases == u64::from(CALLS), "{leases} leases for {CALLS} calls");
    let reconnected = relay.connections() - before;
    ensure!(reconnected > 0, "no command timed out: the test shows nothing");
    let repeated =
        repeats.body.lines().find(|line| line.contains("result=\"repeat\"")).unwrap_or("none").to_owned();
    ensure!(repeated != "none", "no lookup was repeated: the test shows nothing");
    stage.wait_empty(Duration::from_secs(5))?;
    lab.tell(format!("{CALLS} calls, {leases} leases, {reconnected} reconnections, {repeated}"));
    Ok(())
}

/// Local 408, CANCEL, a hang-up as soon as it is answered, a BYE from the node, a BYE that is lost.
fn leases_end(lab: &Lab) -> Result<()> {
    for (node, caller, expect, what) in [
        ("node-silent.xml", "caller-expect-refusal.xml", Some("408"), "local 408"),
        ("node-ring-forever.xml", "caller-cancel.xml", None, "CANCEL"),
        ("node.xml", "caller-early-hangup.xml", None, "early hang-up"),
        ("node-bye.xml", "caller-bye-from-node.xml", None, "BYE from the node"),
        ("node.xml", "caller-reinvite.xml", None, "re-INVITE"),
        ("node.xml", "caller-lost-bye.xml", None, "lost BYE"),
    ] {
        const CALLS: u32 = 10;
        let defines = vec!["DIALOG_MAX_S=6".to_owned()];
        let stage = Stage::set(
            lab,
            Plan { pool: "fr_timer_ms = 500", defines, ..Plan::new(stands(node, &[20, 20])) },
        )?;
        let mut call = stage.call("caller", 0, caller).calls(CALLS).rate(10).hold(Duration::from_millis(800));
        if let Some(code) = expect {
            call = call.set("expect", code);
        }
        let mut caller = call.start(lab)?;
        wait_until(&format!("{what}: leases are held"), LIMIT, || Ok(stage.load()? > 0))?;
        let stats = caller.success(LIMIT)?;
        ensure!(stats.successful() == u64::from(CALLS), "{what}: {stats:?}");
        let leases = stage.leases()?;
        ensure!(leases == u64::from(CALLS), "{what}: {leases} leases for {CALLS} calls");
        let gone = stage.wait_empty(Duration::from_secs(15))?;
        lab.tell(format!("{what}: no lease left after {gone:?}"));
    }
    Ok(())
}

/// More calls than channels: the rest are refused with the pool's code and a Reason, and nobody is lost.
fn full_pool(lab: &Lab) -> Result<()> {
    let pool = "refuse_code = 486\nretry_after_s = 7";
    let stage = Stage::set(lab, Plan { pool, ..Plan::new(stands("node.xml", &[5, 10])) })?;
    let mut calls =
        stage.call("caller", 0, "caller.xml").calls(15).rate(30).hold(Duration::from_secs(6)).start(lab)?;
    wait_until("the pool is full", LIMIT, || Ok(stage.load()? == 15))?;
    let from = std::net::SocketAddrV4::new(stage.callers[0], 5070);
    let more = stage.call("refused", 0, "caller-expect-refusal.xml").local(from).calls(5).rate(10);
    let more = more.set("expect", "486").set("need_reason", "1");
    ensure!(more.start(lab)?.success(LIMIT)?.successful() == 5, "not all were refused with 486");
    ensure!(stage.load()? == 15, "a refused call holds a lease");
    ensure!(calls.success(LIMIT)?.successful() == 15, "a call was lost");
    stage.wait_empty(Duration::from_secs(5)).map(|_| ())
}
