//! A decision as the instance tells it, shown to people.

use super::output::{Cell, Look, Side, Table, percent, plain};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What was answered, and why.
#[derive(Debug, Deserialize)]
pub struct Decision {
    call_id: String,
    request_uri: String,
    source: Option<String>,
    kind: String,
    pool: String,
    zone: Option<String>,
    emergency: bool,
    /// When, in ms since 1970.
    pub at_ms: u64,
    took_us: u64,
    lease: String,
    outcome: String,
    targets: Vec<Named>,
    reasons: BTreeMap<String, u32>,
    nodes: Option<Vec<Row>>,
}

#[derive(Debug, Deserialize)]
struct Named {
    node: String,
    uri: String,
}

#[derive(Debug, Deserialize)]
struct Row {
    node: String,
    zone: Option<String>,
    tags: Vec<String>,
    state: String,
    load: u32,
    capacity: u32,
    room: Option<u32>,
    occupancy: f64,
    occupancy_after: f64,
    verdict: String,
    detail: Option<String>,
}

impl Decision {
    /// The node that was chosen, or an empty text.
    pub fn first_node(&self) -> String {
        self.targets.first().map(|t| plain(&t.node)).unwrap_or_default()
    }

    /// The lease, in hexadecimal.
    pub fn lease(&self) -> String {
        plain(&self.lease)
    }

    /// Some lines: the question, the answer, and how many nodes had which verdict. `routed` says what became of it when it has
    /// targets.
    pub fn summary(&self, routed: &str) -> String {
        let mut lines = Vec::new();
        let mut call = format!("call     {} to {}: kind {}", self.call_id, self.request_uri, self.kind);
        if let Some(zone) = &self.zone {
            call.push_str(&format!(", zone {zone}"));
        }
        if let Some(source) = &self.source {
            call.push_str(&format!(", from {source}"));
        }
        if self.emergency {
            call.push_str(", EMERGENCY");
        }
        lines.push(call);
        let mut targets = self.targets.iter();
        match targets.next() {
            Some(first) => {
                let how = if self.outcome == "degraded" { ", without the store" } else { "" };
                lines.push(format!(
                    "{:<8} {} ({}) of pool {}{how}, in {} µs",
                    "answer", first.node, first.uri, self.pool, self.took_us
                ));
                if routed != "routed" {
                    lines.push(format!("         {routed}"));
                }
            }
            None => lines.push(format!("answer   refused: {}, pool {}", self.outcome, self.pool)),
        }
        lines.extend(targets.map(|then| format!("then     {} ({})", then.node, then.uri)));
        let reasons: Vec<String> = self.reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
        lines.push(format!(
            "nodes    {}",
            if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") }
        ));
        lines.iter().map(|line| plain(line) + "\n").collect()
    }

    /// Every node with its numbers and its verdict; one line when they were not kept.
    pub fn table(&self, colours: bool) -> String {
        let Some(nodes) = &self.nodes else {
            return "The table of nodes was not kept: ask with --explain.\n".to_owned();
        };
        let mut table = Table::new(&[
            ("NODE", Side::Left),
            ("ZONE", Side::Left),
            ("TAGS", Side::Left),
            ("STATE", Side::Left),
            ("LOAD", Side::Right),
            ("CAPACITY", Side::Right),
            ("ROOM", Side::Right),
            ("OCCUPANCY", Side::Right),
            ("AFTER", Side::Right),
            ("VERDICT", Side::Left),
        ]);
        for row in nodes {
            let look = verdict_look(&row.verdict);
            let verdict = match &row.detail {
                Some(detail) => format!("{} ({detail})", row.verdict),
                None => row.verdict.clone(),
            };
            table.row(vec![
                Cell::new(&row.node, if look == Look::Green { Look::Bold } else { Look::Plain }),
                row.zone.as_deref().unwrap_or("-").into(),
                if row.tags.is_empty() { "-".into() } else { row.tags.join(",").into() },
                Cell::new(&row.state, state_look(&row.state)),
                row.load.into(),
                row.capacity.into(),
                row.room.map_or_else(|| "any".to_owned(), |room| room.to_string()).into(),
                percent(row.occupancy).into(),
                percent(row.occupancy_after).into(),
                Cell::new(verdict, look),
            ]);
        }
        table.render(colours)
    }
}

fn verdict_look(verdict: &str) -> Look {
    match verdict {
        "chosen" => Look::Green,
        "fallback" | "eligible" => Look::Plain,
        "excluded" | "other-node" => Look::Dim,
        _ => Look::Yellow,
    }
}

/// How the state of a node looks.
pub fn state_look(state: &str) -> Look {
    match state {
        "active" => Look::Green,
        "draining" => Look::Yellow,
        "down" => Look::Red,
        _ => Look::Dim,
    }
}
