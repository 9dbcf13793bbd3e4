//! Asterisk's REST interface (ARI), as text: what a node tells ([`event`]), what it has ([`listing`]), what it is asked
//! ([`request`]), over HTTP or its own connection ([`rest`]). Fields that nobody here reads are passed over, and so are events of other
//! kinds: a later Asterisk may add both.
//!
//! A call's place is noted on its channel, in variables that `channelvars` of `ari.conf` puts into every event and listing:
//!
//! | variable | on | set by |
//! |---|---|---|
//! | `MQS_QUEUE`, `MQS_PRIORITY`, `MQS_WISHES` | the caller | the dialplan |
//! | `MQS_PLACE` = `queue,priority,enqueued in ms` | the caller | the leader; goes before what the dialplan said |
//! | `MQS_LEASE` | the caller | the dialplan, from `X-MQS-Lease` |
//! | `MQS_OFFER`, `MQS_AGENT`, `MQS_CALL`, `MQS_QUEUE` | the leg | the leader |

pub mod event;
pub mod listing;
pub mod request;
pub mod rest;
#[cfg(test)]
mod tests;

use crate::domain::call::{Channel, Identity};
use crate::domain::controller::{LEG_PREFIX, SeenCaller, SeenLeg, offer_of};
use crate::domain::id::{NodeId, QueueId, Skill};
use crate::domain::matching::{Priority, Skills};
use crate::domain::time::EpochMs;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// The first argument of `Stasis()` for a caller.
pub const ARGUMENT_IN: &str = "in";

/// The first argument of a leg; the second is its offer.
pub const ARGUMENT_OFFER: &str = "offer";

/// The first argument of a call to a feature code; the code and the user follow.
pub const ARGUMENT_CODE: &str = "code";

/// All of them: with another one a channel has no business in the application.
const ARGUMENTS: [&str; 3] = [ARGUMENT_IN, ARGUMENT_OFFER, ARGUMENT_CODE];

/// What `channelvars` of a node's `ari.conf` has to name; what costs most when it is missing comes first.
pub const VARIABLES: [&str; 8] = [
    "MQS_AGENT",
    "MQS_CALL",
    "MQS_QUEUE",
    "MQS_PLACE",
    "MQS_LEASE",
    "MQS_PRIORITY",
    "MQS_WISHES",
    "MQS_OFFER",
];

/// Those of them without which a leg is nobody's.
const LEG_VARIABLES: [&str; 3] = ["MQS_AGENT", "MQS_CALL", "MQS_QUEUE"];

/// What it costs that a node does not show one of [`VARIABLES`].
pub fn cost_of_lacking(variable: &str) -> &'static str {
    match variable {
        "MQS_PLACE" => "calls lose their places with their leader",
        "MQS_LEASE" => "leases of calls that go on are ended",
        "MQS_PRIORITY" | "MQS_WISHES" => "callers have neither priorities nor skills",
        "MQS_OFFER" => "legs are known by their names alone",
        _ => {
            "no leg can be made out in a listing: whatever ends unseen there holds its agent and its caller for good"
        }
    }
}

/// Skills that a call asks for, at most; more are left out.
const WISHES_MAX: usize = 32;

/// The longest text that is taken over of a caller, in characters.
const TEXT_MAX: usize = 128;

/// A channel, as events and listings show it.
#[derive(Debug, Deserialize)]
pub(crate) struct ChannelJson<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    state: Cow<'a, str>,
    /// The SIP Call-ID.
    #[serde(borrow, default)]
    protocol_id: Cow<'a, str>,
    #[serde(borrow, default)]
    caller: CallerJson<'a>,
    #[serde(borrow, default)]
    dialplan: DialplanJson<'a>,
    #[serde(borrow, default)]
    channelvars: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
struct CallerJson<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    number: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
struct DialplanJson<'a> {
    #[serde(borrow, default)]
    app_name: Cow<'a, str>,
    #[serde(borrow, default)]
    app_data: Cow<'a, str>,
}

impl ChannelJson<'_> {
    fn var(&self, name: &str) -> &str {
        self.channelvars.get(name).map_or("", |value| value.as_ref())
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.var(name).parse().ok()
    }

    /// `None`: an id that no Asterisk makes up.
    fn channel(&self, node: &NodeId) -> Option<Channel> {
        Some(Channel { node: node.clone(), id: self.id.parse().ok()? })
    }

    fn is_up(&self) -> bool {
        self.state == "Up"
    }

    /// Arguments of `Stasis()`, if the channel is in it now, for this application.
    fn stasis_arguments(&self, app: &str) -> Option<impl Iterator<Item = &str>> {
        if self.dialplan.app_name != "Stasis" {
            return None;
        }
        let mut parts = self.dialplan.app_data.split(',');
        (parts.next()? == app).then_some(parts)
    }

    /// Whether it is the leg of the offer that is noted on it: its name says so, too. A dialplan may note what it likes. On a node that does
    /// not show the note its name alone says so.
    fn is_leg(&self) -> bool {
        let Some(offer) = self.id.strip_prefix(LEG_PREFIX).filter(|offer| !offer.is_empty()) else {
            return false;
        };
        self.channelvars.get("MQS_OFFER").is_none_or(|noted| noted == offer)
    }

    /// A variable of a leg that the node does not show.
    fn leg_lacks(&self) -> Option<&'static str> {
        LEG_VARIABLES.into_iter().find(|name| !self.channelvars.contains_key(*name))
    }

    /// The leg of an offer, by its name, and by what is noted on it.
    fn leg(&self, node: &NodeId) -> Option<SeenLeg> {
        let leg = self.channel(node)?;
        Some(SeenLeg {
            offer: offer_of(&leg)?,
            leg,
            agent: self.parsed("MQS_AGENT")?,
            call: self.parsed("MQS_CALL")?,
            queue: self.parsed("MQS_QUEUE")?,
            up: self.is_up(),
        })
    }

    /// A caller; `asked`: the queue that `Stasis()` was told.
    fn caller(&self, node: &NodeId, asked: &str) -> Option<SeenCaller> {
        let place = place(self.var("MQS_PLACE"));
        let (queue, priority, enqueued) = match place {
            Some((queue, priority, enqueued)) => (Some(queue), priority, Some(enqueued)),
            None => (asked.parse().ok(), self.parsed("MQS_PRIORITY").unwrap_or_default(), None),
        };
        let wishes = self.var("MQS_WISHES").split(',').filter_map(|word| word.trim().parse::<Skill>().ok());
        let identity = Identity {
            name: text(&self.caller.name),
            number: text(&self.caller.number),
            sip_call_id: text(&self.protocol_id),
        };
        Some(SeenCaller {
            channel: self.channel(node)?,
            identity: Arc::new(identity),
            queue,
            priority,
            wishes: wishes.take(WISHES_MAX).collect::<Skills>(),
            enqueued,
        })
    }
}

/// What `MQS_PLACE` says.
fn place(text: &str) -> Option<(QueueId, Priority, EpochMs)> {
    let mut parts = text.split(',');
    let place = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        EpochMs(parts.next()?.parse().ok().filter(|ms| *ms > 0)?),
    );
    parts.next().is_none().then_some(place)
}

/// What is written into `MQS_PLACE`.
pub fn write_place(queue: &QueueId, priority: Priority, enqueued: EpochMs) -> String {
    format!("{queue},{priority},{}", enqueued.0)
}

/// Outside text, fit for a log line and a header: no control characters, and not without end.
fn text(text: &str) -> Box<str> {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}
