//! Nodes that register themselves: what a heartbeat does, and what the steward does about those that fell silent.
//!
//! A heartbeat that says nothing new costs one word to the store, and changes no definition. The rules are
//! `domain::registration`'s.

use super::Dispatcher;
use super::nodes::{NodeDef, NodeError, TRIES, put};
use super::seen::Pool;
use crate::config::{Network, RegisterConfig};
use crate::domain::discovery;
use crate::domain::id::{NodeId, PoolId};
use crate::domain::node::NodeState;
use crate::domain::registration::{
    self, Beats, Decision, Heard, Known, Mark, Owner, Plan, Refused, Saying, Step, TTL_MIN_S, TTL_USUAL_S,
    Watch,
};
use crate::domain::time::EpochMs;
use crate::store::{Heartbeats, NodeRecord, StoreError, View, Written};
use crate::wire::heartbeat::HeartbeatAsk;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::refusal::BadRequest;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{info, warn};

/// What a heartbeat is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeartbeatInfo {
    /// The pool.
    pub pool: String,
    /// The node.
    pub id: String,
    /// `joined`, `returned`, `changed`, `leaving`, `removed`, or `kept`: nothing was changed.
    pub result: &'static str,
    /// Its state now: `active`, `draining`, `down`; `removed`: it is not there.
    pub state: &'static str,
    /// Its live leases.
    pub load: u32,
    /// For how long it is taken for alive, in s; `None`: no account is kept.
    pub ttl_s: Option<u32>,
    /// Until when, in ms since 1970 by the store's clock.
    pub expires_ms: Option<u64>,
}

/// Why a heartbeat was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// It is refused.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The store did not answer: say it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the steward knows of a pool's heartbeats.
#[derive(Default)]
pub struct Registry {
    watch: Mutex<Watch>,
    /// Who was spared last, so that it is said once.
    spared: Mutex<Vec<NodeId>>,
}

impl Dispatcher {
    /// Takes a heartbeat of a node.
    ///
    /// # Errors
    /// [`HeartbeatError`]; a refusal names the culprit.
    pub async fn heartbeat(
        &self,
        pool: &PoolId,
        ask: &HeartbeatAsk,
    ) -> Result<HeartbeatInfo, HeartbeatError> {
        let found = self.pool(Some(pool));
        let known = found.as_ref().map_or("", |pool| pool.id.as_str());
        let answered = match &found {
            Ok(pool) => pool.heartbeat(ask).await,
            Err(refusal) => Err(HeartbeatError::Refused(refusal.clone().into())),
        };
        let result = match &answered {
            Ok(info) => info.result,
            Err(HeartbeatError::Refused(_)) => "refused",
            Err(HeartbeatError::Store(_)) => "error",
        };
        self.metrics().registration().heartbeat(known, result);
        match &answered {
            Ok(_) => {}
            Err(HeartbeatError::Refused(why)) => {
                info!(%pool, node = %ask.node.id, code = why.code, reason = why.detail, "heartbeat refused");
            }
            Err(HeartbeatError::Store(error)) => {
                warn!(%pool, node = %ask.node.id, %error, "a heartbeat was not noted");
            }
        }
        answered
    }
}

impl Pool {
    async fn heartbeat(&self, ask: &HeartbeatAsk) -> Result<HeartbeatInfo, HeartbeatError> {
        let HeartbeatAsk { node, saying, ttl_s } = ask.clone();
        let register = self.settings.register.as_ref().ok_or_else(|| {
            let detail = format!("pool {} has no [pool.register]: nodes do not register in it", self.id);
            HeartbeatError::Refused(Problem::new(Trouble::NotOpen, detail).about("pool"))
        })?;
        self.check_network(ask, &register.networks)?;
        let ttl_s = ttl_s.unwrap_or(TTL_USUAL_S.min(register.limits.ttl_max_s));
        let heard = Heard { node, saying, ttl_s };
        let seen = self.seen();
        // Most heartbeats say nothing new. One that ends something wants to know the load of this moment.
        if saying == Saying::Active
            && !seen.is_assumed()
            && let Ok(Decision { step: None, lives_s, .. }) =
                self.decide(&seen.view, &heard, &Beats::new(), register)
        {
            let until = self.note(&heard.node.id, lives_s).await?;
            return Ok(self.answer(&seen.view, &heard.node.id, "kept", lives_s.zip(until)));
        }
        self.change_by(&heard, register).await
    }

    /// Changes what a heartbeat changes.
    async fn change_by(
        &self,
        heard: &Heard,
        register: &RegisterConfig,
    ) -> Result<HeartbeatInfo, HeartbeatError> {
        let id = &heard.node.id;
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..TRIES {
            let view = self.look_whole().await?;
            let beats = self.observe("beats", self.store().beats(&self.id)).await?;
            let decision = self.decide(&view, heard, &beats.until, register)?;
            // Before the definition: whoever sees a node must see that it lives.
            let until = self.note(id, decision.lives_s).await?;
            let lives = decision.lives_s.zip(until);
            let Some(step) = &decision.step else {
                return Ok(self.answer(&self.keep(view).view, id, "kept", lives));
            };
            let nodes = self.with_step(&view, step, decision.displaced.as_ref())?;
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                self.say_step(step, version, "by its heartbeat");
                if let Some(other) = &decision.displaced {
                    warn!(pool = %self.id, node = %other, by = %id, uri = %step.node.uri, "a silent node gave up its place");
                }
                return Ok(self.answer(&self.refresh().await?.view, id, step.act.as_str(), lives));
            }
        }
        let detail = NodeError::Busy(self.id.clone()).to_string();
        Err(HeartbeatError::Refused(Problem::new(Trouble::Busy, detail)))
    }

    /// Drains nodes whose heartbeat ran out, and removes those that are empty: the steward's part.
    pub(super) async fn pass_silence(&self) -> Result<(), StoreError> {
        let seen = self.seen();
        if !seen.view.nodes.iter().any(|record| mark(record).is_some()) {
            return Ok(());
        }
        let beats = self.observe("beats", self.store().beats(&self.id)).await?;
        let since = lock(&self.registry.watch).look(beats.at, beats.history);
        let plan = registration::plan(&known(&seen.view), &beats.until, since, beats.at);
        self.say_spared(&plan);
        if plan.steps.is_empty() {
            return self.forget_beats(&seen.view, &beats.until, beats.at).await;
        }
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..TRIES {
            // In this order: whoever is in the definitions was heard of before.
            let view = self.look_whole().await?;
            let beats = self.observe("beats", self.store().beats(&self.id)).await?;
            let plan = registration::plan(&known(&view), &beats.until, since, beats.at);
            if plan.steps.is_empty() {
                return Ok(());
            }
            let mut nodes = view.clone().nodes;
            for step in &plan.steps {
                self.put_step(&mut nodes, step, view.at);
            }
            if let Written::Done(version) = self.write(&view, &nodes).await? {
                for step in &plan.steps {
                    let until = beats.until.get(&step.node.id).copied().unwrap_or(since);
                    let silent_ms = beats.at.since(until);
                    self.say_step(step, version, &format!("no heartbeat for {silent_ms} ms beyond its time"));
                }
                return self.refresh().await.map(|_| ());
            }
        }
        // Whoever is first each time has seen the same silence, or the next round tries again.
        Ok(())
    }

    /// When the heartbeats of its nodes run out, where it has registered ones and the store says it.
    pub(super) async fn heartbeats(&self, view: &View) -> Option<Heartbeats> {
        if !view.nodes.iter().any(|record| mark(record).is_some()) {
            return None;
        }
        self.observe("beats", self.store().beats(&self.id)).await.ok()
    }

    /// Says how many registered nodes there are.
    pub(super) fn count_registered(&self) {
        let seen = self.seen();
        let marks: Vec<Mark> = seen
            .view
            .nodes
            .iter()
            .filter(|record| record.node.state != NodeState::Removed)
            .filter_map(mark)
            .collect();
        if marks.is_empty() && self.settings.register.is_none() {
            return;
        }
        for word in ["live", "silent", "leaving"] {
            let count = marks.iter().filter(|mark| mark.as_str() == word).count();
            self.metrics().registration().nodes(self.id.as_str(), word, count);
        }
    }

    fn check_network(&self, ask: &HeartbeatAsk, networks: &[Network]) -> Result<(), HeartbeatError> {
        let uri = &ask.node.uri;
        let wrong = |why: &str| {
            HeartbeatError::Refused(Problem::from(BadRequest::new("uri", format!("{uri}: {why}"))))
        };
        let address: IpAddr = uri
            .host()
            .parse()
            .map_err(|_| wrong("a node that registers itself names its IP address, not a host name"))?;
        if networks.iter().any(|network| network.contains(address.to_canonical())) {
            return Ok(());
        }
        Err(wrong(&format!("{address} is in none of pool {}'s register.networks", self.id)))
    }

    fn decide(
        &self,
        view: &View,
        heard: &Heard,
        beats: &Beats,
        register: &RegisterConfig,
    ) -> Result<Decision, HeartbeatError> {
        registration::heartbeat(&known(view), heard, beats, &register.limits, view.at)
            .map_err(|refused| HeartbeatError::Refused(self.problem(refused)))
    }

    fn problem(&self, refused: Refused) -> Problem {
        let pool = &self.id;
        let bad = |field: &str, reason: String| Problem::from(BadRequest::new(field, reason));
        match refused {
            Refused::Capacity { found, most } => {
                bad("capacity", format!("{found}; 1 to {most} channels are allowed in pool {pool}"))
            }
            Refused::Ttl { found, most } => {
                bad("ttl_s", format!("{found}; {TTL_MIN_S} to {most} s are allowed in pool {pool}"))
            }
            Refused::Owned { id, by } => {
                let detail = format!(
                    "node {id} of pool {pool} belongs to {}; heartbeats do not change it",
                    by.as_str()
                );
                Problem::new(Trouble::Owned, detail).about("id")
            }
            Refused::SameUri { uri, other } => {
                let error = NodeError::SameUri { uri, other };
                Problem::new(Trouble::SameUri, error.to_string()).about("uri")
            }
            Refused::TooMany { most } => {
                let detail = format!("pool {pool} has {most} registered nodes, the most that it takes");
                Problem::new(Trouble::TooMany, detail)
            }
        }
    }

    async fn note(&self, node: &NodeId, lives_s: Option<u32>) -> Result<Option<EpochMs>, StoreError> {
        let Some(ttl_s) = lives_s else { return Ok(None) };
        let ttl_ms = u64::from(ttl_s) * 1000;
        self.observe("beat", self.store().beat(&self.id, node, ttl_ms)).await.map(Some)
    }

    fn with_step(
        &self,
        view: &View,
        step: &Step,
        displaced: Option<&NodeId>,
    ) -> Result<Vec<NodeRecord>, HeartbeatError> {
        let mut nodes = view.nodes.clone();
        for record in nodes.iter_mut().filter(|record| Some(&record.node.id) == displaced) {
            Arc::make_mut(&mut record.node).state = NodeState::Removed;
            (record.file_digest, record.since) = (None, view.at);
        }
        put_step(&mut nodes, step, view.at).map_err(|error| {
            HeartbeatError::Refused(Problem::new(Trouble::TooMany, error.to_string()).about("id"))
        })?;
        Ok(nodes)
    }

    fn put_step(&self, nodes: &mut Vec<NodeRecord>, step: &Step, now: EpochMs) {
        // These are there already, and have their slots.
        if let Err(error) = put_step(nodes, step, now) {
            warn!(pool = %self.id, node = %step.node.id, %error, "a registered node is left as it is");
        }
    }

    fn say_step(&self, step: &Step, version: u64, why: &str) {
        let Step { act, node, state, .. } = step;
        self.metrics().registration().change(self.id.as_str(), act.as_str());
        let (pool, act, capacity) = (&self.id, act.as_str(), node.capacity);
        info!(%pool, node = %node.id, act, %state, uri = %node.uri, capacity, why, version, "registration");
    }

    fn say_spared(&self, plan: &Plan) {
        let mut said = lock(&self.registry.spared);
        if *said == plan.spared {
            return;
        }
        if plan.spared.is_empty() {
            info!(pool = %self.id, "heartbeats count again");
        } else {
            let some = plan.spared.iter().take(8).map(NodeId::as_str).collect::<Vec<_>>().join(" ");
            warn!(pool = %self.id, count = plan.spared.len(), nodes = some, "no heartbeat, and kept active: nobody is heard of, or none would be left");
        }
        said.clone_from(&plan.spared);
    }

    /// Forgets heartbeats of nodes that are no longer there.
    async fn forget_beats(&self, view: &View, beats: &Beats, now: EpochMs) -> Result<(), StoreError> {
        let here = view.nodes.iter().filter(|record| mark(record).is_some()).map(|record| &record.node.id);
        let here: BTreeSet<&NodeId> = here.collect();
        let over = beats.iter().filter(|(id, until)| **until <= now && !here.contains(id));
        let over: Vec<NodeId> = over.map(|(id, _)| id.clone()).collect();
        if over.is_empty() {
            return Ok(());
        }
        self.observe("forget_beats", self.store().forget_beats(&self.id, &over)).await
    }

    fn answer(
        &self,
        view: &View,
        id: &NodeId,
        result: &'static str,
        lives: Option<(u32, EpochMs)>,
    ) -> HeartbeatInfo {
        let found = view.loaded.iter().find(|n| n.node.id == *id);
        HeartbeatInfo {
            pool: self.id.to_string(),
            id: id.to_string(),
            result,
            state: found.map_or(NodeState::Removed, |n| n.node.state).as_str(),
            load: found.map_or(0, |n| n.load),
            ttl_s: lives.map(|(ttl_s, _)| ttl_s),
            expires_ms: lives.map(|(_, until)| until.0),
        }
    }
}

/// What a registered node noted of itself; `None`: it did not register.
pub fn mark(record: &NodeRecord) -> Option<Mark> {
    record.file_digest.as_deref()?.parse().ok()
}

fn owner(record: &NodeRecord) -> Owner {
    match (mark(record), discovery_mark(record), &record.file_digest) {
        (Some(mark), _, _) => Owner::Itself(mark),
        (None, Some(_), _) => Owner::Dns,
        (None, None, Some(_)) => Owner::File,
        (None, None, None) => Owner::Hand,
    }
}

fn discovery_mark(record: &NodeRecord) -> Option<discovery::Mark> {
    super::discovery::mark(record)
}

fn known(view: &View) -> Vec<Known> {
    let pairs = view.nodes.iter().zip(&view.loaded);
    pairs.map(|(r, n)| Known { node: r.node.clone(), load: n.load, owner: owner(r) }).collect()
}

fn put_step(nodes: &mut Vec<NodeRecord>, step: &Step, now: EpochMs) -> Result<(), NodeError> {
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
    put(nodes, &def, now, |_| mark.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code panics while it holds the lock; if one did, what is in it is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
