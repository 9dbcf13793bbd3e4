//! `CONFIRM`, `FAIL` and `DONE`: what the proxy reports of a lease that it holds a token of.

use super::Dispatcher;
use super::seen::Pool;
use crate::clock;
use crate::domain::health::Evidence;
use crate::domain::id::{NodeId, Slot};
use crate::domain::lease::{Settle, Settled};
use crate::store::{SettleOne, StoreError};
use crate::wire::ask::BranchAsk;
use crate::wire::refusal::Refusal;
use crate::wire::token::Token;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// The three verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The node was heard.
    Confirm,
    /// A branch failed.
    Fail,
    /// The dialog is over.
    Done,
}

impl Verb {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Confirm => "confirm",
            Verb::Fail => "fail",
            Verb::Done => "done",
        }
    }
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `confirmed`, `already`, `adopted`, `moved`, `ended`, `stale`, `gone`.
    pub result: &'static str,
    /// Where it moved to: index of the target, and the node's name.
    pub moved: Option<(u8, String)>,
}

/// Why nothing was reported.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SettleError {
    /// The question is wrong.
    #[error("{0}")]
    Refused(Refusal),
    /// The store did not answer: keep the verb and say it again.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Dispatcher {
    /// Applies a verb to the lease that a token names.
    pub async fn settle(&self, verb: Verb, token: &str, ask: BranchAsk) -> Result<Report, SettleError> {
        let refused = |refusal| SettleError::Refused(refusal);
        let token = Token::verify(token, &self.live().settings.secret)
            .map_err(|e| refused(Refusal::bad_token(&e.to_string())))
            .inspect_err(|_| self.metrics.settle(verb.as_str(), "badtoken"))?;
        let pool = &self.pool_of_lease(&token.pool).map_err(refused)?;
        let applied = self.verb(verb, &token, ask, pool);
        let one = SettleOne { lease: token.lease, verb: applied.clone() };
        let deadline = Duration::from_millis(self.live().settings.settle_deadline_ms());
        let settled = pool.settle(one, deadline).await;
        let (said, life) = (settled.as_ref().ok(), pool.settings.rules.life);
        self.metrics.ledger_dropped(pool.ledger.told(token.lease, &applied, said, life, clock::wall()));
        let settled = settled.inspect_err(|error| {
            self.metrics.settle(verb.as_str(), "error");
            // Another instance's call has no Call-ID here: the lease leads to it, in that one's log.
            let call_id = self.decisions.call_of(token.lease);
            warn!(call_id, lease = %token.lease, verb = verb.as_str(), %error, "not settled");
        })?;
        if let Settled::Moved { slot, .. } = settled
            && pool.seen().view.at_slot(slot).is_none()
        {
            // The node is newer than the last view: look again before naming it.
            let _ = pool.refresh().await;
        }
        if let Some(evidence) = evidence(verb, ask, &settled)
            && let Some(node) = self.node_of(&token, ask)
        {
            pool.notice(&node, &evidence);
        }
        let report = report(pool, &settled);
        self.metrics.settle(verb.as_str(), report.result);
        debug!(call_id = self.decisions.call_of(token.lease), lease = %token.lease, verb = verb.as_str(), code = ask.code, result = report.result, "settled");
        Ok(report)
    }

    /// The node that a branch went to: the token's, or another target of the same answer.
    fn node_of(&self, token: &Token, ask: BranchAsk) -> Option<NodeId> {
        let branch = ask.branch.unwrap_or(token.attempt);
        if branch == token.attempt {
            return Some(token.node.clone());
        }
        self.decisions.target_of(token.lease, branch)?.parse().ok()
    }

    fn verb(&self, verb: Verb, token: &Token, ask: BranchAsk, pool: &Arc<Pool>) -> Settle {
        let branch = ask.branch.unwrap_or(token.attempt);
        match verb {
            Verb::Confirm => Settle::Confirm {
                branch,
                slot: if branch == token.attempt { slot_of(pool, token) } else { None },
                latest: token.issued + pool.settings.rules.life.call_max_ms,
            },
            Verb::Fail => Settle::Fail { branch },
            Verb::Done => Settle::Done,
        }
    }
}

/// What a verb tells of the node that it is about. What is too late to change a lease is too old to tell anything.
fn evidence(verb: Verb, ask: BranchAsk, settled: &Settled) -> Option<Evidence> {
    let late = matches!(settled, Settled::Stale | Settled::Gone);
    match (verb, ask.code) {
        (Verb::Done, _) => None,
        _ if late => None,
        (Verb::Confirm, _) => Some(Evidence::Answered),
        (Verb::Fail, Some(0)) => Some(Evidence::Silent("it could not be reached")),
        (Verb::Fail, Some(408)) => Some(Evidence::Silent("no answer")),
        (Verb::Fail, Some(503)) => match ask.retry {
            Some(seconds) => Some(Evidence::Overloaded(u64::from(seconds) * 1000)),
            None => Some(Evidence::Answered),
        },
        (Verb::Fail, Some(_)) => Some(Evidence::Answered),
        (Verb::Fail, None) => None,
    }
}

fn slot_of(pool: &Pool, token: &Token) -> Option<Slot> {
    let seen = pool.seen();
    seen.view.loaded.iter().find(|n| n.node.id == token.node).map(|n| n.node.slot)
}

fn report(pool: &Pool, settled: &Settled) -> Report {
    let plain = |result| Report { result, moved: None };
    match settled {
        Settled::Confirmed => plain("confirmed"),
        Settled::Already => plain("already"),
        Settled::Adopted => plain("adopted"),
        Settled::Ended => plain("ended"),
        Settled::Stale => plain("stale"),
        Settled::Gone => plain("gone"),
        Settled::Moved { attempt, slot } => {
            let node = pool.seen().view.at_slot(*slot).map(|n| n.node.id.to_string()).unwrap_or_default();
            Report { result: "moved", moved: Some((*attempt, node)) }
        }
    }
}
