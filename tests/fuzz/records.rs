//! What a cell keeps: records and commands. They come out of a store that others can write to.

use crate::brew::Corpus;
use mqs::domain::agent::AgentRules;
use mqs::domain::controller::Command;
use mqs::domain::matching::Membership;
use mqs::wire::record;

const CALL: &str = r#"{"n":"ast1","ch":"ast1-1.2","who":"Zoë","num":"+49","sip":"a@b","q":"sales","p":500,"t":1700000000000,"j":1700000000000,"sk":["de"],"tr":1,"cr":0,"h":2,"s":{"offered":{"offers":["18b-1"]}}}"#;
const AGENT: &str = r#"{"s":{"talking":{"offer":"18b-1","then":{"pause":{"reason":"lunch"}}}},"tk":{"sales":7},"m":1,"i":1700000000000}"#;
const OFFER: &str = r#"{"c":"ast1-1.2","a":"ann","q":"sales","n":"ast1","ch":"mqs-18b-1","k":"k1","t":1700000000000,"s":{"ending":{"why":"no-answer","again":1700000000000}}}"#;

/// Of an agent who was laid down at run time.
fn rules() -> AgentRules {
    AgentRules {
        aor: "eve@example.com".into(),
        skills: ["de".parse().unwrap()].into_iter().collect(),
        memberships: [("sales".parse().unwrap(), Membership { penalty: 1, weight: 2 })].into(),
        wrap_up_ms: Some(5_000),
        ring_ms: None,
        misses_max: 3,
    }
}

/// What is said goes to logs.
fn check(said: &str) {
    assert!(said.chars().count() <= 2_000 && !said.contains(char::is_control), "{said:?}");
}

/// A record that is read is the same when it was written and read again; one that is not is named.
#[test]
fn records() {
    let words = [
        "\"p\":1001",
        "\"s\":{\"waiting\":{}}",
        "treated",
        "null",
        "-1",
        "{",
        "}",
        "\"",
        "\\u0000",
        "18446744073709551616",
    ];
    let rules = record::write_rules(&rules());
    let corpus = Corpus::new(&[CALL, AGENT, OFFER, &rules], &words);
    crate::fuzz!(|drawn: &[u8]| {
        let text = corpus.brew_text(drawn);
        let mut accepted = false;
        for name in ["c:ast1-1.2", "a:ann", "o:18b-1", "r:eve"] {
            let (saved, damaged) = record::read_all(&[(name.to_owned(), text.clone())]);
            for error in &damaged {
                assert_eq!(error.name, name);
                check(&error.cause);
            }
            let written = saved
                .calls
                .iter()
                .map(record::write_call)
                .chain(saved.agents.iter().map(record::write_agent))
                .chain(saved.offers.iter().map(record::write_offer))
                .chain(saved.rules.iter().map(|(_, rules)| record::write_rules(rules)));
            let records: Vec<_> = written.map(|text| (name.to_owned(), text)).collect();
            assert_eq!(records.len() + damaged.len(), 1, "neither read nor refused");
            if !records.is_empty() {
                accepted = true;
                assert_eq!(record::read_all(&records), (saved, Vec::new()));
            }
        }
        accepted
    });
}

/// The same for commands.
#[test]
fn commands() {
    let seeds = [
        r#"{"do":"login","agent":"ann"}"#,
        r#"{"do":"pause","agent":"ann","reason":"lunch"}"#,
        r#"{"do":"move","call":"ast1-1.2","queue":"sales"}"#,
        r#"{"do":"prioritize","call":"ast1-1.2","priority":1000}"#,
        r#"{"do":"withdraw","call":"ast1-1.2","treatment":"voicemail"}"#,
        &record::write_command(&Command::SetAgent("eve".parse().unwrap(), Box::new(rules()))),
        &record::write_command(&Command::RemoveAgent("eve".parse().unwrap())),
    ];
    let words =
        ["toggle", "resume", "logout", "\"priority\":1001", "null", "{", "}", "\"", ",", "\\r\\n", "é"];
    let corpus = Corpus::new(&seeds, &words);
    crate::fuzz!(|drawn: &[u8]| {
        let text = corpus.brew_text(drawn);
        match record::read_command(&text) {
            Ok(command) => {
                assert_eq!(record::read_command(&record::write_command(&command)), Ok(command));
                true
            }
            Err(error) => {
                check(&error.to_string());
                false
            }
        }
    });
}
