//! What several tests use; none uses all of it.
#![allow(dead_code)]

pub mod faulty;
pub mod http;
pub mod schema;
