//! How a leader drives its nodes: what it hears of them, and what it asks of them.

use super::super::io::{Ask, Link, Mono, Output, Right};
use super::super::nodes::{LIST_AFTER_UNKNOWN_MS, LIST_AFTER_UP_MS, LIST_AGAIN_MS};
use super::{Desk, Leading};
use crate::domain::controller::{Effect, Input, Listing, Outcome};
use crate::domain::id::NodeId;
use std::collections::{BTreeMap, VecDeque};

impl Leading {
    /// The application is attached to a node: what has happened there meanwhile is asked for.
    pub(in crate::cell::pilot) fn node_up(&mut self, node: &NodeId, link: Link, now: Mono) {
        let Some(seat) = self.nodes.0.get_mut(node) else { return };
        let had_link = seat.link.is_some();
        seat.relink(Some(link));
        seat.list_at = now;
        if had_link {
            self.tell(Input::NodeAway(node.clone()), None);
        }
    }

    pub(in crate::cell::pilot) fn node_down(&mut self, node: &NodeId, link: Link) {
        if !self.nodes.is_linked(node, link) {
            return;
        }
        if let Some(seat) = self.nodes.0.get_mut(node) {
            seat.relink(None);
        }
        self.tell(Input::NodeAway(node.clone()), None);
    }

    /// Another instance drives the node: this one takes it back only if it still leads, by a later word of the store.
    pub(in crate::cell::pilot) fn node_replaced(
        &mut self,
        node: &NodeId,
        link: Link,
        now: Mono,
        out: &mut VecDeque<Output>,
    ) {
        if !self.nodes.is_linked(node, link) {
            return;
        }
        self.node_down(node, link);
        if let Some(seat) = self.nodes.0.get_mut(node) {
            seat.replaced = Some(now);
        }
        out.push_back(Output::Disconnect(node.clone()));
    }

    /// What it was asked before that, it is asked again: its channels are given up, and only a later answer brings them back.
    pub(in crate::cell::pilot) fn node_dead(&mut self, node: &NodeId, now: Mono) {
        if let Some(seat) = self.nodes.0.get_mut(node)
            && seat.listing.take().is_some()
        {
            seat.list_at = now;
        }
        self.tell(Input::NodeDead(node.clone()), None);
    }

    /// Something has happened on a node.
    pub(in crate::cell::pilot) fn event(&mut self, node: &NodeId, link: Link, event: Input) {
        if self.nodes.is_linked(node, link) {
            self.tell(event, Some(link));
        }
    }

    /// A node has said what it has.
    pub(in crate::cell::pilot) fn node_listed(&mut self, ask: Ask, listing: Option<Listing>, now: Mono) {
        let Some(seat) = self.nodes.0.values_mut().find(|seat| seat.listing == Some(ask)) else { return };
        seat.listing = None;
        match listing {
            None => seat.list_at = seat.list_at.min(now.after(LIST_AGAIN_MS)),
            Some(listing) => {
                seat.listed = true;
                if std::mem::take(&mut seat.is_new) {
                    seat.list_at = seat.list_at.min(now.after(LIST_AFTER_UP_MS));
                }
                self.tell(Input::Listing(listing), None);
            }
        }
    }

    /// A node has answered, or has not.
    pub(in crate::cell::pilot) fn acted(&mut self, ask: Ask, outcome: Outcome, now: Mono) {
        let Some(effect) = self.acts.remove(&ask) else { return };
        if outcome == Outcome::Unknown {
            self.nodes.list_by(&effect.node().clone(), now.after(LIST_AFTER_UNKNOWN_MS));
        }
        self.tell(Input::Answered { effect, outcome }, None);
    }

    pub(in crate::cell::pilot) fn has_link(&self, link: Link) -> bool {
        self.nodes.0.values().any(|seat| seat.link == Some(link))
    }

    /// Claims whose batch is committed are carried out, as long as the right to do so is sure.
    pub(super) fn carry_out(&mut self, now: Mono, ask: &mut impl FnMut() -> Ask, out: &mut VecDeque<Output>) {
        // In a new epoch it is not known yet whether another one has led meanwhile.
        while now < self.sure_until
            && matches!(self.desk, Desk::Steady)
            && let Some(effect) = self.cleared.pop_front()
        {
            if self.controller.wants(&effect) && self.nodes.link(effect.node()).is_some() {
                self.act(effect, Right::Until(self.sure_until), ask(), out);
            } else {
                self.tell(Input::Unsent(effect), None);
            }
        }
    }

    /// A free effect. Without a connection nothing is asked: what matters is asked again by a timer, or mended by the next
    /// listing. A leader that is not sure may have stood still, and another one leads: an event that it finds then may be old,
    /// and is answered only when the connection has shown that nobody else has taken its place.
    pub(super) fn care(
        &mut self,
        todo: impl IntoIterator<Item = (Effect, Right)>,
        now: Mono,
        ask: &mut impl FnMut() -> Ask,
        out: &mut VecDeque<Output>,
    ) {
        let mut held: BTreeMap<NodeId, (Link, Vec<Effect>)> = BTreeMap::new();
        for (effect, right) in todo {
            match (right, self.nodes.link(effect.node())) {
                (_, None) => {}
                (Right::Linked(link), Some(_)) if now >= self.sure_until => {
                    held.entry(effect.node().clone()).or_insert((link, Vec::new())).1.push(effect);
                }
                (Right::Linked(_), Some(_)) => self.act(effect, Right::Until(self.sure_until), ask(), out),
                (Right::Until(_), Some(_)) => self.act(effect, right, ask(), out),
            }
        }
        for (node, (link, effects)) in held {
            let ask = ask();
            if self.nodes.0.get_mut(&node).is_some_and(|seat| seat.hold(effects, ask)) {
                out.push_back(Output::Probe { ask, node, link });
            }
        }
    }

    /// A connection has shown that it is its node's only one.
    pub(in crate::cell::pilot) fn probed(
        &mut self,
        probe: Ask,
        now: Mono,
        asks: &mut u64,
        out: &mut VecDeque<Output>,
    ) {
        let found = self.nodes.0.values_mut().find_map(|seat| Some((seat.probed(probe)?, seat.link?)));
        let Some(((may, wait), link)) = found else { return };
        let mut ask = || {
            *asks += 1;
            Ask(*asks)
        };
        for effect in may {
            self.act(effect, Right::Linked(link), ask(), out);
        }
        self.care(wait.into_iter().map(|effect| (effect, Right::Linked(link))), now, &mut ask, out);
    }

    pub(super) fn act(&mut self, effect: Effect, right: Right, ask: Ask, out: &mut VecDeque<Output>) {
        self.acts.insert(ask, effect.clone());
        out.push_back(Output::Act { ask, effect, right });
    }
}
