//! The cell in a small world: hundreds of calls, and everything goes wrong. Each seed is another world, and the same again
//! whenever it is asked for.

// Here a failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A fault, an input or a change that a part of the world does not care about.
#![allow(clippy::wildcard_enum_match_arm)]

#[path = "simulation/mod.rs"]
mod simulation;

use mqs::cell::pilot::Seeded;
use mqs::domain::call::{DoneReason, TreatedFor};
use mqs::domain::controller::Seeded as Rule;
use mqs::domain::offer::OfferEnd;
use simulation::checks::{Coverage, Failure};
use simulation::faults::Fault;
use simulation::{Options, Report, WorldBug, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// Each day of the year has seeds of its own.
#[allow(clippy::disallowed_methods)]
fn first_of_the_day() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs() / 86_400 % 365 * 1_000
}

/// Runs seeds until one fails, or all have passed.
fn run_all(from: u64, count: u64, options: Options) -> Result<Coverage, Box<Failure>> {
    let progress = number("MQS_SIM_PROGRESS") == Some(1);
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let found: Mutex<(Coverage, Option<Box<Failure>>)> = Mutex::default();
    let work = || {
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let result = run(from + number, options);
            let mut found = found.lock().unwrap();
            match result {
                Ok(Report { coverage, .. }) => found.0.merge(&coverage),
                Err(failure) => {
                    over.store(true, Ordering::Relaxed);
                    found.1.get_or_insert(failure);
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut told = 0;
        while progress && workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            told += 1;
            if told % 50 == 0 {
                eprintln!("{} of {count} seeds, from {from}", done.load(Ordering::Relaxed));
            }
        }
    });
    let (coverage, failure) = found.into_inner().unwrap();
    failure.map_or(Ok(coverage), Err)
}

#[test]
fn many_seeds() {
    let from = number("MQS_SIM_FROM").unwrap_or_else(first_of_the_day);
    let count = number("MQS_SIM_SEEDS").unwrap_or(500);
    match run_all(from, count, Options::default()) {
        Ok(coverage) => {
            eprintln!("{count} seeds from {from}:{coverage}");
            // A few seeds need not see everything.
            if count >= 500 {
                covered(&coverage);
            }
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn replay() {
    let Some(seed) = number("MQS_SIM_SEED") else { return };
    match run(seed, Options::default()) {
        Ok(report) => {
            eprintln!("seed {seed}: {} events in {} ms:{}", report.events, report.ms, report.coverage);
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let say = |seed| match run(seed, Options::default()) {
        Ok(report) => format!("{report:?}"),
        Err(failure) => failure.to_string(),
    };
    for seed in 0..3 {
        assert_eq!(say(seed), say(seed));
    }
}

/// What never happened was not tested.
fn covered(coverage: &Coverage) {
    let mut missing = Vec::new();
    let mut want = |kind: &'static str, words: &[&'static str]| {
        let never = words.iter().filter(|word| coverage.of(kind, word) == 0);
        missing.extend(never.map(|word| format!("{kind}: {word}")));
    };
    want("bit", &Fault::WORDS);
    want("stage", &["waiting", "offered", "connecting", "connected", "treated", "ending"]);
    want("agent", &["offline", "ready", "offered", "talking", "wrap-up", "paused"]);
    want("offer", &["ringing", "announcing", "connecting", "joined", "ending"]);
    want("offer end", &OfferEnd::ALL.map(OfferEnd::as_str));
    want("done", &DoneReason::ALL.map(DoneReason::as_str));
    want("treated for", &TreatedFor::ALL.map(TreatedFor::as_str));
    want("committed", &["committed", "repeated", "fenced", "gap"]);
    want("redeemed", &["yes", "again", "stale", "unknown"]);
    want("transferred to", &["queue", "agent", "number", "call"]);
    want("transfer", &["rings", "answered", "unavailable", "declined"]);
    want("checked", &["order", "take-over", "commands"]);
    want("operator", &["laid down", "laid down in a call", "taken away", "taken away in a call", "called"]);
    want(
        "caller",
        &["gave up", "hung up", "after the agent", "treated", "node died", "turned away", "longest talk"],
    );
    assert!(missing.is_empty(), "never happened: {}", missing.join(", "));
}

/// Runs seeds until the defect is found by one of these checks.
fn found(options: Options, by: &[&str]) {
    let mut others: Vec<String> = Vec::new();
    for seed in 0..SEEDS_MAX {
        let Err(failure) = run(seed, options) else { continue };
        if by.contains(&failure.check) {
            eprintln!("seed {seed}: {}: {}", failure.check, failure.what);
            return;
        }
        others.push(format!("seed {seed}: {}: {}", failure.check, failure.what));
    }
    panic!("{by:?} did not find it in {SEEDS_MAX} seeds; what else was found:\n{}", others.join("\n"));
}

fn seeded(bug: Seeded) -> Options {
    Options { seeded: Some(bug), ..Options::default() }
}

fn around(bug: WorldBug) -> Options {
    Options { bug: Some(bug), ..Options::default() }
}

/// A defect is found within so many seeds.
const SEEDS_MAX: u64 = 200;

#[test]
fn claims_that_do_not_wait_for_their_commit_are_found() {
    found(seeded(Seeded::ActBeforeCommit), &["Commit"]);
}

#[test]
fn a_returned_call_that_loses_its_time_is_found() {
    found(seeded(Seeded::Rule(Rule::ReturnedCallLosesItsTime)), &["I6"]);
}

#[test]
fn claims_that_end_by_time_are_found() {
    found(seeded(Seeded::Rule(Rule::ClaimFreedByExpiry)), &["I1"]);
}

#[test]
fn reconciling_without_grace_is_found() {
    found(seeded(Seeded::Rule(Rule::ReconcileWithoutGrace)), &["I1", "I3", "I6", "Liveness"]);
}

#[test]
fn an_offer_before_the_end_of_the_last_leg_is_found() {
    found(seeded(Seeded::Rule(Rule::OfferBeforeLegEnd)), &["I1"]);
}

#[test]
fn commands_that_are_done_twice_are_found() {
    found(seeded(Seeded::CursorOutsideCommit), &["Command"]);
}

#[test]
fn a_proxy_that_is_no_fence_is_found() {
    found(around(WorldBug::NoFence), &["I1"]);
}

#[test]
fn counters_in_place_of_leases_are_found() {
    found(around(WorldBug::CountersForLeases), &["I5"]);
}
