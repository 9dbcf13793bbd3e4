//! The house keeps its floors: a file imports only from lower floors, the pure rooms hold no word of I/O, files stay small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor, from the ground up. A room imports from lower floors and from itself.
const FLOORS: [&[&str]; 7] = [
    &["domain"],
    &["wire", "config", "telemetry", "clock"],
    &["store"],
    &["dispatch", "cell"],
    &["inbound", "outbound"],
    &["command"],
    &["lib", "main"],
];

/// Rooms of one floor that may nevertheless import each other, with the reason.
const NEIGHBOURS: [(&str, &str, &str); 0] = [];

const LINES_MAX: usize = 600;
const TOP_LINES_MAX: usize = 50;

/// Words that a pure room does not hold: clock, chance, sockets, files, tasks, order that differs from run to run.
const IMPURE: [&str; 15] = [
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "HashMap",
    "HashSet",
    "tokio",
    "async ",
    // Not "rand" alone: a strategy may be called "random", and draws by a hash of its arguments.
    "rand::",
    "getrandom",
    "tracing",
];

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inner = path.strip_prefix(&src).unwrap();
                let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
                let room = first.trim_end_matches(".rs").to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), room, path });
            }
        }
    }
    assert!(found.len() > 20, "only {} files: is this the right folder?", found.len());
    found
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Rooms that a text names by `crate::ROOM`, with the line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for part in line.split("crate::").skip(1) {
            let grouped = part.strip_prefix('{').map(|g| g.split('}').next().unwrap_or(g));
            let names: Vec<&str> = match grouped {
                Some(group) => group.split(',').map(str::trim).collect(),
                None => vec![part],
            };
            for name in names {
                let room: String = name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if !room.is_empty() {
                    found.push((number, room));
                }
            }
        }
    }
    found
}

/// What is wrong with the imports of one file.
fn upward(source: &Source) -> Vec<String> {
    let path = source.path.display();
    let Some(own) = floor(&source.room) else {
        return vec![format!("{path}: room {} has no floor", source.room)];
    };
    let mut wrong = Vec::new();
    for (line, room) in imports(&source.text) {
        let allowed = room == source.room
            || floor(&room).is_some_and(|f| f < own)
            || NEIGHBOURS.iter().any(|(from, to, _)| *from == source.room && *to == room);
        // `inbound` and `outbound` are one floor and do not see each other; within them, adapters share only `listen`.
        if !allowed && (floor(&room).is_some() || own < 6) {
            wrong.push(format!("{path}:{line}: {} (floor {own}) imports {room}", source.room));
        }
    }
    wrong
}

#[test]
fn files_import_from_lower_floors_only() {
    let wrong: Vec<String> = sources().iter().filter(|s| floor(&s.room) < Some(6)).flat_map(upward).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn adapters_do_not_see_each_other() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.room == "inbound" || s.room == "outbound") {
        let path = source.path.to_str().unwrap();
        let adapter =
            |name: &str| path.contains(&format!("/{name}/")) || path.ends_with(&format!("/{name}.rs"));
        for other in [
            "resp",
            "http",
            "sip",
            "nodes",
            "ari",
            "dns",
            "probe",
            "beanstalkd",
            "mysql",
            "warehouse",
            "webhook",
        ] {
            let named = ["crate::inbound::", "crate::outbound::"]
                .iter()
                .any(|p| source.text.contains(&format!("{p}{other}::")));
            if named && !adapter(other) {
                wrong.push(format!("{path}: names the adapter {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.to_str().unwrap();
        let pure =
            source.room == "domain" || path.ends_with("/cell/pilot.rs") || path.contains("/cell/pilot/");
        if !pure {
            continue;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            let code = line.split("//").next().unwrap_or("");
            // Parsing an address is not I/O.
            let code = code.replace("std::net::Ipv4Addr", "").replace("std::net::Ipv6Addr", "");
            for word in IMPURE {
                if code.contains(word) {
                    wrong.push(format!("{path}:{number}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_small() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let most = if source.room == "lib" || source.room == "main" { TOP_LINES_MAX } else { LINES_MAX };
        if lines > most {
            wrong.push(format!("{}: {lines} lines; at most {most}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn upward_imports_are_found() {
    let source =
        |room: &str, text: &str| Source { path: "x.rs".into(), room: room.into(), text: text.into() };
    assert_eq!(upward(&source("domain", "use crate::store::View;")).len(), 1);
    assert_eq!(upward(&source("wire", "use crate::{domain::id, store};")).len(), 1);
    assert_eq!(upward(&source("inbound", "use crate::outbound::dns;")).len(), 1);
    assert_eq!(upward(&source("dispatch", "use crate::store::View;\n// crate::command is above")).len(), 0);
}

/// Routes that a configuration calls, or those that it defines.
fn routes(file: &str, opens: &str, closes: char) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let named = lines.flat_map(|line| line.split(opens).skip(1).filter_map(|rest| rest.split_once(closes)));
    named.map(|(name, _)| name.to_owned()).collect()
}

/// `kamailio.cfg` is benchmarked beside itself with the dispatcher module in the place of MQS.
#[test]
fn whatever_stands_in_for_mqs_cfg_has_its_routes() {
    let called = routes("kamailio/kamailio.cfg", "route(", ')');
    let own = routes("kamailio/kamailio.cfg", "route[", ']');
    let foreign: Vec<&String> =
        called.iter().filter(|name| !name.is_empty() && !own.contains(name)).collect();
    assert!(foreign.len() > 5, "{foreign:?}");
    for file in ["kamailio/mqs.cfg", "benches/support/kamailio/dispatcher.cfg"] {
        let defined = routes(file, "route[", ']');
        let missing: Vec<&&String> = foreign.iter().filter(|name| !defined.contains(name)).collect();
        assert!(missing.is_empty(), "{file} has no {missing:?}");
    }
}
