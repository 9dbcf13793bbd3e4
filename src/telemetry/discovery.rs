//! What is counted of nodes that are looked for in the DNS.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    pool: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    pool: String,
    change: &'static str,
}

/// The figures of discovery; pools without it have no lines.
pub struct DiscoveryMetrics {
    answers: Family<AnswerLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    nodes: Family<PoolLabels, Gauge>,
    age: Family<PoolLabels, Gauge<f64, AtomicU64>>,
}

impl DiscoveryMetrics {
    pub(super) fn new(registry: &mut Registry) -> DiscoveryMetrics {
        let answers = Family::default();
        let help = "Look-ups of a pool's nodes in the DNS, by what came of them";
        registry.register("discovery_answers", help, answers.clone());
        let changes = Family::default();
        let help = "Changes to nodes that this instance made because of the DNS";
        registry.register("discovery_changes", help, changes.clone());
        let nodes = Family::default();
        registry.register("discovery_nodes", "Targets in the last good answer", nodes.clone());
        let age = Family::default();
        let help = "Time since the last good answer, or since the start while there was none";
        registry.register_with_unit("discovery_age", help, Unit::Seconds, age.clone());
        DiscoveryMetrics { answers, changes, nodes, age }
    }

    /// Counts a look-up: `found`, `partial`, `empty`, `failed`.
    pub fn answer(&self, pool: &str, result: &'static str) {
        self.answers.get_or_create(&AnswerLabels { pool: pool.to_owned(), result }).inc();
    }

    /// Counts changes of one sort.
    pub fn changes(&self, pool: &str, change: &'static str, count: usize) {
        let labels = ChangeLabels { pool: pool.to_owned(), change };
        self.changes.get_or_create(&labels).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// How many targets the last good answer has.
    pub fn nodes(&self, pool: &str, count: usize) {
        let labels = PoolLabels { pool: pool.to_owned() };
        self.nodes.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How old the last good answer is.
    pub fn age(&self, pool: &str, age: Duration) {
        self.age.get_or_create(&PoolLabels { pool: pool.to_owned() }).set(age.as_secs_f64());
    }
}
