//! Which of the long cases run today. All of them take an hour, so a run of the tests takes some of each group by turns, other
//! ones each day: `MQS_LAB_FAULTS=all`, or `=redis_killed,sentinels_replace_a_dead_master`. A case that is asked for by its whole
//! name is run.

use anyhow::{Result, ensure};

use super::{agents, dispatch, failure, faults, queue, redirect};
use crate::Case;
use crate::net::epoch_s;

/// Cases that take turns.
struct Group {
    cases: Vec<Case>,
    /// Of these, those that run each day. So does what needs no parts.
    always: &'static [&'static str],
    /// How many of the others run where nothing is said.
    a_turn: usize,
}

fn groups() -> [Group; 6] {
    let group = |cases: &[Case], always, a_turn| Group { cases: cases.to_vec(), always, a_turn };
    [
        group(dispatch::CASES, dispatch::ALWAYS, 1),
        group(agents::CASES, agents::ALWAYS, 3),
        group(failure::CASES, failure::ALWAYS, 1),
        group(redirect::CASES, redirect::ALWAYS, 2),
        group(&faults::cases(), &[], 3),
        group(&queue::cases(), queue::ALWAYS, 2),
    ]
}

/// Why a case is left out of this run, if it is. `asked`: what the run was asked for.
pub fn why_not_now(name: &str, asked: Option<&str>) -> Option<String> {
    if asked == Some(name) {
        return None;
    }
    let (long, a_turn) = groups()
        .into_iter()
        .map(|group| (group.long(), group.a_turn))
        .find(|(long, _)| long.contains(&name))?;
    let index = long.iter().position(|other| *other == name)?;
    let (_, short) = name.split_once("::")?;
    let wanted = std::env::var("MQS_LAB_FAULTS").unwrap_or_default();
    let (taken, why) = if wanted.is_empty() {
        let day = (epoch_s() / 86_400.0) as usize;
        (is_turn(index, long.len(), a_turn, day), "another day's turn")
    } else {
        (wanted == "all" || wanted.split(',').any(|word| word == short), "not among MQS_LAB_FAULTS")
    };
    (!taken).then(|| format!("{why}; MQS_LAB_FAULTS={short} runs it, MQS_LAB_FAULTS=all all of them"))
}

impl Group {
    /// Those that take turns.
    fn long(&self) -> Vec<&'static str> {
        let long =
            self.cases.iter().filter(|case| !case.needs.is_empty() && !self.always.contains(&case.name));
        long.map(|case| case.name).collect()
    }
}

/// Each case has its turn, and what is to run each day is there; for the lab's own tests.
pub fn check() -> Result<()> {
    for group in groups() {
        for name in group.always {
            ensure!(group.cases.iter().any(|case| case.name == *name), "there is no case {name}");
        }
        let long = group.long();
        let days = long.len().div_ceil(group.a_turn);
        for (index, name) in long.iter().enumerate() {
            let taken =
                (0..days).filter(|day| is_turn(index, long.len(), group.a_turn, 20_000 + day)).count();
            ensure!((1..=2).contains(&taken), "{name} is taken {taken} times in {days} days");
        }
    }
    Ok(())
}

fn is_turn(index: usize, of: usize, a_turn: usize, day: usize) -> bool {
    (index + of - day * a_turn % of) % of < a_turn
}
