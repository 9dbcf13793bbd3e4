//! Agents: people who take calls, reachable at an address-of-record on a Kamailio.

use super::id::{AgentId, OfferId, ProxyId, QueueId};
use super::matching::{Membership, Skills};
use super::time::EpochMs;
use super::uri::NodeUri;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest address-of-record, in bytes.
const ADDRESS_MAX: usize = 200;

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
    /// Calls of the phone that no offer brought, at most [`OWN_CALLS_MAX`].
    pub own_calls: BTreeMap<OwnCallId, OwnCall>,
}

/// Own calls that are counted of one agent at most; more make nobody busier.
pub const OWN_CALLS_MAX: usize = 8;

/// Names an own call: derived from its Call-ID.
pub type OwnCallId = Arc<str>;

/// A call of an agent's phone that no offer brought: it has made it, or somebody has called it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCall {
    /// The Kamailio that has its dialog.
    pub proxy: ProxyId,
    /// When it began.
    pub since: EpochMs,
}

impl Agent {
    /// The words for what an agent does: those of the states, and `in-use`.
    pub const WORDS: [&str; 7] = ["offline", "ready", "offered", "talking", "wrap-up", "paused", "in-use"];

    /// The word for what the agent does: that of the state, but for who could be asked and has a call.
    pub fn word(&self) -> &'static str {
        match self.state {
            AgentState::Ready { .. } if self.is_in_use() => "in-use",
            AgentState::Offline
            | AgentState::Ready { .. }
            | AgentState::Offered { .. }
            | AgentState::Talking { .. }
            | AgentState::WrapUp { .. }
            | AgentState::Paused { .. } => self.state.as_str(),
        }
    }

    /// Whether the phone has a call that no offer brought.
    pub fn is_in_use(&self) -> bool {
        !self.own_calls.is_empty()
    }
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
    /// The words for all of them.
    pub const WORDS: [&str; 6] = ["offline", "ready", "offered", "talking", "wrap-up", "paused"];

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

/// The address-of-record of an agent: `user@host`, of characters that a dial string takes as they are. The host is kept in lower case:
/// hosts are compared so, and users are not (RFC 3261 §19.1.4).
///
/// # Errors
/// How it is to be written.
pub fn address(text: &str) -> Result<Arc<str>, String> {
    let wanted = || {
        format!(
            "write user@host, at most {ADDRESS_MAX} bytes, without sip: and port; the user has letters, digits, '.', '_', '-', '+', '~', '*' and '!'"
        )
    };
    let (user, host) = text.rsplit_once('@').ok_or_else(wanted)?;
    let user_fits =
        !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+~*!".contains(&b));
    let place: NodeUri = format!("sip:{host}").parse().map_err(|_| wanted())?;
    if !user_fits || text.len() > ADDRESS_MAX || host.contains(';') || place.port().is_some() {
        return Err(wanted());
    }
    Ok(format!("{user}@{}", host.to_ascii_lowercase()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_record_are_a_user_and_a_host() {
        for (text, kept) in [
            ("agent17@example.com", "agent17@example.com"),
            ("Ann.Lee+1@EXAMPLE.com", "Ann.Lee+1@example.com"),
            ("17@10.0.0.1", "17@10.0.0.1"),
            ("17@[2001:DB8::1]", "17@[2001:db8::1]"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(kept));
        }
        for bad in [
            "",
            "agent17",
            "@example.com",
            "agent17@",
            "sip:agent17@example.com",
            "agent17@example.com:5060",
            "agent17@example.com;transport=tcp",
            "agent 17@example.com",
            "a/b@example.com",
            "a&b@example.com",
            "a@b@example.com",
            "agent17@exa mple.com",
            "agent17@example.com\r\n",
            "ägent@example.com",
            &format!("{}@example.com", "a".repeat(189)),
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }
}
