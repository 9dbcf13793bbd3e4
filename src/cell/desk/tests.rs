use super::*;
use crate::domain::controller::Event;
use crate::domain::time::EpochMs;
use crate::store::cell::{Batch, Candidate, Change, Leadership};
use crate::store::memory::MemoryStore;

/// A cell whose leader is the test, and how often its store was asked for anything.
struct Scene {
    desk: Desk,
    store: Arc<MemoryStore>,
    asked: Arc<AtomicU64>,
    epoch: u64,
    seq: u64,
    told: u64,
}

impl Scene {
    async fn new() -> Scene {
        let (watch, asked) = (Stopwatch::start(), Arc::new(AtomicU64::new(0)));
        let counted = asked.clone();
        // The store looks at its clock once for each question.
        let clock = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            EpochMs(1_700_000_000_000 + watch.millis())
        };
        let store = Arc::new(MemoryStore::new(Box::new(clock)));
        let setup = Arc::new(ArcSwap::from_pointee(Setup::default()));
        let desk = Desk::new("main".parse().unwrap(), store.clone(), setup);
        let candidate =
            Candidate { holder: "a".to_owned(), epoch: 0, ttl_ms: 60_000, anew: false, may_found: true };
        let led = store.lead(desk.cell(), &candidate).await.unwrap();
        let Leadership::Yours { epoch, .. } = led else { panic!("{led:?}") };
        store.open(desk.cell(), epoch, false).await.unwrap();
        Scene { desk, store, asked, epoch, seq: 0, told: 0 }
    }

    /// Tells so many events: numbers that follow each other.
    async fn tell(&mut self, count: u64) {
        let changes = (self.told..self.told + count).map(|n| Change::Event { text: n.to_string() }).collect();
        self.told += count;
        self.seq += 1;
        let (cursor, clock) = (Position(0), EpochMs(0));
        let batch = Batch { epoch: self.epoch, seq: self.seq, rewrite: None, changes, cursor, clock };
        self.store.commit(self.desk.cell(), &batch).await.unwrap();
    }
}

/// The next numbers, which follow each other from `from` to `to`.
async fn hears(events: &mut Events, from: u64, to: u64) {
    for n in from..to {
        let told = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
        assert_eq!(told.unwrap_or_else(|_| panic!("{n} of {to} is not told")).text, n.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_reading() {
    let s = Scene::new().await;
    let before = s.asked.load(Ordering::Relaxed);
    let looks = (0..100).map(|_| s.desk.look());
    for seen in futures_util::future::join_all(looks).await {
        assert_eq!(seen.unwrap().head.epoch, s.epoch);
    }
    assert_eq!(s.asked.load(Ordering::Relaxed) - before, 1);
    tokio::time::sleep(Duration::from_millis(240)).await;
    s.desk.look().await.unwrap();
    assert_eq!(s.asked.load(Ordering::Relaxed) - before, 1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    s.desk.look().await.unwrap();
    assert_eq!(s.asked.load(Ordering::Relaxed) - before, 2);
}

#[tokio::test(start_paused = true)]
async fn whenever_somebody_comes_each_event_is_told_once_and_in_order() {
    let mut s = Scene::new().await;
    s.tell(10).await;
    let mut first = s.desk.events(Position(0));
    hears(&mut first, 0, 10).await;
    s.tell(500).await;
    let sixth = s.store.outbox(s.desk.cell(), Position(0), 6).await.unwrap()[5].position;
    let mut second = s.desk.events(sixth);
    for _ in 0..5 {
        s.tell(500).await;
    }
    // The second has read for itself what the first hears from the common reading as well.
    hears(&mut second, 6, s.told).await;
    hears(&mut first, 10, s.told).await;
    let mut third = s.desk.events(Position(0));
    hears(&mut third, 0, s.told).await;
    let now = s.told;
    s.tell(3).await;
    for events in [&mut first, &mut second, &mut third] {
        hears(events, now, now + 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_far_behind_misses_nothing() {
    let mut s = Scene::new().await;
    s.tell(1).await;
    let (mut quick, mut slow) = (s.desk.events(Position(0)), s.desk.events(Position(0)));
    hears(&mut slow, 0, 1).await;
    assert!(slow.next_kept().await.is_none());
    for n in 0..150 {
        hears(&mut quick, n, n + 1).await;
        s.tell(1).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    hears(&mut slow, 1, s.told).await;
    s.tell(1).await;
    hears(&mut slow, s.told - 1, s.told).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_reads_for_nobody() {
    let mut s = Scene::new().await;
    s.tell(1).await;
    let mut events = s.desk.events(Position(0));
    hears(&mut events, 0, 1).await;
    assert!(events.next_kept().await.is_none());
    drop(events);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = s.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(s.asked.load(Ordering::Relaxed), before);
    s.tell(1).await;
    let mut events = s.desk.events(Position(0));
    hears(&mut events, 0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_something_does_not_wait_for_somebody_who_reads() {
    let mut s = Scene::new().await;
    s.desk.look().await.unwrap();
    let what = What::Command { key: "k".into(), said: Said::Done };
    let text = record::write_event(&Event { at: EpochMs(1), what });
    s.seq += 1;
    let (changes, cursor, clock) = (vec![Change::Event { text }], Position(0), EpochMs(0));
    let batch = Batch { epoch: s.epoch, seq: s.seq, rewrite: None, changes, cursor, clock };
    s.store.commit(s.desk.cell(), &batch).await.unwrap();
    let reads = s.desk.read.lock().await;
    let login = Command::Login("ann".parse().unwrap());
    let reply = s.desk.send_and_wait("k", &login, Duration::from_secs(1));
    let reply = tokio::time::timeout(Duration::from_secs(2), reply).await;
    assert_eq!(reply.expect("it waits for the reading").unwrap(), Reply::Said(Said::Done));
    drop(reads);
    // What was read before is not what is there.
    let before = s.asked.load(Ordering::Relaxed);
    s.desk.look().await.unwrap();
    s.desk.look().await.unwrap();
    assert_eq!(s.asked.load(Ordering::Relaxed) - before, 1);
}
