//! A call centre: Redis, instances of MQS, Kamailios, Asterisks, phones of agents, callers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::domain::id::CellId;
use mqs::store::cell::{CellStore, Position};
use mqs::store::redis::{Options, RedisStore};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::asterisk::{Asterisk, NodeConfig};
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::wait_until;
use crate::parts::Part;
use crate::redis::Redis;
use crate::relay::Relay;
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};
use crate::store::{Kind, Store};
use crate::voice;

pub const LIMIT: Duration = Duration::from_secs(30);
pub const DOMAIN: &str = "pbx.example";

/// Of every agent's phone.
pub const SECRET: &str = "secret";

/// What is dialled for the queue `sales`.
pub const SALES: &str = "7000";

/// The same, before everybody else.
pub const URGENT: &str = "7001";

/// What is dialled for the queue `night`, which no configuration has.
pub const NIGHT: &str = "7002";

/// The leader asks each two seconds who is registered where.
const REGISTRATIONS_READ: Duration = Duration::from_millis(2500);

pub struct Plan<'a> {
    pub version: Version,
    pub nodes: usize,
    pub instances: usize,
    /// Kamailios; each has an instance beside it, as far as there are instances.
    pub proxies: usize,
    pub agents: usize,
    /// Further lines of `[[queue]]` for `sales`.
    pub queue: &'a str,
    /// Further lines of the pool's table.
    pub pool: &'a str,
    /// Further tables of the configuration.
    pub extra: &'a str,
    /// Further options of each node.
    pub node: &'a [&'a str],
    /// Further keys of `[cell]`.
    pub cell: &'a str,
    /// Further settings of each Kamailio, `NAME=VALUE`; `{address}` is its own.
    pub defines: &'a [&'a str],
    /// So many of the nodes connect to MQS by themselves, through a relay.
    pub inbound: usize,
    /// Nodes and Kamailios speak SIP over TCP to each other.
    pub tcp: bool,
    /// ARI goes through relays.
    pub relays: bool,
    /// Who waits hears music, not silence.
    pub music: bool,
    /// A master, a replica and three Sentinels, not a Redis alone.
    pub sentinels: bool,
    /// One instance keeps everything in a file, and there is no Redis.
    pub file: bool,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Plan {
            version: Version::System,
            nodes: 1,
            instances: 1,
            proxies: 1,
            agents: 1,
            queue: "",
            pool: "",
            extra: "",
            node: &[],
            cell: "",
            defines: &[],
            inbound: 0,
            tcp: false,
            relays: false,
            music: false,
            sentinels: false,
            file: false,
        }
    }
}

pub struct Floor<'a> {
    lab: &'a Lab,
    pub instances: Vec<Mqs>,
    pub proxies: Vec<Kamailio>,
    pub nodes: Vec<Asterisk>,
    /// Between nodes that connect by themselves and MQS.
    pub relay: Option<Relay>,
    /// Where instances listen for such nodes.
    own: Vec<SocketAddr>,
    /// To the ARI of each node, where the plan asks for them.
    pub links: Vec<Relay>,
    /// Whoever calls from here is a caller.
    pub trunk: Ipv4Addr,
    agents: usize,
    desk: Option<Desk>,
    made: u16,
    // The last to go: an instance that ends has something to say to it.
    store: Option<Store>,
}

/// Looks into the cell from outside.
struct Desk {
    runtime: Runtime,
    store: Arc<dyn CellStore>,
    cell: CellId,
}

/// Nodes that an instance has a connection with, by its own word.
pub fn attached(instance: &Mqs) -> usize {
    let log = instance.process.own_log_text();
    let times = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    times(": attached node=").saturating_sub(times("no longer attached"))
}

pub fn agent(number: usize) -> String {
    format!("agent{number}")
}

impl<'a> Floor<'a> {
    pub fn set(lab: &'a Lab, plan: &Plan<'_>) -> Result<Floor<'a>> {
        let kind = if plan.sentinels { Kind::Sentinel } else { Kind::Alone };
        let store = if plan.file { None } else { Some(Store::start(lab, kind)?) };
        let trunk = lab.address();
        let places: Vec<SocketAddrV4> =
            (0..plan.proxies).map(|_| SocketAddrV4::new(lab.address(), 5060)).collect();
        let mut floor = Floor {
            lab,
            desk: store.as_ref().map(Desk::at).transpose()?,
            store,
            instances: Vec::new(),
            proxies: Vec::new(),
            nodes: Vec::new(),
            relay: None,
            own: Vec::new(),
            links: Vec::new(),
            trunk,
            agents: plan.agents,
            made: 0,
        };
        floor.start_nodes(plan, &places)?;
        floor.start_instances(plan)?;
        floor.start_proxies(plan, &places)?;
        Ok(floor)
    }

    fn start_nodes(&mut self, plan: &Plan<'_>, proxies: &[SocketAddrV4]) -> Result<()> {
        let mut options = vec!["--queue".to_owned(), format!("{SALES}=sales")];
        options.extend(["--queue".to_owned(), format!("{URGENT}=sales,10")]);
        options.extend(plan.node.iter().map(|option| (*option).to_owned()));
        options.extend(["--queue".to_owned(), format!("{NIGHT}=night")]);
        if plan.music {
            let directory = self.lab.path("music");
            std::fs::create_dir_all(&directory)?;
            std::fs::write(directory.join("chord.ulaw"), voice::music())?;
            let seen = self.lab.parts().get(Part::Asterisk)?.sees(&directory)?;
            options.extend(["--music-dir".to_owned(), seen.display().to_string()]);
        }
        let front = SocketAddr::from((self.lab.address(), 8091));
        if plan.inbound > 0 {
            self.own = (0..plan.instances).map(|_| (self.lab.address(), 8090).into()).collect();
            self.relay = Some(Relay::tcp_in_turn(front, self.own.clone())?);
        }
        for number in 1..=plan.nodes {
            let mut options = options.clone();
            if number <= plan.inbound {
                options.extend(["--ari-connect".to_owned(), format!("ws://{front}/ari/ast{number}")]);
            }
            let mut kamailios = proxies.to_owned();
            if plan.tcp {
                let one = |(at, index)| ["--kamailio".to_owned(), format!("k{index}={at}/tcp")];
                options.extend(kamailios.drain(..).zip(1..).flat_map(one));
                // What connects to a loopback address without having been told another one comes from 127.0.0.1.
                options.extend(["--kamailio".to_owned(), "here=127.0.0.1/tcp".to_owned()]);
            }
            let config = NodeConfig { kamailios, options, ..NodeConfig::default() };
            self.nodes.push(Asterisk::start(self.lab, &format!("ast{number}"), &config)?);
        }
        Ok(())
    }

    fn start_instances(&mut self, plan: &Plan<'_>) -> Result<()> {
        let lab = self.lab;
        let secret = lab.write("ari.secret", self.nodes[0].ari_user().1)?;
        let mut defined = Vec::new();
        for (node, index) in self.nodes.iter().zip(0..) {
            let transport = if plan.tcp { ";transport=tcp" } else { "" };
            let mut known = Node::new(node.id(), format!("{}{transport}", node.uri()), 100);
            if index < plan.inbound {
                known.ari = Some("inbound".to_owned());
            }
            if plan.relays {
                let listen = SocketAddrV4::new(lab.address(), 8088);
                self.links.push(Relay::tcp(listen.into(), node.http())?);
                known.ari = Some(format!("http://{listen}"));
            }
            defined.push(known);
        }
        let ari =
            format!("[cell]\n{}\n\n[ari]\npassword_file = {:?}\n", plan.cell, secret.display().to_string());
        let mut extra = String::new();
        let _ = write!(extra, "[[queue]]\nid = \"sales\"\nwrap_up_s = 0\n{}\n\n", plan.queue);
        for number in 1..=plan.agents {
            let id = agent(number);
            let _ =
                write!(extra, "[[agent]]\nid = {id:?}\naor = \"{id}@{DOMAIN}\"\nqueues = [\"sales\"]\n\n");
        }
        extra.push_str(plan.extra);
        let store = match &self.store {
            Some(store) => store.url(),
            None => format!("file:{}", lab.path("mqs.redb").display()),
        };
        // The first to start leads, and is the last of the list: Kamailio's helper is the first of it.
        for number in (1..=plan.instances).rev() {
            let pool = Pool { extra: plan.pool.to_owned(), ..Pool::new("default", defined.clone()) };
            let own = self.own.get(number - 1).map(|own| format!("listen = [\"{own}\"]\n"));
            let config = MqsConfig {
                extra: format!("{ari}{}\n{extra}", own.unwrap_or_default()),
                ..MqsConfig::new(&format!("mqs{number}"), store.clone(), vec![pool])
            };
            self.instances.insert(0, Mqs::start(lab, config)?);
            if number == plan.instances {
                let leader = &self.instances[0];
                wait_until("every node is attached", LIMIT, || Ok(attached(leader) == plan.nodes))?;
            }
        }
        Ok(())
    }

    fn start_proxies(&mut self, plan: &Plan<'_>, places: &[SocketAddrV4]) -> Result<()> {
        let lab = self.lab;
        let named: Vec<(&str, Ipv4Addr)> =
            self.nodes.iter().map(|node| (node.id(), *node.sip().ip())).collect();
        for (place, index) in places.iter().zip(0_usize..) {
            let name = format!("k{}", index + 1);
            let helper = &self.instances[index.min(self.instances.len() - 1)];
            let mut config = KamailioConfig { address: *place, ..KamailioConfig::new(lab, &name) };
            if plan.tcp {
                config = config.switch("WITH_TCP").define("LISTEN_TCP", format!("tcp:{place}"));
            }
            let config = config.project(lab, plan.version, helper.socket(), &[self.trunk], &named)?;
            let config = config.define("SIP_DOMAIN", DOMAIN).define("MQS_PROXY_ID", &name);
            let own = place.ip().to_string();
            let further = plan.defines.iter().map(|define| define.replace("{address}", &own));
            let config = further.fold(config, |config, define| config.switch(&define));
            let proxy = Kamailio::start(lab, plan.version, config)?;
            self.proxies.push(proxy);
        }
        (1..=plan.agents).try_for_each(|number| self.know(&agent(number)))
    }

    /// Kamailio knows a phone of this name.
    pub fn know(&self, agent: &str) -> Result<()> {
        for proxy in &self.proxies {
            proxy.rpc(self.lab, &["htable.sets", "agent", agent, SECRET])?;
        }
        Ok(())
    }

    pub fn store(&mut self) -> Result<&mut Store> {
        self.store.as_mut().context("there is no Redis")
    }

    pub fn redis(&mut self) -> Result<&mut Redis> {
        self.store()?.alone()
    }

    /// Phones of all agents, at one address: what they do is in the scenario.
    pub fn phones(&mut self, scenario: Scenario, rings: Duration) -> Result<Sipp> {
        let agents: Vec<usize> = (1..=self.agents).collect();
        self.phones_for(&agents, scenario, rings)
    }

    /// Phones of some agents.
    pub fn phones_for(&mut self, agents: &[usize], scenario: Scenario, rings: Duration) -> Result<Sipp> {
        self.made += 1;
        let phones = sipp::callee(&format!("phones{}", self.made), scenario).hold(rings).start(self.lab)?;
        self.register_at(0, phones.local(), agents)?;
        Ok(phones)
    }

    /// All agents register, at these phones.
    pub fn register(&mut self, phones: &Sipp) -> Result<()> {
        let agents: Vec<usize> = (1..=self.agents).collect();
        self.register_at(0, phones.local(), &agents)
    }

    /// Agents register at the Kamailio of this index, and are reached at `phone`.
    pub fn register_at(&mut self, proxy: usize, phone: SocketAddrV4, agents: &[usize]) -> Result<()> {
        self.made += 1;
        let line = |number: &usize| {
            let agent = agent(*number);
            format!("{agent};{phone};[authentication username={agent} password={SECRET}]")
        };
        let lines: Vec<String> = agents.iter().map(line).collect();
        let (name, to) = (format!("register{}", self.made), self.proxies[proxy].address());
        let register = sipp::caller(&name, Scenario::File("agents-register.xml"), to);
        let register = register.local(SocketAddrV4::new(*phone.ip(), 5070 + self.made));
        let register = register.input(self.lab, &lines)?.key("domain", DOMAIN).key("expires", "3600");
        register.calls(u32::try_from(lines.len())?).rate(50).start(self.lab)?.success(LIMIT)?;
        Ok(())
    }

    /// The leader has read who is registered.
    pub fn registrations_are_read(&self) {
        std::thread::sleep(REGISTRATIONS_READ);
    }

    /// Kamailio forgets that an agent is registered, and tells nobody.
    pub fn forget(&self, number: usize) -> Result<()> {
        // usrloc tells agents apart by their user part.
        for proxy in &self.proxies {
            proxy.rpc(self.lab, &["ul.rm", "location", &agent(number)])?;
        }
        Ok(())
    }

    pub fn login(&self, agents: impl IntoIterator<Item = usize>) -> Result<()> {
        for number in agents {
            self.post(&agent(number), "login")?;
        }
        Ok(())
    }

    pub fn pause(&self, number: usize) -> Result<()> {
        self.post(&agent(number), "pause")
    }

    /// Logs in an agent by another name than [`agent`]'s.
    pub fn login_as(&self, id: &str) -> Result<()> {
        self.post(id, "login")
    }

    fn post(&self, id: &str, verb: &str) -> Result<()> {
        let (path, body) = (format!("/v1/agents/{id}/{verb}"), "{}");
        let mut answer = self.instances[0].http("POST", &path, Some(body))?;
        // "Say it again": on a busy machine the store may be late.
        if answer.status == 503 {
            answer = self.instances[0].http("POST", &path, Some(body))?;
        }
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        Ok(())
    }

    /// What is said of an agent.
    pub fn agent(&self, number: usize) -> Result<Value> {
        let answer = self.instances[0].http("GET", &format!("/v1/agents/{}", agent(number)), None)?;
        serde_json::from_str(&answer.body).with_context(|| answer.body)
    }

    pub fn wait_agent(&self, number: usize, state: &str) -> Result<()> {
        let what = format!("{} is {state}", agent(number));
        wait_until(&what, Duration::from_secs(10), || Ok(self.agent(number)?["state"] == state))
            .with_context(|| format!("{:?}", self.agent(number)))
    }

    /// An agent dials; what the phone has logged of it.
    pub fn dials(&mut self, number: usize, code: &str) -> Result<String> {
        let mut call = self.agent_call(number, code).start(self.lab)?;
        call.finish(LIMIT)?;
        Ok(call.logs().join("\n"))
    }

    /// A call that an agent makes.
    pub fn agent_call(&mut self, number: usize, to: &str) -> sipp::SippConfig {
        self.agent_call_by("agent-calls.xml", number, to)
    }

    /// The same, by this scenario.
    pub fn agent_call_by(&mut self, scenario: &'static str, number: usize, to: &str) -> sipp::SippConfig {
        self.made += 1;
        let (name, from) = (format!("dials{}", self.made), SocketAddrV4::new(self.lab.address(), 5060));
        let call = sipp::caller(&name, Scenario::File(scenario), self.proxies[0].address());
        let call = call.local(from).service(to).key("domain", DOMAIN).key("user", &agent(number));
        call.option("-au", &agent(number)).option("-ap", SECRET)
    }

    /// Callers into the queue, by this scenario, through the Kamailio of this index.
    pub fn call(&mut self, proxy: usize, scenario: &'static str) -> sipp::SippConfig {
        self.made += 1;
        let from = SocketAddrV4::new(self.trunk, 5060 + self.made);
        let name = format!("callers{}", self.made);
        let call = sipp::caller(&name, Scenario::File(scenario), self.proxies[proxy].address());
        call.local(from).service(SALES)
    }

    pub fn callers(&mut self, calls: u32, rate: u32, hold: Duration) -> Result<Sipp> {
        self.call(0, "caller.xml").hold(hold).calls(calls).rate(rate).start(self.lab)
    }

    /// Callers into the queue who never hang up first.
    pub fn waiting_callers(&mut self, calls: u32, rate: u32) -> Result<Sipp> {
        self.call(0, "caller-bye-from-node.xml").calls(calls).rate(rate).start(self.lab)
    }

    /// What has happened in the cell.
    pub fn events(&self) -> Result<Vec<Value>> {
        let Some(Desk { runtime, store, cell }) = &self.desk else { return self.told() };
        let told = runtime.block_on(store.outbox(cell, Position(0), 100_000))?;
        told.iter().map(|told| serde_json::from_str(&told.text).context("an event")).collect()
    }

    /// The same, as an instance tells it.
    pub fn told(&self) -> Result<Vec<Value>> {
        let answer = self.instances[0].http("GET", "/v1/events?after=0&follow=false", None)?;
        ensure!(answer.status == 200, "/v1/events: {} {}", answer.status, answer.body);
        let told = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
        told.map(|text| serde_json::from_str(text).with_context(|| format!("an event: {text}"))).collect()
    }

    pub fn count(&self, event: &str) -> Result<usize> {
        Ok(self.events()?.iter().filter(|e| e["event"] == event).count())
    }

    pub fn wait_for(&self, event: &str, count: usize, limit: Duration) -> Result<()> {
        let seen = wait_until(&format!("{count} × {event}"), limit, || Ok(self.count(event)? >= count));
        seen.with_context(|| {
            let mut counts = BTreeMap::<String, usize>::new();
            for event in self.events().unwrap_or_default() {
                *counts.entry(event["event"].to_string()).or_default() += 1;
            }
            format!("{counts:?}")
        })
    }

    pub fn is_empty(&self) -> Result<()> {
        wait_until("no channel is left", LIMIT, || {
            for node in &self.nodes {
                if !node.channels()?.is_empty() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        self.wait_for_load(0, LIMIT)
    }

    /// The leases of all nodes.
    pub fn load(&self) -> Result<u64> {
        let nodes: Value = serde_json::from_str(&self.instances[0].http("GET", "/v1/nodes", None)?.body)?;
        let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array()).cloned().unwrap_or_default();
        ensure!(!nodes.is_empty(), "no nodes");
        Ok(nodes.iter().filter_map(|node| node["load"].as_u64()).sum())
    }

    pub fn wait_for_load(&self, load: u64, limit: Duration) -> Result<()> {
        wait_until(&format!("there are {load} leases"), limit, || Ok(self.load()? == load))
    }
}

impl Desk {
    fn at(store: &Store) -> Result<Desk> {
        let runtime = Runtime::new()?;
        let store = {
            let _inside = runtime.enter();
            RedisStore::connect(&store.url(), Options { timeout: Duration::from_secs(1) })?
        };
        Ok(Desk { runtime, store: Arc::new(store), cell: "main".parse()? })
    }
}
