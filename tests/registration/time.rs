//! What time does to registered nodes: a steward that runs, a store whose clock the test moves, and faults between.

use crate::scene::{AWAY, HERE, Scene, token};
use mqs::dispatch::nodes::{NodeChange, NodePatch};
use mqs::dispatch::registration::HeartbeatError;
use mqs::dispatch::settle::Verb;
use mqs::domain::time::EpochMs;
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use mqs::wire::heartbeat::HeartbeatAsk;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

pub const CONFIG: &str = r#"
[[pool]]
name = "main"
[pool.health]
probe_every_ms = 0
[pool.register]
networks = ["10.0.0.0/8"]
[[pool.node]]
id = "fixed"
uri = "sip:10.9.9.9"
capacity = 1
"#;

struct World {
    scene: Scene,
    clock: Arc<AtomicU64>,
    steward: tokio::task::JoinHandle<()>,
}

fn store(clock: &Arc<AtomicU64>) -> Arc<dyn Store> {
    let read = clock.clone();
    Arc::new(MemoryStore::new(Box::new(move || EpochMs(read.load(SeqCst)))))
}

impl World {
    async fn new() -> World {
        World::with(CONFIG).await
    }

    async fn with(config: &str) -> World {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let scene = Scene::with(store(&clock), HERE, config).await;
        let steward = scene.watch();
        let world = World { scene, clock, steward };
        world.pass(1_000).await;
        world
    }

    /// Time passes, and meanwhile these nodes are heard of each second, for 10 s each time.
    async fn pass_with(&self, ms: u64, heard: &[&str]) {
        for step in 0..ms / 100 {
            if step % 10 == 0 {
                for id in heard {
                    self.beat(id, "").await;
                }
            }
            self.clock.fetch_add(100, SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn pass(&self, ms: u64) {
        self.pass_with(ms, &[]).await;
    }

    async fn ask(&self, id: &str, more: &str) -> Result<String, HeartbeatError> {
        let last: String = id.chars().filter(char::is_ascii_digit).collect();
        let attributes = format!("uri=sip:10.0.0.{last};capacity=10;ttl_s=10;{more}");
        let ask = HeartbeatAsk::from_attributes(id.parse().unwrap(), &attributes).unwrap();
        let info = self.scene.dispatcher.heartbeat(&"main".parse().unwrap(), &ask).await?;
        Ok(format!("{} {} {}", info.result, info.state, info.load))
    }

    /// `joined active 0`: what came of a heartbeat, state and load; or the word of a refusal.
    async fn beat(&self, id: &str, more: &str) -> String {
        match self.ask(id, more).await {
            Ok(said) => said,
            Err(HeartbeatError::Refused(problem)) => problem.code.to_owned(),
            Err(HeartbeatError::Store(error)) => format!("{error}").split(':').next().unwrap().to_owned(),
        }
    }

    /// `n1=active n2=draining`, without the file's.
    async fn nodes(&self) -> String {
        let nodes = self.scene.dispatcher.list(None).await.unwrap();
        let words = nodes.iter().filter(|n| n.id != "fixed").map(|n| format!("{}={}", n.id, n.state));
        words.collect::<Vec<_>>().join(" ")
    }

    fn version(&self) -> u64 {
        self.scene.dispatcher.pool(None).unwrap().seen().view.version
    }

    async fn operator(&self, change: NodeChange) {
        self.scene.dispatcher.pool(None).unwrap().change(&change).await.unwrap();
    }

    async fn set(&self, id: &str, state: &str) {
        let patch = NodePatch { state: Some(state.parse().unwrap()), ..NodePatch::default() };
        self.operator(NodeChange::Set(id.parse().unwrap(), patch)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.steward.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_joins_drains_when_it_falls_silent_and_goes_when_its_last_call_is_over() {
    let world = World::new().await;
    assert_eq!(world.beat("n1", "").await, "joined active 0");
    assert_eq!(world.beat("n2", "").await, "joined active 0");
    let version = world.version();
    world.pass_with(60_000, &["n1", "n2"]).await;
    assert_eq!(world.version(), version, "heartbeats that say nothing new change no definition");
    assert!(world.scene.metric(r#"mqs_registered_nodes{pool="main",heartbeat="live"} 2"#));

    let routed = world.scene.ask("call", "sip:1@example.com", "x=n2,fixed").await.unwrap();
    let token = token(&routed);
    world.scene.settle(Verb::Confirm, &token, "").await.unwrap();
    world.pass_with(8_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active", "its heartbeat still holds");
    world.pass_with(4_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n1=draining n2=active");
    assert!(world.scene.metric(r#"mqs_registered_nodes{pool="main",heartbeat="silent"} 1"#));
    world.pass_with(60_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n1=draining n2=active", "a call is on it");
    assert_eq!(world.beat("n1", "").await, "returned active 1", "and it is heard of again");
    world.pass_with(15_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n1=draining n2=active");
    world.scene.settle(Verb::Done, &token, "").await.unwrap();
    world.pass_with(3_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n2=active");
    world.pass_with(2_000, &["n2"]).await;
    let beats = world.scene.store.inner().beats(&"main".parse().unwrap()).await.unwrap();
    assert_eq!(beats.until.len(), 1, "the heartbeat of a node that is gone is forgotten");
    for change in ["joined", "drained", "returned", "removed"] {
        let line = format!("mqs_registration_changes_total{{pool=\"main\",change=\"{change}\"}} ");
        assert!(["1", "2"].iter().any(|n| world.scene.metric(&format!("{line}{n}"))), "{change}");
    }
    assert_eq!(world.beat("n1", "").await, "joined active 0", "anew");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_it_drains_waits_for_zero_and_goes() {
    let world = World::new().await;
    world.beat("n1", "").await;
    let routed = world.scene.ask("call", "sip:1@example.com", "x=fixed").await.unwrap();
    let token = token(&routed);
    assert_eq!(world.beat("n1", "state=draining").await, "leaving draining 1");
    assert!(world.scene.ask("other", "sip:1@example.com", "x=fixed").await.is_err(), "at once");
    world.pass(2_000).await;
    assert_eq!(world.beat("n1", "state=draining").await, "kept draining 1");
    world.scene.settle(Verb::Done, &token, "").await.unwrap();
    assert_eq!(world.beat("n1", "state=draining").await, "kept draining 0", "the load is that of now");
    world.pass(5_000).await;
    assert_eq!(world.nodes().await, "n1=draining", "it may come back, or go");
    assert_eq!(world.beat("n1", "").await, "returned active 0");
    world.beat("n1", "state=draining").await;
    assert_eq!(world.beat("n1", "state=gone").await, "removed removed 0");
    assert_eq!(world.beat("n1", "state=gone").await, "kept removed 0", "said again");
    world.pass(2_000).await;
    assert_eq!(world.beat("n1", "").await, "joined active 0");
    // Going with calls on it: they are counted until they end.
    let routed = world.scene.ask("late", "sip:1@example.com", "x=fixed").await.unwrap();
    assert_eq!(world.beat("n1", "state=gone").await, "leaving draining 1");
    world.pass(20_000).await;
    assert_eq!(world.nodes().await, "n1=draining");
    world.scene.settle(Verb::Done, &crate::scene::token(&routed), "").await.unwrap();
    world.pass(3_000).await;
    assert_eq!(world.nodes().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_without_a_word_more_is_removed_when_it_is_empty() {
    let world = World::new().await;
    world.beat("n1", "").await;
    world.beat("n1", "state=draining").await;
    world.pass(8_000).await;
    assert_eq!(world.nodes().await, "n1=draining");
    world.pass(15_000).await;
    assert_eq!(world.nodes().await, "");
}

#[tokio::test(start_paused = true)]
async fn when_all_fall_silent_at_once_all_stay() {
    let world = World::new().await;
    for id in ["n1", "n2", "n3"] {
        world.beat(id, "").await;
    }
    world.pass(60_000).await;
    assert_eq!(world.nodes().await, "n1=active n2=active n3=active");
    world.pass_with(3_000, &["n3"]).await;
    assert_eq!(world.nodes().await, "n3=active", "one is heard of: so the others could be");
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_not_left_without_an_active_node() {
    let world = World::with(&CONFIG.replace("capacity = 1\n", "capacity = 1\nstate = \"down\"\n")).await;
    for id in ["n1", "n2", "n3"] {
        world.beat(id, "").await;
    }
    world.set("n3", "draining").await;
    world.pass_with(30_000, &["n3"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active n3=draining");
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_drains_nobody() {
    let world = World::new().await;
    for id in ["n1", "n2", "n3"] {
        world.beat(id, "").await;
    }
    world.pass_with(30_000, &["n1", "n2", "n3"]).await;
    world.scene.store.forget(store(&world.clock));
    world.pass_with(8_000, &["n1"]).await;
    assert_eq!(
        world.nodes().await,
        "n1=active n2=active n3=active",
        "each has its time to be heard of again"
    );
    world.pass_with(5_000, &["n1", "n2"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active", "and no more than that");
}

#[tokio::test(start_paused = true)]
async fn a_new_node_is_not_all_that_an_emptied_store_gets() {
    let world = World::new().await;
    world.beat("n1", "").await;
    world.pass(1_000).await;
    world.scene.store.forget(store(&world.clock));
    assert_eq!(world.beat("n2", "").await, "joined active 0");
    assert_eq!(world.nodes().await, "n1=active n2=active");
    assert_eq!(world.scene.dispatcher.list(None).await.unwrap().len(), 3, "the file's, too");
}

#[tokio::test(start_paused = true)]
async fn time_for_which_the_store_was_away_is_no_silence() {
    let world = World::new().await;
    for id in ["n1", "n2"] {
        world.beat(id, "").await;
    }
    world.scene.fault(AWAY);
    assert_eq!(world.beat("n1", "").await, "beat");
    assert!(world.scene.metric(r#"mqs_heartbeats_total{pool="main",result="error"} 1"#));
    world.pass(120_000).await;
    world.scene.fault(HERE);
    world.pass_with(8_000, &["n1"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active");
    world.pass_with(8_000, &["n1"]).await;
    assert_eq!(world.nodes().await, "n1=active");
}

#[tokio::test(start_paused = true)]
async fn another_steward_waits_for_one_ttl_too() {
    let world = World::new().await;
    for id in ["n1", "n2"] {
        world.beat(id, "").await;
    }
    world.steward.abort();
    world.clock.fetch_add(60_000, SeqCst);
    world.beat("n1", "").await;
    let next = Scene::with(world.scene.store.inner(), HERE, CONFIG).await;
    let steward = next.watch();
    world.pass_with(8_000, &["n1"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active");
    world.pass_with(5_000, &["n1"]).await;
    assert_eq!(world.nodes().await, "n1=active");
    steward.abort();
}

#[tokio::test(start_paused = true)]
async fn an_operators_word_stays() {
    let world = World::new().await;
    for id in ["n1", "n2", "n3", "n4"] {
        world.beat(id, "").await;
    }
    world.set("n1", "draining").await;
    world.set("n2", "down").await;
    world.operator(NodeChange::Remove { id: "n3".parse().unwrap(), force: false }).await;
    world.pass_with(30_000, &["n1", "n2", "n3", "n4"]).await;
    assert_eq!(world.nodes().await, "n1=draining n2=down n4=active");
    assert_eq!(world.beat("n1", "").await, "kept draining 0");
    assert_eq!(world.beat("n2", "state=gone").await, "kept down 0");
    assert_eq!(world.beat("n3", "").await, "kept removed 0", "for as long as it is heard of");
    assert_eq!(world.beat("n1", "zone=b").await, "changed draining 0", "what it says of itself counts");
    world.pass_with(30_000, &["n4"]).await;
    assert_eq!(world.nodes().await, "n1=draining n2=down n4=active", "silence does not end it either");
    assert_eq!(world.beat("n1", "zone=b").await, "kept draining 0");
    assert_eq!(world.beat("n3", "").await, "joined active 0");
    world.set("n1", "active").await;
    world.set("n2", "active").await;
    world.pass_with(30_000, &["n1", "n2", "n4"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active n4=active");
    // Also about one that fell silent before.
    world.pass_with(2_000, &["n1"]).await;
    world.pass_with(2_000, &["n4"]).await;
    let routed = world.scene.ask("call", "sip:1@example.com", "x=fixed,n1,n3,n4").await.unwrap();
    world.pass_with(20_000, &["n1", "n4"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=draining n4=active");
    world.set("n2", "draining").await;
    assert_eq!(world.beat("n2", "").await, "kept draining 1");
    world.scene.settle(Verb::Done, &token(&routed), "").await.unwrap();
    world.pass_with(20_000, &["n1", "n4"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=draining n4=active", "it is the operator's to remove");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_operator_adds_in_the_place_of_a_removed_one_is_the_operators() {
    let world = World::new().await;
    world.beat("n1", "").await;
    world.beat("n2", "").await;
    world.operator(NodeChange::Remove { id: "n1".parse().unwrap(), force: true }).await;
    let def = mqs::dispatch::nodes::NodeDef {
        id: "n1".parse().unwrap(),
        uri: "sip:10.0.0.1".parse().unwrap(),
        capacity: 77,
        zone: None,
        tags: Default::default(),
        state: mqs::domain::node::NodeState::Active,
    };
    world.operator(NodeChange::Add(def)).await;
    assert_eq!(world.beat("n1", "").await, "OWNED");
    world.pass_with(30_000, &["n2"]).await;
    assert_eq!(world.nodes().await, "n1=active n2=active");
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_gives_up_its_place_to_the_one_that_is_there() {
    let world = World::new().await;
    world.beat("i-1", "").await;
    let new = |uri: &str| format!("uri={uri};capacity=10;ttl_s=10");
    let ask = |uri: &str| HeartbeatAsk::from_attributes("i-77".parse().unwrap(), &new(uri)).unwrap();
    let pool = "main".parse().unwrap();
    let Err(HeartbeatError::Refused(problem)) =
        world.scene.dispatcher.heartbeat(&pool, &ask("sip:10.0.0.1:5060")).await
    else {
        panic!("two nodes in one place")
    };
    assert_eq!(problem.detail, "sip:10.0.0.1:5060 is the address of node i-1 already");
    // The host is made anew, under another name. The old one was the last, and so never drained.
    world.pass(30_000).await;
    assert_eq!(world.nodes().await, "i-1=active");
    let info = world.scene.dispatcher.heartbeat(&pool, &ask("sip:10.0.0.1:5060")).await.unwrap();
    assert_eq!((info.result, info.state), ("joined", "active"));
    world.pass_with(3_000, &["i-77"]).await;
    assert_eq!(world.nodes().await, "i-77=active");
}
