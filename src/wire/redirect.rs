//! The redirect server without its sockets: a SIP request in, an answer out, or a question to ask first.
//!
//! Stateless (RFC 3261 §8.2.7): the same request has the same answer because its To tag is a keyed hash of what names it, and
//! because the same lookup has the same lease. There is no transaction to remember; an ACK is absorbed, since it is never answered.

mod contact;
#[cfg(test)]
mod tests;

use super::ask::RouteAsk;
use super::refusal::{BadRequest, Refusal};
use super::sip::{self, Draft, Head, Message, Request};
use super::token::{Secret, lease_id};
use crate::domain::id::{LeaseId, PoolId};
use crate::domain::pool::Kind;
use crate::domain::uri::{NodeUri, RequestUri, UriError};
use contact::Called;
use std::net::SocketAddr;

/// Methods that are served (RFC 3261 §20.5).
const ALLOW: &str = "INVITE, ACK, CANCEL, OPTIONS";

/// Methods that are known, and not served: 405, not 501 (RFC 3261 §21.4.6, §21.5.2).
const KNOWN: [&str; 10] =
    ["BYE", "REGISTER", "PRACK", "UPDATE", "INFO", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"];

/// An answer over UDP is at most so many times as large as its request, as long as that leaves one Contact: a source address may be
/// forged, and this server is then no louder than QUIC is to such a source (RFC 9000 §8).
pub const GROWTH_MAX: usize = 3;

/// What a request came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A datagram: its source may be forged.
    Udp,
    /// A connection: its source answered a handshake.
    Tcp,
}

/// What is to be done with what came.
#[derive(Debug)]
pub enum Step {
    /// Nothing is said; why.
    Silence(Silence),
    /// This is said.
    Say(Reply),
    /// The answer hangs on a lookup.
    Ask(Box<Question>),
    /// The answer hangs on whether the INVITE was answered here.
    Cancel(Box<Cancel>),
}

/// Why nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Line ends only (RFC 5626 §4.4.1).
    KeepAlive,
    /// An ACK: it has no answer (RFC 3261 §17).
    Ack,
    /// A response: this server asks nobody.
    Response,
    /// Nothing that an answer could be made of.
    Malformed,
}

impl Silence {
    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Silence::KeepAlive => "keepalive",
            Silence::Ack => "ack",
            Silence::Response => "response",
            Silence::Malformed => "malformed",
        }
    }
}

/// A response, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// Where it goes over UDP; over TCP it goes back on its connection.
    pub to: SocketAddr,
    /// The method that is answered, out of a short list: for metrics.
    pub method: &'static str,
    /// The status.
    pub code: u16,
    /// The Call-ID, for the log.
    pub call_id: String,
}

/// What the server knows before anything comes.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Key of the To tags.
    pub secret: Secret,
    /// The pool that is asked; `None`: the first of the configuration.
    pub pool: Option<PoolId>,
}

impl Rules {
    /// Reads what came. Nothing that a peer sends makes this panic.
    pub fn read(&self, bytes: &[u8], source: SocketAddr, over: Over) -> Step {
        let mut request = match sip::parse(bytes) {
            Ok(Message::Request(request)) => request,
            Ok(Message::Response(_)) => return Step::Silence(Silence::Response),
            Err(sip::SipError::Empty) => return Step::Silence(Silence::KeepAlive),
            Err(_) => return self.refuse(bytes, source, over),
        };
        if request.method == "ACK" {
            return Step::Silence(Silence::Ack);
        }
        let Ok(to) = request.came_from(source) else { return Step::Silence(Silence::Malformed) };
        let asked = Asked { tag: self.to_tag(&request.head), to, size: bytes.len(), over, request };
        asked.step(self.pool.as_ref(), source)
    }

    /// Says 400 (or 505) to what is no message, where there is enough left to say it to.
    pub fn refuse(&self, bytes: &[u8], source: SocketAddr, over: Over) -> Step {
        let Some(sip::Broken { mut request, code }) = sip::mend(bytes) else {
            return Step::Silence(Silence::Malformed);
        };
        let Ok(to) = request.came_from(source) else { return Step::Silence(Silence::Malformed) };
        let asked = Asked { tag: self.to_tag(&request.head), to, size: bytes.len(), over, request };
        asked.plain(code, &[])
    }

    /// RFC 3261 §8.2.7: the same for each retransmission; §9.2: and for its CANCEL, whose Call-ID, From tag and branch are the INVITE's.
    fn to_tag(&self, head: &Head) -> String {
        let parts = [head.call_id(), head.from_tag().unwrap_or(""), head.branch().unwrap_or("")];
        let mut text = String::from("to-tag");
        for part in parts {
            // Lengths first, as for leases: two requests must not run together.
            text.push_str(&format!(":{}:{part}", part.len()));
        }
        // 64 bits; RFC 3261 §19.3 wants 32 of chance at least.
        format!("{:032x}", u128::from_be_bytes(self.secret.mac(&text))).split_off(16)
    }
}

/// A request that can be answered.
#[derive(Debug)]
struct Asked {
    request: Request,
    tag: String,
    to: SocketAddr,
    size: usize,
    over: Over,
}

impl Asked {
    fn step(self, pool: Option<&PoolId>, source: SocketAddr) -> Step {
        let head = &self.request.head;
        if !head.addresses_are_closed() {
            return self.plain(400, &[]);
        }
        match self.request.method.as_str() {
            "CANCEL" => match read_ask(&self.request, None, source) {
                Ok((ask, _)) => Step::Cancel(Box::new(Cancel { asked: self, ask })),
                Err(code) => self.plain(code, &[]),
            },
            // RFC 3261 §12.2.2: there is no dialog here.
            _ if head.to_tag().is_some() => self.plain(481, &[]),
            "INVITE" => match read_ask(&self.request, pool, source) {
                Ok((ask, called)) => Step::Ask(Box::new(Question { asked: self, ask, called })),
                Err(code) => self.plain(code, &[]),
            },
            "OPTIONS" => match (read_uri(&self.request.uri), head.required().map(str::to_owned)) {
                (Err(code), _) => self.plain(code, &[]),
                // RFC 3261 §8.2.2.3. What an INVITE requires is for the node to understand, and is not looked at.
                (Ok(_), Some(required)) => self.plain(420, &[("Unsupported", required)]),
                (Ok(_), None) => {
                    self.plain(200, &[("Allow", ALLOW.to_owned()), ("Accept", "application/sdp".to_owned())])
                }
            },
            method if KNOWN.contains(&method) => self.plain(405, &[("Allow", ALLOW.to_owned())]),
            _ => self.plain(501, &[("Allow", ALLOW.to_owned())]),
        }
    }

    fn plain(&self, code: u16, headers: &[(&str, String)]) -> Step {
        match self.reply(code, headers) {
            Some(reply) => Step::Say(reply),
            None => Step::Silence(Silence::Malformed),
        }
    }

    /// `None`: something in the request cannot be repeated.
    fn reply(&self, code: u16, headers: &[(&str, String)]) -> Option<Reply> {
        let draft = Draft::response(&self.request, code, phrase(code), Some(&self.tag));
        let draft = headers.iter().fold(draft, |draft, (name, value)| draft.with(name, value.as_str()));
        let (method, call_id) = (method_word(&self.request.method), self.request.head.call_id().to_owned());
        Some(Reply { bytes: draft.bytes(b"").ok()?, to: self.to, method, code, call_id })
    }
}

/// An INVITE: a lookup has to be asked.
#[derive(Debug)]
pub struct Question {
    asked: Asked,
    ask: RouteAsk,
    called: Called,
}

impl Question {
    /// The lookup.
    pub fn ask(&self) -> &RouteAsk {
        &self.ask
    }

    /// 302 with one Contact a target, the first the best (RFC 3261 §16.11, §21.3.3; q values: §20.10). Each carries its token as the
    /// parameter `mqs`. Over UDP the last targets are left out where the answer would be much larger than the question.
    pub fn redirect(&self, targets: &[(&NodeUri, &str)]) -> Option<Reply> {
        let contacts: Vec<(&str, String)> = (0u16..)
            .zip(targets)
            .map(|(rank, (node, token))| ("Contact", self.called.contact(node, token, rank)))
            .collect();
        let mut kept = contacts.len();
        loop {
            let reply = self.asked.reply(302, contacts.get(..kept)?)?;
            let room = match self.asked.over {
                Over::Udp => self.asked.size.saturating_mul(GROWTH_MAX),
                Over::Tcp => usize::MAX,
            };
            if reply.bytes.len() <= room || kept <= 1 {
                return Some(reply);
            }
            kept -= 1;
        }
    }

    /// The refusal's own code, with the reason (RFC 3326); `Retry-After` with 503 alone (RFC 3261 §21.5.4).
    pub fn refuse(&self, refusal: &Refusal) -> Option<Reply> {
        let Refusal { word, sip_code, retry_after_s, reason, .. } = refusal;
        let text: String =
            reason.chars().filter(|c| (' '..='~').contains(c) && !"\"\\".contains(*c)).take(120).collect();
        let mut headers =
            vec![("Reason", format!("SIP;cause={sip_code};text=\"MQS {}: {text}\"", word.as_str()))];
        if let Some(seconds) = retry_after_s.filter(|_| *sip_code == 503) {
            headers.push(("Retry-After", seconds.to_string()));
        }
        self.asked.reply(*sip_code, &headers)
    }
}

/// A CANCEL: 200 where its INVITE was answered, which it then changes nothing of (RFC 3261 §9.2), 481 elsewhere.
#[derive(Debug)]
pub struct Cancel {
    asked: Asked,
    ask: RouteAsk,
}

impl Cancel {
    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        self.ask.call_id.as_str()
    }

    /// The lease that its INVITE would have in this pool.
    pub fn lease(&self, pool: &PoolId) -> LeaseId {
        let RouteAsk { call_id, from_tag, cseq, .. } = &self.ask;
        lease_id(pool, call_id.as_str(), from_tag, *cseq, Kind::New)
    }

    /// The answer.
    pub fn answer(&self, known: bool) -> Option<Reply> {
        self.asked.reply(if known { 200 } else { 481 }, &[])
    }
}

/// The lookup of an INVITE, or the status that says what is wrong with it.
fn read_ask(request: &Request, pool: Option<&PoolId>, source: SocketAddr) -> Result<(RouteAsk, Called), u16> {
    let uri = read_uri(&request.uri)?;
    let called = Called::of(&uri);
    let bad = |_: BadRequest| 400u16;
    let mut ask = RouteAsk::of(request.head.call_id().parse().map_err(bad)?, uri);
    ask.from_tag = request.head.from_tag().unwrap_or("").to_owned();
    ask.cseq = request.head.cseq().0;
    ask.source = Some(source.to_string());
    ask.pool = pool.cloned();
    Ok((ask.check().map_err(bad)?, called))
}

fn read_uri(uri: &str) -> Result<RequestUri, u16> {
    uri.parse().map_err(|error| match error {
        // RFC 3261 §21.4.14, §21.4.11.
        UriError::Scheme(_) => 416,
        UriError::TooLong(_) => 414,
        UriError::Empty
        | UriError::Byte(..)
        | UriError::Host(_)
        | UriError::Port(_)
        | UriError::Extra(_)
        | UriError::Subject(_) => 400,
    })
}

/// A method as metrics name it: a peer's invention must not make a line of its own.
fn method_word(method: &str) -> &'static str {
    let served = ["INVITE", "CANCEL", "OPTIONS"];
    served.iter().chain(&KNOWN).find(|known| **known == method).copied().unwrap_or("other")
}

fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        414 => "Request-URI Too Long",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        600 => "Busy Everywhere",
        603 => "Decline",
        _ => "Refused",
    }
}
