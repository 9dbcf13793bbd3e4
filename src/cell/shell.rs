//! Runs a [`Pilot`]: carries out what it asks for, and tells it what came of it. There are no decisions here.
//!
//! The pilot lives in one task. What takes time (the store, a node) is a task of its own that sends its answer back; so
//! nothing waits for anything else, and the order in which answers come is as uncertain here as it is in a simulation.

use super::codec;
use super::pilot::{Ask, Input, Link, Mono, Note, Output, Pilot, Right, Settings};
use super::watch::Watch;
use crate::clock::Stopwatch;
use crate::domain::controller::{Effect, Listing, Outcome};
use crate::domain::id::{CellId, NodeId};
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use crate::store::StoreError;
use crate::store::cell::CellStore;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// An answer of the store counts as lost after so long.
const STORE_TIMEOUT: Duration = Duration::from_millis(200);

/// Reading everything that a leader has left may take so long.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer of a node counts as lost after so long.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// Inputs that wait for the pilot; whoever sends more has to wait.
const INPUTS_MAX: usize = 10_000;

/// Commands that are read at once.
const LETTERS_MAX: usize = 256;

/// The nodes of a cell, as whoever talks to them offers them. [`Input::NodeUp`] and its like, and events, are sent to the
/// [`Helm`] that [`Nodes::attach`] is given.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// Attaches the application to a node, and goes on trying until [`Nodes::detach`].
    fn attach(&self, node: &NodeId, helm: &Helm);

    /// Gives the connection up.
    fn detach(&self, node: &NodeId);

    /// Sends something over this connection of a node that comes back behind everything that the node has sent by then, and
    /// after all of that was told to the helm. False: it did not come back.
    async fn probe(&self, node: &NodeId, link: Link) -> bool;

    /// Carries an effect out, by its node. Before each request is sent, `permit` has to be asked. What concerns one channel is
    /// sent in the order of these calls, whatever becomes of what they return.
    fn act(&self, effect: Effect, permit: Permit) -> Acting;

    /// What a node has; `None`: it did not say.
    async fn list(&self, node: &NodeId, begun: EpochMs) -> Option<Listing>;
}

/// An effect that is being carried out, and what came of it.
pub type Acting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The right to send something, to be looked at when it is sent.
#[derive(Clone)]
pub struct Permit {
    right: Right,
    watch: Stopwatch,
    standing: Arc<Mutex<Standing>>,
}

/// What a permit depends on.
#[derive(Debug, Default)]
struct Standing {
    leads: bool,
    links: BTreeSet<Link>,
}

impl Permit {
    /// Where nobody steers: it holds for good.
    #[cfg(test)]
    pub(crate) fn for_good() -> Permit {
        let standing = Standing { leads: true, links: BTreeSet::new() };
        let right = Right::Until(Mono(u64::MAX));
        Permit { right, watch: Stopwatch::start(), standing: Arc::new(Mutex::new(standing)) }
    }

    /// Whether it may be sent now.
    pub fn holds(&self) -> bool {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.leads
            && match self.right {
                Right::Until(until) => Mono(self.watch.millis()) < until,
                Right::Linked(link) => standing.links.contains(&link),
            }
    }
}

/// Where inputs go.
#[derive(Clone)]
pub struct Helm(Sender<Input>);

impl Helm {
    /// Where nobody steers: what is told is for whoever has the other end.
    #[cfg(test)]
    pub(crate) fn to(sender: Sender<Input>) -> Helm {
        Helm(sender)
    }

    /// Tells the pilot something. False: it has ended.
    pub async fn tell(&self, input: Input) -> bool {
        self.0.send(input).await.is_ok()
    }
}

/// A pilot that runs.
pub struct Running {
    helm: Helm,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a pilot of a cell.
    pub fn start(
        cell: CellId,
        settings: Settings,
        store: Arc<dyn CellStore>,
        nodes: Arc<dyn Nodes>,
    ) -> Running {
        Running::watched(cell, settings, store, nodes, Box::new(()))
    }

    /// The same, with somebody who looks on.
    pub fn watched(
        cell: CellId,
        settings: Settings,
        store: Arc<dyn CellStore>,
        nodes: Arc<dyn Nodes>,
        watcher: Box<dyn Watch>,
    ) -> Running {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let helm = Helm(sender);
        let shell = Shell {
            cell,
            store,
            nodes,
            helm: helm.clone(),
            watch: Stopwatch::start(),
            pilot: Pilot::new(settings),
            standing: Arc::default(),
            watcher,
        };
        Running { helm, task: tokio::spawn(shell.run(inputs)) }
    }

    /// Where inputs go.
    pub fn helm(&self) -> &Helm {
        &self.helm
    }

    /// What is laid down, and the nodes.
    pub async fn set_up(&self, setup: Arc<Setup>, nodes: Vec<NodeId>) {
        self.helm.tell(Input::Setup { setup, nodes }).await;
    }

    /// Gives the leadership up, and ends.
    pub async fn end(self) {
        self.helm.tell(Input::Resign).await;
        // An error would be that it has ended by a panic, which was logged.
        let _ = self.task.await;
    }

    /// Ends as a crash would: at once, without a word to anybody.
    pub fn kill(self) {
        self.task.abort();
    }
}

struct Shell {
    cell: CellId,
    store: Arc<dyn CellStore>,
    nodes: Arc<dyn Nodes>,
    helm: Helm,
    watch: Stopwatch,
    pilot: Pilot,
    standing: Arc<Mutex<Standing>>,
    watcher: Box<dyn Watch>,
}

impl Shell {
    async fn run(mut self, mut inputs: Receiver<Input>) {
        loop {
            let input = match self.pilot.next_timeout() {
                Some(due) => {
                    let wait = Duration::from_millis(due.since(self.now()));
                    match tokio::time::timeout(wait, inputs.recv()).await {
                        Ok(Some(input)) => input,
                        Ok(None) => return,
                        Err(_) => Input::Tick,
                    }
                }
                None => match inputs.recv().await {
                    Some(input) => input,
                    None => return,
                },
            };
            let ends = matches!(input, Input::Resign);
            self.note_links(&input);
            self.watcher.told(&input, &self.pilot);
            self.pilot.handle(input, self.now());
            self.note_leadership();
            self.watcher.took(&self.pilot, self.now());
            while let Some(output) = self.pilot.poll() {
                self.watcher.asked(&output, &self.pilot);
                if let Output::Resign(epoch) = output {
                    self.resign(epoch).await;
                } else {
                    self.carry_out(output);
                }
            }
            if ends {
                return;
            }
        }
    }

    fn now(&self) -> Mono {
        Mono(self.watch.millis())
    }

    fn note_links(&self, input: &Input) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match input {
            Input::NodeUp(_, link) => _ = standing.links.insert(*link),
            Input::NodeDown(_, link) | Input::NodeReplaced(_, link) => _ = standing.links.remove(link),
            Input::Tick
            | Input::Setup { .. }
            | Input::Led(..)
            | Input::Opened(..)
            | Input::Committed(..)
            | Input::Inbox(..)
            | Input::Registrations(..)
            | Input::NodeDead(_)
            | Input::NodeAlive(_)
            | Input::Event(..)
            | Input::Listed(..)
            | Input::Probed(..)
            | Input::Acted(..)
            | Input::Resign => {}
        }
    }

    fn note_leadership(&self) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).leads = self.pilot.epoch().is_some();
    }

    async fn resign(&self, epoch: u64) {
        let holder = self.pilot.holder();
        let resigned =
            tokio::time::timeout(STORE_TIMEOUT, self.store.resign(&self.cell, holder, epoch)).await;
        if !matches!(resigned, Ok(Ok(_))) {
            warn!(cell = %self.cell, epoch, "the leadership could not be given up; it ends by itself");
        }
    }

    fn carry_out(&self, output: Output) {
        let (cell, store, nodes) = (self.cell.clone(), self.store.clone(), self.nodes.clone());
        match output {
            Output::Lead(ask, candidate) => {
                self.ask(STORE_TIMEOUT, move |answer| Input::Led(ask, answer), async move {
                    store.lead(&cell, &candidate).await
                })
            }
            Output::Open { ask, epoch, read } => {
                self.ask(OPEN_TIMEOUT, move |found| Input::Opened(ask, found), async move {
                    let (found, damaged) = codec::found(store.open(&cell, epoch, read).await?);
                    damaged.iter().for_each(|error| warn!(%cell, %error, "left out"));
                    Ok(found)
                });
            }
            Output::Commit(ask, commit) => {
                let batch = codec::batch(&commit);
                self.ask(STORE_TIMEOUT, move |done| Input::Committed(ask, done), async move {
                    store.commit(&cell, &batch).await
                });
            }
            Output::ReadInbox(ask, after) => {
                self.ask(STORE_TIMEOUT, move |letters| Input::Inbox(ask, letters), async move {
                    let sent = store.inbox(&cell, after, LETTERS_MAX).await?;
                    Ok(sent.into_iter().map(codec::letter).collect())
                });
            }
            Output::ReadRegistrations(ask) => {
                self.ask(STORE_TIMEOUT, move |all| Input::Registrations(ask, all), async move {
                    store.registrations(&cell).await
                });
            }
            Output::Connect(node) => nodes.attach(&node, &self.helm),
            Output::Disconnect(node) => nodes.detach(&node),
            Output::Probe { ask, node, link } => {
                let helm = self.helm.clone();
                tokio::spawn(async move {
                    if nodes.probe(&node, link).await {
                        helm.tell(Input::Probed(ask)).await;
                    }
                });
            }
            Output::List { ask, node, begun } => {
                let listed = async move { Ok(nodes.list(&node, begun).await) };
                self.ask(NODE_TIMEOUT, move |listing| Input::Listed(ask, Option::flatten(listing)), listed);
            }
            Output::Act { ask, effect, right } => self.act(ask, effect, right),
            Output::Note(note) => self.note(&note),
            // Carried out by `run`, which has to wait for it.
            Output::Resign(_) => {}
        }
    }

    /// Asks something, and tells the pilot the answer, or that there was none.
    fn ask<T: Send + 'static>(
        &self,
        timeout: Duration,
        input: impl FnOnce(Option<T>) -> Input + Send + 'static,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) {
        let (helm, cell) = (self.helm.clone(), self.cell.clone());
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(timeout, question).await {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(error)) => {
                    warn!(%cell, %error, "no answer of the store");
                    None
                }
                Err(_) => None,
            };
            helm.tell(input(answer)).await;
        });
    }

    fn act(&self, ask: Ask, effect: Effect, right: Right) {
        let permit = Permit { right, watch: self.watch, standing: self.standing.clone() };
        let (helm, acting) = (self.helm.clone(), self.nodes.act(effect, permit));
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(NODE_TIMEOUT, acting).await.unwrap_or(Outcome::Unknown);
            helm.tell(Input::Acted(ask, outcome)).await;
        });
    }

    fn note(&self, note: &Note) {
        let cell = &self.cell;
        match note {
            Note::Leads(epoch) => info!(%cell, epoch, "leads"),
            Note::StepsDown(why) => info!(%cell, ?why, "leads no longer"),
            Note::History(epoch) => {
                warn!(%cell, epoch, "the store has forgotten: everything is written anew")
            }
            Note::Damaged(records) => warn!(%cell, records, "records that cannot be read are left out"),
            Note::Partial => {
                warn!(%cell, "the last leader's state is there in part; the nodes know the rest")
            }
            Note::Offering => info!(%cell, "offers are made"),
        }
    }
}
