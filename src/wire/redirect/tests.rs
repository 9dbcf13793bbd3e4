//! Ordinary requests here; torture in `tests/redirect_torture.rs`.

use super::*;
use proptest::prelude::*;

const INVITE: &str = "INVITE sip:100@example.com SIP/2.0\r\n\
    Record-Route: <sip:127.0.0.1;lr>\r\n\
    Via: SIP/2.0/UDP 127.0.0.9:5066;branch=z9hG4bKa;rport\r\n\
    Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb\r\n\
    From: <sip:caller@192.0.2.9>;tag=ft\r\n\
    To: <sip:100@example.com>\r\n\
    Call-ID: c1@host\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Length: 0\r\n\r\n";

fn rules() -> Rules {
    Rules { secret: Secret::new(&[7; 32]).unwrap(), pool: None }
}

fn source() -> SocketAddr {
    "127.0.0.9:40000".parse().unwrap()
}

fn read(text: &str) -> Step {
    rules().read(text.as_bytes(), source(), Over::Udp)
}

fn question(text: &str) -> Question {
    match read(text) {
        Step::Ask(question) => *question,
        other @ (Step::Silence(_) | Step::Say(_) | Step::Cancel(_)) => panic!("{other:?}\n{text}"),
    }
}

fn said(step: Step) -> (u16, String) {
    match step {
        Step::Say(reply) => (reply.code, String::from_utf8(reply.bytes).unwrap()),
        other @ (Step::Silence(_) | Step::Ask(_) | Step::Cancel(_)) => panic!("{other:?}"),
    }
}

fn code(text: &str) -> u16 {
    said(read(text)).0
}

fn nodes(count: usize) -> Vec<(NodeUri, String)> {
    (1..=count)
        .map(|n| {
            (
                format!("sip:127.0.1.{n}:5060").parse().unwrap(),
                format!("m1.default.ast{n}.{}", "0".repeat(60)),
            )
        })
        .collect()
}

fn redirect(question: &Question, count: usize) -> Reply {
    let nodes = nodes(count);
    let targets: Vec<_> = nodes.iter().map(|(uri, token)| (uri, token.as_str())).collect();
    question.redirect(&targets).unwrap()
}

#[test]
fn an_invite_is_a_lookup_and_its_answer_a_redirect() {
    let question = question(INVITE);
    let ask = question.ask();
    assert_eq!(
        (ask.call_id.as_str(), ask.from_tag.as_str(), ask.cseq, ask.kind),
        ("c1@host", "ft", 7, Kind::New)
    );
    assert_eq!((ask.request_uri.subject(), ask.source.as_deref()), ("100", Some("127.0.0.9:40000")));
    let reply = redirect(&question, 2);
    assert_eq!(
        (reply.code, reply.method, reply.to, reply.call_id.as_str()),
        (302, "INVITE", source(), "c1@host")
    );
    let zeros = "0".repeat(60);
    let tag = rules().to_tag(&question.asked.request.head);
    let want = format!(
        "SIP/2.0 302 Moved Temporarily\r\n\
         Record-Route: <sip:127.0.0.1;lr>\r\n\
         Via: SIP/2.0/UDP 127.0.0.9:5066;branch=z9hG4bKa;received=127.0.0.9;rport=40000\r\n\
         Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb\r\n\
         From: <sip:caller@192.0.2.9>;tag=ft\r\n\
         Call-ID: c1@host\r\n\
         CSeq: 7 INVITE\r\n\
         To: <sip:100@example.com>;tag={tag}\r\n\
         Contact: <sip:100@127.0.1.1:5060;mqs=m1.default.ast1.{zeros}>;q=1.00\r\n\
         Contact: <sip:100@127.0.1.2:5060;mqs=m1.default.ast2.{zeros}>;q=0.95\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert_eq!(String::from_utf8(reply.bytes).unwrap(), want);
    assert!(tag.len() == 16 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{tag}");
}

#[test]
fn the_to_tag_is_the_requests_own_and_nobody_can_foretell_it() {
    let tag = |text: &str, secret: u8| {
        let rules = Rules { secret: Secret::new(&[secret; 32]).unwrap(), pool: None };
        let Ok(Message::Request(request)) = sip::parse(text.as_bytes()) else { panic!("{text}") };
        rules.to_tag(&request.head)
    };
    assert_eq!(tag(INVITE, 1), tag(INVITE, 1));
    // RFC 3261 §9.2: a CANCEL gets the tag of its INVITE.
    assert_eq!(tag(INVITE, 1), tag(&INVITE.replace("INVITE", "CANCEL"), 1));
    for (from, to) in [("c1@host", "c2@host"), ("tag=ft", "tag=fu"), ("z9hG4bKa", "z9hG4bKc")] {
        assert_ne!(tag(INVITE, 1), tag(&INVITE.replacen(from, to, 1), 1), "{from}");
    }
    assert_ne!(tag(INVITE, 1), tag(INVITE, 2));
    // The parts do not run together.
    let (a, b) = (INVITE.replace("c1@host", "c1").replace("=ft", "=2ft"), INVITE.replace("c1@host", "c12"));
    assert_ne!(tag(&a, 1), tag(&b, 1));
}

#[test]
fn every_method_has_its_answer() {
    assert!(matches!(read(&INVITE.replace("INVITE", "ACK")), Step::Silence(Silence::Ack)));
    assert!(matches!(read("\r\n\r\n"), Step::Silence(Silence::KeepAlive)));
    assert!(matches!(
        read(&INVITE.replacen("INVITE sip:100@example.com SIP/2.0", "SIP/2.0 200 OK", 1)),
        Step::Silence(Silence::Response)
    ));
    assert!(matches!(read("GET / HTTP/1.1\r\n\r\n"), Step::Silence(Silence::Malformed)));
    let (code, text) = said(read(&INVITE.replace("INVITE", "OPTIONS")));
    assert!(code == 200 && text.contains("\r\nAllow: INVITE, ACK, CANCEL, OPTIONS\r\n"), "{text}");
    for method in KNOWN {
        let (code, text) = said(read(&INVITE.replace("INVITE", method)));
        assert!(code == 405 && text.contains("\r\nAllow: INVITE, ACK, CANCEL, OPTIONS\r\n"), "{text}");
    }
    for method in ["NEWMETHOD", "invite", "RE%47IST%45R", "!x*_+`.'~"] {
        let step = read(&INVITE.replace("INVITE", method));
        assert!(matches!(step, Step::Say(Reply { method: "other", code: 501, .. })), "{method}: {step:?}");
    }
    let Step::Cancel(cancel) = read(&INVITE.replace("INVITE", "CANCEL")) else { panic!("no cancel") };
    assert_eq!(
        cancel.lease(&"p".parse().unwrap()),
        lease_id(&"p".parse().unwrap(), "c1@host", "ft", 7, Kind::New)
    );
    let answers = [cancel.answer(true).unwrap().code, cancel.answer(false).unwrap().code];
    assert_eq!(answers, [200, 481]);
    // RFC 4475 §3.3.5: an OPTIONS is for this server itself; what an INVITE requires is the node's business.
    let demanding = INVITE.replace("Record-Route", "Require: no-such-thing\r\nRecord-Route");
    let (code, text) = said(read(&demanding.replace("INVITE", "OPTIONS")));
    assert!(code == 420 && text.contains("\r\nUnsupported: no-such-thing\r\n"), "{text}");
    assert!(matches!(read(&demanding), Step::Ask(_)));
}

#[test]
fn what_is_no_new_call_is_no_lookup() {
    assert_eq!(code(&INVITE.replace("example.com>\r\nCall", "example.com>;tag=x\r\nCall")), 481);
    for (uri, want) in [
        ("mailto:a@b", 416),
        ("nobodyKnowsThisScheme:totallyopaquecontent", 416),
        ("<sip:a@b>", 400),
        ("sip:2001:db8::10", 400),
        ("sip:a@b:99999", 400),
        ("sip:", 400),
    ] {
        for method in ["INVITE", "OPTIONS"] {
            let text =
                INVITE.replace("sip:100@example.com SIP", &format!("{uri} SIP")).replace("INVITE", method);
            assert_eq!(code(&text), want, "{method} {uri}");
        }
    }
    assert_eq!(
        code(&INVITE.replace("100@example.com SIP", &format!("{}@example.com SIP", "1".repeat(1100)))),
        414
    );
    assert_eq!(code(&INVITE.replace("c1@host", "aaa-bbb-ccc-ddd")), 400);
    assert_eq!(code(&INVITE.replace("c1@host", &"x".repeat(257))), 400);
    assert_eq!(code(&INVITE.replace("tag=ft", &format!("tag={}", "x".repeat(257)))), 400);
    assert_eq!(code(&INVITE.replace("To: <", "To: \"Mr. J. User <")), 400);
    assert_eq!(code(&INVITE.replace("CSeq: 7 INVITE", "CSeq: 7 BYE")), 400);
    assert_eq!(code(&INVITE.replace("Length: 0", "Length: 9")), 400);
    assert_eq!(code(&INVITE.replacen("SIP/2.0", "SIP/7.0", 1)), 505);
    assert!(matches!(read(&INVITE.replace("127.0.0.9:5066", "")), Step::Silence(Silence::Malformed)));
}

#[test]
fn a_refusal_says_why_and_cannot_be_made_to_say_more() {
    let mut refusal = Refusal::no_pool("a\r\nX: y \"quoted\\\"");
    refusal.sip_code = 480;
    refusal.retry_after_s = Some(3);
    let of = |refusal: &Refusal| String::from_utf8(question(INVITE).refuse(refusal).unwrap().bytes).unwrap();
    let text = of(&refusal);
    assert!(text.starts_with("SIP/2.0 480 Temporarily Unavailable\r\n"), "{text}");
    assert!(
        text.contains("\r\nReason: SIP;cause=480;text=\"MQS NOPOOL: no pool arnX: y quoted\"\r\n"),
        "{text}"
    );
    assert!(!text.contains("Retry-After") && !text.contains("Contact"), "{text}");
    refusal.sip_code = 503;
    assert!(of(&refusal).contains("\r\nRetry-After: 3\r\n"));
}

#[test]
fn an_answer_to_a_datagram_is_never_much_larger_than_it() {
    let of = |text: &str, over, count| {
        let Step::Ask(question) = rules().read(text.as_bytes(), source(), over) else { panic!("{text}") };
        let reply = redirect(&question, count);
        (reply.bytes.len(), String::from_utf8(reply.bytes).unwrap().matches("Contact:").count())
    };
    for count in 1..=12 {
        let (size, contacts) = of(INVITE, Over::Udp, count);
        assert!(size <= INVITE.len() * GROWTH_MAX || contacts == 1, "{count}: {size}");
        assert!(contacts >= count.min(4), "{count}: {contacts}");
        assert_eq!(of(INVITE, Over::Tcp, count).1, count);
    }
    let least =
        "INVITE sip:a@b SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:sip:a\r\nt:sip:b\r\ni:a\r\nCSeq:1 INVITE\r\n\r\n";
    let (size, contacts) = of(least, Over::Udp, 12);
    assert!(contacts == 1 && size <= least.len() * GROWTH_MAX + 200, "{size} to {}", least.len());
}

proptest! {
    #[test]
    fn nothing_that_is_repeated_becomes_a_header(
        at in 0..INVITE.len(), cut in 0..12usize, with in "(\\PC|\r|\n|\r\n|\t|[;,<>\":=%@ ]|Contact: <sip:evil>|\r\nContact: <sip:evil>){0,4}"
    ) {
        let mut bytes = INVITE.as_bytes().to_vec();
        bytes.splice(at..(at + cut).min(INVITE.len()), with.bytes());
        let reply = match rules().read(&bytes, source(), Over::Udp) {
            Step::Silence(_) => return Ok(()),
            Step::Say(reply) => reply,
            Step::Ask(question) => redirect(&question, 2),
            Step::Cancel(cancel) => cancel.answer(true).unwrap(),
        };
        let text = String::from_utf8(reply.bytes).unwrap();
        let contacts: Vec<&str> = text.lines().filter(|l| l.to_ascii_lowercase().starts_with("contact")).collect();
        prop_assert_eq!(contacts.len(), if reply.code == 302 { 2 } else { 0 }, "{}", text);
        prop_assert!(contacts.iter().all(|c| c.contains("127.0.1.") && c.ends_with(['0', '5'])), "{}", text);
        prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{}", text);
        prop_assert_eq!(text.matches("\r\n\r\n").count(), 1, "{}", text);
        prop_assert_eq!(reply.to.ip(), source().ip());
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = rules().read(&bytes, source(), Over::Udp);
        let _ = rules().refuse(&bytes, source(), Over::Tcp);
    }
}
