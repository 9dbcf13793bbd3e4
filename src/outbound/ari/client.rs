//! Requests to one node, with a time-out for each: HTTP/1.1 over connections that are kept alive and bounded, or over the connection
//! that the node has made itself ([`Line`]). Nothing is repeated here: whoever asks knows what may be asked twice.

use super::line::Line;
use super::place::{Place, Plug, Way};
use crate::clock::Stopwatch;
use crate::domain::id::NodeId;
use crate::telemetry::ari::AriMetrics;
use crate::telemetry::metrics::Metrics;
use crate::wire::ari::request::{Method, Request};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;

/// Asterisk closes a connection that was idle for 15 s (`session_keep_alive` of `http.conf`); a request must not meet that.
const IDLE_MAX: Duration = Duration::from_secs(8);

/// The largest answer, in bytes: 4,000 channels have about 5 MB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// How much of a refusal is told, in characters.
const SAID_MAX: usize = 200;

type Connector = BoxCloneSyncService<hyper::Uri, TokioIo<Plug>, std::io::Error>;

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx, and the body.
    Done(Bytes),
    /// 404: there is no such thing.
    Gone,
    /// Everything else.
    Refused {
        /// The status.
        status: u16,
        /// What was said.
        said: String,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It took too long; the request may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection failed; the request may have been carried out.
    #[error("{0}")]
    Broken(String),
}

/// Where it is counted, and of which node.
#[derive(Clone)]
pub struct Tally {
    /// All figures.
    pub metrics: Arc<Metrics>,
    /// The node.
    pub node: NodeId,
}

impl Tally {
    /// The figures of nodes.
    pub fn ari(&self) -> &AriMetrics {
        &self.metrics.cell().ari
    }
}

/// Asks one node.
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    way: Arc<ArcSwap<Way>>,
    line: Arc<Line>,
    timeout: Duration,
    seats: Semaphore,
    tally: Tally,
}

impl Client {
    /// Connects when there is something to ask.
    pub fn new(
        way: Arc<ArcSwap<Way>>,
        line: Arc<Line>,
        timeout: Duration,
        connections_max: usize,
        tally: Tally,
    ) -> Client {
        let to = way.clone();
        let connector = tower::service_fn(move |_: hyper::Uri| {
            let to = to.clone();
            async move { to.load_full().connect().await.map(TokioIo::new) }
        });
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_max_idle_per_host(connections_max)
            .build(BoxCloneSyncService::new(connector));
        Client { http, way, line, timeout, seats: Semaphore::new(connections_max), tally }
    }

    /// Who connects.
    pub fn way(&self) -> arc_swap::Guard<Arc<Way>> {
        self.way.load()
    }

    /// Asks.
    pub async fn ask(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let watch = Stopwatch::start();
        let asked = tokio::time::timeout(self.timeout, self.ask_now(request)).await;
        let asked = asked.unwrap_or(Err(NoAnswer::Timeout(self.timeout)));
        let result = match &asked {
            Ok(Answer::Done(_)) => "done",
            Ok(Answer::Gone) => "gone",
            Ok(Answer::Refused { .. }) => "refused",
            Err(NoAnswer::Timeout(_)) => "timeout",
            Err(NoAnswer::Broken(_)) => "broken",
        };
        self.tally.ari().asked(&self.tally.node, result, watch.elapsed());
        asked
    }

    /// Where it is counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn ask_now(&self, request: &Request) -> Result<Answer, NoAnswer> {
        match &*self.way.load_full() {
            Way::At(place) => self.ask_at(place, request).await,
            Way::Comes => {
                let answer = self.line.ask(request).await?;
                Ok(meaning(answer.status, answer.body.into()))
            }
        }
    }

    async fn ask_at(&self, place: &Place, request: &Request) -> Result<Answer, NoAnswer> {
        let broken = |error: &dyn std::error::Error| NoAnswer::Broken(whole(error));
        let _seat = self.seats.acquire().await.map_err(|error| broken(&error))?;
        let method = match request.method {
            Method::Get => hyper::Method::GET,
            Method::Post => hyper::Method::POST,
            Method::Delete => hyper::Method::DELETE,
        };
        let built = hyper::Request::builder()
            .method(method)
            .uri(format!("{}/ari{}", place.http(), request.path))
            .header(header::AUTHORIZATION, place.authorization().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request.body.clone())))
            .map_err(|error| broken(&error))?;
        let answer = self.http.request(built).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| NoAnswer::Broken(error.to_string()))?.to_bytes();
        Ok(meaning(status.as_u16(), body))
    }
}

fn meaning(status: u16, body: Bytes) -> Answer {
    match status {
        200..=299 => Answer::Done(body),
        404 => Answer::Gone,
        _ => Answer::Refused { status, said: said(&body) },
    }
}

/// An error with its causes: hyper's own text is only "client error".
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_short_and_on_one_line() {
        assert_eq!(said(b"{\"message\":\r\n\"no\"}"), "{\"message\":\"no\"}");
        assert_eq!(said("é".repeat(1000).as_bytes()).chars().count(), SAID_MAX);
    }
}
