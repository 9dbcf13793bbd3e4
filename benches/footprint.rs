//! What one `mqs serve` takes: memory while idle, memory for 100,000 live leases, time from start to the first answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(dead_code)]

#[path = "../tests/lab/net.rs"]
mod net;
#[path = "../tests/lab/parts.rs"]
mod parts;
#[path = "../tests/lab/process.rs"]
mod process;
#[path = "../tests/lab/redis.rs"]
mod redis_server;
#[path = "../tests/lab/resp.rs"]
mod resp;
#[path = "../tests/lab/room.rs"]
mod room;
mod support;

use crate::parts::{Part, Parts};
use crate::process::Process;
use crate::redis_server::Redis;
use crate::resp::Resp;
use crate::room::Lab;
use ::mqs::clock::Stopwatch;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::{full_or_quick, median, round};

const LEASES: usize = 100_000;
/// Lookups on their way at once: they wait in the socket.
const WINDOW: usize = 200;
const NODES: usize = 20;
const CAPACITY: usize = 6_000;

fn main() -> Result<()> {
    if support::is_test() {
        return Ok(());
    }
    room::run("footprint", Arc::new(Parts::find()?), measure)?;
    room::wait_for_reaper();
    Ok(())
}

fn measure(lab: &Lab) -> Result<()> {
    let starts = full_or_quick(15, 5);
    let mut start_ms = Vec::new();
    for _ in 0..starts {
        start_ms.push(Helper::start(lab, "memory:")?.ready_ms);
    }
    let mut found = json!({"start_ms": round(median(start_ms)), "memory": {}});
    found["memory"]["embedded"] = memory(lab, "memory:")?;
    if lab.parts().get(Part::Redis).is_ok() {
        let redis = Redis::start(lab)?;
        found["memory"]["redis"] = memory(lab, &format!("redis+unix://{}", redis.socket().display()))?;
        found["memory"]["redis"]["redis_leases_mib"] = {
            let info = redis.call(&["INFO", "memory"])?;
            let bytes =
                info.text()?.lines().find_map(|l| l.strip_prefix("used_memory:")).context("used_memory")?;
            json!(round(bytes.trim().parse::<f64>()? / 1048576.0))
        };
    }
    // The names that the goals are stated in.
    found["memory"]["idle_rss_mib"] = found["memory"]["embedded"]["idle_rss_mib"].clone();
    found["memory"]["leases_100k_mib"] = found["memory"]["embedded"]["leases_100k_mib"].clone();
    println!("{found:#}");
    support::add(found);
    Ok(())
}

/// Resident memory while idle, and how much more it is with the leases.
fn memory(lab: &Lab, store: &str) -> Result<Value> {
    let leases = full_or_quick(LEASES, LEASES / 10);
    let helper = Helper::start(lab, store)?;
    // Its first rounds of looking at the store and of the steward are over.
    std::thread::sleep(Duration::from_secs(2));
    let idle = helper.resident_mib()?;
    let mut client = Resp::unix(&helper.socket)?;
    for first in (0..leases).step_by(WINDOW) {
        let mut tokens = Vec::new();
        for call in first..first + WINDOW {
            let id = format!("{call}-1f0e@192.0.2.7");
            client.send(&["ROUTE", &id, "sip:100@example.com", "ft=a1b2c3;cs=1;src=192.0.2.1:5060"])?;
        }
        for _ in 0..WINDOW {
            let reply = client.receive()?;
            let document: Value =
                serde_json::from_str(reply.text()?).with_context(|| format!("{reply:?}"))?;
            tokens.push(document["mqs"]["token"].as_str().context("a token")?.to_owned());
        }
        for token in &tokens {
            client.send(&["CONFIRM", token, "branch=0"])?;
        }
        for _ in &tokens {
            let reply = client.receive()?;
            ensure!(reply.text()?.starts_with("OK"), "{reply:?}");
        }
    }
    // Two seconds, in which every instance looks at the store's loads again.
    std::thread::sleep(Duration::from_secs(2));
    let nodes = net::http("GET", helper.http, "/v1/nodes", None, None)?;
    let live = sum_of_loads(&serde_json::from_str(&nodes.body)?);
    ensure!(live == leases as u64, "{live} of {leases} leases are live");
    let full = helper.resident_mib()?;
    Ok(json!({
        "idle_rss_mib": round(idle), "leases": leases, "leases_rss_mib": round(full),
        "leases_100k_mib": round(full - idle),
    }))
}

fn sum_of_loads(value: &Value) -> u64 {
    match value {
        Value::Object(fields) => fields
            .get("load")
            .and_then(Value::as_u64)
            .unwrap_or_else(|| fields.values().map(sum_of_loads).sum()),
        Value::Array(list) => list.iter().map(sum_of_loads).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

struct Helper {
    process: Process,
    socket: std::path::PathBuf,
    http: std::net::SocketAddr,
    ready_ms: f64,
}

impl Helper {
    /// Starts one and asks until a lookup is answered.
    fn start(lab: &Lab, store: &str) -> Result<Helper> {
        let (socket, http) = (lab.path("mqs.sock"), std::net::SocketAddr::from((lab.address(), 8080)));
        let secret = lab.write("secret", "0123456789abcdef0123456789abcdef\n")?;
        let mut text = format!(
            "[store]\nurl = {store:?}\ntimeout_ms = 1000\n[dispatch]\npick_deadline_ms = 1000\n[token]\nsecret_file = {secret:?}\n[listen]\nresp = [\"unix:{}\"]\nhttp = [\"{http}\"]\n[[pool]]\nname = \"default\"\n",
            socket.display(),
        );
        for node in 1..=NODES {
            text.push_str(&format!(
                "[[pool.node]]\nid = \"ast{node}\"\nuri = \"sip:127.0.1.{node}:5060\"\ncapacity = {CAPACITY}\n"
            ));
        }
        let config = lab.write("mqs.toml", &text)?;
        drop(std::fs::remove_file(&socket));
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        command.arg("serve").arg("--config").arg(config);
        let clock = Stopwatch::start();
        let mut process = Process::spawn(lab, "mqs", command)?;
        let ready_ms = loop {
            let asked = Resp::unix(&socket).and_then(|mut resp| {
                resp.call(&["ROUTE", "start@192.0.2.7", "sip:100@example.com", "ft=a;cs=1"])
            });
            match asked {
                Ok(reply) if reply.text().is_ok_and(|text| text.starts_with('{')) => {
                    break clock.elapsed().as_secs_f64() * 1e3;
                }
                Ok(reply) => ensure!(clock.elapsed() < Duration::from_secs(10), "{reply:?}"),
                Err(error) => {
                    process.check()?;
                    ensure!(clock.elapsed() < Duration::from_secs(10), "{error:#}");
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        // The lookup that showed it to be ready is no part of the rest.
        let mut client = Resp::unix(&socket)?;
        let reply = client.call(&["ROUTE", "start@192.0.2.7", "sip:100@example.com", "ft=a;cs=1"])?;
        let document: Value = serde_json::from_str(reply.text()?)?;
        client.call(&["DONE", document["mqs"]["token"].as_str().context("a token")?])?;
        Ok(Helper { process, socket, http, ready_ms })
    }

    fn resident_mib(&self) -> Result<f64> {
        Ok(self.process.usage()?.resident_kib as f64 / 1024.0)
    }
}
