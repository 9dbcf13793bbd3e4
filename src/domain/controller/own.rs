//! Calls of an agent's phone that no offer brought: made by the agent, or to the agent directly. Who has one is not asked to take
//! another. They end when their Kamailio says so; without a word, by time.

use super::told::What;
use super::{Controller, Timer};
use crate::domain::agent::{Agent, OWN_CALLS_MAX, OwnCall, OwnCallId};
use crate::domain::id::{AgentId, ProxyId};
use crate::domain::time::EpochMs;

/// The end of an own call is remembered for so long, in ms: its beginning may be told behind it.
const ENDED_KEPT_MS: u64 = 600_000;

/// Ends that are remembered of one agent.
const ENDED_KEPT_MAX: usize = 16;

/// Until when an agent's own calls are believed in, if the end of none is told: the oldest goes first.
pub(super) fn believed_until(agent: &Agent, longest_ms: u64) -> Option<EpochMs> {
    agent.own_calls.values().map(|call| call.since + longest_ms).min()
}

impl Controller {
    pub(super) fn own_call_began(&mut self, aor: &str, call: OwnCallId, proxy: ProxyId, now: EpochMs) {
        let Some(id) = self.agent_of.get(aor).cloned() else { return };
        let Some(held) = self.book.agents.get(&id) else { return };
        let own = &held.agent.own_calls;
        let known = own.contains_key(&call) || held.ended.iter().any(|(ended, _)| *ended == call);
        if known || own.len() >= OWN_CALLS_MAX {
            return;
        }
        self.set_timer(now + self.setup.own_call_max_ms, Timer::Agent(id.clone()));
        self.change_own_calls(&id, now, |agent| {
            agent.own_calls.insert(call, OwnCall { proxy, since: now });
        });
    }

    pub(super) fn own_call_ended(&mut self, aor: &str, call: &OwnCallId, now: EpochMs) {
        let Some(id) = self.agent_of.get(aor).cloned() else { return };
        let Some(held) = self.book.agents.get_mut(&id) else { return };
        held.ended.retain(|(ended, at)| ended != call && *at + ENDED_KEPT_MS > now);
        held.ended.push_back((call.clone(), now));
        if held.ended.len() > ENDED_KEPT_MAX {
            held.ended.pop_front();
        }
        if held.agent.own_calls.contains_key(call) {
            self.change_own_calls(&id, now, |agent| drop(agent.own_calls.remove(call)));
        }
    }

    /// What a Kamailio had that has forgotten it. A phone that is still in such a call says so when it is asked: 486.
    pub(super) fn own_calls_lost(&mut self, proxy: &ProxyId, now: EpochMs) {
        let has = |agent: &Agent| agent.own_calls.values().any(|call| call.proxy == *proxy);
        let whose = self.book.agents.values().filter(|held| has(&held.agent));
        let whose: Vec<AgentId> = whose.map(|held| held.agent.id.clone()).collect();
        for id in whose {
            self.change_own_calls(&id, now, |agent| agent.own_calls.retain(|_, call| call.proxy != *proxy));
        }
    }

    /// Own calls that are too old end.
    pub(super) fn own_calls_due(&mut self, id: &AgentId, now: EpochMs) {
        let longest_ms = self.setup.own_call_max_ms;
        let Some(held) = self.book.agents.get(id) else { return };
        if believed_until(&held.agent, longest_ms).is_some_and(|until| until <= now) {
            self.change_own_calls(id, now, |agent| {
                agent.own_calls.retain(|_, call| call.since + longest_ms > now);
            });
        }
    }

    /// Another phone is the agent's now: nobody will tell the end of a call of the one before, and where that one is registered says
    /// nothing.
    pub(super) fn has_another_phone(&mut self, id: &AgentId, now: EpochMs) {
        let Some(held) = self.book.agents.get_mut(id) else { return };
        held.contacts.clear();
        held.ended.clear();
        held.silent_since = None;
        if held.agent.is_in_use() {
            self.change_own_calls(id, now, |agent| agent.own_calls.clear());
        }
    }

    fn change_own_calls(&mut self, id: &AgentId, now: EpochMs, change: impl FnOnce(&mut Agent)) {
        let Some(held) = self.book.agent_mut(id) else { return };
        let before = held.agent.word();
        change(&mut held.agent);
        let word = held.agent.word();
        if word != before {
            self.book.tell(now, What::Agent { agent: id.clone(), state: word });
        }
        self.seek_for(id, now);
    }
}
