//! The agents' phones, behind the stand-in Kamailio: a leg rings only if MQS says that its offer's token lets it.

use super::draw_ms;
use super::helper::Helpers;
use super::ledger::Ledger;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The Kamailio that they are registered with.
pub const PROXY: &str = "k1";

/// All phones.
pub struct Phones {
    /// What is written down of them.
    pub ledger: Arc<Ledger>,
    /// Who is asked.
    pub helpers: Helpers,
    /// Legs that MQS did not let ring.
    pub fenced: AtomicU64,
    /// Leases whose end was not acknowledged.
    pub unsettled: AtomicU64,
    chance: Mutex<fastrand::Rng>,
}

/// A call to an agent.
pub struct LegCall {
    /// The channel.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// Where the phone is registered.
    pub aor: String,
    /// What `X-MQS-Offer` says.
    pub token: String,
    /// Cancelled when the channel ends.
    pub gone: CancellationToken,
}

/// A leg, as long as there is one.
#[derive(Debug)]
pub struct Leg {
    ledger: Arc<Ledger>,
    agent: String,
    id: String,
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.ledger.hung_up(&self.agent, &self.id);
        self.ledger.leg_gone(&self.agent, &self.id);
    }
}

/// What an agent does when it rings.
#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Refuses,
    Busy,
    Deaf,
}

impl Phones {
    /// Nobody is called yet.
    pub fn new(ledger: Arc<Ledger>, helpers: Helpers, seed: u64) -> Phones {
        let chance = Mutex::new(fastrand::Rng::with_seed(seed));
        Phones { ledger, helpers, fenced: AtomicU64::new(0), unsettled: AtomicU64::new(0), chance }
    }

    /// A leg that is made now.
    pub fn leg(&self, agent: &str, id: &str) -> Leg {
        self.ledger.leg_made(agent, id);
        Leg { ledger: self.ledger.clone(), agent: agent.to_owned(), id: id.to_owned() }
    }

    /// Asks whether a leg may ring: its lease, or what the node is answered.
    pub async fn redeem(&self, call: &LegCall) -> Result<String, u16> {
        let attributes = format!("kind=agent;tok={};ft={};cs=1;src=127.0.0.1", call.token, call.agent);
        let (call_id, uri) = (format!("leg-{}", call.id), format!("sip:{}", call.aor));
        let said = self.helpers.ask("ROUTE", &[&call_id, &uri, &attributes]).await;
        // Only MQS knows whether it may ring: without an answer it does not.
        let said = said.map_err(|_| 503_u16)?;
        let document: Result<serde_json::Value, _> = serde_json::from_str(&said);
        match document.ok().and_then(|d| Some(d.get("mqs")?.get("token")?.as_str()?.to_owned())) {
            Some(lease) => Ok(lease),
            None => {
                self.fenced.fetch_add(1, Ordering::Relaxed);
                Err(if said.starts_with("!VOID") { 403 } else { 503 })
            }
        }
    }

    /// The phone rings: answered, or what the node is told.
    pub async fn ring(&self, call: &LegCall, lease: &str) -> Result<(), u16> {
        // It makes no difference to the phone whether the lease could be confirmed.
        let _ = self.helpers.ask("CONFIRM", &[lease]).await;
        if call.gone.is_cancelled() {
            return Err(487);
        }
        let (mood, takes, says_no) = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            let mood = match chance.u8(0..100) {
                0..80 => Mood::Answers,
                80..88 => Mood::Refuses,
                88..93 => Mood::Busy,
                _ => Mood::Deaf,
            };
            (mood, draw_ms(&mut chance, 200..1_200), draw_ms(&mut chance, 300..900))
        };
        if let Mood::Busy = mood {
            return Err(486);
        }
        self.ledger.rings(&call.agent, &call.id);
        match mood {
            Mood::Answers => tokio::time::sleep(takes).await,
            Mood::Refuses => {
                tokio::time::sleep(says_no).await;
                return Err(603);
            }
            Mood::Deaf => tokio::time::sleep(Duration::from_secs(60)).await,
            Mood::Busy => {}
        }
        Ok(())
    }

    /// A lease is over.
    pub async fn done(&self, lease: &str) {
        let said = self.helpers.ask("DONE", &[lease]).await;
        if !said.is_ok_and(|said| said.starts_with("OK")) {
            self.unsettled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
