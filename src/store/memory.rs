//! The store in this process, gone when it ends. The policy is `domain`'s, called as it is; that of cells is
//! [`CellTable`]'s.

use super::cell::{
    Accepted, Batch, Candidate, CellStore, CellTable, Committed, Leadership, Look, Opened, Position,
    Redeemed, Register, Registration, Sent, Told,
};
use super::table::PoolState;
use super::{
    Answer, Carried, ClockFn, Heartbeats, Known, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError,
    Swept, View, Written,
};
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{CellId, LeaseId, NodeId, PoolId, QueueId, Slot};
use crate::domain::lease::Settled;
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pools and cells in this process's memory.
pub struct MemoryStore {
    clock: ClockFn,
    pools: Mutex<HashMap<PoolId, PoolState>>,
    cells: Mutex<HashMap<CellId, CellTable>>,
}

impl MemoryStore {
    /// An empty store that counts time by `clock`.
    pub fn new(clock: ClockFn) -> MemoryStore {
        MemoryStore { clock, pools: Mutex::default(), cells: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolId, PoolState>> {
        // No code panics while it holds the lock; if one did, the table is still whole.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell<T>(&self, cell: &CellId, work: impl FnOnce(&mut CellTable, EpochMs) -> T) -> T {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        // Read behind the lock: who comes later has the later time.
        let now = (self.clock)();
        work(cells.entry(cell.clone()).or_default(), now)
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

    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError> {
        let now = (self.clock)();
        let mut pools = self.lock();
        Ok(pools.entry(pool.clone()).or_default().known(leases, now))
    }

    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError> {
        let now = (self.clock)();
        Ok(self.lock().entry(pool.clone()).or_default().carried(slot, now))
    }

    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        let now = (self.clock)();
        Ok(self.lock().entry(pool.clone()).or_default().usage(scopes, now))
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
        Ok(pools.entry(pool.clone()).or_default().sweep(now, limit))
    }

    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError> {
        let now = (self.clock)();
        Ok(self.lock().entry(pool.clone()).or_default().beat(node, ttl_ms, now))
    }

    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError> {
        let now = (self.clock)();
        Ok(self.lock().entry(pool.clone()).or_default().beats(now))
    }

    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError> {
        let now = (self.clock)();
        self.lock().entry(pool.clone()).or_default().forget_beats(nodes, now);
        Ok(())
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

#[async_trait]
impl CellStore for MemoryStore {
    async fn lead(&self, cell: &CellId, candidate: &Candidate) -> Result<Leadership, StoreError> {
        self.cell(cell, |table, now| table.lead(candidate, now))
    }

    async fn resign(&self, cell: &CellId, holder: &str, epoch: u64) -> Result<bool, StoreError> {
        Ok(self.cell(cell, |table, _| table.resign(holder, epoch)))
    }

    async fn open(&self, cell: &CellId, epoch: u64, read: bool) -> Result<Opened, StoreError> {
        self.cell(cell, |table, _| table.open(epoch, read))
    }

    async fn commit(&self, cell: &CellId, batch: &Batch) -> Result<Committed, StoreError> {
        self.cell(cell, |table, now| table.commit(batch, now))
    }

    async fn redeem(&self, cell: &CellId, offer: &str, leg: &str) -> Result<Redeemed, StoreError> {
        self.cell(cell, |table, _| table.redeem(offer, leg))
    }

    async fn send(&self, cell: &CellId, key: &str, text: &str) -> Result<Accepted, StoreError> {
        self.cell(cell, |table, now| table.send(key, text, now))
    }

    async fn inbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Sent>, StoreError> {
        Ok(self.cell(cell, |table, _| table.inbox(after, limit)))
    }

    async fn outbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Told>, StoreError> {
        Ok(self.cell(cell, |table, _| table.outbox(after, limit)))
    }

    async fn told(&self, cell: &CellId, group: &str) -> Result<Position, StoreError> {
        self.cell(cell, |table, _| table.told(group))
    }

    async fn acknowledge(&self, cell: &CellId, group: &str, upto: Position) -> Result<(), StoreError> {
        self.cell(cell, |table, _| table.acknowledge(group, upto))
    }

    async fn register(&self, cell: &CellId, register: &Register) -> Result<(), StoreError> {
        self.cell(cell, |table, now| table.register(register, now))
    }

    async fn registrations(&self, cell: &CellId) -> Result<Vec<Registration>, StoreError> {
        Ok(self.cell(cell, |table, now| table.registrations(now)))
    }

    async fn look(&self, cell: &CellId) -> Result<Look, StoreError> {
        Ok(self.cell(cell, |table, now| table.look(now)))
    }

    async fn queue(&self, cell: &CellId, queue: &QueueId, limit: usize) -> Result<Vec<String>, StoreError> {
        Ok(self.cell(cell, |table, _| table.queue(queue, limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Slot;
    use crate::domain::lease::{Lifetimes, Settle};
    use crate::domain::pool::Rules;
    use crate::store::table::SPARE_LEASES_MAX;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const RULES: PoolRules = PoolRules {
        choose: Rules { agent_reserve_pm: 0, zone_spill_pm: 800, targets_max: 1 },
        life: Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 },
    };

    #[tokio::test]
    async fn what_is_over_is_remembered_within_a_limit() {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = time.clone();
        let store = MemoryStore::new(Box::new(move || EpochMs(clock.fetch_add(1, Ordering::Relaxed))));
        let (pool, view): (PoolId, _) = ("p".parse().unwrap(), View::empty());
        let lease = |n: usize| LeaseId((n as u128).to_be_bytes());
        let over = SPARE_LEASES_MAX + 1_000;
        let done: Vec<_> = (0..over).map(|n| SettleOne { lease: lease(n), verb: Settle::Done }).collect();
        // Tokens of leases that nobody knows any more: valid, and as many as somebody has kept.
        for batch in done.chunks(1_000) {
            store.settle(&pool, &RULES, &view, batch).await.unwrap();
        }
        let latest = EpochMs(u64::MAX);
        let confirm = |n: usize| SettleOne {
            lease: lease(n),
            verb: Settle::Confirm { branch: 0, slot: Some(Slot(0)), latest },
        };
        {
            let pools = store.lock();
            let state = pools.get(&pool).unwrap();
            assert_eq!(state.lease_count(), SPARE_LEASES_MAX);
        }
        let said = store.settle(&pool, &RULES, &view, &[confirm(over - 1), confirm(0)]).await.unwrap();
        assert_eq!(
            said,
            [Settled::Gone, Settled::Adopted],
            "the oldest was forgotten early, the newest was not"
        );
        time.fetch_add(40_000, Ordering::Relaxed);
        store.sweep(&pool, &view, u32::MAX).await.unwrap();
        assert_eq!(store.lock().get(&pool).unwrap().lease_count(), 1, "the adopted one");
    }
}
