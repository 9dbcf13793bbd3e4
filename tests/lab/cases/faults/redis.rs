//! One Redis, and the way to it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::limits::{UNTOUCHED_S, within};
use super::trial::{Trial, hold};
use super::{PARTS, PARTS_NEW};
use crate::Case;
use crate::cases::stage::Stage;
use crate::kamailio::Version;
use crate::relay::Faults;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "faults::redis_killed", needs: PARTS, run: redis_killed },
    Case { name: "faults::redis_stopped", needs: PARTS, run: redis_stopped },
    Case { name: "faults::redis_stopped_over_http", needs: PARTS, run: redis_stopped_over_http },
    Case { name: "faults::redis_stopped_on_kamailio_6", needs: PARTS_NEW, run: redis_stopped_on_kamailio_6 },
    Case { name: "faults::redis_paused", needs: PARTS, run: redis_paused },
    Case { name: "faults::redis_flushed", needs: PARTS, run: redis_flushed },
    Case { name: "faults::scripts_flushed", needs: PARTS, run: scripts_flushed },
    Case { name: "faults::link_cut", needs: PARTS, run: link_cut },
    Case { name: "faults::link_cut_for_one", needs: PARTS, run: link_cut_for_one },
    Case { name: "faults::link_half_open", needs: PARTS, run: link_half_open },
    Case { name: "faults::link_slow", needs: PARTS, run: link_slow },
];

/// All is forgotten: what is up is told again by the helpers, what comes is counted at once.
fn redis_killed(lab: &Lab) -> Result<()> {
    let row = hold(lab, &Trial::new("redis_killed"), |stage| {
        stage.store.alone()?.process.kill()?;
        sleep(Duration::from_secs(3));
        stage.store.alone()?.restart(lab)
    })?;
    row.shows_degraded(100)
}

fn redis_stopped(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial::new("redis_stopped"))
}

fn redis_stopped_over_http(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial { http: true, ..Trial::new("redis_stopped_over_http") })
}

fn redis_stopped_on_kamailio_6(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial { version: Version::New, ..Trial::new("redis_stopped_on_kamailio_6") })
}

fn stop_redis(lab: &Lab, trial: Trial) -> Result<()> {
    let row = hold(lab, &trial, |stage| {
        stage.store.alone()?.process.signal("STOP")?;
        sleep(Duration::from_secs(5));
        stage.store.alone()?.process.signal("CONT")
    })?;
    row.shows_degraded(200)?;
    row.hardly_slower()
}

fn redis_paused(lab: &Lab) -> Result<()> {
    let trial = Trial::new("redis_paused");
    let row = hold(lab, &trial, |stage| {
        stage.store.alone()?.call(&["CLIENT", "PAUSE", "3000"])?;
        sleep(Duration::from_secs(3));
        Ok(())
    })?;
    row.shows_degraded(100)
}

fn redis_flushed(lab: &Lab) -> Result<()> {
    let trial = Trial::new("redis_flushed");
    let flush = |stage: &mut Stage| stage.store.alone()?.call(&["FLUSHALL"]).map(drop);
    let row = hold(lab, &trial, flush)?;
    ensure!(row.missing_max > 0, "no lease was lost: the test shows nothing");
    Ok(())
}

fn scripts_flushed(lab: &Lab) -> Result<()> {
    let trial = Trial { limits: within(UNTOUCHED_S), ..Trial::new("scripts_flushed") };
    hold(lab, &trial, |stage| stage.store.alone()?.call(&["SCRIPT", "FLUSH"]).map(drop)).map(drop)
}

// ---------------------------------------------------------------- the link

fn link_cut(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_cut") };
    let row = hold(lab, &trial, |stage| {
        stage.links.iter().for_each(|link| link.cut());
        sleep(Duration::from_secs(4));
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    row.shows_degraded(100)
}

/// One helper goes on with exact answers while the other one gives stale ones.
fn link_cut_for_one(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_cut_for_one") };
    let row = hold(lab, &trial, |stage| {
        stage.links[0].cut();
        sleep(Duration::from_secs(4));
        stage.links[0].restore();
        Ok(())
    })?;
    row.shows_degraded(50)
}

/// Connections stand, new ones too, and nothing comes through: a host that vanished, a firewall that forgot.
fn link_half_open(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_half_open") };
    let row = hold(lab, &trial, |stage| {
        let swallow = Faults { swallow_requests: true, swallow_answers: true, ..Faults::default() };
        stage.links.iter().for_each(|link| link.set(swallow));
        sleep(Duration::from_secs(5));
        // A TCP connection never goes on behind lost bytes.
        stage.links.iter().for_each(|link| link.reset());
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    row.shows_degraded(200)?;
    row.hardly_slower()
}

/// Slower than the deadlines: Redis carries out everything, and MQS believes nothing of it.
fn link_slow(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_slow") };
    let row = hold(lab, &trial, |stage| {
        let delay = Duration::from_millis(60);
        let slow = Faults { requests_delay: delay, answers_delay: delay, ..Faults::default() };
        stage.links.iter().for_each(|link| link.set(slow));
        sleep(Duration::from_secs(5));
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    row.shows_degraded(200)?;
    row.hardly_slower()
}
