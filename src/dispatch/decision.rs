//! What was answered, and why: kept so that "why this Asterisk?" can be asked afterwards.

use crate::domain::id::{LeaseId, Slot};
use crate::domain::pool::{self, Lookup, Rules, Verdict};
use crate::store::View;
use crate::wire::refusal::RefusalWord;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, VecDeque};
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

/// The last decisions, by Call-ID and by lease.
pub struct Ring {
    size: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    order: VecDeque<(LeaseId, Arc<Decision>)>,
    by_call: HashMap<String, Arc<Decision>>,
    by_lease: HashMap<LeaseId, Arc<Decision>>,
}

impl Ring {
    /// Keeps at most `size` of them.
    pub fn new(size: usize) -> Ring {
        Ring { size, kept: Mutex::new(Kept::default()) }
    }

    /// Keeps one; the oldest goes when the ring is full.
    pub fn put(&self, lease: LeaseId, decision: Arc<Decision>) {
        if self.size == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.order.len() >= self.size
            && let Some((of, oldest)) = kept.order.pop_front()
        {
            if kept.by_call.get(&oldest.call_id).is_some_and(|d| Arc::ptr_eq(d, &oldest)) {
                kept.by_call.remove(&oldest.call_id);
            }
            if kept.by_lease.get(&of).is_some_and(|d| Arc::ptr_eq(d, &oldest)) {
                kept.by_lease.remove(&of);
            }
        }
        kept.by_call.insert(decision.call_id.clone(), decision.clone());
        kept.by_lease.insert(lease, decision.clone());
        kept.order.push_back((lease, decision));
    }

    /// The Call-ID of a lease, for the log: a token does not hold it.
    pub fn call_of(&self, lease: LeaseId) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_lease.get(&lease).map(|decision| decision.call_id.clone())
    }

    /// The last decision for this Call-ID.
    pub fn get(&self, call_id: &str) -> Option<Arc<Decision>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).by_call.get(call_id).cloned()
    }
}
