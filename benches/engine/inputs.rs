//! How many inputs a second one core works off, while 1,000 and 20,000 calls wait.

use crate::line::{Desk, Line, settings, tell_controller, tell_pilot, warm_up};
use crate::support::{full_or_quick, median, round};
use crate::{cpu_ms, world};
use mqs::cell::codec;
use mqs::cell::pilot::{self, Pilot};
use mqs::domain::controller::{Controller, Input};
use mqs::domain::queue::Setup;
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;

pub fn measure() -> Value {
    let setup = world::setup();
    let mut found = json!({"agents": world::AGENTS, "queues": world::QUEUES});
    for waiting in full_or_quick([1_000, 20_000], [1_000, 5_000]) {
        found[format!("waiting_{waiting}")] = at(&setup, waiting);
    }
    found
}

/// Rounds of the same inputs, which the three of them take by turns.
fn at(setup: &Arc<Setup>, waiting: usize) -> Value {
    let (rounds, inputs) = (full_or_quick(15, 3), full_or_quick(20_000, 5_000));
    let (mut line, mut told) = Line::new(setup, world::AGENTS, waiting);
    while told.len() < warm_up(waiting) {
        line.step(&mut told);
    }
    let mut controller = Controller::new(1, setup.clone(), 1, world::START);
    tell_controller(&mut controller, told);

    let (mut desk, mut told) = Desk::new(setup, waiting);
    while told.len() < 2 * warm_up(waiting) {
        desk.step(&mut told);
    }
    let (mut alone, mut coding) = (Pilot::new(settings()), Pilot::new(settings()));
    tell_pilot(&mut alone, told.clone(), |_| {});
    tell_pilot(&mut coding, told, |_| {});

    let mut of = [Figures::default(), Figures::default(), Figures::default()];
    let mut mix = std::collections::BTreeMap::new();
    for _ in 0..rounds {
        let mut told = Vec::new();
        while told.len() < inputs {
            line.step(&mut told);
        }
        line.changes.clear();
        told.iter().for_each(|(input, _)| *mix.entry(kind(input)).or_insert(0_u64) += 1);
        let ticks = told.iter().filter(|(input, _)| *input == Input::Tick).count();
        let calls = told.iter().filter(|(input, _)| matches!(input, Input::CallerEntered(_))).count();
        let count = (told.len() - ticks, calls);
        of[0].add(count, || tell_controller(&mut controller, told));

        let mut told = Vec::new();
        while told.len() < inputs {
            desk.step(&mut told);
        }
        desk.commits.clear();
        let works = |input: &pilot::Input| {
            matches!(input, pilot::Input::Event(..) | pilot::Input::Acted(..) | pilot::Input::Committed(..))
        };
        let arrives =
            |input: &pilot::Input| matches!(input, pilot::Input::Event(_, _, Input::CallerEntered(_)));
        let count = (
            told.iter().filter(|(input, _)| works(input)).count(),
            told.iter().filter(|(input, _)| arrives(input)).count(),
        );
        let again = told.clone();
        of[1].add(count, || tell_pilot(&mut alone, told, |commit| _ = black_box(commit)));
        of[2].add(count, || tell_pilot(&mut coding, again, |commit| _ = black_box(codec::batch(commit))));
    }
    let in_line: usize = (0..world::QUEUES).map(|queue| controller.in_line(&world::queue(queue))).sum();
    let all: u64 = mix.values().sum();
    let shares: Value = mix
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), json!(round(*count as f64 / all as f64))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let [alone, piloted, coded] = of.map(|figures| figures.told());
    json!({
        "rounds": rounds, "inputs_a_round": inputs, "in_line_at_the_end": in_line, "mix": shares,
        "controller": alone, "pilot": piloted, "pilot_and_codec": coded,
    })
}

fn kind(input: &Input) -> &'static str {
    match input {
        Input::Tick => "tick",
        Input::CallerEntered(_) => "caller_entered",
        Input::CallerLeft(_) => "caller_left",
        Input::LegAnswered { .. } => "leg_answered",
        Input::LegEnded { .. } => "leg_ended",
        Input::Answered { .. } => "answered",
        _ => "other",
    }
}

#[derive(Default)]
struct Figures {
    inputs: Vec<f64>,
    calls: Vec<f64>,
}

impl Figures {
    /// `count`: inputs, and how many of these are new calls. Ticks cost, and are not counted.
    fn add(&mut self, count: (usize, usize), work: impl FnOnce()) {
        let began = cpu_ms();
        work();
        let seconds = (cpu_ms() - began) / 1_000.0;
        self.inputs.push(count.0 as f64 / seconds);
        self.calls.push(count.1 as f64 / seconds);
    }

    fn told(self) -> Value {
        let least = self.inputs.iter().copied().fold(f64::INFINITY, f64::min);
        json!({
            "inputs_a_second": round(median(self.inputs)),
            "least_of_a_round": round(least),
            "calls_a_second": round(median(self.calls)),
        })
    }
}
