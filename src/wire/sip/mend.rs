//! Requests that cannot be served as they are, and can be answered: what an error response needs is there.

use super::read::{self, is_token, is_version, number};
use super::{Head, Request};

/// A request that is wrong somewhere, and the status that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is left of it; the method is as its sender meant it, the address is empty, and so is the body.
    pub request: Request,
    /// 400 or 505.
    pub code: u16,
}

/// Looks for what an error response repeats (RFC 3261 §8.2.6.2) in a datagram that [`parse`](super::parse) refused. `None`: it is no request,
/// is an ACK (which is never answered, RFC 3261 §17), or lacks one of them: silence is the answer.
pub fn mend(bytes: &[u8]) -> Option<Broken> {
    let (lines, _) = read::lines(bytes).ok().flatten()?;
    let (method, rest) = lines.start.split_once(' ')?;
    let (_, version) = rest.trim_end().rsplit_once(' ')?;
    if method == "ACK" || method.is_empty() || !method.bytes().all(is_token) || !looks_like_version(version) {
        return None;
    }
    let one = |name| {
        let mut found = read::all(&lines, name).filter(|value| !value.is_empty());
        found.next().filter(|_| found.next().is_none())
    };
    let (_, _, _, cseq) = (one("From")?, one("To")?, one("Call-ID")?, one("CSeq")?);
    read::all(&lines, "Via").next()?;
    let cseq = cseq.split([' ', '\t']).next().and_then(number).unwrap_or(0);
    let headers = read::typed(&lines.headers).ok()?;
    let head = Head { headers, cseq, cseq_method: method.to_owned() };
    let request = Request { method: method.to_owned(), uri: String::new(), head, body: Vec::new() };
    // RFC 3261 §21.5.7: a version that is none of ours has a status of its own.
    let code = if is_version(version) { 400 } else { 505 };
    Some(Broken { request, code })
}

fn looks_like_version(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) && text.len() <= 16
}

#[cfg(test)]
mod tests {
    use super::super::{Draft, Message, parse};
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a>;tag=f\r\nTo: <sip:b>\r\n\
        Call-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    fn code(text: &str) -> Option<u16> {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
        let broken = mend(text.as_bytes())?;
        // Whatever was mended can be answered, and the answer can be read unless its CSeq is what was wrong.
        let answer = Draft::response(&broken.request, broken.code, "No", Some("t")).bytes(b"").unwrap();
        if let Ok(Message::Response(response)) = parse(&answer) {
            assert_eq!(response.code, broken.code);
        }
        Some(broken.code)
    }

    #[test]
    fn what_can_be_answered_is() {
        for (from, to, want) in [
            ("Length: 0", "Length: -999", Some(400)),
            ("Length: 0", "Length: 9999", Some(400)),
            ("Length: 0", "Length: 0\r\nl: 0", Some(400)),
            ("1 OPTIONS", "1 INVITE", Some(400)),
            ("1 OPTIONS", "36893488147419103232 OPTIONS", Some(400)),
            ("sip:a SIP", "sip:a b SIP", Some(400)),
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", Some(505)),
            ("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia", Some(400)),
            ("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia", None),
            ("OPTIONS sip", "ACK sip", None),
            ("Call-ID: c\r\n", "", None),
            ("Call-ID: c", "Call-ID: c\r\ni: d", None),
            ("CSeq: 1 OPTIONS\r\n", "CSeq:\r\n", None),
            ("Via: SIP/2.0/UDP h;branch=z9hG4bKa\r\n", "", None),
            ("<sip:b>", "<sip:b>\0", None),
        ] {
            assert_eq!(code(&OPTIONS.replacen(from, to, 1)), want, "{from:?} → {to:?}");
        }
        assert_eq!(code("SIP/2.0 200 SIP/2.0\r\n\r\n"), None);
    }
}
