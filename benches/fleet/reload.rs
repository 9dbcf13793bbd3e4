//! What a reload of a thousand nodes takes in the real process, beside what it takes the place of: a restart.

use mqs::clock::Stopwatch;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const NODES: usize = 1000;
const RELOADS: usize = 20;
const RESTARTS: usize = 5;

/// Reloads that change every node, half of them, and none; and restarts with the same file.
pub fn measure() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut process = start(dir, 0);
    let reload = |config: &dyn Fn(usize) -> String| {
        let times = (0..RELOADS).map(|n| {
            fs::write(dir.join("mqs.toml"), config(n)).unwrap();
            let output = mqs(dir).args(["reload", "--json"]).output().unwrap();
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["waiting"], Value::Null);
            report["took_ms"].as_f64().unwrap()
        });
        summary(times.collect())
    };
    let all = reload(&|n| config(dir, 0, 900 + n + 1));
    let half = reload(&|n| config(dir, n % 2 * NODES / 2, 900));
    let none = reload(&|_| config(dir, 0, 900));
    let restarts = (0..RESTARTS).map(|n| {
        process.kill().unwrap();
        process.wait().unwrap();
        let clock = Stopwatch::start();
        process = start(dir, n);
        clock.elapsed().as_secs_f64() * 1000.0
    });
    let restarts = summary(restarts.collect());
    process.kill().unwrap();
    process.wait().unwrap();
    json!({
        "nodes": NODES,
        "store": "memory:",
        "reload_1000_nodes_ms": all,
        "reload_500_added_500_drained_ms": half,
        "reload_nothing_new_ms": none,
        "beside": {"restart_until_ready_ms": restarts, "lookups_while_restarting": "not answered"},
    })
}

fn config(dir: &Path, first: usize, capacity: usize) -> String {
    let mut text = format!(
        "[store]\nurl = \"memory:\"\n[listen]\nresp = [\"unix:{0}/mqs.sock\"]\nhttp = [\"unix:{0}/http.sock\"]\n\
         [[pool]]\nname = \"main\"\n[pool.health]\nprobe_every_ms = 0\n",
        dir.display()
    );
    for n in first..first + NODES {
        let uri = format!("sip:127.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250);
        text += &format!("[[pool.node]]\nid = \"ast{n}\"\nuri = \"{uri}\"\ncapacity = {capacity}\n");
    }
    text
}

fn mqs(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
    command.env("MQS_SOCKET", dir.join("http.sock"));
    command
}

/// Starts it, and waits until it says that it is ready.
fn start(dir: &Path, n: usize) -> Child {
    fs::write(dir.join("mqs.toml"), config(dir, 0, 900 + n)).unwrap();
    let mut command = mqs(dir);
    command.args(["serve", "--config"]).arg(dir.join("mqs.toml"));
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.contains(" ready ")));
    std::thread::spawn(move || lines.for_each(drop));
    process
}

fn summary(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| (times[((times.len() - 1) as f64 * share).round() as usize] * 10.0).round() / 10.0;
    json!({"p50": at(0.5), "max": at(1.0), "runs": times.len()})
}
