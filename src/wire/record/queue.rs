//! What is laid down for a queue at run time, in records and commands.

use super::{Kind, More, json, name_of, parse, word_of};
use crate::domain::call::TreatedFor;
use crate::domain::id::TreatmentId;
use crate::domain::matching::{MatchRules, Relaxing, Skills, Strategy, Widening};
use crate::domain::queue::{Answering, Presence, QueueRules, is_music, is_sound};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps by which a queue widens or relaxes, at most.
const STEPS_MAX: usize = 16;

/// Skills of a step, at most.
const SKILLS_MAX: usize = 64;

/// Sounds of an announcement, at most.
const SOUNDS_MAX: usize = 8;

const DAY_MS: u64 = 86_400_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WrittenQueue {
    strategy: String,
    ring_all_max: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    widen: Vec<WrittenWidening>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relax: Vec<WrittenRelaxing>,
    waiting_max: u64,
    wait_max_ms: u64,
    offers_max: u64,
    ring_ms: u64,
    pass_over_ms: u64,
    wrap_up_ms: u64,
    talk_max_ms: u64,
    join: String,
    stay: String,
    answering: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    music: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    agent_announce: Vec<String>,
    agent_announce_max_ms: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ends: BTreeMap<String, String>,
    #[serde(flatten, skip_serializing)]
    more: More,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenWidening {
    after_ms: u64,
    penalty_max: u64,
    #[serde(flatten, skip_serializing)]
    more: More,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenRelaxing {
    after_ms: u64,
    drop: Vec<String>,
    #[serde(flatten, skip_serializing)]
    more: More,
}

/// As text.
pub fn write_queue(rules: &QueueRules) -> String {
    json(&WrittenQueue::of(rules))
}

/// The rules as they are kept, if they are within their limits.
///
/// # Errors
/// What is wrong: the key, in a record's words, and a colon first.
pub fn checked_queue(rules: &QueueRules) -> Result<QueueRules, String> {
    WrittenQueue::of(rules).checked(Kind::Wish)
}

pub(super) fn read_queue(text: &str) -> Result<QueueRules, String> {
    parse::<WrittenQueue>(text)?.checked(Kind::Record)
}

impl WrittenQueue {
    pub fn of(rules: &QueueRules) -> WrittenQueue {
        let matching = &rules.matching;
        let widening = |step: &Widening| WrittenWidening {
            after_ms: step.after_ms,
            penalty_max: step.penalty_max.into(),
            more: More::new(),
        };
        let relaxing = |step: &Relaxing| WrittenRelaxing {
            after_ms: step.after_ms,
            drop: step.drop.iter().map(ToString::to_string).collect(),
            more: More::new(),
        };
        WrittenQueue {
            strategy: matching.strategy.to_string(),
            ring_all_max: number(matching.ring_all_max),
            widen: matching.penalty_max.iter().map(widening).collect(),
            relax: matching.relax.iter().map(relaxing).collect(),
            waiting_max: number(rules.waiting_max),
            wait_max_ms: rules.wait_max_ms,
            offers_max: rules.offers_max.into(),
            ring_ms: rules.ring_ms,
            pass_over_ms: rules.pass_over_ms,
            wrap_up_ms: rules.wrap_up_ms,
            talk_max_ms: rules.talk_max_ms,
            join: rules.join.as_str().to_owned(),
            stay: rules.stay.as_str().to_owned(),
            answering: rules.answering.as_str().to_owned(),
            music: rules.music.to_string(),
            agent_announce: rules.agent_announce.iter().map(ToString::to_string).collect(),
            agent_announce_max_ms: rules.agent_announce_max_ms,
            ends: rules.ends.iter().map(|(why, to)| (why.as_str().to_owned(), to.to_string())).collect(),
            more: More::new(),
        }
    }

    /// Within the limits that the configuration has.
    pub fn checked(self, kind: Kind) -> Result<QueueRules, String> {
        kind.allows(&self.more)?;
        let usual = QueueRules::default();
        let presence = |key: &str, word: &str, usual: Presence| {
            kind.word(key, word_of(word, &Presence::ALL, |one| one.as_str()), usual)
        };
        let strategy = self.strategy.parse::<Strategy>().map_err(|cause| cause.to_string());
        let matching = MatchRules {
            strategy: kind.word("strategy", strategy, usual.matching.strategy)?,
            ring_all_max: kind.within("ring_all_max", self.ring_all_max, 1..=100)?,
            penalty_max: steps(kind, "widen", &self.widen, |step| {
                kind.allows(&step.more)?;
                let after_ms = kind.within("widen", step.after_ms, 0..=DAY_MS)?;
                Ok(Widening { after_ms, penalty_max: kind.within("widen", step.penalty_max, 0..=1_000)? })
            })?,
            relax: steps(kind, "relax", &self.relax, |step| {
                kind.allows(&step.more)?;
                let after_ms = kind.within("relax", step.after_ms, 0..=DAY_MS)?;
                if step.drop.is_empty() || kind.are_too_many(step.drop.len(), SKILLS_MAX) {
                    return Err(format!("relax: 1 to {SKILLS_MAX} skills a step"));
                }
                let drop = step.drop.iter().map(|skill| name_of(skill)).collect::<Result<Skills, String>>();
                Ok(Relaxing { after_ms, drop: drop.map_err(|cause| format!("relax: {cause}"))? })
            })?,
        };
        let music = Some(self.music).filter(|music| is_music(music)).map(Into::into);
        let music = music.ok_or_else(|| "at most 64 letters, digits, '.', '_' and '-'".to_owned());
        let sounds = self.agent_announce;
        let can_be =
            !kind.are_too_many(sounds.len(), SOUNDS_MAX) && sounds.iter().all(|sound| is_sound(sound));
        let sounds = if can_be {
            Ok(sounds.into_iter().map(Into::into).collect())
        } else {
            Err(format!("at most {SOUNDS_MAX} sounds of letters, digits, '.', '_', '-' and '/'"))
        };
        let mut ends: BTreeMap<TreatedFor, TreatmentId> = BTreeMap::new();
        for (why, to) in &self.ends {
            let why = word_of(why, &TreatedFor::OF_QUEUE, |why| why.as_str()).map(Some);
            if let Some(why) = kind.word("ends", why, None)? {
                ends.insert(why, name_of(to).map_err(|cause| format!("ends: {cause}"))?);
            }
        }
        let answering = word_of(&self.answering, &Answering::ALL, |one| one.as_str());
        Ok(QueueRules {
            matching,
            waiting_max: kind.within("waiting_max", self.waiting_max, 1..=20_000)?,
            wait_max_ms: kind.within("wait_max_ms", self.wait_max_ms, 1_000..=DAY_MS)?,
            offers_max: kind.within("offers_max", self.offers_max, 1..=10_000)?,
            ring_ms: kind.within("ring_ms", self.ring_ms, 1_000..=300_000)?,
            pass_over_ms: kind.within("pass_over_ms", self.pass_over_ms, 0..=3_600_000)?,
            wrap_up_ms: kind.within("wrap_up_ms", self.wrap_up_ms, 0..=3_600_000)?,
            talk_max_ms: kind.within("talk_max_ms", self.talk_max_ms, 10_000..=DAY_MS)?,
            join: presence("join", &self.join, usual.join)?,
            stay: presence("stay", &self.stay, usual.stay)?,
            answering: kind.word("answering", answering, usual.answering)?,
            music: kind.word("music", music, usual.music)?,
            agent_announce: kind.word("agent_announce", sounds, usual.agent_announce)?,
            agent_announce_max_ms: kind.within(
                "agent_announce_max_ms",
                self.agent_announce_max_ms,
                1_000..=60_000,
            )?,
            ends,
        })
    }
}

fn steps<S, T>(
    kind: Kind,
    key: &str,
    all: &[S],
    one: impl Fn(&S) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if kind.are_too_many(all.len(), STEPS_MAX) {
        return Err(format!("{key}: at most {STEPS_MAX} steps"));
    }
    all.iter().map(one).collect()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::controller::Command;
    use crate::wire::record::{read_all, read_command, write_command};

    fn rules() -> QueueRules {
        let widen = |after_ms, penalty_max| Widening { after_ms, penalty_max };
        let drop = ["german"].into_iter().map(|skill| skill.parse().unwrap()).collect();
        QueueRules {
            matching: MatchRules {
                strategy: Strategy::RingAll,
                ring_all_max: 7,
                penalty_max: vec![widen(0, 1), widen(30_000, 1_000)],
                relax: vec![Relaxing { after_ms: 5_000, drop }],
            },
            stay: Presence::Unpaused,
            answering: Answering::Early,
            music: "jazz".into(),
            agent_announce: vec!["site/sales".into(), "beep".into()],
            ends: [(TreatedFor::Full, "voicemail".parse().unwrap())].into(),
            ..QueueRules::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_beyond_its_limits_is_named() {
        for rules in [rules(), QueueRules::default()] {
            let (saved, damaged) = read_all(&[("q:sales".to_owned(), write_queue(&rules))]);
            assert_eq!((saved.queues, damaged), (vec![("sales".parse().unwrap(), rules)], vec![]));
        }
        for (from, to, culprit) in [
            ("ring-all", "ring-some", "strategy"),
            ("\"ring_all_max\":7", "\"ring_all_max\":101", "ring_all_max"),
            ("\"penalty_max\":1000", "\"penalty_max\":1001", "widen"),
            ("\"german\"", "", "relax"),
            ("\"waiting_max\":1000", "\"waiting_max\":0", "waiting_max"),
            ("\"ring_ms\":20000", "\"ring_ms\":999", "ring_ms"),
            ("\"talk_max_ms\":7200000", "\"talk_max_ms\":9999", "talk_max_ms"),
            ("unpaused", "asleep", "stay"),
            ("early", "late", "answering"),
            ("jazz", "a/b", "music"),
            ("site/sales", "../sales", "agent_announce"),
            ("\"agent_announce_max_ms\":10000", "\"agent_announce_max_ms\":60001", "agent_announce_max_ms"),
            ("\"full\"", "\"asked\"", "ends"),
            ("voicemail", "a b", "ends"),
            ("\"music\"", "\"musik\"", "musik"),
        ] {
            let text = write_command(&Command::SetQueue("sales".parse().unwrap(), Box::new(rules())));
            let odd = text.replace(from, to);
            assert_ne!(text, odd, "{from}");
            let said = read_command(&odd).unwrap_err().to_string();
            assert!(said.contains(culprit), "{from} → {to}: {said}");
        }
    }

    /// A later version has been leading.
    #[test]
    fn of_a_record_what_is_not_known_is_left_out_of_account() {
        let skills = |all: &str| all.split(' ').map(|skill| skill.parse().unwrap()).collect();
        let read = |from: &str, to: &str| {
            let text = write_queue(&rules());
            let odd = text.replace(from, to);
            assert_ne!(text, odd, "{from}");
            read_queue(&odd).unwrap_or_else(|cause| panic!("{from} → {to}: {cause}"))
        };
        assert_eq!(read("{\"strategy\"", "{\"mood\":{\"a\":[1]},\"strategy\""), rules());
        assert_eq!(read("\"after_ms\"", "\"mood\":null,\"after_ms\""), rules());
        assert_eq!(read("\"full\":", "\"moody\":\"closed\",\"full\":"), rules());
        let of = |change: fn(&mut QueueRules)| {
            let mut rules = rules();
            change(&mut rules);
            rules
        };
        let usual = of(|rules| rules.matching.strategy = QueueRules::default().matching.strategy);
        assert_eq!(read("ring-all", "ring-some"), usual);
        assert_eq!(read("unpaused", "asleep"), of(|rules| rules.stay = Presence::Any));
        assert_eq!(read("early", "late"), of(|rules| rules.answering = Answering::Entry));
        assert_eq!(read("jazz", "a/b"), of(|rules| rules.music = "".into()));
        assert_eq!(read("site/sales", "../sales"), of(|rules| rules.agent_announce.clear()));
        assert_eq!(read(":20000,", ":999999,"), of(|rules| rules.ring_ms = 300_000));
        assert_eq!(read(":7200000,", ":1,"), of(|rules| rules.talk_max_ms = 10_000));
        let many: Vec<String> = (0..100).map(|skill| format!("s{skill}")).collect();
        let long = read("\"german\"", &format!("\"{}\"", many.join("\",\"")));
        assert_eq!(long.matching.relax[0].drop, skills(&many.join(" ")));
        for (from, to) in [("\"german\"", "\"a b\""), ("voicemail", "a b"), ("\"ring_ms\":20000,", "")] {
            assert!(
                read_queue(&write_queue(&rules()).replace(from, to)).is_err(),
                "{from}: nothing to go by"
            );
        }
    }
}
