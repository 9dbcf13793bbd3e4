//! Another epoch at a renewal: the store has forgotten, or another one has led for a while. The nodes know, and are asked.

use super::*;
use crate::domain::call::Stage;

fn stage(s: &Scene, call: &str) -> Option<Stage> {
    s.pilot.controller()?.call(&name(call)).map(|call| call.stage.clone())
}

fn offering(said: &[String]) -> bool {
    said.contains(&"Offering".to_owned())
}

/// As [`Scene::at_work`], but c1 waits, and nobody is logged in; all nodes are linked, and listed.
fn waiting(names: &[&str]) -> Scene {
    let mut s = Scene::leads(names);
    s.registered();
    for (n, node) in (1..).zip(names) {
        s.tell(Input::NodeUp(name(node), Link(n)));
        s.listed(node, vec![]);
    }
    s.enter("c1");
    s.committed(Some(Committed::Done));
    s.committed(Some(Committed::Done));
    s
}

fn c1() -> Vec<SeenCaller> {
    vec![caller("c1", "sales")]
}

/// The epoch is 8 from now on.
fn another_epoch(s: &mut Scene) -> Vec<String> {
    s.pass(RENEW_MS);
    s.led(yours(8))
}

#[test]
fn each_node_that_is_linked_is_asked_what_it_has() {
    let mut s = waiting(&["n1", "n2", "n3"]);
    s.tell(Input::NodeDown(name("n2"), Link(2)));
    assert_eq!(another_epoch(&mut s), ["History(8)", "reopen 8", "list n1", "list n3"]);
}

#[test]
fn what_was_asked_before_is_not_heard() {
    let mut s = waiting(&["n1"]);
    s.pass(30_000);
    s.renewed(7);
    let (early, begun) = s.list_ask("n1");
    s.pass(RENEW_MS);
    assert!(s.led(yours(8)).contains(&"list n1".to_owned()));
    s.opened(Some(nothing()));
    while s.committed(Some(Committed::Done)).iter().any(|line| line.starts_with("commit")) {}
    let listing = Listing { node: name("n1"), begun, callers: c1(), legs: vec![], bridges: vec![] };
    assert_eq!(s.tell(Input::Listed(early, Some(listing))), [""; 0]);
    assert!(offering(&s.listed("n1", c1())));
}

#[test]
fn no_offer_is_made_before_the_nodes_were_heard_and_everything_is_written() {
    for heard_first in [true, false] {
        let mut s = waiting(&["n1"]);
        another_epoch(&mut s);
        if heard_first {
            assert!(!offering(&s.listed("n1", c1())), "the store does not know it yet");
        }
        assert_eq!(s.opened(Some(nothing())), ["commit 8/2 all: 3"]);
        if heard_first {
            s.letters(&[(1, "k1", Some(Command::Login(name("ann"))))]);
            assert_eq!(stage(&s, "c1"), Some(Stage::Waiting));
        }
        let said = s.committed(Some(Committed::Done));
        assert_eq!(offering(&said), heard_first, "{said:?}");
        if !heard_first {
            s.letters(&[(1, "k1", Some(Command::Login(name("ann"))))]);
            assert_eq!(stage(&s, "c1"), Some(Stage::Waiting), "a phone may ring that nobody knows of");
            assert!(offering(&s.listed("n1", c1())));
        }
        assert!(matches!(stage(&s, "c1"), Some(Stage::Offered { .. })));
        while s.committed(Some(Committed::Done)).iter().any(|line| line.starts_with("commit")) {}
        assert!(s.log.iter().any(|o| line(o) == "originate mqs-8-1"));
    }
}

#[test]
fn for_a_node_that_says_nothing_half_a_minute_begins_anew() {
    let mut s = waiting(&["n1", "n2"]);
    another_epoch(&mut s);
    s.opened(Some(nothing()));
    s.committed(Some(Committed::Done));
    s.listed("n1", c1());
    let mut waited = 0;
    while waited < 29_000 {
        assert!(!offering(&s.pass(1_000)), "{waited}");
        assert!(!offering(&s.led(yours(8))));
        waited += 1_000;
    }
    // It was the question for the renewal, one second before, that counts.
    assert!(offering(&s.pass(1_000)));
}

#[test]
fn nobody_moves_a_call_before_its_node_was_heard_again() {
    let mut s = waiting(&["n1"]);
    another_epoch(&mut s);
    s.opened(Some(nothing()));
    s.letters(&[(1, "k1", Some(Command::Prioritize(name("c1"), name("5"))))]);
    s.committed(Some(Committed::Done));
    assert_eq!(said(&s.last_commit().1), [Said::NodeAway]);
}

#[test]
fn who_was_overtaken_begins_again_as_a_new_leader() {
    let mut s = waiting(&["n1"]);
    another_epoch(&mut s);
    let said = s.opened(Some(opened_by(9, 40, Saved::default())));
    assert_eq!(said, ["disconnect n1", "StepsDown(Other)", "open 8"]);
    assert_eq!((s.pilot.epoch(), stage(&s, "c1")), (None, None), "what it knew is worth nothing");
    assert!(!s.pilot.may_send(Right::Linked(Link(1)), s.now));
    assert_eq!(s.enter("c2"), [""; 0]);
    assert_eq!(s.opened(Some(opened_by(8, 41, Saved::default()))), ["Leads(8)", "connect n1"]);
    assert_eq!(s.tell(Input::NodeUp(name("n1"), Link(2))), ["list n1"]);
    s.registered();
    s.listed("n1", c1());
    let (_, commit) = s.last_commit();
    assert_eq!((commit.epoch, commit.seq, commit.rewrite), (8, 42, None), "nothing is written anew");
}

#[test]
fn whoever_led_before_or_this_one_itself_has_not_overtaken_it() {
    for before in [0, 6, 7, 8] {
        let mut s = waiting(&["n1"]);
        another_epoch(&mut s);
        let said = s.opened(Some(opened_by(before, 2, Saved::default())));
        assert_eq!(said, ["commit 8/3 all: 3"], "{before}");
    }
    // Any of its own: the store has forgotten twice, and has an older copy now.
    for (before, own) in [(7, true), (8, false), (9, true), (10, true), (11, false)] {
        let mut s = waiting(&["n1"]);
        s.pass(RENEW_MS);
        s.led(yours(9));
        s.opened(Some(opened_by(7, 2, Saved::default())));
        s.pass(RENEW_MS);
        s.led(yours(10));
        let said = s.opened(Some(opened_by(before, 2, Saved::default())));
        assert_eq!(said[0].starts_with("commit 10/"), own, "{before}: {said:?}");
        assert_eq!(said.contains(&"StepsDown(Other)".to_owned()), !own, "{before}: {said:?}");
    }
}

#[test]
fn who_is_to_end_while_it_begins_again_gives_it_up() {
    let mut s = waiting(&["n1"]);
    another_epoch(&mut s);
    s.opened(Some(opened_by(9, 40, Saved::default())));
    assert_eq!(s.tell(Input::Resign), ["resign 8"]);
    assert_eq!(s.opened(Some(nothing())), [""; 0], "what it has asked for");
    assert_eq!((s.pilot.epoch(), s.pilot.next_timeout()), (None, None));
    assert_eq!(s.pass(60_000), [""; 0]);
}

#[test]
fn an_offer_whose_phone_rings_is_known_in_the_new_epoch_and_its_token_is_not_issued_again() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Done));
    s.acted("originate", Outcome::Done);
    s.committed(Some(Committed::Done));
    another_epoch(&mut s);
    s.opened(Some(nothing()));
    let (_, all) = s.last_commit();
    assert!(all.changes.iter().any(|change| matches!(change, Change::Offer(_))), "{all:?}");
    assert!(!all.changes.contains(&Change::Issue(name("7-1"))), "it is used: {all:?}");
    s.committed(Some(Committed::Done));
    assert!(matches!(stage(&s, "c1"), Some(Stage::Offered { .. })));
    // Its node does not have it: it is over, and will never ring.
    s.now = s.now.after(5_000);
    s.renewed(8);
    let (ask, _) = s.list_ask("n1");
    s.tell(Input::Listed(ask, None));
    s.pass(1_000);
    s.listed("n1", c1());
    let offers = || s.pilot.controller().unwrap().offers();
    assert!(offers().all(|offer| offer.id != name("7-1")), "{:?}", offers().collect::<Vec<_>>());
}

#[test]
fn a_state_that_is_there_in_part_is_written_anew_so_that_the_next_leader_finds_it_whole() {
    let mut s = Scene::new();
    s.led(yours(7));
    let Found::Here { before, cursor, clock, saved, damaged, .. } = left(41, Saved::default()) else {
        panic!()
    };
    let part = Found::Here { before, seq: 41, cursor, clock, whole: false, saved, damaged };
    let said = s.opened(Some(part));
    assert_eq!(said[..2], ["Leads(7)", "Partial"]);
    assert!(said.iter().any(|line| line.starts_with("commit 7/42 all")), "{said:?}");
    let (_, commit) = s.last_commit();
    assert!(commit.rewrite.is_some_and(|part| part.first && part.last));
    s.committed(Some(Committed::Done));
    s.registered();
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    assert!(offering(&s.listed("n1", c1())), "and then it goes on as ever");
}
