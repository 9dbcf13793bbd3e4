//! How MQS scales, in simulation and on a real Redis: `target/bench/scaling.json`, the tables of docs/scaling.md, two plots.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "scaling/cost.rs"]
mod cost;
#[path = "scaling/page.rs"]
mod page;
#[path = "scaling/sim.rs"]
#[allow(dead_code)]
mod sim;
#[path = "scaling/stories.rs"]
mod stories;
mod support;
#[path = "support/svg.rs"]
#[allow(dead_code)]
mod svg;

use anyhow::Result;
use mqs::clock::Stopwatch;
use serde_json::{Value, json};
use sim::policy::{self, Case, Who};
use sim::traffic::Hold;
use support::{full_or_quick, quantile, round};

/// Three minutes, with a standard deviation of four.
const HOLD: Hold = Hold { mean_s: 180.0, spread: 1.0 };
const SEED: u64 = 20_250_801;

/// Calls that are up, nodes, instances.
const STEPS: [(&str, usize, usize, usize); 5] = [
    ("1k", 1_000, 10, 2),
    ("10k", 10_000, 50, 10),
    ("100k", 100_000, 200, 30),
    ("1m", 1_000_000, 1000, 100),
    ("night", 10_000, 1000, 100),
];

const RIVALS: [(&str, Who); 9] = [
    ("mqs", Who::Mqs),
    ("two_shared", Who::TwoShared),
    ("two_views", Who::TwoViews(500)),
    ("two_own", Who::TwoOwn),
    ("least_views", Who::LeastViews(500)),
    ("least_views_1s", Who::LeastViews(1000)),
    ("dispatcher", Who::Dispatcher),
    ("in_turn", Who::InTurn),
    ("random", Who::Random),
];

type Measure = fn() -> Value;

/// `cargo bench --bench scaling -- faults` makes one of them anew.
const PARTS: [(&str, Measure); 4] =
    [("evenness", evenness), ("mixed", mixed), ("faults", stories::tell), ("redis", cost::measure)];

fn main() -> Result<()> {
    if support::is_test() {
        return Ok(());
    }
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let asked = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let file = support::file().with_file_name("scaling.json");
    let clock = Stopwatch::start();
    for (name, measure) in PARTS {
        if asked(name) {
            support::add_to(&file, json!({ name: measure() }));
            println!("{name}: done after {:.0} s", clock.elapsed().as_secs_f64());
        }
    }
    page::write(&support::read(&file))?;
    println!("written to {}, docs/scaling.md and docs/plots/", file.display());
    Ok(())
}

fn evenness() -> Value {
    let mut found = json!({});
    for (step, calls, nodes, instances) in STEPS {
        if calls > full_or_quick(usize::MAX, 100_000) {
            continue;
        }
        found[step] = compare(&vec![2000; nodes], calls, instances);
    }
    found
}

/// Capacities of four sizes.
fn mixed() -> Value {
    let (nodes, calls, instances) = full_or_quick((1000, 1_000_000, 100), (200, 100_000, 30));
    let capacities: Vec<u32> = (0..nodes).map(|node| 500 << (node % 4)).collect();
    compare(&capacities, calls, instances)
}

fn compare(capacities: &[u32], calls: usize, instances: usize) -> Value {
    let case = Case {
        capacities: capacities.to_vec(),
        instances,
        calls,
        hold: HOLD,
        warm_s: full_or_quick(360, 120),
        seconds: full_or_quick(240, 60),
        seed: SEED,
        check_every: (calls as u64 / 500).max(7),
    };
    let mut found = json!({ "calls": calls, "nodes": capacities.len(), "instances": instances });
    for (name, who) in RIVALS {
        let seen = policy::run(&case, who);
        let told = |f: fn(&sim::fleet::Evenness) -> f64| seen.each_second.iter().map(f).collect::<Vec<_>>();
        let (over, under) = (told(|e| 100.0 * (e.fullest - 1.0)), told(|e| 100.0 * (1.0 - e.emptiest)));
        let mean = |values: &[f64]| round(values.iter().sum::<f64>() / values.len() as f64);
        found[name] = json!({
            "over_mean": mean(&over), "over_max": round(quantile(over.iter().copied(), 1.0)),
            "under_mean": mean(&under), "deviation": mean(&told(|e| 100.0 * e.deviation)),
            "picks": seen.picks, "checked": seen.checked,
            "over": over.iter().map(|value| round(*value)).collect::<Vec<_>>(),
        });
        println!("{calls} calls, {name}: {} {}", found[name]["over_mean"], found[name]["over_max"]);
    }
    found
}
