//! Masters that are replaced, by Sentinels and in a cluster, and a slot that moves.
//!
//! Replication is asynchronous: a new master lacks the last writes of the old one, whatever MQS was told of them. The judge
//! reads the new one from the moment that it is named, so what is lost shows as calls that are not counted.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::limits::{FAILED_OVER_S, MOVED_S, within};
use super::trial::{Trial, hold};
use super::{PARTS, PARTS_SENTINEL};
use crate::Case;
use crate::cases::stage::{POOL, Stage};
use crate::net::wait_until;
use crate::resp::Reply;
use crate::room::Lab;
use crate::store::{ELECTED, Kind, role};

pub const CASES: &[Case] = &[
    Case { name: "faults::sentinel_master_killed", needs: PARTS_SENTINEL, run: sentinel_master_killed },
    Case { name: "faults::sentinel_failover_ordered", needs: PARTS_SENTINEL, run: sentinel_failover_ordered },
    Case { name: "faults::cluster_master_killed", needs: PARTS, run: cluster_master_killed },
    Case { name: "faults::cluster_slot_moved", needs: PARTS, run: cluster_slot_moved },
];

/// The keys of a slot move one by one, so that for a while some are here and some are there.
const A_KEY: Duration = Duration::from_millis(250);

fn sentinel_master_killed(lab: &Lab) -> Result<()> {
    let trial = Trial {
        store: Kind::Sentinel,
        limits: within(FAILED_OVER_S),
        ..Trial::new("sentinel_master_killed")
    };
    let row = hold(lab, &trial, |stage| {
        let watched = stage.store.sentinel()?;
        watched.group.servers[0].down();
        watched.tell()?;
        wait_until("the replica is the master", ELECTED, || Ok(role(&watched.group.servers[1]) == "master"))?;
        // It comes back empty, and takes itself for the master until a Sentinel tells it otherwise.
        watched.group.servers[0].up();
        watched.tell()
    })?;
    row.shows_degraded(50)
}

/// The master is well, and is told to be a replica: it is written to until MQS hears of that.
fn sentinel_failover_ordered(lab: &Lab) -> Result<()> {
    let trial = Trial {
        store: Kind::Sentinel,
        limits: within(FAILED_OVER_S),
        ..Trial::new("sentinel_failover_ordered")
    };
    hold(lab, &trial, |stage| {
        let group = &stage.store.sentinel()?.group;
        group.fail_over();
        wait_until("the replica is the master, and the master a replica", ELECTED, || {
            Ok(role(&group.servers[1]) == "master" && role(&group.servers[0]) == "slave")
        })
    })
    .map(drop)
}

fn cluster_master_killed(lab: &Lab) -> Result<()> {
    let trial =
        Trial { store: Kind::Cluster, limits: within(FAILED_OVER_S), ..Trial::new("cluster_master_killed") };
    let row = hold(lab, &trial, |stage| {
        let watched = stage.store.cluster()?;
        let (home, _) = watched.group.home_of(POOL);
        watched.group.servers[home].down();
        watched.tell()?;
        wait_until("the replica is the master", ELECTED, || {
            Ok(role(&watched.group.servers[3 + home]) == "master")
        })?;
        watched.group.servers[home].up();
        watched.tell()
    })?;
    row.shows_degraded(50)
}

/// The slot of the pool goes to another master while calls come: some keys here, some there, and no script that needs both.
fn cluster_slot_moved(lab: &Lab) -> Result<()> {
    let trial = Trial { store: Kind::Cluster, limits: within(MOVED_S), ..Trial::new("cluster_slot_moved") };
    let row = hold(lab, &trial, move_slot)?;
    row.shows_degraded(20)
}

fn move_slot(stage: &mut Stage) -> Result<()> {
    let group = &stage.store.cluster()?.group;
    let (home, slot) = group.home_of(POOL);
    let goal = (home + 1) % 3;
    let (from, to) = (group.id(home), group.id(goal));
    group.servers[goal].say::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    group.servers[home].say::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    let mut moved = 0;
    loop {
        let keys: Vec<String> = group.servers[home].say(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
        let Some(key) = keys.first() else { break };
        let said: String =
            group.servers[home].say(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", group.ports[goal]));
        ensure!(said == "OK", "MIGRATE {key}: {said}");
        moved += 1;
        sleep(A_KEY);
    }
    ensure!(moved > 4, "only {moved} keys: the test shows nothing");
    for at in [goal, home, 3 - home - goal] {
        group.servers[at].say::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
    }
    let key = format!("{{mqs:p:{POOL}}}:own");
    let owner = stage.store.reader().eval("return redis.call('EXISTS',KEYS[1])", &key, "")?;
    ensure!(owner == Reply::Integer(1), "the pool is not where the slot is: {owner:?}");
    Ok(())
}
