//! Agents and queues that are laid down at run time.

use super::*;
use crate::domain::agent::AgentState;

fn set(id: &str, rules: &AgentRules) -> Command {
    Command::SetAgent(name(id), Box::new(rules.clone()))
}

fn registered(aor: &str) -> Input {
    Input::Registered(vec![Registered { aor: aor.into(), proxy: name("k1"), at: EpochMs(999_000) }])
}

#[test]
fn an_agent_is_laid_down_gets_a_call_and_is_taken_away() {
    let mut s = Scene::new();
    let eve = agent_rules("eve", &["sales"]);
    assert_eq!(s.command(set("eve", &eve)), ["[Done]"]);
    assert!(s.changes.contains(&Change::Rules(name("eve"), Box::new(eve.clone()))));
    assert_eq!(s.command(set("eve", &eve)), ["[Already]"]);
    s.tell(registered("eve@example.com"));
    s.login("eve");
    let lines = s.enter("c1", "sales");
    assert!(lines.iter().any(|line| line.contains("eve")), "{lines:?}");
    // In an offer: the leg is ended first.
    s.command(Command::RemoveAgent(name("eve")));
    assert!(s.changes.contains(&Change::RulesGone(name("eve"))));
    assert_eq!(s.state("eve"), "offered");
    s.leg_ended("7-1", LegEnd::Busy);
    assert_eq!(s.controller.agent(&name("eve")), None);
    assert_eq!(s.command(Command::RemoveAgent(name("eve"))), ["[NoAgent]"]);
    assert_eq!(s.command(Command::Login(name("eve"))), ["[NoAgent]"]);
}

#[test]
fn what_cannot_be_is_said() {
    let mut s = Scene::new();
    assert_eq!(s.command(set("ann", &agent_rules("ann", &["sales"]))), ["[InFile]"]);
    assert_eq!(s.command(Command::RemoveAgent(name("ann"))), ["[InFile]"]);
    assert_eq!(s.command(set("eve", &agent_rules("eve", &["nowhere"]))), ["[NoQueue]"]);
    assert_eq!(s.command(set("eve", &agent_rules("bob", &["sales"]))), ["[AorTaken]"]);
    assert_eq!(s.command(set("eve", &agent_rules("eve", &["sales"]))), ["[Done]"]);
    assert_eq!(s.command(set("fay", &agent_rules("eve", &["sales"]))), ["[AorTaken]"]);
    assert!(s.controller.rules().contains_key(&name::<crate::domain::id::AgentId>("eve")));
    assert_eq!(s.controller.rules().len(), 1);
}

#[test]
fn another_rule_counts_at_once_and_the_state_stays() {
    let mut s = Scene::new();
    s.command(set("eve", &agent_rules("eve", &["care"])));
    s.tell(registered("eve@example.com"));
    s.login("eve");
    assert_eq!(s.enter("c1", "sales").iter().filter(|line| line.contains("eve")).count(), 0);
    let lines = s.command(set("eve", &agent_rules("eve", &["sales"])));
    assert!(lines.iter().any(|line| line.contains("originate") || line.contains("eve")), "{lines:?}");
    assert_eq!(s.state("eve"), "offered");
}

#[test]
fn the_configuration_counts_where_both_speak() {
    let mut s = Scene::new();
    let eve = agent_rules("eve", &["sales"]);
    s.command(set("eve", &eve));
    s.login("eve");
    let mut setup = s.setup.clone();
    // The same name with another phone, then another name with the same phone.
    setup.agents.insert(name("eve"), agent_rules("other", &["care"]));
    s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(s.state("eve"), "ready");
    assert_eq!(s.command(set("eve", &eve)), ["[InFile]"]);
    let mut setup = s.setup.clone();
    setup.agents.insert(name("fay"), agent_rules("eve", &["care"]));
    s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(s.controller.agent(&name("eve")), None);
    // When the file is silent again, what was said counts again.
    let whole = Arc::new(s.setup.clone());
    s.tell(Input::Setup(whole));
    assert_eq!(s.controller.agent(&name("eve")).map(|a| a.state.clone()), Some(AgentState::Offline));
    s.command(Command::RemoveAgent(name("eve")));
    assert_eq!(s.controller.agent(&name("eve")), None);
}

#[test]
fn the_next_leader_knows_them_and_a_store_that_forgot_is_told() {
    let mut s = Scene::new();
    let eve = agent_rules("eve", &["sales"]);
    s.command(set("eve", &eve));
    s.login("eve");
    let saved = super::restore::saved(&s);
    let new = Controller::restore(8, Arc::new(s.setup.clone()), 1, saved, s.now + 1_000);
    assert_eq!(new.agent(&name("eve")).map(|agent| agent.state.as_str()), Some("ready"));
    assert_eq!(new.rules().get(&name::<crate::domain::id::AgentId>("eve")), Some(&eve));
    let all = s.controller.rewrite(9, s.now);
    assert!(all.contains(&Change::Rules(name("eve"), Box::new(eve))));
}

fn lay(id: &str, rules: &QueueRules) -> Command {
    Command::SetQueue(name(id), Box::new(rules.clone()))
}

#[test]
fn a_queue_is_laid_down_serves_and_is_taken_away() {
    let mut s = Scene::new();
    assert_eq!(s.enter("c1", "night"), ["[c1 no-queue: closed]", "continue c1 closed"]);
    assert_eq!(s.command(lay("night", &queue_rules())), ["[Done]"]);
    assert!(s.changes.contains(&Change::Queue(name("night"), Box::new(queue_rules()))));
    assert_eq!(s.command(lay("night", &queue_rules())), ["[Already]"]);
    s.command(set("eve", &agent_rules("eve", &["night"])));
    s.tell(registered("eve@example.com"));
    s.enter("c2", "night");
    s.enter("c3", "night");
    let lines = s.login("eve");
    assert!(lines.contains(&"[7-1: c2 to eve]".to_owned()), "{lines:?}");
    s.rings();
    s.leg_answered("7-1");
    s.answer("join", Outcome::Done);
    s.enter("c4", "night");
    // Who talks goes on; who waits is treated, and nobody else comes in.
    let lines = s.command(Command::RemoveQueue(name("night")));
    assert!(s.changes.contains(&Change::QueueGone(name("night"))));
    for call in ["c3", "c4"] {
        assert!(lines.contains(&format!("[{call} no-queue: closed]")), "{lines:?}");
        assert!(lines.contains(&format!("continue {call} closed")), "{lines:?}");
    }
    assert_eq!(s.stage("c2").map(Stage::as_str), Some("connected"));
    assert_eq!(s.enter("c5", "night"), ["[c5 no-queue: closed]", "continue c5 closed"]);
    assert_eq!(s.command(Command::RemoveQueue(name("night"))), ["[NoQueue]"]);
    s.leave("c2");
    let lines = s.leg_ended("7-1", LegEnd::HungUp);
    assert!(lines.contains(&"[eve ready]".to_owned()), "{lines:?}");
}

#[test]
fn what_a_queue_cannot_be_is_said() {
    let mut s = Scene::new();
    assert_eq!(s.command(lay("sales", &queue_rules())), ["[InFile]"]);
    assert_eq!(s.command(Command::RemoveQueue(name("sales"))), ["[InFile]"]);
    let mut odd = queue_rules();
    odd.ends.insert(TreatedFor::Full, name("nowhere"));
    assert_eq!(s.command(lay("night", &odd)), ["[NoTreatment]"]);
    for number in 0..QUEUES_MAX {
        assert_eq!(s.command(lay(&format!("q{number}"), &queue_rules())), ["[Done]"]);
    }
    assert_eq!(s.command(lay("night", &queue_rules())), ["[QueuesFull]"]);
    assert_eq!(s.command(lay("q7", &by(Strategy::RingAll))), ["[Done]"]);
    assert_eq!(s.command(Command::RemoveQueue(name("q7"))), ["[Done]"]);
    assert_eq!(s.command(lay("night", &queue_rules())), ["[Done]"]);
}

#[test]
fn a_queue_of_the_configuration_counts_before_one_of_the_same_name() {
    let mut s = Scene::new();
    s.command(lay("night", &QueueRules { waiting_max: 1, ..queue_rules() }));
    s.enter("c1", "night");
    let mut setup = s.setup.clone();
    setup.queues.insert(name("night"), QueueRules { waiting_max: 2, ..queue_rules() });
    s.tell(Input::Setup(Arc::new(setup)));
    assert_eq!(s.enter("c2", "night"), ["[c2 waits in night]", "attend c2"]);
    assert_eq!(s.command(lay("night", &queue_rules())), ["[InFile]"]);
    // When the file is silent again, what was said counts again.
    let whole = Arc::new(s.setup.clone());
    assert_eq!(s.tell(Input::Setup(whole)), [""; 0]);
    assert_eq!(s.controller.in_line(&name("night")), 2);
    assert_eq!(s.enter("c3", "night"), ["[c3 full: busy]", "hang up c3 17"]);
}

#[test]
fn the_next_leader_knows_queues_and_a_store_that_forgot_is_told() {
    let mut s = Scene::new();
    s.command(lay("night", &queue_rules()));
    s.enter("c1", "night");
    let saved = super::restore::saved(&s);
    let new = Controller::restore(8, Arc::new(s.setup.clone()), 1, saved, s.now + 1_000);
    assert_eq!(new.call(&name("c1")).map(|call| call.stage.as_str()), Some("waiting"));
    assert!(new.setup().queues.contains_key(&name::<QueueId>("night")));
    let all = s.controller.rewrite(9, s.now);
    assert!(all.contains(&Change::Queue(name("night"), Box::new(queue_rules()))));
}

#[test]
fn who_is_laid_down_again_while_a_leg_is_there_is_not_called_twice() {
    let mut s = Scene::new();
    let eve = agent_rules("eve", &["sales"]);
    s.command(set("eve", &eve));
    s.tell(registered("eve@example.com"));
    s.login("eve");
    s.enter("c1", "sales");
    // The store has forgotten who she is, and not her offer.
    let left = Saved { rules: Vec::new(), agents: Vec::new(), ..super::restore::saved(&s) };
    let now = s.now + 1_000;
    let controller = Controller::restore(8, Arc::new(s.setup.clone()), 1, left, now);
    let mut new = Scene { controller, setup: s.setup.clone(), now, effects: Vec::new(), changes: Vec::new() };
    assert_eq!(new.controller.agent(&name("eve")), None);
    new.command(set("eve", &eve));
    new.tell(registered("eve@example.com"));
    new.login("eve");
    assert_eq!(new.state("eve"), "offered");
    new.leg_ended("7-1", LegEnd::Busy);
    assert_eq!(new.state("eve"), "ready");
}

#[test]
fn who_is_taken_away_is_gone_for_those_who_follow_and_for_the_matching() {
    let mut s = Scene::with(|setup| {
        setup.queues.insert(name("sales"), by(Strategy::RoundRobin));
    });
    let eve = agent_rules("eve", &["sales"]);
    s.command(set("eve", &eve));
    s.tell(registered("eve@example.com"));
    s.login("eve");
    s.enter("c1", "sales");
    s.leave("c1");
    s.leg_ended("7-1", LegEnd::Busy);
    assert_eq!(s.state("eve"), "ready");
    let turns = |s: &Scene| format!("{:?}", s.controller.matcher).matches("eve").count();
    assert!(turns(&s) > 0);
    assert_eq!(s.command(Command::RemoveAgent(name("eve"))), ["[eve offline]", "[Done]"]);
    assert_eq!((turns(&s), s.controller.present.len()), (0, 0));
    // Who was not there is not told to be gone; who has a leg is gone with it.
    s.command(set("eve", &eve));
    assert_eq!(s.command(Command::RemoveAgent(name("eve"))), ["[Done]"]);
    s.command(set("eve", &eve));
    s.tell(registered("eve@example.com"));
    s.login("eve");
    s.enter("c2", "sales");
    assert_eq!(s.state("eve"), "offered");
    assert_eq!(s.command(Command::RemoveAgent(name("eve"))), ["[Done]"]);
    assert_eq!(s.leg_ended("7-2", LegEnd::Busy), ["[7-2 busy]", "[eve offline]"]);
    s.leave("c2");
    assert_eq!(turns(&s), 0);
    // By the configuration.
    s.login("ann");
    s.setup.agents.remove(&name("ann"));
    let setup = Arc::new(s.setup.clone());
    assert_eq!(s.tell(Input::Setup(setup)), ["[ann offline]"]);
}

#[test]
fn of_queues_that_only_a_dialplan_names_nothing_stays() {
    let mut s = Scene::new();
    let before = s.controller.book.lines.len();
    for number in 0..10 {
        let channel = format!("c{number}");
        s.enter(&channel, &format!("nowhere{number}"));
        s.leave(&channel);
    }
    s.enter("c1", "sales");
    s.command(Command::Move(name("c1"), name("care")));
    assert_eq!(s.controller.book.lines.len() - before, 1);
    s.leave("c1");
    assert_eq!(s.controller.book.lines.len(), before);
}

/// What one command leads to is what going through everything would.
#[test]
fn what_is_laid_down_one_by_one_is_as_if_laid_down_at_once() {
    let mut s = Scene::with(|setup| {
        setup.queues.get_mut(&name("sales")).unwrap().stay = Presence::LoggedIn;
    });
    s.command(lay("night", &queue_rules()));
    for (id, queues) in
        [("eve", &["sales"][..]), ("fay", &["night", "care"]), ("gus", &["night"]), ("hal", &[])]
    {
        s.command(set(id, &agent_rules(id, queues)));
        s.login(id);
    }
    s.enter("c1", "night");
    s.enter("c2", "sales");
    s.command(Command::RemoveAgent(name("gus")));
    s.command(lay("night", &by(Strategy::FewestCalls)));
    s.command(lay("day", &queue_rules()));
    s.command(set("hal", &agent_rules("hal", &["day", "sales"])));
    s.command(Command::RemoveQueue(name("day")));
    s.command(set("fay", &agent_rules("fey", &["sales"])));
    assert_eq!(s.stage("c2").map(Stage::as_str), Some("waiting"));
    let now = s.now;
    let known = |s: &Scene| {
        let c = &s.controller;
        (c.setup.clone(), c.agent_of.clone(), c.aors.clone(), format!("{:?}", c.present))
    };
    let one_by_one = known(&s);
    s.controller.lay_down(now);
    assert_eq!(one_by_one, known(&s));
    // The last of a queue's agents who goes takes its callers along.
    for (id, rest) in [("eve", "waiting"), ("hal", "waiting"), ("fay", "treated")] {
        s.command(set(id, &agent_rules(id, &["care"])));
        assert_eq!(s.stage("c2").map(Stage::as_str), Some(rest), "{id}");
    }
}

/// Thousands may be laid down in a row: each costs what it changes.
#[test]
fn what_is_laid_down_for_one_touches_nobody_else() {
    let mut s = Scene::new();
    s.login("ann");
    let rounds = |s: &Scene| s.controller.book.agents[&name::<AgentId>("ann")].round;
    let (before, kept) = (rounds(&s), Arc::as_ptr(&s.controller.file));
    for number in 0..100 {
        let id = format!("e{number}");
        assert_eq!(s.command(set(&id, &agent_rules(&id, &["sales"]))), ["[Done]"]);
        assert_eq!(s.command(lay(&format!("q{number}"), &queue_rules())), ["[Done]"]);
        if number > 0 {
            assert_eq!(Arc::strong_count(&s.controller.setup), 1, "it was changed where it is");
        }
    }
    assert_eq!(s.command(Command::RemoveAgent(name("e7"))), ["[Done]"]);
    assert_eq!(s.command(Command::RemoveQueue(name("q7"))), ["[Done]"]);
    assert_eq!((rounds(&s), Arc::as_ptr(&s.controller.file)), (before, kept), "ann was not made ready anew");
    assert_eq!(s.controller.setup.agents.len(), 2 + 99);
}
