//! Nodes that connect to MQS by themselves: their connection is cut, goes silent, or ends at another instance.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan, attached};
use super::judge;
use crate::Case;
use crate::net::{now, wait_until};
use crate::relay::{Faults, Relay};
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] = &[
    Case { name: "queue::inbound_a_caller_meets_an_agent", needs: PARTS, run: a_caller_meets_an_agent },
    Case { name: "queue::inbound_and_outbound_in_one_cell", needs: PARTS, run: both_ways },
    Case { name: "queue::inbound_the_connection_is_cut", needs: PARTS, run: cut },
    Case { name: "queue::inbound_the_connection_is_half_open", needs: PARTS, run: half_open },
    Case { name: "queue::inbound_the_leader_is_killed", needs: PARTS, run: leader_killed },
];

fn relay<'a>(floor: &'a Floor<'_>) -> Result<&'a Relay> {
    floor.relay.as_ref().context("no relay")
}

fn a_caller_meets_an_agent(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { inbound: 1, ..Plan::default() })?;
    let mut callers = floor.callers(1, 1, Duration::from_secs(4))?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    let phones = floor.phones(Scenario::File("agent.xml"), Duration::from_millis(300))?;
    floor.login([1])?;
    floor.wait_for("connected", 1, LIMIT)?;
    let bridges = floor.nodes[0].ari("GET", "/bridges", None)?.body;
    ensure!(bridges.contains("mqs-talk-") && bridges.contains("mqs-hold-"), "{bridges}");
    let stats = callers.success(LIMIT)?;
    ensure!(stats.successful() == 1, "{stats:?}");
    floor.wait_for("offer-ended", 1, LIMIT)?;
    floor.is_empty()?;
    ensure!(phones.logged("invite") > 0, "{:?}", phones.logs());
    // All of it went over the one connection: nobody has asked this node by HTTP.
    ensure!(relay(&floor)?.connections() >= 1, "nobody came through the relay");
    Ok(())
}

fn both_ways(lab: &Lab) -> Result<()> {
    let plan = Plan { nodes: 2, inbound: 1, agents: 6, ..Plan::default() };
    while_busy(lab, &plan, Duration::from_secs(2), |_| Ok(()))?;
    Ok(())
}

/// A phone that is answered while its node is not heard is joined when the node is back: it waits so long, at least.
const PATIENT: Duration = Duration::from_secs(8);

fn cut(lab: &Lab) -> Result<()> {
    let plan = Plan { nodes: 2, inbound: 2, agents: 14, ..Plan::default() };
    let again = while_busy(lab, &plan, PATIENT, |floor| {
        relay(floor)?.cut();
        wait_until("it is noticed", LIMIT, || Ok(attached(&floor.instances[0]) == 0))?;
        std::thread::sleep(Duration::from_secs(2));
        relay(floor)?.restore();
        wait_until("all are back", LIMIT, || Ok(attached(&floor.instances[0]) == 2))
    })?;
    lab.tell(format!("offers go on after {again} ms, 2 s of them cut"));
    ensure!(again <= 8_000, "offers went on after {again} ms");
    Ok(())
}

fn half_open(lab: &Lab) -> Result<()> {
    let plan = Plan { nodes: 2, inbound: 2, agents: 24, ..Plan::default() };
    while_busy(lab, &plan, Duration::from_secs(18), |floor| {
        relay(floor)?.set(Faults { swallow_requests: true, swallow_answers: true, ..Faults::default() });
        let begun = now();
        let noticed = || Ok(attached(&floor.instances[0]) == 0);
        wait_until("the silence is noticed", Duration::from_secs(15), noticed)?;
        let after = begun.elapsed();
        lab.tell(format!("noticed after {} ms", after.as_millis()));
        ensure!(after <= Duration::from_secs(12), "noticed after {after:?}");
        relay(floor)?.restore();
        relay(floor)?.reset();
        wait_until("all are back", LIMIT, || Ok(attached(&floor.instances[0]) == 2))
    })?;
    Ok(())
}

/// Two instances behind one address, to each of which every other connection goes: a standby says 503, and the node comes again.
fn leader_killed(lab: &Lab) -> Result<()> {
    let plan = Plan { nodes: 2, inbound: 2, agents: 14, instances: 2, ..Plan::default() };
    let again = while_busy(lab, &plan, PATIENT, |floor| {
        floor.instances[1].process.kill()?;
        wait_until("all have found the next one", LIMIT, || Ok(attached(&floor.instances[0]) == 2))
    })?;
    lab.tell(format!("offers go on after {again} ms"));
    ensure!(again <= 12_000, "offers went on after {again} ms");
    Ok(())
}

/// Something happens in the middle of arrivals, offers and talks. Nobody is lost or parted, nobody rung twice. Returns the longest time
/// without an offer behind it, in ms.
fn while_busy(
    lab: &Lab,
    plan: &Plan<'_>,
    talk: Duration,
    fault: impl Fn(&mut Floor<'_>) -> Result<()>,
) -> Result<u64> {
    const CALLS: u32 = 30;
    let mut floor = Floor::set(lab, plan)?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), talk)?;
    floor.login(1..=plan.agents)?;
    let mut callers = floor.waiting_callers(CALLS, 3)?;
    floor.wait_for("connected", 8, LIMIT)?;
    for node in &floor.nodes {
        ensure!(!node.channels()?.is_empty(), "nobody is on {}", node.id());
    }
    let at = clock::wall().0;
    fault(&mut floor)?;
    let stats = callers.success(Duration::from_secs(90))?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    floor.wait_for("done", CALLS as usize, LIMIT)?;
    floor.is_empty()?;
    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    judge::each_call_once(&events, CALLS as usize)?;
    judge::each_caller_once(&rings, CALLS as usize)?;
    judge::callers_in_order(&rings, &callers.logs())?;
    judge::one_call_at_a_time(&rings)?;
    judge::nobody_parted(&rings, &callers.logs(), talk)?;
    ensure!(judge::talks_at(&rings, at as f64 / 1000.0) > 0, "nobody talked: the test shows nothing");
    lab.tell(judge::waits(&events));
    Ok(judge::next_offer(&events, at)? - at)
}
