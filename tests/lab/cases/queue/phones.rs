//! Phones that are busy, decline, ring on, are gone, or answer too late, among those of agents who take their calls.

use std::collections::BTreeSet;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan, agent};
use super::judge::{self, Ring};
use crate::Case;
use crate::cases::machine::{Machine, Pulse};
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "queue::phones_of_every_bad_kind", needs: PARTS, run: every_bad_kind },
    Case { name: "queue::a_refused_call_is_offered_again_at_once", needs: PARTS, run: again_at_once },
];

/// From the final reply of a phone to the INVITE at another one, for nine of ten.
const AGAIN_MS: f64 = 50.0;

fn every_bad_kind(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 40;
    let plan = Plan {
        nodes: 2,
        agents: 13,
        queue: "ring_s = 3",
        // A phone that says nothing is given up before its queue's time is over.
        defines: &["AGENT_SILENT_MS=1000"],
        ..Plan::default()
    };
    let mut floor = Floor::set(lab, &plan)?;
    let (talk, no_time) = (Duration::from_secs(2), Duration::from_millis(1));
    let mut phones: Vec<Sipp> = Vec::new();
    for (agents, scenario, time) in [
        (&[1, 2, 3, 4, 5, 6][..], "agent-hangs-up.xml", talk),
        (&[7], "agent-busy.xml", no_time),
        (&[8], "agent-declines.xml", no_time),
        (&[9], "agent-rings.xml", no_time),
        (&[10], "agent-answers-late.xml", no_time),
        (&[11, 12], "agent-hangs-up.xml", no_time),
    ] {
        phones.push(floor.phones_for(agents, Scenario::File(scenario), time)?);
    }
    // One that is bound, and never read.
    let gone = UdpSocket::bind(SocketAddrV4::new(lab.address(), 5060))?;
    floor.register_at(0, crate::net::v4(gone.local_addr()?)?, &[13])?;
    floor.registrations_are_read();
    floor.forget(12)?;
    floor.login(7..=13)?;
    floor.login(1..=6)?;
    let mut callers = floor.waiting_callers(CALLS, 8)?;
    let stats = callers.success(Duration::from_secs(50))?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    floor.wait_for("done", CALLS as usize, LIMIT)?;
    floor.is_empty()?;
    let events = floor.told()?;
    for (number, expected) in [
        (7, &["busy"][..]),
        (8, &["refused"]),
        (9, &["no-answer"]),
        (10, &["no-answer"]),
        (11, &["join-failed", "taken"]),
        (12, &["unregistered"]),
        (13, &["unreachable"]),
    ] {
        let ends = judge::ends(&events, &agent(number));
        ensure!(!ends.is_empty(), "{} was never rung", agent(number));
        ensure!(
            ends.iter().all(|how| expected.contains(how)),
            "{}: {ends:?}, not {expected:?}",
            agent(number)
        );
    }
    let lines: Vec<String> = phones.iter().flat_map(Sipp::logs).collect();
    judge::each_call_once(&events, CALLS as usize)?;
    let back = judge::nobody_overtaken(&events)?;
    let rings = judge::rings(&lines)?;
    judge::each_caller_once_but_for(&rings, CALLS as usize, &agent(11))?;
    judge::one_call_at_a_time(&rings)?;
    // Whoever was offered to the phone that nobody reads first has rung nowhere for that second.
    let unread = unread(&gone)?;
    let seen: Vec<Ring> = rings.iter().filter(|ring| !unread.contains(&ring.caller)).cloned().collect();
    judge::callers_in_order(&seen, &callers.logs())?;
    ensure!(unread.len() < CALLS as usize / 4, "{} callers were offered to a dead phone", unread.len());
    let late = rings.iter().filter(|ring| ring.event == "late-answer").count();
    lab.tell(format!("{back} calls came back to their places; {late} answers crossed a CANCEL"));
    ensure!(back >= 6 && late > 0, "{back} calls came back, {late} answers were late");
    Ok(())
}

/// The callers for whom this phone was rung, though nobody has looked.
fn unread(phone: &UdpSocket) -> Result<BTreeSet<String>> {
    phone.set_nonblocking(true)?;
    let (mut callers, mut buffer) = (BTreeSet::new(), [0; 8192]);
    while let Ok(length) = phone.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let caller = text.lines().find_map(|line| line.strip_prefix("X-Call-ID:")).context("no X-Call-ID")?;
        callers.insert(caller.trim().to_owned());
    }
    ensure!(!callers.is_empty(), "the dead phone was never rung");
    Ok(callers)
}

/// There are more free agents than callers, so that what passes between two phones is the work of the parts alone.
fn again_at_once(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 24;
    const BAD: usize = 12;
    let mut floor = Floor::set(lab, &Plan { agents: 28, ..Plan::default() })?;
    let mut phones = Vec::new();
    for (agents, scenario) in [
        ([1, 2, 3], "agent-busy.xml"),
        ([4, 5, 6], "agent-declines.xml"),
        ([7, 8, 9], "agent-gone.xml"),
        ([10, 11, 12], "agent-fails.xml"),
    ] {
        phones.push(floor.phones_for(&agents, Scenario::File(scenario), Duration::ZERO)?);
    }
    let good: Vec<usize> = (BAD + 1..=28).collect();
    phones.push(floor.phones_for(&good, Scenario::File("agent-hangs-up.xml"), Duration::from_secs(1))?);
    floor.login(1..=28)?;
    floor.registrations_are_read();
    let pulse = Pulse::start();
    let mut callers = floor.waiting_callers(CALLS, 1)?;
    callers.success(LIMIT + Duration::from_secs(30))?;
    let machine = Machine::new(pulse.stop()?, 0, Vec::new());
    let lines: Vec<String> = phones.iter().flat_map(Sipp::logs).collect();
    let rings = judge::rings(&lines)?;
    for number in 1..=BAD {
        let refused = rings.iter().any(|ring| ring.event == "refused" && ring.agent == agent(number));
        ensure!(refused, "{} was never rung", agent(number));
    }
    let events = floor.events()?;
    for (number, expected) in [(1, "busy"), (4, "refused"), (7, "unregistered"), (10, "unreachable")] {
        let ends = judge::ends(&events, &agent(number));
        ensure!(ends == [expected].into(), "{}: {ends:?}, not {expected}", agent(number));
    }
    let times = judge::again_after_ms(&rings);
    ensure!(times.len() >= BAD, "only {} calls were refused", times.len());
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    let p90 = times[(times.len() * 9).div_ceil(10) - 1];
    lab.tell(format!(
        "rung again after {median:.1} ms (median of {}), {p90:.1} ms (p90), {most:.1} ms at most",
        times.len()
    ));
    judge::each_caller_once(&rings, CALLS as usize)?;
    judge::each_call_once(&events, CALLS as usize)?;
    if p90 > AGAIN_MS {
        return Err(machine.blame(anyhow!("{times:.1?}")));
    }
    Ok(())
}
