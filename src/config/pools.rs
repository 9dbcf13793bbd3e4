//! The keys of `[[pool]]` and `[[pool.node]]`, with their defaults and limits.

use super::reader::{Reader, Spot};
use super::{NodeConfig, POOLS_MAX, PoolConfig, RouteOptions, cell, discover, limits, register, route};
use crate::domain::health::HealthRules;
use crate::domain::health::accept::{ACCEPT_MAX, Accept, codes};
use crate::domain::id::{PoolId, Slot};
use crate::domain::node::{CAPACITY_MAX, NodeState};
use crate::domain::pool::{Rules, TARGETS_MAX};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All pools, and for each where the ids of its nodes stand. `None`: there is none, or one is so wrong that it cannot be spoken of;
/// that was reported.
pub(super) fn all(root: &mut Reader<'_, '_>) -> Option<(Vec<PoolConfig>, Vec<Vec<Spot>>)> {
    let tables = root.tables("pool", POOLS_MAX);
    if tables.is_empty() && !root.any_wrong() {
        root.wrong(&root.spot_of("pool"), "no pool: write at least one [[pool]] with a name");
    }
    let count = tables.len();
    let (mut pools, mut node_spots) = (Vec::new(), Vec::new());
    let mut names: BTreeMap<PoolId, Spot> = BTreeMap::new();
    let mut overflows: BTreeMap<PoolId, Spot> = BTreeMap::new();
    for table in tables {
        let (spot, overflow) = (table.spot_of("name"), table.spot_of("overflow"));
        let Some((pool, spots)) = one(table) else { continue };
        match names.get(&pool.name) {
            Some(_) => root.wrong(&spot, format!("two pools have the name {}", pool.name)),
            None => drop(names.insert(pool.name.clone(), spot)),
        }
        overflows.insert(pool.name.clone(), overflow);
        pools.push(pool);
        node_spots.push(spots);
    }
    limits::check_overflows(root, &pools, &overflows);
    (count > 0 && pools.len() == count).then_some((pools, node_spots))
}

fn one(mut t: Reader<'_, '_>) -> Option<(PoolConfig, Vec<Spot>)> {
    let name = t.text("name", str::parse::<PoolId>);
    t.require("name");
    let rules = Rules {
        agent_reserve_pm: t.thousandths("agent_reserve", 0..=900).unwrap_or(0),
        zone_spill_pm: t.thousandths("zone_spill", 100..=1000).unwrap_or(800),
        targets_max: t.number("targets_max", 1..=i64::from(TARGETS_MAX), " (targets)").unwrap_or(3),
    };
    let refuse_code = t.number("refuse_code", 400..=699, " (a SIP status)").unwrap_or(480);
    let retry_after_s = t.number("retry_after_s", 1..=3600, " (s)").unwrap_or(3);
    let route = RouteOptions {
        fr_timer_ms: Some(t.number("fr_timer_ms", 100..=60_000, " (ms)").unwrap_or(2000)),
        fr_inv_timer_ms: Some(t.number("fr_inv_timer_ms", 1000..=600_000, " (ms)").unwrap_or(120_000)),
        socket: t.text("socket", route::socket),
        path: t.text("path", route::path),
        headers: route::headers(&mut t),
    };
    let limits = limits::limits(&mut t);
    let sticky_s = t.number("sticky_s", 1..=604_800, " (s)").unwrap_or(3600);
    let overflow = t.text("overflow", str::parse::<PoolId>);
    let (health, health_ca_file) = health(t.table("health"));
    let discover = discover::discover(t.table("discover"));
    let register = register::register(t.table("register"));
    let (nodes, node_spots) = nodes(&mut t);
    t.done();
    let pool = PoolConfig {
        name: name?,
        rules,
        health,
        health_ca_file,
        refuse_code,
        retry_after_s,
        limits,
        sticky_s,
        overflow,
        route,
        discover,
        register,
        nodes,
    };
    Some((pool, node_spots))
}

/// What calls and probes tell of nodes.
fn health(mut t: Reader<'_, '_>) -> (HealthRules, Option<PathBuf>) {
    let plain = HealthRules::default();
    let accept = accept(&mut t);
    let ca_file = t.path("ca_file");
    let mut ms = |key, limits, usual: u64| t.number(key, limits, " (ms)").unwrap_or(usual);
    let rules = HealthRules {
        accept: accept.unwrap_or(plain.accept),
        probe_every_ms: ms("probe_every_ms", 0..=3_600_000, plain.probe_every_ms),
        probe_timeout_ms: ms("probe_timeout_ms", 50..=10_000, plain.probe_timeout_ms),
        eject_ms: ms("eject_ms", 100..=3_600_000, plain.eject_ms),
        eject_max_ms: ms("eject_max_ms", 100..=86_400_000, plain.eject_max_ms),
        slow_start_ms: ms("slow_start_ms", 0..=3_600_000, plain.slow_start_ms),
        down_after: t.number("down_after", 1..=100, " (probes)").unwrap_or(plain.down_after),
        up_after: t.number("up_after", 1..=100, " (probes)").unwrap_or(plain.up_after),
        eject_after: t.number("eject_after", 0..=1000, " (calls)").unwrap_or(plain.eject_after),
        out_max_pm: t.thousandths("out_max", 0..=1000).unwrap_or(plain.out_max_pm),
    };
    t.done();
    (rules, ca_file)
}

/// Which answers to a probe show that somebody is there. `None`: not written.
fn accept(t: &mut Reader<'_, '_>) -> Option<Accept> {
    let ranges = t.words("accept", ACCEPT_MAX, codes)?;
    if ranges.is_empty() && !t.any_wrong() {
        t.wrong(&t.spot_of("accept"), "no code at all: no node would ever be alive");
    }
    Some(Accept::of(ranges.into_iter().map(|(range, _)| range)))
}

fn nodes(t: &mut Reader<'_, '_>) -> (Vec<NodeConfig>, Vec<Spot>) {
    let (mut nodes, mut spots) = (Vec::new(), Vec::new());
    let (mut ids, mut places) = (BTreeMap::new(), BTreeMap::new());
    for table in t.tables("node", usize::from(Slot::COUNT)) {
        let (id_spot, uri_spot) = (table.spot_of("id"), table.spot_of("uri"));
        let Some(node) = node(table) else { continue };
        if ids.insert(node.id.clone(), ()).is_some() {
            t.wrong(&id_spot, format!("two nodes of this pool have the id {}", node.id));
        }
        if let Some(other) = places.insert(node.uri.same_place(), node.id.clone()) {
            t.wrong(&uri_spot, format!("{} is the place of node {other} already", node.uri));
        }
        nodes.push(node);
        spots.push(id_spot);
    }
    (nodes, spots)
}

fn node(mut t: Reader<'_, '_>) -> Option<NodeConfig> {
    let id = t.text("id", str::parse);
    let uri = t.text("uri", str::parse);
    let capacity = t.number("capacity", 1..=i64::from(CAPACITY_MAX), " (channels)");
    for key in ["id", "uri", "capacity"] {
        t.require(key);
    }
    let zone = t.text("zone", str::parse);
    let tags = discover::tags(&mut t);
    let states =
        [NodeState::Active, NodeState::Draining, NodeState::Down].map(|state| (state.as_str(), state));
    let state = t.word("state", &states).unwrap_or(NodeState::Active);
    let ari = cell::node_ari(&mut t);
    t.done();
    Some(NodeConfig { id: id?, uri: uri?, capacity: capacity?, zone, tags, state, ari })
}
