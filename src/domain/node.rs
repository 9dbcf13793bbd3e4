//! Nodes: the Asterisk servers that calls may be sent to.

use super::health::Health;
use super::id::{NodeId, Slot, Tag, Zone};
use super::uri::NodeUri;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The most channels that a node may be said to carry.
///
/// A bound, so that two occupancies that differ at all differ by more than the load table can tell apart
/// (1/8000² > 2⁻²⁶): the choice between them is exact.
pub const CAPACITY_MAX: u32 = 8000;

/// One Asterisk server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in its pool.
    pub id: NodeId,
    /// Its place in the load table.
    pub slot: Slot,
    /// Where it listens.
    pub uri: NodeUri,
    /// Channels that it may carry at once: 1 … [`CAPACITY_MAX`].
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What it can do.
    pub tags: BTreeSet<Tag>,
    /// What it is asked to do.
    pub state: NodeState,
    /// What calls and probes tell of it.
    pub health: Health,
}

impl Node {
    /// The capacity to count with.
    pub fn effective_capacity(&self) -> u32 {
        self.health.of_capacity(self.capacity)
    }

    /// Whether it may be chosen: it is asked to take calls, and nothing that counts speaks against it.
    pub fn is_available(&self) -> bool {
        self.state == NodeState::Active && self.health.is_fit()
    }
}

/// What a node is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Takes calls.
    Active,
    /// Takes no new calls and keeps those it has, and their agents.
    Draining,
    /// Takes no calls: it is being repaired, or is known to be dead.
    Down,
    /// Taken out of the pool; its slot is kept until its last lease has ended.
    Removed,
}

impl NodeState {
    /// The word for it in files, protocol and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
            NodeState::Down => "down",
            NodeState::Removed => "removed",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no [`NodeState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAState(pub String);

impl fmt::Display for NotAState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a state of a node; use active, draining or down", self.0)
    }
}

impl std::error::Error for NotAState {}

impl FromStr for NodeState {
    type Err = NotAState;
    fn from_str(s: &str) -> Result<Self, NotAState> {
        [NodeState::Active, NodeState::Draining, NodeState::Down, NodeState::Removed]
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| NotAState(s.to_owned()))
    }
}
