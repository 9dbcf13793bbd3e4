//! The tests, a file a subject.

mod admission;
mod asterisk;
mod dispatch;
mod failure;
pub mod faults;
mod harness;
mod judge;
pub mod machine;
mod redirect;
mod row;
mod shipped;
mod stage;

use crate::Case;

/// All tests, in the order in which they run.
pub fn all() -> Vec<Case> {
    if let Some(case) = harness::hanging_case() {
        return vec![case];
    }
    [
        harness::CASES,
        asterisk::CASES,
        dispatch::CASES,
        admission::CASES,
        failure::CASES,
        redirect::CASES,
        &faults::cases(),
        shipped::CASES,
    ]
    .concat()
}
