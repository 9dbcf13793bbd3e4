//! Parts of the call centre fail while it is busy. The phones and the callers say what came of it: what a store has forgotten,
//! it cannot tell.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;
use serde_json::Value;

use super::floor::{Floor, LIMIT, Plan};
use super::judge;
use super::{PARTS, PARTS_SENTINEL};
use crate::Case;
use crate::net::{epoch_s, now, wait_until};
use crate::redis_groups::SentinelGroup;
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};
use crate::store::{ELECTED, Watched, all_name, role};

pub const CASES: &[Case] = &[
    Case { name: "queue::a_node_is_killed", needs: PARTS, run: node_killed },
    Case { name: "queue::a_node_is_killed_and_started_again", needs: PARTS, run: node_comes_back },
    Case { name: "queue::redis_is_killed_and_comes_back_empty", needs: PARTS, run: redis_killed },
    Case { name: "queue::redis_forgets_everything", needs: PARTS, run: redis_flushed },
    Case { name: "queue::kamailio_forgets_its_dialogs", needs: PARTS, run: kamailio_forgets },
    Case { name: "queue::redis_is_away_for_five_seconds", needs: PARTS, run: redis_stopped },
    Case { name: "queue::sentinels_replace_a_dead_master", needs: PARTS_SENTINEL, run: master_killed },
    Case {
        name: "queue::sentinels_are_told_to_replace_the_master",
        needs: PARTS_SENTINEL,
        run: fail_over_ordered,
    },
];

const CALLS: u32 = 30;

const TALK: Duration = Duration::from_secs(2);

/// Probes as they are where nothing is said.
const PROBES: &str = "[pool.health]\n";

/// From a node's death until its calls are given up, by these probes.
const GIVEN_UP: Duration = Duration::from_secs(15);

/// A node that has come back says within so long that it has forgotten its calls: with the list that follows the first one.
const NOTICED_MS: u64 = 4_500;

/// From the end of a fault of the store until phones ring again, talks of 2 s included.
const BACK_S: f64 = 8.0;

fn phones_of(floor: &mut Floor<'_>) -> Result<Sipp> {
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.login(1..=6)?;
    Ok(phones)
}

/// All callers who are on the node are given up together, and nobody else is. Their agents are free then.
fn node_killed(lab: &Lab) -> Result<()> {
    const CALLS: usize = 36;
    let plan = Plan { nodes: 3, agents: 6, pool: PROBES, ..Plan::default() };
    let mut floor = Floor::set(lab, &plan)?;
    let phones = phones_of(&mut floor)?;
    let mut callers = floor.call(0, "caller-gives-up.xml").calls(36).rate(15).start(lab)?;
    floor.wait_for("enqueued", CALLS, LIMIT)?;
    floor.wait_for("connected", 8, LIMIT)?;
    // By the node's own word: its channels that are no agents' legs.
    let listed = floor.nodes[1].channels()?;
    floor.nodes[1].process.kill()?;
    let (killed, at) = (now(), epoch_s());
    let logs = callers.logs();
    let called: BTreeSet<&str> = judge::said(&logs, "sent")?.iter().map(|sent| sent.call_id).collect();
    let calls = listed.iter().filter(|c| c["protocol_id"].as_str().is_some_and(|id| called.contains(id)));
    let on_it: BTreeSet<&str> = calls.filter_map(|channel| channel["id"].as_str()).collect();
    ensure!(on_it.len() >= 6, "{} callers on the node that is to be killed", on_it.len());
    let lost = |events: &[Value]| judge::done(events, "node-lost").len();
    wait_until("the calls of the dead node are given up", GIVEN_UP, || Ok(lost(&floor.events()?) > 0))?;
    let given_up = killed.elapsed();
    // Whoever is not on it is served, by all agents.
    floor.wait_for("done", CALLS, Duration::from_secs(60))?;
    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    judge::one_call_at_a_time_but_for_the_dead(&rings)?;
    let lost = judge::done(&events, "node-lost");
    // A talk may have ended between the list and the kill.
    let over: BTreeSet<&str> = on_it.difference(&lost).copied().collect();
    ensure!(lost.is_subset(&on_it) && over.len() <= 1, "given up: {lost:?}; on the node: {on_it:?}");
    let mut when: Vec<u64> = Vec::new();
    let mut freed: BTreeSet<String> = BTreeSet::new();
    for event in events.iter().filter(|event| event["call"].as_str().is_some_and(|call| lost.contains(call)))
    {
        match event["event"].as_str() {
            Some("done") => when.extend(event["at"].as_u64()),
            Some("connected") => freed.extend(event["agent"].as_str().map(str::to_owned)),
            Some(_) | None => {}
        }
    }
    let last_s = when.iter().max().context("no end")?.to_owned() as f64 / 1000.0;
    ensure!(last_s - at <= GIVEN_UP.as_secs_f64(), "the last one was given up {:.1} s after", last_s - at);
    let met: BTreeSet<&str> = judge::calls_in(&events, "connected").into_iter().collect();
    let unmet: BTreeSet<&str> = judge::calls_in(&events, "enqueued")
        .into_iter()
        .filter(|call| !met.contains(call) && !lost.contains(call))
        .collect();
    ensure!(unmet.is_empty(), "never met an agent, and were not on the node: {unmet:?}");
    let answered = rings.iter().filter(|ring| ring.event == "answered").count();
    ensure!(answered >= CALLS - lost.len(), "{answered} were answered, {} were lost", lost.len());
    ensure!(!freed.is_empty(), "nobody talked with a caller of this node: the test shows nothing");
    for agent in &freed {
        let again = rings.iter().find(|ring| ring.event == "invite" && ring.agent == *agent && ring.at > at);
        let again = again.with_context(|| format!("{agent} was never rung again"))?;
        ensure!(again.at > last_s - 0.5, "{agent} was rung before the node was called dead");
    }
    lab.tell(format!(
        "{} callers on the node, {} in talks: all given up within {:.1} s (seen after {:.1} s), {} agents rung again",
        lost.len(), freed.len(), last_s - at, given_up.as_secs_f64(), freed.len()
    ));
    // Their callers hear nothing more, and hang up; until then each has its lease.
    // So has a leg that rang there: its phone waits for an ACK.
    let leases = lost.len()..=listed.len();
    let each = || Ok(leases.contains(&usize::try_from(floor.load()?)?));
    wait_until("each has a lease", Duration::from_secs(5), each)
        .with_context(|| format!("{:?} leases, not {leases:?}", floor.load()))?;
    callers.finish(LIMIT + LIMIT)?;
    let said = callers.logs();
    let gave_up: BTreeSet<&str> = judge::said(&said, "gave-up")?.iter().map(|said| said.call_id).collect();
    // So do those of a talk that the node ended, and died before it could say so to them.
    let left = lost.len()..=on_it.len();
    ensure!(left.contains(&gave_up.len()), "{} callers heard nothing more, not {left:?}", gave_up.len());
    let hung_up = now();
    floor.wait_for_load(0, LIMIT)?;
    lab.tell(format!("no lease {:.1} s after their callers had hung up", hung_up.elapsed().as_secs_f64()));
    Ok(())
}

/// It is back under its name before anybody has called it dead, and knows nothing of the calls that it had.
fn node_comes_back(lab: &Lab) -> Result<()> {
    const LATER: u32 = 12;
    let mut floor = Floor::set(lab, &Plan { nodes: 2, agents: 6, ..Plan::default() })?;
    let phones = phones_of(&mut floor)?;
    let first = floor.waiting_callers(CALLS, 10)?;
    floor.wait_for("enqueued", CALLS as usize, LIMIT)?;
    let killed = clock::wall().0;
    floor.nodes[1].process.kill()?;
    floor.nodes[1].restart(lab)?;
    let back = clock::wall().0;
    let mut later = floor.waiting_callers(LATER, 4)?;
    let stats = later.success(Duration::from_secs(45))?;
    ensure!(stats.successful() == u64::from(LATER), "{stats:?}");
    floor.wait_for("done", (CALLS + LATER) as usize, LIMIT)?;
    floor.is_empty()?;
    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    judge::one_call_at_a_time_but_for_the_dead(&judge::without_those_up_at(&rings, killed as f64 / 1000.0))?;
    let at = |event: &Value| event["at"].as_u64().unwrap_or_default();
    let of = |kind: &str, chosen: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
        let events = events.iter().filter(|event| event["event"] == kind && chosen(event));
        events.filter_map(|event| Some(event["call"].as_str()?.to_owned())).collect()
    };
    let here = |event: &Value| event["call"].as_str().is_some_and(|call| call.starts_with("ast2-"));
    let old = of("enqueued", &|event| here(event) && at(event) < killed);
    let new = of("enqueued", &|event| here(event) && at(event) >= killed);
    let (all, met) = (of("enqueued", &|_| true), of("connected", &|_| true));
    let over = of("done", &|event| here(event) && at(event) < killed);
    lab.tell(format!(
        "back after {} ms; of the node's {} calls {} were over; {} new ones on it",
        back - killed,
        old.len(),
        over.len(),
        new.len()
    ));
    ensure!(
        old.len() > over.len() && new.len() >= 3,
        "{} old, {} over, {} new",
        old.len(),
        over.len(),
        new.len()
    );
    ensure!(old.is_disjoint(&new), "calls before and after have the same names: {old:?}, {new:?}");
    let unmet: Vec<&String> = all.difference(&met).filter(|call| !old.contains(*call)).collect();
    ensure!(unmet.is_empty(), "never met an agent, and were not on the node: {unmet:?}");
    let late = of("offered", &|event| at(event) > back + NOTICED_MS);
    let dead: Vec<&String> = late.intersection(&old).collect();
    ensure!(dead.is_empty(), "offered though their node had forgotten them: {dead:?}");
    for number in 1..=6 {
        floor.wait_agent(number, "ready").context("nobody is left in a talk")?;
    }
    drop(first);
    Ok(())
}

fn redis_killed(lab: &Lab) -> Result<()> {
    without_a_loss(lab, |floor, lab| {
        floor.redis()?.process.kill()?;
        std::thread::sleep(Duration::from_secs(3));
        floor.redis()?.restart(lab)
    })
}

fn redis_flushed(lab: &Lab) -> Result<()> {
    without_a_loss(lab, |floor, _| {
        floor.redis()?.call(&["FLUSHALL"])?;
        Ok(())
    })
}

fn redis_stopped(lab: &Lab) -> Result<()> {
    without_a_loss(lab, |floor, _| {
        floor.redis()?.process.signal("STOP")?;
        std::thread::sleep(Duration::from_secs(5));
        floor.redis()?.process.signal("CONT")
    })
}

/// Nobody is rung twice, nobody is lost, and callers keep their places.
fn without_a_loss(lab: &Lab, fault: impl Fn(&mut Floor<'_>, &Lab) -> Result<()>) -> Result<()> {
    nobody_is_lost(lab, &Plan { nodes: 2, agents: 6, ..Plan::default() }, |floor, phones| {
        fault(floor, lab)?;
        // A store that has forgotten knows no registrations: the phones register again, as they do within their time.
        floor.register(phones)
    })
}

fn master_killed(lab: &Lab) -> Result<()> {
    master_replaced(lab, |watched| {
        watched.group.servers[0].down();
        watched.tell()?;
        // Sooner it must not come back: what is written to it while it is named still, and empty, is lost when it is told to follow.
        let replica = watched.group.ports[1];
        wait_until("all name the replica", ELECTED, || all_name(&watched.group, replica))?;
        watched.group.servers[0].up();
        watched.tell()
    })
}

fn fail_over_ordered(lab: &Lab) -> Result<()> {
    master_replaced(lab, |watched| {
        watched.group.fail_over();
        wait_until("the replica is the master, and the master a replica", ELECTED, || {
            Ok(role(&watched.group.servers[1]) == "master" && role(&watched.group.servers[0]) == "slave")
        })
    })
}

/// The new master has what the old one had, but for its last writes: no phone registers again, no agent logs in again.
fn master_replaced(lab: &Lab, fault: impl Fn(&mut Watched<SentinelGroup>) -> Result<()>) -> Result<()> {
    let plan = Plan { nodes: 2, agents: 6, sentinels: true, ..Plan::default() };
    nobody_is_lost(lab, &plan, |floor, _| {
        fault(floor.store()?.sentinel()?)?;
        let log = floor.instances[0].process.own_log_text();
        ensure!(log.contains("the store is away"), "nobody has noticed: the test shows nothing");
        Ok(())
    })
}

fn nobody_is_lost(
    lab: &Lab,
    plan: &Plan<'_>,
    fault: impl Fn(&mut Floor<'_>, &Sipp) -> Result<()>,
) -> Result<()> {
    let mut floor = Floor::set(lab, plan)?;
    let phones = phones_of(&mut floor)?;
    let mut callers = floor.waiting_callers(CALLS, 5)?;
    floor.wait_for("connected", 8, LIMIT)?;
    let (begun, at) = (now(), epoch_s());
    fault(&mut floor, &phones)?;
    let took = begun.elapsed();
    let stats = callers.success(Duration::from_secs(90))?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    floor.is_empty()?;
    let rings = judge::rings(&phones.logs())?;
    judge::each_caller_once(&rings, CALLS as usize)?;
    judge::one_call_at_a_time(&rings)?;
    judge::callers_in_order(&rings, &callers.logs())?;
    judge::nobody_parted(&rings, &callers.logs(), TALK)?;
    ensure!(judge::talks_at(&rings, at) > 0, "nobody talked: the test shows nothing");
    let pause = judge::longest_pause_s(&rings, at)?;
    lab.tell(format!("the fault lasted {:.1} s; no phone rang for {pause:.1} s", took.as_secs_f64()));
    ensure!(pause <= took.as_secs_f64() + BACK_S, "no phone rang for {pause:.1} s");
    Ok(())
}

/// A proxy that was started again passes the BYE of a dialog that it has forgotten, and tells nobody of its end. The node does:
/// the second of its lists that does not show the call, 30 s after the first, ends the lease.
fn kamailio_forgets(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    let mut callers = floor.callers(5, 5, Duration::from_secs(6))?;
    floor.wait_for("enqueued", 5, LIMIT)?;
    floor.wait_for_load(5, LIMIT)?;
    floor.proxies[0].restart(lab)?;
    let stats = callers.success(LIMIT)?;
    ensure!(stats.successful() == 5, "{stats:?}");
    floor.wait_for("done", 5, LIMIT)?;
    ensure!(floor.load()? == 5, "somebody has told of the ends: {}", floor.load()?);
    let over = now();
    floor.wait_for_load(0, Duration::from_secs(90))?;
    lab.tell(format!("5 leases ended {:.0} s after their calls", over.elapsed().as_secs_f64()));
    Ok(())
}
