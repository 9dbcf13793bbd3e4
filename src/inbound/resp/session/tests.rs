#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use crate::domain::pool::Kind;
use proptest::prelude::*;

fn open() -> Session {
    Session::new(7, Peer::Unix, Gate::new(false, None))
}

fn guarded() -> Session {
    Session::new(7, Peer::Unix, Gate::new(true, Some("s3cret".into())))
}

fn command(line: &str) -> Command {
    let mut parts = line.split(' ').map(|part| Bytes::copy_from_slice(part.as_bytes()));
    Command { name: parts.next().unwrap(), args: parts.collect(), inline: false }
}

/// The answer as it goes over the wire, `(close)` behind the last one, or the step where it needs a dispatcher.
fn said(session: &mut Session, line: &str) -> String {
    let written = |reply: Reply| {
        let mut out = bytes::BytesMut::new();
        reply.encode(&mut out);
        String::from_utf8(out.to_vec()).unwrap().replace("\r\n", " ").trim_end().to_owned()
    };
    match session.take(&command(line)) {
        Step::Say(reply) => written(reply),
        Step::SayAndClose(reply) => written(reply) + " (close)",
        Step::Malformed(refusal) => refusal.to_string(),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn assert_talk(mut session: Session, talk: &[(&str, &str)]) {
    for (line, answer) in talk {
        assert_eq!(said(&mut session, line), *answer, "{line}");
    }
}

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.";
const NOAUTH: &str = "-NOAUTH Authentication required.";

#[test]
fn nothing_is_answered_before_the_password_where_one_is_needed() {
    let all = WORDS.iter().map(|(name, ..)| *name).chain(["get", "nonsense"]);
    for name in all.filter(|name| !["auth", "hello", "reset", "quit"].contains(name)) {
        assert_eq!(said(&mut guarded(), &format!("{name} a b c")), NOAUTH, "{name}");
        assert_eq!(said(&mut guarded(), name), NOAUTH, "{name}");
    }
    assert_talk(
        guarded(),
        &[
            ("AUTH", "-ERR wrong number of arguments for 'auth' command"),
            ("AUTH wrong", WRONG),
            ("PING", NOAUTH),
            ("AUTH s3cre", WRONG),
            ("AUTH s3cret2", WRONG),
            ("auth s3cret", "+OK"),
            ("PING", "+PONG"),
            ("AUTH wrong", WRONG),
            ("PING", "+PONG"),
            ("RESET", "+RESET"),
            ("PING", NOAUTH),
            ("AUTH anybody s3cret", "+OK"),
            ("PING hi", "$2 hi"),
            ("AUTH x", "-WRONGPASS invalid username-password pair or user is disabled. (close)"),
        ],
    );
}

#[test]
fn hello_can_carry_the_password() {
    let noauth = "-NOAUTH HELLO must be called with the client already authenticated, or with AUTH.";
    assert_talk(
        guarded(),
        &[
            ("HELLO", noauth),
            ("HELLO 2", noauth),
            ("HELLO 3 AUTH u s3cret", "-NOPROTO unsupported protocol version"),
            ("PING", NOAUTH),
            ("HELLO 2 AUTH u wrong", WRONG),
            ("HELLO 2 AUTH s3cret", "-ERR Syntax error in HELLO option 'AUTH'"),
            ("PING", NOAUTH),
        ],
    );
    let mut session = guarded();
    let hello = said(&mut session, "HELLO 2 AUTH u s3cret SETNAME me");
    assert!(hello.starts_with("*14 $6 server $3 mqs $7 version"), "{hello}");
    assert!(hello.contains("$5 proto :2 $2 id :7 "), "{hello}");
    assert_talk(session, &[("CLIENT GETNAME", "$2 me"), ("PING", "+PONG")]);
    assert_talk(open(), &[("HELLO two", "-ERR Protocol version is not an integer or out of range")]);
}

#[test]
fn a_needed_password_that_is_not_there_lets_nobody_in() {
    let mut session = Session::new(1, Peer::Unix, Gate::new(true, None));
    assert_eq!(said(&mut session, "AUTH "), WRONG);
    assert_eq!(said(&mut session, "NODES"), NOAUTH);
}

#[test]
fn where_no_password_is_needed_any_will_do() {
    assert_talk(open(), &[("PING", "+PONG"), ("AUTH x", "+OK"), ("AUTH u x", "+OK")]);
    let session = Session::new(1, Peer::Unix, Gate::new(false, Some("s3cret".into())));
    assert_talk(session, &[("PING", "+PONG"), ("AUTH x", "+OK")]);
}

#[test]
fn connection_verbs() {
    assert_talk(
        open(),
        &[
            ("eChO a", "$1 a"),
            ("SELECT 0", "+OK"),
            ("SELECT 16", "-ERR DB index is out of range"),
            ("SELECT x", "-ERR value is not an integer or out of range"),
            ("CLIENT ID", ":7"),
            ("CLIENT GETNAME", "$-1"),
            ("CLIENT SETNAME a", "+OK"),
            ("CLIENT GETNAME", "$1 a"),
            ("CLIENT SETINFO LIB-NAME x", "+OK"),
            ("CLIENT NO-EVICT ON", "+OK"),
            ("CLIENT REPLY OFF", "-ERR unknown subcommand 'REPLY'"),
            ("COMMAND", "*0"),
            ("COMMAND DOCS", "*0"),
            ("COMMAND COUNT", ":22"),
            ("CONFIG GET save", "*0"),
            ("CONFIG SET a b", "-ERR unknown subcommand 'SET'"),
            ("FLUSHALL", "+OK"),
            ("FLUSHDB ASYNC", "+OK"),
            ("RESET", "+RESET"),
            ("CLIENT GETNAME", "$-1"),
            ("INFO server", "Info"),
            ("GET x", "-ERR unknown command 'GET'"),
            ("route", "-ERR wrong number of arguments for 'route' command"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("QUIT", "+OK (close)"),
        ],
    );
    let odd = Command { name: Bytes::from_static(b"a\r\n+OK\xff"), args: vec![], inline: false };
    assert_eq!(open().take(&odd), say("ERR unknown command 'a\\r\\n+OK\\xff'"));
}

#[test]
fn a_browser_gets_no_further_than_its_first_line() {
    let post = Command { inline: true, ..command("POST / HTTP/1.1") };
    let last = Step::SayAndClose(Reply::error("ERR this is RESP, not HTTP"));
    assert_eq!(open().take(&post), last);
    assert_eq!(guarded().take(&post), last);
    assert_eq!(said(&mut open(), "POST /"), "-ERR unknown command 'POST'");
}

#[test]
fn questions_are_read_and_malformed_ones_refused() {
    let mut session = open();
    match session.take(&command("route c@h sip:a@b kind=callback")) {
        Step::Route(ask) => assert_eq!((ask.call_id.as_str(), ask.kind), ("c@h", Kind::Callback)),
        other => panic!("{other:?}"),
    }
    for (line, start) in [
        ("ROUTE <null> sip:a@b ", "!BADREQ code=400;field=call_id;reason="),
        ("ROUTE c sip:a@b x", "!BADREQ code=400;field=attributes;reason="),
        ("ROUTE c sip:a@b colour=red", "!BADREQ code=400;field=colour;reason="),
        ("CONFIRM t branch=x", "$"),
        ("NODES a.b", "$"),
        ("EXPLAIN <null>", "$"),
    ] {
        let answer = said(&mut session, line);
        assert!(answer.starts_with(start) && answer.contains("!BADREQ"), "{line}: {answer}");
    }
    assert_eq!(
        session.take(&command("FAIL t code=503")),
        Step::Settle(Verb::Fail, "t".to_owned(), BranchAsk { branch: None, code: Some(503), retry: None })
    );
    assert_eq!(session.take(&command("NODES")), Step::Nodes(None));
    assert_eq!(session.take(&command("EXPLAIN c")), Step::Decision("c".parse().unwrap()));
    assert!(matches!(session.take(&command("EXPLAIN c sip:a@b")), Step::Explain(_)));
}

#[test]
fn what_is_not_utf_8_is_refused_by_the_name_of_its_field() {
    for (name, at, field) in [
        ("ROUTE", 0, "call_id"),
        ("ROUTE", 1, "request_uri"),
        ("ROUTE", 2, "attributes"),
        ("CONFIRM", 0, "token"),
        ("FAIL", 1, "attributes"),
        ("DONE", 0, "token"),
        ("EXPLAIN", 0, "call_id"),
        ("NODES", 0, "pool"),
    ] {
        let mut odd = command(&format!("{name} c sip:a@b cs=1"));
        odd.args.truncate(match name {
            "ROUTE" => 3,
            "FAIL" => 2,
            _ => 1,
        });
        odd.args[at] = Bytes::from_static(b"ab\xff");
        let answer = match open().take(&odd) {
            Step::Malformed(refusal) => refusal.to_string(),
            Step::Say(Reply::Bulk(text)) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        let start = format!("!BADREQ code=400;field={field};reason=not%20UTF-8");
        assert!(answer.starts_with(&start), "{name}: {answer}");
    }
}

proptest! {
    #[test]
    fn no_command_panics(
        name in prop::sample::select(WORDS.map(|(name, ..)| name).to_vec()),
        args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..6),
        inline: bool,
    ) {
        let args = args.into_iter().map(Bytes::from).collect();
        let command = Command { name: Bytes::from_static(name.as_bytes()), args, inline };
        let _ = open().take(&command);
        let _ = guarded().take(&command);
    }
}

#[test]
fn registrations_are_read() {
    let said_of = said(&mut open(), "REG a@h exp=60;kam=k1;id=x;cs=1");
    assert!(said_of.starts_with("Register(") && said_of.contains("expires_s: 60"), "{said_of}");
    for (line, answer) in [
        ("REG", "-ERR wrong number of arguments for 'reg' command"),
        ("REG a@h", "!BADREQ code=400;field=id;"),
        ("REG a exp=60;kam=k1;id=x;cs=1", "!BADREQ code=400;field=aor;"),
        ("REG a@h exp=60;kam=k1;id=x;cs=1;ttl=3", "!BADREQ code=400;field=ttl;"),
    ] {
        let heard = said(&mut open(), line);
        assert!(heard.contains(answer), "{line}: {heard}");
    }
}

#[test]
fn a_heartbeat_names_what_is_wrong_with_it() {
    let heartbeat = said(&mut open(), "NODE default ast7 uri=sip:127.0.1.7;capacity=9;state=gone");
    assert!(heartbeat.starts_with("Heartbeat(") && heartbeat.contains("Gone"), "{heartbeat}");
    for (line, start) in [
        ("NODE default", "-ERR wrong number of arguments for 'node' command"),
        ("NODE default ast7", "!BADREQ code=400;field=uri;"),
        ("NODE a.b ast7 uri=sip:127.0.1.7;capacity=9", "!BADREQ code=400;field=pool;"),
        ("NODE default a.b uri=sip:127.0.1.7;capacity=9", "!BADREQ code=400;field=id;"),
        ("NODE default ast7 uri=sip:127.0.1.7;capacity=-9", "!BADREQ code=400;field=capacity;"),
        ("NODE default ast7 uri=sip:127.0.1.7;capacity=9;capacity=9", "!BADREQ code=400;field=capacity;"),
        ("NODE default ast7 uri=sip:127.0.1.7;capacity=9;ttl_s=x", "!BADREQ code=400;field=ttl_s;"),
        ("NODE default ast7 uri=sip:127.0.1.7;capacity=9;state=down", "!BADREQ code=400;field=state;"),
    ] {
        let found = said(&mut open(), line);
        let text =
            found.split_once(' ').filter(|_| found.starts_with('$')).map_or(found.as_str(), |(_, text)| text);
        assert!(text.starts_with(start), "{line}: {found}");
    }
}
