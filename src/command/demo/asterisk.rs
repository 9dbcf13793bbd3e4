//! A stand-in for an Asterisk: answers calls over UDP, has no sound, and falls ill when it is told to.

use crate::wire::sip::{self, Draft, Message, Request};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It hears nothing; what it has begun to answer it still answers.
    Silent,
    /// It answers every new call with 503.
    Refusing,
}

/// A stand-in.
pub struct StandIn {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Channels that it carries at most: one more gets 503.
    pub capacity: u32,
    /// Calls that it answered with 200.
    pub answered: AtomicU64,
    /// Calls that it answered with 503.
    pub refused: AtomicU64,
    socket: UdpSocket,
    state: Mutex<State>,
}

struct State {
    mood: Mood,
    /// Call-IDs of the calls that it carries.
    calls: HashSet<String>,
    chance: fastrand::Rng,
}

impl StandIn {
    /// Listens on a free port of 127.0.0.1 until `stop`.
    pub async fn start(
        name: String,
        capacity: u32,
        seed: u64,
        stop: CancellationToken,
    ) -> io::Result<Arc<StandIn>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let state = State { mood: Mood::Well, calls: HashSet::new(), chance: fastrand::Rng::with_seed(seed) };
        let node = Arc::new(StandIn {
            name,
            address: socket.local_addr()?,
            capacity,
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            socket,
            state: Mutex::new(state),
        });
        let listening = node.clone();
        tokio::spawn(async move { stop.run_until_cancelled(listening.listen()).await });
        Ok(node)
    }

    /// Changes how it behaves. When it was silent it comes back empty, as after a restart.
    pub fn set_mood(&self, mood: Mood) {
        let mut state = self.lock();
        if state.mood == Mood::Silent {
            state.calls.clear();
        }
        state.mood = mood;
    }

    /// How it behaves.
    pub fn mood(&self) -> Mood {
        self.lock().mood
    }

    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; sip::MESSAGE_MAX];
        loop {
            // An error here is a port that a caller has closed: of no concern.
            let Ok((length, peer)) = self.socket.recv_from(&mut buffer).await else { continue };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Ok(Message::Request(request)) = sip::parse(datagram) {
                self.hear(request, peer).await;
            }
        }
    }

    async fn hear(self: &Arc<Self>, request: Request, peer: SocketAddr) {
        if self.mood() == Mood::Silent {
            return;
        }
        match request.method.as_str() {
            "INVITE" => match self.take(request.head.call_id()) {
                Taken::Again => {}
                Taken::Full => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    self.answer(&request, peer, 503, "Service Unavailable").await;
                }
                Taken::New { rings_for } => {
                    self.answer(&request, peer, 100, "Trying").await;
                    let node = self.clone();
                    tokio::spawn(async move { node.pick_up(&request, peer, rings_for).await });
                }
            },
            "BYE" | "CANCEL" => {
                self.lock().calls.remove(request.head.call_id());
                self.answer(&request, peer, 200, "OK").await;
            }
            "OPTIONS" => self.answer(&request, peer, 200, "OK").await,
            "ACK" => {}
            _ => self.answer(&request, peer, 501, "Not Implemented").await,
        }
    }

    fn take(&self, call_id: &str) -> Taken {
        let mut state = self.lock();
        if state.calls.contains(call_id) {
            return Taken::Again;
        }
        let full = u32::try_from(state.calls.len()).is_ok_and(|calls| calls >= self.capacity);
        if full || state.mood == Mood::Refusing {
            return Taken::Full;
        }
        state.calls.insert(call_id.to_owned());
        Taken::New { rings_for: Duration::from_millis(state.chance.u64(20..100)) }
    }

    async fn pick_up(&self, request: &Request, peer: SocketAddr, rings_for: Duration) {
        self.answer(request, peer, 180, "Ringing").await;
        tokio::time::sleep(rings_for).await;
        if !self.lock().calls.contains(request.head.call_id()) {
            // Given up, or lost in a restart.
            return;
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.answer(request, peer, 200, "OK").await;
    }

    async fn answer(&self, request: &Request, peer: SocketAddr, code: u16, reason: &str) {
        let tag = (code > 100).then_some(self.name.as_str());
        let draft = Draft::response(request, code, reason, tag)
            .with("Contact", format!("<sip:{}>", self.address))
            .with("Server", "MQS demo: a stand-in, not an Asterisk");
        if let Ok(bytes) = draft.bytes(b"") {
            // A lost answer is the caller's to notice, as on a real network.
            let _ = self.socket.send_to(&bytes, peer).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    New { rings_for: Duration },
    Again,
    Full,
}
