//! The redirect server side by side with a bare UDP echo, in one run: `make bench` → `target/bench/fleet.json`.
//!
//! Client and server each have a core (where there are two), one request is under way at a time, and the cases take turns: the
//! figures are medians over rounds, and the ratios compare cases of the same round. Absolute times on a shared machine say little.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mqs::clock::{self, Stopwatch};
use mqs::config::{Config, Endpoint};
use mqs::dispatch::settings::Settings;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::inbound::listen::Listener;
use mqs::inbound::{resp, sip};
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 15;
const REQUESTS: usize = 2_000;
const WARM_UP: usize = 500;

const CONFIG: &str = r#"
[listen]
sip = ["udp:127.0.0.1:0"]
[[pool]]
name = "default"
"#;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for a socket");
    pin(1);
    let server = Server::start(folder.path());
    pin(0);
    let mut cases = [
        Case::new("udp_echo", server.echo, &server, false),
        Case::new("redirect", server.sip, &server, true),
    ];
    for case in &mut cases {
        case.run(WARM_UP);
    }
    let mut rounds: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0..ROUNDS {
        eprint!("\rround {} of {ROUNDS}", round + 1);
        for case in &mut cases {
            let figures = case.run(REQUESTS);
            rounds.entry(case.name).or_default().push(figures);
        }
    }
    eprintln!();
    report(&rounds);
}

fn report(rounds: &BTreeMap<&str, Vec<(f64, f64)>>) {
    let of = |name: &str| {
        let (p50, p99) = (median(rounds[name].iter().map(|r| r.0)), median(rounds[name].iter().map(|r| r.1)));
        println!("{name:<14}{p50:>10.1}{p99:>10.1}");
        json!({"p50_us": p50, "p99_us": p99})
    };
    println!("{:<14}{:>10}{:>10}", "case", "p50 µs", "p99 µs");
    let cases = [("udp_echo", of("udp_echo")), ("redirect", of("redirect"))];
    let ratio = median(rounds["redirect"].iter().zip(&rounds["udp_echo"]).map(|(a, b)| a.0 / b.0));
    println!("redirect_over_udp_echo {ratio:.2}");

    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let file = target.join("bench/fleet.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    // Other benchmarks write their figures into the same file.
    let mut all: Value =
        std::fs::read(&file).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_else(|| json!({}));
    for (name, figures) in cases {
        all["cases"][name] = figures;
    }
    all["ratios"]["redirect_over_udp_echo"] = json!(ratio);
    all["rounds"]["redirect"] = json!({"rounds": ROUNDS, "requests_a_round": REQUESTS});
    std::fs::write(&file, format!("{all:#}\n")).unwrap();
    println!("written to {}", file.display());
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Keeps the calling thread, and those that it starts, on one core.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    if std::thread::available_parallelism().is_ok_and(|n| n.get() > core) && set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

struct Case {
    name: &'static str,
    socket: UdpSocket,
    /// Ends leases.
    settle: UnixStream,
    /// Whether the answers are redirects.
    redirects: bool,
    calls: u64,
}

impl Case {
    fn new(name: &'static str, to: SocketAddr, server: &Server, redirects: bool) -> Case {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Case { name, socket, settle: UnixStream::connect(&server.resp).unwrap(), redirects, calls: 0 }
    }

    /// p50 and p99, in µs.
    fn run(&mut self, requests: usize) -> (f64, f64) {
        let mut took: Vec<f64> = Vec::with_capacity(requests);
        let mut buffer = [0; 4096];
        for _ in 0..requests {
            self.calls += 1;
            let invite = self.invite();
            let clock = Stopwatch::start();
            self.socket.send(invite.as_bytes()).unwrap();
            let length = self.socket.recv(&mut buffer).expect("an answer");
            took.push(clock.elapsed().as_secs_f64() * 1e6);
            if self.redirects {
                self.end(&buffer[..length]);
            } else {
                assert_eq!(length, ECHO_ANSWER);
            }
        }
        took.sort_by(f64::total_cmp);
        (took[requests / 2], took[requests * 99 / 100])
    }

    /// An INVITE as a proxy sends it on, never asked before.
    fn invite(&self) -> String {
        let (call, name) = (self.calls, self.name);
        let local = self.socket.local_addr().unwrap();
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
            a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
        format!(
            "INVITE sip:100@example.com SIP/2.0\r\nRecord-Route: <sip:127.0.0.1;lr>\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call};rport\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK-{call};received=192.0.2.9\r\nMax-Forwards: 69\r\n\
             From: \"Caller\" <sip:caller@192.0.2.9>;tag=a1b2c3\r\nTo: <sip:100@example.com>\r\nCall-ID: {call}-{name}@bench\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:caller@192.0.2.9:5060>\r\nUser-Agent: bench\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    /// Ends the lease, outside the time that is measured, so that the table stays as it was.
    fn end(&mut self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        assert!(text.starts_with("SIP/2.0 302 ") && text.matches("\r\nContact: ").count() == 3, "{text}");
        let token = text.split(";mqs=").nth(1).and_then(|t| t.split('>').next()).expect("a token");
        self.settle
            .write_all(format!("*2\r\n$4\r\nDONE\r\n${}\r\n{token}\r\n", token.len()).as_bytes())
            .unwrap();
        let mut said = [0; 64];
        let length = self.settle.read(&mut said).unwrap();
        assert_eq!(&said[..length], b"$8\r\nOK ended\r\n");
    }
}

/// As long as a redirect to three targets.
const ECHO_ANSWER: usize = 1000;

/// Both servers, on one thread of their own.
struct Server {
    echo: SocketAddr,
    sip: SocketAddr,
    resp: PathBuf,
    stop: CancellationToken,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let stop = CancellationToken::new();
        let (token, path) = (stop.clone(), folder.join("resp"));
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let echo = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let at = echo.local_addr().unwrap();
                tokio::spawn(answer_echo(echo));
                let sip = serve(&path, &token).await;
                ready.send((at, sip, path)).unwrap();
                token.cancelled().await;
            });
        });
        let (echo, sip, resp) = wait.recv().expect("the servers start");
        Server { echo, sip, resp, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn answer_echo(socket: tokio::net::UdpSocket) {
    let (mut buffer, answer) = ([0; 4096], [b'x'; ECHO_ANSWER]);
    while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
        socket.send_to(&answer, from).await.unwrap();
    }
}

async fn serve(path: &Path, stop: &CancellationToken) -> SocketAddr {
    let nodes_text: String = (1..=8)
        .map(|n| {
            format!(
                "[[pool.node]]\nid = \"ast{n}\"\nuri = \"sip:127.0.1.{n}:5060\"\ncapacity = {}\n",
                500 + n * 50
            )
        })
        .collect();
    let config = Config::parse(&format!("{CONFIG}{nodes_text}"), "bench").expect("a configuration");
    let settings = Settings::from_config(&config, Secret::new(&[b'k'; 32]).unwrap()).unwrap();
    let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
    let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
    let from_file = nodes::from_config(&config);
    dispatcher.start(&from_file).await.expect("the store answers");
    tokio::spawn(dispatcher.clone().watch(from_file, true));
    let listener = Listener::bind(&Endpoint::Unix(path.to_owned()), &config.listen).await.unwrap();
    let options = resp::Options { connections_max: 16, idle_timeout_s: 60, token: None };
    tokio::spawn(resp::serve(listener, dispatcher.clone(), options, stop.clone()));
    let listener = sip::Listener::bind(&config.listen.sip[0]).await.unwrap();
    let address = listener.local().address;
    let options = sip::Options { connections_max: 16, message_timeout_ms: 5000, idle_timeout_s: 60 };
    tokio::spawn(sip::serve(listener, dispatcher, options, stop.clone()));
    address
}
