//! One queue's index: its calls by what they ask for, its ready agents by what they can do.

use super::calls::{Calls, Slot};
use super::rules::draw;
use super::{MatchRules, Membership, Priority, ReadyAgent, Skills, Strategy, WaitingCall};
use crate::domain::id::{AgentId, CallId};
use crate::domain::time::EpochMs;
use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Where a call stands in its queue. The slot never decides: no two calls have one id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Reverse<Priority>,
    enqueued: EpochMs,
    pub id: CallId,
    pub slot: Slot,
}

impl Place {
    pub fn of(call: &WaitingCall, slot: Slot) -> Place {
        Place { priority: Reverse(call.priority), enqueued: call.enqueued, id: call.id.clone(), slot }
    }
}

/// Calls of one class ask for the same at present, so that the same agents are possible for them, but for those that one of
/// them passes over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub wishes: Skills,
    pub limit: u16,
}

/// Where a ready agent stands in a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    penalty: u16,
    key: (u64, u64),
    agent: AgentId,
    weight: u16,
}

/// Where a queue's proposal stands among those of the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    weight: Reverse<u16>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub rank: Rank,
    pub agents: Vec<AgentId>,
}

/// Places in their order; never empty. The first one is beside them: each search looks at the first of many classes, and goes on
/// in few.
#[derive(Debug)]
struct Places {
    first: Place,
    all: BTreeSet<Place>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    rules: MatchRules,
    classes: BTreeMap<Class, Places>,
    groups: BTreeMap<Skills, BTreeSet<Seat>>,
    /// The number of the last offer to each agent.
    turns: BTreeMap<AgentId, u64>,
    offers: u64,
    /// What was proposed when the index last was asked.
    pub proposal: Option<Proposal>,
}

impl Queue {
    pub fn rules(&self) -> &MatchRules {
        &self.rules
    }

    /// Takes other rules. All calls and agents are out then and have to be put in again, as both are sorted by the rules.
    pub fn rule(&mut self, rules: MatchRules) -> Vec<Slot> {
        self.rules = rules;
        self.groups.clear();
        let classes = std::mem::take(&mut self.classes);
        classes.into_values().flat_map(|places| places.all).map(|place| place.slot).collect()
    }

    pub fn waiting(&self) -> usize {
        self.classes.values().map(|places| places.all.len()).sum()
    }

    pub fn ready(&self) -> usize {
        self.groups.values().map(BTreeSet::len).sum()
    }

    pub fn add(&mut self, class: Class, place: Place) {
        match self.classes.entry(class) {
            Entry::Vacant(vacant) => {
                vacant.insert(Places { first: place.clone(), all: BTreeSet::from([place]) });
            }
            Entry::Occupied(places) => {
                let places = places.into_mut();
                if place < places.first {
                    places.first = place.clone();
                }
                places.all.insert(place);
            }
        }
    }

    pub fn remove(&mut self, class: &Class, place: &Place) {
        let Some(places) = self.classes.get_mut(class) else {
            return;
        };
        places.all.remove(place);
        if places.first != *place {
            return;
        }
        match places.all.first() {
            Some(first) => places.first = first.clone(),
            None => _ = self.classes.remove(class),
        }
    }

    /// The calls in the queue's order.
    pub fn in_order(&self) -> impl Iterator<Item = &Place> {
        let mut heads: Vec<_> = self.classes.values().map(|places| places.all.iter().peekable()).collect();
        std::iter::from_fn(move || {
            let first = heads.iter_mut().enumerate().filter_map(|(at, h)| h.peek().map(|p| (*p, at))).min();
            heads.get_mut(first?.1)?.next()
        })
    }

    /// How many calls stand before a place.
    pub fn before(&self, place: &Place) -> usize {
        self.classes.values().map(|places| places.all.range(..place).count()).sum()
    }

    pub fn seat(&mut self, seed: u64, agent: &ReadyAgent, member: &Membership, taken: u64) {
        let seat = self.seat_of(seed, agent, member, taken);
        self.groups.entry(agent.skills.clone()).or_default().insert(seat);
    }

    pub fn unseat(&mut self, seed: u64, agent: &ReadyAgent, member: &Membership, taken: u64) {
        let seat = self.seat_of(seed, agent, member, taken);
        if let Some(seats) = self.groups.get_mut(&agent.skills) {
            seats.remove(&seat);
            if seats.is_empty() {
                self.groups.remove(&agent.skills);
            }
        }
    }

    fn seat_of(&self, seed: u64, agent: &ReadyAgent, member: &Membership, taken: u64) -> Seat {
        let since = agent.since.0;
        let key = match self.rules.strategy {
            Strategy::LongestIdle | Strategy::RingAll => (since, 0),
            Strategy::FewestCalls => (taken, since),
            Strategy::RoundRobin => (self.turns.get(&agent.id).copied().unwrap_or(0), since),
            Strategy::Random => (draw(seed, &agent.id, agent.round), 0),
        };
        Seat { penalty: member.penalty, key, agent: agent.id.clone(), weight: member.weight }
    }

    /// Counts an offer. While the agent has a seat, it must be taken away before and given again after: it may stand by this.
    pub fn count_offer(&mut self, agent: &AgentId) {
        self.offers += 1;
        self.turns.insert(agent.clone(), self.offers);
    }

    pub fn forget(&mut self, agent: &AgentId) {
        self.turns.remove(agent);
    }

    pub fn proposes_call(&self, place: &Place) -> bool {
        self.proposal.as_ref().is_some_and(|proposal| proposal.rank.place == *place)
    }

    pub fn proposes_agent(&self, agent: &AgentId) -> bool {
        self.proposal.as_ref().is_some_and(|proposal| proposal.agents.contains(agent))
    }

    /// The queue's proposal at `now`, by the classes as they are.
    pub fn propose(&self, calls: &Calls, now: EpochMs) -> Option<Proposal> {
        if self.groups.is_empty() {
            return None;
        }
        let mut best: Option<(&Place, Vec<&Seat>)> = None;
        for (class, places) in &self.classes {
            let earlier = |place: &Place| best.as_ref().is_none_or(|(first, _)| place < *first);
            if !earlier(&places.first) {
                continue;
            }
            let seats = self.best_seats(class, |_| true);
            if seats.is_empty() {
                continue;
            }
            // Goes beyond the head only where calls pass over every agent that is possible for their class.
            let found = places.all.iter().take_while(|place| earlier(place)).find_map(|place| {
                let avoid = &calls.get(place.slot)?.call.avoid;
                let seats = if avoid.is_empty() { seats.clone() } else { self.seats_for(class, avoid, now) };
                (!seats.is_empty()).then_some((place, seats))
            });
            best = found.or(best);
        }
        let (place, seats) = best?;
        proposal(place, seats)
    }

    /// What is proposed instead because a call came to this place, or can now go to more agents: nothing else may have changed
    /// since the last proposal. The call must not be that of the last proposal.
    pub fn propose_call(
        &self,
        class: &Class,
        place: &Place,
        avoid: &BTreeMap<AgentId, EpochMs>,
        now: EpochMs,
    ) -> Option<Proposal> {
        if self.proposal.as_ref().is_some_and(|last| last.rank.place < *place) {
            return None;
        }
        proposal(place, self.seats_for(class, avoid, now))
    }

    /// What is proposed instead because this agent has a seat now: nothing else may have changed since the last proposal. So no
    /// call before that one can go to anybody but this agent.
    pub fn propose_agent(
        &self,
        calls: &Calls,
        agent: &ReadyAgent,
        member: &Membership,
        now: EpochMs,
    ) -> Option<Proposal> {
        let mut best: Option<(&Class, &Place)> = None;
        for (class, places) in &self.classes {
            let last = best.map(|(_, place)| place).or(self.proposal.as_ref().map(|last| &last.rank.place));
            let is_earlier = |place: &Place| last.is_none_or(|last| place <= last);
            if !is_earlier(&places.first)
                || member.penalty > class.limit
                || !agent.skills.cover(&class.wishes)
            {
                continue;
            }
            let mut earlier = places.all.iter().take_while(|place| is_earlier(place));
            let found = earlier.find(|place| {
                calls.get(place.slot).is_some_and(|entry| !passes_over(&entry.call.avoid, &agent.id, now))
            });
            best = found.map(|place| (class, place)).or(best);
        }
        let (class, place) = best?;
        proposal(place, self.seats_for(class, &calls.get(place.slot)?.call.avoid, now))
    }

    fn seats_for(&self, class: &Class, avoid: &BTreeMap<AgentId, EpochMs>, now: EpochMs) -> Vec<&Seat> {
        self.best_seats(class, |agent| !passes_over(avoid, agent, now))
    }

    /// Those whom a call of the class goes to among the agents that it may go to.
    fn best_seats(&self, class: &Class, may: impl Fn(&AgentId) -> bool) -> Vec<&Seat> {
        let most = match self.rules.strategy {
            Strategy::LongestIdle | Strategy::FewestCalls | Strategy::RoundRobin | Strategy::Random => 1,
            Strategy::RingAll => self.rules.ring_all_max.max(1),
        };
        let mut best: Vec<&Seat> = Vec::new();
        for (skills, seats) in &self.groups {
            let limit = best.first().map_or(class.limit, |seat| seat.penalty);
            if seats.first().is_none_or(|seat| seat.penalty > limit) || !skills.cover(&class.wishes) {
                continue;
            }
            let mut open =
                seats.iter().take_while(|seat| seat.penalty <= limit).filter(|seat| may(&seat.agent));
            let Some(first) = open.next() else {
                continue;
            };
            if best.first().is_some_and(|seat| seat.penalty > first.penalty) {
                best.clear();
            }
            best.push(first);
            best.extend(open.take_while(|seat| seat.penalty == first.penalty).take(most - 1));
        }
        best.sort_unstable();
        best.truncate(most);
        best
    }
}

fn passes_over(avoid: &BTreeMap<AgentId, EpochMs>, agent: &AgentId, now: EpochMs) -> bool {
    avoid.get(agent).is_some_and(|until| now < *until)
}

fn proposal(place: &Place, seats: Vec<&Seat>) -> Option<Proposal> {
    let weight = Reverse(seats.first()?.weight);
    let agents = seats.into_iter().map(|seat| seat.agent.clone()).collect();
    Some(Proposal { rank: Rank { weight, place: place.clone() }, agents })
}
