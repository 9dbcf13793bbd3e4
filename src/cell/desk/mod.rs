//! What people and programs see of a cell, and how they ask for something: served by every instance, from the store.
//!
//! * this file: looking, asking, waiting for what was said · [`seen`]: the cell as it was read · [`tail`]: events as they come
//!
//! The desk knows no leader and needs none: what it shows is what was committed, and what it is asked for goes into the inbox.

mod seen;
mod tail;

pub use seen::Seen;
pub use tail::Events;

use super::codec;
use crate::clock::Stopwatch;
use crate::domain::controller::{Command, Said, What};
use crate::domain::id::CellId;
use crate::domain::queue::Setup;
use crate::store::StoreError;
use crate::store::cell::{Accepted, CellStore, Position, Told};
use crate::wire::record;
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tail::Tail;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who looks within this time sees what somebody else has read.
const FRESH: Duration = Duration::from_millis(250);

/// Reading a whole cell may take so long.
const LOOK_TIMEOUT_MS: u64 = 5_000;

/// Who may follow the events at once. A command that waits for its answer is not counted.
const SEATS: usize = 64;

/// Positions are the store's clock, 1024 to the ms, or run ahead of it. What a command brought about is in the outbox behind
/// the command's own position, less this for two rows of positions that do not run ahead alike.
const SLACK: u64 = 2_000 * 1024;

/// What came of a command, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The leader has said so.
    Said(Said),
    /// It was not taken: the inbox is full, nobody has read it for long.
    Full,
    /// It was taken, and nothing was said of it in time. It may yet be done: the same key again asks for the answer.
    Unheard,
}

/// How the cell was read.
struct Reading {
    since: Stopwatch,
    /// How many commands were known to be done before.
    done: u64,
    seen: Result<Arc<Seen>, StoreError>,
}

/// The desk of a cell.
pub struct Desk {
    cell: CellId,
    store: Arc<dyn CellStore>,
    setup: Arc<ArcSwap<Setup>>,
    read: tokio::sync::Mutex<Option<Reading>>,
    /// How many commands are known to be done: who looks after one of them is to see it.
    done: AtomicU64,
    tail: Arc<Tail>,
    seats: Arc<Semaphore>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("cell", &self.cell).finish_non_exhaustive()
    }
}

impl Desk {
    /// The desk of a cell. `setup` is what is laid down for it, as it is at the time.
    pub fn new(cell: CellId, store: Arc<dyn CellStore>, setup: Arc<ArcSwap<Setup>>) -> Desk {
        let tail = Arc::new(Tail::new(cell.clone(), store.clone()));
        let seats = Arc::new(Semaphore::new(SEATS));
        Desk { cell, store, setup, read: tokio::sync::Mutex::default(), done: AtomicU64::new(0), tail, seats }
    }

    /// Whose it is.
    pub fn cell(&self) -> &CellId {
        &self.cell
    }

    /// What is laid down.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// What is laid down, in the configuration and at run time.
    pub fn laid_down(&self, seen: &Seen) -> Arc<Setup> {
        self.setup().with(&seen.rules, &seen.queues)
    }

    /// The cell as it is, or was 250 ms ago. Those who ask at once share one reading, and its failure.
    ///
    /// # Errors
    /// As [`CellStore::look`].
    pub async fn look(&self) -> Result<Arc<Seen>, StoreError> {
        let mut read = self.read.lock().await;
        let done = self.done.load(Ordering::SeqCst);
        if let Some(reading) = read.as_ref()
            && reading.since.elapsed() < FRESH
            && reading.done == done
        {
            return reading.seen.clone();
        }
        let seen = self.look_now().await;
        *read = Some(Reading { since: Stopwatch::start(), done, seen: seen.clone() });
        seen
    }

    async fn look_now(&self) -> Result<Arc<Seen>, StoreError> {
        const OP: &str = "look";
        let looking = self.store.look(&self.cell);
        let look = tokio::time::timeout(Duration::from_millis(LOOK_TIMEOUT_MS), looking)
            .await
            .unwrap_or(Err(StoreError::Timeout { op: OP, after_ms: LOOK_TIMEOUT_MS }))?;
        // A large cell has megabytes of records: calls are not to wait while they are decoded.
        let decoded = tokio::task::spawn_blocking(move || Seen::new(look)).await;
        decoded.map(Arc::new).map_err(|cause| StoreError::Away { op: OP, cause: cause.to_string() })
    }

    /// Sends a command to the leader, whoever that is, or will be. The same key again is the same command, whatever it says.
    ///
    /// # Errors
    /// As [`CellStore::send`].
    pub async fn send(&self, key: &str, command: &Command) -> Result<Accepted, StoreError> {
        self.store.send(&self.cell, key, &codec::command(command)).await
    }

    /// Sends a command, and waits for what the leader says of it.
    ///
    /// # Errors
    /// As [`CellStore::send`]. It may have been sent all the same: the same key again does no harm.
    pub async fn send_and_wait(
        &self,
        key: &str,
        command: &Command,
        timeout: Duration,
    ) -> Result<Reply, StoreError> {
        let position = match self.send(key, command).await? {
            Accepted::New(position) | Accepted::Repeated(position) => position,
            Accepted::Full => return Ok(Reply::Full),
        };
        let mut events = self.events(Position(position.0.saturating_sub(SLACK)));
        let heard = async {
            loop {
                if let Some(said) = said_of(key, &events.next().await) {
                    return said;
                }
            }
        };
        let Ok(said) = tokio::time::timeout(timeout, heard).await else { return Ok(Reply::Unheard) };
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(Reply::Said(said))
    }

    /// The events behind a position, and those that will come.
    pub fn events(&self, after: Position) -> Events {
        Events::new(self.tail.clone(), after)
    }

    /// A place for somebody who follows the events, until it is dropped; `None`: there are too many.
    pub fn seat(&self) -> Option<OwnedSemaphorePermit> {
        self.seats.clone().try_acquire_owned().ok()
    }

    /// Whether the outbox still has everything behind a position: it has the event at that position, which was once given to
    /// whoever names it. Nothing is missing behind 0: that asks for what there is.
    ///
    /// # Errors
    /// As [`CellStore::outbox`].
    pub async fn remembers(&self, position: Position) -> Result<bool, StoreError> {
        if position == Position(0) {
            return Ok(true);
        }
        let before = Position(position.0.saturating_sub(1));
        let found = self.store.outbox(&self.cell, before, 1).await?;
        Ok(found.first().is_some_and(|told| told.position == position))
    }
}

/// What an event says of a command.
fn said_of(key: &str, told: &Told) -> Option<Said> {
    match record::read_event(&told.text).ok()?.what {
        What::Command { key: of, said } => (of.as_ref() == key).then_some(said),
        What::Enqueued { .. }
        | What::Offered { .. }
        | What::OfferEnded { .. }
        | What::Connected { .. }
        | What::Treated { .. }
        | What::Transferred { .. }
        | What::Done { .. }
        | What::Agent { .. } => None,
    }
}

#[cfg(test)]
mod tests;
