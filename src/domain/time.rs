//! Points in time, as the store's clock counts them. Time is always an argument: nothing here reads a clock.

use std::fmt;
use std::ops::Add;

/// Milliseconds since 1970-01-01 00:00:00 UTC, by the clock of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochMs(pub u64);

impl EpochMs {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: EpochMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for EpochMs {
    type Output = EpochMs;
    fn add(self, ms: u64) -> EpochMs {
        EpochMs(self.0.saturating_add(ms))
    }
}

impl fmt::Display for EpochMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
