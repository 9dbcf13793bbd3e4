//! `mqs serve`: the service.
//!
//! * this file: start, listen, stop · [`cell`]: the queue · [`watchers`]: probes and look-ups, which go by the configuration as it is · [`reload`]: the
//!   configuration is read again

pub mod cell;
pub mod reload;
pub mod watchers;

use super::notify;
use crate::clock::{self, Stopwatch};
use crate::config::{Config, Endpoint, LogFormat, RedisUrl, StoreUrl};
use crate::dispatch::reload::Door;
use crate::dispatch::settings::Settings;
use crate::dispatch::{Dispatcher, nodes};
use crate::inbound::listen::Listener;
use crate::inbound::{http, resp, sip};
use crate::store::cell::CellStore;
use crate::store::file::FileStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::{Options, RedisStore};
use crate::store::{Store, StoreError};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;
use crate::wire::token::Secret;
use anyhow::{Context as _, anyhow, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use watchers::{Means, Watchers};

/// Where the configuration is unless somebody says otherwise.
pub const CONFIG_FILE: &str = "/etc/mqs/mqs.toml";

/// How long questions that are being answered may take after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// The largest file with a secret or a password, in bytes.
const SECRET_FILE_MAX: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  mqs serve
  mqs serve --config ./mqs.toml

The log goes to standard error. SIGTERM and SIGINT end the service: what was asked is still answered, for 5 s at most.
SIGHUP, or `mqs reload`, makes it read the file again; `mqs reload --help` tells more.
Under systemd (Type=notify) it reports when it is ready.";

/// Run the service: answer lookups until SIGTERM or SIGINT
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
}

/// Serves until a signal.
pub fn run(args: &Args, clock: Stopwatch) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config).context("cannot use the configuration")?;
    let started = log::start(config.log.format == LogFormat::Json, &config.log.filter);
    let filter = started.context("cannot start the log")?;
    for warning in config.warnings() {
        warn!(file = %args.config.display(), "{warning}");
    }
    raise_open_files();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(serve(args, config, filter, clock)).context("cannot serve")?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Args, config: Config, filter: log::Filter, clock: Stopwatch) -> anyhow::Result<()> {
    // Before anything can be asked: a signal that comes while starting must end the service too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let secret = secret(&config)?;
    let stores = open_store(&config).await?;
    let (door, asked) = Door::new();
    let mut running = Running::start(&config, secret, stores, Some(door)).await?;
    let ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    running.say_ready(&config, ms);
    if let Some(watchers) = running.watchers.take() {
        let queue = running.queue.take();
        let reloader = reload::Reloader::new(args.config.clone(), config, watchers, queue, filter);
        let until = running.stop.clone();
        running.tasks.spawn(async move { until.run_until_cancelled(reloader.run(asked, hangup)).await });
    }
    notify::say("READY=1");
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "stopping");
    notify::say("STOPPING=1");
    tokio::select! {
        () = running.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A service that answers.
pub struct Running {
    /// What answers.
    pub dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
    tasks: TaskTracker,
    listening: Vec<String>,
    watchers: Option<Watchers>,
    queue: Option<cell::Changed>,
}

/// A store, in both its roles.
pub struct Stores {
    /// Leases and nodes.
    pub leases: Arc<dyn Store>,
    /// Calls, agents and offers.
    pub cells: Arc<dyn CellStore>,
}

impl Stores {
    fn of<T: Store + CellStore>(store: T) -> Stores {
        let store = Arc::new(store);
        Stores { leases: store.clone(), cells: store }
    }
}

impl Running {
    /// Binds everything, and then serves it. `door`: where to ask for the configuration to be read again.
    pub async fn start(
        config: &Config,
        secret: Secret,
        stores: Stores,
        door: Option<Door>,
    ) -> anyhow::Result<Running> {
        let listen = &config.listen;
        let token = listen.token_file.as_deref().map(peers_token).transpose()?;
        let (resp, http) = (bind(&listen.resp, config).await?, bind(&listen.http, config).await?);
        let sip = bind_sip(config).await?;
        let nodes_own = config.cell.as_ref().map_or(&[][..], |cell| &cell.ari.listen);
        let nodes_own = bind(nodes_own, config).await?;
        let nodes_at: Vec<String> = nodes_own.iter().map(|l| shown("nodes", l)).collect();
        let settings = Settings::from_config(config, secret)?;
        let means = Means::for_config(config)?;
        let metrics = Arc::new(Metrics::new());
        metrics.started(clock::wall());
        let dispatcher = Dispatcher::new(settings, stores.leases, metrics);
        let from_file = nodes::from_config(config);
        let seeded = match dispatcher.start(&from_file).await {
            Ok(()) => true,
            // Waiting does not mend a wrong password or a replica.
            Err(error @ (StoreError::Refused { .. } | StoreError::Damaged { .. })) => {
                bail!("store.url {}: {error}", config.store.url)
            }
            Err(error @ (StoreError::Away { .. } | StoreError::Timeout { .. })) => {
                warn!(%error, "the store is away; answering from the nodes of the file until it is there");
                false
            }
        };

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (mut changed, mut desk) = (None, None);
        if let Some(started) = cell::start(config, &dispatcher, stores.cells)? {
            tasks.spawn(started.queue.run(stop.clone()));
            for listener in nodes_own {
                tasks.spawn(cell::take_nodes(listener, started.nodes.clone(), listen, stop.clone()));
            }
            (changed, desk) = (Some(started.changed), Some(started.desk));
        }
        let listening = resp.iter().map(|l| shown("resp", l)).chain(http.iter().map(|l| shown("http", l)));
        let listening = listening.chain(sip.iter().map(|l| format!("sip={}", l.local())));
        let listening = listening.chain(nodes_at).collect();
        let watch = dispatcher.clone().watch(from_file, seeded);
        let until = stop.clone();
        tasks.spawn(async move { until.run_until_cancelled(watch).await });
        let mut watchers = Watchers::new(dispatcher.clone(), tasks.clone(), stop.clone());
        watchers.follow(config, means, false).await;
        for listener in resp {
            let options = resp::Options {
                connections_max: listen.connections_max,
                idle_timeout_s: listen.idle_timeout_s,
                token: token.clone(),
            };
            tasks.spawn(resp::serve(listener, dispatcher.clone(), options, stop.clone()));
        }
        for listener in http {
            let options = http::Options {
                connections_max: listen.connections_max,
                body_max_bytes: listen.body_max_bytes,
                header_timeout_ms: listen.header_timeout_ms,
                idle_timeout_s: listen.idle_timeout_s,
                token: token.clone(),
                reload: door.clone(),
                desk: desk.clone(),
            };
            tasks.spawn(http::serve(listener, dispatcher.clone(), options, stop.clone()));
        }
        for listener in sip {
            let options = sip::Options {
                connections_max: listen.connections_max,
                message_timeout_ms: listen.header_timeout_ms,
                idle_timeout_s: listen.idle_timeout_s,
            };
            tasks.spawn(sip::serve(listener, dispatcher.clone(), options, stop.clone()));
        }
        tasks.close();
        Ok(Running { dispatcher, stop, tasks, listening, watchers: Some(watchers), queue: changed })
    }

    /// Takes no more questions, and waits for those that are being answered, for [`GRACE`] at most.
    pub async fn stop(&self) {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            warn!(after_s = GRACE.as_secs(), "connections were still open");
        }
    }

    fn say_ready(&self, config: &Config, start_ms: u64) {
        let pools: Vec<&str> = config.pools.iter().map(|p| p.name.as_str()).collect();
        let nodes: usize =
            self.dispatcher.pools().map(|p| crate::dispatch::shown(&p.seen().view).count()).sum();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            instance = %config.instance.id,
            listening = self.listening.join(" "),
            store = %config.store.url,
            pools = pools.join(" "),
            nodes,
            start_ms,
            "ready"
        );
    }
}

/// A Redis, certified by whom the configuration names.
pub fn open_redis(config: &Config, url: &RedisUrl) -> anyhow::Result<RedisStore> {
    let options = Options { timeout: Duration::from_millis(config.store.timeout_ms) };
    // Without TLS there is nothing to certify; a warning says so.
    let file = config.store.ca_file.as_ref().filter(|_| url.is_tls());
    let ca =
        file.map(|file| std::fs::read(file).with_context(|| format!("store.ca_file {}", file.display())));
    RedisStore::connect_trusting(url.secret(), options, ca.transpose()?.as_deref())
        .with_context(|| format!("store.url {url}"))
}

/// The store that the configuration names.
pub async fn open_store(config: &Config) -> anyhow::Result<Stores> {
    match &config.store.url {
        StoreUrl::Memory => Ok(Stores::of(MemoryStore::new(Box::new(clock::wall)))),
        StoreUrl::File(path) => {
            let timeout = Duration::from_millis(config.store.timeout_ms);
            let path = path.clone();
            let opened =
                tokio::task::spawn_blocking(move || FileStore::open(&path, Box::new(clock::wall), timeout));
            Ok(Stores::of(opened.await?.context("store.url")?))
        }
        StoreUrl::Redis(url) => Ok(Stores::of(open_redis(config, url)?)),
    }
}

/// The key of the tokens: from the file, or drawn for the life of this process.
fn secret(config: &Config) -> anyhow::Result<Secret> {
    let Some(file) = &config.token.secret_file else {
        return drawn_secret();
    };
    let (secret, open_to_others) = read_secret(file)?;
    if open_to_others {
        warn!(file = %file.display(), "token.secret_file can be read by every user of this host: chmod o= it");
    }
    Ok(secret)
}

/// A key for the life of this process.
pub fn drawn_secret() -> anyhow::Result<Secret> {
    let mut drawn = [0; 32];
    getrandom::fill(&mut drawn).map_err(|e| anyhow!("no random bytes for the token secret: {e}"))?;
    // As hexadecimal: white space at the ends of a secret does not count, and a random byte may be white space.
    let text: String = drawn.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Secret::new(text.as_bytes())?)
}

/// The secret of a file, and whether every user of the host may read it.
pub fn read_secret(file: &Path) -> anyhow::Result<(Secret, bool)> {
    let at = || format!("token.secret_file {}", file.display());
    let (bytes, open_to_others) = read_small(file).with_context(at)?;
    Ok((Secret::new(&bytes).with_context(at)?, open_to_others))
}

/// What peers must show on TCP.
pub fn peers_token(file: &Path) -> anyhow::Result<Arc<str>> {
    word_of("listen.token_file", file)
}

/// The one word of a file that `key` names.
fn word_of(key: &str, file: &Path) -> anyhow::Result<Arc<str>> {
    let at = || format!("{key} {}", file.display());
    let (bytes, _) = read_small(file).with_context(at)?;
    let text = std::str::from_utf8(bytes.trim_ascii()).unwrap_or("");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("{}: must hold one word of printable ASCII", at());
    }
    Ok(Arc::from(text))
}

fn read_small(file: &Path) -> anyhow::Result<(Vec<u8>, bool)> {
    let opened = File::open(file).context("cannot be read")?;
    let mode = opened.metadata().context("cannot be read")?.permissions().mode();
    let mut bytes = Vec::new();
    let read = opened.take(SECRET_FILE_MAX + 1).read_to_end(&mut bytes).context("cannot be read")?;
    if u64::try_from(read).is_ok_and(|n| n > SECRET_FILE_MAX) {
        bail!("larger than {SECRET_FILE_MAX} bytes");
    }
    Ok((bytes, mode & 0o004 != 0))
}

async fn bind(endpoints: &[Endpoint], config: &Config) -> anyhow::Result<Vec<Listener>> {
    let mut bound = Vec::new();
    for endpoint in endpoints {
        bound.push(Listener::bind(endpoint, &config.listen).await.context("cannot listen")?);
    }
    Ok(bound)
}

async fn bind_sip(config: &Config) -> anyhow::Result<Vec<sip::Listener>> {
    let mut bound = Vec::new();
    for endpoint in &config.listen.sip {
        let listener = sip::Listener::bind(endpoint).await;
        bound.push(listener.with_context(|| format!("cannot listen: {endpoint}"))?);
    }
    Ok(bound)
}

fn shown(what: &str, listener: &Listener) -> String {
    match listener.local_addr() {
        Some(address) => format!("{what}={address}"),
        None => format!("{what}={}", listener.endpoint()),
    }
}

/// Each connection is an open file: take as many as this process may have.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}
