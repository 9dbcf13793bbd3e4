//! What the redirect server counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Labels of an answered request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    /// A method that is known, or `other`.
    method: &'static str,
    /// The status.
    answer: u16,
}

/// Labels of what was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SilenceLabels {
    /// `unlisted`, `malformed`, …
    reason: &'static str,
}

/// Counters of the redirect server.
#[derive(Default)]
pub struct RedirectMetrics {
    answers: Family<AnswerLabels, Counter>,
    silences: Family<SilenceLabels, Counter>,
}

impl RedirectMetrics {
    /// Registers everything; nothing is counted yet.
    pub(super) fn register(registry: &mut Registry) -> RedirectMetrics {
        let metrics = RedirectMetrics::default();
        registry.register("sip_requests", "SIP requests that were answered", metrics.answers.clone());
        let help = "What came over SIP and was not answered, by reason";
        registry.register("sip_unanswered", help, metrics.silences.clone());
        metrics
    }

    /// Counts an answer.
    pub fn answered(&self, method: &'static str, answer: u16) {
        self.answers.get_or_create(&AnswerLabels { method, answer }).inc();
    }

    /// Counts what got no answer.
    pub fn unanswered(&self, reason: &'static str) {
        self.silences.get_or_create(&SilenceLabels { reason }).inc();
    }
}
