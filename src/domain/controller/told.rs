//! What the controller tells: events, and what came of commands.

use crate::domain::call::{DoneReason, TreatedFor};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId, TreatmentId};
use crate::domain::offer::OfferEnd;
use crate::domain::time::EpochMs;
use std::sync::Arc;

/// What is told to whoever wants to know. Written with the change that it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: EpochMs,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A call has come to stand in a queue.
    Enqueued {
        /// The call.
        call: CallId,
        /// The queue.
        queue: QueueId,
    },
    /// A call was offered to an agent.
    Offered {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// The queue.
        queue: QueueId,
        /// How long it has waited, in ms.
        waited_ms: u64,
    },
    /// An offer has ended.
    OfferEnded {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// The queue on whose behalf.
        queue: QueueId,
        /// How.
        how: OfferEnd,
    },
    /// Caller and agent talk.
    Connected {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// The queue on whose behalf.
        queue: QueueId,
        /// How long the caller has waited, in ms; `None`: not at all, another agent has brought them here.
        waited_ms: Option<u64>,
    },
    /// An agent has passed a caller on.
    Transferred {
        /// The agent's offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// Where to: `queue care`, `agent bob`, `number +49301234`, `call ast1-1`, `place of 1732382400.7`.
        to: Box<str>,
    },
    /// A call leaves its queue for a treatment.
    Treated {
        /// The call.
        call: CallId,
        /// The queue that did not serve it.
        queue: QueueId,
        /// Where to; `None`: the last resort.
        treatment: Option<TreatmentId>,
        /// Why.
        why: TreatedFor,
    },
    /// A call is over.
    Done {
        /// The call.
        call: CallId,
        /// The queue that it was in last.
        queue: QueueId,
        /// How.
        reason: DoneReason,
    },
    /// An agent's state has changed.
    Agent {
        /// The agent.
        agent: AgentId,
        /// The word for the state.
        state: &'static str,
    },
    /// A command was carried out, or not.
    Command {
        /// Which.
        key: Arc<str>,
        /// What came of it.
        said: Said,
    },
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done.
    Done,
    /// It was so before.
    Already,
    /// Nobody of that name.
    NoAgent,
    /// No such call.
    NoCall,
    /// No such queue.
    NoQueue,
    /// No such treatment.
    NoTreatment,
    /// The call is with an agent, or on its way out.
    TooLate,
    /// The call's node is not heard at present.
    NodeAway,
    /// The agent is not logged in.
    LoggedOut,
    /// The configuration lays this agent or queue down: it is changed there.
    InFile,
    /// Another agent has this address-of-record.
    AorTaken,
    /// There are too many agents already.
    Full,
    /// There are too many queues already.
    QueuesFull,
    /// It could not be read.
    Malformed,
}

impl Said {
    /// All of them.
    pub const ALL: [Said; 14] = [
        Said::Done,
        Said::Already,
        Said::NoAgent,
        Said::NoCall,
        Said::NoQueue,
        Said::NoTreatment,
        Said::TooLate,
        Said::NodeAway,
        Said::LoggedOut,
        Said::InFile,
        Said::AorTaken,
        Said::Full,
        Said::QueuesFull,
        Said::Malformed,
    ];

    /// The word for it in protocol and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Said::Done => "done",
            Said::Already => "already",
            Said::NoAgent => "no-agent",
            Said::NoCall => "no-call",
            Said::NoQueue => "no-queue",
            Said::NoTreatment => "no-treatment",
            Said::TooLate => "too-late",
            Said::NodeAway => "node-away",
            Said::LoggedOut => "logged-out",
            Said::InFile => "in-file",
            Said::AorTaken => "aor-taken",
            Said::Full => "full",
            Said::QueuesFull => "queues-full",
            Said::Malformed => "malformed",
        }
    }
}
