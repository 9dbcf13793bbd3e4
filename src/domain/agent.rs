//! Agents: people who take calls, reachable at an address-of-record on a Kamailio.

use super::id::{AgentId, OfferId, ProxyId, QueueId};
use super::matching::{Membership, Skills};
use super::time::EpochMs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is laid down for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRules {
    /// The address-of-record, `user@host`.
    pub aor: Arc<str>,
    /// What the agent can do.
    pub skills: Skills,
    /// The queues.
    pub memberships: BTreeMap<QueueId, Membership>,
    /// Rest after each call, in ms; `None`: as the queue says.
    pub wrap_up_ms: Option<u64>,
    /// How long the phone rings, in ms; `None`: as the queue says.
    pub ring_ms: Option<u64>,
    /// After so many missed offers in a row the agent is paused; 0: never.
    pub misses_max: u32,
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Who.
    pub id: AgentId,
    /// What the agent does.
    pub state: AgentState,
    /// Calls taken, of each queue.
    pub taken: BTreeMap<QueueId, u64>,
    /// Offers missed since the last call.
    pub misses: u32,
    /// When the last call ended, or the agent came: the longest idle one is asked first.
    pub idle_since: EpochMs,
}

/// What an agent does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Not logged in.
    Offline,
    /// May be asked, from then on: after a busy signal the phone is left alone for a moment.
    Ready {
        /// Not before.
        rests_until: EpochMs,
    },
    /// Asked: there is a leg to the agent's phone, or may be one. This claim ends when the end of that leg is seen, not before.
    Offered {
        /// The offer that the leg belongs to.
        offer: OfferId,
        /// What comes afterwards.
        then: Then,
    },
    /// With a caller.
    Talking {
        /// The offer that the leg belongs to.
        offer: OfferId,
        /// What comes afterwards.
        then: Then,
    },
    /// Not yet ready again after a call.
    WrapUp {
        /// Until then.
        until: EpochMs,
    },
    /// Logged in, and wants no calls.
    Paused {
        /// Why.
        reason: Arc<str>,
    },
}

/// What an agent who has a leg does afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Goes on.
    Ready,
    /// Asked for a pause meanwhile.
    Pause {
        /// Why.
        reason: Arc<str>,
    },
    /// Logged out meanwhile.
    Leave,
}

impl AgentState {
    /// The word for it in protocol and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            AgentState::Offline => "offline",
            AgentState::Ready { .. } => "ready",
            AgentState::Offered { .. } => "offered",
            AgentState::Talking { .. } => "talking",
            AgentState::WrapUp { .. } => "wrap-up",
            AgentState::Paused { .. } => "paused",
        }
    }

    /// The offer that has a claim on the agent.
    pub fn claim(&self) -> Option<&OfferId> {
        match self {
            AgentState::Offered { offer, .. } | AgentState::Talking { offer, .. } => Some(offer),
            AgentState::Offline
            | AgentState::Ready { .. }
            | AgentState::WrapUp { .. }
            | AgentState::Paused { .. } => None,
        }
    }

    /// Whether the agent is logged in, or will be after the present call.
    pub fn is_logged_in(&self) -> bool {
        match self {
            AgentState::Offline => false,
            AgentState::Offered { then, .. } | AgentState::Talking { then, .. } => *then != Then::Leave,
            AgentState::Ready { .. } | AgentState::WrapUp { .. } | AgentState::Paused { .. } => true,
        }
    }

    /// Whether the agent wants calls, now or after the present one.
    pub fn is_unpaused(&self) -> bool {
        match self {
            AgentState::Offline | AgentState::Paused { .. } => false,
            AgentState::Offered { then, .. } | AgentState::Talking { then, .. } => *then == Then::Ready,
            AgentState::Ready { .. } | AgentState::WrapUp { .. } => true,
        }
    }
}

/// That an agent's phone is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The Kamailio that took the REGISTER, through which alone the phone is reached.
    pub proxy: ProxyId,
    /// When it was last refreshed.
    pub at: EpochMs,
}
