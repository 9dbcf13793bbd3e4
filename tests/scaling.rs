//! The simulation behind docs/scaling.md, small: what it says in words must hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../benches/scaling/sim.rs"]
#[allow(dead_code)]
mod sim;

use sim::faults::{Conduct, Second, Story, tell};
use sim::fleet::Evenness;
use sim::policy::{Case, Who, run};
use sim::traffic::Hold;

const HOLD: Hold = Hold { mean_s: 30.0, spread: 1.0 };

fn case(capacities: &[u32], calls: usize) -> Case {
    Case {
        capacities: capacities.to_vec(),
        instances: 10,
        calls,
        hold: HOLD,
        warm_s: 60,
        seconds: 60,
        seed: 7,
        check_every: 3,
    }
}

#[test]
fn print() {
    for who in [
        Who::Mqs,
        Who::Random,
        Who::InTurn,
        Who::TwoShared,
        Who::TwoViews(500),
        Who::TwoOwn,
        Who::LeastViews(500),
        Who::Dispatcher,
    ] {
        let seen = run(&case(&[200; 40], 4000), who);
        let worst = seen.each_second.iter().map(|e| e.fullest).fold(0.0, f64::max);
        eprintln!("{who:?} {worst:.3} {} {}", seen.picks, seen.checked);
    }
    let story = Story {
        capacities: vec![200; 42],
        zones: 3,
        callers: vec![],
        instances: 10,
        calls: 4000,
        hold: HOLD,
        lasts_ms: 180_000,
        lost: (0..42).filter(|n| n % 3 == 2).collect(),
        conduct: Conduct::Silent,
        away: 10_000..70_000,
        redial: 0.5,
        without_store: 0..0,
        together: false,
        health: Default::default(),
        seed: 7,
        check_every: 3,
    };
    for (n, s) in tell(&story).iter().enumerate() {
        eprintln!(
            "{n} even {:.3} {:.3} most {:.2} dialled {} failed {} moved {} found {}",
            s.even.fullest,
            s.even.emptiest,
            s.most(|n| n % 3 != 2),
            s.dialled,
            s.failed,
            s.moved,
            s.found
        );
    }
}
