//! What really happened to callers and agents: written by the stand-ins, who know, and not by what MQS says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Broken rules that are told in words; the others are counted.
const TOLD_MAX: usize = 5;

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Kamailio looks for a node.
    Arriving,
    /// On a node, without an agent.
    Waiting,
    /// With an agent.
    Talking,
    /// No longer there.
    Gone(End),
}

/// How a caller's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// After a talk.
    Talked,
    /// The caller had waited long enough.
    Abandoned,
    /// The node died.
    LostWithNode,
    /// Hung up before an agent was there, and not by the caller.
    TurnedAway,
    /// No node took the call.
    NotPlaced,
    /// Still in line when the demo ended.
    Remained,
}

#[derive(Debug)]
struct Record {
    is: Caller,
    began_ms: u64,
    /// How long until an agent was there, or the end.
    waited_ms: Option<u64>,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    callers: BTreeMap<String, Record>,
    /// Legs of each agent, on whichever node.
    legs: BTreeMap<String, BTreeSet<String>>,
    /// Legs that ring or talk at each phone.
    phones: BTreeMap<String, BTreeSet<String>>,
    rung: u64,
    rung_twice: u64,
    broken: u64,
    told: Vec<String>,
}

/// Some numbers of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Callers in all.
    pub callers: usize,
    /// Callers without an agent, now.
    pub waiting: usize,
    /// Callers with an agent, now.
    pub talking: usize,
    /// Callers who have come to an agent.
    pub answered: usize,
    /// By the end of their calls.
    pub ended: BTreeMap<End, usize>,
    /// The longest wait.
    pub longest_ms: u64,
    /// Times that a phone rang.
    pub rung: u64,
    /// Times that a phone rang whose agent had a call already.
    pub rung_twice: u64,
    /// Rules that were broken.
    pub broken: u64,
    /// The first of them.
    pub told: Vec<String>,
}

impl Ledger {
    /// Somebody calls.
    pub fn begins(&self, call: &str, now_ms: u64) {
        let record = Record { is: Caller::Arriving, began_ms: now_ms, waited_ms: None };
        self.lock().callers.insert(call.to_owned(), record);
    }

    /// A node has the caller.
    pub fn waits(&self, call: &str) {
        self.lock().step(call, Caller::Arriving, Caller::Waiting);
    }

    /// An agent has the caller.
    pub fn talks(&self, call: &str, now_ms: u64) {
        self.lock().step(call, Caller::Waiting, Caller::Talking);
        self.lock().stop_waiting(call, now_ms);
    }

    /// The call is over. Who has talked has talked, unless the node died.
    pub fn gone(&self, call: &str, end: End, now_ms: u64) -> End {
        let mut book = self.lock();
        let Some(record) = book.callers.get(call) else { return end };
        let (from, end) = match record.is {
            Caller::Talking if end != End::LostWithNode => (Caller::Talking, End::Talked),
            Caller::Gone(before) => {
                book.breaks(format!("{call} ended twice: {before:?}, and {end:?}"));
                return before;
            }
            from @ (Caller::Arriving | Caller::Waiting | Caller::Talking) => (from, end),
        };
        book.step(call, from, Caller::Gone(end));
        book.stop_waiting(call, now_ms);
        end
    }

    /// Callers who are with an agent now.
    pub fn talking(&self) -> BTreeSet<String> {
        let book = self.lock();
        let talking = book.callers.iter().filter(|(_, record)| record.is == Caller::Talking);
        talking.map(|(call, _)| call.clone()).collect()
    }

    /// Where a caller is.
    pub fn is(&self, call: &str) -> Option<Caller> {
        self.lock().callers.get(call).map(|record| record.is)
    }

    /// A node has made a leg to an agent.
    pub fn leg_made(&self, agent: &str, leg: &str) {
        let mut book = self.lock();
        let legs = book.legs.entry(agent.to_owned()).or_default();
        legs.insert(leg.to_owned());
        if legs.len() > 1 {
            let said = format!("{agent} has more than one leg: {legs:?}");
            book.breaks(said);
        }
    }

    /// A leg is gone.
    pub fn leg_gone(&self, agent: &str, leg: &str) {
        self.lock().legs.entry(agent.to_owned()).or_default().remove(leg);
    }

    /// A phone rings.
    pub fn rings(&self, agent: &str, leg: &str) {
        let mut book = self.lock();
        book.rung += 1;
        let phone = book.phones.entry(agent.to_owned()).or_default();
        phone.insert(leg.to_owned());
        if phone.len() > 1 {
            let said = format!("the phone of {agent} rings while there is a call: {phone:?}");
            book.rung_twice += 1;
            book.breaks(said);
        }
    }

    /// A phone is free of this leg.
    pub fn hung_up(&self, agent: &str, leg: &str) {
        self.lock().phones.entry(agent.to_owned()).or_default().remove(leg);
    }

    /// A rule was broken.
    pub fn breaks(&self, said: String) {
        self.lock().breaks(said);
    }

    /// The numbers, now.
    pub fn counts(&self, now_ms: u64) -> Counts {
        let book = self.lock();
        let mut counts = Counts {
            callers: book.callers.len(),
            rung: book.rung,
            rung_twice: book.rung_twice,
            broken: book.broken,
            told: book.told.clone(),
            ..Counts::default()
        };
        for record in book.callers.values() {
            let waited = record.waited_ms.unwrap_or_else(|| now_ms.saturating_sub(record.began_ms));
            counts.longest_ms = counts.longest_ms.max(waited);
            match record.is {
                Caller::Arriving | Caller::Waiting => counts.waiting += 1,
                Caller::Talking => {
                    counts.talking += 1;
                    counts.answered += 1;
                }
                Caller::Gone(end) => {
                    *counts.ended.entry(end).or_default() += 1;
                    counts.answered += usize::from(end == End::Talked);
                }
            }
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn step(&mut self, call: &str, from: Caller, to: Caller) {
        match self.callers.get_mut(call) {
            Some(record) if record.is == from => record.is = to,
            Some(record) => {
                let is = record.is;
                self.breaks(format!("{call} is {is:?}, and was to go from {from:?} to {to:?}"));
            }
            None => self.breaks(format!("{call} is nobody, and was to be {to:?}")),
        }
    }

    fn stop_waiting(&mut self, call: &str, now_ms: u64) {
        if let Some(record) = self.callers.get_mut(call) {
            record.waited_ms.get_or_insert(now_ms.saturating_sub(record.began_ms));
        }
    }

    fn breaks(&mut self, said: String) {
        self.broken += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_in_one_state_and_ends_once() {
        let ledger = Ledger::default();
        ledger.begins("c1", 100);
        ledger.waits("c1");
        ledger.talks("c1", 400);
        assert_eq!(ledger.gone("c1", End::Abandoned, 900), End::Talked);
        let counts = ledger.counts(1_000);
        assert_eq!((counts.answered, counts.longest_ms, counts.broken), (1, 300, 0));
        ledger.gone("c1", End::Abandoned, 950);
        ledger.talks("c1", 960);
        ledger.waits("nobody");
        let counts = ledger.counts(1_000);
        assert_eq!((counts.broken, counts.told.len()), (3, 3), "{:?}", counts.told);
        ledger.begins("c2", 100);
        ledger.waits("c2");
        ledger.talks("c2", 150);
        assert_eq!(ledger.gone("c2", End::LostWithNode, 200), End::LostWithNode);
        assert_eq!(ledger.counts(300).ended, [(End::Talked, 1), (End::LostWithNode, 1)].into());
    }

    #[test]
    fn a_second_leg_and_a_second_ring_are_seen() {
        let ledger = Ledger::default();
        ledger.leg_made("ann", "l1");
        ledger.rings("ann", "l1");
        ledger.hung_up("ann", "l1");
        ledger.leg_gone("ann", "l1");
        ledger.leg_made("ann", "l2");
        ledger.rings("ann", "l2");
        assert_eq!(ledger.counts(0).broken, 0);
        ledger.leg_made("ann", "l3");
        ledger.rings("ann", "l3");
        let counts = ledger.counts(0);
        assert_eq!((counts.broken, counts.rung, counts.rung_twice), (2, 3, 1), "{:?}", counts.told);
    }
}
