//! What nodes of a queue can do wrong, against the real `mqs serve`: callers with wrong arguments, events and answers that are
//! damaged, floods, a restart. The nodes are stand-ins, since no real Asterisk can be brought to most of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "support/ari_stand_in.rs"]
mod ari_stand_in;
#[allow(dead_code)]
#[path = "support/instance.rs"]
mod instance;
#[allow(dead_code)]
#[path = "support/queue_house.rs"]
mod queue_house;

use ari_stand_in::{Wrong, channel};
use queue_house::House;
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

#[test]
fn whoever_enters_with_wrong_arguments_is_told_and_named() {
    let house = House::start();
    let node = house.node();
    let long = "q".repeat(10_000);
    // Not callers: they are hung up, and named.
    let strangers: [&[&str]; 7] = [
        &[],
        &["out", "sales"],
        &["IN", "sales"],
        &["offer"],
        &["offer", "a b"],
        &["offer", "nobody-1"],
        &[&long, "{x}"],
    ];
    for (number, args) in strangers.iter().enumerate() {
        let id = format!("stranger-{number}");
        node.enter(&id, args, &[]);
        house.until("it is hung up", |_| !node.has(&id));
        house.until("it is named", |s| s.lines(&[&format!("ast1/{id}")]) > 0);
        assert_eq!(house.lines(&["WARN", &format!("ast1/{id}")]), 1, "{args:?}: {}", house.log());
    }
    // Callers of no queue: they go where the configuration says.
    let odd: [&[&str]; 6] =
        [&["in"], &["in", ""], &["in", "nowhere"], &["in", "a b"], &["in", "{sales}"], &["in", &long]];
    for (number, args) in odd.iter().enumerate() {
        let id = format!("lost-{number}");
        node.enter(&id, args, &[("MQS_PRIORITY", "-1"), ("MQS_WISHES", ",,\u{1},a b,{}")]);
        house.until("it is sent on", |_| node.was_asked(&format!("POST /channels/{id}/continue")));
    }
    // Codes of nobody, and codes that are none.
    for (number, args) in
        [&["code"][..], &["code", "login"], &["code", "dance", "ann"], &["code", "login", "\u{1}"]]
            .iter()
            .enumerate()
    {
        let id = format!("code-{number}");
        node.enter(&id, args, &[]);
        house.until("it hears sorry", |_| node.was_asked(&format!("POST /channels/{id}/continue")));
    }
    // More than there should be is passed over.
    node.enter("many", &["in", "sales", "a", "b", "c", "d", "e"], &[("MQS_PRIORITY", "1001")]);
    house.until("it waits", |s| s.call("many") == "waiting");
    house.serves("c1");
}

#[test]
fn a_channel_that_names_the_offer_of_another_call_takes_nothing_from_it() {
    let house = House::start();
    let node = house.node();
    house.serves("c1");
    house.login("ann");
    house.until("ann is called", |_| node.legs().len() == 1);
    let leg = node.legs().remove(0);
    let offer = node.variable(&leg, "MQS_OFFER");
    node.enter("thief", &["offer", &offer], &[]);
    house.until("it is hung up", |_| !node.has("thief"));
    assert_eq!((house.call("c1").as_str(), house.agent("ann").as_str()), ("offered", "offered"));
    assert!(!node.was_asked("POST /bridges/mqs-talk-"), "{:?}", node.asked());
    node.answer(&leg);
    house.until("they talk", |s| s.call("c1") == "connected");
    // In a talk neither.
    node.enter("thief-2", &["offer", &offer], &[]);
    house.until("it is hung up", |_| !node.has("thief-2"));
    assert_eq!((house.call("c1").as_str(), node.count("DELETE /bridges/mqs-talk-")), ("connected", 0));
}

#[test]
fn who_was_missed_by_an_event_is_found_by_the_listing() {
    let house = House::start();
    let node = house.node();
    node.put("unheard", &["in", "sales", "", ""], &[]);
    node.put("stranger", &["out"], &[]);
    node.put("no-leg", &["offer", "7-7"], &[]);
    node.put("elsewhere", &[], &[]);
    let mut shown = channel("of-another", "Up", None, &[]);
    shown["dialplan"] = json!({"app_name": "Stasis", "app_data": "another-app,in,sales"});
    node.tell(&json!({"type": "ChannelVarset", "channel": shown}));
    // Another connection, and so another listing.
    node.say(Message::Close(None));
    house.until("the caller waits", |s| s.call("unheard") == "waiting");
    house.until("strangers are hung up", |_| {
        ["stranger", "no-leg", "elsewhere"].iter().all(|id| !node.has(id))
    });
    // One that cannot be read any more is not taken to be gone.
    std::thread::sleep(Duration::from_millis(2_500));
    let mut damaged = channel("unheard", "Up", Some(&["in", "sales"]), &[]);
    damaged["caller"] = json!(7);
    node.show(&damaged);
    let before = node.count("GET /channels");
    node.say(Message::Close(None));
    house.until("it is listed", |s| s.lines(&["WARN", "cannot be made out"]) > 0);
    assert!(node.count("GET /channels") > before && house.call("unheard") == "waiting");
    // One that could not be hung up is tried again.
    node.wrong("DELETE /channels/stubborn", Wrong::Status(500, String::new()));
    node.enter("stubborn", &["out"], &[]);
    node.until("it was tried", |n| n.was_asked("DELETE /channels/stubborn"));
    node.mend();
    node.say(Message::Close(None));
    house.until("it is hung up", |_| !node.has("stubborn"));
}

#[test]
fn events_that_are_wrong_repeated_or_out_of_order_harm_nobody() {
    let house = House::start();
    let node = house.node();
    house.serves("c1");
    let good = channel("c1", "Up", Some(&["in", "sales"]), &[]);
    let with = |key: &str, value: serde_json::Value| {
        let mut shown = good.clone();
        shown[key] = value;
        json!({"type": "StasisStart", "args": ["in", "sales"], "channel": shown})
    };
    for text in [
        String::new(),
        "null".into(),
        "[]".into(),
        "{".into(),
        "\u{0}\u{1}\u{2}".into(),
        "[".repeat(100_000),
        "{\"type\":".repeat(10_000),
        json!({"type": 7}).to_string(),
        json!({"type": "StasisStart"}).to_string(),
        json!({"type": "StasisStart", "args": "in", "channel": good}).to_string(),
        json!({"type": "StasisStart", "args": [1, 2], "channel": good}).to_string(),
        json!({"type": "StasisEnd", "channel": {"id": ""}}).to_string(),
        json!({"type": "StasisEnd", "channel": {"id": "x".repeat(5_000)}}).to_string(),
        json!({"type": "StasisEnd", "channel": {"id": "a\r\nb"}}).to_string(),
        json!({"type": "StasisEnd", "channel": {"id": 7}}).to_string(),
        json!({"type": "ChannelDestroyed", "tech_cause": "many", "channel": good}).to_string(),
        with("channelvars", json!([])).to_string(),
        with("caller", json!("Alice")).to_string(),
        with("id", json!(null)).to_string(),
    ] {
        let before = house.lines(&["WARN", "ast1", "passed over"]);
        node.say(Message::text(text.clone()));
        house.until("it is named", |s| s.lines(&["WARN", "ast1", "passed over"]) > before);
        let last = house.log().lines().rfind(|line| line.contains("passed over")).unwrap().len();
        assert!(last < 500, "{last} bytes about {} bytes", text.len());
    }
    // Of no concern, or of nobody.
    for event in [
        json!({"type": "Rain", "channel": 7}),
        json!({"type": "ChannelVarset", "channel": []}),
        json!({"type": "StasisEnd", "channel": channel("nobody", "Up", None, &[])}),
        json!({"type": "ChannelDestroyed", "channel": channel("mqs-nobody", "Up", None, &[("MQS_OFFER", "nobody")])}),
        json!({"type": "ChannelDestroyed", "channel": channel("mqs-x", "Up", None, &[("MQS_OFFER", "\u{1}")])}),
    ] {
        node.tell(&event);
    }
    node.say(Message::binary(vec![0_u8; 100_000]));
    assert_eq!(house.call("c1"), "waiting");
    // Twice, and the end before the beginning.
    for _ in 0..3 {
        node.tell(&with("state", json!("Up")));
    }
    house.login("ann");
    house.until("ann is called", |_| node.legs().len() == 1);
    let leg = node.legs().remove(0);
    for _ in 0..3 {
        node.answer(&leg);
    }
    house.until("they talk", |s| s.call("c1") == "connected");
    assert_eq!(
        node.count("POST /bridges/mqs-talk-") - node.count("POST /bridges/mqs-talk-x"),
        2,
        "made, and joined, once"
    );
    let ended = json!({"type": "StasisEnd", "channel": good});
    node.end("c1", 0);
    node.tell(&ended);
    node.tell(&ended);
    house.until("the call is over", |s| s.call("c1").is_empty());
    house.until("ann is free", |s| s.agent("ann") == "ready");
    assert_eq!(node.attached(), 1, "one connection for all of that");
    house.serves("c2");
}

#[test]
fn a_flood_of_events_is_borne_and_what_was_lost_in_it_is_found() {
    let house = House::start();
    let node = house.node();
    house.serves("c0");
    let before = house.memory();
    let ended = |id: &str| json!({"type": "StasisEnd", "channel": {"id": id}}).to_string();
    let event = |n: usize| {
        match n % 5 {
        0 => "{\"type\":\"Rain\"}".to_owned(),
        1 => "{".to_owned(),
        2 => json!({"type": "StasisStart", "args": [], "channel": {"id": format!("s{n}")}}).to_string(),
        3 => ended(&format!("e{n}")),
        _ => json!({"type": "StasisStart", "args": ["code", "login", "eve"], "channel": {"id": format!("d{n}")}}).to_string(),
    }
    };
    for n in 0..400_000 {
        node.say(Message::text(event(n)));
    }
    node.enter("c1", &["in", "sales"], &[]);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        if house.call("c1") == "waiting" {
            break;
        }
    }
    house.until("who came behind it waits", |s| s.call("c1") == "waiting");
    let after = house.memory();
    eprintln!("{} MB before, {} MB after", before >> 20, after >> 20);
    assert!(after < before + (150 << 20), "{before} {after}");
    assert!(house.log().len() < 6_000_000, "{} bytes in the log", house.log().len());
    house.login("ann");
    house.until("ann is called", |_| node.legs().len() == 1);
}

#[test]
fn a_frame_that_is_too_large_ends_a_connection_and_the_next_one_tells_what_was_missed() {
    let house = House::start();
    let node = house.node();
    house.serves("c0");
    let large = "x".repeat(10 << 20);
    node.put("c1", &["in", "sales"], &[]);
    node.say(Message::text(json!({"type": "StasisStart", "args": [large]}).to_string()));
    house.until("c1 is found", |s| s.call("c1") == "waiting");
    assert_eq!(house.lines(&["WARN", "no longer attached", "ast1"]), 1, "{}", house.log());
    node.say(Message::binary(vec![0_u8; 10 << 20]));
    house.until("it is attached again", |s| s.node().attached() == 3);
    house.until("it was listed", |s| s.node().count("GET /channels") >= 3);
    assert_eq!(house.call("c0"), "waiting");
    house.serves("c2");
    assert!(house.log().len() < 20_000);
}

/// A listing that is answered so, one after the other, costs its own connection and nobody's place.
fn lists_that_are_wrong(answers: Vec<(&str, Wrong)>) {
    let house = House::start();
    let node = house.node();
    house.serves("c0");
    for (what, wrong) in answers {
        let (asked, attached) = (node.count("GET /channels"), node.attached());
        let said =
            |s: &House| s.lines(&["WARN", "does not say what it has"]) + s.lines(&["WARN", "cannot be read"]);
        let before = said(&house);
        node.wrong("GET /channels", wrong);
        node.say(Message::Close(None));
        house.until(what, |s| s.node().attached() > attached && s.node().count("GET /channels") > asked + 1);
        assert_eq!(house.call("c0"), "waiting", "{what}");
        house.until("it is said", |s| said(s) > before);
        node.mend();
        let asked = node.count("GET /channels");
        house.until("it is listed", |s| s.node().count("GET /channels") > asked);
    }
    house.serves("c1");
}

fn answer(head: &str, body: &str) -> Wrong {
    Wrong::Bytes(format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes())
}

#[test]
fn lists_that_are_none_change_nothing_and_are_named() {
    lists_that_are_wrong(vec![
        ("no JSON", Wrong::Status(200, "{".into())),
        ("not a list", Wrong::Status(200, "{\"a\":1}".into())),
        ("text", Wrong::Status(200, "<html>".into())),
    ]);
}

#[test]
fn lists_that_are_refused_change_nothing_and_are_named() {
    lists_that_are_wrong(vec![
        ("500", Wrong::Status(500, "oh\r\nno".repeat(10_000))),
        ("302", Wrong::Status(302, String::new())),
        ("404", Wrong::Status(404, String::new())),
    ]);
}

#[test]
fn lists_of_a_wrong_length_change_nothing_and_are_named() {
    lists_that_are_wrong(vec![
        ("too short", answer("200 OK\r\nContent-Length: 1000", "[]")),
        ("two lengths", answer("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "[]")),
        ("headers", answer(&format!("200 OK\r\nX: {}", "x".repeat(1 << 20)), "[]")),
    ]);
}

#[test]
fn lists_that_are_no_http_change_nothing_and_are_named() {
    lists_that_are_wrong(vec![
        ("no HTTP", Wrong::Bytes(b"\x00\xff\r\n\r\n".to_vec())),
        ("nothing", Wrong::Bytes(Vec::new())),
        ("drip", Wrong::Drip(100)),
    ]);
}

#[test]
fn a_list_that_is_too_large_changes_nothing() {
    let house = House::start();
    let node = house.node();
    house.serves("c0");
    let large = format!("[{}\"{}\"]", "1,".repeat(100_000), "x".repeat(10 << 20));
    node.wrong("GET /channels", Wrong::Status(200, large));
    let asked = node.count("GET /channels");
    node.say(Message::Close(None));
    house.until("it is listed", |s| s.node().count("GET /channels") > asked);
    node.mend();
    node.say(Message::Close(None));
    house.until("it is listed", |s| s.node().count("GET /channels") > asked + 1);
    assert_eq!(house.call("c0"), "waiting");
    house.serves("c1");
}

#[test]
fn a_caller_of_whose_end_nobody_was_told_is_over_with_the_next_list() {
    let house = House::start();
    let node = house.node();
    house.serves("c1");
    // The lists still show them: one without them would end the call before it is withdrawn.
    node.wrong("POST /channels/c1/continue", Wrong::Status(404, String::new()));
    let (status, _) = house.http("POST", "/v1/calls/c1/withdraw", r#"{"treatment":"bye"}"#);
    assert_eq!(status, 404, "no such treatment");
    let (status, said) = house.http("POST", "/v1/calls/c1/withdraw", r#"{"treatment":"sorry"}"#);
    assert_eq!(status, 200, "{said}");
    house.until("the node says 404", |s| s.node().was_asked("POST /channels/c1/continue"));
    node.forget("c1");
    node.say(Message::Close(None));
    house.until("it is over", |s| s.call("c1").is_empty());
}

#[test]
fn ten_thousand_channels_are_read() {
    let house = House::start();
    let node = house.node();
    for n in 0..10_000 {
        let mut shown = node.put(&format!("other-{n}"), &["in"], &[]);
        shown["dialplan"]["app_name"] = json!("Playback");
        node.show(&shown);
    }
    node.put("c1", &["in", "sales"], &[]);
    node.say(Message::Close(None));
    house.until("the one caller among them waits", |s| s.call("c1") == "waiting");
    let (_, calls) = house.http("GET", "/v1/calls", "");
    assert_eq!(calls["total"], 1);
    house.serves("c2");
}

#[test]
fn a_node_that_was_restarted_has_nothing_of_before() {
    let house = House::start();
    let node = house.node();
    house.serves("c1");
    house.login("ann");
    house.until("ann is called", |_| node.legs().len() == 1);
    let leg = node.legs().remove(0);
    node.answer(&leg);
    house.until("they talk", |s| s.call("c1") == "connected");
    house.serves("c2");
    // A listing counts for what was last heard of 2 s before it.
    std::thread::sleep(Duration::from_millis(2_500));
    node.restart();
    house.until("its calls are over", |s| s.call("c1").is_empty() && s.call("c2").is_empty());
    house.until("ann is free", |s| s.agent("ann") == "ready");
    // Its channels are numbered anew: the same names are other calls.
    house.until("it is attached again", |s| s.node().attached() == 2);
    node.enter("c1", &["in", "sales"], &[]);
    house.until("ann is called", |_| node.legs().len() == 1);
    house.until("c1 is offered", |s| s.call("c1") == "offered");
    assert_ne!(node.legs()[0], leg, "an offer has a name of its own");
}

#[test]
fn callers_who_are_not_there_are_forgotten_however_many_they_are() {
    let house = House::start();
    let node = house.node();
    house.serves("c0");
    house.login("ann");
    house.until("ann is called", |s| s.call("c0") == "offered");
    let before = house.memory();
    for n in 0..30_000 {
        let queue = if n % 2 == 0 { "sales" } else { "nowhere" };
        let shown = channel(&format!("ghost-{n}"), "Ring", Some(&["in", queue]), &[]);
        node.tell(&json!({"type": "StasisStart", "args": ["in", queue], "channel": shown}));
    }
    let total = |s: &House| s.http("GET", "/v1/calls?limit=1", "").1["total"].as_u64().unwrap_or(u64::MAX);
    // Each listing takes out those who are not shown and were not heard of for 2 s.
    for round in 0..40 {
        std::thread::sleep(Duration::from_secs(1));
        let (total, memory) = (total(&house), house.memory() >> 20);
        eprintln!("{round}: {total} calls, {memory} MB, was {} MB", before >> 20);
        assert!(memory < (before >> 20) + 400);
        if total <= 1 {
            break;
        }
        if round % 5 == 3 {
            node.say(Message::Close(None));
        }
    }
    assert!(total(&house) <= 1);
    assert_eq!(house.call("c0"), "offered", "she was called before, and her phone rings on");
    node.answer(&node.legs()[0]);
    house.until("they talk", |s| s.call("c0") == "connected");
}
