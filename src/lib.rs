//! # A tour of MQS, from the ground up
//!
//! Each room imports only from the floors below it; `tests/tidy.rs` keeps that so.
//!
//! * floor 0: [`domain`], the rules: which node takes a call, what a lease is. No I/O, no clock, no chance.

pub mod domain;
pub mod clock;
pub mod store;
pub mod wire;
