//! What the instance said at one moment, and what that means since the moment before.

use super::cell::{CellAnswers, CellReading};
use super::figures::{Figures, Rates};
use crate::command::client::Instance;
use crate::command::condition::Told;
use crate::command::output::plain;
use crate::dispatch::listing::NodeInfo;
use crate::domain::time::EpochMs;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is shown, as it was at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// The instance's version, where it tells it.
    pub version: Option<String>,
    /// For how long it has been running, in seconds, where it tells when it was started.
    pub up_s: Option<f64>,
    /// When this was read, in ms since 1970 by this host's clock.
    pub at_ms: u64,
    /// The nodes, pools in the order of their names.
    pub nodes: Vec<NodeInfo>,
    /// What they add up to.
    pub pools: Vec<Totals>,
    /// The counters.
    #[serde(skip)]
    pub figures: Figures,
    /// Pools whose breaker is open: the store is not waited for.
    pub breakers_open: std::collections::BTreeSet<String>,
    /// Connections that are open, by kind of listener.
    pub connections: std::collections::BTreeMap<String, f64>,
    /// What there is of its cell; nothing where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<CellReading>,
    /// What happened since the reading before.
    pub rates: Rates,
    /// There was no reading before, so the rates are those since the instance's start.
    pub since_start: bool,
    /// When this was read, by the clock of this process.
    #[serde(skip)]
    pub at: Duration,
}

/// A pool in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// The pool.
    pub pool: String,
    /// All of it.
    #[serde(flatten)]
    pub sums: Sums,
    /// Its zones by name, those that stand nowhere last; none where no node has a zone.
    pub zones: Vec<ZoneTotals>,
}

/// The nodes of a pool that stand in one zone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ZoneTotals {
    /// The zone; `null`: nodes that stand nowhere in particular.
    pub zone: Option<String>,
    /// All of it.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Some nodes in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sums {
    /// Nodes that were not removed.
    pub nodes: usize,
    /// Those of them that take new calls.
    pub active: usize,
    /// Live leases, on all nodes.
    pub load: u64,
    /// Channels of the active nodes.
    pub capacity: u64,
    /// Live leases on active nodes / their channels; `null` where no node is active.
    pub occupancy: Option<f64>,
}

#[derive(Deserialize)]
struct PoolName {
    name: String,
}

/// What was asked for, before it is compared with the reading before.
pub struct Answers {
    nodes: Vec<NodeInfo>,
    pools: Vec<String>,
    figures: Figures,
    cell: Option<CellAnswers>,
}

impl Answers {
    /// Asks the instance.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub async fn ask(instance: &Instance) -> anyhow::Result<Answers> {
        let pools: Vec<PoolName> = instance.get("/v1/pools").await?;
        let nodes: Vec<NodeInfo> = instance.get("/v1/nodes").await?;
        let metrics = instance.ask(Method::GET, "/metrics", None).await?;
        let figures = Figures::read(&String::from_utf8_lossy(&metrics));
        let cell = match figures.leads {
            Some(_) => Some(CellAnswers::ask(instance).await),
            None => None,
        };
        Ok(Answers {
            nodes: nodes.into_iter().map(harmless).collect(),
            pools: pools.into_iter().map(|pool| plain(&pool.name)).collect(),
            figures,
            cell,
        })
    }

    /// Makes a reading of the answers. `now` is read from this process' clock, `wall` from the host's.
    pub fn since(self, before: Option<&Reading>, now: Duration, wall: EpochMs) -> Reading {
        let Answers { nodes, pools, figures, cell } = self;
        let pools = pools.into_iter().map(|pool| totals(pool, &nodes)).collect();
        // Exact for any date of our time.
        let up_s = figures.started_s.map(|start| (wall.0 as f64 / 1000.0 - start).max(0.0));
        let before = before.filter(|before| figures.follow(&before.figures));
        let cell = cell.map(|cell| {
            let last = before.and_then(|before| before.cell.as_ref());
            cell.since(last, &figures, now)
        });
        let rates = match before {
            Some(before) => Rates::between(&before.figures, &figures, now.saturating_sub(before.at)),
            None => {
                let up = up_s.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
                Rates::between(&Figures::default(), &figures, up)
            }
        };
        Reading {
            version: figures.version.as_deref().map(plain),
            up_s,
            at_ms: wall.0,
            nodes,
            pools,
            breakers_open: figures.breakers_open.clone(),
            connections: figures.connections.clone(),
            cell,
            figures,
            rates,
            since_start: before.is_none(),
            at: now,
        }
    }

    #[cfg(test)]
    pub(super) fn of(nodes: Vec<NodeInfo>, pools: &[&str], figures: Figures) -> Answers {
        Answers { nodes, pools: pools.iter().map(ToString::to_string).collect(), figures, cell: None }
    }

    #[cfg(test)]
    pub(super) fn with(self, cell: CellAnswers) -> Answers {
        Answers { cell: Some(cell), ..self }
    }
}

impl Reading {
    /// For how long a node has been in its state, in seconds; nothing where that is not known.
    pub fn state_age_s(&self, node: &NodeInfo) -> Option<u64> {
        let since_ms = if told(node).is_special() { node.health_since_ms } else { node.since_ms };
        (since_ms > 0).then(|| self.at_ms.saturating_sub(since_ms) / 1000)
    }

    /// Why a node is left out, and for how long that lasts; nothing where nothing is the matter.
    pub fn why(&self, node: &NodeInfo, name: &str) -> Option<String> {
        let line = told(node).line(name)?;
        let left_ms = node.health_until_ms.map(|until| until.saturating_sub(self.at_ms)).filter(|ms| *ms > 0);
        Some(left_ms.map_or(line.clone(), |ms| format!("{line}; for {} more", ago(ms.div_ceil(1000)))))
    }

    /// Whether the store did not answer, so that loads are old.
    pub fn stale(&self) -> bool {
        self.nodes.iter().any(|node| node.stale)
    }
}

fn totals(pool: String, nodes: &[NodeInfo]) -> Totals {
    let mine: Vec<&NodeInfo> = nodes.iter().filter(|n| n.pool == pool).collect();
    let mut by_zone: BTreeMap<(bool, Option<&str>), Vec<&NodeInfo>> = BTreeMap::new();
    for node in &mine {
        let zone = node.zone.as_deref();
        by_zone.entry((zone.is_none(), zone)).or_default().push(node);
    }
    let zoned = by_zone.keys().any(|(nowhere, _)| !nowhere);
    let zones = by_zone.iter().filter(|_| zoned);
    let zones = zones
        .map(|((_, zone), nodes)| ZoneTotals { zone: zone.map(str::to_owned), sums: sums(nodes) })
        .collect();
    Totals { sums: sums(&mine), zones, pool }
}

fn sums(nodes: &[&NodeInfo]) -> Sums {
    let mine = || nodes.iter();
    let active = || mine().filter(|n| n.state == "active");
    let capacity: u64 = active().map(|n| u64::from(n.capacity)).sum();
    let carried: u64 = active().map(|n| u64::from(n.load)).sum();
    Sums {
        nodes: mine().filter(|n| n.state != "removed").count(),
        active: active().count(),
        load: mine().map(|n| u64::from(n.load)).sum(),
        // Sums of at most 8000 a node: exact.
        occupancy: (capacity > 0).then(|| carried as f64 / capacity as f64),
        capacity,
    }
}

/// State and health of a node.
pub fn told(node: &NodeInfo) -> Told<'_> {
    Told { state: &node.state, health: &node.health, why: &node.health_why, overruled: node.overruled }
}

/// What came from elsewhere must not steer the terminal.
fn harmless(node: NodeInfo) -> NodeInfo {
    NodeInfo {
        pool: plain(&node.pool),
        id: plain(&node.id),
        uri: plain(&node.uri),
        zone: node.zone.as_deref().map(plain),
        tags: node.tags.iter().map(|tag| plain(tag)).collect(),
        state: plain(&node.state),
        health: plain(&node.health),
        health_why: plain(&node.health_why),
        ..node
    }
}

/// A time that has passed, in its two largest units.
pub fn ago(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} m {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} m", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        for (seconds, said) in
            [(0, "0 s"), (59, "59 s"), (61, "1 m 1 s"), (7500, "2 h 5 m"), (86_400 * 3 + 7300, "3 d 2 h")]
        {
            assert_eq!(ago(seconds), said);
        }
    }
}
