//! Leases are put right by what a node says that it has: an end that nobody told, a call that nobody counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;

use mqs::clock::Stopwatch;
use mqs::dispatch::repair::Carries;
use mqs::dispatch::settle::Verb;
use scene::{HERE, Scene, token};

/// A channel that is shown with this token; empty: with none.
fn caller(channel: &str, token: &str) -> Carries {
    Carries { channel: channel.parse().unwrap(), token: token.to_owned(), is_leg: false }
}

/// A node's list that is begun now.
async fn list(scene: &Scene, node: &str, carries: &[Carries]) {
    list_begun(scene, node, Stopwatch::start(), carries).await;
}

async fn list_begun(scene: &Scene, node: &str, begun: Stopwatch, carries: &[Carries]) {
    let (pool, node) = ("main".parse().unwrap(), node.parse().unwrap());
    scene.dispatcher.repair(&pool, &node, begun, carries.to_vec()).await;
}

/// A call that its node has answered: the node, and the token.
async fn call(scene: &Scene, name: &str) -> (String, String) {
    let routed = scene.route(name).await.unwrap();
    assert_eq!(scene.settle(Verb::Confirm, &token(&routed), "branch=0").await.unwrap(), "confirmed");
    (routed.decision.first_node().to_owned(), token(&routed))
}

fn repaired(scene: &Scene, kind: &str, count: u32) -> bool {
    scene.metric(&format!("mqs_repairs_total{{kind=\"{kind}\"}} {count}"))
}

#[tokio::test]
async fn a_call_whose_end_nobody_told_is_over_with_the_second_list() {
    let scene = Scene::set(HERE).await;
    let (node, _) = call(&scene, "c1").await;
    list(&scene, &node, &[]).await;
    assert_eq!(scene.load().await, 1, "it may be younger than the list");
    list(&scene, &node, &[]).await;
    assert_eq!(scene.load().await, 0);
    assert!(repaired(&scene, "lease-ended", 1));
}

#[tokio::test]
async fn a_list_that_was_begun_before_the_last_look_tells_nothing_new() {
    let scene = Scene::set(HERE).await;
    let (node, _) = call(&scene, "c1").await;
    let begun = Stopwatch::start();
    list_begun(&scene, &node, begun, &[]).await;
    list_begun(&scene, &node, begun, &[]).await;
    assert_eq!(scene.load().await, 1);
}

#[tokio::test]
async fn what_is_shown_or_only_held_stays() {
    let scene = Scene::set(HERE).await;
    let (node, token) = call(&scene, "c1").await;
    scene.route("c2").await.unwrap();
    scene.route("c3").await.unwrap();
    for _ in 0..3 {
        list(&scene, &node, &[caller("ch1", &token)]).await;
        let other = if node == "a" { "b" } else { "a" };
        list(&scene, other, &[]).await;
    }
    assert_eq!(scene.load().await, 3);
    assert!(!repaired(&scene, "lease-ended", 1));
}

#[tokio::test]
async fn a_call_that_nobody_counts_is_counted_with_the_first_list() {
    let before = Scene::set(HERE).await;
    let (node, token) = call(&before, "c1").await;
    // Another store, which knows nothing.
    let scene = Scene::set(HERE).await;
    assert_eq!(scene.load().await, 0);
    let shown = [caller("ch1", &token)];
    list(&scene, &node, &shown).await;
    assert_eq!(scene.load().await, 1);
    assert!(repaired(&scene, "lease-found", 1));
    list(&scene, &node, &shown).await;
    assert_eq!(scene.load().await, 1, "it is counted once");
    assert!(repaired(&scene, "lease-found", 1));
    // Its end is told, and is found.
    assert_eq!(scene.settle(Verb::Done, &token, "").await.unwrap(), "ended");
    assert_eq!(scene.load().await, 0);
}

#[tokio::test]
async fn what_another_node_counts_is_not_counted_here() {
    let before = Scene::set(HERE).await;
    let (node, token) = call(&before, "c1").await;
    let scene = Scene::set(HERE).await;
    let other = if node == "a" { "b" } else { "a" };
    for _ in 0..3 {
        list(&scene, other, &[caller("ch1", &token)]).await;
        list(&scene, other, &[caller("ch1", "m1.main.b.forged")]).await;
    }
    assert_eq!(scene.load().await, 0);
}

#[tokio::test]
async fn a_channel_that_names_no_lease_is_counted_with_the_second_list_and_a_leg_with_the_first() {
    let scene = Scene::set(HERE).await;
    let leg = Carries { is_leg: true, ..caller("leg1", "") };
    list(&scene, "b", &[caller("ch1", ""), leg.clone()]).await;
    assert_eq!(scene.loads().await, [0, 1], "the leg alone");
    list(&scene, "b", &[caller("ch1", ""), leg.clone()]).await;
    assert_eq!(scene.loads().await, [0, 2]);
    assert!(repaired(&scene, "lease-found", 2));
}
