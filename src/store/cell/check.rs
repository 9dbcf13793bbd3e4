//! What every store of cells refuses, before it changes anything.

use super::{
    BATCH_MAX, Batch, CALL_ID_BYTES_MAX, Candidate, Change, NAME_BYTES_MAX, NUMBER_MAX, PRIORITY_MAX,
    Register,
};
use crate::store::StoreError;

/// So much of a culprit is shown, in characters.
const SHOWN_MAX: usize = 60;

fn refused(op: &'static str, cause: String) -> StoreError {
    StoreError::Refused { op, cause }
}

/// A name from outside.
pub(in crate::store) fn name(op: &'static str, what: &str, name: &str) -> Result<(), StoreError> {
    within(op, what, name, NAME_BYTES_MAX)
}

fn within(op: &'static str, what: &str, name: &str, most: usize) -> Result<(), StoreError> {
    let cause = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > most {
        format!("has {} bytes; at most {most} are allowed", name.len())
    } else if let Some((at, odd)) = name.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
        format!("has {odd:?} at position {at}; printable ASCII without blanks is allowed")
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < name.len() { "…" } else { "" };
    Err(refused(op, format!("{what} {shown:?}{more} {cause}")))
}

/// A number from a caller.
pub(in crate::store) fn number(op: &'static str, what: &str, number: u64) -> Result<(), StoreError> {
    if number > NUMBER_MAX {
        return Err(refused(op, format!("{what} {number} is more than {NUMBER_MAX}")));
    }
    Ok(())
}

/// An epoch in which somebody leads.
pub(in crate::store) fn epoch(op: &'static str, epoch: u64) -> Result<(), StoreError> {
    if epoch == 0 {
        return Err(refused(op, "epoch 0: nobody leads in it".to_owned()));
    }
    number(op, "epoch", epoch)
}

pub(in crate::store) fn candidate(candidate: &Candidate) -> Result<(), StoreError> {
    name("lead", "the candidate", &candidate.holder)?;
    number("lead", "epoch", candidate.epoch)?;
    number("lead", "ttl_ms", candidate.ttl_ms)
}

pub(in crate::store) fn register(register: &Register) -> Result<(), StoreError> {
    const OP: &str = "register";
    name(OP, "the address-of-record", &register.aor)?;
    within(OP, "the Call-ID", &register.call_id, CALL_ID_BYTES_MAX)?;
    number(OP, "expires_ms", register.expires_ms)
}

pub(in crate::store) fn batch(batch: &Batch) -> Result<(), StoreError> {
    const OP: &str = "commit";
    epoch(OP, batch.epoch)?;
    number(OP, "seq", batch.seq)?;
    number(OP, "cursor", batch.cursor.0)?;
    number(OP, "clock", batch.clock.0)?;
    if batch.changes.len() > BATCH_MAX {
        let cause = format!("a batch of {} changes; at most {BATCH_MAX} are allowed", batch.changes.len());
        return Err(refused(OP, cause));
    }
    batch.changes.iter().enumerate().try_for_each(|(at, one)| change(at, one))
}

fn change(at: usize, change: &Change) -> Result<(), StoreError> {
    const OP: &str = "commit";
    let check = |what: &str, text: &str| name(OP, &format!("change {at}: the {what}"), text);
    match change {
        Change::Put { name, text: _ } | Change::Delete { name } => check("record", name),
        Change::Place { queue: _, call, place } => {
            check("call", call)?;
            if place.priority > PRIORITY_MAX {
                let cause = format!(
                    "change {at}: the call {call:?} has priority {}; the highest is {PRIORITY_MAX}",
                    place.priority
                );
                return Err(refused(OP, cause));
            }
            number(OP, &format!("change {at}: the time of call {call:?}:"), place.enqueued.0)
        }
        Change::Leave { queue: _, call } => check("call", call),
        Change::Issue { offer } | Change::Revoke { offer } => check("offer", offer),
        Change::Event { text: _ } => Ok(()),
    }
}
