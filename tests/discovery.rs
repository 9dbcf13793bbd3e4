//! Nodes from the DNS: a real authority whose zone changes while it is asked, and what becomes of the nodes of a pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/authority.rs"]
#[allow(dead_code)]
mod authority;
#[path = "discovery/serve.rs"]
mod serve;

use authority::{Authority, Mood};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, CNAME, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use mqs::clock::{self, Stopwatch};
use mqs::config::{Config, DnsConfig};
use mqs::dispatch::discovery::{self, Discovery, Find, FindError};
use mqs::dispatch::settings::Settings;
use mqs::dispatch::settle::Verb;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::domain::discovery::{Found, Template};
use mqs::domain::service::Family;
use mqs::outbound::dns::Finder;
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::token::Secret;
use std::sync::Arc;
use std::time::Duration;

const TWO: &str = "_sip._udp.pool 60 IN SRV 10 1 5060 a\n_sip._udp.pool 60 IN SRV 10 1 5060 b\n\
                   a 60 IN A 127.0.1.1\nb 60 IN A 127.0.1.2";

fn finder(authority: &Authority) -> Finder {
    Finder::new(&DnsConfig { servers: vec![authority.address], timeout_ms: 1500 }).unwrap()
}

async fn look(finder: &Finder, service: &str) -> Result<Found, FindError> {
    finder.find(&service.parse().unwrap(), Family::Any, 300).await
}

fn uris(found: &Found) -> Vec<String> {
    found.targets.iter().map(|t| t.uri.to_string()).collect()
}

// ---- what is asked, and how often ----

#[tokio::test]
async fn a_pool_is_found_by_naptr_srv_and_addresses() {
    let authority = Authority::start(
        "pool 60 IN NAPTR 10 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp.pool\n\
         pool 60 IN NAPTR 20 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.pool\n\
         _sip._tcp.pool 60 IN SRV 10 30 5062 a\n_sip._tcp.pool 40 IN SRV 20 1 5062 b\n\
         _sip._udp.pool 60 IN SRV 10 1 5060 b\na 50 IN A 127.0.1.1\nb 60 IN AAAA ::1\nflat 60 IN A 127.0.1.7",
    );
    let finder = finder(&authority);
    let found = look(&finder, "sip:pool.example").await.unwrap();
    assert_eq!(uris(&found), ["sip:127.0.1.1:5062;transport=tcp"]);
    assert_eq!((found.targets[0].weight, found.ttl_s, found.partial), (30, 40, false));
    assert_eq!(uris(&look(&finder, "_sip._udp.pool.example").await.unwrap()), ["sip:[::1]:5060"]);
    assert_eq!(uris(&look(&finder, "sip:flat.example").await.unwrap()), ["sip:127.0.1.7:5060"]);
    assert_eq!(
        uris(&look(&finder, "sip:flat.example:5070;transport=tcp").await.unwrap()),
        ["sip:127.0.1.7:5070;transport=tcp"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_query_serves_all_who_wait_and_ttls_hold() {
    let authority = Authority::start(&TWO.replace(" 60 ", " 2 "));
    authority.mood(Mood::Slow(Duration::from_millis(50)));
    let finder = Arc::new(finder(&authority));
    let waiters: Vec<_> = (0..200)
        .map(|_| {
            let finder = finder.clone();
            tokio::spawn(async move { look(&finder, "_sip._udp.pool.example").await.unwrap() })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().targets.len(), 2);
    }
    let once: Vec<u32> = authority.asked().into_values().collect();
    assert_eq!(once, [1, 1, 1], "SRV and two A, once each for 200 waiters");
    look(&finder, "_sip._udp.pool.example").await.unwrap();
    assert_eq!(authority.asked().len(), 0, "within the TTL");
    tokio::time::sleep(Duration::from_millis(2050)).await;
    authority.zone(&TWO.replace("127.0.1.2", "127.0.1.3"));
    let found = look(&finder, "_sip._udp.pool.example").await.unwrap();
    assert_eq!(uris(&found), ["sip:127.0.1.1:5060", "sip:127.0.1.3:5060"], "after the TTL");
}

#[tokio::test]
async fn ttl_0_is_not_kept_and_a_year_is_bounded() {
    let authority = Authority::start("pool 0 IN A 127.0.1.1\nlong 31536000 IN A 127.0.1.2");
    let finder = finder(&authority);
    for _ in 0..3 {
        assert_eq!(look(&finder, "sip:pool.example:5060").await.unwrap().ttl_s, 0);
    }
    assert_eq!(authority.asked(), [("A pool.example".to_owned(), 3)].into());
    let long = "sip:long.example:5060".parse().unwrap();
    for _ in 0..2 {
        finder.find(&long, Family::V4, 1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1050)).await;
    }
    assert_eq!(
        authority.asked(),
        [("A long.example".to_owned(), 2)].into(),
        "asked again after the second it may be old"
    );
}

#[tokio::test]
async fn answers_that_make_no_sense_are_refused_by_name() {
    let authority = Authority::start("pool 60 IN CNAME pool2\npool2 60 IN CNAME pool\nempty 60 IN TXT \"x\"");
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let record = |owner: &str, data: RData| Record::from_rdata(name(owner), 60, data);
    let said = async |service: &str| {
        let finder = finder(&authority);
        look(&finder, service).await.unwrap_err().to_string()
    };
    assert!(
        said("sip:pool.example:5060").await.contains("CNAME loop"),
        "{}",
        said("sip:pool.example:5060").await
    );
    assert_eq!(said("sip:empty.example:5060").await, "no target: sip:empty.example:5060: no records");
    assert_eq!(said("sip:nobody.example").await, "no target: sip:nobody.example: no records");
    for (mood, words) in [
        (Mood::Code(ResponseCode::ServFail), "A pool.example: "),
        (Mood::Code(ResponseCode::Refused), "A pool.example: "),
        (Mood::Silent, "A pool.example: no answer within 1500 ms"),
        (Mood::Odd(vec![record("pool.example.", RData::TXT(TXT::new(vec!["x".into()])))]), "holds only TXT"),
        (Mood::Odd(vec![record("evil.example.", RData::A(A::new(127, 0, 6, 6)))]), "holds only A"),
        (
            Mood::Odd(vec![record("pool.example.", RData::CNAME(CNAME(name("pool.example."))))]),
            "CNAME loop at pool.example",
        ),
        (Mood::Odd(Vec::new()), "no records"),
    ] {
        authority.mood(mood);
        let text = said("sip:pool.example:5060").await;
        assert!(text.contains(words) && text.contains("pool.example"), "{text}");
    }
}

#[tokio::test]
async fn a_thousand_targets_come_over_tcp_and_more_than_the_limit_is_cut() {
    let many = |count: u32| -> String {
        (0..count).map(|n| format!("pool 60 IN A 127.{}.{}.1\n", 10 + n / 250, n % 250)).collect()
    };
    let authority = Authority::start(&many(1000));
    let found = look(&finder(&authority), "sip:pool.example:5060").await.unwrap();
    assert_eq!(found.targets.len(), 1000);
    authority.zone(&many(2200));
    let found = look(&finder(&authority), "sip:pool.example:5060").await.unwrap();
    assert_eq!((found.targets.len(), found.notes.len()), (2048, 1));
    // More than one message over TCP holds: half of it is no answer.
    authority.zone(&many(5000));
    let error = look(&finder(&authority), "sip:pool.example:5060").await.unwrap_err();
    assert!(matches!(&error, FindError::Failed(text) if text.contains("truncated")), "{error}");
}

// ---- what becomes of the pool ----

struct Rig {
    authority: Authority,
    dispatcher: Arc<Dispatcher>,
    discovery: Discovery,
    template: Template,
}

impl Rig {
    async fn new(zone: &str, name: &str, more: &str) -> Rig {
        let authority = Authority::start(zone);
        let text = format!(
            "[dns]\nservers = [\"{}\"]\ntimeout_ms = 1500\n[[pool]]\nname = \"main\"\n[pool.discover]\nname = \"{name}\"\n\
             capacity = 10\nrefresh_min_s = 1\nforget_after_s = 0\n{more}",
            authority.address
        );
        let config = Config::parse(&text, "t").unwrap();
        let settings = Settings::from_config(&config, Secret::new(&[7; 32]).unwrap()).unwrap();
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
        dispatcher.start(&nodes::from_config(&config)).await.unwrap();
        let find: Arc<dyn Find> = Arc::new(Finder::new(&config.dns).unwrap());
        let watched = discovery::from_config(&config);
        let template = watched[0].template.clone();
        let discovery = dispatcher.discoveries(watched, &find).remove(0);
        Rig { authority, dispatcher, discovery, template }
    }

    /// Asks once, and does what a second later is due; the nodes then: last part of the address, and state.
    async fn look(&mut self) -> Vec<String> {
        self.discovery.look().await;
        self.dispatcher.pool(None).unwrap().apply_found(None, &self.template).await.unwrap();
        self.nodes().await
    }

    async fn nodes(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .dispatcher
            .list(None)
            .await
            .unwrap()
            .into_iter()
            .map(|n| format!("{} {}", n.uri.trim_start_matches("sip:127.0.1."), n.state))
            .collect();
        all.sort();
        all
    }

    async fn change(&self, id: &str, state: &str) {
        let patch = nodes::NodePatch { state: state.parse().ok(), ..Default::default() };
        let change = nodes::NodeChange::Set(id.parse().unwrap(), patch);
        self.dispatcher.pool(None).unwrap().change(&change).await.unwrap();
    }

    async fn call(&self, id: u32) -> bool {
        let attrs = format!("ft={id};cs=1");
        let ask = RouteAsk::parse(&format!("call-{id}"), "sip:1@example.com", &attrs).unwrap();
        self.dispatcher.route(&ask, "test").await.is_ok()
    }
}

const FLAT: &str = "pool 0 IN A 127.0.1.1\npool 0 IN A 127.0.1.2";

#[tokio::test]
async fn nodes_come_and_go_with_the_zone() {
    let mut rig = Rig::new(FLAT, "sip:pool.example:5060", "").await;
    assert_eq!(rig.look().await, ["1:5060 active", "2:5060 active"]);
    for n in 0..4 {
        assert!(rig.call(n).await);
    }
    rig.authority.zone("pool 0 IN A 127.0.1.2\npool 0 IN A 127.0.1.3");
    assert_eq!(rig.look().await, ["1:5060 draining", "2:5060 active", "3:5060 active"], "its calls go on");
    rig.look().await;
    assert_eq!(rig.nodes().await[0], "1:5060 draining", "not removed while it carries calls");
    rig.authority.zone(FLAT);
    assert_eq!(
        rig.look().await,
        ["1:5060 active", "2:5060 active"],
        "back; and the one without calls is gone at once"
    );
    let metrics = rig.dispatcher.metrics().render(&[]);
    for line in [
        "mqs_discovery_answers_total{pool=\"main\",result=\"found\"} 4",
        "mqs_discovery_nodes{pool=\"main\"} 2",
        "mqs_discovery_changes_total{pool=\"main\",change=\"add\"} 3",
        "mqs_discovery_changes_total{pool=\"main\",change=\"drain\"} 2",
        "mqs_discovery_changes_total{pool=\"main\",change=\"remove\"} 1",
        "mqs_discovery_changes_total{pool=\"main\",change=\"activate\"} 1",
        "mqs_discovery_age_seconds{pool=\"main\"} ",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn the_last_good_answer_is_kept_whatever_comes_instead() {
    let mut rig = Rig::new(FLAT, "sip:pool.example:5060", "").await;
    rig.look().await;
    let good = ["1:5060 active", "2:5060 active"];
    let junk =
        Record::from_rdata(Name::from_ascii("pool.example.").unwrap(), 60, RData::TXT(TXT::new(vec![])));
    for mood in [
        Mood::Silent,
        Mood::Code(ResponseCode::ServFail),
        Mood::Code(ResponseCode::NXDomain),
        Mood::Odd(vec![junk]),
        Mood::Odd(Vec::new()),
    ] {
        rig.authority.mood(mood);
        assert_eq!(rig.look().await, good);
    }
    rig.authority.mood(Mood::Good);
    rig.authority.zone("other 0 IN A 127.0.1.9");
    assert_eq!(rig.look().await, good, "the name is gone from the zone");
    assert!(rig.call(1).await);
    let metrics = rig.dispatcher.metrics().render(&[]);
    assert!(metrics.contains("result=\"failed\"} 3") && metrics.contains("result=\"empty\"} 3"), "{metrics}");
}

#[tokio::test]
async fn an_operators_word_stays() {
    let mut rig = Rig::new(FLAT, "sip:pool.example:5060", "").await;
    rig.look().await;
    rig.change("ip-127-0-1-1-5060", "draining").await;
    assert_eq!(rig.look().await, ["1:5060 draining", "2:5060 active"]);
    rig.change("ip-127-0-1-1-5060", "active").await;
    assert_eq!(rig.look().await, ["1:5060 active", "2:5060 active"]);
    let remove = nodes::NodeChange::Remove { id: "ip-127-0-1-1-5060".parse().unwrap(), force: false };
    rig.dispatcher.pool(None).unwrap().change(&remove).await.unwrap();
    assert_eq!(rig.look().await, ["2:5060 active"], "removed by hand, though the DNS names it");
}

#[tokio::test]
async fn half_an_answer_adds_and_drains_nothing() {
    let zone = TWO.replace(" 60 ", " 0 ");
    let mut rig = Rig::new(&zone, "_sip._udp.pool.example", "").await;
    assert_eq!(rig.look().await, ["1:5060 active", "2:5060 active"]);
    // b is somewhere that this server cannot tell of; c is new.
    let half = zone.replace("5060 b", "5060 b.elsewhere.")
        + "\n_sip._udp.pool 0 IN SRV 10 1 5060 c\nc 0 IN A 127.0.1.3";
    rig.authority.zone(&half);
    assert_eq!(rig.look().await, ["1:5060 active", "2:5060 active", "3:5060 active"]);
}

#[tokio::test]
async fn weights_and_limits_of_the_configuration_count() {
    let zone = "_sip._udp.pool 0 IN SRV 1 50 5060 a\n_sip._udp.pool 0 IN SRV 1 100 5060 b\n\
                _sip._udp.pool 0 IN SRV 2 100 5060 c\na 0 IN A 127.0.1.1\nb 0 IN A 127.0.1.2\nc 0 IN A 127.0.1.3";
    let more = "weight = \"capacity\"\nzone = \"z\"\ntags = [\"t\"]\nnodes_max = 2";
    let mut rig = Rig::new(zone, "_sip._udp.pool.example", more).await;
    rig.look().await;
    let nodes = rig.dispatcher.list(None).await.unwrap();
    let of = |n: usize| {
        (nodes[n].id.as_str(), nodes[n].capacity, nodes[n].zone.as_deref(), nodes[n].source.as_deref())
    };
    assert_eq!(of(0), ("ip-127-0-1-1-5060", 5, Some("z"), Some("dns")));
    assert_eq!(of(1), ("ip-127-0-1-2-5060", 10, Some("z"), Some("dns")));
    assert_eq!(nodes.len(), 2, "priority 2 waits");
    rig.authority.zone(&zone.replace("SRV 1 ", "SRV 3 "));
    assert_eq!(rig.look().await, ["3:5060 active"], "a better priority; the others are empty, and gone");
    let five: String = (1..6).map(|n| format!("_sip._udp.pool 0 IN SRV 1 1 506{n} a\n")).collect();
    rig.authority.zone(&(five + "a 0 IN A 127.0.1.1"));
    assert_eq!(rig.look().await, ["1:5061 active", "1:5062 active"], "nodes_max");
}

/// Two instances on one store make the same nodes, once.
#[tokio::test]
async fn instances_agree() {
    let rig = Rig::new(FLAT, "sip:pool.example:5060", "").await;
    let other = finder(&rig.authority);
    let pool = rig.dispatcher.pool(None).unwrap().clone();
    let found = look(&other, "sip:pool.example:5060").await.unwrap();
    let both = tokio::join!(
        pool.apply_found(Some(&found), &rig.template),
        pool.apply_found(Some(&found), &rig.template)
    );
    assert_eq!((both.0.unwrap().steps.len(), both.1.unwrap().steps.len()), (2, 0));
    assert_eq!(pool.seen().view.version, 2, "one change after the start's");
}

/// The zone changes all the time, the server fails now and then, calls come all the time: none is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_refused_while_the_zone_changes() {
    let mut rig = Rig::new(FLAT, "sip:pool.example:5060", "").await;
    rig.look().await;
    let dispatcher = rig.dispatcher.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = stop.clone();
    let calls = tokio::spawn(async move {
        let (mut calls, mut refused) = (0u32, 0u32);
        while !until.load(std::sync::atomic::Ordering::SeqCst) {
            let attrs = format!("ft={calls};cs=1");
            let ask = RouteAsk::parse(&format!("load-{calls}"), "sip:1@example.com", &attrs).unwrap();
            let routed = dispatcher.route(&ask, "test").await;
            match routed {
                Ok(routed) => hang_up(&dispatcher, &routed.document).await,
                Err(_) => refused += 1,
            }
            calls += 1;
        }
        (calls, refused)
    });
    let clock = Stopwatch::start();
    let mut rounds = 0u32;
    while clock.elapsed() < Duration::from_secs(3) {
        rounds += 1;
        rig.authority.mood(match rounds % 7 {
            3 => Mood::Code(ResponseCode::ServFail),
            5 => Mood::Odd(Vec::new()),
            _ => Mood::Good,
        });
        // Each time another pair of six places; every seventh time none at all.
        let zone = if rounds.is_multiple_of(7) {
            String::new()
        } else {
            format!("pool 0 IN A 127.0.1.{}\npool 0 IN A 127.0.1.{}", 1 + rounds % 6, 1 + (rounds / 2) % 6)
        };
        rig.authority.zone(&zone);
        let nodes = rig.look().await;
        assert!(nodes.iter().any(|n| n.ends_with("active")), "round {rounds}: {nodes:?}");
        // Not for the answers: the calls want their share of a small machine.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (calls, refused) = calls.await.unwrap();
    println!("{rounds} zones, {calls} calls, {refused} refused");
    assert!(rounds > 50 && calls > 200, "{rounds} zones, {calls} calls");
    assert_eq!(refused, 0);
}

async fn hang_up(dispatcher: &Dispatcher, document: &str) {
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let token = document["mqs"]["token"].as_str().unwrap().to_owned();
    dispatcher.settle(Verb::Done, &token, BranchAsk::default()).await.unwrap();
}
