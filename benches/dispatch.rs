//! Lookups side by side with what they are made of, in one run: `make bench` → `target/bench/dispatch.json`.
//!
//! Client and server each have a core (where there are two), one request is under way at a time, and the cases take turns: the
//! figures are medians over rounds, and the ratios compare cases of the same round. Absolute times on a shared machine say little.
//! Redis is on the server's core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use mqs::clock::{self, Stopwatch};
use mqs::config::{Config, Endpoint};
use mqs::dispatch::settings::Settings;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::inbound::listen::Listener;
use mqs::inbound::{http, resp};
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::redis::{Redis, Single};
use support::{full_or_quick, median, pin, round};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const WARM_UP: usize = 500;

const CONFIG: &str = r#"
[token]
secret_file = "/nowhere"
[listen]
resp = ["unix:/nowhere/resp"]
http = ["unix:/nowhere/http"]
[[pool]]
name = "default"
"#;

fn main() {
    if support::is_test() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for sockets");
    pin(1);
    let redis = Redis::start(folder.path());
    let server = Server::start(folder.path(), redis.as_ref());
    pin(0);

    let mut cases: Vec<Case> = vec![
        Case::new("echo", server.at("echo"), Kind::Echo),
        Case::new("resp_memory", server.at("memory.resp"), Kind::Resp),
        Case::new("http_memory", server.at("memory.http"), Kind::Http),
    ];
    if redis.is_some() {
        cases.push(Case::new("resp_redis", server.at("redis.resp"), Kind::Resp));
    }
    let mut script = redis.as_ref().map(|redis| Single::new(redis, 8));
    let (round_count, requests) = (full_or_quick(15, 5), full_or_quick(2_000, 1_000));
    for case in &mut cases {
        case.run(WARM_UP);
    }
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    for round in 0..round_count {
        eprint!("\rround {} of {round_count}", round + 1);
        for case in &mut cases {
            let figures = case.run(requests);
            rounds.entry(case.name).or_default().push(figures);
        }
        if let Some(script) = &mut script {
            rounds.entry("script").or_default().push(directly(script, requests));
        }
    }
    eprintln!();
    report(&rounds, requests);
}

/// One script call a pick, with the writes of `resp_redis` and nothing around it.
fn directly(script: &mut Single, requests: usize) -> Round {
    let took = (0..requests).map(|_| {
        let question = script.question();
        let clock = Stopwatch::start();
        script.ask(&question, 1);
        let took = clock.elapsed().as_secs_f64() * 1e6;
        script.clear();
        took
    });
    Round::of(took.collect())
}

#[derive(Clone, Copy)]
struct Round {
    p50_us: f64,
    p99_us: f64,
}

impl Round {
    fn of(took: Vec<f64>) -> Round {
        Round { p50_us: support::quantile(took.iter().copied(), 0.5), p99_us: support::quantile(took, 0.99) }
    }
}

fn report(rounds: &BTreeMap<&str, Vec<Round>>, requests: usize) {
    let p50 = |name: &str| rounds[name].iter().map(|r| r.p50_us);
    let over = |a: &str, b: Vec<f64>| round(median(p50(a).zip(b).map(|(a, b)| a / b)));
    let echo: Vec<f64> = p50("echo").collect();
    let mut ratios = json!({
        "resp_memory_over_echo": over("resp_memory", echo.clone()),
        "http_memory_over_echo": over("http_memory", echo.clone()),
    });
    let redis = rounds.contains_key("resp_redis");
    if redis {
        let floor = p50("echo").zip(p50("script")).map(|(echo, script)| echo + script).collect();
        ratios["resp_redis_over_floor"] = json!(over("resp_redis", floor));
        ratios["resp_redis_over_echo"] = json!(over("resp_redis", echo));
    }
    let cases: BTreeMap<&str, Value> = rounds
        .iter()
        .map(|(name, r)| {
            let p99 = median(r.iter().map(|r| r.p99_us));
            (*name, json!({"p50_us": round(median(p50(name))), "p99_us": round(p99)}))
        })
        .collect();
    println!("{:<14}{:>10}{:>10}", "case", "p50 µs", "p99 µs");
    for (name, figures) in &cases {
        println!("{name:<14}{:>10}{:>10}", figures["p50_us"], figures["p99_us"]);
    }
    println!("{ratios:#}");
    let skipped = if redis { json!([]) } else { json!(["resp_redis: no redis-server on the PATH"]) };
    let count = rounds["echo"].len();
    support::add(json!({
        "rounds": count, "requests_a_round": requests, "cases": cases, "ratios": ratios, "skipped": skipped,
    }));
}

#[derive(Clone, Copy)]
enum Kind {
    Echo,
    Resp,
    Http,
}

struct Case {
    name: &'static str,
    stream: UnixStream,
    kind: Kind,
    calls: u64,
    /// Length of an answer, once it is known: the echo answers as much.
    buffer: Vec<u8>,
}

impl Case {
    fn new(name: &'static str, path: PathBuf, kind: Kind) -> Case {
        let stream = UnixStream::connect(&path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Case { name, stream, kind, calls: 0, buffer: vec![0; 64 * 1024] }
    }

    fn run(&mut self, requests: usize) -> Round {
        let mut took: Vec<f64> = Vec::with_capacity(requests);
        for _ in 0..requests {
            self.calls += 1;
            let (ask, tokens) = self.question();
            let clock = Stopwatch::start();
            self.stream.write_all(ask.as_bytes()).unwrap();
            let answer = self.answer();
            took.push(clock.elapsed().as_secs_f64() * 1e6);
            if tokens {
                self.end(&answer);
            }
        }
        Round::of(took)
    }

    /// A lookup that was never asked before.
    fn question(&self) -> (String, bool) {
        let (call, uri) = (format!("{}-{}@bench", self.calls, self.name), "sip:100@example.com");
        match self.kind {
            Kind::Resp => {
                let attributes = "ft=a1b2c3;cs=1;src=192.0.2.1:5060";
                let parts = ["ROUTE", &call, uri, attributes];
                let args: String = parts.iter().map(|p| format!("${}\r\n{p}\r\n", p.len())).collect();
                (format!("*4\r\n{args}"), true)
            }
            Kind::Http => {
                let body =
                    json!({"call_id": call, "request_uri": uri, "from_tag": "a1b2c3", "cseq": 1}).to_string();
                let head = "POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Type: application/json\r\n";
                (format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), true)
            }
            // As long as the others' questions; the answer is as long as theirs.
            Kind::Echo => (format!("{:0>130}", self.calls), false),
        }
    }

    fn answer(&mut self) -> Vec<u8> {
        let mut got = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[got..]).expect("an answer");
            assert!(read > 0, "{}: the server closed the connection", self.name);
            got += read;
            if whole(self.kind, &self.buffer[..got]) {
                return self.buffer[..got].to_vec();
            }
        }
    }

    /// Ends the lease, outside the time that is measured, so that the table stays as it was.
    fn end(&mut self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        let token =
            text.split("\"token\":\"").nth(1).and_then(|t| t.split('"').next()).expect("a token").to_owned();
        let ask = match self.kind {
            Kind::Resp => format!("*2\r\n$4\r\nDONE\r\n${}\r\n{token}\r\n", token.len()),
            Kind::Http => {
                let body = json!({"token": token}).to_string();
                let head = "POST /v1/done HTTP/1.1\r\nHost: mqs\r\nContent-Type: application/json\r\n";
                format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
            }
            Kind::Echo => return,
        };
        self.stream.write_all(ask.as_bytes()).unwrap();
        self.answer();
    }
}

/// Whether an answer is complete.
fn whole(kind: Kind, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match kind {
        Kind::Echo => bytes.len() >= ECHO_ANSWER,
        Kind::Resp => match text.strip_prefix('$').and_then(|t| t.split_once("\r\n")) {
            Some((length, rest)) => rest.len() >= length.parse::<usize>().expect("a length") + 2,
            None => {
                assert!(!text.starts_with('-'), "{text}");
                false
            }
        },
        Kind::Http => match text.split_once("\r\n\r\n") {
            Some((head, body)) => {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                let lower = head.to_ascii_lowercase();
                let length =
                    lower.split("content-length: ").nth(1).and_then(|l| l.lines().next()).expect("a length");
                body.len() >= length.trim().parse().expect("a length")
            }
            None => false,
        },
    }
}

/// As long as a route document with three targets.
const ECHO_ANSWER: usize = 1200;

/// All servers, on one thread of their own.
struct Server {
    folder: PathBuf,
    stop: CancellationToken,
}

impl Server {
    fn start(folder: &Path, redis: Option<&Redis>) -> Server {
        let stop = CancellationToken::new();
        let (token, home, url) = (stop.clone(), folder.to_owned(), redis.map(|r| r.url.clone()));
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Box::new(clock::wall)));
                serve(&home, "memory", memory, &token).await;
                if let Some(url) = url {
                    let options = Options { timeout: Duration::from_millis(500) };
                    let store = RedisStore::connect(&url, options).expect("a URL");
                    serve(&home, "redis", Arc::new(store), &token).await;
                }
                let echo = tokio::net::UnixListener::bind(home.join("echo")).unwrap();
                tokio::spawn(async move {
                    while let Ok((stream, _)) = echo.accept().await {
                        tokio::spawn(answer_echo(stream));
                    }
                });
                ready.send(()).unwrap();
                token.cancelled().await;
            });
        });
        wait.recv().expect("the servers start");
        Server { folder: folder.to_owned(), stop }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn answer_echo(mut stream: tokio::net::UnixStream) {
    let (mut buffer, answer) = ([0; 4096], [b'x'; ECHO_ANSWER]);
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn serve(folder: &Path, name: &str, store: Arc<dyn Store>, stop: &CancellationToken) {
    let nodes_text: String = (1..=8)
        .map(|n| {
            format!(
                "[[pool.node]]\nid = \"ast{n}\"\nuri = \"sip:127.0.1.{n}:5060\"\ncapacity = {}\n",
                500 + n * 50
            )
        })
        .collect();
    let config = Config::parse(&format!("{CONFIG}{nodes_text}"), "bench").expect("a configuration");
    let secret = Secret::new(&[b'k'; 32]).unwrap();
    let settings = Settings::from_config(&config, secret).unwrap();
    let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
    let from_file = nodes::from_config(&config);
    dispatcher.start(&from_file).await.expect("the store answers");
    tokio::spawn(dispatcher.clone().watch(from_file, true));
    let at = |kind: &str| Endpoint::Unix(folder.join(format!("{name}.{kind}")));
    let listener = Listener::bind(&at("resp"), &config.listen).await.unwrap();
    let options = resp::Options { connections_max: 16, idle_timeout_s: 60, token: None };
    tokio::spawn(resp::serve(listener, dispatcher.clone(), options, stop.clone()));
    let listener = Listener::bind(&at("http"), &config.listen).await.unwrap();
    let options = http::Options {
        connections_max: 16,
        body_max_bytes: 65_536,
        header_timeout_ms: 5_000,
        idle_timeout_s: 60,
        token: None,
        reload: None,
        desk: None,
    };
    tokio::spawn(http::serve(listener, dispatcher, options, stop.clone()));
}
