//! What a reload of the configuration changes, and how: lookups find either the settings of before or those of after, and wait for
//! neither. What is under way in a pool goes on: batches, breaker, ledger and answers without the store are those of before.

use super::Dispatcher;
use super::nodes::{FileNodes, Gone, NodeDef, Step};
use super::seen::Pool;
use super::settings::{PoolSettings, Settings};
use crate::clock;
use crate::domain::id::{NodeId, PoolId};
use crate::store::StoreError;
use crate::wire::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What lookups go by.
pub(super) struct Live {
    pub settings: Arc<Settings>,
    pub pools: BTreeMap<PoolId, Arc<Pool>>,
    /// Pools that the file names no more, while they carry calls: nobody is sent there, and what is said of their leases counts.
    leaving: BTreeMap<PoolId, Arc<Pool>>,
}

impl Live {
    pub fn new(settings: Settings, make: impl Fn(&PoolId, &PoolSettings, Duration) -> Arc<Pool>) -> Live {
        let patience = Duration::from_millis(settings.pick_deadline_ms);
        let pools = settings.pools.iter().map(|(id, p)| (id.clone(), make(id, p, patience))).collect();
        Live { settings: Arc::new(settings), pools, leaving: BTreeMap::new() }
    }
}

/// The nodes of the file, as they shall be in the store.
#[derive(Default)]
pub(super) struct Wanted {
    file: Option<FileNodes>,
    /// Named by an earlier file, and no more.
    gone: BTreeMap<PoolId, Gone>,
}

impl Wanted {
    fn nodes(&self, pool: &PoolId) -> &[NodeDef] {
        self.file.as_ref().and_then(|file| file.get(pool)).map_or(&[], Vec::as_slice)
    }

    /// Takes another file. The pools whose nodes it has otherwise than the one before.
    fn replace(&mut self, file: FileNodes, settings: &Settings) -> BTreeSet<PoolId> {
        let before = self.file.take().unwrap_or_default();
        let mut changed = BTreeSet::new();
        for (pool, defs) in &file {
            let to_discovery = settings.pools.get(pool).is_some_and(|p| p.discovered);
            let old = before.get(pool).map_or(&[][..], Vec::as_slice);
            let ids = |defs: &[NodeDef]| defs.iter().map(|def| def.id.clone()).collect::<BTreeSet<NodeId>>();
            let gone = self.gone.entry(pool.clone()).or_default();
            gone.to_discovery = to_discovery;
            gone.ids.extend(ids(old));
            let named = ids(defs);
            gone.ids.retain(|id| !named.contains(id));
            if old != defs.as_slice() || !gone.ids.is_empty() || !before.contains_key(pool) {
                changed.insert(pool.clone());
            }
        }
        self.gone.retain(|pool, gone| file.contains_key(pool) && !gone.ids.is_empty());
        self.file = Some(file);
        changed
    }
}

impl Dispatcher {
    /// Pools that the file names, and those that it names no more and that still carry calls.
    pub(super) fn all_pools(&self) -> impl Iterator<Item = Arc<Pool>> + use<> {
        let live = self.live();
        live.pools.values().chain(live.leaving.values()).cloned().collect::<Vec<_>>().into_iter()
    }

    /// The pool of a lease.
    pub(super) fn pool_of_lease(&self, id: &PoolId) -> Result<Arc<Pool>, Refusal> {
        let left = || self.live().leaving.get(id).cloned();
        self.pool(Some(id)).or_else(|refusal| left().ok_or(refusal))
    }

    /// Forgets pools that the file names no more and that carry nothing.
    pub(super) fn forget_left(&self) {
        let carries = |pool: &Pool| {
            let count = pool.ledger.count(clock::wall());
            count.held + count.confirmed > 0
                || pool.degraded.has_journal()
                || pool.seen().view.loaded.iter().any(|n| n.load > 0)
        };
        if self.live().leaving.values().all(|pool| carries(pool)) {
            return;
        }
        self.live.rcu(|live| {
            let leaving = live.leaving.iter().filter(|(_, pool)| carries(pool));
            let leaving = leaving.map(|(id, pool)| (id.clone(), pool.clone())).collect();
            Live { settings: live.settings.clone(), pools: live.pools.clone(), leaving }
        });
    }

    /// Goes by other settings from the next lookup on. [`Dispatcher::change_nodes`] comes before it: a pool that is new has its nodes
    /// then.
    pub fn change_settings(&self, settings: Settings) {
        let before = self.live.load_full();
        let live = self.next(settings, &before);
        let gone = before.pools.iter().chain(&before.leaving).filter(|(id, _)| !live.pools.contains_key(*id));
        let leaving = gone.map(|(id, pool)| (id.clone(), pool.clone())).collect();
        self.decisions.resize(live.settings.decisions_kept);
        self.live.store(Arc::new(Live { leaving, ..live }));
    }

    /// What comes after `before`: pools that it knows go on.
    fn next(&self, settings: Settings, before: &Live) -> Live {
        Live::new(settings, |id, settings, patience| {
            match before.pools.get(id).or_else(|| before.leaving.get(id)) {
                Some(pool) => pool.with_settings(settings, patience),
                None => Pool::new(id, settings, patience, self.store.clone(), self.metrics.clone()),
            }
        })
    }

    /// Puts the nodes of another file into the store: new ones are added, those that it has otherwise are changed, those that it
    /// names no more take no new calls. Pools that are new are there afterwards.
    ///
    /// # Errors
    /// The store did not answer: [`Dispatcher::watch`] tries again. A store that refuses is not asked again.
    pub async fn change_nodes(&self, settings: &Settings, file: FileNodes) -> Result<Vec<Step>, StoreError> {
        let mut wanted = self.wanted.lock().await;
        self.add_pools(settings);
        let mut changed = wanted.replace(file, settings);
        if !self.is_seeded() {
            changed = self.pools().map(|pool| pool.id.clone()).collect();
        }
        let seeded = self.seed(&mut wanted, &changed).await;
        let later = matches!(&seeded, Err(StoreError::Timeout { .. } | StoreError::Away { .. }));
        self.seeded.store(!later, Ordering::Relaxed);
        seeded
    }

    fn add_pools(&self, settings: &Settings) {
        let before = self.live.load_full();
        let mut pools = before.pools.clone();
        for (id, pool) in self.next(settings.clone(), &before).pools {
            pools.entry(id).or_insert(pool);
        }
        let leaving = before.leaving.iter().filter(|(id, _)| !pools.contains_key(*id));
        let leaving = leaving.map(|(id, pool)| (id.clone(), pool.clone())).collect();
        self.live.store(Arc::new(Live { settings: before.settings.clone(), pools, leaving }));
    }

    /// What a reload with this file would do to nodes, as far as the last view tells.
    pub async fn would_change_nodes(&self, settings: &Settings, file: FileNodes) -> Vec<Step> {
        let wanted = self.wanted.lock().await;
        let (now, gone) = (wanted.file.clone(), wanted.gone.clone());
        let mut then = Wanted { file: now, gone };
        drop(wanted);
        let changed = then.replace(file, settings);
        let live = self.live.load_full();
        let mut steps = Vec::new();
        for id in changed {
            let gone = then.gone.get(&id).cloned().unwrap_or_default();
            match live.pools.get(&id).or_else(|| live.leaving.get(&id)) {
                Some(pool) => steps.extend(pool.would_seed(then.nodes(&id), &gone)),
                None => steps.extend(then.nodes(&id).iter().map(|def| Step::added(&id, &def.id))),
            }
        }
        steps
    }

    /// The nodes that shall be in the store.
    pub(super) async fn want(&self, file: FileNodes) {
        *self.wanted.lock().await = Wanted { file: Some(file), gone: BTreeMap::new() };
    }

    /// The same, where nobody said so before.
    pub(super) async fn want_first(&self, file: FileNodes, seeded: bool) {
        let mut wanted = self.wanted.lock().await;
        if wanted.file.is_none() {
            wanted.file = Some(file);
            self.seeded.store(seeded, Ordering::Relaxed);
        }
    }

    /// Whether the nodes of the file are in the store.
    pub(super) fn is_seeded(&self) -> bool {
        self.seeded.load(Ordering::Relaxed)
    }

    /// Puts the nodes into the store that shall be there.
    pub(super) async fn seed_wanted(&self) -> Result<(), StoreError> {
        let mut wanted = self.wanted.lock().await;
        let all = self.pools().map(|pool| pool.id.clone()).collect();
        let seeded = self.seed(&mut wanted, &all).await;
        self.seeded.store(seeded.is_ok(), Ordering::Relaxed);
        seeded.map(|_| ())
    }

    async fn seed(&self, wanted: &mut Wanted, which: &BTreeSet<PoolId>) -> Result<Vec<Step>, StoreError> {
        let mut result = Ok(Vec::new());
        for pool in self.pools().filter(|pool| which.contains(&pool.id)) {
            let gone = wanted.gone.get(&pool.id).cloned().unwrap_or_default();
            match pool.seed(wanted.nodes(&pool.id), &gone).await {
                Ok(done) => {
                    wanted.gone.remove(&pool.id);
                    if let Ok(steps) = &mut result {
                        steps.extend(done);
                    }
                }
                Err(error) => {
                    pool.assume(wanted.nodes(&pool.id));
                    result = Err(error);
                }
            }
        }
        result
    }
}
