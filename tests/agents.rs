//! The way of an agent's leg: the token of its offer lets it ring, once, and only if the store says so; and registrations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/redis_server.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;
mod support;

use mqs::clock;
use mqs::dispatch::Dispatcher;
use mqs::dispatch::cell::{Cell, RegisterError};
use mqs::domain::id::{CellId, PoolId};
use mqs::domain::pool::Kind;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Batch, CellStore, Change, Committed, Opened, Position};
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use mqs::wire::ask::RouteAsk;
use mqs::wire::offer_token::OfferToken;
use mqs::wire::refusal::{Refusal, RefusalWord};
use mqs::wire::register::RegisterAsk;
use mqs::wire::token::{Secret, Token, lease_id};
use redis_server::RedisServer;
use scene::{AWAY, HERE, Scene};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::faulty;

fn cell() -> CellId {
    "main".parse().unwrap()
}

fn secret() -> Secret {
    // That of the scene.
    Secret::new(&[b's'; 32]).unwrap()
}

fn offer_token(offer: &str) -> OfferToken {
    OfferToken {
        cell: cell(),
        pool: "main".parse().unwrap(),
        node: "b".parse().unwrap(),
        offer: offer.parse().unwrap(),
        leg: format!("leg-{offer}").parse().unwrap(),
    }
}

fn signed(offer: &str) -> String {
    offer_token(offer).sign(&secret())
}

/// What a leader writes of its offers.
struct Leader {
    store: Arc<dyn CellStore>,
    epoch: u64,
    seq: u64,
}

impl Leader {
    async fn new(store: Arc<dyn CellStore>, epoch: u64) -> Leader {
        let Opened::Here(image) = store.open(&cell(), epoch, false).await.unwrap() else { panic!("fenced") };
        Leader { store, epoch, seq: image.seq }
    }

    async fn commit(&mut self, change: Change) {
        self.seq += 1;
        let batch = Batch {
            epoch: self.epoch,
            seq: self.seq,
            rewrite: None,
            changes: vec![change],
            cursor: Position(0),
            clock: EpochMs(0),
        };
        assert_eq!(self.store.commit(&cell(), &batch).await.unwrap(), Committed::Done);
    }

    async fn issue(&mut self, offer: &str) {
        self.commit(Change::Issue { offer: offer.to_owned() }).await;
    }
}

async fn scene() -> (Scene, Leader) {
    let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
    let scene = Scene::over(store.clone(), HERE).await;
    assert!(scene.dispatcher.serve_cell(Cell { id: cell(), store: store.clone() }));
    let leader = Leader::new(store, 7).await;
    (scene, leader)
}

async fn ring(dispatcher: &Dispatcher, call: &str, attributes: &str) -> Result<String, Refusal> {
    let ask = RouteAsk::parse(call, "sip:ann@example.com", &format!("kind=agent;{attributes}")).unwrap();
    dispatcher.route(&ask, "test").await.map(|routed| routed.document)
}

#[tokio::test]
async fn a_leg_rings_by_its_token_once_and_is_counted_on_the_callers_node() {
    let (scene, mut leader) = scene().await;
    leader.issue("o1").await;
    let with = format!("ft=t1;cs=1;tok={}", signed("o1"));
    let first: serde_json::Value =
        serde_json::from_str(&ring(&scene.dispatcher, "c1", &with).await.unwrap()).unwrap();
    assert_eq!(first["mqs"]["nodes"], serde_json::json!(["b"]));
    assert!(first["routes"][0].get("dst_uri").is_none(), "{first}");
    assert_eq!(scene.loads().await, [0, 1]);

    // The same lookup: the same answer, one lease.
    let again: serde_json::Value =
        serde_json::from_str(&ring(&scene.dispatcher, "c1", &with).await.unwrap()).unwrap();
    assert_eq!((&again["mqs"]["lease"], &again["mqs"]["repeat"]), (&first["mqs"]["lease"], &true.into()));
    assert_eq!(scene.loads().await, [0, 1]);

    // Any other INVITE with it: none.
    for (call, identity) in [("c2", "ft=t1;cs=1"), ("c1", "ft=t2;cs=1"), ("c1", "ft=t1;cs=2")] {
        let refused = ring(&scene.dispatcher, call, &format!("{identity};tok={}", signed("o1"))).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.word, refused.sip_code), (RefusalWord::Void, 403), "{call} {identity}");
        assert!(refused.reason.starts_with("used"), "{refused}");
    }
    assert_eq!(scene.loads().await, [0, 1]);
    for line in [
        r#"mqs_redeems_total{result="yes"} 1"#,
        r#"mqs_redeems_total{result="again"} 1"#,
        r#"mqs_redeems_total{result="used"} 3"#,
        r#"mqs_lookups_total{pool="main",result="void",transport="test"} 3"#,
    ] {
        assert!(scene.metric(line), "{line}");
    }
    assert_eq!(scene.dispatcher.decision("c2").unwrap().outcome.as_str(), "void");
}

#[tokio::test]
async fn what_is_not_good_any_more_or_never_was_lets_nobody_ring() {
    let (scene, mut leader) = scene().await;
    for offer in ["o1", "o2", "o3"] {
        leader.issue(offer).await;
    }
    leader.commit(Change::Revoke { offer: "o2".to_owned() }).await;
    let reason = async |call: &str, token: &str| {
        let refused = ring(&scene.dispatcher, call, &format!("tok={token}")).await.unwrap_err();
        assert_eq!((refused.word, refused.sip_code), (RefusalWord::Void, 403), "{refused}");
        refused.reason
    };
    assert!(reason("c1", &signed("o2")).await.starts_with("unknown"), "withdrawn");
    assert!(reason("c1", &signed("o9")).await.starts_with("unknown"), "never made");
    let other = Secret::new(&[b'x'; 32]).unwrap();
    assert!(reason("c1", &offer_token("o1").sign(&other)).await.starts_with("altered"));
    let mut altered = signed("o1").replace(".b.", ".a.");
    assert!(reason("c1", &altered).await.starts_with("altered"));
    altered.truncate(20);
    assert!(reason("c1", &altered).await.starts_with("altered"));
    let pool: PoolId = "main".parse().unwrap();
    let lease = lease_id(&pool, "c1", "", 0, Kind::Agent);
    let lease = Token { pool, node: "b".parse().unwrap(), lease, attempt: 0, issued: EpochMs(0) };
    assert!(reason("c1", &lease.sign(&secret())).await.starts_with("altered"), "a lease's token");
    let elsewhere = OfferToken { cell: "other".parse().unwrap(), ..offer_token("o1") };
    assert_eq!(reason("c1", &elsewhere.sign(&secret())).await, "the offer is another cell's");

    // A new leader: what the old one made is over, until the new one makes it good.
    let mut new = Leader::new(leader.store.clone(), 8).await;
    assert!(reason("c1", &signed("o1")).await.starts_with("stale"));
    assert_eq!(scene.loads().await, [0, 0], "nothing of all that was counted");
    new.issue("o1").await;
    assert!(ring(&scene.dispatcher, "c1", &format!("tok={}", signed("o1"))).await.is_ok());
    assert_eq!(scene.loads().await, [0, 1]);
}

#[tokio::test]
async fn a_node_that_is_gone_is_not_taken_for_an_agent_who_is() {
    let (scene, mut leader) = scene().await;
    leader.issue("o1").await;
    let token = OfferToken { node: "gone".parse().unwrap(), ..offer_token("o1") }.sign(&secret());
    let refused = ring(&scene.dispatcher, "c1", &format!("tok={token}")).await.unwrap_err();
    assert_eq!((refused.word, refused.sip_code), (RefusalWord::NoNode, 503), "{refused}");
}

#[tokio::test]
async fn without_a_cell_nobody_is_asked() {
    let scene = Scene::set(HERE).await;
    let refused = ring(&scene.dispatcher, "c1", &format!("tok={}", signed("o1"))).await.unwrap_err();
    assert_eq!((refused.word, refused.sip_code), (RefusalWord::NoCell, 500));
    let ask = RegisterAsk::from_attributes("ann@example.com", "exp=60;kam=k1;id=x;cs=1").unwrap();
    match scene.dispatcher.register(&ask).await {
        Err(RegisterError::Refused(refusal)) => assert_eq!(refusal.word, RefusalWord::NoCell),
        other => panic!("{other:?}"),
    }
    assert!(ring(&scene.dispatcher, "c1", "node=b").await.is_ok(), "a leg without an offer is only counted");
}

#[tokio::test]
async fn registrations_are_noted_and_end() {
    let (scene, leader) = scene().await;
    let say = async |exp: u32, kam: &str, id: &str, cs: u32| {
        let text = format!("exp={exp};kam={kam};id={id};cs={cs}");
        let ask = RegisterAsk::from_attributes("ann@Example.com", &text).unwrap();
        scene.dispatcher.register(&ask).await.unwrap();
        let mut found: Vec<_> = leader.store.registrations(&cell()).await.unwrap();
        found.sort_by(|a, b| a.proxy.cmp(&b.proxy));
        found.iter().map(|r| (r.aor.clone(), r.proxy.to_string(), r.until.0 - r.at.0)).collect::<Vec<_>>()
    };
    let here = |kam: &str, ms: u64| ("ann@example.com".to_owned(), kam.to_owned(), ms + 30_000);
    assert_eq!(say(60, "k1", "x", 1).await, [here("k1", 60_000)]);
    assert_eq!(say(90, "k2", "y", 1).await, [here("k1", 60_000), here("k2", 90_000)]);
    assert_eq!(say(0, "k1", "x", 2).await, [here("k2", 90_000)]);
    assert_eq!(say(60, "k1", "x", 1).await, [here("k2", 90_000)], "late");
    assert!(scene.metric(r#"mqs_registers_total{result="here"} 3"#));
    assert!(scene.metric(r#"mqs_registers_total{result="gone"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_leg_is_not_turned_away_for_a_store_that_is_back_and_not_yet_known_to_be() {
    let (scene, mut leader) = scene().await;
    let closed = |scene: &Scene| scene.metric(r#"mqs_store_breaker_state{pool="main",state="closed"} 1"#);
    scene.fault(AWAY);
    while closed(&scene) {
        scene.route("x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.fault(HERE);
    // The leader has found out: it has written an offer.
    leader.issue("o1").await;
    assert!(!closed(&scene), "no probe has told the pool");
    let rang = ring(&scene.dispatcher, "c1", &format!("tok={}", signed("o1"))).await;
    assert!(rang.is_ok(), "{rang:?}");
    assert!(closed(&scene), "whatever the store answers closes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_hangs_or_is_away_no_leg_rings_and_none_waits_long() {
    let mut server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), Options { timeout: Duration::from_millis(50) }).unwrap();
    let store = Arc::new(store);
    let scene = Scene::over(store.clone(), HERE).await;
    scene.dispatcher.serve_cell(Cell { id: cell(), store: store.clone() });
    let mut leader = Leader::new(store, 7).await;
    leader.issue("o1").await;
    let with = format!("tok={}", signed("o1"));

    server.say::<String>("CLIENT PAUSE 800 ALL");
    for _ in 0..3 {
        #[allow(clippy::disallowed_methods)]
        let began = Instant::now();
        let refused = ring(&scene.dispatcher, "c1", &with).await.unwrap_err();
        assert_eq!((refused.word, refused.sip_code), (RefusalWord::Away, 503), "{refused}");
        assert!(began.elapsed() < Duration::from_millis(250), "{:?}", began.elapsed());
    }
    let ask = RegisterAsk::from_attributes("ann@example.com", "exp=60;kam=k1;id=x;cs=1").unwrap();
    assert!(matches!(scene.dispatcher.register(&ask).await, Err(RegisterError::Store(_))));

    // Back: the first that asks may ring, also if its token was used by a question whose answer was lost.
    let mut rang = Err(RefusalWord::Away);
    for _ in 0..100 {
        rang = ring(&scene.dispatcher, "c1", &with).await.map_err(|refusal| refusal.word);
        if rang != Err(RefusalWord::Away) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(rang.is_ok(), "{rang:?}");

    server.down();
    let refused = ring(&scene.dispatcher, "c2", &with).await.unwrap_err();
    assert_eq!(refused.word, RefusalWord::Away, "not used, not stale: nobody knows");
}
