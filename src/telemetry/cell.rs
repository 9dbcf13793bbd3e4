//! What is counted of a cell: tokens of offers, registrations, what its leader does.

use super::ari::AriMetrics;
use super::queue::QueueMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    change: &'static str,
}

/// A family all the same, so that an instance without a cell has no lines.
type NoLabels = [(&'static str, &'static str); 0];

/// The figures of a cell; an instance without one has no lines.
pub struct CellMetrics {
    redeems: Family<ResultLabels, Counter>,
    registers: Family<ResultLabels, Counter>,
    own_calls: Family<ResultLabels, Counter>,
    repairs: Family<KindLabels, Counter>,
    leads: Family<NoLabels, Gauge>,
    leader_changes: Family<ChangeLabels, Counter>,
    commits: Family<ResultLabels, Counter>,
    commit_seconds: Family<NoLabels, Histogram, fn() -> Histogram>,
    match_seconds: Family<NoLabels, Histogram, fn() -> Histogram>,
    /// Of its queues.
    pub queue: QueueMetrics,
    /// Of its nodes.
    pub ari: AriMetrics,
}

impl CellMetrics {
    pub(super) fn new(registry: &mut Registry) -> CellMetrics {
        let redeems = Family::default();
        registry.register("redeems", "Tokens of offers that were shown, by what came of it", redeems.clone());
        let registers = Family::default();
        registry.register("registers", "Registrations of agents, by what came of them", registers.clone());
        let own_calls = Family::default();
        let help = "What was told of agents' own calls, by what came of it";
        registry.register("own_calls", help, own_calls.clone());
        let repairs = Family::default();
        registry.register("repairs", "What was put right by what nodes say that they have", repairs.clone());
        let leads = Family::default();
        registry.register("cell_leads", "1 while this instance leads its cell", leads.clone());
        let leader_changes = Family::default();
        let help = "How often this instance began or ceased to lead, and why";
        registry.register("cell_leader_changes", help, leader_changes.clone());
        let commits = Family::default();
        registry.register(
            "cell_commits",
            "Batches that the leader wrote, by what came of them",
            commits.clone(),
        );
        // 0.25 ms to 8 s.
        let times: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let commit_seconds = Family::new_with_constructor(times);
        let help = "Time until the store answered a batch";
        registry.register_with_unit("cell_commit", help, Unit::Seconds, commit_seconds.clone());
        let match_seconds = Family::new_with_constructor(times);
        let help = "Time from the decision that a call is offered to an agent until its node was asked to call the agent";
        registry.register_with_unit("match", help, Unit::Seconds, match_seconds.clone());
        let (queue, ari) = (QueueMetrics::new(registry), AriMetrics::new(registry));
        CellMetrics {
            redeems,
            registers,
            own_calls,
            repairs,
            leads,
            leader_changes,
            commits,
            commit_seconds,
            match_seconds,
            queue,
            ari,
        }
    }

    /// Counts a token: `yes`, `again`, `used`, `stale`, `unknown`, `altered`, `other-cell`, or why the store did not answer.
    pub fn redeem(&self, result: &'static str) {
        self.redeems.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts what was put right: `lease-ended`, `lease-found`; `call-found`, `call-gone`, `leg-found`, `leg-gone`.
    pub fn repaired(&self, kind: &'static str, count: usize) {
        self.repairs.get_or_create(&KindLabels { kind }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts a registration: `here`, `gone`, `refused`, `error`.
    pub fn register(&self, result: &'static str) {
        self.registers.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts what was told of an own call: `begun`, `ended`, `lost`, `refused`, `error`.
    pub fn own_call(&self, result: &'static str) {
        self.own_calls.get_or_create(&ResultLabels { result }).inc();
    }

    /// Whether this instance leads.
    pub fn leads(&self, leads: bool) {
        self.leads.get_or_create(&[]).set(i64::from(leads));
    }

    /// Counts a change of the leader: `leads`; `other`, `fenced`, `asked` (it leads no longer); `history` (another epoch).
    pub fn leader_changed(&self, change: &'static str) {
        self.leader_changes.get_or_create(&ChangeLabels { change }).inc();
    }

    /// Counts a batch: `done`, `repeated`, `fenced`, `gap`, `unknown`.
    pub fn committed(&self, result: &'static str, took: Duration) {
        self.commits.get_or_create(&ResultLabels { result }).inc();
        self.commit_seconds.get_or_create(&[]).observe(took.as_secs_f64());
    }

    /// A node was asked to call an agent, so long after that was decided.
    pub fn matched(&self, took: Duration) {
        self.match_seconds.get_or_create(&[]).observe(took.as_secs_f64());
    }
}
