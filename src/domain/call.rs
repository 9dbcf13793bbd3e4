//! Calls: a caller in the system, from the channel's arrival to its end.

use super::id::{AgentId, CallId, ChannelId, NodeId, OfferId, QueueId, TreatmentId};
use super::matching::{Priority, Skills};
use super::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A channel on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The Asterisk that has it.
    pub node: NodeId,
    /// Its id there.
    pub id: ChannelId,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.id)
    }
}

/// What is shown of a caller, and by what the call is found in other logs. Outside text: never part of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The display name.
    pub name: Box<str>,
    /// The number or address.
    pub number: Box<str>,
    /// The SIP Call-ID of the caller's dialog.
    pub sip_call_id: Box<str>,
}

/// One caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The id of its channel at arrival.
    pub id: CallId,
    /// Where the caller is.
    pub channel: Channel,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The line that it stands in, stood in last, or never came to stand in.
    pub queue: QueueId,
    /// Its class there.
    pub priority: Priority,
    /// When it began to wait; a call that comes back keeps it.
    pub enqueued: EpochMs,
    /// When it came into this queue.
    pub joined: EpochMs,
    /// What it asks of an agent.
    pub wishes: Skills,
    /// Offers that were made of it.
    pub tries: u32,
    /// Offers of it that ended without anybody's doing: a join that failed, a leg that was lost.
    pub crashes: u32,
    /// Queues that it has overflowed from.
    pub hops: u8,
    /// Agents that it is not offered to for a while. Not kept over a change of the leader.
    pub avoid: BTreeMap<AgentId, EpochMs>,
    /// Where it is in its life.
    pub stage: Stage,
}

/// Where a call is in its life. Its end has no stage: the call is gone then, and an event tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In its place, with nobody.
    Waiting,
    /// In its place, and at least one agent is asked to take it.
    Offered {
        /// These; never empty.
        offers: BTreeSet<OfferId>,
    },
    /// An agent has answered, and is being joined.
    Connecting {
        /// The one offer that was answered.
        offer: OfferId,
    },
    /// With an agent.
    Connected {
        /// The offer.
        offer: OfferId,
        /// Since when.
        since: EpochMs,
    },
    /// On the way to where nobody's agent is needed; its channel leaves the application then.
    Treated {
        /// Where.
        treatment: TreatmentId,
        /// Why.
        why: TreatedFor,
        /// The extension, if it is another than that of the treatment.
        extension: Option<Box<str>>,
    },
    /// The agent is gone, or has never come: its channel is being hung up.
    Ending {
        /// How it will be said to have ended.
        reason: DoneReason,
        /// The Q.850 cause that it is hung up with.
        cause: u16,
    },
}

impl Stage {
    /// The words for all of them.
    pub const WORDS: [&str; 6] = ["waiting", "offered", "connecting", "connected", "treated", "ending"];

    /// The word for it in protocol and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Offered { .. } => "offered",
            Stage::Connecting { .. } => "connecting",
            Stage::Connected { .. } => "connected",
            Stage::Treated { .. } => "treated",
            Stage::Ending { .. } => "ending",
        }
    }

    /// The offers of the call that it names.
    pub fn offers(&self) -> impl Iterator<Item = &OfferId> {
        let (many, one) = match self {
            Stage::Offered { offers } => (Some(offers), None),
            Stage::Connecting { offer } | Stage::Connected { offer, .. } => (None, Some(offer)),
            Stage::Waiting | Stage::Treated { .. } | Stage::Ending { .. } => (None, None),
        };
        many.into_iter().flatten().chain(one)
    }

    /// Whether it has a place in its queue.
    pub fn is_in_line(&self) -> bool {
        match self {
            Stage::Waiting | Stage::Offered { .. } => true,
            Stage::Connecting { .. }
            | Stage::Connected { .. }
            | Stage::Treated { .. }
            | Stage::Ending { .. } => false,
        }
    }
}

/// Why a call gets a treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreatedFor {
    /// The queue had no room for it.
    Full,
    /// Nobody was there to take it when it came.
    JoinEmpty,
    /// Everybody left while it waited.
    LeaveEmpty,
    /// It waited as long as the queue lets a call wait.
    LongestWait,
    /// It was offered as often as the queue lets a call be offered, or offers of it crashed.
    Exhausted,
    /// There is no such queue, or no longer.
    NoQueue,
    /// It was asked for by name.
    Asked,
    /// An agent has passed the caller on to a number.
    Transferred,
}

impl TreatedFor {
    /// All of them.
    pub const ALL: [TreatedFor; 8] = [
        TreatedFor::Full,
        TreatedFor::JoinEmpty,
        TreatedFor::LeaveEmpty,
        TreatedFor::LongestWait,
        TreatedFor::Exhausted,
        TreatedFor::NoQueue,
        TreatedFor::Asked,
        TreatedFor::Transferred,
    ];

    /// Those that a queue says something about: who asks for a treatment names it.
    pub const OF_QUEUE: [TreatedFor; 6] = [
        TreatedFor::Full,
        TreatedFor::JoinEmpty,
        TreatedFor::LeaveEmpty,
        TreatedFor::LongestWait,
        TreatedFor::Exhausted,
        TreatedFor::NoQueue,
    ];

    /// The word for it in protocol and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            TreatedFor::Full => "full",
            TreatedFor::JoinEmpty => "join-empty",
            TreatedFor::LeaveEmpty => "leave-empty",
            TreatedFor::LongestWait => "longest-wait",
            TreatedFor::Exhausted => "exhausted",
            TreatedFor::NoQueue => "no-queue",
            TreatedFor::Asked => "asked",
            TreatedFor::Transferred => "transferred",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoneReason {
    /// The caller hung up before an agent was there.
    Abandoned,
    /// It was with an agent, and the caller hung up.
    CallerHungUp,
    /// It was with an agent, and the agent hung up.
    AgentHungUp,
    /// It went to a treatment.
    Treated,
    /// An agent had made it, to ask before a transfer; the caller has its place now.
    Transferred,
    /// Its node died.
    NodeLost,
    /// It ended while nobody looked.
    Unseen,
}

impl DoneReason {
    /// All of them.
    pub const ALL: [DoneReason; 7] = [
        DoneReason::Abandoned,
        DoneReason::CallerHungUp,
        DoneReason::AgentHungUp,
        DoneReason::Treated,
        DoneReason::Transferred,
        DoneReason::NodeLost,
        DoneReason::Unseen,
    ];

    /// The word for it in protocol and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            DoneReason::Abandoned => "abandoned",
            DoneReason::CallerHungUp => "caller-hung-up",
            DoneReason::AgentHungUp => "agent-hung-up",
            DoneReason::Treated => "treated",
            DoneReason::Transferred => "transferred",
            DoneReason::NodeLost => "node-lost",
            DoneReason::Unseen => "unseen",
        }
    }
}
