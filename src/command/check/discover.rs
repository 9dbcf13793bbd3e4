//! `mqs check`: what the DNS says of the pools that are looked up in it.

use super::{Finding, Level};
use crate::config::{Config, NodeAri, NodeConfig};
use crate::dispatch::discovery::{self, Find as _, FindError};
use crate::domain::id::PoolId;
use crate::domain::node::NodeState;
use crate::outbound::dns::Finder;

/// How many nodes a line names.
const SHOWN_MAX: usize = 4;

/// Looks every such pool up: what was found, and its nodes as a file would have them.
pub(super) async fn look(config: &Config) -> (Vec<Finding>, Vec<(PoolId, NodeConfig)>) {
    let (mut findings, mut nodes) = (Vec::new(), Vec::new());
    let watched = discovery::from_config(config);
    if watched.is_empty() {
        return (findings, nodes);
    }
    let finder = match Finder::new(&config.dns) {
        Ok(finder) => finder,
        Err(error) => return (vec![Finding::new(Level::Error, "dns", "/etc/resolv.conf", error)], nodes),
    };
    for one in &watched {
        let culprit = format!("{}: {}", one.pool, one.service);
        let mut find = |level, message: String| findings.push(Finding::new(level, "dns", &culprit, message));
        let found = match finder.find(&one.service, one.family, one.refresh_max_s).await {
            Ok(found) => found,
            Err(error @ (FindError::Empty(_) | FindError::Failed(_))) => {
                find(Level::Error, error.to_string());
                continue;
            }
        };
        for note in &found.notes {
            find(Level::Warn, note.clone());
        }
        let named: Vec<_> = one.template.fill(&found.targets).collect();
        let most = one.template.nodes_max;
        if named.len() > most {
            find(Level::Warn, format!("{} targets, and nodes_max is {most}", named.len()));
        }
        let some: Vec<&str> = named.iter().take(SHOWN_MAX).map(|n| n.uri.as_str()).collect();
        let more = if named.len() > SHOWN_MAX { " …" } else { "" };
        let count = super::count(named.len(), "target");
        find(Level::Ok, format!("{count} for {} s: {}{more}", found.ttl_s, some.join(", ")));
        nodes.extend(named.into_iter().take(most).map(|n| {
            let node = NodeConfig {
                id: n.id,
                uri: n.uri,
                capacity: n.capacity,
                zone: n.zone,
                tags: n.tags,
                state: NodeState::Active,
                ari: NodeAri::Usual,
            };
            (one.pool.clone(), node)
        }));
    }
    (findings, nodes)
}
