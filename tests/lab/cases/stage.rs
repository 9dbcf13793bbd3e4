//! What the dispatch tests share: a Redis, helpers, Kamailios and nodes put together, and a judge.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::{now, wait_until};
use crate::relay::Relay;
use crate::resp::Reply;
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};
use crate::store::{Kind, Store};

pub const POOL: &str = "default";

/// How long a stand-in node rings.
const RINGING: Duration = Duration::from_millis(200);

const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// A stand-in node: what it does with calls, and how many it may carry.
pub struct Stand {
    pub scenario: &'static str,
    pub capacity: u32,
}

/// A large node at which nobody listens: connections to it are refused at once.
pub fn refusing(lab: &Lab) -> String {
    let at = lab.address();
    format!("[[pool.node]]\nid = \"gone\"\nuri = \"sip:{at}:5060;transport=tcp\"\ncapacity = 1000")
}

pub fn stands(scenario: &'static str, capacities: &[u32]) -> Vec<Stand> {
    capacities.iter().map(|capacity| Stand { scenario, capacity: *capacity }).collect()
}

/// Nodes, a store, and as many (Kamailio, helper) pairs as asked for.
pub struct Stage {
    pub store: Store,
    pub nodes: Vec<Sipp>,
    pub capacities: Vec<u32>,
    pub helpers: Vec<Mqs>,
    pub proxies: Vec<Kamailio>,
    pub callers: Vec<Ipv4Addr>,
    /// From each helper to Redis, where the plan asks for them.
    pub links: Vec<Relay>,
}

/// What differs between stages.
pub struct Plan<'a> {
    pub version: Version,
    pub pairs: usize,
    pub nodes: Vec<Stand>,
    /// Further lines of the pool's table.
    pub pool: &'a str,
    /// So many of the last nodes are a pool `spare` of their own.
    pub spare: usize,
    /// Further tables of the helper's configuration.
    pub helper: &'a str,
    /// Where the first Kamailio finds its helper; the helper's own socket where nothing is said.
    pub socket: Option<&'a Path>,
    pub defines: Vec<String>,
    pub http: bool,
    pub store: Kind,
    /// Each helper reaches Redis through a relay of its own.
    pub links: bool,
    /// What the first helper's process finds in its environment.
    pub environment: Vec<(String, String)>,
    /// Kamailio has the nodes in a list of its own, for when its helper is away.
    pub static_list: bool,
}

impl Plan<'_> {
    pub fn new(nodes: Vec<Stand>) -> Plan<'static> {
        Plan {
            version: Version::System,
            pairs: 1,
            nodes,
            pool: "",
            spare: 0,
            helper: "",
            socket: None,
            defines: Vec::new(),
            http: false,
            store: Kind::Alone,
            links: false,
            environment: Vec::new(),
            static_list: false,
        }
    }
}

impl Stage {
    pub fn set(lab: &Lab, plan: Plan<'_>) -> Result<Stage> {
        let store = Store::start(lab, plan.store)?;
        let mut nodes = Vec::new();
        for (stand, number) in plan.nodes.iter().zip(1..) {
            let node = sipp::callee(&format!("ast{number}"), Scenario::File(stand.scenario));
            nodes.push(node.hold(RINGING).start(lab)?);
        }
        let defined: Vec<Node> = nodes
            .iter()
            .zip(&plan.nodes)
            .zip(1..)
            .map(|((node, stand), number)| Node::new(&format!("ast{number}"), node.uri(), stand.capacity))
            .collect();
        let named: Vec<(String, Ipv4Addr)> =
            defined.iter().map(|n| n.id.clone()).zip(nodes.iter().map(Sipp::ip)).collect();
        let named: Vec<(&str, Ipv4Addr)> = named.iter().map(|(name, ip)| (name.as_str(), *ip)).collect();
        let mut stage = Stage {
            store,
            capacities: plan.nodes.iter().map(|stand| stand.capacity).collect(),
            nodes,
            helpers: Vec::new(),
            proxies: Vec::new(),
            callers: Vec::new(),
            links: Vec::new(),
        };
        let list: Vec<String> = stage.nodes.iter().map(|node| format!("1 {}\n", node.uri())).collect();
        let list = lab.write("dispatcher.list", &list.concat())?;
        for pair in 1..=plan.pairs {
            let mut nodes = defined.clone();
            let spare = nodes.split_off(nodes.len() - plan.spare);
            let mut pool = Pool::new(POOL, nodes);
            pool.extra = plan.pool.to_owned();
            let mut pools = vec![pool];
            if !spare.is_empty() {
                pools.push(Pool::new("spare", spare));
            }
            let mut store = stage.store.url();
            if plan.links {
                let listen = SocketAddrV4::new(lab.address(), 6379);
                stage.links.push(Relay::tcp(listen.into(), stage.store.alone()?.address())?);
                store = format!("redis://{listen}");
            }
            let mut config = MqsConfig::new(&format!("mqs{pair}"), store, pools);
            config.extra = plan.helper.to_owned();
            if pair == 1 {
                config.environment = plan.environment.clone();
            }
            let helper = Mqs::start(lab, config)?;
            let caller = lab.address();
            let socket = plan.socket.unwrap_or(helper.socket());
            let mut config = KamailioConfig::new(lab, &format!("k{pair}")).project(
                lab,
                plan.version,
                socket,
                &[caller],
                &named,
            )?;
            config.defines.extend(plan.defines.iter().cloned());
            if plan.static_list {
                let list = plan.version.sees(lab, &list)?;
                config = config.switch("WITH_MQS_STATIC").define("MQS_STATIC_LIST", list.display());
            }
            if plan.http {
                let url = format!("http://{}", helper.http_address());
                config = config.switch("WITH_MQS_HTTP").define("MQS_HTTP", url);
            }
            stage.proxies.push(Kamailio::start(lab, plan.version, config)?);
            stage.helpers.push(helper);
            stage.callers.push(caller);
        }
        Ok(stage)
    }

    /// A SIPp that calls through the pair of this number.
    pub fn call(&self, name: &str, pair: usize, scenario: &'static str) -> sipp::SippConfig {
        let from = SocketAddrV4::new(self.callers[pair], 5060);
        sipp::caller(name, Scenario::File(scenario), self.proxies[pair].address()).local(from).service("100")
    }

    /// The value of a metric's line at the first helper, 0 where there is none.
    pub fn counted(&self, line: &str) -> Result<u64> {
        let body = self.helpers[0].http("GET", "/metrics", None)?.body;
        let value = body.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(Ok(0), |text| text.parse().with_context(|| text.to_owned()))
    }

    /// Live leases by node, all counted at one moment by Redis itself.
    pub fn loads(&self) -> Result<Vec<u64>> {
        const COUNT: &str = "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) local out={} \
            for s=0,ARGV[1]-1 do local base=s*4398046511104 \
            out[#out+1]=redis.call('ZCOUNT',KEYS[1],'('..string.format('%.0f',base+now),'('..string.format('%.0f',base+4398046511104)) end \
            return out";
        let key = format!("{{mqs:p:{POOL}}}:own");
        let slots = self.nodes.len().to_string();
        match self.store.reader().eval(COUNT, &key, &slots)? {
            Reply::Array(counts) => counts.iter().map(|n| Ok(u64::try_from(n.integer()?)?)).collect(),
            other
            @ (Reply::Status(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Nil) => {
                anyhow::bail!("loads: {other:?}")
            }
        }
    }

    pub fn load(&self) -> Result<u64> {
        Ok(self.loads()?.iter().sum())
    }

    /// Leases that Redis knows of, live or ended.
    pub fn leases(&self) -> Result<u64> {
        let key = format!("{{mqs:p:{POOL}}}:lease");
        let count = self.store.reader().eval("return redis.call('HLEN',KEYS[1])", &key, "")?;
        Ok(u64::try_from(count.integer()?)?)
    }

    /// Call-IDs of the INVITEs that a node saw, each as often as it came (retransmissions apart).
    pub fn seen(&self, node: usize) -> Vec<String> {
        let of = |line: &String| {
            let mut words = line.split(' ');
            words.find(|w| *w == "event=invite")?;
            words.find_map(|w| w.strip_prefix("call_id=")).map(str::to_owned)
        };
        self.nodes[node].logs().iter().filter_map(of).collect()
    }

    /// While calls only arrive: the fullest node is never fuller than the emptiest one would be with one more.
    pub fn check_even(&self, loads: &[u64]) -> Result<()> {
        let pairs =
            || loads.iter().zip(&self.capacities).map(|(load, capacity)| (*load, u64::from(*capacity)));
        for (load, capacity) in pairs() {
            for (other, its) in pairs() {
                ensure!(load * its <= (other + 1) * capacity, "uneven: {loads:?} on {:?}", self.capacities);
            }
        }
        Ok(())
    }

    /// Takes samples until `calls` leases are live; each must be even. Returns how many were taken.
    pub fn watch_arrivals(&self, calls: u64, limit: Duration) -> Result<u32> {
        let (start, mut samples) = (now(), 0);
        loop {
            let loads = self.loads()?;
            self.check_even(&loads)?;
            samples += 1;
            let live: u64 = loads.iter().sum();
            if live == calls {
                return Ok(samples);
            }
            ensure!(start.elapsed() < limit, "{live} of {calls} calls are up after {limit:?}");
            std::thread::sleep(SAMPLE_EVERY);
        }
    }

    /// No lease is live any more; how long that took.
    pub fn wait_empty(&self, limit: Duration) -> Result<Duration> {
        let start = now();
        wait_until("no lease is live", limit, || Ok(self.load()? == 0))
            .with_context(|| format!("loads: {:?}", self.loads()))?;
        Ok(start.elapsed())
    }
}
