use super::*;
use crate::domain::node::{Node, NodeState};
use crate::domain::pool::Loaded;
use crate::store::NodeRecord;
use proptest::prelude::*;
use std::sync::Arc;

const LIFE: Lifetimes = Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 };
const T: EpochMs = EpochMs(1_700_000_000_000);

fn id(n: u64) -> LeaseId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    LeaseId(id)
}

/// A pool of nodes in this order, as a store of that history shows it.
fn view(names: &[&str], history: u64) -> View {
    let node = |(slot, name): (u16, &&str)| {
        Arc::new(Node {
            id: name.parse().unwrap(),
            slot: Slot(slot),
            uri: format!("sip:127.0.1.{}", slot + 1).parse().unwrap(),
            capacity: 10,
            zone: None,
            tags: Default::default(),
            state: NodeState::Active,
            health: Default::default(),
        })
    };
    let nodes: Vec<_> = (0..).zip(names).map(node).collect();
    let record = |node: &Arc<Node>| NodeRecord { node: node.clone(), file_digest: None, since: T };
    let loaded = |node: &Arc<Node>| Loaded { node: node.clone(), load: 0, touched: 0 };
    View {
        version: 1,
        nodes: nodes.iter().map(record).collect(),
        loaded: nodes.iter().map(loaded).collect(),
        at: T,
        history,
    }
}

fn confirm(slot: u16) -> Settle {
    Settle::Confirm { branch: 0, slot: Some(Slot(slot)), latest: T + LIFE.call_max_ms }
}

/// Everything that the store is told after it has forgotten, by lease.
fn told(ledger: &Ledger, now: EpochMs) -> Vec<(LeaseId, Settle)> {
    let mut told = Vec::new();
    while ledger.owes(now) {
        told.extend(ledger.owed(3, now).into_iter().map(|one| (one.lease, one.verb)));
    }
    told.sort_by_key(|(id, _)| *id);
    told
}

#[test]
fn a_store_that_forgot_is_told_of_the_live_and_of_the_late_ends() {
    let (ledger, seen) = (Ledger::default(), view(&["a", "b"], 7));
    assert!(!ledger.saw(&View::empty(), &seen, T), "seen for the first time");
    let slots = [Slot(1), Slot(0)];
    for n in 1..=5 {
        ledger.answered(id(n), &slots, LIFE, T);
    }
    ledger.told(id(2), &confirm(1), Some(&Settled::Confirmed), LIFE, T);
    let fail = Settle::Fail { branch: 0 };
    ledger.told(id(3), &fail, Some(&Settled::Moved { attempt: 1, slot: Slot(0) }), LIFE, T);
    ledger.told(id(4), &Settle::Done, Some(&Settled::Ended), LIFE, T);
    ledger.told(id(5), &confirm(1), Some(&Settled::Gone), LIFE, T);
    // The store did not answer: the proxy's words count all the same.
    ledger.told(id(6), &confirm(0), None, LIFE, T);
    ledger.told(id(7), &Settle::Done, None, LIFE, T);
    assert_eq!(ledger.count(T), Count { held: 2, confirmed: 2 });
    assert!(!ledger.saw(&seen, &view(&["a", "b"], 7), T) && !ledger.owes(T));
    assert!(ledger.saw(&seen, &view(&["a", "b"], 8), T));
    let adopt = || Settle::Adopt { targets: slots.to_vec() };
    let wanted = [
        (id(1), adopt()),
        (id(2), confirm(1)),
        (id(3), adopt()),
        (id(3), fail),
        (id(4), Settle::Done),
        (id(6), confirm(0)),
        (id(7), Settle::Done),
    ];
    assert_eq!(told(&ledger, T), wanted);
    let later = T + TOMB_MS;
    ledger.saw(&seen, &view(&["a", "b"], 9), later);
    assert_eq!(
        told(&ledger, later),
        [(id(2), confirm(1)), (id(6), confirm(0))],
        "the held ones are over by now"
    );
}

#[test]
fn what_could_not_be_told_is_told_later_and_what_was_over_is_forgotten() {
    let (ledger, seen) = (Ledger::default(), view(&["a"], 1));
    ledger.saw(&View::empty(), &seen, T);
    for n in 0..10 {
        ledger.told(id(n), &confirm(0), Some(&Settled::Confirmed), LIFE, T);
    }
    ledger.saw(&seen, &view(&["a"], 2), T);
    let some = ledger.owed(4, T);
    assert!(ledger.to_compare(1, T).is_empty(), "not before the store was told");
    ledger.unpaid(&some, T);
    // Ended, and dropped, while it waits to be told: neither comes to life, nor is said to be over.
    ledger.told(id(3), &Settle::Done, Some(&Settled::Already), LIFE, T);
    let all = ledger.owed(100, T);
    assert_eq!(all.len(), 9);
    assert!(all.iter().all(|one| one.verb == confirm(0) && one.lease != id(3)));
    let said: Vec<_> =
        all.iter().map(|one| if one.lease == id(5) { Settled::Gone } else { Settled::Adopted }).collect();
    ledger.paid(&all, &said, LIFE, T);
    assert_eq!(ledger.count(T).confirmed, 8);
}

#[test]
fn leases_that_ended_elsewhere_are_forgotten_but_not_by_the_word_of_a_store_that_forgot() {
    let ledger = Ledger::default();
    ledger.saw(&View::empty(), &view(&["a"], 1), T);
    for n in 0..1_000 {
        ledger.told(id(n), &confirm(0), Some(&Settled::Confirmed), LIFE, T + n);
    }
    let now = T + 1_000;
    let mut asked = BTreeSet::new();
    for _ in 0..60 {
        let some = ledger.to_compare(60, now);
        assert!(some.len() <= 17, "{}", some.len());
        assert_eq!(ledger.compared(&some, &vec![false; some.len()], 2, now), 0, "another history");
        asked.extend(some);
    }
    assert_eq!((asked.len(), ledger.count(now).confirmed), (1_000, 1_000));
    let some = ledger.to_compare(1, now);
    let live: Vec<bool> = (0..some.len()).map(|n| n % 2 == 0).collect();
    assert_eq!(ledger.compared(&some, &live, 1, now), some.len() / 2);
    assert_eq!(ledger.count(now).confirmed as usize, 1_000 - some.len() / 2);
}

#[test]
fn slots_are_those_of_the_new_definitions() {
    let (ledger, before) = (Ledger::default(), view(&["a", "b", "c"], 1));
    ledger.saw(&View::empty(), &before, T);
    ledger.told(id(1), &confirm(0), Some(&Settled::Confirmed), LIFE, T);
    ledger.told(id(2), &confirm(1), Some(&Settled::Confirmed), LIFE, T);
    ledger.told(id(3), &confirm(2), Some(&Settled::Confirmed), LIFE, T);
    ledger.saw(&before, &view(&["c", "a"], 2), T);
    assert_eq!(told(&ledger, T), [(id(1), confirm(1)), (id(3), confirm(0))], "b is no more");
}

#[test]
fn memory_is_bounded_and_the_oldest_go_first() {
    let ledger = Ledger::default();
    let mut dropped = 0;
    let most = LEASES_MAX as u64;
    for n in 0..most + 10 {
        let latest = T + LIFE.call_max_ms + n;
        let confirm = Settle::Confirm { branch: 0, slot: Some(Slot(0)), latest };
        dropped += ledger.told(id(n), &confirm, Some(&Settled::Adopted), LIFE, T + n / 10_000);
    }
    assert_eq!((dropped, ledger.count(T).confirmed as usize), (10, LEASES_MAX));
    for n in 0..most + 10 {
        ledger.told(id(most + 10 + n), &Settle::Done, Some(&Settled::Ended), LIFE, T);
    }
    let book = ledger.lock(T);
    assert_eq!(book.ended.len(), LEASES_MAX);
    assert!((0..10).all(|n| !book.leases.contains_key(&id(n))) && book.leases.contains_key(&id(10)));
    drop(book);
    assert_eq!(ledger.count(T + LIFE.call_max_ms + most + 10), Count::default());
    assert!(ledger.lock(T).leases.capacity() < 2_048, "what a flood took is given back");
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u64),
    Confirm(u64),
    Fail(u64),
    Done(u64),
    /// Ended by another instance, which this one is not told.
    DoneElsewhere(u64),
    Forget,
    Compare,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || 0..12u64;
    prop_oneof![
        4 => lease().prop_map(Step::Answer),
        4 => lease().prop_map(Step::Confirm),
        1 => lease().prop_map(Step::Fail),
        2 => lease().prop_map(Step::Done),
        1 => lease().prop_map(Step::DoneElsewhere),
        1 => Just(Step::Forget),
        2 => Just(Step::Compare),
        2 => (0..20_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Over a store that is nothing but `lease::settle`, and forgets: after it was told again, it counts what it counted before, but
    /// for what ended elsewhere and was not compared since; and nothing that this instance was told is over is ever live.
    #[test]
    fn a_store_that_forgot_counts_again_what_it_counted(steps in prop::collection::vec(step(), 1..120)) {
        let (ledger, mut now) = (Ledger::default(), T);
        let mut history = 1;
        let mut store: HashMap<LeaseId, Lease> = HashMap::new();
        let mut elsewhere: BTreeSet<LeaseId> = BTreeSet::new();
        let seen = |history| view(&["a", "b", "c"], history);
        ledger.saw(&View::empty(), &seen(history), now);
        let say = |store: &mut HashMap<LeaseId, Lease>, id: LeaseId, verb: &Settle, now| {
            let (next, said) = lease::settle(store.remove(&id), verb, LIFE, now);
            next.into_iter().for_each(|next| _ = store.insert(id, next));
            said
        };
        let live = |store: &HashMap<LeaseId, Lease>, now| -> std::collections::BTreeMap<LeaseId, Option<Slot>> {
            store.iter().filter(|(_, l)| l.is_live(now)).map(|(id, l)| (*id, l.counted_on(now))).collect()
        };
        for step in steps {
            now = now + 1;
            match step {
                Step::Answer(n) => {
                    if store.get(&id(n)).is_some_and(|known| known.answers_repeat(now)) {
                        continue;
                    }
                    let targets = vec![Some(Slot(0)), Some(Slot(1))];
                    store.insert(id(n), Lease { state: LeaseState::Held, attempt: 0, targets, expires: now + LIFE.held_ms, scopes: Vec::new() });
                    ledger.answered(id(n), &[Slot(0), Slot(1)], LIFE, now);
                    elsewhere.remove(&id(n));
                }
                Step::Confirm(n) => {
                    let said = say(&mut store, id(n), &confirm(0), now);
                    ledger.told(id(n), &confirm(0), Some(&said), LIFE, now);
                    if said != Settled::Gone {
                        elsewhere.remove(&id(n));
                    }
                }
                Step::Fail(n) => {
                    let verb = Settle::Fail { branch: 0 };
                    let said = say(&mut store, id(n), &verb, now);
                    ledger.told(id(n), &verb, Some(&said), LIFE, now);
                }
                Step::Done(n) => {
                    let said = say(&mut store, id(n), &Settle::Done, now);
                    ledger.told(id(n), &Settle::Done, Some(&said), LIFE, now);
                    elsewhere.remove(&id(n));
                }
                Step::DoneElsewhere(n) => {
                    if live(&store, now).contains_key(&id(n)) {
                        elsewhere.insert(id(n));
                    }
                    say(&mut store, id(n), &Settle::Done, now);
                }
                Step::Pass(ms) => now = now + ms,
                Step::Compare => {
                    let some = ledger.to_compare(1, now);
                    let known: Vec<bool> = some.iter().map(|id| store.get(id).is_some_and(|l| l.is_live(now))).collect();
                    ledger.compared(&some, &known, history, now);
                    let (some, all) = (some.len(), ledger.count(now).confirmed as usize);
                    if some >= all {
                        // Held ones are not compared: they end soon.
                        let book = ledger.lock(now);
                        elsewhere.retain(|id| book.leases.contains_key(id));
                    }
                }
                Step::Forget => {
                    let before = live(&store, now);
                    store.clear();
                    history += 1;
                    ledger.saw(&seen(history - 1), &seen(history), now);
                    while ledger.owes(now) {
                        let some = ledger.owed(5, now);
                        let said: Vec<_> = some.iter().map(|one| say(&mut store, one.lease, &one.verb, now)).collect();
                        ledger.paid(&some, &said, LIFE, now);
                    }
                    let mut after = live(&store, now);
                    after.retain(|id, _| before.contains_key(id) || !elsewhere.contains(id));
                    prop_assert_eq!(&after, &before);
                }
            }
        }
    }
}
