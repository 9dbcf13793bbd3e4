//! What a new leader makes of what it finds in the store. An offer is the truth about its agent and its call; what does not
//! agree with the offers, because the last writes are missing, is made to.

use super::{AGAIN_MS, Controller, Saved, Timer};
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::Stage;
use crate::domain::id::{AgentId, CallId, OfferId};
use crate::domain::offer::{OfferEnd, OfferStage};
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Controller {
    /// A controller that goes on where the last leader ended. No token of an earlier epoch opens a door any more, so an offer
    /// whose leg its node does not show is over.
    pub fn restore(epoch: u64, setup: Arc<Setup>, seed: u64, saved: Saved, now: EpochMs) -> Controller {
        let mut new = Controller::new(epoch, setup.clone(), seed, now);
        let mut claimed: BTreeMap<AgentId, OfferId> = BTreeMap::new();
        let mut live: BTreeMap<CallId, BTreeSet<OfferId>> = BTreeMap::new();
        for offer in saved.offers {
            claimed.entry(offer.agent.clone()).or_insert_with(|| offer.id.clone());
            match offer.stage {
                OfferStage::Ending { .. } => {}
                OfferStage::Making
                | OfferStage::Ringing { .. }
                | OfferStage::Connecting { .. }
                | OfferStage::Joined { .. } => {
                    live.entry(offer.call.clone()).or_default().insert(offer.id.clone());
                }
            }
            new.set_timer(now + AGAIN_MS, Timer::Offer(offer.id.clone()));
            if let OfferStage::Ringing { until } = offer.stage {
                new.set_timer(until, Timer::Offer(offer.id.clone()));
            }
            new.book.restore_offer(offer);
        }
        for mut agent in saved.agents {
            let id = agent.id.clone();
            let claim = claimed.remove(&id);
            agent.state = new.restored_state(agent.state, claim, now);
            if let AgentState::WrapUp { until } | AgentState::Ready { rests_until: until } = agent.state {
                new.set_timer(until, Timer::Agent(id.clone()));
            }
            new.book.add_agent(agent);
            let is_laid_down = setup.agents.contains_key(&id);
            if let Some(held) = new.book.agent_mut(&id) {
                held.leaving = !is_laid_down;
            }
            if !is_laid_down
                && new.book.agents.get(&id).is_some_and(|held| held.agent.state.claim().is_none())
            {
                new.book.remove_agent(&id);
            }
        }
        // Agents whose record is lost, and whose offer is not.
        for (agent, offer) in claimed {
            if let Some(held) = new.book.agent_mut(&agent) {
                held.agent.state = new_claim(offer);
            }
        }
        for call in saved.calls {
            let offers = live.remove(&call.id).unwrap_or_default();
            let stage = new.restored_stage(call.stage.clone(), offers);
            let changed = stage != call.stage;
            let id = call.id.clone();
            let until = setup.queues.get(&call.queue).map(|rules| call.joined + rules.wait_max_ms);
            new.book.restore_call(call);
            if changed {
                new.book.set_stage(&id, stage.clone());
            }
            match stage {
                Stage::Waiting | Stage::Offered { .. } => {
                    new.set_timer(until.unwrap_or(now), Timer::Call(id));
                }
                Stage::Treated { .. } | Stage::Ending { .. } => new.set_timer(now, Timer::Call(id)),
                Stage::Connecting { .. } | Stage::Connected { .. } => {}
            }
        }
        // Offers of calls that are gone.
        for offer in live.into_values().flatten() {
            new.end_offer(&offer, OfferEnd::Withdrawn, now);
        }
        new.recount(now);
        new.set_setup(setup, now);
        new.book.close();
        new
    }

    fn restored_state(&self, state: AgentState, claim: Option<OfferId>, now: EpochMs) -> AgentState {
        let Some(offer) = claim else {
            return match state {
                AgentState::Offered { then, .. } | AgentState::Talking { then, .. } => match then {
                    Then::Ready => AgentState::Ready { rests_until: now },
                    Then::Pause { reason } => AgentState::Paused { reason },
                    Then::Leave => AgentState::Offline,
                },
                AgentState::Offline
                | AgentState::Ready { .. }
                | AgentState::WrapUp { .. }
                | AgentState::Paused { .. } => state,
            };
        };
        let then = match state {
            AgentState::Offline => Then::Leave,
            AgentState::Ready { .. } | AgentState::WrapUp { .. } => Then::Ready,
            AgentState::Offered { then, .. } | AgentState::Talking { then, .. } => then,
            AgentState::Paused { reason } => Then::Pause { reason },
        };
        let joined = self.book.offers.get(&offer).map(|held| held.offer.stage.clone());
        match joined {
            Some(OfferStage::Joined { .. }) => AgentState::Talking { offer, then },
            Some(
                OfferStage::Making
                | OfferStage::Ringing { .. }
                | OfferStage::Connecting { .. }
                | OfferStage::Ending { .. },
            )
            | None => AgentState::Offered { offer, then },
        }
    }

    fn restored_stage(&self, stage: Stage, offers: BTreeSet<OfferId>) -> Stage {
        let answered = offers.iter().find_map(|id| {
            let held = self.book.offers.get(id)?;
            match held.offer.stage {
                OfferStage::Connecting { .. } => Some(Stage::Connecting { offer: id.clone() }),
                OfferStage::Joined { since } => Some(Stage::Connected { offer: id.clone(), since }),
                OfferStage::Making | OfferStage::Ringing { .. } | OfferStage::Ending { .. } => None,
            }
        });
        match stage {
            Stage::Treated { .. } | Stage::Ending { .. } => stage,
            Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. } | Stage::Connected { .. } => {
                let asked = || {
                    if offers.is_empty() { Stage::Waiting } else { Stage::Offered { offers: offers.clone() } }
                };
                answered.unwrap_or_else(asked)
            }
        }
    }
}

fn new_claim(offer: OfferId) -> AgentState {
    AgentState::Offered { offer, then: Then::Ready }
}
