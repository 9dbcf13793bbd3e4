use super::*;

const RULES: Rules = Rules { agent_reserve_pm: 400, zone_spill_pm: 800, targets_max: 3 };
const NO_QUEUES: Rules = Rules { agent_reserve_pm: 0, ..RULES };

/// `id zone tags capacity load touched`
fn pool(rows: &[(&str, &str, &str, u32, u32, u64)]) -> Vec<Loaded> {
    let node =
        |(slot, (id, zone, tags, capacity, load, touched)): (u16, &(&str, &str, &str, u32, u32, u64))| {
            Loaded {
                node: Arc::new(Node {
                    id: id.parse().unwrap(),
                    slot: Slot(slot),
                    uri: format!("sip:127.0.1.{}", slot + 1).parse().unwrap(),
                    capacity: *capacity,
                    zone: zone.parse().ok(),
                    tags: tags.split(',').filter(|t| !t.is_empty()).map(|t| t.parse().unwrap()).collect(),
                    state: NodeState::Active,
                    health: Default::default(),
                }),
                load: *load,
                touched: *touched,
            }
        };
    (0..).zip(rows).map(node).collect()
}

fn set_state(pool: &mut [Loaded], index: usize, state: NodeState) {
    Arc::make_mut(&mut pool[index].node).state = state;
}

fn words(picked: &Picked) -> String {
    picked.verdicts.iter().map(Verdict::as_str).collect::<Vec<_>>().join(" ")
}

fn call() -> Lookup {
    Lookup::new_call(3)
}

#[test]
fn least_occupancy_after_this_call_wins_not_least_load() {
    let nodes =
        pool(&[("small", "", "", 10, 1, 0), ("large", "", "", 100, 10, 0), ("huge", "", "", 1000, 250, 0)]);
    let picked = pick(&nodes, &call(), &NO_QUEUES);
    assert_eq!(words(&picked), "fallback chosen fallback");
    assert_eq!(picked.targets, Ok(vec![1, 0, 2]));
}

#[test]
fn ties_go_to_the_node_touched_longest_ago() {
    let nodes = pool(&[("a", "", "", 10, 1, 7), ("b", "", "", 20, 3, 3), ("c", "", "", 10, 1, 5)]);
    assert_eq!(pick(&nodes, &call(), &NO_QUEUES).targets, Ok(vec![1, 2, 0]));
}

#[test]
fn waiting_callers_never_take_the_channels_of_their_agents() {
    let nodes = pool(&[("a", "", "", 10, 6, 0), ("b", "", "", 10, 5, 0)]);
    assert_eq!(words(&pick(&nodes, &call(), &RULES)), "no-room chosen");
    let full = pool(&[("a", "", "", 10, 6, 0)]);
    assert_eq!(pick(&full, &call(), &RULES).targets, Err(NoPick::Full));
    let agent = Lookup { kind: Kind::Agent, node: "a".parse().ok(), ..call() };
    assert_eq!(words(&pick(&full, &agent, &RULES)), "chosen");
    let brim = pool(&[("a", "", "", 10, 10, 0), ("b", "", "", 10, 0, 0)]);
    assert_eq!(words(&pick(&brim, &agent, &RULES)), "chosen other-node");
}

#[test]
fn an_agents_leg_stays_on_its_draining_node() {
    let mut nodes = pool(&[("a", "", "", 10, 3, 0)]);
    set_state(&mut nodes, 0, NodeState::Draining);
    assert_eq!(pick(&nodes, &call(), &RULES).targets, Err(NoPick::NoNode));
    let agent = Lookup { kind: Kind::Agent, node: "a".parse().ok(), ..call() };
    assert_eq!(pick(&nodes, &agent, &RULES).targets, Ok(vec![0]));
    set_state(&mut nodes, 0, NodeState::Removed);
    assert_eq!(pick(&nodes, &agent, &RULES).targets, Err(NoPick::NoNode));
}

#[test]
fn tags_exclusions_and_states_each_have_their_reason() {
    let mut nodes = pool(&[
        ("a", "", "gsm", 10, 0, 0),
        ("b", "", "gsm,fax", 10, 0, 0),
        ("c", "", "gsm,fax", 10, 0, 0),
        ("d", "", "gsm,fax", 10, 0, 0),
        ("e", "", "fax,gsm", 10, 9, 0),
    ]);
    set_state(&mut nodes, 2, NodeState::Draining);
    set_state(&mut nodes, 3, NodeState::Down);
    let tags = ["fax", "gsm"].iter().map(|t| t.parse().unwrap()).collect();
    let lookup = Lookup { tags, exclude: BTreeSet::from(["b".parse().unwrap()]), ..call() };
    assert_eq!(words(&pick(&nodes, &lookup, &NO_QUEUES)), "no-tag excluded draining down chosen");
}

#[test]
fn the_callers_zone_first_until_it_spills() {
    let near = Lookup { zone: "a".parse().ok(), ..call() };
    let nodes = pool(&[("a1", "a", "", 10, 7, 0), ("b1", "b", "", 10, 0, 0), ("x", "", "", 10, 1, 0)]);
    assert_eq!(pick(&nodes, &near, &NO_QUEUES).targets, Ok(vec![0, 1, 2]));
    let nodes = pool(&[("a1", "a", "", 10, 8, 0), ("b1", "b", "", 10, 7, 0), ("b2", "b", "", 10, 9, 0)]);
    assert_eq!(
        pick(&nodes, &near, &NO_QUEUES).targets,
        Ok(vec![1, 0, 2]),
        "0.9 spills, and is then one of many"
    );
    assert_eq!(pick(&nodes, &call(), &NO_QUEUES).targets, Ok(vec![1, 0, 2]));
}

#[test]
fn emergency_calls_are_never_refused_for_room_or_state() {
    let sos = Lookup { emergency: true, ..call() };
    let mut nodes = pool(&[("a", "", "", 1, 5, 0), ("b", "", "", 1, 4, 0)]);
    assert_eq!(pick(&nodes, &sos, &RULES).targets, Ok(vec![1, 0]));
    set_state(&mut nodes, 1, NodeState::Draining);
    assert_eq!(pick(&nodes, &sos, &RULES).targets, Ok(vec![0]));
    set_state(&mut nodes, 0, NodeState::Down);
    assert_eq!(pick(&nodes, &sos, &RULES).targets, Ok(vec![1]));
    set_state(&mut nodes, 1, NodeState::Down);
    assert_eq!(pick(&nodes, &sos, &RULES).targets, Ok(vec![1, 0]));
    assert_eq!(plan(&nodes, &sos, &RULES), Plan::Pinned(Slot(1)));
    assert_eq!(pick(&[], &sos, &RULES).targets, Err(NoPick::NoNode));
}

#[test]
fn a_plan_names_the_shelves_that_fit() {
    let nodes = pool(&[("a", "a", "fax", 9, 0, 0), ("b", "b", "fax", 9, 0, 0), ("c", "b", "", 9, 0, 0)]);
    let lookup = Lookup {
        zone: "b".parse().ok(),
        tags: BTreeSet::from(["fax".parse().unwrap()]),
        exclude: BTreeSet::from(["c".parse().unwrap(), "gone".parse().unwrap()]),
        ..call()
    };
    let shelf = |i: usize| BTreeSet::from([Shelf::of(&nodes[i].node).unwrap()]);
    let wanted = Plan::Search {
        near: shelf(1),
        far: shelf(0),
        room_pm: Some(600),
        exclude: BTreeSet::from([Slot(2)]),
    };
    assert_eq!(plan(&nodes, &lookup, &RULES), wanted);
}

#[test]
fn answers_have_at_most_as_many_targets_as_pool_and_lookup_allow() {
    let rows: Vec<_> = (0..9u32).map(|i| ("n", "", "", 10 + i, 0, 0)).collect();
    let nodes = pool(&rows);
    let count = |lookup: &Lookup, rules: &Rules| pick(&nodes, lookup, rules).targets.unwrap().len();
    assert_eq!(count(&call(), &RULES), 3);
    assert_eq!(count(&Lookup { targets_max: 1, ..call() }, &RULES), 1);
    assert_eq!(count(&Lookup { targets_max: 12, ..call() }, &Rules { targets_max: 5, ..RULES }), 5);
}
