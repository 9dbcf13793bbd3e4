//! When to stop waiting for a store that hangs, and when to try again: a circuit breaker, as a state machine without a clock.
//!
//! *Closed*: the store is asked. After some failures one after the other it is *open*: nobody waits for the store any more. Then
//! one probe at a time tries it (*probing*), and whatever the store answers in time closes it again.
//!
//! One slow answer is one failure, however many waited for it: a failure counts only if it *began* after the last one that was
//! counted, and the failures that open the breaker lie [`SPAN_MIN_MS`] apart at least.

/// So many failures one after the other open it.
pub const FAILURES: u32 = 3;

/// From the beginning of the first of them to the end of the last one at least, in ms.
pub const SPAN_MIN_MS: u64 = 100;

/// A failure that comes later than this after the one before it is a first one again, in ms.
pub const WINDOW_MS: u64 = 5_000;

/// The first probe comes so long after the opening, in ms; each one waits twice as long as the one before.
const PROBE_FIRST_MS: u64 = 100;

/// No probe comes later than this after the one before, in ms: with its own time it must stay below a second.
pub const PROBE_MAX_MS: u64 = 750;

/// A breaker that opens again so soon after it was closed goes on with the waits where it was, in ms.
const RELAPSE_MS: u64 = 5_000;

/// What a lookup may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The store is asked.
    Closed,
    /// Nobody waits for the store.
    Open,
    /// The same, and one probe is under way.
    Probing,
}

impl State {
    /// All of them, in the order of [`State::as_str`]'s words in the metrics.
    pub const ALL: [State; 3] = [State::Closed, State::Open, State::Probing];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::Probing => "probing",
        }
    }
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The breaker is open from now on.
    Opened {
        /// So many failures lie behind it.
        failures: u32,
        /// From the beginning of the first to the end of the last, in ms.
        span_ms: u64,
    },
    /// It is closed from now on.
    Closed {
        /// For how long it was open, in ms.
        open_ms: u64,
        /// How many probes it took.
        probes: u32,
    },
}

/// The breaker of one store, or of one part of it. All times are ms of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// Failures since the last answer, as long as it is closed.
    failures: u32,
    /// When the first of them began.
    first_began: u64,
    /// When the last one that counts ended.
    last_ended: u64,
    opened: u64,
    closed: Option<u64>,
    probe_due: u64,
    probes: u32,
    /// How often the wait was doubled.
    doubled: u32,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            state: State::Closed,
            failures: 0,
            first_began: 0,
            last_ended: 0,
            opened: 0,
            closed: None,
            probe_due: 0,
            probes: 0,
            doubled: 0,
        }
    }
}

impl Breaker {
    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The store answered in time.
    pub fn answered(&mut self, now: u64) -> Option<Change> {
        self.failures = 0;
        match self.state {
            State::Closed => None,
            State::Open | State::Probing => {
                self.state = State::Closed;
                self.closed = Some(now);
                Some(Change::Closed { open_ms: now.saturating_sub(self.opened), probes: self.probes })
            }
        }
    }

    /// The store did not answer in time what was asked at `began`. `chance` spreads the probes of many instances.
    pub fn failed(&mut self, began: u64, now: u64, chance: u64) -> Option<Change> {
        match self.state {
            State::Open | State::Probing => return None,
            State::Closed => {}
        }
        if self.failures > 0 && now.saturating_sub(self.last_ended) > WINDOW_MS {
            self.failures = 0;
        }
        // Asked before the last failure was known: it may be the same slow moment.
        if self.failures > 0 && began < self.last_ended {
            return None;
        }
        if self.failures == 0 {
            self.first_began = began;
        }
        self.failures += 1;
        self.last_ended = now;
        let span_ms = now.saturating_sub(self.first_began);
        if self.failures < FAILURES || span_ms < SPAN_MIN_MS {
            return None;
        }
        self.state = State::Open;
        self.opened = now;
        self.probes = 0;
        if self.closed.is_none_or(|closed| now.saturating_sub(closed) > RELAPSE_MS) {
            self.doubled = 0;
        }
        self.wait(now, chance);
        Some(Change::Opened { failures: self.failures, span_ms })
    }

    /// How long until the next probe, in ms; `None` while the breaker is closed or a probe is under way.
    pub fn probe_in(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Open => Some(self.probe_due.saturating_sub(now)),
            State::Closed | State::Probing => None,
        }
    }

    /// True: the caller is to try the store now, and to report by [`Breaker::answered`] or [`Breaker::probe_failed`].
    pub fn begin_probe(&mut self, now: u64) -> bool {
        let due = self.probe_in(now) == Some(0);
        if due {
            self.state = State::Probing;
            self.probes += 1;
        }
        due
    }

    /// The probe was not answered in time.
    pub fn probe_failed(&mut self, now: u64, chance: u64) {
        match self.state {
            State::Probing => {
                self.state = State::Open;
                self.wait(now, chance);
            }
            // Somebody else was answered meanwhile.
            State::Closed | State::Open => {}
        }
    }

    /// Sets the time of the next probe: between three quarters of the wait and the whole of it.
    fn wait(&mut self, now: u64, chance: u64) {
        let whole = (PROBE_FIRST_MS << self.doubled.min(8)).min(PROBE_MAX_MS);
        self.doubled = (self.doubled + 1).min(8);
        self.probe_due = now + whole - chance % (whole / 4 + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fails so often, one operation of 50 ms after the other; gives when the last one ended.
    fn fail(breaker: &mut Breaker, from: u64, times: u64) -> (u64, Option<Change>) {
        let mut change = None;
        for n in 0..times {
            change = breaker.failed(from + n * 50, from + n * 50 + 50, 0);
        }
        (from + times * 50, change)
    }

    #[test]
    fn a_hanging_store_opens_it_and_an_answer_closes_it() {
        let mut breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, 1_000, 2).1, None);
        assert_eq!(breaker.state(), State::Closed);
        let mut breaker = Breaker::default();
        let (now, change) = fail(&mut breaker, 1_000, 3);
        assert_eq!(change, Some(Change::Opened { failures: 3, span_ms: 150 }));
        assert_eq!((breaker.state(), breaker.probe_in(now)), (State::Open, Some(100)));
        assert!(!breaker.begin_probe(now + 99), "too early");
        assert!(breaker.begin_probe(now + 100));
        assert!(!breaker.begin_probe(now + 100), "one at a time");
        breaker.probe_failed(now + 150, 0);
        assert_eq!(breaker.probe_in(now + 150), Some(200));
        assert!(breaker.begin_probe(now + 350));
        assert_eq!(breaker.answered(now + 351), Some(Change::Closed { open_ms: 351, probes: 2 }));
        assert_eq!(breaker.answered(now + 352), None);
    }

    #[test]
    fn one_slow_answer_is_one_failure_however_many_waited_for_it() {
        let mut breaker = Breaker::default();
        for n in 0..1_000 {
            assert_eq!(breaker.failed(1_000 + n % 150, 1_150, n), None);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_connection_that_breaks_is_asked_again_for_a_moment_first() {
        let mut breaker = Breaker::default();
        for at in 1_000..1_100 {
            assert_eq!(breaker.failed(at, at, 0), None, "refused at once, {at}");
        }
        assert_eq!(breaker.failed(1_100, 1_100, 0), Some(Change::Opened { failures: 101, span_ms: 100 }));
    }

    #[test]
    fn failures_that_lie_far_apart_or_on_both_sides_of_an_answer_do_not_add_up() {
        let mut breaker = Breaker::default();
        for n in 0..20 {
            assert_eq!(breaker.failed(n * 6_000, n * 6_000 + 50, 0), None);
        }
        for n in 0..20 {
            fail(&mut breaker, 200_000 + n * 200, 2);
            assert_eq!(breaker.answered(200_000 + n * 200 + 101), None);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn one_that_opens_again_at_once_does_not_begin_with_short_waits() {
        let mut breaker = Breaker::default();
        let (mut now, _) = fail(&mut breaker, 0, 3);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(breaker.probe_in(now).unwrap());
            now += waits.last().unwrap();
            assert!(breaker.begin_probe(now));
            breaker.answered(now);
            now = fail(&mut breaker, now, 3).0;
        }
        assert_eq!(waits, [100, 200, 400, 750, 750]);
        breaker.answered(now);
        let (later, _) = fail(&mut breaker, now + RELAPSE_MS, 3);
        assert_eq!(breaker.probe_in(later), Some(100));
    }

    #[derive(Clone, Debug)]
    enum Event {
        /// An operation that began so long ago, in ms, has failed.
        Failed(u64),
        Answered,
        Probe(bool),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..200u64).prop_map(Event::Failed),
            1 => Just(Event::Answered),
            3 => any::<bool>().prop_map(Event::Probe),
            6 => (0..400u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: it opens only after failures enough, apart enough, with no answer among them;
        /// an answer always closes it; while it is open a probe is due within the limit, and only one is under way.
        #[test]
        fn it_keeps_its_word(events in prop::collection::vec((event(), any::<u64>()), 1..300)) {
            let (mut breaker, mut now) = (Breaker::default(), 10_000u64);
            // Begin and end of all failures since the last answer.
            let mut failures: Vec<(u64, u64)> = Vec::new();
            let mut probing = false;
            for (event, chance) in events {
                match event {
                    Event::Pass(ms) => now += ms,
                    Event::Failed(took) => {
                        let was = breaker.state();
                        let change = breaker.failed(now - took, now, chance);
                        failures.push((now - took, now));
                        if let Some(Change::Opened { span_ms, .. }) = change {
                            prop_assert_eq!(was, State::Closed);
                            prop_assert!(span_ms >= SPAN_MIN_MS);
                            // The most failures of which each began when the one before was over.
                            let (mut apart, mut free) = (0, 0);
                            for (began, ended) in &failures {
                                if *began >= free {
                                    apart += 1;
                                    free = *ended;
                                }
                            }
                            prop_assert!(apart >= FAILURES, "{:?}", failures);
                        } else {
                            prop_assert_eq!(was, breaker.state());
                        }
                    }
                    Event::Answered => {
                        breaker.answered(now);
                        failures.clear();
                        probing = false;
                        prop_assert_eq!(breaker.state(), State::Closed);
                    }
                    Event::Probe(well) => {
                        if probing {
                            prop_assert!(!breaker.begin_probe(now), "one at a time");
                            if well {
                                breaker.answered(now);
                                failures.clear();
                            } else {
                                breaker.probe_failed(now, chance);
                            }
                            probing = false;
                        } else {
                            probing = breaker.begin_probe(now);
                        }
                    }
                }
                match breaker.state() {
                    State::Closed => prop_assert_eq!(breaker.probe_in(now), None),
                    State::Open => prop_assert!(breaker.probe_in(now).is_some_and(|ms| ms <= PROBE_MAX_MS)),
                    State::Probing => prop_assert!(probing),
                }
            }
        }
    }
}
