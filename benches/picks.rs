//! 256 waiting lookups in one script run, beside one script run a lookup; and 1,000 nodes beside 8.
//!
//! Redis and client have a core each. Both sides send all 256 at once: what differs is the script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use mqs::clock::Stopwatch;
use mqs::domain::id::{LeaseId, PoolId, Slot};
use mqs::domain::lease::{Lifetimes, Settle};
use mqs::domain::node::{Node, NodeState};
use mqs::domain::pool::{Lookup, Rules};
use mqs::domain::time::EpochMs;
use mqs::store::redis::{Options, RedisStore};
use mqs::store::{Answer, NodeRecord, Pick, PoolRules, SettleOne, Store as _, View, Written};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use support::redis::{Redis, Single, capacity};
use support::{full_or_quick, median, round};

const WAITING: usize = 256;
const RULES: PoolRules = PoolRules {
    choose: Rules { agent_reserve_pm: 0, zone_spill_pm: 800, targets_max: 3 },
    life: Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 },
};

fn main() {
    if support::is_test() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for sockets");
    support::pin(1);
    let Some(redis) = Redis::start(folder.path()) else {
        println!("skipped: no redis-server on the PATH");
        support::add(json!({"skipped_picks": "no redis-server on the PATH"}));
        return;
    };
    support::pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut few = runtime.block_on(Pool::new(&redis, 8));
    let mut many = runtime.block_on(Pool::new(&redis, 1000));
    let mut single = Single::new(&redis, 8);
    let rounds = full_or_quick(201, 31);
    let (mut one, mut batch, mut wide) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds + 10 {
        let times = (run_single(&mut single), runtime.block_on(few.run()), runtime.block_on(many.run()));
        // The first rounds find cold caches.
        if round >= 10 {
            one.push(times.0);
            batch.push(times.1);
            wide.push(times.2);
        }
    }
    let ratio = |a: &[f64], b: &[f64]| round(median(a.iter().zip(b).map(|(a, b)| a / b)));
    let found = json!({
        "picks": {
            "waiting": WAITING, "rounds": rounds,
            "single_us": round(median(one.iter().copied())),
            "batched_us": round(median(batch.iter().copied())),
            "batched_1000_nodes_us": round(median(wide.iter().copied())),
        },
        "ratios": {
            "batched_over_single": ratio(&one, &batch),
            "nodes1000_over_8": ratio(&wide, &batch),
        },
    });
    println!("{found:#}");
    support::add(found);
}

/// Microseconds a pick.
fn run_single(single: &mut Single) -> f64 {
    let questions: Vec<u8> = (0..WAITING).flat_map(|_| single.question()).collect();
    let clock = Stopwatch::start();
    single.ask(&questions, WAITING);
    let took = clock.elapsed().as_secs_f64() * 1e6 / WAITING as f64;
    single.clear();
    took
}

struct Pool {
    store: RedisStore,
    pool: PoolId,
    view: View,
    asked: u128,
}

impl Pool {
    async fn new(redis: &Redis, nodes: usize) -> Pool {
        let store = RedisStore::connect(&redis.url, Options { timeout: Duration::from_secs(2) }).unwrap();
        let pool: PoolId = format!("p{nodes}").parse().unwrap();
        let records: Vec<NodeRecord> = (0..nodes).map(record).collect();
        let written = store.write_nodes(&pool, &View::empty(), &records).await.unwrap();
        assert!(matches!(written, Written::Done(_)), "{written:?}");
        let view = store.view(&pool, &View::empty()).await.unwrap();
        Pool { store, pool, view, asked: 0 }
    }

    /// Microseconds a pick. The leases are ended outside the time.
    async fn run(&mut self) -> f64 {
        let batch: Vec<Pick> = (0..WAITING)
            .map(|_| {
                self.asked += 1;
                let lease =
                    LeaseId(self.asked.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
                Pick::plain(lease, Lookup::new_call(3), vec![Slot(1), Slot(2)])
            })
            .collect();
        let clock = Stopwatch::start();
        let answers = self.store.pick(&self.pool, &RULES, &self.view, &batch).await.unwrap();
        let took = clock.elapsed().as_secs_f64() * 1e6 / WAITING as f64;
        assert!(answers.iter().all(|a| matches!(a, Answer::Leased(_))), "{answers:?}");
        let ends: Vec<SettleOne> =
            batch.iter().map(|pick| SettleOne { lease: pick.lease, verb: Settle::Done }).collect();
        self.store.settle(&self.pool, &RULES, &self.view, &ends).await.unwrap();
        took
    }
}

fn record(number: usize) -> NodeRecord {
    let node = Node {
        id: format!("ast{number}").parse().unwrap(),
        slot: Slot(number as u16),
        uri: format!("sip:127.0.{}.{}", 1 + number / 250, 1 + number % 250).parse().unwrap(),
        capacity: capacity(number),
        zone: None,
        tags: BTreeSet::new(),
        state: NodeState::Active,
        health: Default::default(),
    };
    NodeRecord { node: Arc::new(node), file_digest: None, since: EpochMs(0) }
}
