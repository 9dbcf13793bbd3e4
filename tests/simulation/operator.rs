//! An operator, who lays agents down beside those of the configuration and takes them away again, also while their phones ring.

use super::checks::Failure;
use super::ladder::Who;
use super::plan::PLAIN;
use super::world::{Ev, World};
use mqs::cell::pilot::Commit;
use mqs::domain::agent::{Agent, AgentRules};
use mqs::domain::controller::{Change, Command};
use mqs::domain::id::AgentId;
use mqs::domain::matching::Membership;
use mqs::domain::offer::OfferStage;
use std::sync::Arc;

impl World {
    /// What an operator does next.
    pub fn operate(&mut self) {
        if self.healed {
            return;
        }
        let guests: Vec<AgentId> = self.plan.guests.keys().cloned().collect();
        let id = guests[self.rng.usize(..guests.len())].clone();
        let rules = self.plan.guests[&id].clone();
        let command = match self.rng.u8(..20) {
            0..9 => {
                let later = self.rng.u64(50..4_000);
                let key = self.next_key();
                self.after(later, Ev::Send(key, Command::Login(id.clone())));
                Command::SetAgent(id, Box::new(self.otherwise(rules)))
            }
            9..17 => Command::RemoveAgent(id),
            // What is refused, and changes nothing.
            17 => Command::SetAgent(self.agents[0].id.clone(), Box::new(rules)),
            18 => {
                let aor: Arc<str> = self.agents[self.rng.usize(..self.plan.setup.agents.len())].aor.clone();
                Command::SetAgent(id, Box::new(AgentRules { aor, ..rules }))
            }
            _ => {
                let nowhere = ("nowhere".parse().unwrap(), Membership { penalty: 0, weight: 0 });
                Command::SetAgent(id, Box::new(AgentRules { memberships: [nowhere].into(), ..rules }))
            }
        };
        self.command(command);
        let next = self.rng.u64(4_000..25_000);
        self.after(next, Ev::Operator);
    }

    /// The same person, with other rules: skills stay, since [`World::check_order`] looks at them.
    fn otherwise(&mut self, rules: AgentRules) -> AgentRules {
        let mut memberships = rules.memberships.clone();
        if self.rng.bool() {
            memberships.insert("small".parse().unwrap(), Membership { penalty: 1, weight: 0 });
        }
        if self.rng.u8(..5) == 0 {
            memberships.remove(&PLAIN.parse().unwrap());
        }
        AgentRules { memberships, wrap_up_ms: [None, Some(0), Some(3_000)][self.rng.usize(..3)], ..rules }
    }

    /// After the heal: all guests are there, and half of them go for good when everybody is at work.
    pub fn lay_down_again(&mut self, id: &AgentId) {
        let Some(rules) = self.plan.guests.get(id).cloned() else { return };
        let key = self.next_key();
        let soon = self.rng.u64(3_000..4_500);
        self.after(soon, Ev::Send(key, Command::SetAgent(id.clone(), Box::new(rules))));
        if !self.stays(id) {
            let (key, later) = (self.next_key(), self.rng.u64(20_000..40_000));
            self.after(later, Ev::Send(key, Command::RemoveAgent(id.clone())));
        }
    }

    fn stays(&self, id: &AgentId) -> bool {
        self.plan.guests.keys().position(|guest| guest == id).is_some_and(|number| number % 2 == 0)
    }

    /// Nobody is newly called whom the store does not know to be laid down.
    pub fn check_laid(&mut self, commit: &Commit) {
        if commit.rewrite.is_some_and(|rewrite| rewrite.first) {
            self.store.laid.clear();
        }
        for change in &commit.changes {
            match change {
                Change::Rules(id, _) => {
                    let is_new = self.store.laid.insert(id.clone());
                    let word = if is_new && self.is_called(id) { "laid down in a call" } else { "laid down" };
                    self.coverage.count("operator", word);
                }
                Change::RulesGone(id) => {
                    self.store.laid.remove(id);
                    let word = if self.is_called(id) { "taken away in a call" } else { "taken away" };
                    self.coverage.count("operator", word);
                }
                Change::Offer(offer)
                    if commit.rewrite.is_none()
                        && offer.stage == OfferStage::Making
                        && !self.issued.contains_key(&offer.id)
                        && !self.plan.setup.agents.contains_key(&offer.agent) =>
                {
                    self.coverage.count("operator", "called");
                    if !self.store.laid.contains(&offer.agent) {
                        let what = format!("{} is called, and is laid down nowhere", offer.agent);
                        let number = self.agents.iter().position(|of| of.id == offer.agent);
                        self.fail("Laid", what, number.map_or(Who::default(), Who::agent));
                    }
                }
                _ => {}
            }
        }
    }

    fn is_called(&self, id: &AgentId) -> bool {
        self.agents.iter().any(|agent| agent.id == *id && !agent.legs.is_empty())
    }

    /// In the end those are laid down who were to be, and no others are known.
    pub fn check_laid_in_the_end(&mut self, rules: &[(AgentId, AgentRules)], agents: &[Agent]) {
        for id in self.plan.guests.keys() {
            let is_laid = rules.iter().any(|(laid, _)| laid == id);
            let is_known = agents.iter().any(|agent| agent.id == *id);
            if (is_laid, is_known) != (self.stays(id), self.stays(id)) {
                let what = format!("{id} in the end: laid down {is_laid}, known {is_known}");
                let who = self.agents.iter().position(|of| of.id == *id).map_or(Who::default(), Who::agent);
                self.failure.get_or_insert(Failure::new("Laid", self.now, what, who));
            }
        }
    }
}
