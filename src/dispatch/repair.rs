//! Leases are held against what their node says that it has: a call whose end nobody told stops counting, a call that nobody counts
//! begins to. Whoever drives nodes passes their lists on.

use super::Dispatcher;
use super::seen::Pool;
use crate::clock::Stopwatch;
use crate::domain::census::{Census, Repair};
use crate::domain::id::{ChannelId, LeaseId, NodeId, PoolId, Slot};
use crate::domain::lease::Settle;
use crate::domain::pool::Kind;
use crate::store::{SettleOne, StoreError};
use crate::wire::token::{Token, lease_id, leg_lease};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tracing::{info, warn};

/// How long reading the leases of a node may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// What a node says of one of its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carries {
    /// The channel.
    pub channel: ChannelId,
    /// The lease's token that is noted on it; empty: none.
    pub token: String,
    /// It calls an agent: its lease was made when its offer's token was redeemed.
    pub is_leg: bool,
}

impl Carries {
    /// It says nothing of a lease: nobody made one, or it has just come.
    fn is_nameless(&self) -> bool {
        !self.is_leg && self.token.is_empty()
    }
}

/// The lease of a channel that names none.
fn of_channel(pool: &PoolId, carries: &Carries) -> LeaseId {
    lease_id(pool, carries.channel.as_str(), "", 0, Kind::New)
}

/// What is remembered of each node.
pub(super) type Censuses = Mutex<BTreeMap<(PoolId, NodeId), (Census, Stopwatch)>>;

impl Dispatcher {
    /// Puts the leases of a node right. `begun`: when it was asked for its channels; of two lists that were begun before one
    /// look at the leases, the second tells nothing new.
    pub async fn repair(&self, pool: &PoolId, node: &NodeId, begun: Stopwatch, carries: Vec<Carries>) {
        if let Err(error) = self.repair_now(pool, node, begun, carries).await {
            warn!(%pool, %node, %error, "its leases are not compared with its channels");
        }
    }

    async fn repair_now(
        &self,
        pool: &PoolId,
        node: &NodeId,
        begun: Stopwatch,
        carries: Vec<Carries>,
    ) -> Result<(), StoreError> {
        let Ok(pool) = self.pool(Some(pool)) else { return Ok(()) };
        let seen = pool.seen();
        let slot = seen.view.loaded.iter().find(|loaded| loaded.node.id == *node).map(|l| l.node.slot);
        let Some(slot) = slot else { return Ok(()) };
        let shown: BTreeSet<LeaseId> =
            carries.iter().filter_map(|carries| self.lease_that(carries, &pool, node)).collect();
        let nameless = carries.iter().filter(|carries| carries.is_nameless());
        let nameless: BTreeSet<LeaseId> = nameless.map(|carries| of_channel(&pool.id, carries)).collect();
        let mut censuses = self.censuses.lock().await;
        let looked = Stopwatch::start();
        let work = pool.store().carried(&pool.id, slot);
        let counted = pool.ask_cell("carried", READ_TIMEOUT, work).await?;
        let counted: Vec<(LeaseId, bool)> = counted.iter().map(|one| (one.lease, one.confirmed)).collect();
        let entry = censuses.entry((pool.id.clone(), node.clone()));
        let (census, last) = entry.or_insert_with(|| (Census::default(), looked));
        if begun.elapsed() > last.elapsed() && *census != Census::default() {
            return Ok(());
        }
        let repair = census.compare(&shown, &nameless, &counted);
        *last = looked;
        drop(censuses);
        self.apply(&pool, node, slot, repair).await
    }

    /// The lease of a channel; one that nobody made is named by the channel. `None`: it is counted elsewhere.
    fn lease_that(&self, carries: &Carries, pool: &Pool, node: &NodeId) -> Option<LeaseId> {
        let channel = &carries.channel;
        if carries.is_leg {
            return Some(leg_lease(&pool.id, channel));
        }
        if carries.is_nameless() {
            return Some(of_channel(&pool.id, carries));
        }
        let token = Token::verify(&carries.token, &self.live().settings.secret).ok()?;
        // A call that overflowed or moved on is counted where its token says.
        (token.pool == pool.id && token.node == *node).then_some(token.lease)
    }

    async fn apply(
        &self,
        pool: &Arc<Pool>,
        node: &NodeId,
        slot: Slot,
        repair: Repair,
    ) -> Result<(), StoreError> {
        if repair == Repair::default() {
            return Ok(());
        }
        let (ended, confirmed) = (repair.end.len(), repair.confirm.len());
        let deadline = Duration::from_millis(self.live().settings.settle_deadline_ms());
        let latest = pool.seen().view.at + pool.settings.rules.life.call_max_ms;
        let end = repair.end.into_iter().map(|lease| SettleOne { lease, verb: Settle::Done });
        let confirm = repair
            .confirm
            .into_iter()
            .map(|lease| SettleOne { lease, verb: Settle::Confirm { branch: 0, slot: Some(slot), latest } });
        for one in end.chain(confirm) {
            pool.settle(one, deadline).await?;
        }
        self.metrics.cell().repaired("lease-ended", ended);
        self.metrics.cell().repaired("lease-found", confirmed);
        info!(pool = %pool.id, %node, ended, confirmed, "leases put right by the node's channels");
        Ok(())
    }
}
