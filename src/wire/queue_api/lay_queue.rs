//! What is laid down for a queue, from the body of a request: the keys of `[[queue]]`, with their defaults.

use super::super::api::read;
use super::super::attrs::shorten;
use super::super::record;
use super::super::refusal::BadRequest;
use crate::domain::call::TreatedFor;
use crate::domain::id::{Skill, TreatmentId};
use crate::domain::matching::{MatchRules, Relaxing, Skills, Strategy, Widening};
use crate::domain::queue::{Answering, Presence, QueueRules};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueBody {
    strategy: Option<String>,
    ring_all_max: Option<u32>,
    #[serde(default)]
    widen: Vec<WidenBody>,
    #[serde(default)]
    relax: Vec<RelaxBody>,
    waiting_max: Option<u32>,
    wait_max_s: Option<u32>,
    offers_max: Option<u32>,
    ring_s: Option<u32>,
    pass_over_s: Option<u32>,
    wrap_up_s: Option<u32>,
    talk_max_s: Option<u32>,
    join: Option<String>,
    stay: Option<String>,
    answering: Option<String>,
    music: Option<String>,
    #[serde(default)]
    agent_announce: Vec<String>,
    agent_announce_max_s: Option<u32>,
    #[serde(default)]
    ends: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WidenBody {
    after_s: u32,
    penalty_max: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelaxBody {
    after_s: u32,
    drop: Vec<String>,
}

/// What is laid down for a queue, from the body of a request.
///
/// # Errors
/// [`BadRequest`], which names the member.
pub fn queue_rules(body: &[u8]) -> Result<QueueRules, BadRequest> {
    let said: QueueBody = read(if body.trim_ascii().is_empty() { b"{}" } else { body })?;
    let usual = QueueRules::default();
    let ms = |s: Option<u32>, usual: u64| s.map_or(usual, |s| u64::from(s) * 1_000);
    let presence = |key, word, usual| {
        one_of(key, word, usual, &Presence::ALL.map(|presence| (presence.as_str(), presence)))
    };
    let strategies = Strategy::ALL.map(|strategy| (strategy.as_str(), strategy));
    let answers = Answering::ALL.map(|answering| (answering.as_str(), answering));
    let mut ends: BTreeMap<TreatedFor, TreatmentId> = BTreeMap::new();
    let reasons = TreatedFor::OF_QUEUE.map(|why| (why.as_str(), why));
    for (why, to) in said.ends {
        let why = one_of("ends", Some(why), TreatedFor::Full, &reasons)?;
        ends.insert(why, to.parse().map_err(|cause| wrong("ends", &to, &cause))?);
    }
    let relaxing = |step: &RelaxBody| {
        let skill = |text: &String| text.parse::<Skill>().map_err(|cause| wrong("relax", text, &cause));
        let drop = step.drop.iter().map(skill).collect::<Result<Skills, BadRequest>>()?;
        Ok(Relaxing { after_ms: u64::from(step.after_s) * 1_000, drop })
    };
    let widening = |step: &WidenBody| Widening {
        after_ms: u64::from(step.after_s) * 1_000,
        penalty_max: step.penalty_max,
    };
    let rules = QueueRules {
        matching: MatchRules {
            strategy: one_of("strategy", said.strategy, usual.matching.strategy, &strategies)?,
            ring_all_max: count(said.ring_all_max, usual.matching.ring_all_max),
            penalty_max: said.widen.iter().map(widening).collect(),
            relax: said.relax.iter().map(relaxing).collect::<Result<_, BadRequest>>()?,
        },
        waiting_max: count(said.waiting_max, usual.waiting_max),
        wait_max_ms: ms(said.wait_max_s, usual.wait_max_ms),
        offers_max: said.offers_max.unwrap_or(usual.offers_max),
        ring_ms: ms(said.ring_s, usual.ring_ms),
        pass_over_ms: ms(said.pass_over_s, usual.pass_over_ms),
        wrap_up_ms: ms(said.wrap_up_s, usual.wrap_up_ms),
        talk_max_ms: ms(said.talk_max_s, usual.talk_max_ms),
        join: presence("join", said.join, usual.join)?,
        stay: presence("stay", said.stay, usual.stay)?,
        answering: one_of("answering", said.answering, usual.answering, &answers)?,
        music: said.music.unwrap_or_default().into(),
        agent_announce: said.agent_announce.into_iter().map(Into::into).collect(),
        agent_announce_max_ms: ms(said.agent_announce_max_s, usual.agent_announce_max_ms),
        ends,
    };
    record::checked_queue(&rules).map_err(|said| {
        let (key, cause) = said.split_once(": ").unwrap_or(("body", said.as_str()));
        // A record has times in ms, a body in s; all of them are whole seconds.
        match key.strip_suffix("_ms") {
            Some(key) => BadRequest::new(&format!("{key}_s"), format!("{cause} ms")),
            None => BadRequest::new(key, cause.to_owned()),
        }
    })
}

fn count(said: Option<u32>, usual: usize) -> usize {
    said.map_or(usual, |said| usize::try_from(said).unwrap_or(usize::MAX))
}

fn one_of<T: Copy>(key: &str, word: Option<String>, usual: T, all: &[(&str, T)]) -> Result<T, BadRequest> {
    let Some(word) = word else { return Ok(usual) };
    let known = all.iter().find(|(name, _)| *name == word).map(|(_, one)| *one);
    known.ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        BadRequest::new(key, format!("{:?}; use one of {}", shorten(&word), words.join(", ")))
    })
}

fn wrong(field: &str, text: &str, error: &dyn std::fmt::Display) -> BadRequest {
    BadRequest::new(field, format!("{:?}: {error}", shorten(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_in_the_configuration_and_what_is_wrong_is_named() {
        assert_eq!(queue_rules(b""), Ok(QueueRules::default()));
        let body = br#"{"strategy":"ring-all","ring_s":15,"widen":[{"after_s":30,"penalty_max":2}],
            "relax":[{"after_s":60,"drop":["german"]}],"ends":{"full":"voicemail"},"agent_announce":["beep"]}"#;
        let rules = queue_rules(body).unwrap();
        assert_eq!((rules.matching.strategy, rules.ring_ms), (Strategy::RingAll, 15_000));
        assert_eq!(rules.matching.penalty_max, [Widening { after_ms: 30_000, penalty_max: 2 }]);
        assert_eq!(rules.ends[&TreatedFor::Full].as_str(), "voicemail");
        for (body, field) in [
            (r#"{"strategy":"ring-some"}"#, "strategy"),
            (r#"{"ring_s":301}"#, "ring_s"),
            (r#"{"ring_ms":1000}"#, "ring_ms"),
            (r#"{"ring_s":-1}"#, "ring_s"),
            (r#"{"waiting_max":0}"#, "waiting_max"),
            (r#"{"join":"asleep"}"#, "join"),
            (r#"{"music":"a b"}"#, "music"),
            (r#"{"agent_announce":["a,b"]}"#, "agent_announce"),
            (r#"{"agent_announce_max_s":0}"#, "agent_announce_max_s"),
            (r#"{"ends":{"asked":"voicemail"}}"#, "ends"),
            (r#"{"ends":{"full":"a b"}}"#, "ends"),
            (r#"{"widen":[{"after_s":1,"penalty_max":1001}]}"#, "widen"),
            (r#"{"relax":[{"after_s":1,"drop":[]}]}"#, "relax"),
        ] {
            assert_eq!(queue_rules(body.as_bytes()).unwrap_err().field, field, "{body}");
        }
    }
}
