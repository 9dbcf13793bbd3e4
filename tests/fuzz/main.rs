//! Fuzz targets on the real parsers. Each is a plain test of bounded time, and a target for `cargo bolero`; see CONTRIBUTING.md.
//!
//! That nothing panics is the least of it: what is accepted keeps its promises and survives being written and read again, and
//! what is refused is refused with a name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ari;
mod brew;
mod config;
mod dns;
mod questions;
mod records;
mod redirect;
mod resp;
mod sip;
mod tokens;

use std::cell::Cell;
use std::time::Duration;

/// How long each target runs as a plain test.
fn seconds() -> Duration {
    let said = std::env::var("MQS_FUZZ_SECONDS").ok();
    Duration::from_secs(said.map_or(8, |text| text.parse().expect("MQS_FUZZ_SECONDS is a number of seconds")))
}

/// How many inputs were accepted and refused. A target that has seen only one sort has shown nothing.
#[derive(Default)]
struct Tally {
    accepted: Cell<u64>,
    refused: Cell<u64>,
}

impl Tally {
    fn count(&self, accepted: bool) {
        let counter = if accepted { &self.accepted } else { &self.refused };
        counter.set(counter.get() + 1);
    }
}

/// Runs `check`, which says whether its input was accepted, on what the fuzzer draws.
macro_rules! fuzz {
    ($check:expr) => {{
        let tally = std::panic::AssertUnwindSafe(crate::Tally::default());
        let check = std::panic::AssertUnwindSafe($check);
        bolero::check!().with_test_time(crate::seconds()).for_each(|drawn: &[u8]| {
            let (tally, check) = (&tally, &check);
            tally.count((check)(drawn));
        });
        let (accepted, refused) = (tally.accepted.get(), tally.refused.get());
        eprintln!("{}: {accepted} accepted, {refused} refused", module_path!());
        assert!(accepted > 20 && refused > 20, "{accepted} accepted, {refused} refused: too few of one sort");
    }};
}
pub(crate) use fuzz;

/// What a refusal says is short, and one line: it goes to logs, and back to whoever asked.
fn check_words(field: &str, reason: &str) {
    assert!(!field.is_empty() && field.chars().count() <= 61, "field {field:?}: {reason}");
    assert!(!reason.is_empty() && reason.chars().count() <= 1000, "{field}: {reason:?}");
}
