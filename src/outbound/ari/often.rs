//! How often something is said of one node: whoever floods us does not flood the log.

use crate::clock::Stopwatch;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines within one [`SPAN`]; what more there is to say is counted.
const LINES_MAX: u32 = 20;

/// See [`LINES_MAX`].
const SPAN: Duration = Duration::from_secs(10);

/// Counts what is said.
#[derive(Debug, Default)]
pub struct Often(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    since: Option<Stopwatch>,
    said: u32,
    left_out: u64,
}

impl Often {
    /// Whether it may be said, and how much was not said before; `None`: not now.
    pub fn may(&self) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.since.is_none_or(|since| since.elapsed() >= SPAN) {
            count.since = Some(Stopwatch::start());
            count.said = 0;
        }
        if count.said >= LINES_MAX {
            count.left_out += 1;
            return None;
        }
        count.said += 1;
        Some(std::mem::take(&mut count.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_much_is_said_and_the_rest_is_counted() {
        let often = Often::default();
        assert!((0..LINES_MAX).all(|_| often.may() == Some(0)));
        assert!((0..1_000).all(|_| often.may().is_none()));
        tokio::time::advance(SPAN).await;
        assert_eq!((often.may(), often.may()), (Some(1_000), Some(0)));
    }
}
