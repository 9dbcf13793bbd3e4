//! What no real Asterisk does on demand: nodes that connect with a wrong name, twice, without a word, with too many.

use super::*;
use crate::cell::pilot::Input;
use crate::domain::call::{Channel, Identity};
use crate::domain::controller::{self, Attend, Originate};
use crate::domain::queue::Answering;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::str::FromStr;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::Receiver;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const PASSWORD: &str = "of-the-nodes";

type Node = WebSocketStream<DuplexStream>;

struct Scene {
    nodes: Arc<AriNodes>,
    helm: Helm,
    told: Receiver<Input>,
}

fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn scene() -> Scene {
    let options = Options {
        app: "mqs".into(),
        user: "mqs".to_owned(),
        password: "of-mqs".to_owned(),
        own_password: PASSWORD.to_owned(),
        timeout: Duration::from_secs(60),
        connections_max: 1,
        sign: Arc::new(|pool, _| format!("of-{pool}")),
        seen: Arc::new(|_, _, _| {}),
        desk: None,
        metrics: Arc::default(),
    };
    let nodes = Arc::new(AriNodes::new(options));
    let pool: PoolId = name("default");
    let url = At::Url { host: "127.0.0.1".to_owned(), port: 9, trust: None };
    let at = [("ast1", At::Comes), ("ast2", url)];
    nodes.know(at.map(|(id, at)| (name(id), Address { pool: pool.clone(), at })).into());
    let (sender, told) = mpsc::channel(100);
    Scene { nodes, helm: Helm::to(sender), told }
}

impl Scene {
    fn attach(&self) {
        self.nodes.attach(&name("ast1"), &self.helm);
    }

    async fn connect(&self, path: &str, user: &str, password: &str) -> Result<Node, (u16, HeaderMap)> {
        let (ours, theirs) = tokio::io::duplex(8 * 1024 * 1024);
        let nodes = self.nodes.clone();
        tokio::spawn(async move { nodes.take(ours, "a test").await });
        let mut request = format!("ws://mqs{path}").into_client_request().unwrap();
        let said = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        request.headers_mut().insert("Authorization", said.parse().unwrap());
        request.headers_mut().insert("Sec-WebSocket-Protocol", "ari".parse().unwrap());
        match client_async(request, theirs).await {
            Ok((node, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], "ari");
                Ok(node)
            }
            Err(Error::Http(answer)) => Err((answer.status().as_u16(), answer.headers().clone())),
            Err(error) => panic!("{error}"),
        }
    }

    async fn come(&self) -> Node {
        self.connect("/ari/ast1", "ast1", PASSWORD).await.unwrap()
    }

    async fn told(&mut self) -> String {
        let told = tokio::time::timeout(Duration::from_secs(20), self.told.recv()).await.unwrap().unwrap();
        if let Input::NodeUp(node, link) = &told {
            format!("up {node} {}", link.0)
        } else if let Input::NodeDown(node, link) = &told {
            format!("down {node} {}", link.0)
        } else if let Input::Event(node, link, controller::Input::CallerLeft(channel)) = &told {
            format!("left {node} {} {channel}", link.0)
        } else {
            format!("{told:?}")
        }
    }

    /// The link of a node that has come up.
    async fn up(&mut self) -> String {
        self.told().await.strip_prefix("up ast1 ").unwrap().to_owned()
    }
}

async fn asked(node: &mut Node) -> Value {
    loop {
        if let Message::Text(text) = node.next().await.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn answer(asked: &Value, status: u16) -> Message {
    let answer = json!({"type": "RESTResponse", "request_id": asked["request_id"], "status_code": status});
    Message::text(answer.to_string())
}

#[tokio::test]
async fn who_is_not_expected_is_told_so() {
    let scene = scene();
    for (path, user, password, status) in [
        ("/ari/ast1", "ast1", "of-mqs", 401),
        ("/ari/ast1", "ast1", "", 401),
        ("/ari/ast1", "ast2", PASSWORD, 401),
        ("/ari/ast1", "mqs", "of-mqs", 401),
        ("/ari/ast9", "ast9", "of-mqs", 401),
        ("/ari/ast9", "ast9", PASSWORD, 404),
        // It is asked over HTTP.
        ("/ari/ast2", "ast2", PASSWORD, 404),
        ("/ari/ast1/x", "ast1", PASSWORD, 404),
        ("/ari/", "", PASSWORD, 404),
        ("/", "ast1", PASSWORD, 404),
        // Nobody leads here.
        ("/ari/ast1", "ast1", PASSWORD, 503),
    ] {
        let (said, headers) = scene.connect(path, user, password).await.unwrap_err();
        assert_eq!(said, status, "{path} {user} {password}");
        assert_eq!(headers.contains_key("retry-after"), status == 503);
        assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    }
    scene.attach();
    drop(scene.come().await);
    scene.nodes.detach(&name("ast1"));
    assert_eq!(scene.connect("/ari/ast1", "ast1", PASSWORD).await.unwrap_err().0, 503);
}

#[tokio::test]
async fn a_second_connection_takes_the_place_of_the_first() {
    let mut scene = scene();
    scene.attach();
    let mut first = scene.come().await;
    let one = scene.up().await;
    let nodes = scene.nodes.clone();
    let waits = tokio::spawn(async move { nodes.ask(&name("ast1"), &request::channels()).await });
    assert_eq!(asked(&mut first).await["uri"], "channels");
    let _second = scene.come().await;
    assert_eq!(scene.told().await, format!("down ast1 {one}"));
    let two = scene.up().await;
    assert_ne!(one, two);
    assert!(scene.nodes.is_attached(&name("ast1")));
    // Whoever waited on the first one does not wait for the time-out.
    assert!(matches!(waits.await.unwrap(), Some(Err(NoAnswer::Broken(_)))));
    assert!(first.next().await.is_none_or(|last| last.is_err()));
}

#[tokio::test]
async fn answers_and_events_share_a_connection() {
    let mut scene = scene();
    scene.attach();
    let mut node = scene.come().await;
    let link = scene.up().await;
    let ask = |request: Request| {
        let nodes = scene.nodes.clone();
        tokio::spawn(async move { nodes.ask(&name("ast1"), &request).await.unwrap().unwrap() })
    };
    let (one, two) = (ask(request::channels()), ask(request::bridges()));
    let (first, second) = (asked(&mut node).await, asked(&mut node).await);
    let left = json!({"type": "StasisEnd", "channel": {"id": "1.0", "channelvars": {}}});
    for message in [
        answer(&json!({"request_id": "4711"}), 500),
        answer(&second, 204),
        Message::text(left.to_string()),
        answer(&second, 500),
        answer(&first, 404),
    ] {
        node.send(message).await.unwrap();
    }
    let status = |asked: &Value| if *asked == first { Answer::Gone } else { Answer::Done("".into()) };
    let (of_one, of_two) = if first["uri"] == "channels" { (&first, &second) } else { (&second, &first) };
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (status(of_one), status(of_two)));
    assert_eq!(scene.told().await, format!("left ast1 {link} ast1/1.0"));
}

#[tokio::test]
async fn an_event_without_end_ends_the_connection() {
    let mut scene = scene();
    scene.attach();
    let mut node = scene.come().await;
    let link = scene.up().await;
    // An answer of that size is none too large.
    let large = json!({"type": "RESTResponse", "request_id": "1", "message_body": "x".repeat(2_000_000)});
    node.send(Message::text(large.to_string())).await.unwrap();
    let event =
        |bytes: usize| json!({"type": "StasisEnd", "channel": {"id": "1.0", "name": "x".repeat(bytes)}});
    node.send(Message::text(event(500_000).to_string())).await.unwrap();
    assert_eq!(scene.told().await, format!("left ast1 {link} ast1/1.0"));
    node.send(Message::text(event(2_000_000).to_string())).await.unwrap();
    assert_eq!(scene.told().await, format!("down ast1 {link}"));
}

#[tokio::test]
async fn who_says_nothing_is_given_up() {
    let mut scene = scene();
    scene.attach();
    // Nobody reads it, so no ping is answered.
    let _node = scene.come().await;
    let link = scene.up().await;
    let watch = crate::clock::Stopwatch::start();
    assert_eq!(scene.told().await, format!("down ast1 {link}"));
    let after = watch.elapsed();
    assert!(after > Duration::from_secs(8) && after < Duration::from_secs(12), "{after:?}");
}

#[tokio::test]
async fn another_way_counts_from_the_next_connection_on() {
    let mut scene = scene();
    scene.attach();
    let node = scene.come().await;
    let one = scene.up().await;
    let pool: PoolId = name("default");
    let url = At::Url { host: "127.0.0.1".to_owned(), port: 9, trust: None };
    let know = |at: At| scene.nodes.know([(name("ast1"), Address { pool: pool.clone(), at })].into());
    know(url);
    assert_eq!(scene.connect("/ari/ast1", "ast1", PASSWORD).await.unwrap_err().0, 404);
    assert!(scene.nodes.is_attached(&name("ast1")));
    know(At::Comes);
    drop(node);
    assert_eq!(scene.told().await, format!("down ast1 {one}"));
    let _node = scene.come().await;
    scene.up().await;
}

fn attend(answering: Answering, music: &str) -> Effect {
    Effect::Attend(Attend {
        channel: Channel { node: name("ast1"), id: name("1.0") },
        queue: name("sales"),
        priority: name("5"),
        enqueued: EpochMs(9),
        answering,
        music: music.into(),
        ends_after_ms: 1_000,
    })
}

/// Carries an effect out; the node answers 204, but one request otherwise. Returns what it was asked, without queries.
async fn act(
    scene: &Scene,
    node: &mut Node,
    effect: Effect,
    wrong: Option<(&str, u16)>,
) -> (Vec<String>, Outcome) {
    let mut acting = scene.nodes.act(effect, Permit::for_good());
    let mut all = Vec::new();
    loop {
        tokio::select! {
            outcome = &mut acting => return (all, outcome),
            asked = asked(node) => {
                let path = asked["uri"].as_str().unwrap().split('?').next().unwrap();
                let uri = format!("{} {path}", asked["method"].as_str().unwrap());
                let status = wrong.filter(|(what, _)| *what == uri).map_or(204, |(_, status)| status);
                all.push(uri);
                node.send(answer(&asked, status)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_place_is_noted_when_everything_else_was_done() {
    let mut scene = scene();
    scene.attach();
    let mut node = scene.come().await;
    scene.up().await;
    let place = "POST channels/1.0/variable";
    for answering in Answering::ALL {
        let (all, outcome) = act(&scene, &mut node, attend(answering, ""), None).await;
        assert_eq!((all.last().map(String::as_str), outcome), (Some(place), Outcome::Done), "{all:?}");
        assert_eq!(all.iter().filter(|asked| *asked == place).count(), 1, "{all:?}");
        let before = all[all.len() - 2].as_str();
        for status in [409, 500] {
            let (all, outcome) = act(&scene, &mut node, attend(answering, ""), Some((before, status))).await;
            assert!(outcome != Outcome::Done && !all.iter().any(|asked| asked == place), "{all:?}");
        }
    }
}

#[tokio::test]
async fn silence_is_no_music_and_not_the_default_one() {
    let mut scene = scene();
    scene.attach();
    let mut node = scene.come().await;
    scene.up().await;
    for (answering, music, expected) in [
        (Answering::Entry, "", vec!["POST bridges/mqs-hold--1/moh"]),
        (Answering::Entry, "none", vec![]),
        (Answering::Entry, "jazz", vec!["POST bridges/mqs-hold-jazz-3/moh"]),
        (Answering::Early, "", vec!["POST channels/1.0/moh"]),
        // That of an earlier queue ends.
        (Answering::Early, "none", vec!["DELETE channels/1.0/moh"]),
        (Answering::Agent, "none", vec![]),
    ] {
        let (all, outcome) = act(&scene, &mut node, attend(answering, music), None).await;
        let of_music: Vec<&str> = all.iter().map(String::as_str).filter(|s| s.ends_with("/moh")).collect();
        assert_eq!((of_music, outcome), (expected, Outcome::Done), "{answering:?} {music}: {all:?}");
    }
}

fn known(scene: &Scene) -> Vec<String> {
    scene.nodes.nodes().keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_node_that_is_gone_is_forgotten_when_nobody_drives_it_any_more() {
    let scene = scene();
    scene.attach();
    let named = |node: &str| [(name(node), Address { pool: name("default"), at: At::Comes })].into();
    for number in 0..100 {
        scene.nodes.know(named(&format!("scaled-{number}")));
    }
    assert_eq!(known(&scene), ["ast1", "scaled-99"], "it is served to the end");
    scene.nodes.detach(&name("ast1"));
    assert_eq!(known(&scene), ["scaled-99"]);
    // One that is named again before it was let go of stays.
    scene.nodes.attach(&name("scaled-99"), &scene.helm);
    scene.nodes.know(named("ast1"));
    scene.nodes.know(named("scaled-99"));
    scene.nodes.detach(&name("scaled-99"));
    assert_eq!(known(&scene), ["scaled-99"]);
}

#[tokio::test]
async fn a_node_that_is_in_another_pool_signs_for_that_one() {
    let mut scene = scene();
    scene.attach();
    let mut node = scene.come().await;
    scene.up().await;
    let pools = ["default", "other"];
    for pool in pools {
        scene.nodes.know([(name("ast1"), Address { pool: name(pool), at: At::Comes })].into());
        let mut acting = scene.nodes.act(originate(), Permit::for_good());
        let asked = tokio::select! {
            _ = &mut acting => panic!("nothing was asked"),
            asked = asked(&mut node) => asked,
        };
        let body: Value = serde_json::from_str(asked["message_body"].as_str().unwrap()).unwrap();
        assert_eq!(body["variables"]["PJSIP_HEADER(add,X-MQS-Offer)"], format!("of-{pool}"));
        node.send(answer(&asked, 200)).await.unwrap();
        assert_eq!(acting.await, Outcome::Done);
    }
    assert!(scene.nodes.is_attached(&name("ast1")), "its connection goes on");
}

fn originate() -> Effect {
    let at = |id: &str| Channel { node: name("ast1"), id: name(id) };
    Effect::Originate(Originate {
        offer: name("7-1"),
        leg: at("mqs-7-1"),
        caller: at("1.0"),
        call: name("1.0"),
        queue: name("sales"),
        agent: name("ann"),
        aor: "ann@example.com".into(),
        proxy: name("k1"),
        identity: Arc::new(Identity { name: "".into(), number: "".into(), sip_call_id: "".into() }),
        ring_ms: 1_000,
    })
}
