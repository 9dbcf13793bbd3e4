//! What only a real Redis can do wrong: be away, be the wrong one, forget, be shared.

use super::redis_server::RedisServer;
use super::store_bench::{Bench, Harness, call, id, to_agent_on};
use super::{PATIENT, Redis};
use mqs::domain::id::Slot;
use mqs::domain::lease::Settled;
use mqs::store::redis::{Options, RedisStore};
use mqs::store::{Pick, Store, StoreError, View, Written};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const HASTY: Options = Options { timeout: Duration::from_millis(150) };

fn store(url: &str) -> RedisStore {
    RedisStore::connect(url, PATIENT).unwrap()
}

/// Asks until it answers; gives the errors met meanwhile.
async fn until_it_answers(store: &RedisStore) -> Vec<StoreError> {
    let mut errors = Vec::new();
    for _ in 0..200 {
        match store.now().await {
            Ok(_) => return errors,
            Err(e) => errors.push(e),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never answered: {:?}", errors.last());
}

#[tokio::test]
async fn a_wrong_url_is_named_without_its_password() {
    for url in [
        "",
        "localhost:6379",
        "http://:secret@h",
        "redis://:secret@h/x",
        "redis://:secret@h:99999",
        "redis+unix://?pass=secret",
    ] {
        let Err(e) = RedisStore::connect(url, Options::default()) else { panic!("{url} was taken") };
        let said = e.to_string();
        assert!(said.contains("is not the URL of a Redis") && said.contains("redis+unix://"), "{said}");
        assert!(!said.contains("secret") && !format!("{e:?}").contains("secret"), "{said}");
    }
    for url in ["redis://h", "rediss://u:p@h:6380/3", "redis+unix:///run/r.sock?db=1", "unix:///run/r.sock"] {
        assert!(RedisStore::connect(url, Options::default()).is_ok(), "{url}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_a_right_one_taken_as_soon_as_it_is() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for query in ["", "?pass=wrong", "?user=nobody&pass=right"] {
        let e = store(&format!("{}{query}", server.url())).now().await.unwrap_err();
        assert!(matches!(&e, StoreError::Refused { op: "now", .. }), "{query}: {e:?}");
        assert!(!e.to_string().contains("pass="), "{e}");
    }
    let other = format!("{}?pass=other", server.url());
    let later = store(&other);
    assert!(later.now().await.is_err());
    let mut admin =
        redis::Client::open(format!("{}?pass=right", server.url())).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("other").exec(&mut admin).unwrap();
    until_it_answers(&later).await;
}

#[tokio::test]
async fn the_database_and_the_user_of_the_url_are_used() {
    let redis = Redis::new();
    redis.server.say::<()>("ACL SETUSER mqs on >pw ~{mqs:* +@all -@dangerous +info");
    let second = store(&format!("{}?db=2&user=mqs&pass=pw", redis.server.url()));
    let pool = "p".parse().unwrap();
    let nodes = [super::store_bench::record(0, "a 10")];
    assert!(matches!(second.write_nodes(&pool, &View::empty(), &nodes).await.unwrap(), Written::Done(_)));
    assert_eq!(
        redis.store.view(&pool, &View::empty()).await.unwrap().version,
        0,
        "the first database is empty"
    );
    let keys: Vec<String> = redis.server.say("KEYS *");
    assert!(keys.is_empty());
    redis.server.say::<()>("ACL SETUSER mqs -zcount");
    let e =
        second.view(&pool, &second.view(&pool, &View::empty()).await.unwrap_or_else(|_| View::empty())).await;
    assert!(matches!(&e, Err(StoreError::Refused { op: "view", .. })), "{e:?}");
}

#[tokio::test]
async fn keys_carry_the_tag_of_their_pool_and_expire_or_are_few() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 10 zone=z1 tags=t", "b 10"]).await;
    bench.pick(1, &call()).await;
    bench.done(2).await;
    let mut keys: Vec<String> = redis.server.say("KEYS *");
    keys.sort();
    assert!(keys.iter().all(|key| key.starts_with("{mqs:p:p}:")), "{keys:?}");
    let names: Vec<&str> = keys.iter().map(|key| key.rsplit("}:").next().unwrap()).collect();
    let shelves = names.iter().filter(|name| name.starts_with("s:")).count();
    assert_eq!(shelves, 2, "{names:?}");
    bench.redefine(&["a 10", "b 10"]).await;
    let keys: Vec<String> = redis.server.say("KEYS *:s:*");
    assert_eq!(keys.len(), 1, "the old shelf is gone: {keys:?}");
}

#[tokio::test]
async fn a_replica_says_that_it_cannot_be_written_to() {
    let redis = Redis::new();
    Bench::with(&redis, &["a 10"]).await;
    // Replication needs TCP.
    let port = free_port();
    redis.server.say::<()>(&format!("CONFIG SET port {port}"));
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port.to_string()]);
    let on_replica = store(&replica.url());
    let pool = "p".parse().unwrap();
    for _ in 0..500 {
        if on_replica.view(&pool, &View::empty()).await.is_ok_and(|view| view.version > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let probe = on_replica.probe().await.unwrap().servers.remove(0);
    assert_eq!((probe.role.as_str(), probe.read_only), ("slave", true));
    let view = on_replica.view(&pool, &View::empty()).await.unwrap();
    assert_eq!(view.nodes.len(), 1, "reading it may do");
    let e = on_replica.pick(&pool, &rules(), &view, &[pick(1)]).await.unwrap_err();
    let StoreError::Refused { op: "pick", cause } = &e else { panic!("{e:?}") };
    assert!(
        cause.to_lowercase().contains("read only") || cause.to_lowercase().contains("read-only"),
        "{cause}"
    );
    // It becomes the master: no restart needed.
    replica.say::<()>("REPLICAOF NO ONE");
    assert_eq!(on_replica.pick(&pool, &rules(), &view, &[pick(1)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_redis_that_comes_later_is_used_when_it_is_there() {
    let mut server = RedisServer::prepare(&[]);
    let store = RedisStore::connect(&server.url(), HASTY).unwrap();
    for _ in 0..3 {
        let e = store.now().await.unwrap_err();
        assert!(matches!(&e, StoreError::Away { op: "now", .. }), "{e:?}");
    }
    server.up();
    until_it_answers(&store).await;
    server.down();
    assert!(store.now().await.is_err());
    server.up();
    let errors = until_it_answers(&store).await;
    assert!(errors.len() <= 2, "back at once: {errors:?}");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_a_time_out() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), HASTY).unwrap();
    store.now().await.unwrap();
    server.say::<()>("CLIENT PAUSE 700 ALL");
    for _ in 0..4 {
        let e = store.now().await.unwrap_err();
        assert!(matches!(&e, StoreError::Timeout { op: "now", after_ms: 150 }), "{e:?}");
    }
    until_it_answers(&store).await;
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 10"]).await;
    for lease in 0..3 {
        assert_eq!(bench.chosen(lease, &call()).await, "a");
        redis.server.say::<()>("SCRIPT FLUSH");
        assert_eq!(bench.confirm(lease, 0, None).await, Settled::Confirmed);
    }
    assert_eq!(bench.loads().await, "a=3");
}

#[tokio::test]
async fn lost_definitions_are_told_from_an_empty_pool_and_can_be_put_back() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 10", "b 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    let old = bench.seen.version;
    redis.server.say::<()>("FLUSHALL");
    let view = redis.store.view(&bench.pool, &bench.seen).await.unwrap();
    assert_eq!((view.version, view.nodes.len(), view.loaded.len()), (0, 0, 0));
    let e = redis.store.pick(&bench.pool, &bench.rules, &bench.seen, &[pick(2)]).await.unwrap_err();
    assert!(matches!(&e, StoreError::Damaged { op: "pick", .. }), "{e:?}");
    // Calls go on all the same: their verbs are taken, and count when the nodes are back.
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Adopted);
    bench.sweep(10).await;
    let written = redis.store.write_nodes(&bench.pool, &view, &bench.seen.nodes).await.unwrap();
    assert!(matches!(written, Written::Done(version) if version > old), "no version comes twice");
    assert_eq!(bench.loads().await, "a=1 b=0");
    assert_eq!(bench.chosen(2, &call()).await, "b");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_harms_nobody_else() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 10", "b 10"]).await;
    let lease = id(1).to_string();
    for junk in
        ["", "junk", "H 0", "H 9 1,2 99999999999999", "C 0 77 99999999999999", "H 0 -,- 99999999999999"]
    {
        let mut cmd = redis::cmd("HSET");
        redis.server.send::<()>(cmd.arg("{mqs:p:p}:lease").arg(&lease).arg(junk));
        bench.pick(1, &call()).await;
        bench.fail(1, 0).await;
        bench.confirm(1, 0, Some(0)).await;
        bench.done(1).await;
        assert_eq!(bench.loads().await, "a=0 b=0", "{junk:?}");
        redis.server.say::<()>(&format!("HDEL {{mqs:p:p}}:lease {lease}"));
    }
    redis.server.say::<()>("HSET {mqs:p:p}:node b {\"id\":\"b\"}");
    let e = redis.store.view(&bench.pool, &View::empty()).await.unwrap_err();
    let StoreError::Damaged { op: "view", key, cause } = &e else { panic!("{e:?}") };
    assert!(key == "{mqs:p:p}:node" && cause.contains("slot"), "{e}");
    redis.server.say::<()>("DEL {mqs:p:p}:own");
    redis.server.say::<()>("SET {mqs:p:p}:own text");
    let e = redis.store.pick(&bench.pool, &bench.rules, &bench.seen, &[pick(5)]).await.unwrap_err();
    assert!(matches!(&e, StoreError::Refused { cause, .. } if cause.contains("WRONGTYPE")), "{e:?}");
}

#[tokio::test]
async fn a_wrong_score_is_put_right_by_the_next_word_about_its_node() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 10", "b 10"]).await;
    let shelf: Vec<String> = redis.server.say("KEYS *:s:*");
    redis.server.say::<()>(&format!("ZADD {} 3000000000000000 0000:10", shelf[0]));
    assert_eq!(bench.chosen(1, &call()).await, "b");
    assert_eq!(bench.chosen(2, &call()).await, "b", "a is thought to be fuller than it is");
    assert_eq!(bench.confirm(3, 0, Some(0)).await, Settled::Adopted);
    assert_eq!(bench.done(3).await, Settled::Ended);
    assert_eq!(bench.chosen(4, &call()).await, "a");
    redis.server.say::<()>(&format!("ZADD {} 3000000000000000 0000:10", shelf[0]));
    assert_eq!(bench.chosen(5, &to_agent_on("a")).await, "a", "a pick puts it right too");
    assert_eq!([bench.done(4).await, bench.done(5).await], [Settled::Ended, Settled::Ended]);
    redis.server.say::<()>(&format!("ZADD {} 3000000000000000 0000:10", shelf[0]));
    assert_eq!(bench.chosen(6, &to_agent_on("a")).await, "a");
    assert_eq!(bench.chosen(7, &call()).await, "a", "1 of 10, and b has 2");
}

#[tokio::test]
async fn one_instance_is_steward_at_a_time() {
    let server = RedisServer::start();
    let (one, two) = (store(&server.url()), store(&server.url()));
    assert!(one.hold_steward("one", 300).await.unwrap());
    assert!(!two.hold_steward("two", 300).await.unwrap());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(one.hold_steward("one", 300).await.unwrap(), "kept");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!two.hold_steward("two", 300).await.unwrap());
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(two.hold_steward("two", 300).await.unwrap());
    assert!(!one.hold_steward("one", 300).await.unwrap());
}

#[tokio::test]
async fn a_server_says_what_it_is() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let probe = store(&server.url()).probe().await.unwrap();
    assert_eq!((probe.kind, probe.rights_missing.len(), probe.servers.len()), ("one server", 0, 1));
    let probe = &probe.servers[0];
    assert!(probe.server.contains(' ') && !probe.read_only, "{probe:?}");
    assert_eq!((probe.role.as_str(), probe.maxmemory_policy.as_deref()), ("master", Some("allkeys-lru")));
}

/// However many pick at once: nobody was given a node that was fuller than another one would have been.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn picks_of_many_at_once_spread_evenly() {
    let redis = Redis::new();
    let bench = Bench::with(&redis, &["a 100", "b 150", "c 70", "d 100", "e 211"]).await;
    let stores = [Arc::new(store(&redis.server.url())), Arc::new(store(&redis.server.url()))];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8u32 {
        let (pool, view) = (bench.pool.clone(), bench.seen.clone());
        let stores = stores.clone();
        tasks.spawn(async move {
            let mut count = 0;
            for round in 0..6u32 {
                let batch: Vec<Pick> =
                    (0..1 + (task + round) % 12).map(|i| pick(task * 1000 + round * 20 + i)).collect();
                let store = &stores[(task + round) as usize % 2];
                let answers = store.pick(&pool, &rules(), &view, &batch).await.unwrap();
                // Somebody repeats what they have asked already.
                store.pick(&pool, &rules(), &view, &batch).await.unwrap();
                count += answers.len();
            }
            count
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done.unwrap();
    }
    let view = redis.store().view(&bench.pool, &bench.seen).await.unwrap();
    let occupancy =
        |more: u32| view.loaded.iter().map(move |n| f64::from(n.load + more) / f64::from(n.node.capacity));
    assert_eq!(view.loaded.iter().map(|n| n.load as usize).sum::<usize>(), count);
    let (most, least_after) = (occupancy(0).fold(0.0, f64::max), occupancy(1).fold(9.0, f64::min));
    assert!(most <= least_after, "{most} > {least_after}");
    let touched: HashSet<u64> = view.loaded.iter().map(|n| n.touched).collect();
    assert_eq!(touched.len(), 5, "no two nodes were touched at the same time");
}

fn pick(lease: u32) -> Pick {
    Pick::plain(id(lease), call(), vec![Slot(0), Slot(1)])
}

fn rules() -> mqs::store::PoolRules {
    mqs::store::PoolRules { choose: super::store_bench::CHOOSE, life: super::store_bench::LIFE }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn what_may_have_been_forgotten_shows_in_the_history() {
    let mut redis = Redis::new();
    let mut bench = Bench::with(&redis, &["a 10"]).await;
    let before = bench.look().await.clone();
    redis.server.say::<()>("SCRIPT FLUSH");
    assert_eq!(bench.look().await.history, before.history, "scripts are no memory");
    redis.server.say::<()>("FLUSHALL");
    let emptied = bench.look().await.clone();
    assert!(emptied.version == 0 && emptied.history != before.history);
    let known = redis.store.known(&bench.pool, &[id(1)]).await.unwrap();
    assert_eq!(known.history, emptied.history);
    bench.define(&["a 10"]).await;
    let again = bench.seen.clone();
    assert!(again.history != before.history && again.history != emptied.history);
    assert_eq!(bench.look().await.history, again.history);
    let pool = bench.pool.clone();
    // A log would bring the keys back, and perhaps not the last ones.
    redis.server.up();
    until_it_answers(&redis.store).await;
    let restarted = redis.store.view(&pool, &again).await.unwrap();
    assert_ne!(restarted.history, emptied.history, "another process");
}

/// Who may not ask for INFO still sees that a pool was emptied.
#[tokio::test]
async fn without_the_right_to_info_an_emptied_pool_is_seen() {
    let redis = Redis::new();
    redis.server.say::<()>("ACL SETUSER mqs on >pw ~{mqs:* +@all -@dangerous");
    let second = store(&format!("{}?user=mqs&pass=pw", redis.server.url()));
    let (pool, nodes) = ("p".parse().unwrap(), [super::store_bench::record(0, "a 10")]);
    let mut histories = HashSet::new();
    for _ in 0..3 {
        second.write_nodes(&pool, &View::empty(), &nodes).await.unwrap();
        let view = second.view(&pool, &View::empty()).await.unwrap();
        assert_eq!(second.view(&pool, &view).await.unwrap().history, view.history);
        histories.insert(view.history);
        redis.server.say::<()>("FLUSHALL");
    }
    assert_eq!(histories.len(), 3);
}
