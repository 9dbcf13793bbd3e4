//! Instances: each runs a pilot as the shell would. It does what the pilot asks for, and tells it what came of it.

use super::faults::{Fault, Filter};
use super::ladder::{Col, Who};
use super::net::{Back, LinkMessage, Rest, RestBack, StoreAsk, StoreOp, Wanted};
use super::plan::Ms;
use super::world::{Ev, World};
use mqs::cell::pilot::{Ask, Input, Link, Mono, Note, Output, Pilot, Right, Settings};
use mqs::domain::controller::{Effect, Listing, Outcome};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What leads: the pilot, or a stand-in for it.
pub trait Brain {
    fn handle(&mut self, input: Input, now: Mono);
    fn poll(&mut self) -> Option<Output>;
    fn next_timeout(&self) -> Option<Mono>;
    fn may_send(&self, right: Right, now: Mono) -> bool;
}

impl Brain for Pilot {
    fn handle(&mut self, input: Input, now: Mono) {
        self.handle(input, now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.poll()
    }

    fn next_timeout(&self) -> Option<Mono> {
        self.next_timeout()
    }

    fn may_send(&self, right: Right, now: Mono) -> bool {
        self.may_send(right, now)
    }
}

/// What comes to an instance; while it is stopped it waits at the door.
pub enum Inbound {
    Tick,
    Input(Input),
    Answer(Ask, Input),
    Back(RestBack),
    TimeOut(Ask, u8),
    Link(usize, LinkMessage),
}

enum Pending {
    Store(StoreOp),
    Act { effect: Effect, right: Right, node: usize, step: u8 },
    List { node: usize, step: u8, part: Option<Listing> },
}

pub struct Instance {
    number_of: usize,
    /// Counts its lives: what was meant for an earlier one is not heard.
    pub number: u32,
    brain: Option<Box<dyn Brain>>,
    pub stopped: bool,
    /// No way to the store until then.
    pub cut_until: Ms,
    seed: u64,
    /// Its monotonic clock began somewhere, and runs a little fast or slow.
    offset: u64,
    ppm: i64,
    outputs: VecDeque<Output>,
    door: VecDeque<Inbound>,
    asks: BTreeMap<Ask, Pending>,
    /// Nodes that it is to be attached to, and the number of the attempt.
    wants: BTreeMap<usize, u32>,
    turns: u32,
    pub links: BTreeMap<usize, usize>,
    told_dead: BTreeSet<usize>,
    /// What it sends now leaves it only so much later.
    pub held_ms: Ms,
    wake_at: Option<Ms>,
    /// Wake-ups in the present second: a machine that never sleeps is found out.
    busy: (Ms, u32),
}

const WAKES_MAX: u32 = 900;

impl Instance {
    pub fn new(number_of: usize, seed: u64) -> Instance {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number_of as u64));
        Instance {
            number_of,
            number: 0,
            brain: None,
            stopped: false,
            cut_until: 0,
            seed,
            offset: rng.u64(1_000..1_000_000_000),
            ppm: rng.i64(-200..=200),
            outputs: VecDeque::new(),
            door: VecDeque::new(),
            asks: BTreeMap::new(),
            wants: BTreeMap::new(),
            turns: 0,
            links: BTreeMap::new(),
            told_dead: BTreeSet::new(),
            held_ms: 0,
            wake_at: None,
            busy: (0, 0),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.brain.is_none()
    }

    pub fn is_awake(&self) -> bool {
        self.brain.is_some() && !self.stopped
    }

    /// The name that it goes by in one of its lives.
    pub fn holder_of(&self, number: u32) -> String {
        format!("m{}-{number}", self.number_of)
    }

    fn mono(&self, now: Ms) -> Mono {
        Mono(self.offset + now.saturating_add_signed(now as i64 * self.ppm / 1_000_000))
    }

    /// The earliest moment at which its clock shows that time.
    fn when(&self, due: Mono, now: Ms) -> Ms {
        let mut at = now;
        loop {
            let short = due.since(self.mono(at));
            if short == 0 {
                return at;
            }
            // A clock that is 200 ppm fast may be there a little before.
            at += (short - short / 4_000).max(1);
        }
    }

    /// Whether this attempt to attach is still wanted.
    pub fn tries(&self, number: u32, node: usize, turn: u32) -> bool {
        self.number == number && self.brain.is_some() && self.wants.get(&node) == Some(&turn)
    }
}

impl World {
    pub fn boot(&mut self, inst: usize) {
        if !self.instances[inst].is_dead() {
            return;
        }
        let of = &mut self.instances[inst];
        of.number += 1;
        let number = of.number;
        let settings = Settings { holder: of.holder_of(number), seed: of.seed, seeded: self.options.seeded };
        of.brain = Some((self.options.brain)(settings));
        of.told_dead.clear();
        of.stopped = false;
        self.note(Col::Instance, Col::Instance, "starts", Who::inst(inst));
        let nodes = self.nodes.iter().map(|node| node.id.clone()).collect();
        let setup = self.plan.setup.clone();
        self.inbound(inst, number, Inbound::Input(Input::Setup { setup, nodes }));
        for node in 0..self.nodes.len() {
            let after = self.rng.u64(8_000..12_000);
            self.after(after, Ev::Health(inst, number, node));
        }
    }

    pub fn crash(&mut self, inst: usize, down_ms: Ms, fault: usize) {
        if self.instances[inst].is_dead() {
            return;
        }
        self.check_later_for_owners(inst);
        self.faults.last_blow = self.now;
        self.note(Col::Instance, Col::Instance, "crashes", Who::inst(inst));
        if !self.instances[inst].links.is_empty() || !self.instances[inst].asks.is_empty() {
            self.bite(fault);
        }
        self.shake();
        let of = &mut self.instances[inst];
        of.brain = None;
        of.outputs.clear();
        of.door.clear();
        of.asks.clear();
        of.wants.clear();
        of.wake_at = None;
        for (node, link) in std::mem::take(&mut of.links) {
            self.close(node, link);
        }
        self.after(down_ms, Ev::Boot(inst));
    }

    pub fn stop(&mut self, inst: usize, for_ms: Ms, fault: usize) {
        if !self.instances[inst].is_awake() {
            return;
        }
        self.check_later_for_owners(inst);
        self.faults.last_blow = self.now;
        self.note(Col::Instance, Col::Instance, "stands still", Who::inst(inst));
        if !self.instances[inst].links.is_empty() || !self.instances[inst].asks.is_empty() {
            self.bite(fault);
        }
        self.shake_until(self.now + for_ms);
        self.instances[inst].stopped = true;
        let number = self.instances[inst].number;
        self.after(for_ms, Ev::GoOn(inst, number));
    }

    /// It goes on where it stood: first with what it had in its hands, then with what waits at the door.
    pub fn go_on(&mut self, inst: usize, number: u32) {
        if self.instances[inst].number != number || !self.instances[inst].stopped {
            return;
        }
        self.instances[inst].stopped = false;
        if self.instances[inst].is_dead() {
            return;
        }
        self.note(Col::Instance, Col::Instance, "goes on", Who::inst(inst));
        self.run_outputs(inst);
        while self.instances[inst].is_awake() {
            let Some(next) = self.instances[inst].door.pop_front() else { break };
            self.take_in(inst, next);
        }
        self.sleep(inst);
    }

    pub fn health(&mut self, inst: usize, number: u32, node: usize) {
        if self.instances[inst].number != number || self.instances[inst].is_dead() {
            return;
        }
        let id = self.nodes[node].id.clone();
        if self.nodes[node].alive {
            if self.instances[inst].told_dead.remove(&node) {
                self.inbound(inst, number, Inbound::Input(Input::NodeAlive(id)));
            }
        } else if self.instances[inst].told_dead.insert(node) {
            self.coverage.count("world", "node called dead");
            self.inbound(inst, number, Inbound::Input(Input::NodeDead(id)));
        }
    }

    pub fn wake(&mut self, inst: usize, number: u32) {
        let of = &mut self.instances[inst];
        if of.number == number && of.wake_at.is_some_and(|at| at <= self.now) {
            of.wake_at = None;
            self.inbound(inst, number, Inbound::Tick);
        }
    }

    /// Something comes to an instance.
    pub fn inbound(&mut self, inst: usize, number: u32, what: Inbound) {
        let of = &mut self.instances[inst];
        if of.number != number || of.is_dead() {
            return;
        }
        if of.stopped {
            of.door.push_back(what);
            return;
        }
        self.take_in(inst, what);
        self.sleep(inst);
    }

    fn take_in(&mut self, inst: usize, what: Inbound) {
        match what {
            Inbound::Tick => self.handle(inst, Input::Tick),
            Inbound::Input(input) => self.handle(inst, input),
            Inbound::Answer(ask, input) => {
                if self.instances[inst].asks.remove(&ask).is_some() {
                    self.handle(inst, input);
                }
            }
            Inbound::TimeOut(ask, step) => self.time_out(inst, ask, step),
            Inbound::Back(back) => self.back(inst, back),
            Inbound::Link(link, message) => self.hear(inst, link, message),
        }
    }

    fn time_out(&mut self, inst: usize, ask: Ask, step: u8) {
        let of = &mut self.instances[inst];
        let input = match of.asks.get(&ask) {
            Some(Pending::Store(op)) => op.silence(ask),
            Some(Pending::Act { step: at, .. }) if *at == step => Input::Acted(ask, Outcome::Unknown),
            Some(Pending::List { step: at, .. }) if *at == step => Input::Listed(ask, None),
            _ => return,
        };
        of.asks.remove(&ask);
        self.coverage.count("world", "no answer in time");
        self.handle(inst, input);
    }

    /// A node has answered. A join is two requests, and so is a listing.
    fn back(&mut self, inst: usize, back: RestBack) {
        let ask = back.ask;
        let Some(pending) = self.instances[inst].asks.remove(&ask) else { return };
        match (pending, back.back) {
            (Pending::Act { effect, right, node, step }, Back::Outcome(outcome)) if step == back.step => {
                let more = matches!(effect, Effect::Join { .. }) && step == 0 && outcome == Outcome::Done;
                if more {
                    self.act(inst, ask, effect, right, node, 1);
                } else {
                    self.handle(inst, Input::Acted(ask, outcome));
                }
            }
            (Pending::List { node, step: 0, .. }, Back::Listing(listing)) if back.step == 0 => {
                let begun = listing.begun;
                let again = Pending::List { node, step: 1, part: Some(listing) };
                self.instances[inst].asks.insert(ask, again);
                self.rest(inst, ask, 1, node, Wanted::List { begun });
            }
            (Pending::List { part: Some(part), step: 1, .. }, Back::Listing(listing)) if back.step == 1 => {
                let whole = Listing { bridges: listing.bridges, ..part };
                self.coverage.count("world", "listing");
                self.handle(inst, Input::Listed(ask, Some(whole)));
            }
            (Pending::List { .. }, Back::Outcome(_)) => self.handle(inst, Input::Listed(ask, None)),
            (pending, _) => _ = self.instances[inst].asks.insert(ask, pending),
        }
    }

    fn hear(&mut self, inst: usize, link: usize, message: LinkMessage) {
        if !self.links[link].open {
            return;
        }
        let node = self.links[link].node;
        let (id, name) = (self.nodes[node].id.clone(), Link(link as u64 + 1));
        match message {
            LinkMessage::Up => self.handle(inst, Input::NodeUp(id, name)),
            LinkMessage::Pong(ask) => self.handle(inst, Input::Probed(ask)),
            LinkMessage::Event(event) => self.handle(inst, Input::Event(id, name, event)),
            LinkMessage::Replaced => {
                // Whoever was replaced does not fight for it: it is the pilot who says that it may try again.
                self.note(Col::Node, Col::Instance, "replaced", Who::inst(inst).with_node(node));
                self.links[link].open = false;
                if self.instances[inst].links.get(&node) == Some(&link) {
                    self.instances[inst].links.remove(&node);
                    self.instances[inst].wants.remove(&node);
                }
                self.handle(inst, Input::NodeReplaced(id, name));
            }
            LinkMessage::Down => {
                self.note(Col::Node, Col::Instance, "link is gone", Who::inst(inst).with_node(node));
                self.links[link].open = false;
                if self.instances[inst].links.get(&node) == Some(&link) {
                    self.instances[inst].links.remove(&node);
                    if self.instances[inst].wants.contains_key(&node) {
                        self.try_soon(inst, node);
                    }
                }
                self.handle(inst, Input::NodeDown(id, name));
            }
        }
    }

    fn handle(&mut self, inst: usize, input: Input) {
        let of = &mut self.instances[inst];
        let now = of.mono(self.now);
        let Some(brain) = &mut of.brain else { return };
        brain.handle(input, now);
        while let Some(output) = brain.poll() {
            of.outputs.push_back(output);
        }
        self.run_outputs(inst);
    }

    fn run_outputs(&mut self, inst: usize) {
        while self.instances[inst].is_awake() {
            let Some(output) = self.instances[inst].outputs.front() else { break };
            let due = match kind_of(output) {
                Some(kind) => self.boundary(kind),
                None => None,
            };
            match due {
                Some((number, Fault::StopAt { for_ms, checked, .. })) => {
                    if checked && let Some(output) = self.instances[inst].outputs.pop_front() {
                        self.instances[inst].held_ms = for_ms;
                        self.execute(inst, output);
                        self.instances[inst].held_ms = 0;
                    }
                    return self.stop(inst, for_ms, number);
                }
                Some((number, Fault::CrashAt { executed, down_ms, .. })) => {
                    if let Some(output) = self.instances[inst].outputs.pop_front().filter(|_| executed) {
                        self.execute(inst, output);
                    }
                    return self.crash(inst, down_ms, number);
                }
                _ => {}
            }
            if let Some(output) = self.instances[inst].outputs.pop_front() {
                self.execute(inst, output);
            }
        }
    }

    fn execute(&mut self, inst: usize, output: Output) {
        match output {
            Output::Lead(ask, candidate) => self.store_op(inst, Some(ask), StoreOp::Lead(candidate)),
            Output::Resign(epoch) => self.store_op(inst, None, StoreOp::Resign(epoch)),
            Output::Open { ask, epoch, read } => {
                self.store_op(inst, Some(ask), StoreOp::Open { epoch, read })
            }
            Output::Commit(ask, commit) => self.store_op(inst, Some(ask), StoreOp::Commit(commit)),
            Output::ReadInbox(ask, after) => self.store_op(inst, Some(ask), StoreOp::Inbox(after)),
            Output::ReadRegistrations(ask) => self.store_op(inst, Some(ask), StoreOp::Registrations),
            Output::Connect(id) => {
                let node = self.node_named(&id);
                if !self.instances[inst].wants.contains_key(&node) {
                    self.try_soon(inst, node);
                }
            }
            Output::Disconnect(id) => {
                let node = self.node_named(&id);
                self.instances[inst].wants.remove(&node);
                if let Some(link) = self.instances[inst].links.remove(&node) {
                    self.note(Col::Instance, Col::Node, "disconnects", Who::inst(inst).with_node(node));
                    self.close(node, link);
                }
            }
            Output::Probe { ask, link, .. } => self.probe(link.0 as usize - 1, ask),
            Output::List { ask, node, begun } => {
                let node = self.node_named(&node);
                self.instances[inst].asks.insert(ask, Pending::List { node, step: 0, part: None });
                self.rest(inst, ask, 0, node, Wanted::List { begun });
            }
            Output::Act { ask, effect, right } => {
                let node = self.node_named(effect.node());
                self.act(inst, ask, effect, right, node, 0);
            }
            Output::Note(note) => self.noted(inst, &note),
        }
    }

    fn act(&mut self, inst: usize, ask: Ask, effect: Effect, right: Right, node: usize, step: u8) {
        let of = &mut self.instances[inst];
        let now = of.mono(self.now);
        let may = of.brain.as_ref().is_some_and(|brain| brain.may_send(right, now));
        of.asks.insert(ask, Pending::Act { effect: effect.clone(), right, node, step });
        if may {
            self.rest(inst, ask, step, node, Wanted::Effect(effect));
        } else {
            self.coverage.count("world", "not sent for want of right");
            let back = Back::Outcome(Outcome::Unknown);
            let back = RestBack { inst, number: self.instances[inst].number, ask, step, back };
            self.after(0, Ev::RestBack(Box::new(back)));
        }
    }

    fn rest(&mut self, inst: usize, ask: Ask, step: u8, node: usize, wanted: Wanted) {
        let number = self.instances[inst].number;
        self.send_rest(Rest { inst, number, ask, step, node, wanted });
    }

    fn store_op(&mut self, inst: usize, ask: Option<Ask>, op: StoreOp) {
        if let Some(ask) = ask {
            self.instances[inst].asks.insert(ask, Pending::Store(op.clone()));
        }
        let number = self.instances[inst].number;
        self.ask_store(StoreAsk { inst, number, ask, op });
    }

    fn try_soon(&mut self, inst: usize, node: usize) {
        let of = &mut self.instances[inst];
        of.turns += 1;
        let (turn, number) = (of.turns, of.number);
        of.wants.insert(node, turn);
        let soon = self.rng.u64(20..1_000);
        self.after(soon, Ev::Attach(inst, number, node, turn));
    }

    /// This end gives a link up; the node sees it, unless nothing comes through.
    fn close(&mut self, node: usize, link: usize) {
        self.links[link].open = false;
        if self.nodes[node].attached == Some(link) && !self.links[link].silent {
            self.nodes[node].attached = None;
        }
    }

    /// It sleeps until it wants to be woken.
    fn sleep(&mut self, inst: usize) {
        let now = self.now;
        let of = &mut self.instances[inst];
        let Some(due) = of.brain.as_ref().and_then(|brain| brain.next_timeout()) else { return };
        let at = of.when(due, now).max(now + 1);
        if of.wake_at.is_some_and(|before| before <= at) {
            return;
        }
        of.wake_at = Some(at);
        of.busy = if of.busy.0 == now / 1_000 { (of.busy.0, of.busy.1 + 1) } else { (now / 1_000, 0) };
        let (number, restless) = (of.number, of.busy.1 > WAKES_MAX);
        if restless {
            self.fail("Spin", "wants to be woken all the time".to_owned(), Who::inst(inst));
        }
        self.at(at, Ev::Wake(inst, number));
    }

    fn noted(&mut self, inst: usize, note: &Note) {
        let (word, number) = match note {
            Note::Leads(epoch) => ("leads", *epoch),
            Note::StepsDown(_) => ("steps down", 0),
            Note::History(epoch) => ("writes everything anew", *epoch),
            Note::Damaged(count) => ("damaged records", u64::from(*count)),
            Note::Partial => ("state in part", 0),
            Note::Offering => ("offers begin", 0),
        };
        self.coverage.count("note", word);
        self.note(Col::Instance, Col::Instance, word, Who::inst(inst).with_number(number));
    }
}

fn kind_of(output: &Output) -> Option<Filter> {
    match output {
        Output::Lead(..) => Some(Filter::Lead),
        Output::Open { .. } => Some(Filter::Open),
        Output::Commit(..) => Some(Filter::Commit),
        Output::ReadInbox(..) => Some(Filter::Inbox),
        Output::Connect(_) => Some(Filter::Connect),
        Output::List { .. } => Some(Filter::List),
        Output::Act { effect, .. } => Some(Filter::of_effect(effect)),
        Output::Resign(_)
        | Output::ReadRegistrations(_)
        | Output::Disconnect(_)
        | Output::Probe { .. }
        | Output::Note(_) => None,
    }
}
