//! The HTTP server and its peers' manners: keep-alive, pipelines, slow ones, large ones, too many, and the stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mqs::clock::Stopwatch;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::http::{Options, Reply, Server, ask_body, memory, options, request, talk};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(10);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn route(call_id: &str) -> String {
    request("POST", "/v1/route", &[], &ask_body(&format!("{call_id:?}")))
}

fn code(reply: &Reply) -> String {
    reply.problem()["code"].as_str().unwrap().to_owned()
}

/// Waits until the server closes; how long that took.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let clock = Stopwatch::start();
    let mut space = [0; 4096];
    loop {
        match timeout(LONG, stream.read(&mut space)).await.expect("closed in time") {
            Ok(0) | Err(_) => return clock.elapsed(),
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn one_connection_takes_many_requests() {
    let server = Server::start().await;
    let (mut tcp, mut unix) = (server.tcp().await, server.unix().await);
    for n in 0..5 {
        tcp.write_all(route(&format!("t{n}")).as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut tcp).await.unwrap().status, 200);
        unix.write_all(route(&format!("u{n}")).as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut unix).await.unwrap().status, 200);
    }
    // A refusal does not end the connection either, whether its body was read or not.
    for bad in [request("POST", "/v1/route", &[], "{}"), request("POST", "/nowhere", &[], "{}")] {
        tcp.write_all(bad.as_bytes()).await.unwrap();
        assert!(Reply::read(&mut tcp).await.unwrap().status >= 400);
        tcp.write_all(route("t0").as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut tcp).await.unwrap().json()["mqs"]["repeat"], true);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut stream = server.tcp().await;
    let many: String = (0..20).map(|n| route(&format!("c{n}"))).collect();
    stream.write_all(many.as_bytes()).await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(Reply::read(&mut stream).await.unwrap().json()["mqs"]["lease"].clone());
    }
    for (n, lease) in leases.iter().enumerate() {
        assert_eq!(server.route(&format!("\"c{n}\"")).await.json()["mqs"]["lease"], *lease);
    }
}

#[tokio::test]
async fn a_hyper_client_over_the_unix_socket() {
    let server = Server::start().await;
    let io = hyper_util::rt::TokioIo::new(server.unix().await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let ask = |body: String| {
        hyper::Request::post("/v1/route").header("host", "mqs").body(Full::new(Bytes::from(body)))
    };
    let reply = sender.send_request(ask(ask_body(r#""c1""#)).unwrap()).await.unwrap();
    assert_eq!(reply.status(), 200);
    let body: Value = serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["mqs"]["nodes"].as_array().unwrap().len(), 3);
    let reply = sender.send_request(ask("x".repeat(70_000)).unwrap()).await.unwrap();
    assert_eq!(reply.status(), 413);
}

#[tokio::test]
async fn slow_headers_are_not_waited_for() {
    let server = Server::start().await;
    let begun = "POST /v1/route HTTP/1.1\r\nHost: mq";
    for first in ["", begun] {
        let mut stream = server.tcp().await;
        stream.write_all(first.as_bytes()).await.unwrap();
        let took = closed_after(&mut stream).await;
        assert!(took > ms(300) && took < ms(2000), "{first:?}: {took:?}");
    }
    // A byte now and then buys no time.
    let mut stream = server.tcp().await;
    let clock = Stopwatch::start();
    while stream.write_all(b"P").await.is_ok() {
        sleep(ms(50)).await;
        assert!(clock.elapsed() < LONG);
    }
    assert!(clock.elapsed() < ms(2000), "{:?}", clock.elapsed());
    // Nor does an answered request before it.
    let mut stream = server.tcp().await;
    stream.write_all(route("c1").as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 200);
    sleep(ms(100)).await;
    stream.write_all(begun.as_bytes()).await.unwrap();
    let took = closed_after(&mut stream).await;
    assert!(took > ms(300) && took < ms(2000), "{took:?}");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_longer_than_headers_may_take() {
    let server =
        Server::with_options(Options { header_timeout_ms: 200, idle_timeout_s: 1, ..options() }).await;
    let mut stream = server.tcp().await;
    for _ in 0..2 {
        stream.write_all(route("c1").as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut stream).await.unwrap().status, 200);
        sleep(ms(600)).await;
    }
    let took = closed_after(&mut stream).await;
    assert!(took > ms(200) && took < ms(2000), "{took:?}");
}

#[tokio::test]
async fn a_slow_body_is_not_waited_for() {
    let server = Server::start().await;
    let mut stream = server.tcp().await;
    stream.write_all(b"POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Length: 50\r\n\r\n{").await.unwrap();
    let reply = Reply::read(&mut stream).await.unwrap();
    assert_eq!((reply.status, code(&reply).as_str()), (408, "SLOW"));
    // And one that ends before its end.
    let mut stream = server.tcp().await;
    stream.write_all(b"POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Length: 50\r\n\r\n{").await.unwrap();
    stream.shutdown().await.unwrap();
    let heard = talk(&mut stream, b"", ms(300)).await;
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 400"), "{heard}");
}

#[tokio::test]
async fn a_peer_that_asks_first_hears_continue() {
    let server = Server::start().await;
    let mut stream = server.tcp().await;
    let body = ask_body(r#""c1""#);
    let head = |length: usize| {
        format!(
            "POST /v1/route HTTP/1.1\r\nHost: mqs\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 100);
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 200);
    // What would be refused anyway is refused at once.
    stream.write_all(head(10 << 20).as_bytes()).await.unwrap();
    let reply = Reply::read(&mut stream).await.unwrap();
    assert_eq!((reply.status, code(&reply).as_str()), (413, "TOOLARGE"));
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read() {
    let server = Server::start().await;
    // Said beforehand: the answer comes while the body is still to come.
    let mut stream = server.tcp().await;
    stream
        .write_all(b"POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Length: 10485760\r\n\r\n{")
        .await
        .unwrap();
    let reply = Reply::read(&mut stream).await.unwrap();
    assert_eq!((reply.status, code(&reply).as_str()), (413, "TOOLARGE"));
    // Not said beforehand: the answer comes after the most that is allowed.
    let mut stream = server.tcp().await;
    stream
        .write_all(b"POST /v1/route HTTP/1.1\r\nHost: mqs\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..5 {
        stream.write_all(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes()).await.unwrap();
    }
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 413);
    // One that sends first and listens later is not cut off at once, and finds the answer.
    let head =
        |length: usize| format!("POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Length: {length}\r\n\r\n");
    let mut stream = server.tcp().await;
    stream.write_all(head(2 << 20).as_bytes()).await.unwrap();
    for _ in 0..32 {
        stream.write_all(&[b'x'; 1 << 16]).await.unwrap();
        sleep(ms(2)).await;
    }
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 413);
    // But not for as long as it likes.
    let mut stream = server.tcp().await;
    stream.write_all(head(64 << 20).as_bytes()).await.unwrap();
    assert!(stream.write_all(&vec![b'x'; 64 << 20]).await.is_err());
    // The limit itself is allowed.
    let exact = ask_body(r#""c1""#);
    let padded = format!("{exact}{}", " ".repeat(65_536 - exact.len()));
    assert_eq!(server.ask("POST", "/v1/route", &padded).await.status, 200);
    let reply = server.ask("POST", "/v1/route", &(padded + " ")).await;
    assert_eq!(code(&reply), "TOOLARGE");
}

#[tokio::test]
async fn a_chunked_body_is_read() {
    let server = Server::start().await;
    let body = ask_body(r#""c1""#);
    let (head, tail) = body.split_at(10);
    let text = format!(
        "POST /v1/route HTTP/1.1\r\nHost: mqs\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n\r\n",
        head.len(),
        tail.len()
    );
    let mut stream = server.tcp().await;
    stream.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.unwrap().status, 200);
}

#[tokio::test]
async fn bytes_that_are_not_http_do_no_harm() {
    let server = Server::start().await;
    let huge = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500));
    for (bytes, want) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "HTTP/1.1 400"),
        (b"*3\r\n$5\r\nROUTE\r\n$1\r\nc\r\n$1\r\nu\r\n", "HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\nBad Header: x\r\n\r\n", "HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n\r\n", "HTTP/1.1 400"),
        (b"POST /v1/route HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"),
        (b"POST /v1/route HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505"),
        (huge.as_bytes(), "HTTP/1.1 431"),
        (many.as_bytes(), "HTTP/1.1 431"),
    ] {
        let mut stream = server.tcp().await;
        let heard = talk(&mut stream, bytes, ms(600)).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert!(heard.starts_with(want) || heard.is_empty(), "{shown:?}: {heard}");
        assert!(!heard.contains("200 OK"), "{shown:?}: {heard}");
    }
    assert_eq!(server.ask("GET", "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_at_once() {
    let options = Options { connections_max: 3, header_timeout_ms: 60_000, ..options() };
    let server = Server::with_options(options).await;
    let mut held = Vec::new();
    for n in 0..3 {
        let mut stream = server.tcp().await;
        stream.write_all(route(&format!("c{n}")).as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut stream).await.unwrap().status, 200);
        held.push(stream);
    }
    for _ in 0..5 {
        let took = closed_after(&mut server.tcp().await).await;
        assert!(took < ms(1000), "{took:?}");
    }
    // Each listener counts its own.
    let mut unix = server.unix().await;
    unix.write_all(route("u").as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut unix).await.unwrap().status, 200);
    // Those that are in are still served, and a place that is given up can be taken.
    held[0].write_all(route("c0").as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut held[0]).await.unwrap().status, 200);
    held.pop();
    sleep(ms(100)).await;
    assert_eq!(server.ask("GET", "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_gives_the_place_back() {
    let server = Server::with_options(Options { connections_max: 1, ..options() }).await;
    let mut deaf = server.tcp().await;
    let many = request("GET", "/openapi.json", &[], "").repeat(2000);
    // About 70 MB of answers: more than the system holds for a peer that does not read.
    let _ = timeout(ms(300), deaf.write_all(many.as_bytes())).await;
    let clock = Stopwatch::start();
    loop {
        let mut stream = server.tcp().await;
        let _ = stream.write_all(request("GET", "/healthz", &[], "").as_bytes()).await;
        if Reply::read(&mut stream).await.is_some_and(|reply| reply.status == 200) {
            break;
        }
        assert!(clock.elapsed() < LONG);
        sleep(ms(50)).await;
    }
    drop(deaf);
}

#[tokio::test]
async fn the_stop_lets_answers_finish() {
    let mut server = Server::with_options(Options { header_timeout_ms: 60_000, ..options() }).await;
    let body = ask_body(r#""c1""#);
    let whole = request("POST", "/v1/route", &[], &body);
    let (first, rest) = whole.split_at(whole.len() - 5);
    let (mut busy, mut idle, fresh) = (server.tcp().await, server.unix().await, server.tcp().await);
    idle.write_all(route("c2").as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut idle).await.unwrap().status, 200);
    busy.write_all(first.as_bytes()).await.unwrap();
    sleep(ms(100)).await;

    let clock = Stopwatch::start();
    server.stop.cancel();
    assert_eq!(
        timeout(LONG, idle.read(&mut [0; 1])).await.unwrap().unwrap(),
        0,
        "an idle connection is closed"
    );
    sleep(ms(50)).await;
    assert!(TcpStream::connect(server.tcp).await.is_err());
    assert!(UnixStream::connect(&server.socket).await.is_err());
    assert!(!server.socket.exists());
    busy.write_all(rest.as_bytes()).await.unwrap();
    let reply = Reply::read(&mut busy).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    for task in server.tasks.drain(..) {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    assert!(clock.elapsed() < ms(1500), "{:?}", clock.elapsed());
    drop(fresh);
}

#[tokio::test]
async fn the_stop_does_not_wait_for_ever() {
    let mut server = Server::with_options(Options { header_timeout_ms: 60_000, ..options() }).await;
    let mut stuck = server.tcp().await;
    stuck.write_all(b"POST /v1/route HTTP/1.1\r\nHost: mqs\r\nContent-Length: 50\r\n\r\n{").await.unwrap();
    sleep(ms(100)).await;
    let clock = Stopwatch::start();
    server.stop.cancel();
    for task in server.tasks.drain(..) {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    assert!(clock.elapsed() > ms(2000) && clock.elapsed() < ms(4000), "{:?}", clock.elapsed());
    assert_eq!(timeout(LONG, stuck.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn tls_with_a_token_beyond_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["mqs.test".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let listen = format!("[listen.tls]\ncert = {cert:?}\nkey = {key:?}\n");
    let options = Options { token: Some("s3cret".into()), connections_max: 1, ..options() };
    let server = Server::with(memory(), options, "0.0.0.0:0", &listen).await;

    // A peer that never shakes hands gives its place back.
    let took = closed_after(&mut server.tcp().await).await;
    assert!(took > ms(300) && took < ms(2000), "{took:?}");
    sleep(ms(100)).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = rustls_pki_types::ServerName::try_from("mqs.test").unwrap();
    let mut stream = connector.connect(name, server.tcp().await).await.unwrap();
    for (headers, status) in [(&[][..], 401), (&[("Authorization", "Bearer s3cret")], 200)] {
        stream.write_all(request("GET", "/v1/pools", headers, "").as_bytes()).await.unwrap();
        assert_eq!(Reply::read(&mut stream).await.unwrap().status, status);
    }
    let alive = request("GET", "/healthz", &[], "");
    stream.write_all(alive.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.unwrap().json(), json!({"alive": true}));
}
