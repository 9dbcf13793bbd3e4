//! Nodes that register themselves: what heartbeats do, what silence does, and the script that sends them, against the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/redis_server.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "registration/refused.rs"]
mod refused;
#[path = "support/scene.rs"]
#[allow(dead_code)]
mod scene;
#[path = "registration/script.rs"]
mod script;
#[path = "registration/shared.rs"]
mod shared;
mod support;
#[path = "registration/time.rs"]
mod time;

use support::faulty;
