//! The link between the leader and one node breaks, or falls silent. The other node's callers are served meanwhile; those of
//! this one keep what they have: their places, and their talks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::clock;
use serde_json::Value;

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use super::judge;
use crate::Case;
use crate::relay::{Faults, Relay};
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] = &[
    Case { name: "queue::the_link_to_a_node_is_cut", needs: PARTS, run: cut },
    Case { name: "queue::the_link_to_a_node_falls_silent", needs: PARTS, run: silent },
];

const CALLS: u32 = 30;

const TALK: Duration = Duration::from_secs(2);

struct Limits {
    /// Offers on the other node while the fault lasts, at least.
    meanwhile: usize,
    /// After so long no offers are made on the node that is not heard.
    noticed_ms: u64,
    /// From the end of the fault to the first offer there.
    back_ms: u64,
}

fn cut(lab: &Lab) -> Result<()> {
    // The dialplan holds who comes meanwhile for up to 10 s.
    let limits = Limits { meanwhile: 3, noticed_ms: 500, back_ms: 5_000 };
    bad_link(lab, Relay::cut, Duration::from_secs(5), &limits)
}

fn silent(lab: &Lab) -> Result<()> {
    let swallow = |link: &Relay| {
        link.set(Faults { swallow_requests: true, swallow_answers: true, ..Faults::default() });
    };
    // Until it is noticed offers are made on the silent node, too, and what is asked of it there keeps their agents.
    let limits = Limits { meanwhile: 1, noticed_ms: 10_500, back_ms: 8_000 };
    // Longer than a peer may be silent: TCP would deliver what was said in a shorter time.
    bad_link(lab, swallow, Duration::from_secs(12), &limits)
}

fn bad_link(lab: &Lab, fault: impl Fn(&Relay), time: Duration, limits: &Limits) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { nodes: 2, agents: 6, relays: true, ..Plan::default() })?;
    let phones = floor.phones(Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.login(1..=6)?;
    // Some talk and some wait on either node; the others come while one of the two is not heard.
    let mut callers = floor.waiting_callers(CALLS, 10)?;
    floor.wait_for("connected", 6, LIMIT)?;
    floor.wait_for("enqueued", 16, LIMIT)?;
    let begun = clock::wall().0;
    fault(&floor.links[1]);
    std::thread::sleep(time);
    floor.links[1].restore();
    let healed = clock::wall().0;
    let stats = callers.success(Duration::from_secs(45))?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    floor.wait_for("done", CALLS as usize, LIMIT)?;
    floor.is_empty()?;
    let (events, rings) = (floor.events()?, judge::rings(&phones.logs())?);
    judge::each_call_once(&events, CALLS as usize)?;
    judge::each_caller_once(&rings, CALLS as usize)?;
    judge::one_call_at_a_time(&rings)?;
    judge::nobody_parted(&rings, &callers.logs(), TALK)?;
    ensure!(judge::talks_at(&rings, begun as f64 / 1000.0) > 0, "nobody talked: the test shows nothing");
    let meanwhile = offers(&events, "ast1-").filter(|at| (begun..healed).contains(at)).count();
    let noticed = begun + limits.noticed_ms;
    let there = offers(&events, "ast2-").filter(|at| (noticed..healed).contains(at)).count();
    let again = offers(&events, "ast2-").find(|at| *at >= healed).context("no offer on the node any more")?;
    lab.tell(format!(
        "{meanwhile} offers on the other node meanwhile; on this one {} ms after the fault",
        again - healed
    ));
    lab.tell(judge::waits(&events));
    ensure!(meanwhile >= limits.meanwhile, "{meanwhile} offers on the other node");
    ensure!(there == 0, "{there} offers on a node that is not heard");
    ensure!(again - healed <= limits.back_ms, "{} ms", again - healed);
    Ok(())
}

/// When offers of this node's calls were made.
fn offers<'a>(events: &'a [Value], node: &'a str) -> impl Iterator<Item = u64> + 'a {
    let of_node = move |event: &&Value| {
        event["event"] == "offered" && event["call"].as_str().is_some_and(|call| call.starts_with(node))
    };
    events.iter().filter(of_node).filter_map(|event| event["at"].as_u64())
}
