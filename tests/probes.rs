//! What counts as an answer to OPTIONS, over UDP, TCP and TLS, and what does not: stand-in peers that say the wrong things.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "support/instance.rs"]
mod instance;

use instance::Instance;
use mqs::config::Config;
use mqs::dispatch::health::Prober as _;
use mqs::domain::health::{Evidence, HealthRules};
use mqs::outbound::dns::Resolver;
use mqs::outbound::probe::fresh_id;
use mqs::outbound::prober::OptionsProber;
use mqs::outbound::trust::Trust;
use mqs::wire::sip::{self, Draft, Message, Request};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

/// Long enough for a peer of this process, and short for one that says nothing.
const PATIENCE: &str = "probe_timeout_ms = 700";

/// Asks as the service does, with these keys of `[pool.health]`. `None`: alive.
async fn ask(uri: &str, health: &str) -> Option<String> {
    let text = format!(
        "[[pool]]\nname = \"main\"\n[pool.health]\n{PATIENCE}\n{health}\n[[pool.node]]\nid = \"a\"\nuri = {uri:?}\ncapacity = 1\n"
    );
    let config = Config::parse(&text, "test").unwrap();
    let pool = &config.pools[0];
    let trust = Trust::load(pool.health_ca_file.as_deref()).unwrap();
    let trust = BTreeMap::from([(pool.name.clone(), trust)]);
    let prober = OptionsProber::new(Resolver::new(&config.dns).unwrap(), trust);
    why(prober.probe(&pool.name, &pool.nodes[0].uri, &pool.health).await.unwrap())
}

fn why(evidence: Evidence) -> Option<String> {
    match evidence {
        Evidence::ProbeGood => None,
        Evidence::ProbeBad(why) => Some(why),
        Evidence::Answered | Evidence::Silent(_) | Evidence::Overloaded(_) => panic!("{evidence:?}"),
    }
}

fn request(bytes: &[u8]) -> Request {
    let Ok(Message::Request(request)) = sip::parse(bytes) else { panic!("not a request") };
    request
}

fn answer(question: &[u8], code: u16) -> Vec<u8> {
    Draft::response(&request(question), code, "Word", Some("t")).bytes(b"").unwrap()
}

fn text(question: &[u8]) -> String {
    String::from_utf8(answer(question, 200)).unwrap()
}

/// An answer to another question.
fn elsewhere(question: &[u8]) -> Vec<u8> {
    let call_id = request(question).head.call_id().to_owned();
    let line = format!("Call-ID: {call_id}");
    assert!(text(question).contains(&line), "{}", text(question));
    text(question).replace(&line, "Call-ID: 0123456789abcdef").into_bytes()
}

fn malformed(question: &[u8]) -> Vec<u8> {
    text(question).replace("CSeq: 1 OPTIONS", "CSeq: one OPTIONS").into_bytes()
}

fn oversized(question: &[u8]) -> Vec<u8> {
    text(question).replace("\r\nCSeq:", &format!("\r\nX-Long: {}\r\nCSeq:", "x".repeat(20_000))).into_bytes()
}

/// What a stand-in says to a question.
type Says = fn(&[u8]) -> Vec<u8>;

/// A peer over UDP that says this to every question.
async fn over_udp(says: Says) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let place = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&says(&buffer[..length]), from).await.unwrap();
        }
    });
    format!("sip:{place}")
}

/// The same over connections, through TLS where there is an acceptor. It goes on listening, as peers do.
async fn over_stream(says: Says, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            match &tls {
                None => drop(tokio::spawn(say(stream, says))),
                // Who does not trust the peer goes away in the handshake.
                Some(tls) => {
                    let accepted = tls.accept(stream).await;
                    accepted.map(|stream| drop(tokio::spawn(say(stream, says)))).unwrap_or(());
                }
            }
        }
    });
    place
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, says: Says) {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut question).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let _ = stream.write_all(&says(&question)).await;
    let _ = stream.flush().await;
    // Open until the other side goes: what it waits for does not come.
    while stream.read_buf(&mut question).await.unwrap_or(0) > 0 {}
}

const SILENCE: &str = "OPTIONS: no answer within 700 ms";

#[tokio::test]
async fn over_udp_only_an_answer_to_this_question_counts() {
    assert_eq!(ask(&over_udp(|q| answer(q, 200)).await, "").await, None);
    for (what, says) in [
        ("another Call-ID", elsewhere as Says),
        ("malformed", malformed),
        ("oversized", oversized),
        ("provisional", |q| answer(q, 180)),
        ("the question itself", <[u8]>::to_vec),
        ("nothing", |_| Vec::new()),
    ] {
        assert_eq!(ask(&over_udp(says).await, "").await.as_deref(), Some(SILENCE), "{what}");
    }
}

#[tokio::test]
async fn over_udp_another_address_is_not_heard_nor_what_comes_late() {
    let (socket, stranger) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap());
    let uri = format!("sip:{}", socket.local_addr().unwrap());
    let late: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let kept = late.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 2000];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = buffer[..length].to_vec();
            // Right in all but where it comes from.
            stranger.send_to(&answer(&question, 200), from).await.unwrap();
            for (before, to) in kept.lock().await.drain(..) {
                // To the last question, at the one who asks now as well.
                for to in [to, from] {
                    let _ = socket.send_to(&answer(&before, 200), to).await;
                }
            }
            kept.lock().await.push((question, from));
        }
    });
    for _ in 0..2 {
        // Within one probe a repeated question is the same one, and its answer would be good: ask but once.
        assert_eq!(ask_once(&uri).await.as_deref(), Some("OPTIONS: no answer within 300 ms"));
    }
    assert_eq!(late.lock().await.len(), 1);
}

/// A question, and who asked it.
type Asked = (Vec<u8>, SocketAddr);

async fn ask_once(uri: &str) -> Option<String> {
    let config = Config::parse("[[pool]]\nname = \"main\"\n", "test").unwrap();
    let prober = OptionsProber::new(Resolver::new(&config.dns).unwrap(), BTreeMap::new());
    // Shorter than T1: no repetition.
    let rules = HealthRules { probe_timeout_ms: 300, ..HealthRules::default() };
    why(prober.probe(&config.pools[0].name, &uri.parse().unwrap(), &rules).await.unwrap())
}

#[tokio::test]
async fn over_tcp_only_an_answer_to_this_question_counts() {
    let uri = |place| format!("sip:{place};transport=tcp");
    assert_eq!(ask(&uri(over_stream(|q| answer(q, 200), None).await), "").await, None);
    // A stream that is out of step is not waited for.
    let not_sip = "OPTIONS: what came back is not SIP: ";
    for (what, says, said) in [
        ("another Call-ID", elsewhere as Says, SILENCE),
        ("provisional", |q| answer(q, 100), SILENCE),
        ("malformed", malformed, not_sip),
        ("oversized", oversized, not_sip),
        ("no end", |_| vec![b'x'; 70_000], not_sip),
        ("another protocol", |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), not_sip),
    ] {
        let why = ask(&uri(over_stream(says, None).await), "").await.unwrap_or_else(|| panic!("{what}"));
        assert!(why.starts_with(said), "{what}: {why}");
    }
}

#[tokio::test]
async fn codes_that_count_are_the_configurations() {
    for (health, alive, dead) in [
        ("", &[200, 404, 500, 603][..], &[503][..]),
        ("accept = [\"2xx\", 404]", &[200, 202, 404], &[403, 405, 500, 503]),
        ("accept = [\"200-499\", 503]", &[200, 486, 503], &[500, 603]),
    ] {
        for (codes, counts) in [(alive, true), (dead, false)] {
            for code in codes {
                let said = ask(&over_udp(says_code(*code)).await, health).await;
                let why = (!counts).then(|| format!("OPTIONS: {code} Word"));
                assert_eq!(said, why, "{health} {code}");
            }
        }
    }
}

fn says_code(code: u16) -> Says {
    match code {
        200 => |q| answer(q, 200),
        202 => |q| answer(q, 202),
        403 => |q| answer(q, 403),
        404 => |q| answer(q, 404),
        405 => |q| answer(q, 405),
        486 => |q| answer(q, 486),
        500 => |q| answer(q, 500),
        503 => |q| answer(q, 503),
        603 => |q| answer(q, 603),
        _ => panic!("{code}"),
    }
}

/// An authority, its file, and a peer that it certified for some names.
struct Certified {
    folder: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Certified {
    fn of(names: &[&str]) -> Certified {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for each other until the signature is looked at.
        params.distinguished_name.push(DnType::CommonName, names.concat() + &fresh_id());
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let own = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], own.serialize_der().try_into().unwrap())
            .unwrap();
        Certified { folder, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn ca_file(&self) -> String {
        format!("ca_file = {:?}", self.folder.path().join("ca.pem"))
    }
}

#[tokio::test]
async fn over_tls_a_peer_that_is_certified_by_name_counts_and_no_other() {
    let certified = Certified::of(&["127.0.0.1", "localhost"]);
    let place = over_stream(|q| answer(q, 200), Some(certified.acceptor.clone())).await;
    let port = place.port();
    for uri in [
        format!("sips:127.0.0.1:{port}"),
        format!("sip:127.0.0.1:{port};transport=tls"),
        format!("sips:localhost:{port};transport=tcp"),
    ] {
        assert_eq!(ask(&uri, &certified.ca_file()).await, None, "{uri}");
    }
    let uri = format!("sips:127.0.0.1:{port}");
    let unknown = "OPTIONS: TLS: invalid peer certificate: UnknownIssuer";
    assert_eq!(ask(&uri, "").await.as_deref(), Some(unknown), "the public authorities");
    assert_eq!(ask(&uri, &Certified::of(&["127.0.0.1"]).ca_file()).await.as_deref(), Some(unknown));
    let other = Certified::of(&["other.example.com"]);
    let elsewhere = over_stream(|q| answer(q, 200), Some(other.acceptor.clone())).await;
    let why = ask(&format!("sips:{elsewhere}"), &other.ca_file()).await.unwrap();
    assert!(why.contains("certificate not valid for name"), "{why}");
}

#[tokio::test]
async fn over_tls_the_same_answers_count_as_elsewhere() {
    let certified = Certified::of(&["127.0.0.1"]);
    for (says, said) in [
        (elsewhere as Says, SILENCE),
        (malformed, "OPTIONS: what came back is not SIP: "),
        (oversized, "OPTIONS: what came back is not SIP: "),
        (|q| answer(q, 503), "OPTIONS: 503 Word"),
    ] {
        let place = over_stream(says, Some(certified.acceptor.clone())).await;
        let why = ask(&format!("sips:{place}"), &certified.ca_file()).await.unwrap();
        assert!(why.starts_with(said), "{why}");
    }
    // Who does not speak TLS, and who says nothing at all.
    let plain = over_stream(|q| answer(q, 200), None).await;
    let why = ask(&format!("sips:{plain}"), &certified.ca_file()).await.unwrap();
    assert!(why.starts_with("OPTIONS: "), "{why}");
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("sips:{}", mute.local_addr().unwrap());
    assert_eq!(ask(&uri, &certified.ca_file()).await.as_deref(), Some(SILENCE));
}

#[tokio::test]
async fn what_is_neither_udp_tcp_nor_tls_is_not_asked() {
    let config = Config::parse("[[pool]]\nname = \"main\"\n", "test").unwrap();
    let prober = OptionsProber::new(Resolver::new(&config.dns).unwrap(), BTreeMap::new());
    for uri in ["sip:127.0.0.1;transport=ws", "sip:127.0.0.1;transport=sctp", "sips:127.0.0.1;transport=udp"]
    {
        let asked = prober.probe(&config.pools[0].name, &uri.parse().unwrap(), &HealthRules::default()).await;
        assert!(asked.is_none(), "{uri}");
    }
}

#[test]
fn a_file_without_authorities_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| Trust::load(Some(path)).err().unwrap().to_string();
    let gone = folder.path().join("gone.pem");
    assert!(load(&gone).starts_with(&format!("{}: cannot be read: ", gone.display())), "{}", load(&gone));
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no PEM at all\n").unwrap();
    assert_eq!(load(&empty), format!("{}: holds no certificate", empty.display()));
    std::fs::write(&empty, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(load(&empty).contains("cannot be read: "), "{}", load(&empty));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_service_finds_a_tls_node_well_until_another_authority_counts() {
    let (certified, other) = (Certified::of(&["127.0.0.1"]), Certified::of(&["127.0.0.1"]));
    let place = over_stream(|q| answer(q, 404), Some(certified.acceptor.clone())).await;
    let plain = over_udp(|q| answer(q, 200)).await;
    let text = move |dir: &str, ca_file: &str| {
        let node = |id: &str, uri: &str| format!("[[pool.node]]\nid = {id:?}\nuri = {uri:?}\ncapacity = 9\n");
        format!(
            "[listen]\nresp = [\"unix:{dir}/mqs.sock\"]\nhttp = [\"unix:{dir}/http.sock\"]\n[[pool]]\nname = \"main\"\n\
             [pool.health]\nprobe_every_ms = 60\ndown_after = 2\n{ca_file}\n{}{}",
            node("tls", &format!("sips:{place}")),
            node("plain", &plain)
        )
    };
    let (right, wrong) = (certified.ca_file(), other.ca_file());
    let done = tokio::task::spawn_blocking(move || {
        let mut instance = Instance::with(|dir| text(dir, &right));
        instance.start();
        let (well, said) = {
            let output = instance::run(&["check", &instance.path("mqs.toml")]);
            (output.status.success(), instance::said(&output))
        };
        assert!(well && said.contains(" TLS: 404 Word"), "{said}");
        let health = |i: &Instance| {
            let list = i.json(&["node", "list"]);
            let tls = list.as_array().unwrap().iter().find(|n| n["id"] == "tls").unwrap().clone();
            (tls["health"].as_str().unwrap().to_owned(), tls["health_why"].as_str().unwrap().to_owned())
        };
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(health(&instance).0, "up");
        let dir = instance.folder.path().display().to_string();
        std::fs::write(instance.path("mqs.toml"), text(&dir, &wrong)).unwrap();
        assert_eq!(instance.json(&["reload"])["applied"], serde_json::json!(["pool.main.health.ca_file"]));
        instance.until("it is failing", |i| health(i).0 == "failing");
        assert!(health(&instance).1.contains("UnknownIssuer"), "{:?}", health(&instance));
        std::fs::write(instance.path("mqs.toml"), text(&dir, "ca_file = \"/nowhere.pem\"")).unwrap();
        let (well, said) = instance.mqs(&["reload"]);
        assert!(!well && said.contains("pool main: health.ca_file: /nowhere.pem: cannot be read"), "{said}");
    });
    done.await.unwrap();
}
