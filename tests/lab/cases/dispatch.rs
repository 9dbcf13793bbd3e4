//! Calls through real Kamailio, helpers and Redis to stand-in nodes: they spread evenly, over one proxy and over two, over RESP
//! and over HTTP; a real Asterisk takes them too.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::{POOL, Plan, Stage, stands};
use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::{now, wait_until};
use crate::parts::Part;
use crate::redis::Redis;
use crate::resp::Reply;
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};

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
    Case {
        name: "dispatch::leases_are_put_right_by_what_nodes_list",
        needs: &[Part::Redis, Part::KamailioNew, Part::Sipp, Part::Asterisk],
        run: leases_put_right,
    },
];

/// What runs each day. The same in other ways (over HTTP, through two Kamailios) takes turns.
pub const ALWAYS: &[&str] = &[
    "dispatch::spreads_2000_calls_over_unequal_nodes",
    "dispatch::on_kamailio_6",
    "dispatch::a_real_asterisk_answers_through_kamailio_6",
    "dispatch::leases_are_put_right_by_what_nodes_list",
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
    lab.tell(format!(
        "{calls} calls, {samples} samples even, nodes saw {counts:?}, no lease left after {residue_gone:?}"
    ));
    for node in &mut stage.nodes {
        node.process.stop()?;
    }
    Ok(())
}

/// Two real Asterisks, a Kamailio, and an instance that leads a cell of them: it holds leases against what the nodes list.
struct Floor {
    redis: Redis,
    nodes: [Asterisk; 2],
    mqs: Mqs,
    kamailio: Kamailio,
    caller_at: Ipv4Addr,
}

impl Floor {
    fn set(lab: &Lab) -> Result<Floor> {
        let redis = Redis::start(lab)?;
        let proxy = SocketAddrV4::new(lab.address(), 5060);
        let nodes = [
            Asterisk::start(lab, "ast1", &NodeConfig::behind(proxy))?,
            Asterisk::start(lab, "ast2", &NodeConfig::behind(proxy))?,
        ];
        let defined =
            nodes.iter().zip([20, 10]).map(|(node, capacity)| Node::new(node.id(), node.uri(), capacity));
        let secret = lab.write("ari.secret", nodes[0].ari_user().1)?;
        let cell = format!("[cell]\n[ari]\npassword_file = {:?}\n", secret.display().to_string());
        let config = MqsConfig {
            extra: format!("{cell}[[queue]]\nid = \"sales\"\n"),
            ..MqsConfig::new("mqs1", redis.url(), vec![Pool::new(POOL, defined.collect())])
        };
        let mqs = Mqs::start(lab, config)?;
        let caller_at = lab.address();
        let named: Vec<(&str, _)> = nodes.iter().map(|node| (node.id(), *node.sip().ip())).collect();
        let mut config = KamailioConfig::new(lab, "k1");
        config.address = proxy;
        let config = config.project(lab, Version::New, mqs.socket(), &[caller_at], &named)?;
        let kamailio = Kamailio::start(lab, Version::New, config)?;
        Ok(Floor { redis, nodes, mqs, kamailio, caller_at })
    }

    fn callers(&self, lab: &Lab, calls: u32, hold: Duration) -> Result<Sipp> {
        let call = sipp::caller("caller", Scenario::File("caller.xml"), self.kamailio.address());
        let call = call.local(SocketAddrV4::new(self.caller_at, 5060)).service("1234");
        call.calls(calls).rate(6).hold(hold).start(lab)
    }

    /// Answered calls at each node.
    fn up(&self) -> Result<[usize; 2]> {
        let up = |node: &Asterisk| -> Result<usize> {
            Ok(node.channels()?.iter().filter(|channel| channel["state"] == "Up").count())
        };
        Ok([up(&self.nodes[0])?, up(&self.nodes[1])?])
    }

    /// Leases that are counted at each node.
    fn loads(&self) -> Result<[u64; 2]> {
        let nodes: Value = serde_json::from_str(&self.mqs.call(&["NODES"])?)?;
        let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array()).context("no list of nodes")?;
        let load = |id: &str| {
            let node = nodes.iter().find(|node| node["id"] == id);
            node.and_then(|node| node["load"].as_u64()).with_context(|| format!("no load of {id}"))
        };
        Ok([load("ast1")?, load("ast2")?])
    }

    /// How many leases the nodes' lists have put right.
    fn repaired(&self, kind: &str) -> Result<u64> {
        let body = self.mqs.http("GET", "/metrics", None)?.body;
        let line = format!("mqs_repairs_total{{kind=\"{kind}\"}} ");
        body.lines().find_map(|l| l.strip_prefix(&line)).map_or(Ok(0), |count| Ok(count.parse()?))
    }

    fn is_empty(&self) -> Result<()> {
        wait_until("no channel and no lease is left", Duration::from_secs(10), || {
            let channels = self.nodes[0].channels()?.len() + self.nodes[1].channels()?.len();
            Ok(self.loads()? == [0, 0] && channels == 0)
        })
    }
}

/// Calls are answered, counted, and gone when they are over; the nodes' lists find nothing to put right.
fn real_asterisk(lab: &Lab) -> Result<()> {
    let floor = Floor::set(lab)?;
    let mut caller = floor.callers(lab, 18, Duration::from_secs(6))?;
    wait_until("both Asterisks carry their shares", Duration::from_secs(20), || Ok(floor.up()? == [12, 6]))?;
    // Asterisk read the token that Kamailio passed on, and it is the one of a lease here.
    let channel = &floor.nodes[0].channels()?[0];
    let lease = channel["channelvars"]["MQS_LEASE"].as_str().unwrap_or_default();
    ensure!(lease.starts_with("m1.default.ast1."), "the channel's lease: {channel}");
    let stats = caller.success(Duration::from_secs(30))?;
    ensure!(stats.successful() == 18, "{stats:?}");
    floor.is_empty()?;
    let wrong = (floor.repaired("lease-found")?, floor.repaired("lease-ended")?);
    ensure!(wrong == (0, 0), "leases found, and ended: {wrong:?}");
    Ok(())
}

/// One lease is gone from the store while its call is up, and another one is there that no call has. The instance that knew them was
/// killed: the next one has nothing but the nodes' lists to tell by, at once and 3 s later.
fn leases_put_right(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab)?;
    let mut caller = floor.callers(lab, 6, Duration::from_secs(30))?;
    wait_until("all calls are up", Duration::from_secs(10), || Ok(floor.up()? == [4, 2]))?;
    wait_until("all calls are counted", Duration::from_secs(5), || Ok(floor.loads()? == [4, 2]))?;
    let asked = floor.mqs.call(&["ROUTE", "nobody@host", "sip:1234@example.com", "ft=a1;cs=1"])?;
    let document: Value = serde_json::from_str(&asked)?;
    let token = document["mqs"]["token"].as_str().with_context(|| asked.clone())?;
    let confirmed = floor.mqs.call(&["CONFIRM", token, "branch=0"])?;
    ensure!(confirmed == "OK confirmed", "{confirmed}");
    let with_it = floor.loads()?;
    ensure!(with_it.iter().sum::<u64>() == 7, "{with_it:?}");
    floor.mqs.process.kill()?;
    let channels = floor.nodes[1].channels()?;
    let noted = channels.iter().find_map(|channel| channel["channelvars"]["MQS_LEASE"].as_str());
    let lease = noted.and_then(|token| token.split('.').nth(3)).context("no lease is noted")?;
    const FORGET: &str = "return redis.call('HDEL',KEYS[1],ARGV[1])+redis.call('ZREM',KEYS[2],ARGV[1])";
    let [leases, own] = ["lease", "own"].map(|key| format!("{{mqs:p:{POOL}}}:{key}"));
    let gone = floor.redis.call(&["EVAL", FORGET, "2", &leases, &own, lease])?;
    ensure!(gone == Reply::Integer(2), "{gone:?} of {lease}");
    let begun = now();
    floor.mqs.restart(lab)?;
    wait_until("leases and calls are the same", Duration::from_secs(20), || {
        Ok((floor.repaired("lease-found")?, floor.repaired("lease-ended")?) == (1, 1))
    })?;
    lab.tell(format!(
        "a lease found and one ended within {:.1} s of the start",
        begun.elapsed().as_secs_f64()
    ));
    ensure!(floor.up()? == [4, 2], "calls are over: the test shows nothing");
    ensure!(floor.loads()? == [4, 2], "{:?}", floor.loads()?);
    let stats = caller.success(Duration::from_secs(45))?;
    ensure!(stats.successful() == 6, "{stats:?}");
    floor.is_empty()?;
    let all = (floor.repaired("lease-found")?, floor.repaired("lease-ended")?);
    ensure!(all == (1, 1), "leases found, and ended: {all:?}");
    Ok(())
}
