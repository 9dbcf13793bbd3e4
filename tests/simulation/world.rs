//! The world: one queue of events in the order of time, and everything that there is.

use super::checks::{Coverage, Failure};
use super::cockpit::{Inbound, Instance};
use super::desk::StoreRoom;
use super::dispatch::Dispatch;
use super::faults::Faults;
use super::ladder::{Col, Line, Who};
use super::net::{Link, LinkMessage, Rest, RestBack, StoreAsk};
use super::node::Node;
use super::people::{Agent, Caller, Choice};
use super::plan::{Ms, Plan};
use super::proxy::{AgentLeg, Proxy};
use super::{Options, Report};
use mqs::cell::pilot::Ask;
use mqs::domain::controller::{Command, LegEnd};
use mqs::domain::id::{CallId, LeaseId, OfferId};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// Something that will happen. Numbers are indices into the world's lists.
pub enum Ev {
    /// The n-th of the plan's callers dials.
    Dial(usize),
    /// Someone who gave up calls again.
    Redial(usize),
    /// The proxy asks for a node a second time.
    RouteAgain(usize),
    CallerInvite(usize),
    NodeSilent(usize),
    /// The dialplan tries to enter the application.
    Knock(usize),
    Patience(usize),
    CallerHangsUp(usize),
    CallerBye(usize),
    TalkOver(usize, usize),
    TalkMax(usize, usize),
    TreatmentOver(usize),
    /// The proxy tells the store of leases.
    LeaseDone(LeaseId, Option<usize>),
    LeaseConfirm(usize),

    Register(usize, usize),
    RegisterArrives(usize, usize, u32),
    Mood(usize),
    Supervisor,
    Operator,
    Send(String, Command),

    LegInvite(usize),
    Redeem(usize, u8),
    Redeemed(usize, bool),
    PhoneInvite(usize),
    PhoneDecides(usize, Choice),
    PhoneSilence(usize),
    LegReply(usize, Result<(), LegEnd>),
    ToPhone(usize),
    NoReply(usize),
    RingOver(usize),
    AnnounceOver(usize),

    Wake(usize, u32),
    Store(Box<StoreAsk>),
    Rest(Box<Rest>),
    RestBack(Box<RestBack>),
    Inbound(usize, u32, Box<Inbound>),
    TimeOut(usize, u32, Ask, u8),
    Attach(usize, u32, usize, u32),
    Link(usize, Box<LinkMessage>),
    Boot(usize),
    GoOn(usize, u32),
    Health(usize, u32, usize),

    Fault(usize),
    Replica(usize),
    NodeBack(usize),
    LinkDies(usize),
    Heal,
    Watch,
    Loads,
    TakenOver(Ms),
    StillBehind(usize, usize),
}

struct Item {
    at: Ms,
    seq: u64,
    what: Ev,
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    /// The heap gives the greatest: that is the earliest.
    fn cmp(&self, other: &Item) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

pub struct World {
    pub now: Ms,
    heap: BinaryHeap<Item>,
    seq: u64,
    pub rng: fastrand::Rng,
    pub options: Options,
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub proxies: Vec<Proxy>,
    pub instances: Vec<Instance>,
    pub links: Vec<Link>,
    pub callers: Vec<Caller>,
    pub legs: Vec<AgentLeg>,
    pub agents: Vec<Agent>,
    pub store: StoreRoom,
    pub dispatch: Dispatch,
    pub faults: Faults,
    pub coverage: Coverage,
    pub lines: Vec<Line>,
    pub failure: Option<Failure>,
    pub healed: bool,
    /// The store, an instance or what is between them was disturbed until then.
    pub shaken: Ms,
    pub caller_of: BTreeMap<CallId, usize>,
    /// Offers whose token was ever issued, by an acknowledged or an executed batch.
    pub issued: BTreeMap<OfferId, Ms>,
    /// Keys of commands: when they were accepted, and how often they took effect.
    pub keys: BTreeMap<String, (Ms, u32)>,
    pub key_number: u64,
    /// When the last caller and the last leg were gone after the heal.
    empty_since: Option<Ms>,
}

/// After the heal everybody is served within this time.
const SERVED_MS: Ms = 600_000;
/// What is kept must be gone so long after the last call.
const SETTLED_MS: Ms = 90_000;
/// A machine that asks for more than this in one seed goes round in circles.
const EVENTS_MAX: u64 = 20_000_000;

impl World {
    pub fn new(seed: u64, options: Options) -> World {
        let plan = Plan::from_seed(seed);
        let rng = fastrand::Rng::with_seed(seed);
        let mut world = World {
            now: 0,
            heap: BinaryHeap::new(),
            seq: 0,
            nodes: Node::all(plan.nodes),
            proxies: Proxy::all(),
            instances: Vec::new(),
            links: Vec::new(),
            callers: Vec::new(),
            legs: Vec::new(),
            agents: Agent::all(&plan),
            store: StoreRoom::new(options.desk),
            dispatch: Dispatch::new(plan.nodes, options.bug),
            faults: Faults::default(),
            coverage: Coverage::default(),
            lines: Vec::with_capacity(16_384),
            failure: None,
            healed: false,
            shaken: 0,
            caller_of: BTreeMap::new(),
            issued: BTreeMap::new(),
            keys: BTreeMap::new(),
            key_number: 0,
            empty_since: None,
            rng,
            options,
            plan,
        };
        world.begin(seed);
        world
    }

    fn begin(&mut self, seed: u64) {
        for number in 0..self.plan.arrivals.len() {
            self.at(self.plan.arrivals[number].0, Ev::Dial(number));
        }
        let faults = if self.options.calm { 0 } else { self.plan.faults.len() };
        for number in 0..faults {
            self.at(self.plan.faults[number].at, Ev::Fault(number));
        }
        self.people_come();
        for inst in 0..self.plan.instances {
            self.instances.push(Instance::new(inst, seed));
            let soon = self.rng.u64(..3_000);
            self.at(soon, Ev::Boot(inst));
        }
        self.at(self.plan.heal_at, Ev::Heal);
        self.at(500, Ev::Watch);
        self.at(5_000, Ev::Loads);
    }

    pub fn at(&mut self, at: Ms, what: Ev) {
        self.seq += 1;
        self.heap.push(Item { at: at.max(self.now), seq: self.seq, what });
    }

    pub fn after(&mut self, ms: Ms, what: Ev) {
        self.at(self.now + ms, what);
    }

    /// True once in so many times.
    pub fn chance(&mut self, of_100: u32) -> bool {
        self.rng.u32(..100) < of_100
    }

    pub fn note(&mut self, from: Col, to: Col, word: &'static str, who: Who) {
        self.lines.push(Line { at: self.now, from, to, word, who });
    }

    pub fn fail(&mut self, check: &'static str, what: String, who: Who) {
        if self.failure.is_none() {
            self.failure = Some(Failure::new(check, self.now, what, who));
        }
    }

    /// Runs until everything is over, or until something is wrong.
    pub fn run(mut self, seed: u64) -> Result<Report, Box<Failure>> {
        while self.failure.is_none() {
            let Some(item) = self.heap.pop() else { break };
            self.now = item.at;
            if self.is_over() {
                self.check_the_end();
                break;
            }
            self.happen(item.what);
            if self.seq > EVENTS_MAX {
                self.fail("Spin", format!("{EVENTS_MAX} events"), Who::default());
            }
        }
        match self.failure.take() {
            None => Ok(Report { events: self.seq, ms: self.now, coverage: self.coverage }),
            Some(failure) => Err(Box::new(failure.told(seed, &self))),
        }
    }

    fn is_over(&mut self) -> bool {
        if !self.healed {
            return false;
        }
        let busy = self.nodes.iter().any(|node| !node.callers.is_empty() || !node.legs.is_empty())
            || self.callers.iter().any(|caller| !caller.is_over());
        if busy {
            self.empty_since = None;
            return self.now > self.plan.heal_at + SERVED_MS;
        }
        let since = *self.empty_since.get_or_insert(self.now);
        self.now > since + SETTLED_MS
    }

    fn happen(&mut self, what: Ev) {
        match what {
            Ev::Dial(number) => self.dial(number),
            Ev::Redial(caller) => self.redial(caller),
            Ev::RouteAgain(caller) => self.route_again(caller),
            Ev::CallerInvite(caller) => self.caller_invite(caller),
            Ev::NodeSilent(caller) => self.node_silent(caller),
            Ev::Knock(caller) => self.knock(caller),
            Ev::Patience(caller) => self.patience_ends(caller),
            Ev::CallerHangsUp(caller) => self.caller_hangs_up(caller),
            Ev::CallerBye(caller) => self.caller_bye(caller),
            Ev::TalkOver(caller, leg) => self.talk_over(caller, leg),
            Ev::TalkMax(caller, leg) => self.talk_max(caller, leg),
            Ev::TreatmentOver(caller) => self.treatment_over(caller),
            Ev::LeaseDone(lease, node) => self.lease_done(lease, node),
            Ev::LeaseConfirm(caller) => self.lease_confirm(caller),
            Ev::Register(agent, phone) => self.register(agent, phone),
            Ev::RegisterArrives(agent, phone, cseq) => self.register_arrives(agent, phone, cseq),
            Ev::Mood(agent) => self.mood(agent),
            Ev::Supervisor => self.supervise(),
            Ev::Operator => self.operate(),
            Ev::Send(key, command) => self.send(key, command),
            Ev::LegInvite(leg) => self.leg_invite(leg),
            Ev::Redeem(leg, tries) => self.redeem(leg, tries),
            Ev::Redeemed(leg, rings) => self.redeemed(leg, rings),
            Ev::PhoneInvite(leg) => self.phone_invite(leg),
            Ev::PhoneDecides(leg, choice) => self.phone_decides(leg, choice),
            Ev::PhoneSilence(leg) => self.phone_silence(leg),
            Ev::LegReply(leg, reply) => self.leg_reply(leg, reply),
            Ev::ToPhone(leg) => self.phone_told(leg),
            Ev::NoReply(leg) => self.no_reply(leg),
            Ev::RingOver(leg) => self.ring_over(leg),
            Ev::AnnounceOver(leg) => self.announce_over(leg),
            Ev::Wake(inst, number) => self.wake(inst, number),
            Ev::Store(ask) => self.store_arrives(*ask),
            Ev::Rest(rest) => self.rest_arrives(*rest),
            Ev::RestBack(back) => self.rest_back(*back),
            Ev::Inbound(inst, number, what) => self.inbound(inst, number, *what),
            Ev::TimeOut(inst, number, ask, step) => self.inbound(inst, number, Inbound::TimeOut(ask, step)),
            Ev::Attach(inst, number, node, turn) => self.attach(inst, number, node, turn),
            Ev::Link(link, message) => self.link_message(link, *message),
            Ev::Boot(inst) => self.boot(inst),
            Ev::GoOn(inst, number) => self.go_on(inst, number),
            Ev::Health(inst, number, node) => self.health(inst, number, node),
            Ev::Fault(index) => self.strike(index),
            Ev::Replica(number) => self.replica_takes_over(number),
            Ev::NodeBack(node) => self.revive_node(node),
            Ev::LinkDies(link) => self.link_dies(link),
            Ev::Heal => self.heal(),
            Ev::Watch => self.watch(),
            Ev::Loads => self.check_loads(),
            Ev::StillBehind(leg, caller) => self.check_still_behind(leg, caller),
            Ev::TakenOver(since) => self.check_taken_over(since),
        }
    }
}
