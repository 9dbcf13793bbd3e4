//! The tests, a file a subject.

mod admission;
mod agents;
mod ari;
mod ari_own;
mod asterisk;
mod dispatch;
mod failure;
mod faults;
mod harness;
mod judge;
pub mod machine;
mod node;
mod node_made;
mod node_tls;
mod queue;
mod redirect;
mod row;
mod shipped;
mod stage;
pub mod turns;

use crate::Case;

/// All tests, in the order in which they run.
pub fn all() -> Vec<Case> {
    if let Some(case) = harness::hanging_case() {
        return vec![case];
    }
    [
        harness::CASES,
        asterisk::CASES,
        ari::CASES,
        ari_own::CASES,
        node::CASES,
        node_tls::CASES,
        node_made::CASES,
        dispatch::CASES,
        admission::CASES,
        agents::CASES,
        &queue::cases(),
        failure::CASES,
        redirect::CASES,
        &faults::cases(),
        shipped::CASES,
    ]
    .concat()
}
