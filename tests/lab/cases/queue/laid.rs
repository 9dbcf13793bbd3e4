//! A queue and an agent that nobody has written into the configuration.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::PARTS;
use super::floor::{DOMAIN, Floor, LIMIT, NIGHT, Plan, SECRET};
use crate::Case;
use crate::net::wait_until;
use crate::room::Lab;
use crate::sipp::{self, Scenario};

pub const CASES: &[Case] =
    &[Case { name: "queue::a_queue_is_laid_down_at_run_time", needs: PARTS, run: laid_down }];

fn laid_down(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    let say = |floor: &Floor<'_>, method: &str, path: &str, body: &str| -> Result<()> {
        let answer = floor.instances[0].http(method, path, Some(body))?;
        ensure!(answer.status == 200, "{method} {path}: {} {}", answer.status, answer.body);
        Ok(())
    };
    say(&floor, "PUT", "/v1/queues/night", r#"{"wrap_up_s":0,"ring_s":10}"#)?;
    let agent = format!(r#"{{"aor":"agent2@{DOMAIN}","queues":["night"]}}"#);
    say(&floor, "PUT", "/v1/agents/agent2", &agent)?;
    floor.proxies[0].rpc(lab, &["htable.sets", "agent", "agent2", SECRET])?;
    let phones = sipp::callee("phones", Scenario::File("agent-hangs-up.xml"));
    let phones = phones.hold(Duration::from_millis(500)).start(lab)?;
    floor.register_at(0, phones.local(), &[2])?;
    floor.login([2])?;
    let mut callers = floor.call(0, "caller-bye-from-node.xml").service(NIGHT).start(lab)?;
    floor.wait_for("connected", 1, LIMIT)?;
    callers.success(LIMIT)?;
    // Who waits when it is taken away is hung up: nothing else is laid down for such a caller.
    floor.pause(2)?;
    let mut waiting = floor.call(0, "caller-bye-from-node.xml").service(NIGHT).calls(2).start(lab)?;
    floor.wait_for("enqueued", 3, LIMIT)?;
    say(&floor, "DELETE", "/v1/queues/night", "")?;
    waiting.success(LIMIT)?;
    let treated = |floor: &Floor<'_>| -> Result<usize> {
        let all = floor.events()?;
        Ok(all.iter().filter(|e| e["event"] == "treated" && e["why"] == "no-queue").count())
    };
    wait_until("both are treated", LIMIT, || Ok(treated(&floor)? == 2))?;
    floor.is_empty()
}
