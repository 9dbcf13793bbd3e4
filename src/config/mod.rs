//! Floor 1: the configuration file. Strict TOML in, a checked [`Config`] out; what it does not understand it refuses.
//!
//! * [`Config`] and its parts are what the rest of the program sees; every value in them is within its limits
//! * `reader` takes the document apart and names file, line, column and key of what is wrong
//! * `sections`, `redirect`, `pools`, `limits`, `discover` and `register` know the keys; `route` checks what will be put into SIP messages
//! * `cell` knows the keys of the cell: how its nodes are talked to, its queues, agents and treatments
//! * `changes` tells two configurations apart: what a running process takes over, and what needs a restart
//! * `warnings` says what is allowed, and probably not meant

mod cell;
mod changes;
mod discover;
mod endpoint;
mod error;
mod limits;
mod pools;
mod reader;
mod redirect;
mod redis_group;
mod register;
mod route;
mod sections;
mod store_url;
mod warnings;

pub use cell::{
    AGENTS_MAX, Ari, AriConfig, CellConfig, CellNode, MEMBERSHIPS_MAX, NodeAri, QUEUES_MAX, TREATMENTS_MAX,
};
pub use changes::Changes;
pub use endpoint::{Endpoint, EndpointError, SOCKET_PATH_MAX};
pub use error::{ConfigError, Problem};
pub use redirect::{Network, Redirect, SipEndpoint, SipTransport};
pub use redis_group::{GroupKind, Login, REDIS_SEATS_MAX, RedisGroup};
pub use store_url::{RedisUrl, STORE_DB_MAX, STORE_URL_MAX, StoreUrl, StoreUrlError};

use crate::domain::admission::Limits;
use crate::domain::discovery::Template;
use crate::domain::health::HealthRules;
use crate::domain::id::{NodeId, PoolId, Tag, Zone};
use crate::domain::lease::Lifetimes;
use crate::domain::node::NodeState;
use crate::domain::pool::Rules;
use crate::domain::registration;
use crate::domain::service::{Family, Service};
use crate::domain::uri::NodeUri;
use reader::{Reader, Source};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The largest configuration file, in bytes.
pub const FILE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most pools that a configuration has.
pub const POOLS_MAX: usize = 256;

/// A configuration that was checked: every value within its limits, every rule that spans keys kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[instance]`: who this process is.
    pub instance: Instance,
    /// `[store]`: where leases live.
    pub store: StoreConfig,
    /// `[listen]`: where questions come in.
    pub listen: Listen,
    /// `[redirect]`: who may ask over SIP, and for what.
    pub redirect: Redirect,
    /// `[token]`: how lease tokens are signed.
    pub token: TokenConfig,
    /// `[dispatch]`: how long leases and answers live.
    pub dispatch: DispatchConfig,
    /// `[dns]`: whom to ask for nodes.
    pub dns: DnsConfig,
    /// `[log]`: what is written to standard error.
    pub log: LogConfig,
    /// Numbers that are never refused, next to `urn:service:sos`.
    pub emergency_numbers: BTreeSet<String>,
    /// `[[pool]]`, in the order of the file; at least one. The first is the default of lookups.
    pub pools: Vec<PoolConfig>,
    /// `[cell]` and what belongs to it; `None`: this instance dispatches, and leads no cell.
    pub cell: Option<CellConfig>,
}

/// Who this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, unique among the instances that share a store.
    pub id: String,
    /// The zone of callers whose lookup names none.
    pub zone: Option<Zone>,
}

/// Where leases live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The address, with the password of `password_file` when it was [loaded](Config::load).
    pub url: StoreUrl,
    /// Authorities that certify the store's servers, PEM, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long one round trip may take, in ms.
    pub timeout_ms: u64,
}

/// Where questions come in, and the bounds of those who ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// RESP2: Kamailio's `ndb_redis`, `redis-cli`.
    pub resp: Vec<Endpoint>,
    /// HTTP/1.1.
    pub http: Vec<Endpoint>,
    /// SIP: the redirect server.
    pub sip: Vec<SipEndpoint>,
    /// Mode of the Unix sockets.
    pub socket_mode: u32,
    /// Group of the Unix sockets; `None`: that of the process.
    pub socket_group: Option<String>,
    /// File with the bearer token (HTTP) or password (RESP `AUTH`) that TCP clients must give.
    pub token_file: Option<PathBuf>,
    /// Certificate and key for the TCP listeners that other hosts can reach; see [`Endpoint::is_local`].
    pub tls: Option<TlsFiles>,
    /// How many connections at once, over all listeners.
    pub connections_max: usize,
    /// The largest body of a request, in bytes.
    pub body_max_bytes: usize,
    /// How long the head of a request may take to arrive, in ms.
    pub header_timeout_ms: u64,
    /// How long a connection may be silent before it is closed, in s.
    pub idle_timeout_s: u64,
}

/// Certificate chain and private key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How lease tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// File with the secret that instances share; `None`: a random one for the life of the process.
    pub secret_file: Option<PathBuf>,
}

/// How long leases and answers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchConfig {
    /// How long held and confirmed leases live.
    pub life: Lifetimes,
    /// How long a lookup waits for the store before it is answered without it, in ms.
    pub pick_deadline_ms: u64,
    /// How many decisions are kept for `EXPLAIN`.
    pub decisions_kept: usize,
}

/// Whom to ask for nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take, in ms.
    pub timeout_ms: u64,
}

/// Nodes that are looked for in the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverConfig {
    /// What is looked up.
    pub service: Service,
    /// Which addresses of a host count.
    pub family: Family,
    /// What is made of what is found.
    pub template: Template,
    /// It is not looked up more often, in s.
    pub refresh_min_s: u32,
    /// It is not looked up less often, in s.
    pub refresh_max_s: u32,
}

/// Nodes that register themselves by heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterConfig {
    /// Where they may listen.
    pub networks: Vec<Network>,
    /// What else they may say.
    pub limits: registration::Limits,
}

/// What is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// A filter of the `tracing` kind: `info`, `info,mqs::store=debug`.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A pool and its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: PoolId,
    /// How a node is chosen.
    pub rules: Rules,
    /// Rules for health.
    pub health: HealthRules,
    /// Authorities that certify nodes that are probed over TLS, PEM, instead of the public ones.
    pub health_ca_file: Option<PathBuf>,
    /// The SIP status of a refusal.
    pub refuse_code: u16,
    /// After how long to try again, in s.
    pub retry_after_s: u32,
    /// `[pool.limit]`, `[pool.each_tenant]`, `[[pool.tenant]]`: how many calls it may have.
    pub limits: Limits,
    /// How long a key sticks to its node after each call, in s.
    pub sticky_s: u32,
    /// Another pool of this configuration, which answers what this one refuses, except by a limit.
    pub overflow: Option<PoolId>,
    /// What its route documents say beyond the addresses.
    pub route: RouteOptions,
    /// `[pool.discover]`: nodes beside those, from the DNS.
    pub discover: Option<DiscoverConfig>,
    /// `[pool.register]`: nodes beside those that register themselves; `None`: no node does.
    pub register: Option<RegisterConfig>,
    /// Its nodes, in the order of the file.
    pub nodes: Vec<NodeConfig>,
}

/// What a route document says of each target beyond its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// How long a target may be silent before the next is tried, in ms.
    pub fr_timer_ms: Option<u32>,
    /// How long a target may ring, in ms.
    pub fr_inv_timer_ms: Option<u32>,
    /// The socket of the proxy to send from: `udp:ip:port`.
    pub socket: Option<String>,
    /// A route set to send by: `<sip:edge.example.com;lr>`.
    pub path: Option<String>,
    /// Headers to add, in the order of the file; names and values cannot smuggle another header.
    pub headers: Vec<(String, String)>,
}

/// A node, as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name, unique in its pool.
    pub id: NodeId,
    /// Its address, unique in its pool.
    pub uri: NodeUri,
    /// Channels that it may carry at once.
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What it can do.
    pub tags: BTreeSet<Tag>,
    /// What it is asked to do: active, draining or down.
    pub state: NodeState,
    /// How the leader of the cell talks to it.
    pub ari: NodeAri,
}

impl Config {
    /// Reads and checks a file, and the file that `store.password_file` names.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let unreadable = |source| ConfigError::Read { file: file.clone(), source };
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_MAX_BYTES).unwrap_or(u64::MAX);
        File::open(path).and_then(|f| f.take(limit + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() > FILE_MAX_BYTES {
            return Err(ConfigError::TooLarge { file, limit_bytes: FILE_MAX_BYTES });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => check(text, &file, Some(read_password)),
            Err(e) => {
                let lines = bytes.iter().take(e.valid_up_to()).filter(|b| **b == b'\n').count();
                Err(ConfigError::NotUtf8 { file, line: lines + 1 })
            }
        }
    }

    /// Checks a text; `file` is the name that errors give it. Reads no other file: a password in `store.password_file`
    /// is not in [`StoreUrl`].
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        check(text, file, None)
    }

    /// What is allowed and probably not meant, one line each.
    pub fn warnings(&self) -> Vec<String> {
        warnings::of(self)
    }
}

/// Reads a file with a password; a failure comes back in words that do not repeat it.
type ReadPassword = fn(&Path) -> Result<String, String>;

fn check(text: &str, file: &str, password: Option<ReadPassword>) -> Result<Config, ConfigError> {
    let source = Source::new(text, file);
    let config = match DeTable::parse(text) {
        Ok(document) => sections::config(Reader::root(&source, document.get_ref()), password),
        Err(error) => {
            source.not_toml(&error);
            None
        }
    };
    let problems = source.problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        Some(_) | None => Err(ConfigError::Wrong(problems)),
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    const PASSWORD_MAX_BYTES: u64 = 512;
    let mut text = String::new();
    let read = File::open(path).and_then(|f| f.take(PASSWORD_MAX_BYTES + 1).read_to_string(&mut text));
    let bytes = read.map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    let long = u64::try_from(bytes).is_ok_and(|n| n > PASSWORD_MAX_BYTES);
    if password.is_empty() || long || password.chars().any(char::is_control) {
        let path = path.display();
        return Err(format!("{path} must hold one line, the password, of 1 to {PASSWORD_MAX_BYTES} bytes"));
    }
    Ok(password.to_owned())
}
