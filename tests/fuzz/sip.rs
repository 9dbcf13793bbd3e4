//! SIP: what is let in can be answered, the answer can be read, and a stream is cut where it should be.

use crate::brew::Corpus;
use mqs::wire::sip::{Draft, HEAD_MAX, Head, MESSAGE_MAX, Message, parse, parse_stream};

fn head(message: &Message) -> &Head {
    match message {
        Message::Request(request) => &request.head,
        Message::Response(response) => &response.head,
    }
}

fn check_message(message: &Message) {
    let head = head(message);
    let (number, method) = head.cseq();
    let texts = [head.call_id(), head.from(), head.to(), head.via(), method];
    for text in texts.into_iter().chain(head.to_tag()).chain(head.branch()) {
        assert!(!text.chars().any(|c| c.is_control() && c != '\t'), "{text:?}");
    }
    assert!(!head.call_id().is_empty() && !head.call_id().contains(' '));
    match message {
        Message::Request(request) => {
            assert!(request.uri.bytes().all(|b| b.is_ascii_graphic()) && request.method == method);
            let answer = Draft::response(request, 486, "Busy Here", Some("t")).bytes(b"x").unwrap();
            // With many Via lines the answer may be larger than what is read.
            if answer.len() < HEAD_MAX {
                let Ok(Message::Response(read)) = parse(&answer) else { panic!("{}", answer.escape_ascii()) };
                assert_eq!((read.code, read.body.as_slice()), (486, &b"x"[..]));
                assert_eq!(read.head.call_id(), head.call_id());
                assert_eq!((read.head.cseq(), read.head.branch()), ((number, method), head.branch()));
            }
        }
        Message::Response(response) => assert!((100..700).contains(&response.code)),
    }
}

fn check(corpus: &Corpus, drawn: &[u8]) -> bool {
    let bytes = corpus.brew(drawn);
    let datagram = parse(&bytes);
    if let Ok(message) = &datagram {
        assert!(bytes.len() <= MESSAGE_MAX);
        check_message(message);
    }
    if let Ok(Some((message, taken))) = parse_stream(&bytes) {
        assert!(taken <= bytes.len());
        check_message(&message);
        let alone = &bytes[..taken];
        assert_eq!(parse(alone).as_ref(), Ok(&message), "the same as a datagram");
        let more = [alone, b"BYE sip:a SIP/2.0\r\n"].concat();
        if more.len() <= MESSAGE_MAX {
            assert_eq!(parse_stream(&more), Ok(Some((message, taken))), "whatever follows");
        }
        let part = &alone[..usize::from(drawn.last().copied().unwrap_or(0)) * taken / 256];
        assert_eq!(parse_stream(part), Ok(None), "a part of a message is not one");
    }
    datagram.is_ok()
}

#[test]
fn sip_messages() {
    let corpus = Corpus::new(
        &[
            "INVITE sip:a.b@[2001:db8::1]:5060;transport=udp SIP/2.0\r\n\
             v: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKa, SIP/2.0/UDP b.example;branch=z9hG4bKb\r\n\
             f : \"A, \\\"B; tag=no\" <sip:a.b@[::1];tag=inner>;x=1;TAG=ft\r\nTo:\r\n <tel:+1>\r\ni: abc@host\r\n\
             CSeq: 7 INVITE\r\nRecord-Route: <sip:p;lr>\r\nSupported:\r\nX-MQS-Lease: m1.t\r\nl: 2\r\n\r\nhello",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
             Call-ID: x\r\nCSeq: 1 OPTIONS\r\nContact: <sip:a@b>, \"c\" <sip:d@e>;q=0.1\r\nContent-Length: 0\r\n\r\n",
            "\r\n\r\nOPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: 1\r\n\
             CSeq: 4294967295 OPTIONS\r\nContent-Length: 0\r\nMax-Forwards: 70\r\nUser-Agent: x\r\n\r\n",
        ],
        &[
            "\r\n",
            "\r",
            "\n",
            "\r\n\r\n",
            "\r\n ",
            "\r\n\t",
            ":",
            ";",
            ",",
            "<",
            ">",
            "\"",
            "\\",
            "=",
            "SIP/2.0",
            "sip:",
            "Via: ",
            "v:",
            "l: 65536\r\n",
            "Content-Length: 1\r\n",
            "Call-ID: y\r\n",
            "CSeq: 0 ACK\r\n",
            "tag=",
            "branch=",
            "4294967296",
            "-1",
            "\0",
            "\u{7f}",
            "é",
            "%",
            "Route: <sip:a>\r\n",
            "X: y\r\n",
        ],
    );
    crate::fuzz!(|drawn: &[u8]| check(&corpus, drawn));
}
