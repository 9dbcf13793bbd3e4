//! Events as they come: however many listen, the outbox is read once.

use crate::domain::id::CellId;
use crate::store::StoreError;
use crate::store::cell::{CellStore, Position, Told};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tracing::warn;

/// The outbox is read so often, while somebody listens.
const PERIOD: Duration = Duration::from_millis(50);

/// While the store does not answer, it is asked so often.
const PERIOD_AWAY: Duration = Duration::from_millis(500);

/// Events that are read at once.
const READ_MAX: usize = 1_000;

/// Readings that a listener may be behind; who is further behind reads by itself.
const BEHIND_MAX: usize = 64;

/// An answer of the store counts as lost after so long.
const TIMEOUT_MS: u64 = 1_000;

type Part = Arc<[Told]>;

/// What reads the outbox of a cell for all who listen.
pub(super) struct Tail {
    cell: CellId,
    store: Arc<dyn CellStore>,
    /// There is one while somebody listens.
    sender: Mutex<Option<Sender<Part>>>,
}

impl Tail {
    pub(super) fn new(cell: CellId, store: Arc<dyn CellStore>) -> Tail {
        Tail { cell, store, sender: Mutex::default() }
    }

    async fn read(&self, after: Position) -> Result<Vec<Told>, StoreError> {
        let read = self.store.outbox(&self.cell, after, READ_MAX);
        tokio::time::timeout(Duration::from_millis(TIMEOUT_MS), read)
            .await
            .unwrap_or(Err(StoreError::Timeout { op: "outbox", after_ms: TIMEOUT_MS }))
    }

    /// What is read from now on. If nobody reads yet, the reading begins behind `after`.
    fn listen(self: &Arc<Tail>, after: Position) -> Receiver<Part> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref() {
            return sender.subscribe();
        }
        let (new, receiver) = broadcast::channel(BEHIND_MAX);
        *sender = Some(new.clone());
        tokio::spawn(self.clone().run(new, after));
        receiver
    }

    async fn run(self: Arc<Tail>, sender: Sender<Part>, mut after: Position) {
        let mut away = false;
        while self.is_heard(&sender) {
            match self.read(after).await {
                Ok(part) => {
                    away = false;
                    let more = part.len() >= READ_MAX;
                    if let Some(last) = part.last() {
                        after = last.position;
                        // Nobody listens any more: that is looked at above.
                        let _ = sender.send(part.into());
                    }
                    if !more {
                        tokio::time::sleep(PERIOD).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        warn!(cell = %self.cell, %error, "events cannot be read; they follow");
                    }
                    tokio::time::sleep(PERIOD_AWAY).await;
                }
            }
        }
    }

    /// Whether anybody listens. If not, whoever comes next begins anew.
    fn is_heard(&self, sender: &Sender<Part>) -> bool {
        let mut current = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = sender.receiver_count() > 0;
        if !heard {
            *current = None;
        }
        heard
    }
}

/// The events behind a position, in order, and those that will come. Each is given once, while the store keeps its history.
pub struct Events {
    tail: Arc<Tail>,
    at: Position,
    ready: VecDeque<Told>,
    /// What others hear too; `None`: it is further behind, and reads by itself.
    live: Option<Receiver<Part>>,
    /// Everything that the store had when it was last asked has been given, or is ready.
    caught_up: bool,
}

impl Events {
    pub(super) fn new(tail: Arc<Tail>, after: Position) -> Events {
        Events { tail, at: after, ready: VecDeque::new(), live: None, caught_up: false }
    }

    /// The next event; waits for it. While the store is away that is until it is back. May be dropped while it waits.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return told;
            }
            self.more().await;
        }
    }

    /// The next event of those that are there already.
    pub async fn next_kept(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(told);
            }
            if self.caught_up {
                return None;
            }
            self.more().await;
        }
    }

    /// The next event of those that were read already.
    pub fn next_ready(&mut self) -> Option<Told> {
        self.ready.pop_front()
    }

    async fn more(&mut self) {
        match self.live.as_mut().filter(|_| self.caught_up) {
            Some(live) => match live.recv().await {
                Ok(part) => self.take(&part),
                Err(RecvError::Lagged(_) | RecvError::Closed) => {
                    self.live = None;
                    self.caught_up = false;
                }
            },
            None => match self.tail.read(self.at).await {
                Ok(part) => {
                    let all = part.len() < READ_MAX;
                    self.take(&part);
                    if !all {
                        return;
                    }
                    // To listen first, and to read once more then: nothing is told unheard between the two.
                    match self.live {
                        Some(_) => self.caught_up = true,
                        None => self.live = Some(self.tail.listen(self.at)),
                    }
                }
                Err(_) => tokio::time::sleep(PERIOD_AWAY).await,
            },
        }
    }

    fn take(&mut self, part: &[Told]) {
        for told in part.iter().filter(|told| told.position > self.at) {
            self.ready.push_back(told.clone());
        }
        self.at = self.ready.back().map_or(self.at, |told| told.position);
    }
}
