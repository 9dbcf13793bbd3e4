//! The least of many, kept by a knock-out tournament: one change costs as many comparisons as the tree is high.

use mqs::domain::pool::Loaded;
use std::cmp::Ordering;

/// What nodes are ordered by: `domain::pool`'s order within a shelf. A capacity of 0 is nobody, and behind all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    pub after: u32,
    pub capacity: u32,
    pub touched: u64,
}

impl Key {
    pub fn of(n: &Loaded) -> Key {
        Key { after: n.load + 1, capacity: n.node.effective_capacity(), touched: n.touched }
    }

    /// Whether `self`, at place `a`, comes before `other`, at place `b`.
    pub fn before(&self, a: usize, other: &Key, b: usize) -> bool {
        if self.capacity == 0 || other.capacity == 0 {
            return self.capacity > 0;
        }
        let cross = |x: &Key, y: &Key| u64::from(x.after) * u64::from(y.capacity);
        let order = cross(self, other).cmp(&cross(other, self)).then(self.touched.cmp(&other.touched));
        order.then(a.cmp(&b)) == Ordering::Less
    }
}

pub struct Order {
    keys: Vec<Key>,
    winners: Vec<u16>,
    leaves: usize,
}

impl Order {
    pub fn new(count: usize) -> Order {
        let leaves = count.next_power_of_two().max(2);
        let mut order = Order { keys: vec![Key::default(); leaves], winners: vec![0; 2 * leaves], leaves };
        for place in 0..leaves {
            order.winners[leaves + place] = place as u16;
        }
        order.play_all();
        order
    }

    pub fn key(&self, place: usize) -> Key {
        self.keys[place]
    }

    pub fn set(&mut self, place: usize, key: Key) {
        self.keys[place] = key;
        let mut at = (self.leaves + place) / 2;
        while at > 0 {
            self.play(at);
            at /= 2;
        }
    }

    pub fn set_all(&mut self, keys: impl Iterator<Item = Key>) {
        self.keys.fill(Key::default());
        self.keys.iter_mut().zip(keys).for_each(|(old, new)| *old = new);
        self.play_all();
    }

    pub fn least(&self) -> Option<usize> {
        let first = usize::from(self.winners[1]);
        (self.keys[first].capacity > 0).then_some(first)
    }

    fn play_all(&mut self) {
        (1..self.leaves).rev().for_each(|at| self.play(at));
    }

    fn play(&mut self, at: usize) {
        let (a, b) = (self.winners[2 * at], self.winners[2 * at + 1]);
        let (left, right) = (usize::from(a), usize::from(b));
        let first = self.keys[left].before(left, &self.keys[right], right);
        self.winners[at] = if first { a } else { b };
    }
}
