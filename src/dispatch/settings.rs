//! What the configuration says to the dispatcher, checked and in the types that it works with.

use crate::domain::id::{PoolId, Zone};
use crate::store::PoolRules;
use crate::wire::rtjson::RouteExtras;
use crate::wire::token::Secret;
use std::collections::{BTreeMap, BTreeSet};

/// For the whole instance.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names this instance among those that share the store.
    pub instance: String,
    /// Zone of callers whose lookup names none.
    pub zone: Option<Zone>,
    /// Key of the tokens.
    pub secret: Secret,
    /// How long a lookup waits for the store before it is answered without it, in ms.
    pub pick_deadline_ms: u64,
    /// How many decisions are kept for explanations.
    pub decisions_kept: usize,
    /// Called numbers that are emergency calls, without visual separators.
    pub emergency_numbers: BTreeSet<String>,
    /// The pool of lookups that name none.
    pub default_pool: PoolId,
    /// All pools.
    pub pools: BTreeMap<PoolId, PoolSettings>,
}

impl Settings {
    /// How long a verb waits for the store, in ms: the caller does not wait for it, so longer than for a lookup.
    pub fn settle_deadline_ms(&self) -> u64 {
        self.pick_deadline_ms.saturating_mul(2)
    }
}

/// For one pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Rules for choosing and for leases.
    pub rules: PoolRules,
    /// SIP status of a refusal.
    pub refuse_code: u16,
    /// When a refused caller may ask again, in seconds.
    pub retry_after_s: u32,
    /// What is added to each route.
    pub extras: RouteExtras,
}
