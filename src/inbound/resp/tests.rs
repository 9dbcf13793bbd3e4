//! The connection over a pipe in memory, with time that the test moves; the real server over a real socket is in
//! `tests/resp_server.rs`.

use super::connection::{End, Service, talk};
use super::session::{Gate, Session};
use super::*;
use crate::config::Config;
use crate::dispatch::nodes;
use crate::dispatch::settings::Settings;
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{LeaseId, NodeId, PoolId, Slot};
use crate::domain::lease::Settled;
use crate::domain::time::EpochMs;
use crate::inbound::listen::Peer;
use crate::store::memory::MemoryStore;
use crate::store::{
    Answer, Carried, Heartbeats, Known, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept,
    View, Written,
};
use crate::telemetry::metrics::Metrics;
use crate::wire::token::Secret;
use async_trait::async_trait;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;

const CONFIG: &str = r#"
[[pool]]
name = "default"
[[pool.node]]
id = "ast1"
uri = "sip:10.0.0.1:5060"
capacity = 900
[[pool.node]]
id = "ast2"
uri = "sip:10.0.0.2:5060"
capacity = 900
"#;

/// A store that takes 10 ms, like one far away, notes what came together, and can be switched off.
struct Far {
    near: MemoryStore,
    together: Mutex<Vec<usize>>,
    away: AtomicBool,
}

impl Far {
    async fn travel(&self, op: &'static str) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Away { op, cause: "cable\r\ncut".to_owned() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Far {
    async fn pick(&self, p: &PoolId, r: &PoolRules, v: &View, b: &[Pick]) -> Result<Vec<Answer>, StoreError> {
        self.together.lock().unwrap().push(b.len());
        self.travel("pick").await?;
        self.near.pick(p, r, v, b).await
    }
    async fn settle(
        &self,
        p: &PoolId,
        r: &PoolRules,
        v: &View,
        b: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        self.travel("settle").await?;
        self.near.settle(p, r, v, b).await
    }
    async fn view(&self, pool: &PoolId, known: &View) -> Result<View, StoreError> {
        self.travel("view").await?;
        self.near.view(pool, known).await
    }
    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError> {
        self.near.known(pool, leases).await
    }
    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError> {
        self.near.carried(pool, slot).await
    }
    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        self.near.usage(pool, scopes).await
    }
    async fn write_nodes(&self, p: &PoolId, e: &View, n: &[NodeRecord]) -> Result<Written, StoreError> {
        self.near.write_nodes(p, e, n).await
    }
    async fn sweep(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Swept, StoreError> {
        self.near.sweep(pool, view, limit).await
    }
    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError> {
        self.travel("beat").await?;
        self.near.beat(pool, node, ttl_ms).await
    }
    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError> {
        self.near.beats(pool).await
    }
    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError> {
        self.near.forget_beats(pool, nodes).await
    }
    async fn hold_steward(&self, instance: &str, ttl_ms: u64) -> Result<bool, StoreError> {
        self.near.hold_steward(instance, ttl_ms).await
    }
    async fn now(&self) -> Result<EpochMs, StoreError> {
        self.near.now().await
    }
    fn kind(&self) -> &'static str {
        "far"
    }
    fn wants_batches(&self) -> bool {
        true
    }
}

struct Talk {
    client: DuplexStream,
    far: Arc<Far>,
    stop: CancellationToken,
    task: JoinHandle<End>,
}

/// A connection with a store that is far away; a password is needed where there is a token.
async fn connect(token: Option<&str>) -> Talk {
    let config = Config::parse(CONFIG, "mqs.toml").unwrap();
    let settings = Settings::from_config(&config, Secret::new(&[7; 32]).unwrap()).unwrap();
    let near = MemoryStore::new(Box::new(crate::clock::wall));
    let far = Arc::new(Far { near, together: Mutex::default(), away: AtomicBool::new(false) });
    let dispatcher = Dispatcher::new(settings, far.clone(), Arc::new(Metrics::new()));
    dispatcher.start(&nodes::from_config(&config)).await.unwrap();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let gate = Gate::new(token.is_some(), token.map(Into::into));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let service = Service { dispatcher: &dispatcher, started: Stopwatch::start() };
        let session = Session::new(1, Peer::Unix, gate);
        talk(server, session, service, Duration::from_secs(60), &stopped).await
    });
    Talk { client, far, stop, task }
}

impl Talk {
    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// What is answered until nothing comes for a second.
    async fn heard(&mut self) -> String {
        let mut found = Vec::new();
        while let Ok(Ok(read)) = timeout(Duration::from_secs(1), self.client.read_buf(&mut found)).await
            && read > 0
        {}
        String::from_utf8(found).unwrap()
    }

    /// Whether the connection is still there after so many seconds of silence.
    async fn lives_for(&self, seconds: u64) -> bool {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        !self.task.is_finished()
    }
}

#[test]
fn without_file_descriptors_it_waits_longer_and_longer_and_for_one_peer_not_at_all() {
    let emfile = io::Error::from_raw_os_error(24);
    let mut pause = Pause::default();
    let waits: Vec<_> = (0..9).filter_map(|_| pause.after(&emfile)).map(|d| d.as_millis()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    assert_eq!(pause.after(&io::ErrorKind::ConnectionAborted.into()), None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_half_a_command_is_left_alone_for_days() {
    let mut talk = connect(None).await;
    talk.say("PING\r\n").await;
    assert_eq!(talk.heard().await, "+PONG\r\n");
    assert!(talk.lives_for(86_400 * 3).await);
    talk.say("PING\r\n").await;
    assert_eq!(talk.heard().await, "+PONG\r\n");
}

#[tokio::test(start_paused = true)]
async fn half_a_command_is_waited_for_but_not_longer_than_allowed() {
    let mut talk = connect(None).await;
    talk.say("PING\r\n*1\r\n$4\r\nPI").await;
    assert_eq!(talk.heard().await, "+PONG\r\n");
    assert!(talk.lives_for(55).await);
    talk.say("N").await;
    assert!(!talk.lives_for(6).await, "a byte now and then gains no time");
    assert!(matches!(talk.task.await.unwrap(), End::HalfCommand));
}

#[tokio::test(start_paused = true)]
async fn reads_that_end_within_a_command_do_not_close_a_busy_connection() {
    let mut talk = connect(None).await;
    talk.say("*1\r\n$4\r\n").await;
    for _ in 0..20 {
        assert!(talk.lives_for(30).await);
        talk.say("PING\r\n*1\r\n$4\r\n").await;
    }
    assert_eq!(talk.heard().await, "+PONG\r\n".repeat(20));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_say_the_password_is_closed_whatever_else_it_says() {
    let mut talk = connect(Some("s3cret")).await;
    for _ in 0..4 {
        talk.say("PING\r\n").await;
        assert!(talk.heard().await.starts_with("-NOAUTH "));
        assert!(talk.lives_for(1).await);
    }
    assert!(!talk.lives_for(3).await);
    assert!(matches!(talk.task.await.unwrap(), End::NotAdmitted));
    let mut talk = connect(Some("s3cret")).await;
    talk.say("AUTH s3cret\r\nPING\r\n").await;
    assert_eq!(talk.heard().await, "+OK\r\n+PONG\r\n");
    assert!(talk.lives_for(1000).await);
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_end_a_connection() {
    let mut talk = connect(Some("s3cret")).await;
    talk.say(&"AUTH x\r\n".repeat(9)).await;
    assert_eq!(talk.heard().await.matches("-WRONGPASS").count(), 5);
    assert!(matches!(talk.task.await.unwrap(), End::Quit));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_taken_stop_the_reading_and_then_the_connection() {
    let mut talk = connect(None).await;
    let ping = format!("PING {}\r\n", "x".repeat(1000));
    let mut said = 0;
    while timeout(Duration::from_secs(1), talk.client.write_all(ping.as_bytes())).await.is_ok() {
        said += ping.len();
        assert!(said < 1_000_000, "it reads on and on");
    }
    assert!(said > 256 * 1024, "{said}");
    assert!(!talk.lives_for(60).await);
    let end = talk.task.await.unwrap();
    assert!(matches!(end, End::NotTaken), "{end}");
}

#[tokio::test(start_paused = true)]
async fn lookups_of_one_pipeline_share_batches_and_are_answered_in_order() {
    let mut talk = connect(None).await;
    // Each may go to one node only, so that its answer shows whose it is; every tenth is malformed.
    let node = |n: u32| 1 + n / 3 % 2;
    let ask = |n: u32| match n % 10 {
        9 => format!("ROUTE {n} nonsense\r\n"),
        _ => format!("ROUTE {n} sip:a@b x=ast{}\r\n", 3 - node(n)),
    };
    let ping = |n: u32| if n < 30 { String::new() } else { format!("PING {n}\r\n") };
    let asks: String = (0..60).map(|n| ask(n) + &ping(n)).collect();
    talk.say(&asks).await;
    let heard = talk.heard().await;
    let mut answers = heard.split("\r\n").filter(|line| !line.starts_with('$'));
    for n in 0..60 {
        let answer = answers.next().unwrap();
        let own = match n % 10 {
            9 => answer.starts_with("!BADREQ "),
            _ => answer.contains(&format!("\"nodes\":[\"ast{}\"]", node(n))),
        };
        assert!(own, "{n}: {answer}");
        if n >= 30 {
            assert_eq!(answers.next(), Some(n.to_string().as_str()));
        }
    }
    let together = talk.far.together.lock().unwrap().clone();
    assert_eq!(together.iter().sum::<usize>(), 54);
    assert!(together.iter().any(|n| *n >= 8), "{together:?}");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_lookups_are_answered_and_verbs_are_errors() {
    let mut talk = connect(None).await;
    talk.say("ROUTE c1 sip:a@b n=1\r\n").await;
    let first = talk.heard().await;
    let token = first.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    talk.far.away.store(true, Ordering::Relaxed);
    talk.say(&format!("CONFIRM {token}\r\n")).await;
    assert_eq!(talk.heard().await, "-ERR settle: the store is away: cable  cut\r\n");
    talk.say("ROUTE c2 sip:a@b n=1\r\n").await;
    let degraded = talk.heard().await;
    assert!(degraded.contains("\"degraded\":true"), "{degraded}");
    talk.say("NODES\r\n").await;
    let nodes = talk.heard().await;
    assert!(nodes.contains("\"id\":\"ast2\"") && nodes.matches("\"stale\":true").count() == 2, "{nodes}");
    talk.far.away.store(false, Ordering::Relaxed);
    // The breaker may have opened: it is asked again within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    talk.say(&format!("CONFIRM {token}\r\nNODES\r\n")).await;
    let back = talk.heard().await;
    assert!(back.contains("OK confirmed") && back.contains("\"stale\":false"), "{back}");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_the_stop_is_answered() {
    let mut talk = connect(None).await;
    talk.say("ROUTE c1 sip:a@b n=1\r\n").await;
    tokio::time::sleep(Duration::from_millis(3)).await;
    talk.stop.cancel();
    talk.say("ROUTE c2 sip:a@b n=1\r\nPING\r\n*1\r\n$4\r\nPI").await;
    let heard = talk.heard().await;
    assert_eq!(heard.matches("\"token\"").count(), 2, "{heard}");
    assert!(heard.ends_with("+PONG\r\n"), "{heard}");
    assert!(matches!(talk.task.await.unwrap(), End::Stop));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asked_and_hung_up_its_side_gets_its_answers() {
    let mut talk = connect(None).await;
    talk.say("ROUTE c1 sip:a@b n=1\r\nPING\r\n").await;
    talk.client.shutdown().await.unwrap();
    assert!(talk.heard().await.ends_with("+PONG\r\n"));
    assert!(matches!(talk.task.await.unwrap(), End::Peer));
}

#[tokio::test(start_paused = true)]
async fn after_quit_and_after_nonsense_nothing_is_read() {
    for (said, answer) in [
        ("PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n"),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n", "-ERR this is RESP, not HTTP\r\n"),
    ] {
        let mut talk = connect(None).await;
        talk.say(said).await;
        assert_eq!(talk.heard().await, answer);
        assert!(matches!(talk.task.await.unwrap(), End::Quit));
    }
    let mut talk = connect(None).await;
    talk.say("PING\r\n*1\r\n*1\r\n$4\r\nPING\r\nPING\r\n").await;
    assert_eq!(talk.heard().await, "+PONG\r\n-ERR Protocol error: expected '$', got '*'\r\n");
    assert!(matches!(talk.task.await.unwrap(), End::Protocol(_)));
}
