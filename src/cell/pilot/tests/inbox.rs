//! Commands and registrations.

use super::*;

fn login() -> Option<Command> {
    Some(Command::Login(name("ann")))
}

#[test]
fn a_command_and_its_place_in_the_inbox_are_written_together() {
    let mut s = Scene::leads(&["n1"]);
    s.letters(&[(3, "k1", login()), (5, "k2", login())]);
    let (_, commit) = s.last_commit();
    assert_eq!(commit.cursor, Position(5));
    assert_eq!(said(&commit), [Said::Done, Said::Already]);
    assert_eq!(s.noise, ["inbox 5"], "there may be more");
}

#[test]
fn the_same_key_is_the_same_command() {
    let mut s = Scene::leads(&["n1"]);
    s.letters(&[
        (1, "k1", Some(Command::Toggle(name("ann")))),
        (2, "k1", Some(Command::Toggle(name("ann")))),
    ]);
    let (_, commit) = s.last_commit();
    assert_eq!((said(&commit), commit.cursor), (vec![Said::Done], Position(2)));
    s.committed(Some(Committed::Done));
    s.letters(&[(3, "k1", Some(Command::Toggle(name("ann"))))]);
    let (_, commit) = s.last_commit();
    assert_eq!((commit.changes.len(), commit.cursor), (0, Position(3)), "done with, all the same");
}

#[test]
fn a_key_is_not_remembered_for_ever() {
    let mut s = Scene::leads(&["n1"]);
    s.letters(&[(1, "k1", login())]);
    s.committed(Some(Committed::Done));
    s.now = s.now.after(crate::store::cell::KEY_KEPT_MS + 1);
    s.renewed(7);
    s.letters(&[]);
    s.pass(100);
    s.letters(&[(2, "k1", login())]);
    assert_eq!(said(&s.last_commit().1), [Said::Already]);
}

#[test]
fn an_inbox_is_read_again_soon_when_it_is_empty_or_did_not_answer() {
    for letters in [Some(vec![]), None] {
        let mut s = Scene::leads(&["n1"]);
        s.inbox(letters);
        assert_eq!(s.noise, [""; 0]);
        s.now = s.now.after(99);
        s.tick();
        assert_eq!(s.noise, [""; 0]);
        s.now = s.now.after(1);
        s.tick();
        assert_eq!(s.noise, ["inbox 0"]);
    }
}

#[test]
fn a_command_that_cannot_be_read_is_said_to_be_so_and_is_done_with() {
    let mut s = Scene::leads(&["n1"]);
    s.letters(&[(1, "k1", None)]);
    let (_, commit) = s.last_commit();
    assert_eq!((said(&commit), commit.cursor), (vec![Said::Malformed], Position(1)));
}

#[test]
fn a_command_that_was_done_is_known_when_the_store_has_forgotten_that() {
    let mut s = Scene::at_work();
    s.enter("c1");
    s.committed(Some(Committed::Gap { seq: 0 }));
    s.led(yours(8));
    s.opened(Some(nothing()));
    s.letters(&[(1, "k1", Some(Command::Toggle(name("ann"))))]);
    s.committed(Some(Committed::Done));
    let (_, commit) = s.last_commit();
    assert_eq!(said(&commit), [], "it was the login");
    assert_eq!(commit.cursor, Position(1));
}

#[test]
fn a_position_behind_the_end_of_a_batch_waits_for_the_next_one() {
    let mut s = Scene::at_work();
    s.pass(30_000);
    s.renewed(7);
    s.enter("c0");
    let callers = (0..300).map(|n| caller(&format!("c{n}"), "sales")).collect();
    s.listed("n1", callers);
    s.tick();
    s.letters(&[(2, "k2", login())]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (_, commit) = s.last_commit();
        seen.push((commit.cursor, said(&commit).len()));
        s.committed(Some(Committed::Done));
    }
    let with = seen.iter().position(|(_, said)| *said == 1).unwrap();
    assert!(seen[..with].iter().all(|(cursor, _)| *cursor == Position(1)), "{seen:?}");
    assert_eq!(seen.last().unwrap().0, Position(2));
}

#[test]
fn the_defect_that_writes_a_position_apart_from_its_commands_is_one() {
    let mut s = Scene::of(&["n1"], Some(Seeded::CursorOutsideCommit));
    s.led(yours(7));
    s.opened(Some(nothing()));
    s.letters(&[(3, "k1", login())]);
    assert_eq!(s.last_commit().1.cursor, Position(0));
}

#[test]
fn who_is_registered_is_read_every_two_seconds() {
    let mut s = Scene::leads(&["n1"]);
    s.inbox(None);
    s.registered();
    s.now = s.now.after(1_999);
    s.tick();
    assert!(!s.noise.contains(&"registrations".to_owned()));
    s.now = s.now.after(1);
    s.tick();
    assert!(s.noise.contains(&"registrations".to_owned()));
    s.registrations(None);
    s.now = s.now.after(RETRY_MS);
    s.tick();
    assert!(s.noise.contains(&"registrations".to_owned()));
}
