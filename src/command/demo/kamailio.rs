//! A stand-in for Kamailio with its callers: asks MQS over RESP, sends the calls over UDP, and reports what became of them.

use crate::clock::Stopwatch;
use crate::domain::uri::NodeUri;
use crate::wire::rtjson::LEASE_HEADER;
use crate::wire::sip::{self, BRANCH_COOKIE, Draft, Message, Response};
use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a node that answered may take until it has answered for good.
const FINAL_WITHIN: Duration = Duration::from_secs(5);

/// How many lookup times are kept for the percentiles.
const TIMES_MAX: usize = 1_000_000;

/// What is counted.
#[derive(Default)]
pub struct Tally {
    /// Calls that were made.
    pub calls: AtomicU64,
    /// Lookups that were answered with a route.
    pub routed: AtomicU64,
    /// Calls that a node answered.
    pub answered: AtomicU64,
    /// Times that a call went on to the next target.
    pub moved: AtomicU64,
    /// Calls that no node answered, for whatever reason.
    pub lost: AtomicU64,
    /// Leases whose end was not acknowledged.
    pub unsettled: AtomicU64,
    /// Why the last call was lost.
    pub last_loss: Mutex<Option<String>>,
    lookup_us: Mutex<Vec<u64>>,
}

impl Tally {
    /// This part of the lookups (in percent) took no longer, in ms.
    pub fn lookup_ms(&self, percentile: usize) -> f64 {
        let mut times = self.lookup_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = (times.len() * percentile / 100).min(times.len().saturating_sub(1));
        // Less than 2⁵³ µs: exact enough.
        times.get(at).copied().unwrap_or(0) as f64 / 1000.0
    }

    fn looked_up(&self, us: u64) {
        let mut times = self.lookup_us.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < TIMES_MAX {
            times.push(us);
        }
    }

    fn lose(&self, why: String) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        *self.last_loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// One call to be made.
pub struct Caller {
    /// Names the call.
    pub call_id: String,
    /// What is called.
    pub number: u32,
    /// How long it talks.
    pub holds: Duration,
}

/// The proxy.
pub struct Proxy {
    resp: MultiplexedConnection,
    socket: UdpSocket,
    address: SocketAddr,
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Response>>>,
    tally: Arc<Tally>,
    hang_up: CancellationToken,
}

/// The part of a route document that Kamailio uses.
#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) routes: Vec<Route>,
}

/// One target.
#[derive(Deserialize)]
pub(super) struct Route {
    pub(super) dst_uri: String,
    headers: Headers,
    pub(super) fr_timer: u64,
}

#[derive(Deserialize)]
struct Headers {
    extra: String,
}

/// One attempt at one node.
struct Leg<'a> {
    caller: &'a Caller,
    uri: String,
    node: SocketAddr,
    branch: usize,
    token: &'a str,
    silence: Duration,
}

/// How an attempt ended.
enum Ended {
    Answered { to: String },
    Failed { code: u16 },
}

impl Proxy {
    /// Connects to the RESP socket; hears answers until `stop`. When `hang_up` is cancelled every call ends.
    pub async fn start(
        resp_socket: &Path,
        tally: Arc<Tally>,
        hang_up: CancellationToken,
        stop: CancellationToken,
    ) -> anyhow::Result<Arc<Proxy>> {
        let client = redis::Client::open(format!("redis+unix://{}", resp_socket.display()))?;
        let resp = client.get_multiplexed_async_connection().await.context("the RESP socket")?;
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let waiting = Mutex::new(HashMap::new());
        let proxy = Arc::new(Proxy { resp, socket, address, waiting, tally, hang_up });
        let listening = proxy.clone();
        tokio::spawn(async move { stop.run_until_cancelled(listening.listen()).await });
        Ok(proxy)
    }

    /// Makes a call, from the lookup to the lease's end.
    pub async fn call(&self, caller: Caller) {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let (to_call, mut heard) = mpsc::unbounded_channel();
        self.lock().insert(caller.call_id.clone(), to_call);
        self.live(&caller, &mut heard).await;
        self.lock().remove(&caller.call_id);
    }

    async fn live(&self, caller: &Caller, heard: &mut mpsc::UnboundedReceiver<Response>) {
        let routes = match self.look_up(caller).await {
            Ok(routes) => routes,
            Err(error) => return self.tally.lose(format!("{}: {error:#}", caller.call_id)),
        };
        let tokens: Vec<&str> = routes.iter().filter_map(token).collect();
        let last = routes.len().saturating_sub(1);
        let mut why = "the answer has no target".to_owned();
        for (branch, (route, token)) in routes.iter().zip(&tokens).enumerate() {
            let Some(node) = place(&route.dst_uri) else { break };
            let uri = format!("sip:{}@{node}", caller.number);
            let leg =
                Leg { caller, uri, node, branch, token, silence: Duration::from_millis(route.fr_timer) };
            match self.invite(&leg, heard).await {
                Ended::Answered { to } => {
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                    tokio::select! {
                        () = tokio::time::sleep(caller.holds) => {}
                        () = self.hang_up.cancelled() => {}
                    }
                    self.bye(&leg, &to, heard).await;
                    return self.done(token).await;
                }
                Ended::Failed { code } => {
                    why = format!("{node} ended with {code}");
                    self.say("FAIL", &[token, &format!("branch={branch};code={code}")]).await;
                    if branch < last {
                        self.tally.moved.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        self.tally.lose(format!("{}: {why}", caller.call_id));
        if let Some(token) = tokens.first() {
            self.done(token).await;
        }
    }

    async fn look_up(&self, caller: &Caller) -> anyhow::Result<Vec<Route>> {
        let clock = Stopwatch::start();
        let uri = format!("sip:{}@demo.example", caller.number);
        let asked = self.ask("ROUTE", &[&caller.call_id, &uri, "ft=demo;cs=1;src=127.0.0.1"]).await;
        let reply = asked.context("ROUTE")?;
        self.tally.looked_up(clock.micros());
        anyhow::ensure!(!reply.starts_with('!'), "{reply}");
        self.tally.routed.fetch_add(1, Ordering::Relaxed);
        Ok(serde_json::from_str::<Document>(&reply).context("ROUTE")?.routes)
    }

    /// Tries one node: the lease is confirmed by its first reply, and nothing within `silence` is a failure.
    async fn invite(&self, leg: &Leg<'_>, heard: &mut mpsc::UnboundedReceiver<Response>) -> Ended {
        self.send(leg, "INVITE", 1, &leg.to()).await;
        let mut confirmed = false;
        loop {
            let patience = if confirmed { FINAL_WITHIN } else { leg.silence };
            let Some(response) = next(heard, patience, (1, "INVITE"), &leg.via_branch(1)).await else {
                // A node that is only late must not keep a call that went on to another one.
                self.send(leg, "CANCEL", 1, &leg.to()).await;
                return Ended::Failed { code: 408 };
            };
            if response.code >= 300 {
                self.send(leg, "ACK", 1, response.head.to()).await;
                return Ended::Failed { code: response.code };
            }
            if !confirmed {
                confirmed = true;
                self.say("CONFIRM", &[leg.token, &format!("branch={}", leg.branch)]).await;
            }
            if response.code >= 200 {
                self.send(leg, "ACK", 1, response.head.to()).await;
                return Ended::Answered { to: response.head.to().to_owned() };
            }
        }
    }

    async fn bye(&self, leg: &Leg<'_>, to: &str, heard: &mut mpsc::UnboundedReceiver<Response>) {
        self.send(leg, "BYE", 2, to).await;
        // A node that is silent now has lost the call anyway.
        next(heard, leg.silence, (2, "BYE"), &leg.via_branch(2)).await;
    }

    async fn done(&self, token: &str) {
        if !self.say("DONE", &[token]).await {
            self.tally.unsettled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports. Whether it was acknowledged.
    async fn say(&self, verb: &str, arguments: &[&str]) -> bool {
        self.ask(verb, arguments).await.is_ok_and(|reply| reply.starts_with("OK"))
    }

    async fn ask(&self, verb: &str, arguments: &[&str]) -> redis::RedisResult<String> {
        redis::cmd(verb).arg(arguments).query_async(&mut self.resp.clone()).await
    }

    async fn send(&self, leg: &Leg<'_>, method: &str, cseq: u32, to: &str) {
        let Ok(draft) = Draft::request(method, &leg.uri) else { return };
        let message = draft
            .with("Via", format!("SIP/2.0/UDP {};branch={}", self.address, leg.via_branch(cseq)))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:caller@{}>;tag=demo", self.address))
            .with("To", to)
            .with("Call-ID", &leg.caller.call_id)
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:caller@{}>", self.address))
            .with(LEASE_HEADER, leg.token)
            .bytes(b"");
        if let Ok(bytes) = message {
            // What does not arrive is noticed by its missing answer.
            let _ = self.socket.send_to(&bytes, leg.node).await;
        }
    }

    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; sip::MESSAGE_MAX];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else { continue };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Ok(Message::Response(response)) = sip::parse(datagram)
                && let Some(call) = self.lock().get(response.head.call_id())
            {
                let _ = call.send(response);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Response>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leg<'_> {
    fn to(&self) -> String {
        format!("<sip:{}@demo.example>", self.caller.number)
    }

    fn via_branch(&self, cseq: u32) -> String {
        format!("{BRANCH_COOKIE}{}.{}.{cseq}", self.caller.call_id, self.branch)
    }
}

/// The next response to this very request; `None`: silence.
async fn next(
    heard: &mut mpsc::UnboundedReceiver<Response>,
    patience: Duration,
    cseq: (u32, &str),
    branch: &str,
) -> Option<Response> {
    let wanted = async {
        loop {
            let response = heard.recv().await?;
            if response.head.cseq() == cseq && response.head.branch() == Some(branch) {
                return Some(response);
            }
        }
    };
    tokio::time::timeout(patience, wanted).await.ok().flatten()
}

/// The token in the header that Kamailio would add.
pub(super) fn token(route: &Route) -> Option<&str> {
    let lines = route.headers.extra.lines();
    let mut headers = lines.filter_map(|line| line.split_once(": "));
    headers.find(|(name, _)| *name == LEASE_HEADER).map(|(_, value)| value)
}

pub(super) fn place(dst_uri: &str) -> Option<SocketAddr> {
    let uri: NodeUri = dst_uri.parse().ok()?;
    Some(SocketAddr::new(uri.host().parse::<IpAddr>().ok()?, uri.port()?))
}
