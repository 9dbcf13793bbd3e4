//! An agent's phone puts the caller on hold and takes them back: they stay together.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use super::judge;
use super::media::{AGENT, CALLER, MOST, hear, step};
use crate::Case;
use crate::answerer::Answerer;
use crate::net::now;
use crate::phone::{Call, Invite};
use crate::room::Lab;

pub const CASES: &[Case] =
    &[Case { name: "queue::an_agent_holds_the_caller_and_takes_them_back", needs: PARTS, run: held }];

/// Of a way that has just been changed.
const A_FEW: usize = 5;

fn held(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { music: true, ..Plan::default() })?;
    let mut agent = Answerer::new(lab, Duration::from_millis(300), AGENT)?;
    floor.register_at(0, agent.address(), &[1])?;
    floor.registrations_are_read();
    floor.login([1])?;
    let local = UdpSocket::bind(SocketAddrV4::new(floor.trunk, 5060))?;
    let invite = Invite::to("7000", "caller-who-is-held").saying(CALLER);
    let mut call = invite.send(&local, floor.proxies[0].address())?;
    let end = now() + LIMIT;
    while agent.answered.is_none() {
        ensure!(now() < end, "the agent never answered; {}", call.story());
        step(&mut call, &mut agent, Duration::from_millis(10))?;
    }
    floor.wait_for("connected", 1, LIMIT)?;
    step(&mut call, &mut agent, Duration::from_millis(300))?;
    talk(&mut call, &mut agent, "before")?;
    for round in 1..=2 {
        agreed(&mut call, &mut agent, true)?;
        let (by_caller, by_agent) = hear(&mut call, &mut agent)?;
        ensure!(by_caller[0] >= MOST, "round {round}: the caller heard no music on hold: {by_caller:?}");
        ensure!(
            by_caller[1] + by_caller[2] <= A_FEW,
            "round {round}: the caller heard {by_caller:?} on hold"
        );
        lab.tell(format!("on hold the caller heard {} packets of music, of 100", by_caller[0]));
        ensure!(by_agent[0] <= A_FEW, "round {round}: the agent heard {by_agent:?} of who is on hold");
        ensure!(floor.agent(1)?["state"] == "talking", "{}", floor.agent(1)?);
        ensure!(floor.nodes[0].channels()?.len() == 2, "{:?}", floor.nodes[0].channels()?);
        agreed(&mut call, &mut agent, false)?;
        talk(&mut call, &mut agent, "after")?;
    }
    ensure!(call.ended.is_none() && agent.ended.is_none(), "they were parted; {}", call.story());
    let events = floor.events()?;
    ensure!(events.iter().all(|event| event["event"] != "offer-ended"), "{events:?}");
    call.hang_up()?;
    step(&mut call, &mut agent, Duration::from_secs(3))?;
    ensure!(agent.ended.is_some(), "the agent's phone got no BYE");
    floor.is_empty()?;
    let events = floor.events()?;
    judge::each_call_once(&events, 1)?;
    ensure!(judge::done(&events, "caller-hung-up").len() == 1, "{events:?}");
    Ok(())
}

/// The agent's phone has held the caller, or taken them back, and the node has said yes.
fn agreed(call: &mut Call, agent: &mut Answerer, held: bool) -> Result<()> {
    let before = agent.agreed;
    agent.hold(held)?;
    let end = now() + LIMIT;
    while agent.agreed == before {
        ensure!(now() < end, "no answer to a re-INVITE; {}", call.story());
        step(call, agent, Duration::from_millis(10))?;
    }
    // What is still under way.
    step(call, agent, Duration::from_millis(300))
}

fn talk(call: &mut Call, agent: &mut Answerer, when: &str) -> Result<()> {
    let (by_caller, by_agent) = hear(call, agent)?;
    ensure!(by_caller[2] >= MOST && by_caller[1] == 0, "{when}: the caller heard {by_caller:?}");
    ensure!(by_agent[1] >= MOST && by_agent[2] == 0, "{when}: the agent heard {by_agent:?}");
    ensure!(
        by_caller[0] - by_caller[2] <= A_FEW,
        "{when}: the caller heard something else besides: {by_caller:?}"
    );
    Ok(())
}
