//! A real server over TCP and a Unix socket, and a client that writes and reads bytes.

use mqs::clock;
use mqs::config::{Config, Endpoint};
use mqs::dispatch::cell::Cell;
use mqs::dispatch::{Dispatcher, nodes, settings::Settings};
pub use mqs::inbound::http::Options;
use mqs::inbound::http::serve;
use mqs::inbound::listen::Listener;
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Two pools: `default` with three nodes of 10 channels, `tiny` with one of one.
pub const CONFIG: &str = r#"
[store]
url = "memory:"
[[pool]]
name = "default"
[pool.register]
networks = ["127.0.0.0/8", "10.0.0.0/8"]
capacity_max = 1000
nodes_max = 3
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 10
zone = "a"
[[pool.node]]
id = "ast2"
uri = "sip:127.0.1.2:5060"
capacity = 10
zone = "b"
tags = ["video"]
[[pool.node]]
id = "ast3"
uri = "sip:127.0.1.3:5060"
capacity = 10
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
    Options {
        connections_max: 64,
        body_max_bytes: 65_536,
        header_timeout_ms: 400,
        idle_timeout_s: 30,
        token: None,
        reload: None,
        desk: None,
    }
}

pub struct Server {
    pub dispatcher: Arc<Dispatcher>,
    pub tcp: SocketAddr,
    pub socket: PathBuf,
    pub stop: CancellationToken,
    pub tasks: Vec<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

pub async fn dispatcher(store: Arc<dyn Store>) -> Arc<Dispatcher> {
    let config = Config::parse(CONFIG, "mqs.toml").unwrap();
    let settings = Settings::from_config(&config, Secret::new(&[7; 32]).unwrap()).unwrap();
    let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
    let cell = Arc::new(MemoryStore::new(Box::new(clock::wall)));
    dispatcher.serve_cell(Cell { id: "main".parse().unwrap(), store: cell });
    // A store that is away leaves the pools unread, as in life.
    let _ = dispatcher.start(&nodes::from_config(&config)).await;
    dispatcher
}

pub fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Box::new(clock::wall)))
}

impl Server {
    pub async fn start() -> Server {
        Server::with(memory(), options(), "127.0.0.1:0", "").await
    }

    pub async fn with_options(options: Options) -> Server {
        Server::with(memory(), options, "127.0.0.1:0", "").await
    }

    /// `listen` is text for the table of that name.
    pub async fn with(store: Arc<dyn Store>, options: Options, tcp: &str, listen: &str) -> Server {
        let dispatcher = dispatcher(store).await;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("http.sock");
        let text = format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n{listen}\n{CONFIG}");
        let listen = Config::parse(&text, "mqs.toml").unwrap().listen;
        let stop = CancellationToken::new();
        let on_tcp = Listener::bind(&Endpoint::Tcp(tcp.parse().unwrap()), &listen).await.unwrap();
        let on_unix = Listener::bind(&Endpoint::Unix(socket.clone()), &listen).await.unwrap();
        let tcp = SocketAddr::from(([127, 0, 0, 1], on_tcp.local_addr().unwrap().port()));
        let run = |listener| tokio::spawn(serve(listener, dispatcher.clone(), options.clone(), stop.clone()));
        let tasks = vec![run(on_tcp), run(on_unix)];
        Server { dispatcher: dispatcher.clone(), tcp, socket, stop, tasks, _dir: dir }
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.tcp).await.unwrap()
    }

    pub async fn unix(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// One request over TCP, on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.ask_with(method, path, &[], body).await
    }

    pub async fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = self.tcp().await;
        stream.write_all(request(method, path, headers, body).as_bytes()).await.unwrap();
        let reply = Reply::read(&mut stream).await.expect("an answer");
        super::schema::documented(method, path, body, &reply);
        reply
    }

    pub async fn route(&self, members: &str) -> Reply {
        self.ask("POST", "/v1/route", &ask_body(members)).await
    }
}

/// A body for `route` and `explain`; `members` begins with a Call-ID: `"c1"` or `"c1","zone":"a"`.
pub fn ask_body(members: &str) -> String {
    format!(r#"{{"request_uri":"sip:100@example.com","call_id":{members}}}"#)
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: mqs\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" || method == "PATCH" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// Reads one answer; `None`: the server closed the connection first.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Reply> {
        tokio::time::timeout(Duration::from_secs(10), Reply::read_now(stream))
            .await
            .expect("an answer in time")
    }

    async fn read_now(stream: &mut (impl AsyncRead + Unpin)) -> Option<Reply> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let mut reply = Reply { status, headers, body: String::new() };
        if status >= 200 && status != 204 {
            let length: usize = reply.header("content-length").expect("a length").parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            reply.body = String::from_utf8(body).unwrap();
        }
        Some(reply)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        assert!(!self.body.contains('\n'), "one line: {}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The status, and the problem document, which agrees with it.
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let retry = problem["retry_after_s"].as_u64().map(|s| s.to_string());
        assert_eq!(self.header("retry-after"), retry.as_deref(), "{self:?}");
        problem
    }
}

/// Writes and reads what fits, until the server closes or nothing more comes for `quiet`.
pub async fn talk<S>(stream: &mut S, bytes: &[u8], quiet: Duration) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A server that closes early is what some of these tests are about.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let mut space = [0; 4096];
    while let Ok(Ok(n)) = tokio::time::timeout(quiet, stream.read(&mut space)).await {
        if n == 0 {
            break;
        }
        heard.extend_from_slice(&space[..n]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// `curl`, when it is there.
pub async fn curl(socket: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--max-time", "5", "--unix-socket"]).arg(socket).args(arguments);
    match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Ok(done) => {
            assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
            Some(String::from_utf8(done.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}
