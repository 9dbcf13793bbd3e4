//! What happens during the demo: a node falls silent, one refuses, one is drained; each comes back. That the silent one is
//! left alone, and tried again, is the service's own doing.

use super::asterisk::Mood;

/// How long one round is when nobody says how long the demo is, in s.
pub const ROUND_S: f64 = 20.0;

/// Something that happens to a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// The node itself changes.
    Mood(Mood),
    /// Somebody says so, over HTTP.
    State(&'static str),
}

/// Something that happens, and when.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Part of the round after which it happens.
    at: f64,
    /// Which node; modulo their number.
    pub node: usize,
    /// What.
    pub act: Act,
    /// In words, after the node's name.
    pub words: &'static str,
}

const ROUND: [Event; 6] = [
    Event {
        at: 0.10,
        node: 2,
        act: Act::Mood(Mood::Silent),
        words: "goes silent: calls that meet it move on",
    },
    Event { at: 0.35, node: 2, act: Act::Mood(Mood::Well), words: "is restarted, empty" },
    Event { at: 0.48, node: 1, act: Act::Mood(Mood::Refusing), words: "answers every call with 503" },
    Event { at: 0.60, node: 1, act: Act::Mood(Mood::Well), words: "takes calls again" },
    Event {
        at: 0.68,
        node: 0,
        act: Act::State("draining"),
        words: "is drained: no new calls, the others stay",
    },
    Event { at: 0.86, node: 0, act: Act::State("active"), words: "is taken back" },
];

/// All events in order, round after round.
pub struct Script {
    round_s: f64,
    rounds: u64,
    next: usize,
}

impl Script {
    /// For a demo of this length in s; `None`: without end.
    pub fn new(seconds: Option<u64>) -> Script {
        match seconds {
            // Up to 2³² s: exact.
            Some(s) => {
                let whole = (s as f64 / ROUND_S).floor().max(1.0);
                Script { round_s: s as f64 / whole, rounds: whole as u64, next: 0 }
            }
            None => Script { round_s: ROUND_S, rounds: u64::MAX, next: 0 },
        }
    }

    /// The next event that is due `elapsed_s` after the start.
    pub fn due(&mut self, elapsed_s: f64) -> Option<Event> {
        let round = self.next / ROUND.len();
        let event = ROUND.get(self.next % ROUND.len())?;
        let in_time = u64::try_from(round).is_ok_and(|r| r < self.rounds);
        let due = (round as f64 + event.at) * self.round_s <= elapsed_s;
        if !(in_time && due) {
            return None;
        }
        self.next += 1;
        Some(*event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_once_and_all_nodes_are_well_at_the_end() {
        for (seconds, rounds) in [(6, 1), (20, 1), (39, 1), (50, 2)] {
            let mut script = Script::new(Some(seconds));
            let events: Vec<Event> =
                (0..seconds * 10).filter_map(|tenth| script.due(tenth as f64 / 10.0)).collect();
            assert_eq!(events.len(), rounds * ROUND.len(), "{seconds}");
            for node in 0..3 {
                let mut acts = events.iter().rev().filter(|e| e.node == node).map(|e| e.act);
                assert!(matches!(acts.next(), Some(Act::Mood(Mood::Well) | Act::State("active"))));
            }
        }
    }
}
