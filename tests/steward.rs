//! Without a steward, and without anybody who looks, calls are answered as before: what is left undone is only done later.

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
use mqs::dispatch::decision::Outcome;
use mqs::dispatch::nodes::NodeChange;
use mqs::dispatch::settle::Verb;
use mqs::domain::time::EpochMs;
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use mqs::wire::refusal::RefusalWord;
use redis_server::RedisServer;
use scene::{CONFIG, HERE, Scene, token};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// With held leases of a second: a minute of theirs is half an hour of the real ones.
fn config() -> String {
    CONFIG.replacen("[[pool]]", "[dispatch]\nheld_ms = 1000\n[[pool]]", 1)
}

/// Everything that a pool is asked for, with nobody who looks after it. `pass` lets so many ms pass.
async fn live_without_a_steward(scene: &Scene, other: &Scene, rounds: u32, pass: impl AsyncFn(u64)) {
    for round in 0..rounds {
        // Six channels in all: callers who leave before they are confirmed fill them.
        for n in 0..6 {
            let routed = scene.route(&format!("r{round}-left{n}")).await.unwrap();
            assert_eq!(routed.decision.outcome, Outcome::Routed, "round {round}");
        }
        assert_eq!(scene.load().await, 6);
        assert_eq!(scene.route("more").await.err(), Some(RefusalWord::Full));
        pass(1_100).await;
        assert_eq!(scene.load().await, 0, "what is over is not counted, swept or not");
        // Their leases are over, and nobody has swept them: there is room all the same.
        let calls: Vec<String> = (0..6).map(|n| format!("r{round}-call{n}")).collect();
        let mut tokens = Vec::new();
        for call in &calls {
            let routed =
                scene.route(call).await.unwrap_or_else(|word| panic!("round {round}, {call}: {word:?}"));
            tokens.push(token(&routed));
            assert_eq!(scene.settle(Verb::Confirm, tokens.last().unwrap(), "").await.unwrap(), "confirmed");
        }
        assert_eq!(scene.loads().await, [2, 4]);
        let again = other.route(&calls[0]).await.unwrap();
        assert_eq!(again.decision.outcome, Outcome::Repeat, "another instance, the same answer");
        for token in &tokens {
            assert_eq!(other.settle(Verb::Done, token, "").await.unwrap(), "ended");
        }
        // Nodes that another instance changed count at once.
        let pool = other.dispatcher.pool(None).unwrap();
        let state = |state: &str| {
            let state = Some(state.parse().unwrap());
            let patch = mqs::dispatch::nodes::NodePatch { state, ..Default::default() };
            NodeChange::Set("b".parse().unwrap(), patch)
        };
        pool.change(&state("draining")).await.unwrap();
        let routed = scene.route(&format!("r{round}-drained")).await.unwrap();
        assert_eq!(routed.decision.first_node(), "a");
        scene.settle(Verb::Done, &token(&routed), "").await.unwrap();
        pool.change(&state("active")).await.unwrap();
        pass(1_100).await;
    }
}

#[tokio::test]
async fn in_memory() {
    let time = Arc::new(AtomicU64::new(clock::wall().0));
    let read = time.clone();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Box::new(move || EpochMs(read.load(SeqCst)))));
    let scene = Scene::with(store.clone(), HERE, &config()).await;
    let other = Scene::with(store, HERE, &config()).await;
    // Ten minutes.
    live_without_a_steward(&scene, &other, 270, async |ms| _ = time.fetch_add(ms, SeqCst)).await;
}

#[tokio::test]
async fn in_redis_and_what_was_left_undone_is_done_when_there_is_one_again() {
    let server = RedisServer::start();
    let patient = Options { timeout: Duration::from_secs(5) };
    let store = || Arc::new(RedisStore::connect(&server.url(), patient).unwrap());
    let scene = Scene::with(store(), HERE, &config()).await;
    let other = Scene::with(store(), HERE, &config()).await;
    live_without_a_steward(&scene, &other, 3, async |ms| tokio::time::sleep(Duration::from_millis(ms)).await)
        .await;
    for n in 0..6 {
        scene.route(&format!("left{n}")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let owners = || server.say::<u64>("ZCARD {mqs:p:main}:own");
    assert_eq!(owners(), 6, "nobody has swept: nothing was refused");
    let _watch = scene.watch();
    for _ in 0..300 {
        if owners() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} leases are left 3 s after there is a steward again", owners());
}
