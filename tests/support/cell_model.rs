//! Random traces against [`CellTable`]: whatever is asked of a store, in whatever order and however often, it answers as the
//! table does, and keeps the same.
//!
//! Epochs and positions follow the clock, which is real in Redis: they are compared by when they were first seen.

use super::cell_bench::Harness;
use mqs::domain::id::{CellId, QueueId};
use mqs::domain::time::EpochMs;
use mqs::store::StoreError;
use mqs::store::cell::{
    Accepted, Batch, Candidate, CellTable, Change, Committed, Leadership, Limits, Opened, Place, Position,
    Redeemed, Register, Rewrite,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::atomic::{AtomicU32, Ordering};

/// Nothing of this length runs out where time is real.
const TTL_MS: u64 = 60_000;
const QUEUES: [&str; 2] = ["q", "r"];

/// A harness that the model can drive.
pub trait Driven: Harness {
    /// Whether time passes by itself, and not by [`Harness::pass`].
    const REAL_TIME: bool;
    /// One for the next trace.
    fn fresh() -> Self;
    /// Where time is not real: the time.
    fn now(&self) -> EpochMs;
    /// The process that uses the store dies without a word. True: it held the store.
    fn crash(&mut self) -> bool {
        false
    }
}

/// A number that was seen before: so many before the last one.
type Back = u8;

#[derive(Clone, Debug)]
enum Step {
    Lead {
        holder: u8,
        epoch: Option<Back>,
        anew: bool,
        may_found: bool,
    },
    Resign {
        holder: u8,
        epoch: Back,
    },
    Open {
        epoch: Back,
        read: bool,
    },
    /// The epoch is the one that was opened last, or another; the seq is that of the store and so much more.
    Commit {
        epoch: Option<Back>,
        seq: i8,
        rewrite: Option<(bool, bool)>,
        changes: Vec<Change>,
        cursor: Option<Back>,
        clock: u64,
    },
    Redeem {
        offer: u8,
        leg: u8,
    },
    Send {
        key: u8,
        text: u8,
    },
    Read {
        after: Option<Back>,
        limit: usize,
    },
    Acknowledge {
        group: u8,
        upto: Back,
    },
    Register {
        aor: u8,
        proxy: u8,
        expires_ms: u64,
        call_id: u8,
        cseq: u32,
    },
    Pass(u64),
    Crash,
}

fn change() -> impl Strategy<Value = Change> {
    let name = prop::sample::select(vec!["a", "b", "{c}", "d"]).prop_map(str::to_owned);
    let queue = prop::sample::select(QUEUES.to_vec()).prop_map(|queue| queue.parse::<QueueId>().unwrap());
    let text = prop::sample::select(vec!["", "1", "two\n"]).prop_map(str::to_owned);
    let place = (0..3u16, 0..3u64).prop_map(|(priority, at)| Place {
        priority: priority * 500,
        enqueued: EpochMs(1_700_000_000_000 + at),
    });
    // One in fifty is none.
    let bad = prop_oneof![49 => Just(None), 1 => Just(Some("b d".to_owned()))];
    prop_oneof![
        4 => (name.clone(), text.clone(), bad).prop_map(|(name, text, bad)| Change::Put { name: bad.unwrap_or(name), text }),
        2 => name.clone().prop_map(|name| Change::Delete { name }),
        4 => (queue.clone(), name.clone(), place).prop_map(|(queue, call, place)| Change::Place { queue, call, place }),
        2 => (queue, name.clone()).prop_map(|(queue, call)| Change::Leave { queue, call }),
        3 => (0..3u8).prop_map(|offer| Change::Issue { offer: format!("o{offer}") }),
        2 => (0..3u8).prop_map(|offer| Change::Revoke { offer: format!("o{offer}") }),
        2 => text.prop_map(|text| Change::Event { text }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let back = || prop_oneof![4 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let seq = prop_oneof![8 => Just(1i8), 1 => -2..4i8];
    let rewrite = prop::option::weighted(0.2, any::<(bool, bool)>());
    let changes = prop::collection::vec(change(), 0..8);
    let other_epoch = prop::option::weighted(0.2, back());
    prop_oneof![
        4 => (0..3u8, prop::option::of(back()), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(holder, epoch, anew, may_found)| Step::Lead { holder, epoch, anew, may_found }),
        1 => (0..3u8, back()).prop_map(|(holder, epoch)| Step::Resign { holder, epoch }),
        4 => (back(), any::<bool>()).prop_map(|(epoch, read)| Step::Open { epoch, read }),
        12 => (other_epoch, seq, rewrite, changes, prop::option::weighted(0.2, back()), 0..5u64)
            .prop_map(|(epoch, seq, rewrite, changes, cursor, clock)| Step::Commit { epoch, seq, rewrite, changes, cursor, clock }),
        6 => (0..4u8, 0..3u8).prop_map(|(offer, leg)| Step::Redeem { offer, leg }),
        5 => (0..6u8, 0..3u8).prop_map(|(key, text)| Step::Send { key, text }),
        2 => (prop::option::of(back()), 0..4usize).prop_map(|(after, limit)| Step::Read { after, limit }),
        2 => (0..2u8, back()).prop_map(|(group, upto)| Step::Acknowledge { group, upto }),
        5 => (0..2u8, 0..2u8, prop::sample::select(vec![0, TTL_MS, 2 * TTL_MS]), 0..2u8, 0..4u32)
            .prop_map(|(aor, proxy, expires_ms, call_id, cseq)| Step::Register { aor, proxy, expires_ms, call_id, cseq }),
        3 => prop::sample::select(vec![1, 29_000, 61_000, 601_000]).prop_map(Step::Pass),
        2 => Just(Step::Crash),
    ]
}

/// Numbers as they were first seen.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn back(&self, back: Back) -> u64 {
        self.0.iter().rev().nth(usize::from(back)).copied().unwrap_or(1)
    }

    /// When it was first seen; 0 is none, wherever.
    fn number(&mut self, number: u64) -> u64 {
        if number == 0 {
            return 0;
        }
        let at = self.0.iter().position(|known| *known == number).unwrap_or_else(|| {
            self.0.push(number);
            self.0.len() - 1
        });
        u64::try_from(at).unwrap() + 1
    }
}

/// What is said, without what depends on a clock.
#[derive(Debug, PartialEq)]
enum Said {
    Leads(u64),
    Theirs(String),
    Unknown,
    Resigned(bool),
    Fenced(u64),
    Here { seq: u64, cursor: u64, clock: u64, whole: bool, records: Vec<(String, String)> },
    Committed(Committed),
    Redeemed(Redeemed),
    Sent(u64),
    SentBefore(u64),
    Full,
    Entries(Vec<(u64, String, String)>),
    Registered(Vec<(String, String, u64)>),
    Queue(Vec<String>),
    Told(u64),
    Refused(String),
    Nothing,
}

/// One side: a store or the table, and the numbers that it gave.
struct Side<S> {
    store: S,
    epochs: Seen,
    /// Of inbox and outbox, each by itself.
    positions: Seen,
    told: Seen,
}

/// The table as a store, at a time.
struct Table {
    table: CellTable,
    now: EpochMs,
}

type Asked<T> = Result<T, StoreError>;

/// What a trace does to either side.
#[allow(clippy::too_many_arguments)]
trait Ask {
    fn lead(&mut self, candidate: &Candidate) -> Asked<Leadership>;
    fn resign(&mut self, holder: &str, epoch: u64) -> Asked<bool>;
    fn open(&mut self, epoch: u64, read: bool) -> Asked<Opened>;
    fn commit(&mut self, batch: &Batch) -> Asked<Committed>;
    fn redeem(&mut self, offer: &str, leg: &str) -> Asked<Redeemed>;
    fn send(&mut self, key: &str, text: &str) -> Asked<Accepted>;
    fn inbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>>;
    fn outbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>>;
    fn told(&mut self, group: &str) -> Asked<Position>;
    fn acknowledge(&mut self, group: &str, upto: Position) -> Asked<()>;
    fn register(&mut self, register: &Register) -> Asked<()>;
    /// Address, proxy, how long it is kept.
    fn registrations(&mut self) -> Asked<Vec<(String, String, u64)>>;
    fn queue(&mut self, queue: &QueueId) -> Asked<Vec<String>>;
}

fn sent(all: Vec<mqs::store::cell::Sent>) -> Vec<(Position, String, String)> {
    all.into_iter().map(|one| (one.position, one.key, one.text)).collect()
}

fn told(all: Vec<mqs::store::cell::Told>) -> Vec<(Position, String, String)> {
    all.into_iter().map(|one| (one.position, String::new(), one.text)).collect()
}

fn registered(all: Vec<mqs::store::cell::Registration>) -> Vec<(String, String, u64)> {
    let mut all: Vec<_> =
        all.into_iter().map(|r| (r.aor, r.proxy.to_string(), r.until.since(r.at))).collect();
    all.sort();
    all
}

impl Ask for Table {
    fn lead(&mut self, candidate: &Candidate) -> Asked<Leadership> {
        self.table.lead(candidate, self.now)
    }
    fn resign(&mut self, holder: &str, epoch: u64) -> Asked<bool> {
        Ok(self.table.resign(holder, epoch))
    }
    fn open(&mut self, epoch: u64, read: bool) -> Asked<Opened> {
        self.table.open(epoch, read)
    }
    fn commit(&mut self, batch: &Batch) -> Asked<Committed> {
        self.table.commit(batch, self.now)
    }
    fn redeem(&mut self, offer: &str, leg: &str) -> Asked<Redeemed> {
        self.table.redeem(offer, leg)
    }
    fn send(&mut self, key: &str, text: &str) -> Asked<Accepted> {
        self.table.send(key, text, self.now)
    }
    fn inbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>> {
        Ok(sent(self.table.inbox(after, limit)))
    }
    fn outbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>> {
        Ok(told(self.table.outbox(after, limit)))
    }
    fn told(&mut self, group: &str) -> Asked<Position> {
        self.table.told(group)
    }
    fn acknowledge(&mut self, group: &str, upto: Position) -> Asked<()> {
        self.table.acknowledge(group, upto)
    }
    fn register(&mut self, register: &Register) -> Asked<()> {
        self.table.register(register, self.now)
    }
    fn registrations(&mut self) -> Asked<Vec<(String, String, u64)>> {
        Ok(registered(self.table.registrations(self.now)))
    }
    fn queue(&mut self, queue: &QueueId) -> Asked<Vec<String>> {
        Ok(self.table.queue(queue, 100))
    }
}

/// A store while a trace runs on it.
struct Run<D> {
    runtime: tokio::runtime::Runtime,
    driven: D,
    cell: CellId,
}

macro_rules! ask {
    ($run:ident, $op:ident($($arg:expr),*)) => {
        $run.runtime.block_on($run.driven.store().$op(&$run.cell, $($arg),*))
    };
}

impl<D: Driven> Ask for Run<D> {
    fn lead(&mut self, candidate: &Candidate) -> Asked<Leadership> {
        ask!(self, lead(candidate))
    }
    fn resign(&mut self, holder: &str, epoch: u64) -> Asked<bool> {
        ask!(self, resign(holder, epoch))
    }
    fn open(&mut self, epoch: u64, read: bool) -> Asked<Opened> {
        ask!(self, open(epoch, read))
    }
    fn commit(&mut self, batch: &Batch) -> Asked<Committed> {
        ask!(self, commit(batch))
    }
    fn redeem(&mut self, offer: &str, leg: &str) -> Asked<Redeemed> {
        ask!(self, redeem(offer, leg))
    }
    fn send(&mut self, key: &str, text: &str) -> Asked<Accepted> {
        ask!(self, send(key, text))
    }
    fn inbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>> {
        ask!(self, inbox(after, limit)).map(sent)
    }
    fn outbox(&mut self, after: Position, limit: usize) -> Asked<Vec<(Position, String, String)>> {
        ask!(self, outbox(after, limit)).map(told)
    }
    fn told(&mut self, group: &str) -> Asked<Position> {
        ask!(self, told(group))
    }
    fn acknowledge(&mut self, group: &str, upto: Position) -> Asked<()> {
        ask!(self, acknowledge(group, upto))
    }
    fn register(&mut self, register: &Register) -> Asked<()> {
        ask!(self, register(register))
    }
    fn registrations(&mut self) -> Asked<Vec<(String, String, u64)>> {
        ask!(self, registrations()).map(registered)
    }
    fn queue(&mut self, queue: &QueueId) -> Asked<Vec<String>> {
        ask!(self, queue(queue, 100))
    }
}

fn refused(error: StoreError) -> Said {
    match error {
        StoreError::Refused { cause, .. } => Said::Refused(cause),
        other @ (StoreError::Away { .. } | StoreError::Timeout { .. } | StoreError::Damaged { .. }) => {
            panic!("{other:?}")
        }
    }
}

impl<S: Ask> Side<S> {
    fn new(store: S) -> Side<S> {
        Side { store, epochs: Seen::default(), positions: Seen::default(), told: Seen::default() }
    }

    fn here(&mut self, opened: Opened) -> Said {
        match opened {
            Opened::Fenced { epoch } => Said::Fenced(self.epochs.number(epoch)),
            Opened::Here(mut image) => {
                image.records.sort();
                let cursor = self.positions.number(image.cursor.0);
                let (seq, clock, whole, records) = (image.seq, image.clock.0, image.whole, image.records);
                Said::Here { seq, cursor, clock, whole, records }
            }
        }
    }

    /// Does a step. `seq` and `opened` are the table's, the latter as a number that was seen.
    fn step(&mut self, step: &Step, seq: u64, opened: u64) -> Said {
        let said = match step {
            Step::Lead { holder, epoch, anew, may_found } => {
                let epoch = epoch.map_or(0, |back| self.epochs.back(back));
                let (holder, anew, may_found) = (format!("i{holder}"), *anew, *may_found);
                let candidate = Candidate { holder, epoch, ttl_ms: TTL_MS, anew, may_found };
                self.store.lead(&candidate).map(|said| match said {
                    Leadership::Yours { epoch, .. } => Said::Leads(self.epochs.number(epoch)),
                    Leadership::Theirs { holder, .. } => Said::Theirs(holder),
                    Leadership::Unknown { .. } => Said::Unknown,
                })
            }
            Step::Resign { holder, epoch } => {
                self.store.resign(&format!("i{holder}"), self.epochs.back(*epoch)).map(Said::Resigned)
            }
            Step::Open { epoch, read } => {
                let epoch = self.epochs.back(*epoch);
                self.epochs.number(epoch);
                self.store.open(epoch, *read).map(|said| self.here(said))
            }
            Step::Commit { epoch, seq: more, rewrite, changes, cursor, clock } => {
                let latest = usize::try_from(opened).unwrap();
                let latest = latest.checked_sub(1).map_or(1, |at| self.epochs.0[at]);
                let batch = Batch {
                    epoch: epoch.map_or(latest, |back| self.epochs.back(back)),
                    seq: seq.saturating_add_signed(i64::from(*more)),
                    rewrite: rewrite.map(|(first, last)| Rewrite { first, last }),
                    changes: changes.clone(),
                    cursor: Position(cursor.map_or(0, |back| self.positions.back(back))),
                    clock: EpochMs(*clock),
                };
                self.positions.number(batch.cursor.0);
                self.store.commit(&batch).map(|said| match said {
                    Committed::Fenced { epoch } => Said::Fenced(self.epochs.number(epoch)),
                    said @ (Committed::Done | Committed::Repeated | Committed::Gap { .. }) => {
                        Said::Committed(said)
                    }
                })
            }
            Step::Redeem { offer, leg } => {
                self.store.redeem(&format!("o{offer}"), &format!("l{leg}")).map(Said::Redeemed)
            }
            Step::Send { key, text } => {
                self.store.send(&format!("k{key}"), &text.to_string()).map(|said| match said {
                    Accepted::New(at) => Said::Sent(self.positions.number(at.0)),
                    Accepted::Repeated(at) => Said::SentBefore(self.positions.number(at.0)),
                    Accepted::Full => Said::Full,
                })
            }
            Step::Read { after, limit } => {
                let after = Position(after.map_or(0, |back| self.positions.back(back)));
                self.store.inbox(after, *limit).map(|all| entries(&mut self.positions, all))
            }
            Step::Acknowledge { group, upto } => {
                let (group, upto) = (format!("g{group}"), self.told.back(*upto));
                self.told.number(upto);
                let done = self.store.acknowledge(&group, Position(upto));
                done.and_then(|()| self.store.told(&group)).map(|at| Said::Told(self.told.number(at.0)))
            }
            Step::Register { aor, proxy, expires_ms, call_id, cseq } => {
                let register = Register {
                    aor: format!("u{aor}@x"),
                    proxy: format!("p{proxy}").parse().unwrap(),
                    expires_ms: *expires_ms,
                    call_id: format!("c{call_id}"),
                    cseq: *cseq,
                };
                self.store.register(&register).map(|()| Said::Nothing)
            }
            Step::Pass(_) | Step::Crash => Ok(Said::Nothing),
        };
        said.unwrap_or_else(refused)
    }

    /// All that is kept; `epoch`: the one that was opened last, so that asking changes nothing.
    fn all(&mut self, epoch: Option<u64>) -> Vec<Said> {
        let mut all = Vec::new();
        if let Some(epoch) = epoch {
            // Refused if the epoch is still known, and so changes nothing.
            if epoch > 1 {
                let fenced = self.store.open(epoch - 1, false).unwrap();
                all.push(self.here(fenced));
            }
            let opened = self.store.open(epoch, true).unwrap();
            all.push(self.here(opened));
        }
        let inbox = self.store.inbox(Position(0), 1000).unwrap();
        all.push(entries(&mut self.positions, inbox));
        let outbox = self.store.outbox(Position(0), 1000).unwrap();
        all.push(entries(&mut self.told, outbox));
        all.push(Said::Registered(self.store.registrations().unwrap()));
        for queue in QUEUES {
            all.push(Said::Queue(self.store.queue(&queue.parse().unwrap()).unwrap()));
        }
        all
    }
}

fn entries(seen: &mut Seen, all: Vec<(Position, String, String)>) -> Said {
    Said::Entries(all.into_iter().map(|(at, key, text)| (seen.number(at.0), key, text)).collect())
}

static RUNS: AtomicU32 = AtomicU32::new(0);

fn trace<D: Driven>(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let driven = runtime.block_on(async { D::fresh() });
    let cell = format!("m{}", RUNS.fetch_add(1, Ordering::SeqCst)).parse().unwrap();
    let mut real = Side::new(Run { runtime, driven, cell });
    let now = real.store.driven.now();
    let mut model = Side::new(Table { table: CellTable::new(Limits::default()), now });
    for (at, step) in steps.iter().enumerate() {
        if let Step::Pass(ms) = step
            && !D::REAL_TIME
        {
            real.store.runtime.block_on(real.store.driven.pass(*ms));
            model.store.now = real.store.driven.now();
        }
        if matches!(step, Step::Crash) && real.store.driven.crash() {
            model.store.table.restart();
        }
        let seq = model.store.table.seq();
        let opened = model.store.table.epoch();
        let opened = model.epochs.number(opened);
        let wanted = model.step(step, seq, opened);
        let said = real.step(step, seq, opened);
        assert_eq!(said, wanted, "step {at}, {step:?}");
        // Seen on either side by the same number.
        let opened = model.store.table.epoch();
        let latest = model.epochs.number(opened);
        let of = |side: &Seen| usize::try_from(latest).unwrap().checked_sub(1).map(|at| side.0[at]);
        let wanted = model.all(of(&model.epochs));
        let kept = real.all(of(&real.epochs));
        assert_eq!(kept, wanted, "kept after step {at}, {step:?}");
        if !D::REAL_TIME {
            assert_eq!(real.epochs.0, model.epochs.0, "epochs after step {at}, {step:?}");
            assert_eq!(real.positions.0, model.positions.0, "positions after step {at}, {step:?}");
            assert_eq!(real.told.0, model.told.0, "positions after step {at}, {step:?}");
        }
    }
}

/// Runs traces.
pub fn run<D: Driven>(cases: u32, steps: usize) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let traces = prop::collection::vec(step(), 1..steps);
    let result = TestRunner::new(config).run(&traces, |steps| {
        trace::<D>(&steps);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
