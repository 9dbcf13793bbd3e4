//! The HTTP/1.1 server.

use super::listen::Listener;
use crate::dispatch::Dispatcher;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

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
}

/// Serves until `stop`; answers what was asked before it.
pub async fn serve(
    _listener: Listener,
    _dispatcher: Arc<Dispatcher>,
    _options: Options,
    stop: CancellationToken,
) {
    stop.cancelled().await;
}
