//! A cell with two queues and two agents, led by a real pilot on the memory store, behind a real HTTP server.

use crate::exchange::Exchange;
use crate::support::http::{Options, Reply, Server, memory, options, request};
use arc_swap::ArcSwap;
use mqs::cell::Desk;
use mqs::cell::pilot::Settings;
use mqs::cell::shell::Running;
use mqs::clock;
use mqs::domain::agent::AgentRules;
use mqs::domain::call::TreatedFor;
use mqs::domain::controller::{Event, What};
use mqs::domain::id::CellId;
use mqs::domain::matching::{MatchRules, Membership, Skills};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Batch, Candidate, CellStore, Change, Leadership, Position, Register};
use mqs::store::memory::MemoryStore;
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub fn name<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub fn event(at: EpochMs) -> Event {
    Event { at, what: What::Enqueued { call: name("c1"), queue: name("sales") } }
}

fn setup() -> Setup {
    let rules = QueueRules {
        matching: MatchRules::default(),
        waiting_max: 10,
        wait_max_ms: 600_000,
        offers_max: 10,
        ring_ms: 15_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 100,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "default".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: [(TreatedFor::Full, name("busy"))].into(),
    };
    let agent = |id: &str, queues: &[&str]| AgentRules {
        aor: Arc::from(format!("{id}@example.com")),
        skills: ["de"].iter().map(|skill| name(skill)).collect::<Skills>(),
        memberships: queues.iter().map(|queue| (name(queue), Membership { penalty: 3, weight: 0 })).collect(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 3,
    };
    Setup {
        queues: [(name("sales"), rules.clone()), (name("support"), rules)].into(),
        agents: [(name("ann"), agent("ann", &["sales"])), (name("bob"), agent("bob", &["sales", "support"]))]
            .into(),
        treatments: [(name("busy"), Treatment::HangUp { cause: 17 })].into(),
        last_resort: None,
        ..Setup::default()
    }
}

pub struct Scene {
    pub server: Server,
    pub desk: Arc<Desk>,
    pub store: Arc<MemoryStore>,
    pub exchange: Arc<Exchange>,
    cell: CellId,
    _running: Option<Running>,
}

impl Scene {
    /// Nobody leads.
    pub async fn standing_by() -> Scene {
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let cell: CellId = name("main");
        let exchange = Arc::new(Exchange::new(cell.clone(), store.clone()));
        let laid_down = Arc::new(ArcSwap::from_pointee(setup()));
        let desk = Arc::new(Desk::new(cell.clone(), store.clone(), laid_down));
        let options = Options { desk: Some(desk.clone()), ..options() };
        let server = Server::with(memory(), options, "127.0.0.1:0", "").await;
        for agent in ["ann", "bob"] {
            let register = Register {
                aor: format!("{agent}@example.com"),
                proxy: name("k1"),
                expires_ms: 3_600_000,
                call_id: format!("reg-{agent}"),
                cseq: 1,
            };
            store.register(&cell, &register).await.unwrap();
        }
        Scene { server, desk, store, exchange, cell, _running: None }
    }

    /// An instance leads, and has all nodes.
    pub async fn led() -> Scene {
        let mut scene = Scene::standing_by().await;
        scene.start("one").await;
        scene
    }

    pub async fn start(&mut self, holder: &str) {
        let settings = Settings { holder: holder.to_owned(), seed: 1, seeded: None };
        let nodes = self.exchange.seat(holder);
        let running = Running::start(self.cell.clone(), settings, self.store.clone(), nodes);
        running.set_up(Arc::new(setup()), vec![name("n1"), name("n2")]).await;
        self._running = Some(running);
        for _ in 0..500 {
            if ["n1", "n2"].iter().all(|node| self.exchange.attached(node).is_some()) {
                // Listed, and offers are made.
                return tokio::time::sleep(Duration::from_millis(200)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody leads");
    }

    /// A caller comes, and is known.
    pub async fn call(&self, node: &str, channel: &str) {
        self.exchange.call(node, channel).await;
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let look = self.store.look(&self.cell).await.unwrap();
            if look.records.iter().any(|(name, _)| *name == format!("c:{channel}")) {
                // No reading that is older is shown any more.
                return tokio::time::sleep(Duration::from_millis(260)).await;
            }
        }
        panic!("{channel} is not known");
    }

    pub async fn ask(&self, method: &str, path: &str) -> Reply {
        self.server.ask(method, path, "").await
    }

    pub async fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// A command, and the answer to it.
    pub async fn say(&self, path: &str, body: &str) -> Value {
        let reply = self.server.ask("POST", path, body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    pub async fn until(&self, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..200 {
            last = self.get(path).await;
            if so(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} stays {last}");
    }

    /// The positions of all events.
    pub async fn told(&self) -> Vec<String> {
        let told = self.store.outbox(&self.cell, Position(0), 1_000).await.unwrap();
        told.iter().map(|told| told.position.0.to_string()).collect()
    }

    /// Writes as a leader would.
    pub async fn write(&self, changes: Vec<Change>) {
        let candidate =
            Candidate { holder: "test".to_owned(), epoch: 0, ttl_ms: 60_000, anew: false, may_found: true };
        let Leadership::Yours { epoch, .. } = self.store.lead(&self.cell, &candidate).await.unwrap() else {
            panic!("somebody leads");
        };
        self.store.open(&self.cell, epoch, false).await.unwrap();
        let batch = Batch { epoch, seq: 1, rewrite: None, changes, cursor: Position(0), clock: EpochMs(0) };
        self.store.commit(&self.cell, &batch).await.unwrap();
    }

    /// How many may yet follow the events.
    pub fn seats(&self) -> usize {
        let mut free = Vec::new();
        while let Some(seat) = self.desk.seat() {
            free.push(seat);
        }
        free.len()
    }
}

#[derive(Debug)]
pub struct Heard {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Follows the events.
pub struct Listener {
    stream: Box<dyn Stream>,
    head: Vec<String>,
    body: String,
    over: bool,
}

impl Listener {
    pub async fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Listener {
        Listener::on(Box::new(server.tcp().await), path, headers).await
    }

    pub async fn open_unix(server: &Server, path: &str) -> Listener {
        Listener::on(Box::new(server.unix().await), path, &[]).await
    }

    async fn on(mut stream: Box<dyn Stream>, path: &str, headers: &[(&str, &str)]) -> Listener {
        stream.write_all(request("GET", path, headers, "").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head: Vec<String> =
            String::from_utf8(head).unwrap().trim_end().split("\r\n").map(str::to_ascii_lowercase).collect();
        assert!(head[0].contains(" 200 "), "{head:?}");
        Listener { stream, head, body: String::new(), over: false }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// One chunk (RFC 9112 §7.1).
    async fn chunk(&mut self) {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await.unwrap();
        self.over = length == 0;
        self.body.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }

    /// The next event; `None`: the stream has ended in good order.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            while let Some((part, rest)) = self.body.split_once("\n\n") {
                let field = |name: &str| {
                    part.lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                        .unwrap_or("")
                        .to_owned()
                };
                let (id, kind, data) = (field("id:"), field("event:"), field("data:"));
                self.body = rest.to_owned();
                if !data.is_empty() {
                    return Some(Heard { id, kind, data: serde_json::from_str(&data).unwrap() });
                }
            }
            if self.over {
                return None;
            }
            tokio::time::timeout(Duration::from_secs(10), self.chunk()).await.expect("an event in time");
        }
    }

    pub async fn until(&mut self, kind: &str) -> Heard {
        loop {
            let heard = self.next().await.expect("an event");
            if heard.kind == kind {
                return heard;
            }
        }
    }

    pub async fn rest(mut self) -> Vec<Heard> {
        let mut all = Vec::new();
        while let Some(heard) = self.next().await {
            all.push(heard);
        }
        all
    }
}
