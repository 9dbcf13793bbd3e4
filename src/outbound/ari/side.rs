//! One node, as the leader deals with it: what is asked of it for each effect.

use super::client::{Answer, Client};
use super::code::Dialled;
use super::holding::Holding;
use super::often::Often;
use super::order::Order;
use crate::cell::desk::Desk;
use crate::cell::pilot::Link;
use crate::cell::shell::Permit;
use crate::domain::call::Channel;
use crate::domain::controller::{Attend, Effect, Originate, Outcome};
use crate::domain::id::{ChannelId, NodeId, PoolId};
use crate::domain::queue::{Answering, NO_MUSIC};
use crate::wire::ari::request::{self, Request};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Connections are numbered over all nodes.
static LINKS: AtomicU64 = AtomicU64::new(1);

/// Q.850 cause 21, "call rejected".
const REJECTED: u16 = 21;

/// Strangers that are hung up, and codes that are carried out, at once.
const BESIDE_MAX: usize = 256;

/// Signs the token of an offer: what Kamailio redeems before it rings the agent.
pub type Sign = Arc<dyn Fn(&PoolId, &Originate) -> String + Send + Sync>;

/// One node.
pub struct Side {
    /// Its name.
    pub id: NodeId,
    pool: ArcSwap<PoolId>,
    /// The application.
    pub app: Arc<str>,
    /// Asks it.
    pub client: Client,
    /// What concerns one channel keeps its order.
    pub order: Order,
    /// Signs tokens.
    pub sign: Sign,
    desk: Option<Arc<Desk>>,
    /// There is a connection for its events.
    pub attached: AtomicBool,
    holding: Mutex<Holding>,
    /// Held while what it has is read.
    pub reading: Arc<tokio::sync::Mutex<()>>,
    /// For what is done beside the effects.
    seats: Arc<Semaphore>,
    /// How often it is said what is wrong with it.
    pub often: Often,
}

/// An effect that is being carried out.
struct Doing<'a> {
    side: &'a Side,
    permit: &'a Permit,
}

impl Side {
    /// Nothing is asked yet.
    pub fn new(
        id: NodeId,
        pool: PoolId,
        app: Arc<str>,
        client: Client,
        sign: Sign,
        desk: Option<Arc<Desk>>,
    ) -> Side {
        Side {
            id,
            pool: ArcSwap::from_pointee(pool),
            app,
            client,
            order: Order::default(),
            sign,
            desk,
            attached: AtomicBool::new(false),
            holding: Mutex::default(),
            reading: Arc::default(),
            seats: Arc::new(Semaphore::new(BESIDE_MAX)),
            often: Often::default(),
        }
    }

    /// Its pool.
    pub fn pool(&self) -> Arc<PoolId> {
        self.pool.load_full()
    }

    /// It is in another pool from now on: tokens that name the old one would lead nowhere.
    pub fn move_to(&self, pool: PoolId) {
        self.pool.store(Arc::new(pool));
    }

    /// The number of a new connection.
    pub fn next_link(&self) -> Link {
        Link(LINKS.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel has left the application.
    pub fn left(&self, channel: &ChannelId) {
        self.holding().leave(channel);
    }

    /// Hangs up whoever has no business in the application. Of very many at once the last ones stay for the next listing.
    pub fn turn_away(self: &Arc<Self>, channel: Channel, arguments: &str) {
        self.client.tally().ari().passed_over(&self.id, "stranger");
        if let Some(left_out) = self.often.may() {
            warn!(%channel, arguments, left_out, "has no business in the application");
        }
        let Ok(seat) = self.seats.clone().try_acquire_owned() else { return };
        let side = self.clone();
        tokio::spawn(async move {
            if let Err(error) = side.client.ask(&request::hang_up(&channel.id, REJECTED)).await {
                warn!(%channel, %error, "cannot be hung up");
            }
            drop(seat);
        });
    }

    /// Somebody has dialled a feature code. Of very many at once the last ones hear what the dialplan says when nobody answers.
    pub fn dialled(self: &Arc<Self>, dialled: Dialled) {
        let Some(desk) = self.desk.clone() else {
            return self.turn_away(dialled.channel, &dialled.code);
        };
        let Ok(seat) = self.seats.clone().try_acquire_owned() else {
            if let Some(left_out) = self.often.may() {
                warn!(channel = %dialled.channel, left_out, "too many codes at once: this one is not carried out");
            }
            return;
        };
        let side = self.clone();
        tokio::spawn(async move {
            dialled.answer(side, desk).await;
            drop(seat);
        });
    }

    /// Carries an effect out.
    pub async fn act(&self, effect: &Effect, permit: &Permit) -> Outcome {
        let doing = Doing { side: self, permit };
        let done = match effect {
            Effect::Attend(attend) => doing.attend(attend).await,
            Effect::Join { offer, caller, leg, talk_max_ms, replaces: _ } => {
                let bridge = request::talk(offer);
                doing.join(&request::make_talk(offer), &bridge, &caller.id, &leg.id, *talk_max_ms).await
            }
            Effect::Announce { offer, leg, sounds } => {
                doing.one(&request::announce(offer, &leg.id, sounds)).await
            }
            Effect::Hush { offer, .. } => doing.one(&request::hush(offer)).await,
            Effect::DropLeg { offer, leg, .. } => {
                let dropped = doing.ask(&request::drop_leg(&leg.id)).await;
                if dropped.is_ok() {
                    // It may never have been made.
                    let _ = doing.ask(&request::delete_bridge(&request::talk(offer))).await;
                }
                dropped.map(|answer| outcome(&answer))
            }
            Effect::Originate(originate) => doing.originate(originate).await,
            Effect::Continue { channel, context, extension } => {
                doing.one(&request::go_on(&channel.id, context, extension)).await
            }
            Effect::Tell { leg, progress } => {
                doing.one(&request::transfer_progress(&leg.id, *progress)).await
            }
            Effect::HangUp { channel, cause } => doing.one(&request::hang_up(&channel.id, *cause)).await,
        };
        done.unwrap_or(Outcome::Unknown)
    }
}

/// Nothing is known of what has become of it.
struct NotKnown;

impl Doing<'_> {
    async fn ask(&self, request: &Request) -> Result<Answer, NotKnown> {
        if !self.permit.holds() {
            return Err(NotKnown);
        }
        let answer = self.side.client.ask(request).await;
        let (node, method, path) = (&self.side.id, request.method.as_str(), &request.path);
        match answer {
            Ok(answer) => {
                debug!(%node, method, path, ?answer, "asked");
                Ok(answer)
            }
            Err(error) => {
                warn!(%node, method, path, %error, "not known whether it was done");
                Err(NotKnown)
            }
        }
    }

    async fn one(&self, request: &Request) -> Result<Outcome, NotKnown> {
        Ok(outcome(&self.ask(request).await?))
    }

    /// The place is noted last: where a listing shows it, everything before it was done, and where it does not, all of it is done again.
    async fn attend(&self, attend: &Attend) -> Result<Outcome, NotKnown> {
        match self.entertain(attend).await? {
            Outcome::Done => self.one(&request::note_place(attend)).await,
            undone @ (Outcome::Gone | Outcome::Refused | Outcome::Unknown) => Ok(undone),
        }
    }

    async fn entertain(&self, attend: &Attend) -> Result<Outcome, NotKnown> {
        let id = &attend.channel.id;
        match attend.answering {
            Answering::Entry => {
                let answered = self.one(&request::answer(id)).await?;
                if answered != Outcome::Done {
                    return Ok(answered);
                }
                self.hold(id, &attend.music).await
            }
            Answering::Agent => self.one(&request::ring(id)).await,
            Answering::Early => {
                // Asterisk before 20.16 and 22.6 does not know it, and sends it with the first frame of the music.
                self.ask(&request::progress(id)).await?;
                if &*attend.music == NO_MUSIC {
                    // There may be some of an earlier queue.
                    return self.one(&request::no_music(id)).await;
                }
                self.one(&request::music(id, &attend.music)).await
            }
        }
    }

    /// Into a holding bridge; once more if the node has lost it.
    async fn hold(&self, channel: &ChannelId, music: &str) -> Result<Outcome, NotKnown> {
        for _ in 0..2 {
            let seat = self.side.holding().seat(channel, music);
            if seat.to_be_made {
                self.ask(&request::make_holding(&seat.bridge)).await?;
                if music != NO_MUSIC {
                    self.ask(&request::bridge_music(&seat.bridge, music)).await?;
                }
                self.side.holding().made(&seat.bridge);
            }
            match self.ask(&request::add(&seat.bridge, &[channel])).await? {
                // Here it is the bridge that is not there; a channel that is not is 400.
                Answer::Gone => self.side.holding().lost(&seat.bridge),
                answer @ (Answer::Done(_) | Answer::Refused { .. }) => return Ok(outcome(&answer)),
            }
        }
        Ok(Outcome::Refused)
    }

    async fn join(
        &self,
        make: &Request,
        bridge: &str,
        caller: &ChannelId,
        leg: &ChannelId,
        talk_max_ms: u64,
    ) -> Result<Outcome, NotKnown> {
        self.one(make).await?;
        // A caller in a holding bridge has been answered. Whoever waits elsewhere may ring, or have music of their own.
        if !self.side.holding().has(caller) {
            let answered = self.one(&request::answer(caller)).await?;
            if answered == Outcome::Gone {
                return Ok(answered);
            }
            self.ask(&request::no_music(caller)).await?;
        }
        let joined = self.one(&request::add(bridge, &[caller, leg])).await?;
        if joined == Outcome::Done {
            self.side.holding().leave(caller);
            self.ask(&request::end_after(caller, talk_max_ms)).await?;
        }
        Ok(joined)
    }

    async fn originate(&self, originate: &Originate) -> Result<Outcome, NotKnown> {
        let token = (self.side.sign)(&self.side.pool(), originate);
        let answer = self.ask(&request::originate(originate, &self.side.app, &token)).await?;
        Ok(match &answer {
            // There is a channel of this id: it was done before.
            Answer::Refused { status: 409, .. } => Outcome::Done,
            Answer::Refused { status, said } => {
                warn!(node = %self.side.id, agent = %originate.agent, status, said, "the node calls nobody");
                Outcome::Refused
            }
            Answer::Done(_) | Answer::Gone => outcome(&answer),
        })
    }
}

/// What an answer means, of a request that concerns one channel.
fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Done(_) => Outcome::Done,
        // 409 and 422: the channel is not in the application (any more).
        Answer::Gone | Answer::Refused { status: 409 | 422, .. } => Outcome::Gone,
        Answer::Refused { .. } => Outcome::Refused,
    }
}
