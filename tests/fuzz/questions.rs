//! Questions: attributes, the arguments of `ROUTE`, and the bodies of the HTTP interface.

use crate::brew::Corpus;
use crate::check_words;
use mqs::domain::pool::{Kind, TARGETS_MAX};
use mqs::domain::registration::Saying;
use mqs::wire::api::{self, NodeBody, NodePatchBody, SettleAsk};
use mqs::wire::ask::{BranchAsk, CALL_ID_MAX, RouteAsk};
use mqs::wire::attrs::{self, ATTRS_MAX};
use mqs::wire::heartbeat::HeartbeatAsk;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const WORDS: [&str; 36] = [
    ";",
    "=",
    "%",
    "%0d%0a",
    "%00",
    "%zz",
    "%C3%A9",
    ",",
    "\n",
    " ",
    "\r\n",
    "\0",
    "é",
    "ft=",
    "cs=",
    "kind=agent;",
    "node=ast1;",
    "x=a,b;",
    "tags=a;",
    "n=12;",
    "n=13",
    "4294967296",
    "-1",
    "+1",
    "explain=1;",
    "<null>",
    "sip:",
    "urn:service:sos",
    "tel:+49",
    "[::1]",
    "@",
    "code=0;",
    "branch=11;",
    "a",
    "\"",
    "\u{85}",
];

// ---- attributes ----

fn joined<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.into_iter().map(|(key, v)| format!("{key}={}", attrs::encode(&v))).collect();
    pairs.join(";")
}

fn check_attributes(corpus: &Corpus, drawn: &[u8]) -> bool {
    let text = corpus.brew_text(drawn);
    match attrs::parse(&text) {
        Ok(found) => {
            let keys: BTreeSet<&str> = found.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys.len(), found.len(), "{text:?}");
            assert!(found.iter().all(|(_, v)| !v.is_empty() && !v.chars().any(char::is_control)), "{text:?}");
            let again = joined(found.iter().cloned());
            if again.len() <= ATTRS_MAX {
                assert_eq!(attrs::parse(&again).as_ref(), Ok(&found), "{text:?}");
            }
        }
        Err(bad) => check_words(&bad.field, &bad.reason),
    }
    if let Ok(ask) = BranchAsk::parse(&text) {
        assert!(ask.branch.is_none_or(|n| n < TARGETS_MAX));
        assert!(ask.code.is_none_or(|c| c == 0 || (100..700).contains(&c)));
    }
    attrs::parse(&text).is_ok()
}

#[test]
fn attributes() {
    let seeds = [
        "ft=a%3Bb%3Dc;zone=;;cs=12",
        "branch=1;code=503",
        "ft=t%3B1;cs=4294967295;src=10.0.0.1:5060;kind=callback;pool=p;zone=z;tags=a,b;x=n1;n=12;explain=1",
        "k=é;l=\"\\+ '",
    ];
    let corpus = Corpus::new(&seeds, &WORDS);
    crate::fuzz!(|drawn: &[u8]| check_attributes(&corpus, drawn));
}

// ---- lookups ----

fn check_ask(ask: &RouteAsk) {
    let words = [ask.call_id.as_str(), &ask.from_tag].into_iter().chain(ask.source.as_deref());
    for word in words {
        assert!(word.len() <= CALL_ID_MAX && word.bytes().all(|b| b.is_ascii_graphic()), "{word:?}");
    }
    let uri = ask.request_uri.as_str();
    assert!(uri.len() <= 1024 && uri.bytes().all(|b| b.is_ascii_graphic()), "{uri:?}");
    assert_eq!(ask.kind == Kind::Agent, ask.node.is_some());
    assert!(ask.targets_max.is_none_or(|n| (1..=TARGETS_MAX).contains(&n)));
    assert!(ask.tags.len() <= 64 && ask.exclude.len() <= 64);
    let attributes = as_attributes(ask);
    if attributes.len() <= ATTRS_MAX {
        assert_eq!(RouteAsk::parse(ask.call_id.as_str(), uri, &attributes).as_ref(), Ok(ask), "{attributes}");
    }
    // The same question over the other transport.
    assert_eq!(api::route_ask(as_json(ask).to_string().as_bytes()).as_ref(), Ok(ask));
}

fn names<T: ToString>(set: &BTreeSet<T>) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

fn as_attributes(ask: &RouteAsk) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    joined([
        ("ft", ask.from_tag.clone()),
        ("cs", ask.cseq.to_string()),
        ("src", text(&ask.source)),
        ("kind", ask.kind.as_str().to_owned()),
        ("pool", text(&ask.pool.as_ref().map(ToString::to_string))),
        ("zone", text(&ask.zone.as_ref().map(ToString::to_string))),
        ("tags", names(&ask.tags).join(",")),
        ("x", names(&ask.exclude).join(",")),
        ("node", text(&ask.node.as_ref().map(ToString::to_string))),
        ("n", text(&ask.targets_max.map(|n| n.to_string()))),
        ("explain", u8::from(ask.explain).to_string()),
    ])
}

fn as_json(ask: &RouteAsk) -> Value {
    json!({
        "call_id": ask.call_id.as_str(), "request_uri": ask.request_uri.as_str(), "from_tag": ask.from_tag,
        "cseq": ask.cseq, "source": ask.source, "kind": ask.kind.as_str(),
        "pool": ask.pool.as_ref().map(ToString::to_string), "zone": ask.zone.as_ref().map(ToString::to_string),
        "tags": names(&ask.tags), "exclude": names(&ask.exclude),
        "node": ask.node.as_ref().map(ToString::to_string), "targets_max": ask.targets_max, "explain": ask.explain,
    })
}

fn check_lookup(corpus: &Corpus, drawn: &[u8]) -> bool {
    let text = corpus.brew_text(drawn);
    // Three arguments on three lines; the last has all that follows.
    let mut parts = text.splitn(3, '\n');
    let mut next = || parts.next().unwrap_or("");
    match RouteAsk::parse(next(), next(), next()) {
        Ok(ask) => {
            check_ask(&ask);
            true
        }
        Err(bad) => {
            check_words(&bad.field, &bad.reason);
            let mut letters = bad.field.bytes();
            assert!(letters.all(|b| b.is_ascii_lowercase() || b == b'_'), "{bad:?} names no argument");
            false
        }
    }
}

#[test]
fn route_arguments() {
    let seeds = [
        "c@h\nsip:100@example.com\nft=a;cs=1",
        "c\ntel:+49-30\nkind=callback;pool=p;zone=z;tags=a,b;x=n1,n2;n=12;explain=1;src=10.0.0.1:5060",
        "c\nsips:a@[2001:db8::1]:5061;transport=tls?x=y\nkind=agent;node=ast1",
        "c\nurn:service:sos.fire\nft=a%3Bb",
    ];
    let corpus = Corpus::new(&seeds, &WORDS);
    crate::fuzz!(|drawn: &[u8]| check_lookup(&corpus, drawn));
}

// ---- bodies ----

fn node_json(n: &NodeBody) -> Value {
    json!({
        "id": n.id.to_string(), "uri": n.uri.as_str(), "capacity": n.capacity, "tags": names(&n.tags),
        "zone": n.zone.as_ref().map(ToString::to_string), "state": n.state.as_str(),
    })
}

fn patch_json(n: &NodePatchBody) -> Value {
    let mut members = serde_json::Map::new();
    let mut put = |key: &str, value: Option<Value>| value.map(|v| members.insert(key.to_owned(), v));
    put("uri", n.uri.as_ref().map(|v| v.as_str().into()));
    put("capacity", n.capacity.map(Into::into));
    put("zone", n.zone.as_ref().map(|zone| zone.as_ref().map(ToString::to_string).into()));
    put("tags", n.tags.as_ref().map(|v| names(v).into()));
    put("state", n.state.map(|v| v.as_str().into()));
    Value::Object(members)
}

fn settle_json(ask: &SettleAsk) -> Value {
    json!({ "token": ask.token, "branch": ask.branch.branch, "code": ask.branch.code })
}

fn heartbeat_json(ask: &HeartbeatAsk) -> Value {
    let n = &ask.node;
    json!({
        "uri": n.uri.as_str(), "capacity": n.capacity, "tags": names(&n.tags), "ttl_s": ask.ttl_s,
        "zone": n.zone.as_ref().map(ToString::to_string), "state": said(ask.saying),
    })
}

fn heartbeat_attributes(ask: &HeartbeatAsk) -> String {
    let n = &ask.node;
    joined([
        ("uri", n.uri.to_string()),
        ("capacity", n.capacity.to_string()),
        ("tags", names(&n.tags).join(",")),
        ("ttl_s", ask.ttl_s.map(|s| s.to_string()).unwrap_or_default()),
        ("zone", n.zone.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("state", said(ask.saying).to_owned()),
    ])
}

fn said(saying: Saying) -> &'static str {
    match saying {
        Saying::Active => "active",
        Saying::Draining => "draining",
        Saying::Gone => "gone",
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn check_body(corpus: &Corpus, drawn: &[u8]) -> bool {
    let body = corpus.brew(drawn);
    let mut bad = Vec::new();
    let mut refused = |what| bad.push(what);
    let is_object = serde_json::from_slice::<Value>(&body).is_ok_and(|v| v.is_object());
    api::route_ask(&body).map(|ask| check_ask(&ask)).unwrap_or_else(&mut refused);
    api::fail_ask(&body)
        .map(|ask| assert_eq!(api::fail_ask(&bytes(&settle_json(&ask))), Ok(ask)))
        .unwrap_or_else(&mut refused);
    api::confirm_ask(&body)
        .map(|ask| assert_eq!(api::fail_ask(&body), Ok(ask), "less than FAIL may say"))
        .unwrap_or_else(&mut refused);
    api::done_ask(&body)
        .map(|ask| assert_eq!(api::confirm_ask(&body), Ok(ask), "less than CONFIRM may say"))
        .unwrap_or_else(&mut refused);
    api::node_body(&body)
        .map(|node| assert_eq!(api::node_body(&bytes(&node_json(&node))), Ok(node)))
        .unwrap_or_else(&mut refused);
    api::node_patch(&body)
        .map(|patch| assert_eq!(api::node_patch(&bytes(&patch_json(&patch))), Ok(patch)))
        .unwrap_or_else(&mut refused);
    let id = || "n".parse().unwrap();
    HeartbeatAsk::from_body(id(), &body)
        .map(|ask| {
            assert_eq!(HeartbeatAsk::from_body(id(), &bytes(&heartbeat_json(&ask))).as_ref(), Ok(&ask));
            assert_eq!(HeartbeatAsk::from_attributes(id(), &heartbeat_attributes(&ask)), Ok(ask));
        })
        .unwrap_or_else(&mut refused);
    for bad in &bad {
        check_words(&bad.field, &bad.reason);
    }
    let accepted = bad.len() < 7;
    assert!(is_object || !accepted, "{} is no JSON object", body.escape_ascii());
    accepted
}

#[test]
fn http_bodies() {
    let seeds = [
        r#"{"call_id":"c@h","request_uri":"tel:+4930","from_tag":"t;1","cseq":4294967295,"source":"10.0.0.1:5060","kind":"callback","pool":"p","zone":"z","tags":["a","b"],"exclude":["n1"],"targets_max":12,"explain":true}"#,
        r#"{"call_id":"c","request_uri":"sip:a@b","kind":"agent","node":"n1"}"#,
        r#"{"token":"m1.a.b.c","branch":1,"code":503}"#,
        r#"{"token":"m1.a.b.c"}"#,
        r#"{"id":"ast9","uri":"sip:127.0.1.9:5060","capacity":10,"zone":"a","tags":["x"],"state":"draining"}"#,
        r#"{"zone":null,"capacity":1}"#,
        r#"{"uri":"sip:127.0.1.9;transport=tcp","capacity":10,"zone":"a","tags":["x"],"ttl_s":60,"state":"gone"}"#,
    ];
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "null",
        "true",
        "1e400",
        "-0",
        "1.5",
        "256",
        "65536",
        "4294967296",
        "99999999999999999999",
        "\"a\":",
        "\"call_id\":\"d\",",
        "\"tags\":[],",
        "\"cseq\":1,",
        "{\"a\":",
        " ",
        "\n",
        "\0",
        "\u{feff}",
        "é",
        "//",
        "[[[[",
    ];
    let corpus = Corpus::new(&seeds, &words);
    crate::fuzz!(|drawn: &[u8]| check_body(&corpus, drawn));
}
