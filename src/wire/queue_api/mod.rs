//! The bodies of the HTTP interface that are about queues (JSON): what is shown, and what is asked for.
//!
//! * this file: what is asked for · [`lay_queue`]: a queue that is laid down · [`show`]: calls, agents, offers, queues, as they are shown
//!
//! Times end in `_ms`: points in time are ms since 1970 by the store's clock, lengths are ms. What does not apply is `null`.

mod lay_queue;
mod show;

pub use lay_queue::queue_rules;
pub use show::*;

use super::api::{given, needed, read};
use super::ask;
use super::attrs::shorten;
use super::record::{self, REASON_MAX};
use super::refusal::BadRequest;
use crate::domain::agent::{AgentRules, address};
use crate::domain::controller::Command;
use crate::domain::id::{AgentId, CallId, QueueId, Skill};
use crate::domain::matching::{Membership, Priority, Skills};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Things that a list shows at most unless it is told otherwise.
pub const LIMIT: usize = 1_000;

/// Things that a list shows at most: all calls of a cell.
pub const LIMIT_MAX: usize = 20_000;

/// What an agent is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentVerb {
    /// Come to work.
    Login,
    /// Leave.
    Logout,
    /// Whichever of the two it is not.
    Toggle,
    /// No calls for a while.
    Pause,
    /// Calls again.
    Resume,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    reason: Option<String>,
}

impl AgentVerb {
    /// The command, from the body of its request.
    ///
    /// # Errors
    /// [`BadRequest`], which names the member.
    pub fn command(self, agent: AgentId, body: &[u8]) -> Result<Command, BadRequest> {
        let make = match self {
            AgentVerb::Pause => {
                let PauseBody { reason } = read(or_nothing(body))?;
                return Ok(Command::Pause(agent, pause_reason(&reason.unwrap_or_default())?));
            }
            AgentVerb::Login => Command::Login,
            AgentVerb::Logout => Command::Logout,
            AgentVerb::Toggle => Command::Toggle,
            AgentVerb::Resume => Command::Resume,
        };
        let NoBody {} = read(or_nothing(body))?;
        Ok(make(agent))
    }
}

/// What is laid down for an agent, from the body of a request.
///
/// # Errors
/// [`BadRequest`], which names the member.
pub fn agent_rules(body: &[u8]) -> Result<AgentRules, BadRequest> {
    let AgentBody { aor, queues, skills, wrap_up_s, ring_s, misses_max } = read(body)?;
    let aor = needed("aor", aor)?;
    let aor = address(&aor).map_err(|said| wrong("aor", &aor, &said))?;
    let mut memberships = BTreeMap::new();
    for queue in queues {
        let (id, penalty, weight) = match queue {
            MemberBody::Named(id) => (id, 0, 0),
            MemberBody::Ranked { id, penalty, weight } => (id, penalty, weight),
        };
        let queue: QueueId = id.parse().map_err(|e| wrong("queues", &id, &e))?;
        if memberships.insert(queue, Membership { penalty, weight }).is_some() {
            return Err(BadRequest::new("queues", format!("{:?} is there twice", shorten(&id))));
        }
    }
    let skill = |text: &String| text.parse::<Skill>().map_err(|e| wrong("skills", text, &e));
    let rules = AgentRules {
        aor,
        skills: skills.iter().map(skill).collect::<Result<Skills, BadRequest>>()?,
        memberships,
        wrap_up_ms: wrap_up_s.map(|s| u64::from(s) * 1000),
        ring_ms: ring_s.map(|s| u64::from(s) * 1000),
        misses_max: misses_max.unwrap_or(MISSES_USUAL),
    };
    record::checked_rules(&rules).map_err(|said| BadRequest::new("body", said))
}

fn wrong(field: &'static str, text: &str, error: &dyn std::fmt::Display) -> BadRequest {
    BadRequest::new(field, format!("{:?}: {error}", shorten(text)))
}

/// After so many misses in a row an agent is paused, if nobody says otherwise.
const MISSES_USUAL: u32 = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentBody {
    aor: Option<String>,
    #[serde(default)]
    queues: Vec<MemberBody>,
    #[serde(default)]
    skills: Vec<String>,
    wrap_up_s: Option<u32>,
    ring_s: Option<u32>,
    misses_max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum MemberBody {
    Named(String),
    Ranked {
        id: String,
        #[serde(default)]
        penalty: u16,
        #[serde(default)]
        weight: u16,
    },
}

/// A reason for a pause.
///
/// # Errors
/// [`BadRequest`], for what a command does not take.
pub fn pause_reason(text: &str) -> Result<Arc<str>, BadRequest> {
    if text.len() > REASON_MAX || text.chars().any(char::is_control) {
        let said = format!("{:?}: at most {REASON_MAX} bytes, without control characters", shorten(text));
        return Err(BadRequest::new("reason", said));
    }
    Ok(Arc::from(text))
}

/// What is asked for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallVerb {
    /// To another queue.
    Move,
    /// Before or behind others.
    Priority,
    /// To a treatment.
    Withdraw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    queue: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriorityBody {
    priority: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithdrawBody {
    treatment: Option<String>,
}

impl CallVerb {
    /// The command, from the body of its request.
    ///
    /// # Errors
    /// [`BadRequest`], which names the member.
    pub fn command(self, call: CallId, body: &[u8]) -> Result<Command, BadRequest> {
        let body = or_nothing(body);
        Ok(match self {
            CallVerb::Move => {
                let MoveBody { queue } = read(body)?;
                Command::Move(call, ask::value("queue", &needed("queue", given(queue))?)?)
            }
            CallVerb::Priority => {
                let PriorityBody { priority } = read(body)?;
                let priority = Priority::try_from(needed("priority", priority)?);
                Command::Prioritize(call, priority.map_err(|e| BadRequest::new("priority", e.to_string()))?)
            }
            CallVerb::Withdraw => {
                let WithdrawBody { treatment } = read(body)?;
                Command::Withdraw(call, ask::value("treatment", &needed("treatment", given(treatment))?)?)
            }
        })
    }
}

/// Nothing at all stands for `{}`.
fn or_nothing(body: &[u8]) -> &[u8] {
    if body.trim_ascii().is_empty() { b"{}" } else { body }
}

/// The parameters of a query, each at most once; what nobody took is an error.
pub struct Query {
    parts: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    /// Reads `a=1&b=2`.
    ///
    /// # Errors
    /// [`BadRequest`], of one that is given twice or is not UTF-8.
    pub fn read(query: Option<&str>) -> Result<Query, BadRequest> {
        let mut parts: Vec<(String, String)> = Vec::new();
        for part in query.unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let decoded = percent_encoding::percent_decode_str(value).decode_utf8();
            let value = decoded.map_err(|_| BadRequest::new(&shorten(key), "not UTF-8".to_owned()))?;
            if parts.iter().any(|(before, _)| before == key) {
                return Err(BadRequest::new(&shorten(key), "given twice".to_owned()));
            }
            parts.push((key.to_owned(), value.into_owned()));
        }
        Ok(Query { parts, known: Vec::new() })
    }

    /// Takes a parameter out.
    ///
    /// # Errors
    /// [`BadRequest`], when it is none.
    pub fn take<T>(&mut self, key: &'static str) -> Result<Option<T>, BadRequest>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.known.push(key);
        let Some(at) = self.parts.iter().position(|(of, _)| of == key) else { return Ok(None) };
        let (_, value) = self.parts.swap_remove(at);
        ask::value(key, &value).map(Some)
    }

    /// Takes a parameter out that is one of these words.
    ///
    /// # Errors
    /// [`BadRequest`], with the words.
    pub fn take_word(
        &mut self,
        key: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, BadRequest> {
        let Some(said) = self.take::<String>(key)? else { return Ok(None) };
        let known = words.iter().copied().find(|word| *word == said);
        let wrong = || BadRequest::new(key, format!("{:?}; use one of {}", shorten(&said), words.join(", ")));
        known.map(Some).ok_or_else(wrong)
    }

    /// Takes `limit` out.
    ///
    /// # Errors
    /// [`BadRequest`], when it is not from 1 to [`LIMIT_MAX`].
    pub fn take_limit(&mut self) -> Result<usize, BadRequest> {
        let limit = self.take::<usize>("limit")?.unwrap_or(LIMIT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(BadRequest::new("limit", format!("{limit}; use a number from 1 to {LIMIT_MAX}")))
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`BadRequest`], which names what is left, and what would be known.
    pub fn end(self) -> Result<(), BadRequest> {
        let Some((key, _)) = self.parts.first() else { return Ok(()) };
        let said = match self.known.as_slice() {
            [] => "this path has no parameters".to_owned(),
            known => format!("unknown parameter; known: {}", known.join(", ")),
        };
        Err(BadRequest::new(&shorten(key), said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, BadRequest>) -> (String, String) {
        let bad = result.unwrap_err();
        (bad.field, bad.reason)
    }

    #[test]
    fn commands_are_read_and_what_is_wrong_is_named() {
        let (agent, call) = (|| "ann".parse().unwrap(), || "c1".parse().unwrap());
        assert_eq!(AgentVerb::Login.command(agent(), b" \n"), Ok(Command::Login(agent())));
        assert_eq!(AgentVerb::Pause.command(agent(), b"{}"), Ok(Command::Pause(agent(), Arc::from(""))));
        let lunch = Command::Pause(agent(), Arc::from("lunch"));
        assert_eq!(AgentVerb::Pause.command(agent(), br#"{"reason":"lunch"}"#), Ok(lunch));
        assert_eq!(refused(AgentVerb::Login.command(agent(), br#"{"reason":"x"}"#)).0, "reason");
        for reason in ["a\\nb".to_owned(), "é".repeat(33)] {
            let body = format!(r#"{{"reason":"{reason}"}}"#);
            assert_eq!(refused(AgentVerb::Pause.command(agent(), body.as_bytes())).0, "reason");
        }
        let moved = Command::Move(call(), "sales".parse().unwrap());
        assert_eq!(CallVerb::Move.command(call(), br#"{"queue":"sales"}"#), Ok(moved));
        for (verb, body, field) in [
            (CallVerb::Move, "", "queue"),
            (CallVerb::Move, r#"{"queue":"a b"}"#, "queue"),
            (CallVerb::Priority, "{}", "priority"),
            (CallVerb::Priority, r#"{"priority":1001}"#, "priority"),
            (CallVerb::Priority, r#"{"priority":"1"}"#, "priority"),
            (CallVerb::Withdraw, r#"{"treatment":""}"#, "treatment"),
            (CallVerb::Withdraw, r#"{"treatment":"x","why":"y"}"#, "why"),
        ] {
            assert_eq!(refused(verb.command(call(), body.as_bytes())).0, field, "{body}");
        }
    }

    #[test]
    fn a_query_is_read_strictly() {
        let mut query = Query::read(Some("limit=5&queue=sa%6Ces&state=ready")).unwrap();
        assert_eq!(query.take_limit(), Ok(5));
        assert_eq!(query.take::<String>("queue"), Ok(Some("sales".to_owned())));
        assert_eq!(query.take_word("state", &["offline", "ready"]), Ok(Some("ready")));
        assert_eq!(query.end(), Ok(()));
        assert_eq!(refused(Query::read(Some("a=1&a=2")).map(|_| ())).0, "a");
        assert_eq!(refused(Query::read(Some("a=%ff")).map(|_| ())).0, "a");
        for limit in ["limit=0", "limit=20001", "limit=-1", "limit"] {
            assert_eq!(refused(Query::read(Some(limit)).unwrap().take_limit()).0, "limit");
        }
        let mut query = Query::read(Some("state=asleep&%00=1")).unwrap();
        assert!(refused(query.take_word("state", &["ready"])).1.contains("ready"));
        let (field, said) = refused(query.end());
        assert_eq!((field.as_str(), said.as_str()), ("%00", "unknown parameter; known: state"));
        assert!(refused(Query::read(Some("x")).unwrap().end()).1.contains("no parameters"));
    }
}
