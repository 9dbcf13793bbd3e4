//! A store that hangs: after a few time-outs nobody waits for it, and soon after it answers again it is asked again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;

use faulty::HANGS;
use mqs::clock::Stopwatch;
use mqs::dispatch::decision::Outcome;
use mqs::dispatch::settle::{SettleError, Verb};
use scene::{AWAY, HERE, Scene, token};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What a lookup waits at most, with the default of `pick_deadline_ms`.
const DEADLINE: Duration = Duration::from_millis(60);

/// Asks one lookup after the other; gives how long each took.
async fn lookups(scene: &Scene, name: &str, count: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..count {
        let clock = Stopwatch::start();
        assert_eq!(scene.route(&format!("{name}{n}")).await.unwrap().decision.outcome, Outcome::Degraded);
        took.push(clock.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took
}

/// Until the store is asked again; how long that took.
async fn until_asked(scene: &Scene) -> Duration {
    let clock = Stopwatch::start();
    for n in 0..500 {
        if scene.route(&format!("back{n}")).await.unwrap().decision.outcome == Outcome::Routed {
            return clock.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not asked again within {:?}", clock.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_few_lookups_their_deadline_and_the_others_nothing() {
    let scene = Scene::set(HERE).await;
    for outage in 1..=3 {
        scene.fault(HANGS);
        let took = lookups(&scene, &format!("o{outage}-"), 300).await;
        let slow = took.iter().filter(|took| **took > Duration::from_millis(2)).count();
        assert!((1..=4).contains(&slow), "{slow} lookups waited: {took:?}");
        assert!(took.iter().all(|took| *took <= DEADLINE), "{took:?}");
        assert!(scene.metric(r#"mqs_store_breaker_state{pool="main",state="closed"} 0"#));
        assert!(
            scene.metric(r#"mqs_store_breaker_state{pool="empty",state="closed"} 1"#),
            "each pool has its own"
        );
        assert!(scene.metric(&format!(r#"mqs_store_breaker_openings_total{{pool="main"}} {outage}"#)));
        scene.fault(HERE);
        let back = until_asked(&scene).await;
        assert!(back <= Duration::from_secs(1), "asked again after {back:?}");
        assert!(scene.metric(r#"mqs_store_breaker_state{pool="main",state="closed"} 1"#));
        // So that the pool does not get full.
        scene
            .store
            .forget(std::sync::Arc::new(mqs::store::memory::MemoryStore::new(Box::new(mqs::clock::wall))));
        scene.back().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_the_store_is_asked_by_one_probe_at_a_time_and_by_no_call() {
    let scene = Scene::set(HERE).await;
    scene.fault(HANGS);
    lookups(&scene, "c", 5).await;
    let (before, clock) = (scene.store.asked.load(SeqCst), Stopwatch::start());
    lookups(&scene, "d", 2_000).await;
    let (probes, seconds) = (scene.store.asked.load(SeqCst) - before, clock.elapsed().as_secs());
    assert!(
        seconds >= 10 && probes >= seconds && probes <= 2 * seconds + 5,
        "{probes} probes in {seconds} s"
    );
}

#[tokio::test(start_paused = true)]
async fn one_slow_answer_does_not_open_it() {
    let scene = Scene::set(HERE).await;
    for n in 0..20 {
        scene.fault(HANGS);
        // Many at once wait for the same slow moment, verbs and lookups.
        let waiting = futures_util::future::join_all((0..50).map(|m| {
            let scene = &scene;
            async move { scene.route(&format!("c{n}-{m}")).await.unwrap().decision.outcome }
        }));
        let end = async {
            tokio::time::sleep(Duration::from_millis(90)).await;
            scene.fault(HERE);
        };
        let (outcomes, ()) = tokio::join!(waiting, end);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Degraded));
        let id = format!("agent{n}");
        let next = scene.ask(&id, "sip:a@b", "kind=agent;node=a").await.unwrap().decision.outcome;
        assert_eq!(next, Outcome::Routed, "the next one is asked of the store, and waits for nothing");
    }
    assert!(scene.metric(r#"mqs_store_breaker_openings_total{pool="main"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_always_too_late_is_not_waited_for_either() {
    let scene = Scene::set(HERE).await;
    scene.fault(70);
    let took = lookups(&scene, "c", 200).await;
    let slow = took.iter().filter(|took| **took > Duration::from_millis(2)).count();
    assert!((1..=8).contains(&slow), "{slow} lookups waited: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn no_word_of_the_proxy_is_lost_and_none_is_waited_for() {
    let scene = Scene::set(HERE).await;
    let tokens = [token(&scene.route("c1").await.unwrap()), token(&scene.route("c2").await.unwrap())];
    scene.settle(Verb::Confirm, &tokens[0], "").await.unwrap();
    for fault in [HANGS, AWAY] {
        scene.fault(fault);
        while !scene.metric(r#"mqs_store_breaker_state{pool="main",state="closed"} 0"#) {
            scene.route("x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let clock = Stopwatch::start();
        for verb in [Verb::Confirm, Verb::Fail, Verb::Done] {
            // The proxy is told, keeps it, and says it again.
            let said = scene.settle(verb, &tokens[1], "").await;
            assert!(matches!(said, Err(SettleError::Store(_))), "{said:?}");
        }
        assert!(clock.elapsed() < Duration::from_millis(3), "{:?}", clock.elapsed());
        scene.fault(HERE);
        until_asked(&scene).await;
    }
    assert_eq!(scene.settle(Verb::Confirm, &tokens[1], "").await.unwrap(), "confirmed");
    assert_eq!(scene.settle(Verb::Done, &tokens[1], "").await.unwrap(), "ended");
    assert_eq!(scene.settle(Verb::Done, &tokens[0], "").await.unwrap(), "ended");
}
