//! The shell around the pilot: two instances on one store, and nodes that stand in for Asterisk. What the pilot decides is
//! tried by `tests/simulation.rs`; here it is shown that the shell carries it out. The runtime's time is paused: a second
//! takes no time.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "cell/exchange.rs"]
mod exchange;

use exchange::Exchange;
use mqs::cell::codec;
use mqs::cell::pilot::Settings;
use mqs::cell::shell::Running;
use mqs::cell::watch::Counting;
use mqs::clock::Stopwatch;
use mqs::domain::agent::AgentRules;
use mqs::domain::controller::Command;
use mqs::domain::id::{CellId, NodeId};
use mqs::domain::matching::{MatchRules, Membership, Skills};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Accepted, CellStore, Position, Register};
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

fn name<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn setup() -> Arc<Setup> {
    let rules = QueueRules {
        matching: MatchRules::default(),
        waiting_max: 10,
        wait_max_ms: 600_000,
        offers_max: 10,
        ring_ms: 15_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 1_000,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "default".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: [].into(),
    };
    let agent = |id: &str| AgentRules {
        aor: Arc::from(format!("{id}@example.com")),
        skills: Skills::default(),
        memberships: [(name("sales"), Membership::default())].into(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 3,
    };
    Arc::new(Setup {
        queues: [(name("sales"), rules)].into(),
        agents: [(name("ann"), agent("ann")), (name("bob"), agent("bob"))].into(),
        treatments: [(name("busy"), Treatment::HangUp { cause: 17 })].into(),
        last_resort: None,
        ..Setup::default()
    })
}

struct Scene {
    cell: CellId,
    store: Arc<MemoryStore>,
    exchange: Arc<Exchange>,
    nodes: Vec<NodeId>,
    keys: u32,
}

impl Scene {
    fn new() -> Scene {
        let watch = Stopwatch::start();
        let clock = move || EpochMs(1_700_000_000_000 + watch.millis());
        let store = Arc::new(MemoryStore::new(Box::new(clock)));
        let cell: CellId = name("main");
        let exchange = Arc::new(Exchange::new(cell.clone(), store.clone()));
        Scene { cell, store, exchange, nodes: vec![name("n1"), name("n2")], keys: 0 }
    }

    async fn start(&self, holder: &str) -> Running {
        self.watched(holder, &Arc::default()).await
    }

    async fn watched(&self, holder: &str, metrics: &Arc<Metrics>) -> Running {
        let settings = Settings { holder: holder.to_owned(), seed: 1, seeded: None };
        let exchange = self.exchange.seat(holder);
        let watcher = Box::new(Counting::new(metrics.clone()));
        let running = Running::watched(self.cell.clone(), settings, self.store.clone(), exchange, watcher);
        running.set_up(setup(), self.nodes.clone()).await;
        running
    }

    async fn register(&self, agent: &str) {
        let register = Register {
            aor: format!("{agent}@example.com"),
            proxy: name("k1"),
            expires_ms: 3_600_000,
            call_id: format!("reg-{agent}"),
            cseq: 1,
        };
        self.store.register(&self.cell, &register).await.unwrap();
    }

    async fn login(&mut self, agent: &str) {
        self.keys += 1;
        let text = codec::command(&Command::Login(name(agent)));
        let sent = self.store.send(&self.cell, &format!("key-{}", self.keys), &text).await.unwrap();
        assert!(matches!(sent, Accepted::New(_)), "{sent:?}");
    }

    async fn events(&self) -> Vec<String> {
        let told = self.store.outbox(&self.cell, Position(0), 1_000).await.unwrap();
        told.into_iter().map(|told| told.text).collect()
    }
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_brought_to_an_agent_and_the_store_tells_of_it() {
    let mut s = Scene::new();
    let _one = s.start("one").await;
    s.register("ann").await;
    // A cell that the store knows nothing of is founded after three seconds.
    seconds(5).await;
    s.exchange.call("n1", "c1").await;
    seconds(1).await;
    assert_eq!(s.exchange.log("c1"), ["attended"]);
    s.login("ann").await;
    seconds(1).await;
    assert_eq!(s.exchange.log("c1"), ["attended", "joined with ann@example.com"]);
    s.exchange.agent_hangs_up("c1").await;
    seconds(1).await;
    assert_eq!(s.exchange.log("c1").last().unwrap(), "hung up 16");
    let events = s.events().await.join("\n");
    for word in ["enqueued", "offered", "connected", "offer-ended", "agent-hung-up", "wrap-up"] {
        assert!(events.contains(word), "no {word} in\n{events}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_killed_and_another_one_goes_on() {
    let mut s = Scene::new();
    let one = s.start("one").await;
    s.register("ann").await;
    s.register("bob").await;
    seconds(5).await;
    let two = s.start("two").await;
    s.login("ann").await;
    seconds(1).await;
    s.exchange.call("n1", "c1").await;
    s.exchange.call("n2", "c2").await;
    seconds(1).await;
    assert_eq!(s.exchange.log("c1").last().unwrap(), "joined with ann@example.com");
    // Twice, where a list was begun before the first time.
    assert_eq!(s.exchange.log("c2").last().unwrap(), "attended");
    assert_eq!(s.exchange.attached("n1"), Some("one".to_owned()));

    one.kill();
    s.exchange.gone("one");
    seconds(6).await;
    assert_eq!(s.exchange.attached("n1"), Some("two".to_owned()), "within six seconds");
    assert_eq!(s.exchange.attached("n2"), Some("two".to_owned()));
    assert_eq!(s.exchange.log("c1").last().unwrap(), "joined with ann@example.com", "they talk on");
    s.login("bob").await;
    seconds(1).await;
    assert_eq!(s.exchange.log("c2").last().unwrap(), "joined with bob@example.com");
    assert_eq!(s.exchange.rung_twice(), [""; 0]);

    // Whoever ends in good order hands over at once.
    let three = s.start("three").await;
    seconds(1).await;
    two.end().await;
    seconds(1).await;
    assert_eq!(s.exchange.attached("n1"), Some("three".to_owned()));
    assert_eq!(s.exchange.log("c1").last().unwrap(), "joined with ann@example.com");
    three.end().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_shut_out_lets_another_go_on() {
    let mut s = Scene::new();
    let _one = s.start("one").await;
    s.register("ann").await;
    seconds(5).await;
    let _two = s.start("two").await;
    // An epoch that nobody holds: the leader finds itself shut out, and a new one begins.
    let opened = s.store.open(&s.cell, u64::from(u32::MAX) << 20, false).await.unwrap();
    assert!(matches!(opened, mqs::store::cell::Opened::Here(_)));
    s.exchange.call("n1", "c1").await;
    s.login("ann").await;
    seconds(8).await;
    assert_eq!(s.exchange.log("c1").last().unwrap(), "joined with ann@example.com");
    assert_eq!(s.exchange.rung_twice(), [""; 0]);
}

/// The lines of a text of metrics that are not there otherwise.
fn has(metrics: &Metrics, wanted: &[&str]) {
    let text = metrics.render(&[]);
    for line in wanted {
        assert!(text.lines().any(|found| found == *line), "no {line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_does_is_counted_while_it_leads() {
    let mut s = Scene::new();
    let metrics = Arc::default();
    let one = s.watched("one", &metrics).await;
    has(&metrics, &["mqs_cell_leads{} 0"]);
    s.register("ann").await;
    seconds(5).await;
    for call in ["c1", "c2"] {
        s.exchange.call("n1", call).await;
    }
    seconds(20).await;
    has(
        &metrics,
        &[
            "mqs_cell_leads{} 1",
            "mqs_cell_leader_changes_total{change=\"leads\"} 1",
            "mqs_queue_waiting{queue=\"sales\"} 2",
            "mqs_queue_entered_total{queue=\"sales\"} 2",
            "mqs_queue_agents{queue=\"sales\",state=\"offline\"} 2",
        ],
    );
    let longest = metrics.render(&[]);
    let longest =
        longest.lines().find_map(|l| l.strip_prefix("mqs_queue_longest_wait_seconds{queue=\"sales\"} "));
    let longest: f64 = longest.unwrap().parse().unwrap();
    assert!((19.0..=20.1).contains(&longest), "{longest}");

    s.login("ann").await;
    seconds(2).await;
    has(
        &metrics,
        &[
            "mqs_queue_waiting{queue=\"sales\"} 1",
            "mqs_queue_answered_total{queue=\"sales\"} 1",
            "mqs_queue_wait_seconds_count{queue=\"sales\"} 1",
            "mqs_queue_agents{queue=\"sales\",state=\"talking\"} 1",
            "mqs_match_seconds_bucket{le=\"+Inf\"} 1",
        ],
    );
    s.exchange.agent_hangs_up("c1").await;
    seconds(3).await;
    has(
        &metrics,
        &[
            "mqs_queue_offers_total{queue=\"sales\",result=\"taken\"} 1",
            "mqs_queue_ended_total{queue=\"sales\",reason=\"agent-hung-up\"} 1",
            "mqs_queue_answered_total{queue=\"sales\"} 2",
            "mqs_queue_longest_wait_seconds{queue=\"sales\"} 0.0",
        ],
    );
    // What there is now is another's to say; what has been stays.
    let two = s.start("two").await;
    one.end().await;
    let text = metrics.render(&[]);
    assert!(!text.contains("mqs_queue_waiting") && !text.contains("mqs_queue_agents"), "{text}");
    has(
        &metrics,
        &[
            "mqs_cell_leads{} 0",
            "mqs_cell_leader_changes_total{change=\"asked\"} 1",
            "mqs_queue_answered_total{queue=\"sales\"} 2",
        ],
    );
    two.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_gone_has_no_lines() {
    let s = Scene::new();
    let metrics = Arc::default();
    let one = s.watched("one", &metrics).await;
    seconds(5).await;
    s.exchange.call("n1", "c1").await;
    seconds(1).await;
    has(&metrics, &["mqs_queue_waiting{queue=\"sales\"} 1", "mqs_queue_entered_total{queue=\"sales\"} 1"]);
    let without = Setup { queues: [].into(), ..Setup::clone(&setup()) };
    one.set_up(Arc::new(without), s.nodes.clone()).await;
    seconds(1).await;
    let text = metrics.render(&[]);
    assert!(!text.contains("queue=\"sales\""), "{text}");
    one.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_a_listing_shows_is_counted() {
    let s = Scene::new();
    let metrics = Arc::default();
    let one = s.watched("one", &metrics).await;
    seconds(5).await;
    s.exchange.call("n1", "c1").await;
    s.exchange.call_unheard("n2", "c2");
    seconds(31).await;
    has(
        &metrics,
        &["mqs_repairs_total{kind=\"call-found\"} 1", "mqs_queue_entered_total{queue=\"sales\"} 2"],
    );
    s.exchange.vanish("n1", "c1");
    seconds(31).await;
    has(
        &metrics,
        &[
            "mqs_repairs_total{kind=\"call-gone\"} 1",
            "mqs_queue_ended_total{queue=\"sales\",reason=\"unseen\"} 1",
            "mqs_repairs_total{kind=\"call-found\"} 1",
        ],
    );
    one.end().await;
}
