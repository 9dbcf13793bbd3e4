//! The rule over an index: each queue's last proposal is kept, and made anew only when something happened that it hangs on.

use super::calls::{Calls, Sets, Slot};
use super::queue::{Class, Place, Proposal, Queue, Rank};
use super::{Match, MatchRules, Membership, ReadyAgent, WaitingCall};
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that wait, agents that are ready, and which goes to which by [the rule](super).
///
/// Time is an argument and does not run backwards: a `now` before one that was given already counts as that one.
#[derive(Debug, Default)]
pub struct Matcher {
    seed: u64,
    now: EpochMs,
    queues: BTreeMap<QueueId, Queue>,
    calls: Calls,
    agents: BTreeMap<AgentId, ReadyAgent>,
    sets: Sets,
    /// When each call's [`change`](super::calls::Entry::change) is due.
    changes: BTreeSet<(EpochMs, Slot)>,
    /// Queues whose last proposal no longer holds, as its call, its agents or the rules changed. Whatever only adds
    /// possibilities is compared with the last proposal at once.
    stale: BTreeSet<QueueId>,
    /// The proposals of all queues, the best first.
    proposals: BTreeSet<(Rank, QueueId)>,
}

impl Matcher {
    /// Nobody is there yet. By the seed, `random` orders agents; all that is to order them alike gets the same.
    pub fn new(seed: u64) -> Matcher {
        Matcher { seed, ..Matcher::default() }
    }

    /// Adds a queue, or gives one other rules. Calls that wait keep their places.
    pub fn set_queue(&mut self, id: &QueueId, rules: MatchRules, now: EpochMs) {
        self.pass(now);
        if self.queues.get(id).is_some_and(|queue| *queue.rules() == rules) {
            return;
        }
        let queue = self.queues.entry(id.clone()).or_default();
        let slots = queue.rule(rules);
        for agent in self.agents.values() {
            if let Some(member) = agent.memberships.get(id) {
                queue.seat(self.seed, agent, member, taken(agent, id));
            }
        }
        self.stale.insert(id.clone());
        for slot in slots {
            if let Some(entry) = self.calls.get_mut(slot) {
                entry.class = None;
            }
            self.settle(slot);
        }
    }

    /// Removes a queue, and with it the calls that wait there, which are returned in their order.
    pub fn remove_queue(&mut self, id: &QueueId) -> Vec<WaitingCall> {
        let calls: Vec<CallId> = self.in_queue(id).map(|call| call.id.clone()).collect();
        let calls = calls.iter().filter_map(|call| self.leave(call)).collect();
        if let Some(proposal) = self.queues.remove(id).and_then(|queue| queue.proposal) {
            self.proposals.remove(&(proposal.rank, id.clone()));
        }
        self.stale.remove(id);
        calls
    }

    /// Lets a call wait; a call of this id that waits already is replaced.
    ///
    /// # Errors
    ///
    /// Gives the call back when its queue is not known; nothing has changed then.
    pub fn wait(&mut self, mut call: WaitingCall, now: EpochMs) -> Result<(), WaitingCall> {
        self.pass(now);
        let Some((queue, _)) = self.queues.get_key_value(&call.queue) else {
            return Err(call);
        };
        call.queue = queue.clone();
        self.leave(&call.id);
        call.wishes = self.sets.share(call.wishes);
        let slot = self.calls.insert(call);
        self.settle(slot);
        Ok(())
    }

    /// Lets a call wait no longer. Of `avoid`, what is over may be missing in the call that is returned.
    pub fn leave(&mut self, call: &CallId) -> Option<WaitingCall> {
        let (slot, entry) = self.calls.remove(call)?;
        if let Some(at) = entry.change {
            self.changes.remove(&(at, slot));
        }
        if let (Some(queue), Some(class)) = (self.queues.get_mut(&entry.call.queue), &entry.class) {
            let place = Place::of(&entry.call, slot);
            queue.remove(class, &place);
            if queue.proposes_call(&place) {
                self.stale.insert(entry.call.queue.clone());
            }
        }
        Some(entry.call)
    }

    /// Lets a call pass over an agent while the time is before `until`, whatever was said of the two before. Nothing happens
    /// when the call does not wait.
    pub fn avoid(&mut self, call: &CallId, agent: &AgentId, until: EpochMs) {
        let Some(slot) = self.calls.find(call) else {
            return;
        };
        if let Some(entry) = self.calls.get_mut(slot) {
            entry.call.avoid.insert(agent.clone(), until);
        }
        self.settle(slot);
    }

    /// Lets an agent be ready; one of this id that is ready already is replaced.
    pub fn ready(&mut self, mut agent: ReadyAgent) {
        self.unready(&agent.id);
        agent.skills = self.sets.share(agent.skills);
        for (id, member) in &agent.memberships {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.seat(self.seed, &agent, member, taken(&agent, id));
                if !self.stale.contains(id)
                    && let Some(better) = queue.propose_agent(&self.calls, &agent, member, self.now)
                {
                    replace(&mut self.proposals, id, queue, Some(better));
                }
            }
        }
        self.agents.insert(agent.id.clone(), agent);
    }

    /// Lets an agent be ready no longer.
    pub fn unready(&mut self, agent: &AgentId) -> Option<ReadyAgent> {
        let agent = self.agents.remove(agent)?;
        for (id, member) in &agent.memberships {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.unseat(self.seed, &agent, member, taken(&agent, id));
                if queue.proposes_agent(&agent.id) {
                    self.stale.insert(id.clone());
                }
            }
        }
        Some(agent)
    }

    /// Notes that an agent was offered a call of a queue, for `round-robin`; to be said of every offer, whether or not the agent
    /// is ready at that time.
    pub fn offered(&mut self, queue: &QueueId, agent: &AgentId) {
        let Some(state) = self.queues.get_mut(queue) else {
            return;
        };
        let seated: Option<(&ReadyAgent, &Membership)> =
            self.agents.get(agent).and_then(|agent| Some((agent, agent.memberships.get(queue)?)));
        if let Some((agent, member)) = seated {
            state.unseat(self.seed, agent, member, taken(agent, queue));
        }
        state.count_offer(agent);
        if let Some((agent, member)) = seated {
            state.seat(self.seed, agent, member, taken(agent, queue));
            self.stale.insert(queue.clone());
        }
    }

    /// Forgets the offers to an agent who is not to come back, and lets them be ready no longer.
    pub fn forget(&mut self, agent: &AgentId) -> Option<ReadyAgent> {
        let gone = self.unready(agent);
        self.queues.values_mut().for_each(|queue| queue.forget(agent));
        gone
    }

    /// The match that the rule names. It stays the same until something changes: whoever follows it lets the call
    /// [`leave`](Matcher::leave) and the agents be [`unready`](Matcher::unready).
    pub fn next(&mut self, now: EpochMs) -> Option<Match> {
        self.pass(now);
        while let Some((at, slot)) = self.changes.first().copied().filter(|(at, _)| *at <= self.now) {
            self.changes.remove(&(at, slot));
            if let Some(entry) = self.calls.get_mut(slot) {
                entry.change = None;
            }
            self.settle(slot);
        }
        while let Some(id) = self.stale.pop_first() {
            self.refresh(id);
        }
        let (_, id) = self.proposals.first()?;
        let proposal = self.queues.get(id)?.proposal.as_ref()?;
        let call = proposal.rank.place.id.clone();
        Some(Match { call, queue: id.clone(), agents: proposal.agents.clone() })
    }

    /// When time alone may next make a match possible: never later than it does. A time that is not after the last `now` means
    /// that [`next`](Matcher::next) is due.
    pub fn next_change(&self) -> Option<EpochMs> {
        self.changes.first().map(|(at, _)| *at)
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A call that waits.
    pub fn call(&self, id: &CallId) -> Option<&WaitingCall> {
        self.calls.get(self.calls.find(id)?).map(|entry| &entry.call)
    }

    /// How many calls wait in a queue.
    pub fn waiting(&self, queue: &QueueId) -> usize {
        self.queues.get(queue).map_or(0, Queue::waiting)
    }

    /// How many calls stand before one in its queue. Counts them, so it costs as much as there are.
    pub fn position(&self, call: &CallId) -> Option<usize> {
        let slot = self.calls.find(call)?;
        let call = &self.calls.get(slot)?.call;
        Some(self.queues.get(&call.queue)?.before(&Place::of(call, slot)))
    }

    /// The calls of a queue, in their order.
    pub fn in_queue(&self, queue: &QueueId) -> impl Iterator<Item = &WaitingCall> {
        let places = self.queues.get(queue).into_iter().flat_map(Queue::in_order);
        places.filter_map(|place| Some(&self.calls.get(place.slot)?.call))
    }

    /// The queues, with their rules.
    pub fn queues(&self) -> impl Iterator<Item = (&QueueId, &MatchRules)> {
        self.queues.iter().map(|(id, queue)| (id, queue.rules()))
    }

    /// An agent who is ready.
    pub fn agent(&self, id: &AgentId) -> Option<&ReadyAgent> {
        self.agents.get(id)
    }

    /// How many agents are ready.
    pub fn ready_count(&self) -> usize {
        self.agents.len()
    }

    /// How many agents are ready for a queue.
    pub fn ready_in(&self, queue: &QueueId) -> usize {
        self.queues.get(queue).map_or(0, Queue::ready)
    }

    fn pass(&mut self, now: EpochMs) {
        self.now = self.now.max(now);
    }

    /// Sorts a call into the class that it has now, and notes when that is to be looked at again.
    fn settle(&mut self, slot: Slot) {
        let now = self.now;
        let Some(entry) = self.calls.get_mut(slot) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&entry.call.queue) else {
            return;
        };
        entry.call.avoid.retain(|_, until| now < *until);
        let (waited, rules) = (now.since(entry.call.enqueued), queue.rules());
        let wishes = self.sets.share(rules.wishes_left(&entry.call.wishes, waited));
        let class = Class { wishes, limit: rules.penalty_limit(waited) };
        let step = rules.step_after(waited).map(|after| entry.call.enqueued + after);
        // A time that was cut off at the end of the scale may not be after `now`: it would be due again and again.
        let change = entry.call.avoid.values().copied().chain(step).min().filter(|at| now < *at);
        let place = Place::of(&entry.call, slot);
        let id = &entry.call.queue;
        if queue.proposes_call(&place) {
            self.stale.insert(id.clone());
        } else if !self.stale.contains(id)
            && let Some(better) = queue.propose_call(&class, &place, &entry.call.avoid, now)
        {
            replace(&mut self.proposals, id, queue, Some(better));
        }
        if entry.class.as_ref() != Some(&class) {
            if let Some(old) = entry.class.replace(class.clone()) {
                queue.remove(&old, &place);
            }
            queue.add(class, place);
        }
        if entry.change != change {
            if let Some(at) = entry.change {
                self.changes.remove(&(at, slot));
            }
            self.changes.extend(change.map(|at| (at, slot)));
            entry.change = change;
        }
    }

    fn refresh(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        let proposal = queue.propose(&self.calls, self.now);
        replace(&mut self.proposals, &id, queue, proposal);
    }
}

fn replace(
    proposals: &mut BTreeSet<(Rank, QueueId)>,
    id: &QueueId,
    queue: &mut Queue,
    proposal: Option<Proposal>,
) {
    let rank = proposal.as_ref().map(|proposal| (proposal.rank.clone(), id.clone()));
    if let Some(before) = std::mem::replace(&mut queue.proposal, proposal) {
        proposals.remove(&(before.rank, id.clone()));
    }
    proposals.extend(rank);
}

/// How many calls of a queue the agent took.
fn taken(agent: &ReadyAgent, queue: &QueueId) -> u64 {
    agent.taken.get(queue).copied().unwrap_or(0)
}
