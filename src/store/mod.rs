//! Floor 2: the state that all instances share: nodes and leases of each pool.
//!
//! [`Store`] is the whole contract; `tests/store_contract.rs` runs one suite over every implementation.
//!
//! * [`memory`]: in this process, for trying out and for tests
//! * [`file`](mod@file): in this process and in a file, for one instance that survives restarts
//! * [`redis`]: shared by many instances

pub mod cell;
mod definition;
pub mod file;
pub mod memory;
pub mod redis;
mod table;
mod ties;

use crate::domain::admission::{Admit, Scope, Usage};
use crate::domain::id::{LeaseId, NodeId, PoolId, Slot, StickyId};
use crate::domain::lease::{Lifetimes, Settle, Settled};
use crate::domain::node::{Node, NodeState};
use crate::domain::pool::{Loaded, Lookup, NoPick, Rules};
use crate::domain::registration::Beats;
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use std::sync::Arc;

/// A clock that an embedded store reads; tests bring their own.
pub type ClockFn = Box<dyn Fn() -> EpochMs + Send + Sync>;

/// A pool's nodes and loads, as they were at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Rises with each change of the definitions; 0: the store knows nothing of this pool.
    pub version: u64,
    /// The definitions, by slot; removed ones included.
    pub nodes: Vec<NodeRecord>,
    /// Load and touch of each of `nodes`, in the same order; removed ones included.
    pub loaded: Vec<Loaded>,
    /// When it was taken, by the store's clock.
    pub at: EpochMs,
    /// The same number for as long as the store has forgotten nothing of the pool; 0: the store was not asked. Another one: it may
    /// have forgotten some or all of its leases (emptied, restarted, replaced by a replica).
    pub history: u64,
}

impl View {
    /// What is known before the store was asked.
    pub fn empty() -> View {
        View { version: 0, nodes: Vec::new(), loaded: Vec::new(), at: EpochMs(0), history: 0 }
    }

    /// The node of this name, unless it was removed.
    pub fn node(&self, id: &NodeId) -> Option<&Loaded> {
        self.loaded.iter().find(|n| n.node.id == *id && n.node.state != NodeState::Removed)
    }

    /// The node in this slot, removed or not.
    pub fn at_slot(&self, slot: Slot) -> Option<&Loaded> {
        self.loaded.iter().find(|n| n.node.slot == slot)
    }
}

/// A node's definition and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The definition.
    pub node: Arc<Node>,
    /// Digest of the definition in the configuration file that was applied last, discovery's
    /// [mark](crate::domain::discovery::Mark), or that of a node that
    /// [registered itself](crate::domain::registration::Mark); `None`: added at run time.
    pub file_digest: Option<String>,
    /// When the state was last changed, by the store's clock.
    pub since: EpochMs,
}

/// One lookup that wants a lease.
#[derive(Clone, Debug)]
pub struct Pick {
    /// The lease that it will have.
    pub lease: LeaseId,
    /// What is asked for.
    pub lookup: Lookup,
    /// The targets to add behind the chosen one, best first, as last seen; the chosen one is left out of them.
    pub fallbacks: Vec<Slot>,
    /// The limits that it has to keep, all of them; a lease is counted for each until it ends.
    pub admit: Vec<Admit>,
    /// The node of the last call with this key comes first, as long as it may take the call.
    pub sticky: Option<Sticky>,
    /// If it is refused, except by a limit, another pool is to answer it, now and each time it is asked: this one remembers that.
    pub overflows: bool,
}

impl Pick {
    /// A lookup without limits or ties.
    pub fn plain(lease: LeaseId, lookup: Lookup, fallbacks: Vec<Slot>) -> Pick {
        Pick { lease, lookup, fallbacks, admit: Vec::new(), sticky: None, overflows: false }
    }
}

/// What ties a lookup to the node of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// What both have in common.
    pub id: StickyId,
    /// How long the node is remembered after each lookup, in ms.
    pub keep_ms: u64,
}

/// The rules of a pool that a store needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// For choosing.
    pub choose: Rules,
    /// For leases.
    pub life: Lifetimes,
}

/// The answer to a [`Pick`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Leased on the first of these.
    Leased(Vec<Slot>),
    /// Asked before: the same targets, no further lease.
    Repeat(Vec<Slot>),
    /// Nobody was chosen.
    Refused(NoPick),
    /// It [overflows](Pick::overflows), or did so before: another pool answers it.
    Overflow,
}

/// One verb for one lease.
#[derive(Clone, Debug)]
pub struct SettleOne {
    /// The lease.
    pub lease: LeaseId,
    /// The verb.
    pub verb: Settle,
}

/// A live lease of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carried {
    /// The lease.
    pub lease: LeaseId,
    /// It was seen on its node.
    pub confirmed: bool,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Held and confirmed leases that had expired and are gone now.
    pub expired: u32,
    /// Ended leases that are forgotten now.
    pub forgotten: u32,
    /// The limit was reached: there is more.
    pub more: bool,
}

/// Which of some leases are live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of the same moment, as in [`View::history`].
    pub history: u64,
    /// Held or confirmed, and not expired; in the order of the questions.
    pub live: Vec<bool>,
}

/// When the heartbeats of a pool's nodes run out, as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    /// When it was taken, by the store's clock.
    pub at: EpochMs,
    /// Of the same moment, as in [`View::history`].
    pub history: u64,
    /// Of every node that was heard of and not forgotten: also when that is over.
    pub until: Beats,
}

impl Heartbeats {
    /// How long until a node's heartbeat runs out, in ms; negative: so long ago.
    pub fn left_ms(&self, node: &NodeId) -> Option<i64> {
        let until = self.until.get(node)?;
        i64::try_from(until.0).ok()?.checked_sub(i64::try_from(self.at.0).ok()?)
    }
}

/// What became of a change to the definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done; the new version.
    Done(u64),
    /// Somebody else was first: read again, apply again.
    Conflict,
}

/// Why a store did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer within the time allowed; it may have been done all the same.
    #[error("{op}: no answer from the store within {after_ms} ms")]
    Timeout {
        /// What was asked.
        op: &'static str,
        /// How long was waited.
        after_ms: u64,
    },
    /// No connection.
    #[error("{op}: the store is away: {cause}")]
    Away {
        /// What was asked.
        op: &'static str,
        /// The cause, for the log.
        cause: String,
    },
    /// It answered, and refused: no right, wrong type, read-only replica.
    #[error("{op}: the store refused: {cause}")]
    Refused {
        /// What was asked.
        op: &'static str,
        /// The cause, for the log.
        cause: String,
    },
    /// It holds something that this version cannot read.
    #[error("{op}: {key} in the store is damaged: {cause}")]
    Damaged {
        /// What was asked.
        op: &'static str,
        /// Where.
        key: String,
        /// The cause, for the log.
        cause: String,
    },
}

/// [`View::history`] of a store that forgets nothing for as long as this process uses it.
const ONE_HISTORY: u64 = 1;

/// The shared state. Every method is safe to repeat after a time-out.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Leases a node for each lookup, atomically, as [`crate::domain::pool::pick`] would. Answers in the order of the questions.
    /// `view` is what the caller last saw; a store that holds the nodes itself need not look at it.
    async fn pick(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[Pick],
    ) -> Result<Vec<Answer>, StoreError>;

    /// Applies verbs to leases, as [`crate::domain::lease::settle`] would. Answers in the order of the questions.
    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError>;

    /// Nodes and loads now. `known` is the last view: its definitions are used again when the version is the same.
    async fn view(&self, pool: &PoolId, known: &View) -> Result<View, StoreError>;

    /// Whether these leases are live. Changes nothing.
    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError>;

    /// The live leases that are counted on a slot, in no order. Changes nothing. Those that come or go meanwhile may be missing, or
    /// there twice.
    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError>;

    /// What these scopes have used. Changes nothing.
    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError>;

    /// Replaces the definitions of a pool, if they still are at `expected` version. Nodes that are not in `nodes` are forgotten;
    /// the caller does that only to removed nodes without load.
    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError>;

    /// Takes out at most `limit` expired leases and corrects the loads that they were counted in.
    async fn sweep(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Swept, StoreError>;

    /// Notes that a node lives for `ttl_ms` from now, and gives the end of that time. An embedded store keeps it in memory only: the
    /// definitions are not written for it.
    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError>;

    /// When the heartbeats of a pool's nodes run out. Changes nothing.
    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError>;

    /// Forgets the heartbeats of these nodes that are over.
    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError>;

    /// Takes or keeps the steward's lease for `instance`, for `ttl_ms`. True: it is the steward.
    async fn hold_steward(&self, instance: &str, ttl_ms: u64) -> Result<bool, StoreError>;

    /// The store's clock; also shows that it is there.
    async fn now(&self) -> Result<EpochMs, StoreError>;

    /// One word for logs and `readyz`: `memory`, `file`, `redis`.
    fn kind(&self) -> &'static str;

    /// True when lookups that wait together should travel together.
    fn wants_batches(&self) -> bool;
}
