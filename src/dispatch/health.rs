//! Health: what calls and probes tell becomes a part of the definitions that all instances share.
//!
//! Every instance notices what its own calls meet, and writes an ejection at once. The steward, whichever instance that is,
//! probes the nodes and lets time pass; without one, nodes that are out stay out a little longer. The rules are
//! `domain::health`'s.

use super::Dispatcher;
use super::nodes::TRIES;
use super::seen::Pool;
use crate::clock::Stopwatch;
use crate::domain::health::{Condition, Evidence, Health, HealthRules, Watch, too_many_out};
use crate::domain::id::{NodeId, PoolId};
use crate::domain::node::NodeState;
use crate::domain::time::EpochMs;
use crate::domain::uri::NodeUri;
use crate::store::{NodeRecord, StoreError, View, Written};
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

/// How often it is looked whose turn it is to be probed.
const PROBE_TICK: Duration = Duration::from_millis(100);

/// After a write, changes are collected for so long: every instance reads the definitions again for each, and a zone that is lost
/// is to be a few, not one for each of its nodes.
const COLLECT: Duration = Duration::from_millis(200);

/// The most probes under way at once.
const PROBES_MAX: usize = 256;

/// Asks a node whether it is there.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// One question, one answer: [`Evidence::ProbeGood`] or [`Evidence::ProbeBad`]; nothing for an address that cannot be asked.
    async fn probe(&self, pool: &PoolId, uri: &NodeUri, rules: &HealthRules) -> Option<Evidence>;
}

/// What this instance noticed of a pool's nodes.
#[derive(Default)]
pub struct Watches {
    nodes: Mutex<HashMap<NodeId, Watch>>,
    /// Changes that are to be written.
    due: Mutex<HashMap<NodeId, Change>>,
    /// A task writes them.
    busy: AtomicBool,
}

/// A node's health before, and what shall come of it.
struct Change {
    id: NodeId,
    before: Health,
    next: Health,
}

impl Pool {
    /// Notices what a call or a probe met at a node. A change is written in the background: nobody waits for it.
    pub(super) fn notice(self: &Arc<Self>, node: &NodeId, evidence: &Evidence) {
        let Some(change) = self.noticed(node, evidence) else { return };
        self.due().insert(change.id.clone(), change);
        if !self.watches.busy.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().write_due());
        }
    }

    async fn write_due(self: Arc<Self>) {
        loop {
            let due: Vec<Change> = std::mem::take(&mut *self.due()).into_values().collect();
            if due.is_empty() {
                self.watches.busy.store(false, Ordering::Release);
                // Something may have come before that was said.
                if self.due().is_empty() || self.watches.busy.swap(true, Ordering::AcqRel) {
                    return;
                }
                continue;
            }
            // What is not written is noticed again.
            if let Err(error) = self.change_health(due).await {
                debug!(pool = %self.id, %error, "the health of nodes was not written");
            }
            tokio::time::sleep(COLLECT).await;
        }
    }

    fn due(&self) -> MutexGuard<'_, HashMap<NodeId, Change>> {
        self.watches.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noticed(&self, id: &NodeId, evidence: &Evidence) -> Option<Change> {
        let seen = self.seen();
        let node = &seen.view.node(id)?.node;
        let mut watches = self.watches.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = watches.entry(id.clone()).or_default();
        let next = watch.notice(evidence, &node.health, &self.settings.health, seen.view.at)?;
        Some(Change { id: id.clone(), before: node.health.clone(), next })
    }

    /// Whom the last probes speak against, or for: [`Watch::is_in_doubt`].
    fn in_doubt(&self, view: &View) -> HashSet<NodeId> {
        let watches = self.watches.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = view.loaded.iter().filter_map(|n| Some((&n.node, watches.get(&n.node.id)?)));
        known
            .filter(|(node, watch)| watch.is_in_doubt(&node.health))
            .map(|(node, _)| node.id.clone())
            .collect()
    }

    /// Lets time pass for the nodes: pauses end, nodes warm up, and a verdict on too many is overruled.
    pub(super) async fn pass(&self) -> Result<(), StoreError> {
        let seen = self.seen();
        let changes = {
            let mut watches = self.watches.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            watches.retain(|id, _| seen.view.node(id).is_some());
            let change = |n: &crate::domain::pool::Loaded| {
                let (id, before) = (&n.node.id, &n.node.health);
                if before.condition == Condition::Up {
                    return None;
                }
                let watch = watches.entry(id.clone()).or_default();
                let next = watch.pass(before, &self.settings.health, seen.view.at)?;
                Some(Change { id: id.clone(), before: before.clone(), next })
            };
            seen.view.loaded.iter().filter_map(change).collect::<Vec<_>>()
        };
        let overruled = too_many_out(active(&seen.view.nodes), &self.settings.health);
        let fits = |r: &NodeRecord| r.node.health.overruled == is_overruled(r, overruled);
        if changes.is_empty() && seen.view.nodes.iter().all(fits) {
            return Ok(());
        }
        self.change_health(changes).await
    }

    /// Writes changes, each unless the node's health is another one by now.
    async fn change_health(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..TRIES {
            let view = self.look_whole().await?;
            let nodes = self.with_health(&view, &changes);
            if nodes == view.nodes {
                return Ok(());
            }
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                self.say_changes(&view, &nodes, version);
                return self.refresh().await.map(|_| ());
            }
        }
        // Whoever is first each time has seen the same node, or the next round tries again.
        Ok(())
    }

    fn with_health(&self, view: &View, changes: &[Change]) -> Vec<NodeRecord> {
        let mut nodes = view.nodes.clone();
        let of: BTreeMap<&NodeId, &Change> = changes.iter().map(|change| (&change.id, change)).collect();
        for record in &mut nodes {
            let Some(change) = of.get(&record.node.id) else { continue };
            let known = &record.node.health;
            if (known.condition, known.since) == (change.before.condition, change.before.since) {
                Arc::make_mut(&mut record.node).health = moved(&change.before, &change.next, view.at);
            }
        }
        let overruled = too_many_out(active(&nodes), &self.settings.health);
        for record in &mut nodes {
            let is = is_overruled(record, overruled);
            if record.node.health.overruled != is {
                Arc::make_mut(&mut record.node).health.overruled = is;
            }
        }
        nodes
    }

    fn say_changes(&self, view: &View, nodes: &[NodeRecord], version: u64) {
        for (old, new) in view.nodes.iter().zip(nodes) {
            let (id, health) = (&new.node.id, &new.node.health);
            if old.node.health.condition == health.condition {
                continue;
            }
            self.metrics().health_changed(self.id.as_str(), health.condition.as_str());
            let (was, is, why) = (old.node.health.condition, health.condition, &health.why);
            if is.is_out() {
                warn!(pool = %self.id, node = %id, %was, %is, why, version, "a node is out");
            } else {
                info!(pool = %self.id, node = %id, %was, %is, why, version, "a node is back");
            }
        }
        let is_overruled = |nodes: &[NodeRecord]| nodes.iter().any(|r| r.node.health.overruled);
        match (is_overruled(&view.nodes), is_overruled(nodes)) {
            (false, true) => {
                let out = active(nodes).filter(|h| h.condition.is_out()).count();
                warn!(pool = %self.id, out, of = active(nodes).count(), "PANIC: too many nodes of the pool are out; health is overruled and all are used");
            }
            (true, false) => info!(pool = %self.id, "health counts again"),
            (true, true) | (false, false) => {}
        }
    }
}

fn active(nodes: &[NodeRecord]) -> impl Iterator<Item = &Health> {
    nodes.iter().filter(|r| r.node.state == NodeState::Active).map(|r| &r.node.health)
}

fn is_overruled(record: &NodeRecord, overruled: bool) -> bool {
    overruled && record.node.state == NodeState::Active && record.node.health.condition.is_out()
}

/// A change as it is at the time of writing: it was found by an older view's time.
fn moved(before: &Health, next: &Health, now: EpochMs) -> Health {
    if next.since == before.since {
        return next.clone();
    }
    Health { since: now, until: next.until.map(|until| now + until.since(next.since)), ..next.clone() }
}

/// When each node is to be probed.
type Due = HashMap<(PoolId, NodeId), Turn>;

/// A node's next probe: by the process' own clock.
#[derive(Clone, Copy)]
struct Turn {
    /// When it was asked last.
    asked: Duration,
    at: Duration,
    round: u64,
}

impl Turn {
    /// Of a node that is in doubt it comes after half of the time.
    fn is_due(&self, now: Duration, in_doubt: bool) -> bool {
        let sooner = if in_doubt { self.at.saturating_sub(self.asked) / 2 } else { Duration::ZERO };
        self.at.saturating_sub(sooner) <= now
    }
}

impl Dispatcher {
    /// Probes the nodes of all pools while this instance is the steward, until the task is dropped.
    pub async fn probe(self: Arc<Self>, prober: Arc<dyn Prober>) {
        let (clock, turns) = (Stopwatch::start(), Arc::new(Semaphore::new(PROBES_MAX)));
        let mut tick = tokio::time::interval(PROBE_TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = Due::new();
        loop {
            tick.tick().await;
            if !self.is_steward() {
                due.clear();
                continue;
            }
            let mut left = Due::with_capacity(due.len());
            for pool in self.pools().filter(|pool| pool.settings.health.probe_every_ms > 0) {
                self.probe_pool(&pool, &prober, &turns, clock.elapsed(), (&mut due, &mut left)).await;
            }
            // Nodes that are gone are forgotten.
            due = left;
        }
    }

    async fn probe_pool(
        &self,
        pool: &Arc<Pool>,
        prober: &Arc<dyn Prober>,
        turns: &Arc<Semaphore>,
        now: Duration,
        (due, left): (&mut Due, &mut Due),
    ) {
        let every = Duration::from_millis(pool.settings.health.probe_every_ms);
        let seen = pool.seen();
        let in_doubt = pool.in_doubt(&seen.view);
        for node in seen.view.loaded.iter().map(|n| &n.node) {
            match node.state {
                NodeState::Active | NodeState::Draining => {}
                // The operator knows.
                NodeState::Down | NodeState::Removed => continue,
            }
            let key = (pool.id.clone(), node.id.clone());
            // The first time is anywhere in the interval, so that the nodes are not all probed at once.
            let first = Turn { asked: now, at: now + every.mul_f64(share(&node.id, 0)), round: 0 };
            let turn = due.remove(&key).unwrap_or(first);
            if !turn.is_due(now, in_doubt.contains(&node.id)) {
                left.insert(key, turn);
                continue;
            }
            let round = turn.round + 1;
            let at = now + every.mul_f64(0.9 + 0.2 * share(&node.id, round));
            left.insert(key, Turn { asked: now, at, round });
            let Ok(turn) = turns.clone().acquire_owned().await else { return };
            let (pool, prober, node) = (pool.clone(), prober.clone(), node.clone());
            let metrics = self.metrics.clone();
            tokio::spawn(async move {
                let evidence = prober.probe(&pool.id, &node.uri, &pool.settings.health).await;
                drop(turn);
                let Some(evidence) = evidence else { return };
                metrics.probe(pool.id.as_str(), matches!(evidence, Evidence::ProbeGood));
                pool.notice(&node.id, &evidence);
            });
        }
    }
}

/// A number from 0 to 1 that is another one for each node and round, and needs no randomness.
fn share(id: &NodeId, round: u64) -> f64 {
    let hash = Sha256::digest(format!("{id} {round}").as_bytes());
    let first = hash.first_chunk::<4>().copied().unwrap_or_default();
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}
