//! Peers that mean harm, in numbers, against the real service in a process of its own: what it does, and what it costs.
//!
//! `MQS_HOSTILE_FULL=1` runs all at full size, `MQS_HOSTILE_CALLS` sets the number of calls alone. What one peer can do is in `resp_server.rs` and `http_peers.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/child.rs"]
mod child;

use child::{Service, array, ask_all};
use mqs::clock::Stopwatch;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// These tests measure memory and time: one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn full() -> bool {
    std::env::var_os("MQS_HOSTILE_FULL").is_some()
}

const MIB: u64 = 1 << 20;

/// The answer to one command on a connection of its own, and how long it took.
fn well_behaved(service: &Service, call_id: &str) -> (String, Duration) {
    let clock = Stopwatch::start();
    let mut peer = service.resp();
    peer.write_all(&array(&["EXPLAIN", call_id, "sip:a@b"])).unwrap();
    let mut start = [0; 64];
    let read = peer.read(&mut start).unwrap();
    (String::from_utf8_lossy(&start[..read]).into_owned(), clock.elapsed())
}

/// A connection; a peer that finds the queue of the listener full comes again.
async fn connected(service: &Service) -> UnixStream {
    for _ in 0..10_000 {
        match UnixStream::connect(service.path("mqs.sock")).await {
            Ok(peer) => return peer,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the queue of the listener stays full");
}

#[test]
fn thousands_of_connections_at_once_are_answered_or_refused_and_given_back() {
    let _alone = alone();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard).unwrap();
    // Both ends have open files, in a process each.
    let most = usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(500);
    let wanted = if full() { 10_000 } else { 3_000 }.min(most);
    let room = wanted * 4 / 5;
    let service = Service::start(&format!("connections_max = {room}\n"), 100);
    let before = service.open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Stopwatch::start();
    let (answered, refused) = runtime.block_on(async {
        let mut peers = Vec::new();
        for n in 0..wanted {
            peers.push(connected(&service).await);
            // Half of them have half a command to say, and never the rest.
            let half = array(&["PING"]);
            let said = if n % 2 == 0 { &half[..half.len() - 3] } else { &half[..] };
            let _ = peers[n].write_all(said).await;
        }
        let (clock, (status, _)) = (Stopwatch::start(), service.http("GET", "/healthz", ""));
        assert_eq!(status, 200, "the other listener has room of its own");
        assert!(clock.elapsed() < Duration::from_secs(2), "{:?}", clock.elapsed());
        let (mut answered, mut refused) = (0, 0);
        for (n, peer) in peers.iter_mut().enumerate() {
            if n % 2 == 0 {
                let _ = peer.write_all(b"G\r\n").await;
            }
            let mut heard = [0; 64];
            let read = tokio::time::timeout(Duration::from_secs(20), peer.read(&mut heard))
                .await
                .expect("an answer or the end");
            match &heard[..read.unwrap_or(0)] {
                b"+PONG\r\n" => answered += 1,
                b"" | b"-ERR max number of clients reached\r\n" => refused += 1,
                other => panic!("{}", other.escape_ascii()),
            }
        }
        (answered, refused)
    });
    eprintln!(
        "{wanted} connections, room for {room}: {answered} answered, {refused} refused, {:?}",
        clock.elapsed()
    );
    assert_eq!((answered, refused), (room, wanted - room));
    drop(runtime);
    let until = Stopwatch::start();
    while service.open_files() > before + 2 {
        assert!(
            until.elapsed() < Duration::from_secs(10),
            "{} files are open, {before} before",
            service.open_files()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(well_behaved(&service, "c").0.starts_with('$'));
}

/// What docs/configuration.md promises of all that is kept of calls, with the program itself.
const MEMORY_CAP: u64 = 384 * MIB;

/// Asks `count` questions in pipelines of 500; the answers of each pipeline go to `heard`.
fn flood(service: &Service, count: u64, ask: impl Fn(u64) -> Vec<u8>, mut heard: impl FnMut(Vec<String>)) {
    let stream = service.resp();
    let mut from = 0;
    while from < count {
        let asks: Vec<Vec<u8>> = (from..count.min(from + 500)).map(&ask).collect();
        from += 500;
        heard(ask_all(&stream, &asks));
    }
}

/// Texts as long as they may be.
fn long(n: u64) -> (String, String) {
    (format!("{n:0>256}"), format!("sip:{n:0>900}@example.com"))
}

fn report(service: &Service, what: &str, count: u64, clock: &Stopwatch) {
    let mib = service.memory() as f64 / MIB as f64;
    eprintln!("{what}: {count} in {:.1} s, {mib:.1} MiB", clock.elapsed().as_secs_f64());
    assert!(service.memory() < MEMORY_CAP, "{what}: {mib:.1} MiB");
}

#[test]
fn a_million_calls_leave_memory_bounded() {
    let _alone = alone();
    let said = std::env::var("MQS_HOSTILE_CALLS").ok().map(|n| n.parse().expect("a number of calls"));
    let count = said.unwrap_or(if full() { 1_000_000 } else { 10_000 });
    let service = Service::start("", 100);
    report(&service, "start", 0, &Stopwatch::start());

    // The nodes are full after 300: all others are refused, and each refusal is a decision that is kept.
    let (mut routed, mut refused, clock) = (0, 0, Stopwatch::start());
    let ask = |n| {
        let (call_id, uri) = long(n);
        array(&["ROUTE", &call_id, &uri])
    };
    flood(&service, count, ask, |answers| {
        routed += answers.iter().filter(|a| a.starts_with('{')).count();
        refused += answers.iter().filter(|a| a.starts_with("!FULL")).count();
    });
    assert_eq!((routed, routed + refused), (300, usize::try_from(count).unwrap()));
    report(&service, "refused", count, &clock);

    // Calls that end: each is remembered for a while.
    let clock = Stopwatch::start();
    let settler = service.resp();
    let ask = |n| array(&["ROUTE", &format!("ended-{n}"), "sip:a@b", "pool=wide;n=3"]);
    flood(&service, count, ask, |answers| {
        let done: Vec<_> = answers.iter().map(|a| array(&["DONE", token(a)])).collect();
        assert!(ask_all(&settler, &done).iter().all(|a| a == "OK ended"));
    });
    report(&service, "ended", count, &clock);

    // Emergency calls are never refused, so their leases are not bounded by what the nodes can carry.
    let clock = Stopwatch::start();
    let ask = |n| array(&["ROUTE", &format!("sos-{n}"), "urn:service:sos", "n=3"]);
    flood(&service, count, ask, |answers| assert!(answers.iter().all(|a| a.starts_with('{'))));
    report(&service, "emergency", count, &clock);

    // Whoever asks for the whole table with each decision has the ring hold many rows: a thousand each.
    let (count, clock) = (count / 20, Stopwatch::start());
    let ask = |n| array(&["ROUTE", &format!("table-{n}"), "sip:a@b", "pool=wide;explain=1;kind=callback"]);
    flood(&service, count, ask, |answers| assert!(!answers.is_empty()));
    report(&service, "tables", count, &clock);

    assert!(well_behaved(&service, "c").1 < Duration::from_secs(2));
    assert!(!service.log().contains("panicked"), "{}", service.log());
}

fn token(document: &str) -> &str {
    let from = document.find("\"token\":\"").unwrap_or_else(|| panic!("{document}")) + 9;
    document[from..].split('"').next().unwrap()
}

#[test]
fn json_that_is_deep_or_says_a_thing_twice_is_refused_by_name() {
    let _alone = alone();
    let service = Service::start("", 100);
    let deep = format!("{{\"tags\":{}", "[".repeat(60_000));
    let nested = "{\"pool\":".repeat(7_000);
    for (body, culprit) in [
        (deep.as_str(), "\"field\":\"tags\""),
        (&nested, "\"field\":\"pool\""),
        (r#"{"call_id":"a","request_uri":"sip:a@b","call_id":"b"}"#, "\"field\":\"call_id\""),
        (r#"{"":1}"#, "\"field\":\"body\""),
    ] {
        let (status, text) = service.http("POST", "/v1/route", body);
        assert!(status == 400 && text.contains(culprit), "{text}");
        assert!(text.len() < 1500, "{} bytes", text.len());
    }
    assert_eq!(service.http("GET", "/healthz", "").0, 200);
}

#[test]
fn many_slow_peers_hold_up_nobody_else() {
    let _alone = alone();
    let service = Service::start("header_timeout_ms = 1500\n", 100);
    let before = service.open_files();
    let slow: Vec<_> = (0..500)
        .map(|n| {
            let mut peer = std::os::unix::net::UnixStream::connect(service.path("http.sock")).unwrap();
            let part: &[u8] = if n % 2 == 0 { b"POST /v1/route HT" } else { b"" };
            peer.write_all(part).unwrap();
            peer
        })
        .collect();
    for n in 0..20 {
        let clock = Stopwatch::start();
        let body = format!("{{\"call_id\":\"c{n}\",\"request_uri\":\"sip:a@b\"}}");
        assert_eq!(service.http("POST", "/v1/route", &body).0, 200);
        assert!(clock.elapsed() < Duration::from_secs(1), "{:?}", clock.elapsed());
    }
    for mut peer in slow {
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut heard = Vec::new();
        let _ = peer.read_to_end(&mut heard);
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{}", heard.escape_ascii());
    }
    assert!(service.open_files() <= before + 2, "{} files are open, {before} before", service.open_files());
}
