//! The keys of `[dns]` and `[pool.discover]`, with their defaults and limits.

use super::reader::Reader;
use super::{DiscoverConfig, DnsConfig};
use crate::domain::discovery::{TARGETS_FOUND_MAX, Template};
use crate::domain::id::Tag;
use crate::domain::node::CAPACITY_MAX;
use crate::domain::service::{Family, Service};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const SERVERS_MAX: usize = 8;

/// The most tags of a node.
pub(super) const TAGS_MAX: usize = 32;

pub(super) fn dns(mut t: Reader<'_, '_>) -> DnsConfig {
    let mut servers = Vec::new();
    for (server, spot) in t.list("servers", SERVERS_MAX, server).unwrap_or_default() {
        if servers.contains(&server) {
            t.wrong(&spot, format!("{server} is there twice"));
        }
        servers.push(server);
    }
    let timeout_ms = t.number("timeout_ms", 100..=30_000, " (ms)").unwrap_or(2000);
    t.done();
    DnsConfig { servers, timeout_ms }
}

/// `None`: not written, or so wrong that it cannot be spoken of; that was reported.
pub(super) fn discover(mut t: Reader<'_, '_>) -> Option<DiscoverConfig> {
    let written = t.is_written();
    let service = t.text("name", str::parse::<Service>);
    let capacity = t.number("capacity", 1..=i64::from(CAPACITY_MAX), " (channels)");
    if written {
        t.require("name");
        t.require("capacity");
    }
    let family = [("any", Family::Any), ("ipv4", Family::V4), ("ipv6", Family::V6)];
    let family = t.word("addresses", &family).unwrap_or_default();
    let weighted = t.word("weight", &[("ignored", false), ("capacity", true)]).unwrap_or(false);
    let zone = t.text("zone", str::parse);
    let tags = tags(&mut t);
    let most = i64::try_from(TARGETS_FOUND_MAX).unwrap_or(i64::MAX);
    let nodes_max = t.number("nodes_max", 1..=most, " (nodes)").unwrap_or(256);
    let least: Option<u32> = t.number("refresh_min_s", 1..=3600, " (s)");
    let longest: Option<u32> = t.number("refresh_max_s", 1..=86_400, " (s)");
    // The one that is left out gives way to the one that is written.
    let refresh_min_s = least.unwrap_or_else(|| longest.unwrap_or(5).min(5));
    let refresh_max_s = longest.unwrap_or_else(|| refresh_min_s.max(300));
    if refresh_min_s > refresh_max_s {
        let message = format!("{refresh_min_s} is more than refresh_max_s, {refresh_max_s}");
        t.wrong(&t.spot_of("refresh_min_s"), message);
    }
    let forget_after_s: u64 = t.number("forget_after_s", 0..=604_800, " (s)").unwrap_or(300);
    t.done();
    let forget_after_ms = forget_after_s.saturating_mul(1000);
    let template = Template { capacity: capacity?, weighted, zone, tags, nodes_max, forget_after_ms };
    Some(DiscoverConfig { service: service?, family, template, refresh_min_s, refresh_max_s })
}

/// What a node can do, each once.
pub(super) fn tags(t: &mut Reader<'_, '_>) -> BTreeSet<Tag> {
    let mut tags = BTreeSet::new();
    for (tag, spot) in t.list("tags", TAGS_MAX, str::parse::<Tag>).unwrap_or_default() {
        if !tags.insert(tag.clone()) {
            t.wrong(&spot, format!("{tag} is there twice"));
        }
    }
    tags
}

fn server(text: &str) -> Result<SocketAddr, &'static str> {
    let found = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
    found.ok().filter(|s: &SocketAddr| s.port() > 0).ok_or(
        "write the address of a DNS server, \"192.0.2.53\" or \"127.0.0.1:5353\"; IPv6 with a port in brackets",
    )
}
