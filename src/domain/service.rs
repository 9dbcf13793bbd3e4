//! Where to look for the nodes of a pool in the DNS: a SIP address, or the name of SRV records.

use super::uri::{NodeUri, UriError};
use std::fmt;
use std::str::FromStr;

/// How a node is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream in TLS.
    Tls,
    /// Messages of SCTP.
    Sctp,
}

impl Carrier {
    /// As the `transport` parameter has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Carrier::Udp => "udp",
            Carrier::Tcp => "tcp",
            Carrier::Tls => "tls",
            Carrier::Sctp => "sctp",
        }
    }

    /// The port where none is written (RFC 3263 §4.2).
    pub fn default_port(self) -> u16 {
        match self {
            Carrier::Udp | Carrier::Tcp | Carrier::Sctp => 5060,
            Carrier::Tls => 5061,
        }
    }

    /// The name of the SRV records for this carrier at a host (RFC 3263 §4.1).
    pub fn srv_name(self, host: &str) -> String {
        match self {
            Carrier::Udp => format!("_sip._udp.{host}"),
            Carrier::Tcp => format!("_sip._tcp.{host}"),
            Carrier::Tls => format!("_sips._tcp.{host}"),
            Carrier::Sctp => format!("_sip._sctp.{host}"),
        }
    }

    /// The address of a node at `host`, an IP address as it is written in a URI; `secure`: `sips:`.
    pub fn uri(self, secure: bool, host: &str, port: u16) -> Result<NodeUri, UriError> {
        match (secure, self) {
            (true, _) => format!("sips:{host}:{port}").parse(),
            (false, Carrier::Udp) => format!("sip:{host}:{port}").parse(),
            (false, Carrier::Tcp | Carrier::Tls | Carrier::Sctp) => {
                format!("sip:{host}:{port};transport={}", self.as_str()).parse()
            }
        }
    }
}

/// Which addresses of a host are nodes. A host with both sorts is one Asterisk with two addresses, so one sort counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 where the host has any, else IPv6.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What is looked up for a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    text: Box<str>,
    kind: ServiceKind,
    secure: bool,
}

/// How far the name itself says what to ask for (RFC 3263 §4.1, §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// `sip:pool.example.com`: NAPTR, then SRV, then addresses.
    Host(String),
    /// `sip:pool.example.com;transport=tcp`: SRV for that carrier, then addresses.
    Over(String, Carrier),
    /// `sip:pool.example.com:5070`: addresses, with that port.
    Port(String, Carrier, u16),
    /// `_sip._udp.pool.example.com`: these SRV records and nothing else.
    Srv(String, Carrier),
}

impl Service {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What to ask for.
    pub fn kind(&self) -> &ServiceKind {
        &self.kind
    }

    /// True for `sips:`: only TLS will do.
    pub fn secure(&self) -> bool {
        self.secure
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Why a text names nothing to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceError {
    /// Neither a SIP address nor the name of SRV records.
    Uri(UriError),
    /// An IP address: there is nothing to look up.
    Literal,
    /// A `transport` that nodes are not looked up for.
    Carrier(String),
    /// `sips:` with a carrier that cannot be secured.
    NotSecure(String),
    /// Begins like an SRV name, and is none.
    Srv,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::Uri(e) => {
                write!(f, "{e}; write sip:pool.example.com or _sip._udp.pool.example.com")
            }
            ServiceError::Literal => {
                write!(f, "an IP address needs no look-up; write a [[pool.node]]")
            }
            ServiceError::Carrier(t) => write!(f, "transport {t:?} is not one of udp, tcp, tls, sctp"),
            ServiceError::NotSecure(t) => write!(f, "sips: goes over TLS, not over {t:?}"),
            ServiceError::Srv => {
                write!(f, "SRV names begin with _sip._udp, _sip._tcp, _sip._sctp, _sips._tcp or _sip._tls")
            }
        }
    }
}

impl std::error::Error for ServiceError {}

impl FromStr for Service {
    type Err = ServiceError;
    fn from_str(s: &str) -> Result<Self, ServiceError> {
        if s.starts_with('_') {
            return srv(s);
        }
        let uri: NodeUri = s.parse().map_err(ServiceError::Uri)?;
        let host = uri.host().trim_end_matches('.').to_ascii_lowercase();
        if host.contains(':') || host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(ServiceError::Literal);
        }
        let carrier = match uri.transport().as_deref() {
            None => None,
            Some("udp") => Some(Carrier::Udp),
            Some("tcp") => Some(Carrier::Tcp),
            Some("tls") => Some(Carrier::Tls),
            Some("sctp") => Some(Carrier::Sctp),
            Some(other) => return Err(ServiceError::Carrier(other.to_owned())),
        };
        let carrier = match (uri.secure(), carrier) {
            (true, Some(c @ (Carrier::Udp | Carrier::Sctp))) => {
                return Err(ServiceError::NotSecure(c.as_str().to_owned()));
            }
            (true, Some(Carrier::Tcp | Carrier::Tls)) => Some(Carrier::Tls),
            (true, None) => None,
            (false, carrier) => carrier,
        };
        let kind = match (uri.port(), carrier) {
            (Some(port), carrier) => {
                let plain = if uri.secure() { Carrier::Tls } else { Carrier::Udp };
                ServiceKind::Port(host, carrier.unwrap_or(plain), port)
            }
            (None, Some(carrier)) => ServiceKind::Over(host, carrier),
            (None, None) => ServiceKind::Host(host),
        };
        Ok(Service { text: s.into(), kind, secure: uri.secure() })
    }
}

fn srv(s: &str) -> Result<Service, ServiceError> {
    let lower = s.trim_end_matches('.').to_ascii_lowercase();
    let mut parts = lower.splitn(3, '.');
    let carrier = match (parts.next(), parts.next()) {
        (Some("_sip"), Some("_udp")) => Carrier::Udp,
        (Some("_sip"), Some("_tcp")) => Carrier::Tcp,
        (Some("_sip"), Some("_sctp")) => Carrier::Sctp,
        (Some("_sips"), Some("_tcp")) | (Some("_sip"), Some("_tls")) => Carrier::Tls,
        (_, _) => return Err(ServiceError::Srv),
    };
    // The rest is a host name, and the whole must still fit.
    let rest = parts.next().filter(|_| lower.len() <= 253).ok_or(ServiceError::Srv)?;
    let host: NodeUri = format!("sip:{rest}").parse().map_err(ServiceError::Uri)?;
    if host.host() != rest {
        return Err(ServiceError::Srv);
    }
    Ok(Service { text: s.into(), kind: ServiceKind::Srv(lower, carrier), secure: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_says_what_to_ask_for() {
        let host = || "pool.example.com".to_owned();
        for (text, kind, secure) in [
            ("sip:Pool.Example.com", ServiceKind::Host(host()), false),
            ("sips:pool.example.com.", ServiceKind::Host(host()), true),
            ("sip:pool.example.com;transport=TCP", ServiceKind::Over(host(), Carrier::Tcp), false),
            ("sips:pool.example.com;transport=tcp", ServiceKind::Over(host(), Carrier::Tls), true),
            ("sip:pool.example.com:5070", ServiceKind::Port(host(), Carrier::Udp, 5070), false),
            ("sips:pool.example.com:5070", ServiceKind::Port(host(), Carrier::Tls, 5070), true),
            ("sip:pool.example.com:1;transport=sctp", ServiceKind::Port(host(), Carrier::Sctp, 1), false),
            (
                "_sip._TCP.pool.example.com",
                ServiceKind::Srv("_sip._tcp.pool.example.com".into(), Carrier::Tcp),
                false,
            ),
            (
                "_sips._tcp.pool.example.com.",
                ServiceKind::Srv("_sips._tcp.pool.example.com".into(), Carrier::Tls),
                false,
            ),
        ] {
            let service: Service = text.parse().unwrap();
            assert_eq!((service.kind(), service.secure(), service.as_str()), (&kind, secure, text));
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (text, words) in [
            ("", "must not be empty"),
            ("pool.example.com", "write sip:pool.example.com or"),
            ("sip:192.0.2.1", "needs no look-up"),
            ("sip:[2001:db8::1]:5060", "needs no look-up"),
            ("sip:a;transport=ws", "\"ws\" is not one of"),
            ("sips:a;transport=udp", "sips: goes over TLS"),
            ("_http._tcp.example.com", "SRV names begin with"),
            ("_sip._udp", "SRV names begin with"),
            ("_sip._udp.a b", "0x20"),
            ("_sip._udp.a;transport=tcp.b\r\n", "0x0d"),
            ("_sip._udp.a;transport=tcp", "SRV names begin with"),
            ("_sip._udp.a:5060", "SRV names begin with"),
        ] {
            let said = text.parse::<Service>().unwrap_err().to_string();
            assert!(said.contains(words), "{text:?}: {said}");
        }
        assert!(format!("_sip._udp.{}", "a.".repeat(125)).parse::<Service>().is_err());
    }
}
