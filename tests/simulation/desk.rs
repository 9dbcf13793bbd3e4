//! The store of the cell, behind a narrow door, so that it does not matter here who keeps it and how it is written.

use super::plan::Ms;
use mqs::cell::codec;
use mqs::cell::pilot::{Commit, Found, Letter};
use mqs::domain::controller::Command;
use mqs::domain::id::AgentId;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{
    Accepted, Candidate, Committed, Leadership, Position, Redeemed, Register, Registration,
};
use mqs::store::cell::{CellTable, Limits};
use std::collections::BTreeSet;

/// What a cell keeps, as `CellStore` says it, without waiting and with what is meant instead of what is written.
pub trait Desk {
    fn set_now(&mut self, now: EpochMs);
    fn lead(&mut self, candidate: &Candidate) -> Leadership;
    fn resign(&mut self, holder: &str, epoch: u64) -> bool;
    fn open(&mut self, epoch: u64, read: bool) -> Found;
    fn commit(&mut self, commit: &Commit) -> Committed;
    fn redeem(&mut self, offer: &str, leg: &str) -> Redeemed;
    fn send(&mut self, key: &str, command: &Command) -> Accepted;
    fn inbox(&mut self, after: Position, limit: usize) -> Vec<Letter>;
    fn register(&mut self, register: &Register);
    fn registrations(&mut self) -> Vec<Registration>;
    /// As it is at this moment.
    fn copy(&self) -> Box<dyn Desk>;
}

pub type MakeDesk = fn() -> Box<dyn Desk>;

/// The store's clock at the world's beginning.
const BEGINNING_MS: u64 = 1_700_000_000_000;

/// The store with its clock and what goes wrong with it.
pub struct StoreRoom {
    pub desk: Box<dyn Desk>,
    pub jump_ms: i64,
    pub away_until: Ms,
    replica: Option<(Box<dyn Desk>, u64, BTreeSet<AgentId>)>,
    /// Agents that it knows to be laid down at run time.
    pub laid: BTreeSet<AgentId>,
    /// Batches that it took.
    pub batches: u64,
    /// When it forgot something last.
    pub forgot: Option<Ms>,
    empty: MakeDesk,
}

impl StoreRoom {
    pub fn new(empty: MakeDesk) -> StoreRoom {
        StoreRoom {
            desk: empty(),
            jump_ms: 0,
            away_until: 0,
            replica: None,
            laid: BTreeSet::new(),
            batches: 0,
            forgot: None,
            empty,
        }
    }

    pub fn set_clock(&mut self, now: Ms) {
        self.desk.set_now(EpochMs((BEGINNING_MS + now).saturating_add_signed(self.jump_ms)));
    }

    pub fn keep_replica(&mut self) {
        self.replica = Some((self.desk.copy(), self.batches, self.laid.clone()));
    }

    /// Whether anything was lost.
    pub fn take_replica(&mut self, now: Ms) -> bool {
        let Some((desk, batches, laid)) = self.replica.take() else { return false };
        self.desk = desk;
        self.laid = laid;
        self.forgot = Some(now);
        batches != self.batches
    }

    pub fn forget_all(&mut self, now: Ms) {
        self.desk = (self.empty)();
        self.laid.clear();
        self.forgot = Some(now);
    }
}

/// The table that the embedded stores keep, and the text that every store keeps.
#[derive(Clone)]
pub struct TableDesk {
    now: EpochMs,
    table: CellTable,
}

impl TableDesk {
    pub fn boxed() -> Box<dyn Desk> {
        Box::new(TableDesk { now: EpochMs(0), table: CellTable::new(Limits::default()) })
    }
}

impl Desk for TableDesk {
    fn set_now(&mut self, now: EpochMs) {
        self.now = now;
    }

    fn lead(&mut self, candidate: &Candidate) -> Leadership {
        self.table.lead(candidate, self.now).unwrap()
    }

    fn resign(&mut self, holder: &str, epoch: u64) -> bool {
        self.table.resign(holder, epoch)
    }

    fn open(&mut self, epoch: u64, read: bool) -> Found {
        let (found, damaged) = codec::found(self.table.open(epoch, read).unwrap());
        assert!(damaged.is_empty(), "{damaged:?}");
        found
    }

    fn commit(&mut self, commit: &Commit) -> Committed {
        self.table.commit(&codec::batch(commit), self.now).unwrap()
    }

    fn redeem(&mut self, offer: &str, leg: &str) -> Redeemed {
        self.table.redeem(offer, leg).unwrap()
    }

    fn send(&mut self, key: &str, command: &Command) -> Accepted {
        self.table.send(key, &codec::command(command), self.now).unwrap()
    }

    fn inbox(&mut self, after: Position, limit: usize) -> Vec<Letter> {
        self.table.inbox(after, limit).into_iter().map(codec::letter).collect()
    }

    fn register(&mut self, register: &Register) {
        self.table.register(register, self.now).unwrap();
    }

    fn registrations(&mut self) -> Vec<Registration> {
        self.table.registrations(self.now)
    }

    fn copy(&self) -> Box<dyn Desk> {
        Box::new(self.clone())
    }
}
