use super::event::{Event, EventError};
use super::request::{self, Request};
use super::{listing, write_place};
use crate::domain::call::{Channel, Identity};
use crate::domain::controller::{Attend, LegEnd, Originate, To, Transfer};
use crate::domain::id::{ChannelId, NodeId};
use crate::domain::queue::Answering;
use crate::domain::time::EpochMs;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Arc;

fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn node() -> NodeId {
    name("ast1")
}

fn channel(id: &str) -> Channel {
    Channel { node: node(), id: name(id) }
}

fn vars(set: &[(&str, &str)]) -> Value {
    let mut all = json!({});
    super::VARIABLES.iter().for_each(|variable| all[*variable] = json!(""));
    set.iter().for_each(|(variable, value)| all[*variable] = json!(value));
    all
}

/// A channel as Asterisk 22 shows it.
fn shown(id: &str, app: &str, state: &str, set: &[(&str, &str)]) -> Value {
    json!({
        "id": id, "name": "PJSIP/k1-00000001", "state": state, "protocol_id": "7@192.0.2.1",
        "caller": {"name": "Alice", "number": "+4930"}, "connected": {"name": "", "number": ""},
        "accountcode": "", "dialplan": {
            "context": "from-kamailio", "exten": "7000", "priority": 2,
            "app_name": if app.is_empty() { "AppDial2" } else { "Stasis" }, "app_data": app,
        },
        "creationtime": "2026-01-01T00:00:00.000+0000", "language": "en", "channelvars": vars(set),
    })
}

fn start(args: &[&str], set: &[(&str, &str)]) -> Event {
    let app = format!("mqs,{}", args.join(","));
    let event = json!({"type": "StasisStart", "args": args, "channel": shown("ast1-1.0", &app, "Ring", set)});
    Event::read(&node(), &event.to_string()).unwrap()
}

#[test]
fn a_caller_says_what_the_dialplan_asks_for() {
    let set = [("MQS_PRIORITY", "7"), ("MQS_WISHES", "german, gold,b d,"), ("MQS_QUEUE", "x")];
    let Event::Caller { seen, lacks } = start(&["in", "sales", "7@192.0.2.1", ""], &set) else { panic!() };
    assert_eq!((lacks, seen.channel, seen.queue), (None, channel("ast1-1.0"), Some(name("sales"))));
    assert_eq!((seen.priority.get(), seen.enqueued), (7, None));
    assert_eq!(seen.wishes.iter().map(|w| w.as_str()).collect::<Vec<_>>(), ["german", "gold"]);
    assert_eq!((&*seen.identity.name, &*seen.identity.number), ("Alice", "+4930"));
    assert_eq!(&*seen.identity.sip_call_id, "7@192.0.2.1");
}

#[test]
fn the_leaders_note_goes_before_what_the_dialplan_says() {
    let place = write_place(&name("support"), name("5"), EpochMs(1_700_000_000_123));
    assert_eq!(place, "support,5,1700000000123");
    let Event::Caller { seen, .. } = start(&["in", "sales"], &[("MQS_PLACE", &place), ("MQS_PRIORITY", "9")])
    else {
        panic!()
    };
    assert_eq!((seen.queue, seen.priority.get()), (Some(name("support")), 5));
    assert_eq!(seen.enqueued, Some(EpochMs(1_700_000_000_123)));
    for odd in ["support,5", "support,5,0", "support,5,-1", "support,1001,9", "a b,5,9", "support,5,9,1", ","]
    {
        let Event::Caller { seen, .. } = start(&["in", "sales"], &[("MQS_PLACE", odd)]) else { panic!() };
        assert_eq!((seen.queue, seen.enqueued), (Some(name("sales")), None), "{odd}");
    }
}

#[test]
fn wrong_arguments_are_strangers_or_callers_without_a_queue() {
    // The last one is the offer of another channel.
    for args in [&[][..], &["out"], &["offer"], &["offer", "a b"], &["IN", "sales"], &["offer", "7-1"]] {
        assert!(matches!(start(args, &[]), Event::Stranger { .. }), "{args:?}");
    }
    for args in [&["in"][..], &["in", ""], &["in", "a b"], &["in", "a{b}"], &["in", "a:b"], &["in", "\u{1}"]]
    {
        let Event::Caller { seen, .. } = start(args, &[("MQS_PRIORITY", "9999")]) else { panic!("{args:?}") };
        assert_eq!((seen.queue, seen.priority.get()), (None, 0), "{args:?}");
    }
    let long = "q".repeat(10_000);
    let Event::Caller { seen, .. } = start(&["in", &long], &[]) else { panic!() };
    assert_eq!(seen.queue, None);
    let Event::Stranger { arguments, .. } = start(&[&long], &[]) else { panic!() };
    assert_eq!(arguments.len(), super::TEXT_MAX);
    let Event::Code { code, user, sip_call_id, .. } = start(&["code", "*45", "ann\r\n"], &[]) else {
        panic!()
    };
    assert_eq!((&*code, &*user, &*sip_call_id), ("*45", "ann", "7@192.0.2.1"));
}

#[test]
fn a_node_that_does_not_show_what_was_noted_is_found_out() {
    let mut event = json!({"type": "StasisStart", "args": ["in", "sales"],
        "channel": shown("ast1-1.0", "mqs,in,sales", "Ring", &[])});
    event["channel"]["channelvars"].as_object_mut().unwrap().remove("MQS_PLACE");
    let read = Event::read(&node(), &event.to_string());
    let Ok(Event::Caller { lacks, .. }) = read else { panic!() };
    assert_eq!(lacks, Some("MQS_PLACE"));
}

const LEG: [(&str, &str); 4] =
    [("MQS_OFFER", "7-1"), ("MQS_AGENT", "ann"), ("MQS_CALL", "ast1-1.0"), ("MQS_QUEUE", "sales")];

fn ended(kind: &str, state: &str, set: &[(&str, &str)], tech_cause: Option<i64>, cause: i64) -> Event {
    let mut event = json!({"type": kind, "cause": cause, "channel": shown("mqs-7-1", "", state, set)});
    if let Some(code) = tech_cause {
        event["tech_cause"] = json!(code);
    }
    Event::read(&node(), &event.to_string()).unwrap()
}

#[test]
fn legs_end_by_what_their_phones_said() {
    for (code, cause, how) in [
        (Some(486), 17, LegEnd::Busy),
        (Some(600), 17, LegEnd::Busy),
        (None, 17, LegEnd::Busy),
        (Some(603), 21, LegEnd::Refused),
        (Some(488), 58, LegEnd::Refused),
        (Some(403), 21, LegEnd::Fenced),
        (Some(404), 1, LegEnd::Unregistered),
        (Some(480), 19, LegEnd::Unregistered),
        (Some(408), 18, LegEnd::Unreachable),
        (Some(503), 34, LegEnd::Unreachable),
        (Some(487), 26, LegEnd::Cancelled),
        (None, 26, LegEnd::Cancelled),
        (None, 0, LegEnd::Cancelled),
        (Some(99_999), -5, LegEnd::Cancelled),
    ] {
        let expected = Event::LegEnded { leg: channel("mqs-7-1"), how };
        assert_eq!(ended("ChannelDestroyed", "Ringing", &LEG, code, cause), expected, "{code:?} {cause}");
    }
    let hung_up = Event::LegEnded { leg: channel("mqs-7-1"), how: LegEnd::HungUp };
    assert_eq!(ended("StasisEnd", "Up", &LEG, None, 16), hung_up);
    assert_eq!(ended("ChannelDestroyed", "Up", &LEG, Some(200), 16), hung_up);
    // Whoever is no leg is a caller, or nobody that is known.
    assert_eq!(ended("ChannelDestroyed", "Up", &[], None, 16), Event::Left(channel("mqs-7-1")));
    assert_eq!(ended("StasisEnd", "Up", &[], None, 16), Event::Left(channel("mqs-7-1")));
}

fn refer(refer_to: Value) -> Event {
    let event = json!({"type": "ChannelTransfer", "refer_to": refer_to,
        "referred_by": {"source_channel": shown("mqs-7-1", "", "Up", &LEG)}});
    Event::read(&node(), &event.to_string()).unwrap()
}

#[test]
fn a_phone_says_where_the_caller_is_to_be() {
    let dialled = json!({"requested_destination": {"destination": "7100"}});
    let other = |id| shown(id, "", "Up", &[]);
    let asked = json!({"requested_destination": {}, "destination_channel": other("1.7")});
    let answered = json!({"requested_destination": {}, "destination_channel": other("1.7"),
        "connected_channel": other("1.8")});
    let remote = json!({"requested_destination": {"protocol_id": "7@h", "destination": ""}});
    let place = |with| To::Place { of: name("1.7"), with };
    for (refer_to, to) in [
        (dialled, To::Dialled("7100".into())),
        (asked, place(None)),
        (answered, place(Some(name("1.8")))),
        (remote, To::Elsewhere),
    ] {
        let wanted = Transfer { offer: name("7-1"), leg: channel("mqs-7-1"), to };
        assert_eq!(refer(refer_to), Event::Transfer(wanted));
    }
}

#[test]
fn what_is_no_event_is_said_shortly() {
    let json = |text: &str| Event::read(&node(), text);
    for text in ["", "{", "[]", "null", "{\"type\":7}", "{\"type\":\"StasisStart\",\"args\":7}"] {
        let Err(EventError::Json(said)) = json(text) else { panic!("{text}") };
        assert!(said.len() < 200, "{said}");
    }
    assert!(json("{\"type\":\"StasisEnd\"}").unwrap_err().to_string().contains("no channel"));
    assert!(json("{\"type\":\"StasisEnd\",\"channel\":{\"id\":\"a b\"}}").is_err());
    assert_eq!(json("{\"type\":\"Later\",\"x\":[{}]}"), Ok(Event::Other));
    assert_eq!(json("{\"type\":\"ApplicationReplaced\",\"application\":\"mqs\"}"), Ok(Event::Replaced));
    // Nesting without end is refused, not followed.
    let deep = format!("{{\"type\":\"StasisEnd\",\"x\":{}", "[".repeat(1_000_000));
    assert!(json(&deep).is_err());
}

#[test]
fn a_listing_is_put_together() {
    let place = write_place(&name("sales"), name("3"), EpochMs(9));
    let mut snoop = shown("ast1-9.0", "mqs,in,sales", "Up", &[]);
    snoop["name"] = json!("Snoop/1");
    let channels = json!([
        shown("ast1-1.0", "mqs,in,sales,7@h,l", "Up", &[("MQS_PLACE", &place), ("MQS_LEASE", "m1.x")]),
        shown("ast1-2.0", "other,in,sales", "Up", &[]),
        shown("ast1-3.0", "", "Up", &[]),
        shown("ast1-4.0", "mqs,code,*45,ann", "Ring", &[]),
        shown("mqs-7-1", "", "Ringing", &LEG),
        shown("mqs-7-2", "mqs,offer,7-2", "Up", &[("MQS_OFFER", "7-2")]),
        shown("a b", "mqs,in,sales", "Up", &[]),
    ]);
    let bridges = json!([
        {"id": "mqs-talk-7-1", "channels": ["ast1-1.0", "mqs-7-1", "a b"]},
        {"id": "mqs-talk-", "channels": []},
        {"id": "mqs-hold--1", "channels": ["ast1-1.0"]},
        {"id": "conf", "channels": ["ast1-3.0"]},
    ]);
    let (channels, bridges) = (channels.to_string(), bridges.to_string());
    let all = listing::read(&node(), "mqs", EpochMs(5), channels.as_bytes(), bridges.as_bytes()).unwrap();
    let listing = &all.listing;
    assert_eq!((listing.callers.len(), listing.legs.len()), (1, 1));
    // Two channels cannot be made out: nobody is gone by its word.
    assert_eq!((listing.begun, all.complete, all.lacks), (EpochMs(0), false, None));
    assert_eq!(listing.callers[0].enqueued, Some(EpochMs(9)));
    assert!(!listing.legs[0].up && listing.legs[0].agent == name("ann"));
    assert_eq!(listing.bridges.len(), 1);
    assert_eq!(listing.bridges[0].members, [channel("ast1-1.0"), channel("mqs-7-1")]);
    assert_eq!(all.holding, [("mqs-hold--1".to_owned(), vec![name("ast1-1.0")])]);
    // A leg without what belongs to it, a channel without a name, a bridge of no offer.
    assert_eq!((all.odd, all.carried.len()), (3, 6));
    assert_eq!(all.carried[0].token, "m1.x");
    assert_eq!(all.carried.iter().filter(|carried| carried.is_leg).count(), 2);
    assert!(listing::read(&node(), "mqs", EpochMs(5), b"{}", b"[]").is_err());
    let snoops = json!([snoop]).to_string();
    let all = listing::read(&node(), "mqs", EpochMs(5), snoops.as_bytes(), b"[]").unwrap();
    assert!(all.carried.is_empty());
}

#[test]
fn a_listing_shows_who_has_no_business_there() {
    let channels = json!([
        shown("a", "mqs", "Ring", &[]),
        shown("b", "mqs,out,sales", "Ring", &[]),
        shown("c", "mqs,offer,7-1", "Up", &LEG),
        shown("mqs-7-1", "mqs,offer,7-1", "Up", &LEG),
        shown("d", "mqs,in,sales", "Up", &[("MQS_OFFER", "7-1")]),
        shown("e", "mqs,code,login,ann", "Ring", &[]),
        shown("f", "other,out", "Up", &[]),
        shown("g", "", "Up", &[("MQS_OFFER", "7-1")]),
    ]);
    let all = listing::read(&node(), "mqs", EpochMs(5), channels.to_string().as_bytes(), b"[]").unwrap();
    let strangers: Vec<&str> = all.strangers.iter().map(|(channel, _)| channel.id.as_str()).collect();
    assert_eq!((strangers, all.strangers[1].1.as_str()), (vec!["a", "b", "c"], "mqs,out,sales"));
    assert_eq!((all.listing.callers.len(), all.listing.legs.len(), all.odd), (1, 1, 0));
    assert_eq!(all.carried.iter().filter(|carried| carried.is_leg).count(), 1);
}

/// A node whose `channelvars` names nothing but these.
fn showing(only: &[&str], mut channel: Value) -> Value {
    channel["channelvars"].as_object_mut().unwrap().retain(|name, _| only.contains(&name.as_str()));
    channel
}

#[test]
fn a_leg_whose_node_does_not_show_what_was_noted_lives_on() {
    let without = |left_out: &[&str]| -> Vec<&str> {
        super::VARIABLES.into_iter().filter(|name| !left_out.contains(name)).collect()
    };
    let all = super::VARIABLES.as_slice();
    for (left_out, lacks) in
        [(&["MQS_AGENT"][..], "MQS_AGENT"), (&["MQS_CALL"], "MQS_CALL"), (all, "MQS_AGENT")]
    {
        let only = without(left_out);
        let legs = ["", "mqs,offer,7-1"].map(|app| showing(&only, shown("mqs-7-1", app, "Up", &LEG)));
        for leg in legs {
            let bridges =
                json!([{"id": "mqs-talk-7-1", "channels": ["mqs-7-1", "ast1-1.0"]}, {"id": "mqs-talk-7-2"}]);
            let (channels, bridges) = (json!([leg]).to_string(), bridges.to_string());
            let all =
                listing::read(&node(), "mqs", EpochMs(5), channels.as_bytes(), bridges.as_bytes()).unwrap();
            assert!(all.strangers.is_empty() && all.carried[0].is_leg, "{all:?}");
            assert_eq!((all.complete, all.listing.begun, all.lacks), (false, EpochMs(0), Some(lacks)));
            let bridges: Vec<&str> = all.listing.bridges.iter().map(|seen| seen.offer.as_str()).collect();
            assert_eq!(bridges, ["7-2"], "its bridge is left alone");
        }
    }
    // Without the note of its offer alone it is what its name says.
    let leg = showing(&without(&["MQS_OFFER"]), shown("mqs-7-1", "mqs,offer,7-1", "Up", &LEG));
    let event = json!({"type": "ChannelDestroyed", "cause": 16, "channel": leg});
    let ended = Event::LegEnded { leg: channel("mqs-7-1"), how: LegEnd::HungUp };
    assert_eq!(Event::read(&node(), &event.to_string()), Ok(ended));
    let all = listing::read(&node(), "mqs", EpochMs(5), json!([leg]).to_string().as_bytes(), b"[]").unwrap();
    assert_eq!((all.complete, all.listing.legs.len(), all.strangers.len()), (true, 1, 0));
}

#[test]
fn what_is_damaged_in_a_listing_hides_nothing_else() {
    let good = shown("ast1-1.0", "mqs,in,sales", "Up", &[]);
    let mut bad = good.clone();
    bad["channelvars"] = json!(["x"]);
    let channels =
        json!([bad, 7, null, [], {"name": "PJSIP/x"}, {"id": 7}, good, {"id": "x", "caller": "A"}]);
    let bridges = json!([{"id": "mqs-talk-7-1", "channels": []}, {}, {"id": "mqs-hold--1", "channels": [7]}]);
    let (channels, bridges) = (channels.to_string(), bridges.to_string());
    let all = listing::read(&node(), "mqs", EpochMs(5), channels.as_bytes(), bridges.as_bytes()).unwrap();
    assert_eq!((all.listing.callers.len(), all.listing.bridges.len(), all.odd), (1, 1, 9));
    assert_eq!((all.complete, all.listing.begun), (false, EpochMs(0)), "nobody is gone by its word");
    let all = listing::read(&node(), "mqs", EpochMs(5), b"[]", bridges.as_bytes()).unwrap();
    assert_eq!((all.complete, all.listing.begun, all.odd), (true, EpochMs(5), 2));
    for cut in [&channels[..channels.len() - 1], "", "{}", "[[[", "\u{0}"] {
        assert!(listing::read(&node(), "mqs", EpochMs(5), cut.as_bytes(), b"[]").is_err(), "{cut}");
    }
}

fn originate(name_: &str, number: &str, sip_call_id: &str) -> Originate {
    let identity = Identity { name: name_.into(), number: number.into(), sip_call_id: sip_call_id.into() };
    Originate {
        offer: name("7-1"),
        leg: channel("mqs-7-1"),
        caller: channel("ast1-1.0"),
        call: name("ast1-1.0"),
        queue: name("sales"),
        agent: name("ann"),
        aor: "ann@example.com".into(),
        proxy: name("k1"),
        identity: Arc::new(identity),
        ring_ms: 14_001,
    }
}

fn query(request: &Request, key: &str) -> String {
    let (_, query) = request.path.split_once('?').unwrap();
    let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    percent_encoding::percent_decode_str(found.unwrap()).decode_utf8().unwrap().into_owned()
}

#[test]
fn an_agent_is_called_through_the_kamailio_of_the_registration() {
    let request = request::originate(&originate("Alice", "+4930", "7@192.0.2.1"), "mqs", "o1.t");
    assert!(
        request.path.starts_with("/channels/mqs-7-1?endpoint=PJSIP%2Fk1%2Fsip%3Aann%40example.com&app=mqs")
    );
    assert_eq!(query(&request, "appArgs"), "offer,7-1");
    assert_eq!(query(&request, "originator"), "ast1-1.0");
    assert_eq!(query(&request, "timeout"), "17");
    assert_eq!(query(&request, "callerId"), "\"sales: Alice\" <+4930>");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let variables = &body["variables"];
    assert_eq!(variables["PJSIP_HEADER(add,X-MQS-Offer)"], "o1.t");
    assert_eq!(variables["PJSIP_HEADER(add,X-Call-ID)"], "7@192.0.2.1");
    assert_eq!((&variables["MQS_OFFER"], &variables["MQS_AGENT"]), (&json!("7-1"), &json!("ann")));
}

#[test]
fn what_a_caller_calls_himself_ends_nothing() {
    let request = request::originate(
        &originate("A\"\r\nX: y <sip:x>\\", "1>\r\nX-MQS-Offer: x", "7@h\r\nX: y"),
        "mqs",
        "t",
    );
    assert_eq!(query(&request, "callerId"), "\"sales: AX: y sip:x\" <1X-MQS-Offerx>");
    assert!(!request.body.contains("X-Call-ID"), "{}", request.body);
    let request = request::originate(&originate("", "", ""), "mqs", "t");
    assert_eq!(query(&request, "callerId"), "\"sales\" <>");
}

#[test]
fn a_channels_id_stays_in_its_place() {
    let odd: ChannelId = name("a/b?c=d&e%2f;..");
    let request = request::hang_up(&odd, 16);
    assert_eq!(request.path, "/channels/a%2Fb%3Fc%3Dd%26e%252f%3B..?reason_code=16");
    let attend = Attend {
        channel: channel("x"),
        queue: name("sales"),
        priority: name("1"),
        enqueued: EpochMs(2),
        answering: Answering::Entry,
        music: "".into(),
        ends_after_ms: 1_801_000,
    };
    let request = request::note_place(&attend);
    assert_eq!(query(&request, "variable"), "ARRAY(MQS_PLACE,TIMEOUT(absolute))");
    assert_eq!(query(&request, "value"), "\"sales,1,2\",1801");
    assert_eq!(
        request::end_after(&name("x"), 1).path,
        "/channels/x/variable?variable=TIMEOUT%28absolute%29&value=1"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}", id in "[!-~]{1,40}", args in prop::collection::vec("\\PC{0,20}", 0..4)) {
        let _ = Event::read(&node(), &text);
        let _ = listing::read(&node(), "mqs", EpochMs(1), text.as_bytes(), b"[]");
        let event = json!({"type": "StasisStart", "args": args, "channel": {"id": id}});
        let _ = Event::read(&node(), &event.to_string());
    }
}

#[test]
fn what_is_told_one_by_one_is_put_together() {
    let told = br#"{"name":"mqs","channel_ids":["ast1-1.2","","a b"],"bridge_ids":["mqs-talk-1","other","mqs-hold--1"],"x":1}"#;
    let subscribed = listing::Subscribed::read(told).unwrap();
    assert_eq!(subscribed.channels.first().map(|id| id.as_str()), Some("ast1-1.2"));
    assert_eq!(subscribed.bridges, ["mqs-talk-1", "mqs-hold--1"]);
    assert_eq!(listing::Subscribed::read(b"{}").unwrap(), listing::Subscribed::default());
    assert!(listing::Subscribed::read(b"[1").is_err());
    for (told, together) in [(vec![], "[]"), (vec!["{}"], "[{}]"), (vec!["1", "2", "3"], "[1,2,3]")] {
        assert_eq!(listing::together(&told), together.as_bytes());
    }
}
