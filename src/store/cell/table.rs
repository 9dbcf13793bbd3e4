//! One cell in memory: the rules of [`CellStore`](super::CellStore), without a clock, without chance, without locks.

use super::tracked::{Part, Tracked};
use super::{
    Accepted, Batch, Candidate, Change, Committed, ENDED_KEPT_MS, INBOX_MAX, Image, KEY_KEPT_MS, Leader,
    Leadership, Look, OUTBOX_MAX, Opened, Position, REGISTRATION_GRACE_MS, Redeemed, Register, Registration,
    Sent, Told, check,
};
use crate::domain::id::{ProxyId, QueueId};
use crate::domain::time::EpochMs;
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Positions that one ms has room for before they run ahead of the clock.
const POSITIONS_PER_MS: u64 = 1024;

/// How much a cell keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commands in the inbox.
    pub inbox: usize,
    /// Events in the outbox.
    pub outbox: usize,
    /// Keys of commands. Of more, those go early that would be forgotten next.
    pub keys: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { inbox: INBOX_MAX, outbox: OUTBOX_MAX, keys: 10 * INBOX_MAX }
    }
}

/// The numbers of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Head {
    /// The latest that was opened, and the one before it.
    pub epoch: u64,
    pub before: u64,
    /// The latest that was given to a leader.
    pub granted: u64,
    /// Who was given it; `None`: it was given up.
    pub holder: Option<String>,
    /// Of the last batch, and the epoch that it was of.
    pub seq: u64,
    pub seq_epoch: u64,
    pub cursor: u64,
    pub clock: u64,
    /// The last positions that were given.
    pub sent: u64,
    pub told: u64,
    /// A leader began to write everything anew, and has not ended yet.
    pub partial: bool,
}

/// The token of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Token {
    pub epoch: u64,
    /// Who has used it.
    pub leg: Option<String>,
}

/// What is remembered of the last REGISTER of an address-of-record at a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct SavedRegistration {
    pub call_id: String,
    pub cseq: u32,
    pub at: EpochMs,
    /// When it is forgotten.
    pub until: EpochMs,
    /// It is remembered only so that no late REGISTER brings it back.
    pub ended: bool,
}

/// What a cell is made of again.
#[derive(Default)]
pub(in crate::store) struct Saved {
    pub head: Head,
    pub records: BTreeMap<String, String>,
    pub places: BTreeMap<(QueueId, String), u64>,
    pub tokens: BTreeMap<String, Token>,
    pub inbox: BTreeMap<u64, (String, String)>,
    pub keys: BTreeMap<String, (u64, EpochMs)>,
    pub outbox: BTreeMap<u64, String>,
    pub groups: BTreeMap<String, u64>,
    pub registrations: BTreeMap<(String, ProxyId), SavedRegistration>,
}

/// What has changed of a cell.
pub(in crate::store) struct CellChanges {
    pub head: Head,
    pub records: Part<String, String>,
    pub places: Part<(QueueId, String), u64>,
    pub tokens: Part<String, Token>,
    pub inbox: Part<u64, (String, String)>,
    pub keys: Part<String, (u64, EpochMs)>,
    pub outbox: Part<u64, String>,
    pub groups: Part<String, u64>,
    pub registrations: Part<(String, ProxyId), SavedRegistration>,
}

/// One cell. A clone is the cell as it was: to put it back is to forget what was written since.
#[derive(Clone, Debug, Default)]
pub struct CellTable {
    limits: Limits,
    head: Head,
    head_changed: bool,
    /// Until when `head.holder` leads. In no file: after a restart whoever asks first leads.
    until: EpochMs,
    records: Tracked<String, String>,
    /// Where a call stands in a queue, as [`super::Place::score`].
    places: Tracked<(QueueId, String), u64>,
    /// The same, in order.
    order: BTreeMap<QueueId, BTreeSet<(u64, String)>>,
    tokens: Tracked<String, Token>,
    inbox: Tracked<u64, (String, String)>,
    keys: Tracked<String, (u64, EpochMs)>,
    /// The same, by age.
    by_age: BTreeSet<(EpochMs, String)>,
    outbox: Tracked<u64, String>,
    groups: Tracked<String, u64>,
    registrations: Tracked<(String, ProxyId), SavedRegistration>,
}

impl CellTable {
    /// A cell of which nothing is known.
    #[must_use]
    pub fn new(limits: Limits) -> CellTable {
        CellTable { limits, ..CellTable::default() }
    }

    /// The latest epoch that was opened; 0: none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.head.epoch
    }

    /// The number of the last batch; 0: there was none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.head.seq
    }

    /// What a restart of the store does: nobody leads any more, and everything else is as it was.
    pub fn restart(&mut self) {
        self.until = EpochMs(0);
    }

    /// As [`super::CellStore::lead`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a holder or a number that is none.
    pub fn lead(&mut self, candidate: &Candidate, now: EpochMs) -> Result<Leadership, StoreError> {
        check::candidate(candidate)?;
        let until = now + candidate.ttl_ms;
        let head = &mut self.head;
        let mine = head.holder.as_ref() == Some(&candidate.holder) && head.granted == candidate.epoch;
        if mine && head.epoch <= candidate.epoch && !candidate.anew {
            self.until = until;
            return Ok(Leadership::Yours { epoch: candidate.epoch, now });
        }
        if let Some(holder) = &head.holder
            && !mine
            && self.until > now
        {
            return Ok(Leadership::Theirs { holder: holder.clone(), left_ms: self.until.since(now), now });
        }
        let latest = head.epoch.max(head.granted).max(candidate.epoch);
        if latest == 0 && !candidate.may_found {
            return Ok(Leadership::Unknown { now });
        }
        head.granted = latest.saturating_add(1).max(now.0);
        head.holder = Some(candidate.holder.clone());
        self.head_changed = true;
        self.until = until;
        Ok(Leadership::Yours { epoch: self.head.granted, now })
    }

    /// As [`super::CellStore::resign`].
    pub fn resign(&mut self, holder: &str, epoch: u64) -> bool {
        let held = self.head.granted == epoch && self.head.holder.as_deref() == Some(holder);
        if held {
            self.head.holder = None;
            self.head_changed = true;
        }
        held
    }

    /// As [`super::CellStore::open`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of an epoch that is none.
    pub fn open(&mut self, epoch: u64, read: bool) -> Result<Opened, StoreError> {
        check::epoch("open", epoch)?;
        if epoch < self.head.epoch {
            return Ok(Opened::Fenced { epoch: self.head.epoch });
        }
        if epoch > self.head.epoch {
            self.head.before = std::mem::replace(&mut self.head.epoch, epoch);
            self.head_changed = true;
        }
        let all = self.records.map().iter().map(|(name, text)| (name.clone(), text.clone()));
        Ok(Opened::Here(Image {
            before: self.head.before,
            seq: self.head.seq,
            cursor: Position(self.head.cursor),
            clock: EpochMs(self.head.clock),
            records: if read { all.collect() } else { Vec::new() },
            whole: !self.head.partial,
        }))
    }

    /// As [`super::CellStore::commit`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a batch with too many changes, or with a name or number that is none.
    pub fn commit(&mut self, batch: &Batch, now: EpochMs) -> Result<Committed, StoreError> {
        check::batch(batch)?;
        let refused = self.refusal(batch);
        if refused.is_none() {
            self.apply(batch, now);
        }
        Ok(refused.unwrap_or(Committed::Done))
    }

    fn refusal(&self, batch: &Batch) -> Option<Committed> {
        let head = &self.head;
        let gap = Some(Committed::Gap { seq: head.seq });
        if batch.epoch < head.epoch {
            return Some(Committed::Fenced { epoch: head.epoch });
        }
        if batch.epoch > head.epoch {
            return gap;
        }
        // What another epoch wrote under this number is another batch.
        if head.seq_epoch == batch.epoch && batch.seq <= head.seq {
            return Some(Committed::Repeated);
        }
        let first = batch.rewrite.is_some_and(|rewrite| rewrite.first);
        if first || batch.seq == head.seq.saturating_add(1) { None } else { gap }
    }

    fn apply(&mut self, batch: &Batch, now: EpochMs) {
        if let Some(rewrite) = batch.rewrite {
            if rewrite.first {
                self.records.clear();
                self.places.clear();
                self.order.clear();
                self.tokens.clear();
                self.head.partial = true;
            }
            if rewrite.last {
                self.head.partial = false;
            }
        }
        for change in &batch.changes {
            self.change(change, batch.epoch, now);
        }
        let head = &mut self.head;
        (head.seq, head.seq_epoch) = (batch.seq, batch.epoch);
        head.clock = head.clock.max(batch.clock.0);
        head.cursor = head.cursor.max(batch.cursor.0);
        let cursor = head.cursor;
        self.head_changed = true;
        while let Some((position, _)) = self.inbox.map().first_key_value().filter(|(at, _)| **at <= cursor) {
            let done = *position;
            self.inbox.remove(&done);
        }
    }

    fn change(&mut self, change: &Change, epoch: u64, now: EpochMs) {
        match change {
            Change::Put { name, text } => _ = self.records.insert(name.clone(), text.clone()),
            Change::Delete { name } => _ = self.records.remove(name),
            Change::Place { queue, call, place } => {
                self.leave(queue, call);
                let score = place.score();
                self.order.entry(queue.clone()).or_default().insert((score, call.clone()));
                self.places.insert((queue.clone(), call.clone()), score);
            }
            Change::Leave { queue, call } => self.leave(queue, call),
            Change::Issue { offer } => {
                let leg = self.tokens.map().get(offer).and_then(|token| token.leg.clone());
                self.tokens.insert(offer.clone(), Token { epoch, leg });
            }
            Change::Revoke { offer } => _ = self.tokens.remove(offer),
            Change::Event { text } => {
                self.head.told = next(self.head.told, now);
                self.outbox.insert(self.head.told, text.clone());
                while self.outbox.map().len() > self.limits.outbox {
                    let Some(oldest) = self.outbox.map().keys().next().copied() else { return };
                    self.outbox.remove(&oldest);
                }
            }
        }
    }

    fn leave(&mut self, queue: &QueueId, call: &str) {
        let name = (queue.clone(), call.to_owned());
        if let Some(score) = self.places.remove(&name)
            && let Some(order) = self.order.get_mut(queue)
        {
            order.remove(&(score, name.1));
            if order.is_empty() {
                self.order.remove(queue);
            }
        }
    }

    /// As [`super::CellStore::redeem`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a name that is none.
    pub fn redeem(&mut self, offer: &str, leg: &str) -> Result<Redeemed, StoreError> {
        check::name("redeem", "the offer", offer)?;
        check::name("redeem", "the leg", leg)?;
        let Some(token) = self.tokens.map().get(offer) else { return Ok(Redeemed::Unknown) };
        if token.epoch != self.head.epoch {
            return Ok(Redeemed::Stale);
        }
        let epoch = token.epoch;
        Ok(match &token.leg {
            Some(user) if user == leg => Redeemed::Again,
            Some(_) => Redeemed::Used,
            None => {
                self.tokens.insert(offer.to_owned(), Token { epoch, leg: Some(leg.to_owned()) });
                Redeemed::Yes
            }
        })
    }

    /// As [`super::CellStore::send`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a key that is none.
    pub fn send(&mut self, key: &str, text: &str, now: EpochMs) -> Result<Accepted, StoreError> {
        check::name("send", "the key", key)?;
        while self.by_age.first().is_some_and(|(at, _)| *at + KEY_KEPT_MS <= now) {
            self.forget_oldest_key();
        }
        if let Some((position, _)) = self.keys.map().get(key) {
            return Ok(Accepted::Repeated(Position(*position)));
        }
        if self.inbox.map().len() >= self.limits.inbox {
            return Ok(Accepted::Full);
        }
        // Behind the cursor nobody would read it.
        let position = next(self.head.sent.max(self.head.cursor), now);
        self.head.sent = position;
        self.head_changed = true;
        self.inbox.insert(position, (key.to_owned(), text.to_owned()));
        self.keys.insert(key.to_owned(), (position, now));
        self.by_age.insert((now, key.to_owned()));
        if self.keys.map().len() > self.limits.keys {
            self.forget_oldest_key();
        }
        Ok(Accepted::New(Position(position)))
    }

    fn forget_oldest_key(&mut self) {
        if let Some((_, key)) = self.by_age.pop_first() {
            self.keys.remove(&key);
        }
    }

    /// As [`super::CellStore::inbox`].
    #[must_use]
    pub fn inbox(&self, after: Position, limit: usize) -> Vec<Sent> {
        let sent = |(at, (key, text)): (&u64, &(String, String))| Sent {
            position: Position(*at),
            key: key.clone(),
            text: text.clone(),
        };
        self.inbox.map().range(behind(after)).take(limit).map(sent).collect()
    }

    /// As [`super::CellStore::outbox`].
    #[must_use]
    pub fn outbox(&self, after: Position, limit: usize) -> Vec<Told> {
        let told = |(at, text): (&u64, &String)| Told { position: Position(*at), text: text.clone() };
        self.outbox.map().range(behind(after)).take(limit).map(told).collect()
    }

    /// As [`super::CellStore::told`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a group that is none.
    pub fn told(&self, group: &str) -> Result<Position, StoreError> {
        check::name("told", "the group", group)?;
        Ok(Position(self.groups.map().get(group).copied().unwrap_or(0)))
    }

    /// As [`super::CellStore::acknowledge`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of a group or a position that is none.
    pub fn acknowledge(&mut self, group: &str, upto: Position) -> Result<(), StoreError> {
        check::name("acknowledge", "the group", group)?;
        check::number("acknowledge", "position", upto.0)?;
        if self.groups.map().get(group).is_none_or(|before| *before < upto.0) {
            self.groups.insert(group.to_owned(), upto.0);
        }
        Ok(())
    }

    /// As [`super::CellStore::register`].
    ///
    /// # Errors
    /// [`StoreError::Refused`], of an address-of-record or a Call-ID that is none.
    pub fn register(&mut self, register: &Register, now: EpochMs) -> Result<(), StoreError> {
        check::register(register)?;
        self.forget_registrations(now);
        let name = (register.aor.clone(), register.proxy.clone());
        let late = self
            .registrations
            .map()
            .get(&name)
            .is_some_and(|before| before.call_id == register.call_id && register.cseq < before.cseq);
        if !late {
            let ended = register.expires_ms == 0;
            let kept =
                if ended { ENDED_KEPT_MS } else { register.expires_ms.saturating_add(REGISTRATION_GRACE_MS) };
            let saved = SavedRegistration {
                call_id: register.call_id.clone(),
                cseq: register.cseq,
                at: now,
                until: now + kept,
                ended,
            };
            self.registrations.insert(name, saved);
        }
        Ok(())
    }

    /// As [`super::CellStore::registrations`].
    #[must_use]
    pub fn registrations(&self, now: EpochMs) -> Vec<Registration> {
        let all = self.registrations.map().iter();
        let live = all.filter(|(_, saved)| !saved.ended && saved.until > now);
        let one = |((aor, proxy), saved): (&(String, ProxyId), &SavedRegistration)| Registration {
            aor: aor.clone(),
            proxy: proxy.clone(),
            until: saved.until,
            at: saved.at,
        };
        live.map(one).collect()
    }

    fn forget_registrations(&mut self, now: EpochMs) {
        let all = self.registrations.map().iter();
        let over: Vec<_> =
            all.filter(|(_, saved)| saved.until <= now).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.registrations.remove(&name);
        }
    }

    /// As [`super::CellStore::look`].
    #[must_use]
    pub fn look(&self, now: EpochMs) -> Look {
        let head = &self.head;
        let leader = head.holder.as_ref().map(|holder| Leader {
            holder: holder.clone(),
            epoch: head.granted,
            left_ms: self.until.since(now),
        });
        Look {
            now,
            leader,
            epoch: head.epoch,
            seq: head.seq,
            cursor: Position(head.cursor),
            sent: Position(head.sent),
            told: Position(head.told),
            whole: !head.partial,
            records: self.records.map().iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
            registrations: self.registrations(now),
        }
    }

    /// As [`super::CellStore::queue`].
    #[must_use]
    pub fn queue(&self, queue: &QueueId, limit: usize) -> Vec<String> {
        let order = self.order.get(queue).into_iter().flatten();
        order.take(limit).map(|(_, call)| call.clone()).collect()
    }
}

/// Where the embedded store with a file comes in.
impl CellTable {
    /// A cell as it was saved, whose changes are noted.
    pub(in crate::store) fn restored(saved: Saved) -> CellTable {
        let mut order: BTreeMap<QueueId, BTreeSet<(u64, String)>> = BTreeMap::new();
        for ((queue, call), score) in &saved.places {
            order.entry(queue.clone()).or_default().insert((*score, call.clone()));
        }
        CellTable {
            limits: Limits::default(),
            head: saved.head,
            head_changed: false,
            until: EpochMs(0),
            records: Tracked::followed(saved.records),
            places: Tracked::followed(saved.places),
            order,
            tokens: Tracked::followed(saved.tokens),
            inbox: Tracked::followed(saved.inbox),
            by_age: saved.keys.iter().map(|(key, (_, at))| (*at, key.clone())).collect(),
            keys: Tracked::followed(saved.keys),
            outbox: Tracked::followed(saved.outbox),
            groups: Tracked::followed(saved.groups),
            registrations: Tracked::followed(saved.registrations),
        }
    }

    /// Whether anything that is saved has changed since the changes were taken.
    pub(in crate::store) fn has_changed(&self) -> bool {
        self.head_changed
            || self.records.has_changed()
            || self.places.has_changed()
            || self.tokens.has_changed()
            || self.inbox.has_changed()
            || self.keys.has_changed()
            || self.outbox.has_changed()
            || self.groups.has_changed()
            || self.registrations.has_changed()
    }

    /// What has changed since the last time.
    pub(in crate::store) fn take_changes(&mut self) -> CellChanges {
        self.head_changed = false;
        CellChanges {
            head: self.head.clone(),
            records: self.records.take(),
            places: self.places.take(),
            tokens: self.tokens.take(),
            inbox: self.inbox.take(),
            keys: self.keys.take(),
            outbox: self.outbox.take(),
            groups: self.groups.take(),
            registrations: self.registrations.take(),
        }
    }

    /// What was taken and could not be saved has still changed.
    pub(in crate::store) fn put_back(&mut self, taken: CellChanges) {
        self.head_changed = true;
        self.records.put_back(taken.records);
        self.places.put_back(taken.places);
        self.tokens.put_back(taken.tokens);
        self.inbox.put_back(taken.inbox);
        self.keys.put_back(taken.keys);
        self.outbox.put_back(taken.outbox);
        self.groups.put_back(taken.groups);
        self.registrations.put_back(taken.registrations);
    }
}

fn next(last: u64, now: EpochMs) -> u64 {
    last.saturating_add(1).max(now.0.saturating_mul(POSITIONS_PER_MS))
}

fn behind(after: Position) -> (Bound<u64>, Bound<u64>) {
    (Bound::Excluded(after.0), Bound::Unbounded)
}
