//! What several tests use; none uses all of it.
#![allow(dead_code, clippy::wildcard_enum_match_arm)]

pub mod faulty;
pub mod http;
pub mod schema;
