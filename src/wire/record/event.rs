//! Events of a cell, as its outbox holds them: one JSON object a line, with `at` (epoch ms) and `event`, which says what the
//! other members are.

use crate::domain::controller::{Event, Said, What};
use serde_json::{Value, json};

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
        What::OfferEnded { offer, call, agent, how } => (
            "offer-ended",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "how": how.as_str()}),
        ),
        What::Connected { offer, call, agent, waited_ms } => (
            "connected",
            json!({"offer": offer.as_str(), "call": call.as_str(), "agent": agent.as_str(), "waited_ms": waited_ms}),
        ),
        What::Treated { call, treatment, why } => (
            "treated",
            json!({"call": call.as_str(), "treatment": treatment.as_ref().map(|t| t.as_str()), "why": why.as_str()}),
        ),
        What::Done { call, queue, reason } => {
            ("done", json!({"call": call.as_str(), "queue": queue.as_str(), "reason": reason.as_str()}))
        }
        What::Agent { agent, state } => ("agent", json!({"agent": agent.as_str(), "state": state})),
        What::Command { key, said } => ("command", json!({"key": key.as_ref(), "said": said_word(*said)})),
    };
    if let Value::Object(members) = &mut body {
        members.insert("at".to_owned(), event.at.0.into());
        members.insert("event".to_owned(), name.into());
    }
    body.to_string()
}

fn said_word(said: Said) -> &'static str {
    match said {
        Said::Done => "done",
        Said::Already => "already",
        Said::NoAgent => "no-agent",
        Said::NoCall => "no-call",
        Said::NoQueue => "no-queue",
        Said::NoTreatment => "no-treatment",
        Said::TooLate => "too-late",
        Said::NodeAway => "node-away",
        Said::LoggedOut => "logged-out",
        Said::Malformed => "malformed",
    }
}
