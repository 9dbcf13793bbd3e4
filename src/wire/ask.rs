//! The questions of the control protocol, as types. Whatever the transport, a question is parsed here and nowhere else.

use super::attrs::{self, shorten};
use super::refusal::BadRequest;
use crate::domain::id::{ChannelId, NodeId, PoolId, Tag, Tenant, Zone};
use crate::domain::pool::{Kind, TARGETS_MAX};
use crate::domain::uri::RequestUri;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

/// The longest Call-ID and From tag, in bytes.
pub const CALL_ID_MAX: usize = 256;

const LIST_MAX: usize = 64;

/// How much is repeated of what a value's own parser said, in characters.
const SAID_MAX: usize = 160;

/// A Call-ID that was checked: 1 … 256 printable ASCII bytes without blanks (RFC 3261 §25.1 `callid` allows no others).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallId(Box<str>);

impl CallId {
    /// As it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for CallId {
    type Err = BadRequest;
    fn from_str(s: &str) -> Result<CallId, BadRequest> {
        check_word("call_id", s)?;
        match s {
            "" => Err(BadRequest::new("call_id", "empty".to_owned())),
            // Kamailio writes an undefined pseudo-variable so.
            "<null>" => Err(BadRequest::new(
                "call_id",
                "\"<null>\": the script passed an undefined variable".to_owned(),
            )),
            // What $ci is in Kamailio's dialog event routes after a local time-out.
            "aaa-bbb-ccc-ddd" => Err(BadRequest::new(
                "call_id",
                "\"aaa-bbb-ccc-ddd\": this is the faked request of an event route; use $dlg(callid)"
                    .to_owned(),
            )),
            _ => Ok(CallId(s.into())),
        }
    }
}

/// `ROUTE`, and `EXPLAIN` with three arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAsk {
    /// Call-ID of the INVITE.
    pub call_id: CallId,
    /// Its Request-URI.
    pub request_uri: RequestUri,
    /// Its From tag; may be empty.
    pub from_tag: String,
    /// Its CSeq number.
    pub cseq: u32,
    /// Where it came from, for logs and explanations.
    pub source: Option<String>,
    /// What kind of call.
    pub kind: Kind,
    /// The pool; `None`: the first of the configuration.
    pub pool: Option<PoolId>,
    /// Zone of the caller; `None`: the instance's.
    pub zone: Option<Zone>,
    /// What the node must be able to do.
    pub tags: BTreeSet<Tag>,
    /// Nodes not to use.
    pub exclude: BTreeSet<NodeId>,
    /// The caller's own node, for kind `agent`.
    pub node: Option<NodeId>,
    /// An offer's token, not yet verified: it names pool and node of a kind `agent`, and is used up by it.
    pub offer: Option<String>,
    /// The channel that the token was made for, once it was verified: its lease is named by it.
    pub leg: Option<ChannelId>,
    /// How many targets at most; `None`: as the pool says.
    pub targets_max: Option<u8>,
    /// On whose behalf the call is: its limits count.
    pub tenant: Option<Tenant>,
    /// Lookups with the same text go to the same node while that has room: 1 … [`CALL_ID_MAX`] printable bytes without blanks.
    pub sticky: Option<String>,
    /// Keep the whole table with the decision.
    pub explain: bool,
}

impl RouteAsk {
    /// A question without wishes.
    pub fn new(call_id: &str, request_uri: &str) -> Result<RouteAsk, BadRequest> {
        Ok(RouteAsk::of(call_id.parse()?, value("request_uri", request_uri)?))
    }

    /// A question without wishes, of parts that were read already.
    pub fn of(call_id: CallId, request_uri: RequestUri) -> RouteAsk {
        RouteAsk {
            call_id,
            request_uri,
            from_tag: String::new(),
            cseq: 0,
            source: None,
            kind: Kind::New,
            pool: None,
            zone: None,
            tags: BTreeSet::new(),
            exclude: BTreeSet::new(),
            node: None,
            offer: None,
            leg: None,
            targets_max: None,
            tenant: None,
            sticky: None,
            explain: false,
        }
    }

    /// Reads the three arguments of `ROUTE`.
    pub fn parse(call_id: &str, request_uri: &str, attributes: &str) -> Result<RouteAsk, BadRequest> {
        let mut ask = RouteAsk::new(call_id, request_uri)?;
        for (key, text) in attrs::parse(attributes)? {
            match key {
                "ft" => ask.from_tag = text,
                "cs" => ask.cseq = number("cs", &text)?,
                "src" => ask.source = Some(text),
                "kind" => ask.kind = kind(&text)?,
                "pool" => ask.pool = Some(value("pool", &text)?),
                "zone" => ask.zone = Some(value("zone", &text)?),
                "tags" => ask.tags = list("tags", text.split(','))?,
                "x" => ask.exclude = list("x", text.split(','))?,
                "node" => ask.node = Some(value("node", &text)?),
                "tok" => ask.offer = Some(text),
                "n" => ask.targets_max = Some(number("n", &text)?),
                "tenant" => ask.tenant = Some(value("tenant", &text)?),
                "sticky" => ask.sticky = Some(text),
                "explain" => ask.explain = flag("explain", &text)?,
                other => {
                    let known =
                        "ft, cs, src, kind, pool, zone, tags, x, node, tok, n, tenant, sticky, explain";
                    return Err(unknown(other, known));
                }
            }
        }
        ask.check()
    }

    /// What holds between the parts, and for parts that came as plain text.
    pub fn check(self) -> Result<RouteAsk, BadRequest> {
        check_word("ft", &self.from_tag)?;
        if let Some(source) = &self.source {
            check_word("src", source)?;
        }
        if let Some(key) = &self.sticky {
            check_word("sticky", key)?;
        }
        let wrong = |field: &str, reason: &str| Err(BadRequest::new(field, reason.to_owned()));
        match (self.kind, &self.node, &self.offer) {
            (Kind::Agent, None, None) => {
                wrong("node", "kind agent needs the caller's node, or an offer's token")
            }
            (Kind::Agent, Some(_), Some(_)) => wrong("node", "an offer's token names the node"),
            (Kind::Agent, None, Some(_)) if self.pool.is_some() => {
                wrong("pool", "an offer's token names the pool")
            }
            (Kind::New | Kind::Callback, Some(_), _) => wrong("node", "only kind agent names a node"),
            (Kind::New | Kind::Callback, None, Some(_)) => {
                wrong("tok", "only kind agent has an offer's token")
            }
            (Kind::Agent, Some(_), None)
            | (Kind::Agent, None, Some(_))
            | (Kind::New | Kind::Callback, None, None) => match self.targets_max {
                Some(n) if n == 0 || n > TARGETS_MAX => {
                    Err(BadRequest::new("n", format!("{n} targets; 1 to {TARGETS_MAX} are allowed")))
                }
                Some(_) | None => Ok(self),
            },
        }
    }
}

/// `CONFIRM`, `FAIL` and `DONE`: what follows the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchAsk {
    /// Index of the target; `None`: the one that the token was made for.
    pub branch: Option<u8>,
    /// SIP status that the branch ended with; 408: silence; 0: transport error.
    pub code: Option<u16>,
    /// Seconds of its `Retry-After`, where it had one.
    pub retry: Option<u32>,
}

impl BranchAsk {
    /// Reads the attributes behind the token.
    pub fn parse(attributes: &str) -> Result<BranchAsk, BadRequest> {
        let mut ask = BranchAsk::default();
        for (key, text) in attrs::parse(attributes)? {
            match key {
                "branch" => ask.branch = Some(number("branch", &text)?),
                "code" => ask.code = Some(number("code", &text)?),
                "retry" => ask.retry = Some(number("retry", &text)?),
                other => return Err(unknown(other, "branch, code, retry")),
            }
        }
        ask.check()
    }

    /// Checks the ranges.
    pub fn check(self) -> Result<BranchAsk, BadRequest> {
        if let Some(n) = self.branch.filter(|n| *n >= TARGETS_MAX) {
            return Err(BadRequest::new("branch", format!("{n}; 0 to {} are allowed", TARGETS_MAX - 1)));
        }
        if let Some(code) = self.code.filter(|c| *c != 0 && !(100..=699).contains(c)) {
            return Err(BadRequest::new("code", format!("{code}; 0 or 100 to 699 are allowed")));
        }
        Ok(self)
    }
}

/// Parses one value, and names the field when it is wrong.
pub fn value<T>(field: &str, text: &str) -> Result<T, BadRequest>
where
    T: FromStr,
    T::Err: Display,
{
    // Some errors quote their part of the text whole; what is refused must not make a long answer.
    let said = |e: T::Err| e.to_string().chars().take(SAID_MAX).collect::<String>();
    text.parse().map_err(|e| BadRequest::new(field, format!("{:?}: {}", shorten(text), said(e))))
}

/// Parses a list of names.
pub fn list<'a, T>(field: &str, texts: impl Iterator<Item = &'a str>) -> Result<BTreeSet<T>, BadRequest>
where
    T: FromStr + Ord,
    T::Err: Display,
{
    let found: BTreeSet<T> = texts
        .filter(|t| !t.is_empty())
        .take(LIST_MAX + 1)
        .map(|t| value(field, t))
        .collect::<Result<_, _>>()?;
    if found.len() > LIST_MAX {
        return Err(BadRequest::new(field, format!("more than {LIST_MAX} names")));
    }
    Ok(found)
}

/// Reads the word for a kind.
pub fn kind(text: &str) -> Result<Kind, BadRequest> {
    Kind::from_word(text)
        .ok_or_else(|| BadRequest::new("kind", format!("{:?}; use new, callback or agent", shorten(text))))
}

pub(super) fn number<T: FromStr>(field: &str, text: &str) -> Result<T, BadRequest> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| BadRequest::new(field, format!("{:?} is not a number in its range", shorten(text))))
}

fn flag(field: &str, text: &str) -> Result<bool, BadRequest> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(BadRequest::new(field, format!("{:?}; use 0 or 1", shorten(other)))),
    }
}

pub(super) fn unknown(key: &str, known: &str) -> BadRequest {
    BadRequest::new(key, format!("unknown attribute; known are {known}"))
}

/// At most 256 printable ASCII bytes without blanks.
fn check_word(field: &str, text: &str) -> Result<(), BadRequest> {
    if text.len() > CALL_ID_MAX {
        return Err(BadRequest::new(
            field,
            format!("{} bytes; at most {CALL_ID_MAX} are allowed", text.len()),
        ));
    }
    match text.bytes().enumerate().find(|(_, b)| !(0x21..=0x7e).contains(b)) {
        Some((at, b)) => {
            Err(BadRequest::new(field, format!("byte 0x{b:02x} at position {at} is not allowed")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(call_id: &str, uri: &str, attributes: &str) -> String {
        RouteAsk::parse(call_id, uri, attributes).unwrap_err().field
    }

    #[test]
    fn all_attributes_are_read() {
        let text = "ft=t%3B1;cs=4294967295;src=10.0.0.1:5060;kind=callback;pool=p;zone=z;tags=a,b;x=n1;n=12;explain=1";
        let ask = RouteAsk::parse("c@h", "tel:+4930", text).unwrap();
        assert_eq!((ask.from_tag.as_str(), ask.cseq, ask.kind), ("t;1", u32::MAX, Kind::Callback));
        assert_eq!((ask.tags.len(), ask.exclude.len(), ask.targets_max, ask.explain), (2, 1, Some(12), true));
        assert_eq!(RouteAsk::parse("c", "sip:a@b", "").unwrap(), RouteAsk::new("c", "sip:a@b").unwrap());
    }

    #[test]
    fn errors_name_the_culprit() {
        for call_id in ["", "<null>", "aaa-bbb-ccc-ddd", "a b", "a\0b", "a\r\n", "é", &"x".repeat(257)] {
            assert_eq!(refused(call_id, "sip:a@b", ""), "call_id", "{call_id:?}");
        }
        assert!(RouteAsk::parse(&"x".repeat(256), "sip:a@b", "").is_ok());
        assert_eq!(refused("c", "<null>", ""), "request_uri");
        let long = RouteAsk::parse("c", &format!("{}:a", "x".repeat(1000)), "").unwrap_err();
        assert!(long.reason.starts_with("\"xxx") && long.reason.len() < 300, "{}", long.reason);
        for (attributes, field) in [
            ("colour=red", "colour"),
            ("cs=-1", "cs"),
            ("cs=+1", "cs"),
            ("cs=4294967296", "cs"),
            ("kind=old", "kind"),
            ("kind=agent", "node"),
            ("node=ast1", "node"),
            ("kind=agent;node=ast1;tok=x", "node"),
            ("kind=agent;pool=p;tok=x", "pool"),
            ("kind=callback;tok=x", "tok"),
            ("tok=x", "tok"),
            ("n=0", "n"),
            ("n=13", "n"),
            ("pool=a.b", "pool"),
            ("tags=a,b%20c", "tags"),
            ("explain=yes", "explain"),
            ("ft=a%20b", "ft"),
            ("src=%C3%A9", "src"),
        ] {
            assert_eq!(refused("c", "sip:a@b", attributes), field, "{attributes:?}");
        }
        assert_eq!(BranchAsk::parse("branch=12").unwrap_err().field, "branch");
        assert_eq!(BranchAsk::parse("code=99").unwrap_err().field, "code");
        assert_eq!(
            BranchAsk::parse("branch=1;code=503").unwrap(),
            BranchAsk { branch: Some(1), code: Some(503), retry: None }
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(call_id in "\\PC{0,20}", uri in "(sip|tel|urn|x):\\PC{0,20}", attributes in "\\PC{0,60}") {
            let _ = RouteAsk::parse(&call_id, &uri, &attributes);
            let _ = BranchAsk::parse(&attributes);
        }
    }
}
