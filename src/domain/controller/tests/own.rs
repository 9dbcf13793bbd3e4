//! Calls of an agent's phone that no offer brought.

use super::*;
use crate::domain::agent::OwnCallId;

fn call(id: &str) -> OwnCallId {
    OwnCallId::from(id)
}

fn began(agent: &str, id: &str) -> Command {
    Command::OwnCallBegan { aor: format!("{agent}@example.com").into(), call: call(id), proxy: name("k1") }
}

fn ended(agent: &str, id: &str) -> Command {
    Command::OwnCallEnded { aor: format!("{agent}@example.com").into(), call: call(id) }
}

fn own(s: &Scene, agent: &str) -> usize {
    s.controller.agent(&name(agent)).unwrap().own_calls.len()
}

#[test]
fn who_has_a_call_is_not_asked_until_it_is_over() {
    let mut s = Scene::new();
    s.login("ann");
    assert_eq!(s.command(began("ann", "x")), ["[ann in-use]"]);
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    // Said again: nothing.
    assert_eq!(s.command(began("ann", "x")), [""; 0]);
    s.command(began("ann", "y"));
    assert_eq!(s.command(ended("ann", "x")), [""; 0]);
    assert_eq!(s.state("ann"), "in-use");
    // No rest afterwards.
    let lines = s.command(ended("ann", "y"));
    assert_eq!(lines, ["[ann ready]", "[ann offered]", "[7-1: c1 to ann]", "originate mqs-7-1 ann"]);
    assert_eq!(s.command(ended("ann", "y")), [""; 0]);
}

#[test]
fn an_end_that_comes_first_and_strangers_change_nothing() {
    let mut s = Scene::new();
    s.login("ann");
    assert_eq!(s.command(ended("ann", "x")), [""; 0]);
    assert_eq!(s.command(began("ann", "x")), [""; 0]);
    assert_eq!((s.state("ann"), own(&s, "ann")), ("ready", 0));
    assert_eq!(s.command(began("nobody", "x")), [""; 0]);
    assert_eq!(s.command(began("bob", "x")), [""; 0]);
    // Not logged in, and not to be asked when bob comes.
    assert_eq!((s.state("bob"), own(&s, "bob")), ("offline", 1));
    assert_eq!(s.login("bob"), ["[bob in-use]", "[Done]"]);
}

#[test]
fn it_leaves_pause_and_an_offer_that_rings_alone() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(s.command(began("ann", "x")), [""; 0]);
    assert_eq!(s.state("ann"), "offered");
    s.leg_answered("7-1");
    s.answer("join", Outcome::Done);
    s.leave("c1");
    let lines = s.leg_ended("7-1", LegEnd::HungUp);
    assert!(lines.contains(&"[ann wrap-up]".to_owned()), "{lines:?}");
    s.enter("c2", "sales");
    assert_eq!(s.pass(5_000), ["[ann in-use]"]);
    s.command(Command::Pause(name("ann"), "lunch".into()));
    assert_eq!(s.command(ended("ann", "x")), [""; 0]);
    assert_eq!(s.state("ann"), "paused");
    let lines = s.command(Command::Resume(name("ann")));
    assert!(lines.contains(&"[7-2: c2 to ann]".to_owned()), "{lines:?}");
}

#[test]
fn without_a_word_it_ends_by_time() {
    let mut s = Scene::with(|setup| setup.own_call_max_ms = 60_000);
    s.login("ann");
    s.command(began("ann", "x"));
    s.pass(30_000);
    s.command(began("ann", "y"));
    s.pass(29_999);
    assert_eq!(own(&s, "ann"), 2);
    assert_eq!(s.pass(1), [""; 0]);
    assert_eq!(own(&s, "ann"), 1);
    assert_eq!(s.pass(30_000), ["[ann ready]"]);
    // The next leader counts on.
    s.command(began("ann", "z"));
    let saved = super::restore::saved(&s);
    let mut new = Controller::restore(8, Arc::new(s.setup.clone()), 1, saved, s.now + 1_000);
    assert_eq!(new.agent(&name("ann")).map(Agent::word), Some("in-use"));
    new.handle(Input::Tick, s.now + 60_000);
    assert_eq!(new.agent(&name("ann")).map(Agent::word), Some("ready"));
}

#[test]
fn a_kamailio_that_forgot_its_dialogs_keeps_nobody_busy() {
    let mut s = Scene::new();
    s.login("ann");
    s.login("bob");
    s.command(began("ann", "x"));
    let aor = "bob@example.com".into();
    s.command(Command::OwnCallBegan { aor, call: call("y"), proxy: name("k2") });
    assert_eq!(s.command(Command::OwnCallsLost(name("k1"))), ["[ann ready]"]);
    assert_eq!((s.state("ann"), s.state("bob")), ("ready", "in-use"));
}

#[test]
fn more_than_eight_are_not_counted() {
    let mut s = Scene::new();
    s.login("ann");
    for number in 0..20 {
        s.command(began("ann", &number.to_string()));
    }
    assert_eq!(own(&s, "ann"), 8);
    for number in 0..20 {
        s.command(ended("ann", &number.to_string()));
    }
    assert_eq!(s.state("ann"), "ready");
}

#[test]
fn who_gets_another_phone_has_no_calls_of_the_one_before() {
    // By the configuration, and at run time.
    let mut s = Scene::new();
    s.command(Command::SetAgent(name("eve"), Box::new(agent_rules("eve", &["care"]))));
    for agent in ["ann", "eve"] {
        s.login(agent);
        s.command(began(agent, "x"));
        assert_eq!((s.state(agent), own(&s, agent)), ("in-use", 1));
    }
    s.setup.agents.get_mut(&name("ann")).unwrap().aor = "anna@example.com".into();
    let setup = Arc::new(s.setup.clone());
    assert_eq!(s.tell(Input::Setup(setup)), ["[ann ready]"]);
    let other = agent_rules("eva", &["care"]);
    assert_eq!(s.command(Command::SetAgent(name("eve"), Box::new(other))), ["[eve ready]", "[Done]"]);
    for agent in ["ann", "eve"] {
        assert_eq!((s.state(agent), own(&s, agent)), ("ready", 0));
    }
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"], "it is not registered");
    let anna = Registered { aor: "anna@example.com".into(), proxy: name("k1"), at: s.now };
    assert_eq!(s.tell(Input::Registered(vec![anna])).last().unwrap(), "originate mqs-7-1 ann");
    // The end of what the phone before has had is nobody's.
    assert_eq!(s.command(ended("ann", "x")), [""; 0]);
}
