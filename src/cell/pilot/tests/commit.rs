//! First it is written, then it is done; and what becomes of it when the store forgets.

use super::*;

#[test]
fn what_promises_waits_for_its_batch_and_what_cares_does_not() {
    for answer in [Committed::Done, Committed::Repeated] {
        let mut s = Scene::at_work();
        assert_eq!(s.enter("c1"), ["commit 7/2: 8", "attend c1"]);
        assert_eq!(s.pass(90), [""; 0]);
        assert_eq!(s.committed(Some(answer)), ["originate mqs-7-1"]);
        assert_eq!(s.last_right(), Right::Until(Mono(10_000 + SURE_MS)));
    }
}

#[test]
fn one_batch_is_under_way_and_the_next_one_collects() {
    let mut s = Scene::at_work();
    s.enter("c1");
    let (_, first) = s.last_commit();
    assert_eq!(s.enter("c2"), ["attend c2"]);
    assert_eq!(s.leave("c1"), ["drop mqs-7-1"], "to drop a leg promises nothing");
    let said = s.committed(Some(Committed::Done));
    assert!(said[0].starts_with("commit 7/3: "), "{said:?}");
    let (_, second) = s.last_commit();
    assert_eq!(second.seq, first.seq + 1);
    assert!(second.changes.contains(&Change::CallGone(name("c1"))));
    assert!(
        !said.iter().any(|line| line.starts_with("originate")),
        "the caller has gone meanwhile: {said:?}"
    );
}

#[test]
fn a_batch_that_is_not_answered_is_the_same_once_more() {
    let mut s = Scene::at_work();
    s.enter("c1");
    let (_, first) = s.last_commit();
    s.now = s.now.after(5);
    s.enter("c2");
    assert_eq!(s.committed(None), [""; 0]);
    assert_eq!(s.pass(RETRY_MS).len(), 1);
    let (_, again) = s.last_commit();
    assert_eq!(again, first, "to the last bit: it may have been done");
    assert_eq!(s.committed(Some(Committed::Repeated))[1], "originate mqs-7-1");
}

#[test]
fn a_late_answer_to_an_earlier_question_is_none() {
    let mut s = Scene::at_work();
    s.enter("c1");
    let (first, _) = s.last_commit();
    s.committed(None);
    s.pass(RETRY_MS);
    assert_eq!(s.tell(Input::Committed(first, Some(Committed::Done))), [""; 0]);
    assert_eq!(s.committed(Some(Committed::Done)), ["originate mqs-7-1"]);
}

#[test]
fn who_is_fenced_steps_down() {
    let mut s = Scene::at_work();
    s.enter("c1");
    assert_eq!(s.committed(Some(Committed::Fenced { epoch: 9 })), ["disconnect n1", "StepsDown(Fenced)"]);
}

#[test]
fn a_batch_has_an_end_and_what_promises_waits_for_its_own() {
    let mut s = Scene::at_work();
    // Each of them is treated: two changes, then what sends it away, behind all changes.
    s.pass(30_000);
    let callers = (0..300).map(|n| caller(&format!("c{n}"), "nowhere")).collect();
    s.renewed(7);
    assert_eq!(s.listed("n1", callers), ["commit 7/2: 512"]);
    assert_eq!(s.committed(Some(Committed::Done)), ["commit 7/3: 88"], "not one of them yet");
    let mut asked = s.committed(Some(Committed::Done));
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 300);
}

#[test]
fn a_gap_lets_everything_be_written_anew_in_a_new_epoch() {
    let mut s = Scene::at_work();
    s.enter("c1");
    assert_eq!(s.committed(Some(Committed::Gap { seq: 0 })), [""; 0], "nothing is promised");
    assert_eq!(s.noise, ["lead 7 anew"]);
    assert_eq!(s.enter("c2"), ["attend c2"], "callers are cared for");
    assert_eq!(s.led(yours(8)), ["History(8)", "reopen 8", "list n1"]);
    assert_eq!(s.opened(None), [""; 0]);
    assert_eq!(s.pass(RETRY_MS), ["reopen 8"]);
    let said = s.opened(Some(left(0, Saved::default())));
    // Ann, two calls, the place of each. What was to be promised is not promised any more.
    assert_eq!(said, ["commit 8/2 all: 5"]);
    assert_eq!(s.noise.iter().filter(|line| line.starts_with("inbox")).collect::<Vec<_>>(), ["inbox 0"]);
    let (_, all) = s.last_commit();
    assert!(
        !all.changes.iter().any(|change| matches!(change, Change::Issue(_) | Change::Offer(_))),
        "{all:?}"
    );
    // What the controller does not remember follows: events.
    let said = s.committed(Some(Committed::Done));
    let (_, rest) = s.last_commit();
    assert!(said[0].starts_with("commit 8/3: "), "{said:?}");
    assert!(rest.changes.iter().all(|change| matches!(change, Change::Event(_))), "{rest:?}");
    assert_eq!(
        rest.changes.len(),
        6,
        "two have come, one was offered, one agent asked, and both not any more"
    );
    assert_eq!(s.committed(Some(Committed::Done)), [""; 0], "the nodes have not been heard yet");
    assert!(
        s.listed("n1", vec![caller("c1", "sales"), caller("c2", "sales")]).contains(&"Offering".to_owned())
    );
    assert_eq!(s.committed(Some(Committed::Done)), ["originate mqs-8-1"], "by a token of this epoch");
    // And it goes on.
    s.now = s.now.after(10);
    assert!(s.enter("c3")[0].starts_with("commit 8/5: "));
    s.pass(RENEW_MS);
    assert_eq!((s.candidate().epoch, s.candidate().anew), (8, false));
}

#[test]
fn everything_is_written_in_parts() {
    let mut s = Scene::at_work();
    s.pass(30_000);
    let callers = (0..400).map(|n| caller(&format!("c{n}"), "sales")).collect();
    s.renewed(7);
    s.listed("n1", callers);
    s.committed(Some(Committed::Gap { seq: 0 }));
    s.led(yours(8));
    // 400 calls and their places, an agent; the offer has not been sent, and is none any more.
    assert_eq!(s.opened(Some(nothing())), ["commit 8/2 first: 512"]);
    assert_eq!(s.leave("c399"), [""; 0]);
    assert_eq!(s.committed(None), [""; 0]);
    assert_eq!(s.pass(RETRY_MS), ["commit 8/2 first: 512"]);
    assert_eq!(s.committed(Some(Committed::Done)), ["commit 8/3 last: 289"]);
    let gone = Change::CallGone(name("c399"));
    assert!(!s.last_commit().1.changes.contains(&gone), "what has happened since comes after it");
    s.committed(Some(Committed::Done));
    let mut after = Vec::new();
    while s.log.iter().rev().any(|o| matches!(o, Output::Commit(..))) && after.len() < 2_000 {
        let (_, commit) = s.last_commit();
        assert_eq!(commit.rewrite, None);
        after.extend(commit.changes);
        if !s.committed(Some(Committed::Done)).iter().any(|line| line.starts_with("commit")) {
            break;
        }
    }
    assert!(after.contains(&gone));
}

#[test]
fn another_epoch_at_a_renewal_says_the_same() {
    let mut s = Scene::at_work();
    s.enter("c1");
    let (late, _) = s.last_commit();
    s.pass(RENEW_MS);
    assert_eq!(s.led(yours(8)), ["History(8)", "reopen 8", "list n1"]);
    assert_eq!(
        s.tell(Input::Committed(late, Some(Committed::Done))),
        [""; 0],
        "of a store that has forgotten"
    );
    assert_eq!(s.opened(Some(nothing())), ["commit 8/2 all: 3"]);
    assert_eq!(s.committed(Some(Committed::Done)).len(), 1, "the events");
    assert_eq!(s.committed(Some(Committed::Done)), [""; 0]);
    s.listed("n1", vec![caller("c1", "sales")]);
    assert_eq!(s.committed(Some(Committed::Done)), ["originate mqs-8-1"]);
}

#[test]
fn it_may_be_forgotten_again_while_it_is_written_anew() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Gap { seq: 0 }));
    s.led(yours(8));
    s.opened(Some(nothing()));
    s.committed(Some(Committed::Gap { seq: 0 }));
    assert_eq!(s.noise, ["lead 8 anew"]);
    assert_eq!(s.led(yours(9)), ["History(9)", "reopen 9", "list n1"]);
    assert_eq!(s.opened(Some(nothing())), ["commit 9/2 all: 3"]);
    s.committed(Some(Committed::Done));
    let events = s.last_commit().1.changes;
    assert!(events.iter().all(|change| matches!(change, Change::Event(_))), "{events:?}");
    assert_eq!(events.len(), 5, "nothing of it is lost");
}

#[test]
fn who_is_fenced_at_the_new_epoch_steps_down() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Gap { seq: 0 }));
    s.led(yours(8));
    assert_eq!(s.opened(Some(Found::Fenced)), ["disconnect n1", "StepsDown(Fenced)"]);
}

#[test]
fn a_batch_that_the_store_has_and_never_answered_is_its_own() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.pass(60_000);
    s.led(yours(9));
    assert!(s.opened(Some(left(2, Saved::default())))[0].starts_with("commit 9/3 all"));
}

#[test]
fn a_defect_that_acts_before_the_commit_is_one() {
    let mut s = Scene::of(&["n1"], Some(Seeded::ActBeforeCommit));
    s.led(yours(7));
    s.opened(Some(nothing()));
    s.registered();
    s.tell(Input::NodeUp(name("n1"), Link(1)));
    s.listed("n1", vec![]);
    s.letters(&[(1, "k1", Some(Command::Login(name("ann"))))]);
    assert!(s.enter("c1").contains(&"originate mqs-7-1".to_owned()));
}
