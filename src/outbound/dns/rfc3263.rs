//! From a service to its targets: NAPTR where present, SRV by priority, A and AAAA (RFC 3263 §4, RFC 3403, RFC 2782).
//!
//! Who answers the questions is an argument: the resolver, or a test.

use super::reply::{ALIASES_MAX, Host, Kind, Question, Record, Reply, ReplyError};
use crate::dispatch::discovery::FindError;
use crate::domain::discovery::{Found, TARGETS_FOUND_MAX, Target};
use crate::domain::service::{Carrier, Family, Service, ServiceKind};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The most NAPTR records that are followed, best first.
const RULES_MAX: usize = 8;

/// The most questions of one service that wait at once.
const AT_ONCE: usize = 16;

/// The most odd things of one answer that are told, and how long each may be, in characters.
const NOTES_MAX: usize = 8;
const NOTE_MAX: usize = 300;

/// Somebody who answers questions.
#[async_trait]
pub trait Ask: Sync {
    /// The answer to one question.
    async fn ask(&self, question: &Question) -> Result<Reply, ReplyError>;
}

/// Looks a service up.
pub async fn find(service: &Service, family: Family, ask: &dyn Ask) -> Result<Found, FindError> {
    let mut walk = Walk { ask, family, secure: service.secure(), found: Found::default(), ttl_s: u32::MAX };
    match service.kind() {
        ServiceKind::Srv(name, carrier) => {
            walk.servers(name, *carrier).await?;
        }
        ServiceKind::Port(host, carrier, port) => walk.addresses_of(host, *carrier, *port).await?,
        ServiceKind::Over(host, carrier) => {
            let there = walk.servers(&carrier.srv_name(host), *carrier).await?;
            if !there {
                walk.addresses_of(host, *carrier, carrier.default_port()).await?;
            }
        }
        ServiceKind::Host(host) => walk.host(host).await?,
    }
    walk.done(service)
}

struct Walk<'a> {
    ask: &'a dyn Ask,
    family: Family,
    secure: bool,
    found: Found,
    ttl_s: u32,
}

impl Walk<'_> {
    /// RFC 3263 §4.1 and §4.2 for a name without port and transport.
    async fn host(&mut self, host: &str) -> Result<(), FindError> {
        let (records, ttl_s) = self.records(host, Kind::Naptr).await?;
        let rules = self.ranked(records);
        if !rules.is_empty() {
            self.ttl_s = self.ttl_s.min(ttl_s);
        }
        for (carrier, name) in &rules {
            self.servers(name, *carrier).await?;
            if !self.found.targets.is_empty() {
                return Ok(());
            }
        }
        if !rules.is_empty() {
            return Ok(());
        }
        let (all, plain): (&[Carrier], _) = if self.secure {
            (&[Carrier::Tls], Carrier::Tls)
        } else {
            (&[Carrier::Udp, Carrier::Tcp, Carrier::Tls], Carrier::Udp)
        };
        let mut there = false;
        for carrier in all {
            there |= self.servers(&carrier.srv_name(host), *carrier).await?;
            if !self.found.targets.is_empty() {
                return Ok(());
            }
        }
        // RFC 3263 §4.2: addresses only where there are no SRV records at all.
        if there { Ok(()) } else { self.addresses_of(host, plain, plain.default_port()).await }
    }

    /// The SRV names that NAPTR records lead to, best first (RFC 3263 §4.1).
    fn ranked(&mut self, records: Vec<Record>) -> Vec<(Carrier, String)> {
        let mut rules = Vec::new();
        for record in records {
            let Record::Naptr { order, preference, flags, services, regexp, replacement } = record else {
                continue;
            };
            let carrier = match services.as_str() {
                "sips+d2t" => Carrier::Tls,
                "sip+d2u" if !self.secure => Carrier::Udp,
                "sip+d2t" if !self.secure => Carrier::Tcp,
                "sip+d2s" if !self.secure => Carrier::Sctp,
                // Another service, or one that sips: must not use: its rules concern others.
                _ => continue,
            };
            match replacement {
                Host::Name(name) if flags == "s" && !regexp => rules.push((order, preference, carrier, name)),
                Host::Name(_) | Host::Root | Host::Odd(_) => {
                    self.note(format!("NAPTR {services:?} with flags {flags:?} leads to no SRV name"));
                }
            }
        }
        rules.sort();
        rules.dedup();
        if rules.len() > RULES_MAX {
            self.note(format!("{} NAPTR records; the best {RULES_MAX} are followed", rules.len()));
            rules.truncate(RULES_MAX);
        }
        rules.into_iter().map(|(_, _, carrier, name)| (carrier, name)).collect()
    }

    /// The targets of SRV records: of the best priority that has any. True: there are such records.
    async fn servers(&mut self, name: &str, carrier: Carrier) -> Result<bool, FindError> {
        let (records, ttl_s) = self.records(name, Kind::Srv).await?;
        if records.is_empty() {
            return Ok(false);
        }
        let mut tiers: BTreeMap<u16, BTreeSet<(String, u16, u16)>> = BTreeMap::new();
        let mut sorted: Vec<(u16, String, u16, u16)> = Vec::new();
        for record in records {
            let Record::Srv { priority, weight, port, target } = record else { continue };
            match target {
                Host::Name(host) if port > 0 => sorted.push((priority, host, port, weight)),
                Host::Name(host) => self.note(format!("SRV {name}: {host} with port 0")),
                // RFC 2782: a target of "." says that the service is not offered.
                Host::Root => self.note(format!("SRV {name}: \".\", the service is not offered")),
                Host::Odd(text) => self.note(format!("SRV {name}: target {text:?} is no host name")),
            }
        }
        sorted.sort();
        if sorted.len() > TARGETS_FOUND_MAX {
            self.note(format!("SRV {name}: {} records, {TARGETS_FOUND_MAX} are looked at", sorted.len()));
            sorted.truncate(TARGETS_FOUND_MAX);
        }
        for (priority, host, port, weight) in sorted {
            tiers.entry(priority).or_default().insert((host, port, weight));
        }
        self.ttl_s = self.ttl_s.min(ttl_s);
        for (priority, tier) in tiers {
            self.tier(&tier, carrier).await?;
            if !self.found.targets.is_empty() {
                break;
            }
            self.note(format!("SRV {name}: no address at priority {priority}"));
        }
        Ok(true)
    }

    async fn tier(&mut self, tier: &BTreeSet<(String, u16, u16)>, carrier: Carrier) -> Result<(), FindError> {
        let hosts: BTreeSet<String> = tier.iter().map(|(host, _, _)| host.clone()).collect();
        let (ask, family) = (self.ask, self.family);
        let asked = futures_util::stream::iter(hosts)
            .map(|host: String| async move {
                let found = addresses(ask, &host, family).await;
                (host, found)
            })
            .buffer_unordered(AT_ONCE);
        let answers: BTreeMap<String, _> = asked.collect().await;
        let mut missing = None;
        let mut places = Vec::new();
        for (host, port, weight) in tier {
            match answers.get(host) {
                Some(Ok((found, ttl_s))) => {
                    self.ttl_s = self.ttl_s.min(*ttl_s);
                    if found.is_empty() {
                        self.note(format!("{host}: no address"));
                    }
                    places.extend(found.iter().map(|ip| (SocketAddr::new(*ip, *port), *weight)));
                }
                Some(Err(error)) => {
                    self.note(error.to_string());
                    missing = Some(error.clone());
                }
                None => {}
            }
        }
        self.take(places, carrier);
        match missing {
            Some(error) if self.found.targets.is_empty() => Err(error),
            Some(_) => {
                self.found.partial = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn addresses_of(&mut self, host: &str, carrier: Carrier, port: u16) -> Result<(), FindError> {
        let (found, ttl_s) = addresses(self.ask, host, self.family).await?;
        self.ttl_s = self.ttl_s.min(ttl_s);
        self.take(found.into_iter().map(|ip| (SocketAddr::new(ip, port), 0)).collect(), carrier);
        Ok(())
    }

    /// Makes targets of places: in a fixed order, each once, and not more than there may be.
    fn take(&mut self, places: Vec<(SocketAddr, u16)>, carrier: Carrier) {
        let mut weights: BTreeMap<SocketAddr, u16> = BTreeMap::new();
        for (place, weight) in places {
            if !reachable(place.ip()) {
                self.note(format!("{} is no address of a host", place.ip()));
                continue;
            }
            let known = weights.entry(place).or_default();
            *known = weight.max(*known);
        }
        if weights.len() > TARGETS_FOUND_MAX {
            self.note(format!("{} targets, {TARGETS_FOUND_MAX} are looked at", weights.len()));
        }
        for (place, weight) in weights.into_iter().take(TARGETS_FOUND_MAX) {
            let host = match place.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            if let Ok(uri) = carrier.uri(self.secure, &host, place.port()) {
                self.found.targets.push(Target { uri, weight });
            }
        }
    }

    async fn records(&mut self, name: &str, kind: Kind) -> Result<(Vec<Record>, u32), FindError> {
        records(self.ask, name, kind).await
    }

    fn note(&mut self, text: String) {
        if self.found.notes.len() < NOTES_MAX && !self.found.notes.contains(&text) {
            self.found.notes.push(text.chars().take(NOTE_MAX).collect());
        }
    }

    fn done(self, service: &Service) -> Result<Found, FindError> {
        if self.found.targets.is_empty() {
            let notes = self.found.notes.join("; ");
            let why = if notes.is_empty() { "no records".to_owned() } else { notes };
            return Err(FindError::Empty(format!("{service}: {why}")));
        }
        Ok(Found { ttl_s: self.ttl_s, ..self.found })
    }
}

/// The addresses of a host, and for how long they are good.
async fn addresses(ask: &dyn Ask, host: &str, family: Family) -> Result<(Vec<IpAddr>, u32), FindError> {
    let kinds: &[Kind] = match family {
        Family::Any => &[Kind::A, Kind::Aaaa],
        Family::V4 => &[Kind::A],
        Family::V6 => &[Kind::Aaaa],
    };
    for kind in kinds {
        let (records, ttl_s) = records(ask, host, *kind).await?;
        if !records.is_empty() {
            let ip = |r: &Record| match r {
                Record::Address(ip) => Some(*ip),
                Record::Naptr { .. } | Record::Srv { .. } => None,
            };
            return Ok((records.iter().filter_map(ip).collect(), ttl_s));
        }
    }
    Ok((Vec::new(), u32::MAX))
}

/// Records of a name, CNAMEs followed; empty: there are none.
async fn records(ask: &dyn Ask, name: &str, kind: Kind) -> Result<(Vec<Record>, u32), FindError> {
    let mut question = Question { name: name.to_owned(), kind };
    let mut passed = BTreeSet::new();
    let mut least_s = u32::MAX;
    let failed = |question: &Question, error: ReplyError| {
        let from = if question.name == name { String::new() } else { format!(" (from {name})") };
        FindError::Failed(format!("{question}{from}: {error}"))
    };
    for _ in 0..=ALIASES_MAX {
        match ask.ask(&question).await.map_err(|e| failed(&question, e))? {
            Reply::Records(records, ttl_s) => return Ok((records, ttl_s.min(least_s))),
            Reply::Nothing(_) => return Ok((Vec::new(), least_s)),
            Reply::Alias(next, ttl_s) => {
                least_s = least_s.min(ttl_s);
                passed.insert(std::mem::replace(&mut question.name, next));
                if passed.contains(&question.name) {
                    return Err(failed(&question, ReplyError::Loop(question.name.clone())));
                }
            }
        }
    }
    Err(failed(&question, ReplyError::Chain(question.name.clone())))
}

/// Whether a node can be there at all.
fn reachable(ip: IpAddr) -> bool {
    let broadcast = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests;
