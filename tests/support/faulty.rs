//! A store that can go away and come back.

use async_trait::async_trait;
use mqs::domain::id::PoolId;
use mqs::domain::lease::Settled;
use mqs::domain::time::EpochMs;
use mqs::store::{Answer, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept, View, Written};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub struct Faulty {
    inner: Arc<dyn Store>,
    pub away: AtomicBool,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>) -> Faulty {
        Faulty { inner, away: AtomicBool::new(false) }
    }

    fn there(&self, op: &'static str) -> Result<&dyn Store, StoreError> {
        let cause = || "connection to 10.9.9.9:6379 refused".to_owned();
        if self.away.load(Relaxed) { Err(StoreError::Away { op, cause: cause() }) } else { Ok(&*self.inner) }
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
        self.there("pick")?.pick(pool, rules, view, batch).await
    }

    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        self.there("settle")?.settle(pool, rules, view, batch).await
    }

    async fn view(&self, pool: &PoolId, known: &View) -> Result<View, StoreError> {
        self.there("view")?.view(pool, known).await
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        self.there("write_nodes")?.write_nodes(pool, expected, nodes).await
    }

    async fn sweep(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Swept, StoreError> {
        self.there("sweep")?.sweep(pool, view, limit).await
    }

    async fn hold_steward(&self, instance: &str, ttl_ms: u64) -> Result<bool, StoreError> {
        self.there("hold_steward")?.hold_steward(instance, ttl_ms).await
    }

    async fn now(&self) -> Result<EpochMs, StoreError> {
        self.there("now")?.now().await
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn wants_batches(&self) -> bool {
        self.inner.wants_batches()
    }
}
