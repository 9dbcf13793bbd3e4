//! The calls that wait, each in a slot: what is sorted and resorted holds the slot's number, not the call.

use super::queue::Class;
use super::rules::hash_text;
use super::{Skills, WaitingCall};
use crate::domain::id::CallId;
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};

/// The number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

#[derive(Debug)]
pub(super) struct Entry {
    pub call: WaitingCall,
    /// The class that it is sorted into.
    pub class: Option<Class>,
    /// The next time at which its class changes, or at which it no longer passes over an agent.
    pub change: Option<EpochMs>,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Option<Entry>>,
    free: Vec<Slot>,
    /// By a hash first: ids begin alike and lie elsewhere, so that comparing them is what a search would spend its time on.
    by_id: BTreeMap<(u64, CallId), Slot>,
}

impl Calls {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn find(&self, id: &CallId) -> Option<Slot> {
        self.by_id.get(&hashed(id)).copied()
    }

    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// No call of this id may be here.
    pub fn insert(&mut self, call: WaitingCall) -> Slot {
        let id = hashed(&call.id);
        let entry = Some(Entry { call, class: None, change: None });
        // More than 2³² calls do not fit into memory.
        let slot = self.free.pop().unwrap_or(Slot(self.slots.len() as u32));
        match self.slots.get_mut(slot.0 as usize) {
            Some(place) => *place = entry,
            None => self.slots.push(entry),
        }
        self.by_id.insert(id, slot);
        slot
    }

    pub fn remove(&mut self, id: &CallId) -> Option<(Slot, Entry)> {
        let slot = self.by_id.remove(&hashed(id))?;
        let entry = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot);
        Some((slot, entry))
    }
}

/// With the id behind it: whoever finds ids of one hash gains nothing but a slower search.
fn hashed(id: &CallId) -> (u64, CallId) {
    (hash_text(0, id.as_str()), id.clone())
}

/// Sets of skills, each held once.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: BTreeSet<Skills>,
    /// At how many those are thrown out that nobody else holds.
    sweep_at: usize,
}

impl Sets {
    pub fn share(&mut self, set: Skills) -> Skills {
        if let Some(held) = self.sets.get(&set) {
            return held.clone();
        }
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(Skills::is_shared);
            // Twice what was left: so sweeping costs each newcomer a constant.
            self.sweep_at = (self.sets.len() * 2).max(64);
        }
        self.sets.insert(set.clone());
        set
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.sets.len()
    }
}
