use super::*;
use crate::outbound::dns::reply::Record;
use std::sync::Mutex;

/// A zone as a text, a record a line: `NAME TTL KIND …`; `!` in place of a kind: this question fails.
struct Zone<'z>(&'z str, Mutex<Vec<String>>);

#[async_trait]
impl Ask for Zone<'_> {
    async fn ask(&self, question: &Question) -> Result<Reply, ReplyError> {
        self.1.lock().unwrap().push(question.to_string());
        let (mut records, mut ttl) = (Vec::new(), u32::MAX);
        let host = |text: &str| if text == "." { Host::Root } else { Host::Name(text.to_owned()) };
        for line in self.0.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, ttl_s, kind, rest @ ..] = &words[..] else { continue };
            if *name != question.name {
                continue;
            }
            let n = |at: usize| rest[at].parse::<u16>().unwrap();
            let record = match (*kind, question.kind) {
                ("!", _) => return Err(ReplyError::Code("SERVFAIL".to_owned())),
                ("CNAME", _) => return Ok(Reply::Alias(rest[0].to_owned(), ttl_s.parse().unwrap())),
                ("A", Kind::A) | ("AAAA", Kind::Aaaa) => Record::Address(rest[0].parse().unwrap()),
                ("SRV", Kind::Srv) => {
                    Record::Srv { priority: n(0), weight: n(1), port: n(2), target: host(rest[3]) }
                }
                ("NAPTR", Kind::Naptr) => Record::Naptr {
                    order: n(0),
                    preference: n(1),
                    flags: rest[2].to_owned(),
                    services: rest[3].to_owned(),
                    regexp: false,
                    replacement: host(rest[4]),
                },
                _ => continue,
            };
            records.push(record);
            ttl = ttl.min(ttl_s.parse().unwrap());
        }
        Ok(if records.is_empty() { Reply::Nothing(5) } else { Reply::Records(records, ttl) })
    }
}

async fn look(zone: &str, service: &str, family: Family) -> (Result<Found, FindError>, Vec<String>) {
    let zone = Zone(zone, Mutex::new(Vec::new()));
    let found = find(&service.parse().unwrap(), family, &zone).await;
    (found, zone.1.into_inner().unwrap())
}

async fn targets(zone: &str, service: &str) -> Vec<String> {
    let (found, _) = look(zone, service, Family::Any).await;
    match found {
        Ok(found) => {
            let mut all: Vec<String> = found.targets.iter().map(|t| t.uri.to_string()).collect();
            all.extend(found.partial.then(|| "partial".to_owned()));
            all
        }
        Err(error) => vec![error.to_string()],
    }
}

const FULL: &str = "
    p 60 NAPTR 20 10 s sip+d2u _sip._udp.p
    p 60 NAPTR 10 20 s sip+d2t _sip._tcp.p
    p 60 NAPTR 10 10 s sips+d2t _sips._tcp.p
    p 60 NAPTR 5 10 u e2u+sip .
    _sip._udp.p 50 SRV 1 10 5060 a.p
    _sip._tcp.p 50 SRV 1 10 5062 a.p
    _sips._tcp.p 50 SRV 1 10 5061 a.p
    a.p 30 A 192.0.2.1
    p 10 A 192.0.2.99";

#[tokio::test]
async fn naptr_comes_first_and_its_order_counts() {
    let (found, asked) = look(FULL, "sip:p", Family::Any).await;
    let found = found.unwrap();
    assert_eq!(found.targets[0].uri.as_str(), "sip:192.0.2.1:5061;transport=tls");
    assert_eq!((found.targets.len(), found.ttl_s, found.notes), (1, 30, vec![]));
    assert_eq!(asked, ["NAPTR p", "SRV _sips._tcp.p", "A a.p"]);
    assert_eq!(targets(FULL, "sips:p").await, ["sips:192.0.2.1:5061"]);
    // sips: never takes a rule that is not secure.
    let plain = "p 60 NAPTR 1 1 s sip+d2u _sip._udp.p\n_sip._udp.p 50 SRV 1 1 5060 a\na 9 A 192.0.2.1";
    assert_eq!(targets(plain, "sips:p").await, ["no target: sips:p: no records"]);
    // The best rule leads nowhere: the next.
    let next = FULL.replace("_sips._tcp.p 50 SRV", "x 50 SRV");
    assert_eq!(targets(&next, "sip:p").await, ["sip:192.0.2.1:5062;transport=tcp"]);
    let no_flag = "p 60 NAPTR 1 1 a sip+d2u _sip._udp.p\n_sip._udp.p 50 SRV 1 1 5060 a\na 9 A 192.0.2.1";
    assert_eq!(targets(no_flag, "sip:p").await, ["sip:192.0.2.1:5060"]);
}

#[tokio::test]
async fn port_and_transport_say_what_is_asked() {
    for (service, target, first) in [
        ("sip:p:5070", "sip:192.0.2.99:5070", "A p"),
        ("sip:p:5070;transport=tcp", "sip:192.0.2.99:5070;transport=tcp", "A p"),
        ("sip:p;transport=tcp", "sip:192.0.2.1:5062;transport=tcp", "SRV _sip._tcp.p"),
        ("sip:p;transport=sctp", "sip:192.0.2.99:5060;transport=sctp", "SRV _sip._sctp.p"),
        ("_sip._udp.p", "sip:192.0.2.1:5060", "SRV _sip._udp.p"),
        ("sips:p:5071", "sips:192.0.2.99:5071", "A p"),
    ] {
        let (found, asked) = look(FULL, service, Family::Any).await;
        assert_eq!((found.unwrap().targets[0].uri.as_str(), asked[0].as_str()), (target, first), "{service}");
    }
}

#[tokio::test]
async fn without_naptr_srv_and_without_srv_addresses() {
    let srv = "_sip._tcp.p 50 SRV 1 1 5062 a\na 9 A 192.0.2.1\np 9 A 192.0.2.99";
    let (found, asked) = look(srv, "sip:p", Family::Any).await;
    assert_eq!(found.unwrap().targets[0].uri.as_str(), "sip:192.0.2.1:5062;transport=tcp");
    assert_eq!(asked, ["NAPTR p", "SRV _sip._udp.p", "SRV _sip._tcp.p", "A a"]);
    let bare = "p 9 A 192.0.2.9\np 9 A 192.0.2.8\np 9 AAAA 2001:db8::1";
    assert_eq!(targets(bare, "sip:p").await, ["sip:192.0.2.8:5060", "sip:192.0.2.9:5060"]);
    assert_eq!(targets("p 9 AAAA 2001:db8::1", "sip:p").await, ["sip:[2001:db8::1]:5060"]);
    let (found, _) = look(bare, "sip:p", Family::V6).await;
    assert_eq!(found.unwrap().targets[0].uri.as_str(), "sip:[2001:db8::1]:5060");
    let (found, _) = look("p 9 AAAA 2001:db8::1", "sip:p", Family::V4).await;
    assert!(matches!(found, Err(FindError::Empty(_))));
    // "Decidedly not here" keeps the addresses from being asked (RFC 2782).
    let not_here = "_sip._udp.p 50 SRV 0 0 0 .\np 9 A 192.0.2.99";
    assert!(targets(not_here, "sip:p").await[0].contains("not offered"));
}

#[tokio::test]
async fn the_best_priority_that_has_addresses_counts() {
    let zone =
        "_sip._udp.p 50 SRV 10 1 5060 a\n_sip._udp.p 50 SRV 20 1 5060 b\na 9 A 192.0.2.1\nb 9 A 192.0.2.2";
    assert_eq!(targets(zone, "_sip._udp.p").await, ["sip:192.0.2.1:5060"]);
    assert_eq!(targets(&zone.replace("a 9 A", "x 9 A"), "_sip._udp.p").await, ["sip:192.0.2.2:5060"]);
    // Not to be had is not the same as not there: the second best must not take over for that.
    let failing = zone.replace("a 9 A 192.0.2.1", "a 9 !");
    assert_eq!(targets(&failing, "_sip._udp.p").await, ["A a: the server answered SERVFAIL"]);
    let half = failing.replace("SRV 20", "SRV 10");
    assert_eq!(targets(&half, "_sip._udp.p").await, ["sip:192.0.2.2:5060", "partial"]);
}

#[tokio::test]
async fn one_place_is_one_target_with_its_greatest_weight() {
    let zone = "_sip._udp.p 50 SRV 1 7 5060 a\n_sip._udp.p 50 SRV 1 9 5060 b\n_sip._udp.p 50 SRV 1 5 5061 b\n\
                a 9 A 192.0.2.1\nb 9 A 192.0.2.1";
    let (found, _) = look(zone, "_sip._udp.p", Family::Any).await;
    let found: Vec<_> = found.unwrap().targets.iter().map(|t| (t.uri.port().unwrap(), t.weight)).collect();
    assert_eq!(found, [(5060, 9), (5061, 5)]);
}

#[tokio::test]
async fn chains_and_loops_end() {
    let zone = "p 9 CNAME q\nq 5 CNAME r\nr 50 A 192.0.2.1";
    let (found, _) = look(zone, "sip:p:5060", Family::Any).await;
    assert_eq!(found.unwrap().ttl_s, 5);
    assert_eq!(targets("p 9 CNAME q\nq 9 CNAME p", "sip:p:1").await, ["A p: CNAME loop at p"]);
    let long: String = (0..40).map(|n| format!("p{n} 9 CNAME p{}\n", n + 1)).collect();
    assert_eq!(targets(&long, "sip:p0:1").await, ["A p9 (from p0): a chain of more than 8 CNAMEs, at p9"]);
}

#[tokio::test]
async fn what_is_too_much_or_no_host_is_left_out_and_said() {
    let many: String = (0..3000).map(|n| format!("p 9 A 10.0.{}.{}\n", n / 250, n % 250 + 1)).collect();
    let (found, _) = look(&many, "sip:p:5060", Family::Any).await;
    let found = found.unwrap();
    assert_eq!(
        (found.targets.len(), &found.notes[..]),
        (2048, &["3000 targets, 2048 are looked at".to_owned()][..])
    );
    let odd = "p 9 A 0.0.0.0\np 9 A 224.0.0.5\np 9 A 255.255.255.255\np 9 A 192.0.2.1";
    let (found, _) = look(odd, "sip:p:5060", Family::Any).await;
    let found = found.unwrap();
    assert_eq!((found.targets.len(), found.notes.len()), (1, 3));
    let servers: String = (0..3000).map(|n| format!("_sip._udp.p 9 SRV 1 1 {} a\n", n + 1)).collect();
    let (found, asked) = look(&format!("{servers}a 9 A 192.0.2.1"), "_sip._udp.p", Family::Any).await;
    assert_eq!((found.unwrap().targets.len(), asked.len()), (2048, 2));
    let port = "_sip._udp.p 9 SRV 1 1 0 a\n_sip._udp.p 9 SRV 1 1 1 a\na 9 A 192.0.2.1";
    let (found, _) = look(port, "_sip._udp.p", Family::Any).await;
    assert_eq!(found.unwrap().notes, ["SRV _sip._udp.p: a with port 0"]);
}
