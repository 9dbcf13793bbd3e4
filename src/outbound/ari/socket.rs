//! The websocket of one node: connects, and connects again, or waits for the node that does; tells the pilot what comes, in the order in
//! which it came.
//!
//! A peer that says nothing is asked (a ping of RFC 6455 §5.5.2) and given up when it stays silent: a connection that is cut in
//! the middle gives no other sign.

use super::accept::Came;
use super::code::Dialled;
use super::line::{Asked, Line, Open};
use super::place::{Place, Plug, Way};
use super::side::Side;
use crate::cell::pilot::{Input, Link};
use crate::cell::shell::Helm;
use crate::clock::Stopwatch;
use crate::domain::controller;
use crate::telemetry::ari::AriMetrics;
use crate::wire::ari::cost_of_lacking;
use crate::wire::ari::event::Event;
use crate::wire::ari::rest;
use arc_swap::ArcSwap;
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tracing::{debug, info, warn};

/// A connection has to be there within that time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A peer that has said nothing for so long is asked, and asked again.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// A peer that has said nothing for so long is given up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(9);

/// Between attempts: from so much, doubled each time, with a random part of a half.
const AGAIN_MIN: Duration = Duration::from_millis(100);

/// The longest time between attempts.
const AGAIN_MAX: Duration = Duration::from_secs(4);

/// The largest event, in bytes: one of an ordinary channel has 2 kB.
const EVENT_MAX: usize = 1024 * 1024;

/// The largest answer to a request over a node's own connection, in bytes: 4,000 channels have about 5 MB, and as a text in a text
/// half as much again.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// How often a way that may have changed is looked at, while nobody connects.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Questions whether a connection is still the only one, that wait for their answers.
pub const PROBES_MAX: usize = 64;

/// Asks whether everything that was sent before has come.
pub struct Probe {
    /// Over this connection, and no other.
    pub link: Link,
    /// Told when the answer is there.
    pub answered: oneshot::Sender<()>,
}

/// What a socket is for.
pub struct Socket {
    /// The node.
    pub side: Arc<Side>,
    /// Who connects.
    pub way: Arc<ArcSwap<Way>>,
    /// What is asked over a connection that the node has made.
    pub line: Arc<Line>,
    /// Who is told.
    pub helm: Helm,
}

/// What comes to a socket from its own side.
pub struct Inbox {
    /// Questions.
    pub probes: Receiver<Probe>,
    /// Connections that the node has made.
    pub came: Receiver<Came>,
}

/// How a connection ended.
enum End {
    /// It broke, or was given up.
    Broken(String),
    /// The node has made another one.
    Replaced(Box<Came>),
}

impl Socket {
    /// Stays connected, for ever.
    pub async fn run(self, mut inbox: Inbox) {
        let (mut again, mut next) = (AGAIN_MIN, None);
        loop {
            let way = self.way.load_full();
            let came = match (next.take(), way.as_ref()) {
                (Some(came), _) => Some(came),
                (None, Way::Comes) => match tokio::time::timeout(LOOK_AGAIN, inbox.came.recv()).await {
                    Ok(Some(came)) => Some(Box::new(came)),
                    // Whoever attached the node has let go of it.
                    Ok(None) => return,
                    Err(_) => continue,
                },
                (None, Way::At(place)) => {
                    let watch = Stopwatch::start();
                    match tokio::time::timeout(CONNECT_TIMEOUT, self.connect(place)).await {
                        Ok(Ok(stream)) => {
                            next = self.attached(stream, &place.http(), None, &mut inbox).await;
                            if watch.elapsed() > GIVE_UP_AFTER {
                                again = AGAIN_MIN;
                            }
                        }
                        Ok(Err(error)) => debug!(node = %self.side.id, %error, "cannot attach"),
                        Err(_) => debug!(node = %self.side.id, "cannot attach: no answer"),
                    }
                    if next.is_none() {
                        tokio::time::sleep(again.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                        again = (again * 2).min(AGAIN_MAX);
                    }
                    None
                }
            };
            if let Some(came) = came {
                next = self.attached(came.stream, &came.peer, Some(self.line.open()), &mut inbox).await;
            }
        }
    }

    fn figures(&self) -> &AriMetrics {
        self.side.client.tally().ari()
    }

    async fn connect(&self, place: &Place) -> Result<WebSocketStream<Plug>, Error> {
        let app = &self.side.app;
        let mut request =
            format!("{}/ari/events?app={app}&subscribeAll=false", place.websocket()).into_client_request()?;
        request.headers_mut().insert("Authorization", place.authorization().clone());
        let stream = place.connect().await?;
        Ok(client_async_with_config(request, stream, Some(config(EVENT_MAX))).await?.0)
    }

    /// As long as a connection is there. `open`: requests go over it, too. Returns the one that took its place.
    async fn attached<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: WebSocketStream<S>,
        peer: &str,
        open: Option<Open>,
        inbox: &mut Inbox,
    ) -> Option<Box<Came>> {
        let (node, link) = (&self.side.id, self.side.next_link());
        info!(%node, place = peer, "attached");
        self.helm.tell(Input::NodeUp(node.clone(), link)).await;
        self.side.attached.store(true, Ordering::Relaxed);
        self.figures().attached(node);
        let end = self.listen(stream, link, open, inbox).await;
        self.side.attached.store(false, Ordering::Relaxed);
        self.figures().away(node);
        let (why, next) = match end {
            End::Broken(why) => (why, None),
            End::Replaced(came) => (format!("the node has connected again, from {}", came.peer), Some(came)),
        };
        warn!(%node, %why, "no longer attached");
        self.helm.tell(Input::NodeDown(node.clone(), link)).await;
        next
    }

    /// Until the connection ends; says why. `open` ends with it: whoever waits for an answer is told.
    async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: WebSocketStream<S>,
        link: Link,
        mut open: Option<Open>,
        inbox: &mut Inbox,
    ) -> End {
        let mut pinged: VecDeque<(u64, oneshot::Sender<()>)> = VecDeque::new();
        let (mut number, mut heard) = (0_u64, Stopwatch::start());
        // How long the node takes to answer is worth knowing of a busy one too.
        let (mut asked, mut timed) = (Stopwatch::start(), None);
        let mut look = tokio::time::interval(ASK_AFTER / 3);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = stream.next() => {
                    heard = Stopwatch::start();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            if let Err(why) = self.read(&text, link, open.as_ref()).await {
                                return End::Broken(why);
                            }
                        }
                        Some(Ok(Message::Pong(payload))) => {
                            answer(&mut pinged, &payload);
                            if is_nobodys(&payload) && let Some(sent) = timed.take() {
                                self.figures().pinged(&self.side.id, Stopwatch::elapsed(&sent));
                            }
                        }
                        Some(Ok(Message::Close(frame))) => {
                            let said = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                            return End::Broken(format!("closed by the node {said}"));
                        }
                        Some(Ok(Message::Ping(_) | Message::Binary(_) | Message::Frame(_))) => {}
                        Some(Err(error)) => return End::Broken(error.to_string()),
                        None => return End::Broken("ended".to_owned()),
                    }
                }
                Some(asked) = to_send(&mut open) => {
                    let wanted = open.as_ref().is_some_and(|open| open.is_wanted(&asked));
                    if wanted && let Err(error) = send(&mut stream, Message::text(asked.text)).await {
                        return End::Broken(error.to_string());
                    }
                }
                Some(came) = inbox.came.recv() => return End::Replaced(Box::new(came)),
                Some(probe) = inbox.probes.recv() => {
                    if probe.link == link {
                        number += 1;
                        pinged.push_back((number, probe.answered));
                        pinged.truncate(PROBES_MAX);
                        if let Err(error) = ping(&mut stream, number).await {
                            return End::Broken(error.to_string());
                        }
                    }
                }
                _ = look.tick() => {
                    if heard.elapsed() > GIVE_UP_AFTER {
                        return End::Broken(format!("silent for {} s", GIVE_UP_AFTER.as_secs()));
                    }
                    let due = timed.is_none() && asked.elapsed() >= ASK_AFTER;
                    if due {
                        asked = Stopwatch::start();
                        timed = Some(asked);
                    }
                    if (due || heard.elapsed() > ASK_AFTER) && let Err(error) = ping(&mut stream, 0).await {
                        return End::Broken(error.to_string());
                    }
                }
            }
        }
    }

    /// An answer or an event. An error ends the connection.
    async fn read(&self, text: &str, link: Link, open: Option<&Open>) -> Result<(), String> {
        if let Some(open) = open
            && let Some(answer) = rest::answer(text)
        {
            let number = answer.number;
            if !open.answered(answer) {
                debug!(node = %self.side.id, number, "an answer that nobody waits for");
            }
            return Ok(());
        }
        if text.len() > EVENT_MAX {
            return Err(format!("an event of {} bytes; at most {EVENT_MAX}", text.len()));
        }
        self.take(text, link).await;
        Ok(())
    }

    /// An event.
    async fn take(&self, text: &str, link: Link) {
        tracing::trace!(node = %self.side.id, text, "told");
        let node = &self.side.id;
        let event = match Event::read(node, text) {
            Ok(event) => event,
            Err(error) => {
                if let Some(left_out) = self.side.often.may() {
                    warn!(%node, %error, left_out, "passed over");
                }
                self.figures().passed_over(node, "unreadable");
                return;
            }
        };
        let input = match event {
            Event::Other => return,
            Event::Replaced => Input::NodeReplaced(node.clone(), link),
            Event::Caller { seen, lacks } => {
                if let Some(variable) = lacks
                    && self.side.often.may().is_some()
                {
                    warn!(%node, variable, cost = cost_of_lacking(variable), "not among channelvars of ari.conf");
                }
                Input::Event(node.clone(), link, controller::Input::CallerEntered(seen))
            }
            Event::Left(channel) => {
                self.side.left(&channel.id);
                Input::Event(node.clone(), link, controller::Input::CallerLeft(channel))
            }
            Event::LegAnswered { offer, leg } => {
                Input::Event(node.clone(), link, controller::Input::LegAnswered { offer, leg })
            }
            Event::Transfer(wanted) => {
                debug!(%node, ?wanted, "an agent passes a caller on");
                Input::Event(node.clone(), link, controller::Input::Transfer(wanted))
            }
            Event::Announced(offer) => Input::Event(node.clone(), link, controller::Input::Announced(offer)),
            Event::LegEnded { leg, how } => {
                Input::Event(node.clone(), link, controller::Input::LegEnded { leg, how })
            }
            Event::Code { channel, code, user, sip_call_id } => {
                self.side.dialled(Dialled { channel, code, user, sip_call_id });
                return;
            }
            Event::Stranger { channel, arguments } => {
                self.side.turn_away(channel, &arguments);
                return;
            }
        };
        self.helm.tell(input).await;
    }
}

/// How a node's own connection is to be read.
pub(super) fn own_config() -> WebSocketConfig {
    config(ANSWER_MAX)
}

fn config(bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(bytes_max)).max_frame_size(Some(bytes_max))
}

/// The next request to be sent; `None`: none goes over this connection.
async fn to_send(open: &mut Option<Open>) -> Option<Asked> {
    open.as_mut()?.asked.recv().await
}

/// A ping with a number as its payload; 0 is nobody's.
async fn ping<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut WebSocketStream<S>,
    number: u64,
) -> Result<(), Error> {
    send(stream, Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes()))).await
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut WebSocketStream<S>,
    message: Message,
) -> Result<(), Error> {
    let sent = tokio::time::timeout(GIVE_UP_AFTER, stream.send(message)).await;
    sent.unwrap_or(Err(Error::ConnectionClosed))
}

fn is_nobodys(payload: &[u8]) -> bool {
    payload == 0_u64.to_be_bytes()
}

fn answer(pinged: &mut VecDeque<(u64, oneshot::Sender<()>)>, payload: &[u8]) {
    let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
    // One answer to several pings is an answer to all of them (RFC 6455 §5.5.3).
    while pinged.front().is_some_and(|(asked, _)| *asked <= number) {
        let Some((_, answered)) = pinged.pop_front() else { return };
        // Whoever asked may have given up.
        let _ = answered.send(());
    }
}

/// Where probes are sent.
pub type Probes = Sender<Probe>;
