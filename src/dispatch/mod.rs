//! Floor 3: a lookup's life, from the question to the lease's end.
//!
//! * [`Dispatcher`]: the whole of it, for whoever brings questions
//! * [`settings`]: what the configuration says · [`seen`]: a pool as it was last seen · [`batch`]: lookups that travel together
//! * [`decision`]: what was answered and why · [`degraded`]: answers while the store is away · [`breaker`]: when not to wait for it
//! * [`health`]: what calls and probes tell of nodes
//! * [`cell`]: whether a leg may ring an agent, and who is registered where · [`repair`]: leases against what a node says that it has
//! * [`ledger`]: the leases that this instance answered for, for a store that forgets
//! * [`reload`]: asking for the configuration to be read again · [`live`]: what that changes, and how
//! * [`nodes`]: nodes from the file and at run time · [`discovery`]: nodes that the DNS names · [`registration`]: nodes that register themselves
//! * [`listing`]: nodes as they are shown · [`steward`]: what happens each second

pub mod batch;
pub mod breaker;
pub mod cell;
pub mod decision;
pub mod degraded;
pub mod discovery;
pub mod health;
pub mod ledger;
mod line;
pub mod listing;
pub mod live;
pub mod nodes;
mod own_call;
pub mod registration;
pub mod reload;
pub mod repair;
pub mod seen;
pub mod settings;
pub mod settle;
pub mod steward;

use crate::clock::{self, Stopwatch};
use crate::domain::admission::{Reached, Scope};
use crate::domain::id::{LeaseId, PoolId, Slot, Tenant};
use crate::domain::node::Node;
use crate::domain::pool::{Kind, Lookup, NoPick};
use crate::store::{Answer, Pick, Sticky, Store, StoreError, View};
use crate::telemetry::metrics::Metrics;
use crate::wire::ask::RouteAsk;
use crate::wire::offer_token::OfferToken;
use crate::wire::refusal::{Refusal, RefusalWord};
use crate::wire::rtjson::{Document, Target};
use crate::wire::token::{Token, lease_id, leg_lease, sticky_id};
use arc_swap::{ArcSwap, Guard};
use decision::{Decision, Outcome};
use live::{Live, Wanted};
use seen::{Pool, Seen};
use settings::Settings;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{debug, info, warn};

/// Answers lookups. One in a process; share it by `Arc`.
pub struct Dispatcher {
    live: ArcSwap<Live>,
    wanted: tokio::sync::Mutex<Wanted>,
    /// The nodes of the file are in the store.
    seeded: AtomicBool,
    store: Arc<dyn Store>,
    decisions: decision::Ring,
    metrics: Arc<Metrics>,
    /// This instance is the steward, as far as it knows.
    steward: AtomicBool,
    cell: OnceLock<cell::Cell>,
    censuses: repair::Censuses,
}

/// A route, and what led to it.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The route document, on one line.
    pub document: String,
    /// The targets in it, best first.
    pub targets: Vec<NamedTarget>,
    /// What led to it.
    pub decision: Arc<Decision>,
}

/// What came of asking one pool.
enum Chosen {
    /// These targets of it.
    Here(Vec<Slot>, Outcome),
    /// This pool answers.
    Overflow(Arc<Pool>),
}

/// A target of a route.
#[derive(Clone, Debug)]
pub struct NamedTarget {
    /// The node.
    pub node: Arc<Node>,
    /// Its signed token.
    pub token: String,
}

impl Dispatcher {
    /// Makes a dispatcher over a store. [`Dispatcher::start`] reads and seeds the pools.
    pub fn new(settings: Settings, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Arc<Dispatcher> {
        let decisions = decision::Ring::new(settings.decisions_kept);
        let live = Live::new(settings, |id, settings, patience| {
            Pool::new(id, settings, patience, store.clone(), metrics.clone())
        });
        Arc::new(Dispatcher {
            live: ArcSwap::from_pointee(live),
            wanted: tokio::sync::Mutex::default(),
            seeded: AtomicBool::new(false),
            decisions,
            store,
            metrics,
            steward: AtomicBool::new(false),
            cell: OnceLock::new(),
            censuses: repair::Censuses::default(),
        })
    }

    /// What the configuration said last.
    pub fn settings(&self) -> Arc<Settings> {
        self.live().settings.clone()
    }

    fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether this instance is the steward, as far as it knows.
    pub fn is_steward(&self) -> bool {
        self.steward.load(Ordering::Relaxed)
    }

    /// All pools of the configuration.
    pub fn pools(&self) -> impl Iterator<Item = Arc<Pool>> + use<> {
        self.live().pools.values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// The pool of this name, or the first of the configuration.
    pub fn pool(&self, name: Option<&PoolId>) -> Result<Arc<Pool>, Refusal> {
        let live = self.live();
        let name = name.unwrap_or(&live.settings.default_pool);
        live.pools.get(name).cloned().ok_or_else(|| Refusal::no_pool(name.as_str()))
    }

    /// Answers a lookup, and leases the first target. The same lookup again has the same answer.
    pub async fn route(&self, ask: &RouteAsk, via: &'static str) -> Result<Routed, Refusal> {
        self.answer(ask, via, true).await
    }

    /// The same for who has no use for a document.
    pub async fn route_to_targets(
        &self,
        ask: &RouteAsk,
        via: &'static str,
    ) -> Result<Vec<NamedTarget>, Refusal> {
        self.answer(ask, via, false).await.map(|routed| routed.targets)
    }

    async fn answer(&self, ask: &RouteAsk, via: &'static str, documented: bool) -> Result<Routed, Refusal> {
        let clock = Stopwatch::start();
        let (answered, named) = match self.offered(ask) {
            Ok(None) => (self.route_in_pool(ask, &clock, Duration::ZERO, documented).await, None),
            Ok(Some((named, token))) => {
                (self.route_leg(&named, &token, &clock, documented).await, Some(named))
            }
            Err(refusal) => (Err(refusal), None),
        };
        let ask = named.as_ref().unwrap_or(ask);
        let live = self.live();
        let pool = ask.pool.as_ref().unwrap_or(&live.settings.default_pool).as_str();
        let result = match &answered {
            Ok(routed) => routed.decision.outcome.as_str(),
            Err(refusal) => decision::result_word(refusal.word),
        };
        // A name that no pool has must not make a line of its own in the metrics.
        let known = if live.pools.keys().any(|id| id.as_str() == pool) { pool } else { "" };
        self.metrics.lookup(known, result, via, clock.elapsed());
        answered
    }

    /// The leg of an offer: rings if the store says so, and is then counted like any leg.
    async fn route_leg(
        &self,
        ask: &RouteAsk,
        token: &OfferToken,
        clock: &Stopwatch,
        documented: bool,
    ) -> Result<Routed, Refusal> {
        let pool = self.pool(ask.pool.as_ref())?;
        let deadline = Duration::from_millis(self.live().settings.pick_deadline_ms);
        if let Err(refusal) = self.redeem(ask, token, deadline).await {
            let lease = lease_of(ask, &pool);
            let lookup = self.lookup(ask, &pool);
            self.keep(ask, &pool, &lookup, lease, &[], Outcome::Refused(refusal.word), clock);
            return Err(refusal);
        }
        // The pool's own code is for callers; 480 would say that the agent is not registered.
        let routed = self.route_in_pool(ask, clock, clock.elapsed(), documented).await;
        routed.map_err(|refusal| Refusal { sip_code: 503, ..refusal })
    }

    async fn route_in_pool(
        &self,
        ask: &RouteAsk,
        clock: &Stopwatch,
        spent: Duration,
        documented: bool,
    ) -> Result<Routed, Refusal> {
        let first = self.pool_for(ask)?;
        let mut pool = first.clone();
        let (lookup, seen, lease, targets, outcome) = loop {
            let (lookup, seen) = (self.lookup(ask, &pool), pool.seen());
            let lease = lease_of(ask, &pool);
            match self.choose(ask, &pool, &seen, &lookup, lease, spent).await {
                Ok(Chosen::Here(targets, outcome)) => break (lookup, seen, lease, targets, outcome),
                Ok(Chosen::Overflow(next)) => {
                    debug!(call_id = %ask.call_id, pool = %pool.id, into = %next.id, "overflows");
                    self.metrics.admission().overflowed(pool.id.as_str(), next.id.as_str());
                    pool = next;
                }
                Err(why) => {
                    // The pool that was asked speaks to the caller, whichever pool had the last word.
                    let refusal = self.refusal(&first, why, &lookup, ask);
                    self.keep(ask, &pool, &lookup, lease, &[], Outcome::Refused(refusal.word), clock);
                    if let NoPick::Limit { tenant, reached } = why {
                        self.metrics.admission().refused(pool.id.as_str(), tenant, reached.as_str());
                    }
                    info!(
                        call_id = %ask.call_id, pool = %pool.id, word = refusal.word.as_str(),
                        tenant = ask.tenant.as_ref().map(Tenant::as_str), "refused"
                    );
                    return Err(refusal);
                }
            }
        };
        if targets.iter().any(|slot| seen.view.at_slot(*slot).is_none()) {
            // Somebody added a node a moment ago: look again before naming it. If that fails, the ones that are known remain.
            let _ = pool.refresh().await;
        }
        let Some((document, named)) = self.document(ask, &pool, lease, &targets, outcome, documented) else {
            return Err(self.refusal(&first, NoPick::NoNode, &lookup, ask));
        };
        let decision = self.keep(ask, &pool, &lookup, lease, &targets, outcome, clock);
        debug!(call_id = %ask.call_id, %lease, pool = %pool.id, node = decision.first_node(), outcome = outcome.as_str(), "routed");
        Ok(Routed { document, targets: named, decision })
    }

    /// Asks the store; without an answer that can be believed, chooses here. What was `spent` before is missing from the time for it.
    async fn choose(
        &self,
        ask: &RouteAsk,
        pool: &Pool,
        seen: &Seen,
        lookup: &Lookup,
        lease: LeaseId,
        spent: Duration,
    ) -> Result<Chosen, NoPick> {
        let rules = &pool.settings.rules.choose;
        let fallbacks = seen.ranked(lookup, rules).order.clone();
        let mut pick = Pick { fallbacks, ..self.wish(ask, pool, lookup, lease) };
        let overflow = self.overflow(pool, lookup);
        let (clock, deadline) =
            (Stopwatch::start(), Duration::from_millis(self.live().settings.pick_deadline_ms));
        let left = || deadline.saturating_sub(spent + clock.elapsed());
        let mut said = pool.pick(pick.clone(), left()).await;
        if matches!(said, Ok(Answer::Refused(NoPick::Full))) && pool.make_room(left()).await {
            said = pool.pick(pick.clone(), left()).await;
        }
        if matches!(said, Ok(Answer::Refused(NoPick::Full | NoPick::NoNode))) && overflow.is_some() {
            pick.overflows = true;
            said = pool.pick(pick, left()).await;
        }
        match said {
            Ok(Answer::Leased(slots)) => {
                self.remember(pool, lease, &slots);
                return Ok(Chosen::Here(slots, Outcome::Routed));
            }
            Ok(Answer::Repeat(slots)) => return Ok(Chosen::Here(slots, Outcome::Repeat)),
            Ok(Answer::Overflow) => return overflow.map(Chosen::Overflow).ok_or(NoPick::Full),
            // A store that was just started, or lost its memory, does not know the nodes yet that this instance knows.
            Ok(Answer::Refused(NoPick::NoNode)) if seen.is_assumed() => {}
            Ok(Answer::Refused(why)) => return Err(why),
            Err(error) => {
                warn!(call_id = %ask.call_id, %lease, pool = %pool.id, %error, "answering without the store")
            }
        }
        match (pool.degraded.answer(lease, &seen.view, lookup, rules, clock::wall()), overflow) {
            (Ok(slots), _) => {
                self.remember(pool, lease, &slots);
                Ok(Chosen::Here(slots, Outcome::Degraded))
            }
            (Err(_), Some(next)) => Ok(Chosen::Overflow(next)),
            (Err(why), None) => Err(why),
        }
    }

    /// What the store is asked for, without fallbacks.
    fn wish(&self, ask: &RouteAsk, pool: &Pool, lookup: &Lookup, lease: LeaseId) -> Pick {
        let plain = Pick::plain(lease, lookup.clone(), Vec::new());
        // The caller of an agent's leg is counted already; an emergency call is not refused.
        if lookup.kind == Kind::Agent || lookup.emergency {
            return plain;
        }
        let sticky = ask
            .sticky
            .as_ref()
            .map(|key| Sticky { id: sticky_id(&pool.id, key), keep_ms: pool.settings.sticky_ms });
        Pick { admit: pool.settings.limits.of(ask.tenant.as_ref()), sticky, ..plain }
    }

    /// Where a lookup goes that this pool refuses.
    fn overflow(&self, pool: &Pool, lookup: &Lookup) -> Option<Arc<Pool>> {
        let next = pool.settings.overflow.as_ref().filter(|_| lookup.kind != Kind::Agent)?;
        self.live().pools.get(next).cloned()
    }

    fn remember(&self, pool: &Pool, lease: LeaseId, targets: &[Slot]) {
        let dropped = pool.ledger.answered(lease, targets, pool.settings.rules.life, clock::wall());
        self.metrics.ledger_dropped(dropped);
    }

    /// What [`Dispatcher::route`] would answer now, with every node; nothing is leased.
    pub async fn explain(&self, ask: &RouteAsk) -> Result<Decision, Refusal> {
        let clock = Stopwatch::start();
        let named = self.offered(ask)?.map(|(named, _)| named);
        let ask = named.as_ref().unwrap_or(ask);
        let first = self.pool_for(ask)?;
        let mut pool = first.clone();
        let (lookup, fresh, seen, mut picked) = loop {
            let lookup = self.lookup(ask, &pool);
            // The newest view that is to be had; the last one while the store is away.
            let fresh = !pool.is_cut_off() && pool.refresh().await.is_ok();
            let seen = pool.seen();
            let picked = crate::domain::pool::pick(&seen.view.loaded, &lookup, &pool.settings.rules.choose);
            match (&picked.targets, self.overflow(&pool, &lookup)) {
                (Err(_), Some(next)) => pool = next,
                (Ok(_), _) | (_, None) => break (lookup, fresh, seen, picked),
            }
        };
        let lease = lease_of(ask, &pool);
        if let Some(reached) = self.limit_reached(ask, &pool, &lookup, lease).await {
            picked.targets = Err(reached);
        }
        let (targets, outcome) = match &picked.targets {
            Ok(order) => {
                let slots =
                    order.iter().filter_map(|i| seen.view.loaded.get(*i)).map(|n| n.node.slot).collect();
                (slots, if fresh { Outcome::Routed } else { Outcome::Degraded })
            }
            Err(why) => (Vec::new(), Outcome::Refused(self.refusal(&first, *why, &lookup, ask).word)),
        };
        let mut decision = self.decide(ask, &pool, &lookup, lease, &targets, outcome, &clock);
        decision.dry = true;
        decision.nodes =
            Some(decision::table(&seen.view, &picked.verdicts, &lookup, &pool.settings.rules.choose));
        Ok(decision)
    }

    /// The limit that one call more would exceed now.
    async fn limit_reached(
        &self,
        ask: &RouteAsk,
        pool: &Pool,
        lookup: &Lookup,
        lease: LeaseId,
    ) -> Option<NoPick> {
        let wish = self.wish(ask, pool, lookup, lease);
        if wish.admit.is_empty() || pool.is_cut_off() {
            return None;
        }
        let scopes: Vec<Scope> = wish.admit.iter().map(|admit| admit.scope.clone()).collect();
        let (used, now) = (pool.usage(&scopes).await.ok()?, pool.seen().store_clock());
        wish.admit.iter().zip(used).find_map(|(admit, used)| {
            let reached = used.admits(&admit.limit, now).err()?;
            Some(NoPick::Limit { tenant: admit.scope != Scope::Pool, reached })
        })
    }

    /// The decision that was made for this Call-ID, if this instance made it and still has it.
    pub fn decision(&self, call_id: &str) -> Result<Arc<Decision>, Refusal> {
        self.decisions.get(call_id).ok_or_else(|| {
            let kept = self.live().settings.decisions_kept;
            Refusal::unknown(format!(
                "this instance has no decision for that Call-ID; it keeps the last {kept}"
            ))
        })
    }

    fn pool_for(&self, ask: &RouteAsk) -> Result<Arc<Pool>, Refusal> {
        match self.pool(ask.pool.as_ref()) {
            // An emergency call is not refused because a script names a pool that is not there.
            Err(_) if self.is_emergency(ask) => self.pool(None),
            found => found,
        }
    }

    fn is_emergency(&self, ask: &RouteAsk) -> bool {
        let uri = &ask.request_uri;
        ask.kind != Kind::Agent
            && (uri.is_emergency_urn() || self.live().settings.emergency_numbers.contains(uri.subject()))
    }

    fn lookup(&self, ask: &RouteAsk, pool: &Pool) -> Lookup {
        Lookup {
            kind: ask.kind,
            zone: ask.zone.clone().or_else(|| self.live().settings.zone.clone()),
            tags: ask.tags.clone(),
            exclude: ask.exclude.clone(),
            node: ask.node.clone(),
            emergency: self.is_emergency(ask),
            targets_max: ask.targets_max.unwrap_or(pool.settings.rules.choose.targets_max),
        }
    }

    fn refusal(&self, pool: &Pool, why: NoPick, lookup: &Lookup, ask: &RouteAsk) -> Refusal {
        let word = match why {
            NoPick::Full => RefusalWord::Full,
            NoPick::NoNode => RefusalWord::NoNode,
            NoPick::Limit { .. } => RefusalWord::Limit,
        };
        let mut reason = format!("pool {}: {}", pool.id, word.title());
        let mut retry_after_s = pool.settings.retry_after_s;
        match (why, lookup.kind, &lookup.node, &ask.tenant) {
            (NoPick::NoNode, Kind::Agent, Some(node), _) => {
                reason = format!("pool {}: there is no node {node}", pool.id);
            }
            (NoPick::Limit { tenant, reached }, _, _, name) => {
                let whose = match name.as_ref().filter(|_| tenant) {
                    Some(tenant) => format!("pool {}: tenant {tenant}", pool.id),
                    None => format!("pool {}", pool.id),
                };
                reason = match reached {
                    Reached::Calls => format!("{whose}: the limit of calls at once is reached"),
                    Reached::Rate { wait_ms } => {
                        retry_after_s = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX);
                        format!("{whose}: the limit of calls a second is reached")
                    }
                };
            }
            (NoPick::Full | NoPick::NoNode, ..) => {}
        }
        let (sip_code, retry_after_s) = (pool.settings.refuse_code, Some(retry_after_s));
        Refusal { word, sip_code, retry_after_s, field: None, reason }
    }

    fn document(
        &self,
        ask: &RouteAsk,
        pool: &Pool,
        lease: LeaseId,
        slots: &[Slot],
        outcome: Outcome,
        documented: bool,
    ) -> Option<(String, Vec<NamedTarget>)> {
        let (live, seen) = (self.live(), pool.seen());
        let issued = seen.store_clock();
        // The index in `routes` is the attempt, so a slot that was not seen yet ends the list rather than leave a gap.
        let nodes: Vec<Arc<Node>> =
            slots.iter().map_while(|s| seen.view.at_slot(*s)).map(|n| n.node.clone()).collect();
        let token = |(attempt, node): (u8, &Arc<Node>)| {
            Token { pool: pool.id.clone(), node: node.id.clone(), lease, attempt, issued }
                .sign(&live.settings.secret)
        };
        let tokens: Vec<String> = (0u8..).zip(&nodes).map(token).collect();
        let mut targets = Vec::with_capacity(nodes.len());
        for (node, token) in nodes.iter().zip(&tokens) {
            let uri = (ask.kind != Kind::Agent).then_some(&node.uri);
            targets.push(Target { node: &node.id, uri, token });
        }
        if targets.is_empty() {
            return None;
        }
        let document = Document {
            pool: &pool.id,
            lease,
            targets,
            extras: &pool.settings.extras,
            request_uri: &ask.request_uri,
            degraded: outcome == Outcome::Degraded,
            repeat: outcome == Outcome::Repeat,
        };
        let text = if documented { document.encode() } else { String::new() };
        let named = nodes.into_iter().zip(tokens).map(|(node, token)| NamedTarget { node, token });
        Some((text, named.collect()))
    }

    #[allow(clippy::too_many_arguments)]
    fn keep(
        &self,
        ask: &RouteAsk,
        pool: &Pool,
        lookup: &Lookup,
        lease: LeaseId,
        targets: &[Slot],
        outcome: Outcome,
        clock: &Stopwatch,
    ) -> Arc<Decision> {
        let decision = Arc::new(self.decide(ask, pool, lookup, lease, targets, outcome, clock));
        // A repeat adds nothing to what the first answer said.
        if outcome != Outcome::Repeat || self.decisions.get(ask.call_id.as_str()).is_none() {
            self.decisions.put(lease, decision.clone());
        }
        decision
    }

    #[allow(clippy::too_many_arguments)]
    fn decide(
        &self,
        ask: &RouteAsk,
        pool: &Pool,
        lookup: &Lookup,
        lease: LeaseId,
        targets: &[Slot],
        outcome: Outcome,
        clock: &Stopwatch,
    ) -> Decision {
        let seen = pool.seen();
        let rules = &pool.settings.rules.choose;
        let ranked = seen.ranked(lookup, rules);
        let named = |slot: &Slot| {
            let node = &seen.view.at_slot(*slot)?.node;
            Some(decision::Named { node: node.id.to_string(), uri: node.uri.to_string() })
        };
        let table = || decision::table_around(&seen.view, targets, lookup, rules);
        Decision {
            call_id: ask.call_id.to_string(),
            request_uri: ask.request_uri.as_str().to_owned(),
            source: ask.source.clone(),
            kind: ask.kind.as_str(),
            pool: pool.id.to_string(),
            zone: lookup.zone.as_ref().map(ToString::to_string),
            emergency: lookup.emergency,
            at_ms: clock::wall().0,
            took_us: clock.micros(),
            lease: lease.to_string(),
            outcome,
            targets: targets.iter().filter_map(named).collect(),
            reasons: ranked.reasons.clone(),
            dry: false,
            nodes: (ask.explain || sampled(lease)).then(table),
        }
    }
}

/// One decision in 256 keeps its whole table without being asked: drawn by the lease's id, so a repeat is drawn alike.
fn sampled(lease: LeaseId) -> bool {
    lease.0.first() == Some(&0)
}

/// Why a store did not answer in time, as a word for metrics.
pub(crate) fn error_word(error: &StoreError) -> &'static str {
    match error {
        StoreError::Timeout { .. } => "timeout",
        StoreError::Away { .. } => "away",
        StoreError::Refused { .. } => "refused",
        StoreError::Damaged { .. } => "damaged",
    }
}

/// The lease of a lookup: the same lookup has the same one.
fn lease_of(ask: &RouteAsk, pool: &Pool) -> LeaseId {
    match &ask.leg {
        Some(leg) => leg_lease(&pool.id, leg),
        None => lease_id(&pool.id, ask.call_id.as_str(), &ask.from_tag, ask.cseq, ask.kind),
    }
}

/// The nodes of a view that people are shown: removed ones only while they still carry calls.
pub fn shown(view: &View) -> impl Iterator<Item = (&crate::store::NodeRecord, &crate::domain::pool::Loaded)> {
    use crate::domain::node::NodeState;
    view.nodes.iter().zip(&view.loaded).filter(|(r, n)| r.node.state != NodeState::Removed || n.load > 0)
}
