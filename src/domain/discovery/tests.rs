use super::*;
use crate::domain::id::Slot;
use crate::domain::node::NodeState::{self, Active, Down, Draining, Removed};
use crate::domain::time::EpochMs;
use proptest::prelude::*;

const NOW: EpochMs = EpochMs(1_000_000);

fn template() -> Template {
    let (zone, tags) = (None, BTreeSet::new());
    Template { capacity: 900, weighted: false, zone, tags, nodes_max: 8, forget_after_ms: 60_000 }
}

fn target(n: u8) -> Target {
    Target { uri: format!("sip:192.0.2.{n}:5060").parse().unwrap(), weight: 0 }
}

fn found(places: &[u8]) -> Found {
    Found { targets: places.iter().map(|n| target(*n)).collect(), ttl_s: 30, ..Found::default() }
}

fn node(n: u8, state: NodeState) -> Node {
    let named = template().fill(&[target(n)]).next().unwrap();
    let Named { id, uri, capacity, zone, tags } = named;
    Node { id, slot: Slot(u16::from(n)), uri, capacity, zone, tags, state, health: Default::default() }
}

/// A node of discovery's.
fn ours(n: u8, state: NodeState, standing: Standing) -> Known {
    let digest = Mark::named(&template().fill(&[target(n)]).next().unwrap()).digest;
    Known { node: Arc::new(node(n, state)), load: 0, mark: Some(Mark { standing, digest }) }
}

/// A node of the file.
fn theirs(n: u8, state: NodeState) -> Known {
    let node = Node { id: format!("file{n}").parse().unwrap(), ..node(n, state) };
    Known { node: Arc::new(node), load: 0, mark: None }
}

fn said(steps: &[Step]) -> Vec<String> {
    let line = |s: &Step| {
        let standing = s.mark.map(|m| m.to_string()).unwrap_or_default();
        let standing = standing.rsplit_once(':').map_or("", |(before, _)| before);
        format!("{} {} {} {standing}", s.act.as_str(), s.node.id, s.state)
    };
    steps.iter().map(line).collect()
}

/// The nodes as they are after some steps, as the store would have them.
fn after(before: &[Known], steps: &[Step]) -> Vec<Known> {
    let mut all: BTreeMap<NodeId, Known> = before.iter().map(|k| (k.node.id.clone(), k.clone())).collect();
    for Step { node: named, state, mark, .. } in steps {
        let Named { id, uri, capacity, zone, tags } = named.clone();
        let load = all.get(&id).map_or(0, |k| k.load);
        let node = Node {
            id: id.clone(),
            slot: Slot(0),
            uri,
            capacity,
            zone,
            tags,
            state: *state,
            health: Default::default(),
        };
        all.insert(id, Known { node: Arc::new(node), load, mark: *mark });
    }
    all.into_values().collect()
}

use std::collections::BTreeMap;

#[test]
fn what_is_named_is_added_and_what_is_named_no_more_drains() {
    let plan = plan(
        &[ours(1, Active, Standing::Named), ours(2, Active, Standing::Named)],
        &found(&[2, 3]),
        &template(),
        NOW,
    );
    assert_eq!(
        said(&plan.steps),
        ["add ip-192-0-2-3-5060 active dns:named:0", "drain ip-192-0-2-1-5060 draining dns:drained:1000000"]
    );
    assert_eq!(plan.kept, 1);
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let before = [ours(1, Active, Standing::Named), theirs(9, Active)];
    let first = plan(&before, &found(&[2]), &template(), NOW);
    let then = after(&before, &first.steps);
    assert_eq!(plan(&then, &found(&[2]), &template(), NOW + 5000).steps, []);
}

#[test]
fn a_drained_node_is_removed_when_it_is_empty_and_its_time_is_over() {
    let drained = ours(1, Draining, Standing::Drained(NOW));
    let busy = Known { load: 1, ..ours(2, Draining, Standing::Drained(NOW)) };
    let by_hand = ours(3, Down, Standing::Left(NOW));
    let taken_back = ours(4, Active, Standing::Drained(NOW));
    let named = ours(5, Draining, Standing::Named);
    let all = [drained, busy, by_hand, taken_back, named, theirs(6, Draining)];
    assert_eq!(expire(&all, &template(), NOW + 59_999), []);
    assert_eq!(
        said(&expire(&all, &template(), NOW + 60_000)),
        ["remove ip-192-0-2-1-5060 removed ", "remove ip-192-0-2-3-5060 removed "]
    );
}

#[test]
fn one_that_comes_back_takes_calls_again_unless_an_operator_said_otherwise() {
    for (state, standing, steps) in [
        (Draining, Standing::Drained(NOW), &["activate ip-192-0-2-1-5060 active dns:named:0"][..]),
        (Draining, Standing::Named, &[]),
        (Draining, Standing::Left(NOW), &["update ip-192-0-2-1-5060 draining dns:named:0"]),
        (Down, Standing::Drained(NOW), &["update ip-192-0-2-1-5060 down dns:named:0"]),
        (Removed, Standing::Named, &[]),
        (Removed, Standing::Left(NOW), &["update ip-192-0-2-1-5060 removed dns:named:0"]),
        (Active, Standing::Drained(NOW), &["update ip-192-0-2-1-5060 active dns:named:0"]),
    ] {
        let plan = plan(&[ours(1, state, standing)], &found(&[1]), &template(), NOW + 1);
        assert_eq!(said(&plan.steps), steps, "{state} {standing:?}");
    }
    // Removed by discovery, its last call still counted: it is new.
    let spent = Known { mark: None, ..ours(1, Removed, Standing::Named) };
    assert_eq!(
        said(&plan(&[spent], &found(&[1]), &template(), NOW).steps),
        ["add ip-192-0-2-1-5060 active dns:named:0"]
    );
}

#[test]
fn what_an_operator_drained_by_hand_is_drained_still_when_it_went_and_came() {
    let before = [ours(1, Draining, Standing::Named), ours(2, Active, Standing::Named)];
    let gone = after(&before, &plan(&before, &found(&[2]), &template(), NOW).steps);
    let back = after(&gone, &plan(&gone, &found(&[1, 2]), &template(), NOW + 9).steps);
    assert_eq!(back[0].node.state, Draining);
    assert_eq!(back[0].mark.unwrap().standing, Standing::Named);
}

#[test]
fn an_answer_without_targets_changes_nothing_and_one_with_parts_missing_drains_nothing() {
    let before = [ours(1, Active, Standing::Named), ours(2, Active, Standing::Named)];
    assert_eq!(plan(&before, &found(&[]), &template(), NOW), Plan::default());
    let partial = Found { partial: true, ..found(&[2, 3]) };
    let plan = plan(&before, &partial, &template(), NOW);
    assert_eq!(said(&plan.steps), ["add ip-192-0-2-3-5060 active dns:named:0"]);
}

#[test]
fn the_last_active_node_is_spared() {
    let before = [ours(1, Active, Standing::Named), ours(2, Draining, Standing::Named)];
    let plan_ = plan(&before, &found(&[2]), &template(), NOW);
    assert_eq!((said(&plan_.steps).len(), plan_.spared.len()), (0, 1));
    let with_another = [&before[..], &[theirs(9, Active)]].concat();
    assert_eq!(plan(&with_another, &found(&[2]), &template(), NOW).spared, []);
}

#[test]
fn a_place_of_the_file_is_left_to_the_file() {
    let before = [theirs(1, Active), ours(2, Active, Standing::Named)];
    let plan_ = plan(&before, &found(&[1, 2]), &template(), NOW);
    assert_eq!((plan_.steps.len(), plan_.elsewhere, plan_.kept), (0, 1, 1));
    // A place that the file took later.
    let later = [theirs(1, Active), ours(1, Active, Standing::Named)];
    assert_eq!(plan(&later, &found(&[1]), &template(), NOW).steps[0].act, Act::Drain);
    // A name that somebody else has.
    let mut odd = node(7, Active);
    odd.uri = "sip:192.0.2.99".parse().unwrap();
    let odd = Known { node: Arc::new(odd), load: 0, mark: None };
    assert_eq!(plan(&[odd], &found(&[7, 8]), &template(), NOW).elsewhere, 1);
}

#[test]
fn a_limit_keeps_those_that_are_there() {
    let narrow = Template { nodes_max: 2, ..template() };
    let before = [ours(8, Active, Standing::Named), ours(9, Active, Standing::Named)];
    let plan_ = plan(&before, &found(&[1, 2, 8, 9]), &narrow, NOW);
    assert_eq!((plan_.steps.len(), plan_.over, plan_.kept), (0, 2, 2));
    assert_eq!(plan(&[], &found(&[1, 2, 8, 9]), &narrow, NOW).steps.len(), 2);
}

#[test]
fn another_template_reaches_the_nodes_and_a_change_by_hand_outlives_the_same_one() {
    let mut changed = ours(1, Draining, Standing::Named);
    Arc::make_mut(&mut changed.node).capacity = 5;
    assert_eq!(plan(&[changed.clone()], &found(&[1]), &template(), NOW).steps, []);
    let more = Template { capacity: 1000, ..template() };
    let plan = plan(&[changed], &found(&[1]), &more, NOW);
    assert_eq!((plan.steps[0].node.capacity, plan.steps[0].state), (1000, Draining));
}

#[test]
fn weights_share_the_capacity_out() {
    let weighted = Template { weighted: true, ..template() };
    let of = |weights: &[u16]| -> Vec<u32> {
        let one = |(n, w): (usize, &u16)| Target { weight: *w, ..target(u8::try_from(n).unwrap()) };
        let targets: Vec<Target> = weights.iter().enumerate().map(one).collect();
        weighted.fill(&targets).map(|n| n.capacity).collect()
    };
    assert_eq!(of(&[10, 20, 5, 0]), [450, 900, 225, 1]);
    assert_eq!(of(&[0, 0]), [900, 900]);
    assert_eq!(of(&[65535, 1]), [900, 1]);
}

#[test]
fn names_derive_from_places() {
    let id = |uri: &str| node_id(&uri.parse().unwrap()).map(|id| id.to_string());
    for (uri, name) in [
        ("sip:192.0.2.21", Some("ip-192-0-2-21-5060")),
        ("sip:192.0.2.21:5060;transport=udp", Some("ip-192-0-2-21-5060")),
        ("sip:192.0.2.21:5070;transport=tcp", Some("ip-192-0-2-21-5070-tcp")),
        ("sips:192.0.2.21", Some("ip-192-0-2-21-5061-sips")),
        ("sip:[2001:DB8::1]:5060", Some("ip-2001-db8--1-5060")),
        ("sip:[::1]", Some("ip---1-5060")),
        (
            "sip:[1111:2222:3333:4444:5555:6666:7777:8888]:65535;transport=sctp",
            Some("ip-1111-2222-3333-4444-5555-6666-7777-8888-65535-sctp"),
        ),
        ("sip:ast1.example.com", None),
    ] {
        assert_eq!(id(uri).as_deref(), name, "{uri}");
    }
}

fn any_known() -> impl Strategy<Value = Known> {
    let state = prop::sample::select(vec![Active, Draining, Down, Removed]);
    let standing = prop_oneof![
        Just(None),
        Just(Some(Standing::Named)),
        (900_000u64..1_000_000).prop_map(|at| Some(Standing::Drained(EpochMs(at)))),
        (900_000u64..1_000_000).prop_map(|at| Some(Standing::Left(EpochMs(at)))),
    ];
    (0u8..12, state, standing, 0u32..2).prop_map(|(n, state, standing, load)| match standing {
        Some(standing) => Known { load, ..ours(n, state, standing) },
        None => Known { load, ..theirs(n, state) },
    })
}

fn pool() -> impl Strategy<Value = Vec<Known>> {
    prop::collection::vec(any_known(), 0..12).prop_map(|all| {
        let by_id: BTreeMap<NodeId, Known> = all.into_iter().map(|k| (k.node.id.clone(), k)).collect();
        by_id.into_values().collect()
    })
}

fn active(all: &[Known]) -> usize {
    all.iter().filter(|k| k.node.state == Active).count()
}

proptest! {
    /// Whatever the DNS names, in whatever order: a pool that has an active node keeps one, nothing is lost that is not
    /// discovery's, a node with calls is never removed, and saying the same again changes nothing.
    #[test]
    fn a_pool_never_runs_empty(
        before in pool(),
        answers in prop::collection::vec((prop::collection::vec(0u8..12, 0..8), any::<bool>(), 0u64..100_000), 1..6),
    ) {
        let (mut all, mut now) = (before, NOW);
        for (places, partial, ms) in answers {
            now = now + ms;
            let answer = Found { partial, ..found(&places) };
            let first = plan(&all, &answer, &template(), now);
            let mut then = after(&all, &first.steps);
            prop_assert!(active(&all) == 0 || active(&then) > 0, "{:?}", said(&first.steps));
            for k in all.iter().filter(|k| k.mark.is_none() && k.node.state != Removed) {
                prop_assert!(then.iter().any(|t| t.node == k.node), "{} is not discovery's", k.node.id);
            }
            for s in &first.steps {
                let was = all.iter().find(|k| k.node.id == s.node.id).map(|k| k.node.state);
                prop_assert!(was != Some(Active) || s.state != Removed, "{:?}", s);
                prop_assert!(!partial || s.act != Act::Drain && s.act != Act::Leave);
            }
            prop_assert_eq!(&plan(&then, &answer, &template(), now).steps, &[], "said again");
            let over = expire(&then, &template(), now);
            for s in &over {
                let k = then.iter().find(|k| k.node.id == s.node.id).unwrap();
                prop_assert!(k.load == 0 && k.node.state != Active && k.mark.is_some());
            }
            then = after(&then, &over);
            prop_assert_eq!(expire(&then, &template(), now), []);
            // As the steward does.
            then.retain(|k| k.node.state != Removed || k.mark.is_some() || k.load > 0);
            all = then;
        }
    }
}
