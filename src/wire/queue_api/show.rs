//! Calls, agents, offers and queues as they are shown. They are read again by the command line.

use crate::domain::agent::{Agent, AgentRules, AgentState, Then};
use crate::domain::call::{Call, Stage};
use crate::domain::id::QueueId;
use crate::domain::offer::{Offer, OfferStage};
use crate::domain::queue::QueueRules;
use crate::domain::time::EpochMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A list, perhaps cut short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// How many there are that were asked for, shown or not.
    pub total: usize,
    /// Those that are shown.
    pub items: Vec<T>,
}

impl<T> Listed<T> {
    /// The first `limit` of these.
    pub fn new<S>(all: Vec<S>, limit: usize, show: impl FnMut(S) -> T) -> Listed<T> {
        Listed { total: all.len(), items: all.into_iter().take(limit).map(show).collect() }
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallInfo {
    /// Its id.
    pub id: String,
    /// The queue that it stands in, or stood in last.
    pub queue: String,
    /// `waiting`, `offered`, `connecting`, `connected`, `treated`, `ending`.
    pub state: String,
    /// Its place in the queue, from 1 on; `null`: it has none any more.
    pub position: Option<usize>,
    /// 0 … 1000.
    pub priority: u16,
    /// When it began to wait.
    pub enqueued_ms: u64,
    /// When it came into this queue.
    pub joined_ms: u64,
    /// How long it has waited; once it is with an agent, how long it had waited by then.
    pub waited_ms: u64,
    /// When it came to its agent.
    pub connected_ms: Option<u64>,
    /// The agents who are asked, or the one who has it.
    pub agents: Vec<String>,
    /// Offers of it that are under way.
    pub offers: Vec<String>,
    /// Offers that were made of it.
    pub tries: u32,
    /// Offers of it that ended without anybody's doing.
    pub crashes: u32,
    /// Queues that it has overflowed from.
    pub hops: u8,
    /// What it asks of an agent.
    pub wishes: Vec<String>,
    /// Who it is.
    pub caller: Caller,
    /// The node that has its channel.
    pub node: String,
    /// Its channel there.
    pub channel: String,
    /// Where it is sent that no agent takes.
    pub treatment: Option<String>,
    /// Why it is treated, or how it ended.
    pub why: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Caller {
    /// The display name.
    pub name: String,
    /// The number or address.
    pub number: String,
    /// The SIP Call-ID of the caller's dialog.
    pub sip_call_id: String,
}

impl CallInfo {
    /// A call, and its offers, as far as they were found.
    pub fn new<'a>(
        call: &Call,
        position: Option<usize>,
        offers: impl Iterator<Item = &'a Offer>,
        now: EpochMs,
    ) -> CallInfo {
        let (mut connected, mut treatment, mut why) = (None, None, None);
        match &call.stage {
            Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. } => {}
            Stage::Connected { since, .. } => connected = Some(*since),
            Stage::Treated { treatment: to, why: because, extension: _ } => {
                (treatment, why) = (Some(to.to_string()), Some(because.as_str().to_owned()));
            }
            Stage::Ending { reason, .. } => why = Some(reason.as_str().to_owned()),
        }
        CallInfo {
            id: call.id.to_string(),
            queue: call.queue.to_string(),
            state: call.stage.as_str().to_owned(),
            position,
            priority: call.priority.get(),
            enqueued_ms: call.enqueued.0,
            joined_ms: call.joined.0,
            waited_ms: connected.unwrap_or(now).since(call.enqueued),
            connected_ms: connected.map(|at| at.0),
            agents: offers.map(|offer| offer.agent.to_string()).collect(),
            offers: call.stage.offers().map(ToString::to_string).collect(),
            tries: call.tries,
            crashes: call.crashes,
            hops: call.hops,
            wishes: call.wishes.iter().map(ToString::to_string).collect(),
            caller: Caller {
                name: call.identity.name.to_string(),
                number: call.identity.number.to_string(),
                sip_call_id: call.identity.sip_call_id.to_string(),
            },
            node: call.channel.node.to_string(),
            channel: call.channel.id.to_string(),
            treatment,
            why,
        }
    }
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The name.
    pub id: String,
    /// The address-of-record; `null`: the agent is laid down no longer.
    pub aor: Option<String>,
    /// What the agent does.
    #[serde(flatten)]
    pub doing: Doing,
    /// The queues.
    pub queues: Vec<MembershipInfo>,
    /// What the agent can do.
    pub skills: Vec<String>,
    /// Where the phone is registered; through the first it is called.
    pub registered: Vec<PhoneInfo>,
    /// Calls taken, of all queues.
    pub taken: u64,
    /// Offers missed since the last call.
    pub misses: u32,
    /// When the last call ended, or the agent came; `null`: never.
    pub idle_since_ms: Option<u64>,
}

/// What an agent does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    /// `offline`, `ready`, `offered`, `talking`, `wrap-up`, `paused`, `in-use`.
    pub state: String,
    /// Since when, where that is known.
    pub since_ms: Option<u64>,
    /// Until when: of the rest after a call, of a pause after a busy signal, of the ringing.
    pub until_ms: Option<u64>,
    /// Why paused, now or after the call.
    pub reason: Option<String>,
    /// What comes after the call, if it is not more calls: `pause`, `logout`.
    pub then: Option<String>,
    /// The call that the agent is asked to take, or has.
    pub call: Option<String>,
    /// The offer that it is by.
    pub offer: Option<String>,
    /// Calls of the phone that no offer brought.
    #[serde(default)]
    pub own_calls: usize,
}

/// An agent in a queue, seen from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipInfo {
    /// The queue.
    pub queue: String,
    /// Who has less is asked first.
    pub penalty: u16,
    /// How much the queue comes before others.
    pub weight: u16,
    /// Calls of this queue that the agent took.
    pub taken: u64,
}

/// Where a phone is registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhoneInfo {
    /// The Kamailio that took the REGISTER.
    pub proxy: String,
    /// When it was last refreshed.
    pub at_ms: u64,
    /// When it ends.
    pub until_ms: u64,
}

impl Doing {
    /// What an agent does; who has no record is not logged in. `offer` is the one that has a claim on the agent, if it was found.
    pub fn new(agent: Option<&Agent>, offer: Option<&Offer>, now: EpochMs) -> Doing {
        let mut doing = Doing {
            state: agent.map_or("offline", Agent::word).to_owned(),
            since_ms: None,
            until_ms: None,
            reason: None,
            then: None,
            call: offer.map(|offer| offer.call.to_string()),
            offer: None,
            own_calls: agent.map_or(0, |agent| agent.own_calls.len()),
        };
        let Some(agent) = agent else { return doing };
        match &agent.state {
            AgentState::Offline => {}
            AgentState::Ready { rests_until } => {
                doing.since_ms = Some(agent.idle_since.0);
                doing.until_ms = Some(rests_until.0).filter(|until| *until > now.0);
            }
            AgentState::Offered { offer: id, then } | AgentState::Talking { offer: id, then } => {
                doing.offer = Some(id.to_string());
                match offer.map(|offer| &offer.stage) {
                    Some(OfferStage::Joined { since }) => doing.since_ms = Some(since.0),
                    Some(OfferStage::Ringing { until } | OfferStage::Announcing { until }) => {
                        doing.until_ms = Some(until.0)
                    }
                    Some(OfferStage::Making | OfferStage::Connecting { .. } | OfferStage::Ending { .. })
                    | None => {}
                }
                doing.since_ms = doing.since_ms.or(offer.map(|offer| offer.made.0));
                match then {
                    Then::Ready => {}
                    Then::Pause { reason } => {
                        (doing.then, doing.reason) = (Some("pause".to_owned()), Some(reason.to_string()));
                    }
                    Then::Leave => doing.then = Some("logout".to_owned()),
                }
            }
            AgentState::WrapUp { until } => {
                (doing.since_ms, doing.until_ms) = (Some(agent.idle_since.0), Some(until.0));
            }
            AgentState::Paused { reason } => doing.reason = Some(reason.to_string()),
        }
        doing
    }
}

impl AgentInfo {
    /// An agent: what is laid down, what is known, and where the phone is.
    pub fn new(
        id: String,
        rules: Option<&AgentRules>,
        agent: Option<&Agent>,
        doing: Doing,
        registered: Vec<PhoneInfo>,
    ) -> AgentInfo {
        let taken = |queue: &QueueId| agent.and_then(|agent| agent.taken.get(queue)).copied().unwrap_or(0);
        let memberships = rules.iter().flat_map(|rules| &rules.memberships);
        let one = |(queue, membership): (&QueueId, &crate::domain::matching::Membership)| MembershipInfo {
            queue: queue.to_string(),
            penalty: membership.penalty,
            weight: membership.weight,
            taken: taken(queue),
        };
        AgentInfo {
            id,
            aor: rules.map(|rules| rules.aor.to_string()),
            doing,
            queues: memberships.map(one).collect(),
            skills: rules.iter().flat_map(|rules| rules.skills.iter()).map(ToString::to_string).collect(),
            registered,
            taken: agent.map_or(0, |agent| agent.taken.values().sum()),
            misses: agent.map_or(0, |agent| agent.misses),
            idle_since_ms: agent.map(|agent| agent.idle_since.0),
        }
    }
}

/// An offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferInfo {
    /// Its id.
    pub id: String,
    /// The call.
    pub call: String,
    /// The agent.
    pub agent: String,
    /// The queue.
    pub queue: String,
    /// `making`, `ringing`, `announcing`, `connecting`, `joined`, `ending`.
    pub state: String,
    /// When it was made.
    pub made_ms: u64,
    /// Until when it rings, or something is announced.
    pub until_ms: Option<u64>,
    /// Since when they talk.
    pub since_ms: Option<u64>,
    /// How it has come to its end.
    pub why: Option<String>,
    /// The node that has the leg.
    pub node: String,
    /// The leg's channel there.
    pub leg: String,
    /// The Kamailio that the leg goes through.
    pub proxy: String,
}

impl OfferInfo {
    /// An offer.
    pub fn new(offer: &Offer) -> OfferInfo {
        let (mut until_ms, mut since_ms, mut ended) = (None, None, None);
        match &offer.stage {
            OfferStage::Making | OfferStage::Connecting { .. } => {}
            OfferStage::Ringing { until } | OfferStage::Announcing { until } => until_ms = Some(until.0),
            OfferStage::Joined { since } => since_ms = Some(since.0),
            OfferStage::Ending { why, .. } => ended = Some(why.as_str().to_owned()),
        }
        OfferInfo {
            id: offer.id.to_string(),
            call: offer.call.to_string(),
            agent: offer.agent.to_string(),
            queue: offer.queue.to_string(),
            state: offer.stage.as_str().to_owned(),
            made_ms: offer.made.0,
            until_ms,
            since_ms,
            why: ended,
            node: offer.leg.node.to_string(),
            leg: offer.leg.id.to_string(),
            proxy: offer.proxy.to_string(),
        }
    }
}

/// A queue in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// Its name.
    pub id: String,
    /// Who is asked first.
    pub strategy: String,
    /// Calls that have a place in it.
    pub waiting: usize,
    /// Calls that may have one.
    pub waiting_max: usize,
    /// How long the one has waited that has waited longest; `null`: nobody waits.
    pub longest_wait_ms: Option<u64>,
    /// Calls of it that are with an agent, or about to be.
    pub connected: usize,
    /// How long those had waited that are with an agent, on average; `null`: there are none.
    pub mean_wait_ms: Option<u64>,
    /// Calls of it that its agents took.
    pub taken: u64,
    /// Its agents by state; states that nobody is in are left out.
    pub agents: BTreeMap<String, usize>,
}

/// A queue with its rules, its calls and its agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueDetail {
    /// The numbers.
    #[serde(flatten)]
    pub summary: QueueInfo,
    /// What is laid down.
    pub rules: RulesInfo,
    /// The calls in their order, as many as were asked for.
    pub calls: Vec<CallInfo>,
    /// The agents, by name.
    pub members: Vec<MemberInfo>,
}

/// An agent in a queue, seen from the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// The name.
    pub id: String,
    /// What the agent does.
    #[serde(flatten)]
    pub doing: Doing,
    /// Who has less is asked first.
    pub penalty: u16,
    /// How much this queue comes before others.
    pub weight: u16,
    /// Calls of this queue that the agent took.
    pub taken: u64,
    /// Offers missed since the last call.
    pub misses: u32,
    /// Whether there is a phone that could ring.
    pub registered: bool,
}

/// What is laid down for a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulesInfo {
    /// Who of the possible agents is asked.
    pub strategy: String,
    /// How many at once, at most, with `ring-all`.
    pub ring_all_max: usize,
    /// Up to which penalty agents are asked, from which wait on.
    pub penalty_max: Vec<WideningInfo>,
    /// Which skills are given up, from which wait on.
    pub relax: Vec<RelaxingInfo>,
    /// How often a call may be offered.
    pub offers_max: u32,
    /// How long a call may wait.
    pub wait_max_ms: u64,
    /// How long a phone rings.
    pub ring_ms: u64,
    /// How long an agent is passed over who missed a call.
    pub pass_over_ms: u64,
    /// Rest after a call.
    pub wrap_up_ms: u64,
    /// Longest talk.
    pub talk_max_ms: u64,
    /// Who has to be there for a call to come in: `any`, `logged-in`, `unpaused`.
    pub join: String,
    /// Who has to be there for a call to stay.
    pub stay: String,
    /// When a caller is answered: `entry`, `agent`, `early`.
    pub answering: String,
    /// Music class; empty: the node's default.
    pub music: String,
    /// What an agent hears before the caller does.
    #[serde(default)]
    pub agent_announce: Vec<String>,
    /// For how long at most.
    #[serde(default)]
    pub agent_announce_max_ms: u64,
    /// Why a call is treated → treatment.
    pub ends: BTreeMap<String, String>,
}

/// A step of `penalty_max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WideningInfo {
    /// From which wait on.
    pub after_ms: u64,
    /// The highest penalty.
    pub penalty_max: u16,
}

/// A step of `relax`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelaxingInfo {
    /// From which wait on.
    pub after_ms: u64,
    /// What is no longer asked for.
    pub drop: Vec<String>,
}

impl RulesInfo {
    /// The rules of a queue.
    pub fn new(rules: &QueueRules) -> RulesInfo {
        let matching = &rules.matching;
        let widening = |step: &crate::domain::matching::Widening| WideningInfo {
            after_ms: step.after_ms,
            penalty_max: step.penalty_max,
        };
        let relaxing = |step: &crate::domain::matching::Relaxing| RelaxingInfo {
            after_ms: step.after_ms,
            drop: step.drop.iter().map(ToString::to_string).collect(),
        };
        RulesInfo {
            strategy: matching.strategy.to_string(),
            ring_all_max: matching.ring_all_max,
            penalty_max: matching.penalty_max.iter().map(widening).collect(),
            relax: matching.relax.iter().map(relaxing).collect(),
            offers_max: rules.offers_max,
            wait_max_ms: rules.wait_max_ms,
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
        }
    }
}

/// The cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellInfo {
    /// Its name.
    pub id: String,
    /// The store's clock.
    pub now_ms: u64,
    /// Who leads; `null`: nobody.
    pub leader: Option<LeaderInfo>,
    /// The epoch that was opened last; 0: none.
    pub epoch: u64,
    /// The number of the last batch.
    pub seq: u64,
    /// False: a leader is writing everything anew, or has stopped in the middle.
    pub whole: bool,
    /// The last command that was sent, and up to where they are done.
    pub inbox: InboxInfo,
    /// The last event: `GET /v1/events` goes on behind it.
    pub outbox: u64,
    /// How much there is.
    pub counts: BTreeMap<String, usize>,
    /// Records that this version cannot read.
    pub damaged: usize,
    /// Nodes that have calls or legs of this cell.
    pub nodes: Vec<NodeCalls>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// The instance.
    pub holder: String,
    /// Its epoch.
    pub epoch: u64,
    /// How long it leads without asking again; 0: it is late.
    pub left_ms: u64,
}

/// Positions of the inbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboxInfo {
    /// The last command that was sent.
    pub sent: u64,
    /// Commands up to here are done.
    pub done: u64,
}

/// What a node has of the cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeCalls {
    /// The node.
    pub id: String,
    /// Callers there.
    pub calls: usize,
    /// Legs to agents there, or about to be.
    pub legs: usize,
}

/// What was said of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaidInfo {
    /// `done`; `already`: it was so before.
    pub said: String,
    /// Names the command: the same again is not done twice.
    pub key: String,
}
