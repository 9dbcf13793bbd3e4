//! One connection: hyper reads and writes, this file keeps the time.
//!
//! hyper's own header timer also runs while a connection is idle, and a proxy's kept-alive connection may be idle for long. So
//! hyper's timer is the idle time-out here, and [`Watched`] keeps the shorter ones: from the first byte of a request to the end of
//! its headers, and how long a peer may leave an answer unread.

use super::Options;
use super::router::Front;
use crate::inbound::listen::{Incoming, Stream};
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The largest head of a request, in bytes; the buffer of a connection grows no further.
const HEAD_MAX: usize = 65_536;

/// The most headers of a request.
const HEADERS_MAX: usize = 100;

/// How long, and for how many bytes, a refused body is thrown away after the answer: closing at once would make the system send a
/// reset, and a reset can overtake the answer.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

/// How long a peer may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the head of a request, for the handshake, and for taking some of an answer.
    head: Duration,
    idle: Duration,
}

impl Limits {
    pub(super) fn new(options: &Options) -> Limits {
        Limits {
            head: Duration::from_millis(options.header_timeout_ms),
            idle: Duration::from_secs(options.idle_timeout_s),
        }
    }
}

/// Serves one connection until its peer leaves, a time-out, or `stop`.
pub(super) async fn run(incoming: Incoming, front: Arc<Front>, limits: Limits, stop: CancellationToken) {
    let peer = incoming.peer;
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.head, incoming.open()) => opened,
        () = stop.cancelled() => return,
    };
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(cause)) => return debug!(%peer, %cause, "http: no handshake"),
        Err(_) => return debug!(%peer, "http: no handshake in time"),
    };
    let pace = Arc::new(Pace::default());
    let io = TokioIo::new(Watched::new(stream, pace.clone(), limits));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        pace.answering();
        let (front, pace) = (front.clone(), pace.clone());
        async move {
            let brings_body = !request.body().is_end_stream();
            let response = front.answer(request).await;
            // A body that was refused may not have been read.
            pace.answered(brings_body && response.status().as_u16() >= 400);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        debug!(%peer, %cause, "http: connection ended");
    }
}

/// Where a connection is between its requests; told by the service, read by the socket. One task does both.
#[derive(Default)]
struct Pace {
    phase: AtomicU8,
    /// Which request: a timer that was set for an earlier one does not count.
    request: AtomicU64,
    unread_body: AtomicBool,
}

/// Nothing has come yet.
const FRESH: u8 = 0;
/// A request has begun.
const HEAD: u8 = 1;
/// A request is being answered; its body has a time-out of its own.
const ANSWERING: u8 = 2;
/// The answer was given; the next request has not begun.
const IDLE: u8 = 3;

impl Pace {
    fn answering(&self) {
        self.phase.store(ANSWERING, Relaxed);
        self.request.fetch_add(1, Relaxed);
    }

    fn answered(&self, unread_body: bool) {
        self.phase.store(IDLE, Relaxed);
        self.unread_body.store(unread_body, Relaxed);
    }

    fn bytes_came(&self) {
        if [FRESH, IDLE].contains(&self.phase.load(Relaxed)) {
            self.phase.store(HEAD, Relaxed);
        }
    }

    /// The request whose head is awaited.
    fn head_of(&self) -> Option<u64> {
        [FRESH, HEAD].contains(&self.phase.load(Relaxed)).then(|| self.request.load(Relaxed))
    }
}

/// A socket that gives up on a peer that takes too long.
struct Watched {
    stream: Stream,
    pace: Arc<Pace>,
    limits: Limits,
    reading: Option<(u64, Pin<Box<Sleep>>)>,
    writing: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

/// What is left to throw away.
struct Closing {
    bytes: usize,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    fn new(stream: Stream, pace: Arc<Pace>, limits: Limits) -> Watched {
        Watched { stream, pace, limits, reading: None, writing: None, closing: None }
    }

    /// `Pending`, unless that lasts for too long.
    fn poll_unread<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.writing = None;
            return done;
        }
        let limit = self.limits.head;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Poll::Ready(done) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                this.pace.bytes_came();
            }
            return Poll::Ready(done);
        }
        let Some(request) = this.pace.head_of() else {
            this.reading = None;
            return Poll::Pending;
        };
        if this.reading.as_ref().is_none_or(|(of, _)| *of != request) {
            this.reading = Some((request, Box::pin(sleep(this.limits.head))));
        }
        match &mut this.reading {
            Some((_, timer)) => ready!(timer.as_mut().poll(cx)),
            None => return Poll::Pending,
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no whole request head in time")))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.poll_unread(cx, done)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_flush(cx);
        this.poll_unread(cx, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let done = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.poll_unread(cx, done))?;
        }
        if !this.pace.unread_body.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let Closing { bytes, timer } =
            this.closing.get_or_insert_with(|| Closing { bytes: LINGER.1, timer: Box::pin(sleep(LINGER.0)) });
        let mut space = [0; 8192];
        while *bytes > 0 && timer.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            *bytes = bytes.saturating_sub(buf.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}
