//! `mqs node`: the nodes of a running instance, and changes to them.

use super::client::{Instance, read};
use super::condition::Told;
use super::output::{Cell, Look, Side, Table, colours, count, percent, plain, print};
use crate::clock::Stopwatch;
use crate::domain::id::{NodeId, PoolId, Tag, Zone};
use crate::domain::node::{CAPACITY_MAX, NodeState};
use crate::domain::uri::NodeUri;
use anyhow::{Context as _, bail};
use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  mqs node list
  mqs node add ast4 sip:10.0.0.4:5060 --capacity 900 --zone berlin
  mqs node set ast4 --capacity 600
  mqs node drain ast4 --wait --timeout 3600 && ssh ast4 reboot
  mqs node set ast4 --state active
  mqs node remove ast4";

/// List, add, change, drain and remove nodes
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(List),
    Add(Add),
    Set(Set),
    Drain(Drain),
    Remove(Remove),
}

/// Show the nodes with their load
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs node list\n  mqs node list --pool sales\n  mqs node list --json")]
struct List {
    /// Only this pool
    #[arg(long)]
    pool: Option<PoolId>,
    #[command(flatten)]
    common: Common,
}

/// Add a node
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs node add ast4 sip:10.0.0.4:5060 --capacity 900\n  \
    mqs node add ast5 sip:10.0.0.5 --capacity 900 --zone berlin --tag video --state draining")]
struct Add {
    /// Its name
    id: NodeId,
    /// Where it listens: sip:HOST, sip:HOST:PORT, sip:HOST;transport=tcp
    uri: NodeUri,
    /// Channels that it may carry at once
    #[arg(long, value_name = "CHANNELS", value_parser = capacity())]
    capacity: u32,
    /// Where it stands
    #[arg(long)]
    zone: Option<Zone>,
    /// What it can do; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// What it is asked to do
    #[arg(long, value_name = "STATE", value_parser = ["active", "draining", "down"], default_value = "active")]
    state: String,
    /// The pool [default: the first of the configuration]
    #[arg(long)]
    pool: Option<PoolId>,
    #[command(flatten)]
    common: Common,
}

/// Change a node; what is not named stays as it is
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs node set ast4 --capacity 600\n  mqs node set ast4 --state active\n  \
    mqs node set ast4 --no-zone --tag video --tag t38"
)]
#[command(
    override_usage = "mqs node set [OPTIONS] <ID> <--uri|--capacity|--zone|--no-zone|--tag|--no-tags|--state>"
)]
#[group(id = "change", required = true, multiple = true, args = ["uri", "capacity", "zone", "no_zone", "tags", "no_tags", "state"])]
struct Set {
    /// Its name
    id: NodeId,
    /// Where it listens
    #[arg(long)]
    uri: Option<NodeUri>,
    /// Channels that it may carry at once
    #[arg(long, value_name = "CHANNELS", value_parser = capacity())]
    capacity: Option<u32>,
    /// Where it stands
    #[arg(long, conflicts_with = "no_zone")]
    zone: Option<Zone>,
    /// It stands nowhere in particular
    #[arg(long)]
    no_zone: bool,
    /// What it can do, in place of what it could; may be given several times
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
    tags: Vec<Tag>,
    /// It can do nothing in particular
    #[arg(long)]
    no_tags: bool,
    /// What it is asked to do
    #[arg(long, value_name = "STATE", value_parser = ["active", "draining", "down"])]
    state: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Give a node no new calls; it keeps those that it has
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs node drain ast4\n  mqs node drain ast4 --wait\n  \
    mqs node drain ast4 --wait --timeout 3600 && ssh ast4 reboot\n\n\
    `mqs node set ast4 --state active` takes it back.")]
struct Drain {
    /// Its name
    id: NodeId,
    /// Return when it carries no call
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so many seconds, with exit code 1; it stays draining
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// Take a node out of its pool
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs node remove ast4\n  mqs node remove ast4 --force   also while it carries calls"
)]
struct Remove {
    /// Its name
    id: NodeId,
    /// Also while it carries calls; they are counted until they end
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
struct Place {
    /// Its pool [default: the only one that has a node of this name]
    #[arg(long)]
    pool: Option<PoolId>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

fn capacity() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(CAPACITY_MAX))
}

/// A node as the instance tells it.
#[derive(Debug, Deserialize)]
pub struct NodeInfo {
    /// The pool.
    pub pool: String,
    /// Its name.
    pub id: String,
    uri: String,
    /// Channels that it may carry.
    pub capacity: u32,
    zone: Option<String>,
    tags: Vec<String>,
    /// `active`, `draining`, `down`, `removed`.
    pub state: String,
    /// Live leases.
    pub load: u32,
    occupancy: f64,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    heartbeat_left_ms: Option<i64>,
    stale: bool,
    /// What calls and probes tell of it.
    pub health: String,
    health_why: String,
    overruled: bool,
}

impl NodeInfo {
    /// `ast1 is ejected: 3 calls in a row: no answer`
    pub fn health_line(&self) -> String {
        self.told().line(&self.id).unwrap_or_else(|| plain(&format!("{} is {}", self.id, self.health)))
    }

    /// State and health.
    pub(super) fn told(&self) -> Told<'_> {
        let NodeInfo { state, health, health_why: why, overruled, .. } = self;
        Told { state, health, why, overruled: *overruled }
    }

    /// Its zone, or a dash.
    pub fn zone(&self) -> &str {
        self.zone.as_deref().unwrap_or("-")
    }
}

#[derive(Deserialize)]
struct PoolInfo {
    name: String,
    default: bool,
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List(list) => list.run().await.context("cannot list the nodes")?,
        Verb::Add(add) => add.run().await.with_context(|| format!("cannot add node {}", add.id))?,
        Verb::Set(set) => set.run().await.with_context(|| format!("cannot change node {}", set.id))?,
        Verb::Drain(drain) => drain.run().await.with_context(|| format!("cannot drain node {}", drain.id))?,
        Verb::Remove(remove) => {
            remove.run().await.with_context(|| format!("cannot remove node {}", remove.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let path = match &self.pool {
            Some(pool) => format!("/v1/pools/{pool}/nodes"),
            None => "/v1/nodes".to_owned(),
        };
        let answer = self.common.instance.ask(Method::GET, &path, None).await?;
        self.common.show(&answer, |nodes: Vec<NodeInfo>| table(&nodes))
    }
}

impl Add {
    async fn run(&self) -> anyhow::Result<()> {
        let instance = &self.common.instance;
        let pool = match &self.pool {
            Some(pool) => pool.to_string(),
            None => {
                let pools: Vec<PoolInfo> = instance.get("/v1/pools").await?;
                let first = pools.into_iter().find(|p| p.default);
                first.context("the instance has no pool")?.name
            }
        };
        let body = json!({
            "id": self.id.as_str(), "uri": self.uri.as_str(), "capacity": self.capacity,
            "zone": self.zone.as_ref().map(Zone::as_str), "tags": tags(&self.tags), "state": self.state,
        });
        let answer = instance.ask(Method::POST, &format!("/v1/pools/{pool}/nodes"), Some(&body)).await?;
        self.common.show(&answer, |node: NodeInfo| format!("added {}\n", line(&node)))
    }
}

impl Set {
    async fn run(&self) -> anyhow::Result<()> {
        let answer = self.place.change(&self.id, &self.patch()).await?;
        self.place.common.show(&answer, |node: NodeInfo| format!("{}\n", line(&node)))
    }

    fn patch(&self) -> Value {
        let parts = [
            ("uri", self.uri.as_ref().map(|uri| json!(uri.as_str()))),
            ("capacity", self.capacity.map(|n| json!(n))),
            (
                "zone",
                if self.no_zone { Some(Value::Null) } else { self.zone.as_ref().map(|z| json!(z.as_str())) },
            ),
            ("tags", (self.no_tags || !self.tags.is_empty()).then(|| json!(tags(&self.tags)))),
            ("state", self.state.as_ref().map(|state| json!(state))),
        ];
        Value::Object(
            parts
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect::<Map<_, _>>(),
        )
    }
}

impl Drain {
    async fn run(&self) -> anyhow::Result<()> {
        let common = &self.place.common;
        let mut answer = self.place.change(&self.id, &json!({"state": NodeState::Draining.as_str()})).await?;
        if self.wait {
            answer = self.watch(answer).await?;
        }
        common.show(&answer, |node: NodeInfo| {
            let more = format!("; `mqs node drain {} --wait` returns when they are gone", self.id);
            match node.load {
                0 => format!("{} is drained: it carries no call\n", plain(&node.id)),
                n => format!("{} gets no new calls, and carries {n}{more}\n", plain(&node.id)),
            }
        })
    }

    /// Waits until the node carries nothing. The progress goes to standard error, so that standard output is the result.
    async fn watch(&self, mut answer: hyper::body::Bytes) -> anyhow::Result<hyper::body::Bytes> {
        let clock = Stopwatch::start();
        let on_terminal = std::io::stderr().is_terminal();
        let mut said = None;
        loop {
            let node: NodeInfo = read(&answer)?;
            if node.load == 0 && !node.stale {
                if on_terminal && said.is_some() {
                    eprint!("\r\x1b[K");
                }
                return Ok(answer);
            }
            let left = count(usize::try_from(node.load).unwrap_or(usize::MAX), "call");
            if node.state != NodeState::Draining.as_str() {
                bail!("somebody made it {} with {left} left", plain(&node.state));
            }
            let waited_s = clock.elapsed().as_secs();
            if on_terminal {
                eprint!("\r\x1b[K{}: {left} left, {waited_s} s", self.id);
            } else if said != Some(node.load) {
                eprintln!("{}: {left} left", self.id);
            }
            said = Some(node.load);
            if self.timeout.is_some_and(|limit_s| clock.elapsed() >= Duration::from_secs(limit_s)) {
                if on_terminal {
                    eprintln!();
                }
                bail!("{left} left after {waited_s} s; it stays draining");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let path = format!("/v1/pools/{}/nodes/{}", node.pool, self.id);
            answer = self.place.common.instance.ask(Method::GET, &path, None).await?;
        }
    }
}

impl Remove {
    async fn run(&self) -> anyhow::Result<()> {
        let pool = self.place.pool_of(&self.id).await?;
        let force = if self.force { "?force=true" } else { "" };
        let path = format!("/v1/pools/{pool}/nodes/{}{force}", self.id);
        self.place.common.instance.ask(Method::DELETE, &path, None).await?;
        let text = match self.place.common.json {
            true => format!("{}\n", json!({"pool": pool, "id": self.id.as_str(), "state": "removed"})),
            false => format!("removed {} from pool {pool}\n", self.id),
        };
        Ok(print(&text)?)
    }
}

impl Place {
    async fn change(&self, id: &NodeId, patch: &Value) -> anyhow::Result<hyper::body::Bytes> {
        let pool = self.pool_of(id).await?;
        self.common.instance.ask(Method::PATCH, &format!("/v1/pools/{pool}/nodes/{id}"), Some(patch)).await
    }

    async fn pool_of(&self, id: &NodeId) -> anyhow::Result<String> {
        if let Some(pool) = &self.pool {
            return Ok(pool.to_string());
        }
        let nodes: Vec<NodeInfo> = self.common.instance.get("/v1/nodes").await?;
        let mut pools: Vec<String> =
            nodes.into_iter().filter(|n| n.id == id.as_str()).map(|n| plain(&n.pool)).collect();
        match (pools.pop(), pools.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                bail!("pools {} and {last} have one each: name one with --pool", pools.join(", "))
            }
            (None, _) => bail!("no pool has a node of this name"),
        }
    }
}

impl Common {
    fn show<T: DeserializeOwned>(&self, answer: &[u8], text: impl FnOnce(T) -> String) -> anyhow::Result<()> {
        if self.json {
            return Ok(print(&super::route::as_it_came(answer)?)?);
        }
        Ok(print(&text(read(answer)?))?)
    }
}

fn tags(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}

fn line(node: &NodeInfo) -> String {
    let zone = node.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    let tags = if node.tags.is_empty() { String::new() } else { format!(", tags {}", node.tags.join(",")) };
    let NodeInfo { id, pool, uri, capacity, state, .. } = node;
    plain(&format!("{id} of pool {pool}: {uri}, capacity {capacity}{zone}{tags}, {state}"))
}

fn table(nodes: &[NodeInfo]) -> String {
    if nodes.is_empty() {
        return "No nodes. `mqs node add --help` says how to add one.\n".to_owned();
    }
    let mut columns = vec![
        ("POOL", Side::Left),
        ("NODE", Side::Left),
        ("ZONE", Side::Left),
        ("TAGS", Side::Left),
        ("STATE", Side::Left),
        ("LOAD", Side::Right),
        ("CAPACITY", Side::Right),
        ("OCCUPANCY", Side::Right),
        ("ADDRESS", Side::Left),
    ];
    // Said only where it says something.
    let sourced = nodes.iter().any(|n| n.source.is_some());
    columns.extend(sourced.then_some(("SOURCE", Side::Left)));
    let heard_of = nodes.iter().any(|n| n.heartbeat_left_ms.is_some());
    columns.extend(heard_of.then_some(("HEARTBEAT ENDS", Side::Right)));
    let mut table = Table::new(&columns);
    for node in nodes {
        let full = if node.load >= node.capacity { Look::Red } else { Look::Plain };
        let mut cells = vec![
            Cell::from(&node.pool),
            Cell::new(&node.id, Look::Bold),
            node.zone().into(),
            if node.tags.is_empty() { "-".into() } else { node.tags.join(",").into() },
            Cell::new(node.told().word(), node.told().look()),
            node.load.into(),
            node.capacity.into(),
            Cell::new(percent(node.occupancy), full),
            Cell::from(&node.uri),
        ];
        cells.extend(sourced.then(|| node.source.as_deref().unwrap_or("-").into()));
        cells.extend(heard_of.then(|| heartbeat_ends(node.heartbeat_left_ms)));
        table.row(cells);
    }
    let mut text = table.render(colours());
    for line in nodes.iter().filter_map(|node| node.told().line(&node.id)) {
        text.push_str(&format!("{line}\n"));
    }
    if nodes.iter().any(|n| n.stale) {
        text.push_str("The store is away: these numbers are old.\n");
    }
    text
}

/// `in 12 s`, `40 s ago`.
fn heartbeat_ends(left_ms: Option<i64>) -> Cell {
    let seconds = |ms: i64| ms.unsigned_abs().div_ceil(1000);
    match left_ms {
        Some(ms) if ms > 0 => Cell::from(format!("in {} s", seconds(ms))),
        Some(ms) => Cell::new(format!("{} s ago", seconds(ms)), Look::Yellow),
        None => "-".into(),
    }
}
