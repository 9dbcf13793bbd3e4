//! What an agent hears before the join: which queue it is, for instance. The caller waits on, with music, and may hang up.

use super::io::{Effect, Outcome};
use super::{Controller, Timer};
use crate::domain::id::OfferId;
use crate::domain::offer::{Offer, OfferStage};
use crate::domain::time::EpochMs;

impl Controller {
    /// The agent has answered: hears what there is to be heard, or is joined at once.
    pub(super) fn announce(&mut self, id: &OfferId, now: EpochMs) {
        let Some(held) = self.book.offers.get(id) else { return };
        let rules = self.setup.queues.get(&held.offer.queue).filter(|rules| !rules.agent_announce.is_empty());
        let Some((sounds, longest_ms)) =
            rules.map(|rules| (rules.agent_announce.clone(), rules.agent_announce_max_ms))
        else {
            self.join(id, 1, now);
            return;
        };
        let until = now + longest_ms;
        let Some(held) = self.book.offer_mut(id) else { return };
        held.offer.stage = OfferStage::Announcing { until };
        let leg = held.offer.leg.clone();
        self.book.act(Effect::Announce { offer: id.clone(), leg, sounds });
        self.set_timer(until, Timer::Offer(id.clone()));
    }

    /// It was heard to its end, or takes too long.
    pub(super) fn announced(&mut self, id: &OfferId, now: EpochMs) {
        if self.is_announced_to(id) {
            self.join(id, 1, now);
        }
    }

    /// Before each join: what is still played on the leg would keep it from being joined, and another leader may have begun it.
    pub(super) fn hush(&mut self, offer: &Offer) {
        if self.setup.queues.get(&offer.queue).is_some_and(|rules| !rules.agent_announce.is_empty()) {
            self.book.act(Effect::Hush { offer: offer.id.clone(), leg: offer.leg.clone() });
        }
    }

    /// The node has answered that it plays.
    pub(super) fn announce_answered(&mut self, id: &OfferId, outcome: &Outcome, now: EpochMs) {
        match outcome {
            // Its end is told, or its time is over.
            Outcome::Done | Outcome::Unknown => {}
            // There is no such thing to be heard, or no leg: the join tells.
            Outcome::Refused | Outcome::Gone => self.announced(id, now),
        }
    }

    fn is_announced_to(&self, id: &OfferId) -> bool {
        self.book.offers.get(id).is_some_and(|held| matches!(held.offer.stage, OfferStage::Announcing { .. }))
    }
}
