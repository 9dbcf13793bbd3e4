//! Draws the plots in `docs/plots/` and writes the table in `docs/benchmarks.md`, from what the other benchmarks have measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "engine/goals.rs"]
#[allow(dead_code)]
mod goals;
#[path = "engine/section.rs"]
mod section;
mod support;
#[path = "support/svg.rs"]
mod svg;

use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// What is wanted of each figure: its place in the JSON, the words for it, its unit, and its bound.
const GOALS: [(&str, &str, &str, Goal); 13] = [
    ("/ratios/resp_memory_over_echo", "RESP, embedded store: p50 over a plain echo", "×", Goal::Most(1.5)),
    ("/ratios/http_memory_over_echo", "HTTP, embedded store: p50 over a plain echo", "×", Goal::Most(2.5)),
    ("/ratios/resp_redis_over_floor", "RESP, Redis: p50 over echo and one script", "×", Goal::Most(1.3)),
    (
        "/ratios/batched_over_single",
        "256 waiting lookups: picks a second over one script each",
        "×",
        Goal::Least(2.0),
    ),
    ("/ratios/nodes1000_over_8", "1,000 nodes: cost of a pick over that of 8", "×", Goal::Most(1.5)),
    (
        "/ratios/kamailio_cps_mqs_over_dispatcher",
        "Kamailio, RESP: clean calls/s over `dispatcher`",
        "×",
        Goal::Least(0.8),
    ),
    ("/ratios/kamailio_cps_mqs_redis_over_dispatcher", "the same, leases in Redis", "×", Goal::None),
    ("/ratios/kamailio_cps_mqs_http_over_dispatcher", "the same over HTTP", "×", Goal::None),
    ("/memory/idle_rss_mib", "memory of an idle `mqs serve`", "MiB", Goal::Most(25.0)),
    ("/memory/leases_100k_mib", "more for 100,000 live leases", "MiB", Goal::Most(64.0)),
    ("/memory/redis/leases_100k_mib", "the same, leases in Redis", "MiB", Goal::None),
    ("/memory/redis/redis_leases_mib", "Redis itself, with those leases", "MiB", Goal::None),
    ("/start_ms", "start to the first answer", "ms", Goal::Most(100.0)),
];

enum Goal {
    Most(f64),
    Least(f64),
    None,
}

const CASES: [(&str, &str); 8] = [
    ("equal_1", "1 Kamailio, equal nodes"),
    ("equal_2", "2 Kamailios, equal nodes"),
    ("equal_4", "4 Kamailios, equal nodes"),
    ("capacities", "2 Kamailios, capacities 25, 50, 100, 200"),
    ("shares", "4 Kamailios with 70, 15, 10 and 5 % of the calls"),
    ("restart", "one of 2 Kamailios restarted half-way"),
    ("lost_bye", "2 Kamailios, a lost BYE in a hundred"),
    ("hours", "calls of half an hour to four hours"),
];

fn main() -> Result<()> {
    if support::is_test() {
        return Ok(());
    }
    let found = support::read(&support::file());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(docs.join("plots"))?;
    let draw = |name: &str, svg: String| std::fs::write(docs.join("plots").join(name), svg);
    draw("dispatch.svg", svg::bars("A lookup, p50 (µs)", &named(&found, "/cases", "p50_us")))?;
    draw("kamailio-calls.svg", svg::bars("Clean calls a second", &named(&found, "/kamailio", "clean_cps")))?;
    draw(
        "kamailio-cpu.svg",
        svg::bars("Kamailio's CPU a call (µs)", &named(&found, "/kamailio", "kamailio_cpu_us_a_call")),
    )?;
    draw("evenness.svg", svg::panels("Calls that the emptiest node lacks, over time (s)", &series()))?;

    let page = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&page)?;
    let text = support::between(&text, "figures", &goals(&found))?;
    let text = support::between(&text, "lookups", &lookups(&found))?;
    let text = support::between(&text, "kamailio", &kamailio(&found))?;
    let text = support::between(&text, "evenness", &evenness(&found))?;
    let engine = support::read(&support::file().with_file_name("engine.json"));
    let text = support::between(&text, "engine", &section::section(&engine, told))?;
    std::fs::write(&page, text)?;
    println!("{}", goals(&found));
    println!("written to {} and docs/plots/", page.display());
    Ok(())
}

fn number(found: &Value, at: &str) -> Option<f64> {
    found.pointer(at).and_then(Value::as_f64)
}

fn told(value: Option<f64>) -> String {
    match value {
        None => "—".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn goals(found: &Value) -> String {
    let mut text = "| figure | goal | measured | |\n|---|---|---|---|\n".to_owned();
    for (at, words, unit, goal) in &GOALS {
        let value = number(found, at);
        let (bound, kept) = match goal {
            Goal::Most(most) => (format!("≤ {most}"), value.map(|value| value <= *most)),
            Goal::Least(least) => (format!("≥ {least}"), value.map(|value| value >= *least)),
            Goal::None => (String::new(), None),
        };
        let verdict = kept.map_or("", |kept| if kept { "kept" } else { "**missed**" });
        text.push_str(&format!("| {words} | {bound} | {} {unit} | {verdict} |\n", told(value)));
    }
    text
}

fn lookups(found: &Value) -> String {
    let mut text = "| case | p50 µs | p99 µs |\n|---|---|---|\n".to_owned();
    for (name, case) in found.pointer("/cases").and_then(Value::as_object).into_iter().flatten() {
        let (p50, p99) = (number(case, "/p50_us"), number(case, "/p99_us"));
        text.push_str(&format!("| `{name}` | {} | {} |\n", told(p50), told(p99)));
    }
    text
}

fn kamailio(found: &Value) -> String {
    let mut text = "| who chooses | clean calls/s | Kamailio CPU µs a call | helper CPU µs a call | delay p50 ms | p99 ms | added p50 ms | p99 ms |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for (name, case) in found.pointer("/kamailio").and_then(Value::as_object).into_iter().flatten() {
        let columns = [
            "/clean_cps",
            "/kamailio_cpu_us_a_call",
            "/helper_cpu_us_a_call",
            "/delay_p50_ms",
            "/delay_p99_ms",
            "/added_p50_ms",
            "/added_p99_ms",
        ];
        let cells: Vec<String> = columns.iter().map(|at| told(number(case, at))).collect();
        text.push_str(&format!("| `{name}` | {} |\n", cells.join(" | ")));
    }
    text
}

fn evenness(found: &Value) -> String {
    let mut text = "| case | MQS: arriving, max | mean | p99 | max | `dispatcher`: arriving, max | mean | p99 | max | ideal: mean | p99 | max |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for (name, words) in CASES {
        let columns = [
            "mqs/arriving_max",
            "mqs/mean",
            "mqs/p99",
            "mqs/max",
            "dispatcher/arriving_max",
            "dispatcher/mean",
            "dispatcher/p99",
            "dispatcher/max",
            "ideal/mean",
            "ideal/p99",
            "ideal/max",
        ];
        let cell = |at: &&str| {
            number(found, &format!("/evenness/{name}/{at}")).map_or("—".to_owned(), |v| format!("{v:.1}"))
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        text.push_str(&format!("| {words} | {} |\n", cells.join(" | ")));
    }
    text
}

fn named(found: &Value, at: &str, what: &str) -> Vec<(String, f64)> {
    let cases = found.pointer(at).and_then(Value::as_object).into_iter().flatten();
    cases.filter_map(|(name, case)| Some((name.clone(), case.get(what)?.as_f64()?))).collect()
}

fn series() -> Vec<svg::Panel> {
    let all = support::read(&support::series_file());
    let panel = |(name, words): &(&str, &str)| {
        let case = all.get(*name)?;
        let line = |who: &str| {
            let values = case.pointer(&format!("/gaps/{who}")).and_then(Value::as_array)?;
            Some((who.to_owned(), values.iter().filter_map(Value::as_f64).collect()))
        };
        let lines = ["dispatcher", "mqs"].iter().filter_map(|who| line(who)).collect();
        Some(svg::Panel { title: (*words).to_owned(), seconds: number(case, "/seconds")?, lines })
    };
    CASES.iter().filter_map(panel).collect()
}
