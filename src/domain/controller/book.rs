//! What the controller knows, and what has changed of it since it was last told to the store.

use super::io::{Change, Effect, Output};
use super::told::{Event, What};
use crate::domain::agent::{Agent, Contact, OwnCallId};
use crate::domain::call::{Call, Channel, Stage};
use crate::domain::id::{AgentId, CallId, ChannelId, OfferId, QueueId};
use crate::domain::matching::Priority;
use crate::domain::offer::{Offer, OfferStage};
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A call, and what only its leader knows.
#[derive(Clone, Debug)]
pub(super) struct HeldCall {
    pub call: Call,
    /// When its channel was last heard of.
    pub seen: EpochMs,
    /// What was asked to end it is asked again at that time.
    pub again: EpochMs,
    /// The offer to whom the agent passes the caller on. A later leader sees it by its stage: there is one that rings beside the one
    /// by which the two talk.
    pub transfer: Option<OfferId>,
    /// The leg of the agent who has passed the caller on to a place outside: its phone is told when the caller has left. A later
    /// leader does not know, and hangs it up.
    pub passed_by: Option<Channel>,
    /// It was brought from one agent to another, for whom it has not waited. A later leader does not know.
    pub passed: bool,
    /// It takes the place of another call with an agent, and is not joined yet. A later leader joins the two if the store says so.
    pub replaces: bool,
    /// Its node did not do all that was asked for the caller who waits. A later leader does not know, and goes by the note.
    pub neglected: bool,
    /// Where the store's list has it.
    placed: Option<(QueueId, Priority, EpochMs)>,
}

/// An offer, and what only its leader knows.
#[derive(Clone, Debug)]
pub(super) struct HeldOffer {
    pub offer: Offer,
    /// When its leg was last heard of.
    pub seen: EpochMs,
    /// Since when its token is known to be void, so that a leg that was not there since will never ring.
    pub void_since: Option<EpochMs>,
    /// What the store has of its token.
    token: Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Nothing yet.
    None,
    /// It is good for one leg.
    Issued,
    /// It is void.
    Revoked,
}

/// An agent, and what only the leader knows.
#[derive(Clone, Debug)]
pub(super) struct HeldAgent {
    pub agent: Agent,
    /// The phones, the one that was refreshed last first.
    pub contacts: Vec<Contact>,
    /// The phone was found unregistered then: nothing that was refreshed before counts.
    pub silent_since: Option<EpochMs>,
    /// How often the agent became ready.
    pub round: u64,
    /// The agent is to be forgotten when the present leg has ended.
    pub leaving: bool,
    /// Logged in, and not paused, as the queues have counted it.
    pub counted: (bool, bool),
    /// Own calls that have ended of late, the latest last: one that is told to begin behind its end does not begin.
    pub ended: VecDeque<(OwnCallId, EpochMs)>,
}

/// Who of a queue's agents is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub logged_in: usize,
    pub unpaused: usize,
}

/// Calls, offers and agents, and what is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub calls: BTreeMap<CallId, HeldCall>,
    pub offers: BTreeMap<OfferId, HeldOffer>,
    pub agents: BTreeMap<AgentId, HeldAgent>,
    /// Which call a caller's channel belongs to.
    pub by_channel: BTreeMap<ChannelId, CallId>,
    /// The offers that name each agent: one, but for what a store has forgotten.
    by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
    /// The calls that have a place in each queue.
    pub lines: BTreeMap<QueueId, BTreeSet<CallId>>,
    changed_calls: BTreeSet<CallId>,
    changed_offers: BTreeSet<OfferId>,
    changed_agents: BTreeSet<AgentId>,
    effects: Vec<Effect>,
    events: Vec<Event>,
    out: VecDeque<Output>,
}

impl HeldCall {
    fn new(call: Call, seen: EpochMs) -> HeldCall {
        HeldCall {
            call,
            seen,
            again: EpochMs(0),
            transfer: None,
            passed_by: None,
            passed: false,
            replaces: false,
            neglected: false,
            placed: None,
        }
    }
}

impl Book {
    /// Remembers a call; it is told to the store.
    pub fn add_call(&mut self, call: Call, seen: EpochMs) {
        let id = call.id.clone();
        self.by_channel.insert(call.channel.id.clone(), id.clone());
        let held = HeldCall::new(call, seen);
        self.calls.insert(id.clone(), held);
        self.changed_calls.insert(id);
    }

    /// Remembers a call as the store has it.
    pub fn restore_call(&mut self, call: Call) {
        let placed = call.stage.is_in_line().then(|| (call.queue.clone(), call.priority, call.enqueued));
        if placed.is_some() {
            self.lines.entry(call.queue.clone()).or_default().insert(call.id.clone());
        }
        self.by_channel.insert(call.channel.id.clone(), call.id.clone());
        let held = HeldCall { placed, ..HeldCall::new(call, EpochMs(0)) };
        self.calls.insert(held.call.id.clone(), held);
    }

    /// A call to be changed; it is told to the store.
    pub fn call_mut(&mut self, id: &CallId) -> Option<&mut HeldCall> {
        let held = self.calls.get_mut(id)?;
        self.changed_calls.insert(id.clone());
        Some(held)
    }

    /// Brings a call to another stage of its life, and into its queue's line or out of it.
    pub fn set_stage(&mut self, id: &CallId, stage: Stage) {
        let Some(held) = self.calls.get_mut(id) else { return };
        held.call.stage = stage;
        self.changed_calls.insert(id.clone());
        if held.call.stage.is_in_line() {
            self.lines.entry(held.call.queue.clone()).or_default().insert(id.clone());
        } else {
            self.leave_line(id);
        }
    }

    /// Takes a call out of the line that it stands in, to give it another one.
    pub fn leave_line(&mut self, id: &CallId) {
        let Some(held) = self.calls.get(id) else { return };
        let Some(line) = self.lines.get_mut(&held.call.queue) else { return };
        line.remove(id);
        // A line is named by whoever calls: of names that nobody stands by any more nothing is to stay.
        if line.is_empty() {
            self.lines.remove(&held.call.queue);
        }
    }

    /// Forgets a call.
    pub fn remove_call(&mut self, id: &CallId) -> Option<Call> {
        self.leave_line(id);
        let held = self.calls.remove(id)?;
        self.by_channel.remove(&held.call.channel.id);
        if let Some((queue, ..)) = held.placed {
            self.out.push_back(Output::Change(Change::Leave { queue, call: id.clone() }));
        }
        self.changed_calls.insert(id.clone());
        Some(held.call)
    }

    /// Remembers an offer; it is told to the store.
    pub fn add_offer(&mut self, offer: Offer, seen: EpochMs) {
        let id = offer.id.clone();
        self.by_agent.entry(offer.agent.clone()).or_default().insert(id.clone());
        let held = HeldOffer { offer, seen, void_since: None, token: Token::None };
        self.offers.insert(id.clone(), held);
        self.changed_offers.insert(id);
    }

    /// Remembers an offer of an earlier epoch, as the store or its leg has it: its token is void.
    pub fn restore_offer(&mut self, offer: Offer) {
        let id = offer.id.clone();
        let void_since = Some(EpochMs(0));
        self.by_agent.entry(offer.agent.clone()).or_default().insert(id.clone());
        self.offers.insert(id, HeldOffer { offer, seen: EpochMs(0), void_since, token: Token::Issued });
    }

    /// An offer to be changed; it is told to the store.
    pub fn offer_mut(&mut self, id: &OfferId) -> Option<&mut HeldOffer> {
        let held = self.offers.get_mut(id)?;
        self.changed_offers.insert(id.clone());
        Some(held)
    }

    /// Forgets an offer.
    pub fn remove_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let held = self.offers.remove(id)?;
        if held.token == Token::Issued {
            self.out.push_back(Output::Change(Change::Revoke(id.clone())));
        }
        if let Some(offers) = self.by_agent.get_mut(&held.offer.agent) {
            offers.remove(id);
            if offers.is_empty() {
                self.by_agent.remove(&held.offer.agent);
            }
        }
        self.changed_offers.insert(id.clone());
        Some(held.offer)
    }

    /// Remembers an agent.
    pub fn add_agent(&mut self, agent: Agent) {
        let held = HeldAgent {
            agent,
            contacts: Vec::new(),
            silent_since: None,
            round: 0,
            leaving: false,
            counted: (false, false),
            ended: VecDeque::new(),
        };
        self.agents.insert(held.agent.id.clone(), held);
    }

    /// An agent to be changed; it is told to the store.
    pub fn agent_mut(&mut self, id: &AgentId) -> Option<&mut HeldAgent> {
        let held = self.agents.get_mut(id)?;
        self.changed_agents.insert(id.clone());
        Some(held)
    }

    /// Forgets an agent.
    pub fn remove_agent(&mut self, id: &AgentId) -> Option<HeldAgent> {
        self.changed_agents.insert(id.clone());
        self.agents.remove(id)
    }

    /// Asks something of a node.
    pub fn act(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tells whoever wants to know.
    pub fn tell(&mut self, at: EpochMs, what: What) {
        self.events.push(Event { at, what });
    }

    /// Turns what has changed into outputs: changes first, so
    /// that a claim comes after what it depends on.
    pub fn close(&mut self) {
        // An offer is the truth about the claim on its agent: it stands before what follows from it.
        for id in std::mem::take(&mut self.changed_offers) {
            let change = match self.offers.get_mut(&id) {
                None => Change::OfferGone(id),
                Some(held) => {
                    let due = match held.offer.stage {
                        OfferStage::Ending { .. } => Token::Revoked,
                        OfferStage::Making
                        | OfferStage::Ringing { .. }
                        | OfferStage::Announcing { .. }
                        | OfferStage::Connecting { .. }
                        | OfferStage::Joined { .. } => Token::Issued,
                    };
                    // What is void stays so.
                    let due = if held.token == Token::Revoked { Token::Revoked } else { due };
                    match (held.token, due) {
                        (Token::None, Token::Issued) => {
                            self.out.push_back(Output::Change(Change::Issue(id.clone())));
                        }
                        (Token::Issued, Token::Revoked) => {
                            self.out.push_back(Output::Change(Change::Revoke(id.clone())));
                        }
                        (Token::None | Token::Issued | Token::Revoked, _) => {}
                    }
                    held.token = due;
                    Change::Offer(Box::new(held.offer.clone()))
                }
            };
            self.out.push_back(Output::Change(change));
        }
        for id in std::mem::take(&mut self.changed_agents) {
            let change = match self.agents.get(&id) {
                None => Change::AgentGone(id),
                Some(held) => Change::Agent(held.agent.clone()),
            };
            self.out.push_back(Output::Change(change));
        }
        for id in std::mem::take(&mut self.changed_calls) {
            self.close_call(id);
        }
        for event in self.events.drain(..) {
            self.out.push_back(Output::Change(Change::Event(event)));
        }
        for effect in self.effects.drain(..) {
            self.out.push_back(Output::Effect(effect));
        }
    }

    fn close_call(&mut self, id: CallId) {
        let Some(held) = self.calls.get_mut(&id) else {
            self.out.push_back(Output::Change(Change::CallGone(id)));
            return;
        };
        let call = &held.call;
        let place = call.stage.is_in_line().then(|| (call.queue.clone(), call.priority, call.enqueued));
        self.out.push_back(Output::Change(Change::Call(Box::new(call.clone()))));
        if held.placed == place {
            return;
        }
        if let Some((queue, ..)) = &held.placed
            && place.as_ref().is_none_or(|(to, ..)| to != queue)
        {
            let (queue, call) = (queue.clone(), id.clone());
            self.out.push_back(Output::Change(Change::Leave { queue, call }));
        }
        if let Some((queue, priority, enqueued)) = place.clone() {
            self.out.push_back(Output::Change(Change::Place { queue, call: id, priority, enqueued }));
        }
        held.placed = place;
    }

    /// Everything once more, for a store that has forgotten.
    pub fn rewrite(&mut self, now: EpochMs) -> Vec<Change> {
        let mut all = Vec::with_capacity(self.offers.len() * 2 + self.agents.len() + self.calls.len() * 2);
        for held in self.offers.values_mut() {
            // A leg that rings has used its token. One that does not is not let through any more: what the store has forgotten
            // may be that somebody else has called the agent.
            held.token = Token::Revoked;
            held.void_since = Some(now);
            all.push(Change::Offer(Box::new(held.offer.clone())));
        }
        all.extend(self.agents.values().map(|held| Change::Agent(held.agent.clone())));
        for (id, held) in &mut self.calls {
            let call = &held.call;
            all.push(Change::Call(Box::new(call.clone())));
            held.placed = call.stage.is_in_line().then(|| (call.queue.clone(), call.priority, call.enqueued));
            if let Some((queue, priority, enqueued)) = held.placed.clone() {
                all.push(Change::Place { queue, call: id.clone(), priority, enqueued });
            }
        }
        all
    }

    /// Something else that has changed.
    pub fn note(&mut self, change: Change) {
        self.out.push_back(Output::Change(change));
    }

    /// The next output.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// An offer that names the agent; one that is joined, if there is one.
    pub fn offer_of_agent(&self, agent: &AgentId) -> Option<&Offer> {
        let all = || self.by_agent.get(agent).into_iter().flatten().filter_map(|id| self.offers.get(id));
        let joined = all().find(|held| matches!(held.offer.stage, OfferStage::Joined { .. }));
        joined.or_else(|| all().next()).map(|held| &held.offer)
    }

    /// The call whose caller's channel this is.
    pub fn call_at(&self, channel: &Channel) -> Option<CallId> {
        self.by_channel.get(&channel.id).cloned()
    }

    /// How many calls have a place in a queue.
    pub fn in_line(&self, queue: &QueueId) -> usize {
        self.lines.get(queue).map_or(0, BTreeSet::len)
    }
}
