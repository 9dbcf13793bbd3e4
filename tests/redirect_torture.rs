//! Messages of the kinds of RFC 4475 and RFC 5118, and some more: each gets the right answer, or silence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use mqs::domain::uri::NodeUri;
use mqs::wire::redirect::{Over, Rules, Step};
use mqs::wire::token::Secret;

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// This status.
    Said(u16),
    /// A redirect to this user.
    Moved(&'static str),
    Silence,
}
use Fate::{Moved, Said, Silence};

fn answer(message: &[u8]) -> Option<String> {
    let rules = Rules { secret: Secret::new(&[7; 32]).unwrap(), pool: None };
    let node: NodeUri = "sip:127.0.1.1:5060".parse().unwrap();
    let reply = match rules.read(message, "192.0.2.2:5060".parse().unwrap(), Over::Udp) {
        Step::Silence(_) => return None,
        Step::Say(reply) => reply,
        Step::Ask(question) => question.redirect(&[(&node, "m1.t")]).unwrap(),
        Step::Cancel(cancel) => cancel.answer(false).unwrap(),
    };
    assert_eq!(reply.to.ip().to_string(), "192.0.2.2");
    Some(String::from_utf8(reply.bytes).unwrap())
}

fn check(name: &str, message: &[u8], fate: &Fate) {
    let answer = answer(message);
    let shown = || format!("{name}: {answer:?}\n{}", String::from_utf8_lossy(message));
    match (fate, &answer) {
        (Silence, None) => {}
        (Said(code), Some(text)) => assert!(text.starts_with(&format!("SIP/2.0 {code} ")), "{}", shown()),
        (Moved(user), Some(text)) => {
            let contact = format!("\r\nContact: <sip:{user}127.0.1.1:5060;");
            assert!(text.starts_with("SIP/2.0 302 ") && text.contains(&contact), "{}", shown());
        }
        (Silence | Said(_) | Moved(_), _) => panic!("{fate:?} expected; {}", shown()),
    }
    if let Some(text) = answer {
        let head = text.strip_suffix("\r\n\r\n").unwrap();
        assert!(
            !head.contains("\r\n\r\n") && !text.replace("\r\n", "").contains(['\r', '\n', '\0']),
            "{text:?}"
        );
        assert!(text.len() <= 3 * message.len() + 200, "{} to {}", text.len(), message.len());
    }
}

const BASE: &str = "INVITE sip:user@example.com SIP/2.0\n\
    Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKbase\n\
    Max-Forwards: 70\n\
    From: \"J Rosenberg\" <sip:jdrosen@example.com>;tag=98asjd8\n\
    To: sip:user@example.com\n\
    Call-ID: base@192.0.2.1\n\
    CSeq: 8 INVITE\n\
    Contact: <sip:caller@192.0.2.2>\n\
    Content-Length: 0\n\n";

fn wire(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

#[test]
fn the_tortuous_invite_is_understood() {
    // RFC 4475 §3.1.1.1, without its To tag: a new call.
    let text = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\n\
        TO :\n sip:vivekg@chair-dnrc.example.com ;   x    = 1918181833n\n\
        from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n\
        MaX-fOrWaRdS: 0068\n\
        Call-ID: wsinv.ndaksdj@192.0.2.1\n\
        Content-Length   : 4\n\
        cseq: 0009\n  INVITE\n\
        Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\n\
        s :\n\
        NewFangledHeader:   newfangled value\n continued newfangled value\n\
        UnknownHeaderWithUnusualValue: ;;,,;;,;\n\
        Content-Type: application/sdp\n\
        Route:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n\
        v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n\
        m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n\nv=0\n";
    check("wsinv", &wire(text), &Moved("vivekg@"));
    let answer = answer(&wire(text)).unwrap();
    assert_eq!(answer.matches("\r\nVia: ").count(), 3, "{answer}");
    assert!(
        answer.contains(
            "\r\nFrom: \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com> ; tag = 98asjd8\r\n"
        ),
        "{answer}"
    );
    check("wsinv, in a dialog", &wire(&text.replace(";   x  ", ";   tag  ")), &Said(481));
}

/// (name, what is changed in the base, by what, what becomes of it)
const CHANGES: &[(&str, &str, &str, Fate)] = &[
    ("base", "", "", Moved("user@")),
    // Valid ones: RFC 4475 §3.1.1 and §3.4, RFC 5118 §4.
    (
        "compact forms",
        "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKbase\nMax-Forwards: 70\nFrom:",
        "v: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKbase\nf:",
        Moved("user@"),
    ),
    (
        "esc01",
        "sip:user@example.com SIP",
        "sip:sips%3Auser%40example.com@example.net SIP",
        Moved("sips%3Auser%40example.com@"),
    ),
    (
        "unusual user",
        "sip:user@example.com SIP",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP",
        Moved("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@"),
    ),
    (
        "semiuri",
        "sip:user@example.com SIP",
        "sip:user;par=u%40example.net@example.com SIP",
        Moved("user;par=u%40example.net@"),
    ),
    ("dots in the user", "sip:user@example.com SIP", "sip:first.last@example.com SIP", Moved("first.last@")),
    ("no user", "sip:user@example.com SIP", "sip:example.com SIP", Moved("")),
    (
        "null escaped",
        "sip:user@example.com SIP",
        "sip:null-%00-null@example.com SIP",
        Moved("null-%00-null@"),
    ),
    (
        "line end escaped",
        "sip:user@example.com SIP",
        "sip:a%0D%0AContact:%20x@example.com SIP",
        Moved("a%0D%0AContact@"),
    ),
    ("lwsdisp", "\"J Rosenberg\" <", "caller<", Moved("user@")),
    ("utf-8", "\"J Rosenberg\"", "\"Jörg Ω\"", Moved("user@")),
    ("folded From", ">;tag", ">\n\t;tag", Moved("user@")),
    ("inv2543", ";tag=98asjd8", "", Moved("user@")),
    ("no cookie", "z9hG4bKbase", "1", Moved("user@")),
    ("badbranch", "z9hG4bKbase", "z9hG4bK", Moved("user@")),
    (
        "transports",
        "\nMax-Forwards",
        "\nVia: SIP/2.0/SCTP 192.0.2.3\nVia: SIP/2.0/UNKNOWN unknown.example;branch=z9hG4bKu\nMax-Forwards",
        Moved("user@"),
    ),
    ("zeromf", "Max-Forwards: 70", "Max-Forwards: 0", Moved("user@")),
    (
        "unknown require",
        "Max-Forwards",
        "Require: nothingSupportsThis\nProxy-Require: noProxiesSupportThis\nMax-Forwards",
        Moved("user@"),
    ),
    (
        "unknown body",
        "Contact",
        "Content-Type: text/nobodyKnowsThis\nAccept: text/nobodyKnowsThis\nContact",
        Moved("user@"),
    ),
    ("baddate", "Max-Forwards", "Date: Fri, 01 Jan 2010 16:00:00 EST\nMax-Forwards", Moved("user@")),
    ("lower-case version", "SIP/2.0\nVia", "sip/2.0\nVia", Moved("user@")),
    ("ipv6 target", "sip:user@example.com SIP", "sip:user@[2001:db8::10]:5070 SIP", Moved("user@")),
    ("ipv6 Via", "UDP 192.0.2.2;", "UDP [2001:db8::9:1];", Moved("user@")),
    ("ipv6 received", "branch=z9hG4bKbase", "received=[2001:db8::9:255];branch=z9hG4bKbase", Moved("user@")),
    ("tel", "sip:user@example.com SIP", "tel:+1-972-555-2222;ext=3 SIP", Moved("+1-972-555-2222;ext=3@")),
    (
        "headers in the address",
        "sip:user@example.com SIP",
        "sip:user@example.com?Route=%3Csip:example.com%3E SIP",
        Moved("user@"),
    ),
    ("no Content-Length", "Content-Length: 0\n", "", Moved("user@")),
    ("dblreq", "\n\n", "\n\nINVITE sip:second@example.com SIP/2.0\nContent-Length: 0\n\n", Moved("user@")),
    ("blank before the colon", "CSeq:", "CSeq :", Moved("user@")),
    ("empty header", "Contact: <sip:caller@192.0.2.2>", "Supported:", Moved("user@")),
    // Other methods.
    ("intmeth", "INVITE", "!interesting-Method0123456789_*+`.%indeed'~", Said(501)),
    ("esc02", "INVITE", "RE%47IST%45R", Said(501)),
    ("mpart01", "INVITE", "MESSAGE", Said(405)),
    ("regbadct", "INVITE", "REGISTER", Said(405)),
    ("novelsc", "sip:user@example.com SIP", "soap.beep://192.0.2.103:3002 SIP", Said(416)),
    ("unkscm", "sip:user@example.com SIP", "nobodyKnowsThisScheme:totallyopaquecontent SIP", Said(416)),
    ("ack", "INVITE", "ACK", Silence),
    // Invalid ones: RFC 4475 §3.1.2 and §3.3.
    ("badinv01", "UDP 192.0.2.2;", "UDP 192.0.2.15;;,;,,;", Silence),
    ("clerr", "Length: 0", "Length: 9999", Said(400)),
    ("ncl", "Length: 0", "Length: -999", Said(400)),
    ("mcl01", "Length: 0", "Length: 0\nContent-Length: 5", Said(400)),
    ("scalar02", "CSeq: 8", "CSeq: 36893488147419103232", Said(400)),
    ("quotbal", "To: sip:user@example.com", "To: \"Mr. J. User <sip:j.user@example.com>", Said(400)),
    ("angle not closed", "To: sip:user@example.com", "To: <sip:j.user@example.com", Said(400)),
    ("ltgtruri", "sip:user@example.com SIP", "<sip:user@example.com> SIP", Said(400)),
    ("lwsruri", "sip:user@example.com SIP", "sip:user@example.com; lr SIP", Said(400)),
    ("lwsstart", "INVITE sip", "INVITE  sip", Said(400)),
    ("trws", "SIP/2.0\nVia", "SIP/2.0  \nVia", Said(400)),
    ("badvers", "SIP/2.0\nVia", "SIP/7.0\nVia", Said(505)),
    ("mismatch01", "CSeq: 8 INVITE", "CSeq: 8 OPTIONS", Said(400)),
    ("ipv6-bad", "sip:user@example.com SIP", "sip:user@2001:db8::10 SIP", Said(400)),
    ("port ambiguous", "sip:user@example.com SIP", "sip:user@[2001:db8::10 SIP", Said(400)),
    ("insuf", "Call-ID: base@192.0.2.1\n", "", Silence),
    ("no From", "From: \"J Rosenberg\" <sip:jdrosen@example.com>;tag=98asjd8\n", "", Silence),
    ("no Via", "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKbase\n", "", Silence),
    ("multi01, CSeq", "CSeq: 8 INVITE", "CSeq: 8 INVITE\nCSeq: 9 INVITE", Silence),
    ("multi01, From", "Contact", "f: <sip:other@example.com>;tag=x\nContact", Silence),
    ("blank in the Call-ID", "base@192.0.2.1", "base @192.0.2.1", Said(400)),
    ("escape in a header value", "Max-Forwards: 70", "X: \u{1b}[31m", Silence),
    ("no colon", "Max-Forwards: 70", "Max-Forwards 70", Silence),
    ("folded start", "INVITE sip", " INVITE sip", Silence),
    (
        "bigcode",
        "INVITE sip:user@example.com SIP/2.0",
        "SIP/2.0 4294967301 better not break the receiver",
        Silence,
    ),
    ("bcast", "INVITE sip:user@example.com SIP/2.0", "SIP/2.0 200 OK", Silence),
    (
        "unreason",
        "INVITE sip:user@example.com SIP/2.0",
        "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять",
        Silence,
    ),
];

#[test]
fn each_kind_has_its_fate() {
    for (name, from, to, fate) in CHANGES {
        assert!(BASE.contains(from), "{name}");
        let all = *from == "INVITE";
        let text = if all { BASE.replace(from, to) } else { BASE.replacen(from, to, 1) };
        check(name, &wire(&text), fate);
    }
}

#[test]
fn bytes_that_are_no_text_get_silence() {
    for (at, byte) in [("user@", 0xff), ("Rosenberg", 0xe9), ("base@", 0x00), ("z9hG4bKbase", 0x80)] {
        let mut message = wire(BASE);
        let place = BASE.replace('\n', "\r\n").find(at).unwrap() + 1;
        message[place] = byte;
        check(at, &message, &Silence);
    }
    // In a body they are nobody's business here.
    let mut message = wire(&BASE.replace("Length: 0", "Length: 3"));
    message.extend([0xff, 0x00, 0x80]);
    check("binary body", &message, &Moved("user@"));
    // Bare CR or LF end no line.
    for bad in ["\r", "\n"] {
        let text =
            String::from_utf8(wire(BASE)).unwrap().replace("98asjd8", &format!("98{bad}Contact: <sip:evil>"));
        check("bare line end", text.as_bytes(), &Silence);
    }
    check("only bare LF", BASE.as_bytes(), &Silence);
}

#[test]
fn long_values_are_taken_up_to_the_limits() {
    let long = |what: &str, count: usize| what.repeat(count);
    // RFC 4475 §3.1.1.7 in kind: 155 bytes of tag, 144 of Call-ID, long parameters and names.
    let text = BASE
        .replace("98asjd8", &format!("12{}424", long("982", 50)))
        .replace("base@", &format!("longreq.one{}longcallid@", long("really", 20)))
        .replace(
            "sip:user@example.com SIP",
            &format!(
                "sip:user@example.com;unknown{}param=very{}value SIP",
                long("long", 20),
                long("long", 20)
            ),
        )
        .replace(
            "Contact:",
            &format!("Unknown-{}-Name: unknown-{}-value\nContact:", long("Long", 20), long("long", 20)),
        );
    check("longreq", &wire(&text), &Moved("user@"));
    check(
        "long user",
        &wire(&BASE.replace("sip:user@example.com SIP", &format!("sip:{}@example.com SIP", long("a", 2000)))),
        &Said(414),
    );
    check("long Call-ID", &wire(&BASE.replace("base@", &long("a", 300))), &Said(400));
    check("head beyond the limit", &wire(&BASE.replace("Rosenberg", &long("a", 17_000))), &Silence);
    check(
        "too many headers",
        &wire(&BASE.replace("Contact:", &format!("{}Contact:", long("X: y\n", 250)))),
        &Silence,
    );
}

#[test]
fn what_is_repeated_cannot_carry_anything_else() {
    // A Contact, a token or a second answer in what the answer repeats: it stays inside the header that it came in.
    for (from, to) in [
        ("base@192.0.2.1", "base%0D%0AContact:<sip:evil>;mqs=m1.forged"),
        ("base@192.0.2.1", "<sip:evil>,<sip:evil>"),
        ("98asjd8", "x>,<sip:evil>;q=1"),
        ("To: sip:user@example.com", "To: <sip:user@example.com>,<sip:evil@example.com>"),
        ("z9hG4bKbase", "z9hG4bKbase,SIP/2.0/UDP evil.example"),
        ("sip:user@example.com SIP", "sip:user,sip:evil@example.com;mqs=m1.forged SIP"),
        ("sip:user@example.com SIP", "sip:user%3E;q=1@example.com SIP"),
        ("J Rosenberg", "J\\\" <sip:evil>, \\\""),
    ] {
        let Some(text) = answer(&wire(&BASE.replacen(from, to, 1))) else { continue };
        let contacts: Vec<&str> = text.lines().filter(|l| l.starts_with("Contact")).collect();
        let want = if text.starts_with("SIP/2.0 302") { 1 } else { 0 };
        assert_eq!(contacts.len(), want, "{text}");
        for contact in contacts {
            assert!(
                contact.ends_with("@127.0.1.1:5060;mqs=m1.t>;q=1.00") && contact.matches('<').count() == 1,
                "{contact}"
            );
            assert!(!contact.contains("forged"), "{contact}");
        }
    }
}
