//! The life of a lease: held → confirmed → ended; what each verb does to it, and that twice is the same as once.
//!
//! The Redis store says the same in Lua (`store/redis/settle.lua`); one contract suite runs over both.

use super::admission::Scope;
use super::id::Slot;
use super::time::EpochMs;

/// How long an ended lease is remembered, so that a late repeat finds it ended: longer than SIP's Timer B (32 s).
pub const TOMB_MS: u64 = 35_000;

/// Stands for the attempt of a lookup that overflowed: no list of targets is so long.
const OVERFLOWED: u8 = 255;

/// What a store knows of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Where it is in its life.
    pub state: LeaseState,
    /// Index in `targets` of the one that it is counted on.
    pub attempt: u8,
    /// The targets of the answer, in order. `None` stands for one that is not known (an adopted lease knows only its own).
    pub targets: Vec<Option<Slot>>,
    /// When it ends by itself; for an ended one: when it is forgotten.
    pub expires: EpochMs,
    /// The limits that it is counted for as long as it is live.
    pub scopes: Vec<Scope>,
}

/// Where a lease is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Given out, not yet seen on its node.
    Held,
    /// Seen on its node.
    Confirmed,
    /// Over.
    Ended,
}

impl Lease {
    /// The slot that a live lease is counted on at `now`.
    pub fn counted_on(&self, now: EpochMs) -> Option<Slot> {
        match self.state {
            LeaseState::Held | LeaseState::Confirmed if self.expires > now => self.target(self.attempt),
            LeaseState::Held | LeaseState::Confirmed | LeaseState::Ended => None,
        }
    }

    /// Whether it is held or confirmed at `now`.
    pub fn is_live(&self, now: EpochMs) -> bool {
        self.state != LeaseState::Ended && self.expires > now
    }

    /// Whether a repeat of the lookup gets this lease's answer.
    pub fn answers_repeat(&self, now: EpochMs) -> bool {
        self.expires > now && !self.targets.is_empty()
    }

    fn target(&self, index: u8) -> Option<Slot> {
        self.targets.get(usize::from(index)).copied().flatten()
    }

    fn set_target(&mut self, index: u8, slot: Slot) {
        let index = usize::from(index);
        if self.targets.len() <= index {
            self.targets.resize(index + 1, None);
        }
        if let Some(target) = self.targets.get_mut(index) {
            *target = Some(slot);
        }
    }

    /// What is remembered of a lookup that another pool answers.
    pub fn overflowed(now: EpochMs) -> Lease {
        Lease::ended(Vec::new(), OVERFLOWED, now)
    }

    /// Whether a repeat of the lookup is for another pool, as the lookup was.
    pub fn is_overflowed(&self, now: EpochMs) -> bool {
        self.state == LeaseState::Ended && self.attempt == OVERFLOWED && self.expires > now
    }

    fn ended(targets: Vec<Option<Slot>>, attempt: u8, now: EpochMs) -> Lease {
        Lease { state: LeaseState::Ended, attempt, targets, expires: now + TOMB_MS, scopes: Vec::new() }
    }
}

/// One change to one lease, as the proxy asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The first reply came from target `branch`.
    Confirm {
        /// Index of the target.
        branch: u8,
        /// The slot that the token names for this branch; `None` when the token was made for another branch.
        slot: Option<Slot>,
        /// No later than this, however often it is adopted.
        latest: EpochMs,
    },
    /// Target `branch` failed before any 18x.
    Fail {
        /// Index of the target.
        branch: u8,
    },
    /// The dialog is over, or never was.
    Done,
    /// These targets were answered without the store, and the first one was given the call.
    Adopt {
        /// In order; without any, nothing happens.
        targets: Vec<Slot>,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The lease is confirmed now.
    Confirmed,
    /// It was so before; nothing changed.
    Already,
    /// It was no longer known, and is counted again.
    Adopted,
    /// It is counted on the next target now.
    Moved {
        /// Index of that target.
        attempt: u8,
        /// Its slot.
        slot: Slot,
    },
    /// The lease is over now.
    Ended,
    /// The lease is past this branch; nothing changed.
    Stale,
    /// The lease was over before; nothing changed.
    Gone,
}

/// How long leases live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A held lease, from `ROUTE` or from `FAIL`, in ms.
    pub held_ms: u64,
    /// A confirmed lease, from its confirmation, in ms.
    pub call_max_ms: u64,
}

/// Applies one verb to what is known of its lease. `None` in, or an expired lease: nothing is known.
pub fn settle(
    known: Option<Lease>,
    verb: &Settle,
    life: Lifetimes,
    now: EpochMs,
) -> (Option<Lease>, Settled) {
    let known = known.filter(|lease| lease.expires > now);
    match verb {
        Settle::Confirm { branch, slot, latest } => confirm(known, *branch, *slot, *latest, life, now),
        Settle::Fail { branch } => fail(known, *branch, life, now),
        Settle::Done => done(known, now),
        Settle::Adopt { targets } => adopt(known, targets, life, now),
    }
}

fn confirm(
    known: Option<Lease>,
    branch: u8,
    slot: Option<Slot>,
    latest: EpochMs,
    life: Lifetimes,
    now: EpochMs,
) -> (Option<Lease>, Settled) {
    let expires = (now + life.call_max_ms).min(latest.max(now));
    let Some(mut lease) = known else {
        return match slot {
            Some(slot) if latest > now => {
                let (state, targets, scopes) = (LeaseState::Confirmed, Vec::new(), Vec::new());
                let mut lease = Lease { state, attempt: branch, targets, expires, scopes };
                lease.set_target(branch, slot);
                (Some(lease), Settled::Adopted)
            }
            Some(_) | None => (None, Settled::Gone),
        };
    };
    if lease.state == LeaseState::Ended {
        return (Some(lease), Settled::Gone);
    }
    if branch < lease.attempt {
        return (Some(lease), Settled::Stale);
    }
    // The token is what the proxy really used: it wins over what the store remembers.
    let Some(slot) = slot.or_else(|| lease.target(branch)) else {
        return (Some(lease), Settled::Stale);
    };
    let same = lease.attempt == branch && lease.target(branch) == Some(slot);
    if same && lease.state == LeaseState::Confirmed {
        return (Some(lease), Settled::Already);
    }
    lease.set_target(branch, slot);
    lease.attempt = branch;
    lease.state = LeaseState::Confirmed;
    lease.expires = expires;
    (Some(lease), Settled::Confirmed)
}

fn fail(known: Option<Lease>, branch: u8, life: Lifetimes, now: EpochMs) -> (Option<Lease>, Settled) {
    let Some(mut lease) = known else { return (None, Settled::Gone) };
    if lease.state == LeaseState::Ended {
        return (Some(lease), Settled::Gone);
    }
    if branch < lease.attempt {
        return (Some(lease), Settled::Stale);
    }
    let attempt = branch.saturating_add(1);
    match lease.target(attempt) {
        Some(slot) => {
            lease.state = LeaseState::Held;
            lease.attempt = attempt;
            lease.expires = now + life.held_ms;
            (Some(lease), Settled::Moved { attempt, slot })
        }
        None => (Some(Lease::ended(lease.targets, lease.attempt, now)), Settled::Ended),
    }
}

fn done(known: Option<Lease>, now: EpochMs) -> (Option<Lease>, Settled) {
    match known {
        Some(lease) if lease.state == LeaseState::Ended => (Some(lease), Settled::Already),
        Some(lease) => (Some(Lease::ended(lease.targets, lease.attempt, now)), Settled::Ended),
        // Remembered all the same: a CONFIRM that comes after it must not bring the lease to life.
        None => (Some(Lease::ended(Vec::new(), 0, now)), Settled::Already),
    }
}

fn adopt(known: Option<Lease>, targets: &[Slot], life: Lifetimes, now: EpochMs) -> (Option<Lease>, Settled) {
    if targets.is_empty() {
        return (known, Settled::Gone);
    }
    match known {
        Some(lease) if lease.state == LeaseState::Ended => (Some(lease), Settled::Gone),
        // The proxy has spoken since: it knows better.
        Some(lease) if lease.state == LeaseState::Confirmed || lease.attempt > 0 => {
            (Some(lease), Settled::Already)
        }
        // Held: the store had chosen, too late for the proxy, which was given these targets.
        held @ (Some(_) | None) => {
            let targets = targets.iter().copied().map(Some).collect();
            let scopes = held.map(|lease| lease.scopes).unwrap_or_default();
            let expires = now + life.held_ms;
            (Some(Lease { state: LeaseState::Held, attempt: 0, targets, expires, scopes }), Settled::Adopted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Lifetimes = Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 };
    const T: EpochMs = EpochMs(1_000_000);
    const LATEST: EpochMs = EpochMs(1_000_000 + 14_400_000);

    fn held() -> Option<Lease> {
        let targets = vec![Some(Slot(4)), Some(Slot(2)), Some(Slot(9))];
        let scopes = vec![Scope::Pool];
        Some(Lease { state: LeaseState::Held, attempt: 0, targets, expires: T + LIFE.held_ms, scopes })
    }

    fn confirm(branch: u8, slot: Option<u16>) -> Settle {
        Settle::Confirm { branch, slot: slot.map(Slot), latest: LATEST }
    }

    /// Runs the verbs one after the other, one ms apart, and returns what each said and where the lease is counted at the end.
    fn run(mut lease: Option<Lease>, verbs: &[Settle]) -> (Vec<Settled>, Option<Slot>) {
        let mut said = Vec::new();
        for (at, verb) in (1u64..).zip(verbs) {
            let (next, what) = settle(lease, verb, LIFE, T + at);
            lease = next;
            said.push(what);
        }
        (said, lease.and_then(|l| l.counted_on(T + 100)))
    }

    #[test]
    fn a_call_that_goes_well() {
        let (said, slot) = run(held(), &[confirm(0, Some(4)), confirm(0, Some(4))]);
        assert_eq!((said, slot), (vec![Settled::Confirmed, Settled::Already], Some(Slot(4))));
        let (said, slot) =
            run(held(), &[confirm(0, Some(4)), Settle::Done, Settle::Done, confirm(0, Some(4))]);
        assert_eq!(said, [Settled::Confirmed, Settled::Ended, Settled::Already, Settled::Gone]);
        assert_eq!(slot, None);
    }

    #[test]
    fn a_failed_branch_moves_the_lease_once() {
        let (said, slot) = run(held(), &[Settle::Fail { branch: 0 }, Settle::Fail { branch: 0 }]);
        assert_eq!(said, [Settled::Moved { attempt: 1, slot: Slot(2) }, Settled::Stale]);
        assert_eq!(slot, Some(Slot(2)));
        let fails = [0, 1, 2, 2].map(|branch| Settle::Fail { branch });
        let (said, slot) = run(held(), &fails);
        assert_eq!(said.get(2..), Some(&[Settled::Ended, Settled::Gone][..]));
        assert_eq!(slot, None);
    }

    #[test]
    fn a_lost_fail_is_made_good_by_the_next_word() {
        assert_eq!(run(held(), &[Settle::Fail { branch: 1 }]).1, Some(Slot(9)));
        let (said, slot) = run(held(), &[confirm(1, None), confirm(0, Some(4))]);
        assert_eq!((said, slot), (vec![Settled::Confirmed, Settled::Stale], Some(Slot(2))));
    }

    #[test]
    fn the_token_wins_over_the_memory_of_the_store() {
        assert_eq!(run(held(), &[confirm(0, Some(7))]), (vec![Settled::Confirmed], Some(Slot(7))));
    }

    #[test]
    fn an_unknown_lease_is_adopted_from_its_token_and_never_after_done() {
        let (said, slot) = run(None, &[confirm(1, Some(3)), Settle::Fail { branch: 1 }, confirm(1, Some(3))]);
        assert_eq!((said, slot), (vec![Settled::Adopted, Settled::Ended, Settled::Gone], None));
        assert_eq!(run(None, &[Settle::Done, confirm(0, Some(3))]).0, [Settled::Already, Settled::Gone]);
        assert_eq!(
            run(None, &[confirm(1, None), Settle::Fail { branch: 0 }]).0,
            [Settled::Gone, Settled::Gone]
        );
        let late = Settle::Confirm { branch: 0, slot: Some(Slot(3)), latest: T };
        assert_eq!(run(None, &[late]).0, [Settled::Gone]);
    }

    #[test]
    fn an_answer_given_without_the_store_is_adopted_unless_the_proxy_has_spoken_since() {
        let adopt = || Settle::Adopt { targets: vec![Slot(8), Slot(2)] };
        let (said, slot) = run(None, &[adopt(), Settle::Fail { branch: 0 }]);
        assert_eq!(said, [Settled::Adopted, Settled::Moved { attempt: 1, slot: Slot(2) }]);
        assert_eq!(slot, Some(Slot(2)));
        assert_eq!(run(held(), &[adopt()]).1, Some(Slot(8)), "the store had chosen another one, too late");
        assert_eq!(
            run(held(), &[confirm(0, Some(4)), adopt()]),
            (vec![Settled::Confirmed, Settled::Already], Some(Slot(4)))
        );
        assert_eq!(run(held(), &[Settle::Fail { branch: 0 }, adopt()]).1, Some(Slot(2)));
        assert_eq!(run(None, &[Settle::Done, adopt()]), (vec![Settled::Already, Settled::Gone], None));
        assert_eq!(run(None, &[Settle::Adopt { targets: vec![] }]), (vec![Settled::Gone], None));
    }

    #[test]
    fn a_lease_is_counted_for_its_limits_until_it_ends() {
        let after = |verbs: &[Settle]| {
            let apply = |lease: Option<Lease>, verb: &Settle| settle(lease, verb, LIFE, T + 1).0;
            verbs.iter().fold(held(), apply).map(|lease| lease.scopes)
        };
        assert_eq!(after(&[confirm(0, Some(4))]), Some(vec![Scope::Pool]));
        assert_eq!(after(&[Settle::Fail { branch: 0 }]), Some(vec![Scope::Pool]));
        assert_eq!(after(&[Settle::Adopt { targets: vec![Slot(8)] }]), Some(vec![Scope::Pool]));
        assert_eq!(after(&[Settle::Done]), Some(vec![]));
        assert_eq!(after(&[Settle::Fail { branch: 2 }]), Some(vec![]));
    }

    #[test]
    fn an_expired_lease_counts_nowhere() {
        let lease = held().unwrap();
        assert_eq!(lease.counted_on(lease.expires), None);
        assert_eq!(settle(held(), &Settle::Done, LIFE, T + 30_000).1, Settled::Already);
        assert_eq!(settle(held(), &confirm(0, Some(4)), LIFE, T + 30_000).1, Settled::Adopted);
    }
}
