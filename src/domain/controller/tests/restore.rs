//! What a new leader makes of what the last one has left.

use super::reconcile::{bridge, marked, once, seen_leg};
use super::*;
use crate::domain::agent::{AgentState, Then};
use crate::domain::call::{DoneReason, Stage};
use crate::domain::offer::{OfferEnd, OfferStage};

/// What is in the store: what the last leader has written, change by change.
pub(super) fn saved(s: &Scene) -> Saved {
    Saved {
        rules: s.controller.rules().iter().map(|(id, rules)| (id.clone(), rules.clone())).collect(),
        queues: s.controller.queues().iter().map(|(id, rules)| (id.clone(), rules.clone())).collect(),
        calls: s.controller.calls().cloned().collect(),
        agents: s.controller.agents().cloned().collect(),
        offers: s.controller.offers().cloned().collect(),
    }
}

/// A new leader, who has not seen any node yet; what it said first, as in [`Scene::tell`].
fn take_over(s: &Scene, saved: Saved) -> (Scene, Vec<String>) {
    let now = s.now + 4_000;
    let controller = Controller::restore(8, Arc::new(s.setup.clone()), 1, saved, now);
    let mut new = Scene { controller, setup: s.setup.clone(), now, effects: Vec::new(), changes: Vec::new() };
    let mut said = new.tell(Input::Tick);
    let registered = s.setup.agents.values().map(|rules| Registered {
        aor: rules.aor.clone(),
        proxy: name("k1"),
        at: EpochMs(999_000),
    });
    said.extend(new.tell(Input::Registered(registered.collect())));
    (new, said)
}

pub(super) fn taken_over(s: &Scene) -> Scene {
    take_over(s, saved(s)).0
}

fn offering(s: &mut Scene) -> Vec<String> {
    s.list("n2", vec![], vec![], vec![]);
    s.tell(Input::Offering(true))
}

fn c1() -> Vec<SeenCaller> {
    vec![marked("c1", EpochMs(1_000_000))]
}

#[test]
fn calls_that_wait_go_on_waiting_in_their_order() {
    let mut s = Scene::new();
    s.enter("c2", "sales");
    s.pass(10);
    s.enter("c1", "sales");
    let mut new = taken_over(&s);
    assert_eq!(new.login("ann"), ["[ann ready]", "[Done]"], "no node was heard");
    let callers = vec![marked("c1", EpochMs(1_000_010)), marked("c2", EpochMs(1_000_000))];
    assert_eq!(new.list("n1", callers, vec![], vec![]), [""; 0], "they have what they need");
    assert_eq!(offering(&mut new)[1], "[8-1: c2 to ann]");
}

#[test]
fn a_caller_who_has_hung_up_meanwhile_is_gone() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let mut new = taken_over(&s);
    assert_eq!(new.list("n1", vec![], vec![], vec![]), ["[c1 unseen]"]);
}

#[test]
fn a_longest_wait_that_ended_meanwhile_has_ended() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.pass(598_000);
    let (mut new, said) = take_over(&s, saved(&s));
    assert_eq!(said, [""; 0], "it may be with an agent: the node has not been asked yet");
    assert_eq!(new.pass(60_000), [""; 0]);
    let said = new.list("n1", c1(), vec![], vec![]);
    assert_eq!(once(said), ["[c1 longest-wait: voicemail]", "continue c1 voicemail"]);
}

#[test]
fn a_phone_that_rings_is_let_ring() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let mut new = taken_over(&s);
    assert_eq!((new.state("ann"), new.controller.offers().count()), ("offered", 1));
    assert_eq!(new.list("n1", c1(), vec![seen_leg("7-1", "ann", "c1", false)], vec![]), [""; 0]);
    offering(&mut new);
    assert_eq!(new.pass(10_999), [""; 0]);
    assert_eq!(new.pass(1), ["drop mqs-7-1", "void mqs-7-1"], "as long as it was to ring");
}

#[test]
fn a_phone_that_rings_and_is_answered_meanwhile_is_joined() {
    for made in [Outcome::Done, Outcome::Unknown] {
        let mut s = Scene::new();
        s.login("ann");
        s.enter("c1", "sales");
        s.answer("originate", made);
        let mut new = taken_over(&s);
        let legs = vec![seen_leg("7-1", "ann", "c1", true)];
        assert_eq!(new.list("n1", c1(), legs, vec![]), ["join c1 mqs-7-1"]);
    }
}

#[test]
fn an_offer_whose_leg_is_not_shown_is_over_and_its_call_is_in_its_place() {
    for made in [false, true] {
        let mut s = Scene::new();
        s.login("ann");
        s.enter("c1", "sales");
        if made {
            s.rings();
        }
        let mut new = taken_over(&s);
        assert_eq!(
            new.list("n1", c1(), vec![], vec![]),
            ["[7-1 lost]", "[ann ready]"],
            "its token is of an epoch that is over: nobody will ring"
        );
        assert_eq!(new.stage("c1"), Some(&Stage::Waiting));
        assert_eq!(offering(&mut new)[1], "[8-1: c1 to ann]");
        assert_eq!(new.controller.call(&name("c1")).unwrap().enqueued, EpochMs(1_000_000));
    }
}

#[test]
fn two_who_are_being_joined_are_joined() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    let mut new = taken_over(&s);
    assert_eq!(new.stage("c1"), Some(&Stage::Connecting { offer: name("7-1") }));
    assert_eq!(
        new.list("n1", c1(), vec![seen_leg("7-1", "ann", "c1", true)], vec![]),
        ["join c1 mqs-7-1"],
        "nobody is waited for who was asked by the last leader"
    );
    assert_eq!(new.answer("join", Outcome::Done), ["[ann talking]", "[c1 with ann]"]);
    // They have been meanwhile.
    let mut new = taken_over(&s);
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    let said = new.list("n1", c1(), vec![seen_leg("7-1", "ann", "c1", true)], both);
    assert_eq!(said, ["[ann talking]", "[c1 with ann]"]);
}

#[test]
fn two_who_talk_go_on() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let mut new = taken_over(&s);
    assert_eq!(new.state("ann"), "talking");
    let legs = vec![seen_leg("7-1", "ann", "c1", true)];
    let both = vec![bridge("7-1", &["c1", "mqs-7-1"])];
    assert_eq!(new.list("n1", c1(), legs, both), [""; 0]);
    assert_eq!(
        new.leg_ended("7-1", LegEnd::HungUp),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"]
    );
}

#[test]
fn an_agent_who_hung_up_meanwhile_rests_and_the_caller_is_not_left_alone() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    let mut new = taken_over(&s);
    assert_eq!(
        once(new.list("n1", c1(), vec![], vec![])),
        ["[7-1 taken]", "[ann wrap-up]", "drop mqs-7-1", "hang up c1 16"]
    );
    let mut new = taken_over(&s);
    let said = new.list("n1", vec![], vec![], vec![]);
    assert_eq!(
        said.iter().filter(|l| l.starts_with('[')).collect::<Vec<_>>(),
        ["[c1 unseen]", "[7-1 taken]", "[ann wrap-up]"]
    );
}

#[test]
fn what_was_being_ended_is_ended() {
    // A leg.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leave("c1");
    let mut new = taken_over(&s);
    assert_eq!(new.state("ann"), "offered");
    assert_eq!(new.pass(AGAIN_MS), [""; 0], "the node may not be the one that it was");
    assert_eq!(new.list("n1", vec![], vec![seen_leg("7-1", "ann", "c1", false)], vec![]), ["void mqs-7-1"]);
    assert_eq!(new.pass(AGAIN_MS), ["void mqs-7-1"]);
    new.pass(GRACE_MS + 1);
    assert_eq!(new.list("n1", vec![], vec![], vec![]), ["[7-1 withdrawn]", "[ann ready]"]);
    // A caller who is to go to a treatment, and one who is to be hung up.
    let mut s = Scene::new();
    s.enter("c1", "nowhere");
    s.login("ann");
    s.connect("c2", "7-1");
    s.leg_ended("7-1", LegEnd::HungUp);
    let (mut new, said) = take_over(&s, saved(&s));
    assert_eq!(said, [""; 0]);
    let both = vec![Scene::caller("c1", "nowhere", "0"), marked("c2", EpochMs(1_000_000))];
    assert_eq!(new.list("n1", both, vec![], vec![]), ["continue c1 closed", "hang up c2 16"]);
    assert_eq!(new.leave("c1"), ["[c1 treated]"]);
    assert_eq!(new.leave("c2"), ["[c2 agent-hung-up]"]);
}

#[test]
fn the_agents_are_what_they_were() {
    let mut s = Scene::with(|setup| {
        for id in ["cat", "dan"] {
            setup.agents.insert(name(id), agent_rules(id, &["sales"]));
        }
    });
    s.login("ann");
    s.connect("c1", "7-1");
    s.leg_ended("7-1", LegEnd::HungUp);
    s.leave("c1");
    s.login("bob");
    s.command(Command::Pause(name("bob"), "tea".into()));
    s.login("cat");
    let mut new = taken_over(&s);
    let states = ["ann", "bob", "cat", "dan"].map(|agent| new.state(agent));
    assert_eq!(states, ["wrap-up", "paused", "ready", "offline"]);
    assert_eq!(new.pass(999), [""; 0]);
    assert_eq!(new.pass(1), ["[ann ready]"], "the rest began under the last leader");
    assert_eq!(new.controller.agent(&name("ann")).unwrap().taken, [(name("sales"), 1)].into());
}

#[test]
fn what_comes_after_a_call_is_not_forgotten() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.command(Command::Logout(name("ann")));
    let mut new = taken_over(&s);
    assert_eq!(new.leg_ended("7-1", LegEnd::HungUp)[..2], ["[7-1 taken]", "[ann offline]"]);
}

#[test]
fn an_offer_is_the_truth_about_its_agent_and_its_call() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    let before = saved(&s);
    let of = |agents: Vec<Agent>, state: AgentState| -> Vec<Agent> {
        agents.into_iter().map(|agent| Agent { state: state.clone(), ..agent }).collect()
    };
    for (state, then) in [
        (AgentState::Ready { rests_until: EpochMs(0) }, Then::Ready),
        (AgentState::Offline, Then::Leave),
        (AgentState::Paused { reason: "tea".into() }, Then::Pause { reason: "tea".into() }),
    ] {
        // The agent's record is of a moment before the offer.
        let ann = before.agents.iter().filter(|agent| agent.id == name("ann")).cloned().collect();
        let saved = Saved { agents: of(ann, state), ..before.clone() };
        let (new, _) = take_over(&s, saved);
        let state = &new.controller.agent(&name("ann")).unwrap().state;
        assert_eq!(state, &AgentState::Offered { offer: name("7-1"), then });
    }
    // It is lost.
    let (new, _) = take_over(&s, Saved { agents: vec![], ..before.clone() });
    assert_eq!(new.state("ann"), "offered");
    // The call's record is of a moment before the offer.
    let mut saved = before.clone();
    saved.calls[0].stage = Stage::Waiting;
    let (new, _) = take_over(&s, saved);
    assert_eq!(new.stage("c1"), Some(&Stage::Offered { offers: [name("7-1")].into() }));
    // The offer is lost: agent and call are free.
    let (new, _) = take_over(&s, Saved { offers: vec![], ..before.clone() });
    assert_eq!((new.state("ann"), new.stage("c1")), ("ready", Some(&Stage::Waiting)));
    assert_eq!(new.controller.in_line(&name("sales")), 1);
    // The call is lost: the leg is dropped.
    let (mut new, said) = take_over(&s, Saved { calls: vec![], ..before });
    assert_eq!(said, ["drop mqs-7-1", "void mqs-7-1"]);
    assert_eq!(new.list("n1", vec![], vec![], vec![]), ["[7-1 withdrawn]", "[ann ready]"]);
}

#[test]
fn a_call_whose_offer_is_lost_comes_back_into_the_line_of_the_store() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.leg_answered("7-1");
    let left = Saved { offers: vec![], ..saved(&s) };
    let mut new = Controller::restore(8, Arc::new(s.setup.clone()), 1, left, s.now + 4_000);
    new.handle(Input::Tick, s.now + 4_000);
    let outputs: Vec<Output> = std::iter::from_fn(|| new.next_output()).collect();
    let placed =
        |output: &Output| matches!(output, Output::Change(Change::Place { call, .. }) if *call == name("c1"));
    assert!(outputs.iter().any(placed), "{outputs:?}");
}

#[test]
fn who_is_laid_down_no_longer_is_forgotten_after_the_call() {
    let mut s = Scene::new();
    s.login("ann");
    s.login("bob");
    s.connect("c1", "7-1");
    s.setup.agents.clear();
    let mut new = taken_over(&s);
    assert_eq!(new.controller.agents().map(|a| a.id.clone()).collect::<Vec<_>>(), [name("ann")]);
    new.leg_ended("7-1", LegEnd::HungUp);
    assert_eq!(new.controller.agents().count(), 0);
}

#[test]
fn a_queue_that_is_laid_down_no_longer_lets_its_calls_go() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    s.setup.queues.remove(&name("sales"));
    let (mut new, said) = take_over(&s, saved(&s));
    assert_eq!(said, [""; 0], "its caller may be with an agent");
    let said = new.list("n1", c1(), vec![], vec![]);
    assert_eq!(once(said), ["[c1 no-queue: closed]", "continue c1 closed"]);
}

#[test]
fn a_leg_of_writes_that_are_lost_holds_its_agent_though_another_offer_claims_them() {
    // The store has forgotten that 7-1 ended and 7-2 rings.
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let old = saved(&s);
    let (mut new, _) = take_over(&s, old);
    let said = new.list("n1", c1(), vec![seen_leg("7-2", "ann", "c1", false)], vec![]);
    assert_eq!(said, ["[7-1 lost]", "drop mqs-7-2"]);
    assert_eq!(new.state("ann"), "offered", "her phone rings");
    assert_eq!(offering(&mut new), [""; 0]);
    assert_eq!(new.leg_ended("7-2", LegEnd::Cancelled)[..2], ["[7-2 lost]", "[ann ready]"]);
}

#[test]
fn an_agent_with_two_offers_is_free_after_the_second_one() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    let mut left = saved(&s);
    // The store has the offer after it, and not that this one has ended.
    let second = Offer { id: name("7-2"), leg: leg("7-2"), ..left.offers[0].clone() };
    left.offers.push(second);
    let (mut new, _) = take_over(&s, left);
    assert_eq!(new.stage("c1"), Some(&Stage::Offered { offers: [name("7-1"), name("7-2")].into() }));
    let said = new.list("n1", c1(), vec![seen_leg("7-2", "ann", "c1", false)], vec![]);
    assert_eq!(said, ["[7-1 lost]"]);
    let state = &new.controller.agent(&name("ann")).unwrap().state;
    assert_eq!(state, &AgentState::Offered { offer: name("7-2"), then: Then::Ready });
    offering(&mut new);
    assert_eq!(new.leg_ended("7-2", LegEnd::Refused), ["[7-2 refused]", "[ann ready]"]);
    assert_eq!(new.controller.agent(&name("ann")).unwrap().misses, 1);
}

#[test]
fn nobody_moves_a_call_before_its_node_was_heard() {
    let mut s = Scene::new();
    s.enter("c1", "sales");
    let mut new = taken_over(&s);
    let to_care = || Command::Move(name("c1"), name("care"));
    assert_eq!(new.command(to_care()), ["[NodeAway]"]);
    new.list("n1", c1(), vec![], vec![]);
    assert_eq!(new.command(to_care()), ["[c1 waits in care]", "[Done]", "attend c1"]);
}

#[test]
fn a_queue_that_is_empty_is_left_when_the_node_was_heard() {
    let mut s = Scene::with(|setup| {
        setup.queues.get_mut(&name("sales")).unwrap().stay = Presence::LoggedIn;
    });
    s.login("ann");
    s.enter("c1", "sales");
    let left = Saved { agents: vec![], offers: vec![], ..saved(&s) };
    let (mut new, said) = take_over(&s, left);
    assert_eq!(said, [""; 0]);
    assert_eq!(
        once(new.list("n1", c1(), vec![], vec![])),
        ["[c1 leave-empty: closed]", "continue c1 closed"]
    );
}

#[test]
fn an_offer_that_had_ended_goes_on_as_what_it_was() {
    let mut s = Scene::new();
    s.login("ann");
    s.enter("c1", "sales");
    s.rings();
    s.pass(15_000);
    assert!(matches!(
        s.controller.offers().next().unwrap().stage,
        OfferStage::Ending { why: OfferEnd::NoAnswer, .. }
    ));
    let mut new = taken_over(&s);
    assert_eq!(new.stage("c1"), Some(&Stage::Waiting));
    assert_eq!(new.list("n1", c1(), vec![], vec![]), ["[7-1 no-answer]", "[ann ready]"]);
    assert_eq!(new.controller.agent(&name("ann")).unwrap().misses, 1);
}

#[test]
fn nothing_but_its_end_is_left_of_a_call_that_is_sent_away() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.leg_ended("7-1", LegEnd::HungUp);
    let mut new = taken_over(&s);
    assert_eq!(new.stage("c1"), Some(&Stage::Ending { reason: DoneReason::AgentHungUp, cause: 16 }));
    assert_eq!(new.list("n1", vec![], vec![], vec![]), ["[c1 agent-hung-up]"]);
}

/// c1 is with ann by 7-1, and bob's phone rings for it by 7-2.
fn passing() -> Scene {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    s.tell(Input::Transfer(Transfer { offer: name("7-1"), leg: leg("7-1"), to: To::Dialled("bob".into()) }));
    s.rings();
    s
}

#[test]
fn whom_an_agent_passes_a_caller_on_to_is_joined_with_the_caller() {
    let mut new = taken_over(&passing());
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("7-2", "bob", "c1", false)];
    assert_eq!(new.list("n1", c1(), legs, vec![bridge("7-1", &["c1", "mqs-7-1"])]), [""; 0]);
    assert_eq!(new.leg_answered("7-2"), ["[c1 to agent bob]", "join c1 mqs-7-2", "tell mqs-7-1 Answered"]);
    assert_eq!(new.answer("join", Outcome::Done), ["[bob talking]", "[c1 passed on to bob]"]);
    // Nobody has answered.
    let mut new = taken_over(&passing());
    let legs = vec![seen_leg("7-1", "ann", "c1", true), seen_leg("7-2", "bob", "c1", false)];
    new.list("n1", c1(), legs, vec![bridge("7-1", &["c1", "mqs-7-1"])]);
    let said = new.leg_ended("7-2", LegEnd::Refused);
    assert_eq!(said, ["[7-2 refused]", "[bob ready]", "tell mqs-7-1 Unavailable"]);
    assert!(matches!(new.stage("c1"), Some(Stage::Connected { .. })));
    // The agent has hung up meanwhile: the phone rings on for the caller.
    let mut new = taken_over(&passing());
    let said = new.list("n1", c1(), vec![seen_leg("7-2", "bob", "c1", false)], vec![]);
    assert!(
        said.contains(&"attend c1".to_owned()) && !said.contains(&"hang up c1 16".to_owned()),
        "{said:?}"
    );
    assert_eq!(new.stage("c1"), Some(&Stage::Offered { offers: [name("7-2")].into() }));
}

#[test]
fn two_whom_a_transfer_has_joined_go_on_though_the_store_has_forgotten_it() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    let talk = || (seen_leg("7-2", "bob", "c1", true), bridge("7-2", &["c1", "mqs-7-2"]));
    // The leg of her who has passed the caller on is there, alone, or gone.
    for stays in [true, false] {
        let mut new = taken_over(&s);
        let (leg, both) = talk();
        let (mut legs, mut bridges) = (vec![leg], vec![both]);
        if stays {
            legs.push(seen_leg("7-1", "ann", "c1", true));
            bridges.push(bridge("7-1", &["mqs-7-1"]));
        }
        let said = new.list("n1", c1(), legs, bridges);
        assert!(said.contains(&"join c1 mqs-7-2".to_owned()), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("mqs-7-2") && !line.starts_with("join")), "{said:?}");
        assert!(!said.contains(&"hang up c1 16".to_owned()), "{said:?}");
        assert_eq!(new.answer("join", Outcome::Done), ["[bob talking]", "[c1 with bob]"]);
        if stays {
            assert!(said.contains(&"drop mqs-7-1".to_owned()), "{said:?}");
            new.leg_ended("7-1", LegEnd::HungUp);
        }
        assert_eq!((new.state("ann"), new.state("bob")), ("wrap-up", "talking"));
        assert!(matches!(new.stage("c1"), Some(Stage::Connected { offer, .. }) if *offer == name("7-2")));
    }
    // A leg that is in no bridge with the caller is dropped, as ever.
    let mut new = taken_over(&s);
    let (leg, both) = talk();
    let legs = vec![leg, seen_leg("7-1", "ann", "c1", true)];
    let said = new.list("n1", c1(), legs, vec![both, bridge("7-1", &["c1", "mqs-7-1"])]);
    assert!(said.contains(&"drop mqs-7-2".to_owned()), "{said:?}");
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    let mut left = saved(&s);
    let mut new = Controller::restore(8, Arc::new(s.setup.clone()), 1, left.clone(), s.now + 4_000);
    assert_eq!(new.next_output(), None);
    // What follows from what is lost is written.
    left.offers.clear();
    let mut new = Controller::restore(8, Arc::new(s.setup.clone()), 1, left, s.now + 4_000);
    let outputs: Vec<Output> = std::iter::from_fn(|| new.next_output()).collect();
    let of = |wanted: &str| {
        let agent = |o: &Output| matches!(o, Output::Change(Change::Agent(a)) if a.id == name(wanted));
        outputs.iter().any(agent)
    };
    assert_eq!((of("ann"), of("bob")), (true, false), "{outputs:?}");
}

#[test]
fn who_has_taken_the_place_of_another_call_keeps_it_though_the_store_has_forgotten_it() {
    let mut s = Scene::new();
    s.login("ann");
    s.connect("c1", "7-1");
    s.login("bob");
    s.connect("c2", "7-2");
    // c1 is with bob since; c2 and ann have gone.
    let mut new = taken_over(&s);
    let said = new.list(
        "n1",
        c1(),
        vec![seen_leg("7-2", "bob", "c2", true)],
        vec![bridge("7-2", &["c1", "mqs-7-2"])],
    );
    assert!(!said.iter().any(|line| line.contains(" mqs-7-2") || line.contains("hang up c1")), "{said:?}");
    assert!(
        said.contains(&"[c1 with bob]".to_owned()) && said.contains(&"[c2 transferred]".to_owned()),
        "{said:?}"
    );
    assert_eq!(new.state("bob"), "talking");
    assert_eq!(new.leave("c1")[0], "[c1 caller-hung-up]");
}
