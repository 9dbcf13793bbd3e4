//! One fault in the middle of a load, and what callers and counts make of it: two Kamailios, two helpers, one store, four
//! nodes, 100 calls a second. What each fault costs is told in `docs/failure-modes.md`.
//!
//! * `redis`, `groups`, `clocks`, `hosts`: the faults · `trial`: how one is measured · `limits`: what must hold
//! * `judged`: the judge, judged
//!
//! All of them take minutes, so a run of the tests takes a few by turns: `MQS_LAB_FAULTS=all`, or `=redis_killed,link_cut`.

mod clocks;
mod groups;
mod hosts;
mod judged;
mod limits;
mod redis;
mod trial;

use crate::Case;
use crate::net::epoch_s;
use crate::parts::Part;

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];
const PARTS_SENTINEL: &[Part] = &[Part::Redis, Part::Sentinel, Part::Kamailio, Part::Sipp];
const PARTS_CLOCK: &[Part] = &[Part::Redis, Part::FakeTime, Part::Kamailio, Part::Sipp];

/// How long a held lease lives here.
pub const HELD_S: f64 = 4.0;

pub fn cases() -> Vec<Case> {
    [judged::CASES, redis::CASES, groups::CASES, clocks::CASES, hosts::CASES].concat()
}

/// How many of the long cases a run takes where nothing is said.
const A_TURN: usize = 3;

/// Why a case is left out of this run, if it is.
pub fn why_not_now(name: &str) -> Option<String> {
    let short = name.strip_prefix("faults::")?;
    let long: Vec<&str> =
        cases().iter().filter(|case| !case.needs.is_empty()).map(|case| case.name).collect();
    let index = long.iter().position(|other| *other == name)?;
    let wanted = std::env::var("MQS_LAB_FAULTS").unwrap_or_default();
    let (taken, why) = if wanted.is_empty() {
        let day = (epoch_s() / 86_400.0) as usize;
        ((index + long.len() - day * A_TURN % long.len()) % long.len() < A_TURN, "another day's turn")
    } else {
        (wanted == "all" || wanted.split(',').any(|word| word == short), "not among MQS_LAB_FAULTS")
    };
    (!taken).then(|| format!("{why}; MQS_LAB_FAULTS={short} runs it, MQS_LAB_FAULTS=all all of them"))
}
