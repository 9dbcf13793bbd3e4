use super::*;

const NOW: EpochMs = EpochMs(1_000_000);

fn skills(words: &str) -> Skills {
    words.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn rules(strategy: Strategy) -> MatchRules {
    MatchRules { strategy, ..MatchRules::default() }
}

/// A call of queue `q` that waits for so many ms.
fn call(id: &str, waited: u64) -> WaitingCall {
    WaitingCall {
        id: id.parse().unwrap(),
        queue: "q".parse().unwrap(),
        priority: Priority::default(),
        enqueued: EpochMs(NOW.0 - waited),
        wishes: Skills::default(),
        avoid: BTreeMap::new(),
    }
}

/// A member of queue `q` who is ready for so many ms.
fn agent(id: &str, idle: u64) -> ReadyAgent {
    ReadyAgent {
        id: id.parse().unwrap(),
        since: EpochMs(NOW.0 - idle),
        skills: Skills::default(),
        memberships: BTreeMap::from([("q".parse().unwrap(), Membership::default())]),
        taken: BTreeMap::new(),
        round: 0,
    }
}

fn member(id: &str, idle: u64, queue: &str, penalty: u16, weight: u16) -> ReadyAgent {
    let memberships = BTreeMap::from([(queue.parse().unwrap(), Membership { penalty, weight })]);
    ReadyAgent { memberships, ..agent(id, idle) }
}

fn matcher(rules: MatchRules, calls: Vec<WaitingCall>, agents: Vec<ReadyAgent>) -> Matcher {
    let mut matcher = Matcher::new(7);
    matcher.set_queue(&"q".parse().unwrap(), rules, NOW);
    for call in calls {
        matcher.wait(call, NOW).unwrap();
    }
    agents.into_iter().for_each(|agent| matcher.ready(agent));
    matcher
}

/// `call: agent agent`, or `-`.
fn said(matcher: &mut Matcher, after_ms: u64) -> String {
    matcher.next(NOW + after_ms).map_or("-".to_owned(), |found| {
        let agents: Vec<&str> = found.agents.iter().map(AgentId::as_str).collect();
        format!("{}: {}", found.call, agents.join(" "))
    })
}

/// Follows all matches there are, one a word.
fn drained(matcher: &mut Matcher) -> String {
    let mut words = Vec::new();
    while let Some(found) = matcher.next(NOW) {
        words.push(format!("{}:{}", found.call, found.agents[0]));
        matcher.leave(&found.call).unwrap();
        for agent in &found.agents {
            matcher.offered(&found.queue, agent);
            matcher.unready(agent).unwrap();
        }
    }
    words.join(" ")
}

#[test]
fn words_for_strategies_round_trip() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    assert_eq!("ring-all".parse(), Ok(Strategy::RingAll));
    let refused = "rrmemory".parse::<Strategy>().unwrap_err().to_string();
    assert_eq!(
        refused,
        "strategy \"rrmemory\" is none of longest-idle, fewest-calls, round-robin, random, ring-all"
    );
}

#[test]
fn priorities_end_at_1000() {
    assert_eq!("1000".parse(), Ok(Priority::MAX));
    assert_eq!(Priority::try_from(7).unwrap().get(), 7);
    for bad in ["1001", "-1", "+1", "", " 1", "1.0", "65537", "99999999999999999999"] {
        let refused = bad.parse::<Priority>().unwrap_err().to_string();
        assert_eq!(refused, format!("priority {bad:?} is not a whole number from 0 to 1000"));
    }
    assert!(Priority::try_from(65_536).unwrap_err().to_string().contains("\"65536\""));
}

#[test]
fn calls_go_by_priority_then_time_then_id() {
    let urgent = WaitingCall { priority: Priority::MAX, ..call("late", 0) };
    let calls = vec![call("c", 10), call("b", 20), call("a", 10), urgent];
    let agents = ["1", "2", "3", "4"].map(|id| agent(id, id.parse().unwrap()));
    let mut m = matcher(rules(Strategy::LongestIdle), calls, agents.into());
    let position = |m: &Matcher, id: &str| m.position(&id.parse().unwrap());
    assert_eq!(
        ["late", "b", "a", "c", "x"].map(|id| position(&m, id)),
        [Some(0), Some(1), Some(2), Some(3), None]
    );
    assert_eq!(drained(&mut m), "late:4 b:3 a:2 c:1");
    assert!(m.is_empty() && m.ready_count() == 0);
}

#[test]
fn longest_idle_takes_who_waits_longest_and_then_the_first_by_id() {
    let agents = vec![agent("a", 1), agent("c", 5), agent("b", 5)];
    assert_eq!(said(&mut matcher(rules(Strategy::LongestIdle), vec![call("x", 0)], agents), 0), "x: b");
}

#[test]
fn fewest_calls_counts_those_of_the_queue() {
    let took = |id: &str, idle, queue: &str, calls| ReadyAgent {
        taken: BTreeMap::from([(queue.parse().unwrap(), calls)]),
        ..agent(id, idle)
    };
    let agents = vec![took("a", 9, "q", 2), took("b", 1, "q", 1), took("c", 2, "q", 1), took("d", 8, "q", 3)];
    let mut m = matcher(rules(Strategy::FewestCalls), vec![call("x", 0)], agents);
    assert_eq!(said(&mut m, 0), "x: c");
    m.ready(took("e", 0, "other", 99));
    assert_eq!(said(&mut m, 0), "x: e");
}

#[test]
fn round_robin_takes_whose_last_offer_is_furthest_back() {
    let agents = || vec![agent("a", 9), agent("b", 8), agent("c", 7)];
    let calls = ["1", "2", "3", "4"].map(|id| call(id, 10 - id.parse::<u64>().unwrap()));
    let mut m = matcher(rules(Strategy::RoundRobin), calls.into(), agents());
    assert_eq!(drained(&mut m), "1:a 2:b 3:c");
    // Idle times turned around: it is the offers that count.
    m.ready(agent("c", 20));
    m.ready(agent("b", 19));
    assert_eq!(said(&mut m, 0), "4: b");
    let (queue, b) = ("q".parse().unwrap(), "b".parse().unwrap());
    m.offered(&queue, &b);
    assert_eq!(said(&mut m, 0), "4: c");
    m.forget(&b);
    m.ready(agent("b", 1));
    assert_eq!(said(&mut m, 0), "4: b");
}

#[test]
fn random_is_even_and_depends_on_seed_and_round_alone() {
    let chosen = |seed: u64, round: u64| {
        let mut m = Matcher::new(seed);
        m.set_queue(&"q".parse().unwrap(), rules(Strategy::Random), NOW);
        m.wait(call("x", 0), NOW).unwrap();
        for n in 0..4 {
            m.ready(ReadyAgent { round, ..agent(&format!("a{n}"), n) });
        }
        said(&mut m, 0)
    };
    assert_eq!(chosen(1, 1), chosen(1, 1));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..30 {
        for round in 0..30 {
            *counts.entry(chosen(seed, round)).or_default() += 1;
        }
    }
    // 900 draws of 4: a deviation of 60 is more than four times the standard deviation.
    assert!(counts.len() == 4 && counts.values().all(|n| (165..=285).contains(n)), "{counts:?}");
}

#[test]
fn ring_all_rings_the_lowest_penalty_up_to_the_most() {
    let agents = || {
        let high = (0..3).map(|n| member(&format!("high{n}"), 90, "q", 5, 0));
        high.chain((0..4).map(|n| member(&format!("low{n}"), n, "q", 1, 0))).collect::<Vec<_>>()
    };
    let ring = |most| MatchRules { ring_all_max: most, ..rules(Strategy::RingAll) };
    assert_eq!(said(&mut matcher(ring(3), vec![call("x", 0)], agents()), 0), "x: low3 low2 low1");
    assert_eq!(said(&mut matcher(ring(9), vec![call("x", 0)], agents()), 0), "x: low3 low2 low1 low0");
    assert_eq!(said(&mut matcher(ring(0), vec![call("x", 0)], agents()), 0), "x: low3");
}

#[test]
fn penalties_come_before_the_strategy_and_are_let_in_by_time() {
    let agents = || vec![member("far", 99, "q", 2, 0), member("near", 1, "q", 1, 0)];
    let widen = |after_ms, penalty_max| Widening { after_ms, penalty_max };
    let steps = |penalty_max: Vec<Widening>| MatchRules { penalty_max, ..MatchRules::default() };
    let mut m = matcher(steps(vec![]), vec![call("x", 0)], agents());
    assert_eq!(said(&mut m, 0), "x: near");

    let mut m = matcher(steps(vec![widen(10, 1), widen(20, 2)]), vec![call("x", 0)], agents());
    assert_eq!((said(&mut m, 0), m.next_change()), ("-".into(), Some(NOW + 10)));
    assert_eq!((said(&mut m, 9), m.next_change()), ("-".into(), Some(NOW + 10)));
    assert_eq!((said(&mut m, 10), m.next_change()), ("x: near".into(), Some(NOW + 20)));
    m.unready(&"near".parse().unwrap());
    assert_eq!(said(&mut m, 19), "-");
    assert_eq!((said(&mut m, 20), m.next_change()), ("x: far".into(), None));

    // Time does not run backwards, and rules that change meet who waits already.
    assert_eq!(said(&mut m, 0), "x: far");
    m.set_queue(&"q".parse().unwrap(), steps(vec![widen(0, 1), widen(30, 9)]), NOW);
    assert_eq!((said(&mut m, 20), m.next_change()), ("-".into(), Some(NOW + 30)));
}

#[test]
fn wishes_are_asked_for_until_they_are_dropped() {
    let able = |id: &str, words: &str| ReadyAgent { skills: skills(words), ..agent(id, 1) };
    let asking = WaitingCall { wishes: skills("german billing"), ..call("x", 0) };
    let relax = [(10, "billing"), (20, "german")]
        .map(|(after_ms, drop)| Relaxing { after_ms, drop: skills(drop) })
        .to_vec();
    let rules = MatchRules { relax, ..MatchRules::default() };
    let agents = vec![able("none", ""), able("half", "german french")];
    let mut m = matcher(rules.clone(), vec![asking.clone()], agents.clone());
    assert_eq!(said(&mut m, 9), "-");
    assert_eq!(said(&mut m, 10), "x: half");
    m.unready(&"half".parse().unwrap());
    assert_eq!(said(&mut m, 19), "-");
    assert_eq!(said(&mut m, 20), "x: none");
    // Who asks for nothing is served although they came later: the first cannot be.
    let mut m = matcher(rules, vec![asking, call("y", 0)], agents);
    assert_eq!(said(&mut m, 0), "y: half");
}

#[test]
fn an_agent_is_passed_over_until_the_time_is_up() {
    let mut m = matcher(MatchRules::default(), vec![call("x", 5), call("y", 1)], vec![agent("a", 1)]);
    let (x, a) = ("x".parse().unwrap(), "a".parse().unwrap());
    m.avoid(&x, &a, NOW + 30);
    assert_eq!((said(&mut m, 0), m.next_change()), ("y: a".into(), Some(NOW + 30)));
    assert_eq!(said(&mut m, 29), "y: a");
    assert_eq!((said(&mut m, 30), m.next_change()), ("x: a".into(), None));
    m.avoid(&x, &a, NOW + 60);
    assert_eq!(said(&mut m, 31), "y: a");
    m.avoid(&x, &a, EpochMs(0));
    assert_eq!(said(&mut m, 31), "x: a");
    m.avoid(&"unknown".parse().unwrap(), &a, NOW + 60);
    assert_eq!((m.len(), m.next_change()), (2, None));
}

#[test]
fn queues_compete_by_weight_then_priority_then_time() {
    let mut m = Matcher::new(7);
    for (queue, waited, priority) in [("p", 9, 0), ("q", 1, 5), ("r", 8, 5), ("s", 0, 0)] {
        m.set_queue(&queue.parse().unwrap(), MatchRules::default(), NOW);
        let priority = Priority::try_from(priority).unwrap();
        let queue: QueueId = queue.parse().unwrap();
        m.wait(WaitingCall { queue: queue.clone(), priority, ..call(queue.as_str(), waited) }, NOW).unwrap();
    }
    let of = |queue: &str, weight| (queue.parse().unwrap(), Membership { penalty: 0, weight });
    let all = BTreeMap::from([of("p", 1), of("q", 1), of("r", 1), of("s", 2)]);
    m.ready(ReadyAgent { memberships: all, ..agent("a", 0) });
    for expected in ["s: a", "r: a", "q: a", "p: a", "-"] {
        assert_eq!(said(&mut m, 0), expected);
        m.next(NOW).map(|found| m.leave(&found.call));
    }
}

#[test]
fn what_is_said_twice_replaces_and_unknown_queues_are_refused() {
    let mut m = matcher(MatchRules::default(), vec![call("x", 1), call("y", 9)], vec![agent("a", 1)]);
    m.wait(call("x", 20), NOW).unwrap();
    assert_eq!((said(&mut m, 0), m.len()), ("x: a".into(), 2));
    let lost = WaitingCall { queue: "nowhere".parse().unwrap(), ..call("x", 0) };
    assert_eq!(m.wait(lost.clone(), NOW), Err(lost));
    m.ready(member("a", 1, "nowhere", 0, 0));
    assert_eq!((said(&mut m, 0), m.ready_count(), m.ready_in(&"q".parse().unwrap())), ("-".into(), 1, 0));
    // The queue comes after its agent; and goes with its calls.
    m.set_queue(&"nowhere".parse().unwrap(), MatchRules::default(), NOW);
    m.wait(WaitingCall { queue: "nowhere".parse().unwrap(), ..call("z", 0) }, NOW).unwrap();
    assert_eq!(said(&mut m, 0), "z: a");
    let gone = m.remove_queue(&"q".parse().unwrap());
    assert_eq!(gone.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(m.remove_queue(&"nowhere".parse().unwrap()).len(), 1);
    assert_eq!((said(&mut m, 0), m.len(), m.queues().count()), ("-".into(), 0, 0));
}

#[test]
fn the_end_of_the_scale_of_time_is_no_trap() {
    let widening = Widening { after_ms: u64::MAX, penalty_max: 3 };
    let rules = MatchRules { penalty_max: vec![widening], ..MatchRules::default() };
    let mut m = matcher(rules, vec![call("x", 1)], vec![member("a", 1, "q", 1, 0)]);
    m.avoid(&"x".parse().unwrap(), &"a".parse().unwrap(), EpochMs(u64::MAX));
    assert_eq!(m.next_change(), Some(EpochMs(u64::MAX)));
    assert_eq!(m.next(EpochMs(u64::MAX)), None);
    assert_eq!(m.next_change(), None);
}

#[test]
fn sets_that_nobody_holds_are_let_go() {
    let mut sets = calls::Sets::default();
    let kept: Vec<Skills> = (0..40).map(|n| sets.share(skills(&format!("kept{n}")))).collect();
    for n in 0..1000 {
        sets.share(skills(&format!("passing{n}")));
    }
    assert!(sets.len() <= 2 * kept.len() + 64, "{}", sets.len());
    assert!(kept.iter().all(|set| sets.share(set.iter().cloned().collect()) == *set));
}

#[test]
fn skills_that_share_a_bit_are_told_apart() {
    // More skills than bits: some pair has one in common.
    let all: Vec<Skills> = (0..100).map(|n| skills(&format!("s{n}"))).collect();
    for (n, one) in all.iter().enumerate() {
        for (m, other) in all.iter().enumerate() {
            assert_eq!(one.cover(other), n == m);
            assert_eq!(one.cmp(other).is_eq(), n == m);
        }
    }
}
