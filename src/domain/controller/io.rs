//! What the controller is told, and what it asks for.

use crate::domain::agent::Agent;
use crate::domain::call::{Call, Channel, DoneReason, Identity, TreatedFor};
use crate::domain::id::{AgentId, CallId, NodeId, OfferId, ProxyId, QueueId, TreatmentId};
use crate::domain::matching::{Priority, Skills};
use crate::domain::offer::{Offer, OfferEnd};
use crate::domain::queue::{Answering, Setup};
use crate::domain::time::EpochMs;
use std::sync::Arc;

/// What the controller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed; with every other input it passes too.
    Tick,
    /// What is laid down is this now.
    Setup(Arc<Setup>),
    /// A caller's channel has entered the application.
    CallerEntered(SeenCaller),
    /// A caller's channel has left the application, or is gone.
    CallerLeft(Channel),
    /// The leg of an offer has entered the application: the agent has answered.
    LegAnswered {
        /// The offer that its arguments name.
        offer: OfferId,
        /// The leg.
        leg: Channel,
    },
    /// The leg of an offer is gone.
    LegEnded {
        /// The leg.
        leg: Channel,
        /// How.
        how: LegEnd,
    },
    /// A node has answered what an effect asked of it.
    Answered {
        /// What was asked.
        effect: Effect,
        /// What came of it.
        outcome: Outcome,
    },
    /// An effect that waited for its commit was not carried out, and never will be.
    Unsent(Effect),
    /// What a node has, as it said itself.
    Listing(Listing),
    /// A node is not heard any more. What is known of it stays as it is; nothing is asked of it.
    NodeAway(NodeId),
    /// A node is dead: its channels are gone.
    NodeDead(NodeId),
    /// Who is registered, all of them.
    Registered(Vec<Registered>),
    /// Somebody asks for something.
    Command {
        /// Names it in the event that answers it.
        key: Arc<str>,
        /// What.
        command: Command,
    },
    /// A command could not be read.
    Malformed {
        /// Names it in the event that says so.
        key: Arc<str>,
    },
    /// Offers may be made (true), or may not: not everything is known yet.
    Offering(bool),
}

/// A caller's channel, as an event or a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCaller {
    /// The channel.
    pub channel: Channel,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The queue that the dialplan asks for; `None`: what it says is no name.
    pub queue: Option<QueueId>,
    /// The priority that the dialplan asks for, or that the call had.
    pub priority: Priority,
    /// What it asks of an agent.
    pub wishes: Skills,
    /// When it began to wait, if that was noted on the channel.
    pub enqueued: Option<EpochMs>,
}

/// How a leg ended, by its node's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// Answered once, and hung up.
    HungUp,
    /// 486, 600.
    Busy,
    /// 603, and what else says no.
    Refused,
    /// 404, 410, 480.
    Unregistered,
    /// 408, 5xx.
    Unreachable,
    /// The Kamailio found its token void.
    Fenced,
    /// It was cancelled, or its own time-out ended it.
    Cancelled,
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, or was done before.
    Done,
    /// The channel is not there.
    Gone,
    /// The node will not do it.
    Refused,
    /// No answer: it may have been done, or may yet be.
    Unknown,
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The node.
    pub node: NodeId,
    /// When the question was sent: what is younger may be missing.
    pub begun: EpochMs,
    /// Callers' channels in the application.
    pub callers: Vec<SeenCaller>,
    /// Legs to agents, in the application or still ringing.
    pub legs: Vec<SeenLeg>,
    /// The mixing bridges of offers.
    pub bridges: Vec<SeenBridge>,
}

/// A leg to an agent, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLeg {
    /// The leg.
    pub leg: Channel,
    /// The offer that is noted on it.
    pub offer: OfferId,
    /// The agent that is noted on it.
    pub agent: AgentId,
    /// The call that is noted on it.
    pub call: CallId,
    /// The queue that is noted on it.
    pub queue: QueueId,
    /// It was answered.
    pub up: bool,
}

/// A mixing bridge, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBridge {
    /// The offer that it was made for.
    pub offer: OfferId,
    /// Who is in it.
    pub members: Vec<Channel>,
}

/// That an address-of-record is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The address-of-record.
    pub aor: Arc<str>,
    /// Through it the phone is reached.
    pub proxy: ProxyId,
    /// When it was last refreshed.
    pub at: EpochMs,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The agent comes to work.
    Login(AgentId),
    /// The agent leaves; a call that is under way is ended first.
    Logout(AgentId),
    /// Login or Logout, whichever it is not: from a phone's key.
    Toggle(AgentId),
    /// The agent wants no calls for a while.
    Pause(AgentId, Arc<str>),
    /// The agent wants calls again.
    Resume(AgentId),
    /// The call goes to another queue, with its time.
    Move(CallId, QueueId),
    /// The call gets another priority.
    Prioritize(CallId, Priority),
    /// The call goes to a treatment.
    Withdraw(CallId, TreatmentId),
}

/// What is asked of a node. The same effect twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Care for a caller who waits: note the call on the channel, answer it where the queue says so, let music be heard.
    Attend(Attend),
    /// Join caller and leg in the mixing bridge of the offer.
    Join {
        /// The offer.
        offer: OfferId,
        /// The caller.
        caller: Channel,
        /// The agent.
        leg: Channel,
        /// The node ends the talk after so long, in ms.
        talk_max_ms: u64,
    },
    /// Hang up a leg, and delete its offer's bridge.
    DropLeg {
        /// The offer.
        offer: OfferId,
        /// The leg.
        leg: Channel,
        /// Its token is void by now: if there is no such leg, there will be none that rings.
        void: bool,
    },
    /// Call an agent.
    Originate(Originate),
    /// Send a caller to a treatment in the dialplan.
    Continue {
        /// The caller.
        channel: Channel,
        /// The context.
        context: Box<str>,
        /// The extension.
        extension: Box<str>,
    },
    /// Hang a caller up.
    HangUp {
        /// The caller.
        channel: Channel,
        /// The Q.850 cause.
        cause: u16,
    },
}

/// [`Effect::Attend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attend {
    /// The caller.
    pub channel: Channel,
    /// Noted on the channel.
    pub queue: QueueId,
    /// Noted on the channel.
    pub priority: Priority,
    /// Noted on the channel: a call can be rebuilt from it.
    pub enqueued: EpochMs,
    /// When to answer.
    pub answering: Answering,
    /// Music class.
    pub music: Box<str>,
}

/// [`Effect::Originate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originate {
    /// The offer, named by the token that the leg carries, and noted on the leg.
    pub offer: OfferId,
    /// The leg that is to be.
    pub leg: Channel,
    /// The caller's channel, on the same node.
    pub caller: Channel,
    /// Noted on the leg.
    pub call: CallId,
    /// Noted on the leg, shown to the agent.
    pub queue: QueueId,
    /// Noted on the leg.
    pub agent: AgentId,
    /// Whom to call.
    pub aor: Arc<str>,
    /// Through which Kamailio.
    pub proxy: ProxyId,
    /// Shown to the agent.
    pub identity: Arc<Identity>,
    /// How long it may ring, in ms; the node itself gives up a little later.
    pub ring_ms: u64,
}

/// When an effect may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// At once: it does no more than care for who is there.
    Free,
    /// When the batch that says so was committed: it promises somebody something.
    Claim,
}

impl Effect {
    /// When it may be carried out.
    pub fn class(&self) -> Class {
        match self {
            Effect::Attend(_) | Effect::Join { .. } | Effect::DropLeg { void: false, .. } => Class::Free,
            Effect::DropLeg { void: true, .. }
            | Effect::Originate(_)
            | Effect::Continue { .. }
            | Effect::HangUp { .. } => Class::Claim,
        }
    }

    /// The node that it is asked of.
    pub fn node(&self) -> &NodeId {
        match self {
            Effect::Attend(Attend { channel, .. })
            | Effect::Continue { channel, .. }
            | Effect::HangUp { channel, .. } => &channel.node,
            Effect::Join { leg, .. }
            | Effect::DropLeg { leg, .. }
            | Effect::Originate(Originate { leg, .. }) => &leg.node,
        }
    }
}

/// A change to what the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A call is as this now.
    Call(Box<Call>),
    /// A call is gone.
    CallGone(CallId),
    /// An agent is as this now.
    Agent(Agent),
    /// An agent is gone.
    AgentGone(AgentId),
    /// An offer is as this now.
    Offer(Box<Offer>),
    /// An offer is gone.
    OfferGone(OfferId),
    /// A call stands here in this queue.
    Place {
        /// The queue.
        queue: QueueId,
        /// The call.
        call: CallId,
        /// Its class.
        priority: Priority,
        /// Its time.
        enqueued: EpochMs,
    },
    /// A call stands in this queue no longer.
    Leave {
        /// The queue.
        queue: QueueId,
        /// The call.
        call: CallId,
    },
    /// The token of an offer is good for one leg.
    Issue(OfferId),
    /// The token of an offer is void.
    Revoke(OfferId),
    /// Something to tell.
    Event(Event),
}

/// What is told to whoever wants to know. Written with the change that it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: EpochMs,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A call has come to stand in a queue.
    Enqueued {
        /// The call.
        call: CallId,
        /// The queue.
        queue: QueueId,
    },
    /// A call was offered to an agent.
    Offered {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// The queue.
        queue: QueueId,
        /// How long it has waited, in ms.
        waited_ms: u64,
    },
    /// An offer has ended.
    OfferEnded {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// How.
        how: OfferEnd,
    },
    /// Caller and agent talk.
    Connected {
        /// The offer.
        offer: OfferId,
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
        /// How long the caller has waited, in ms.
        waited_ms: u64,
    },
    /// A call leaves its queue for a treatment.
    Treated {
        /// The call.
        call: CallId,
        /// Where to; `None`: the last resort.
        treatment: Option<TreatmentId>,
        /// Why.
        why: TreatedFor,
    },
    /// A call is over.
    Done {
        /// The call.
        call: CallId,
        /// The queue that it was in last.
        queue: QueueId,
        /// How.
        reason: DoneReason,
    },
    /// An agent's state has changed.
    Agent {
        /// The agent.
        agent: AgentId,
        /// The word for the state.
        state: &'static str,
    },
    /// A command was carried out, or not.
    Command {
        /// Which.
        key: Arc<str>,
        /// What came of it.
        said: Said,
    },
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done.
    Done,
    /// It was so before.
    Already,
    /// Nobody of that name.
    NoAgent,
    /// No such call.
    NoCall,
    /// No such queue.
    NoQueue,
    /// No such treatment.
    NoTreatment,
    /// The call is with an agent, or on its way out.
    TooLate,
    /// The call's node is not heard at present.
    NodeAway,
    /// The agent is not logged in.
    LoggedOut,
    /// It could not be read.
    Malformed,
}

/// One thing that came of an input; in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be committed.
    Change(Change),
    /// To be asked of a node: at once if it is free, after everything before it is committed if it is a claim.
    Effect(Effect),
}
