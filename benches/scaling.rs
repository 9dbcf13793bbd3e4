//! How MQS scales.
#![allow(missing_docs)]
use mqs as _;
fn main() {}
