//! The nodes' REST interface, ARI, as the leader of a cell will find it.

use super::{Finding, Level, NODES_AT_ONCE};
use crate::config::{Ari, CellConfig, Config, NodeConfig};
use crate::domain::id::PoolId;
use crate::domain::queue::Answering;
use crate::outbound::ari::place::Place;
use crate::outbound::ari::survey::{Survey, survey};
use crate::outbound::trust::Trust;
use crate::wire::ari::cost_of_lacking;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How far a node's clock and this host's may be apart, in ms.
const CLOCKS_APART_MAX_MS: u64 = 2_000;

/// The oldest Asterisk whose ARI has all that is needed.
const OLDEST: u32 = 20;

/// What later versions can do, and since when: minor versions of 20 and 22. Later ones than 22 all can.
const FEATURES: [(&str, u32, u32); 3] =
    [("early media", 16, 6), ("transfers", 13, 3), ("connecting by itself", 15, 5)];

/// Asks every node that the cell drives.
pub async fn look(config: &Config, nodes: &[(PoolId, NodeConfig)]) -> Vec<Finding> {
    let Some(cell) = &config.cell else { return Vec::new() };
    // That the password cannot be read was said.
    let Ok(password) = cell.ari.password() else { return Vec::new() };
    let trust = match Trust::load(cell.ari.ca_file.as_deref()) {
        Ok(trust) => trust,
        Err(error) => return vec![Finding::new(Level::Error, "ari", "ari.ca_file", error)],
    };
    let early = cell.setup.queues.values().any(|queue| queue.answering == Answering::Early);
    let turns = Arc::new(Semaphore::new(NODES_AT_ONCE));
    let mut asked = JoinSet::new();
    for (at, (pool, node)) in nodes.iter().enumerate() {
        let name = format!("{pool}/{}", node.id);
        let Some(ari) = cell.ari_of(&config.pools, pool, &node.id, &node.uri) else { continue };
        let place = place(cell, &ari, &password, &trust);
        let (turns, app) = (turns.clone(), cell.ari.app.clone());
        let patience = Duration::from_millis(cell.ari.timeout_ms);
        asked.spawn(async move {
            let _turn = turns.acquire().await;
            let find = |level, message: String| Finding::new(level, "ari", &name, message);
            let Some(place) = place else {
                return (at, vec![find(Level::Ok, "not asked: it connects by itself".to_owned())]);
            };
            let found = match survey(&place, &app, patience).await {
                Ok(survey) => judge(&survey, &app, early),
                Err(error) => vec![(Level::Error, error.to_string())],
            };
            let found = found.into_iter();
            (at, found.map(|(level, said)| find(level, format!("{}: {said}", place.http()))).collect())
        });
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().flat_map(|(_, findings)| findings).collect()
}

fn place(cell: &CellConfig, ari: &Ari, password: &str, trust: &Trust) -> Option<Place> {
    match ari {
        Ari::Url { tls, host, port } => {
            Some(Place::new(host, *port, tls.then(|| trust.clone()), &cell.ari.user, password))
        }
        Ari::Inbound => None,
    }
}

/// What is to be said of a node that answers.
fn judge(seen: &Survey, app: &str, early: bool) -> Vec<(Level, String)> {
    let mut found = Vec::new();
    let took_ms = seen.took.as_secs_f64() * 1000.0;
    let attached = if seen.attached { "attached" } else { "not attached: nobody drives it" };
    let answers = format!("Asterisk {}, {took_ms:.1} ms, application {app} {attached}", seen.version);
    let version = version(&seen.version);
    let lacks = version.map(lacks).unwrap_or_default();
    match version {
        Some((major, _)) if major < OLDEST => {
            found.push((Level::Error, format!("{answers}; {OLDEST} or later is needed")));
        }
        Some(_) if lacks.is_empty() => found.push((Level::Ok, answers)),
        Some(_) => found.push((Level::Ok, format!("{answers}; too old for {}", lacks.join(", ")))),
        None => found.push((Level::Warn, format!("{answers}; what this version can do is not known"))),
    }
    if early && lacks.iter().any(|lack| lack.starts_with("early media")) {
        let message = "a queue answers early, and this version sends no early media before the first frame";
        found.push((Level::Warn, message.to_owned()));
    }
    if !seen.may_write {
        found.push((Level::Error, "403: the user may only read (ari.conf: read_only)".to_owned()));
    }
    match &seen.lacks {
        None => found.push((Level::Ok, "channelvars: not known while it has no channel".to_owned())),
        Some(lacks) if lacks.is_empty() => found.push((Level::Ok, "channelvars: complete".to_owned())),
        Some(lacks) => {
            let mut costs: Vec<&str> = lacks.iter().map(|variable| cost_of_lacking(variable)).collect();
            costs.dedup();
            let message = format!("channelvars: without {}: {}", lacks.join(", "), costs.join("; "));
            found.push((Level::Error, message));
        }
    }
    match seen.apart_ms {
        Some(apart_ms) if apart_ms > CLOCKS_APART_MAX_MS => {
            found.push((Level::Warn, format!("its clock and this host's are {apart_ms} ms apart, or more")));
        }
        Some(_) | None => {}
    }
    found
}

/// Major and minor, wherever they stand: `22.10.0`, `certified-20.7-cert5`.
fn version(text: &str) -> Option<(u32, u32)> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text.get(from..)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a version cannot do, and which one can.
fn lacks((major, minor): (u32, u32)) -> Vec<String> {
    let can = |of20, of22| match major {
        20 => minor >= of20,
        22 => minor >= of22,
        _ => major > 22,
    };
    let lacks = FEATURES.into_iter().filter(|(_, of20, of22)| !can(*of20, *of22));
    lacks.map(|(what, of20, of22)| format!("{what} (20.{of20}, 22.{of22})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_what_they_can_do() {
        let all = |text: &str| version(text).map(|version| lacks(version).len());
        for (text, lacks) in [
            ("22.10.0", 0),
            ("22.6.0", 0),
            ("22.5.1", 1),
            ("22.4.0", 2),
            ("22.2.0", 3),
            ("20.16.0", 0),
            ("20.13.0", 2),
            ("certified-20.7-cert5", 3),
            ("21.12.0", 3),
            ("23.0.0-rc1", 0),
            ("18.1.0", 3),
        ] {
            assert_eq!(all(text), Some(lacks), "{text}");
        }
        assert_eq!((all("GIT-master"), all(""), all("22")), (None, None, None));
    }

    fn said(change: impl Fn(&mut Survey)) -> Vec<String> {
        let mut seen = Survey {
            version: "22.10.0".to_owned(),
            took: Duration::from_micros(1_500),
            apart_ms: Some(0),
            attached: true,
            may_write: true,
            channels: 1,
            lacks: Some(vec![]),
        };
        change(&mut seen);
        judge(&seen, "mqs", true).into_iter().map(|(level, said)| format!("{level:?} {said}")).collect()
    }

    #[test]
    fn each_fault_has_its_line() {
        let well = "Ok Asterisk 22.10.0, 1.5 ms, application mqs attached";
        assert_eq!(said(|_| ()), [well, "Ok channelvars: complete"]);
        let with = |change: &dyn Fn(&mut Survey), line: &str| {
            let said = said(change);
            assert!(said.iter().any(|said| said == line), "{line}: {said:?}");
        };
        with(&|s| s.may_write = false, "Error 403: the user may only read (ari.conf: read_only)");
        with(&|s| s.lacks = None, "Ok channelvars: not known while it has no channel");
        with(
            &|s| s.lacks = Some(vec!["MQS_PLACE"]),
            "Error channelvars: without MQS_PLACE: calls lose their places with their leader",
        );
        with(
            &|s| s.lacks = Some(vec!["MQS_AGENT", "MQS_CALL", "MQS_PLACE"]),
            "Error channelvars: without MQS_AGENT, MQS_CALL, MQS_PLACE: no leg can be made out in a listing: whatever ends unseen there holds its agent and its caller for good; calls lose their places with their leader",
        );
        with(&|s| s.apart_ms = Some(2_001), "Warn its clock and this host's are 2001 ms apart, or more");
        with(
            &|s| s.version = "18.4.0".to_owned(),
            "Error Asterisk 18.4.0, 1.5 ms, application mqs attached; 20 or later is needed",
        );
        with(
            &|s| s.version = "22.5.0".to_owned(),
            "Warn a queue answers early, and this version sends no early media before the first frame",
        );
        with(
            &|s| s.attached = false,
            "Ok Asterisk 22.10.0, 1.5 ms, application mqs not attached: nobody drives it",
        );
    }
}
