//! What is read from the values: definitions of nodes, lists of slots, tables of loads.

use super::conn::Reply;
use super::layout::Layout;
use crate::domain::admission::{Admit, Rate, Usage};
use crate::domain::id::Slot;
use crate::domain::pool::Loaded;
use crate::domain::time::EpochMs;
use crate::store::{Carried, StoreError, View, definition};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

const OP: &str = "view";

/// A view that has the definitions, and no loads yet.
pub(super) fn view(
    layout: &Layout,
    version: i64,
    at: i64,
    history: u64,
    definitions: &[Reply],
) -> Result<View, StoreError> {
    let damaged = |cause: String| StoreError::Damaged { op: OP, key: layout.keys.node.clone(), cause };
    let mut nodes = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let json = definition.text().ok_or_else(|| damaged("a definition is no text".to_owned()))?;
        nodes.push(definition::read(json).map_err(damaged)?);
    }
    let version = u64::try_from(version).map_err(|_| damaged(format!("version {version}")))?;
    if version == 0 {
        nodes.clear();
    }
    nodes.sort_by_key(|record| record.node.slot);
    Ok(View { version, nodes, loaded: Vec::new(), at: time(at), history })
}

/// The view `known` with the loads of `table`: slot, load, touched, slot, load, touched, …
pub(super) fn reload(
    layout: &Layout,
    known: &View,
    at: i64,
    history: u64,
    table: &[Reply],
) -> Result<View, StoreError> {
    let mut rows: HashMap<Slot, (u32, u64)> = HashMap::with_capacity(table.len() / 3);
    for row in table.chunks(3) {
        let [Reply::Int(slot), Reply::Int(load), Reply::Int(touched)] = row else {
            return Err(layout.damaged(OP, "a row of the load table is none"));
        };
        let (Ok(slot), Ok(load), Ok(touched)) =
            (u16::try_from(*slot), u32::try_from(*load), u64::try_from(*touched))
        else {
            return Err(layout.damaged(OP, &format!("the load table says {row:?}")));
        };
        rows.insert(Slot(slot), (load, touched));
    }
    let mut loaded = Vec::with_capacity(known.nodes.len());
    for record in &known.nodes {
        let node = record.node.clone();
        let Some((load, touched)) = rows.get(&node.slot).copied() else {
            // A server that evicts keys: `probe` warns of it.
            return Err(layout.damaged(OP, &format!("node {} is on no shelf", node.id)));
        };
        loaded.push(Loaded { node, load, touched });
    }
    Ok(View { version: known.version, nodes: known.nodes.clone(), loaded, at: time(at), history })
}

/// The number of a history: never 0.
pub(super) fn history(text: &[u8]) -> u64 {
    let hash = Sha256::digest(text);
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
}

/// Reads the leases of a slot: id, state, id, state, …
pub(super) fn carried(reply: &Reply) -> Option<Vec<Carried>> {
    reply
        .list()?
        .chunks(2)
        .map(|row| match row {
            [id @ Reply::Text(_), state @ Reply::Text(_)] => {
                Some(Carried { lease: id.text()?.parse().ok()?, confirmed: state.text()? == "C" })
            }
            _ => None,
        })
        .collect()
}

/// Writes a limit.
pub(super) fn limit(admit: &Admit) -> String {
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let (calls, rate) = (admit.limit.calls.map(u64::from), admit.limit.rate);
    let (interval, tolerance) = (rate.map(|rate| rate.interval_us), rate.map(Rate::tolerance_us));
    format!("{} {} {} {}", admit.scope, number(calls), number(interval), number(tolerance))
}

/// Reads what a limit has used.
pub(super) fn usage(row: &[Reply]) -> Option<Usage> {
    match row {
        [Reply::Int(live), arrival @ Reply::Text(_)] => {
            Some(Usage { live: u32::try_from(*live).ok()?, arrival_us: arrival.text()?.parse().ok()? })
        }
        _ => None,
    }
}

/// Writes a list of slots.
pub(super) fn slots(slots: &[Slot]) -> String {
    slots.iter().map(Slot::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a list of targets, leaving out those that are not known.
pub(super) fn read_slots(text: &str) -> Option<Vec<Slot>> {
    let known = text.split(',').filter(|target| !target.is_empty() && *target != "-");
    known.map(|target| target.parse().ok().map(Slot)).collect()
}

fn time(ms: i64) -> EpochMs {
    EpochMs(u64::try_from(ms).unwrap_or(0))
}
