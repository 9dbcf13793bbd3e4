//! The store in a file where it differs from the one in memory: what it refuses to open, what it does when the disk fails,
//! what time does over a restart. What it shares with all stores is in `store_contract.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

#[path = "support/store_bench.rs"]
mod store_bench;

use mqs::domain::time::EpochMs;
use mqs::store::Store;
use mqs::store::file::{FORMAT, FileStore, OpenError, Seen, inspect};
use redb::{Database, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store_bench::{Bench, Harness, SHORT_MS, call};
use tempfile::TempDir;

const META: TableDefinition<&str, u64> = TableDefinition::new("mqs.meta");
const START: u64 = 1_700_000_000_000;

struct InFile {
    store: FileStore,
}

impl Harness for InFile {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn pass(&self, _ms: u64) {
        unreachable!("time passes by hand here");
    }

    async fn pass_tombs(&self, _pool: &mqs::domain::id::PoolId) {
        unreachable!("time passes by hand here");
    }
}

/// A folder for one file, and a clock.
struct Place {
    folder: TempDir,
    clock: Arc<AtomicU64>,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), clock: Arc::new(AtomicU64::new(START)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mqs.redb")
    }

    fn open(&self) -> Result<InFile, OpenError> {
        let read = self.clock.clone();
        let clock = Box::new(move || EpochMs(read.load(Ordering::SeqCst)));
        Ok(InFile { store: FileStore::open(&self.path(), clock, Duration::from_secs(5))? })
    }

    fn set(&self, ms: u64) {
        self.clock.store(ms, Ordering::SeqCst);
    }

    /// A file with two nodes and a lease, closed.
    async fn written() -> Place {
        let place = Place::new();
        let file = place.open().unwrap();
        let bench = Bench::with(&file, &["a 10", "b 20 zone=z1 tags=t state=draining"]).await;
        assert_eq!(bench.chosen(1, &call()).await, "a");
        place
    }
}

fn set_format(path: &Path, format: u64) {
    let db = Database::open(path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", format).unwrap();
    write.commit().unwrap();
}

#[tokio::test]
async fn a_closed_file_is_opened_as_it_was() {
    let place = Place::written().await;
    assert_eq!(inspect(&place.path()), Ok(Seen::Ready));
    let file = place.open().unwrap();
    let bench = Bench::new(&file);
    assert_eq!(bench.loads().await, "a=1 b=0");
    assert_eq!(bench.done(1).await, mqs::domain::lease::Settled::Ended);
    assert_eq!(inspect(&place.path()), Ok(Seen::InUse));
    assert_eq!(place.open().err(), Some(OpenError::InUse { path: place.path() }));
}

#[tokio::test]
async fn another_format_is_refused_and_left_as_it_is() {
    let place = Place::written().await;
    set_format(&place.path(), FORMAT + 1);
    for _ in 0..2 {
        let refused = OpenError::Format { path: place.path(), found: FORMAT + 1 };
        assert_eq!(inspect(&place.path()).err(), Some(refused.clone()));
        assert_eq!(place.open().err(), Some(refused));
    }
    set_format(&place.path(), FORMAT);
    assert_eq!(Bench::new(&place.open().unwrap()).loads().await, "a=1 b=0");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    const OTHER: TableDefinition<&str, &str> = TableDefinition::new("other");
    let place = Place::new();
    let db = Database::create(place.path()).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(OTHER).unwrap().insert("a", "b").unwrap();
    write.commit().unwrap();
    drop(db);
    let refused = OpenError::Foreign { path: place.path() };
    assert_eq!(inspect(&place.path()).err(), Some(refused.clone()));
    assert_eq!(place.open().err(), Some(refused));
    let db = Database::open(place.path()).unwrap();
    let names = redb::ReadableDatabase::begin_read(&db).unwrap().list_tables().unwrap().count();
    assert_eq!(names, 1);
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_read_as_it_was() {
    let place = Place::written().await;
    let whole = fs::read(place.path()).unwrap();
    let mut refused = 0;
    let mut tried = |bytes: &[u8], what: String| {
        fs::write(place.path(), bytes).unwrap();
        let _ = inspect(&place.path());
        match place.open() {
            Err(OpenError::Damaged { path, .. }) => {
                assert_eq!(path, place.path());
                refused += 1;
                None
            }
            Err(other) => panic!("{what}: {other}"),
            Ok(file) => Some(file),
        }
    };
    for length in [1, 8, 100, 4096, whole.len() / 2, whole.len() - 1] {
        assert!(tried(&whole[..length], format!("{length} bytes")).is_none(), "{length} bytes");
    }
    // In each page of which something was written, a byte is turned over.
    let pages: Vec<usize> = (0..whole.len())
        .step_by(4096)
        .filter(|at| whole[*at..whole.len().min(at + 4096)].iter().any(|b| *b != 0))
        .collect();
    assert!(pages.len() > 5, "{pages:?}");
    for at in pages.iter().flat_map(|page| [0, 5, 40, 130].map(|within| page + within)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        if let Some(file) = tried(&bytes, format!("byte {at}")) {
            // A page that is not in use, or an older state that is whole: nothing half read.
            let loads = Bench::new(&file).loads().await;
            assert!(["a=1 b=0", "a=0 b=0", ""].contains(&loads.as_str()), "byte {at}: {loads}");
        }
    }
    assert!(refused >= 8, "only {refused} refused");
}

#[tokio::test]
async fn time_does_not_run_back_over_a_restart() {
    let place = Place::new();
    let file = place.open().unwrap();
    let mut bench = Bench::with(&file, &["a 10"]).await;
    bench.rules.life.held_ms = SHORT_MS;
    place.set(START + 5_000);
    bench.pick(1, &call()).await;
    drop(file);
    // The host's clock was set back by an hour.
    place.set(START - 3_600_000);
    let file = place.open().unwrap();
    let bench = Bench::new(&file);
    assert_eq!(bench.now().await, EpochMs(START + 5_000));
    assert_eq!(bench.loads().await, "a=1");
    place.set(START + 5_000 + SHORT_MS - 1);
    assert_eq!(bench.loads().await, "a=1");
    place.set(START + 5_000 + SHORT_MS);
    assert_eq!(bench.loads().await, "a=0");
}

#[tokio::test]
async fn a_file_in_which_nothing_happens_knows_the_time_all_the_same() {
    let place = Place::written().await;
    let file = place.open().unwrap();
    let bench = Bench::new(&file);
    place.set(START + 3_000_000);
    bench.sweep(10).await;
    place.set(START + 3_600_000);
    bench.sweep(10).await;
    // As a killed process leaves it.
    let (killed, copy) = (Place::new(), place.path());
    fs::copy(copy, killed.path()).unwrap();
    let file = killed.open().unwrap();
    assert_eq!(Bench::new(&file).now().await, EpochMs(START + 3_600_000));
}

#[tokio::test]
async fn leases_that_ended_while_nobody_was_there_are_not_counted() {
    let place = Place::written().await;
    place.set(START + 30_000);
    let file = place.open().unwrap();
    let bench = Bench::new(&file);
    assert_eq!(bench.loads().await, "a=0 b=0");
    assert_eq!(bench.chosen(2, &call()).await, "slot 0");
}

#[tokio::test]
async fn many_at_once_share_their_writes_and_all_are_kept() {
    let place = Place::new();
    let file = place.open().unwrap();
    let bench = Bench::with(&file, &["a 8000"]).await;
    let calls: Vec<_> = (0..200).collect();
    let lookup = call();
    futures_util::future::join_all(calls.iter().map(|n| bench.pick(*n, &lookup))).await;
    let killed = Place::new();
    fs::copy(place.path(), killed.path()).unwrap();
    assert_eq!(Bench::new(&killed.open().unwrap()).loads().await, "a=200");
}
