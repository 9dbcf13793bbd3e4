//! What happens to the queue during the demo: agents come and go, a rush, a node dies, the leader is killed.

/// How long one round is, in s.
pub const ROUND_S: f64 = 15.0;

/// Before the end of the demo, in s, nobody calls any more.
pub const QUIET_S: f64 = 1.5;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This agent comes to work.
    Login(&'static str),
    /// Leaves.
    Logout(&'static str),
    /// Wants no calls for a while.
    Pause(&'static str),
    /// Wants them again.
    Resume(&'static str),
    /// So many call at once.
    Rush(u32),
    /// A node is gone, with whoever is on it.
    Die,
    /// It is there again, empty.
    Restart,
    /// The leader is killed.
    Kill,
    /// Whoever was killed stands by.
    StandBy,
}

/// All agents, in the order in which they come.
pub const AGENTS: [&str; 8] = ["ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal"];

const ROUND: [(f64, Act); 17] = [
    (0.0, Act::Login("ann")),
    (0.0, Act::Login("bob")),
    (0.0, Act::Login("cid")),
    (0.0, Act::Login("dan")),
    (0.0, Act::Login("eve")),
    (0.0, Act::Login("fay")),
    (1.0, Act::Rush(14)),
    (1.6, Act::Login("gus")),
    (1.6, Act::Login("hal")),
    (2.2, Act::Pause("bob")),
    (2.8, Act::Logout("cid")),
    (3.2, Act::Die),
    (6.0, Act::Kill),
    (11.2, Act::Resume("bob")),
    (11.2, Act::Login("cid")),
    (11.6, Act::Restart),
    (12.2, Act::StandBy),
];

/// All events in order, round after round.
pub struct Script {
    rounds: usize,
    next: usize,
}

impl Script {
    /// For a demo of about this length, and how long it really is, in s: whole rounds.
    pub fn new(seconds: u64) -> (Script, f64) {
        // Up to a day: exact.
        let rounds = (seconds as f64 / ROUND_S).floor().max(1.0);
        (Script { rounds: rounds as usize, next: 0 }, rounds * ROUND_S)
    }

    /// The next event that is due `elapsed_s` after the start.
    pub fn due(&mut self, elapsed_s: f64) -> Option<Act> {
        let round = self.next / ROUND.len();
        let (at_s, act) = ROUND.get(self.next % ROUND.len())?;
        if round >= self.rounds || round as f64 * ROUND_S + at_s > elapsed_s {
            return None;
        }
        self.next += 1;
        Some(*act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_leaves_everything_as_the_next_one_needs_it() {
        for (seconds, rounds) in [(3, 1), (15, 1), (44, 2)] {
            let (mut script, length_s) = Script::new(seconds);
            assert_eq!(length_s, f64::from(rounds) * ROUND_S);
            let mut acts = Vec::new();
            for tenth in 0..1_000 {
                acts.extend(std::iter::from_fn(|| script.due(f64::from(tenth) / 10.0)));
            }
            assert_eq!(acts.len(), usize::try_from(rounds).unwrap() * ROUND.len());
            let last = |a: Act, b: Act| acts.iter().rfind(|act| **act == a || **act == b).copied();
            assert_eq!(last(Act::Die, Act::Restart), Some(Act::Restart));
            assert_eq!(last(Act::Kill, Act::StandBy), Some(Act::StandBy));
            assert_eq!(last(Act::Pause("bob"), Act::Resume("bob")), Some(Act::Resume("bob")));
            assert_eq!(last(Act::Logout("cid"), Act::Login("cid")), Some(Act::Login("cid")));
        }
        assert!(ROUND.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
