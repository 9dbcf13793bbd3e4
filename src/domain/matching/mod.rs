//! Matching: which waiting call goes to which agent.
//!
//! # The rule
//!
//! **Possible.** A pair of a waiting call and an agent is possible at a time `now` when all of these hold:
//!
//! * the agent is ready, and is a member of the call's queue;
//! * the agent's penalty in that queue is at most the limit that the queue's [`Widening`]s give for the time that the call
//!   has waited (`now` − `enqueued`, never below 0);
//! * the agent has all skills that the call still asks for: its wishes without those that the queue's [`Relaxing`]s have
//!   dropped for the time that it has waited;
//! * the call does not pass over the agent: it has no entry in `avoid` for them that ends after `now`.
//!
//! **A queue's order.** Calls stand by priority, the highest first; then by `enqueued`, the earliest first; then by id.
//!
//! **A queue's proposal.** The first call in that order for which any agent is possible, with the best of these agents: those
//! of the lowest penalty, and of them by the queue's [`Strategy`] the one with
//!
//! * `longest-idle`: the earliest `since`;
//! * `fewest-calls`: the smallest number of calls `taken` in the queue, then the earliest `since`;
//! * `round-robin`: the offer in this queue that lies furthest back ([`Matcher::offered`]; never is before all others), then
//!   the earliest `since`;
//! * `random`: the smallest hash of the seed, the agent's id and its `round`;
//! * `ring-all`: not one agent but all, by `since`, the earliest first; at most `ring_all_max` (and at least one).
//!
//! What is equal then is ordered by the agent's id.
//!
//! **Among the queues.** Of their proposals the one with the highest weight wins: the weight of its (first) agent's membership
//! in that queue. Then the one whose call has the highest priority; then the earliest `enqueued`; then the call's id.
//!
//! # Two implementations
//!
//! [`naive`] says the rule by brute force. [`Matcher`] keeps an index and says the same at a cost that does not depend on how
//! many calls wait; random traces (`tests/matching.rs`) show that the two agree.

mod calls;
mod matcher;
pub mod naive;
mod queue;
mod rules;
#[cfg(test)]
mod tests;

pub use matcher::Matcher;
pub use rules::{MatchRules, Priority, PriorityError, Relaxing, Skills, Strategy, StrategyError, Widening};

use super::id::{AgentId, CallId, QueueId};
use super::time::EpochMs;
use std::collections::BTreeMap;

/// A call that waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingCall {
    /// Which call it is; no other call has this id, in whatever queue.
    pub id: CallId,
    /// Where it waits.
    pub queue: QueueId,
    /// Its place before or behind others.
    pub priority: Priority,
    /// Since when it waits.
    pub enqueued: EpochMs,
    /// What an agent must be able to do.
    pub wishes: Skills,
    /// Agents that it is not to go to, and until when: an agent is passed over while the time is before that.
    pub avoid: BTreeMap<AgentId, EpochMs>,
}

/// What an agent is in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// How late calls are brought to the agent: none while a possible agent has a lower penalty.
    pub penalty: u16,
    /// How much this queue's calls come before those of other queues.
    pub weight: u16,
}

/// An agent that could take a call now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyAgent {
    /// Who it is.
    pub id: AgentId,
    /// Since when the agent is ready.
    pub since: EpochMs,
    /// What they can do.
    pub skills: Skills,
    /// The queues that they take calls of. One that the matcher does not know counts as soon as it does.
    pub memberships: BTreeMap<QueueId, Membership>,
    /// How many calls of each queue they took; none where there is no entry.
    pub taken: BTreeMap<QueueId, u64>,
    /// How many times they became ready: each time `random` draws anew.
    pub round: u64,
}

/// A call and whom it is to be offered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The call.
    pub call: CallId,
    /// The queue that it waits in.
    pub queue: QueueId,
    /// One agent; with `ring-all` one or more, the best first.
    pub agents: Vec<AgentId>,
}
