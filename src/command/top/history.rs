//! The load of the last minutes, kept here: an instance tells only what there is now.

use super::reading::{Reading, Sums};
use crate::dispatch::listing::NodeInfo;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Cells of a sparkline.
pub const CELLS: usize = 12;

/// What a cell stands for at least.
const CELL_MIN: Duration = Duration::from_secs(10);

/// Eighths of a cell.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What has a load: a pool, a zone of it, a node of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// A pool.
    Pool(String),
    /// A zone of a pool; `None`: the nodes that stand nowhere in particular.
    Zone(String, Option<String>),
    /// A node of a pool.
    Node(String, String),
}

impl Of {
    /// The key of a node.
    pub fn node(node: &NodeInfo) -> Of {
        Of::Node(node.pool.clone(), node.id.clone())
    }
}

/// The highest occupancy in each of the last [`CELLS`] spans of time.
pub struct History {
    cell: Duration,
    kept: BTreeMap<Of, VecDeque<(u128, f64)>>,
}

impl History {
    /// For readings that come so often: no cell stays empty for want of one.
    pub fn every(interval: Duration) -> History {
        History { cell: (interval * 2).max(CELL_MIN), kept: BTreeMap::new() }
    }

    /// The time that a sparkline spans.
    pub fn span(&self) -> Duration {
        self.cell * u32::try_from(CELLS).unwrap_or(u32::MAX)
    }

    /// Keeps what was read. What is not there any more is forgotten when its cells are over.
    pub fn keep(&mut self, reading: &Reading) {
        let cell = self.at(reading.at);
        for pool in &reading.pools {
            self.put(Of::Pool(pool.pool.clone()), cell, &pool.sums);
            for zone in &pool.zones {
                self.put(Of::Zone(pool.pool.clone(), zone.zone.clone()), cell, &zone.sums);
            }
        }
        for node in &reading.nodes {
            self.raise(Of::node(node), cell, node.occupancy);
        }
        let first = first_of(cell);
        self.kept.retain(|_, cells| {
            cells.retain(|(at, _)| *at >= first);
            !cells.is_empty()
        });
    }

    /// The last [`CELLS`] cells, the newest at the right: a full block is a full node, whatever the others carry; a blank was not read.
    pub fn line(&self, of: &Of, now: Duration) -> String {
        let (last, cells) = (self.at(now), self.kept.get(of));
        let first = first_of(last);
        let level = |at: u128| cells.and_then(|cells| cells.iter().find(|(cell, _)| *cell == at));
        let padding = CELLS.saturating_sub(usize::try_from(last - first + 1).unwrap_or(CELLS));
        let known = (first..=last).map(|at| level(at).map_or(' ', |(_, share)| block(*share)));
        std::iter::repeat_n(' ', padding).chain(known).collect()
    }

    fn put(&mut self, of: Of, cell: u128, sums: &Sums) {
        if let Some(share) = sums.occupancy {
            self.raise(of, cell, share);
        }
    }

    fn raise(&mut self, of: Of, cell: u128, share: f64) {
        let cells = self.kept.entry(of).or_default();
        match cells.back_mut() {
            Some((at, highest)) if *at == cell => *highest = highest.max(share),
            Some(_) | None => cells.push_back((cell, share)),
        }
    }

    fn at(&self, when: Duration) -> u128 {
        when.as_millis() / self.cell.as_millis().max(1)
    }
}

fn first_of(last: u128) -> u128 {
    last.saturating_sub(CELLS as u128 - 1)
}

fn block(share: f64) -> char {
    // 0 … 7: exact. Nothing at all is the lowest block: a blank says that nothing is known.
    let level = (share.clamp(0.0, 1.0) * 8.0).ceil() as usize;
    LEVELS.get(level.saturating_sub(1)).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(every_s: u64, shares: &[(u64, f64)]) -> (History, Of) {
        let (mut history, of) = (History::every(Duration::from_secs(every_s)), Of::Pool("p".into()));
        for (at_s, share) in shares {
            let cell = history.at(Duration::from_secs(*at_s));
            history.raise(of.clone(), cell, *share);
        }
        (history, of)
    }

    fn line(every_s: u64, shares: &[(u64, f64)], now_s: u64) -> String {
        let (history, of) = history(every_s, shares);
        history.line(&of, Duration::from_secs(now_s))
    }

    #[test]
    fn the_newest_is_at_the_right_and_what_was_not_read_is_blank() {
        assert_eq!(line(1, &[], 0), "            ");
        assert_eq!(line(1, &[(3, 0.0)], 3), "           ▁");
        assert_eq!(line(1, &[(3, 0.5), (12, 1.0), (45, 2.0)], 45), "       ▄█  █");
        assert_eq!(line(1, &[(3, 0.5), (12, 1.0)], 129), "█           ");
        assert_eq!(line(1, &[(3, 0.5), (12, 1.0)], 140), "            ");
    }

    #[test]
    fn a_cell_shows_its_highest_and_is_longer_than_the_readings_are_apart() {
        assert_eq!(line(1, &[(1, 0.2), (5, 0.9), (9, 0.1)], 9), "           █");
        assert_eq!(line(60, &[(1, 0.2), (61, 0.5), (121, 0.3)], 150), "          ▄▃");
        assert_eq!(history(60, &[]).0.span(), Duration::from_secs(1440));
    }

    #[test]
    fn blocks_rise_with_the_load() {
        let blocks: String = (0..=9).map(|tenths| block(f64::from(tenths) / 9.0)).collect();
        assert_eq!(blocks, "▁▁▂▃▄▅▆▇██");
        assert_eq!((block(f64::NAN), block(7.0)), ('▁', '█'));
    }
}
