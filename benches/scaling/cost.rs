//! What MQS costs a Redis, on a real one: its CPU time and its commands a call, a look, a sweep and a change; its memory a call.
//!
//! Redis has a core to itself. CPU time is that of its main thread, so what the network costs it is part of the figures.

use super::sim::policy;
use super::support::redis::Redis;
use super::support::{full_or_quick, median, pin, round};
use mqs::clock::Stopwatch;
use mqs::config::Config;
use mqs::dispatch::settings::Settings;
use mqs::dispatch::settle::Verb;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::domain::id::{LeaseId, PoolId, Slot};
use mqs::domain::lease::{Lifetimes, Settle};
use mqs::domain::pool::Lookup;
use mqs::domain::time::EpochMs;
use mqs::store::redis::{Options, RedisStore};
use mqs::store::{Answer, Pick, PoolRules, SettleOne, Store as _, View, Written};
use mqs::telemetry::metrics::Metrics;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::token::Secret;
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Lookups, or verbs, that travel together.
pub const BATCHES: [usize; 5] = [1, 4, 16, 64, 256];

/// Nodes, and calls that are up.
pub const LEVELS: [(usize, usize); 3] = [(10, 10_000), (100, 100_000), (1000, 1_000_000)];

const RULES: PoolRules =
    PoolRules { choose: policy::RULES, life: Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 } };

/// Leases that one sweep takes out at most: as the steward's.
const SWEEP_MAX: u32 = 256;
/// How long the end of a lease is remembered, in s, and a little more.
const TOMB_S: f64 = 36.0;

pub fn measure() -> Value {
    let folder = tempfile::tempdir().expect("a folder for sockets");
    pin(1);
    let Some(redis) = Redis::start(folder.path()) else {
        return json!({"skipped": "no redis-server on the PATH"});
    };
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut found = runtime.block_on(async {
        let mut levels = Vec::new();
        let mut pools = Vec::new();
        for (nodes, calls) in LEVELS {
            let mut pool = Pool::new(&redis, nodes).await;
            levels.push(pool.level(calls / full_or_quick(1, 20)).await);
            pools.push((pool, Stopwatch::start()));
        }
        for ((pool, since), level) in pools.iter_mut().zip(&mut levels) {
            let left = full_or_quick(TOMB_S, 0.0) - since.elapsed().as_secs_f64();
            tokio::time::sleep(Duration::from_secs_f64(left.max(0.0))).await;
            level["sweep"] = pool.sweeps().await;
        }
        json!({ "levels": levels })
    });
    drop(redis);
    found["together"] = together();
    found
}

/// What Redis did between two looks at it.
struct Meter {
    stream: BufReader<UnixStream>,
    cpu_us: f64,
    /// What looking costs, in µs of CPU.
    own_us: f64,
}

impl Meter {
    fn new(redis: &Redis) -> Meter {
        let stream = UnixStream::connect(&redis.socket).expect("Redis listens");
        let mut meter = Meter { stream: BufReader::new(stream), cpu_us: 0.0, own_us: 0.0 };
        let looks = (0..200).map(|_| {
            meter.start();
            meter.took()
        });
        meter.own_us = median(looks.collect::<Vec<_>>());
        meter
    }

    fn start(&mut self) {
        self.ask("CONFIG RESETSTAT");
        self.cpu_us = self.cpu();
    }

    /// Microseconds of CPU since the start.
    fn took(&mut self) -> f64 {
        self.cpu() - self.cpu_us - self.own_us
    }

    /// Commands within scripts and in all, and script runs.
    fn commands(&mut self) -> (f64, f64) {
        let text = self.ask("INFO commandstats");
        let (mut inside, mut runs) = (0.0, 0.0);
        for line in text.lines() {
            let Some((name, rest)) = line.strip_prefix("cmdstat_").and_then(|l| l.split_once(":calls="))
            else {
                continue;
            };
            let calls: f64 = rest.split(',').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
            match name {
                "eval" | "evalsha" => runs += calls,
                "info" | "config|resetstat" => {}
                _ => inside += calls,
            }
        }
        (inside, runs)
    }

    fn memory(&mut self) -> f64 {
        field(&self.ask("INFO memory"), "used_memory")
    }

    fn cpu(&mut self) -> f64 {
        let text = self.ask("INFO cpu");
        1e6 * (field(&text, "used_cpu_user_main_thread") + field(&text, "used_cpu_sys_main_thread"))
    }

    fn ask(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("Redis reads");
        let mut head = String::new();
        self.stream.read_line(&mut head).expect("an answer");
        let Some(length) = head.trim().strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
            return head;
        };
        let mut text = vec![0; length + 2];
        self.stream.read_exact(&mut text).expect("all of the answer");
        String::from_utf8(text).expect("text")
    }
}

fn field(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
}

struct Pool {
    meter: Meter,
    store: RedisStore,
    pool: PoolId,
    view: View,
    asked: u128,
    up: Vec<LeaseId>,
}

impl Pool {
    async fn new(redis: &Redis, nodes: usize) -> Pool {
        let options = Options { timeout: Duration::from_secs(5) };
        let store = RedisStore::connect(&redis.url, options).unwrap();
        let pool: PoolId = format!("p{nodes}").parse().unwrap();
        let config = Config::parse(&config(&redis.url, &pool, nodes), "bench").unwrap();
        let settings = Settings::from_config(&config, secret()).unwrap();
        let dispatcher = Dispatcher::new(settings, Arc::new(store), Arc::new(Metrics::new()));
        dispatcher.start(&nodes::from_config(&config)).await.unwrap();
        let store = RedisStore::connect(&redis.url, options).unwrap();
        let view = store.view(&pool, &View::empty()).await.unwrap();
        assert_eq!(view.loaded.len(), nodes);
        Pool { meter: Meter::new(redis), store, pool, view, asked: 0, up: Vec::new() }
    }

    async fn level(&mut self, calls: usize) -> Value {
        let before = self.meter.memory();
        while self.up.len() < calls {
            let some = self.route(512.min(calls - self.up.len())).await;
            self.settle(&some, &confirm(self.view.at)).await;
            self.up.extend(some);
        }
        let bytes = (self.meter.memory() - before) / calls as f64;
        let mut batches = Map::new();
        for batch in BATCHES {
            batches.insert(batch.to_string(), self.verbs(batch).await);
        }
        let (view, view_commands) = self.cost(Op::View).await;
        let (steward, _) = self.cost(Op::Steward).await;
        let (known, _) = self.cost(Op::Known).await;
        let (write, _) = self.cost(Op::Write).await;
        let (reload, _) = self.cost(Op::Reload).await;
        let found = json!({
            "nodes": self.view.loaded.len(), "calls": calls, "bytes_a_call": round(bytes),
            "batches": batches, "view_us": round(view), "view_commands": round(view_commands),
            "steward_us": round(steward), "known_us_a_lease": round(known / KNOWN.min(calls) as f64),
            "write_nodes_us": round(write), "reload_us": round(reload),
        });
        println!("redis: {found}");
        found
    }

    /// CPU µs and commands a verb, when so many travel together.
    async fn verbs(&mut self, batch: usize) -> Value {
        let rounds = full_or_quick(5, 3);
        let each = (64 * batch).clamp(full_or_quick(512, 128), 2048);
        let mut told: [Vec<f64>; 3] = Default::default();
        let mut commands = [0.0; 3];
        for _ in 0..rounds {
            self.meter.start();
            let mut some = Vec::new();
            while some.len() < each {
                some.extend(self.route(batch).await);
            }
            told[0].push(self.meter.took() / some.len() as f64);
            commands[0] = self.meter.commands().0 / some.len() as f64;
            for (number, verb) in [(1, confirm(self.view.at)), (2, Settle::Done)] {
                self.meter.start();
                for part in some.chunks(batch) {
                    self.settle(part, &verb).await;
                }
                told[number].push(self.meter.took() / some.len() as f64);
                commands[number] = self.meter.commands().0 / some.len() as f64;
            }
        }
        let [route, confirm, done] = told.map(|us| round(median(us)));
        json!({
            "route_us": route, "confirm_us": confirm, "done_us": done, "call_us": round(route + confirm + done),
            "commands_a_call": round(commands.iter().sum()), "script_runs_a_call": round(3.0 / batch as f64),
        })
    }

    async fn route(&mut self, count: usize) -> Vec<LeaseId> {
        let pick = |_| {
            self.asked += 1;
            let id = self.asked.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let fallbacks = vec![Slot(1), Slot(2), Slot(3)];
            Pick::plain(LeaseId(id.to_be_bytes()), Lookup::new_call(3), fallbacks)
        };
        let batch: Vec<Pick> = (0..count).map(pick).collect();
        let answers = self.store.pick(&self.pool, &RULES, &self.view, &batch).await.unwrap();
        assert!(answers.iter().all(|a| matches!(a, Answer::Leased(_))), "a lookup was refused");
        batch.iter().map(|pick| pick.lease).collect()
    }

    async fn settle(&self, leases: &[LeaseId], verb: &Settle) {
        let batch: Vec<SettleOne> =
            leases.iter().map(|lease| SettleOne { lease: *lease, verb: verb.clone() }).collect();
        self.store.settle(&self.pool, &RULES, &self.view, &batch).await.unwrap();
    }

    /// CPU µs and commands of one operation that belongs to no call.
    async fn cost(&mut self, op: Op) -> (f64, f64) {
        // A short one is lost in what a look at the meter takes.
        let at_once = match op {
            Op::Steward => 100,
            Op::View | Op::Known | Op::Reload | Op::Write => 1,
        };
        let (mut us, mut commands) = (Vec::new(), 0.0);
        for _ in 0..full_or_quick(30, 7) {
            self.meter.start();
            for _ in 0..at_once {
                self.operate(op).await;
            }
            us.push(self.meter.took() / f64::from(at_once));
            commands = self.meter.commands().0 / f64::from(at_once);
            if let Op::Write = op {
                self.view = self.store.view(&self.pool, &self.view).await.unwrap();
            }
        }
        (median(us), commands)
    }

    async fn operate(&self, op: Op) {
        match op {
            Op::View => drop(self.store.view(&self.pool, &self.view).await.unwrap()),
            Op::Steward => assert!(self.store.hold_steward("bench", 5000).await.unwrap()),
            Op::Known => {
                drop(self.store.known(&self.pool, &self.up[..KNOWN.min(self.up.len())]).await.unwrap())
            }
            Op::Reload => drop(self.store.view(&self.pool, &View::empty()).await.unwrap()),
            Op::Write => {
                let written = self.store.write_nodes(&self.pool, &self.view, &self.view.nodes).await.unwrap();
                assert!(matches!(written, Written::Done(_)), "{written:?}");
            }
        }
    }

    /// Sweeps until all ended leases are forgotten.
    async fn sweeps(&mut self) -> Value {
        let mut full = Vec::new();
        loop {
            self.meter.start();
            let swept = self.store.sweep(&self.pool, &self.view, SWEEP_MAX).await.unwrap();
            let us = self.meter.took();
            if !swept.more {
                break;
            }
            full.push(us);
        }
        let mut idle = Vec::new();
        for _ in 0..20 {
            self.meter.start();
            self.store.sweep(&self.pool, &self.view, SWEEP_MAX).await.unwrap();
            idle.push(self.meter.took());
        }
        let idle = round(median(idle));
        // In a hurry nothing is over yet.
        let full = if full.is_empty() { idle } else { round(median(full)) };
        let found = json!({ "full_us": full, "idle_us": idle });
        println!("redis, a sweep among {} nodes: {found}", self.view.loaded.len());
        found
    }
}

/// Leases that are compared in one script run.
const KNOWN: usize = 512;

#[derive(Clone, Copy)]
enum Op {
    View,
    Steward,
    Known,
    Reload,
    Write,
}

/// Instances, nodes and calls a second of the whole.
const INSTANCES: usize = 40;
const NODES: usize = 100;
const PER_S: [u64; 3] = [100, 400, 1200];
const HOLD_MS: u64 = 2000;

/// Whole instances on one Redis: what it does for them, in all, and without a call.
fn together() -> Value {
    let folder = tempfile::tempdir().expect("a folder for sockets");
    pin(1);
    let Some(redis) = Redis::start(folder.path()) else { return Value::Null };
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut instances = Vec::new();
        let mut watching = Vec::new();
        for number in 0..INSTANCES {
            let pool: PoolId = "whole".parse().unwrap();
            let text = config(&redis.url, &pool, NODES);
            let config = Config::parse(&format!("[instance]\nid = \"i{number}\"\n{text}"), "bench").unwrap();
            let settings = Settings::from_config(&config, secret()).unwrap();
            let store = RedisStore::connect(&redis.url, Options { timeout: Duration::from_secs(2) }).unwrap();
            let dispatcher = Dispatcher::new(settings, Arc::new(store), Arc::new(Metrics::new()));
            let from_file = nodes::from_config(&config);
            dispatcher.start(&from_file).await.unwrap();
            watching.push(tokio::spawn(dispatcher.clone().watch(from_file, true)));
            instances.push(dispatcher);
            tokio::time::sleep(Duration::from_millis(500 / INSTANCES as u64)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let seconds = full_or_quick(6, 3);
        let mut meter = Meter::new(&redis);
        meter.start();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let idle = meter.took() / seconds as f64;
        let mut rates = Vec::new();
        for per_s in PER_S.into_iter().take(full_or_quick(3, 1)) {
            let mut calls = Vec::new();
            let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / per_s));
            // As many calls end as begin, once the first ones do.
            let lead = HOLD_MS * per_s / 1000;
            for number in 0..lead + per_s * seconds {
                tick.tick().await;
                if number == lead {
                    meter.start();
                }
                let instance = instances[number as usize % INSTANCES].clone();
                calls.push(tokio::spawn(call(instance, format!("{per_s}-{number}@bench"))));
            }
            let busy = meter.took() / seconds as f64;
            let (commands, runs) = meter.commands();
            for call in calls {
                call.await.unwrap();
            }
            rates.push(json!({
                "calls_a_s": per_s, "busy_us_a_s": round(busy), "call_us": round((busy - idle) / per_s as f64),
                "commands_a_s": round(commands / seconds as f64),
                "script_runs_a_s": round(runs / seconds as f64),
            }));
        }
        watching.iter().for_each(tokio::task::JoinHandle::abort);
        let found = json!({
            "instances": INSTANCES, "nodes": NODES, "idle_us_a_s": round(idle), "rates": rates,
        });
        println!("redis, with whole instances: {found}");
        found
    })
}

async fn call(instance: Arc<Dispatcher>, id: String) {
    let ask = RouteAsk::parse(&id, "sip:100@example.com", "ft=a;cs=1").unwrap();
    let routed = instance.route(&ask, "bench").await.expect("a target");
    let token = &routed.targets[0].token;
    let branch = || BranchAsk::parse("branch=0").unwrap();
    let _ = instance.settle(Verb::Confirm, token, branch()).await;
    tokio::time::sleep(Duration::from_millis(HOLD_MS)).await;
    let _ = instance.settle(Verb::Done, token, branch()).await;
}

fn confirm(now: EpochMs) -> Settle {
    Settle::Confirm { branch: 0, slot: None, latest: now + RULES.life.call_max_ms }
}

fn secret() -> Secret {
    Secret::new(&[b's'; 32]).unwrap()
}

fn config(url: &str, pool: &PoolId, nodes: usize) -> String {
    let mut text = format!(
        "[store]\nurl = {url:?}\ntimeout_ms = 1000\n[dispatch]\npick_deadline_ms = 1000\n[token]\nsecret_file = \"/unused\"\n[[pool]]\nname = \"{pool}\"\n"
    );
    for node in 0..nodes {
        let host = format!("127.0.{}.{}", 1 + node / 250, 1 + node % 250);
        text.push_str(&format!(
            "[[pool.node]]\nid = \"ast{node}\"\nuri = \"sip:{host}:5060\"\ncapacity = 2000\n"
        ));
    }
    text
}
