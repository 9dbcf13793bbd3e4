//! The redirect server: SIP over UDP and TCP, an INVITE in, a 302 out.
//!
//! What is said is decided in [`crate::wire::redirect`]; here are only sockets, lookups, limits and the list of those who may ask.
//! * [`serve`]: a listener until the stop · `udp`: datagrams · `tcp`: connections

mod tcp;
mod udp;

use crate::clock::Stopwatch;
use crate::config::{SipEndpoint, SipTransport};
use crate::dispatch::Dispatcher;
use crate::dispatch::settings::Settings;
use crate::wire::redirect::{Cancel, Over, Question, Reply, Rules, Step};
use arc_swap::ArcSwap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The word for this way in, in metrics.
const VIA: &str = "sip";

/// Sources that may not ask are spoken of this often, and counted always.
const STRANGERS_EVERY: Duration = Duration::from_secs(60);

/// How long answers that are under way may take after the stop; less than the service waits for its servers.
const STOPPING: Duration = Duration::from_secs(2);

/// Limits of the server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most connections of one listener at once.
    pub connections_max: usize,
    /// How long a message may take from its first byte to its last, in ms.
    pub message_timeout_ms: u64,
    /// How long a connection may be silent between messages, in seconds.
    pub idle_timeout_s: u64,
}

/// A bound socket.
pub struct Listener {
    endpoint: SipEndpoint,
    socket: Socket,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Listener {
    /// Binds an endpoint.
    pub async fn bind(endpoint: &SipEndpoint) -> io::Result<Listener> {
        let socket = match endpoint.transport {
            SipTransport::Udp => Socket::Udp(UdpSocket::bind(endpoint.address).await?),
            SipTransport::Tcp => Socket::Tcp(TcpListener::bind(endpoint.address).await?),
        };
        Ok(Listener { endpoint: *endpoint, socket })
    }

    /// Where it listens, with the port that the system gave.
    pub fn local(&self) -> SipEndpoint {
        let address = match &self.socket {
            Socket::Udp(socket) => socket.local_addr(),
            Socket::Tcp(socket) => socket.local_addr(),
        };
        SipEndpoint { address: address.unwrap_or(self.endpoint.address), ..self.endpoint }
    }
}

/// Serves until `stop`; answers what was asked before it, for at most 2 s.
pub async fn serve(
    listener: Listener,
    dispatcher: Arc<Dispatcher>,
    options: Options,
    stop: CancellationToken,
) {
    let local = listener.local();
    let rules = ArcSwap::from_pointee(rules(&dispatcher.settings()));
    let service = Arc::new(Service { dispatcher, rules, strangers: Mutex::new(None) });
    info!(endpoint = %local, "listening for SIP");
    match listener.socket {
        Socket::Udp(socket) => udp::serve(socket, service, stop).await,
        Socket::Tcp(socket) => tcp::serve(socket, local, service, options, stop).await,
    }
}

/// What all datagrams and connections of a listener share.
struct Service {
    dispatcher: Arc<Dispatcher>,
    rules: ArcSwap<Rules>,
    /// When a source that may not ask was last spoken of.
    strangers: Mutex<Option<Stopwatch>>,
}

impl Service {
    /// Whether a source is answered at all.
    fn admits(&self, source: IpAddr) -> bool {
        if self.dispatcher.settings().redirect.allows(source) {
            return true;
        }
        self.unanswered("unlisted");
        let mut last = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= STRANGERS_EVERY) {
            *last = Some(Stopwatch::start());
            warn!(%source, "SIP from an address that is not in redirect.allow is not answered");
        }
        false
    }

    fn unanswered(&self, reason: &'static str) {
        self.dispatcher.metrics().redirect.unanswered(reason);
    }

    /// Reads what came, and asks what has to be asked. `None`: silence is the answer.
    async fn answer(&self, step: Step, source: SocketAddr) -> Option<Reply> {
        let reply = match step {
            Step::Silence(why) => {
                self.unanswered(why.as_str());
                return None;
            }
            Step::Say(reply) => Some(reply),
            Step::Ask(question) => self.redirected(&question).await,
            Step::Cancel(cancel) => cancel.answer(self.answered_before(&cancel)),
        };
        match &reply {
            Some(Reply { method, code, call_id, bytes, .. }) => {
                self.dispatcher.metrics().redirect.answered(method, *code);
                debug!(%call_id, %source, method, code, bytes = bytes.len(), "answered over SIP");
            }
            None => self.unanswered("malformed"),
        }
        reply
    }

    fn read(&self, bytes: &[u8], source: SocketAddr, over: Over) -> Step {
        self.rules().read(bytes, source, over)
    }

    /// The rules as they are now: a reload may have named another pool.
    fn rules(&self) -> Arc<Rules> {
        let (settings, last) = (self.dispatcher.settings(), self.rules.load_full());
        if last.pool == settings.redirect.pool {
            return last;
        }
        let fresh = Arc::new(rules(&settings));
        self.rules.store(fresh.clone());
        fresh
    }

    async fn redirected(&self, question: &Question) -> Option<Reply> {
        match self.dispatcher.route_to_targets(question.ask(), VIA).await {
            Ok(named) => {
                let targets: Vec<_> = named.iter().map(|t| (&t.node.uri, t.token.as_str())).collect();
                question.redirect(&targets)
            }
            Err(refusal) => question.refuse(&refusal),
        }
    }

    /// Whether the INVITE of a CANCEL is among the decisions that this instance keeps.
    fn answered_before(&self, cancel: &Cancel) -> bool {
        let Ok(decision) = self.dispatcher.decision(cancel.call_id()) else { return false };
        self.dispatcher.pools().any(|pool| {
            pool.id.as_str() == decision.pool && cancel.lease(&pool.id).to_string() == decision.lease
        })
    }
}

fn rules(settings: &Settings) -> Rules {
    Rules { secret: settings.secret.clone(), pool: settings.redirect.pool.clone() }
}

/// Polls once: an embedded store answers at once, and then no task has to be started.
async fn at_once<F: Future + Unpin>(work: &mut F) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *work).poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}
