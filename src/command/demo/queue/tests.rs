//! The stand-in node's REST interface, against the client that drives real nodes and the reader of what they tell.

use super::ari::USER;
use super::helper::Helpers;
use super::ledger::{End, Ledger};
use super::node::{Incoming, Node};
use super::phones::Phones;
use super::takeover;
use crate::clock::Stopwatch;
use crate::domain::call::{Channel, Identity};
use crate::domain::controller::{Attend, LegEnd, Originate};
use crate::domain::id::{ChannelId, NodeId};
use crate::domain::queue::Answering;
use crate::domain::time::EpochMs;
use crate::outbound::ari::client::{Answer, Client, Tally};
use crate::outbound::ari::place::{Place, Way};
use crate::wire::ari::event::Event;
use crate::wire::ari::{listing, request};
use crate::wire::queue_api::CallInfo;
use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixListener};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

struct Scene {
    node: Arc<Node>,
    client: Client,
    ledger: Arc<Ledger>,
    /// A helper that takes questions, and answers none.
    _silent: UnixListener,
    _directory: tempfile::TempDir,
}

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn place(node: &Node, password: &str) -> Place {
    Place::new("127.0.0.1", node.ari.port(), None, USER, password)
}

fn client(node: &Node, password: &str) -> Client {
    let way = Arc::new(ArcSwap::from_pointee(Way::At(place(node, password))));
    let tally = Tally { metrics: Arc::default(), node: name("ast1") };
    Client::new(way, Arc::default(), Duration::from_secs(2), 4, tally)
}

impl Scene {
    async fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("silent.sock");
        let silent = UnixListener::bind(&socket).unwrap();
        let ledger = Arc::new(Ledger::default());
        let phones = Arc::new(Phones::new(ledger.clone(), Helpers::new(vec![socket]), 1));
        let stop = CancellationToken::new();
        let started =
            Node::start("ast1".to_owned(), "secret".to_owned(), phones, Stopwatch::start(), 1, stop);
        let node = started.await.unwrap();
        let client = client(&node, "secret");
        Scene { node, client, ledger, _silent: silent, _directory: directory }
    }

    async fn events(&self) -> WebSocketStream<TcpStream> {
        let url = format!("ws://{}/ari/events?app=mqs&subscribeAll=false", self.node.ari);
        let mut asked = url.into_client_request().unwrap();
        let authorization = place(&self.node, "secret").authorization().clone();
        asked.headers_mut().insert("Authorization", authorization);
        let stream = TcpStream::connect(self.node.ari).await.unwrap();
        let (stream, _) = client_async(asked, stream).await.unwrap();
        // The answer comes before the node knows whom to tell.
        while !self.node.with(|exchange| exchange.is_attached()) {
            tokio::task::yield_now().await;
        }
        stream
    }

    fn call(&self, call: &str) -> String {
        self.ledger.begins(call, 0);
        let incoming = Incoming { call_id: call, number: "1001", queue: "sales", lease: "m1.x" };
        let (channel, _) = self.node.invite(&incoming).unwrap();
        self.ledger.waits(call);
        channel
    }

    async fn ask(&self, asked: &request::Request) -> Answer {
        self.client.ask(asked).await.unwrap()
    }
}

async fn next(events: &mut WebSocketStream<TcpStream>) -> Event {
    loop {
        let heard = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
        if let Message::Text(text) = heard.unwrap().unwrap().unwrap() {
            return Event::read(&name("ast1"), &text).unwrap();
        }
    }
}

fn channel(id: &str) -> Channel {
    Channel { node: name("ast1"), id: name(id) }
}

fn originate(caller: &str) -> Originate {
    let identity = Identity { name: "".into(), number: "1001".into(), sip_call_id: "c1".into() };
    Originate {
        offer: name("7-1"),
        leg: channel("mqs-7-1"),
        caller: channel(caller),
        call: name(caller),
        queue: name("sales"),
        agent: name("ann"),
        aor: "ann@demo.example".into(),
        proxy: name("k1"),
        identity: Arc::new(identity),
        ring_ms: 3_000,
    }
}

fn status(answer: &Answer) -> u16 {
    match answer {
        Answer::Done(_) => 200,
        Answer::Gone => 404,
        Answer::Refused { status, .. } => *status,
    }
}

#[tokio::test]
async fn a_leg_is_made_once() {
    let s = Scene::new().await;
    let mut events = s.events().await;
    let caller = s.call("c1");
    assert!(matches!(next(&mut events).await, Event::Caller { .. }));
    let asked = request::originate(&originate(&caller), "mqs", "o1.t");
    assert_eq!(status(&s.ask(&asked).await), 200);
    assert_eq!(status(&s.ask(&asked).await), 409);
    assert_eq!(s.ledger.counts(0).broken, 0);
    // It rings, and is given up: as the SIP answer to a CANCEL.
    assert_eq!(status(&s.ask(&request::drop_leg(&name("mqs-7-1"))).await), 200);
    let ended = Event::LegEnded { leg: channel("mqs-7-1"), how: LegEnd::Cancelled };
    assert_eq!(next(&mut events).await, ended);
    assert_eq!(status(&s.ask(&request::drop_leg(&name("mqs-7-1"))).await), 404);
    // A helper that does not answer lets nobody ring: 503.
    assert_eq!(status(&s.ask(&asked).await), 200);
    let ended = Event::LegEnded { leg: channel("mqs-7-1"), how: LegEnd::Unreachable };
    assert_eq!(next(&mut events).await, ended);
    assert_eq!(s.ledger.counts(0).rung, 0);
}

#[tokio::test]
async fn what_is_not_there_is_said_as_asterisk_says_it() {
    let s = Scene::new().await;
    let nobody: ChannelId = name("ast1-0.0");
    assert_eq!(status(&s.ask(&request::answer(&nobody)).await), 404);
    assert_eq!(status(&s.ask(&request::hang_up(&nobody, 16)).await), 404);
    assert_eq!(status(&s.ask(&request::end_after(&nobody, 1)).await), 404);
    assert_eq!(status(&s.ask(&request::add("mqs-hold--1", &[&nobody])).await), 404);
    assert_eq!(status(&s.ask(&request::delete_bridge("mqs-hold--1")).await), 404);
    assert_eq!(status(&s.ask(&request::make_holding("mqs-hold--1")).await), 200);
    assert_eq!(status(&s.ask(&request::make_holding("mqs-hold--1")).await), 200);
    assert_eq!(status(&s.ask(&request::add("mqs-hold--1", &[&nobody])).await), 400);
    // Nobody drives the application: the caller hears ringing, and is in no bridge.
    let waiting: ChannelId = name(&s.call("c1"));
    assert_eq!(status(&s.ask(&request::add("mqs-hold--1", &[&waiting])).await), 422);
    assert_eq!(status(&s.ask(&request::answer(&waiting)).await), 409);
    assert_eq!(status(&client(&s.node, "guess").ask(&request::channels()).await.unwrap()), 401);
}

#[tokio::test]
async fn the_newer_connection_takes_the_place_of_the_older() {
    let s = Scene::new().await;
    let mut older = s.events().await;
    let mut newer = s.events().await;
    assert_eq!(next(&mut older).await, Event::Replaced);
    let id = s.call("c1");
    let Event::Caller { seen, lacks: None } = next(&mut newer).await else { panic!("not a caller") };
    assert_eq!((seen.channel.id.as_str(), seen.queue), (id.as_str(), Some(name("sales"))));
    assert_eq!((&*seen.identity.number, &*seen.identity.sip_call_id), ("1001", "c1"));
    // That the older one goes does not take the newer one's place.
    drop(older);
    let attend = Attend {
        channel: channel(&id),
        queue: name("sales"),
        priority: name("7"),
        enqueued: EpochMs(9),
        answering: Answering::Entry,
        music: "".into(),
        ends_after_ms: 1_000,
    };
    assert_eq!(status(&s.ask(&request::note_place(&attend)).await), 200);
    assert!(s.node.with(|exchange| exchange.is_attached()));
    let (channels, bridges) = (s.ask(&request::channels()).await, s.ask(&request::bridges()).await);
    let (Answer::Done(channels), Answer::Done(bridges)) = (channels, bridges) else { panic!("no listing") };
    let ast1: NodeId = name("ast1");
    let all = listing::read(&ast1, "mqs", EpochMs(1), &channels, &bridges).unwrap();
    let [caller] = all.listing.callers.as_slice() else { panic!("{all:?}") };
    assert_eq!((caller.enqueued, caller.priority, all.odd), (Some(EpochMs(9)), name("7"), 0));
    assert_eq!(all.carried[0].token, "m1.x");
    assert_eq!(status(&s.ask(&request::hang_up(&name(&id), 16)).await), 200);
    assert_eq!(next(&mut newer).await, Event::Left(channel(&id)));
}

#[tokio::test]
async fn a_dead_node_answers_nobody_and_comes_back_empty() {
    let s = Scene::new().await;
    let mut events = s.events().await;
    s.call("c1");
    s.node.die();
    assert!(s.client.ask(&request::channels()).await.is_err());
    let incoming = Incoming { call_id: "c2", number: "1", queue: "sales", lease: "m1.x" };
    assert!(s.node.invite(&incoming).is_none());
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(Ok(_)) = events.next().await {}
    });
    ended.await.unwrap();
    s.node.restart();
    assert_eq!(s.ask(&request::channels()).await, Answer::Done("[]".into()));
}

#[tokio::test]
async fn who_is_torn_from_a_talk_is_seen() {
    let s = Scene::new().await;
    let _events = s.events().await;
    let caller: ChannelId = name(&s.call("c1"));
    tokio::task::yield_now().await;
    s.ask(&request::originate(&originate(caller.as_str()), "mqs", "o1.t")).await;
    s.node.with(|exchange| exchange.leg_answers("mqs-7-1"));
    let (offer, leg) = (name("7-1"), name("mqs-7-1"));
    s.ask(&request::make_talk(&offer)).await;
    let joined = s.ask(&request::add(&request::talk(&offer), &[&caller, &leg])).await;
    assert_eq!((status(&joined), s.ledger.counts(0).talking), (200, 1));
    assert_eq!(
        s.node.with(|exchange| exchange.talks().map(|(_, c, l)| (c, l)).collect::<Vec<_>>()),
        [(1, 1)]
    );
    assert!(!s.node.with(|exchange| exchange.give_up(caller.as_str())));
    s.ask(&request::drop_leg(&leg)).await;
    assert_eq!(s.node.with(|exchange| exchange.parted.clone()), ["mqs-talk-7-1"]);
    assert_eq!(s.ledger.gone("c1", End::TurnedAway, 1), End::Talked);
}

fn in_line(id: &str, position: usize) -> CallInfo {
    let call = json!({
        "id": id, "queue": "sales", "state": "waiting", "position": position, "priority": 0, "enqueued_ms": 1,
        "joined_ms": 1, "waited_ms": 1, "connected_ms": null, "agents": [], "offers": [], "tries": 0, "crashes": 0,
        "hops": 0, "wishes": [], "caller": {"name": "", "number": id, "sip_call_id": id}, "node": "ast1",
        "channel": id, "treatment": null, "why": null,
    });
    serde_json::from_value(call).unwrap()
}

#[test]
fn a_line_that_is_not_kept_is_seen() {
    let all = |ids: &str| {
        takeover::line(ids.chars().enumerate().map(|(at, id)| in_line(&id.to_string(), at + 1)).collect())
    };
    for (before, after, kept) in [
        ("abcd", "abcd", true),
        ("abcd", "bdxy", true),
        ("abcd", "bacd", false),
        ("abcd", "axb", false),
        ("", "x", true),
    ] {
        assert_eq!(takeover::out_of_order(&all(before), &all(after)).is_none(), kept, "{before} {after}");
    }
}
