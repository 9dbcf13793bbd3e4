//! Nodes that the DNS names: what becomes of a pool's nodes when an answer names others than before.
//!
//! [`plan()`] decides, without I/O and clock. Its rules:
//!
//! * A node that is named and unknown is added. One that is named no more drains; when it is empty, and has been gone for
//!   `forget_after_ms`, it is removed. One that is named again takes calls again.
//! * What an operator asked of a node stays: drained, down or removed by hand it remains so, whatever the DNS says.
//! * An answer without any target changes nothing, and neither does a change that would leave the pool without an active node
//!   drain one. An answer with parts missing adds and drains nothing.
//! * A place that another node holds (of the file, or added by hand) is left to that node.

mod mark;
mod plan;

pub use mark::{Mark, Standing};
pub use plan::{Act, Plan, Step, expire, plan};

use super::id::{NodeId, Tag, Zone};
use super::node::Node;
use super::uri::NodeUri;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most targets of one answer that are looked at: as many as a pool has slots.
pub const TARGETS_FOUND_MAX: usize = 2048;

/// One place that the DNS names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Where it listens: an IP address with its port.
    pub uri: NodeUri,
    /// Its weight (RFC 2782); 0 where only addresses were found.
    pub weight: u16,
}

/// What the DNS said of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The targets of the best priority of which there are any; each place once.
    pub targets: Vec<Target>,
    /// Part of the answer could not be had: a node that is not in it may still be named.
    pub partial: bool,
    /// For how long it is good, in s: the least TTL of the records that it was made of.
    pub ttl_s: u32,
    /// What was odd, for the log; a few lines.
    pub notes: Vec<String>,
}

/// What a pool makes of what it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Channels of each node.
    pub capacity: u32,
    /// Whether the capacity is shared out by weight: the greatest weight has all of it.
    pub weighted: bool,
    /// Where they stand.
    pub zone: Option<Zone>,
    /// What they can do.
    pub tags: BTreeSet<Tag>,
    /// The most nodes that are taken.
    pub nodes_max: usize,
    /// How long a node that is named no more is kept when it is empty, in ms.
    pub forget_after_ms: u64,
}

/// A node of the pool, as it stands in the store.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its definition; removed ones included.
    pub node: Arc<Node>,
    /// Its live leases.
    pub load: u32,
    /// What discovery last noted of it; `None`: it is not discovery's.
    pub mark: Option<Mark>,
}

/// The definition of a node that the DNS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name, derived from its place: the same on every instance.
    pub id: NodeId,
    /// Where it listens.
    pub uri: NodeUri,
    /// Channels that it may carry.
    pub capacity: u32,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What it can do.
    pub tags: BTreeSet<Tag>,
}

/// The name of the node at a place: `ip-192-0-2-21-5060`, and the transport where it is not UDP. `None`: not an IP address, or no
/// name can be made of it.
pub fn node_id(uri: &NodeUri) -> Option<NodeId> {
    let (secure, _, port, transport) = uri.same_place();
    let host = match uri.host().parse::<std::net::Ipv4Addr>() {
        Ok(address) => address.to_string(),
        Err(_) => uri.host().parse::<std::net::Ipv6Addr>().ok()?.to_string(),
    };
    let host = host.replace(['.', ':'], "-");
    let over = match (secure, transport) {
        (true, _) => "-sips".to_owned(),
        (false, Some(transport)) => format!("-{transport}"),
        (false, None) => String::new(),
    };
    format!("ip-{host}-{port}{over}").parse().ok()
}

impl Named {
    /// FNV-1a: the same in every process; nobody gains by making two definitions of one node collide.
    pub fn digest(&self) -> u64 {
        let Named { id, uri, capacity, zone, tags } = self;
        let text = format!("{id}|{uri}|{capacity}|{zone:?}|{tags:?}");
        text.bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The definition that a node has.
    pub fn of(node: &Node) -> Named {
        Named {
            id: node.id.clone(),
            uri: node.uri.clone(),
            capacity: node.capacity,
            zone: node.zone.clone(),
            tags: node.tags.clone(),
        }
    }
}

impl Template {
    /// The definitions for some targets, in their order; targets that have no name are left out.
    pub fn fill<'t>(&'t self, targets: &'t [Target]) -> impl Iterator<Item = Named> + 't {
        let most = targets.iter().map(|t| t.weight).max().unwrap_or(0);
        targets.iter().filter_map(move |target| {
            Some(Named {
                id: node_id(&target.uri)?,
                uri: target.uri.clone(),
                capacity: self.share(target.weight, most),
                zone: self.zone.clone(),
                tags: self.tags.clone(),
            })
        })
    }

    /// RFC 2782: a weight of 0 among others has little to do, but not nothing.
    fn share(&self, weight: u16, most: u16) -> u32 {
        if !self.weighted || most == 0 {
            return self.capacity;
        }
        let share = u64::from(self.capacity) * u64::from(weight) / u64::from(most);
        u32::try_from(share).unwrap_or(self.capacity).max(1)
    }
}

#[cfg(test)]
mod tests;
