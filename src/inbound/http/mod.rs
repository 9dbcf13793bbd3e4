//! The HTTP/1.1 server.
//!
//! * this file: connections come, and go at the stop · [`connection`]: one of them, its phases and time-outs
//! * [`router`]: every path, and what is refused before one is looked for · [`body`]: what a request brings
//! * [`lookups`], [`nodes`], [`meta`]: the answers · [`answer`]: how they are written
//! * [`queues`], [`agents`], [`calls`], [`events`]: those about queues, by way of [`desk`]

mod agents;
mod answer;
mod body;
mod calls;
mod connection;
mod desk;
mod events;
mod lookups;
mod meta;
mod nodes;
mod queues;
mod router;

pub use router::{ROUTES, RoutePath};

use super::listen::Listener;
use crate::cell::Desk;
use crate::dispatch::Dispatcher;
use crate::dispatch::reload::Door;
use connection::Limits;
use router::Front;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How long answers that are under way may take after the stop.
const DRAIN: Duration = Duration::from_secs(3);

/// How long the server waits when no connection can be accepted (no file descriptor left, say), at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Limits and rights of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most connections of one listener at once.
    pub connections_max: usize,
    /// The largest body, in bytes.
    pub body_max_bytes: usize,
    /// How long a peer may take for its headers, in ms.
    pub header_timeout_ms: u64,
    /// How long a connection may be idle between requests, in seconds.
    pub idle_timeout_s: u64,
    /// The bearer token that a peer must show where the listener needs one.
    pub token: Option<Arc<str>>,
    /// Where to ask for the configuration to be read again; `None`: there is no file.
    pub reload: Option<Door>,
    /// The desk of this instance's cell; `None`: it serves no queues.
    pub desk: Option<Arc<Desk>>,
}

/// Serves until `stop`; answers what was asked before it, for at most 3 s.
pub async fn serve(
    listener: Listener,
    dispatcher: Arc<Dispatcher>,
    options: Options,
    stop: CancellationToken,
) {
    let endpoint = listener.endpoint().clone();
    info!(%endpoint, tcp = ?listener.local_addr(), "http: listening");
    let counting = dispatcher.clone();
    let front = Front::new(dispatcher, &options, listener.needs_token(), stop.clone());
    let limits = Limits::new(&options);
    let mut open = JoinSet::new();
    let mut full = false;
    let mut back_off = BACK_OFF.0;
    loop {
        let incoming = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = open.join_next() => {
                gone(ended);
                continue;
            }
            () = stop.cancelled() => break,
        };
        match incoming {
            Ok(incoming) => {
                back_off = BACK_OFF.0;
                while let Some(ended) = open.try_join_next() {
                    gone(ended);
                }
                // Over the cap a connection is closed at once: a proxy that waits in a queue here holds up a call, one that is
                // told takes its fallback.
                if open.len() < options.connections_max {
                    full = false;
                    let counted = counting.metrics().connection("http", incoming.peer.socket());
                    let run = connection::run(incoming, front.clone(), limits, stop.clone());
                    open.spawn(async move {
                        run.await;
                        drop(counted);
                    });
                } else if !full {
                    full = true;
                    warn!(%endpoint, peer = %incoming.peer, max = options.connections_max, "http: closing connections over the cap");
                }
            }
            Err(cause) => {
                warn!(%endpoint, %cause, "http: cannot accept");
                tokio::select! {
                    () = tokio::time::sleep(back_off) => {}
                    () = stop.cancelled() => break,
                }
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = open.join_next().await {
            gone(ended);
        }
    };
    let in_time = tokio::time::timeout(DRAIN, drained).await.is_ok();
    // Dropping the set aborts what is left.
    debug!(%endpoint, in_time, left = open.len(), "http: stopped");
}

fn gone(ended: Result<(), tokio::task::JoinError>) {
    if let Err(cause) = ended {
        error!(%cause, "http: a connection's task failed");
    }
}
