//! The program as people use it: what it prints, what it says when something is wrong, and with which exit code it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use mqs::wire::sip::{self, Draft, Message};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
    for name in ["MQS_SOCKET", "MQS_TOKEN_FILE", "MQS_CA_FILE", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    shown(command().args(args).output().unwrap())
}

fn shown(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

const NODES: &str = r#"
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
zone = "a"
[[pool.node]]
id = "ast2"
uri = "sip:127.0.1.2:5060"
capacity = 600
zone = "b"
tags = ["video", "t38"]
[[pool.node]]
id = "ast3"
uri = "sip:127.0.1.3:5060"
capacity = 30
state = "draining"
"#;

/// A configuration in a directory of its own.
struct House(TempDir);

impl House {
    fn new(nodes: &str) -> House {
        let house = House(tempfile::tempdir().unwrap());
        let text = format!(
            "emergency_numbers = [\"112\"]\n[store]\nurl = \"memory:\"\n[listen]\nresp = [\"unix:{0}/mqs.sock\"]\nhttp = [\"unix:{0}/http.sock\"]\n[[pool]]\nname = \"default\"\n{nodes}",
            house.0.path().display()
        );
        fs::write(house.path("mqs.toml"), text).unwrap();
        house
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn serve(&self) -> Service {
        let mut process = command()
            .args(["serve", "--config", &self.path("mqs.toml")])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (line_to, lines) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = line_to.send(line);
            }
        });
        let mut log = Vec::new();
        let ready = |line: &String| line.contains(" ready ") || line.contains("\"ready\"");
        while !log.last().is_some_and(ready) {
            log.push(lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{log:#?}")));
        }
        Service { process, log, lines }
    }

    /// Asks the service of this house. Directory and tokens are replaced: `DIR`, `TOKEN`.
    fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let (code, out, err) = self.ask_as_it_is(args);
        (code, self.plain(&out), self.plain(&err))
    }

    fn ask_as_it_is(&self, args: &[&str]) -> (i32, String, String) {
        shown(command().args(args).env("MQS_SOCKET", self.path("http.sock")).output().unwrap())
    }

    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.0.path().display().to_string(), "DIR");
        let words = |line: &str| line.split(' ').map(without_chance).collect::<Vec<_>>().join(" ");
        text.split('\n').map(words).collect::<Vec<_>>().join("\n")
    }
}

/// What differs from run to run.
fn without_chance(word: &str) -> &str {
    let bare = word.trim_end_matches([':', ',']);
    if word.starts_with("m1.default.") {
        "TOKEN"
    } else if bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        "LEASE"
    } else {
        word
    }
}

struct Service {
    process: Child,
    log: Vec<String>,
    /// What is logged after it was ready.
    lines: mpsc::Receiver<String>,
}

impl Service {
    fn signal(&mut self, name: &str) -> i32 {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn fails(found: (i32, String, String), code: i32, stderr: &str) {
    assert_eq!((found.0, found.2.as_str()), (code, stderr), "stdout: {}", found.1);
}

#[test]
fn every_help_has_examples_and_fits_into_100_columns() {
    let verbs: &[&[&str]] = &[
        &[],
        &["serve"],
        &["check"],
        &["demo"],
        &["route"],
        &["explain"],
        &["confirm"],
        &["fail"],
        &["done"],
        &["node"],
        &["node", "list"],
        &["node", "add"],
        &["node", "set"],
        &["node", "drain"],
        &["node", "remove"],
        &["queue"],
        &["agent"],
        &["call"],
        &["events"],
        &["cell"],
        &["top"],
        &["reload"],
        &["completions"],
        &["man"],
    ];
    for verb in verbs {
        let (code, out, err) = run(&[verb, &["--help"][..]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{verb:?}");
        let example = ["mqs", &verb.join(" ")].join(" ");
        let (_, examples) = out.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb:?}: {out}"));
        assert!(examples.contains(example.trim_end()), "{verb:?}: {examples}");
        let widest = out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{verb:?} has a line of {widest} columns:\n{out}");
    }
    assert_eq!(
        run(&["--version"]),
        (0, concat!("mqs ", env!("CARGO_PKG_VERSION"), "\n").to_owned(), String::new())
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for (args, said) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["route", "call-1"], "<REQUEST_URI>"),
        (&["route", "a b", "sip:a@b"], "invalid value 'a b' for '<CALL_ID>'"),
        (&["route", "a", "http://b"], "scheme \"http\" is not taken"),
        (&["route", "a", "sip:a@b", "--kind", "agent"], "--node <NODE>"),
        (&["route", "a", "sip:a@b", "--targets", "13"], "13 is not in 1..=12"),
        (&["node", "add", "ast4", "sip:a", "--capacity", "8001"], "8001 is not in 1..=8000"),
        (
            &["node", "add", "ast4", "sip:a", "--capacity", "many"],
            "invalid value 'many' for '--capacity <CHANNELS>'",
        ),
        (&["node", "add", "ast.4", "sip:a", "--capacity", "1"], "'.' at position 3"),
        (&["node", "set", "ast4"], "the following required arguments were not provided"),
        (&["node", "drain", "ast4", "--timeout", "5"], "--wait"),
        (&["demo", "--nodes", "1"], "1 is not in 2..=24"),
        (&["top", "--interval", "0.1"], "0.1 is not in 0.2..=60"),
        (&["top", "--interval", "NaN"], "NaN is not in 0.2..=60"),
        (&["completions", "tcsh"], "[possible values: bash, zsh, fish]"),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn without_an_instance_the_error_names_the_place() {
    let gone = "No such file or directory (os error 2)";
    let refused = "Connection refused (os error 111)";
    fails(
        run(&["node", "list"]),
        1,
        &format!("mqs: cannot list the nodes: no instance answers at /run/mqs/http.sock: {gone}\n"),
    );
    fails(
        run(&["route", "call-1", "sip:a@b", "--socket", "/nowhere/x.sock"]),
        1,
        &format!("mqs: cannot route call-1: no instance answers at /nowhere/x.sock: {gone}\n"),
    );
    fails(
        run(&["done", "m1.x", "--url", "http://127.0.0.1:1"]),
        1,
        &format!("mqs: cannot end the lease: no instance answers at http://127.0.0.1:1/: {refused}\n"),
    );
}

#[test]
fn a_wrong_configuration_is_named_with_file_line_and_key() {
    let house = House::new("[[pool.node]]\nid = \"a\"\nuri = \"sip:a\"\ncapacity = 0\ncolour = \"red\"\n");
    let (code, out, err) = house.ask(&["serve", "--config", &house.path("mqs.toml")]);
    assert_eq!((code, out.as_str()), (1, ""));
    let first = "mqs: cannot use the configuration: DIR/mqs.toml:12:12: pool[0].node[0].capacity: found 0, out of limits;";
    assert!(err.starts_with(first), "{err}");
    assert!(err.contains("\nDIR/mqs.toml:13:1: pool[0].node[0].colour: unknown key;"), "{err}");
    let (code, out, err) = house.ask(&["check", &house.path("mqs.toml")]);
    assert_eq!((code, err.as_str()), (1, "mqs: DIR/mqs.toml: 2 errors\n"));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("error  config  DIR/mqs.toml:12:12"), "{out}");
    assert!(lines[2].contains("pool[0].node[0].colour: unknown key;"), "{out}");
    assert_eq!(lines[3], "2 errors, 0 warnings");
    fails(
        run(&["serve", "--config", "/nowhere.toml"]),
        1,
        "mqs: cannot use the configuration: /nowhere.toml: cannot be read: No such file or directory (os error 2)\n",
    );
}

#[test]
fn a_reload_says_what_changed_what_needs_a_restart_and_what_is_wrong() {
    let house = House::new(NODES);
    let _service = house.serve();
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap();
    let more =
        text.replace("capacity = 600", "capacity = 500").replace("[listen]", "[listen]\nconnections_max = 9");
    fs::write(house.path("mqs.toml"), more.replace("\"default\"", "\"default\"\nrefuse_code = 486")).unwrap();
    let said = "\
applied          pool.default.refuse_code
changed          node ast2 of pool default
needs a restart  listen.connections_max
DIR/mqs.toml: would change 1 key and 1 node; nothing was changed
";
    assert_eq!(house.ask(&["reload", "--check"]), (0, said.to_owned(), String::new()));
    let (code, out, err) = house.ask(&["reload"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (lines, last) = said
        .split_once("DIR")
        .map(|(lines, _)| (lines, "DIR/mqs.toml: 1 key and 1 node changed, in "))
        .unwrap();
    assert!(out.starts_with(&format!("{lines}{last}")), "{out}");
    fs::write(
        house.path("mqs.toml"),
        text.replace("\"default\"", "\"default\"\ncolour = 1\nrefuse_code = 200"),
    )
    .unwrap();
    let (code, out, err) = house.ask(&["reload"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("mqs: not reloaded: DIR/mqs.toml:9:1: pool[0].colour: unknown key;"),
        "{err}"
    );
    assert!(lines[1].starts_with("DIR/mqs.toml:10:15: pool[0].refuse_code: found 200"), "{err}");
    assert!(lines[1].ends_with("(BADFILE)"), "{err}");
}

#[test]
fn a_secret_file_must_hold_a_secret_that_is_kept() {
    let house = House::new(NODES);
    let secret = house.path("secret");
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap();
    fs::write(house.path("mqs.toml"), format!("{text}[token]\nsecret_file = \"{secret}\"\n")).unwrap();
    let serve = ["serve", "--config", &house.path("mqs.toml")];
    let gone = "No such file or directory (os error 2)";
    fails(
        house.ask(&serve),
        1,
        &format!("mqs: cannot serve: token.secret_file DIR/secret: cannot be read: {gone}\n"),
    );
    fs::write(&secret, "too short\n").unwrap();
    let short = "a secret of 9 bytes; at least 16 are needed";
    fails(house.ask(&serve), 1, &format!("mqs: cannot serve: token.secret_file DIR/secret: {short}\n"));
    fs::write(&secret, "sixteen bytes or more\n").unwrap();
    for (mode, said) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let mut service = house.serve();
        let warned = service.log.iter().any(|line| line.contains("can be read by every user"));
        assert_eq!(warned, said, "{mode:o}: {:#?}", service.log);
        assert_eq!(service.signal("TERM"), 0);
        let (code, out, _) = house.ask(&["check", "--no-nodes", &house.path("mqs.toml")]);
        let warned = out.lines().any(|line| line.starts_with("warn") && line.contains(" secret "));
        assert_eq!((code, warned), (0, said), "{out}");
    }
}

#[test]
fn a_check_counts_what_a_cell_has_and_looks_at_its_password() {
    let house = House::new(NODES);
    let password = house.path("ari-password");
    let cell = format!(
        "[cell]\nlast_resort = \"sorry\"\n[ari]\npassword_file = \"{password}\"\n[[queue]]\nid = \"sales\"\n[[treatment]]\nid = \"sorry\"\ncause = 17\n"
    );
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap();
    fs::write(house.path("mqs.toml"), text + &cell).unwrap();
    let check = || house.ask(&["check", "--no-nodes", &house.path("mqs.toml")]);
    let line = |out: &str, what: &str| {
        let of = |line: &&str| line.split_whitespace().nth(1) == Some(what);
        let found: Vec<&str> = out.lines().filter(of).collect();
        assert_eq!(found.len(), 1, "{out}");
        found[0].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (code, out, _) = check();
    assert_eq!(line(&out, "cell"), "ok cell main 1 queue, 0 agents, 1 treatment, 3 nodes to drive");
    assert!(out.contains("no agent takes calls of queue sales"), "{out}");
    assert_eq!(code, 1);
    assert!(
        line(&out, "ari")
            .ends_with("DIR/ari-password cannot be read: No such file or directory (os error 2)"),
        "{out}"
    );
    fs::write(&password, "one\ntwo\n").unwrap();
    assert!(
        line(&check().1, "ari").starts_with("error ari DIR/ari-password DIR/ari-password must hold one line")
    );
    fs::write(&password, "hunter2\n").unwrap();
    for (mode, said) in [
        (0o640, "ok ari DIR/ari-password readable"),
        (0o644, "warn ari DIR/ari-password every user of this host can read it: chmod o="),
    ] {
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).unwrap();
        let (code, out, _) = check();
        assert_eq!((code, line(&out, "ari").as_str()), (0, said));
        assert!(!out.contains("hunter2"));
    }
}

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

#[test]
fn shells_complete_every_verb() {
    for (shell, start) in [("bash", "_mqs() {"), ("zsh", "#compdef mqs"), ("fish", "complete -c mqs")] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(start), "{shell}");
        for word in ["serve", "explain", "drain", "top", "interval"] {
            assert!(out.contains(word), "{shell}: {word}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), out).unwrap();
        // Where the shell is installed, it must take it.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(file.path()).output() {
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_verb() {
    let (code, page, err) = run(&["man"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        page.contains(".TH mqs 1") && page.contains("mqs\\-node(1)") && page.contains("Exit codes"),
        "{page}"
    );
    let house = tempfile::tempdir().unwrap();
    let dir = house.path().to_str().unwrap();
    let (code, out, err) = run(&["man", "--dir", dir]);
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!((code, out, err.as_str()), (0, format!("{} pages in {dir}\n", names.len()), ""));
    for name in ["mqs.1", "mqs-serve.1", "mqs-top.1", "mqs-node.1", "mqs-node-drain.1"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    let drain = fs::read_to_string(house.path().join("mqs-node-drain.1")).unwrap();
    assert!(drain.contains("mqs node drain") && drain.contains("\\-\\-wait"), "{drain}");
    let (code, _, err) = run(&["man", "--dir", "/nowhere"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("mqs: cannot write the man pages: /nowhere/mqs.1: "), "{err}");
}

#[test]
fn a_log_in_json_is_json_and_names_the_call() {
    let house = House::new(NODES);
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap();
    let log = "[log]\nformat = \"json\"\nfilter = \"mqs=trace\"\n";
    fs::write(house.path("mqs.toml"), format!("{text}{log}")).unwrap();
    let mut service = house.serve();
    let call = "a\"b\\c{}@example.com";
    let (code, out, err) = house.ask_as_it_is(&["route", call, "sip:100@example.com", "--json"]);
    assert_eq!(code, 0, "{err}");
    let document: Value = serde_json::from_str(&out).unwrap();
    let token = document["mqs"]["token"].as_str().unwrap();
    assert_eq!(house.ask(&["confirm", token]).1, "confirmed\n");
    assert_eq!(house.ask(&["fail", token, "--branch", "0", "--code", "503"]).0, 0);
    assert_eq!(house.ask(&["done", token]).1, "ended\n");
    assert_eq!(house.ask(&["route", "call-2", "sip:100@example.com", "--tag", "fax"]).0, 1);
    assert_eq!(service.signal("TERM"), 0);
    let mut lines = std::mem::take(&mut service.log);
    lines.extend(service.lines.iter());
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(
        lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()),
        "{lines:#?}"
    );
    let about_it: Vec<&str> = lines
        .iter()
        .filter(|line| line["call_id"] == call)
        .filter_map(|line| line["message"].as_str())
        .collect();
    assert_eq!(about_it, ["routed", "settled", "settled", "settled"], "{lines:#?}");
    assert!(
        lines.iter().any(|line| line["call_id"] == "call-2" && line["message"] == "refused"),
        "{lines:#?}"
    );
    let of_leases = lines.iter().filter(|line| line["lease"].is_string());
    assert!(
        of_leases.clone().count() >= 4 && of_leases.clone().all(|line| line["call_id"] == call),
        "{lines:#?}"
    );
}

#[test]
fn a_socket_has_one_instance_and_a_dead_one_leaves_it_to_the_next() {
    let house = House::new(NODES);
    let mut first = house.serve();
    let ready = first.log.last().unwrap();
    for said in ["resp=unix:", "http=unix:", "store=memory:", "default", "nodes=3", "start_ms=", "version="] {
        assert!(ready.contains(said), "{said}: {ready}");
    }
    let serve = ["serve", "--config", &house.path("mqs.toml")];
    fails(
        house.ask(&serve),
        1,
        "mqs: cannot serve: cannot listen: DIR/mqs.sock: a live process listens there already\n",
    );
    let (code, out, _) = house.ask(&["check", "--no-nodes", &house.path("mqs.toml")]);
    assert!(code == 0 && out.contains("taken by a live instance of mqs"), "{out}");
    assert_eq!(first.signal("KILL"), -1);
    assert!(Path::new(&house.path("mqs.sock")).exists());
    let (code, out, _) = house.ask(&["check", "--no-nodes", &house.path("mqs.toml")]);
    assert!(code == 0 && out.contains("left over by a dead process"), "{out}");
    let mut second = house.serve();
    assert_eq!(house.ask(&["node", "list"]).0, 0);
    assert_eq!(second.signal("INT"), 0);
    assert!(!Path::new(&house.path("mqs.sock")).exists());
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let house = House::new(NODES);
    let notify = UnixDatagram::bind(house.path("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut process = command()
        .args(["serve", "--config", &house.path("mqs.toml")])
        .env("NOTIFY_SOCKET", house.path("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 64];
    let told = notify.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
    assert_eq!(told.unwrap(), "READY=1");
    assert_eq!(house.ask(&["node", "list"]).0, 0, "ready is ready");
    assert_eq!(house.ask(&["reload", "--check"]).0, 0, "of which nobody is told");
    assert_eq!(house.ask(&["reload"]).0, 0);
    for wanted in ["RELOADING=1", "READY=1"] {
        let told = notify.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        assert_eq!(told.unwrap(), wanted);
    }
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    let told = notify.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
    assert_eq!(told.unwrap(), "STOPPING=1");
    assert!(process.wait().unwrap().success());
}

#[test]
fn over_tls_the_client_shows_its_token_and_checks_the_certificate() {
    let house = House::new(NODES);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(house.path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(house.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(
        house.path("other.pem"),
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap().cert.pem(),
    )
    .unwrap();
    fs::write(house.path("token"), "let-me-in-please\n").unwrap();
    fs::write(house.path("wrong"), "let-me-in-please!\n").unwrap();
    let dir = house.0.path().display();
    let text = fs::read_to_string(house.path("mqs.toml")).unwrap().replace(
        "http = [",
        &format!("token_file = \"{dir}/token\"\ntls = {{ cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }}\nhttp = [\"0.0.0.0:0\", "),
    );
    fs::write(house.path("mqs.toml"), text).unwrap();
    let service = house.serve();
    let ready = service.log.last().unwrap();
    let port = ready.split("http=0.0.0.0:").nth(1).unwrap().split([' ', '"']).next().unwrap();
    let url = format!("https://127.0.0.1:{port}");
    let ask = |ca: &str, token: &str| {
        let (ca, token) = (house.path(ca), house.path(token));
        house.ask(&["node", "list", "--url", &url, "--ca-file", &ca, "--token-file", &token])
    };
    let (code, out, err) = ask("cert.pem", "token");
    assert!(code == 0 && out.contains("ast1"), "{err}");
    let (code, _, err) = ask("cert.pem", "wrong");
    assert!(
        code == 1 && err.starts_with("mqs: cannot list the nodes: authorization: not the right token ("),
        "{err}"
    );
    let (code, _, err) = ask("other.pem", "token");
    assert!(code == 1 && err.contains("certificate"), "{err}");
}

#[test]
fn a_check_asks_the_nodes_and_names_whom_it_did_not_reach() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (well, ill) = (node(200), node(503));
    let mut nodes = String::new();
    for (id, place) in [("well", &well), ("ill", &ill), ("silent", &silent.local_addr().unwrap().to_string())]
    {
        nodes.push_str(&format!("[[pool.node]]\nid = \"{id}\"\nuri = \"sip:{place}\"\ncapacity = 1\n"));
    }
    nodes.push_str(
        "[[pool.node]]\nid = \"name\"\nuri = \"sip:no-such-host.invalid\"\ncapacity = 1\nstate = \"down\"\n",
    );
    nodes.push_str("[[pool.node]]\nid = \"ws\"\nuri = \"sip:127.0.0.1;transport=ws\"\ncapacity = 1\n");
    let house = House::new(&nodes);
    let (code, out, err) = house.ask(&["check", &house.path("mqs.toml")]);
    assert_eq!((code, err.as_str()), (1, "mqs: DIR/mqs.toml: 2 errors\n"), "{out}");
    let line = |which: &str| out.lines().find(|l| l.contains(&format!("default/{which} "))).unwrap();
    assert!(
        line("well").starts_with("ok ") && line("well").contains(&format!("{well} UDP: 200 Word, ")),
        "{out}"
    );
    assert!(
        line("ill").starts_with("error ") && line("ill").contains("503 Word: it takes no calls"),
        "{out}"
    );
    let place = silent.local_addr().unwrap();
    let said = format!("{place} UDP: OPTIONS: no answer within 1000 ms");
    assert!(line("silent").starts_with("error ") && line("silent").contains(&said), "{out}");
    assert!(
        line("name").starts_with("warn ") && line("name").contains("sip:no-such-host.invalid: "),
        "{out}"
    );
    assert!(line("ws").starts_with("warn ") && line("ws").contains("not asked"), "{out}");
    let json: Value =
        serde_json::from_str(&house.ask(&["check", "--json", &house.path("mqs.toml")]).1).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&2.into(), &2.into()));
}

/// A node that answers every request with this status.
fn node(code: u16) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Ok(Message::Request(request)) = sip::parse(&buffer[..length]) else { continue };
            let answer = Draft::response(&request, code, "Word", Some("t")).bytes(b"").unwrap();
            let _ = socket.send_to(&answer, peer);
        }
    });
    place
}

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
