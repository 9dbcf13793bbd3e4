//! The cell that this instance can lead: `[cell]`, `[ari]`, `[[queue]]`, `[[agent]]` and `[[treatment]]`.
//!
//! * this file: what is made of them, and what holds between them · [`ari`]: how nodes are talked to
//! * `queues`, `agents`, `treatments`: their keys, with defaults and limits

mod agents;
mod ari;
mod queues;
mod treatments;
mod warnings;

pub(super) use ari::node_ari;
pub use ari::{Ari, AriConfig, NodeAri};
pub(super) use warnings::warnings;

use super::PoolConfig;
use super::reader::{Reader, Spot};
use crate::domain::id::{CellId, NameError, NodeId, PoolId, QueueId, TreatmentId};
use crate::domain::queue::{OWN_CALL_MAX_MS, Setup, Treatment};
use crate::domain::uri::NodeUri;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// The most queues of a cell.
pub const QUEUES_MAX: usize = 1_000;

/// The most agents of a cell.
pub const AGENTS_MAX: usize = 10_000;

/// The most treatments of a cell.
pub const TREATMENTS_MAX: usize = 1_000;

/// The most queues that one agent is a member of.
pub const MEMBERSHIPS_MAX: usize = 100;

/// The longest time that something of a queue may be said to take, in s.
const DAY_S: i64 = 86_400;

/// The cell that this instance can lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellConfig {
    /// Its name.
    pub id: CellId,
    /// Pools whose nodes it drives; `None`: all.
    pub pools: Option<BTreeSet<PoolId>>,
    /// `[ari]`: how its nodes are talked to.
    pub ari: AriConfig,
    /// Queues, agents and treatments.
    pub setup: Arc<Setup>,
    /// What `queue.weight` says. The memberships in `setup` have it already; here it is told apart from their own.
    pub weights: BTreeMap<QueueId, u16>,
}

/// A node that a cell drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellNode {
    /// Its pool.
    pub pool: PoolId,
    /// Its name, unique in the cell.
    pub id: NodeId,
    /// How it is talked to.
    pub ari: Ari,
}

impl CellConfig {
    /// Whether the nodes of this pool are driven.
    pub fn drives(&self, pool: &PoolId) -> bool {
        self.pools.as_ref().is_none_or(|pools| pools.contains(pool))
    }

    /// The nodes of the file that are driven, in its order; not those with `ari = "off"`.
    pub fn nodes(&self, pools: &[PoolConfig]) -> Vec<CellNode> {
        let driven = pools.iter().filter(|pool| self.drives(&pool.name));
        let nodes = driven.flat_map(|pool| pool.nodes.iter().map(move |node| (pool, node)));
        let place = |(pool, node): (&PoolConfig, &super::NodeConfig)| {
            let ari = self.place(&node.ari, &node.uri)?;
            Some(CellNode { pool: pool.name.clone(), id: node.id.clone(), ari })
        };
        nodes.filter_map(place).collect()
    }

    /// How a node of the store is talked to: as the file says, if it names the node, else by its address. `None`: it is not driven.
    pub fn ari_of(&self, pools: &[PoolConfig], pool: &PoolId, id: &NodeId, uri: &NodeUri) -> Option<Ari> {
        if !self.drives(pool) {
            return None;
        }
        let of_file = pools.iter().find(|p| p.name == *pool);
        let of_file = of_file.and_then(|p| p.nodes.iter().find(|node| node.id == *id));
        self.place(of_file.map_or(&NodeAri::Usual, |node| &node.ari), uri)
    }

    fn place(&self, said: &NodeAri, uri: &NodeUri) -> Option<Ari> {
        match said {
            NodeAri::Usual => Some(self.ari.usual(uri)),
            NodeAri::At(ari) => Some(ari.clone()),
            NodeAri::Off => None,
        }
    }
}

/// The whole cell. `None`: not written, or so wrong that it cannot be spoken of; that was reported. `spots`: where the ids of the
/// pools' nodes stand.
pub(super) fn read(
    root: &mut Reader<'_, '_>,
    pools: Option<&[PoolConfig]>,
    spots: &[Vec<Spot>],
) -> Option<CellConfig> {
    let mut t = root.table("cell");
    let ari_table = root.table("ari");
    let queue_tables = root.tables("queue", QUEUES_MAX);
    let agent_tables = root.tables("agent", AGENTS_MAX);
    let treatment_tables = root.tables("treatment", TREATMENTS_MAX);
    if !t.is_written() {
        if !root.has("cell") {
            nobody_serves(root);
        }
        return None;
    }
    let id = t.text("id", str::parse::<CellId>);
    let id = id.or_else(|| "main".parse().ok());
    let driven = driven_pools(&mut t, pools);
    let last_resort = t.text("last_resort", str::parse::<TreatmentId>);
    let numbers_by = t.text("transfer_out", str::parse::<TreatmentId>);
    let own_call_max_ms = queues::ms(&mut t, "own_call_max_s", 60..=DAY_S).unwrap_or(OWN_CALL_MAX_MS);
    let ari = ari::ari(ari_table, t.spot());

    let treatments = treatments::all(root, treatment_tables);
    let queues = queues::all(root, queue_tables, &treatments.names);
    let agents = agents::all(root, agent_tables, &queues);
    for (queue, spot) in &treatments.overflows {
        queues.names.check(root, queue, spot);
    }
    if let Some(name) = &last_resort {
        treatments.names.check(root, name, &t.spot_of("last_resort"));
    }
    if let Some(name) = &numbers_by {
        let spot = t.spot_of("transfer_out");
        treatments.names.check(root, name, &spot);
        if treatments.treatments.get(name).is_some_and(|out| !matches!(out, Treatment::Dialplan { .. })) {
            t.wrong(
                &spot,
                format!("{name} is no place in the dialplan: write one with context and extension"),
            );
        }
    }
    t.done();
    let (numbers, treatments) = (queues.numbers, treatments.treatments);
    let setup =
        Setup { queues: queues.rules, agents, treatments, last_resort, numbers, numbers_by, own_call_max_ms };
    let cell =
        CellConfig { id: id?, pools: driven, ari: ari?, setup: Arc::new(setup), weights: queues.weights };
    one_name_each(root, &cell, pools.unwrap_or_default(), spots);
    Some(cell)
}

/// What only a cell needs is there, and no cell.
fn nobody_serves(root: &Reader<'_, '_>) {
    for (key, what) in [
        ("ari", "talks to nodes"),
        ("queue", "serves it"),
        ("agent", "calls agents"),
        ("treatment", "needs it"),
    ] {
        if root.has(key) {
            root.wrong(&root.spot_of(key), format!("only a cell {what}: write [cell], or take this out"));
        }
    }
}

fn driven_pools(t: &mut Reader<'_, '_>, pools: Option<&[PoolConfig]>) -> Option<BTreeSet<PoolId>> {
    let names = t.list("pools", super::POOLS_MAX, str::parse::<PoolId>)?;
    let mut driven = BTreeSet::new();
    for (name, spot) in names {
        if pools.is_some_and(|all| all.iter().all(|pool| pool.name != name)) {
            t.wrong(&spot, format!("there is no pool {name}"));
        } else if driven.contains(&name) {
            t.wrong(&spot, format!("{name} is there twice"));
        }
        driven.insert(name);
    }
    // A list that lost its wrong ones is not empty.
    if driven.is_empty() && !t.any_wrong() {
        t.wrong(
            &t.spot_of("pools"),
            "an empty list: no node could be driven; leave the key out for all pools",
        );
    }
    Some(driven)
}

/// The leader tells nodes apart by their ids alone: offers and channels name them so.
fn one_name_each(root: &Reader<'_, '_>, cell: &CellConfig, pools: &[PoolConfig], spots: &[Vec<Spot>]) {
    let mut seen: BTreeMap<&NodeId, &PoolId> = BTreeMap::new();
    for (pool, spots) in pools.iter().zip(spots).filter(|(pool, _)| cell.drives(&pool.name)) {
        for (node, spot) in pool.nodes.iter().zip(spots).filter(|(node, _)| node.ari != NodeAri::Off) {
            match seen.get(&node.id) {
                // Twice in one pool was said already.
                Some(other) if **other == pool.name => {}
                Some(other) => root.wrong(
                    spot,
                    format!(
                        "pool {other} has a node {} too: a cell needs another id for each node that it drives",
                        node.id
                    ),
                ),
                None => drop(seen.insert(&node.id, &pool.name)),
            }
        }
    }
}

/// The ids of one kind of table.
struct Names<K> {
    what: &'static str,
    seen: BTreeSet<K>,
    /// Whether every id could be read: if not, a name that is not among them may be meant by one of the others.
    whole: bool,
}

impl<K: Ord + Clone + Display + FromStr<Err = NameError>> Names<K> {
    /// `what`: a word for one of them, and the key of the tables.
    fn new(root: &Reader<'_, '_>, what: &'static str, tables: &[Reader<'_, '_>]) -> Names<K> {
        // A list that could not be read has none either.
        let whole = !tables.is_empty() || !root.has(what) || !root.any_wrong();
        Names { what, seen: BTreeSet::new(), whole }
    }

    /// The id of one of them.
    fn read(&mut self, t: &mut Reader<'_, '_>) -> Option<K> {
        let id = t.text("id", str::parse::<K>);
        t.require("id");
        match &id {
            Some(id) if !self.seen.insert(id.clone()) => {
                t.wrong(&t.spot_of("id"), format!("two {}s have the id {id}", self.what));
            }
            Some(_) => {}
            None => self.whole = false,
        }
        id
    }

    /// Whoever is spoken of has to be there.
    fn check(&self, t: &Reader<'_, '_>, id: &K, spot: &Spot) {
        if self.whole && !self.seen.contains(id) {
            t.wrong(spot, format!("there is no {} {id}", self.what));
        }
    }
}
