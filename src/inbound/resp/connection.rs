//! One connection: bytes in, answers out, in the order of the questions.
//!
//! Reading stops while answers wait to be taken, so a pipeline of any length needs a bounded amount of memory. Lookups that were
//! asked together are answered together: they share a batch to the store.

use super::session::{Session, Step};
use crate::clock::Stopwatch;
use crate::dispatch::Dispatcher;
use crate::dispatch::cell::RegisterError;
use crate::dispatch::registration::{HeartbeatError, HeartbeatInfo};
use crate::dispatch::settle::{Report, SettleError, Verb};
use crate::domain::id::PoolId;
use crate::wire::ask::{BranchAsk, CallId, RouteAsk};
use crate::wire::attrs::encode;
use crate::wire::heartbeat::HeartbeatAsk;
use crate::wire::refusal::Refusal;
use crate::wire::resp::{self, ProtocolError, Reply};
use bytes::{Buf as _, BytesMut};
use futures_util::future::join_all;
use serde::Serialize;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Commands that are answered before the next look at the socket, and so the most lookups under way at once.
const TOGETHER_MAX: usize = 64;

/// While so many bytes of answers wait to be taken, nothing more is answered or read.
const OUTPUT_HIGH_BYTES: usize = 256 * 1024;

/// At least so much room for each read, in bytes.
const READ_BYTES: usize = 4 * 1024;

/// A buffer that grew larger is given back when it is empty.
const KEPT_BYTES: usize = 32 * 1024;

/// How long a peer may take to say the password, where one is needed.
const ADMISSION: Duration = Duration::from_secs(10);

/// What is still read after the stop, in bytes: a peer that never stops asking must not keep the server.
const LAST_READ_BYTES: usize = 256 * 1024;

/// How long a peer may take for the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What a connection needs to answer.
pub(super) struct Service<'a> {
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) started: Stopwatch,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The peer closed it.
    #[error("closed by the peer")]
    Peer,
    /// `QUIT`, or a command after which a peer is not listened to.
    #[error("quit")]
    Quit,
    /// The server stops.
    #[error("the server stops")]
    Stop,
    /// What came is not RESP2.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// Half a command, and then silence.
    #[error("the rest of a command did not come")]
    HalfCommand,
    /// The answers were not taken.
    #[error("the answers were not taken")]
    NotTaken,
    /// No password within the time allowed.
    #[error("no password in time")]
    NotAdmitted,
    /// The system said no.
    #[error("{0}")]
    Io(io::Error),
}

/// Answers commands until one side has had enough.
pub(super) async fn talk<S>(
    stream: S,
    mut session: Session,
    service: Service<'_>,
    patience: Duration,
    stop: &CancellationToken,
) -> End
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (pin!(reader), pin!(writer));
    let mut stopped = pin!(stop.cancelled());
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let (mut half_command, mut admission) = (Timer::default(), Timer::default());
    let mut unflushed = false;
    // How many bytes may still be read after the stop; what lies in the socket was asked before it.
    let mut may_read = None;
    // What the connection will end with; nothing is read after that is known.
    let mut end = None;
    let end = loop {
        // Whether more commands may be there than were answered.
        let mut more = true;
        if output.len() < OUTPUT_HIGH_BYTES {
            let taken = take_steps(&mut input, &mut session);
            more = taken.more;
            if !taken.steps.is_empty() {
                half_command.stop();
                service.answer_all(taken.steps, &mut output).await;
                unflushed = true;
            }
            if let Some(last) = taken.end {
                input.clear();
                end = Some(last);
            }
        }
        if !unflushed
            && !more
            && let Some(end) = end.take()
        {
            let _ = timeout(LAST_ANSWERS, writer.shutdown()).await;
            break end;
        }
        let room = output.len() < OUTPUT_HIGH_BYTES;
        let reading = end.is_none() && !more && room;
        half_command.run_if(reading && !input.is_empty(), patience);
        admission.run_if(!session.admitted(), ADMISSION);
        give_back(&mut output);
        if reading {
            give_back(&mut input);
            input.reserve(READ_BYTES);
        }
        let taking = if end.is_none() && may_read.is_none() { patience } else { LAST_ANSWERS };
        // In this order, so that a peer that never stops asking starves neither its own answers nor the clock.
        tokio::select! {
            biased;
            put = put(&mut writer, &mut output), if unflushed => match put {
                Ok(()) => unflushed = false,
                Err(error) => break End::Io(error),
            },
            () = &mut stopped, if may_read.is_none() => may_read = Some(LAST_READ_BYTES),
            () = half_command.ended() => break End::HalfCommand,
            () = admission.ended() => break End::NotAdmitted,
            () = async { sleep(taking).await }, if unflushed => break End::NotTaken,
            () = std::future::ready(()), if more && room => {}
            read = read_more(&mut reader, &mut input, may_read.is_some()), if reading => match read {
                Ok(0) => end = Some(if may_read.is_some() { End::Stop } else { End::Peer }),
                Ok(count) => match &mut may_read {
                    Some(left) if *left <= count => end = Some(End::Stop),
                    Some(left) => *left -= count,
                    None => {}
                },
                Err(error) => break End::Io(error),
            },
        }
    };
    debug!(peer = %session.peer, connection = session.id, %end, "connection closed");
    end
}

struct Taken {
    steps: Vec<Step>,
    /// More commands may be there.
    more: bool,
    /// Nothing behind these is listened to.
    end: Option<End>,
}

/// Takes commands out of `input`, as many as may be answered together.
fn take_steps(input: &mut BytesMut, session: &mut Session) -> Taken {
    let mut steps = Vec::new();
    while steps.len() < TOGETHER_MAX && !steps.last().is_some_and(Step::is_heavy) {
        match resp::decode(input) {
            Ok(Some(command)) => {
                steps.push(session.take(&command));
                if matches!(steps.last(), Some(Step::SayAndClose(_))) {
                    return Taken { steps, more: false, end: Some(End::Quit) };
                }
            }
            Ok(None) => return Taken { steps, more: false, end: None },
            Err(error) => {
                info!(peer = %session.peer, %error, "not RESP");
                steps.push(Step::Say(Reply::error(format!("ERR {error}"))));
                return Taken { steps, more: false, end: Some(End::Protocol(error)) };
            }
        }
    }
    Taken { steps, more: true, end: None }
}

/// Reads once; where `now`, only what has come already: 0 is then "nothing".
async fn read_more(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    now: bool,
) -> io::Result<usize> {
    let read = reader.read_buf(input);
    if now { timeout(Duration::ZERO, read).await.unwrap_or(Ok(0)) } else { read.await }
}

/// Writes all of `output`. May be dropped at any time and tried again: what was written is no longer in `output`.
async fn put(writer: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<()> {
    while output.has_remaining() {
        if writer.write_buf(output).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    writer.flush().await
}

fn give_back(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BYTES {
        *buffer = BytesMut::new();
    }
}

impl Service<'_> {
    /// Answers in the order of the questions. Lookups beside each other are under way together; everything else waits for what was
    /// asked before it, since it may be about that.
    async fn answer_all(&self, steps: Vec<Step>, output: &mut BytesMut) {
        let mut lookups = Vec::new();
        for step in steps {
            if let Step::Route(ask) = step {
                lookups.push(*ask);
                continue;
            }
            self.answer_lookups(&mut lookups, output).await;
            self.answer(step).await.encode(output);
        }
        self.answer_lookups(&mut lookups, output).await;
    }

    async fn answer_lookups(&self, asks: &mut Vec<RouteAsk>, output: &mut BytesMut) {
        match asks.as_slice() {
            [] => return,
            [ask] => self.route(ask).await.encode(output),
            several => {
                let answers = join_all(several.iter().map(|ask| self.route(ask))).await;
                answers.iter().for_each(|answer| answer.encode(output));
            }
        }
        asks.clear();
    }

    async fn answer(&self, step: Step) -> Reply {
        match step {
            Step::Say(reply) | Step::SayAndClose(reply) => reply,
            Step::Info => self.info(),
            Step::Route(ask) => self.route(&ask).await,
            Step::Malformed(refusal) => {
                self.dispatcher.metrics().lookup("", "badreq", VIA, Duration::ZERO);
                refused(&refusal)
            }
            Step::Settle(verb, token, ask) => self.settle(verb, &token, ask).await,
            Step::Decision(call_id) => self.decision(&call_id),
            Step::Explain(ask) => match self.dispatcher.explain(&ask).await {
                Ok(decision) => json(&decision),
                Err(refusal) => refused(&refusal),
            },
            Step::Nodes(pool) => self.nodes(pool.as_ref()).await,
            Step::Heartbeat(pool, ask) => self.heartbeat(&pool, &ask).await,
            Step::Register(ask) => Service::noted(self.dispatcher.register(&ask).await),
            Step::OwnCall(ask) => Service::noted(self.dispatcher.own_call(&ask).await),
        }
    }

    async fn route(&self, ask: &RouteAsk) -> Reply {
        match self.dispatcher.route(ask, VIA).await {
            Ok(routed) => Reply::bulk(routed.document),
            Err(refusal) => refused(&refusal),
        }
    }

    async fn settle(&self, verb: Verb, token: &str, ask: BranchAsk) -> Reply {
        match self.dispatcher.settle(verb, token, ask).await {
            Ok(Report { result, moved: None }) => Reply::bulk(format!("OK {result}")),
            Ok(Report { result, moved: Some((attempt, node)) }) => {
                Reply::bulk(format!("OK {result} attempt={attempt};node={}", encode(&node)))
            }
            Err(SettleError::Refused(refusal)) => refused(&refusal),
            // An error, not a bulk string: the proxy keeps the verb and says it again.
            Err(SettleError::Store(error)) => Reply::error(format!("ERR {error}")),
        }
    }

    fn decision(&self, call_id: &CallId) -> Reply {
        match self.dispatcher.decision(call_id.as_str()) {
            Ok(decision) => json(&*decision),
            Err(refusal) => refused(&refusal),
        }
    }

    async fn nodes(&self, pool: Option<&PoolId>) -> Reply {
        match self.dispatcher.list(pool).await {
            Ok(nodes) => json(&nodes),
            Err(refusal) => refused(&refusal),
        }
    }

    async fn heartbeat(&self, pool: &PoolId, ask: &HeartbeatAsk) -> Reply {
        match self.dispatcher.heartbeat(pool, ask).await {
            Ok(HeartbeatInfo { result, state, load, ttl_s, expires_ms, .. }) => {
                let ttl = ttl_s.map(|s| format!(";ttl_s={s}")).unwrap_or_default();
                let until = expires_ms.map(|ms| format!(";expires_ms={ms}")).unwrap_or_default();
                Reply::bulk(format!("OK {result} state={state};load={load}{ttl}{until}"))
            }
            Err(HeartbeatError::Refused(problem)) => Reply::bulk(problem.refusal()),
            Err(HeartbeatError::Store(error)) => Reply::error(format!("ERR {error}")),
        }
    }

    fn noted(result: Result<(), RegisterError>) -> Reply {
        match result {
            Ok(()) => Reply::bulk("OK"),
            Err(RegisterError::Refused(refusal)) => refused(&refusal),
            // As for a verb: the proxy keeps it and says it again.
            Err(RegisterError::Store(error)) => Reply::error(format!("ERR {error}")),
        }
    }

    fn info(&self) -> Reply {
        let lines = [
            "# Server".to_owned(),
            format!("mqs_version:{}", env!("CARGO_PKG_VERSION")),
            format!("instance:{}", self.dispatcher.settings().instance),
            format!("store:{}", self.dispatcher.store().kind()),
            format!("uptime_in_seconds:{}", self.started.elapsed().as_secs()),
        ];
        Reply::bulk(lines.join("\r\n") + "\r\n")
    }
}

/// The word for this way in, in metrics.
pub(super) const VIA: &str = "resp";

fn refused(refusal: &Refusal) -> Reply {
    Reply::bulk(refusal.to_string())
}

/// On one line.
fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::bulk(text),
        Err(error) => Reply::error(format!("ERR {error}")),
    }
}

/// Runs from the moment when its condition began to hold.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn run_if(&mut self, holds: bool, after: Duration) {
        match (&self.0, holds) {
            (None, true) => self.0 = Some(Box::pin(sleep(after))),
            (Some(_), false) => self.stop(),
            (None, false) | (Some(_), true) => {}
        }
    }

    fn stop(&mut self) {
        self.0 = None;
    }

    async fn ended(&mut self) {
        match &mut self.0 {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
    }
}
