//! What became of the queue's callers and agents, and whether every rule was kept.

use super::ledger::{Counts, End};
use super::people::People;
use super::takeover::TakeOver;
use crate::domain::controller::What;
use crate::domain::offer::OfferEnd;
use crate::store::cell::Told;
use crate::wire::record::read_event;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The sum.
pub struct Summary {
    counts: Counts,
    /// Offers by how they ended.
    offers: BTreeMap<&'static str, usize>,
    takeovers: Vec<Change>,
    fenced: u64,
    moved: u64,
    unsettled: u64,
    /// Channels on the nodes, leases, and calls of the cell.
    left: (usize, u64, usize),
    hung: bool,
}

/// A change of the leader.
struct Change {
    led_ms: Option<u64>,
    offered_ms: Option<u64>,
    talks: usize,
    compared: bool,
}

impl Summary {
    /// Of all that was seen and told.
    pub(super) fn new(
        counts: Counts,
        takeovers: &[TakeOver],
        told: &[Told],
        left: (usize, u64, usize),
        hung: bool,
        people: &People,
    ) -> Summary {
        let events: Vec<_> = told.iter().filter_map(|told| read_event(&told.text).ok()).collect();
        let mut offers = BTreeMap::new();
        for event in &events {
            if let What::OfferEnded { how, .. } = &event.what {
                *offers.entry(OfferEnd::as_str(*how)).or_default() += 1;
            }
        }
        let changes = takeovers.iter().map(|one| {
            let mut after = events.iter().filter(|event| event.at > one.killed_at);
            let offered = after.find(|event| matches!(event.what, What::Offered { .. }));
            Change {
                led_ms: one.led_after_ms,
                offered_ms: offered.map(|event| event.at.since(one.killed_at)),
                talks: one.talks_through,
                compared: one.compared,
            }
        });
        Summary {
            counts,
            offers,
            takeovers: changes.collect(),
            fenced: people.phones.fenced.load(Ordering::Relaxed),
            moved: people.moved.load(Ordering::Relaxed),
            unsettled: people.phones.unsettled.load(Ordering::Relaxed),
            left,
            hung,
        }
    }

    /// Whether every rule was kept, and everything that was to happen did.
    pub fn well(&self) -> bool {
        let Counts { callers, waiting, talking, answered, broken, ended, .. } = &self.counts;
        let each_once = ended.values().sum::<usize>() == *callers && (*waiting, *talking) == (0, 0);
        let taken_over = self.takeovers.iter().all(|one| one.led_ms.is_some() && one.compared);
        let clean = self.left == (0, 0, 0) && self.unsettled == 0 && !self.hung;
        *broken == 0 && each_once && taken_over && clean && *answered > 0
    }

    fn ended(&self, end: End) -> usize {
        self.counts.ended.get(&end).copied().unwrap_or(0)
    }

    /// For people. `again`: what draws the same chances.
    pub fn text(&self, again: &str) -> String {
        let Summary { counts, left: (channels, leases, calls), .. } = self;
        let mut rows = vec![
            ("callers", counts.callers.to_string()),
            ("answered by an agent", counts.answered.to_string()),
            ("abandoned", self.ended(End::Abandoned).to_string()),
            ("lost with their node", self.ended(End::LostWithNode).to_string()),
            ("still in line at the end", self.ended(End::Remained).to_string()),
            (
                "turned away, not placed",
                format!("{}, {}", self.ended(End::TurnedAway), self.ended(End::NotPlaced)),
            ),
            ("longest wait", seconds(counts.longest_ms)),
            ("phones rung", format!("{}; while there was a call: {}", counts.rung, counts.rung_twice)),
        ];
        let offers: Vec<String> = self.offers.iter().map(|(how, offers)| format!("{how} {offers}")).collect();
        rows.push(("offers ended", offers.join(", ")));
        for one in &self.takeovers {
            let said = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), seconds);
            let talks = one.talks;
            rows.push((
                "take-over",
                format!("{}; next offer after {}", said(one.led_ms), said(one.offered_ms)),
            ));
            rows.push(("talks through it", talks.to_string()));
        }
        rows.push(("left at the end", format!("{channels} channels, {leases} leases, {calls} calls")));
        let mut text = "\nThe queue:\n".to_owned();
        rows.iter().for_each(|(what, value)| text.push_str(&format!("  {what:<24}  {value}\n")));
        for told in &counts.told {
            text.push_str(&format!("BROKEN: {told}\n"));
        }
        text.push_str(&match self.well() {
            true => "Every caller was in one state, no agent had two legs, nobody lost a place.\n".to_owned(),
            false => format!("NOT as it should be; `{again}` draws the same chances again.\n"),
        });
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Counts { callers, answered, longest_ms, rung, rung_twice, broken, told, .. } = &self.counts;
        let (channels, leases, calls) = self.left;
        let takeovers: Vec<Value> = self.takeovers.iter().map(Change::json).collect();
        json!({
            "well": self.well(), "callers": callers, "answered": answered,
            "abandoned": self.ended(End::Abandoned), "lost_with_node": self.ended(End::LostWithNode),
            "remained": self.ended(End::Remained), "turned_away": self.ended(End::TurnedAway),
            "not_placed": self.ended(End::NotPlaced), "longest_wait_ms": longest_ms, "rung": rung,
            "rung_twice": rung_twice, "offers": self.offers, "takeovers": takeovers, "fenced": self.fenced,
            "moved": self.moved, "channels_left": channels, "leases_left": leases, "calls_left": calls,
            "unsettled": self.unsettled, "hung": self.hung, "broken": broken, "told": told,
        })
    }
}

impl Change {
    fn json(&self) -> Value {
        let Change { led_ms, offered_ms, talks, compared } = self;
        json!({"led_after_ms": led_ms, "offered_after_ms": offered_ms, "talks_through": talks, "compared": compared})
    }
}

fn seconds(ms: u64) -> String {
    // Far below 2⁵³.
    format!("{:.1} s", ms as f64 / 1000.0)
}
