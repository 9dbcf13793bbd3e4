//! What lies between two cells.

use super::Changes;
use crate::config::{AriConfig, CellConfig, NodeAri, PoolConfig};
use crate::domain::agent::AgentRules;
use crate::domain::id::QueueId;
use crate::domain::matching::{MatchRules, Membership};
use crate::domain::queue::{QueueRules, Setup};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// So many changes of queues are named, as many of agents and of treatments; the rest is counted.
const NAMED_MAX: usize = 100;

impl Changes {
    pub(super) fn cell(&mut self, old: Option<&CellConfig>, new: Option<&CellConfig>) {
        match (old, new) {
            (Some(before), Some(now)) => self.of_cell(before, now),
            (Some(_), None) => self.restart.push("cell: removed".to_owned()),
            (None, Some(_)) => self.restart.push("cell: new".to_owned()),
            (None, None) => {}
        }
    }

    fn of_cell(&mut self, old: &CellConfig, new: &CellConfig) {
        let CellConfig { setup, weights, .. } = new;
        let keys = differing!(CellConfig, old, new, {
            id => "cell.id", pools => "cell.pools", ari => "", setup => "", weights => "",
        });
        for key in keys {
            if key == "cell.id" { self.restart.push(key) } else { self.applied.push(key) }
        }
        self.restart.extend(differing!(AriConfig, &old.ari, new.ari, {
            app => "ari.app", user => "ari.user", password_file => "ari.password_file", port => "ari.port",
            tls => "ari.tls", ca_file => "ari.ca_file", timeout_ms => "ari.timeout_ms",
            connections_max => "ari.connections_max", listen => "ari.listen",
            inbound_password_file => "ari.inbound_password_file",
        }));
        let Setup { queues, agents, treatments, last_resort, numbers, numbers_by, own_call_max_ms } =
            setup.as_ref();
        if old.setup.last_resort != *last_resort {
            self.applied.push("cell.last_resort".to_owned());
        }
        if old.setup.own_call_max_ms != *own_call_max_ms {
            self.applied.push("cell.own_call_max_s".to_owned());
        }
        if old.setup.numbers_by != *numbers_by {
            self.applied.push("cell.transfer_out".to_owned());
        }
        let of_queue = |id: &QueueId, before: &QueueRules, now: &QueueRules| {
            let mut keys = queue_keys(before, now);
            if old.weights.get(id) != weights.get(id) {
                keys.push("weight".to_owned());
            }
            let dialled = |all: &BTreeMap<Box<str>, QueueId>| -> BTreeSet<Box<str>> {
                all.iter().filter(|(_, of)| *of == id).map(|(number, _)| number.clone()).collect()
            };
            if dialled(&old.setup.numbers) != dialled(numbers) {
                keys.push("numbers".to_owned());
            }
            keys
        };
        self.applied.extend(entries("queue", &old.setup.queues, queues, of_queue));
        let of_agent = |_: &_, before: &AgentRules, now: &AgentRules| {
            let mut keys = agent_keys(before, now);
            if own_weights(&old.weights, before) != own_weights(weights, now) {
                keys.push("queues".to_owned());
            }
            keys
        };
        self.applied.extend(entries("agent", &old.setup.agents, agents, of_agent));
        let of_treatment = |_: &_, before: &_, now: &_| {
            if before == now { Vec::new() } else { vec![String::new()] }
        };
        self.applied.extend(entries("treatment", &old.setup.treatments, treatments, of_treatment));
    }

    /// Where the nodes of one pool are talked to. All else about nodes is told by what becomes of them in the store.
    pub(super) fn nodes_ari(&mut self, old: &PoolConfig, new: &PoolConfig) {
        let before: BTreeMap<_, &NodeAri> = old.nodes.iter().map(|node| (&node.id, &node.ari)).collect();
        for node in &new.nodes {
            if before.get(&node.id).is_some_and(|ari| **ari != node.ari) {
                self.applied.push(format!("pool.{}.node.{}.ari", new.name, node.id));
            }
        }
    }
}

/// Names what is new, removed or otherwise among the entries of one kind. `keys`: of an entry that both have; an empty one is the
/// whole of it.
fn entries<K: Ord + Display, V: PartialEq>(
    what: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    keys: impl Fn(&K, &V, &V) -> Vec<String>,
) -> Vec<String> {
    let mut named = Vec::new();
    for (id, now) in new {
        match old.get(id) {
            Some(before) => named.extend(keys(id, before, now).into_iter().map(|key| {
                if key.is_empty() { format!("{what}.{id}") } else { format!("{what}.{id}.{key}") }
            })),
            None => named.push(format!("{what}.{id}: new")),
        }
    }
    let gone = old.keys().filter(|id| !new.contains_key(id));
    named.extend(gone.map(|id| format!("{what}.{id}: removed")));
    let more = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    if more > 0 {
        named.push(format!("{what}: {more} more"));
    }
    named
}

fn queue_keys(old: &QueueRules, new: &QueueRules) -> Vec<String> {
    let mut keys = differing!(QueueRules, old, new, {
        matching => "", waiting_max => "waiting_max", wait_max_ms => "wait_max_s", offers_max => "offers_max",
        ring_ms => "ring_s", pass_over_ms => "pass_over_s", wrap_up_ms => "wrap_up_s", talk_max_ms => "talk_max_s",
        join => "join", stay => "stay", answering => "answering", music => "music", ends => "ends",
        agent_announce => "agent_announce", agent_announce_max_ms => "agent_announce_max_s",
    });
    keys.extend(differing!(MatchRules, &old.matching, new.matching, {
        strategy => "strategy", ring_all_max => "ring_all_max", penalty_max => "widen", relax => "relax",
    }));
    keys
}

fn agent_keys(old: &AgentRules, new: &AgentRules) -> Vec<String> {
    differing!(AgentRules, old, new, {
        aor => "aor", skills => "skills", memberships => "", wrap_up_ms => "wrap_up_s", ring_ms => "ring_s",
        misses_max => "misses_max",
    })
}

/// Memberships, each with its weight only where that is not the queue's: what one key changes is told once.
fn own_weights<'a>(
    weights: &BTreeMap<QueueId, u16>,
    rules: &'a AgentRules,
) -> Vec<(&'a QueueId, u16, Option<u16>)> {
    let one = |(queue, membership): (&'a QueueId, &Membership)| {
        let own = Some(membership.weight).filter(|weight| weights.get(queue) != Some(weight));
        (queue, membership.penalty, own)
    };
    rules.memberships.iter().map(one).collect()
}

/// The cell, with what needs a restart as it is in the process that `running` started.
pub(super) fn over(cell: Option<CellConfig>, running: Option<&CellConfig>) -> Option<CellConfig> {
    match (cell, running) {
        (Some(cell), Some(running)) => {
            Some(CellConfig { id: running.id.clone(), ari: running.ari.clone(), ..cell })
        }
        (None, Some(running)) => Some(running.clone()),
        (Some(_) | None, None) => None,
    }
}
