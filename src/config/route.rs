//! Checks of what goes into SIP messages as it is written: `socket`, `path`, `headers`.

use super::reader::Reader;
use crate::domain::uri::RequestUri;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const PATH_MAX: usize = 1024;
const HOPS_MAX: usize = 8;
const HEADERS_MAX: usize = 16;
const HEADER_NAME_MAX: usize = 64;
const HEADER_VALUE_MAX: usize = 256;

/// Headers that may be added, next to those that begin with `X-`: they inform, and no element routes, matches or
/// authenticates by them (RFC 3261 §20, RFC 7433).
pub(super) const HEADERS_ALLOWED: [&str; 7] =
    ["Accept-Language", "Alert-Info", "Call-Info", "Organization", "Priority", "Subject", "User-to-User"];

/// A socket of the proxy, as Kamailio writes it: `udp:ip:port`. An unknown one it ignores in silence.
pub(super) fn socket(text: &str) -> Result<String, &'static str> {
    let wanted = "write udp:ip:port with an address of the proxy; tcp, tls, sctp, ws and wss are known too";
    let (protocol, place) = text.split_once(':').ok_or(wanted)?;
    let known = matches!(protocol, "udp" | "tcp" | "tls" | "sctp" | "ws" | "wss");
    let fits = |addr: &SocketAddr| known && addr.port() > 0 && !addr.ip().is_unspecified();
    place.parse::<SocketAddr>().ok().filter(fits).map(|_| text.to_owned()).ok_or(wanted)
}

/// A route set: `<sip:a;lr>` or several with commas between them (RFC 3261 §20.34), loose routers all (§19.1.1, `lr`).
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.len() > PATH_MAX {
        return Err(format!("{} bytes; at most {PATH_MAX} are allowed", text.len()));
    }
    let wanted =
        || format!("write 1 to {HOPS_MAX} hops such as <sip:edge.example.com;lr>, with commas between them");
    let mut rest = text;
    for _ in 0..HOPS_MAX {
        let hop = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (uri, after) = hop.ok_or_else(wanted)?;
        check_hop(uri)?;
        if after.is_empty() {
            return Ok(text.to_owned());
        }
        rest = after.strip_prefix(',').ok_or_else(wanted)?;
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    Err(wanted())
}

fn check_hop(uri: &str) -> Result<(), String> {
    uri.parse::<RequestUri>().map_err(|e| format!("a hop is wrong: {e}"))?;
    let scheme = uri.split(':').next().unwrap_or_default();
    if !["sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("a hop is a sip: or sips: address".to_owned());
    }
    let place = uri.rsplit_once('@').map_or(uri, |(_, place)| place);
    let loose = |p: &str| p.eq_ignore_ascii_case("lr") || p.to_ascii_lowercase().starts_with("lr=");
    if place.contains('?') || !place.split(';').skip(1).any(loose) {
        return Err("a hop has the parameter lr, and no headers: <sip:edge.example.com;lr>".to_owned());
    }
    Ok(())
}

/// Headers to add, in the order of the file.
pub(super) fn headers(t: &mut Reader<'_, '_>) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut headers = Vec::new();
    for (name, name_spot, value, spot) in t.texts_by_name("headers", HEADERS_MAX) {
        if let Err(message) = check_name(&name) {
            t.wrong(&name_spot, message);
        } else if !seen.insert(name.to_ascii_lowercase()) {
            t.wrong(
                &name_spot,
                "this header is there twice; names differ by more than case (RFC 3261 §7.3.1)",
            );
        } else if let Err(message) = check_value(&value) {
            t.wrong(&spot, message);
        } else {
            headers.push((name, value));
        }
    }
    headers
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed =
        || format!("write a header that begins with \"X-\", or one of {}", HEADERS_ALLOWED.join(", "));
    // RFC 3261 §25.1, token. A blank before the colon once got a header past a proxy's filter (CVE-2020-28361).
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(token) {
        return Err(format!(
            "a header's name has 1 to {HEADER_NAME_MAX} letters, digits and - . ! % * _ + ` ' ~"
        ));
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("x-mqs-") || lower == "x-mqs" {
        return Err(format!("X-MQS-* headers are MQS's own: nobody else may set them; {}", allowed()));
    }
    let known = HEADERS_ALLOWED.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    let own = lower.starts_with("x-") && lower.len() > 2;
    if known || own { Ok(()) } else { Err(allowed()) }
}

fn check_value(value: &str) -> Result<(), String> {
    let printable = value.bytes().all(|b| (0x20..=0x7e).contains(&b));
    let fits = printable && (1..=HEADER_VALUE_MAX).contains(&value.len()) && value.trim() == value;
    let wanted = format!(
        "write 1 to {HEADER_VALUE_MAX} printable ASCII characters, no line ends, no blank at either end"
    );
    if fits { Ok(()) } else { Err(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_addresses_of_the_proxy() {
        for good in ["udp:10.0.0.1:5060", "tls:[2001:db8::1]:5061", "wss:127.0.0.1:443"] {
            assert_eq!(socket(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "udp",
            "10.0.0.1:5060",
            "udp:10.0.0.1",
            "udp:10.0.0.1:0",
            "udp:0.0.0.0:5060",
            "quic:10.0.0.1:1",
            "udp:edge.example.com:5060",
            "UDP:10.0.0.1:5060",
            "udp:10.0.0.1:5060\r\n",
            "udp: 10.0.0.1:5060",
        ] {
            assert!(socket(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_route_sets() {
        for good in [
            "<sip:edge.example.com;lr>",
            "<sip:edge@10.0.0.1:5060;transport=tcp;lr>,<sips:[2001:db8::1];lr=on>",
            "<sip:a;lr>, <sip:b;lr>",
        ] {
            assert_eq!(path(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "sip:a;lr",
            "<sip:a>",
            "<sip:a;lr",
            "<sip:a;lr>,",
            "<sip:a;lr>x",
            "<tel:112;lr>",
            "<sip:a;lr?X=y>",
            "<sip:a;lr>\r\nX: y",
            "<sip:a\r\nX: y;lr>",
            "<sip:;lr>",
            "\"a\" <sip:a;lr>",
            "<sip:a;lrx>",
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(path(&["<sip:a;lr>"; 9].join(",")).is_err());
        assert!(path(&format!("<sip:a;x={};lr>", "y".repeat(1024))).is_err());
    }

    #[test]
    fn headers_cannot_smuggle_or_pretend() {
        for good in ["X-Tenant", "x-a", "User-to-User", "subject", "X-!%*_+`'~."] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "X-",
            "X",
            "X-A ",
            "X-A:",
            "X-A\r\nB",
            "X-MQS-Lease",
            "x-mqs-lease",
            "X-MQS",
            "Via",
            "Route",
            "Contact",
            "P-Asserted-Identity",
            "Authorization",
            "X-é",
            &format!("X-{}", "a".repeat(63)),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a b", "<sip:a>;info=1", &"x".repeat(256)] {
            assert_eq!(check_value(good), Ok(()), "{good:?}");
        }
        for bad in ["", " a", "a ", "a\r\nB: c", "a\nb", "a\0b", "a\tb", "é", &"x".repeat(257)] {
            assert!(check_value(bad).is_err(), "{bad:?}");
        }
    }
}
