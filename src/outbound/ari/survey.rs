//! What can be seen of a node by asking it, before anybody drives it. Each question is a connection of its own.

use super::place::Place;
use crate::clock::{self, Stopwatch};
use crate::domain::time::EpochMs;
use crate::wire::ari::VARIABLES;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The largest answer, in bytes: 4,000 channels have about 5 MB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// What a header `Date` is rounded down by, in ms (RFC 9110 §5.6.7).
const DATE_STEP_MS: u64 = 1_000;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The version, as it says it.
    pub version: String,
    /// How long the first answer took.
    pub took: Duration,
    /// How far its clock and this host's are apart at least, in ms; `None`: it did not say the time.
    pub apart_ms: Option<u64>,
    /// Somebody drives it: the application is there.
    pub attached: bool,
    /// The user may change something.
    pub may_write: bool,
    /// Its channels.
    pub channels: usize,
    /// The variables that its channels do not show; `None`: there is no channel to look at.
    pub lacks: Option<Vec<&'static str>>,
}

/// Why there is nothing to be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// There is no answer.
    #[error("{0}")]
    Away(String),
    /// There is none in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// 401.
    #[error("401: it knows no such user, or another password")]
    Unauthorized,
    /// 503.
    #[error("503: it is still starting")]
    Starting,
    /// 404.
    #[error("404: its HTTP server has no ARI (ari.conf: enabled)")]
    NoAri,
    /// Another status.
    #[error("{0}")]
    Status(u16),
    /// Something that is not of ARI.
    #[error("what it answers is not ARI's: {0}")]
    Strange(String),
}

#[derive(Deserialize)]
struct Info {
    system: System,
}

#[derive(Deserialize)]
struct System {
    version: String,
}

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    channelvars: BTreeMap<String, serde::de::IgnoredAny>,
}

struct Said {
    status: StatusCode,
    body: Bytes,
    date: Option<EpochMs>,
}

/// Asks a node, with so much patience for each answer.
pub async fn survey(place: &Place, app: &str, patience: Duration) -> Result<Survey, Unseen> {
    let ask = |method, path: String| ask(place, method, path, patience);
    let (watch, before) = (Stopwatch::start(), clock::wall());
    let info = ask(Method::GET, "/asterisk/info?only=system".to_owned()).await?;
    let (took, after) = (watch.elapsed(), clock::wall());
    match info.status {
        StatusCode::UNAUTHORIZED => return Err(Unseen::Unauthorized),
        StatusCode::NOT_FOUND => return Err(Unseen::NoAri),
        StatusCode::SERVICE_UNAVAILABLE => return Err(Unseen::Starting),
        status if !status.is_success() => return Err(Unseen::Status(status.as_u16())),
        _ => {}
    }
    let Info { system } = read(&info.body)?;
    let application = ask(Method::GET, format!("/applications/{app}")).await?;
    // Nobody has a channel of this name; a user who may only read is told so before anybody looks for it.
    let nobody = format!("/channels/mqs-check-{:016x}", fastrand::u64(..));
    let hung_up = ask(Method::DELETE, nobody).await?;
    let channels = ask(Method::GET, "/channels".to_owned()).await?;
    let channels: Vec<Seen> = read(&channels.body)?;
    let lacks = channels.first().map(|channel| {
        VARIABLES.into_iter().filter(|name| !channel.channelvars.contains_key(*name)).collect()
    });
    Ok(Survey {
        version: system.version,
        took,
        apart_ms: info.date.map(|date| apart_ms(date, before, after)),
        attached: application.status.is_success(),
        may_write: hung_up.status != StatusCode::FORBIDDEN,
        channels: channels.len(),
        lacks,
    })
}

/// `date` was said between `before` and `after`, and is rounded down.
fn apart_ms(date: EpochMs, before: EpochMs, after: EpochMs) -> u64 {
    before.since(date + DATE_STEP_MS).max(date.since(after))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unseen> {
    serde_json::from_slice(body).map_err(|error| Unseen::Strange(error.to_string()))
}

async fn ask(place: &Place, method: Method, path: String, patience: Duration) -> Result<Said, Unseen> {
    let asked = tokio::time::timeout(patience, ask_now(place, method, path)).await;
    asked.unwrap_or(Err(Unseen::Silent(patience)))
}

async fn ask_now(place: &Place, method: Method, path: String) -> Result<Said, Unseen> {
    let stream = place.connect().await.map_err(away)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("/ari{path}"))
        .header(header::HOST, place.http().split("://").last().unwrap_or_default())
        .header(header::AUTHORIZATION, place.authorization().clone())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(away)?;
    let answer = sender.send_request(request).await.map_err(away)?;
    let status = answer.status();
    let date = answer.headers().get(header::DATE).and_then(|date| date_of(date.to_str().ok()?));
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    connection.abort();
    Ok(Said { status, body: body.map_err(away)?.to_bytes(), date })
}

fn date_of(text: &str) -> Option<EpochMs> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(EpochMs(u64::try_from(since.as_millis()).ok()?))
}

fn away(error: impl std::fmt::Display) -> Unseen {
    Unseen::Away(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_as_far_apart_as_is_certain() {
        let date = date_of("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date, EpochMs(784_111_777_000));
        let apart =
            |from: u64, to: u64| apart_ms(date, EpochMs(date.0 - 5_000 + from), EpochMs(date.0 - 5_000 + to));
        assert_eq!(apart(0, 10), 4_990, "it is ahead");
        assert_eq!(apart(4_995, 5_000), 0);
        assert_eq!(apart(5_990, 6_010), 0, "the second is not over");
        assert_eq!(apart(9_000, 9_010), 3_000, "it is behind");
        assert_eq!(date_of("yesterday"), None);
    }
}
