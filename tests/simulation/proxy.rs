//! The two Kamailios: they route callers to nodes, redeem the tokens of legs, find phones, and pass on what phones and
//! people say.

use super::WorldBug;
use super::checks::key_number;
use super::ladder::{Col, Who};
use super::people::{CallerEnd, Place};
use super::plan::Ms;
use super::world::{Ev, World};
use mqs::domain::controller::{Command, LegEnd, Originate};
use mqs::domain::id::{CallId, ChannelId, LeaseId, OfferId, ProxyId, QueueId};
use mqs::store::cell::{Accepted, Register};
use std::collections::BTreeMap;

const EXPIRES_MS: u64 = 90_000;
/// How long the store may take to answer a redemption; the Redis client asks once more then.
const REDEEM_MS: Ms = 200;

pub struct Proxy {
    pub id: ProxyId,
    pub down_until: Ms,
    pub shaken: Ms,
    /// Agents' phones, and until when: one contact each, the latest.
    pub location: BTreeMap<usize, (usize, Ms)>,
}

impl Proxy {
    pub fn all() -> Vec<Proxy> {
        let proxy = |name: &str| Proxy {
            id: name.parse().unwrap(),
            down_until: 0,
            shaken: 0,
            location: BTreeMap::new(),
        };
        vec![proxy("k1"), proxy("k2")]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneState {
    /// It has not heard of the leg.
    None,
    Ringing,
    Talking,
    Over,
}

/// A leg to an agent: its channel at the node, its transaction at the proxy, its call at the phone.
pub struct AgentLeg {
    pub node: usize,
    pub caller: Option<usize>,
    pub agent: usize,
    pub proxy: usize,
    pub offer: OfferId,
    pub channel: ChannelId,
    pub call: CallId,
    pub queue: QueueId,
    /// The SIP Call-ID: another one for each, also where the channel's name is the same.
    pub sip: String,
    /// When the channel was made.
    pub made: Ms,
    pub up: bool,
    /// The agent has asked for a transfer, and was not told that it cannot be.
    pub refers: bool,
    /// The channel is no more.
    pub ended: bool,
    pub phone: PhoneState,
    pub phone_number: usize,
    pub lease: LeaseId,
    pub held_on: Option<usize>,
    pub announced: Announced,
}

/// What the agent hears before the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nothing, or nothing any more.
    Not,
    Plays,
}

impl AgentLeg {
    pub fn new(
        number: usize,
        node: usize,
        caller: Option<usize>,
        agent: usize,
        proxy: usize,
        wanted: &Originate,
        now: Ms,
    ) -> AgentLeg {
        AgentLeg {
            node,
            caller,
            agent,
            proxy,
            offer: wanted.offer.clone(),
            channel: wanted.leg.id.clone(),
            call: wanted.call.clone(),
            queue: wanted.queue.clone(),
            sip: format!("leg-{number}"),
            made: now,
            up: false,
            refers: false,
            ended: false,
            phone: PhoneState::None,
            phone_number: 0,
            lease: LeaseId(((1_u128 << 64) + number as u128).to_be_bytes()),
            held_on: None,
            announced: Announced::Not,
        }
    }
}

impl World {
    pub fn proxy_col(&self, proxy: usize) -> Col {
        if proxy == 0 { Col::K1 } else { Col::K2 }
    }

    /// A proxy that is restarting is asked again by whoever sent the request: how long until then.
    fn asks_again(&mut self, proxy: usize) -> Option<Ms> {
        if self.proxies[proxy].down_until <= self.now {
            return None;
        }
        if let Some(number) = self.faults.proxy.get(&proxy).copied() {
            self.bite(number);
        }
        Some(self.proxies[proxy].down_until - self.now + self.rng.u64(1..500))
    }

    // ---- callers ----

    /// An INVITE from outside.
    pub fn route(&mut self, caller: usize) {
        let proxy = self.callers[caller].proxy;
        if self.asks_again(proxy).is_some() {
            // The trunk goes on to the other one.
            self.callers[caller].proxy = 1 - proxy;
        }
        let lease = self.callers[caller].lease;
        let Some(targets) = self.lookup_new(lease) else {
            self.end_caller(caller, CallerEnd::NoRoute);
            return;
        };
        self.callers[caller].held_on = Some(targets[0]);
        self.callers[caller].targets = targets;
        if self.chance(30) {
            let soon = self.rng.u64(1..400);
            self.after(soon, Ev::RouteAgain(caller));
        }
        let travels = self.sip_ms();
        self.note(Col::Caller, self.proxy_col(self.callers[caller].proxy), "INVITE", Who::caller(caller));
        self.after(travels, Ev::CallerInvite(caller));
    }

    /// The same lookup once more: the same answer, and no further lease.
    pub fn route_again(&mut self, caller: usize) {
        if self.callers[caller].held_on.is_none() || self.callers[caller].attempt > 0 {
            return;
        }
        let answer = self.lookup_new(self.callers[caller].lease);
        if answer.as_ref() != Some(&self.callers[caller].targets) {
            let what = format!("first {:?}, then {answer:?}", self.callers[caller].targets);
            self.fail("I7", what, Who::caller(caller));
        }
    }

    /// The INVITE is at the node that it was routed to.
    pub fn caller_invite(&mut self, caller: usize) {
        if self.callers[caller].is_over() {
            return;
        }
        let Some(node) = self.callers[caller].held_on else { return };
        if !self.nodes[node].alive {
            self.after(1_000, Ev::NodeSilent(caller));
            return;
        }
        let channel = self.callers[caller].channel.clone();
        self.nodes[node].callers.insert(channel, caller);
        self.callers[caller].node = Some(node);
        self.callers[caller].place = Place::Knocking { since: self.now };
        let travels = self.sip_ms();
        self.after(travels, Ev::LeaseConfirm(caller));
        self.knock(caller);
    }

    /// No reply from the node: on to the next target.
    pub fn node_silent(&mut self, caller: usize) {
        if self.callers[caller].is_over() {
            return;
        }
        let branch = self.callers[caller].attempt;
        match self.lease_failed(self.callers[caller].lease, branch) {
            Some((attempt, node)) => {
                self.coverage.count("world", "next target");
                self.callers[caller].attempt = attempt;
                self.callers[caller].held_on = Some(node);
                let travels = self.sip_ms();
                self.after(travels, Ev::CallerInvite(caller));
            }
            None => {
                self.callers[caller].held_on = None;
                self.end_caller(caller, CallerEnd::NoRoute);
            }
        }
    }

    // ---- legs ----

    /// The INVITE of a leg.
    pub fn leg_invite(&mut self, leg: usize) {
        if self.legs[leg].ended {
            return;
        }
        let proxy = self.legs[leg].proxy;
        if let Some(later) = self.asks_again(proxy) {
            self.after(later, Ev::LegInvite(leg));
            return;
        }
        self.note(self.proxy_col(proxy), Col::Store, "redeem", self.leg_who(leg));
        let travels = self.store_ms();
        self.after(travels, Ev::Redeem(leg, 0));
    }

    /// The question has come to the store.
    pub fn redeem(&mut self, leg: usize, tries: u8) {
        if self.store_is_away() {
            match tries {
                0 => self.after(REDEEM_MS, Ev::Redeem(leg, 1)),
                _ => self.after(REDEEM_MS, Ev::LegReply(leg, Err(LegEnd::Unreachable))),
            }
            return;
        }
        self.store.set_clock(self.now);
        let offer = self.legs[leg].offer.as_str().to_owned();
        let said = self.store.desk.redeem(&offer, &self.legs[leg].sip);
        self.coverage.count("redeemed", redeemed_word(said));
        self.note(Col::Store, self.proxy_col(self.legs[leg].proxy), redeemed_word(said), self.leg_who(leg));
        if tries == 0 && !self.healed && self.chance(2) {
            // The answer is lost, and the client asks once more.
            self.after(REDEEM_MS, Ev::Redeem(leg, 1));
            return;
        }
        let rings = said.rings() || self.options.bug == Some(WorldBug::NoFence);
        let travels = self.store_ms();
        self.after(travels, Ev::Redeemed(leg, rings));
    }

    pub fn redeemed(&mut self, leg: usize, rings: bool) {
        if self.legs[leg].ended {
            return;
        }
        let travels = self.sip_ms();
        if !rings {
            self.after(travels, Ev::LegReply(leg, Err(LegEnd::Fenced)));
            return;
        }
        let (proxy, agent, node) = (self.legs[leg].proxy, self.legs[leg].agent, self.legs[leg].node);
        let contact =
            self.proxies[proxy].location.get(&agent).copied().filter(|(_, until)| *until > self.now);
        let Some((phone, _)) = contact else {
            self.after(travels, Ev::LegReply(leg, Err(LegEnd::Unregistered)));
            return;
        };
        self.lookup_leg(self.legs[leg].lease, node);
        self.legs[leg].held_on = Some(node);
        self.legs[leg].phone_number = phone;
        self.note(self.proxy_col(proxy), Col::Phone, "INVITE", self.leg_who(leg));
        self.after(travels, Ev::PhoneInvite(leg));
    }

    /// The phone did not say a word.
    pub fn no_reply(&mut self, leg: usize) {
        if !self.legs[leg].ended {
            let travels = self.sip_ms();
            self.after(travels, Ev::LegReply(leg, Err(LegEnd::Unreachable)));
        }
    }

    // ---- registrations and commands ----

    pub fn register_arrives(&mut self, agent: usize, phone: usize, cseq: u32) {
        let proxy = self.agents[agent].phones[phone].proxy;
        if let Some(later) = self.asks_again(proxy) {
            self.after(later, Ev::RegisterArrives(agent, phone, cseq));
            return;
        }
        if self.agents[agent].phones[phone].cseq != cseq {
            return;
        }
        let until = self.now + EXPIRES_MS;
        self.proxies[proxy].location.insert(agent, (phone, until));
        if self.store_is_away() {
            self.after(1_000, Ev::RegisterArrives(agent, phone, cseq));
            return;
        }
        self.store.set_clock(self.now);
        let register = Register {
            aor: self.agents[agent].aor.to_string(),
            proxy: self.proxies[proxy].id.clone(),
            expires_ms: EXPIRES_MS,
            call_id: format!("reg-{agent}-{phone}-{proxy}"),
            cseq,
        };
        self.store.desk.register(&register);
        self.coverage.count("world", "register");
    }

    /// A command for the leader's inbox.
    pub fn send(&mut self, key: String, command: Command) {
        if self.store_is_away() {
            self.after(1_000, Ev::Send(key, command));
            return;
        }
        self.store.set_clock(self.now);
        self.coverage.count("command", command_word(&command));
        match self.store.desk.send(&key, &command) {
            Accepted::New(_) => {
                let who = Who::default().with_number(key_number(&key));
                self.note(Col::Phone, Col::Store, "command", who);
                self.keys.entry(key).or_insert((self.now, 0));
            }
            Accepted::Repeated(_) => self.coverage.count("world", "command repeated"),
            Accepted::Full => self.fail("Bounds", "the inbox is full".to_owned(), Who::default()),
        }
    }
}

fn redeemed_word(said: mqs::store::cell::Redeemed) -> &'static str {
    use mqs::store::cell::Redeemed;
    match said {
        Redeemed::Yes => "yes",
        Redeemed::Again => "again",
        Redeemed::Used => "used",
        Redeemed::Stale => "stale",
        Redeemed::Unknown => "unknown",
    }
}

fn command_word(command: &Command) -> &'static str {
    match command {
        Command::Login(_) => "login",
        Command::Logout(_) => "logout",
        Command::Toggle(_) => "toggle",
        Command::Pause(..) => "pause",
        Command::Resume(_) => "resume",
        Command::TogglePause(..) => "toggle-pause",
        Command::SetAgent(..) => "set-agent",
        Command::RemoveAgent(_) => "remove-agent",
        Command::SetQueue(..) => "set-queue",
        Command::RemoveQueue(_) => "remove-queue",
        Command::OwnCallBegan { .. } => "own-call-began",
        Command::OwnCallEnded { .. } => "own-call-ended",
        Command::OwnCallsLost(_) => "own-calls-lost",
        Command::Move(..) => "move",
        Command::Prioritize(..) => "prioritize",
        Command::Withdraw(..) => "withdraw",
    }
}
