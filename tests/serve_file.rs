//! `mqs serve` and `mqs check` on a store in a file: what survives SIGKILL, and what is said when the file is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/instance.rs"]
mod instance;

use instance::Instance;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

impl Instance {
    fn new() -> Instance {
        // Patient, so that a slow disk fails no test that is not about time-outs.
        Instance::with(|home| {
            format!(
                "[store]\nurl = \"file:{home}/mqs.redb\"\ntimeout_ms = 5000\n[dispatch]\npick_deadline_ms = 1000\n\
             [listen]\nresp = [\"unix:{home}/mqs.sock\"]\nhttp = [\"unix:{home}/http.sock\"]\n\
             [token]\nsecret_file = \"{home}/secret\"\n[[pool]]\nname = \"default\"\n\
             [[pool.node]]\nid = \"ast1\"\nuri = \"sip:ast1.example\"\ncapacity = 10\n\
             [[pool.node]]\nid = \"ast2\"\nuri = \"sip:ast2.example\"\ncapacity = 20\n"
            )
        })
    }
}

fn by_id(list: &Value, id: &str) -> Value {
    let rows = list.as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {list}")).clone()
}

#[test]
fn nodes_leases_and_drained_state_survive_a_killed_instance() {
    let mut instance = Instance::new();
    instance.start();
    assert!(instance.mqs(&["node", "set", "ast1", "--capacity", "77"]).0);
    assert!(instance.mqs(&["node", "drain", "ast2"]).0);
    assert!(instance.mqs(&["node", "add", "ast3", "sip:ast3.example", "--capacity", "5"]).0);
    let routed = instance.json(&["route", "call-1", "sip:100@example.com"]);
    assert_eq!(routed["mqs"]["degraded"], false, "{routed}");
    let token = routed["mqs"]["token"].as_str().unwrap_or_else(|| panic!("{routed}")).to_owned();
    for round in 1..3 {
        instance.kill();
        instance.start();
        let list = instance.json(&["node", "list"]);
        let (one, two, three) = (by_id(&list, "ast1"), by_id(&list, "ast2"), by_id(&list, "ast3"));
        assert_eq!((&one["capacity"], &one["load"]), (&77.into(), &1.into()), "restart {round}: {list}");
        assert_eq!((&two["state"], &three["capacity"]), (&"draining".into(), &5.into()), "{list}");
    }
    // The lease is known to the new process by its token alone, and the same lookup is not counted twice.
    assert_eq!(instance.json(&["route", "call-1", "sip:100@example.com"])["mqs"]["repeat"], true);
    assert!(instance.mqs(&["done", &token]).0);
    instance.kill();
    instance.start();
    assert_eq!(by_id(&instance.json(&["node", "list"]), "ast1")["load"], 0, "ended for good");
}

#[test]
fn what_was_answered_before_a_kill_under_load_is_known_after_it() {
    let mut instance = Instance::new();
    instance.start();
    assert!(instance.mqs(&["node", "set", "ast1", "--capacity", "4000"]).0);
    let (next, over, answered) = (AtomicU32::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let mut process = instance.process.take().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let call = format!("call-{}", next.fetch_add(1, Ordering::SeqCst));
                    let (well, text) = instance.mqs(&["route", &call, "tel:1", "--json"]);
                    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                    if well && answer["mqs"]["degraded"] == false {
                        answered.lock().unwrap().push(call);
                    }
                }
            });
        }
        while answered.lock().unwrap().len() < 40 {
            std::thread::sleep(Duration::from_millis(3));
        }
        process.kill().unwrap();
        over.store(true, Ordering::SeqCst);
    });
    process.wait().unwrap();
    instance.start();
    let list = instance.json(&["node", "list"]);
    let carried =
        by_id(&list, "ast1")["load"].as_u64().unwrap() + by_id(&list, "ast2")["load"].as_u64().unwrap();
    let (answered, asked) = (answered.into_inner().unwrap(), u64::from(next.into_inner()));
    assert!(
        (u64::try_from(answered.len()).unwrap()..=asked).contains(&carried),
        "{} answered, {asked} asked: {list}",
        answered.len()
    );
    for call in answered.iter().rev().take(12) {
        assert_eq!(instance.json(&["route", call, "tel:1"])["mqs"]["repeat"], true, "{call}");
    }
}

#[test]
fn a_file_in_use_is_refused_by_name() {
    let mut instance = Instance::new();
    assert!(instance.check().1.contains("the first start makes it"), "{}", instance.check().1);
    instance.start();
    let other = Instance::new();
    let text = fs::read_to_string(other.path("mqs.toml")).unwrap();
    fs::write(other.path("mqs.toml"), text.replace(&other.path("mqs.redb"), &instance.path("mqs.redb")))
        .unwrap();
    let (code, said) = other.refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&instance.path("mqs.redb")) && said.contains("a live process"), "{said}");
    let (code, said) = other.check();
    assert!(code == Some(0) && said.contains("a live process"), "{said}");
    instance.kill();
    let (code, said) = other.check();
    assert!(code == Some(0) && said.contains("the next start repairs it"), "{said}");
}

#[test]
fn a_wrong_file_is_refused_by_name() {
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
    for content in [&b"# not a database\n"[..], &noise] {
        let instance = Instance::new();
        fs::write(instance.path("mqs.redb"), content).unwrap();
        for (code, said) in [instance.refused(), instance.check()] {
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(&instance.path("mqs.redb")) && said.contains("no store of mqs"), "{said}");
        }
        assert_eq!(fs::read(instance.path("mqs.redb")).unwrap(), content, "it is left as it was");
    }
    let instance = Instance::new();
    let text = fs::read_to_string(instance.path("mqs.toml")).unwrap();
    fs::write(instance.path("mqs.toml"), text.replace("/mqs.redb", "/nowhere/mqs.redb")).unwrap();
    for (code, said) in [instance.refused(), instance.check()] {
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nowhere") && said.contains("No such file"), "{said}");
    }
}

#[test]
fn a_disk_that_takes_nothing_more_makes_degraded_answers_until_it_does() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("skipped: prlimit is not here");
        return;
    }
    let mut instance = Instance::new();
    // A write beyond the limit is then an error, and not the end of the process.
    instance.start_by(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    let pid = instance.process.as_ref().unwrap().id().to_string();
    let limit = |bytes: &str| {
        let size = format!("--fsize={bytes}:unlimited");
        assert!(Command::new("prlimit").args(["--pid", &pid, &size]).status().unwrap().success());
    };
    let degraded = |call: &str| instance.json(&["route", call, "tel:1"])["mqs"]["degraded"] == true;
    assert!(!degraded("call-1"));
    limit("4096");
    assert!(degraded("call-2") && degraded("call-3"), "nothing is promised that is not written");
    limit("unlimited");
    let back = (4..200).find(|n| {
        std::thread::sleep(Duration::from_millis(50));
        !degraded(&format!("call-{n}"))
    });
    assert!(back.is_some(), "{}", fs::read_to_string(instance.path("log")).unwrap());
    assert_eq!(instance.json(&["route", "call-1", "tel:1"])["mqs"]["repeat"], true);
    let last = format!("call-{}", back.unwrap());
    instance.kill();
    instance.start();
    for call in ["call-1", &last] {
        assert_eq!(instance.json(&["route", call, "tel:1"])["mqs"]["repeat"], true, "{call}");
    }
}
