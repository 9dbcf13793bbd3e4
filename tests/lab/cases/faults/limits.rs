//! What must hold, all in one place: figures of a machine that has nothing else to do. What depends on time is stretched by
//! what the machine was like meanwhile (`machine.rs`); the rest is not.

use anyhow::{Result, ensure};

use crate::cases::judge::SLOW_MS;
use crate::cases::row::Row;

/// Kamailio looks each second whether the helper takes words again, and a connection may need a second try.
pub const BACK_S: f64 = 5.0;

/// Nobody should notice.
pub const UNTOUCHED_S: f64 = 1.0;

/// From the moment that there is a new master. It lacks what the old one had not passed on yet; what was told of calls since
/// then brings them back, and the others end.
pub const FAILED_OVER_S: f64 = 5.0;

/// From the moment that the slot has its new place.
pub const MOVED_S: f64 = 5.0;

/// From the moment that the clock is right again, or the store is back, whichever is later.
pub const CLOCK_S: f64 = 3.0;

/// What must hold of one fault. That no call has two leases and that none is left need not be said.
#[derive(Clone, Copy)]
pub struct Limits {
    pub failed_max: u64,
    pub true_again_max_s: f64,
}

/// No call fails, and the counts are true again so long after the fault.
pub fn within(true_again_max_s: f64) -> Limits {
    Limits { failed_max: 0, true_again_max_s }
}

impl Limits {
    pub fn check(&self, row: &Row) -> Result<()> {
        ensure!(row.calls > 1000, "only {} calls were made", row.calls);
        ensure!(row.doubled == 0, "{} calls have two leases or came to two nodes", row.doubled);
        ensure!(row.residue == 0, "{} leases are left", row.residue);
        self.check_times(row).map_err(|error| row.machine.blame(error))
    }

    /// What a machine that has something else to do may make worse.
    fn check_times(&self, row: &Row) -> Result<()> {
        let failed_max = self.failed_max + row.machine.excuses(row.calls);
        ensure!(
            row.failed <= failed_max,
            "{} calls failed, at most {failed_max}: {:?}",
            row.failed,
            row.refused
        );
        let limit = self.true_again_max_s * row.machine.slowness();
        let took = row.true_again_s;
        ensure!(
            took <= limit,
            "the counts were wrong until {took:.1} s after the fault, at most {limit:.1} s"
        );
        Ok(())
    }
}

impl Row {
    /// Some 500 calls are begun while the store hangs. Until the breakers are open, 0.15 s, each waits for the pick's deadline.
    pub fn hardly_slower(&self) -> Result<()> {
        self.check_delays().map_err(|error| self.machine.blame(error))
    }

    fn check_delays(&self) -> Result<()> {
        let ([p50, p95, _, max], times) = (self.added_ms, self.machine.slowness());
        ensure!(
            p50 < 5.0 * times && p95 < SLOW_MS * times,
            "calls took {p50:.1} ms longer at the median, {p95:.1} at 95 of 100"
        );
        let most = (60.0 * times) as usize;
        ensure!((1..most).contains(&self.slowed), "{} calls were slowed, {max:.1} ms at most", self.slowed);
        Ok(())
    }

    /// Without so many degraded answers the fault was none.
    pub fn shows_degraded(&self, least: u64) -> Result<()> {
        ensure!(self.degraded > least, "only {} degraded answers: the test shows nothing", self.degraded);
        Ok(())
    }
}
