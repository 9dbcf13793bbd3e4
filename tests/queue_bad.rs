//! What people, proxies and files can say wrong of queues, against the real `mqs serve` and its command line. The nodes are stand-ins for
//! Asterisk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "support/ari_stand_in.rs"]
mod ari_stand_in;
#[allow(dead_code)]
#[path = "support/instance.rs"]
mod instance;
#[allow(dead_code)]
#[path = "support/queue_house.rs"]
mod queue_house;

use queue_house::{House, LAID};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

/// Bytes that are no name of anything.
fn odd() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        " ",
        "a b",
        "a\r\nb",
        "\u{0}",
        "\u{7f}",
        "a:b c",
        "{mqs:c:main}:st x",
        "a{b}",
        "é",
        "../x",
        "\"",
        "%00",
        "-",
        "*",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push(b"\xff\xfe".to_vec());
    all.push(vec![b'x'; 10_000]);
    all
}

#[test]
fn names_that_are_none_are_refused_at_the_socket_and_leave_no_trace() {
    let house = House::start();
    for name in odd() {
        let with = |before: &[u8], after: &[u8]| [before, name.as_slice(), after].concat();
        for words in [
            vec![b"REG".to_vec(), name.clone(), b"exp=60;kam=k1;id=x;cs=1".to_vec()],
            vec![b"REG".to_vec(), with(b"", b"@"), b"exp=60;kam=k1;id=x;cs=1".to_vec()],
            vec![b"REG".to_vec(), b"bob@example.com".to_vec(), with(b"exp=60;kam=k1/", b";id=x;cs=1")],
            vec![b"REG".to_vec(), b"bob@example.com".to_vec(), with(b"exp=", b"s;kam=k1;id=x;cs=1")],
            vec![b"REG".to_vec(), b"bob@example.com".to_vec(), with(b"exp=60;kam=k1;id=x;cs=x", b"")],
            vec![
                b"ROUTE".to_vec(),
                b"c1".to_vec(),
                b"sip:ann@example.com".to_vec(),
                with(b"kind=agent;tok=", b""),
            ],
            vec![
                b"ROUTE".to_vec(),
                b"c1".to_vec(),
                b"sip:ann@example.com".to_vec(),
                with(b"kind=agent;tok=m1.", b".x"),
            ],
            vec![
                b"ROUTE".to_vec(),
                b"c1".to_vec(),
                b"sip:ann@example.com".to_vec(),
                with(b"kind=agent", b"?;tok=x"),
            ],
        ] {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let said = house.resp(&words);
            let shown = String::from_utf8_lossy(&words.join(&b' ')).chars().take(80).collect::<String>();
            // A leg without a token is a leg that is only counted: `tok=` says nothing.
            let is_untold = name.is_empty() && shown.ends_with("tok=");
            assert!(is_untold || said.starts_with(['!', '-']), "{shown:?}: {said}");
            assert!(said.len() < 600, "{shown:?}: {said}");
        }
    }
    let (_, agents) = house.http("GET", "/v1/agents", "");
    assert_eq!(agents["items"][0]["registered"], serde_json::json!([]), "{agents}");
    house.check_log();
    house.serves("c1");
}

#[test]
fn names_that_are_none_are_refused_on_the_command_line() {
    let house = House::start();
    house.serves("c1");
    let run = |verb: &[&str], name: &[u8], after: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        command
            .args(verb)
            .arg(OsStr::from_bytes(name))
            .args(after)
            .env("MQS_SOCKET", house.instance.path("http.sock"));
        let output = command.output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // No program takes a word with a zero byte in it.
    for name in odd().into_iter().filter(|name| !name.contains(&0)) {
        for (verb, after) in [
            (&["agent", "login"][..], &[][..]),
            (&["agent", "show"], &[]),
            (&["agent", "remove"], &[]),
            (&["agent", "set"], &["--aor", "x@example.com"]),
            (&["agent", "set", "fay", "--aor"], &[]),
            (&["agent", "set", "fay", "--aor", "f@example.com", "--queue"], &[]),
            (&["queue", "show"], &[]),
            (&["call", "move", "c1"], &[]),
            (&["call", "priority", "c1"], &[]),
            (&["call", "withdraw", "c1"], &[]),
        ] {
            let (code, said) = run(verb, &name, after);
            let shown = String::from_utf8_lossy(&name).chars().take(20).collect::<String>();
            assert!(code == 1 || code == 2, "{verb:?} {shown:?}: {code} {said}");
            assert!(!said.is_empty() && !said.contains("panicked"), "{verb:?} {shown:?}: {said}");
            // What cannot be a name at all is shown as it was typed, to whoever typed it.
            let is_harmless = !said.bytes().any(|b| b < b' ' && b != b'\n');
            assert!(code == 2 || is_harmless, "{verb:?} {shown:?}: {said:?}");
        }
    }
    let (_, agents) = house.http("GET", "/v1/agents", "");
    assert_eq!((agents["total"].as_u64(), house.call("c1").as_str()), (Some(1), "waiting"));
    for (priority, well) in [("1001", false), ("-1", false), ("1e3", false), ("0x10", false), ("1000", true)]
    {
        assert_eq!(run(&["call", "priority", "c1"], priority.as_bytes(), &[]).0 == 0, well, "{priority}");
    }
    house.check_log();
}

#[test]
fn an_agent_with_two_phones_is_rung_by_the_last_one_and_a_token_opens_one_door_once() {
    let house = House::start();
    let node = house.node();
    house.login("ann");
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(house.resp(&[b"REG", b"ann@example.com", b"exp=3600;kam=k2;id=other;cs=9"]).starts_with("OK"));
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    house.serves("c1");
    house.until("ann is called", |_| node.legs().len() == 1);
    let leg = node.legs().remove(0);
    assert_eq!(node.endpoint(&leg), "PJSIP/k2/sip:ann@example.com");
    let token = node.variable(&leg, "PJSIP_HEADER(add,X-MQS-Offer)");
    let ask = |call: &str, token: &str| {
        house.resp(&[
            b"ROUTE",
            call.as_bytes(),
            b"sip:ann@example.com",
            format!("kind=agent;ft=t;cs=1;tok={token}").as_bytes(),
        ])
    };
    let cut = &token[..token.len() - 1];
    let mut turned: Vec<u8> = token.clone().into_bytes();
    turned[10] ^= 1;
    let turned = String::from_utf8(turned).unwrap();
    for altered in [cut, &turned, &token.to_uppercase(), &format!("{token}x"), &format!("{token}{token}")] {
        assert!(ask("k-1", altered).starts_with("!VOID"), "{altered}");
    }
    assert!(ask("k-1", &token).starts_with('{'), "the first one rings");
    assert!(ask("k-1", &token).starts_with('{'), "the same INVITE again");
    assert!(ask("k-2", &token).starts_with("!VOID"), "another one does not");
    node.end(&leg, 486);
    house.until("the offer is over", |s| s.call("c1") == "waiting");
    house.until("its token is void", |_| ask("k-1", &token).starts_with("!VOID"));
    // The next offer has another token, and the last one opens nothing.
    house.until("ann is called again", |_| node.legs().len() == 1);
    assert_ne!(node.variable(&node.legs()[0], "PJSIP_HEADER(add,X-MQS-Offer)"), token);
    assert!(ask("k-3", &token).starts_with("!VOID"));
}

#[test]
fn a_reload_in_the_middle_of_an_offer_harms_nobody() {
    let house = House::start();
    let node = house.node();
    house.serves("c1");
    house.serves("c2");
    node.enter("c3", &["in", "support"], &[]);
    house.until("it waits", |s| s.call("c3") == "waiting");
    house.login("ann");
    house.until("ann is called", |_| node.legs().len() == 1);
    let leg = node.legs().remove(0);
    // A wrong file changes nothing, whoever asks for it.
    house.lay(&LAID.replace("queues = [\"sales\"]", "queues = [\"nowhere\"]"));
    let (status, said) = house.http("POST", "/v1/reload", "");
    assert_eq!((status, said["code"].as_str()), (422, Some("BADFILE")), "{said}");
    house.hup();
    house.until("it is said", |s| s.lines(&["nowhere"]) > 1);
    assert_eq!((house.call("c1").as_str(), house.agent("ann").as_str()), ("offered", "offered"));
    // Bob comes, ann goes, support goes.
    let bob = LAID.replace("\"ann\"", "\"bob\"").replace("ann@", "bob@");
    let bob = bob.replace("[[queue]]\nid = \"support\"\n", "").replace("ring_s = 60", "ring_s = 50");
    house.lay(&bob);
    let (status, said) = house.http("POST", "/v1/reload", "");
    assert_eq!(status, 200, "{said}");
    house.until("who waits for no queue is sent on", |_| node.was_asked("POST /channels/c3/continue"));
    assert_eq!((house.call("c1").as_str(), house.call("c2").as_str()), ("offered", "waiting"));
    assert!(node.has(&leg), "her phone rings on");
    house.login("bob");
    house.until("bob is called", |_| node.legs().len() == 2);
    node.answer(&leg);
    house.until("they talk", |s| s.call("c1") == "connected");
    node.end("c1", 0);
    house.until("her phone is hung up", |_| !node.has(&leg));
    house.until("she is gone", |s| s.agent("ann").is_empty());
    // She comes back, by a signal, and has to log in again.
    house.lay(&(bob + "\n[[agent]]\nid = \"ann\"\naor = \"ann@example.com\"\nqueues = [{ id = \"sales\", penalty = 1 }]\n"));
    house.hup();
    house.until("she is known", |s| s.agent("ann") == "offline");
    node.end(&node.legs()[0], 486);
    house.login("ann");
    house.until("she is called, since bob rests", |_| !node.legs().is_empty());
    assert_eq!(node.variable(&node.legs()[0], "MQS_AGENT"), "ann");
    assert_eq!(house.lines(&["ERROR"]), 2, "the wrong file, twice: {}", house.log());
}
