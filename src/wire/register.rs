//! What a proxy says of a REGISTER that it has accepted: a JSON body over HTTP, attributes over RESP, and one question of both.

use super::api::{given, needed, read};
use super::ask::{self, number, unknown};
use super::attrs::{self, shorten};
use super::refusal::BadRequest;
use crate::domain::id::ProxyId;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// The longest address-of-record, in bytes.
pub const AOR_MAX: usize = 200;

/// The longest Call-ID of a REGISTER, in bytes.
pub const REGISTER_CALL_ID_MAX: usize = 1_000;

/// The longest time that a registration is taken for, in s: a week.
pub const EXPIRES_MAX_S: u32 = 604_800;

/// An address-of-record that was checked: `user@host`, printable ASCII without blanks; hosts differ in more than case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aor(Box<str>);

impl Aor {
    /// `user@host`
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Aor {
    type Err = BadRequest;
    fn from_str(text: &str) -> Result<Aor, BadRequest> {
        check("aor", text, AOR_MAX)?;
        let bare = text.strip_prefix("sip:").or(text.strip_prefix("sips:")).unwrap_or(text);
        match bare.rsplit_once('@') {
            Some((user, host)) if !user.is_empty() && is_host(host) => {
                Ok(Aor(format!("{user}@{}", host.to_ascii_lowercase()).into()))
            }
            Some(_) | None => Err(BadRequest::new("aor", format!("{:?} is not user@host", shorten(text)))),
        }
    }
}

/// A name or an address, without a port: one agent must not be two.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
    }
}

/// That somebody has registered, or has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterAsk {
    /// Who.
    pub aor: Aor,
    /// The Kamailio that took the REGISTER.
    pub proxy: ProxyId,
    /// For how long, in s; 0: it ends now.
    pub expires_s: u32,
    /// Call-ID of the REGISTER.
    pub call_id: String,
    /// Its CSeq.
    pub cseq: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    aor: Option<String>,
    expires_s: Option<u32>,
    proxy: Option<String>,
    call_id: Option<String>,
    cseq: Option<u32>,
}

/// How the members are called: in the order of [`Wire`].
struct Names {
    expires_s: &'static str,
    proxy: &'static str,
    call_id: &'static str,
    cseq: &'static str,
}

impl RegisterAsk {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<RegisterAsk, BadRequest> {
        let names = Names { expires_s: "expires_s", proxy: "proxy", call_id: "call_id", cseq: "cseq" };
        RegisterAsk::checked(read(body)?, &names)
    }

    /// Reads the arguments of `REG`.
    pub fn from_attributes(aor: &str, attributes: &str) -> Result<RegisterAsk, BadRequest> {
        let mut wire = Wire { aor: Some(aor.to_owned()), ..Wire::default() };
        for (key, text) in attrs::parse(attributes)? {
            match key {
                "exp" => wire.expires_s = Some(number("exp", &text)?),
                "kam" => wire.proxy = Some(text),
                "id" => wire.call_id = Some(text),
                "cs" => wire.cseq = Some(number("cs", &text)?),
                other => return Err(unknown(other, "exp, kam, id, cs")),
            }
        }
        RegisterAsk::checked(wire, &Names { expires_s: "exp", proxy: "kam", call_id: "id", cseq: "cs" })
    }

    fn checked(wire: Wire, names: &Names) -> Result<RegisterAsk, BadRequest> {
        let aor = needed("aor", given(wire.aor))?.parse()?;
        let call_id = needed(names.call_id, given(wire.call_id))?;
        check(names.call_id, &call_id, REGISTER_CALL_ID_MAX)?;
        let expires_s = needed(names.expires_s, wire.expires_s)?;
        if expires_s > EXPIRES_MAX_S {
            let reason = format!("{expires_s} s; at most {EXPIRES_MAX_S} are allowed");
            return Err(BadRequest::new(names.expires_s, reason));
        }
        Ok(RegisterAsk {
            aor,
            proxy: ask::value(names.proxy, &needed(names.proxy, given(wire.proxy))?)?,
            expires_s,
            call_id,
            cseq: needed(names.cseq, wire.cseq)?,
        })
    }
}

/// Printable ASCII without blanks.
pub(super) fn check(field: &str, text: &str, most: usize) -> Result<(), BadRequest> {
    let wrong = |reason: String| Err(BadRequest::new(field, reason));
    if text.len() > most {
        return wrong(format!("{} bytes; at most {most} are allowed", text.len()));
    }
    // Kamailio writes an undefined pseudo-variable so.
    if text == "<null>" {
        return wrong("\"<null>\": the script passed an undefined variable".to_owned());
    }
    match text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
        Some((at, odd)) => {
            wrong(format!("{odd:?} at position {at}; printable ASCII without blanks is allowed"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "exp=300;kam=k1;id=a%3Bb@h;cs=7";

    #[test]
    fn a_body_and_attributes_are_the_same_question() {
        let ask = RegisterAsk::from_attributes("agent17@Example.COM", ALL).unwrap();
        assert_eq!((ask.aor.as_str(), ask.proxy.as_str()), ("agent17@example.com", "k1"));
        assert_eq!((ask.expires_s, ask.call_id.as_str(), ask.cseq), (300, "a;b@h", 7));
        let body =
            br#"{"aor":"sip:agent17@example.com","expires_s":300,"proxy":"k1","call_id":"a;b@h","cseq":7}"#;
        assert_eq!(RegisterAsk::from_body(body), Ok(ask));
        let gone = RegisterAsk::from_attributes("a@[::1]", "exp=0;kam=k.1;id=x;cs=0").unwrap();
        assert_eq!((gone.expires_s, gone.aor.as_str()), (0, "a@[::1]"));
    }

    #[test]
    fn errors_name_the_culprit() {
        let field =
            |aor: &str, attributes: &str| RegisterAsk::from_attributes(aor, attributes).unwrap_err().field;
        for aor in
            ["", "agent17", "@h", "a@", "a@h:5060", "a b@h", "<null>", "é@h", "a@h;x=y", "a@h>", "a@[::]]"]
        {
            assert_eq!(field(aor, ALL), "aor", "{aor:?}");
        }
        assert_eq!(field(&format!("{}@h", "a".repeat(199)), ALL), "aor");
        for (attributes, culprit) in [
            ("kam=k1;id=x;cs=1", "exp"),
            ("exp=-1;kam=k1;id=x;cs=1", "exp"),
            ("exp=604801;kam=k1;id=x;cs=1", "exp"),
            ("exp=1;id=x;cs=1", "kam"),
            ("exp=1;kam=k 1;id=x;cs=1", "kam"),
            ("exp=1;kam=k1;cs=1", "id"),
            ("exp=1;kam=k1;id=a%20b;cs=1", "id"),
            ("exp=1;kam=k1;id=x", "cs"),
            ("exp=1;kam=k1;id=x;cs=4294967296", "cs"),
            ("exp=1;kam=k1;id=x;cs=1;colour=red", "colour"),
        ] {
            assert_eq!(field("a@h", attributes), culprit, "{attributes}");
        }
        for (body, culprit) in [
            (r#"{"aor":"a@h","proxy":"k1","call_id":"x","cseq":1}"#, "expires_s"),
            (r#"{"aor":"a@h","proxy":"k 1","expires_s":1,"call_id":"x","cseq":1}"#, "proxy"),
            (r#"{"aor":7}"#, "aor"),
            ("{}", "aor"),
        ] {
            assert_eq!(RegisterAsk::from_body(body.as_bytes()).unwrap_err().field, culprit, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(aor in "\\PC{0,40}", attributes in "(exp|kam|id|cs)=\\PC{0,20}", body in "\\PC{0,60}") {
            let _ = RegisterAsk::from_attributes(&aor, &attributes);
            let _ = RegisterAsk::from_body(body.as_bytes());
        }
    }
}
