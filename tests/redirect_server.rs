//! The redirect server over real sockets: what it says to whom, what it does not say, and what it costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/child.rs"]
#[allow(dead_code)]
mod child;
#[path = "support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "support/sip.rs"]
#[allow(dead_code)]
mod sip;

use mqs::config::Config;
use mqs::dispatch::settle::Verb;
use mqs::inbound::sip::Options;
use mqs::wire::ask::BranchAsk;
use sip::{Answer, Server, options, request};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[tokio::test]
async fn a_call_from_the_redirect_to_its_end() {
    let server = Server::start().await;
    let peer = server.peer().await;
    let answer = peer.ask(&peer.invite("c1@host")).await;
    assert_eq!(answer.code, 302);
    let contacts = answer.headers("Contact");
    assert_eq!(contacts.len(), 3, "{}", answer.text);
    let places = [
        "sip:100@127.0.1.1:5060;mqs=",
        "sip:100@127.0.1.2:5060;transport=tcp;mqs=",
        "sip:100@[::1]:5070;mqs=",
    ];
    for place in places {
        assert!(contacts.iter().any(|c| c.starts_with(&format!("<{place}m1.default."))), "{}", answer.text);
    }
    for (contact, q) in contacts.iter().zip(["1.00", "0.95", "0.90"]) {
        assert!(contact.ends_with(&format!(">;q={q}")), "{contact}");
    }
    assert_eq!(server.load("default").await, 1);

    // A retransmission: the same targets in the same order, the same lease, the same To tag.
    let again = peer.ask(&peer.invite("c1@host")).await;
    let apart = |a: &Answer| {
        a.tokens().iter().map(|t| t.split('.').take(5).collect::<Vec<_>>().join(".")).collect::<Vec<_>>()
    };
    assert_eq!((apart(&again), again.header("To")), (apart(&answer), answer.header("To")));
    assert_eq!(server.load("default").await, 1);
    assert_eq!(server.metric(r#"mqs_lookups_total{pool="default",result="repeat",transport="sip"}"#), 1);

    // The tokens are those of the control protocol: whoever follows a Contact can settle its lease.
    let settle = async |verb, token: &str, code| {
        let ask = BranchAsk { code, ..BranchAsk::default() };
        server.dispatcher.settle(verb, token, ask).await.unwrap().result
    };
    let tokens = answer.tokens();
    assert_eq!(settle(Verb::Fail, tokens[0], Some(503)).await, "moved");
    assert_eq!(settle(Verb::Confirm, tokens[1], None).await, "confirmed");
    assert_eq!(settle(Verb::Done, tokens[1], None).await, "ended");
    assert_eq!(server.load("default").await, 0);
}

#[tokio::test]
async fn who_may_ask_and_for_what_follows_a_reload() {
    let server = Server::start().await;
    let peer = server.peer().await;
    assert_eq!(peer.ask(&peer.invite("c1@host")).await.code, 302);
    let reload = |redirect: &str| {
        let mut settings = (*server.dispatcher.settings()).clone();
        settings.redirect =
            Config::parse(&format!("[redirect]\n{redirect}\n{}", sip::POOLS), "").unwrap().redirect;
        server.dispatcher.change_settings(settings);
    };
    reload("pool = \"tiny\"");
    assert!(peer.ask(&peer.invite("c2@host")).await.tokens()[0].starts_with("m1.tiny."));
    reload("allow = [\"192.0.2.1\"]");
    peer.say(peer.invite("c3@host")).await;
    while server.metric(r#"mqs_sip_unanswered_total{reason="unlisted"}"#) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reload("");
    let answer = peer.ask(&peer.invite("c4@host")).await;
    assert_eq!(answer.header("Call-ID"), Some("c4@host"));
    assert!(answer.tokens()[0].starts_with("m1.default."), "{}", answer.text);
}

#[tokio::test]
async fn every_method_is_answered_as_it_should_be() {
    let server = Server::start().await;
    let peer = server.peer().await;
    let ask = async |method: &str, call_id: &str| {
        peer.ask(&request(method, "sip:100@example.com", call_id, &peer.via("m"))).await
    };
    let options = ask("OPTIONS", "o@host").await;
    assert_eq!((options.code, options.header("Allow")), (200, Some("INVITE, ACK, CANCEL, OPTIONS")));
    for method in ["BYE", "REGISTER", "MESSAGE", "UPDATE"] {
        let answer = ask(method, "x@host").await;
        assert_eq!(
            (answer.code, answer.header("Allow")),
            (405, Some("INVITE, ACK, CANCEL, OPTIONS")),
            "{method}"
        );
    }
    assert_eq!(ask("NEWMETHOD", "x@host").await.code, 501);
    // RFC 3261 §9.2: unknown, then of a call that was answered; and not one whose CSeq or tag differs.
    assert_eq!(ask("CANCEL", "c2@host").await.code, 481);
    let invite = ask("INVITE", "c2@host").await;
    let cancel = ask("CANCEL", "c2@host").await;
    assert_eq!((cancel.code, cancel.header("To")), (200, invite.header("To")));
    let other =
        request("CANCEL", "sip:100@example.com", "c2@host", &peer.via("m")).replace("tag=ft", "tag=other");
    assert_eq!(peer.ask(&other).await.code, 481);
    assert_eq!(server.load("default").await, 1, "a CANCEL after the final answer changes nothing");

    peer.hears_nothing_of(request("ACK", "sip:100@example.com", "c2@host", &peer.via("m"))).await;
    peer.hears_nothing_of("\r\n\r\n").await;
    peer.hears_nothing_of(&invite.text).await;
    peer.hears_nothing_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    peer.hears_nothing_of([0xff; 500]).await;
    for (line, want) in [
        (r#"mqs_sip_requests_total{method="INVITE",answer="302"}"#, 1),
        (r#"mqs_sip_requests_total{method="CANCEL",answer="481"}"#, 2),
        (r#"mqs_sip_requests_total{method="CANCEL",answer="200"}"#, 1),
        (r#"mqs_sip_requests_total{method="BYE",answer="405"}"#, 1),
        (r#"mqs_sip_requests_total{method="other",answer="501"}"#, 1),
        (r#"mqs_sip_unanswered_total{reason="ack"}"#, 1),
        (r#"mqs_sip_unanswered_total{reason="keepalive"}"#, 1),
        (r#"mqs_sip_unanswered_total{reason="response"}"#, 1),
        (r#"mqs_sip_unanswered_total{reason="malformed"}"#, 2),
    ] {
        assert_eq!(server.metric(line), want, "{line}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_pools_code() {
    let server = Server::with("pool = \"tiny\"", options()).await;
    let peer = server.peer().await;
    assert_eq!(peer.ask(&peer.invite("t1@host")).await.code, 302);
    let full = peer.ask(&peer.invite("t2@host")).await;
    assert_eq!((full.code, full.header("Retry-After"), full.header("Contact")), (486, None, None));
    assert_eq!(
        full.header("Reason"),
        Some("SIP;cause=486;text=\"MQS FULL: pool tiny: no node has room for this call\"")
    );
    // An emergency call is never refused for room.
    let sos = request("INVITE", "urn:service:sos.police", "t3@host", &peer.via("s"));
    let answer = peer.ask(&sos).await;
    assert!(
        answer.code == 302
            && answer.header("Contact").unwrap().starts_with("<sip:sos.police@127.0.2.1:5060;mqs=")
    );

    let site = Server::with("pool = \"site\"", options()).await;
    let peer = site.peer().await;
    let none = peer.ask(&peer.invite("t4@host")).await;
    assert_eq!((none.code, none.header("Retry-After")), (503, Some("7")));
}

#[tokio::test]
async fn a_stranger_hears_nothing() {
    let server = Server::with("allow = [\"127.0.0.2\", \"10.0.0.0/8\"]", options()).await;
    let stranger = server.peer().await;
    for text in [
        stranger.invite("s1@host"),
        request("OPTIONS", "sip:a", "s2@host", &stranger.via("o")),
        "junk".to_owned(),
    ] {
        stranger.say(&text).await;
    }
    // Forged Via, Route and From do not make a friend.
    stranger.say(stranger.invite("s3@host").replace("SIP/2.0/UDP 127.0.0.1", "SIP/2.0/UDP 127.0.0.2")).await;
    server.stream().await.is_closed().await;
    let friend = tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap();
    friend.connect(server.udp).await.unwrap();
    let friend = sip::Peer { socket: friend };
    assert_eq!(friend.ask(&friend.invite("s4@host")).await.code, 302);
    let mut buffer = [0; 2000];
    assert!(stranger.socket.try_recv(&mut buffer).is_err(), "{}", String::from_utf8_lossy(&buffer));
    assert_eq!(server.load("default").await, 1);
    assert_eq!(server.metric(r#"mqs_sip_unanswered_total{reason="unlisted"}"#), 5);
}

#[tokio::test]
async fn an_answer_goes_to_its_source_and_nowhere_else() {
    let server = Server::start().await;
    let (peer, victim) = (server.peer().await, server.peer().await);
    let (own, other) = (peer.socket.local_addr().unwrap(), victim.socket.local_addr().unwrap());
    // RFC 3581: back to the port that the request came from, whatever the sent-by says.
    let via = format!("SIP/2.0/UDP {other};rport;branch=z9hG4bKr;received=127.0.0.7;maddr=127.0.0.8");
    let answer = peer.ask(&request("INVITE", "sip:100@example.com", "v1@host", &via)).await;
    let want = format!(
        "SIP/2.0/UDP {other};branch=z9hG4bKr;maddr=127.0.0.8;received=127.0.0.1;rport={}",
        own.port()
    );
    assert_eq!(answer.header("Via"), Some(want.as_str()));
    // RFC 3261 §18.2.2: without rport to the port of the sent-by, at the source's address.
    let via = format!("SIP/2.0/UDP elsewhere.example:{};branch=z9hG4bKs", other.port());
    peer.say(request("INVITE", "sip:100@example.com", "v2@host", &via)).await;
    let answer = Answer::of(victim.hear().await);
    let want = format!("SIP/2.0/UDP elsewhere.example:{};branch=z9hG4bKs;received=127.0.0.1", other.port());
    assert_eq!((answer.code, answer.header("Via")), (302, Some(want.as_str())));
    // Many Vias, each with a list: all come back, in their order (RFC 3261 §8.2.6.2).
    let vias =
        format!("{};rport, SIP/2.0/TCP b.example;branch=z9hG4bK1\r\nv: SIP/2.0/UDP c.example", peer.via("l"));
    let answer = peer.ask(&request("INVITE", "sip:100@example.com", "v3@host", &vias)).await;
    assert_eq!(
        answer.headers("Via")[1..],
        ["SIP/2.0/TCP b.example;branch=z9hG4bK1", "SIP/2.0/UDP c.example"]
    );
}

#[tokio::test]
async fn a_small_datagram_gets_a_small_answer() {
    let server = Server::start().await;
    let peer = server.peer().await;
    let port = peer.socket.local_addr().unwrap().port();
    let least = format!(
        "INVITE sip:a SIP/2.0\r\nv:SIP/2.0/UDP a:{port};branch=z9hG4bKa\r\nf:<sip:a>;tag=a\r\nt:<sip:b>\r\ni:a\r\nCSeq:1 INVITE\r\n\r\n"
    );
    let answer = peer.ask(&least).await;
    assert_eq!((answer.code, answer.headers("Contact").len()), (302, 1));
    assert!(answer.text.len() <= 3 * least.len() + 64, "{} bytes to {}", answer.text.len(), least.len());
    for bad in ["BYE", "NEW"] {
        let text = least.replace("INVITE", bad);
        assert!(peer.ask(&text).await.text.len() <= 3 * text.len(), "{bad}");
    }
}

#[tokio::test]
async fn tcp_is_cut_by_content_length() {
    let server = Server::start().await;
    let mut wire = server.stream().await;
    let via = "SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bKt";
    let ask = |method: &str, call: &str| request(method, "sip:100@example.com", call, via);
    // RFC 5626 §4.4.1; then three in one write, an ACK and a keep-alive among them, and one byte by byte.
    wire.say("\r\n\r\n").await;
    wire.hear_exactly(b"\r\n").await;
    wire.say(format!(
        "{}{}\r\n{}",
        ask("INVITE", "p1@host"),
        ask("ACK", "p1@host"),
        ask("OPTIONS", "p2@host")
    ))
    .await;
    let (first, second) = (wire.hear().await, wire.hear().await);
    assert_eq!(
        (first.code, first.header("Call-ID"), first.headers("Contact").len()),
        (302, Some("p1@host"), 3)
    );
    assert_eq!((second.code, second.header("Call-ID")), (200, Some("p2@host")));
    for byte in ask("INVITE", "p3@host").as_bytes() {
        wire.say([*byte]).await;
    }
    assert_eq!(wire.hear().await.header("Call-ID"), Some("p3@host"));
    // A body that looks like a request is a body.
    let inner = ask("INVITE", "smuggled@host");
    let outer = ask("OPTIONS", "p4@host");
    let outer = outer.split("Content-Length").next().unwrap().to_owned();
    wire.say(format!("{outer}Content-Length: {}\r\n\r\n{inner}{}", inner.len(), ask("OPTIONS", "p5@host")))
        .await;
    assert_eq!(wire.hear().await.header("Call-ID"), Some("p4@host"));
    assert_eq!(wire.hear().await.header("Call-ID"), Some("p5@host"));
    assert!(server.dispatcher.decision("smuggled@host").is_err());

    // What cannot be cut: 400 where there is somebody to say it to, and the end.
    for (bad, answered) in [
        (ask("INVITE", "q@host").replace("Content-Length: 500\r\n", ""), true),
        (ask("INVITE", "q@host").replace("Length: 500", "Length: -1"), true),
        (ask("INVITE", "q@host").replace("Length: 500", "Length: 65536"), true),
        (ask("INVITE", "q@host").replace("Length: 500", "Length: 500\r\nl: 4"), true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), false),
        ("x".repeat(20_000), false),
    ] {
        let mut wire = server.stream().await;
        wire.say(&bad).await;
        if answered {
            assert_eq!(wire.hear().await.code, 400, "{bad}");
        }
        wire.is_closed().await;
    }
    assert!(server.dispatcher.decision("q@host").is_err());
}

#[tokio::test]
async fn a_connection_ends_when_its_peer_dawdles_and_there_is_a_cap() {
    let limits = Options { connections_max: 2, message_timeout_ms: 300, idle_timeout_s: 1 };
    let server = Server::with("", limits).await;
    let (mut slow, mut silent) = (server.stream().await, server.stream().await);
    let over = async {
        let mut third = server.stream().await;
        third.is_closed().await;
    };
    over.await;
    assert_eq!(server.metric(r#"mqs_sip_unanswered_total{reason="overload"}"#), 1);
    // A byte now and then does not make the time for a message start again.
    let dawdle = async {
        for byte in b"OPTIONS sip:a SIP/2.0\r\n".iter().cycle() {
            if tokio::io::AsyncWriteExt::write_all(&mut slow.stream, &[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), dawdle).await.expect("closed");
    silent.is_closed().await;
    let via = "SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bKt";
    let mut next = server.stream().await;
    next.say(request("OPTIONS", "sip:a", "n@host", via)).await;
    assert_eq!(next.hear().await.code, 200);
}

#[tokio::test]
async fn a_store_that_is_away_does_not_stop_calls() {
    let inner = Arc::new(mqs::store::memory::MemoryStore::new(Box::new(mqs::clock::wall)));
    let store = Arc::new(faulty::Faulty::new(inner));
    let server = Server::over("", options(), store.clone()).await;
    let peer = server.peer().await;
    assert_eq!(peer.ask(&peer.invite("d1@host")).await.code, 302);
    store.away.store(true, Relaxed);
    let answer = peer.ask(&peer.invite("d2@host")).await;
    assert_eq!((answer.code, answer.headers("Contact").len()), (302, 3));
    assert_eq!(server.metric(r#"mqs_lookups_total{pool="default",result="degraded",transport="sip"}"#), 1);
}

#[tokio::test]
async fn what_was_asked_before_a_stop_is_answered() {
    let mut server = Server::start().await;
    let peer = server.peer().await;
    assert_eq!(peer.ask(&peer.invite("e1@host")).await.code, 302);
    let mut wire = server.stream().await;
    wire.say("\r\n\r\n").await;
    wire.hear_exactly(b"\r\n").await;
    server.stop.cancel();
    for task in server.tasks.drain(..) {
        tokio::time::timeout(Duration::from_secs(3), task).await.expect("stops").unwrap();
    }
    wire.is_closed().await;
}

#[test]
fn the_service_listens_where_it_is_told_and_refuses_to_be_everybodys() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = child::Service::start(&format!("sip = [\"udp:127.0.0.1:{free}\"]\n"), 5);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", free)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let via = format!("SIP/2.0/UDP {};branch=z9hG4bKa", socket.local_addr().unwrap());
    socket.send(request("INVITE", "sip:100@example.com", "x@host", &via).as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(
        Answer::of(String::from_utf8_lossy(&buffer[..length]).into_owned()).code,
        302,
        "{}",
        service.log()
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mqs.toml");
    std::fs::write(&file, "[listen]\nsip = [\"udp:0.0.0.0:0\"]\n[[pool]]\nname = \"p\"\n").unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_mqs"))
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("redirect.allow"), "{said}");
}
