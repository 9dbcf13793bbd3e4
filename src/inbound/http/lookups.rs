//! Lookups and what becomes of them.

use super::answer::{Answer, JSON, json, text};
use super::router::App;
use crate::dispatch::settle::{Report, Verb};
use crate::wire::api::{self, SettleAsk};
use crate::wire::ask::CallId;
use crate::wire::own_call::OwnCallAsk;
use crate::wire::problem::Problem;
use crate::wire::refusal::BadRequest;
use crate::wire::register::RegisterAsk;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::sync::Arc;

type Asked = State<Arc<App>>;

/// `POST /v1/route`
pub(super) async fn route(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = api::route_ask(&app.body.json(request).await?)?;
    let routed = app.dispatcher.route(&ask, "http").await?;
    Ok(text(StatusCode::OK, JSON, routed.document))
}

/// `POST /v1/explain`
pub(super) async fn explain(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = api::route_ask(&app.body.json(request).await?)?;
    let decision = app.dispatcher.explain(&ask).await?;
    Ok(json(StatusCode::OK, &decision))
}

/// `GET /v1/decisions/{call_id}`
pub(super) async fn decision(State(app): Asked, request: Request<Body>) -> Answer {
    let raw = request.uri().path().strip_prefix("/v1/decisions/").unwrap_or("");
    let not_text = |_| BadRequest::new("call_id", "not UTF-8".to_owned());
    let call_id: CallId = percent_decode_str(raw).decode_utf8().map_err(not_text)?.parse()?;
    let decision = app.dispatcher.decision(call_id.as_str())?;
    Ok(json(StatusCode::OK, &*decision))
}

/// `POST /v1/confirm`
pub(super) async fn confirm(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = api::confirm_ask(&app.body.json(request).await?)?;
    settle(&app, Verb::Confirm, &ask).await
}

/// `POST /v1/fail`
pub(super) async fn fail(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = api::fail_ask(&app.body.json(request).await?)?;
    settle(&app, Verb::Fail, &ask).await
}

/// `POST /v1/done`
pub(super) async fn done(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = api::done_ask(&app.body.json(request).await?)?;
    settle(&app, Verb::Done, &ask).await
}

/// `POST /v1/registrations`
pub(super) async fn register(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = RegisterAsk::from_body(&app.body.json(request).await?)?;
    app.dispatcher.register(&ask).await.map_err(Problem::from)?;
    Ok(json(StatusCode::OK, &Noted { result: "ok" }))
}

/// `POST /v1/own-calls`
pub(super) async fn own_call(State(app): Asked, request: Request<Body>) -> Answer {
    let ask = OwnCallAsk::from_body(&app.body.json(request).await?)?;
    app.dispatcher.own_call(&ask).await.map_err(Problem::from)?;
    Ok(json(StatusCode::OK, &Noted { result: "ok" }))
}

#[derive(Serialize)]
struct Noted {
    result: &'static str,
}

async fn settle(app: &App, verb: Verb, ask: &SettleAsk) -> Answer {
    let report = app.dispatcher.settle(verb, &ask.token, ask.branch).await.map_err(Problem::from)?;
    Ok(json(StatusCode::OK, &Settled::from(&report)))
}

#[derive(Serialize)]
struct Settled<'a> {
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

impl<'a> From<&'a Report> for Settled<'a> {
    fn from(report: &'a Report) -> Settled<'a> {
        let moved = report.moved.as_ref();
        Settled {
            result: report.result,
            attempt: moved.map(|(attempt, _)| *attempt),
            node: moved.map(|(_, node)| node.as_str()),
        }
    }
}
