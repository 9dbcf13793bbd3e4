//! What a request brings: a JSON body of limited size, and a query on the one path that has one.

use crate::wire::attrs::shorten;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::refusal::BadRequest;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::time::Duration;

/// How much, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

impl BodyLimits {
    /// Reads a body that must be JSON. A peer that asked to hear `100 Continue` first (RFC 9110 §10.1.1) hears it here.
    pub(super) async fn json(self, request: Request<Body>) -> Result<Bytes, Problem> {
        check_type(request.headers())?;
        let whole = Limited::new(request.into_body(), self.bytes).collect();
        match tokio::time::timeout(self.time, whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(error)) => {
                Err(BadRequest::new("body", format!("cut off: {}", shorten(&error.to_string()))).into())
            }
            Err(_) => {
                let ms = self.time.as_millis();
                Err(Problem::new(Trouble::Slow, format!("it was not all here after {ms} ms")))
            }
        }
    }

    /// Refuses a body that says beforehand that it is too large.
    pub(super) fn check_length(self, headers: &HeaderMap) -> Result<(), Problem> {
        let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        match said {
            Some(bytes) if usize::try_from(bytes).map_or(true, |n| n > self.bytes) => Err(self.too_large()),
            Some(_) | None => Ok(()),
        }
    }

    fn too_large(self) -> Problem {
        Problem::new(Trouble::TooLarge, format!("at most {} bytes are allowed", self.bytes))
    }
}

/// `application/json`; none at all; and what `curl -d` and libcurl say when nobody told them.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(said) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let said = String::from_utf8_lossy(said.as_bytes());
    let essence = said.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        _ => {
            let detail = format!("{:?}; send application/json", shorten(&said));
            Err(Problem::new(Trouble::MediaType, detail).about("content-type"))
        }
    }
}

/// Reads `force=true` or `force=false`, which is all that a query may say.
pub(super) fn force(query: Option<&str>) -> Result<bool, BadRequest> {
    let mut force = None;
    for part in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let wrong = |reason: String| Err(BadRequest::new(&shorten(key), reason));
        match (key, value) {
            ("force", _) if force.is_some() => return wrong("given twice".to_owned()),
            ("force", "true") => force = Some(true),
            ("force", "false") => force = Some(false),
            ("force", other) => return wrong(format!("{:?}; use true or false", shorten(other))),
            (_, _) => return wrong("unknown parameter; known is force".to_owned()),
        }
    }
    Ok(force.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        assert_eq!(force(None), Ok(false));
        assert_eq!(force(Some("")), Ok(false));
        assert_eq!(force(Some("force=true")), Ok(true));
        for (query, field) in [
            ("force", "force"),
            ("force=1", "force"),
            ("force=true&force=true", "force"),
            ("forced=true", "forced"),
        ] {
            assert_eq!(force(Some(query)).unwrap_err().field, field, "{query}");
        }
    }
}
