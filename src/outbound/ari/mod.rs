//! A cell's nodes, driven over Asterisk's REST interface (ARI).
//!
//! * this file: the trait [`Nodes`] of the cell, over all nodes · [`side`]: one node, and what each effect asks of it
//! * [`survey`]: what can be seen of a node that nobody drives
//! * [`socket`]: its events · [`code`]: what agents dial · [`client`]: requests · [`place`]: where it is · [`holding`]: where callers hear music · [`order`]: what
//!   has to keep its order · [`often`]: how often something is said
//! * [`accept`]: a node that connects by itself · [`mod@line`]: requests over its connection

pub mod accept;
pub mod client;
pub mod code;
pub mod holding;
pub mod line;
pub mod often;
pub mod order;
pub mod place;
pub mod side;
pub mod socket;
pub mod survey;
#[cfg(test)]
mod tests;

use crate::cell::desk::Desk;
use crate::cell::pilot::Link;
use crate::cell::shell::{Acting, Helm, Nodes, Permit};
use crate::clock::Stopwatch;
use crate::domain::controller::{Effect, Listing, Outcome};
use crate::domain::id::{NodeId, PoolId};
use crate::domain::time::EpochMs;
use crate::outbound::trust::Trust;
use crate::telemetry::metrics::Metrics;
use crate::wire::ari::cost_of_lacking;
use crate::wire::ari::listing::{self, Everything, Subscribed};
use crate::wire::ari::request::{self, Request};
use accept::Came;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use client::{Answer, Client, NoAnswer, Tally};
use futures_util::StreamExt as _;
use holding::Shown;
use line::Line;
use order::Turn;
use place::{Place, Way};
use side::{Side, Sign};
use socket::{Inbox, PROBES_MAX, Probe, Probes, Socket};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Where a node's ARI is.
#[derive(Clone)]
pub struct Address {
    /// The node's pool.
    pub pool: PoolId,
    /// How it is reached.
    pub at: At,
}

/// How a node is reached.
#[derive(Clone)]
pub enum At {
    /// It has an HTTP server.
    Url {
        /// Its host.
        host: String,
        /// The port of its HTTP server.
        port: u16,
        /// With TLS: whose word on its certificate counts.
        trust: Option<Trust>,
    },
    /// It connects by itself: [`AriNodes::take`].
    Comes,
}

/// How nodes are talked to.
#[derive(Clone)]
pub struct Options {
    /// The application.
    pub app: Arc<str>,
    /// The ARI user.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// What a node shows that connects by itself; its name is its id.
    pub own_password: String,
    /// Of one request.
    pub timeout: Duration,
    /// Connections to one node, for requests.
    pub connections_max: usize,
    /// Signs the tokens of offers.
    pub sign: Sign,
    /// Told of every listing.
    pub seen: Seen,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Who carries out what agents dial; `None`: nobody.
    pub desk: Option<Arc<Desk>>,
}

/// Told what a node has, by its own word, and when it was asked.
pub type Seen = Arc<dyn Fn(&PoolId, &Everything, Stopwatch) + Send + Sync>;

/// Channels and bridges that are asked about at once, of a node that lists them one by one.
const LISTED_AT_ONCE: usize = 16;

/// The nodes of a cell.
pub struct AriNodes {
    options: Options,
    nodes: Mutex<BTreeMap<NodeId, Node>>,
}

struct Node {
    side: Arc<Side>,
    way: Arc<ArcSwap<Way>>,
    line: Arc<Line>,
    attached: Option<Attached>,
    /// It is one of those that are to be driven.
    named: bool,
}

struct Attached {
    probes: Probes,
    came: mpsc::Sender<Came>,
    task: JoinHandle<()>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AriNodes {
    /// No node yet.
    pub fn new(options: Options) -> AriNodes {
        AriNodes { options, nodes: Mutex::default() }
    }

    /// Where nodes are. A connection of before stays until it breaks, or the node connects.
    pub fn know(&self, addresses: BTreeMap<NodeId, Address>) {
        let mut nodes = self.nodes();
        nodes.retain(|id, node| {
            node.named = addresses.contains_key(id);
            if !node.named {
                self.options.metrics.cell().ari.forget(id);
            }
            // Whoever is on it is served to the end.
            node.named || node.attached.is_some()
        });
        for (id, address) in addresses {
            let Some(node) = nodes.get(&id) else {
                nodes.insert(id.clone(), self.node(id, address));
                continue;
            };
            if *node.side.pool() != address.pool {
                info!(node = %id, from = %node.side.pool(), to = %address.pool, "is in another pool now");
                node.side.move_to(address.pool);
            }
            if !is_so(&node.way.load(), &address.at) {
                node.way.store(Arc::new(self.way(address.at)));
            }
        }
    }

    /// Whether there is a connection for a node's events.
    pub fn is_attached(&self, node: &NodeId) -> bool {
        self.side(node).is_some_and(|side| side.attached.load(Ordering::Relaxed))
    }

    /// Asks a node; `None`: nobody knows it.
    pub async fn ask(&self, node: &NodeId, request: &Request) -> Option<Result<Answer, NoAnswer>> {
        let side = self.side(node)?;
        Some(side.client.ask(request).await)
    }

    fn way(&self, at: At) -> Way {
        match at {
            At::Url { host, port, trust } => {
                Way::At(Place::new(&host, port, trust, &self.options.user, &self.options.password))
            }
            At::Comes => Way::Comes,
        }
    }

    fn node(&self, id: NodeId, address: Address) -> Node {
        let Options { app, timeout, connections_max, sign, desk, metrics, .. } = &self.options;
        let way = Arc::new(ArcSwap::from_pointee(self.way(address.at)));
        let line = Arc::new(Line::default());
        let tally = Tally { metrics: metrics.clone(), node: id.clone() };
        let client = Client::new(way.clone(), line.clone(), *timeout, *connections_max, tally);
        let side = Side::new(id, address.pool, app.clone(), client, sign.clone(), desk.clone());
        Node { side: Arc::new(side), way, line, attached: None, named: true }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn side(&self, node: &NodeId) -> Option<Arc<Side>> {
        self.nodes().get(node).map(|node| node.side.clone())
    }
}

#[async_trait]
impl Nodes for AriNodes {
    fn attach(&self, node: &NodeId, helm: &Helm) {
        let mut nodes = self.nodes();
        let Some(found) = nodes.get_mut(node) else {
            warn!(%node, "nobody knows where it is");
            return;
        };
        let (probes, asked) = mpsc::channel(PROBES_MAX);
        self.options.metrics.cell().ari.away(node);
        let (came, comes) = mpsc::channel(1);
        let Node { side, way, line, .. } = &*found;
        let (side, way, line) = (side.clone(), way.clone(), line.clone());
        let socket = Socket { side, way, line, helm: helm.clone() };
        let task = tokio::spawn(socket.run(Inbox { probes: asked, came: comes }));
        found.attached = Some(Attached { probes, came, task });
    }

    fn detach(&self, node: &NodeId) {
        let mut nodes = self.nodes();
        let Some(found) = nodes.get_mut(node) else { return };
        found.attached = None;
        found.side.attached.store(false, Ordering::Relaxed);
        self.options.metrics.cell().ari.let_go(node);
        if !found.named {
            nodes.remove(node);
        }
    }

    async fn probe(&self, node: &NodeId, link: Link) -> bool {
        let probes = self.nodes().get(node).and_then(|node| Some(node.attached.as_ref()?.probes.clone()));
        let Some(probes) = probes else { return false };
        let (answered, answer) = oneshot::channel();
        probes.send(Probe { link, answered }).await.is_ok() && answer.await.is_ok()
    }

    fn act(&self, effect: Effect, permit: Permit) -> Acting {
        let Some(side) = self.side(effect.node()) else {
            return Box::pin(std::future::ready(Outcome::Unknown));
        };
        let mut turn = turn(&side, &effect);
        Box::pin(async move {
            turn.come().await;
            side.act(&effect, &permit).await
        })
    }

    async fn list(&self, node: &NodeId, begun: EpochMs) -> Option<Listing> {
        let side = self.side(node)?;
        let (asked, begun_here) = (Stopwatch::start(), side.holding().list());
        let comes = matches!(**side.client.way(), Way::Comes);
        let (channels, bridges) = if comes { piecemeal(&side).await? } else { at_once(&side).await? };
        let mut all = match read(&side, begun, channels, bridges).await? {
            Ok(all) => all,
            Err(error) => {
                warn!(%node, %error, "what it has cannot be read");
                return None;
            }
        };
        if all.odd > 0 {
            warn!(%node, odd = all.odd, "channels or bridges that cannot be made out are left alone");
        }
        if let Some(variable) = all.lacks {
            warn!(%node, variable, cost = cost_of_lacking(variable), "not among channelvars of ari.conf");
        }
        for (channel, arguments) in std::mem::take(&mut all.strangers) {
            side.turn_away(channel, &arguments);
        }
        // Piece by piece only bridges that somebody is in are seen.
        let holding = Shown { bridges: std::mem::take(&mut all.holding), whole: !comes };
        let needless = side.holding().seen(holding, begun_here);
        for bridge in needless {
            let side = side.clone();
            // If it fails, the next listing finds it again.
            tokio::spawn(async move { side.client.ask(&request::delete_bridge(&bridge)).await });
        }
        // Piece by piece only the application's channels are seen, and not all that the node has.
        if !comes && all.complete {
            (self.options.seen)(&side.pool(), &all, asked);
        }
        Some(all.listing)
    }
}

/// Reads what a node has, beside everything else: a large answer takes a while. `None`: an earlier one is still being read.
async fn read(
    side: &Arc<Side>,
    begun: EpochMs,
    channels: Vec<u8>,
    bridges: Vec<u8>,
) -> Option<Result<Everything, serde_json::Error>> {
    let reading = side.reading.clone().try_lock_owned().ok()?;
    let side = side.clone();
    let read = tokio::task::spawn_blocking(move || {
        let _reading = reading;
        listing::read(&side.id, &side.app, begun, &channels, &bridges)
    });
    // An error would be a panic, which was logged.
    read.await.ok()
}

/// All channels and all bridges of a node, in two answers.
async fn at_once(side: &Side) -> Option<(Vec<u8>, Vec<u8>)> {
    let (channels, bridges) = (request::channels(), request::bridges());
    let (channels, bridges) = tokio::join!(side.client.ask(&channels), side.client.ask(&bridges));
    Some((shown(side, channels)?.into(), shown(side, bridges)?.into()))
}

/// Those of the application, one by one. Asterisk builds a frame on the stack of its thread, of 480 kB: a larger answer over its own
/// connection is the end of the whole node, and of all calls that are on it.
async fn piecemeal(side: &Side) -> Option<(Vec<u8>, Vec<u8>)> {
    let application = shown(side, side.client.ask(&request::application(&side.app)).await)?;
    let subscribed = match Subscribed::read(&application) {
        Ok(subscribed) => subscribed,
        Err(error) => {
            warn!(node = %side.id, %error, "what it has cannot be read");
            return None;
        }
    };
    let channels = subscribed.channels.iter().map(request::channel).collect();
    let bridges = subscribed.bridges.iter().map(|bridge| request::bridge(bridge)).collect();
    // In this order: who is in a bridge was seen before as a channel.
    let channels = each(side, channels).await?;
    Some((channels, each(side, bridges).await?))
}

/// What a node shows; why it does not is said.
fn shown(side: &Side, asked: Result<Answer, NoAnswer>) -> Option<Bytes> {
    let node = &side.id;
    match asked {
        Ok(Answer::Done(body)) => return Some(body),
        Ok(Answer::Gone) => warn!(%node, status = 404, "does not say what it has"),
        Ok(Answer::Refused { status, said }) => warn!(%node, status, said, "does not say what it has"),
        Err(error) => warn!(%node, %error, "does not say what it has"),
    }
    None
}

/// The answers to these requests, as a list; what is gone meanwhile is not in it. `None`: one of them was not answered.
async fn each(side: &Side, requests: Vec<Request>) -> Option<Vec<u8>> {
    let asked =
        futures_util::stream::iter(requests).map(|request| async move { side.client.ask(&request).await });
    let mut asked = asked.buffer_unordered(LISTED_AT_ONCE);
    let mut told = Vec::new();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(Answer::Gone) => {}
            asked @ (Ok(Answer::Done(_) | Answer::Refused { .. }) | Err(_)) => told.push(shown(side, asked)?),
        }
    }
    Some(listing::together(&told))
}

fn is_so(way: &Way, at: &At) -> bool {
    match (way, at) {
        (Way::At(place), At::Url { host, port, trust }) => place.is_at(host, *port, trust.is_some()),
        (Way::Comes, At::Comes) => true,
        (Way::At(_), At::Comes) | (Way::Comes, At::Url { .. }) => false,
    }
}

/// A place in the lines of the channels that an effect concerns.
fn turn(side: &Side, effect: &Effect) -> Turn {
    match effect {
        Effect::Attend(attend) => side.order.queue(&[&attend.channel.id]),
        Effect::Join { caller, leg, .. } => side.order.queue(&[&caller.id, &leg.id]),
        Effect::Announce { leg, .. }
        | Effect::Hush { leg, .. }
        | Effect::DropLeg { leg, .. }
        | Effect::Tell { leg, .. } => side.order.queue(&[&leg.id]),
        Effect::Originate(originate) => side.order.queue(&[&originate.leg.id]),
        Effect::Continue { channel, .. } | Effect::HangUp { channel, .. } => side.order.queue(&[&channel.id]),
    }
}
