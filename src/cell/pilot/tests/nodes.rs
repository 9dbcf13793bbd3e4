//! The connections to the nodes, what they have, and when offers begin.

use super::*;
use crate::domain::call::Stage;

fn stage(s: &Scene, call: &str) -> Option<Stage> {
    s.pilot.controller()?.call(&name(call)).map(|call| call.stage.clone())
}

/// As [`Scene::at_work`], and c1 waits on n1.
fn with_a_call() -> Scene {
    let mut s = Scene::leads(&["n1"]);
    s.registered();
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    s.listed("n1", vec![]);
    s.enter("c1");
    s.committed(Some(Committed::Done));
    s
}

#[test]
fn a_node_that_is_up_says_what_it_has_and_soon_again_and_then_every_half_minute() {
    let mut s = Scene::leads(&["n1"]);
    assert_eq!(s.tell(Input::NodeUp(name("n1"), Link(1))), ["list n1"]);
    let (ask, _) = s.list_ask("n1");
    assert_eq!(s.tell(Input::Listed(ask, None)), [""; 0]);
    s.registered();
    assert_eq!(s.pass(999), [""; 0]);
    assert_eq!(s.pass(1), ["list n1"]);
    assert_eq!(s.listed("n1", vec![]), ["Offering"]);
    assert_eq!(s.pass(2_999), [""; 0]);
    assert_eq!(s.pass(1), ["list n1"]);
    assert_eq!(s.listed("n1", vec![]), [""; 0]);
    assert_eq!(s.pass(29_999), [""; 0]);
    assert_eq!(s.pass(1), ["list n1"]);
}

#[test]
fn a_node_that_was_started_again_at_once_is_soon_known_to_have_forgotten_its_calls() {
    let mut s = with_a_call();
    s.pass(500);
    s.tell(Input::NodeDown(name("n1"), Link(1)));
    s.tell(Input::NodeUp(name("n1"), Link(2)));
    s.listed("n1", vec![]);
    assert!(stage(&s, "c1").is_some(), "too young for this listing");
    assert!(s.pass(3_000).contains(&"list n1".to_owned()));
    s.listed("n1", vec![]);
    assert_eq!(stage(&s, "c1"), None);
}

#[test]
fn what_a_listing_says_of_an_earlier_connection_is_not_heard() {
    let mut s = Scene::leads(&["n1"]);
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    let (ask, begun) = s.list_ask("n1");
    s.tell(Input::NodeDown(name("n1"), Link(1)));
    s.tell(Input::NodeUp(name("n1"), Link(2)));
    let late = Listing {
        node: name("n1"),
        begun,
        callers: vec![caller("c1", "sales")],
        legs: vec![],
        bridges: vec![],
    };
    assert_eq!(s.tell(Input::Listed(ask, Some(late))), [""; 0]);
    assert_eq!(stage(&s, "c1"), None);
}

#[test]
fn events_of_a_connection_that_was_given_up_are_not_listened_to() {
    let mut s = Scene::at_work();
    assert_eq!(s.tell(Input::NodeUp(name("n1"), Link(2))), ["list n1"]);
    assert_eq!(s.enter("c1"), [""; 0]);
    assert_eq!(stage(&s, "c1"), None);
    assert_eq!(s.tell(Input::NodeDown(name("n1"), Link(1))), [""; 0]);
    assert!(!s.pilot.may_send(Right::Linked(Link(1)), s.now));
    assert!(s.pilot.may_send(Right::Linked(Link(2)), s.now));
    assert!(s.event(2, Happened::CallerEntered(caller("c1", "sales"))).contains(&"attend c1".to_owned()));
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting), "not offered before the node was listed");
    s.listed("n1", vec![caller("c1", "sales")]);
    assert!(matches!(stage(&s, "c1"), Some(Stage::Offered { .. })));
}

#[test]
fn of_a_node_without_a_connection_nothing_is_asked() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.tell(Input::NodeDown(name("n1"), Link(1)));
    assert_eq!(s.committed(Some(Committed::Done)).len(), 1, "a batch: ann is free again, c1 waits");
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting));
    s.committed(Some(Committed::Done));
    assert_eq!(s.pass(2_000), [""; 0]);
    assert_eq!(s.tell(Input::NodeUp(name("n1"), Link(2))), ["list n1"]);
}

#[test]
fn who_was_replaced_comes_back_only_by_a_later_word_of_the_store() {
    let mut s = Scene::at_work();
    s.pass(RENEW_MS);
    // This question is open when it is replaced.
    assert_eq!(s.tell(Input::NodeReplaced(name("n1"), Link(1))), ["disconnect n1"]);
    assert_eq!(s.led(yours(7)), [""; 0], "that was asked before");
    s.pass(RENEW_MS);
    assert_eq!(s.led(yours(7)), ["connect n1"]);
    s.pass(RENEW_MS);
    assert_eq!(s.led(yours(7)), [""; 0], "once");
    // One of another connection says nothing.
    s.tell(Input::NodeUp(name("n1"), Link(2)));
    assert_eq!(s.tell(Input::NodeReplaced(name("n1"), Link(1))), [""; 0]);
    assert!(s.pilot.may_send(Right::Linked(Link(2)), s.now));
}

#[test]
fn what_is_not_answered_is_looked_for_soon() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Done));
    let asked = s.now;
    s.acted("originate", Outcome::Unknown);
    s.committed(Some(Committed::Done));
    let lists = |s: &mut Scene| s.pass(1).contains(&"list n1".to_owned());
    s.pass(2_999);
    assert_eq!(
        (s.now.since(asked), s.log.iter().filter(|o| matches!(o, Output::List { .. })).count()),
        (2_999, 1)
    );
    assert!(lists(&mut s));
}

#[test]
fn what_is_not_answered_while_a_listing_is_under_way_is_looked_for_by_the_next_one() {
    let mut s = Scene::at_work();
    s.pass(30_000);
    s.renewed(7);
    s.enter("c1");
    s.committed(Some(Committed::Done));
    // The list of n1 was asked for before, and comes now: it may not show what was asked since.
    s.acted("originate", Outcome::Unknown);
    let asked = s.log.len();
    s.listed("n1", vec![caller("c1", "sales")]);
    s.pass(3_000);
    assert!(s.log[asked..].iter().any(|output| matches!(output, Output::List { .. })));
}

#[test]
fn offers_begin_when_every_node_was_listed_and_who_is_registered_is_known() {
    let mut s = Scene::leads(&["n1", "n2"]);
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    s.tell(Input::NodeUp(name("n2"), Link(2)));
    assert_eq!(s.listed("n1", vec![]), [""; 0]);
    assert_eq!(s.registered(), [""; 0]);
    assert_eq!(s.listed("n2", vec![]), ["Offering"]);
    let mut s = Scene::leads(&["n1"]);
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    assert_eq!(s.listed("n1", vec![]), [""; 0]);
    assert_eq!(s.registered(), ["Offering"]);
}

#[test]
fn no_offer_is_made_before_that() {
    let mut s = Scene::leads(&["n1", "n2"]);
    s.registered();
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    s.listed("n1", vec![]);
    s.enter("c1");
    s.letters(&[(1, "k1", Some(Command::Login(name("ann"))))]);
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting), "a phone may ring by n2");
    s.tell(Input::NodeDead(name("n2")));
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting), "it may be back since");
    s.pass(1_500);
    assert!(matches!(stage(&s, "c1"), Some(Stage::Offered { .. })), "not any more");
}

#[test]
fn for_a_node_that_says_nothing_and_is_not_called_dead_offers_wait_half_a_minute() {
    let mut s = Scene::leads(&["n1", "n2"]);
    s.registered();
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    s.listed("n1", vec![]);
    let begins = |lines: Vec<String>| lines.contains(&"Offering".to_owned());
    assert!(!begins(s.pass(29_999)));
    assert!(begins(s.pass(1)));
}

/// The node of a call is called dead when the leader begins.
fn begun_with_a_dead_node() -> Scene {
    let mut old = with_a_call();
    let saved =
        Saved { calls: old.pilot.controller().unwrap().calls().cloned().collect(), ..Saved::default() };
    old.tell(Input::Resign);
    let mut s = Scene::new();
    s.tell(Input::NodeDead(name("n1")));
    s.led(yours(8));
    s.opened(Some(left(3, saved)));
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting));
    assert_eq!(s.registered(), [""; 0]);
    s
}

#[test]
fn what_was_dead_before_is_over_when_offers_begin() {
    let mut s = begun_with_a_dead_node();
    let begins = |lines: Vec<String>| lines.contains(&"Offering".to_owned());
    assert!(!begins(s.pass(1_400)));
    assert!(begins(s.pass(200)));
    assert_eq!(stage(&s, "c1"), None);
}

#[test]
fn a_node_that_is_back_before_that_keeps_its_calls() {
    let mut s = begun_with_a_dead_node();
    s.pass(1_000);
    s.tell(Input::NodeUp(name("n1"), Link(7)));
    s.pass(2_000);
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting), "nobody has asked it yet");
}

#[test]
fn a_node_that_dies_loses_its_calls() {
    let mut s = with_a_call();
    s.tell(Input::NodeDead(name("n1")));
    assert_eq!(stage(&s, "c1"), None);
}

#[test]
fn a_node_that_is_not_dead_after_all_says_what_it_has() {
    let mut s = with_a_call();
    s.tell(Input::NodeDead(name("n1")));
    s.committed(Some(Committed::Done));
    s.now = s.now.after(5_000);
    assert_eq!(s.tell(Input::NodeAlive(name("n1"))), ["list n1"], "its callers are there, and nobody cares");
}

#[test]
fn what_a_node_was_asked_before_it_was_called_dead_is_asked_again() {
    let mut s = with_a_call();
    s.pass(2_900);
    s.renewed(7);
    s.pass(100);
    let (asked, begun) = s.list_ask("n1");
    assert_eq!(begun, s.pilot.time().unwrap(), "on its way");
    let said = s.tell(Input::NodeDead(name("n1")));
    assert!(said.contains(&"list n1".to_owned()), "{said:?}");
    let callers = || vec![caller("c1", "sales")];
    let old = Listing { node: name("n1"), begun, callers: callers(), legs: vec![], bridges: vec![] };
    s.tell(Input::Listed(asked, Some(old)));
    assert_eq!(stage(&s, "c1"), None, "that was before");
    s.listed("n1", callers());
    assert_eq!(stage(&s, "c1"), Some(Stage::Waiting));
}

#[test]
fn nodes_come_and_go() {
    let mut s = Scene::at_work();
    let set = |names: &[&str]| Input::Setup { setup: Arc::new(setup()), nodes: nodes(names) };
    assert_eq!(s.tell(set(&["n1", "n2"])), ["connect n2"]);
    assert_eq!(s.tell(set(&["n1", "n2"])), [""; 0]);
    assert_eq!(s.tell(set(&["n2"])), ["disconnect n1"]);
    assert_eq!(s.enter("c1"), [""; 0]);
}
