//! Calls that agents make themselves: nobody is brought to them meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::floor::{Floor, LIMIT, Plan};
use super::{PARTS, PARTS_NEW};
use crate::Case;
use crate::kamailio::Version;
use crate::net::wait_until;
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "queue::who_calls_somebody_is_not_asked", needs: PARTS, run: not_asked },
    Case { name: "queue::a_kamailio_that_restarts_keeps_nobody_busy", needs: PARTS, run: restarted },
    Case { name: "queue::who_tries_again_is_in_use", needs: PARTS, run: |lab| again(lab, Version::System) },
    Case {
        name: "queue::who_tries_again_is_in_use_on_6_1",
        needs: PARTS_NEW,
        run: |lab| again(lab, Version::New),
    },
    Case { name: "queue::calls_by_the_static_list_are_told_later", needs: PARTS, run: by_the_static_list },
];

/// What a node answers with an echo.
pub const ECHO: &str = "600";

/// The agent is in use for a while, and nobody is offered.
pub fn is_left_alone(floor: &Floor<'_>, offers: usize) -> Result<()> {
    for _ in 0..8 {
        ensure!(floor.agent(1)?["state"] == "in-use", "{}", floor.agent(1)?);
        std::thread::sleep(Duration::from_millis(250));
    }
    ensure!(floor.count("offered")? == offers, "offered to an agent who is in a call: {:?}", floor.events()?);
    Ok(())
}

pub fn is_answered(own: &Sipp) -> Result<()> {
    wait_until("the agent's call is answered", LIMIT, || {
        Ok(own.logs().iter().any(|line| line.starts_with("event=answered")))
    })
}

fn not_asked(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), Duration::from_millis(500))?;
    floor.login([1])?;
    floor.registrations_are_read();
    let mut own = floor.agent_call(1, ECHO).hold(Duration::from_secs(5)).start(lab)?;
    floor.wait_agent(1, "in-use")?;
    let mut callers = floor.waiting_callers(1, 1)?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(floor.count("offered")? == 0, "offered to an agent who is in a call: {:?}", floor.events()?);
    ensure!(floor.agent(1)?["own_calls"] == 1, "{}", floor.agent(1)?);
    own.success(LIMIT)?;
    floor.wait_for("connected", 1, LIMIT)?;
    callers.success(LIMIT)?;
    floor.wait_agent(1, "ready")?;
    let rung = phones.logged("invite");
    ensure!(rung == 1, "the phone rang {rung} times");
    floor.is_empty()
}

fn restarted(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    floor.login([1])?;
    let mut own = floor.agent_call(1, ECHO).hold(Duration::from_secs(12)).start(lab)?;
    floor.wait_agent(1, "in-use")?;
    // Nobody will tell the end of a dialog that is forgotten.
    floor.proxies[0].restart(lab)?;
    floor.wait_agent(1, "ready")?;
    ensure!(own.process.exit_status()?.is_none(), "the call was over before that");
    // Its lease ends by the node's word, which takes a while.
    own.success(LIMIT)?;
    Ok(())
}

/// The node wants a longer session; the phone tries again with the same Call-ID.
fn again(lab: &Lab, version: Version) -> Result<()> {
    let plan = Plan { version, node: &["--session-timers", "yes"], ..Plan::default() };
    let mut floor = Floor::set(lab, &plan)?;
    let _phones = floor.phones(Scenario::File("agent-hangs-up.xml"), Duration::from_millis(500))?;
    floor.login([1])?;
    floor.registrations_are_read();
    let own = floor.agent_call_by("agent-calls-again.xml", 1, ECHO);
    let mut own = own.hold(Duration::from_secs(6)).start(lab)?;
    is_answered(&own)?;
    ensure!(own.logs().iter().any(|line| line.starts_with("event=too-short")), "{:?}", own.logs());
    floor.wait_agent(1, "in-use")?;
    let mut callers = floor.waiting_callers(1, 1)?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    is_left_alone(&floor, 0)?;
    own.success(LIMIT)?;
    callers.success(LIMIT)?;
    floor.wait_agent(1, "ready")?;
    floor.is_empty()
}

/// Nobody hears of the call while MQS is away; it still goes on when MQS is back.
fn by_the_static_list(lab: &Lab) -> Result<()> {
    let list = lab.write("nodes.list", "1 sip:127.0.0.9:5060\n")?;
    let defined = format!("MQS_STATIC_LIST={}", list.display());
    let mut floor = Floor::set(lab, &Plan { defines: &["WITH_MQS_STATIC", &defined], ..Plan::default() })?;
    lab.write("nodes.list", &format!("1 {}\n", floor.nodes[0].uri()))?;
    floor.proxies[0].rpc(lab, &["dispatcher.reload"])?;
    floor.login([1])?;
    floor.wait_agent(1, "ready")?;
    floor.instances[0].process.kill()?;
    let mut own = floor.agent_call(1, ECHO).hold(Duration::from_secs(20)).start(lab)?;
    is_answered(&own)?;
    floor.instances[0].restart(lab)?;
    floor.wait_agent(1, "in-use")?;
    is_left_alone(&floor, 0)?;
    own.success(LIMIT)?;
    floor.wait_agent(1, "ready")
}
