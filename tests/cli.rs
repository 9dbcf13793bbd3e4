//! The program as people use it: what it prints, what it says when something is wrong, and with which exit code it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "cli/calls.rs"]
mod calls;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/house.rs"]
mod house;
#[path = "cli/serving.rs"]
mod serving;
