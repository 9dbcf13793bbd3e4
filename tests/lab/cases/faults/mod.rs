//! One fault in the middle of a load, and what callers and counts make of it: two Kamailios, two helpers, one store, four
//! nodes, 100 calls a second. What each fault costs is told in `docs/failure-modes.md`.
//!
//! * `redis`, `groups`, `clocks`, `hosts`: the faults · `trial`: how one is measured · `limits`: what must hold
//! * `judged`: the judge, judged
//!
//! All of them take minutes, so a run of the tests takes a few by turns: `turns`.

mod clocks;
mod groups;
mod hosts;
mod judged;
mod limits;
mod redis;
mod trial;

use crate::Case;
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
