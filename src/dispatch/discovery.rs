//! Nodes that the DNS names: asks again when an answer is no longer good, and makes of it what [`discovery::plan`] decides.
//!
//! Every instance does this by itself. Names of nodes derive from their places, so instances with the same answer make the same
//! changes, and whoever comes second finds nothing to do. An answer is applied once, when it comes: what the store holds then is
//! the last good one, for as long as the DNS fails.

use super::Dispatcher;
use super::nodes::{NodeDef, NodeError, put};
use super::seen::Pool;
use crate::clock::Stopwatch;
use crate::config::{Config, DiscoverConfig};
use crate::domain::discovery::{self, Act, Found, Known, Mark, Plan, Step, Template};
use crate::domain::id::PoolId;
use crate::domain::service::{Family, Service};
use crate::store::{NodeRecord, View, Written};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How often empty nodes are looked for, and a change is tried again that the store did not take.
const TICK: Duration = Duration::from_secs(1);

/// The longest pause between two questions while the DNS fails, in s, unless `refresh_min_s` is longer.
const RETRY_MAX_S: u64 = 60;

/// How often a change is tried again when somebody else was first.
const TRIES: u32 = 16;

/// Why nothing was found. The text names the question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Everybody answered, and there is no target.
    #[error("no target: {0}")]
    Empty(String),
    /// Something could not be asked, or the answer makes no sense.
    #[error("{0}")]
    Failed(String),
}

impl FindError {
    /// The word for it in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            FindError::Empty(_) => "empty",
            FindError::Failed(_) => "failed",
        }
    }
}

/// Somebody who looks services up.
#[async_trait]
pub trait Find: Send + Sync {
    /// The targets of a service; nothing in the answer is older than its TTL, or than `age_max_s`.
    async fn find(&self, service: &Service, family: Family, age_max_s: u32) -> Result<Found, FindError>;
}

/// A pool whose nodes are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The pool.
    pub pool: PoolId,
    /// What is looked up.
    pub service: Service,
    /// Which addresses count.
    pub family: Family,
    /// What is made of what is found.
    pub template: Template,
    /// It is not asked for more often, in s.
    pub refresh_min_s: u32,
    /// It is not asked for less often, in s.
    pub refresh_max_s: u32,
}

/// The pools of a configuration whose nodes are looked for.
pub fn from_config(config: &Config) -> Vec<Watched> {
    let watched = |pool: &PoolId, d: &DiscoverConfig| Watched {
        pool: pool.clone(),
        service: d.service.clone(),
        family: d.family,
        template: d.template.clone(),
        refresh_min_s: d.refresh_min_s,
        refresh_max_s: d.refresh_max_s,
    };
    config.pools.iter().filter_map(|p| p.discover.as_ref().map(|d| watched(&p.name, d))).collect()
}

/// One pool's look-ups, from one to the next.
pub struct Discovery {
    watched: Watched,
    pool: Arc<Pool>,
    find: Arc<dyn Find>,
    /// An answer that the store did not take yet.
    waiting: Option<Found>,
    /// Runs since the last good answer; since the start while there was none.
    good: Stopwatch,
    /// Failures since then.
    failures: u32,
    said: Said,
}

/// What was said last, so that it is said once.
#[derive(Default, PartialEq)]
struct Said {
    trouble: String,
    notes: Vec<String>,
    ttl_s: Option<u32>,
    left_out: (usize, usize),
}

impl Dispatcher {
    /// The look-ups for some pools; names of pools that are not there are passed over.
    pub fn discoveries(&self, watched: Vec<Watched>, find: &Arc<dyn Find>) -> Vec<Discovery> {
        let one = |watched: Watched| {
            let pool = self.pool(Some(&watched.pool)).ok()?;
            let find = find.clone();
            let (waiting, good, failures) = (None, Stopwatch::start(), 0);
            Some(Discovery { watched, pool, find, waiting, good, failures, said: Said::default() })
        };
        watched.into_iter().filter_map(one).collect()
    }
}

impl Discovery {
    /// Looks again and again until the task is dropped. `first`: after this long, when somebody has looked already.
    pub async fn watch(mut self, first: Duration) {
        let mut pause = first;
        loop {
            let clock = Stopwatch::start();
            loop {
                self.tick().await;
                let left = pause.saturating_sub(clock.elapsed());
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(TICK)).await;
            }
            pause = self.look().await;
        }
    }

    /// Asks once and applies the answer. After how long to ask again.
    pub async fn look(&mut self) -> Duration {
        let Watched { service, family, refresh_max_s, .. } = &self.watched;
        let answer = self.find.find(service, *family, *refresh_max_s).await;
        let pause = match answer {
            Ok(found) => {
                let word = if found.partial { "partial" } else { "found" };
                self.count(word);
                self.pool.metrics().discovery().nodes(self.watched.pool.as_str(), found.targets.len());
                (self.good, self.failures) = (Stopwatch::start(), 0);
                let pause = self.bounded(found.ttl_s);
                self.say_found(&found);
                self.waiting = Some(found);
                pause
            }
            Err(error) => {
                self.count(error.as_str());
                self.failures = self.failures.saturating_add(1);
                self.say_trouble(&error);
                self.retry_s()
            }
        };
        self.tick().await;
        Duration::from_secs(pause)
    }

    /// Applies what waits, and removes what is over.
    async fn tick(&mut self) {
        self.pool.metrics().discovery().age(self.watched.pool.as_str(), self.good.elapsed());
        if let Some(found) = &self.waiting {
            match self.pool.apply_found(Some(found), &self.watched.template).await {
                Ok(plan) => {
                    self.waiting = None;
                    self.say_plan(&plan);
                }
                Err(error) => self.say_store(&error),
            }
        } else if let Err(error) = self.pool.apply_found(None, &self.watched.template).await {
            self.say_store(&error);
        }
    }

    fn bounded(&mut self, ttl_s: u32) -> u64 {
        let Watched { pool, service, refresh_min_s, refresh_max_s, .. } = &self.watched;
        let used = ttl_s.clamp(*refresh_min_s, *refresh_max_s);
        let odd = (ttl_s == 0 || ttl_s > *refresh_max_s).then_some(used);
        if odd != self.said.ttl_s && odd.is_some() {
            info!(%pool, %service, ttl_s, asked_again_after_s = used, "a TTL out of bounds");
        }
        self.said.ttl_s = odd;
        u64::from(used)
    }

    /// Twice as long after each failure.
    fn retry_s(&self) -> u64 {
        let min_s = u64::from(self.watched.refresh_min_s);
        let doubled = min_s << self.failures.saturating_sub(1).min(16);
        doubled.min(RETRY_MAX_S.max(min_s))
    }

    fn count(&self, result: &'static str) {
        self.pool.metrics().discovery().answer(self.watched.pool.as_str(), result);
    }

    fn say_found(&mut self, found: &Found) {
        let Watched { pool, service, .. } = &self.watched;
        if !self.said.trouble.is_empty() {
            info!(%pool, %service, targets = found.targets.len(), "discovery works again");
            self.said.trouble.clear();
        }
        if self.said.notes != found.notes {
            for note in &found.notes {
                warn!(%pool, %service, partial = found.partial, note, "an odd answer of the DNS");
            }
            self.said.notes.clone_from(&found.notes);
        }
    }

    fn say_trouble(&mut self, error: &FindError) {
        let Watched { pool, service, .. } = &self.watched;
        let text = error.to_string();
        if self.said.trouble != text {
            let age_s = self.good.elapsed().as_secs();
            warn!(%pool, %service, %error, age_s, "discovery failed; the nodes stay as they are");
            self.said.trouble = text;
        }
    }

    fn say_store(&mut self, error: &NodeError) {
        let text = error.to_string();
        if self.said.trouble != text {
            warn!(pool = %self.watched.pool, %error, "what was discovered is not in the store yet");
            self.said.trouble = text;
        }
    }

    fn say_plan(&mut self, plan: &Plan) {
        let Watched { pool, service, template, .. } = &self.watched;
        let left_out = (plan.over, plan.elsewhere);
        if plan.over > 0 && self.said.left_out != left_out {
            warn!(%pool, %service, left_out = plan.over, nodes_max = template.nodes_max, "more targets than nodes_max");
        }
        self.said.left_out = left_out;
        for node in &plan.spared {
            warn!(%pool, %service, %node, "named no more, and kept active: without it no node would be");
        }
    }
}

impl Pool {
    /// Makes the changes that follow from an answer, or from time alone; tells what was decided.
    pub async fn apply_found(&self, found: Option<&Found>, template: &Template) -> Result<Plan, NodeError> {
        // What was seen half a second ago tells most times that there is nothing to do.
        if found.is_none() && decide(&self.seen().view, found, template).steps.is_empty() {
            return Ok(Plan::default());
        }
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..TRIES {
            let view = self.look_whole().await?;
            let plan = decide(&view, found, template);
            if plan.steps.is_empty() {
                return Ok(plan);
            }
            let nodes = self.apply_steps(&view, &plan.steps);
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                self.say_plan(&plan, version);
                self.refresh().await?;
                return Ok(plan);
            }
        }
        Err(NodeError::Busy(self.id.clone()))
    }

    fn apply_steps(&self, view: &View, steps: &[Step]) -> Vec<NodeRecord> {
        let mut nodes = view.nodes.clone();
        for step in steps {
            let Step { node, state, mark, .. } = step;
            let def = NodeDef {
                id: node.id.clone(),
                uri: node.uri.clone(),
                capacity: node.capacity,
                zone: node.zone.clone(),
                tags: node.tags.clone(),
                state: *state,
            };
            let mark = mark.map(|mark| mark.to_string());
            if let Err(error) = put(&mut nodes, &def, view.at, |_| mark.clone()) {
                warn!(pool = %self.id, node = %node.id, %error, "a discovered node is left out");
            }
        }
        nodes
    }

    fn say_plan(&self, plan: &Plan, version: u64) {
        let mut by_act: BTreeMap<Act, Vec<&str>> = BTreeMap::new();
        for step in &plan.steps {
            by_act.entry(step.act).or_default().push(step.node.id.as_str());
        }
        for (act, nodes) in by_act {
            self.metrics().discovery().changes(self.id.as_str(), act.as_str(), nodes.len());
            let some = nodes.iter().take(8).copied().collect::<Vec<_>>().join(" ");
            info!(pool = %self.id, version, act = act.as_str(), count = nodes.len(), nodes = some, "discovered");
        }
    }
}

fn decide(view: &View, found: Option<&Found>, template: &Template) -> Plan {
    let pairs = view.nodes.iter().zip(&view.loaded);
    let known = pairs.map(|(record, loaded)| Known {
        node: record.node.clone(),
        load: loaded.load,
        mark: mark(record),
    });
    match found {
        Some(found) => discovery::plan(&known.collect::<Vec<_>>(), found, template, view.at),
        None => {
            // Nothing is over where nothing is discovery's: most pools.
            let mine: Vec<Known> = known.filter(|k| k.mark.is_some()).collect();
            Plan { steps: discovery::expire(&mine, template, view.at), ..Plan::default() }
        }
    }
}

/// What discovery noted of a node; `None`: it is not discovery's.
pub fn mark(record: &NodeRecord) -> Option<Mark> {
    record.file_digest.as_deref()?.parse().ok()
}
