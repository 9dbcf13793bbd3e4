//! A node that is not listed, because it is away or its leader is new: what is known of it stays as it is, and is looked at
//! again when the node has said what it has.

use super::reconcile::{bridge, marked, once, seen_leg};
use super::*;
use crate::domain::agent::AgentState;
use crate::domain::call::Stage;
use crate::domain::offer::OfferStage;

/// Two nodes; what `change` makes of queue `sales`.
fn with_sales(change: impl FnOnce(&mut QueueRules)) -> Scene {
    Scene::with(|setup| change(setup.queues.get_mut(&name("sales")).unwrap()))
}

fn away(s: &mut Scene) {
    assert_eq!(s.tell(Input::NodeAway(name("n1"))), [""; 0]);
}

fn c1() -> Vec<SeenCaller> {
    vec![marked("c1", EpochMs(1_000_000))]
}

/// The node is heard again: c1 is there, and no leg.
fn back(s: &mut Scene) -> Vec<String> {
    once(s.list("n1", c1(), vec![], vec![]))
}

#[test]
fn a_phone_that_rings_rings_on_and_is_dropped_when_its_node_is_heard_again() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    away(&mut s);
    assert_eq!(s.pass(60_000), [""; 0], "it may have been answered by now");
    assert!(matches!(s.stage("c1"), Some(Stage::Offered { .. })));
    let legs = vec![seen_leg("7-1", "ann", "c1", false)];
    assert_eq!(s.list("n1", c1(), legs, vec![]), ["drop mqs-7-1", "void mqs-7-1"]);
    assert!(matches!(s.controller.agent(&name("ann")).unwrap().state, AgentState::Offered { .. }));
}

#[test]
fn a_phone_that_was_answered_meanwhile_is_joined_however_long_ago_its_time_was_over() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    away(&mut s);
    s.pass(60_000);
    let legs = vec![seen_leg("7-1", "ann", "c1", true)];
    assert_eq!(s.list("n1", c1(), legs, vec![])[0], "join c1 mqs-7-1");
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
}

#[test]
fn what_was_being_ended_is_asked_for_again_only_when_its_node_is_heard_again() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leave("c1");
    away(&mut s);
    assert_eq!(s.pass(60_000), [""; 0]);
    let legs = vec![seen_leg("7-1", "ann", "c1", false)];
    assert_eq!(s.list("n1", vec![], legs, vec![]), ["void mqs-7-1"]);
    assert_eq!(s.pass(AGAIN_MS), ["void mqs-7-1"], "and from then on as before");
    assert_eq!(s.leg_ended("7-1", LegEnd::Cancelled), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn a_join_is_not_tried_again_meanwhile() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    away(&mut s);
    assert_eq!(s.pass(60_000), [""; 0]);
    let legs = vec![seen_leg("7-1", "ann", "c1", true)];
    assert_eq!(s.list("n1", c1(), legs, vec![bridge("7-1", &["mqs-7-1"])]), ["join c1 mqs-7-1"]);
}

#[test]
fn a_longest_wait_is_over_when_its_node_is_heard_again() {
    let mut s = with_sales(|rules| rules.wait_max_ms = 60_000);
    s.enter("c1", "sales");
    s.enter("c2@n2", "sales");
    away(&mut s);
    assert_eq!(s.pass(60_000), ["[c2 longest-wait: voicemail]", "continue c2 voicemail"], "others go on");
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(back(&mut s), ["[c1 longest-wait: voicemail]", "continue c1 voicemail"]);
}

#[test]
fn a_treatment_is_asked_for_again_only_when_its_node_is_heard_again() {
    let mut s = Scene::new();
    s.enter("c1", "nowhere");
    away(&mut s);
    assert_eq!(s.pass(60_000), [""; 0]);
    assert_eq!(back(&mut s), ["continue c1 closed"]);
    assert_eq!(s.pass(AGAIN_MS), ["continue c1 closed"]);
    assert_eq!(s.leave("c1"), ["[c1 treated]"]);
}

#[test]
fn a_queue_that_empties_meanwhile_is_left_when_the_node_is_heard_again() {
    let mut s = with_sales(|rules| rules.stay = Presence::LoggedIn);
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    s.enter("c1", "sales");
    s.enter("c2@n2", "sales");
    away(&mut s);
    assert_eq!(
        s.command(Command::Logout(name("ann"))),
        ["[ann offline]", "[c2 leave-empty: closed]", "[Done]", "continue c2 closed"]
    );
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting), "she may have taken it before");
    assert_eq!(back(&mut s), ["[c1 leave-empty: closed]", "continue c1 closed"]);
    // Somebody has come back before that.
    let mut s = with_sales(|rules| rules.stay = Presence::LoggedIn);
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    s.enter("c1", "sales");
    away(&mut s);
    s.command(Command::Logout(name("ann")));
    s.login("bob");
    assert_eq!(back(&mut s), [""; 0]);
}

#[test]
fn a_queue_that_is_taken_away_meanwhile_lets_its_calls_go_when_the_node_is_heard_again() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.enter("c2@n2", "sales");
    away(&mut s);
    let mut setup = s.setup.clone();
    setup.queues.remove(&name("sales"));
    let said = s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(said, ["[c2 no-queue: closed]", "continue c2 closed"]);
    assert_eq!(s.pass(600_000), vec!["continue c2 closed"; 300]);
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(back(&mut s), ["[c1 no-queue: closed]", "continue c1 closed"]);
}

#[test]
fn nobody_moves_a_call_whose_node_is_not_heard() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let all = || {
        [
            Command::Move(name("c1"), name("care")),
            Command::Move(name("c1"), name("sales")),
            Command::Prioritize(name("c1"), name("5")),
            Command::Withdraw(name("c1"), name("voicemail")),
        ]
    };
    away(&mut s);
    for command in all() {
        assert_eq!(s.command(command), ["[NodeAway]"]);
    }
    // Who asks for something that is not, is told that.
    assert_eq!(s.command(Command::Move(name("c1"), name("nowhere"))), ["[NoQueue]"]);
    assert_eq!(s.command(Command::Withdraw(name("c1"), name("nothing"))), ["[NoTreatment]"]);
    assert_eq!(s.command(Command::Move(name("c9"), name("care"))), ["[NoCall]"]);
    let call = s.controller.call(&name("c1")).unwrap();
    assert_eq!((&call.queue, call.priority, &call.stage), (&name("sales"), name("0"), &Stage::Waiting));
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0]);
    let said = all().map(|command| s.command(command).into_iter().find(|line| line.starts_with("[D")));
    assert_eq!(said.iter().flatten().count(), 4, "{said:?}");
}

#[test]
fn what_its_phone_does_is_heard_of_a_node_that_has_not_been_listed() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    away(&mut s);
    // It is connected again, and its listing is on its way.
    assert_eq!(s.leg_answered("7-1"), ["join c1 mqs-7-1"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(
        s.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"]
    );
    assert_eq!(s.leave("c1"), ["[c1 agent-hung-up]"]);
}

#[test]
fn an_offer_that_is_being_made_is_left_alone_by_a_listing_unless_it_can_never_ring() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let making = |s: &Scene| matches!(s.controller.offers().next().unwrap().stage, OfferStage::Making);
    s.pass(60_000);
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0], "its answer is awaited");
    assert!(making(&s));
    // The store has forgotten its token, and does not get it again.
    let all = s.controller.rewrite(8, s.now);
    assert!(!all.iter().any(|change| matches!(change, Change::Issue(_))), "{all:?}");
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0], "the question is not younger than that");
    s.pass(1);
    assert_eq!(
        s.list("n1", c1(), vec![], vec![]),
        ["[7-1 lost]", "[ann ready]", "[ann offered]", "[8-1: c1 to ann]", "originate mqs-8-1 ann"]
    );
    assert!(making(&s));
}
