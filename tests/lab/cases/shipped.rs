//! What the project ships for others to use: the Kamailio configuration under every switch, and the SIPp script.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::parts::{self, Part};
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "shipped::kamailio_5_6_takes_every_switch", needs: &[Part::Kamailio], run: switches_of_5_6 },
    Case { name: "shipped::kamailio_6_takes_every_switch", needs: &[Part::KamailioNew], run: switches_of_6 },
    Case { name: "shipped::every_scenario_is_named", needs: &[], run: every_scenario_is_named },
    Case { name: "shipped::the_sipp_script_counts_right", needs: &[Part::Sipp], run: sipp_script },
];

/// Switches that need nothing but Kamailio's own modules; each alone, and all together.
const SWITCHES: [&str; 9] = [
    "WITH_MQS_HTTP",
    "WITH_MQS_RR",
    "WITH_MQS_STATIC",
    "WITH_TCP",
    "WITH_RTPENGINE",
    "WITH_DIALOG_KA",
    "WITH_STRICT_DIALOGS",
    "WITHOUT_AUTH",
    "WITHOUT_PIKE",
];

fn switches_of_5_6(lab: &Lab) -> Result<()> {
    switches(lab, Version::System)
}

fn switches_of_6(lab: &Lab) -> Result<()> {
    switches(lab, Version::New)
}

fn switches(lab: &Lab, version: Version) -> Result<()> {
    let plain = || KamailioConfig::new(lab, "k1").define("RUN_DIR", "/tmp");
    let sets = SWITCHES.iter().map(|one| vec![*one]).chain([
        Vec::new(),
        SWITCHES.to_vec(),
        vec!["WITH_WEBSOCKET", "WITH_TCP"],
        vec!["WITH_WEBSOCKET", "WITH_TCP", "WITH_TLS"],
    ]);
    for set in sets {
        let config = set.iter().fold(plain(), |config, switch| config.switch(switch));
        Kamailio::check(lab, version, &config).with_context(|| format!("switches {set:?}"))?;
    }
    // The check can say no.
    let wrong = plain().define("MQS_CMD_TIMEOUT_MS", "soon");
    ensure!(Kamailio::check(lab, version, &wrong).is_err(), "a time-out of \"soon\" is taken");
    Ok(())
}

/// Without a proxy, straight to a node that answers and to one that refuses.
/// Each file is named where it is told what there is, and what is told of is there.
fn every_scenario_is_named(_: &Lab) -> Result<()> {
    let directory = parts::checkout().join("sipp-scenarios");
    let told = std::fs::read_to_string(directory.join("README.md"))?;
    let named: BTreeSet<&str> =
        told.split('`').filter(|word| word.ends_with(".xml") && !word.contains(' ')).collect();
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        there.extend(name.ends_with(".xml").then_some(name));
    }
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    let apart: Vec<&&str> = named.symmetric_difference(&there).collect();
    ensure!(apart.is_empty(), "there, or in the README, but not both: {apart:?}");
    Ok(())
}

fn sipp_script(lab: &Lab) -> Result<()> {
    let sipp = lab.parts().get(Part::Sipp)?.path.clone();
    let run = |scenario: &str| -> Result<(bool, serde_json::Value)> {
        let (node, caller) = (lab.address(), lab.address());
        let mut script = Command::new(parts::checkout().join("sipp-scenarios/run.sh"));
        script.env("SIPP", &sipp).args(["--json", "--calls", "20", "--rate", "20", "--hold-ms", "300"]);
        script.args(["--node", &format!("{node}:5060={scenario}"), "--proxy", &format!("{node}:5060")]);
        let output = script
            .args(["--bind", &caller.to_string(), "--timeout-s", "60"])
            .output()
            .context("running run.sh")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(&text)
            .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.success(), json))
    };
    let (well, figures) = run("node")?;
    ensure!(well && figures["succeeded"] == 20 && figures["failed"] == 0, "{figures:#}");
    let (well, figures) = run("node-503")?;
    ensure!(!well && figures["succeeded"] == 0 && figures["failed"] == 20, "{figures:#}");
    Ok(())
}
