//! What a run says of each of its cases, where `MQS_LAB_RESULTS` names a directory: `lab-DATE.md` and `.json`, written anew after each case.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::net::epoch_s;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Missed a time, on a machine that was busy otherwise.
    TooBusy,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::TooBusy => "machine too busy",
            Outcome::Failed => "failed",
        }
    }
}

struct Told {
    case: &'static str,
    outcome: Outcome,
    took: Duration,
    figures: Vec<String>,
}

/// Where results go, if anywhere.
pub fn directory() -> Result<Option<PathBuf>> {
    let Some(directory) = std::env::var_os("MQS_LAB_RESULTS").map(PathBuf::from) else { return Ok(None) };
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    Ok(Some(directory))
}

/// Adds a case to the results of this run.
pub fn publish(case: &'static str, outcome: Outcome, took: Duration, figures: Vec<String>) -> Result<()> {
    static CASES: Mutex<Vec<Told>> = Mutex::new(Vec::new());
    let mut cases = CASES.lock().unwrap_or_else(PoisonError::into_inner);
    cases.push(Told { case, outcome, took, figures });
    let Some(directory) = directory()? else { return Ok(()) };
    let (date, cores) = (today(), thread::available_parallelism().map(usize::from).unwrap_or(0));
    let place = |ending: &str| directory.join(format!("lab-{date}.{ending}"));
    let list: Vec<serde_json::Value> = cases.iter().map(json).collect();
    let whole = json!({ "date": date, "cores": cores, "cases": list });
    std::fs::write(place("json"), format!("{whole:#}\n"))?;
    std::fs::write(place("md"), markdown(&cases, &date, cores)).context("writing the results")
}

fn json(told: &Told) -> serde_json::Value {
    let took_s = (told.took.as_secs_f64() * 10.0).round() / 10.0;
    json!({ "case": told.case, "outcome": told.outcome.word(), "took_s": took_s, "figures": told.figures })
}

fn markdown(cases: &[Told], date: &str, cores: usize) -> String {
    let total: f64 = cases.iter().map(|told| told.took.as_secs_f64()).sum();
    let mut text = format!(
        "# The lab, {date}\n\nReal Kamailio, Asterisk, Redis and SIPp on {cores} cores: {} cases in {total:.0} s. `make lab-full` runs all that \
         there are; what each figure means stands in [failure-modes.md](../failure-modes.md) and in `tests/lab/cases/`.\n\n\
         | case | | s | figures |\n|---|---|---|---|\n",
        cases.len()
    );
    for told in cases {
        text.push_str(&format!(
            "| `{}` | {} | {:.1} | {} |\n",
            told.case,
            told.outcome.word(),
            told.took.as_secs_f64(),
            told.figures.join("<br>").replace('|', "\\|").replace('\n', " ")
        ));
    }
    text
}

/// The date in UTC, `2026-07-01`, by the civil calendar's 400-year cycle.
pub fn today() -> String {
    let days = (epoch_s() / 86_400.0) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}
