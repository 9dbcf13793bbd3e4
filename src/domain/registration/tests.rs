use super::*;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { ttl_max_s: 300, capacity_max: 1000, nodes_max: 4 };
const NOW: EpochMs = EpochMs(1_000_000);
/// Long before: every grace is over.
const LONG: EpochMs = EpochMs(0);

fn named(id: &str, uri: &str) -> Named {
    Named {
        id: id.parse().unwrap(),
        uri: uri.parse().unwrap(),
        capacity: 100,
        zone: None,
        tags: BTreeSet::new(),
    }
}

fn heard(id: &str, uri: &str, saying: Saying) -> Heard {
    Heard { node: named(id, uri), saying, ttl_s: 30 }
}

fn known(node: &Named, state: NodeState, owner: Owner, load: u32) -> Known {
    let Named { id, uri, capacity, zone, tags } = node.clone();
    let (slot, health) = (crate::domain::id::Slot(0), Default::default());
    Known { node: Arc::new(Node { id, slot, uri, capacity, zone, tags, state, health }), load, owner }
}

/// A registered node at `sip:10.0.0.<its last digit>`.
fn node(id: &str, state: NodeState, standing: Standing, load: u32) -> Known {
    let heard = at(id, Saying::Active);
    known(&heard.node, state, Owner::Itself(Mark { standing, ..Mark::live(&heard) }), load)
}

fn at(id: &str, saying: Saying) -> Heard {
    let last: String = id.chars().filter(char::is_ascii_digit).collect();
    heard(id, &format!("sip:10.0.0.{last}"), saying)
}

fn beats(until: &[(&str, u64)]) -> Beats {
    until.iter().map(|(id, ms)| (id.parse().unwrap(), EpochMs(*ms))).collect()
}

fn decide(before: &[Known], heard: &Heard) -> Result<Decision, Refused> {
    heartbeat(before, heard, &BTreeMap::new(), &LIMITS, NOW)
}

/// `joined active live 30`: what is done, the state and note then, and for how long it is known to live.
fn said(before: &[Known], heard: &Heard) -> String {
    match decide(before, heard) {
        Ok(Decision { step, displaced, lives_s }) => {
            let step = step.map_or("kept".to_owned(), |s| {
                let mark = s.mark.map_or("-".to_owned(), |m| m.as_str().to_owned());
                format!("{} {} {mark}", s.act.as_str(), s.state)
            });
            let displaced = displaced.map(|id| format!(" for {id}")).unwrap_or_default();
            format!("{step}{displaced} {}", lives_s.map_or("-".to_owned(), |s| s.to_string()))
        }
        Err(refused) => format!("{refused:?}").split([' ', '{']).next().unwrap().to_owned(),
    }
}

const LIVE: Standing = Standing::Live;
const DRAINED: Standing = Standing::Drained(EpochMs(1));
const LEAVING: Standing = Standing::Leaving(EpochMs(1));

#[test]
fn every_state_meets_every_saying() {
    use NodeState::{Active, Down, Draining, Removed};
    for (state, standing, load, active, draining, gone) in [
        (Active, LIVE, 0, "kept 30", "leaving draining leaving 30", "removed removed - 0"),
        (Active, LIVE, 2, "kept 30", "leaving draining leaving 30", "leaving draining leaving 0"),
        // Made active by an operator after it fell silent.
        (Active, DRAINED, 0, "changed active live 30", "leaving draining leaving 30", "removed removed - 0"),
        (Active, LEAVING, 0, "changed active live 30", "leaving draining leaving 30", "removed removed - 0"),
        (
            Draining,
            DRAINED,
            2,
            "returned active live 30",
            "leaving draining leaving 30",
            "leaving draining leaving 0",
        ),
        (Draining, LEAVING, 2, "returned active live 30", "kept 30", "leaving draining leaving 0"),
        (Draining, LEAVING, 0, "returned active live 30", "kept 30", "removed removed - 0"),
        // By an operator's word.
        (Draining, LIVE, 0, "kept 30", "kept 30", "kept 0"),
        (Down, LIVE, 0, "kept 30", "kept 30", "kept 0"),
        (Down, DRAINED, 0, "kept 30", "kept 30", "kept 0"),
        (Removed, LIVE, 0, "kept 30", "kept -", "kept -"),
        // It had said that it goes.
        (Removed, LEAVING, 0, "joined active live 30", "kept -", "kept -"),
    ] {
        let before = [node("n1", state, standing, load)];
        for (saying, want) in [(Saying::Active, active), (Saying::Draining, draining), (Saying::Gone, gone)] {
            assert_eq!(said(&before, &at("n1", saying)), want, "{state} {standing:?} {load}: {saying:?}");
        }
    }
    assert_eq!(said(&[], &at("n1", Saying::Active)), "joined active live 30");
    assert_eq!(said(&[], &at("n1", Saying::Draining)), "kept -", "whoever is not there need not go");
}

#[test]
fn a_new_word_changes_the_definition_and_leaves_an_operators_state() {
    for (state, want) in [
        (NodeState::Active, "changed active live 30"),
        (NodeState::Draining, "changed draining live 30"),
        (NodeState::Down, "changed down live 30"),
    ] {
        let mut more = at("n1", Saying::Active);
        more.node.capacity = 200;
        let before = [node("n1", state, LIVE, 0)];
        assert_eq!(said(&before, &more), want);
        assert_eq!(decide(&before, &more).unwrap().step.unwrap().node, more.node);
        let mut longer = at("n1", Saying::Active);
        longer.ttl_s = 60;
        assert_eq!(said(&before, &longer), want.replace("30", "60"), "the note of its TTL is another");
    }
    // An operator's capacity holds for as long as the node says what it said before.
    let mut before = node("n1", NodeState::Active, LIVE, 0);
    Arc::make_mut(&mut before.node).capacity = 7;
    assert_eq!(said(&[before.clone()], &at("n1", Saying::Active)), "kept 30");
    let step = decide(&[before], &at("n1", Saying::Draining)).unwrap().step.unwrap();
    assert_eq!(step.node.capacity, 7);
}

#[test]
fn nodes_of_others_are_left_to_them() {
    for owner in [Owner::File, Owner::Hand, Owner::Dns] {
        let of = |state| [known(&named("n1", "sip:10.0.0.1"), state, owner, 3)];
        for state in [NodeState::Active, NodeState::Draining, NodeState::Down] {
            assert_eq!(said(&of(state), &at("n1", Saying::Active)), "kept -", "nothing would change");
            assert_eq!(said(&of(state), &at("n1", Saying::Gone)), "Owned");
        }
        assert_eq!(said(&of(NodeState::Draining), &at("n1", Saying::Draining)), "kept -");
        assert_eq!(said(&of(NodeState::Active), &at("n1", Saying::Draining)), "Owned");
        let mut more = at("n1", Saying::Active);
        more.node.capacity = 101;
        let refused = decide(&of(NodeState::Active), &more).unwrap_err();
        assert_eq!(refused, Refused::Owned { id: "n1".parse().unwrap(), by: owner });
    }
    let slot = [known(&named("n1", "sip:10.0.0.1"), NodeState::Removed, Owner::Hand, 3)];
    assert_eq!(said(&slot, &at("n1", Saying::Active)), "joined active live 30");
    let file = [known(&named("n1", "sip:10.0.0.1"), NodeState::Removed, Owner::File, 0)];
    assert_eq!(
        said(&file, &at("n1", Saying::Active)),
        "Owned",
        "removed by hand, and the file still names it"
    );
}

#[test]
fn a_place_is_one_nodes_and_a_silent_one_gives_it_up() {
    let before = [
        node("n1", NodeState::Active, LIVE, 2),
        known(&named("f2", "sip:10.0.0.2"), NodeState::Active, Owner::File, 0),
    ];
    let new = |uri: &str| heard("new", uri, Saying::Active);
    let with = |until: u64, heard: &Heard| heartbeat(&before, heard, &beats(&[("n1", until)]), &LIMITS, NOW);
    let same = |other: &str, uri: &str| Refused::SameUri {
        uri: uri.parse().unwrap(),
        other: other.parse().unwrap(),
    };
    assert_eq!(with(NOW.0 + 1, &new("sip:10.0.0.1:5060")), Err(same("n1", "sip:10.0.0.1:5060")));
    let taken = with(NOW.0, &new("sip:10.0.0.1")).unwrap();
    assert_eq!((taken.displaced, taken.step.unwrap().act), ("n1".parse().ok(), Act::Join));
    assert_eq!(with(0, &new("sip:10.0.0.2")), Err(same("f2", "sip:10.0.0.2")));
    // A node that moves.
    assert_eq!(with(0, &heard("n1", "sip:10.0.0.2", Saying::Active)), Err(same("f2", "sip:10.0.0.2")));
    assert_eq!(said(&before, &heard("n1", "sip:10.0.0.9", Saying::Active)), "changed active live 30");
    // Its own place is its own, as it may write it.
    assert_eq!(said(&before, &heard("n1", "sip:10.0.0.1:5060", Saying::Active)), "changed active live 30");
}

#[test]
fn limits_hold_and_are_named() {
    let mut wrong = at("n1", Saying::Active);
    for (capacity, ttl_s, want) in [
        (0, 30, Refused::Capacity { found: 0, most: 1000 }),
        (1001, 30, Refused::Capacity { found: 1001, most: 1000 }),
        (100, 4, Refused::Ttl { found: 4, most: 300 }),
        (100, 301, Refused::Ttl { found: 301, most: 300 }),
    ] {
        (wrong.node.capacity, wrong.ttl_s) = (capacity, ttl_s);
        assert_eq!(decide(&[], &wrong), Err(want));
    }
    let full: Vec<Known> =
        ["n1", "n2", "n3", "n4"].iter().map(|id| node(id, NodeState::Active, LIVE, 0)).collect();
    assert_eq!(decide(&full, &at("n5", Saying::Active)), Err(Refused::TooMany { most: 4 }));
    assert_eq!(said(&full, &at("n4", Saying::Active)), "kept 30");
    let mut one_gone = full.clone();
    Arc::make_mut(&mut one_gone[0].node).state = NodeState::Removed;
    assert_eq!(said(&one_gone, &at("n5", Saying::Active)), "joined active live 30");
    let taken = heartbeat(&full, &heard("n5", "sip:10.0.0.1", Saying::Active), &Beats::new(), &LIMITS, NOW);
    assert_eq!(taken.unwrap().displaced, "n1".parse().ok(), "one goes, one comes");
}

/// `n1 drained; n2 removed`, and who is spared behind `|`.
fn planned(before: &[Known], until: &[(&str, u64)], since: EpochMs) -> String {
    let Plan { steps, spared } = plan(before, &beats(until), since, NOW);
    let steps: Vec<String> = steps.iter().map(|s| format!("{} {}", s.node.id, s.act.as_str())).collect();
    let spared: Vec<&str> = spared.iter().map(NodeId::as_str).collect();
    format!("{}|{}", steps.join("; "), spared.join(" "))
}

const LATER: u64 = NOW.0 + 1;

#[test]
fn whoever_falls_silent_drains_and_goes_when_it_is_empty() {
    use NodeState::{Active, Down, Draining, Removed};
    let other = node("n9", Active, LIVE, 0);
    for (state, standing, load, want) in [
        (Active, LIVE, 0, "n1 drained|"),
        (Active, LIVE, 3, "n1 drained|"),
        (Active, DRAINED, 0, "|"),
        (Draining, DRAINED, 0, "n1 removed|"),
        (Draining, DRAINED, 1, "|"),
        (Draining, LEAVING, 0, "n1 removed|"),
        (Draining, LEAVING, 1, "|"),
        (Draining, LIVE, 0, "|"),
        (Down, LIVE, 0, "|"),
        (Removed, LIVE, 0, "n1 forgotten|"),
        (Removed, LIVE, 5, "n1 forgotten|"),
    ] {
        let before = [node("n1", state, standing, load), other.clone()];
        assert_eq!(planned(&before, &[("n9", LATER)], LONG), want, "{state} {standing:?} {load}");
        assert_eq!(planned(&before, &[("n1", LATER), ("n9", LATER)], LONG), "|", "heard of: {state}");
        assert_eq!(planned(&before, &[("n1", NOW.0), ("n9", LATER)], LONG), want, "to the ms: {state}");
    }
    let drained = plan(&[node("n1", Active, LIVE, 0), other], &beats(&[("n9", LATER)]), LONG, NOW);
    assert_eq!(drained.steps[0].mark.map(|m| m.standing), Some(Standing::Drained(NOW)));
}

#[test]
fn nobody_is_drained_when_nobody_is_heard_of_or_none_would_be_left() {
    let n = |id: &str| node(id, NodeState::Active, LIVE, 0);
    let file = known(&named("f1", "sip:10.0.1.1"), NodeState::Active, Owner::File, 0);
    assert_eq!(planned(&[n("n1"), n("n2")], &[], LONG), "|n1 n2", "all at once");
    assert_eq!(planned(&[n("n1"), n("n2"), file.clone()], &[], LONG), "|n1 n2", "whoever else is there");
    assert_eq!(planned(&[n("n1"), n("n2"), n("n3")], &[("n3", LATER)], LONG), "n1 drained; n2 drained|");
    // The one that is heard of is drained by an operator.
    let by_hand = node("n3", NodeState::Draining, LIVE, 0);
    assert_eq!(planned(&[n("n1"), n("n2"), by_hand.clone()], &[("n3", LATER)], LONG), "|n1 n2");
    assert_eq!(planned(&[n("n1"), by_hand, file], &[("n3", LATER)], LONG), "n1 drained|");
    // What is drained already goes all the same.
    let empty = node("n4", NodeState::Draining, DRAINED, 0);
    assert_eq!(planned(&[n("n1"), empty], &[], LONG), "n4 removed|n1");
}

#[test]
fn silence_counts_from_when_somebody_listened() {
    let before = [node("n1", NodeState::Active, LIVE, 0), node("n2", NodeState::Active, LIVE, 0)];
    let since = |ago_ms: u64| EpochMs(NOW.0 - ago_ms);
    assert_eq!(planned(&before, &[("n2", LATER)], since(29_999)), "|", "its TTL is 30 s");
    assert_eq!(planned(&before, &[("n2", LATER)], since(30_000)), "n1 drained|");
    assert_eq!(planned(&before, &[("n1", 5), ("n2", LATER)], since(29_999)), "|", "nor by an old heartbeat");
}

#[test]
fn a_watch_begins_anew_after_a_pause_and_when_the_store_forgot() {
    let mut watch = Watch::default();
    let mut look = |at: u64, history| watch.look(EpochMs(at), history).0;
    assert_eq!(look(1_000, 1), 1_000);
    assert_eq!(look(3_000, 1), 1_000);
    assert_eq!(look(5_001, 1), 5_001, "more than two seconds");
    assert_eq!(look(6_000, 1), 5_001);
    assert_eq!(look(6_100, 2), 6_100, "another history");
    assert_eq!(look(6_050, 2), 6_050, "a clock that was set back");
}
