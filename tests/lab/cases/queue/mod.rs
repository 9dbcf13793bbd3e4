//! The whole call centre: callers come through Kamailio, wait on Asterisk, and are brought to agents behind Kamailio.

mod announce;
mod bridges;
mod consult;
mod faults;
mod file;
mod floor;
mod hold;
mod inbound;
mod judge;
mod laid;
mod leaving;
mod links;
mod media;
mod own;
mod phones;
mod proxies;
mod seen;
mod spare;
mod transfer;
mod transports;
mod treated;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;

use crate::Case;
use crate::kamailio::Version;
use crate::parts::Part;
use crate::room::Lab;
use crate::sipp::Scenario;
use bridges::Bridges;
use floor::{Floor, LIMIT, Plan, URGENT};

const PARTS: &[Part] = &[Part::Kamailio, Part::Sipp, Part::Redis, Part::Asterisk];

const PARTS_SENTINEL: &[Part] = &[Part::Kamailio, Part::Sipp, Part::Redis, Part::Sentinel, Part::Asterisk];

const PARTS_NEW: &[Part] = &[Part::KamailioNew, Part::Sipp, Part::Redis, Part::Asterisk];

const PARTS_FILE: &[Part] = &[Part::Kamailio, Part::Sipp, Part::Asterisk];

/// What runs each day: the least that a call centre has to bear. The others take turns.
pub const ALWAYS: &[&str] = &[
    "queue::one_caller_meets_one_agent",
    "queue::one_caller_meets_one_agent_on_6_1",
    "queue::who_is_urgent_goes_first",
    "queue::an_agent_logs_in_and_pauses_by_phone",
    "queue::sixty_callers_and_twenty_agents",
    "queue::the_leader_is_killed",
    "queue::a_caller_cancels_while_an_agent_rings",
    "queue::agents_at_either_kamailio",
    "queue::the_link_to_a_node_is_cut",
    "queue::music_and_then_the_agent",
    "queue::inbound_a_caller_meets_an_agent",
    "queue::transfer_to_an_agent",
    "queue::a_phone_over_tcp",
    "queue::a_phone_behind_nat",
];

pub fn cases() -> Vec<Case> {
    [
        CASES,
        phones::CASES,
        leaving::CASES,
        proxies::CASES,
        links::CASES,
        file::CASES,
        media::CASES,
        own::CASES,
        consult::CASES,
        announce::CASES,
        laid::CASES,
        hold::CASES,
        faults::CASES,
        inbound::CASES,
        seen::CASES,
        spare::CASES,
        transfer::CASES,
        treated::CASES,
        transports::CASES,
    ]
    .concat()
}

const CASES: &[Case] = &[
    Case { name: "queue::one_caller_meets_one_agent", needs: PARTS, run: one_caller_meets_one_agent },
    Case { name: "queue::one_caller_meets_one_agent_on_6_1", needs: PARTS_NEW, run: on_6_1 },
    Case { name: "queue::who_is_urgent_goes_first", needs: PARTS, run: urgent_first },
    Case { name: "queue::an_agent_logs_in_and_pauses_by_phone", needs: PARTS, run: by_phone },
    Case {
        name: "queue::an_agent_logs_in_and_pauses_by_phone_on_6_1",
        needs: PARTS_NEW,
        run: |lab| by_phone_through(lab, Version::New),
    },
    Case { name: "queue::sixty_callers_and_twenty_agents", needs: PARTS, run: sixty_callers },
    Case { name: "queue::the_leader_is_killed", needs: PARTS, run: leader_killed },
    Case { name: "queue::the_leader_stands_still_for_ten_seconds", needs: PARTS, run: leader_stopped },
];

fn one_caller_meets_one_agent(lab: &Lab) -> Result<()> {
    one_caller(lab, &Plan::default())
}

fn on_6_1(lab: &Lab) -> Result<()> {
    one_caller(lab, &Plan { version: Version::New, ..Plan::default() })
}

fn one_caller(lab: &Lab, plan: &Plan<'_>) -> Result<()> {
    let mut floor = Floor::set(lab, plan)?;
    let mut callers = floor.callers(1, 1, Duration::from_secs(4))?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    let phones = floor.phones(Scenario::File("agent.xml"), Duration::from_millis(300))?;
    floor.login([1])?;
    floor.wait_for("connected", 1, LIMIT)?;
    let stats = callers.success(LIMIT)?;
    ensure!(stats.successful() == 1, "{stats:?}");
    floor.wait_for("offer-ended", 1, LIMIT)?;
    floor.is_empty()?;
    ensure!(phones.logged("invite") > 0, "{:?}", phones.logs());
    let took = judge::offered_to_connected_ms(&floor.events()?);
    lab.tell(format!("from the offer to the talk {took:?} ms, 300 ms of them ringing"));
    Ok(())
}

/// Whoever waits with a higher priority is offered first, and in order.
fn urgent_first(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), Duration::from_millis(200))?;
    let mut usual = floor.waiting_callers(6, 10)?;
    floor.wait_for("enqueued", 6, LIMIT)?;
    let mut urgent =
        floor.call(0, "caller-bye-from-node.xml").service(URGENT).calls(3).rate(10).start(lab)?;
    floor.wait_for("enqueued", 9, LIMIT)?;
    floor.login([1])?;
    for callers in [&mut urgent, &mut usual] {
        callers.success(LIMIT)?;
    }
    let rings = judge::rings(&phones.logs())?;
    // In the order in which they entered: on their way two may pass each other.
    let events = floor.events()?;
    let entered = judge::calls_in(&events, "enqueued");
    let (usual_first, urgent_last) = entered.split_at_checked(6).context("there were nine")?;
    let (expected, offered) = ([urgent_last, usual_first].concat(), judge::calls_in(&events, "offered"));
    ensure!(offered == expected, "{offered:?}, not {expected:?}");
    let from = format!("-{}@{}", urgent.process.pid(), urgent.ip());
    let rang: Vec<bool> = judge::first_rings(&rings).iter().map(|caller| caller.ends_with(&from)).collect();
    ensure!(rang == [[true; 3].as_slice(), &[false; 6]].concat(), "{:?}", judge::first_rings(&rings));
    judge::one_call_at_a_time(&rings)?;
    lab.tell("rang in this order: 3 urgent callers who came last, 6 usual ones");
    floor.is_empty()
}

fn by_phone(lab: &Lab) -> Result<()> {
    by_phone_through(lab, Version::System)
}

fn by_phone_through(lab: &Lab, version: Version) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { version, ..Plan::default() })?;
    let codes =
        [("*45", "ready"), ("*46", "paused"), ("*46", "ready"), ("*46", "paused"), ("*45", "offline")];
    for (code, state) in codes {
        let logged = floor.dials(1, code)?;
        ensure!(logged.contains("event=answered"), "{code}: {logged}");
        let agent = floor.agent(1)?;
        ensure!(agent["state"] == state, "{code}: {agent}");
    }
    lab.tell(format!("{codes:?}"));
    floor.is_empty()
}

/// Three nodes; more callers than agents, so that most of them wait; agents hang up first. What they meet is Asterisk's own word.
fn sixty_callers(lab: &Lab) -> Result<()> {
    const CALLS: usize = 60;
    const TALK: Duration = Duration::from_secs(3);
    let mut floor = Floor::set(lab, &Plan { nodes: 3, agents: 20, ..Plan::default() })?;
    let bridges = Bridges::watch(&floor.nodes)?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.login(1..=5)?;
    let mut callers = floor.waiting_callers(60, 20)?;
    floor.wait_for("enqueued", 40, LIMIT)?;
    floor.login(6..=20)?;
    let stats = callers.success(Duration::from_secs(60))?;
    ensure!(stats.successful() == 60, "{stats:?}");
    floor.wait_for("done", CALLS, LIMIT)?;
    floor.is_empty()?;
    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    judge::each_call_once(&events, CALLS)?;
    judge::in_order(&events)?;
    judge::each_caller_once(&rings, CALLS)?;
    judge::callers_in_order(&rings, &callers.logs())?;
    judge::one_call_at_a_time(&rings)?;
    judge::nobody_parted(&rings, &callers.logs(), TALK)?;
    let rung = rings.iter().filter(|ring| ring.event == "invite").count();
    ensure!(rung == CALLS, "the phones rang {rung} times");
    bridges.each_met_one(&rings, CALLS)?;
    lab.tell(judge::waits(&events));
    Ok(())
}

fn leader_killed(lab: &Lab) -> Result<()> {
    while_busy(lab, |floor| {
        floor.instances[1].process.kill()?;
        Ok(())
    })
}

/// It believes that it leads when it wakes, and another one does.
fn leader_stopped(lab: &Lab) -> Result<()> {
    while_busy(lab, |floor| {
        floor.instances[1].process.signal("STOP")?;
        std::thread::sleep(Duration::from_secs(10));
        floor.instances[1].process.signal("CONT")
    })
}

/// Something happens in the middle of arrivals, offers and talks. Nobody is lost or parted, nobody rung twice, and offers go on.
fn while_busy(lab: &Lab, fault: impl Fn(&mut Floor<'_>) -> Result<()>) -> Result<()> {
    const CALLS: u32 = 40;
    // A phone that was answered while nobody leads waits so long, at least, for the next leader to join it.
    const TALK: Duration = Duration::from_secs(6);
    let mut floor = Floor::set(lab, &Plan { nodes: 2, agents: 12, instances: 2, ..Plan::default() })?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.login(1..=12)?;
    let mut callers = floor.waiting_callers(CALLS, 3)?;
    floor.wait_for("connected", 8, LIMIT)?;
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
    judge::nobody_parted(&rings, &callers.logs(), TALK)?;
    let again = judge::next_offer(&events, at)?;
    let crossed = judge::talks_at(&rings, at as f64 / 1000.0);
    lab.tell(format!(
        "offers go on after {} ms; {crossed} talks were up, and went on; {}",
        again - at,
        judge::waits(&events)
    ));
    ensure!(crossed > 0, "nobody talked: the test shows nothing");
    ensure!(again - at <= 6_000, "offers went on after {} ms", again - at);
    Ok(())
}
