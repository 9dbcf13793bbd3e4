//! Health: whether a node is to be given calls, as far as calls and probes tell.
//!
//! Calls tell first: a node that stays silent is *ejected* for a growing while, one that asks for a pause (503 with
//! `Retry-After`, RFC 3261 §21.5.4) is *overloaded* for that long. Probes tell the rest: *failing* until they are answered
//! again. Who comes back is *warming*: a part of its capacity counts, and grows. A verdict that would take too large a share of
//! a pool away is overruled: rather a doubtful node than none.

pub mod accept;

use super::time::EpochMs;
use accept::Accept;
use std::fmt;
use std::str::FromStr;

/// The most characters of a reason.
pub const WHY_MAX: usize = 100;

/// The share of its capacity that a node begins with when it comes back, in thousandths; it grows in steps of the same size.
const RAMP_STEP_PM: u32 = 100;

/// A pool's rules for health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// How often a node is probed, in ms; 0: never. One that is [in doubt](Watch::is_in_doubt) twice as often.
    pub probe_every_ms: u64,
    /// How long a probe waits for its answer, in ms.
    pub probe_timeout_ms: u64,
    /// Which answers to a probe show that somebody is there.
    pub accept: Accept,
    /// How many probes in a row must fail before a node is failing.
    pub down_after: u32,
    /// How many probes in a row must be answered before it no longer is.
    pub up_after: u32,
    /// How many calls in a row must meet silence before a node is ejected; 0: never.
    pub eject_after: u32,
    /// How long the first ejection lasts, in ms; each that follows soon lasts twice as long.
    pub eject_ms: u64,
    /// The longest ejection, and the longest pause that a `Retry-After` is granted, in ms.
    pub eject_max_ms: u64,
    /// How long a node that came back takes to its full capacity, in ms; 0: at once.
    pub slow_start_ms: u64,
    /// The largest share of a pool's active nodes that health may take away, in thousandths.
    pub out_max_pm: u32,
}

impl Default for HealthRules {
    fn default() -> HealthRules {
        HealthRules {
            probe_every_ms: 5_000,
            probe_timeout_ms: 1_000,
            accept: Accept::USUAL,
            down_after: 3,
            up_after: 2,
            eject_after: 3,
            eject_ms: 10_000,
            eject_max_ms: 300_000,
            slow_start_ms: 30_000,
            out_max_pm: 500,
        }
    }
}

/// What is known of a node's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Nothing speaks against it.
    Up,
    /// It came back a while ago.
    Warming,
    /// It asked for a pause.
    Overloaded,
    /// Calls met silence.
    Ejected,
    /// Probes met silence.
    Failing,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 5] =
        [Condition::Up, Condition::Warming, Condition::Overloaded, Condition::Ejected, Condition::Failing];

    /// The word for it in answers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Warming => "warming",
            Condition::Overloaded => "overloaded",
            Condition::Ejected => "ejected",
            Condition::Failing => "failing",
        }
    }

    /// Whether it takes the node out of the choice.
    pub fn is_out(self) -> bool {
        match self {
            Condition::Up | Condition::Warming => false,
            Condition::Overloaded | Condition::Ejected | Condition::Failing => true,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no [`Condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotACondition(pub String);

impl fmt::Display for NotACondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a condition of a node", self.0)
    }
}

impl std::error::Error for NotACondition {}

impl FromStr for Condition {
    type Err = NotACondition;
    fn from_str(s: &str) -> Result<Self, NotACondition> {
        Condition::ALL.into_iter().find(|c| c.as_str() == s).ok_or_else(|| NotACondition(s.to_owned()))
    }
}

/// A node's health. It is a part of the definition that all instances share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is known.
    pub condition: Condition,
    /// Since when, by the store's clock.
    pub since: EpochMs,
    /// When it may end by time.
    pub until: Option<EpochMs>,
    /// What led to it, in at most [`WHY_MAX`] characters.
    pub why: String,
    /// How many ejections followed each other closely.
    pub ejections: u32,
    /// The share of the capacity that counts, in thousandths.
    pub ramp_pm: u32,
    /// Too many others are out: the node is used all the same.
    pub overruled: bool,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            condition: Condition::Up,
            since: EpochMs(0),
            until: None,
            why: String::new(),
            ejections: 0,
            ramp_pm: 1000,
            overruled: false,
        }
    }
}

impl Health {
    /// Whether the node may be chosen.
    pub fn is_fit(&self) -> bool {
        !self.condition.is_out() || self.overruled
    }

    /// The capacity to count with: at least one channel.
    pub fn of_capacity(&self, capacity: u32) -> u32 {
        match self.condition {
            Condition::Warming => (capacity.saturating_mul(self.ramp_pm) / 1000).max(1),
            Condition::Up | Condition::Overloaded | Condition::Ejected | Condition::Failing => capacity,
        }
    }

    fn into(&self, condition: Condition, now: EpochMs, until: Option<EpochMs>, why: &str) -> Health {
        let why = why.chars().filter(|c| !c.is_control()).take(WHY_MAX).collect();
        Health { condition, since: now, until, why, ramp_pm: 1000, overruled: false, ..self.clone() }
    }

    fn ejected(&self, rules: &HealthRules, now: EpochMs, why: &str) -> Health {
        // One that has been well for long begins anew.
        let well = self.condition == Condition::Up && now.since(self.since) >= rules.eject_max_ms;
        let ejections = if well { 1 } else { self.ejections.saturating_add(1) };
        let times = 1u64 << (ejections - 1).min(32);
        let lasts = rules.eject_ms.saturating_mul(times).min(rules.eject_max_ms);
        Health { ejections, ..self.into(Condition::Ejected, now, Some(now + lasts), why) }
    }

    fn back(&self, rules: &HealthRules, now: EpochMs) -> Health {
        let why = format!("was {}: {}", self.condition, self.why);
        if rules.slow_start_ms == 0 {
            return self.into(Condition::Up, now, None, &why);
        }
        let until = Some(now + rules.slow_start_ms);
        Health { ramp_pm: RAMP_STEP_PM, ..self.into(Condition::Warming, now, until, &why) }
    }

    fn warmed(&self, rules: &HealthRules, now: EpochMs) -> Health {
        let passed = now.since(self.since);
        if passed >= rules.slow_start_ms {
            return self.into(Condition::Up, now, None, &self.why);
        }
        let steps = passed.saturating_mul(1000) / rules.slow_start_ms / u64::from(RAMP_STEP_PM);
        let ramp_pm = u32::try_from(steps).unwrap_or(0).saturating_add(1).saturating_mul(RAMP_STEP_PM);
        Health { ramp_pm: ramp_pm.min(1000), ..self.clone() }
    }
}

/// What was noticed of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A call had an answer of any kind.
    Answered,
    /// A call had none, or could not be sent.
    Silent(&'static str),
    /// It asked for a pause of so many ms.
    Overloaded(u64),
    /// A probe was answered.
    ProbeGood,
    /// A probe was not, or with a refusal.
    ProbeBad(String),
}

/// What one instance has noticed of a node since its health last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    since: EpochMs,
    silent: u32,
    good: u32,
    bad: u32,
}

impl Watch {
    /// Notices something, and says what the health is now if that changes it.
    pub fn notice(
        &mut self,
        evidence: &Evidence,
        health: &Health,
        rules: &HealthRules,
        now: EpochMs,
    ) -> Option<Health> {
        self.follow(health);
        match evidence {
            Evidence::Answered => self.silent = 0,
            Evidence::Silent(why) => {
                self.silent = self.silent.saturating_add(1);
                let enough = rules.eject_after > 0 && self.silent >= rules.eject_after;
                if enough && !health.condition.is_out() {
                    let why = format!("{} calls in a row: {why}", self.silent);
                    return Some(health.ejected(rules, now, &why));
                }
            }
            Evidence::Overloaded(pause_ms) => {
                self.silent = 0;
                let until = now + (*pause_ms).min(rules.eject_max_ms);
                let longer = health.until.is_none_or(|known| until > known);
                let overloaded = health.condition == Condition::Overloaded;
                if *pause_ms > 0 && (!health.condition.is_out() || overloaded && longer) {
                    let why = format!("503 with Retry-After: {}", pause_ms.div_ceil(1000));
                    return Some(health.into(Condition::Overloaded, now, Some(until), &why));
                }
            }
            Evidence::ProbeGood => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                if health.condition == Condition::Failing && self.good >= rules.up_after {
                    return Some(health.back(rules, now));
                }
            }
            Evidence::ProbeBad(why) => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                if health.condition != Condition::Failing && self.bad >= rules.down_after {
                    let why = format!("{} probes in a row: {why}", self.bad);
                    return Some(health.into(Condition::Failing, now, None, &why));
                }
            }
        }
        None
    }

    /// What the passing of time makes of the health, if it changes it.
    pub fn pass(&mut self, health: &Health, rules: &HealthRules, now: EpochMs) -> Option<Health> {
        self.follow(health);
        let over = health.until.is_none_or(|until| now >= until);
        let next = match health.condition {
            Condition::Up => None,
            Condition::Warming => Some(health.warmed(rules, now)),
            Condition::Overloaded => over.then(|| health.back(rules, now)),
            // Where there are probes, one must have been answered meanwhile.
            Condition::Ejected => {
                (over && (rules.probe_every_ms == 0 || self.good > 0)).then(|| health.back(rules, now))
            }
            // Nobody would ever notice that it is well.
            Condition::Failing => (rules.probe_every_ms == 0).then(|| health.back(rules, now)),
        };
        next.filter(|next| next != health)
    }

    /// Whether the last probes speak against what is known: then the node is asked twice as often, until it is clear.
    pub fn is_in_doubt(&self, health: &Health) -> bool {
        self.since == health.since
            && if health.condition == Condition::Failing { self.good > 0 } else { self.bad > 0 }
    }

    /// What was noticed before the health changed does not count after it.
    fn follow(&mut self, health: &Health) {
        if self.since != health.since {
            *self = Watch { since: health.since, ..Watch::default() };
        }
    }
}

/// Whether the verdicts on a pool's active nodes are overruled: they would take too large a share of it away.
pub fn too_many_out<'a>(active: impl Iterator<Item = &'a Health>, rules: &HealthRules) -> bool {
    let (count, out) = active
        .fold((0u64, 0u64), |(count, out), health| (count + 1, out + u64::from(health.condition.is_out())));
    out * 1000 > count * u64::from(rules.out_max_pm)
}

#[cfg(test)]
mod tests;
