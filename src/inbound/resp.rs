//! The RESP2 server.
//!
//! * [`serve`]: takes connections, and no more than are allowed
//! * `session`: what a peer may say, and what it means · `connection`: bytes in, answers out

mod connection;
mod session;

use super::listen::{Incoming, Listener, Stream};
use crate::clock::Stopwatch;
use crate::dispatch::Dispatcher;
use connection::Service;
use session::{Gate, Session};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Peers beyond the cap that are told so at the same time; more are closed without a word.
const TURNED_AWAY_MAX: usize = 16;

/// How long a peer beyond the cap may take to be told so.
const TURNING_AWAY: Duration = Duration::from_secs(1);

/// How long the answers to what was asked before a stop may take; less than the service waits for its servers, so that this one can say
/// what it left.
const STOPPING: Duration = Duration::from_secs(4);

/// Limits and rights of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most connections of one listener at once.
    pub connections_max: usize,
    /// How long a peer may take for the rest of a command, or to take its answers, in seconds. A connection on which nothing is
    /// outstanding is left alone: Kamailio keeps its own open for days.
    pub idle_timeout_s: u64,
    /// What a peer must say in `AUTH` where the listener needs a token.
    pub token: Option<Arc<str>>,
}

/// Serves until `stop`; answers what was asked before it.
pub async fn serve(
    listener: Listener,
    dispatcher: Arc<Dispatcher>,
    options: Options,
    stop: CancellationToken,
) {
    let server = Server {
        gate: Gate::new(listener.needs_token(), options.token),
        patience: Duration::from_secs(options.idle_timeout_s),
        started: Stopwatch::start(),
        dispatcher,
        stop,
    };
    let server = Arc::new(server);
    let room = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let tasks = TaskTracker::new();
    let (mut id, mut pause, mut full) = (0, Pause::default(), false);
    info!(endpoint = %listener.endpoint(), "listening for RESP");
    while let Some(accepted) = server.stop.run_until_cancelled(listener.accept()).await {
        let incoming = match accepted {
            Ok(incoming) => incoming,
            Err(error) => {
                if let Some(pause) = pause.after(&error) {
                    warn!(endpoint = %listener.endpoint(), %error, "cannot take a connection");
                    server.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
                continue;
            }
        };
        pause = Pause::default();
        id += 1;
        match room.clone().try_acquire_owned() {
            Ok(permit) => {
                full = false;
                tasks.spawn(server.clone().welcome(incoming, id, permit));
            }
            Err(_) => {
                if !std::mem::replace(&mut full, true) {
                    warn!(endpoint = %listener.endpoint(), connections_max = options.connections_max, "too many connections");
                }
                if let Ok(permit) = turned_away.clone().try_acquire_owned() {
                    tasks.spawn(turn_away(incoming, permit));
                }
            }
        }
    }
    // The file goes before the last answers do, so that nobody new is left waiting.
    drop(listener);
    tasks.close();
    if timeout(STOPPING, tasks.wait()).await.is_err() {
        warn!(connections = tasks.len(), "not all questions were answered before the stop");
    }
}

/// What all connections of a listener share.
struct Server {
    dispatcher: Arc<Dispatcher>,
    gate: Gate,
    patience: Duration,
    started: Stopwatch,
    stop: CancellationToken,
}

impl Server {
    async fn welcome(self: Arc<Self>, incoming: Incoming, id: i64, _permit: OwnedSemaphorePermit) {
        let peer = incoming.peer;
        let _counted = self.dispatcher.metrics().connection(connection::VIA, peer.socket());
        let opened = self.stop.run_until_cancelled(open(incoming, HANDSHAKE)).await;
        match opened {
            Some(Ok(stream)) => {
                debug!(%peer, connection = id, "connection opened");
                let session = Session::new(id, peer, self.gate.clone());
                let service = Service { dispatcher: &self.dispatcher, started: self.started };
                connection::talk(stream, session, service, self.patience, &self.stop).await;
            }
            Some(Err(error)) => debug!(%peer, %error, "no TLS"),
            None => {}
        }
    }
}

async fn open(incoming: Incoming, within: Duration) -> io::Result<Stream> {
    timeout(within, incoming.open()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn turn_away(incoming: Incoming, _permit: OwnedSemaphorePermit) {
    if let Ok(mut stream) = open(incoming, TURNING_AWAY).await {
        let told = async {
            stream.write_all(b"-ERR max number of clients reached\r\n").await?;
            stream.shutdown().await
        };
        // A peer that does not listen is not told.
        let _ = timeout(TURNING_AWAY, told).await;
    }
}

/// How long to wait when the system has no connection to give: without file descriptors the next try would fail at once.
#[derive(Debug, Default)]
struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    /// `None`: that was one peer's fault, and the next is not to wait for it.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
        if [BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected].contains(&error.kind())
        {
            return None;
        }
        self.0 = (self.0 * 2).clamp(Pause::FIRST, Pause::LONGEST);
        Some(self.0)
    }
}

#[cfg(test)]
mod tests;
