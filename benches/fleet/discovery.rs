//! One pool of 1,000 nodes in the DNS: the share of a core that looking for them takes, asking and deciding included. The server
//! has a thread of its own, which does not count; everything else runs on this one.

use super::cpu_ms;
use crate::authority::Authority;
use mqs::clock::{self, Stopwatch};
use mqs::config::Config;
use mqs::dispatch::discovery::{self, Find};
use mqs::dispatch::settings::Settings;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::outbound::dns::Finder;
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::token::Secret;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NODES: usize = 1000;
const TTL_S: u64 = 5;

pub fn measure() -> Value {
    let servers: String = (0..NODES)
        .map(|n| {
            let address = format!("127.{}.{}.1", 10 + n / 250, n % 250);
            format!("_sip._udp.srv {TTL_S} IN SRV 10 {n} 5060 n{n}\nn{n} {TTL_S} IN A {address}\nflat {TTL_S} IN A {address}\n")
        })
        .collect();
    let authority = Authority::start(&servers);
    let seconds = if std::env::var_os("MQS_BENCH_QUICK").is_some() { 11 } else { 31 };
    let srv = case(&authority, "_sip._udp.srv.example", seconds);
    let asked: u32 = authority.asked().into_values().sum();
    let flat = case(&authority, "sip:flat.example:5060", seconds);
    json!({"nodes": NODES, "ttl_s": TTL_S, "seconds": seconds, "srv": srv, "srv_questions": asked, "addresses": flat})
}

fn case(authority: &Authority, name: &str, seconds: u64) -> Value {
    let text = format!(
        "[dns]\nservers = [\"{}\"]\n[[pool]]\nname = \"main\"\n[pool.discover]\nname = \"{name}\"\ncapacity = 900\nnodes_max = 2048\n",
        authority.address
    );
    let config = Config::parse(&text, "bench").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = Settings::from_config(&config, Secret::new(&[b'k'; 32]).unwrap()).unwrap();
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
        dispatcher.start(&nodes::from_config(&config)).await.unwrap();
        let find: Arc<dyn Find> = Arc::new(Finder::new(&config.dns).unwrap());
        let mut discovery = dispatcher.discoveries(discovery::from_config(&config), &find).remove(0);
        let (clock, cpu) = (Stopwatch::start(), cpu_ms());
        let next = discovery.look().await;
        let (first_ms, first_cpu_ms) = (clock.elapsed().as_millis(), cpu_ms() - cpu);
        let found = dispatcher.list(None).await.unwrap().len();
        assert_eq!(found, NODES, "{name}");
        assert_eq!(next, Duration::from_secs(TTL_S));
        let (clock, cpu) = (Stopwatch::start(), cpu_ms());
        let _ = tokio::time::timeout(Duration::from_secs(seconds), discovery.watch(next)).await;
        let used_ms = cpu_ms() - cpu;
        let core_percent = used_ms / clock.elapsed().as_secs_f64() / 10.0;
        assert!(core_percent < 2.0, "{name}: {core_percent:.2} % of a core");
        json!({"first_look_ms": first_ms, "first_look_cpu_ms": first_cpu_ms, "core_percent": core_percent})
    })
}
