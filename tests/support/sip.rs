//! A real redirect server over UDP and TCP, and a client that writes and reads bytes.

use mqs::clock;
use mqs::config::Config;
use mqs::dispatch::{Dispatcher, nodes, settings::Settings};
use mqs::inbound::sip::{Listener, Options, serve};
use mqs::store::Store;
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::sip::{Message, Response, parse};
use mqs::wire::token::Secret;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Pools `default` with three nodes, `tiny` with room for one call, `site` that refuses with 503.
pub const POOLS: &str = r#"
[[pool]]
name = "default"
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
[[pool.node]]
id = "ast2"
uri = "sip:127.0.1.2:5060;transport=tcp"
capacity = 900
[[pool.node]]
id = "ast3"
uri = "sip:[::1]:5070"
capacity = 900
[[pool]]
name = "tiny"
refuse_code = 486
retry_after_s = 7
[[pool.node]]
id = "only"
uri = "sip:127.0.2.1:5060"
capacity = 1
[[pool]]
name = "site"
refuse_code = 503
retry_after_s = 7
"#;

pub fn options() -> Options {
    Options { connections_max: 8, message_timeout_ms: 400, idle_timeout_s: 30 }
}

pub struct Server {
    pub dispatcher: Arc<Dispatcher>,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub stop: CancellationToken,
    pub tasks: Vec<JoinHandle<()>>,
}

impl Server {
    pub async fn start() -> Server {
        Server::with("", options()).await
    }

    /// `redirect` is text for that table.
    pub async fn with(redirect: &str, options: Options) -> Server {
        Server::over(redirect, options, Arc::new(MemoryStore::new(Box::new(clock::wall)))).await
    }

    pub async fn over(redirect: &str, options: Options, store: Arc<dyn Store>) -> Server {
        let text = format!(
            "[listen]\nsip = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]\n[dispatch]\npick_deadline_ms = 60\n[redirect]\n{redirect}\n{POOLS}"
        );
        let config = Config::parse(&text, "mqs.toml").unwrap();
        let settings = Settings::from_config(&config, Secret::new(&[7; 32]).unwrap()).unwrap();
        let dispatcher = Dispatcher::new(settings, store, Arc::new(Metrics::new()));
        let _ = dispatcher.start(&nodes::from_config(&config)).await;
        let (stop, mut tasks, mut at) = (CancellationToken::new(), Vec::new(), Vec::new());
        for endpoint in &config.listen.sip {
            let listener = Listener::bind(endpoint).await.unwrap();
            at.push(listener.local().address);
            tasks.push(tokio::spawn(serve(listener, dispatcher.clone(), options, stop.clone())));
        }
        Server { dispatcher, udp: at[0], tcp: at[1], stop, tasks }
    }

    pub async fn peer(&self) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.udp).await.unwrap();
        Peer { socket }
    }

    pub async fn stream(&self) -> Wire {
        Wire { stream: TcpStream::connect(self.tcp).await.unwrap(), read: Vec::new() }
    }

    /// How many live leases a pool has.
    pub async fn load(&self, pool: &str) -> u32 {
        self.dispatcher.list(Some(&pool.parse().unwrap())).await.unwrap().iter().map(|n| n.load).sum()
    }

    pub fn metric(&self, line: &str) -> u64 {
        let text = self.dispatcher.metrics().render(&[]);
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |v| v.parse().unwrap())
    }
}

/// A client over UDP.
pub struct Peer {
    pub socket: UdpSocket,
}

impl Peer {
    pub async fn say(&self, text: impl AsRef<[u8]>) {
        self.socket.send(text.as_ref()).await.unwrap();
    }

    pub async fn hear(&self) -> String {
        let mut buffer = vec![0; 65_535];
        let length =
            timeout(Duration::from_secs(5), self.socket.recv(&mut buffer)).await.expect("an answer").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    pub async fn ask(&self, text: &str) -> Answer {
        self.say(text).await;
        Answer::of(self.hear().await)
    }

    /// Nothing comes. What does come after it is the answer to a question that is asked to be sure.
    pub async fn hears_nothing_of(&self, text: impl AsRef<[u8]>) {
        self.say(text).await;
        let sure = self.ask(&request("OPTIONS", "sip:sure@mqs", "sure@host", &self.via("sure"))).await;
        assert_eq!((sure.code, sure.header("Call-ID")), (200, Some("sure@host")), "{}", sure.text);
    }

    /// A Via that leads back here.
    pub fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/UDP {};branch=z9hG4bK{branch}", self.socket.local_addr().unwrap())
    }

    pub fn invite(&self, call_id: &str) -> String {
        request("INVITE", "sip:100@example.com", call_id, &self.via(call_id))
    }
}

/// A client over TCP.
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The next message; they have no bodies.
    pub async fn hear(&mut self) -> Answer {
        loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n").filter(|end| *end > 0) {
                let message: Vec<u8> = self.read.drain(..end + 4).collect();
                return Answer::of(String::from_utf8(message).unwrap());
            }
            assert!(self.more().await > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    pub async fn hear_exactly(&mut self, bytes: &[u8]) {
        while self.read.len() < bytes.len() {
            assert!(self.more().await > 0, "closed after {:?}", self.read);
        }
        let got: Vec<u8> = self.read.drain(..bytes.len()).collect();
        assert_eq!(got, bytes);
    }

    /// The server closes the connection, and says nothing before it does.
    pub async fn is_closed(&mut self) {
        assert_eq!((self.more().await, self.read.as_slice()), (0, &b""[..]));
    }

    async fn more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let read =
            timeout(Duration::from_secs(5), self.stream.read(&mut buffer)).await.expect("something in time");
        // A server that closes with something unread resets the connection.
        let length = read.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..length]);
        length
    }
}

/// A response, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub code: u16,
}

impl Answer {
    pub fn of(text: String) -> Answer {
        let Ok(Message::Response(Response { code, .. })) = parse(text.as_bytes()) else { panic!("{text}") };
        Answer { text, code }
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.text.lines().skip(1);
        lines.filter_map(|l| l.split_once(": ")).filter(|(n, _)| *n == name).map(|(_, v)| v).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// The tokens of the Contacts, in their order.
    pub fn tokens(&self) -> Vec<&str> {
        let of = |contact: &'_ str| contact.find(";mqs=").map(|at| at + 5);
        self.headers("Contact").into_iter().map(|c| c[of(c).unwrap()..].split('>').next().unwrap()).collect()
    }
}

/// A request with a body that makes it as large as one from life.
pub fn request(method: &str, uri: &str, call_id: &str, via: &str) -> String {
    let body = "v=0\r\n".repeat(100);
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: <sip:caller@192.0.2.9>;tag=ft\r\nTo: <sip:100@example.com>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@192.0.2.9>\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
