//! Floor 1: what is counted, under which names, and what is logged.

pub mod admission;
pub mod ari;
pub mod cell;
pub mod discovery;
pub mod log;
pub mod metrics;
pub mod queue;
pub mod redirect;
pub mod registration;
