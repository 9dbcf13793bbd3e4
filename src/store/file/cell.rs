//! Cells of this store: tables in memory, and every change of them in the file before it is answered.
//!
//! What others act on (commands, events, tokens) is told only when it is in the file: nobody has heard of what a crash undoes.

use super::FileStore;
use crate::domain::id::{CellId, QueueId};
use crate::domain::time::EpochMs;
use crate::store::StoreError;
use crate::store::cell::{
    Accepted, Batch, Candidate, CellStore, CellTable, Committed, Leadership, Look, Opened, Position,
    Redeemed, Register, Registration, Sent, Told,
};
use async_trait::async_trait;

impl FileStore {
    /// What `work` says of a cell, without a word to the file.
    fn read_cell<T>(
        &self,
        op: &'static str,
        cell: &CellId,
        work: impl FnOnce(&mut CellTable, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        self.look(op, |state, now| work(state.cell(cell), now))
    }

    /// Applies `change` to a cell, and returns what it said when that and all before it is in the file.
    async fn change_cell<T>(
        &self,
        op: &'static str,
        cell: &CellId,
        change: impl FnOnce(&mut CellTable, EpochMs) -> T,
    ) -> Result<T, StoreError> {
        self.save(op, |state, now| change(state.cell(cell), now)).await
    }
}

#[async_trait]
impl CellStore for FileStore {
    async fn lead(&self, cell: &CellId, candidate: &Candidate) -> Result<Leadership, StoreError> {
        self.change_cell("lead", cell, |table, now| table.lead(candidate, now)).await?
    }

    async fn resign(&self, cell: &CellId, holder: &str, epoch: u64) -> Result<bool, StoreError> {
        self.change_cell("resign", cell, |table, _| table.resign(holder, epoch)).await
    }

    async fn open(&self, cell: &CellId, epoch: u64, read: bool) -> Result<Opened, StoreError> {
        self.change_cell("open", cell, |table, _| table.open(epoch, read)).await?
    }

    async fn commit(&self, cell: &CellId, batch: &Batch) -> Result<Committed, StoreError> {
        self.change_cell("commit", cell, |table, now| table.commit(batch, now)).await?
    }

    async fn redeem(&self, cell: &CellId, offer: &str, leg: &str) -> Result<Redeemed, StoreError> {
        self.change_cell("redeem", cell, |table, _| table.redeem(offer, leg)).await?
    }

    async fn send(&self, cell: &CellId, key: &str, text: &str) -> Result<Accepted, StoreError> {
        self.change_cell("send", cell, |table, now| table.send(key, text, now)).await?
    }

    async fn inbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Sent>, StoreError> {
        self.change_cell("inbox", cell, |table, _| table.inbox(after, limit)).await
    }

    async fn outbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Told>, StoreError> {
        self.change_cell("outbox", cell, |table, _| table.outbox(after, limit)).await
    }

    async fn told(&self, cell: &CellId, group: &str) -> Result<Position, StoreError> {
        self.read_cell("told", cell, |table, _| table.told(group))?
    }

    async fn acknowledge(&self, cell: &CellId, group: &str, upto: Position) -> Result<(), StoreError> {
        self.change_cell("acknowledge", cell, |table, _| table.acknowledge(group, upto)).await?
    }

    async fn register(&self, cell: &CellId, register: &Register) -> Result<(), StoreError> {
        self.change_cell("register", cell, |table, now| table.register(register, now)).await?
    }

    async fn registrations(&self, cell: &CellId) -> Result<Vec<Registration>, StoreError> {
        self.read_cell("registrations", cell, |table, now| table.registrations(now))
    }

    async fn look(&self, cell: &CellId) -> Result<Look, StoreError> {
        self.change_cell("look", cell, |table, now| table.look(now)).await
    }

    async fn queue(&self, cell: &CellId, queue: &QueueId, limit: usize) -> Result<Vec<String>, StoreError> {
        self.read_cell("queue", cell, |table, _| table.queue(queue, limit))
    }
}
