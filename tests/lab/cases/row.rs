//! What was measured of one fault, and the results of a run of all of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;

use super::judge::{Call, SLOW_MS, Sample, compare, doubled, percentile, true_again};
use super::machine::Machine;
use crate::results::{directory, today};

/// What was measured of one fault.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub fault: String,
    pub calls: u64,
    /// As the callers count them.
    pub failed: u64,
    /// The SIP codes of refusals, and how often.
    pub refused: BTreeMap<String, u64>,
    pub doubled: usize,
    /// Answers given without the store, and for how long, as MQS counts them.
    pub degraded: u64,
    pub degraded_s: f64,
    /// Calls that came without a lease: from Kamailio's own list.
    pub unleased: usize,
    /// The worst moment after the fault began.
    pub missing_max: usize,
    pub extra_max: usize,
    /// From the end of the fault until every live lease was that of a call up on that node, and the other way round.
    pub true_again_s: f64,
    /// From the last call's end until no lease was live, and how many were left at last.
    pub empty_s: f64,
    pub residue: u64,
    /// How much longer calls took to their node than half of the calls before the fault, in ms: during the fault, at the median, for
    /// 95 and for 99 of 100, and the longest; and how many took more than [`SLOW_MS`] longer.
    pub added_ms: [f64; 4],
    pub slowed: usize,
    /// What the times have to be held against.
    pub machine: Machine,
}

impl Row {
    /// Reads what happened after `begin`; `end` is when the fault was over. Gives a line a sample, for who wants to know more.
    pub fn judge(&mut self, samples: &[Sample], calls: &[Call], begin: f64, end: f64) -> String {
        let mut trace = "after_s,missing,extra,live,grace_s\n".to_owned();
        self.doubled = doubled(calls);
        self.unleased = calls.iter().filter(|call| call.lease.is_none()).count();
        let mut seen = Vec::new();
        for sample in samples {
            let grace_s = self.machine.grace_s(sample.at);
            let wrong = compare(sample, calls, grace_s);
            let (after, live) = (sample.at - end, sample.live.len());
            trace.push_str(&format!("{after:.2},{},{},{live},{grace_s:.2}\n", wrong.missing, wrong.extra));
            if sample.at < begin {
                continue;
            }
            self.missing_max = self.missing_max.max(wrong.missing);
            self.extra_max = self.extra_max.max(wrong.extra);
            seen.push((after, self.machine.differs(sample, wrong)));
        }
        self.true_again_s = true_again(&seen);
        trace
    }

    /// Compares how long calls took to their nodes before the fault and in it.
    pub fn judge_delays(&mut self, before: &[f64], during: &[f64]) {
        let usual = percentile(before, 50);
        self.added_ms = [50, 95, 99, 100].map(|percent| (percentile(during, percent) - usual).max(0.0));
        self.slowed = during.iter().filter(|ms| **ms - usual > SLOW_MS).count();
    }

    pub fn line(&self) -> String {
        let [p50, p95, p99, max] = self.added_ms;
        format!(
            "{}: {} calls, {} failed {:?}, {} doubled, {} degraded in {:.1} s, {} without a lease, at worst {} calls uncounted \
             and {} leases without a call, true again {:.1} s after, empty {:.1} s after the last call, residue {} (times × {:.1}, \
             a thread was up to {:.0} ms late, {:.0} % of the time too late); added to a call's way during the fault: p50 {p50:.1} ms, \
             p95 {p95:.1}, p99 {p99:.1}, at most {max:.1}, {} calls by more than {SLOW_MS:.0} ms",
            self.fault,
            self.calls,
            self.failed,
            self.refused,
            self.doubled,
            self.degraded,
            self.degraded_s,
            self.unleased,
            self.missing_max,
            self.extra_max,
            self.true_again_s,
            self.empty_s,
            self.residue,
            self.machine.slowness(),
            self.machine.late_s() * 1000.0,
            self.machine.late_share() * 100.0,
            self.slowed
        )
    }

    /// Adds the row to the results of this run, where `MQS_LAB_RESULTS` names a directory for them.
    pub fn publish(&self) -> Result<()> {
        static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());
        let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(self.clone());
        let Some(directory) = directory()? else { return Ok(()) };
        let (date, cores) = (today(), thread::available_parallelism().map(usize::from).unwrap_or(0));
        let place = |ending: &str| directory.join(format!("faults-{date}.{ending}"));
        let list: Vec<serde_json::Value> = rows.iter().map(Row::json).collect();
        let whole = json!({ "date": date, "cores": cores, "rows": list });
        std::fs::write(place("json"), format!("{whole:#}\n"))?;
        std::fs::write(place("md"), markdown(&rows, &date, cores)).context("writing the results")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "fault": self.fault, "calls": self.calls, "failed": self.failed, "refused": self.refused,
            "doubled": self.doubled, "degraded": self.degraded, "degraded_s": tenths(self.degraded_s), "unleased": self.unleased,
            "missing_max": self.missing_max, "extra_max": self.extra_max,
            "true_again_s": tenths(self.true_again_s), "empty_s": tenths(self.empty_s), "residue": self.residue,
            "added_ms": self.added_ms.map(tenths), "slowed": self.slowed,
            "machine": { "slowness": tenths(self.machine.slowness()), "late_ms": (self.machine.late_s() * 1000.0).round() },
        })
    }
}

fn markdown(rows: &[Row], date: &str, cores: usize) -> String {
    let mut text = format!(
        "# Faults, {date}\n\nWritten by `make lab-full` on {cores} cores; the columns are explained in \
         [failure-modes.md](../failure-modes.md#measured).\n\n\
         | fault | calls | failed | doubled | degraded | degraded for (s) | without a lease | uncounted, at worst | leases without a call, \
         at worst | true again after (s) | empty after (s) | residue |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {:.1} | {} | {} | {} | {:.1} | {:.1} | {} |\n",
            row.fault,
            row.calls,
            row.failed,
            row.doubled,
            row.degraded,
            row.degraded_s,
            row.unleased,
            row.missing_max,
            row.extra_max,
            row.true_again_s,
            row.empty_s,
            row.residue
        ));
    }
    text
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
