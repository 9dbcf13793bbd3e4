//! The route document that Kamailio's `rtjson` module reads, on one line, with our members under `mqs`.
//!
//! `rtjson` inserts `headers.extra` into the SIP message as it is, so this encoder is the only guard against smuggled headers:
//! every text in a document is a type that cannot hold a control byte.

use crate::domain::id::{LeaseId, NodeId, PoolId};
use crate::domain::uri::{NodeUri, RequestUri};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The most headers that a pool may add to a route.
pub const HEADERS_MAX: usize = 16;

/// The header that carries the token to the node.
pub const LEASE_HEADER: &str = "X-MQS-Lease";

/// Printable ASCII without control bytes; may hold blanks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Clean(Box<str>);

/// A byte that a document may not hold; where, and which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte 0x{byte:02x} at position {at} is not allowed in a header or address")]
pub struct NotClean {
    /// Position, from 0.
    pub at: usize,
    /// The byte.
    pub byte: u8,
}

impl FromStr for Clean {
    type Err = NotClean;
    fn from_str(s: &str) -> Result<Clean, NotClean> {
        match s.bytes().enumerate().find(|(_, b)| !(0x20..=0x7e).contains(b)) {
            Some((at, byte)) => Err(NotClean { at, byte }),
            None => Ok(Clean(s.into())),
        }
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a pool adds to each of its routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteExtras {
    /// Kamailio's `fr_timer`, in ms: how long a target may stay silent.
    pub fr_timer_ms: Option<u32>,
    /// Kamailio's `fr_inv_timer`, in ms: how long a target may ring.
    pub fr_inv_timer_ms: Option<u32>,
    /// The socket to send from: `udp:ip:port`.
    pub socket: Option<Clean>,
    /// The route set to send through (a `Route`/`Path` value).
    pub path: Option<Clean>,
    /// Headers to add.
    pub headers: Vec<(Clean, Clean)>,
}

/// One target.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The node's name.
    pub node: &'a NodeId,
    /// Where it listens; `None` for an agent leg, which goes where its Request-URI says.
    pub uri: Option<&'a NodeUri>,
    /// Its signed token.
    pub token: &'a str,
}

/// All of an answer.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// The pool.
    pub pool: &'a PoolId,
    /// The lease.
    pub lease: LeaseId,
    /// At least one.
    pub targets: Vec<Target<'a>>,
    /// What the pool adds.
    pub extras: &'a RouteExtras,
    /// What was called: kept as it is.
    pub request_uri: &'a RequestUri,
    /// Answered without the shared state.
    pub degraded: bool,
    /// Asked before.
    pub repeat: bool,
}

impl Document<'_> {
    /// The document on one line.
    pub fn encode(&self) -> String {
        // Every value is a string, number or bool of ours: there is nothing that cannot be written.
        serde_json::to_string(&self.wire()).unwrap_or_default()
    }

    fn wire(&self) -> WireDocument<'_> {
        WireDocument {
            version: "1.0",
            routing: "serial",
            routes: self.targets.iter().map(|target| self.route(target)).collect(),
            mqs: WireMqs {
                token: self.targets.first().map_or("", |t| t.token),
                pool: self.pool.as_str(),
                nodes: self.targets.iter().map(|t| t.node.as_str()).collect(),
                lease: self.lease,
                degraded: self.degraded,
                repeat: self.repeat,
            },
        }
    }

    fn route<'a>(&'a self, target: &'a Target<'a>) -> WireRoute<'a> {
        WireRoute {
            // Always there: `rtjson_next_route` takes no route without it.
            uri: self.request_uri.as_str(),
            dst_uri: target.uri.map(NodeUri::as_str),
            path: self.extras.path.as_ref(),
            socket: self.extras.socket.as_ref(),
            headers: WireHeaders { extra: self.extra_headers(target.token) },
            fr_timer: self.extras.fr_timer_ms,
            fr_inv_timer: self.extras.fr_inv_timer_ms,
        }
    }

    fn extra_headers(&self, token: &str) -> String {
        let mut text = String::new();
        for (name, value) in &self.extras.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("{LEASE_HEADER}: {token}\r\n"));
        text
    }
}

#[derive(Serialize)]
struct WireDocument<'a> {
    version: &'static str,
    routing: &'static str,
    routes: Vec<WireRoute<'a>>,
    mqs: WireMqs<'a>,
}

#[derive(Serialize)]
struct WireRoute<'a> {
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Clean>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<&'a Clean>,
    headers: WireHeaders,
    #[serde(skip_serializing_if = "Option::is_none")]
    fr_timer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fr_inv_timer: Option<u32>,
}

#[derive(Serialize)]
struct WireHeaders {
    extra: String,
}

#[derive(Serialize)]
struct WireMqs<'a> {
    token: &'a str,
    pool: &'a str,
    nodes: Vec<&'a str>,
    #[serde(serialize_with = "lease_as_text")]
    lease: LeaseId,
    degraded: bool,
    repeat: bool,
}

fn lease_as_text<S: Serializer>(lease: &LeaseId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(lease)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(extras: &RouteExtras, request_uri: &str) -> serde_json::Value {
        let (pool, a, b) = ("default".parse().unwrap(), "ast1".parse().unwrap(), "ast2".parse().unwrap());
        let (at_a, at_b) = ("sip:127.0.1.1:5060".parse().unwrap(), "sip:[::1]".parse().unwrap());
        let text = Document {
            pool: &pool,
            lease: LeaseId([7; 16]),
            targets: vec![
                Target { node: &a, uri: Some(&at_a), token: "m1.a" },
                Target { node: &b, uri: Some(&at_b), token: "m1.b" },
            ],
            extras,
            request_uri: &request_uri.parse().unwrap(),
            degraded: false,
            repeat: false,
        }
        .encode();
        assert!(!text.contains(['\n', '\r', '\0']), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_document_is_what_rtjson_reads() {
        let extras = RouteExtras {
            fr_timer_ms: Some(2000),
            fr_inv_timer_ms: Some(30_000),
            socket: "udp:10.0.0.1:5060".parse().ok(),
            path: None,
            headers: vec![("X-Site".parse().unwrap(), "north \"1\"".parse().unwrap())],
        };
        let want = serde_json::json!({
            "version": "1.0", "routing": "serial",
            "routes": [
                {"uri": "sip:100@example.com", "dst_uri": "sip:127.0.1.1:5060", "socket": "udp:10.0.0.1:5060", "fr_timer": 2000, "fr_inv_timer": 30000,
                 "headers": {"extra": "X-Site: north \"1\"\r\nX-MQS-Lease: m1.a\r\n"}},
                {"uri": "sip:100@example.com", "dst_uri": "sip:[::1]", "socket": "udp:10.0.0.1:5060", "fr_timer": 2000, "fr_inv_timer": 30000,
                 "headers": {"extra": "X-Site: north \"1\"\r\nX-MQS-Lease: m1.b\r\n"}},
            ],
            "mqs": {"token": "m1.a", "pool": "default", "nodes": ["ast1", "ast2"],
                    "lease": "07070707070707070707070707070707", "degraded": false, "repeat": false},
        });
        assert_eq!(document(&extras, "sip:100@example.com"), want);
    }

    proptest! {
        #[test]
        fn no_control_byte_gets_into_a_document(name in any::<String>(), value in any::<String>(), uri in any::<String>()) {
            let headers = match (name.parse(), value.parse()) {
                (Ok(name), Ok(value)) => vec![(name, value)],
                _ => Vec::new(),
            };
            let extras = RouteExtras { headers, path: value.parse().ok(), ..RouteExtras::default() };
            let uri = if uri.parse::<RequestUri>().is_ok() { uri } else { "tel:1".to_owned() };
            let made = document(&extras, &uri);
            for route in made["routes"].as_array().unwrap() {
                let extra = route["headers"]["extra"].as_str().unwrap();
                let lines: Vec<&str> = extra.strip_suffix("\r\n").unwrap().split("\r\n").collect();
                prop_assert_eq!(lines.len(), extras.headers.len() + 1);
                prop_assert!(lines.iter().all(|line| line.bytes().all(|b| (0x20..=0x7e).contains(&b))));
            }
        }

        #[test]
        fn clean_texts_are_printable(text in any::<String>()) {
            let clean = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
            prop_assert_eq!(text.parse::<Clean>().is_ok(), clean);
        }
    }
}
