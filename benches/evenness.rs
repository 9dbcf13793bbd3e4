//! How even the nodes are, by their own count of the calls that are up: MQS beside `dispatcher` with algorithm 10.
//!
//! Both get the same calls at the same moments. While calls only arrive, and then while they come and go, the gap is taken
//! twenty times a second, at moments without a message on its way: by how much the fullest node is fuller than the emptiest one
//! would be with one call more, told in calls of the emptiest. `dispatcher` has `maxload`; algorithm 10 heeds no weight.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(dead_code)]

#[path = "../tests/lab/kamailio.rs"]
mod kamailio;
#[path = "../tests/lab/mqs.rs"]
mod mqs_server;
#[path = "../tests/lab/net.rs"]
mod net;
#[path = "../tests/lab/parts.rs"]
mod parts;
#[path = "support/phone.rs"]
mod phone;
#[path = "../tests/lab/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "../tests/lab/redis.rs"]
mod redis_server;
#[path = "../tests/lab/resp.rs"]
mod resp;
#[path = "../tests/lab/room.rs"]
mod room;
mod support;
#[path = "support/worlds.rs"]
mod worlds;

use crate::parts::{Part, Parts};
use crate::room::Lab;
use crate::support::{full_or_quick, quantile, round};
use crate::worlds::{Ideal, World};
use ::mqs::clock::Stopwatch;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// How long Kamailio takes to find out that both ends of a call are gone: `WITH_DIALOG_KA` asks them each 60 s, and leaves a dialog
/// that fails 10 s. The module asks no faster than each 30 s, so on a faster clock `kamcmd` ends the dialog in its place, for both.
const FINDS_OUT_S: f64 = 100.0;

/// What differs between cases. Times in seconds.
pub struct Case {
    name: &'static str,
    capacities: &'static [u32],
    /// Kamailios, and the share of the calls that each takes.
    shares: &'static [f64],
    /// Calls that are up at a time.
    calls: usize,
    hold: Hold,
    lasts: f64,
    /// The first Kamailio is killed and started again in the middle.
    restart: bool,
    /// Both ends of this share of the calls lose each other, and no BYE comes.
    lost: f64,
    /// One second stands for so many. From 100 on, calls are forgotten as much sooner.
    clock: u32,
}

#[derive(Clone, Copy)]
enum Hold {
    /// Most calls are short, some are long: the mean.
    Chance(f64),
    Between(f64, f64),
}

const EQUAL: &[u32] = &[100, 100, 100, 100];

const PLAIN: Case = Case {
    name: "",
    capacities: EQUAL,
    shares: &[1.0],
    calls: 200,
    hold: Hold::Chance(6.0),
    lasts: 25.0,
    restart: false,
    lost: 0.0,
    clock: 1,
};

const CASES: [Case; 8] = [
    Case { name: "equal_1", ..PLAIN },
    Case { name: "equal_2", shares: &[0.5, 0.5], ..PLAIN },
    Case { name: "equal_4", shares: &[0.25; 4], ..PLAIN },
    Case { name: "capacities", capacities: &[25, 50, 100, 200], calls: 190, shares: &[0.5, 0.5], ..PLAIN },
    Case { name: "shares", shares: &[0.7, 0.15, 0.1, 0.05], ..PLAIN },
    Case { name: "restart", shares: &[0.5, 0.5], restart: true, ..PLAIN },
    Case {
        name: "lost_bye",
        shares: &[0.5, 0.5],
        hold: Hold::Chance(20.0),
        lasts: 60.0,
        lost: 0.01,
        clock: 9,
        ..PLAIN
    },
    Case { name: "hours", hold: Hold::Between(3.0, 23.0), lasts: 45.0, clock: 600, ..PLAIN },
];

fn main() -> Result<()> {
    if support::is_test() {
        return Ok(());
    }
    let parts = Parts::find()?;
    let needed = [Part::Kamailio, Part::Redis];
    let missing: Vec<String> = needed.iter().filter_map(|part| parts.why_missing(*part)).collect();
    if !missing.is_empty() {
        println!("skipped: {}", missing.join("; "));
        support::add(json!({"skipped_evenness": missing}));
        return Ok(());
    }
    let parts = Arc::new(parts);
    let _ = std::fs::remove_file(support::series_file());
    for case in CASES.iter().filter(|case| asked_for(case)) {
        room::run(case.name, parts.clone(), |lab| measure(lab, case))?;
    }
    room::wait_for_reaper();
    Ok(())
}

/// `cargo bench --bench evenness -- lost` measures one case.
fn asked_for(case: &Case) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    End(usize),
    FindOut(usize),
    Restart,
}

fn measure(lab: &Lab, case: &Case) -> Result<()> {
    let mut worlds = [World::with_mqs(lab, case)?, World::with_dispatcher(lab, case)?];
    let mut ideal = Ideal::new(case);
    let mut chance = fastrand::Rng::with_seed(lab.seed());
    let lasts = full_or_quick(case.lasts, case.lasts / 4.0);
    let rate = case.calls as f64 / case.hold.mean();
    let fill = case.calls as f64 / 60.0;

    // Calls only arrive.
    let mut agenda = BinaryHeap::new();
    let at = |s: f64| (s * 1e6) as u64;
    for call in 0..case.calls {
        agenda.push(Reverse((at(fill * call as f64 / case.calls as f64), call, Event::Arrive)));
    }
    let mut calls = case.calls;
    let mut filled: [Vec<f64>; 3] = Default::default();
    run(&mut worlds, &mut ideal, &mut agenda, &mut calls, fill + 0.2, case, None, &mut chance, &mut filled)?;

    // They come and go.
    for call in 0..case.calls {
        agenda.push(Reverse((at(case.hold.draw(&mut chance)), call, Event::End(call))));
    }
    agenda.push(Reverse((at(-chance.f64().max(1e-9).ln() / rate), calls, Event::Arrive)));
    calls += 1;
    if case.restart {
        agenda.push(Reverse((at(lasts / 2.0), usize::MAX, Event::Restart)));
    }
    let mut gaps: [Vec<f64>; 3] = Default::default();
    run(&mut worlds, &mut ideal, &mut agenda, &mut calls, lasts, case, Some(rate), &mut chance, &mut gaps)?;

    let mut found = Map::new();
    let mut series = Map::new();
    let told = worlds.iter().map(|world| (world.name, world.refused())).chain([("ideal", 0)]);
    for (((name, refused), gaps), filled) in told.zip(&gaps).zip(&filled) {
        let most = |values: &[f64]| round(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        found.insert(
            name.to_owned(),
            json!({
                "arriving_max": most(filled),
                "mean": round(gaps.iter().sum::<f64>() / gaps.len() as f64),
                "p99": round(quantile(gaps.iter().copied(), 0.99)),
                "max": most(gaps),
                "samples": filled.len() + gaps.len(),
                "refused": refused,
            }),
        );
        series.insert(name.to_owned(), json!(gaps.iter().map(|gap| round(*gap)).collect::<Vec<_>>()));
    }
    println!("{}: {}", case.name, Value::Object(found.clone()));
    support::add_to(&support::series_file(), json!({ case.name: { "seconds": lasts, "gaps": series } }));
    support::add(json!({"evenness": { case.name: found }}));
    Ok(())
}

/// Lets `seconds` pass: what is on the agenda happens in both worlds, and samples are taken.
#[allow(clippy::too_many_arguments)]
fn run(
    worlds: &mut [World; 2],
    ideal: &mut Ideal,
    agenda: &mut BinaryHeap<Reverse<(u64, usize, Event)>>,
    calls: &mut usize,
    seconds: f64,
    case: &Case,
    rate: Option<f64>,
    chance: &mut fastrand::Rng,
    gaps: &mut [Vec<f64>; 3],
) -> Result<()> {
    const SAMPLE_EVERY: u64 = 50_000;
    let mut clock = Stopwatch::start();
    let (mut next_sample, mut before) = (SAMPLE_EVERY, 0);
    loop {
        let now = before + clock.micros();
        if now as f64 > seconds * 1e6 {
            return Ok(());
        }
        while let Some(Reverse((at, call, event))) = agenda.peek().copied()
            && at <= now
        {
            agenda.pop();
            match event {
                Event::Arrive => {
                    let proxy = pick(case.shares, chance.f64());
                    worlds.iter_mut().for_each(|world| world.dial(call, proxy));
                    ideal.dial(call);
                    if let Some(rate) = rate {
                        let hold = case.hold.draw(chance);
                        agenda.push(Reverse((at + (hold * 1e6) as u64, call, Event::End(call))));
                        let gap = -chance.f64().max(1e-9).ln() / rate;
                        agenda.push(Reverse((at + (gap * 1e6) as u64, *calls, Event::Arrive)));
                        *calls += 1;
                    }
                }
                Event::End(call) => {
                    let lost = chance.f64() < case.lost;
                    worlds.iter_mut().for_each(|world| world.end(call, lost));
                    ideal.end(call);
                    if lost {
                        let later = at + (FINDS_OUT_S / f64::from(case.clock) * 1e6) as u64;
                        agenda.push(Reverse((later, call, Event::FindOut(call))));
                    }
                }
                Event::FindOut(call) => {
                    worlds.iter_mut().try_for_each(|world| world.find_out(call))?;
                }
                Event::Restart => {
                    // Time stands still meanwhile, for both alike.
                    before = now;
                    worlds.iter_mut().try_for_each(World::restart_first)?;
                    clock = Stopwatch::start();
                }
            }
        }
        if now >= next_sample {
            let mut all = true;
            for (world, gaps) in worlds.iter().zip(gaps.iter_mut()) {
                match world.gap() {
                    Some(gap) => gaps.push(gap),
                    None => all = false,
                }
            }
            gaps[2].push(ideal.gap());
            // Something was on its way in one of them: soon again.
            next_sample = if all { now + SAMPLE_EVERY } else { now + 5_000 };
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

impl Hold {
    fn mean(self) -> f64 {
        match self {
            Hold::Chance(mean) => mean,
            Hold::Between(low, high) => (low + high) / 2.0,
        }
    }

    fn draw(self, chance: &mut fastrand::Rng) -> f64 {
        match self {
            Hold::Chance(mean) => -mean * chance.f64().max(1e-9).ln(),
            Hold::Between(low, high) => low + (high - low) * chance.f64(),
        }
    }
}

fn pick(shares: &[f64], lot: f64) -> usize {
    let mut sum = 0.0;
    let chosen = shares.iter().position(|share| {
        sum += share;
        lot < sum
    });
    chosen.unwrap_or(shares.len() - 1)
}
