//! Answers while the store is away: from the last view and this instance's own picks since. Never refused for room.
//!
//! Loads are stale then, and every instance sees the same stale loads: the greedy choice would send all of them to one node.
//! So two nodes are drawn and the less occupied one is taken (the power of two choices).
//!
//! The answers are journalled, and the store adopts them when it is back.

use crate::domain::id::{LeaseId, NodeId, Slot};
use crate::domain::pool::{self, Loaded, Lookup, NoPick, Rules};
use crate::domain::time::EpochMs;
use crate::store::View;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How long an answer is remembered for repeats.
const REMEMBERED_MS: u64 = 35_000;

/// The most answers that are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// What this instance answered by itself.
#[derive(Default)]
pub struct Degraded(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// By name: the nodes of a file that was read before the store was seen have no slots there yet.
    answers: HashMap<LeaseId, Vec<NodeId>>,
    order: VecDeque<(EpochMs, LeaseId)>,
    /// Answers that the store does not know of yet.
    journal: VecDeque<(EpochMs, LeaseId)>,
    /// Picks since the last view.
    own: HashMap<Slot, u32>,
}

impl Degraded {
    /// Chooses targets without the store. The same lease again has the same answer.
    pub fn answer(
        &self,
        lease: LeaseId,
        view: &View,
        lookup: &Lookup,
        rules: &Rules,
        now: EpochMs,
    ) -> Result<Vec<Slot>, NoPick> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forget(now);
        let known =
            memory.answers.get(&lease).map(|names| slots_of(view, names)).filter(|slots| !slots.is_empty());
        if let Some(slots) = known {
            return Ok(slots);
        }
        let loaded: Vec<Loaded> = view.loaded.iter().map(|n| memory.with_own(n)).collect();
        let targets = choose(lease, &loaded, lookup, rules)?;
        if let Some(first) = targets.first() {
            *memory.own.entry(*first).or_default() += 1;
        }
        let names =
            targets.iter().filter_map(|slot| view.at_slot(*slot)).map(|n| n.node.id.clone()).collect();
        memory.order.push_back((now, lease));
        memory.journal.push_back((now, lease));
        memory.answers.insert(lease, names);
        Ok(targets)
    }

    /// At most `most` answers that the store does not know of yet, with their targets as the store numbers them. Answers older than
    /// `held_ms` are left out: a lease of theirs would have ended by now, or the proxy confirms it itself.
    pub fn journal(&self, view: &View, held_ms: u64, now: EpochMs, most: usize) -> Vec<(LeaseId, Vec<Slot>)> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let young = memory.journal.iter().filter(|(at, _)| now.since(*at) < held_ms);
        let named = young.filter_map(|(_, lease)| Some((*lease, slots_of(view, memory.answers.get(lease)?))));
        named.take(most).collect()
    }

    /// The store knows these now, or need not know them any more.
    pub fn adopted(&self, leases: &[LeaseId], held_ms: u64, now: EpochMs) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known: HashSet<&LeaseId> = leases.iter().collect();
        memory.journal.retain(|(at, lease)| now.since(*at) < held_ms && !known.contains(lease));
    }

    /// Whether the store has something to learn.
    pub fn has_journal(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).journal.is_empty()
    }

    /// The next view has counted everything again.
    pub fn store_is_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).own.clear();
    }
}

impl Memory {
    fn with_own(&self, n: &Loaded) -> Loaded {
        Loaded { load: n.load + self.own.get(&n.node.slot).copied().unwrap_or(0), ..n.clone() }
    }

    fn forget(&mut self, now: EpochMs) {
        while let Some((at, lease)) = self.order.front().copied() {
            if now.since(at) < REMEMBERED_MS && self.order.len() < REMEMBERED_MAX {
                return;
            }
            self.order.pop_front();
            self.answers.remove(&lease);
            while self.journal.front().is_some_and(|(then, _)| *then <= at) {
                self.journal.pop_front();
            }
        }
    }
}

fn slots_of(view: &View, names: &[NodeId]) -> Vec<Slot> {
    names.iter().filter_map(|name| view.node(name)).map(|n| n.node.slot).collect()
}

/// All that would do, without regard to room: drawn two at a time, the less occupied one first. Those of the caller's zone that
/// would not spill are drawn before the others.
fn choose(lease: LeaseId, loaded: &[Loaded], lookup: &Lookup, rules: &Rules) -> Result<Vec<Slot>, NoPick> {
    // Room is not a reason here: numbers that are known to be stale must not turn a caller away.
    let relaxed = Rules { agent_reserve_pm: 0, ..*rules };
    let roomy: Vec<Loaded> =
        loaded.iter().map(|n| Loaded { load: n.load.min(n.node.capacity - 1), ..n.clone() }).collect();
    let best = pool::order(&roomy, lookup, &relaxed)?;
    let mut order: Vec<&Loaded> = best.iter().filter_map(|i| loaded.get(*i)).collect();
    let is_near = |n: &&&Loaded| lookup.zone.is_some() && n.node.zone == lookup.zone;
    let mut near = order.iter().take_while(is_near).count();
    let mut chance = u64::from_be_bytes(std::array::from_fn(|i| lease.0.get(i).copied().unwrap_or(0)));
    let mut draw = |count: usize| {
        let count64 = u64::try_from(count).unwrap_or(1).max(1);
        let drawn = chance % count64;
        chance = (chance / count64) ^ chance.rotate_left(29);
        usize::try_from(drawn).unwrap_or(0)
    };
    let mut targets = Vec::new();
    let wanted = usize::from(lookup.targets_max.min(rules.targets_max)).max(1);
    while !order.is_empty() && targets.len() < wanted {
        // `order` is best first, so the lower of two draws is the less occupied one.
        let among = if near > 0 { near } else { order.len() };
        let best = draw(among).min(draw(among));
        targets.push(order.remove(best).node.slot);
        near = near.saturating_sub(1);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::node::{Node, NodeState};
    use std::sync::Arc;

    const RULES: Rules = Rules { agent_reserve_pm: 400, zone_spill_pm: 800, targets_max: 3 };

    fn view(loads: &[u32]) -> View {
        let node = |(slot, load): (u16, &u32)| Loaded {
            node: Arc::new(Node {
                id: format!("n{slot}").parse().unwrap(),
                slot: Slot(slot),
                uri: format!("sip:127.0.1.{}", slot + 1).parse().unwrap(),
                capacity: 10,
                zone: None,
                tags: Default::default(),
                state: NodeState::Active,
                health: Default::default(),
            }),
            load: *load,
            touched: 0,
        };
        View {
            version: 1,
            nodes: Vec::new(),
            loaded: (0..).zip(loads).map(node).collect(),
            at: EpochMs(0),
            history: 1,
        }
    }

    fn lease(n: u64) -> LeaseId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        LeaseId(id)
    }

    #[test]
    fn the_same_lookup_has_the_same_answer() {
        let (degraded, view, call) = (Degraded::default(), view(&[0, 3, 9]), Lookup::new_call(3));
        let first = degraded.answer(lease(1), &view, &call, &RULES, EpochMs(0)).unwrap();
        for n in 2..50 {
            degraded.answer(lease(n), &view, &call, &RULES, EpochMs(n)).unwrap();
        }
        assert_eq!(degraded.answer(lease(1), &view, &call, &RULES, EpochMs(60)), Ok(first));
    }

    #[test]
    fn nobody_is_refused_for_room_and_nobody_gets_everything() {
        let (degraded, view, call) = (Degraded::default(), view(&[10, 10, 10, 10]), Lookup::new_call(3));
        let mut counts = [0u32; 4];
        for n in 0..400 {
            let targets = degraded.answer(lease(n), &view, &call, &RULES, EpochMs(0)).unwrap();
            assert_eq!(targets.len(), 3);
            counts[usize::from(targets[0].0)] += 1;
        }
        assert!(counts.iter().all(|n| *n > 20), "{counts:?}");
        assert_eq!(
            degraded.answer(lease(0), &View::empty(), &call, &RULES, EpochMs(REMEMBERED_MS)),
            Err(NoPick::NoNode)
        );
    }

    #[test]
    fn instances_with_one_view_spread_over_all_nodes() {
        const NODES: u64 = 100;
        const CALLS: u64 = 4000;
        let (view, call) = (view(&[5; NODES as usize]), Lookup::new_call(3));
        let mut counts = [0; NODES as usize];
        for n in 0..CALLS {
            // Another instance each time: none knows of the others' picks.
            let targets = Degraded::default().answer(lease(n), &view, &call, &RULES, EpochMs(0)).unwrap();
            counts[usize::from(targets[0].0)] += 1;
        }
        // The best of two draws is the first node twice as often as any.
        assert!(counts.iter().all(|n| *n < 3 * CALLS / NODES), "{counts:?}");
    }

    #[test]
    fn callers_stay_in_their_zone_while_it_has_nodes() {
        let mut view = view(&[5; 40]);
        for (n, zone) in view.loaded.iter_mut().zip(["a", "b"].iter().cycle()) {
            Arc::make_mut(&mut n.node).zone = Some(zone.parse().unwrap());
        }
        let call = Lookup { zone: Some("b".parse().unwrap()), ..Lookup::new_call(3) };
        for n in 0..100 {
            let targets = Degraded::default().answer(lease(n), &view, &call, &RULES, EpochMs(0)).unwrap();
            assert!(targets.iter().all(|slot| slot.0 % 2 == 1), "{targets:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (degraded, view, call) = (Degraded::default(), view(&[0]), Lookup::new_call(1));
        for n in 0..(REMEMBERED_MAX as u64 + 500) {
            degraded.answer(lease(n), &view, &call, &RULES, EpochMs(0)).unwrap();
        }
        let memory = degraded.0.lock().unwrap();
        assert!(memory.answers.len() <= REMEMBERED_MAX && memory.order.len() <= REMEMBERED_MAX);
        assert!(memory.journal.len() <= REMEMBERED_MAX);
    }
}
