//! The contract's cases about who is chosen.

use super::store_bench::*;
use mqs::domain::id::Slot;
use mqs::domain::lease::Settled;
use mqs::domain::node::NodeState;
use mqs::domain::pool::{Kind, Lookup, Rules};
use mqs::store::PoolRules;

pub async fn excluded_nodes_are_not_chosen(h: &impl Harness) {
    let bench = Bench::with(h, &["a 40", "b 30", "c 20", "d 10"]).await;
    assert_eq!(bench.chosen(1, &without(&["a", "c"])).await, "b");
    assert_eq!(bench.chosen(2, &without(&["a", "b", "nobody"])).await, "c");
    assert_eq!(bench.chosen(3, &without(&["a", "b", "c", "d"])).await, "NoNode");
    let batch = [4, 5, 6].map(|lease| bench.ask(lease, &without(&["a"])));
    let batch =
        [bench.ask(7, &call()), batch[0].clone(), batch[1].clone(), bench.ask(8, &call()), batch[2].clone()];
    let names: Vec<String> = bench.picks(&batch).await.iter().map(|a| bench.name(a)).collect();
    assert_eq!(names, ["a", "b", "d", "a", "c"]);
}

pub async fn the_callers_zone_comes_first_until_it_spills(h: &impl Harness) {
    let bench = Bench::with(h, &["a1 5 zone=a", "b1 10 zone=b", "x 10"]).await;
    let near = Lookup { zone: "a".parse().ok(), ..call() };
    let mut names = Vec::new();
    for lease in 0..9 {
        names.push(bench.chosen(lease, &near).await);
    }
    assert_eq!(names.join(" "), "a1 a1 a1 a1 b1 x b1 x b1");
    assert_eq!(bench.chosen(20, &Lookup { zone: "nowhere".parse().ok(), ..call() }).await, "x");
    // Without a zone all are alike.
    assert_eq!(bench.chosen(21, &call()).await, "b1");
}

pub async fn a_node_needs_all_the_tags_asked_for(h: &impl Harness) {
    let bench = Bench::with(h, &["a 10 tags=gsm", "b 10 tags=fax,gsm", "c 99"]).await;
    let tags = |tags: &[&str]| Lookup { tags: tags.iter().map(|t| t.parse().unwrap()).collect(), ..call() };
    assert_eq!(bench.chosen(1, &tags(&["fax"])).await, "b");
    assert_eq!(bench.chosen(2, &tags(&["gsm"])).await, "a");
    assert_eq!(bench.chosen(3, &tags(&["gsm", "fax"])).await, "b");
    assert_eq!(bench.chosen(4, &tags(&["x"])).await, "NoNode");
    assert_eq!(bench.chosen(5, &call()).await, "c");
}

pub async fn an_agents_leg_is_counted_on_its_node_whatever_that_carries(h: &impl Harness) {
    let bench = Bench::with(h, &["a 2", "b 2", "c 2 state=draining", "d 2 state=removed"]).await;
    for lease in 0..3 {
        assert_eq!(bench.chosen(lease, &to_agent_on("a")).await, "a");
    }
    assert_eq!(bench.loads().await, "a=3 b=0 c=0 d=0");
    assert_eq!(bench.chosen(4, &to_agent_on("c")).await, "c");
    assert_eq!(bench.chosen(5, &to_agent_on("d")).await, "NoNode");
    assert_eq!(bench.chosen(6, &to_agent_on("nobody")).await, "NoNode");
    assert_eq!(bench.chosen(7, &call()).await, "b");
    assert_eq!(bench.chosen(8, &call()).await, "b");
    assert_eq!(bench.chosen(9, &call()).await, "Full");
    assert_eq!(bench.loads().await, "a=3 b=2 c=1 d=0");
}

pub async fn the_agents_share_is_kept_free(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 1"]).await;
    bench.rules = PoolRules { choose: Rules { agent_reserve_pm: 400, ..CHOOSE }, life: LIFE };
    for lease in 0..6 {
        assert_eq!(bench.chosen(lease, &call()).await, "a");
    }
    assert_eq!(bench.chosen(6, &call()).await, "Full");
    assert_eq!(bench.chosen(6, &Lookup { kind: Kind::Callback, ..call() }).await, "Full");
    assert_eq!(bench.chosen(7, &to_agent_on("a")).await, "a");
    bench.done(0).await;
    bench.done(7).await;
    assert_eq!(bench.chosen(6, &call()).await, "a", "a refusal leaves nothing behind");
}

pub async fn full_and_no_node_are_told_apart(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 1 tags=x", "b 1 state=draining"]).await;
    let with_x = Lookup { tags: ["x".parse().unwrap()].into(), ..call() };
    assert_eq!(bench.chosen(1, &with_x).await, "a");
    assert_eq!(bench.chosen(2, &with_x).await, "Full");
    assert_eq!(bench.chosen(2, &call()).await, "Full");
    assert_eq!(bench.chosen(3, &without(&["a"])).await, "NoNode");
    bench.define(&["a 1 state=down", "b 1 state=draining"]).await;
    assert_eq!(bench.chosen(4, &call()).await, "NoNode");
}

pub async fn emergency_calls_are_never_refused_while_there_is_a_node(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 1", "b 1"]).await;
    let sos = Lookup { emergency: true, ..call() };
    for (lease, name) in [(0, "a"), (1, "b"), (2, "a"), (3, "b")] {
        assert_eq!(bench.chosen(lease, &sos).await, name);
    }
    bench.define(&["a 1 state=down", "b 1 state=draining"]).await;
    assert_eq!(bench.chosen(4, &sos).await, "b");
    bench.define(&["a 1 state=down"]).await;
    assert_eq!(bench.chosen(5, &sos).await, "a");
    assert_eq!(bench.loads().await, "a=3");
}

pub async fn a_change_of_state_counts_at_once_also_for_those_who_have_not_seen_it(h: &impl Harness) {
    let bench = Bench::with(h, &["a 100", "b 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    bench.redefine(&["a 100 state=draining", "b 10"]).await;
    assert_eq!(bench.chosen(2, &call()).await, "b");
    assert_eq!(bench.loads().await, "a=1 b=1", "what it has it keeps");
    bench.redefine(&["a 100", "b 10"]).await;
    assert_eq!(bench.chosen(3, &call()).await, "a");
    bench.redefine(&["a 100", "b 10", "c 1000 zone=z tags=t"]).await;
    assert_eq!(targets(&bench.pick(4, &call()).await)[0], Slot(2), "a new node on a new shelf");
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.loads().await, "a=1 b=1 c=1");
}

pub async fn a_change_of_capacity_changes_the_order(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 100", "b 10"]).await;
    for lease in 0..5 {
        assert_eq!(bench.chosen(lease, &call()).await, "a");
    }
    bench.define(&["a 6", "b 10"]).await;
    assert_eq!(bench.loads().await, "a=5 b=0");
    assert_eq!(bench.chosen(5, &call()).await, "b");
    bench.define(&["a 3", "b 1"]).await;
    assert_eq!(bench.chosen(6, &call()).await, "Full");
}

pub async fn health_counts_for_choosing(h: &impl Harness) {
    let mut bench =
        Bench::with(h, &["a 100 health=ejected", "b 100 health=failing overruled=true", "c 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "b", "overruled: used all the same");
    assert_eq!(bench.chosen(2, &without(&["b", "c"])).await, "NoNode");
    assert_eq!(bench.chosen(3, &to_agent_on("a")).await, "a", "the agent's leg goes where the caller is");
    bench.define(&["a 100 health=overloaded", "b 100 ramp=100", "c 20"]).await;
    // b carries 1 of 10, c 0 of 20.
    let chosen =
        [bench.chosen(4, &call()).await, bench.chosen(5, &call()).await, bench.chosen(6, &call()).await];
    assert_eq!(chosen, ["c", "c", "c"], "a node that warms up counts with a part of its capacity");
    bench.define(&["a 100", "b 100", "c 20"]).await;
    assert_eq!(bench.loads().await, "a=1 b=1 c=3");
    let chosen = [bench.chosen(7, &call()).await, bench.chosen(8, &call()).await];
    assert_eq!(chosen, ["b", "a"]);
}

pub async fn a_change_of_definitions_keeps_loads_and_touches(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10", "c 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    bench.done(1).await;
    bench.define(&["a 10 zone=z", "b 10 state=down", "c 10"]).await;
    assert_eq!(bench.chosen(2, &call()).await, "c");
    bench.done(2).await;
    bench.define(&["a 10", "b 10", "c 10"]).await;
    let order =
        [bench.chosen(3, &call()).await, bench.chosen(4, &call()).await, bench.chosen(5, &call()).await];
    assert_eq!(order, ["b", "a", "c"]);
}

pub async fn a_removed_nodes_slot_keeps_its_load(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 10", "b 10"]).await;
    assert_eq!(bench.chosen(1, &call()).await, "a");
    bench.define(&["a 10 state=removed", "b 10"]).await;
    assert_eq!(bench.loads().await, "a=1 b=0");
    assert_eq!(bench.seen.loaded[0].node.state, NodeState::Removed);
    assert_eq!(bench.confirm(1, 0, Some(0)).await, Settled::Confirmed);
    assert_eq!(bench.loads().await, "a=1 b=0");
    assert_eq!(bench.done(1).await, Settled::Ended);
    assert_eq!(bench.loads().await, "a=0 b=0");
    bench.define(&["b 10 slot=1"]).await;
    assert_eq!(bench.loads().await, "b=0");
    assert_eq!(bench.chosen(2, &call()).await, "b");
}

pub async fn answers_have_no_more_targets_than_allowed(h: &impl Harness) {
    let mut bench = Bench::with(h, &["a 50", "b 40", "c 30", "d 20", "e 10"]).await;
    assert_eq!(targets(&bench.pick(1, &call()).await), [0, 1, 2].map(Slot));
    bench.look().await;
    assert_eq!(targets(&bench.pick(2, &Lookup::new_call(1)).await).len(), 1);
    assert_eq!(targets(&bench.pick(3, &Lookup::new_call(12)).await).len(), 3, "the pool's own limit");
    bench.rules.choose.targets_max = 12;
    let all = targets(&bench.pick(4, &Lookup::new_call(12)).await);
    assert_eq!(all.len(), 5);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 5, "no target twice");
}
