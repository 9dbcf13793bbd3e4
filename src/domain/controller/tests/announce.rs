//! What an agent hears before the join.

use super::*;

fn scene() -> Scene {
    let mut s = Scene::with(|setup| {
        let sales = setup.queues.get_mut(&name("sales")).unwrap();
        sales.agent_announce = vec!["queue".into(), "sales".into()];
    });
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(s.leg_answered("7-1"), ["announce mqs-7-1 queue+sales"]);
    s
}

#[test]
fn first_the_announcement_and_then_the_caller() {
    let mut s = scene();
    assert_eq!(s.answer("announce", Outcome::Done), [""; 0]);
    assert_eq!(s.stage("c1").map(Stage::as_str), Some("connecting"));
    // What was played elsewhere does not matter.
    assert_eq!(s.tell(Input::Announced(name("7-9"))), [""; 0]);
    assert_eq!(s.tell(Input::Announced(name("7-1"))), ["hush mqs-7-1", "join c1 mqs-7-1"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(s.tell(Input::Announced(name("7-1"))), [""; 0]);
}

#[test]
fn it_has_a_longest_time_and_is_stopped_before_the_join() {
    let mut s = scene();
    s.answer("announce", Outcome::Unknown);
    assert_eq!(s.pass(9_999), [""; 0]);
    assert_eq!(s.pass(1), ["hush mqs-7-1", "join c1 mqs-7-1"]);
    assert_eq!(s.tell(Input::Announced(name("7-1"))), [""; 0]);
    // Should the node have missed that, it is told again.
    assert_eq!(s.pass(AGAIN_MS), ["hush mqs-7-1", "join c1 mqs-7-1"]);
}

#[test]
fn what_cannot_be_played_delays_nobody() {
    let mut s = scene();
    assert_eq!(s.answer("announce", Outcome::Refused), ["hush mqs-7-1", "join c1 mqs-7-1"]);
}

#[test]
fn a_caller_who_hangs_up_ends_it() {
    let mut s = scene();
    let lines = s.leave("c1");
    assert_eq!(lines, ["[c1 abandoned]", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.tell(Input::Announced(name("7-1"))), [""; 0]);
    s.leg_ended("7-1", LegEnd::HungUp);
    assert_eq!(s.state("ann"), "ready");
}

#[test]
fn an_agent_who_hangs_up_gives_the_call_back() {
    let mut s = scene();
    let lines = s.leg_ended("7-1", LegEnd::HungUp);
    assert!(lines.contains(&"[7-1 join-failed]".to_owned()), "{lines:?}");
    assert_eq!(s.stage("c1").map(Stage::as_str), Some("waiting"));
}

#[test]
fn the_next_leader_joins_them_when_its_time_is_over() {
    let s = scene();
    let saved = super::restore::saved(&s);
    let mut new = Controller::restore(8, Arc::new(s.setup.clone()), 1, saved, s.now + 1_000);
    let now = s.now + 1_000;
    let seen = SeenLeg {
        leg: leg("7-1"),
        offer: name("7-1"),
        agent: name("ann"),
        call: name("c1"),
        queue: name("sales"),
        up: true,
    };
    let caller = Scene::caller("c1", "sales", "0");
    let listing =
        Listing { node: name("n1"), begun: now, callers: vec![caller], legs: vec![seen], bridges: vec![] };
    new.handle(Input::Listing(listing), now);
    new.handle(Input::Tick, s.now + 10_000);
    let mut effects = Vec::new();
    while let Some(output) = new.next_output() {
        if let Output::Effect(effect) = output {
            effects.push(effect_line(&effect));
        }
    }
    assert!(effects.ends_with(&["hush mqs-7-1".to_owned(), "join c1 mqs-7-1".to_owned()]), "{effects:?}");
}
