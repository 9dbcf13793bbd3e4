//! Connections: messages in, cut by Content-Length; answers out, as they are ready. Reading stops while many are under way, so a
//! connection needs a bounded amount of memory.

use super::{STOPPING, Service, at_once};
use crate::config::SipEndpoint;
use crate::wire::redirect::{Over, Reply};
use crate::wire::sip::{Frame, Framer};
use bytes::{Buf as _, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Requests of one connection that may wait for the store at once.
const UNDER_WAY_MAX: usize = 256;

/// How long a peer may take for its answers.
const TAKING: Duration = Duration::from_secs(5);

/// How long the server waits when no connection can be accepted (no file descriptor left, say).
const PAUSE: Duration = Duration::from_millis(100);

/// At least so much room for each read, in bytes.
const READ_BYTES: usize = 4 * 1024;

pub(super) async fn serve(
    listener: TcpListener,
    local: SipEndpoint,
    service: Arc<Service>,
    options: super::Options,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    let mut full = false;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(endpoint = %local, %error, "cannot take a connection");
                stop.run_until_cancelled(sleep(PAUSE)).await;
                continue;
            }
        };
        // Who may not ask, and who comes when all places are taken, is let go without a word.
        if !service.admits(source.ip()) {
            continue;
        }
        let Ok(permit) = room.clone().try_acquire_owned() else {
            service.unanswered("overload");
            if !std::mem::replace(&mut full, true) {
                warn!(endpoint = %local, connections_max = options.connections_max, "too many connections");
            }
            continue;
        };
        full = false;
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            let _counted = service.dispatcher.metrics().connection(super::VIA, "tcp");
            let connection = Connection { service: &service, source, stream, options };
            let end = connection.talk(&stop).await;
            debug!(%source, %end, "SIP connection closed");
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    if timeout(STOPPING, tasks.wait()).await.is_err() {
        warn!(connections = tasks.len(), "SIP connections were still open");
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the peer")]
    Peer,
    #[error("the server stops")]
    Stop,
    #[error("silent for too long")]
    Idle,
    #[error("the rest of a message did not come")]
    HalfMessage,
    #[error("the answers were not taken")]
    NotTaken,
    #[error("not SIP: {0}")]
    Lost(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

struct Connection<'a> {
    service: &'a Service,
    source: SocketAddr,
    stream: TcpStream,
    options: super::Options,
}

impl Connection<'_> {
    async fn talk(mut self, stop: &CancellationToken) -> End {
        // A response that waits for more to send would wait for the peer's next request.
        let _ = self.stream.set_nodelay(true);
        let (mut input, mut output, mut framer) = (BytesMut::new(), BytesMut::new(), Framer::default());
        let mut under_way = FuturesUnordered::new();
        let idle = Duration::from_secs(self.options.idle_timeout_s);
        let (mut timer, mut half) = (Box::pin(sleep(idle)), false);
        let mut stopped = pin!(stop.cancelled());
        // Set when nothing more is read; what is under way is still answered.
        let mut end = None;
        loop {
            while end.is_none() && under_way.len() < UNDER_WAY_MAX {
                let step = match framer.next(&input) {
                    Frame::Wait => break,
                    Frame::Blank { bytes, pings } => {
                        input.advance(bytes);
                        // RFC 5626 §4.4.1: a double line end is answered by a single one.
                        output.extend((0..pings).flat_map(|_| *b"\r\n"));
                        continue;
                    }
                    Frame::Message(bytes) => {
                        let message = input.split_to(bytes);
                        self.service.read(&message, self.source, Over::Tcp)
                    }
                    Frame::Lost { head, error } => {
                        end = Some(End::Lost(error.to_string()));
                        let head = input.get(..head).unwrap_or_default();
                        self.service.rules().refuse(head, self.source, Over::Tcp)
                    }
                };
                let mut work = Box::pin(self.service.answer(step, self.source));
                match at_once(&mut work).await {
                    Some(reply) => put(&mut output, reply),
                    None => under_way.push(work),
                }
                (half, timer) = (false, Box::pin(sleep(idle)));
            }
            if !output.is_empty() {
                match timeout(TAKING, self.stream.write_all_buf(&mut output)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return End::Io(error),
                    Err(_) => return End::NotTaken,
                }
            }
            if let Some(end) = end.take_if(|_| under_way.is_empty()) {
                let _ = timeout(TAKING, self.stream.shutdown()).await;
                return end;
            }
            let reading = end.is_none() && under_way.len() < UNDER_WAY_MAX;
            self.watch(&mut timer, &mut half, !input.is_empty());
            input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                Some(reply) = under_way.next(), if !under_way.is_empty() => put(&mut output, reply),
                () = &mut stopped, if end.is_none() => end = Some(End::Stop),
                () = &mut timer => return if half { End::HalfMessage } else { End::Idle },
                read = self.stream.read_buf(&mut input), if reading => match read {
                    Ok(0) => end = Some(End::Peer),
                    Ok(_) => {}
                    Err(error) => return End::Io(error),
                },
            }
        }
    }

    /// Half a message has less time than silence; the time runs from its first byte.
    fn watch(&self, timer: &mut Pin<Box<tokio::time::Sleep>>, half: &mut bool, some: bool) {
        if some != *half {
            *half = some;
            let idle = Duration::from_secs(self.options.idle_timeout_s);
            let patience = if some { Duration::from_millis(self.options.message_timeout_ms) } else { idle };
            *timer = Box::pin(sleep(patience));
        }
    }
}

fn put(output: &mut BytesMut, reply: Option<Reply>) {
    if let Some(Reply { bytes, .. }) = reply {
        output.extend_from_slice(&bytes);
    }
}
