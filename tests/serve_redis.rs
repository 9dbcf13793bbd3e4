//! `mqs serve` and `mqs check` on a real Redis: what survives a restart, and what is said when the Redis is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

#[path = "support/instance.rs"]
mod instance;
#[path = "support/redis_server.rs"]
mod redis_server;

use instance::Instance;
use redis_server::RedisServer;
use serde_json::Value;

impl Instance {
    fn new(store: &str, nodes: &[(&str, u32)]) -> Instance {
        Instance::with(|home| {
            let mut text = format!(
                "[instance]\nid = \"i{}\"\n[store]\n{store}\n[listen]\nresp = [\"unix:{home}/mqs.sock\"]\nhttp = [\"unix:{home}/http.sock\"]\n\
             [token]\nsecret_file = \"{home}/secret\"\n[[pool]]\nname = \"default\"\n",
                std::process::id()
            );
            for (id, capacity) in nodes {
                text += &format!(
                    "[[pool.node]]\nid = \"{id}\"\nuri = \"sip:{id}.example\"\ncapacity = {capacity}\n"
                );
            }
            text
        })
    }

    fn on(redis: &RedisServer, nodes: &[(&str, u32)]) -> Instance {
        Instance::new(&format!("url = \"{}\"", redis.url()), nodes)
    }

    fn serving(mut self) -> Instance {
        self.start();
        self
    }
}

fn by_id(list: &Value, id: &str) -> Value {
    let rows = list.as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {list}")).clone()
}

#[test]
fn nodes_and_leases_survive_a_killed_instance() {
    let redis = RedisServer::start();
    let mut instance = Instance::on(&redis, &[("ast1", 10), ("ast2", 20)]).serving();
    assert!(instance.mqs(&["node", "set", "ast1", "--capacity", "77"]).0);
    assert!(instance.mqs(&["node", "drain", "ast2"]).0);
    assert!(instance.mqs(&["node", "add", "ast3", "sip:ast3.example", "--capacity", "5"]).0);
    let routed = instance.json(&["route", "call-1", "sip:100@example.com"]);
    let token = routed["mqs"]["token"].as_str().unwrap_or_else(|| panic!("{routed}")).to_owned();
    instance.kill();
    instance.start();
    let list = instance.json(&["node", "list"]);
    let (one, two, three) = (by_id(&list, "ast1"), by_id(&list, "ast2"), by_id(&list, "ast3"));
    assert_eq!((&one["capacity"], &one["load"]), (&77.into(), &1.into()), "{list}");
    assert_eq!((&two["state"], &three["capacity"]), (&"draining".into(), &5.into()), "{list}");
    // The lease is known to the new process by its token alone, and the same lookup is not counted twice.
    assert_eq!(instance.json(&["route", "call-1", "sip:100@example.com"])["mqs"]["repeat"], true);
    assert!(instance.mqs(&["done", &token]).0);
    assert_eq!(by_id(&instance.json(&["node", "list"]), "ast1")["load"], 0);
}

#[test]
fn two_instances_share_nodes_and_counts() {
    let redis = RedisServer::start();
    let nodes = [("ast1", 10), ("ast2", 10)];
    let (a, b) = (Instance::on(&redis, &nodes).serving(), Instance::on(&redis, &nodes).serving());
    let first = a.json(&["route", "call-1", "tel:1"])["mqs"]["nodes"][0].clone();
    let second = b.json(&["route", "call-2", "tel:1"])["mqs"]["nodes"][0].clone();
    assert_ne!(first, second, "each sees what the other gave out");
    assert!(a.mqs(&["node", "drain", "ast1"]).0);
    for n in 3..9 {
        assert_eq!(
            b.json(&["route", &format!("call-{n}"), "tel:1"])["mqs"]["nodes"][0],
            "ast2",
            "draining counts at once"
        );
    }
}

#[test]
fn an_instance_that_starts_before_its_redis_answers_all_the_same() {
    let mut redis = RedisServer::prepare(&[]);
    let instance = Instance::on(&redis, &[("ast1", 10)]).serving();
    let answer = instance.json(&["route", "call-1", "tel:1"]);
    assert_eq!(
        (&answer["mqs"]["degraded"], &answer["mqs"]["nodes"][0]),
        (&true.into(), &"ast1".into()),
        "{answer}"
    );
    redis.up();
    instance
        .until("the store is back", |i| i.json(&["route", "call-2", "tel:1"])["mqs"]["degraded"] == false);
    let token = answer["mqs"]["token"].as_str().unwrap();
    assert!(instance.mqs(&["confirm", token]).0);
    assert_eq!(by_id(&instance.json(&["node", "list"]), "ast1")["load"], 2);
}

#[test]
fn a_flushed_redis_gets_its_nodes_back() {
    let redis = RedisServer::start();
    let instance = Instance::on(&redis, &[("ast1", 10)]).serving();
    assert!(instance.mqs(&["node", "set", "ast1", "--capacity", "33"]).0);
    let _: () = redis.say("FLUSHALL");
    assert!(instance.mqs(&["route", "call-1", "tel:1"]).0, "nobody is refused meanwhile");
    instance.until("the node is back", |i| {
        let list = i.json(&["node", "list"]);
        by_id(&list, "ast1")["capacity"] == 33 && by_id(&list, "ast1")["stale"] == false
    });
}

#[test]
fn a_wrong_redis_is_named_and_its_password_is_not() {
    let nodes = [("ast1", 10)];
    let guarded = RedisServer::start_with(&["--requirepass", "right"]);
    let wrong = Instance::new(&format!("url = \"{}?pass=sesame\"", guarded.url()), &nodes);
    let primary = RedisServer::start_with(&["--port", "0"]);
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", "1"]);
    let read_only = Instance::on(&replica, &nodes);
    let bad_url = Instance::new("url = \"rediss:/nowhere\"", &nodes);
    for (instance, culprit, word) in [
        (&wrong, "store.url", "Password authentication failed"),
        (&read_only, "store.url", "read only replica"),
        (&bad_url, "mqs.toml:4", "store.url"),
    ] {
        let (code, said) = instance.refused();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(culprit) && said.contains(word), "{culprit}, {word}: {said}");
        assert!(!said.contains("sesame"), "{said}");
        let (code, said) = instance.check();
        assert_eq!(code, Some(1), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    }
    let (code, said) = Instance::on(&primary, &nodes).check();
    assert!(said.contains("redis") || said.contains("store"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    // Nobody there: `serve` would go on, `check` says so.
    let (code, said) = Instance::on(&RedisServer::prepare(&[]), &nodes).check();
    assert_eq!(code, Some(1), "{said}");
}
