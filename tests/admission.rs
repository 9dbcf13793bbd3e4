//! Limits, pools that overflow, and keys that stick to a node, as those see them who ask.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/redis_server.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;

use mqs::clock;
use mqs::dispatch::Routed;
use mqs::dispatch::decision::Outcome;
use mqs::dispatch::settle::Verb;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use mqs::wire::ask::RouteAsk;
use mqs::wire::refusal::{Refusal, RefusalWord};
use redis_server::RedisServer;
use scene::{AWAY, HERE, Scene, document, token};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = r#"
emergency_numbers = ["112"]
[[pool]]
name = "main"
refuse_code = 486
retry_after_s = 7
overflow = "spare"
[pool.limit]
calls = 50
[pool.each_tenant]
calls = 2
[[pool.tenant]]
name = "acme.com"
calls_per_second = 0.01
burst = 3
[[pool.node]]
id = "a"
uri = "sip:127.0.1.1"
capacity = 4
[[pool.node]]
id = "b"
uri = "sip:127.0.1.2"
capacity = 4
[[pool]]
name = "spare"
refuse_code = 480
[[pool.node]]
id = "s"
uri = "sip:127.0.1.3"
capacity = 2
"#;

async fn scene() -> Scene {
    Scene::with(Arc::new(MemoryStore::new(Box::new(clock::wall))), HERE, CONFIG).await
}

async fn refused(scene: &Scene, call: &str, uri: &str, attributes: &str) -> Refusal {
    let ask = RouteAsk::parse(call, uri, attributes).unwrap();
    match scene.dispatcher.route(&ask, "test").await {
        Ok(routed) => panic!("answered: {}", routed.document),
        Err(refusal) => refusal,
    }
}

fn nodes(routed: &Routed) -> (String, String) {
    let document = document(routed);
    (
        document["mqs"]["pool"].as_str().unwrap().to_owned(),
        document["mqs"]["nodes"][0].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn a_tenant_that_has_its_calls_is_told_so_and_nobody_else_is() {
    let scene = scene().await;
    let first = scene.ask("c1", "tel:1", "tenant=x").await.unwrap();
    scene.ask("c2", "tel:1", "tenant=x").await.unwrap();
    let refusal = refused(&scene, "c3", "tel:1", "tenant=x").await;
    assert_eq!((refusal.word, refusal.sip_code, refusal.retry_after_s), (RefusalWord::Limit, 486, Some(7)));
    assert_eq!(refusal.reason, "pool main: tenant x: the limit of calls at once is reached");
    assert_eq!(scene.ask("c1", "tel:1", "tenant=x").await.unwrap().decision.outcome, Outcome::Repeat);
    scene.ask("c4", "tel:1", "tenant=y").await.unwrap();
    scene.ask("c5", "tel:1", "").await.unwrap();
    assert!(scene.ask("e1", "tel:112", "tenant=x").await.is_ok(), "an emergency call is never refused");
    let agent = format!("kind=agent;node={};tenant=x", nodes(&first).1);
    assert!(scene.ask("g1", "sip:agent@example.com", &agent).await.is_ok(), "the caller is counted already");
    scene.settle(Verb::Done, &token(&first), "").await.unwrap();
    assert!(scene.ask("c3", "tel:1", "tenant=x").await.is_ok());
    assert!(scene.metric(r#"mqs_limit_refusals_total{pool="main",scope="tenant",limit="calls"} 1"#));
    assert!(scene.metric(r#"mqs_lookups_total{pool="main",result="limit",transport="test"} 1"#));
}

#[tokio::test]
async fn a_rate_says_when_the_next_call_is_admitted() {
    let scene = scene().await;
    for call in ["c1", "c2", "c3"] {
        scene.ask(call, "tel:1", "tenant=acme.com").await.unwrap();
    }
    let refusal = refused(&scene, "c4", "tel:1", "tenant=acme.com").await;
    assert_eq!(refusal.reason, "pool main: tenant acme.com: the limit of calls a second is reached");
    assert!((90..=100).contains(&refusal.retry_after_s.unwrap()), "{refusal:?}");
    let dry = RouteAsk::parse("c5", "tel:1", "tenant=acme.com").unwrap();
    let decision = scene.dispatcher.explain(&dry).await.unwrap();
    assert_eq!(decision.outcome, Outcome::Refused(RefusalWord::Limit), "explained as it would be answered");
}

#[tokio::test]
async fn what_one_pool_refuses_another_answers_each_time_it_is_asked() {
    let scene = scene().await;
    let mut held = Vec::new();
    for n in 0..8 {
        held.push(scene.route(&format!("c{n}")).await.unwrap());
        assert_eq!(nodes(&held[n]).0, "main");
    }
    let over = scene.route("o1").await.unwrap();
    assert_eq!(nodes(&over), ("spare".to_owned(), "s".to_owned()));
    assert_eq!(over.decision.pool, "spare");
    let dry = RouteAsk::parse("o9", "sip:100@example.com", "").unwrap();
    assert_eq!(scene.dispatcher.explain(&dry).await.unwrap().pool, "spare");
    scene.settle(Verb::Done, &token(&held[0]), "").await.unwrap();
    let again = scene.route("o1").await.unwrap();
    assert_eq!(
        (again.decision.outcome, nodes(&again)),
        (Outcome::Repeat, nodes(&over)),
        "also now that there is room"
    );
    assert_eq!(nodes(&scene.route("c8").await.unwrap()).0, "main");
    assert_eq!(nodes(&scene.route("o2").await.unwrap()).0, "spare");
    let refusal = refused(&scene, "o3", "sip:100@example.com", "").await;
    assert_eq!((refusal.word, refusal.sip_code), (RefusalWord::Full, 486), "the first pool speaks");
    assert_eq!(refusal.reason, "pool main: no node has room for this call");
    assert_eq!(scene.settle(Verb::Confirm, &token(&over), "branch=0").await.unwrap(), "confirmed");
    assert_eq!(scene.settle(Verb::Done, &token(&over), "").await.unwrap(), "ended");
    assert_eq!(nodes(&scene.route("o3").await.unwrap()).0, "spare");
    assert!(scene.metric(r#"mqs_overflows_total{pool="main",into="spare"} 5"#), "o1 twice, o2, o3 twice");
    let limited = refused(&scene, "o4", "tel:1", "pool=spare;kind=agent;node=zz").await;
    assert_eq!(limited.word, RefusalWord::NoNode);
}

#[tokio::test]
async fn a_pool_without_a_node_overflows_also_while_the_store_is_away() {
    let text = CONFIG.replace("state", "").replacen("capacity = 4", "capacity = 4\nstate = \"down\"", 2);
    let scene = Scene::with(Arc::new(MemoryStore::new(Box::new(clock::wall))), HERE, &text).await;
    assert_eq!(nodes(&scene.route("c1").await.unwrap()).0, "spare");
    scene.fault(AWAY);
    let over = scene.route("c2").await.unwrap();
    assert_eq!((nodes(&over).0.as_str(), over.decision.outcome), ("spare", Outcome::Degraded));
}

#[tokio::test]
async fn a_limit_refuses_nobody_while_the_store_is_away() {
    let scene = scene().await;
    scene.ask("c1", "tel:1", "tenant=x").await.unwrap();
    scene.ask("c2", "tel:1", "tenant=x").await.unwrap();
    scene.fault(AWAY);
    assert_eq!(scene.ask("c3", "tel:1", "tenant=x").await.unwrap().decision.outcome, Outcome::Degraded);
    scene.fault(HERE);
    assert_eq!(scene.ask("c4", "tel:1", "tenant=x").await.err(), Some(RefusalWord::Limit));
}

#[tokio::test]
async fn a_callers_second_call_goes_to_the_same_node_while_there_is_room() {
    let scene = scene().await;
    let first = nodes(&scene.ask("c1", "tel:1", "sticky=+4930123").await.unwrap()).1;
    for n in 2..5 {
        assert_eq!(nodes(&scene.ask(&format!("c{n}"), "tel:1", "sticky=+4930123").await.unwrap()).1, first);
    }
    assert_ne!(nodes(&scene.ask("c5", "tel:1", "sticky=+4930123").await.unwrap()).1, first, "it is full");
    let other = nodes(&scene.ask("c6", "tel:1", "sticky=+4930124").await.unwrap()).1;
    assert_ne!(other, first);
}

/// However many instances ask however much at once, exactly as many are answered as the limit allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_are_exact_over_instances() {
    let server = RedisServer::start();
    let config = CONFIG
        .replace("capacity = 4", "capacity = 1000")
        .replace("calls_per_second = 0.01\nburst = 3", "calls_per_second = 0.001\nburst = 23")
        .replacen("calls = 2\n", "calls = 17\n", 1)
        .replace("calls = 50", "calls = 1000");
    let mut scenes = Vec::new();
    for _ in 0..4 {
        let options = Options { timeout: Duration::from_secs(5) };
        let store = RedisStore::connect(&server.url(), options).unwrap();
        let patient = format!("{config}\n[dispatch]\npick_deadline_ms = 1000\n");
        scenes.push(Arc::new(Scene::with(Arc::new(store), HERE, &patient).await));
    }
    let mut asked = Vec::new();
    for n in 0..600 {
        let (scene, tenant) = (scenes[n % 4].clone(), ["x", "acme.com", "z"][n % 3]);
        asked.push(tokio::spawn(async move {
            let answer = scene.ask(&format!("c{n}"), "tel:1", &format!("tenant={tenant}")).await;
            (tenant, answer.map(|routed| routed.decision.outcome))
        }));
    }
    let mut leased: BTreeMap<&str, u32> = BTreeMap::new();
    for one in asked {
        match one.await.unwrap() {
            (tenant, Ok(Outcome::Routed)) => *leased.entry(tenant).or_default() += 1,
            (_, Err(RefusalWord::Limit)) => {}
            (tenant, other) => panic!("{tenant}: {other:?}"),
        }
    }
    assert_eq!(leased, BTreeMap::from([("acme.com", 23), ("x", 17), ("z", 17)]));
}
