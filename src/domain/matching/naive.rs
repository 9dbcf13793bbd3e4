//! The rule by brute force, over plain lists: what [`Matcher`](super::Matcher) is held against.

use super::rules::draw;
use super::{Match, MatchRules, Membership, ReadyAgent, Strategy, WaitingCall};
use crate::domain::id::{AgentId, QueueId, Skill};
use crate::domain::time::EpochMs;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// All that the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What `random` draws from.
    pub seed: u64,
    /// The queues. A call that waits in none of them is not looked at.
    pub queues: &'a BTreeMap<QueueId, MatchRules>,
    /// The calls that wait, in any order; no two of one id.
    pub calls: &'a [WaitingCall],
    /// The agents that are ready, in any order; no two of one id.
    pub agents: &'a [ReadyAgent],
    /// The offers so far, oldest first: in which queue, to whom.
    pub offered: &'a [(QueueId, AgentId)],
}

/// The match that the rule names at `now`.
pub fn next(scene: &Scene<'_>, now: EpochMs) -> Option<Match> {
    let proposals = scene.queues.iter().filter_map(|(queue, rules)| propose(scene, queue, rules, now));
    let best = proposals.min_by_key(|(weight, call, _)| {
        (Reverse(*weight), Reverse(call.priority), call.enqueued, call.id.clone())
    })?;
    let (_, call, agents) = best;
    Some(Match { call: call.id.clone(), queue: call.queue.clone(), agents })
}

/// Weight, call and agents that one queue proposes.
fn propose<'a>(
    scene: &Scene<'a>,
    queue: &QueueId,
    rules: &MatchRules,
    now: EpochMs,
) -> Option<(u16, &'a WaitingCall, Vec<AgentId>)> {
    let mut calls: Vec<&WaitingCall> = scene.calls.iter().filter(|call| call.queue == *queue).collect();
    calls.sort_by_key(|call| (Reverse(call.priority), call.enqueued, call.id.clone()));
    for call in calls {
        let mut agents: Vec<(&ReadyAgent, &Membership)> = scene
            .agents
            .iter()
            .filter_map(|agent| Some((agent, agent.memberships.get(queue)?)))
            .filter(|(agent, membership)| possible(call, agent, membership, rules, now))
            .collect();
        agents.sort_by_key(|(agent, membership)| {
            (membership.penalty, key(scene, queue, rules.strategy, agent), agent.id.clone())
        });
        let Some((penalty, weight)) = agents.first().map(|(_, m)| (m.penalty, m.weight)) else {
            continue;
        };
        let most = if rules.strategy == Strategy::RingAll { rules.ring_all_max.max(1) } else { 1 };
        let chosen = agents.iter().filter(|(_, m)| m.penalty == penalty).take(most);
        return Some((weight, call, chosen.map(|(agent, _)| agent.id.clone()).collect()));
    }
    None
}

fn possible(
    call: &WaitingCall,
    agent: &ReadyAgent,
    membership: &Membership,
    rules: &MatchRules,
    now: EpochMs,
) -> bool {
    let waited = now.since(call.enqueued);
    let mut limit = if rules.penalty_max.is_empty() { u16::MAX } else { 0 };
    for step in &rules.penalty_max {
        if waited >= step.after_ms {
            limit = limit.max(step.penalty_max);
        }
    }
    let dropped: BTreeSet<&Skill> =
        rules.relax.iter().filter(|step| waited >= step.after_ms).flat_map(|step| step.drop.iter()).collect();
    let able = call
        .wishes
        .iter()
        .all(|wish| dropped.contains(wish) || agent.skills.iter().any(|skill| skill == wish));
    let passed_over = call.avoid.get(&agent.id).is_some_and(|until| now < *until);
    membership.penalty <= limit && able && !passed_over
}

fn key(scene: &Scene<'_>, queue: &QueueId, strategy: Strategy, agent: &ReadyAgent) -> (u64, EpochMs) {
    match strategy {
        Strategy::LongestIdle | Strategy::RingAll => (0, agent.since),
        Strategy::FewestCalls => (agent.taken.get(queue).copied().unwrap_or(0), agent.since),
        Strategy::RoundRobin => {
            let last = scene.offered.iter().rposition(|(q, a)| q == queue && *a == agent.id);
            (last.map_or(0, |at| at as u64 + 1), agent.since)
        }
        Strategy::Random => (draw(scene.seed, &agent.id, agent.round), EpochMs(0)),
    }
}
