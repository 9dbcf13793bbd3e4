//! A leader that is not sure to be one: it may have stood still, and another one may lead. Nothing that it believes to be
//! overdue is done, and what an event calls for waits until the connection has shown that it is its node's only one.

use super::*;

/// Ann's phone rings for c1, for 15 s from 10,000 on.
fn ringing() -> Scene {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Done));
    s.acted("originate", Outcome::Done);
    s.committed(Some(Committed::Done));
    s
}

/// As [`Scene::at_work`], and then the process stands still until its right is not sure any more.
fn unsure() -> Scene {
    let mut s = Scene::at_work();
    s.now = Mono(10_000 + SURE_MS);
    s
}

fn sent(s: &Scene, word: &str) -> usize {
    let is = |o: &&Output| matches!(o, Output::Act { effect, .. } if effect_line(effect).starts_with(word));
    s.log.iter().filter(is).count()
}

#[test]
fn time_stands_still_for_who_is_not_sure() {
    let mut s = ringing();
    s.pass(60_000);
    assert_eq!(sent(&s, "drop"), 0, "it has rung long enough, if nobody has answered another leader's");
    s.tell(Input::Tick);
    s.registered();
    assert_eq!(sent(&s, "drop"), 0);
    s.led(None);
    s.pass(RETRY_MS);
    let said = s.led(yours(7));
    assert!(said.contains(&"drop mqs-7-1".to_owned()), "it has led all the time: {said:?}");
    assert_eq!(s.last_right(), Right::Until(s.now.after(SURE_MS)));
}

#[test]
fn who_is_sure_lets_time_pass() {
    let mut s = ringing();
    for _ in 0..15 {
        s.pass(RENEW_MS);
        s.led(yours(7));
    }
    assert_eq!(sent(&s, "drop"), 1);
}

#[test]
fn what_an_event_calls_for_waits_for_its_connection_to_answer() {
    let mut s = unsure();
    let said = s.enter("c1");
    assert_eq!((said[0].starts_with("commit"), &said[1..]), (true, &["probe n1".to_owned()][..]));
    assert_eq!(s.probed(), ["attend c1"]);
    assert_eq!(s.last_right(), Right::Linked(Link(1)));
    assert!(s.pilot.may_send(Right::Linked(Link(1)), s.now));
    assert_eq!(s.probed(), [""; 0], "once");
    // The next one asks anew.
    assert_eq!(s.enter("c2"), ["probe n1"]);
    assert_eq!(s.probed(), ["attend c2"]);
}

#[test]
fn what_comes_after_the_question_waits_for_the_next_answer() {
    let mut s = unsure();
    s.enter("c1");
    assert_eq!(s.enter("c2"), [""; 0], "one question at a time");
    assert_eq!(s.enter("c3"), [""; 0]);
    assert_eq!(s.probed(), ["attend c1", "probe n1"], "the answer is older than the others");
    let mut others = s.probed();
    others.extend(s.probed());
    others.retain(|line| line != "probe n1");
    assert_eq!(others, ["attend c2", "attend c3"]);
    // It has become sure meanwhile: nothing more is to be asked.
    let mut s = unsure();
    s.enter("c1");
    s.enter("c2");
    s.renewed(7);
    assert_eq!(s.enter("c3"), ["attend c3"]);
    assert_eq!(s.probed(), ["attend c1", "attend c2"]);
    assert_eq!(s.last_right(), Right::Until(s.now.after(SURE_MS)));
}

#[test]
fn an_answer_to_another_question_is_none() {
    let mut s = unsure();
    s.enter("c1");
    assert_eq!(s.tell(Input::Probed(Ask(9_999))), [""; 0]);
    assert_eq!(s.probed(), ["attend c1"]);
}

#[test]
fn what_waits_is_not_done_over_another_connection() {
    for (gone, said) in [
        (Input::NodeReplaced(name("n1"), Link(1)), &["disconnect n1"][..]),
        (Input::NodeDown(name("n1"), Link(1)), &[]),
        (Input::NodeUp(name("n1"), Link(2)), &["list n1"]),
    ] {
        let mut s = unsure();
        s.enter("c1");
        s.enter("c2");
        assert_eq!(s.tell(gone.clone()), said, "{gone:?}");
        assert_eq!(s.probed(), [""; 0], "{gone:?}");
        assert_eq!(sent(&s, "attend"), 0, "{gone:?}");
        s.tell(Input::NodeUp(name("n1"), Link(3)));
        assert_eq!(s.probed(), [""; 0], "{gone:?}");
        // And it does not stand in the way of what comes over the new one.
        assert_eq!(s.event(3, Happened::CallerEntered(caller("c3", "sales"))), ["probe n1"], "{gone:?}");
        assert_eq!(s.probed(), ["attend c3"], "{gone:?}");
    }
}

#[test]
fn an_answer_that_was_heard_too_late_joins_nobody() {
    let mut s = ringing();
    // It stands still for ten minutes; another one leads. Then it hears what was sent to it before it was replaced.
    s.now = s.now.after(600_000);
    let leg = at("mqs-7-1");
    let said = s.event(1, Happened::LegAnswered { offer: name("7-1"), leg });
    assert_eq!(
        said.iter().filter(|line| !line.starts_with("commit")).collect::<Vec<_>>(),
        ["probe n1", "list n1"]
    );
    let before = s.log.len();
    assert_eq!(s.tell(Input::NodeReplaced(name("n1"), Link(1))), ["disconnect n1"]);
    assert_eq!(s.probed(), [""; 0]);
    assert_eq!(s.pass(60_000), [""; 0]);
    s.committed(Some(Committed::Done));
    assert!(!s.log[before..].iter().any(|o| matches!(o, Output::Act { .. })), "{:?}", &s.log[before..]);
    assert_eq!(sent(&s, "join"), 0);
    assert_eq!(s.committed(Some(Committed::Fenced { epoch: 8 })), [""; 0]);
}

#[test]
fn what_no_event_calls_for_has_no_right_while_it_is_not_sure() {
    let mut s = Scene::at_work();
    s.pass(30_000);
    let (until, before) = (Mono(10_000 + SURE_MS), s.log.len());
    s.listed("n1", vec![caller("c1", "sales")]);
    let right = |o: &Output| if let Output::Act { right, .. } = o { Some(*right) } else { None };
    let rights: Vec<Right> = s.log[before..].iter().filter_map(right).collect();
    assert_eq!(rights, [Right::Until(until)]);
    assert!(!s.pilot.may_send(rights[0], s.now));
}
