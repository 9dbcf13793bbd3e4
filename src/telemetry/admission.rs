//! What is counted of limits and of pools that overflow.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    pool: String,
    scope: &'static str,
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScopeLabels {
    pool: String,
    tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverflowLabels {
    pool: String,
    into: String,
}

/// The figures of admission; pools without limits have no lines.
pub struct AdmissionMetrics {
    refused: Family<RefusedLabels, Counter>,
    calls: Family<ScopeLabels, Gauge>,
    most: Family<ScopeLabels, Gauge>,
    overflows: Family<OverflowLabels, Counter>,
}

impl AdmissionMetrics {
    pub(super) fn new(registry: &mut Registry) -> AdmissionMetrics {
        let refused = Family::default();
        registry.register("limit_refusals", "Lookups refused by a limit", refused.clone());
        let calls = Family::default();
        registry.register("limit_calls", "Live leases that a limit counts", calls.clone());
        let most = Family::default();
        registry.register("limit_calls_max", "Calls at once that a limit allows", most.clone());
        let overflows = Family::default();
        registry.register("overflows", "Lookups that went on to another pool", overflows.clone());
        AdmissionMetrics { refused, calls, most, overflows }
    }

    /// Counts a lookup that was refused by the pool's limit or a tenant's: `calls` or `rate`.
    pub fn refused(&self, pool: &str, tenant: bool, limit: &'static str) {
        let scope = if tenant { "tenant" } else { "pool" };
        self.refused.get_or_create(&RefusedLabels { pool: pool.to_owned(), scope, limit }).inc();
    }

    /// What a limit counts and allows; an empty tenant stands for the pool.
    pub fn usage(&self, pool: &str, tenant: &str, calls: u32, most: Option<u32>) {
        let labels = ScopeLabels { pool: pool.to_owned(), tenant: tenant.to_owned() };
        self.calls.get_or_create(&labels).set(i64::from(calls));
        if let Some(most) = most {
            self.most.get_or_create(&labels).set(i64::from(most));
        }
    }

    /// Counts a lookup that went on to another pool.
    pub fn overflowed(&self, pool: &str, into: &str) {
        self.overflows.get_or_create(&OverflowLabels { pool: pool.to_owned(), into: into.to_owned() }).inc();
    }
}
