//! What is allowed, and probably not meant.

use super::{Config, Endpoint, PoolConfig, StoreUrl, cell, redirect};
use crate::domain::id::{PoolId, Zone};
use crate::domain::node::NodeState;
use crate::domain::pool::{Lookup, room};
use std::collections::{BTreeMap, BTreeSet};

/// Kamailio's time-out for a command, as its sample configuration here sets it, in ms.
const PROXY_TIMEOUT_MS: u64 = 250;

/// One line each; no secret in any of them.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    of_store(config, &mut warnings);
    of_listeners(config, &mut warnings);
    redirect::warnings(config, &mut warnings);
    of_times(config, &mut warnings);
    if config.emergency_numbers.is_empty() {
        warnings.push(
            "emergency_numbers is empty: only urn:service:sos is never refused; name the emergency numbers of your country"
                .to_owned(),
        );
    }
    for pool in &config.pools {
        of_pool(pool, config, &mut warnings);
    }
    of_zone(config, &mut warnings);
    of_shared_nodes(config, &mut warnings);
    cell::warnings(config, &mut warnings);
    warnings
}

fn of_store(config: &Config, warnings: &mut Vec<String>) {
    match &config.store.url {
        StoreUrl::Memory | StoreUrl::File(_) => {
            let remote = config.listen.resp.iter().chain(&config.listen.http).find(|e| !e.is_local());
            if let Some(remote) = remote {
                warnings.push(format!(
                    "store.url is {} but {remote} serves other hosts: a second instance would not know this one's leases",
                    config.store.url
                ));
            }
        }
        StoreUrl::Redis(url) => {
            if config.store.ca_file.is_some() && !url.is_tls() {
                warnings
                    .push(format!("store.ca_file is for TLS, and store.url {url} names none; write rediss"));
            }
            if url.crosses_the_network_in_the_clear() {
                warnings.push(format!("store.url {url} names another host without TLS; write rediss://"));
            }
        }
    }
}

fn of_listeners(config: &Config, warnings: &mut Vec<String>) {
    let listen = &config.listen;
    if listen.socket_mode & 0o002 != 0 {
        warnings.push(format!(
            "listen.socket_mode {:04o} lets every user of this host steer calls; use 0660 and listen.socket_group",
            listen.socket_mode
        ));
    }
    let all = || listen.resp.iter().chain(&listen.http);
    for endpoint in all() {
        match endpoint {
            Endpoint::Tcp(addr) if addr.port() == 0 => {
                warnings.push(format!("{endpoint} has port 0: the system chooses another one at each start"));
            }
            Endpoint::Tcp(_) | Endpoint::Unix(_) => {}
        }
    }
    let of_nodes = config.cell.iter().flat_map(|cell| &cell.ari.listen);
    if listen.tls.is_some() && all().chain(of_nodes).all(Endpoint::is_local) {
        warnings.push(
            "[listen.tls] is set, and no listener can be reached from another host: it is not used"
                .to_owned(),
        );
    }
}

fn of_times(config: &Config, warnings: &mut Vec<String>) {
    let (dispatch, store) = (&config.dispatch, &config.store);
    if dispatch.pick_deadline_ms >= PROXY_TIMEOUT_MS {
        warnings.push(format!(
            "dispatch.pick_deadline_ms {} is not below {PROXY_TIMEOUT_MS}, Kamailio's usual cmd_timeout: it would ask again before it is answered",
            dispatch.pick_deadline_ms
        ));
    }
    if store.timeout_ms > dispatch.pick_deadline_ms {
        warnings.push(format!(
            "store.timeout_ms {} is above dispatch.pick_deadline_ms {}: lookups give up on the store before it does",
            store.timeout_ms, dispatch.pick_deadline_ms
        ));
    }
}

fn of_pool(pool: &PoolConfig, config: &Config, warnings: &mut Vec<String>) {
    let name = &pool.name;
    let others = pool.discover.is_some() || pool.register.is_some();
    if pool.nodes.is_empty() && !others {
        warnings
            .push(format!("pool {name} has no nodes: every lookup in it is refused, emergency calls too"));
    } else if !others && pool.nodes.iter().all(|node| node.state != NodeState::Active) {
        warnings.push(format!(
            "pool {name} has no active node: every lookup in it is refused but emergency calls"
        ));
    }
    for node in &pool.nodes {
        if room(node.capacity, &Lookup::new_call(1), &pool.rules) == Some(0) {
            warnings.push(format!(
                "node {} of pool {name}: agent_reserve leaves no room for a caller in a capacity of {}",
                node.id, node.capacity
            ));
        }
    }
    if pool.health_ca_file.is_some()
        && pool.discover.is_none()
        && !pool.nodes.iter().any(|n| n.uri.over_tls())
    {
        warnings.push(format!(
            "pool {name}: health.ca_file is for nodes that are reached over TLS, and there is none; write sips: or ;transport=tls"
        ));
    }
    if let Some(discover) = &pool.discover {
        let capacity = discover.template.capacity;
        if room(capacity, &Lookup::new_call(1), &pool.rules) == Some(0) {
            warnings.push(format!(
                "nodes of {} in pool {name}: agent_reserve leaves no room for a caller in a capacity of {capacity}",
                discover.service
            ));
        }
    }
    let networks = pool.register.iter().flat_map(|register| &register.networks);
    if let Some(everybody) = networks.into_iter().find(|network| network.is_everybody()) {
        warnings
            .push(format!("pool {name}: register.networks holds {everybody}: calls may be sent anywhere"));
    }
    match pool.refuse_code {
        503 => warnings.push(format!(
            "pool {name}: refuse_code 503 with Retry-After tells a carrier to send nothing to this proxy for a while (RFC 3261 §21.5.4); 480 speaks of this call only"
        )),
        401 | 407 => warnings.push(format!(
            "pool {name}: refuse_code {} makes callers send credentials and try again", pool.refuse_code
        )),
        _ => {}
    }
    let longest = |timer: Option<u32>| u64::from(timer.unwrap_or_default());
    if config.dispatch.life.held_ms <= longest(pool.route.fr_timer_ms) {
        warnings.push(format!(
            "pool {name}: fr_timer_ms {} is not below dispatch.held_ms {}: a lease ends before its target has answered",
            longest(pool.route.fr_timer_ms), config.dispatch.life.held_ms
        ));
    }
    if config.dispatch.life.call_max_ms <= longest(pool.route.fr_inv_timer_ms) {
        warnings.push(format!(
            "pool {name}: fr_inv_timer_ms {} is not below dispatch.call_max_s {}: a call that rings may lose its lease",
            longest(pool.route.fr_inv_timer_ms), config.dispatch.life.call_max_ms / 1000
        ));
    }
}

fn of_zone(config: &Config, warnings: &mut Vec<String>) {
    let zones: BTreeSet<&Zone> =
        config.pools.iter().flat_map(|p| &p.nodes).filter_map(|n| n.zone.as_ref()).collect();
    let found = config.pools.iter().filter_map(|p| p.discover.as_ref()?.template.zone.as_ref());
    let zones: BTreeSet<&Zone> = zones.into_iter().chain(found).collect();
    if let Some(zone) = config.instance.zone.as_ref().filter(|zone| !zones.contains(zone)) {
        // Nodes that register say themselves where they stand.
        if config.pools.iter().any(|p| p.register.is_some()) {
            return;
        }
        warnings.push(format!("instance.zone is {zone}, and no node stands there"));
    }
}

/// Two pools count one Asterisk's calls apart, so that together they may overfill it.
fn of_shared_nodes(config: &Config, warnings: &mut Vec<String>) {
    let mut places: BTreeMap<_, &PoolId> = BTreeMap::new();
    for (pool, node) in config.pools.iter().flat_map(|p| p.nodes.iter().map(move |n| (&p.name, n))) {
        if let Some(other) = places.insert(node.uri.same_place(), pool) {
            warnings.push(format!(
                "{} is in pools {other} and {pool}: each counts only its own calls there, so share its capacity between them",
                node.uri
            ));
        }
    }
}
