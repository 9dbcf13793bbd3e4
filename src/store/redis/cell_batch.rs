//! A batch as its script takes it: of each name only what it is in the end, in groups that are written at once.

use super::conn::{Call, Script};
use crate::store::cell::{Batch, Change, OUTBOX_MAX};
use std::collections::BTreeMap;

/// What becomes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Good in this epoch, and whoever's it was.
    Kept,
    /// Good in this epoch, and nobody's.
    New,
    Void,
}

/// A batch whose changes are put together.
pub(super) struct Folded<'a> {
    batch: &'a Batch,
    records: BTreeMap<&'a str, Option<&'a str>>,
    /// Queue → call → score; `None`: it is not in it.
    queues: BTreeMap<&'a str, BTreeMap<&'a str, Option<u64>>>,
    tokens: BTreeMap<&'a str, Fate>,
    events: Vec<&'a str>,
}

impl<'a> Folded<'a> {
    pub(super) fn new(batch: &'a Batch) -> Folded<'a> {
        let mut folded = Folded {
            batch,
            records: BTreeMap::new(),
            queues: BTreeMap::new(),
            tokens: BTreeMap::new(),
            events: Vec::new(),
        };
        for change in &batch.changes {
            folded.add(change);
        }
        folded
    }

    fn add(&mut self, change: &'a Change) {
        match change {
            Change::Put { name, text } => _ = self.records.insert(name, Some(text)),
            Change::Delete { name } => _ = self.records.insert(name, None),
            Change::Place { queue, call, place } => {
                _ = self.queues.entry(queue.as_str()).or_default().insert(call, Some(place.score()));
            }
            Change::Leave { queue, call } => {
                _ = self.queues.entry(queue.as_str()).or_default().insert(call, None);
            }
            Change::Issue { offer } => {
                let fate = match self.tokens.get(offer.as_str()) {
                    None | Some(Fate::Kept) => Fate::Kept,
                    Some(Fate::New | Fate::Void) => Fate::New,
                };
                self.tokens.insert(offer, fate);
            }
            Change::Revoke { offer } => _ = self.tokens.insert(offer, Fate::Void),
            Change::Event { text } => self.events.push(text),
        }
    }

    /// Queues that are there, and that the batch begins with deleting.
    pub(super) fn delete_queues(&mut self, names: &'a [String]) {
        for name in names {
            self.queues.entry(name).or_default();
        }
    }

    /// The queues that the script needs the keys of.
    pub(super) fn queues(&self) -> impl Iterator<Item = &'a str> {
        self.queues.keys().copied()
    }

    /// The script's run; `keys` ends with those of [`Folded::queues`].
    pub(super) fn call<'s>(&self, script: &'s Script, keys: &[String]) -> Call<'s> {
        let mut call = Call::new(script, keys.iter());
        let (batch, rewrite) = (self.batch, self.batch.rewrite);
        call.number(batch.epoch).number(batch.seq);
        call.number(u8::from(rewrite.is_some_and(|part| part.first)));
        call.number(u8::from(rewrite.is_some_and(|part| part.last)));
        call.number(batch.cursor.0).number(batch.clock.0).number(OUTBOX_MAX);

        let puts = self.records.iter().filter_map(|(name, text)| Some((*name, (*text)?)));
        let gone = self.records.iter().filter(|(_, text)| text.is_none()).map(|(name, _)| *name);
        let tokens =
            |fate: Fate| self.tokens.iter().filter(move |(_, f)| **f == fate).map(|(offer, _)| *offer);
        call.number(puts.clone().count()).number(gone.clone().count()).number(self.queues.len());
        for fate in [Fate::Kept, Fate::New, Fate::Void] {
            call.number(tokens(fate).count());
        }
        call.number(self.events.len());

        puts.for_each(|(name, text)| _ = call.text(name).text(text));
        gone.for_each(|name| _ = call.text(name));
        for (queue, calls) in &self.queues {
            let places = calls.iter().filter_map(|(name, score)| Some((*name, (*score)?)));
            let leaves = calls.iter().filter(|(_, score)| score.is_none()).map(|(name, _)| *name);
            call.text(queue).number(places.clone().count()).number(leaves.clone().count());
            places.for_each(|(name, score)| _ = call.number(score).text(name));
            leaves.for_each(|name| _ = call.text(name));
        }
        for fate in [Fate::Kept, Fate::New, Fate::Void] {
            tokens(fate).for_each(|offer| _ = call.text(offer));
        }
        self.events.iter().for_each(|text| _ = call.text(text));
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::EpochMs;
    use crate::store::cell::Position;

    #[test]
    fn of_each_token_only_the_end_counts() {
        let issue = |offer: &str| Change::Issue { offer: offer.to_owned() };
        let revoke = |offer: &str| Change::Revoke { offer: offer.to_owned() };
        let changes = vec![
            issue("kept"),
            issue("kept"),
            revoke("new"),
            issue("new"),
            issue("new"),
            issue("void"),
            revoke("void"),
        ];
        let (cursor, clock) = (Position(0), EpochMs(0));
        let batch = Batch { epoch: 1, seq: 1, rewrite: None, changes, cursor, clock };
        let folded = Folded::new(&batch);
        let tokens: Vec<_> = folded.tokens.into_iter().collect();
        assert_eq!(tokens, [("kept", Fate::Kept), ("new", Fate::New), ("void", Fate::Void)]);
    }
}
