//! How answers are written.

use crate::dispatch::cell::RegisterError;
use crate::dispatch::nodes::NodeError;
use crate::dispatch::registration::HeartbeatError;
use crate::dispatch::settle::SettleError;
use crate::store::StoreError;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::refusal::{BadRequest, Refusal};
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use tracing::warn;

pub(super) type Answer = Result<Response<Body>, Problem>;

pub(super) const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// A text of a type that is known here.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A value as JSON, on one line.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Only types of ours are answered, and none of them can fail to be written.
    text(status, JSON, serde_json::to_string(value).unwrap_or_default())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = text(status, PROBLEM, self.encode());
        if let Some(s) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 asks for it; RFC 6750 §3 says how.
            let scheme = HeaderValue::from_static("Bearer realm=\"mqs\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<BadRequest> for Problem {
    fn from(bad: BadRequest) -> Problem {
        Refusal::bad_request(bad).into()
    }
}

impl From<StoreError> for Problem {
    /// The cause, which may hold addresses, is for the log only.
    fn from(error: StoreError) -> Problem {
        warn!(%error, "http: the store did not answer");
        unanswered(&error)
    }
}

fn unanswered(error: &StoreError) -> Problem {
    let op = match error {
        StoreError::Timeout { op, .. }
        | StoreError::Away { op, .. }
        | StoreError::Refused { op, .. }
        | StoreError::Damaged { op, .. } => op,
    };
    Problem::new(Trouble::Store, format!("{op}: it may have been done all the same; say it again"))
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Problem {
        match error {
            SettleError::Refused(refusal) => refusal.into(),
            // `dispatch::settle` logged it, with the call.
            SettleError::Store(error) => unanswered(&error),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Problem {
        match error {
            RegisterError::Refused(refusal) => refusal.into(),
            // `dispatch::cell` logged it, with the address-of-record.
            RegisterError::Store(error) => unanswered(&error),
        }
    }
}

impl From<HeartbeatError> for Problem {
    fn from(error: HeartbeatError) -> Problem {
        match error {
            HeartbeatError::Refused(problem) => problem,
            // `dispatch::registration` logged it, with the node.
            HeartbeatError::Store(error) => unanswered(&error),
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Problem {
        let detail = error.to_string();
        match error {
            NodeError::NotThere { .. } => Problem::new(Trouble::NotThere, detail).about("id"),
            NodeError::SameId { .. } => Problem::new(Trouble::SameId, detail).about("id"),
            NodeError::SameUri { .. } => Problem::new(Trouble::SameUri, detail).about("uri"),
            NodeError::Capacity(_) => BadRequest::new("capacity", detail).into(),
            NodeError::Loaded { .. } => Problem::new(Trouble::Loaded, detail).about("id"),
            NodeError::TooMany => Problem::new(Trouble::TooMany, detail),
            NodeError::Busy(_) => Problem::new(Trouble::Busy, detail),
            NodeError::Store(error) => error.into(),
        }
    }
}
