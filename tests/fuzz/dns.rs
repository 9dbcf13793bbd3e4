//! Answers of the DNS: whatever a message holds, few questions follow from it, the targets are places, what is told of it can
//! stand in a log, and no pool runs empty for it.

use crate::brew::Corpus;
use async_trait::async_trait;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NAPTR, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record as Rr};
use mqs::dispatch::discovery::FindError;
use mqs::domain::discovery::{Found, Known, Mark, TARGETS_FOUND_MAX, Template, plan};
use mqs::domain::id::Slot;
use mqs::domain::node::{Node, NodeState};
use mqs::domain::service::Family;
use mqs::domain::time::EpochMs;
use mqs::outbound::dns::reply::{Question, Reply, ReplyError, read};
use mqs::outbound::dns::rfc3263::{Ask, find};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// NAPTR, three SRV names, two sorts of addresses for each of the targets, and CNAMEs of each of those.
const QUESTIONS_MAX: usize = 9 * (1 + 8 + 2 * TARGETS_FOUND_MAX * 3);

/// Answers every question from one message.
struct Server {
    message: Message,
    asked: AtomicUsize,
}

#[async_trait]
impl Ask for Server {
    async fn ask(&self, question: &Question) -> Result<Reply, ReplyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let reply = read(question, &self.message);
        if let Ok(Reply::Alias(name, _)) = &reply {
            assert!(name.len() <= 253 && name.bytes().all(|b| b.is_ascii_graphic()), "{name:?}");
        }
        reply
    }
}

fn message(records: &[(&str, u32, RData)]) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.metadata.response_code = ResponseCode::NoError;
    let record = |(owner, ttl, data): &(&str, u32, RData)| {
        Rr::from_rdata(Name::from_ascii(owner).unwrap(), *ttl, data.clone())
    };
    message.answers = records.iter().map(record).collect();
    message.to_vec().unwrap()
}

fn seeds() -> Vec<Vec<u8>> {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let srv = |priority, weight, port, to: &str| RData::SRV(SRV::new(priority, weight, port, name(to)));
    let naptr = |order, services: &str, to: &str| {
        let (s, services) = (b"s".to_vec().into(), services.as_bytes().to_vec().into());
        RData::NAPTR(NAPTR::new(order, 10, s, services, Vec::new().into(), name(to)))
    };
    let a = |last| RData::A(A::new(192, 0, 2, last));
    let aaaa = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let cname = |to: &str| RData::CNAME(CNAME(name(to)));
    vec![
        message(&[
            ("p.", 60, naptr(10, "SIP+D2U", "_sip._udp.p.")),
            ("p.", 60, naptr(20, "SIPS+D2T", "_sips._tcp.p.")),
            ("_sip._udp.p.", 30, srv(10, 50, 5060, "a.p.")),
            ("_sip._udp.p.", 30, srv(10, 20, 5060, "b.p.")),
            ("_sip._udp.p.", 30, srv(20, 20, 5060, "c.p.")),
            ("_sips._tcp.p.", 30, srv(20, 20, 5061, "c.p.")),
            ("a.p.", 20, a(1)),
            ("b.p.", 20, aaaa),
            ("c.p.", 20, a(3)),
        ]),
        message(&[("p.", 0, a(1)), ("p.", 31_536_000, a(2)), ("p.", u32::MAX, a(3))]),
        message(&[
            ("p.", 9, cname("q.")),
            ("q.", 9, cname("r.")),
            ("r.", 9, a(9)),
            ("_sip._tcp.p.", 9, cname("p.")),
        ]),
        message(&[("_sip._udp.p.", 9, srv(0, 0, 0, ".")), ("p.", 9, RData::TXT(TXT::new(vec!["x".into()])))]),
    ]
}

fn known(n: u8) -> Known {
    let uri: mqs::domain::uri::NodeUri = format!("sip:192.0.2.{n}:5060").parse().unwrap();
    let id = mqs::domain::discovery::node_id(&uri).unwrap();
    let node = Node {
        id,
        slot: Slot(u16::from(n)),
        uri,
        capacity: 9,
        zone: None,
        tags: BTreeSet::new(),
        state: NodeState::Active,
        health: Default::default(),
    };
    Known { node: Arc::new(node), load: 0, mark: "dns:named:0:0000000000000000".parse::<Mark>().ok() }
}

fn check_found(found: &Found) {
    assert!((1..=TARGETS_FOUND_MAX).contains(&found.targets.len()));
    let places: BTreeSet<_> = found.targets.iter().map(|t| t.uri.same_place()).collect();
    assert_eq!(places.len(), found.targets.len(), "each place once");
    let template = Template {
        capacity: 9,
        weighted: true,
        zone: None,
        tags: BTreeSet::new(),
        nodes_max: 4,
        forget_after_ms: 0,
    };
    let named: Vec<_> = template.fill(&found.targets).collect();
    assert_eq!(named.len(), found.targets.len(), "every target has a name");
    let ids: BTreeSet<_> = named.iter().map(|n| &n.id).collect();
    assert_eq!(ids.len(), named.len(), "and each its own");
    assert!(named.iter().all(|n| (1..=9).contains(&n.capacity)));
    let before: Vec<Known> = (1..=3).map(known).collect();
    let plan = plan(&before, found, &template, EpochMs(1));
    let gone: BTreeSet<_> =
        plan.steps.iter().filter(|s| s.state != NodeState::Active).map(|s| &s.node.id).collect();
    let added = plan.steps.iter().filter(|s| s.state == NodeState::Active).count();
    assert!(before.iter().any(|k| !gone.contains(&k.node.id)) || added > 0, "{plan:?}");
    for note in &found.notes {
        check_words(note);
    }
    assert!(found.notes.len() <= 8);
}

fn check_words(text: &str) {
    assert!(!text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control), "{text:?}");
}

fn check(corpus: &Corpus, runtime: &tokio::runtime::Runtime, drawn: &[u8]) -> bool {
    let Ok(message) = Message::from_vec(&corpus.brew(drawn)) else { return false };
    let services = ["sip:p", "sips:p", "sip:p:5060", "_sip._udp.p", "sip:p;transport=tcp"];
    let mut any = false;
    for service in services {
        let server = Server { message: message.clone(), asked: AtomicUsize::new(0) };
        let found = runtime.block_on(find(&service.parse().unwrap(), Family::Any, &server));
        assert!(server.asked.into_inner() <= QUESTIONS_MAX);
        match found {
            Ok(found) => {
                check_found(&found);
                any = true;
            }
            Err(FindError::Empty(text) | FindError::Failed(text)) => check_words(&text),
        }
    }
    any
}

#[test]
fn answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let words: [&[u8]; 14] = [
        b"\x01p\x00",
        b"\xc0\x0c",
        b"\xc0\x00",
        b"\x00",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x00\x21\x00\x01",
        b"\x00\x05\x00\x01",
        b"\x00\x01\x00\x01",
        b"\x00\x1c\x00\x01",
        b"\x00\x23\x00\x01",
        b"\x04_sip\x04_udp\x01p\x00",
        b"\x01\r\x00",
        b"\x00\x00\x81\x80\x00\x00\xff\xff",
    ];
    let corpus = Corpus::new(&seeds(), &words);
    crate::fuzz!(|drawn: &[u8]| check(&corpus, &runtime, drawn));
}
