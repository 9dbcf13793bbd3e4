//! Routing of calls to nodes by the real rules: each channel has a lease of the real load table.

use super::WorldBug;
use super::ladder::Who;
use super::plan::Ms;
use super::world::{Ev, World};
use futures_util::FutureExt;
use mqs::domain::id::{LeaseId, PoolId, Slot};
use mqs::domain::lease::{Lifetimes, Settle, Settled};
use mqs::domain::node::{Node, NodeState};
use mqs::domain::pool::{Kind, Lookup, Rules};
use mqs::domain::time::EpochMs;
use mqs::store::memory::MemoryStore;
use mqs::store::{Answer, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, View};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const RULES: PoolRules = PoolRules {
    choose: Rules { agent_reserve_pm: 400, zone_spill_pm: 800, targets_max: 3 },
    life: Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 },
};
const BEGINNING_MS: u64 = 1_700_000_000_000;
const LOADS_EVERY_MS: Ms = 5_000;

pub struct Dispatch {
    store: MemoryStore,
    clock: Arc<AtomicU64>,
    pool: PoolId,
    view: View,
    /// Leases that were given and are not known to be over, and the node that each is for: the world's own record.
    held: BTreeMap<LeaseId, usize>,
    /// The defect that is put in on purpose: numbers that go up and down.
    counters: Option<Vec<i64>>,
}

impl Dispatch {
    pub fn new(nodes: usize, bug: Option<WorldBug>) -> Dispatch {
        let clock = Arc::new(AtomicU64::new(BEGINNING_MS));
        let read = clock.clone();
        let store = MemoryStore::new(Box::new(move || EpochMs(read.load(Ordering::Relaxed))));
        let pool: PoolId = "sales".parse().unwrap();
        let record = |slot: usize| {
            let node = Node {
                id: format!("ast{}", slot + 1).parse().unwrap(),
                slot: Slot(slot as u16),
                uri: format!("sip:127.0.1.{}", slot + 1).parse().unwrap(),
                capacity: 200,
                zone: None,
                tags: BTreeSet::new(),
                state: NodeState::Active,
                health: Default::default(),
            };
            NodeRecord { node: Arc::new(node), file_digest: None, since: EpochMs(0) }
        };
        let records: Vec<NodeRecord> = (0..nodes).map(record).collect();
        let view = View::empty();
        now(store.write_nodes(&pool, &view, &records));
        let counters = (bug == Some(WorldBug::CountersForLeases)).then(|| vec![0; nodes]);
        Dispatch { store, clock, pool, view, held: BTreeMap::new(), counters }
    }

    fn set_clock(&self, now: Ms) {
        self.clock.store(BEGINNING_MS + now, Ordering::Relaxed);
    }

    fn pick(&self, lease: LeaseId, lookup: Lookup) -> Answer {
        let pick = Pick::plain(lease, lookup, Vec::new());
        now(self.store.pick(&self.pool, &RULES, &self.view, &[pick])).remove(0)
    }

    fn settle(&self, lease: LeaseId, verb: Settle) -> Settled {
        now(self.store.settle(&self.pool, &RULES, &self.view, &[SettleOne { lease, verb }])).remove(0)
    }

    fn count(&mut self, node: usize, by: i64) {
        if let Some(counters) = &mut self.counters {
            counters[node] += by;
        }
    }

    fn loads(&self) -> Vec<i64> {
        if let Some(counters) = &self.counters {
            return counters.clone();
        }
        let view = now(self.store.view(&self.pool, &self.view));
        view.loaded.iter().map(|node| i64::from(node.load)).collect()
    }
}

/// The store in memory answers at once.
fn now<T>(asked: impl Future<Output = Result<T, StoreError>>) -> T {
    asked.now_or_never().expect("an answer at once").expect("an answer")
}

impl World {
    /// A caller's lookup: the nodes in order, the first one leased.
    pub fn lookup_new(&mut self, lease: LeaseId) -> Option<Vec<usize>> {
        self.dispatch.set_clock(self.now);
        let (slots, new) = match self.dispatch.pick(lease, Lookup::new_call(3)) {
            Answer::Leased(slots) => (slots, true),
            Answer::Repeat(slots) => (slots, false),
            Answer::Refused(_) | Answer::Overflow => return None,
        };
        let targets: Vec<usize> = slots.iter().map(|slot| usize::from(slot.0)).collect();
        self.coverage.count("dispatch", if new { "leased" } else { "repeated" });
        self.dispatch.count(targets[0], 1);
        if new {
            self.dispatch.held.insert(lease, targets[0]);
        }
        Some(targets)
    }

    /// The leg to an agent is counted on the node where it comes from.
    pub fn lookup_leg(&mut self, lease: LeaseId, node: usize) {
        self.dispatch.set_clock(self.now);
        let own =
            Lookup { kind: Kind::Agent, node: Some(self.nodes[node].id.clone()), ..Lookup::new_call(1) };
        let answer = self.dispatch.pick(lease, own);
        if answer != Answer::Leased(vec![Slot(node as u16)]) {
            self.fail(
                "I5",
                format!("a leg of {} was answered {answer:?}", self.nodes[node].id),
                Who::node(node),
            );
        }
        self.dispatch.count(node, 1);
        self.dispatch.held.insert(lease, node);
    }

    fn confirm(&mut self, lease: LeaseId, branch: u8, node: usize) {
        self.dispatch.set_clock(self.now);
        let latest = EpochMs(BEGINNING_MS + self.now + RULES.life.call_max_ms);
        let verb = Settle::Confirm { branch, slot: Some(Slot(node as u16)), latest };
        self.dispatch.settle(lease, verb);
    }

    pub fn lease_confirm(&mut self, caller: usize) {
        let of = &self.callers[caller];
        if let Some(node) = of.held_on {
            self.confirm(of.lease, of.attempt, node);
        }
    }

    pub fn leg_lease_confirmed(&mut self, leg: usize) {
        let of = &self.legs[leg];
        if let Some(node) = of.held_on {
            self.confirm(of.lease, 0, node);
        }
    }

    /// A target was silent: which one is next.
    pub fn lease_failed(&mut self, lease: LeaseId, branch: u8) -> Option<(u8, usize)> {
        self.dispatch.set_clock(self.now);
        let before = self.dispatch.held.remove(&lease)?;
        self.dispatch.count(before, -1);
        match self.dispatch.settle(lease, Settle::Fail { branch }) {
            Settled::Moved { attempt, slot } => {
                let node = usize::from(slot.0);
                self.dispatch.held.insert(lease, node);
                self.dispatch.count(node, 1);
                Some((attempt, node))
            }
            _ => None,
        }
    }

    /// A channel is no more: the proxy says so, at times late, since it says it again until it is heard.
    pub fn lease_over(&mut self, lease: LeaseId, held_on: Option<usize>) {
        if held_on.is_none() {
            return;
        }
        let lost = self.chance(5);
        if lost {
            self.coverage.count("dispatch", "end said again");
            if self.dispatch.counters.is_some() {
                return;
            }
        }
        let after = if lost { self.rng.u64(1_000..20_000) } else { self.sip_ms() };
        self.after(after, Ev::LeaseDone(lease, held_on));
    }

    pub fn lease_done(&mut self, lease: LeaseId, node: Option<usize>) {
        self.dispatch.set_clock(self.now);
        self.dispatch.settle(lease, Settle::Done);
        self.dispatch.held.remove(&lease);
        if let Some(node) = node {
            self.dispatch.count(node, -1);
        }
    }

    /// load(node) = its channels + those on the way + ends that are not said yet, at every moment.
    pub fn check_loads(&mut self) {
        self.dispatch.set_clock(self.now);
        let loads = self.dispatch.loads();
        for (node, load) in loads.into_iter().enumerate() {
            let held = self.dispatch.held.values().filter(|of| **of == node).count() as i64;
            if load != held {
                let what = format!("{} has a load of {load}, and {held} channels", self.nodes[node].id);
                self.fail("I5", what, Who::node(node));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let counted = |lease: &LeaseId| self.dispatch.held.get(lease) == Some(&number);
            let caller = node.callers.values().copied().find(|caller| !counted(&self.callers[*caller].lease));
            if let Some(caller) = caller {
                self.fail("I5", "a channel without a lease".to_owned(), Who::caller(caller));
                return;
            }
        }
        self.after(LOADS_EVERY_MS, Ev::Loads);
    }

    /// Nothing is left of calls that are over.
    pub fn check_residue(&mut self) {
        self.check_loads();
        if !self.dispatch.held.is_empty() {
            let what = format!("{} leases are left at the end", self.dispatch.held.len());
            self.fail("I5", what, Who::default());
        }
    }
}
