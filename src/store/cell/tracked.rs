//! A map that knows which of its names have changed. Values are read when the changes are taken, so that many changes of one
//! name are one.

use std::collections::{BTreeMap, BTreeSet};

/// The map, and what has changed in it where somebody asks.
#[derive(Clone, Debug)]
pub(in crate::store) struct Tracked<K, V> {
    map: BTreeMap<K, V>,
    /// `None`: nobody asks what has changed.
    changed: Option<Changed<K>>,
}

#[derive(Clone, Debug)]
struct Changed<K> {
    /// All that was there before `names` is gone.
    cleared: bool,
    names: BTreeSet<K>,
}

/// What has changed: values are absolute.
pub(in crate::store) struct Part<K, V> {
    /// Everything is gone but what is in `rows`.
    pub cleared: bool,
    /// Name and value; `None`: gone.
    pub rows: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Tracked { map: BTreeMap::new(), changed: None }
    }
}

impl<K: Clone + Ord, V: Clone> Tracked<K, V> {
    /// A map whose changes from now on are noted.
    pub fn followed(map: BTreeMap<K, V>) -> Self {
        Tracked { map, changed: Some(Changed { cleared: false, names: BTreeSet::new() }) }
    }

    pub fn map(&self) -> &BTreeMap<K, V> {
        &self.map
    }

    pub fn insert(&mut self, name: K, value: V) -> Option<V> {
        self.note(&name);
        self.map.insert(name, value)
    }

    pub fn remove(&mut self, name: &K) -> Option<V> {
        let gone = self.map.remove(name)?;
        self.note(name);
        Some(gone)
    }

    pub fn clear(&mut self) {
        self.map.clear();
        if let Some(changed) = self.changed.as_mut() {
            *changed = Changed { cleared: true, names: BTreeSet::new() };
        }
    }

    fn note(&mut self, name: &K) {
        if let Some(changed) = self.changed.as_mut() {
            changed.names.insert(name.clone());
        }
    }

    /// Whether anything has changed since it was last taken.
    pub fn has_changed(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| changed.cleared || !changed.names.is_empty())
    }

    /// What has changed since the last time; nothing where nobody follows.
    pub fn take(&mut self) -> Part<K, V> {
        let Some(changed) = self.changed.as_mut() else {
            return Part { cleared: false, rows: Vec::new() };
        };
        let cleared = std::mem::take(&mut changed.cleared);
        let names = std::mem::take(&mut changed.names);
        let row = |name: K| {
            let value = self.map.get(&name).cloned();
            (name, value)
        };
        Part { cleared, rows: names.into_iter().map(row).collect() }
    }

    /// What was taken and could not be saved has still changed.
    pub fn put_back(&mut self, taken: Part<K, V>) {
        if let Some(changed) = self.changed.as_mut()
            && !changed.cleared
        {
            changed.cleared = taken.cleared;
            changed.names.extend(taken.rows.into_iter().map(|(name, _)| name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_saved_is_taken_again_as_it_is_then() {
        let mut map = Tracked::followed(BTreeMap::from([("a", 1), ("b", 2)]));
        assert!(!map.has_changed());
        map.clear();
        map.insert("c", 3);
        let taken = map.take();
        assert_eq!((taken.cleared, taken.rows.clone()), (true, vec![("c", Some(3))]));
        map.insert("d", 4);
        map.remove(&"c");
        map.put_back(taken);
        let taken = map.take();
        assert_eq!((taken.cleared, taken.rows.clone()), (true, vec![("c", None), ("d", Some(4))]));
        map.clear();
        map.put_back(taken);
        let taken = map.take();
        assert_eq!((taken.cleared, taken.rows), (true, vec![]), "what was cleared meanwhile is not named");
    }
}
