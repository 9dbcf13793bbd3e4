//! A stand-in node of the queue: it takes callers into the application, calls agents when it is told to, and can die.

use super::exchange::{Channel, DONE, Exchange, Left, Line, Reply, Talk};
use super::ledger::Ledger;
use super::phones::{LegCall, Phones};
use super::{ari, draw_ms};
use crate::clock::Stopwatch;
use crate::wire::sip::{self, Draft, Message};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The dialplan waits so long for somebody who drives the application, and looks so often.
const HOLD: (u32, Duration) = (20, Duration::from_millis(500));

/// Whoever is left alone in a talk hangs up after so long.
const ALONE: Duration = Duration::from_millis(1_500);

/// How long the phone takes to say that it does not ring any more.
const CANCEL: Duration = Duration::from_millis(40);

/// Channels are numbered over all nodes and all their lives: an id comes once.
static CHANNELS: AtomicU64 = AtomicU64::new(1);

/// A stand-in.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where probes are answered.
    pub sip: SocketAddr,
    /// Where its REST interface is.
    pub ari: SocketAddr,
    /// Of the one user there.
    pub password: String,
    exchange: Mutex<Exchange>,
    /// Until it dies.
    life: Mutex<Option<CancellationToken>>,
    phones: Arc<Phones>,
    ledger: Arc<Ledger>,
    watch: Stopwatch,
    chance: Mutex<fastrand::Rng>,
}

/// A call that Kamailio brings.
pub struct Incoming<'a> {
    /// Its Call-ID.
    pub call_id: &'a str,
    /// The caller's number.
    pub number: &'a str,
    /// The queue.
    pub queue: &'a str,
    /// What `X-MQS-Lease` says.
    pub lease: &'a str,
}

impl Node {
    /// Listens on free ports of 127.0.0.1 until `stop`.
    pub async fn start(
        name: String,
        password: String,
        phones: Arc<Phones>,
        watch: Stopwatch,
        seed: u64,
        stop: CancellationToken,
    ) -> std::io::Result<Arc<Node>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let node = Arc::new(Node {
            name,
            sip: socket.local_addr()?,
            ari: listener.local_addr()?,
            password,
            exchange: Mutex::default(),
            life: Mutex::new(Some(CancellationToken::new())),
            ledger: phones.ledger.clone(),
            phones,
            watch,
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
        });
        let (probed, asked) = (node.clone(), node.clone());
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(async move { probed.answer_probes(&socket).await }),
        );
        tokio::spawn(stop.run_until_cancelled_owned(ari::serve(listener, asked)));
        Ok(node)
    }

    /// Ends when the node dies; `None`: it is dead.
    pub fn life(&self) -> Option<CancellationToken> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something with what it has.
    pub fn with<T>(&self, work: impl FnOnce(&mut Exchange) -> T) -> T {
        work(&mut self.lock())
    }

    /// Its channels are gone, it hears nothing and answers nothing.
    pub fn die(&self) {
        if let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).take() {
            life.cancel();
        }
        self.lock().die();
    }

    /// It is there again, empty.
    pub fn restart(&self) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(CancellationToken::new());
    }

    /// An INVITE to a queue's number: the channel, and what tells of its end. `None`: no answer.
    pub fn invite(self: &Arc<Self>, call: &Incoming<'_>) -> Option<(String, oneshot::Receiver<Left>)> {
        let life = self.life()?;
        let id = format!("{}-{}.0", self.name, CHANNELS.fetch_add(1, Ordering::Relaxed));
        let (told, left) = oneshot::channel();
        let variables = [("MQS_QUEUE", call.queue), ("MQS_LEASE", call.lease)];
        let channel = Channel {
            caller: (String::new(), call.number.to_owned()),
            sip_call_id: call.call_id.to_owned(),
            state: "Ring",
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            stasis: None,
            bridge: None,
            line: Line::Caller(Some(told)),
        };
        self.lock().channels.insert(id.clone(), channel);
        let arguments = ["in", call.queue, call.call_id, call.lease].map(str::to_owned).to_vec();
        let (node, entering) = (self.clone(), id.clone());
        tokio::spawn(life.run_until_cancelled_owned(async move { node.hold(&entering, arguments).await }));
        Some((id, left))
    }

    /// What `asterisk/templates/mqs-dialplan.conf` does: ringing, until somebody drives the application.
    async fn hold(&self, id: &str, arguments: Vec<String>) {
        for _ in 0..HOLD.0 {
            if self.lock().enter(id, arguments.clone()) {
                return;
            }
            tokio::time::sleep(HOLD.1).await;
        }
        self.lock().end(id, Left::Node, 503);
    }

    /// `POST /channels/{id}`
    pub fn originate(
        self: &Arc<Self>,
        id: &str,
        endpoint: &str,
        caller: &str,
        timeout_s: &str,
        mut variables: BTreeMap<String, String>,
    ) -> Reply {
        let Some(life) = self.life() else { return (503, json!({"message": "dead"})) };
        let Some(aor) = endpoint.split_once("/sip:").map(|(_, aor)| aor.to_owned()) else {
            return (400, json!({"message": "Invalid endpoint"}));
        };
        let token = variables.remove("PJSIP_HEADER(add,X-MQS-Offer)").unwrap_or_default();
        let agent = variables.get("MQS_AGENT").cloned().unwrap_or_default();
        let timeout = Duration::from_secs(timeout_s.parse().unwrap_or(30));
        let leg = || self.phones.leg(&agent, id);
        let gone = match self.lock().originate(id, caller, variables, leg) {
            Ok(gone) => gone,
            Err(reply) => return reply,
        };
        let call = LegCall { id: id.to_owned(), agent, aor, token, gone };
        let node = self.clone();
        tokio::spawn(async move { node.call_agent(&call, timeout, &life).await });
        (200, json!({"id": id}))
    }

    async fn call_agent(&self, call: &LegCall, timeout: Duration, life: &CancellationToken) {
        let lease = match self.phones.redeem(call).await {
            Ok(lease) => lease,
            Err(code) => {
                self.lock().end(&call.id, Left::Node, code);
                return;
            }
        };
        let rang = tokio::select! {
            rang = self.phones.ring(call, &lease) => rang,
            () = call.gone.cancelled() => Err(487),
            // Asterisk's own patience.
            () = tokio::time::sleep(timeout) => Err(487),
        };
        match rang {
            Ok(()) => self.lock().leg_answers(&call.id),
            Err(code) => drop(self.lock().end(&call.id, Left::Node, code)),
        }
        tokio::select! {
            () = call.gone.cancelled() => {}
            () = life.cancelled() => {}
        }
        self.phones.done(&lease).await;
    }

    /// `POST /bridges/{id}/addChannel`
    pub fn join(self: &Arc<Self>, bridge: &str, channels: &str) -> Reply {
        let ids: Vec<&str> = channels.split(',').collect();
        let (reply, talk) = self.lock().add(bridge, &ids);
        if let Some(talk) = talk {
            self.ledger.talks(&talk.sip_call_id, self.watch.millis());
            let node = self.clone();
            tokio::spawn(async move { node.talk(talk).await });
        }
        reply
    }

    async fn talk(&self, talk: Talk) {
        let (lasts, caller_first) = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            // One in three has a lot to say: long enough for a change of the leader.
            let lasts = if chance.u8(0..3) == 0 { 5_000..8_000 } else { 1_000..3_500 };
            (draw_ms(&mut chance, lasts), chance.bool())
        };
        tokio::time::sleep(lasts).await;
        let (first, other) = if caller_first { (&talk.caller, &talk.leg) } else { (&talk.leg, &talk.caller) };
        self.lock().end(first, Left::Person, 0);
        tokio::time::sleep(ALONE).await;
        self.lock().end(other, Left::Person, 0);
    }

    /// `DELETE /channels/{id}`. A leg that rings gets CANCEL, and ends with the phone's 487 (RFC 3261 §9.2).
    pub fn hang_up(self: &Arc<Self>, id: &str) -> Reply {
        if !self.with(|exchange| exchange.is_ringing(id)) {
            return self.lock().hang_up(id);
        }
        let (node, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(CANCEL).await;
            node.lock().end(&id, Left::Node, 487);
        });
        DONE
    }

    async fn answer_probes(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; sip::MESSAGE_MAX];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            let datagram = buffer.get(..length).unwrap_or_default();
            let Ok(Message::Request(request)) = sip::parse(datagram) else { continue };
            if self.life().is_none() {
                continue;
            }
            if let Ok(bytes) = Draft::response(&request, 200, "OK", Some(&self.name)).bytes(b"") {
                // A lost answer is the prober's to notice.
                let _ = socket.send_to(&bytes, peer).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
