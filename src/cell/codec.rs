//! Between what the pilot says and what the store keeps: records, events and commands become text, and are read again.

use super::pilot::{Commit, Found, Letter};
use crate::domain::controller::{self, Command};
use crate::store::cell::{Batch, Change, Opened, Place, Sent};
use crate::wire::record::{self, RecordError};
use std::sync::Arc;

/// A batch as the store takes it.
pub fn batch(commit: &Commit) -> Batch {
    Batch {
        epoch: commit.epoch,
        seq: commit.seq,
        rewrite: commit.rewrite,
        changes: commit.changes.iter().map(change).collect(),
        cursor: commit.cursor,
        clock: commit.clock,
    }
}

fn change(change: &controller::Change) -> Change {
    use controller::Change as From;
    match change {
        From::Call(call) => Change::Put { name: record::call_name(&call.id), text: record::write_call(call) },
        From::CallGone(id) => Change::Delete { name: record::call_name(id) },
        From::Agent(agent) => {
            Change::Put { name: record::agent_name(&agent.id), text: record::write_agent(agent) }
        }
        From::AgentGone(id) => Change::Delete { name: record::agent_name(id) },
        From::Rules(id, rules) => {
            Change::Put { name: record::rules_name(id), text: record::write_rules(rules) }
        }
        From::RulesGone(id) => Change::Delete { name: record::rules_name(id) },
        From::Queue(id, rules) => {
            Change::Put { name: record::queue_name(id), text: record::write_queue(rules) }
        }
        From::QueueGone(id) => Change::Delete { name: record::queue_name(id) },
        From::Offer(offer) => {
            Change::Put { name: record::offer_name(&offer.id), text: record::write_offer(offer) }
        }
        From::OfferGone(id) => Change::Delete { name: record::offer_name(id) },
        From::Place { queue, call, priority, enqueued } => Change::Place {
            queue: queue.clone(),
            call: call.as_str().to_owned(),
            place: Place { priority: priority.get(), enqueued: *enqueued },
        },
        From::Leave { queue, call } => Change::Leave { queue: queue.clone(), call: call.as_str().to_owned() },
        From::Issue(offer) => Change::Issue { offer: offer.as_str().to_owned() },
        From::Revoke(offer) => Change::Revoke { offer: offer.as_str().to_owned() },
        From::Event(event) => Change::Event { text: record::write_event(event) },
    }
}

/// What a new leader finds, and why some of it cannot be read.
pub fn found(opened: Opened) -> (Found, Vec<RecordError>) {
    match opened {
        Opened::Fenced { .. } => (Found::Fenced, Vec::new()),
        Opened::Here(image) => {
            let (saved, errors) = record::read_all(&image.records);
            let found = Found::Here {
                before: image.before,
                seq: image.seq,
                cursor: image.cursor,
                clock: image.clock,
                whole: image.whole,
                saved,
                damaged: u32::try_from(errors.len()).unwrap_or(u32::MAX),
            };
            (found, errors)
        }
    }
}

/// A command as it came out of the inbox.
pub fn letter(sent: Sent) -> Letter {
    Letter {
        position: sent.position,
        key: Arc::from(sent.key),
        command: record::read_command(&sent.text).ok(),
    }
}

/// A command as it goes into the inbox.
pub fn command(command: &Command) -> String {
    record::write_command(command)
}
