//! Who was right: leases as Redis has them, several times a second, against calls as the nodes and the callers logged them.
//! MQS's own word counts for nothing here, but for how many answers it says it gave by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::stage::POOL;
use crate::net::epoch_s;
use crate::resp::{Reply, Resp};
use crate::sipp::Sipp;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A lease begins before the call is at its node, and its end is told beside the BYE: so much is no disagreement.
const GRACE_S: f64 = 0.3;

/// The counts are true again once they have been so for this long.
const STEADY_S: f64 = 2.0;

/// What nobody notices, in ms.
pub const SLOW_MS: f64 = 20.0;

/// The bits of a score that are the expiry (`store/redis/common.lua`).
const SLOT: u64 = 1 << 42;

/// The live leases at one moment of Redis's clock, by lease id: the slot that each is counted on.
pub struct Sample {
    pub at: f64,
    pub live: HashMap<String, usize>,
}

/// One call, as a node logged it.
pub struct Call {
    pub id: String,
    pub node: usize,
    pub lease: Option<String>,
    pub from: f64,
    pub to: f64,
}

/// Takes samples until it is stopped.
pub struct Sampler {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    pub fn start(redis: &Path) -> Sampler {
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, redis) = (Arc::clone(&ended), redis.to_owned());
        let thread = thread::spawn(move || {
            let (mut samples, mut client) = (Vec::new(), None);
            while !stop.load(Ordering::SeqCst) {
                // While Redis is away there is nothing to be seen.
                client = client.or_else(|| Resp::unix(&redis).ok());
                match client.as_mut().map(sample) {
                    Some(Ok(sample)) => samples.push(sample),
                    Some(Err(_)) => client = None,
                    None => {}
                }
                thread::sleep(SAMPLE_EVERY);
            }
            samples
        });
        Sampler { ended, thread: Some(thread) }
    }

    pub fn stop(mut self) -> Result<Vec<Sample>> {
        self.ended.store(true, Ordering::SeqCst);
        let samples = self.thread.take().context("the sampler was stopped before")?.join();
        samples.map_err(|_| anyhow::anyhow!("the sampler panicked"))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn sample(redis: &mut Resp) -> Result<Sample> {
    const READ: &str =
        "local t=redis.call('TIME') return {t[1],t[2],redis.call('ZRANGE',KEYS[1],0,-1,'WITHSCORES')}";
    let key = format!("{{mqs:p:{POOL}}}:own");
    let reply = redis.call(&["EVAL", READ, "1", &key])?;
    let Reply::Array(parts) = &reply else { bail!("{reply:?}") };
    let [seconds, micros, Reply::Array(list)] = parts.as_slice() else { bail!("{reply:?}") };
    let at = seconds.text()?.parse::<f64>()? + micros.text()?.parse::<f64>()? / 1e6;
    let mut live = HashMap::new();
    for pair in list.chunks_exact(2) {
        let score = pair[1].text()?.parse::<f64>()? as u64;
        if (score % SLOT) as f64 > at * 1000.0 {
            live.insert(pair[0].text()?.to_owned(), (score / SLOT) as usize);
        }
    }
    Ok(Sample { at, live })
}

/// The calls that a node logged: from the INVITE to the BYE, or to the end of time.
pub fn calls(node: usize, sipp: &Sipp) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for line in sipp.logs() {
        let word = |name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)).filter(|word| !word.is_empty())
        };
        let (Some(event), Some(id)) = (word("event="), word("call_id=")) else { continue };
        let at = word("at=").and_then(|at| at.parse::<f64>().ok()).unwrap_or_default();
        match event {
            "invite" => {
                // m1.POOL.NODE.LEASE.ATTEMPT.ISSUED.MAC
                let lease = word("lease=").and_then(|token| token.split('.').nth(3)).map(str::to_owned);
                index.insert(id.to_owned(), calls.len());
                calls.push(Call { id: id.to_owned(), node, lease, from: at, to: f64::INFINITY });
            }
            "bye" | "cancel" => {
                if let Some(call) = index.get(id).and_then(|index| calls.get_mut(*index)) {
                    call.to = call.to.min(at);
                }
            }
            _ => {}
        }
    }
    calls
}

/// Calls up without their lease, and live leases without their call, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    pub missing: usize,
    pub extra: usize,
}

pub fn compare(sample: &Sample, calls: &[Call]) -> Wrong {
    let mut may: BTreeSet<(&str, usize)> = BTreeSet::new();
    let mut wrong = Wrong::default();
    for call in calls {
        let lease = call.lease.as_deref();
        if let Some(lease) = lease
            && call.from < sample.at + GRACE_S
            && call.to > sample.at - GRACE_S
        {
            may.insert((lease, call.node));
        }
        let is_up = call.from < sample.at - GRACE_S && call.to > sample.at + GRACE_S;
        let counted = lease.and_then(|lease| sample.live.get(lease)) == Some(&call.node);
        wrong.missing += usize::from(is_up && !counted);
    }
    wrong.extra = sample.live.iter().filter(|(lease, slot)| !may.contains(&(lease.as_str(), **slot))).count();
    wrong
}

/// From the caller's INVITE to the node's, in ms, of the calls that were begun in a time; the shortest first.
pub fn delays(callers: &[Sipp], calls: &[Call], from: f64, to: f64) -> Vec<f64> {
    let sent = callers.iter().flat_map(Sipp::logs).filter_map(|line| {
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let is_begun = word("event=").as_deref() == Some("sent");
        is_begun.then_some(()).and_then(|()| Some((word("call_id=")?, word("at=")?.parse::<f64>().ok()?)))
    });
    let sent: HashMap<String, f64> = sent.filter(|(_, at)| (from..to).contains(at)).collect();
    let delay = |call: &Call| sent.get(&call.id).map(|at| (call.from - at) * 1000.0);
    let mut delays: Vec<f64> = calls.iter().filter_map(delay).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// The value that so many of a hundred do not exceed; 0 where there are none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Calls that have more than one lease, or came to more than one node.
pub fn doubled(calls: &[Call]) -> usize {
    let mut seen: BTreeMap<&str, BTreeSet<(usize, Option<&str>)>> = BTreeMap::new();
    for call in calls {
        seen.entry(&call.id).or_default().insert((call.node, call.lease.as_deref()));
    }
    seen.values().filter(|places| places.len() > 1).count()
}

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
    /// As MQS counts them.
    pub degraded: u64,
    /// Calls that came without a lease: from Kamailio's own list.
    pub unleased: usize,
    /// The worst moment after the fault began.
    pub missing_max: usize,
    pub extra_max: usize,
    /// The worst moment before the fault: a busy machine tells ends late. As much is no disagreement afterwards either.
    pub noise: Wrong,
    /// From the end of the fault until every live lease was that of a call up on that node, and the other way round.
    pub true_again_s: f64,
    /// From the last call's end until no lease was live, and how many were left at last.
    pub empty_s: f64,
    pub residue: u64,
    /// How much longer calls took to their node than half of the calls before the fault, in ms: during the fault, at the median, for
    /// 95 and for 99 of 100, and the longest; and how many took more than [`SLOW_MS`] longer.
    pub added_ms: [f64; 4],
    pub slowed: usize,
}

impl Row {
    /// Reads what happened after `begin`; `end` is when the fault was over. Gives a line a sample, for who wants to know more.
    pub fn judge(&mut self, samples: &[Sample], calls: &[Call], begin: f64, end: f64) -> String {
        let mut trace = "after_s,missing,extra,live\n".to_owned();
        self.doubled = doubled(calls);
        self.unleased = calls.iter().filter(|call| call.lease.is_none()).count();
        for sample in samples {
            let wrong = compare(sample, calls);
            let (after, live) = (sample.at - end, sample.live.len());
            trace.push_str(&format!("{after:.2},{},{},{live}\n", wrong.missing, wrong.extra));
            if sample.at < begin {
                self.noise.missing = self.noise.missing.max(wrong.missing);
                self.noise.extra = self.noise.extra.max(wrong.extra);
                continue;
            }
            self.missing_max = self.missing_max.max(wrong.missing);
            self.extra_max = self.extra_max.max(wrong.extra);
            let differs = wrong.missing > self.noise.missing || wrong.extra > self.noise.extra;
            // Right for so long together: what comes later is not the fault's doing.
            if differs && after < self.true_again_s + STEADY_S {
                self.true_again_s = after.max(0.0);
            }
        }
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
            "{}: {} calls, {} failed {:?}, {} doubled, {} degraded, {} without a lease, at worst {} calls uncounted and {} \
             leases without a call, true again {:.1} s after, empty {:.1} s after the last call, residue {} (before the fault: {}, {}); \
             added to a call's way during the fault: p50 {p50:.1} ms, p95 {p95:.1}, p99 {p99:.1}, at most {max:.1}, {} calls by more than {SLOW_MS:.0} ms",
            self.fault,
            self.calls,
            self.failed,
            self.refused,
            self.doubled,
            self.degraded,
            self.unleased,
            self.missing_max,
            self.extra_max,
            self.true_again_s,
            self.empty_s,
            self.residue,
            self.noise.missing,
            self.noise.extra,
            self.slowed
        )
    }

    /// Adds the row to the results of this run, where `MQS_LAB_RESULTS` names a directory for them.
    pub fn publish(&self) -> Result<()> {
        static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());
        let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(self.clone());
        let Some(directory) = std::env::var_os("MQS_LAB_RESULTS").map(PathBuf::from) else { return Ok(()) };
        std::fs::create_dir_all(&directory)?;
        let (date, cores) = (today(), thread::available_parallelism().map(usize::from).unwrap_or(0));
        let place = |ending: &str| directory.join(format!("faults-{date}.{ending}"));
        let list: Vec<serde_json::Value> = rows.iter().map(Row::json).collect();
        let whole = json!({ "date": date, "cores": cores, "grace_s": GRACE_S, "rows": list });
        std::fs::write(place("json"), format!("{whole:#}\n"))?;
        std::fs::write(place("md"), markdown(&rows, &date, cores)).context("writing the results")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "fault": self.fault, "calls": self.calls, "failed": self.failed, "refused": self.refused,
            "doubled": self.doubled, "degraded": self.degraded, "unleased": self.unleased,
            "missing_max": self.missing_max, "extra_max": self.extra_max,
            "true_again_s": tenths(self.true_again_s), "empty_s": tenths(self.empty_s), "residue": self.residue,
            "noise": { "missing": self.noise.missing, "extra": self.noise.extra },
            "added_ms": self.added_ms.map(tenths), "slowed": self.slowed,
        })
    }
}

fn markdown(rows: &[Row], date: &str, cores: usize) -> String {
    let mut text = format!(
        "# Faults, {date}\n\nWritten by `make lab-full` on {cores} cores; the columns are explained in \
         [failure-modes.md](../failure-modes.md#measured).\n\n\
         | fault | calls | failed | doubled | degraded | without a lease | uncounted, at worst | leases without a call, at worst \
         | true again after (s) | empty after (s) | residue |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {} |\n",
            row.fault,
            row.calls,
            row.failed,
            row.doubled,
            row.degraded,
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

/// The date in UTC, `2026-07-01`, by the civil calendar's 400-year cycle.
fn today() -> String {
    let days = (epoch_s() / 86_400.0) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}
