//! Helpers and proxies that end, hang and start again.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::limits::{BACK_S, Limits, within};
use super::trial::{RATE, Trial, hold};
use super::{HELD_S, PARTS};
use crate::Case;
use crate::cases::stage::Stage;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "faults::helper_killed", needs: PARTS, run: helper_killed },
    Case { name: "faults::helper_killed_without_a_list", needs: PARTS, run: helper_killed_without_a_list },
    Case { name: "faults::helper_stopped", needs: PARTS, run: helper_stopped },
    Case { name: "faults::kamailio_restarted", needs: PARTS, run: kamailio_restarted },
];

fn kill_a_helper(lab: &Lab, stage: &mut Stage) -> Result<()> {
    stage.helpers[0].process.kill()?;
    sleep(Duration::from_secs(3));
    stage.helpers[0].restart(lab)
}

/// Its Kamailio goes on by a list of its own; those calls are not counted.
fn helper_killed(lab: &Lab) -> Result<()> {
    let trial = Trial { static_list: true, ..Trial::new("helper_killed") };
    let row = hold(lab, &trial, |stage| kill_a_helper(lab, stage))?;
    ensure!(row.unleased > 50, "only {} calls by the list: the test shows nothing", row.unleased);
    Ok(())
}

/// Without the list its Kamailio refuses: with `MQS_AWAY_CODE`, at once, and nothing else breaks.
fn helper_killed_without_a_list(lab: &Lab) -> Result<()> {
    let failed_max = u64::from(RATE) * 6;
    let trial = Trial {
        limits: Limits { failed_max, ..within(BACK_S) },
        ..Trial::new("helper_killed_without_a_list")
    };
    let row = hold(lab, &trial, |stage| kill_a_helper(lab, stage))?;
    let away = row.refused.get("500").copied().unwrap_or(0);
    ensure!(row.failed == away, "{} calls failed, {away} of them refused with 500", row.failed);
    Ok(())
}

fn helper_stopped(lab: &Lab) -> Result<()> {
    let trial = Trial { static_list: true, limits: within(HELD_S + 2.0), ..Trial::new("helper_stopped") };
    let row = hold(lab, &trial, |stage| {
        stage.helpers[0].process.signal("STOP")?;
        sleep(Duration::from_secs(5));
        stage.helpers[0].process.signal("CONT")
    })?;
    ensure!(row.unleased > 50, "only {} calls by the list: the test shows nothing", row.unleased);
    Ok(())
}

/// It forgets its dialogs: nobody says DONE for the calls that were up, and their leases end by their lifetime.
fn kamailio_restarted(lab: &Lab) -> Result<()> {
    let call_max_s = 10;
    let trial = Trial {
        long_calls: false,
        call_max_s,
        limits: within(call_max_s as f64),
        ..Trial::new("kamailio_restarted")
    };
    let row = hold(lab, &trial, |stage| stage.proxies[0].restart(lab))?;
    ensure!(row.extra_max > 0, "no lease outlived its call: the test shows nothing");
    Ok(())
}
