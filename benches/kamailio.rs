//! What asking MQS costs a real Kamailio, beside its own `dispatcher`: calls a second, CPU a call, delay before it rings.
//!
//! The side that serves (Kamailio, mqs, Redis) has one core, the side that loads it (SIPp, or callers and nodes of this program)
//! the other. kamailio.cfg is the shipped one; the ways to choose take turns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(dead_code)]

#[path = "../tests/lab/kamailio.rs"]
mod kamailio;
#[path = "../tests/lab/mqs.rs"]
mod mqs_server;
#[path = "../tests/lab/net.rs"]
mod net;
#[path = "../tests/lab/parts.rs"]
mod parts;
#[path = "support/phone.rs"]
mod phone;
#[path = "../tests/lab/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "../tests/lab/redis.rs"]
mod redis_server;
#[path = "../tests/lab/resp.rs"]
mod resp;
#[path = "../tests/lab/room.rs"]
mod room;
#[path = "../tests/lab/sipp.rs"]
mod sipp;
mod support;

use crate::kamailio::Kamailio;
use crate::mqs_server::{Mqs, MqsConfig, Pool};
use crate::parts::{Part, Parts};
use crate::phone::{Caller, Node};
use crate::process::Process;
use crate::proxy::{NodeAt, Proxy, Way};
use crate::redis_server::Redis;
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};
use crate::support::{full_or_quick, median, quantile, round};
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SERVER_CORE: usize = 1;
const CLIENT_CORE: usize = 0;
/// Longer than any reply takes through the proxy, so that ringing is never overtaken by the answer.
const RINGS: Duration = Duration::from_millis(10);
const CALLER: &str = include_str!("support/kamailio/caller.xml");
const NODE: &str = include_str!("support/kamailio/node.xml");

fn main() -> Result<()> {
    if support::is_test() {
        return Ok(());
    }
    let parts = Parts::find()?;
    let needed = [Part::Kamailio, Part::Sipp, Part::Redis];
    let missing: Vec<String> = needed.iter().filter_map(|part| parts.why_missing(*part)).collect();
    if !missing.is_empty() {
        println!("skipped: {}", missing.join("; "));
        support::add(json!({"skipped_kamailio": missing}));
        return Ok(());
    }
    room::run("kamailio", Arc::new(parts), measure)?;
    room::wait_for_reaper();
    Ok(())
}

/// A Kamailio with its way to choose, and what was measured of it.
struct Case<'a> {
    name: &'static str,
    proxy: Kamailio,
    helpers: Vec<&'a Process>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    kamailio_us: Vec<f64>,
    helper_us: Vec<f64>,
    cps: Vec<f64>,
}

fn measure(lab: &Lab) -> Result<()> {
    let address = |_| SocketAddrV4::new(lab.address(), 5060);
    let nodes: Vec<NodeAt> =
        (1..=4).map(|n| NodeAt { name: format!("ast{n}"), address: address(n), capacity: 8000 }).collect();
    let caller = SocketAddrV4::new(lab.address(), 5060);
    support::pin(SERVER_CORE);
    let redis = Redis::start(lab)?;
    let helper = |name: &str, store: String| {
        let nodes =
            nodes.iter().map(|n| mqs_server::Node::new(&n.name, format!("sip:{}", n.address), n.capacity));
        Mqs::start(lab, MqsConfig::new(name, store, vec![Pool::new("default", nodes.collect())]))
    };
    let (memory, for_http) = (helper("mqs1", "memory:".into())?, helper("mqs2", "memory:".into())?);
    let shared = helper("mqs3", format!("redis+unix://{}", redis.socket().display()))?;
    let callers: [Ipv4Addr; 1] = [*caller.ip()];
    let case = |name: &'static str, way: Way, helpers: Vec<_>| -> Result<Case> {
        let mut proxy = Proxy::new(name, way, &nodes, &callers);
        proxy.defines.push("CHILDREN=4".to_owned());
        let proxy = proxy.start(lab)?;
        let (p50, p99, cps) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Case { name, proxy, helpers, p50, p99, kamailio_us: Vec::new(), helper_us: Vec::new(), cps })
    };
    let mut cases = vec![
        case("in_turn", Way::InTurn, vec![])?,
        case("dispatcher", Way::CallLoad { forget_s: 7200 }, vec![])?,
        case("resp", Way::Resp(&memory), vec![&memory.process])?,
        case("http", Way::Http(&for_http), vec![&for_http.process])?,
        case("resp_redis", Way::Resp(&shared), vec![&shared.process, &redis.process])?,
    ];
    support::pin(CLIENT_CORE);
    let rounds = full_or_quick(3, 1);
    {
        let _nodes: Vec<Node> = nodes.iter().map(|node| Node::start(node, RINGS)).collect::<Result<_>>()?;
        for _ in 0..rounds {
            for case in &mut cases {
                case.delays(caller)?;
            }
        }
    }
    let _nodes: Vec<Sipp> = nodes
        .iter()
        .map(|node| sipp::callee(&node.name, Scenario::Text(NODE)).local(node.address).start(lab))
        .collect::<Result<_>>()?;
    for _ in 0..full_or_quick(3, 1) {
        for case in &mut cases {
            case.cpu(lab, caller)?;
        }
        for case in &mut cases[1..] {
            case.highest(lab, caller)?;
            eprintln!("{}: {:?} calls/s", case.name, case.cps);
        }
    }
    let found = report(&cases);
    println!("{found:#}");
    support::add(found);
    Ok(())
}

fn report(cases: &[Case]) -> Value {
    let middle = |values: &[f64]| median(values.iter().copied());
    let mut all = Map::new();
    for case in cases {
        let added = |own: &[f64], base: &[f64]| round(median(own.iter().zip(base).map(|(a, b)| a - b)) / 1e3);
        let mut figures = json!({
            "delay_p50_ms": round(middle(&case.p50) / 1e3), "delay_p99_ms": round(middle(&case.p99) / 1e3),
            "added_p50_ms": added(&case.p50, &cases[0].p50), "added_p99_ms": added(&case.p99, &cases[0].p99),
            "kamailio_cpu_us_a_call": round(middle(&case.kamailio_us)),
            "helper_cpu_us_a_call": round(middle(&case.helper_us)),
        });
        if !case.cps.is_empty() {
            figures["clean_cps"] = json!(round(middle(&case.cps)));
            figures["clean_cps_rounds"] = json!(case.cps.iter().map(|r| round(*r)).collect::<Vec<_>>());
        }
        all.insert(case.name.to_owned(), figures);
    }
    let over = |name: &str| {
        let of = |name: &str| cases.iter().find(|case| case.name == name).expect("a case");
        round(median(of(name).cps.iter().zip(&of("dispatcher").cps).map(|(a, b)| a / b)))
    };
    json!({
        "kamailio": all,
        "ratios": {
            "kamailio_cps_mqs_over_dispatcher": over("resp"),
            "kamailio_cps_mqs_redis_over_dispatcher": over("resp_redis"),
            "kamailio_cps_mqs_http_over_dispatcher": over("http"),
        },
    })
}

impl Case<'_> {
    /// From INVITE to 180, one call at a time.
    fn delays(&mut self, from: SocketAddrV4) -> Result<()> {
        let caller = Caller::start(from, self.proxy.address())?;
        let calls = full_or_quick(300, 100);
        for _ in 0..calls {
            let id = caller.dial();
            net::wait_until("an answer", Duration::from_secs(5), || Ok(caller.quiet()))?;
            anyhow::ensure!(caller.hang_up(&id), "{}: the call was refused", self.name);
            net::wait_until("the end", Duration::from_secs(5), || Ok(caller.quiet()))?;
        }
        let took = caller.take_delays();
        self.p50.push(quantile(took.iter().copied(), 0.5));
        self.p99.push(quantile(took, 0.99));
        Ok(())
    }

    /// CPU of Kamailio, and of what helps it, at a load that does not fill the core.
    fn cpu(&mut self, lab: &Lab, from: SocketAddrV4) -> Result<()> {
        let used = |process: &Process| cpu_us(process.pid());
        let helpers = |case: &Case| case.helpers.iter().map(|process| used(process)).sum::<f64>();
        let before = (used(&self.proxy.process), helpers(self));
        let tried = self.try_rate(lab, from, 300.0, full_or_quick(4.0, 2.0))?;
        std::thread::sleep(Duration::from_millis(300));
        let after = (used(&self.proxy.process), helpers(self));
        self.kamailio_us.push((after.0 - before.0) / tried.calls);
        self.helper_us.push((after.1 - before.1) / tried.calls);
        Ok(())
    }

    /// The highest rate at which no call fails and (almost) nothing is sent twice, to 4 %.
    fn highest(&mut self, lab: &Lab, from: SocketAddrV4) -> Result<()> {
        const STEP: f64 = 1.04;
        let seconds = full_or_quick(2.5, 1.5);
        let clean = |rate: f64| Ok::<bool, anyhow::Error>(self.try_rate(lab, from, rate, seconds)?.clean);
        let start = self.cps.last().copied();
        let (mut low, mut high) = match start {
            // From where the last round ended.
            Some(rate) => (rate / STEP / STEP, rate * STEP * STEP),
            None => (400.0, 4000.0),
        };
        while start.is_some() && !clean(low)? {
            (low, high) = (low / 1.2, low);
        }
        while start.is_some() && clean(high)? {
            (low, high) = (high, high * 1.2);
        }
        while high / low > STEP {
            let rate = (low * high).sqrt();
            if clean(rate)? {
                low = rate;
            } else {
                high = rate;
            }
        }
        self.cps.push(low);
        Ok(())
    }

    fn try_rate(&self, lab: &Lab, from: SocketAddrV4, rate: f64, seconds: f64) -> Result<Tried> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("caller{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let calls = rate * seconds;
        let caller = sipp::caller(&name, Scenario::Text(CALLER), self.proxy.address()).local(from);
        let caller = caller.service("100").calls(calls as u32).rate(rate as u32).limit(100_000);
        let mut caller = caller.option("-recv_timeout", "3000").option("-d", "0").start(lab)?;
        let stats = caller.finish(Duration::from_secs(60))?;
        let reached: f64 = stats.text("CallRate(C)").parse().unwrap_or(0.0);
        let clean = stats.failed() == 0
            && stats.successful() as f64 >= calls - 1.0
            && stats.retransmissions() as f64 <= calls / 500.0
            && reached >= 0.9 * rate;
        if !clean {
            // What an overload left behind is sent again for a while.
            std::thread::sleep(Duration::from_secs(1));
        }
        if std::env::var_os("MQS_BENCH_VERBOSE").is_some() {
            let (failed, again) = (stats.failed(), stats.retransmissions());
            eprintln!("{} {rate:.0}/s: {reached:.0}/s, {failed} failed, {again} sent again", self.name);
        }
        Ok(Tried { calls, clean })
    }
}

struct Tried {
    calls: f64,
    clean: bool,
}

/// CPU time that a process group has used, in µs, from the scheduler's own books: they have no ticks.
fn cpu_us(group: u32) -> f64 {
    let Ok(all) = std::fs::read_dir("/proc") else { return f64::NAN };
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let own = stat.rsplit(')').next()?.split_whitespace().nth(2)?;
        if own != group.to_string() {
            return None;
        }
        let threads = std::fs::read_dir(path.join("task")).ok()?;
        let used = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        Some(used.sum::<f64>() / 1e3)
    };
    all.filter_map(of).sum()
}
