//! Queues: named lines of waiting calls, and their rules.

use super::agent::AgentRules;
use super::call::TreatedFor;
use super::id::{AgentId, QueueId, TreatmentId};
use super::matching::MatchRules;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A call overflows from queue to queue at most so often; then it is hung up with [`CAUSE_NO_WAY_OUT`].
pub const HOPS_MAX: u8 = 8;

/// Q.850 cause 42, "switching equipment congestion": there is nowhere left to send a caller.
pub const CAUSE_NO_WAY_OUT: u16 = 42;

/// Q.850 cause 16, "normal call clearing".
pub const CAUSE_NORMAL: u16 = 16;

/// What is laid down for a queue. Every time is in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// Who gets which call.
    pub matching: MatchRules,
    /// Calls that may wait in it.
    pub waiting_max: usize,
    /// How long a call may wait in it.
    pub wait_max_ms: u64,
    /// How often a call may be offered in it; ring-all counts as one.
    pub offers_max: u32,
    /// How long an agent's phone rings.
    pub ring_ms: u64,
    /// How long a call is not offered again to an agent who missed or refused it.
    pub pass_over_ms: u64,
    /// Rest after a call.
    pub wrap_up_ms: u64,
    /// Longest talk; the node ends it.
    pub talk_max_ms: u64,
    /// Who has to be there for a call to be let in.
    pub join: Presence,
    /// Who has to be there for a call to stay.
    pub stay: Presence,
    /// When a caller is answered.
    pub answering: Answering,
    /// Music class of the node; empty: the node's default; [`NO_MUSIC`]: silence.
    pub music: Box<str>,
    /// What the agent hears before the caller does: sounds of the node, one after the other; none: nothing.
    pub agent_announce: Vec<Box<str>>,
    /// The longest time that the agent is announced something.
    pub agent_announce_max_ms: u64,
    /// Where calls go that this queue does not serve; where a reason is missing, to the setup's last resort.
    pub ends: BTreeMap<TreatedFor, TreatmentId>,
}

/// A queue of which nothing else is said.
impl Default for QueueRules {
    fn default() -> QueueRules {
        QueueRules {
            matching: MatchRules::default(),
            waiting_max: 1_000,
            wait_max_ms: 1_800_000,
            offers_max: 100,
            ring_ms: 20_000,
            pass_over_ms: 30_000,
            wrap_up_ms: 10_000,
            talk_max_ms: 7_200_000,
            join: Presence::Any,
            stay: Presence::Any,
            answering: Answering::Entry,
            music: "".into(),
            agent_announce: Vec::new(),
            agent_announce_max_ms: 10_000,
            ends: BTreeMap::new(),
        }
    }
}

/// The longest name of a music class, in bytes.
pub const MUSIC_MAX: usize = 64;

/// The longest name of a sound, in bytes.
pub const SOUND_MAX: usize = 100;

/// The music class that is silence: nothing is played.
pub const NO_MUSIC: &str = "none";

/// Whether a text can be a music class, as it travels in an address; the empty one is the node's default, [`NO_MUSIC`] is none.
pub fn is_music(text: &str) -> bool {
    text.len() <= MUSIC_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a text can be a sound of a node, as it travels in an address: its file's name without the ending.
pub fn is_sound(text: &str) -> bool {
    (1..=SOUND_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
        && !text.split('/').any(|part| part == "..")
}

/// Which of a queue's agents have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody.
    Any,
    /// One who is logged in, paused or not.
    LoggedIn,
    /// One who is logged in and not paused.
    Unpaused,
}

impl Presence {
    /// All of them.
    pub const ALL: [Presence; 3] = [Presence::Any, Presence::LoggedIn, Presence::Unpaused];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Presence::Any => "any",
            Presence::LoggedIn => "logged-in",
            Presence::Unpaused => "unpaused",
        }
    }
}

/// When a caller is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// At entry: billing starts, music is heard by everybody.
    Entry,
    /// When an agent is there; until then it rings.
    Agent,
    /// When an agent is there; until then music is sent as early media.
    Early,
}

impl Answering {
    /// All of them.
    pub const ALL: [Answering; 3] = [Answering::Entry, Answering::Agent, Answering::Early];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Answering::Entry => "entry",
            Answering::Agent => "agent",
            Answering::Early => "early",
        }
    }
}

/// Where a call goes that no agent takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// To another queue; the call keeps its time and priority.
    Overflow(QueueId),
    /// To a place in the node's dialplan: an announcement, voicemail, a number.
    Dialplan {
        /// The context.
        context: Box<str>,
        /// The extension.
        extension: Box<str>,
    },
    /// It is hung up, with this Q.850 cause.
    HangUp {
        /// 1 … 127.
        cause: u16,
    },
}

impl Setup {
    /// With agents and queues that were laid down at run time. Where both speak of the same one, or of the same address-of-record,
    /// this one counts.
    pub fn with(
        self: &Arc<Setup>,
        rules: &BTreeMap<AgentId, AgentRules>,
        queues: &BTreeMap<QueueId, QueueRules>,
    ) -> Arc<Setup> {
        if rules.is_empty() && queues.is_empty() {
            return self.clone();
        }
        let taken: BTreeSet<&str> = self.agents.values().map(|rules| &*rules.aor).collect();
        let more: Vec<_> = rules
            .iter()
            .filter(|(id, rules)| !self.agents.contains_key(*id) && !taken.contains(&*rules.aor))
            .map(|(id, rules)| (id.clone(), rules.clone()))
            .collect();
        let more_queues: Vec<_> = queues
            .iter()
            .filter(|(id, _)| !self.queues.contains_key(*id))
            .map(|(id, rules)| (id.clone(), rules.clone()))
            .collect();
        if more.is_empty() && more_queues.is_empty() {
            return self.clone();
        }
        let mut setup = (**self).clone();
        setup.agents.extend(more);
        setup.queues.extend(more_queues);
        Arc::new(setup)
    }
}

/// Everything that is laid down for a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its queues.
    pub queues: BTreeMap<QueueId, QueueRules>,
    /// Its agents.
    pub agents: BTreeMap<AgentId, AgentRules>,
    /// Where calls can go.
    pub treatments: BTreeMap<TreatmentId, Treatment>,
    /// For calls that no queue says anything about; not among `treatments`: hung up with [`CAUSE_NO_WAY_OUT`].
    pub last_resort: Option<TreatmentId>,
    /// What is dialled for a queue, where an agent passes a caller on to it.
    pub numbers: BTreeMap<Box<str>, QueueId>,
    /// The treatment by which callers go on to a number that an agent passes them on to; `None`: that is not allowed.
    pub numbers_by: Option<TreatmentId>,
    /// A call of an agent's phone whose end nobody tells is believed in for so long, in ms.
    pub own_call_max_ms: u64,
}

/// [`Setup::own_call_max_ms`], if nobody says otherwise: four hours.
pub const OWN_CALL_MAX_MS: u64 = 14_400_000;

impl Setup {
    /// The one agent whose address has this user part; `None`: none, or several.
    pub fn agent_of_user(&self, user: &str) -> Option<&AgentId> {
        let is_theirs = |aor: &str| aor.split_once('@').is_some_and(|(of, _)| of == user);
        let mut found = self.agents.iter().filter(|(_, rules)| is_theirs(&rules.aor)).map(|(id, _)| id);
        let agent = found.next()?;
        found.next().is_none().then_some(agent)
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            queues: BTreeMap::new(),
            agents: BTreeMap::new(),
            treatments: BTreeMap::new(),
            last_resort: None,
            numbers: BTreeMap::new(),
            numbers_by: None,
            own_call_max_ms: OWN_CALL_MAX_MS,
        }
    }
}
