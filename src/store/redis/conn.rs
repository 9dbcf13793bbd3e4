//! The connection: one to one server, reconnecting by itself; scripts; errors in the words of the store.
//!
//! The rest of the store knows only [`Conn::run`] and [`Conn::query`]: what finds and follows the server (one address now)
//! can change behind them.

use crate::store::StoreError;
use arc_swap::ArcSwap;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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
         or redis+unix:///path[?db=…&user=…&pass=…]"
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

/// A connection to one server.
pub(super) struct Conn {
    client: Client,
    options: Options,
    manager: ArcSwap<ConnectionManager>,
    timeouts: AtomicU32,
}

impl Conn {
    pub(super) fn new(url: &str, options: Options) -> Result<Conn, UrlError> {
        let wrong = |cause: String| UrlError { url: without_password(url), cause };
        if url.starts_with("rediss:") {
            // With two TLS libraries linked, rustls would not know which one to take. An error says that it knows already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(url).map_err(|e| wrong(e.to_string()))?;
        let manager = lazy(&client, options).map_err(|e| wrong(e.to_string()))?;
        Ok(Conn { client, options, manager: ArcSwap::from_pointee(manager), timeouts: AtomicU32::new(0) })
    }

    /// Runs a script, which the server may have forgotten.
    pub(super) async fn run(&self, op: &'static str, call: Call<'_>) -> Result<Reply, StoreError> {
        let known = call.command("EVALSHA", &call.script.sha);
        let used = self.manager.load_full();
        let mut manager = ConnectionManager::clone(&used);
        let ask = async {
            // The manager hands a server's error over as a value.
            let reply = manager.send_packed_command(&known).await.and_then(Value::extract_error);
            match reply.as_ref().map_err(RedisError::kind) {
                Err(ErrorKind::Server(ServerErrorKind::NoScript)) => {
                    manager.send_packed_command(&call.command("EVAL", call.script.source)).await
                }
                Ok(_) | Err(_) => reply,
            }
        };
        let reply = tokio::time::timeout(self.options.timeout, ask).await;
        self.judge(op, &used, reply.ok())
    }

    /// Sends a command.
    pub(super) async fn query(&self, op: &'static str, cmd: Cmd) -> Result<Reply, StoreError> {
        let used = self.manager.load_full();
        let mut manager = ConnectionManager::clone(&used);
        let reply = tokio::time::timeout(self.options.timeout, manager.send_packed_command(&cmd)).await;
        self.judge(op, &used, reply.ok())
    }

    fn judge(
        &self,
        op: &'static str,
        used: &Arc<ConnectionManager>,
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
                // The manager reconnects after I/O errors only. After any other it would keep the failed connection, or the
                // failure to make one, for ever: also when the password is right by now, or the server no longer a replica.
                if !error.is_io_error() {
                    self.renew(used);
                }
                Err(explain(op, &error))
            }
        }
    }

    fn timed_out(&self, op: &'static str, used: &Arc<ConnectionManager>) -> StoreError {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.timeouts.store(0, Ordering::Relaxed);
            self.renew(used);
        }
        StoreError::Timeout {
            op,
            after_ms: u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Lets the next operation begin with a new connection, unless another task has seen to that.
    fn renew(&self, used: &Arc<ConnectionManager>) {
        if let Ok(manager) = lazy(&self.client, self.options) {
            self.manager.compare_and_swap(used, Arc::new(manager));
        }
    }
}

fn explain(op: &'static str, error: &RedisError) -> StoreError {
    let cause = error.to_string();
    let away = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
            )
    );
    if away { StoreError::Away { op, cause } } else { StoreError::Refused { op, cause } }
}

fn lazy(client: &Client, options: Options) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(Some(options.timeout))
        .set_pipeline_buffer_size(1024);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// The URL as it may be logged.
fn without_password(url: &str) -> String {
    let (rest, query) = url.split_once('?').map_or((url, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let place = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, place)| format!("…@{place}"));
    let query = query.map(|query| {
        let shown = query.split('&').map(|pair| if pair.starts_with("pass=") { "pass=…" } else { pair });
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
