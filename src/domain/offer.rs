//! Offers: each is one attempt to bring one call to one agent, and owns the one leg that is made for it.

use super::agent::{AgentState, Then};
use super::call::Channel;
use super::id::{AgentId, CallId, OfferId, ProxyId, QueueId};
use super::time::EpochMs;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id: no other offer has ever had it.
    pub id: OfferId,
    /// The call that is offered.
    pub call: CallId,
    /// The agent who is asked.
    pub agent: AgentId,
    /// The queue on whose behalf.
    pub queue: QueueId,
    /// The leg: on the caller's node, with an id that follows from the offer's.
    pub leg: Channel,
    /// The Kamailio through which the agent is reached.
    pub proxy: ProxyId,
    /// When it was made.
    pub made: EpochMs,
    /// Where it is in its life.
    pub stage: OfferStage,
}

impl Offer {
    /// The state of its agent while it is there; `then` is what comes afterwards.
    pub fn claim(&self, then: Then) -> AgentState {
        let offer = self.id.clone();
        match self.stage {
            OfferStage::Joined { .. } => AgentState::Talking { offer, then },
            OfferStage::Making
            | OfferStage::Ringing { .. }
            | OfferStage::Announcing { .. }
            | OfferStage::Connecting { .. }
            | OfferStage::Ending { .. } => AgentState::Offered { offer, then },
        }
    }
}

/// Where an offer is in its life. When its leg's end was seen it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferStage {
    /// The leg is being made: the node has not said yet that there is one.
    Making,
    /// The leg is there, and rings or is about to.
    Ringing {
        /// The agent has so long.
        until: EpochMs,
    },
    /// The agent has answered, and hears what the queue announces; the caller waits on.
    Announcing {
        /// Then they are joined, heard to the end or not.
        until: EpochMs,
    },
    /// The agent has answered; caller and leg are being joined.
    Connecting {
        /// If nothing is heard of it until then, it is tried again.
        again: EpochMs,
        /// How often it was tried.
        tries: u32,
    },
    /// They talk.
    Joined {
        /// Since when.
        since: EpochMs,
    },
    /// It has come to nothing, or is over, and the end of its leg has not been seen.
    Ending {
        /// How it came to that.
        why: OfferEnd,
        /// The leg is dropped once more at that time.
        again: EpochMs,
    },
}

impl OfferStage {
    /// The words for all of them.
    pub const WORDS: [&str; 6] = ["making", "ringing", "announcing", "connecting", "joined", "ending"];

    /// Whether there may be a bridge of it, with nobody having asked for its end.
    pub fn had_bridge(&self) -> bool {
        match self {
            OfferStage::Connecting { .. } | OfferStage::Joined { .. } => true,
            OfferStage::Making
            | OfferStage::Ringing { .. }
            | OfferStage::Announcing { .. }
            | OfferStage::Ending { .. } => false,
        }
    }

    /// The word for it in protocol and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            OfferStage::Making => "making",
            OfferStage::Ringing { .. } => "ringing",
            OfferStage::Announcing { .. } => "announcing",
            OfferStage::Connecting { .. } => "connecting",
            OfferStage::Joined { .. } => "joined",
            OfferStage::Ending { .. } => "ending",
        }
    }
}

/// How an offer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfferEnd {
    /// The agent took the call; it is over.
    Taken,
    /// The agent took the call, and has passed it on.
    Transferred,
    /// The agent did not answer in time.
    NoAnswer,
    /// 486, 600: the phone is in another call.
    Busy,
    /// 603 and other refusals: the agent does not want it.
    Refused,
    /// 404, 410, 480: the address-of-record has no phone at present.
    Unregistered,
    /// 408, 5xx: the phone or the way to it does not answer.
    Unreachable,
    /// The Kamailio did not let it pass: its token was void.
    Fenced,
    /// The caller hung up, or was moved.
    Withdrawn,
    /// Another agent was quicker.
    Superseded,
    /// Agent and caller could not be joined.
    JoinFailed,
    /// Its leg was never made, or vanished unseen.
    Lost,
}

impl OfferEnd {
    /// All of them.
    pub const ALL: [OfferEnd; 12] = [
        OfferEnd::Taken,
        OfferEnd::Transferred,
        OfferEnd::NoAnswer,
        OfferEnd::Busy,
        OfferEnd::Refused,
        OfferEnd::Unregistered,
        OfferEnd::Unreachable,
        OfferEnd::Fenced,
        OfferEnd::Withdrawn,
        OfferEnd::Superseded,
        OfferEnd::JoinFailed,
        OfferEnd::Lost,
    ];

    /// The word for it in protocol and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            OfferEnd::Taken => "taken",
            OfferEnd::Transferred => "transferred",
            OfferEnd::NoAnswer => "no-answer",
            OfferEnd::Busy => "busy",
            OfferEnd::Refused => "refused",
            OfferEnd::Unregistered => "unregistered",
            OfferEnd::Unreachable => "unreachable",
            OfferEnd::Fenced => "fenced",
            OfferEnd::Withdrawn => "withdrawn",
            OfferEnd::Superseded => "superseded",
            OfferEnd::JoinFailed => "join-failed",
            OfferEnd::Lost => "lost",
        }
    }
}
