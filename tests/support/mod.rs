//! What several tests use.

pub mod http;
pub mod schema;
