//! What is written in the values: definitions of nodes, lists of slots, tables of loads.

use super::conn::Reply;
use super::layout::Layout;
use crate::domain::id::Slot;
use crate::domain::node::{CAPACITY_MAX, Node};
use crate::domain::pool::Loaded;
use crate::domain::time::EpochMs;
use crate::store::{NodeRecord, StoreError, View};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

const OP: &str = "view";

/// A node's definition as it stands in the store. Members that this version does not know are for a newer one.
#[derive(Serialize, Deserialize)]
struct Definition {
    id: String,
    slot: u16,
    uri: String,
    capacity: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_digest: Option<String>,
    since: u64,
}

/// Writes a definition.
pub(super) fn definition(record: &NodeRecord) -> String {
    let node = &record.node;
    let definition = Definition {
        id: node.id.to_string(),
        slot: node.slot.0,
        uri: node.uri.as_str().to_owned(),
        capacity: node.capacity,
        zone: node.zone.as_ref().map(ToString::to_string),
        tags: node.tags.iter().map(ToString::to_string).collect(),
        state: node.state.as_str().to_owned(),
        file_digest: record.file_digest.clone(),
        since: record.since.0,
    };
    // Strings and numbers only: there is nothing in it that cannot be written.
    serde_json::to_string(&definition).unwrap_or_default()
}

fn read_definition(json: &str) -> Result<NodeRecord, String> {
    let definition: Definition = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let of = |e: &dyn Display| format!("node {:?}: {e}", definition.id);
    fn parse<T: FromStr>(text: &str, of: impl Fn(&dyn Display) -> String) -> Result<T, String>
    where
        T::Err: Display,
    {
        text.parse().map_err(|e: T::Err| of(&e))
    }
    if !(1..=CAPACITY_MAX).contains(&definition.capacity) {
        return Err(of(&format_args!("capacity {} is not 1 … {CAPACITY_MAX}", definition.capacity)));
    }
    if definition.slot >= Slot::COUNT {
        return Err(of(&format_args!("slot {} is not 0 … {}", definition.slot, Slot::COUNT - 1)));
    }
    let node = Node {
        id: parse(&definition.id, of)?,
        slot: Slot(definition.slot),
        uri: parse(&definition.uri, of)?,
        capacity: definition.capacity,
        zone: definition.zone.as_deref().map(|zone| parse(zone, of)).transpose()?,
        tags: definition.tags.iter().map(|tag| parse(tag, of)).collect::<Result<_, _>>()?,
        state: parse(&definition.state, of)?,
    };
    Ok(NodeRecord {
        node: Arc::new(node),
        file_digest: definition.file_digest,
        since: EpochMs(definition.since),
    })
}

/// A view that has the definitions, and no loads yet.
pub(super) fn view(
    layout: &Layout,
    version: i64,
    at: i64,
    definitions: &[Reply],
) -> Result<View, StoreError> {
    let damaged = |cause: String| StoreError::Damaged { op: OP, key: layout.keys.node.clone(), cause };
    let mut nodes = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let json = definition.text().ok_or_else(|| damaged("a definition is no text".to_owned()))?;
        nodes.push(read_definition(json).map_err(damaged)?);
    }
    let version = u64::try_from(version).map_err(|_| damaged(format!("version {version}")))?;
    if version == 0 {
        nodes.clear();
    }
    nodes.sort_by_key(|record| record.node.slot);
    Ok(View { version, nodes, loaded: Vec::new(), at: time(at) })
}

/// The view `known` with the loads of `table`: slot, load, touched, slot, load, touched, …
pub(super) fn reload(layout: &Layout, known: &View, at: i64, table: &[Reply]) -> Result<View, StoreError> {
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
    Ok(View { version: known.version, nodes: known.nodes.clone(), loaded, at: time(at) })
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
