use super::*;
use crate::domain::controller::Command;
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
    stages.extend(TreatedFor::ALL.map(|why| Stage::Treated { treatment: treatment(), why }));
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
        })
        .collect();
    let mut stages = vec![
        OfferStage::Making,
        OfferStage::Ringing { until: EpochMs(9) },
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
    assert_eq!(saved, Saved { calls, agents, offers });
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
        ("{\"do\":\"prioritize\",\"call\":\"a\",\"priority\":1001}", "1001"),
        ("{\"do\":\"pause\",\"agent\":\"a\",\"reason\":\"\\u0000\"}", "reason"),
    ] {
        let said = read_command(text).unwrap_err().to_string();
        assert!(said.contains(culprit), "{text}: {said}");
    }
}
