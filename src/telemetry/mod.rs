//! Floor 1: what is counted, under which names, and what is logged.

pub mod admission;
pub mod discovery;
pub mod log;
pub mod metrics;
pub mod redirect;
pub mod registration;
