//! Caller and agent who talk, though it was not known, or believed that they do not: they go on.

use super::reconcile::{bridge, marked, seen_leg};
use super::*;
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::Stage;
use crate::domain::offer::OfferStage;

fn c1() -> Vec<SeenCaller> {
    vec![marked("c1", EpochMs(1_000_000))]
}

/// Ann's phone rang for c1 for so long that it was given up.
fn given_up() -> Scene {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(s.pass(15_000), ["drop mqs-7-1", "void mqs-7-1"]);
    s
}

/// c1 and ann are in one bridge.
fn together(s: &mut Scene) -> Vec<String> {
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    s.list("n1", c1(), vec![seen_leg("7-1", "ann", "c1", true)], both)
}

#[test]
fn an_offer_that_was_given_up_and_whose_two_talk_is_alive_again() {
    let mut s = given_up();
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(together(&mut s), ["[ann talking]", "[c1 with ann]"]);
    let (offer, since) = (name("7-1"), s.now);
    assert_eq!(s.stage("c1"), Some(&Stage::Connected { offer, since }));
    assert_eq!(s.controller.in_line(&name("sales")), 0);
    assert_eq!(s.controller.agent(&name("ann")).unwrap().taken, [(name("sales"), 1)].into());
    assert_eq!(s.login("bob"), ["[bob ready]", "[Done]"], "it is offered to nobody else");
    assert_eq!(s.pass(60_000), [""; 0], "nobody drops it");
    assert_eq!(
        s.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"]
    );
}

#[test]
fn the_phone_that_rings_instead_is_dropped_then() {
    let mut s = given_up();
    s.login("bob");
    s.rings();
    assert_eq!(together(&mut s), ["[ann talking]", "[c1 with ann]", "drop mqs-7-2", "void mqs-7-2"]);
    assert_eq!(s.leg_ended("7-2", LegEnd::Cancelled), ["[7-2 superseded]", "[bob ready]"]);
    assert!(matches!(s.stage("c1"), Some(Stage::Connected { .. })));
    assert_eq!(s.controller.agent(&name("bob")).unwrap().misses, 0);
}

#[test]
fn what_was_given_up_stays_so_if_the_two_do_not_talk_or_the_call_has_gone_on() {
    for (up, members) in [(true, &["mqs-7-1"][..]), (true, &["c1"]), (false, &["c1", "mqs-7-1"])] {
        let mut s = given_up();
        let legs = vec![seen_leg("7-1", "ann", "c1", up)];
        s.list("n1", c1(), legs, vec![bridge("7-1", members)]);
        assert!(
            matches!(s.controller.offers().next().unwrap().stage, OfferStage::Ending { .. }),
            "{up} {members:?}"
        );
        assert_eq!(s.stage("c1"), Some(&Stage::Waiting), "{up} {members:?}");
    }
    // It is on its way to a treatment.
    let mut s = given_up();
    s.command(Command::Withdraw(name("c1"), name("voicemail")));
    assert_eq!(together(&mut s), [""; 0]);
    assert!(matches!(s.stage("c1"), Some(Stage::Treated { .. })));
    assert_eq!(s.state("ann"), "offered");
    // It is with somebody else.
    let mut s = given_up();
    s.login("bob");
    s.rings();
    s.leg_answered("7-2");
    s.answer("join", Outcome::Done);
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"]), bridge("7-2", &["c1", "mqs-7-2"])];
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("7-2", "bob", "c1", true)];
    assert_eq!(s.list("n1", c1(), legs, both), [""; 0]);
    assert_eq!((s.state("ann"), s.state("bob")), ("offered", "talking"));
}

#[test]
fn two_who_are_found_together_while_being_joined_need_no_other_answer() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    let join = s.effects[0].clone();
    assert_eq!(together(&mut s), ["[ann talking]", "[c1 with ann]"]);
    // Whatever is said of the join after that: they were seen.
    for outcome in [Outcome::Unknown, Outcome::Refused, Outcome::Done] {
        assert_eq!(s.tell(Input::Answered { effect: join.clone(), outcome }), [""; 0]);
    }
    assert_eq!(s.pass(60_000), [""; 0]);
}

#[test]
fn a_caller_in_line_who_talks_to_somebody_unknown_is_offered_to_nobody_else() {
    let mut s = Scene::new();
    s.login("bob");
    s.enter("c1", "sales");
    s.rings();
    s.login("ann");
    let pair = |s: &mut Scene| {
        let legs = vec![seen_leg("6-9", "ann", "c1", true), seen_leg("7-1", "bob", "c1", false)];
        s.list("n1", c1(), legs, vec![bridge("6-9", &["c1", "mqs-6-9"])])
    };
    assert_eq!(pair(&mut s), ["[ann offered]", "drop mqs-7-1", "void mqs-7-1", "join c1 mqs-6-9"]);
    assert_eq!(s.controller.in_line(&name("sales")), 0);
    let left = |change: &Change| matches!(change, Change::Leave { call, .. } if *call == name("c1"));
    assert!(s.changes.iter().any(left), "{:?}", s.changes);
    assert_eq!(pair(&mut s), ["[ann talking]", "[c1 with ann]"], "the next listing knows both");
    // One who is with an agent already is not: the leg goes.
    let mut s = Scene::new();
    s.login("bob");
    s.connect("c1", "7-1");
    let legs = vec![seen_leg("7-1", "bob", "c1", true), seen_leg("6-9", "ann", "c1", true)];
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"]), bridge("6-9", &["c1", "mqs-6-9"])];
    assert_eq!(s.list("n1", c1(), legs, both), ["[ann offered]", "drop mqs-6-9"]);
    assert_eq!(s.state("bob"), "talking");
}

#[test]
fn bridges_of_offers_that_nobody_knows_are_deleted() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let all = vec![bridge("6-9", &[]), bridge("7-1", &["c1", "mqs-7-1"]), bridge("5-2", &["x"])];
    let legs = vec![seen_leg("7-1", "ann", "c1", true)];
    assert_eq!(s.list("n1", c1(), legs, all), ["drop mqs-5-2", "drop mqs-6-9"]);
    assert!(s.effects.iter().all(|effect| matches!(effect, Effect::DropLeg { void: false, .. })));
    // Of a node its own.
    s.list("n2", vec![], vec![], vec![bridge("6-8", &[])]);
    assert_eq!(s.effects[0].node(), &name("n2"));
}

#[test]
fn a_claim_that_ends_passes_to_the_other_leg() {
    // The store has forgotten 6-9, in which ann talks to c9; the new leader lets her phone ring for c1.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.command(Command::Pause(name("ann"), "tea".into()));
    let callers = || vec![marked("c1", EpochMs(1_000_000)), marked("c9", EpochMs(999_000))];
    let legs = || vec![seen_leg("6-9", "ann", "c9", true), seen_leg("7-1", "ann", "c1", false)];
    let both = || vec![bridge("6-9", &["c9", "mqs-6-9"])];
    assert_eq!(s.list("n1", callers(), legs(), both()), ["join c9 mqs-6-9"]);
    s.answer("join", Outcome::Done);
    assert_eq!(s.state("ann"), "offered", "one claim at a time");
    assert_eq!(s.leg_ended("7-1", LegEnd::Busy)[..2], ["[7-1 busy]", "[ann talking]"]);
    let then = Then::Pause { reason: "tea".into() };
    let state = AgentState::Talking { offer: name("6-9"), then };
    assert_eq!(s.controller.agent(&name("ann")).unwrap().state, state);
    assert_eq!(
        s.leg_ended("6-9", LegEnd::HungUp),
        ["[6-9 taken]", "[ann paused]", "drop mqs-6-9", "hang up c9 16"],
        "and what she asked for comes after that one"
    );
}

#[test]
fn the_leg_that_has_no_claim_ends_without_a_word_of_its_agent() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("6-9", "ann", "c9", false)];
    s.list("n1", c1(), legs, vec![bridge("7-1", &["c1", "mqs-7-1"])]);
    assert_eq!(s.leg_ended("6-9", LegEnd::Cancelled), ["[6-9 lost]"]);
    assert_eq!(s.state("ann"), "talking");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[..2], ["[7-1 taken]", "[ann wrap-up]"]);
}

#[test]
fn a_leg_is_not_dropped_once_it_is_seen_that_its_two_talk() {
    let mut s = given_up();
    let drop = Effect::DropLeg { offer: name("7-1"), leg: leg("7-1"), void: true };
    assert!(s.controller.wants(&drop));
    together(&mut s);
    assert!(!s.controller.wants(&drop), "it waited for its commit, and a listing came first");
}

#[test]
fn who_talks_by_a_listing_comes_before_whoever_else_has_answered() {
    // The store has lost that 6-9 was made; 7-1 was answered, and nobody has joined it.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("6-9", "bob", "c1", true)];
    let said = s.list("n1", c1(), legs, vec![bridge("6-9", &["c1", "mqs-6-9"])]);
    assert!(!said.contains(&"drop mqs-6-9".to_owned()), "{said:?}");
    assert!(said.contains(&"drop mqs-7-1".to_owned()), "{said:?}");
    assert!(matches!(s.stage("c1"), Some(Stage::Connecting { offer }) if *offer == name("6-9")));
}
