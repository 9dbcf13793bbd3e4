//! The tables and plots of docs/scaling.md.

use super::cost::BATCHES;
use super::stories::BEGINS_S;
use super::{RIVALS, STEPS, support, svg};
use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// The words for who chooses.
const NAMES: [(&str, &str); 9] = [
    ("mqs", "**MQS**"),
    ("two_shared", "two draws, true counts"),
    ("two_views", "two draws, views of 0.5 s"),
    ("two_own", "two draws, own calls only"),
    ("least_views", "least by views of 0.5 s"),
    ("least_views_1s", "least by views of 1 s"),
    ("dispatcher", "`dispatcher`, algorithm 10"),
    ("in_turn", "in turn"),
    ("random", "random"),
];

/// How much of a core Redis may use by plan, in µs a second: half.
const BUDGET_US: f64 = 500_000.0;
/// Mean length of a call, in s.
const CALL_S: f64 = super::HOLD.mean_s;
/// In how many seconds an instance holds all its leases against the store.
const COMPARED_S: f64 = 30.0;
/// Instances that the tables tell of.
const INSTANCES: [f64; 5] = [2.0, 4.0, 10.0, 30.0, 100.0];

pub fn write(found: &Value) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("scaling.md");
    let mut text = std::fs::read_to_string(&page)?;
    let tables = [
        ("evenness", evenness(found)),
        ("mixed", mixed(found)),
        ("views", views(found)),
        ("faults", faults(found)),
        ("calls", calls(found)),
        ("others", others(found)),
        ("carries", carries(found)),
        ("together", together(found)),
    ];
    for (mark, table) in tables {
        text = support::between(&text, mark, &table)?;
    }
    std::fs::write(&page, text)?;
    let draw = |name: &str, svg: String| std::fs::write(docs.join("plots").join(name), svg);
    let loss = format!(
        "After a loss at {BEGINS_S} s: the fullest node over the mean (%), and calls to one node (a second)"
    );
    draw("scaling-evenness.svg", svg::panels(OVER, &steps(found)))?;
    draw("scaling-faults.svg", svg::panels(&loss, &stories(found)))?;
    Ok(())
}

const OVER: &str = "By how much the fullest node is fuller than the mean, over time (%)";

fn number(found: &Value, at: &str) -> Option<f64> {
    found.pointer(at).and_then(Value::as_f64)
}

fn told(value: Option<f64>) -> String {
    match value {
        None => "—".to_owned(),
        Some(value) if value.abs() >= 20.0 || value.fract() == 0.0 => thousands(value),
        Some(value) => format!("{value:.1}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "−".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    rows.for_each(|row| text.push_str(&format!("| {} |\n", row.join(" | "))));
    text
}

fn evenness(found: &Value) -> String {
    let sizes = STEPS.map(|(step, calls, nodes, instances)| {
        let count = |what: &str, planned: usize| {
            number(found, &format!("/evenness/{step}/{what}")).unwrap_or(planned as f64)
        };
        format!(
            "{} calls, {} nodes, {} instances",
            thousands(count("calls", calls)),
            thousands(count("nodes", nodes)),
            count("instances", instances)
        )
    });
    let mut head = vec!["who chooses"];
    head.extend(sizes.iter().map(String::as_str));
    let rows = NAMES.iter().filter(|(name, _)| RIVALS.iter().any(|(rival, _)| rival == name));
    table(
        &head,
        rows.map(|(name, words)| {
            let cell = |(step, ..): &(&str, usize, usize, usize)| {
                let at = |what: &str| number(found, &format!("/evenness/{step}/{name}/{what}"));
                format!("{} ({})", told(at("over_mean")), told(at("over_max")))
            };
            std::iter::once((*words).to_owned()).chain(STEPS.iter().map(cell)).collect()
        }),
    )
}

fn mixed(found: &Value) -> String {
    let row = |(name, words): &(&str, &str)| {
        let at = |what: &str| told(number(found, &format!("/mixed/{name}/{what}")));
        vec![(*words).to_owned(), at("over_mean"), at("over_max"), at("under_mean")]
    };
    table(
        &["who chooses", "fullest over mean, %", "at worst, %", "emptiest under mean, %"],
        NAMES.iter().map(row),
    )
}

const STORIES: [(&str, &str); 9] = [
    ("zone", "a zone of three; lookups name zones"),
    ("third", "a third of the nodes; lookups name no zone"),
    ("third_cold", "the same, `slow_start_ms = 0`"),
    ("one", "one node"),
    ("one_cold", "the same, `slow_start_ms = 0`"),
    ("refusing", "one node refuses every call with 500"),
    ("refusing_together", "the same, all instances look at the same moment"),
    ("store", "no store for 10 s"),
    ("store_together", "the same, all instances looked at the same moment"),
];

fn views(found: &Value) -> String {
    let rows = STORIES.iter().filter(|(name, _)| name.starts_with("refusing") || name.starts_with("store"));
    let head = [
        "what happens",
        "fullest over mean before, %",
        "meanwhile, at worst, %",
        "most calls a second to one node before",
        "meanwhile",
        "even again after, s",
    ];
    table(
        &head,
        rows.map(|(name, words)| {
            let at = |what: &str| told(number(found, &format!("/faults/{name}/{what}")));
            let cells = ["before_over", "during_over", "before_rate", "during_rate", "after_even_s"];
            std::iter::once((*words).to_owned()).chain(cells.map(at)).collect()
        }),
    )
}

fn faults(found: &Value) -> String {
    let rows = STORIES.iter().filter(|(name, _)| !name.starts_with("refusing") && !name.starts_with("store"));
    let head = [
        "what is lost",
        "half found, all found after, s",
        "calls to lost nodes meanwhile, at worst, %",
        "calls of the first 30 s without a target, %",
        "fullest over mean meanwhile, %",
        "most calls a second to one node: before, meanwhile",
        "even again, s",
        "to a node that is back, calls a second",
        "even after the return, s",
    ];
    table(
        &head,
        rows.map(|(name, words)| {
            let at = |what: &str| told(number(found, &format!("/faults/{name}/{what}")));
            let two = |a: &str, b: &str| format!("{}, {}", at(a), at(b));
            vec![
                (*words).to_owned(),
                two("half_found_s", "found_s"),
                at("to_lost_pc"),
                at("failed_pc"),
                at("during_over"),
                two("before_rate", "during_rate"),
                at("during_even_s"),
                at("returned_rate"),
                at("after_even_s"),
            ]
        }),
    )
}

fn levels(found: &Value) -> impl Iterator<Item = &Value> {
    found.pointer("/redis/levels").and_then(Value::as_array).into_iter().flatten()
}

fn calls(found: &Value) -> String {
    let head = [
        "nodes",
        "calls up",
        "together",
        "CPU µs: `ROUTE`",
        "`CONFIRM`",
        "`DONE`",
        "a call",
        "Redis commands a call",
        "script runs a call",
    ];
    let rows = levels(found).flat_map(|level| {
        BATCHES.iter().map(move |batch| {
            let at = |what: &str| number(level, &format!("/batches/{batch}/{what}"));
            let fine = |what: &str| at(what).map_or("—".to_owned(), |value| format!("{value:.2}"));
            vec![
                told(number(level, "/nodes")),
                told(number(level, "/calls")),
                batch.to_string(),
                told(at("route_us")),
                told(at("confirm_us")),
                told(at("done_us")),
                told(at("call_us")),
                fine("commands_a_call"),
                fine("script_runs_a_call"),
            ]
        })
    });
    table(&head, rows)
}

fn others(found: &Value) -> String {
    let head = [
        "nodes",
        "a look (view), µs",
        "commands in it",
        "the steward's word, µs",
        "comparing a lease, µs",
        "a sweep with nothing to do, µs",
        "one that takes out 256, µs",
        "a change of a node, µs",
        "reading the definitions anew, µs",
        "bytes a call",
    ];
    table(
        &head,
        levels(found).map(|level| {
            let at = |what: &str| told(number(level, what));
            vec![
                at("/nodes"),
                at("/view_us"),
                at("/view_commands"),
                at("/steward_us"),
                at("/known_us_a_lease"),
                at("/sweep/idle_us"),
                at("/sweep/full_us"),
                at("/write_nodes_us"),
                at("/reload_us"),
                at("/bytes_a_call"),
            ]
        }),
    )
}

/// Calls a second that the budget has room for, when so many travel together; and the share of a core that goes into looking.
fn carried(level: &Value, instances: f64, batch: usize) -> Option<(f64, f64)> {
    let at = |what: &str| number(level, what);
    let looking = 2.0 * instances * at("/view_us")? + instances * at("/steward_us")? + at("/sweep/idle_us")?;
    let a_call = at(&format!("/batches/{batch}/call_us"))?
        + at("/known_us_a_lease")? * CALL_S / COMPARED_S
        + at("/sweep/full_us")? / 256.0;
    Some(((BUDGET_US - looking) / a_call, looking / 10_000.0))
}

fn carries(found: &Value) -> String {
    let head = [
        "nodes",
        "instances",
        "looking takes of a core, %",
        "calls/s, each alone",
        "calls/s, 16 together",
        "calls up, each alone",
        "calls up, 16 together",
    ];
    let rows = levels(found).flat_map(|level| {
        INSTANCES.iter().map(move |instances| {
            let room = |batch| carried(level, *instances, batch).map(|(calls, _)| calls);
            let fits = |calls: Option<f64>, times: f64| match calls {
                Some(calls) if calls <= 0.0 => "does not fit".to_owned(),
                // Two digits are as much as can be trusted.
                Some(calls) => {
                    let unit = 10f64.powf((calls * times).log10().floor() - 1.0);
                    thousands((calls * times / unit).floor() * unit)
                }
                None => "—".to_owned(),
            };
            vec![
                told(number(level, "/nodes")),
                format!("{instances}"),
                told(carried(level, *instances, 1).map(|(_, share)| share)),
                fits(room(1), 1.0),
                fits(room(16), 1.0),
                fits(room(1), CALL_S),
                fits(room(16), CALL_S),
            ]
        })
    });
    table(&head, rows)
}

fn together(found: &Value) -> String {
    let at = |what: &str| number(found, &format!("/redis/together/{what}"));
    let level = levels(found).find(|level| number(level, "/nodes") == at("nodes"));
    let one = |what: &str| level.and_then(|level| number(level, what));
    let idle = || {
        let instances = at("instances")?;
        Some(2.0 * instances * one("/view_us")? + instances * one("/steward_us")? + one("/sweep/idle_us")?)
    };
    let percent = |us: Option<f64>| told(us.map(|us| us / 10_000.0));
    let fine = |value: Option<f64>| value.map_or("—".to_owned(), |value| format!("{value:.2}"));
    let mut rows = vec![vec!["0".to_owned(), percent(idle()), percent(at("idle_us_a_s"))]];
    rows[0].extend(["—", "—", "—"].map(str::to_owned));
    let rates = found.pointer("/redis/together/rates").and_then(Value::as_array);
    for rate in rates.into_iter().flatten() {
        let of = |what: &str| number(rate, what);
        let sum = || Some(idle()? + of("/calls_a_s")? * one("/batches/1/call_us")?);
        let runs = || {
            // Two looks and a word to the steward's lease belong to no call.
            Some((of("/script_runs_a_s")? - 3.0 * at("instances")?) / of("/calls_a_s")?)
        };
        rows.push(vec![
            told(of("/calls_a_s")),
            percent(sum()),
            percent(of("/busy_us_a_s")),
            told(one("/batches/1/call_us")),
            told(of("/call_us")),
            fine(runs()),
        ]);
    }
    let head = [
        "calls/s",
        "of a core by the formula, %",
        "measured, %",
        "a call by the table, µs",
        "measured, µs",
        "script runs a call",
    ];
    table(&head, rows.into_iter())
}

fn line(found: &Value, at: &str) -> Option<Vec<f64>> {
    Some(found.pointer(at)?.as_array()?.iter().filter_map(Value::as_f64).collect())
}

fn steps(found: &Value) -> Vec<svg::Panel> {
    let panel = |(step, ..): &(&str, usize, usize, usize)| {
        let of = found.pointer(&format!("/evenness/{step}"))?;
        let lines: Vec<_> = ["least_views", "mqs", "two_views", "dispatcher"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), line(of, &format!("/{name}/over"))?)))
            .collect();
        let title = format!(
            "{} calls, {} nodes, {} instances",
            thousands(number(of, "/calls")?),
            thousands(number(of, "/nodes")?),
            number(of, "/instances")?
        );
        Some(svg::Panel { title, seconds: lines.first()?.1.len() as f64, lines })
    };
    // At night the fullest is many times the mean: a scale of its own would say little.
    STEPS.iter().filter(|(step, ..)| *step != "night").filter_map(panel).collect()
}

fn stories(found: &Value) -> Vec<svg::Panel> {
    let panel = |(name, what, words): &(&str, &str, &str)| {
        let values = line(found, &format!("/faults/{name}/{what}"))?;
        let seconds = values.len() as f64;
        let unit = if *what == "over" { "%" } else { "calls/s" };
        Some(svg::Panel { title: (*words).to_owned(), seconds, lines: vec![(unit.to_owned(), values)] })
    };
    [
        ("third", "over", "a third lost: fullest over mean"),
        ("third", "rates", "a third lost: calls to one node"),
        ("refusing", "over", "one node refuses: fullest over mean"),
        ("refusing_together", "over", "the same, views of one moment"),
        ("one", "rates", "one node lost: calls to one node"),
        ("one_cold", "rates", "the same without slow start"),
    ]
    .iter()
    .filter_map(panel)
    .collect()
}
