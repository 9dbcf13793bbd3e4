//! Nodes that connect by themselves: Asterisk's outbound websocket, `GET /ari/NODE` with the node's name and password (RFC 7617).
//!
//! Whoever is not welcome hears so in words of HTTP, and Asterisk tries again: 401 a wrong password, 404 a node that is not expected, 503
//! while another instance leads the cell.

use super::AriNodes;
use super::place::Way;
use super::socket::{GIVE_UP_AFTER, own_config};
use crate::domain::id::NodeId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Sender;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tracing::{debug, info, warn};

/// The path, before the node's name.
const PATH: &str = "/ari/";

/// The protocol of RFC 6455 §1.9 that Asterisk asks for.
const PROTOCOL: &str = "ari";

/// A node that nobody here drives should ask again so many seconds later. Asterisk does so each second, whatever it hears.
const AGAIN_S: &str = "1";

/// Anything that bytes come and go through.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that a node has made.
pub struct Came {
    /// The websocket.
    pub stream: WebSocketStream<Box<dyn Duplex>>,
    /// From where.
    pub peer: String,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The path is none of a node.
    NoPath,
    /// Name and password are not those of the node that the path names.
    NotKnown,
    /// There is no such node, or it does not connect by itself.
    NoNode,
    /// Another instance leads, or none does.
    NotNow,
}

impl AriNodes {
    /// Takes a connection that somebody has made, and hands it to the node that it comes from. Ends within 9 s.
    pub async fn take(&self, stream: impl Duplex + 'static, peer: &str) {
        let mut admitted = None;
        #[allow(clippy::result_large_err)]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let path = request.uri().path();
            match self.admit(path, request.headers()) {
                Ok((node, sender)) => {
                    admitted = Some((node, sender));
                    let asked = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
                    if asked.and_then(|value| value.to_str().ok()).is_some_and(names_protocol) {
                        let protocol = HeaderValue::from_static(PROTOCOL);
                        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
                    }
                    Ok(response)
                }
                Err(refusal) => {
                    match refusal {
                        Refusal::NoPath | Refusal::NotKnown | Refusal::NoNode => {
                            warn!(peer, path, ?refusal, "a node is not let in");
                        }
                        Refusal::NotNow => {
                            debug!(peer, path, "a node is not let in: this instance does not lead")
                        }
                    }
                    Err(refusal.response())
                }
            }
        };
        let stream: Box<dyn Duplex> = Box::new(stream);
        let shaken = accept_hdr_async_with_config(stream, look, Some(own_config()));
        let stream = match tokio::time::timeout(GIVE_UP_AFTER, shaken).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(peer, %error, "no node");
                return;
            }
            Err(_) => {
                debug!(peer, "no node: nothing was asked in time");
                return;
            }
        };
        let Some((node, sender)) = admitted else { return };
        // An error: it was let go of just now. The connection closes, and the node comes again.
        if sender.send(Came { stream, peer: peer.to_owned() }).await.is_err() {
            info!(%node, peer, "came too late");
        }
    }

    /// Who is let in: the password is looked at first, so that nobody learns names without it.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(NodeId, Sender<Came>), Refusal> {
        let node: NodeId =
            path.strip_prefix(PATH).and_then(|name| name.parse().ok()).ok_or(Refusal::NoPath)?;
        let expected = format!("Basic {}", STANDARD.encode(format!("{node}:{}", self.options.own_password)));
        let said = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        if !bool::from(said.ct_eq(expected.as_bytes())) {
            return Err(Refusal::NotKnown);
        }
        let nodes = self.nodes();
        let found = nodes.get(&node).ok_or(Refusal::NoNode)?;
        match found.way.load().as_ref() {
            Way::At(_) => Err(Refusal::NoNode),
            Way::Comes => {
                let attached = found.attached.as_ref().ok_or(Refusal::NotNow)?;
                Ok((node, attached.came.clone()))
            }
        }
    }
}

/// Of a list of protocols.
fn names_protocol(list: &str) -> bool {
    list.split(',').any(|name| name.trim() == PROTOCOL)
}

impl Refusal {
    fn response(self) -> ErrorResponse {
        let (status, said) = match self {
            Refusal::NoPath => (StatusCode::NOT_FOUND, "a node connects to /ari/ and its name"),
            Refusal::NotKnown => (StatusCode::UNAUTHORIZED, "not the name or not the password of this node"),
            Refusal::NoNode => (StatusCode::NOT_FOUND, "no node of this name is expected to connect"),
            Refusal::NotNow => (StatusCode::SERVICE_UNAVAILABLE, "this instance does not lead the cell"),
        };
        let mut response = ErrorResponse::new(Some(said.to_owned()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(said.len()));
        match self {
            Refusal::NotKnown => {
                let realm = HeaderValue::from_static("Basic realm=\"mqs\"");
                headers.insert(header::WWW_AUTHENTICATE, realm);
            }
            Refusal::NotNow => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static(AGAIN_S))),
            Refusal::NoPath | Refusal::NoNode => {}
        }
        response
    }
}
