//! The bodies of the HTTP interface (JSON, RFC 8259): the same questions as over RESP, through the same parsers.
//!
//! Nothing is guessed: an unknown member, a member given twice and a value of another type are refused, and the error names the
//! member. Nesting has no depth of its own: no member takes an object, and none but `tags` and `exclude` an array.

use super::ask::{self, BranchAsk, RouteAsk};
use super::attrs::shorten;
use super::refusal::BadRequest;
use crate::domain::id::{NodeId, Tag, Zone};
use crate::domain::node::NodeState;
use crate::domain::pool::Kind;
use crate::domain::uri::NodeUri;
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;
use std::collections::BTreeSet;

/// The most tags of a node, as in the configuration file.
pub const NODE_TAGS_MAX: usize = 32;

/// The longest explanation that a parser's error may have, in characters: it quotes what it did not like.
const REASON_MAX: usize = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteBody {
    call_id: Option<String>,
    request_uri: Option<String>,
    from_tag: Option<String>,
    cseq: Option<u32>,
    source: Option<String>,
    kind: Option<String>,
    pool: Option<String>,
    zone: Option<String>,
    tags: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    node: Option<String>,
    offer: Option<String>,
    targets_max: Option<u8>,
    tenant: Option<String>,
    sticky: Option<String>,
    explain: Option<bool>,
}

/// Reads the body of `route` and `explain`. As with attributes, a member with an empty text or `null` counts as absent.
pub fn route_ask(body: &[u8]) -> Result<RouteAsk, BadRequest> {
    let b: RouteBody = read(body)?;
    let blank = RouteAsk::new(&needed("call_id", b.call_id)?, &needed("request_uri", b.request_uri)?)?;
    let ask = RouteAsk {
        from_tag: b.from_tag.unwrap_or_default(),
        cseq: b.cseq.unwrap_or(0),
        source: given(b.source),
        kind: given(b.kind).map_or(Ok(Kind::New), |text| ask::kind(&text))?,
        pool: given(b.pool).map(|text| ask::value("pool", &text)).transpose()?,
        zone: given(b.zone).map(|text| ask::value("zone", &text)).transpose()?,
        tags: ask::list("tags", b.tags.unwrap_or_default().iter().map(String::as_str))?,
        exclude: ask::list("exclude", b.exclude.unwrap_or_default().iter().map(String::as_str))?,
        node: given(b.node).map(|text| ask::value("node", &text)).transpose()?,
        offer: given(b.offer),
        targets_max: b.targets_max,
        tenant: given(b.tenant).map(|text| ask::value("tenant", &text)).transpose()?,
        sticky: given(b.sticky),
        explain: b.explain.unwrap_or(false),
        ..blank
    };
    ask.check().map_err(|bad| BadRequest { field: member_of(bad.field), ..bad })
}

/// The member that stands for an attribute.
fn member_of(attribute: String) -> String {
    match attribute.as_str() {
        "ft" => "from_tag".to_owned(),
        "src" => "source".to_owned(),
        "n" => "targets_max".to_owned(),
        "tok" => "offer".to_owned(),
        _ => attribute,
    }
}

/// `confirm`, `fail` and `done`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleAsk {
    /// The token, not yet verified.
    pub token: String,
    /// What else was said.
    pub branch: BranchAsk,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    token: Option<String>,
    branch: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailBody {
    token: Option<String>,
    branch: Option<u8>,
    code: Option<u16>,
    retry: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    check: Option<bool>,
}

/// Reads the body of `reload`: whether only to tell what would be changed. Nothing at all stands for `{}`.
pub fn reload_check(body: &[u8]) -> Result<bool, BadRequest> {
    if body.trim_ascii().is_empty() {
        return Ok(false);
    }
    let ReloadBody { check } = read(body)?;
    Ok(check.unwrap_or(false))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DoneBody {
    token: Option<String>,
}

/// Reads the body of `confirm`.
pub fn confirm_ask(body: &[u8]) -> Result<SettleAsk, BadRequest> {
    let ConfirmBody { token, branch } = read(body)?;
    settle_ask(token, BranchAsk { branch, ..BranchAsk::default() })
}

/// Reads the body of `fail`.
pub fn fail_ask(body: &[u8]) -> Result<SettleAsk, BadRequest> {
    let FailBody { token, branch, code, retry } = read(body)?;
    settle_ask(token, BranchAsk { branch, code, retry })
}

/// Reads the body of `done`.
pub fn done_ask(body: &[u8]) -> Result<SettleAsk, BadRequest> {
    let DoneBody { token } = read(body)?;
    settle_ask(token, BranchAsk::default())
}

fn settle_ask(token: Option<String>, branch: BranchAsk) -> Result<SettleAsk, BadRequest> {
    Ok(SettleAsk { token: needed("token", token)?, branch: branch.check()? })
}

/// A node to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBody {
    /// Its name.
    pub id: NodeId,
    /// Where it listens.
    pub uri: NodeUri,
    /// Channels that it may carry.
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What it can do.
    pub tags: BTreeSet<Tag>,
    /// What it is asked to do.
    pub state: NodeState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireNode {
    id: Option<String>,
    uri: Option<String>,
    capacity: Option<u32>,
    zone: Option<String>,
    tags: Option<Vec<String>>,
    state: Option<String>,
}

/// Reads a node to add.
pub fn node_body(body: &[u8]) -> Result<NodeBody, BadRequest> {
    let b: WireNode = read(body)?;
    Ok(NodeBody {
        id: ask::value("id", &needed("id", b.id)?)?,
        uri: ask::value("uri", &needed("uri", b.uri)?)?,
        capacity: needed("capacity", b.capacity)?,
        zone: b.zone.map(|text| ask::value("zone", &text)).transpose()?,
        tags: node_tags(b.tags.unwrap_or_default())?,
        state: b.state.map_or(Ok(NodeState::Active), |text| node_state(&text))?,
    })
}

/// A change to a node; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePatchBody {
    /// Where it listens.
    pub uri: Option<NodeUri>,
    /// Channels that it may carry.
    pub capacity: Option<u32>,
    /// Where it stands; `Some(None)`: nowhere.
    pub zone: Option<Option<Zone>>,
    /// What it can do.
    pub tags: Option<BTreeSet<Tag>>,
    /// What it is asked to do.
    pub state: Option<NodeState>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePatch {
    #[serde(default, deserialize_with = "present")]
    uri: Option<String>,
    #[serde(default, deserialize_with = "present")]
    capacity: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    zone: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    state: Option<String>,
}

/// A member that is there; so that `null` is a value (`zone`), or of the wrong type, but never "as it was".
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads a change to a node.
pub fn node_patch(body: &[u8]) -> Result<NodePatchBody, BadRequest> {
    let b: WirePatch = read(body)?;
    let zone = |text: Option<String>| text.map(|t| ask::value("zone", &t)).transpose();
    Ok(NodePatchBody {
        uri: b.uri.map(|text| ask::value("uri", &text)).transpose()?,
        capacity: b.capacity,
        zone: b.zone.map(zone).transpose()?,
        tags: b.tags.map(node_tags).transpose()?,
        state: b.state.map(|text| node_state(&text)).transpose()?,
    })
}

pub(super) fn node_tags(texts: Vec<String>) -> Result<BTreeSet<Tag>, BadRequest> {
    let tags = ask::list("tags", texts.iter().map(String::as_str))?;
    if tags.len() > NODE_TAGS_MAX {
        return Err(BadRequest::new("tags", format!("more than {NODE_TAGS_MAX} names")));
    }
    Ok(tags)
}

fn node_state(text: &str) -> Result<NodeState, BadRequest> {
    match ask::value("state", text)? {
        NodeState::Removed => {
            Err(BadRequest::new("state", "\"removed\": delete the node instead".to_owned()))
        }
        state @ (NodeState::Active | NodeState::Draining | NodeState::Down) => Ok(state),
    }
}

pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}

pub(super) fn needed<T>(field: &str, value: Option<T>) -> Result<T, BadRequest> {
    value.ok_or_else(|| BadRequest::new(field, "missing".to_owned()))
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BadRequest> {
    let wrong = |reason: &str| BadRequest::new("body", reason.to_owned());
    // A derived type would take an array as well, its members by position.
    match body.trim_ascii_start().first() {
        Some(b'{') => {}
        None => return Err(wrong("empty; a JSON object is needed")),
        Some(_) => {
            return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
                Ok(_) => wrong("not a JSON object"),
                Err(error) => not_json(&error),
            });
        }
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let found = serde_path_to_error::deserialize(&mut from).map_err(named)?;
    from.end().map_err(|error| not_json(&error))?;
    Ok(found)
}

fn not_json(error: &serde_json::Error) -> BadRequest {
    BadRequest::new("body", format!("not JSON: {}", cut(&error.to_string())))
}

/// Names the member that an error is about.
fn named(error: serde_path_to_error::Error<serde_json::Error>) -> BadRequest {
    if !error.inner().is_data() {
        return not_json(error.inner());
    }
    let text = error.inner().to_string();
    let member = error.path().iter().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.as_str()),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    });
    // A member that is there twice is found when its path is left already; serde says which it was.
    let twice = || text.strip_prefix("duplicate field `")?.split('`').next();
    let reason = if twice().is_some() { "given twice".to_owned() } else { cut(&for_people(&text)) };
    // A member may have an empty name; an error may not.
    let culprit = twice().or(member).filter(|name| !name.is_empty());
    BadRequest { field: shorten(culprit.unwrap_or("body")), reason }
}

/// The names of Rust's types in words.
fn for_people(text: &str) -> String {
    let words = [
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
    ];
    // From the right: what stands before is quoted from the body, and ends before "expected".
    match text
        .rsplit_once(", expected ")
        .map(|(head, tail)| (head, tail.split_once(' ').unwrap_or((tail, ""))))
    {
        Some((head, (word, place))) => {
            match words.iter().find(|(rust, _)| rust.strip_prefix("expected ") == Some(word)) {
                Some((_, people)) => format!("{}, {people} {place}", cut(head)),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

/// Keeps the end, where the place is.
fn cut(text: &str) -> String {
    let long = text.chars().count();
    if long <= REASON_MAX {
        return text.to_owned();
    }
    let head = text.chars().take(REASON_MAX / 3);
    let tail = text.chars().skip(long - REASON_MAX / 2);
    head.chain(['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = r#"{"call_id":"c@h","request_uri":"tel:+4930","from_tag":"t;1","cseq":4294967295,
        "source":"10.0.0.1:5060","kind":"callback","pool":"p","zone":"z","tags":["a","b"],"exclude":["n1"],
        "targets_max":12,"explain":true}"#;

    #[test]
    fn a_body_and_attributes_are_the_same_question() {
        let attributes = "ft=t%3B1;cs=4294967295;src=10.0.0.1:5060;kind=callback;pool=p;zone=z;tags=a,b;x=n1;n=12;explain=1";
        assert_eq!(route_ask(ALL.as_bytes()), RouteAsk::parse("c@h", "tel:+4930", attributes));
        let leg = br#"{"call_id":"c","request_uri":"sip:a@b","kind":"agent","offer":"o1.x"}"#;
        assert_eq!(route_ask(leg), RouteAsk::parse("c", "sip:a@b", "kind=agent;tok=o1.x"));
        let plain = br#"{"call_id":"c","request_uri":"sip:a@b","zone":"","from_tag":null,"kind":""}"#;
        assert_eq!(route_ask(plain), RouteAsk::new("c", "sip:a@b"));
    }

    fn refused(members: &str) -> (String, String) {
        let body = format!(r#"{{"call_id":"c","request_uri":"sip:a@b",{members}}}"#);
        let bad = route_ask(body.as_bytes()).unwrap_err();
        (bad.field, bad.reason)
    }

    #[test]
    fn errors_name_the_member() {
        for (members, field, reason) in [
            (r#""colour":"red""#, "colour", "unknown field `colour`, expected one of `call_id`"),
            (r#""cseq":1,"cseq":1"#, "cseq", "given twice"),
            (
                r#""cseq":"1""#,
                "cseq",
                "invalid type: string \"1\", expected a whole number from 0 to 4294967295 at line 1 column",
            ),
            (r#""cseq":-1"#, "cseq", "invalid value: integer `-1`"),
            (r#""cseq":1.5"#, "cseq", "invalid type: floating point"),
            (r#""cseq":4294967296"#, "cseq", "invalid value"),
            (r#""from_tag":7"#, "from_tag", "invalid type: integer `7`, expected a string"),
            (r#""from_tag":"a b""#, "from_tag", "byte 0x20"),
            (r#""source":"\u0000""#, "source", "byte 0x00"),
            (r#""tags":"a""#, "tags", "invalid type: string"),
            (r#""tags":["a",1]"#, "tags", "invalid type: integer"),
            (r#""tags":["a,b"]"#, "tags", "','"),
            (r#""exclude":["-"]"#, "exclude", "'-'"),
            (r#""kind":"old""#, "kind", "use new, callback or agent"),
            (r#""kind":"agent""#, "node", "needs the caller's node"),
            (r#""offer":"x""#, "offer", "only kind agent"),
            (r#""targets_max":13"#, "targets_max", "1 to 12"),
            (r#""targets_max":256"#, "targets_max", "expected a whole number from 0 to 255"),
            (r#""explain":1"#, "explain", "expected a boolean"),
            (r#""pool":{"pool":{}}"#, "pool", "invalid type: map"),
        ] {
            let (found, text) = refused(members);
            assert_eq!(found, field, "{members}: {text}");
            assert!(text.contains(reason), "{members}: {text}");
        }
        for (body, field) in [
            (r#"{"request_uri":"sip:a@b"}"#, "call_id"),
            (r#"{"call_id":"c","request_uri":null}"#, "request_uri"),
            (r#"{"call_id":"a\r\nX: y","request_uri":"sip:a@b"}"#, "call_id"),
            (r#"{"call_id":"<null>","request_uri":"sip:a@b"}"#, "call_id"),
            (r#"["c","sip:a@b"]"#, "body"),
            (r#"{"":1}"#, "body"),
            ("", "body"),
        ] {
            assert_eq!(route_ask(body.as_bytes()).unwrap_err().field, field, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_said_with_line_and_column() {
        let reason = |body: &str| route_ask(body.as_bytes()).unwrap_err().to_string();
        assert!(
            reason("{\"call_id\":\n  oops}").contains("body: not JSON: expected value at line 2 column 3")
        );
        assert!(reason("call_id=c").contains("body: not JSON: expected value at line 1 column 1"));
        assert!(reason(&format!("{ALL} x")).contains("trailing characters at line 3"));
        assert!(reason("{\"call_id\":\"c\"").contains("EOF"));
        let long = reason(&format!("{{\"cseq\":{:?}}}", "x".repeat(9000)));
        assert!(
            long.chars().count() < 2 * REASON_MAX && long.contains("4294967295 at line 1 column 90"),
            "{long}"
        );
    }

    #[test]
    fn depth_is_bounded() {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(100_000);
            assert!(route_ask(deep.as_bytes()).is_err());
            let (field, _) = refused(&format!("\"tags\":{deep}"));
            assert!(["tags", "body"].contains(&field.as_str()), "{field}");
        }
    }

    #[test]
    fn verbs_have_their_own_members() {
        assert_eq!(fail_ask(br#"{"token":"t","branch":1,"code":503}"#).unwrap().branch.code, Some(503));
        assert_eq!(confirm_ask(br#"{"token":"t","code":503}"#).unwrap_err().field, "code");
        assert_eq!(done_ask(br#"{"token":"t","branch":0}"#).unwrap_err().field, "branch");
        assert_eq!(done_ask(br#"{}"#).unwrap_err().field, "token");
        assert_eq!(fail_ask(br#"{"token":"t","code":99}"#).unwrap_err().field, "code");
        assert_eq!(confirm_ask(br#"{"token":"t","branch":12}"#).unwrap_err().field, "branch");
    }

    #[test]
    fn a_patch_tells_null_from_absent() {
        let none = node_patch(b"{}").unwrap();
        assert_eq!((none.zone.clone(), none), (None, NodePatchBody::default()));
        assert_eq!(node_patch(br#"{"zone":null}"#).unwrap().zone, Some(None));
        assert_eq!(node_patch(br#"{"zone":"z"}"#).unwrap().zone, Some("z".parse().ok()));
        for (body, field) in [
            (r#"{"uri":null}"#, "uri"),
            (r#"{"tags":null}"#, "tags"),
            (r#"{"zone":""}"#, "zone"),
            (r#"{"state":"removed"}"#, "state"),
            (r#"{"id":"b"}"#, "id"),
            (r#"{"capacity":1,"capacity":2}"#, "capacity"),
        ] {
            assert_eq!(node_patch(body.as_bytes()).unwrap_err().field, field, "{body}");
        }
        let node = node_body(br#"{"id":"a","uri":"sip:10.0.0.1","capacity":9}"#).unwrap();
        assert_eq!((node.state, node.zone, node.tags.len()), (NodeState::Active, None, 0));
        assert_eq!(node_body(br#"{"id":"a","uri":"sip:10.0.0.1"}"#).unwrap_err().field, "capacity");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,\"a-c0-9\\\\ ]{0,80}") {
            for bytes in [body.as_slice(), text.as_bytes()] {
                let _ = (route_ask(bytes), fail_ask(bytes), node_body(bytes), node_patch(bytes));
            }
        }
    }
}
