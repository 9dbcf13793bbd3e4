//! Agents: what they ask for, and who is asked.

use super::*;
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::Stage;

fn pause(agent: &str, reason: &str) -> Command {
    Command::Pause(name(agent), reason.into())
}

fn then(s: &Scene, agent: &str) -> Option<Then> {
    let state = &s.controller.agent(&name(agent)).unwrap().state;
    if let AgentState::Offered { then, .. } | AgentState::Talking { then, .. } = state {
        Some(then.clone())
    } else {
        None
    }
}

/// One scene for each state in which an agent can be: its word, and ann in it.
fn ann_in(state: &str) -> Scene {
    let mut s = Scene::new();
    if state != "offline" {
        s.login("ann");
    }
    match state {
        "paused" => _ = s.command(pause("ann", "tea")),
        "offered" => _ = s.enter("c1", "sales"),
        "talking" => s.connect("c1", "7-1"),
        "wrap-up" => {
            s.connect("c1", "7-1");
            s.leg_ended("7-1", LegEnd::HungUp);
            s.leave("c1");
        }
        _ => {}
    }
    assert_eq!(s.state("ann"), state);
    s
}

#[test]
fn every_command_in_every_state() {
    let (ann, tea) = (|| name("ann"), || pause("ann", "tea"));
    let key = || Command::TogglePause(name("ann"), "phone".into());
    for (state, command, said, after, comes_then) in [
        ("offline", Command::Login(ann()), Said::Done, "ready", None),
        ("ready", Command::Login(ann()), Said::Already, "ready", None),
        ("offered", Command::Login(ann()), Said::Already, "offered", Some(Then::Ready)),
        ("talking", Command::Login(ann()), Said::Already, "talking", Some(Then::Ready)),
        ("wrap-up", Command::Login(ann()), Said::Already, "wrap-up", None),
        ("paused", Command::Login(ann()), Said::Already, "paused", None),
        ("offline", Command::Logout(ann()), Said::Already, "offline", None),
        ("ready", Command::Logout(ann()), Said::Done, "offline", None),
        ("offered", Command::Logout(ann()), Said::Done, "offered", Some(Then::Leave)),
        ("talking", Command::Logout(ann()), Said::Done, "talking", Some(Then::Leave)),
        ("wrap-up", Command::Logout(ann()), Said::Done, "offline", None),
        ("paused", Command::Logout(ann()), Said::Done, "offline", None),
        ("offline", Command::Toggle(ann()), Said::Done, "ready", None),
        ("ready", Command::Toggle(ann()), Said::Done, "offline", None),
        ("talking", Command::Toggle(ann()), Said::Done, "talking", Some(Then::Leave)),
        ("paused", Command::Toggle(ann()), Said::Done, "offline", None),
        ("offline", tea(), Said::LoggedOut, "offline", None),
        ("ready", tea(), Said::Done, "paused", None),
        ("offered", tea(), Said::Done, "offered", Some(Then::Pause { reason: "tea".into() })),
        ("talking", tea(), Said::Done, "talking", Some(Then::Pause { reason: "tea".into() })),
        ("wrap-up", tea(), Said::Done, "paused", None),
        ("paused", tea(), Said::Already, "paused", None),
        ("paused", pause("ann", "lunch"), Said::Done, "paused", None),
        ("offline", Command::Resume(ann()), Said::LoggedOut, "offline", None),
        ("ready", Command::Resume(ann()), Said::Already, "ready", None),
        ("offered", Command::Resume(ann()), Said::Already, "offered", Some(Then::Ready)),
        ("talking", Command::Resume(ann()), Said::Already, "talking", Some(Then::Ready)),
        ("wrap-up", Command::Resume(ann()), Said::Done, "ready", None),
        ("paused", Command::Resume(ann()), Said::Done, "ready", None),
        ("offline", key(), Said::LoggedOut, "offline", None),
        ("ready", key(), Said::Done, "paused", None),
        ("talking", key(), Said::Done, "talking", Some(Then::Pause { reason: "phone".into() })),
        ("wrap-up", key(), Said::Done, "paused", None),
        ("paused", key(), Said::Done, "ready", None),
    ] {
        let mut s = ann_in(state);
        let lines = s.command(command.clone());
        assert!(lines.contains(&format!("[{said:?}]")), "{state} {command:?}: {lines:?}");
        assert_eq!(s.state("ann"), after, "{state} {command:?}");
        assert_eq!(then(&s, "ann"), comes_then, "{state} {command:?}");
        // What is told is written.
        let written = s.changes.iter().any(|change| matches!(change, Change::Agent(_)));
        assert_eq!(written, said == Said::Done, "{state} {command:?}");
    }
}

#[test]
fn who_is_nobody() {
    let mut s = Scene::new();
    let cat = || name("cat");
    for command in [
        Command::Login(cat()),
        Command::Logout(cat()),
        Command::Toggle(cat()),
        pause("cat", "tea"),
        Command::Resume(cat()),
        Command::TogglePause(cat(), "tea".into()),
    ] {
        assert_eq!(s.command(command), ["[NoAgent]"]);
    }
    assert_eq!(s.tell(Input::Malformed { key: "k".into() }), ["[Malformed]"]);
}

#[test]
fn during_a_call_the_last_word_counts() {
    for state in ["offered", "talking"] {
        let mut s = ann_in(state);
        s.command(pause("ann", "tea"));
        assert_eq!(s.command(pause("ann", "tea")), ["[Already]"]);
        assert_eq!(s.command(Command::Login(name("ann"))), ["[Already]"], "paused is logged in");
        assert_eq!(s.command(Command::Resume(name("ann"))), ["[Done]"]);
        assert_eq!(then(&s, "ann"), Some(Then::Ready));
        assert_eq!(s.command(Command::Logout(name("ann"))), ["[Done]"]);
        assert_eq!(s.command(Command::Logout(name("ann"))), ["[Already]"]);
        assert_eq!(s.command(pause("ann", "tea")), ["[LoggedOut]"]);
        assert_eq!(s.command(Command::Resume(name("ann"))), ["[LoggedOut]"]);
        assert_eq!(s.command(Command::Toggle(name("ann"))), ["[Done]"], "comes back");
        assert_eq!(then(&s, "ann"), Some(Then::Ready));
    }
}

#[test]
fn what_was_asked_for_during_a_call_comes_after_it() {
    let mut s = ann_in("talking");
    s.command(pause("ann", "tea"));
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[..2], ["[7-1 taken]", "[ann paused]"], "no wrap-up");
    let mut s = ann_in("talking");
    s.command(Command::Logout(name("ann")));
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[..2], ["[7-1 taken]", "[ann offline]"]);
    let mut s = ann_in("offered");
    s.rings();
    s.command(pause("ann", "tea"));
    assert_eq!(s.leg_answered("7-1"), ["join c1 mqs-7-1"], "she takes this one");
    assert_eq!(s.answer("join", Outcome::Done)[0], "[ann talking]");
    assert_eq!(then(&s, "ann"), Some(Then::Pause { reason: "tea".into() }));
}

#[test]
fn nobody_is_asked_who_rests_after_a_call() {
    let mut s = ann_in("wrap-up");
    assert_eq!(s.enter("c2", "sales"), ["[c2 waits in sales]", "attend c2"]);
    assert_eq!(s.pass(4_999), [""; 0]);
    assert_eq!(s.pass(1)[0], "[ann ready]");
    assert_eq!(s.state("ann"), "offered");
    // An agent may have a rest of their own, or none.
    for (own, state) in [(Some(9_000), "wrap-up"), (Some(0), "ready")] {
        let mut s = Scene::with(|setup| setup.agents.get_mut(&name("ann")).unwrap().wrap_up_ms = own);
        s.login("ann");
        s.connect("c1", "7-1");
        s.leg_ended("7-1", LegEnd::HungUp);
        assert_eq!(s.state("ann"), state);
        s.leave("c1");
        s.pass(8_999);
        assert_eq!(s.state("ann"), state);
        s.pass(1);
        assert_eq!(s.state("ann"), "ready");
    }
}

#[test]
fn an_agents_own_ring_time_counts() {
    let mut s = Scene::with(|setup| setup.agents.get_mut(&name("ann")).unwrap().ring_ms = Some(7_000));
    s.login("ann");
    s.enter("c1", "sales");
    let Some(Effect::Originate(originate)) = s.effects.last() else { panic!("{:?}", s.effects) };
    assert_eq!(originate.ring_ms, 7_000);
    s.rings();
    assert_eq!(s.pass(6_999), [""; 0]);
    assert_eq!(s.pass(1)[0], "drop mqs-7-1");
}

#[test]
fn who_is_idle_for_the_longest_time_is_asked_first() {
    let mut s = Scene::new();
    s.login("bob");
    s.pass(1_000);
    s.login("ann");
    s.connect("c1", "7-1");
    assert_eq!((s.state("bob"), s.state("ann")), ("talking", "ready"));
    s.leg_ended("7-1", LegEnd::HungUp);
    s.leave("c1");
    s.pass(5_000);
    assert_eq!(s.enter("c2", "sales").last().unwrap(), "originate mqs-7-2 ann", "bob has had one since");
}

#[test]
fn a_pause_begins_the_idle_time_anew_and_a_missed_call_does_not() {
    let mut s = Scene::new();
    s.login("ann");
    s.pass(1_000);
    s.login("bob");
    s.enter("c1", "sales");
    s.rings();
    s.leave("c1");
    s.leg_ended("7-1", LegEnd::Cancelled);
    assert_eq!(s.enter("c2", "sales").last().unwrap(), "originate mqs-7-2 ann");
    s.rings();
    s.leave("c2");
    s.leg_ended("7-2", LegEnd::Cancelled);
    s.pass(1_000);
    s.command(pause("ann", "tea"));
    s.command(Command::Resume(name("ann")));
    assert_eq!(s.enter("c3", "sales").last().unwrap(), "originate mqs-7-3 bob");
}

#[test]
fn calls_taken_are_counted_where_they_waited() {
    let mut s = Scene::with(|setup| _ = setup.queues.insert(name("sales"), by(Strategy::FewestCalls)));
    s.login("ann");
    s.connect("c1", "7-1");
    s.leg_ended("7-1", LegEnd::HungUp);
    s.leave("c1");
    s.pass(5_000);
    let taken = &s.controller.agent(&name("ann")).unwrap().taken;
    assert_eq!(taken, &[(name("sales"), 1)].into());
    s.pass(10_000);
    s.login("bob");
    assert_eq!(s.enter("c2", "sales").last().unwrap(), "originate mqs-7-2 bob");
}

#[test]
fn the_higher_priority_comes_first_then_the_earlier() {
    let mut s = Scene::new();
    for (channel, priority) in [("c1", "0"), ("c2", "5"), ("c3", "5")] {
        s.tell(Input::CallerEntered(Scene::caller(channel, "sales", priority)));
        s.pass(10);
    }
    assert_eq!(s.login("ann").last().unwrap(), "originate mqs-7-1 ann");
    assert_eq!(s.stage("c2"), Some(&Stage::Offered { offers: [name("7-1")].into() }));
    s.rings();
    // c2 comes back, and is before c3 again.
    s.pass(15_000);
    s.leg_ended("7-1", LegEnd::Cancelled);
    assert!(matches!(s.stage("c3"), Some(Stage::Offered { .. })), "c2 passes ann over");
    s.login("bob");
    assert!(matches!(s.stage("c2"), Some(Stage::Offered { .. })), "before c1, which waits for longer");
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
}

#[test]
fn a_call_that_comes_back_stands_before_those_that_came_later() {
    let mut s = with_pass_over(0);
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.pass(10);
    s.enter("c2", "sales");
    s.pass(14_990);
    assert_eq!(s.leg_ended("7-1", LegEnd::Cancelled)[3], "[7-2: c1 to ann]");
}

fn with_pass_over(ms: u64) -> Scene {
    Scene::with(|setup| setup.queues.get_mut(&name("sales")).unwrap().pass_over_ms = ms)
}

#[test]
fn somebody_moves_a_call() {
    let mut s = Scene::new();
    let since = s.now;
    s.enter("c1", "sales");
    s.pass(60_000);
    assert_eq!(
        s.command(Command::Move(name("c1"), name("care"))),
        ["[c1 waits in care]", "[Done]", "attend c1"]
    );
    let call = s.controller.call(&name("c1")).unwrap();
    assert_eq!((call.enqueued, call.joined, &call.queue), (since, s.now, &name("care")));
    assert_eq!((s.controller.in_line(&name("sales")), s.controller.in_line(&name("care"))), (0, 1));
    let places: Vec<_> = s.changes.iter().filter(|c| matches!(c, Change::Place { .. })).collect();
    let leaves: Vec<_> = s.changes.iter().filter(|c| matches!(c, Change::Leave { .. })).collect();
    assert_eq!((places.len(), leaves.len()), (1, 1));
    assert_eq!(s.command(Command::Move(name("c1"), name("care"))), ["[Already]"]);
    assert_eq!(s.command(Command::Move(name("c1"), name("nowhere"))), ["[NoQueue]"]);
    assert_eq!(s.command(Command::Move(name("c9"), name("care"))), ["[NoCall]"]);
    s.login("ann");
    s.rings();
    assert_eq!(
        s.command(Command::Move(name("c1"), name("sales"))),
        ["[c1 waits in sales]", "[Done]", "drop mqs-7-1", "void mqs-7-1", "attend c1"],
        "the phone rang for the other queue"
    );
    assert_eq!(
        s.leg_ended("7-1", LegEnd::Cancelled)[2..],
        ["[ann offered]", "[7-2: c1 to ann]", "originate mqs-7-2 ann"]
    );
    s.rings();
    s.leg_answered("7-2");
    assert_eq!(s.command(Command::Move(name("c1"), name("care"))), ["[TooLate]"]);
}

#[test]
fn somebody_gives_a_call_another_priority() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.pass(10);
    s.enter("c2", "sales");
    assert_eq!(
        s.command(Command::Prioritize(name("c2"), name("9"))),
        ["[Done]", "attend c2"],
        "it is noted on the channel"
    );
    let placed = |change: &Change| matches!(change, Change::Place { priority, .. } if *priority == name("9"));
    assert!(s.changes.iter().any(placed));
    assert_eq!(s.command(Command::Prioritize(name("c2"), name("9"))), ["[Already]"]);
    assert_eq!(s.command(Command::Prioritize(name("c9"), name("9"))), ["[NoCall]"]);
    assert_eq!(s.login("ann")[3], "[7-1: c2 to ann]");
    s.rings();
    // While the phone rings: it stays where it rings, and has its new place if it comes back.
    assert_eq!(s.command(Command::Prioritize(name("c2"), name("0"))), ["[Done]", "attend c2"]);
    s.leg_answered("7-1");
    assert_eq!(s.command(Command::Prioritize(name("c2"), name("3"))), ["[TooLate]"]);
}

#[test]
fn an_agent_who_is_taken_away_while_talking_ends_the_call_first() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let mut setup = s.setup.clone();
    setup.agents.remove(&name("ann"));
    assert_eq!(s.tell(Input::Setup(Arc::new(setup.clone()))), [""; 0]);
    assert_eq!(s.state("ann"), "talking");
    assert_eq!(
        s.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 taken]", "[ann offline]", "drop mqs-7-1", "hang up c1 16"]
    );
    assert_eq!(s.controller.agent(&name("ann")), None);
    assert!(s.changes.contains(&Change::AgentGone(name("ann"))));
    assert_eq!(s.login("ann"), ["[NoAgent]"]);
    // Taken away and laid down again meanwhile: as if nothing had been.
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let whole = Arc::new(s.setup.clone());
    s.tell(Input::Setup(Arc::new(setup)));
    s.tell(Input::Setup(whole));
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[1], "[ann wrap-up]");
}

#[test]
fn an_agent_who_is_taken_away_is_asked_no_more_and_may_empty_a_queue() {
    let mut s = Scene::with(|setup| {
        setup.queues.get_mut(&name("sales")).unwrap().stay = Presence::LoggedIn;
    });
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    s.enter("c1", "sales");
    let mut setup = s.setup.clone();
    setup.agents.remove(&name("ann"));
    assert_eq!(
        s.tell(Input::Setup(Arc::new(setup))),
        ["[ann offline]", "[c1 leave-empty: closed]", "continue c1 closed"]
    );
    assert_eq!(s.changes[0], Change::AgentGone(name("ann")));
}

#[test]
fn a_queue_that_is_taken_away_lets_its_calls_go() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.enter("c2", "sales");
    s.enter("c3", "care");
    s.login("bob");
    s.rings();
    let mut setup = s.setup.clone();
    setup.queues.remove(&name("sales"));
    assert_eq!(
        s.tell(Input::Setup(Arc::new(setup))),
        ["[c2 no-queue: closed]", "drop mqs-7-2", "void mqs-7-2", "continue c2 closed"],
        "c1 talks on"
    );
    assert_eq!(s.stage("c3"), Some(&Stage::Waiting));
    assert_eq!(s.leg_ended("7-2", LegEnd::Cancelled).last().unwrap(), "originate mqs-7-3 bob");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp)[..2], ["[7-1 taken]", "[ann ready]"], "nobody says: rest");
}

#[test]
fn a_new_agent_and_changed_rules_count_at_once() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let mut setup = s.setup.clone();
    setup.agents.insert(name("cat"), agent_rules("cat", &["sales"]));
    s.tell(Input::Setup(Arc::new(setup.clone())));
    let cat = Registered { aor: "cat@example.com".into(), proxy: name("k1"), at: s.now };
    s.tell(Input::Registered(vec![cat]));
    assert_eq!(s.login("cat").last().unwrap(), "originate mqs-7-1 cat");
    // The longest wait becomes shorter than this one is: the phone is let ring, another call goes.
    s.rings();
    s.enter("c2", "sales");
    s.pass(10_000);
    setup.queues.get_mut(&name("sales")).unwrap().wait_max_ms = 5_000;
    s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(s.pass(0), ["[c2 longest-wait: voicemail]", "continue c2 voicemail"]);
    assert!(matches!(s.stage("c1"), Some(Stage::Offered { .. })));
}

#[test]
fn a_membership_that_is_added_brings_calls_at_once() {
    let mut s = Scene::with(|setup| _ = setup.agents.insert(name("ann"), agent_rules("ann", &["care"])));
    s.login("ann");
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    let mut setup = s.setup.clone();
    setup.agents.insert(name("ann"), agent_rules("ann", &["care", "sales"]));
    assert_eq!(s.tell(Input::Setup(Arc::new(setup))).last().unwrap(), "originate mqs-7-1 ann");
}

#[test]
fn wishes_are_asked_of_agents() {
    let mut s = Scene::with(|setup| setup.agents.get_mut(&name("bob")).unwrap().skills = skills(&["dutch"]));
    s.login("ann");
    let mut caller = Scene::caller("c1", "sales", "0");
    caller.wishes = skills(&["dutch"]);
    assert_eq!(s.tell(Input::CallerEntered(caller)), ["[c1 waits in sales]", "attend c1"]);
    assert_eq!(s.login("bob").last().unwrap(), "originate mqs-7-1 bob");
}

#[test]
fn a_phone_at_two_kamailios_rings_through_the_later_one() {
    let mut s = Scene::new();
    let at =
        |proxy: &str, at| Registered { aor: "ann@example.com".into(), proxy: name(proxy), at: EpochMs(at) };
    s.tell(Input::Registered(vec![at("k1", 999_000), at("k2", 999_500)]));
    s.login("ann");
    s.enter("c1", "sales");
    let Some(Effect::Originate(originate)) = s.effects.last() else { panic!("{:?}", s.effects) };
    assert_eq!(originate.proxy, name("k2"));
    s.rings();
    s.leave("c1");
    s.leg_ended("7-1", LegEnd::Cancelled);
    s.tell(Input::Registered(vec![at("k2", 999_500), at("k1", 999_900)]));
    s.enter("c2", "sales");
    let Some(Effect::Originate(originate)) = s.effects.last() else { panic!("{:?}", s.effects) };
    assert_eq!(originate.proxy, name("k1"), "it has moved");
}

#[test]
fn who_has_no_phone_is_not_asked() {
    let mut s = Scene::new();
    s.login("ann");
    s.tell(Input::Registered(vec![]));
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    let ann = Registered { aor: "ann@example.com".into(), proxy: name("k1"), at: s.now };
    assert_eq!(s.tell(Input::Registered(vec![ann])).last().unwrap(), "originate mqs-7-1 ann");
}

#[test]
fn of_several_queues_weight_comes_before_priority_before_wait() {
    let weighs = |weight| {
        Scene::with(move |setup| {
            let memberships = &mut setup.agents.get_mut(&name("ann")).unwrap().memberships;
            memberships.insert(name("care"), Membership { penalty: 0, weight });
        })
    };
    let fill = |s: &mut Scene| {
        s.enter("c1", "sales");
        s.pass(10);
        s.tell(Input::CallerEntered(Scene::caller("c2", "sales", "5")));
        s.pass(10);
        s.enter("c3", "care");
    };
    let mut s = weighs(1);
    fill(&mut s);
    assert_eq!(s.login("ann")[3], "[7-1: c3 to ann]", "the weight");
    let mut s = weighs(0);
    fill(&mut s);
    assert_eq!(s.login("ann")[3], "[7-1: c2 to ann]", "the priority");
    let mut s = weighs(0);
    s.enter("c2", "care");
    s.pass(10);
    s.enter("c1", "sales");
    assert_eq!(s.login("ann")[3], "[7-1: c2 to ann]", "the wait");
}

#[test]
fn with_all_rung_each_who_misses_is_passed_over() {
    let mut s = Scene::with(|setup| _ = setup.queues.insert(name("sales"), by(Strategy::RingAll)));
    s.login("ann");
    s.login("bob");
    s.enter("c1", "sales");
    for effect in s.effects.clone() {
        s.tell(Input::Answered { effect, outcome: Outcome::Done });
    }
    assert_eq!(s.leg_ended("7-1", LegEnd::Refused), ["[7-1 refused]", "[ann ready]"]);
    assert_eq!(
        s.leg_ended("7-2", LegEnd::Refused),
        ["[7-2 refused]", "[bob ready]"],
        "neither of them wanted it a moment ago"
    );
    assert_eq!(s.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(s.pass(29_999), [""; 0]);
    assert_eq!(s.pass(1).iter().filter(|line| line.starts_with("originate")).count(), 2);
}
