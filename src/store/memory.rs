//! The store in this process, gone when it ends. The policy is `domain`'s, called as it is.

use super::table::PoolState;
use super::{
    Answer, ClockFn, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept, View, Written,
};
use crate::domain::id::PoolId;
use crate::domain::lease::Settled;
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pools in this process's memory.
pub struct MemoryStore {
    clock: ClockFn,
    pools: Mutex<HashMap<PoolId, PoolState>>,
}

impl MemoryStore {
    /// An empty store that counts time by `clock`.
    pub fn new(clock: ClockFn) -> MemoryStore {
        MemoryStore { clock, pools: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolId, PoolState>> {
        // No code panics while it holds the lock; if one did, the table is still whole.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn pick(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        _view: &View,
        batch: &[Pick],
    ) -> Result<Vec<Answer>, StoreError> {
        let now = (self.clock)();
        let mut pools = self.lock();
        let state = pools.entry(pool.clone()).or_default();
        Ok(batch.iter().map(|one| state.pick(one, rules, now)).collect())
    }

    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        _view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        let now = (self.clock)();
        let mut pools = self.lock();
        let state = pools.entry(pool.clone()).or_default();
        Ok(batch.iter().map(|one| state.settle(one, rules, now)).collect())
    }

    async fn view(&self, pool: &PoolId, _known: &View) -> Result<View, StoreError> {
        let now = (self.clock)();
        let mut pools = self.lock();
        let state = pools.entry(pool.clone()).or_default();
        Ok(state.view(now))
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        let mut pools = self.lock();
        let state = pools.entry(pool.clone()).or_default();
        Ok(state.write_nodes(expected.version, nodes))
    }

    async fn sweep(&self, pool: &PoolId, _view: &View, limit: u32) -> Result<Swept, StoreError> {
        let now = (self.clock)();
        let mut pools = self.lock();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(pools.entry(pool.clone()).or_default().expire(now, limit))
    }

    async fn hold_steward(&self, _instance: &str, _ttl_ms: u64) -> Result<bool, StoreError> {
        // Nobody else can see this store.
        Ok(true)
    }

    async fn now(&self) -> Result<EpochMs, StoreError> {
        Ok((self.clock)())
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn wants_batches(&self) -> bool {
        false
    }
}
