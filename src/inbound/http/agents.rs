//! Agents: shown, and what they are asked for.

use super::answer::{Answer, json};
use super::desk::{Named, command, desk, missing, name};
use super::queues::doing;
use super::router::App;
use crate::cell::desk::Seen;
use crate::domain::agent::Agent;
use crate::domain::controller::Command;
use crate::domain::id::{AgentId, QueueId};
use crate::domain::queue::Setup;
use crate::wire::problem::Trouble;
use crate::wire::queue_api::{AgentInfo, AgentVerb, Listed, PhoneInfo, Query, agent_rules};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use std::collections::BTreeSet;
use std::sync::Arc;

type Asked = State<Arc<App>>;

/// `GET /v1/agents?queue=…&state=…&limit=…`
pub(super) async fn all(State(app): Asked, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let mut query = Query::read(request.uri().query())?;
    let queue: Option<QueueId> = query.take("queue")?;
    let state = query.take_word("state", &Agent::WORDS)?;
    let limit = query.take_limit()?;
    query.end()?;
    let seen = desk.look().await?;
    let setup = desk.laid_down(&seen);
    // Who is laid down no longer is there until the last call has ended.
    let everybody: BTreeSet<&AgentId> = setup.agents.keys().chain(seen.agents.keys()).collect();
    let fits = |id: &&AgentId| {
        let now = seen.agents.get(*id).map_or("offline", Agent::word);
        let rules = setup.agents.get(*id);
        state.is_none_or(|state| state == now)
            && queue.as_ref().is_none_or(|queue| rules.is_some_and(|r| r.memberships.contains_key(queue)))
    };
    let found: Vec<&AgentId> = everybody.into_iter().filter(fits).collect();
    Ok(json(StatusCode::OK, &Listed::new(found, limit, |id| info(&setup, &seen, id))))
}

/// `GET /v1/agents/{id}`
pub(super) async fn one(State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: AgentId = name("agent", path)?;
    Query::read(request.uri().query())?.end()?;
    let seen = desk.look().await?;
    let setup = desk.laid_down(&seen);
    if !setup.agents.contains_key(&id) && !seen.agents.contains_key(&id) {
        return Err(missing(Trouble::NoAgent, "agent", &id));
    }
    Ok(json(StatusCode::OK, &info(&setup, &seen, &id)))
}

fn info(setup: &Setup, seen: &Seen, id: &AgentId) -> AgentInfo {
    let rules = setup.agents.get(id);
    let phones = rules.and_then(|rules| seen.phones.get(rules.aor.as_ref())).into_iter().flatten();
    let phones = phones.map(|phone| PhoneInfo {
        proxy: phone.proxy.to_string(),
        at_ms: phone.at.0,
        until_ms: phone.until.0,
    });
    AgentInfo::new(id.to_string(), rules, seen.agents.get(id), doing(seen, id), phones.collect())
}

/// `PUT /v1/agents/{id}`
pub(super) async fn set(State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: AgentId = name("agent", path)?;
    let headers = request.headers().clone();
    let rules = agent_rules(&app.body.json(request).await?)?;
    command(desk, &headers, &Command::SetAgent(id, Box::new(rules))).await
}

/// `DELETE /v1/agents/{id}`
pub(super) async fn remove(State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: AgentId = name("agent", path)?;
    command(desk, request.headers(), &Command::RemoveAgent(id)).await
}

/// `POST /v1/agents/{id}/login`
pub(super) async fn login(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(AgentVerb::Login, app, path, request).await
}

/// `POST /v1/agents/{id}/logout`
pub(super) async fn logout(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(AgentVerb::Logout, app, path, request).await
}

/// `POST /v1/agents/{id}/toggle`
pub(super) async fn toggle(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(AgentVerb::Toggle, app, path, request).await
}

/// `POST /v1/agents/{id}/pause`
pub(super) async fn pause(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(AgentVerb::Pause, app, path, request).await
}

/// `POST /v1/agents/{id}/resume`
pub(super) async fn resume(app: Asked, path: Named, request: Request<Body>) -> Answer {
    ask(AgentVerb::Resume, app, path, request).await
}

async fn ask(verb: AgentVerb, State(app): Asked, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: AgentId = name("agent", path)?;
    let headers = request.headers().clone();
    let asked = verb.command(id, &app.body.json(request).await?)?;
    command(desk, &headers, &asked).await
}
