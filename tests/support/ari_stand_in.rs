//! A stand-in for a node's REST interface, for what a real Asterisk cannot be brought to: events that are wrong, answers that are
//! damaged, floods. It speaks HTTP and the websocket by hand, so that nothing keeps it from breaking their rules.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a request is answered with, instead of what would be right.
#[derive(Clone)]
pub enum Wrong {
    /// A status and a body.
    Status(u16, String),
    /// These bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// An answer that comes byte by byte, each so many ms after the other.
    Drip(u64),
}

#[derive(Default)]
struct State {
    channels: BTreeMap<String, Value>,
    bridges: BTreeMap<String, Vec<String>>,
    asked: Vec<String>,
    wrong: Vec<(String, Wrong)>,
    listeners: Vec<UnboundedSender<Message>>,
    attached: usize,
}

pub struct StandIn {
    pub port: u16,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl StandIn {
    pub fn start() -> StandIn {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let served = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, served.clone()));
            }
        });
        StandIn { port, state, _runtime: runtime }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Requests that begin with this (`GET /channels`) are answered so, until [`StandIn::mend`].
    pub fn wrong(&self, begin: &str, how: Wrong) {
        self.state().wrong.push((begin.to_owned(), how));
    }

    pub fn mend(&self) {
        self.state().wrong.clear();
    }

    /// What was asked, without queries.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    pub fn was_asked(&self, what: &str) -> bool {
        self.count(what) > 0
    }

    pub fn count(&self, what: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.starts_with(what)).count()
    }

    /// Connections for events that there ever were.
    pub fn attached(&self) -> usize {
        self.state().attached
    }

    /// Sends this to whoever listens.
    pub fn say(&self, message: Message) {
        self.state().listeners.retain(|to| to.send(message.clone()).is_ok());
    }

    pub fn tell(&self, event: &Value) {
        self.say(Message::text(event.to_string()));
    }

    /// A channel that is there, and of which nobody was told.
    pub fn put(&self, id: &str, args: &[&str], variables: &[(&str, &str)]) -> Value {
        let shown = channel(id, "Ring", Some(args), variables);
        self.state().channels.insert(id.to_owned(), shown.clone());
        shown
    }

    /// Shows a channel so from now on.
    pub fn show(&self, shown: &Value) {
        self.state().channels.insert(shown["id"].as_str().unwrap().to_owned(), shown.clone());
    }

    /// A channel enters the application.
    pub fn enter(&self, id: &str, args: &[&str], variables: &[(&str, &str)]) {
        let shown = self.put(id, args, variables);
        self.tell(&json!({"type": "StasisStart", "application": "mqs", "args": args, "channel": shown}));
    }

    /// A channel is gone, and nobody is told.
    pub fn forget(&self, id: &str) {
        self.state().channels.remove(id);
    }

    pub fn has(&self, id: &str) -> bool {
        self.state().channels.contains_key(id)
    }

    /// Channels that somebody was called by.
    pub fn legs(&self) -> Vec<String> {
        self.state().channels.keys().filter(|id| id.starts_with("mqs-")).cloned().collect()
    }

    /// What is noted on a channel.
    pub fn variable(&self, id: &str, name: &str) -> String {
        let state = self.state();
        state.channels[id]["channelvars"][name].as_str().unwrap_or_default().to_owned()
    }

    /// Where a leg goes.
    pub fn endpoint(&self, leg: &str) -> String {
        self.state().channels[leg]["endpoint"].as_str().unwrap_or_default().to_owned()
    }

    /// The phone is picked up.
    pub fn answer(&self, leg: &str) {
        let offer = self.variable(leg, "MQS_OFFER");
        let mut state = self.state();
        let shown = state.channels.get_mut(leg).unwrap();
        shown["state"] = json!("Up");
        shown["dialplan"] = json!({"app_name": "Stasis", "app_data": format!("mqs,offer,{offer}")});
        let shown = shown.clone();
        drop(state);
        self.tell(
            &json!({"type": "StasisStart", "application": "mqs", "args": ["offer", offer], "channel": shown}),
        );
    }

    /// A channel ends. `code`: the SIP code of a leg's last reply.
    pub fn end(&self, id: &str, code: u16) {
        let events = self.state().end(id, code);
        events.iter().for_each(|event| self.tell(event));
    }

    /// Everything is gone, also the connections, and nobody is told.
    pub fn restart(&self) {
        let mut state = self.state();
        state.channels.clear();
        state.bridges.clear();
        state.listeners.clear();
    }

    /// Waits until it is so, for 15 s.
    pub fn until(&self, what: &str, so: impl Fn(&StandIn) -> bool) {
        for _ in 0..750 {
            if so(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: not so within 15 s; asked: {:?}", self.asked());
    }
}

impl State {
    fn end(&mut self, id: &str, code: u16) -> Vec<Value> {
        let Some(shown) = self.channels.remove(id) else { return Vec::new() };
        self.bridges.values_mut().for_each(|members| members.retain(|member| member != id));
        let left = json!({"type": "StasisEnd", "application": "mqs", "channel": shown});
        if !id.starts_with("mqs-") {
            return vec![left];
        }
        let cause = if code == 0 { 16 } else { 0 };
        let gone = json!({"type": "ChannelDestroyed", "cause": cause, "tech_cause": code, "channel": shown});
        if shown["state"] == "Up" { vec![left, gone] } else { vec![gone] }
    }

    /// What is right.
    fn answer(
        &mut self,
        method: &str,
        path: &[String],
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> (u16, Value) {
        let said = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let gone = (404, json!({"message": "not found"}));
        match (method, path.as_slice()) {
            ("GET", ["channels"]) => (200, self.channels.values().cloned().collect()),
            ("GET", ["bridges"]) => (
                200,
                self.bridges.iter().map(|(id, members)| json!({"id": id, "channels": members})).collect(),
            ),
            ("POST", ["channels", id]) => {
                if self.channels.contains_key(*id) {
                    return (409, json!({"message": "there is one"}));
                }
                let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
                let mut shown = channel(id, "Ringing", None, &[]);
                shown["endpoint"] = json!(said("endpoint"));
                for (name, value) in wanted["variables"].as_object().into_iter().flatten() {
                    shown["channelvars"][name] = value.clone();
                }
                self.channels.insert((*id).to_owned(), shown.clone());
                (200, shown)
            }
            ("DELETE", ["channels", id]) | ("POST", ["channels", id, "continue"]) => {
                let code = if method == "DELETE" { 487 } else { 0 };
                let events = self.end(id, code);
                for event in &events {
                    self.listeners.retain(|to| to.send(Message::text(event.to_string())).is_ok());
                }
                if events.is_empty() { gone } else { (204, Value::Null) }
            }
            ("POST", ["channels", id, "variable"]) => match self.channels.get_mut(*id) {
                Some(shown) => {
                    let (variable, value) = (said("variable"), said("value"));
                    // `ARRAY(FIRST,…)` has the value of the first one in quotes.
                    let first = variable.strip_prefix("ARRAY(").and_then(|names| names.split(',').next());
                    let value = first.and_then(|_| value.split('"').nth(1)).unwrap_or(value);
                    shown["channelvars"][first.unwrap_or(variable)] = json!(value);
                    (204, Value::Null)
                }
                None => gone,
            },
            ("POST" | "DELETE", ["channels", id, ..]) => {
                if self.channels.contains_key(*id) {
                    (204, Value::Null)
                } else {
                    gone
                }
            }
            ("POST", ["bridges", id]) => {
                self.bridges.entry((*id).to_owned()).or_default();
                (200, json!({"id": id}))
            }
            ("POST", ["bridges", id, "addChannel"]) => {
                let ids: Vec<String> = said("channel").split(',').map(str::to_owned).collect();
                if ids.iter().any(|id| !self.channels.contains_key(id)) {
                    return (400, json!({"message": "Channel not found"}));
                }
                self.bridges.values_mut().for_each(|members| members.retain(|member| !ids.contains(member)));
                match self.bridges.get_mut(*id) {
                    Some(members) => members.extend(ids),
                    None => return gone,
                }
                (204, Value::Null)
            }
            ("DELETE", ["bridges", id]) => {
                if self.bridges.remove(*id).is_some() {
                    (204, Value::Null)
                } else {
                    gone
                }
            }
            ("POST", ["bridges", ..]) => (204, Value::Null),
            _ => gone,
        }
    }
}

/// A channel as Asterisk shows it.
pub fn channel(id: &str, state: &str, args: Option<&[&str]>, variables: &[(&str, &str)]) -> Value {
    let mut shown: serde_json::Map<String, Value> =
        mqs::wire::ari::VARIABLES.iter().map(|name| ((*name).to_owned(), json!(""))).collect();
    shown.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    let (app, data) = match args {
        Some(args) => ("Stasis", format!("mqs,{}", args.join(","))),
        None => ("AppDial2", String::new()),
    };
    json!({
        "id": id, "name": format!("PJSIP/k1-{id}"), "state": state, "protocol_id": format!("{id}@stand-in"),
        "caller": {"name": "", "number": "100"}, "connected": {"name": "", "number": ""},
        "dialplan": {"context": "x", "exten": "s", "priority": 1, "app_name": app, "app_data": data},
        "channelvars": shown,
    })
}

async fn connection(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    let mut heard = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&heard[..end]).into_owned();
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (of, value) = line.split_once(':')?;
                of.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while heard.len() < end + length {
            if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = heard[end..end + length].to_vec();
        heard.drain(..end + length);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/ari/events" {
            let accept = derive_accept_key(header("sec-websocket-key").unwrap_or_default().as_bytes());
            let said = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            if stream.write_all(said.as_bytes()).await.is_ok() {
                let (to, told) = unbounded_channel();
                {
                    let mut state = state.lock().unwrap();
                    state.listeners.push(to);
                    state.attached += 1;
                }
                events(WebSocketStream::from_raw_socket(stream, Role::Server, None).await, told).await;
            }
            return;
        }
        let path = path.trim_start_matches("/ari");
        let asked = format!("{method} {path}");
        let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let (wrong, right) = {
            let mut state = state.lock().unwrap();
            state.asked.push(asked.clone());
            let wrong = state.wrong.iter().rev().find(|(begin, _)| asked.starts_with(begin)).cloned();
            match wrong {
                Some((_, wrong)) => (Some(wrong), (0, Value::Null)),
                None => (None, state.answer(method, &parts, &query, &body)),
            }
        };
        let (status, text) = match (&wrong, right) {
            (Some(Wrong::Status(status, body)), _) => (*status, body.clone()),
            (Some(Wrong::Bytes(bytes)), _) => {
                let _ = stream.write_all(bytes).await;
                return;
            }
            (Some(Wrong::Drip(_)), _) => (200, "[]".to_owned()),
            (None, (status, Value::Null)) => (status, String::new()),
            (None, (status, body)) => (status, body.to_string()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if let Some(Wrong::Drip(ms)) = wrong {
            for byte in answer.as_bytes() {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        } else if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn events(mut stream: WebSocketStream<TcpStream>, mut told: UnboundedReceiver<Message>) {
    loop {
        tokio::select! {
            message = told.recv() => match message {
                Some(message) => if stream.send(message).await.is_err() { return },
                None => return,
            },
            heard = stream.next() => if !matches!(heard, Some(Ok(_))) { return },
        }
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
