//! Two Kamailios, each with an instance beside it: an agent is rung through the one that took the REGISTER.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan, agent};
use super::judge::{self, Ring};
use crate::Case;
use crate::net::{now, wait_until};
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "queue::agents_at_either_kamailio", needs: PARTS, run: either_kamailio },
    Case { name: "queue::an_agent_moves_to_the_other_kamailio", needs: PARTS, run: moves },
    Case { name: "queue::the_leader_beside_kamailio_is_killed", needs: PARTS, run: leader_beside },
];

fn plan() -> Plan<'static> {
    Plan { nodes: 2, agents: 6, instances: 2, proxies: 2, ..Plan::default() }
}

/// The Kamailios through which an agent was rung, in order.
fn through(phones: &Sipp, number: usize) -> Result<Vec<String>> {
    let rings = judge::rings(&phones.logs())?;
    let of = rings.into_iter().filter(|ring| ring.event == "invite" && ring.agent == agent(number));
    of.map(|ring| ring.proxy.context("the phone does not say who rang it")).collect()
}

fn either_kamailio(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 12;
    let mut floor = Floor::set(lab, &plan())?;
    let phones =
        floor.phones_for(&[1, 3, 5], Scenario::File("agent-hangs-up.xml"), Duration::from_secs(1))?;
    floor.register_at(1, phones.local(), &[2, 4, 6])?;
    // Those who come through the first Kamailio meet nobody but agents at the second one, to begin with.
    floor.login([2, 4, 6])?;
    let callers = |floor: &mut Floor<'_>, proxy| {
        floor.call(proxy, "caller-bye-from-node.xml").calls(CALLS).rate(5).start(lab)
    };
    let first = callers(&mut floor, 0)?;
    floor.wait_for("connected", 1, LIMIT)?;
    floor.login([1, 3, 5])?;
    let mut callers = [first, callers(&mut floor, 1)?];
    for callers in &mut callers {
        callers.success(LIMIT)?;
    }
    floor.wait_for("done", 2 * CALLS as usize, LIMIT)?;
    let rings = judge::rings(&phones.logs())?;
    judge::each_caller_once(&rings, 2 * CALLS as usize)?;
    judge::one_call_at_a_time(&rings)?;
    judge::in_order(&floor.events()?)?;
    let mut crossed = 0;
    for number in 1..=6 {
        let own = floor.proxies[(number + 1) % 2].address().ip().to_string();
        let through = through(&phones, number)?;
        ensure!(!through.is_empty(), "{} was never rung", agent(number));
        ensure!(through.iter().all(|proxy| *proxy == own), "{}: {through:?}, not {own}", agent(number));
        // A call that came through the other Kamailio.
        let other = callers[number % 2].process.pid();
        let from = format!("-{other}@");
        crossed += rings
            .iter()
            .filter(|ring| {
                ring.event == "invite" && ring.agent == agent(number) && ring.caller.contains(&from)
            })
            .count();
    }
    lab.tell(format!("{crossed} of {} calls were brought to an agent at the other Kamailio", 2 * CALLS));
    ensure!(crossed > 0, "no call came through one Kamailio and rang an agent at the other");
    floor.is_empty()
}

fn moves(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { agents: 1, ..plan() })?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), Duration::from_millis(200))?;
    floor.login([1])?;
    let mut expected = Vec::new();
    for proxy in [0, 1, 0] {
        floor.register_at(proxy, phones.local(), &[1])?;
        floor.registrations_are_read();
        floor.waiting_callers(1, 1)?.success(LIMIT)?;
        expected.push(floor.proxies[proxy].address().ip().to_string());
        let seen = || Ok(through(&phones, 1)?.len() == expected.len());
        wait_until("the phone has rung once more", LIMIT, seen)?;
    }
    ensure!(through(&phones, 1)? == expected, "{:?}, not {expected:?}", through(&phones, 1)?);
    lab.tell("rung through k1, k2, k1: where the phone had registered last");
    floor.is_empty()
}

/// The leader is the helper of the second Kamailio, and is started again after 3 s, as by an init system. Callers come through the
/// first one: who comes while nobody leads is held by the node's dialplan. The second one refuses its callers meanwhile.
fn leader_beside(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 40;
    const THERE: u32 = 4;
    const AWAY: Duration = Duration::from_secs(3);
    const TALK: Duration = Duration::from_secs(6);
    let mut floor = Floor::set(lab, &Plan { agents: 14, ..plan() })?;
    let here: Vec<usize> = (1..=12).collect();
    let phones = floor.phones_for(&here, Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.register_at(1, phones.local(), &[13, 14])?;
    // Who is at the second Kamailio talks when its helper dies.
    floor.login([13, 14])?;
    let mut before = floor.call(1, "caller-bye-from-node.xml").calls(THERE).rate(4).start(lab)?;
    floor.wait_for("connected", 2, LIMIT)?;
    floor.login(1..=12)?;
    let mut callers = floor.waiting_callers(CALLS, 3)?;
    floor.wait_for("connected", 8, LIMIT)?;
    floor.instances[1].process.kill()?;
    let (killed, begun) = (clock::wall().0, now());
    let mut refused = floor.call(1, "caller-bye-from-node.xml").start(lab)?;
    refused.finish(LIMIT)?;
    let said = refused.logs().join("\n");
    ensure!(said.contains("event=refused") && said.contains("code=500"), "through the second one: {said}");
    std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
    floor.instances[1].restart(lab)?;
    before.success(Duration::from_secs(90))?;
    callers.success(Duration::from_secs(90))?;
    let mut later = floor.call(1, "caller-bye-from-node.xml").calls(THERE).rate(4).start(lab)?;
    later.success(LIMIT)?;
    let all = (CALLS + 2 * THERE) as usize;
    floor.wait_for("done", all, LIMIT)?;
    floor.is_empty()?;

    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    let logs = [before.logs(), callers.logs(), later.logs()].concat();
    judge::each_call_once(&events, all)?;
    judge::each_caller_once(&rings, all)?;
    judge::callers_in_order(&rings, &logs)?;
    judge::one_call_at_a_time(&rings)?;
    judge::nobody_parted(&rings, &logs, TALK)?;
    let (at, own) = (killed as f64 / 1000.0, floor.proxies[1].address().ip().to_string());
    let through_it = |ring: &&Ring| ring.proxy.as_ref() == Some(&own);
    let there: Vec<Ring> = rings.iter().filter(|ring| ring.agent == agent(13)).cloned().collect();
    ensure!(judge::talks_at(&there, at) == 1, "{} was not in a talk when the helper died", agent(13));
    let back = rings.iter().filter(through_it).filter(|ring| ring.event == "invite" && ring.at > at).count();
    ensure!(back > 0, "nobody was rung through the second Kamailio any more");
    // The next leader has told of nothing yet when they came.
    let leads = judge::first_after(&events, killed).context("no event after the kill")? as f64 / 1000.0;
    let answered = judge::said(&logs, "answered")?;
    let mut held = 0;
    for sent in judge::said(&logs, "sent")?.iter().filter(|sent| sent.at > at && sent.at < leads - 0.5) {
        let answered = answered.iter().find(|answered| answered.call_id == sent.call_id);
        let answered = answered.with_context(|| format!("{} was never answered", sent.call_id))?.at;
        ensure!(answered > leads - 0.05, "{} was answered while nobody led", sent.call_id);
        held += 1;
    }
    let again = judge::next_offer(&events, killed)? - killed;
    lab.tell(format!(
        "{} talks were up and went on; the next leader's first word after {:.1} s, offers go on after {again} ms; {held} callers were held",
        judge::talks_at(&rings, at),
        leads - at
    ));
    ensure!(held > 0, "nobody came while nobody led: the test shows nothing");
    ensure!(again <= 6_000, "offers went on after {again} ms");
    Ok(())
}
