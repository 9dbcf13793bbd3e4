//! Calls that an agent makes in the middle of a talk: they come to the node of that talk, if it is there.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::floor::{Floor, LIMIT, Plan, agent};
use super::own::{ECHO, is_answered, is_left_alone};
use super::{PARTS, PARTS_NEW};
use crate::Case;
use crate::kamailio::Version;
use crate::net::{now, wait_until};
use crate::room::Lab;
use crate::sipp::{Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "queue::who_asks_is_in_use_when_the_caller_has_gone", needs: PARTS, run: caller_goes },
    Case {
        name: "queue::who_asks_comes_to_the_node_of_the_talk",
        needs: PARTS,
        run: |lab| same_node(lab, &plan()),
    },
    Case {
        name: "queue::who_asks_comes_to_the_node_of_the_talk_on_6_1",
        needs: PARTS_NEW,
        run: |lab| same_node(lab, &Plan { version: Version::New, ..plan() }),
    },
    Case {
        name: "queue::who_asks_comes_to_the_node_of_the_talk_over_tcp",
        needs: PARTS,
        run: |lab| same_node(lab, &Plan { tcp: true, ..plan() }),
    },
    Case {
        name: "queue::who_asks_comes_to_the_node_of_the_talk_in_another_pool",
        needs: PARTS,
        run: |lab| same_node(lab, &Plan { extra: SMALL_POOL, ..plan() }),
    },
    Case {
        name: "queue::a_talk_on_a_node_that_is_gone_keeps_no_call_back",
        needs: PARTS,
        run: |lab| gone(lab, Version::System),
    },
    Case {
        name: "queue::a_talk_on_a_node_that_is_gone_keeps_no_call_back_on_6_1",
        needs: PARTS_NEW,
        run: |lab| gone(lab, Version::New),
    },
    Case {
        name: "queue::a_talk_without_a_bye_is_forgotten",
        needs: PARTS,
        run: |lab| forgotten(lab, Version::System),
    },
    Case {
        name: "queue::a_talk_without_a_bye_is_forgotten_on_6_1",
        needs: PARTS_NEW,
        run: |lab| forgotten(lab, Version::New),
    },
];

/// The first pool, which has no node that would take a call.
const SMALL_POOL: &str = "[[pool]]\nname = \"small\"\noverflow = \"default\"\n[pool.health]\nprobe_every_ms = 0\n\n\
     [[pool.node]]\nid = \"none\"\nuri = \"sip:127.0.0.9\"\nstate = \"draining\"\ncapacity = 1\nari = \"off\"\n\n";

fn plan() -> Plan<'static> {
    Plan { nodes: 2, ..Plan::default() }
}

/// Agent 1 talks to a caller who stays for so long.
fn talks(floor: &mut Floor<'_>, time: Duration) -> Result<(Sipp, Sipp)> {
    let phones = floor.phones(Scenario::File("agent.xml"), Duration::from_millis(200))?;
    floor.registrations_are_read();
    floor.login([1])?;
    let callers = floor.callers(1, 1, time)?;
    floor.wait_for("connected", 1, LIMIT)?;
    Ok((phones, callers))
}

/// With whom Kamailio believes that agents talk.
fn believed(floor: &Floor<'_>, lab: &Lab) -> Result<String> {
    floor.proxies[0].rpc(lab, &["htable.dump", "talks"])
}

/// Kamailio believes that agent 1 talks on this node.
fn believe(floor: &Floor<'_>, lab: &Lab, node: &str, uri: &str) -> Result<()> {
    let talk = format!("x {node} default {uri}");
    floor.proxies[0].rpc(lab, &["htable.sets", "talks", &agent(1), &talk]).map(drop)
}

fn caller_goes(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan())?;
    let (_phones, mut callers) = talks(&mut floor, Duration::from_secs(4))?;
    let mut own = floor.agent_call(1, ECHO).hold(Duration::from_secs(10)).start(lab)?;
    is_answered(&own)?;
    callers.success(LIMIT)?;
    floor.wait_for("offer-ended", 1, LIMIT)?;
    floor.wait_agent(1, "in-use")?;
    let mut next = floor.callers(1, 1, Duration::from_secs(12))?;
    floor.wait_for("enqueued", 2, LIMIT)?;
    is_left_alone(&floor, 1)?;
    own.success(LIMIT)?;
    floor.wait_for("connected", 2, LIMIT)?;
    next.success(LIMIT)?;
    floor.is_empty()
}

/// Two times, so that chance does not bring both there.
fn same_node(lab: &Lab, plan: &Plan<'_>) -> Result<()> {
    let mut floor = Floor::set(lab, plan)?;
    let (_phones, mut callers) = talks(&mut floor, Duration::from_secs(9))?;
    let mut own = Vec::new();
    for _ in 0..2 {
        let call = floor.agent_call(1, ECHO).hold(Duration::from_secs(4)).start(lab)?;
        is_answered(&call)?;
        own.push(call);
    }
    let mut channels = Vec::new();
    for node in &floor.nodes {
        channels.push(node.channels()?.len());
    }
    channels.sort_unstable();
    ensure!(channels == [0, 4], "channels of the nodes: {channels:?}; {}", believed(&floor, lab)?);
    ensure!(floor.load()? == 4, "{} leases", floor.load()?);
    for call in &mut own {
        call.success(LIMIT)?;
    }
    callers.success(LIMIT)?;
    floor.is_empty()?;
    ensure!(!believed(&floor, lab)?.contains("agent1"), "{}", believed(&floor, lab)?);
    Ok(())
}

/// MQS does not know the node; it is silent; and in an emergency nobody waits for it.
fn gone(lab: &Lab, version: Version) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { version, ..Plan::default() })?;
    floor.login([1])?;
    let silent = format!("sip:{}", SocketAddrV4::new(lab.address(), 5060));
    for (node, number, least, most) in
        [("ast9", ECHO, 0, 1_500), ("ast1", "112", 0, 1_500), ("ast1", ECHO, 1_900, 4_000)]
    {
        believe(&floor, lab, node, &silent)?;
        let begun = now();
        let mut own = floor.agent_call(1, number).hold(Duration::from_secs(2)).start(lab)?;
        is_answered(&own).with_context(|| format!("{number}, {node}: {:?}", own.logs()))?;
        let took = u64::try_from(begun.elapsed().as_millis())?;
        lab.tell(format!("{number} is answered after {took} ms where the talk is on {node}"));
        ensure!((least..=most).contains(&took), "{number}, {node}: {took} ms");
        floor.wait_agent(1, "in-use")?;
        // The lease of the way that it went, and that alone, is confirmed.
        ensure!(floor.load()? == 1, "{number}, {node}: {} leases", floor.load()?);
        own.success(LIMIT)?;
        floor.wait_agent(1, "ready")?;
        floor.is_empty()?;
    }
    ensure!(!believed(&floor, lab)?.contains("agent1"), "{}", believed(&floor, lab)?);
    Ok(())
}

/// Kamailio gives the dialog up by itself.
fn forgotten(lab: &Lab, version: Version) -> Result<()> {
    let plan = Plan { version, defines: &["DIALOG_MAX_S=4"], ..Plan::default() };
    let mut floor = Floor::set(lab, &plan)?;
    let (_phones, _callers) = talks(&mut floor, Duration::from_secs(20))?;
    let talking = believed(&floor, lab)?;
    ensure!(talking.contains("agent1"), "{talking}");
    wait_until("the talk is forgotten", LIMIT, || Ok(!believed(&floor, lab)?.contains("agent1")))?;
    ensure!(floor.agent(1)?["state"] == "talking", "{}", floor.agent(1)?);
    Ok(())
}
