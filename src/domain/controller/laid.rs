//! Agents and queues that are laid down at run time, beside those of the configuration. Where both speak of the same one, the configuration
//! counts: what somebody has said at run time waits until it is silent.
//!
//! A reload goes through everything. What is said at run time comes by the thousands, and changes only what it speaks of.

use super::io::Change;
use super::told::Said;
use super::{Controller, QUEUES_MAX, RULES_MAX, Timer};
use crate::domain::agent::{Agent, AgentRules, AgentState, Then};
use crate::domain::call::TreatedFor;
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::queue::{QueueRules, Setup};
use crate::domain::time::EpochMs;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Controller {
    /// What the configuration says is this now.
    pub(super) fn set_file(&mut self, file: Arc<Setup>, now: EpochMs) {
        self.file = file;
        self.lay_down(now);
    }

    pub(super) fn lay_down(&mut self, now: EpochMs) {
        let setup = self.merged();
        self.set_setup(setup, now);
    }

    /// All together.
    pub(super) fn merged(&self) -> Arc<Setup> {
        self.file.with(&self.rules, &self.queues)
    }

    pub(super) fn set_agent_rules(&mut self, id: AgentId, rules: AgentRules, now: EpochMs) -> Said {
        if self.file.agents.contains_key(&id) {
            return Said::InFile;
        }
        if rules.memberships.keys().any(|queue| !self.setup.queues.contains_key(queue)) {
            return Said::NoQueue;
        }
        if [&self.agent_of, &self.aors].iter().any(|of| of.get(&rules.aor).is_some_and(|other| *other != id))
        {
            return Said::AorTaken;
        }
        if self.rules.get(&id) == Some(&rules) {
            return Said::Already;
        }
        if self.rules.len() >= RULES_MAX && !self.rules.contains_key(&id) {
            return Said::Full;
        }
        self.aors.insert(rules.aor.clone(), id.clone());
        if let Some(before) = self.rules.insert(id.clone(), rules.clone())
            && before.aor != rules.aor
        {
            self.aors.remove(&before.aor);
        }
        self.book.note(Change::Rules(id.clone(), Box::new(rules.clone())));
        self.lay_agent(&id, Some(rules), now);
        Said::Done
    }

    pub(super) fn drop_agent_rules(&mut self, id: &AgentId, now: EpochMs) -> Said {
        let Some(before) = self.rules.remove(id) else {
            return if self.file.agents.contains_key(id) { Said::InFile } else { Said::NoAgent };
        };
        self.aors.remove(&before.aor);
        self.book.note(Change::RulesGone(id.clone()));
        if !self.file.agents.contains_key(id) {
            self.lay_agent(id, None, now);
        }
        Said::Done
    }

    pub(super) fn set_queue_rules(&mut self, id: QueueId, rules: QueueRules, now: EpochMs) -> Said {
        if self.file.queues.contains_key(&id) {
            return Said::InFile;
        }
        if rules.ends.values().any(|treatment| !self.setup.treatments.contains_key(treatment)) {
            return Said::NoTreatment;
        }
        if self.queues.get(&id) == Some(&rules) {
            return Said::Already;
        }
        if self.queues.len() >= QUEUES_MAX && !self.queues.contains_key(&id) {
            return Said::QueuesFull;
        }
        self.queues.insert(id.clone(), rules.clone());
        self.book.note(Change::Queue(id.clone(), Box::new(rules.clone())));
        self.lay_queue(&id, Some(rules), now);
        Said::Done
    }

    /// Calls that wait in it are treated, as those of a queue that a reload takes away.
    pub(super) fn drop_queue_rules(&mut self, id: &QueueId, now: EpochMs) -> Said {
        if self.queues.remove(id).is_none() {
            return if self.file.queues.contains_key(id) { Said::InFile } else { Said::NoQueue };
        }
        self.book.note(Change::QueueGone(id.clone()));
        if !self.file.queues.contains_key(id) {
            self.lay_queue(id, None, now);
        }
        Said::Done
    }

    /// One agent is laid down so, or no longer.
    fn lay_agent(&mut self, id: &AgentId, rules: Option<AgentRules>, now: EpochMs) {
        let left = self.count_as(id, (false, false));
        let aor = rules.as_ref().map(|rules| rules.aor.clone());
        let agents = &mut Arc::make_mut(&mut self.setup).agents;
        let before = match rules {
            Some(rules) => agents.insert(id.clone(), rules),
            None => agents.remove(id),
        };
        let before = before.map(|before| before.aor);
        if let Some(before) = &before {
            self.agent_of.remove(before);
        }
        match aor {
            Some(aor) => {
                if before.is_some_and(|before| before != aor) {
                    self.has_another_phone(id, now);
                }
                self.agent_of.insert(aor, id.clone());
                self.agent_comes(id, now);
                self.count(id, now);
                self.seek_for(id, now);
            }
            None => self.agent_goes(id, now),
        }
        left.iter().for_each(|queue| self.leave_if_empty(queue, now));
    }

    /// One queue is laid down so, or no longer.
    fn lay_queue(&mut self, id: &QueueId, rules: Option<QueueRules>, now: EpochMs) {
        match rules {
            Some(rules) => {
                self.matcher.set_queue(id, rules.matching.clone(), now);
                Arc::make_mut(&mut self.setup).queues.insert(id.clone(), rules);
            }
            None => {
                let before = Arc::make_mut(&mut self.setup).queues.remove(id);
                before.iter().for_each(|before| self.queue_goes(id, before));
            }
        }
        let line: Vec<CallId> = self.book.lines.get(id).into_iter().flatten().cloned().collect();
        line.iter().for_each(|call| self.stand_by_rules(call, now));
        self.leave_if_empty(id, now);
    }

    /// What is laid down is this now: agents come and go, calls of queues that are gone are treated.
    fn set_setup(&mut self, setup: Arc<Setup>, now: EpochMs) {
        let old = std::mem::replace(&mut self.setup, setup);
        let setup = self.setup.clone();
        self.agent_of = setup.agents.iter().map(|(id, rules)| (rules.aor.clone(), id.clone())).collect();
        for (queue, before) in old.queues.iter().filter(|(queue, _)| !setup.queues.contains_key(*queue)) {
            self.queue_goes(queue, before);
        }
        for (queue, rules) in &setup.queues {
            self.matcher.set_queue(queue, rules.matching.clone(), now);
        }
        let gone: Vec<AgentId> =
            self.book.agents.keys().filter(|id| !setup.agents.contains_key(*id)).cloned().collect();
        gone.iter().for_each(|id| self.agent_goes(id, now));
        for (id, rules) in &setup.agents {
            if old.agents.get(id).is_some_and(|before| before.aor != rules.aor) {
                self.has_another_phone(id, now);
            }
            self.agent_comes(id, now);
        }
        self.recount(now);
        let calls: Vec<CallId> = self.book.lines.values().flatten().cloned().collect();
        for id in calls {
            let Some(queue) = self.book.calls.get(&id).map(|held| &held.call.queue) else { continue };
            if setup.queues.get(queue).is_none_or(|rules| old.queues.get(queue) != Some(rules)) {
                self.stand_by_rules(&id, now);
            }
        }
        setup.queues.keys().for_each(|queue| self.leave_if_empty(queue, now));
    }

    /// What it has said of its end is kept for those who wait in it: some of them may be on nodes that are not heard at present.
    fn queue_goes(&mut self, id: &QueueId, before: &QueueRules) {
        self.matcher.remove_queue(id);
        self.gone_queues.retain(|queue, _| queue != id && self.book.lines.contains_key(queue));
        let end = before.ends.get(&TreatedFor::NoQueue);
        self.gone_queues.extend(end.map(|treatment| (id.clone(), treatment.clone())));
    }

    /// The rules of a call's queue are others now, or there are none.
    fn stand_by_rules(&mut self, id: &CallId, now: EpochMs) {
        let call = self.book.calls.get(id).map(|held| &held.call).filter(|call| call.stage.is_in_line());
        let Some(call) = call else { return };
        match self.setup.queues.get(&call.queue) {
            None if self.listed.contains(&call.channel.node) => self.treat_stranded(id, now),
            None => {}
            Some(rules) => {
                self.set_timer(call.joined + rules.wait_max_ms, Timer::Call(id.clone()));
                self.seek(id, now);
            }
        }
    }

    fn agent_comes(&mut self, id: &AgentId, now: EpochMs) {
        match self.book.agents.get_mut(id) {
            Some(held) => held.leaving = false,
            None => {
                let state = self.state_of_new(id);
                self.book.add_agent(Agent {
                    id: id.clone(),
                    state,
                    taken: BTreeMap::new(),
                    misses: 0,
                    idle_since: now,
                    own_calls: BTreeMap::new(),
                });
            }
        }
    }

    /// Now, or after the present leg.
    fn agent_goes(&mut self, id: &AgentId, now: EpochMs) {
        self.matcher.unready(id);
        match self.book.agents.get_mut(id) {
            Some(held) if held.agent.state.claim().is_some() => held.leaving = true,
            Some(_) => self.forget_agent(id, now),
            None => {}
        }
    }

    /// Somebody who was not known may have a leg: who was taken away and is laid down again, or whose record is lost. It claims them
    /// until its end is seen, as every leg does.
    fn state_of_new(&self, id: &AgentId) -> AgentState {
        let Some(offer) = self.book.offer_of_agent(id) else { return AgentState::Offline };
        offer.claim(Then::Leave)
    }

    /// Counts everybody anew, and lets the matching know them as they are laid down now.
    fn recount(&mut self, now: EpochMs) {
        self.present.clear();
        for (id, held) in &mut self.book.agents {
            let state = &held.agent.state;
            held.counted = (state.is_logged_in(), state.is_unpaused());
            if held.counted == (false, false) {
                continue;
            }
            for queue in self.setup.agents.get(id).into_iter().flat_map(|rules| rules.memberships.keys()) {
                let present = self.present.entry(queue.clone()).or_default();
                present.logged_in += usize::from(held.counted.0);
                present.unpaused += usize::from(held.counted.1);
            }
        }
        let agents: Vec<AgentId> = self.setup.agents.keys().cloned().collect();
        agents.iter().for_each(|id| self.seek_for(id, now));
    }
}
