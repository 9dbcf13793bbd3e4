//! MQS while nodes or the store are lost: views, fallbacks, silences, ejections, probes, warming up and answers without the store.
//!
//! Simplified: changes of health are written one after the other and none is given up; a node that is back answers at once; what was
//! answered without the store is known to it at the moment of its return; Redis is never late.

use super::fleet::{Evenness, Fleet, zone};
use super::policy::RULES;
use super::shelves::Shelves;
use super::traffic::{Agenda, Arrivals, Hold};
use fastrand::Rng;
use mqs::dispatch::degraded::Degraded;
use mqs::domain::health::{Condition, Evidence, Health, HealthRules, Watch, too_many_out};
use mqs::domain::id::{LeaseId, Slot};
use mqs::domain::pool::{self, Lookup, Rules, TARGETS_MAX};
use mqs::domain::time::EpochMs;
use mqs::store::View;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// How often an instance looks, and how often the steward lets time pass.
const LOOK_MS: u64 = 500;
const PASS_MS: u64 = 1000;
/// How long Kamailio waits for a node that is silent (`fr_timer_ms` of `mqs.cfg`), and for one that refuses.
const SILENT_MS: u64 = 2000;
const REFUSED_MS: u64 = 10;
/// How long a look takes, and a change of health (a look, the write, another look), for each node of the pool: as measured on a busy
/// machine.
const LOOK_US_A_NODE: u64 = 10;
const WRITE_US_A_NODE: u64 = 40;
/// How long callers listen to silence before they hang up, on average.
const HANG_UP_MS: f64 = 10_000.0;
/// Anything, so that 0 is not a point in time.
const EPOCH: u64 = 1_000_000;

/// How a lost node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Well,
    /// It answers nothing, and its calls are lost.
    Silent,
    /// It keeps its calls and refuses all new ones with 500.
    Refuses,
}

#[derive(Clone)]
pub struct Story {
    pub capacities: Vec<u32>,
    pub zones: usize,
    /// Instances stand in the zones in turn, and this is each zone's share of the calls; empty: lookups name no zone.
    pub callers: Vec<f64>,
    pub instances: usize,
    pub calls: usize,
    pub hold: Hold,
    pub lasts_ms: u64,
    /// Which nodes are lost, how, and from when to when.
    pub lost: Vec<usize>,
    pub conduct: Conduct,
    pub away: Range<u64>,
    /// The share of the callers who lost their call and call again at once.
    pub redial: f64,
    /// When no instance has an answer from the store.
    pub without_store: Range<u64>,
    /// All instances look at the same moment.
    pub together: bool,
    pub health: HealthRules,
    pub seed: u64,
    pub check_every: u64,
}

/// One second of the story.
#[derive(Clone, Debug)]
pub struct Second {
    /// Over the nodes that are well.
    pub even: Evenness,
    /// Calls that each node was given, as a first or a later target.
    pub given: Vec<u32>,
    pub dialled: u32,
    /// Calls that found no target.
    pub failed: u32,
    /// Calls whose first target did not take them.
    pub moved: u32,
    /// Lost nodes that are not chosen.
    pub found: usize,
}

impl Second {
    /// What the node that was given most was given, in fair shares, among some.
    pub fn most(&self, of: impl Fn(usize) -> bool) -> f64 {
        let some = || self.given.iter().enumerate().filter(|(node, _)| of(*node)).map(|(_, given)| *given);
        let fair = f64::from(some().sum::<u32>()) / some().count().max(1) as f64;
        f64::from(some().max().unwrap_or(0)) / fair.max(1e-9)
    }
}

pub fn tell(story: &Story) -> Vec<Second> {
    let mut world = World::new(story);
    for now in 0..story.lasts_ms {
        world.step(now);
    }
    assert!(world.shelves.checked() > 0, "no pick was held against domain::pool::pick");
    world.seconds
}

enum Event {
    End { node: usize, of: u32 },
    Dial { instance: usize },
    Fails(Box<Attempt>),
    ProbeEnds { node: usize },
    Write { instance: usize, changes: Vec<Change> },
}

/// A call on its way to a node.
struct Attempt {
    instance: usize,
    targets: Vec<usize>,
    at: usize,
}

struct Change {
    node: usize,
    before: Health,
    next: Health,
}

struct Instance {
    lookup: Lookup,
    view: View,
    fallbacks: Vec<usize>,
    watches: Vec<Watch>,
    busy: bool,
    degraded: Degraded,
    look_at: u64,
}

struct World<'a> {
    story: &'a Story,
    chance: Rng,
    lots: Rng,
    fleet: Fleet,
    shelves: Shelves,
    agenda: Agenda<Event>,
    arrivals: Arrivals,
    instances: Vec<Instance>,
    conduct: Vec<Conduct>,
    /// Rises when a node loses its calls: their ends are then another matter.
    lives: Vec<u32>,
    /// When a node was probed last, and when it is to be.
    probed: Vec<u64>,
    probe_at: Vec<u64>,
    version: u64,
    /// Changes that wait, by whom, and when the next one's turn is.
    to_write: VecDeque<(usize, Vec<Change>)>,
    write_at: u64,
    now: u64,
    second: Second,
    seconds: Vec<Second>,
}

impl<'a> World<'a> {
    fn new(story: &'a Story) -> World<'a> {
        let mut chance = Rng::with_seed(story.seed);
        let mut lots = Rng::with_seed(story.seed ^ 0x5eed);
        let fleet = Fleet::new(&story.capacities, story.zones);
        let nodes = fleet.nodes.len();
        let instance = |number: usize| Instance {
            lookup: Lookup {
                zone: (!story.callers.is_empty()).then(|| zone(number % story.zones)),
                ..Lookup::new_call(RULES.targets_max)
            },
            view: View::empty(),
            fallbacks: Vec::new(),
            watches: vec![Watch::default(); nodes],
            busy: false,
            degraded: Degraded::default(),
            look_at: if story.together { 0 } else { number as u64 * LOOK_MS / story.instances as u64 },
        };
        let mut world = World {
            shelves: Shelves::new(&fleet, RULES, story.check_every),
            agenda: Agenda::new(story.lasts_ms),
            arrivals: Arrivals::new(story.calls as f64 / story.hold.mean_s, &mut chance),
            instances: (0..story.instances).map(instance).collect(),
            conduct: vec![Conduct::Well; nodes],
            lives: vec![0; nodes],
            probe_at: (0..nodes).map(|_| lots.u64(..story.health.probe_every_ms)).collect(),
            probed: vec![0; nodes],
            version: 1,
            to_write: VecDeque::new(),
            write_at: 0,
            now: 0,
            second: Second::new(nodes),
            seconds: Vec::new(),
            story,
            chance,
            lots,
            fleet,
        };
        (0..story.instances).for_each(|instance| world.look(instance));
        for _ in 0..story.calls {
            let instance = world.instance();
            let node = world.choose_here(instance).expect("there is room");
            world.give(node);
            let left = story.hold.draw_left(&mut world.chance);
            world.agenda.put(left, Event::End { node, of: 0 });
        }
        world.second = Second::new(nodes);
        world
    }

    fn step(&mut self, now: u64) {
        self.now = now;
        if now == self.story.away.start {
            self.lose();
        }
        if now == self.story.away.end {
            self.story.lost.iter().for_each(|node| self.conduct[*node] = Conduct::Well);
        }
        for event in self.agenda.take(now) {
            self.happen(event);
        }
        self.write_next();
        if !self.without_store() {
            for instance in 0..self.instances.len() {
                if self.instances[instance].look_at <= now {
                    self.instances[instance].look_at +=
                        LOOK_MS * (1 + (now - self.instances[instance].look_at) / LOOK_MS);
                    self.look(instance);
                }
            }
            self.be_steward();
        }
        for _ in 0..self.arrivals.at(now, &mut self.chance) {
            let instance = self.instance();
            self.dial(instance);
        }
        if now % 1000 == 999 {
            self.end_second();
        }
    }

    fn lose(&mut self) {
        for node in self.story.lost.clone() {
            self.conduct[node] = self.story.conduct;
            if self.story.conduct == Conduct::Silent {
                self.lives[node] += 1;
                for _ in 0..self.fleet.nodes[node].load {
                    let patience = -self.lots.f64().max(1e-9).ln() * HANG_UP_MS;
                    let over = self.now + 1 + patience as u64;
                    self.agenda.put(over, Event::End { node, of: self.lives[node] });
                    if self.lots.f64() < self.story.redial {
                        let instance = self.instance();
                        self.agenda.put(over + 1000, Event::Dial { instance });
                    }
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::End { node, of } if of == self.lives[node] => self.take(node),
            Event::End { .. } => {}
            Event::Dial { instance } => self.dial(instance),
            Event::Fails(attempt) => self.fail(attempt),
            Event::ProbeEnds { node } => {
                let evidence = match self.conduct[node] {
                    Conduct::Well | Conduct::Refuses => Evidence::ProbeGood,
                    Conduct::Silent => Evidence::ProbeBad("no answer".to_owned()),
                };
                if let Some(change) = self.notice(0, node, &evidence) {
                    self.write(0, vec![change]);
                }
                self.hurry(node);
            }
            Event::Write { instance, changes } => self.written(instance, &changes),
        }
    }

    fn dial(&mut self, instance: usize) {
        self.second.dialled += 1;
        let targets = if self.without_store() {
            self.choose_without_store(instance)
        } else {
            let Some(first) = self.choose_here(instance) else {
                self.second.failed += 1;
                return;
            };
            let others = self.instances[instance].fallbacks.iter().filter(|node| **node != first);
            let others = others.take(usize::from(RULES.targets_max) - 1);
            std::iter::once(first).chain(others.copied()).collect()
        };
        self.ring(Box::new(Attempt { instance, targets, at: 0 }));
    }

    /// The call is counted on the target and meets what is there.
    fn ring(&mut self, attempt: Box<Attempt>) {
        let (node, instance) = (attempt.targets[attempt.at], attempt.instance);
        self.give(node);
        match self.conduct[node] {
            Conduct::Well => {
                self.notice(instance, node, &Evidence::Answered);
                let over = self.now + self.story.hold.draw(&mut self.chance);
                self.agenda.put(over, Event::End { node, of: self.lives[node] });
            }
            Conduct::Silent => self.agenda.put(self.now + SILENT_MS, Event::Fails(attempt)),
            Conduct::Refuses => self.agenda.put(self.now + REFUSED_MS, Event::Fails(attempt)),
        }
    }

    fn fail(&mut self, mut attempt: Box<Attempt>) {
        let node = attempt.targets[attempt.at];
        self.take(node);
        let evidence = match self.story.conduct {
            Conduct::Silent => Evidence::Silent("no answer"),
            Conduct::Well | Conduct::Refuses => Evidence::Answered,
        };
        // What a call meets while another change is being written will be met again.
        if !self.instances[attempt.instance].busy
            && let Some(change) = self.notice(attempt.instance, node, &evidence)
        {
            self.write(attempt.instance, vec![change]);
        }
        self.second.moved += u32::from(attempt.at == 0);
        attempt.at += 1;
        if attempt.at < attempt.targets.len() {
            self.ring(attempt);
        } else {
            self.second.failed += 1;
        }
    }

    fn choose_here(&mut self, instance: usize) -> Option<usize> {
        self.shelves.pick(&self.fleet, &self.instances[instance].lookup)
    }

    fn choose_without_store(&mut self, instance: usize) -> Vec<usize> {
        let lease = LeaseId(std::array::from_fn(|_| self.lots.u8(..)));
        let of = &self.instances[instance];
        let now = EpochMs(EPOCH + self.now);
        let slots = of.degraded.answer(lease, &of.view, &of.lookup, &RULES, now).expect("there are nodes");
        slots.iter().map(|slot: &Slot| usize::from(slot.0)).collect()
    }

    fn give(&mut self, node: usize) {
        self.second.given[node] += 1;
        self.fleet.give(node);
        self.shelves.moved(&self.fleet, node);
    }

    fn take(&mut self, node: usize) {
        self.fleet.take(node);
        self.shelves.moved(&self.fleet, node);
    }

    /// An instance takes a view, and works out the targets behind a first one.
    fn look(&mut self, instance: usize) {
        let of = &mut self.instances[instance];
        of.view = View {
            version: self.version,
            nodes: Vec::new(),
            loaded: self.fleet.nodes.clone(),
            at: EpochMs(EPOCH + self.now),
            history: 1,
        };
        of.degraded.store_is_back();
        let wide = Rules { targets_max: TARGETS_MAX + 1, ..RULES };
        let all = Lookup { targets_max: TARGETS_MAX + 1, ..of.lookup.clone() };
        of.fallbacks = pool::pick(&of.view.loaded, &all, &wide).targets.unwrap_or_default();
    }

    fn notice(&mut self, instance: usize, node: usize, evidence: &Evidence) -> Option<Change> {
        let of = &mut self.instances[instance];
        let before = &of.view.loaded[node].node.health;
        let next = of.watches[node].notice(evidence, before, &self.story.health, of.view.at)?;
        Some(Change { node, before: before.clone(), next })
    }

    /// The first instance is the steward: it probes, and lets time pass.
    fn be_steward(&mut self) {
        let rules = self.story.health;
        for node in 0..self.probe_at.len() {
            if self.probe_at[node] == self.now {
                let takes = match self.conduct[node] {
                    Conduct::Well | Conduct::Refuses => 1,
                    Conduct::Silent => rules.probe_timeout_ms,
                };
                self.agenda.put(self.now + takes, Event::ProbeEnds { node });
                let every = rules.probe_every_ms as f64 * (0.9 + 0.2 * self.lots.f64());
                self.probed[node] = self.now;
                self.probe_at[node] = self.now + every as u64;
            }
        }
        if self.now.is_multiple_of(PASS_MS) {
            let steward = &mut self.instances[0];
            let (view, watches) = (&steward.view, &mut steward.watches);
            let changes = view.loaded.iter().enumerate().filter_map(|(node, n)| {
                let before = &n.node.health;
                let next = match before.condition {
                    Condition::Up => None,
                    Condition::Warming | Condition::Overloaded | Condition::Ejected | Condition::Failing => {
                        watches[node].pass(before, &rules, view.at)
                    }
                }?;
                Some(Change { node, before: before.clone(), next })
            });
            let changes: Vec<Change> = changes.collect();
            if !changes.is_empty() {
                self.write(0, changes);
            }
        }
    }

    /// A node that is in doubt is asked after half of the time.
    fn hurry(&mut self, node: usize) {
        let steward = &self.instances[0];
        if steward.watches[node].is_in_doubt(&steward.view.loaded[node].node.health) {
            let sooner = self.probe_at[node] - self.probed[node];
            self.probe_at[node] = (self.probed[node] + sooner / 2).max(self.now + 1);
        }
    }

    fn write(&mut self, instance: usize, changes: Vec<Change>) {
        self.instances[instance].busy = true;
        self.to_write.push_back((instance, changes));
    }

    /// Of two instances that write, one comes too late and begins again: one change after the other. What another instance has
    /// changed already is only looked at.
    fn write_next(&mut self) {
        while self.write_at <= self.now
            && let Some((instance, changes)) = self.to_write.pop_front()
        {
            let is_new = changes.iter().any(|change| self.stands(change));
            let each = if is_new { WRITE_US_A_NODE } else { LOOK_US_A_NODE };
            self.write_at = self.now + (self.fleet.nodes.len() as u64 * each).div_ceil(1000);
            self.agenda.put(self.write_at, Event::Write { instance, changes });
        }
    }

    /// Whether the health is still what the change was found on.
    fn stands(&self, Change { node, before, .. }: &Change) -> bool {
        let health = &self.fleet.nodes[*node].node.health;
        (health.condition, health.since) == (before.condition, before.since)
    }

    /// As `dispatch::health` writes: each change unless the node's health is another one by now.
    fn written(&mut self, instance: usize, changes: &[Change]) {
        let now = EpochMs(EPOCH + self.now);
        self.instances[instance].busy = false;
        let standing: Vec<&Change> = changes.iter().filter(|change| self.stands(change)).collect();
        if standing.is_empty() {
            return self.look(instance);
        }
        for Change { node, before, next } in standing {
            let node = Arc::make_mut(&mut self.fleet.nodes[*node].node);
            let moved = Health {
                since: now,
                until: next.until.map(|until| now + until.since(next.since)),
                ..next.clone()
            };
            node.health = if next.since == before.since { next.clone() } else { moved };
        }
        let overruled = too_many_out(self.fleet.nodes.iter().map(|n| &n.node.health), &self.story.health);
        for n in &mut self.fleet.nodes {
            let is = overruled && n.node.health.condition.is_out();
            if n.node.health.overruled != is {
                Arc::make_mut(&mut n.node).health.overruled = is;
            }
        }
        self.version += 1;
        self.shelves.lay_out(&self.fleet);
        self.look(instance);
    }

    fn instance(&mut self) -> usize {
        let count = self.story.instances;
        if self.story.callers.is_empty() {
            return self.chance.usize(..count);
        }
        let (mut lot, mut of) = (self.chance.f64(), 0);
        while of + 1 < self.story.callers.len() && lot >= self.story.callers[of] {
            lot -= self.story.callers[of];
            of += 1;
        }
        let there = (count - of).div_ceil(self.story.zones);
        of + self.story.zones * self.chance.usize(..there)
    }

    fn without_store(&self) -> bool {
        self.story.without_store.contains(&self.now)
    }

    fn end_second(&mut self) {
        self.second.even = self.fleet.evenness(|node| self.conduct[node] == Conduct::Well);
        let found = |node: &&usize| !self.fleet.nodes[**node].node.is_available();
        self.second.found = self.story.lost.iter().filter(found).count();
        let next = Second::new(self.fleet.nodes.len());
        self.seconds.push(std::mem::replace(&mut self.second, next));
    }
}

impl Second {
    fn new(nodes: usize) -> Second {
        let even = Evenness { mean: 0.0, fullest: 1.0, emptiest: 1.0, deviation: 0.0 };
        Second { even, given: vec![0; nodes], dialled: 0, failed: 0, moved: 0, found: 0 }
    }
}
