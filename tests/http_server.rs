//! The HTTP server over real sockets: every path, and every refusal with its status and problem document.
//! Each answer is held against the OpenAPI document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use mqs::inbound::http::ROUTES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use support::faulty::Faulty;
use support::http::{Reply, Server, ask_body, curl, memory, options};
use support::schema::{DOCUMENT, check, resolve};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn nodes_of(document: &Value) -> Vec<&str> {
    document["mqs"]["nodes"].as_array().unwrap().iter().map(text).collect()
}

fn refused(reply: &Reply, status: u16, code: &str, field: Option<&str>) -> String {
    let problem = reply.problem();
    assert_eq!(
        (reply.status, text(&problem["code"]), problem["field"].as_str()),
        (status, code, field),
        "{reply:?}"
    );
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_from_the_lookup_to_its_end() {
    let server = Server::start().await;
    let reply = server.route(r#""c1@host","from_tag":"t","cseq":7,"zone":"a""#).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let document = reply.json();
    assert_eq!(nodes_of(&document), ["ast1", "ast2", "ast3"]);
    assert_eq!((&document["version"], &document["routing"]), (&json!("1.0"), &json!("serial")));
    let extra = text(&document["routes"][0]["headers"]["extra"]);
    let token = text(&document["mqs"]["token"]);
    assert_eq!(extra, format!("X-MQS-Lease: {token}\r\n"));

    let again = server.route(r#""c1@host","from_tag":"t","cseq":7,"zone":"a""#).await.json();
    assert_eq!((&again["mqs"]["repeat"], &again["mqs"]["lease"]), (&json!(true), &document["mqs"]["lease"]));

    let say = async |verb: &str, body: Value| {
        server.ask("POST", &format!("/v1/{verb}"), &body.to_string()).await.json()
    };
    let moved = json!({"result": "moved", "attempt": 1, "node": "ast2"});
    assert_eq!(say("fail", json!({"token": token, "branch": 0, "code": 503})).await, moved);
    assert_eq!(say("fail", json!({"token": token, "code": 503})).await, json!({"result": "stale"}));
    assert_eq!(say("confirm", json!({"token": token, "branch": 1})).await, json!({"result": "confirmed"}));
    assert_eq!(say("confirm", json!({"token": token, "branch": 1})).await, json!({"result": "already"}));
    assert_eq!(say("done", json!({"token": token})).await, json!({"result": "ended"}));
    assert_eq!(say("done", json!({"token": token})).await, json!({"result": "already"}));
    assert_eq!(say("fail", json!({"token": token, "branch": 1, "code": 0})).await, json!({"result": "gone"}));
}

#[tokio::test]
async fn an_agent_leg_keeps_its_request_uri() {
    let server = Server::start().await;
    let document = server.route(r#""c1","kind":"agent","node":"ast2""#).await.json();
    assert_eq!(nodes_of(&document), ["ast2"]);
    assert_eq!(document["routes"][0]["uri"], "sip:100@example.com");
    assert!(document["routes"][0].get("dst_uri").is_none());
}

#[tokio::test]
async fn an_offers_leg_needs_a_good_token_and_agents_register() {
    let server = Server::start().await;
    let reply = server.route(r#""c1","kind":"agent","offer":"o1.nonsense""#).await;
    assert!(refused(&reply, 403, "VOID", None).starts_with("altered"));
    assert_eq!(reply.problem()["sip_code"], 403);
    let reply = server.route(r#""c1","kind":"agent","offer":"x","node":"ast1""#).await;
    refused(&reply, 400, "BADREQ", Some("node"));
    let say = async |members: &str| {
        let body = format!(r#"{{"aor":"agent17@example.com","proxy":"k1","call_id":"x","cseq":1{members}}}"#);
        server.ask("POST", "/v1/registrations", &body).await
    };
    assert_eq!(say(r#","expires_s":300"#).await.json(), json!({"result": "ok"}));
    assert_eq!(say(r#","expires_s":0"#).await.json(), json!({"result": "ok"}));
    refused(&say("").await, 400, "BADREQ", Some("expires_s"));
    refused(&say(r#","expires_s":1,"ttl":1"#).await, 400, "BADREQ", Some("ttl"));
    let cell = server.dispatcher.cell().unwrap();
    assert!(cell.store.registrations(&cell.id).await.unwrap().is_empty(), "it has left");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again() {
    let server = Server::start().await;
    assert_eq!(server.route(r#""c1","pool":"tiny""#).await.status, 200);
    let full = server.route(r#""c2","pool":"tiny""#).await;
    assert!(refused(&full, 429, "FULL", None).contains("pool tiny"));
    assert_eq!((&full.problem()["sip_code"], full.header("retry-after")), (&json!(486), Some("7")));
    assert_eq!(full.problem()["type"], "urn:mqs:refusal:full");
    let none = server.route(r#""c3","tags":["fax"]"#).await;
    refused(&none, 429, "NONODE", None);
    assert_eq!((&none.problem()["sip_code"], none.header("retry-after")), (&json!(480), Some("3")));
    refused(&server.route(r#""c3","exclude":["ast1","ast2","ast3"]"#).await, 429, "NONODE", None);
    let no_pool = server.route(r#""c4","pool":"nowhere""#).await;
    assert!(refused(&no_pool, 404, "NOPOOL", Some("pool")).contains("nowhere"));
    assert_eq!((&no_pool.problem()["sip_code"], no_pool.header("retry-after")), (&json!(500), None));
    // RFC 5031: never refused for room, nor for a pool that a script misspells.
    let sos = r#"{"call_id":"c5","request_uri":"urn:service:sos","pool":"nowhere"}"#;
    assert_eq!(server.ask("POST", "/v1/route", sos).await.status, 200);
}

#[tokio::test]
async fn a_malformed_question_names_its_member() {
    let server = Server::start().await;
    for (body, field, detail) in [
        (ask_body(r#""c","colour":"red""#), "colour", "unknown field"),
        (ask_body(r#""c","cseq":1,"cseq":1"#), "cseq", "given twice"),
        (ask_body(r#""c","cseq":"1""#), "cseq", "line 1 column"),
        (ask_body(r#""c","tags":["a",7]"#), "tags", "expected a string"),
        (ask_body(r#""c","targets_max":13"#), "targets_max", "1 to 12"),
        (ask_body(r#""a\u0000b""#), "call_id", "byte 0x00"),
        (ask_body(r#""a\r\nX-Evil: y""#), "call_id", "byte 0x0d"),
        (ask_body(r#""<null>""#), "call_id", "undefined variable"),
        (ask_body(&format!("\"{}\"", "x".repeat(257))), "call_id", "257 bytes"),
        (r#"{"call_id":"c","request_uri":"mailto:a@b"}"#.to_owned(), "request_uri", "mailto"),
        (r#"{"request_uri":"sip:a@b"}"#.to_owned(), "call_id", "missing"),
        ("{\"call_id\":\n oops}".to_owned(), "body", "line 2 column 2"),
        ("call_id=c&request_uri=sip:a@b".to_owned(), "body", "line 1 column 1"),
        (String::new(), "body", "empty"),
        ("[".repeat(60_000), "body", ""),
        ("{\"tags\":".to_owned() + &"[".repeat(60_000), "tags", ""),
    ] {
        for path in ["/v1/route", "/v1/explain"] {
            let reply = server.ask("POST", path, &body).await;
            let said = refused(&reply, 400, "BADREQ", Some(field));
            assert!(said.contains(detail), "{body}: {said}");
            assert!(reply.body.len() < 1500, "short, whatever it quotes: {}", reply.body.len());
        }
    }
    assert_eq!(server.dispatcher.list(None).await.unwrap().iter().map(|n| n.load).sum::<u32>(), 0);
}

#[tokio::test]
async fn tokens_are_checked() {
    let server = Server::start().await;
    let document = server.route(r#""c1""#).await.json();
    let token = text(&document["mqs"]["token"]).to_owned();
    let other = token.replace("ast1", "ast2");
    for (verb, bad) in [("confirm", "x"), ("fail", other.as_str()), ("done", ""), ("done", "m1.a\r\nb")] {
        let body = json!({"token": bad}).to_string();
        refused(&server.ask("POST", &format!("/v1/{verb}"), &body).await, 403, "BADTOKEN", Some("token"));
    }
    for (verb, body, field) in [
        ("confirm", json!({"branch": 1}), "token"),
        ("confirm", json!({"token": token, "branch": 12}), "branch"),
        ("confirm", json!({"token": token, "code": 200}), "code"),
        ("fail", json!({"token": token, "code": 700}), "code"),
        ("done", json!({"token": token, "branch": 0}), "branch"),
        ("done", json!({"token": 1}), "token"),
    ] {
        let reply = server.ask("POST", &format!("/v1/{verb}"), &body.to_string()).await;
        refused(&reply, 400, "BADREQ", Some(field));
    }
}

#[tokio::test]
async fn decisions_can_be_asked_for() {
    let server = Server::start().await;
    for call_id in ["a84b4c76e66710@pc33.example.com", "a/b@c", "%20", "x?y#z", "/", "a//b"] {
        let members = format!("{call_id:?},\"source\":\"10.0.0.1:5060\",\"explain\":true");
        assert_eq!(server.route(&members).await.status, 200);
        let encoded: String = call_id.bytes().map(|b| format!("%{b:02X}")).collect();
        let decision = server.ask("GET", &format!("/v1/decisions/{encoded}"), "").await.json();
        assert_eq!((text(&decision["call_id"]), &decision["dry"]), (call_id, &json!(false)));
        assert_eq!(decision["nodes"].as_array().unwrap().len(), 3);
    }
    for plain in ["a84b4c76e66710@pc33.example.com", "a/b@c", "a//b"] {
        assert_eq!(server.ask("GET", &format!("/v1/decisions/{plain}"), "").await.status, 200, "{plain}");
    }
    refused(&server.ask("GET", "/v1/decisions/never-seen", "").await, 404, "UNKNOWN", None);
    for bad in ["%00", "a%0d%0ab", "%FF", "a%20b"] {
        let reply = server.ask("GET", &format!("/v1/decisions/{bad}"), "").await;
        refused(&reply, 400, "BADREQ", Some("call_id"));
    }
    refused(&server.ask("GET", "/v1/decisions/", "").await, 404, "NOPATH", None);

    let dry = server.ask("POST", "/v1/explain", &ask_body(r#""dry","tags":["video"]"#)).await.json();
    assert_eq!((&dry["dry"], &dry["targets"][0]["node"]), (&json!(true), &json!("ast2")));
    assert_eq!(dry["nodes"][0]["verdict"], "no-tag");
    refused(&server.ask("GET", "/v1/decisions/dry", "").await, 404, "UNKNOWN", None);
    refused(
        &server.ask("POST", "/v1/explain", &ask_body(r#""c","pool":"nowhere""#)).await,
        404,
        "NOPOOL",
        Some("pool"),
    );
}

#[tokio::test]
async fn nodes_are_added_changed_and_removed() {
    let server = Server::start().await;
    let new = r#"{"id":"ast9","uri":"sip:127.0.1.9:5060","capacity":20,"zone":"c","tags":["fax"],"state":"active"}"#;
    let added = server.ask("POST", "/v1/pools/default/nodes", new).await;
    assert_eq!((added.status, added.header("location")), (201, Some("/v1/pools/default/nodes/ast9")));
    assert_eq!(added.json()["tags"], json!(["fax"]));
    let place = "/v1/pools/default/nodes/ast9";
    assert_eq!(server.ask("GET", place, "").await.json(), added.json());
    assert_eq!(nodes_of(&server.route(r#""f1","tags":["fax"]"#).await.json()), ["ast9"]);

    let patched = server.ask("PATCH", place, r#"{"zone":null,"capacity":30}"#).await.json();
    assert_eq!(
        (&patched["zone"], &patched["capacity"], &patched["tags"]),
        (&Value::Null, &json!(30), &json!(["fax"]))
    );
    let same = server.ask("PATCH", place, "{}").await.json();
    assert_eq!(same["capacity"], 30);

    assert!(
        refused(&server.ask("DELETE", place, "").await, 409, "LOADED", Some("id"))
            .contains("carries 1 calls")
    );
    refused(&server.ask("DELETE", &format!("{place}?force=false"), "").await, 409, "LOADED", Some("id"));
    refused(&server.ask("DELETE", &format!("{place}?force=yes"), "").await, 400, "BADREQ", Some("force"));
    refused(&server.ask("DELETE", &format!("{place}?forse=true"), "").await, 400, "BADREQ", Some("forse"));
    assert_eq!(server.ask("DELETE", &format!("{place}?force=true"), "").await.status, 204);
    refused(&server.ask("PATCH", place, "{}").await, 404, "NOTTHERE", Some("id"));
    refused(&server.route(r#""f2","tags":["fax"]"#).await, 429, "NONODE", None);
    assert_eq!(server.ask("GET", place, "").await.json()["state"], "removed");

    assert_eq!(server.ask("DELETE", "/v1/pools/default/nodes/ast3", "").await.status, 204);
    refused(&server.ask("GET", "/v1/pools/default/nodes/ast3", "").await, 404, "NOTTHERE", Some("id"));
    refused(&server.ask("DELETE", "/v1/pools/default/nodes/ast3", "").await, 404, "NOTTHERE", Some("id"));
}

#[tokio::test]
async fn a_node_that_cannot_be_is_refused() {
    let server = Server::start().await;
    for (body, status, code, field) in [
        (r#"{"id":"ast1","uri":"sip:127.0.1.9","capacity":9}"#, 409, "SAMEID", "id"),
        (r#"{"id":"ast9","uri":"sip:127.0.1.1:5060","capacity":9}"#, 409, "SAMEURI", "uri"),
        (r#"{"id":"ast9","uri":"sip:127.0.1.9","capacity":0}"#, 400, "BADREQ", "capacity"),
        (r#"{"id":"ast9","uri":"sip:127.0.1.9","capacity":8001}"#, 400, "BADREQ", "capacity"),
        (r#"{"id":"a.b","uri":"sip:127.0.1.9","capacity":9}"#, 400, "BADREQ", "id"),
        (r#"{"id":"ast9","uri":"sip:me@127.0.1.9","capacity":9}"#, 400, "BADREQ", "uri"),
        (r#"{"id":"ast9","uri":"sip:127.0.1.9","capacity":9,"state":"removed"}"#, 400, "BADREQ", "state"),
        (r#"{"id":"ast9","uri":"sip:127.0.1.9","capacity":9,"slot":1}"#, 400, "BADREQ", "slot"),
    ] {
        refused(&server.ask("POST", "/v1/pools/default/nodes", body).await, status, code, Some(field));
    }
    let patch = async |body: &str| server.ask("PATCH", "/v1/pools/default/nodes/ast1", body).await;
    refused(&patch(r#"{"uri":"sip:127.0.1.2:5060"}"#).await, 409, "SAMEURI", Some("uri"));
    refused(&patch(r#"{"uri":null}"#).await, 400, "BADREQ", Some("uri"));
    refused(&patch(r#"{"state":"asleep"}"#).await, 400, "BADREQ", Some("state"));
    for path in ["/v1/pools/nowhere/nodes", "/v1/pools/nowhere/nodes/ast1"] {
        refused(&server.ask("GET", path, "").await, 404, "NOPOOL", Some("pool"));
    }
    refused(&server.ask("DELETE", "/v1/pools/nowhere/nodes/ast1", "").await, 404, "NOPOOL", Some("pool"));
    refused(&server.ask("GET", "/v1/pools/a.b/nodes", "").await, 400, "BADREQ", Some("pool"));
    refused(&server.ask("GET", "/v1/pools/default/nodes/%00", "").await, 400, "BADREQ", Some("id"));
    refused(&server.ask("GET", "/v1/pools/%FF/nodes", "").await, 400, "BADREQ", Some("path"));
}

#[tokio::test]
async fn a_draining_node_takes_no_further_call() {
    let server = Server::start().await;
    assert_eq!(nodes_of(&server.route(r#""c1","zone":"a""#).await.json())[0], "ast1");
    let patched = server.ask("PATCH", "/v1/pools/default/nodes/ast1", r#"{"state":"draining"}"#).await.json();
    assert_eq!((&patched["state"], &patched["load"]), (&json!("draining"), &json!(1)));
    for n in 2..9 {
        let document = server.route(&format!("\"c{n}\",\"zone\":\"a\"")).await.json();
        assert!(!nodes_of(&document).contains(&"ast1"), "{document}");
    }
}

#[tokio::test]
async fn nodes_and_pools_are_listed() {
    let server = Server::start().await;
    server.route(r#""c1","pool":"tiny""#).await;
    let all = server.ask("GET", "/v1/nodes", "").await.json();
    let names: Vec<_> = all.as_array().unwrap().iter().map(|n| text(&n["id"])).collect();
    assert_eq!(names, ["ast1", "ast2", "ast3", "only"]);
    let tiny = server.ask("GET", "/v1/pools/tiny/nodes", "").await.json();
    assert_eq!((&tiny[0]["load"], &tiny[0]["occupancy"]), (&json!(1), &json!(1.0)));
    let pools = server.ask("GET", "/v1/pools", "").await.json();
    let want = json!([
        {"name": "default", "default": true, "nodes": 3, "active": 3, "capacity": 30, "load": 0, "stale": false},
        {"name": "tiny", "default": false, "nodes": 1, "active": 1, "capacity": 1, "load": 1, "stale": false},
    ]);
    assert_eq!(pools, want);
}

#[tokio::test]
async fn the_instance_tells_of_itself() {
    let server = Server::start().await;
    assert_eq!(server.ask("GET", "/healthz", "").await.json(), json!({"alive": true}));
    let ready = server.ask("GET", "/readyz", "").await.json();
    assert_eq!(
        (&ready["ready"], &ready["store"], &ready["pools"]),
        (&json!(true), &json!("memory"), &json!(2))
    );
    server.route(r#""c1""#).await;
    let metrics = server.ask("GET", "/metrics?x=1", "").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(metrics.body.contains(r#"mqs_lookups_total{pool="default",result="routed",transport="http"} 1"#));
    assert!(metrics.body.contains(r#"mqs_node_capacity{pool="tiny",node="only"} 1"#));
    assert!(metrics.body.ends_with("# EOF\n"));
    let served: Value = serde_json::from_str(&server.ask("GET", "/openapi.json", "").await.body).unwrap();
    assert_eq!(served, *DOCUMENT);
}

#[tokio::test]
async fn where_there_is_no_file_nothing_is_reloaded() {
    let server = Server::start().await;
    for body in ["", "{}", r#"{"check":true}"#] {
        refused(&server.ask("POST", "/v1/reload", body).await, 409, "NOFILE", None);
    }
    refused(&server.ask("POST", "/v1/reload", r#"{"dry":true}"#).await, 400, "BADREQ", Some("dry"));
}

#[tokio::test]
async fn a_store_that_is_away_is_said_and_not_fatal() {
    let store = Arc::new(Faulty::new(memory()));
    let server = Server::with(store.clone(), options(), "127.0.0.1:0", "").await;
    let token = text(&server.route(r#""c1""#).await.json()["mqs"]["token"]).to_owned();
    store.away.store(true, Relaxed);
    let degraded = server.route(r#""c2""#).await.json();
    assert_eq!(degraded["mqs"]["degraded"], true);
    for verb in ["confirm", "fail", "done"] {
        let reply = server.ask("POST", &format!("/v1/{verb}"), &json!({"token": token}).to_string()).await;
        let detail = refused(&reply, 503, "STORE", None);
        assert!(!detail.contains("10.9.9.9"), "addresses are for the log: {detail}");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    let new = r#"{"id":"ast9","uri":"sip:127.0.1.9","capacity":9}"#;
    refused(&server.ask("POST", "/v1/pools/default/nodes", new).await, 503, "STORE", None);
    refused(&server.ask("PATCH", "/v1/pools/default/nodes/ast1", "{}").await, 503, "STORE", None);
    refused(&server.ask("DELETE", "/v1/pools/default/nodes/ast1", "").await, 503, "STORE", None);
    assert_eq!(server.ask("GET", "/v1/nodes", "").await.json()[0]["stale"], true);
    assert_eq!(server.ask("GET", "/v1/pools", "").await.json()[0]["stale"], true);
    assert!(
        refused(&server.ask("GET", "/readyz", "").await, 503, "NOTREADY", None).contains("does not answer")
    );
    assert_eq!(server.ask("GET", "/healthz", "").await.status, 200);
    store.away.store(false, Relaxed);
    assert_eq!(server.ask("GET", "/readyz", "").await.status, 200);

    let never = Arc::new(Faulty::new(memory()));
    never.away.store(true, Relaxed);
    let server = Server::with(never.clone(), options(), "127.0.0.1:0", "").await;
    never.away.store(false, Relaxed);
    assert!(refused(&server.ask("GET", "/readyz", "").await, 503, "NOTREADY", None).contains("pool default"));
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let server = Server::start().await;
    for path in
        ["/", "/v1", "/v1/route/", "/V1/route", "/v1/pools/default", "/v1/../healthz", "/v1/decisions"]
    {
        refused(&server.ask("GET", path, "").await, 404, "NOPATH", None);
    }
    for (method, path, allow) in [
        ("GET", "/v1/route", "POST"),
        ("PUT", "/v1/pools/default/nodes", "GET,HEAD,POST"),
        ("POST", "/v1/pools/default/nodes/ast1", "GET,HEAD,PATCH,DELETE"),
        ("DELETE", "/v1/nodes", "GET,HEAD"),
        ("OPTIONS", "/v1/route", "POST"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let reply = server.ask(method, path, "").await;
        refused(&reply, 405, "METHOD", None);
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
    for (path, field) in [("/v1/nodes?pool=tiny", "pool"), ("/v1/decisions/c?x", "x")] {
        refused(&server.ask("GET", path, "").await, 400, "BADREQ", Some(field));
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let server = Server::start().await;
    let ask = async |content_type: &str| {
        server.ask_with("POST", "/v1/route", &[("Content-Type", content_type)], &ask_body(r#""c1""#)).await
    };
    for good in
        ["application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded", ""]
    {
        assert_eq!(ask(good).await.status, 200, "{good}");
    }
    for bad in
        ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/jsonx", "\u{e9}"]
    {
        refused(&ask(bad).await, 415, "MEDIATYPE", Some("content-type"));
    }
}

#[tokio::test]
async fn a_web_page_is_not_served() {
    let server = Server::start().await;
    let origin = [("Origin", "http://evil.example"), ("Content-Type", "application/x-www-form-urlencoded")];
    refused(
        &server.ask_with("POST", "/v1/route", &origin, &ask_body(r#""c1""#)).await,
        403,
        "ORIGIN",
        Some("origin"),
    );
    let delete = server.ask_with("DELETE", "/v1/pools/default/nodes/ast1", &origin, "").await;
    refused(&delete, 403, "ORIGIN", Some("origin"));
    assert_eq!(server.ask_with("GET", "/v1/nodes", &origin, "").await.status, 200);
}

#[tokio::test]
async fn beyond_loopback_a_token_is_needed() {
    let options = support::http::Options { token: Some("s3cret".into()), ..options() };
    let server = Server::with(memory(), options.clone(), "0.0.0.0:0", "").await;
    for headers in [&[][..], &[("Authorization", "Bearer wrong")], &[("Authorization", "Basic czNjcmV0")]] {
        for (method, path) in
            [("GET", "/v1/nodes"), ("POST", "/v1/route"), ("GET", "/metrics"), ("GET", "/readyz")]
        {
            let reply = server.ask_with(method, path, headers, "").await;
            refused(&reply, 401, "NOTOKEN", Some("authorization"));
            assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"mqs\""));
        }
    }
    let right = [("Authorization", "Bearer s3cret")];
    assert_eq!(server.ask_with("POST", "/v1/route", &right, &ask_body(r#""c1""#)).await.status, 200);
    assert_eq!(server.ask("GET", "/healthz", "").await.status, 200);
    if let Some(nodes) = curl(&server.socket, &["http://mqs/v1/nodes"]).await {
        assert!(nodes.starts_with('['), "who gets at the Unix socket was let in by this host: {nodes}");
    }
    // Without a token in the configuration nobody gets in.
    let server =
        Server::with(memory(), support::http::Options { token: None, ..options }, "0.0.0.0:0", "").await;
    refused(&server.ask_with("GET", "/v1/nodes", &right, "").await, 401, "NOTOKEN", Some("authorization"));
}

#[tokio::test]
async fn curl_over_the_unix_socket() {
    let server = Server::start().await;
    let body = ask_body(r#""c1@host""#);
    let Some(answer) = curl(&server.socket, &["http://mqs/v1/route", "-d", &body]).await else {
        return eprintln!("curl is not installed");
    };
    assert_eq!(nodes_of(&serde_json::from_str(&answer).unwrap()).len(), 3);
    // More than 1 MiB: curl asks with Expect: 100-continue, and hears the refusal before it sends.
    let file = server.socket.with_extension("json");
    std::fs::write(&file, "x".repeat(10 << 20)).unwrap();
    let data = format!("@{}", file.display());
    let sized = ["http://mqs/v1/route", "-w", " %{http_code} %{size_upload}", "--data-binary", &data];
    let answer = curl(&server.socket, &sized).await.unwrap();
    assert!(answer.contains("TOOLARGE") && answer.ends_with(" 413 0"), "{answer}");
    // Smaller than the limit, and asked for all the same.
    let expect = ["http://mqs/v1/route", "-H", "Expect: 100-continue", "-d", &body, "-v", "--stderr", "-"];
    let answer = curl(&server.socket, &expect).await.unwrap();
    assert!(answer.contains("HTTP/1.1 100 Continue") && answer.contains("\"repeat\":true"), "{answer}");
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let served: BTreeSet<_> =
        ROUTES.iter().flat_map(|r| r.methods.iter().map(|m| (r.path.to_owned(), (*m).to_owned()))).collect();
    let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let mut documented = BTreeSet::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in
            item.as_object().unwrap().iter().filter(|(m, _)| methods.contains(&m.as_str()))
        {
            documented.insert((path.clone(), method.clone()));
            for response in operation["responses"].as_object().unwrap().values() {
                assert!(resolve(response)["description"].is_string());
            }
            if let Some(request) = operation.get("requestBody") {
                let content = &request["content"]["application/json"];
                check(&content["schema"], &content["example"]).unwrap();
            }
        }
    }
    assert_eq!(documented, served);
}

#[tokio::test]
async fn the_table_of_routes_is_what_is_served() {
    let server = Server::start().await;
    for route in ROUTES {
        let path = route.path.replace("{pool}", "default").replace("{id}", "ast1").replace("{call_id}", "c");
        let reply = server.ask("TRACE", &path, "").await;
        refused(&reply, 405, "METHOD", None);
        let mut allowed: Vec<_> = reply
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::to_ascii_lowercase)
            .filter(|m| m != "head")
            .collect();
        let mut said: Vec<_> = route.methods.iter().map(|m| (*m).to_owned()).collect();
        allowed.sort();
        said.sort();
        assert_eq!(allowed, said, "{path}");
    }
}

#[test]
fn every_place_in_the_document_is_there() {
    fn walk(value: &Value, seen: &mut BTreeSet<String>) {
        if let Some(place) = value.get("$ref").and_then(Value::as_str) {
            resolve(value);
            seen.insert(place.to_owned());
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, seen)),
            Value::Object(members) => members.values().for_each(|member| walk(member, seen)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    walk(&DOCUMENT, &mut seen);
    for section in ["parameters", "headers", "responses", "schemas"] {
        for name in DOCUMENT["components"][section].as_object().unwrap().keys() {
            let place = format!("#/components/{section}/{name}");
            assert!(seen.contains(&place), "{place} is used nowhere");
        }
    }
}
