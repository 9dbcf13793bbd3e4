//! The contract's cases about limits, keys that stick to a node, and pools that overflow.

use super::store_bench::*;
use mqs::domain::admission::{Admit, Limit, Rate, Reached, Scope, Usage};
use mqs::domain::id::{Slot, StickyId};
use mqs::domain::lease::{Lifetimes, Settled};
use mqs::domain::pool::{Lookup, NoPick};
use mqs::store::{Answer, Pick, Sticky};

/// A second's worth of calls comes in so many ms: none comes by itself while a case runs.
const NEVER: u32 = 1;

fn calls(most: u32) -> Limit {
    Limit { calls: Some(most), rate: None }
}

fn rate(per_second_milli: u32, burst: u32) -> Limit {
    Limit { calls: None, rate: Some(Rate::new(per_second_milli, burst)) }
}

fn admit(limits: &[(&str, Limit)]) -> Vec<Admit> {
    limits.iter().map(|(scope, limit)| Admit { scope: scope.parse().unwrap(), limit: *limit }).collect()
}

impl<H: Harness> Bench<'_, H> {
    async fn limited(&self, lease: u32, limits: &[(&str, Limit)]) -> String {
        self.wanted(Pick { admit: admit(limits), ..self.ask(lease, &call()) }).await
    }

    async fn sticking(&self, lease: u32, key: u8, lookup: &Lookup) -> String {
        self.wanted(Pick { sticky: sticky(key, 30_000), ..self.ask(lease, lookup) }).await
    }

    async fn wanted(&self, pick: Pick) -> String {
        let answer = self.picks(&[pick]).await.remove(0);
        if let Answer::Refused(NoPick::Limit { tenant, reached }) = answer {
            // How long to wait depends on the clock.
            return format!("{} {}", if tenant { "tenant" } else { "pool" }, reached.as_str());
        }
        self.name(&answer)
    }

    async fn used(&self, scope: &str) -> Usage {
        let scope: Scope = scope.parse().unwrap();
        self.harness.store().usage(&self.pool, &[scope]).await.unwrap().remove(0)
    }
}

fn sticky(key: u8, keep_ms: u64) -> Option<Sticky> {
    Some(Sticky { id: StickyId([key; 16]), keep_ms })
}

pub async fn calls_at_once_are_limited_for_the_pool_and_for_each_tenant(h: &impl Harness) {
    let bench = Bench::with(h, &["a 100"]).await;
    let acme = [("p", calls(4)), ("t:acme.com", calls(2))];
    let other = [("p", calls(4)), ("t:other", calls(3))];
    assert_eq!(bench.limited(1, &acme).await, "a");
    assert_eq!(bench.limited(2, &acme).await, "a");
    assert_eq!(bench.limited(3, &acme).await, "tenant calls");
    assert_eq!(bench.limited(1, &acme).await, "again a", "a repeat is no further call");
    assert_eq!(bench.limited(4, &other).await, "a");
    assert_eq!(bench.limited(5, &other).await, "a");
    assert_eq!(bench.limited(6, &other).await, "pool calls", "the pool's limit is the first that counts");
    assert_eq!(bench.chosen(7, &call()).await, "a", "a call without limits is not counted for them");
    for (scope, live) in [("p", 4), ("t:acme.com", 2), ("t:other", 2), ("t:nobody", 0)] {
        assert_eq!(bench.used(scope).await, Usage { live, arrival_us: 0 }, "{scope}");
    }
    // All of one batch see each other, too.
    let bench = Bench { pool: "q".parse().unwrap(), ..Bench::with(h, &["a 100"]).await };
    bench.redefine(&["a 100"]).await;
    let batch: Vec<Pick> = (0..10).map(|n| Pick { admit: admit(&acme), ..bench.ask(n, &call()) }).collect();
    let answers = bench.picks(&batch).await;
    let leased = answers.iter().filter(|answer| matches!(answer, Answer::Leased(_))).count();
    assert_eq!(leased, 2, "{answers:?}");
    assert_eq!(
        answers.last(),
        Some(&Answer::Refused(NoPick::Limit { tenant: true, reached: Reached::Calls }))
    );
}

pub async fn a_limit_counts_a_lease_until_it_ends(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 100", "b 100"]).await;
    let limits = [("p", calls(2)), ("t:x", calls(9))];
    assert_eq!(bench.limited(1, &limits).await, "a");
    assert_eq!(bench.limited(2, &limits).await, "b");
    assert_eq!(bench.confirm(1, 0, None).await, Settled::Confirmed);
    assert!(matches!(bench.fail(2, 0).await, Settled::Moved { .. }));
    assert_eq!(bench.limited(3, &limits).await, "pool calls", "confirmed or moved, it is one call");
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.used("t:x").await.live, 1);
    assert_eq!(bench.limited(3, &limits).await, "b");
    assert_eq!(bench.fail(3, 0).await, Settled::Moved { attempt: 1, slot: Slot(0) });
    assert_eq!(bench.fail(3, 1).await, Settled::Ended);
    assert_eq!(bench.done(2).await, Settled::Ended);
    assert_eq!(bench.used("p").await.live, 0);
    bench.rules.life = Lifetimes { held_ms: SHORT_MS, ..LIFE };
    assert!(!bench.limited(4, &limits).await.contains("calls"));
    assert!(!bench.limited(5, &limits).await.contains("calls"));
    assert_eq!(bench.limited(6, &limits).await, "pool calls");
    h.pass(SHORT_MS).await;
    assert_eq!(bench.used("p").await.live, 0, "before a sweep, too");
    assert!(!bench.limited(6, &limits).await.contains("calls"));
}

pub async fn a_bucket_gives_exactly_its_burst_and_then_its_rate(h: &impl Harness) {
    let bench = Bench::with(h, &["a 1000"]).await;
    let limits = [("p", rate(NEVER, 7))];
    let batch = |range: std::ops::Range<u32>| -> Vec<Pick> {
        range.map(|n| Pick { admit: admit(&limits), ..bench.ask(n, &call()) }).collect()
    };
    let leased = |answers: Vec<Answer>| answers.iter().filter(|a| matches!(a, Answer::Leased(_))).count();
    assert_eq!(leased(bench.picks(&batch(0..5)).await), 5);
    assert_eq!(leased(bench.picks(&batch(5..100)).await), 2);
    assert_eq!(bench.limited(101, &limits).await, "pool rate");
    let quick = [("t:quick", rate(1_000_000 / SHORT_MS as u32, 1))];
    assert_eq!(bench.limited(200, &quick).await, "a");
    let refused = bench.picks(&[Pick { admit: admit(&quick), ..bench.ask(201, &call()) }]).await.remove(0);
    let Answer::Refused(NoPick::Limit { tenant: true, reached: Reached::Rate { wait_ms } }) = refused else {
        panic!("{refused:?}")
    };
    assert!((1..=SHORT_MS).contains(&wait_ms), "{wait_ms}");
    h.pass(wait_ms).await;
    assert_eq!(bench.limited(201, &quick).await, "a");
}

pub async fn a_refusal_and_a_repeat_use_nothing_up(h: &impl Harness) {
    let bench = Bench::with(h, &["a 1"]).await;
    let limits = [("p", rate(NEVER, 2)), ("t:x", calls(1))];
    assert_eq!(bench.limited(1, &limits).await, "a");
    let used = bench.used("p").await;
    assert_eq!(bench.limited(1, &limits).await, "again a");
    assert_eq!(bench.limited(2, &limits).await, "tenant calls");
    assert_eq!(bench.limited(3, &[("p", rate(NEVER, 2))]).await, "Full");
    assert_eq!(bench.used("p").await, used, "one token, one call");
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.limited(4, &limits).await, "a");
    assert_eq!(bench.done(4).await, Settled::Ended);
    assert_eq!(bench.limited(5, &limits).await, "pool rate");
}

pub async fn a_key_sticks_to_its_node_while_that_may_take_the_call(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 4", "b 4 tags=t", "c 4"]).await;
    assert_eq!(bench.sticking(1, 7, &call()).await, "a");
    assert_eq!(bench.sticking(2, 7, &call()).await, "a", "not the least loaded");
    assert_eq!(bench.sticking(3, 8, &call()).await, "b", "another key");
    assert_eq!(bench.sticking(2, 7, &call()).await, "again a");
    let answer = bench.picks(&[Pick { sticky: sticky(7, 30_000), ..bench.ask(4, &call()) }]).await.remove(0);
    assert_eq!((bench.name(&answer).as_str(), targets(&answer).len()), ("a", 3), "the others come behind it");
    assert_eq!(bench.sticking(5, 7, &without(&["a"])).await, "c", "excluded; from now on it is there");
    assert_eq!(bench.sticking(6, 7, &call()).await, "c");
    let tagged = Lookup { tags: ["t".parse().unwrap()].into(), ..call() };
    assert_eq!(bench.sticking(7, 7, &tagged).await, "b", "c lacks the tag");
    assert_eq!(bench.sticking(8, 7, &call()).await, "b");
    assert_eq!(bench.sticking(9, 7, &call()).await, "b");
    assert_eq!(bench.loads().await, "a=3 b=4 c=2");
    assert_eq!(bench.sticking(10, 7, &call()).await, "c", "b is full");
    bench.define(&["a 4", "b 4 tags=t", "c 4 state=draining"]).await;
    assert_eq!(bench.sticking(11, 7, &call()).await, "a", "c is draining");
    bench.define(&["a 4", "b 4", "c 40"]).await;
    assert_eq!(bench.wanted(Pick { sticky: sticky(9, SHORT_MS), ..bench.ask(20, &call()) }).await, "c");
    bench.define(&["a 100", "b 100", "c 40"]).await;
    assert_eq!(bench.wanted(Pick { sticky: sticky(9, SHORT_MS), ..bench.ask(21, &call()) }).await, "c");
    h.pass(SHORT_MS).await;
    assert_ne!(bench.sticking(22, 9, &call()).await, "c", "forgotten after its time");
}

pub async fn keys_of_one_batch_see_each_other(h: &impl Harness) {
    let bench = Bench::with(h, &["a 3", "b 10", "c 10"]).await;
    let batch: Vec<Pick> = [(1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (6, 2), (7, 3), (8, 1)]
        .map(|(lease, key)| Pick { sticky: sticky(key, 30_000), ..bench.ask(lease, &call()) })
        .into();
    let names: Vec<String> = bench.picks(&batch).await.iter().map(|answer| bench.name(answer)).collect();
    assert_eq!(names, ["b", "c", "b", "c", "b", "c", "a", "b"]);
    assert_eq!(bench.loads().await, "a=1 b=4 c=3");
    // A node that is full for those who stick to it is still found by those who may fill it further.
    let bench = Bench { pool: "q".parse().unwrap(), ..Bench::new(h) };
    bench.redefine(&["a 2", "b 1"]).await;
    let sos = Lookup { emergency: true, ..call() };
    let mut picks: Vec<Pick> =
        (1..5).map(|n| Pick { sticky: sticky(1, 30_000), ..bench.ask(n, &call()) }).collect();
    picks.push(bench.ask(5, &sos));
    let names: Vec<String> = bench.picks(&picks).await.iter().map(first).collect();
    assert_eq!(names, ["leased 0", "leased 0", "leased 1", "Full", "leased 0"]);
}

pub async fn a_lookup_that_overflowed_overflows_again(h: &impl Harness) {
    let bench = Bench::with(h, &["a 1"]).await;
    let ask = |lease, overflows| Pick { overflows, ..bench.ask(lease, &call()) };
    assert_eq!(bench.wanted(ask(1, true)).await, "a");
    assert_eq!(bench.wanted(ask(2, false)).await, "Full");
    let limits = admit(&[("p", calls(0))]);
    let limited = Pick { admit: limits, ..ask(2, true) };
    assert_eq!(bench.wanted(limited).await, "pool calls", "a limit is not overflowed");
    let names: Vec<String> =
        bench.picks(&[ask(2, true), ask(2, false)]).await.iter().map(|a| bench.name(a)).collect();
    assert_eq!(names, ["overflow", "overflow"]);
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.wanted(ask(2, false)).await, "overflow", "also now that there is room");
    assert_eq!(bench.wanted(ask(3, false)).await, "a");
    assert_eq!(bench.confirm(2, 0, None).await, Settled::Gone, "no token of this pool names it");
    assert_eq!(bench.loads().await, "a=1");
    assert_eq!(bench.done(3).await, Settled::Ended);
    h.pass_tombs(&bench.pool).await;
    bench.sweep(100).await;
    assert_eq!(bench.wanted(ask(2, true)).await, "a", "forgotten as an ended lease is");
    let nothing = Bench { pool: "z".parse().unwrap(), ..Bench::new(h) };
    assert_eq!(nothing.wanted(Pick { overflows: true, ..nothing.ask(9, &call()) }).await, "overflow");
}
