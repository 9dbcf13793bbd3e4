//! Choosing a node: who is eligible, in which order, and why not the others.
//!
//! [`pick`] is the whole policy. The embedded store, degraded answers, `explain` and simulations call it as it is; for the
//! Redis store [`plan`] reduces the same policy to shelves that a script searches atomically.

use super::admission::Reached;
use super::health::Condition;
use super::id::{NodeId, Slot, Tag, Zone};
use super::node::{Node, NodeState};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most targets that one answer may have: Kamailio has 12 branches.
pub const TARGETS_MAX: u8 = 12;

/// A pool's rules for choosing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Share of each node's capacity that `new` and `callback` leave free for agent legs, in thousandths.
    pub agent_reserve_pm: u32,
    /// A caller's zone is preferred until its best node would be fuller than this, in thousandths of its capacity.
    pub zone_spill_pm: u32,
    /// How many targets an answer has at most: 1 … [`TARGETS_MAX`].
    pub targets_max: u8,
}

/// What kind of call asks for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A caller.
    New,
    /// A call that MQS makes to a caller who kept the place.
    Callback,
    /// The leg to an agent, from the node where the caller already is.
    Agent,
}

impl Kind {
    /// The word for it in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::New => "new",
            Kind::Callback => "callback",
            Kind::Agent => "agent",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Kind> {
        [Kind::New, Kind::Callback, Kind::Agent].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// What kind of call.
    pub kind: Kind,
    /// Where the caller is.
    pub zone: Option<Zone>,
    /// What the node must be able to do.
    pub tags: BTreeSet<Tag>,
    /// Nodes not to use.
    pub exclude: BTreeSet<NodeId>,
    /// The node that the call is on already: kind `agent` only.
    pub node: Option<NodeId>,
    /// Never refused for room or state.
    pub emergency: bool,
    /// How many targets at most.
    pub targets_max: u8,
}

impl Lookup {
    /// A lookup for a new call without wishes.
    pub fn new_call(targets_max: u8) -> Lookup {
        Lookup {
            kind: Kind::New,
            zone: None,
            tags: BTreeSet::new(),
            exclude: BTreeSet::new(),
            node: None,
            emergency: false,
            targets_max,
        }
    }
}

/// A node with what it carries.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The node.
    pub node: Arc<Node>,
    /// Its live leases.
    pub load: u32,
    /// Rises each time the node is given a call, over all nodes of the pool; 0: never.
    pub touched: u64,
}

/// Why a node is or is not among the targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A target; 0 is the one that is leased.
    Target(u8),
    /// It could have taken the call; others come first.
    Eligible,
    /// The lookup excludes it.
    Excluded,
    /// It is draining.
    Draining,
    /// It is down.
    Down,
    /// Calls or probes speak against it.
    Unwell(Condition),
    /// It lacks a tag.
    NoTag(Tag),
    /// It has no room for this kind of call.
    NoRoom,
    /// The call is on another node.
    OtherNode,
}

impl Verdict {
    /// The word for it in explanations and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Target(0) => "chosen",
            Verdict::Target(_) => "fallback",
            Verdict::Eligible => "eligible",
            Verdict::Excluded => "excluded",
            Verdict::Draining => "draining",
            Verdict::Down => "down",
            Verdict::Unwell(condition) => condition.as_str(),
            Verdict::NoTag(_) => "no-tag",
            Verdict::NoRoom => "no-room",
            Verdict::OtherNode => "other-node",
        }
    }
}

/// Why nobody was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPick {
    /// Nodes would do, but none has room.
    Full,
    /// No node would do.
    NoNode,
    /// An admission limit is reached.
    Limit {
        /// The tenant's; else the pool's.
        tenant: bool,
        /// Which part of it.
        reached: Reached,
    },
}

/// What [`pick`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Indices of the targets, best first; never empty.
    pub targets: Result<Vec<usize>, NoPick>,
    /// One verdict a node, in the order of the nodes.
    pub verdicts: Vec<Verdict>,
}

/// Chooses targets among `nodes`, and says of each node why.
pub fn pick(nodes: &[Loaded], lookup: &Lookup, rules: &Rules) -> Picked {
    pick_preferring(None, nodes, lookup, rules)
}

/// The same, with the node in slot `preferred` first, if it is one of those that may take the call.
pub fn pick_preferring(preferred: Option<Slot>, nodes: &[Loaded], lookup: &Lookup, rules: &Rules) -> Picked {
    let mut verdicts = judge_all(nodes, lookup, rules);
    let mut targets = rank(nodes, &verdicts, lookup, rules);
    if let Ok(order) = &mut targets {
        let sticks = |i: &usize| nodes.get(*i).is_some_and(|n| Some(n.node.slot) == preferred);
        if let Some(front) = order.iter().position(sticks).and_then(|at| order.get_mut(..=at)) {
            front.rotate_right(1);
        }
        order.truncate(usize::from(lookup.targets_max.min(rules.targets_max)).max(1));
        for (rank, index) in (0u8..).zip(order) {
            if let Some(verdict) = verdicts.get_mut(*index) {
                *verdict = Verdict::Target(rank);
            }
        }
    }
    Picked { targets, verdicts }
}

/// Indices of all nodes that would do, best first: as [`pick`] has them before it keeps some.
pub fn order(nodes: &[Loaded], lookup: &Lookup, rules: &Rules) -> Result<Vec<usize>, NoPick> {
    rank(nodes, &judge_all(nodes, lookup, rules), lookup, rules)
}

fn judge_all(nodes: &[Loaded], lookup: &Lookup, rules: &Rules) -> Vec<Verdict> {
    nodes.iter().map(|n| judge(n, lookup, rules)).collect()
}

fn rank(
    nodes: &[Loaded],
    verdicts: &[Verdict],
    lookup: &Lookup,
    rules: &Rules,
) -> Result<Vec<usize>, NoPick> {
    let mut order = eligible(verdicts);
    if order.is_empty() && lookup.emergency && lookup.kind != Kind::Agent {
        // An emergency call rather goes to a full, a draining or even a dead-looking node than nowhere.
        order = last_resort(nodes);
    }
    if order.is_empty() {
        let full = verdicts.contains(&Verdict::NoRoom);
        return Err(if full { NoPick::Full } else { NoPick::NoNode });
    }
    order.sort_by(|a, b| match (nodes.get(*a), nodes.get(*b)) {
        (Some(a), Some(b)) => compare(a, b, lookup, rules),
        (None, _) | (_, None) => Ordering::Equal,
    });
    Ok(order)
}

/// Channels that `lookup`'s kind may fill on a node of this capacity.
pub fn room(capacity: u32, lookup: &Lookup, rules: &Rules) -> Option<u32> {
    room_pm(lookup, rules).map(|pm| capacity.saturating_mul(pm) / 1000)
}

/// The share of a node that the lookup may fill, in thousandths; `None`: no limit.
fn room_pm(lookup: &Lookup, rules: &Rules) -> Option<u32> {
    match lookup.kind {
        Kind::New | Kind::Callback if lookup.emergency => None,
        Kind::New | Kind::Callback => Some(1000u32.saturating_sub(rules.agent_reserve_pm)),
        // The caller is there already: his agent is counted, never refused for room.
        Kind::Agent => None,
    }
}

fn judge(n: &Loaded, lookup: &Lookup, rules: &Rules) -> Verdict {
    let node = &n.node;
    if lookup.kind == Kind::Agent {
        let own = lookup.node.as_ref() == Some(&node.id) && node.state != NodeState::Removed;
        return if own { Verdict::Eligible } else { Verdict::OtherNode };
    }
    match node.state {
        NodeState::Active => {}
        NodeState::Draining => return Verdict::Draining,
        NodeState::Down | NodeState::Removed => return Verdict::Down,
    }
    if lookup.exclude.contains(&node.id) {
        return Verdict::Excluded;
    }
    if !node.health.is_fit() {
        return Verdict::Unwell(node.health.condition);
    }
    if let Some(tag) = lookup.tags.difference(&node.tags).next() {
        return Verdict::NoTag(tag.clone());
    }
    match room(node.effective_capacity(), lookup, rules) {
        Some(room) if n.load >= room => Verdict::NoRoom,
        Some(_) | None => Verdict::Eligible,
    }
}

fn eligible(verdicts: &[Verdict]) -> Vec<usize> {
    verdicts.iter().enumerate().filter(|(_, v)| **v == Verdict::Eligible).map(|(i, _)| i).collect()
}

/// All nodes of the best sort that there is: available, else active, else draining, else down.
fn last_resort(nodes: &[Loaded]) -> Vec<usize> {
    let of = |state, fit: bool| {
        let sort = move |n: &Loaded| n.node.state == state && (!fit || n.node.health.is_fit());
        let indices = nodes.iter().enumerate().filter(move |(_, n)| sort(n));
        indices.map(|(i, _)| i).collect::<Vec<_>>()
    };
    [
        (NodeState::Active, true),
        (NodeState::Active, false),
        (NodeState::Draining, false),
        (NodeState::Down, false),
    ]
    .into_iter()
    .map(|(state, fit)| of(state, fit))
    .find(|found| !found.is_empty())
    .unwrap_or_default()
}

/// Least occupancy after this call; the caller's zone first unless it would spill; ties to the one touched longest ago.
fn compare(a: &Loaded, b: &Loaded, lookup: &Lookup, rules: &Rules) -> Ordering {
    let far = |n: &Loaded| {
        let after = u64::from(n.load) + 1;
        let near = lookup.zone.is_some() && n.node.zone == lookup.zone;
        let spills = after * 1000 > u64::from(rules.zone_spill_pm) * u64::from(n.node.effective_capacity());
        !near || spills
    };
    far(a)
        .cmp(&far(b))
        .then_with(|| occupancy_after(a, b))
        .then(a.touched.cmp(&b.touched))
        .then(a.node.slot.cmp(&b.node.slot))
}

/// Compares (load + 1) / capacity, exactly.
fn occupancy_after(a: &Loaded, b: &Loaded) -> Ordering {
    let cross = |x: &Loaded, y: &Loaded| (u64::from(x.load) + 1) * u64::from(y.node.effective_capacity());
    cross(a, b).cmp(&cross(b, a))
}

/// Nodes of one pool with the same zone and tags: what a store searches at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shelf {
    /// The zone that they share.
    pub zone: Option<Zone>,
    /// The tags that they share.
    pub tags: BTreeSet<Tag>,
}

impl Shelf {
    /// The shelf that a node stands on; only one that is available stands on one.
    pub fn of(node: &Node) -> Option<Shelf> {
        node.is_available().then(|| Shelf { zone: node.zone.clone(), tags: node.tags.clone() })
    }
}

/// The policy of one lookup, reduced to what an atomic search needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Lease this slot, whatever it carries.
    Pinned(Slot),
    /// Lease the least occupied of these shelves.
    Search {
        /// Shelves of the caller's zone: preferred until their best spills.
        near: BTreeSet<Shelf>,
        /// The others.
        far: BTreeSet<Shelf>,
        /// Share of a node that may be filled, in thousandths; `None`: no limit.
        room_pm: Option<u32>,
        /// Slots not to use.
        exclude: BTreeSet<Slot>,
    },
}

/// Reduces a lookup to a plan, given the pool's nodes as they were last seen.
pub fn plan(nodes: &[Loaded], lookup: &Lookup, rules: &Rules) -> Plan {
    let slot_of = |id: &NodeId| nodes.iter().find(|n| n.node.id == *id).map(|n| n.node.slot);
    if lookup.kind == Kind::Agent {
        let own = lookup.node.as_ref().and_then(|id| nodes.iter().find(|n| n.node.id == *id));
        return match own.filter(|n| n.node.state != NodeState::Removed) {
            Some(own) => Plan::Pinned(own.node.slot),
            None => nothing(),
        };
    }
    let shelves: BTreeSet<Shelf> = nodes.iter().filter_map(|n| Shelf::of(&n.node)).collect();
    let fitting: BTreeSet<Shelf> = shelves.into_iter().filter(|s| lookup.tags.is_subset(&s.tags)).collect();
    let exclude: BTreeSet<Slot> = lookup.exclude.iter().filter_map(slot_of).collect();
    if lookup.emergency {
        let usable = nodes.iter().any(|n| judge(n, lookup, rules) == Verdict::Eligible);
        if !usable {
            let picked = pick(nodes, lookup, rules);
            let first = picked.targets.ok().and_then(|order| order.first().and_then(|i| nodes.get(*i)));
            return first.map_or_else(nothing, |n| Plan::Pinned(n.node.slot));
        }
    }
    let (near, far) = fitting.into_iter().partition(|s| lookup.zone.is_some() && s.zone == lookup.zone);
    Plan::Search { near, far, room_pm: room_pm(lookup, rules), exclude }
}

fn nothing() -> Plan {
    Plan::Search { near: BTreeSet::new(), far: BTreeSet::new(), room_pm: None, exclude: BTreeSet::new() }
}

#[cfg(test)]
mod tests;
