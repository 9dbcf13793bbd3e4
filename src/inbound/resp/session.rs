//! What one connection may say, and what it means: commands in, [`Step`]s out. No I/O here.

use crate::dispatch::settle::Verb;
use crate::domain::id::PoolId;
use crate::inbound::listen::Peer;
use crate::wire::ask::{self, BranchAsk, CallId, RouteAsk};
use crate::wire::attrs::shorten;
use crate::wire::heartbeat::HeartbeatAsk;
use crate::wire::own_call::OwnCallAsk;
use crate::wire::refusal::{BadRequest, Refusal};
use crate::wire::register::RegisterAsk;
use crate::wire::resp::{Command, Reply};
use bytes::Bytes;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Wrong passwords on one connection before it is closed.
const WRONG_MAX: u32 = 5;

const NAME_MAX: usize = 128;

/// What is to be done for a command.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The answer is known.
    Say(Reply),
    /// The answer is known, and the last one.
    SayAndClose(Reply),
    /// What this instance says of itself.
    Info,
    /// `ROUTE`.
    Route(Box<RouteAsk>),
    /// A `ROUTE` that is malformed: a lookup all the same, and counted as one.
    Malformed(Refusal),
    /// `CONFIRM`, `FAIL`, `DONE`.
    Settle(Verb, String, BranchAsk),
    /// `EXPLAIN` of what was answered.
    Decision(CallId),
    /// `EXPLAIN` of what would be answered.
    Explain(Box<RouteAsk>),
    /// `NODES`.
    Nodes(Option<PoolId>),
    /// `NODE`: a heartbeat.
    Heartbeat(PoolId, Box<HeartbeatAsk>),
    /// `REG`: somebody has registered, or has left.
    Register(Box<RegisterAsk>),
    /// `USE`: a phone's own call begins, or has ended.
    OwnCall(Box<OwnCallAsk>),
}

impl Step {
    /// Whether the answer may be long, so that not many should be made at once.
    pub(super) fn is_heavy(&self) -> bool {
        match self {
            Step::Decision(_) | Step::Explain(_) | Step::Nodes(_) => true,
            Step::Say(_)
            | Step::SayAndClose(_)
            | Step::Info
            | Step::Route(_)
            | Step::Malformed(_)
            | Step::Settle(..)
            | Step::Heartbeat(..)
            | Step::Register(_)
            | Step::OwnCall(_) => false,
        }
    }
}

/// Whether a peer may ask.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// What a peer must say; `None` in a gate that is needed lets nobody in.
    token: Option<Arc<str>>,
    needed: bool,
}

impl Gate {
    pub(super) fn new(needed: bool, token: Option<Arc<str>>) -> Gate {
        Gate { token, needed }
    }

    /// Where no password is needed any one will do: `ndb_redis` sends one when its configuration has one.
    fn admits(&self, password: &[u8]) -> bool {
        !self.needed || self.token.as_ref().is_some_and(|token| token.as_bytes().ct_eq(password).into())
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Counts connections from 1.
    pub(super) id: i64,
    /// Who it is.
    pub(super) peer: Peer,
    gate: Gate,
    admitted: bool,
    wrong: u32,
    name: Option<Bytes>,
}

#[derive(Clone, Copy)]
enum Word {
    Route,
    Settle(Verb),
    Explain,
    Nodes,
    Node,
    Reg,
    Use,
    Ping,
    Echo,
    Select,
    Auth,
    Hello,
    Client,
    Command,
    Info,
    Config,
    Flush,
    Reset,
    Quit,
}

/// Every command with the least and the most arguments that it takes.
const WORDS: [(&str, Word, usize, usize); 22] = [
    ("route", Word::Route, 2, 3),
    ("confirm", Word::Settle(Verb::Confirm), 1, 2),
    ("done", Word::Settle(Verb::Done), 1, 1),
    ("fail", Word::Settle(Verb::Fail), 1, 2),
    ("ping", Word::Ping, 0, 1),
    ("explain", Word::Explain, 1, 3),
    ("nodes", Word::Nodes, 0, 1),
    ("node", Word::Node, 2, 3),
    ("reg", Word::Reg, 1, 2),
    ("use", Word::Use, 1, 2),
    ("echo", Word::Echo, 1, 1),
    ("select", Word::Select, 1, 1),
    ("auth", Word::Auth, 1, 2),
    ("hello", Word::Hello, 0, usize::MAX),
    ("client", Word::Client, 1, usize::MAX),
    ("command", Word::Command, 0, usize::MAX),
    ("info", Word::Info, 0, usize::MAX),
    ("config", Word::Config, 1, usize::MAX),
    ("flushall", Word::Flush, 0, 1),
    ("flushdb", Word::Flush, 0, 1),
    ("reset", Word::Reset, 0, 0),
    ("quit", Word::Quit, 0, usize::MAX),
];

impl Session {
    pub(super) fn new(id: i64, peer: Peer, gate: Gate) -> Session {
        Session { id, peer, admitted: !gate.needed, gate, wrong: 0, name: None }
    }

    /// Whether the peer may ask, or has still to say the password.
    pub(super) fn admitted(&self) -> bool {
        self.admitted
    }

    /// What a command means.
    pub(super) fn take(&mut self, command: &Command) -> Step {
        let known = WORDS.iter().find(|(name, ..)| is(&command.name, name));
        let early = matches!(known, Some((_, Word::Auth | Word::Hello | Word::Reset | Word::Quit, ..)));
        if is_http(command) {
            return Step::SayAndClose(Reply::error("ERR this is RESP, not HTTP"));
        }
        if !self.admitted && !early {
            return say("NOAUTH Authentication required.");
        }
        let Some((name, word, least, most)) = known else {
            return say(format!("ERR unknown command '{}'", shown(&command.name)));
        };
        let args = command.args.as_slice();
        if args.len() < *least || args.len() > *most {
            return say(format!("ERR wrong number of arguments for '{name}' command"));
        }
        match word {
            Word::Route => match read_route(args) {
                Ok(ask) => Step::Route(Box::new(ask)),
                Err(bad) => {
                    // It is the proxy's script that wants mending, so its author should find this.
                    let call_id = args.first().map(|arg| shown(arg)).unwrap_or_default();
                    tracing::info!(
                        call_id,
                        field = bad.field,
                        reason = bad.reason,
                        "malformed lookup refused"
                    );
                    Step::Malformed(Refusal::bad_request(bad))
                }
            },
            Word::Settle(verb) => or_refusal(read_settle(*verb, args)),
            Word::Explain => or_refusal(read_explain(args)),
            Word::Nodes => or_refusal(read_nodes(args)),
            Word::Node => or_refusal(read_heartbeat(args)),
            Word::Reg => or_refusal(read_register(args)),
            Word::Use => or_refusal(read_own_call(args)),
            Word::Ping => Step::Say(args.first().cloned().map_or(Reply::Simple("PONG".into()), Reply::Bulk)),
            Word::Echo => Step::Say(args.first().cloned().map_or(Reply::Null, Reply::Bulk)),
            Word::Select => select(args),
            // `AUTH user password`: there is one password and no users.
            Word::Auth => self.auth(args.last()),
            Word::Hello => self.hello(args),
            Word::Client => self.client(args),
            Word::Command if args.first().is_some_and(|sub| is(sub, "count")) => {
                Step::Say(Reply::Integer(i64::try_from(WORDS.len()).unwrap_or(i64::MAX)))
            }
            Word::Command => Step::Say(Reply::Array(Vec::new())),
            Word::Info => Step::Info,
            Word::Config => match args.first() {
                Some(sub) if is(sub, "get") => Step::Say(Reply::Array(Vec::new())),
                other => unknown_sub(other),
            },
            // `ndb_redis` says it after each reconnect when it is told to. There is nothing here that it could mean.
            Word::Flush => Step::Say(Reply::OK),
            Word::Reset => {
                self.admitted = !self.gate.needed;
                self.name = None;
                Step::Say(Reply::Simple("RESET".into()))
            }
            Word::Quit => Step::SayAndClose(Reply::OK),
        }
    }

    fn auth(&mut self, password: Option<&Bytes>) -> Step {
        if password.is_some_and(|password| self.gate.admits(password)) {
            self.admitted = true;
            return Step::Say(Reply::OK);
        }
        self.wrong += 1;
        tracing::warn!(peer = %self.peer, times = self.wrong, "wrong password");
        let wrong = Reply::error("WRONGPASS invalid username-password pair or user is disabled.");
        if self.wrong < WRONG_MAX { Step::Say(wrong) } else { Step::SayAndClose(wrong) }
    }

    /// `HELLO [2 [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self, args: &[Bytes]) -> Step {
        let mut rest = match args {
            [] => args,
            [version, rest @ ..] => match version.as_ref() {
                b"2" => rest,
                other if !other.is_empty() && other.iter().all(u8::is_ascii_digit) => {
                    return say("NOPROTO unsupported protocol version");
                }
                _ => return say("ERR Protocol version is not an integer or out of range"),
            },
        };
        loop {
            rest = match rest {
                [] => break,
                [option, _user, password, rest @ ..] if is(option, "auth") => {
                    let step = self.auth(Some(password));
                    if step != Step::Say(Reply::OK) {
                        return step;
                    }
                    rest
                }
                [option, name, rest @ ..] if is(option, "setname") => {
                    let step = self.set_name(name);
                    if step != Step::Say(Reply::OK) {
                        return step;
                    }
                    rest
                }
                [option, ..] => return say(format!("ERR Syntax error in HELLO option '{}'", shown(option))),
            };
        }
        if !self.admitted {
            return say("NOAUTH HELLO must be called with the client already authenticated, or with AUTH.");
        }
        let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        Step::Say(Reply::Array(vec![
            text("server"),
            text("mqs"),
            text("version"),
            text(env!("CARGO_PKG_VERSION")),
            text("proto"),
            Reply::Integer(2),
            text("id"),
            Reply::Integer(self.id),
            text("mode"),
            text("standalone"),
            text("role"),
            text("master"),
            text("modules"),
            Reply::Array(Vec::new()),
        ]))
    }

    fn client(&mut self, args: &[Bytes]) -> Step {
        let Some((sub, rest)) = args.split_first() else { return unknown_sub(None) };
        match rest {
            [] if is(sub, "id") => Step::Say(Reply::Integer(self.id)),
            [] if is(sub, "getname") => Step::Say(self.name.clone().map_or(Reply::Null, Reply::Bulk)),
            [] if is(sub, "info") || is(sub, "list") => {
                let name = self.name.as_deref().map(shown).unwrap_or_default();
                Step::Say(Reply::bulk(format!("id={} addr={} name={name} resp=2\n", self.id, self.peer)))
            }
            [name] if is(sub, "setname") => self.set_name(name),
            [_] if is(sub, "no-evict") || is(sub, "no-touch") => Step::Say(Reply::OK),
            [_, _] if is(sub, "setinfo") => Step::Say(Reply::OK),
            [on] if is(sub, "reply") && is(on, "on") => Step::Say(Reply::OK),
            _ => unknown_sub(Some(sub)),
        }
    }

    fn set_name(&mut self, name: &Bytes) -> Step {
        if name.len() > NAME_MAX || !name.iter().all(u8::is_ascii_graphic) {
            return say("ERR Client names cannot contain spaces, newlines or special characters.");
        }
        // A copy: a slice would keep all that came with it.
        self.name = (!name.is_empty()).then(|| Bytes::copy_from_slice(name));
        Step::Say(Reply::OK)
    }
}

fn read_route(args: &[Bytes]) -> Result<RouteAsk, BadRequest> {
    let call_id = text("call_id", args.first())?;
    RouteAsk::parse(call_id, text("request_uri", args.get(1))?, text("attributes", args.get(2))?)
}

fn read_settle(verb: Verb, args: &[Bytes]) -> Result<Step, BadRequest> {
    let ask = BranchAsk::parse(text("attributes", args.get(1))?)?;
    Ok(Step::Settle(verb, text("token", args.first())?.to_owned(), ask))
}

fn read_explain(args: &[Bytes]) -> Result<Step, BadRequest> {
    match args {
        [call_id] => Ok(Step::Decision(text("call_id", Some(call_id))?.parse()?)),
        all => Ok(Step::Explain(Box::new(read_route(all)?))),
    }
}

fn read_nodes(args: &[Bytes]) -> Result<Step, BadRequest> {
    let pool = args.first().map(|pool| ask::value("pool", text("pool", Some(pool))?)).transpose()?;
    Ok(Step::Nodes(pool))
}

fn read_heartbeat(args: &[Bytes]) -> Result<Step, BadRequest> {
    let pool = ask::value("pool", text("pool", args.first())?)?;
    let id = ask::value("id", text("id", args.get(1))?)?;
    let ask = HeartbeatAsk::from_attributes(id, text("attributes", args.get(2))?)?;
    Ok(Step::Heartbeat(pool, Box::new(ask)))
}

fn read_register(args: &[Bytes]) -> Result<Step, BadRequest> {
    let aor = text("aor", args.first())?;
    let ask = RegisterAsk::from_attributes(aor, text("attributes", args.get(1))?)?;
    Ok(Step::Register(Box::new(ask)))
}

fn read_own_call(args: &[Bytes]) -> Result<Step, BadRequest> {
    let aor = text("aor", args.first())?;
    let ask = OwnCallAsk::from_attributes(aor, text("attributes", args.get(1))?)?;
    Ok(Step::OwnCall(Box::new(ask)))
}

/// An argument as text; one that was left out is empty.
fn text<'a>(field: &str, arg: Option<&'a Bytes>) -> Result<&'a str, BadRequest> {
    let bytes = arg.map(AsRef::as_ref).unwrap_or_default();
    std::str::from_utf8(bytes)
        .map_err(|e| BadRequest::new(field, format!("not UTF-8 from position {} on", e.valid_up_to())))
}

fn or_refusal(read: Result<Step, BadRequest>) -> Step {
    read.unwrap_or_else(|bad| {
        // Without the first argument: it may be a token.
        tracing::info!(field = bad.field, reason = bad.reason, "malformed question refused");
        Step::Say(Reply::bulk(Refusal::bad_request(bad).to_string()))
    })
}

fn select(args: &[Bytes]) -> Step {
    match text("db", args.first()).ok().and_then(|n| n.parse::<i64>().ok()) {
        Some(0..=15) => Step::Say(Reply::OK),
        Some(_) => say("ERR DB index is out of range"),
        None => say("ERR value is not an integer or out of range"),
    }
}

fn unknown_sub(sub: Option<&Bytes>) -> Step {
    say(format!("ERR unknown subcommand '{}'", sub.map(|sub| shown(sub)).unwrap_or_default()))
}

fn say(error: impl Into<std::borrow::Cow<'static, str>>) -> Step {
    Step::Say(Reply::error(error))
}

fn is(given: &[u8], word: &str) -> bool {
    given.eq_ignore_ascii_case(word.as_bytes())
}

/// A peer's bytes for an error or the log: printable, and not long.
fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..bytes.len().min(NAME_MAX)).unwrap_or_default();
    shorten(&start.escape_ascii().to_string())
}

/// A browser can be made to post to a port of its own host: after its first line the connection must end, or the lines of the body
/// would be commands.
fn is_http(command: &Command) -> bool {
    let methods = ["post", "get", "put", "patch", "delete", "head", "options", "host:"];
    command.inline && methods.iter().any(|method| is(&command.name, method))
}

#[cfg(test)]
mod tests;
