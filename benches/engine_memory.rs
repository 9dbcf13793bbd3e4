//! What memory a waiting call takes in the queue's machine: by an allocator that counts, and by what the process has. For
//! `target/bench/engine.json`, beside what `engine` measures: counting takes time, so nothing else is measured here.

#![allow(clippy::wildcard_enum_match_arm)] // Only some of what the machine says or is told concerns a benchmark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "engine/goals.rs"]
#[allow(dead_code)] // The words are for the page.
mod goals;
mod support;
#[path = "engine/world.rs"]
#[allow(dead_code)]
mod world;

use mqs::domain::controller::{Controller, Output};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 100_000;

fn main() {
    if support::is_test() {
        return;
    }
    let mut controller = Controller::new(1, world::setup(), 1, world::START);
    let mut rng = fastrand::Rng::with_seed(2);
    let mut tell = |input| {
        controller.handle(input, world::START);
        while let Some(output) = controller.next_output() {
            if let Output::Effect(effect) = output {
                black_box(effect);
            }
        }
    };
    world::beginning(world::START).into_iter().for_each(&mut tell);
    let before = (allocated(), resident());
    for number in 0..CALLS as u64 {
        tell(mqs::domain::controller::Input::CallerEntered(world::caller(number, &mut rng)));
    }
    let after = (allocated(), resident());
    let waiting: usize = (0..world::QUEUES).map(|queue| controller.in_line(&world::queue(queue))).sum();
    assert_eq!(waiting, CALLS);
    let each = |before: usize, after: usize| support::round((after - before) as f64 / CALLS as f64);
    let (allocated, resident) = (each(before.0, after.0), each(before.1, after.1));
    let figures = json!({
        "calls": CALLS, "allocated_bytes_a_call": allocated, "resident_bytes_a_call": resident,
        "worst_bytes_a_call": allocated.max(resident),
    });
    goals::add("memory", figures);
}

fn allocated() -> usize {
    let stats = COUNTED.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
