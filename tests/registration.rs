//! Nodes that register themselves: what heartbeats do, what silence does, and the script that sends them, against the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "registration/refused.rs"]
mod refused;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;
#[path = "registration/script.rs"]
mod script;
mod support;
#[path = "registration/time.rs"]
mod time;
