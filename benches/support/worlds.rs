//! The same calls in two worlds: in one MQS chooses the nodes, in the other `dispatcher`.

use crate::Case;
use crate::kamailio::Kamailio;
use crate::mqs_server::{self, Mqs, MqsConfig, Pool};
use crate::phone::{CALLER_TAG, Caller, NODE_TAG, Node};
use crate::proxy::{NodeAt, Proxy, Way};
use crate::redis_server::Redis;
use crate::room::Lab;
use anyhow::Result;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long `dispatcher` counts a call, and MQS (its `call_max_s`), in seconds.
const FORGET_S: u32 = 7200;
const CALL_MAX_S: u32 = 14_400;

pub struct World<'a> {
    pub name: &'static str,
    lab: &'a Lab,
    proxies: Vec<Kamailio>,
    _helpers: Vec<Mqs>,
    _redis: Option<Redis>,
    nodes: Vec<Node>,
    capacities: Vec<u32>,
    callers: Vec<Caller>,
    calls: HashMap<usize, (usize, String)>,
    lost: HashMap<usize, (usize, String)>,
}

impl<'a> World<'a> {
    /// A helper beside each Kamailio, and a Redis that they share.
    pub fn with_mqs(lab: &'a Lab, case: &Case) -> Result<World<'a>> {
        let places = Places::new(lab, case);
        let redis = Redis::start_with(lab, &places.name("redis"), &[])?;
        let defined: Vec<mqs_server::Node> = places.nodes.iter().map(defined).collect();
        let mut helpers = Vec::new();
        for _ in case.shares {
            let pool = Pool::new("default", defined.clone());
            let mut config = MqsConfig::new(&places.name("mqs"), redis.url(), vec![pool]);
            config.extra = format!("[dispatch]\ncall_max_s = {}", (CALL_MAX_S / hours(case)).max(10));
            helpers.push(Mqs::start(lab, config)?);
        }
        let proxies = helpers.iter().map(|mqs| places.proxy(lab, Way::Resp(mqs))).collect::<Result<_>>()?;
        World::new("mqs", lab, places, proxies, helpers, Some(redis))
    }

    pub fn with_dispatcher(lab: &'a Lab, case: &Case) -> Result<World<'a>> {
        let places = Places::new(lab, case);
        let way = Way::CallLoad { forget_s: (FORGET_S / hours(case)).max(1) };
        let proxies = case.shares.iter().map(|_| places.proxy(lab, way)).collect::<Result<_>>()?;
        World::new("dispatcher", lab, places, proxies, Vec::new(), None)
    }

    fn new(
        name: &'static str,
        lab: &'a Lab,
        places: Places,
        proxies: Vec<Kamailio>,
        helpers: Vec<Mqs>,
        redis: Option<Redis>,
    ) -> Result<World<'a>> {
        let nodes =
            places.nodes.iter().map(|node| Node::start(node, Duration::ZERO)).collect::<Result<_>>()?;
        let callers = proxies
            .iter()
            .zip(1..)
            .map(|(proxy, number)| {
                Caller::start(SocketAddrV4::new(*places.caller.ip(), 5060 + number), proxy.address())
            })
            .collect::<Result<_>>()?;
        let capacities = places.nodes.iter().map(|node| node.capacity).collect();
        let (calls, lost) = (HashMap::new(), HashMap::new());
        let (_helpers, _redis) = (helpers, redis);
        Ok(World { name, lab, proxies, _helpers, _redis, nodes, capacities, callers, calls, lost })
    }

    pub fn dial(&mut self, call: usize, proxy: usize) {
        self.calls.insert(call, (proxy, self.callers[proxy].dial()));
    }

    /// Hangs up; `lost`: it is over at both ends, and no proxy hears of it.
    pub fn end(&mut self, call: usize, lost: bool) {
        let Some((proxy, id)) = self.calls.remove(&call) else { return };
        if lost {
            self.callers[proxy].forget(&id);
            for node in &self.nodes {
                node.forget(&id);
            }
            self.lost.insert(call, (proxy, id));
        } else {
            self.callers[proxy].hang_up(&id);
        }
    }

    /// Kamailio finds out that a lost call is over.
    pub fn find_out(&mut self, call: usize) -> Result<()> {
        let Some((proxy, id)) = self.lost.remove(&call) else { return Ok(()) };
        let words = ["dlg.terminate_dlg", id.as_str(), CALLER_TAG, NODE_TAG];
        self.proxies[proxy].rpc(self.lab, &words).map(drop)
    }

    /// A crash: nothing in its memory survives.
    pub fn restart_first(&mut self) -> Result<()> {
        let Some(proxy) = self.proxies.first_mut() else { return Ok(()) };
        proxy.process.kill()?;
        proxy.restart(self.lab)
    }

    pub fn refused(&self) -> u64 {
        self.callers.iter().map(Caller::refused).sum()
    }

    /// How many calls the emptiest node lacks, beyond one, to be as full as the fullest one; `None` while messages are on their way.
    pub fn gap(&self) -> Option<f64> {
        let quiet = || self.callers.iter().all(Caller::quiet);
        if !quiet() {
            return None;
        }
        let loads: Vec<usize> = self.nodes.iter().map(Node::load).collect();
        if !quiet() {
            return None;
        }
        Some(gap(&loads, &self.capacities))
    }
}

/// What cannot be done better: each call goes to the least occupied node, with nothing unknown and nothing late.
pub struct Ideal {
    loads: Vec<usize>,
    capacities: Vec<u32>,
    calls: HashMap<usize, usize>,
}

impl Ideal {
    pub fn new(case: &Case) -> Ideal {
        let capacities = case.capacities.to_vec();
        Ideal { loads: vec![0; capacities.len()], capacities, calls: HashMap::new() }
    }

    pub fn dial(&mut self, call: usize) {
        let after = |node: usize| (self.loads[node] + 1) as f64 / f64::from(self.capacities[node]);
        let nodes = 0..self.loads.len();
        let chosen = nodes.min_by(|a, b| after(*a).total_cmp(&after(*b))).expect("there are nodes");
        self.loads[chosen] += 1;
        self.calls.insert(call, chosen);
    }

    pub fn end(&mut self, call: usize) {
        if let Some(node) = self.calls.remove(&call) {
            self.loads[node] -= 1;
        }
    }

    pub fn gap(&self) -> f64 {
        gap(&self.loads, &self.capacities)
    }
}

fn gap(loads: &[usize], capacities: &[u32]) -> f64 {
    let pairs = || loads.iter().map(|load| *load as f64).zip(capacities.iter().map(|c| f64::from(*c)));
    let fullest = pairs().map(|(load, capacity)| load / capacity).fold(0.0, f64::max);
    let after = pairs().map(|(load, capacity)| ((load + 1.0) / capacity, capacity));
    let (least, capacity) = after.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are nodes");
    (fullest - least) * capacity
}

/// By how much the clock of forgotten calls runs faster.
fn hours(case: &Case) -> u32 {
    if case.clock >= 100 { case.clock } else { 1 }
}

fn defined(node: &NodeAt) -> mqs_server::Node {
    mqs_server::Node::new(&node.name, format!("sip:{}", node.address), node.capacity)
}

/// Where the parts of a world are.
struct Places {
    nodes: Vec<NodeAt>,
    caller: SocketAddrV4,
}

impl Places {
    fn new(lab: &Lab, case: &Case) -> Places {
        let node = |(number, capacity): (usize, &u32)| NodeAt {
            name: format!("ast{}", number + 1),
            address: SocketAddrV4::new(lab.address(), 5060),
            capacity: *capacity,
        };
        let nodes = case.capacities.iter().enumerate().map(node).collect();
        Places { nodes, caller: SocketAddrV4::new(lab.address(), 5060) }
    }

    /// A name that nothing else has.
    fn name(&self, kind: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("{kind}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    fn proxy(&self, lab: &Lab, way: Way) -> Result<Kamailio> {
        let callers = [*self.caller.ip()];
        let mut proxy = Proxy::new(&self.name("k"), way, &self.nodes, &callers);
        // Of use to MQS only; `dispatcher` finds a call by its Call-ID.
        proxy.defines.extend(["CHILDREN=2", "WITH_MQS_RR"].map(str::to_owned));
        proxy.start(lab)
    }
}
