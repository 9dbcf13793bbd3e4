//! A controller, and a pilot, with a world around them: both can be run while what they are told is noted down, so that the same
//! can be told to another one, whose time is then its own alone.

use crate::world::{self, Happens, World};
use mqs::cell::pilot::{self, Ask, Commit, Found, Letter, Link, Mono, Pilot, Settings};
use mqs::domain::controller::{Change, Controller, Effect, Input, Output, Saved};
use mqs::domain::queue::Setup;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Committed, Leadership, Position, Registration};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

/// Something that is told, and when.
pub type Told<I, T> = Vec<(I, T)>;

/// Inputs until everybody has been busy for a while, for so many calls that wait.
pub fn warm_up(waiting: usize) -> usize {
    waiting * 2 + world::AGENTS * 20
}

/// A controller at work in its world.
pub struct Line {
    pub controller: Controller,
    pub world: World<()>,
    pub changes: Vec<Change>,
}

impl Line {
    /// As many agents are at work; so many calls are kept waiting.
    pub fn new(setup: &Arc<Setup>, agents: usize, waiting: usize) -> (Line, Told<Input, EpochMs>) {
        let controller = Controller::new(1, setup.clone(), 1, world::START);
        let mut line = Line { controller, world: World::new(waiting), changes: Vec::new() };
        let mut told = Vec::new();
        for input in world::beginning(world::START).into_iter().chain((0..agents).map(world::login)) {
            line.tell(input, &mut told);
        }
        (line, told)
    }

    /// One more input.
    pub fn step(&mut self, told: &mut Told<Input, EpochMs>) {
        let in_line = (0..world::QUEUES).map(|queue| self.controller.in_line(&world::queue(queue))).sum();
        let input = match self.world.next(in_line, self.controller.next_timeout()) {
            Happens::Input(input) => input,
            Happens::Tick => Input::Tick,
            // That a caller was attended to, or that a leg was dropped whose end is told anyway, is nothing that has to be worked on.
            Happens::Answer((), Effect::Attend(_) | Effect::HangUp { .. } | Effect::Continue { .. }, _)
            | Happens::Answer((), Effect::DropLeg { void: false, .. }, _) => return,
            Happens::Answer((), effect, outcome) => Input::Answered { effect, outcome },
        };
        self.tell(input, told);
    }

    fn tell(&mut self, input: Input, told: &mut Told<Input, EpochMs>) {
        told.push((input.clone(), self.world.now));
        self.controller.handle(input, self.world.now);
        while let Some(output) = self.controller.next_output() {
            match output {
                Output::Effect(effect) => self.world.asked(effect, ()),
                Output::Change(change) => self.changes.push(change),
            }
        }
    }
}

/// Tells a controller what another one was told.
pub fn tell_controller(controller: &mut Controller, told: Told<Input, EpochMs>) {
    for (input, now) in told {
        controller.handle(input, now);
        while let Some(output) = controller.next_output() {
            black_box(output);
        }
        black_box(controller.next_timeout());
    }
}

const LINK: Link = Link(1);

pub fn settings() -> Settings {
    Settings { holder: "bench".to_owned(), seed: 1, seeded: None }
}

/// A pilot at work in its world. Its store is there and answers at once; what it asks of it again and again by the clock (the
/// inbox, the registrations, the nodes' listings) is answered once, so that what happens is all that costs.
pub struct Desk {
    pub pilot: Pilot,
    world: World<Ask>,
    answers: VecDeque<pilot::Input>,
    logins: Vec<Letter>,
    registered: bool,
    listed: usize,
    pub commits: Vec<Commit>,
}

/// The process' clock begins somewhere.
fn mono(at: EpochMs) -> Mono {
    Mono(at.0 - world::START.0 + 1_000)
}

impl Desk {
    pub fn new(setup: &Arc<Setup>, waiting: usize) -> (Desk, Told<pilot::Input, Mono>) {
        let login = |number: usize| {
            let Input::Command { key, command } = world::login(number) else { unreachable!() };
            Letter { position: Position(number as u64 + 1), key, command: Some(command) }
        };
        let mut desk = Desk {
            pilot: Pilot::new(settings()),
            world: World::new(waiting),
            answers: VecDeque::new(),
            logins: (0..world::AGENTS).map(login).collect(),
            registered: false,
            listed: 0,
            commits: Vec::new(),
        };
        let mut told = Vec::new();
        desk.tell(pilot::Input::Setup { setup: setup.clone(), nodes: world::nodes() }, &mut told);
        // Nobody calls before offers can be made.
        while desk.listed < world::nodes().len() || !desk.answers.is_empty() {
            let Some(answer) = desk.answers.pop_front() else { break };
            desk.tell(answer, &mut told);
        }
        (desk, told)
    }

    pub fn step(&mut self, told: &mut Told<pilot::Input, Mono>) {
        if let Some(answer) = self.answers.pop_front() {
            self.tell(answer, told);
            return;
        }
        let controller = self.pilot.controller().expect("it leads");
        let in_line = (0..world::QUEUES).map(|queue| controller.in_line(&world::queue(queue))).sum();
        let due = self.pilot.next_timeout().map(|at| EpochMs(at.0 + world::START.0 - 1_000));
        let input = match self.world.next(in_line, due) {
            Happens::Tick => pilot::Input::Tick,
            Happens::Answer(ask, _, outcome) => pilot::Input::Acted(ask, outcome),
            Happens::Input(input) => {
                let node = match &input {
                    Input::CallerEntered(seen) => &seen.channel.node,
                    Input::CallerLeft(channel) => &channel.node,
                    Input::LegAnswered { leg, .. } | Input::LegEnded { leg, .. } => &leg.node,
                    other => panic!("{other:?} is no event of a node"),
                };
                pilot::Input::Event(node.clone(), LINK, input.clone())
            }
        };
        self.tell(input, told);
    }

    fn tell(&mut self, input: pilot::Input, told: &mut Told<pilot::Input, Mono>) {
        let now = mono(self.world.now);
        told.push((input.clone(), now));
        self.pilot.handle(input, now);
        while let Some(output) = self.pilot.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: pilot::Output) {
        let answer = match output {
            pilot::Output::Lead(ask, _) => {
                pilot::Input::Led(ask, Some(Leadership::Yours { epoch: 1, now: self.world.now }))
            }
            pilot::Output::Open { ask, .. } => pilot::Input::Opened(ask, Some(nothing())),
            pilot::Output::Commit(ask, commit) => {
                self.commits.push(commit);
                pilot::Input::Committed(ask, Some(Committed::Done))
            }
            pilot::Output::ReadInbox(ask, _) if !self.logins.is_empty() => {
                pilot::Input::Inbox(ask, Some(std::mem::take(&mut self.logins)))
            }
            pilot::Output::ReadRegistrations(ask) if !self.registered => {
                self.registered = true;
                pilot::Input::Registrations(ask, Some(registrations(self.world.now)))
            }
            pilot::Output::Connect(node) => pilot::Input::NodeUp(node, LINK),
            pilot::Output::List { ask, node, begun } if self.listed < world::nodes().len() => {
                self.listed += 1;
                pilot::Input::Listed(ask, Some(world::empty(node, begun)))
            }
            pilot::Output::Act { ask, effect, .. } => {
                self.world.asked(effect, ask);
                return;
            }
            pilot::Output::ReadInbox(..)
            | pilot::Output::ReadRegistrations(_)
            | pilot::Output::List { .. } => return,
            pilot::Output::Resign(_)
            | pilot::Output::Disconnect(_)
            | pilot::Output::Probe { .. }
            | pilot::Output::Note(_) => return,
        };
        self.answers.push_back(answer);
    }
}

/// A cell that nobody has written to.
pub fn nothing() -> Found {
    Found::Here {
        before: 0,
        seq: 0,
        cursor: Position(0),
        clock: world::START,
        whole: true,
        saved: Saved::default(),
        damaged: 0,
    }
}

pub fn registrations(now: EpochMs) -> Vec<Registration> {
    let one = |number| Registration {
        aor: format!("{}@example.com", world::agent(number)),
        proxy: "edge-1".parse().unwrap(),
        until: now + 3_600_000,
        at: now,
    };
    (0..world::AGENTS).map(one).collect()
}

/// Tells a pilot what another one was told; `commit` is what is done with its batches.
pub fn tell_pilot(pilot: &mut Pilot, told: Told<pilot::Input, Mono>, mut commit: impl FnMut(&Commit)) {
    for (input, now) in told {
        pilot.handle(input, now);
        while let Some(output) = pilot.poll() {
            match &output {
                pilot::Output::Commit(_, batch) => commit(batch),
                other => _ = black_box(other),
            }
        }
        black_box(pilot.next_timeout());
    }
}
