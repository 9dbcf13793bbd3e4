//! What happens each second: every instance looks at its pools; the steward, whichever instance that is, takes out what expired.
//!
//! Nothing waits for the steward: without one, expired leases only stay in the scores a little longer.

use super::Dispatcher;
use super::line::within;
use super::seen::Pool;
use super::{error_word, nodes};
use crate::clock::{self, Stopwatch};
use crate::domain::admission::Scope;
use crate::domain::lease::{Settle, Settled};
use crate::domain::node::NodeState;
use crate::store::{SettleOne, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{debug, info, warn};

/// How often every instance looks: answers use views at most 1 s old.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a steward is steward without saying so again, in ms.
const STEWARD_MS: u64 = 5_000;

/// The most leases that one sweep takes out, so that a sweep never holds up a pick.
const SWEEP_MAX: u32 = 256;

/// The most answers that the store is told of at once.
const ADOPT_MAX: usize = 256;

/// The most batches of leases that a store is told again of in one round.
const GIVE_BACK_MAX: u32 = 100;

/// The most sweeps while a lookup waits for room.
const SWEEPS_FOR_ROOM: u32 = 4;

/// In so many rounds all that this instance knows is held against the store: in 30 s, before the end of a lease is forgotten there.
const COMPARE_ROUNDS: usize = 60;

/// The most sweeps of one pool in one round.
const SWEEPS_MAX: u32 = 40;

impl Dispatcher {
    /// Reads the pools and puts the nodes of the configuration into the store. While the store is away this fails: lookups are
    /// answered from the nodes of the file then, and [`Dispatcher::watch`] tries again.
    pub async fn start(&self, from_file: &nodes::FileNodes) -> Result<(), StoreError> {
        self.want(from_file.clone()).await;
        self.seed_wanted().await
    }

    /// Looks after the pools until the task is dropped.
    pub async fn watch(self: Arc<Self>, from_file: nodes::FileNodes, seeded: bool) {
        self.want_first(from_file, seeded).await;
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut away: Option<&'static str> = (!self.is_seeded()).then_some("away");
        let mut sweep_now = false;
        let mut counted = Stopwatch::start();
        loop {
            tick.tick().await;
            sweep_now = !sweep_now;
            let result =
                if self.is_seeded() { self.round(sweep_now).await } else { self.seed_wanted().await };
            // The store was away from the last look, or before it, up to this one.
            let since = std::mem::replace(&mut counted, Stopwatch::start());
            if away.is_some() {
                self.metrics.degraded(since.elapsed());
            }
            match result {
                Ok(()) => {
                    if away.is_some() {
                        info!(store = self.store.kind(), "the store is back");
                    }
                    away = None;
                }
                Err(error) => {
                    // Once for each sort of trouble, not twice a second.
                    if away != Some(error_word(&error)) {
                        warn!(%error, "the store is away; lookups are answered from the last view");
                    }
                    away = Some(error_word(&error));
                }
            }
        }
    }

    async fn round(&self, sweep: bool) -> Result<(), StoreError> {
        self.forget_left();
        for pool in self.all_pools() {
            pool.catch_up().await?;
            pool.count_registered();
            pool.adopt().await?;
            pool.give_back().await?;
            pool.compare().await?;
        }
        if !sweep {
            return Ok(());
        }
        for pool in self.pools() {
            pool.count_limits().await?;
        }
        let holds = self.store.hold_steward(&self.settings().instance, STEWARD_MS).await;
        self.steward.store(matches!(holds, Ok(true)), Ordering::Relaxed);
        if holds? {
            for pool in self.all_pools() {
                self.sweep(&pool).await?;
                pool.pass_silence().await?;
                pool.purge().await?;
                pool.pass().await?;
            }
        }
        Ok(())
    }

    async fn sweep(&self, pool: &Pool) -> Result<(), StoreError> {
        for _ in 0..SWEEPS_MAX {
            let swept = self.store.sweep(&pool.id, &pool.seen().view, SWEEP_MAX).await?;
            self.metrics.expired(swept.expired);
            if swept.expired > 0 {
                info!(pool = %pool.id, count = swept.expired, "leases ended by time");
            }
            if !swept.more {
                break;
            }
        }
        Ok(())
    }
}

impl Pool {
    /// Tells the store what was answered without it. The proxy's own words count more, whichever comes first.
    async fn adopt(&self) -> Result<(), StoreError> {
        let held_ms = self.settings.rules.life.held_ms;
        while self.degraded.has_journal() {
            let seen = self.seen();
            let some = self.degraded.journal(&seen.view, held_ms, clock::wall(), ADOPT_MAX);
            let (leases, batch): (Vec<_>, Vec<_>) = some
                .into_iter()
                .map(|(lease, targets)| (lease, SettleOne { lease, verb: Settle::Adopt { targets } }))
                .unzip();
            if batch.is_empty() {
                // What is left is too old.
                self.degraded.adopted(&[], held_ms, clock::wall());
                break;
            }
            self.tell(&batch).await?;
            info!(pool = %self.id, count = leases.len(), "answers given without the store are known to it now");
            self.degraded.adopted(&leases, held_ms, clock::wall());
        }
        Ok(())
    }

    /// The pool is full: takes out leases whose time is over, in case that no steward does. True: there were some.
    pub(super) async fn make_room(&self, deadline: Duration) -> bool {
        if !self.may_make_room() {
            return false;
        }
        let mut expired = 0;
        let sweeps = async {
            for _ in 0..SWEEPS_FOR_ROOM {
                let seen = self.seen();
                let swept =
                    self.observe("sweep", self.store().sweep(&self.id, &seen.view, SWEEP_MAX)).await?;
                expired += swept.expired;
                if !swept.more {
                    break;
                }
            }
            Ok(())
        };
        let _ = within("sweep", deadline, sweeps).await;
        self.metrics().expired(expired);
        expired > 0
    }

    /// Tells a store that has forgotten of the leases that this instance knows.
    async fn give_back(&self) -> Result<(), StoreError> {
        let mut given = 0;
        for _ in 0..GIVE_BACK_MAX {
            if !self.ledger.owes(clock::wall()) {
                break;
            }
            let owed = self.ledger.owed(ADOPT_MAX, clock::wall());
            match self.tell(&owed).await {
                Ok(said) => {
                    self.ledger.paid(&owed, &said, self.settings.rules.life, clock::wall());
                    given += said.iter().filter(|said| matches!(said, Settled::Adopted)).count();
                }
                Err(error) => {
                    self.ledger.unpaid(&owed, clock::wall());
                    return Err(error);
                }
            }
        }
        if given > 0 {
            self.metrics().given_back(given);
            info!(pool = %self.id, count = given, "leases that the store had forgotten are known to it again");
        }
        Ok(())
    }

    /// Forgets leases that ended by other instances.
    async fn compare(&self) -> Result<(), StoreError> {
        let leases = self.ledger.to_compare(COMPARE_ROUNDS, clock::wall());
        if leases.is_empty() {
            return Ok(());
        }
        let known = self.observe("known", self.store().known(&self.id, &leases)).await?;
        let over = self.ledger.compared(&leases, &known.live, known.history, clock::wall());
        if over > 0 {
            debug!(pool = %self.id, count = over, "leases that this instance knew were over");
        }
        Ok(())
    }

    async fn tell(&self, batch: &[SettleOne]) -> Result<Vec<Settled>, StoreError> {
        let seen = self.seen();
        self.observe("settle", self.store().settle(&self.id, &self.settings.rules, &seen.view, batch)).await
    }

    /// Looks again, and gives the definitions back to a store that lost its memory.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let view = self.look_whole().await?;
        self.keep(view);
        Ok(())
    }

    /// Shows what the limits count that have a name.
    async fn count_limits(&self) -> Result<(), StoreError> {
        let named = self.settings.limits.named();
        if named.is_empty() {
            return Ok(());
        }
        let scopes: Vec<Scope> = named.iter().map(|admit| admit.scope.clone()).collect();
        let used = self.observe("usage", self.store().usage(&self.id, &scopes)).await?;
        for (admit, used) in named.iter().zip(used) {
            let tenant = match &admit.scope {
                Scope::Pool => "",
                Scope::Tenant(tenant) => tenant.as_str(),
            };
            self.metrics().admission().usage(self.id.as_str(), tenant, used.live, admit.limit.calls);
        }
        Ok(())
    }

    /// Forgets removed nodes whose last lease has ended, unless the file still names them.
    async fn purge(&self) -> Result<(), StoreError> {
        let seen = self.seen();
        let spent = |(r, n): &(&crate::store::NodeRecord, &crate::domain::pool::Loaded)| {
            r.node.state == NodeState::Removed && r.file_digest.is_none() && n.load == 0
        };
        let pairs = || seen.view.nodes.iter().zip(&seen.view.loaded);
        if pairs().any(|pair| spent(&pair)) {
            let kept: Vec<_> = pairs().filter(|pair| !spent(pair)).map(|(r, _)| r.clone()).collect();
            self.write(&seen.view, &kept).await?;
            self.refresh().await?;
        }
        Ok(())
    }
}
