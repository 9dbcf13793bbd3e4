//! People: callers with their patience, agents with their phones and their moods.

use super::ladder::{Col, Who};
use super::plan::{Ms, NUMBER, Plan, Wish};
use super::proxy::PhoneState;
use super::world::{Ev, World};
use mqs::domain::call::Identity;
use mqs::domain::controller::{Command, Input, LegEnd, To, Transfer};
use mqs::domain::id::{AgentId, CallId, ChannelId, LeaseId, OfferId, QueueId};
use mqs::domain::matching::Priority;
use mqs::domain::time::EpochMs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Routing,
    Knocking { since: Ms },
    Inside,
    Treatment,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerEnd {
    GaveUp,
    HungUp,
    AfterAgent,
    Treated,
    TreatedHungUp,
    NodeDied,
    TurnedAway,
    NoRoute,
    TalkMax,
    Dropped,
}

impl CallerEnd {
    pub fn word(self) -> &'static str {
        match self {
            CallerEnd::GaveUp => "gave up",
            CallerEnd::HungUp => "hung up",
            CallerEnd::AfterAgent => "after the agent",
            CallerEnd::Treated => "treated",
            CallerEnd::TreatedHungUp => "treated by hanging up",
            CallerEnd::NodeDied => "node died",
            CallerEnd::TurnedAway => "turned away",
            CallerEnd::NoRoute => "no route",
            CallerEnd::TalkMax => "longest talk",
            CallerEnd::Dropped => "dropped",
        }
    }
}

/// What was noted on a channel.
#[derive(Clone, Debug)]
pub struct Marks {
    pub queue: QueueId,
    pub priority: Priority,
    pub enqueued: EpochMs,
}

/// One call of somebody.
pub struct Caller {
    pub wish: Wish,
    pub identity: Arc<Identity>,
    pub proxy: usize,
    pub node: Option<usize>,
    pub channel: ChannelId,
    pub lease: LeaseId,
    /// The node that the lease is counted on.
    pub held_on: Option<usize>,
    pub targets: Vec<usize>,
    pub attempt: u8,
    pub place: Place,
    pub entered: Option<Ms>,
    pub marks: Option<Marks>,
    pub attended: Option<Ms>,
    /// Since when it is marked with its present queue.
    pub queue_since: Ms,
    pub bridge: Option<OfferId>,
    /// The leg that it talks with.
    pub talk: Option<usize>,
    pub talked: bool,
    /// The leg that it talked with has ended before it did.
    pub agent_left: bool,
    /// The person has hung up; the node does not know yet.
    pub leaving: bool,
    pub live_legs: u32,
    pub free_since: Ms,
    /// Agents that a leg to, or an offer without one, has ended, and when.
    pub passed: BTreeMap<usize, Ms>,
    /// A supervisor had a hand in it.
    pub meddled: bool,
    /// It is an agent's own, who asks before a transfer: it may be hung up for the one that takes its place.
    pub asks: bool,
    pub end: Option<(Ms, CallerEnd)>,
}

impl Caller {
    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// It is in the application, or on its way there.
    pub fn wants_owner(&self) -> bool {
        matches!(self.place, Place::Inside | Place::Knocking { .. })
    }

    pub fn is_inside(&self) -> bool {
        self.place == Place::Inside
    }
}

/// What somebody does whose phone rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Answer,
    Busy,
    Refuse,
}

pub struct Agent {
    pub id: AgentId,
    pub aor: Arc<str>,
    pub phones: [Phone; 2],
    /// The phone in use.
    pub phone: usize,
    /// Legs that were ever sent to a phone and are not over there.
    pub legs: Vec<usize>,
}

pub struct Phone {
    pub proxy: usize,
    pub cseq: u32,
    pub vanished_until: Ms,
}

impl Agent {
    pub fn all(plan: &Plan) -> Vec<Agent> {
        let phone = |proxy| Phone { proxy, cseq: 0, vanished_until: 0 };
        let agent = |(number, (id, rules)): (usize, (&AgentId, &mqs::domain::agent::AgentRules))| Agent {
            id: id.clone(),
            aor: rules.aor.clone(),
            phones: [phone(number % 2), phone((number + 1) % 2)],
            phone: 0,
            legs: Vec::new(),
        };
        plan.setup.agents.iter().chain(&plan.guests).enumerate().map(agent).collect()
    }
}

const REGISTER_EVERY_MS: Ms = 60_000;

impl World {
    pub fn people_come(&mut self) {
        for agent in 0..self.agents.len() {
            let soon = self.rng.u64(100..3_000);
            self.at(soon, Ev::Register(agent, 0));
            // Some come late, some not at all before the end.
            let comes =
                if self.chance(85) { self.rng.u64(3_500..12_000) } else { self.rng.u64(60_000..400_000) };
            self.at(comes, Ev::Mood(agent));
        }
        self.at(45_000, Ev::Supervisor);
        self.at(5_000, Ev::Operator);
    }

    // ---- callers ----

    pub fn dial(&mut self, number: usize) {
        let wish = self.plan.arrivals[number].1.clone();
        self.new_call(wish);
    }

    pub fn redial(&mut self, caller: usize) {
        if !self.healed {
            let wish = self.callers[caller].wish.clone();
            self.new_call(wish);
        }
    }

    fn new_call(&mut self, wish: Wish) {
        let number = self.callers.len();
        let channel: ChannelId = format!("c{number}").parse().unwrap();
        let id: CallId = channel.as_str().parse().unwrap();
        let said = format!("+49{number:07}");
        let identity =
            Identity { name: "".into(), number: said.into(), sip_call_id: format!("sip-{number}").into() };
        self.callers.push(Caller {
            wish,
            identity: Arc::new(identity),
            proxy: self.rng.usize(..2),
            node: None,
            channel,
            lease: LeaseId((number as u128 + 1).to_be_bytes()),
            held_on: None,
            targets: Vec::new(),
            attempt: 0,
            place: Place::Routing,
            entered: None,
            marks: None,
            attended: None,
            queue_since: 0,
            bridge: None,
            talk: None,
            talked: false,
            agent_left: false,
            leaving: false,
            asks: false,
            live_legs: 0,
            free_since: 0,
            passed: BTreeMap::new(),
            meddled: false,
            end: None,
        });
        self.caller_of.insert(id, number);
        let patience =
            if self.chance(25) { self.rng.u64(3_000..40_000) } else { self.rng.u64(40_000..400_000) };
        self.after(patience, Ev::Patience(number));
        self.route(number);
    }

    /// Somebody who waits gives up; who talks does not.
    pub fn patience_ends(&mut self, caller: usize) {
        let of = &self.callers[caller];
        if self.healed || of.is_over() || of.talk.is_some() || of.place == Place::Treatment || of.leaving {
            return;
        }
        self.caller_hangs_up(caller);
        if self.chance(30) {
            let later = self.rng.u64(500..30_000);
            self.after(later, Ev::Redial(caller));
        }
    }

    pub fn caller_hangs_up(&mut self, caller: usize) {
        if self.callers[caller].is_over() || self.callers[caller].leaving {
            return;
        }
        self.callers[caller].leaving = true;
        let to = self.proxy_col(self.callers[caller].proxy);
        self.note(Col::Caller, to, "BYE", Who::caller(caller));
        let travels = self.sip_ms() + self.sip_ms();
        self.after(travels, Ev::CallerBye(caller));
    }

    pub fn caller_bye(&mut self, caller: usize) {
        let end = if self.callers[caller].talked { CallerEnd::HungUp } else { CallerEnd::GaveUp };
        self.end_caller(caller, end);
    }

    pub fn talk_over(&mut self, caller: usize, leg: usize) {
        if self.callers[caller].talk != Some(leg) || self.callers[caller].leaving {
            return;
        }
        if !self.legs[leg].refers && self.rng.u8(..100) < 20 {
            self.phone_refers(caller, leg);
        } else if self.rng.bool() {
            self.caller_hangs_up(caller);
        } else {
            self.phone_hangs_up(leg);
        }
    }

    /// The agent has gone: some hang up, some wait for what comes.
    pub fn silence_for_caller(&mut self, caller: usize) {
        if self.rng.bool() {
            let later = self.rng.u64(2_000..40_000);
            self.after(later, Ev::Patience(caller));
        }
    }

    pub fn silence_for_agent(&mut self, leg: usize) {
        if self.rng.bool() {
            let later = self.rng.u64(2_000..20_000);
            self.after(later, Ev::PhoneSilence(leg));
        }
    }

    // ---- agents ----

    /// A phone refreshes its registration; sometimes another phone does, or another proxy gets it.
    pub fn register(&mut self, agent: usize, phone: usize) {
        if self.agents[agent].phone != phone {
            return;
        }
        let mut phone = phone;
        if !self.healed && self.chance(6) {
            phone = 1 - phone;
            self.agents[agent].phone = phone;
        }
        if !self.healed && self.chance(6) {
            self.agents[agent].phones[phone].proxy = self.rng.usize(..2);
        }
        if !self.healed && self.chance(3) {
            let gone = self.rng.u64(10_000..120_000);
            self.agents[agent].phones[phone].vanished_until = self.now + gone;
        }
        if self.agents[agent].phones[phone].vanished_until <= self.now {
            self.agents[agent].phones[phone].cseq += 1;
            let cseq = self.agents[agent].phones[phone].cseq;
            let travels = self.sip_ms();
            if !self.loses_register() {
                self.after(travels, Ev::RegisterArrives(agent, phone, cseq));
            }
        }
        let next = REGISTER_EVERY_MS - self.rng.u64(..3_000);
        self.after(next, Ev::Register(agent, phone));
    }

    /// An agent presses a key of the phone, or of a screen.
    pub fn mood(&mut self, agent: usize) {
        if self.healed {
            return;
        }
        let id = self.agents[agent].id.clone();
        let (command, then) = match self.rng.u8(..10) {
            0..7 => (Command::Toggle(id), self.rng.u64(60_000..400_000)),
            7 => (Command::Pause(id.clone(), "break".into()), self.rng.u64(5_000..30_000)),
            8 => (Command::Resume(id), self.rng.u64(60_000..200_000)),
            _ => (Command::Login(id), self.rng.u64(60_000..300_000)),
        };
        let away = matches!(command, Command::Pause(..));
        self.command(command);
        if away {
            self.after(then, Ev::Mood(agent));
            let id = self.agents[agent].id.clone();
            let key = self.next_key();
            self.after(then + 2_000, Ev::Send(key, Command::Resume(id)));
        } else {
            self.after(then, Ev::Mood(agent));
            // Who left comes back soon, as a rule.
            let back = self.rng.u64(10_000..50_000);
            if self.chance(70) && self.now > 30_000 {
                let id = self.agents[agent].id.clone();
                let key = self.next_key();
                self.after(back, Ev::Send(key, Command::Login(id)));
            }
        }
    }

    /// Somebody at a desk moves a call about.
    pub fn supervise(&mut self) {
        if self.healed {
            return;
        }
        let waiting: Vec<usize> = (0..self.callers.len())
            .filter(|c| self.callers[*c].is_inside() && self.callers[*c].talk.is_none())
            .collect();
        if !waiting.is_empty() {
            let caller = waiting[self.rng.usize(..waiting.len())];
            self.callers[caller].meddled = true;
            let call: CallId = self.callers[caller].channel.as_str().parse().unwrap();
            let command = match self.rng.u8(..4) {
                0 => Command::Move(call, "plain".parse().unwrap()),
                1 => Command::Prioritize(call, Priority::MAX),
                2 => Command::Withdraw(call, "voicemail".parse().unwrap()),
                _ => Command::Logout(self.agents[self.rng.usize(..self.agents.len())].id.clone()),
            };
            self.command(command);
        }
        let next = self.rng.u64(15_000..60_000);
        self.after(next, Ev::Supervisor);
    }

    pub fn next_key(&mut self) -> String {
        self.key_number += 1;
        format!("key-{}", self.key_number)
    }

    /// Sent through whichever instance; at times twice.
    pub fn command(&mut self, command: Command) {
        let key = self.next_key();
        if self.chance(20) {
            let later = self.rng.u64(5..3_000);
            self.after(later, Ev::Send(key.clone(), command.clone()));
        }
        let soon = self.rng.u64(1..30);
        self.after(soon, Ev::Send(key, command));
    }

    /// After the heal all phones are there, and all agents are at work.
    pub fn call_everybody_to_work(&mut self) {
        for agent in 0..self.agents.len() {
            let phone = self.agents[agent].phone;
            self.agents[agent].phones[phone].vanished_until = self.now;
            let soon = self.rng.u64(10..2_000);
            self.after(soon, Ev::Register(agent, phone));
            let id = self.agents[agent].id.clone();
            self.lay_down_again(&id);
            for command in [Command::Login(id.clone()), Command::Resume(id)] {
                let later = self.rng.u64(5_000..9_000);
                let key = self.next_key();
                self.after(later, Ev::Send(key, command));
            }
        }
    }

    // ---- phones ----

    /// The phone rings.
    pub fn phone_invite(&mut self, leg: usize) {
        let agent = self.legs[leg].agent;
        if self.legs[leg].ended {
            return;
        }
        let phone = self.legs[leg].phone_number;
        if self.agents[agent].phones[phone].vanished_until > self.now {
            self.after(5_000, Ev::NoReply(leg));
            return;
        }
        self.note(Col::Phone, Col::Phone, "rings", self.leg_who(leg));
        self.legs[leg].phone = PhoneState::Ringing;
        self.check_one_leg(agent, leg);
        self.agents[agent].legs.push(leg);
        self.leg_lease_confirmed(leg);
        self.coverage.count("world", "ring");
        let patient = if self.healed { 90 } else { 72 };
        let (choice, after) = match self.rng.u32(..100) {
            n if n < patient => (Some(Choice::Answer), self.rng.u64(1_000..8_000)),
            n if n < patient + 4 => (Some(Choice::Busy), 5),
            n if n < patient + 8 => (Some(Choice::Refuse), self.rng.u64(500..4_000)),
            _ => (None, 0),
        };
        if let Some(choice) = choice {
            self.after(after, Ev::PhoneDecides(leg, choice));
        }
        if let Some(caller) = self.legs[leg].caller
            && self.chance(4)
        {
            let soon = self.rng.u64(..after.max(200));
            self.after(soon, Ev::Patience(caller));
        }
    }

    pub fn phone_decides(&mut self, leg: usize, choice: Choice) {
        if self.legs[leg].phone != PhoneState::Ringing {
            return;
        }
        let travels = self.sip_ms() + self.sip_ms();
        let to = self.proxy_col(self.legs[leg].proxy);
        match choice {
            Choice::Answer => {
                self.legs[leg].phone = PhoneState::Talking;
                self.note(Col::Phone, to, "200", self.leg_who(leg));
                let crossing = self.legs[leg].caller.filter(|_| !self.healed && self.rng.u8(..100) < 3);
                if let Some(caller) = crossing {
                    // In the very moment in which the answer comes to the node.
                    self.callers[caller].leaving = true;
                    self.after(travels, Ev::CallerBye(caller));
                }
                self.after(travels, Ev::LegReply(leg, Ok(())));
                let silence = travels + self.rng.u64(15_000..25_000);
                if self.rng.bool() {
                    self.after(silence, Ev::PhoneSilence(leg));
                }
            }
            Choice::Busy => self.phone_ends(leg, LegEnd::Busy, travels),
            Choice::Refuse => self.phone_ends(leg, LegEnd::Refused, travels),
        }
    }

    /// The agent passes the caller on: to a queue, a colleague, out of the system, or into the place of a call on the same node, which is
    /// taken to be the agent's own from now on.
    fn phone_refers(&mut self, caller: usize, leg: usize) {
        let setup = self.plan.setup.clone();
        let dialled = match self.rng.u8(..4) {
            0 => setup.queues.keys().nth(self.rng.usize(..setup.queues.len())).map(ToString::to_string),
            1 | 2 => setup.agents.keys().nth(self.rng.usize(..setup.agents.len())).map(ToString::to_string),
            _ => Some(NUMBER.to_owned()),
        };
        self.legs[leg].refers = true;
        self.callers[caller].meddled = true;
        let place = self.rng.bool().then(|| self.another_on(self.legs[leg].node, caller)).flatten();
        let (node, offer) = (self.legs[leg].node, self.legs[leg].offer.clone());
        let channel = self.channel(node, &self.legs[leg].channel.clone());
        let to = match place {
            Some(other) => {
                (self.callers[other].asks, self.callers[other].meddled) = (true, true);
                To::Place { of: self.callers[other].channel.clone(), with: None }
            }
            None => To::Dialled(dialled.unwrap_or_default().into()),
        };
        self.note(Col::Phone, Col::Node, "REFER", self.leg_who(leg));
        self.emit(node, Input::Transfer(Transfer { offer, leg: channel, to }));
        // Some wait for what they are told, some hang up at once; nobody waits for ever.
        let patience =
            if self.rng.u8(..100) < 30 { self.rng.u64(50..3_000) } else { self.rng.u64(5_000..60_000) };
        self.after(patience, Ev::TalkOver(caller, leg));
    }

    fn another_on(&mut self, node: usize, caller: usize) -> Option<usize> {
        let others = self.nodes[node].callers.values().copied().filter(|other| *other != caller);
        let inside: Vec<usize> = others.filter(|other| self.callers[*other].is_inside()).collect();
        (!inside.is_empty()).then(|| inside[self.rng.usize(..inside.len())])
    }

    /// The phone is told what has come of it.
    pub fn phone_told_of_transfer(&mut self, leg: usize, passed: bool) {
        if passed {
            self.phone_hangs_up(leg);
        } else {
            self.legs[leg].refers = false;
        }
    }

    fn phone_hangs_up(&mut self, leg: usize) {
        if self.legs[leg].phone == PhoneState::Talking {
            let travels = self.sip_ms() + self.sip_ms();
            self.phone_ends(leg, LegEnd::HungUp, travels);
        }
    }

    fn phone_ends(&mut self, leg: usize, how: LegEnd, travels: Ms) {
        let to = self.proxy_col(self.legs[leg].proxy);
        self.note(Col::Phone, to, super::node::leg_end_word(how), self.leg_who(leg));
        self.phone_over(leg);
        self.after(travels, Ev::LegReply(leg, Err(how)));
    }

    fn phone_over(&mut self, leg: usize) {
        self.legs[leg].phone = PhoneState::Over;
        let agent = self.legs[leg].agent;
        self.agents[agent].legs.retain(|other| *other != leg);
    }

    /// The agent hears nobody.
    pub fn phone_silence(&mut self, leg: usize) {
        let talks = self.legs[leg].caller.is_some_and(|caller| self.callers[caller].talk == Some(leg));
        if !talks {
            self.phone_hangs_up(leg);
        }
    }

    /// CANCEL or BYE has come to the phone.
    pub fn phone_told(&mut self, leg: usize) {
        if self.legs[leg].phone.is_on() {
            let from = self.proxy_col(self.legs[leg].proxy);
            self.note(from, Col::Phone, "CANCEL or BYE", self.leg_who(leg));
            self.phone_over(leg);
        }
    }
}
