//! Offers: how they are made, answered, joined and ended.

use super::io::{Effect, LegEnd, Originate, Outcome};
use super::told::What;
use super::{AGAIN_MS, CRASHES_MAX, Controller, JOIN_TRIES, Seeded, Timer};
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::{Call, Channel, DoneReason, Stage, TreatedFor};
use crate::domain::id::{AgentId, CallId, NodeId, OfferId, QueueId};
use crate::domain::matching::Match;
use crate::domain::offer::{Offer, OfferEnd, OfferStage};
use crate::domain::queue::CAUSE_NORMAL;
use crate::domain::time::EpochMs;
use std::collections::BTreeSet;

/// Channels of legs begin with this; the rest is the offer's id.
pub const LEG_PREFIX: &str = "mqs-";

/// How long the ring of an offer may be if nothing says so: its queue was taken away meanwhile.
const RING_DEFAULT_MS: u64 = 20_000;

/// The offer whose leg has this name; `None`: it is no leg.
pub fn offer_of(leg: &Channel) -> Option<OfferId> {
    leg.id.as_str().strip_prefix(LEG_PREFIX)?.parse().ok()
}

/// The leg of an offer, on this node.
pub(super) fn leg_of(offer: &OfferId, node: &NodeId) -> Option<Channel> {
    Some(Channel { node: node.clone(), id: format!("{LEG_PREFIX}{offer}").parse().ok()? })
}

impl Controller {
    /// Makes every offer that can be made.
    pub(super) fn offer_all(&mut self, now: EpochMs) {
        while self.offering
            && let Some(found) = self.matcher.next(now)
        {
            self.offer(found, now);
        }
    }

    fn offer(&mut self, found: Match, now: EpochMs) {
        self.matcher.leave(&found.call);
        let mut offers = BTreeSet::new();
        for agent in &found.agents {
            if let Some(id) = self.offer_to(&found.call, &found.queue, agent, now) {
                offers.insert(id);
            }
            self.matcher.unready(agent);
            self.matcher.offered(&found.queue, agent);
        }
        if offers.is_empty() {
            return;
        }
        self.book.set_stage(&found.call, Stage::Offered { offers });
        if let Some(held) = self.book.call_mut(&found.call) {
            held.call.tries += 1;
        }
    }

    pub(super) fn offer_to(
        &mut self,
        call: &CallId,
        queue: &QueueId,
        agent: &AgentId,
        now: EpochMs,
    ) -> Option<OfferId> {
        let held = self.book.calls.get(call)?;
        let (caller, identity) = (held.call.channel.clone(), held.call.identity.clone());
        let waited_ms = now.since(held.call.enqueued);
        let rules = self.setup.agents.get(agent)?;
        let proxy = self.book.agents.get(agent)?.contacts.first()?.proxy.clone();
        let ring_ms = self.ring_ms(agent, queue);
        self.offers_made += 1;
        let id: OfferId = format!("{:x}-{:x}", self.epoch, self.offers_made).parse().ok()?;
        let leg = leg_of(&id, &caller.node)?;
        let originate = Originate {
            offer: id.clone(),
            leg: leg.clone(),
            caller,
            call: call.clone(),
            queue: queue.clone(),
            agent: agent.clone(),
            aor: rules.aor.clone(),
            proxy: proxy.clone(),
            identity,
            ring_ms,
        };
        let offer = Offer {
            id: id.clone(),
            call: call.clone(),
            agent: agent.clone(),
            queue: queue.clone(),
            leg,
            proxy,
            made: now,
            stage: OfferStage::Making,
        };
        self.book.add_offer(offer, now);
        self.set_agent(agent, AgentState::Offered { offer: id.clone(), then: Then::Ready }, now);
        let (call, agent, queue) = (call.clone(), agent.clone(), queue.clone());
        self.book.tell(now, What::Offered { offer: id.clone(), call, agent, queue, waited_ms });
        self.book.act(Effect::Originate(originate));
        Some(id)
    }

    fn ring_ms(&self, agent: &AgentId, queue: &QueueId) -> u64 {
        let own = self.setup.agents.get(agent).and_then(|rules| rules.ring_ms);
        own.or_else(|| self.setup.queues.get(queue).map(|rules| rules.ring_ms)).unwrap_or(RING_DEFAULT_MS)
    }

    /// The leg is there, or is taken to be: the agent's time runs.
    pub(super) fn rings(&mut self, id: &OfferId, now: EpochMs) {
        let Some(held) = self.book.offers.get(id) else { return };
        if held.offer.stage != OfferStage::Making {
            return;
        }
        let until = now + self.ring_ms(&held.offer.agent, &held.offer.queue);
        if let Some(held) = self.book.offer_mut(id) {
            held.offer.stage = OfferStage::Ringing { until };
            held.seen = now;
        }
        self.set_timer(until, Timer::Offer(id.clone()));
    }

    /// The leg of an offer was answered.
    pub(super) fn leg_answered(&mut self, id: &OfferId, leg: Channel, now: EpochMs) {
        let Some(held) = self.book.offers.get_mut(id).filter(|held| held.offer.leg == leg) else {
            // Nobody waits for it: an agent must not be left in silence.
            self.book.act(Effect::DropLeg { offer: id.clone(), leg, void: false });
            return;
        };
        held.seen = now;
        match held.offer.stage {
            OfferStage::Making | OfferStage::Ringing { .. } => {
                let call = held.offer.call.clone();
                if self.transfer_answered(&call, id, now) {
                    return;
                }
                let offers = match self.book.calls.get(&call).map(|held| &held.call.stage) {
                    Some(Stage::Offered { offers }) => offers.clone(),
                    Some(
                        Stage::Waiting
                        | Stage::Connecting { .. }
                        | Stage::Connected { .. }
                        | Stage::Treated { .. }
                        | Stage::Ending { .. },
                    )
                    | None => BTreeSet::new(),
                };
                if !offers.contains(id) {
                    self.end_offer(id, OfferEnd::Withdrawn, now);
                    return;
                }
                self.book.set_stage(&call, Stage::Connecting { offer: id.clone() });
                self.announce(id, now);
                for other in offers.iter().filter(|other| *other != id) {
                    self.end_offer(other, OfferEnd::Superseded, now);
                }
            }
            OfferStage::Announcing { .. } | OfferStage::Connecting { .. } | OfferStage::Joined { .. } => {}
            OfferStage::Ending { .. } => {
                self.book.act(Effect::DropLeg { offer: id.clone(), leg, void: false });
            }
        }
    }

    /// The agent of an offer gets this call, whichever it was made for; the two are not joined yet.
    pub(super) fn give_to(&mut self, id: &OfferId, call: &CallId, now: EpochMs) {
        if let Some(held) = self.book.offer_mut(id) {
            held.offer.call = call.clone();
            held.offer.stage = OfferStage::Connecting { again: now + AGAIN_MS, tries: 1 };
        }
        self.book.set_stage(call, Stage::Connecting { offer: id.clone() });
    }

    /// Asks the node to join caller and leg.
    pub(super) fn join(&mut self, id: &OfferId, tries: u32, now: EpochMs) {
        let Some(held) = self.book.offer_mut(id) else { return };
        if !matches!(held.offer.stage, OfferStage::Joined { .. }) {
            held.offer.stage = OfferStage::Connecting { again: now + AGAIN_MS, tries };
        }
        let offer = held.offer.clone();
        if !matches!(offer.stage, OfferStage::Joined { .. }) {
            self.hush(&offer);
        }
        let Some(call) = self.book.calls.get(&offer.call) else { return };
        let talk_max_ms = self.setup.queues.get(&offer.queue).map_or(u64::MAX, |rules| rules.talk_max_ms);
        let effect = Effect::Join {
            offer: id.clone(),
            caller: call.call.channel.clone(),
            leg: offer.leg,
            talk_max_ms,
            replaces: call.replaces,
        };
        self.book.act(effect);
        self.set_timer(now + AGAIN_MS, Timer::Offer(id.clone()));
    }

    /// A node has answered.
    pub(super) fn answered(&mut self, effect: Effect, outcome: Outcome, now: EpochMs) {
        match effect {
            Effect::Originate(originate) => self.originated(&originate.offer, &outcome, now),
            Effect::Join { offer, .. } => self.joined(&offer, &outcome, now),
            Effect::Announce { offer, .. } => self.announce_answered(&offer, &outcome, now),
            Effect::DropLeg { offer, void: true, .. } => {
                let Some(held) = self.book.offers.get_mut(&offer) else { return };
                let OfferStage::Ending { why, .. } = held.offer.stage else { return };
                // It was sent, so its batch is committed: from now on the token opens no door.
                held.void_since.get_or_insert(now);
                if outcome == Outcome::Gone {
                    self.finish_offer(&offer, why, now);
                }
            }
            Effect::Attend(attend) => self.attended(&attend.channel, &outcome),
            // A caller who left, or a leg that was not there: the events and the listings tell.
            Effect::DropLeg { void: false, .. }
            | Effect::Hush { .. }
            | Effect::Tell { .. }
            | Effect::Continue { .. }
            | Effect::HangUp { .. } => {}
        }
    }

    fn originated(&mut self, id: &OfferId, outcome: &Outcome, now: EpochMs) {
        match outcome {
            Outcome::Done | Outcome::Unknown => self.rings(id, now),
            // The node says that there is no leg, and it has been asked only once.
            Outcome::Gone | Outcome::Refused => {
                let stage = self.book.offers.get(id).map(|held| held.offer.stage.clone());
                match stage {
                    Some(OfferStage::Making) => self.finish_offer(id, OfferEnd::Lost, now),
                    Some(OfferStage::Ending { why, .. }) => self.finish_offer(id, why, now),
                    Some(
                        OfferStage::Ringing { .. }
                        | OfferStage::Announcing { .. }
                        | OfferStage::Connecting { .. }
                        | OfferStage::Joined { .. },
                    )
                    | None => {}
                }
            }
        }
    }

    fn joined(&mut self, id: &OfferId, outcome: &Outcome, now: EpochMs) {
        let Some(held) = self.book.offers.get(id) else { return };
        let OfferStage::Connecting { tries, .. } = held.offer.stage else { return };
        match outcome {
            Outcome::Done => self.together(id, now),
            // They may be together: it is tried again until it is known.
            Outcome::Unknown => {}
            // One of the two may have hung up in this moment, and the event is on its way.
            Outcome::Gone | Outcome::Refused if tries >= JOIN_TRIES => self.join_failed(id, now),
            Outcome::Gone | Outcome::Refused => {
                if let Some(held) = self.book.offer_mut(id) {
                    held.offer.stage = OfferStage::Connecting { again: now + AGAIN_MS, tries: tries + 1 };
                }
            }
        }
    }

    /// Caller and agent are in one bridge.
    pub(super) fn together(&mut self, id: &OfferId, now: EpochMs) {
        let Some(held) = self.book.offers.get(id) else { return };
        if !matches!(held.offer.stage, OfferStage::Connecting { .. }) {
            return;
        }
        let (call, agent, queue) =
            (held.offer.call.clone(), held.offer.agent.clone(), held.offer.queue.clone());
        if let Some(held) = self.book.offer_mut(id) {
            held.offer.stage = OfferStage::Joined { since: now };
        }
        let waited_ms = self.book.calls.get_mut(&call).and_then(|held| {
            let has_waited = !std::mem::take(&mut held.passed);
            held.replaces = false;
            has_waited.then(|| now.since(held.call.enqueued))
        });
        self.book.set_stage(&call, Stage::Connected { offer: id.clone(), since: now });
        if let Some(held) = self.book.agent_mut(&agent)
            && let AgentState::Offered { offer, then } = &held.agent.state
            && offer == id
        {
            held.agent.misses = 0;
            *held.agent.taken.entry(queue.clone()).or_default() += 1;
            let state = AgentState::Talking { offer: id.clone(), then: then.clone() };
            self.set_agent(&agent, state, now);
        }
        self.book.tell(now, What::Connected { offer: id.clone(), call, agent, queue, waited_ms });
    }

    fn join_failed(&mut self, id: &OfferId, now: EpochMs) {
        if let Some(call) = self.book.offers.get(id).map(|held| held.offer.call.clone())
            && let Some(held) = self.book.call_mut(&call)
        {
            held.call.crashes += 1;
        }
        self.end_offer(id, OfferEnd::JoinFailed, now);
    }

    /// It has rung long enough, or what was asked for it is asked again.
    pub(super) fn offer_due(&mut self, id: &OfferId, now: EpochMs) {
        let Some(held) = self.book.offers.get(id) else { return };
        // What has become of it meanwhile is known when the node has been listed, and then this is asked again.
        if !self.listed.contains(&held.offer.leg.node) && !self.has_defect(Seeded::ClaimFreedByExpiry) {
            return;
        }
        match held.offer.stage {
            OfferStage::Making | OfferStage::Joined { .. } => {}
            OfferStage::Ringing { until } if until <= now => self.end_offer(id, OfferEnd::NoAnswer, now),
            OfferStage::Announcing { until } if until <= now => self.announced(id, now),
            OfferStage::Connecting { again, tries } if again <= now => {
                self.join(id, tries, now);
            }
            OfferStage::Ending { why, again } if again <= now => {
                if self.has_defect(Seeded::ClaimFreedByExpiry) {
                    self.finish_offer(id, why, now);
                } else {
                    self.drop_again(id, now);
                }
            }
            // The state has changed since the timer was set, and has a timer of its own.
            OfferStage::Ringing { .. }
            | OfferStage::Announcing { .. }
            | OfferStage::Connecting { .. }
            | OfferStage::Ending { .. } => {}
        }
    }

    /// A leg is gone.
    pub(super) fn leg_ended(&mut self, leg: &Channel, how: LegEnd, now: EpochMs) {
        self.bury(&leg.id, now);
        let Some(id) = offer_of(leg) else { return };
        let Some(held) = self.book.offers.get(&id) else { return };
        let stage = held.offer.stage.clone();
        if matches!(stage, OfferStage::Ending { why: OfferEnd::Transferred, .. }) {
            // The phone was quicker than whoever was to drop its leg, and with it the bridge.
            self.book.act(Effect::DropLeg { offer: id.clone(), leg: leg.clone(), void: false });
        }
        let why = match stage {
            OfferStage::Making | OfferStage::Ringing { .. } => match how {
                LegEnd::Busy => OfferEnd::Busy,
                LegEnd::Refused => OfferEnd::Refused,
                LegEnd::Unregistered => OfferEnd::Unregistered,
                LegEnd::Unreachable => OfferEnd::Unreachable,
                LegEnd::Fenced => OfferEnd::Fenced,
                LegEnd::Cancelled => OfferEnd::NoAnswer,
                // Answered, and hung up before the answer was heard of.
                LegEnd::HungUp => OfferEnd::JoinFailed,
            },
            OfferStage::Announcing { .. } | OfferStage::Connecting { .. } => OfferEnd::JoinFailed,
            OfferStage::Joined { .. } if self.leaves_to_transfer(&id, now) => OfferEnd::Transferred,
            OfferStage::Joined { .. } => OfferEnd::Taken,
            OfferStage::Ending { why, .. } => why,
        };
        self.finish_offer(&id, why, now);
    }

    /// The end of every offer of a call.
    pub(super) fn withdraw_offers(&mut self, call: &CallId, why: OfferEnd, now: EpochMs) {
        let mut offers: Vec<OfferId> = match self.book.calls.get(call).map(|held| &held.call.stage) {
            Some(Stage::Offered { offers }) => offers.iter().cloned().collect(),
            Some(Stage::Connecting { offer } | Stage::Connected { offer, .. }) => vec![offer.clone()],
            Some(Stage::Waiting | Stage::Treated { .. } | Stage::Ending { .. }) | None => Vec::new(),
        };
        let passing = self.book.calls.get_mut(call).and_then(|held| held.transfer.take());
        offers.extend(passing);
        if offers.is_empty() {
            return;
        }
        // Out of the stage that names them first: their ends must not bring the call back into its line.
        self.book.set_stage(call, Stage::Ending { reason: DoneReason::Unseen, cause: CAUSE_NORMAL });
        for offer in offers {
            let taken = self.book.offers.get(&offer).is_some_and(|held| match held.offer.stage {
                OfferStage::Joined { .. } => true,
                OfferStage::Making
                | OfferStage::Ringing { .. }
                | OfferStage::Announcing { .. }
                | OfferStage::Connecting { .. }
                | OfferStage::Ending { .. } => false,
            });
            self.end_offer(&offer, if taken { OfferEnd::Taken } else { why }, now);
        }
    }

    /// An offer has come to nothing, or is over: its leg is dropped, the call goes on, and the agent is held until the leg's
    /// end is seen.
    pub(super) fn end_offer(&mut self, id: &OfferId, why: OfferEnd, now: EpochMs) {
        let Some(held) = self.book.offer_mut(id) else { return };
        if matches!(held.offer.stage, OfferStage::Ending { .. }) {
            return;
        }
        held.offer.stage = OfferStage::Ending { why, again: now + AGAIN_MS };
        let offer = held.offer.clone();
        let (call, agent, leg) = (offer.call.clone(), offer.agent.clone(), offer.leg.clone());
        self.book.act(Effect::DropLeg { offer: id.clone(), leg, void: false });
        self.drop_again(id, now);
        if self.has_defect(Seeded::OfferBeforeLegEnd) {
            self.release(&offer, why, now);
        }
        self.give_back(&call, id, &agent, why, now);
    }

    fn drop_again(&mut self, id: &OfferId, now: EpochMs) {
        let Some(held) = self.book.offers.get_mut(id) else { return };
        let OfferStage::Ending { why, .. } = held.offer.stage else { return };
        held.offer.stage = OfferStage::Ending { why, again: now + AGAIN_MS };
        let leg = held.offer.leg.clone();
        self.book.act(Effect::DropLeg { offer: id.clone(), leg, void: true });
        self.set_timer(now + AGAIN_MS, Timer::Offer(id.clone()));
    }

    /// The leg of an offer is gone for good, and with it the claim on the agent.
    pub(super) fn finish_offer(&mut self, id: &OfferId, why: OfferEnd, now: EpochMs) {
        let Some(offer) = self.book.remove_offer(id) else { return };
        if offer.stage.had_bridge() {
            self.book.act(Effect::DropLeg { offer: id.clone(), leg: offer.leg.clone(), void: false });
        }
        let (call, agent) = (offer.call.clone(), offer.agent.clone());
        self.book.tell(
            now,
            What::OfferEnded {
                offer: id.clone(),
                call: call.clone(),
                agent: agent.clone(),
                queue: offer.queue.clone(),
                how: why,
            },
        );
        self.release(&offer, why, now);
        self.give_back(&call, id, &agent, why, now);
    }

    /// What becomes of the call of an offer that has ended.
    fn give_back(&mut self, call: &CallId, id: &OfferId, agent: &AgentId, why: OfferEnd, now: EpochMs) {
        let passes_over = match why {
            OfferEnd::NoAnswer | OfferEnd::Refused | OfferEnd::Busy | OfferEnd::JoinFailed => true,
            OfferEnd::Taken
            | OfferEnd::Transferred
            | OfferEnd::Unregistered
            | OfferEnd::Unreachable
            | OfferEnd::Fenced
            | OfferEnd::Withdrawn
            | OfferEnd::Superseded
            | OfferEnd::Lost => false,
        };
        if self.transfer_failed(call, id) {
            return;
        }
        let Some(held) = self.book.calls.get_mut(call) else { return };
        let rules = self.setup.queues.get(&held.call.queue);
        let (offers_max, pass_over_ms) =
            rules.map_or((u32::MAX, 0), |rules| (rules.offers_max, rules.pass_over_ms));
        let avoid = |call: &mut Call| {
            call.avoid.retain(|_, until| *until > now);
            if passes_over {
                call.avoid.insert(agent.clone(), now + pass_over_ms);
            }
        };
        let unpark = match &mut held.call.stage {
            Stage::Offered { offers } if offers.contains(id) => {
                offers.remove(id);
                if !offers.is_empty() {
                    // The others ring on; should none of them answer, this one is passed over, too.
                    avoid(&mut held.call);
                    self.book.call_mut(call);
                    return;
                }
                false
            }
            Stage::Connecting { offer } if offer == id => true,
            Stage::Connected { offer, .. } if offer == id => {
                // The agent has hung up.
                if self.left_to_transfer(call, now) {
                    return;
                }
                self.send_away(call, DoneReason::AgentHungUp, CAUSE_NORMAL, now);
                return;
            }
            Stage::Waiting
            | Stage::Offered { .. }
            | Stage::Connecting { .. }
            | Stage::Connected { .. }
            | Stage::Treated { .. }
            | Stage::Ending { .. } => return,
        };
        let crashed = why == OfferEnd::Lost;
        if let Some(held) = self.book.call_mut(call) {
            held.call.crashes += u32::from(crashed);
            avoid(&mut held.call);
            let exhausted = held.call.tries >= offers_max || held.call.crashes >= CRASHES_MAX;
            if exhausted {
                self.book.set_stage(call, Stage::Waiting);
                self.treat(call, TreatedFor::Exhausted, now);
                return;
            }
        }
        self.come_back(call, unpark, now);
    }

    /// The call is in its place again.
    fn come_back(&mut self, call: &CallId, unpark: bool, now: EpochMs) {
        self.book.set_stage(call, Stage::Waiting);
        if self.has_defect(Seeded::ReturnedCallLosesItsTime)
            && let Some(held) = self.book.call_mut(call)
        {
            held.call.enqueued = now;
        }
        // Everybody may have left while the phone rang.
        if let Some(queue) = self.book.calls.get(call).map(|held| held.call.queue.clone()) {
            self.leave_if_empty(&queue, now);
        }
        if self.book.calls.get(call).is_none_or(|held| held.call.stage != Stage::Waiting) {
            return;
        }
        // The caller may have been taken out of the music for the agent.
        if unpark {
            // The note on the channel is one of before: it stays so until the node says that all was done.
            if let Some(held) = self.book.calls.get_mut(call) {
                held.neglected = true;
            }
            self.attend(call);
        }
        self.seek(call, now);
        // Its time may have run out while the phone rang.
        self.call_due(call, now);
    }

    /// A claim was never carried out.
    pub(super) fn unsent(&mut self, effect: Effect, now: EpochMs) {
        match effect {
            Effect::Originate(originate) => {
                let Some(held) = self.book.offers.get(&originate.offer) else { return };
                let why = match held.offer.stage {
                    OfferStage::Ending { why, .. } => why,
                    OfferStage::Making => OfferEnd::Withdrawn,
                    OfferStage::Ringing { .. }
                    | OfferStage::Announcing { .. }
                    | OfferStage::Connecting { .. }
                    | OfferStage::Joined { .. } => return,
                };
                self.finish_offer(&originate.offer, why, now);
            }
            // What ends something is asked for again by its timer.
            Effect::DropLeg { .. } | Effect::Continue { .. } | Effect::HangUp { .. } => {}
            Effect::Attend(_)
            | Effect::Join { .. }
            | Effect::Tell { .. }
            | Effect::Announce { .. }
            | Effect::Hush { .. } => {}
        }
    }
}
