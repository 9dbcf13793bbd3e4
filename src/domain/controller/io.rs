//! What the controller is told, and what it asks for; what it tells: [`super::told`].

use super::told::Event;
use crate::domain::agent::{Agent, AgentRules, OwnCallId};
use crate::domain::call::{Call, Channel, Identity};
use crate::domain::id::{AgentId, CallId, ChannelId, NodeId, OfferId, ProxyId, QueueId, TreatmentId};
use crate::domain::matching::{Priority, Skills};
use crate::domain::offer::Offer;
use crate::domain::queue::{Answering, QueueRules, Setup};
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
    /// An agent passes the caller on.
    Transfer(Transfer),
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
    /// What was announced on the leg of an offer is over.
    Announced(OfferId),
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

/// An agent passes the caller on: a REFER on the leg of an offer (RFC 3515).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The offer.
    pub offer: OfferId,
    /// Its leg.
    pub leg: Channel,
    /// Where the caller is to be.
    pub to: To,
}

/// Where a caller is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Where this leads to: blind.
    Dialled(Box<str>),
    /// Where the channel is with which the agent has called there before, on the same node (RFC 3891).
    Place {
        /// That channel.
        of: ChannelId,
        /// Whom it talks to, where no queue has joined the two.
        with: Option<ChannelId>,
    },
    /// Where the agent has called by another way: nothing that could be taken over.
    Elsewhere,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Somebody is being called.
    Rings,
    /// The caller is where they were to be: the agent's phone hangs up.
    Answered,
    /// Nobody is there; the agent has the caller still.
    Unavailable,
    /// It cannot be; the agent has the caller still.
    Declined,
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
    /// Pause, with this reason, or Resume, whichever it is not: from a phone's key.
    TogglePause(AgentId, Arc<str>),
    /// The agent is as this, until somebody says otherwise: one that the configuration does not name.
    SetAgent(AgentId, Box<AgentRules>),
    /// There is no such agent any more; one who is in a call ends it first.
    RemoveAgent(AgentId),
    /// The queue is as this, until somebody says otherwise: one that the configuration does not name.
    SetQueue(QueueId, Box<QueueRules>),
    /// There is no such queue any more; the calls in it are treated.
    RemoveQueue(QueueId),
    /// A phone has a call that no offer brought.
    OwnCallBegan {
        /// Whose: the address-of-record.
        aor: Arc<str>,
        /// The call.
        call: OwnCallId,
        /// The Kamailio that has its dialog.
        proxy: ProxyId,
    },
    /// That call is over.
    OwnCallEnded {
        /// Whose: the address-of-record.
        aor: Arc<str>,
        /// The call.
        call: OwnCallId,
    },
    /// A Kamailio has forgotten its dialogs: nobody will tell the ends of the own calls that it had.
    OwnCallsLost(ProxyId),
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
        /// The caller takes the place of another one with this agent.
        replaces: bool,
    },
    /// Let an agent hear something before the join.
    Announce {
        /// The offer; names what is played.
        offer: OfferId,
        /// The leg.
        leg: Channel,
        /// Sounds of the node.
        sounds: Vec<Box<str>>,
    },
    /// No more of that: it would keep the leg from being joined.
    Hush {
        /// The offer.
        offer: OfferId,
        /// The leg.
        leg: Channel,
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
    /// Tell a phone how far the transfer is that it has asked for.
    Tell {
        /// Its leg.
        leg: Channel,
        /// How far.
        progress: Progress,
    },
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
    /// The node itself ends the wait after so long, in ms: later than the queue would.
    pub ends_after_ms: u64,
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
            Effect::Attend(_)
            | Effect::Join { replaces: false, .. }
            | Effect::Announce { .. }
            | Effect::Hush { .. }
            | Effect::DropLeg { void: false, .. } => Class::Free,
            Effect::DropLeg { void: true, .. }
            | Effect::Originate(_)
            // A leader to whom the store says otherwise would part the two again.
            | Effect::Join { replaces: true, .. }
            // A phone that hears of success hangs up.
            | Effect::Tell { .. }
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
            | Effect::Announce { leg, .. }
            | Effect::Hush { leg, .. }
            | Effect::DropLeg { leg, .. }
            | Effect::Tell { leg, .. }
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
    /// An agent that the configuration does not name is laid down as this now.
    Rules(AgentId, Box<AgentRules>),
    /// It is laid down no longer.
    RulesGone(AgentId),
    /// A queue that the configuration does not name is laid down as this now.
    Queue(QueueId, Box<QueueRules>),
    /// It is laid down no longer.
    QueueGone(QueueId),
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

/// One thing that came of an input; in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be committed.
    Change(Change),
    /// To be asked of a node: at once if it is free, after everything before it is committed if it is a claim.
    Effect(Effect),
}
