//! A node's definition as text: JSON, the same in every store that outlives the process.

use super::NodeRecord;
use crate::domain::id::Slot;
use crate::domain::node::{CAPACITY_MAX, Node};
use crate::domain::time::EpochMs;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

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
pub(super) fn write(record: &NodeRecord) -> String {
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

/// Reads a definition, and names what is wrong with it.
pub(super) fn read(json: &str) -> Result<NodeRecord, String> {
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
