//! The queue's rules by example: each test is a call ladder. What is told stands left of the arrow, what comes of it right.

mod announce;
mod away;
mod ends;
mod laid;
mod offers;
mod own;
mod people;
mod reconcile;
mod restore;
mod talks;
mod transfer;

use super::*;
use crate::domain::agent::AgentRules;
use crate::domain::call::{Channel, Identity, TreatedFor};
use crate::domain::matching::{MatchRules, Membership, Skills, Strategy};
use crate::domain::queue::{Answering, Presence, QueueRules, Treatment};
use std::str::FromStr;

pub(super) fn name<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(super) fn skills(words: &[&str]) -> Skills {
    words.iter().map(|word| name(word)).collect()
}

pub(super) fn at(text: &str) -> Channel {
    // `c1@n2`: channel c1 on node n2; node n1 without a name.
    let (id, node) = text.split_once('@').unwrap_or((text, "n1"));
    Channel { node: name(node), id: name(id) }
}

/// A controller, the time, and what it has asked for.
pub(super) struct Scene {
    pub controller: Controller,
    pub setup: Setup,
    pub now: EpochMs,
    /// Effects in full, of the last step.
    pub effects: Vec<Effect>,
    /// Changes, of the last step.
    pub changes: Vec<Change>,
}

pub(super) fn queue_rules() -> QueueRules {
    QueueRules {
        matching: MatchRules::default(),
        waiting_max: 3,
        wait_max_ms: 600_000,
        offers_max: 10,
        ring_ms: 15_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 5_000,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "default".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: [
            (TreatedFor::Full, name("busy")),
            (TreatedFor::JoinEmpty, name("closed")),
            (TreatedFor::LeaveEmpty, name("closed")),
            (TreatedFor::LongestWait, name("voicemail")),
            (TreatedFor::Exhausted, name("voicemail")),
        ]
        .into(),
    }
}

pub(super) fn agent_rules(id: &str, queues: &[&str]) -> AgentRules {
    AgentRules {
        aor: Arc::from(format!("{id}@example.com")),
        skills: Skills::default(),
        memberships: queues.iter().map(|queue| (name(queue), Membership::default())).collect(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 3,
    }
}

impl Scene {
    /// Queues `sales` and `care`, agents `ann` and `bob` in both, who are registered and not logged in; two nodes, listed.
    pub fn new() -> Scene {
        Scene::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Setup)) -> Scene {
        let dialplan =
            |extension: &str| Treatment::Dialplan { context: "mqs".into(), extension: extension.into() };
        let mut setup = Setup {
            queues: [(name("sales"), queue_rules()), (name("care"), queue_rules())].into(),
            agents: [
                (name("ann"), agent_rules("ann", &["sales", "care"])),
                (name("bob"), agent_rules("bob", &["sales", "care"])),
            ]
            .into(),
            treatments: [
                (name("busy"), Treatment::HangUp { cause: 17 }),
                (name("closed"), dialplan("closed")),
                (name("voicemail"), dialplan("voicemail")),
                (name("overflow"), Treatment::Overflow(name("care"))),
            ]
            .into(),
            last_resort: Some(name("closed")),
            ..Setup::default()
        };
        change(&mut setup);
        let now = EpochMs(1_000_000);
        let controller = Controller::new(7, Arc::new(setup.clone()), 1, now);
        let mut scene = Scene { controller, setup, now, effects: Vec::new(), changes: Vec::new() };
        scene.tell(Input::Tick);
        let aors: Vec<Arc<str>> = scene.setup.agents.values().map(|rules| rules.aor.clone()).collect();
        let registered =
            aors.into_iter().map(|aor| Registered { aor, proxy: name("k1"), at: EpochMs(999_000) }).collect();
        scene.tell(Input::Registered(registered));
        scene.list("n1", vec![], vec![], vec![]);
        scene.list("n2", vec![], vec![], vec![]);
        scene.tell(Input::Offering(true));
        scene
    }

    /// Tells, and says what came of it: events, then effects.
    pub fn tell(&mut self, input: Input) -> Vec<String> {
        self.controller.handle(input, self.now);
        self.effects.clear();
        self.changes.clear();
        let mut said = Vec::new();
        while let Some(output) = self.controller.next_output() {
            match output {
                Output::Change(change) => {
                    if let Change::Event(event) = &change {
                        said.push(event_line(event));
                    }
                    self.changes.push(change);
                }
                Output::Effect(effect) => {
                    said.push(effect_line(&effect));
                    self.effects.push(effect);
                }
            }
        }
        said
    }

    /// Lets time pass, as its owner would: from time-out to time-out.
    pub fn pass(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + ms;
        let mut said = Vec::new();
        let mut effects = Vec::new();
        while let Some(due) = self.controller.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            said.extend(self.tell(Input::Tick));
            effects.append(&mut self.effects);
        }
        self.now = end;
        self.effects = effects;
        said
    }

    pub fn caller(channel: &str, queue: &str, priority: &str) -> SeenCaller {
        SeenCaller {
            channel: at(channel),
            identity: Arc::new(Identity::default()),
            queue: queue.parse().ok(),
            priority: name(priority),
            wishes: Skills::default(),
            enqueued: None,
        }
    }

    pub fn enter(&mut self, channel: &str, queue: &str) -> Vec<String> {
        self.tell(Input::CallerEntered(Scene::caller(channel, queue, "0")))
    }

    pub fn leave(&mut self, channel: &str) -> Vec<String> {
        self.tell(Input::CallerLeft(at(channel)))
    }

    pub fn command(&mut self, command: Command) -> Vec<String> {
        self.tell(Input::Command { key: Arc::from("key"), command })
    }

    pub fn login(&mut self, agent: &str) -> Vec<String> {
        self.command(Command::Login(name(agent)))
    }

    /// The node answers the last effect of this kind: `originate`, `join`, `drop`, `void`.
    pub fn answer(&mut self, word: &str, outcome: Outcome) -> Vec<String> {
        let found = self.effects.iter().find(|effect| effect_line(effect).starts_with(word));
        let effect = found.unwrap_or_else(|| panic!("no {word} among {:?}", self.effects)).clone();
        self.tell(Input::Answered { effect, outcome })
    }

    /// The leg of an offer is there.
    pub fn rings(&mut self) -> Vec<String> {
        self.answer("originate", Outcome::Done)
    }

    pub fn leg_answered(&mut self, offer: &str) -> Vec<String> {
        self.tell(Input::LegAnswered { offer: name(offer), leg: leg(offer) })
    }

    pub fn leg_ended(&mut self, offer: &str, how: LegEnd) -> Vec<String> {
        self.tell(Input::LegEnded { leg: leg(offer), how })
    }

    pub fn list(
        &mut self,
        node: &str,
        callers: Vec<SeenCaller>,
        legs: Vec<SeenLeg>,
        bridges: Vec<SeenBridge>,
    ) -> Vec<String> {
        let begun = self.now;
        self.tell(Input::Listing(Listing { node: name(node), begun, callers, legs, bridges }))
    }

    /// A call of this channel is with this agent: entered, offered, answered, joined.
    pub fn connect(&mut self, channel: &str, offer: &str) {
        self.enter(channel, "sales");
        self.rings();
        self.leg_answered(offer);
        self.answer("join", Outcome::Done);
    }

    pub fn state(&self, agent: &str) -> &'static str {
        self.controller.agent(&name(agent)).unwrap().word()
    }

    pub fn stage(&self, call: &str) -> Option<&Stage> {
        self.controller.call(&name(call)).map(|call| &call.stage)
    }
}

/// The leg of an offer, on node n1.
pub(super) fn leg(offer: &str) -> Channel {
    at(&format!("mqs-{offer}"))
}

fn event_line(event: &Event) -> String {
    match &event.what {
        What::Enqueued { call, queue } => format!("[{call} waits in {queue}]"),
        What::Offered { offer, call, agent, .. } => format!("[{offer}: {call} to {agent}]"),
        What::OfferEnded { offer, how, .. } => format!("[{offer} {}]", how.as_str()),
        What::Connected { call, agent, waited_ms: Some(_), .. } => format!("[{call} with {agent}]"),
        What::Connected { call, agent, waited_ms: None, .. } => format!("[{call} passed on to {agent}]"),
        What::Treated { call, treatment, why, .. } => {
            format!("[{call} {}: {}]", why.as_str(), treatment.as_ref().map_or("last resort", |t| t.as_str()))
        }
        What::Transferred { call, to, .. } => format!("[{call} to {to}]"),
        What::Done { call, reason, .. } => format!("[{call} {}]", reason.as_str()),
        What::Agent { agent, state } => format!("[{agent} {state}]"),
        What::Command { said, .. } => format!("[{said:?}]"),
    }
}

pub(super) fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Attend(attend) => format!("attend {}", attend.channel.id),
        Effect::Join { caller, leg, .. } => format!("join {} {}", caller.id, leg.id),
        Effect::Announce { leg, sounds, .. } => format!("announce {} {}", leg.id, sounds.join("+")),
        Effect::Hush { leg, .. } => format!("hush {}", leg.id),
        Effect::DropLeg { leg, void: false, .. } => format!("drop {}", leg.id),
        Effect::DropLeg { leg, void: true, .. } => format!("void {}", leg.id),
        Effect::Originate(originate) => format!("originate {} {}", originate.leg.id, originate.agent),
        Effect::Continue { channel, extension, .. } => format!("continue {} {extension}", channel.id),
        Effect::Tell { leg, progress } => format!("tell {} {progress:?}", leg.id),
        Effect::HangUp { channel, cause } => format!("hang up {} {cause}", channel.id),
    }
}

/// A queue that is served by this strategy.
pub(super) fn by(strategy: Strategy) -> QueueRules {
    let matching = MatchRules { strategy, ..MatchRules::default() };
    QueueRules { matching, ..queue_rules() }
}
