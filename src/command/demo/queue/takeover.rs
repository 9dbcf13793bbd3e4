//! The leader is killed: who stood in line before, who stands there afterwards, and whether that is as it should be.

use super::people::People;
use crate::domain::time::EpochMs;
use crate::wire::queue_api::CallInfo;
use std::collections::{BTreeMap, BTreeSet};

/// How many of the line are shown.
const SHOWN: usize = 5;

/// A change of the leader.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// When the leader was killed, on the demo's watch.
    pub killed_ms: u64,
    /// And on the clock of the store.
    pub killed_at: EpochMs,
    /// The line before, first to last.
    pub before: Vec<CallInfo>,
    /// Who talked then.
    pub talking: BTreeSet<String>,
    /// After so long somebody else led.
    pub led_after_ms: Option<u64>,
    /// The line was compared.
    pub compared: bool,
    /// Talks that went on from before to after.
    pub talks_through: usize,
}

/// The calls that have a place in line, in its order.
pub fn line(mut calls: Vec<CallInfo>) -> Vec<CallInfo> {
    calls.retain(|call| call.position.is_some());
    calls.sort_by_key(|call| call.position);
    calls
}

/// The first of a line.
pub fn first(line: &[CallInfo]) -> String {
    let numbers: Vec<&str> = line.iter().take(SHOWN).map(|call| call.caller.number.as_str()).collect();
    if numbers.is_empty() { "nobody".to_owned() } else { numbers.join(" ") }
}

impl TakeOver {
    /// Compares the line before with what is known now: what is wrong.
    pub fn compare(&mut self, people: &People, calls: &[CallInfo]) -> Vec<String> {
        let mut wrong = Vec::new();
        let now: BTreeMap<&str, &CallInfo> =
            calls.iter().map(|call| (call.caller.sip_call_id.as_str(), call)).collect();
        for before in &self.before {
            let (call, number) = (before.caller.sip_call_id.as_str(), &before.caller.number);
            match now.get(call) {
                Some(after) if after.enqueued_ms != before.enqueued_ms => wrong.push(format!(
                    "{number} had waited since {}, and after the take-over since {}",
                    before.enqueued_ms, after.enqueued_ms
                )),
                // Whoever waits now, by the node's word, has waited all the time.
                None if people.is_waiting(call) => {
                    wrong.push(format!("{number} waits, and is in line no longer after the take-over"));
                }
                Some(_) | None => {}
            }
        }
        wrong.extend(out_of_order(&self.before, &line(calls.to_vec())));
        self.talks_through = people.ledger.talking().intersection(&self.talking).count();
        self.compared = true;
        wrong
    }
}

/// Whether those who were there before stand in the same order, and before everybody else.
pub(super) fn out_of_order(before: &[CallInfo], after: &[CallInfo]) -> Option<String> {
    let places: BTreeMap<&str, usize> =
        before.iter().enumerate().map(|(at, c)| (c.id.as_str(), at)).collect();
    let order: Vec<usize> =
        after.iter().map(|call| places.get(call.id.as_str()).copied().unwrap_or(usize::MAX)).collect();
    let wrong = order.windows(2).any(|pair| matches!(pair, [a, b] if a > b));
    wrong.then(|| format!("the line was {}, and is {} after the take-over", first(before), first(after)))
}
