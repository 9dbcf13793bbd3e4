//! A lookup's life over a store that fails, is slow, and comes back: nobody is refused for it, and the count is right again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;

use mqs::config::Config;
use mqs::dispatch::decision::Outcome;
use mqs::dispatch::nodes;
use mqs::dispatch::settle::{SettleError, Verb};
use mqs::store::View;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::refusal::RefusalWord;
use scene::{AWAY, CONFIG, HERE, Scene, document, token};
use std::time::Duration;

#[tokio::test]
async fn the_same_lookup_has_the_same_answer_and_one_lease() {
    let scene = Scene::set(HERE).await;
    let first = scene.route("c1").await.unwrap();
    for _ in 0..10 {
        let again = scene.route("c1").await.unwrap();
        assert_eq!(again.decision.outcome, Outcome::Repeat);
        assert_eq!(document(&again)["mqs"]["nodes"], document(&first)["mqs"]["nodes"]);
    }
    assert_eq!(scene.loads().await, [0, 1]);
    let other = scene.ask("c1", "sip:100@example.com", "cs=2").await.unwrap();
    assert_eq!(other.decision.outcome, Outcome::Routed, "another CSeq is another attempt of the client");
}

#[tokio::test]
async fn refusals_have_their_words() {
    let scene = Scene::set(HERE).await;
    for n in 0..6 {
        scene.route(&format!("c{n}")).await.unwrap();
    }
    assert_eq!(scene.loads().await, [2, 4]);
    assert_eq!(scene.route("c7").await.err(), Some(RefusalWord::Full));
    assert_eq!(scene.ask("c8", "tel:1", "pool=empty").await.err(), Some(RefusalWord::NoNode));
    assert_eq!(scene.ask("c9", "tel:1", "pool=none").await.err(), Some(RefusalWord::NoPool));
    assert_eq!(scene.ask("c10", "tel:1", "tags=fax").await.err(), Some(RefusalWord::NoNode));
    assert_eq!(scene.ask("c11", "tel:1", "kind=agent;node=zz").await.err(), Some(RefusalWord::NoNode));
    for (call, uri, attributes) in
        [("e1", "urn:service:sos", ""), ("e2", "tel:112", ""), ("e3", "sip:112@example.com", "pool=none")]
    {
        assert!(scene.ask(call, uri, attributes).await.is_ok(), "{uri}: an emergency call is never refused");
    }
    let agent = scene.ask("g1", "sip:agent@example.com", "kind=agent;node=a").await.unwrap();
    assert!(document(&agent)["routes"][0].get("dst_uri").is_none());
    assert_eq!(scene.loads().await.iter().sum::<u32>(), 10, "all kinds are under one accounting");
}

#[tokio::test]
async fn nobody_is_refused_because_the_store_is_away() {
    let scene = Scene::set(HERE).await;
    scene.fault(AWAY);
    for n in 0..20 {
        let routed = scene.route(&format!("c{n}")).await.unwrap();
        assert_eq!(routed.decision.outcome, Outcome::Degraded);
        assert_eq!(document(&routed)["mqs"]["degraded"], true);
        assert_eq!(
            scene.route(&format!("c{n}")).await.unwrap().document,
            routed.document,
            "a repeat is the same"
        );
    }
    assert_eq!(scene.loads().await, [0, 0]);
}

#[tokio::test]
async fn what_was_answered_without_the_store_is_counted_when_it_is_confirmed() {
    let scene = Scene::set(AWAY).await;
    let routed = scene.route("c1").await.unwrap();
    let token = token(&routed);
    assert!(matches!(scene.settle(Verb::Confirm, &token, "").await, Err(SettleError::Store(_))));
    scene.back().await;
    assert_eq!(scene.settle(Verb::Confirm, &token, "").await.unwrap(), "adopted");
    let view = scene.store.inner().view(&"main".parse().unwrap(), &View::empty()).await.unwrap();
    let loaded: Vec<_> = view.loaded.iter().filter(|n| n.load == 1).map(|n| n.node.id.to_string()).collect();
    assert_eq!(loaded, [routed.decision.first_node()]);
    assert_eq!(scene.settle(Verb::Done, &token, "").await.unwrap(), "ended");
    assert_eq!(scene.settle(Verb::Done, &token, "").await.unwrap(), "already");
    assert_eq!(scene.settle(Verb::Confirm, &token, "").await.unwrap(), "gone");
    assert_eq!(scene.loads().await, [0, 0]);
}

#[tokio::test]
async fn what_was_answered_without_the_store_is_known_to_it_soon_after_it_is_back() {
    let scene = Scene::set(AWAY).await;
    let config = Config::parse(CONFIG, "test").unwrap();
    let watch = tokio::spawn(scene.dispatcher.clone().watch(nodes::from_config(&config), false));
    let mut tokens = Vec::new();
    for n in 0..5 {
        tokens.push(token(&scene.route(&format!("c{n}")).await.unwrap()));
    }
    scene.fault(HERE);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if scene.loads().await.iter().sum::<u32>() == 5 {
            break;
        }
    }
    assert_eq!(scene.loads().await.iter().sum::<u32>(), 5, "nobody has confirmed anything");
    assert_eq!(scene.route("c0").await.unwrap().decision.outcome, Outcome::Repeat);
    for token in &tokens {
        assert_eq!(scene.settle(Verb::Confirm, token, "").await.unwrap(), "confirmed");
        assert_eq!(scene.settle(Verb::Done, token, "").await.unwrap(), "ended");
    }
    assert_eq!(scene.loads().await, [0, 0]);
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_not_waited_for() {
    let scene = Scene::set(HERE).await;
    scene.fault(500);
    let start = tokio::time::sleep(Duration::from_millis(80));
    tokio::pin!(start);
    let routed = tokio::select! {
        routed = scene.route("c1") => routed.unwrap(),
        () = &mut start => panic!("the answer took longer than the deadline of 60 ms allows"),
    };
    assert_eq!(routed.decision.outcome, Outcome::Degraded);
    // The store did lease a node in the end; the token says which one the proxy used, and that one is counted.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.fault(HERE);
    scene.settle(Verb::Confirm, &token(&routed), "").await.unwrap();
    assert_eq!(scene.loads().await.iter().sum::<u32>(), 1);
}

#[tokio::test]
async fn a_failed_branch_moves_to_the_target_that_the_answer_names_next() {
    let scene = Scene::set(HERE).await;
    let routed = scene.route("c1").await.unwrap();
    let nodes: Vec<String> = serde_json::from_value(document(&routed)["mqs"]["nodes"].clone()).unwrap();
    assert_eq!(nodes, ["b", "a"]);
    let ask = BranchAsk::parse("branch=0;code=503").unwrap();
    let report = scene.dispatcher.settle(Verb::Fail, &token(&routed), ask).await.unwrap();
    assert_eq!((report.result, report.moved), ("moved", Some((1, "a".to_owned()))));
    assert_eq!(scene.loads().await, [1, 0]);
    assert_eq!(scene.settle(Verb::Fail, &token(&routed), "branch=0;code=503").await.unwrap(), "stale");
    assert_eq!(scene.settle(Verb::Fail, &token(&routed), "branch=1;code=408").await.unwrap(), "ended");
    assert_eq!(scene.loads().await, [0, 0]);
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let scene = Scene::set(HERE).await;
    let token = token(&scene.route("c1").await.unwrap());
    for altered in
        [token.replace(".b.", ".a."), token[..token.len() - 1].to_owned(), String::new(), "x".repeat(300)]
    {
        match scene.settle(Verb::Done, &altered, "").await {
            Err(SettleError::Refused(refusal)) => assert_eq!(refusal.word, RefusalWord::BadToken),
            other => panic!("{altered}: {other:?}"),
        }
    }
    assert_eq!(scene.loads().await, [0, 1]);
}

#[tokio::test]
async fn decisions_can_be_explained_before_and_after() {
    let scene = Scene::set(HERE).await;
    let ask = RouteAsk::parse("c1", "sip:100@example.com", "src=192.0.2.7:5060;x=b").unwrap();
    let before = scene.dispatcher.explain(&ask).await.unwrap();
    assert!(before.dry && before.targets.len() == 1);
    assert_eq!(scene.loads().await, [0, 0], "explaining leases nothing");
    let verdicts: Vec<_> = before.nodes.unwrap().iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts, ["chosen", "excluded"]);
    scene.dispatcher.route(&ask, "test").await.unwrap();
    let after = scene.dispatcher.decision("c1").unwrap();
    assert_eq!((after.first_node(), after.source.as_deref()), ("a", Some("192.0.2.7:5060")));
    assert_eq!(after.reasons, [("eligible", 1), ("excluded", 1)].into());
    assert!(scene.dispatcher.decision("c2").is_err());
}
