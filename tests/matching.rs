//! Random traces: the indexed matcher says at each step what brute force says, and asks to be asked again in time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use mqs::domain::id::{AgentId, CallId, QueueId};
use mqs::domain::matching::naive::{self, Scene};
use mqs::domain::matching::{
    Match, MatchRules, Matcher, Membership, Priority, ReadyAgent, Relaxing, Skills, Strategy as By,
    WaitingCall, Widening,
};
use mqs::domain::time::EpochMs;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

const BEGIN: u64 = 1_000_000;
/// Beyond the last step of any rule, in ms.
const HORIZON: u64 = 50;

#[derive(Clone, Debug)]
enum Step {
    Rule(QueueId, MatchRules),
    Remove(QueueId),
    /// A call that says how long it has waited already; below 0 where its clock is ahead.
    Wait(WaitingCall, i64),
    Leave(CallId),
    Avoid(CallId, AgentId, u64),
    /// An agent that says how long they are ready already.
    Ready(ReadyAgent, u64),
    Unready(AgentId),
    Offered(QueueId, AgentId),
    Forward(u64),
    /// What the match says is done.
    Follow,
    /// The match is offered, but nobody goes.
    Try,
}

fn queue() -> impl Strategy<Value = QueueId> {
    (0..4).prop_map(|n| format!("q{n}").parse().unwrap())
}

fn agent() -> impl Strategy<Value = AgentId> {
    (0..6).prop_map(|n| format!("a{n}").parse().unwrap())
}

fn call() -> impl Strategy<Value = CallId> {
    (0..12).prop_map(|n| format!("ast1-1700000000.{n}").parse().unwrap())
}

fn skills(most: usize) -> impl Strategy<Value = Skills> {
    btree_set(0..4, 0..=most)
        .prop_map(|set| set.into_iter().map(|n| format!("s{n}").parse().unwrap()).collect())
}

fn rules() -> impl Strategy<Value = MatchRules> {
    let widening = (0..30u64, 0..4u16).prop_map(|(after_ms, penalty_max)| Widening { after_ms, penalty_max });
    let relaxing = (0..30u64, skills(2)).prop_map(|(after_ms, drop)| Relaxing { after_ms, drop });
    (prop::sample::select(By::ALL.to_vec()), 0..4usize, vec(widening, 0..3), vec(relaxing, 0..3)).prop_map(
        |(strategy, ring_all_max, penalty_max, relax)| MatchRules {
            strategy,
            ring_all_max,
            penalty_max,
            relax,
        },
    )
}

fn waiting() -> impl Strategy<Value = WaitingCall> {
    let avoid = btree_map(agent(), (BEGIN..BEGIN + 200).prop_map(EpochMs), 0..2);
    (call(), queue(), 0..3u64, skills(2), avoid).prop_map(|(id, queue, priority, wishes, avoid)| {
        let priority = Priority::try_from(priority).unwrap();
        WaitingCall { id, queue, priority, enqueued: EpochMs(0), wishes, avoid }
    })
}

fn ready() -> impl Strategy<Value = ReadyAgent> {
    let membership = (0..3u16, 0..3u16).prop_map(|(penalty, weight)| Membership { penalty, weight });
    let taken = btree_map(queue(), 0..3u64, 0..3);
    (agent(), skills(4), btree_map(queue(), membership, 2..5), taken, 0..3u64).prop_map(
        |(id, skills, memberships, taken, round)| ReadyAgent {
            id,
            since: EpochMs(0),
            skills,
            memberships,
            taken,
            round,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (queue(), rules()).prop_map(|(q, r)| Step::Rule(q, r)),
        1 => queue().prop_map(Step::Remove),
        12 => (waiting(), -5..35i64).prop_map(|(c, ms)| Step::Wait(c, ms)),
        2 => call().prop_map(Step::Leave),
        5 => (call(), agent(), 0..30u64).prop_map(|(c, a, ms)| Step::Avoid(c, a, ms)),
        12 => (ready(), 0..4u64).prop_map(|(a, ms)| Step::Ready(a, ms)),
        2 => agent().prop_map(Step::Unready),
        3 => (queue(), agent()).prop_map(|(q, a)| Step::Offered(q, a)),
        8 => (0..12u64).prop_map(Step::Forward),
        4 => Just(Step::Follow),
        3 => Just(Step::Try),
    ]
}

/// The plain lists beside the matcher.
struct Pair {
    matcher: Matcher,
    seed: u64,
    now: EpochMs,
    queues: BTreeMap<QueueId, MatchRules>,
    calls: Vec<WaitingCall>,
    agents: Vec<ReadyAgent>,
    offered: Vec<(QueueId, AgentId)>,
}

impl Pair {
    fn new(seed: u64, queues: Vec<MatchRules>) -> Pair {
        let (matcher, now) = (Matcher::new(seed), EpochMs(BEGIN));
        let mut pair = Pair {
            matcher,
            seed,
            now,
            queues: BTreeMap::new(),
            calls: Vec::new(),
            agents: Vec::new(),
            offered: Vec::new(),
        };
        for (n, rules) in queues.into_iter().enumerate() {
            pair.apply(Step::Rule(format!("q{n}").parse().unwrap(), rules));
        }
        pair
    }

    fn expected(&self, now: EpochMs) -> Option<Match> {
        let Pair { seed, queues, calls, agents, offered, .. } = self;
        naive::next(&Scene { seed: *seed, queues, calls, agents, offered }, now)
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Rule(queue, rules) => {
                self.matcher.set_queue(&queue, rules.clone(), self.now);
                self.queues.insert(queue, rules);
            }
            Step::Remove(queue) => {
                let gone: Vec<CallId> = self.matcher.remove_queue(&queue).into_iter().map(|c| c.id).collect();
                assert_eq!(gone, self.in_order(&queue));
                self.calls.retain(|call| call.queue != queue);
                self.queues.remove(&queue);
                self.offered.retain(|(q, _)| *q != queue);
            }
            Step::Wait(mut call, waited) => {
                call.enqueued = EpochMs(self.now.0.checked_add_signed(-waited).unwrap());
                let taken = self.matcher.wait(call.clone(), self.now);
                assert_eq!(taken.is_ok(), self.queues.contains_key(&call.queue));
                if taken.is_ok() {
                    self.calls.retain(|c| c.id != call.id);
                    self.calls.push(call);
                }
            }
            Step::Leave(id) => self.leave(&id),
            Step::Avoid(id, agent, ms) => {
                self.matcher.avoid(&id, &agent, self.now + ms);
                for call in self.calls.iter_mut().filter(|c| c.id == id) {
                    call.avoid.insert(agent.clone(), self.now + ms);
                }
            }
            Step::Ready(mut agent, ms) => {
                agent.since = EpochMs(self.now.0 - ms);
                self.matcher.ready(agent.clone());
                self.agents.retain(|a| a.id != agent.id);
                self.agents.push(agent);
            }
            Step::Unready(id) => self.unready(&id),
            Step::Offered(queue, agent) => self.offer(queue, agent),
            Step::Forward(ms) => self.now = self.now + ms,
            Step::Try => {
                if let Some(found) = self.matcher.next(self.now) {
                    found.agents.into_iter().for_each(|agent| self.offer(found.queue.clone(), agent));
                }
            }
            Step::Follow => {
                let Some(found) = self.matcher.next(self.now) else {
                    return;
                };
                for agent in found.agents {
                    self.offer(found.queue.clone(), agent.clone());
                    self.unready(&agent);
                }
                self.leave(&found.call);
            }
        }
    }

    fn leave(&mut self, id: &CallId) {
        let mut left = self.matcher.leave(id);
        let at = self.calls.iter().position(|c| c.id == *id);
        let mut expected = at.map(|at| self.calls.remove(at));
        for call in left.iter_mut().chain(&mut expected) {
            call.avoid.retain(|_, until| self.now < *until);
        }
        assert_eq!(left, expected);
    }

    fn unready(&mut self, id: &AgentId) {
        let at = self.agents.iter().position(|a| a.id == *id);
        let expected = at.map(|at| self.agents.remove(at));
        assert_eq!(self.matcher.unready(id), expected);
    }

    fn offer(&mut self, queue: QueueId, agent: AgentId) {
        self.matcher.offered(&queue, &agent);
        if self.queues.contains_key(&queue) {
            self.offered.push((queue, agent));
        }
    }

    fn in_order(&self, queue: &QueueId) -> Vec<CallId> {
        let mut calls: Vec<&WaitingCall> = self.calls.iter().filter(|c| c.queue == *queue).collect();
        calls.sort_by_key(|c| (Reverse(c.priority), c.enqueued, c.id.clone()));
        calls.into_iter().map(|c| c.id.clone()).collect()
    }

    fn check(&mut self) {
        // What is due by time alone has been announced, too, before it is asked for.
        let expected = self.expected(self.now);
        assert_eq!(self.matcher.next(self.now), expected);
        assert_eq!(self.matcher.next(self.now), expected, "asked again");
        let change = self.matcher.next_change();
        assert!(change.is_none_or(|at| at > self.now), "announced what is past: {change:?} at {}", self.now);
        let until = change.map_or(self.now.0 + HORIZON, |at| at.0);
        for at in (self.now.0 + 1..until).map(EpochMs) {
            assert_eq!(self.expected(at), expected, "changed at {at} already, not {change:?}");
        }
        assert_eq!(self.matcher.len(), self.calls.len());
        assert_eq!(self.matcher.ready_count(), self.agents.len());
        for queue in self.queues.keys() {
            let order = self.in_order(queue);
            let said: Vec<CallId> = self.matcher.in_queue(queue).map(|c| c.id.clone()).collect();
            assert_eq!(said, order);
            assert_eq!(self.matcher.waiting(queue), order.len());
            for (position, id) in order.iter().enumerate() {
                assert_eq!(self.matcher.position(id), Some(position));
            }
            let members = self.agents.iter().filter(|a| a.memberships.contains_key(queue)).count();
            assert_eq!(self.matcher.ready_in(queue), members);
        }
    }
}

/// `PROPTEST_CASES` may ask for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(600), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_index_says_what_brute_force_says(
        seed in any::<u64>(),
        queues in vec(rules(), 3),
        // Not after each step: what several of them leave behind is worked off at once.
        steps in vec((step(), prop::bool::weighted(0.7)), 1..120),
    ) {
        let mut pair = Pair::new(seed, queues);
        for (step, check) in steps {
            pair.apply(step);
            if check {
                pair.check();
            }
        }
        pair.check();
    }
}

/// The traces are of use only if they come through what there is to come through.
#[test]
fn traces_meet_every_kind_of_match() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<By, usize> = BTreeMap::new();
    let (mut several, mut none, mut by_time, mut queues_won) = (0, 0, 0, BTreeSet::new());
    for _ in 0..150 {
        let queues = vec(rules(), 3).new_tree(&mut runner).unwrap().current();
        let steps = vec(step(), 80).new_tree(&mut runner).unwrap().current();
        let mut pair = Pair::new(7, queues);
        for step in steps {
            let (forward, before) = (matches!(step, Step::Forward(_)), pair.expected(pair.now));
            pair.apply(step);
            let found = pair.expected(pair.now);
            by_time += usize::from(forward && before != found);
            let Some(found) = found else {
                none += 1;
                continue;
            };
            several += usize::from(found.agents.len() > 1);
            *seen.entry(pair.queues[&found.queue].strategy).or_default() += 1;
            queues_won.insert(found.queue);
        }
    }
    println!("by strategy {seen:?}; ring-all of several {several}; none {none}; by time alone {by_time}");
    assert!(seen.len() == By::ALL.len() && seen.values().all(|n| *n > 50), "{seen:?}");
    assert!(several > 50 && none > 50 && by_time > 20, "{several} {none} {by_time}");
    assert_eq!(queues_won.len(), 4);
}
