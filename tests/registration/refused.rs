//! What is refused, over HTTP and over RESP: each answer names the culprit, and is in the OpenAPI document.

use crate::support::http::{Server, options};
use mqs::domain::id::Slot;
use mqs::store::{View, Written};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/v1/pools/default/nodes/n1/heartbeat";

async fn beat(server: &Server, path: &str, body: &str) -> (u16, Value) {
    let reply = server.ask("POST", path, body).await;
    (reply.status, reply.json())
}

/// Status, word and culprit, and that the detail has these words.
async fn refused(server: &Server, path: &str, body: &str, want: (u16, &str, &str), words: &str) {
    let reply = server.ask("POST", path, body).await;
    let problem = reply.problem();
    let found = (reply.status, problem["code"].as_str().unwrap(), problem["field"].as_str().unwrap_or("-"));
    assert_eq!(found, want, "{body}: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
}

#[tokio::test]
async fn what_a_heartbeat_says_wrong_is_named() {
    let server = Server::start().await;
    let long = "x".repeat(2_000);
    for (members, field, words) in [
        (r#""capacity":0"#.to_owned(), "capacity", "0; 1 to 1000 channels are allowed in pool default"),
        (r#""capacity":1001"#.to_owned(), "capacity", "1001; 1 to 1000"),
        (r#""capacity":8001"#.to_owned(), "capacity", "8001; 1 to 1000"),
        (r#""capacity":-1"#.to_owned(), "capacity", "`-1`"),
        (r#""capacity":4294967296"#.to_owned(), "capacity", "4294967296"),
        (r#""capacity":"nine""#.to_owned(), "capacity", "invalid type: string"),
        (r#""capacity":1,"capacity":2"#.to_owned(), "capacity", "given twice"),
        (r#""capacity":9,"ttl_s":0"#.to_owned(), "ttl_s", "0; 5 to 300 s are allowed in pool default"),
        (r#""capacity":9,"ttl_s":4"#.to_owned(), "ttl_s", "4; 5 to 300 s"),
        (r#""capacity":9,"ttl_s":301"#.to_owned(), "ttl_s", "301; 5 to 300 s"),
        (r#""capacity":9,"state":"down""#.to_owned(), "state", "use active, draining or gone"),
        (r#""capacity":9,"tags":["a b"]"#.to_owned(), "tags", "a b"),
        (r#""capacity":9,"colour":"red""#.to_owned(), "colour", "unknown field"),
        (format!(r#""capacity":9,"zone":"{long}""#), "zone", "64"),
    ] {
        let body = format!(r#"{{"uri":"sip:10.0.0.1",{members}}}"#);
        refused(&server, PATH, &body, (400, "BADREQ", field), words).await;
    }
    for (uri, words) in [
        ("sip:192.0.2.1", "192.0.2.1 is in none of pool default's register.networks"),
        ("sip:[2001:db8::1]", "2001:db8::1 is in none"),
        ("sip:ast1.example.com", "names its IP address, not a host name"),
        ("sip:0x7f000001", "names its IP address"),
        ("sip:u@10.0.0.1", "user part"),
        ("http://10.0.0.1", "scheme"),
        ("", "missing"),
    ] {
        let body = json!({"uri": uri, "capacity": 9}).to_string();
        refused(&server, PATH, &body, (400, "BADREQ", "uri"), words).await;
    }
    // An IPv4 address in IPv6 dress is that address.
    let dressed = json!({"uri": "sip:[::ffff:10.0.0.5]", "capacity": 9}).to_string();
    assert_eq!(beat(&server, "/v1/pools/default/nodes/n5/heartbeat", &dressed).await.0, 200);
    assert_eq!(server.ask("GET", "/v1/pools/default/nodes", "").await.json().as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn pools_and_nodes_of_others_are_named() {
    let server = Server::start().await;
    let of = |uri: &str, capacity: u32| json!({"uri": uri, "capacity": capacity}).to_string();
    let good = of("sip:10.0.0.1", 9);
    let at = |pool: &str, id: &str| format!("/v1/pools/{pool}/nodes/{id}/heartbeat");
    refused(&server, &at("nowhere", "n1"), &good, (404, "NOPOOL", "pool"), "nowhere").await;
    refused(&server, &at("tiny", "n1"), &good, (403, "NOTOPEN", "pool"), "pool tiny has no [pool.register]")
        .await;
    refused(&server, &at("default", "a.b"), &good, (400, "BADREQ", "id"), "'.'").await;
    refused(&server, &at("a.b", "n1"), &good, (400, "BADREQ", "pool"), "'.'").await;
    let file = "node ast1 of pool default belongs to the configuration file";
    refused(&server, &at("default", "ast1"), &of("sip:127.0.1.1:5060", 9), (409, "OWNED", "id"), file).await;
    let same = "sip:127.0.1.1 is the address of node ast1 already";
    refused(&server, &at("default", "n1"), &of("sip:127.0.1.1", 9), (409, "SAMEURI", "uri"), same).await;
    // A node of the file that says what the file says: nothing would change.
    let ast1 = json!({"uri": "sip:127.0.1.1:5060", "capacity": 10, "zone": "a"});
    let (status, said) = beat(&server, &at("default", "ast1"), &ast1.to_string()).await;
    let want = json!({"pool": "default", "id": "ast1", "result": "kept", "state": "active", "load": 0, "ttl_s": null, "expires_ms": null});
    assert_eq!((status, said), (200, want));
    server.ask("POST", "/v1/pools/default/nodes", r#"{"id":"hand","uri":"sip:10.0.0.7","capacity":9}"#).await;
    refused(&server, &at("default", "hand"), &of("sip:10.0.0.8", 9), (409, "OWNED", "id"), "an operator")
        .await;
    for n in 1..=3 {
        assert_eq!(
            beat(&server, &at("default", &format!("n{n}")), &of(&format!("sip:10.0.1.{n}"), 9)).await.0,
            200
        );
    }
    let full = "pool default has 3 registered nodes, the most that it takes";
    refused(&server, &at("default", "n4"), &of("sip:10.0.1.4", 9), (409, "TOOMANY", "-"), full).await;
    refused(&server, &at("default", "n3"), &of("sip:10.0.1.2", 9), (409, "SAMEURI", "uri"), "node n2").await;
    let (_, said) = beat(&server, &at("default", "n3"), &of("sip:10.0.1.9", 9)).await;
    assert_eq!(said["result"], "changed", "it has moved");
}

#[tokio::test]
async fn a_full_load_table_is_named() {
    let server = Server::start().await;
    let pool = server.dispatcher.pool(None).unwrap();
    let view = server.dispatcher.store().view(&pool.id, &View::empty()).await.unwrap();
    let mut nodes = view.nodes.clone();
    let template = nodes[0].clone();
    for slot in 3..Slot::COUNT {
        let mut record = template.clone();
        let node = Arc::make_mut(&mut record.node);
        (node.id, node.slot) = (format!("s{slot}").parse().unwrap(), Slot(slot));
        node.uri = format!("sip:127.1.{}.{}", slot / 256, slot % 256).parse().unwrap();
        nodes.push(record);
    }
    let written = server.dispatcher.store().write_nodes(&pool.id, &view, &nodes).await.unwrap();
    assert!(matches!(written, Written::Done(_)));
    let body = json!({"uri": "sip:10.0.0.1", "capacity": 9}).to_string();
    refused(&server, PATH, &body, (409, "TOOMANY", "id"), "at most 2048 nodes").await;
}

#[tokio::test]
async fn a_listener_that_needs_a_token_needs_it_for_heartbeats_too() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("token"), "s3cret").unwrap();
    let listen = format!(
        "token_file = {:?}\n[listen.tls]\ncert = {cert:?}\nkey = {key:?}",
        folder.path().join("token")
    );
    let mut options = options();
    options.token = Some("s3cret".into());
    let memory = crate::support::http::memory();
    let server = Server::with(memory, options, "0.0.0.0:0", &listen).await;
    let url = format!("https://localhost:{}{PATH}", server.tcp.port());
    let ask = async |header: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["-sS", "--max-time", "5", "--cacert"]).arg(&cert).args([
            "-w",
            " %{http_code}",
            "-H",
            header,
        ]);
        command.args(["-d", r#"{"uri":"sip:10.0.0.1","capacity":9}"#, &url]);
        let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        done.ok().map(|done| String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let Some(said) = ask("X-No: token").await else { return eprintln!("SKIPPED: curl is not installed") };
    assert!(said.ends_with(" 401") && said.contains("NOTOKEN"), "{said}");
    let wrong = ask("Authorization: Bearer wrong").await.unwrap();
    assert!(wrong.ends_with(" 401"), "{wrong}");
    assert!(server.dispatcher.list(None).await.unwrap().iter().all(|n| n.id != "n1"));
    let right = ask("Authorization: Bearer s3cret").await.unwrap();
    assert!(right.ends_with(" 200") && right.contains("\"joined\""), "{right}");
}

#[tokio::test]
async fn a_web_page_registers_nobody() {
    let server = Server::start().await;
    let body = json!({"uri": "sip:10.0.0.1", "capacity": 9}).to_string();
    let reply = server.ask_with("POST", PATH, &[("Origin", "https://example.com")], &body).await;
    assert_eq!((reply.status, reply.problem()["code"].as_str()), (403, Some("ORIGIN")));
}

#[tokio::test]
async fn lists_say_where_a_node_comes_from_and_when_its_heartbeat_runs_out() {
    let server = Server::start().await;
    let body = json!({"uri": "sip:10.0.0.1", "capacity": 9, "ttl_s": 20}).to_string();
    let (_, said) = beat(&server, PATH, &body).await;
    assert_eq!((&said["result"], &said["ttl_s"]), (&json!("joined"), &json!(20)));
    let info = server.ask("GET", "/v1/pools/default/nodes/n1", "").await.json();
    let left = info["heartbeat_left_ms"].as_i64().unwrap();
    assert!(info["source"] == "heartbeat" && (1..=20_000).contains(&left), "{info}");
    let other = server.ask("GET", "/v1/pools/default/nodes/ast1", "").await.json();
    assert_eq!((other.get("source"), other.get("heartbeat_left_ms")), (None, None));
    beat(&server, PATH, &json!({"uri": "sip:10.0.0.1", "capacity": 9, "state": "gone"}).to_string()).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(server.ask("GET", "/v1/pools/default/nodes/n1", "").await.status, 404);
}
