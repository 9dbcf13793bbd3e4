use super::*;
use crate::domain::agent::{AgentRules, OwnCall};
use crate::domain::controller::{Command, Event, Said, What};
use crate::domain::matching::Membership;

fn call(stage: Stage) -> Call {
    Call {
        id: "ast1-1700000000.42".parse().unwrap(),
        channel: Channel { node: "ast1".parse().unwrap(), id: "ast1-1700000000.42".parse().unwrap() },
        identity: Arc::new(Identity {
            name: "Zoë \"Z\" \u{1}".into(),
            number: "+4930123456".into(),
            sip_call_id: "a84b4c76e66710@pc33".into(),
        }),
        queue: "sales".parse().unwrap(),
        priority: "500".parse().unwrap(),
        enqueued: EpochMs(1_700_000_000_000),
        joined: EpochMs(1_700_000_000_500),
        wishes: ["de", "gold"].iter().map(|skill| skill.parse().unwrap()).collect(),
        tries: 2,
        crashes: 1,
        hops: 3,
        avoid: BTreeMap::new(),
        stage,
    }
}

fn offer_id() -> OfferId {
    "18bcfe568a0-1".parse().unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let _ = Membership::default();
    let treatment = || "voicemail".parse().unwrap();
    let mut stages = vec![
        Stage::Waiting,
        Stage::Offered { offers: [offer_id(), "18bcfe568a0-2".parse().unwrap()].into() },
        Stage::Connecting { offer: offer_id() },
        Stage::Connected { offer: offer_id(), since: EpochMs(7) },
    ];
    stages.extend(TreatedFor::ALL.map(|why| Stage::Treated { treatment: treatment(), why, extension: None }));
    let (why, extension) = (TreatedFor::Transferred, Some("+4930123".into()));
    stages.push(Stage::Treated { treatment: treatment(), why, extension });
    stages.extend(DoneReason::ALL.map(|reason| Stage::Ending { reason, cause: 17 }));
    let calls: Vec<Call> = stages.into_iter().map(call).collect();
    let pause = || Then::Pause { reason: Arc::from("lunch, \"late\"") };
    let states = [
        AgentState::Offline,
        AgentState::Ready { rests_until: EpochMs(5) },
        AgentState::Offered { offer: offer_id(), then: Then::Ready },
        AgentState::Offered { offer: offer_id(), then: pause() },
        AgentState::Talking { offer: offer_id(), then: Then::Leave },
        AgentState::WrapUp { until: EpochMs(6) },
        AgentState::Paused { reason: Arc::from("") },
    ];
    let agents: Vec<Agent> = states
        .into_iter()
        .map(|state| Agent {
            id: "agent17@example.com".replace('@', ".").parse().unwrap(),
            state,
            taken: [("sales".parse().unwrap(), 7)].into(),
            misses: 2,
            idle_since: EpochMs(8),
            own_calls: BTreeMap::new(),
        })
        .collect();
    let mut agents = agents;
    let own = OwnCall { proxy: name("k1"), since: EpochMs(9) };
    agents[1].own_calls.insert("0123456789abcdef0123456789abcdef".into(), own);
    let mut stages = vec![
        OfferStage::Making,
        OfferStage::Ringing { until: EpochMs(9) },
        OfferStage::Announcing { until: EpochMs(9) },
        OfferStage::Connecting { again: EpochMs(10), tries: 2 },
        OfferStage::Joined { since: EpochMs(11) },
    ];
    stages.extend(OfferEnd::ALL.map(|why| OfferStage::Ending { why, again: EpochMs(12) }));
    let offers: Vec<Offer> = stages
        .into_iter()
        .map(|stage| Offer {
            id: offer_id(),
            call: "ast1-1700000000.42".parse().unwrap(),
            agent: "agent17".parse().unwrap(),
            queue: "sales".parse().unwrap(),
            leg: Channel { node: "ast1".parse().unwrap(), id: "mqs-18bcfe568a0-1".parse().unwrap() },
            proxy: "k1".parse().unwrap(),
            made: EpochMs(13),
            stage,
        })
        .collect();
    let mut records = Vec::new();
    records.extend(calls.iter().map(|call| (call_name(&call.id), write_call(call))));
    records.extend(agents.iter().map(|agent| (agent_name(&agent.id), write_agent(agent))));
    records.extend(offers.iter().map(|offer| (offer_name(&offer.id), write_offer(offer))));
    let (saved, damaged) = read_all(&records);
    assert_eq!(damaged, []);
    assert_eq!(saved, Saved { calls, agents, offers, rules: Vec::new(), queues: Vec::new() });
}

#[test]
fn what_cannot_be_read_is_named_and_hides_nothing() {
    let good = call(Stage::Waiting);
    let text = write_call(&good);
    let records = [
        ("x:1".to_owned(), "{}".to_owned()),
        (call_name(&good.id), text.clone()),
        ("c:a b".to_owned(), text.clone()),
        ("c:1".to_owned(), text.replace("\"p\":500", "\"p\":1001")),
        ("c:2".to_owned(), text.replace("waiting", "wandering")),
        ("a:b".to_owned(), "no JSON".to_owned()),
    ];
    let (saved, damaged) = read_all(&records);
    assert_eq!(saved.calls, [good]);
    let names: Vec<&str> = damaged.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["x:1", "c:a b", "c:1", "c:2", "a:b"]);
    assert!(damaged[2].cause.contains("1001"), "{}", damaged[2]);
    assert!(damaged[3].cause.contains("wandering"), "{}", damaged[3]);
}

#[test]
fn commands_are_read_as_they_were_written_and_others_are_refused() {
    let agent = || "agent17".parse().unwrap();
    let call = || "ast1-1.2".parse().unwrap();
    for command in [
        Command::Login(agent()),
        Command::Logout(agent()),
        Command::Toggle(agent()),
        Command::SetAgent(agent(), Box::new(rules())),
        Command::RemoveAgent(agent()),
        Command::SetQueue(name("late"), Box::default()),
        Command::RemoveQueue(name("late")),
        Command::OwnCallBegan {
            aor: "ann@example.com".into(),
            call: "0123456789abcdef0123456789abcdef".into(),
            proxy: name("k1"),
        },
        Command::OwnCallEnded {
            aor: "ann@example.com".into(),
            call: "0123456789abcdef0123456789abcdef".into(),
        },
        Command::OwnCallsLost(name("k1")),
        Command::TogglePause(agent(), "lunch".into()),
        Command::Pause(agent(), Arc::from("lunch")),
        Command::Resume(agent()),
        Command::Move(call(), "sales".parse().unwrap()),
        Command::Prioritize(call(), "1000".parse().unwrap()),
        Command::Withdraw(call(), "voicemail".parse().unwrap()),
    ] {
        assert_eq!(read_command(&write_command(&command)), Ok(command));
    }
    for (text, culprit) in [
        ("{\"do\":\"dance\",\"agent\":\"a\"}", "dance"),
        ("{\"do\":\"login\"}", "agent"),
        ("{\"do\":\"login\",\"agent\":\"a\",\"b\":1}", "b"),
        ("{\"do\":\"login\",\"agent\":\"a\\r\\nb\"}", "\\r\\n"),
        ("{\"do\":\"own-call-ended\",\"aor\":\"ann@h\",\"call\":\"7\"}", "call"),
        ("{\"do\":\"own-call-ended\",\"aor\":\"ann\",\"call\":\"7\"}", "ann"),
        ("{\"do\":\"prioritize\",\"call\":\"a\",\"priority\":1001}", "1001"),
        ("{\"do\":\"pause\",\"agent\":\"a\",\"reason\":\"\\u0000\"}", "reason"),
    ] {
        let said = read_command(text).unwrap_err().to_string();
        assert!(said.contains(culprit), "{text}: {said}");
    }
}

#[test]
fn events_are_read_as_they_were_written_and_others_are_refused() {
    let call = || "PJSIP/trunk-2a;1".parse().unwrap();
    let agent = || "agent17".parse().unwrap();
    let queue = || "sales".parse().unwrap();
    let mut all = vec![
        What::Enqueued { call: call(), queue: queue() },
        What::Offered { offer: offer_id(), call: call(), agent: agent(), queue: queue(), waited_ms: 5 },
        What::Connected {
            offer: offer_id(),
            call: call(),
            agent: agent(),
            queue: queue(),
            waited_ms: Some(u64::MAX),
        },
        What::Connected { offer: offer_id(), call: call(), agent: agent(), queue: queue(), waited_ms: None },
    ];
    all.extend(OfferEnd::ALL.map(|how| What::OfferEnded {
        offer: offer_id(),
        call: call(),
        agent: agent(),
        queue: queue(),
        how,
    }));
    for (why, treatment) in
        TreatedFor::ALL.into_iter().zip([None, Some("mail".parse().unwrap())].iter().cycle())
    {
        all.push(What::Treated { call: call(), queue: queue(), treatment: treatment.clone(), why });
    }
    all.extend(DoneReason::ALL.map(|reason| What::Done { call: call(), queue: queue(), reason }));
    all.extend(Agent::WORDS.map(|state| What::Agent { agent: agent(), state }));
    all.extend(Said::ALL.map(|said| What::Command { key: Arc::from("a \"b\" \u{1}é"), said }));
    for (at, what) in (1_700_000_000_000..).map(EpochMs).zip(all) {
        let event = Event { at, what };
        assert_eq!(read_event(&write_event(&event)), Ok(event));
    }
    let newer = r#"{"at":1,"event":"enqueued","call":"c","queue":"q","later":{"a":[1]}}"#;
    let what = What::Enqueued { call: "c".parse().unwrap(), queue: "q".parse().unwrap() };
    assert_eq!(read_event(newer), Ok(Event { at: EpochMs(1), what }));
    for (text, culprit) in [
        ("", "EOF"),
        (r#"{"event":"enqueued","call":"c","queue":"q"}"#, "at"),
        (r#"{"at":1,"event":"danced","call":"c"}"#, "danced"),
        (r#"{"at":1,"event":"enqueued","call":"a b","queue":"q"}"#, "a b"),
        (r#"{"at":1,"event":"agent","agent":"a","state":"asleep"}"#, "asleep"),
        (r#"{"at":1,"event":"command","key":"k","said":"perhaps"}"#, "perhaps"),
        (
            r#"{"at":1,"event":"connected","offer":"o","call":"c","agent":"a","queue":"q","waited_ms":-1}"#,
            "-1",
        ),
    ] {
        let said = read_event(text).unwrap_err().to_string();
        assert!(said.contains(culprit), "{text}: {said}");
    }
}

#[test]
fn the_words_of_agents_states_are_those_that_they_say() {
    let then = || Then::Ready;
    let states = [
        AgentState::Offline,
        AgentState::Ready { rests_until: EpochMs(0) },
        AgentState::Offered { offer: offer_id(), then: then() },
        AgentState::Talking { offer: offer_id(), then: then() },
        AgentState::WrapUp { until: EpochMs(0) },
        AgentState::Paused { reason: Arc::from("") },
    ];
    assert_eq!(states.map(|state| state.as_str()), AgentState::WORDS);
}

fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn rules() -> AgentRules {
    AgentRules {
        aor: "eve@example.com".into(),
        skills: ["german", "gold"].into_iter().map(name).collect(),
        memberships: [
            (name("sales"), Membership { penalty: 3, weight: 5 }),
            (name("care"), Membership::default()),
        ]
        .into(),
        wrap_up_ms: Some(0),
        ring_ms: Some(20_000),
        misses_max: 3,
    }
}

#[test]
fn agents_that_are_laid_down_at_run_time_come_back() {
    let (saved, damaged) = read_all(&[("r:eve".to_owned(), write_rules(&rules()))]);
    assert_eq!((saved.rules, damaged), (vec![(name("eve"), rules())], vec![]));
    for (from, to, is_record) in [
        ("eve@example.com", "eve", false),
        ("eve@example.com", "eve@a b", false),
        ("eve@example.com", "eve@example.com:5060", false),
        ("\"german\"", "\"a b\"", false),
        ("\"sales\"", "\"a{b}\"", false),
        ("\"penalty\":3", "\"penalty\":1001", true),
        ("20000", "999", true),
        ("\"misses_max\":3", "\"misses_max\":101", true),
        ("\"wrap_up_ms\":0", "\"wrap_up_ms\":3600001", true),
        ("misses_max", "misses", true),
        ("\"weight\"", "\"mood\":[{\"a\":-1.5}],\"weight\"", true),
    ] {
        let odd = |text: String| {
            let odd = text.replace(from, to);
            assert_ne!(text, odd, "{from}");
            odd
        };
        let (saved, damaged) = read_all(&[("r:eve".to_owned(), odd(write_rules(&rules())))]);
        let found = (saved.rules.len(), damaged.len());
        assert_eq!(found, (usize::from(is_record), usize::from(!is_record)), "{from} → {to}: {damaged:?}");
        let wish = write_command(&Command::SetAgent(name("eve"), Box::new(rules())));
        let said = read_command(&odd(wish)).unwrap_err().to_string();
        assert!(said.len() < 300, "{said}");
    }
}

/// A later version has been leading: what it granted is there, as far as this one understands it.
#[test]
fn of_an_agent_what_is_not_known_is_left_out_of_account() {
    let read = |from: &str, to: &str| {
        let text = write_rules(&rules()).replace(from, to);
        let (mut saved, damaged) = read_all(&[("r:eve".to_owned(), text)]);
        assert_eq!(damaged, [], "{from} → {to}");
        saved.rules.pop().unwrap().1
    };
    assert_eq!(read("{\"aor\"", "{\"mood\":{},\"aor\""), rules());
    assert_eq!(read("20000", "400000").ring_ms, Some(300_000));
    let most = read("\"penalty\":3", "\"penalty\":70000");
    assert_eq!(most.memberships[&name("sales")], Membership { penalty: 1_000, weight: 5 });
    let many: Vec<String> = (0..101).map(|skill| format!("\"s{skill}\"")).collect();
    assert_eq!(read("\"german\"", &many.join(",")).skills.len(), 102);
}
