//! One pool in this process's memory: what the embedded stores share. The policy is `domain`'s, called as it is.
//!
//! A table may keep a [`Journal`]: what has changed since it was last taken, by name. Values are read when it is taken, so
//! that many changes to one lease are one.

use super::ties::Ties;
use super::{
    Answer, Carried, Heartbeats, Known, NodeRecord, ONE_HISTORY, Pick, PoolRules, SettleOne, Swept, View,
    Written,
};
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{LeaseId, NodeId, Slot};
use crate::domain::lease::{self, Lease, LeaseState, Settled};
use crate::domain::pool::{self, Loaded, NoPick};
use crate::domain::registration::Beats;
use crate::domain::time::EpochMs;
use std::collections::{BTreeSet, HashMap};

/// The most leases that a pool remembers beyond what its nodes may carry: those that are over, and emergency calls. Ten
/// thousand calls a second leave 350,000 that are over. Of more, those go early that would be forgotten next.
pub(super) const SPARE_LEASES_MAX: usize = 500_000;

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    /// Leases that are new, different or forgotten.
    pub leases: BTreeSet<LeaseId>,
    /// Nodes that were touched.
    pub touched: BTreeSet<Slot>,
    /// The definitions, and with them perhaps every touch.
    pub defined: bool,
}

impl Journal {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.touched.is_empty() && !self.defined
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: Journal) {
        self.leases.extend(other.leases);
        self.touched.extend(other.touched);
        self.defined |= other.defined;
    }
}

/// What a table is made of again.
#[derive(Clone, Debug, Default)]
pub(super) struct Saved {
    pub version: u64,
    pub touches: u64,
    pub records: Vec<NodeRecord>,
    pub touched: HashMap<Slot, u64>,
    pub leases: HashMap<LeaseId, Lease>,
}

/// One pool: definitions, leases, and which leases are counted on which slot.
#[derive(Default)]
pub(super) struct PoolState {
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
    /// What limits have used; scopes that were never used have no entry.
    usage: HashMap<Scope, Usage>,
    /// The nodes that keys stick to.
    ties: Ties,
    /// When heartbeats run out. In no journal: after a restart every node has time to be heard of again.
    beats: Beats,
    /// `None`: nobody asks what has changed.
    journal: Option<Journal>,
}

impl PoolState {
    /// A table as it was saved, which keeps a journal.
    pub fn restored(saved: Saved) -> PoolState {
        let by_expiry = saved.leases.iter().map(|(id, lease)| (lease.expires, *id)).collect();
        let mut usage: HashMap<Scope, Usage> = HashMap::new();
        for scope in saved.leases.values().flat_map(|lease| &lease.scopes) {
            usage.entry(scope.clone()).or_default().live += 1;
        }
        let mut state = PoolState {
            version: saved.version,
            touches: saved.touches,
            leases: saved.leases,
            by_expiry,
            usage,
            journal: Some(Journal::default()),
            ..PoolState::default()
        };
        state.set_records(&saved.records, &saved.touched);
        state
    }

    /// What has changed since the last time; empty where no journal is kept.
    pub fn take_journal(&mut self) -> Journal {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What was taken and could not be saved has still changed.
    pub fn put_back(&mut self, taken: Journal) {
        self.note(|journal| journal.merge(taken));
    }

    /// Whether anything has changed since the journal was taken.
    pub fn has_changed(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.is_empty())
    }

    /// Rises with each change of the definitions.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many touches there were.
    pub fn touches(&self) -> u64 {
        self.touches
    }

    /// What is known of a lease.
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// How many leases are known, live or over.
    #[cfg(test)]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// The definitions, by slot.
    pub fn records(&self) -> &[NodeRecord] {
        &self.records
    }

    /// Load and touch of each of [`PoolState::records`].
    pub fn loaded(&self) -> &[Loaded] {
        &self.loaded
    }

    /// When the node in this slot was touched last; `None`: nobody stands there.
    pub fn touched(&self, slot: Slot) -> Option<u64> {
        self.index_of.get(&slot).and_then(|i| self.loaded.get(*i)).map(|node| node.touched)
    }

    /// Nodes and loads at `now`.
    pub fn view(&mut self, now: EpochMs) -> View {
        self.expire(now, usize::MAX);
        View {
            version: self.version,
            nodes: self.records.clone(),
            loaded: self.loaded.clone(),
            at: now,
            history: ONE_HISTORY,
        }
    }

    /// Which of these leases are live.
    pub fn known(&self, leases: &[LeaseId], now: EpochMs) -> Known {
        let live = |id| self.leases.get(id).is_some_and(|lease| lease.is_live(now));
        Known { history: ONE_HISTORY, live: leases.iter().map(live).collect() }
    }

    /// The live leases of a slot.
    pub fn carried(&self, slot: Slot, now: EpochMs) -> Vec<Carried> {
        let here = self.leases.iter().filter(|(_, lease)| lease.counted_on(now) == Some(slot));
        here.map(|(id, lease)| Carried { lease: *id, confirmed: lease.state == LeaseState::Confirmed })
            .collect()
    }

    /// Notes that a node lives.
    pub fn beat(&mut self, node: &NodeId, ttl_ms: u64, now: EpochMs) -> EpochMs {
        let until = now + ttl_ms;
        self.beats.insert(node.clone(), until);
        until
    }

    /// When heartbeats run out.
    pub fn beats(&self, now: EpochMs) -> Heartbeats {
        Heartbeats { at: now, history: ONE_HISTORY, until: self.beats.clone() }
    }

    /// Forgets heartbeats that are over.
    pub fn forget_beats(&mut self, nodes: &[NodeId], now: EpochMs) {
        for node in nodes {
            if self.beats.get(node).is_some_and(|until| *until <= now) {
                self.beats.remove(node);
            }
        }
    }

    /// Replaces the definitions, if they still are at version `expected`.
    pub fn write_nodes(&mut self, expected: u64, nodes: &[NodeRecord]) -> Written {
        if self.version != expected {
            return Written::Conflict;
        }
        self.define(nodes);
        Written::Done(self.version)
    }

    /// Leases a node for a lookup.
    pub fn pick(&mut self, one: &Pick, rules: &PoolRules, now: EpochMs) -> Answer {
        self.expire(now, usize::MAX);
        if let Some(known) = self.leases.get(&one.lease)
            && known.answers_repeat(now)
        {
            return Answer::Repeat(known.targets.iter().flatten().copied().collect());
        }
        if self.leases.get(&one.lease).is_some_and(|known| known.is_overflowed(now)) {
            return Answer::Overflow;
        }
        for admit in &one.admit {
            let used = self.usage.get(&admit.scope).copied().unwrap_or_default();
            if let Err(reached) = used.admits(&admit.limit, now) {
                let tenant = matches!(admit.scope, Scope::Tenant(_));
                return Answer::Refused(NoPick::Limit { tenant, reached });
            }
        }
        let preferred = one.sticky.and_then(|sticky| self.ties.slot(&sticky.id, now));
        let picked = pool::pick_preferring(preferred, &self.loaded, &one.lookup, &rules.choose);
        let order = match picked.targets {
            Ok(order) => order,
            Err(_) if one.overflows => {
                self.put(one.lease, Some(Lease::overflowed(now)), now);
                return Answer::Overflow;
            }
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
            scopes: one.admit.iter().map(|admit| admit.scope.clone()).collect(),
        };
        self.put(one.lease, Some(lease), now);
        for admit in &one.admit {
            self.usage.entry(admit.scope.clone()).or_default().take_token(&admit.limit, now);
        }
        if let (Some(sticky), Some(slot)) = (one.sticky, targets.first()) {
            self.ties.tie(sticky.id, *slot, now + sticky.keep_ms);
        }
        self.touch(targets.first());
        Answer::Leased(targets)
    }

    /// Applies a verb to its lease.
    pub fn settle(&mut self, one: &SettleOne, rules: &PoolRules, now: EpochMs) -> Settled {
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
            for scope in &lease.scopes {
                self.usage.entry(scope.clone()).or_default().live += 1;
            }
            self.by_expiry.insert((lease.expires, id));
            self.leases.insert(id, lease);
            self.note(|journal| _ = journal.leases.insert(id));
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
        self.note(|journal| _ = journal.leases.insert(id));
        self.by_expiry.remove(&(lease.expires, id));
        let just_before = EpochMs(now.0.min(lease.expires.0.saturating_sub(1)));
        if let Some(slot) = lease.counted_on(just_before) {
            self.count(slot, -1);
        }
        for scope in &lease.scopes {
            if let Some(usage) = self.usage.get_mut(scope) {
                usage.live = usage.live.saturating_sub(1);
            }
        }
        Some(lease)
    }

    /// What these scopes have used at `now`.
    pub fn usage(&mut self, scopes: &[Scope], now: EpochMs) -> Vec<Usage> {
        self.expire(now, usize::MAX);
        scopes.iter().map(|scope| self.usage.get(scope).copied().unwrap_or_default()).collect()
    }

    /// What a steward does each second.
    pub fn sweep(&mut self, now: EpochMs, limit: usize) -> Swept {
        self.usage.retain(|_, usage| !usage.is_spent(now));
        self.ties.forget(now);
        self.expire(now, limit)
    }

    /// Forgets at most `limit` leases whose time is over.
    pub fn expire(&mut self, now: EpochMs, limit: usize) -> Swept {
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
        if let Some(slot) = slot {
            self.note(|journal| _ = journal.touched.insert(*slot));
        }
    }

    fn define(&mut self, nodes: &[NodeRecord]) {
        self.version += 1;
        let touched = self.loaded.iter().map(|n| (n.node.slot, n.touched)).collect();
        self.set_records(nodes, &touched);
        self.note(|journal| journal.defined = true);
    }

    fn set_records(&mut self, nodes: &[NodeRecord], touched: &HashMap<Slot, u64>) {
        let mut carried: HashMap<Slot, u32> = HashMap::new();
        for lease in self.leases.values() {
            if let Some(slot) = lease.counted_on(EpochMs(lease.expires.0.saturating_sub(1))) {
                *carried.entry(slot).or_default() += 1;
            }
        }
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

    fn note(&mut self, change: impl FnOnce(&mut Journal)) {
        if let Some(journal) = self.journal.as_mut() {
            change(journal);
        }
    }
}
