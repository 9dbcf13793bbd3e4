//! What the configuration says to the dispatcher, checked and in the types that it works with.

use crate::config::{Config, PoolConfig, Redirect, RegisterConfig};
use crate::domain::admission::Limits;
use crate::domain::health::HealthRules;
use crate::domain::id::{PoolId, Zone};
use crate::store::PoolRules;
use crate::wire::rtjson::{Clean, RouteExtras};
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
    /// Who may ask over SIP, and for what.
    pub redirect: Redirect,
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
    /// Rules for health.
    pub health: HealthRules,
    /// SIP status of a refusal.
    pub refuse_code: u16,
    /// When a refused caller may ask again, in seconds.
    pub retry_after_s: u32,
    /// How many calls it may have.
    pub limits: Limits,
    /// How long a key sticks to its node after each call, in ms.
    pub sticky_ms: u64,
    /// The pool that answers what this one refuses, except by a limit.
    pub overflow: Option<PoolId>,
    /// What nodes that register themselves may say; `None`: no node does.
    pub register: Option<RegisterConfig>,
    /// What is added to each route.
    pub extras: RouteExtras,
    /// Its nodes are looked up in the DNS too.
    pub discovered: bool,
}

/// The configuration does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {cause}")]
pub struct SettingsError {
    /// The culprit.
    pub key: String,
    /// What is wrong with it.
    pub cause: String,
}

impl Settings {
    /// Takes from the configuration what concerns lookups. The secret is read by the caller: from a file, or drawn at the start.
    pub fn from_config(config: &Config, secret: Secret) -> Result<Settings, SettingsError> {
        let first = config.pools.first().ok_or_else(|| wrong("pool".to_owned(), "there is no pool"))?;
        let mut pools = BTreeMap::new();
        for pool in &config.pools {
            pools.insert(pool.name.clone(), PoolSettings::from_config(pool, config)?);
        }
        Ok(Settings {
            instance: config.instance.id.clone(),
            zone: config.instance.zone.clone(),
            secret,
            pick_deadline_ms: config.dispatch.pick_deadline_ms,
            decisions_kept: config.dispatch.decisions_kept,
            emergency_numbers: config.emergency_numbers.clone(),
            default_pool: first.name.clone(),
            redirect: config.redirect.clone(),
            pools,
        })
    }
}

impl PoolSettings {
    fn from_config(pool: &PoolConfig, config: &Config) -> Result<PoolSettings, SettingsError> {
        let clean = |key: &str, text: &str| -> Result<Clean, SettingsError> {
            text.parse().map_err(|e| wrong(format!("pool {}: {key}", pool.name), e))
        };
        let optional = |key: &str, text: &Option<String>| text.as_ref().map(|t| clean(key, t)).transpose();
        let route = &pool.route;
        let header =
            |(name, value): &(String, String)| Ok((clean("headers", name)?, clean("headers", value)?));
        Ok(PoolSettings {
            rules: PoolRules { choose: pool.rules, life: config.dispatch.life },
            health: pool.health,
            refuse_code: pool.refuse_code,
            retry_after_s: pool.retry_after_s,
            limits: pool.limits.clone(),
            sticky_ms: u64::from(pool.sticky_s) * 1000,
            overflow: pool.overflow.clone(),
            register: pool.register.clone(),
            extras: RouteExtras {
                fr_timer_ms: route.fr_timer_ms,
                fr_inv_timer_ms: route.fr_inv_timer_ms,
                socket: optional("socket", &route.socket)?,
                path: optional("path", &route.path)?,
                headers: route.headers.iter().map(header).collect::<Result<_, _>>()?,
            },
            discovered: pool.discover.is_some(),
        })
    }
}

fn wrong(key: String, cause: impl ToString) -> SettingsError {
    SettingsError { key, cause: cause.to_string() }
}
