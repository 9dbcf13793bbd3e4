//! Callers and nodes made of UDP sockets: calls that last as long as they are told to, and the truth about where they are.

use crate::proxy::NodeAt;
use ::mqs::clock::Stopwatch;
use ::mqs::wire::sip::{self, Draft, Message};
use anyhow::{Context as _, Result};
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The tags of every dialog: the Call-ID tells them apart.
pub const CALLER_TAG: &str = "c1";
pub const NODE_TAG: &str = "n1";

/// A node that answers each call, after it has rung for a while: then it does nothing else.
pub struct Node {
    calls: Arc<Mutex<HashSet<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub fn start(at: &NodeAt, rings: Duration) -> Result<Node> {
        let socket = UdpSocket::bind(at.address).with_context(|| format!("binding {}", at.address))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let (calls, ended) = (Arc::<Mutex<HashSet<String>>>::default(), Arc::<AtomicBool>::default());
        let (up, stop, own) = (calls.clone(), ended.clone(), at.address);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; sip::MESSAGE_MAX];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                for (number, answer) in hear(&buffer[..length], &up, own).into_iter().enumerate() {
                    if number > 0 {
                        std::thread::sleep(rings);
                    }
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Ok(Node { calls, ended, thread: Some(thread) })
    }

    /// Calls that are up here.
    pub fn load(&self) -> usize {
        lock(&self.calls).len()
    }

    /// The call is over, and nobody is told: both ends have lost the way to each other.
    pub fn forget(&self, call_id: &str) {
        lock(&self.calls).remove(call_id);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn hear(datagram: &[u8], up: &Mutex<HashSet<String>>, own: SocketAddrV4) -> Vec<Vec<u8>> {
    let Ok(Message::Request(request)) = sip::parse(datagram) else { return Vec::new() };
    let id = request.head.call_id();
    let codes: &[(u16, &str)] = match request.method.as_str() {
        "INVITE" => {
            lock(up).insert(id.to_owned());
            &[(180, "Ringing"), (200, "OK")]
        }
        "BYE" if lock(up).remove(id) => &[(200, "OK")],
        "OPTIONS" if request.head.to_tag().is_none() || lock(up).contains(id) => &[(200, "OK")],
        // RFC 3261 §12.2.2
        "BYE" | "OPTIONS" => &[(481, "Call/Transaction Does Not Exist")],
        _ => &[],
    };
    let answer = |(code, reason): &(u16, &str)| {
        let draft = Draft::response(&request, *code, reason, Some(NODE_TAG));
        draft.with("Contact", format!("<sip:node@{own}>")).bytes(b"").ok()
    };
    codes.iter().filter_map(answer).collect()
}

/// What a caller knows of a call.
enum Leg {
    Dialled { at: Stopwatch, rang: bool },
    Up { route: String, target: String, to: String },
    Ending { at: Stopwatch },
}

/// Calls through one Kamailio, over one socket.
pub struct Caller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    socket: UdpSocket,
    proxy: SocketAddrV4,
    own: SocketAddr,
    legs: Mutex<HashMap<String, Leg>>,
    /// µs from INVITE to 180.
    delays: Mutex<Vec<f64>>,
    refused: AtomicU64,
    ended: AtomicBool,
    count: AtomicU64,
}

impl Caller {
    pub fn start(own: SocketAddrV4, proxy: SocketAddrV4) -> Result<Caller> {
        let socket = UdpSocket::bind(own).with_context(|| format!("binding {own}"))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let shared = Arc::new(Shared {
            own: socket.local_addr()?,
            socket,
            proxy,
            legs: Mutex::default(),
            delays: Mutex::default(),
            refused: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            count: AtomicU64::new(0),
        });
        let hearing = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; sip::MESSAGE_MAX];
            while !hearing.ended.load(Ordering::Relaxed) {
                let Ok((length, peer)) = hearing.socket.recv_from(&mut buffer) else { continue };
                hearing.hear(&buffer[..length], peer);
            }
        });
        Ok(Caller { shared, thread: Some(thread) })
    }

    /// Sends an INVITE; the call's id.
    pub fn dial(&self) -> String {
        let number = self.shared.count.fetch_add(1, Ordering::Relaxed);
        let own = self.shared.own;
        let id = format!("{number:x}-{:x}-{:x}@{}", own.port(), std::process::id(), own.ip());
        lock(&self.shared.legs).insert(id.clone(), Leg::Dialled { at: Stopwatch::start(), rang: false });
        let uri = format!("sip:100@{}", self.shared.proxy);
        self.shared.send("INVITE", 1, &id, &uri, None, &format!("<{uri}>"));
        id
    }

    /// Sends a BYE. False: the call is not up (yet).
    pub fn hang_up(&self, id: &str) -> bool {
        let mut legs = lock(&self.shared.legs);
        let Some(Leg::Up { route, target, to }) = legs.get(id) else { return false };
        let (route, target, to) = (route.clone(), target.clone(), to.clone());
        legs.insert(id.to_owned(), Leg::Ending { at: Stopwatch::start() });
        drop(legs);
        self.shared.send("BYE", 2, id, &target, Some(&route), &to);
        true
    }

    /// Goes away without a BYE.
    pub fn forget(&self, id: &str) {
        lock(&self.shared.legs).remove(id);
    }

    /// Whether no INVITE and no BYE waits for its answer; what has waited for a second will never have one.
    pub fn quiet(&self) -> bool {
        !lock(&self.shared.legs).values().any(|leg| match leg {
            Leg::Dialled { at, .. } | Leg::Ending { at } => at.elapsed() < Duration::from_secs(1),
            Leg::Up { .. } => false,
        })
    }

    /// The delays from INVITE to 180 so far, in µs; they are forgotten here.
    pub fn take_delays(&self) -> Vec<f64> {
        std::mem::take(&mut *lock(&self.shared.delays))
    }

    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Shared {
    fn hear(&self, datagram: &[u8], peer: SocketAddr) {
        match sip::parse(datagram) {
            Ok(Message::Response(response)) => {
                let (id, (_, method)) = (response.head.call_id().to_owned(), response.head.cseq());
                match (response.code, method) {
                    (180, "INVITE") => {
                        if let Some(Leg::Dialled { at, rang }) = lock(&self.legs).get_mut(&id)
                            && !*rang
                        {
                            *rang = true;
                            lock(&self.delays).push(at.elapsed().as_secs_f64() * 1e6);
                        }
                    }
                    (200, "INVITE") => {
                        let (route, contact) =
                            (header(datagram, "Record-Route"), header(datagram, "Contact"));
                        let target = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
                        let to = response.head.to();
                        self.send("ACK", 1, &id, target, Some(&route), to);
                        let leg = Leg::Up { route, target: target.to_owned(), to: to.to_owned() };
                        lock(&self.legs).insert(id, leg);
                    }
                    (_, "BYE") => drop(lock(&self.legs).remove(&id)),
                    (300.., "INVITE") => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        lock(&self.legs).remove(&id);
                    }
                    _ => {}
                }
            }
            // A probe of the dialog.
            Ok(Message::Request(request)) if request.method == "OPTIONS" => {
                let up = lock(&self.legs).contains_key(request.head.call_id());
                let (code, reason) = if up { (200, "OK") } else { (481, "Call/Transaction Does Not Exist") };
                if let Ok(answer) = Draft::response(&request, code, reason, None).bytes(b"") {
                    let _ = self.socket.send_to(&answer, peer);
                }
            }
            Ok(Message::Request(_)) | Err(_) => {}
        }
    }

    fn send(&self, method: &str, cseq: u32, id: &str, uri: &str, route: Option<&str>, to: &str) {
        let own = self.own;
        let branch = format!("{}{id}.{method}", sip::BRANCH_COOKIE).replace('@', ".");
        let Ok(mut draft) = Draft::request(method, uri) else { return };
        draft = draft.with("Via", format!("SIP/2.0/UDP {own};branch={branch}")).with("Max-Forwards", "70");
        if let Some(route) = route.filter(|route| !route.is_empty()) {
            draft = draft.with("Route", route);
        }
        let draft = draft.with("From", format!("<sip:caller@{own}>;tag={CALLER_TAG}")).with("To", to);
        let draft = draft.with("Call-ID", id).with("CSeq", format!("{cseq} {method}"));
        if let Ok(bytes) = draft.with("Contact", format!("<sip:caller@{own}>")).bytes(b"") {
            let _ = self.socket.send_to(&bytes, self.proxy);
        }
    }
}

fn header(datagram: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(datagram);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let found =
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned());
    found.collect::<Vec<_>>().join(",")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
