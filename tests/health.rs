//! Nodes that are ill: left alone by all instances, brought back slowly, and used all the same when too many are.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use async_trait::async_trait;
use mqs::clock::{self, Stopwatch};
use mqs::config::Config;
use mqs::dispatch::health::Prober;
use mqs::dispatch::listing::NodeInfo;
use mqs::dispatch::settings::Settings;
use mqs::dispatch::settle::Verb;
use mqs::dispatch::{Dispatcher, Routed, nodes};
use mqs::domain::health::{Evidence, HealthRules};
use mqs::domain::id::PoolId;
use mqs::domain::uri::NodeUri;
use mqs::store::memory::MemoryStore;
use mqs::store::{Store, View};
use mqs::telemetry::metrics::Metrics;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::token::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The rules, quick enough for a test.
const RULES: &str =
    "probe_timeout_ms = 50\nup_after = 2\neject_ms = 400\neject_max_ms = 1600\nslow_start_ms = 1000";

fn config(nodes: &[(&str, u32)], health: &str) -> Config {
    let mut text = format!("[[pool]]\nname = \"main\"\n[pool.health]\n{RULES}\n{health}\n");
    for (at, (id, capacity)) in nodes.iter().enumerate() {
        text +=
            &format!("[[pool.node]]\nid = {id:?}\nuri = \"sip:127.0.1.{}\"\ncapacity = {capacity}\n", at + 1);
    }
    Config::parse(&text, "test").unwrap()
}

/// One instance. Several may have the same store.
struct Instance {
    dispatcher: Arc<Dispatcher>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Instance {
    async fn start(name: &str, config: &Config, store: &Arc<dyn Store>) -> Instance {
        let mut config = config.clone();
        config.instance.id = name.to_owned();
        let settings = Settings::from_config(&config, Secret::new(&[b's'; 32]).unwrap()).unwrap();
        let dispatcher = Dispatcher::new(settings, store.clone(), Arc::new(Metrics::new()));
        let file = nodes::from_config(&config);
        dispatcher.start(&file).await.unwrap();
        let tasks = vec![tokio::spawn(dispatcher.clone().watch(file, true))];
        Instance { dispatcher, tasks }
    }

    fn probing(mut self, prober: &Arc<Faked>) -> Instance {
        self.tasks.push(tokio::spawn(self.dispatcher.clone().probe(prober.clone())));
        self
    }

    async fn route(&self, call: &str) -> Routed {
        let ask = RouteAsk::parse(call, "sip:100@example.com", "").unwrap();
        self.dispatcher.route(&ask, "test").await.unwrap()
    }

    async fn settle(&self, verb: Verb, routed: &Routed, attributes: &str) {
        let document: serde_json::Value = serde_json::from_str(&routed.document).unwrap();
        let token = document["mqs"]["token"].as_str().unwrap();
        let ask = BranchAsk::parse(attributes).unwrap();
        self.dispatcher.settle(verb, token, ask).await.unwrap();
    }

    /// A call to whichever node is chosen; `silent` ones do not answer. Gives the node that was tried first.
    async fn call(&self, call: &str, silent: &str) -> String {
        let routed = self.route(call).await;
        let first = routed.decision.first_node().to_owned();
        if first == silent {
            self.settle(Verb::Fail, &routed, "branch=0;code=408").await;
        } else {
            self.settle(Verb::Confirm, &routed, "branch=0").await;
        }
        self.settle(Verb::Done, &routed, "").await;
        first
    }

    async fn node(&self, id: &str) -> NodeInfo {
        let nodes = self.dispatcher.list(None).await.unwrap();
        nodes.into_iter().find(|n| n.id == id).unwrap()
    }

    async fn health(&self, id: &str) -> String {
        self.node(id).await.health
    }

    /// Waits for a condition, and says how long that took.
    async fn until(&self, id: &str, health: &str) -> Duration {
        let clock = Stopwatch::start();
        loop {
            let node = self.node(id).await;
            if node.health == health {
                return clock.elapsed();
            }
            assert!(clock.elapsed() < Duration::from_secs(20), "{id} does not become {health}: {node:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Box::new(clock::wall)))
}

/// A stand-in for OPTIONS over the network: it knows who is ill, and counts what it was asked.
#[derive(Default)]
struct Faked {
    ill: Mutex<BTreeSet<String>>,
    asked: Mutex<BTreeMap<String, u64>>,
    all: AtomicU64,
    when: Mutex<BTreeMap<String, Vec<Stopwatch>>>,
}

impl Faked {
    /// How long after the one before each question came.
    fn gaps(&self, uri: &str) -> Vec<Duration> {
        let when = self.when.lock().unwrap();
        let ago: Vec<Duration> = when.get(uri).into_iter().flatten().map(Stopwatch::elapsed).collect();
        ago.windows(2).map(|two| two[0].saturating_sub(two[1])).collect()
    }
}

#[async_trait]
impl Prober for Faked {
    async fn probe(&self, _pool: &PoolId, uri: &NodeUri, _rules: &HealthRules) -> Option<Evidence> {
        *self.asked.lock().unwrap().entry(uri.to_string()).or_default() += 1;
        self.when.lock().unwrap().entry(uri.to_string()).or_default().push(Stopwatch::start());
        self.all.fetch_add(1, Ordering::SeqCst);
        let ill = self.ill.lock().unwrap().contains(uri.as_str());
        Some(if ill { Evidence::ProbeBad("no answer within 50 ms".to_owned()) } else { Evidence::ProbeGood })
    }
}

#[tokio::test]
async fn a_silent_node_is_left_alone_by_all_instances_and_tried_again() {
    let config = config(&[("a", 100), ("b", 50), ("c", 50)], "probe_every_ms = 0");
    let store = store();
    let one = Instance::start("one", &config, &store).await;
    let two = Instance::start("two", &config, &store).await;
    let mut tried = 0;
    for n in 0..100 {
        tried += u32::from(one.call(&format!("c{n}"), "a").await == "a");
        // The ejection is written behind the call.
        if one.health("a").await == "ejected" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!((3..=6).contains(&tried), "{tried} calls met silence");
    let node = two.node("a").await;
    assert_eq!((node.health.as_str(), node.health_why.as_str()), ("ejected", "3 calls in a row: no answer"));
    assert_eq!(node.health_until_ms, Some(node.health_since_ms + 400));
    for n in 0..20 {
        assert_ne!(two.call(&format!("t{n}"), "").await, "a");
    }
    let ask = RouteAsk::parse("x", "sip:100@example.com", "").unwrap();
    let explained = two.dispatcher.explain(&ask).await.unwrap();
    assert_eq!(explained.nodes.unwrap()[0].verdict, "ejected");
    one.until("a", "warming").await;
    let warming = one.node("a").await;
    assert!((10..100).contains(&warming.effective_capacity), "{warming:?}");
    one.until("a", "up").await;
    assert_eq!(one.node("a").await.effective_capacity, 100);
    let text = one.dispatcher.metrics().render(&[]);
    assert!(text.contains(r#"mqs_health_changes_total{pool="main",health="ejected"} 1"#), "{text}");
}

#[tokio::test]
async fn answers_of_any_kind_keep_a_node_in() {
    let config = config(&[("a", 100), ("b", 1)], "probe_every_ms = 0");
    let one = Instance::start("one", &config, &store()).await;
    for n in 0..20 {
        let routed = one.route(&format!("c{n}")).await;
        assert_eq!(routed.decision.first_node(), "a");
        // Two are silent, the third says that it will not: that is no silence.
        let code = if n % 3 == 2 { "486" } else { "408" };
        one.settle(Verb::Fail, &routed, &format!("branch=0;code={code}")).await;
        one.settle(Verb::Done, &routed, "").await;
    }
    for n in 0..10 {
        let routed = one.route(&format!("d{n}")).await;
        one.settle(Verb::Fail, &routed, "branch=0;code=503").await;
        one.settle(Verb::Done, &routed, "").await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(one.health("a").await, "up", "a 5xx moves the call, and does not make the node ill");
}

#[tokio::test]
async fn a_node_that_asks_for_a_pause_has_it() {
    let config = config(&[("a", 100), ("b", 10)], "probe_every_ms = 0");
    let one = Instance::start("one", &config, &store()).await;
    let routed = one.route("c1").await;
    one.settle(Verb::Fail, &routed, "branch=0;code=503;retry=1").await;
    one.until("a", "overloaded").await;
    assert_eq!(one.route("c2").await.decision.first_node(), "b");
    let node = one.node("a").await;
    assert_eq!(node.health_until_ms, Some(node.health_since_ms + 1000));
    one.until("a", "warming").await;
}

#[tokio::test]
async fn the_branch_that_failed_is_the_one_that_is_blamed() {
    let config = config(&[("a", 100), ("b", 50), ("c", 20)], "probe_every_ms = 0");
    let one = Instance::start("one", &config, &store()).await;
    for n in 0..3 {
        let routed = one.route(&format!("c{n}")).await;
        let named = routed.decision.targets.iter().map(|t| t.node.as_str()).collect::<Vec<_>>();
        assert_eq!(named, ["a", "b", "c"]);
        one.settle(Verb::Fail, &routed, "branch=0;code=500").await;
        one.settle(Verb::Fail, &routed, "branch=1;code=408").await;
        one.settle(Verb::Done, &routed, "").await;
    }
    one.until("b", "ejected").await;
    assert_eq!((one.health("a").await, one.health("c").await), ("up".to_owned(), "up".to_owned()));
}

#[tokio::test]
async fn probes_take_a_node_out_and_bring_it_back_and_one_instance_asks_for_all() {
    let config = config(&[("a", 100), ("b", 50), ("c", 50)], "probe_every_ms = 100");
    let (store, prober) = (store(), Arc::new(Faked::default()));
    let one = Instance::start("one", &config, &store).await.probing(&prober);
    prober.ill.lock().unwrap().insert("sip:127.0.1.1".to_owned());
    one.until("a", "failing").await;
    assert_eq!(one.node("a").await.health_why, "3 probes in a row: no answer within 50 ms");
    assert_ne!(one.route("c1").await.decision.first_node(), "a");
    prober.ill.lock().unwrap().clear();
    one.until("a", "warming").await;
    one.until("a", "up").await;
    let asked = prober.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    let (least, most) = (asked.values().min().unwrap(), asked.values().max().unwrap());
    assert!(most - least <= most / 4 + 2, "in turn: {asked:?}");
}

#[tokio::test]
async fn a_node_in_doubt_is_asked_twice_as_often() {
    const EVERY: Duration = Duration::from_secs(2);
    let config = config(&[("a", 100), ("b", 50), ("c", 50)], "probe_every_ms = 2000");
    let (store, prober) = (store(), Arc::new(Faked::default()));
    let one = Instance::start("one", &config, &store).await.probing(&prober);
    prober.ill.lock().unwrap().insert("sip:127.0.1.1".to_owned());
    one.until("a", "failing").await;
    let doubted = prober.gaps("sip:127.0.1.1");
    assert_eq!(doubted.len(), 2, "{doubted:?}");
    assert!(doubted.iter().all(|gap| *gap < EVERY.mul_f64(0.9)), "{doubted:?}");
    // It is failing, and that is what it is known to be: no hurry any more.
    while prober.gaps("sip:127.0.1.1").len() < 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for usual in [&prober.gaps("sip:127.0.1.1")[2..], &prober.gaps("sip:127.0.1.2")] {
        assert!(!usual.is_empty() && usual.iter().all(|gap| *gap > EVERY.mul_f64(0.85)), "{usual:?}");
    }
}

#[tokio::test]
async fn when_more_than_half_of_a_pool_is_ill_all_of_it_is_used() {
    let config = config(&[("a", 100), ("b", 100), ("c", 100)], "probe_every_ms = 100");
    let (store, prober) = (store(), Arc::new(Faked::default()));
    let one = Instance::start("one", &config, &store).await.probing(&prober);
    prober.ill.lock().unwrap().insert("sip:127.0.1.1".to_owned());
    one.until("a", "failing").await;
    assert!(!one.node("a").await.overruled);
    prober.ill.lock().unwrap().insert("sip:127.0.1.2".to_owned());
    one.until("b", "failing").await;
    assert!(one.node("a").await.overruled && one.node("b").await.overruled);
    let mut used = BTreeSet::new();
    for n in 0..6 {
        used.insert(one.route(&format!("c{n}")).await.decision.first_node().to_owned());
    }
    assert_eq!(used.len(), 3, "{used:?}");
    prober.ill.lock().unwrap().remove("sip:127.0.1.2");
    one.until("b", "warming").await;
    assert!(!one.node("a").await.overruled, "health counts again");
}

#[tokio::test]
async fn who_sets_a_node_active_says_that_it_is_well() {
    use mqs::dispatch::nodes::{NodeChange, NodePatch};
    use mqs::domain::node::NodeState;
    let config = config(&[("a", 100), ("b", 1)], "probe_every_ms = 0");
    let one = Instance::start("one", &config, &store()).await;
    for n in 0..3 {
        one.call(&format!("c{n}"), "a").await;
    }
    one.until("a", "ejected").await;
    let pool = one.dispatcher.pool(None).unwrap();
    let capacity = NodePatch { capacity: Some(90), ..NodePatch::default() };
    pool.change(&NodeChange::Set("a".parse().unwrap(), capacity)).await.unwrap();
    assert_eq!(one.health("a").await, "ejected", "another capacity does not make it well");
    let active = NodePatch { state: Some(NodeState::Active), ..NodePatch::default() };
    pool.change(&NodeChange::Set("a".parse().unwrap(), active)).await.unwrap();
    assert_eq!(one.health("a").await, "up");
}

/// Every instance reads all definitions again for each change: a zone that falls silent must not be one for each of its nodes.
#[tokio::test]
async fn nodes_that_fall_ill_together_are_written_together() {
    let names: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
    let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let mut config = config(&all, "probe_every_ms = 0\neject_after = 1");
    config.pools[0].health.eject_ms = 60_000;
    config.pools[0].health.eject_max_ms = 60_000;
    let store = store();
    let instance = Instance::start("one", &config, &store).await;
    let pool = instance.dispatcher.pool(None).unwrap();
    let version = || async { store.view(&pool.id, &View::empty()).await.unwrap().version };
    let before = version().await;
    let mut silent = BTreeSet::new();
    // The least loaded is another node each time.
    for n in 0..25 {
        let routed = instance.route(&format!("c{n}")).await;
        silent.insert(routed.decision.first_node().to_owned());
        instance.settle(Verb::Fail, &routed, "branch=0;code=408").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(silent.len() > 10, "{silent:?}");
    for node in &silent {
        instance.until(node, "ejected").await;
    }
    let writes = version().await - before;
    assert!((1..=4).contains(&writes), "{writes} changes of the definitions for {} nodes", silent.len());
}
