//! What is between the machines: delays, the store's and the nodes' requests and answers, the links of the application.

use super::cockpit::Inbound;
use super::faults::{Fate, Filter, Leg};
use super::ladder::{Col, Who};
use super::plan::Ms;
use super::world::{Ev, World};
use mqs::cell::pilot::{Ask, Commit, Found, Input};
use mqs::domain::controller::{Effect, Input as Event, Listing, Outcome};
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Candidate, Position};

/// An instance waits so long for the store.
pub const STORE_TIMEOUT_MS: Ms = 200;
/// An instance waits so long for a node.
pub const REST_TIMEOUT_MS: Ms = 2_000;
/// A request to a node is not under way for longer: the connection is closed then. The leadership is sure for 2.5 s of
/// its 4, and what was sent at the very end of that has to be done before another one leads.
const REST_LATE_MS: Ms = 1_400;
const INBOX_LIMIT: usize = 100;

#[derive(Clone)]
pub enum StoreOp {
    Lead(Candidate),
    Resign(u64),
    Open { epoch: u64, read: bool },
    Commit(Commit),
    Inbox(Position),
    Registrations,
}

#[derive(Clone)]
pub struct StoreAsk {
    pub inst: usize,
    pub number: u32,
    pub ask: Option<Ask>,
    pub op: StoreOp,
}

#[derive(Clone)]
pub enum Wanted {
    Effect(Effect),
    List { begun: EpochMs },
}

#[derive(Clone)]
pub struct Rest {
    pub inst: usize,
    pub number: u32,
    pub ask: Ask,
    pub step: u8,
    pub node: usize,
    pub wanted: Wanted,
}

#[derive(Clone)]
pub enum Back {
    Outcome(Outcome),
    Listing(Listing),
}

pub struct RestBack {
    pub inst: usize,
    pub number: u32,
    pub ask: Ask,
    pub step: u8,
    pub back: Back,
}

pub enum LinkMessage {
    Up,
    Replaced,
    Down,
    /// The answer to a ping.
    Pong(Ask),
    Event(Event),
}

/// A connection of an instance to a node, for events.
pub struct Link {
    pub inst: usize,
    pub number: u32,
    pub node: usize,
    pub open: bool,
    /// What is sent over it vanishes.
    pub silent: bool,
    /// When the last message arrives: none overtakes another.
    last: Ms,
}

impl StoreOp {
    fn kind(&self) -> Filter {
        match self {
            StoreOp::Lead(_) => Filter::Lead,
            StoreOp::Open { .. } => Filter::Open,
            StoreOp::Commit(_) => Filter::Commit,
            StoreOp::Inbox(_) => Filter::Inbox,
            StoreOp::Resign(_) | StoreOp::Registrations => Filter::Any,
        }
    }

    /// What is heard when no answer comes.
    pub fn silence(&self, ask: Ask) -> Input {
        match self {
            StoreOp::Lead(_) | StoreOp::Resign(_) => Input::Led(ask, None),
            StoreOp::Open { .. } => Input::Opened(ask, None),
            StoreOp::Commit(_) => Input::Committed(ask, None),
            StoreOp::Inbox(_) => Input::Inbox(ask, None),
            StoreOp::Registrations => Input::Registrations(ask, None),
        }
    }
}

impl World {
    /// A hop of SIP; now and then a message is lost, and sent again.
    pub fn sip_ms(&mut self) -> Ms {
        if !self.healed && self.rng.u8(..100) == 0 { self.rng.u64(500..2_000) } else { self.rng.u64(1..25) }
    }

    pub fn store_ms(&mut self) -> Ms {
        self.rng.u64(0..3)
    }

    pub fn store_is_away(&mut self) -> bool {
        let away = self.store.away_until > self.now;
        if away && let Some(number) = self.faults.store_away {
            self.bite(number);
        }
        away
    }

    // ---- the store ----

    pub fn ask_store(&mut self, asks: StoreAsk) {
        let (inst, number) = (asks.inst, asks.number);
        if let Some(ask) = asks.ask {
            self.after(STORE_TIMEOUT_MS, Ev::TimeOut(inst, number, ask, 0));
        }
        let travels = self.store_ms();
        let late = self.rng.u64(250..5_000);
        match self.fate(asks.op.kind(), Leg::Request) {
            Fate::Arrives => self.after(travels, Ev::Store(Box::new(asks))),
            Fate::Lost => {}
            Fate::Late => self.after(late, Ev::Store(Box::new(asks))),
            Fate::Twice => {
                self.after(late, Ev::Store(Box::new(asks.clone())));
                self.after(travels, Ev::Store(Box::new(asks)));
            }
        }
    }

    pub fn store_arrives(&mut self, asks: StoreAsk) {
        if self.instances[asks.inst].cut_until > self.now {
            if let Some(number) = self.faults.cut_off.get(&asks.inst).copied() {
                self.bite(number);
            }
            return;
        }
        if self.store_is_away() {
            return;
        }
        self.store.set_clock(self.now);
        let answer = self.do_in_store(&asks);
        let (Some(ask), Some(answer)) = (asks.ask, answer) else { return };
        let travels = self.store_ms();
        let late = self.rng.u64(50..1_000);
        let inbound = Ev::Inbound(asks.inst, asks.number, Box::new(Inbound::Answer(ask, answer)));
        match self.fate(asks.op.kind(), Leg::Answer) {
            Fate::Arrives | Fate::Twice => self.after(travels, inbound),
            Fate::Lost => {}
            Fate::Late => self.after(late, inbound),
        }
    }

    fn do_in_store(&mut self, asks: &StoreAsk) -> Option<Input> {
        let who = Who::inst(asks.inst);
        let desk = &mut self.store.desk;
        match &asks.op {
            StoreOp::Lead(candidate) => {
                let said = desk.lead(candidate);
                Some(Input::Led(asks.ask?, Some(said)))
            }
            StoreOp::Resign(epoch) => {
                let holder = self.instances[asks.inst].holder_of(asks.number);
                self.store.desk.resign(&holder, *epoch);
                None
            }
            StoreOp::Open { epoch, read } => {
                let found = desk.open(*epoch, *read);
                let word = match &found {
                    Found::Here { whole: true, .. } => "opens",
                    Found::Here { whole: false, .. } => "opens what is not whole",
                    Found::Fenced => "may not open",
                };
                self.note(Col::Instance, Col::Store, word, who.with_number(*epoch));
                Some(Input::Opened(asks.ask?, Some(found)))
            }
            StoreOp::Commit(commit) => {
                let said = desk.commit(commit);
                self.committed(asks.inst, commit, said);
                Some(Input::Committed(asks.ask?, Some(said)))
            }
            StoreOp::Inbox(after) => {
                let letters = desk.inbox(*after, INBOX_LIMIT);
                Some(Input::Inbox(asks.ask?, Some(letters)))
            }
            StoreOp::Registrations => {
                let found = desk.registrations();
                Some(Input::Registrations(asks.ask?, Some(found)))
            }
        }
    }

    // ---- requests to nodes ----

    pub fn send_rest(&mut self, rest: Rest) {
        let kind = rest.kind();
        self.after(REST_TIMEOUT_MS, Ev::TimeOut(rest.inst, rest.number, rest.ask, rest.step));
        if self.vanishes(rest.inst, rest.node) {
            return;
        }
        let travels = self.instances[rest.inst].held_ms + self.rng.u64(1..6);
        let late = self.rng.u64(100..REST_LATE_MS);
        match self.fate(kind, Leg::Request) {
            Fate::Arrives => self.after(travels, Ev::Rest(Box::new(rest))),
            Fate::Lost => {}
            Fate::Late => self.after(late, Ev::Rest(Box::new(rest))),
            Fate::Twice => {
                self.after(late, Ev::Rest(Box::new(rest.clone())));
                self.after(travels, Ev::Rest(Box::new(rest)));
            }
        }
    }

    /// Nothing comes through between these two, and neither knows.
    fn vanishes(&mut self, inst: usize, node: usize) -> bool {
        let link = self.instances[inst].links.get(&node).copied();
        let silent = link.is_some_and(|link| self.links[link].silent) && self.nodes[node].alive;
        if silent && let Some(number) = link.and_then(|link| self.faults.half_open.get(&link).copied()) {
            self.bite(number);
        }
        silent
    }

    pub fn rest_arrives(&mut self, rest: Rest) {
        let node = rest.node;
        if !self.nodes[node].alive {
            // Refused at once, or silence.
            if self.rng.bool() {
                let back = Back::Outcome(Outcome::Unknown);
                self.rest_answers(rest, back);
            }
            return;
        }
        let back = match &rest.wanted {
            Wanted::Effect(effect) => {
                let outcome = self.perform(node, effect, rest.step);
                self.note_effect(rest.inst, node, effect, rest.step, &outcome);
                Back::Outcome(outcome)
            }
            Wanted::List { begun } => Back::Listing(self.listing(node, *begun, rest.step)),
        };
        self.rest_answers(rest, back);
    }

    fn rest_answers(&mut self, rest: Rest, back: Back) {
        let kind = rest.kind();
        let Rest { inst, number, ask, step, node, .. } = rest;
        if self.vanishes(inst, node) {
            return;
        }
        let travels = self.rng.u64(1..6);
        let late = self.rng.u64(100..REST_LATE_MS);
        let answer = Ev::RestBack(Box::new(RestBack { inst, number, ask, step, back }));
        match self.fate(kind, Leg::Answer) {
            Fate::Arrives | Fate::Twice => self.after(travels, answer),
            Fate::Lost => {}
            Fate::Late => self.after(late, answer),
        }
    }

    pub fn rest_back(&mut self, back: RestBack) {
        let (inst, number) = (back.inst, back.number);
        self.inbound(inst, number, Inbound::Back(back));
    }

    fn note_effect(&mut self, inst: usize, node: usize, effect: &Effect, step: u8, outcome: &Outcome) {
        let (word, channel) = match effect {
            Effect::Attend(attend) => ("attend", &attend.channel.id),
            Effect::Join { caller, .. } if step > 0 => ("join", &caller.id),
            Effect::Join { caller, .. } => ("bridge", &caller.id),
            Effect::Announce { leg, .. } => ("announce", &leg.id),
            Effect::Hush { leg, .. } => ("hush", &leg.id),
            Effect::DropLeg { leg, .. } => ("drop leg", &leg.id),
            Effect::Originate(originate) => ("originate", &originate.leg.id),
            Effect::Continue { channel, .. } => ("continue", &channel.id),
            Effect::Tell { leg, .. } => ("tell", &leg.id),
            Effect::HangUp { channel, .. } => ("hang up", &channel.id),
        };
        self.coverage.count("effect", word);
        self.coverage.count("outcome", outcome_word(outcome));
        let caller = channel.as_str().parse().ok().and_then(|id| self.caller_of.get(&id).copied());
        let leg = self.nodes[node].legs.get(channel).copied();
        let who = match (caller, leg) {
            (Some(caller), _) => Who::caller(caller),
            (None, Some(leg)) => self.leg_who(leg),
            // The leg is over, or never was: the last one of that name.
            (None, None) => self
                .legs
                .iter()
                .rposition(|leg| leg.channel == *channel)
                .map_or(Who::default(), |l| self.leg_who(l)),
        };
        self.note(Col::Instance, Col::Node, word, who.with_node(node).with_inst(inst));
        if *outcome != Outcome::Done {
            self.note(Col::Node, Col::Instance, outcome_word(outcome), who.with_node(node).with_inst(inst));
        }
    }

    // ---- links ----

    /// Sends a message over a link, behind all that were sent before.
    pub fn push(&mut self, link: usize, message: LinkMessage) {
        let travels = self.rng.u64(1..8);
        let of = &mut self.links[link];
        if !of.open {
            return;
        }
        if of.silent && !matches!(message, LinkMessage::Down) {
            if let Some(number) = self.faults.half_open.get(&link).copied() {
                self.bite(number);
            }
            return;
        }
        of.last = of.last.max(self.now + travels);
        let at = of.last;
        self.at(at, Ev::Link(link, Box::new(message)));
    }

    /// An instance tries to attach the application.
    pub fn attach(&mut self, inst: usize, number: u32, node: usize, turn: u32) {
        if !self.instances[inst].tries(number, node, turn) {
            return;
        }
        if self.instances[inst].stopped || !self.nodes[node].alive {
            let later = self.rng.u64(200..1_000);
            self.after(later, Ev::Attach(inst, number, node, turn));
            return;
        }
        let link = self.links.len();
        self.links.push(Link { inst, number, node, open: true, silent: false, last: self.now });
        if let Some(older) = self.nodes[node].attached.replace(link) {
            self.push(older, LinkMessage::Replaced);
        }
        self.instances[inst].links.insert(node, link);
        self.note(Col::Instance, Col::Node, "attached", Who::inst(inst).with_node(node));
        self.push(link, LinkMessage::Up);
    }

    /// A ping: its answer comes behind everything that the node has sent by then.
    pub fn probe(&mut self, link: usize, ask: Ask) {
        self.coverage.count("world", "link probed");
        self.push(link, LinkMessage::Pong(ask));
    }

    pub fn link_message(&mut self, link: usize, message: LinkMessage) {
        let of = &self.links[link];
        if !of.open {
            return;
        }
        let (inst, number) = (of.inst, of.number);
        self.inbound(inst, number, Inbound::Link(link, message));
    }

    /// Both ends see that a link is gone; what was sent before still arrives.
    pub fn link_dies(&mut self, link: usize) {
        let node = self.links[link].node;
        if self.nodes[node].attached == Some(link) {
            self.nodes[node].attached = None;
        }
        self.faults.half_open.remove(&link);
        self.push(link, LinkMessage::Down);
    }

    pub fn half_open(&mut self, node: usize, for_ms: Ms, number: usize) {
        let Some(link) = self.nodes[node].attached.filter(|link| !self.links[*link].silent) else { return };
        self.links[link].silent = true;
        self.faults.half_open.insert(link, number);
        self.nodes[node].shaken = self.nodes[node].shaken.max(self.now + for_ms);
        self.after(for_ms, Ev::LinkDies(link));
    }

    pub fn end_half_open(&mut self, node: usize) {
        if let Some(link) = self.nodes[node].attached.filter(|link| self.links[*link].silent) {
            self.link_dies(link);
        }
    }

    pub fn cut_link(&mut self, node: usize, number: usize) {
        if let Some(link) = self.nodes[node].attached {
            if !self.nodes[node].callers.is_empty() {
                self.bite(number);
            }
            self.nodes[node].shaken = self.nodes[node].shaken.max(self.now);
            self.link_dies(link);
        }
    }

    // ---- health checks ----

    /// Every instance hears in its own time whether a node lives.
    pub fn health_checks(&mut self, node: usize, from: Ms, to: Ms) {
        for inst in 0..self.instances.len() {
            let number = self.instances[inst].number;
            let after = self.rng.u64(from..to);
            self.after(after, Ev::Health(inst, number, node));
        }
    }
}

impl Rest {
    fn kind(&self) -> Filter {
        match &self.wanted {
            Wanted::Effect(effect) => Filter::of_effect(effect),
            Wanted::List { .. } => Filter::List,
        }
    }
}

impl Filter {
    pub fn of_effect(effect: &Effect) -> Filter {
        match effect {
            Effect::Attend(_) => Filter::Attend,
            Effect::Join { .. } => Filter::Join,
            Effect::Announce { .. } | Effect::Hush { .. } => Filter::Join,
            Effect::DropLeg { .. } => Filter::DropLeg,
            Effect::Tell { .. } => Filter::Tell,
            Effect::Originate(_) => Filter::Originate,
            Effect::Continue { .. } | Effect::HangUp { .. } => Filter::Leave,
        }
    }
}

pub fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Gone => "gone",
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
    }
}
