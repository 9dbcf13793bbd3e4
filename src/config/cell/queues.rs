//! The keys of `[[queue]]`, with their defaults and limits.

use super::super::reader::Reader;
use super::{DAY_S, Names};
use crate::domain::call::TreatedFor;
use crate::domain::id::{QueueId, Skill, TreatmentId};
use crate::domain::matching::{MatchRules, Relaxing, Skills, Strategy, Widening};
use crate::domain::queue::{Answering, MUSIC_MAX, Presence, QueueRules, SOUND_MAX, is_music, is_sound};
use std::collections::BTreeMap;

/// The most steps by which a queue widens, and by which it relaxes.
const STEPS_MAX: usize = 16;

/// The most skills of an agent, and of a step.
pub(super) const SKILLS_MAX: usize = 64;

/// The highest penalty and weight of a membership.
pub(super) const RANK_MAX: i64 = 1000;

/// As many calls as a cell may have.
const WAITING_MAX: i64 = 20_000;

/// The most sounds that are announced to an agent.
const SOUNDS_MAX: usize = 8;

/// The most numbers of a queue, and the longest of them.
const NUMBERS_MAX: (usize, usize) = (32, 64);

/// All queues.
pub(super) struct Queues {
    pub rules: BTreeMap<QueueId, QueueRules>,
    pub weights: BTreeMap<QueueId, u16>,
    /// What is dialled for each.
    pub numbers: BTreeMap<Box<str>, QueueId>,
    pub names: Names<QueueId>,
}

pub(super) fn all(
    root: &Reader<'_, '_>,
    tables: Vec<Reader<'_, '_>>,
    treatments: &Names<TreatmentId>,
) -> Queues {
    let names = Names::new(root, "queue", &tables);
    let (rules, weights, numbers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut all = Queues { rules, weights, numbers, names };
    for mut t in tables {
        let id = all.names.read(&mut t);
        let weight = t.number("weight", 0..=RANK_MAX, "").unwrap_or(0);
        let numbers = t.list("numbers", NUMBERS_MAX.0, number).unwrap_or_default();
        for (number, spot) in numbers {
            match (&id, all.numbers.get(&number)) {
                (_, Some(other)) => t.wrong(&spot, format!("{number} is dialled for {other} already")),
                (Some(id), None) => drop(all.numbers.insert(number, id.clone())),
                (None, None) => {}
            }
        }
        let rules = one(t, treatments);
        if let Some(id) = id {
            all.weights.insert(id.clone(), weight);
            all.rules.insert(id, rules);
        }
    }
    all
}

fn one(mut t: Reader<'_, '_>, treatments: &Names<TreatmentId>) -> QueueRules {
    let presence = Presence::ALL.map(|presence| (presence.as_str(), presence));
    let answering = Answering::ALL.map(|answering| (answering.as_str(), answering));
    let usual = QueueRules::default();
    let rules = QueueRules {
        matching: matching(&mut t),
        waiting_max: t.number("waiting_max", 1..=WAITING_MAX, " (calls)").unwrap_or(usual.waiting_max),
        wait_max_ms: ms(&mut t, "wait_max_s", 1..=DAY_S).unwrap_or(usual.wait_max_ms),
        offers_max: t.number("offers_max", 1..=10_000, " (offers)").unwrap_or(usual.offers_max),
        ring_ms: ms(&mut t, "ring_s", 1..=300).unwrap_or(usual.ring_ms),
        pass_over_ms: ms(&mut t, "pass_over_s", 0..=3600).unwrap_or(usual.pass_over_ms),
        wrap_up_ms: ms(&mut t, "wrap_up_s", 0..=3600).unwrap_or(usual.wrap_up_ms),
        talk_max_ms: ms(&mut t, "talk_max_s", 10..=DAY_S).unwrap_or(usual.talk_max_ms),
        join: t.word("join", &presence).unwrap_or(usual.join),
        stay: t.word("stay", &presence).unwrap_or(usual.stay),
        answering: t.word("answering", &answering).unwrap_or(usual.answering),
        music: t.text("music", music).unwrap_or_default(),
        agent_announce: sounds(&mut t),
        agent_announce_max_ms: ms(&mut t, "agent_announce_max_s", 1..=60)
            .unwrap_or(usual.agent_announce_max_ms),
        ends: ends(t.table("ends"), treatments),
    };
    t.done();
    rules
}

/// A time that is written in s.
pub(super) fn ms(
    t: &mut Reader<'_, '_>,
    key: &'static str,
    limits: std::ops::RangeInclusive<i64>,
) -> Option<u64> {
    t.number::<u64>(key, limits, " (s)").map(|s| s.saturating_mul(1000))
}

fn matching(t: &mut Reader<'_, '_>) -> MatchRules {
    let plain = MatchRules::default();
    let strategies = Strategy::ALL.map(|strategy| (strategy.as_str(), strategy));
    let strategy = t.word("strategy", &strategies).unwrap_or(plain.strategy);
    let ring_all_max = t.number("ring_all_max", 1..=100, " (agents)").unwrap_or(plain.ring_all_max);
    let mut rules = MatchRules { strategy, ring_all_max, ..plain };
    for mut step in t.rows("widen", STEPS_MAX, "[{ after_s = 30, penalty_max = 2 }]") {
        let after_ms = ms(&mut step, "after_s", 0..=DAY_S);
        let penalty_max = step.number("penalty_max", 0..=RANK_MAX, "");
        step.require("after_s");
        step.require("penalty_max");
        step.done();
        rules.penalty_max.extend(
            after_ms.zip(penalty_max).map(|(after_ms, penalty_max)| Widening { after_ms, penalty_max }),
        );
    }
    for mut step in t.rows("relax", STEPS_MAX, "[{ after_s = 60, drop = [\"german\"] }]") {
        let after_ms = ms(&mut step, "after_s", 0..=DAY_S);
        let drop = skills(&mut step, "drop");
        step.require("after_s");
        step.require("drop");
        // A list that lost its wrong ones is not empty.
        if drop.as_ref().is_some_and(Skills::is_empty) && !step.any_wrong() {
            step.wrong(&step.spot_of("drop"), "an empty list: nothing is given up");
        }
        step.done();
        rules.relax.extend(after_ms.zip(drop).map(|(after_ms, drop)| Relaxing { after_ms, drop }));
    }
    rules
}

/// Skills, each once. `None`: not written.
pub(super) fn skills(t: &mut Reader<'_, '_>, key: &'static str) -> Option<Skills> {
    let mut seen = std::collections::BTreeSet::new();
    for (skill, spot) in t.list(key, SKILLS_MAX, str::parse::<Skill>)? {
        if !seen.insert(skill.clone()) {
            t.wrong(&spot, format!("{skill} is there twice"));
        }
    }
    Some(seen.into_iter().collect())
}

fn ends(mut t: Reader<'_, '_>, treatments: &Names<TreatmentId>) -> BTreeMap<TreatedFor, TreatmentId> {
    let mut ends = BTreeMap::new();
    for why in TreatedFor::OF_QUEUE {
        let Some(name) = t.text(why.as_str(), str::parse::<TreatmentId>) else { continue };
        treatments.check(&t, &name, &t.spot_of(why.as_str()));
        ends.insert(why, name);
    }
    t.done();
    ends
}

/// What can be dialled: the user part of an address.
fn number(text: &str) -> Result<Box<str>, String> {
    let fits = (1..=NUMBERS_MAX.1).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+*#-_.".contains(&b));
    if fits {
        Ok(text.into())
    } else {
        Err(format!("write 1 to {} letters, digits and + * # - _ .", NUMBERS_MAX.1))
    }
}

fn sounds(t: &mut Reader<'_, '_>) -> Vec<Box<str>> {
    let listed = t.list("agent_announce", SOUNDS_MAX, sound).unwrap_or_default();
    listed.into_iter().map(|(sound, _)| sound).collect()
}

fn sound(text: &str) -> Result<Box<str>, String> {
    let wanted = || format!("write 1 to {SOUND_MAX} letters, digits, '.', '_', '-' and '/', without \"..\"");
    if is_sound(text) { Ok(text.into()) } else { Err(wanted()) }
}

/// A class of `musiconhold.conf`, as it travels in an address.
fn music(text: &str) -> Result<Box<str>, String> {
    let wanted = || {
        format!("write at most {MUSIC_MAX} letters, digits, '.', '_' and '-'; nothing for the node's default")
    };
    if is_music(text) { Ok(text.into()) } else { Err(wanted()) }
}
