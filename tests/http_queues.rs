//! What HTTP shows of queues, and what it is asked for: a real server, a real pilot on the memory store, and nodes that stand
//! in for Asterisk. Each answer is held against the OpenAPI document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // What only `tests/cell.rs` asks of it.
#[path = "cell/exchange.rs"]
mod exchange;
#[path = "support/queue_scene.rs"]
mod queue_scene;
mod support;

use mqs::domain::controller::Command;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{CellStore as _, Change};
use mqs::wire::record;
use queue_scene::{Listener, Scene, name};
use serde_json::{Value, json};
use std::time::Duration;
use support::http::{Reply, Server};

const READS: [&str; 10] = [
    "/v1/queues",
    "/v1/queues/sales",
    "/v1/calls",
    "/v1/calls/c1",
    "/v1/agents",
    "/v1/agents/ann",
    "/v1/offers",
    "/v1/offers/o1",
    "/v1/cell",
    "/v1/events",
];

const COMMANDS: [(&str, &str); 8] = [
    ("/v1/agents/ann/login", ""),
    ("/v1/agents/ann/logout", "{}"),
    ("/v1/agents/ann/toggle", ""),
    ("/v1/agents/ann/pause", r#"{"reason":"lunch"}"#),
    ("/v1/agents/ann/resume", ""),
    ("/v1/calls/c1/move", r#"{"queue":"support"}"#),
    ("/v1/calls/c1/priority", r#"{"priority":7}"#),
    ("/v1/calls/c1/withdraw", r#"{"treatment":"busy"}"#),
];

fn refused(reply: &Reply, status: u16, code: &str, field: Option<&str>) -> String {
    let problem = reply.problem();
    let (was, of) = (problem["code"].as_str().unwrap(), problem["field"].as_str());
    assert_eq!((reply.status, was, of), (status, code, field), "{reply:?}");
    problem["detail"].as_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_instance_without_a_cell_says_so() {
    let server = Server::start().await;
    for path in READS {
        let detail = refused(&server.ask("GET", path, "").await, 404, "NOCELL", None);
        assert!(detail.contains("cell"), "{detail}");
    }
    for (path, body) in COMMANDS {
        refused(&server.ask("POST", path, body).await, 404, "NOCELL", None);
    }
}

#[tokio::test]
async fn a_queue_is_shown_with_its_calls_in_order_and_its_agents() {
    let s = Scene::led().await;
    s.call("n1", "c1").await;
    s.call("n2", "c2").await;
    s.call("n1", "c3").await;
    let queue = s.get("/v1/queues/sales").await;
    assert_eq!(ids(&queue["calls"]), ["c1", "c2", "c3"]);
    assert_eq!(s.say("/v1/calls/c3/priority", r#"{"priority":500}"#).await["said"], "done");

    // At once, not when the last reading has become too old.
    let queue = s.get("/v1/queues/sales").await;
    assert_eq!(ids(&queue["calls"]), ["c3", "c1", "c2"]);
    assert_eq!((&queue["waiting"], &queue["waiting_max"]), (&json!(3), &json!(10)));
    assert_eq!((&queue["agents"], &queue["longest_wait_ms"].is_u64()), (&json!({"offline": 2}), &true));
    assert_eq!(
        (&queue["rules"]["ring_ms"], &queue["rules"]["ends"]),
        (&json!(15_000), &json!({"full": "busy"}))
    );
    let first = &queue["calls"][0];
    assert_eq!(
        (&first["position"], &first["state"], &first["priority"]),
        (&json!(1), &json!("waiting"), &json!(500))
    );
    assert_eq!((&first["node"], &first["tries"], &first["agents"]), (&json!("n1"), &json!(0), &json!([])));
    let member = &queue["members"][0];
    assert_eq!(
        (&member["id"], &member["state"], &member["registered"]),
        (&json!("ann"), &json!("offline"), &json!(true))
    );
    assert_eq!(s.get("/v1/queues/sales?limit=2").await["calls"].as_array().unwrap().len(), 2);
    let all = s.get("/v1/queues").await;
    assert_eq!((&all["total"], ids(&all["items"])), (&json!(2), vec!["sales", "support"]));

    assert_eq!(s.say("/v1/agents/ann/login", "").await["said"], "done");
    s.until("/v1/calls/c3", |call| call["state"] == "connected").await;
    let call = s.get("/v1/calls/c3").await;
    assert_eq!((&call["agents"], &call["position"]), (&json!(["ann"]), &Value::Null));
    let ann = s.get("/v1/agents/ann").await;
    assert_eq!(
        (&ann["state"], &ann["call"], &ann["aor"]),
        (&json!("talking"), &json!("c3"), &json!("ann@example.com"))
    );
    assert_eq!(ann["since_ms"], call["connected_ms"]);
    assert_eq!(ann["registered"][0]["proxy"], "k1");
    assert_eq!(ann["queues"][0], json!({"queue": "sales", "penalty": 3, "weight": 0, "taken": ann["taken"]}));
    let offers = s.get("/v1/offers?agent=ann&state=joined").await;
    assert_eq!((&offers["total"], &offers["items"][0]["call"]), (&json!(1), &json!("c3")));
    let one = s.get(&format!("/v1/offers/{}", offers["items"][0]["id"].as_str().unwrap())).await;
    assert_eq!(one, offers["items"][0]);
    let queue = s.get("/v1/queues/sales").await;
    assert_eq!((&queue["connected"], &queue["waiting"]), (&json!(1), &json!(2)));
    assert_eq!((&queue["mean_wait_ms"], ids(&queue["calls"])), (&call["waited_ms"], vec!["c1", "c2"]));

    assert_eq!(s.say("/v1/agents/ann/pause", r#"{"reason":"lunch"}"#).await["said"], "done");
    let ann = s.get("/v1/agents/ann").await;
    assert_eq!(
        (&ann["state"], &ann["then"], &ann["reason"]),
        (&json!("talking"), &json!("pause"), &json!("lunch"))
    );
    s.exchange.agent_hangs_up("c3").await;
    let ann = s.until("/v1/agents/ann", |ann| ann["state"] == "paused").await;
    assert_eq!((&ann["reason"], &ann["taken"], &ann["since_ms"]), (&json!("lunch"), &json!(1), &Value::Null));
}

#[tokio::test]
async fn lists_are_filtered_and_cut() {
    let s = Scene::led().await;
    for call in ["c1", "c2", "c3"] {
        s.call("n1", call).await;
    }
    assert_eq!(s.say("/v1/calls/c1/move", r#"{"queue":"support"}"#).await["said"], "done");
    s.say("/v1/agents/bob/login", "").await;
    s.until("/v1/calls?state=connected", |calls| calls["total"] == 1).await;
    // Of his two queues the longest wait is in this one.
    assert_eq!(s.get("/v1/calls/c1").await["agents"], json!(["bob"]));
    for (path, want) in [
        ("/v1/calls?state=waiting", vec!["c2", "c3"]),
        ("/v1/calls?queue=support", vec!["c1"]),
        ("/v1/calls?queue=sales&limit=1", vec!["c2"]),
        ("/v1/calls?queue=nowhere", vec![]),
        ("/v1/agents?queue=support", vec!["bob"]),
        ("/v1/agents?state=offline", vec!["ann"]),
        ("/v1/queues?limit=1", vec!["sales"]),
    ] {
        let list = s.get(path).await;
        assert_eq!(ids(&list["items"]), want, "{path}: {list}");
    }
    let cut = s.get("/v1/calls?limit=2").await;
    assert_eq!((&cut["total"], cut["items"].as_array().unwrap().len()), (&json!(3), 2));
    for (path, field) in [
        ("/v1/calls?limit=0", "limit"),
        ("/v1/calls?limit=20001", "limit"),
        ("/v1/calls?state=asleep", "state"),
        ("/v1/calls?queue=a%20b", "queue"),
        ("/v1/calls?qeue=sales", "qeue"),
        ("/v1/calls?queue=a&queue=b", "queue"),
        ("/v1/agents?state=waiting", "state"),
        ("/v1/offers?call=%22", "call"),
        ("/v1/queues/sales?state=x", "state"),
        ("/v1/calls/c1?x=1", "x"),
        ("/v1/agents/ann?x", "x"),
        ("/v1/cell?x=1", "x"),
        ("/v1/events?after=now", "after"),
        ("/v1/events?follow=1", "follow"),
    ] {
        refused(&s.ask("GET", path).await, 400, "BADREQ", Some(field));
    }
    let reply = s.server.ask("POST", "/v1/agents/ann/pause?reason=lunch", "").await;
    refused(&reply, 400, "BADREQ", Some("reason"));
}

#[tokio::test]
async fn the_cell_says_who_leads_and_what_there_is() {
    let s = Scene::led().await;
    s.call("n2", "c1").await;
    let cell = s.until("/v1/cell", |cell| cell["counts"]["waiting"] == 1).await;
    assert_eq!((&cell["id"], &cell["whole"], &cell["damaged"]), (&json!("main"), &json!(true), &json!(0)));
    assert_eq!((&cell["leader"]["holder"], &cell["leader"]["epoch"]), (&json!("one"), &cell["epoch"]));
    assert_eq!(cell["nodes"], json!([{"id": "n2", "calls": 1, "legs": 0}]));
    assert_eq!(cell["counts"], json!({"queues": 2, "agents": 2, "calls": 1, "waiting": 1, "offers": 0}));
    s.say("/v1/agents/ann/toggle", "").await;
    let cell = s.until("/v1/cell", |cell| cell["inbox"]["done"] == cell["inbox"]["sent"]).await;
    assert!(cell["outbox"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_command_is_done_once_and_its_answer_is_given_again() {
    let s = Scene::led().await;
    let key = [("Idempotency-Key", "abc-1")];
    for _ in 0..2 {
        let reply = s.server.ask_with("POST", "/v1/agents/ann/login", &key, "").await;
        assert_eq!((reply.status, reply.json()), (200, json!({"said": "done", "key": "abc-1"})));
        assert_eq!(reply.header("idempotency-key"), Some("abc-1"));
    }
    // The key is the command, whatever the request says now.
    let reply = s.server.ask_with("POST", "/v1/agents/ann/logout", &key, "").await;
    assert_eq!(reply.json()["said"], "done");
    assert_eq!(s.get("/v1/agents/ann").await["state"], "ready");
    let said = s.say("/v1/agents/ann/login", "").await;
    assert_eq!(said["said"], "already");
    assert!(said["key"].as_str().unwrap().starts_with("http-"), "{said}");
    assert_ne!(s.say("/v1/agents/ann/login", "").await["key"], said["key"]);
    for key in ["", "a b", "é", &"k".repeat(201)] {
        let reply = s.server.ask_with("POST", "/v1/agents/ann/login", &[("Idempotency-Key", key)], "").await;
        refused(&reply, 400, "BADREQ", Some("idempotency-key"));
    }
    let long = "k".repeat(200);
    let reply = s.server.ask_with("POST", "/v1/agents/ann/login", &[("Idempotency-Key", &long)], "").await;
    assert_eq!(reply.json()["key"], long);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_apart() {
    let s = Scene::led().await;
    s.call("n1", "c1").await;
    let post = async |path: &str, body: &str| s.server.ask("POST", path, body).await;
    refused(&post("/v1/agents/eve/login", "").await, 404, "NOAGENT", Some("agent"));
    refused(&post("/v1/calls/c9/priority", r#"{"priority":1}"#).await, 404, "NOCALL", Some("call"));
    refused(&post("/v1/calls/c1/move", r#"{"queue":"nowhere"}"#).await, 404, "NOQUEUE", Some("queue"));
    refused(
        &post("/v1/calls/c1/withdraw", r#"{"treatment":"x"}"#).await,
        404,
        "NOTREATMENT",
        Some("treatment"),
    );
    refused(&post("/v1/agents/ann/pause", "").await, 409, "LOGGEDOUT", Some("agent"));
    refused(&s.ask("GET", "/v1/queues/nowhere").await, 404, "NOQUEUE", Some("queue"));
    refused(&s.ask("GET", "/v1/agents/eve").await, 404, "NOAGENT", Some("agent"));
    refused(&s.ask("GET", "/v1/calls/c9").await, 404, "NOCALL", Some("call"));
    refused(&s.ask("GET", "/v1/offers/o9").await, 404, "NOOFFER", Some("offer"));
    s.say("/v1/agents/ann/login", "").await;
    s.until("/v1/calls/c1", |call| call["state"] == "connected").await;
    refused(&post("/v1/calls/c1/move", r#"{"queue":"support"}"#).await, 409, "TOOLATE", Some("call"));
    for (path, body, field) in [
        ("/v1/agents/ann/login", r#"{"reason":"x"}"#, "reason"),
        ("/v1/agents/ann/pause", r#"{"reason":"a\nb"}"#, "reason"),
        ("/v1/agents/ann/pause", "[]", "body"),
        ("/v1/calls/c1/move", "", "queue"),
        ("/v1/calls/c1/move", r#"{"queue":"{x}"}"#, "queue"),
        ("/v1/calls/c1/priority", r#"{"priority":1001}"#, "priority"),
        ("/v1/calls/c1/withdraw", r#"{"treatment":""}"#, "treatment"),
    ] {
        refused(&post(path, body).await, 400, "BADREQ", Some(field));
    }
    s.call("n1", "c2").await;
    assert_eq!(s.say("/v1/calls/c2/withdraw", r#"{"treatment":"busy"}"#).await["said"], "done");
    s.until("/v1/calls", |calls| calls["total"] == 1).await;
    assert_eq!(s.exchange.log("c2").last().unwrap(), "hung up 17");
}

#[tokio::test]
async fn agents_are_laid_down_and_taken_away_at_run_time() {
    let s = Scene::led().await;
    let put = async |agent: &str, body: &str| s.server.ask("PUT", &format!("/v1/agents/{agent}"), body).await;
    let eve =
        r#"{"aor":"eve@Example.com","queues":["sales",{"id":"support","penalty":2}],"skills":["german"]}"#;
    for said in ["done", "already"] {
        let reply = put("eve", eve).await;
        assert_eq!((reply.status, &reply.json()["said"]), (200, &json!(said)));
    }
    let shown = s.get("/v1/agents/eve").await;
    assert_eq!((&shown["state"], &shown["aor"]), (&json!("offline"), &json!("eve@example.com")));
    assert_eq!(s.say("/v1/agents/eve/login", "").await["said"], "done");
    s.until("/v1/queues/sales", |queue| queue.to_string().contains("eve")).await;
    refused(&put("ann", eve).await, 409, "INFILE", Some("agent"));
    refused(&put("fay", eve).await, 409, "AORTAKEN", Some("aor"));
    refused(&put("fay", r#"{"aor":"fay@x","queues":["nowhere"]}"#).await, 404, "NOQUEUE", Some("queue"));
    for (body, field) in [
        ("", "body"),
        ("{}", "aor"),
        (r#"{"aor":"fay"}"#, "aor"),
        (r#"{"aor":"f/ay@x"}"#, "aor"),
        (r#"{"aor":"fay;transport=tcp@x"}"#, "aor"),
        (r#"{"aor":"fay@x","queues":[{"id":"sales","penallty":5}]}"#, "queues"),
        (r#"{"aor":"fay@x","queues":["a b"]}"#, "queues"),
        (r#"{"aor":"fay@x","queues":["sales","sales"]}"#, "queues"),
        (r#"{"aor":"fay@x","skills":["{}"]}"#, "skills"),
        (r#"{"aor":"fay@x","ring_s":301}"#, "body"),
        (r#"{"aor":"fay@x","colour":1}"#, "colour"),
    ] {
        refused(&put("fay", body).await, 400, "BADREQ", Some(field));
    }
    let delete = async |agent: &str| s.server.ask("DELETE", &format!("/v1/agents/{agent}"), "").await;
    refused(&delete("ann").await, 409, "INFILE", Some("agent"));
    assert_eq!(delete("eve").await.json()["said"], "done");
    refused(&delete("eve").await, 404, "NOAGENT", Some("agent"));
    refused(&s.ask("GET", "/v1/agents/eve").await, 404, "NOAGENT", Some("agent"));
}

#[tokio::test]
async fn queues_are_laid_down_and_taken_away_at_run_time() {
    let s = Scene::led().await;
    let put = async |queue: &str, body: &str| s.server.ask("PUT", &format!("/v1/queues/{queue}"), body).await;
    let night = r#"{"strategy":"ring-all","ring_s":15,"ends":{"full":"busy"},"agent_announce":["beep"]}"#;
    for said in ["done", "already"] {
        let reply = put("night", night).await;
        assert_eq!((reply.status, &reply.json()["said"]), (200, &json!(said)), "{}", reply.json());
    }
    let shown = s.get("/v1/queues/night").await;
    assert_eq!((&shown["strategy"], &shown["waiting_max"]), (&json!("ring-all"), &json!(1_000)));
    assert_eq!(
        (&shown["rules"]["ring_ms"], &shown["rules"]["ends"]["full"]),
        (&json!(15_000), &json!("busy"))
    );
    assert_eq!(s.get("/v1/queues").await["total"], 3);
    // An agent of it, who is shown in it.
    let eve = s.server.ask("PUT", "/v1/agents/eve", r#"{"aor":"eve@example.com","queues":["night"]}"#).await;
    assert_eq!(eve.status, 200);
    s.until("/v1/queues/night", |queue| queue["members"].to_string().contains("eve")).await;
    refused(&put("sales", night).await, 409, "INFILE", Some("queue"));
    refused(&put("late", r#"{"ends":{"full":"nowhere"}}"#).await, 404, "NOTREATMENT", Some("treatment"));
    for (body, field) in [
        (r#"{"strategy":"ring-some"}"#, "strategy"),
        (r#"{"ring_s":0}"#, "ring_s"),
        (r#"{"ends":{"asked":"busy"}}"#, "ends"),
        (r#"{"colour":1}"#, "colour"),
        ("[", "body"),
    ] {
        refused(&put("late", body).await, 400, "BADREQ", Some(field));
    }
    let delete = async |queue: &str| s.server.ask("DELETE", &format!("/v1/queues/{queue}"), "").await;
    refused(&delete("sales").await, 409, "INFILE", Some("queue"));
    assert_eq!(delete("night").await.json()["said"], "done");
    refused(&delete("night").await, 404, "NOQUEUE", Some("queue"));
    refused(&s.ask("GET", "/v1/queues/night").await, 404, "NOQUEUE", Some("queue"));
}

#[tokio::test]
async fn names_that_are_none_are_refused_with_their_place() {
    let s = Scene::standing_by().await;
    let long = "x".repeat(10_000);
    for bad in ["a%20b", "%00", "%0d%0a", "%7Bx%7D", "%C3%A9", "%22", long.as_str()] {
        for (path, field) in [
            (format!("/v1/queues/{bad}"), "queue"),
            (format!("/v1/agents/{bad}"), "agent"),
            (format!("/v1/calls/{bad}"), "call"),
            (format!("/v1/offers/{bad}"), "offer"),
            (format!("/v1/calls?queue={bad}"), "queue"),
            (format!("/v1/offers?agent={bad}"), "agent"),
        ] {
            let detail = refused(&s.ask("GET", &path).await, 400, "BADREQ", Some(field));
            assert!(detail.len() < 400, "{detail}");
            assert!(!detail.bytes().any(|b| b.is_ascii_control()), "{detail:?}");
        }
        for (path, body) in COMMANDS {
            let path = path.replace("ann", bad).replace("c1", bad);
            let reply = s.server.ask("POST", &path, body).await;
            assert_eq!((reply.status, &reply.problem()["code"]), (400, &json!("BADREQ")), "{path}");
        }
    }
    // Bytes that are no text.
    refused(&s.ask("GET", "/v1/agents/%ff").await, 400, "BADREQ", Some("path"));
    // A channel's name is taken as it is written, when it is encoded.
    let detail = refused(&s.ask("GET", "/v1/calls/PJSIP%2Ftrunk-2a%3B1").await, 404, "NOCALL", Some("call"));
    assert_eq!(detail, "call PJSIP/trunk-2a;1");
}

#[tokio::test]
async fn without_a_leader_everything_is_shown_and_a_command_waits_for_one() {
    let mut s = Scene::standing_by().await;
    let cell = s.get("/v1/cell").await;
    assert_eq!((&cell["leader"], &cell["epoch"]), (&Value::Null, &json!(0)));
    assert_eq!(s.get("/v1/agents/ann").await["state"], "offline");
    let reply = s.server.ask("POST", "/v1/agents/ann/login", "").await;
    let detail = refused(&reply, 503, "UNHEARD", None);
    let key = reply.header("idempotency-key").unwrap().to_owned();
    assert!(detail.contains(&key), "{detail}");
    s.start("one").await;
    // Done as it was asked for, without being asked again; the same key gets the answer.
    s.until("/v1/agents/ann", |ann| ann["state"] == "ready").await;
    let reply = s.server.ask_with("POST", "/v1/agents/ann/login", &[("Idempotency-Key", &key)], "").await;
    assert_eq!(reply.json(), json!({"said": "done", "key": key}));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_counted_and_hides_nothing() {
    let s = Scene::standing_by().await;
    let put = |name: &str, text: &str| Change::Put { name: name.to_owned(), text: text.to_owned() };
    let call = r#"{"n":"n1","ch":"c1","who":"Zoë","num":"+49","sip":"a@b","q":"gone","p":5,"t":7,"j":8,"s":{"waiting":{}}}"#;
    s.write(vec![
        put("c:c1", call),
        put("c:c2", "no JSON"),
        put("a:ghost", r#"{"s":{"paused":{"reason":"x"}},"i":9}"#),
    ])
    .await;
    let cell = s.get("/v1/cell").await;
    assert_eq!((&cell["damaged"], &cell["counts"]["calls"]), (&json!(1), &json!(1)));
    let call = s.get("/v1/calls/c1").await;
    assert_eq!(
        (&call["caller"]["name"], &call["position"], &call["queue"]),
        (&json!("Zoë"), &json!(1), &json!("gone"))
    );
    let ghost = s.get("/v1/agents/ghost").await;
    assert_eq!(
        (&ghost["state"], &ghost["aor"], &ghost["reason"]),
        (&json!("paused"), &Value::Null, &json!("x"))
    );
    assert_eq!(ids(&s.get("/v1/agents").await["items"]), ["ann", "bob", "ghost"]);
}

#[tokio::test]
async fn events_come_as_they_happen_and_go_on_where_they_were_left() {
    let s = Scene::led().await;
    let mut live = Listener::open(&s.server, "/v1/events", &[]).await;
    assert_eq!(live.header("content-type"), Some("text/event-stream"));
    s.call("n1", "c1").await;
    s.say("/v1/agents/ann/login", "").await;
    let enqueued = live.until("enqueued").await;
    assert_eq!((&enqueued.data["call"], &enqueued.data["queue"]), (&json!("c1"), &json!("sales")));
    let connected = live.until("connected").await;
    assert_eq!(connected.data["agent"], "ann");
    drop(live);
    s.exchange.agent_hangs_up("c1").await;

    let mut again = Listener::open(&s.server, "/v1/events?after=0", &[("Last-Event-ID", &enqueued.id)]).await;
    let mut words = Vec::new();
    let mut last = enqueued.id.parse::<u64>().unwrap();
    loop {
        let event = again.next().await.unwrap();
        let id: u64 = event.id.parse().unwrap();
        assert!(id > last, "in order, each once");
        last = id;
        words.push(event.kind.clone());
        assert_eq!(event.data["event"], event.kind);
        if event.kind == "done" {
            break;
        }
    }
    for word in ["offered", "connected", "offer-ended", "command", "agent"] {
        assert!(words.iter().any(|w| w == word), "no {word} in {words:?}");
    }
    // Everything that is kept, and then the end: the same as the store has.
    let kept = Listener::open(&s.server, "/v1/events?after=0&follow=false", &[]).await.rest().await;
    let told = s.told().await;
    assert_eq!(kept.iter().map(|e| e.id.clone()).collect::<Vec<_>>(), told);
    for told in s.store.outbox(&name("main"), mqs::store::cell::Position(0), 1_000).await.unwrap() {
        record::read_event(&told.text).unwrap();
    }
}

#[tokio::test]
async fn whoever_asks_for_what_was_forgotten_is_told_so_first() {
    let s = Scene::led().await;
    s.say("/v1/agents/ann/login", "").await;
    let told = s.told().await;
    for asked in ["1", "9007199254740991"] {
        let all = Listener::open(&s.server, "/v1/events?follow=false", &[("Last-Event-ID", asked)])
            .await
            .rest()
            .await;
        assert_eq!((all[0].kind.as_str(), all[0].id.as_str()), ("forgotten", ""));
        assert_eq!(all[0].data, json!({"asked": asked.parse::<u64>().unwrap()}));
        assert_eq!(all.iter().skip(1).map(|e| e.id.clone()).collect::<Vec<_>>(), told, "then what there is");
    }
    let reply = s.server.ask_with("GET", "/v1/events", &[("Last-Event-ID", "-1")], "").await;
    refused(&reply, 400, "BADREQ", Some("last-event-id"));
    let last = told.last().unwrap();
    let rest =
        Listener::open(&s.server, "/v1/events?follow=false", &[("Last-Event-ID", last)]).await.rest().await;
    assert_eq!(rest.len(), 0, "nothing was forgotten, and nothing came");
}

#[tokio::test]
async fn no_more_than_64_follow_and_whoever_leaves_makes_room() {
    let s = Scene::standing_by().await;
    let mut open = Vec::new();
    // The server of the test takes 64 connections a listener.
    for n in 0..64 {
        open.push(if n % 2 == 0 {
            Listener::open(&s.server, "/v1/events", &[]).await
        } else {
            Listener::open_unix(&s.server, "/v1/events").await
        });
    }
    let detail = refused(&s.ask("GET", "/v1/events").await, 503, "STREAMS", None);
    assert!(detail.contains("leave"), "{detail}");
    open.pop();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if s.seats() == 1 {
            break;
        }
    }
    Listener::open(&s.server, "/v1/events", &[]).await;
}

#[tokio::test]
async fn a_server_that_stops_ends_what_is_followed() {
    let s = Scene::standing_by().await;
    let mut listener = Listener::open(&s.server, "/v1/events", &[]).await;
    // Longer than a peer may take for a request's head, which this is not.
    tokio::time::sleep(Duration::from_millis(900)).await;
    s.write(vec![Change::Event { text: record::write_event(&queue_scene::event(EpochMs(5))) }]).await;
    assert_eq!(listener.next().await.unwrap().kind, "enqueued");
    s.server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(2), listener.next()).await.expect("its end");
    assert!(ended.is_none(), "{ended:?}");
}

#[tokio::test]
async fn commands_from_elsewhere_are_heard_too() {
    let s = Scene::led().await;
    let command = Command::Toggle(name("bob"));
    let said = s.desk.send_and_wait("phone-call-id@host", &command, Duration::from_secs(5)).await.unwrap();
    assert_eq!(said, mqs::cell::desk::Reply::Said(mqs::domain::controller::Said::Done));
    assert_eq!(s.get("/v1/agents/bob").await["state"], "ready");
}
