//! What stands in the file, and how it gets there: one redb transaction a group of changes.
//!
//! Values are absolute, never differences: a group whose commit failed half known is simply written again.

use super::{OpenError, cell_rows};
use crate::domain::id::{CellId, LeaseId, PoolId, Slot};
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::time::EpochMs;
use crate::store::cell::{self, CellChanges};
use crate::store::definition;
use crate::store::table::{Journal, PoolState, Saved};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyDatabase, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, StorageError, TableDefinition, TableError,
    TableHandle as _, WriteTransaction,
};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tracing::warn;

/// The format of the tables below. A file with a higher one is refused.
pub const FORMAT: u64 = 1;

/// What redb may keep in memory of a file whose whole content is in the tables anyway, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The most targets that a lease has: attempts are counted in a byte.
const TARGETS_MAX: usize = 256;

/// Stands for a target that is not known.
const UNKNOWN: u16 = u16::MAX;

/// `format`, `clock` (the latest time that was written, in ms).
const META: TableDefinition<&str, u64> = TableDefinition::new("mqs.meta");
/// Pool → version of the definitions, number of touches.
const POOLS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("mqs.pools");
/// Pool, slot → definition, as JSON.
const NODES: TableDefinition<(&str, u16), &str> = TableDefinition::new("mqs.nodes");
/// Pool, slot → the touch that was the node's last.
const TOUCHED: TableDefinition<(&str, u16), u64> = TableDefinition::new("mqs.touched");
/// State, attempt, when it ends (ms), targets.
type LeaseRow = (u8, u8, u64, Vec<u16>);
/// Pool, lease → what is known of it.
const LEASES: TableDefinition<(&str, [u8; 16]), LeaseRow> = TableDefinition::new("mqs.leases");

/// Pool, lease → the limits that a live lease is counted for; no row: none.
const SCOPES: TableDefinition<(&str, [u8; 16]), &str> = TableDefinition::new("mqs.scopes");

/// What a file held when it was opened.
pub(super) struct Content {
    pub clock: EpochMs,
    pub pools: BTreeMap<PoolId, Saved>,
    pub cells: BTreeMap<CellId, cell::Saved>,
}

/// Changes that are written together.
pub(super) struct Changes {
    pub clock: EpochMs,
    pub pools: Vec<PoolChanges>,
    pub cells: Vec<(CellId, CellChanges)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.cells.is_empty()
    }
}

/// Changes to one pool, and the names of what changed.
pub(super) struct PoolChanges {
    pub pool: PoolId,
    pub journal: Journal,
    version: u64,
    touches: u64,
    /// All definitions, when one of them changed.
    nodes: Option<Vec<(Slot, String)>>,
    touched: Vec<(Slot, u64)>,
    leases: Vec<(LeaseId, Option<Lease>)>,
}

impl PoolChanges {
    /// Takes what has changed out of a table.
    pub fn taken(pool: &PoolId, state: &mut PoolState) -> PoolChanges {
        let journal = state.take_journal();
        let nodes = journal
            .defined
            .then(|| state.records().iter().map(|r| (r.node.slot, definition::write(r))).collect());
        let touched = if journal.defined {
            state.loaded().iter().map(|n| (n.node.slot, n.touched)).collect()
        } else {
            let of = |slot: &Slot| state.touched(*slot).map(|touch| (*slot, touch));
            journal.touched.iter().filter_map(of).collect()
        };
        let leases = journal.leases.iter().map(|id| (*id, state.lease(id).cloned())).collect();
        let (version, touches) = (state.version(), state.touches());
        PoolChanges { pool: pool.clone(), journal, version, touches, nodes, touched, leases }
    }
}

/// An open file, locked for this process.
pub(super) struct Disk {
    path: PathBuf,
    db: Database,
}

impl Disk {
    /// Opens the file, makes it if there is none, checks it, and reads all of it.
    pub fn open(path: &Path) -> Result<(Disk, Content), OpenError> {
        let file = open_file(path)?;
        unpanicked(path, || {
            let mut db = builder().create_file(file).map_err(|e| of_database(path, e))?;
            // redb itself looks at check sums only after a crash.
            if !db.check_integrity().map_err(|e| of_database(path, e))? {
                warn!(path = %path.display(), "the file was damaged and is repaired; its last change may be lost");
            }
            let disk = Disk { path: path.to_owned(), db };
            disk.prepare()?;
            let content = disk.read()?;
            Ok((disk, content))
        })
    }

    /// Writes changes. When this returns `Ok`, they survive the process and the host.
    pub fn commit(&self, changes: &Changes) -> Result<(), String> {
        let written = catch_unwind(AssertUnwindSafe(|| self.try_commit(changes)));
        match written {
            Ok(done) => done.map_err(|e| format!("{}: {e}", self.path.display())),
            Err(_) => Err(format!("{}: the file is damaged", self.path.display())),
        }
    }

    fn try_commit(&self, changes: &Changes) -> Result<(), redb::Error> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.open_table(META)?.insert("clock", changes.clock.0)?;
        for pool in &changes.pools {
            write_pool(&write, pool)?;
        }
        for (cell, changes) in &changes.cells {
            cell_rows::write(&write, cell, changes)?;
        }
        Ok(write.commit()?)
    }

    /// Makes the tables of a new file; refuses what is not of this format.
    fn prepare(&self) -> Result<(), OpenError> {
        let damaged = |e: &dyn Display| OpenError::damaged(&self.path, e);
        let mut write = self.db.begin_write().map_err(|e| damaged(&e))?;
        write.set_durability(Durability::Immediate).map_err(|e| damaged(&e))?;
        let names: Vec<String> =
            write.list_tables().map_err(|e| damaged(&e))?.map(|table| table.name().to_owned()).collect();
        if !names.is_empty() && !names.iter().any(|name| name == META.name()) {
            return Err(OpenError::Foreign { path: self.path.clone() });
        }
        let format = {
            let meta = write.open_table(META).map_err(|e| damaged(&e))?;
            meta.get("format").map_err(|e| damaged(&e))?.map(|format| format.value())
        };
        match format {
            Some(FORMAT) => {}
            Some(found) => return Err(OpenError::Format { path: self.path.clone(), found }),
            None if names.is_empty() => {
                write
                    .open_table(META)
                    .and_then(|mut meta| Ok(meta.insert("format", FORMAT).map(|_| ())?))
                    .map_err(|e| damaged(&e))?;
            }
            None => return Err(damaged(&"it does not say its format")),
        }
        // Opened once, so that reading finds them.
        write.open_table(POOLS).map_err(|e| damaged(&e))?;
        write.open_table(NODES).map_err(|e| damaged(&e))?;
        write.open_table(TOUCHED).map_err(|e| damaged(&e))?;
        write.open_table(LEASES).map_err(|e| damaged(&e))?;
        write.open_table(SCOPES).map_err(|e| damaged(&e))?;
        write.commit().map_err(|e| OpenError::Unwritable { path: self.path.clone(), cause: e.to_string() })
    }

    fn read(&self) -> Result<Content, OpenError> {
        self.try_read().map_err(|cause| OpenError::damaged(&self.path, &cause))
    }

    fn try_read(&self) -> Result<Content, String> {
        fn said(e: impl Display) -> String {
            e.to_string()
        }
        let read = self.db.begin_read().map_err(said)?;
        let clock = read.open_table(META).map_err(said)?.get("clock").map_err(said)?;
        let clock = EpochMs(clock.map_or(0, |clock| clock.value()));
        let mut pools: BTreeMap<PoolId, Saved> = BTreeMap::new();
        for row in read.open_table(POOLS).map_err(said)?.iter().map_err(said)? {
            let (pool, value) = row.map_err(said)?;
            let (version, touches) = value.value();
            let pool = pool.value().parse().map_err(|e| format!("pool {:?}: {e}", pool.value()))?;
            pools.insert(pool, Saved { version, touches, ..Saved::default() });
        }
        for row in read.open_table(NODES).map_err(said)?.iter().map_err(said)? {
            let (key, value) = row.map_err(said)?;
            let (pool, slot) = key.value();
            let record = definition::read(value.value()).map_err(|e| format!("pool {pool:?}: {e}"))?;
            if record.node.slot != Slot(slot) {
                return Err(format!("pool {pool:?}: the node of slot {slot} says {}", record.node.slot));
            }
            known(&mut pools, pool)?.records.push(record);
        }
        for row in read.open_table(TOUCHED).map_err(said)?.iter().map_err(said)? {
            let (key, value) = row.map_err(said)?;
            let (pool, slot) = key.value();
            known(&mut pools, pool)?.touched.insert(Slot(slot), value.value());
        }
        for row in read.open_table(LEASES).map_err(said)?.iter().map_err(said)? {
            let (key, value) = row.map_err(said)?;
            let (pool, id) = key.value();
            let id = LeaseId(id);
            let lease = read_lease(value.value()).map_err(|e| format!("pool {pool:?}, lease {id}: {e}"))?;
            known(&mut pools, pool)?.leases.insert(id, lease);
        }
        for row in read.open_table(SCOPES).map_err(said)?.iter().map_err(said)? {
            let (key, value) = row.map_err(said)?;
            let (pool, id) = key.value();
            let scopes = value.value().split(',').map(str::parse).collect::<Result<_, _>>();
            let id = LeaseId(id);
            let lease =
                known(&mut pools, pool)?.leases.get_mut(&id).ok_or("there is no such lease".to_owned());
            let put = lease.and_then(|lease| scopes.map(|scopes| lease.scopes = scopes));
            put.map_err(|e| format!("pool {pool:?}, limits of lease {id}: {e}"))?;
        }
        let cells = cell_rows::read(&read)?;
        Ok(Content { clock, pools, cells })
    }
}

/// What a file is like, seen without changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none; the first start makes it.
    Nothing,
    /// A store of this format.
    Ready,
    /// It was open when its process was killed; the next start repairs it.
    Unclean,
    /// A live process has it open.
    InUse,
}

/// Looks at a file, and changes nothing.
pub fn inspect(path: &Path) -> Result<Seen, OpenError> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        Err(e) => return Err(OpenError::Unwritable { path: path.to_owned(), cause: e.to_string() }),
        Ok(found) if found.is_file() && found.len() == 0 => return Ok(Seen::Nothing),
        Ok(_) => {}
    }
    unpanicked(path, || {
        let db = match builder().open_read_only(path) {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(Seen::InUse),
            Err(DatabaseError::RepairAborted) => return Ok(Seen::Unclean),
            Err(e) => return Err(of_database(path, e)),
        };
        match written_format(&db) {
            Ok(Some(FORMAT)) => Ok(Seen::Ready),
            Ok(Some(found)) => Err(OpenError::Format { path: path.to_owned(), found }),
            Ok(None) => Err(OpenError::Foreign { path: path.to_owned() }),
            Err(e) => Err(OpenError::damaged(path, &e)),
        }
    })
}

fn written_format(db: &ReadOnlyDatabase) -> Result<Option<u64>, redb::Error> {
    match db.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|format| format.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_file(path: &Path) -> Result<File, OpenError> {
    let unwritable = |e: io::Error| OpenError::Unwritable { path: path.to_owned(), cause: e.to_string() };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.open(path).map_err(unwritable)?;
    if !file.metadata().map_err(unwritable)?.is_file() {
        return Err(OpenError::Unwritable { path: path.to_owned(), cause: "not a regular file".to_owned() });
    }
    // A new name is in its directory for good only when the directory is written too.
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)?;
    }
    Ok(file)
}

/// redb checks its own invariants with panics; a file that was damaged from outside can break them. Builds unwind.
fn unpanicked<T>(path: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(OpenError::damaged(path, &"its pages contradict each other")))
}

fn of_database(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    if let DatabaseError::DatabaseAlreadyOpen = error {
        return OpenError::InUse { path };
    }
    // The other two are what redb says of a file that is none of its own, or shorter than it says.
    if let DatabaseError::Storage(StorageError::Io(e)) = &error
        && !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    {
        return OpenError::Unwritable { path, cause: e.to_string() };
    }
    OpenError::Damaged { path, cause: error.to_string() }
}

fn known<'a>(pools: &'a mut BTreeMap<PoolId, Saved>, pool: &str) -> Result<&'a mut Saved, String> {
    let id: PoolId = pool.parse().map_err(|e| format!("pool {pool:?}: {e}"))?;
    pools.get_mut(&id).ok_or_else(|| format!("pool {pool:?} has rows and no definition"))
}

fn write_pool(write: &WriteTransaction, changes: &PoolChanges) -> Result<(), redb::Error> {
    let pool = changes.pool.as_str();
    write.open_table(POOLS)?.insert(pool, (changes.version, changes.touches))?;
    let mut touched = write.open_table(TOUCHED)?;
    if let Some(nodes) = &changes.nodes {
        let whole = (pool, 0)..=(pool, u16::MAX);
        let mut table = write.open_table(NODES)?;
        table.retain_in(whole.clone(), |_, _| false)?;
        touched.retain_in(whole, |_, _| false)?;
        for (slot, definition) in nodes {
            table.insert((pool, slot.0), definition.as_str())?;
        }
    }
    for (slot, touch) in &changes.touched {
        touched.insert((pool, slot.0), touch)?;
    }
    let (mut leases, mut scopes) = (write.open_table(LEASES)?, write.open_table(SCOPES)?);
    let limited = !scopes.is_empty()?;
    for (id, lease) in &changes.leases {
        match lease {
            Some(lease) => leases.insert((pool, id.0), written(lease))?,
            None => leases.remove((pool, id.0))?,
        };
        match lease.as_ref().filter(|lease| !lease.scopes.is_empty()) {
            Some(lease) => {
                let names: Vec<String> = lease.scopes.iter().map(ToString::to_string).collect();
                scopes.insert((pool, id.0), names.join(",").as_str())?;
            }
            None if limited => _ = scopes.remove((pool, id.0))?,
            None => {}
        }
    }
    Ok(())
}

fn written(lease: &Lease) -> LeaseRow {
    let state = match lease.state {
        LeaseState::Held => 0,
        LeaseState::Confirmed => 1,
        LeaseState::Ended => 2,
    };
    let targets = lease.targets.iter().map(|target| target.map_or(UNKNOWN, |slot| slot.0)).collect();
    (state, lease.attempt, lease.expires.0, targets)
}

fn read_lease((state, attempt, expires, targets): LeaseRow) -> Result<Lease, String> {
    let state = match state {
        0 => LeaseState::Held,
        1 => LeaseState::Confirmed,
        2 => LeaseState::Ended,
        other => return Err(format!("state {other}")),
    };
    if targets.len() > TARGETS_MAX {
        return Err(format!("{} targets", targets.len()));
    }
    let target = |slot: u16| match slot {
        UNKNOWN => Ok(None),
        slot if slot < Slot::COUNT => Ok(Some(Slot(slot))),
        slot => Err(format!("slot {slot} is not 0 … {}", Slot::COUNT - 1)),
    };
    let targets = targets.into_iter().map(target).collect::<Result<_, _>>()?;
    Ok(Lease { state, attempt, targets, expires: EpochMs(expires), scopes: Vec::new() })
}
