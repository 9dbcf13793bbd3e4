//! The decision: from the nodes that are there and an answer to the changes that follow.

use super::{Found, Known, Mark, Named, Standing, Template};
use crate::domain::id::NodeId;
use crate::domain::node::NodeState;
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It is new.
    Add,
    /// It is named again, and takes calls again.
    Activate,
    /// Its definition is another now, or only the note of it; its state stays.
    Update,
    /// It is named no more: it takes no new calls.
    Drain,
    /// It is named no more, and stays in the state that an operator gave it.
    Leave,
    /// It is named no more, is empty, and its time is over.
    Remove,
}

impl Act {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Add => "add",
            Act::Activate => "activate",
            Act::Update => "update",
            Act::Drain => "drain",
            Act::Leave => "leave",
            Act::Remove => "remove",
        }
    }
}

/// One change to one node: its definition, state and note afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub act: Act,
    /// The definition.
    pub node: Named,
    /// The state.
    pub state: NodeState,
    /// The note; `None`: the node is not discovery's any more, and is forgotten when its last lease has ended.
    pub mark: Option<Mark>,
}

/// What follows from an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes: at most one a node.
    pub steps: Vec<Step>,
    /// How many nodes are named and stay as they are.
    pub kept: usize,
    /// Nodes that are named no more and stay active, because without them no node would be.
    pub spared: Vec<NodeId>,
    /// How many targets were left out beyond `nodes_max`.
    pub over: usize,
    /// How many targets are the place of a node that is not discovery's.
    pub elsewhere: usize,
}

/// What becomes of the nodes of a pool after an answer.
pub fn plan(before: &[Known], found: &Found, template: &Template, now: EpochMs) -> Plan {
    let mut plan = Plan::default();
    if found.targets.is_empty() {
        return plan;
    }
    let wanted = wanted(before, found, template, &mut plan);
    let by_id: BTreeMap<&NodeId, &Known> = before.iter().map(|k| (&k.node.id, k)).collect();
    for named in wanted.values() {
        match by_id.get(&named.id).and_then(|known| named_step(known, named)) {
            Some(Some(step)) => plan.steps.push(step),
            Some(None) => plan.kept += 1,
            None => plan.steps.push(Step {
                act: Act::Add,
                node: named.clone(),
                state: NodeState::Active,
                mark: Some(Mark::named(named)),
            }),
        }
    }
    if !found.partial {
        let gone = before.iter().filter(|k| !wanted.contains_key(&k.node.id));
        plan.steps.extend(gone.filter_map(|known| gone_step(known, now)));
        spare(before, &mut plan);
    }
    plan
}

/// Nodes that are named no more, are empty, and whose time is over. Needs no answer.
pub fn expire(before: &[Known], template: &Template, now: EpochMs) -> Vec<Step> {
    let over = |known: &&Known| {
        let since = match known.mark.map(|m| m.standing) {
            Some(Standing::Drained(at) | Standing::Left(at)) => at,
            Some(Standing::Named) | None => return false,
        };
        let idle = match known.node.state {
            NodeState::Draining | NodeState::Down | NodeState::Removed => known.load == 0,
            // An operator took it back after it was drained: it stays.
            NodeState::Active => false,
        };
        idle && now.since(since) >= template.forget_after_ms
    };
    let remove = |known: &Known| Step {
        act: Act::Remove,
        node: Named::of(&known.node),
        state: NodeState::Removed,
        mark: None,
    };
    before.iter().filter(over).map(remove).collect()
}

/// The nodes that shall be there by their names: those that discovery has already come first, so that a limit throws none of
/// them out for a new one.
fn wanted(before: &[Known], found: &Found, template: &Template, plan: &mut Plan) -> BTreeMap<NodeId, Named> {
    let held = |k: &&Known| k.mark.is_none() && k.node.state != NodeState::Removed;
    let taken: BTreeSet<_> = before.iter().filter(held).map(|k| k.node.uri.same_place()).collect();
    let names: BTreeSet<&NodeId> = before.iter().filter(held).map(|k| &k.node.id).collect();
    let mine: BTreeSet<&NodeId> = before
        .iter()
        .filter(|k| k.mark.is_some_and(|m| m.standing == Standing::Named))
        .map(|k| &k.node.id)
        .collect();
    let mut free = BTreeMap::new();
    for named in template.fill(&found.targets) {
        if taken.contains(&named.uri.same_place()) || names.contains(&named.id) {
            plan.elsewhere += 1;
        } else {
            free.entry(named.id.clone()).or_insert(named);
        }
    }
    plan.over = free.len().saturating_sub(template.nodes_max);
    if plan.over == 0 {
        return free;
    }
    let (mut chosen, mut others): (Vec<Named>, Vec<Named>) =
        free.into_values().partition(|n| mine.contains(&n.id));
    chosen.append(&mut others);
    chosen.truncate(template.nodes_max);
    chosen.into_iter().map(|n| (n.id.clone(), n)).collect()
}

/// For a node that is known and named. `None`: it must be added anew; `Some(None)`: nothing is to be done.
fn named_step(known: &Known, named: &Named) -> Option<Option<Step>> {
    // A removed node that is not discovery's is only a slot whose last lease has not ended.
    let mark = known.mark?;
    let fresh = Mark::named(named);
    let drained_here = matches!(mark.standing, Standing::Drained(_));
    let step = |act, state| Some(Step { act, node: named.clone(), state, mark: Some(fresh) });
    Some(match known.node.state {
        NodeState::Draining if drained_here => step(Act::Activate, NodeState::Active),
        // By an operator's word, or active as it should be.
        state @ (NodeState::Active | NodeState::Draining | NodeState::Down | NodeState::Removed) => {
            if mark == fresh { None } else { step(Act::Update, state) }
        }
    })
}

/// For a node that is named no more.
fn gone_step(known: &Known, now: EpochMs) -> Option<Step> {
    let mark = known.mark.filter(|m| m.standing == Standing::Named)?;
    let (act, state, standing) = match known.node.state {
        NodeState::Active => (Act::Drain, NodeState::Draining, Standing::Drained(now)),
        state @ (NodeState::Draining | NodeState::Down | NodeState::Removed) => {
            (Act::Leave, state, Standing::Left(now))
        }
    };
    Some(Step { act, node: Named::of(&known.node), state, mark: Some(Mark { standing, ..mark }) })
}

/// A pool that had an active node keeps one.
fn spare(before: &[Known], plan: &mut Plan) {
    let touched: BTreeSet<&NodeId> = plan.steps.iter().map(|s| &s.node.id).collect();
    let untouched = before.iter().filter(|k| !touched.contains(&k.node.id));
    let active = untouched.filter(|k| k.node.state == NodeState::Active).count()
        + plan.steps.iter().filter(|s| s.state == NodeState::Active).count();
    if active > 0 {
        return;
    }
    plan.spared = plan.steps.iter().filter(|s| s.act == Act::Drain).map(|s| s.node.id.clone()).collect();
    plan.steps.retain(|s| s.act != Act::Drain);
}
