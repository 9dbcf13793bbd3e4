//! What a node's own listing changes, and what becomes of calls whose node is away or dead.

use super::*;
use crate::domain::agent::AgentState;
use crate::domain::call::Stage;
use crate::domain::offer::OfferStage;

/// The leg of an offer, as a listing shows it.
pub(super) fn seen_leg(offer: &str, agent: &str, call: &str, up: bool) -> SeenLeg {
    SeenLeg {
        leg: leg(offer),
        offer: name(offer),
        agent: name(agent),
        call: name(call),
        queue: name("sales"),
        up,
    }
}

pub(super) fn bridge(offer: &str, members: &[&str]) -> SeenBridge {
    SeenBridge { offer: name(offer), members: members.iter().map(|member| at(member)).collect() }
}

/// A caller's channel that has its place noted on it.
pub(super) fn marked(channel: &str, enqueued: EpochMs) -> SeenCaller {
    SeenCaller { enqueued: Some(enqueued), ..Scene::caller(channel, "sales", "0") }
}

/// To ask twice for the same thing does no harm: it counts as once.
pub(super) fn once(mut said: Vec<String>) -> Vec<String> {
    said.dedup();
    said
}

fn ready(agent: &str) -> [String; 1] {
    [format!("[{agent} ready]")]
}

#[test]
fn an_unknown_caller_with_a_note_is_in_the_old_place() {
    let mut s = Scene::new();
    s.enter("c2", "sales");
    let since = EpochMs(s.now.0 - 50_000);
    s.pass(5_000);
    let now = s.now;
    let c2 = marked("c2", EpochMs(1_000_000));
    assert_eq!(
        s.list("n1", vec![c2, marked("c1", since)], vec![], vec![]),
        ["[c1 waits in sales]", "attend c1"]
    );
    let call = s.controller.call(&name("c1")).unwrap();
    assert_eq!((call.enqueued, call.joined), (since, now));
    assert_eq!(s.login("ann")[3], "[7-1: c1 to ann]", "before the newer one");
}

#[test]
fn a_caller_for_whom_not_everything_was_done_is_cared_for_again() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let since = s.controller.call(&name("c1")).unwrap().enqueued;
    let attend = s.effects.last().unwrap().clone();
    let mut listed = |outcome| {
        s.tell(Input::Answered { effect: attend.clone(), outcome });
        s.list("n1", vec![marked("c1", since)], vec![], vec![])
    };
    assert_eq!(listed(Outcome::Done), [""; 0]);
    // The note may be one of before the caller was with an agent: it says nothing of how the caller fares since.
    for outcome in [Outcome::Unknown, Outcome::Refused] {
        assert_eq!(listed(outcome), ["attend c1"]);
    }
    assert_eq!(listed(Outcome::Done), [""; 0]);
}

#[test]
fn who_is_back_from_a_join_that_failed_is_cared_for_until_the_node_says_so() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let since = s.controller.call(&name("c1")).unwrap().enqueued;
    s.rings();
    s.leg_answered("7-1");
    for _ in 1..JOIN_TRIES {
        s.answer("join", Outcome::Refused);
        s.pass(AGAIN_MS);
    }
    let said = s.answer("join", Outcome::Refused);
    assert!(said.contains(&"attend c1".to_owned()), "{said:?}");
    let attend = s.effects.iter().find(|effect| matches!(effect, Effect::Attend(_))).unwrap().clone();
    // It is not sent while there is no connection, and nobody says so.
    let listed = |s: &mut Scene| s.list("n1", vec![marked("c1", since)], vec![], vec![]);
    assert!(listed(&mut s).contains(&"attend c1".to_owned()));
    s.tell(Input::Answered { effect: attend, outcome: Outcome::Done });
    assert!(!listed(&mut s).contains(&"attend c1".to_owned()));
}

#[test]
fn a_note_of_a_time_to_come_counts_as_now() {
    let mut s = Scene::new();
    let ahead = s.now + 60_000;
    s.list("n1", vec![marked("c1", ahead)], vec![], vec![]);
    assert_eq!(s.controller.call(&name("c1")).unwrap().enqueued, s.now);
}

#[test]
fn who_comes_later_stands_behind_also_while_time_stands_still_and_behind_notes_of_a_clock_that_ran_ahead() {
    let mut s = Scene::new();
    // By their ids alone the second would be the first.
    s.enter("c99", "sales");
    s.enter("c110", "sales");
    s.login("ann");
    assert!(matches!(s.stage("c99"), Some(Stage::Offered { .. })), "{:?}", s.stage("c99"));

    let mut s = Scene::new();
    let (first, then) = (marked("c99", s.now + 4_000), marked("c110", s.now + 5_000));
    s.list("n1", vec![then, first], vec![], vec![]);
    s.login("ann");
    assert!(matches!(s.stage("c99"), Some(Stage::Offered { .. })), "{:?}", s.stage("c99"));
}

#[test]
fn an_unknown_caller_with_a_note_is_let_into_a_full_queue_and_without_one_is_not() {
    let mut s = Scene::with(|setup| setup.queues.get_mut(&name("sales")).unwrap().waiting_max = 1);
    s.enter("c1", "sales");
    let c1 = || marked("c1", EpochMs(1_000_000));
    let c2 = marked("c2", EpochMs(999_000));
    assert_eq!(s.list("n1", vec![c1(), c2], vec![], vec![])[0], "[c2 waits in sales]");
    let c3 = Scene::caller("c3", "sales", "0");
    assert_eq!(s.list("n2", vec![c3], vec![], vec![]), ["[c3 full: busy]", "hang up c3 17"]);
    let mut lost = marked("c4", EpochMs(999_000));
    lost.queue = Some(name("nowhere"));
    assert_eq!(s.list("n2", vec![lost], vec![], vec![])[0], "[c4 no-queue: closed]");
}

#[test]
fn an_unknown_caller_without_a_note_comes_as_if_just_entered() {
    let mut s = Scene::new();
    s.login("ann");
    let said = s.list("n1", vec![Scene::caller("c1", "sales", "0")], vec![], vec![]);
    assert_eq!(said.last().unwrap(), "originate mqs-7-1 ann");
    assert_eq!(s.controller.call(&name("c1")).unwrap().enqueued, s.now);
}

#[test]
fn a_known_caller_whose_note_is_missing_or_wrong_is_cared_for_again() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let list = |s: &mut Scene, seen| s.list("n1", vec![seen], vec![], vec![]);
    assert_eq!(list(&mut s, Scene::caller("c1", "sales", "0")), ["attend c1"]);
    assert_eq!(list(&mut s, marked("c1", EpochMs(1_000_000))), [""; 0]);
    assert_eq!(list(&mut s, marked("c1", EpochMs(1_000_001))), ["attend c1"]);
    s.command(Command::Prioritize(name("c1"), name("5")));
    assert_eq!(list(&mut s, marked("c1", EpochMs(1_000_000))), ["attend c1"]);
    s.command(Command::Move(name("c1"), name("care")));
    let mut seen = marked("c1", EpochMs(1_000_000));
    seen.priority = name("5");
    assert_eq!(list(&mut s, seen), ["attend c1"]);
}

#[test]
fn a_caller_who_is_not_shown_is_gone_unless_too_young() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.enter("c2@n2", "sales");
    s.pass(GRACE_MS);
    assert_eq!(s.list("n1", vec![], vec![], vec![]), [""; 0], "it may have come after the question");
    s.pass(1);
    assert_eq!(s.list("n1", vec![], vec![], vec![]), ["[c1 unseen]"], "c2 is on another node");
    assert_eq!(s.controller.in_line(&name("sales")), 1);
}

#[test]
fn a_caller_who_was_shown_a_moment_ago_is_not_gone() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.pass(30_000);
    s.list("n1", vec![marked("c1", EpochMs(1_000_000))], vec![], vec![]);
    s.pass(GRACE_MS);
    assert_eq!(s.list("n1", vec![], vec![], vec![]), [""; 0]);
}

#[test]
fn a_listing_that_was_long_under_way_counts_from_its_question() {
    let mut s = Scene::new();
    let begun = s.now;
    s.pass(1_000);
    s.enter("c1", "sales");
    s.pass(60_000);
    let late = Listing { node: name("n1"), begun, callers: vec![], legs: vec![], bridges: vec![] };
    assert_eq!(s.tell(Input::Listing(late)), [""; 0]);
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
}

#[test]
fn whoever_has_hung_up_is_not_believed_to_be_there_by_an_older_listing() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leave("c1");
    s.leg_ended("7-1", LegEnd::Cancelled);
    let said = s.list(
        "n1",
        vec![marked("c1", EpochMs(1_000_000))],
        vec![seen_leg("7-1", "ann", "c1", false)],
        vec![],
    );
    assert_eq!(said, [""; 0]);
    assert_eq!(s.state("ann"), "ready");
    // Long after, it can only be there again.
    s.pass(GRACE_MS + 1);
    assert_eq!(
        s.list("n1", vec![marked("c1", EpochMs(1_000_000))], vec![], vec![])[0],
        "[c1 waits in sales]"
    );
}

#[test]
fn an_answer_that_nobody_heard_of_is_seen() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let c1 = || marked("c1", EpochMs(1_000_000));
    assert_eq!(
        s.list("n1", vec![c1()], vec![seen_leg("7-1", "ann", "c1", true)], vec![]),
        ["join c1 mqs-7-1"]
    );
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
}

#[test]
fn a_leg_that_is_shown_rings_even_if_its_node_has_not_said_so() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let c1 = || marked("c1", EpochMs(1_000_000));
    assert_eq!(s.list("n1", vec![c1()], vec![seen_leg("7-1", "ann", "c1", false)], vec![]), [""; 0]);
    let stage = &s.controller.offers().next().unwrap().stage;
    assert_eq!(stage, &OfferStage::Ringing { until: s.now + 15_000 });
    s.pass(1_000);
    // A second one does not let it ring for longer.
    s.list("n1", vec![c1()], vec![seen_leg("7-1", "ann", "c1", false)], vec![]);
    assert_eq!(s.pass(14_000)[0], "drop mqs-7-1");
}

#[test]
fn a_leg_that_is_not_shown_is_made_void_before_its_agent_is_free() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let c1 = || vec![marked("c1", EpochMs(1_000_000))];
    s.pass(GRACE_MS);
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0], "too young");
    s.pass(1);
    assert_eq!(
        s.list("n1", c1(), vec![], vec![]),
        ["drop mqs-7-1", "void mqs-7-1"],
        "the request for it may still be on its way"
    );
    assert!(s.changes.contains(&Change::Revoke(name("7-1"))));
    let void = s.effects.iter().find(|effect| effect_line(effect).starts_with("void")).unwrap().clone();
    assert_eq!(s.state("ann"), "offered");
    s.pass(1);
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0], "it is not known to be void yet");
    s.tell(Input::Answered { effect: void, outcome: Outcome::Unknown });
    assert_eq!(s.list("n1", c1(), vec![], vec![]), [""; 0], "the question is not younger than that");
    s.pass(1);
    assert_eq!(s.list("n1", c1(), vec![], vec![])[..2], ["[7-1 lost]", "[ann ready]"]);
}

#[test]
fn an_agent_who_is_not_shown_has_hung_up() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.pass(GRACE_MS + 1);
    assert_eq!(
        once(s.list("n1", vec![marked("c1", EpochMs(1_000_000))], vec![], vec![])),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"]
    );
}

#[test]
fn an_unknown_leg_is_dropped_and_its_agent_is_held_until_it_has_ended() {
    let mut s = Scene::new();
    s.login("ann");
    assert_eq!(
        s.list("n1", vec![], vec![seen_leg("6-9", "ann", "c9", false)], vec![]),
        ["[ann offered]", "drop mqs-6-9"]
    );
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    assert_eq!(s.pass(AGAIN_MS), ["void mqs-6-9"], "until it is seen to be done");
    assert_eq!(
        s.leg_ended("6-9", LegEnd::Cancelled)[..4],
        ["[6-9 lost]", "[ann ready]", "[ann offered]", "[7-1: c1 to ann]"]
    );
    assert_eq!(s.controller.agent(&name("ann")).unwrap().misses, 0);
}

#[test]
fn an_unknown_leg_of_whoever_has_another_claim_holds_the_agent_too() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let c1 = || vec![marked("c1", EpochMs(1_000_000))];
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("6-9", "ann", "c9", false)];
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    assert_eq!(s.list("n1", c1(), legs, both), ["drop mqs-6-9"]);
    assert_eq!(s.state("ann"), "talking");
    s.leg_ended("7-1", LegEnd::HungUp);
    s.leave("c1");
    s.pass(60_000);
    assert_eq!(s.enter("c2", "sales"), ["[c2 waits in sales]", "attend c2"], "one leg at a time");
    assert_eq!(s.leg_ended("6-9", LegEnd::Cancelled).last().unwrap(), "originate mqs-7-2 ann");
}

#[test]
fn two_who_talk_and_are_not_known_go_on() {
    let mut s = Scene::new();
    s.login("ann");
    assert_eq!(
        s.list(
            "n1",
            vec![marked("c1", EpochMs(999_000))],
            vec![seen_leg("6-9", "ann", "c1", true)],
            vec![bridge("6-9", &["c1", "mqs-6-9"])]
        ),
        ["[ann offered]", "join c1 mqs-6-9"],
        "the join does no harm, and tells whether they are together"
    );
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(s.leg_ended("6-9", LegEnd::HungUp)[0], "[6-9 taken]");
    assert_eq!(s.leave("c1"), ["[c1 agent-hung-up]"]);
}

#[test]
fn two_who_talk_of_whom_only_the_caller_is_known_go_on() {
    // The store has forgotten its last writes: to the new leader, c1 waits, and ann is ready.
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.tell(Input::Offering(false));
    s.login("ann");
    s.login("bob");
    assert_eq!(
        s.list(
            "n1",
            vec![marked("c1", EpochMs(1_000_000))],
            vec![seen_leg("6-9", "ann", "c1", true)],
            vec![bridge("6-9", &["c1", "mqs-6-9"])]
        ),
        ["[ann offered]", "join c1 mqs-6-9"]
    );
    assert_eq!(s.controller.in_line(&name("sales")), 0);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(s.tell(Input::Offering(true)), [""; 0], "it is offered to nobody else");
}

#[test]
fn a_phone_that_rings_for_a_call_that_is_with_an_agent_by_the_listing_is_dropped() {
    let mut s = Scene::new();
    s.login("bob");
    s.enter("c1", "sales");
    s.rings();
    s.command(Command::Login(name("ann")));
    let legs = vec![seen_leg("6-9", "ann", "c1", true), seen_leg("7-1", "bob", "c1", false)];
    let said =
        s.list("n1", vec![marked("c1", EpochMs(1_000_000))], legs, vec![bridge("6-9", &["c1", "mqs-6-9"])]);
    assert_eq!(said, ["[ann offered]", "drop mqs-7-1", "void mqs-7-1", "join c1 mqs-6-9"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::Cancelled), ["[7-1 withdrawn]", "[bob ready]"]);
    assert_eq!(s.stage("c1"), Some(&Stage::Connecting { offer: name("6-9") }));
}

#[test]
fn an_unknown_leg_alone_in_its_bridge_is_dropped_and_its_caller_waits() {
    let mut s = Scene::new();
    s.tell(Input::Offering(false));
    assert_eq!(
        s.list(
            "n1",
            vec![marked("c1", EpochMs(999_000))],
            vec![seen_leg("6-9", "ann", "c1", true)],
            vec![bridge("6-9", &["mqs-6-9"])]
        ),
        ["[ann offered]", "[c1 waits in sales]", "drop mqs-6-9", "attend c1"]
    );
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
}

#[test]
fn two_who_should_be_together_and_are_not_are_joined_again() {
    for bridges in
        [vec![], vec![bridge("7-1", &["mqs-7-1"])], vec![bridge("7-1", &["c1"])], vec![bridge("7-1", &[])]]
    {
        let mut s = Scene::new();
        s.login("ann");
        s.connect("c1", "7-1");
        let (c1, legs) = (marked("c1", EpochMs(1_000_000)), vec![seen_leg("7-1", "ann", "c1", true)]);
        assert_eq!(s.list("n1", vec![c1], legs, bridges.clone()), ["join c1 mqs-7-1"], "{bridges:?}");
        assert_eq!(s.state("ann"), "talking");
        assert_eq!(s.answer("join", Outcome::Done), [""; 0], "it is no other talk");
    }
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let (c1, legs) = (marked("c1", EpochMs(1_000_000)), vec![seen_leg("7-1", "ann", "c1", true)]);
    assert_eq!(s.list("n1", vec![c1], legs, vec![bridge("7-1", &["c1", "mqs-7-1"])]), [""; 0]);
}

#[test]
fn of_a_node_that_is_away_nothing_is_offered_and_nothing_forgotten() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.enter("c2", "sales");
    assert_eq!(s.tell(Input::NodeAway(name("n1"))), [""; 0]);
    assert_eq!(s.login("bob"), ["[bob ready]", "[Done]"]);
    assert_eq!(s.enter("c3@n2", "sales").last().unwrap(), "originate mqs-7-2 bob", "others go on");
    assert_eq!((s.state("ann"), s.stage("c2")), ("talking", Some(&Stage::Waiting)));
    s.rings();
    s.command(Command::Prioritize(name("c2"), name("9")));
    s.leave("c3");
    assert_eq!(
        s.leg_ended("7-2", LegEnd::Cancelled).last().unwrap(),
        "[bob ready]",
        "c2 cannot be asked for"
    );
    let said = s.list(
        "n1",
        vec![marked("c1", EpochMs(1_000_000)), marked("c2", EpochMs(1_000_000))],
        vec![seen_leg("7-1", "ann", "c1", true)],
        vec![bridge("7-1", &["c1", "mqs-7-1"])],
    );
    assert_eq!(said.last().unwrap(), "originate mqs-7-3 bob", "it is heard of again");
}

#[test]
fn two_who_are_being_joined_while_their_node_is_away_are_not_given_up() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    s.answer("join", Outcome::Unknown);
    s.tell(Input::NodeAway(name("n1")));
    assert_eq!(s.pass(60_000), [""; 0], "they may be talking");
    let legs = vec![seen_leg("7-1", "ann", "c1", true)];
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    let mut known = s;
    let said = known.list("n1", vec![marked("c1", EpochMs(1_000_000))], legs, both);
    assert_eq!(said, ["[ann talking]", "[c1 with ann]"], "they are");
    assert_eq!(known.pass(60_000), [""; 0]);
}

#[test]
fn the_calls_of_a_dead_node_are_over_and_its_agents_free() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    s.enter("c2", "sales");
    s.rings();
    s.enter("c3", "sales");
    s.enter("c4@n2", "sales");
    let mut said = s.tell(Input::NodeDead(name("n1")));
    said.retain(|line| line.starts_with('['));
    assert_eq!(
        said,
        [
            "[c1 node-lost]",
            "[c2 node-lost]",
            "[c3 node-lost]",
            "[7-1 taken]",
            "[ann wrap-up]",
            "[7-2 withdrawn]",
            "[bob ready]",
            "[bob offered]",
            "[7-3: c4 to bob]"
        ]
    );
    assert_eq!(s.controller.calls().count(), 1);
}

#[test]
fn a_node_that_was_reborn_is_another_one() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.tell(Input::NodeDead(name("n1")));
    s.pass(10_000);
    assert_eq!(s.state("ann"), "ready");
    assert_eq!(s.enter("c2", "sales"), ["[c2 waits in sales]", "attend c2"], "it has not been listed");
    let said = s.list("n1", vec![marked("c2", s.now)], vec![], vec![]);
    assert_eq!(said.last().unwrap(), "originate mqs-7-2 ann");
}

#[test]
fn a_node_that_was_called_dead_and_is_not_gives_its_calls_back() {
    for ms in [0, 1, GRACE_MS, GRACE_MS + 1] {
        let mut s = Scene::new();
        s.login("ann");
        s.connect("c1", "7-1");
        s.enter("c2", "sales");
        s.tell(Input::NodeDead(name("n1")));
        s.pass(ms);
        let said = s.list(
            "n1",
            vec![marked("c1", EpochMs(1_000_000)), marked("c2", EpochMs(1_000_000))],
            vec![seen_leg("7-1", "ann", "c1", true)],
            vec![bridge("7-1", &["c1", "mqs-7-1"])],
        );
        assert_eq!(said, ["[ann offered]", "[c2 waits in sales]", "join c1 mqs-7-1", "attend c2"], "{ms} ms");
        assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
        assert_eq!(s.controller.call(&name("c2")).unwrap().enqueued, EpochMs(1_000_000));
    }
}

#[test]
fn what_is_being_ended_is_finished_by_a_listing() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert!(s.leave("c1").contains(&"void mqs-7-1".to_owned()));
    s.answer("void", Outcome::Done);
    s.pass(GRACE_MS + 1);
    // It is still shown: no.
    s.list("n1", vec![], vec![seen_leg("7-1", "ann", "c1", false)], vec![]);
    assert!(matches!(s.controller.agent(&name("ann")).unwrap().state, AgentState::Offered { .. }));
    s.pass(GRACE_MS + 1);
    assert_eq!(s.list("n1", vec![], vec![], vec![])[1..], ready("ann"));
}
