//! What this instance knows of the leases that it answered for: for a store that forgets.
//!
//! A store may lose its memory: emptied, restarted without a log, replaced by a replica that was behind. The definitions are given
//! back to it ([`super::steward`]), and so is what stands here: first the ends that were told lately, then the leases that are live.
//! The verbs are the proxy's own, so that it does no harm to say them twice, or from two instances, and an end always wins.
//!
//! A lease of which the end was told to another instance would stand here until its time is over. So all that stands here is held
//! against the store, bit by bit, as long as that has forgotten nothing.

use crate::domain::id::{LeaseId, NodeId, Slot};
use crate::domain::lease::{self, Lease, LeaseState, Lifetimes, Settle, Settled, TOMB_MS};
use crate::domain::time::EpochMs;
use crate::store::{SettleOne, View};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most live leases of a pool that are remembered, and the most ends. Of more, those leases go that would end first: held ones,
/// which their `CONFIRM` brings back, then the oldest calls.
pub const LEASES_MAX: usize = 100_000;

/// The leases of one pool.
#[derive(Default)]
pub struct Ledger(Mutex<Book>);

/// Live leases by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Given out, their node was not heard yet.
    pub held: u32,
    /// Their node was heard.
    pub confirmed: u32,
}

#[derive(Default)]
struct Book {
    leases: HashMap<LeaseId, Lease>,
    by_end: BTreeSet<(EpochMs, LeaseId)>,
    confirmed: usize,
    /// What was told to be over, and when; the oldest first.
    ended: VecDeque<(EpochMs, LeaseId)>,
    /// What the store has to be told again.
    owed: VecDeque<Owed>,
    /// The store's history that all this belongs to.
    history: u64,
    /// Where the comparison with the store goes on.
    compared: Option<(EpochMs, LeaseId)>,
}

/// What the store is to be told of again.
#[derive(Clone, Copy)]
enum Owed {
    End(LeaseId),
    Life(LeaseId),
}

impl Ledger {
    /// A lookup was answered with these targets. Returns how many others were dropped for want of room.
    pub fn answered(&self, id: LeaseId, targets: &[Slot], life: Lifetimes, now: EpochMs) -> u64 {
        let targets: Vec<Option<Slot>> = targets.iter().copied().map(Some).collect();
        let mut book = self.lock(now);
        // Told the same again: it may be confirmed by now.
        if book.leases.get(&id).is_some_and(|known| known.targets == targets) {
            return 0;
        }
        let (expires, scopes) = (now + life.held_ms, Vec::new());
        let held = Lease { state: LeaseState::Held, attempt: 0, targets, expires, scopes };
        book.put(id, Some(held))
    }

    /// The proxy spoke of a lease. `said`: what the store said to that; `None`: it did not answer, and will be told again by the proxy.
    /// Returns how many other leases were dropped for want of room.
    pub fn told(
        &self,
        id: LeaseId,
        verb: &Settle,
        said: Option<&Settled>,
        life: Lifetimes,
        now: EpochMs,
    ) -> u64 {
        let mut book = self.lock(now);
        match (verb, said) {
            (Settle::Done, _) => {
                book.put(id, None);
                book.end(id, now);
                0
            }
            // Gone: it ended by another instance. Where the store forgot it, its CONFIRM brings it back.
            (_, Some(Settled::Ended | Settled::Gone)) => book.put(id, None),
            (_, Some(Settled::Stale)) => 0,
            (Settle::Confirm { .. } | Settle::Fail { .. } | Settle::Adopt { .. }, _) => {
                let (next, _) = lease::settle(book.leases.get(&id).cloned(), verb, life, now);
                book.put(id, next.filter(|lease| lease.is_live(now)))
            }
        }
    }

    /// The store was seen. If it is of another history than before, it has to be told everything again: true. `last` is what was seen
    /// of it before that, and tells which slot was whose.
    pub fn saw(&self, last: &View, view: &View, now: EpochMs) -> bool {
        let mut book = self.lock(now);
        if book.history == view.history {
            return false;
        }
        let first = std::mem::replace(&mut book.history, view.history) == 0;
        if last.nodes.is_empty() {
            return false;
        }
        book.renumber(last, view);
        let ends = book.ended.iter().map(|(_, id)| Owed::End(*id));
        book.owed = ends.chain(book.leases.keys().map(|id| Owed::Life(*id))).collect();
        !first
    }

    /// Whether the store has to be told of anything.
    pub fn owes(&self, now: EpochMs) -> bool {
        !self.lock(now).owed.is_empty()
    }

    /// What to tell the store of at most `most` leases.
    pub fn owed(&self, most: usize, now: EpochMs) -> Vec<SettleOne> {
        let mut book = self.lock(now);
        let mut verbs = Vec::new();
        for _ in 0..most {
            let Some(owed) = book.owed.pop_front() else { break };
            match owed {
                // Asked for again since then, it is no longer over.
                Owed::End(id) if book.leases.contains_key(&id) => {}
                Owed::End(id) => verbs.push(SettleOne { lease: id, verb: Settle::Done }),
                // What ended since then the store was told, or the proxy will tell it.
                Owed::Life(id) => {
                    let lease = book.leases.get(&id);
                    verbs.extend(
                        lease.into_iter().flat_map(verbs_for).map(|verb| SettleOne { lease: id, verb }),
                    );
                }
            }
        }
        verbs
    }

    /// The store was told these, and said so.
    pub fn paid(&self, told: &[SettleOne], said: &[Settled], life: Lifetimes, now: EpochMs) {
        let mut book = self.lock(now);
        for (one, said) in told.iter().zip(said) {
            match (said, book.leases.get(&one.lease)) {
                // Somebody else knew that it is over.
                (Settled::Gone, Some(_)) => _ = book.put(one.lease, None),
                // It is held there from now on.
                (Settled::Adopted | Settled::Moved { .. }, Some(held)) if held.state == LeaseState::Held => {
                    let held = Lease { expires: now + life.held_ms, ..held.clone() };
                    book.put(one.lease, Some(held));
                }
                _ => {}
            }
        }
    }

    /// The store could not be told these: again, later.
    pub fn unpaid(&self, told: &[SettleOne], now: EpochMs) {
        let mut book = self.lock(now);
        for one in told.iter().rev() {
            let owed = if one.verb == Settle::Done { Owed::End(one.lease) } else { Owed::Life(one.lease) };
            book.owed.push_front(owed);
        }
    }

    /// Some confirmed leases to be held against the store: another part each time, all of them in `rounds` calls. None while it has
    /// still to be told of any.
    pub fn to_compare(&self, rounds: usize, now: EpochMs) -> Vec<LeaseId> {
        let mut book = self.lock(now);
        if !book.owed.is_empty() || book.confirmed == 0 {
            return Vec::new();
        }
        let most = book.by_end.len().div_ceil(rounds.max(1));
        let from = book.compared.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let some: Vec<_> =
            book.by_end.range((from, std::ops::Bound::Unbounded)).take(most).copied().collect();
        // At the end of all: from the beginning, next time.
        book.compared = some.last().copied().filter(|_| some.len() == most);
        let is_confirmed =
            |id: &LeaseId| book.leases.get(id).is_some_and(|l| l.state == LeaseState::Confirmed);
        some.into_iter().map(|(_, id)| id).filter(is_confirmed).collect()
    }

    /// What the store says of those. Returns how many it did not know as live: they ended by another instance, and are forgotten.
    pub fn compared(&self, leases: &[LeaseId], live: &[bool], history: u64, now: EpochMs) -> usize {
        let mut book = self.lock(now);
        // A store that has forgotten says nothing of what ended.
        if book.history != history {
            return 0;
        }
        let over: Vec<&LeaseId> =
            leases.iter().zip(live).filter(|(_, live)| !**live).map(|(id, _)| id).collect();
        over.iter().for_each(|id| _ = book.put(**id, None));
        over.len()
    }

    /// Live leases by state.
    pub fn count(&self, now: EpochMs) -> Count {
        let book = self.lock(now);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Count { held: number(book.leases.len() - book.confirmed), confirmed: number(book.confirmed) }
    }

    /// The book without what is over by `now`.
    fn lock(&self, now: EpochMs) -> MutexGuard<'_, Book> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.expire(now);
        book
    }
}

impl Book {
    /// Replaces what is known of a lease; returns how many others went for it.
    fn put(&mut self, id: LeaseId, lease: Option<Lease>) -> u64 {
        if let Some(old) = self.leases.remove(&id) {
            self.by_end.remove(&(old.expires, id));
            self.confirmed -= usize::from(old.state == LeaseState::Confirmed);
        }
        let Some(lease) = lease else { return 0 };
        let mut dropped = 0;
        while self.leases.len() >= LEASES_MAX {
            let Some((_, first)) = self.by_end.first().copied() else { break };
            self.put(first, None);
            dropped += 1;
        }
        self.by_end.insert((lease.expires, id));
        self.confirmed += usize::from(lease.state == LeaseState::Confirmed);
        self.leases.insert(id, lease);
        dropped
    }

    fn end(&mut self, id: LeaseId, now: EpochMs) {
        if self.ended.len() >= LEASES_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((now, id));
    }

    fn expire(&mut self, now: EpochMs) {
        while let Some((_, id)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.put(id, None);
        }
        while self.ended.front().is_some_and(|(at, _)| now.since(*at) >= TOMB_MS) {
            self.ended.pop_front();
        }
        // What a flood of calls left behind is given back.
        if self.leases.capacity() > 1024 && self.leases.capacity() / 8 > self.leases.len() {
            self.leases.shrink_to(self.leases.len() * 2);
        }
    }

    /// Slots are numbers of the store that forgot; the new definitions may have others for the same nodes.
    fn renumber(&mut self, last: &View, view: &View) {
        let name = |slot: Slot| last.at_slot(slot).map(|n| &n.node.id);
        let slot_now = |id: &NodeId| view.nodes.iter().find(|n| n.node.id == *id).map(|n| n.node.slot);
        let moved: HashMap<Slot, Option<Slot>> = (last.nodes.iter())
            .map(|n| (n.node.slot, name(n.node.slot).and_then(slot_now)))
            .filter(|(before, now)| *now != Some(*before))
            .collect();
        if moved.is_empty() {
            return;
        }
        for lease in self.leases.values_mut() {
            for target in &mut lease.targets {
                *target = target.and_then(|slot| moved.get(&slot).copied().unwrap_or(Some(slot)));
            }
        }
    }
}

/// What to say of a live lease to a store that does not know it.
fn verbs_for(lease: &Lease) -> impl Iterator<Item = Settle> + use<> {
    let slot = lease.targets.get(usize::from(lease.attempt)).copied().flatten();
    let all: Option<Vec<Slot>> = lease.targets.iter().copied().collect();
    let (first, second) = match (lease.state, slot, all) {
        (LeaseState::Confirmed, Some(_), _) => {
            (Some(Settle::Confirm { branch: lease.attempt, slot, latest: lease.expires }), None)
        }
        (LeaseState::Held, Some(_), Some(targets)) => {
            let moved = lease.attempt.checked_sub(1).map(|branch| Settle::Fail { branch });
            (Some(Settle::Adopt { targets }), moved)
        }
        // On a node that is no more; or held on one of targets that are not all known: its CONFIRM names it.
        (LeaseState::Confirmed | LeaseState::Held | LeaseState::Ended, _, _) => (None, None),
    };
    [first, second].into_iter().flatten()
}

#[cfg(test)]
mod tests;
