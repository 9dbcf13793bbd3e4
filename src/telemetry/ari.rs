//! What is counted of a cell's nodes, as their leader talks to them.

use crate::domain::id::NodeId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// What comes of a request.
const RESULTS: [&str; 5] = ["done", "gone", "refused", "timeout", "broken"];

/// Why an event is passed over.
const REASONS: [&str; 2] = ["unreadable", "stranger"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    node: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassedLabels {
    node: String,
    reason: &'static str,
}

/// The figures of nodes; an instance that has never led has no lines.
pub struct AriMetrics {
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    attached: Family<NodeLabels, Gauge>,
    attachments: Family<NodeLabels, Counter>,
    pings: Family<NodeLabels, Histogram, fn() -> Histogram>,
    passed_over: Family<PassedLabels, Counter>,
}

impl AriMetrics {
    pub(super) fn new(registry: &mut Registry) -> AriMetrics {
        // 0.5 ms to 8 s.
        let times: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_5, 2.0, 15));
        let requests = Family::new_with_constructor(times);
        let help = "Time from a request to a node until its answer, or until it was given up";
        registry.register_with_unit("ari_request", help, Unit::Seconds, requests.clone());
        let attached = Family::default();
        let help = "1 when there is a connection for a node's events";
        registry.register("ari_attached", help, attached.clone());
        let attachments = Family::default();
        let help = "How often a connection for a node's events was made";
        registry.register("ari_attachments", help, attachments.clone());
        let pings = Family::new_with_constructor(times);
        let help =
            "Time until a node answered over the connection of its events, behind those that it had sent";
        registry.register_with_unit("ari_ping", help, Unit::Seconds, pings.clone());
        let passed_over = Family::default();
        let help = "Events of nodes that nothing could be done with";
        registry.register("ari_passed_over", help, passed_over.clone());
        AriMetrics { requests, attached, attachments, pings, passed_over }
    }

    /// A request: `done`, `gone`, `refused`, `timeout`, `broken`.
    pub fn asked(&self, node: &NodeId, result: &'static str, took: Duration) {
        let labels = RequestLabels { node: node.to_string(), result };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// There is a connection for its events.
    pub fn attached(&self, node: &NodeId) {
        self.attached.get_or_create(&of(node)).set(1);
        self.attachments.get_or_create(&of(node)).inc();
    }

    /// There is none, and there is to be one.
    pub fn away(&self, node: &NodeId) {
        self.attached.get_or_create(&of(node)).set(0);
    }

    /// This instance wants none.
    pub fn let_go(&self, node: &NodeId) {
        self.attached.remove(&of(node));
    }

    /// It has answered a ping.
    pub fn pinged(&self, node: &NodeId, took: Duration) {
        self.pings.get_or_create(&of(node)).observe(took.as_secs_f64());
    }

    /// An event that nothing could be done with: `unreadable`, `stranger`.
    pub fn passed_over(&self, node: &NodeId, reason: &'static str) {
        self.passed_over.get_or_create(&PassedLabels { node: node.to_string(), reason }).inc();
    }

    /// The node is not driven any more.
    pub fn forget(&self, node: &NodeId) {
        let labels = of(node);
        self.attached.remove(&labels);
        self.attachments.remove(&labels);
        self.pings.remove(&labels);
        for result in RESULTS {
            self.requests.remove(&RequestLabels { node: node.to_string(), result });
        }
        for reason in REASONS {
            self.passed_over.remove(&PassedLabels { node: node.to_string(), reason });
        }
    }
}

fn of(node: &NodeId) -> NodeLabels {
    NodeLabels { node: node.to_string() }
}
