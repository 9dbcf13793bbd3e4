//! What is counted of nodes that register themselves.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HeartbeatLabels {
    pool: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    pool: String,
    change: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    pool: String,
    heartbeat: &'static str,
}

/// The figures of registration; pools without it have no lines.
pub struct RegistrationMetrics {
    heartbeats: Family<HeartbeatLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    nodes: Family<NodeLabels, Gauge>,
}

impl RegistrationMetrics {
    pub(super) fn new(registry: &mut Registry) -> RegistrationMetrics {
        let heartbeats = Family::default();
        registry.register("heartbeats", "Heartbeats of nodes, by what came of them", heartbeats.clone());
        let changes = Family::default();
        let help = "Changes to nodes that this instance made because of heartbeats, or of their absence";
        registry.register("registration_changes", help, changes.clone());
        let nodes = Family::default();
        registry.register("registered_nodes", "Nodes that registered themselves", nodes.clone());
        RegistrationMetrics { heartbeats, changes, nodes }
    }

    /// Counts a heartbeat: what it did, `kept`, `refused`, `error`.
    pub fn heartbeat(&self, pool: &str, result: &'static str) {
        self.heartbeats.get_or_create(&HeartbeatLabels { pool: pool.to_owned(), result }).inc();
    }

    /// Counts a change.
    pub fn change(&self, pool: &str, change: &'static str) {
        self.changes.get_or_create(&ChangeLabels { pool: pool.to_owned(), change }).inc();
    }

    /// How many nodes there are: `live`, `silent`, `leaving`.
    pub fn nodes(&self, pool: &str, heartbeat: &'static str, count: usize) {
        let labels = NodeLabels { pool: pool.to_owned(), heartbeat };
        self.nodes.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
