//! A driver of Asterisk's REST interface: one application on a websocket, whichever side connected.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::asterisk::Asterisk;
use crate::net::now;

/// The side of MQS of one websocket.
pub struct App {
    socket: WebSocket<TcpStream>,
    /// All events that were read, in order.
    pub seen: Vec<Value>,
    taken: usize,
}

impl App {
    /// Connects to the node, as the application `name`.
    pub fn attach(node: &Asterisk, name: &str) -> Result<App> {
        App::attach_as(node, &format!("app={name}"))
    }

    /// The same; it hears of everything at the node, also of what is in other applications.
    pub fn attach_to_all(node: &Asterisk, name: &str) -> Result<App> {
        App::attach_as(node, &format!("app={name}&subscribeAll=true"))
    }

    fn attach_as(node: &Asterisk, query: &str) -> Result<App> {
        let stream = TcpStream::connect(node.http()).context("connecting to ARI")?;
        let (user, secret) = node.ari_user();
        let mut request = format!("ws://{}/ari/events?{query}", node.http()).into_client_request()?;
        request.headers_mut().insert("Authorization", basic(user, secret).parse()?);
        let (socket, _) =
            tungstenite::client(request, stream).map_err(|error| anyhow::anyhow!("websocket: {error}"))?;
        App::new(socket)
    }

    /// Waits for a node that connects by itself, and checks how it presents itself.
    pub fn accept(listener: &TcpListener, user: &str, secret: &str, limit: Duration) -> Result<App> {
        listener.set_nonblocking(true)?;
        let end = now() + limit;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("accepting a node"),
            }
            ensure!(now() < end, "no node has connected within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limit))?;
        let expected = basic(user, secret);
        let mut said = None;
        #[allow(clippy::result_large_err)]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
            said = Some((header("Authorization") == Some(&expected), request.uri().path().to_owned()));
            if header("Sec-WebSocket-Protocol") == Some("ari") {
                response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("ari"));
            }
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, look)
            .map_err(|error| anyhow::anyhow!("websocket of a node: {error}"))?;
        ensure!(said == Some((true, "/ari".to_owned())), "the node presents itself as {said:?}");
        App::new(socket)
    }

    fn new(socket: WebSocket<TcpStream>) -> Result<App> {
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(App { socket, seen: Vec::new(), taken: 0 })
    }

    /// The next event of this type that was not returned before; others before it are passed over.
    pub fn event(&mut self, kind: &str, limit: Duration) -> Result<Value> {
        let end = now() + limit;
        loop {
            while let Some(event) = self.seen.get(self.taken) {
                self.taken += 1;
                if event["type"] == kind {
                    return Ok(event.clone());
                }
            }
            if now() >= end {
                let kinds: Vec<&Value> = self.seen.iter().map(|event| &event["type"]).collect();
                bail!("no {kind} within {limit:?}; there were {kinds:?}");
            }
            self.read()?;
        }
    }

    /// Reads what comes within `time`.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let end = now() + time;
        while now() < end {
            self.read()?;
        }
        Ok(())
    }

    /// Asks over the websocket itself, and returns the status of the answer.
    pub fn rest(&mut self, method: &str, uri: &str) -> Result<i64> {
        let request = serde_json::json!({
            "type": "RESTRequest", "transaction_id": "1", "request_id": "1", "method": method, "uri": uri,
        });
        self.socket.send(Message::text(request.to_string()))?;
        let answer = self.event("RESTResponse", Duration::from_secs(5))?;
        answer["status_code"].as_i64().with_context(|| format!("no status: {answer}"))
    }

    fn read(&mut self) -> Result<()> {
        match self.socket.read() {
            Ok(message) => {
                if let Ok(text) = message.to_text()
                    && message.is_text()
                {
                    self.seen.push(serde_json::from_str(text).with_context(|| format!("event {text}"))?);
                }
                Ok(())
            }
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(())
            }
            Err(error) => Err(error).context("reading events"),
        }
    }
}

fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}")))
}
