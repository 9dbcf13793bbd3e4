//! Who leads.

use super::*;

#[test]
fn a_standby_asks_four_times_a_second_gets_it_opens_and_leads() {
    let mut s = Scene::new();
    assert_eq!(s.noise, ["lead 0"]);
    s.now = s.now.after(40);
    assert_eq!(s.led(theirs()), [""; 0]);
    assert_eq!(s.pilot.next_timeout(), Some(Mono(10_000 + POLL_MS)), "from the question on");
    s.now = Mono(10_000 + POLL_MS - 1);
    s.tick();
    assert_eq!(s.noise, [""; 0]);
    s.now = Mono(10_000 + POLL_MS);
    s.tick();
    assert_eq!(s.noise, ["lead 0"]);
    assert_eq!(s.led(yours(7)), ["open 7"]);
    assert_eq!(s.pilot.epoch(), None, "what the last one left is not known yet");
    assert_eq!(s.opened(Some(nothing())), ["Leads(7)", "connect n1"]);
    assert_eq!(s.noise, ["inbox 0", "registrations"]);
    assert_eq!(s.pilot.epoch(), Some(7));
}

#[test]
fn who_does_not_know_the_nodes_yet_does_not_ask() {
    let settings = Settings { holder: "m1".to_owned(), seed: 1, seeded: None };
    let mut s = Scene { pilot: Pilot::new(settings), now: Mono(10_000), log: Vec::new(), noise: Vec::new() };
    assert_eq!(s.pilot.next_timeout(), None);
    s.tick();
    s.tell(Input::NodeDead(name("n1")));
    assert_eq!(
        (s.pass(60_000), s.log.len()),
        (vec![], 0),
        "the calls of nodes that it does not know are strays"
    );
    s.tell(Input::Setup { setup: Arc::new(setup()), nodes: nodes(&["n1"]) });
    assert_eq!(s.noise, ["lead 0"]);
}

#[test]
fn a_leader_asks_again_each_second_from_question_to_question() {
    let mut s = Scene::leads(&["n1"]);
    s.pass(RENEW_MS - 1);
    assert!(!s.noise.contains(&"lead 7".to_owned()));
    s.pass(1);
    assert!(s.noise.contains(&"lead 7".to_owned()));
    s.now = s.now.after(300);
    s.led(yours(7));
    s.pass(RENEW_MS - 301);
    assert!(!s.noise.contains(&"lead 7".to_owned()));
    s.pass(1);
    assert!(s.noise.contains(&"lead 7".to_owned()));
}

#[test]
fn a_question_that_is_not_answered_is_asked_again_and_its_late_answer_is_none() {
    let mut s = Scene::new();
    let first = s.asked(|o| if let Output::Lead(ask, _) = o { Some(*ask) } else { None });
    s.led(None);
    s.pass(RETRY_MS);
    assert_eq!(s.noise, ["lead 0"]);
    let late = Leadership::Yours { epoch: 7, now: EpochMs(1) };
    assert_eq!(s.tell(Input::Led(first, Some(late))), [""; 0]);
}

#[test]
fn who_is_told_that_another_one_leads_steps_down() {
    let mut s = Scene::at_work();
    s.pass(RENEW_MS);
    assert_eq!(s.led(theirs()), ["disconnect n1", "StepsDown(Other)"]);
    assert_eq!(s.pilot.epoch(), None);
    assert!(!s.pilot.may_send(Right::Linked(Link(1)), s.now));
    assert_eq!(s.enter("c1"), [""; 0], "what happens there is no longer its affair");
    s.pass(POLL_MS);
    assert_eq!((s.candidate().epoch, s.candidate().anew), (0, false), "it was nothing");
}

#[test]
fn who_is_not_sure_to_lead_promises_nothing() {
    let mut s = Scene::at_work();
    // The last answer was to a question of 10,000.
    s.pass(1_000);
    assert_eq!(s.enter("c1").last().unwrap(), "attend c1");
    s.letters(&[]);
    s.now = Mono(10_000 + SURE_MS);
    assert_eq!(s.committed(Some(Committed::Done)), [""; 0], "committed, and not sent");
    assert!(!s.noise.iter().any(|line| line.starts_with("inbox")), "another one may be at the commands");
    assert!(!s.pilot.may_send(Right::Until(Mono(10_000 + SURE_MS)), s.now));
    s.pass(60_000);
    assert!(!s.noise.iter().any(|line| line.starts_with("inbox")), "{:?}", s.noise);
    assert_eq!(s.pilot.epoch(), Some(7), "nobody has said that it does not lead");
    let said = s.renewed(7);
    assert!(said.contains(&"originate mqs-7-1".to_owned()), "the same epoch: it has led all the time");
    assert_eq!(s.noise, ["inbox 1"]);
}

#[test]
fn the_right_counts_from_the_question_not_from_the_answer() {
    let mut s = Scene::at_work();
    s.pass(RENEW_MS);
    let asked = s.asked(|o| if let Output::Lead(..) = o { Some(s.now) } else { None });
    s.now = s.now.after(900);
    s.led(yours(7));
    s.enter("c1");
    s.committed(Some(Committed::Done));
    assert_eq!(s.last_right(), Right::Until(asked.after(SURE_MS)));
}

#[test]
fn a_cell_that_the_store_does_not_know_is_not_taken_at_once() {
    let mut s = Scene::new();
    s.led(unknown());
    for _ in 0..(FOUND_AFTER_MS / POLL_MS - 1) {
        s.pass(POLL_MS);
        assert!(!s.candidate().may_found, "who led before may have everything in memory");
        s.led(unknown());
    }
    s.pass(POLL_MS);
    assert!(s.candidate().may_found);
    // Somebody else has it: the next time begins anew.
    s.led(theirs());
    s.pass(POLL_MS);
    s.led(unknown());
    s.pass(POLL_MS);
    assert!(!s.candidate().may_found);
}

#[test]
fn a_leader_whom_the_store_does_not_know_steps_down() {
    let mut s = Scene::at_work();
    s.pass(RENEW_MS);
    assert_eq!(s.led(unknown()), ["disconnect n1", "StepsDown(Other)"]);
}

#[test]
fn opening_is_tried_again_and_given_up() {
    let mut s = Scene::new();
    s.led(yours(7));
    assert_eq!(s.opened(None), [""; 0]);
    assert_eq!(s.pass(RETRY_MS), ["open 7"]);
    // Renewed meanwhile: the same question stays open.
    s.pass(RENEW_MS);
    assert_eq!(s.led(yours(7)), [""; 0]);
    // Somebody led in between.
    s.pass(RENEW_MS);
    assert_eq!(s.led(yours(9)), ["open 9"]);
    assert_eq!(s.opened(Some(Found::Fenced)), [""; 0]);
    assert_eq!(s.pilot.epoch(), None);
    s.pass(RENEW_MS);
    assert_eq!(s.noise.last().unwrap(), "lead 0");
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_was() {
    let mut s = Scene::new();
    s.led(yours(7));
    let clock = EpochMs(2_000_000);
    let found = Found::Here {
        before: 0,
        seq: 41,
        cursor: Position(9),
        clock,
        whole: true,
        saved: Saved::default(),
        damaged: 0,
    };
    assert_eq!(s.opened(Some(found)), ["Leads(7)", "connect n1"]);
    assert_eq!(s.noise, ["inbox 9", "registrations"]);
    s.letters(&[(10, "k1", Some(Command::Login(name("ann"))))]);
    let (_, commit) = s.last_commit();
    assert_eq!((commit.epoch, commit.seq, commit.cursor), (7, 42, Position(10)));
    assert!(commit.clock >= clock, "time does not run back behind the last leader's");
}

#[test]
fn what_cannot_be_read_is_written_anew_and_no_command_is_done_again() {
    let mut s = Scene::new();
    s.led(yours(7));
    let found = Found::Here {
        before: 0,
        seq: 41,
        cursor: Position(9),
        clock: EpochMs(2_000_000),
        whole: true,
        saved: Saved::default(),
        damaged: 3,
    };
    assert_eq!(s.opened(Some(found)), ["Leads(7)", "Damaged(3)", "connect n1", "commit 7/42 all: 1"]);
    assert_eq!(s.noise, ["inbox 9", "registrations"]);
    assert_eq!(s.last_commit().1.cursor, Position(9));
}

#[test]
fn who_is_to_end_gives_it_up_at_once() {
    let mut s = Scene::at_work();
    assert_eq!(s.tell(Input::Resign), ["disconnect n1", "StepsDown(Asked)", "resign 7"]);
    assert_eq!(s.pilot.next_timeout(), None);
    assert_eq!(s.pass(60_000), [""; 0]);
    // While it opens, too.
    let mut s = Scene::new();
    s.led(yours(7));
    assert_eq!(s.tell(Input::Resign), ["resign 7"]);
    assert_eq!(s.opened(Some(nothing())), [""; 0]);
}

#[test]
fn who_is_given_it_while_ending_gives_it_back() {
    // A standby.
    let mut s = Scene::new();
    assert_eq!(s.tell(Input::Resign), [""; 0]);
    assert_eq!(s.led(yours(7)), ["resign 7"]);
    assert_eq!(s.pilot.epoch(), None);
    // A leader whose question for a renewal crosses.
    let mut s = Scene::at_work();
    s.pass(RENEW_MS);
    s.tell(Input::Resign);
    assert_eq!(s.led(yours(8)), ["resign 8"]);
    assert_eq!(s.pilot.next_timeout(), None);
}

#[test]
fn a_store_that_is_away_makes_nobody_restless() {
    // `pass` itself fails when the same moment is asked for again and again.
    let mut s = Scene::leads(&["n1"]);
    for _ in 0..100 {
        s.pass(1_000);
        s.led(yours(7));
        s.registrations(None);
    }
}
