//! What Asterisk tells and shows: whatever comes, what is made of it has limits and names, and nobody is taken for the leg of an offer
//! whose channel is not named so.

use crate::brew::Corpus;
use mqs::domain::controller::{SeenCaller, SeenLeg, To, Transfer, offer_of};
use mqs::domain::id::NodeId;
use mqs::domain::time::EpochMs;
use mqs::wire::ari::event::Event;
use mqs::wire::ari::listing::{self, Subscribed};
use mqs::wire::ari::rest;

const CALLER: &str = r#"{"id":"ast1-1.0","name":"PJSIP/k1-00000001","state":"Ring","protocol_id":"7@192.0.2.1","caller":{"name":"Zo\u00eb","number":"+4930"},"dialplan":{"context":"x","exten":"1","priority":2,"app_name":"Stasis","app_data":"mqs,in,sales,7@h,l"},"channelvars":{"MQS_LEASE":"m1.x","MQS_QUEUE":"sales","MQS_PRIORITY":"7","MQS_WISHES":"german, gold","MQS_PLACE":"sales,7,1700000000123","MQS_OFFER":"","MQS_AGENT":"","MQS_CALL":""}}"#;
const LEG: &str = r#"{"id":"mqs-7-1","name":"PJSIP/k1-00000002","state":"Up","dialplan":{"app_name":"Stasis","app_data":"mqs,offer,7-1"},"channelvars":{"MQS_OFFER":"7-1","MQS_AGENT":"ann","MQS_CALL":"ast1-1.0","MQS_QUEUE":"sales"}}"#;
const WORDS: [&str; 26] = [
    "\"in\"",
    "\"offer\"",
    "\"code\"",
    "\"out\"",
    "mqs,",
    "mqs-",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    "\\u0000",
    "\\ud800",
    "\r\n",
    "MQS_OFFER",
    "7-1",
    "StasisEnd",
    "ChannelDestroyed",
    "\"tech_cause\":486,",
    "\"id\":\"a b\",",
    "é",
];

fn node() -> NodeId {
    "ast1".parse().unwrap()
}

fn check_text(text: &str) {
    assert!(text.chars().count() <= 128 && !text.contains(char::is_control), "{text:?}");
}

fn check_caller(seen: &SeenCaller) {
    [&seen.identity.name, &seen.identity.number, &seen.identity.sip_call_id]
        .into_iter()
        .for_each(|text| check_text(text));
    assert!(seen.wishes.iter().count() <= 32 && seen.priority.get() <= 1000);
    assert!(seen.enqueued.is_none_or(|at| at > EpochMs(0)));
}

fn check_leg(seen: &SeenLeg) {
    assert_eq!(offer_of(&seen.leg).as_ref(), Some(&seen.offer), "{seen:?}");
}

/// True: something that concerns somebody.
fn check_event(text: &str) -> bool {
    match Event::read(&node(), text) {
        Ok(Event::Caller { seen, .. }) => check_caller(&seen),
        Ok(Event::LegAnswered { offer, leg }) => assert_eq!(offer_of(&leg), Some(offer)),
        Ok(Event::Transfer(Transfer { offer, leg, to })) => {
            assert_eq!(offer_of(&leg), Some(offer));
            if let To::Dialled(dialled) = to {
                check_text(&dialled);
            }
        }
        Ok(Event::Announced(_)) => {}
        Ok(Event::LegEnded { leg, .. }) => assert!(leg.id.as_str().starts_with("mqs-"), "{leg}"),
        Ok(Event::Code { code, user, sip_call_id, .. }) => {
            [&code, &user, &sip_call_id].into_iter().for_each(|text| check_text(text));
        }
        Ok(Event::Stranger { arguments, .. }) => check_text(&arguments),
        Ok(Event::Left(_) | Event::Replaced) => {}
        Ok(Event::Other) => return false,
        Err(error) => {
            let said = error.to_string();
            assert!(said.chars().count() <= 200 && !said.contains(char::is_control), "{said:?}");
            return false;
        }
    }
    true
}

#[test]
fn events() {
    let seeds = [
        format!(
            r#"{{"type":"StasisStart","application":"mqs","args":["in","sales","7@h","l"],"channel":{CALLER}}}"#
        ),
        format!(r#"{{"type":"StasisStart","args":["offer","7-1"],"channel":{LEG}}}"#),
        format!(r#"{{"type":"StasisStart","args":["code","login","ann"],"channel":{CALLER}}}"#),
        format!(r#"{{"type":"StasisEnd","channel":{CALLER}}}"#),
        format!(r#"{{"type":"ChannelDestroyed","cause":17,"tech_cause":486,"channel":{LEG}}}"#),
        r#"{"type":"PlaybackFinished","playback":{"id":"mqs-announce-7-1"}}"#.to_owned(),
        format!(
            r#"{{"type":"ChannelTransfer","refer_to":{{"requested_destination":{{"destination":"7100"}},"destination_channel":{CALLER},"connected_channel":{LEG}}},"referred_by":{{"source_channel":{LEG}}}}}"#
        ),
        r#"{"type":"ApplicationReplaced","application":"mqs"}"#.to_owned(),
        r#"{"type":"RESTResponse","request_id":"7","status_code":404,"message_body":"{}"}"#.to_owned(),
    ];
    let corpus = Corpus::new(&seeds, &WORDS);
    crate::fuzz!(|drawn: &[u8]| {
        let text = corpus.brew_text(drawn);
        if let Some(answer) = rest::answer(&text) {
            assert!(answer.body.len() <= text.len());
        }
        check_event(&text)
    });
}

#[test]
fn listings() {
    let channels = format!("[{CALLER},{LEG}]");
    let bridges = r#"[{"id":"mqs-talk-7-1","channels":["ast1-1.0","mqs-7-1"]},{"id":"mqs-hold--1","channels":["ast1-1.0"]}]"#;
    let application = r#"{"name":"mqs","channel_ids":["ast1-1.0"],"bridge_ids":["mqs-talk-7-1"]}"#;
    let corpus = Corpus::new(&[channels.as_str(), bridges, application, CALLER], &WORDS);
    crate::fuzz!(|drawn: &[u8]| {
        let text = corpus.brew(drawn);
        if let Ok(subscribed) = Subscribed::read(&text) {
            assert!(subscribed.bridges.iter().all(|bridge| bridge.starts_with("mqs-")));
        }
        let mut accepted = false;
        for (channels, bridges) in [(text.as_slice(), b"[]".as_slice()), (b"[]", &text)] {
            let Ok(all) = listing::read(&node(), "mqs", EpochMs(5), channels, bridges) else { continue };
            let listing = &all.listing;
            listing.callers.iter().for_each(check_caller);
            listing.legs.iter().for_each(check_leg);
            all.strangers.iter().for_each(|(_, arguments)| check_text(arguments));
            let known = listing.callers.len() + listing.legs.len() + listing.bridges.len();
            accepted |= known + all.strangers.len() > 0;
        }
        accepted
    });
}
