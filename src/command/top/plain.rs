//! One reading as a plain text, for pipes and for `--once`.

use super::cell::CellReading;
use super::reading::{Reading, ago, told};
use super::words;
use crate::command::output::{Cell, Look, Side, Table, percent};
use crate::command::queue::{state_look, wait_or_dash};

/// The reading as lines.
pub fn text(reading: &Reading, place: &str, colours: bool) -> String {
    let mut text = String::new();
    for (title, line) in [
        ("instance", format!("{place} {}", words::who(reading)).trim_end().to_owned()),
        ("lookups", format!("{} ({})", words::lookups(reading), words::span(reading))),
        ("latency", words::latency(reading)),
        ("degraded", words::degraded(reading)),
        ("store errors", words::store_errors(reading)),
        ("connections", words::connections(reading)),
    ] {
        text.push_str(&format!("{title:<14}{line}\n"));
    }
    let occupancy = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
    let mut pools = Table::new(&[
        ("POOL", Side::Left),
        ("NODES", Side::Right),
        ("ACTIVE", Side::Right),
        ("LOAD", Side::Right),
        ("CAPACITY", Side::Right),
        ("OCCUPANCY", Side::Right),
    ]);
    for pool in &reading.pools {
        pools.row(vec![
            Cell::new(&pool.pool, Look::Bold),
            pool.sums.nodes.into(),
            pool.sums.active.into(),
            pool.sums.load.into(),
            pool.sums.capacity.into(),
            occupancy(pool.sums.occupancy).into(),
        ]);
    }
    let mut zones = Table::new(&[
        ("POOL", Side::Left),
        ("ZONE", Side::Left),
        ("NODES", Side::Right),
        ("ACTIVE", Side::Right),
        ("LOAD", Side::Right),
        ("CAPACITY", Side::Right),
        ("OCCUPANCY", Side::Right),
    ]);
    for (pool, zone) in reading.pools.iter().flat_map(|pool| pool.zones.iter().map(move |zone| (pool, zone)))
    {
        zones.row(vec![
            Cell::from(&pool.pool),
            Cell::new(zone.zone.as_deref().unwrap_or("-"), Look::Bold),
            zone.sums.nodes.into(),
            zone.sums.active.into(),
            zone.sums.load.into(),
            zone.sums.capacity.into(),
            occupancy(zone.sums.occupancy).into(),
        ]);
    }
    let mut nodes = Table::new(&[
        ("POOL", Side::Left),
        ("NODE", Side::Left),
        ("ZONE", Side::Left),
        ("STATE", Side::Left),
        ("SINCE", Side::Right),
        ("LOAD", Side::Right),
        ("CAPACITY", Side::Right),
        ("OCCUPANCY", Side::Right),
    ]);
    for node in &reading.nodes {
        nodes.row(vec![
            Cell::from(&node.pool),
            Cell::new(&node.id, Look::Bold),
            node.zone.as_deref().unwrap_or("-").into(),
            Cell::new(told(node).word(), told(node).look()),
            reading.state_age_s(node).map_or_else(|| "-".to_owned(), ago).into(),
            node.load.into(),
            node.capacity.into(),
            percent(node.occupancy).into(),
        ]);
    }
    text.push_str(&format!("\n{}\n", pools.render(colours)));
    if reading.pools.iter().any(|pool| !pool.zones.is_empty()) {
        text.push_str(&format!("{}\n", zones.render(colours)));
    }
    text.push_str(&nodes.render(colours));
    for line in reading.nodes.iter().filter_map(|node| reading.why(node, &node.id)) {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(cell) = &reading.cell {
        text.push_str(&of_cell(cell, reading.at_ms, colours));
    }
    if reading.stale() {
        text.push_str("The store is away: loads and states are old.\n");
    }
    text
}

fn of_cell(cell: &CellReading, now_ms: u64, colours: bool) -> String {
    let mut text = format!("\n{}\n", words::cell(cell));
    let mut queues = Table::new(&[
        ("QUEUE", Side::Left),
        ("WAITING", Side::Right),
        ("LONGEST", Side::Right),
        ("READY", Side::Right),
        ("TALKING", Side::Right),
        ("PAUSED", Side::Right),
        ("TAKEN", Side::Right),
    ]);
    for queue in &cell.queues {
        queues.row(vec![
            Cell::new(&queue.id, Look::Bold),
            queue.waiting.into(),
            wait_or_dash(queue.longest_wait_ms).into(),
            queue.of("ready").into(),
            queue.of("talking").into(),
            queue.of("paused").into(),
            queue.taken.into(),
        ]);
    }
    let mut nodes = Table::new(&[
        ("NODE", Side::Left),
        ("ARI", Side::Left),
        ("CALLS", Side::Right),
        ("LEGS", Side::Right),
    ]);
    for node in &cell.nodes {
        let (word, look) = words::ari(node.attached);
        nodes.row(vec![
            Cell::new(&node.id, Look::Bold),
            Cell::new(word, look),
            node.calls.into(),
            node.legs.into(),
        ]);
    }
    let mut agents = Table::new(&[
        ("AGENT", Side::Left),
        ("STATE", Side::Left),
        ("SINCE", Side::Right),
        ("TAKEN", Side::Right),
        ("CALL", Side::Left),
    ]);
    for agent in &cell.agents {
        agents.row(vec![
            Cell::new(&agent.id, Look::Bold),
            Cell::new(&agent.state, state_look(&agent.state)),
            agent.age_s(now_ms).map_or_else(|| "-".to_owned(), ago).into(),
            agent.taken.into(),
            agent.call.as_deref().unwrap_or("-").into(),
        ]);
    }
    for table in [queues, nodes, agents] {
        text.push_str(&format!("\n{}", table.render(colours)));
    }
    text
}
