//! A node's definition as text: JSON, the same in every store that outlives the process.

use super::NodeRecord;
use crate::domain::health::{Condition, Health};
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<Known>,
}

/// Health, where there is something to say of it.
#[derive(Serialize, Deserialize)]
struct Known {
    condition: String,
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default)]
    why: String,
    #[serde(default)]
    ejections: u32,
    #[serde(default = "whole")]
    ramp_pm: u32,
    #[serde(default)]
    overruled: bool,
}

fn whole() -> u32 {
    1000
}

impl Known {
    fn of(health: &Health) -> Option<Known> {
        let Health { condition, since, until, why, ejections, ramp_pm, overruled } = health.clone();
        (*health != Health::default()).then(|| Known {
            condition: condition.as_str().to_owned(),
            since: since.0,
            until: until.map(|until| until.0),
            why,
            ejections,
            ramp_pm,
            overruled,
        })
    }

    /// A condition that this version does not know takes nobody out.
    fn read(self) -> Health {
        Health {
            condition: self.condition.parse().unwrap_or(Condition::Up),
            since: EpochMs(self.since),
            until: self.until.map(EpochMs),
            why: self.why,
            ejections: self.ejections,
            ramp_pm: self.ramp_pm.clamp(1, 1000),
            overruled: self.overruled,
        }
    }
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
        health: Known::of(&node.health),
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
        health: definition.health.map(Known::read).unwrap_or_default(),
    };
    Ok(NodeRecord {
        node: Arc::new(node),
        file_digest: definition.file_digest,
        since: EpochMs(definition.since),
    })
}
