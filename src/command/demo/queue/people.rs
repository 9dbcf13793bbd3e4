//! The callers, behind the stand-in Kamailio: each is looked up, brought to a node, and has patience for so long.

use super::super::kamailio::{Document, place, token};
use super::exchange::Left;
use super::ledger::{Caller as State, End, Ledger};
use super::node::{Incoming, Node};
use super::phones::Phones;
use crate::clock::Stopwatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The queue that everybody calls.
pub const QUEUE: &str = "sales";

/// Its number.
const NUMBER: &str = "7000";

/// One caller.
pub struct Caller {
    /// Names the call.
    pub call_id: String,
    /// The caller's number.
    pub number: String,
    /// How long without an agent.
    pub patience: Duration,
}

/// All callers.
pub struct People {
    /// Where they are brought.
    pub nodes: Vec<Arc<Node>>,
    /// What becomes of them.
    pub ledger: Arc<Ledger>,
    /// Asks for them.
    pub phones: Arc<Phones>,
    /// Times that a call went on to the next target.
    pub moved: AtomicU64,
    /// Everybody hangs up.
    pub hang_up: CancellationToken,
    /// Since the start.
    pub watch: Stopwatch,
}

impl People {
    /// Makes a call, from the lookup to the lease's end.
    pub async fn call(&self, caller: Caller) {
        let call = caller.call_id.as_str();
        self.ledger.begins(call, self.watch.millis());
        let document = match self.look_up(call).await {
            Ok(document) => document,
            Err(error) => {
                self.ledger.gone(call, End::NotPlaced, self.watch.millis());
                return self.ledger.breaks(format!("{call} was not routed: {error:#}"));
            }
        };
        let tokens: Vec<&str> = document.routes.iter().filter_map(token).collect();
        for (branch, (route, lease)) in document.routes.iter().zip(&tokens).enumerate() {
            let at = place(&route.dst_uri);
            let node = self.nodes.iter().find(|node| Some(node.sip) == at);
            let incoming = Incoming { call_id: call, number: &caller.number, queue: QUEUE, lease };
            let Some((node, (channel, left))) = node.and_then(|node| Some((node, node.invite(&incoming)?)))
            else {
                tokio::time::sleep(Duration::from_millis(route.fr_timer)).await;
                self.moved.fetch_add(1, Ordering::Relaxed);
                // The next target is tried whatever MQS says.
                let _ = self.phones.helpers.ask("FAIL", &[lease, &format!("branch={branch};code=408")]).await;
                continue;
            };
            self.ledger.waits(call);
            let end = self.wait(&caller, node, &channel, left, lease, branch).await;
            self.ledger.gone(call, end, self.watch.millis());
            return self.phones.done(lease).await;
        }
        self.ledger.gone(call, End::NotPlaced, self.watch.millis());
        if let Some(lease) = tokens.first() {
            self.phones.done(lease).await;
        }
    }

    async fn look_up(&self, call: &str) -> anyhow::Result<Document> {
        let uri = format!("sip:{NUMBER}@demo.example");
        let said = self.phones.helpers.ask("ROUTE", &[call, &uri, "ft=demo;cs=1;src=127.0.0.1"]).await?;
        anyhow::ensure!(!said.starts_with('!'), "{said}");
        Ok(serde_json::from_str(&said)?)
    }

    async fn wait(
        &self,
        caller: &Caller,
        node: &Node,
        channel: &str,
        mut left: oneshot::Receiver<Left>,
        lease: &str,
        branch: usize,
    ) -> End {
        // If it is lost, the node's own listing confirms the lease.
        let _ = self.phones.helpers.ask("CONFIRM", &[lease, &format!("branch={branch}")]).await;
        let mut own = None;
        let told = tokio::select! {
            told = &mut left => told,
            () = tokio::time::sleep(caller.patience) => {
                if node.with(|exchange| exchange.give_up(channel)) {
                    own = Some(End::Abandoned);
                    left.await
                } else {
                    // An agent is there by now.
                    tokio::select! {
                        told = &mut left => told,
                        () = self.hang_up.cancelled() => {
                            node.with(|exchange| exchange.end(channel, Left::Person, 0));
                            left.await
                        }
                    }
                }
            }
            () = self.hang_up.cancelled() => {
                own = Some(End::Remained);
                node.with(|exchange| exchange.end(channel, Left::Person, 0));
                left.await
            }
        };
        match told {
            Ok(Left::Death) => End::LostWithNode,
            Ok(Left::Person | Left::Node) | Err(_) => own.unwrap_or(End::TurnedAway),
        }
    }

    /// Whether a caller has no agent.
    pub fn is_waiting(&self, call: &str) -> bool {
        self.ledger.is(call) == Some(State::Waiting)
    }
}
