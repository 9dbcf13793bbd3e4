//! The simulation behind docs/scaling.md, small: what that page says in words must hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../benches/scaling/sim.rs"]
#[allow(dead_code)]
mod sim;

use mqs::domain::health::HealthRules;
use sim::faults::{Conduct, Second, Story, tell};
use sim::policy::{Case, Who, run};
use sim::traffic::Hold;

const HOLD: Hold = Hold { mean_s: 30.0, spread: 1.0 };
const NODES: usize = 42;
const CAPACITY: u32 = 200;
const CALLS: usize = 4200;
/// When the trouble begins and ends.
const BEGINS_S: usize = 10;
const ENDS_S: usize = 50;

fn equal() -> Case {
    Case {
        capacities: vec![CAPACITY; NODES],
        instances: 14,
        calls: CALLS,
        hold: HOLD,
        warm_s: 60,
        seconds: 60,
        seed: 7,
        check_every: 3,
    }
}

/// The fullest node at the worst moment, in means.
fn fullest(case: &Case, who: Who) -> f64 {
    let seen = run(case, who);
    assert!(who != Who::Mqs || seen.checked > 200, "{} picks were checked", seen.checked);
    seen.each_second.iter().map(|even| even.fullest).fold(0.0, f64::max)
}

#[test]
fn one_count_for_all_is_more_even_than_one_an_instance() {
    let case = equal();
    let mqs = fullest(&case, Who::Mqs);
    // Three calls of a hundred.
    assert!(mqs <= 1.03, "{mqs}");
    for who in [Who::Dispatcher, Who::TwoOwn, Who::InTurn, Who::Random] {
        let other = fullest(&case, who);
        assert!(other > 1.05 && other - 1.0 > 2.0 * (mqs - 1.0), "{who:?}: {other}, MQS: {mqs}");
    }
}

#[test]
fn few_calls_on_many_nodes_do_not_gather_on_the_first_ones() {
    let case = Case { calls: NODES * 5, instances: NODES, ..equal() };
    let (mqs, dispatcher) = (fullest(&case, Who::Mqs), fullest(&case, Who::Dispatcher));
    assert!(mqs < 1.7 && dispatcher > 2.5, "MQS: {mqs}, dispatcher: {dispatcher}");
}

#[test]
fn capacities_are_heeded() {
    let capacities = (0..NODES).map(|node| 50 << (node % 4)).collect();
    let case = Case { capacities, ..equal() };
    let (mqs, dispatcher) = (fullest(&case, Who::Mqs), fullest(&case, Who::Dispatcher));
    assert!(mqs < 1.06 && dispatcher > 2.0, "MQS: {mqs}, dispatcher: {dispatcher}");
}

#[test]
fn greed_on_old_views_herds_and_two_draws_do_not() {
    let capacities = (0..NODES).map(|node| 50 << (node % 4)).collect();
    let case = Case { capacities, instances: 56, hold: Hold { mean_s: 5.0, spread: 1.0 }, ..equal() };
    let (greedy, drawn) = (fullest(&case, Who::LeastViews(1000)), fullest(&case, Who::TwoViews(1000)));
    assert!(greedy > drawn + 0.05 && drawn < 1.4, "least: {greedy}, two draws: {drawn}");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let told = |seed| format!("{:?}", run(&Case { seed, ..equal() }, Who::Mqs).each_second);
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
    let third = third();
    assert_eq!(format!("{:?}", tell(&third)), format!("{:?}", tell(&third)));
}

fn quiet() -> Story {
    Story {
        capacities: vec![CAPACITY; NODES],
        zones: 3,
        callers: Vec::new(),
        instances: 14,
        calls: CALLS,
        hold: HOLD,
        lasts_ms: 130_000,
        lost: Vec::new(),
        conduct: Conduct::Silent,
        away: 0..0,
        redial: 0.5,
        without_store: 0..0,
        together: false,
        health: HealthRules::default(),
        seed: 7,
        check_every: 3,
    }
}

fn trouble(lost: Vec<usize>) -> Story {
    Story { lost, away: BEGINS_S as u64 * 1000..ENDS_S as u64 * 1000, ..quiet() }
}

fn is_lost(node: usize) -> bool {
    node % 3 == 2
}

fn third() -> Story {
    trouble((0..NODES).filter(|node| is_lost(*node)).collect())
}

/// Calls that a second gave to the nodes that are lost.
fn to_lost(second: &Second) -> u32 {
    second.given.iter().enumerate().filter(|(node, _)| is_lost(*node)).map(|(_, given)| given).sum()
}

#[test]
fn a_lost_third_is_found_soon_and_its_calls_are_spread_over_the_rest() {
    let (story, third) = (third(), NODES / 3);
    let seconds = tell(&story);
    let found = BEGINS_S + seconds[BEGINS_S..].iter().position(|s| s.found == third).unwrap();
    // Sooner than three probes can have failed: calls find them.
    assert!(found <= BEGINS_S + 10, "all are found after {} s", found - BEGINS_S);
    // Three targets of two seconds each, and a caller who was on his way.
    let (later, meanwhile) = (&seconds[found + 7..ENDS_S], &seconds[BEGINS_S..ENDS_S]);
    assert!(later.iter().all(|s| s.failed == 0 && to_lost(s) == 0));
    let most = meanwhile.iter().map(|s| s.most(|node| !is_lost(node))).fold(0.0, f64::max);
    assert!(most < 6.0, "a node was given {most} fair shares in a second");
    let uneven = later.iter().map(|s| s.even.fullest).fold(0.0, f64::max);
    assert!(uneven <= 1.03, "{uneven}");
}

#[test]
fn callers_keep_to_their_zone_until_it_spills() {
    // Before, the first zone is at 0.6, the others at 0.45. Without the third, the first two would not be even.
    let shares = vec![0.4, 0.3, 0.3];
    let small = tell(&Story { callers: shares.clone(), ..third() });
    let all = (ENDS_S - 5..ENDS_S).map(|s| small[s].even.emptiest).fold(0.0, f64::max);
    assert!(small[ENDS_S - 1].even.mean < 0.8 && all > 0.97, "{all}");
    assert!(small[BEGINS_S - 1].even.fullest > 1.1, "{:?}", small[BEGINS_S - 1].even);
    assert!(small[BEGINS_S - 1].even.fullest < 1.3, "{:?}", small[BEGINS_S - 1].even);
}

#[test]
fn slow_start_bounds_what_a_node_gets_that_is_back() {
    let rush = |slow_start_ms| {
        let health = HealthRules { slow_start_ms, ..HealthRules::default() };
        let seconds = tell(&Story { health, ..trouble(vec![17]) });
        let last = seconds.last().unwrap().even;
        assert!(last.emptiest > 0.95, "{last:?}");
        seconds[ENDS_S..].iter().map(|s| s.given[17]).max().unwrap()
    };
    let (slow, cold) = (rush(30_000), rush(0));
    // A tenth of the node at half its occupancy, and what ends meanwhile.
    assert!(slow <= CAPACITY / 10, "{slow} calls in a second");
    assert!(cold >= 3 * slow, "{cold} calls in a second without slow start, {slow} with it");
}

#[test]
fn without_a_store_no_node_gets_much_more_than_its_share() {
    let ends = BEGINS_S + 2;
    let story = Story {
        instances: 56,
        together: true,
        without_store: BEGINS_S as u64 * 1000..ends as u64 * 1000,
        lasts_ms: 30_000,
        ..quiet()
    };
    let seconds = tell(&story);
    let given = |node| seconds[BEGINS_S..ends].iter().map(|s| s.given[node]).sum::<u32>();
    let given: Vec<u32> = (0..NODES).map(given).collect();
    let fair = f64::from(given.iter().sum::<u32>()) / NODES as f64;
    let most = f64::from(*given.iter().max().unwrap()) / fair;
    assert!(most < 4.0, "one node was given {most} fair shares: {given:?}");
    assert!(seconds[BEGINS_S..].iter().all(|s| s.failed == 0));
    assert!(seconds[ends + 5..].iter().all(|s| s.even.fullest <= 1.04));
}

#[test]
fn a_node_that_refuses_costs_no_call() {
    let seconds = tell(&Story { conduct: Conduct::Refuses, ..trouble(vec![17]) });
    let during = &seconds[BEGINS_S..ENDS_S];
    let sum = |f: fn(&Second) -> u32| during.iter().map(f).sum::<u32>();
    assert_eq!(sum(|s| s.failed), 0);
    assert!(sum(|s| s.moved) > 0);
    // Two targets behind it come from views of half a second.
    let worst = during.iter().map(|s| s.even.fullest).fold(0.0, f64::max);
    assert!(worst < 1.25, "{worst}");
}
