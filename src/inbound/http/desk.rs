//! What every answer about queues needs: the desk, a name from the path, a command and what was said of it.

use super::answer::{Answer, json};
use super::router::App;
use crate::cell::Desk;
use crate::cell::desk::{Reply, Seen};
use crate::domain::controller::{Command, Said};
use crate::domain::offer::Offer;
use crate::store::cell::NAME_BYTES_MAX;
use crate::wire::ask;
use crate::wire::attrs::shorten;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::queue_api::SaidInfo;
use crate::wire::refusal::BadRequest;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer waits for what the leader says: most changes of the leader are over by then.
const WAIT: Duration = Duration::from_secs(5);

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) type Named = Result<Path<String>, PathRejection>;

/// The desk of this instance's cell.
pub(super) fn desk(app: &App) -> Result<&Arc<Desk>, Problem> {
    let none = || Problem::new(Trouble::NoCell, "there is no cell in its configuration".to_owned());
    app.desk.as_ref().ok_or_else(none)
}

/// The name in a path.
pub(super) fn name<T>(field: &str, path: Named) -> Result<T, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    let Path(text) = path.map_err(|_| BadRequest::new("path", "not UTF-8".to_owned()))?;
    Ok(ask::value(field, &text)?)
}

/// That there is no such thing.
pub(super) fn missing(trouble: Trouble, field: &str, name: impl Display) -> Problem {
    Problem::new(trouble, format!("{field} {name}")).about(field)
}

/// The offers of a call that were found.
pub(super) fn offers_of<'a>(
    seen: &'a Seen,
    call: &'a crate::domain::call::Call,
) -> impl Iterator<Item = &'a Offer> {
    call.stage.offers().filter_map(|id| seen.offers.get(id))
}

/// Sends a command, waits, and answers with what was said. The key of the command is in the answer whatever that is.
pub(super) async fn command(desk: &Desk, headers: &HeaderMap, command: &Command) -> Answer {
    let key = key(headers)?;
    let said = desk.send_and_wait(&key, command, WAIT).await;
    let mut response =
        match said.map_err(Problem::from).and_then(|reply| said_or_problem(reply, &key, command)) {
            Ok(said) => json(StatusCode::OK, &SaidInfo { said: said.as_str().to_owned(), key: key.clone() }),
            Err(problem) => problem.into_response(),
        };
    // A key is printable ASCII, and so always a header's value.
    if let Ok(value) = HeaderValue::try_from(&key) {
        response.headers_mut().insert(KEY, value);
    }
    Ok(response)
}

/// What a command lays down.
fn laid_down(command: &Command) -> &'static str {
    if matches!(command, Command::SetQueue(..) | Command::RemoveQueue(_)) { "queue" } else { "agent" }
}

fn said_or_problem(reply: Reply, key: &str, command: &Command) -> Result<Said, Problem> {
    let said = match reply {
        Reply::Said(said) => said,
        Reply::Full => {
            let detail = "the command was not taken; say it again".to_owned();
            return Err(Problem::new(Trouble::InboxFull, detail));
        }
        Reply::Unheard => {
            let s = WAIT.as_secs();
            let detail = format!(
                "nothing was said of it within {s} s; it will be done when there is a leader; say it again with Idempotency-Key: {key}"
            );
            return Err(Problem::new(Trouble::Unheard, detail));
        }
    };
    let refused = |trouble: Trouble, field: &str, detail: &str| {
        Err(Problem::new(trouble, detail.to_owned()).about(field))
    };
    match said {
        Said::Done | Said::Already => Ok(said),
        Said::NoAgent => refused(Trouble::NoAgent, "agent", "the leader knows nobody of this name"),
        Said::NoCall => refused(Trouble::NoCall, "call", "the leader knows no such call; it may be over"),
        Said::NoQueue => refused(Trouble::NoQueue, "queue", "the leader knows no queue of this name"),
        Said::NoTreatment => refused(Trouble::NoTreatment, "treatment", "the leader knows none of this name"),
        Said::TooLate => refused(Trouble::TooLate, "call", "it stands in no queue any more"),
        Said::LoggedOut => refused(Trouble::LoggedOut, "agent", "log in first"),
        Said::InFile => refused(Trouble::InFile, laid_down(command), "change it there, and reload"),
        Said::AorTaken => refused(Trouble::AorTaken, "aor", "an address-of-record is one agent's"),
        Said::Full => refused(Trouble::Full, "agent", "remove some, or lay agents down in the configuration"),
        Said::QueuesFull => {
            refused(Trouble::QueuesFull, "queue", "remove some, or lay queues down in the configuration")
        }
        Said::NodeAway => {
            refused(Trouble::NodeAway, "call", "it may be with an agent by now; ask again with another key")
        }
        Said::Malformed => {
            Err(BadRequest::new("body", "the leader could not read the command".to_owned()).into())
        }
    }
}

/// What the client named its request by, or a name of ours.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(given) = headers.get(KEY) else {
        return Ok(format!("http-{:032x}", fastrand::u128(..)));
    };
    let text = given.to_str().unwrap_or("");
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let shown = shorten(&String::from_utf8_lossy(given.as_bytes()));
        let said = format!("{shown:?}; use 1 to {NAME_BYTES_MAX} printable ASCII characters without blanks");
        return Err(BadRequest::new(KEY.as_str(), said).into());
    }
    Ok(text.to_owned())
}
