//! The nodes and what they carry.

use mqs::domain::id::{Slot, Zone};
use mqs::domain::node::{Node, NodeState};
use mqs::domain::pool::Loaded;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Nodes with their loads, as a store that counts everything knows them.
pub struct Fleet {
    pub nodes: Vec<Loaded>,
    touches: u64,
}

impl Fleet {
    /// A node a capacity, in turn in each of so many zones; 0: without zones.
    pub fn new(capacities: &[u32], zones: usize) -> Fleet {
        let node = |(number, capacity): (usize, &u32)| Node {
            id: format!("ast{number}").parse().unwrap(),
            slot: Slot(number as u16),
            uri: format!("sip:127.0.{}.{}", 1 + number / 250, 1 + number % 250).parse().unwrap(),
            capacity: *capacity,
            zone: (zones > 0).then(|| zone(number % zones)),
            tags: BTreeSet::new(),
            state: NodeState::Active,
            health: Default::default(),
        };
        let loaded = |node| Loaded { node: Arc::new(node), load: 0, touched: 0 };
        Fleet { nodes: capacities.iter().enumerate().map(node).map(loaded).collect(), touches: 0 }
    }

    pub fn give(&mut self, node: usize) {
        self.touches += 1;
        self.nodes[node].load += 1;
        self.nodes[node].touched = self.touches;
    }

    pub fn take(&mut self, node: usize) {
        self.nodes[node].load -= 1;
    }

    /// How even these nodes are.
    pub fn evenness(&self, of: impl Fn(usize) -> bool) -> Evenness {
        let some = || self.nodes.iter().enumerate().filter(|(number, _)| of(*number)).map(|(_, n)| n);
        let share = |n: &Loaded| f64::from(n.load) / f64::from(n.node.capacity);
        let load: u64 = some().map(|n| u64::from(n.load)).sum();
        let capacity: u64 = some().map(|n| u64::from(n.node.capacity)).sum();
        let mean = (load as f64 / capacity as f64).max(1e-9);
        let square = some().map(|n| (share(n) - mean).powi(2)).sum::<f64>() / some().count().max(1) as f64;
        Evenness {
            mean,
            fullest: some().map(share).fold(0.0, f64::max) / mean,
            emptiest: some().map(share).fold(f64::INFINITY, f64::min) / mean,
            deviation: square.sqrt() / mean,
        }
    }
}

/// Occupancies; all but the mean are told in means.
#[derive(Clone, Copy, Debug)]
pub struct Evenness {
    pub mean: f64,
    pub fullest: f64,
    pub emptiest: f64,
    pub deviation: f64,
}

pub fn zone(number: usize) -> Zone {
    format!("z{number}").parse().unwrap()
}
