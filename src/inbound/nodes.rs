//! Connections that nodes make by themselves (`[ari] listen`): taken here like everybody's, and handed to whoever drives nodes. What is said
//! on them is no business of this room.

use super::listen::{Listener, Peer, Stream};
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After an error of the listener's own: there may be no open file left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`. `take` is given each connection; at most `unknown_max` of them at once, until it is done with them.
pub async fn serve<F, T>(listener: Listener, unknown_max: usize, stop: CancellationToken, take: F)
where
    F: Fn(Quick, Peer) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(unknown_max.min(Semaphore::MAX_PERMITS)));
    info!(endpoint = %listener.endpoint(), "listening for nodes");
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let incoming = match accepted {
            Ok(incoming) => incoming,
            Err(error) => {
                warn!(endpoint = %listener.endpoint(), %error, "cannot take a connection");
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                continue;
            }
        };
        let peer = incoming.peer;
        let Ok(permit) = room.clone().try_acquire_owned() else {
            warn!(%peer, unknown_max, "too many connections that have not said yet which node they are of");
            continue;
        };
        let (take, until) = (take.clone(), stop.clone());
        tokio::spawn(async move {
            let welcome = async {
                match tokio::time::timeout(HANDSHAKE, incoming.open()).await {
                    Ok(Ok(stream)) => take(Quick::new(stream), peer).await,
                    Ok(Err(error)) => debug!(%peer, %error, "no node: the handshake failed"),
                    Err(_) => debug!(%peer, "no node: the handshake was not made in time"),
                }
            };
            until.run_until_cancelled(welcome).await;
            drop(permit);
        });
    }
}

/// A connection that acknowledges at once what it has received. Asterisk holds an answer back until what it wrote before, another answer
/// or an event, was acknowledged (RFC 896), for which a host takes 40 ms by default (RFC 1122 §4.2.3.2).
pub struct Quick(Stream);

impl Quick {
    /// Of this one.
    pub fn new(stream: Stream) -> Quick {
        Quick(stream)
    }

    fn acknowledge(&self) {
        let socket = match &self.0 {
            Stream::Tcp(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Unix(_) => return,
        };
        // Linux forgets it by itself (tcp(7)), so it is said after each receive. Without it all is slower, and nothing is wrong.
        let _ = SockRef::from(socket).set_tcp_quickack(true);
    }
}

impl AsyncRead for Quick {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.acknowledge();
        }
        read
    }
}

impl AsyncWrite for Quick {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
