//! The configuration is read again while calls come: what changes counts at once, what cannot is named, and no lookup notices.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "support/faulty.rs"]
mod faulty;
#[allow(dead_code)]
#[path = "support/instance.rs"]
mod instance;

use faulty::Faulty;
use instance::Instance;
use mqs::clock;
use mqs::config::Config;
use mqs::dispatch::settings::Settings;
use mqs::dispatch::settle::Verb;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::store::memory::MemoryStore;
use mqs::store::{Store, StoreError};
use mqs::telemetry::metrics::Metrics;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::token::Secret;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn node(id: &str, at: u32, capacity: u32) -> String {
    format!("[[pool.node]]\nid = {id:?}\nuri = \"sip:127.0.1.{at}\"\ncapacity = {capacity}\n")
}

fn pool(name: &str, keys: &str, nodes: &[String]) -> String {
    format!("[[pool]]\nname = {name:?}\n{keys}\n[pool.health]\nprobe_every_ms = 0\n{}", nodes.concat())
}

/// The real process.
struct House {
    instance: Instance,
}

impl House {
    fn start(pools: &str) -> House {
        let mut instance = Instance::with(|dir| text(dir, "", pools));
        instance.start();
        House { instance }
    }

    fn write(&self, top: &str, pools: &str) {
        let dir = self.instance.folder.path().display().to_string();
        fs::write(self.instance.path("mqs.toml"), text(&dir, top, pools)).unwrap();
    }

    fn reload(&self) -> Value {
        self.instance.json(&["reload"])
    }

    fn nodes(&self) -> Vec<(String, String, u64)> {
        let list = self.instance.json(&["node", "list"]);
        let one = |n: &Value| {
            (
                n["id"].as_str().unwrap().into(),
                n["state"].as_str().unwrap().into(),
                n["capacity"].as_u64().unwrap(),
            )
        };
        list.as_array().unwrap().iter().map(one).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.instance.path("log")).unwrap()
    }
}

fn text(dir: &str, top: &str, pools: &str) -> String {
    let listen = if top.contains("[listen]") {
        String::new()
    } else {
        format!("[listen]\nresp = [\"unix:{dir}/mqs.sock\"]\nhttp = [\"unix:{dir}/http.sock\"]\n")
    };
    let top = top.replace("DIR", dir);
    format!("{top}\n[store]\nurl = \"memory:\"\n{listen}\n{pools}")
}

fn done(report: &Value) -> Vec<String> {
    let step = |s: &Value| format!("{} {}", s["node"].as_str().unwrap(), s["done"].as_str().unwrap());
    report["nodes"].as_array().unwrap().iter().map(step).collect()
}

#[test]
fn nodes_and_settings_of_the_file_count_at_once() {
    let house = House::start(&pool("main", "", &[node("a", 1, 10), node("b", 2, 10)]));
    house.write("", &pool("main", "refuse_code = 486", &[node("a", 1, 20), node("c", 3, 10)]));
    let told = house.instance.json(&["reload", "--check"]);
    assert_eq!(
        (&told["check"], done(&told)),
        (&json!(true), vec!["a changed".into(), "b drained".into(), "c added".into()])
    );
    assert_eq!(told["applied"], json!(["pool.main.refuse_code"]));
    let plain = |list: &[(&str, &str, u64)]| -> Vec<(String, String, u64)> {
        list.iter().map(|(id, state, n)| ((*id).into(), (*state).into(), *n)).collect()
    };
    assert_eq!(house.nodes(), plain(&[("a", "active", 10), ("b", "active", 10)]), "nothing was changed");
    let report = house.reload();
    assert_eq!((&report["check"], done(&report)), (&json!(false), done(&told)));
    assert_eq!((&report["restart"], &report["waiting"]), (&json!([]), &Value::Null));
    assert_eq!(house.nodes(), plain(&[("a", "active", 20), ("b", "draining", 10), ("c", "active", 10)]));
    let again = house.reload();
    assert_eq!((&again["applied"], &again["nodes"]), (&json!([]), &json!([])));
    // What is written again takes calls again.
    house.write("", &pool("main", "refuse_code = 486", &[node("a", 1, 20), node("b", 2, 10)]));
    assert_eq!(done(&house.reload()), ["b changed", "c drained"]);
    let (_, refused) = house.instance.mqs(&["route", "c1", "sip:1@b", "--pool", "main"]);
    assert!(refused.contains("sip:127.0.1."), "{refused}");
}

#[test]
fn sighup_does_the_same() {
    let house = House::start(&pool("main", "", &[node("a", 1, 10)]));
    house.write("", &pool("main", "", &[node("a", 1, 30)]));
    let id = house.instance.process.as_ref().unwrap().id().to_string();
    assert!(Command::new("kill").args(["-s", "HUP", &id]).status().unwrap().success());
    house.instance.until("the node is changed", |_| house.nodes()[0].2 == 30);
    house.instance.until("it is in the log", |_| house.log().contains(" reloaded "));
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why_everywhere() {
    let house = House::start(&pool("main", "", &[node("a", 1, 10)]));
    house.write("", &pool("main", "", &[node("a", 1, 0), node("b", 2, 5)]));
    let start = House { instance: Instance { folder: tempfile::tempdir().unwrap(), process: None } };
    fs::copy(house.instance.path("mqs.toml"), start.instance.path("mqs.toml")).unwrap();
    let (_, at_start) = start.instance.refused();
    let of = |text: &str, house: &House| text.replace(&house.instance.path("mqs.toml"), "FILE");
    let words = of(&at_start, &start).trim().replace("mqs: cannot use the configuration: ", "");
    assert!(words.contains("FILE:") && words.contains("pool[0].node[0].capacity: found 0"), "{words}");
    for args in [&["reload"][..], &["reload", "--check"]] {
        let (well, said) = house.instance.mqs(args);
        assert!(!well && of(&said, &house).contains(&words), "{args:?}: {said}");
    }
    let mut stream = UnixStream::connect(house.instance.path("http.sock")).unwrap();
    stream
        .write_all(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let heard: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    assert_eq!(heard[0], "HTTP/1.1 422 Unprocessable Entity");
    let problem: Value = serde_json::from_str(heard.last().unwrap()).unwrap();
    assert_eq!(problem["code"], "BADFILE");
    assert_eq!(of(problem["detail"].as_str().unwrap(), &house), words);
    assert!(of(&house.log(), &house).contains(words.lines().next().unwrap()));
    assert_eq!(house.nodes(), [("a".into(), "active".into(), 10)]);
    fs::remove_file(house.instance.path("mqs.toml")).unwrap();
    let (well, said) = house.instance.mqs(&["reload"]);
    assert!(!well && said.contains("mqs.toml: cannot be read: No such file"), "{said}");
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_is() {
    let pools = pool("main", "", &[node("a", 1, 10)]);
    let house = House::start(&pools);
    let other = "[instance]\nid = \"other\"\nzone = \"z\"\n[log]\nformat = \"json\"\nfilter = \"debug\"\n\
        [listen]\nresp = [\"unix:DIR/elsewhere.sock\"]\nhttp = [\"unix:DIR/http.sock\"]\nidle_timeout_s = 10\n";
    house.write(other, &pools);
    for _ in 0..2 {
        let report = house.reload();
        assert_eq!(
            report["restart"],
            json!(["instance.id", "listen.resp", "listen.idle_timeout_s", "log.format"])
        );
    }
    assert!(house.log().contains("needs a restart: listen.resp"), "{}", house.log());
    house.instance.until("the filter is another one", |i| {
        i.mqs(&["route", "c1", "sip:1@b"]);
        house.log().contains("DEBUG")
    });
    assert!(!fs::exists(house.instance.path("elsewhere.sock")).unwrap());
    assert!(UnixStream::connect(house.instance.path("mqs.sock")).is_ok());
    let (_, said) = house.instance.mqs(&["reload"]);
    assert!(said.contains("needs a restart  listen.resp\n"), "{said}");
}

#[test]
fn pools_come_and_go_and_calls_of_one_that_went_are_settled() {
    let both = pool("main", "", &[node("a", 1, 10)]) + &pool("side", "", &[node("b", 2, 10)]);
    let house = House::start(&both);
    let route =
        |call: &str, pool: &str| house.instance.mqs(&["route", call, "sip:1@b", "--pool", pool, "--json"]);
    let (_, routed) = route("c1", "side");
    let routed: Value = serde_json::from_str(&routed).unwrap();
    let token = routed["mqs"]["token"].as_str().unwrap().to_owned();
    house.write("", &(pool("new", "", &[node("c", 3, 10)]) + &pool("main", "", &[node("a", 1, 10)])));
    let applied = house.reload()["applied"].clone();
    assert_eq!(applied, json!(["pool.new: new", "pool.side: removed", "pool: new comes first"]));
    assert!(!route("c2", "side").0);
    assert!(route("c3", "new").1.contains("127.0.1.3"));
    let (well, said) = house.instance.mqs(&["confirm", &token]);
    assert!(well && said.contains("confirmed"), "{said}");
    let (well, said) = house.instance.mqs(&["done", &token]);
    assert!(well && said.contains("ended"), "{said}");
    house.write("", &both);
    house.reload();
    assert!(route("c4", "side").1.contains("127.0.1.2"));
}

/// The same without a process.
struct World {
    dispatcher: Arc<Dispatcher>,
    secret: Secret,
}

impl World {
    async fn start(text: &str) -> World {
        World::over(text, Arc::new(MemoryStore::new(Box::new(clock::wall)))).await
    }

    async fn over(text: &str, store: Arc<dyn Store>) -> World {
        let config = Config::parse(text, "test").unwrap();
        let secret = Secret::new(&[b's'; 32]).unwrap();
        let settings = Settings::from_config(&config, secret.clone()).unwrap();
        let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
        let file = nodes::from_config(&config);
        dispatcher.start(&file).await.unwrap();
        tokio::spawn(dispatcher.clone().watch(file, true));
        World { dispatcher, secret }
    }

    async fn reload(&self, text: &str) {
        self.try_reload(text).await.unwrap();
    }

    async fn try_reload(&self, text: &str) -> Result<Vec<nodes::Step>, StoreError> {
        let config = Config::parse(text, "test").unwrap();
        let file = nodes::from_config(&config);
        let settings = Settings::from_config(&config, self.secret.clone()).unwrap();
        let done = self.dispatcher.change_nodes(&settings, file).await;
        self.dispatcher.change_settings(settings);
        done
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_in_flight_over_many_reloads_are_all_answered() {
    let first = pool("main", "", &[node("a", 1, 8000), node("b", 2, 8000)]);
    let second =
        pool("main", "targets_max = 1\nagent_reserve = 0.3", &[node("b", 2, 7000), node("c", 3, 8000)]);
    let third = pool("other", "", &[node("z", 9, 8000)])
        + &pool("main", "", &[node("c", 3, 8000), node("a", 1, 8000)]);
    let world = Arc::new(World::start(&first).await);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (world, over, asked) = (world.clone(), over.clone(), asked.clone());
            tokio::spawn(async move {
                let mut wrong = Vec::new();
                for n in 0u64.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let ask =
                        RouteAsk::parse(&format!("{caller}-{n}"), "sip:1@example.com", "pool=main").unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    // The memory store never makes a task wait; others must have their turn.
                    tokio::task::yield_now().await;
                    match world.dispatcher.route(&ask, "test").await {
                        Ok(routed) => {
                            tokio::task::yield_now().await;
                            let document: Value = serde_json::from_str(&routed.document).unwrap();
                            let token = document["mqs"]["token"].as_str().unwrap();
                            let ask = BranchAsk::parse("").unwrap();
                            let settled = world.dispatcher.settle(Verb::Done, token, ask).await;
                            wrong.extend(settled.err().map(|e| e.to_string()));
                        }
                        Err(refusal) => wrong.push(refusal.to_string()),
                    }
                }
                wrong
            })
        })
        .collect();
    let mut reloads = 0;
    while reloads < 150 || asked.load(Ordering::Relaxed) < 2000 {
        for text in [&second, &third, &first] {
            world.reload(text).await;
            reloads += 1;
        }
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Vec::<String>::new(), "after {reloads} reloads");
    }
}

#[tokio::test]
async fn what_a_pool_knows_survives() {
    let text = |keys: &str| pool("main", keys, &[node("a", 1, 10), node("b", 2, 10)]);
    let world = World::start(&text("")).await;
    let ask = RouteAsk::parse("c1", "sip:1@example.com", "").unwrap();
    let routed = world.dispatcher.route(&ask, "test").await.unwrap();
    let before = world.dispatcher.pool(None).unwrap();
    world.reload(&text("refuse_code = 486\nretry_after_s = 9")).await;
    let after = world.dispatcher.pool(None).unwrap();
    assert_eq!((before.settings.refuse_code, after.settings.refuse_code), (480, 486));
    assert!(Arc::ptr_eq(&before.ledger, &after.ledger) && Arc::ptr_eq(&before.degraded, &after.degraded));
    assert_eq!(after.ledger.count(clock::wall()).held, 1);
    let again = world.dispatcher.route(&ask, "test").await.unwrap();
    assert_eq!(again.decision.lease, routed.decision.lease);
    assert_eq!(again.decision.outcome.as_str(), "repeat");
}

#[tokio::test]
async fn rules_for_choosing_count_from_the_next_lookup() {
    let text = |keys: &str| pool("main", keys, &[node("a", 1, 10)]);
    let world = World::start(&text("")).await;
    let route = async |call: &str| {
        let ask = RouteAsk::parse(call, "sip:1@example.com", "").unwrap();
        world.dispatcher.route(&ask, "test").await.map_err(|refusal| refusal.word.as_str())
    };
    assert!(route("c1").await.is_ok());
    // One channel in ten is for callers, and it is taken.
    world.reload(&text("agent_reserve = 0.9")).await;
    assert_eq!(route("c2").await.err(), Some("FULL"));
    world.reload(&text("")).await;
    assert!(route("c3").await.is_ok());
}

#[tokio::test]
async fn a_pool_that_is_named_no_more_is_forgotten_when_it_carries_nothing() {
    let (both, one) = (
        pool("main", "", &[node("a", 1, 10)]) + &pool("side", "", &[node("b", 2, 10)]),
        pool("main", "", &[node("a", 1, 10)]),
    );
    let world = World::start(&both).await;
    let ask = RouteAsk::parse("c1", "sip:1@example.com", "pool=side").unwrap();
    let routed = world.dispatcher.route(&ask, "test").await.unwrap();
    let document: Value = serde_json::from_str(&routed.document).unwrap();
    let token = document["mqs"]["token"].as_str().unwrap();
    world.reload(&one).await;
    let done = || world.dispatcher.settle(Verb::Done, token, BranchAsk::parse("").unwrap());
    // Two rounds of the watch: it is looked after while its call is up.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(done().await.unwrap().result, "ended");
    for _ in 0..500 {
        if let Err(error) = done().await {
            assert!(error.to_string().contains("side"), "{error}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is never forgotten");
}

#[tokio::test]
async fn a_breaker_that_is_open_stays_open() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Box::new(clock::wall)));
    let store = Arc::new(Faulty::new(memory));
    let text = pool("main", "", &[node("a", 1, 10)]);
    let world = World::over(&text, store.clone()).await;
    store.away.store(true, Ordering::Relaxed);
    for n in 0.. {
        let ask = RouteAsk::parse(&format!("c{n}"), "sip:1@example.com", "").unwrap();
        world.dispatcher.route(&ask, "test").await.unwrap();
        if world.dispatcher.pool(None).unwrap().is_cut_off() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.reload(&pool("main", "refuse_code = 486", &[node("a", 1, 10)])).await;
    let pool = world.dispatcher.pool(None).unwrap();
    assert_eq!((pool.settings.refuse_code, pool.is_cut_off()), (486, true));
}

#[tokio::test]
async fn while_the_store_is_away_settings_count_and_nodes_follow() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Box::new(clock::wall)));
    let store = Arc::new(Faulty::new(memory));
    let world = World::over(&pool("main", "", &[node("a", 1, 10), node("b", 2, 10)]), store.clone()).await;
    store.away.store(true, Ordering::Relaxed);
    let keys = "refuse_code = 486";
    let text =
        pool("main", keys, &[node("a", 1, 10), node("c", 3, 10)]) + &pool("new", "", &[node("n", 4, 10)]);
    assert!(matches!(world.try_reload(&text).await, Err(StoreError::Away { .. })));
    assert_eq!(world.dispatcher.pool(None).unwrap().settings.refuse_code, 486);
    let ask = RouteAsk::parse("c1", "sip:1@example.com", "pool=new").unwrap();
    let routed = world.dispatcher.route(&ask, "test").await.unwrap();
    assert_eq!((routed.decision.first_node(), routed.decision.outcome.as_str()), ("n", "degraded"));
    store.away.store(false, Ordering::Relaxed);
    for _ in 0..500 {
        let nodes = world.dispatcher.list(None).await.unwrap();
        let told: Vec<_> = nodes.iter().map(|n| format!("{} {}", n.id, n.state)).collect();
        if told == ["a active", "b draining", "c active", "n active"] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the nodes did not follow");
}

const FROM_DNS: &str = "[pool.discover]\nname = \"sip:pool.example.com\"\ncapacity = 5\n";

#[tokio::test]
async fn a_node_that_goes_from_the_file_to_the_dns_does_not_stand_in_its_way() {
    use mqs::domain::discovery::{Found, Target, Template};
    let health = "[pool.health]\nprobe_every_ms = 0\n";
    let text = |more: &str, nodes: &str| format!("[[pool]]\nname = \"main\"\n{health}{more}{nodes}");
    let world = World::start(&text("", &node("a", 1, 10))).await;
    world.reload(&text(FROM_DNS, "")).await;
    let found = Found {
        targets: vec![Target { uri: "sip:127.0.1.1".parse().unwrap(), weight: 0 }],
        ttl_s: 60,
        partial: false,
        notes: Vec::new(),
    };
    let template = Template {
        capacity: 5,
        weighted: false,
        zone: None,
        tags: Default::default(),
        nodes_max: 8,
        forget_after_ms: 0,
    };
    let pool = world.dispatcher.pool(None).unwrap();
    let before = world.dispatcher.list(None).await.unwrap();
    assert_eq!(
        (before[0].source.as_deref(), before[0].state.as_str()),
        (Some("dns"), "active"),
        "until the DNS answers"
    );
    pool.apply_found(Some(&found), &template).await.unwrap();
    pool.apply_found(None, &template).await.unwrap();
    let nodes = world.dispatcher.list(None).await.unwrap();
    let told: Vec<_> = nodes.iter().map(|n| (n.source.as_deref(), n.state.as_str(), n.capacity)).collect();
    assert_eq!(told, [(Some("dns"), "active", 5)], "{nodes:?}");
}
