//! What a Redis that others write to can hold of a cell: the real `mqs serve` on a real Redis, with a stand-in for Asterisk.

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
#[allow(dead_code)]
#[path = "support/redis_server.rs"]
mod redis_server;

use queue_house::{House, LAID};
use redis_server::RedisServer;

#[test]
fn what_is_damaged_in_redis_costs_itself_and_is_said() {
    let redis = RedisServer::start();
    let mut house = House::on(1, &redis.url(), LAID);
    for call in ["c1", "c2", "c3", "c4"] {
        house.serves(call);
    }
    let (_, before) = house.http("GET", "/v1/calls/c2", "");
    house.instance.kill();
    house.node().forget("c4");
    let hset = |key: &str, field: &[u8], value: &[u8]| {
        let mut cmd = redis::cmd("HSET");
        cmd.arg(format!("{{mqs:c:main}}:{key}")).arg(field).arg(value);
        redis.send::<i64>(&cmd);
    };
    hset("st", b"c:c2", b"{\"stage\":");
    hset("st", b"c:c3", b"\xff\xfe\x00");
    hset("st", b"c:c4", &vec![b'x'; 1_000_000]);
    hset("st", b"a:ann", b"[]");
    hset("st", b"o:x", b"{}");
    hset("st", b"\xff", b"{}");
    hset("st", b"nothing", b"\r\n\x1b[31m");
    hset("reg", b"junk", b"junk");
    hset("reg", b"k1 ann@example.com", b"soon");
    hset("reg", b"k1 eve@example.com", b"\xff");
    redis.say::<i64>("ZADD {mqs:c:main}:q:sales 1 junk");
    redis.say::<String>("XADD {mqs:c:main}:in * a b");
    redis.say::<String>("XADD {mqs:c:main}:in * a b c d e f");
    redis.say::<String>("XADD {mqs:c:main}:ev * a b c d");
    house.up();
    for (name, line) in [("c:c2", 1), ("c:c3", 1), ("c:c4", 1), ("a:ann", 1), ("o:x", 1), ("nothing", 1)] {
        assert_eq!(house.lines(&["WARN", "left out", name]), line, "{name}: {}", house.log());
    }
    assert!(house.lines(&["records that cannot be read"]) == 1, "{}", house.log());
    house.until("registrations are taken out", |s| {
        s.lines(&["WARN", "registration that cannot be read", "junk"]) == 1
    });
    house.check_log();
    // Who is there keeps the place that is noted on the channel; who is not is forgotten.
    house.until("all are known", |s| ["c1", "c2", "c3"].iter().all(|id| s.call(id) == "waiting"));
    let (_, after) = house.http("GET", "/v1/calls/c2", "");
    assert_eq!((&after["enqueued_ms"], house.call("c4").as_str()), (&before["enqueued_ms"], ""));
    let (_, queue) = house.http("GET", "/v1/queues/sales", "");
    let line: Vec<&str> =
        queue["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(line, ["c1", "c2", "c3"]);
    house.login("ann");
    house.until("ann is called", |s| s.node().legs().len() == 1);
    // While it runs: what is shown leaves it out, commands behind it are done, and the next leader finds it written anew.
    hset("st", b"c:c3", b"{");
    hset("reg", b"k1 eve@example.com", b"x");
    redis.say::<String>("XADD {mqs:c:main}:in * a b");
    let (status, said) = house.http("POST", "/v1/agents/ann/pause", "");
    assert_eq!(status, 200, "{said}");
    assert_eq!(house.call("c1"), "offered");
    let eve = r#"{"aor":"eve@example.com","queues":["support"]}"#;
    for (method, path, body) in [("PUT", "/v1/agents/eve", eve), ("POST", "/v1/agents/eve/toggle", "")] {
        let (status, said) = house.http(method, path, body);
        assert_eq!(status, 200, "{said}");
    }
    house.until("eve is there", |s| s.agent("eve") == "ready");
    house.instance.kill();
    house.up();
    // What was done is not done again.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(house.agent("eve"), "ready");
    assert_eq!(house.lines(&["shell: left out"]), 1, "{}", house.log());
    house.until("c3 waits", |s| s.call("c3") == "waiting");
    house.instance.kill();
    house.up();
    assert_eq!(house.lines(&["shell: left out"]), 0, "{}", house.log());
    house.serves("c9");
    // A key of another kind: nobody leads, and it is said why.
    house.instance.kill();
    redis.say::<i64>("DEL {mqs:c:main}:meta");
    redis.say::<String>("SET {mqs:c:main}:meta x");
    house.instance.start();
    house.until("it is said", |s| s.lines(&["WARN", "no answer of the store", ":meta is a string"]) > 0);
    assert_eq!(house.lines(&["offers are made"]), 0);
    redis.say::<i64>("DEL {mqs:c:main}:meta");
    house.until("somebody leads", |s| s.lines(&["offers are made"]) == 1);
}

#[test]
fn who_begins_while_the_store_is_away_gives_up_no_call_on_a_node_that_only_the_store_knows() {
    let redis = RedisServer::start();
    let mut house = House::on(1, &redis.url(), LAID);
    house.serves("c1");
    house.instance.kill();
    let file = house.instance.path("mqs.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, node) = text.split_once("[[pool.node]]").unwrap();
    let (_, behind) = node.split_once("[[queue]]").unwrap();
    std::fs::write(&file, format!("{before}[[queue]]{behind}")).unwrap();
    redis.say::<String>("CLIENT PAUSE 4000 ALL");
    house.instance.start();
    assert_eq!(house.lines(&["leads", "epoch"]), 0);
    house.until("it leads", |s| s.lines(&["leads", "epoch"]) == 1);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(house.call("c1"), "waiting", "{}", house.log());
    assert_eq!(house.lines(&["offers are made"]), 0, "{}", house.log());
}
