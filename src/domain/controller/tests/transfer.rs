//! Transfers: blind to a queue, an agent, a number; into the place of a call that the agent has made before.

use super::*;
use crate::domain::agent::AgentState;
use crate::domain::offer::OfferStage;

/// c1 is with ann; bob is ready.
fn talking() -> Scene {
    let mut s = Scene::with(|setup| {
        setup.numbers = [("7100".into(), name("care"))].into();
        setup.numbers_by = Some(name("voicemail"));
    });
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    s
}

fn refer(s: &mut Scene, offer: &str, to: To) -> Vec<String> {
    s.tell(Input::Transfer(Transfer { offer: name(offer), leg: leg(offer), to }))
}

/// Where `of` is, which talks to `with`.
fn place(of: &str, with: Option<&str>) -> To {
    To::Place { of: name(of), with: with.map(name) }
}

fn dial(s: &mut Scene, to: &str) -> Vec<String> {
    refer(s, "7-1", To::Dialled(to.into()))
}

#[test]
fn to_a_queue_the_caller_waits_there_and_the_agent_is_free_when_the_phone_hangs_up() {
    let mut s = talking();
    s.command(Command::Pause(name("bob"), "lunch".into()));
    s.pass(60_000);
    let said = dial(&mut s, "7100");
    assert_eq!(said, ["[c1 to queue care]", "[c1 waits in care]", "attend c1", "tell mqs-7-1 Answered"]);
    // No longer that of the talk.
    let [Effect::Attend(attend), _] = s.effects.as_slice() else { panic!("{:?}", s.effects) };
    assert_eq!(attend.ends_after_ms, 600_000 + 15_000 + 10_000 + 60_000);
    let call = s.controller.call(&name("c1")).unwrap().clone();
    assert_eq!((call.queue, call.enqueued, call.stage), (name("care"), s.now, Stage::Waiting));
    assert_eq!(s.state("ann"), "talking");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 transferred]", "[ann wrap-up]", "drop mqs-7-1"]);
    assert_eq!(s.pass(29_000), ["[ann ready]"], "she has just passed it on");
    assert_eq!(s.pass(1_000), ["[ann offered]", "[7-2: c1 to ann]", "originate mqs-7-2 ann"]);
}

#[test]
fn what_the_phone_is_told_waits_for_the_commit_and_its_leg_is_dropped_only_if_it_stays() {
    let mut s = talking();
    dial(&mut s, "care");
    let told = s.effects.iter().find(|effect| matches!(effect, Effect::Tell { .. })).unwrap();
    assert_eq!(told.class(), Class::Claim);
    assert!(s.effects.iter().all(|effect| !matches!(effect, Effect::DropLeg { .. })));
    assert_eq!(s.pass(2_000), ["void mqs-7-1"]);
}

#[test]
fn a_listing_from_before_brings_the_two_not_together_again() {
    use super::reconcile::{bridge, marked, seen_leg};
    let mut s = talking();
    s.command(Command::Pause(name("bob"), "lunch".into()));
    dial(&mut s, "care");
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    let callers = vec![marked("c1", s.now)];
    let said = s.list("n1", callers, vec![seen_leg("7-1", "ann", "c1", true)], both);
    assert!(said.contains(&"attend c1".to_owned()), "{said:?}");
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
}

#[test]
fn to_an_agent_the_two_talk_on_until_the_other_answers() {
    let mut s = talking();
    let said = dial(&mut s, "bob");
    let offered = ["[bob offered]", "[7-2: c1 to bob]", "originate mqs-7-2 bob", "tell mqs-7-1 Rings"];
    assert_eq!(said, offered);
    assert!(matches!(s.stage("c1"), Some(Stage::Connected { .. })));
    s.rings();
    assert_eq!(dial(&mut s, "care"), ["tell mqs-7-1 Declined"], "one at a time");
    assert_eq!(s.leg_answered("7-2"), ["[c1 to agent bob]", "join c1 mqs-7-2", "tell mqs-7-1 Answered"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[bob talking]", "[c1 passed on to bob]"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 transferred]", "[ann wrap-up]", "drop mqs-7-1"]);
    assert_eq!(s.leave("c1"), ["[c1 caller-hung-up]", "drop mqs-7-2", "void mqs-7-2"]);
}

#[test]
fn an_agent_who_does_not_take_it_leaves_the_two_together() {
    for (how, end) in
        [(LegEnd::Busy, "busy"), (LegEnd::Refused, "refused"), (LegEnd::Unreachable, "unreachable")]
    {
        let mut s = talking();
        dial(&mut s, "bob");
        s.rings();
        let said = s.leg_ended("7-2", how);
        assert_eq!(said, [format!("[7-2 {end}]"), "[bob ready]".into(), "tell mqs-7-1 Unavailable".into()]);
        assert!(matches!(s.stage("c1"), Some(Stage::Connected { .. })));
        assert_eq!(s.state("ann"), "talking");
        assert_eq!(s.leave("c1")[0], "[c1 caller-hung-up]");
    }
    let mut s = talking();
    dial(&mut s, "bob");
    s.rings();
    let said = s.pass(15_000);
    assert_eq!(said, ["drop mqs-7-2", "void mqs-7-2", "tell mqs-7-1 Unavailable"], "nobody has answered");
}

#[test]
fn an_agent_who_is_not_ready_is_not_called() {
    for who in ["ann", "bob"] {
        let mut s = talking();
        s.command(Command::Pause(name("bob"), "lunch".into()));
        assert_eq!(dial(&mut s, who), ["tell mqs-7-1 Unavailable"]);
        assert!(matches!(s.stage("c1"), Some(Stage::Connected { .. })));
    }
}

#[test]
fn a_phone_that_hangs_up_at_once_leaves_the_caller_to_the_other_and_to_the_queue_after_that() {
    let mut s = talking();
    dial(&mut s, "bob");
    s.rings();
    let said = s.leg_ended("7-1", LegEnd::HungUp);
    let left = ["[c1 to agent bob]", "[7-1 transferred]", "[ann wrap-up]", "drop mqs-7-1", "attend c1"];
    assert_eq!(said, left);
    assert!(matches!(s.stage("c1"), Some(Stage::Offered { .. })));
    s.pass(5_000);
    assert_eq!(s.state("ann"), "ready");
    let said = s.leg_ended("7-2", LegEnd::Refused);
    let next = ["[7-2 refused]", "[bob ready]", "[ann offered]", "[7-3: c1 to ann]", "originate mqs-7-3 ann"];
    assert_eq!(said, next);
}

#[test]
fn a_caller_who_hangs_up_ends_both() {
    let mut s = talking();
    dial(&mut s, "bob");
    s.rings();
    let said = s.leave("c1");
    assert_eq!(said, ["[c1 caller-hung-up]", "drop mqs-7-1", "void mqs-7-1", "drop mqs-7-2", "void mqs-7-2"]);
}

#[test]
fn to_a_number_the_caller_leaves_by_the_dialplan() {
    let mut s = talking();
    let said = dial(&mut s, "+49301234");
    let gone = ["[c1 to number +49301234]", "[c1 transferred: voicemail]", "continue c1 +49301234"];
    assert_eq!(said, gone);
    assert_eq!(s.pass(2_000), ["continue c1 +49301234", "void mqs-7-1"], "until it is seen to have left");
    assert_eq!(s.leave("c1"), ["[c1 treated]", "tell mqs-7-1 Answered"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[0], "[7-1 transferred]");
}

#[test]
fn to_whom_the_agent_has_called_by_the_dialplan_the_caller_goes_by_it_too() {
    let mut s = talking();
    let said = refer(&mut s, "7-1", place("x8", Some("x9")));
    assert_eq!(said, ["[c1 to place of x8]", "[c1 transferred: voicemail]", "continue c1 takex9"]);
    assert_eq!(s.leave("c1"), ["[c1 treated]", "tell mqs-7-1 Answered"], "now its own call may end");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[0], "[7-1 transferred]");

    let mut s = talking();
    assert_eq!(refer(&mut s, "7-1", place("x8", None)), ["tell mqs-7-1 Declined"], "nobody has answered it");
    s.setup.numbers_by = None;
    let setup = Arc::new(s.setup.clone());
    s.tell(Input::Setup(setup));
    assert_eq!(refer(&mut s, "7-1", place("x8", Some("x9"))), ["tell mqs-7-1 Declined"]);
}

#[test]
fn two_whom_an_earlier_leader_has_joined_stay_so() {
    use super::reconcile::{bridge, marked, seen_leg};
    let mut s = talking();
    dial(&mut s, "bob");
    s.rings();
    // The leader has joined c1 and bob, and has told nobody.
    let legs = || vec![seen_leg("7-1", "ann", "c1", true), seen_leg("7-2", "bob", "c1", true)];
    let both = vec![bridge("7-1", &["mqs-7-1"]), bridge("7-2", &["c1", "mqs-7-2"])];
    let callers = vec![marked("c1", s.now)];
    let said = s.list("n1", callers, legs(), both);
    assert_eq!(said, ["[c1 to agent bob]", "join c1 mqs-7-2", "tell mqs-7-1 Answered"]);
    assert!(matches!(s.stage("c1"), Some(Stage::Connecting { .. })));
    assert_eq!(s.answer("join", Outcome::Done), ["[bob talking]", "[c1 passed on to bob]"]);
}

#[test]
fn nowhere_is_declined_and_nothing_changes() {
    let mut s = talking();
    for to in ["", "nobody", "12 34", "+1234567890123456789012345678901234", "a\u{1}b"] {
        assert_eq!(dial(&mut s, to), ["tell mqs-7-1 Declined"], "{to}");
    }
    assert_eq!(refer(&mut s, "7-1", To::Elsewhere), ["tell mqs-7-1 Declined"]);
    assert_eq!(refer(&mut s, "7-1", place("c9", None)), ["tell mqs-7-1 Declined"]);
    assert_eq!(refer(&mut s, "7-1", place("c1", None)), ["tell mqs-7-1 Declined"], "it is there");
    assert_eq!(refer(&mut s, "7-9", To::Dialled("care".into())), ["tell mqs-7-9 Declined"]);
    assert!(matches!(s.stage("c1"), Some(Stage::Connected { .. })));
    s.setup.numbers_by = None;
    let setup = Arc::new(s.setup.clone());
    s.tell(Input::Setup(setup));
    assert_eq!(dial(&mut s, "110"), ["tell mqs-7-1 Declined"], "only where the configuration lets it");
}

#[test]
fn the_caller_takes_the_place_of_the_call_that_the_agent_made_to_ask() {
    let mut s = talking();
    s.connect("c2", "7-2");
    s.pass(1_000);
    let said = refer(&mut s, "7-1", place("c2", Some("mqs-7-2")));
    assert_eq!(said, ["[c1 to call c2]", "hang up c2 16", "join c1 mqs-7-2", "tell mqs-7-1 Answered"]);
    assert!(s.effects.iter().all(|effect| effect.class() == Class::Claim), "a later leader would part them");
    assert_eq!(s.answer("join", Outcome::Done), ["[c1 passed on to bob]"]);
    assert_eq!(s.leave("c2"), ["[c2 transferred]"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[0], "[7-1 transferred]");
    let bob = s.controller.agent(&name("bob")).unwrap().state.clone();
    assert!(matches!(bob, AgentState::Talking { .. }), "{bob:?}");
    let offer = s.controller.find_offer(&name("7-2")).unwrap().clone();
    assert_eq!((offer.call, matches!(offer.stage, OfferStage::Joined { .. })), (name("c1"), true));
    assert_eq!(s.leg_ended("7-2", LegEnd::HungUp)[0], "[7-2 taken]");
}

#[test]
fn where_nobody_has_answered_yet_the_caller_waits_in_the_place_of_the_other() {
    let mut s = talking();
    s.command(Command::Pause(name("bob"), "lunch".into()));
    s.tell(Input::CallerEntered(Scene::caller("c2", "care", "7")));
    let since = s.controller.call(&name("c2")).unwrap().enqueued;
    s.pass(20_000);
    let said = refer(&mut s, "7-1", place("c2", Some("mqs-7-2")));
    assert_eq!(said.last().unwrap(), "tell mqs-7-1 Answered");
    assert!(said.contains(&"hang up c2 16".to_owned()), "{said:?}");
    let call = s.controller.call(&name("c1")).unwrap();
    assert_eq!((call.queue.as_str(), call.priority.get(), call.enqueued), ("care", 7, since));
    assert_eq!(s.leave("c2"), ["[c2 transferred]"]);
    assert_eq!(s.controller.in_line(&name("care")), 1);
}

#[test]
fn the_place_in_a_full_line_is_free_for_the_caller() {
    let mut s = talking();
    s.command(Command::Pause(name("bob"), "lunch".into()));
    for call in ["c2", "c3", "c4"] {
        s.enter(call, "care");
    }
    let said = refer(&mut s, "7-1", place("c4", None));
    let all =
        ["[c1 to call c4]", "[c1 waits in care]", "hang up c4 16", "attend c1", "tell mqs-7-1 Answered"];
    assert_eq!(said, all);
    assert_eq!(s.controller.in_line(&name("care")), 3);
}

#[test]
fn an_agent_in_a_call_of_their_own_or_without_a_phone_is_not_called() {
    let mut s = talking();
    let (aor, call) = ("bob@example.com".into(), "x".into());
    s.command(Command::OwnCallBegan { aor, call, proxy: name("k1") });
    assert_eq!(dial(&mut s, "bob"), ["tell mqs-7-1 Unavailable"]);
    let mut s = talking();
    s.tell(Input::Registered(Vec::new()));
    assert_eq!(dial(&mut s, "bob"), ["tell mqs-7-1 Unavailable"]);
}

#[test]
fn a_name_goes_before_an_address_and_an_address_of_two_is_nobodys() {
    let other = |setup: &mut Setup| {
        let aor = "bob@elsewhere.example".into();
        setup.agents.insert(name("al"), AgentRules { aor, ..agent_rules("al", &["sales"]) });
    };
    let mut s = Scene::with(other);
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    assert_eq!(dial(&mut s, "bob")[0], "[bob offered]");

    let mut s = Scene::with(|setup| {
        other(setup);
        let bob = setup.agents.remove(&name("bob")).unwrap();
        setup.agents.insert(name("robert"), bob);
    });
    s.login("ann");
    s.connect("c1", "7-1");
    assert_eq!(dial(&mut s, "bob"), ["tell mqs-7-1 Declined"]);
}

#[test]
fn whose_join_fails_is_the_first_of_the_line_and_has_time() {
    let mut s = Scene::with(|setup| {
        let rules = QueueRules { wait_max_ms: 60_000, offers_max: 1, ..queue_rules() };
        setup.queues.insert(name("sales"), rules);
    });
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    s.pass(120_000);
    dial(&mut s, "bob");
    s.rings();
    s.leg_answered("7-2");
    s.leg_ended("7-2", LegEnd::HungUp);
    s.command(Command::Pause(name("bob"), "lunch".into()));
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    s.pass(59_999);
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(s.pass(1)[..2], ["[c1 longest-wait: voicemail]", "continue c1 voicemail"]);
}
