//! docs/configuration.md says what the program does: its keys, defaults and limits are tried.

use crate::text::{BARE, FULL, get, known, leaves, only_problem, parse, set};
use std::collections::{BTreeMap, BTreeSet};

const DOCS: &str = include_str!("../../docs/configuration.md");

#[test]
fn every_key_is_documented_and_every_documented_key_is_known() {
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows() {
        assert!(
            documented.entry(row.table.clone()).or_default().insert(row.key.clone()),
            "{} twice",
            row.key
        );
    }
    assert_eq!(documented, known());
    let shown: BTreeSet<(String, String)> =
        leaves().into_iter().filter(|(t, k)| get(FULL, t, k).is_none()).collect();
    assert_eq!(shown, BTreeSet::new(), "packaging/mqs.toml shows every key");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut tried = 0;
    for row in rows() {
        let Some(default) = row.default.strip_prefix('`').and_then(|d| d.strip_suffix('`')) else { continue };
        assert_eq!(parse(&set(BARE, &row.table, &row.key, default)), parse(BARE), "{} = {default}", row.key);
        tried += 1;
    }
    assert!(tried >= 25, "only {tried} defaults tried");
}

#[test]
fn documented_limits_are_the_limits() {
    let mut tried = 0;
    for row in rows() {
        let Some((least, most)) = row.limits.split_once('–') else {
            let number = row.default.trim_matches('`').parse::<f64>().is_ok();
            assert!(!number, "{} is a number and has no limits", row.key);
            continue;
        };
        let (below, above) = if most.contains('.') {
            (
                format!("{:.3}", least.parse::<f64>().unwrap() - 0.001),
                format!("{:.3}", most.parse::<f64>().unwrap() + 0.001),
            )
        } else {
            ((least.parse::<i64>().unwrap() - 1).to_string(), (most.parse::<i64>().unwrap() + 1).to_string())
        };
        for inside in [least, most] {
            parse(&set(BARE, &row.table, &row.key, inside));
        }
        for outside in [below, above] {
            assert!(only_problem(&set(BARE, &row.table, &row.key, &outside)).key.ends_with(&row.key));
        }
        tried += 1;
    }
    assert!(tried >= 17, "only {tried} limits tried");
}

/// A row of a table of keys in docs/configuration.md.
struct Row {
    table: String,
    key: String,
    default: String,
    limits: String,
}

fn rows() -> Vec<Row> {
    let mut table = None;
    let mut rows = Vec::new();
    for line in DOCS.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.trim_matches(['`', '[', ']']);
            table = Some(if heading == "Top level" { String::new() } else { name.to_owned() });
        } else if let (Some(table), Some(row)) = (&table, line.strip_prefix("| `")) {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let [key, _meaning, default, limits] = cells[..] else { panic!("four cells: {line}") };
            let key = key.trim_end_matches('`');
            rows.push(Row {
                table: table.clone(),
                key: key.into(),
                default: default.into(),
                limits: limits.into(),
            });
        }
    }
    rows
}
