//! An instance while it runs: its log, its sockets, who is told of it, and what a reload changes.

use super::house::*;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
