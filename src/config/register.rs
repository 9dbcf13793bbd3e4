//! The keys of `[pool.register]`, with their defaults and limits.

use super::RegisterConfig;
use super::reader::Reader;
use super::redirect::Network;
use crate::domain::id::Slot;
use crate::domain::node::CAPACITY_MAX;
use crate::domain::registration::{Limits, TTL_MIN_S};

/// Each heartbeat's address is compared with all of them.
const NETWORKS_MAX: usize = 256;

/// `None`: not written, or so wrong that it cannot be spoken of; that was reported.
pub(super) fn register(mut t: Reader<'_, '_>) -> Option<RegisterConfig> {
    let written = t.is_written();
    let networks = t.list("networks", NETWORKS_MAX, str::parse::<Network>);
    if written {
        t.require("networks");
    }
    // A list that lost its wrong ones is not empty.
    if networks.as_ref().is_some_and(Vec::is_empty) && !t.any_wrong() {
        t.wrong(&t.spot_of("networks"), "an empty list: no node could register; leave the table out");
    }
    let capacity_max = t.number("capacity_max", 1..=i64::from(CAPACITY_MAX), " (channels)");
    let ttl_max_s = t.number("ttl_max_s", i64::from(TTL_MIN_S)..=3600, " (s)");
    let nodes_max = t.number("nodes_max", 1..=i64::from(Slot::COUNT), " (nodes)");
    t.done();
    let networks = networks?.into_iter().map(|(network, _)| network).collect();
    let limits = Limits {
        ttl_max_s: ttl_max_s.unwrap_or(300),
        capacity_max: capacity_max.unwrap_or(CAPACITY_MAX),
        nodes_max: nodes_max.unwrap_or(256),
    };
    Some(RegisterConfig { networks, limits })
}
