//! What the pilot is told, and what it asks for.

use crate::domain::controller::{self, Change, Effect, Outcome};
use crate::domain::id::NodeId;
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use crate::store::cell::{Candidate, Committed, Leadership, Position, Registration, Rewrite};
use std::sync::Arc;

/// A point in time by the process' own clock, in ms: it never runs back, and stands for nothing elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So many milliseconds later.
    pub fn after(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms))
    }
}

/// Names a question, so that its answer is not taken for that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub u64);

/// A connection to a node: another number for each. Events of one that was given up are not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub u64);

/// What the pilot is told. Store answers are `None` when none came in time: it may have been done all the same.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// What is laid down, and the nodes of the cell.
    Setup {
        /// Queues, agents and treatments.
        setup: Arc<Setup>,
        /// The nodes to drive.
        nodes: Vec<NodeId>,
    },
    /// Answer to [`Output::Lead`].
    Led(Ask, Option<Leadership>),
    /// Answer to [`Output::Open`].
    Opened(Ask, Option<Found>),
    /// Answer to [`Output::Commit`].
    Committed(Ask, Option<Committed>),
    /// Answer to [`Output::ReadInbox`].
    Inbox(Ask, Option<Vec<Letter>>),
    /// Answer to [`Output::ReadRegistrations`].
    Registrations(Ask, Option<Vec<Registration>>),
    /// The application is attached to a node, over this connection.
    NodeUp(NodeId, Link),
    /// The connection is gone.
    NodeDown(NodeId, Link),
    /// The node has told this connection that another one has taken its place (`ApplicationReplaced`).
    NodeReplaced(NodeId, Link),
    /// A node does not answer anybody any more, by the word of the health checks and not by that of the connection.
    NodeDead(NodeId),
    /// A node that was called dead answers again.
    NodeAlive(NodeId),
    /// An event of a node: only `CallerEntered`, `CallerLeft`, `LegAnswered`, `Announced`, `Transfer`, `LegEnded`.
    Event(NodeId, Link, controller::Input),
    /// Answer to [`Output::Probe`]: everything that the node had sent over the connection before has come.
    Probed(Ask),
    /// Answer to [`Output::List`].
    Listed(Ask, Option<controller::Listing>),
    /// Answer to [`Output::Act`].
    Acted(Ask, Outcome),
    /// It is to lead no longer: it is about to end.
    Resign,
}

/// What a new leader finds, read: see [`crate::store::cell::Opened`].
#[derive(Clone, Debug)]
pub enum Found {
    /// All of it; records that could not be read are left out, and counted.
    Here {
        /// The epoch that was open before; 0: none, or it was forgotten.
        before: u64,
        /// Of the last batch.
        seq: u64,
        /// Commands up to here are done.
        cursor: Position,
        /// The cell's time never runs back behind this.
        clock: EpochMs,
        /// A leader that wrote everything anew had ended.
        whole: bool,
        /// What it was.
        saved: controller::Saved,
        /// Records that could not be read.
        damaged: u32,
    },
    /// There is a newer leader.
    Fenced,
}

/// A command as it was sent, read.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Where it was.
    pub position: Position,
    /// The same key again is the same command.
    pub key: Arc<str>,
    /// `None`: it could not be read.
    pub command: Option<controller::Command>,
}

/// What the pilot asks for.
#[derive(Clone, Debug)]
pub enum Output {
    /// Ask the store for the leadership.
    Lead(Ask, Candidate),
    /// Give the leadership of this epoch up.
    Resign(u64),
    /// Shut out older leaders; `read`: and read everything.
    Open {
        /// Names the question.
        ask: Ask,
        /// The epoch.
        epoch: u64,
        /// Read the records.
        read: bool,
    },
    /// Write a batch.
    Commit(Ask, Commit),
    /// Read the inbox behind a position.
    ReadInbox(Ask, Position),
    /// Read who is registered.
    ReadRegistrations(Ask),
    /// Attach the application to a node, and go on trying until [`Output::Disconnect`].
    Connect(NodeId),
    /// Give the connection up.
    Disconnect(NodeId),
    /// Send something over a node's connection that comes back behind everything that the node has sent by then (a ping of
    /// RFC 6455 §5.5.2). Without an answer nothing is told.
    Probe {
        /// Names the question.
        ask: Ask,
        /// The node.
        node: NodeId,
        /// The connection.
        link: Link,
    },
    /// Ask a node for its channels and bridges.
    List {
        /// Names the question.
        ask: Ask,
        /// The node.
        node: NodeId,
        /// To be given back in the listing.
        begun: EpochMs,
    },
    /// Ask something of a node.
    Act {
        /// Names the question.
        ask: Ask,
        /// What.
        effect: Effect,
        /// If it cannot be sent before, it must not be sent: [`Outcome::Unknown`] is its answer then.
        right: Right,
    },
    /// Something for the log.
    Note(Note),
}

/// By which right something is asked of a node; to be looked at when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The leadership, which is sure until then.
    Until(Mono),
    /// This connection, which was found to be the node's only one after the effect was decided on.
    Linked(Link),
}

/// A batch: see [`crate::store::cell::Batch`].
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Of the leader.
    pub epoch: u64,
    /// One more than that of the batch before.
    pub seq: u64,
    /// Set when everything is written anew.
    pub rewrite: Option<Rewrite>,
    /// In this order.
    pub changes: Vec<Change>,
    /// The commands up to here are done.
    pub cursor: Position,
    /// The cell's time never runs back behind this.
    pub clock: EpochMs,
}

/// What is worth a line in the log, and a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It leads now, in this epoch.
    Leads(u64),
    /// It leads no longer.
    StepsDown(Why),
    /// The store has forgotten what it had acknowledged; everything is written anew, in this epoch.
    History(u64),
    /// Records that could not be read.
    Damaged(u32),
    /// A leader had begun to write everything anew, and did not end: what is there is written anew, the nodes know the rest.
    Partial,
    /// Offers begin (again): everything that can be known is known.
    Offering,
}

/// Why an instance leads no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another one has the leadership.
    Other,
    /// A newer one has written.
    Fenced,
    /// It was asked to.
    Asked,
}
