//! The connections to a cell's nodes, as the leader sees them, and when they are asked what they have.

use super::io::{Ask, Link, Mono};
use crate::domain::controller::Effect;
use crate::domain::id::NodeId;
use std::collections::BTreeMap;

/// How often a node is asked for its channels, in ms.
pub(super) const LIST_MS: u64 = 30_000;

/// A listing that failed is asked for again after so long, in ms.
pub(super) const LIST_AGAIN_MS: u64 = 1_000;

/// When something was asked of a node and no answer came, its channels tell what has become of it; so much later, in ms.
pub(super) const LIST_AFTER_UNKNOWN_MS: u64 = 3_000;

/// What was heard of shortly before a connection is too young to be missed in its first listing; the next one follows after so
/// long, in ms. A node that was started again at once says nothing of the end of its calls.
pub(super) const LIST_AFTER_UP_MS: u64 = 3_000;

/// One node.
#[derive(Clone, Debug)]
pub(super) struct NodeSeat {
    /// The connection, while there is one.
    pub link: Option<Link>,
    /// Another instance has taken the place at that time: nothing is done before a renewal that was asked for later.
    pub replaced: Option<Mono>,
    /// The question for its channels that is open.
    pub listing: Option<Ask>,
    /// When it is asked next.
    pub list_at: Mono,
    /// Its connection has not been listed yet.
    pub is_new: bool,
    /// It is laid down no longer.
    pub leaves: bool,
    /// It has been listed since the leader began.
    pub listed: bool,
    /// The question that is open whether the connection is still the node's only one.
    probe: Option<Ask>,
    /// What an event calls for, and waits for the answer to that.
    held: Vec<Effect>,
    /// The same, decided on since the question was sent: the next one will tell.
    held_longer: Vec<Effect>,
}

impl NodeSeat {
    pub fn new() -> NodeSeat {
        NodeSeat {
            link: None,
            replaced: None,
            listing: None,
            list_at: Mono(0),
            is_new: true,
            leaves: false,
            listed: false,
            probe: None,
            held: Vec::new(),
            held_longer: Vec::new(),
        }
    }

    /// There is another connection, or none.
    pub fn relink(&mut self, link: Option<Link>) {
        self.link = link;
        self.is_new = true;
        self.listing = None;
        self.probe = None;
        self.held.clear();
        self.held_longer.clear();
    }

    /// Something is to be done if the connection proves to be the node's only one. True: it has to be asked for.
    pub fn hold(&mut self, effects: Vec<Effect>, ask: Ask) -> bool {
        if self.probe.is_some() {
            self.held_longer.extend(effects);
            return false;
        }
        self.held = effects;
        self.probe = Some(ask);
        true
    }

    /// The connection has answered: what may be done, and what waits for the next answer.
    pub fn probed(&mut self, ask: Ask) -> Option<(Vec<Effect>, Vec<Effect>)> {
        self.probe.take_if(|probe| *probe == ask)?;
        Some((std::mem::take(&mut self.held), std::mem::take(&mut self.held_longer)))
    }
}

/// The nodes of a leader.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeSeats(pub BTreeMap<NodeId, NodeSeat>);

impl NodeSeats {
    /// Whether this is the node's connection.
    pub fn is_linked(&self, node: &NodeId, link: Link) -> bool {
        self.link(node) == Some(link)
    }

    /// Its connection.
    pub fn link(&self, node: &NodeId) -> Option<Link> {
        self.0.get(node)?.link
    }

    /// Asks for its channels no later than that.
    pub fn list_by(&mut self, node: &NodeId, at: Mono) {
        if let Some(seat) = self.0.get_mut(node) {
            seat.list_at = seat.list_at.min(at);
        }
    }

    /// When the next node is to be asked.
    pub fn next_timeout(&self) -> Option<Mono> {
        let due = self.0.values().filter(|seat| seat.link.is_some() && seat.listing.is_none());
        due.map(|seat| seat.list_at).min()
    }
}
