//! Bridges in which callers hear music, on a node that shows none in which nobody is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use crate::Case;
use crate::room::Lab;

pub const CASES: &[Case] =
    &[Case { name: "queue::inbound_an_empty_bridge_is_used_again", needs: PARTS, run: used_again }];

/// A node is listed every 30 s.
const LISTED: Duration = Duration::from_secs(33);

fn holding(floor: &Floor<'_>) -> Result<Vec<String>> {
    let body = floor.nodes[0].ari("GET", "/bridges", None)?.body;
    let bridges: Vec<Value> = serde_json::from_str(&body).context(body)?;
    let ids = bridges.iter().filter_map(|bridge| bridge["id"].as_str());
    Ok(ids.filter(|id| id.starts_with("mqs-hold-")).map(ToOwned::to_owned).collect())
}

fn used_again(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { inbound: 1, ..Plan::default() })?;
    for day in 1..=2 {
        let mut caller = floor.callers(1, 1, Duration::from_secs(2))?;
        floor.wait_for("enqueued", day, LIMIT)?;
        caller.success(LIMIT)?;
        floor.wait_for("done", day, LIMIT)?;
        let bridges = holding(&floor)?;
        ensure!(bridges.len() == 1, "after {day} callers, one after the other: {bridges:?}");
        if day == 1 {
            std::thread::sleep(LISTED);
        }
    }
    floor.is_empty()
}
