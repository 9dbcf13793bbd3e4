//! # A tour of MQS, from the ground up
//!
//! Each room imports only from the floors below it; `tests/tidy.rs` keeps that so.
//!
//! * floor 0: [`domain`], the rules: which node takes a call, what a lease is. No I/O, no clock, no chance.
//! * floor 1: [`wire`], bytes and types · [`telemetry`], what is counted · [`clock`], the only reading of the clock
//! * floor 2: [`store`], the state that all instances share
//! * floor 3: [`dispatch`], a lookup's life

pub mod clock;
pub mod dispatch;
pub mod domain;
pub mod store;
pub mod telemetry;
pub mod wire;
