//! What several tests use.

pub mod faulty;
pub mod http;
pub mod schema;
