//! What a cell keeps in the store: its leadership, its calls, agents and offers, the order of its queues, the tokens of its
//! offers, the registrations of its agents, its inbox and its outbox.
//!
//! [`CellStore`] is the whole contract; `tests/cell_contract.rs` runs one suite over every implementation. The store knows
//! nothing of what a record means: the record of the wire does.
//!
//! Two numbers keep order. The *epoch* rises with each change of the leader; whoever writes with an older one is refused.
//! The *seq* rises by one with each batch; a gap says that the store has lost what it had acknowledged.
//!
//! The rules are written down once, as a value without clock or locks: [`CellTable`]. The embedded stores keep one a cell;
//! the scripts of Redis say the same.

pub(super) mod check;
mod table;
pub(super) mod tracked;

pub(super) use table::{CellChanges, Head, Saved, SavedRegistration, Token};
pub use table::{CellTable, Limits};

use crate::domain::id::{CellId, ProxyId, QueueId};
use crate::domain::time::EpochMs;
use crate::store::StoreError;
use async_trait::async_trait;

/// Changes that one batch holds at most: a script of Redis must not keep others waiting.
pub const BATCH_MAX: usize = 512;

/// The longest name of a record, call, offer, leg, key, group, holder or address-of-record, in bytes: printable ASCII without
/// blanks.
pub const NAME_BYTES_MAX: usize = 200;

/// The longest Call-ID of a REGISTER, in bytes.
pub const CALL_ID_BYTES_MAX: usize = 1_000;

/// The greatest number (epoch, seq, position, time in ms) that a store takes: a double holds it exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// The highest priority of a call.
pub const PRIORITY_MAX: u16 = 1_000;

/// How long the key of a command is remembered, in ms.
pub const KEY_KEPT_MS: u64 = 600_000;

/// Commands that an inbox holds at most.
pub const INBOX_MAX: usize = 100_000;

/// Events that an outbox holds at most; of more, the oldest go, read or not.
pub const OUTBOX_MAX: usize = 100_000;

/// How long a registration is kept beyond its expiry, in ms: a refresh may be late.
pub const REGISTRATION_GRACE_MS: u64 = 30_000;

/// For how long after its end a registration is remembered, in ms: a REGISTER that was late must not bring it back.
pub const ENDED_KEPT_MS: u64 = 60_000;

/// Who asks to lead a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The instance, another name after each start.
    pub holder: String,
    /// The epoch in which it leads; 0: it does not.
    pub epoch: u64,
    /// How long it will lead without asking again, in ms.
    pub ttl_ms: u64,
    /// It wants a new epoch, although it leads: the store has forgotten, and everything is to be written anew.
    pub anew: bool,
    /// It takes a cell that the store knows nothing of. Who led before, and has everything in memory, is to come first.
    pub may_found: bool,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// The candidate, until `now + ttl_ms`. In its own epoch: it has led all the time. In another: somebody may have led
    /// meanwhile, or the store has forgotten.
    Yours {
        /// `max(every epoch that the store or the candidate knows + 1, the time)` for a new leader.
        epoch: u64,
        /// The store's clock.
        now: EpochMs,
    },
    /// Somebody else.
    Theirs {
        /// Who.
        holder: String,
        /// For how long at least, in ms.
        left_ms: u64,
        /// The store's clock.
        now: EpochMs,
    },
    /// Nobody: the store has never heard of this cell, or has forgotten it. Only a candidate that led before, or that
    /// [may found](Candidate::may_found) it, is given it.
    Unknown {
        /// The store's clock.
        now: EpochMs,
    },
}

/// One change to a cell's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a record.
    Put {
        /// Its name, within [`NAME_BYTES_MAX`].
        name: String,
        /// Its content.
        text: String,
    },
    /// Deletes a record; one that is not there is no error.
    Delete {
        /// Its name.
        name: String,
    },
    /// Puts a call into a queue, or at another place of it.
    Place {
        /// The queue.
        queue: QueueId,
        /// The call.
        call: String,
        /// Where.
        place: Place,
    },
    /// Takes a call out of a queue.
    Leave {
        /// The queue.
        queue: QueueId,
        /// The call.
        call: String,
    },
    /// Makes the token of an offer good for one leg, in the epoch of the batch. One that a leg has used, in whatever epoch,
    /// stays that leg's until it is revoked.
    Issue {
        /// The offer.
        offer: String,
    },
    /// Makes the token of an offer void, used or not.
    Revoke {
        /// The offer.
        offer: String,
    },
    /// Puts an event into the outbox.
    Event {
        /// What happened.
        text: String,
    },
}

/// Where a call stands in its queue: a higher priority first, then the earlier time, then the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0 … [`PRIORITY_MAX`].
    pub priority: u16,
    /// When it began to wait.
    pub enqueued: EpochMs,
}

impl Place {
    /// The place as one number that a double holds exactly; the first has the smallest.
    pub fn score(self) -> u64 {
        const TIME_BITS: u32 = 42;
        let rank = u64::from(PRIORITY_MAX.saturating_sub(self.priority));
        (rank << TIME_BITS) | self.enqueued.0.min((1 << TIME_BITS) - 1)
    }
}

/// A position in an inbox or an outbox: later ones are greater, and not next to each other. They follow the store's clock
/// where it is ahead of them, so that a store that has forgotten some does not give them again. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Changes that become true together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Of the leader.
    pub epoch: u64,
    /// One more than that of the batch before.
    pub seq: u64,
    /// Set when everything is written anew.
    pub rewrite: Option<Rewrite>,
    /// At most [`BATCH_MAX`], applied in this order.
    pub changes: Vec<Change>,
    /// The commands up to here are done; the inbox may forget them.
    pub cursor: Position,
    /// The cell's time never runs back behind this.
    pub clock: EpochMs,
}

/// Which part of writing everything anew a batch is. The first one takes whatever `seq` it has, and deletes all records,
/// queues and tokens before it is applied (inbox, outbox, registrations and keys stay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// It begins here.
    pub first: bool,
    /// It is complete with this one.
    pub last: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is true now.
    Done,
    /// It was so before: this seq, or a later one of this epoch.
    Repeated,
    /// There is a newer leader; nothing was changed.
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
    /// The batch before it is not there, or the epoch was not opened: the store has forgotten. Or it has batches of another epoch
    /// where this one belongs. Nothing was changed; the leader opens again, and writes everything anew.
    Gap {
        /// The last batch that the store knows of.
        seq: u64,
    },
}

/// Everything that a cell keeps, as a new leader finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The epoch that was open before this one; 0: none, or it was forgotten. Opening again does not change it.
    pub before: u64,
    /// Of the last batch.
    pub seq: u64,
    /// Commands up to here are done.
    pub cursor: Position,
    /// The cell's time never runs back behind this.
    pub clock: EpochMs,
    /// The records by name, in no order.
    pub records: Vec<(String, String)>,
    /// False: a leader began to write everything anew, and did not end. True of a cell of which nothing is known.
    pub whole: bool,
}

/// What a new leader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nobody with an older epoch can change it any more.
    Here(Image),
    /// There is a newer leader.
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
}

/// What became of an attempt to use an offer's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// This leg may ring the agent.
    Yes,
    /// This leg asked before, and may.
    Again,
    /// Another leg has used it.
    Used,
    /// It is of an epoch that is over.
    Stale,
    /// It was never issued, or is void, or was forgotten.
    Unknown,
}

impl Redeemed {
    /// Whether the agent may be rung.
    pub fn rings(self) -> bool {
        match self {
            Redeemed::Yes | Redeemed::Again => true,
            Redeemed::Used | Redeemed::Stale | Redeemed::Unknown => false,
        }
    }
}

/// A command for the leader, as the inbox holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where it is.
    pub position: Position,
    /// The same key again is the same command.
    pub key: String,
    /// What is asked for.
    pub text: String,
}

/// What became of a command that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is in the inbox.
    New(Position),
    /// It has been there within the last [`KEY_KEPT_MS`].
    Repeated(Position),
    /// The inbox is full: nobody has read it for long.
    Full,
}

/// An event, as the outbox holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it is.
    pub position: Position,
    /// What happened.
    pub text: String,
}

/// Who leads, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The instance.
    pub holder: String,
    /// The epoch that it was granted.
    pub epoch: u64,
    /// How long it leads without asking again, in ms; 0: its time is over, and nobody has come after it.
    pub left_ms: u64,
}

/// A cell as anybody may read it. It need not be the state of one moment: what changes while it is read may be there as before
/// or as after. A leader opens the cell instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The store's clock.
    pub now: EpochMs,
    /// Who leads; `None`: it was given up, or never held.
    pub leader: Option<Leader>,
    /// The latest epoch that was opened; 0: none.
    pub epoch: u64,
    /// Of the last batch.
    pub seq: u64,
    /// Commands up to here are done.
    pub cursor: Position,
    /// The last command that was sent.
    pub sent: Position,
    /// The last event.
    pub told: Position,
    /// False: a leader is writing everything anew, or has stopped in the middle.
    pub whole: bool,
    /// The records by name, in no order.
    pub records: Vec<(String, String)>,
    /// The registrations that are not over, in no order.
    pub registrations: Vec<Registration>,
}

/// That an address-of-record is reachable through a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The address-of-record, `user@host`.
    pub aor: String,
    /// The Kamailio that took the REGISTER.
    pub proxy: ProxyId,
    /// When it ends, with [`REGISTRATION_GRACE_MS`] added.
    pub until: EpochMs,
    /// When it was last refreshed, by the store's clock.
    pub at: EpochMs,
}

/// A REGISTER that a proxy has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The address-of-record.
    pub aor: String,
    /// The Kamailio that took it.
    pub proxy: ProxyId,
    /// For how long, in ms; 0: it ends now.
    pub expires_ms: u64,
    /// Call-ID of the REGISTER.
    pub call_id: String,
    /// Its CSeq: of the same Call-ID, an older one changes nothing (RFC 3261 §10.3, step 7).
    pub cseq: u32,
}

/// The state of cells. Every method is safe to repeat after a time-out. A name or number that is none is refused, with
/// [`StoreError::Refused`] that says which, and changes nothing.
#[async_trait]
pub trait CellStore: Send + Sync + 'static {
    /// Takes or keeps the leadership. Whoever holds it keeps its epoch when it asks too late, if nobody has asked in between; an
    /// epoch that a newer one has shut out is not kept.
    async fn lead(&self, cell: &CellId, candidate: &Candidate) -> Result<Leadership, StoreError>;

    /// Gives the leadership up, so that another may have it at once. True: it was held, or would have been had by asking.
    async fn resign(&self, cell: &CellId, holder: &str, epoch: u64) -> Result<bool, StoreError>;

    /// Shuts out every leader with an older epoch, and reads everything; with `read` false the records are left out.
    async fn open(&self, cell: &CellId, epoch: u64, read: bool) -> Result<Opened, StoreError>;

    /// Applies a batch.
    async fn commit(&self, cell: &CellId, batch: &Batch) -> Result<Committed, StoreError>;

    /// Uses the token of an offer for a leg, if it is unused, or used by this leg, and of the current epoch.
    async fn redeem(&self, cell: &CellId, offer: &str, leg: &str) -> Result<Redeemed, StoreError>;

    /// Sends a command to the leader. `key` names it, within [`NAME_BYTES_MAX`].
    async fn send(&self, cell: &CellId, key: &str, text: &str) -> Result<Accepted, StoreError>;

    /// The commands behind a position, at most `limit`, in order.
    async fn inbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Sent>, StoreError>;

    /// The events behind a position, at most `limit`, in order.
    async fn outbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Told>, StoreError>;

    /// Up to where a group of consumers has dealt with the events.
    async fn told(&self, cell: &CellId, group: &str) -> Result<Position, StoreError>;

    /// Notes that a group of consumers has dealt with the events up to `upto`; a lower position than before changes nothing.
    async fn acknowledge(&self, cell: &CellId, group: &str, upto: Position) -> Result<(), StoreError>;

    /// Notes a registration: one for an address-of-record and a proxy.
    async fn register(&self, cell: &CellId, register: &Register) -> Result<(), StoreError>;

    /// The registrations that are not over, in no order.
    async fn registrations(&self, cell: &CellId) -> Result<Vec<Registration>, StoreError>;

    /// Reads what there is, and changes nothing: of a cell that nobody leads, too.
    async fn look(&self, cell: &CellId) -> Result<Look, StoreError>;

    /// The calls of a queue in their order, at most `limit`.
    async fn queue(&self, cell: &CellId, queue: &QueueId, limit: usize) -> Result<Vec<String>, StoreError>;
}
