//! What a configuration is told before it is used.

use super::house::*;
use mqs::wire::sip::{self, Draft, Message};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

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
