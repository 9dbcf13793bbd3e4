//! The RESP server over real sockets: with the `redis` crate, with `redis-cli`, and with peers that mean harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/resp.rs"]
mod support;

use mqs::config::Endpoint;
use mqs::inbound::listen::{ListenError, Listener};
use mqs::inbound::resp::Options;
use redis::{Value, cmd};
use serde_json::Value as Json;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;
use support::{Raw, Server, array, listen, options, redis_cli, shell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Asks with the `redis` crate; the answer is one bulk string.
async fn ask(server: &Server, words: &[&str]) -> String {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let mut client = server.client().await;
    match command.query_async(&mut client).await {
        Ok(Value::BulkString(text)) => String::from_utf8(text).unwrap(),
        other => panic!("{words:?}: {other:?}"),
    }
}

async fn route(server: &Server, call_id: &str, attributes: &str) -> Json {
    let answer = ask(server, &["ROUTE", call_id, "sip:100@example.com", attributes]).await;
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
}

fn token(document: &Json) -> &str {
    document["mqs"]["token"].as_str().unwrap()
}

#[tokio::test]
async fn a_call_from_the_lookup_to_its_end() {
    let server = Server::start().await;
    let first = route(&server, "c1@host", "ft=a1;cs=1").await;
    assert_eq!(first["routes"].as_array().unwrap().len(), 2);
    assert_eq!((&first["mqs"]["nodes"][0], &first["mqs"]["repeat"]), (&"ast1".into(), &false.into()));
    assert_eq!(server.load("ast1").await, 1);
    let again = route(&server, "c1@host", "ft=a1;cs=1").await;
    assert_eq!((&again["mqs"]["lease"], &again["mqs"]["repeat"]), (&first["mqs"]["lease"], &true.into()));
    assert_eq!(server.load("ast1").await, 1, "a repeat leases nothing");

    let token = token(&first);
    for (words, answer) in [
        (&["FAIL", token, "branch=0;code=408"][..], "OK moved attempt=1;node=ast2"),
        (&["FAIL", token, "branch=0;code=408"], "OK stale"),
        (&["CONFIRM", token, "branch=1"], "OK confirmed"),
        (&["CONFIRM", token, "branch=1"], "OK already"),
    ] {
        assert_eq!(ask(&server, words).await, answer, "{words:?}");
    }
    assert_eq!((server.load("ast1").await, server.load("ast2").await), (0, 1));
    assert_eq!(ask(&server, &["DONE", token]).await, "OK ended");
    assert_eq!(ask(&server, &["done", token]).await, "OK already");
    assert_eq!(ask(&server, &["CONFIRM", token]).await, "OK gone");
    assert_eq!(server.load("ast2").await, 0);

    let other = route(&server, "c2@host", "n=1").await;
    let token = other["mqs"]["token"].as_str().unwrap();
    assert_eq!(ask(&server, &["FAIL", token, "code=503"]).await, "OK ended", "no target is left");
}

#[tokio::test]
async fn refusals_are_bulk_strings_that_begin_with_an_exclamation_mark() {
    let server = Server::start().await;
    let route = |call_id, attributes| ["ROUTE", call_id, "sip:100@example.com", attributes];
    assert!(ask(&server, &route("t1", "pool=tiny")).await.starts_with('{'));
    for (words, start) in [
        (&route("t2", "pool=tiny")[..], "!FULL code=486;retry=7;reason="),
        (&route("c", "tags=fax"), "!NONODE code=480;retry="),
        (&route("c", "pool=nowhere"), "!NOPOOL code=500;field=pool;reason="),
        (&route("<null>", ""), "!BADREQ code=400;field=call_id;reason="),
        (&route("a\0b", ""), "!BADREQ code=400;field=call_id;reason="),
        (&route("a\r\nX-MQS-Lease: b", ""), "!BADREQ code=400;field=call_id;reason="),
        (&route("c", "ft=%0d%0aX:%20y"), "!BADREQ code=400;field=ft;reason="),
        (&["ROUTE", "c", "<null>"], "!BADREQ code=400;field=request_uri;reason="),
        (&["CONFIRM", "m1.default.ast1.x"], "!BADTOKEN code=400;field=token;reason="),
        (&["DONE", "<null>"], "!BADTOKEN code=400;field=token;reason="),
        (&["EXPLAIN", "nobody"], "!UNKNOWN code=404;reason="),
        (&["EXPLAIN", "c", "sip:a@b", "pool=nowhere"], "!NOPOOL code=500;field=pool;reason="),
        (&["NODES", "nowhere"], "!NOPOOL code=500;field=pool;reason="),
        (&["NODES", "a b"], "!BADREQ code=400;field=pool;reason="),
    ] {
        let answer = ask(&server, words).await;
        assert!(answer.starts_with(start) && answer.is_ascii(), "{words:?}: {answer}");
    }
    assert_eq!((server.load("ast1").await, server.load("ast2").await), (0, 0), "a refusal leases nothing");
    let text = server.dispatcher.metrics().render(&[]);
    let count = r#"mqs_lookups_total{pool="",result="badreq",transport="resp"} 5"#;
    assert!(text.contains(count), "{text}");
}

#[tokio::test]
async fn explanations_and_nodes_are_json_on_one_line() {
    let server = Server::start().await;
    route(&server, "c1", "zone=b;explain=1").await;
    let json = |text: String| -> Json {
        assert!(!text.contains('\n'));
        serde_json::from_str(&text).unwrap()
    };
    let made = json(ask(&server, &["EXPLAIN", "c1"]).await);
    assert_eq!((&made["outcome"], &made["dry"]), (&"routed".into(), &false.into()));
    assert_eq!((&made["targets"][0]["node"], made["nodes"].as_array().unwrap().len()), (&"ast2".into(), 2));
    let dry = json(ask(&server, &["EXPLAIN", "c2", "sip:a@b", "x=ast1"]).await);
    assert_eq!((&dry["dry"], &dry["nodes"][0]["verdict"]), (&true.into(), &"excluded".into()));
    let nodes = json(ask(&server, &["NODES"]).await);
    let ids: Vec<_> = nodes.as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["ast1", "ast2", "only"]);
    assert_eq!(
        (&nodes[1]["load"], &nodes[1]["tags"][0], &nodes[1]["stale"]),
        (&1.into(), &"video".into(), &false.into())
    );
    assert_eq!(json(ask(&server, &["NODES", "tiny"]).await).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn kamailios_handshake_byte_by_byte() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    for (said, answer) in [
        (array(&["AUTH", "secret"]), "+OK\r\n"),
        (array(&["PING"]), "+PONG\r\n"),
        (array(&["SELECT", "0"]), "+OK\r\n"),
        (array(&["FLUSHALL"]), "+OK\r\n"),
    ] {
        for byte in said {
            raw.say([byte]).await;
        }
        raw.hear(answer).await;
    }
    raw.say(array(&["ROUTE", "c1@host", "sip:100@example.com"])).await;
    let mut start = [0; 1];
    raw.0.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"$", "Kamailio's script reads bulk strings only");
}

#[tokio::test]
async fn a_client_in_a_hurry_pipelines_ten_thousand() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut pipe = redis::pipe();
    for n in 0..10_000 {
        match n % 10 {
            0 => pipe.cmd("ROUTE").arg(format!("c{n}")).arg("sip:a@b").arg("n=1"),
            _ => pipe.cmd("PING").arg(n),
        };
    }
    let clock = mqs::clock::Stopwatch::start();
    let answers: Vec<String> = pipe.query_async(&mut client).await.unwrap();
    eprintln!("9,000 PINGs and 1,000 ROUTEs in {:?}", clock.elapsed());
    for (n, answer) in answers.iter().enumerate() {
        match n % 10 {
            0 => assert!(answer.contains("\"token\":"), "{answer}"),
            _ => assert_eq!(*answer, n.to_string()),
        }
    }
    assert_eq!(answers.len(), 10_000);
    let (one, two) = (server.load("ast1").await, server.load("ast2").await);
    assert_eq!((one + two, one), (1000, 500));
}

#[tokio::test]
async fn a_client_that_reads_nothing_before_it_wrote_all_gets_all() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.say("PING\r\n".repeat(10_000)).await;
    raw.hear(&"+PONG\r\n".repeat(10_000)).await;
}

#[tokio::test]
async fn half_a_command_and_silence_end_a_connection_and_silence_alone_does_not() {
    let server = Server::with(Options { idle_timeout_s: 1, ..options() }).await;
    let (mut quiet, mut half) = (server.raw().await, server.raw().await);
    quiet.say("PING\r\n").await;
    quiet.hear("+PONG\r\n").await;
    half.say("*3\r\n$5\r\nROUTE\r\n$4\r\nab").await;
    assert_eq!(half.last_words().await, "");
    tokio::time::sleep(Duration::from_millis(600)).await;
    quiet.say("PING\r\n").await;
    quiet.hear("+PONG\r\n").await;
}

#[tokio::test]
async fn what_is_not_a_command_gets_an_error_and_the_end() {
    let server = Server::start().await;
    let huge_part = [b"*2\r\n$4\r\nECHO\r\n$67108864\r\n".as_slice(), &[b'x'; 100_000]].concat();
    let huge_line = [b'x'; 100_000];
    for (said, start) in [
        (&b"*1000000\r\n$4\r\n"[..], "-ERR Protocol error: invalid multibulk length"),
        (b"*2147483648\r\n", "-ERR Protocol error: invalid multibulk length"),
        (&b"*1\r\n".repeat(200_000), "-ERR Protocol error: expected '$', got '*'"),
        (&huge_part, "-ERR Protocol error: invalid bulk length"),
        (&huge_line, "-ERR Protocol error: too big inline request"),
        (b"\x16\x03\x01\x02\x00", "-ERR Protocol error: expected '*' or the name of a command, got '\\x16'"),
        (b"$4\r\nPING\r\n", "-ERR Protocol error: expected '*'"),
        (b"*1\r\n$4\r\nPINGPONG\r\n", "-ERR Protocol error: expected CRLF"),
        (b"ECHO \"a\r\n", "-ERR Protocol error: unbalanced quotes"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n", "-ERR this is RESP, not HTTP"),
    ] {
        let mut raw = server.raw().await;
        // The server may close before all was written.
        let _ = raw.0.write_all(said).await;
        let words = raw.last_words().await;
        let one_line = words.matches("\r\n").count() == 1;
        assert!(words.starts_with(start) && one_line, "{words:?}, expected {start:?}");
    }
    assert_eq!(ask(&server, &["ECHO", "alive"]).await, "alive");
}

#[tokio::test]
async fn large_answers_and_odd_bytes_arrive_whole() {
    let server = Server::start().await;
    let odd: String = "a\r\n\0é$-1*".repeat(6000);
    assert_eq!(ask(&server, &["ECHO", &odd]).await, odd);
    let mut raw = server.raw().await;
    raw.say("  ping  \r\nECHO \"a b\"\nROUTE\r\nEVAL\r\n\r\nQUIT\r\n").await;
    assert_eq!(
        raw.last_words().await,
        "+PONG\r\n$3\r\na b\r\n-ERR wrong number of arguments for 'route' command\r\n-ERR unknown command 'EVAL'\r\n+OK\r\n"
    );
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_so_and_room_comes_back() {
    let server = Server::with(Options { connections_max: 2, ..options() }).await;
    let (mut one, mut two) = (server.raw().await, server.raw().await);
    for raw in [&mut one, &mut two] {
        raw.say("PING\r\n").await;
        raw.hear("+PONG\r\n").await;
    }
    let mut three = server.raw().await;
    assert_eq!(three.last_words().await, "-ERR max number of clients reached\r\n");
    two.say("PING\r\n").await;
    two.hear("+PONG\r\n").await;
    drop(one);
    for _ in 0..100 {
        let mut raw = server.raw().await;
        let _ = raw.0.write_all(b"QUIT\r\n").await;
        if raw.last_words().await == "+OK\r\n" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of the connection that went is not free again");
}

#[tokio::test]
async fn a_stop_ends_the_server_and_takes_the_socket_away() {
    let server = Server::start().await;
    let (mut quiet, mut busy) = (server.raw().await, server.raw().await);
    quiet.say("PING\r\n*1\r\n").await;
    quiet.hear("+PONG\r\n").await;
    busy.say("PING\r\n").await;
    busy.hear("+PONG\r\n").await;
    busy.say("PING\r\n".repeat(1000)).await;
    server.stop.cancel();
    let words = busy.last_words().await;
    assert_eq!((words.matches("+PONG\r\n").count(), words.len()), (1000, 7000));
    assert_eq!(quiet.last_words().await, "");
    timeout(Duration::from_secs(5), server.task).await.unwrap().unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn the_socket_file_has_its_mode_and_belongs_to_one_instance() {
    let server = Server::start().await;
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let endpoint = Endpoint::Unix(server.socket.clone());
    let second = Listener::bind(&endpoint, &listen("")).await;
    assert!(matches!(second, Err(ListenError::Taken(_))));
    assert_eq!(ask(&server, &["ECHO", "alive"]).await, "alive");
}

#[tokio::test]
async fn a_dead_process_socket_is_replaced_and_another_file_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqs.sock");
    // A socket whose process is gone: closing does not take the file away.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).await.is_err());
    let server = Server::on(dir, Endpoint::Unix(path), options(), &listen("socket_mode = \"0600\"")).await;
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ask(&server, &["ECHO", "alive"]).await, "alive");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqs.sock");
    std::fs::write(&path, "precious").unwrap();
    let refused = Listener::bind(&Endpoint::Unix(path.clone()), &listen("")).await;
    assert!(matches!(refused, Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

/// A server that can be reached from other hosts, so over TLS and with a password; and a client that trusts its certificate.
async fn guarded() -> (Server, tokio_rustls::TlsConnector) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["mqs.test".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let text = format!(
        "token_file = \"/dev/null\"\n[listen.tls]\ncert = \"{}\"\nkey = \"{}\"",
        cert.display(),
        key.display()
    );
    let options = Options { token: Some("s3cret".into()), ..options() };
    let server = Server::on(dir, "0.0.0.0:0".parse().unwrap(), options, &listen(&text)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    (server, Arc::new(client).into())
}

#[tokio::test]
async fn from_other_hosts_only_over_tls_and_with_the_password() {
    let (server, tls) = guarded().await;
    let port = server.tcp.unwrap().port();
    let connect = async || {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Raw(tls.connect("mqs.test".try_into().unwrap(), tcp).await.unwrap())
    };
    let mut peer = connect().await;
    for (said, answer) in [
        (&["PING"][..], "-NOAUTH Authentication required.\r\n"),
        (&["ROUTE", "c", "sip:a@b"], "-NOAUTH Authentication required.\r\n"),
        (&["AUTH", "s3cre"], "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (&["NODES"], "-NOAUTH Authentication required.\r\n"),
        (&["AUTH", "default", "s3cret"], "+OK\r\n"),
        (&["ECHO", "a"], "$1\r\na\r\n"),
    ] {
        peer.say(array(said)).await;
        peer.hear(answer).await;
    }
    peer.say("PING\r\n".repeat(5000)).await;
    peer.hear(&"+PONG\r\n".repeat(5000)).await;
    peer.say("QUIT\r\n").await;
    assert_eq!(peer.last_words().await, "+OK\r\n");
    let mut stranger = connect().await;
    stranger.say(array(&["AUTH", "x"]).repeat(9)).await;
    assert_eq!(stranger.last_words().await.matches("-WRONGPASS").count(), 5);
    let mut plain = Raw(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    plain.say("PING\r\n").await;
    assert!(!plain.last_words().await.contains("PONG"));
    assert_eq!(server.load("ast1").await, 0);
}

#[tokio::test]
async fn redis_cli_is_at_home() {
    let Some(_) = redis_cli() else { return };
    let server = Server::start().await;
    let dir = server.socket.parent().unwrap();
    for (line, start) in [
        ("redis-cli -s mqs.sock PING", "PONG\n"),
        ("redis-cli -s mqs.sock -2 PING", "PONG\n"),
        ("redis-cli -s mqs.sock -a x --no-auth-warning PING", "PONG\n"),
        ("redis-cli -s mqs.sock -n 3 ECHO 'a b'", "a b\n"),
        ("redis-cli -s mqs.sock CLIENT ID", ""),
        ("redis-cli -s mqs.sock COMMAND COUNT", "22\n"),
        ("redis-cli -s mqs.sock INFO server", "# Server\r\nmqs_version:"),
        ("redis-cli -s mqs.sock CONFIG GET maxmemory", "\n"),
        ("redis-cli -s mqs.sock FLUSHALL", "OK\n"),
        ("redis-cli -s mqs.sock -e KEYS '*'", "ERR unknown command 'KEYS'\n"),
        ("printf 'PING\\nECHO x\\n' | redis-cli -s mqs.sock", "PONG\nx\n"),
        ("printf 'PING\\r\\nPING\\r\\n' | redis-cli -s mqs.sock --pipe", "All data transferred"),
        ("printf 'PING\\r\\nPING\\r\\n' | redis-cli -s mqs.sock --pipe | tail -n 1", "errors: 0, replies: 2"),
    ] {
        let output = shell(line, "", dir).await;
        assert!(output.starts_with(start), "{line}: {output}");
    }
}

/// The examples of the document, run again. `MQS_WRITE_DOCS=1` puts what the server says into the document.
#[tokio::test]
async fn the_document_shows_what_the_server_says() {
    let Some(_) = redis_cli() else { return };
    let server = Server::start().await;
    let dir = server.socket.parent().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/control-protocol.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (mut written, mut token, mut count) = (String::new(), String::new(), 0);
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        let Some(command) = line.strip_prefix("$ redis-cli -s /run/mqs/mqs.sock ") else { continue };
        while lines.next_if(|next| !next.starts_with("$ ") && *next != "```").is_some() {}
        let output = shell(&format!("redis-cli -s mqs.sock {command}"), &token, dir).await;
        if let Some((_, rest)) = output.split_once("\"token\":\"") {
            token = rest.split('"').next().unwrap().to_owned();
        }
        written.push_str(output.replace('\r', "").trim_end());
        written.push('\n');
        count += 1;
    }
    assert!(count > 30, "only {count} examples");
    if std::env::var_os("MQS_WRITE_DOCS").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let pairs = written.lines().zip(document.lines());
    for (said, shown) in pairs {
        assert_eq!(without_time_and_place(said), without_time_and_place(shown));
    }
    assert_eq!(written.lines().count(), document.lines().count());
}

/// A line without what differs from run to run.
fn without_time_and_place(line: &str) -> String {
    if line.starts_with("uptime_in_seconds:") {
        return String::new();
    }
    let is_version =
        |word: &str| word.split('.').count() == 3 && word.chars().all(|c| c == '.' || c.is_ascii_digit());
    let version = line.strip_prefix("mqs_version:").unwrap_or(line);
    let mut text = if is_version(version) { line.replace(version, "VERSION") } else { line.to_owned() };
    for key in ["\"at_ms\":", "\"took_us\":", "\"since_ms\":", "expires_ms="] {
        let parts = text.split(key).enumerate();
        text = parts
            .map(
                |(n, part)| if n == 0 { part } else { part.trim_start_matches(|c: char| c.is_ascii_digit()) },
            )
            .collect();
    }
    // A token's last two fields are when it was made, and its MAC.
    let is_token = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let words = text.split_inclusive(|c: char| !is_token(c)).map(|word| {
        let fields: Vec<&str> = word.trim_end_matches(|c| !is_token(c)).split('.').collect();
        if fields.len() == 7 && fields[0] == "m1" { fields[..5].join(".") } else { word.to_owned() }
    });
    words.collect()
}
