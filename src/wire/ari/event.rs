//! What a node tells over its websocket.

use super::request::ANNOUNCE_PREFIX;
use super::{ARGUMENT_CODE, ARGUMENT_IN, ARGUMENT_OFFER, ChannelJson, VARIABLES};
use crate::domain::call::Channel;
use crate::domain::controller::{LegEnd, SeenCaller, To, Transfer, offer_of};
use crate::domain::id::{NodeId, OfferId};
use serde::Deserialize;
use std::borrow::Cow;

/// What has happened on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A caller has entered the application.
    Caller {
        /// As the event shows it.
        seen: SeenCaller,
        /// A variable that `channelvars` of the node's `ari.conf` does not name: listings would not show the call's place.
        lacks: Option<&'static str>,
    },
    /// The leg of an offer was answered, and has entered the application.
    LegAnswered {
        /// The offer that its arguments name.
        offer: OfferId,
        /// The leg.
        leg: Channel,
    },
    /// Somebody has dialled a feature code.
    Code {
        /// The channel, not answered yet.
        channel: Channel,
        /// What was dialled.
        code: String,
        /// Who dialled it, as Kamailio has authenticated them; empty: nobody.
        user: String,
        /// The SIP Call-ID.
        sip_call_id: String,
    },
    /// A channel has entered the application that has no business there.
    Stranger {
        /// The channel.
        channel: Channel,
        /// What was said of it.
        arguments: String,
    },
    /// A channel that is no leg has left the application, or is gone.
    Left(Channel),
    /// An agent passes the caller on.
    Transfer(Transfer),
    /// A leg is gone.
    LegEnded {
        /// The leg.
        leg: Channel,
        /// How.
        how: LegEnd,
    },
    /// What was announced on the leg of an offer is over.
    Announced(OfferId),
    /// Another connection has taken the place of this one.
    Replaced,
    /// Nothing that concerns anybody here.
    Other,
}

/// Why a text is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No JSON, or not of the shape that events have.
    #[error("not an event: {0}")]
    Json(String),
    /// A channel's id that no Asterisk makes up, or an event without what it is about.
    #[error("{kind}: {what}")]
    Content {
        /// The type of the event.
        kind: String,
        /// What is wrong.
        what: &'static str,
    },
}

#[derive(Deserialize)]
struct EventJson<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    args: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    channel: Option<ChannelJson<'a>>,
    tech_cause: Option<i64>,
    cause: Option<i64>,
}

/// An event's text, at its longest in an error, in characters.
const SAID_MAX: usize = 120;

impl Event {
    /// Reads the text of an event.
    pub fn read(node: &NodeId, text: &str) -> Result<Event, EventError> {
        // Most events are of no concern: their type is looked at before anything else is taken apart.
        let kind = kind_of(text)?;
        if kind == "PlaybackFinished" {
            return Ok(announced(text)?.map_or(Event::Other, Event::Announced));
        }
        if !matches!(
            kind.as_ref(),
            "StasisStart" | "StasisEnd" | "ChannelDestroyed" | "ChannelTransfer" | "ApplicationReplaced"
        ) {
            return Ok(Event::Other);
        }
        if kind == "ChannelTransfer" {
            return transfer(node, text);
        }
        let event: EventJson<'_> = serde_json::from_str(text).map_err(|error| no_event(&error))?;
        if event.kind == "ApplicationReplaced" {
            return Ok(Event::Replaced);
        }
        let wrong = |what| EventError::Content { kind: event.kind.to_string(), what };
        let json = event.channel.as_ref().ok_or_else(|| wrong("no channel"))?;
        let channel = json.channel(node).ok_or_else(|| wrong("the channel's id is none"))?;
        let is_leg = json.is_leg();
        Ok(match event.kind.as_ref() {
            "StasisStart" => started(node, json, channel, &event.args),
            // A leg does not leave the application but by its end.
            _ if is_leg => {
                Event::LegEnded { leg: channel, how: leg_end(json, event.tech_cause, event.cause) }
            }
            _ => Event::Left(channel),
        })
    }
}

fn started(node: &NodeId, json: &ChannelJson<'_>, channel: Channel, args: &[Cow<'_, str>]) -> Event {
    let mut words = args.iter().map(AsRef::as_ref);
    let found = match words.next() {
        Some(ARGUMENT_IN) => {
            let seen = json.caller(node, words.next().unwrap_or_default());
            let lacks = VARIABLES.into_iter().find(|name| !json.channelvars.contains_key(*name));
            seen.map(|seen| Event::Caller { seen, lacks })
        }
        Some(ARGUMENT_OFFER) => words
            .next()
            .and_then(|word| word.parse().ok())
            // Who names the offer of another channel takes nothing from it.
            .filter(|offer| offer_of(&channel).as_ref() == Some(offer))
            .map(|offer| Event::LegAnswered { offer, leg: channel.clone() }),
        Some(ARGUMENT_CODE) => Some(Event::Code {
            channel: channel.clone(),
            code: super::text(words.next().unwrap_or_default()).into(),
            user: super::text(words.next().unwrap_or_default()).into(),
            sip_call_id: super::text(&json.protocol_id).into(),
        }),
        Some(_) | None => None,
    };
    found.unwrap_or_else(|| Event::Stranger { channel, arguments: super::text(&args.join(",")).into() })
}

#[derive(Deserialize)]
struct TransferJson<'a> {
    /// What this application has told the phone itself comes back as such an event.
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refer_to: Option<ReferToJson<'a>>,
    #[serde(borrow)]
    referred_by: Option<ReferredByJson<'a>>,
}

#[derive(Deserialize)]
struct ReferToJson<'a> {
    #[serde(borrow, default)]
    requested_destination: DestinationJson<'a>,
    #[serde(borrow)]
    destination_channel: Option<ChannelJson<'a>>,
    #[serde(borrow)]
    connected_channel: Option<ChannelJson<'a>>,
}

#[derive(Default, Deserialize)]
struct DestinationJson<'a> {
    #[serde(borrow)]
    destination: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ReferredByJson<'a> {
    #[serde(borrow)]
    source_channel: ChannelJson<'a>,
}

fn transfer(node: &NodeId, text: &str) -> Result<Event, EventError> {
    let wrong = |what| EventError::Content { kind: "ChannelTransfer".to_owned(), what };
    let json: TransferJson<'_> = serde_json::from_str(text).map_err(|error| no_event(&error))?;
    if json.state.is_some() {
        return Ok(Event::Other);
    }
    let by = json.referred_by.ok_or_else(|| wrong("no referred_by"))?.source_channel;
    let leg = by.channel(node).ok_or_else(|| wrong("the channel's id is none"))?;
    let Some(offer) = offer_of(&leg) else {
        // A caller's phone: Asterisk answers that itself.
        return Ok(Event::Other);
    };
    let refer = json.refer_to.ok_or_else(|| wrong("no refer_to"))?;
    let to = match (refer.destination_channel, refer.requested_destination.destination) {
        (Some(channel), _) => {
            let id = |json: ChannelJson<'_>| {
                Ok(json.channel(node).ok_or_else(|| wrong("the other channel's id is none"))?.id)
            };
            To::Place { of: id(channel)?, with: refer.connected_channel.map(id).transpose()? }
        }
        (None, Some(dialled)) if !dialled.is_empty() => To::Dialled(super::text(&dialled)),
        (None, _) => To::Elsewhere,
    };
    Ok(Event::Transfer(Transfer { offer, leg, to }))
}

/// The offer of an announcement that is over; `None`: it is something else that was played.
fn announced(text: &str) -> Result<Option<OfferId>, EventError> {
    #[derive(Deserialize)]
    struct Finished<'a> {
        #[serde(borrow)]
        playback: Playback<'a>,
    }
    #[derive(Deserialize)]
    struct Playback<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    let Finished { playback } = serde_json::from_str(text).map_err(|error| no_event(&error))?;
    Ok(playback.id.strip_prefix(ANNOUNCE_PREFIX).and_then(|offer| offer.parse().ok()))
}

fn kind_of(text: &str) -> Result<Cow<'_, str>, EventError> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Kind<'_>>(text).map(|json| json.kind).map_err(|error| no_event(&error))
}

fn no_event(error: &serde_json::Error) -> EventError {
    EventError::Json(error.to_string().chars().filter(|c| !c.is_control()).take(SAID_MAX).collect())
}

/// How a leg ended: the SIP code of its last reply tells, where there was one (RFC 3261 §21). `cause` is Q.850's.
fn leg_end(json: &ChannelJson<'_>, tech_cause: Option<i64>, cause: Option<i64>) -> LegEnd {
    match (tech_cause.unwrap_or(0), cause.unwrap_or(0)) {
        _ if json.is_up() => LegEnd::HungUp,
        (486 | 600, _) | (0, 17) => LegEnd::Busy,
        (403, _) => LegEnd::Fenced,
        (404 | 410 | 480 | 604, _) | (0, 1 | 20) => LegEnd::Unregistered,
        (487, _) => LegEnd::Cancelled,
        (408 | 500..=599, _) | (0, 3 | 18 | 27 | 34 | 38 | 41 | 42 | 44) => LegEnd::Unreachable,
        (400..=699, _) | (0, 21) => LegEnd::Refused,
        _ => LegEnd::Cancelled,
    }
}
