//! What the documents say of HTTP and of the metrics is what the server does.
//!
//! `MQS_BLESS=1 cargo test --test http_docs` writes the answers of today into `docs/control-protocol.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use mqs::domain::call::{DoneReason, TreatedFor};
use mqs::domain::offer::OfferEnd;
use mqs::domain::time::EpochMs;
use mqs::telemetry::metrics::{Metrics, NodeSample};
use mqs::telemetry::queue::QueueSample;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::http::Server;

fn document(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_http_section_is_answered_so() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return eprintln!("curl is not installed");
    }
    let server = Server::start().await;
    let (path, text) = document("control-protocol.md");
    let mut tokens = BTreeMap::<String, String>::new();
    let mut fresh = String::new();
    let mut examples = 0;
    let (mut in_section, mut in_block) = (false, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        fresh += &format!("{line}\n");
        in_section = if line.starts_with("## ") { line == "## HTTP" } else { in_section };
        in_block = if line.starts_with("```") { in_section && line == "```console" } else { in_block };
        let Some(first) = line.strip_prefix("$ ").filter(|_| in_block) else { continue };
        let begin = fresh.len() - line.len() - 1;
        let mut command = first.to_owned();
        while command.ends_with('\\') {
            let more = lines.next().unwrap();
            fresh += &format!("{more}\n");
            command = format!("{}{}", command.trim_end_matches('\\'), more.trim_start());
        }
        let mut said = Vec::new();
        while let Some(line) = lines.next_if(|l| !l.starts_with("$ ") && !l.starts_with("```")) {
            said.push(line);
        }
        let said = said.join("\n").trim_end().to_owned();
        // Written anew, a command names the token that the answer before it shows.
        let mut shown = fresh.split_off(begin);
        for (old, new) in &tokens {
            shown = shown.replace(old.as_str(), new);
        }
        fresh += &shown;
        let heard = run(&server, &command, &tokens);
        tokens.extend(tokens_in(&said).into_iter().zip(tokens_in(&heard)));
        if std::env::var_os("MQS_BLESS").is_some() {
            tokens.extend(tokens_in(&heard).into_iter().map(|t| (t.clone(), t)));
        } else {
            assert_eq!(masked(&said), masked(&heard), "{command}");
        }
        fresh += &format!("{heard}\n");
        if lines.peek().is_some_and(|l| l.starts_with("$ ")) {
            fresh += "\n";
        }
        examples += 1;
    }
    assert!(examples >= 20, "{examples} examples were found");
    if std::env::var_os("MQS_BLESS").is_some() {
        std::fs::write(path, fresh).unwrap();
    }
}

/// Runs a command of the document against this server, with the tokens of today.
fn run(server: &Server, command: &str, tokens: &BTreeMap<String, String>) -> String {
    let mut command = command.replace("/run/mqs/http.sock", server.socket.to_str().unwrap());
    command = command.replace("http://127.0.0.1:8088", &format!("http://{}", server.tcp));
    for (theirs, ours) in tokens {
        command = command.replace(theirs, ours);
    }
    let done = std::process::Command::new("sh")
        .arg("-c")
        .arg(command.replace("curl ", "curl -sS "))
        .output()
        .unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().replace('\r', "").trim_end().to_owned()
}

fn is_token(text: &str) -> bool {
    text.starts_with("m1.") && text.split('.').count() == 7
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
}

fn tokens_in(text: &str) -> Vec<String> {
    let bare = |piece: &str| {
        piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).to_owned()
    };
    pieces(text).map(bare).filter(|piece| is_token(piece)).collect()
}

/// Without what differs from run to run: tokens, times, dates, and how long a thing took.
fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for token in tokens_in(&text) {
        text = text.replace(&token, "TOKEN");
    }
    for key in
        ["\"at_ms\":", "\"took_us\":", "\"since_ms\":", "\"expires_ms\":", "\ndate: ", "\"instance\":\""]
    {
        let mut parts = text.split(key);
        let mut out = parts.next().unwrap_or("").to_owned();
        for part in parts {
            let end = if key.ends_with(' ') { part.find('\n') } else { part.find(['"', ',', '}']) };
            out += key;
            out += part.get(end.unwrap_or(part.len())..).unwrap_or("");
        }
        text = out;
    }
    text
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let metrics = Metrics::new();
    metrics.lookup("p", "routed", "http", Duration::from_micros(70));
    metrics.settle("done", "ended");
    metrics.store_error("pick", "timeout");
    metrics.batch("pick", 3);
    metrics.expired(1);
    metrics.degraded(Duration::from_secs(1));
    metrics.breaker("p", "open");
    metrics.leases("p", 1, 2);
    metrics.health_changed("p", "ejected");
    metrics.probe("p", true);
    metrics.redirect.answered("INVITE", 302);
    metrics.redirect.unanswered("ack");
    metrics.discovery().answer("p", "found");
    metrics.discovery().changes("p", "added", 1);
    metrics.discovery().nodes("p", 1);
    metrics.discovery().age("p", Duration::from_secs(1));
    metrics.admission().refused("p", true, "calls");
    metrics.admission().usage("p", "", 1, Some(2));
    metrics.admission().overflowed("p", "q");
    metrics.registration().heartbeat("p", "kept");
    metrics.registration().change("p", "joined");
    metrics.registration().nodes("p", "live", 1);
    metrics.cell().redeem("yes");
    metrics.cell().register("here");
    metrics.cell().own_call("begun");
    let (queue, node_id) = ("sales".parse().unwrap(), "n".parse().unwrap());
    metrics.cell().repaired("call-found", 1);
    metrics.cell().leads(true);
    metrics.cell().leader_changed("leads");
    metrics.cell().committed("done", Duration::from_millis(2));
    metrics.cell().matched(Duration::from_millis(3));
    metrics.cell().queue.show(&queue, &QueueSample::default());
    metrics.cell().queue.entered(&queue);
    metrics.cell().queue.offer_ended(&queue, OfferEnd::Taken);
    metrics.cell().queue.answered(&queue, Duration::from_secs(9));
    metrics.cell().queue.treated(&queue, TreatedFor::Full);
    metrics.cell().queue.ended(&queue, DoneReason::Abandoned);
    metrics.cell().ari.asked(&node_id, "done", Duration::from_millis(2));
    metrics.cell().ari.attached(&node_id);
    metrics.cell().ari.pinged(&node_id, Duration::from_millis(1));
    metrics.cell().ari.passed_over(&node_id, "unreadable");
    metrics.started(EpochMs(1));
    let _open = metrics.connection("resp", "unix");
    let (pool, node) = ("p".to_owned(), "n".to_owned());
    let rendered =
        metrics.render(&[NodeSample { pool, node, state: "active", health: "up", load: 1, capacity: 2 }]);
    let mut served = BTreeSet::new();
    for line in rendered.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        let name = match kind {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        let sample = if kind == "histogram" { format!("{family}_sum") } else { name.clone() };
        let is_it = |l: &&str| l.strip_prefix(&sample).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let sample = rendered.lines().find(is_it).unwrap_or_else(|| panic!("{sample}"));
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels: BTreeSet<_> =
            labels.split(',').filter_map(|l| Some(l.split_once('=')?.0.to_owned())).collect();
        served.insert((name, kind.to_owned(), labels));
    }
    let mut documented = BTreeSet::new();
    for row in document("metrics.md").1.lines().filter(|l| l.starts_with("| `mqs_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels =
            cells[3].split(',').map(|l| l.trim().trim_matches('`').to_owned()).filter(|l| !l.is_empty());
        documented.insert((cells[1].trim_matches('`').to_owned(), cells[2].to_owned(), labels.collect()));
        assert!(cells[4].len() > 10, "{row}");
    }
    assert_eq!(documented, served);
}
