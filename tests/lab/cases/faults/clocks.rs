//! One host's clock is wrong. Only Redis's clock should count, and how long something takes: a wrong wall clock shows in
//! nothing but the log.
//!
//! The store is away for a while in each case, since a helper that answers by itself has no other clock than its own.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::PARTS_CLOCK;
use super::limits::{CLOCK_S, within};
use super::trial::{Trial, hold};
use crate::Case;
use crate::clock::Clock;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "faults::clock_ahead", needs: PARTS_CLOCK, run: clock_ahead },
    Case { name: "faults::clock_behind", needs: PARTS_CLOCK, run: clock_behind },
    Case { name: "faults::clock_jumps", needs: PARTS_CLOCK, run: clock_jumps },
];

/// Longer than a held lease lives here.
const OFF_S: i32 = 5;

/// The longest calls last 13.2 s: a lease that ends by a clock that is 5 s off ends before its call.
const CALL_MAX_S: u64 = 15;

fn clock_ahead(lab: &Lab) -> Result<()> {
    wrong_clock(lab, "clock_ahead", OFF_S, OFF_S)
}

fn clock_behind(lab: &Lab) -> Result<()> {
    wrong_clock(lab, "clock_behind", -OFF_S, -OFF_S)
}

/// Forward while the store is away, and back when it is there again.
fn clock_jumps(lab: &Lab) -> Result<()> {
    wrong_clock(lab, "clock_jumps", 0, OFF_S)
}

/// Off by `first` seconds from the start; by `then` in the middle of the store's absence, and by `first` again after it.
fn wrong_clock(lab: &Lab, name: &'static str, first: i32, then: i32) -> Result<()> {
    let clock = Clock::new(lab, "mqs1")?;
    clock.set(first)?;
    let environment = clock.environment();
    let trial = Trial { environment, call_max_s: CALL_MAX_S, limits: within(CLOCK_S), ..Trial::new(name) };
    let row = hold(lab, &trial, |stage| {
        stage.store.alone()?.process.signal("STOP")?;
        sleep(Duration::from_secs(2));
        clock.set(then)?;
        sleep(Duration::from_secs(1));
        stage.store.alone()?.process.signal("CONT")?;
        sleep(Duration::from_secs(1));
        clock.set(first)
    })?;
    row.shows_degraded(100)
}
