//! Which node a key sticks to, for the embedded stores. In memory only: after a restart the next call of a key is one like any.

use crate::domain::id::{Slot, StickyId};
use crate::domain::time::EpochMs;
use std::collections::{BTreeSet, HashMap};

/// The most keys that a pool remembers. Of more, those go early that would be forgotten next.
pub(super) const TIES_MAX: usize = 200_000;

/// Keys and the slots that they stick to.
#[derive(Default)]
pub(super) struct Ties {
    ties: HashMap<StickyId, (Slot, EpochMs)>,
    by_expiry: BTreeSet<(EpochMs, StickyId)>,
}

impl Ties {
    /// The slot that a key sticks to at `now`.
    pub fn slot(&self, id: &StickyId, now: EpochMs) -> Option<Slot> {
        self.ties.get(id).filter(|(_, expires)| *expires > now).map(|(slot, _)| *slot)
    }

    /// Lets a key stick to a slot until `expires`.
    pub fn tie(&mut self, id: StickyId, slot: Slot, expires: EpochMs) {
        if let Some((_, before)) = self.ties.insert(id, (slot, expires)) {
            self.by_expiry.remove(&(before, id));
        }
        self.by_expiry.insert((expires, id));
        if self.ties.len() > TIES_MAX {
            self.forget_first();
        }
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: EpochMs) {
        while self.by_expiry.first().is_some_and(|(expires, _)| *expires <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, id)) = self.by_expiry.pop_first() {
            self.ties.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: EpochMs = EpochMs(1_000);

    fn id(n: usize) -> StickyId {
        StickyId((n as u128).to_be_bytes())
    }

    #[test]
    fn a_key_sticks_until_its_time_is_over_and_each_call_gives_it_more() {
        let mut ties = Ties::default();
        ties.tie(id(1), Slot(3), T + 10);
        ties.tie(id(1), Slot(4), T + 20);
        assert_eq!((ties.slot(&id(1), T + 19), ties.slot(&id(1), T + 20)), (Some(Slot(4)), None));
        ties.forget(T + 19);
        assert_eq!(ties.slot(&id(1), T), Some(Slot(4)));
        ties.forget(T + 20);
        assert_eq!((ties.slot(&id(1), T), ties.ties.len(), ties.by_expiry.len()), (None, 0, 0));
    }

    #[test]
    fn no_more_keys_are_kept_than_the_limit() {
        let mut ties = Ties::default();
        for n in 0..TIES_MAX + 10 {
            ties.tie(id(n), Slot(0), T + n as u64);
        }
        assert_eq!((ties.ties.len(), ties.by_expiry.len()), (TIES_MAX, TIES_MAX));
        assert_eq!((ties.slot(&id(9), T), ties.slot(&id(10), T)), (None, Some(Slot(0))));
    }
}
