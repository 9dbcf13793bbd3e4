//! Transfers: an agent passes the caller on (RFC 3515, RFC 3891). Until somebody else has the caller, the agent has.

use super::io::{Effect, Progress, To, Transfer};
use super::told::What;
use super::{Controller, GRACE_MS, Timer};
use crate::domain::call::{DoneReason, Stage, TreatedFor};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId, TreatmentId};
use crate::domain::offer::{OfferEnd, OfferStage};
use crate::domain::queue::{CAUSE_NORMAL, Treatment};
use crate::domain::time::EpochMs;
use std::collections::BTreeSet;

/// What may be dialled as a number, at its longest.
const NUMBER_MAX: usize = 32;

/// Before the id of a channel: the extension by which a caller is joined with that channel.
const TAKES: &str = "take";

/// Whom a transfer goes to.
enum Target {
    Queue(QueueId),
    Agent(AgentId),
    /// Out of the system.
    Out(Way),
    /// The place of another caller: of the call that the agent has made to ask first.
    Place(CallId),
}

/// A way out of the system.
struct Way {
    treatment: TreatmentId,
    /// In place of the treatment's extension.
    extension: Box<str>,
    /// What is told of it.
    to: String,
}

impl Controller {
    /// The agent of an offer wants the caller to be somewhere else.
    pub(super) fn transfer(&mut self, wanted: &Transfer, now: EpochMs) {
        let progress = match self.transferred(wanted, now) {
            Ok(Some(progress)) => progress,
            Ok(None) => return,
            Err(progress) => progress,
        };
        self.book.act(Effect::Tell { leg: wanted.leg.clone(), progress });
    }

    fn transferred(&mut self, wanted: &Transfer, now: EpochMs) -> Result<Option<Progress>, Progress> {
        let call = self.talking(wanted).ok_or(Progress::Declined)?;
        // One at a time.
        if self.book.calls.get(&call).is_none_or(|held| held.transfer.is_some()) {
            return Err(Progress::Declined);
        }
        let target = self.target(&wanted.to).ok_or(Progress::Declined)?;
        match target {
            Target::Queue(queue) => self.pass_to_queue(&wanted.offer, &call, queue, now),
            Target::Out(way) => {
                self.pass_out(wanted, &call, way, now);
                return Ok(None);
            }
            Target::Place(other) => self.pass_to_place(&wanted.offer, &call, &other, now)?,
            Target::Agent(agent) => {
                self.pass_to_agent(&call, &agent, now).ok_or(Progress::Unavailable)?;
                return Ok(Some(Progress::Rings));
            }
        }
        Ok(Some(Progress::Answered))
    }

    /// The call of an offer whose two talk.
    fn talking(&self, Transfer { offer, leg, .. }: &Transfer) -> Option<CallId> {
        let held = self.book.offers.get(offer).filter(|held| held.offer.leg == *leg)?;
        let call = self.book.calls.get(&held.offer.call)?;
        let joined = matches!(held.offer.stage, OfferStage::Joined { .. });
        let with = matches!(&call.call.stage, Stage::Connected { offer: with, .. } if with == offer);
        (joined && with).then(|| call.call.id.clone())
    }

    fn target(&self, to: &To) -> Option<Target> {
        let dialled = match to {
            To::Dialled(dialled) => dialled,
            To::Place { of, with } => {
                if let Some(call) = self.book.by_channel.get(of) {
                    return Some(Target::Place(call.clone()));
                }
                let (extension, to) = (format!("{TAKES}{}", with.as_ref()?), format!("place of {of}"));
                return self.way_out(extension.into(), to).map(Target::Out);
            }
            To::Elsewhere => return None,
        };
        let queue = self.setup.numbers.get(dialled).cloned().or_else(|| dialled.parse().ok());
        if let Some(queue) = queue.filter(|queue| self.setup.queues.contains_key(queue)) {
            return Some(Target::Queue(queue));
        }
        let named = dialled.parse().ok().filter(|agent| self.setup.agents.contains_key(agent));
        if let Some(agent) = named.or_else(|| self.setup.agent_of_user(dialled).cloned()) {
            return Some(Target::Agent(agent));
        }
        let is_number = (2..=NUMBER_MAX).contains(&dialled.len())
            && dialled.bytes().all(|b| b.is_ascii_digit() || b"+*".contains(&b));
        if !is_number {
            return None;
        }
        self.way_out(dialled.clone(), format!("number {dialled}")).map(Target::Out)
    }

    fn way_out(&self, extension: Box<str>, to: String) -> Option<Way> {
        let treatment = self.setup.numbers_by.clone()?;
        let leads_out = matches!(self.setup.treatments.get(&treatment), Some(Treatment::Dialplan { .. }));
        leads_out.then_some(Way { treatment, extension, to })
    }

    /// The agent has nothing to do with the call any more. The phone hangs up when it is told so; if it does not, it is hung up.
    fn part(&mut self, offer: &OfferId, call: &CallId, to: String, now: EpochMs) {
        // Out of the stage that names the offer: its end must not end the call.
        self.book.set_stage(call, Stage::Ending { reason: DoneReason::Unseen, cause: CAUSE_NORMAL });
        let Some(held) = self.book.offer_mut(offer) else { return };
        let again = now + GRACE_MS;
        held.offer.stage = OfferStage::Ending { why: OfferEnd::Transferred, again };
        let agent = held.offer.agent.clone();
        self.set_timer(again, Timer::Offer(offer.clone()));
        self.book
            .tell(now, What::Transferred { offer: offer.clone(), call: call.clone(), agent, to: to.into() });
    }

    /// The caller has been with an agent: should they have to wait again, it is for the first time, and before all who came later.
    fn has_talked(&mut self, id: &CallId, now: EpochMs) {
        let Some(held) = self.book.call_mut(id) else { return };
        held.call.joined = now;
        (held.call.tries, held.call.crashes) = (0, 0);
        held.passed = true;
        if let Some(rules) = self.setup.queues.get(&held.call.queue) {
            self.set_timer(now + rules.wait_max_ms, Timer::Call(id.clone()));
        }
    }

    /// The caller waits there: from now on, and not for who has just passed them on.
    fn pass_to_queue(&mut self, offer: &OfferId, id: &CallId, queue: QueueId, now: EpochMs) {
        self.part(offer, id, format!("queue {queue}"), now);
        self.move_over(offer, id, &queue, now);
        self.admit(id, Some(queue), now);
    }

    /// The call is one of this queue, in which it begins to wait.
    fn move_over(&mut self, offer: &OfferId, id: &CallId, queue: &QueueId, now: EpochMs) {
        let from = self.book.offers.get(offer).map(|held| held.offer.agent.clone());
        let pass_over_ms = self.setup.queues.get(queue).map_or(0, |rules| rules.pass_over_ms);
        if let Some(held) = self.book.call_mut(id) {
            held.call.queue = queue.clone();
            (held.call.enqueued, held.call.joined) = (now, now);
            (held.call.tries, held.call.crashes) = (0, 0);
            held.call.avoid.extend(from.map(|agent| (agent, now + pass_over_ms)));
        }
    }

    /// The phone is told when the caller has left, and not before: were its own call to ask hung up sooner, there would be nobody
    /// whose place the caller could take.
    fn pass_out(&mut self, wanted: &Transfer, id: &CallId, way: Way, now: EpochMs) {
        let Way { treatment, extension, to } = way;
        self.part(&wanted.offer, id, to, now);
        let Some(held) = self.book.calls.get_mut(id) else { return };
        held.passed_by = Some(wanted.leg.clone());
        let (call, queue) = (id.clone(), held.call.queue.clone());
        let why = TreatedFor::Transferred;
        self.book.tell(now, What::Treated { call, queue, treatment: Some(treatment.clone()), why });
        self.book.set_stage(id, Stage::Treated { treatment, why, extension: Some(extension) });
        self.usher(id, now);
    }

    /// The caller has left: was it by a transfer, the phone of the agent is told.
    pub(super) fn tell_who_passed(&mut self, id: &CallId) {
        let leg = self.book.calls.get_mut(id).and_then(|held| held.passed_by.take());
        if let Some(leg) = leg {
            self.book.act(Effect::Tell { leg, progress: Progress::Answered });
        }
    }

    /// Calls the other agent; until then nothing changes for the two who talk.
    fn pass_to_agent(&mut self, id: &CallId, agent: &AgentId, now: EpochMs) -> Option<()> {
        let call = &self.book.calls.get(id)?.call;
        let (node, queue) = (call.channel.node.clone(), call.queue.clone());
        // Whom the matching does not know nobody may ask.
        if self.matcher.agent(agent).is_none() || !self.offering || !self.listed.contains(&node) {
            return None;
        }
        let offer = self.offer_to(id, &queue, agent, now)?;
        self.matcher.unready(agent);
        self.book.calls.get_mut(id)?.transfer = Some(offer);
        Some(())
    }

    /// The one whom the agent has called has answered a transfer: the two are joined, and the agent is free. Returns whether it was one.
    pub(super) fn transfer_answered(&mut self, call: &CallId, id: &OfferId, now: EpochMs) -> bool {
        let Some(from) = self.passing(call, id) else { return false };
        let to = self.book.offers.get(id).map(|held| held.offer.agent.to_string()).unwrap_or_default();
        let leg = self.book.offers.get(&from).map(|held| held.offer.leg.clone());
        if let Some(held) = self.book.calls.get_mut(call) {
            held.transfer = None;
        }
        self.part(&from, call, format!("agent {to}"), now);
        self.has_talked(call, now);
        self.book.set_stage(call, Stage::Connecting { offer: id.clone() });
        self.join(id, 1, now);
        if let Some(leg) = leg {
            self.book.act(Effect::Tell { leg, progress: Progress::Answered });
        }
        true
    }

    /// Caller and agent are together by a transfer of which nobody has heard: that is what counts. Returns whether it is so.
    pub(super) fn take_over(&mut self, id: &OfferId, now: EpochMs) -> bool {
        let Some(call) = self.book.offers.get(id).map(|held| held.offer.call.clone()) else { return false };
        match self.book.calls.get(&call).map(|held| &held.call.stage) {
            Some(Stage::Connected { offer, .. }) if offer != id => {}
            Some(
                Stage::Waiting
                | Stage::Offered { .. }
                | Stage::Connecting { .. }
                | Stage::Connected { .. }
                | Stage::Treated { .. }
                | Stage::Ending { .. },
            )
            | None => return false,
        }
        if let Some(held) = self.book.calls.get_mut(&call) {
            held.transfer = Some(id.clone());
        }
        self.transfer_answered(&call, id, now)
    }

    /// An offer has come to nothing: was it that of a transfer, caller and agent are as they were. Returns whether it was.
    pub(super) fn transfer_failed(&mut self, call: &CallId, id: &OfferId) -> bool {
        let Some(from) = self.passing(call, id) else { return false };
        if let Some(held) = self.book.calls.get_mut(call) {
            held.transfer = None;
        }
        if let Some(held) = self.book.offers.get(&from) {
            let leg = held.offer.leg.clone();
            self.book.act(Effect::Tell { leg, progress: Progress::Unavailable });
        }
        true
    }

    /// The offer whose agent passes the call on, if it is to the agent of this other offer.
    fn passing(&self, call: &CallId, id: &OfferId) -> Option<OfferId> {
        let call = self.book.calls.get(call)?;
        let Stage::Connected { offer, .. } = &call.call.stage else { return None };
        (call.transfer.as_ref() == Some(id)).then(|| offer.clone())
    }

    /// The agent of an offer has hung up: says whether they have left the caller to another one who is being called.
    pub(super) fn leaves_to_transfer(&mut self, id: &OfferId, now: EpochMs) -> bool {
        let Some(offer) = self.book.offers.get(id).map(|held| held.offer.clone()) else { return false };
        let to = self.book.calls.get(&offer.call).and_then(|held| held.transfer.clone());
        let Some(to) = to.filter(|to| self.passing(&offer.call, to).as_ref() == Some(id)) else {
            return false;
        };
        let to = self.book.offers.get(&to).map(|held| format!("agent {}", held.offer.agent));
        let to = to.unwrap_or_default().into();
        self.book
            .tell(now, What::Transferred { offer: id.clone(), call: offer.call, agent: offer.agent, to });
        true
    }

    /// The agent has hung up. If somebody is being called for a transfer, the caller goes on to wait for them. Returns whether it is so.
    pub(super) fn left_to_transfer(&mut self, id: &CallId, now: EpochMs) -> bool {
        let Some(held) = self.book.calls.get_mut(id) else { return false };
        let Some(offer) = held.transfer.take() else { return false };
        self.has_talked(id, now);
        if let Some(held) = self.book.call_mut(id) {
            held.call.tries = 1;
        }
        self.book.set_stage(id, Stage::Offered { offers: BTreeSet::from([offer]) });
        self.attend(id);
        true
    }

    /// The caller takes the place of another one, and that one is hung up: the agent has called before, to ask.
    fn pass_to_place(
        &mut self,
        offer: &OfferId,
        id: &CallId,
        other: &CallId,
        now: EpochMs,
    ) -> Result<(), Progress> {
        let Some(place) = self.book.calls.get(other) else { return Err(Progress::Declined) };
        if other == id || place.transfer.is_some() {
            return Err(Progress::Declined);
        }
        let (queue, priority, enqueued) =
            (place.call.queue.clone(), place.call.priority, place.call.enqueued);
        match place.call.stage.clone() {
            Stage::Connected { offer: theirs, .. } => {
                self.part(offer, id, format!("call {other}"), now);
                self.send_away(other, DoneReason::Transferred, CAUSE_NORMAL, now);
                if let Some(held) = self.book.call_mut(id) {
                    held.call.queue = queue;
                    held.replaces = true;
                }
                self.has_talked(id, now);
                self.give_to(&theirs, id, now);
                self.join(&theirs, 1, now);
                Ok(())
            }
            // Nobody is there yet: the caller waits in the other one's place.
            Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. } => {
                self.part(offer, id, format!("call {other}"), now);
                // It makes room in its line before the caller stands there.
                self.withdraw_offers(other, OfferEnd::Withdrawn, now);
                self.send_away(other, DoneReason::Transferred, CAUSE_NORMAL, now);
                self.move_over(offer, id, &queue, now);
                if let Some(held) = self.book.call_mut(id) {
                    (held.call.priority, held.call.enqueued) = (priority, enqueued);
                }
                self.stand_in_line(id, now);
                Ok(())
            }
            Stage::Treated { .. } | Stage::Ending { .. } => Err(Progress::Declined),
        }
    }
}
