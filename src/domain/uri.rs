//! Addresses: where a node is (`sip:`, `sips:`) and what was called (`sip:`, `sips:`, `tel:`, `urn:service:`).
//!
//! RFC 3261 §19.1 and §25.1, RFC 3966 (tel), RFC 5031 (urn:service). Only what a decision needs is taken apart; the
//! text itself is kept as it came, and no byte outside the printable ASCII ever gets in.

use std::fmt;
use std::str::FromStr;

/// The longest address, in bytes.
pub const URI_MAX: usize = 1024;

/// Why a text is not an address that we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// Nothing there.
    Empty,
    /// More than [`URI_MAX`] bytes.
    TooLong(usize),
    /// A control byte, a blank, a quote, an angle bracket or a byte beyond ASCII; where, and which.
    Byte(usize, u8),
    /// Not one of the schemes that are taken.
    Scheme(String),
    /// No host, or one that is no name, IPv4 or bracketed IPv6 address.
    Host(String),
    /// Not a number from 1 to 65535.
    Port(String),
    /// A node's address carries a user part or headers, which mean nothing there.
    Extra(&'static str),
    /// A telephone number without a digit, or a urn without a service.
    Subject(String),
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UriError::Empty => write!(f, "an address must not be empty"),
            UriError::TooLong(n) => write!(f, "an address of {n} bytes; at most {URI_MAX} are allowed"),
            UriError::Byte(at, b) => {
                write!(f, "byte 0x{b:02x} at position {at} is not allowed in an address")
            }
            UriError::Scheme(s) => write!(f, "scheme {s:?} is not taken"),
            UriError::Host(s) => write!(f, "{s:?} is not a host name, IPv4 address or [IPv6] address"),
            UriError::Port(s) => write!(f, "port {s:?} is not a number from 1 to 65535"),
            UriError::Extra(what) => write!(f, "a node's address has no {what}"),
            UriError::Subject(s) => write!(f, "{s:?} names nobody"),
        }
    }
}

impl std::error::Error for UriError {}

/// The address of a node: `sip:host[:port][;params]` or `sips:…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeUri {
    text: Box<str>,
    host: Box<str>,
    port: Option<u16>,
    secure: bool,
}

impl NodeUri {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host name or address; IPv6 without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, where one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// True for `sips:`.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// The `transport` parameter in lower case, where one is written (RFC 3261 §19.1.1).
    pub fn transport(&self) -> Option<String> {
        self.text.split(';').skip(1).find_map(|p| {
            let (key, value) = p.split_once('=')?;
            key.eq_ignore_ascii_case("transport").then(|| value.to_ascii_lowercase())
        })
    }

    /// Whether it is reached over TLS: `sips:` (RFC 3261 §26.2.2) or `;transport=tls`.
    pub fn over_tls(&self) -> bool {
        match self.transport().as_deref() {
            None | Some("tcp") => self.secure,
            Some(other) => other == "tls",
        }
    }

    /// Two addresses that reach the same socket have the same key: scheme, host without case, port with its default, transport.
    pub fn same_place(&self) -> (bool, String, u16, Option<String>) {
        let default = if self.secure || self.over_tls() { 5061 } else { 5060 };
        let transport = self.transport().filter(|t| t != "udp");
        (self.secure, self.host.to_ascii_lowercase(), self.port.unwrap_or(default), transport)
    }
}

impl FromStr for NodeUri {
    type Err = UriError;
    fn from_str(s: &str) -> Result<Self, UriError> {
        check_bytes(s)?;
        let (scheme, rest) = s.split_once(':').ok_or_else(|| UriError::Scheme(s.to_owned()))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "sip" => false,
            "sips" => true,
            other => return Err(UriError::Scheme(other.to_owned())),
        };
        if rest.contains('@') {
            return Err(UriError::Extra("user part"));
        }
        if rest.contains('?') {
            return Err(UriError::Extra("headers"));
        }
        let (host, port) = host_port(rest.split(';').next().unwrap_or(""))?;
        Ok(NodeUri { text: s.into(), host: host.into(), port, secure })
    }
}

impl fmt::Display for NodeUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for NodeUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)
    }
}

/// What was called: the Request-URI of an INVITE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestUri {
    text: Box<str>,
    /// The number or name that was called: user part, telephone number, or urn.
    subject: Box<str>,
    emergency: bool,
}

impl RequestUri {
    /// The address as it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Who was called: user part, telephone number without visual separators, or the whole urn. May be empty for `sip:host`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// True for `urn:service:sos` and what is below it (RFC 5031 §4.2).
    pub fn is_emergency_urn(&self) -> bool {
        self.emergency
    }
}

impl FromStr for RequestUri {
    type Err = UriError;
    fn from_str(s: &str) -> Result<Self, UriError> {
        check_bytes(s)?;
        let (scheme, rest) = s.split_once(':').ok_or_else(|| UriError::Scheme(s.to_owned()))?;
        let made =
            |subject: &str, emergency| RequestUri { text: s.into(), subject: subject.into(), emergency };
        match scheme.to_ascii_lowercase().as_str() {
            "sip" | "sips" => {
                // RFC 3261 §19.1.1: the user part may hold ';', '?' and ':', so look for '@' first, from the right.
                let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
                host_port(place.split([';', '?']).next().unwrap_or(""))?;
                let user = user.split(':').next().unwrap_or("");
                Ok(made(user.split(';').next().unwrap_or(""), false))
            }
            "tel" => {
                let number: String =
                    rest.split(';').next().unwrap_or("").chars().filter(|c| !"-.()".contains(*c)).collect();
                if !number.chars().any(|c| c.is_ascii_alphanumeric() || c == '*' || c == '#') {
                    return Err(UriError::Subject(s.to_owned()));
                }
                Ok(made(&number, false))
            }
            "urn" => {
                let lower = rest.to_ascii_lowercase();
                let service = lower.strip_prefix("service:").unwrap_or("");
                if service.is_empty() {
                    return Err(UriError::Subject(s.to_owned()));
                }
                Ok(made(s, service == "sos" || service.starts_with("sos.")))
            }
            other => Err(UriError::Scheme(other.to_owned())),
        }
    }
}

fn check_bytes(s: &str) -> Result<(), UriError> {
    if s.is_empty() {
        return Err(UriError::Empty);
    }
    if s.len() > URI_MAX {
        return Err(UriError::TooLong(s.len()));
    }
    match s.bytes().position(|b| !(0x21..=0x7e).contains(&b) || matches!(b, b'"' | b'<' | b'>' | b'\\')) {
        Some(at) => Err(UriError::Byte(at, s.as_bytes().get(at).copied().unwrap_or(0))),
        None => Ok(()),
    }
}

fn host_port(s: &str) -> Result<(&str, Option<u16>), UriError> {
    let bad_host = || UriError::Host(s.to_owned());
    let (host, port) = if s.starts_with('[') {
        let end = s.find(']').ok_or_else(bad_host)?;
        let (host, rest) = s.split_at(end + 1);
        let inner = host.get(1..end).unwrap_or("");
        inner.parse::<std::net::Ipv6Addr>().map_err(|_| bad_host())?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad_host)?) })
    } else {
        let (host, port) = match s.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (s, None),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let fits =
            if numeric { name.parse::<std::net::Ipv4Addr>().is_ok() } else { name.split('.').all(label) };
        if name.len() > 253 || !fits {
            return Err(bad_host());
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(p) if p > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Some(p),
            Ok(_) | Err(_) => return Err(UriError::Port(text.to_owned())),
        },
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_addresses() {
        let uri: NodeUri = "sip:127.0.1.1:5060".parse().unwrap();
        assert_eq!((uri.host(), uri.port(), uri.secure()), ("127.0.1.1", Some(5060), false));
        let uri: NodeUri = "sips:[2001:db8::1]:5061;transport=TLS".parse().unwrap();
        assert_eq!(
            (uri.host(), uri.port(), uri.transport().as_deref()),
            ("2001:db8::1", Some(5061), Some("tls"))
        );
        assert_eq!("sip:Ast1.example.com".parse::<NodeUri>().unwrap().host(), "Ast1.example.com");
        for (bad, why) in [
            ("", UriError::Empty),
            ("127.0.0.1", UriError::Scheme("127.0.0.1".into())),
            ("http:a", UriError::Scheme("http".into())),
            ("sip:a@b", UriError::Extra("user part")),
            ("sip:b?x=y", UriError::Extra("headers")),
            ("sip:", UriError::Host("".into())),
            ("sip:1.2.3.400", UriError::Host("1.2.3.400".into())),
            ("sip:a:0", UriError::Port("0".into())),
            ("sip:a:+5", UriError::Port("+5".into())),
            ("sip:a:70000", UriError::Port("70000".into())),
            ("sip:a\r\nX: y", UriError::Byte(5, b'\r')),
            ("sip:[::1", UriError::Host("[::1".into())),
        ] {
            assert_eq!(bad.parse::<NodeUri>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn addresses_of_one_place_are_one() {
        let key = |s: &str| s.parse::<NodeUri>().unwrap().same_place();
        assert_eq!(key("sip:a"), key("sip:A:5060;transport=udp"));
        assert_ne!(key("sip:a"), key("sip:a;transport=tcp"));
        assert_ne!(key("sip:a"), key("sips:a:5060"));
    }

    #[test]
    fn request_uris_say_who_was_called() {
        let subject = |s: &str| s.parse::<RequestUri>().unwrap().subject().to_owned();
        assert_eq!(subject("sip:first.last@example.com;user=phone"), "first.last");
        assert_eq!(subject("sip:+4930123;phone-context=x@example.com:5060?Subject=y"), "+4930123");
        assert_eq!(subject("sip:a;b=c@d@[2001:db8::2]"), "a");
        assert_eq!(subject("sip:example.com"), "");
        assert_eq!(subject("tel:+49-30-(12).34;ext=5"), "+49301234");
        assert_eq!(subject("tel:112"), "112");
        assert!("urn:service:sos.police".parse::<RequestUri>().unwrap().is_emergency_urn());
        assert!("URN:SERVICE:SOS".parse::<RequestUri>().unwrap().is_emergency_urn());
        assert!(!"urn:service:sosx".parse::<RequestUri>().unwrap().is_emergency_urn());
        assert!(!"urn:service:counseling".parse::<RequestUri>().unwrap().is_emergency_urn());
        for bad in
            ["", "sip:", "tel:", "tel:;x", "urn:isbn:1", "mailto:a@b", "sip:a b@c", "sip:a@b\n", "<sip:a@b>"]
        {
            assert!(bad.parse::<RequestUri>().is_err(), "{bad:?}");
        }
    }
}
