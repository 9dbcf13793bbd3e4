//! What a node's own listing changes. Asterisk is the truth about channels: what it shows and is not known is taken up or
//! dropped, what is known and it does not show is gone, unless it is too young for this listing.

use super::io::{Effect, LegEnd, Listing, SeenBridge, SeenCaller, SeenLeg};
use super::offers::leg_of;
use super::{AGAIN_MS, Controller, GRACE_MS, Seeded, Timer};
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::{Channel, DoneReason, Stage};
use crate::domain::id::{CallId, ChannelId, NodeId, OfferId, ProxyId, QueueId};
use crate::domain::offer::{Offer, OfferEnd, OfferStage};
use crate::domain::queue::CAUSE_NORMAL;
use crate::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};

impl Controller {
    /// A node says what it has.
    pub(super) fn listing(&mut self, listing: Listing, now: EpochMs) {
        let Listing { node, begun, callers, legs, bridges } = listing;
        let joined: BTreeMap<OfferId, SeenBridge> =
            bridges.into_iter().map(|b| (b.offer.clone(), b)).collect();
        let shown_callers: BTreeSet<ChannelId> = callers.iter().map(|seen| seen.channel.id.clone()).collect();
        let shown_legs: BTreeSet<ChannelId> = legs.iter().map(|seen| seen.leg.id.clone()).collect();
        // Before anybody is taken to be gone: with whose offer another one talks by now.
        self.places_taken(&joined, &shown_callers, begun, now);
        // Before what is shown is taken up: a caller who called again is not to be counted twice.
        self.forget_callers(&node, begun, &shown_callers, now);
        let shown = callers.into_iter().filter(|seen| !self.has_ended_since(&seen.channel.id, begun));
        let (known, mut unknown): (Vec<_>, Vec<_>) =
            shown.partition(|seen| self.book.call_at(&seen.channel).is_some());
        // Who has no place yet, or one of a clock that ran ahead, is given one in this order.
        unknown.sort_by_key(|seen| seen.enqueued.unwrap_or(EpochMs(u64::MAX)));
        // Legs first: who turns out to be with an agent is not to be taken back to the music.
        let adopted = self.legs_seen(legs, &joined, &unknown, begun, now);
        for seen in known {
            if let Some(id) = self.book.call_at(&seen.channel) {
                self.still_there(&id, &seen, now);
            }
        }
        for seen in unknown {
            if !adopted.contains(&seen.channel.id) {
                self.take_up(seen, now);
            }
        }
        self.forget_legs(&node, begun, &shown_legs, now);
        self.clear_bridges(&node, joined.into_keys());
        self.listed.insert(node.clone());
        // What was left undone while the node was not heard.
        for (offer, _) in self.offers_on(&node) {
            self.offer_due(&offer, now);
        }
        let calls = self.calls_on(&node);
        calls.iter().for_each(|id| self.call_due(id, now));
        let queues: BTreeSet<QueueId> =
            calls.iter().filter_map(|id| Some(self.book.calls.get(id)?.call.queue.clone())).collect();
        queues.iter().for_each(|queue| self.leave_if_empty(queue, now));
        calls.iter().for_each(|id| self.seek(id, now));
    }

    /// A node is not heard any more: what is known of it stays, and no new offers are made there.
    pub(super) fn node_away(&mut self, node: &NodeId) {
        self.listed.remove(node);
        for id in self.calls_on(node) {
            self.matcher.leave(&id);
        }
    }

    /// A node is dead, and so are its channels. Nobody has seen their end: what a listing that was asked for later shows is there,
    /// and one that was asked for sooner is not to come here any more.
    pub(super) fn node_dead(&mut self, node: &NodeId, now: EpochMs) {
        self.listed.remove(node);
        for id in self.calls_on(node) {
            self.caller_gone(&id, Some(DoneReason::NodeLost), now);
        }
        for (id, why) in self.offers_on(node) {
            self.finish_offer(&id, why, now);
        }
    }

    fn calls_on(&self, node: &NodeId) -> Vec<CallId> {
        let here = self.book.calls.iter().filter(|(_, held)| held.call.channel.node == *node);
        here.map(|(id, _)| id.clone()).collect()
    }

    fn offers_on(&self, node: &NodeId) -> Vec<(OfferId, OfferEnd)> {
        let here = self.book.offers.iter().filter(|(_, held)| held.offer.leg.node == *node);
        here.map(|(id, held)| {
            let why = match held.offer.stage {
                OfferStage::Ending { why, .. } => why,
                OfferStage::Joined { .. } => OfferEnd::Taken,
                OfferStage::Making
                | OfferStage::Ringing { .. }
                | OfferStage::Announcing { .. }
                | OfferStage::Connecting { .. } => OfferEnd::Lost,
            };
            (id.clone(), why)
        })
        .collect()
    }

    fn has_ended_since(&self, channel: &ChannelId, begun: EpochMs) -> bool {
        self.tombs.get(channel).is_some_and(|ended| *ended + GRACE_MS >= begun)
    }

    /// Whether something that was last heard of then should be in a listing that began at that time.
    fn should_be_shown(&self, seen: EpochMs, begun: EpochMs) -> bool {
        seen + GRACE_MS < begun || self.has_defect(Seeded::ReconcileWithoutGrace)
    }

    fn forget_callers(&mut self, node: &NodeId, begun: EpochMs, shown: &BTreeSet<ChannelId>, now: EpochMs) {
        for id in self.calls_on(node) {
            let Some(held) = self.book.calls.get(&id) else { continue };
            if !shown.contains(&held.call.channel.id) && self.should_be_shown(held.seen, begun) {
                self.caller_gone(&id, Some(DoneReason::Unseen), now);
            }
        }
    }

    /// An earlier leader has put a caller into the place of another one, who is not there any more, and the store has forgotten it.
    fn places_taken(
        &mut self,
        joined: &BTreeMap<OfferId, SeenBridge>,
        shown: &BTreeSet<ChannelId>,
        begun: EpochMs,
        now: EpochMs,
    ) {
        for (id, bridge) in joined {
            let Some(offer) = self.book.offers.get(id).map(|held| &held.offer) else { continue };
            let before = self.book.calls.get(&offer.call).map(|held| &held.call.channel.id);
            let is_gone = before.is_some_and(|before| !shown.contains(before));
            let talks =
                matches!(offer.stage, OfferStage::Joined { .. }) && bridge.members.contains(&offer.leg);
            if !is_gone || !talks {
                continue;
            }
            let (before, queue) = (offer.call.clone(), offer.queue.clone());
            let there =
                |channel: &&Channel| shown.contains(&channel.id) && !self.has_ended_since(&channel.id, begun);
            let partner = bridge.members.iter().filter(there).find_map(|channel| self.book.call_at(channel));
            if let Some(call) = partner.filter(|call| self.is_elsewhere(call, joined)) {
                let reason = DoneReason::Transferred;
                self.book.set_stage(&before, Stage::Ending { reason, cause: CAUSE_NORMAL });
                self.part_from_others(&call, &queue, now);
                self.give_to(id, &call, now);
                self.together(id, now);
            }
        }
    }

    /// A caller whom nobody knew: of a channel that carries its place, in that place.
    fn take_up(&mut self, seen: SeenCaller, now: EpochMs) {
        let had_place = seen.enqueued.is_some();
        let Some((id, queue)) = self.new_call(seen, now) else { return };
        match queue.filter(|queue| had_place && self.setup.queues.contains_key(queue)) {
            // It was let in once.
            Some(_) => self.stand_in_line(&id, now),
            None => {
                let queue = self.book.calls.get(&id).map(|held| held.call.queue.clone());
                self.admit(&id, queue, now);
            }
        }
    }

    /// What the legs say. The callers of `unknown` that are with an agent are taken up as being so, and returned.
    fn legs_seen(
        &mut self,
        legs: Vec<SeenLeg>,
        joined: &BTreeMap<OfferId, SeenBridge>,
        unknown: &[SeenCaller],
        begun: EpochMs,
        now: EpochMs,
    ) -> BTreeSet<ChannelId> {
        let mut adopted = BTreeSet::new();
        // Who talks comes first: what else concerns the same caller has come to nothing.
        let talks = |seen: &SeenLeg| {
            joined
                .get(&seen.offer)
                .is_some_and(|bridge| bridge.members.contains(&seen.leg) && bridge.members.len() > 1)
        };
        let (first, then): (Vec<_>, Vec<_>) = legs.into_iter().partition(talks);
        for seen in first.into_iter().chain(then) {
            if self.has_ended_since(&seen.leg.id, begun) {
                continue;
            }
            let both = joined.get(&seen.offer).filter(|bridge| bridge.members.contains(&seen.leg));
            if self.book.offers.contains_key(&seen.offer) {
                self.leg_seen(&seen, both, now);
                continue;
            }
            let partner = both.and_then(|bridge| bridge.members.iter().find(|member| **member != seen.leg));
            match partner.filter(|_| seen.up) {
                Some(partner) if self.adopt_pair(&seen, partner, joined, unknown, now) => {
                    adopted.insert(partner.id.clone());
                }
                Some(_) | None => self.adopt_stray(&seen, now),
            }
        }
        adopted
    }

    /// The leg of a known offer is there.
    fn leg_seen(&mut self, seen: &SeenLeg, both: Option<&SeenBridge>, now: EpochMs) {
        let Some(held) = self.book.offers.get_mut(&seen.offer) else { return };
        held.seen = now;
        let (id, stage) = (held.offer.call.clone(), held.offer.stage.clone());
        let call = self.book.calls.get(&id).map(|held| held.call.channel.clone());
        let together = call.is_some_and(|call| both.is_some_and(|bridge| bridge.members.contains(&call)));
        match (stage, seen.up) {
            (OfferStage::Making, false) => self.rings(&seen.offer, now),
            // An earlier leader has joined them for a transfer, and did not live to say so.
            (OfferStage::Making | OfferStage::Ringing { .. }, true)
                if together && self.take_over(&seen.offer, now) => {}
            // The event that said so was missed.
            (OfferStage::Making | OfferStage::Ringing { .. }, true) => {
                self.leg_answered(&seen.offer, seen.leg.clone(), now);
            }
            (OfferStage::Announcing { .. } | OfferStage::Connecting { .. }, true) if together => {
                self.together(&seen.offer, now)
            }
            (OfferStage::Joined { .. }, true) if !together => self.join(&seen.offer, 1, now),
            // It was given up, and another leader has joined the two meanwhile.
            (OfferStage::Ending { why: OfferEnd::Transferred, .. }, true) if together => {
                // Not for long: what takes the caller away from there is under way, or was lost.
                if self.book.calls.get(&id).is_some_and(|held| held.call.stage.is_in_line()) {
                    self.attend(&id);
                }
            }
            (OfferStage::Ending { .. }, true) if together => self.revive(&seen.offer, now),
            (OfferStage::Ringing { .. }, false)
            | (
                OfferStage::Announcing { .. } | OfferStage::Connecting { .. } | OfferStage::Joined { .. },
                _,
            )
            | (OfferStage::Ending { .. }, _) => {}
        }
    }

    /// Caller and agent talk, though it was believed that nothing came of it: they go on.
    fn revive(&mut self, id: &OfferId, now: EpochMs) {
        let Some(call) = self.book.offers.get(id).map(|held| held.offer.call.clone()) else { return };
        match self.book.calls.get(&call).map(|held| &held.call.stage) {
            Some(Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. }) => {}
            Some(Stage::Connected { .. } | Stage::Treated { .. } | Stage::Ending { .. }) | None => return,
        }
        self.withdraw_offers(&call, OfferEnd::Superseded, now);
        self.matcher.leave(&call);
        self.give_to(id, &call, now);
        self.together(id, now);
    }

    /// Caller and agent talk, and nobody knew: they go on.
    fn adopt_pair(
        &mut self,
        seen: &SeenLeg,
        partner: &Channel,
        joined: &BTreeMap<OfferId, SeenBridge>,
        unknown: &[SeenCaller],
        now: EpochMs,
    ) -> bool {
        let new = unknown.iter().find(|caller| caller.channel == *partner).cloned();
        let call = match self.book.call_at(partner) {
            Some(call) => Some(call).filter(|id| self.is_elsewhere(id, joined)),
            None => new.and_then(|caller| self.new_call(caller, now)).map(|(call, _)| call),
        };
        let Some(call) = call else { return false };
        self.part_from_others(&call, &seen.queue, now);
        let stage = OfferStage::Connecting { again: now + AGAIN_MS, tries: 1 };
        if !self.adopt_offer(seen, call.clone(), stage, now) {
            return false;
        }
        self.book.set_stage(&call, Stage::Connecting { offer: seen.offer.clone() });
        self.join(&seen.offer, 1, now);
        true
    }

    /// The call is with somebody else than was believed, for this queue.
    fn part_from_others(&mut self, call: &CallId, queue: &QueueId, now: EpochMs) {
        self.withdraw_offers(call, OfferEnd::Withdrawn, now);
        self.matcher.leave(call);
        self.book.leave_line(call);
        if let Some(held) = self.book.call_mut(call) {
            held.call.queue = queue.clone();
        }
    }

    /// Whether what the store has said of a call may be older than what a listing shows of it: it waits, or is with somebody in
    /// whose bridge it is not.
    fn is_elsewhere(&self, id: &CallId, joined: &BTreeMap<OfferId, SeenBridge>) -> bool {
        let Some(call) = self.book.calls.get(id).map(|held| &held.call) else { return false };
        match &call.stage {
            Stage::Waiting | Stage::Offered { .. } => true,
            Stage::Connecting { offer } | Stage::Connected { offer, .. } => {
                joined.get(offer).is_none_or(|bridge| !bridge.members.contains(&call.channel))
            }
            Stage::Treated { .. } | Stage::Ending { .. } => false,
        }
    }

    /// A leg that nobody knew: its agent is busy until it is gone.
    fn adopt_stray(&mut self, seen: &SeenLeg, now: EpochMs) {
        let stage = OfferStage::Ending { why: OfferEnd::Lost, again: now + AGAIN_MS };
        self.adopt_offer(seen, seen.call.clone(), stage, now);
        self.book.act(Effect::DropLeg { offer: seen.offer.clone(), leg: seen.leg.clone(), void: false });
        self.set_timer(now + AGAIN_MS, Timer::Offer(seen.offer.clone()));
    }

    fn adopt_offer(&mut self, seen: &SeenLeg, call: CallId, stage: OfferStage, now: EpochMs) -> bool {
        let Ok(proxy) = "unknown".parse::<ProxyId>() else { return false };
        let contact = self.book.agents.get(&seen.agent).and_then(|held| held.contacts.first());
        let proxy = contact.map_or(proxy, |contact| contact.proxy.clone());
        let offer = Offer {
            id: seen.offer.clone(),
            call,
            agent: seen.agent.clone(),
            queue: seen.queue.clone(),
            leg: seen.leg.clone(),
            proxy,
            made: now,
            stage,
        };
        self.book.restore_offer(offer);
        if let Some(held) = self.book.offer_mut(&seen.offer) {
            held.seen = now;
        }
        let Some(held) = self.book.agents.get(&seen.agent) else { return true };
        let then = match &held.agent.state {
            AgentState::Offline => Then::Leave,
            AgentState::Ready { .. } | AgentState::WrapUp { .. } => Then::Ready,
            AgentState::Paused { reason } => Then::Pause { reason: reason.clone() },
            // Another leg has the claim; this one ends on its own.
            AgentState::Offered { .. } | AgentState::Talking { .. } => return true,
        };
        let state = AgentState::Offered { offer: seen.offer.clone(), then };
        self.set_agent(&seen.agent, state, now);
        true
    }

    /// Bridges of offers that are over.
    fn clear_bridges(&mut self, node: &NodeId, offers: impl Iterator<Item = OfferId>) {
        for offer in offers.filter(|offer| !self.book.offers.contains_key(offer)).collect::<Vec<_>>() {
            if let Some(leg) = leg_of(&offer, node) {
                self.book.act(Effect::DropLeg { offer, leg, void: false });
            }
        }
    }

    /// Legs that the node does not show.
    fn forget_legs(&mut self, node: &NodeId, begun: EpochMs, shown: &BTreeSet<ChannelId>, now: EpochMs) {
        for (id, why) in self.offers_on(node) {
            let Some(held) = self.book.offers.get(&id) else { continue };
            if shown.contains(&held.offer.leg.id) || !self.should_be_shown(held.seen, begun) {
                continue;
            }
            let void = held.void_since.is_some_and(|since| since < begun);
            match held.offer.stage {
                // It was there, and is not: it has ended, and no event said so.
                OfferStage::Announcing { .. } | OfferStage::Connecting { .. } | OfferStage::Joined { .. } => {
                    let leg = held.offer.leg.clone();
                    self.leg_ended(&leg, LegEnd::HungUp, now);
                }
                OfferStage::Making | OfferStage::Ringing { .. } | OfferStage::Ending { .. } if void => {
                    self.finish_offer(&id, why, now);
                }
                // The request for it may still be on its way: first its token is made void.
                OfferStage::Ringing { .. } => self.end_offer(&id, OfferEnd::Lost, now),
                // It was not sent yet, or its answer is awaited.
                OfferStage::Making | OfferStage::Ending { .. } => {}
            }
        }
    }
}
