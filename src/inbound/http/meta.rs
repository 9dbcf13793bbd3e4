//! The instance itself: alive, ready, measured, described.

use super::answer::{Answer, JSON, json, text};
use super::router::App;
use crate::clock;
use crate::dispatch::reload::ReloadError;
use crate::dispatch::shown;
use crate::telemetry::metrics::NodeSample;
use crate::wire::api;
use crate::wire::problem::{Problem, Trouble};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long `readyz` waits for the store: shorter than probes wait.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// `GET /healthz`: this process answers.
pub(super) async fn healthz() -> Response<Body> {
    text(StatusCode::OK, JSON, r#"{"alive":true}"#)
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    instance: String,
    store: &'static str,
    pools: usize,
}

/// `GET /readyz`: the store answers, and the nodes of every pool are known.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Answer {
    let (dispatcher, not_ready) = (&app.dispatcher, |why: String| Problem::new(Trouble::NotReady, why));
    let store = dispatcher.store();
    match tokio::time::timeout(READY_WITHIN, store.now()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            // The cause, which may hold addresses, is for the log only.
            tracing::warn!(%error, "http: not ready");
            return Err(not_ready(format!("the store ({}) does not answer", store.kind())));
        }
        Err(_) => {
            let ms = READY_WITHIN.as_millis();
            return Err(not_ready(format!("the store ({}) does not answer within {ms} ms", store.kind())));
        }
    }
    if let Some(pool) = dispatcher.pools().find(|pool| pool.seen().view.version == 0) {
        return Err(not_ready(format!("pool {} was not read from the store yet", pool.id)));
    }
    let instance = dispatcher.settings().instance.clone();
    let pools = dispatcher.pools().count();
    Ok(json(StatusCode::OK, &Ready { ready: true, instance, store: store.kind(), pools }))
}

/// `POST /v1/reload`
pub(super) async fn reload(State(app): State<Arc<App>>, request: Request<Body>) -> Answer {
    let check = api::reload_check(&app.body.json(request).await?)?;
    let done = match &app.reload {
        Some(door) => door.ask(check).await,
        None => Err(ReloadError::Nobody),
    };
    let report = done.map_err(|error| match &error {
        ReloadError::Wrong(text) => Problem::new(Trouble::BadFile, text.clone()),
        ReloadError::Nobody => Problem::new(Trouble::NoFile, error.to_string()),
    })?;
    Ok(json(StatusCode::OK, &report))
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let mut samples = Vec::new();
    for pool in app.dispatcher.pools() {
        let (seen, count) = (pool.seen(), pool.ledger.count(clock::wall()));
        app.dispatcher.metrics().leases(pool.id.as_str(), count.held, count.confirmed);
        samples.extend(shown(&seen.view).map(|(record, loaded)| NodeSample {
            pool: pool.id.to_string(),
            node: record.node.id.to_string(),
            state: record.node.state.as_str(),
            health: record.node.health.condition.as_str(),
            load: loaded.load,
            capacity: record.node.effective_capacity(),
        }));
    }
    text(StatusCode::OK, OPENMETRICS, app.dispatcher.metrics().render(&samples))
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response<Body> {
    text(StatusCode::OK, JSON, include_str!("openapi.json"))
}
