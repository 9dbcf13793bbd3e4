//! What a match costs while 100,000 calls wait, beside what it costs while 100 do: the same agents, by turns.

use crate::line::{Line, warm_up};
use crate::support::{full_or_quick, median, quantile, round};
use crate::{cpu_ms, world};
use mqs::clock::Stopwatch;
use mqs::domain::call::Channel;
use mqs::domain::controller::{Effect, Input, LegEnd, Outcome, Output};
use mqs::domain::id::{AgentId, OfferId};
use mqs::domain::matching::{Matcher, ReadyAgent, WaitingCall};
use mqs::domain::offer::OfferStage;
use mqs::domain::queue::Setup;
use mqs::domain::time::EpochMs;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

const FEW: usize = 100;

/// How long each call waits in the index alone, in ms of the made-up time, few or many: so all go through the same steps of
/// their queues' rules.
const WAIT_MS: u64 = 1_000_000;

pub fn measure() -> Value {
    let (setup, many) = (world::setup(), full_or_quick(100_000, 20_000));
    let index = index(&setup, many);
    let controller = controller(&setup, many);
    let most = |of: &Value, what: &str| of[what].as_f64().unwrap();
    let value = most(&index, "ratio").max(most(&controller, "ratio"));
    json!({"many": many, "few": FEW, "index": index, "controller": controller, "worst_ratio": value})
}

/// An agent becomes ready, is matched, and is with a call then; another caller comes.
struct Index {
    matcher: Matcher,
    agents: VecDeque<ReadyAgent>,
    now: EpochMs,
    cycle_ms: u64,
    matched: usize,
}

impl Index {
    fn new(setup: &Setup, waiting: usize) -> Index {
        let mut matcher = Matcher::new(1);
        // The first of them has waited as long as it takes to serve all.
        let (cycle_ms, begun) = (WAIT_MS / waiting as u64, world::START.0 - WAIT_MS);
        for (queue, rules) in &setup.queues {
            matcher.set_queue(queue, rules.matching.clone(), EpochMs(begun));
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for number in 0..waiting as u64 {
            let seen = world::caller(number, &mut rng);
            let call = WaitingCall {
                id: seen.channel.id.as_str().parse().unwrap(),
                queue: seen.queue.unwrap(),
                priority: seen.priority,
                enqueued: EpochMs(begun + cycle_ms * number),
                wishes: seen.wishes,
                avoid: BTreeMap::new(),
            };
            matcher.wait(call, EpochMs(begun + cycle_ms * number)).unwrap();
        }
        let ready = |(id, rules): (&AgentId, &mqs::domain::agent::AgentRules)| ReadyAgent {
            id: id.clone(),
            since: world::START,
            skills: rules.skills.clone(),
            memberships: rules.memberships.clone(),
            taken: BTreeMap::new(),
            round: 0,
        };
        let mut agents: VecDeque<ReadyAgent> = setup.agents.iter().map(ready).collect();
        // Names are in order; who becomes ready is not.
        fastrand::Rng::with_seed(4).shuffle(agents.make_contiguous());
        Index { matcher, agents, now: world::START, cycle_ms, matched: 0 }
    }

    fn cycle(&mut self) {
        self.now = self.now + self.cycle_ms;
        let mut agent = self.agents.pop_front().unwrap();
        agent.since = self.now;
        agent.round += 1;
        let id = agent.id.clone();
        self.matcher.ready(agent);
        while let Some(found) = self.matcher.next(self.now) {
            let mut call = self.matcher.leave(&found.call).unwrap();
            for agent in &found.agents {
                self.agents.extend(self.matcher.unready(agent));
                self.matcher.offered(&found.queue, agent);
            }
            self.matched += 1;
            call.enqueued = self.now;
            self.matcher.wait(call, self.now).unwrap();
        }
        // Nobody for this agent: the next one.
        self.agents.extend(self.matcher.unready(&id));
    }
}

fn index(setup: &Setup, waiting: usize) -> Value {
    let (rounds, cycles) = (full_or_quick(31, 7), 2_000);
    let mut sides = [Index::new(setup, FEW), Index::new(setup, waiting)];
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..rounds + 3 {
        for (side, took) in sides.iter_mut().zip(&mut took) {
            let before = side.matched;
            let began = cpu_ms();
            (0..cycles).for_each(|_| side.cycle());
            let us = (cpu_ms() - began) * 1_000.0;
            // The first rounds find cold caches, and calls whose rules have yet to change by the time that they have waited.
            if round >= 3 {
                took.push(us / (side.matched - before) as f64);
            }
        }
    }
    let [few, many] = took.map(median);
    let matched = |side: &Index| round(side.matched as f64 / (cycles * (rounds + 3)) as f64);
    json!({
        "rounds": rounds, "cycles_a_round": cycles, "us_few": round(few), "us_many": round(many), "ratio": round(many / few),
        "matched_few": matched(&sides[0]), "matched_many": matched(&sides[1]),
    })
}

/// Agents who are with callers, of whom one after the other is done.
struct Busy {
    line: Line,
    rng: fastrand::Rng,
    called: u64,
    waiting: usize,
}

impl Busy {
    /// The waiting calls come at once, when everybody is busy.
    fn new(setup: &Arc<Setup>, waiting: usize) -> Busy {
        let (mut line, mut told) = Line::new(setup, world::AGENTS, FEW);
        while told.len() < warm_up(FEW) {
            line.step(&mut told);
            line.changes.clear();
        }
        let mut busy = Busy { line, rng: fastrand::Rng::with_seed(5), called: 10_000_000, waiting };
        busy.fill();
        busy
    }

    fn in_line(&self) -> usize {
        (0..world::QUEUES).map(|queue| self.line.controller.in_line(&world::queue(queue))).sum()
    }

    /// Callers come until as many wait as there are to be.
    fn fill(&mut self) {
        while self.in_line() < self.waiting {
            self.arrive();
        }
    }

    /// What is asked of the nodes.
    fn tell(&mut self, input: Input) -> Vec<Effect> {
        self.line.world.now = self.line.world.now + 1;
        self.line.controller.handle(input, self.line.world.now);
        let mut effects = Vec::new();
        while let Some(output) = self.line.controller.next_output() {
            match output {
                Output::Effect(effect) => effects.push(effect),
                Output::Change(change) => _ = black_box(change),
            }
        }
        effects
    }

    fn arrive(&mut self) {
        self.called += 1;
        let seen = world::caller(self.called, &mut self.rng);
        let effects = self.tell(Input::CallerEntered(seen));
        self.serve(effects);
    }

    /// Whoever is rung answers at once, and is joined; whoever is hung up is gone.
    fn serve(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match &effect {
                Effect::Originate(originate) => {
                    let (offer, leg) = (originate.offer.clone(), originate.leg.clone());
                    effects.extend(self.tell(Input::Answered { effect, outcome: Outcome::Done }));
                    effects.extend(self.tell(Input::LegAnswered { offer, leg }));
                }
                Effect::Join { .. } => {
                    effects.extend(self.tell(Input::Answered { effect, outcome: Outcome::Done }))
                }
                Effect::DropLeg { leg, void: true, .. } => {
                    let leg = leg.clone();
                    effects.extend(self.tell(Input::LegEnded { leg, how: LegEnd::HungUp }));
                }
                Effect::HangUp { channel, .. } | Effect::Continue { channel, .. } => {
                    let channel = channel.clone();
                    effects.extend(self.tell(Input::CallerLeft(channel)));
                }
                Effect::Attend(_)
                | Effect::Tell { .. }
                | Effect::Announce { .. }
                | Effect::Hush { .. }
                | Effect::DropLeg { void: false, .. } => {}
            }
        }
    }

    fn talks(&self) -> VecDeque<(OfferId, Channel)> {
        let joined =
            self.line.controller.offers().filter(|offer| matches!(offer.stage, OfferStage::Joined { .. }));
        let mut all: VecDeque<_> = joined.map(|offer| (offer.id.clone(), offer.leg.clone())).collect();
        fastrand::Rng::with_seed(6).shuffle(all.make_contiguous());
        all
    }

    /// An agent hangs up, and is asked to take the next call: how long that took, in µs, if there was one. Then the rest of all
    /// that follows from it, and other callers come.
    fn cycle(&mut self, leg: Channel) -> Option<f64> {
        self.line.world.now = self.line.world.now + 1;
        let now = self.line.world.now;
        let mut outputs = Vec::with_capacity(32);
        let watch = Stopwatch::start();
        self.line.controller.handle(Input::LegEnded { leg, how: LegEnd::HungUp }, now);
        while let Some(output) = self.line.controller.next_output() {
            outputs.push(output);
        }
        let us = watch.elapsed().as_secs_f64() * 1e6;
        let effects: Vec<Effect> = outputs
            .into_iter()
            .filter_map(|output| match output {
                Output::Effect(effect) => Some(effect),
                Output::Change(_) => None,
            })
            .collect();
        let offered = effects.iter().any(|effect| matches!(effect, Effect::Originate(_)));
        self.serve(effects);
        self.fill();
        offered.then_some(us)
    }
}

fn controller(setup: &Arc<Setup>, waiting: usize) -> Value {
    let (rounds, cycles) = (full_or_quick(41, 7), 200);
    let mut sides = [Busy::new(setup, FEW), Busy::new(setup, waiting)];
    let (mut took, mut whole) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..rounds + 3 {
        for (at, side) in sides.iter_mut().enumerate() {
            let talks = side.talks();
            let began = cpu_ms();
            let times: Vec<f64> =
                talks.into_iter().take(cycles).filter_map(|(_, leg)| side.cycle(leg)).collect();
            let us = (cpu_ms() - began) * 1_000.0 / cycles as f64;
            if round >= 3 {
                took[at].extend(times);
                whole[at].push(us);
            }
        }
    }
    let offered = |times: &Vec<f64>| round(times.len() as f64 / (rounds * cycles) as f64);
    let (offered_few, offered_many) = (offered(&took[0]), offered(&took[1]));
    let p99 = took.each_ref().map(|times| round(quantile(times.iter().copied(), 0.99)));
    let [few, many] = took.map(median);
    let [whole_few, whole_many] = whole.map(median);
    json!({
        "rounds": rounds, "cycles_a_round": cycles, "us_few": round(few), "us_many": round(many), "ratio": round(many / few),
        "p99_us_few": p99[0], "p99_us_many": p99[1],
        "whole_call_us_few": round(whole_few), "whole_call_us_many": round(whole_many), "whole_call_ratio": round(whole_many / whole_few),
        "offered_few": offered_few, "offered_many": offered_many,
        "in_line_few": sides[0].in_line(), "in_line_many": sides[1].in_line(),
    })
}
