//! The line from one pool to the store: what is asked over it, the breaker in it, and the probes while that is open.
//!
//! Lookups and verbs of a pool whose breaker is open fail at once, as if the store were away: lookups are then answered from the
//! last view, and the proxy keeps its verbs and says them again. A probe is a look at the pool, in a task of its own: no call waits
//! for it, and nothing else needs to run for it, the steward included.

use super::breaker::{Breaker, Change, State};
use super::error_word;
use super::seen::Seen;
use crate::clock::Stopwatch;
use crate::domain::id::PoolId;
use crate::store::{PoolRules, Store, StoreError};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tracing::{info, warn};

/// What a reload of the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// For choosing and for leases.
    pub rules: PoolRules,
    /// How long a lookup waits: whatever takes longer is no answer.
    pub patience: Duration,
}

pub(super) struct Line {
    pub id: PoolId,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub seen: Arc<ArcSwap<Seen>>,
    terms: ArcSwap<Terms>,
    breaker: Mutex<Breaker>,
    /// What the breaker says, to be read without waiting for anybody.
    open: AtomicBool,
    clock: Stopwatch,
    /// When [`Line::once_in`] says yes again, in ms of the clock.
    next: AtomicU64,
}

impl Line {
    pub fn new(
        id: &PoolId,
        terms: Terms,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        seen: Arc<ArcSwap<Seen>>,
    ) -> Arc<Line> {
        metrics.breaker(id.as_str(), State::Closed.as_str());
        Arc::new(Line {
            id: id.clone(),
            store,
            metrics,
            seen,
            terms: ArcSwap::from_pointee(terms),
            breaker: Mutex::default(),
            open: AtomicBool::new(false),
            clock: Stopwatch::start(),
            next: AtomicU64::new(0),
        })
    }

    /// Whether the store is not asked at present.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Fails while the breaker is open.
    pub fn check(&self, op: &'static str) -> Result<(), StoreError> {
        match self.is_open() {
            false => Ok(()),
            true => {
                Err(StoreError::Away { op, cause: "it hung or was away, and is being probed".to_owned() })
            }
        }
    }

    /// Waits for an operation, and tells the breaker what came of it. One that took longer than `late` was too late for whoever asked.
    pub async fn observe<T>(
        self: &Arc<Self>,
        op: &'static str,
        late: Duration,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = self.clock.millis();
        let said = work.await;
        let now = self.clock.millis();
        if let Err(error) = &said {
            self.metrics.store_error(op, error_word(error));
        }
        let too_late = Duration::from_millis(now.saturating_sub(began)) > late;
        let change = match &said {
            Ok(_) if too_late => self.lock().failed(began, now, fastrand::u64(..)),
            Err(StoreError::Timeout { .. } | StoreError::Away { .. }) => {
                self.lock().failed(began, now, fastrand::u64(..))
            }
            // A refusal is an answer: there is nothing to wait for.
            Ok(_) | Err(StoreError::Refused { .. } | StoreError::Damaged { .. }) => self.lock().answered(now),
        };
        let cause =
            said.as_ref().err().map_or_else(|| format!("{op}: answers come too late"), ToString::to_string);
        self.changed(change, &cause);
        said
    }

    /// How long a lookup waits.
    pub fn patience(&self) -> Duration {
        self.terms.load().patience
    }

    /// For choosing and for leases.
    pub fn rules(&self) -> PoolRules {
        self.terms.load().rules
    }

    /// Goes by these from the next batch on.
    pub fn set_terms(&self, terms: Terms) {
        self.terms.store(Arc::new(terms));
    }

    /// True for one caller in each `every`.
    pub fn once_in(&self, every: Duration) -> bool {
        let (now, next) = (self.clock.millis(), self.next.load(Ordering::Relaxed));
        let then = now.saturating_add(u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        now >= next && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn changed(self: &Arc<Self>, change: Option<Change>, cause: &str) {
        match change {
            None => return,
            Some(Change::Opened { failures, span_ms }) => {
                warn!(
                    pool = %self.id, failures, span_ms, cause,
                    "breaker open: the store is not waited for, lookups are answered from the last view"
                );
                self.metrics.breaker_opened(self.id.as_str());
                tokio::spawn(probe_until_closed(Arc::downgrade(self)));
            }
            Some(Change::Closed { open_ms, probes }) => {
                info!(pool = %self.id, open_ms, probes, "breaker closed: the store answers");
            }
        }
        self.show();
    }

    /// Puts where the breaker is to where it is read.
    fn show(&self) {
        let breaker = self.lock();
        let state = breaker.state();
        self.open.store(state != State::Closed, Ordering::Relaxed);
        self.metrics.breaker(self.id.as_str(), state.as_str());
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until the next probe; `None`: none is needed, or another one is under way.
    fn probe_in(&self) -> Option<Duration> {
        self.lock().probe_in(self.clock.millis()).map(Duration::from_millis)
    }

    async fn probe(self: &Arc<Self>) {
        if !self.lock().begin_probe(self.clock.millis()) {
            return;
        }
        self.show();
        let mut said = self.look().await;
        if let Err(StoreError::Away { .. }) = said {
            // It may only have found out that its connection is gone; the next one gets a new one.
            said = self.look().await;
        }
        let now = self.clock.millis();
        let change = match &said {
            Ok(()) | Err(StoreError::Refused { .. } | StoreError::Damaged { .. }) => {
                self.lock().answered(now)
            }
            Err(error @ (StoreError::Timeout { .. } | StoreError::Away { .. })) => {
                self.metrics.store_error("probe", error_word(error));
                self.lock().probe_failed(now, fastrand::u64(..));
                self.show();
                None
            }
        };
        self.changed(change, "");
    }

    async fn look(&self) -> Result<(), StoreError> {
        let known = self.seen.load_full();
        let looked = within("probe", self.patience(), self.store.view(&self.id, &known.view));
        looked.await.map(|_| ())
    }
}

async fn probe_until_closed(line: Weak<Line>) {
    while let Some(line_now) = line.upgrade() {
        let Some(wait) = line_now.probe_in() else { return };
        if wait.is_zero() {
            line_now.probe().await;
        } else {
            drop(line_now);
            tokio::time::sleep(wait).await;
        }
    }
}

pub(super) async fn within<T>(
    op: &'static str,
    deadline: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => done,
        Err(_) => {
            Err(StoreError::Timeout { op, after_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) })
        }
    }
}
