//! Nodes: Asterisk servers, with their channels and bridges, as ARI shows and moves them.

use super::faults::Filter;
use super::ladder::{Col, Who};
use super::net::LinkMessage;
use super::people::{CallerEnd, Place};
use super::plan::{CAUSE_TREATED, Ms, NUMBER};
use super::proxy::{AgentLeg, Announced, PhoneState};
use super::world::{Ev, World};
use mqs::domain::call::Channel;
use mqs::domain::controller::{
    Attend, Effect, Input, LegEnd, Listing, Originate, Outcome, Progress, SeenBridge, SeenCaller, SeenLeg,
};
use mqs::domain::id::{ChannelId, NodeId, OfferId};
use mqs::domain::queue::{CAUSE_NO_WAY_OUT, Treatment};
use mqs::domain::time::EpochMs;
use std::collections::{BTreeMap, BTreeSet};

/// The dialplan waits so long for somebody who drives the application.
const KNOCK_EVERY_MS: Ms = 500;
const KNOCK_MAX_MS: Ms = 10_000;
const TREATMENT_MS: Ms = 5_000;

pub struct Node {
    pub id: NodeId,
    pub alive: bool,
    /// The link that the application's events go to.
    pub attached: Option<usize>,
    pub callers: BTreeMap<ChannelId, usize>,
    pub legs: BTreeMap<ChannelId, usize>,
    pub bridges: BTreeMap<OfferId, BTreeSet<ChannelId>>,
    /// It, or its links, were disturbed until then.
    pub shaken: Ms,
    /// Since when it has callers and no owner.
    pub unowned: Option<Ms>,
}

impl Node {
    pub fn all(count: usize) -> Vec<Node> {
        let node = |number: usize| Node {
            id: format!("ast{}", number + 1).parse().unwrap(),
            alive: true,
            attached: None,
            callers: BTreeMap::new(),
            legs: BTreeMap::new(),
            bridges: BTreeMap::new(),
            shaken: 0,
            unowned: None,
        };
        (0..count).map(node).collect()
    }
}

impl World {
    pub fn node_named(&self, id: &NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == *id).expect("a node of this name")
    }

    pub fn channel(&self, node: usize, id: &ChannelId) -> Channel {
        Channel { node: self.nodes[node].id.clone(), id: id.clone() }
    }

    /// An event for whoever is attached.
    pub fn emit(&mut self, node: usize, event: Input) {
        match self.nodes[node].attached {
            Some(link) => self.push(link, LinkMessage::Event(event)),
            None => self.coverage.count("world", "event without listener"),
        }
    }

    // ---- callers ----

    /// The dialplan: into the application, or wait for somebody who drives it.
    pub fn knock(&mut self, caller: usize) {
        let Place::Knocking { since } = self.callers[caller].place else { return };
        let Some(node) = self.callers[caller].node else { return };
        if self.nodes[node].attached.is_some() {
            self.callers[caller].place = Place::Inside;
            self.callers[caller].entered = Some(self.now);
            self.callers[caller].free_since = self.now;
            self.note(Col::Node, Col::Instance, "StasisStart", Who::caller(caller).with_node(node));
            let seen = self.seen_caller(caller, node);
            self.emit(node, Input::CallerEntered(seen));
        } else if self.now >= since + KNOCK_MAX_MS {
            self.end_caller(caller, CallerEnd::TurnedAway);
        } else {
            self.after(KNOCK_EVERY_MS, Ev::Knock(caller));
        }
    }

    fn seen_caller(&self, caller: usize, node: usize) -> SeenCaller {
        let of = &self.callers[caller];
        let marks = of.marks.as_ref();
        SeenCaller {
            channel: self.channel(node, &of.channel),
            identity: of.identity.clone(),
            queue: marks.map_or(of.wish.queue.clone(), |marks| Some(marks.queue.clone())),
            priority: marks.map_or(of.wish.priority, |marks| marks.priority),
            wishes: of.wish.skills.clone(),
            enqueued: marks.map(|marks| marks.enqueued),
        }
    }

    /// A caller's channel ends, for whatever reason.
    pub fn end_caller(&mut self, caller: usize, end: CallerEnd) {
        if self.callers[caller].is_over() {
            return;
        }
        let (was, now) = (self.callers[caller].place, self.now);
        self.callers[caller].place = Place::Over;
        self.callers[caller].end = Some((now, end));
        self.coverage.count("caller", end.word());
        self.note(Col::Node, Col::Caller, end.word(), Who::caller(caller));
        self.lease_over(self.callers[caller].lease, self.callers[caller].held_on);
        let Some(node) = self.callers[caller].node else { return };
        let id = self.callers[caller].channel.clone();
        self.nodes[node].callers.remove(&id);
        self.leave_bridge(caller);
        if was == Place::Inside && end != CallerEnd::NodeDied {
            let channel = self.channel(node, &id);
            self.emit(node, Input::CallerLeft(channel));
        }
    }

    fn leave_bridge(&mut self, caller: usize) {
        let id = self.callers[caller].channel.clone();
        let Some(node) = self.callers[caller].node else { return };
        if let Some(offer) = self.callers[caller].bridge.take()
            && let Some(members) = self.nodes[node].bridges.get_mut(&offer)
        {
            members.remove(&id);
        }
        if let Some(leg) = self.callers[caller].talk.take() {
            self.silence_for_agent(leg);
        }
    }

    pub fn talk_max(&mut self, caller: usize, leg: usize) {
        if self.callers[caller].talk == Some(leg) {
            self.end_caller(caller, CallerEnd::TalkMax);
        }
    }

    pub fn treatment_over(&mut self, caller: usize) {
        self.end_caller(caller, CallerEnd::Treated);
    }

    // ---- what is asked of it ----

    pub fn perform(&mut self, node: usize, effect: &Effect, step: u8) -> Outcome {
        let kind = Filter::of_effect(effect);
        if self.refuses(kind) {
            return Outcome::Refused;
        }
        match effect {
            Effect::Attend(attend) => self.attend(node, attend),
            Effect::Join { offer, caller, leg, talk_max_ms, .. } => match step {
                0 => {
                    self.nodes[node].bridges.entry(offer.clone()).or_default();
                    Outcome::Done
                }
                _ => self.join(node, offer, &caller.id, &leg.id, *talk_max_ms),
            },
            Effect::Announce { leg, .. } => self.announce(node, &leg.id),
            Effect::Hush { leg, .. } => self.hush(node, &leg.id),
            Effect::DropLeg { offer, leg, .. } => self.drop_leg(node, offer, &leg.id),
            Effect::Originate(originate) => self.originate(node, originate),
            Effect::Continue { channel, context, extension } => {
                let known = self.plan.setup.treatments.values().any(|treatment| {
                    matches!(treatment, Treatment::Dialplan { context: c, extension: e } if c == context && (e == extension || extension.as_ref() == NUMBER))
                });
                if !known {
                    self.fail(
                        "I3",
                        format!("sent to {context}/{extension}, which nobody laid down"),
                        Who::node(node),
                    );
                }
                self.continue_caller(node, &channel.id)
            }
            Effect::Tell { leg, progress } => self.tell_progress(node, &leg.id, *progress),
            Effect::HangUp { channel, cause } => self.hang_up(node, &channel.id, *cause),
        }
    }

    fn inside(&self, node: usize, id: &ChannelId) -> Option<usize> {
        let caller = self.nodes[node].callers.get(id).copied()?;
        (self.callers[caller].place == Place::Inside).then_some(caller)
    }

    fn attend(&mut self, node: usize, attend: &Attend) -> Outcome {
        let Some(caller) = self.inside(node, &attend.channel.id) else { return Outcome::Gone };
        let now = self.now;
        let of = &mut self.callers[caller];
        of.attended.get_or_insert(now);
        if of.marks.as_ref().is_none_or(|marks| marks.queue != attend.queue) {
            of.queue_since = now;
        }
        of.marks = Some(super::people::Marks {
            queue: attend.queue.clone(),
            priority: attend.priority,
            enqueued: attend.enqueued,
        });
        Outcome::Done
    }

    fn originate(&mut self, node: usize, wanted: &Originate) -> Outcome {
        if self.nodes[node].legs.contains_key(&wanted.leg.id) {
            return Outcome::Done;
        }
        let leg = self.legs.len();
        let caller = self.caller_of.get(&wanted.call).copied();
        let agent =
            self.agents.iter().position(|agent| agent.id == wanted.agent).expect("an agent of this name");
        let proxy =
            self.proxies.iter().position(|proxy| proxy.id == wanted.proxy).expect("a proxy of this name");
        self.legs.push(AgentLeg::new(leg, node, caller, agent, proxy, wanted, self.now));
        self.nodes[node].legs.insert(wanted.leg.id.clone(), leg);
        if let Some(caller) = caller {
            self.callers[caller].live_legs += 1;
        }
        self.note(Col::Node, Col::K1.max(self.proxy_col(proxy)), "INVITE", self.leg_who(leg));
        self.check_committed(leg);
        self.check_order(leg);
        let travels = self.sip_ms();
        self.after(travels, Ev::LegInvite(leg));
        self.after(wanted.ring_ms + 2_000, Ev::RingOver(leg));
        Outcome::Done
    }

    fn join(
        &mut self,
        node: usize,
        offer: &OfferId,
        caller: &ChannelId,
        leg: &ChannelId,
        talk_max_ms: u64,
    ) -> Outcome {
        let (Some(caller), Some(leg)) = (self.inside(node, caller), self.nodes[node].legs.get(leg).copied())
        else {
            return Outcome::Gone;
        };
        if !self.nodes[node].bridges.contains_key(offer) {
            return Outcome::Gone;
        }
        if !self.legs[leg].up {
            return Outcome::Refused;
        }
        // An Asterisk that plays something on a channel joins it with nobody before that is over.
        if self.legs[leg].announced == Announced::Plays {
            return Outcome::Refused;
        }
        if self.callers[caller].talk == Some(leg) {
            return Outcome::Done;
        }
        self.check_join(caller, leg, offer);
        self.leave_bridge(caller);
        let (channel, other) = (self.callers[caller].channel.clone(), self.legs[leg].channel.clone());
        let members = self.nodes[node].bridges.get_mut(offer).expect("it is there");
        members.insert(channel);
        members.insert(other);
        self.callers[caller].bridge = Some(offer.clone());
        self.callers[caller].talk = Some(leg);
        self.now_of(leg, caller);
        self.callers[caller].talked = true;
        self.note(Col::Node, Col::Node, "they talk", self.leg_who(leg));
        self.coverage.count("world", "talk");
        self.after(talk_max_ms, Ev::TalkMax(caller, leg));
        let talk = self.rng.u64(10_000..120_000);
        self.after(talk, Ev::TalkOver(caller, leg));
        Outcome::Done
    }

    /// The leg is this caller's from now on, if it was another one's.
    fn now_of(&mut self, leg: usize, caller: usize) {
        let Some(before) = self.legs[leg].caller.replace(caller).filter(|before| *before != caller) else {
            return;
        };
        self.callers[before].live_legs -= 1;
        self.callers[caller].live_legs += 1;
        if self.callers[before].talk == Some(leg) {
            self.callers[before].talk = None;
        }
    }

    /// A phone that hears that the caller is where they were to be hangs up.
    fn tell_progress(&mut self, node: usize, leg: &ChannelId, progress: Progress) -> Outcome {
        let Some(leg) = self.nodes[node].legs.get(leg).copied() else { return Outcome::Gone };
        self.coverage.count("transfer", progress_word(progress));
        match progress {
            Progress::Rings => {}
            Progress::Answered => self.phone_told_of_transfer(leg, true),
            Progress::Unavailable | Progress::Declined => self.phone_told_of_transfer(leg, false),
        }
        Outcome::Done
    }

    fn drop_leg(&mut self, node: usize, offer: &OfferId, leg: &ChannelId) -> Outcome {
        let found = self.nodes[node].legs.get(leg).copied();
        if let Some(leg) = found {
            self.check_cut(leg);
            let how = if self.legs[leg].up { LegEnd::HungUp } else { LegEnd::Cancelled };
            self.end_leg(leg, how);
        }
        // A bridge that goes leaves its members where they are.
        let members = self.nodes[node].bridges.remove(offer).unwrap_or_default();
        for member in members {
            if let Some(caller) = self.nodes[node].callers.get(&member).copied() {
                self.leave_bridge(caller);
            }
        }
        if found.is_some() { Outcome::Done } else { Outcome::Gone }
    }

    fn continue_caller(&mut self, node: usize, id: &ChannelId) -> Outcome {
        let Some(caller) = self.inside(node, id) else { return Outcome::Gone };
        self.check_kept(caller, "sent to a treatment");
        self.leave_bridge(caller);
        self.callers[caller].place = Place::Treatment;
        let channel = self.channel(node, id);
        self.note(Col::Node, Col::Caller, "treatment", Who::caller(caller));
        self.emit(node, Input::CallerLeft(channel));
        self.after(TREATMENT_MS, Ev::TreatmentOver(caller));
        if self.chance(15) {
            let soon = self.rng.u64(..TREATMENT_MS);
            self.after(soon, Ev::CallerHangsUp(caller));
        }
        Outcome::Done
    }

    fn hang_up(&mut self, node: usize, id: &ChannelId, cause: u16) -> Outcome {
        let Some(caller) = self.nodes[node].callers.get(id).copied() else { return Outcome::Gone };
        self.check_kept(caller, "hung up");
        let no_way_out = cause == CAUSE_NO_WAY_OUT && self.plan.setup.last_resort.is_none();
        let end = if self.callers[caller].agent_left {
            CallerEnd::AfterAgent
        } else if cause == CAUSE_TREATED || no_way_out {
            CallerEnd::TreatedHungUp
        } else {
            if !self.callers[caller].leaving && !self.callers[caller].asks {
                let what = format!("hung up with cause {cause}: no agent has left, and it is no treatment");
                self.fail("I3", what, Who::caller(caller));
            }
            CallerEnd::Dropped
        };
        self.end_caller(caller, end);
        Outcome::Done
    }

    // ---- legs ----

    fn announce(&mut self, node: usize, leg: &ChannelId) -> Outcome {
        let Some(leg) = self.nodes[node].legs.get(leg).copied() else { return Outcome::Gone };
        self.legs[leg].announced = Announced::Plays;
        self.coverage.count("world", "announcement");
        // Every third one has no end that anybody hears of.
        if !leg.is_multiple_of(3) {
            self.after(1_500, Ev::AnnounceOver(leg));
        }
        Outcome::Done
    }

    fn hush(&mut self, node: usize, leg: &ChannelId) -> Outcome {
        let Some(leg) = self.nodes[node].legs.get(leg).copied() else { return Outcome::Gone };
        if std::mem::replace(&mut self.legs[leg].announced, Announced::Not) == Announced::Plays {
            self.coverage.count("world", "hushed");
        }
        Outcome::Done
    }

    pub fn announce_over(&mut self, leg: usize) {
        if self.legs[leg].ended || self.legs[leg].announced != Announced::Plays {
            return;
        }
        self.legs[leg].announced = Announced::Not;
        let (node, offer) = (self.legs[leg].node, self.legs[leg].offer.clone());
        self.emit(node, Input::Announced(offer));
    }

    /// The proxy's answer to the leg's INVITE, or the phone's BYE.
    pub fn leg_reply(&mut self, leg: usize, reply: Result<(), LegEnd>) {
        let (node, ended) = (self.legs[leg].node, self.legs[leg].ended);
        match reply {
            Ok(()) if ended => self.tell_phone(leg),
            Ok(()) => {
                self.legs[leg].up = true;
                if self.nodes[node].attached.is_none() {
                    // Stasis() fails, and there is no dialplan to go on in.
                    self.end_leg(leg, LegEnd::HungUp);
                    return;
                }
                self.note(Col::Node, Col::Instance, "leg answered", self.leg_who(leg));
                let (offer, id) = (self.legs[leg].offer.clone(), self.legs[leg].channel.clone());
                let channel = self.channel(node, &id);
                self.emit(node, Input::LegAnswered { offer, leg: channel });
            }
            Err(_) if ended => {}
            Err(how) => self.end_leg(leg, how),
        }
    }

    pub fn ring_over(&mut self, leg: usize) {
        if !self.legs[leg].up && !self.legs[leg].ended {
            self.end_leg(leg, LegEnd::Cancelled);
        }
    }

    fn end_leg(&mut self, leg: usize, how: LegEnd) {
        let node = self.legs[leg].node;
        self.forget_leg(leg);
        self.coverage.count("leg", leg_end_word(how));
        self.note(Col::Node, Col::Instance, leg_end_word(how), self.leg_who(leg));
        let channel = self.channel(node, &self.legs[leg].channel.clone());
        self.emit(node, Input::LegEnded { leg: channel, how });
    }

    /// The leg's channel is no more.
    fn forget_leg(&mut self, leg: usize) {
        let (node, now) = (self.legs[leg].node, self.now);
        self.legs[leg].ended = true;
        let id = self.legs[leg].channel.clone();
        self.nodes[node].legs.remove(&id);
        for members in self.nodes[node].bridges.values_mut() {
            members.remove(&id);
        }
        if let Some(caller) = self.legs[leg].caller {
            let agent = self.legs[leg].agent;
            let of = &mut self.callers[caller];
            of.live_legs -= 1;
            of.free_since = now;
            of.passed.insert(agent, now);
            if of.talk == Some(leg) {
                of.talk = None;
                of.agent_left = true;
                self.silence_for_caller(caller);
            }
        }
        self.lease_over(self.legs[leg].lease, self.legs[leg].held_on);
        if self.legs[leg].phone.is_on() {
            self.tell_phone(leg);
        }
    }

    /// CANCEL or BYE.
    fn tell_phone(&mut self, leg: usize) {
        let travels = self.sip_ms() + self.sip_ms();
        self.after(travels, Ev::ToPhone(leg));
    }

    // ---- what it shows ----

    /// Channels are one question, bridges another.
    pub fn listing(&mut self, node: usize, begun: EpochMs, step: u8) -> Listing {
        let mut listing = Listing {
            node: self.nodes[node].id.clone(),
            begun,
            callers: Vec::new(),
            legs: Vec::new(),
            bridges: Vec::new(),
        };
        if step == 0 {
            let of = &self.nodes[node];
            let inside = of.callers.values().filter(|caller| self.callers[**caller].place == Place::Inside);
            listing.callers = inside.map(|caller| self.seen_caller(*caller, node)).collect();
            listing.legs = of.legs.values().map(|leg| self.seen_leg(*leg)).collect();
            return listing;
        }
        let of = &self.nodes[node];
        let bridge = |(offer, members): (&OfferId, &BTreeSet<ChannelId>)| SeenBridge {
            offer: offer.clone(),
            members: members.iter().map(|id| self.channel(node, id)).collect(),
        };
        listing.bridges = of.bridges.iter().map(bridge).collect();
        listing
    }

    fn seen_leg(&self, leg: usize) -> SeenLeg {
        let of = &self.legs[leg];
        SeenLeg {
            leg: self.channel(of.node, &of.channel),
            offer: of.offer.clone(),
            agent: self.agents[of.agent].id.clone(),
            call: of.call.clone(),
            queue: of.queue.clone(),
            up: of.up,
        }
    }

    // ---- its death ----

    pub fn kill_node(&mut self, node: usize, for_ms: Ms, number: usize) {
        if !self.nodes[node].alive {
            return;
        }
        self.note(Col::Node, Col::Node, "node dies", Who::node(node));
        self.nodes[node].alive = false;
        if !self.nodes[node].callers.is_empty() {
            self.bite(number);
        }
        self.nodes[node].shaken = self.now + for_ms;
        for caller in self.nodes[node].callers.values().copied().collect::<Vec<_>>() {
            self.end_caller(caller, CallerEnd::NodeDied);
        }
        for leg in self.nodes[node].legs.values().copied().collect::<Vec<_>>() {
            self.forget_leg(leg);
        }
        self.nodes[node].bridges.clear();
        if let Some(link) = self.nodes[node].attached.take() {
            // A process that dies closes its connections; a host that dies does not.
            let after = if self.rng.bool() { self.rng.u64(1..50) } else { self.rng.u64(4_000..9_000) };
            self.links[link].silent = true;
            self.after(after, Ev::LinkDies(link));
        }
        self.health_checks(node, 8_000, 12_000);
        self.after(for_ms, Ev::NodeBack(node));
    }

    pub fn revive_node(&mut self, node: usize) {
        if self.nodes[node].alive {
            return;
        }
        self.note(Col::Node, Col::Node, "node is back", Who::node(node));
        self.nodes[node].alive = true;
        self.nodes[node].shaken = self.now;
        self.health_checks(node, 500, 3_000);
    }
}

impl PhoneState {
    pub fn is_on(self) -> bool {
        match self {
            PhoneState::Ringing | PhoneState::Talking => true,
            PhoneState::None | PhoneState::Over => false,
        }
    }
}

pub fn leg_end_word(how: LegEnd) -> &'static str {
    match how {
        LegEnd::HungUp => "hung up",
        LegEnd::Busy => "486",
        LegEnd::Refused => "603",
        LegEnd::Unregistered => "480",
        LegEnd::Unreachable => "408",
        LegEnd::Fenced => "403",
        LegEnd::Cancelled => "cancelled",
    }
}

fn progress_word(progress: Progress) -> &'static str {
    match progress {
        Progress::Rings => "rings",
        Progress::Answered => "answered",
        Progress::Unavailable => "unavailable",
        Progress::Declined => "declined",
    }
}
