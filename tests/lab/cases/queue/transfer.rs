//! Agents pass callers on, by REFER.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::PARTS;
use super::floor::{DOMAIN, Floor, LIMIT, Plan, agent};
use crate::Case;
use crate::answerer::Answerer;
use crate::net::wait_until;
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};
use crate::voice::TONES;

pub const CASES: &[Case] = &[
    Case { name: "queue::transfer_to_a_queue", needs: PARTS, run: to_a_queue },
    Case { name: "queue::transfer_to_an_agent", needs: PARTS, run: to_an_agent },
    Case { name: "queue::transfer_to_an_agent_who_refuses", needs: PARTS, run: to_one_who_refuses },
    Case { name: "queue::transfer_to_a_number", needs: PARTS, run: to_a_number },
    Case { name: "queue::transfer_after_asking", needs: PARTS, run: after_asking },
    Case { name: "queue::transfer_after_asking_a_number", needs: PARTS, run: after_asking_a_number },
    Case { name: "queue::transfer_to_a_number_that_fails", needs: PARTS, run: to_a_number_that_fails },
];

/// How long they talk before and after.
const TALK: Duration = Duration::from_secs(1);

/// Behind `sales` of all agents there is `care`, dialled 7100; numbers go out by the dialplan.
fn plan() -> Plan<'static> {
    Plan {
        agents: 2,
        queue: "numbers = [\"7000\"]",
        cell: "transfer_out = \"outside\"",
        node: &["--transfer", "k1,carrier.example"],
        extra: "[[queue]]\nid = \"care\"\nnumbers = [\"7100\"]\nwrap_up_s = 0\n\n\
                [[agent]]\nid = \"anne\"\naor = \"agent3@pbx.example\"\nqueues = [\"care\"]\n\n\
                [[treatment]]\nid = \"outside\"\ncontext = \"mqs-transfer\"\nextension = \"0\"\n\n",
        ..Plan::default()
    }
}

/// The phone of agent 1, who talks for a moment and passes the caller on.
fn passes_on(floor: &mut Floor<'_>, lab: &Lab, target: &str) -> Result<Sipp> {
    let phone = sipp::callee("passes-on", Scenario::File("agent-transfers.xml"));
    let phone = phone.patient().hold(TALK).key("target", target).key("domain", DOMAIN).start(lab)?;
    floor.register_at(0, phone.local(), &[1])?;
    Ok(phone)
}

/// The SIP statuses that the phone was told of, the last one final.
fn told(phone: &Sipp) -> Vec<u16> {
    let code = |line: &String| line.split("code=").nth(1)?.trim().parse().ok();
    phone.logs().iter().filter(|line| line.starts_with("event=notify")).filter_map(code).collect()
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn ends(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    of(events, "offer-ended").iter().map(|event| (text(&event["agent"]), text(&event["how"]))).collect()
}

fn pair(agent: &str, how: &str) -> (String, String) {
    (agent.to_owned(), how.to_owned())
}

fn to_a_queue(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan())?;
    let phone = passes_on(&mut floor, lab, "7100")?;
    floor.know(&agent(3))?;
    let other = floor.phones_for(&[3], Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.registrations_are_read();
    floor.login([1])?;
    floor.login_as("anne")?;
    let mut callers = floor.waiting_callers(1, 1)?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred"), pair("anne", "taken")], "{:?}", ends(&events));
    ensure!(of(&events, "transferred")[0]["to"] == "queue care", "{events:?}");
    ensure!(of(&events, "done").len() == 1, "{events:?}");
    ensure!(told(&phone).last() == Some(&200), "{:?}", phone.logs());
    ensure!(other.logged("answered") == 1);
    Ok(())
}

fn to_an_agent(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan())?;
    let phone = passes_on(&mut floor, lab, &agent(2))?;
    let _other = floor.phones_for(&[2], Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.registrations_are_read();
    floor.login([1])?;
    let mut callers = floor.waiting_callers(1, 1)?;
    floor.wait_for("connected", 1, LIMIT)?;
    floor.login([2])?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred"), pair("agent2", "taken")], "{:?}", ends(&events));
    ensure!(of(&events, "transferred")[0]["to"] == "agent agent2", "{events:?}");
    ensure!(told(&phone).last() == Some(&200), "{:?}", phone.logs());
    Ok(())
}

fn to_one_who_refuses(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &plan())?;
    let phone = passes_on(&mut floor, lab, &agent(2))?;
    let _other = floor.phones_for(&[2], Scenario::File("agent-declines.xml"), TALK)?;
    floor.registrations_are_read();
    floor.login([1])?;
    let mut callers = floor.waiting_callers(1, 1)?;
    floor.wait_for("connected", 1, LIMIT)?;
    floor.login([2])?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent2", "refused"), pair("agent1", "taken")], "{:?}", ends(&events));
    ensure!(of(&events, "transferred").is_empty(), "{events:?}");
    ensure!(told(&phone).last().is_some_and(|code| *code >= 400), "{:?}", phone.logs());
    Ok(())
}

/// Somebody outside, behind the trunk; what the phone there does is in the scenario.
fn outside<'a>(lab: &'a Lab, plan: Plan<'static>, scenario: &'static str) -> Result<(Floor<'a>, Sipp)> {
    let there = sipp::callee("outside", Scenario::File(scenario)).hold(TALK).start(lab)?;
    let trunk = format!("TRUNK_URI=sip:{}", there.local());
    let defines = [trunk.as_str()];
    let plan = Plan { defines: &defines, ..plan };
    Ok((Floor::set(lab, &plan)?, there))
}

fn to_a_number(lab: &Lab) -> Result<()> {
    let (mut floor, there) = outside(lab, plan(), "agent-hangs-up.xml")?;
    let phone = passes_on(&mut floor, lab, "+49301234")?;
    floor.registrations_are_read();
    floor.login([1])?;
    let mut callers = floor.waiting_callers(1, 1)?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred")], "{:?}", ends(&events));
    ensure!(of(&events, "done")[0]["reason"] == "treated", "{events:?}");
    ensure!(told(&phone).last() == Some(&200), "{:?}", phone.logs());
    let called = there
        .logs()
        .into_iter()
        .find(|line| line.starts_with("event=invite"))
        .context("nobody was called")?;
    ensure!(called.contains("agent=+49301234 "), "{called}");
    Ok(())
}

fn to_a_number_that_fails(lab: &Lab) -> Result<()> {
    let (mut floor, there) = outside(lab, plan(), "agent-busy.xml")?;
    let _phone = passes_on(&mut floor, lab, "+49301234")?;
    let _other = floor.phones_for(&[2], Scenario::File("agent-hangs-up.xml"), TALK)?;
    floor.registrations_are_read();
    floor.login([1])?;
    let mut callers = floor.waiting_callers(1, 1)?;
    floor.wait_for("connected", 1, LIMIT)?;
    floor.pause(1)?;
    floor.login([2])?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    ensure!(there.logged("invite") > 0, "nobody was called");
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred"), pair("agent2", "taken")], "{:?}", ends(&events));
    // The second time it waits, it has waited since the first.
    let connected = of(&events, "connected");
    let waited = |event: &Value| event["waited_ms"].as_u64();
    wait_until("both talked", LIMIT, || Ok(connected.len() == 2))?;
    ensure!(waited(connected[1]) > waited(connected[0]).map(|ms| ms + 1000), "{connected:?}");
    Ok(())
}

/// A phone that has the caller, and calls somebody to ask.
struct Asks {
    phone: Answerer,
    asks: Sipp,
}

impl Asks {
    /// Agent 1 talks to a caller, and calls `number`.
    fn start(floor: &mut Floor<'_>, lab: &Lab, number: &str) -> Result<(Asks, Sipp)> {
        let mut phone = Answerer::new(lab, Duration::from_millis(200), TONES[0])?;
        floor.register_at(0, phone.address(), &[1])?;
        floor.registrations_are_read();
        floor.login([1])?;
        let callers = floor.callers(1, 1, Duration::from_secs(9))?;
        wait_until("agent 1 talks", LIMIT, || {
            phone.step()?;
            Ok(phone.answered.is_some() && floor.count("connected")? == 1)
        })?;
        let asks = floor.agent_call(1, number).hold(Duration::from_secs(30)).start(lab)?;
        Ok((Asks { phone, asks }, callers))
    }

    fn is_answered(&self) -> bool {
        self.asks.logged("answered") > 0
    }

    /// Puts the caller into the place of the call to `number`; both calls of the phone end.
    fn join(&mut self, number: &str) -> Result<()> {
        let Asks { phone, asks } = self;
        let lines = asks.logs();
        let line = lines.iter().find(|line| line.starts_with("event=answered")).context("not answered")?;
        let word = |name: &str| {
            line.split([' ', '\n']).find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        let replaces = format!(
            "sip:{number}@{DOMAIN}?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
            word("call_id=").replace('@', "%40"),
            word("to_tag="),
            word("from_tag=")
        );
        phone.refer(&replaces)?;
        wait_until("the phone is told", LIMIT, || {
            phone.step()?;
            Ok(phone.told.last().is_some_and(|code| *code >= 200))
        })?;
        ensure!(phone.told.last() == Some(&200), "{:?}", phone.told);
        wait_until("the phone is hung up", LIMIT, || {
            phone.step()?;
            Ok(phone.ended.is_some())
        })?;
        asks.success(LIMIT)?;
        Ok(())
    }
}

/// Agent 1 asks `care`, where agent 3 answers. Two nodes: the second call has to come to the node of the first.
fn after_asking(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { nodes: 2, node: &["--queue", "7100=care"], ..plan() })?;
    floor.know(&agent(3))?;
    let other = floor.phones_for(&[3], Scenario::File("agent.xml"), Duration::from_millis(200))?;
    floor.registrations_are_read();
    floor.login_as("anne")?;
    let (mut asks, mut callers) = Asks::start(&mut floor, lab, "7100")?;
    wait_until("agent 3 talks to agent 1", LIMIT, || Ok(floor.count("connected")? == 2))?;
    asks.join("7100")?;
    floor.wait_for("connected", 3, LIMIT)?;
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred"), pair("anne", "taken")], "{:?}", ends(&events));
    let reasons: Vec<&Value> = of(&events, "done").iter().map(|event| &event["reason"]).collect();
    ensure!(reasons == ["transferred", "caller-hung-up"], "{reasons:?}");
    ensure!(other.logged("invite") == 1, "{:?}", other.logs());
    Ok(())
}

/// Agent 1 asks somebody behind the trunk, whom a site's own dialplan calls.
fn after_asking_a_number(lab: &Lab) -> Result<()> {
    const NUMBER: &str = "+49301234";
    let site = lab.write(
        "site.conf",
        "[site]\nexten => _+X.,1,Gosub(mqs-accept,s,1)\n same => n,Dial(PJSIP/k1/sip:${EXTEN}@carrier.example,30)\n \
         same => n,Hangup()\n",
    )?;
    let site = site.display().to_string();
    let options = ["--transfer", "k1,carrier.example", "--dialplan", &site];
    let there = sipp::callee("outside", Scenario::File("agent.xml")).start(lab)?;
    let trunk = format!("TRUNK_URI=sip:{}", there.local());
    let plan = Plan { nodes: 2, node: &options, defines: &[&trunk], ..plan() };
    let mut floor = Floor::set(lab, &plan)?;
    let (mut asks, mut callers) = Asks::start(&mut floor, lab, NUMBER)?;
    wait_until("whoever is asked has answered", LIMIT, || Ok(asks.is_answered()))?;
    asks.join(NUMBER)?;
    std::thread::sleep(TALK);
    ensure!(there.logged("bye") == 0, "whoever was asked was hung up, not joined with the caller");
    ensure!(callers.success(LIMIT)?.successful() == 1, "{}", callers.errors());
    floor.is_empty()?;
    let events = floor.told()?;
    ensure!(ends(&events) == [pair("agent1", "transferred")], "{:?}", ends(&events));
    let reasons: Vec<&Value> = of(&events, "done").iter().map(|event| &event["reason"]).collect();
    ensure!(reasons == ["treated"], "{reasons:?}");
    ensure!((there.logged("invite"), there.logged("bye")) == (1, 1), "{:?}", there.logs());
    Ok(())
}
