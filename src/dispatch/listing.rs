//! The nodes of the pools, as people and programs are shown them: `NODES` over RESP, `/v1/nodes` over HTTP.

use super::seen::Pool;
use super::{Dispatcher, discovery, registration, shown};
use crate::domain::id::{NodeId, PoolId};
use crate::domain::pool::Loaded;
use crate::store::{NodeRecord, StoreError};
use crate::wire::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One node with its load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The pool.
    pub pool: String,
    /// Its name.
    pub id: String,
    /// Where it listens.
    pub uri: String,
    /// Channels that it may carry.
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<String>,
    /// What it can do.
    pub tags: Vec<String>,
    /// `active`, `draining`, `down`, `removed` (its last calls are still counted).
    pub state: String,
    /// When the state was last changed, in ms since 1970 by the store's clock.
    pub since_ms: u64,
    /// `up`, `warming` (its capacity grows back), `overloaded` (it asked for a pause), `ejected` (calls met silence), `failing` (probes did).
    pub health: String,
    /// When the health last changed, in ms since 1970 by the store's clock; 0: never.
    pub health_since_ms: u64,
    /// When it may end by time, likewise.
    pub health_until_ms: Option<u64>,
    /// What led to it.
    pub health_why: String,
    /// Too many nodes of the pool are out: this one is used all the same.
    pub overruled: bool,
    /// Channels that count now: less than `capacity` while it is warming.
    pub effective_capacity: u32,
    /// Live leases.
    pub load: u32,
    /// Load / capacity.
    pub occupancy: f64,
    /// Its place in the load table.
    pub slot: u16,
    /// `dns`: it was found there; `heartbeat`: it registered itself. Not there for nodes of the file, or added by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How long until its heartbeat runs out, in ms; negative: so long ago. Not there where none is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_left_ms: Option<i64>,
    /// The store did not answer: load and state are as they were last seen.
    pub stale: bool,
}

impl Dispatcher {
    /// The nodes of one pool, or of all: pools in the order of their names, nodes in the order of their slots.
    ///
    /// # Errors
    /// `NOPOOL`. A store that is away is not an error: the nodes are marked [`stale`](NodeInfo::stale).
    pub async fn list(&self, pool: Option<&PoolId>) -> Result<Vec<NodeInfo>, Refusal> {
        let pools: Vec<Arc<Pool>> = match pool {
            Some(name) => vec![self.pool(Some(name))?],
            None => self.pools().collect(),
        };
        let mut found = Vec::new();
        let mut away = false;
        for pool in pools {
            let last = pool.seen();
            let fresh =
                if away { None } else { pool.refresh().await.inspect_err(|e| away = is_away(e)).ok() };
            // The view as before is what a store gets that lost its memory: `refresh` keeps the last one.
            let stale = fresh.as_ref().is_none_or(|now| Arc::ptr_eq(now, &last));
            let seen = fresh.unwrap_or(last);
            let beats = if stale { None } else { pool.heartbeats(&seen.view).await };
            let left = |node: &NodeId| beats.as_ref()?.left_ms(node);
            found.extend(shown(&seen.view).map(|(record, node)| NodeInfo {
                heartbeat_left_ms: left(&record.node.id),
                ..info(&pool.id, record, node, stale)
            }));
        }
        Ok(found)
    }
}

/// Whether the other pools need not be asked: each would wait for its own time-out.
fn is_away(error: &StoreError) -> bool {
    match error {
        StoreError::Timeout { .. } | StoreError::Away { .. } => true,
        StoreError::Refused { .. } | StoreError::Damaged { .. } => false,
    }
}

fn info(pool: &PoolId, record: &NodeRecord, loaded: &Loaded, stale: bool) -> NodeInfo {
    let node = &record.node;
    NodeInfo {
        pool: pool.to_string(),
        id: node.id.to_string(),
        uri: node.uri.to_string(),
        capacity: node.capacity,
        zone: node.zone.as_ref().map(ToString::to_string),
        tags: node.tags.iter().map(ToString::to_string).collect(),
        state: node.state.as_str().to_owned(),
        since_ms: record.since.0,
        health: node.health.condition.as_str().to_owned(),
        health_since_ms: node.health.since.0,
        health_until_ms: node.health.until.map(|until| until.0),
        health_why: node.health.why.clone(),
        overruled: node.health.overruled,
        effective_capacity: node.effective_capacity(),
        load: loaded.load,
        occupancy: f64::from(loaded.load) / f64::from(node.effective_capacity().max(1)),
        slot: node.slot.0,
        source: source(record).map(str::to_owned),
        heartbeat_left_ms: None,
        stale,
    }
}

fn source(record: &NodeRecord) -> Option<&'static str> {
    match (discovery::mark(record), registration::mark(record)) {
        (Some(_), _) => Some("dns"),
        (None, Some(_)) => Some("heartbeat"),
        (None, None) => None,
    }
}
