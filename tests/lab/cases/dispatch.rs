//! Calls through real Kamailio, helpers and Redis to stand-in nodes: they spread evenly, over one proxy and over two, over RESP
//! and over HTTP; a real Asterisk takes them too.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::stage::{POOL, Plan, Stage, stands};
use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::wait_until;
use crate::parts::Part;
use crate::redis::Redis;
use crate::room::Lab;
use crate::sipp::{self, Scenario};

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];

pub const CASES: &[Case] = &[
    Case { name: "dispatch::spreads_2000_calls_over_unequal_nodes", needs: PARTS, run: one_proxy },
    Case { name: "dispatch::two_proxies_share_one_count", needs: PARTS, run: two_proxies },
    Case { name: "dispatch::over_http", needs: PARTS, run: over_http },
    Case { name: "dispatch::on_kamailio_6", needs: PARTS_NEW, run: on_kamailio_6 },
    Case {
        name: "dispatch::a_real_asterisk_answers_through_kamailio_6",
        needs: &[Part::Redis, Part::KamailioNew, Part::Sipp, Part::Asterisk],
        run: real_asterisk,
    },
];

/// 2,400 channels for 2,000 calls, and no two nodes alike.
const CAPACITIES: [u32; 4] = [300, 500, 700, 900];
const LIMIT: Duration = Duration::from_secs(90);
/// Longer than the arrivals take, so that for a while all calls are up.
const HOLD: Duration = Duration::from_secs(26);

fn one_proxy(lab: &Lab) -> Result<()> {
    spread(lab, Plan::new(stands("node.xml", &CAPACITIES)), 2000, 100, HOLD)
}

fn two_proxies(lab: &Lab) -> Result<()> {
    spread(lab, Plan { pairs: 2, ..Plan::new(stands("node.xml", &CAPACITIES)) }, 2000, 100, HOLD)
}

fn over_http(lab: &Lab) -> Result<()> {
    spread(lab, Plan { http: true, ..Plan::new(stands("node.xml", &CAPACITIES)) }, 2000, 100, HOLD)
}

fn on_kamailio_6(lab: &Lab) -> Result<()> {
    let plan = Plan { version: Version::New, ..Plan::new(stands("node.xml", &[30, 50, 70, 90])) };
    spread(lab, plan, 200, 50, Duration::from_secs(7))
}

/// Calls arrive at a steady rate, spread evenly over the proxies, stay up together for a while, and end.
fn spread(lab: &Lab, plan: Plan<'_>, calls: u32, rate: u32, hold: Duration) -> Result<()> {
    let pairs = u32::try_from(plan.pairs)?;
    let mut stage = Stage::set(lab, plan)?;
    let mut callers = Vec::new();
    for pair in 0..stage.proxies.len() {
        let call = stage.call(&format!("caller{pair}"), pair, "caller.xml");
        let (calls, rate) = (calls / pairs, rate / pairs);
        callers.push(call.calls(calls).rate(rate).limit(calls).hold(hold).start(lab)?);
    }
    let samples = stage.watch_arrivals(u64::from(calls), LIMIT)?;
    for caller in &mut callers {
        let stats = caller.success(LIMIT)?;
        ensure!(stats.successful() == u64::from(calls / pairs), "{stats:?}");
    }
    let residue_gone = stage.wait_empty(Duration::from_secs(5))?;

    // The nodes' own word: each call came once, and the shares are those of the capacities.
    let seen: Vec<Vec<String>> = (0..stage.nodes.len()).map(|node| stage.seen(node)).collect();
    let counts: Vec<u64> = seen.iter().map(|ids| ids.len() as u64).collect();
    let different: BTreeSet<&String> = seen.iter().flatten().collect();
    ensure!(different.len() == calls as usize, "{} different calls at the nodes", different.len());
    ensure!(counts.iter().sum::<u64>() == u64::from(calls), "a call came twice: {counts:?}");
    stage.check_even(&counts)?;
    ensure!(stage.leases()? == u64::from(calls), "{} leases for {calls} calls", stage.leases()?);
    println!(
        "    {calls} calls, {samples} samples even, nodes saw {counts:?}, no lease left after {residue_gone:?}"
    );
    for node in &mut stage.nodes {
        node.process.stop()?;
    }
    Ok(())
}

/// Two real Asterisks as nodes: calls are answered, counted, and gone when they are over.
fn real_asterisk(lab: &Lab) -> Result<()> {
    let redis = Redis::start(lab)?;
    let proxy = SocketAddrV4::new(lab.address(), 5060);
    let nodes = [
        Asterisk::start(lab, "ast1", &NodeConfig::behind(proxy))?,
        Asterisk::start(lab, "ast2", &NodeConfig::behind(proxy))?,
    ];
    let defined =
        nodes.iter().zip([20, 10]).map(|(node, capacity)| Node::new(node.id(), node.uri(), capacity));
    let mqs = Mqs::start(lab, MqsConfig::new("mqs1", redis.url(), vec![Pool::new(POOL, defined.collect())]))?;
    let caller_at = lab.address();
    let named: Vec<(&str, _)> = nodes.iter().map(|node| (node.id(), *node.sip().ip())).collect();
    let mut config = KamailioConfig::new(lab, "k1");
    config.address = proxy;
    let config = config.project(lab, Version::New, mqs.socket(), &[caller_at], &named)?;
    let kamailio = Kamailio::start(lab, Version::New, config)?;

    let call = sipp::caller("caller", Scenario::File("caller.xml"), kamailio.address());
    let call = call.local(SocketAddrV4::new(caller_at, 5060)).service("1234");
    let mut caller = call.calls(18).rate(6).hold(Duration::from_secs(6)).start(lab)?;
    wait_until("both Asterisks carry their shares", Duration::from_secs(20), || {
        let up = |node: &Asterisk| -> Result<usize> {
            Ok(node.channels()?.iter().filter(|channel| channel["state"] == "Up").count())
        };
        Ok((up(&nodes[0])?, up(&nodes[1])?) == (12, 6))
    })?;
    // Asterisk read the token that Kamailio passed on, and it is the one of a lease here.
    let channel = &nodes[0].channels()?[0];
    let lease = channel["channelvars"]["MQS_LEASE"].as_str().unwrap_or_default();
    ensure!(lease.starts_with("m1.default.ast1."), "the channel's lease: {channel}");
    let stats = caller.success(Duration::from_secs(30))?;
    ensure!(stats.successful() == 18, "{stats:?}");
    wait_until("no channel and no lease is left", Duration::from_secs(10), || {
        let list = mqs.call(&["NODES"])?;
        let free = list.matches("\"load\":0").count() == 2;
        Ok(free && nodes[0].channels()?.is_empty() && nodes[1].channels()?.is_empty())
    })
}
