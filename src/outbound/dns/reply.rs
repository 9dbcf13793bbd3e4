//! What a DNS message says to a question. Pure: a message in, records or a reason out, whatever the message holds.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The longest chain of CNAMEs that is followed, over all messages of one question.
pub const ALIASES_MAX: usize = 8;

/// The most records of one answer that are looked at. A message of 64 KiB holds about 5000.
pub const RECORDS_MAX: usize = 8192;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// RFC 3403.
    Naptr,
    /// RFC 2782.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl Kind {
    /// As the DNS has it.
    pub fn record_type(self) -> RecordType {
        match self {
            Kind::Naptr => RecordType::NAPTR,
            Kind::Srv => RecordType::SRV,
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
        }
    }
}

/// A name and what is asked of it. The name is in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The name.
    pub name: String,
    /// The sort of records.
    pub kind: Kind,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.record_type(), self.name)
    }
}

/// A record, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A rule of RFC 3403.
    Naptr {
        /// Lower ones first, strictly.
        order: u16,
        /// Lower ones first within an order.
        preference: u16,
        /// `s`: an SRV name follows. In lower case.
        flags: String,
        /// `sip+d2u` and the like, in lower case.
        services: String,
        /// Whether it rewrites by a regular expression, which SIP does not use.
        regexp: bool,
        /// Where to go on.
        replacement: Host,
    },
    /// A server of RFC 2782.
    Srv {
        /// Lower ones first.
        priority: u16,
        /// Share among those of one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The server.
        target: Host,
    },
    /// An address.
    Address(IpAddr),
}

/// A name inside a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A host name: letters, digits, `-` and `_`.
    Name(String),
    /// The root, `.`: "decidedly not here" in SRV records.
    Root,
    /// Something that no host is called; as text without control characters.
    Odd(String),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Records of the kind that was asked for; at least one.
    Records(Vec<Record>, u32),
    /// The name, or records of this kind, are not there; the server is sure of it.
    Nothing(u32),
    /// The name is another name for this one, and the message does not say more.
    Alias(String, u32),
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The server says so.
    #[error("the server answered {0}")]
    Code(String),
    /// Nobody answered, or not in a way that can be read.
    #[error("{0}")]
    Silence(String),
    /// Other servers are named instead of an answer.
    #[error("the server only names other servers: it does not recurse for this host")]
    Referral,
    /// Records, none of which is of the kind or name that was asked for.
    #[error("the answer holds only {0}")]
    OtherRecords(String),
    /// Names that lead back to themselves.
    #[error("CNAME loop at {0}")]
    Loop(String),
    /// Names that lead on and on.
    #[error("a chain of more than {ALIASES_MAX} CNAMEs, at {0}")]
    Chain(String),
    /// A CNAME to something that no host is called.
    #[error("CNAME to {0:?}, which is no host name")]
    OddAlias(String),
}

/// Reads the answer to a question.
pub fn read(question: &Question, message: &Message) -> Result<Reply, ReplyError> {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(ReplyError::Code(code.to_string()));
    }
    let mut passed = BTreeSet::new();
    let mut at = question.name.clone();
    let mut ttl_s = u32::MAX;
    loop {
        if !passed.insert(at.clone()) {
            return Err(ReplyError::Loop(at));
        }
        if passed.len() > ALIASES_MAX + 1 {
            return Err(ReplyError::Chain(at));
        }
        let (mut records, mut alias) = (Vec::new(), None);
        for record in message.answers.iter().take(RECORDS_MAX) {
            if !same(&record.name, &at) {
                continue;
            }
            if let RData::CNAME(target) = &record.data {
                alias = Some((host(&target.0), record.ttl));
            } else if let Some(read) = one(question.kind, &record.data) {
                ttl_s = ttl_s.min(record.ttl);
                records.push(read);
            }
        }
        match alias {
            _ if !records.is_empty() => return Ok(Reply::Records(records, ttl_s)),
            Some((Host::Name(next), ttl)) => {
                ttl_s = ttl_s.min(ttl);
                at = next;
            }
            Some((Host::Root, _)) => return Err(ReplyError::OddAlias(".".to_owned())),
            Some((Host::Odd(text), _)) => return Err(ReplyError::OddAlias(text)),
            None if at != question.name => return Ok(Reply::Alias(at, ttl_s)),
            None if !message.answers.is_empty() => return Err(ReplyError::OtherRecords(kinds(message))),
            None => return Ok(Reply::Nothing(0)),
        }
    }
}

fn one(kind: Kind, data: &RData) -> Option<Record> {
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
    match (kind, data) {
        (Kind::A, RData::A(a)) => Some(Record::Address(IpAddr::V4(a.0))),
        (Kind::Aaaa, RData::AAAA(a)) => Some(Record::Address(IpAddr::V6(a.0))),
        (Kind::Srv, RData::SRV(srv)) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: host(&srv.target),
        }),
        (Kind::Naptr, RData::NAPTR(n)) => Some(Record::Naptr {
            order: n.order,
            preference: n.preference,
            flags: word(&n.flags),
            services: word(&n.services),
            regexp: !n.regexp.is_empty(),
            replacement: host(&n.replacement),
        }),
        (Kind::A | Kind::Aaaa | Kind::Srv | Kind::Naptr, _) => None,
    }
}

/// Whether a record's owner is this name, which is in lower case.
fn same(owner: &Name, name: &str) -> bool {
    let mut labels = owner.iter();
    name.split('.').all(|label| labels.next().is_some_and(|l| l.eq_ignore_ascii_case(label.as_bytes())))
        && labels.next().is_none()
}

/// A name of the DNS, which may hold any bytes, as a host's.
pub fn host(name: &Name) -> Host {
    if name.is_root() {
        return Host::Root;
    }
    let fits = |label: &[u8]| label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_');
    let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
    let text = labels.join(".");
    if name.iter().all(fits) && text.len() <= 253 {
        return Host::Name(text);
    }
    let shown: String = text.chars().take(60).flat_map(char::escape_default).collect();
    Host::Odd(shown)
}

fn kinds(message: &Message) -> String {
    let kinds: BTreeSet<String> =
        message.answers.iter().take(RECORDS_MAX).map(|r| r.record_type().to_string()).collect();
    kinds.into_iter().take(8).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::{MessageType, OpCode};
    use hickory_resolver::proto::rr::Record as Rr;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SRV, TXT};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn message(records: &[(&str, u32, RData)]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.answers = records
            .iter()
            .map(|(owner, ttl, data)| Rr::from_rdata(name(owner), *ttl, data.clone()))
            .collect();
        message
    }

    fn cname(to: &str) -> RData {
        RData::CNAME(CNAME(name(to)))
    }

    fn a(last: u8) -> RData {
        RData::A(A::new(192, 0, 2, last))
    }

    fn ask(records: &[(&str, u32, RData)]) -> Result<Reply, ReplyError> {
        read(&Question { name: "p.example".to_owned(), kind: Kind::A }, &message(records))
    }

    fn address(last: u8) -> Record {
        Record::Address(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn records_of_the_name_count_and_the_least_ttl() {
        let answer = ask(&[("P.Example.", 60, a(1)), ("p.example.", 30, a(2)), ("other.example.", 5, a(3))]);
        assert_eq!(answer, Ok(Reply::Records(vec![address(1), address(2)], 30)));
        let chained = ask(&[("q.example.", 60, a(1)), ("p.example.", 9, cname("Q.example."))]);
        assert_eq!(chained, Ok(Reply::Records(vec![address(1)], 9)));
        assert_eq!(
            ask(&[("p.example.", 9, cname("q.example."))]),
            Ok(Reply::Alias("q.example".to_owned(), 9))
        );
        assert_eq!(ask(&[]), Ok(Reply::Nothing(0)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let text = RData::TXT(TXT::new(vec!["x".to_owned()]));
        let looped = [("p.example.", 9, cname("q.example.")), ("q.example.", 9, cname("p.example."))];
        let long: Vec<(String, u32, RData)> = (0..20)
            .map(|n| {
                let owner = if n == 0 { "p.example.".to_owned() } else { format!("n{n}.example.") };
                (owner, 9, cname(&format!("n{}.example.", n + 1)))
            })
            .collect();
        let long: Vec<(&str, u32, RData)> =
            long.iter().map(|(o, t, d)| (o.as_str(), *t, d.clone())).collect();
        for (records, error) in [
            (&looped[..], "CNAME loop at p.example"),
            (&long[..], "a chain of more than 8 CNAMEs, at n9.example"),
            (&[("p.example.", 9, text)], "the answer holds only TXT"),
            (&[("other.example.", 9, a(1))], "the answer holds only A"),
            (&[("p.example.", 9, cname("."))], "CNAME to \".\", which is no host name"),
        ] {
            assert_eq!(ask(records).unwrap_err().to_string(), error);
        }
        let mut refused = message(&[("p.example.", 9, a(1))]);
        refused.metadata.response_code = ResponseCode::ServFail;
        let question = Question { name: "p.example".to_owned(), kind: Kind::A };
        assert!(matches!(read(&question, &refused), Err(ReplyError::Code(_))));
    }

    #[test]
    fn names_that_no_host_has_do_not_reach_the_log_as_they_are() {
        let odd = Name::from_labels(vec![&b"a\r\nb\x1b[31m"[..], &b"example"[..]]).unwrap();
        let srv = RData::SRV(SRV::new(1, 1, 5060, odd));
        let question = Question { name: "p.example".to_owned(), kind: Kind::Srv };
        let Ok(Reply::Records(records, _)) = read(&question, &message(&[("p.example.", 9, srv)])) else {
            panic!()
        };
        let Record::Srv { target: Host::Odd(text), .. } = &records[0] else { panic!("{records:?}") };
        assert_eq!(text, "a\\r\\nb\\u{1b}[31m.example");
        assert_eq!(host(&Name::root()), Host::Root);
    }
}
