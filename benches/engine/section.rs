//! The queue's machine on the page of benchmarks.

use crate::goals::{Bound, GOALS};
use serde_json::Value;

/// The tables.
pub fn section(found: &Value, told: impl Fn(Option<f64>) -> String) -> String {
    let number = |at: &str| found.pointer(at).and_then(Value::as_f64);
    let mut text = "| figure | goal | measured | |\n|---|---|---|---|\n".to_owned();
    for goal in &GOALS {
        let value = number(goal.at);
        let (bound, kept) = match goal.bound {
            Bound::Least(least) => (format!("≥ {least}"), value.map(|value| value >= least)),
            Bound::Most(most) => (format!("≤ {most}"), value.map(|value| value <= most)),
        };
        let verdict = kept.map_or("", |kept| if kept { "kept" } else { "**missed**" });
        text.push_str(&format!("| {} | {bound} | {} {} | {verdict} |\n", goal.words, told(value), goal.unit));
    }
    text.push_str("\n| of one core | calls that wait | inputs/s | whole calls/s |\n|---|---|---|---|\n");
    for (machine, words) in
        [("controller", "controller"), ("pilot", "pilot"), ("pilot_and_codec", "pilot and codec")]
    {
        for (waiting, so_many) in [("waiting_1000", "1,000"), ("waiting_20000", "20,000")] {
            let cell = |what: &str| told(number(&format!("/inputs/{waiting}/{machine}/{what}_a_second")));
            text.push_str(&format!("| {words} | {so_many} | {} | {} |\n", cell("inputs"), cell("calls")));
        }
    }
    text.push_str("\n| a batch to | changes | p50 ms | p99 ms | max ms | in the server p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|---|---|\n");
    for (store, words) in [
        ("redis", "Redis"),
        ("redis_aof", "Redis, append-only file"),
        ("file", "`file:`"),
        ("memory", "`memory:`"),
    ] {
        for size in [1, 64, 512] {
            let columns = [
                "round_trip_ms/median",
                "round_trip_ms/p99",
                "round_trip_ms/max",
                "server_ms/median",
                "server_ms/p99",
                "server_ms/max",
            ];
            let cell = |at: &str| told(number(&format!("/commit/{store}/batch_{size}/{at}")));
            text.push_str(&format!("| {words} | {size} | {} |\n", columns.map(cell).join(" | ")));
        }
    }
    text.push_str("\n| take-over | p50 ms | max ms |\n|---|---|---|\n");
    for (part, words) in [
        ("lead", "the leadership"),
        ("open", "older leaders shut out, everything read"),
        ("read", "records understood"),
        ("restore", "a controller made of them"),
        ("whole", "all of it"),
    ] {
        let cell = |at: &str| told(number(&format!("/takeover/{part}_ms/{at}")));
        text.push_str(&format!("| {words} | {} | {} |\n", cell("median"), cell("max")));
    }
    text
}
