//! The queue's machine, without callers and phones: `target/bench/engine.json`, a part a topic. What memory a waiting call takes
//! is measured by `engine_memory`, whose allocator counts.

#![allow(clippy::wildcard_enum_match_arm)] // Only some of what the machine says or is told concerns a benchmark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "engine/goals.rs"]
#[allow(dead_code)] // The words are for the page.
mod goals;
#[path = "engine/inputs.rs"]
mod inputs;
#[path = "engine/line.rs"]
mod line;
#[path = "engine/matching.rs"]
mod matching;
#[path = "engine/store.rs"]
mod store;
mod support;
#[path = "engine/takeover.rs"]
mod takeover;
#[path = "engine/world.rs"]
mod world;

use nix::time::ClockId;
use serde_json::Value;

/// A part: its figures.
type Measure = fn() -> Value;

fn main() {
    if support::is_test() {
        return;
    }
    // `cargo bench --bench engine -- inputs`: that part alone.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let parts: [(&str, Measure); 4] = [
        ("inputs", inputs::measure),
        ("match", matching::measure),
        ("commit", store::measure),
        ("takeover", takeover::measure),
    ];
    for (part, measure) in parts {
        if only.as_deref().is_none_or(|only| only == part) {
            support::pin(0);
            goals::add(part, measure());
        }
    }
}

/// Time that this thread had a core, in ms. What `getrusage` says of a thread that runs is as old as the last tick.
pub fn cpu_ms() -> f64 {
    let used = ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
    used.tv_sec() as f64 * 1e3 + used.tv_nsec() as f64 / 1e6
}
