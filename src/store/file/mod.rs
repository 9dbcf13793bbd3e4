//! The embedded store whose nodes, leases and cells survive the process: tables in memory as in [`super::memory`], and every
//! change of them in a file before it is answered.
//!
//! Who changes something waits for the next *group*: one thread writes, and while it writes one group the next collects.
//! So many callers share one flush of the disk. One process at a time has the file; the lock ends with the process.
//!
//! When a write fails (disk full, disk gone) the store is *away*: it changes nothing more, tries again each second, first of
//! all with what it could not write, and is back when that succeeds.

mod cell;
mod cell_rows;
mod disk;

pub use disk::{FORMAT, Seen, inspect};

use super::cell::CellTable;
use super::table::PoolState;
use super::{
    Answer, Carried, ClockFn, Heartbeats, Known, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError,
    Swept, View, Written,
};
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{CellId, LeaseId, NodeId, PoolId, Slot};
use crate::domain::lease::Settled;
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use disk::{Changes, Content, Disk, PoolChanges};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How long after a failed write the next try comes.
const RETRY: Duration = Duration::from_secs(1);

/// A file in which nothing changes gets the time all the same, this often, in ms: so far may time seem to run back over a
/// restart after the host's clock was set back.
const CLOCK_DUE_MS: u64 = 60_000;

/// The host's clock may be so far behind the file, in ms, before a word is said about it.
const BEHIND_MAX_MS: u64 = 5_000;

/// Pools and cells in memory and in a file.
pub struct FileStore {
    shared: Arc<Shared>,
    timeout: Duration,
    writer: Option<JoinHandle<()>>,
}

/// Why a file cannot be the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Locked.
    #[error("{}: a live process has it open; one instance of mqs at a time can", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Its directory is missing, it may not be written, or the disk refuses.
    #[error("{}: cannot be read and written: {cause}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// Written by another version.
    #[error("{}: written in format {found}; this version of mqs knows format {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A database of another program.
    #[error("{}: a database, but not one of mqs", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Not readable as a store.
    #[error("{}: damaged, or no store of mqs: {cause}; restore it, or move it away to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
}

impl OpenError {
    fn damaged(path: &Path, cause: &dyn Display) -> OpenError {
        OpenError::Damaged { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// What the callers and the writing thread share.
struct Shared {
    path: PathBuf,
    clock: ClockFn,
    /// The latest time that was told; time does not run backwards.
    latest: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
}

type Waiter = oneshot::Sender<Result<(), String>>;

struct State {
    pools: BTreeMap<PoolId, PoolState>,
    cells: BTreeMap<CellId, CellTable>,
    /// Who waits for the next group.
    waiting: Vec<Waiter>,
    /// A group is being written.
    writing: bool,
    /// The time that the file holds.
    clock_saved: EpochMs,
    /// Why nothing can be written at present.
    away: Option<String>,
    closing: bool,
}

impl FileStore {
    /// Opens a store, and makes the file if there is none; its directory must be there. No answer takes longer than `timeout`.
    /// Blocks while it reads.
    pub fn open(path: &Path, clock: ClockFn, timeout: Duration) -> Result<FileStore, OpenError> {
        let (disk, content) = Disk::open(path)?;
        let Content { clock: saved, pools, cells } = content;
        let now = clock();
        if saved.since(now) > BEHIND_MAX_MS {
            warn!(
                path = %path.display(), behind_ms = saved.since(now),
                "this host's clock is behind the file: no lease ends before it has caught up"
            );
        }
        let pools = pools.into_iter().map(|(id, saved)| (id, PoolState::restored(saved))).collect();
        let cells = cells.into_iter().map(|(id, saved)| (id, CellTable::restored(saved))).collect();
        let state = State {
            pools,
            cells,
            waiting: Vec::new(),
            writing: false,
            clock_saved: saved,
            away: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            clock,
            latest: AtomicU64::new(saved.0),
            state: Mutex::new(state),
            wake: Condvar::new(),
        });
        let of_thread = shared.clone();
        let writer = std::thread::Builder::new()
            .name("mqs-file".to_owned())
            .spawn(move || of_thread.write_until_closed(disk))
            .map_err(|e| OpenError::Unwritable { path: path.to_owned(), cause: e.to_string() })?;
        Ok(FileStore { shared, timeout, writer: Some(writer) })
    }

    /// What `work` says of a pool, without a word to the file.
    fn in_memory<T>(
        &self,
        op: &'static str,
        pool: &PoolId,
        work: impl FnOnce(&mut PoolState, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        self.look(op, |state, now| work(state.pool(pool), now))
    }

    /// Applies `change` to a pool, and returns what it said when that and all before it is in the file.
    async fn change<T>(
        &self,
        op: &'static str,
        pool: &PoolId,
        change: impl FnOnce(&mut PoolState, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        self.save(op, |state, now| change(state.pool(pool), now)).await
    }

    fn look<T>(
        &self,
        op: &'static str,
        work: impl FnOnce(&mut State, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        let mut state = self.shared.lock();
        if let Some(cause) = &state.away {
            return Err(StoreError::Away { op, cause: cause.clone() });
        }
        let now = self.shared.now();
        Ok(work(&mut state, now))
    }

    async fn save<T>(
        &self,
        op: &'static str,
        change: impl FnOnce(&mut State, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        let (said, saved) = {
            let mut state = self.shared.lock();
            if let Some(cause) = &state.away {
                return Err(StoreError::Away { op, cause: cause.clone() });
            }
            let now = self.shared.now();
            let said = change(&mut state, now);
            let due = now.since(state.clock_saved) >= CLOCK_DUE_MS;
            if !due && !state.writing && !state.has_changed() {
                return Ok(said);
            }
            let (waiter, saved) = oneshot::channel();
            state.waiting.push(waiter);
            (said, saved)
        };
        self.shared.wake.notify_one();
        match tokio::time::timeout(self.timeout, saved).await {
            Ok(Ok(Ok(()))) => Ok(said),
            Ok(Ok(Err(cause))) => Err(StoreError::Away { op, cause }),
            Ok(Err(_)) => Err(StoreError::Away { op, cause: ENDED.to_owned() }),
            Err(_) => {
                let after_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                Err(StoreError::Timeout { op, after_ms })
            }
        }
    }
}

impl Drop for FileStore {
    /// Writes what is left, and frees the file.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A panic in it was told when it happened.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for FileStore {
    async fn pick(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        _view: &View,
        batch: &[Pick],
    ) -> Result<Vec<Answer>, StoreError> {
        self.change("pick", pool, |state, now| batch.iter().map(|one| state.pick(one, rules, now)).collect())
            .await
    }

    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        _view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        self.change("settle", pool, |state, now| {
            batch.iter().map(|one| state.settle(one, rules, now)).collect()
        })
        .await
    }

    /// Waits for nobody: what it takes out is written with the next change, and would be taken out again after a restart.
    async fn view(&self, pool: &PoolId, _known: &View) -> Result<View, StoreError> {
        self.in_memory("view", pool, PoolState::view)
    }

    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError> {
        self.in_memory("known", pool, |state, now| state.known(leases, now))
    }

    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError> {
        self.in_memory("carried", pool, |state, now| state.carried(slot, now))
    }

    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        self.in_memory("usage", pool, |state, now| state.usage(scopes, now))
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        self.change("write_nodes", pool, |state, _| state.write_nodes(expected.version, nodes)).await
    }

    async fn sweep(&self, pool: &PoolId, _view: &View, limit: u32) -> Result<Swept, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.change("sweep", pool, |state, now| state.sweep(now, limit)).await
    }

    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError> {
        self.in_memory("beat", pool, |state, now| state.beat(node, ttl_ms, now))
    }

    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError> {
        self.in_memory("beats", pool, |state, now| state.beats(now))
    }

    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError> {
        self.in_memory("forget_beats", pool, |state, now| state.forget_beats(nodes, now))
    }

    async fn hold_steward(&self, _instance: &str, _ttl_ms: u64) -> Result<bool, StoreError> {
        // The file is locked: nobody else can see this store.
        Ok(true)
    }

    async fn now(&self) -> Result<EpochMs, StoreError> {
        match &self.shared.lock().away {
            Some(cause) => Err(StoreError::Away { op: "now", cause: cause.clone() }),
            None => Ok(self.shared.now()),
        }
    }

    fn kind(&self) -> &'static str {
        "file"
    }

    fn wants_batches(&self) -> bool {
        true
    }
}

const ENDED: &str = "the thread that writes the file has ended";

impl State {
    fn pool(&mut self, pool: &PoolId) -> &mut PoolState {
        self.pools.entry(pool.clone()).or_insert_with(|| PoolState::restored(Default::default()))
    }

    fn cell(&mut self, cell: &CellId) -> &mut CellTable {
        self.cells.entry(cell.clone()).or_insert_with(|| CellTable::restored(Default::default()))
    }

    fn has_changed(&self) -> bool {
        self.pools.values().any(PoolState::has_changed) || self.cells.values().any(CellTable::has_changed)
    }

    fn take(&mut self, clock: EpochMs) -> Changes {
        let changed = self.pools.iter_mut().filter(|(_, state)| state.has_changed());
        let pools = changed.map(|(id, state)| PoolChanges::taken(id, state)).collect();
        let changed = self.cells.iter_mut().filter(|(_, table)| table.has_changed());
        let cells = changed.map(|(id, table)| (id.clone(), table.take_changes())).collect();
        Changes { clock, pools, cells }
    }

    fn put_back(&mut self, changes: Changes) {
        for PoolChanges { pool, journal, .. } in changes.pools {
            self.pool(&pool).put_back(journal);
        }
        for (cell, taken) in changes.cells {
            self.cell(&cell).put_back(taken);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if one did, the tables are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> EpochMs {
        let wall = (self.clock)();
        EpochMs(self.latest.fetch_max(wall.0, Ordering::SeqCst).max(wall.0))
    }

    /// The writing thread.
    fn write_until_closed(self: Arc<Self>, disk: Disk) {
        let _ended = Ended(&self);
        let mut disk = Some(disk);
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.closing && disk.is_some() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if disk.is_none() && !state.closing {
                let waited = self.wake.wait_timeout(state, RETRY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let last = state.closing;
            let clock_due = self.now().since(state.clock_saved) >= CLOCK_DUE_MS;
            let must = last || clock_due || state.away.is_some();
            let waiting = std::mem::take(&mut state.waiting);
            let changes = state.take(self.now());
            state.writing = true;
            drop(state);

            // After a failed write redb wants the file opened again.
            let written = disk.take().map_or_else(|| self.opened_again(), Ok).and_then(|open| {
                // Who only waited for the group before has nothing to write.
                if must || !changes.is_empty() {
                    open.commit(&changes)?;
                }
                Ok(open)
            });
            let mut state = self.lock();
            state.writing = false;
            let said = match written {
                Ok(open) => {
                    disk = Some(open);
                    if must || !changes.is_empty() {
                        state.clock_saved = changes.clock;
                    }
                    if state.away.take().is_some() {
                        info!(path = %self.path.display(), "the store is written again");
                    }
                    Ok(())
                }
                Err(cause) => {
                    state.put_back(changes);
                    if state.away.is_none() {
                        error!(%cause, "the store cannot be written");
                    }
                    state.away = Some(cause.clone());
                    Err(cause)
                }
            };
            // Whoever came while a write failed is told so too.
            let mut told = waiting;
            if said.is_err() {
                told.append(&mut state.waiting);
            }
            drop(state);
            for waiter in told {
                let _ = waiter.send(said.clone());
            }
            if last {
                return;
            }
        }
    }

    fn opened_again(&self) -> Result<Disk, String> {
        // A new file would be empty, and what is in memory is more than what is unsaved.
        if !self.path.exists() {
            return Err(format!("{}: it has been taken away", self.path.display()));
        }
        Disk::open(&self.path).map(|(disk, _)| disk).map_err(|e| e.to_string())
    }
}

/// However the thread ends, nobody waits for it any longer.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.away.get_or_insert_with(|| ENDED.to_owned());
        state.waiting.clear();
    }
}
