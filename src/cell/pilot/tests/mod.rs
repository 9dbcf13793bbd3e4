//! Leadership by example. What is told stands left of the arrow, what is asked for right; the questions that repeat by
//! themselves (who leads, inbox, registrations) are kept aside.

mod anew;
mod commit;
mod inbox;
mod nodes;
mod seat;
mod sure;

use super::*;
use crate::domain::agent::AgentRules;
use crate::domain::call::{Channel, Identity};
use crate::domain::controller::{
    Change, Command, Effect, Input as Happened, Listing, Outcome, Said, Saved, SeenCaller, What,
};
use crate::domain::matching::{MatchRules, Membership, Skills};
use crate::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use crate::domain::time::EpochMs;
use crate::store::cell::{Committed, Position, Registration};
use std::str::FromStr;

fn name<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn at(channel: &str) -> Channel {
    let (id, node) = channel.split_once('@').unwrap_or((channel, "n1"));
    Channel { node: name(node), id: name(id) }
}

fn caller(channel: &str, queue: &str) -> SeenCaller {
    SeenCaller {
        channel: at(channel),
        identity: Arc::new(Identity::default()),
        queue: queue.parse().ok(),
        priority: name("0"),
        wishes: Skills::default(),
        enqueued: None,
    }
}

/// Queue `sales`, agent `ann` in it.
fn setup() -> Setup {
    let sales = QueueRules {
        matching: MatchRules::default(),
        waiting_max: 10_000,
        wait_max_ms: 600_000,
        offers_max: 10,
        ring_ms: 15_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 5_000,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "default".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: [].into(),
    };
    let ann = AgentRules {
        aor: "ann@example.com".into(),
        skills: Skills::default(),
        memberships: [(name("sales"), Membership::default())].into(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 0,
    };
    Setup {
        queues: [(name("sales"), sales)].into(),
        agents: [(name("ann"), ann)].into(),
        treatments: [(name("closed"), Treatment::HangUp { cause: 16 })].into(),
        last_resort: Some(name("closed")),
        ..Setup::default()
    }
}

fn nodes(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|node| name(node)).collect()
}

/// What a leader finds in a store that has nothing.
fn nothing() -> Found {
    left(0, Saved::default())
}

fn left(seq: u64, saved: Saved) -> Found {
    opened_by(0, seq, saved)
}

/// What is found where this epoch was the last one before.
fn opened_by(before: u64, seq: u64, saved: Saved) -> Found {
    let (cursor, clock) = (Position(0), EpochMs(0));
    Found::Here { before, seq, cursor, clock, whole: true, saved, damaged: 0 }
}

/// A pilot, the time, and what it has asked for.
struct Scene {
    pilot: Pilot,
    now: Mono,
    /// Everything, from the beginning.
    log: Vec<Output>,
    /// What repeats by itself, of the last step.
    noise: Vec<String>,
}

impl Scene {
    /// A standby that has just begun.
    fn new() -> Scene {
        Scene::of(&["n1"], None)
    }

    fn of(names: &[&str], seeded: Option<Seeded>) -> Scene {
        let settings = Settings { holder: "m1".to_owned(), seed: 1, seeded };
        let mut scene =
            Scene { pilot: Pilot::new(settings), now: Mono(10_000), log: Vec::new(), noise: Vec::new() };
        scene.tell(Input::Setup { setup: Arc::new(setup()), nodes: nodes(names) });
        scene
    }

    /// It leads in epoch 7, and no node has answered yet.
    fn leads(names: &[&str]) -> Scene {
        let mut scene = Scene::of(names, None);
        scene.led(yours(7));
        scene.opened(Some(nothing()));
        scene
    }

    /// It leads in epoch 7; n1 is linked (1) and listed, ann registered and logged in; everything is committed.
    fn at_work() -> Scene {
        let mut scene = Scene::leads(&["n1"]);
        scene.registered();
        scene.tell(Input::NodeUp(name("n1"), Link(1)));
        scene.listed("n1", vec![]);
        scene.letters(&[(1, "k1", Some(Command::Login(name("ann"))))]);
        scene.committed(Some(Committed::Done));
        assert!(scene.pilot.controller().is_some_and(|c| c.agents().all(|a| a.state.is_unpaused())));
        scene
    }

    fn tell(&mut self, input: Input) -> Vec<String> {
        self.pilot.handle(input, self.now);
        self.noise.clear();
        let mut said = Vec::new();
        while let Some(output) = self.pilot.poll() {
            let line = line(&output);
            let repeats =
                matches!(output, Output::Lead(..) | Output::ReadInbox(..) | Output::ReadRegistrations(_));
            if repeats {
                self.noise.push(line)
            } else {
                said.push(line)
            }
            self.log.push(output);
        }
        said
    }

    fn tick(&mut self) -> Vec<String> {
        self.tell(Input::Tick)
    }

    /// Lets time pass, as its owner would: from time-out to time-out. Nobody answers.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let end = self.now.after(ms);
        let (mut said, mut noise) = (Vec::new(), Vec::new());
        let mut turns = 0;
        while let Some(due) = self.pilot.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            said.extend(self.tick());
            noise.append(&mut self.noise);
            turns += 1;
            assert!(turns < 2_000, "it wants to be told the time again and again: {due:?} at {:?}", self.now);
        }
        self.now = end;
        self.noise = noise;
        said
    }

    /// The last question of this kind.
    fn asked<T>(&self, which: impl Fn(&Output) -> Option<T>) -> T {
        self.log.iter().rev().find_map(which).unwrap()
    }

    fn led(&mut self, answer: impl Into<Option<Leadership>>) -> Vec<String> {
        let ask = self.asked(|o| if let Output::Lead(ask, _) = o { Some(*ask) } else { None });
        let mut answer = answer.into();
        let store = EpochMs(1_000_000 + self.now.0);
        match &mut answer {
            Some(
                Leadership::Yours { now, .. } | Leadership::Theirs { now, .. } | Leadership::Unknown { now },
            ) => *now = store,
            None => {}
        }
        self.tell(Input::Led(ask, answer))
    }

    /// The store answers what was asked long ago, and what is asked at once then: the right is sure again.
    fn renewed(&mut self, epoch: u64) -> Vec<String> {
        let mut said = self.led(yours(epoch));
        said.extend(self.led(yours(epoch)));
        said
    }

    fn opened(&mut self, found: Option<Found>) -> Vec<String> {
        let ask = self.asked(|o| if let Output::Open { ask, .. } = o { Some(*ask) } else { None });
        self.tell(Input::Opened(ask, found))
    }

    fn last_commit(&self) -> (Ask, Commit) {
        self.asked(|o| if let Output::Commit(ask, commit) = o { Some((*ask, commit.clone())) } else { None })
    }

    fn committed(&mut self, answer: Option<Committed>) -> Vec<String> {
        let (ask, _) = self.last_commit();
        self.tell(Input::Committed(ask, answer))
    }

    fn letters(&mut self, letters: &[(u64, &str, Option<Command>)]) -> Vec<String> {
        let letters = letters.iter().map(|(position, key, command)| Letter {
            position: Position(*position),
            key: Arc::from(*key),
            command: command.clone(),
        });
        self.inbox(Some(letters.collect()))
    }

    fn inbox(&mut self, letters: Option<Vec<Letter>>) -> Vec<String> {
        let ask = self.asked(|o| if let Output::ReadInbox(ask, _) = o { Some(*ask) } else { None });
        self.tell(Input::Inbox(ask, letters))
    }

    /// Ann's phone is registered.
    fn registered(&mut self) -> Vec<String> {
        let ann = Registration {
            aor: "ann@example.com".to_owned(),
            proxy: name("k1"),
            until: EpochMs(9_000_000),
            at: EpochMs(1_000_000),
        };
        self.registrations(Some(vec![ann]))
    }

    fn registrations(&mut self, all: Option<Vec<Registration>>) -> Vec<String> {
        let ask = self.asked(|o| if let Output::ReadRegistrations(ask) = o { Some(*ask) } else { None });
        self.tell(Input::Registrations(ask, all))
    }

    fn list_ask(&self, of: &str) -> (Ask, EpochMs) {
        let of: NodeId = name(of);
        self.asked(|o| {
            if let Output::List { ask, node, begun } = o
                && *node == of
            {
                Some((*ask, *begun))
            } else {
                None
            }
        })
    }

    fn listed(&mut self, of: &str, callers: Vec<SeenCaller>) -> Vec<String> {
        let (ask, begun) = self.list_ask(of);
        let listing = Listing { node: name(of), begun, callers, legs: vec![], bridges: vec![] };
        self.tell(Input::Listed(ask, Some(listing)))
    }

    fn event(&mut self, link: u64, event: Happened) -> Vec<String> {
        self.tell(Input::Event(name("n1"), Link(link), event))
    }

    fn enter(&mut self, channel: &str) -> Vec<String> {
        self.event(1, Happened::CallerEntered(caller(channel, "sales")))
    }

    fn leave(&mut self, channel: &str) -> Vec<String> {
        self.event(1, Happened::CallerLeft(at(channel)))
    }

    /// A node answers the last thing of this kind that was asked of it.
    fn acted(&mut self, word: &str, outcome: Outcome) -> Vec<String> {
        let ask = self.asked(|o| {
            let Output::Act { ask, effect, .. } = o else { return None };
            effect_line(effect).starts_with(word).then_some(*ask)
        });
        self.tell(Input::Acted(ask, outcome))
    }

    /// A node's connection answers that it is the only one.
    fn probed(&mut self) -> Vec<String> {
        let ask = self.asked(|o| if let Output::Probe { ask, .. } = o { Some(*ask) } else { None });
        self.tell(Input::Probed(ask))
    }

    fn last_right(&self) -> Right {
        self.asked(|o| if let Output::Act { right, .. } = o { Some(*right) } else { None })
    }

    fn candidate(&self) -> Candidate {
        self.asked(|o| if let Output::Lead(_, candidate) = o { Some(candidate.clone()) } else { None })
    }
}

fn yours(epoch: u64) -> Leadership {
    Leadership::Yours { epoch, now: EpochMs(0) }
}

fn theirs() -> Leadership {
    Leadership::Theirs { holder: "m2".to_owned(), left_ms: 3_000, now: EpochMs(0) }
}

fn unknown() -> Leadership {
    Leadership::Unknown { now: EpochMs(0) }
}

fn line(output: &Output) -> String {
    match output {
        Output::Lead(_, candidate) => {
            let anew = if candidate.anew { " anew" } else { "" };
            let founds = if candidate.may_found { " may found" } else { "" };
            format!("lead {}{anew}{founds}", candidate.epoch)
        }
        Output::Resign(epoch) => format!("resign {epoch}"),
        Output::Open { epoch, read: true, .. } => format!("open {epoch}"),
        Output::Open { epoch, read: false, .. } => format!("reopen {epoch}"),
        Output::Commit(_, commit) => {
            let part = commit.rewrite.map_or("", |part| match (part.first, part.last) {
                (true, true) => " all",
                (true, false) => " first",
                (false, false) => " more",
                (false, true) => " last",
            });
            format!("commit {}/{}{part}: {}", commit.epoch, commit.seq, commit.changes.len())
        }
        Output::ReadInbox(_, after) => format!("inbox {}", after.0),
        Output::ReadRegistrations(_) => "registrations".to_owned(),
        Output::Probe { node, .. } => format!("probe {node}"),
        Output::Connect(node) => format!("connect {node}"),
        Output::Disconnect(node) => format!("disconnect {node}"),
        Output::List { node, .. } => format!("list {node}"),
        Output::Act { effect, .. } => effect_line(effect),
        Output::Note(note) => format!("{note:?}"),
    }
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Attend(attend) => format!("attend {}", attend.channel.id),
        Effect::Join { caller, leg, .. } => format!("join {} {}", caller.id, leg.id),
        Effect::Announce { leg, .. } => format!("announce {}", leg.id),
        Effect::Hush { leg, .. } => format!("hush {}", leg.id),
        Effect::DropLeg { leg, void: false, .. } => format!("drop {}", leg.id),
        Effect::DropLeg { leg, void: true, .. } => format!("void {}", leg.id),
        Effect::Originate(originate) => format!("originate {}", originate.leg.id),
        Effect::Continue { channel, .. } => format!("continue {}", channel.id),
        Effect::Tell { leg, progress } => format!("tell {} {progress:?}", leg.id),
        Effect::HangUp { channel, .. } => format!("hang up {}", channel.id),
    }
}

/// What was said to commands, in the events of a batch.
fn said(commit: &Commit) -> Vec<Said> {
    let mut all = Vec::new();
    for change in &commit.changes {
        if let Change::Event(event) = change
            && let What::Command { said, .. } = &event.what
        {
            all.push(*said);
        }
    }
    all
}
