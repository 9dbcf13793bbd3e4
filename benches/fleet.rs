//! What a large fleet costs: `target/bench/fleet.json`, a part a topic. Parts that other runs wrote stay.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/support/authority.rs"]
#[allow(dead_code)]
mod authority;
#[path = "fleet/discovery.rs"]
mod discovery;
#[path = "fleet/probes.rs"]
mod probes;
#[path = "fleet/reload.rs"]
mod reload;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::{Value, json};
use std::path::PathBuf;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    // `cargo bench --bench fleet -- reload`: that part alone.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wanted("discovery") {
        write("discovery", discovery::measure());
    }
    if wanted("probes") {
        write("probes", probes::measure());
    }
    if wanted("reload") {
        write("reload", reload::measure());
    }
}

/// Time that this thread had a core, in ms.
fn cpu_ms() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1000.0
}

fn write(part: &str, figures: Value) {
    println!("{part}: {figures:#}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let file = target.join("bench/fleet.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let before = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut all: Value = before.unwrap_or_else(|| json!({}));
    all[part] = figures;
    std::fs::write(&file, format!("{all:#}\n")).unwrap();
    println!("written to {}", file.display());
}
