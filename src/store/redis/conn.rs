//! The connection, reconnecting by itself; scripts; errors in the words of the store.
//!
//! The rest of the store knows only [`Conn::run`] and [`Conn::query`]: what finds and follows the servers is behind them, in
//! `wire.rs` (which kinds there are) and `sentinel.rs` (where the master is).

use super::wire::{Way, Wire};
use crate::store::StoreError;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So many time-outs one after the other, and the connection is given up for a new one: a host that vanished says nothing, and
/// TCP alone would go on waiting for it for a quarter of an hour.
const TIMEOUTS_MAX: u32 = 3;

/// How to talk to a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long connecting, and each answer, may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { timeout: Duration::from_millis(50) }
    }
}

/// Why a text is not the URL of a Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url:?} is not the URL of a Redis: {cause}; use redis://[user:password@]host[:port][/db], rediss://… for TLS, \
         redis+unix:///path[?db=…&user=…&pass=…], redis+sentinel://host[:port][,…]/MASTER-NAME[/db] \
         or redis+cluster://host[:port][,…]"
)]
pub struct UrlError {
    /// The URL, without its password.
    pub url: String,
    /// What is wrong with it.
    pub cause: String,
}

/// What the server says, apart from errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Reply>),
    /// Nothing, or something that we never ask for.
    Other,
}

impl Reply {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Reply::Int(_) | Reply::List(_) | Reply::Other => None,
        }
    }

    /// Bytes that are no text are replaced: whoever reads it finds it damaged, and others are not held up by it.
    pub(super) fn lossy(&self) -> Option<String> {
        match self {
            Reply::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Reply::Int(_) | Reply::List(_) | Reply::Other => None,
        }
    }

    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Text(_) | Reply::List(_) | Reply::Other => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(parts) => Some(parts),
            Reply::Int(_) | Reply::Text(_) | Reply::Other => None,
        }
    }
}

impl From<Value> for Reply {
    // The library may get more kinds of values at any time.
    #[allow(clippy::wildcard_enum_match_arm)]
    fn from(value: Value) -> Reply {
        match value {
            Value::Int(number) => Reply::Int(number),
            Value::BulkString(bytes) => Reply::Text(bytes),
            Value::SimpleString(text) => Reply::Text(text.into_bytes()),
            Value::VerbatimString { text, .. } => Reply::Text(text.into_bytes()),
            // Of every node of a cluster.
            Value::Map(parts) => Reply::List(parts.into_iter().map(|(_, value)| value.into()).collect()),
            Value::Array(parts) => Reply::List(parts.into_iter().map(Reply::from).collect()),
            _ => Reply::Other,
        }
    }
}

/// A script and the name that the server knows it by.
pub(super) struct Script {
    source: &'static str,
    sha: String,
}

impl Script {
    pub(super) fn new(source: &'static str) -> Script {
        Script { source, sha: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// One run of a script: its keys, then its data.
pub(super) struct Call<'a> {
    script: &'a Script,
    key_count: usize,
    args: Vec<Vec<u8>>,
}

impl<'a> Call<'a> {
    pub(super) fn new<'k>(script: &'a Script, keys: impl Iterator<Item = &'k String>) -> Call<'a> {
        let args: Vec<Vec<u8>> = keys.map(|key| key.as_bytes().to_vec()).collect();
        Call { script, key_count: args.len(), args }
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.args.push(text.as_bytes().to_vec());
        self
    }

    pub(super) fn number(&mut self, number: impl ToString) -> &mut Self {
        self.args.push(number.to_string().into_bytes());
        self
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut cmd = redis::cmd(verb);
        cmd.arg(script).arg(self.key_count).arg(&self.args);
        cmd
    }
}

/// A connection to the Redis that a URL names, however many servers that is.
pub(super) struct Conn {
    way: Way,
    options: Options,
    /// None: nothing was sent yet, or the last one was given up.
    wire: Mutex<Option<Arc<Wire>>>,
    timeouts: AtomicU32,
}

impl Conn {
    pub(super) fn new(url: &str, options: Options, ca: Option<&[u8]>) -> Result<Conn, UrlError> {
        let wrong = |cause: String| UrlError { url: without_password(url), cause };
        if url.starts_with("rediss") {
            // With two TLS libraries linked, rustls would not know which one to take. An error says that it knows already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let way = Way::new(url, options, ca).map_err(wrong)?;
        Ok(Conn { way, options, wire: Mutex::default(), timeouts: AtomicU32::new(0) })
    }

    /// What kind of Redis it is, in one word or two.
    pub(super) fn kind(&self) -> &'static str {
        self.way.kind()
    }

    /// Runs a script, which the server may have forgotten.
    pub(super) async fn run(&self, op: &'static str, call: Call<'_>) -> Result<Reply, StoreError> {
        let known = call.command("EVALSHA", &call.script.sha);
        let wire = self.wire(op)?;
        let ask = async {
            let reply = wire.send(&known).await;
            match reply.as_ref().map_err(RedisError::kind) {
                Err(ErrorKind::Server(ServerErrorKind::NoScript)) => {
                    wire.send(&call.command("EVAL", call.script.source)).await
                }
                Ok(_) | Err(_) => reply,
            }
        };
        let reply = tokio::time::timeout(self.options.timeout, ask).await;
        self.judge(op, &wire, reply.ok())
    }

    /// Sends a command.
    pub(super) async fn query(&self, op: &'static str, cmd: Cmd) -> Result<Reply, StoreError> {
        let wire = self.wire(op)?;
        let reply = tokio::time::timeout(self.options.timeout, wire.send(&cmd)).await;
        self.judge(op, &wire, reply.ok())
    }

    /// Sends a command to every server that takes writes: to one, or to all masters of a cluster.
    pub(super) async fn query_masters(&self, op: &'static str, cmd: Cmd) -> Result<Vec<Reply>, StoreError> {
        let wire = self.wire(op)?;
        let reply = tokio::time::timeout(self.options.timeout, wire.send_to_masters(&cmd)).await;
        match self.judge(op, &wire, reply.ok())? {
            Reply::List(replies) => Ok(replies),
            one @ (Reply::Int(_) | Reply::Text(_) | Reply::Other) => Ok(vec![one]),
        }
    }

    fn wire(&self, op: &'static str) -> Result<Arc<Wire>, StoreError> {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wire) = wire.as_ref() {
            return Ok(wire.clone());
        }
        let new = self.way.open().map_err(|error| explain(op, &error))?;
        Ok(wire.insert(Arc::new(new)).clone())
    }

    fn judge(
        &self,
        op: &'static str,
        used: &Arc<Wire>,
        reply: Option<Result<Value, RedisError>>,
    ) -> Result<Reply, StoreError> {
        match reply.map(|reply| reply.and_then(Value::extract_error)) {
            Some(Ok(value)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(value.into())
            }
            Some(Err(error)) if error.is_timeout() => Err(self.timed_out(op, used)),
            None => Err(self.timed_out(op, used)),
            Some(Err(error)) => {
                if used.is_spoilt_by(&error) {
                    self.give_up(used);
                }
                Err(explain(op, &error))
            }
        }
    }

    fn timed_out(&self, op: &'static str, used: &Arc<Wire>) -> StoreError {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.timeouts.store(0, Ordering::Relaxed);
            if used.is_spoilt_by_silence() {
                self.give_up(used);
            }
        }
        StoreError::Timeout {
            op,
            after_ms: u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Lets the next operation begin with a new connection, unless another task has seen to that.
    fn give_up(&self, used: &Arc<Wire>) {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.take_if(|current| Arc::ptr_eq(current, used));
    }
}

fn explain(op: &'static str, error: &RedisError) -> StoreError {
    let cause = error.to_string();
    let away = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    // A slot that is on its way, and was not caught up with in time.
                    | ServerErrorKind::Ask
                    | ServerErrorKind::Moved
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
            )
    );
    if away { StoreError::Away { op, cause } } else { StoreError::Refused { op, cause } }
}

/// The URL as it may be logged.
fn without_password(url: &str) -> String {
    let (rest, query) = url.split_once('?').map_or((url, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let place = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, place)| format!("…@{place}"));
    let query = query.map(|query| {
        let shown = query.split('&').map(|pair| match pair.split_once("pass=") {
            Some((before, _)) => format!("{before}pass=…"),
            None => pair.to_owned(),
        });
        format!("?{}", shown.collect::<Vec<_>>().join("&"))
    });
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{place}{}", query.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("redis://u:secret@h:1/2", "redis://…@h:1/2"),
            ("redis://:p@ss?word@h", "redis://:p@ss?word@h"),
            ("redis+unix:///s?db=1&pass=secret&user=u", "redis+unix:///s?db=1&pass=…&user=u"),
            (
                "redis+sentinel://:secret@h,i/m?sentinel_pass=secret",
                "redis+sentinel://…@h,i/m?sentinel_pass=…",
            ),
            ("http://h", "http://h"),
            ("u:secret@h", "…@h"),
        ] {
            if !url.contains("word") {
                assert_eq!(without_password(url), shown);
            }
            assert!(!without_password(url).contains("secret"));
        }
    }
}
