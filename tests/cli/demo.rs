//! The demo says what it shows, and that nothing went wrong.

use super::house::*;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

#[test]
fn the_demo_loses_no_call_and_its_lines_can_be_copied() {
    let mut demo = command()
        .args(["demo", "--dispatch-only", "--seconds", "6", "--seed", "7"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("  mqs route ") {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let copied = text.lines().last().unwrap().trim().strip_prefix("mqs ").unwrap();
    let args: Vec<&str> = copied.split(' ').collect();
    let (code, told, err) = run(&args);
    assert!(code == 0 && told.contains("would be routed") && told.contains("chosen"), "{told}{err}");
    let real: Vec<&str> = args.iter().copied().filter(|a| *a != "--dry" && *a != "--explain").collect();
    assert!(run(&real).1.contains("now HELD"));
    out.read_to_string(&mut text).unwrap();
    let (code, _, err) = shown(demo.wait_with_output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    for said in [
        "are stand-ins for Asterisk",
        "ast3 goes silent",
        "    ast3 is ",
        "ast2 answers every call with 503",
        "ast1 is drained",
        "ast1 is taken back",
        "OCCUPANCY",
        " 0 lost.",
        "1 lease was given to others than the demo's callers",
        "Every call was answered by a node, and every caller's lease ended.",
    ] {
        assert!(text.contains(said), "{said:?} is not in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

/// The queue's part, and nothing of it may go wrong: its exit code says so.
#[test]
fn the_demo_of_the_queue_survives_its_leader() {
    let (code, out, err) = run(&["demo", "--queue-only", "--seconds", "3", "--seed", "7"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for said in [
        "mqs-a leads; agents log in",
        "a rush: 14 callers at once",
        "ast3 dies, and with it the calls of",
        "mqs-a, the leader, is killed",
        "mqs-b leads, ",
        "while there was a call: 0",
        "taken ",
        "0 channels, 0 leases, 0 calls",
        "Every caller was in one state, no agent had two legs, nobody lost a place.",
    ] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    assert_eq!(out.matches("    the first in line: ").count(), 2, "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert!(!out.contains('\x1b'), "no colours where nobody looks");
}

#[test]
fn both_parts_of_the_demo_are_one_json_object() {
    let (code, out, err) = run(&["demo", "--json", "--seconds", "3", "--seed", "8"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&all["well"], &all["lost"], &all["seed"]), (&true.into(), &0.into(), &8.into()), "{all}");
    let queue = &all["queue"];
    assert_eq!((&queue["rung_twice"], &queue["broken"]), (&0.into(), &0.into()), "{queue}");
    let of = |key: &str| queue[key].as_u64().unwrap();
    let ends = ["answered", "abandoned", "remained", "turned_away", "not_placed"];
    // Some of those who were answered were lost with their node afterwards.
    assert!(ends.iter().map(|key| of(key)).sum::<u64>() <= of("callers"), "{queue}");
    assert!(of("answered") > 0 && of("lost_with_node") > 0, "{queue}");
    let [takeover] = queue["takeovers"].as_array().unwrap().as_slice() else { panic!("{queue}") };
    assert!(takeover["led_after_ms"].as_u64().unwrap() <= 6_000, "{takeover}");
}
