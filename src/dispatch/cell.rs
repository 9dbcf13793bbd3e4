//! What a proxy asks of a cell: whether a leg may ring an agent, and to note who is registered where.
//!
//! Only the store can say that a token is unused, so no leg rings without its answer: here, unlike for a lookup, nothing
//! is answered from what was last seen.

use super::{Dispatcher, error_word};
use crate::domain::id::{CellId, LeaseId};
use crate::store::StoreError;
use crate::store::cell::{CellStore, NAME_BYTES_MAX, Redeemed, Register};
use crate::wire::ask::RouteAsk;
use crate::wire::offer_token::OfferToken;
use crate::wire::refusal::{BadRequest, Refusal};
use crate::wire::register::RegisterAsk;
use crate::wire::token::{TokenError, lease_id};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// The cell that an instance serves.
#[derive(Clone)]
pub struct Cell {
    /// Its name.
    pub id: CellId,
    /// Where it is kept.
    pub store: Arc<dyn CellStore>,
}

/// Why nothing was noted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegisterError {
    /// The question is wrong.
    #[error("{0}")]
    Refused(Refusal),
    /// The store did not answer: keep the verb and say it again.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Dispatcher {
    /// The cell that this instance serves, from now on. False: it serves one already, and keeps to it.
    pub fn serve_cell(&self, cell: Cell) -> bool {
        self.cell.set(cell).is_ok()
    }

    /// The cell that this instance serves.
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.get()
    }

    /// What an offer's token asks for, before it is used: a leg to an agent, counted on the node and in the pool that it names.
    pub(super) fn offered(&self, ask: &RouteAsk) -> Result<Option<(RouteAsk, OfferToken)>, Refusal> {
        let Some(text) = &ask.offer else { return Ok(None) };
        let cell = self.cell.get().ok_or_else(Refusal::no_cell)?;
        let token = OfferToken::verify(text, &self.live().settings.secret)
            .map_err(|error| Refusal::void(altered(&error)))
            .inspect_err(|_| self.void(ask, None, "altered"))?;
        if token.cell != cell.id {
            self.void(ask, Some(&token), "other-cell");
            return Err(Refusal::void("the offer is another cell's"));
        }
        let named = RouteAsk {
            pool: Some(token.pool.clone()),
            node: Some(token.node.clone()),
            leg: Some(token.leg.clone()),
            ..ask.clone()
        };
        Ok(Some((named, token)))
    }

    /// Uses the token of an offer for this INVITE: the same one may ask again, no other may.
    pub(super) async fn redeem(
        &self,
        ask: &RouteAsk,
        token: &OfferToken,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let (cell, pool) = (self.cell.get().ok_or_else(Refusal::no_cell)?, self.pool(ask.pool.as_ref())?);
        let leg = leg(token, lease_id(&pool.id, ask.call_id.as_str(), &ask.from_tag, ask.cseq, ask.kind));
        let work = cell.store.redeem(&cell.id, token.offer.as_str(), &leg);
        // The store has just acknowledged this offer to its leader, and no other answer will do: a leg that is turned away because
        // no probe has found out yet that the store is back costs its agent a rest.
        let redeemed = match pool.ask_cell_anyway("redeem", deadline, work).await {
            Ok(redeemed) => redeemed,
            Err(error) => {
                self.metrics.cell().redeem(error_word(&error));
                warn!(call_id = %ask.call_id, offer = %token.offer, %error, "not redeemed, and not rung");
                return Err(Refusal::away(
                    "without the store nobody can tell whether this leg may ring the agent",
                ));
            }
        };
        let (word, reason) = match redeemed {
            Redeemed::Yes => ("yes", ""),
            Redeemed::Again => ("again", ""),
            Redeemed::Used => ("used", "used: another leg rings or has rung with this token"),
            Redeemed::Stale => ("stale", "stale: the leader that made this offer leads no more"),
            Redeemed::Unknown => ("unknown", "unknown: the offer was never made or is over"),
        };
        if redeemed.rings() {
            self.metrics.cell().redeem(word);
            debug!(call_id = %ask.call_id, offer = %token.offer, leg = %token.leg, redeemed = word, "redeemed");
            return Ok(());
        }
        self.void(ask, Some(token), word);
        Err(Refusal::void(reason))
    }

    fn void(&self, ask: &RouteAsk, token: Option<&OfferToken>, result: &'static str) {
        self.metrics.cell().redeem(result);
        let offer = token.map(|token| token.offer.as_str());
        info!(call_id = %ask.call_id, offer, src = ask.source, result, "the token lets nobody ring");
    }

    /// Notes that somebody has registered with a proxy, or has left.
    pub async fn register(&self, ask: &RegisterAsk) -> Result<(), RegisterError> {
        let noted = self.note(ask).await;
        let result = match &noted {
            Ok(()) if ask.expires_s == 0 => "gone",
            Ok(()) => "here",
            Err(RegisterError::Refused(_)) => "refused",
            Err(RegisterError::Store(_)) => "error",
        };
        self.metrics.cell().register(result);
        let (aor, proxy, expires_s) = (&ask.aor, &ask.proxy, ask.expires_s);
        match &noted {
            Ok(()) => debug!(%aor, %proxy, expires_s, "registered"),
            Err(RegisterError::Refused(refusal)) => {
                info!(%aor, %proxy, word = refusal.word.as_str(), reason = refusal.reason, "registration refused");
            }
            Err(RegisterError::Store(error)) => warn!(%aor, %proxy, %error, "registration not noted"),
        }
        noted
    }

    async fn note(&self, ask: &RegisterAsk) -> Result<(), RegisterError> {
        let cell = self.cell.get().ok_or_else(|| RegisterError::Refused(Refusal::no_cell()))?;
        let register = Register {
            aor: ask.aor.to_string(),
            proxy: ask.proxy.clone(),
            expires_ms: u64::from(ask.expires_s) * 1000,
            call_id: ask.call_id.clone(),
            cseq: ask.cseq,
        };
        let pool = self.pool(None).map_err(RegisterError::Refused)?;
        let deadline = Duration::from_millis(self.live().settings.settle_deadline_ms());
        let work = cell.store.register(&cell.id, &register);
        match pool.ask_cell("register", deadline, work).await {
            Err(StoreError::Refused { cause, .. }) => {
                Err(RegisterError::Refused(Refusal::bad_request(BadRequest::new("aor", cause))))
            }
            noted => Ok(noted?),
        }
    }
}

/// Who uses a token: the channel that it was made for, by this very INVITE. Another INVITE with a token that was seen on its
/// way is another leg.
fn leg(token: &OfferToken, lease: LeaseId) -> String {
    const _: () = assert!(crate::domain::id::CHANNEL_MAX + 1 + 32 <= NAME_BYTES_MAX);
    format!("{}/{lease}", token.leg)
}

/// Without commas, as all reasons here: Kamailio takes one for the end of a value.
fn altered(error: &TokenError) -> &'static str {
    match error {
        TokenError::Shape | TokenError::Secret(_) => "altered: this is no token of an offer",
        TokenError::Mac => "altered or made with another secret",
    }
}
