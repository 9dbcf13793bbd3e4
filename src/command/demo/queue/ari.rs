//! The REST interface of a stand-in node: HTTP and the websocket for events, on a port of their own.

use super::exchange::{Exchange, Reply};
use super::node::Node;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The one user.
pub const USER: &str = "mqs";

/// The largest body, in bytes.
const BODY_MAX: usize = 65_536;

/// What an originate says in its body.
#[derive(Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// Serves until the listener is dropped. While the node is dead, whoever connects is turned away.
pub async fn serve(listener: TcpListener, node: Arc<Node>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Some(life) = node.life() else { continue };
        // Small answers are not to wait for each other.
        let _ = stream.set_nodelay(true);
        let node = node.clone();
        tokio::spawn(life.run_until_cancelled_owned(async move {
            let service = service_fn(|request| {
                let node = node.clone();
                async move { Ok::<_, Infallible>(answer(node, request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the peer's to notice.
            let _ = connection.with_upgrades().await;
        }));
    }
}

async fn answer(node: Arc<Node>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{}", node.password)));
    if request.headers().get(AUTHORIZATION).is_none_or(|said| said.as_bytes() != basic.as_bytes()) {
        return response((401, json!({"message": "Authentication required"})));
    }
    if request.uri().path() == "/ari/events" {
        return upgrade(node, request);
    }
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return response((400, json!({"message": error.to_string()}))),
    };
    let path: Vec<String> = parts.uri.path().split('/').skip(2).map(decoded).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = parts.uri.query().unwrap_or_default();
    let query: BTreeMap<&str, String> =
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, decoded(v))).collect();
    response(carry_out(&node, &parts.method, &path, &query, &body))
}

fn carry_out(
    node: &Arc<Node>,
    method: &Method,
    path: &[&str],
    query: &BTreeMap<&str, String>,
    body: &[u8],
) -> Reply {
    let said = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
    let with = |work: &dyn Fn(&mut Exchange) -> Reply| node.with(|exchange| work(exchange));
    match (method.as_str(), path) {
        ("GET", ["channels"]) => with(&|e| e.list_channels()),
        ("GET", ["bridges"]) => with(&|e| e.list_bridges()),
        ("GET", ["asterisk", "info"]) => {
            (200, json!({"system": {"version": "a stand-in", "entity_id": node.name}}))
        }
        ("POST", ["channels", id]) => {
            let Ok(wanted) = serde_json::from_slice::<Wanted>(body) else {
                return (400, json!({"message": "no JSON"}));
            };
            node.originate(id, said("endpoint"), said("callerId"), said("timeout"), wanted.variables)
        }
        ("DELETE", ["channels", id]) => node.hang_up(id),
        ("POST", ["channels", id, "variable"]) => with(&|e| e.set(id, said("variable"), said("value"))),
        ("POST", ["channels", id, "answer"]) => with(&|e| e.with(id, |channel| channel.state = "Up")),
        ("POST", ["channels", id, "ring" | "progress" | "moh"]) | ("DELETE", ["channels", id, "moh"]) => {
            with(&|e| e.with(id, |_| {}))
        }
        ("POST", ["channels", id, "continue"]) => with(&|e| e.go_on(id)),
        ("POST", ["bridges", id]) => with(&|e| e.make_bridge(id, said("type") == "mixing")),
        ("POST", ["bridges", id, "moh"]) => with(&|e| e.bridge_music(id)),
        ("POST", ["bridges", id, "addChannel"]) => node.join(id, said("channel")),
        ("DELETE", ["bridges", id]) => with(&|e| e.delete_bridge(id)),
        _ => (404, json!({"message": "Resource not found"})),
    }
}

fn upgrade(node: Arc<Node>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return response((400, json!({"message": "not a websocket"})));
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let (Some(life), Ok(upgraded)) = (node.life(), hyper::upgrade::on(&mut request).await) else {
            return;
        };
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        life.run_until_cancelled(events(node, stream)).await;
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn events(node: Arc<Node>, mut stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    let (to, mut told) = mpsc::unbounded_channel();
    let link = node.with(|exchange| exchange.attach(to));
    loop {
        tokio::select! {
            event = told.recv() => match event {
                Some(event) => if stream.send(Message::text(event)).await.is_err() { break },
                // Replaced: it stays open, and hears nothing more.
                None => {
                    while let Some(Ok(_)) = stream.next().await {}
                    break;
                }
            },
            // A ping is answered by reading on.
            heard = stream.next() => if !matches!(heard, Some(Ok(_))) { break },
        }
    }
    node.with(|exchange| exchange.detach(link));
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn response((status, body): Reply) -> Response<Full<Bytes>> {
    let text = if body == Value::Null { String::new() } else { body.to_string() };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
