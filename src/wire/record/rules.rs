//! What is laid down for an agent at run time, in records and commands.

use super::{Kind, More, json, name_of, parse};
use crate::domain::agent::AgentRules;
use crate::domain::id::QueueId;
use crate::domain::matching::{Membership, Skills};
use crate::wire::refusal::BadRequest;
use crate::wire::register::Aor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Queues of one agent, and skills, at most.
const LIST_MAX: usize = 100;

/// The longest time that an agent has peace, in ms.
const WRAP_UP_MAX_MS: u64 = 3_600_000;

/// The longest time that a phone rings, in ms.
const RING_MAX_MS: u64 = 300_000;

/// After how many misses in a row an agent is paused, at most.
const MISSES_MAX: u64 = 100;

/// The highest penalty or weight.
const RANK_MAX: u64 = 1_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WrittenRules {
    aor: String,
    #[serde(default)]
    queues: BTreeMap<String, WrittenMembership>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skills: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrap_up_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ring_ms: Option<u64>,
    #[serde(default)]
    misses_max: u64,
    #[serde(flatten, skip_serializing)]
    more: More,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct WrittenMembership {
    #[serde(default)]
    penalty: u64,
    #[serde(default)]
    weight: u64,
    #[serde(flatten, skip_serializing)]
    more: More,
}

/// As text.
pub fn write_rules(rules: &AgentRules) -> String {
    json(&WrittenRules::of(rules))
}

/// The rules as they are kept, if they are within their limits.
///
/// # Errors
/// What is wrong.
pub fn checked_rules(rules: &AgentRules) -> Result<AgentRules, String> {
    WrittenRules::of(rules).checked(Kind::Wish)
}

pub(super) fn read_rules(text: &str) -> Result<AgentRules, String> {
    parse::<WrittenRules>(text)?.checked(Kind::Record)
}

impl WrittenRules {
    pub fn of(rules: &AgentRules) -> WrittenRules {
        let membership = |m: &Membership| WrittenMembership {
            penalty: m.penalty.into(),
            weight: m.weight.into(),
            more: More::new(),
        };
        WrittenRules {
            aor: rules.aor.to_string(),
            queues: rules.memberships.iter().map(|(queue, m)| (queue.to_string(), membership(m))).collect(),
            skills: rules.skills.iter().map(ToString::to_string).collect(),
            wrap_up_ms: rules.wrap_up_ms,
            ring_ms: rules.ring_ms,
            misses_max: rules.misses_max.into(),
            more: More::new(),
        }
    }

    /// Within the limits that the configuration has.
    pub fn checked(self, kind: Kind) -> Result<AgentRules, String> {
        kind.allows(&self.more)?;
        let aor: Aor = self.aor.parse().map_err(|error: BadRequest| error.to_string())?;
        if kind.are_too_many(self.queues.len().max(self.skills.len()), LIST_MAX) {
            return Err(format!("at most {LIST_MAX} queues, and skills"));
        }
        let within = |key: &str, value: Option<u64>, limits: RangeInclusive<u64>| {
            value.map(|ms| kind.within(key, ms, limits)).transpose()
        };
        let rank = |value| kind.within("penalty and weight", value, 0..=RANK_MAX);
        let membership = |(queue, m): (&String, &WrittenMembership)| {
            kind.allows(&m.more)?;
            let (penalty, weight) = (rank(m.penalty)?, rank(m.weight)?);
            let queue: QueueId = name_of(queue)?;
            Ok((queue, Membership { penalty, weight }))
        };
        let skills = self.skills.iter().map(|skill| name_of(skill)).collect::<Result<Skills, String>>()?;
        Ok(AgentRules {
            aor: Arc::from(aor.to_string()),
            skills,
            memberships: self.queues.iter().map(membership).collect::<Result<_, String>>()?,
            wrap_up_ms: within("wrap_up_ms", self.wrap_up_ms, 0..=WRAP_UP_MAX_MS)?,
            ring_ms: within("ring_ms", self.ring_ms, 1_000..=RING_MAX_MS)?,
            misses_max: kind.within("misses_max", self.misses_max, 0..=MISSES_MAX)?,
        })
    }
}
