//! Nodes: from the configuration file, and added, changed, drained and removed at run time.
//!
//! What was said last counts. A change at run time outlives a restart when the store does; a definition that was *changed in the
//! file* since it was last applied replaces what the store has.

use super::registration;
use super::seen::Pool;
use crate::config::{Config, NodeConfig};
use crate::domain::discovery;
use crate::domain::health::Health;
use crate::domain::id::{NodeId, PoolId, Slot, Tag, Zone};
use crate::domain::node::{CAPACITY_MAX, Node, NodeState};
use crate::domain::pool::Loaded;
use crate::domain::registration::{Mark, Standing};
use crate::domain::time::EpochMs;
use crate::domain::uri::NodeUri;
use crate::store::{NodeRecord, StoreError, View, Written};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tracing::{info, warn};

/// The nodes of a configuration file, by pool.
pub type FileNodes = BTreeMap<PoolId, Vec<NodeDef>>;

/// The nodes of a configuration, by pool.
pub fn from_config(config: &Config) -> FileNodes {
    let def = |n: &NodeConfig| NodeDef {
        id: n.id.clone(),
        uri: n.uri.clone(),
        capacity: n.capacity,
        zone: n.zone.clone(),
        tags: n.tags.clone(),
        state: n.state,
    };
    config.pools.iter().map(|pool| (pool.name.clone(), pool.nodes.iter().map(def).collect())).collect()
}

/// How often a change is tried again when somebody else was first.
pub(super) const TRIES: u32 = 16;

/// A node as somebody defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDef {
    /// Its name.
    pub id: NodeId,
    /// Where it listens.
    pub uri: NodeUri,
    /// Channels that it may carry.
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What it can do.
    pub tags: BTreeSet<Tag>,
    /// What it is asked to do.
    pub state: NodeState,
}

/// What became of a node by the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The pool.
    pub pool: PoolId,
    /// The node.
    pub node: NodeId,
    /// What became of it.
    pub done: Done,
}

impl Step {
    pub(super) fn added(pool: &PoolId, node: &NodeId) -> Step {
        Step { pool: pool.clone(), node: node.clone(), done: Done::Added }
    }
}

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is new.
    Added,
    /// The file defines it in another way than before.
    Changed,
    /// The file names it no more.
    Drained,
    /// The file names it no more, and the DNS is asked: its next answer decides.
    Discovery,
}

impl Done {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Done::Added => "added",
            Done::Changed => "changed",
            Done::Drained => "drained",
            Done::Discovery => "discovery",
        }
    }
}

/// Nodes of a pool that the file names no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    pub ids: BTreeSet<NodeId>,
    /// The pool is looked up in the DNS.
    pub to_discovery: bool,
}

impl NodeDef {
    /// The same text for the same definition, whatever process writes it.
    fn digest(&self) -> String {
        let NodeDef { id, uri, capacity, zone, tags, state } = self;
        let hash = Sha256::digest(format!("{id}|{uri}|{capacity}|{zone:?}|{tags:?}|{state}").as_bytes());
        hash.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    fn at(&self, slot: Slot, health: Health) -> Arc<Node> {
        let NodeDef { id, uri, capacity, zone, tags, state } = self.clone();
        Arc::new(Node { id, slot, uri, capacity, zone, tags, state, health })
    }
}

/// A change to one node; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePatch {
    /// Where it listens.
    pub uri: Option<NodeUri>,
    /// Channels that it may carry.
    pub capacity: Option<u32>,
    /// Where it stands; `Some(None)`: nowhere.
    pub zone: Option<Option<Zone>>,
    /// What it can do.
    pub tags: Option<BTreeSet<Tag>>,
    /// What it is asked to do.
    pub state: Option<NodeState>,
}

/// What somebody wants of a pool's nodes.
#[derive(Clone, Debug)]
pub enum NodeChange {
    /// A new node.
    Add(NodeDef),
    /// Another definition for a node that is there.
    Set(NodeId, NodePatch),
    /// A node goes. With calls on it only when forced; they are counted until they end.
    Remove {
        /// Which.
        id: NodeId,
        /// Also while it carries calls.
        force: bool,
    },
}

/// Why a change was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// No such node.
    #[error("pool {pool} has no node {id}")]
    NotThere {
        /// The pool.
        pool: PoolId,
        /// The node.
        id: NodeId,
    },
    /// A node of this name is there already.
    #[error("pool {pool} has a node {id} already")]
    SameId {
        /// The pool.
        pool: PoolId,
        /// The node.
        id: NodeId,
    },
    /// Another node has this address already.
    #[error("{uri} is the address of node {other} already")]
    SameUri {
        /// The address.
        uri: NodeUri,
        /// Who has it.
        other: NodeId,
    },
    /// Capacity out of its range.
    #[error("capacity {0}; 1 to {CAPACITY_MAX} channels are allowed")]
    Capacity(u32),
    /// It still carries calls.
    #[error("node {id} carries {load} calls; drain it first, or force the removal")]
    Loaded {
        /// The node.
        id: NodeId,
        /// Its live leases.
        load: u32,
    },
    /// The load table has no slot left.
    #[error("a pool has at most {} nodes, removed ones that still carry calls included", Slot::COUNT)]
    TooMany,
    /// Others kept changing the pool.
    #[error("others keep changing pool {0}; try again")]
    Busy(PoolId),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pool {
    /// Makes a change and returns the pool as it is then.
    pub async fn change(&self, change: &NodeChange) -> Result<View, NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..TRIES {
            let view = self.look_whole().await?;
            let nodes = apply(&self.id, &view, change)?;
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                info!(pool = %self.id, version, ?change, "nodes changed");
                return Ok(self.refresh().await?.view.clone());
            }
        }
        Err(NodeError::Busy(self.id.clone()))
    }

    /// What the store holds, for whoever changes it. If it lost the pool, what this instance knows is given back first: one node more
    /// must not be all.
    pub(super) async fn look_whole(&self) -> Result<View, StoreError> {
        let (last, view) = (self.seen(), self.look().await?);
        if view.version > 0 || last.view.version == 0 {
            return Ok(view);
        }
        warn!(pool = %self.id, nodes = last.view.nodes.len(), "the store lost the pool; giving the nodes back to it");
        self.write(&view, &last.view.nodes).await?;
        self.look().await
    }

    /// Puts the nodes of the configuration file into the store, where they are new or were changed in the file, and drains those
    /// that it names no more. What was done.
    pub(super) async fn seed(&self, file: &[NodeDef], gone: &Gone) -> Result<Vec<Step>, StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        let mut done = Vec::new();
        for _ in 0..TRIES {
            let view = self.look_whole().await?;
            let Some(nodes) = merge_all(&view, file, gone) else { break };
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                info!(pool = %self.id, version, nodes = nodes.len(), "nodes of the file are in the store");
                done = steps(&self.id, &view.nodes, &nodes);
                break;
            }
        }
        self.refresh().await?;
        Ok(done)
    }

    /// What [`Pool::seed`] would do, as far as the last view tells.
    pub(super) fn would_seed(&self, file: &[NodeDef], gone: &Gone) -> Vec<Step> {
        let view = &self.seen().view;
        merge_all(view, file, gone).map_or_else(Vec::new, |nodes| steps(&self.id, &view.nodes, &nodes))
    }

    /// Takes the file's word for the pool, where nothing better was ever seen.
    pub(super) fn assume(&self, file: &[NodeDef]) {
        let seen = self.seen();
        if seen.view.version > 0 || !seen.view.nodes.is_empty() {
            return;
        }
        if let Some(nodes) = merge(&View::empty(), file) {
            let loaded = nodes.iter().map(|r| Loaded { node: r.node.clone(), load: 0, touched: 0 }).collect();
            self.show(View { nodes, loaded, ..View::empty() });
        }
    }

    pub(super) async fn write(&self, expected: &View, nodes: &[NodeRecord]) -> Result<Written, StoreError> {
        self.observe("write_nodes", self.store().write_nodes(&self.id, expected, nodes)).await
    }
}

/// The pool's records after a change.
pub fn apply(pool: &PoolId, view: &View, change: &NodeChange) -> Result<Vec<NodeRecord>, NodeError> {
    let mut nodes = view.nodes.clone();
    match change {
        NodeChange::Add(def) => {
            if view.node(&def.id).is_some() {
                return Err(NodeError::SameId { pool: pool.clone(), id: def.id.clone() });
            }
            check(&nodes, &def.id, &def.uri, def.capacity)?;
            // What a removed node once said of itself is over.
            put(&mut nodes, def, view.at, |record| match registration::mark(record) {
                Some(_) => None,
                None => record.file_digest.clone(),
            })?;
        }
        NodeChange::Set(id, patch) => {
            let not_there = || NodeError::NotThere { pool: pool.clone(), id: id.clone() };
            let old = view.node(id).ok_or_else(not_there)?.node.clone();
            let def = NodeDef {
                id: id.clone(),
                uri: patch.uri.clone().unwrap_or_else(|| old.uri.clone()),
                capacity: patch.capacity.unwrap_or(old.capacity),
                zone: patch.zone.clone().unwrap_or_else(|| old.zone.clone()),
                tags: patch.tags.clone().unwrap_or_else(|| old.tags.clone()),
                state: patch.state.unwrap_or(old.state),
            };
            check(&nodes, id, &def.uri, def.capacity)?;
            put(&mut nodes, &def, view.at, |record| digest_after(record, patch.state))?;
            // Who says that a node is to take calls says that it can.
            if patch.state == Some(NodeState::Active) {
                well(&mut nodes, id);
            }
        }
        NodeChange::Remove { id, force } => {
            let found =
                view.node(id).ok_or_else(|| NodeError::NotThere { pool: pool.clone(), id: id.clone() })?;
            if found.load > 0 && !force {
                return Err(NodeError::Loaded { id: id.clone(), load: found.load });
            }
            for record in nodes.iter_mut().filter(|r| r.node.id == *id) {
                Arc::make_mut(&mut record.node).state = NodeState::Removed;
                record.since = view.at;
            }
        }
    }
    Ok(nodes)
}

/// The pool's records with the file's definitions applied; `None`: nothing is new.
fn merge(view: &View, file: &[NodeDef]) -> Option<Vec<NodeRecord>> {
    let mut nodes = view.nodes.clone();
    for def in file {
        let digest = def.digest();
        let known = nodes.iter().find(|r| r.node.id == def.id);
        if known.is_some_and(|r| r.file_digest.as_ref() == Some(&digest)) {
            continue;
        }
        // A full load table is the only way to fail, and leaves the node out: said in the log by its absence from the lists.
        let _ = put(&mut nodes, def, view.at, |_| Some(digest.clone()));
    }
    (nodes != view.nodes || view.version == 0).then_some(nodes)
}

/// An operator's word about a node that registered itself holds until the operator takes it back.
fn digest_after(record: &NodeRecord, said: Option<NodeState>) -> Option<String> {
    match (registration::mark(record), said) {
        (Some(mark), Some(NodeState::Draining | NodeState::Down)) => {
            Some(Mark { standing: Standing::Live, ..mark }.to_string())
        }
        (Some(_) | None, Some(_) | None) => record.file_digest.clone(),
    }
}

/// The same, and the nodes drained that the file names no more; `None`: nothing is new.
fn merge_all(view: &View, file: &[NodeDef], gone: &Gone) -> Option<Vec<NodeRecord>> {
    let mut nodes = merge(view, file).unwrap_or_else(|| view.nodes.clone());
    drain(&mut nodes, gone, view.at);
    (nodes != view.nodes || view.version == 0).then_some(nodes)
}

/// Nodes that the file names no more take no new calls, and are nobody's: written again, they are new. Where the DNS is asked they are
/// discovery's. Those that an operator or discovery has meanwhile are left alone.
fn drain(nodes: &mut [NodeRecord], gone: &Gone, now: EpochMs) {
    for record in nodes.iter_mut().filter(|r| gone.ids.contains(&r.node.id)) {
        let marked = super::discovery::mark(record).is_some() || registration::mark(record).is_some();
        let of_file = record.file_digest.is_some() && !marked;
        if !of_file {
            continue;
        }
        // Where the DNS is asked its next answer decides: it may name the same place.
        if gone.to_discovery && record.node.state != NodeState::Removed {
            let named = discovery::Mark { standing: discovery::Standing::Named, digest: 0 };
            record.file_digest = Some(named.to_string());
            continue;
        }
        record.file_digest = None;
        if record.node.state == NodeState::Active {
            Arc::make_mut(&mut record.node).state = NodeState::Draining;
            record.since = now;
        }
    }
}

/// What lies between two states of a pool's records.
fn steps(pool: &PoolId, before: &[NodeRecord], after: &[NodeRecord]) -> Vec<Step> {
    let before: BTreeMap<&NodeId, &NodeRecord> = before.iter().map(|r| (&r.node.id, r)).collect();
    let done = |new: &NodeRecord| match before.get(&new.node.id) {
        Some(old) if *old == new => None,
        Some(old) if old.file_digest.is_some() && new.file_digest.is_none() => Some(Done::Drained),
        Some(old) if super::discovery::mark(old) != super::discovery::mark(new) => Some(Done::Discovery),
        Some(_) => Some(Done::Changed),
        None => Some(Done::Added),
    };
    let step =
        |new: &NodeRecord| Some(Step { pool: pool.clone(), node: new.node.id.clone(), done: done(new)? });
    after.iter().filter_map(step).collect()
}

fn well(nodes: &mut [NodeRecord], id: &NodeId) {
    for record in nodes.iter_mut().filter(|r| r.node.id == *id) {
        Arc::make_mut(&mut record.node).health = Health::default();
    }
}

fn check(nodes: &[NodeRecord], id: &NodeId, uri: &NodeUri, capacity: u32) -> Result<(), NodeError> {
    if capacity == 0 || capacity > CAPACITY_MAX {
        return Err(NodeError::Capacity(capacity));
    }
    let others = nodes.iter().filter(|r| r.node.id != *id && r.node.state != NodeState::Removed);
    match others.into_iter().find(|r| r.node.uri.same_place() == uri.same_place()) {
        Some(other) => Err(NodeError::SameUri { uri: uri.clone(), other: other.node.id.clone() }),
        None => Ok(()),
    }
}

/// Replaces or adds a record. A node that was there keeps its slot, also one that was removed.
pub(super) fn put(
    nodes: &mut Vec<NodeRecord>,
    def: &NodeDef,
    now: EpochMs,
    digest: impl Fn(&NodeRecord) -> Option<String>,
) -> Result<(), NodeError> {
    if let Some(record) = nodes.iter_mut().find(|r| r.node.id == def.id) {
        let since = if record.node.state == def.state { record.since } else { now };
        // What is known of a node is known of the place where it listens.
        let here = record.node.uri.same_place() == def.uri.same_place();
        let health = if here { record.node.health.clone() } else { Health::default() };
        let node = def.at(record.node.slot, health);
        *record = NodeRecord { node, file_digest: digest(record), since };
        return Ok(());
    }
    let slot = free_slot(nodes).ok_or(NodeError::TooMany)?;
    let fresh = NodeRecord { node: def.at(slot, Health::default()), file_digest: None, since: now };
    let file_digest = digest(&fresh);
    nodes.push(NodeRecord { file_digest, ..fresh });
    Ok(())
}

/// The least slot that nobody has. Records stand in the order of their slots most times: sorting them is quick then.
fn free_slot(nodes: &[NodeRecord]) -> Option<Slot> {
    let mut taken: Vec<u16> = nodes.iter().map(|r| r.node.slot.0).collect();
    taken.sort_unstable();
    let gap = (0..).zip(&taken).find(|(free, taken)| free != *taken).map(|(free, _)| free);
    let free = gap.or_else(|| u16::try_from(taken.len()).ok())?;
    (free < Slot::COUNT).then_some(Slot(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(id: &str, uri: &str) -> NodeDef {
        let (zone, tags, state) = (None, BTreeSet::new(), NodeState::Active);
        NodeDef { id: id.parse().unwrap(), uri: uri.parse().unwrap(), capacity: 10, zone, tags, state }
    }

    fn view(nodes: Vec<NodeRecord>, load: u32) -> View {
        let loaded = nodes.iter().map(|r| Loaded { node: r.node.clone(), load, touched: 0 }).collect();
        View { version: 1, nodes, loaded, at: EpochMs(77), history: 1 }
    }

    fn seeded(load: u32) -> View {
        let file = [def("a", "sip:10.0.0.1"), def("b", "sip:10.0.0.2")];
        view(merge(&View::empty(), &file).unwrap(), load)
    }

    fn change(view: &View, change: &NodeChange) -> Result<Vec<NodeRecord>, String> {
        apply(&"p".parse().unwrap(), view, change).map_err(|e| e.to_string())
    }

    fn set(id: &str, patch: NodePatch) -> NodeChange {
        NodeChange::Set(id.parse().unwrap(), patch)
    }

    #[test]
    fn a_change_at_run_time_outlives_a_restart_with_the_same_file() {
        let patch =
            NodePatch { capacity: Some(99), state: Some(NodeState::Draining), ..NodePatch::default() };
        let changed = view(change(&seeded(0), &set("a", patch)).unwrap(), 0);
        let file = [def("a", "sip:10.0.0.1"), def("b", "sip:10.0.0.2")];
        assert_eq!(merge(&changed, &file), None);
        assert_eq!(changed.nodes[0].since, EpochMs(77));
        let edited = [NodeDef { capacity: 20, ..def("a", "sip:10.0.0.1") }];
        let nodes = merge(&changed, &edited).unwrap();
        assert_eq!((nodes[0].node.capacity, nodes[0].node.state), (20, NodeState::Active));
        assert_eq!(nodes[1].node.id.as_str(), "b", "a node that this file does not name stays");
    }

    #[test]
    fn a_removed_node_does_not_come_back_with_a_restart_and_keeps_its_slot() {
        let remove = NodeChange::Remove { id: "a".parse().unwrap(), force: false };
        assert!(change(&seeded(3), &remove).unwrap_err().contains("carries 3 calls"));
        let removed = view(change(&seeded(0), &remove).unwrap(), 0);
        assert_eq!(merge(&removed, &[def("a", "sip:10.0.0.1")]), None);
        let again = change(&removed, &NodeChange::Add(def("c", "sip:10.0.0.1"))).unwrap();
        assert_eq!((again[2].node.slot, again[0].node.state), (Slot(2), NodeState::Removed));
        let back = change(&removed, &NodeChange::Add(def("a", "sip:10.0.0.9"))).unwrap();
        assert_eq!((back.len(), back[0].node.slot, back[0].node.state), (2, Slot(0), NodeState::Active));
    }

    #[test]
    fn the_least_free_slot_is_taken_until_there_is_none() {
        let many =
            |n: u32| (0..n).map(|n| def(&format!("n{n}"), &format!("sip:127.0.{}.{}", n / 250, n % 250)));
        let full: Vec<NodeDef> = many(u32::from(Slot::COUNT)).collect();
        let mut nodes = merge(&View::empty(), &full).unwrap();
        assert_eq!(nodes.len(), usize::from(Slot::COUNT));
        assert_eq!(free_slot(&nodes), None);
        let gone = nodes.remove(7);
        nodes.reverse();
        assert_eq!((free_slot(&nodes), free_slot(&[])), (Some(gone.node.slot), Some(Slot(0))));
    }

    #[test]
    fn what_the_file_names_no_more_drains_unless_it_is_somebody_elses() {
        let gone = |to_discovery| Gone { ids: ["b".parse().unwrap()].into(), to_discovery };
        let before = seeded(3);
        let drained = merge_all(&before, &[def("a", "sip:10.0.0.1")], &gone(false)).unwrap();
        let b = &drained[1];
        assert_eq!((b.node.state, &b.file_digest, b.since), (NodeState::Draining, &None, EpochMs(77)));
        assert_eq!(merge_all(&view(drained, 3), &[], &gone(false)), None, "once");
        let handed = merge_all(&before, &[], &gone(true)).unwrap();
        assert_eq!(handed[1].node.state, NodeState::Active);
        assert!(super::super::discovery::mark(&handed[1]).is_some());
        assert_eq!(merge_all(&view(handed, 3), &[], &gone(false)), None, "discovery's by now");
    }

    #[test]
    fn errors_name_the_culprit() {
        let v = seeded(0);
        for (wrong, text) in [
            (NodeChange::Add(def("a", "sip:10.0.0.9")), "pool p has a node a already"),
            (
                NodeChange::Add(def("c", "sip:10.0.0.2:5060")),
                "sip:10.0.0.2:5060 is the address of node b already",
            ),
            (set("z", NodePatch::default()), "pool p has no node z"),
            (
                set("a", NodePatch { uri: "sip:10.0.0.2".parse().ok(), ..NodePatch::default() }),
                "sip:10.0.0.2 is the address of node b already",
            ),
            (
                set("a", NodePatch { capacity: Some(8001), ..NodePatch::default() }),
                "capacity 8001; 1 to 8000 channels are allowed",
            ),
        ] {
            assert_eq!(change(&v, &wrong).unwrap_err(), text);
        }
    }
}
