//! The cell of the instance: its queues, agents and nodes.

use super::figures::Figures;
use crate::command::client::Instance;
use crate::command::output::{plain, told};
use crate::wire::queue_api::{AgentInfo, CellInfo, Listed, QueueInfo};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Rates are those of so much time.
const SPAN: Duration = Duration::from_secs(120);

/// Below this a rate says nothing.
const SPAN_MIN: Duration = Duration::from_secs(5);

/// What there is of a cell at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CellReading {
    /// Its name.
    pub id: String,
    /// Who leads; `null`: nobody.
    pub leader: Option<String>,
    /// Why there is nothing more: the instance could not read it.
    pub problem: Option<String>,
    /// Its queues, by name.
    pub queues: Vec<QueueLine>,
    /// Its agents, by name, as many as the instance tells at once.
    pub agents: Vec<AgentLine>,
    /// All of its agents.
    pub agents_total: usize,
    /// Nodes that it uses.
    pub nodes: Vec<NodeLine>,
    #[serde(skip)]
    pace: VecDeque<(Duration, Counts)>,
}

/// Calls that were answered, and abandoned, by queue.
type Counts = BTreeMap<String, (f64, f64)>;

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueLine {
    /// Its name.
    pub id: String,
    /// Calls that have a place in it.
    pub waiting: usize,
    /// How long the one has waited that has waited longest.
    pub longest_wait_ms: Option<u64>,
    /// Its agents by state.
    pub agents: BTreeMap<String, usize>,
    /// Calls of it that its agents took.
    pub taken: u64,
    /// Calls a minute that were joined with an agent; `null`: this instance does not lead, or not for long.
    pub answered_per_min: Option<f64>,
    /// Calls a minute whose callers hung up before.
    pub abandoned_per_min: Option<f64>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentLine {
    /// The name.
    pub id: String,
    /// The word for the state.
    pub state: String,
    /// Since when.
    pub since_ms: Option<u64>,
    /// The call that the agent is asked to take, or has.
    pub call: Option<String>,
    /// Calls taken.
    pub taken: u64,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeLine {
    /// The name.
    pub id: String,
    /// Whether the leader hears it; `null`: this instance does not lead.
    pub attached: Option<bool>,
    /// Calls of the cell.
    pub calls: usize,
    /// Legs to agents.
    pub legs: usize,
}

impl QueueLine {
    /// How many of its agents are in a state.
    pub fn of(&self, state: &str) -> usize {
        self.agents.get(state).copied().unwrap_or(0)
    }
}

impl AgentLine {
    /// For how long the agent has been in that state, in seconds.
    pub fn age_s(&self, now_ms: u64) -> Option<u64> {
        self.since_ms.map(|since| now_ms.saturating_sub(since) / 1000)
    }
}

/// What the instance said of its cell.
pub struct CellAnswers(pub Result<(CellInfo, Listed<QueueInfo>, Listed<AgentInfo>), String>);

impl CellAnswers {
    /// Asks. A cell that cannot be read hides nothing else.
    pub async fn ask(instance: &Instance) -> CellAnswers {
        let ask = async {
            Ok((
                instance.get("/v1/cell").await?,
                instance.get("/v1/queues").await?,
                instance.get("/v1/agents").await?,
            ))
        };
        CellAnswers(ask.await.map_err(|error: anyhow::Error| plain(&told(&error))))
    }

    /// Makes a reading of them.
    pub fn since(self, before: Option<&CellReading>, figures: &Figures, now: Duration) -> CellReading {
        let (cell, queues, agents) = match self.0 {
            Ok(answers) => answers,
            Err(problem) => return CellReading { problem: Some(problem), ..CellReading::default() },
        };
        let mut pace = before.map(|before| before.pace.clone()).unwrap_or_default();
        if figures.leads != Some(true) {
            pace.clear();
        }
        let count = |of: &BTreeMap<String, f64>, queue: &str| of.get(queue).copied().unwrap_or(0.0);
        let counted = |queue: &QueueInfo| {
            (queue.id.clone(), (count(&figures.answered, &queue.id), count(&figures.abandoned, &queue.id)))
        };
        pace.push_back((now, queues.items.iter().map(counted).collect()));
        while pace.front().is_some_and(|(at, _)| now.saturating_sub(*at) > SPAN) {
            pace.pop_front();
        }
        let first = pace.front().map(|(at, counts)| (now.saturating_sub(*at), counts));
        let first = first.filter(|(span, _)| figures.leads == Some(true) && *span >= SPAN_MIN);
        let queues = queues.items.into_iter().map(|queue| {
            let was = first.as_ref().and_then(|(span, counts)| Some((span, counts.get(&queue.id)?)));
            let per_min =
                |now: f64, was: f64, span: &Duration| (now - was).max(0.0) * 60.0 / span.as_secs_f64();
            QueueLine {
                answered_per_min: was.map(|(s, was)| per_min(count(&figures.answered, &queue.id), was.0, s)),
                abandoned_per_min: was
                    .map(|(s, was)| per_min(count(&figures.abandoned, &queue.id), was.1, s)),
                id: plain(&queue.id),
                waiting: queue.waiting,
                longest_wait_ms: queue.longest_wait_ms,
                agents: queue.agents.into_iter().map(|(state, count)| (plain(&state), count)).collect(),
                taken: queue.taken,
            }
        });
        let queues = queues.collect();
        let lines = agents.items.into_iter().map(|agent| AgentLine {
            id: plain(&agent.id),
            state: plain(&agent.doing.state),
            since_ms: agent.doing.since_ms,
            call: agent.doing.call.as_deref().map(plain),
            taken: agent.taken,
        });
        let mut nodes: BTreeMap<String, NodeLine> = BTreeMap::new();
        let node = |id: &str| NodeLine { id: plain(id), attached: None, calls: 0, legs: 0 };
        for (id, attached) in &figures.attached {
            nodes.entry(id.clone()).or_insert_with(|| node(id)).attached = Some(*attached);
        }
        for has in &cell.nodes {
            let line = nodes.entry(has.id.clone()).or_insert_with(|| node(&has.id));
            (line.calls, line.legs) = (has.calls, has.legs);
        }
        CellReading {
            id: plain(&cell.id),
            leader: cell.leader.map(|leader| plain(&leader.holder)),
            problem: None,
            queues,
            agents: lines.collect(),
            agents_total: agents.total,
            nodes: nodes.into_values().collect(),
            pace,
        }
    }
}
