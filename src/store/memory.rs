//! The embedded store: everything in this process, gone when it ends. The policy is `domain`'s, called as it is.

use super::{Answer, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept, View, Written};
use crate::domain::id::{LeaseId, PoolId, Slot};
use crate::domain::lease::{self, Lease, LeaseState, Settled};
use crate::domain::pool::{self, Loaded};
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most leases that a pool remembers beyond what its nodes may carry: those that are over, and emergency calls. Ten
/// thousand calls a second leave 350,000 that are over. Of more, those go early that would be forgotten next.
pub const SPARE_LEASES_MAX: usize = 500_000;

/// A clock that the store reads; tests bring their own.
pub type ClockFn = Box<dyn Fn() -> EpochMs + Send + Sync>;

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
        state.expire(now, usize::MAX);
        let (version, nodes, loaded) = (state.version, state.records.clone(), state.loaded.clone());
        Ok(View { version, nodes, loaded, at: now })
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        let mut pools = self.lock();
        let state = pools.entry(pool.clone()).or_default();
        if state.version != expected.version {
            return Ok(Written::Conflict);
        }
        state.define(nodes);
        Ok(Written::Done(state.version))
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

/// One pool: definitions, leases, and which leases are counted on which slot.
#[derive(Default)]
struct PoolState {
    version: u64,
    touches: u64,
    records: Vec<NodeRecord>,
    /// In the order of `records`; the loads are kept equal to the live leases.
    loaded: Vec<Loaded>,
    index_of: HashMap<Slot, usize>,
    /// Channels of all nodes together.
    capacity: usize,
    leases: HashMap<LeaseId, Lease>,
    /// Every known lease by the time at which it expires or is forgotten.
    by_expiry: BTreeSet<(EpochMs, LeaseId)>,
}

impl PoolState {
    fn pick(&mut self, one: &Pick, rules: &PoolRules, now: EpochMs) -> Answer {
        self.expire(now, usize::MAX);
        if let Some(known) = self.leases.get(&one.lease)
            && known.answers_repeat(now)
        {
            return Answer::Repeat(known.targets.iter().flatten().copied().collect());
        }
        let picked = pool::pick(&self.loaded, &one.lookup, &rules.choose);
        let order = match picked.targets {
            Ok(order) => order,
            Err(refused) => return Answer::Refused(refused),
        };
        let targets: Vec<Slot> =
            order.iter().filter_map(|i| self.loaded.get(*i)).map(|n| n.node.slot).collect();
        let expires = now + rules.life.held_ms;
        let lease = Lease {
            state: LeaseState::Held,
            attempt: 0,
            targets: targets.iter().copied().map(Some).collect(),
            expires,
        };
        self.put(one.lease, Some(lease), now);
        self.touch(targets.first());
        Answer::Leased(targets)
    }

    fn settle(&mut self, one: &SettleOne, rules: &PoolRules, now: EpochMs) -> Settled {
        self.expire(now, usize::MAX);
        let (next, said) = lease::settle(self.leases.get(&one.lease).cloned(), &one.verb, rules.life, now);
        self.put(one.lease, next, now);
        if let Settled::Moved { slot, .. } = &said {
            self.touch(Some(slot));
        }
        said
    }

    /// Replaces what is known of a lease, and keeps the loads equal to the live leases.
    fn put(&mut self, id: LeaseId, lease: Option<Lease>, now: EpochMs) {
        self.take(id, now);
        // One that is over at once (confirmed after its latest time) was never counted: kept, it would be taken off twice.
        if let Some(lease) = lease.filter(|lease| lease.expires > now) {
            self.make_room(now);
            if let Some(slot) = lease.counted_on(now) {
                self.count(slot, 1);
            }
            self.by_expiry.insert((lease.expires, id));
            self.leases.insert(id, lease);
        }
    }

    /// Forgets what would be forgotten next, where there is more than a pool remembers.
    fn make_room(&mut self, now: EpochMs) {
        while self.leases.len() >= self.capacity.saturating_add(SPARE_LEASES_MAX) {
            let Some((_, id)) = self.by_expiry.first().copied() else { return };
            self.take(id, now);
        }
    }

    /// Forgets a lease. It was counted if it was live just before its time ran out.
    fn take(&mut self, id: LeaseId, now: EpochMs) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.by_expiry.remove(&(lease.expires, id));
        let just_before = EpochMs(now.0.min(lease.expires.0.saturating_sub(1)));
        if let Some(slot) = lease.counted_on(just_before) {
            self.count(slot, -1);
        }
        Some(lease)
    }

    fn expire(&mut self, now: EpochMs, limit: usize) -> Swept {
        let mut swept = Swept::default();
        for _ in 0..limit {
            let Some((_, id)) = self.by_expiry.first().copied().filter(|(expires, _)| *expires <= now) else {
                return swept;
            };
            match self.take(id, now).map(|lease| lease.state) {
                Some(LeaseState::Ended) => swept.forgotten += 1,
                Some(LeaseState::Held | LeaseState::Confirmed) => swept.expired += 1,
                None => {}
            }
        }
        swept.more = self.by_expiry.first().is_some_and(|(expires, _)| *expires <= now);
        swept
    }

    fn count(&mut self, slot: Slot, by: i32) {
        let node = self.index_of.get(&slot).and_then(|i| self.loaded.get_mut(*i));
        if let Some(node) = node {
            node.load = node.load.saturating_add_signed(by);
        }
    }

    fn touch(&mut self, slot: Option<&Slot>) {
        self.touches += 1;
        let touches = self.touches;
        if let Some(node) = slot.and_then(|s| self.index_of.get(s)).and_then(|i| self.loaded.get_mut(*i)) {
            node.touched = touches;
        }
    }

    fn define(&mut self, nodes: &[NodeRecord]) {
        self.version += 1;
        let mut carried: HashMap<Slot, u32> = HashMap::new();
        for lease in self.leases.values() {
            if let Some(slot) = lease.counted_on(EpochMs(lease.expires.0.saturating_sub(1))) {
                *carried.entry(slot).or_default() += 1;
            }
        }
        let touched: HashMap<Slot, u64> = self.loaded.iter().map(|n| (n.node.slot, n.touched)).collect();
        self.records = nodes.to_vec();
        self.records.sort_by_key(|r| r.node.slot);
        self.loaded = self
            .records
            .iter()
            .map(|r| Loaded {
                node: r.node.clone(),
                load: carried.get(&r.node.slot).copied().unwrap_or(0),
                touched: touched.get(&r.node.slot).copied().unwrap_or(0),
            })
            .collect();
        let capacity: u64 = self.records.iter().map(|r| u64::from(r.node.capacity)).sum();
        self.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        self.index_of = self.records.iter().enumerate().map(|(i, r)| (r.node.slot, i)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lease::{Lifetimes, Settle};
    use crate::domain::pool::Rules;
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
            assert_eq!((state.leases.len(), state.by_expiry.len()), (SPARE_LEASES_MAX, SPARE_LEASES_MAX));
        }
        let said = store.settle(&pool, &RULES, &view, &[confirm(over - 1), confirm(0)]).await.unwrap();
        assert_eq!(
            said,
            [Settled::Gone, Settled::Adopted],
            "the oldest was forgotten early, the newest was not"
        );
        time.fetch_add(40_000, Ordering::Relaxed);
        store.sweep(&pool, &view, u32::MAX).await.unwrap();
        assert_eq!(store.lock().get(&pool).unwrap().leases.len(), 1, "the adopted one");
    }
}
