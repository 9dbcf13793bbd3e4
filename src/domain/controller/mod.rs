//! The queue's machine: [`Controller::handle`] takes an input and the time, then the outputs are drained with
//! [`Controller::next_output`]. The only place where queue decisions are made; no clock, no chance, no I/O.
//!
//! Every rule has one home:
//!
//! * [`callers`]: who is let in, what becomes of a call that no agent takes, the caller's end
//! * [`offers`]: how an offer is made, answered, joined, and ended
//! * [`announce`]: what an agent hears before the join
//! * [`agents`]: who may be asked, commands, what follows an agent's call · [`laid`]: agents and queues that are laid down at run time ·
//!   [`own`]: calls of their phones that no offer brought
//! * [`reconcile`]: what a node's own listing changes · [`restore`]: what a new leader makes of what it finds
//! * [`book`]: what is known, and what has changed of it
//!
//! Three promises hold them together. *A claim on an agent ends only when its leg's end was seen, or can never ring*: an offer
//! that came to nothing stays, [`Ending`](crate::domain::offer::OfferStage::Ending), until then. *A call keeps its place*: it
//! is in its queue's line until an agent has answered, and its time is never changed. *Nobody is left in silence*: every end
//! leads to the next agent, to a treatment, or to being hung up, and is repeated until it is seen to be done.

mod agents;
mod announce;
mod book;
mod callers;
mod io;
mod laid;
mod offers;
mod own;
mod reconcile;
mod restore;
#[cfg(test)]
mod tests;
mod told;
mod transfer;

pub use io::*;
pub use offers::{LEG_PREFIX, offer_of};
pub use told::*;

use crate::domain::agent::{Agent, AgentRules};
use crate::domain::call::{Call, Stage};
use crate::domain::id::{AgentId, CallId, ChannelId, NodeId, OfferId, QueueId, TreatmentId};
use crate::domain::matching::Matcher;
use crate::domain::offer::{Offer, OfferStage};
use crate::domain::queue::{QueueRules, Setup};
use crate::domain::time::EpochMs;
use book::{Book, Present};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a node was asked and has not been seen to do is asked again after so long, in ms.
pub const AGAIN_MS: u64 = 2_000;

/// A join is tried so often.
pub const JOIN_TRIES: u32 = 3;

/// After so many offers that crashed a call goes to its treatment.
pub const CRASHES_MAX: u32 = 3;

/// A phone that was busy is left alone for so long, in ms.
pub const BUSY_REST_MS: u64 = 5_000;

/// A phone that could not be reached is left alone for so long, in ms.
pub const UNREACHABLE_REST_MS: u64 = 10_000;

/// After a Kamailio found a token void, its agent is left alone for so long, in ms: the Kamailio may be behind.
pub const FENCED_REST_MS: u64 = 1_000;

/// What a listing does not show is believed to be gone only if it was last heard of so long before the listing began, in ms.
pub const GRACE_MS: u64 = 2_000;

/// Agents that are laid down at run time, at most.
pub const RULES_MAX: usize = 10_000;

/// Queues that are laid down at run time, at most.
pub const QUEUES_MAX: usize = 1_000;

/// A channel that has ended is not believed in for so long, in ms, when a listing shows it.
const TOMB_MS: u64 = 60_000;

/// Channels that have ended and are remembered, at most: a cell of 20,000 calls that last a minute has a third of them.
const TOMBS_MAX: usize = 100_000;

/// What a leader leaves behind in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its calls.
    pub calls: Vec<Call>,
    /// Its agents.
    pub agents: Vec<Agent>,
    /// Its offers.
    pub offers: Vec<Offer>,
    /// Agents that were laid down at run time.
    pub rules: Vec<(AgentId, AgentRules)>,
    /// Queues that were laid down at run time.
    pub queues: Vec<(QueueId, QueueRules)>,
}

/// Defects that a simulation has to find. No configuration reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeded {
    /// A call that comes back from an offer begins to wait anew.
    ReturnedCallLosesItsTime,
    /// A claim on an agent ends by time alone.
    ClaimFreedByExpiry,
    /// What a listing does not show is removed, however young it is.
    ReconcileWithoutGrace,
    /// An agent is asked again before the end of the last leg was seen.
    OfferBeforeLegEnd,
}

/// The queue's machine.
#[derive(Debug)]
pub struct Controller {
    epoch: u64,
    offers_made: u64,
    /// What the configuration says.
    file: Arc<Setup>,
    /// Agents that were laid down at run time.
    rules: BTreeMap<AgentId, AgentRules>,
    /// Whose phones those of `rules` are.
    aors: BTreeMap<Arc<str>, AgentId>,
    /// Queues that were laid down at run time.
    queues: BTreeMap<QueueId, QueueRules>,
    /// All together.
    setup: Arc<Setup>,
    book: Book,
    matcher: Matcher,
    agent_of: BTreeMap<Arc<str>, AgentId>,
    present: BTreeMap<QueueId, Present>,
    /// Where callers of a queue go that is laid down no longer, if it has said so.
    gone_queues: BTreeMap<QueueId, TreatmentId>,
    /// Nodes that have been listed since they were last away.
    listed: BTreeSet<NodeId>,
    timers: BTreeSet<(EpochMs, Timer)>,
    /// Channels that have ended, and when.
    tombs: BTreeMap<ChannelId, EpochMs>,
    /// The place that was given last to a caller without one.
    placed: EpochMs,
    offering: bool,
    seeded: Option<Seeded>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Its wait is over, or what was asked for it is asked again.
    Call(CallId),
    /// It has rung long enough, or what was asked for it is asked again.
    Offer(OfferId),
    /// Wrap-up or rest is over.
    Agent(AgentId),
    /// It is no longer remembered.
    Tomb(ChannelId),
}

impl Controller {
    /// An empty one; `seed` is what the strategy `random` draws from. Offers begin with [`Input::Offering`].
    pub fn new(epoch: u64, setup: Arc<Setup>, seed: u64, now: EpochMs) -> Controller {
        let mut new = Controller {
            epoch,
            offers_made: 0,
            file: Arc::default(),
            rules: BTreeMap::new(),
            aors: BTreeMap::new(),
            queues: BTreeMap::new(),
            setup: Arc::default(),
            book: Book::default(),
            matcher: Matcher::new(seed),
            agent_of: BTreeMap::new(),
            present: BTreeMap::new(),
            gone_queues: BTreeMap::new(),
            listed: BTreeSet::new(),
            timers: BTreeSet::new(),
            tombs: BTreeMap::new(),
            placed: EpochMs(0),
            offering: false,
            seeded: None,
        };
        new.set_file(setup, now);
        new.book.close();
        new
    }

    /// Puts a defect in, for a test that has to find it.
    pub fn seed_defect(&mut self, seeded: Option<Seeded>) {
        self.seeded = seeded;
    }

    /// Goes on under another epoch: the store has forgotten, and gets everything once more.
    pub fn rewrite(&mut self, epoch: u64, now: EpochMs) -> Vec<Change> {
        self.epoch = epoch;
        self.offers_made = 0;
        let rules = self.rules.iter().map(|(id, rules)| Change::Rules(id.clone(), Box::new(rules.clone())));
        let queues = self.queues.iter().map(|(id, rules)| Change::Queue(id.clone(), Box::new(rules.clone())));
        let mut all: Vec<Change> = rules.chain(queues).collect();
        all.extend(self.book.rewrite(now));
        all
    }

    /// Takes in what has happened, and decides.
    pub fn handle(&mut self, input: Input, now: EpochMs) {
        self.fire(now);
        match input {
            Input::Tick => {}
            Input::Setup(setup) => self.set_file(setup, now),
            Input::CallerEntered(seen) => self.caller_entered(seen, now),
            Input::CallerLeft(channel) => self.caller_left(&channel, now),
            Input::LegAnswered { offer, leg } => self.leg_answered(&offer, leg, now),
            Input::Transfer(wanted) => self.transfer(&wanted, now),
            Input::Announced(offer) => self.announced(&offer, now),
            Input::LegEnded { leg, how } => self.leg_ended(&leg, how, now),
            Input::Answered { effect, outcome } => self.answered(effect, outcome, now),
            Input::Unsent(effect) => self.unsent(effect, now),
            Input::Listing(listing) => self.listing(listing, now),
            Input::NodeAway(node) => self.node_away(&node),
            Input::NodeDead(node) => self.node_dead(&node, now),
            Input::Registered(all) => self.registered(&all, now),
            Input::Command { key, command } => self.command(key, command, now),
            Input::Malformed { key } => {
                self.book.tell(now, What::Command { key, said: Said::Malformed });
            }
            Input::Offering(offering) => self.offering = offering,
        }
        self.offer_all(now);
        self.book.close();
    }

    /// The next output; `None`: nothing until the next input.
    pub fn next_output(&mut self) -> Option<Output> {
        self.book.next_output()
    }

    /// When time alone will change something.
    pub fn next_timeout(&self) -> Option<EpochMs> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let change = self.matcher.next_change().filter(|_| self.offering);
        timer.into_iter().chain(change).min()
    }

    /// Whether a claim that waited for its commit is still to be carried out.
    pub fn wants(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Attend(_)
            | Effect::Join { .. }
            | Effect::Tell { .. }
            | Effect::Announce { .. }
            | Effect::Hush { .. } => true,
            // A listing may have shown that its two talk.
            Effect::DropLeg { offer, .. } => self
                .book
                .offers
                .get(offer)
                .is_none_or(|held| matches!(held.offer.stage, OfferStage::Ending { .. })),
            Effect::Originate(originate) => {
                self.book.offers.get(&originate.offer).is_some_and(|held| match held.offer.stage {
                    OfferStage::Making => true,
                    OfferStage::Ringing { .. }
                    | OfferStage::Announcing { .. }
                    | OfferStage::Connecting { .. }
                    | OfferStage::Joined { .. }
                    | OfferStage::Ending { .. } => false,
                })
            }
            Effect::Continue { channel, .. } | Effect::HangUp { channel, .. } => {
                self.book.call_at(channel).and_then(|id| self.book.calls.get(&id)).is_some_and(|held| {
                    match held.call.stage {
                        Stage::Treated { .. } | Stage::Ending { .. } => true,
                        Stage::Waiting
                        | Stage::Offered { .. }
                        | Stage::Connecting { .. }
                        | Stage::Connected { .. } => false,
                    }
                })
            }
        }
    }

    /// The calls, by id.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.book.calls.values().map(|held| &held.call)
    }

    /// The offers, by id.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.book.offers.values().map(|held| &held.offer)
    }

    /// The agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.book.agents.values().map(|held| &held.agent)
    }

    /// The agents that were laid down at run time, by id.
    pub fn rules(&self) -> &BTreeMap<AgentId, AgentRules> {
        &self.rules
    }

    /// The queues that were laid down at run time, by id.
    pub fn queues(&self) -> &BTreeMap<QueueId, QueueRules> {
        &self.queues
    }

    /// What is laid down, in the configuration and at run time.
    pub fn setup(&self) -> &Arc<Setup> {
        &self.setup
    }

    /// The nodes that have something of a call or an offer.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        let calls = self.calls().map(|call| &call.channel.node);
        calls.chain(self.offers().map(|offer| &offer.leg.node)).cloned().collect()
    }

    /// One offer.
    pub fn find_offer(&self, id: &OfferId) -> Option<&Offer> {
        self.book.offers.get(id).map(|held| &held.offer)
    }

    /// One call.
    pub fn call(&self, id: &CallId) -> Option<&Call> {
        self.book.calls.get(id).map(|held| &held.call)
    }

    /// One agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.book.agents.get(id).map(|held| &held.agent)
    }

    /// Calls that have a place in a queue.
    pub fn in_line(&self, queue: &QueueId) -> usize {
        self.book.in_line(queue)
    }

    fn set_timer(&mut self, at: EpochMs, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Works off what is due. A timer is only a reason to look: what is to be done follows from the state that is found.
    fn fire(&mut self, now: EpochMs) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            match self.timers.pop_first() {
                Some((_, Timer::Call(id))) => self.call_due(&id, now),
                Some((_, Timer::Offer(id))) => self.offer_due(&id, now),
                Some((_, Timer::Agent(id))) => self.agent_due(&id, now),
                Some((at, Timer::Tomb(channel)))
                    if self.tombs.get(&channel).is_some_and(|ended| *ended + TOMB_MS <= at) =>
                {
                    self.tombs.remove(&channel);
                }
                Some((_, Timer::Tomb(_))) | None => {}
            }
        }
    }

    fn bury(&mut self, channel: &ChannelId, now: EpochMs) {
        // Of more, an older listing may show one once again; the next one mends that.
        if self.tombs.len() >= TOMBS_MAX {
            return;
        }
        self.tombs.insert(channel.clone(), now);
        self.set_timer(now + TOMB_MS, Timer::Tomb(channel.clone()));
    }

    fn has_defect(&self, defect: Seeded) -> bool {
        self.seeded == Some(defect)
    }
}
