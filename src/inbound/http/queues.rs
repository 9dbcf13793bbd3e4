//! Queues, offers, and the cell that they are of.

use super::answer::{Answer, json};
use super::desk::{Named, command, desk, missing, name, offers_of};
use super::router::App;
use crate::cell::desk::Seen;
use crate::domain::agent::Agent;
use crate::domain::call::Stage;
use crate::domain::controller::Command;
use crate::domain::id::{AgentId, CallId, OfferId, QueueId};
use crate::domain::offer::{Offer, OfferStage};
use crate::domain::queue::{QueueRules, Setup};
use crate::store::cell::Look;
use crate::wire::problem::Trouble;
use crate::wire::queue_api::{
    CallInfo, CellInfo, Doing, InboxInfo, LeaderInfo, Listed, MemberInfo, NodeCalls, OfferInfo, Query,
    QueueDetail, QueueInfo, RulesInfo, queue_rules,
};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `GET /v1/queues?limit=…`
pub(super) async fn all(State(app): State<Arc<App>>, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let mut query = Query::read(request.uri().query())?;
    let limit = query.take_limit()?;
    query.end()?;
    let seen = desk.look().await?;
    let setup = desk.laid_down(&seen);
    let mut infos = summaries(&setup, &seen);
    let queues = setup.queues.keys().filter_map(|id| infos.remove(id)).collect();
    Ok(json(StatusCode::OK, &Listed::new(queues, limit, |info: QueueInfo| info)))
}

/// `GET /v1/queues/{id}?limit=…`
pub(super) async fn one(State(app): State<Arc<App>>, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: QueueId = name("queue", path)?;
    let mut query = Query::read(request.uri().query())?;
    let limit = query.take_limit()?;
    query.end()?;
    let seen = desk.look().await?;
    let setup = desk.laid_down(&seen);
    let gone = || missing(Trouble::NoQueue, "queue", &id);
    let rules = setup.queues.get(&id).ok_or_else(gone)?;
    let summary = summaries(&setup, &seen).remove(&id).ok_or_else(gone)?;
    let now = seen.head.now;
    let call = |(place, call)| CallInfo::new(call, Some(place), offers_of(&seen, call), now);
    let detail = QueueDetail {
        summary,
        rules: RulesInfo::new(rules),
        calls: (1..).zip(seen.line(&id)).take(limit).map(call).collect(),
        members: members(&id, &setup, &seen),
    };
    Ok(json(StatusCode::OK, &detail))
}

/// `PUT /v1/queues/{id}`
pub(super) async fn set(State(app): State<Arc<App>>, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: QueueId = name("queue", path)?;
    let headers = request.headers().clone();
    let rules = queue_rules(&app.body.json(request).await?)?;
    command(desk, &headers, &Command::SetQueue(id, Box::new(rules))).await
}

/// `DELETE /v1/queues/{id}`
pub(super) async fn remove(State(app): State<Arc<App>>, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: QueueId = name("queue", path)?;
    command(desk, request.headers(), &Command::RemoveQueue(id)).await
}

fn members(queue: &QueueId, setup: &Setup, seen: &Seen) -> Vec<MemberInfo> {
    let of_queue = |(id, rules)| {
        let rules: &crate::domain::agent::AgentRules = rules;
        let (id, membership): (&AgentId, _) = (id, rules.memberships.get(queue)?);
        let agent = seen.agents.get(id);
        Some(MemberInfo {
            id: id.to_string(),
            doing: doing(seen, id),
            penalty: membership.penalty,
            weight: membership.weight,
            taken: agent.and_then(|agent| agent.taken.get(queue)).copied().unwrap_or(0),
            misses: agent.map_or(0, |agent| agent.misses),
            registered: seen.phones.contains_key(rules.aor.as_ref()),
        })
    };
    setup.agents.iter().filter_map(of_queue).collect()
}

/// What an agent does.
pub(super) fn doing(seen: &Seen, id: &AgentId) -> Doing {
    let agent = seen.agents.get(id);
    let offer = agent.and_then(|agent| agent.state.claim()).and_then(|id| seen.offers.get(id));
    Doing::new(agent, offer, seen.head.now)
}

/// The numbers of all queues; every call and every agent is looked at once.
fn summaries(setup: &Setup, seen: &Seen) -> BTreeMap<QueueId, QueueInfo> {
    let blank = |(id, rules): (&QueueId, &QueueRules)| {
        let waits = seen.line(id).map(|call| seen.head.now.since(call.enqueued));
        let info = QueueInfo {
            id: id.to_string(),
            strategy: rules.matching.strategy.to_string(),
            waiting: seen.lines.get(id).map_or(0, Vec::len),
            waiting_max: rules.waiting_max,
            longest_wait_ms: waits.max(),
            connected: 0,
            mean_wait_ms: None,
            taken: seen.agents.values().filter_map(|agent| agent.taken.get(id)).sum(),
            agents: BTreeMap::new(),
        };
        (id.clone(), info)
    };
    let mut infos: BTreeMap<QueueId, QueueInfo> = setup.queues.iter().map(blank).collect();
    for (id, rules) in &setup.agents {
        let state = seen.agents.get(id).map_or("offline", Agent::word);
        for queue in rules.memberships.keys() {
            if let Some(info) = infos.get_mut(queue) {
                *info.agents.entry(state.to_owned()).or_default() += 1;
            }
        }
    }
    let mut waited: BTreeMap<&QueueId, (u64, u64)> = BTreeMap::new();
    for call in seen.calls.values() {
        match &call.stage {
            Stage::Connected { since, .. } => {
                let (sum, count) = waited.entry(&call.queue).or_default();
                (*sum, *count) = (*sum + since.since(call.enqueued), *count + 1);
            }
            Stage::Connecting { .. } => {}
            Stage::Waiting | Stage::Offered { .. } | Stage::Treated { .. } | Stage::Ending { .. } => continue,
        }
        if let Some(info) = infos.get_mut(&call.queue) {
            info.connected += 1;
        }
    }
    for (queue, (sum, count)) in waited {
        if let Some(info) = infos.get_mut(queue) {
            info.mean_wait_ms = sum.checked_div(count);
        }
    }
    infos
}

/// `GET /v1/offers?queue=…&agent=…&call=…&state=…&limit=…`
pub(super) async fn offers(State(app): State<Arc<App>>, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let mut query = Query::read(request.uri().query())?;
    let queue: Option<QueueId> = query.take("queue")?;
    let agent: Option<AgentId> = query.take("agent")?;
    let call: Option<CallId> = query.take("call")?;
    let state = query.take_word("state", &OfferStage::WORDS)?;
    let limit = query.take_limit()?;
    query.end()?;
    let seen = desk.look().await?;
    let fits = |offer: &&Offer| {
        queue.as_ref().is_none_or(|queue| *queue == offer.queue)
            && agent.as_ref().is_none_or(|agent| *agent == offer.agent)
            && call.as_ref().is_none_or(|call| *call == offer.call)
            && state.is_none_or(|state| state == offer.stage.as_str())
    };
    let found: Vec<&Offer> = seen.offers.values().filter(fits).collect();
    Ok(json(StatusCode::OK, &Listed::new(found, limit, OfferInfo::new)))
}

/// `GET /v1/offers/{id}`
pub(super) async fn offer(State(app): State<Arc<App>>, path: Named, request: Request<Body>) -> Answer {
    let desk = desk(&app)?;
    let id: OfferId = name("offer", path)?;
    Query::read(request.uri().query())?.end()?;
    let seen = desk.look().await?;
    let offer = seen.offers.get(&id).ok_or_else(|| missing(Trouble::NoOffer, "offer", &id))?;
    Ok(json(StatusCode::OK, &OfferInfo::new(offer)))
}

/// `GET /v1/cell`
pub(super) async fn cell(State(app): State<Arc<App>>) -> Answer {
    let desk = desk(&app)?;
    let seen = desk.look().await?;
    let setup = desk.laid_down(&seen);
    let Look { now, leader, epoch, seq, cursor, sent, told, whole, .. } = &seen.head;
    let counts = [
        ("queues", setup.queues.len()),
        ("agents", setup.agents.len()),
        ("calls", seen.calls.len()),
        ("waiting", seen.lines.values().map(Vec::len).sum()),
        ("offers", seen.offers.len()),
    ];
    let info = CellInfo {
        id: desk.cell().to_string(),
        now_ms: now.0,
        leader: leader.as_ref().map(|leader| LeaderInfo {
            holder: leader.holder.clone(),
            epoch: leader.epoch,
            left_ms: leader.left_ms,
        }),
        epoch: *epoch,
        seq: *seq,
        whole: *whole,
        inbox: InboxInfo { sent: sent.0, done: cursor.0 },
        outbox: told.0,
        counts: counts.into_iter().map(|(what, number)| (what.to_owned(), number)).collect(),
        damaged: seen.damaged,
        nodes: nodes(&seen),
    };
    Ok(json(StatusCode::OK, &info))
}

fn nodes(seen: &Seen) -> Vec<NodeCalls> {
    let mut nodes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for call in seen.calls.values() {
        nodes.entry(call.channel.node.as_str()).or_default().0 += 1;
    }
    for offer in seen.offers.values() {
        nodes.entry(offer.leg.node.as_str()).or_default().1 += 1;
    }
    nodes.into_iter().map(|(id, (calls, legs))| NodeCalls { id: id.to_owned(), calls, legs }).collect()
}
