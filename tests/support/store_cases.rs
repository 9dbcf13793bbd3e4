//! The contract, promise by promise. Every store keeps every one.

pub use super::choice_cases::*;
pub use super::limit_cases::*;
use super::store_bench::*;
use mqs::domain::health::{Condition, Health};
use mqs::domain::id::Slot;
use mqs::domain::lease::{self, Lifetimes, Settle, Settled};
use mqs::domain::pool::Lookup;
use mqs::domain::time::EpochMs;
use mqs::store::{Answer, NodeRecord, SettleOne, Swept, View, Written};
use std::sync::Arc;

pub async fn a_store_that_knows_nothing_says_so(h: &impl Harness) {
    let mut bench = Bench::new(h);
    assert_eq!(bench.look().await.version, 0);
    assert!(bench.seen.nodes.is_empty() && bench.seen.loaded.is_empty());
    assert_eq!(bench.chosen(1, &call()).await, "NoNode");
    assert_eq!(bench.fail(1, 0).await, Settled::Gone);
    assert_eq!(bench.done(1).await, Settled::Already);
    assert_eq!(bench.sweep(10).await, Swept::default());
}

pub async fn definitions_come_back_as_they_were_written(h: &impl Harness) {
    let bench = Bench::new(h);
    let texts = [
        "b 20 zone=z1 tags=fax,gsm",
        "a 8000 state=draining",
        "c 1 state=down",
        "d 5 state=removed slot=2047",
    ];
    let mut records: Vec<NodeRecord> = (3..).zip(texts).map(|(slot, text)| record(slot, text)).collect();
    records[0].file_digest = Some("sha256:\"quoted\" and é".to_owned());
    records[1].since = EpochMs(1_700_000_000_123);
    Arc::make_mut(&mut records[2].node).health = Health {
        condition: Condition::Overloaded,
        since: EpochMs(1_700_000_000_124),
        until: Some(EpochMs(1_700_000_060_124)),
        why: "503 with \"Retry-After\": 60 é".to_owned(),
        ejections: 3,
        ramp_pm: 400,
        overruled: true,
    };
    records.reverse();
    let written = h.store().write_nodes(&bench.pool, &View::empty(), &records).await.unwrap();
    let view = h.store().view(&bench.pool, &View::empty()).await.unwrap();
    assert_eq!(written, Written::Done(view.version));
    records.sort_by_key(|r| r.node.slot);
    assert_eq!(view.nodes, records);
    let loaded: Vec<_> = view.loaded.iter().map(|n| (n.node.slot.0, n.load, n.touched)).collect();
    assert_eq!(loaded, [(3, 0, 0), (4, 0, 0), (5, 0, 0), (2047, 0, 0)]);
    let later = h.store().view(&bench.pool, &view).await.unwrap();
    assert!(later.at >= view.at && later.at.since(view.at) < 60_000);
    assert_eq!((later.version, later.nodes), (view.version, records));
}

pub async fn only_one_of_two_changes_to_the_same_definitions_is_done(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10"]).await;
    let old = bench.look().await.clone();
    bench.redefine(&["a 20"]).await;
    let written = h.store().write_nodes(&bench.pool, &old, &[record(0, "a 30")]).await.unwrap();
    assert_eq!(written, Written::Conflict);
    let written = h.store().write_nodes(&bench.pool, &View::empty(), &[record(0, "a 30")]).await.unwrap();
    assert_eq!(written, Written::Conflict, "nobody may overwrite what they have not seen");
    assert_eq!(bench.look().await.nodes[0].node.capacity, 20);
}

pub async fn the_same_lookup_gets_the_same_answer_and_one_lease(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 10", "c 10", "d 10"]).await;
    let Answer::Leased(targets) = bench.pick(1, &call()).await else { panic!("not leased") };
    assert_eq!(targets.len(), 3);
    for _ in 0..3 {
        assert_eq!(bench.pick(1, &call()).await, Answer::Repeat(targets.clone()));
    }
    // A retransmission that says something else gets the first answer all the same.
    assert_eq!(bench.pick(1, &without(&["a"])).await, Answer::Repeat(targets.clone()));
    assert_eq!(bench.loads().await, "a=1 b=0 c=0 d=0");
    assert_eq!(bench.confirm(1, 0, None).await, Settled::Confirmed);
    assert_eq!(bench.pick(1, &call()).await, Answer::Repeat(targets.clone()));
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.pick(1, &call()).await, Answer::Repeat(targets), "an ended one is remembered");
    assert_eq!(bench.loads().await, "a=0 b=0 c=0 d=0");
}

pub async fn lookups_of_one_batch_see_each_other(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 20", "c 10"]).await;
    let batch = [1, 2, 1, 3, 2, 4, 5].map(|lease| bench.ask(lease, &call()));
    let answers = bench.picks(&batch).await;
    let names: Vec<String> = answers.iter().map(|answer| bench.name(answer)).collect();
    assert_eq!(names, ["b", "a", "again b", "c", "again a", "b", "b"]);
    assert_eq!(answers[2], Answer::Repeat(targets(&answers[0])), "all targets, not only the first");
    assert_eq!(bench.loads().await, "a=1 b=3 c=1");
}

pub async fn a_batch_chooses_as_one_lookup_after_the_other(h: &impl Harness) {
    let nodes: Vec<String> = (0..40).map(|i| format!("n{i} {} zone=z{}", 20 + i % 7, i % 3)).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let lookups: Vec<Lookup> = (0..300)
        .map(|i| match i % 5 {
            0 => Lookup { zone: "z1".parse().ok(), ..call() },
            1 => without(&["n0", "n1", "n6", "n13", "n20"]),
            2 => to_agent_on("n39"),
            _ => call(),
        })
        .collect();
    let mut bench = Bench::with(h, &nodes).await;
    let asks: Vec<_> = (0..).zip(&lookups).map(|(i, lookup)| bench.ask(i, lookup)).collect();
    let at_once = bench.picks(&asks).await;
    let loads = bench.loads().await;
    bench.pool = "q".parse().unwrap();
    bench.define(&nodes).await;
    for (i, (ask, answer)) in asks.iter().zip(at_once).enumerate() {
        let alone = bench.picks(std::slice::from_ref(ask)).await.remove(0);
        assert_eq!(first(&alone), first(&answer), "lookup {i}");
    }
    assert_eq!(bench.loads().await, loads);
}

pub async fn least_occupancy_wins_then_touched_longest_ago_then_slot(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 20", "c 10"]).await;
    let mut names = Vec::new();
    for lease in 0..12 {
        names.push(bench.chosen(lease, &call()).await);
    }
    // b alone is least, at 1/20; then a and c at 1/10, before b at 2/20, which was touched; b twice more; and so on.
    assert_eq!(names.join(" "), "b a c b b a c b b a c b");
    assert_eq!(bench.loads().await, "a=3 b=6 c=3");
}

pub async fn a_load_is_the_number_of_live_leases(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10"]).await;
    for lease in 0..4 {
        bench.pick(lease, &call()).await;
    }
    assert_eq!(bench.loads().await, "a=4");
    assert_eq!(bench.confirm(0, 0, Some(0)).await, Settled::Confirmed);
    assert_eq!(bench.confirm(0, 0, Some(0)).await, Settled::Already);
    assert_eq!(bench.loads().await, "a=4");
    for lease in [0, 1, 1, 0, 7, 2, 3, 3] {
        bench.done(lease).await;
    }
    assert_eq!(bench.loads().await, "a=0");
    assert_eq!(bench.chosen(9, &call()).await, "a");
    assert_eq!(bench.loads().await, "a=1", "and not below zero before");
}

pub async fn fail_moves_the_lease_once_to_the_next_target(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 20", "c 30"]).await;
    bench.look().await;
    assert_eq!(targets(&bench.pick(1, &call()).await), [Slot(2), Slot(1), Slot(0)]);
    assert_eq!(bench.fail(1, 0).await, Settled::Moved { attempt: 1, slot: Slot(1) });
    assert_eq!(bench.fail(1, 0).await, Settled::Stale);
    assert_eq!(bench.loads().await, "a=0 b=1 c=0");
    assert_eq!(bench.confirm(1, 0, Some(2)).await, Settled::Stale);
    assert_eq!(bench.confirm(1, 1, Some(1)).await, Settled::Confirmed);
    assert_eq!(bench.fail(1, 1).await, Settled::Moved { attempt: 2, slot: Slot(0) });
    assert_eq!(bench.loads().await, "a=1 b=0 c=0");
    assert_eq!(bench.fail(1, 2).await, Settled::Ended);
    assert_eq!(bench.fail(1, 2).await, Settled::Gone);
    assert_eq!(bench.loads().await, "a=0 b=0 c=0");
    assert_eq!(bench.fail(2, 0).await, Settled::Gone);
}

pub async fn a_move_counts_as_a_touch(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 10", "c 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    assert_eq!(bench.fail(1, 0).await, Settled::Moved { attempt: 1, slot: Slot(1) });
    assert_eq!(bench.done(1).await, Settled::Ended);
    let order =
        [bench.chosen(2, &call()).await, bench.chosen(3, &call()).await, bench.chosen(4, &call()).await];
    assert_eq!(order, ["c", "a", "b"]);
}

pub async fn verbs_of_one_batch_see_each_other(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 10"]).await;
    bench.pick(1, &call()).await;
    let latest = bench.now().await + 60_000;
    let verbs = [
        (1, Settle::Fail { branch: 0 }),
        (1, Settle::Fail { branch: 0 }),
        (1, Settle::Confirm { branch: 1, slot: Some(Slot(1)), latest }),
        (2, Settle::Done),
        (1, Settle::Done),
        (2, Settle::Confirm { branch: 0, slot: Some(Slot(0)), latest }),
        (1, Settle::Done),
    ];
    let batch: Vec<SettleOne> = verbs.map(|(lease, verb)| SettleOne { lease: id(lease), verb }).to_vec();
    let moved = Settled::Moved { attempt: 1, slot: Slot(1) };
    let said = [
        moved,
        Settled::Stale,
        Settled::Confirmed,
        Settled::Already,
        Settled::Ended,
        Settled::Gone,
        Settled::Already,
    ];
    assert_eq!(bench.settles(&batch).await, said);
    assert_eq!(bench.loads().await, "a=0 b=0");
}

pub async fn done_before_everything_else_keeps_a_late_confirm_from_counting(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10"]).await;
    assert_eq!(bench.done(1).await, Settled::Already);
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Gone);
    assert_eq!(bench.loads().await, "a=0");
    // A tomb without targets answers no lookup: this one is new, and outlives the tomb.
    bench.rules.life.held_ms = 4 * lease::TOMB_MS;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    h.pass_tombs(&bench.pool).await;
    assert_eq!(bench.sweep(100).await, Swept::default());
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Confirmed);
    assert_eq!(bench.loads().await, "a=1");
}

pub async fn tombs_are_forgotten_in_time(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10"]).await;
    bench.pick(1, &call()).await;
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.sweep(100).await, Swept::default(), "it is not time yet");
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Gone);
    h.pass_tombs(&bench.pool).await;
    assert_eq!(bench.sweep(100).await, Swept { expired: 0, forgotten: 1, more: false });
    assert_eq!(bench.sweep(100).await, Swept::default());
    assert_eq!(bench.chosen(1, &call()).await, "a", "a new one, not a repeat");
}

pub async fn an_unknown_lease_is_adopted_from_its_token(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 10"]).await;
    assert_eq!(bench.confirm(1, 1, Some(1)).await, Settled::Adopted);
    assert_eq!(bench.loads().await, "a=0 b=1");
    assert_eq!(bench.confirm(1, 1, Some(1)).await, Settled::Already);
    assert_eq!(bench.pick(1, &call()).await, Answer::Repeat(vec![Slot(1)]), "what is not known is left out");
    assert_eq!(bench.chosen(2, &call()).await, "a", "the adopted one counts");
    assert_eq!(bench.confirm(3, 0, None).await, Settled::Gone);
    assert_eq!(bench.confirm(4, 255, Some(0)).await, Settled::Adopted);
    assert_eq!(bench.fail(4, 255).await, Settled::Moved { attempt: 255, slot: Slot(0) });
    assert_eq!(bench.done(4).await, Settled::Ended);
    // Counted where no node is (any more): no harm, and found again when there is one.
    assert_eq!(bench.confirm(5, 0, Some(7)).await, Settled::Adopted);
    assert_eq!(bench.loads().await, "a=1 b=1");
    bench.redefine(&["a 10", "b 10", "c 10 slot=7"]).await;
    assert_eq!(bench.loads().await, "a=1 b=1 c=1");
    assert_eq!(bench.done(5).await, Settled::Ended);
    assert_eq!(bench.loads().await, "a=1 b=1 c=0");
}

pub async fn the_token_wins_over_what_is_remembered(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10", "b 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    assert_eq!(bench.confirm(1, 0, Some(1)).await, Settled::Confirmed);
    assert_eq!(bench.loads().await, "a=0 b=1");
    assert_eq!(bench.chosen(2, &call()).await, "a");
}

pub async fn nothing_is_counted_after_its_latest_time(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10"]).await;
    bench.pick(1, &call()).await;
    bench.pick(2, &call()).await;
    let past = EpochMs(bench.now().await.0 - 1000);
    let late = |slot| Settle::Confirm { branch: 0, slot, latest: past };
    assert_eq!(bench.settle(9, late(Some(Slot(0)))).await, Settled::Gone);
    assert_eq!(bench.loads().await, "a=2");
    assert_eq!(bench.settle(1, late(None)).await, Settled::Confirmed);
    assert_eq!(bench.loads().await, "a=1");
    h.pass(1).await;
    bench.sweep(100).await;
    assert_eq!(bench.loads().await, "a=1", "taken off once, not twice");
    assert_eq!(bench.done(2).await, Settled::Ended);
    assert_eq!(bench.loads().await, "a=0");
}

pub async fn an_expired_lease_frees_its_place(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 3", "b 3"]).await;
    bench.rules.life = Lifetimes { held_ms: SHORT_MS, call_max_ms: SHORT_MS };
    for lease in 0..6 {
        bench.pick(lease, &call()).await;
    }
    let latest = bench.now().await + 60_000;
    bench.settle(0, Settle::Confirm { branch: 0, slot: None, latest }).await;
    assert_eq!(bench.chosen(6, &call()).await, "Full");
    h.pass(SHORT_MS).await;
    assert_eq!(bench.loads().await, "a=0 b=0", "also before the sweep");
    let swept = bench.sweep(100).await;
    assert!(!swept.more);
    bench.rules.life = LIFE;
    assert_eq!(bench.chosen(6, &call()).await, "a");
    assert_eq!(bench.chosen(0, &call()).await, "b", "no repeat of an expired one");
    assert_eq!(bench.loads().await, "a=1 b=1");
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Adopted);
    assert_eq!(bench.loads().await, "a=2 b=1");
}

pub async fn an_expired_lease_is_unknown_before_the_sweep_too(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10"]).await;
    bench.rules.life.held_ms = SHORT_MS;
    for lease in 0..4 {
        bench.pick(lease, &call()).await;
    }
    h.pass(SHORT_MS).await;
    bench.rules.life = LIFE;
    assert_eq!(bench.done(0).await, Settled::Already);
    assert_eq!(bench.fail(1, 0).await, Settled::Gone);
    assert_eq!(bench.confirm(1, 0, Some(1)).await, Settled::Adopted);
    assert!(matches!(bench.pick(2, &call()).await, Answer::Leased(_)), "no repeat of an expired one");
    let swept = bench.sweep(100).await;
    assert!(!swept.more);
    assert_eq!(bench.confirm(1, 0, Some(1)).await, Settled::Already, "the sweep leaves what was adopted");
    assert!(matches!(bench.pick(2, &call()).await, Answer::Repeat(_)));
    let loads = bench.loads().await;
    assert!(["a=0 b=2", "a=1 b=1"].contains(&loads.as_str()), "{loads}");
}

pub async fn an_expired_lease_that_is_asked_for_again_frees_its_old_place(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 5", "b 10", "c 6"]).await;
    bench.rules.life.held_ms = SHORT_MS;
    assert_eq!(bench.chosen(1, &call()).await, "b");
    h.pass(SHORT_MS).await;
    bench.rules.life = LIFE;
    assert_eq!(bench.chosen(1, &without(&["b"])).await, "c");
    assert_eq!(bench.chosen(2, &call()).await, "b", "b is empty, so 1/10: less than 1/5");
    assert_eq!(bench.loads().await, "a=0 b=1 c=1");
}

pub async fn a_sweep_takes_no_more_than_it_may(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10"]).await;
    bench.rules.life.held_ms = SHORT_MS;
    for lease in 0..5 {
        bench.pick(lease, &call()).await;
    }
    bench.rules.life = LIFE;
    bench.pick(5, &call()).await;
    h.pass(SHORT_MS).await;
    assert_eq!(bench.sweep(0).await, Swept { expired: 0, forgotten: 0, more: true });
    assert_eq!(bench.sweep(1).await, Swept { expired: 1, forgotten: 0, more: true });
    assert_eq!(bench.sweep(3).await, Swept { expired: 3, forgotten: 0, more: true });
    assert_eq!(bench.sweep(2).await, Swept { expired: 1, forgotten: 0, more: false });
    assert_eq!(bench.sweep(2).await, Swept::default());
    assert_eq!(bench.loads().await, "a=0 b=1");
    assert_eq!(bench.chosen(6, &call()).await, "a");
}

pub async fn a_node_knows_what_it_carries(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 3000", "b 3000"]).await;
    assert_eq!(bench.carried(0).await, [(0, false); 0]);
    for lease in 0..6 {
        bench.pick(lease, &call()).await;
    }
    // a, b, a, b, …: the even ones are on the first.
    bench.confirm(2, 0, Some(0)).await;
    bench.confirm(3, 0, Some(1)).await;
    bench.done(4).await;
    assert_eq!(bench.carried(0).await, [(0, false), (2, true)]);
    assert_eq!(bench.carried(1).await, [(1, false), (3, true), (5, false)]);
    assert_eq!(bench.carried(7).await, [(0, false); 0], "a slot that nobody has");
    // More than are read at once.
    for lease in 6..4_006 {
        bench.pick(lease, &call()).await;
    }
    assert_eq!(bench.carried(0).await.len() + bench.carried(1).await.len(), 4_005);
    bench.rules.life.held_ms = SHORT_MS;
    bench.pick(5_000, &call()).await;
    h.pass(SHORT_MS).await;
    let all = [bench.carried(0).await, bench.carried(1).await].concat();
    assert!(!all.contains(&(5_000, false)), "also before the sweep");
}

pub async fn live_leases_are_told_from_those_that_are_over(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10"]).await;
    let all: Vec<_> = (0..6).map(id).collect();
    assert_eq!(bench.known(&all).await, [false; 6]);
    for lease in 0..4 {
        bench.pick(lease, &call()).await;
    }
    bench.confirm(1, 0, Some(1)).await;
    bench.done(2).await;
    bench.done(5).await;
    assert_eq!(bench.known(&all).await, [true, true, false, true, false, false]);
    assert_eq!(
        bench.known(&[id(5), id(1), id(5), id(1)]).await,
        [false, true, false, true],
        "in their order"
    );
    assert_eq!(bench.known(&[]).await, [false; 0]);
    bench.rules.life.held_ms = SHORT_MS;
    bench.pick(4, &call()).await;
    assert_eq!(bench.known(&[id(4)]).await, [true]);
    h.pass(SHORT_MS).await;
    assert_eq!(bench.known(&[id(4), id(0)]).await, [false, true], "also before the sweep");
    assert_eq!(bench.loads().await, "a=1 b=2");
    let many: Vec<_> = (0..1_500).map(id).collect();
    assert_eq!(bench.known(&many).await.iter().filter(|live| **live).count(), 3);
}

pub async fn as_long_as_nothing_is_forgotten_its_history_is_one(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10"]).await;
    let history = bench.look().await.history;
    assert_ne!(history, 0);
    bench.pick(1, &call()).await;
    bench.confirm(1, 0, None).await;
    bench.redefine(&["a 10", "b 10"]).await;
    bench.sweep(10).await;
    bench.redefine(&[]).await;
    assert_eq!(bench.look().await.history, history);
    bench.define(&["a 10"]).await;
    assert_eq!(bench.seen.history, history);
    let known = h.store().known(&bench.pool, &[id(1)]).await.unwrap();
    assert_eq!(known.history, history);
}

pub async fn a_heartbeat_holds_for_its_time_and_is_remembered_after_it(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10"]).await;
    let (node, other) = ("a".parse().unwrap(), "not-defined-yet".parse().unwrap());
    assert!(h.store().beats(&bench.pool).await.unwrap().until.is_empty());
    let before = bench.now().await;
    let until = h.store().beat(&bench.pool, &node, 30_000).await.unwrap();
    assert!(until.since(before) >= 30_000 && until.since(before) < 60_000, "by the store's clock");
    let short = h.store().beat(&bench.pool, &other, SHORT_MS).await.unwrap();
    let beats = h.store().beats(&bench.pool).await.unwrap();
    assert_eq!(beats.until, [(node.clone(), until), (other.clone(), short)].into());
    h.pass(SHORT_MS).await;
    let later = h.store().beats(&bench.pool).await.unwrap();
    assert_eq!(later.until, beats.until, "silence is told from never having been heard of");
    assert!(later.at > short && later.at < until && later.history == beats.history);
    let again = h.store().beat(&bench.pool, &node, 10_000).await.unwrap();
    assert!(again < until, "what was said last counts");
    let over = h.store().beat(&bench.pool, &node, 0).await.unwrap();
    assert!(over <= bench.now().await);
}

pub async fn a_heartbeat_changes_no_definition(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10"]).await;
    let before = bench.look().await.version;
    for node in ["a", "b", "c"] {
        h.store().beat(&bench.pool, &node.parse().unwrap(), 30_000).await.unwrap();
    }
    assert_eq!(bench.look().await.version, before);
    bench.redefine(&["a 20"]).await;
    let until = h.store().beats(&bench.pool).await.unwrap().until;
    assert_eq!(until.len(), 3, "and no definition forgets a heartbeat");
    let other = "q".parse().unwrap();
    assert!(h.store().beats(&other).await.unwrap().until.is_empty(), "a pool has its own");
}

pub async fn only_heartbeats_that_are_over_are_forgotten(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10"]).await;
    let names = ["a", "b", "c"].map(|name| name.parse().unwrap());
    for (node, ttl_ms) in names.iter().zip([0, 30_000, 0]) {
        h.store().beat(&bench.pool, node, ttl_ms).await.unwrap();
    }
    h.pass(1).await;
    h.store().forget_beats(&bench.pool, &names[..2]).await.unwrap();
    h.store().forget_beats(&bench.pool, &["nobody".parse().unwrap()]).await.unwrap();
    h.store().forget_beats(&bench.pool, &[]).await.unwrap();
    let left = h.store().beats(&bench.pool).await.unwrap().until;
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        [&names[1], &names[2]],
        "the one that lives, and the one not named"
    );
}
