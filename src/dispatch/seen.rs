//! A pool as this instance last saw it: fallbacks, explanations and degraded answers come from here, never the lease itself.

use super::batch::{Batcher, Run};
use super::degraded::Degraded;
use super::health::Watches;
use super::ledger::Ledger;
use super::line::{Line, Terms, within};
use super::registration::Registry;
use super::settings::PoolSettings;
use crate::clock::{self, Stopwatch};
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{PoolId, Slot};
use crate::domain::lease::Settled;
use crate::domain::pool::{self, Lookup, Rules, TARGETS_MAX, Verdict};
use crate::domain::time::EpochMs;
use crate::store::{Answer, Pick, SettleOne, Store, StoreError, View};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// How many different lookups a view ranks before it forgets the rankings.
const SHAPES_MAX: usize = 64;

/// How often a full pool is swept because a lookup is refused.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// One pool of the configuration. Clones differ in their settings at most: all of them know the same, and ask over the same line.
#[derive(Clone)]
pub struct Pool {
    /// Its name.
    pub id: PoolId,
    /// Its settings.
    pub settings: PoolSettings,
    /// Answers while the store is away.
    pub degraded: Arc<Degraded>,
    /// What was noticed of its nodes.
    pub(super) watches: Arc<Watches>,
    /// What the steward knows of its heartbeats.
    pub(super) registry: Arc<Registry>,
    /// The leases that this instance answered for.
    pub ledger: Arc<Ledger>,
    line: Arc<Line>,
    seen: Arc<ArcSwap<Seen>>,
    /// One change of the definitions, or one new view, at a time.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    picks: Batcher<PickRun>,
    settles: Batcher<SettleRun>,
}

impl Pool {
    pub(super) fn new(
        id: &PoolId,
        settings: &PoolSettings,
        patience: Duration,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> Arc<Pool> {
        let seen = Arc::new(ArcSwap::from_pointee(Seen::new(View::empty())));
        let terms = Terms { rules: settings.rules, patience };
        let line = Line::new(id, terms, store, metrics, seen.clone());
        Arc::new(Pool {
            id: id.clone(),
            settings: settings.clone(),
            degraded: Arc::default(),
            watches: Arc::default(),
            ledger: Arc::default(),
            registry: Arc::default(),
            picks: Batcher::new(PickRun(line.clone())),
            settles: Batcher::new(SettleRun(line.clone())),
            line,
            seen,
            changing: Arc::default(),
        })
    }

    /// The same pool with other settings. What it knows and what is under way is shared.
    pub(super) fn with_settings(&self, settings: &PoolSettings, patience: Duration) -> Arc<Pool> {
        self.line.set_terms(Terms { rules: settings.rules, patience });
        if settings.rules != self.settings.rules {
            self.seen().forget_rankings();
        }
        Arc::new(Pool { settings: settings.clone(), ..self.clone() })
    }

    /// What was last seen.
    pub fn seen(&self) -> Arc<Seen> {
        self.seen.load_full()
    }

    /// Looks again.
    pub async fn refresh(&self) -> Result<Arc<Seen>, StoreError> {
        let view = self.look().await?;
        Ok(self.keep(view))
    }

    /// Keeps a view as what was last seen, unless the store lost its memory: that must not take the definitions away from us,
    /// `steward` gives them back to it.
    pub(super) fn keep(&self, view: View) -> Arc<Seen> {
        let last = self.seen();
        if view.version == 0 && last.view.version > 0 {
            return last;
        }
        if self.ledger.saw(&last.view, &view, clock::wall()) {
            warn!(pool = %self.id, "the store may have forgotten leases; telling it again of those that this instance knows");
        }
        let seen = Arc::new(Seen::new(view));
        self.seen.store(seen.clone());
        self.degraded.store_is_back();
        seen
    }

    pub(super) fn show(&self, view: View) {
        self.seen.store(Arc::new(Seen::new(view)));
    }

    /// What the store holds, without keeping it as seen.
    pub(super) async fn look(&self) -> Result<View, StoreError> {
        let last = self.seen();
        // What was only assumed is nothing that the store could have told.
        let known = if last.is_assumed() { &View::empty() } else { &last.view };
        self.observe("view", self.store().view(&self.id, known)).await
    }

    pub(super) async fn pick(&self, pick: Pick, deadline: Duration) -> Result<Answer, StoreError> {
        self.line.check("pick")?;
        within("pick", deadline, self.picks.submit(pick, self.store().wants_batches())).await
    }

    /// Asks for something of a cell, which is in the same store: nobody waits for one that hangs.
    pub(super) async fn ask_cell<T>(
        &self,
        op: &'static str,
        deadline: Duration,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.line.check(op)?;
        self.ask_cell_anyway(op, deadline, work).await
    }

    /// The same, also while the store is not waited for.
    pub(super) async fn ask_cell_anyway<T>(
        &self,
        op: &'static str,
        deadline: Duration,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.line.observe(op, deadline, within(op, deadline, work)).await
    }

    /// What these scopes have used.
    pub(super) async fn usage(&self, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        within("usage", self.line.patience(), self.observe("usage", self.store().usage(&self.id, scopes)))
            .await
    }

    pub(super) async fn settle(&self, one: SettleOne, deadline: Duration) -> Result<Settled, StoreError> {
        self.line.check("settle")?;
        within("settle", deadline, self.settles.submit(one, self.store().wants_batches())).await
    }

    /// Whether the store is not waited for at present: it hung, or was away, and is being probed.
    pub fn is_cut_off(&self) -> bool {
        self.line.is_open()
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.line.store
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.line.metrics
    }

    /// Whether a full pool may be swept for a lookup: not for each one that is refused.
    pub(super) fn may_make_room(&self) -> bool {
        self.line.once_in(ROOM_EVERY)
    }

    /// Waits for an operation that no call waits for, and keeps the breaker informed.
    pub(super) async fn observe<T>(
        &self,
        op: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.line.observe(op, self.line.patience() * 2, work).await
    }
}

/// A view, and what was worked out from it.
pub struct Seen {
    /// The view.
    pub view: View,
    taken: Stopwatch,
    ranked: Mutex<HashMap<Lookup, Arc<Ranked>>>,
}

/// Targets and reasons of one sort of lookup.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The best slots, best first: enough for an answer without its first.
    pub order: Vec<Slot>,
    /// How many nodes have which verdict.
    pub reasons: BTreeMap<&'static str, u32>,
}

impl Seen {
    pub(super) fn new(view: View) -> Seen {
        Seen { view, taken: Stopwatch::start(), ranked: Mutex::new(HashMap::new()) }
    }

    /// The store's clock, as near as it can be told without asking: this host's own may be wrong, and may jump. Before the
    /// store was seen it is all that there is.
    pub fn store_clock(&self) -> EpochMs {
        if self.view.at == EpochMs(0) {
            return clock::wall();
        }
        self.view.at + self.taken.micros() / 1000
    }

    /// True for the file's word, taken while the store was away: the store has not confirmed these nodes.
    pub(super) fn is_assumed(&self) -> bool {
        self.view.version == 0 && !self.view.nodes.is_empty()
    }

    /// Whether the store has said so: the file's word, and what was there before anybody was asked, is not all that there may be.
    pub fn is_of_store(&self) -> bool {
        self.view.history != 0
    }

    /// They were made by other rules.
    fn forget_rankings(&self) {
        self.ranked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ranks the nodes for a lookup; worked out once a view for each sort of lookup.
    pub fn ranked(&self, lookup: &Lookup, rules: &Rules) -> Arc<Ranked> {
        let mut ranked = self.ranked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ranked.get(lookup) {
            return known.clone();
        }
        let found = Arc::new(rank(&self.view, lookup, rules));
        if ranked.len() >= SHAPES_MAX {
            ranked.clear();
        }
        ranked.insert(lookup.clone(), found.clone());
        found
    }
}

fn rank(view: &View, lookup: &Lookup, rules: &Rules) -> Ranked {
    let wide = Rules { targets_max: TARGETS_MAX + 1, ..*rules };
    let all = Lookup { targets_max: TARGETS_MAX + 1, ..lookup.clone() };
    let picked = pool::pick(&view.loaded, &all, &wide);
    let mut reasons = BTreeMap::new();
    for verdict in &picked.verdicts {
        // Which of the eligible ones is chosen is the store's word, not the view's.
        let word = match verdict {
            Verdict::Target(_) | Verdict::Eligible => "eligible",
            Verdict::Excluded
            | Verdict::Draining
            | Verdict::Down
            | Verdict::Unwell(_)
            | Verdict::NoTag(_)
            | Verdict::NoRoom
            | Verdict::OtherNode => verdict.as_str(),
        };
        *reasons.entry(word).or_default() += 1;
    }
    let order = picked.targets.unwrap_or_default();
    Ranked { order: order.iter().filter_map(|i| view.loaded.get(*i)).map(|n| n.node.slot).collect(), reasons }
}

struct PickRun(Arc<Line>);

#[async_trait]
impl Run for PickRun {
    type Ask = Pick;
    type Answer = Answer;

    async fn run(&self, batch: Vec<Pick>) -> Result<Vec<Answer>, StoreError> {
        let line = &self.0;
        line.check("pick")?;
        line.metrics.batch("pick", batch.len());
        let (seen, rules) = (line.seen.load_full(), line.rules());
        let work = line.store.pick(&line.id, &rules, &seen.view, &batch);
        line.observe("pick", line.patience(), work).await
    }
}

struct SettleRun(Arc<Line>);

#[async_trait]
impl Run for SettleRun {
    type Ask = SettleOne;
    type Answer = Settled;

    async fn run(&self, batch: Vec<SettleOne>) -> Result<Vec<Settled>, StoreError> {
        let line = &self.0;
        line.check("settle")?;
        line.metrics.batch("settle", batch.len());
        let (seen, rules) = (line.seen.load_full(), line.rules());
        let work = line.store.settle(&line.id, &rules, &seen.view, &batch);
        line.observe("settle", line.patience() * 2, work).await
    }
}
