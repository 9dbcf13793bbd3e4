//! A leader at work: what happens goes to the controller; what that one says goes to the store in batches, and to the nodes.
//!
//! * [`mod@write`]: the batches · [`mod@read`]: inbox and registrations · [`drive`]: the nodes

mod drive;
mod read;
mod write;

use super::clock::CellClock;
use super::io::{Ask, Commit, Link, Mono, Note, Output, Right};
use super::nodes::{LIST_MS, NodeSeat, NodeSeats};
use super::{Seeded, Settings};
use crate::domain::controller::{self, Change, Class, Controller, Effect, Input, Saved};
use crate::domain::id::NodeId;
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use crate::store::cell::Position;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The inbox is read so often while it is empty, in ms.
const INBOX_MS: u64 = 100;

/// Who is registered is read so often, in ms.
const REGISTRATIONS_MS: u64 = 2_000;

/// A new leader makes no offers before each node was listed or is known to be dead, because a leg that it knows nothing of
/// may ring there; it waits so long for a node that does not answer and is not called dead, in ms.
const BLIND_MAX_MS: u64 = 30_000;

/// A node that is called dead may be back since: a new leader tries so long to attach to it, in ms, before it takes the word for it.
const DEAD_AFTER_MS: u64 = 1_500;

/// Of more than this that waits for the store, only what cannot be made again is kept; the rest is written anew.
const PENDING_MAX: usize = 50_000;

/// Events that are kept while the store is away for very long; of more, the oldest are lost.
const EVENTS_KEPT_MAX: usize = 10_000;

/// What the last leader has left.
pub(super) struct Left {
    pub seq: u64,
    pub cursor: Position,
    /// A leader that wrote everything anew has ended.
    pub whole: bool,
    pub saved: Saved,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Fenced,
    /// Another one has led since this one last heard of the store.
    Overtaken,
}

/// What waits for the next batch.
#[derive(Clone, Debug)]
enum Entry {
    Change(Change),
    /// To be done when everything before it is committed.
    Claim(Effect),
    /// The commands up to here are done.
    Cursor(Position),
}

/// A batch that is under way.
#[derive(Debug)]
struct Batch {
    /// `None`: the store did not answer, and is to be asked again.
    asked: Option<Ask>,
    again: Mono,
    commit: Commit,
    claims: Vec<Effect>,
}

/// How things are with the store.
#[derive(Debug)]
enum Desk {
    Steady,
    /// It has forgotten: a new epoch is asked for.
    Lost,
    /// The new epoch is made known to it.
    Reopening {
        asked: Option<Ask>,
        again: Mono,
    },
    /// Everything is written anew; what is left of it.
    Rewriting {
        rest: VecDeque<Vec<Change>>,
        first: bool,
    },
}

/// A leader.
#[derive(Debug)]
pub(super) struct Leading {
    pub epoch: u64,
    pub controller: Controller,
    pub nodes: NodeSeats,
    /// The cell's time at the present input.
    pub time: EpochMs,
    /// The epochs that this leader was given, one after the other.
    own: BTreeSet<u64>,
    sure_until: Mono,
    /// Whether it was sure at the last input.
    is_sure: bool,
    began: Mono,
    /// When it was last looked whether offers may be made.
    looked: Mono,
    seq: u64,
    desk: Desk,
    batch: Option<Batch>,
    pending: VecDeque<Entry>,
    /// Claims and events of batches that the store may have forgotten.
    kept: Vec<Entry>,
    /// Claims whose batch is committed.
    cleared: VecDeque<Effect>,
    /// Free effects, and by which right they are done.
    todo: VecDeque<(Effect, Right)>,
    acts: BTreeMap<Ask, Effect>,
    /// Of the last batch.
    cursor: Position,
    /// Up to here the inbox was read.
    read: Position,
    held_cursor: Option<Position>,
    done_keys: BTreeMap<Arc<str>, Mono>,
    done_order: VecDeque<(Mono, Arc<str>)>,
    inbox: Question,
    registrations: Question,
    registrations_known: bool,
    offering: bool,
    seeded: Option<Seeded>,
}

/// Something that the store is asked again and again.
#[derive(Debug)]
struct Question {
    asked: Option<Ask>,
    next: Mono,
}
impl Leading {
    pub fn new(
        settings: &Settings,
        epoch: u64,
        sure_until: Mono,
        setup: Arc<Setup>,
        left: Left,
        time: EpochMs,
        now: Mono,
    ) -> Leading {
        let mut controller = Controller::restore(epoch, setup, settings.seed ^ epoch, left.saved, time);
        if let Some(Seeded::Rule(defect)) = settings.seeded {
            controller.seed_defect(Some(defect));
        }
        Leading {
            epoch,
            controller,
            nodes: NodeSeats::default(),
            time,
            own: BTreeSet::from([epoch]),
            sure_until,
            is_sure: true,
            began: now,
            looked: now,
            seq: left.seq,
            desk: Desk::Steady,
            batch: None,
            pending: VecDeque::new(),
            kept: Vec::new(),
            cleared: VecDeque::new(),
            todo: VecDeque::new(),
            acts: BTreeMap::new(),
            cursor: left.cursor,
            read: left.cursor,
            held_cursor: None,
            done_keys: BTreeMap::new(),
            done_order: VecDeque::new(),
            inbox: Question { asked: None, next: now },
            registrations: Question { asked: None, next: now },
            registrations_known: false,
            offering: false,
            seeded: settings.seeded,
        }
    }

    /// What is laid down; nodes come and go.
    pub fn set_up(&mut self, setup: Arc<Setup>, nodes: &[NodeId], out: &mut VecDeque<Output>) {
        for (node, seat) in &mut self.nodes.0 {
            seat.leaves = !nodes.contains(node);
        }
        for node in nodes {
            if !self.nodes.0.contains_key(node) {
                self.nodes.0.insert(node.clone(), NodeSeat::new());
                out.push_back(Output::Connect(node.clone()));
            }
        }
        self.tell(Input::Setup(setup), None);
    }

    /// The leadership is sure until then, in this epoch.
    pub fn renewed(&mut self, epoch: u64, until: Mono, sent: Mono, out: &mut VecDeque<Output>) {
        self.sure_until = self.sure_until.max(until);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.own.insert(epoch);
            self.keep_batch();
            self.desk = Desk::Reopening { asked: None, again: Mono(0) };
            self.look_anew(sent);
            out.push_back(Output::Note(Note::History(epoch)));
        }
        for (node, seat) in &mut self.nodes.0 {
            if seat.replaced.is_some_and(|at| at < sent) {
                seat.replaced = None;
                out.push_back(Output::Connect(node.clone()));
            }
        }
    }

    /// Another one may have led for a while, and the store may have forgotten it: the nodes know.
    fn look_anew(&mut self, now: Mono) {
        self.offering = false;
        self.began = now;
        self.tell(Input::Offering(false), None);
        for seat in self.nodes.0.values_mut() {
            seat.listed = false;
            seat.is_new = true;
            seat.listing = None;
            seat.list_at = now;
        }
        let nodes: Vec<NodeId> = self.nodes.0.keys().cloned().collect();
        nodes.into_iter().for_each(|node| self.tell(Input::NodeAway(node), None));
    }

    /// Until when the leadership is sure.
    pub fn sure_until(&self) -> Mono {
        self.sure_until
    }

    /// Time stands still for a leader that is not sure: it may itself have stood still, and what it believes to be overdue has
    /// been dealt with by another one.
    pub fn sure_part(&self, now: Mono) -> Mono {
        now.min(self.sure_until)
    }

    /// The controller is told, and what it says is sorted. `link`: an event of this connection is the cause.
    fn tell(&mut self, input: Input, link: Option<Link>) {
        self.controller.handle(input, self.time);
        while let Some(output) = self.controller.next_output() {
            match output {
                controller::Output::Change(change) => self.pending.push_back(Entry::Change(change)),
                controller::Output::Effect(effect) => match effect.class() {
                    Class::Free => {
                        let linked = link.filter(|link| self.nodes.is_linked(effect.node(), *link));
                        let right = linked.map_or(Right::Until(self.sure_until), Right::Linked);
                        self.todo.push_back((effect, right));
                    }
                    Class::Claim if self.seeded == Some(Seeded::ActBeforeCommit) => {
                        self.cleared.push_back(effect)
                    }
                    Class::Claim => self.pending.push_back(Entry::Claim(effect)),
                },
            }
        }
    }

    /// Does what is due.
    pub fn proceed(
        &mut self,
        dead: &BTreeSet<NodeId>,
        asks: &mut u64,
        now: Mono,
        out: &mut VecDeque<Output>,
    ) {
        let mut ask = || {
            *asks += 1;
            Ask(*asks)
        };
        if self.controller.next_timeout().is_some_and(|at| at <= self.time) {
            self.tell(Input::Tick, None);
        }
        self.is_sure = now < self.sure_until;
        self.begin_offering(dead, now, out);
        loop {
            self.write(now, &mut ask, out);
            self.carry_out(now, &mut ask, out);
            // What could not be carried out has changed something.
            if self.batch.is_some() || self.pending.is_empty() || !matches!(self.desk, Desk::Steady) {
                break;
            }
        }
        let todo = std::mem::take(&mut self.todo);
        self.care(todo, now, &mut ask, out);
        self.read_store(now, &mut ask, out);
        self.let_nodes_go(out);
        for (node, seat) in &mut self.nodes.0 {
            if seat.link.is_some() && seat.listing.is_none() && seat.list_at <= now {
                let ask = ask();
                seat.listing = Some(ask);
                // Whatever asks for it sooner meanwhile is not forgotten when this one is answered.
                seat.list_at = now.after(LIST_MS);
                out.push_back(Output::List { ask, node: node.clone(), begun: self.time });
            }
        }
    }

    /// Nodes that are laid down no longer are driven until their last call is over.
    fn let_nodes_go(&mut self, out: &mut VecDeque<Output>) {
        if !self.nodes.0.values().any(|seat| seat.leaves) {
            return;
        }
        let busy = self.controller.nodes();
        self.nodes.0.retain(|node, seat| {
            let stays = !seat.leaves || busy.contains(node);
            if !stays {
                out.push_back(Output::Disconnect(node.clone()));
            }
            stays
        });
    }

    fn begin_offering(&mut self, dead: &BTreeSet<NodeId>, now: Mono, out: &mut VecDeque<Output>) {
        self.looked = now;
        if self.offering || !self.registrations_known || !matches!(self.desk, Desk::Steady) {
            return;
        }
        let tried = now.since(self.began) >= DEAD_AFTER_MS;
        let known = self.nodes.0.iter().all(|(node, seat)| seat.listed || tried && dead.contains(node));
        if known || now.since(self.began) >= BLIND_MAX_MS {
            self.offering = true;
            out.push_back(Output::Note(Note::Offering));
            // What the dead ones had is over, if they died before this leader began.
            let ours = self.nodes.0.keys().filter(|node| dead.contains(*node)).cloned();
            // Nobody can ask a node that is laid down no longer what has become of its channels.
            let strays = self.controller.nodes().into_iter().filter(|node| !self.nodes.0.contains_key(node));
            let gone: Vec<NodeId> = ours.chain(strays).collect();
            gone.into_iter().for_each(|node| self.node_dead(&node, now));
            self.tell(Input::Offering(true), None);
        }
    }

    /// When it wants to be told the time.
    pub fn next_timeout(&self, clock: &CellClock) -> Option<Mono> {
        let controller =
            self.controller.next_timeout().map(|at| clock.when(at)).filter(|at| *at < self.sure_until);
        let batch = self.batch.as_ref().filter(|batch| batch.asked.is_none()).map(|batch| batch.again);
        let reopening = match &self.desk {
            Desk::Reopening { asked: None, again } => Some(*again),
            Desk::Reopening { .. } | Desk::Steady | Desk::Lost | Desk::Rewriting { .. } => None,
        };
        // Without a sure right the inbox is not read; the renewal wakes.
        let reads = self.inbox.asked.is_none() && self.is_sure;
        let inbox = reads.then_some(self.inbox.next).filter(|next| *next < self.sure_until);
        let registrations = self.registrations.asked.is_none().then_some(self.registrations.next);
        let blind = !self.offering && self.registrations_known;
        let blind = blind.then(|| {
            let (tried, blind) = (self.began.after(DEAD_AFTER_MS), self.began.after(BLIND_MAX_MS));
            if self.looked < tried { tried } else { blind }
        });
        [controller, batch, reopening, inbox, registrations, blind, self.nodes.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
