//! Leadership, commit, take-over and reconcile: a machine without I/O around [`crate::domain::controller`].
//!
//! An instance is a *standby* that asks for the leadership four times a second, or it *opens* the cell (shuts out its
//! predecessor and reads what that one left), or it *leads*: then it alone drives the cell's nodes.
//!
//! * [`leading`]: what the controller says goes to the store in batches, and to the nodes
//! * [`nodes`]: the connections to them · [`clock`]: the cell's time · [`io`](self): what it is told, and asks for
//!
//! What keeps two leaders from harming anybody, should there be two for a moment:
//!
//! 1. The store refuses what an older epoch writes, and the batch numbers show when it has forgotten something.
//! 2. A leader believes in its right only for [`SURE_MS`] after it *asked* for it, a good while less than the store grants.
//! 3. Nothing that promises is sent before the batch that says so is committed.
//! 4. The Kamailio rings an agent only for a token that the store lets pass, once, in the present epoch.

mod clock;
mod io;
mod leading;
mod nodes;
#[cfg(test)]
mod tests;

pub use io::*;

use crate::domain::controller;
use crate::domain::id::NodeId;
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use crate::store::cell::{Candidate, Leadership};
use clock::CellClock;
use leading::Leading;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The leadership is granted for so long, in ms.
pub const LEASE_MS: u64 = 4_000;

/// A leader asks again so often, in ms.
pub const RENEW_MS: u64 = 1_000;

/// A leader believes in its right for so long after it asked, in ms.
pub const SURE_MS: u64 = 2_500;

/// A standby asks so often, in ms.
pub const POLL_MS: u64 = 250;

/// A standby waits so long, in ms, before it takes a cell that the store knows nothing of: its leader, if there is one, has
/// everything in memory.
pub const FOUND_AFTER_MS: u64 = 3_000;

/// What the store did not answer is asked again after so long, in ms.
pub const RETRY_MS: u64 = 100;

/// What a pilot is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instance, another name after each start.
    pub holder: String,
    /// What the strategy `random` draws from.
    pub seed: u64,
    /// A defect that is put in on purpose, so that a test can show that it is found.
    pub seeded: Option<Seeded>,
}

/// Defects that a simulation has to find. No configuration reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeded {
    /// Claims are acted upon before their batch was committed.
    ActBeforeCommit,
    /// The position in the inbox is not part of the commit.
    CursorOutsideCommit,
    /// One of the controller's.
    Rule(controller::Seeded),
}

/// Leadership, commit, take-over and reconcile.
#[derive(Debug)]
pub struct Pilot {
    settings: Settings,
    /// It has been told what is laid down, and which nodes there are: before that it does not stand for the leadership, since a
    /// leader gives up what is on nodes that it does not know.
    is_set_up: bool,
    setup: Arc<Setup>,
    nodes: Vec<NodeId>,
    /// Nodes that the health checks call dead.
    dead: BTreeSet<NodeId>,
    clock: CellClock,
    asks: u64,
    seat: Seat,
    role: Role,
    out: VecDeque<Output>,
    /// It has been told to end.
    resigned: bool,
}

/// The questions for the leadership.
#[derive(Debug, Default)]
struct Seat {
    /// The question that is open, and when it was sent.
    asked: Option<(Ask, Mono)>,
    /// When to ask next.
    next: Mono,
    /// Since when the store says that it knows nothing of the cell.
    unknown_since: Option<Mono>,
    /// A new epoch is wanted: the store has forgotten.
    anew: bool,
}

#[derive(Debug)]
enum Role {
    Standby,
    /// It has the leadership, and reads what is there.
    Opening {
        epoch: u64,
        sure_until: Mono,
        asked: Option<Ask>,
        again: Mono,
    },
    Leading(Box<Leading>),
}

impl Pilot {
    /// One that leads nothing yet.
    pub fn new(settings: Settings) -> Pilot {
        Pilot {
            settings,
            is_set_up: false,
            setup: Arc::new(Setup::default()),
            nodes: Vec::new(),
            dead: BTreeSet::new(),
            clock: CellClock::default(),
            asks: 0,
            seat: Seat::default(),
            role: Role::Standby,
            out: VecDeque::new(),
            resigned: false,
        }
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, input: Input, now: Mono) {
        match input {
            Input::Tick => {}
            Input::Setup { setup, nodes } => self.set_up(setup, nodes, now),
            Input::Led(ask, answer) => self.led(ask, answer, now),
            Input::Opened(ask, found) => self.opened(ask, found, now),
            Input::NodeDead(node) => {
                self.dead.insert(node.clone());
                self.lead(|leading, _| leading.node_dead(&node, now), now);
            }
            Input::NodeAlive(node) => {
                self.dead.remove(&node);
                self.lead(|leading, _| leading.nodes.list_by(&node, now), now);
            }
            Input::Committed(ask, answer) => {
                if self.lead(|leading, _| leading.committed(ask, answer, now), now)
                    == Some(leading::Verdict::Fenced)
                {
                    self.step_down(Why::Fenced, now);
                }
            }
            Input::Inbox(ask, letters) => _ = self.lead(|leading, _| leading.inbox(ask, letters, now), now),
            Input::Registrations(ask, all) => {
                self.lead(|leading, _| leading.registrations(ask, all, now), now);
            }
            Input::NodeUp(node, link) => {
                self.dead.remove(&node);
                self.lead(|leading, _| leading.node_up(&node, link, now), now);
            }
            Input::NodeDown(node, link) => {
                self.lead(|leading, _| leading.node_down(&node, link), now);
            }
            Input::NodeReplaced(node, link) => {
                self.lead(|leading, out| leading.node_replaced(&node, link, now, out), now);
            }
            Input::Event(node, link, event) => {
                self.lead(|leading, _| leading.event(&node, link, event), now);
            }
            Input::Probed(ask) => {
                if let Role::Leading(leading) = &mut self.role {
                    leading.probed(ask, now, &mut self.asks, &mut self.out);
                }
            }
            Input::Listed(ask, listing) => {
                self.lead(|leading, _| leading.node_listed(ask, listing, now), now);
            }
            Input::Acted(ask, outcome) => {
                self.lead(|leading, _| leading.acted(ask, outcome, now), now);
            }
            Input::Resign => {
                self.resigned = true;
                self.step_down(Why::Asked, now);
            }
        }
        self.proceed(now);
    }

    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When it wants to be told the time.
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.resigned || !self.is_set_up {
            return None;
        }
        let seat = self.seat.asked.is_none().then_some(self.seat.next);
        let role = match &self.role {
            Role::Standby => None,
            Role::Opening { asked, again, .. } => asked.is_none().then_some(*again),
            Role::Leading(leading) => leading.next_timeout(&self.clock),
        };
        seat.into_iter().chain(role).min()
    }

    /// Whether something may be sent to a node by this right. To be asked at the moment of sending.
    pub fn may_send(&self, right: Right, now: Mono) -> bool {
        match (&self.role, right) {
            (Role::Leading(_), Right::Until(until)) => now < until,
            (Role::Leading(leading), Right::Linked(link)) => leading.has_link(link),
            (Role::Standby | Role::Opening { .. }, _) => false,
        }
    }

    /// Its name among the instances.
    pub fn holder(&self) -> &str {
        &self.settings.holder
    }

    /// The epoch in which it leads.
    pub fn epoch(&self) -> Option<u64> {
        match &self.role {
            Role::Leading(leading) => Some(leading.epoch),
            Role::Standby | Role::Opening { .. } => None,
        }
    }

    /// What it knows as a leader.
    pub fn controller(&self) -> Option<&controller::Controller> {
        match &self.role {
            Role::Leading(leading) => Some(&leading.controller),
            Role::Standby | Role::Opening { .. } => None,
        }
    }

    /// The cell's time at the last input, for a leader.
    pub fn time(&self) -> Option<EpochMs> {
        match &self.role {
            Role::Leading(leading) => Some(leading.time),
            Role::Standby | Role::Opening { .. } => None,
        }
    }

    fn new_ask(&mut self) -> Ask {
        self.asks += 1;
        Ask(self.asks)
    }

    /// For a leader: does something, then lets the controller have the time and its outputs go where they belong.
    fn lead<T>(
        &mut self,
        act: impl FnOnce(&mut Leading, &mut VecDeque<Output>) -> T,
        now: Mono,
    ) -> Option<T> {
        let Role::Leading(leading) = &mut self.role else { return None };
        leading.time = self.clock.now(leading.sure_part(now));
        Some(act(leading, &mut self.out))
    }

    fn set_up(&mut self, setup: Arc<Setup>, nodes: Vec<NodeId>, now: Mono) {
        self.is_set_up = true;
        self.setup = setup.clone();
        self.nodes = nodes.clone();
        self.lead(|leading, out| leading.set_up(setup, &nodes, out), now);
    }

    /// The store has said who leads.
    fn led(&mut self, ask: Ask, answer: Option<Leadership>, now: Mono) {
        let Some((_, sent)) = self.seat.asked.take_if(|(asked, _)| *asked == ask) else { return };
        let leads = !matches!(self.role, Role::Standby);
        self.seat.next = match &answer {
            None => now.after(RETRY_MS),
            Some(Leadership::Yours { .. }) => sent.after(RENEW_MS),
            Some(Leadership::Theirs { .. } | Leadership::Unknown { .. }) => sent.after(POLL_MS),
        };
        match answer {
            None => {}
            // It had been asked for before; nobody else is to wait for its end.
            Some(Leadership::Yours { epoch, .. }) if self.resigned => {
                self.out.push_back(Output::Resign(epoch));
            }
            Some(Leadership::Yours { epoch, now: store }) => {
                self.clock.set(store, sent, now);
                self.seat.unknown_since = None;
                self.yours(epoch, sent, now);
            }
            Some(Leadership::Theirs { now: store, .. }) => {
                self.clock.set(store, sent, now);
                self.seat.unknown_since = None;
                if leads {
                    self.step_down(Why::Other, now);
                }
            }
            Some(Leadership::Unknown { now: store }) => {
                self.clock.set(store, sent, now);
                self.seat.unknown_since.get_or_insert(now);
                if leads {
                    self.step_down(Why::Other, now);
                }
            }
        }
    }

    fn yours(&mut self, epoch: u64, sent: Mono, now: Mono) {
        let until = sent.after(SURE_MS);
        match &mut self.role {
            Role::Opening { epoch: opening, sure_until, .. } if *opening == epoch => *sure_until = until,
            Role::Standby | Role::Opening { .. } => {
                self.role = Role::Opening { epoch, sure_until: until, asked: None, again: now };
            }
            Role::Leading(leading) => {
                leading.renewed(epoch, until, sent, &mut self.out);
                if leading.epoch == epoch {
                    self.seat.anew = false;
                }
            }
        }
    }

    /// What the last leader has left.
    fn opened(&mut self, ask: Ask, found: Option<Found>, now: Mono) {
        match &mut self.role {
            Role::Standby => {}
            Role::Opening { asked, again, .. } => {
                if asked.take_if(|asked| *asked == ask).is_none() {
                    return;
                }
                match found {
                    None => *again = now.after(RETRY_MS),
                    Some(Found::Fenced) => self.step_down(Why::Fenced, now),
                    Some(Found::Here { seq, cursor, clock, saved, damaged, whole, .. }) => {
                        self.take_over(leading::Left { seq, cursor, whole, saved }, clock, damaged, now);
                    }
                }
            }
            Role::Leading(leading) => match leading.reopened(ask, found.as_ref(), now) {
                leading::Verdict::Fine => {}
                leading::Verdict::Fenced => self.step_down(Why::Fenced, now),
                leading::Verdict::Overtaken => self.start_over(now),
            },
        }
    }

    fn take_over(&mut self, left: leading::Left, clock: EpochMs, damaged: u32, now: Mono) {
        let Role::Opening { epoch, sure_until, .. } = self.role else { return };
        self.clock.not_before(clock);
        let (time, whole, cursor) = (self.clock.now(now), left.whole, left.cursor);
        let mut leading =
            Leading::new(&self.settings, epoch, sure_until, self.setup.clone(), left, time, now);
        self.out.push_back(Output::Note(Note::Leads(epoch)));
        if damaged > 0 {
            self.out.push_back(Output::Note(Note::Damaged(damaged)));
        }
        if !whole {
            self.out.push_back(Output::Note(Note::Partial));
        }
        if !whole || damaged > 0 {
            leading.begin_rewrite();
        }
        // What cannot be read is not to be found by the next leader again; what was done is not done again for that.
        if whole && damaged > 0 {
            leading.go_on_behind(cursor);
        }
        leading.set_up(self.setup.clone(), &self.nodes, &mut self.out);
        self.role = Role::Leading(Box::new(leading));
    }

    /// Somebody else has led meanwhile: what that one left is read, as by any new leader.
    fn start_over(&mut self, now: Mono) {
        let Role::Leading(leading) = &self.role else { return };
        let (epoch, sure_until) = (leading.epoch, leading.sure_until());
        self.let_go(Why::Other);
        self.role = Role::Opening { epoch, sure_until, asked: None, again: now };
    }

    /// The nodes are let go of.
    fn let_go(&mut self, why: Why) {
        if let Role::Leading(leading) = std::mem::replace(&mut self.role, Role::Standby) {
            for node in leading.nodes.0.keys() {
                self.out.push_back(Output::Disconnect(node.clone()));
            }
            self.out.push_back(Output::Note(Note::StepsDown(why)));
        }
    }

    fn step_down(&mut self, why: Why, now: Mono) {
        let epoch = match &self.role {
            Role::Standby => return,
            Role::Opening { epoch, .. } => *epoch,
            Role::Leading(leading) => leading.epoch,
        };
        self.let_go(why);
        self.role = Role::Standby;
        if why == Why::Asked {
            self.out.push_back(Output::Resign(epoch));
        }
        self.seat.anew = false;
        self.seat.next = self.seat.next.max(now.after(POLL_MS));
    }

    /// Does what is due.
    fn proceed(&mut self, now: Mono) {
        if self.resigned || !self.is_set_up {
            return;
        }
        self.ask_to_lead(now);
        if let Role::Opening { epoch, asked: None, again, .. } = self.role
            && again <= now
        {
            let ask = self.new_ask();
            self.out.push_back(Output::Open { ask, epoch, read: true });
            if let Role::Opening { asked, .. } = &mut self.role {
                *asked = Some(ask);
            }
        }
        if let Role::Leading(leading) = &mut self.role {
            leading.time = self.clock.now(leading.sure_part(now));
            leading.proceed(&self.dead, &mut self.asks, now, &mut self.out);
            if leading.has_lost_history() && !self.seat.anew {
                self.seat.anew = true;
                self.seat.next = now;
                self.ask_to_lead(now);
            }
        }
    }

    fn ask_to_lead(&mut self, now: Mono) {
        if self.seat.asked.is_some() || self.seat.next > now {
            return;
        }
        let ask = self.new_ask();
        let epoch = match &self.role {
            Role::Standby => 0,
            Role::Opening { epoch, .. } => *epoch,
            Role::Leading(leading) => leading.epoch,
        };
        let candidate = Candidate {
            holder: self.settings.holder.clone(),
            epoch,
            ttl_ms: LEASE_MS,
            anew: self.seat.anew,
            may_found: self.seat.unknown_since.is_some_and(|since| now.since(since) >= FOUND_AFTER_MS),
        };
        self.seat.asked = Some((ask, now));
        self.out.push_back(Output::Lead(ask, candidate));
    }
}
