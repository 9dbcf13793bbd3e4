//! Records of a cell: calls, agents and offers as JSON, as the store keeps them. Fields have short names: a cell has
//! thousands of records, and each change writes a whole one.
//!
//! A record is named by its kind and its id: `c:<call>`, `a:<agent>`, `o:<offer>`, `r:<agent>` and `q:<queue>` for one
//! that was laid down at run time. What a later version adds is left out of account by this one, since it may follow that one in
//! leading the cell: fields that it does not know, words of rules, and of a number beyond its limits what is beyond. A field that is
//! missing makes a record unreadable, unless it has a default. A command is for a leader of now, and is what it says or nothing.

mod command;
mod event;
mod queue;
mod rules;

pub use command::{CommandError, REASON_MAX, read_command, write_command};
pub use event::{EventError, event_word, read_event, write_event};
pub use queue::{checked_queue, write_queue};
pub use rules::{checked_rules, write_rules};

use crate::domain::agent::{Agent, AgentState, OwnCall, OwnCallId, Then};
use crate::domain::call::{Call, Channel, DoneReason, Identity, Stage, TreatedFor};
use crate::domain::controller::Saved;
use crate::domain::id::{AgentId, CallId, NameError, OfferId, QueueId};
use crate::domain::matching::{Priority, Skills};
use crate::domain::offer::{Offer, OfferEnd, OfferStage};
use crate::domain::time::EpochMs;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

/// The longest cause that is told of a record, in characters; what is a control character takes a few more.
const CAUSE_MAX: usize = 200;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A wish: what is not known or beyond its limits is refused.
    Wish,
    /// What somebody was granted, maybe by a later version: what is not known is left out of account.
    Record,
}

/// Fields that are not known.
type More = BTreeMap<String, IgnoredAny>;

impl Kind {
    /// # Errors
    /// The name of the first of these fields, where none may be.
    fn allows(self, more: &More) -> Result<(), String> {
        match (self, more.keys().next()) {
            (Kind::Wish, Some(name)) => Err(one_line(&format!("{name}: not known"))),
            (Kind::Wish | Kind::Record, _) => Ok(()),
        }
    }

    /// A number within its limits.
    fn within<T: TryFrom<u64>>(
        self,
        key: &str,
        value: u64,
        limits: RangeInclusive<u64>,
    ) -> Result<T, String> {
        let (least, most) = (*limits.start(), *limits.end());
        let wrong = || format!("{key}: {least} to {most}");
        let value = match self {
            Kind::Wish if !limits.contains(&value) => return Err(wrong()),
            Kind::Wish => value,
            Kind::Record => value.clamp(least, most),
        };
        T::try_from(value).map_err(|_| wrong())
    }

    /// What a word says; `else_` stands for one that is not known.
    fn word<T>(self, key: &str, said: Result<T, String>, else_: T) -> Result<T, String> {
        match (self, said) {
            (_, Ok(said)) => Ok(said),
            (Kind::Wish, Err(cause)) => Err(format!("{key}: {cause}")),
            (Kind::Record, Err(_)) => Ok(else_),
        }
    }

    /// Whether there are too many of something. Those of a record are there.
    fn are_too_many(self, count: usize, most: usize) -> bool {
        self == Kind::Wish && count > most
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {name:?}: {cause}")]
pub struct RecordError {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub cause: String,
}

/// The name of a call's record.
pub fn call_name(id: &CallId) -> String {
    format!("c:{id}")
}

/// The name of an agent's record.
pub fn agent_name(id: &AgentId) -> String {
    format!("a:{id}")
}

/// The name of an offer's record.
pub fn offer_name(id: &OfferId) -> String {
    format!("o:{id}")
}

/// The name of the record of an agent that was laid down at run time.
pub fn rules_name(id: &AgentId) -> String {
    format!("r:{id}")
}

/// The name of the record of a queue that was laid down at run time.
pub fn queue_name(id: &QueueId) -> String {
    format!("q:{id}")
}

/// A call as text.
pub fn write_call(call: &Call) -> String {
    let written = WrittenCall {
        node: call.channel.node.as_str().into(),
        channel: call.channel.id.as_str().into(),
        name: call.identity.name.as_ref().into(),
        number: call.identity.number.as_ref().into(),
        sip: call.identity.sip_call_id.as_ref().into(),
        queue: call.queue.as_str().into(),
        priority: call.priority.get(),
        enqueued: call.enqueued.0,
        joined: call.joined.0,
        wishes: call.wishes.iter().map(|skill| skill.as_str().into()).collect(),
        tries: call.tries,
        crashes: call.crashes,
        hops: call.hops,
        stage: match &call.stage {
            Stage::Waiting => WrittenStage::Waiting {},
            Stage::Offered { offers } => {
                WrittenStage::Offered { offers: offers.iter().map(|offer| offer.as_str().into()).collect() }
            }
            Stage::Connecting { offer } => WrittenStage::Connecting { offer: offer.as_str().into() },
            Stage::Connected { offer, since } => {
                WrittenStage::Connected { offer: offer.as_str().into(), since: since.0 }
            }
            Stage::Treated { treatment, why, extension } => WrittenStage::Treated {
                treatment: treatment.as_str().into(),
                why: why.as_str().into(),
                extension: extension.as_deref().map(Into::into),
            },
            Stage::Ending { reason, cause } => {
                WrittenStage::Ending { reason: reason.as_str().into(), cause: *cause }
            }
        },
    };
    json(&written)
}

/// An agent as text.
pub fn write_agent(agent: &Agent) -> String {
    let written = WrittenAgent {
        state: match &agent.state {
            AgentState::Offline => WrittenAgentState::Offline {},
            AgentState::Ready { rests_until } => WrittenAgentState::Ready { rests_until: rests_until.0 },
            AgentState::Offered { offer, then } => {
                WrittenAgentState::Offered { offer: offer.as_str().into(), then: write_then(then) }
            }
            AgentState::Talking { offer, then } => {
                WrittenAgentState::Talking { offer: offer.as_str().into(), then: write_then(then) }
            }
            AgentState::WrapUp { until } => WrittenAgentState::WrapUp { until: until.0 },
            AgentState::Paused { reason } => WrittenAgentState::Paused { reason: reason.as_ref().into() },
        },
        taken: agent.taken.iter().map(|(queue, taken)| (queue.as_str().into(), *taken)).collect(),
        misses: agent.misses,
        idle_since: agent.idle_since.0,
        own: agent.own_calls.iter().map(|(call, own)| (call.as_ref().into(), WrittenOwn::of(own))).collect(),
    };
    json(&written)
}

/// An offer as text.
pub fn write_offer(offer: &Offer) -> String {
    let written = WrittenOffer {
        call: offer.call.as_str().into(),
        agent: offer.agent.as_str().into(),
        queue: offer.queue.as_str().into(),
        node: offer.leg.node.as_str().into(),
        leg: offer.leg.id.as_str().into(),
        proxy: offer.proxy.as_str().into(),
        made: offer.made.0,
        stage: match &offer.stage {
            OfferStage::Making => WrittenOfferStage::Making {},
            OfferStage::Ringing { until } => WrittenOfferStage::Ringing { until: until.0 },
            OfferStage::Announcing { until } => WrittenOfferStage::Announcing { until: until.0 },
            OfferStage::Connecting { again, tries } => {
                WrittenOfferStage::Connecting { again: again.0, tries: *tries }
            }
            OfferStage::Joined { since } => WrittenOfferStage::Joined { since: since.0 },
            OfferStage::Ending { why, again } => {
                WrittenOfferStage::Ending { why: why.as_str().into(), again: again.0 }
            }
        },
    };
    json(&written)
}

/// What the records say; and why some cannot be read.
pub fn read_all(records: &[(String, String)]) -> (Saved, Vec<RecordError>) {
    let mut saved = Saved::default();
    let mut damaged = Vec::new();
    for (name, text) in records {
        if let Err(cause) = read_one(name, text, &mut saved) {
            damaged.push(RecordError { name: one_line(name), cause });
        }
    }
    (saved, damaged)
}

fn read_one(name: &str, text: &str, saved: &mut Saved) -> Result<(), String> {
    match name.split_once(':') {
        Some(("c", id)) => saved.calls.push(read_call(name_of(id)?, text)?),
        Some(("a", id)) => saved.agents.push(read_agent(name_of(id)?, text)?),
        Some(("o", id)) => saved.offers.push(read_offer(name_of(id)?, text)?),
        Some(("q", id)) => saved.queues.push((name_of(id)?, queue::read_queue(text)?)),
        Some(("r", id)) => saved.rules.push((name_of(id)?, rules::read_rules(text)?)),
        Some(_) | None => return Err("no call, agent or offer".to_owned()),
    }
    Ok(())
}

fn read_call(id: CallId, text: &str) -> Result<Call, String> {
    let read: WrittenCall<'_> = parse(text)?;
    let wishes = read.wishes.iter().map(|skill| name_of(skill)).collect::<Result<Skills, String>>()?;
    let identity =
        Identity { name: read.name.into(), number: read.number.into(), sip_call_id: read.sip.into() };
    Ok(Call {
        id,
        channel: Channel { node: name_of(&read.node)?, id: name_of(&read.channel)? },
        identity: Arc::new(identity),
        queue: name_of(&read.queue)?,
        priority: Priority::try_from(u64::from(read.priority)).map_err(|e| e.to_string())?,
        enqueued: EpochMs(read.enqueued),
        joined: EpochMs(read.joined),
        wishes,
        tries: read.tries,
        crashes: read.crashes,
        hops: read.hops,
        avoid: BTreeMap::new(),
        stage: match read.stage {
            WrittenStage::Waiting {} => Stage::Waiting,
            WrittenStage::Offered { offers } => Stage::Offered {
                offers: offers.iter().map(|offer| name_of(offer)).collect::<Result<_, String>>()?,
            },
            WrittenStage::Connecting { offer } => Stage::Connecting { offer: name_of(&offer)? },
            WrittenStage::Connected { offer, since } => {
                Stage::Connected { offer: name_of(&offer)?, since: EpochMs(since) }
            }
            WrittenStage::Treated { treatment, why, extension } => Stage::Treated {
                treatment: name_of(&treatment)?,
                extension: extension.map(Into::into),
                why: word_of(&why, &TreatedFor::ALL, |why| why.as_str())?,
            },
            WrittenStage::Ending { reason, cause } => {
                Stage::Ending { reason: word_of(&reason, &DoneReason::ALL, |reason| reason.as_str())?, cause }
            }
        },
    })
}

fn read_agent(id: AgentId, text: &str) -> Result<Agent, String> {
    let read: WrittenAgent<'_> = parse(text)?;
    let taken = read.taken.iter().map(|(queue, taken)| Ok((name_of(queue)?, *taken)));
    Ok(Agent {
        id,
        state: match read.state {
            WrittenAgentState::Offline {} => AgentState::Offline,
            WrittenAgentState::Ready { rests_until } => {
                AgentState::Ready { rests_until: EpochMs(rests_until) }
            }
            WrittenAgentState::Offered { offer, then } => {
                AgentState::Offered { offer: name_of(&offer)?, then: read_then(then) }
            }
            WrittenAgentState::Talking { offer, then } => {
                AgentState::Talking { offer: name_of(&offer)?, then: read_then(then) }
            }
            WrittenAgentState::WrapUp { until } => AgentState::WrapUp { until: EpochMs(until) },
            WrittenAgentState::Paused { reason } => AgentState::Paused { reason: reason.into() },
        },
        taken: taken.collect::<Result<_, String>>()?,
        misses: read.misses,
        idle_since: EpochMs(read.idle_since),
        own_calls: read.own.into_iter().map(own_call).collect::<Result<_, String>>()?,
    })
}

fn read_offer(id: OfferId, text: &str) -> Result<Offer, String> {
    let read: WrittenOffer<'_> = parse(text)?;
    Ok(Offer {
        id,
        call: name_of(&read.call)?,
        agent: name_of(&read.agent)?,
        queue: name_of(&read.queue)?,
        leg: Channel { node: name_of(&read.node)?, id: name_of(&read.leg)? },
        proxy: name_of(&read.proxy)?,
        made: EpochMs(read.made),
        stage: match read.stage {
            WrittenOfferStage::Making {} => OfferStage::Making,
            WrittenOfferStage::Ringing { until } => OfferStage::Ringing { until: EpochMs(until) },
            WrittenOfferStage::Announcing { until } => OfferStage::Announcing { until: EpochMs(until) },
            WrittenOfferStage::Connecting { again, tries } => {
                OfferStage::Connecting { again: EpochMs(again), tries }
            }
            WrittenOfferStage::Joined { since } => OfferStage::Joined { since: EpochMs(since) },
            WrittenOfferStage::Ending { why, again } => OfferStage::Ending {
                why: word_of(&why, &OfferEnd::ALL, |why| why.as_str())?,
                again: EpochMs(again),
            },
        },
    })
}

type Text<'a> = Cow<'a, str>;

#[derive(Serialize, Deserialize)]
struct WrittenCall<'a> {
    #[serde(rename = "n", borrow)]
    node: Text<'a>,
    #[serde(rename = "ch", borrow)]
    channel: Text<'a>,
    #[serde(rename = "who", borrow)]
    name: Text<'a>,
    #[serde(rename = "num", borrow)]
    number: Text<'a>,
    #[serde(rename = "sip", borrow)]
    sip: Text<'a>,
    #[serde(rename = "q", borrow)]
    queue: Text<'a>,
    #[serde(rename = "p")]
    priority: u16,
    #[serde(rename = "t")]
    enqueued: u64,
    #[serde(rename = "j")]
    joined: u64,
    #[serde(rename = "sk", borrow, default, skip_serializing_if = "Vec::is_empty")]
    wishes: Vec<Text<'a>>,
    #[serde(rename = "tr", default)]
    tries: u32,
    #[serde(rename = "cr", default)]
    crashes: u32,
    #[serde(rename = "h", default)]
    hops: u8,
    #[serde(rename = "s", borrow)]
    stage: WrittenStage<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenStage<'a> {
    Waiting {},
    Offered {
        #[serde(borrow)]
        offers: Vec<Text<'a>>,
    },
    Connecting {
        #[serde(borrow)]
        offer: Text<'a>,
    },
    Connected {
        #[serde(borrow)]
        offer: Text<'a>,
        since: u64,
    },
    Treated {
        #[serde(borrow)]
        treatment: Text<'a>,
        #[serde(borrow)]
        why: Text<'a>,
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        extension: Option<Text<'a>>,
    },
    Ending {
        #[serde(borrow)]
        reason: Text<'a>,
        cause: u16,
    },
}

#[derive(Serialize, Deserialize)]
struct WrittenAgent<'a> {
    #[serde(rename = "s", borrow)]
    state: WrittenAgentState<'a>,
    #[serde(rename = "tk", borrow, default)]
    taken: BTreeMap<Text<'a>, u64>,
    #[serde(rename = "m", default)]
    misses: u32,
    #[serde(rename = "i")]
    idle_since: u64,
    #[serde(rename = "o", borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    own: BTreeMap<Text<'a>, WrittenOwn<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenOwn<'a> {
    #[serde(rename = "k", borrow)]
    proxy: Text<'a>,
    #[serde(rename = "t")]
    since: u64,
}

impl WrittenOwn<'_> {
    fn of(own: &OwnCall) -> WrittenOwn<'_> {
        WrittenOwn { proxy: own.proxy.as_str().into(), since: own.since.0 }
    }
}

fn own_call((call, own): (Text<'_>, WrittenOwn<'_>)) -> Result<(OwnCallId, OwnCall), String> {
    Ok((OwnCallId::from(call), OwnCall { proxy: name_of(&own.proxy)?, since: EpochMs(own.since) }))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenAgentState<'a> {
    Offline {},
    Ready {
        rests_until: u64,
    },
    Offered {
        #[serde(borrow)]
        offer: Text<'a>,
        #[serde(borrow)]
        then: WrittenThen<'a>,
    },
    Talking {
        #[serde(borrow)]
        offer: Text<'a>,
        #[serde(borrow)]
        then: WrittenThen<'a>,
    },
    WrapUp {
        until: u64,
    },
    Paused {
        #[serde(borrow)]
        reason: Text<'a>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenThen<'a> {
    Ready {},
    Pause {
        #[serde(borrow)]
        reason: Text<'a>,
    },
    Leave {},
}

#[derive(Serialize, Deserialize)]
struct WrittenOffer<'a> {
    #[serde(rename = "c", borrow)]
    call: Text<'a>,
    #[serde(rename = "a", borrow)]
    agent: Text<'a>,
    #[serde(rename = "q", borrow)]
    queue: Text<'a>,
    #[serde(rename = "n", borrow)]
    node: Text<'a>,
    #[serde(rename = "ch", borrow)]
    leg: Text<'a>,
    #[serde(rename = "k", borrow)]
    proxy: Text<'a>,
    #[serde(rename = "t")]
    made: u64,
    #[serde(rename = "s", borrow)]
    stage: WrittenOfferStage<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenOfferStage<'a> {
    Making {},
    Ringing {
        until: u64,
    },
    Announcing {
        until: u64,
    },
    Connecting {
        again: u64,
        tries: u32,
    },
    Joined {
        since: u64,
    },
    Ending {
        #[serde(borrow)]
        why: Text<'a>,
        again: u64,
    },
}

fn write_then(then: &Then) -> WrittenThen<'_> {
    match then {
        Then::Ready => WrittenThen::Ready {},
        Then::Pause { reason } => WrittenThen::Pause { reason: reason.as_ref().into() },
        Then::Leave => WrittenThen::Leave {},
    }
}

fn read_then(then: WrittenThen<'_>) -> Then {
    match then {
        WrittenThen::Ready {} => Then::Ready,
        WrittenThen::Pause { reason } => Then::Pause { reason: reason.into() },
        WrittenThen::Leave {} => Then::Leave,
    }
}

/// Structures of strings and numbers always become JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|cause| one_line(&cause.to_string()))
}

/// What is said of a record goes to logs, and may hold a piece of the record itself.
fn one_line(cause: &str) -> String {
    cause.chars().take(CAUSE_MAX).fold(String::new(), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
        line
    })
}

fn name_of<T: FromStr<Err = NameError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|cause| format!("{:?}: {cause}", text.chars().take(40).collect::<String>()))
}

fn word_of<T: Copy>(text: &str, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T, String> {
    let known = all.iter().copied().find(|one| word(*one) == text);
    known.ok_or_else(|| format!("{:?} is none of its words", text.chars().take(40).collect::<String>()))
}

#[cfg(test)]
mod tests;
