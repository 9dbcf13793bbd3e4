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
        let mut new = Controller::new(epoch, setup, seed, now);
        new.rules = saved.rules.into_iter().collect();
        new.aors = new.rules.iter().map(|(id, rules)| (rules.aor.clone(), id.clone())).collect();
        new.queues = saved.queues.into_iter().collect();
        let setup = new.merged();
        let mut claimed: BTreeMap<AgentId, OfferId> = BTreeMap::new();
        let mut live: BTreeMap<CallId, BTreeSet<OfferId>> = BTreeMap::new();
        for offer in saved.offers {
            claimed.entry(offer.agent.clone()).or_insert_with(|| offer.id.clone());
            match offer.stage {
                OfferStage::Ending { .. } => {}
                OfferStage::Making
                | OfferStage::Ringing { .. }
                | OfferStage::Announcing { .. }
                | OfferStage::Connecting { .. }
                | OfferStage::Joined { .. } => {
                    live.entry(offer.call.clone()).or_default().insert(offer.id.clone());
                }
            }
            new.set_timer(now + AGAIN_MS, Timer::Offer(offer.id.clone()));
            if let OfferStage::Ringing { until } | OfferStage::Announcing { until } = offer.stage {
                new.set_timer(until, Timer::Offer(offer.id.clone()));
            }
            new.book.restore_offer(offer);
        }
        for agent in saved.agents {
            let id = agent.id.clone();
            let claim = claimed.remove(&id);
            let state = new.restored_state(agent.state.clone(), claim, now);
            if let AgentState::WrapUp { until } | AgentState::Ready { rests_until: until } = state {
                new.set_timer(until, Timer::Agent(id.clone()));
            }
            let changed = state != agent.state;
            new.book.add_agent(agent);
            if changed && let Some(held) = new.book.agent_mut(&id) {
                held.agent.state = state;
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
            let rings = new.ringing(&offers);
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
                Stage::Connected { .. } => {
                    // For whom would it ring, if not for a transfer?
                    if let Some(held) = new.book.calls.get_mut(&id) {
                        held.transfer = rings;
                    }
                }
                Stage::Connecting { .. } => {}
            }
        }
        // Offers of calls that are gone.
        for offer in live.into_values().flatten() {
            new.end_offer(&offer, OfferEnd::Withdrawn, now);
        }
        // Who is laid down no longer goes, now or after the call.
        new.lay_down(now);
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
        match self.book.offers.get(&offer) {
            Some(held) => held.offer.claim(then),
            None => AgentState::Offered { offer, then },
        }
    }

    /// The last one of these offers that is not answered.
    fn ringing(&self, offers: &BTreeSet<OfferId>) -> Option<OfferId> {
        let all = offers.iter().filter_map(|id| self.book.offers.get(id));
        let ringing = all.filter(|held| match held.offer.stage {
            OfferStage::Making | OfferStage::Ringing { .. } => true,
            OfferStage::Announcing { .. }
            | OfferStage::Connecting { .. }
            | OfferStage::Joined { .. }
            | OfferStage::Ending { .. } => false,
        });
        ringing.max_by_key(|held| held.offer.made).map(|held| held.offer.id.clone())
    }

    fn restored_stage(&self, stage: Stage, offers: BTreeSet<OfferId>) -> Stage {
        let answered = offers.iter().find_map(|id| {
            let held = self.book.offers.get(id)?;
            match held.offer.stage {
                OfferStage::Announcing { .. } | OfferStage::Connecting { .. } => {
                    Some(Stage::Connecting { offer: id.clone() })
                }
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
