use super::*;
use proptest::prelude::*;

const RULES: HealthRules = HealthRules {
    probe_every_ms: 5_000,
    accept: super::accept::Accept::USUAL,
    probe_timeout_ms: 1_000,
    down_after: 3,
    up_after: 2,
    eject_after: 3,
    eject_ms: 10_000,
    eject_max_ms: 60_000,
    slow_start_ms: 30_000,
    out_max_pm: 500,
};
const NO_PROBES: HealthRules = HealthRules { probe_every_ms: 0, ..RULES };

/// A node, and one instance that watches it.
struct World {
    rules: HealthRules,
    health: Health,
    watch: Watch,
    now: EpochMs,
}

impl World {
    fn new(rules: HealthRules) -> World {
        World { rules, health: Health::default(), watch: Watch::default(), now: EpochMs(1_000_000) }
    }

    fn sees(&mut self, evidence: &Evidence) -> Condition {
        if let Some(next) = self.watch.notice(evidence, &self.health, &self.rules, self.now) {
            self.health = next;
        }
        self.health.condition
    }

    fn after(&mut self, ms: u64) -> Condition {
        self.now = self.now + ms;
        if let Some(next) = self.watch.pass(&self.health, &self.rules, self.now) {
            self.health = next;
        }
        self.health.condition
    }

    fn silent(&mut self, times: u32) -> Condition {
        (0..times).map(|_| self.sees(&Evidence::Silent("no answer"))).last().unwrap()
    }

    fn lasts(&self) -> u64 {
        self.health.until.unwrap().since(self.health.since)
    }
}

#[test]
fn silence_in_a_row_ejects_and_any_answer_begins_the_row_anew() {
    let mut w = World::new(NO_PROBES);
    assert_eq!(w.silent(2), Condition::Up);
    assert_eq!(w.sees(&Evidence::Answered), Condition::Up);
    assert_eq!(w.silent(2), Condition::Up);
    assert_eq!(w.silent(1), Condition::Ejected);
    assert_eq!((w.health.why.as_str(), w.lasts()), ("3 calls in a row: no answer", 10_000));
    assert!(!w.health.is_fit());
}

#[test]
fn an_ejection_lasts_twice_as_long_when_it_follows_another_and_begins_anew_after_a_long_time() {
    let mut w = World::new(NO_PROBES);
    for lasts in [10_000, 20_000, 40_000, 60_000, 60_000] {
        assert_eq!(w.silent(3), Condition::Ejected);
        assert_eq!(w.lasts(), lasts);
        assert_eq!(w.after(lasts - 1), Condition::Ejected);
        assert_eq!(w.after(1), Condition::Warming);
    }
    assert_eq!(w.after(30_000), Condition::Up);
    w.after(60_000);
    assert_eq!(w.silent(3), Condition::Ejected);
    assert_eq!(w.lasts(), 10_000);
}

#[test]
fn where_there_are_probes_one_must_be_answered_before_an_ejected_node_is_back() {
    let mut w = World::new(RULES);
    w.sees(&Evidence::ProbeGood);
    assert_eq!(w.silent(3), Condition::Ejected);
    assert_eq!(w.after(10_000), Condition::Ejected, "the answer before the ejection does not count");
    w.sees(&Evidence::ProbeGood);
    assert_eq!(w.after(0), Condition::Warming);
}

#[test]
fn probes_take_a_node_out_and_bring_it_back() {
    let mut w = World::new(RULES);
    let bad = Evidence::ProbeBad("no answer within 1000 ms".to_owned());
    assert_eq!([0, 1, 2].map(|_| w.sees(&bad)), [Condition::Up, Condition::Up, Condition::Failing]);
    assert_eq!(w.health.why, "3 probes in a row: no answer within 1000 ms");
    assert_eq!(w.sees(&Evidence::ProbeGood), Condition::Failing);
    assert_eq!(w.sees(&bad), Condition::Failing);
    assert_eq!(w.sees(&Evidence::ProbeGood), Condition::Failing, "in a row");
    assert_eq!(w.sees(&Evidence::ProbeGood), Condition::Warming);
}

#[test]
fn probes_that_speak_against_what_is_known_leave_it_in_doubt() {
    let mut w = World::new(RULES);
    let bad = Evidence::ProbeBad("no answer within 1000 ms".to_owned());
    let mut doubts = |evidence: &Evidence| {
        w.sees(evidence);
        w.watch.is_in_doubt(&w.health)
    };
    assert!(!doubts(&Evidence::ProbeGood));
    assert!(doubts(&bad) && doubts(&bad), "it is up, and does not answer");
    assert!(!doubts(&Evidence::ProbeGood), "it was a packet that was lost");
    assert!(doubts(&bad) && doubts(&bad));
    assert!(!doubts(&bad) && !doubts(&bad), "it is failing, and does not answer");
    assert!(doubts(&Evidence::ProbeGood), "it is failing, and answers");
    assert!(!doubts(&bad));
    assert!(doubts(&Evidence::ProbeGood));
    assert!(!doubts(&Evidence::ProbeGood), "it is warming, and answers");
    // What calls meet is no probe.
    assert!(!doubts(&Evidence::Silent("no answer")));
    // Another instance changed the health: what was noticed before does not count.
    assert!(doubts(&bad));
    w.health.since = w.health.since + 1;
    assert!(!w.watch.is_in_doubt(&w.health));
}

#[test]
fn a_node_that_comes_back_warms_up() {
    let mut w = World::new(RULES);
    w.health.condition = Condition::Overloaded;
    w.health.until = Some(w.now);
    let mut shares = vec![];
    for _ in 0..11 {
        w.after(if shares.is_empty() { 0 } else { 3_000 });
        shares.push(w.health.of_capacity(900));
    }
    assert_eq!(shares, [90, 180, 270, 360, 450, 540, 630, 720, 810, 900, 900]);
    assert_eq!(w.health.condition, Condition::Up);
    assert_eq!(Health { condition: Condition::Warming, ramp_pm: 100, ..Health::default() }.of_capacity(1), 1);
}

#[test]
fn a_node_that_asks_for_a_pause_has_it() {
    let mut w = World::new(RULES);
    assert_eq!(
        w.sees(&Evidence::Overloaded(0)),
        Condition::Up,
        "a 503 without Retry-After moves the call only"
    );
    assert_eq!(w.sees(&Evidence::Overloaded(7_000)), Condition::Overloaded);
    assert_eq!((w.lasts(), w.health.why.as_str()), (7_000, "503 with Retry-After: 7"));
    assert_eq!(w.sees(&Evidence::Overloaded(9_000)), Condition::Overloaded);
    assert_eq!(w.lasts(), 9_000, "the longer pause counts");
    w.sees(&Evidence::Overloaded(1));
    assert_eq!(w.lasts(), 9_000);
    assert_eq!(w.after(8_999), Condition::Overloaded);
    assert_eq!(w.after(1), Condition::Warming);
    w.sees(&Evidence::Overloaded(u64::MAX));
    assert_eq!(w.lasts(), 60_000, "no pause is longer than the longest ejection");
}

#[test]
fn a_verdict_on_more_than_half_of_a_pool_is_overruled() {
    let out = || Health { condition: Condition::Failing, ..Health::default() };
    let decide = |pool: Vec<Health>| too_many_out(pool.iter(), &RULES);
    assert!(!decide(vec![out(), Health::default()]), "half may go");
    assert!(decide(vec![out(), out(), Health::default()]));
    assert!(decide(vec![out()]));
    assert!(!decide(vec![]));
    assert!(!out().is_fit() && Health { overruled: true, ..out() }.is_fit());
}

#[test]
fn what_a_peer_wrote_is_kept_short_and_without_control_characters() {
    let mut w = World::new(RULES);
    let bad = Evidence::ProbeBad(format!("a\r\nb{}", "x".repeat(500)));
    (0..3).for_each(|_| _ = w.sees(&bad));
    assert!(w.health.why.starts_with("3 probes in a row: abxx") && w.health.why.len() == WHY_MAX);
}

fn evidence() -> impl Strategy<Value = Option<Evidence>> {
    prop_oneof![
        Just(Some(Evidence::Answered)),
        Just(Some(Evidence::Silent("no answer"))),
        (0u64..100_000).prop_map(|ms| Some(Evidence::Overloaded(ms))),
        Just(Some(Evidence::ProbeGood)),
        Just(Some(Evidence::ProbeBad(String::new()))),
        Just(None),
    ]
}

proptest! {
    /// Whatever was seen: a node that answers calls and probes from now on is up within the longest ejection and the slow start.
    #[test]
    fn a_node_that_is_well_comes_back(seen in prop::collection::vec((evidence(), 0u64..20_000), 0..200), probed: bool) {
        let mut w = World::new(if probed { RULES } else { NO_PROBES });
        for (evidence, ms) in seen {
            if let Some(evidence) = evidence {
                w.sees(&evidence);
            }
            w.after(ms);
            let health = &w.health;
            prop_assert!((1..=1000).contains(&health.ramp_pm));
            prop_assert!(health.until.is_none_or(|until| until.since(health.since) <= RULES.eject_max_ms));
            prop_assert!((1..=900).contains(&health.of_capacity(900)));
        }
        for _ in 0..=(RULES.eject_max_ms + RULES.slow_start_ms) / 5_000 + 2 {
            w.sees(&Evidence::Answered);
            if probed {
                w.sees(&Evidence::ProbeGood);
            }
            w.after(5_000);
        }
        prop_assert_eq!(w.health.condition, Condition::Up);
    }
}
