//! The keys of `[[agent]]`, with their defaults and limits.

use super::super::reader::{Entry, Reader};
use super::queues::{Queues, RANK_MAX, ms, skills};
use super::{MEMBERSHIPS_MAX, Names};
use crate::domain::agent::{AgentRules, address};
use crate::domain::id::{AgentId, QueueId};
use crate::domain::matching::Membership;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn all(
    root: &Reader<'_, '_>,
    tables: Vec<Reader<'_, '_>>,
    queues: &Queues,
) -> BTreeMap<AgentId, AgentRules> {
    let mut names = Names::new(root, "agent", &tables);
    let mut agents: BTreeMap<AgentId, AgentRules> = BTreeMap::new();
    let mut aors: BTreeMap<Arc<str>, AgentId> = BTreeMap::new();
    for mut t in tables {
        let id: Option<AgentId> = names.read(&mut t);
        let aor_spot = t.spot_of("aor");
        let rules = one(t, queues);
        let (Some(id), Some(rules)) = (id, rules) else { continue };
        if let Some(other) = aors.insert(rules.aor.clone(), id.clone()).filter(|other| *other != id) {
            let aor = &rules.aor;
            root.wrong(
                &aor_spot,
                format!("{aor} is the address of agent {other}: agent {id} needs one of its own"),
            );
        }
        agents.insert(id, rules);
    }
    agents
}

fn one(mut t: Reader<'_, '_>, queues: &Queues) -> Option<AgentRules> {
    let aor = t.text("aor", address);
    t.require("aor");
    let memberships = memberships(&mut t, queues);
    let skills = skills(&mut t, "skills").unwrap_or_default();
    let wrap_up_ms = ms(&mut t, "wrap_up_s", 0..=3600);
    let ring_ms = ms(&mut t, "ring_s", 1..=300);
    let misses_max = t.number("misses_max", 0..=100, " (offers)").unwrap_or(3);
    t.done();
    Some(AgentRules { aor: aor?, skills, memberships, wrap_up_ms, ring_ms, misses_max })
}

fn memberships(t: &mut Reader<'_, '_>, queues: &Queues) -> BTreeMap<QueueId, Membership> {
    let mut memberships = BTreeMap::new();
    let form = "\"sales\" or { id = \"sales\", penalty = 1 }";
    for entry in t.entries("queues", MEMBERSHIPS_MAX, form) {
        let (name, spot, penalty, weight) = match entry {
            Entry::Text(text, spot) => match text.parse::<QueueId>() {
                Ok(name) => (Some(name), spot, 0, None),
                Err(error) => {
                    t.wrong(&spot, format!("found {}: {error}", super::super::reader::quoted(text)));
                    continue;
                }
            },
            Entry::Table(mut one) => {
                let name = one.text("id", str::parse::<QueueId>);
                one.require("id");
                let spot = one.spot_of("id");
                let penalty = one.number("penalty", 0..=RANK_MAX, "").unwrap_or(0);
                let weight = one.number("weight", 0..=RANK_MAX, "");
                one.done();
                (name, spot, penalty, weight)
            }
        };
        let Some(name) = name else { continue };
        queues.names.check(t, &name, &spot);
        let weight = weight.or_else(|| queues.weights.get(&name).copied()).unwrap_or(0);
        if memberships.insert(name.clone(), Membership { penalty, weight }).is_some() {
            t.wrong(&spot, format!("queue {name} is there twice"));
        }
    }
    memberships
}
