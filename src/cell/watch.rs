//! Who looks on while a pilot is run, and takes no part in it: [`Watch`]. [`Counting`] makes figures of what it sees.
//!
//! What has happened is counted from events, and when the store has them: a batch that is sent twice is counted once. What there
//! is now is read from the controller, twice a second.

use super::pilot::{Ask, Commit, Input, Mono, Note, Output, Pilot, Why};
use crate::clock::Stopwatch;
use crate::domain::agent::Agent;
use crate::domain::controller::{Change, Controller, Effect, What};
use crate::domain::id::{CallId, NodeId, OfferId, QueueId};
use crate::domain::offer::OfferStage;
use crate::domain::queue::Setup;
use crate::domain::time::EpochMs;
use crate::store::cell::Committed;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::queue::QueueSample;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What there is now is read so often, in ms.
const LOOK_MS: u64 = 500;

/// Sees everything that a pilot is told and asks for.
pub trait Watch: Send + Sync + 'static {
    /// It is about to be told this.
    fn told(&mut self, input: &Input, pilot: &Pilot);

    /// It has taken it in.
    fn took(&mut self, pilot: &Pilot, now: Mono);

    /// It asks for this, which is not done yet.
    fn asked(&mut self, output: &Output, pilot: &Pilot);
}

/// Nobody looks on.
impl Watch for () {
    fn told(&mut self, _: &Input, _: &Pilot) {}
    fn took(&mut self, _: &Pilot, _: Mono) {}
    fn asked(&mut self, _: &Output, _: &Pilot) {}
}

/// Makes figures of what it sees.
pub struct Counting {
    metrics: Arc<Metrics>,
    setup: Arc<Setup>,
    batch: Option<Batch>,
    listing: Option<Had>,
    looked: Option<Mono>,
}

/// The batch that is under way.
struct Batch {
    ask: Ask,
    sent: Stopwatch,
    events: Vec<What>,
}

/// What was known of a node before its listing was taken in.
struct Had {
    node: NodeId,
    calls: BTreeSet<CallId>,
    offers: BTreeSet<OfferId>,
}

impl Counting {
    /// Nothing was seen yet.
    pub fn new(metrics: Arc<Metrics>) -> Counting {
        metrics.cell().leads(false);
        Counting { metrics, setup: Arc::default(), batch: None, listing: None, looked: None }
    }

    fn set_up(&mut self, setup: &Arc<Setup>) {
        let gone = self.setup.queues.keys().filter(|queue| !setup.queues.contains_key(*queue));
        gone.for_each(|queue| self.metrics.cell().queue.forget(queue));
        self.setup = setup.clone();
        self.looked = None;
    }

    fn sent(&mut self, ask: Ask, commit: &Commit) {
        let events = commit.changes.iter().filter_map(|change| match change {
            Change::Event(event) => Some(event.what.clone()),
            Change::Call(_)
            | Change::CallGone(_)
            | Change::Agent(_)
            | Change::AgentGone(_)
            | Change::Offer(_)
            | Change::OfferGone(_)
            | Change::Place { .. }
            | Change::Rules(..)
            | Change::RulesGone(_)
            | Change::Queue(..)
            | Change::QueueGone(_)
            | Change::Leave { .. }
            | Change::Issue(_)
            | Change::Revoke(_) => None,
        });
        self.batch = Some(Batch { ask, sent: Stopwatch::start(), events: events.collect() });
    }

    fn committed(&mut self, ask: Ask, answer: Option<Committed>) {
        let Some(batch) = self.batch.take_if(|batch| batch.ask == ask) else { return };
        let (word, is_there) = match answer {
            Some(Committed::Done) => ("done", true),
            Some(Committed::Repeated) => ("repeated", true),
            Some(Committed::Fenced { .. }) => ("fenced", false),
            Some(Committed::Gap { .. }) => ("gap", false),
            None => ("unknown", false),
        };
        self.metrics.cell().committed(word, batch.sent.elapsed());
        if is_there {
            batch.events.iter().for_each(|what| self.count(what));
        }
    }

    fn count(&self, what: &What) {
        let figures = &self.metrics.cell().queue;
        match what {
            What::Enqueued { queue, .. } => self.of(queue, || figures.entered(queue)),
            What::OfferEnded { queue, how, .. } => self.of(queue, || figures.offer_ended(queue, *how)),
            What::Connected { queue, waited_ms, .. } => {
                if let Some(waited_ms) = waited_ms {
                    self.of(queue, || figures.answered(queue, Duration::from_millis(*waited_ms)));
                }
            }
            What::Treated { queue, why, .. } => self.of(queue, || figures.treated(queue, *why)),
            What::Done { queue, reason, .. } => self.of(queue, || figures.ended(queue, *reason)),
            // Its offer says so when it ends.
            What::Transferred { .. } | What::Offered { .. } | What::Agent { .. } | What::Command { .. } => {}
        }
    }

    /// A queue that nobody has laid down is a word of a dialplan, of which there may be any number.
    fn of(&self, queue: &QueueId, count: impl FnOnce()) {
        if self.setup.queues.contains_key(queue) {
            count();
        }
    }

    fn noted(&mut self, note: &Note) {
        let cell = self.metrics.cell();
        let change = match note {
            Note::Leads(_) => "leads",
            Note::StepsDown(Why::Other) => "other",
            Note::StepsDown(Why::Fenced) => "fenced",
            Note::StepsDown(Why::Asked) => "asked",
            Note::History(_) => "history",
            Note::Damaged(_) | Note::Partial | Note::Offering => return,
        };
        cell.leader_changed(change);
    }

    fn put_right(&self, had: &Had, now: &Controller) {
        let Had { node, calls, offers } = had;
        let have = calls_on(now, node);
        let count = |kind, count| {
            if count > 0 {
                self.metrics.cell().repaired(kind, count);
            }
        };
        count("call-found", have.difference(calls).count());
        count("call-gone", calls.difference(&have).count());
        // An offer that is being made follows from what was found, and was not found itself.
        let found = now.offers().filter(|offer| {
            offer.leg.node == *node && offer.stage != OfferStage::Making && !offers.contains(&offer.id)
        });
        count("leg-found", found.count());
        count("leg-gone", offers.iter().filter(|offer| now.find_offer(offer).is_none()).count());
    }

    fn look(&self, controller: &Controller, time: EpochMs) {
        let mut samples: BTreeMap<&QueueId, QueueSample> =
            self.setup.queues.keys().map(|queue| (queue, QueueSample::default())).collect();
        for call in controller.calls().filter(|call| call.stage.is_in_line()) {
            if let Some(sample) = samples.get_mut(&call.queue) {
                sample.waiting += 1;
                sample.longest = sample.longest.max(Duration::from_millis(time.since(call.enqueued)));
            }
        }
        for agent in controller.agents() {
            let Some(rules) = self.setup.agents.get(&agent.id) else { continue };
            let word = Agent::WORDS.iter().position(|word| *word == agent.word());
            for queue in rules.memberships.keys() {
                let count = word.and_then(|at| samples.get_mut(queue)?.agents.get_mut(at));
                count.into_iter().for_each(|count| *count += 1);
            }
        }
        samples.iter().for_each(|(queue, sample)| self.metrics.cell().queue.show(queue, sample));
    }
}

impl Watch for Counting {
    fn told(&mut self, input: &Input, pilot: &Pilot) {
        match input {
            // A leader has what was laid down at run time as well: it is looked at behind the input.
            Input::Setup { setup, .. } if pilot.controller().is_none() => self.set_up(setup),
            Input::Committed(ask, answer) => self.committed(*ask, *answer),
            Input::Listed(_, Some(listing)) => {
                self.listing = pilot.controller().map(|known| {
                    let offers = known.offers().filter(|offer| offer.leg.node == listing.node);
                    Had {
                        node: listing.node.clone(),
                        calls: calls_on(known, &listing.node),
                        offers: offers.map(|offer| offer.id.clone()).collect(),
                    }
                });
            }
            Input::Setup { .. }
            | Input::Tick
            | Input::Led(..)
            | Input::Opened(..)
            | Input::Inbox(..)
            | Input::Registrations(..)
            | Input::NodeUp(..)
            | Input::NodeDown(..)
            | Input::NodeReplaced(..)
            | Input::NodeDead(_)
            | Input::NodeAlive(_)
            | Input::Event(..)
            | Input::Probed(_)
            | Input::Listed(_, None)
            | Input::Acted(..)
            | Input::Resign => {}
        }
    }

    fn took(&mut self, pilot: &Pilot, now: Mono) {
        let had = self.listing.take();
        let (Some(controller), Some(time)) = (pilot.controller(), pilot.time()) else {
            if self.looked.take().is_some() {
                self.metrics.cell().leads(false);
                self.metrics.cell().queue.hide();
            }
            return;
        };
        had.iter().for_each(|had| self.put_right(had, controller));
        if !Arc::ptr_eq(&self.setup, controller.setup()) {
            self.set_up(controller.setup());
        }
        if self.looked.is_none_or(|last| now.since(last) >= LOOK_MS) {
            self.looked = Some(now);
            self.metrics.cell().leads(true);
            self.look(controller, time);
        }
    }

    fn asked(&mut self, output: &Output, pilot: &Pilot) {
        match output {
            Output::Commit(ask, commit) => self.sent(*ask, commit),
            Output::Act { effect: Effect::Originate(originate), .. } => {
                let made =
                    pilot.controller().and_then(|known| Some(known.find_offer(&originate.offer)?.made));
                if let (Some(made), Some(time)) = (made, pilot.time()) {
                    self.metrics.cell().matched(Duration::from_millis(time.since(made)));
                }
            }
            Output::Note(note) => self.noted(note),
            Output::Lead(..)
            | Output::Resign(_)
            | Output::Open { .. }
            | Output::ReadInbox(..)
            | Output::ReadRegistrations(_)
            | Output::Connect(_)
            | Output::Disconnect(_)
            | Output::Probe { .. }
            | Output::List { .. }
            | Output::Act { .. } => {}
        }
    }
}

fn calls_on(known: &Controller, node: &NodeId) -> BTreeSet<CallId> {
    known.calls().filter(|call| call.channel.node == *node).map(|call| call.id.clone()).collect()
}
