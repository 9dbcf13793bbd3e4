//! Nodes that stand in for Asterisk, a Kamailio that redeems, and phones that answer at once: just enough to see that what
//! is asked is done.

use async_trait::async_trait;
use mqs::cell::pilot::{Input, Link};
use mqs::cell::shell::{Acting, Helm, Nodes, Permit};
use mqs::domain::call::{Channel, Identity};
use mqs::domain::controller::{self, Effect, LegEnd, Listing, Outcome, SeenBridge, SeenCaller, SeenLeg};
use mqs::domain::id::{CellId, NodeId};
use mqs::domain::matching::{Priority, Skills};
use mqs::domain::time::EpochMs;
use mqs::store::cell::CellStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub struct Exchange {
    cell: CellId,
    store: Arc<dyn CellStore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: u64,
    attached: BTreeMap<NodeId, (String, Link, Helm)>,
    callers: BTreeMap<Channel, Caller>,
    legs: BTreeMap<Channel, SeenLeg>,
    aors: BTreeMap<Channel, String>,
    rung_twice: Vec<String>,
}

struct Caller {
    marks: Option<(mqs::domain::id::QueueId, Priority, EpochMs)>,
    joined: Option<Channel>,
    log: Vec<String>,
    offer: Option<mqs::domain::id::OfferId>,
}

/// What one instance sees of it.
pub struct Seat {
    holder: String,
    exchange: Arc<Exchange>,
}

impl Exchange {
    pub fn new(cell: CellId, store: Arc<dyn CellStore>) -> Exchange {
        Exchange { cell, store, state: Mutex::default() }
    }

    pub fn seat(self: &Arc<Exchange>, holder: &str) -> Arc<dyn Nodes> {
        Arc::new(Seat { holder: holder.to_owned(), exchange: self.clone() })
    }

    /// A caller comes.
    pub async fn call(&self, node: &str, channel: &str) {
        let channel = Channel { node: node.parse().unwrap(), id: channel.parse().unwrap() };
        let caller = Caller { marks: None, joined: None, log: Vec::new(), offer: None };
        let seen = seen(&channel, &caller);
        let node = channel.node.clone();
        self.state.lock().unwrap().callers.insert(channel, caller);
        self.tell(&node, controller::Input::CallerEntered(seen)).await;
    }

    /// A caller comes, and no event tells of it.
    #[allow(dead_code)]
    pub fn call_unheard(&self, node: &str, channel: &str) {
        let channel = Channel { node: node.parse().unwrap(), id: channel.parse().unwrap() };
        let caller = Caller { marks: None, joined: None, log: Vec::new(), offer: None };
        self.state.lock().unwrap().callers.insert(channel, caller);
    }

    /// A caller is gone, and no event tells of it.
    #[allow(dead_code)]
    pub fn vanish(&self, node: &str, channel: &str) {
        let channel = Channel { node: node.parse().unwrap(), id: channel.parse().unwrap() };
        self.state.lock().unwrap().callers.remove(&channel);
    }

    /// The agent of a caller hangs up.
    pub async fn agent_hangs_up(&self, caller: &str) {
        let leg = {
            let mut state = self.state.lock().unwrap();
            let found = state.callers.iter().find(|(channel, _)| channel.id.as_str() == caller);
            let leg = found.and_then(|(_, caller)| caller.joined.clone()).unwrap();
            state.legs.remove(&leg).unwrap();
            leg
        };
        let node = leg.node.clone();
        self.tell(&node, controller::Input::LegEnded { leg, how: LegEnd::HungUp }).await;
    }

    /// What a caller has heard.
    pub fn log(&self, caller: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let found = state.callers.iter().find(|(channel, _)| channel.id.as_str() == caller);
        found.unwrap().1.log.clone()
    }

    /// Who drives a node.
    pub fn attached(&self, node: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        state.attached.get(&node.parse::<NodeId>().unwrap()).map(|(holder, ..)| holder.clone())
    }

    /// The connections of an instance that has died are gone.
    pub fn gone(&self, holder: &str) {
        self.state.lock().unwrap().attached.retain(|_, (of, ..)| of != holder);
    }

    /// Agents whose phone rang while another leg to them was there.
    pub fn rung_twice(&self) -> Vec<String> {
        self.state.lock().unwrap().rung_twice.clone()
    }

    async fn tell(&self, node: &NodeId, event: controller::Input) {
        let attached =
            self.state.lock().unwrap().attached.get(node).map(|(_, link, helm)| (*link, helm.clone()));
        if let Some((link, helm)) = attached {
            helm.tell(Input::Event(node.clone(), link, event)).await;
        }
    }

    /// The Kamailio asks whether the leg may pass, and the phone is answered at once.
    async fn ring(self: Arc<Exchange>, leg: SeenLeg, aor: String) {
        let redeemed = self.store.redeem(&self.cell, leg.offer.as_str(), leg.leg.id.as_str()).await.unwrap();
        let node = leg.leg.node.clone();
        let input = {
            let mut state = self.state.lock().unwrap();
            if redeemed.rings() {
                if state.aors.iter().any(|(other, of)| *of == aor && state.legs.contains_key(other)) {
                    state.rung_twice.push(aor.clone());
                }
                state.aors.insert(leg.leg.clone(), aor);
                let up = SeenLeg { up: true, ..leg.clone() };
                state.legs.insert(leg.leg.clone(), up);
                controller::Input::LegAnswered { offer: leg.offer, leg: leg.leg }
            } else {
                state.legs.remove(&leg.leg);
                controller::Input::LegEnded { leg: leg.leg, how: LegEnd::Fenced }
            }
        };
        self.tell(&node, input).await;
    }
}

fn seen(channel: &Channel, caller: &Caller) -> SeenCaller {
    let marks = caller.marks.clone();
    SeenCaller {
        channel: channel.clone(),
        identity: Arc::new(Identity::default()),
        queue: Some(marks.as_ref().map_or("sales".parse().unwrap(), |marks| marks.0.clone())),
        priority: marks.as_ref().map_or(Priority::default(), |marks| marks.1),
        wishes: Skills::default(),
        enqueued: marks.map(|marks| marks.2),
    }
}

#[async_trait]
impl Nodes for Seat {
    fn attach(&self, node: &NodeId, helm: &Helm) {
        let (before, link) = {
            let mut state = self.exchange.state.lock().unwrap();
            state.links += 1;
            let link = Link(state.links);
            (state.attached.insert(node.clone(), (self.holder.clone(), link, helm.clone())), link)
        };
        let (node, helm) = (node.clone(), helm.clone());
        tokio::spawn(async move {
            if let Some((_, link, before)) = before {
                before.tell(Input::NodeReplaced(node.clone(), link)).await;
            }
            helm.tell(Input::NodeUp(node, link)).await;
        });
    }

    fn detach(&self, node: &NodeId) {
        let mut state = self.exchange.state.lock().unwrap();
        if state.attached.get(node).is_some_and(|(holder, ..)| *holder == self.holder) {
            state.attached.remove(node);
        }
    }

    async fn probe(&self, _node: &NodeId, _link: Link) -> bool {
        true
    }

    fn act(&self, effect: Effect, permit: Permit) -> Acting {
        let seat = Seat { holder: self.holder.clone(), exchange: self.exchange.clone() };
        Box::pin(async move { seat.carry_out(&effect, &permit).await })
    }

    async fn list(&self, node: &NodeId, begun: EpochMs) -> Option<Listing> {
        let state = self.exchange.state.lock().unwrap();
        let here = state.callers.iter().filter(|(channel, _)| channel.node == *node);
        let bridges = here.clone().filter_map(|(channel, caller)| {
            let leg = caller.joined.clone().filter(|leg| state.legs.contains_key(leg))?;
            Some(SeenBridge { offer: caller.offer.clone()?, members: vec![channel.clone(), leg] })
        });
        Some(Listing {
            node: node.clone(),
            begun,
            callers: here.map(|(channel, caller)| seen(channel, caller)).collect(),
            legs: state.legs.values().filter(|leg| leg.leg.node == *node).cloned().collect(),
            bridges: bridges.collect(),
        })
    }
}

impl Seat {
    async fn carry_out(&self, effect: &Effect, permit: &Permit) -> Outcome {
        assert!(permit.holds());
        let mut ended = None;
        let outcome = {
            let mut state = self.exchange.state.lock().unwrap();
            let state = &mut *state;
            match effect {
                Effect::Attend(attend) => match state.callers.get_mut(&attend.channel) {
                    None => Outcome::Gone,
                    Some(caller) => {
                        caller.marks = Some((attend.queue.clone(), attend.priority, attend.enqueued));
                        caller.log.push("attended".to_owned());
                        Outcome::Done
                    }
                },
                Effect::Originate(originate) => {
                    let leg = SeenLeg {
                        leg: originate.leg.clone(),
                        offer: originate.offer.clone(),
                        agent: originate.agent.clone(),
                        call: originate.call.clone(),
                        queue: originate.queue.clone(),
                        up: false,
                    };
                    if state.legs.insert(leg.leg.clone(), leg.clone()).is_none() {
                        tokio::spawn(self.exchange.clone().ring(leg, originate.aor.to_string()));
                    }
                    Outcome::Done
                }
                Effect::Join { offer, caller, leg, .. } => match state.callers.get_mut(caller) {
                    Some(at) if state.legs.contains_key(leg) => {
                        if at.joined.replace(leg.clone()).is_none() {
                            at.offer = Some(offer.clone());
                            at.log.push(format!("joined with {}", state.aors[leg]));
                        }
                        Outcome::Done
                    }
                    Some(_) | None => Outcome::Gone,
                },
                Effect::Announce { .. } | Effect::Hush { .. } => Outcome::Refused,
                Effect::DropLeg { leg, .. } => match state.legs.remove(leg) {
                    Some(_) => {
                        ended =
                            Some(controller::Input::LegEnded { leg: leg.clone(), how: LegEnd::Cancelled });
                        Outcome::Done
                    }
                    None => Outcome::Gone,
                },
                Effect::Tell { leg, .. } if state.legs.contains_key(leg) => Outcome::Done,
                Effect::Tell { .. } => Outcome::Gone,
                Effect::HangUp { channel, cause } => match state.callers.get_mut(channel) {
                    None => Outcome::Gone,
                    Some(caller) => {
                        caller.log.push(format!("hung up {cause}"));
                        ended = Some(controller::Input::CallerLeft(channel.clone()));
                        Outcome::Done
                    }
                },
                Effect::Continue { channel, extension, .. } => {
                    state.callers.get_mut(channel).unwrap().log.push(format!("treated {extension}"));
                    ended = Some(controller::Input::CallerLeft(channel.clone()));
                    Outcome::Done
                }
            }
        };
        if let Some(event) = ended {
            self.exchange.tell(effect.node(), event).await;
        }
        outcome
    }
}
