//! What a node says of itself: a JSON body over HTTP, attributes over RESP, and one question of both.

use super::api::{given, needed, node_tags, read};
use super::ask::{self, number, unknown};
use super::attrs::{self, shorten};
use super::refusal::BadRequest;
use crate::domain::discovery::Named;
use crate::domain::id::NodeId;
use crate::domain::registration::Saying;
use serde::Deserialize;

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAsk {
    /// The node, as it describes itself.
    pub node: Named,
    /// What it wants.
    pub saying: Saying,
    /// For how long this holds, in s; `None`: as long as usual.
    pub ttl_s: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    uri: Option<String>,
    capacity: Option<u32>,
    zone: Option<String>,
    tags: Option<Vec<String>>,
    ttl_s: Option<u32>,
    state: Option<String>,
}

impl HeartbeatAsk {
    /// Reads a body. A member with an empty text or `null` counts as absent.
    pub fn from_body(id: NodeId, body: &[u8]) -> Result<HeartbeatAsk, BadRequest> {
        HeartbeatAsk::checked(id, read(body)?)
    }

    /// Reads the attributes of `NODE`.
    pub fn from_attributes(id: NodeId, attributes: &str) -> Result<HeartbeatAsk, BadRequest> {
        let mut wire = Wire::default();
        for (key, text) in attrs::parse(attributes)? {
            match key {
                "uri" => wire.uri = Some(text),
                "capacity" => wire.capacity = Some(number("capacity", &text)?),
                "zone" => wire.zone = Some(text),
                "tags" => wire.tags = Some(text.split(',').map(str::to_owned).collect()),
                "ttl_s" => wire.ttl_s = Some(number("ttl_s", &text)?),
                "state" => wire.state = Some(text),
                other => return Err(unknown(other, "uri, capacity, zone, tags, ttl_s, state")),
            }
        }
        HeartbeatAsk::checked(id, wire)
    }

    fn checked(id: NodeId, wire: Wire) -> Result<HeartbeatAsk, BadRequest> {
        let node = Named {
            id,
            uri: ask::value("uri", &needed("uri", given(wire.uri))?)?,
            capacity: needed("capacity", wire.capacity)?,
            zone: given(wire.zone).map(|text| ask::value("zone", &text)).transpose()?,
            tags: node_tags(wire.tags.unwrap_or_default())?,
        };
        let saying = given(wire.state).map_or(Ok(Saying::Active), |text| saying(&text))?;
        Ok(HeartbeatAsk { node, saying, ttl_s: wire.ttl_s })
    }
}

fn saying(text: &str) -> Result<Saying, BadRequest> {
    match text {
        "active" => Ok(Saying::Active),
        "draining" => Ok(Saying::Draining),
        "gone" => Ok(Saying::Gone),
        other => Err(BadRequest::new("state", format!("{:?}; use active, draining or gone", shorten(other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> NodeId {
        "ast7".parse().unwrap()
    }

    #[test]
    fn a_body_and_attributes_are_the_same_heartbeat() {
        let body = br#"{"uri":"sip:10.0.0.7:5062;transport=tcp","capacity":900,"zone":"a","tags":["x","y"],"ttl_s":60,"state":"draining"}"#;
        let attributes =
            "uri=sip:10.0.0.7:5062%3Btransport%3Dtcp;capacity=900;zone=a;tags=y,x;ttl_s=60;state=draining";
        let ask = HeartbeatAsk::from_body(id(), body).unwrap();
        assert_eq!(HeartbeatAsk::from_attributes(id(), attributes), Ok(ask.clone()));
        assert_eq!((ask.saying, ask.ttl_s, ask.node.tags.len()), (Saying::Draining, Some(60), 2));
        let least =
            HeartbeatAsk::from_body(id(), br#"{"uri":"sip:10.0.0.7","capacity":9,"zone":"","tags":null}"#);
        assert_eq!(HeartbeatAsk::from_attributes(id(), "uri=sip:10.0.0.7;capacity=9;zone="), least);
        assert_eq!(least.map(|ask| (ask.saying, ask.ttl_s, ask.node.zone)), Ok((Saying::Active, None, None)));
    }

    #[test]
    fn errors_name_the_culprit() {
        let text = "x".repeat(65);
        let many: Vec<String> = (0..33).map(|n| format!("t{n}")).collect();
        for (body, field) in [
            (r#"{"capacity":9}"#, "uri"),
            (r#"{"uri":"sip:10.0.0.7"}"#, "capacity"),
            (r#"{"uri":"","capacity":9}"#, "uri"),
            (r#"{"uri":"http://10.0.0.7","capacity":9}"#, "uri"),
            (r#"{"uri":"sip:a@10.0.0.7","capacity":9}"#, "uri"),
            (r#"{"uri":"sip:10.0.0.7","capacity":-1}"#, "capacity"),
            (r#"{"uri":"sip:10.0.0.7","capacity":"900"}"#, "capacity"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9.5}"#, "capacity"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"capacity":9}"#, "capacity"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"id":"b"}"#, "id"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"ttl_s":-1}"#, "ttl_s"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"state":"down"}"#, "state"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"state":"removed"}"#, "state"),
            (r#"{"uri":"sip:10.0.0.7","capacity":9,"zone":"a b"}"#, "zone"),
            (&format!(r#"{{"uri":"sip:10.0.0.7","capacity":9,"zone":"{text}"}}"#), "zone"),
            (&format!(r#"{{"uri":"sip:10.0.0.7","capacity":9,"tags":{many:?}}}"#), "tags"),
            ("[]", "body"),
            ("", "body"),
        ] {
            assert_eq!(HeartbeatAsk::from_body(id(), body.as_bytes()).unwrap_err().field, field, "{body}");
        }
        for (attributes, field) in [
            ("", "uri"),
            ("uri=sip:10.0.0.7", "capacity"),
            ("uri=sip:10.0.0.7;capacity=-9", "capacity"),
            ("uri=sip:10.0.0.7;capacity=many", "capacity"),
            ("uri=sip:10.0.0.7;capacity=9;capacity=9", "capacity"),
            ("uri=sip:10.0.0.7;capacity=9;ttl_s=1.5", "ttl_s"),
            ("uri=sip:10.0.0.7;capacity=9;colour=red", "colour"),
            ("uri=sip:10.0.0.7;transport=tcp;capacity=9", "transport"),
        ] {
            let refused = HeartbeatAsk::from_attributes(id(), attributes).unwrap_err();
            assert_eq!(refused.field, field, "{attributes}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = HeartbeatAsk::from_body(id(), &body);
            let _ = HeartbeatAsk::from_attributes(id(), &text);
        }
    }
}
