//! The instance's counters as they were read, and what lies between two readings.

use crate::command::output::plain;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The counters of one reading of `/metrics`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The instance's version.
    pub version: Option<String>,
    /// When it was started, in seconds since 1970 by its own clock.
    pub started_s: Option<f64>,
    /// Lookups answered, by result.
    pub lookups: BTreeMap<String, f64>,
    /// Lookups that took no longer than so many seconds; rising.
    pub buckets: Vec<(f64, f64)>,
    /// Operations that the store did not answer.
    pub store_errors: f64,
    /// Seconds without the store.
    pub degraded_s: f64,
    /// Pools whose breaker is open: the store is not waited for.
    pub breakers_open: BTreeSet<String>,
    /// Open connections, by kind of listener.
    pub connections: BTreeMap<String, f64>,
    /// The instance has a cell, and whether it leads.
    pub leads: Option<bool>,
    /// Calls that were joined with an agent, by queue; of a leader.
    pub answered: BTreeMap<String, f64>,
    /// Calls whose callers hung up before, by queue; of a leader.
    pub abandoned: BTreeMap<String, f64>,
    /// Nodes that the leader hears, and those that it does not.
    pub attached: BTreeMap<String, bool>,
}

impl Figures {
    /// Reads the text of `/metrics`; what it does not know, or cannot read, it passes over.
    pub fn read(text: &str) -> Figures {
        let mut figures = Figures::default();
        for Sample { name, labels, value } in text.lines().filter_map(sample) {
            let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
            match name {
                "mqs_build_info" => figures.version = labels.get("version").cloned(),
                "mqs_start_time_seconds" => figures.started_s = Some(value),
                "mqs_lookups_total" => *figures.lookups.entry(label("result")).or_default() += value,
                "mqs_lookup_seconds_bucket" => figures.bucket(&label("le"), value),
                "mqs_store_errors_total" => figures.store_errors += value,
                "mqs_degraded_seconds_total" => figures.degraded_s += value,
                "mqs_store_breaker_state" if value > 0.0 && label("state") != "closed" => {
                    figures.breakers_open.insert(plain(&label("pool")));
                }
                "mqs_connections" => *figures.connections.entry(label("transport")).or_default() += value,
                "mqs_cell_leads" => figures.leads = Some(value > 0.0),
                "mqs_queue_answered_total" => *figures.answered.entry(label("queue")).or_default() += value,
                "mqs_queue_ended_total" if label("reason") == "abandoned" => {
                    *figures.abandoned.entry(label("queue")).or_default() += value;
                }
                "mqs_ari_attached" => _ = figures.attached.insert(label("node"), value > 0.0),
                _ => {}
            }
        }
        figures.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        figures
    }

    /// The buckets of all transports are one histogram here.
    fn bucket(&mut self, le: &str, count: f64) {
        let limit = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap_or(f64::INFINITY) };
        match self.buckets.iter_mut().find(|(known, _)| known.total_cmp(&limit).is_eq()) {
            Some((_, sum)) => *sum += count,
            None => self.buckets.push((limit, count)),
        }
    }

    /// Whether these can be later figures of the same process as `before`: counters never fall.
    pub fn follow(&self, before: &Figures) -> bool {
        self.started_s == before.started_s
            && before.lookups.iter().all(|(result, n)| self.lookups.get(result).is_some_and(|now| now >= n))
            && self.store_errors >= before.store_errors
            && self.degraded_s >= before.degraded_s
    }
}

/// How long lookups took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// About so many seconds.
    At(f64),
    /// More than the histogram can tell: more than so many seconds.
    Over(f64),
}

/// What happened between two readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// How many seconds lay between them.
    pub span_s: f64,
    /// Lookups a second, by result; a result that was ever given is there.
    pub lookups_per_s: BTreeMap<String, f64>,
    /// Half of the lookups took no longer.
    pub p50: Option<Latency>,
    /// 99 of 100 took no longer.
    pub p99: Option<Latency>,
    /// Answers without the store, as a share of all answers that name a node.
    pub degraded_share: Option<f64>,
    /// Operations that the store did not answer, a second.
    pub store_errors_per_s: f64,
    /// The same since the instance's start.
    pub store_errors: f64,
    /// Seconds without the store since the instance's start.
    pub degraded_s: f64,
}

impl Rates {
    /// Between two readings of the same process; from nothing: since its start.
    pub fn between(before: &Figures, now: &Figures, span: Duration) -> Rates {
        let span_s = span.as_secs_f64();
        let a_second = |count: f64| if span_s > 0.0 { count / span_s } else { 0.0 };
        let more = |result: &str| {
            let count = |figures: &Figures| figures.lookups.get(result).copied().unwrap_or(0.0);
            count(now) - count(before)
        };
        let lookups = now.lookups.keys().map(|result| (result.clone(), a_second(more(result))));
        let answers: f64 = ["routed", "repeat", "degraded"].into_iter().map(more).sum();
        let buckets: Vec<(f64, f64)> = (now.buckets.iter())
            .map(|(le, count)| {
                let was = before.buckets.iter().find(|(known, _)| known.total_cmp(le).is_eq());
                (*le, count - was.map_or(0.0, |(_, count)| *count))
            })
            .collect();
        Rates {
            span_s,
            lookups_per_s: lookups.collect(),
            p50: quantile(&buckets, 0.5),
            p99: quantile(&buckets, 0.99),
            degraded_share: (answers > 0.0).then(|| more("degraded") / answers),
            store_errors_per_s: a_second(now.store_errors - before.store_errors),
            store_errors: now.store_errors,
            degraded_s: now.degraded_s,
        }
    }
}

/// As Prometheus' `histogram_quantile` has it: evenly spread within a bucket.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<Latency> {
    let rank = buckets.last().map(|(_, all)| all * share).filter(|rank| *rank > 0.0)?;
    let (mut below, mut counted) = (0.0, 0.0);
    for (limit, count) in buckets {
        if *count >= rank {
            if limit.is_infinite() {
                return Some(Latency::Over(below));
            }
            return Some(Latency::At(below + (limit - below) * (rank - counted) / (count - counted)));
        }
        (below, counted) = (*limit, *count);
    }
    None
}

struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// One line of OpenMetrics 1.0: `name{key="value",…} number`, perhaps with more behind it.
fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_prefix('{').unwrap_or(rest);
    while let Some((key, after)) = rest.split_once("=\"").filter(|(key, _)| !key.contains([' ', '}'])) {
        let (value, after) = quoted(after)?;
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        rest = after;
    }
    let number = rest.trim_start_matches(['}', ',']).split_whitespace().next()?;
    Some(Sample { name, labels, value: number.parse().ok()? })
}

/// A label's value up to its quote, and what follows; `\\`, `\"` and `\n` stand for one character each.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn close(found: Option<Latency>, wanted_s: f64) -> bool {
        matches!(found, Some(Latency::At(s)) if (s - wanted_s).abs() < wanted_s * 0.01)
    }

    #[test]
    fn what_the_instance_writes_is_read() {
        let metrics = Metrics::new();
        for transport in ["resp", "http"] {
            metrics.lookup("a \"quoted\\ {pool}", "routed", transport, Duration::from_micros(70));
            metrics.lookup("b", "routed", transport, Duration::from_micros(70));
        }
        metrics.lookup("b", "full", "resp", Duration::from_secs(9));
        metrics.store_error("pick", "timeout");
        metrics.store_error("view", "away");
        let figures = Figures::read(&metrics.render(&[]));
        assert_eq!(figures.lookups.get("routed"), Some(&4.0));
        assert_eq!(figures.lookups.get("full"), Some(&1.0));
        assert_eq!(figures.store_errors, 2.0);
        assert_eq!(figures.buckets.last(), Some(&(f64::INFINITY, 5.0)));
        assert_eq!(figures.buckets.iter().find(|(le, _)| *le > 0.000_05), Some(&(0.000_1, 4.0)));
    }

    #[test]
    fn rates_are_of_what_came_since() {
        let metrics = Metrics::new();
        let read = || Figures::read(&metrics.render(&[]));
        metrics.lookup("p", "degraded", "resp", Duration::from_secs(9));
        let before = read();
        for _ in 0..98 {
            metrics.lookup("p", "routed", "resp", Duration::from_micros(70));
        }
        metrics.lookup("p", "degraded", "resp", Duration::from_micros(300));
        metrics.lookup("p", "degraded", "resp", Duration::from_micros(300));
        let rates = Rates::between(&before, &read(), Duration::from_secs(2));
        assert_eq!(rates.lookups_per_s.get("routed"), Some(&49.0));
        assert_eq!(rates.degraded_share, Some(0.02));
        // 50 of the 98 between 50 and 100 µs; one of the two between 200 and 400 µs.
        assert!(close(rates.p50, 0.000_075_5), "{:?}", rates.p50);
        assert!(close(rates.p99, 0.000_3), "{:?}", rates.p99);
        let since_start = Rates::between(&Figures::default(), &before, Duration::from_secs(10));
        assert_eq!(since_start.p50, Some(Latency::Over(0.000_05 * 8192.0)));
        let nothing = Rates::between(&before, &before, Duration::ZERO);
        assert_eq!((nothing.p50, nothing.degraded_share), (None, None));
    }

    #[test]
    fn a_restart_is_seen() {
        let metrics = Metrics::new();
        let fresh = Figures::read(&metrics.render(&[]));
        metrics.lookup("p", "routed", "resp", Duration::ZERO);
        let later = Figures::read(&metrics.render(&[]));
        assert!(later.follow(&fresh) && !fresh.follow(&later));
        assert!(!Figures { started_s: Some(1.0), ..later.clone() }.follow(&later));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for line in
            ["", "#", "mqs_lookups_total", "mqs_lookups_total{", "a{b=\"", "a{b=\"c\"}", "a{b=\"\\", "ä{ 1"]
        {
            let _ = Figures::read(line);
        }
        assert_eq!(Figures::read("mqs_lookups_total{result=\"x\"} many\n<html>"), Figures::default());
    }
}
