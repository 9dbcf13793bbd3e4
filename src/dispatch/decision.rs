//! What was answered, and why: kept so that "why this Asterisk?" can be asked afterwards.

use crate::domain::id::{LeaseId, Slot};
use crate::domain::pool::{self, Lookup, Rules, Verdict};
use crate::store::View;
use crate::wire::refusal::RefusalWord;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One answered lookup.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// Call-ID of the INVITE.
    pub call_id: String,
    /// What was called.
    pub request_uri: String,
    /// Where it came from.
    pub source: Option<String>,
    /// `new`, `callback`, `agent`.
    pub kind: &'static str,
    /// The pool.
    pub pool: String,
    /// Zone of the caller.
    pub zone: Option<String>,
    /// Whether it was treated as an emergency call.
    pub emergency: bool,
    /// When, in ms since 1970 by this host's clock.
    pub at_ms: u64,
    /// How long it took, in µs.
    pub took_us: u64,
    /// The lease, in hexadecimal.
    pub lease: String,
    /// What was answered.
    pub outcome: Outcome,
    /// The targets, in order.
    pub targets: Vec<Named>,
    /// How many nodes had which verdict, in the last view before the answer.
    pub reasons: BTreeMap<&'static str, u32>,
    /// Nothing was leased.
    pub dry: bool,
    /// Every node with its numbers, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<Row>>,
}

impl Decision {
    /// The node that was leased, or an empty text.
    pub fn first_node(&self) -> &str {
        self.targets.first().map_or("", |t| &t.node)
    }
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A route, with a new lease.
    Routed,
    /// The same route as before.
    Repeat,
    /// A route without the shared state.
    Degraded,
    /// A refusal.
    Refused(RefusalWord),
}

impl Outcome {
    /// The word for it in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Routed => "routed",
            Outcome::Repeat => "repeat",
            Outcome::Degraded => "degraded",
            Outcome::Refused(word) => result_word(word),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// A refusal's word in lower case.
pub fn result_word(word: RefusalWord) -> &'static str {
    match word {
        RefusalWord::Full => "full",
        RefusalWord::NoNode => "nonode",
        RefusalWord::NoPool => "nopool",
        RefusalWord::Limit => "limit",
        RefusalWord::BadReq => "badreq",
        RefusalWord::BadToken => "badtoken",
        RefusalWord::Unknown => "unknown",
        RefusalWord::Void => "void",
        RefusalWord::Away => "away",
        RefusalWord::NoCell => "nocell",
    }
}

/// A target by name.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// The node.
    pub node: String,
    /// Where it listens.
    pub uri: String,
}

/// One node in an explanation.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The node.
    pub node: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `active`, `draining`, `down`, `removed`.
    pub state: &'static str,
    /// Live leases.
    pub load: u32,
    /// Channels that it may carry.
    pub capacity: u32,
    /// Channels that this kind of call may fill; `null`: no limit.
    pub room: Option<u32>,
    /// Load / capacity.
    pub occupancy: f64,
    /// (Load + 1) / capacity: what is compared.
    pub occupancy_after: f64,
    /// `chosen`, `fallback`, `eligible`, or why not.
    pub verdict: &'static str,
    /// More about the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Every node of a view with its verdict.
pub fn table(view: &View, verdicts: &[Verdict], lookup: &Lookup, rules: &Rules) -> Vec<Row> {
    let row = |(n, verdict): (&pool::Loaded, &Verdict)| {
        let (node, capacity) = (&n.node, n.node.effective_capacity());
        let detail = match verdict {
            Verdict::Target(0) => None,
            Verdict::Target(rank) => Some(format!("target {rank}")),
            Verdict::NoTag(tag) => Some(format!("lacks {tag}")),
            Verdict::Eligible
            | Verdict::Excluded
            | Verdict::Draining
            | Verdict::Down
            | Verdict::Unwell(_)
            | Verdict::NoRoom
            | Verdict::OtherNode => None,
        };
        Row {
            node: node.id.to_string(),
            zone: node.zone.as_ref().map(ToString::to_string),
            tags: node.tags.iter().map(ToString::to_string).collect(),
            state: node.state.as_str(),
            load: n.load,
            capacity,
            room: pool::room(capacity, lookup, rules),
            occupancy: f64::from(n.load) / f64::from(capacity),
            occupancy_after: f64::from(n.load + 1) / f64::from(capacity),
            verdict: verdict.as_str(),
            detail,
        }
    };
    view.loaded.iter().zip(verdicts).map(row).collect()
}

/// The table of an answer that was given: the verdicts of the view, the targets of the answer.
pub fn table_around(view: &View, targets: &[Slot], lookup: &Lookup, rules: &Rules) -> Vec<Row> {
    let mut verdicts = pool::pick(&view.loaded, lookup, rules).verdicts;
    for (n, verdict) in view.loaded.iter().zip(&mut verdicts) {
        let rank = targets.iter().position(|slot| *slot == n.node.slot);
        match rank.and_then(|r| u8::try_from(r).ok()) {
            Some(rank) => *verdict = Verdict::Target(rank),
            None if matches!(verdict, Verdict::Target(_)) => *verdict = Verdict::Eligible,
            None => {}
        }
    }
    table(view, &verdicts, lookup, rules)
}

/// The most rows of tables that are kept: with a thousand nodes, a hundred decisions have their table.
const ROWS_MAX: usize = 100_000;

/// The last decisions, by Call-ID and by lease.
pub struct Ring {
    size: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    order: VecDeque<(LeaseId, Arc<Decision>)>,
    by_call: HashMap<String, Arc<Decision>>,
    by_lease: HashMap<LeaseId, Arc<Decision>>,
    /// How many have left `order`: the decision with number n is at n - gone.
    gone: usize,
    /// Decisions with a table, by number, and the rows of each.
    tables: VecDeque<(usize, usize)>,
    rows: usize,
}

impl Ring {
    /// Keeps at most `size` of them.
    pub fn new(size: usize) -> Ring {
        Ring { size: AtomicUsize::new(size), kept: Mutex::new(Kept::default()) }
    }

    /// Keeps at most `size` from now on.
    pub fn resize(&self, size: usize) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Keeps one; the oldest goes when the ring is full, and the oldest tables go when they have too many rows.
    pub fn put(&self, lease: LeaseId, decision: Arc<Decision>) {
        let size = self.size.load(Ordering::Relaxed);
        if size == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.order.len() >= size {
            kept.drop_oldest();
        }
        let rows = decision.nodes.as_ref().map_or(0, Vec::len);
        if rows > 0 {
            let number = kept.gone + kept.order.len();
            kept.tables.push_back((number, rows));
            kept.rows += rows;
        }
        kept.by_call.insert(decision.call_id.clone(), decision.clone());
        kept.by_lease.insert(lease, decision.clone());
        kept.order.push_back((lease, decision));
        while kept.rows > ROWS_MAX && kept.tables.len() > 1 {
            kept.drop_oldest_table();
        }
    }

    /// The Call-ID of a lease, for the log: a token does not hold it.
    pub fn call_of(&self, lease: LeaseId) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_lease.get(&lease).map(|decision| decision.call_id.clone())
    }

    /// The name of a target of a lease, if this instance answered it and still has it.
    pub fn target_of(&self, lease: LeaseId, branch: u8) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = kept.by_lease.get(&lease)?;
        decision.targets.get(usize::from(branch)).map(|target| target.node.clone())
    }

    /// The last decision for this Call-ID.
    pub fn get(&self, call_id: &str) -> Option<Arc<Decision>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).by_call.get(call_id).cloned()
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        let Some((lease, oldest)) = self.order.pop_front() else { return };
        if let Some((number, rows)) = self.tables.front().copied()
            && number == self.gone
        {
            self.tables.pop_front();
            self.rows -= rows;
        }
        self.gone += 1;
        if self.by_call.get(&oldest.call_id).is_some_and(|d| Arc::ptr_eq(d, &oldest)) {
            self.by_call.remove(&oldest.call_id);
        }
        if self.by_lease.get(&lease).is_some_and(|d| Arc::ptr_eq(d, &oldest)) {
            self.by_lease.remove(&lease);
        }
    }

    /// The decision stays, without its table.
    fn drop_oldest_table(&mut self) {
        let Some((number, rows)) = self.tables.pop_front() else { return };
        self.rows -= rows;
        let place = number.checked_sub(self.gone).and_then(|at| self.order.get_mut(at));
        let Some((lease, place)) = place else { return };
        let thin = Arc::new(Decision { nodes: None, ..(**place).clone() });
        let fat = std::mem::replace(place, thin.clone());
        for found in [self.by_call.get_mut(&thin.call_id), self.by_lease.get_mut(lease)].into_iter().flatten()
        {
            if Arc::ptr_eq(found, &fat) {
                *found = thin.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(call_id: usize, rows: usize) -> Arc<Decision> {
        let row = Row {
            node: String::new(),
            zone: None,
            tags: Vec::new(),
            state: "active",
            load: 0,
            capacity: 1,
            room: None,
            occupancy: 0.0,
            occupancy_after: 1.0,
            verdict: "eligible",
            detail: None,
        };
        Arc::new(Decision {
            call_id: call_id.to_string(),
            request_uri: String::new(),
            source: None,
            kind: "new",
            pool: String::new(),
            zone: None,
            emergency: false,
            at_ms: 0,
            took_us: 0,
            lease: String::new(),
            outcome: Outcome::Routed,
            targets: Vec::new(),
            reasons: BTreeMap::new(),
            dry: false,
            nodes: (rows > 0).then(|| vec![row; rows]),
        })
    }

    fn rows(ring: &Ring, call_id: usize) -> Option<usize> {
        ring.get(&call_id.to_string()).map(|d| d.nodes.as_ref().map_or(0, Vec::len))
    }

    #[test]
    fn the_oldest_decision_goes_when_the_ring_is_full() {
        let ring = Ring::new(3);
        for n in 0..5 {
            ring.put(LeaseId([0; 16]), decision(n % 4, 1));
        }
        // 0 was decided twice; the first time is forgotten, the second is not.
        assert_eq!([0, 1, 2, 3].map(|n| rows(&ring, n)), [Some(1), None, Some(1), Some(1)]);
        let kept = ring.kept.lock().unwrap();
        assert_eq!((kept.order.len(), kept.by_call.len(), kept.tables.len(), kept.rows), (3, 3, 3, 3));
    }

    #[test]
    fn a_smaller_ring_forgets_with_the_next_decision() {
        let ring = Ring::new(4);
        for n in 0..4 {
            ring.put(LeaseId([0; 16]), decision(n, 0));
        }
        ring.resize(2);
        assert_eq!(rows(&ring, 0), Some(0));
        ring.put(LeaseId([0; 16]), decision(4, 0));
        assert_eq!([0, 1, 2, 3, 4].map(|n| rows(&ring, n)), [None, None, None, Some(0), Some(0)]);
    }

    #[test]
    fn the_oldest_tables_go_when_they_have_too_many_rows_and_their_decisions_stay() {
        let ring = Ring::new(4);
        let large = ROWS_MAX / 2;
        for (n, rows) in [(0, large), (1, 0), (2, large)] {
            ring.put(LeaseId([0; 16]), decision(n, rows));
        }
        assert_eq!([0, 1, 2].map(|n| rows(&ring, n)), [Some(large), Some(0), Some(large)]);
        ring.put(LeaseId([0; 16]), decision(3, 1));
        assert_eq!([0, 1, 2, 3].map(|n| rows(&ring, n)), [Some(0), Some(0), Some(large), Some(1)]);
        for n in 4..9 {
            ring.put(LeaseId([0; 16]), decision(n, large));
            assert!(ring.kept.lock().unwrap().rows <= ROWS_MAX);
        }
        assert_eq!([5, 6, 7, 8].map(|n| rows(&ring, n)), [Some(0), Some(0), Some(large), Some(large)]);
    }
}
