//! The redirect server: whatever comes, what is said can be read, goes back to its source, is not much larger than the question,
//! and holds no Contact but ours; a stream is cut the same, however it comes.

use crate::brew::Corpus;
use mqs::domain::uri::NodeUri;
use mqs::wire::redirect::{GROWTH_MAX, Over, Reply, Rules, Step};
use mqs::wire::sip::{Frame, Framer, HEAD_MAX, Message, parse};
use mqs::wire::token::Secret;
use std::net::SocketAddr;

/// The larger of them grow what must be added: status, tag, received and rport, one Contact.
const ADDED_MAX: usize = 400;

fn check_reply(asked: &[u8], reply: &Reply, source: SocketAddr) {
    let Reply { bytes, to, code, .. } = reply;
    assert_eq!(to.ip(), source.ip());
    assert!(bytes.len() <= asked.len() * GROWTH_MAX + ADDED_MAX, "{} to {}", bytes.len(), asked.len());
    let text = std::str::from_utf8(bytes).unwrap();
    let head = text.strip_suffix("\r\n\r\n").unwrap();
    assert!(
        !head.contains("\r\n\r\n")
            && !head.replace("\r\n", "").contains(|c: char| c.is_control() && c != '\t'),
        "{text:?}"
    );
    let contacts: Vec<&str> =
        head.split("\r\n").filter(|l| l.to_ascii_lowercase().starts_with("contact")).collect();
    let ours = |c: &&str| {
        c.starts_with("Contact: <sip:")
            && (c.contains("127.0.1.") && c.contains(";mqs=m1.t") && c.matches(['<', '>']).count() == 2)
    };
    assert!(contacts.iter().all(ours) && (*code == 302) != contacts.is_empty(), "{text:?}");
    if bytes.len() < HEAD_MAX && *code != 400 && *code != 505 {
        assert!(matches!(parse(bytes), Ok(Message::Response(read)) if read.code == *code), "{text:?}");
    }
}

/// All messages of a stream that comes in pieces, and whether it was lost.
fn cut(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut framer, mut buffer, mut found) = (Framer::default(), Vec::new(), Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match framer.next(&buffer) {
                Frame::Wait => break,
                Frame::Blank { bytes, pings } => {
                    assert!(bytes > 0 && pings <= bytes / 2);
                    buffer.drain(..bytes);
                }
                Frame::Message(length) => found.push(buffer.drain(..length).collect()),
                Frame::Lost { head, .. } => {
                    assert!(head <= buffer.len());
                    return (found, true);
                }
            }
        }
    }
    (found, false)
}

fn check(corpus: &Corpus, rules: &Rules, nodes: &[NodeUri], drawn: &[u8]) -> bool {
    let bytes = corpus.brew(drawn);
    let source: SocketAddr = "192.0.2.2:5066".parse().unwrap();
    let targets: Vec<(&NodeUri, &str)> = nodes.iter().map(|uri| (uri, "m1.t")).collect();
    let reply = match rules.read(&bytes, source, Over::Udp) {
        Step::Silence(_) => None,
        Step::Say(reply) => Some(reply),
        Step::Ask(question) => question.redirect(&targets),
        Step::Cancel(cancel) => cancel.answer(drawn.len().is_multiple_of(2)),
    };
    if let Some(reply) = &reply {
        check_reply(&bytes, reply, source);
    }
    let whole = cut(&bytes, bytes.len());
    assert_eq!(
        cut(&bytes, usize::from(drawn.first().copied().unwrap_or(1))),
        whole,
        "{}",
        bytes.escape_ascii()
    );
    for message in &whole.0 {
        let _ = rules.read(message, source, Over::Tcp);
    }
    reply.is_some()
}

#[test]
fn redirects() {
    let corpus = Corpus::new(
        &[
            "INVITE sip:a.b@[2001:db8::1]:5060;user=phone SIP/2.0\r\nRecord-Route: <sip:p;lr>\r\n\
             v: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKa;rport, SIP/2.0/UDP b.example;branch=z9hG4bKb\r\n\
             f : \"A, \\\"B; tag=no\" <sip:a.b@[::1];tag=inner>;x=1;TAG=ft\r\nTo:\r\n <tel:+1>\r\ni: abc@host\r\n\
             CSeq: 7 INVITE\r\nContact: <sip:x@y>\r\nSupported:\r\nl: 2\r\n\r\nhello",
            "CANCEL tel:+49-30;ext=5 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
             Call-ID: x\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
            "\r\n\r\nOPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a:5060;received=192.0.2.9;rport=7\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: 1\r\n\
             CSeq: 4294967295 OPTIONS\r\nContent-Length: 0\r\nRequire: x\r\n\r\n",
        ],
        &[
            "\r\n",
            "\r",
            "\n",
            "\r\n\r\n",
            "\r\n ",
            ":",
            ";",
            ",",
            "<",
            ">",
            "\"",
            "\\",
            "=",
            "@",
            "%0D%0A",
            "%",
            "?",
            "SIP/2.0",
            "SIP/7.0",
            "INVITE",
            "ACK",
            "BYE",
            "sip:",
            "tel:",
            "urn:service:sos",
            "Via: ",
            "v:",
            "l: 65536\r\n",
            "Content-Length: 1\r\n",
            "Contact: <sip:evil>\r\n",
            "Call-ID: y\r\n",
            "tag=",
            ";mqs=m1.evil",
            "maddr=192.0.2.9",
            "rport",
            "received=",
            "\0",
            "é",
        ],
    );
    let rules = Rules { secret: Secret::new(&[7; 32]).unwrap(), pool: None };
    let nodes: Vec<NodeUri> = (1..=3).map(|n| format!("sip:127.0.1.{n}").parse().unwrap()).collect();
    crate::fuzz!(|drawn: &[u8]| check(&corpus, &rules, &nodes, drawn));
}
