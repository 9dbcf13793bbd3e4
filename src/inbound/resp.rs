//! The RESP2 server.

use super::listen::Listener;
use crate::dispatch::Dispatcher;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Limits and rights of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most connections of one listener at once.
    pub connections_max: usize,
    /// How long a connection may be without a whole command, in seconds.
    pub idle_timeout_s: u64,
    /// What a peer must say in `AUTH` where the listener needs a token.
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
