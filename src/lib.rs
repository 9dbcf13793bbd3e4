//! # A tour of MQS, from the ground up
//!
//! Each room imports only from the floors below it; `tests/tidy.rs` keeps that so.
//!
//! * floor 0: [`domain`], the rules: which node takes a call, what a lease is. No I/O, no clock, no chance.
//! * floor 1: [`config`], the file that says who and where: strict TOML in, a checked [`config::Config`] out.

pub mod clock;
pub mod config;
pub mod domain;
pub mod store;
