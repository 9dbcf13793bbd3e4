//! What the benchmarks share: cores, medians, and the file that all of them write their figures into.
//!
//! `MQS_BENCH_QUICK=1` makes every benchmark short: to see that it works, not to quote from.

#![allow(dead_code)]

pub mod redis;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// `cargo test --benches` only wants to know that it builds.
pub fn is_test() -> bool {
    std::env::args().any(|a| a == "--test")
}

/// One value for a real measurement, one for a try.
pub fn full_or_quick<T>(full: T, quick: T) -> T {
    if std::env::var_os("MQS_BENCH_QUICK").is_some_and(|v| v != "0") { quick } else { full }
}

/// Keeps the calling thread, and what it starts from now on, on one core, where there are two.
pub fn pin(core: usize) {
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut set = CpuSet::new();
    if cores.matches("processor\t").count() > core && set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the values is.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Three digits behind the point are more than any of these figures can be trusted for.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

pub fn file() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        // The benchmarks run in the package's folder, but may be called by hand from elsewhere.
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    target.join("bench/dispatch.json")
}

/// Adds figures to the file: tables are merged, anything else is replaced.
pub fn add(found: Value) {
    add_to(&file(), found);
    println!("written to {}", file().display());
}

/// What the plots over time are drawn from.
pub fn series_file() -> PathBuf {
    file().with_file_name("evenness.json")
}

pub fn add_to(file: &Path, found: Value) {
    let mut all = read(file);
    merge(&mut all, found);
    std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("the folder can be made");
    std::fs::write(file, format!("{all:#}\n")).expect("the figures can be written");
}

pub fn read(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_else(|_| Value::Object(Map::new()))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Replaces what is between two marks of a page.
pub fn between(text: &str, mark: &str, new: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {mark}: written by make bench -->\n"), format!("<!-- {mark} end -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("the page has no {begin:?}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("the page has no {end:?}"))?;
    Ok(format!("{before}{begin}{new}{end}{after}"))
}
