use super::*;
use proptest::prelude::*;

const INVITE: &str = "INVITE sip:first.last@[2001:db8::1]:5060;transport=udp SIP/2.0\r\n\
    v: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKa, SIP/2.0/UDP b.example;branch=z9hG4bKb\r\n\
    f : \"A, \\\"B; tag=no\" <sip:a.b@[::1];tag=inner>;x=1;TAG=ft\r\n\
    To:\r\n <tel:+1>\r\n\
    i: abc@host\r\n\
    CSeq: 7 INVITE\r\n\
    Supported:\r\n\
    X-MQS-Lease: m1.t\r\n\
    l: 2\r\n\r\nhello";

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> SipError {
    parse(text.as_bytes()).unwrap_err()
}

#[test]
fn odd_and_valid_is_read_right() {
    let invite = request(&format!("\r\n\r\n{INVITE}"));
    assert_eq!(invite.method, "INVITE");
    assert_eq!(invite.uri, "sip:first.last@[2001:db8::1]:5060;transport=udp");
    let head = &invite.head;
    assert_eq!((head.call_id(), head.cseq()), ("abc@host", (7, "INVITE")));
    assert_eq!((head.to(), head.to_tag()), ("<tel:+1>", None));
    assert_eq!(read::param(head.from(), "tag"), Some("ft"));
    assert_eq!(head.branch(), Some("z9hG4bKa"));
    assert_eq!(head.other("x-mqs-lease"), Some("m1.t"));
    assert_eq!(invite.body, b"he");
    assert_eq!(
        request(&INVITE.replace("INVITE", "NEWMETHOD").replace("SIP/2.0\r", "sip/2.0\r")).method,
        "NEWMETHOD"
    );
}

#[test]
fn what_is_wrong_is_refused() {
    assert_eq!(refused("\r\n\r\n"), SipError::Empty);
    assert_eq!(refused("INVITE sip:a SIP/2.0\r\n"), SipError::NoEnd);
    assert_eq!(refused(&INVITE.replace("l: 2", "l: 6")), SipError::Short { have: 5, want: 6 });
    assert_eq!(refused(&INVITE.replace("l: 2", "l: +2")), SipError::Value("Content-Length"));
    assert_eq!(
        refused(&INVITE.replace("l: 2", "l: 2\r\nContent-Length: 2")),
        SipError::Count("Content-Length")
    );
    assert_eq!(refused(&INVITE.replace("i: abc@host", "X: y")), SipError::Count("Call-ID"));
    assert_eq!(refused(&INVITE.replace("i: abc@host", "i: a b")), SipError::Value("Call-ID"));
    assert_eq!(refused(&INVITE.replace("i: abc@host", "i: a\r\nCall-ID: b")), SipError::Count("Call-ID"));
    assert_eq!(refused(&INVITE.replace("7 INVITE", "7 BYE")), SipError::Value("CSeq"));
    assert_eq!(refused(&INVITE.replace("7 INVITE", "4294967296 INVITE")), SipError::Value("CSeq"));
    assert_eq!(refused(&INVITE.replace("Supported:", "no header")), SipError::HeaderLine(6));
    assert_eq!(refused(&INVITE.replace("m1.t", "m1\rX: y")), SipError::NotText);
    assert_eq!(refused(&INVITE.replace("m1.t", "m1\0")), SipError::NotText);
    assert_eq!(refused(&INVITE.replace(" SIP/2.0\r", " SIP/3.0\r")), SipError::StartLine);
    let many = INVITE.replace("Supported:", &"Y: z\r\n".repeat(200));
    assert_eq!(refused(&many), SipError::TooLarge { what: "headers", limit: 200 });
    let long = INVITE.replace("m1.t", &"x".repeat(HEAD_MAX));
    assert_eq!(refused(&long), SipError::TooLarge { what: "head", limit: HEAD_MAX });
}

#[test]
fn a_response_repeats_what_it_must() {
    let invite = request(INVITE);
    let bytes = Draft::response(&invite, 302, "Moved Temporarily", Some("tt")).bytes(b"").unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(
        text.starts_with("SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/UDP [2001:db8::9]:5060;"),
        "{text}"
    );
    let Ok(Message::Response(response)) = parse(&bytes) else { panic!("{text}") };
    assert_eq!((response.code, response.reason.as_str()), (302, "Moved Temporarily"));
    assert_eq!(response.head.to_tag(), Some("tt"));
    assert_eq!(response.head.from(), invite.head.from());
    assert_eq!(response.head.branch(), invite.head.branch());
}

#[test]
fn no_text_can_smuggle_a_line() {
    let draft = Draft::request("OPTIONS", "sip:a").unwrap();
    for bad in ["a\r\nX: y", "a\n", "\r", "a\0"] {
        assert!(draft.clone().with("Subject", bad).bytes(b"").is_err(), "{bad:?}");
        assert!(draft.clone().with(bad, "x").bytes(b"").is_err(), "{bad:?}");
        assert!(Draft::request("OPTIONS", bad).is_err() && Draft::request(bad, "sip:a").is_err(), "{bad:?}");
    }
}

#[test]
fn a_stream_is_cut_where_content_length_says() {
    let two = format!("{INVITE}\r\n");
    for end in 0..INVITE.len() - 3 {
        assert_eq!(parse_stream(&INVITE.as_bytes()[..end]), Ok(None), "{end}");
    }
    let (_, taken) = parse_stream(two.as_bytes()).unwrap().unwrap();
    assert_eq!(&two[taken..], "llo\r\n");
    let without = INVITE.replace("l: 2\r\n", "");
    assert_eq!(parse_stream(without.as_bytes()), Err(SipError::Count("Content-Length")));
}

/// Whatever was let in can be answered, and the answer can be read.
fn answered_if_let_in(bytes: &[u8]) -> Result<(), String> {
    let Ok(Message::Request(request)) = parse(bytes) else { return Ok(()) };
    let answer = Draft::response(&request, 200, "OK", Some("t")).bytes(b"").unwrap();
    match parse(&answer) {
        Ok(Message::Response(_)) => Ok(()),
        other => Err(format!("{other:?}: {}", String::from_utf8_lossy(&answer))),
    }
}

#[test]
fn no_cut_of_a_message_makes_an_answer_that_cannot_be_read() {
    for (at, len) in (0..INVITE.len()).flat_map(|at| (0..20usize).map(move |len| (at, len))) {
        for with in ["", "\r\n", "\n", "\r\n ", ";", ":", "=", "<"] {
            let mut bytes = INVITE.as_bytes().to_vec();
            bytes.splice(at..(at + len).min(INVITE.len()), with.bytes());
            answered_if_let_in(&bytes).unwrap_or_else(|why| panic!("{at} {len} {with:?}: {why}"));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = parse(&bytes);
        let _ = parse_stream(&bytes);
    }

    #[test]
    fn any_change_of_a_message(at in 0..INVITE.len(), len in 0..20usize, with in "\\PC{0,8}|[\r\n\t;,<>\":= ]{0,8}") {
        let mut bytes = INVITE.as_bytes().to_vec();
        bytes.splice(at..(at + len).min(INVITE.len()), with.bytes());
        prop_assert_eq!(answered_if_let_in(&bytes), Ok(()));
    }

    #[test]
    fn any_value_is_one_line_or_refused(name in "[A-Za-z-]{1,10}", value in any::<String>()) {
        let draft = Draft::request("OPTIONS", "sip:a").unwrap().with(&name, value);
        if let Ok(bytes) = draft.bytes(b"") {
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(text.split("\r\n").count(), 5, "{}", text);
        }
    }
}
