//! What is allowed in a cell, and probably not meant.

use super::super::{Config, PoolConfig};
use super::{Ari, CellConfig, CellNode};
use crate::domain::id::{AgentId, QueueId};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

/// A line names so many of those whom it is about.
const NAMED_MAX: usize = 8;

/// A leader sends nothing any more 2.5 s after it asked for its right, and another can follow 4 s after that.
const REQUEST_MAX_MS: u64 = 1500;

/// One line each.
pub(in crate::config) fn warnings(config: &Config, warnings: &mut Vec<String>) {
    let Some(cell) = &config.cell else { return };
    of_people(cell, warnings);
    of_queues(cell, config.dispatch.life.call_max_ms, warnings);
    let driven: Vec<&PoolConfig> = config.pools.iter().filter(|pool| cell.drives(&pool.name)).collect();
    let nodes = cell.nodes(&config.pools);
    if nodes.is_empty() && driven.iter().all(|pool| pool.discover.is_none() && pool.register.is_none()) {
        warnings.push(format!("cell {} drives no node: nobody can wait in its queues", cell.id));
    }
    of_pools(cell, &driven, warnings);
    of_ari(cell, &nodes, warnings);
    of_inbound(config, cell, &nodes, warnings);
}

fn of_people(cell: &CellConfig, warnings: &mut Vec<String>) {
    let setup = &cell.setup;
    let mut members: BTreeMap<&QueueId, Vec<(&AgentId, u16)>> =
        setup.queues.keys().map(|queue| (queue, Vec::new())).collect();
    for (agent, rules) in &setup.agents {
        for (queue, membership) in &rules.memberships {
            members.entry(queue).or_default().push((agent, membership.penalty));
        }
    }
    let empty = members.iter().filter(|(_, members)| members.is_empty()).map(|(queue, _)| queue);
    if let Some(names) = some(empty) {
        warnings.push(format!("no agent takes calls of queue {names}: who waits there is served by nobody"));
    }
    let idle = setup.agents.iter().filter(|(_, rules)| rules.memberships.is_empty()).map(|(id, _)| id);
    if let Some(names) = some(idle) {
        warnings.push(format!("agent {names} has no queues: no call is brought there"));
    }
    for (queue, rules) in &setup.queues {
        let Some(most) = rules.matching.penalty_max.iter().map(|step| step.penalty_max).max() else {
            continue;
        };
        let above = members.get(queue).into_iter().flatten().filter(|(_, penalty)| *penalty > most);
        if let Some(names) = some(above.map(|(id, _)| id)) {
            warnings.push(format!(
                "queue {queue} widens to a penalty of {most} at most: agent {names} has a higher one, and gets none of its calls"
            ));
        }
    }
}

fn of_queues(cell: &CellConfig, call_max_ms: u64, warnings: &mut Vec<String>) {
    let setup = &cell.setup;
    if setup.queues.is_empty() {
        warnings.push(format!("cell {} has no [[queue]]: nobody can wait in it", cell.id));
    }
    if setup.last_resort.is_none() {
        warnings.push(
            "cell.last_resort is not set: who asks for a queue that is not there, or ends in one for a reason that its ends do not name, is hung up"
                .to_owned(),
        );
    }
    let long = setup.queues.iter().filter(|(_, rules)| rules.wait_max_ms + rules.talk_max_ms > call_max_ms);
    if let Some(names) = some(long.map(|(id, _)| id)) {
        warnings.push(format!(
            "queue {names}: wait_max_s and talk_max_s are together above dispatch.call_max_s {}: a call that is up may lose its lease",
            call_max_ms / 1000
        ));
    }
}

fn of_pools(cell: &CellConfig, driven: &[&PoolConfig], warnings: &mut Vec<String>) {
    for pool in driven {
        let name = &pool.name;
        if pool.rules.agent_reserve_pm == 0 && !cell.setup.queues.is_empty() {
            warnings.push(format!(
                "pool {name}: agent_reserve is 0, and calls wait in queues there: callers can take the channels that their agents need; 0.4 is right"
            ));
        }
        if let Some(other) = pool.overflow.as_ref().filter(|other| !cell.drives(other)) {
            warnings.push(format!(
                "pool {name} overflows into {other}, which is not in cell.pools: nobody who comes there can wait in a queue"
            ));
        }
    }
}

/// Of nodes that connect by themselves.
fn of_inbound(config: &Config, cell: &CellConfig, nodes: &[CellNode], warnings: &mut Vec<String>) {
    let ari = &cell.ari;
    let inbound = some(nodes.iter().filter(|node| node.ari == Ari::Inbound).map(|node| &node.id));
    match &inbound {
        Some(names) if ari.listen.is_empty() => warnings.push(format!(
            "node {names} is to connect by itself, and ari.listen names no address: nobody drives it"
        )),
        None if !ari.listen.is_empty() => warnings.push(
            "ari.listen is for nodes that connect by themselves (ari = \"inbound\"), and there is none"
                .to_owned(),
        ),
        Some(_) | None => {}
    }
    if inbound.is_none() && ari.inbound_password_file.is_some() {
        warnings.push(
            "ari.inbound_password_file is for nodes that connect by themselves, and there is none".to_owned(),
        );
    }
    if config.listen.tls.is_none()
        && let Some(open) = some(ari.listen.iter().filter(|endpoint| !endpoint.is_local()))
    {
        warnings.push(format!(
            "ari.listen {open} can be reached from other hosts without TLS: the passwords of nodes are readable on the way; set [listen.tls]"
        ));
    }
}

fn of_ari(cell: &CellConfig, nodes: &[CellNode], warnings: &mut Vec<String>) {
    let ari = &cell.ari;
    let over_tls = |node: &CellNode| matches!(node.ari, Ari::Url { tls: true, .. });
    if ari.ca_file.is_some() && !ari.tls && !nodes.iter().any(over_tls) {
        warnings.push("ari.ca_file is for nodes that are driven over TLS, and there is none".to_owned());
    }
    let in_the_clear = nodes.iter().filter(|node| match &node.ari {
        Ari::Url { tls: false, host, .. } => {
            !host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        }
        Ari::Url { tls: true, .. } | Ari::Inbound => false,
    });
    if let Some(names) = some(in_the_clear.map(|node| &node.id)) {
        warnings.push(format!(
            "node {names} is driven without TLS on another host: the password of ari.user is readable on the way; set ari.tls"
        ));
    }
    if ari.timeout_ms > REQUEST_MAX_MS {
        warnings.push(format!(
            "ari.timeout_ms {} is above {REQUEST_MAX_MS}: a request may still be under way when another instance leads",
            ari.timeout_ms
        ));
    }
}

/// The first of them, and how many more there are; `None`: nobody.
fn some<T: Display>(of: impl Iterator<Item = T>) -> Option<String> {
    let (mut names, mut count): (Vec<String>, usize) = (Vec::new(), 0);
    for one in of {
        if names.len() < NAMED_MAX {
            names.push(one.to_string());
        }
        count += 1;
    }
    let more = count - names.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (count > 0).then(|| format!("{}{rest}", names.join(", ")))
}
