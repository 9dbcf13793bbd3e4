//! The topmost Via: it is marked with where a request really came from, and then says where the response goes.

use super::Request;
use super::read::is_token;
use rsip::Header;
use rsip::headers::UntypedHeader as _;
use std::net::{IpAddr, SocketAddr};

/// The port of a sent-by that names none (RFC 3261 §18.2.2); TLS is not spoken here.
const DEFAULT_PORT: u16 = 5060;

/// The topmost Via says nothing that a response could go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topmost Via is malformed")]
pub struct ViaError;

impl Request {
    /// Marks the topmost Via with the source of the request, and gives the place that a response over UDP goes to.
    ///
    /// The address is always the source's, whatever `maddr`, `received` or the sent-by claim: a response never goes to a third party.
    /// RFC 3261 §18.2.1, §18.2.2; RFC 3581 §4 for `rport`.
    pub fn came_from(&mut self, source: SocketAddr) -> Result<SocketAddr, ViaError> {
        let top =
            self.head.headers.iter_mut().find_map(|h| if let Header::Via(v) = h { Some(v) } else { None });
        let top = top.ok_or(ViaError)?;
        let via = Via::read(top.value()).ok_or(ViaError)?;
        let ip = source.ip().to_canonical();
        let port = if via.rport { source.port() } else { via.port.unwrap_or(DEFAULT_PORT) };
        let marked = via.marked(ip, source.port());
        top.replace(marked);
        Ok(SocketAddr::new(ip, port))
    }
}

/// `SIP/2.0/UDP host:port;params`
struct Via<'a> {
    /// All before the parameters.
    sent: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// The parameters as they came, but for `received` and `rport`: those are ours to say.
    params: Vec<&'a str>,
    rport: bool,
}

impl<'a> Via<'a> {
    fn read(value: &'a str) -> Option<Via<'a>> {
        let (sent, params) = match value.split_once(';') {
            Some((sent, params)) => (sent.trim_end(), Some(params)),
            None => (value, None),
        };
        // RFC 3261 §25.1 allows blanks around each '/', and around the ':' before a port.
        let mut parts = sent.splitn(3, '/').map(str::trim);
        let (name, version, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return None;
        }
        let (transport, sent_by) = rest.split_once([' ', '\t'])?;
        if transport.is_empty() || !transport.bytes().all(is_token) {
            return None;
        }
        let (host, port) = host_port(sent_by.trim())?;
        let mut via = Via { sent, host, port, params: Vec::new(), rport: false };
        for one in params.into_iter().flat_map(|all| all.split(';')) {
            let name = one.split('=').next().unwrap_or(one).trim();
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            if name.eq_ignore_ascii_case("rport") {
                via.rport = true;
            } else if !name.eq_ignore_ascii_case("received") {
                via.params.push(one.trim());
            }
        }
        Some(via)
    }

    fn marked(&self, ip: IpAddr, port: u16) -> String {
        let mut text = self.sent.to_owned();
        for one in &self.params {
            text.push(';');
            text.push_str(one);
        }
        // RFC 3581 §4: with rport, received is there even where the sent-by is right.
        if self.rport || self.host.trim_matches(['[', ']']).parse() != Ok(ip) {
            text.push_str(&format!(";received={ip}"));
        }
        if self.rport {
            text.push_str(&format!(";rport={port}"));
        }
        text
    }
}

fn host_port(sent_by: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match sent_by.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => {
            v6.parse::<std::net::Ipv6Addr>().ok()?;
            let rest = rest.trim();
            (sent_by.get(..v6.len() + 2)?, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match sent_by.split_once(':') {
            Some((host, port)) => (host.trim(), Some(port)),
            None => (sent_by, None),
        },
    };
    let named = host.starts_with('[')
        || (!host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)));
    let port = match port.map(str::trim) {
        None => None,
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.parse().ok().filter(|p| *p > 0)?),
        Some(_) => return None,
    };
    named.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::super::{Message, parse};

    fn asked(via: &str, source: &str) -> Option<(String, String)> {
        let text = format!(
            "OPTIONS sip:a SIP/2.0\r\nVia: {via}\r\nVia: SIP/2.0/UDP second;rport\r\nFrom: <sip:a>;tag=f\r\nTo: <sip:b>\r\nCall-ID: c\r\n\
             CSeq: 1 OPTIONS\r\n\r\n"
        );
        let Ok(Message::Request(mut request)) = parse(text.as_bytes()) else { panic!("{text}") };
        let to = request.came_from(source.parse().unwrap()).ok()?;
        Some((request.head.via().to_owned(), to.to_string()))
    }

    #[test]
    fn a_response_goes_back_to_where_the_request_came_from() {
        for (via, source, marked, to) in [
            // RFC 3261 §18.2.1: a right address needs no mark; a name, or another address, does.
            (
                "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa",
                "192.0.2.1:9999",
                "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa",
                "192.0.2.1:5060",
            ),
            (
                "SIP/2.0/UDP a.example:5070;branch=b",
                "192.0.2.1:9999",
                "SIP/2.0/UDP a.example:5070;branch=b;received=192.0.2.1",
                "192.0.2.1:5070",
            ),
            // RFC 3581 §4.
            (
                "SIP/2.0/UDP 192.0.2.1:5070;rport;branch=b",
                "192.0.2.1:9999",
                "SIP/2.0/UDP 192.0.2.1:5070;branch=b;received=192.0.2.1;rport=9999",
                "192.0.2.1:9999",
            ),
            // What a peer claims of itself is taken out: nobody else is sent anything.
            (
                "SIP/2.0/UDP 198.51.100.9;received=198.51.100.8;maddr=198.51.100.7;rport=1",
                "192.0.2.1:9999",
                "SIP/2.0/UDP 198.51.100.9;maddr=198.51.100.7;received=192.0.2.1;rport=9999",
                "192.0.2.1:9999",
            ),
            (
                "SIP/2.0/UDP [2001:db8::9]:5066;branch=b",
                "[2001:db8::9]:1",
                "SIP/2.0/UDP [2001:db8::9]:5066;branch=b",
                "[2001:db8::9]:5066",
            ),
            ("SIP/2.0/UDP 192.0.2.1", "[::ffff:192.0.2.1]:7", "SIP/2.0/UDP 192.0.2.1", "192.0.2.1:5060"),
            // RFC 4475 §3.1.1.1.
            (
                "SIP  / 2.0  / TCP     spindle.example.com : 5061  ;  branch  =   z9hG4bK9ikj8",
                "192.0.2.1:7",
                "SIP  / 2.0  / TCP     spindle.example.com : 5061;branch  =   z9hG4bK9ikj8;received=192.0.2.1",
                "192.0.2.1:5061",
            ),
        ] {
            assert_eq!(asked(via, source), Some((marked.to_owned(), to.to_owned())), "{via}");
        }
    }

    #[test]
    fn a_via_that_says_nothing_is_refused() {
        for bad in [
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ;branch=a",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a:0",
            "SIP/2.0/UDP a:65536",
            "SIP/2.0/UDP a:+5",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP [1.2.3.4]",
            "SIP/2.0/UDP 192.0.2.15;;branch=a",
            "SIP/3.0/UDP a",
            "UDP a",
            "SIP/2.0/UDP a;\"x\"=b",
            "SIP/2.0/UDP <a>",
        ] {
            assert_eq!(asked(bad, "192.0.2.1:1"), None, "{bad:?}");
        }
    }
}
