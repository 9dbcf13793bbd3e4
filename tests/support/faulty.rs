//! A stand-in for a store with faults: it can be away, hang, be slow, and forget everything.

use async_trait::async_trait;
use mqs::domain::admission::{Scope, Usage};
use mqs::domain::id::{LeaseId, NodeId, PoolId, Slot};
use mqs::domain::lease::Settled;
use mqs::domain::time::EpochMs;
use mqs::store::{
    Answer, Carried, Heartbeats, Known, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept,
    View, Written,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An operation that gets no answer fails after this, in ms, as it does with the default of `store.timeout_ms`.
pub const TIMEOUT_MS: u64 = 50;

/// For `takes_ms`: there is no answer.
pub const HANGS: u64 = u64::MAX;

pub struct Faulty {
    inner: Mutex<Arc<dyn Store>>,
    /// Connections are refused.
    pub away: AtomicBool,
    /// How long each answer takes, in ms; [`HANGS`]: there is none.
    pub takes_ms: AtomicU64,
    /// How often it was asked anything.
    pub asked: AtomicU64,
    forgot: AtomicU64,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>) -> Faulty {
        Faulty {
            inner: Mutex::new(inner),
            away: AtomicBool::new(false),
            takes_ms: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            forgot: AtomicU64::new(0),
        }
    }

    /// An empty one takes its place.
    pub fn forget(&self, empty: Arc<dyn Store>) {
        *self.inner.lock().unwrap() = empty;
        self.forgot.fetch_add(1, SeqCst);
    }

    /// The store behind the faults.
    pub fn inner(&self) -> Arc<dyn Store> {
        self.inner.lock().unwrap().clone()
    }

    async fn there(&self, op: &'static str) -> Result<Arc<dyn Store>, StoreError> {
        self.asked.fetch_add(1, SeqCst);
        if self.away.load(SeqCst) {
            return Err(StoreError::Away { op, cause: "connection to 10.9.9.9:6379 refused".to_owned() });
        }
        let ms = self.takes_ms.load(SeqCst);
        let pause = if ms == HANGS { TIMEOUT_MS } else { ms };
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if ms == HANGS { Err(StoreError::Timeout { op, after_ms: TIMEOUT_MS }) } else { Ok(self.inner()) }
    }

    fn history(&self, of_inner: u64) -> u64 {
        of_inner + self.forgot.load(SeqCst)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn pick(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[Pick],
    ) -> Result<Vec<Answer>, StoreError> {
        self.there("pick").await?.pick(pool, rules, view, batch).await
    }

    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        self.there("settle").await?.settle(pool, rules, view, batch).await
    }

    async fn view(&self, pool: &PoolId, known: &View) -> Result<View, StoreError> {
        let view = self.there("view").await?.view(pool, known).await?;
        let history = self.history(view.history);
        Ok(View { history, ..view })
    }

    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError> {
        let known = self.there("known").await?.known(pool, leases).await?;
        let history = self.history(known.history);
        Ok(Known { history, ..known })
    }

    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError> {
        self.there("carried").await?.carried(pool, slot).await
    }

    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        self.there("usage").await?.usage(pool, scopes).await
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        self.there("write_nodes").await?.write_nodes(pool, expected, nodes).await
    }

    async fn sweep(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Swept, StoreError> {
        self.there("sweep").await?.sweep(pool, view, limit).await
    }

    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError> {
        self.there("beat").await?.beat(pool, node, ttl_ms).await
    }

    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError> {
        let beats = self.there("beats").await?.beats(pool).await?;
        let history = self.history(beats.history);
        Ok(Heartbeats { history, ..beats })
    }

    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError> {
        self.there("forget_beats").await?.forget_beats(pool, nodes).await
    }

    async fn hold_steward(&self, instance: &str, ttl_ms: u64) -> Result<bool, StoreError> {
        self.there("hold_steward").await?.hold_steward(instance, ttl_ms).await
    }

    async fn now(&self) -> Result<EpochMs, StoreError> {
        self.there("now").await?.now().await
    }

    fn kind(&self) -> &'static str {
        self.inner().kind()
    }

    fn wants_batches(&self) -> bool {
        true
    }
}
