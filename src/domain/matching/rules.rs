//! The parts of the rule that a queue's configuration sets.

use crate::domain::id::{AgentId, Skill};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A set of skills; a copy shares it. Its order among others has no meaning.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Skills {
    /// One bit for each skill, by a hash: what lacks a bit lacks a skill, and mostly that settles it.
    mask: u64,
    set: Arc<BTreeSet<Skill>>,
}

impl Skills {
    /// Whether each of `wishes` is among these.
    pub fn cover(&self, wishes: &Skills) -> bool {
        wishes.mask & !self.mask == 0 && (self.same(wishes) || self.set.is_superset(&wishes.set))
    }

    /// These without those of `dropped`.
    pub fn without(&self, dropped: &Skills) -> Skills {
        if self.set.is_disjoint(&dropped.set) {
            return self.clone();
        }
        self.set.difference(&dropped.set).cloned().collect()
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Skill> {
        self.set.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether anybody but the asker holds this very set.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.set) > 1
    }

    fn same(&self, other: &Skills) -> bool {
        Arc::ptr_eq(&self.set, &other.set)
    }
}

impl fmt::Debug for Skills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set.fmt(f)
    }
}

impl FromIterator<Skill> for Skills {
    fn from_iter<I: IntoIterator<Item = Skill>>(skills: I) -> Skills {
        let set: BTreeSet<Skill> = skills.into_iter().collect();
        let mask = set.iter().fold(0, |mask, skill| mask | 1 << (hash_text(0, skill.as_str()) % 64));
        Skills { mask, set: Arc::new(set) }
    }
}

impl Ord for Skills {
    fn cmp(&self, other: &Skills) -> Ordering {
        // Most comparisons in an index are of one set with itself, or of two that differ in their masks.
        if self.same(other) {
            return Ordering::Equal;
        }
        self.mask.cmp(&other.mask).then_with(|| self.set.cmp(&other.set))
    }
}

impl PartialOrd for Skills {
    fn partial_cmp(&self, other: &Skills) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A call's priority: 0 … 1000, the highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u16);

impl Priority {
    /// The highest.
    pub const MAX: Priority = Priority(1000);

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Why something is not a priority; holds what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityError(String);

impl fmt::Display for PriorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {:?} is not a whole number from 0 to {}", self.0, Priority::MAX)
    }
}

impl std::error::Error for PriorityError {}

impl TryFrom<u64> for Priority {
    type Error = PriorityError;
    fn try_from(number: u64) -> Result<Priority, PriorityError> {
        u16::try_from(number)
            .ok()
            .map(Priority)
            .filter(|p| *p <= Priority::MAX)
            .ok_or_else(|| PriorityError(number.to_string()))
    }
}

impl FromStr for Priority {
    type Err = PriorityError;
    fn from_str(text: &str) -> Result<Priority, PriorityError> {
        // `parse` alone would take a sign, too.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number: Option<u64> = text.parse().ok().filter(|_| digits);
        number.and_then(|n| Priority::try_from(n).ok()).ok_or_else(|| PriorityError(text.to_owned()))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// By what a queue chooses among possible agents of one penalty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Who is ready for the longest time.
    #[default]
    LongestIdle,
    /// Who took the fewest calls of this queue.
    FewestCalls,
    /// Whose last offer of this queue lies furthest back.
    RoundRobin,
    /// By a hash: as if drawn, but the same on every machine.
    Random,
    /// All at once; the first to answer has it.
    RingAll,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 5] = [
        Strategy::LongestIdle,
        Strategy::FewestCalls,
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::RingAll,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::LongestIdle => "longest-idle",
            Strategy::FewestCalls => "fewest-calls",
            Strategy::RoundRobin => "round-robin",
            Strategy::Random => "random",
            Strategy::RingAll => "ring-all",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a strategy; holds the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategyError(String);

impl fmt::Display for StrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = Strategy::ALL.iter().map(|s| s.as_str()).collect();
        write!(f, "strategy {:?} is none of {}", self.0, words.join(", "))
    }
}

impl std::error::Error for StrategyError {}

impl FromStr for Strategy {
    type Err = StrategyError;
    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        Strategy::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| StrategyError(text.to_owned()))
    }
}

/// A step by which more agents become possible for a call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widening {
    /// From which time of waiting on it holds, in ms.
    pub after_ms: u64,
    /// The highest penalty that an agent may have from then on.
    pub penalty_max: u16,
}

/// A step by which a call that waits asks for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relaxing {
    /// From which time of waiting on it holds, in ms.
    pub after_ms: u64,
    /// Skills that are no longer asked for then.
    pub drop: Skills,
}

/// The rules of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchRules {
    /// By what it chooses among agents of one penalty.
    pub strategy: Strategy,
    /// To how many agents `ring-all` offers a call at once, at most; 0 counts as 1.
    pub ring_all_max: usize,
    /// How far agents of higher penalties are possible. None: all of them, from the start. Otherwise the highest
    /// `penalty_max` of the steps that are reached counts, in whatever order they stand; before the first, that is 0.
    pub penalty_max: Vec<Widening>,
    /// Which skills are given up. All steps that are reached count together.
    pub relax: Vec<Relaxing>,
}

impl Default for MatchRules {
    fn default() -> MatchRules {
        MatchRules {
            strategy: Strategy::default(),
            ring_all_max: 10,
            penalty_max: Vec::new(),
            relax: Vec::new(),
        }
    }
}

impl MatchRules {
    /// The highest penalty that an agent may have for a call that has waited so many ms.
    pub fn penalty_limit(&self, waited_ms: u64) -> u16 {
        if self.penalty_max.is_empty() {
            return u16::MAX;
        }
        let reached = self.penalty_max.iter().filter(|step| step.after_ms <= waited_ms);
        reached.map(|step| step.penalty_max).max().unwrap_or(0)
    }

    /// What is left of `wishes` for a call that has waited so many ms.
    pub fn wishes_left(&self, wishes: &Skills, waited_ms: u64) -> Skills {
        let reached = self.relax.iter().filter(|step| step.after_ms <= waited_ms);
        reached.fold(wishes.clone(), |left, step| left.without(&step.drop))
    }

    /// The next time of waiting, in ms, at which a step is reached by a call that has waited so many.
    pub fn step_after(&self, waited_ms: u64) -> Option<u64> {
        let widenings = self.penalty_max.iter().map(|step| step.after_ms);
        let relaxings = self.relax.iter().map(|step| step.after_ms);
        widenings.chain(relaxings).filter(|after| *after > waited_ms).min()
    }
}

/// The number that `random` orders an agent by.
pub(super) fn draw(seed: u64, agent: &AgentId, round: u64) -> u64 {
    splitmix64(hash_text(seed, agent.as_str()) ^ splitmix64(round))
}

/// The same in every process, and of no use against whoever wants two texts to collide.
pub(super) fn hash_text(seed: u64, text: &str) -> u64 {
    text.as_bytes().chunks(8).fold(splitmix64(seed ^ text.len() as u64), |hash, eight| {
        splitmix64(eight.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)) ^ hash)
    })
}

/// Sebastiano Vigna's finalizer: each bit of the input changes half of the bits of the output.
fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
