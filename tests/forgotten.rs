//! A store that lost its memory counts again what is up, from what each instance knows of its own calls; what is over stays over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;

use mqs::clock;
use mqs::dispatch::nodes::{NodeChange, NodeDef};
use mqs::dispatch::settle::Verb;
use mqs::domain::node::NodeState;
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use scene::{AWAY, HERE, Scene, token};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// I11: the loads are true again after this.
const TRUE_AGAIN: Duration = Duration::from_secs(5);

fn empty() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Box::new(clock::wall)))
}

/// Some rounds of what every instance does twice a second.
async fn rounds(count: u32) {
    tokio::time::sleep(Duration::from_millis(500) * count).await;
}

async fn up(scene: &Scene, call: &str) -> String {
    let token = token(&scene.route(call).await.unwrap());
    assert_eq!(scene.settle(Verb::Confirm, &token, "").await.unwrap(), "confirmed");
    token
}

#[tokio::test(start_paused = true)]
async fn what_is_up_is_counted_again_where_it_is_up() {
    let scene = Scene::set(HERE).await;
    let _watch = scene.watch();
    let confirmed = up(&scene, "confirmed").await;
    let held = token(&scene.route("held").await.unwrap());
    let moved = token(&scene.route("moved").await.unwrap());
    assert_eq!(scene.settle(Verb::Fail, &moved, "branch=0;code=503").await.unwrap(), "moved");
    let over = up(&scene, "over").await;
    scene.settle(Verb::Done, &over, "").await.unwrap();
    let before = scene.loads().await;
    assert_eq!(before.iter().sum::<u32>(), 3);
    scene.store.forget(empty());
    assert_eq!(scene.loads().await, [0u32; 0], "it knows nothing");
    tokio::time::sleep(TRUE_AGAIN).await;
    assert_eq!(scene.loads().await, before);
    assert!(scene.metric("mqs_leases_given_back_total 3"));
    assert_eq!(scene.settle(Verb::Confirm, &over, "").await.unwrap(), "gone", "its end was told again too");
    assert_eq!(scene.settle(Verb::Confirm, &confirmed, "").await.unwrap(), "already");
    for token in [&confirmed, &held, &moved] {
        assert_eq!(scene.settle(Verb::Done, token, "").await.unwrap(), "ended");
    }
    assert_eq!(scene.load().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_the_store_is_away_does_not_come_back_with_it() {
    let scene = Scene::set(HERE).await;
    let _watch = scene.watch();
    let (one, two) = (up(&scene, "c1").await, up(&scene, "c2").await);
    scene.fault(AWAY);
    rounds(3).await;
    assert!(scene.settle(Verb::Done, &one, "").await.is_err(), "the proxy keeps it");
    // Answered, heard and ended without the store.
    let three = token(&scene.route("c3").await.unwrap());
    let four = token(&scene.route("c4").await.unwrap());
    for (verb, token) in [(Verb::Confirm, &three), (Verb::Confirm, &four), (Verb::Done, &four)] {
        assert!(scene.settle(verb, token, "").await.is_err());
    }
    scene.store.forget(empty());
    scene.fault(HERE);
    tokio::time::sleep(TRUE_AGAIN).await;
    assert_eq!(scene.load().await, 2, "c2 and c3");
    // What the proxy kept, it says again.
    for (token, word) in [(&one, "already"), (&four, "already"), (&two, "ended"), (&three, "ended")] {
        assert_eq!(scene.settle(Verb::Done, token, "").await.unwrap(), word);
    }
    assert_eq!(scene.load().await, 0);
}

#[tokio::test(start_paused = true)]
async fn two_instances_give_back_their_own_and_nothing_twice() {
    for first in [0, 1] {
        let shared = empty();
        let instances = [Scene::over(shared.clone(), HERE).await, Scene::over(shared, HERE).await];
        let watches = instances.each_ref().map(Scene::watch);
        let [a, b] = &instances;
        let (_of_a, _of_b) = (up(a, "a").await, up(b, "b").await);
        let of_both = up(a, "both").await;
        assert_eq!(b.settle(Verb::Confirm, &of_both, "").await.unwrap(), "already");
        // Ended by the instance that did not answer for it, a moment before.
        let elsewhere = up(a, "elsewhere").await;
        assert_eq!(b.settle(Verb::Done, &elsewhere, "").await.unwrap(), "ended");
        assert_eq!(a.load().await, 3);
        let before = a.loads().await;
        watches.iter().for_each(|watch| watch.abort());
        let nothing = empty();
        instances.iter().for_each(|instance| instance.store.forget(nothing.clone()));
        // Whoever is first.
        let _one = instances[first].watch();
        rounds(4).await;
        let _other = instances[1 - first].watch();
        rounds(4).await;
        assert_eq!(a.loads().await, before);
    }
}

/// The end of a lease that went to another instance is learnt from the store, as long as that has its memory.
#[tokio::test(start_paused = true)]
async fn what_ended_elsewhere_some_time_ago_does_not_come_back() {
    let shared = empty();
    let (a, b) = (Scene::over(shared.clone(), HERE).await, Scene::over(shared, HERE).await);
    let _watch = a.watch();
    let (over, _up) = (up(&a, "over").await, up(&a, "up").await);
    b.settle(Verb::Done, &over, "").await.unwrap();
    rounds(61).await;
    // The other one is gone, with all it knew.
    drop(b);
    a.store.forget(empty());
    rounds(4).await;
    assert_eq!(a.load().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_while_it_is_told_again_is_told_once_more() {
    let scene = Scene::set(HERE).await;
    let _watch = scene.watch();
    for n in 0..3 {
        up(&scene, &format!("c{n}")).await;
    }
    for _ in 0..3 {
        scene.store.forget(empty());
        rounds(1).await;
        scene.fault(AWAY);
        rounds(2).await;
        scene.fault(HERE);
    }
    rounds(4).await;
    assert_eq!(scene.load().await, 3);
}

/// What an instance that was restarted does not know.
#[tokio::test(start_paused = true)]
async fn a_restarted_instance_knows_nothing_of_the_calls_before() {
    let shared = empty();
    let call = up(&Scene::over(shared.clone(), HERE).await, "c1").await;
    let scene = Scene::over(shared, HERE).await;
    let _watch = scene.watch();
    scene.store.forget(empty());
    rounds(4).await;
    assert_eq!(scene.load().await, 0, "docs/failure-modes.md says so");
    assert_eq!(scene.settle(Verb::Done, &call, "").await.unwrap(), "already");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_added_before_anybody_noticed_is_one_more_and_not_all() {
    let scene = Scene::set(HERE).await;
    scene.store.forget(empty());
    let pool = scene.dispatcher.pool(None).unwrap();
    let node = NodeDef {
        id: "c".parse().unwrap(),
        uri: "sip:127.0.1.3".parse().unwrap(),
        capacity: 10,
        zone: None,
        tags: BTreeSet::new(),
        state: NodeState::Active,
    };
    let view = pool.change(&NodeChange::Add(node)).await.unwrap();
    let ids: Vec<&str> = view.nodes.iter().map(|record| record.node.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}
