//! Calls: shown, and what is asked for them.

use super::answer::{Answer, json};
use super::desk::{Named, command, desk, missing, name, offers_of};
use super::router::App;
use crate::cell::desk::Seen;
use crate::domain::call::{Call, Stage};
use crate::domain::id::{CallId, QueueId};
use crate::wire::problem::Trouble;
use crate::wire::queue_api::{CallInfo, CallVerb, Listed, Query};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;

type Asked = State<Arc<App>>;

/// `GET /v1/calls?queue=…&state=…&limit=…`: by queue, and there those in line first and in their order.
pub(super) async fn all(State(app): Asked, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let mut query = Query::read(request.uri().query())?;
    let queue: Option<QueueId> = query.take("queue")?;
    let state = query.take_word("state", &Stage::WORDS)?;
    let limit = query.take_limit()?;
    query.end()?;
    let seen = desk.look().await?;
    let places = places(&seen);
    let fits = |call: &&Call| {
        queue.as_ref().is_none_or(|queue| *queue == call.queue)
            && state.is_none_or(|state| state == call.stage.as_str())
    };
    let mut found: Vec<&Call> = seen.calls.values().filter(fits).collect();
    found.sort_by_cached_key(|call| {
        let place = places.get(&call.id).copied();
        (call.queue.clone(), place.is_none(), place, call.enqueued, call.id.clone())
    });
    let show = |call: &Call| {
        CallInfo::new(call, places.get(&call.id).copied(), offers_of(&seen, call), seen.head.now)
    };
    Ok(json(StatusCode::OK, &Listed::new(found, limit, show)))
}

/// Where each call stands in its queue, from 1 on.
fn places(seen: &Seen) -> BTreeMap<&CallId, usize> {
    seen.lines.values().flat_map(|line| line.iter().zip(1..)).collect()
}

/// `GET /v1/calls/{id}`
pub(super) async fn one(State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: CallId = name("call", path)?;
    Query::read(request.uri().query())?.end()?;
    let seen = desk.look().await?;
    let call = seen.calls.get(&id).ok_or_else(|| missing(Trouble::NoCall, "call", &id))?;
    let place = seen.line(&call.queue).position(|other| other.id == id).map(|before| before + 1);
    Ok(json(StatusCode::OK, &CallInfo::new(call, place, offers_of(&seen, call), seen.head.now)))
}

/// `POST /v1/calls/{id}/move`
pub(super) async fn move_to(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(CallVerb::Move, app, path, request).await
}

/// `POST /v1/calls/{id}/priority`
pub(super) async fn priority(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(CallVerb::Priority, app, path, request).await
}

/// `POST /v1/calls/{id}/withdraw`
pub(super) async fn withdraw(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(CallVerb::Withdraw, app, path, request).await
}

async fn ask(verb: CallVerb, State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: CallId = name("call", path)?;
    let headers = request.headers().clone();
    let asked = verb.command(id, &app.body.json(request).await?)?;
    command(desk, &headers, &asked).await
}
