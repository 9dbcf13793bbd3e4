//! What the cases of a store of cells are written with: one cell of a store, and short words for what is done to it.

use mqs::domain::id::CellId;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{
    Accepted, Batch, Candidate, CellStore, Change, Committed, Image, Leadership, Opened, Place, Position,
    REGISTRATION_GRACE_MS, Redeemed, Register, Rewrite,
};

/// A leadership of the cases that wait for its end lasts so long. Long enough for a slow machine to do what comes before.
pub const SHORT_MS: u64 = 400;
pub const LONG_MS: u64 = 60_000;

/// A store, and how time passes for it.
pub trait Harness {
    fn store(&self) -> &dyn CellStore;
    /// Lets so much time pass, and a little more.
    async fn pass(&self, ms: u64);
    /// Lets the time pass that the keys of commands are remembered for.
    async fn pass_keys(&self, cell: &CellId);
    /// Makes all registrations so much older.
    async fn pass_registrations(&self, cell: &CellId, ms: u64);
}

/// One cell of a store, and the leader's numbers.
pub struct Bench<'a> {
    pub store: &'a dyn CellStore,
    pub cell: CellId,
    pub epoch: u64,
    pub seq: u64,
}

impl<'a> Bench<'a> {
    pub fn new(h: &'a impl Harness) -> Bench<'a> {
        Bench { store: h.store(), cell: "main".parse().unwrap(), epoch: 0, seq: 0 }
    }

    /// A cell that is led.
    pub async fn led(h: &'a impl Harness) -> Bench<'a> {
        let mut bench = Bench::new(h);
        bench.take("a").await;
        bench
    }

    /// Leads, and opens.
    pub async fn take(&mut self, holder: &str) -> Image {
        self.epoch = self.yours(holder, 0).await;
        let image = self.here(self.epoch).await;
        self.seq = image.seq;
        image
    }

    pub async fn take_over(&mut self) -> Image {
        self.epoch += 1;
        let image = self.here(self.epoch).await;
        self.seq = image.seq;
        image
    }

    pub async fn lead(&self, holder: &str, epoch: u64, ttl_ms: u64, may_found: bool) -> Leadership {
        let candidate = Candidate { holder: holder.to_owned(), epoch, ttl_ms, anew: false, may_found };
        self.store.lead(&self.cell, &candidate).await.unwrap()
    }

    pub async fn yours(&self, holder: &str, epoch: u64) -> u64 {
        match self.lead(holder, epoch, LONG_MS, true).await {
            Leadership::Yours { epoch, .. } => epoch,
            other @ (Leadership::Theirs { .. } | Leadership::Unknown { .. }) => panic!("{other:?}"),
        }
    }

    pub async fn resign(&self, holder: &str, epoch: u64) -> bool {
        self.store.resign(&self.cell, holder, epoch).await.unwrap()
    }

    pub async fn open(&self, epoch: u64) -> Opened {
        self.store.open(&self.cell, epoch, true).await.unwrap()
    }

    pub async fn here(&self, epoch: u64) -> Image {
        match self.open(epoch).await {
            Opened::Here(mut image) => {
                image.records.sort();
                image
            }
            Opened::Fenced { epoch } => panic!("fenced by {epoch}"),
        }
    }

    pub async fn records(&self) -> Vec<(String, String)> {
        self.here(self.epoch).await.records
    }

    pub fn batch(&self, seq: u64, changes: Vec<Change>) -> Batch {
        Batch { epoch: self.epoch, seq, rewrite: None, changes, cursor: Position(0), clock: EpochMs(0) }
    }

    pub async fn commit(&self, batch: &Batch) -> Committed {
        self.store.commit(&self.cell, batch).await.unwrap()
    }

    /// Commits the next batch.
    pub async fn write(&mut self, changes: Vec<Change>) {
        self.seq += 1;
        assert_eq!(self.commit(&self.batch(self.seq, changes)).await, Committed::Done);
    }

    pub async fn rewrite(&mut self, first: bool, last: bool, changes: Vec<Change>) -> Committed {
        self.seq += 1;
        let batch = Batch { rewrite: Some(Rewrite { first, last }), ..self.batch(self.seq, changes) };
        self.commit(&batch).await
    }

    pub async fn redeem(&self, offer: &str, leg: &str) -> Redeemed {
        self.store.redeem(&self.cell, offer, leg).await.unwrap()
    }

    pub async fn send(&self, key: &str) -> Position {
        match self.store.send(&self.cell, key, &format!("do {key}")).await.unwrap() {
            Accepted::New(at) => at,
            other @ (Accepted::Repeated(_) | Accepted::Full) => panic!("{other:?}"),
        }
    }

    pub async fn sent(&self, after: Position, limit: usize) -> Vec<String> {
        let sent = self.store.inbox(&self.cell, after, limit).await.unwrap();
        assert!(sent.windows(2).all(|pair| pair[0].position < pair[1].position));
        assert!(sent.iter().all(|one| one.text == format!("do {}", one.key) && one.position > after));
        sent.into_iter().map(|one| one.key).collect()
    }

    pub async fn queue(&self, queue: &str) -> String {
        let queue = queue.parse().unwrap();
        self.store.queue(&self.cell, &queue, 100).await.unwrap().join(" ")
    }

    pub async fn told(&self, group: &str) -> Position {
        self.store.told(&self.cell, group).await.unwrap()
    }

    pub async fn register(&self, aor: &str, proxy: &str, expires_ms: u64, id: &str, cseq: u32) {
        let register = Register {
            aor: aor.to_owned(),
            proxy: proxy.parse().unwrap(),
            expires_ms,
            call_id: id.to_owned(),
            cseq,
        };
        self.store.register(&self.cell, &register).await.unwrap();
    }

    /// `bob@x via p1 for 60000, …`: sorted, and from when they were refreshed until they end.
    pub async fn registered(&self) -> String {
        let all = self.store.registrations(&self.cell).await.unwrap();
        let one = |r: mqs::store::cell::Registration| {
            format!("{} via {} for {}", r.aor, r.proxy, r.until.since(r.at) - REGISTRATION_GRACE_MS)
        };
        let mut all: Vec<String> = all.into_iter().map(one).collect();
        all.sort();
        all.join(", ")
    }
}

pub fn put(name: &str, text: &str) -> Change {
    Change::Put { name: name.to_owned(), text: text.to_owned() }
}

pub fn delete(name: &str) -> Change {
    Change::Delete { name: name.to_owned() }
}

pub fn place(queue: &str, call: &str, priority: u16, at: u64) -> Change {
    let place = Place { priority, enqueued: EpochMs(1_700_000_000_000 + at) };
    Change::Place { queue: queue.parse().unwrap(), call: call.to_owned(), place }
}

pub fn leave(queue: &str, call: &str) -> Change {
    Change::Leave { queue: queue.parse().unwrap(), call: call.to_owned() }
}

pub fn issue(offer: &str) -> Change {
    Change::Issue { offer: offer.to_owned() }
}

pub fn revoke(offer: &str) -> Change {
    Change::Revoke { offer: offer.to_owned() }
}

pub fn event(text: &str) -> Change {
    Change::Event { text: text.to_owned() }
}

pub fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}
