//! The metrics, in Prometheus terms. Names and meanings are part of the interface: `docs/metrics.md` lists them.

use super::admission::AdmissionMetrics;
use super::cell::CellMetrics;
use super::discovery::DiscoveryMetrics;
use super::redirect::RedirectMetrics;
use super::registration::RegistrationMetrics;
use crate::domain::time::EpochMs;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Labels of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LookupLabels {
    /// The pool; empty when it is unknown.
    pub pool: String,
    /// `routed`, `repeat`, `degraded`, or the word of the refusal in lower case.
    pub result: &'static str,
    /// `resp`, `http`, `sip`.
    pub transport: &'static str,
}

/// Labels of a settled lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SettleLabels {
    /// `confirm`, `fail`, `done`.
    pub verb: &'static str,
    /// What became of it.
    pub result: &'static str,
}

/// Labels of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabels {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
}

/// Labels of a node's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabels {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
    /// `active`, `draining`, `down`.
    pub state: &'static str,
}

/// Labels of a node's health.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HealthLabels {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
    /// `up`, `warming`, `overloaded`, `ejected`, `failing`.
    pub health: &'static str,
}

/// Labels of changes of health.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HealthChangeLabels {
    /// The pool.
    pub pool: String,
    /// What a node became.
    pub health: &'static str,
}

/// Labels of probes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// The pool.
    pub pool: String,
    /// `good`, `bad`.
    pub result: &'static str,
}

/// Labels of an operation on the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// `pick`, `settle`, `view`, `sweep`, …
    pub op: &'static str,
    /// `timeout`, `away`, `refused`, `damaged`.
    pub error: &'static str,
}

/// Labels of a pool's breaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BreakerLabels {
    /// The pool.
    pub pool: String,
    /// `closed`, `open`, `probing`.
    pub state: &'static str,
}

/// Labels of leases.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeaseLabels {
    /// The pool.
    pub pool: String,
    /// `held`, `confirmed`.
    pub state: &'static str,
}

/// Labels of something of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    /// The pool.
    pub pool: String,
}

/// Labels of open connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// `resp`, `http`, `sip`.
    pub transport: &'static str,
    /// `unix`, `tcp`.
    pub socket: &'static str,
}

/// A connection that is counted as open for as long as this lives.
#[must_use]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A node as it is shown.
pub struct NodeSample {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
    /// Its state.
    pub state: &'static str,
    /// Its health.
    pub health: &'static str,
    /// Live leases.
    pub load: u32,
    /// Channels.
    pub capacity: u32,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    lookups: Family<LookupLabels, Counter>,
    lookup_seconds: Family<LookupTransport, Histogram, fn() -> Histogram>,
    settles: Family<SettleLabels, Counter>,
    store_errors: Family<StoreLabels, Counter>,
    batch: Family<BatchLabels, Histogram, fn() -> Histogram>,
    swept: Counter,
    degraded_seconds: Counter<f64, AtomicU64>,
    breaker: Family<BreakerLabels, Gauge>,
    breaker_openings: Family<PoolLabels, Counter>,
    leases: Family<LeaseLabels, Gauge>,
    given_back: Counter,
    ledger_dropped: Counter,
    connections: Family<ConnectionLabels, Gauge>,
    health_changes: Family<HealthChangeLabels, Counter>,
    probes: Family<ProbeLabels, Counter>,
    start_time: Gauge<f64, AtomicU64>,
    nodes: Mutex<NodeGauges>,
    /// Counters of the redirect server.
    pub redirect: RedirectMetrics,
    discovery: DiscoveryMetrics,
    admission: AdmissionMetrics,
    registration: RegistrationMetrics,
    cell: CellMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupTransport {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BatchLabels {
    op: &'static str,
}

struct NodeGauges {
    load: Family<NodeLabels, Gauge>,
    capacity: Family<NodeLabels, Gauge>,
    occupancy: Family<NodeLabels, Gauge<f64, AtomicU64>>,
    state: Family<StateLabels, Gauge>,
    health: Family<HealthLabels, Gauge>,
}

impl Metrics {
    /// Registers everything; nothing is counted yet.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("mqs");
        let lookups = Family::default();
        registry.register("lookups", "Lookups answered, by pool, result and transport", lookups.clone());
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_05, 2.0, 14));
        let lookup_seconds = Family::new_with_constructor(seconds);
        let help = "Time from a lookup's last byte to its answer";
        registry.register_with_unit("lookup", help, Unit::Seconds, lookup_seconds.clone());
        let settles = Family::default();
        registry.register("settles", "CONFIRM, FAIL and DONE, by what became of them", settles.clone());
        let store_errors = Family::default();
        registry.register("store_errors", "Operations that the store did not answer", store_errors.clone());
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 9));
        let batch = Family::new_with_constructor(sizes);
        registry.register(
            "batch_size",
            "Lookups or verbs that travelled to the store together",
            batch.clone(),
        );
        let swept = Counter::default();
        registry.register("leases_expired", "Leases that ended by time", swept.clone());
        let degraded_seconds = Counter::default();
        let help = "Time for which the store was away and lookups were answered without it";
        registry.register_with_unit("degraded", help, Unit::Seconds, degraded_seconds.clone());
        let breaker = Family::default();
        let help = "1 for the state that the breaker before the store is in";
        registry.register("store_breaker_state", help, breaker.clone());
        let breaker_openings = Family::default();
        let help = "How often the breaker before the store opened";
        registry.register("store_breaker_openings", help, breaker_openings.clone());
        let leases = Family::default();
        registry.register("leases", "Live leases that this instance answered for, by state", leases.clone());
        let given_back = Counter::default();
        let help = "Leases that the store had forgotten, and was told again";
        registry.register("leases_given_back", help, given_back.clone());
        let ledger_dropped = Counter::default();
        let help = "Live leases that this instance stopped remembering for want of room";
        registry.register("ledger_dropped", help, ledger_dropped.clone());
        let connections = Family::default();
        registry.register("connections", "Open connections", connections.clone());
        let health_changes = Family::default();
        let help = "Nodes whose health this instance wrote, by what it became";
        registry.register("health_changes", help, health_changes.clone());
        let probes = Family::default();
        registry.register("probes", "Probes by this instance", probes.clone());
        let start_time = Gauge::default();
        let help = "When this instance was started, in seconds since 1970";
        registry.register_with_unit("start_time", help, Unit::Seconds, start_time.clone());
        let redirect = RedirectMetrics::register(&mut registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This instance's version", build);
        let nodes = NodeGauges {
            load: Family::default(),
            capacity: Family::default(),
            occupancy: Family::default(),
            state: Family::default(),
            health: Family::default(),
        };
        registry.register("node_load", "Live leases of a node", nodes.load.clone());
        registry.register("node_capacity", "Channels that a node may carry", nodes.capacity.clone());
        registry.register("node_occupancy", "Load divided by capacity", nodes.occupancy.clone());
        registry.register("node_state", "1 for the state that a node is in", nodes.state.clone());
        registry.register("node_health", "1 for the health that a node has", nodes.health.clone());
        let nodes = Mutex::new(nodes);
        let discovery = DiscoveryMetrics::new(&mut registry);
        let admission = AdmissionMetrics::new(&mut registry);
        let registration = RegistrationMetrics::new(&mut registry);
        let cell = CellMetrics::new(&mut registry);
        Metrics {
            registry,
            lookups,
            lookup_seconds,
            settles,
            store_errors,
            batch,
            swept,
            degraded_seconds,
            breaker,
            breaker_openings,
            leases,
            given_back,
            ledger_dropped,
            connections,
            health_changes,
            probes,
            start_time,
            nodes,
            redirect,
            discovery,
            admission,
            registration,
            cell,
        }
    }

    /// What is counted of limits and of pools that overflow.
    pub fn admission(&self) -> &AdmissionMetrics {
        &self.admission
    }

    /// What is counted of nodes that are looked for in the DNS.
    pub fn discovery(&self) -> &DiscoveryMetrics {
        &self.discovery
    }

    /// What is counted of nodes that register themselves.
    pub fn registration(&self) -> &RegistrationMetrics {
        &self.registration
    }

    /// What is counted of a cell's agents.
    pub fn cell(&self) -> &CellMetrics {
        &self.cell
    }

    /// Counts a lookup.
    pub fn lookup(&self, pool: &str, result: &'static str, transport: &'static str, took: Duration) {
        let labels = LookupLabels { pool: pool.to_owned(), result, transport };
        self.lookups.get_or_create(&labels).inc();
        self.lookup_seconds.get_or_create(&LookupTransport { transport }).observe(took.as_secs_f64());
    }

    /// Counts a settled lease.
    pub fn settle(&self, verb: &'static str, result: &'static str) {
        self.settles.get_or_create(&SettleLabels { verb, result }).inc();
    }

    /// Counts a failure of the store.
    pub fn store_error(&self, op: &'static str, error: &'static str) {
        self.store_errors.get_or_create(&StoreLabels { op, error }).inc();
    }

    /// Counts a batch.
    pub fn batch(&self, op: &'static str, size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.batch.get_or_create(&BatchLabels { op }).observe(f64::from(size));
    }

    /// Counts leases that ended by time.
    pub fn expired(&self, count: u32) {
        self.swept.inc_by(u64::from(count));
    }

    /// Counts time for which the store was away.
    pub fn degraded(&self, time: Duration) {
        self.degraded_seconds.inc_by(time.as_secs_f64());
    }

    /// Says which state a pool's breaker is in.
    pub fn breaker(&self, pool: &str, state: &'static str) {
        for known in ["closed", "open", "probing"] {
            let labels = BreakerLabels { pool: pool.to_owned(), state: known };
            self.breaker.get_or_create(&labels).set(i64::from(known == state));
        }
        let _ = self.breaker_openings.get_or_create(&PoolLabels { pool: pool.to_owned() });
    }

    /// Counts an opening of a pool's breaker.
    pub fn breaker_opened(&self, pool: &str) {
        self.breaker_openings.get_or_create(&PoolLabels { pool: pool.to_owned() }).inc();
    }

    /// Says how many live leases of a pool this instance answered for.
    pub fn leases(&self, pool: &str, held: u32, confirmed: u32) {
        for (state, count) in [("held", held), ("confirmed", confirmed)] {
            let labels = LeaseLabels { pool: pool.to_owned(), state };
            self.leases.get_or_create(&labels).set(i64::from(count));
        }
    }

    /// Counts leases that the store had forgotten, and was told again.
    pub fn given_back(&self, count: usize) {
        self.given_back.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts leases that were dropped from the ledger.
    pub fn ledger_dropped(&self, count: u64) {
        self.ledger_dropped.inc_by(count);
    }

    /// Counts a connection as open until what is returned is dropped.
    pub fn connection(&self, transport: &'static str, socket: &'static str) -> OpenConnection {
        let gauge = self.connections.get_or_create_owned(&ConnectionLabels { transport, socket });
        gauge.inc();
        OpenConnection(gauge)
    }

    /// Counts a change of a node's health.
    pub fn health_changed(&self, pool: &str, health: &'static str) {
        self.health_changes.get_or_create(&HealthChangeLabels { pool: pool.to_owned(), health }).inc();
    }

    /// Counts a probe.
    pub fn probe(&self, pool: &str, good: bool) {
        let result = if good { "good" } else { "bad" };
        self.probes.get_or_create(&ProbeLabels { pool: pool.to_owned(), result }).inc();
    }

    /// Says when this instance was started.
    pub fn started(&self, at: EpochMs) {
        // Exact for any date of our time.
        self.start_time.set(at.0 as f64 / 1000.0);
    }

    /// The text for Prometheus (OpenMetrics 1.0), with the nodes as they are now.
    pub fn render(&self, nodes: &[NodeSample]) -> String {
        // One writer at a time: the gauges are cleared, so that a removed node leaves no line behind.
        let gauges = self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        gauges.load.clear();
        gauges.capacity.clear();
        gauges.occupancy.clear();
        gauges.state.clear();
        gauges.health.clear();
        for n in nodes {
            let labels = NodeLabels { pool: n.pool.clone(), node: n.node.clone() };
            gauges.load.get_or_create(&labels).set(i64::from(n.load));
            gauges.capacity.get_or_create(&labels).set(i64::from(n.capacity));
            gauges.occupancy.get_or_create(&labels).set(f64::from(n.load) / f64::from(n.capacity.max(1)));
            let labels = StateLabels { pool: n.pool.clone(), node: n.node.clone(), state: n.state };
            gauges.state.get_or_create(&labels).set(1);
            let labels = HealthLabels { pool: n.pool.clone(), node: n.node.clone(), health: n.health };
            gauges.health.get_or_create(&labels).set(1);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_node_leaves_no_line_behind() {
        let metrics = Metrics::new();
        metrics.lookup("p", "routed", "resp", Duration::from_micros(70));
        let node = |node: &str| NodeSample {
            pool: "p".into(),
            node: node.into(),
            state: "active",
            health: "up",
            load: 3,
            capacity: 10,
        };
        let text = metrics.render(&[node("a"), node("b")]);
        assert!(text.contains(r#"mqs_node_load{pool="p",node="b"} 3"#), "{text}");
        assert!(text.contains(r#"mqs_lookups_total{pool="p",result="routed",transport="resp"} 1"#), "{text}");
        assert!(!metrics.render(&[node("a")]).contains(r#"node="b""#));
    }

    #[test]
    fn a_connection_is_open_until_it_is_dropped() {
        let metrics = Metrics::new();
        let has = |count: u32| {
            let line = format!("mqs_connections{{transport=\"resp\",socket=\"unix\"}} {count}\n");
            metrics.render(&[]).contains(&line)
        };
        let (one, two) = (metrics.connection("resp", "unix"), metrics.connection("resp", "unix"));
        assert!(has(2));
        drop(one);
        assert!(has(1));
        drop(two);
        assert!(has(0));
    }
}
