//! One instance that keeps everything in a file, and no Redis.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;

use super::PARTS_FILE;
use super::floor::{Floor, LIMIT, Plan};
use super::judge;
use crate::Case;
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] =
    &[Case { name: "queue::killed_with_its_queue_in_a_file", needs: PARTS_FILE, run: killed }];

/// An epoch is granted for 4 s, and ends by itself.
const BACK_WITHIN_MS: u64 = 6_000;

const AWAY: Duration = Duration::from_secs(2);

fn killed(lab: &Lab) -> Result<()> {
    const CALLS: u32 = 24;
    const TALK: Duration = Duration::from_secs(3);
    let mut floor = Floor::set(lab, &Plan { nodes: 2, agents: 6, file: true, ..Plan::default() })?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.login(1..=5)?;
    floor.pause(5)?;
    // Kamailio takes no new calls while its helper is away.
    let mut callers = floor.waiting_callers(CALLS, 15)?;
    floor.wait_for("enqueued", CALLS as usize, LIMIT)?;
    floor.wait_for("connected", 4, LIMIT)?;
    let killed = clock::wall().0;
    floor.instances[0].process.kill()?;
    std::thread::sleep(AWAY);
    floor.instances[0].restart(lab)?;
    let started = clock::wall().0;
    for (number, states) in [(1, &["ready", "offered", "talking"][..]), (5, &["paused"]), (6, &["offline"])] {
        let agent = floor.agent(number)?;
        let state = agent["state"].as_str().context("no state")?;
        ensure!(states.contains(&state), "{agent}");
    }
    let stats = callers.success(Duration::from_secs(45))?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    floor.wait_for("done", CALLS as usize, LIMIT)?;
    floor.is_empty()?;
    let (events, rings) = (floor.told()?, judge::rings(&phones.logs())?);
    judge::each_call_once(&events, CALLS as usize)?;
    judge::in_order(&events)?;
    judge::nobody_overtaken(&events)?;
    judge::each_caller_once(&rings, CALLS as usize)?;
    judge::one_call_at_a_time(&rings)?;
    ensure!(rings.iter().all(|ring| ["agent1", "agent2", "agent3", "agent4"].contains(&ring.agent.as_str())));
    // Whoever was in a talk went on talking until the agent hung up.
    let parted = rings.iter().filter(|ring| ring.event == "bye").count();
    ensure!(parted == 0, "{parted} talks were ended by the node");
    let at = |event: &serde_json::Value| event["at"].as_u64().unwrap_or_default();
    let later = events.iter().filter(|event| event["event"] == "offered" && at(event) > killed);
    let again = later.map(at).min().context("no offer after the kill")?;
    lab.tell(format!("offers go on {} ms after the start", again.saturating_sub(started)));
    ensure!(again <= started + BACK_WITHIN_MS, "{} ms", again.saturating_sub(started));
    Ok(())
}
