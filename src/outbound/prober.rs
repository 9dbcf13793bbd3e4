//! Asks nodes whether they are there, for `dispatch::health`.

use super::dns::Resolver;
use super::probe::{self, Transport};
use super::trust::Trust;
use crate::dispatch::health::Prober;
use crate::domain::health::{Evidence, HealthRules};
use crate::domain::id::PoolId;
use crate::domain::uri::NodeUri;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// OPTIONS over UDP, TCP or TLS, to every address that the node's name leads to until one answers.
pub struct OptionsProber(ArcSwap<Means>);

struct Means {
    resolver: Resolver,
    trust: BTreeMap<PoolId, Trust>,
}

impl OptionsProber {
    /// A prober that finds names by this resolver; `trust`: who certifies the nodes of each pool that speak TLS.
    pub fn new(resolver: Resolver, trust: BTreeMap<PoolId, Trust>) -> OptionsProber {
        OptionsProber(ArcSwap::from_pointee(Means { resolver, trust }))
    }

    /// Asks by the means of another one from now on.
    pub fn become_like(&self, other: &OptionsProber) {
        self.0.store(other.0.load_full());
    }
}

#[async_trait]
impl Prober for OptionsProber {
    async fn probe(&self, pool: &PoolId, uri: &NodeUri, rules: &HealthRules) -> Option<Evidence> {
        let transport = Transport::of(uri)?;
        let (means, patience) = (self.0.load_full(), Duration::from_millis(rules.probe_timeout_ms));
        let trust = means.trust.get(pool);
        let places = match tokio::time::timeout(patience, means.resolver.places(uri)).await {
            Ok(Ok(places)) => places,
            Ok(Err(error)) => return Some(Evidence::ProbeBad(error.to_string())),
            Err(_) => return Some(Evidence::ProbeBad("its name was not found in time".to_owned())),
        };
        let mut last = "no address".to_owned();
        for place in places {
            match ask(uri, place, transport, trust, rules).await {
                Ok(()) => return Some(Evidence::ProbeGood),
                Err(why) => last = why,
            }
        }
        Some(Evidence::ProbeBad(last))
    }
}

async fn ask(
    uri: &NodeUri,
    place: SocketAddr,
    transport: Transport,
    trust: Option<&Trust>,
    rules: &HealthRules,
) -> Result<(), String> {
    let patience = Duration::from_millis(rules.probe_timeout_ms);
    match probe::options(uri, place, transport, trust, &probe::fresh_id(), patience).await {
        Ok(answer) if rules.accept.takes(answer.code) => Ok(()),
        Ok(answer) => Err(format!("OPTIONS: {} {}", answer.code, answer.reason)),
        Err(error) => Err(format!("OPTIONS: {error}")),
    }
}
