//! What is lost and comes back, told in figures.

use super::sim::faults::{Conduct, Second, Story, tell as play};
use super::{HOLD, SEED, full_or_quick, round};
use mqs::domain::health::HealthRules;
use serde_json::{Value, json};

/// When the trouble begins, in s.
pub const BEGINS_S: usize = 20;
/// As even as this is even again: the fullest node, in means.
const EVEN: f64 = 1.02;

pub fn tell() -> Value {
    let (nodes, calls, instances) = full_or_quick((1000, 1_000_000, 100), (100, 100_000, 20));
    let begins = BEGINS_S as u64 * 1000;
    let plain = Story {
        capacities: vec![1800; nodes],
        zones: 3,
        callers: Vec::new(),
        instances,
        calls,
        hold: HOLD,
        lasts_ms: begins + 40_000,
        lost: Vec::new(),
        conduct: Conduct::Silent,
        away: 0..0,
        redial: 0.5,
        without_store: 0..0,
        together: false,
        health: HealthRules::default(),
        seed: SEED,
        check_every: (calls as u64 / 500).max(7),
    };
    let cold = HealthRules { slow_start_ms: 0, ..HealthRules::default() };
    let third = Story {
        lost: (0..nodes).filter(|node| node % 3 == 2).collect(),
        away: begins..begins + 120_000,
        lasts_ms: begins + full_or_quick(300_000, 240_000),
        ..plain.clone()
    };
    let one =
        Story { lost: vec![17], away: begins..begins + 40_000, lasts_ms: begins + 100_000, ..plain.clone() };
    let refusing = Story { conduct: Conduct::Refuses, ..one.clone() };
    let stories = [
        ("zone", Story { callers: vec![0.4, 0.35, 0.25], ..third.clone() }),
        ("third", third.clone()),
        ("third_cold", Story { health: cold, ..third }),
        ("one", one.clone()),
        ("one_cold", Story { health: cold, ..one }),
        ("refusing", refusing.clone()),
        ("refusing_together", Story { together: true, ..refusing }),
        ("store", Story { without_store: begins..begins + 10_000, ..plain.clone() }),
        ("store_together", Story { without_store: begins..begins + 10_000, together: true, ..plain }),
    ];
    let mut found = json!({ "nodes": nodes, "calls": calls, "instances": instances });
    for (name, story) in stories {
        found[name] = figures(&story, &play(&story));
        let mut shown = found[name].clone();
        shown.as_object_mut().unwrap().retain(|_, value| !value.is_array());
        println!("{name}: {shown}");
    }
    found
}

fn figures(story: &Story, seconds: &[Second]) -> Value {
    let trouble = if story.lost.is_empty() { &story.without_store } else { &story.away };
    let back = (trouble.end / 1000) as usize;
    let lost = |node: usize| story.lost.contains(&node);
    let well = |node: usize| !lost(node);
    let (before, during, after) = (&seconds[..BEGINS_S], &seconds[BEGINS_S..back], &seconds[back..]);
    // While nearly all of what is lost is found.
    let soon = &during[..during.len().min(30)];
    let fullest =
        |of: &[Second]| round(of.iter().map(|s| 100.0 * (s.even.fullest - 1.0)).fold(0.0, f64::max));
    let rate = |of: &[Second], which: &dyn Fn(usize) -> bool| {
        let given = of.iter().flat_map(|s| s.given.iter().enumerate());
        given.filter(|(node, _)| which(*node)).map(|(_, given)| *given).max().unwrap_or(0)
    };
    let sum = |of: &[Second], f: fn(&Second) -> u32| of.iter().map(f).sum::<u32>();
    // After the last second that was uneven; `None`: until the end.
    let even_after = |of: &[Second]| {
        let last = of.iter().rposition(|s| s.even.fullest > EVEN);
        last.map_or(Some(0), |last| (last + 1 < of.len()).then_some(last + 1))
    };
    let share = |s: &Second| {
        let on_lost: u32 = story.lost.iter().map(|node| s.given[*node]).sum();
        100.0 * f64::from(on_lost) / f64::from(s.given.iter().sum::<u32>().max(1))
    };
    json!({
        "before_over": fullest(before), "during_over": fullest(during), "after_over": fullest(after),
        "before_rate": rate(before, &|_| true), "during_rate": rate(during, &well),
        "after_rate": rate(after, &well), "returned_rate": rate(after, &lost),
        "found_s": during.iter().position(|s| s.found == story.lost.len()).map(|at| at + 1),
        "half_found_s": during.iter().position(|s| 2 * s.found >= story.lost.len()).map(|at| at + 1),
        "to_lost_pc": round(during.iter().map(share).fold(0.0, f64::max)),
        "during_even_s": even_after(during), "after_even_s": even_after(after),
        "dialled": sum(during, |s| s.dialled), "moved": sum(during, |s| s.moved), "failed": sum(during, |s| s.failed),
        "failed_pc": round(100.0 * f64::from(sum(soon, |s| s.failed)) / f64::from(sum(soon, |s| s.dialled))),
        "dialled_most": during.iter().map(|s| s.dialled).max(),
        "occupancy_before_pc": round(100.0 * before[BEGINS_S - 1].even.mean),
        "occupancy_during_pc": round(100.0 * during[during.len() - 1].even.mean),
        "over": seconds.iter().map(|s| round(100.0 * (s.even.fullest - 1.0))).collect::<Vec<_>>(),
        "under": seconds.iter().map(|s| round(100.0 * (1.0 - s.even.emptiest))).collect::<Vec<_>>(),
        "rates": seconds.iter().map(|s| rate(std::slice::from_ref(s), &|_| true)).collect::<Vec<_>>(),
    })
}
