//! Where calls end that no agent takes, and how those end that one has taken.

use super::*;
use crate::domain::call::{DoneReason, Stage};
use crate::domain::queue::{CAUSE_NO_WAY_OUT, HOPS_MAX};

fn with_sales(change: impl FnOnce(&mut QueueRules)) -> Scene {
    Scene::with(|setup| change(setup.queues.get_mut(&name("sales")).unwrap()))
}

/// Ends of queue `sales` for these reasons.
fn ends(rules: &mut QueueRules, to: &str) {
    rules.ends = TreatedFor::ALL.iter().map(|why| (*why, name(to))).collect();
}

fn call<'a>(s: &'a Scene, id: &str) -> &'a Call {
    s.controller.call(&name(id)).unwrap()
}

#[test]
fn a_full_queue_lets_nobody_in_and_one_who_rings_counts() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.enter("c2", "sales");
    s.enter("c3", "sales");
    assert_eq!(s.controller.in_line(&name("sales")), 3);
    assert_eq!(s.enter("c4", "sales"), ["[c4 full: busy]", "hang up c4 17"]);
    assert_eq!(s.enter("c5", "care"), ["[c5 waits in care]", "attend c5"], "the other one has room");
    s.leave("c2");
    assert_eq!(s.enter("c6", "sales"), ["[c6 waits in sales]", "attend c6"]);
    assert_eq!(s.leave("c4"), ["[c4 treated]"]);
}

#[test]
fn who_has_to_be_there_for_a_call_to_be_let_in() {
    for (join, offline, paused) in [
        (Presence::Any, "[c1 waits in sales]", "[c2 waits in sales]"),
        (Presence::LoggedIn, "[c1 join-empty: closed]", "[c2 waits in sales]"),
        (Presence::Unpaused, "[c1 join-empty: closed]", "[c2 join-empty: closed]"),
    ] {
        let mut s = with_sales(|rules| rules.join = join);
        assert_eq!(s.enter("c1", "sales")[0], offline, "{join:?}");
        s.login("ann");
        s.command(Command::Pause(name("ann"), "tea".into()));
        assert_eq!(s.enter("c2", "sales")[0], paused, "{join:?}");
        s.command(Command::Resume(name("ann")));
        assert_eq!(s.enter("c3", "sales")[0], "[c3 waits in sales]", "{join:?}");
    }
}

#[test]
fn an_agent_who_is_not_reached_is_there_all_the_same() {
    let mut s = with_sales(|rules| rules.join = Presence::Unpaused);
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
}

#[test]
fn the_last_one_to_log_out_empties_the_queue() {
    let mut s = with_sales(|rules| rules.stay = Presence::LoggedIn);
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    s.login("bob");
    s.enter("c1", "sales");
    s.enter("c2", "sales");
    s.enter("c3", "care");
    s.command(Command::Pause(name("ann"), "tea".into()));
    assert_eq!(s.command(Command::Logout(name("bob"))), ["[bob offline]", "[Done]"], "ann is there");
    assert_eq!(
        s.command(Command::Logout(name("ann"))),
        [
            "[ann offline]",
            "[c1 leave-empty: closed]",
            "[c2 leave-empty: closed]",
            "[Done]",
            "continue c1 closed",
            "continue c2 closed"
        ],
        "care lets its calls wait"
    );
}

#[test]
fn the_last_one_to_pause_empties_a_queue_that_wants_somebody_at_work() {
    let mut s = with_sales(|rules| rules.stay = Presence::Unpaused);
    s.tell(Input::Registered(vec![]));
    s.login("ann");
    s.enter("c1", "sales");
    let said = s.command(Command::Pause(name("ann"), "tea".into()));
    assert_eq!(said, ["[ann paused]", "[c1 leave-empty: closed]", "[Done]", "continue c1 closed"]);
}

#[test]
fn whose_phone_rings_stays_and_leaves_when_nobody_answers() {
    let mut s = with_sales(|rules| rules.stay = Presence::LoggedIn);
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.enter("c2", "sales");
    assert_eq!(
        s.command(Command::Logout(name("ann"))),
        ["[c2 leave-empty: closed]", "[Done]", "continue c2 closed"],
        "ann may answer yet"
    );
    assert_eq!(
        s.pass(15_000).iter().filter(|line| line.contains("c1")).collect::<Vec<_>>(),
        ["[c1 leave-empty: closed]", "continue c1 closed"],
        "nobody is there for it any more"
    );
    assert_eq!(s.leg_ended("7-1", LegEnd::Cancelled), ["[7-1 no-answer]", "[ann offline]"]);
}

#[test]
fn who_is_paused_for_missing_calls_empties_the_queue_too() {
    let mut s = Scene::with(|setup| {
        setup.queues.get_mut(&name("sales")).unwrap().stay = Presence::Unpaused;
        setup.agents.get_mut(&name("ann")).unwrap().misses_max = 1;
    });
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(
        s.leg_ended("7-1", LegEnd::Refused),
        ["[7-1 refused]", "[ann paused]", "[c1 leave-empty: closed]", "continue c1 closed"]
    );
}

#[test]
fn the_longest_wait_is_over_in_place() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    assert_eq!(s.pass(599_999), [""; 0]);
    assert_eq!(s.pass(1), ["[c1 longest-wait: voicemail]", "continue c1 voicemail"]);
    assert_eq!(s.controller.in_line(&name("sales")), 0);
    assert!(s.stage("c1").is_some(), "it is kept until it is seen to have left");
    assert_eq!(s.leave("c1"), ["[c1 treated]"]);
}

#[test]
fn a_phone_that_rings_when_the_longest_wait_is_over_is_let_ring() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.pass(590_000);
    s.login("ann");
    s.rings();
    assert_eq!(s.pass(14_999), [""; 0]);
    assert_eq!(
        s.pass(1),
        ["[c1 longest-wait: voicemail]", "drop mqs-7-1", "void mqs-7-1", "continue c1 voicemail"]
    );
    // And if the agent does answer, all is well.
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.pass(590_000);
    s.login("ann");
    s.rings();
    s.pass(14_000);
    assert_eq!(s.leg_answered("7-1"), ["join c1 mqs-7-1"]);
    assert_eq!(s.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    assert_eq!(s.pass(3_000_000), [""; 0]);
}

#[test]
fn a_call_is_offered_so_often_only() {
    let mut s = with_sales(|rules| (rules.offers_max, rules.pass_over_ms) = (2, 0));
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(s.leg_ended("7-1", LegEnd::Refused).last().unwrap(), "originate mqs-7-2 ann");
    s.rings();
    assert_eq!(
        s.leg_ended("7-2", LegEnd::Refused),
        ["[7-2 refused]", "[ann ready]", "[c1 exhausted: voicemail]", "continue c1 voicemail"]
    );
}

#[test]
fn offers_that_crash_end_in_a_treatment() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    for n in 1..CRASHES_MAX {
        let said = s.answer("originate", Outcome::Refused);
        assert_eq!(said[0], format!("[7-{n} lost]"));
        assert_eq!(said.last().unwrap(), &format!("originate mqs-7-{} ann", n + 1), "she has missed nothing");
    }
    assert_eq!(
        s.answer("originate", Outcome::Refused),
        ["[7-3 lost]", "[ann ready]", "[c1 exhausted: voicemail]", "continue c1 voicemail"]
    );
}

#[test]
fn joins_that_fail_are_crashes() {
    let mut s = with_sales(|rules| rules.pass_over_ms = 0);
    s.login("ann");
    s.enter("c1", "sales");
    for n in 1..=CRASHES_MAX {
        s.rings();
        s.leg_answered(&format!("7-{n}"));
        for _ in 1..JOIN_TRIES {
            s.answer("join", Outcome::Refused);
            s.pass(AGAIN_MS);
        }
        let said = s.answer("join", Outcome::Refused);
        assert_eq!(said.iter().any(|line| line == "[c1 exhausted: voicemail]"), n == CRASHES_MAX, "{n}");
        s.leg_ended(&format!("7-{n}"), LegEnd::HungUp);
    }
    assert!(matches!(s.stage("c1"), Some(Stage::Treated { .. })));
}

#[test]
fn crashes_are_counted_anew_after_an_overflow() {
    let mut s = with_sales(|rules| {
        rules.wait_max_ms = 60_000;
        ends(rules, "overflow");
    });
    s.login("ann");
    s.enter("c1", "sales");
    for _ in 1..CRASHES_MAX {
        s.answer("originate", Outcome::Gone);
    }
    assert_eq!(call(&s, "c1").crashes, CRASHES_MAX - 1);
    s.command(Command::Withdraw(name("c1"), name("overflow")));
    assert_eq!((call(&s, "c1").queue.as_str(), call(&s, "c1").crashes), ("care", 0));
    s.leg_ended(&format!("7-{CRASHES_MAX}"), LegEnd::Cancelled);
    for n in 1..=CRASHES_MAX {
        let said = s.answer("originate", Outcome::Gone);
        assert_eq!(said.iter().any(|line| line.starts_with("[c1 exhausted")), n == CRASHES_MAX, "{said:?}");
    }
}

#[test]
fn who_comes_to_stand_where_nobody_is_who_has_to_be_leaves_at_once() {
    let empty = || {
        Scene::with(|setup| {
            setup.queues.get_mut(&name("sales")).unwrap().stay = Presence::LoggedIn;
            setup.treatments.insert(name("to-sales"), Treatment::Overflow(name("sales")));
        })
    };
    let out = ["[c1 waits in sales]", "[c1 leave-empty: closed]", "attend c1", "continue c1 closed"];
    let without = |mut said: Vec<String>, word: &str| {
        said.retain(|line| !line.contains(word));
        said
    };
    // It comes in.
    let mut s = empty();
    assert_eq!(s.enter("c1", "sales"), out);
    // It is moved there, or flows over.
    let mut s = empty();
    s.enter("c1", "care");
    assert_eq!(without(s.command(Command::Move(name("c1"), name("sales"))), "[Done]"), out);
    let mut s = empty();
    s.enter("c1", "care");
    let said = s.command(Command::Withdraw(name("c1"), name("to-sales")));
    assert_eq!(without(without(said, "[Done]"), "asked"), out);
    // It is found there.
    let mut s = empty();
    let caller = reconcile::marked("c1", EpochMs(999_000));
    assert_eq!(reconcile::once(s.list("n1", vec![caller], vec![], vec![])), out);
    assert_eq!(s.controller.in_line(&name("sales")), 0);
}

#[test]
fn a_cause_is_the_same_until_the_caller_has_left() {
    let mut s = Scene::with(|setup| setup.last_resort = None);
    assert_eq!(s.enter("c1", "nowhere"), ["[c1 no-queue: last resort]", "hang up c1 42"]);
    let stage = Stage::Ending { reason: DoneReason::Treated, cause: CAUSE_NO_WAY_OUT };
    assert_eq!(s.stage("c1"), Some(&stage));
    assert_eq!(s.pass(AGAIN_MS), ["hang up c1 42"]);
    let mut new = restore::taken_over(&s);
    assert_eq!(new.list("n1", vec![Scene::caller("c1", "nowhere", "0")], vec![], vec![]), ["hang up c1 42"]);
}

#[test]
fn a_queue_that_nobody_knows_leads_to_the_last_resort() {
    let mut s = Scene::new();
    assert_eq!(s.enter("c1", "nowhere"), ["[c1 no-queue: closed]", "continue c1 closed"]);
    let mut nameless = Scene::caller("c2", "sales", "0");
    nameless.queue = None;
    assert_eq!(s.tell(Input::CallerEntered(nameless)), ["[c2 no-queue: closed]", "continue c2 closed"]);
}

#[test]
fn what_a_queue_does_not_say_the_last_resort_does_and_then_nobody() {
    let mut s = Scene::with(|setup| {
        let sales = setup.queues.get_mut(&name("sales")).unwrap();
        (sales.waiting_max, sales.ends) = (0, [].into());
    });
    assert_eq!(s.enter("c1", "sales"), ["[c1 full: closed]", "continue c1 closed"]);

    let mut s = Scene::with(|setup| {
        let sales = setup.queues.get_mut(&name("sales")).unwrap();
        (sales.waiting_max, sales.ends) = (0, [].into());
        setup.last_resort = None;
    });
    assert_eq!(s.enter("c1", "sales"), ["[c1 full: last resort]", "hang up c1 42"]);
    assert_eq!(s.leave("c1"), ["[c1 treated]"]);

    let mut s = Scene::with(|setup| {
        let sales = setup.queues.get_mut(&name("sales")).unwrap();
        sales.waiting_max = 0;
        ends(sales, "nothing-of-that-name");
    });
    assert_eq!(s.enter("c1", "sales"), ["[c1 full: closed]", "continue c1 closed"], "laid down no longer");
}

#[test]
fn an_overflow_keeps_time_and_priority() {
    let mut s = with_sales(|rules| {
        rules.wait_max_ms = 60_000;
        ends(rules, "overflow");
    });
    let since = s.now;
    s.tell(Input::CallerEntered(Scene::caller("c1", "sales", "7")));
    s.pass(30_000);
    s.enter("c2", "care");
    assert_eq!(s.pass(30_000), ["[c1 longest-wait: overflow]", "[c1 waits in care]", "attend c1"]);
    assert_eq!((call(&s, "c1").enqueued, call(&s, "c1").priority), (since, name("7")));
    assert_eq!(s.controller.in_line(&name("sales")), 0);
    // The longest wait of the new queue counts from now on.
    assert_eq!(s.pass(539_999), [""; 0]);
    assert_eq!(
        s.login("ann")[2..],
        ["[ann offered]", "[7-1: c1 to ann]", "originate mqs-7-1 ann"],
        "before c2, which came into this queue first"
    );
}

#[test]
fn a_call_in_overflow_leaves_its_old_line_in_the_store() {
    let mut s = with_sales(|rules| ends(rules, "overflow"));
    s.enter("c1", "sales");
    s.command(Command::Withdraw(name("c1"), name("overflow")));
    let mut order = Vec::new();
    for change in &s.changes {
        if let Change::Place { queue, .. } = change {
            order.push(format!("into {queue}"));
        } else if let Change::Leave { queue, .. } = change {
            order.push(format!("out of {queue}"));
        }
    }
    assert_eq!(order, ["out of sales", "into care"]);
}

#[test]
fn a_chain_of_overflows_has_an_end() {
    let mut s = Scene::with(|setup| {
        setup.treatments.insert(name("back"), Treatment::Overflow(name("sales")));
        for (queue, to) in [("sales", "overflow"), ("care", "back")] {
            let rules = setup.queues.get_mut(&name(queue)).unwrap();
            rules.waiting_max = 0;
            ends(rules, to);
        }
    });
    let said = s.enter("c1", "sales");
    assert_eq!(said.len(), usize::from(HOPS_MAX) + 2, "{said:?}");
    assert_eq!(said.last().unwrap(), "hang up c1 42");
    assert_eq!(call(&s, "c1").hops, HOPS_MAX);
}

#[test]
fn an_overflow_to_nowhere_leads_to_the_last_resort() {
    let mut s = with_sales(|rules| {
        rules.waiting_max = 0;
        ends(rules, "lost");
    });
    let mut setup = s.setup.clone();
    setup.treatments.insert(name("lost"), Treatment::Overflow(name("nowhere")));
    s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(s.enter("c1", "sales"), ["[c1 full: lost]", "[c1 no-queue: closed]", "continue c1 closed"]);
}

#[test]
fn a_treatment_is_asked_for_until_the_caller_has_left() {
    let mut s = with_sales(|rules| rules.waiting_max = 0);
    s.enter("c1", "sales");
    assert_eq!(s.pass(AGAIN_MS), ["hang up c1 17"], "with the cause that it has");
    s.answer("hang up", Outcome::Unknown);
    assert_eq!(s.pass(AGAIN_MS), ["hang up c1 17"]);
    s.enter("c2", "nowhere");
    assert_eq!(s.pass(AGAIN_MS - 1), [""; 0]);
    let mut said = s.pass(1);
    said.sort();
    assert_eq!(said, ["continue c2 closed", "hang up c1 17"]);
    // The caller is still in the application: nothing else is to be done than what is done.
    assert_eq!(s.enter("c2", "nowhere"), [""; 0]);
    assert_eq!(s.leave("c2"), ["[c2 treated]"]);
    assert_eq!(s.leave("c1"), ["[c1 treated]"]);
    assert_eq!(s.pass(60_000), [""; 0]);
}

#[test]
fn a_treatment_that_is_taken_away_meanwhile_becomes_a_hang_up() {
    let mut s = Scene::new();
    s.enter("c1", "nowhere");
    let mut setup = s.setup.clone();
    setup.treatments.remove(&name("closed"));
    assert_eq!(s.tell(Input::Setup(Arc::new(setup))), [""; 0]);
    assert_eq!(s.pass(AGAIN_MS), [format!("hang up c1 {CAUSE_NO_WAY_OUT}")]);
}

#[test]
fn somebody_sends_a_call_to_a_treatment() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    assert_eq!(
        s.command(Command::Withdraw(name("c1"), name("voicemail"))),
        ["[c1 asked: voicemail]", "[Done]", "drop mqs-7-1", "void mqs-7-1", "continue c1 voicemail"]
    );
    assert_eq!(s.command(Command::Withdraw(name("c1"), name("voicemail"))), ["[TooLate]"]);
    assert_eq!(s.leg_answered("7-1"), ["drop mqs-7-1"], "too late for the agent, too");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 withdrawn]", "[ann ready]"]);
    assert_eq!(s.command(Command::Withdraw(name("c9"), name("voicemail"))), ["[NoCall]"]);
    s.enter("c2", "care");
    assert_eq!(s.command(Command::Withdraw(name("c2"), name("nothing"))), ["[NoTreatment]"]);
}

#[test]
fn an_agent_who_hangs_up_takes_the_caller_along_until_it_is_seen() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    assert!(s.leg_ended("7-1", LegEnd::HungUp).contains(&"hang up c1 16".to_owned()));
    assert_eq!(s.stage("c1"), Some(&Stage::Ending { reason: DoneReason::AgentHungUp, cause: 16 }));
    assert_eq!(s.pass(AGAIN_MS), ["hang up c1 16"]);
    assert_eq!(s.answer("hang up", Outcome::Gone), [""; 0]);
    assert_eq!(s.pass(AGAIN_MS), ["hang up c1 16"]);
    assert_eq!(s.leave("c1"), ["[c1 agent-hung-up]"]);
    assert_eq!(s.pass(AGAIN_MS), ["[ann ready]"]);
}

#[test]
fn a_caller_who_hangs_up_takes_the_agent_along_until_it_is_seen() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    assert_eq!(s.leave("c1"), ["[c1 caller-hung-up]", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.state("ann"), "talking");
    assert_eq!(s.pass(AGAIN_MS), ["void mqs-7-1"]);
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 taken]", "[ann wrap-up]"]);
}

#[test]
fn a_caller_who_hangs_up_while_being_joined_has_abandoned() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    let join = s.effects[0].clone();
    assert_eq!(s.leave("c1"), ["[c1 abandoned]", "drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(s.tell(Input::Answered { effect: join, outcome: Outcome::Done }), [""; 0], "too late");
    assert_eq!(s.leg_ended("7-1", LegEnd::HungUp), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn who_calls_again_is_another_call() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.leave("c1");
    assert_eq!(s.leave("c1"), [""; 0], "it is told once");
    s.pass(1_000);
    let now = s.now;
    assert_eq!(s.enter("c1", "sales"), ["[c1 waits in sales]", "attend c1"]);
    assert_eq!(call(&s, "c1").enqueued, now);
}

#[test]
fn a_queue_says_where_its_callers_go_when_it_is_taken_away() {
    let mut s = Scene::with(|setup| {
        let mut rules = queue_rules();
        rules.ends.insert(TreatedFor::NoQueue, name("voicemail"));
        setup.queues.insert(name("sales"), rules);
    });
    s.enter("c1", "sales");
    s.setup.queues.remove(&name("sales"));
    let setup = Arc::new(s.setup.clone());
    assert_eq!(s.tell(Input::Setup(setup)), ["[c1 no-queue: voicemail]", "continue c1 voicemail"]);
    assert_eq!(
        s.enter("c2", "sales"),
        ["[c2 no-queue: closed]", "continue c2 closed"],
        "it did not wait there"
    );
}
