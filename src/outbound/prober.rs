//! Asks nodes whether they are there, for `dispatch::health`.

use super::dns::Resolver;
use super::probe::{self, Transport};
use crate::dispatch::health::Prober;
use crate::domain::health::Evidence;
use crate::domain::uri::NodeUri;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::time::Duration;

/// OPTIONS over UDP or TCP, to every address that the node's name leads to until one answers.
pub struct OptionsProber(Resolver);

impl OptionsProber {
    /// A prober that finds names by this resolver.
    pub fn new(resolver: Resolver) -> OptionsProber {
        OptionsProber(resolver)
    }
}

#[async_trait]
impl Prober for OptionsProber {
    async fn probe(&self, uri: &NodeUri, patience: Duration) -> Option<Evidence> {
        let transport = Transport::of(uri)?;
        let places = match tokio::time::timeout(patience, self.0.places(uri)).await {
            Ok(Ok(places)) => places,
            Ok(Err(error)) => return Some(Evidence::ProbeBad(error.to_string())),
            Err(_) => return Some(Evidence::ProbeBad("its name was not found in time".to_owned())),
        };
        let mut last = "no address".to_owned();
        for place in places {
            match ask(uri, place, transport, patience).await {
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
    patience: Duration,
) -> Result<(), String> {
    match probe::options(uri, place, transport, &probe::fresh_id(), patience).await {
        Ok(answer) if answer.alive() => Ok(()),
        Ok(answer) => Err(format!("OPTIONS: {} {}", answer.code, answer.reason)),
        Err(error) => Err(format!("OPTIONS: {error}")),
    }
}
