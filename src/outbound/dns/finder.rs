//! Asks the servers, at most so many questions at once, and keeps what they answered for as long as it is good.

use super::DnsError;
use super::cache::Cache;
use super::reply::{Question, Reply, ReplyError, read};
use super::rfc3263::{self, Ask};
use crate::clock::Stopwatch;
use crate::config::DnsConfig;
use crate::dispatch::discovery::{Find, FindError};
use crate::domain::discovery::Found;
use crate::domain::service::{Family, Service};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle as _;
use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The most questions that are under way at once; one connection of the resolver takes 32.
const UNDER_WAY_MAX: usize = 16;

/// Finds the nodes that a service has. The DNS only: neither `/etc/hosts` nor search domains count.
pub struct Finder {
    servers: NameServerPool<TokioRuntimeProvider>,
    cache: Cache,
    turns: Semaphore,
    patience: Duration,
    started: Stopwatch,
}

impl Finder {
    /// Asks the servers that the configuration names, else those of `/etc/resolv.conf`.
    pub fn new(config: &DnsConfig) -> Result<Finder, DnsError> {
        let (host, mut options) = match named_servers(config) {
            Some(servers) => (servers, hickory_resolver::config::ResolverOpts::default()),
            None => system_conf::read_system_conf().map_err(DnsError::SetUp)?,
        };
        let patience = Duration::from_millis(config.timeout_ms);
        options.timeout = patience;
        let context = PoolContext::new(options, TlsConfig::new().map_err(DnsError::SetUp)?);
        let provider = TokioRuntimeProvider::default();
        let servers = NameServerPool::from_config(host.name_servers, Arc::new(context), provider);
        let turns = Semaphore::new(UNDER_WAY_MAX);
        Ok(Finder { servers, cache: Cache::default(), turns, patience, started: Stopwatch::start() })
    }

    /// One query to the servers.
    async fn fetch(&self, question: &Question) -> Result<Reply, ReplyError> {
        let _turn = self.turns.acquire().await;
        let mut name = Name::from_ascii(&question.name).map_err(|e| ReplyError::Silence(e.to_string()))?;
        name.set_fqdn(true);
        let query = Query::query(name, question.kind.record_type());
        let mut answers = self.servers.lookup(query, DnsRequestOptions::default());
        let silence = || ReplyError::Silence(format!("no answer within {} ms", self.patience.as_millis()));
        // A little longer than the resolver's own, which says more.
        let waited = tokio::time::timeout(self.patience.mul_f32(1.25), answers.next()).await;
        match waited.map_err(|_| silence())?.ok_or_else(silence)? {
            Ok(message) => read(question, &message),
            Err(NetError::Dns(Said::NoRecordsFound(none))) => {
                let code = none.response_code;
                if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                    return Err(ReplyError::Code(code.to_string()));
                }
                let referral = code == ResponseCode::NoError && none.soa.is_none() && none.ns.is_some();
                if referral {
                    Err(ReplyError::Referral)
                } else {
                    Ok(Reply::Nothing(none.negative_ttl.unwrap_or(0)))
                }
            }
            Err(NetError::Dns(Said::ResponseCode(code))) => Err(ReplyError::Code(code.to_string())),
            Err(NetError::Timeout) => Err(silence()),
            Err(error) => Err(ReplyError::Silence(error.to_string())),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Find for Finder {
    async fn find(&self, service: &Service, family: Family, age_max_s: u32) -> Result<Found, FindError> {
        rfc3263::find(service, family, &Asked { finder: self, age_max_s }).await
    }
}

/// The questions of one look-up.
struct Asked<'a> {
    finder: &'a Finder,
    age_max_s: u32,
}

#[async_trait]
impl Ask for Asked<'_> {
    async fn ask(&self, question: &Question) -> Result<Reply, ReplyError> {
        let Asked { finder, age_max_s } = self;
        finder.cache.get(question, *age_max_s, || finder.now_ms(), || finder.fetch(question)).await
    }
}

/// The servers of `[dns]`, where there are any.
pub(super) fn named_servers(config: &DnsConfig) -> Option<ResolverConfig> {
    let server = |address: &std::net::SocketAddr| {
        let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let servers: Vec<_> = config.servers.iter().map(server).collect();
    (!servers.is_empty()).then(|| ResolverConfig::from_name_servers(servers))
}
