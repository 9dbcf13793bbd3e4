//! What a batch of the leader costs the stores: records, places, tokens and events of a call centre at work, as the codec writes
//! them, in batches of one change, of 64, and of as many as one may have.

use crate::line::Line;
use crate::support::redis::Redis;
use crate::support::{full_or_quick, median, quantile, round};
use crate::world;
use mqs::cell::codec;
use mqs::cell::pilot::Commit;
use mqs::clock::{self, Stopwatch};
use mqs::domain::controller::{Change, Event, What};
use mqs::domain::id::CellId;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{
    BATCH_MAX, Candidate, CellStore, Committed, Leadership, OUTBOX_MAX, Opened, Position, Rewrite,
};
use mqs::store::file::FileStore;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

pub const PATIENT: Options = Options { timeout: Duration::from_secs(5) };
const SIZES: [usize; 3] = [1, 64, BATCH_MAX];
const WAITING: usize = 1_000;

pub fn cell() -> CellId {
    "bench".parse().unwrap()
}

pub fn candidate(holder: &str) -> Candidate {
    Candidate { holder: holder.to_owned(), epoch: 0, ttl_ms: 3_600_000, anew: false, may_found: true }
}

/// A call centre at work, and a leader that writes what happens there.
pub struct Writer<'a> {
    store: &'a dyn CellStore,
    epoch: u64,
    seq: u64,
    line: Line,
    changes: VecDeque<Change>,
}

impl<'a> Writer<'a> {
    /// What is there by then is written.
    pub async fn new(store: &'a dyn CellStore, line: Line) -> Writer<'a> {
        let asked = store.lead(&cell(), &candidate("writer")).await.unwrap();
        let Leadership::Yours { epoch, .. } = asked else { panic!("{asked:?}") };
        assert!(matches!(store.open(&cell(), epoch, true).await.unwrap(), Opened::Here(_)));
        let mut writer = Writer { store, epoch, seq: 0, line, changes: VecDeque::new() };
        let all = writer.line.controller.rewrite(epoch, writer.line.world.now);
        let parts = all.len().div_ceil(BATCH_MAX);
        for (number, part) in all.chunks(BATCH_MAX).enumerate() {
            let rewrite = Rewrite { first: number == 0, last: number + 1 == parts };
            writer.write(part.to_vec(), Some(rewrite)).await;
        }
        writer
    }

    /// The outbox of a cell that has been at work for some time is full.
    async fn fill_outbox(&mut self) {
        let event = Event { at: world::START, what: What::Agent { agent: world::agent(1), state: "ready" } };
        for _ in 0..OUTBOX_MAX.div_ceil(BATCH_MAX) {
            self.write(vec![Change::Event(event.clone()); BATCH_MAX], None).await;
        }
    }

    /// The next changes; how long the store took, in ms.
    async fn some(&mut self, count: usize) -> f64 {
        while self.changes.len() < count {
            self.line.step(&mut Vec::new());
            self.changes.extend(self.line.changes.drain(..));
        }
        let changes = self.changes.drain(..count).collect();
        self.write(changes, None).await
    }

    /// Somebody else may lead.
    pub async fn resign(self) -> Line {
        assert!(self.store.resign(&cell(), "writer", self.epoch).await.unwrap());
        self.line
    }

    async fn write(&mut self, changes: Vec<Change>, rewrite: Option<Rewrite>) -> f64 {
        self.seq += 1;
        let clock = self.line.world.now;
        let commit =
            Commit { epoch: self.epoch, seq: self.seq, rewrite, changes, cursor: Position(0), clock };
        let batch = codec::batch(&commit);
        let watch = Stopwatch::start();
        let said = self.store.commit(&cell(), &batch).await.unwrap();
        let ms = watch.elapsed().as_secs_f64() * 1e3;
        assert_eq!(said, Committed::Done);
        ms
    }
}

pub fn measure() -> Value {
    let folder = scratch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = || Box::new(|| EpochMs(clock::wall().0)) as Box<dyn Fn() -> EpochMs + Send + Sync>;
    let mut found = json!({});
    let rounds = full_or_quick(300, 20);

    let memory = MemoryStore::new(clock());
    found["memory"] = runtime.block_on(write(&memory, rounds, || None));
    let file = FileStore::open(&folder.path().join("bench.redb"), clock(), PATIENT.timeout).unwrap();
    found["file"] = runtime.block_on(write(&file, rounds / 3, || None));

    let Some(redis) = served(folder.path()) else {
        found["redis"] = json!({"skipped": "no redis-server on the PATH"});
        return found;
    };
    let store = RedisStore::connect(&redis.url, PATIENT).unwrap();
    let mut server = Server::new(&redis);
    found["redis"] = runtime.block_on(write(&store, rounds, || Some(server.last_script_ms())));
    // What it costs to survive a crash of the server.
    server.persist();
    found["redis_aof"] = runtime.block_on(write(&store, rounds / 3, || Some(server.last_script_ms())));
    found
}

/// On a disk, where the embedded store keeps its file; what is in /tmp may be in memory.
fn scratch() -> tempfile::TempDir {
    let target = crate::support::file().parent().unwrap().to_owned();
    std::fs::create_dir_all(&target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

/// A Redis with a core of its own. `None`: there is none.
pub fn served(folder: &std::path::Path) -> Option<Redis> {
    crate::support::pin(1);
    let redis = Redis::start(folder);
    crate::support::pin(0);
    redis
}

async fn write(store: &dyn CellStore, rounds: usize, mut server_ms: impl FnMut() -> Option<f64>) -> Value {
    let (mut line, mut told) = Line::new(&world::setup(), world::AGENTS, WAITING);
    while told.len() < crate::line::warm_up(WAITING) {
        line.step(&mut told);
    }
    line.changes.clear();
    let mut writer = Writer::new(store, line).await;
    writer.fill_outbox().await;
    let mut took: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for round in 0..rounds + 5 {
        for (size, (all, server)) in SIZES.iter().zip(&mut took) {
            let ms = writer.some(*size).await;
            let inside = server_ms();
            if round >= 5 {
                all.push(ms);
                server.extend(inside);
            }
        }
    }
    writer.resign().await;
    let mut found = json!({"rounds": rounds});
    for (size, (all, server)) in SIZES.iter().zip(took) {
        found[format!("batch_{size}")] = json!({"round_trip_ms": summary(all)});
        if !server.is_empty() {
            found[format!("batch_{size}")]["server_ms"] = summary(server);
        }
    }
    found
}

pub fn summary(ms: Vec<f64>) -> Value {
    let most = ms.iter().copied().fold(f64::NAN, f64::max);
    let p99 = quantile(ms.iter().copied(), 0.99);
    json!({"median": round(median(ms)), "p99": round(p99), "max": round(most)})
}

/// What Redis says itself, on a connection of its own.
struct Server(redis::Connection);

impl Server {
    fn new(redis: &Redis) -> Server {
        let mut server = Server(redis::Client::open(redis.url.as_str()).unwrap().get_connection().unwrap());
        server.say("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 16");
        server
    }

    fn say(&mut self, words: &str) -> redis::Value {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| _ = cmd.arg(word));
        cmd.query(&mut self.0).unwrap()
    }

    /// How long the last script ran, by the slow log, which holds everything here.
    fn last_script_ms(&mut self) -> f64 {
        let log = self.say("SLOWLOG GET 16");
        let entries = log.as_sequence().unwrap();
        let of = |entry: &redis::Value| {
            let fields = entry.as_sequence().unwrap();
            let words = fields[3].as_sequence().unwrap();
            let redis::Value::BulkString(name) = &words[0] else { panic!("{words:?}") };
            let redis::Value::Int(us) = &fields[2] else { panic!("{fields:?}") };
            name.eq_ignore_ascii_case(b"evalsha").then_some(*us as f64 / 1e3)
        };
        entries.iter().find_map(of).expect("a script has run")
    }

    /// An append-only file that is flushed each second.
    fn persist(&mut self) {
        self.say("CONFIG SET appendfsync everysec");
        self.say("CONFIG SET appendonly yes");
        loop {
            let redis::Value::BulkString(info) = self.say("INFO persistence") else { panic!("no INFO") };
            if String::from_utf8_lossy(&info).contains("aof_rewrite_in_progress:0") {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
