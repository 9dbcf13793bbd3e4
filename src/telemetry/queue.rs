//! What is counted of a cell's queues, by its leader: gauges are there while it leads, counters are of its own time.

use crate::domain::agent::Agent;
use crate::domain::call::{DoneReason, TreatedFor};
use crate::domain::id::QueueId;
use crate::domain::offer::OfferEnd;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    queue: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfferLabels {
    queue: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    queue: String,
    reason: &'static str,
}

/// A queue as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSample {
    /// Calls that have a place in it.
    pub waiting: u64,
    /// How long the one has waited that has waited longest.
    pub longest: Duration,
    /// Its agents, by [`Agent::WORDS`].
    pub agents: [u64; Agent::WORDS.len()],
}

/// The figures of queues; an instance that has never led has no lines.
pub struct QueueMetrics {
    waiting: Family<QueueLabels, Gauge>,
    longest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    agents: Family<AgentLabels, Gauge>,
    entered: Family<QueueLabels, Counter>,
    offers: Family<OfferLabels, Counter>,
    answered: Family<QueueLabels, Counter>,
    wait: Family<QueueLabels, Histogram, fn() -> Histogram>,
    treated: Family<ReasonLabels, Counter>,
    ended: Family<ReasonLabels, Counter>,
}

impl QueueMetrics {
    pub(super) fn new(registry: &mut Registry) -> QueueMetrics {
        let waiting = Family::default();
        registry.register("queue_waiting", "Calls that have a place in a queue", waiting.clone());
        let longest = Family::default();
        let help = "How long the call has waited that has waited longest";
        registry.register_with_unit("queue_longest_wait", help, Unit::Seconds, longest.clone());
        let agents = Family::default();
        registry.register("queue_agents", "Agents of a queue, by state", agents.clone());
        let entered = Family::default();
        registry.register("queue_entered", "Calls that came to stand in a queue", entered.clone());
        let offers = Family::default();
        registry.register("queue_offers", "Offers that have ended, by how", offers.clone());
        let answered = Family::default();
        registry.register("queue_answered", "Calls that were joined with an agent", answered.clone());
        // 0.25 s to a little more than an hour.
        let waits: fn() -> Histogram = || Histogram::new(exponential_buckets(0.25, 2.0, 15));
        let wait = Family::new_with_constructor(waits);
        let help = "Time from a call's entry until it was joined with an agent";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, wait.clone());
        let treated = Family::default();
        registry.register("queue_treated", "Calls that a queue did not serve, by why", treated.clone());
        let ended = Family::default();
        registry.register("queue_ended", "Calls that are over, by how", ended.clone());
        QueueMetrics { waiting, longest, agents, entered, offers, answered, wait, treated, ended }
    }

    /// What a queue is like now.
    pub fn show(&self, queue: &QueueId, sample: &QueueSample) {
        let labels = of(queue);
        self.waiting.get_or_create(&labels).set(int(sample.waiting));
        self.longest.get_or_create(&labels).set(sample.longest.as_secs_f64());
        for (state, count) in Agent::WORDS.into_iter().zip(sample.agents) {
            let labels = AgentLabels { queue: queue.to_string(), state };
            self.agents.get_or_create(&labels).set(int(count));
        }
    }

    /// This instance leads no longer: what queues are like now is another's to say.
    pub fn hide(&self) {
        self.waiting.clear();
        self.longest.clear();
        self.agents.clear();
    }

    /// A call came to stand in it.
    pub fn entered(&self, queue: &QueueId) {
        self.entered.get_or_create(&of(queue)).inc();
    }

    /// An offer has ended.
    pub fn offer_ended(&self, queue: &QueueId, how: OfferEnd) {
        let labels = OfferLabels { queue: queue.to_string(), result: how.as_str() };
        self.offers.get_or_create(&labels).inc();
    }

    /// A call was joined with an agent.
    pub fn answered(&self, queue: &QueueId, waited: Duration) {
        self.answered.get_or_create(&of(queue)).inc();
        self.wait.get_or_create(&of(queue)).observe(waited.as_secs_f64());
    }

    /// A call left it for a treatment.
    pub fn treated(&self, queue: &QueueId, why: TreatedFor) {
        let labels = ReasonLabels { queue: queue.to_string(), reason: why.as_str() };
        self.treated.get_or_create(&labels).inc();
    }

    /// A call is over.
    pub fn ended(&self, queue: &QueueId, reason: DoneReason) {
        let labels = ReasonLabels { queue: queue.to_string(), reason: reason.as_str() };
        self.ended.get_or_create(&labels).inc();
    }

    /// The queue is laid down no longer.
    pub fn forget(&self, queue: &QueueId) {
        let labels = of(queue);
        self.waiting.remove(&labels);
        self.longest.remove(&labels);
        self.entered.remove(&labels);
        self.answered.remove(&labels);
        self.wait.remove(&labels);
        for state in Agent::WORDS {
            self.agents.remove(&AgentLabels { queue: queue.to_string(), state });
        }
        for how in OfferEnd::ALL {
            self.offers.remove(&OfferLabels { queue: queue.to_string(), result: how.as_str() });
        }
        for why in TreatedFor::ALL {
            self.treated.remove(&ReasonLabels { queue: queue.to_string(), reason: why.as_str() });
        }
        for reason in DoneReason::ALL {
            self.ended.remove(&ReasonLabels { queue: queue.to_string(), reason: reason.as_str() });
        }
    }
}

fn of(queue: &QueueId) -> QueueLabels {
    QueueLabels { queue: queue.to_string() }
}

fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
