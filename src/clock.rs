//! The only place that reads a clock (`clippy.toml` forbids it elsewhere).

use crate::domain::time::EpochMs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Wall-clock time of this host.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> EpochMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    EpochMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A point of this host's monotonic clock, for measuring how long something took. It is tokio's: a test that pauses the time
/// of its runtime pauses this too.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds since the start.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whole microseconds since the start.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
