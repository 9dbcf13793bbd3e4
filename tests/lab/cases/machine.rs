//! How busy the machine was while a fault was measured: what depends on time is held against that, not against a machine that
//! has nothing else to do.
//!
//! Two things tell: how late the counts followed the calls *before* the fault, and how late a thread ran that wanted to run
//! all the time. Nothing here excuses a second lease or one that stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};

use super::faults::HELD_S;
use super::judge::{Call, Sample, Wrong, compare, strangers};
use crate::net::{epoch_s, now};

/// On a machine with nothing else to do.
const GRACE_S: f64 = 0.3;

/// However busy it is: a word that missed its deadline is kept by Kamailio and told again within a second or two.
const GRACE_MAX_S: f64 = 3.0;

/// The graces that are tried on what was seen before the fault.
const GRACES_S: [f64; 6] = [GRACE_S, 0.45, 0.6, 0.9, 1.5, GRACE_MAX_S];

/// A word passes through so many programs before it is counted, and each may have to wait for the processor.
const HOPS: f64 = 3.0;

/// `store.timeout_ms`: what takes longer is told again later.
const DEADLINE_S: f64 = 0.05;

/// Half of what Kamailio waits for its helper (`MQS_CMD_TIMEOUT_MS`): who is so late may miss it.
const STARVED_S: f64 = 0.075;

/// With so large a share of its beats late, nothing can be said of times.
const HOPELESS: f64 = 0.02;

const BEAT: Duration = Duration::from_millis(20);

/// A thread that wants to run every 20 ms, and writes down how late it was.
pub struct Pulse {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Vec<(f64, f64)>>>,
}

impl Pulse {
    pub fn start() -> Pulse {
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut beats = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let asleep = now();
                thread::sleep(BEAT);
                beats.push((epoch_s(), asleep.elapsed().saturating_sub(BEAT).as_secs_f64()));
            }
            beats
        });
        Pulse { ended, thread: Some(thread) }
    }

    pub fn stop(mut self) -> Result<Vec<(f64, f64)>> {
        self.ended.store(true, Ordering::SeqCst);
        let beats = self.thread.take().context("the pulse was stopped before")?.join();
        beats.map_err(|_| anyhow::anyhow!("the pulse panicked"))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// Why a test is ignored that was begun.
#[derive(Debug)]
pub struct TooBusy(pub String);

impl std::fmt::Display for TooBusy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What the machine was like during one run.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// When, and how late.
    beats: Vec<(f64, f64)>,
    /// What the counts needed before the fault.
    base_s: f64,
    /// Deadlines that were missed, and calls that failed, before there was a fault.
    missed_before: u64,
    /// When callers were refused.
    refused: Vec<f64>,
}

impl Machine {
    pub fn new(beats: Vec<(f64, f64)>, missed_before: u64, refused: Vec<f64>) -> Machine {
        Machine { beats, base_s: GRACE_S, missed_before, refused }
    }

    /// Learns from the samples before the fault. An error: they were wrong, however much time is given.
    pub fn learn(mut self, before: &[&Sample], calls: &[Call]) -> Result<Machine> {
        let wrong =
            |grace: f64| before.iter().find(|sample| self.differs(sample, compare(sample, calls, grace)));
        let Some(needed) = GRACES_S.into_iter().find(|grace| wrong(*grace).is_none()) else {
            let first = wrong(GRACE_MAX_S).context("a sample")?;
            let (wrong, who) = (compare(first, calls, GRACE_MAX_S), strangers(first, calls, GRACE_MAX_S));
            bail!("wrong before the fault, even with {GRACE_MAX_S} s of grace: {wrong:?}, {who}");
        };
        // A few seconds do not show the worst.
        self.base_s = if needed > GRACE_S { (2.0 * needed).min(GRACE_MAX_S) } else { GRACE_S };
        Ok(self)
    }

    /// Whether this is a disagreement. A caller whose Kamailio did not wait for the answer is refused, and leaves a lease that
    /// was given all the same, until it ends by time.
    pub fn differs(&self, sample: &Sample, wrong: Wrong) -> bool {
        let is_recent = |at: &&f64| (sample.at - HELD_S - 1.0..sample.at + 1.0).contains(*at);
        let left = if self.is_starved() { self.refused.iter().filter(is_recent).count() } else { 0 };
        wrong.missing > 0 || wrong.extra > left
    }

    /// So much is no disagreement at this moment.
    pub fn grace_s(&self, at: f64) -> f64 {
        let near = self.beats.iter().filter(|(beat, _)| (at - GRACE_MAX_S..at + 1.0).contains(beat));
        let late = HOPS * near.map(|(_, late)| *late).fold(0.0, f64::max);
        if late > DEADLINE_S { GRACE_MAX_S } else { self.base_s + late }
    }

    /// The most that a thread was late.
    pub fn late_s(&self) -> f64 {
        self.beats.iter().map(|(_, late)| *late).fold(0.0, f64::max)
    }

    /// How many times longer than on an idle machine things may take: 1 to 3.
    pub fn slowness(&self) -> f64 {
        ((self.base_s + HOPS * self.late_s()) / GRACE_S).clamp(1.0, 3.0)
    }

    /// How many of these calls may fail for want of CPU: none on a machine that is not starved. On one that is, a Kamailio may
    /// take its helper for away for a second.
    pub fn excuses(&self, calls: u64) -> u64 {
        if self.is_starved() { calls / 20 } else { 0 }
    }

    /// The share of beats so late that a deadline may have been missed.
    pub fn late_share(&self) -> f64 {
        let late = self.beats.iter().filter(|(_, late)| HOPS * late > DEADLINE_S).count();
        late as f64 / self.beats.len().max(1) as f64
    }

    /// A disagreement in time shows nothing where others had the processor most of the time, whatever MQS did. By the pulse
    /// alone: what MQS or Kamailio missed is no excuse.
    pub fn blame(&self, error: Error) -> Error {
        let share = self.late_share();
        if share < HOPELESS {
            return error;
        }
        error.context(TooBusy(format!(
            "the machine is too busy to measure: {:.0} % of the time",
            share * 100.0
        )))
    }

    fn is_starved(&self) -> bool {
        self.missed_before > 0 || self.late_s() > STARVED_S
    }
}
