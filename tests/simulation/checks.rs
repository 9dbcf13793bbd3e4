//! What must always be so, and what must be so at the end. Everything here is read from phones, channels and bridges, and
//! from the batches that the store took; never from what an instance says of itself.

use super::ladder::{Col, Who, told};
use super::people::Place;
use super::plan::{Ms, PLAIN};
use super::proxy::PhoneState;
use super::world::{Ev, World};
use mqs::cell::pilot::{Commit, Found};
use mqs::domain::call::Stage;
use mqs::domain::controller::{Change, What};
use mqs::domain::id::{AgentId, CallId, ChannelId, OfferId};
use mqs::domain::offer::OfferStage;
use mqs::store::cell::Committed;
use std::collections::BTreeMap;

/// I4: a caller has an owner again within this time.
const OWNER_MS: Ms = 10_000;
/// I9: the cell is taken over within this time.
const TAKE_OVER_MS: Ms = 6_000;
/// I6 and I9 are judged only where nothing was disturbed for so long.
const CALM_MS: Ms = 20_000;
/// I6: what an instance decided so long ago it may not have known better.
const DECIDED_MS: Ms = 3_000;
/// Commands that were sent so shortly after the store had forgotten may be overlooked.
const FORGETFUL_MS: Ms = 10_000;
/// I6: requests that were sent together come to their nodes within this time.
const ON_ITS_WAY_MS: Ms = 250;
const WATCH_EVERY_MS: Ms = 500;

/// What happened how often.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

impl Coverage {
    pub fn count(&mut self, kind: &'static str, word: &'static str) {
        *self.0.entry((kind, word)).or_default() += 1;
    }

    pub fn of(&self, kind: &'static str, word: &'static str) -> u64 {
        self.0.get(&(kind, word)).copied().unwrap_or(0)
    }

    pub fn merge(&mut self, other: &Coverage) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut before = "";
        for ((kind, word), count) in &self.0 {
            if *kind != before {
                write!(f, "\n  {kind}:")?;
                before = kind;
            }
            write!(f, " {word}={count}")?;
        }
        Ok(())
    }
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Failure {
    pub check: &'static str,
    pub at: Ms,
    pub what: String,
    pub who: Who,
    pub seed: u64,
    pub history: String,
}

impl Failure {
    pub fn new(check: &'static str, at: Ms, what: String, who: Who) -> Failure {
        Failure { check, at, what, who, seed: 0, history: String::new() }
    }

    pub fn told(mut self, seed: u64, world: &World) -> Failure {
        self.seed = seed;
        self.history = told(world, self.who, self.at);
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {} (seed {}, at {} ms)", self.check, self.what, self.seed, self.at)?;
        writeln!(f, "{}", self.history)?;
        writeln!(f, "again: MQS_SIM_SEED={} cargo test --test simulation replay -- --nocapture", self.seed)
    }
}

impl World {
    // ---- at every step ----

    /// I1: from the moment at which the phone hears of a leg until either end of it is over, the agent has no other one,
    /// on whatever phone, by whatever node. A leg whose CANCEL or BYE the node has sent is over.
    pub fn check_one_leg(&mut self, agent: usize, leg: usize) {
        let live =
            |other: &usize| *other != leg && !self.legs[*other].ended && self.legs[*other].phone.is_on();
        if let Some(other) = self.agents[agent].legs.iter().find(|other| live(other)) {
            let of = &self.legs[*other];
            let since = self.now - of.made;
            let state = if of.up { "talks on" } else { "rings with" };
            let what = format!(
                "{} {state} offer {} ({since} ms old), and another leg rings",
                self.agents[agent].id, of.offer
            );
            self.fail("I1", what, self.leg_who(leg));
        }
    }

    /// I2: whom a caller is joined with already, it does not leave for another one.
    pub fn check_join(&mut self, caller: usize, leg: usize, offer: &OfferId) {
        if let Some(other) =
            self.callers[caller].talk.filter(|other| *other != leg && !self.legs[*other].refers)
        {
            let what = format!("talks on offer {}, and is joined on offer {offer}", self.legs[other].offer);
            self.fail("I2", what, self.leg_who(leg));
        }
        let node = self.legs[leg].node;
        let members = &self.nodes[node].bridges[offer];
        let legs = members.iter().filter(|id| self.nodes[node].legs.contains_key(*id)).count();
        let stays = |id: &ChannelId| {
            self.nodes[node]
                .callers
                .get(id)
                .is_some_and(|other| *other == caller || !self.callers[*other].asks)
        };
        let callers = members.iter().filter(|id| stays(id)).count();
        let own = usize::from(members.contains(&self.legs[leg].channel));
        if legs - own > 0 || callers > usize::from(members.contains(&self.callers[caller].channel)) {
            self.fail("I2", format!("the bridge of {offer} has others in it"), self.leg_who(leg));
        }
    }

    /// I3: people who talk are not parted by anybody but themselves.
    pub fn check_cut(&mut self, leg: usize) {
        let Some(caller) = self.legs[leg].caller else { return };
        let talks = self.callers[caller].talk == Some(leg) && self.legs[leg].phone == PhoneState::Talking;
        // Whoever took the place of a call to ask may be gone before that call is.
        let own = self.callers[caller].leaving || self.callers[caller].asks;
        if talks && !own && !self.legs[leg].refers {
            self.fail(
                "I3",
                "the agent's leg is dropped in the middle of a talk".to_owned(),
                self.leg_who(leg),
            );
        }
    }

    /// I3: the same, from the caller's end.
    pub fn check_kept(&mut self, caller: usize, what: &str) {
        let Some(leg) = self.callers[caller].talk else { return };
        if self.legs[leg].phone == PhoneState::Talking
            && !self.callers[caller].leaving
            && !self.callers[caller].asks
            && !self.legs[leg].refers
        {
            self.fail("I3", format!("{what} in the middle of a talk"), self.leg_who(leg));
        }
    }

    /// An agent is called only on a promise that the store has.
    pub fn check_committed(&mut self, leg: usize) {
        if !self.issued.contains_key(&self.legs[leg].offer) {
            self.fail("Commit", "called before the offer was committed".to_owned(), self.leg_who(leg));
        }
    }

    /// I6, in the queue without skills and penalties: an agent is called for X. A call Y is left behind if it entered and
    /// was first attended before X (by more than [`DECIDED_MS`]/2), has the same priority, has been in the queue, and free,
    /// for [`DECIDED_MS`], asks for nothing that the agent cannot do, and no leg of it to this agent has ended within the time that it passes the agent over for. It
    /// is judged where nothing was disturbed for [`CALM_MS`], and no supervisor had a hand in either.
    pub fn check_order(&mut self, leg: usize) {
        let Some(x) = self.legs[leg].caller else { return };
        let calm = |shaken: Ms| shaken + CALM_MS < self.now;
        if self.legs[leg].queue.as_str() != PLAIN || !calm(self.shaken) || self.callers[x].meddled {
            return;
        }
        let agent = self.legs[leg].agent;
        let (Some(at), Some(entered)) = (self.callers[x].attended, self.callers[x].entered) else { return };
        let priority = self.callers[x].marks.as_ref().map(|marks| marks.priority);
        let pass_over_ms = self.plan.setup.queues[&self.legs[leg].queue].pass_over_ms;
        let Some(can) = self.plan.rules(&self.agents[agent].id).map(|rules| &rules.skills) else { return };
        let mut behind = None;
        for node in self.nodes.iter().filter(|node| node.alive && calm(node.shaken)) {
            for y in node.callers.values().copied() {
                let of = &self.callers[y];
                let Some(marks) = of.marks.as_ref().filter(|_| of.place == Place::Inside) else { continue };
                let earlier = of.attended.is_some_and(|first| first + DECIDED_MS / 2 < at)
                    && of.entered.is_some_and(|first| first + DECIDED_MS / 2 < entered);
                let free = of.live_legs == 0
                    && !of.talked
                    && of.free_since + DECIDED_MS < self.now
                    && of.queue_since + DECIDED_MS < self.now;
                let passed =
                    of.passed.get(&agent).is_some_and(|at| at + pass_over_ms + DECIDED_MS > self.now);
                let same = marks.queue == self.legs[leg].queue && Some(marks.priority) == priority;
                let asked = same && !of.leaving && !of.meddled && can.cover(&of.wish.skills);
                if y != x && earlier && free && asked && !passed {
                    behind = Some(y);
                }
            }
        }
        self.coverage.count("checked", "order");
        if let Some(y) = behind {
            self.after(ON_ITS_WAY_MS, Ev::StillBehind(leg, y));
        }
    }

    /// The request for an offer's leg was lost: the call passes the agent over all the same, as nobody knows that no phone rang.
    fn rang_nowhere(&mut self, offer: &OfferId, call: &CallId, agent: &AgentId) {
        if self.legs.iter().any(|leg| leg.offer == *offer) {
            return;
        }
        let Some(caller) = self.caller_of.get(call).copied() else { return };
        let Some(agent) = self.agents.iter().position(|of| of.id == *agent) else { return };
        self.callers[caller].passed.insert(agent, self.now);
        self.coverage.count("judged", "rang nowhere");
    }

    /// A request for Y may have been on its way, to another node.
    pub fn check_still_behind(&mut self, leg: usize, y: usize) {
        let of = &self.callers[y];
        let called = of.live_legs > 0 || of.free_since + ON_ITS_WAY_MS >= self.now;
        let left = of.place != Place::Inside || of.leaving || of.meddled;
        if called || left || self.shaken + CALM_MS >= self.now {
            return;
        }
        let x = self.legs[leg].caller.unwrap_or(y);
        let agent = self.legs[leg].agent;
        let what = format!(
            "{} is called for {}, and {} is left behind, which entered at {} ms",
            self.agents[agent].id,
            self.callers[x].channel.as_str(),
            self.callers[y].channel.as_str(),
            self.callers[y].entered.unwrap_or(0),
        );
        let who = Who { caller: Some(y as u32), agent: Some(agent as u32), ..Who::default() };
        self.note(Col::Instance, Col::Instance, "left behind", who);
        self.fail("I6", what, who);
    }

    // ---- batches ----

    /// The store has taken a batch, or not.
    pub fn committed(&mut self, inst: usize, commit: &Commit, said: Committed) {
        self.coverage.count("committed", committed_word(said));
        if said != Committed::Done {
            let who = Who::inst(inst).with_number(commit.seq);
            self.note(Col::Instance, Col::Store, committed_word(said), who);
            return;
        }
        self.store.batches += 1;
        self.check_laid(commit);
        for change in &commit.changes {
            self.committed_change(change, inst);
        }
    }

    fn committed_change(&mut self, change: &Change, inst: usize) {
        let count = |world: &mut World, kind, word| world.coverage.count(kind, word);
        match change {
            Change::Call(call) => count(self, "stage", stage_word(&call.stage)),
            Change::Agent(agent) => count(self, "agent", agent.state.as_str()),
            Change::Offer(offer) => {
                count(self, "offer", offer.stage.as_str());
                if let OfferStage::Ending { why, .. } = &offer.stage {
                    count(self, "offer ending", why.as_str());
                }
            }
            Change::Issue(offer) => _ = self.issued.entry(offer.clone()).or_insert(self.now),
            Change::Event(event) => match &event.what {
                What::OfferEnded { offer, call, agent, how, .. } => {
                    count(self, "offer end", how.as_str());
                    self.rang_nowhere(offer, call, agent);
                }
                What::Treated { why, .. } => count(self, "treated for", why.as_str()),
                What::Done { call, reason, .. } => {
                    count(self, "done", reason.as_str());
                    if let Some(caller) = self.caller_of.get(call).copied() {
                        let who = Who::caller(caller).with_inst(inst);
                        self.note(Col::Instance, Col::Store, reason.as_str(), who);
                    }
                }
                What::Command { key, .. } => {
                    if let Some((_, times)) = self.keys.get_mut(&**key) {
                        *times += 1;
                    }
                    let who = Who::inst(inst).with_number(key_number(key));
                    self.note(Col::Instance, Col::Store, "command done", who);
                }
                What::Transferred { to, .. } => {
                    let kind = ["queue", "agent", "number"].into_iter().find(|kind| to.starts_with(kind));
                    count(self, "transferred to", kind.unwrap_or("call"));
                }
                What::Enqueued { .. }
                | What::Offered { .. }
                | What::Connected { .. }
                | What::Agent { .. } => {}
            },
            Change::CallGone(call) => self.check_forgotten(call),
            Change::AgentGone(_)
            | Change::Rules(..)
            | Change::RulesGone(_)
            | Change::Queue(..)
            | Change::QueueGone(_)
            | Change::OfferGone(_)
            | Change::Place { .. }
            | Change::Leave { .. }
            | Change::Revoke(_) => {}
        }
    }

    /// I3: whose call is said to be over is not in the application any more.
    fn check_forgotten(&mut self, call: &CallId) {
        let Some(caller) = self.caller_of.get(call).copied() else { return };
        let of = &self.callers[caller];
        if of.is_inside() && !of.leaving {
            self.fail("I3", "is there, and its call is said to be over".to_owned(), Who::caller(caller));
        }
    }

    // ---- from time to time ----

    /// An instance that lives, and does not stand still, is attached to the node by a link that works.
    fn is_owned(&self, node: usize) -> bool {
        self.nodes[node].attached.is_some_and(|link| {
            let of = &self.links[link];
            let inst = &self.instances[of.inst];
            of.open && !of.silent && inst.number == of.number && inst.is_awake()
        })
    }

    /// I4: a live node with callers in the application, or at its door, has an owner ([`World::is_owned`]), or had one within [`OWNER_MS`].
    /// The time begins anew with everything that is done to the store, to an instance, to the node or to its link, and
    /// when that ends; and it does not run while no instance is awake and can reach the store.
    pub fn watch(&mut self) {
        self.after(WATCH_EVERY_MS, Ev::Watch);
        let now = self.now;
        let able = self.instances.iter().any(|inst| inst.is_awake() && inst.cut_until <= now);
        for number in 0..self.nodes.len() {
            let waits = self.nodes[number].alive
                && self.nodes[number].callers.values().any(|caller| self.callers[*caller].wants_owner());
            if !waits || !able || self.is_owned(number) {
                self.nodes[number].unowned = None;
                continue;
            }
            let node = &mut self.nodes[number];
            let since = *node.unowned.get_or_insert(now);
            if now > since.max(node.shaken).max(self.shaken) + OWNER_MS {
                let what = format!("callers of {} have no owner since {since}", node.id);
                self.fail("I4", what, Who::node(number));
            }
        }
    }

    /// I9: an instance that is attached somewhere is gone, and nothing else is wrong: it is looked at again later.
    pub fn check_later_for_owners(&mut self, inst: usize) {
        let calm = self.shaken + CALM_MS < self.now
            && self.nodes.iter().all(|node| node.alive && node.shaken + CALM_MS < self.now);
        let others = self.instances.iter().enumerate().any(|(other, of)| other != inst && of.is_awake());
        if calm && others && !self.instances[inst].links.is_empty() {
            self.after(TAKE_OVER_MS, Ev::TakenOver(self.now));
        }
    }

    pub fn check_taken_over(&mut self, since: Ms) {
        if self.faults.last_blow > since || self.healed {
            return;
        }
        self.coverage.count("checked", "take-over");
        for node in 0..self.nodes.len() {
            if self.nodes[node].alive && !self.is_owned(node) {
                let what =
                    format!("{} is not taken over {TAKE_OVER_MS} ms after {since}", self.nodes[node].id);
                self.fail("I9", what, Who::node(node));
            }
        }
    }

    // ---- at the end ----

    pub fn check_the_end(&mut self) {
        self.check_nobody_left();
        self.check_commands();
        self.check_the_store();
        self.check_residue();
    }

    fn check_nobody_left(&mut self) {
        let left = (0..self.callers.len()).find(|caller| !self.callers[*caller].is_over());
        if let Some(caller) = left {
            let (place, entered) = (self.callers[caller].place, self.callers[caller].entered);
            let what = format!("still there after the heal: {place:?}, entered at {entered:?}");
            self.fail("Liveness", what, Who::caller(caller));
        }
        let live = |leg: &usize| !self.legs[*leg].ended || self.legs[*leg].phone.is_on();
        if let Some(leg) = (0..self.legs.len()).find(live) {
            self.fail("Liveness", "a leg is left at the end".to_owned(), self.leg_who(leg));
        }
        for node in 0..self.nodes.len() {
            if let Some((offer, members)) = self.nodes[node].bridges.first_key_value() {
                let what = format!("the bridge of {offer} is left, with {} in it", members.len());
                let leg = self.legs.iter().rposition(|leg| leg.offer == *offer);
                let who = leg.map_or(Who::node(node), |leg| self.leg_who(leg));
                self.fail("Liveness", what, who);
            }
        }
    }

    /// Every command that was accepted takes effect exactly once, unless the store has forgotten it.
    fn check_commands(&mut self) {
        let certain = self.store.forgot.map_or(0, |at| at + FORGETFUL_MS);
        let wrong = self.keys.iter().find(|(_, (at, times))| *at >= certain && *times != 1);
        self.coverage.count("checked", "commands");
        if let Some((key, (at, times))) = wrong {
            let what = format!("{key}, sent at {at}, took effect {times} times");
            // The story is told of the time in which it was sent.
            let (about, at) = (Who::default().with_number(key_number(key)), (at + 30_000).min(self.now));
            self.failure.get_or_insert(Failure::new("Command", at, what, about));
        }
    }

    /// What is kept is what there is: nobody.
    fn check_the_store(&mut self) {
        let Found::Here { saved, .. } = self.store.desk.copy().open((1 << 53) - 1, true) else { return };
        if let Some(call) = saved.calls.first() {
            let who = self.caller_of.get(&call.id).map_or(Who::default(), |caller| Who::caller(*caller));
            self.fail("Residue", format!("the store still has call {} ({:?})", call.id, call.stage), who);
        }
        if let Some(offer) = saved.offers.first() {
            let leg = self.legs.iter().rposition(|leg| leg.offer == offer.id);
            let who = leg.map_or(Who::default(), |leg| self.leg_who(leg));
            self.fail("Residue", format!("the store still has offer {} ({:?})", offer.id, offer.stage), who);
        }
        if let Some(agent) = saved.agents.iter().find(|agent| agent.state.claim().is_some()) {
            let number = self.agents.iter().position(|of| of.id == agent.id);
            let who = number.map_or(Who::default(), Who::agent);
            self.fail("Residue", format!("{} is still claimed: {:?}", agent.id, agent.state), who);
        }
        self.check_laid_in_the_end(&saved.rules, &saved.agents);
    }
}

/// Keys end with their number.
pub fn key_number(key: &str) -> u64 {
    key.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn committed_word(said: Committed) -> &'static str {
    match said {
        Committed::Done => "committed",
        Committed::Repeated => "repeated",
        Committed::Fenced { .. } => "fenced",
        Committed::Gap { .. } => "gap",
    }
}

fn stage_word(stage: &Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting",
        Stage::Offered { .. } => "offered",
        Stage::Connecting { .. } => "connecting",
        Stage::Connected { .. } => "connected",
        Stage::Treated { .. } => "treated",
        Stage::Ending { .. } => "ending",
    }
}
