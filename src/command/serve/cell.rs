//! The queue's part of the service: this instance stands for the leadership of its cell, and drives the nodes while it has it.
//!
//! Which nodes there are, and which of them are dead, is what the dispatcher knows: nodes of the file, those that the DNS names and
//! those that register themselves are driven alike.

use crate::cell::desk::Desk;
use crate::cell::pilot::{Input, Settings};
use crate::cell::shell::Running;
use crate::cell::watch::Counting;
use crate::config::{Ari, CellConfig, Config, Listen};
use crate::dispatch::cell::Cell;
use crate::dispatch::repair::Carries;
use crate::dispatch::{Dispatcher, shown};
use crate::domain::controller::Originate;
use crate::domain::health::Condition;
use crate::domain::id::{CellId, NodeId, PoolId};
use crate::domain::queue::Setup;
use crate::inbound::listen::{Listener, Peer};
use crate::outbound::ari::side::Sign;
use crate::outbound::ari::{Address, AriNodes, At, Options, Seen};
use crate::outbound::trust::Trust;
use crate::store::cell::CellStore;
use crate::wire::offer_token::OfferToken;
use crate::wire::token::Secret;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The queue of a cell, on this instance.
pub struct Queue {
    config: watch::Receiver<Arc<Config>>,
    trust: Trust,
    dispatcher: Arc<Dispatcher>,
    ari: Arc<AriNodes>,
    running: Running,
    setup: Arc<ArcSwap<Setup>>,
}

/// What is started, before the listeners are.
pub struct Started {
    /// To be run.
    pub queue: Queue,
    /// To be told what a reload changes.
    pub changed: Changed,
    /// What people and programs are shown, and ask for.
    pub desk: Arc<Desk>,
    /// To be given the connections that nodes make by themselves.
    pub nodes: Arc<AriNodes>,
}

/// Where a reload says what has changed.
pub type Changed = watch::Sender<Arc<Config>>;

/// A node that is driven.
type Driven = (PoolId, Ari);

/// Starts it. `None`: the configuration has no cell.
pub fn start(
    config: &Config,
    dispatcher: &Arc<Dispatcher>,
    store: Arc<dyn CellStore>,
) -> anyhow::Result<Option<Started>> {
    let Some(cell) = &config.cell else { return Ok(None) };
    let password = super::word_of("ari.password_file", &cell.ari.password_file)?;
    let own_password = match &cell.ari.inbound_password_file {
        Some(file) => super::word_of("ari.inbound_password_file", file)?,
        None => password.clone(),
    };
    let trust = Trust::load(cell.ari.ca_file.as_deref()).context("ari.ca_file")?;
    dispatcher.serve_cell(Cell { id: cell.id.clone(), store: store.clone() });
    let setup = Arc::new(ArcSwap::new(cell.setup.clone()));
    let desk = Arc::new(Desk::new(cell.id.clone(), store.clone(), setup.clone()));
    let options = Options {
        app: cell.ari.app.as_str().into(),
        user: cell.ari.user.clone(),
        password: password.to_string(),
        own_password: own_password.to_string(),
        timeout: Duration::from_millis(cell.ari.timeout_ms),
        connections_max: cell.ari.connections_max,
        sign: signer(cell.id.clone(), dispatcher.settings().secret.clone()),
        seen: repairer(dispatcher),
        metrics: dispatcher.metrics().clone(),
        desk: Some(desk.clone()),
    };
    let ari = Arc::new(AriNodes::new(options));
    let settings = Settings { holder: holder(&config.instance.id), seed: fastrand::u64(..), seeded: None };
    let watcher = Box::new(Counting::new(dispatcher.metrics().clone()));
    let running = Running::watched(cell.id.clone(), settings, store, ari.clone(), watcher);
    let (changed, receiver) = watch::channel(Arc::new(config.clone()));
    let nodes = ari.clone();
    let queue = Queue { config: receiver, trust, dispatcher: dispatcher.clone(), ari, running, setup };
    Ok(Some(Started { queue, changed, desk, nodes }))
}

/// Connections that nodes make by themselves, until `stop`.
pub fn take_nodes(
    listener: Listener,
    nodes: Arc<AriNodes>,
    listen: &Listen,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let take = move |stream, peer: Peer| {
        let nodes = nodes.clone();
        async move { nodes.take(stream, &peer.to_string()).await }
    };
    crate::inbound::nodes::serve(listener, listen.connections_max, stop, take)
}

/// Another name after each start: a process that was killed has no right to what it held.
fn holder(instance: &str) -> String {
    format!("{instance}-{:08x}", fastrand::u32(..))
}

fn signer(cell: CellId, secret: Secret) -> Sign {
    Arc::new(move |pool: &PoolId, originate: &Originate| {
        let Originate { offer, leg, .. } = originate;
        let token = OfferToken {
            cell: cell.clone(),
            pool: pool.clone(),
            node: leg.node.clone(),
            offer: offer.clone(),
            leg: leg.id.clone(),
        };
        token.sign(&secret)
    })
}

/// Holds the leases of a node against its channels.
fn repairer(dispatcher: &Arc<Dispatcher>) -> Seen {
    let dispatcher = dispatcher.clone();
    Arc::new(move |pool, all, asked| {
        let carries = all.carried.iter().map(|one| Carries {
            channel: one.channel.clone(),
            token: one.token.clone(),
            is_leg: one.is_leg,
        });
        let (dispatcher, pool, node) = (dispatcher.clone(), pool.clone(), all.listing.node.clone());
        let carries = carries.collect();
        tokio::spawn(async move { dispatcher.repair(&pool, &node, asked, carries).await });
    })
}

impl Queue {
    /// Until `stop`; gives the leadership up then, so that another instance has it at once.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut known, mut dead) = (BTreeMap::new(), BTreeSet::new());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut anew, mut stands) = (true, false);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => {}
                changed = self.config.changed() => match changed {
                    Ok(()) => anew = true,
                    // Nobody reloads any more: the service is about to stop.
                    Err(_) => {
                        stop.cancelled().await;
                        break;
                    }
                },
            }
            let config = self.config.borrow_and_update().clone();
            let Some(cell) = &config.cell else { continue };
            // Whoever leads gives up what is on a node that is not among these: until all are known, it does not stand for it.
            stands = stands || self.knows_nodes(cell);
            if !stands {
                continue;
            }
            let nodes = self.nodes(cell, &config);
            if anew || nodes != known {
                self.setup.store(cell.setup.clone());
                self.ari.know(self.addresses(&nodes));
                self.running.set_up(cell.setup.clone(), nodes.keys().cloned().collect()).await;
                (known, anew) = (nodes, false);
            }
            self.tell_who_is_dead(&known, &mut dead).await;
        }
        self.running.end().await;
    }

    /// Whether the store has said which nodes there are. Before it did, there are those of the file.
    fn knows_nodes(&self, cell: &CellConfig) -> bool {
        let mut pools = self.dispatcher.pools().filter(|pool| cell.drives(&pool.id));
        pools.all(|pool| pool.seen().is_of_store())
    }

    /// The nodes that the dispatcher knows and that the cell drives.
    fn nodes(&self, cell: &CellConfig, config: &Config) -> BTreeMap<NodeId, Driven> {
        let mut nodes: BTreeMap<NodeId, Driven> = BTreeMap::new();
        for pool in self.dispatcher.pools() {
            for (_, loaded) in shown(&pool.seen().view) {
                let node = &loaded.node;
                let Some(ari) = cell.ari_of(&config.pools, &pool.id, &node.id, &node.uri) else { continue };
                match nodes.get(&node.id) {
                    Some((other, _)) => {
                        warn!(node = %node.id, pool = %pool.id, %other, "two nodes have this name: one is not driven");
                    }
                    None => drop(nodes.insert(node.id.clone(), (pool.id.clone(), ari))),
                }
            }
        }
        nodes
    }

    fn addresses(&self, nodes: &BTreeMap<NodeId, Driven>) -> BTreeMap<NodeId, Address> {
        let addresses = nodes.iter().map(|(id, (pool, ari))| {
            let at = match ari {
                Ari::Url { tls, host, port } => {
                    let trust = tls.then(|| self.trust.clone());
                    At::Url { host: host.clone(), port: *port, trust }
                }
                Ari::Inbound => At::Comes,
            };
            (id.clone(), Address { pool: pool.clone(), at })
        });
        addresses.collect()
    }

    /// A node is dead when it answers neither probes nor over its connection. One of the two may be the network's fault.
    async fn tell_who_is_dead(&self, nodes: &BTreeMap<NodeId, Driven>, dead: &mut BTreeSet<NodeId>) {
        let mut failing = BTreeSet::new();
        for pool in self.dispatcher.pools() {
            let seen = pool.seen();
            let all = seen.view.loaded.iter().map(|loaded| &loaded.node);
            let unwell = all.filter(|node| node.health.condition == Condition::Failing);
            failing.extend(unwell.map(|node| node.id.clone()));
        }
        failing.retain(|node| nodes.contains_key(node) && !self.ari.is_attached(node));
        for node in failing.difference(dead) {
            warn!(%node, "is dead: its calls are gone");
            self.running.helm().tell(Input::NodeDead(node.clone())).await;
        }
        for node in dead.difference(&failing) {
            self.running.helm().tell(Input::NodeAlive(node.clone())).await;
        }
        *dead = failing;
    }
}
