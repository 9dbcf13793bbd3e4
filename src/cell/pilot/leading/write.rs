//! What a leader writes: batch after batch, and everything anew when the store has forgotten.

use super::super::RETRY_MS;
use super::super::io::{Ask, Commit, Found, Mono, Output};
use super::{Batch, Desk, EVENTS_KEPT_MAX, Entry, Leading, PENDING_MAX, Verdict};
use crate::domain::controller::{Change, Effect, Input};
use crate::store::cell::{BATCH_MAX, Committed, Position, Rewrite};
use std::collections::VecDeque;

impl Leading {
    /// Whether a new epoch is needed.
    pub(in crate::cell::pilot) fn has_lost_history(&self) -> bool {
        matches!(self.desk, Desk::Lost)
    }

    /// The store knows of the new epoch.
    pub(in crate::cell::pilot) fn reopened(&mut self, ask: Ask, found: Option<&Found>, now: Mono) -> Verdict {
        let Desk::Reopening { asked, again } = &mut self.desk else { return Verdict::Fine };
        if asked.take_if(|asked| *asked == ask).is_none() {
            return Verdict::Fine;
        }
        match found {
            None => {
                *again = now.after(RETRY_MS);
                Verdict::Fine
            }
            Some(Found::Fenced) => Verdict::Fenced,
            Some(Found::Here { before, .. }) if !self.is_the_last(*before) => Verdict::Overtaken,
            Some(Found::Here { seq, .. }) => {
                self.seq = self.seq.max(*seq);
                self.begin_rewrite();
                Verdict::Fine
            }
        }
    }

    /// Whether nobody has led since this one began, as far as the store knows by the epoch that was open last: one of its own,
    /// or an older one, because the store has forgotten.
    pub(super) fn is_the_last(&self, before: u64) -> bool {
        self.own.contains(&before) || self.own.first().is_none_or(|first| before < *first)
    }

    /// Writes everything anew, in parts.
    pub(in crate::cell::pilot) fn begin_rewrite(&mut self) {
        // What waits is part of what is written now, except what the controller does not remember. Offers that have not been
        // sent are not sent any more: they are made anew, with tokens of this epoch.
        let waiting = std::mem::take(&mut self.kept)
            .into_iter()
            .chain(std::mem::take(&mut self.cleared).into_iter().map(Entry::Claim))
            .chain(std::mem::take(&mut self.pending));
        let (unsent, kept): (Vec<Entry>, Vec<Entry>) = waiting
            .filter(Entry::is_kept)
            .partition(|entry| matches!(entry, Entry::Claim(Effect::Originate(_))));
        for entry in unsent {
            if let Entry::Claim(effect) = entry {
                self.tell(Input::Unsent(effect), None);
            }
        }
        let since = std::mem::take(&mut self.pending).into_iter().filter(Entry::is_kept);
        self.kept = kept.into_iter().chain(since).collect();
        let events = self.kept.iter().filter(|entry| matches!(entry, Entry::Change(_))).count();
        let mut beyond = events.saturating_sub(EVENTS_KEPT_MAX);
        self.kept.retain(|entry| {
            let lost = matches!(entry, Entry::Change(_)) && beyond > 0;
            beyond -= usize::from(lost);
            !lost
        });
        let mut all = self.controller.rewrite(self.epoch, self.time);
        let mut rest = VecDeque::new();
        while all.len() > BATCH_MAX {
            let tail = all.split_off(BATCH_MAX);
            rest.push_back(std::mem::replace(&mut all, tail));
        }
        rest.push_back(all);
        self.desk = Desk::Rewriting { rest, first: true };
        // The store's count of commands may have gone back: those that it has are read again, and known by their keys.
        self.cursor = Position(0);
        self.read = Position(0);
        self.held_cursor = None;
        self.inbox.asked = None;
    }

    /// The commands up to here were done, and the store knows it.
    pub(in crate::cell::pilot) fn go_on_behind(&mut self, cursor: Position) {
        self.cursor = cursor;
        self.read = cursor;
    }

    /// What the batch under way holds and the store may not have.
    pub(super) fn keep_batch(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let changes = batch.commit.changes.into_iter().map(Entry::Change);
        let claims = batch.claims.into_iter().map(Entry::Claim);
        self.kept.extend(changes.chain(claims).filter(Entry::is_kept));
    }

    /// What became of the batch.
    pub(in crate::cell::pilot) fn committed(
        &mut self,
        ask: Ask,
        answer: Option<Committed>,
        now: Mono,
    ) -> Verdict {
        let Some(batch) = self.batch.as_mut().filter(|batch| batch.asked == Some(ask)) else {
            return Verdict::Fine;
        };
        match answer {
            None => {
                batch.asked = None;
                batch.again = now.after(RETRY_MS);
            }
            Some(Committed::Done | Committed::Repeated) => {
                self.seq = batch.commit.seq;
                self.cleared.extend(std::mem::take(&mut batch.claims));
                self.batch = None;
                if let Desk::Rewriting { rest, .. } = &self.desk
                    && rest.is_empty()
                {
                    self.desk = Desk::Steady;
                    // Behind what is written anew, before what has happened since.
                    for entry in std::mem::take(&mut self.kept).into_iter().rev() {
                        self.pending.push_front(entry);
                    }
                }
                if let Some(position) = self.held_cursor.take() {
                    self.pending.push_back(Entry::Cursor(position));
                }
            }
            Some(Committed::Fenced { .. }) => return Verdict::Fenced,
            Some(Committed::Gap { .. }) => {
                self.keep_batch();
                self.desk = Desk::Lost;
            }
        }
        Verdict::Fine
    }

    /// One batch is under way at most; what comes meanwhile is the next one.
    pub(super) fn write(&mut self, now: Mono, ask: &mut impl FnMut() -> Ask, out: &mut VecDeque<Output>) {
        if self.pending.len() > PENDING_MAX && matches!(self.desk, Desk::Steady) {
            self.keep_batch();
            self.desk = Desk::Lost;
        }
        if let Desk::Reopening { asked, again } = &mut self.desk {
            if asked.is_none() && *again <= now {
                let ask = ask();
                *asked = Some(ask);
                out.push_back(Output::Open { ask, epoch: self.epoch, read: false });
            }
            return;
        }
        if self.batch.is_none() {
            self.batch = self.next_batch();
        }
        if let Some(batch) = self.batch.as_mut().filter(|batch| batch.asked.is_none() && batch.again <= now) {
            let ask = ask();
            batch.asked = Some(ask);
            out.push_back(Output::Commit(ask, batch.commit.clone()));
        }
    }

    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let mut claims = Vec::new();
        let (changes, rewrite) = match &mut self.desk {
            Desk::Lost | Desk::Reopening { .. } => return None,
            Desk::Rewriting { rest, first } => {
                let changes = rest.pop_front()?;
                let rewrite = Rewrite { first: std::mem::take(first), last: rest.is_empty() };
                (changes, Some(rewrite))
            }
            Desk::Steady => {
                let mut changes = Vec::new();
                let before = self.cursor;
                while changes.len() < BATCH_MAX
                    && let Some(entry) = self.pending.pop_front()
                {
                    match entry {
                        Entry::Change(change) => changes.push(change),
                        Entry::Claim(effect) => claims.push(effect),
                        Entry::Cursor(position) => self.cursor = position,
                    }
                }
                if changes.is_empty() && before == self.cursor {
                    // What they depend on is committed.
                    self.cleared.extend(claims);
                    return None;
                }
                (changes, None)
            }
        };
        let commit = Commit {
            epoch: self.epoch,
            seq: self.seq + 1,
            rewrite,
            changes,
            cursor: self.cursor,
            clock: self.time,
        };
        Some(Batch { asked: None, again: Mono(0), commit, claims })
    }
}

impl Entry {
    /// Whether the controller could not say it once more.
    fn is_kept(&self) -> bool {
        match self {
            Entry::Claim(_) | Entry::Change(Change::Event(_)) => true,
            Entry::Change(
                Change::Call(_)
                | Change::CallGone(_)
                | Change::Agent(_)
                | Change::AgentGone(_)
                | Change::Rules(..)
                | Change::RulesGone(_)
                | Change::Queue(..)
                | Change::QueueGone(_)
                | Change::Offer(_)
                | Change::OfferGone(_)
                | Change::Place { .. }
                | Change::Leave { .. }
                | Change::Issue(_)
                | Change::Revoke(_),
            )
            | Entry::Cursor(_) => false,
        }
    }
}
