//! `mqs check`: is the configuration right, and will it work on this host?

mod ari;
mod discover;

use super::output::{Cell, Look, Side, Table, colours, count, plain, print, told};
use super::serve::watchers::trust;
use super::serve::{CONFIG_FILE, open_redis, peers_token, read_secret};
use crate::clock::{self, Stopwatch};
use crate::config::{Config, ConfigError, Endpoint, NodeConfig, SipTransport, StoreUrl};
use crate::domain::health::accept::Accept;
use crate::domain::id::PoolId;
use crate::domain::node::NodeState;
use crate::inbound::listen;
use crate::outbound::dns::Resolver;
use crate::outbound::probe::{self, Transport};
use crate::outbound::trust::Trust;
use crate::store::Store as _;
use crate::store::file::{self, Seen};
use crate::store::redis::Probe;
use anyhow::anyhow;
use nix::unistd::{AccessFlags, Group, access};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long a node may take to answer.
const NODE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Tokens carry this host's time, leases the store's: how far the two may be apart, in ms.
const CLOCKS_APART_MAX_MS: u64 = 5_000;

/// How many nodes are asked at once.
const NODES_AT_ONCE: usize = 64;

const EXAMPLES: &str = "\
Examples:
  mqs check
  mqs check ./mqs.toml
  mqs check ./mqs.toml --no-nodes     ask no node
  mqs check --json

It reads the configuration, looks whether secrets are readable by others, whether the sockets can be bound, whether the
store is there, looks pools up in the DNS, sends one SIP OPTIONS to every node, and asks those that a cell drives over
ARI. Nothing is changed.
Exit code 0: no errors (perhaps warnings); 1: errors.";

/// Check the configuration, and whether it will work on this host
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// Do not look up the nodes' names, and send them nothing
    #[arg(long)]
    no_nodes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and was probably not meant so.
    Warn,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    level: Level,
    what: &'static str,
    culprit: String,
    message: String,
}

impl Finding {
    /// `what` is one word, `culprit` names the very thing.
    pub fn new(level: Level, what: &'static str, culprit: impl ToString, message: impl ToString) -> Finding {
        Finding { level, what, culprit: plain(&culprit.to_string()), message: plain(&message.to_string()) }
    }
}

/// Looks, and prints what was found.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = look(args).await;
    let of = |level| findings.iter().filter(|f| f.level == level).count();
    let (errors, warnings) = (of(Level::Error), of(Level::Warn));
    if args.json {
        let file = args.config.display().to_string();
        let all = json!({"file": file, "errors": errors, "warnings": warnings, "findings": findings});
        print(&format!("{all}\n"))?;
    } else {
        print(&table(&findings))?;
        print(&format!("{}, {}\n", count(errors, "error"), count(warnings, "warning")))?;
    }
    if errors > 0 {
        return Err(anyhow!("{}: {}", args.config.display(), count(errors, "error")));
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(args: &Args) -> Vec<Finding> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return not_a_config(&args.config, &error),
    };
    let nodes: usize = config.pools.iter().map(|pool| pool.nodes.len()).sum();
    let summary = format!(
        "{}, {}, store {}",
        count(config.pools.len(), "pool"),
        count(nodes, "node"),
        config.store.url
    );
    let mut found = vec![Finding::new(Level::Ok, "config", args.config.display(), summary)];
    if let Some(cell) = &config.cell {
        let setup = &cell.setup;
        let summary = format!(
            "{}, {}, {}, {} to drive",
            count(setup.queues.len(), "queue"),
            count(setup.agents.len(), "agent"),
            count(setup.treatments.len(), "treatment"),
            count(cell.nodes(&config.pools).len(), "node")
        );
        found.push(Finding::new(Level::Ok, "cell", &cell.id, summary));
    }
    let warnings = config.warnings();
    found
        .extend(warnings.iter().map(|text| Finding::new(Level::Warn, "config", args.config.display(), text)));
    found.extend(check_files(&config));
    found.extend(check_listeners(&config));
    found.extend(check_store(&config).await);
    if !args.no_nodes {
        found.extend(check_nodes(&config).await);
    }
    found
}

fn not_a_config(file: &Path, error: &ConfigError) -> Vec<Finding> {
    if error.problems().is_empty() {
        // The error names the file first; so does the table.
        let whole = error.to_string();
        let message = whole.strip_prefix(&format!("{}: ", file.display())).unwrap_or(&whole);
        return vec![Finding::new(Level::Error, "config", file.display(), message)];
    }
    let one = |p: &crate::config::Problem| {
        let culprit = format!("{}:{}:{}", p.file, p.line, p.column);
        let message = if p.key.is_empty() { p.message.clone() } else { format!("{}: {}", p.key, p.message) };
        Finding::new(Level::Error, "config", culprit, message)
    };
    error.problems().iter().map(one).collect()
}

/// Is the store there, is it one to write to, and does its clock agree with this host's? A store in memory always is.
async fn check_store(config: &Config) -> Vec<Finding> {
    let url = &config.store.url;
    let redis_url = match url {
        StoreUrl::Memory => {
            let message = "in this process: for one instance, forgotten when it ends";
            return vec![Finding::new(Level::Ok, "store", url, message)];
        }
        StoreUrl::File(path) => {
            let (level, message) = check_store_file(path);
            return vec![Finding::new(level, "store", url, message)];
        }
        StoreUrl::Redis(redis_url) => redis_url,
    };
    let store = match open_redis(config, redis_url) {
        Ok(store) => store,
        Err(error) => return vec![Finding::new(Level::Error, "store", url, told(&error))],
    };
    // The first answer may take longer than `timeout_ms`: it needs a connection.
    let clock = Stopwatch::start();
    let now = loop {
        match store.now().await {
            Ok(now) => break now,
            Err(error) if clock.elapsed() > STORE_PATIENCE => {
                return vec![Finding::new(Level::Error, "store", url, error)];
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let here = clock::wall();
    let mut found = match store.probe().await {
        Ok(probe) => judge(url, &probe),
        Err(error) => vec![Finding::new(Level::Warn, "store", url, error)],
    };
    let apart_ms = here.since(now).max(now.since(here));
    if apart_ms > CLOCKS_APART_MAX_MS {
        let message = format!("its clock and this host's are {apart_ms} ms apart");
        found.push(Finding::new(Level::Warn, "store", url, message));
    }
    found
}

/// Can this process write the file, and does nobody else?
fn check_store_file(path: &Path) -> (Level, String) {
    if let Err(message) = writable_directory(path) {
        return (Level::Error, message);
    }
    match access(path, AccessFlags::R_OK | AccessFlags::W_OK) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(error) => return (Level::Error, error.desc().to_owned()),
    }
    match file::inspect(path) {
        Ok(Seen::Nothing) => (Level::Ok, "none yet: the first start makes it".to_owned()),
        Ok(Seen::Ready) => (Level::Ok, "can be opened".to_owned()),
        Ok(Seen::Unclean) => (Level::Ok, "its process was killed: the next start repairs it".to_owned()),
        Ok(Seen::InUse) => {
            (Level::Warn, "open in a live process: another `mqs serve` would be refused".to_owned())
        }
        // The error names the file first; so does the table.
        Err(error) => {
            let whole = error.to_string();
            let message = whole.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&whole);
            (Level::Error, message.to_owned())
        }
    }
}

fn judge(url: &StoreUrl, probe: &Probe) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |level, message: String| found.push(Finding::new(level, "store", url, message));
    if !probe.rights_missing.is_empty() {
        let commands = probe.rights_missing.join(", ");
        find(Level::Error, format!("this user may not use {commands}, at least not on keys {{mqs:*"));
    }
    for server in &probe.servers {
        let log = match server.has_log {
            Some(true) => ", with a log on disk",
            Some(false) => ", without a log on disk: a restart may lose leases",
            None => "",
        };
        let replicas = match server.replicas {
            0 => String::new(),
            1 => ", 1 replica".to_owned(),
            more => format!(", {more} replicas"),
        };
        find(Level::Ok, format!("{} answers ({}{replicas}{log})", server.server, probe.kind));
        if server.read_only {
            let role = &server.role;
            find(
                Level::Error,
                format!("a read-only replica (role {role}); MQS needs the server that takes writes"),
            );
        }
        if server.in_cluster && probe.kind != "cluster" {
            let message = "a node of a cluster, which holds some pools only; write redis+cluster://";
            find(Level::Error, message.to_owned());
        }
        if let Some(policy) = server.maxmemory_policy.as_deref().filter(|policy| *policy != "noeviction") {
            find(
                Level::Warn,
                format!("maxmemory-policy is {policy}: leases may be thrown away; set noeviction"),
            );
        }
        if server.replicas == 0 && probe.kind != "one server" {
            find(
                Level::Warn,
                format!("no replica is connected to it: there is nobody to take over ({})", probe.kind),
            );
        }
    }
    found
}

fn check_files(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    match &config.token.secret_file {
        None => found.push(Finding::new(
            Level::Ok,
            "secret",
            "token.secret_file",
            "not set: drawn at the start, so that tokens end with the process",
        )),
        Some(file) => found.push(match read_secret(file) {
            Ok((_, false)) => Finding::new(Level::Ok, "secret", file.display(), "readable, long enough"),
            Ok((_, true)) => Finding::new(
                Level::Warn,
                "secret",
                file.display(),
                "every user of this host can read it: chmod o=",
            ),
            Err(error) => Finding::new(Level::Error, "secret", file.display(), told(&error)),
        }),
    }
    if let Some(file) = &config.listen.token_file {
        found.push(match peers_token(file) {
            Ok(_) => Finding::new(Level::Ok, "token", file.display(), "readable"),
            Err(error) => Finding::new(Level::Error, "token", file.display(), told(&error)),
        });
    }
    if let Some(cell) = &config.cell {
        let file = &cell.ari.password_file;
        let open_to_others = || file.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0);
        let (level, message) = match cell.ari.password() {
            Ok(_) if open_to_others() => {
                (Level::Warn, "every user of this host can read it: chmod o=".to_owned())
            }
            Ok(_) => (Level::Ok, "readable".to_owned()),
            Err(error) => (Level::Error, error),
        };
        found.push(Finding::new(level, "ari", file.display(), message));
    }
    if let Some(tls) = &config.listen.tls {
        found.push(match listen::acceptor(tls) {
            Ok(_) => Finding::new(Level::Ok, "tls", tls.cert.display(), "certificate and key fit"),
            Err(error) => Finding::new(Level::Error, "tls", tls.cert.display(), error),
        });
    }
    found
}

fn check_listeners(config: &Config) -> Vec<Finding> {
    let endpoints = || config.listen.resp.iter().chain(&config.listen.http);
    let live = endpoints().any(|e| matches!(e, Endpoint::Unix(path) if is_locked(path)));
    let mut found: Vec<Finding> = endpoints()
        .map(|endpoint| {
            let (level, message) = match endpoint {
                Endpoint::Unix(path) => check_socket(path),
                Endpoint::Tcp(address) => free(TcpListener::bind(address).map(drop), live),
            };
            Finding::new(level, "listen", endpoint, message)
        })
        .collect();
    for endpoint in &config.listen.sip {
        let (level, message) = match endpoint.transport {
            SipTransport::Udp => free(UdpSocket::bind(endpoint.address).map(drop), live),
            SipTransport::Tcp => free(TcpListener::bind(endpoint.address).map(drop), live),
        };
        found.push(Finding::new(level, "listen", endpoint, message));
    }
    if let Some(group) = &config.listen.socket_group
        && !matches!(Group::from_name(group), Ok(Some(_)))
    {
        found.push(Finding::new(Level::Error, "listen", group, "socket_group: there is no such group"));
    }
    found
}

/// Can a file be made beside `path`?
fn writable_directory(path: &Path) -> Result<(), String> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(directory) {
        Err(error) => return Err(format!("its directory {}: {error}", directory.display())),
        Ok(found) if !found.is_dir() => return Err(format!("{} is not a directory", directory.display())),
        Ok(_) => {}
    }
    access(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| format!("its directory {}: {}", directory.display(), error.desc()))
}

fn check_socket(path: &Path) -> (Level, String) {
    if let Err(message) = writable_directory(path) {
        return (Level::Error, message);
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Level::Ok, "free".to_owned()),
        Err(error) => (Level::Error, error.to_string()),
        Ok(found) if !found.file_type().is_socket() => {
            (Level::Error, "exists and is not a socket".to_owned())
        }
        Ok(_) if is_locked(path) => {
            (Level::Warn, "taken by a live instance of mqs: `mqs serve` would be refused".to_owned())
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => (Level::Error, "taken by another live process".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                (Level::Ok, "left over by a dead process: will be replaced".to_owned())
            }
            Err(error) => (Level::Error, error.to_string()),
        },
    }
}

/// A live instance holds the lock beside its socket.
fn is_locked(socket: &Path) -> bool {
    let mut lock = socket.as_os_str().to_owned();
    lock.push(".lock");
    File::open(PathBuf::from(lock)).is_ok_and(|file| file.try_lock_shared().is_err())
}

fn free(bound: io::Result<()>, live: bool) -> (Level, String) {
    match bound {
        Ok(()) => (Level::Ok, "free".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && live => {
            (Level::Warn, "taken, probably by the live instance of mqs".to_owned())
        }
        Err(error) => (Level::Error, error.to_string()),
    }
}

async fn check_nodes(config: &Config) -> Vec<Finding> {
    let resolver = match Resolver::new(&config.dns) {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => return vec![Finding::new(Level::Error, "node", "/etc/resolv.conf", error)],
    };
    let (mut findings, discovered) = discover::look(config).await;
    let turns = Arc::new(Semaphore::new(NODES_AT_ONCE));
    let mut asked = JoinSet::new();
    let of_file = config.pools.iter().flat_map(|pool| pool.nodes.iter().map(move |node| (&pool.name, node)));
    let of_file = of_file.map(|(pool, node)| (pool.clone(), node.clone()));
    let all: Vec<(PoolId, NodeConfig)> = of_file.chain(discovered).collect();
    let mut how: BTreeMap<&PoolId, How> = BTreeMap::new();
    for pool in &config.pools {
        match trust(pool) {
            Ok(trust) => drop(how.insert(&pool.name, How { trust: Some(trust), accept: pool.health.accept })),
            Err(error) => findings.push(Finding::new(Level::Error, "tls", &pool.name, format!("{error:#}"))),
        }
    }
    for (at, (pool, node)) in all.iter().enumerate() {
        let (resolver, turns) = (resolver.clone(), turns.clone());
        let how = how.get(pool).cloned().unwrap_or_default();
        let (name, node) = (format!("{pool}/{}", node.id), node.clone());
        asked.spawn(async move {
            let _turn = turns.acquire().await;
            (at, check_node(&resolver, &name, &node, &how).await)
        });
    }
    let mut found: Vec<(usize, Vec<Finding>)> = Vec::new();
    while let Some(done) = asked.join_next().await {
        found.extend(done);
    }
    found.sort_by_key(|(at, _)| *at);
    findings.extend(found.into_iter().flat_map(|(_, findings)| findings));
    findings.extend(ari::look(config, &all).await);
    findings
}

/// How the nodes of a pool are asked.
#[derive(Clone, Default)]
struct How {
    trust: Option<Trust>,
    accept: Accept,
}

async fn check_node(resolver: &Resolver, name: &str, node: &NodeConfig, how: &How) -> Vec<Finding> {
    // A node that is asked to be down, or to drain, may be away; that is worth a word only.
    let bad = match node.state {
        NodeState::Active => Level::Error,
        NodeState::Draining | NodeState::Down | NodeState::Removed => Level::Warn,
    };
    let places = match resolver.places(&node.uri).await {
        Ok(places) => places,
        Err(error) => return vec![Finding::new(bad, "node", name, format!("{}: {error}", node.uri))],
    };
    let Some(transport) = Transport::of(&node.uri) else {
        let message = format!("{}: not asked; only UDP, TCP and TLS are", node.uri);
        return vec![Finding::new(Level::Warn, "node", name, message)];
    };
    let mut found = Vec::new();
    for place in places {
        let (trust, id) = (how.trust.as_ref(), probe::fresh_id());
        let answer = probe::options(&node.uri, place, transport, trust, &id, NODE_PATIENCE).await;
        let over = transport.as_str();
        let (level, message) = match answer {
            Ok(answer) if how.accept.takes(answer.code) => {
                let took_ms = answer.took.as_secs_f64() * 1000.0;
                (Level::Ok, format!("{place} {over}: {} {}, {took_ms:.1} ms", answer.code, answer.reason))
            }
            Ok(answer) => {
                let why = if answer.code == 503 { "it takes no calls" } else { "not in health.accept" };
                (bad, format!("{place} {over}: {} {}: {why}", answer.code, answer.reason))
            }
            Err(error) => (bad, format!("{place} {over}: OPTIONS: {error}")),
        };
        found.push(Finding::new(level, "node", name, message));
    }
    found
}

fn table(findings: &[Finding]) -> String {
    let mut table =
        Table::new(&[("", Side::Left), ("WHAT", Side::Left), ("WHICH", Side::Left), ("FINDING", Side::Left)])
            .uncut();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => Cell::new("ok", Look::Green),
            Level::Warn => Cell::new("warn", Look::Yellow),
            Level::Error => Cell::new("error", Look::Red),
        };
        table.row(vec![
            level,
            finding.what.into(),
            Cell::from(&finding.culprit),
            Cell::from(&finding.message),
        ]);
    }
    table.render(colours())
}
