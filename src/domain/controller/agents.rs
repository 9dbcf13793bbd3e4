//! Agents: who may be asked, what they and others ask for, and what follows a call.

use super::book::{HeldAgent, Present};
use super::io::{Command, Registered};
use super::told::{Said, What};
use super::{BUSY_REST_MS, Controller, FENCED_REST_MS, Timer, UNREACHABLE_REST_MS, own};
use crate::domain::agent::{AgentState, Contact, Then};
use crate::domain::call::{Call, Stage, TreatedFor};
use crate::domain::id::{AgentId, CallId, QueueId, TreatmentId};
use crate::domain::matching::{Priority, ReadyAgent};
use crate::domain::offer::{Offer, OfferEnd};
use crate::domain::queue::Presence;
use crate::domain::time::EpochMs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an agent is paused who missed too many calls.
const MISSED: &str = "missed";

impl Controller {
    /// Brings an agent into another state; the queues and the matching follow.
    pub(super) fn set_agent(&mut self, id: &AgentId, state: AgentState, now: EpochMs) {
        let Some(held) = self.book.agent_mut(id) else { return };
        let before = held.agent.word();
        held.agent.state = state;
        let word = held.agent.word();
        if word != before {
            self.book.tell(now, What::Agent { agent: id.clone(), state: word });
        }
        self.count(id, now);
        self.seek_for(id, now);
    }

    /// Who may be asked is known to the matching; who may not, is not.
    pub(super) fn seek_for(&mut self, id: &AgentId, now: EpochMs) {
        self.matcher.unready(id);
        let Some(held) = self.book.agents.get_mut(id) else { return };
        let AgentState::Ready { rests_until } = held.agent.state else { return };
        if rests_until > now {
            self.set_timer(rests_until, Timer::Agent(id.clone()));
            return;
        }
        if let Some(until) = own::believed_until(&held.agent, self.setup.own_call_max_ms) {
            self.set_timer(until, Timer::Agent(id.clone()));
            return;
        }
        let Some(rules) = self.setup.agents.get(id) else { return };
        if !held.is_reachable() {
            return;
        }
        held.round += 1;
        self.matcher.ready(ReadyAgent {
            id: id.clone(),
            since: held.agent.idle_since,
            skills: rules.skills.clone(),
            memberships: rules.memberships.clone(),
            taken: held.agent.taken.clone(),
            round: held.round,
        });
    }

    /// Counts the agent where it is a member; the last one who leaves may empty a queue.
    pub(super) fn count(&mut self, id: &AgentId, now: EpochMs) {
        let Some(held) = self.book.agents.get(id) else { return };
        let state = &held.agent.state;
        let counted = (state.is_logged_in(), state.is_unpaused());
        let queues = self.count_as(id, counted);
        queues.iter().for_each(|queue| self.leave_if_empty(queue, now));
    }

    /// Counts the agent so; gives the queues in which that changes something.
    pub(super) fn count_as(&mut self, id: &AgentId, counted: (bool, bool)) -> Vec<QueueId> {
        let Some(held) = self.book.agents.get_mut(id) else { return Vec::new() };
        let before = std::mem::replace(&mut held.counted, counted);
        let Some(rules) = self.setup.agents.get(id).filter(|_| before != counted) else { return Vec::new() };
        for queue in rules.memberships.keys() {
            let present = self.present.entry(queue.clone()).or_default();
            present.logged_in = present.logged_in + usize::from(counted.0) - usize::from(before.0);
            present.unpaused = present.unpaused + usize::from(counted.1) - usize::from(before.1);
            if *present == Present::default() {
                self.present.remove(queue);
            }
        }
        rules.memberships.keys().cloned().collect()
    }

    /// Nobody speaks of the agent any more, and no leg claims them.
    pub(super) fn forget_agent(&mut self, id: &AgentId, now: EpochMs) {
        self.matcher.forget(id);
        let Some(held) = self.book.remove_agent(id) else { return };
        let gone = AgentState::Offline.as_str();
        if held.agent.word() != gone {
            self.book.tell(now, What::Agent { agent: id.clone(), state: gone });
        }
    }

    /// Whether those are there whom a queue wants to be there.
    pub(super) fn is_present(&self, queue: &QueueId, wanted: Presence) -> bool {
        let present = self.present.get(queue).copied().unwrap_or_default();
        match wanted {
            Presence::Any => true,
            Presence::LoggedIn => present.logged_in > 0,
            Presence::Unpaused => present.unpaused > 0,
        }
    }

    /// If nobody is there who has to be, the calls that wait leave, except those on nodes that are not heard at present.
    pub(super) fn leave_if_empty(&mut self, queue: &QueueId, now: EpochMs) {
        let Some(stay) = self.setup.queues.get(queue).map(|rules| rules.stay) else { return };
        if self.is_present(queue, stay) {
            return;
        }
        let waiting: Vec<CallId> =
            self.book.lines.get(queue).into_iter().flatten().filter(|id| self.waits(id)).cloned().collect();
        waiting.iter().for_each(|id| self.treat(id, TreatedFor::LeaveEmpty, now));
    }

    fn waits(&self, id: &CallId) -> bool {
        self.book.calls.get(id).is_some_and(|held| {
            held.call.stage == Stage::Waiting && self.listed.contains(&held.call.channel.node)
        })
    }

    /// The claim of an offer on an agent ends.
    pub(super) fn release(&mut self, offer: &Offer, why: OfferEnd, now: EpochMs) {
        let id = &offer.agent;
        let other = self.book.offer_of_agent(id).filter(|other| other.id != offer.id).cloned();
        let Some(held) = self.book.agents.get_mut(id) else { return };
        let then = match &held.agent.state {
            AgentState::Offered { offer: claim, then } | AgentState::Talking { offer: claim, then }
                if *claim == offer.id =>
            {
                then.clone()
            }
            AgentState::Offline
            | AgentState::Ready { .. }
            | AgentState::Offered { .. }
            | AgentState::Talking { .. }
            | AgentState::WrapUp { .. }
            | AgentState::Paused { .. } => return,
        };
        if let Some(other) = other {
            // A leg that nobody knew of when this one was made, because the store had forgotten it.
            self.set_agent(id, other.claim(then), now);
            return;
        }
        if held.leaving {
            self.forget_agent(id, now);
            return;
        }
        let missed = match why {
            OfferEnd::NoAnswer | OfferEnd::Refused => true,
            OfferEnd::Taken
            | OfferEnd::Transferred
            | OfferEnd::Busy
            | OfferEnd::Unregistered
            | OfferEnd::Unreachable
            | OfferEnd::Fenced
            | OfferEnd::Withdrawn
            | OfferEnd::Superseded
            | OfferEnd::JoinFailed
            | OfferEnd::Lost => false,
        };
        held.agent.misses += u32::from(missed);
        let talked = matches!(why, OfferEnd::Taken | OfferEnd::Transferred);
        if talked {
            held.agent.idle_since = now;
        }
        if why == OfferEnd::Unregistered {
            held.silent_since = Some(now);
        }
        let misses = held.agent.misses;
        let rest_ms = match why {
            OfferEnd::Busy => BUSY_REST_MS,
            OfferEnd::Unreachable => UNREACHABLE_REST_MS,
            OfferEnd::Fenced => FENCED_REST_MS,
            OfferEnd::Taken
            | OfferEnd::Transferred
            | OfferEnd::NoAnswer
            | OfferEnd::Refused
            | OfferEnd::Unregistered
            | OfferEnd::Withdrawn
            | OfferEnd::Superseded
            | OfferEnd::JoinFailed
            | OfferEnd::Lost => 0,
        };
        let misses_max = self.setup.agents.get(id).map_or(0, |rules| rules.misses_max);
        let state = match then {
            Then::Leave => AgentState::Offline,
            Then::Pause { reason } => AgentState::Paused { reason },
            Then::Ready if missed && misses_max > 0 && misses >= misses_max => {
                AgentState::Paused { reason: Arc::from(MISSED) }
            }
            Then::Ready if talked => {
                let until = now + self.wrap_up_ms(id, &offer.queue);
                if until > now {
                    self.set_timer(until, Timer::Agent(id.clone()));
                    AgentState::WrapUp { until }
                } else {
                    AgentState::Ready { rests_until: now }
                }
            }
            Then::Ready => AgentState::Ready { rests_until: now + rest_ms },
        };
        self.set_agent(id, state, now);
    }

    fn wrap_up_ms(&self, id: &AgentId, queue: &QueueId) -> u64 {
        let own = self.setup.agents.get(id).and_then(|rules| rules.wrap_up_ms);
        own.or_else(|| self.setup.queues.get(queue).map(|rules| rules.wrap_up_ms)).unwrap_or(0)
    }

    /// Wrap-up or rest may be over, or an own call be too old to be believed in.
    pub(super) fn agent_due(&mut self, id: &AgentId, now: EpochMs) {
        self.own_calls_due(id, now);
        let Some(held) = self.book.agents.get(id) else { return };
        match held.agent.state {
            AgentState::WrapUp { until } if until <= now => {
                self.set_agent(id, AgentState::Ready { rests_until: now }, now);
            }
            AgentState::Ready { rests_until } if rests_until <= now => self.seek_for(id, now),
            AgentState::Offline
            | AgentState::Ready { .. }
            | AgentState::Offered { .. }
            | AgentState::Talking { .. }
            | AgentState::WrapUp { .. }
            | AgentState::Paused { .. } => {}
        }
    }

    /// Who is registered, all of them.
    pub(super) fn registered(&mut self, all: &[Registered], now: EpochMs) {
        let mut contacts: BTreeMap<AgentId, Vec<Contact>> = BTreeMap::new();
        for one in all {
            if let Some(agent) = self.agent_of.get(&one.aor) {
                let contact = Contact { proxy: one.proxy.clone(), at: one.at };
                contacts.entry(agent.clone()).or_default().push(contact);
            }
        }
        let agents: Vec<AgentId> = self.book.agents.keys().cloned().collect();
        for id in agents {
            let mut now_has = contacts.remove(&id).unwrap_or_default();
            now_has.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.proxy.cmp(&b.proxy)));
            let Some(held) = self.book.agents.get_mut(&id) else { continue };
            let before = held.is_reachable();
            held.contacts = now_has;
            if held.is_reachable() != before {
                self.seek_for(&id, now);
            }
        }
    }

    /// Somebody asks for something; an event says what came of it.
    pub(super) fn command(&mut self, key: Arc<str>, command: Command, now: EpochMs) {
        let said = match command {
            Command::Login(agent) => self.login(&agent, now),
            Command::Logout(agent) => self.logout(&agent, now),
            Command::Toggle(agent) => {
                match self.book.agents.get(&agent).map(|a| a.agent.state.is_logged_in()) {
                    Some(true) => self.logout(&agent, now),
                    Some(false) => self.login(&agent, now),
                    None => Said::NoAgent,
                }
            }
            Command::Pause(agent, reason) => self.pause(&agent, reason, now),
            Command::Resume(agent) => self.resume(&agent, now),
            Command::TogglePause(agent, reason) => {
                match self.book.agents.get(&agent).map(|a| a.agent.state.is_unpaused()) {
                    Some(true) => self.pause(&agent, reason, now),
                    Some(false) => self.resume(&agent, now),
                    None => Said::NoAgent,
                }
            }
            Command::SetAgent(agent, rules) => self.set_agent_rules(agent, *rules, now),
            Command::RemoveAgent(agent) => self.drop_agent_rules(&agent, now),
            Command::SetQueue(queue, rules) => self.set_queue_rules(queue, *rules, now),
            Command::RemoveQueue(queue) => self.drop_queue_rules(&queue, now),
            // Nobody waits to be told what came of these.
            Command::OwnCallBegan { aor, call, proxy } => return self.own_call_began(&aor, call, proxy, now),
            Command::OwnCallEnded { aor, call } => return self.own_call_ended(&aor, &call, now),
            Command::OwnCallsLost(proxy) => return self.own_calls_lost(&proxy, now),
            Command::Move(call, queue) => self.move_to(&call, queue, now),
            Command::Prioritize(call, priority) => self.prioritize(&call, priority, now),
            Command::Withdraw(call, treatment) => self.withdraw(&call, treatment, now),
        };
        self.book.tell(now, What::Command { key, said });
    }

    fn login(&mut self, id: &AgentId, now: EpochMs) -> Said {
        let Some(held) = self.book.agents.get_mut(id) else { return Said::NoAgent };
        let state = match &held.agent.state {
            AgentState::Offline => {
                held.agent.idle_since = now;
                held.agent.misses = 0;
                AgentState::Ready { rests_until: now }
            }
            AgentState::Offered { offer, then: Then::Leave } => {
                AgentState::Offered { offer: offer.clone(), then: Then::Ready }
            }
            AgentState::Talking { offer, then: Then::Leave } => {
                AgentState::Talking { offer: offer.clone(), then: Then::Ready }
            }
            AgentState::Ready { .. }
            | AgentState::Offered { .. }
            | AgentState::Talking { .. }
            | AgentState::WrapUp { .. }
            | AgentState::Paused { .. } => return Said::Already,
        };
        self.set_agent(id, state, now);
        Said::Done
    }

    fn logout(&mut self, id: &AgentId, now: EpochMs) -> Said {
        let Some(held) = self.book.agents.get(id) else { return Said::NoAgent };
        let state = match &held.agent.state {
            AgentState::Offline
            | AgentState::Offered { then: Then::Leave, .. }
            | AgentState::Talking { then: Then::Leave, .. } => return Said::Already,
            AgentState::Offered { offer, .. } => {
                AgentState::Offered { offer: offer.clone(), then: Then::Leave }
            }
            AgentState::Talking { offer, .. } => {
                AgentState::Talking { offer: offer.clone(), then: Then::Leave }
            }
            AgentState::Ready { .. } | AgentState::WrapUp { .. } | AgentState::Paused { .. } => {
                AgentState::Offline
            }
        };
        self.set_agent(id, state, now);
        Said::Done
    }

    fn pause(&mut self, id: &AgentId, reason: Arc<str>, now: EpochMs) -> Said {
        let Some(held) = self.book.agents.get(id) else { return Said::NoAgent };
        let then = Then::Pause { reason: reason.clone() };
        let state = match &held.agent.state {
            AgentState::Offline => return Said::LoggedOut,
            AgentState::Offered { then: Then::Leave, .. } | AgentState::Talking { then: Then::Leave, .. } => {
                return Said::LoggedOut;
            }
            AgentState::Paused { reason: before } if *before == reason => return Said::Already,
            AgentState::Offered { then: before, .. } | AgentState::Talking { then: before, .. }
                if *before == then =>
            {
                return Said::Already;
            }
            AgentState::Offered { offer, .. } => AgentState::Offered { offer: offer.clone(), then },
            AgentState::Talking { offer, .. } => AgentState::Talking { offer: offer.clone(), then },
            AgentState::Ready { .. } | AgentState::WrapUp { .. } | AgentState::Paused { .. } => {
                AgentState::Paused { reason }
            }
        };
        self.set_agent(id, state, now);
        Said::Done
    }

    fn resume(&mut self, id: &AgentId, now: EpochMs) -> Said {
        let Some(held) = self.book.agents.get_mut(id) else { return Said::NoAgent };
        let state = match &held.agent.state {
            AgentState::Offline => return Said::LoggedOut,
            AgentState::Offered { then: Then::Leave, .. } | AgentState::Talking { then: Then::Leave, .. } => {
                return Said::LoggedOut;
            }
            AgentState::Paused { .. } => {
                held.agent.misses = 0;
                held.agent.idle_since = now;
                AgentState::Ready { rests_until: now }
            }
            AgentState::WrapUp { .. } => AgentState::Ready { rests_until: now },
            AgentState::Offered { offer, then: Then::Pause { .. } } => {
                AgentState::Offered { offer: offer.clone(), then: Then::Ready }
            }
            AgentState::Talking { offer, then: Then::Pause { .. } } => {
                AgentState::Talking { offer: offer.clone(), then: Then::Ready }
            }
            AgentState::Ready { .. } | AgentState::Offered { .. } | AgentState::Talking { .. } => {
                return Said::Already;
            }
        };
        self.set_agent(id, state, now);
        Said::Done
    }

    fn move_to(&mut self, id: &CallId, queue: QueueId, now: EpochMs) -> Said {
        let Some(held) = self.book.calls.get(id) else { return Said::NoCall };
        if !self.setup.queues.contains_key(&queue) {
            return Said::NoQueue;
        }
        if let Err(said) = self.may_be_moved(&held.call) {
            return said;
        }
        if held.call.queue == queue {
            return Said::Already;
        }
        self.withdraw_offers(id, OfferEnd::Withdrawn, now);
        self.matcher.leave(id);
        self.book.leave_line(id);
        if let Some(held) = self.book.call_mut(id) {
            held.call.queue = queue;
            held.call.tries = 0;
            held.call.joined = now;
        }
        self.stand_in_line(id, now);
        Said::Done
    }

    /// Whether a call may be taken from where it stands. On a node that is not heard it may be with an agent by now.
    fn may_be_moved(&self, call: &Call) -> Result<(), Said> {
        if !self.listed.contains(&call.channel.node) {
            Err(Said::NodeAway)
        } else if !call.stage.is_in_line() {
            Err(Said::TooLate)
        } else {
            Ok(())
        }
    }

    fn prioritize(&mut self, id: &CallId, priority: Priority, now: EpochMs) -> Said {
        let Some(held) = self.book.calls.get(id) else { return Said::NoCall };
        if let Err(said) = self.may_be_moved(&held.call) {
            return said;
        }
        if held.call.priority == priority {
            return Said::Already;
        }
        if let Some(held) = self.book.call_mut(id) {
            held.call.priority = priority;
        }
        self.attend(id);
        self.seek(id, now);
        Said::Done
    }

    fn withdraw(&mut self, id: &CallId, treatment: TreatmentId, now: EpochMs) -> Said {
        let Some(held) = self.book.calls.get(id) else { return Said::NoCall };
        if !self.setup.treatments.contains_key(&treatment) {
            return Said::NoTreatment;
        }
        if let Err(said) = self.may_be_moved(&held.call) {
            return said;
        }
        self.treat_by(id, Some(treatment), TreatedFor::Asked, now);
        Said::Done
    }
}

impl HeldAgent {
    /// Whether there is a phone that may ring.
    fn is_reachable(&self) -> bool {
        self.contacts.first().is_some_and(|contact| self.silent_since.is_none_or(|since| contact.at > since))
    }
}
