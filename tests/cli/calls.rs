//! Nodes, lookups and leases, steered and watched by hand.

use super::house::*;
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn nodes_are_listed_added_changed_drained_and_removed() {
    let house = House::new(NODES);
    let _service = house.serve();
    let list = "\
POOL     NODE  ZONE  TAGS       STATE     LOAD  CAPACITY  OCCUPANCY  ADDRESS
default  ast1  a     -          active       0       900      0.0 %  sip:127.0.1.1:5060
default  ast2  b     t38,video  active       0       600      0.0 %  sip:127.0.1.2:5060
default  ast3  -     -          draining     0        30      0.0 %  sip:127.0.1.3:5060
";
    assert_eq!(house.ask(&["node", "list"]), (0, list.to_owned(), String::new()));
    assert_eq!(house.ask(&["node", "list", "--pool", "default"]).1, list);
    fails(
        house.ask(&["node", "list", "--pool", "sales"]),
        1,
        "mqs: cannot list the nodes: no pool \"sales\" (NOPOOL)\n",
    );

    let add = ["node", "add", "ast4", "sip:127.0.1.4", "--capacity", "10", "--zone", "c", "--tag", "x"];
    let added = "ast4 of pool default: sip:127.0.1.4, capacity 10, zone c, tags x, active\n";
    assert_eq!(house.ask(&add), (0, format!("added {added}"), String::new()));
    let (code, _, err) = house.ask(&add);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("mqs: cannot add node ast4: ") && err.contains("has a node ast4 already"),
        "{err}"
    );
    let changed =
        house.ask(&["node", "set", "ast4", "--capacity", "20", "--no-zone", "--no-tags", "--state", "down"]);
    assert_eq!(changed.1, "ast4 of pool default: sip:127.0.1.4, capacity 20, down\n", "{}", changed.2);
    let json = house.ask(&["node", "set", "ast4", "--state", "active", "--json"]);
    let node: Value = serde_json::from_str(&json.1).unwrap();
    assert_eq!(
        (&node["id"], &node["capacity"], &node["state"]),
        (&"ast4".into(), &20.into(), &"active".into())
    );
    fails(
        house.ask(&["node", "set", "no", "--state", "down"]),
        1,
        "mqs: cannot change node no: no pool has a node of this name\n",
    );
    assert_eq!(house.ask(&["node", "remove", "ast4"]).1, "removed ast4 from pool default\n");
    assert_eq!(house.ask(&["node", "list"]).1, list);
    let all: Value = serde_json::from_str(&house.ask(&["node", "list", "--json"]).1).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(3));
}

#[test]
fn a_lookup_by_hand_says_that_it_holds_a_lease_and_how_to_end_it() {
    let house = House::new(NODES);
    let _service = house.serve();
    let (code, out, err) = house.ask(&["route", "call-1", "sip:100@example.com", "--explain"]);
    let out = out.split('\n').map(without_time).collect::<Vec<_>>().join("\n");
    let routed = "\
call     call-1 to sip:100@example.com: kind new
answer   ast1 (sip:127.0.1.1:5060) of pool default, in N µs
then     ast2 (sip:127.0.1.2:5060)
nodes    1 draining, 2 eligible
lease    LEASE now HELD on ast1, and counted as one call there
token    TOKEN
end it   mqs done TOKEN --socket DIR/http.sock

NODE  ZONE  TAGS       STATE     LOAD  CAPACITY  ROOM  OCCUPANCY  AFTER  VERDICT
ast1  a     -          active       0       900   900      0.0 %  0.1 %  chosen
ast2  b     t38,video  active       0       600   600      0.0 %  0.2 %  fallback (target 1)
ast3  -     -          draining     0        30    30      0.0 %  3.3 %  draining
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, routed, ""));
    let again = house.ask(&["route", "call-1", "sip:100@example.com"]);
    assert!(again.1.contains("the same answer as before") && again.1.contains("counted once"), "{}", again.1);

    let (code, out, _) = house.ask(&["explain", "call-1"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("answer   ast1 (sip:127.0.1.1:5060)") && out.contains("fallback (target 1)"),
        "{out}"
    );
    let kept: Value = serde_json::from_str(&house.ask(&["explain", "call-1", "--json"]).1).unwrap();
    assert_eq!((&kept["outcome"], &kept["dry"]), (&"routed".into(), &false.into()));
    let (code, _, err) = house.ask(&["explain", "call/2"]);
    assert!(
        code == 1 && err.starts_with("mqs: cannot explain call/2: this instance has no decision"),
        "{err}"
    );

    let dry =
        house.ask(&["route", "call-2", "tel:+49", "--zone", "b", "--dry", "--explain", "--exclude", "ast1"]);
    assert!(
        dry.1.contains("would be routed") && dry.1.contains("lease    none: --dry asks only"),
        "{}",
        dry.1
    );
    assert!(
        dry.1.contains("ast1  a     -          active       1       900   900      0.1 %  0.2 %  excluded"),
        "{}",
        dry.1
    );
    let dry = house.ask(&["route", "call-2", "tel:+49", "--tag", "fax", "--dry"]);
    assert!(dry.0 == 0 && dry.1.contains("answer   refused: nonode, pool default"), "{}", dry.1);
    fails(
        house.ask(&["route", "call-2", "tel:+49", "--tag", "fax"]),
        1,
        "mqs: cannot route call-2: pool default: no node may take this call; try again in 3 s (NONODE)\n",
    );
    fails(
        house.ask(&["route", "c", "tel:+49", "--pool", "no"]),
        1,
        "mqs: cannot route c: no pool \"no\" (NOPOOL)\n",
    );
    let mut loads = house.ask(&["node", "list"]).1.lines().map(load).collect::<Vec<_>>();
    assert_eq!(loads.split_off(1), ["1", "0", "0"], "only the first lookup holds a lease");
}

/// The time in `in 85 µs`.
fn without_time(line: &str) -> String {
    match line.rsplit_once(", in ") {
        Some((head, tail)) if tail.ends_with("µs") => format!("{head}, in N µs"),
        _ => line.to_owned(),
    }
}

fn load(line: &str) -> String {
    line.split_whitespace().nth(5).unwrap_or_default().to_owned()
}

#[test]
fn leases_are_settled_by_hand_and_a_drain_waits_for_them() {
    let house = House::new(NODES);
    let _service = house.serve();
    let (code, out, _) = house.ask_as_it_is(&["route", "call-1", "sip:100@example.com", "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["mqs"]["nodes"][0]), (0, &"ast1".into()));
    let token = document["mqs"]["token"].as_str().unwrap().to_owned();
    assert_eq!(house.ask(&["confirm", &token]).1, "confirmed\n");
    assert_eq!(house.ask(&["fail", &token, "--branch", "0", "--code", "503"]).1, "moved to ast2, target 1\n");
    let altered = token.replace("ast1", "ast3");
    fails(
        house.ask(&["done", &altered]),
        1,
        "mqs: cannot end the lease: token: altered, or made with another secret (BADTOKEN)\n",
    );

    let drained = house.ask(&["node", "drain", "ast2"]);
    assert!(drained.1.starts_with("ast2 gets no new calls, and carries 1;"), "{drained:?}");
    let (code, _, err) = house.ask(&["node", "drain", "ast2", "--wait", "--timeout", "1"]);
    let late = "mqs: cannot drain node ast2: 1 call left after 1 s; it stays draining\n";
    assert_eq!((code, err.as_str()), (1, format!("ast2: 1 call left\n{late}").as_str()));
    let waiting = command()
        .args(["node", "drain", "ast2", "--wait", "--socket", &house.path("http.sock")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(house.ask(&["done", &token, "--json"]).1, "{\"result\":\"ended\"}\n");
    let (code, out, err) = shown(waiting.wait_with_output().unwrap());
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "ast2 is drained: it carries no call\n", "ast2: 1 call left\n")
    );
}

#[test]
fn top_prints_one_reading_where_there_is_no_terminal() {
    let house = House::new(NODES);
    fails(
        run(&["top", "--socket", "/nowhere/x.sock"]),
        1,
        "mqs: cannot look at the instance: no instance answers at /nowhere/x.sock: No such file or directory (os error 2)\n",
    );
    let _service = house.serve();
    assert_eq!(house.ask(&["route", "call-1", "sip:100@example.com"]).0, 0);
    assert_eq!(house.ask(&["route", "call-2", "sip:100@example.com", "--tag", "fax"]).0, 1);
    let (mut code, mut out, mut err) = house.ask(&["top", "--once"]);
    // The connection of the command before may not have been seen to close.
    for _ in 0..50 {
        if out.contains("\nconnections   http 1\n") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        (code, out, err) = house.ask(&["top", "--once"]);
    }
    assert_eq!((code, err.as_str()), (0, ""));
    let (head, tables) = out.split_once("\n\n").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(head.starts_with(&format!("instance      DIR/http.sock mqs {version}, up ")), "{head}");
    for said in ["\nlookups ", "/s: routed ", ", nonode ", " (since the start)\n", "\nlatency       p50 0."] {
        assert!(head.contains(said), "{said}: {head}");
    }
    assert!(head.ends_with("\nconnections   http 1"), "{head}");
    let (pools, tables) = tables.split_once("\n\n").unwrap();
    let (zones, nodes) = tables.split_once("\n\n").unwrap();
    let of_zones = "\
POOL     ZONE  NODES  ACTIVE  LOAD  CAPACITY  OCCUPANCY
default  a         1       1     1       900      0.1 %
default  b         1       1     0       600      0.0 %
default  -         1       0     0         0          -";
    assert_eq!(zones, of_zones);
    let totals = "\
POOL     NODES  ACTIVE  LOAD  CAPACITY  OCCUPANCY
default      3       2     1      1500      0.1 %";
    assert_eq!(pools, totals);
    let columns = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(ToOwned::to_owned).collect();
        (words[..4].join(" "), words[words.len() - 4..].join(" "))
    };
    let nodes: Vec<_> = nodes.lines().map(columns).collect();
    let columns = |head: &str, tail: &str| (head.to_owned(), tail.to_owned());
    assert_eq!(nodes[0], columns("POOL NODE ZONE STATE", "SINCE LOAD CAPACITY OCCUPANCY"));
    assert_eq!(nodes[1], columns("default ast1 a active", "1 900 0.1 %"));
    assert_eq!(nodes[3], columns("default ast3 - draining", "0 30 0.0 %"));
    assert_eq!(house.ask(&["top"]).0, 0, "a pipe is no terminal");

    let reading: Value = serde_json::from_str(&house.ask(&["top", "--json"]).1).unwrap();
    assert_eq!((&reading["version"], &reading["since_start"]), (&version.into(), &true.into()));
    assert_eq!((&reading["nodes"][0]["id"], &reading["nodes"][0]["load"]), (&"ast1".into(), &1.into()));
    assert_eq!((&reading["pools"][0]["pool"], &reading["pools"][0]["load"]), (&"default".into(), &1.into()));
    let zone = &reading["pools"][0]["zones"][0];
    assert_eq!((&zone["zone"], &zone["load"], &zone["capacity"]), (&"a".into(), &1.into(), &900.into()));
    assert!(reading["rates"]["lookups_per_s"]["routed"].as_f64().unwrap() > 0.0, "{reading}");
    assert!(reading["rates"]["p99"]["at"].as_f64().unwrap() > 0.0, "{reading}");
}

#[test]
fn seconds_without_the_store_are_counted_and_shown() {
    let house = House::new(NODES);
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap();
    fs::write(house.path("secret"), "sixteen bytes or more\n").unwrap();
    let text = text.replace("memory:", "redis://127.0.0.1:1");
    let text = format!("{text}[token]\nsecret_file = \"{}\"\n", house.path("secret"));
    fs::write(house.path("mqs.toml"), text).unwrap();
    let _service = house.serve();
    assert_eq!(house.ask(&["route", "call-1", "sip:100@example.com"]).0, 0);
    std::thread::sleep(Duration::from_millis(1500));
    let reading: Value = serde_json::from_str(&house.ask(&["top", "--json"]).1).unwrap();
    let seconds = reading["rates"]["degraded_s"].as_f64().unwrap();
    assert!((0.9..60.0).contains(&seconds), "{reading}");
    assert_eq!(reading["rates"]["degraded_share"], 1.0, "{reading}");
    let (code, out, _) = house.ask(&["top"]);
    assert!(code == 0 && out.ends_with("The store is away: loads and states are old.\n"), "{out}");
}
