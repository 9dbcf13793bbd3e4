//! Nodes that register themselves by heartbeat.
//!
//! [`heartbeat`] decides what one heartbeat does, [`plan()`] what time does; both without I/O and clock. The rules:
//!
//! * A heartbeat says all of a node, and until when it holds. One that says nothing new changes nothing.
//! * A node whose heartbeat ran out drains, and is removed when its last lease has ended. One that is heard of again takes calls
//!   again. A node that says itself that it drains does so at once; its calls end, and it goes.
//! * What an operator asked of a node stays: drained, down or removed by hand it remains so, whatever its heartbeats say, and for
//!   as long as they come.
//! * A node of the file, added by hand or named by the DNS is no business of heartbeats; nor is a place that another node holds.
//!   But a new node may take the place of a registered one whose heartbeat ran out: two cannot listen there.
//! * When no registered node of a pool is heard of any more, or when draining those that fell silent would leave the pool without
//!   an active node, nobody is drained for silence: that is rather a fault of ours, or of the network between.
//! * Silence counts only while somebody listened: see [`Watch`].

mod mark;
mod plan;

pub use mark::{Mark, Standing};
pub use plan::{Plan, Watch, plan};

use super::discovery::Named;
use super::id::NodeId;
use super::node::{Node, NodeState};
use super::time::EpochMs;
use super::uri::NodeUri;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The shortest time for which a heartbeat may hold, in s.
pub const TTL_MIN_S: u32 = 5;

/// For how long a heartbeat holds that does not say it, in s, unless the pool allows less.
pub const TTL_USUAL_S: u32 = 30;

/// What a heartbeat says of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The definition.
    pub node: Named,
    /// What the node wants.
    pub saying: Saying,
    /// For how long this holds, in s.
    pub ttl_s: u32,
}

/// What a node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// It takes calls.
    Active,
    /// It takes no new calls, and will go when those it has are over.
    Draining,
    /// It goes now.
    Gone,
}

/// What a pool lets nodes say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest time for which a heartbeat may hold, in s.
    pub ttl_max_s: u32,
    /// The most channels that a node may claim.
    pub capacity_max: u32,
    /// The most registered nodes.
    pub nodes_max: usize,
}

/// Whose a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The configuration file's.
    File,
    /// Added at run time.
    Hand,
    /// The DNS's.
    Dns,
    /// Its own: it registered itself.
    Itself(Mark),
}

impl Owner {
    fn mark(self) -> Option<Mark> {
        match self {
            Owner::Itself(mark) => Some(mark),
            Owner::File | Owner::Hand | Owner::Dns => None,
        }
    }

    /// Whose it is, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Owner::File => "the configuration file",
            Owner::Hand => "an operator, who added it by hand",
            Owner::Dns => "the DNS",
            Owner::Itself(_) => "the node itself",
        }
    }
}

/// A node of the pool, as it stands in the store.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its definition; removed ones included.
    pub node: Arc<Node>,
    /// Its live leases.
    pub load: u32,
    /// Whose it is.
    pub owner: Owner,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It is new.
    Join,
    /// It is heard of again, and takes calls again.
    Return,
    /// Its definition is another now, or only the note of it; its state stays.
    Change,
    /// It says that it drains.
    Leave,
    /// Its heartbeat ran out: it takes no new calls.
    Drain,
    /// It has no call, and goes.
    Remove,
    /// Its heartbeat ran out after an operator removed it: it may register anew.
    Forget,
}

impl Act {
    /// The word for it in answers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Join => "joined",
            Act::Return => "returned",
            Act::Change => "changed",
            Act::Leave => "leaving",
            Act::Drain => "drained",
            Act::Remove => "removed",
            Act::Forget => "forgotten",
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
    /// The note; `None`: it is forgotten when its last lease has ended.
    pub mark: Option<Mark>,
}

/// What a heartbeat does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The change of the node; `None`: it stays as it is.
    pub step: Option<Step>,
    /// A silent node whose place it takes: that one is removed.
    pub displaced: Option<NodeId>,
    /// For how long the node is known to live, in s; 0: no longer. `None`: nothing is noted.
    pub lives_s: Option<u32>,
}

/// Why a heartbeat is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// More channels than the pool allows, or none.
    Capacity {
        /// What it claims.
        found: u32,
        /// The most.
        most: u32,
    },
    /// It would hold for too short or too long a time.
    Ttl {
        /// What it says, in s.
        found: u32,
        /// The most, in s.
        most: u32,
    },
    /// Somebody else's node.
    Owned {
        /// Which.
        id: NodeId,
        /// Whose.
        by: Owner,
    },
    /// Another node has this address.
    SameUri {
        /// The address.
        uri: NodeUri,
        /// Who has it.
        other: NodeId,
    },
    /// The pool takes no further node.
    TooMany {
        /// The most.
        most: usize,
    },
}

/// When each node's last heartbeat runs out, or ran out.
pub type Beats = BTreeMap<NodeId, EpochMs>;

/// What a heartbeat does to a pool at `now`.
///
/// # Errors
/// [`Refused`], which names the culprit.
pub fn heartbeat(
    before: &[Known],
    heard: &Heard,
    beats: &Beats,
    limits: &Limits,
    now: EpochMs,
) -> Result<Decision, Refused> {
    let Heard { node, ttl_s, .. } = heard;
    if node.capacity == 0 || node.capacity > limits.capacity_max {
        return Err(Refused::Capacity { found: node.capacity, most: limits.capacity_max });
    }
    if !(TTL_MIN_S..=limits.ttl_max_s).contains(ttl_s) {
        return Err(Refused::Ttl { found: *ttl_s, most: limits.ttl_max_s });
    }
    match before.iter().find(|k| k.node.id == node.id) {
        Some(known) => match known.owner {
            Owner::Itself(mark) => of_registered(before, known, mark, heard, beats, limits, now),
            // Only a slot whose last lease has not ended.
            Owner::Hand if known.node.state == NodeState::Removed => {
                of_unknown(before, heard, beats, limits, now)
            }
            Owner::File | Owner::Hand | Owner::Dns => of_others(known, heard),
        },
        None => of_unknown(before, heard, beats, limits, now),
    }
}

fn of_unknown(
    before: &[Known],
    heard: &Heard,
    beats: &Beats,
    limits: &Limits,
    now: EpochMs,
) -> Result<Decision, Refused> {
    match heard.saying {
        Saying::Active => {}
        // Whoever is not there need not go.
        Saying::Draining | Saying::Gone => return Ok(Decision::default()),
    }
    let displaced = place(before, heard, beats, now)?;
    let gone: BTreeSet<&NodeId> = displaced.iter().collect();
    let registered = before.iter().filter(|k| k.owner.mark().is_some() && k.node.state != NodeState::Removed);
    if registered.filter(|k| !gone.contains(&k.node.id)).count() >= limits.nodes_max {
        return Err(Refused::TooMany { most: limits.nodes_max });
    }
    let step = step(Act::Join, heard.node.clone(), NodeState::Active, Mark::live(heard));
    Ok(Decision { step: Some(step), displaced, lives_s: Some(heard.ttl_s) })
}

/// Somebody else's node may say what is so anyway.
fn of_others(known: &Known, heard: &Heard) -> Result<Decision, Refused> {
    let same_state = match (heard.saying, known.node.state) {
        (Saying::Active, NodeState::Active | NodeState::Draining | NodeState::Down) => true,
        (Saying::Draining, NodeState::Draining) => true,
        (Saying::Draining, NodeState::Active | NodeState::Down)
        | (Saying::Gone, NodeState::Active | NodeState::Draining | NodeState::Down)
        | (Saying::Active | Saying::Draining | Saying::Gone, NodeState::Removed) => false,
    };
    if same_state && Named::of(&known.node) == heard.node {
        return Ok(Decision::default());
    }
    Err(Refused::Owned { id: known.node.id.clone(), by: known.owner })
}

fn of_registered(
    before: &[Known],
    known: &Known,
    mark: Mark,
    heard: &Heard,
    beats: &Beats,
    limits: &Limits,
    now: EpochMs,
) -> Result<Decision, Refused> {
    let by_operator = matches!(mark.standing, Standing::Live);
    let says_new = mark.digest != heard.node.digest() || mark.ttl_s != heard.ttl_s;
    // What an operator changed holds until the node says something else than before.
    let node = if says_new { heard.node.clone() } else { Named::of(&known.node) };
    let leaving = Mark { standing: Standing::Leaving(now), ..Mark::live(heard) };
    let gone = || match known.load {
        0 => Step { act: Act::Remove, node: node.clone(), state: NodeState::Removed, mark: None },
        _ => step(Act::Leave, node.clone(), NodeState::Draining, leaving),
    };
    let live = |act, state| Some(step(act, node.clone(), state, Mark::live(heard)));
    let (next, lives_s) = match (known.node.state, heard.saying) {
        // Removed by hand: for as long as it is heard of.
        (NodeState::Removed, Saying::Active) if by_operator => return Ok(lives(heard.ttl_s)),
        (NodeState::Removed, Saying::Active) => return of_unknown(before, heard, beats, limits, now),
        (NodeState::Removed, Saying::Draining | Saying::Gone) => return Ok(Decision::default()),
        // In an operator's hands.
        (NodeState::Down, Saying::Gone) => return Ok(lives(0)),
        (NodeState::Draining, Saying::Gone) if by_operator => return Ok(lives(0)),
        (state @ NodeState::Down, Saying::Active | Saying::Draining) => {
            (if says_new { live(Act::Change, state) } else { None }, heard.ttl_s)
        }
        (state @ NodeState::Draining, Saying::Active | Saying::Draining) if by_operator => {
            (if says_new { live(Act::Change, state) } else { None }, heard.ttl_s)
        }
        (NodeState::Draining, Saying::Active) => (live(Act::Return, NodeState::Active), heard.ttl_s),
        (NodeState::Active, Saying::Active) => {
            let same = by_operator && !says_new;
            (if same { None } else { live(Act::Change, NodeState::Active) }, heard.ttl_s)
        }
        (state @ (NodeState::Active | NodeState::Draining), Saying::Draining) => {
            let said_before = matches!(mark.standing, Standing::Leaving(_)) && state == NodeState::Draining;
            let next = step(Act::Leave, node.clone(), NodeState::Draining, leaving);
            (if said_before && !says_new { None } else { Some(next) }, heard.ttl_s)
        }
        (NodeState::Active | NodeState::Draining, Saying::Gone) => (Some(gone()), 0),
    };
    // A place that is not its own yet.
    let moves = next.as_ref().is_some_and(|s| s.node.uri.same_place() != known.node.uri.same_place());
    let displaced = if moves { place(before, heard, beats, now)? } else { None };
    Ok(Decision { step: next, displaced, lives_s: Some(lives_s) })
}

/// Whether the node may have its place, and who has to go for it.
fn place(before: &[Known], heard: &Heard, beats: &Beats, now: EpochMs) -> Result<Option<NodeId>, Refused> {
    let Named { id, uri, .. } = &heard.node;
    let others = before.iter().filter(|k| k.node.id != *id && k.node.state != NodeState::Removed);
    let Some(other) = others.into_iter().find(|k| k.node.uri.same_place() == uri.same_place()) else {
        return Ok(None);
    };
    let silent = beats.get(&other.node.id).is_none_or(|until| *until <= now);
    if other.owner.mark().is_some() && silent {
        return Ok(Some(other.node.id.clone()));
    }
    Err(Refused::SameUri { uri: uri.clone(), other: other.node.id.clone() })
}

fn lives(ttl_s: u32) -> Decision {
    Decision { lives_s: Some(ttl_s), ..Decision::default() }
}

fn step(act: Act, node: Named, state: NodeState, mark: Mark) -> Step {
    Step { act, node, state, mark: Some(mark) }
}

#[cfg(test)]
mod tests;
