//! What a proxy says of the calls that agents' phones have and no offer brought: it goes to the leader, through the inbox.

use super::Dispatcher;
use super::cell::RegisterError;
use crate::store::StoreError;
use crate::store::cell::Accepted;
use crate::wire::own_call::OwnCallAsk;
use crate::wire::record;
use crate::wire::refusal::Refusal;
use std::time::Duration;
use tracing::{debug, info, warn};

const OP: &str = "own-call";

impl Dispatcher {
    /// Tells the leader that a call of an agent's phone begins or has ended.
    ///
    /// # Errors
    /// [`RegisterError`]: it was not taken.
    pub async fn own_call(&self, ask: &OwnCallAsk) -> Result<(), RegisterError> {
        let told = self.tell_leader(ask).await;
        let result = match &told {
            Ok(()) => ask.word(),
            Err(RegisterError::Refused(_)) => "refused",
            Err(RegisterError::Store(_)) => "error",
        };
        self.metrics.cell().own_call(result);
        let (call_id, proxy, state) = (&ask.call_id, &ask.proxy, ask.word());
        match &told {
            Ok(()) => debug!(call_id, %proxy, state, "a phone's own call"),
            Err(RegisterError::Refused(refusal)) => {
                info!(call_id, %proxy, word = refusal.word.as_str(), reason = refusal.reason, "own call refused");
            }
            Err(RegisterError::Store(error)) => warn!(call_id, %proxy, state, %error, "own call not told"),
        }
        told
    }

    async fn tell_leader(&self, ask: &OwnCallAsk) -> Result<(), RegisterError> {
        let cell = self.cell.get().ok_or_else(|| RegisterError::Refused(Refusal::no_cell()))?;
        let (key, command) = ask.command();
        let pool = self.pool(None).map_err(RegisterError::Refused)?;
        let deadline = Duration::from_millis(self.live().settings.settle_deadline_ms());
        let text = record::write_command(&command);
        match pool.ask_cell(OP, deadline, cell.store.send(&cell.id, &key, &text)).await? {
            Accepted::New(_) | Accepted::Repeated(_) => Ok(()),
            Accepted::Full => {
                Err(StoreError::Away { op: OP, cause: "the inbox of the cell is full".to_owned() }.into())
            }
        }
    }
}
