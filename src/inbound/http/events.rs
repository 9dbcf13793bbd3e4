//! What happens in the cell, as it happens: server-sent events (WHATWG HTML §9.2).

use super::answer::{Answer, text};
use super::desk::desk;
use super::router::App;
use crate::cell::desk::Events;
use crate::store::cell::{Position, Told};
use crate::wire::attrs::shorten;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::queue_api::Query;
use crate::wire::record;
use crate::wire::refusal::BadRequest;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// When nothing has happened for so long, a comment says that the connection is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client is to wait before it comes again, in ms.
const RETRY_MS: u64 = 1_000;

/// Events that are written at once.
const PART_MAX: usize = 256;

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";

/// `GET /v1/events?after=…&follow=…`; a `Last-Event-ID` counts before `after`, since a browser that comes again keeps its URL.
pub(super) async fn events(State(app): State<Arc<App>>, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let mut query = Query::read(request.uri().query())?;
    let after: Option<u64> = query.take("after")?;
    let follow: Option<bool> = query.take("follow")?;
    query.end()?;
    let after = last_event_id(request.headers())?.or(after).map(Position);
    let crowded = || Problem::new(Trouble::Streams, "one of them has to leave first".to_owned());
    let seat = desk.seat().ok_or_else(crowded)?;
    let mut opening = format!("retry: {RETRY_MS}\n\n");
    let after = match after {
        None => desk.look().await?.head.told,
        Some(after) if desk.remembers(after).await? => after,
        Some(asked) => {
            // What lies between is lost to this client: it has to look at everything anew.
            _ = write!(opening, "event: forgotten\ndata: {{\"asked\":{}}}\n\n", asked.0);
            Position(0)
        }
    };
    let stream = Streaming {
        opening: Some(opening),
        events: desk.events(after),
        follow: follow.unwrap_or(true),
        stop: app.stop.clone(),
        _seat: seat,
    };
    let parts = stream::unfold(stream, |mut stream| async move {
        let part = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(part)), stream))
    });
    let mut response = text(StatusCode::OK, EVENT_STREAM, Body::from_stream(parts));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(given) = headers.get(LAST_EVENT_ID).filter(|given| !given.is_empty()) else { return Ok(None) };
    let read = given.to_str().ok().and_then(|text| text.parse().ok());
    let shown = || shorten(&String::from_utf8_lossy(given.as_bytes()));
    let wrong = || BadRequest::new(LAST_EVENT_ID, format!("{:?}; use the id of an event", shown()));
    read.map(Some).ok_or_else(|| wrong().into())
}

struct Streaming {
    opening: Option<String>,
    events: Events,
    /// False: it ends with what is there.
    follow: bool,
    stop: CancellationToken,
    _seat: OwnedSemaphorePermit,
}

impl Streaming {
    async fn next(&mut self) -> Option<String> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        let stop = self.stop.clone();
        let first = tokio::select! {
            () = stop.cancelled() => return None,
            first = self.wait() => first,
        };
        let mut part = String::new();
        match first {
            Waited::Event(told) => write_event(&mut part, &told),
            Waited::Nothing => part.push_str(":\n\n"),
            Waited::End => return None,
        }
        for _ in 1..PART_MAX {
            let Some(told) = self.events.next_ready() else { break };
            write_event(&mut part, &told);
        }
        Some(part)
    }

    async fn wait(&mut self) -> Waited {
        if !self.follow {
            return self.events.next_kept().await.map_or(Waited::End, Waited::Event);
        }
        let event = tokio::time::timeout(HEARTBEAT, self.events.next()).await;
        event.map_or(Waited::Nothing, Waited::Event)
    }
}

enum Waited {
    Event(Told),
    Nothing,
    End,
}

/// A record is one line of JSON with a sort; of one that is not, nothing but the place is told.
fn write_event(part: &mut String, told: &Told) {
    let word = record::event_word(&told.text).filter(|_| !told.text.contains(['\r', '\n']));
    let (word, line) = word.as_deref().map_or(("unreadable", "{}"), |word| (word, told.text.as_str()));
    _ = write!(part, "id: {}\nevent: {word}\ndata: {line}\n\n", told.position.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Desk;
    use crate::clock::Stopwatch;
    use crate::domain::queue::Setup;
    use crate::domain::time::EpochMs;
    use crate::store::memory::MemoryStore;
    use arc_swap::ArcSwap;

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_each_15_s_until_the_stop() {
        let store = Arc::new(MemoryStore::new(Box::new(|| EpochMs(1_700_000_000_000))));
        let setup = Arc::new(ArcSwap::from_pointee(Setup::default()));
        let desk = Desk::new("main".parse().unwrap(), store, setup);
        let stop = CancellationToken::new();
        let mut stream = Streaming {
            opening: Some("retry: 1\n\n".to_owned()),
            events: desk.events(Position(0)),
            follow: true,
            stop: stop.clone(),
            _seat: desk.seat().unwrap(),
        };
        let clock = Stopwatch::start();
        assert_eq!(stream.next().await.as_deref(), Some("retry: 1\n\n"));
        for seconds in [15, 30] {
            assert_eq!(stream.next().await.as_deref(), Some(":\n\n"));
            assert_eq!(clock.elapsed().as_secs(), seconds);
        }
        stop.cancel();
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn what_is_no_event_cannot_make_one_up() {
        let told = |text: &str| {
            let mut part = String::new();
            write_event(&mut part, &Told { position: Position(7), text: text.to_owned() });
            part
        };
        assert_eq!(
            told(r#"{"at":1,"event":"new-sort"}"#),
            "id: 7\nevent: new-sort\ndata: {\"at\":1,\"event\":\"new-sort\"}\n\n"
        );
        for bad in [
            "",
            "no JSON",
            "{}",
            r#"{"event":"a b"}"#,
            r#"{"event":"a\nid: 9"}"#,
            "{\n\"event\":\"x\"}",
            r#"{"event":1}"#,
        ] {
            assert_eq!(told(bad), "id: 7\nevent: unreadable\ndata: {}\n\n", "{bad}");
        }
    }
}
