//! Callers who give up: nobody's phone rings on for them, and their agents are free again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use super::judge::{self, Ring};
use crate::Case;
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] = &[
    Case { name: "queue::a_caller_hangs_up_while_waiting", needs: PARTS, run: while_waiting },
    Case { name: "queue::a_caller_hangs_up_while_an_agent_rings", needs: PARTS, run: bye_while_ringing },
    Case { name: "queue::a_caller_cancels_while_an_agent_rings", needs: PARTS, run: cancel_while_ringing },
];

/// From the caller's word to the CANCEL at the phone.
const CANCELLED_WITHIN_S: f64 = 0.5;

const PATIENCE: Duration = Duration::from_millis(1500);

fn while_waiting(lab: &Lab) -> Result<()> {
    for (queue, scenario) in [("", "caller.xml"), ("answering = \"agent\"", "caller-cancel.xml")] {
        let mut floor = Floor::set(lab, &Plan { queue, ..Plan::default() })?;
        let mut callers = floor.call(0, scenario).hold(PATIENCE).calls(5).rate(10).start(lab)?;
        callers.success(LIMIT)?;
        floor.wait_for("done", 5, LIMIT)?;
        let events = floor.events()?;
        ensure!(judge::done(&events, "abandoned").len() == 5, "{scenario}: {events:?}");
        ensure!(floor.count("offered")? == 0, "{scenario}: {events:?}");
        floor.is_empty()?;
    }
    lab.tell("5 who said BYE and 5 who said CANCEL: all abandoned, none offered");
    Ok(())
}

fn bye_while_ringing(lab: &Lab) -> Result<()> {
    while_ringing(lab, "", "caller.xml")
}

fn cancel_while_ringing(lab: &Lab) -> Result<()> {
    while_ringing(lab, "answering = \"agent\"", "caller-cancel.xml")
}

/// Twice, so that the second call shows that the agent was free again.
fn while_ringing(lab: &Lab, queue: &str, scenario: &'static str) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { queue, ..Plan::default() })?;
    let phones = floor.phones(Scenario::File("agent-rings.xml"), Duration::ZERO)?;
    floor.login([1])?;
    floor.registrations_are_read();
    for round in 1..=2 {
        let mut caller = floor.call(0, scenario).hold(PATIENCE).start(lab)?;
        floor.wait_for("offered", round, LIMIT)?;
        caller.success(LIMIT)?;
        floor.wait_for("done", round, LIMIT)?;
        floor.wait_agent(1, "ready")?;
        let rings = judge::rings(&phones.logs())?;
        let of = |event: &str| rings.iter().filter(|ring| ring.event == event).collect::<Vec<&Ring>>();
        let (rung, ended) = (of("invite"), of("cancel"));
        ensure!(rung.len() == round && ended.len() == round, "round {round}: {rings:?}");
        let (rung, ended) = (rung.last().context("rung")?, ended.last().context("ended")?);
        let rang = ended.at - rung.at;
        ensure!(rang <= PATIENCE.as_secs_f64() + CANCELLED_WITHIN_S, "the phone rang for {rang:.3} s");
        ensure!(ended.caller == rung.caller, "{rings:?}");
        lab.tell(format!("the phone rang for {rang:.3} s of a caller who was there for {PATIENCE:?}"));
    }
    let events = floor.events()?;
    ensure!(judge::done(&events, "abandoned").len() == 2, "{events:?}");
    let ends = judge::ends(&events, "agent1");
    ensure!(ends.len() == 1 && ends.contains("withdrawn"), "{ends:?}");
    floor.is_empty()
}
