//! Callers: who is let in, what becomes of a call that no agent takes, and the caller's end.

use super::io::{Attend, Effect, Outcome, SeenCaller};
use super::told::What;
use super::{AGAIN_MS, Controller, Timer};
use crate::domain::call::{Call, Channel, DoneReason, Stage, TreatedFor};
use crate::domain::id::{CallId, QueueId, TreatmentId};
use crate::domain::matching::WaitingCall;
use crate::domain::offer::OfferEnd;
use crate::domain::queue::{
    Answering, CAUSE_NO_WAY_OUT, CAUSE_NORMAL, HOPS_MAX, Presence, QueueRules, Treatment,
};
use crate::domain::time::EpochMs;
use std::collections::BTreeMap;

/// A node ends a wait so much later than a leader would have, in ms: one that has to be found first is there by then.
const NODE_WAITS_MS: u64 = 60_000;

/// When a node ends a wait by itself, in ms: a phone that rings when it is over is let ring, and its agent is announced the call.
fn node_ends_after(rules: &QueueRules) -> u64 {
    let rings_ms = rules.ring_ms + rules.agent_announce_max_ms;
    rules.wait_max_ms.saturating_add(rings_ms + NODE_WAITS_MS)
}

impl Controller {
    /// A channel has entered the application.
    pub(super) fn caller_entered(&mut self, seen: SeenCaller, now: EpochMs) {
        if let Some(id) = self.book.call_at(&seen.channel) {
            self.still_there(&id, &seen, now);
            return;
        }
        self.tombs.remove(&seen.channel.id);
        let Some((id, wanted)) = self.new_call(seen, now) else { return };
        self.admit(&id, wanted, now);
    }

    /// A call that is not known is made of what its channel says; it stands nowhere yet.
    pub(super) fn new_call(&mut self, seen: SeenCaller, now: EpochMs) -> Option<(CallId, Option<QueueId>)> {
        // A channel's id is a call's, by construction of both.
        let id: CallId = seen.channel.id.as_str().parse().ok()?;
        let queue = seen.queue.clone().or_else(|| "unknown".parse().ok())?;
        let call = Call {
            id: id.clone(),
            channel: seen.channel,
            identity: seen.identity,
            queue,
            priority: seen.priority,
            enqueued: self.place(seen.enqueued, now),
            joined: now,
            wishes: seen.wishes,
            tries: 0,
            crashes: 0,
            hops: 0,
            avoid: BTreeMap::new(),
            stage: Stage::Ending { reason: DoneReason::Unseen, cause: CAUSE_NORMAL },
        };
        self.book.add_call(call, now);
        Some((id, seen.queue))
    }

    /// The time that a caller stands in line by: that of the note, or now. Time may stand still while callers come, and a node's note may
    /// be of a clock that ran ahead: who comes later stands behind all the same.
    fn place(&mut self, noted: Option<EpochMs>, now: EpochMs) -> EpochMs {
        if let Some(noted) = noted.filter(|noted| *noted <= now) {
            return noted;
        }
        self.placed = now.max(self.placed + 1);
        self.placed
    }

    /// The channel of a known call was seen. What it should have on it and has not, it is given.
    pub(super) fn still_there(&mut self, id: &CallId, seen: &SeenCaller, now: EpochMs) {
        let Some(held) = self.book.calls.get_mut(id) else { return };
        held.seen = now;
        let call = &held.call;
        let noted = seen.enqueued == Some(call.enqueued)
            && seen.priority == call.priority
            && seen.queue.as_ref() == Some(&call.queue);
        if call.stage.is_in_line() && (!noted || held.neglected) {
            self.attend(id);
        }
    }

    /// A node was asked to care for a caller. If it did not, the note may be one of before all the same: the next listing asks again.
    pub(super) fn attended(&mut self, channel: &Channel, outcome: &Outcome) {
        let Some(id) = self.book.call_at(channel) else { return };
        if let Some(held) = self.book.calls.get_mut(&id) {
            held.neglected = *outcome != Outcome::Done;
        }
    }

    /// Lets a call into its queue, or sends it to its treatment.
    pub(super) fn admit(&mut self, id: &CallId, queue: Option<QueueId>, now: EpochMs) {
        let Some(queue) = queue.filter(|queue| self.setup.queues.contains_key(queue)) else {
            self.treat(id, TreatedFor::NoQueue, now);
            return;
        };
        let full =
            self.setup.queues.get(&queue).is_some_and(|rules| self.book.in_line(&queue) >= rules.waiting_max);
        let join = self.setup.queues.get(&queue).map_or(Presence::Any, |rules| rules.join);
        if full {
            self.treat(id, TreatedFor::Full, now);
        } else if !self.is_present(&queue, join) {
            self.treat(id, TreatedFor::JoinEmpty, now);
        } else {
            self.stand_in_line(id, now);
        }
    }

    /// The call has its place from now on, whatever it had before.
    pub(super) fn stand_in_line(&mut self, id: &CallId, now: EpochMs) {
        self.book.set_stage(id, Stage::Waiting);
        let Some(held) = self.book.calls.get(id) else { return };
        let (call, queue) = (held.call.id.clone(), held.call.queue.clone());
        if let Some(rules) = self.setup.queues.get(&queue) {
            let until = held.call.joined + rules.wait_max_ms;
            self.set_timer(until, Timer::Call(call.clone()));
        }
        self.book.tell(now, What::Enqueued { call, queue: queue.clone() });
        self.attend(id);
        self.seek(id, now);
        self.leave_if_empty(&queue, now);
    }

    /// Offers of the call may be made, if its node can be asked to make them.
    pub(super) fn seek(&mut self, id: &CallId, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        let call = &held.call;
        if call.stage != Stage::Waiting || !self.listed.contains(&call.channel.node) {
            return;
        }
        let waiting = WaitingCall {
            id: call.id.clone(),
            queue: call.queue.clone(),
            priority: call.priority,
            enqueued: call.enqueued,
            wishes: call.wishes.clone(),
            avoid: call.avoid.clone(),
        };
        // A queue that the matching does not know is one that is laid down no longer; its calls are treated.
        let _ = self.matcher.wait(waiting, now);
    }

    /// Cares for a caller who waits.
    pub(super) fn attend(&mut self, id: &CallId) {
        let Some(held) = self.book.calls.get(id) else { return };
        let call = &held.call;
        let rules = self.setup.queues.get(&call.queue);
        let attend = Attend {
            channel: call.channel.clone(),
            queue: call.queue.clone(),
            priority: call.priority,
            enqueued: call.enqueued,
            answering: rules.map_or(Answering::Entry, |rules| rules.answering),
            music: rules.map(|rules| rules.music.clone()).unwrap_or_default(),
            ends_after_ms: rules.map_or_else(|| node_ends_after(&QueueRules::default()), node_ends_after),
        };
        self.book.act(Effect::Attend(attend));
    }

    /// The queue does not serve the call: it goes where the queue says, or the setup, or is hung up. Never nowhere.
    pub(super) fn treat(&mut self, id: &CallId, why: TreatedFor, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        let rules = self.setup.queues.get(&held.call.queue);
        let named = rules.and_then(|rules| rules.ends.get(&why)).cloned();
        self.treat_by(id, self.or_last_resort(named), why, now);
    }

    /// The call's queue was taken away while it waited.
    pub(super) fn treat_stranded(&mut self, id: &CallId, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        let named = self.gone_queues.get(&held.call.queue).cloned();
        self.treat_by(id, self.or_last_resort(named), TreatedFor::NoQueue, now);
    }

    /// A treatment that is laid down no longer is none.
    fn or_last_resort(&self, named: Option<TreatmentId>) -> Option<TreatmentId> {
        named
            .filter(|name| self.setup.treatments.contains_key(name))
            .or_else(|| self.setup.last_resort.clone())
    }

    /// The call goes to this treatment.
    pub(super) fn treat_by(
        &mut self,
        id: &CallId,
        named: Option<TreatmentId>,
        why: TreatedFor,
        now: EpochMs,
    ) {
        self.withdraw_offers(id, OfferEnd::Withdrawn, now);
        self.matcher.leave(id);
        let Some(held) = self.book.calls.get(id) else { return };
        let known = named.filter(|name| self.setup.treatments.contains_key(name));
        let (call, queue) = (held.call.id.clone(), held.call.queue.clone());
        self.book.tell(now, What::Treated { call, queue, treatment: known.clone(), why });
        let treatment = known.as_ref().and_then(|name| self.setup.treatments.get(name)).cloned();
        match (treatment, known) {
            (Some(Treatment::Overflow(queue)), _) => self.overflow(id, queue, now),
            (Some(Treatment::Dialplan { .. } | Treatment::HangUp { .. }), Some(treatment)) => {
                self.book.set_stage(id, Stage::Treated { treatment, why, extension: None });
                self.usher(id, now);
            }
            (Some(Treatment::Dialplan { .. } | Treatment::HangUp { .. }) | None, _) => {
                self.send_away(id, DoneReason::Treated, CAUSE_NO_WAY_OUT, now);
            }
        }
    }

    fn overflow(&mut self, id: &CallId, queue: QueueId, now: EpochMs) {
        // Out of the old line first.
        self.book.set_stage(id, Stage::Ending { reason: DoneReason::Treated, cause: CAUSE_NO_WAY_OUT });
        let Some(held) = self.book.call_mut(id) else { return };
        if held.call.hops >= HOPS_MAX {
            self.send_away(id, DoneReason::Treated, CAUSE_NO_WAY_OUT, now);
            return;
        }
        held.call.hops += 1;
        held.call.tries = 0;
        held.call.crashes = 0;
        held.call.joined = now;
        held.call.queue = queue.clone();
        self.admit(id, Some(queue), now);
    }

    /// The call is hung up.
    pub(super) fn send_away(&mut self, id: &CallId, reason: DoneReason, cause: u16, now: EpochMs) {
        self.matcher.leave(id);
        self.book.set_stage(id, Stage::Ending { reason, cause });
        let Some(held) = self.book.calls.get(id) else { return };
        let channel = held.call.channel.clone();
        self.book.act(Effect::HangUp { channel, cause });
        self.again_later(id, now);
    }

    fn again_later(&mut self, id: &CallId, now: EpochMs) {
        if let Some(held) = self.book.calls.get_mut(id) {
            held.again = now + AGAIN_MS;
        }
        self.set_timer(now + AGAIN_MS, Timer::Call(id.clone()));
    }

    /// Asks the node to send the caller to the treatment, until it is seen to have left.
    pub(super) fn usher(&mut self, id: &CallId, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        let channel = held.call.channel.clone();
        let effect = match &held.call.stage {
            Stage::Treated { treatment, extension: other, .. } => {
                match self.setup.treatments.get(treatment) {
                    Some(Treatment::Dialplan { context, extension }) => {
                        let extension = other.as_ref().unwrap_or(extension).clone();
                        Effect::Continue { channel, context: context.clone(), extension }
                    }
                    Some(Treatment::HangUp { cause }) => Effect::HangUp { channel, cause: *cause },
                    // It was there when the call was sent to it, and the setup has changed since.
                    Some(Treatment::Overflow(_)) | None => {
                        Effect::HangUp { channel, cause: CAUSE_NO_WAY_OUT }
                    }
                }
            }
            Stage::Ending { cause, .. } => Effect::HangUp { channel, cause: *cause },
            Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. } | Stage::Connected { .. } => {
                return;
            }
        };
        self.book.act(effect);
        self.again_later(id, now);
    }

    /// Its wait may be over, or what was asked for it is due again.
    pub(super) fn call_due(&mut self, id: &CallId, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        // What has become of it meanwhile is known when the node has been listed, and then this is asked again.
        if !self.listed.contains(&held.call.channel.node) {
            return;
        }
        match &held.call.stage {
            Stage::Waiting | Stage::Offered { .. } => {
                let longest = self.setup.queues.get(&held.call.queue).map(|rules| rules.wait_max_ms);
                let until = held.call.joined + longest.unwrap_or(u64::MAX);
                // A phone that rings by now is let ring: the caller is nearly there.
                let rings = held.call.stage != Stage::Waiting;
                if longest.is_none() && !rings {
                    self.treat_stranded(id, now);
                } else if until <= now && !rings {
                    self.treat(id, TreatedFor::LongestWait, now);
                }
            }
            Stage::Treated { .. } | Stage::Ending { .. } if held.again > now => {}
            Stage::Treated { .. } | Stage::Ending { .. } => self.usher(id, now),
            Stage::Connecting { .. } | Stage::Connected { .. } => {}
        }
    }

    /// A caller's channel has left the application, or is gone.
    pub(super) fn caller_left(&mut self, channel: &Channel, now: EpochMs) {
        self.bury(&channel.id, now);
        let Some(id) = self.book.call_at(channel) else { return };
        self.caller_gone(&id, None, now);
    }

    /// A call is over. `unseen` is how, if it did not end before somebody's eyes.
    pub(super) fn caller_gone(&mut self, id: &CallId, unseen: Option<DoneReason>, now: EpochMs) {
        let Some(held) = self.book.calls.get(id) else { return };
        let reason = match (&held.call.stage, unseen) {
            (Stage::Treated { .. }, _) => DoneReason::Treated,
            (Stage::Ending { reason, .. }, _) => *reason,
            (
                Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. } | Stage::Connected { .. },
                Some(how),
            ) => how,
            (Stage::Waiting | Stage::Offered { .. } | Stage::Connecting { .. }, None) => {
                DoneReason::Abandoned
            }
            (Stage::Connected { .. }, None) => DoneReason::CallerHungUp,
        };
        self.withdraw_offers(id, OfferEnd::Withdrawn, now);
        self.matcher.leave(id);
        self.tell_who_passed(id);
        if let Some(call) = self.book.remove_call(id) {
            self.book.tell(now, What::Done { call: call.id, queue: call.queue, reason });
        }
    }
}
