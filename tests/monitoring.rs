//! The alert rules and the dashboard speak of metrics that there are.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const METRICS: &str = include_str!("../docs/metrics.md");
const ALERTS: &str = include_str!("../packaging/prometheus/mqs-alerts.yml");
const DASHBOARD: &str = include_str!("../packaging/grafana/mqs.json");

/// The names in the table of docs/metrics.md, which `tests/http_docs.rs` holds against what is served. A histogram is asked for by
/// its buckets.
fn documented() -> BTreeSet<String> {
    let rows = METRICS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(
        |(name, rest)| {
            if rest.starts_with("histogram") { format!("{name}_bucket") } else { name.to_owned() }
        },
    )
    .collect()
}

fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("mqs_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_served_and_none_is_forgotten() {
    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    let (alerts, dashboard) = (names_in(ALERTS), names_in(DASHBOARD));
    let unknown: Vec<_> = alerts.union(&dashboard).filter(|name| !documented.contains(*name)).collect();
    assert!(unknown.is_empty(), "nobody serves {unknown:?}");
    // What a dashboard has no use for.
    let aside: BTreeSet<String> = ["mqs_build_info".to_owned()].into();
    let seen: BTreeSet<String> = alerts.union(&dashboard).chain(&aside).cloned().collect();
    let forgotten: Vec<_> = documented.difference(&seen).collect();
    assert!(forgotten.is_empty(), "neither alert nor panel has {forgotten:?}");
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title} says nothing of itself");
        for target in panel["targets"].as_array().unwrap() {
            let text = target["expr"].as_str().unwrap();
            assert_eq!(text.matches('(').count(), text.matches(')').count(), "{title}: {text}");
        }
    }
}

/// Prometheus' own word, where its tool is there.
#[test]
fn promtool_takes_the_alert_rules() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/mqs-alerts.yml");
    let tool = std::env::var_os("MQS_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let Ok(output) = Command::new(tool).args(["check", "rules"]).arg(&file).output() else {
        eprintln!("SKIPPED: there is no promtool (Debian: apt-get install prometheus)");
        return;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("SUCCESS"), "{out}{err}");
}
