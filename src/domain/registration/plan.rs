//! What time does: from the nodes and their heartbeats to the changes that follow.

use super::{Act, Beats, Known, Mark, Standing, Step};
use crate::domain::discovery::Named;
use crate::domain::id::NodeId;
use crate::domain::node::NodeState;
use crate::domain::time::EpochMs;
use std::collections::BTreeSet;

/// A longer pause between two looks, in ms, and what was not heard meanwhile says nothing.
const PAUSE_MAX_MS: u64 = 2_000;

/// Since when somebody listens without a pause.
///
/// A heartbeat that did not come while the store was away, or that the store forgot, must not drain a node: so each node has one
/// TTL from the moment when the steward began to listen, and begins anew after a pause or when the store may have forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The first look without a pause, the last one, and the store's history then.
    looks: Option<(EpochMs, EpochMs, u64)>,
}

impl Watch {
    /// Notes a look at a time of the store's clock. Since when there was no pause.
    pub fn look(&mut self, now: EpochMs, history: u64) -> EpochMs {
        let since = match self.looks {
            Some((since, last, same))
                if same == history && now >= last && now.since(last) <= PAUSE_MAX_MS =>
            {
                since
            }
            Some(_) | None => now,
        };
        self.looks = Some((since, now, history));
        since
    }
}

/// What follows from time alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes: at most one a node.
    pub steps: Vec<Step>,
    /// Nodes that fell silent and stay active: without them none would be, or nobody at all is heard of.
    pub spared: Vec<NodeId>,
}

/// What becomes of the registered nodes of a pool at `now`, when somebody has listened since `since`.
pub fn plan(before: &[Known], beats: &Beats, since: EpochMs, now: EpochMs) -> Plan {
    let silent = |known: &Known, mark: Mark| {
        let grace = since + u64::from(mark.ttl_s) * 1000;
        let until = beats.get(&known.node.id).copied().unwrap_or_default();
        now >= until.max(grace)
    };
    let mut plan = Plan::default();
    let mut heard = 0;
    for (known, mark) in before.iter().filter_map(|k| Some((k, k.owner.mark()?))) {
        if silent(known, mark) {
            plan.steps.extend(of_silent(known, mark, now));
        } else {
            heard += 1;
        }
    }
    spare(before, heard, &mut plan);
    plan
}

/// For a node whose heartbeat ran out.
fn of_silent(known: &Known, mark: Mark, now: EpochMs) -> Option<Step> {
    let step = |act, state, mark| Some(Step { act, node: Named::of(&known.node), state, mark });
    match (known.node.state, mark.standing) {
        (NodeState::Active, Standing::Live) => {
            let mark = Mark { standing: Standing::Drained(now), ..mark };
            step(Act::Drain, NodeState::Draining, Some(mark))
        }
        (NodeState::Draining, Standing::Drained(_) | Standing::Leaving(_)) if known.load == 0 => {
            step(Act::Remove, NodeState::Removed, None)
        }
        (NodeState::Removed, _) => step(Act::Forget, NodeState::Removed, None),
        // Made active by an operator after it fell silent; drained or down by one; or with calls on it.
        (NodeState::Active, Standing::Drained(_) | Standing::Leaving(_))
        | (NodeState::Draining, Standing::Live | Standing::Drained(_) | Standing::Leaving(_))
        | (NodeState::Down, _) => None,
    }
}

/// Nobody is drained for silence when nobody at all is heard of, or when the pool would be left without an active node.
fn spare(before: &[Known], heard: usize, plan: &mut Plan) {
    let drained: BTreeSet<&NodeId> =
        plan.steps.iter().filter(|s| s.act == Act::Drain).map(|s| &s.node.id).collect();
    let left = before.iter().filter(|k| k.node.state == NodeState::Active && !drained.contains(&k.node.id));
    if drained.is_empty() || (heard > 0 && left.count() > 0) {
        return;
    }
    plan.spared = drained.into_iter().cloned().collect();
    plan.steps.retain(|s| s.act != Act::Drain);
}
