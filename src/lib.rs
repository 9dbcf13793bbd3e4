//! # A tour of MQS, from the ground up
//!
//! Each room imports only from the floors below it; `tests/tidy.rs` keeps that so.
//!
//! * floor 0: [`domain`], the rules: which node takes a call, what a lease is. No I/O, no clock, no chance.
//! * floor 1: [`wire`], bytes and types · [`config`], the file · [`telemetry`], what is counted · [`clock`], the only reading
//!   of the clock
//! * floor 2: [`store`], the state that all instances share
//! * floor 3: [`dispatch`], a lookup's life · [`cell`], the leader that drives the queues
//! * floor 4: [`inbound`], who calls us · [`outbound`], whom we call
//! * floor 5: [`command`], one file a verb of the command line

pub mod cell;
pub mod clock;
pub mod command;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod inbound;
pub mod outbound;
pub mod store;
pub mod telemetry;
pub mod wire;
