//! What a proxy says of a call that an agent's phone has and no offer brought: that it begins, and ends. A JSON body over HTTP,
//! attributes over RESP, and one question of both.

use super::api::{given, needed, read};
use super::ask::{self, number, unknown};
use super::attrs::{self, shorten};
use super::refusal::BadRequest;
use super::register::{Aor, REGISTER_CALL_ID_MAX, check};
use super::token::own_call;
use crate::domain::controller::Command;
use crate::domain::id::ProxyId;
use serde::Deserialize;

/// In place of an address-of-record: all that this proxy has told of.
pub const EVERYBODY: &str = "*";

/// That a phone's call begins or has ended, or that a proxy has forgotten all that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCallAsk {
    /// Whose call.
    pub whose: Whose,
    /// The Kamailio that has the dialog.
    pub proxy: ProxyId,
    /// Call-ID of the dialog; for everybody's, whatever the proxy calls this loss.
    pub call_id: String,
    /// CSeq of its INVITE: a phone that tries again keeps the Call-ID (RFC 3261 §8.1.3.5), and that is another call. 0: not told.
    pub cseq: u32,
}

/// Whose call, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This address-of-record's: it begins.
    Begun(Aor),
    /// This address-of-record's: it has ended.
    Ended(Aor),
    /// Everybody's through this proxy: it has lost its dialogs.
    Lost,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    aor: Option<String>,
    state: Option<String>,
    proxy: Option<String>,
    call_id: Option<String>,
    cseq: Option<u32>,
}

/// How the members are called.
struct Names {
    proxy: &'static str,
    call_id: &'static str,
}

impl OwnCallAsk {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadRequest`], which names the member.
    pub fn from_body(body: &[u8]) -> Result<OwnCallAsk, BadRequest> {
        OwnCallAsk::checked(read(body)?, &Names { proxy: "proxy", call_id: "call_id" })
    }

    /// Reads the arguments of `USE`.
    ///
    /// # Errors
    /// [`BadRequest`], which names the attribute.
    pub fn from_attributes(aor: &str, attributes: &str) -> Result<OwnCallAsk, BadRequest> {
        let mut wire = Wire { aor: Some(aor.to_owned()), ..Wire::default() };
        for (key, text) in attrs::parse(attributes)? {
            match key {
                "state" => wire.state = Some(text),
                "kam" => wire.proxy = Some(text),
                "id" => wire.call_id = Some(text),
                "cs" => wire.cseq = Some(number("cs", &text)?),
                other => return Err(unknown(other, "state, kam, id, cs")),
            }
        }
        OwnCallAsk::checked(wire, &Names { proxy: "kam", call_id: "id" })
    }

    fn checked(wire: Wire, names: &Names) -> Result<OwnCallAsk, BadRequest> {
        let aor = needed("aor", given(wire.aor))?;
        let state = needed("state", given(wire.state))?;
        let whose = match (aor.as_str(), state.as_str()) {
            (EVERYBODY, "ended") => Whose::Lost,
            (EVERYBODY, "begun") => {
                return Err(BadRequest::new("aor", "\"*\": only an end is everybody's".to_owned()));
            }
            (_, "begun") => Whose::Begun(aor.parse()?),
            (_, "ended") => Whose::Ended(aor.parse()?),
            (_, other) => {
                return Err(BadRequest::new("state", format!("{:?}; use begun or ended", shorten(other))));
            }
        };
        let call_id = needed(names.call_id, given(wire.call_id))?;
        check(names.call_id, &call_id, REGISTER_CALL_ID_MAX)?;
        Ok(OwnCallAsk {
            whose,
            proxy: ask::value(names.proxy, &needed(names.proxy, given(wire.proxy))?)?,
            call_id,
            cseq: wire.cseq.unwrap_or(0),
        })
    }

    /// The word for what becomes of it.
    pub fn word(&self) -> &'static str {
        match self.whose {
            Whose::Begun(_) => "begun",
            Whose::Ended(_) => "ended",
            Whose::Lost => "lost",
        }
    }

    /// What the leader is asked, and the key of the command: said twice it is the same.
    pub fn command(&self) -> (String, Command) {
        let call = own_call(&self.call_id, self.cseq);
        let command = match &self.whose {
            Whose::Begun(aor) => Command::OwnCallBegan {
                aor: aor.as_str().into(),
                call: call.clone(),
                proxy: self.proxy.clone(),
            },
            Whose::Ended(aor) => Command::OwnCallEnded { aor: aor.as_str().into(), call: call.clone() },
            Whose::Lost => Command::OwnCallsLost(self.proxy.clone()),
        };
        // Two agents may be the two ends of one call.
        let of = match &self.whose {
            Whose::Begun(aor) | Whose::Ended(aor) => own_call(aor.as_str(), 0),
            Whose::Lost => own_call(self.proxy.as_str(), 0),
        };
        (format!("own-{}-{call}-{of}", self.word()), command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "state=begun;kam=k1;id=a%3Bb@h;cs=7";

    #[test]
    fn a_body_and_attributes_are_the_same_question() {
        let ask = OwnCallAsk::from_attributes("agent17@Example.COM", ALL).unwrap();
        assert_eq!(ask.whose, Whose::Begun("agent17@example.com".parse().unwrap()));
        assert_eq!((ask.proxy.as_str(), ask.call_id.as_str(), ask.cseq), ("k1", "a;b@h", 7));
        let body =
            br#"{"aor":"agent17@example.com","state":"begun","proxy":"k1","call_id":"a;b@h","cseq":7}"#;
        assert_eq!(OwnCallAsk::from_body(body), Ok(ask));
        let lost = OwnCallAsk::from_attributes("*", "state=ended;kam=k1;id=7").unwrap();
        assert_eq!(lost.command().1, Command::OwnCallsLost("k1".parse().unwrap()));
    }

    #[test]
    fn what_is_said_twice_is_one_command_and_nothing_else_is() {
        let key = |aor: &str, attributes: &str| {
            let (key, _) = OwnCallAsk::from_attributes(aor, attributes).unwrap().command();
            assert!(key.len() <= 100 && key.bytes().all(|b| b.is_ascii_graphic()));
            key
        };
        let one = key("a@h", ALL);
        assert_eq!(one, key("a@H", ALL));
        let others = [
            key("b@h", ALL),
            key("a@h", "state=ended;kam=k1;id=a%3Bb@h;cs=7"),
            key("a@h", "state=begun;kam=k1;id=a%3Bb@h;cs=8"),
            key("a@h", "state=begun;kam=k1;id=a%3Bb@h"),
            key("a@h", "state=begun;kam=k1;id=other"),
            key("*", "state=ended;kam=k1;id=a%3Bb@h"),
            key("*", "state=ended;kam=k2;id=a%3Bb@h"),
        ];
        let all: std::collections::BTreeSet<&String> = others.iter().chain([&one]).collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn errors_name_the_culprit() {
        let field =
            |aor: &str, attributes: &str| OwnCallAsk::from_attributes(aor, attributes).unwrap_err().field;
        for (aor, attributes, culprit) in [
            ("", ALL, "aor"),
            ("agent17", ALL, "aor"),
            ("*", ALL, "aor"),
            ("a@h", "kam=k1;id=x", "state"),
            ("a@h", "state=ringing;kam=k1;id=x", "state"),
            ("a@h", "state=begun;id=x", "kam"),
            ("a@h", "state=begun;kam=k 1;id=x", "kam"),
            ("a@h", "state=begun;kam=k1", "id"),
            ("a@h", "state=begun;kam=k1;id=<null>", "id"),
            ("a@h", "state=begun;kam=k1;id=a%20b", "id"),
            ("a@h", "state=begun;kam=k1;id=x;cs=one", "cs"),
            ("a@h", "state=begun;kam=k1;id=x;colour=red", "colour"),
        ] {
            assert_eq!(field(aor, attributes), culprit, "{aor} {attributes}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(aor in "\\PC{0,40}", attributes in "(state|kam|id|cs)=\\PC{0,20}", body in "\\PC{0,60}") {
            let _ = OwnCallAsk::from_attributes(&aor, &attributes);
            let _ = OwnCallAsk::from_body(body.as_bytes());
        }
    }
}
