//! Events of a cell, as its outbox holds them: one JSON object a line, with `at` (epoch ms) and `event`, which says what the
//! other members are.

use super::{name_of, parse, word_of};
use crate::domain::agent::Agent;
use crate::domain::call::{DoneReason, TreatedFor};
use crate::domain::controller::{Event, Said, What};
use crate::domain::offer::OfferEnd;
use crate::domain::time::EpochMs;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Why a text is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event: {0}")]
pub struct EventError(pub String);

/// Members that a later version adds are left out of account, and so `flatten` takes nothing in that should be refused.
#[derive(Deserialize)]
struct Written {
    at: u64,
    #[serde(flatten)]
    what: WrittenWhat,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum WrittenWhat {
    Enqueued { call: String, queue: String },
    Offered { offer: String, call: String, agent: String, queue: String, waited_ms: u64 },
    OfferEnded { offer: String, call: String, agent: String, queue: String, how: String },
    Connected { offer: String, call: String, agent: String, queue: String, waited_ms: Option<u64> },
    Treated { call: String, queue: String, treatment: Option<String>, why: String },
    Transferred { offer: String, call: String, agent: String, to: String },
    Done { call: String, queue: String, reason: String },
    Agent { agent: String, state: String },
    Command { key: String, said: String },
}

/// An event as text.
pub fn write_event(event: &Event) -> String {
    let (name, mut body) = match &event.what {
        What::Enqueued { call, queue } => {
            ("enqueued", json!({"call": call.as_str(), "queue": queue.as_str()}))
        }
        What::Offered { offer, call, agent, queue, waited_ms } => (
            "offered",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "queue": queue.as_str(),
                "waited_ms": waited_ms}),
        ),
        What::OfferEnded { offer, call, agent, queue, how } => (
            "offer-ended",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "queue": queue.as_str(),
                "how": how.as_str()}),
        ),
        What::Connected { offer, call, agent, queue, waited_ms } => (
            "connected",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "queue": queue.as_str(),
                "waited_ms": waited_ms}),
        ),
        What::Treated { call, queue, treatment, why } => (
            "treated",
            json!({"call": call.as_str(), "queue": queue.as_str(), "treatment": treatment.as_ref().map(|t| t.as_str()), "why": why.as_str()}),
        ),
        What::Transferred { offer, call, agent, to } => (
            "transferred",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "to": to}),
        ),
        What::Done { call, queue, reason } => {
            ("done", json!({"call": call.as_str(), "queue": queue.as_str(), "reason": reason.as_str()}))
        }
        What::Agent { agent, state } => ("agent", json!({"agent": agent.as_str(), "state": state})),
        What::Command { key, said } => ("command", json!({"key": key.as_ref(), "said": said.as_str()})),
    };
    if let Value::Object(members) = &mut body {
        members.insert("at".to_owned(), event.at.0.into());
        members.insert("event".to_owned(), name.into());
    }
    body.to_string()
}

/// What sort of event a text says, in lower-case letters and '-'; also of a sort that this version does not know.
pub fn event_word(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Word {
        event: String,
    }
    let Word { event } = serde_json::from_str(text).ok()?;
    let is_word =
        (1..=40).contains(&event.len()) && event.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_word.then_some(event)
}

/// The event that a text says.
pub fn read_event(text: &str) -> Result<Event, EventError> {
    read(text).map_err(EventError)
}

fn read(text: &str) -> Result<Event, String> {
    let Written { at, what } = parse(text)?;
    let what = match what {
        WrittenWhat::Enqueued { call, queue } => {
            What::Enqueued { call: name_of(&call)?, queue: name_of(&queue)? }
        }
        WrittenWhat::Offered { offer, call, agent, queue, waited_ms } => What::Offered {
            offer: name_of(&offer)?,
            call: name_of(&call)?,
            agent: name_of(&agent)?,
            queue: name_of(&queue)?,
            waited_ms,
        },
        WrittenWhat::OfferEnded { offer, call, agent, queue, how } => What::OfferEnded {
            offer: name_of(&offer)?,
            call: name_of(&call)?,
            agent: name_of(&agent)?,
            queue: name_of(&queue)?,
            how: word_of(&how, &OfferEnd::ALL, |how| how.as_str())?,
        },
        WrittenWhat::Connected { offer, call, agent, queue, waited_ms } => What::Connected {
            offer: name_of(&offer)?,
            call: name_of(&call)?,
            agent: name_of(&agent)?,
            queue: name_of(&queue)?,
            waited_ms,
        },
        WrittenWhat::Treated { call, queue, treatment, why } => What::Treated {
            call: name_of(&call)?,
            queue: name_of(&queue)?,
            treatment: treatment.map(|name| name_of(&name)).transpose()?,
            why: word_of(&why, &TreatedFor::ALL, |why| why.as_str())?,
        },
        WrittenWhat::Transferred { offer, call, agent, to } => What::Transferred {
            offer: name_of(&offer)?,
            call: name_of(&call)?,
            agent: name_of(&agent)?,
            to: to.into(),
        },
        WrittenWhat::Done { call, queue, reason } => What::Done {
            call: name_of(&call)?,
            queue: name_of(&queue)?,
            reason: word_of(&reason, &DoneReason::ALL, |reason| reason.as_str())?,
        },
        WrittenWhat::Agent { agent, state } => {
            What::Agent { agent: name_of(&agent)?, state: word_of(&state, &Agent::WORDS, |word| word)? }
        }
        WrittenWhat::Command { key, said } => {
            What::Command { key: Arc::from(key), said: word_of(&said, &Said::ALL, |said| said.as_str())? }
        }
    };
    Ok(Event { at: EpochMs(at), what })
}
