//! One pool of 1,000 nodes that are probed by OPTIONS over UDP each five seconds: the share of a core that it takes. The nodes have a
//! thread of their own, which does not count; everything else runs on this one.

use super::cpu_ms;
use mqs::clock::{self, Stopwatch};
use mqs::config::{Config, DnsConfig};
use mqs::dispatch::settings::Settings;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::outbound::dns::Resolver;
use mqs::outbound::prober::OptionsProber;
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NODES: usize = 1000;
const EVERY_MS: u64 = 5000;

pub fn measure() -> Value {
    let answered = Arc::new(AtomicU64::new(0));
    let places = answer_all(&answered);
    let mut text = format!("[[pool]]\nname = \"main\"\n[pool.health]\nprobe_every_ms = {EVERY_MS}\n");
    for (n, place) in places.iter().enumerate() {
        let _ = write!(text, "[[pool.node]]\nid = \"n{n}\"\nuri = \"sip:{place}\"\ncapacity = 900\n");
    }
    let config = Config::parse(&text, "bench").unwrap();
    let seconds = if std::env::var_os("MQS_BENCH_QUICK").is_some() { 11 } else { 31 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = Settings::from_config(&config, Secret::new(&[b'k'; 32]).unwrap()).unwrap();
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
        let from_file = nodes::from_config(&config);
        dispatcher.start(&from_file).await.unwrap();
        tokio::spawn(dispatcher.clone().watch(from_file, true));
        let dns = DnsConfig { servers: vec!["127.0.0.1:9".parse().unwrap()], timeout_ms: 100 };
        let prober = Arc::new(OptionsProber::new(Resolver::new(&dns).unwrap(), BTreeMap::new()));
        tokio::spawn(dispatcher.clone().probe(prober));
        // The first round is spread over its interval.
        tokio::time::sleep(Duration::from_millis(EVERY_MS + 1500)).await;
        let (clock, cpu, before) = (Stopwatch::start(), cpu_ms(), answered.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let took = clock.elapsed().as_secs_f64();
        let core_percent = (cpu_ms() - cpu) / took / 10.0;
        let probes = answered.load(Ordering::Relaxed) - before;
        let per_s = probes as f64 / took;
        let wanted = NODES as f64 * 1000.0 / EVERY_MS as f64;
        assert!((per_s - wanted).abs() < 0.1 * wanted, "{per_s:.0} probes a second, not {wanted:.0}");
        let all = dispatcher.list(None).await.unwrap();
        assert!(all.iter().all(|node| node.health == "up"), "a node was missed");
        json!({
            "nodes": NODES, "every_ms": EVERY_MS, "seconds": seconds,
            "probes_a_second": per_s, "core_percent": core_percent,
        })
    })
}

/// Nodes that say 200 to everything.
fn answer_all(answered: &Arc<AtomicU64>) -> Vec<SocketAddr> {
    let sockets: Vec<std::net::UdpSocket> = (0..NODES)
        .map(|n| std::net::UdpSocket::bind((format!("127.{}.{}.1", 30 + n / 250, n % 250), 0)).unwrap())
        .collect();
    let places = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let answered = answered.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for socket in sockets {
                socket.set_nonblocking(true).unwrap();
                let (socket, answered) = (tokio::net::UdpSocket::from_std(socket).unwrap(), answered.clone());
                tasks.spawn(async move {
                    let mut buffer = [0; 2048];
                    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                        let _ = socket.send_to(answer(&buffer[..length]).as_bytes(), from).await;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            tasks.join_all().await;
        });
    });
    places
}

fn answer(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let kept = |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
    for line in text.lines().filter(kept) {
        let _ = write!(answer, "{line}\r\n");
    }
    let to = text.lines().find(|line| line.starts_with("To:")).unwrap_or("To: <sip:x>");
    let _ = write!(answer, "{to};tag=n\r\nContent-Length: 0\r\n\r\n");
    answer
}
