//! The DNS: where a node's address leads ([`Resolver`]), and which nodes a pool's name leads to ([`Finder`]).
//!
//! * [`rfc3263`]: the order of questions · [`reply`]: what a message says to one · [`cache`]: one query for all who wait
//!
//! [`Resolver`] is for `mqs check`: RFC 3263 §4.2 without NAPTR; the transport is the one that the address names, or UDP.

pub mod cache;
mod finder;
pub mod reply;
pub mod rfc3263;

pub use finder::Finder;

use crate::config::DnsConfig;
use crate::domain::uri::NodeUri;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};

/// The most addresses of one node that are looked at.
const PLACES_MAX: usize = 16;

/// Why an address leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The resolver could not be set up.
    #[error("the resolver of this host cannot be used: {0}")]
    SetUp(NetError),
    /// The name was not found, or nobody answered.
    #[error("{name}: {cause}")]
    Lookup {
        /// The name that was asked for.
        name: String,
        /// What came back.
        cause: NetError,
    },
    /// It has no addresses.
    #[error("{0}: no address")]
    Empty(String),
}

/// A resolver for the addresses of nodes: as this host is set up (`/etc/resolv.conf`, `/etc/hosts`), or with servers of its own.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Asks the servers that the configuration names, else those of the host.
    pub fn new(config: &DnsConfig) -> Result<Resolver, DnsError> {
        let builder = match finder::named_servers(config) {
            Some(servers) => TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().map_err(DnsError::SetUp)?,
        };
        builder.build().map(Resolver).map_err(DnsError::SetUp)
    }

    /// Where to send to, best first. A name without a port is asked for SRV records first (RFC 3263 §4.2); without any, its
    /// addresses count, with the default port.
    pub async fn places(&self, uri: &NodeUri) -> Result<Vec<SocketAddr>, DnsError> {
        let default_port = default_port(uri);
        if let Some(place) = literal(uri, default_port) {
            return Ok(vec![place]);
        }
        let mut found = Vec::new();
        if uri.port().is_none() {
            for (host, port) in self.services(uri).await {
                if let Ok(addresses) = self.addresses(&host).await {
                    found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)));
                }
            }
        }
        if found.is_empty() {
            let port = uri.port().unwrap_or(default_port);
            let addresses = self.addresses(uri.host()).await?;
            found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)));
        }
        found.truncate(PLACES_MAX);
        if found.is_empty() { Err(DnsError::Empty(uri.host().to_owned())) } else { Ok(found) }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let found = self.0.lookup_ip(host).await;
        let found = found.map_err(|cause| DnsError::Lookup { name: host.to_owned(), cause })?;
        Ok(found.iter().collect())
    }

    /// Targets and ports of the SRV records, least priority first, then greatest weight.
    async fn services(&self, uri: &NodeUri) -> Vec<(String, u16)> {
        let name = match uri.over_tls() {
            true => format!("_sips._tcp.{}", uri.host()),
            false => format!("_sip._{}.{}", uri.transport().as_deref().unwrap_or("udp"), uri.host()),
        };
        let Ok(found) = self.0.lookup(name, RecordType::SRV).await else { return Vec::new() };
        let mut services: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| {
                let RData::SRV(srv) = &record.data else { return None };
                Some((srv.priority, u16::MAX - srv.weight, srv.target.to_string(), srv.port))
            })
            .collect();
        services.sort();
        services.into_iter().take(PLACES_MAX).map(|(_, _, host, port)| (host, port)).collect()
    }
}

/// RFC 3261 §18.1.1, §26.2.2.
fn default_port(uri: &NodeUri) -> u16 {
    if uri.secure() || uri.over_tls() { 5061 } else { 5060 }
}

/// The place that an address names without any look-up.
fn literal(uri: &NodeUri, default_port: u16) -> Option<SocketAddr> {
    let ip = uri.host().parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(ip, uri.port().unwrap_or(default_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_need_no_look_up() {
        for (uri, place) in [
            ("sip:10.0.0.1", Some("10.0.0.1:5060")),
            ("sips:[2001:db8::1]", Some("[2001:db8::1]:5061")),
            ("sip:[::1]:5070;transport=tcp", Some("[::1]:5070")),
            ("sip:10.0.0.1;transport=tls", Some("10.0.0.1:5061")),
            ("sip:ast1.example.com:5060", None),
        ] {
            let uri: NodeUri = uri.parse().unwrap();
            assert_eq!(literal(&uri, default_port(&uri)), place.map(|p| p.parse().unwrap()), "{uri}");
        }
    }
}
