//! Floor 1: what is counted, under which names.

pub mod metrics;
