//! What a seed means: how large the world is, what is laid down, who calls when, and what goes wrong when.

use super::faults::{Fault, Filter, How, Leg, Timed, Victim};
use mqs::domain::agent::AgentRules;
use mqs::domain::call::TreatedFor;
use mqs::domain::id::{AgentId, QueueId, Skill, TreatmentId};
use mqs::domain::matching::{MatchRules, Membership, Priority, Relaxing, Skills, Strategy, Widening};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Milliseconds of the world's own time, which nobody in it can read.
pub type Ms = u64;

pub const AGENTS: usize = 30;
/// Agents whom no configuration names: an operator lays them down and takes them away.
pub const GUESTS: usize = 4;
pub const PLAIN: &str = "plain";
/// A hang-up with this cause is a treatment.
pub const CAUSE_TREATED: u16 = 21;
/// The first calls, and the first faults, come after the agents had time to log in.
const PRELUDE_MS: Ms = 20_000;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What the dialplan says; `None`: no name.
    pub queue: Option<QueueId>,
    pub priority: Priority,
    pub skills: Skills,
}

pub struct Plan {
    pub nodes: usize,
    pub instances: usize,
    pub setup: Arc<Setup>,
    /// Agents that are laid down at run time, as they are at first.
    pub guests: BTreeMap<AgentId, AgentRules>,
    pub arrivals: Vec<(Ms, Wish)>,
    pub faults: Vec<Timed>,
    /// From then on nothing goes wrong.
    pub heal_at: Ms,
}

impl Plan {
    pub fn from_seed(seed: u64) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let span = rng.u64(480_000..780_000);
        let nodes = rng.usize(3..=5);
        let setup = Arc::new(setup(&mut rng));
        let arrivals = arrivals(&mut rng, span);
        let faults = faults(&mut rng, span, nodes);
        let heal_at = PRELUDE_MS + span + 30_000;
        let instances = rng.usize(2..=3);
        let guests = guests(&mut rng);
        Plan { nodes, instances, setup, guests, arrivals, faults, heal_at }
    }

    /// What is laid down of somebody, wherever.
    pub fn rules(&self, agent: &AgentId) -> Option<&AgentRules> {
        self.setup.agents.get(agent).or_else(|| self.guests.get(agent))
    }
}

/// Dialled by an agent for a transfer out of the system.
pub const NUMBER: &str = "110";

fn named<T: std::str::FromStr>(name: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    name.parse().unwrap()
}

fn skills(names: &[&str]) -> Skills {
    names.iter().map(|name| named::<Skill>(name)).collect()
}

fn one<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn setup(rng: &mut fastrand::Rng) -> Setup {
    let place =
        |extension: &str| Treatment::Dialplan { context: "mqs-ends".into(), extension: extension.into() };
    let mut treatments: BTreeMap<TreatmentId, Treatment> = BTreeMap::new();
    treatments.insert(named("sorry"), place("sorry"));
    treatments.insert(named("voicemail"), place("voicemail"));
    treatments.insert(named("to-plain"), Treatment::Overflow(named(PLAIN)));
    treatments.insert(named("to-all"), Treatment::Overflow(named("all")));
    treatments.insert(named("bye"), Treatment::HangUp { cause: CAUSE_TREATED });
    // Some cells let their agents pass callers on to numbers.
    let numbers_by = rng.bool().then(|| named("voicemail"));
    let last_resort = if rng.bool() { Some(named("sorry")) } else { None };
    Setup {
        queues: queues(rng),
        agents: agents(rng),
        treatments,
        last_resort,
        numbers_by,
        ..Setup::default()
    }
}

fn rules(strategy: Strategy) -> QueueRules {
    QueueRules {
        matching: MatchRules { strategy, ring_all_max: 4, ..MatchRules::default() },
        waiting_max: 100,
        wait_max_ms: 180_000,
        offers_max: 6,
        ring_ms: 10_000,
        pass_over_ms: 15_000,
        wrap_up_ms: 2_000,
        talk_max_ms: 110_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: BTreeMap::new(),
    }
}

fn queues(rng: &mut fastrand::Rng) -> BTreeMap<QueueId, QueueRules> {
    let ends = |pairs: &[(TreatedFor, &str)]| {
        pairs.iter().map(|(why, to)| (*why, named::<TreatmentId>(to))).collect::<BTreeMap<_, _>>()
    };
    let plain = QueueRules { wait_max_ms: 420_000, offers_max: 40, ..rules(Strategy::LongestIdle) };
    let all = QueueRules {
        join: one(rng, &[Presence::Any, Presence::LoggedIn]),
        answering: Answering::Agent,
        offers_max: 4,
        ends: ends(&[(TreatedFor::Exhausted, "to-plain"), (TreatedFor::JoinEmpty, "to-plain")]),
        ..rules(Strategy::RingAll)
    };
    let mut skilled = QueueRules {
        agent_announce: vec!["queue-skilled".into()],
        agent_announce_max_ms: 3_000,
        stay: Presence::LoggedIn,
        answering: Answering::Early,
        wait_max_ms: 120_000,
        ends: ends(&[(TreatedFor::LongestWait, "to-plain"), (TreatedFor::LeaveEmpty, "voicemail")]),
        ..rules(one(rng, &[Strategy::FewestCalls, Strategy::RoundRobin]))
    };
    skilled.matching.penalty_max =
        vec![Widening { after_ms: 8_000, penalty_max: 1 }, Widening { after_ms: 20_000, penalty_max: 9 }];
    skilled.matching.relax = vec![Relaxing { after_ms: 25_000, drop: skills(&["french"]) }];
    let small = QueueRules {
        waiting_max: 3,
        wait_max_ms: rng.u64(15_000..30_000),
        offers_max: 2,
        ring_ms: 6_000,
        join: one(rng, &[Presence::Unpaused, Presence::LoggedIn]),
        stay: Presence::Unpaused,
        ends: ends(&[
            (TreatedFor::Full, one(rng, &["to-all", "bye", "sorry"])),
            (TreatedFor::LongestWait, "voicemail"),
        ]),
        ..rules(one(rng, &[Strategy::Random, Strategy::RoundRobin]))
    };
    let all_four = [(PLAIN, plain), ("all", all), ("skilled", skilled), ("small", small)];
    let mut found: BTreeMap<QueueId, QueueRules> =
        all_four.into_iter().map(|(name, rules)| (named(name), rules)).collect();
    if rng.u8(..4) == 0 {
        found.remove(&named::<QueueId>("skilled"));
    }
    found
}

fn agents(rng: &mut fastrand::Rng) -> BTreeMap<AgentId, AgentRules> {
    let mut found = BTreeMap::new();
    for number in 0..AGENTS {
        let mut memberships: BTreeMap<QueueId, Membership> = BTreeMap::new();
        let mut belongs = |queue: &str, penalty, weight| {
            memberships.insert(named(queue), Membership { penalty, weight });
        };
        if number < 16 {
            belongs(PLAIN, 0, 0);
        }
        if (10..20).contains(&number) {
            belongs("all", 0, 0);
        }
        if (16..27).contains(&number) {
            belongs("skilled", one(rng, &[0, 0, 1, 5]), 1);
        }
        if number >= 26 {
            belongs("small", 0, one(rng, &[0, 2]));
        }
        let can: &[&str] = one(rng, &[&["german"][..], &["german", "french"], &["french"]]);
        let rules = AgentRules {
            aor: Arc::from(format!("a{number:02}@pbx.example")),
            skills: skills(can),
            memberships,
            wrap_up_ms: one(rng, &[None, None, Some(0), Some(5_000)]),
            ring_ms: one(rng, &[None, None, Some(8_000)]),
            misses_max: one(rng, &[0, 0, 3]),
        };
        found.insert(named(&format!("a{number:02}")), rules);
    }
    found
}

fn guests(rng: &mut fastrand::Rng) -> BTreeMap<AgentId, AgentRules> {
    let guest = |number: usize| {
        let rules = AgentRules {
            aor: Arc::from(format!("g{number}@pbx.example")),
            skills: skills(one(rng, &[&["german"][..], &["german", "french"]])),
            memberships: [(named(PLAIN), Membership { penalty: 0, weight: 0 })].into(),
            wrap_up_ms: one(rng, &[None, Some(0)]),
            ring_ms: None,
            misses_max: one(rng, &[0, 3]),
        };
        (named(&format!("g{number}")), rules)
    };
    (0..GUESTS).map(guest).collect()
}

fn arrivals(rng: &mut fastrand::Rng, span: Ms) -> Vec<(Ms, Wish)> {
    let count = rng.usize(200..250);
    let bursts: Vec<Ms> = (0..3).map(|_| rng.u64(..span)).collect();
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let at = match rng.u8(..10) {
            0..3 => one(rng, &bursts) + rng.u64(..8_000),
            _ => rng.u64(..span),
        };
        let queue = match rng.u8(..100) {
            0..46 => Some(PLAIN),
            46..66 => Some("all"),
            66..84 => Some("skilled"),
            84..98 => Some("small"),
            98 => Some("nowhere"),
            _ => None,
        };
        let skills = match (queue, rng.u8(..3)) {
            (Some("skilled"), 0) => skills(&["german"]),
            (Some("skilled"), 1) => skills(&["french"]),
            _ => Skills::default(),
        };
        let priority = Priority::try_from(one(rng, &[0, 0, 0, 500, 500, 1000])).unwrap();
        found.push((PRELUDE_MS + at, Wish { queue: queue.map(named), priority, skills }));
    }
    found.sort_by_key(|(at, _)| *at);
    found
}

fn faults(rng: &mut fastrand::Rng, span: Ms, nodes: usize) -> Vec<Timed> {
    let count = rng.usize(20..30);
    let storms: Vec<Ms> = (0..rng.usize(3..7)).map(|_| rng.u64(..span)).collect();
    // One kill or stop of the leader stands alone, so that the time of the take-over can be told.
    let alone = rng.u64(40_000..span - 40_000);
    let mut found = Vec::with_capacity(count + 1);
    let what = match rng.bool() {
        true => Fault::Crash { who: Victim::Leader, down_ms: rng.u64(6_500..10_000) },
        false => Fault::Stop { who: Victim::Leader, for_ms: rng.u64(8_000..12_000) },
    };
    found.push(Timed { at: PRELUDE_MS + alone, what });
    while found.len() <= count {
        let near = rng.bool();
        let at = if near { one(rng, &storms) + rng.u64(..6_000) } else { rng.u64(..span) };
        if at.abs_diff(alone) > 32_000 {
            found.push(Timed { at: PRELUDE_MS + at, what: fault(rng, nodes) });
        }
    }
    found.sort_by_key(|fault| fault.at);
    found
}

fn fault(rng: &mut fastrand::Rng, nodes: usize) -> Fault {
    let down_ms = rng.u64(1_000..10_000);
    let filter = one(rng, &Filter::ALL);
    let who = one(rng, &[Victim::Leader, Victim::Leader, Victim::Any]);
    match rng.u8(..100) {
        0..16 => Fault::CrashAt { filter, nth: rng.u32(1..12), executed: rng.bool(), down_ms },
        16..23 => {
            Fault::StopAt { filter, nth: rng.u32(1..12), checked: false, for_ms: rng.u64(3_000..12_000) }
        }
        23..28 => {
            let (filter, for_ms) = (Filter::Originate, rng.u64(5_000..12_000));
            Fault::StopAt { filter, nth: rng.u32(1..12), checked: true, for_ms }
        }
        28..31 => Fault::Crash { who, down_ms },
        31..34 => Fault::Stop { who, for_ms: rng.u64(3_000..12_000) },
        34..54 => {
            let leg = one(rng, &[Leg::Request, Leg::Answer]);
            let how = one(rng, &[How::Drop, How::Drop, How::Delay, How::Repeat]);
            Fault::Message { filter, leg, how, count: rng.u32(1..4) }
        }
        54..58 => Fault::StoreClock { by_ms: one(rng, &[-2_000, -700, 400, 2_000]) },
        58..63 => Fault::CutOff { who, for_ms: rng.u64(3_000..10_000) },
        63..67 => Fault::StoreAway { for_ms: rng.u64(1_000..8_000) },
        67..72 => Fault::ForgetLast { ago_ms: rng.u64(200..3_000) },
        72..75 => Fault::ForgetAll,
        75..80 => Fault::NodeDeath { node: rng.usize(..nodes), for_ms: rng.u64(5_000..25_000) },
        80..85 => Fault::HalfOpen { node: rng.usize(..nodes), for_ms: rng.u64(5_000..15_000) },
        85..89 => Fault::LinkCut { node: rng.usize(..nodes) },
        89..93 => Fault::ProxyRestart { proxy: rng.usize(..2), for_ms: rng.u64(2_000..5_000) },
        93..96 => Fault::RegisterLost { count: rng.u32(1..8) },
        _ => Fault::Refusal { filter: one(rng, &[Filter::Originate, Filter::Join]), count: rng.u32(1..4) },
    }
}
