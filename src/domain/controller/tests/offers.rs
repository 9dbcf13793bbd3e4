use super::*;
use crate::domain::call::Stage;

#[test]
fn a_caller_waits_is_offered_is_joined_and_the_agent_hangs_up() {
    let mut s = Scene::new();
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    assert_eq!(
        s.login("ann"),
        ["[ann ready]", "[Done]", "[ann offered]", "[7-1: c1 to ann]", "originate mqs-7-1 ann"]
    );
    assert_eq!(s.rings(), [""; 0]);
    assert_eq!(s.leg_answered("7-1"), ["join c1 mqs-7-1"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(
        s.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"],
        "the agent has hung up, the bridge is not needed any more, and the caller is not left alone"
    );
    assert_eq!(s.leave("c1"), ["[c1 agent-hung-up]"]);
    assert_eq!(s.pass(5_000), ["[ann ready]"]);
    assert_eq!(s.controller.calls().count() + s.controller.offers().count(), 0);
}

#[test]
fn what_the_store_is_told_comes_before_what_is_promised() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.controller.handle(Input::Command { key: Arc::from("k"), command: Command::Login(name("ann")) }, s.now);
    let mut seen = Vec::new();
    while let Some(output) = s.controller.next_output() {
        seen.push(match output {
            Output::Change(Change::Offer(_)) => "offer",
            Output::Change(Change::Issue(_)) => "token",
            Output::Change(Change::Agent(_)) => "agent",
            Output::Change(Change::Call(_)) => "call",
            Output::Change(Change::Event(_)) => continue,
            Output::Change(_) => "other",
            Output::Effect(effect) if effect.class() == Class::Claim => "claim",
            Output::Effect(_) => "free",
        });
    }
    assert_eq!(seen, ["token", "offer", "agent", "call", "claim"]);
}

#[test]
fn the_caller_hangs_up_while_the_phone_rings() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.login("ann");
    s.rings();
    assert_eq!(s.leave("c1"), ["[c1 abandoned]", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(
        s.enter("c2", "sales"),
        ["[c2 waits in sales]", "attend c2"],
        "the leg's end was not seen yet"
    );
    assert_eq!(s.state("ann"), "offered");
    assert_eq!(
        s.leg_ended("7-1", LegEnd::Cancelled),
        ["[7-1 withdrawn]", "[ann ready]", "[ann offered]", "[7-2: c2 to ann]", "originate mqs-7-2 ann"]
    );
}

#[test]
fn an_answer_that_crosses_the_callers_end_is_hung_up() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.login("ann");
    s.rings();
    s.leave("c1");
    assert_eq!(s.leg_answered("7-1"), ["drop mqs-7-1"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn nobody_answers_the_call_goes_to_the_next_agent_with_its_time() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let since = s.controller.call(&name("c1")).unwrap().enqueued;
    s.rings();
    assert_eq!(s.pass(14_999), [""; 0]);
    assert_eq!(s.pass(1), ["drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(s.controller.call(&name("c1")).unwrap().enqueued, since);
    assert_eq!(
        s.leg_ended("7-1", LegEnd::Cancelled),
        ["[7-1 no-answer]", "[ann ready]"],
        "it passes ann over"
    );
    assert_eq!(s.login("bob").last().unwrap(), "originate mqs-7-2 bob");
}

#[test]
fn a_call_passes_an_agent_over_for_a_while_only() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_ended("7-1", LegEnd::Refused);
    assert_eq!(s.enter("c2", "sales").last().unwrap(), "originate mqs-7-2 ann", "others do not");
    s.rings();
    s.leave("c2");
    s.leg_ended("7-2", LegEnd::Cancelled);
    assert_eq!(s.pass(29_999), [""; 0]);
    assert_eq!(s.pass(1).last().unwrap(), "originate mqs-7-3 ann");
}

#[test]
fn the_ends_of_a_leg_are_told_apart() {
    for (how, said, state, again_ms) in [
        (LegEnd::Busy, "[7-1 busy]", "ready", Some(BUSY_REST_MS)),
        (LegEnd::Refused, "[7-1 refused]", "ready", Some(0)),
        (LegEnd::Unreachable, "[7-1 unreachable]", "ready", Some(UNREACHABLE_REST_MS)),
        (LegEnd::Unregistered, "[7-1 unregistered]", "ready", None),
        (LegEnd::Fenced, "[7-1 fenced]", "ready", Some(FENCED_REST_MS)),
        (LegEnd::Cancelled, "[7-1 no-answer]", "ready", Some(0)),
    ] {
        let mut s = Scene::new();
        s.login("ann");
        s.enter("c1", "sales");
        s.rings();
        let line = s.leg_ended("7-1", how);
        assert_eq!(line[0], said);
        assert_eq!(line[1..], [format!("[ann {state}]")], "{how:?}: nobody is asked again at once");
        // The first call may pass her over; another one shows when she is asked again.
        let asked = s.enter("c2", "sales").last().unwrap().starts_with("originate");
        assert_eq!(asked, again_ms == Some(0), "{how:?}");
        if let Some(ms) = again_ms.filter(|ms| *ms > 0) {
            assert_eq!(s.pass(ms - 1), [""; 0], "{how:?}");
            assert!(s.pass(1).last().unwrap().starts_with("originate"), "{how:?}");
        }
    }
}

#[test]
fn an_unregistered_phone_rings_again_when_it_has_registered_again() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_ended("7-1", LegEnd::Unregistered);
    s.pass(60_000);
    let registered =
        |at| Input::Registered(vec![Registered { aor: Arc::from("ann@example.com"), proxy: name("k2"), at }]);
    assert_eq!(s.tell(registered(EpochMs(999_000))), [""; 0], "an old one says nothing new");
    assert_eq!(s.tell(registered(s.now)).last().unwrap(), "originate mqs-7-2 ann");
    let Some(Effect::Originate(originate)) = s.effects.first() else { panic!("{:?}", s.effects) };
    assert_eq!(originate.proxy, name("k2"), "through the Kamailio that has the registration");
}

#[test]
fn who_misses_too_often_is_paused() {
    let mut s = Scene::new();
    s.login("ann");
    for n in 1..=3 {
        s.enter(&format!("c{n}"), "sales");
        s.rings();
        s.leg_ended(&format!("7-{n}"), LegEnd::Cancelled);
    }
    assert_eq!(s.state("ann"), "paused");
    assert_eq!(s.command(Command::Resume(name("ann"))).last().unwrap(), "[Done]");
    assert_eq!(s.state("ann"), "ready");
}

#[test]
fn all_are_rung_the_first_has_it_and_the_others_are_free_when_their_legs_have_ended() {
    let mut s = Scene::with(|setup| _ = setup.queues.insert(name("sales"), by(Strategy::RingAll)));
    s.login("ann");
    s.login("bob");
    let said = s.enter("c1", "sales");
    assert_eq!(said[said.len() - 3..], ["attend c1", "originate mqs-7-1 ann", "originate mqs-7-2 bob"]);
    for effect in s.effects.clone() {
        s.tell(Input::Answered { effect, outcome: Outcome::Done });
    }
    assert_eq!(s.leg_answered("7-1"), ["join c1 mqs-7-1", "drop mqs-7-2", "void mqs-7-2"]);
    assert_eq!(s.controller.call(&name("c1")).unwrap().tries, 1, "ringing all counts as one");
    assert_eq!(s.state("bob"), "offered");
    assert_eq!(s.leg_ended("7-2", LegEnd::Cancelled), ["[7-2 superseded]", "[bob ready]"]);
    assert_eq!(s.stage("c1"), Some(&Stage::Connecting { offer: name("7-1") }));
}

#[test]
fn two_answers_at_once_one_is_joined() {
    let mut s = Scene::with(|setup| _ = setup.queues.insert(name("sales"), by(Strategy::RingAll)));
    s.login("ann");
    s.login("bob");
    s.enter("c1", "sales");
    for effect in s.effects.clone() {
        s.tell(Input::Answered { effect, outcome: Outcome::Done });
    }
    assert_eq!(s.leg_answered("7-2"), ["join c1 mqs-7-2", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.leg_answered("7-1"), ["drop mqs-7-1"], "too late");
    assert_eq!(s.state("ann"), "offered");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 superseded]", "[ann ready]"]);
}

#[test]
fn a_join_that_fails_is_tried_again_and_then_the_call_is_back_in_its_place() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    for no in [Outcome::Refused, Outcome::Gone] {
        assert_eq!(s.answer("join", no), [""; 0]);
        assert_eq!(s.pass(AGAIN_MS), ["join c1 mqs-7-1"]);
    }
    assert_eq!(s.answer("join", Outcome::Gone), ["drop mqs-7-1", "void mqs-7-1", "attend c1"]);
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 join-failed]", "[ann ready]"]);
}

#[test]
fn a_join_that_may_have_been_done_is_tried_until_it_is_known() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    s.answer("join", Outcome::Refused);
    for _ in 0..10 {
        assert_eq!(s.pass(AGAIN_MS), ["join c1 mqs-7-1"]);
        assert_eq!(s.answer("join", Outcome::Unknown), [""; 0], "they may talk");
    }
    assert_eq!(s.controller.call(&name("c1")).unwrap().crashes, 0);
    // Those ten count for nothing: of three that are refused this is the second.
    s.pass(AGAIN_MS);
    assert_eq!(s.answer("join", Outcome::Gone), [""; 0]);
    assert_eq!(s.pass(AGAIN_MS), ["join c1 mqs-7-1"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(s.pass(60_000), [""; 0]);
}

#[test]
fn a_bridge_is_deleted_when_the_leg_has_ended_that_was_in_it_or_about_to_be() {
    // Being joined.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    assert_eq!(
        s.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 join-failed]", "[ann ready]", "drop mqs-7-1", "attend c1"]
    );
    let drop = s.effects.iter().find(|effect| effect_line(effect).starts_with("drop"));
    assert_eq!(drop.map(Effect::class), Some(Class::Free), "nobody is promised anything");
    // Who was never to be joined has no bridge.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(s.leg_ended("7-1", LegEnd::Refused), ["[7-1 refused]", "[ann ready]"]);
    // The one who hangs up is the caller: it has been asked for then.
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    assert_eq!(s.leave("c1"), ["[c1 caller-hung-up]", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 taken]", "[ann wrap-up]"]);
}

#[test]
fn an_agent_is_free_only_when_the_leg_was_seen_to_end_or_can_never_ring() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    // No answer: it may have been made.
    s.answer("originate", Outcome::Unknown);
    s.leave("c1");
    // Before the token is void, "there is no such leg" says nothing of what is still on its way.
    s.answer("drop", Outcome::Gone);
    assert_eq!(s.state("ann"), "offered");
    assert_eq!(s.pass(AGAIN_MS), ["void mqs-7-1"], "it is asked again until it is known");
    assert_eq!(s.answer("void", Outcome::Unknown), [""; 0]);
    assert_eq!(s.state("ann"), "offered");
    s.pass(AGAIN_MS);
    assert_eq!(s.answer("void", Outcome::Gone), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn an_offer_that_was_never_sent_leaves_no_trace() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let originate =
        s.effects.iter().find(|effect| effect_line(effect).starts_with("originate")).unwrap().clone();
    assert!(s.controller.wants(&originate));
    s.leave("c1");
    assert!(!s.controller.wants(&originate), "the caller has hung up before the store had answered");
    assert_eq!(s.tell(Input::Unsent(originate)), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn an_offer_that_was_never_sent_counts_against_nobody() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let originate = s.effects.last().unwrap().clone();
    s.tell(Input::Offering(false));
    assert_eq!(s.tell(Input::Unsent(originate)), ["[7-1 withdrawn]", "[ann ready]"], "nobody has left");
    assert!(s.changes.contains(&Change::Revoke(name("7-1"))));
    let call = s.controller.call(&name("c1")).unwrap();
    assert_eq!((call.crashes, &call.avoid, &call.stage), (0, &Default::default(), &Stage::Waiting));
    assert_eq!(s.tell(Input::Offering(true)).last().unwrap(), "originate mqs-7-2 ann", "at once");
}

#[test]
fn a_leg_that_nobody_knows_is_hung_up() {
    let mut s = Scene::new();
    assert_eq!(s.leg_answered("6-9"), ["drop mqs-6-9"]);
}

#[test]
fn an_answer_of_another_channel_joins_nobody() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let leg = Channel { node: name("n2"), id: name("mqs-7-1") };
    let said = s.tell(Input::LegAnswered { offer: name("7-1"), leg });
    assert_eq!((said, s.state("ann")), (vec!["drop mqs-7-1".to_owned()], "offered"));
}
