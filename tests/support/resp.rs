//! A real RESP server over a Unix socket, or over TLS, and clients that write and read bytes.

use mqs::clock;
use mqs::config::{Config, Endpoint, Listen};
use mqs::dispatch::cell::Cell;
use mqs::dispatch::{Dispatcher, nodes, settings::Settings};
use mqs::inbound::listen::Listener;
use mqs::inbound::resp::{Options, serve};
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Two pools: `default` with three nodes, `tiny` with room for one call. The examples of docs/control-protocol.md use it, too.
pub const CONFIG: &str = r#"
[instance]
id = "mqs1"
[store]
url = "memory:"
[[pool]]
name = "default"
[pool.register]
networks = ["127.0.0.0/8"]
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
zone = "a"
[[pool.node]]
id = "ast2"
uri = "sip:127.0.1.2:5060"
capacity = 900
zone = "b"
tags = ["video"]
[[pool]]
name = "tiny"
retry_after_s = 7
refuse_code = 486
[[pool.node]]
id = "only"
uri = "sip:127.0.2.1:5060"
capacity = 1
"#;

pub fn options() -> Options {
    Options { connections_max: 64, idle_timeout_s: 30, token: None }
}

pub fn listen(text: &str) -> Listen {
    let text = format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n{text}\n{CONFIG}");
    Config::parse(&text, "mqs.toml").unwrap().listen
}

pub struct Server {
    pub dispatcher: Arc<Dispatcher>,
    pub socket: PathBuf,
    pub tcp: Option<SocketAddr>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Server {
        Server::with(options()).await
    }

    pub async fn with(options: Options) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(dir.path().join("mqs.sock"));
        Server::on(dir, endpoint, options, &listen("")).await
    }

    pub async fn on(dir: tempfile::TempDir, at: Endpoint, options: Options, listen: &Listen) -> Server {
        let config = Config::parse(CONFIG, "mqs.toml").unwrap();
        let settings = Settings::from_config(&config, Secret::new(&[7; 32]).unwrap()).unwrap();
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let dispatcher = Dispatcher::new(settings, store.clone(), Arc::new(Metrics::new()));
        dispatcher.serve_cell(Cell { id: "main".parse().unwrap(), store });
        dispatcher.start(&nodes::from_config(&config)).await.unwrap();
        let listener = Listener::bind(&at, listen).await.unwrap();
        let (socket, tcp) = (dir.path().join("mqs.sock"), listener.local_addr());
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, dispatcher.clone(), options, stop.clone()));
        Server { dispatcher, socket, tcp, stop, task, _dir: dir }
    }

    /// A connection that writes and reads bytes.
    pub async fn raw(&self) -> Raw<UnixStream> {
        Raw(UnixStream::connect(&self.socket).await.unwrap())
    }

    /// A connection of the `redis` crate.
    pub async fn client(&self) -> redis::aio::MultiplexedConnection {
        let url = format!("redis+unix://{}", self.socket.display());
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// How many live leases a node has.
    pub async fn load(&self, node: &str) -> u32 {
        let nodes = self.dispatcher.list(None).await.unwrap();
        nodes.iter().find(|n| n.id == node).unwrap().load
    }
}

pub struct Raw<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer is exactly this.
    pub async fn hear(&mut self, answer: &str) {
        let mut found = vec![0; answer.len()];
        let read = timeout(Duration::from_secs(5), self.0.read_exact(&mut found)).await;
        let found = String::from_utf8_lossy(&found);
        assert!(matches!(read, Ok(Ok(_))), "{read:?} after {found:?}; expected {answer:?}");
        assert!(found == answer, "{:.200} instead of {:.200}", found, answer);
    }

    /// All that comes until the server closes the connection.
    pub async fn last_words(&mut self) -> String {
        let mut found = Vec::new();
        let read = timeout(Duration::from_secs(5), self.0.read_to_end(&mut found)).await;
        // A server that closes with something unread resets the connection, behind its last words.
        assert!(read.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&found));
        String::from_utf8_lossy(&found).into_owned()
    }
}

/// A command as an array of bulk strings.
pub fn array(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The real `redis-cli`, or `None` and a word about it.
pub fn redis_cli() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("redis-cli")).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: redis-cli is not installed (Debian: apt install redis-tools)");
    }
    found
}

/// Runs a line in a shell, with `token` in its environment; what it writes, errors included.
pub async fn shell(line: &str, token: &str, dir: &Path) -> String {
    let (line, token, dir) = (line.to_owned(), token.to_owned(), dir.to_owned());
    let run = move || {
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .env("TOKEN", token)
            .current_dir(dir)
            .stdin(std::process::Stdio::null())
            .output();
        let output = output.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
