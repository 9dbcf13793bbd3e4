//! The cell's clock: the store's, carried on by the process' own, never backwards.

use super::io::Mono;
use crate::domain::time::EpochMs;

/// Longer round trips set no clock, in ms.
const ROUND_TRIP_MAX_MS: u64 = 500;

/// Time as the cell counts it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CellClock {
    /// What the cell's time is ahead of the process' own.
    ahead_ms: u64,
    /// The latest time that was told.
    latest: EpochMs,
}

impl CellClock {
    /// The store has said what time it is, to a question that was sent then and answered now. An answer that took long, or
    /// was found long after it had come, says too little: half of that time would be added.
    pub fn set(&mut self, store: EpochMs, sent: Mono, now: Mono) {
        if now.since(sent) > ROUND_TRIP_MAX_MS && self.ahead_ms != 0 {
            return;
        }
        let half_way = sent.0 + now.since(sent) / 2;
        self.ahead_ms = store.0.saturating_sub(half_way);
    }

    /// Time does not run back behind this.
    pub fn not_before(&mut self, floor: EpochMs) {
        self.latest = self.latest.max(floor);
    }

    /// What time it is.
    pub fn now(&mut self, now: Mono) -> EpochMs {
        self.latest = self.latest.max(EpochMs(now.0 + self.ahead_ms));
        self.latest
    }

    /// When it will be that time.
    pub fn when(&self, at: EpochMs) -> Mono {
        if at <= self.latest { Mono(0) } else { Mono(at.0.saturating_sub(self.ahead_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_clock_is_carried_on_and_never_runs_back() {
        let mut clock = CellClock::default();
        clock.set(EpochMs(1_000_000), Mono(100), Mono(110));
        assert_eq!(clock.now(Mono(110)), EpochMs(1_000_005));
        assert_eq!(clock.when(EpochMs(1_001_005)), Mono(1_110));
        // The store's clock jumps back by two seconds: time stands until it is reached again.
        clock.set(EpochMs(999_000), Mono(1_100), Mono(1_110));
        assert_eq!(clock.now(Mono(1_110)), EpochMs(1_000_005));
        assert_eq!(clock.now(Mono(2_115)), EpochMs(1_000_010));
        // A process that stood still finds its old answer.
        clock.set(EpochMs(1_003_000), Mono(2_116), Mono(20_000));
        assert_eq!(clock.now(Mono(2_116)), EpochMs(1_000_011));
        // A leader before has been ahead.
        clock.not_before(EpochMs(1_000_500));
        assert_eq!(clock.now(Mono(2_120)), EpochMs(1_000_500));
        assert_eq!(clock.now(Mono(3_000)), EpochMs(1_000_895));
    }
}
