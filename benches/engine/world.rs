//! A call centre in memory: its setup, and callers, phones and nodes that answer what the queue asks of them. Time is made up:
//! what happens next is in an agenda, and a run with the same seed is the same run.

use mqs::domain::agent::AgentRules;
use mqs::domain::call::{Channel, Identity};
use mqs::domain::controller::{
    Command, Effect, Input, LegEnd, Listing, Originate, Outcome, Registered, SeenCaller,
};
use mqs::domain::id::{AgentId, ChannelId, NodeId, QueueId, Skill, TreatmentId};
use mqs::domain::matching::{MatchRules, Membership, Priority, Relaxing, Skills, Strategy, Widening};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use mqs::domain::time::EpochMs;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub const AGENTS: usize = 2_000;
pub const QUEUES: usize = 20;
const NODES: usize = 10;

/// When the made-up time begins.
pub const START: EpochMs = EpochMs(1_700_000_000_000);

const TALK_MS: f64 = 180_000.0;
const SKILLS: [&str; 8] = ["de", "en", "fr", "it", "sales", "billing", "support", "contracts"];

pub fn queue(number: usize) -> QueueId {
    format!("queue-{number}").parse().unwrap()
}

pub fn agent(number: usize) -> AgentId {
    format!("agent-{number:04}").parse().unwrap()
}

pub fn node(number: usize) -> NodeId {
    format!("ast{}", number % NODES + 1).parse().unwrap()
}

pub fn nodes() -> Vec<NodeId> {
    (0..NODES).map(node).collect()
}

fn skills(numbers: impl IntoIterator<Item = usize>) -> Skills {
    numbers.into_iter().map(|number| SKILLS[number % SKILLS.len()].parse::<Skill>().unwrap()).collect()
}

/// 20 queues of all strategies, a quarter of them widening, another relaxing; each agent in three of them.
pub fn setup() -> Arc<Setup> {
    let queues = (0..QUEUES).map(|number| (queue(number), queue_rules(number))).collect();
    let agents = (0..AGENTS).map(|number| (agent(number), agent_rules(number))).collect();
    let away = Treatment::Dialplan { context: "mqs-treatments".into(), extension: "sorry".into() };
    let name: TreatmentId = "sorry".parse().unwrap();
    Arc::new(Setup {
        queues,
        agents,
        treatments: BTreeMap::from([(name.clone(), away)]),
        last_resort: Some(name),
        ..Setup::default()
    })
}

fn queue_rules(number: usize) -> QueueRules {
    let strategy = match number % 10 {
        0..=3 => Strategy::LongestIdle,
        4 | 5 => Strategy::FewestCalls,
        6 | 7 => Strategy::RoundRobin,
        8 => Strategy::Random,
        _ => Strategy::RingAll,
    };
    let widening = |after_ms, penalty_max| Widening { after_ms, penalty_max };
    let relaxing = Relaxing { after_ms: 60_000, drop: skills([0, 1, 2, 3]) };
    QueueRules {
        matching: MatchRules {
            strategy,
            ring_all_max: 3,
            penalty_max: if number.is_multiple_of(4) {
                vec![widening(0, 0), widening(30_000, 1)]
            } else {
                Vec::new()
            },
            relax: if number % 4 == 1 { vec![relaxing] } else { Vec::new() },
        },
        waiting_max: usize::MAX,
        // Nobody is sent away: what is measured is waiting.
        wait_max_ms: 1_000_000_000,
        offers_max: 1_000,
        ring_ms: 20_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 0,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "default".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: BTreeMap::new(),
    }
}

fn agent_rules(number: usize) -> AgentRules {
    let member = |at: usize| {
        // Three different ones: 1, 3 and 7 steps on, from queue to queue.
        let place = (number + [0, 1, 7][at]) % QUEUES;
        (queue(place), Membership { penalty: u16::try_from(at % 2).unwrap(), weight: 0 })
    };
    AgentRules {
        aor: Arc::from(format!("{}@example.com", agent(number))),
        skills: skills([number % 4, (number / 4) % 4, 4 + (number / 16) % 4, 4 + (number / 64) % 4]),
        memberships: (0..3).map(member).collect(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 0,
    }
}

/// A caller as a channel shows it.
pub fn caller(number: u64, rng: &mut fastrand::Rng) -> SeenCaller {
    let at = usize::try_from(number).unwrap();
    let node = node(at);
    let id = format!("{node}-{}.{number}", 1_700_000_000 + number / 11).parse().unwrap();
    let identity = Identity {
        name: format!("Caller {number}").into(),
        number: format!("+4930{:07}", rng.u32(..10_000_000)).into(),
        sip_call_id: format!("{:032x}@192.0.2.{}", rng.u128(..), number % 250).into(),
    };
    let wishes = match rng.u8(..10) {
        0..=4 => Skills::default(),
        5..=7 => skills([rng.usize(..4)]),
        _ => skills([rng.usize(..4), rng.usize(4..8)]),
    };
    SeenCaller {
        channel: Channel { node, id },
        identity: Arc::new(identity),
        queue: Some(queue(rng.usize(..QUEUES))),
        priority: Priority::try_from(if rng.u8(..10) == 0 { 100 } else { 0 }).unwrap(),
        wishes,
        enqueued: None,
    }
}

/// Every phone is registered, and every node has said that it has nothing.
pub fn beginning(now: EpochMs) -> Vec<Input> {
    let registered = |number| Registered {
        aor: Arc::from(format!("{}@example.com", agent(number))),
        proxy: "edge-1".parse().unwrap(),
        at: now,
    };
    let mut inputs: Vec<Input> = nodes().into_iter().map(|node| Input::Listing(empty(node, now))).collect();
    inputs.push(Input::Registered((0..AGENTS).map(registered).collect()));
    inputs.push(Input::Offering(true));
    inputs
}

pub fn empty(node: NodeId, begun: EpochMs) -> Listing {
    Listing { node, begun, callers: Vec::new(), legs: Vec::new(), bridges: Vec::new() }
}

pub fn login(number: usize) -> Input {
    Input::Command { key: Arc::from(format!("login-{number}")), command: Command::Login(agent(number)) }
}

/// Something that is going to happen.
enum Due<A> {
    /// It happens whatever comes between.
    Fact(Input),
    /// An agent or a caller has it in mind, as long as the channel is there.
    Plan(Input),
    /// A node answers.
    Answer(A, Effect, Outcome),
}

/// What has come about.
pub enum Happens<A> {
    Input(Input),
    Answer(A, Effect, Outcome),
    /// Nothing but the time that was waited for.
    Tick,
}

/// Callers, phones and nodes; `A` is what an answer is given to.
pub struct World<A> {
    pub now: EpochMs,
    rng: fastrand::Rng,
    agenda: BTreeMap<(EpochMs, u64), Due<A>>,
    planned: u64,
    /// Callers who are there, and legs, and whether those were answered.
    callers: HashSet<ChannelId>,
    legs: HashMap<ChannelId, bool>,
    called: u64,
    arriving: usize,
    /// So many calls are kept waiting: for each one that is served or gives up, another one comes.
    waiting: usize,
}

impl<A> World<A> {
    pub fn new(waiting: usize) -> World<A> {
        World {
            now: START,
            rng: fastrand::Rng::with_seed(7),
            agenda: BTreeMap::new(),
            planned: 0,
            callers: HashSet::new(),
            legs: HashMap::new(),
            called: 0,
            arriving: 0,
            waiting,
        }
    }

    /// What happens next; `in_line`: calls that wait now. `timeout`: when the time itself is waited for.
    pub fn next(&mut self, in_line: usize, timeout: Option<EpochMs>) -> Happens<A> {
        while in_line + self.arriving < self.waiting {
            let number = self.called;
            self.called += 1;
            self.arriving += 1;
            let seen = caller(number, &mut self.rng);
            let delay = self.rng.u64(..50);
            if self.rng.u8(..10) == 0 {
                // One in ten does not wait for ever; the busier the lines, the longer those are that do.
                let patience = 1_000 + self.rng.u64(..(self.waiting as u64 + 1) * 180);
                self.plan(delay + patience, Due::Plan(Input::CallerLeft(seen.channel.clone())));
            }
            self.plan(delay, Due::Fact(Input::CallerEntered(seen)));
        }
        loop {
            let first = self.agenda.first_key_value().map(|(at, _)| at.0);
            if let Some(at) = timeout
                && first.is_none_or(|first| at < first)
            {
                self.now = self.now.max(at);
                return Happens::Tick;
            }
            let ((at, _), due) = self.agenda.pop_first().expect("somebody calls");
            self.now = self.now.max(at);
            match due {
                Due::Fact(input) => {
                    if let Input::CallerEntered(seen) = &input {
                        self.arriving -= 1;
                        self.callers.insert(seen.channel.id.clone());
                    }
                    return Happens::Input(input);
                }
                Due::Plan(input) if self.comes_about(&input) => return Happens::Input(input),
                Due::Plan(_) => {}
                Due::Answer(ask, effect, outcome) => return Happens::Answer(ask, effect, outcome),
            }
        }
    }

    fn comes_about(&mut self, input: &Input) -> bool {
        match input {
            Input::CallerLeft(channel) => self.callers.remove(&channel.id),
            Input::LegAnswered { leg, .. } => {
                self.legs.get_mut(&leg.id).is_some_and(|up| !std::mem::replace(up, true))
            }
            Input::LegEnded { leg, .. } => self.legs.remove(&leg.id).is_some(),
            other => panic!("{other:?} is nothing that one has in mind"),
        }
    }

    fn plan(&mut self, after: u64, due: Due<A>) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), due);
    }

    fn delay(&mut self) -> u64 {
        self.rng.u64(10..40)
    }

    /// A node is asked for something.
    pub fn asked(&mut self, effect: Effect, ask: A) {
        let (delay, mut outcome) = (self.delay(), Outcome::Done);
        match &effect {
            Effect::Originate(originate) => self.rings(originate),
            Effect::Join { caller, leg, .. } => self.talk(caller.clone(), leg.clone()),
            Effect::DropLeg { leg, .. } => match self.legs.remove(&leg.id) {
                None => outcome = Outcome::Gone,
                Some(up) => {
                    let how = if up { LegEnd::HungUp } else { LegEnd::Cancelled };
                    self.plan(delay, Due::Fact(Input::LegEnded { leg: leg.clone(), how }));
                }
            },
            Effect::HangUp { channel, .. } | Effect::Continue { channel, .. } => {
                if self.callers.remove(&channel.id) {
                    self.plan(delay, Due::Fact(Input::CallerLeft(channel.clone())));
                }
            }
            Effect::Attend(_) | Effect::Tell { .. } | Effect::Announce { .. } | Effect::Hush { .. } => {}
        }
        self.plan(delay, Due::Answer(ask, effect, outcome));
    }

    fn rings(&mut self, originate: &Originate) {
        self.legs.insert(originate.leg.id.clone(), false);
        let (leg, offer) = (originate.leg.clone(), originate.offer.clone());
        let (quick, slow) = (self.rng.u64(100..400), self.rng.u64(2_000..8_000));
        match self.rng.u8(..100) {
            0..=3 => self.plan(quick, Due::Plan(Input::LegEnded { leg, how: LegEnd::Busy })),
            4..=6 => self.plan(slow, Due::Plan(Input::LegEnded { leg, how: LegEnd::Refused })),
            // Nobody picks up.
            7..=11 => {}
            _ => self.plan(slow, Due::Plan(Input::LegAnswered { offer, leg })),
        }
    }

    /// Half of the talks are ended by the caller.
    fn talk(&mut self, caller: Channel, leg: Channel) {
        let length = (-TALK_MS * (1.0 - self.rng.f64()).ln()) as u64 + 1_000;
        let end = if self.rng.bool() {
            Input::CallerLeft(caller)
        } else {
            Input::LegEnded { leg, how: LegEnd::HungUp }
        };
        self.plan(length, Due::Plan(end));
    }
}
