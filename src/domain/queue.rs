//! Queues: named lines of waiting calls, and their rules.

use super::agent::AgentRules;
use super::call::TreatedFor;
use super::id::{AgentId, QueueId, TreatmentId};
use super::matching::MatchRules;
use std::collections::BTreeMap;

/// A call overflows from queue to queue at most so often; then it is hung up with [`CAUSE_NO_WAY_OUT`].
pub const HOPS_MAX: u8 = 8;

/// Q.850 cause 42, "switching equipment congestion": there is nowhere left to send a caller.
pub const CAUSE_NO_WAY_OUT: u16 = 42;

/// Q.850 cause 16, "normal call clearing".
pub const CAUSE_NORMAL: u16 = 16;

/// What is laid down for a queue. Every time is in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// Who gets which call.
    pub matching: MatchRules,
    /// Calls that may wait in it.
    pub waiting_max: usize,
    /// How long a call may wait in it.
    pub wait_max_ms: u64,
    /// How often a call may be offered in it; ring-all counts as one.
    pub offers_max: u32,
    /// How long an agent's phone rings.
    pub ring_ms: u64,
    /// How long a call is not offered again to an agent who missed or refused it.
    pub pass_over_ms: u64,
    /// Rest after a call.
    pub wrap_up_ms: u64,
    /// Longest talk; the node ends it.
    pub talk_max_ms: u64,
    /// Who has to be there for a call to be let in.
    pub join: Presence,
    /// Who has to be there for a call to stay.
    pub stay: Presence,
    /// When a caller is answered.
    pub answering: Answering,
    /// Music class of the node; empty: the node's default.
    pub music: Box<str>,
    /// Where calls go that this queue does not serve; where a reason is missing, to the setup's last resort.
    pub ends: BTreeMap<TreatedFor, TreatmentId>,
}

/// Which of a queue's agents have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody.
    Any,
    /// One who is logged in, paused or not.
    LoggedIn,
    /// One who is logged in and not paused.
    Unpaused,
}

/// When a caller is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// At entry: billing starts, music is heard by everybody.
    Entry,
    /// When an agent is there; until then it rings.
    Agent,
    /// When an agent is there; until then music is sent as early media.
    Early,
}

/// Where a call goes that no agent takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// To another queue; the call keeps its time and priority.
    Overflow(QueueId),
    /// To a place in the node's dialplan: an announcement, voicemail, a number.
    Dialplan {
        /// The context.
        context: Box<str>,
        /// The extension.
        extension: Box<str>,
    },
    /// It is hung up, with this Q.850 cause.
    HangUp {
        /// 1 … 127.
        cause: u16,
    },
}

/// Everything that is laid down for a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Its queues.
    pub queues: BTreeMap<QueueId, QueueRules>,
    /// Its agents.
    pub agents: BTreeMap<AgentId, AgentRules>,
    /// Where calls can go.
    pub treatments: BTreeMap<TreatmentId, Treatment>,
    /// For calls that no queue says anything about; not among `treatments`: hung up with [`CAUSE_NO_WAY_OUT`].
    pub last_resort: Option<TreatmentId>,
}
