//! Pools and their nodes: shown, added, changed, removed.

use super::answer::{Answer, json};
use super::body::force;
use super::router::App;
use crate::dispatch::listing::NodeInfo;
use crate::dispatch::nodes::{NodeChange, NodeDef, NodePatch};
use crate::domain::id::{NodeId, PoolId};
use crate::domain::node::NodeState;
use crate::wire::api::{self, NodeBody, NodePatchBody};
use crate::wire::ask;
use crate::wire::heartbeat::HeartbeatAsk;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::refusal::BadRequest;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

type Asked = State<Arc<App>>;
type InPool = Result<Path<String>, PathRejection>;
type InNode = Result<Path<(String, String)>, PathRejection>;

/// `GET /v1/nodes`
pub(super) async fn all(State(app): Asked) -> Answer {
    Ok(json(StatusCode::OK, &app.dispatcher.list(None).await?))
}

/// `GET /v1/pools/{pool}/nodes`
pub(super) async fn of_pool(State(app): Asked, path: InPool) -> Answer {
    let pool = pool_name(path)?;
    Ok(json(StatusCode::OK, &app.dispatcher.list(Some(&pool)).await?))
}

/// `GET /v1/pools/{pool}/nodes/{id}`
pub(super) async fn one(State(app): Asked, path: InNode) -> Answer {
    let (pool, id) = node_name(path)?;
    Ok(json(StatusCode::OK, &find(&app, &pool, &id).await?))
}

/// `POST /v1/pools/{pool}/nodes`
pub(super) async fn add(State(app): Asked, path: InPool, request: Request<Body>) -> Answer {
    let pool = pool_name(path)?;
    let NodeBody { id, uri, capacity, zone, tags, state } = api::node_body(&app.body.json(request).await?)?;
    let def = NodeDef { id: id.clone(), uri, capacity, zone, tags, state };
    app.dispatcher.pool(Some(&pool))?.change(&NodeChange::Add(def)).await?;
    let mut response = json(StatusCode::CREATED, &find(&app, &pool, &id).await?);
    // Names are letters, digits, '_' and '-': nothing to escape, and always a header's value.
    if let Ok(place) = HeaderValue::try_from(format!("/v1/pools/{pool}/nodes/{id}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// `PATCH /v1/pools/{pool}/nodes/{id}`
pub(super) async fn change(State(app): Asked, path: InNode, request: Request<Body>) -> Answer {
    let (pool, id) = node_name(path)?;
    let NodePatchBody { uri, capacity, zone, tags, state } = api::node_patch(&app.body.json(request).await?)?;
    let patch = NodePatch { uri, capacity, zone, tags, state };
    app.dispatcher.pool(Some(&pool))?.change(&NodeChange::Set(id.clone(), patch)).await?;
    Ok(json(StatusCode::OK, &find(&app, &pool, &id).await?))
}

/// `DELETE /v1/pools/{pool}/nodes/{id}?force=true`
pub(super) async fn remove(State(app): Asked, path: InNode, request: Request<Body>) -> Answer {
    let (pool, id) = node_name(path)?;
    let force = force(request.uri().query())?;
    app.dispatcher.pool(Some(&pool))?.change(&NodeChange::Remove { id, force }).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// `POST /v1/pools/{pool}/nodes/{id}/heartbeat`
pub(super) async fn heartbeat(State(app): Asked, path: InNode, request: Request<Body>) -> Answer {
    let (pool, id) = node_name(path)?;
    let ask = HeartbeatAsk::from_body(id, &app.body.json(request).await?)?;
    Ok(json(StatusCode::OK, &app.dispatcher.heartbeat(&pool, &ask).await?))
}

/// A pool in the list of pools.
#[derive(Serialize)]
struct PoolInfo {
    name: String,
    /// Lookups that name no pool go here.
    default: bool,
    /// Nodes that were not removed.
    nodes: usize,
    /// Those of them that take new calls.
    active: usize,
    /// Channels of the active nodes.
    capacity: u64,
    /// Live leases, those on removed nodes included.
    load: u64,
    /// The store did not answer: as it was last seen.
    stale: bool,
}

/// `GET /v1/pools`
pub(super) async fn pools(State(app): Asked) -> Answer {
    let nodes = app.dispatcher.list(None).await?;
    let default = app.dispatcher.settings().default_pool.clone();
    let pools = app.dispatcher.pools().map(|pool| summary(&pool.id, pool.id == default, &nodes));
    Ok(json(StatusCode::OK, &pools.collect::<Vec<_>>()))
}

fn summary(pool: &PoolId, default: bool, nodes: &[NodeInfo]) -> PoolInfo {
    let mine = || nodes.iter().filter(|n| n.pool == pool.as_str());
    let active = || mine().filter(|n| n.state == NodeState::Active.as_str());
    PoolInfo {
        name: pool.to_string(),
        default,
        nodes: mine().filter(|n| n.state != NodeState::Removed.as_str()).count(),
        active: active().count(),
        capacity: active().map(|n| u64::from(n.capacity)).sum(),
        load: mine().map(|n| u64::from(n.load)).sum(),
        stale: mine().any(|n| n.stale),
    }
}

async fn find(app: &App, pool: &PoolId, id: &NodeId) -> Result<NodeInfo, Problem> {
    let mut nodes = app.dispatcher.list(Some(pool)).await?.into_iter();
    nodes
        .find(|n| n.id == id.as_str())
        .ok_or_else(|| Problem::new(Trouble::NotThere, format!("pool {pool} has no node {id}")).about("id"))
}

fn pool_name(path: InPool) -> Result<PoolId, Problem> {
    let Path(pool) = path.map_err(not_text)?;
    Ok(ask::value("pool", &pool)?)
}

fn node_name(path: InNode) -> Result<(PoolId, NodeId), Problem> {
    let Path((pool, id)) = path.map_err(not_text)?;
    Ok((ask::value("pool", &pool)?, ask::value("id", &id)?))
}

fn not_text(_: PathRejection) -> BadRequest {
    BadRequest::new("path", "not UTF-8".to_owned())
}
