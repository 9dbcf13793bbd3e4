//! The lines that the live view and the plain table have in common.

use super::cell::CellReading;
use super::figures::Latency;
use super::reading::{Reading, ago};
use crate::command::output::{Look, percent};

/// Results in the order in which people look for them.
const RESULTS: [&str; 3] = ["routed", "repeat", "degraded"];

/// `mqs 0.1.0, up 3 m 12 s`; empty where the instance tells neither.
pub fn who(reading: &Reading) -> String {
    let version = reading.version.as_ref().map(|version| format!("mqs {version}"));
    // Whole seconds, and never below zero.
    let up = reading.up_s.map(|s| format!("up {}", ago(s as u64)));
    [version, up].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Lookups a second by result.
pub fn lookups(reading: &Reading) -> String {
    let rates = &reading.rates.lookups_per_s;
    let known = RESULTS.iter().map(|result| (*result, rates.get(*result).copied().unwrap_or(0.0)));
    let others = rates.iter().filter(|(result, _)| !RESULTS.contains(&result.as_str()));
    let all = known.chain(others.map(|(result, rate)| (result.as_str(), *rate)));
    let parts: Vec<String> = all.map(|(result, rate)| format!("{result} {}", number(rate))).collect();
    let total: f64 = rates.values().sum();
    format!("{}/s: {}", number(total), parts.join(", "))
}

/// Latencies.
pub fn latency(reading: &Reading) -> String {
    format!("p50 {}, p99 {}", time(reading.rates.p50), time(reading.rates.p99))
}

/// The share of answers that were given without the store.
pub fn degraded(reading: &Reading) -> String {
    let share = reading.rates.degraded_share.map_or_else(|| "-".to_owned(), percent);
    let open: Vec<&str> = reading.breakers_open.iter().map(String::as_str).collect();
    let open = if open.is_empty() { String::new() } else { format!("; breaker open: {}", open.join(", ")) };
    format!("{share} of the answers, {} s since the start{open}", number(reading.rates.degraded_s))
}

/// What the store did not answer.
pub fn store_errors(reading: &Reading) -> String {
    let rates = &reading.rates;
    format!("{}/s, {:.0} since the start", number(rates.store_errors_per_s), rates.store_errors)
}

/// Open connections.
pub fn connections(reading: &Reading) -> String {
    let parts: Vec<String> =
        reading.connections.iter().map(|(transport, open)| format!("{transport} {open:.0}")).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// Who leads the cell.
pub fn cell(cell: &CellReading) -> String {
    match (&cell.problem, &cell.leader) {
        (Some(problem), _) => format!("cell: {problem}"),
        (None, Some(leader)) => format!("cell {}: {leader} leads", cell.id),
        (None, None) => format!("cell {}: nobody leads", cell.id),
    }
}

/// Whether the leader hears a node; nothing where this instance does not lead.
pub fn ari(attached: Option<bool>) -> (&'static str, Look) {
    match attached {
        Some(true) => ("attached", Look::Green),
        Some(false) => ("away", Look::Red),
        None => ("-", Look::Dim),
    }
}

/// So many a minute.
pub fn a_minute(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), number)
}

/// Which time the rates are about.
pub fn span(reading: &Reading) -> String {
    match reading.since_start {
        true => "since the start".to_owned(),
        false => format!("over {:.1} s", reading.rates.span_s),
    }
}

fn number(value: f64) -> String {
    // The sum of nothing is -0.
    let value = value + 0.0;
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn time(latency: Option<Latency>) -> String {
    match latency {
        None => "-".to_owned(),
        Some(Latency::At(s)) => format!("{:.2} ms", s * 1000.0),
        Some(Latency::Over(s)) => format!("over {:.0} ms", s * 1000.0),
    }
}
