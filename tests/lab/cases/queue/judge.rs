//! Says what was wrong, from what the phones and the cell have logged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// One line of a phone's log.
#[derive(Clone, Debug)]
pub struct Ring {
    pub event: String,
    pub at: f64,
    pub call_id: String,
    pub agent: String,
    /// The Call-ID of the caller's own dialog.
    pub caller: String,
    /// The Kamailio that the INVITE came from, where the phone tells.
    pub proxy: Option<String>,
}

/// What phones have logged, in the order of time.
pub fn rings(lines: &[String]) -> Result<Vec<Ring>> {
    let field = |line: &str, key: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{key}=")).map(str::to_owned))
    };
    let mut rings = Vec::new();
    for line in lines.iter().filter(|line| line.contains("event=")) {
        let get = |key: &str| field(line, key).with_context(|| format!("no {key} in {line}"));
        rings.push(Ring {
            event: get("event")?,
            at: get("at")?.parse()?,
            call_id: get("call_id")?,
            agent: get("agent")?,
            caller: get("caller")?,
            proxy: field(line, "proxy"),
        });
    }
    rings.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(rings)
}

/// No phone was rung while a leg to it was there.
pub fn one_call_at_a_time(rings: &[Ring]) -> Result<()> {
    let mut busy: BTreeMap<&str, &str> = BTreeMap::new();
    for ring in rings {
        match ring.event.as_str() {
            "invite" => {
                if let Some(other) = busy.insert(&ring.agent, &ring.call_id)
                    && other != ring.call_id
                {
                    bail!("{} was rung for {} while {other} was there", ring.agent, ring.call_id);
                }
            }
            "bye" | "bye-sent" | "cancel" | "refused"
                if busy.get(ring.agent.as_str()).is_some_and(|call_id| *call_id == ring.call_id) =>
            {
                busy.remove(ring.agent.as_str());
            }
            _ => {}
        }
    }
    Ok(())
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_default()
}

fn of<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

/// So many calls have met an agent, each of them one, and once.
pub fn each_call_once(events: &[Value], calls: usize) -> Result<()> {
    let mut met = BTreeSet::new();
    for event in of(events, "connected") {
        ensure!(met.insert(text(event, "call")), "{} was connected twice", text(event, "call"));
    }
    ensure!(met.len() == calls, "{} of {calls} calls were connected", met.len());
    let done: BTreeSet<&str> = of(events, "done").map(|event| text(event, "call")).collect();
    ensure!(done.len() == calls, "{} of {calls} calls are over", done.len());
    Ok(())
}

/// The calls of which there are such events, each once, in the order of the first of them.
pub fn calls_in<'a>(events: &'a [Value], kind: &'a str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    of(events, kind).map(|event| text(event, "call")).filter(|call| seen.insert(*call)).collect()
}

/// Calls were offered for the first time in the order in which they came.
pub fn in_order(events: &[Value]) -> Result<()> {
    let came: BTreeMap<&str, u64> = of(events, "enqueued")
        .map(|event| (text(event, "call"), event["at"].as_u64().unwrap_or_default()))
        .collect();
    let (mut offered, mut last) = (BTreeSet::new(), ("", 0));
    for call in of(events, "offered").map(|event| text(event, "call")).filter(|call| offered.insert(*call)) {
        let at = *came.get(call).with_context(|| format!("{call} was offered, and never came"))?;
        // Of two that came in one millisecond either may be the first: the one was offered before the other was known.
        ensure!(at >= last.1, "{} was offered before {call}, which came {} ms earlier", last.0, last.1 - at);
        last = (call, at);
    }
    Ok(())
}

/// When the first event after this moment was.
pub fn first_after(events: &[Value], moment: u64) -> Option<u64> {
    events.iter().filter_map(|event| event["at"].as_u64()).filter(|at| *at > moment).min()
}

/// The longest time without an offer that began after `from`: when it ended.
pub fn next_offer(events: &[Value], from: u64) -> Result<u64> {
    let at = |event: &Value| event["at"].as_u64().unwrap_or_default();
    let mut times: Vec<u64> = of(events, "offered").map(at).filter(|at| *at >= from).collect();
    times.sort_unstable();
    let (mut last, mut longest) = (from, (0, from));
    for at in times.into_iter().take_while(|at| *at < from + 20_000) {
        longest = longest.max((at - last, at));
        last = at;
    }
    ensure!(longest.0 > 0, "no offer after the fault");
    Ok(from + longest.0)
}

/// By the phones' word alone: the longest time after `from` in which none began to ring, in s.
pub fn longest_pause_s(rings: &[Ring], from: f64) -> Result<f64> {
    let (mut last, mut longest) = (from, 0.0_f64);
    for ring in rings.iter().filter(|ring| ring.event == "invite" && ring.at >= from) {
        longest = longest.max(ring.at - last);
        last = ring.at;
    }
    ensure!(last > from, "no phone rang after the fault");
    Ok(longest)
}

/// By the phones' word alone: so many callers were answered, each of them once.
pub fn each_caller_once(rings: &[Ring], callers: usize) -> Result<()> {
    let mut answered = BTreeSet::new();
    for ring in rings.iter().filter(|ring| ring.event == "answered") {
        ensure!(answered.insert(&ring.caller), "{} was answered twice", ring.caller);
    }
    ensure!(answered.len() == callers, "{} of {callers} callers were answered", answered.len());
    Ok(())
}

/// By the phones' word alone: every caller was answered, and by no phone twice but by those of `hasty`, which hang up before they are
/// joined with anybody.
pub fn each_caller_once_but_for(rings: &[Ring], callers: usize, hasty: &str) -> Result<()> {
    let patient: Vec<Ring> = rings.iter().filter(|ring| ring.agent != hasty).cloned().collect();
    let met = |rings: &[Ring]| {
        let answered = rings.iter().filter(|ring| ring.event == "answered");
        answered.map(|ring| ring.caller.clone()).collect::<BTreeSet<String>>().len()
    };
    each_caller_once(&patient, met(&patient))?;
    ensure!(met(rings) == callers, "{} of {callers} callers were answered", met(rings));
    Ok(())
}

/// One line of a caller's log.
pub struct Said<'a> {
    pub at: f64,
    pub call_id: &'a str,
}

/// What callers have logged of this kind.
pub fn said<'a>(callers: &'a [String], event: &str) -> Result<Vec<Said<'a>>> {
    let chosen = format!("event={event}");
    let lines = callers.iter().filter(|line| line.split_whitespace().any(|word| word == chosen));
    lines
        .map(|line| {
            let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
            let at = field("at=").with_context(|| format!("no at in {line}"))?;
            let call_id = field("call_id=").with_context(|| format!("no call_id in {line}"))?;
            Ok(Said { at: at.parse()?, call_id })
        })
        .collect()
}

/// SIPp looks at its clock every few milliseconds.
const CLOCK_S: f64 = 0.05;

/// By the word of phones and callers alone: whoever talked went on talking until the agent's phone had held the call for `talk`, and
/// hung up; nobody else ended it, for neither of the two.
pub fn nobody_parted(rings: &[Ring], callers: &[String], talk: Duration) -> Result<()> {
    let mut hung_up: BTreeMap<&str, f64> = BTreeMap::new();
    for answered in rings.iter().filter(|ring| ring.event == "answered") {
        let Ring { agent, caller, .. } = answered;
        let is_end = |ring: &&Ring| {
            ring.call_id == answered.call_id && matches!(ring.event.as_str(), "bye" | "bye-sent" | "cancel")
        };
        let end = rings.iter().find(is_end).with_context(|| format!("{agent} talks on with {caller}"))?;
        let held = end.at - answered.at;
        ensure!(end.event == "bye-sent", "{agent} and {caller} were parted after {held:.2} s: {}", end.event);
        ensure!(held >= talk.as_secs_f64() - CLOCK_S, "{agent} held {caller} for {held:.2} s");
        hung_up.insert(caller, end.at);
    }
    for bye in said(callers, "bye")? {
        let end = hung_up.get(bye.call_id).with_context(|| format!("nobody has answered {}", bye.call_id))?;
        let before = end - bye.at;
        ensure!(before <= CLOCK_S, "{} was hung up {before:.2} s before the agent did", bye.call_id);
    }
    Ok(())
}

/// How many were in a talk at this moment.
pub fn talks_at(rings: &[Ring], at: f64) -> usize {
    let begun = rings.iter().filter(|ring| ring.event == "answered" && ring.at < at);
    let over = |call_id: &str| {
        rings.iter().any(|ring| {
            ring.call_id == call_id && ring.at < at && matches!(ring.event.as_str(), "bye" | "bye-sent")
        })
    };
    begun.filter(|ring| !over(&ring.call_id)).count()
}

/// Offers that are made together reach their phones in any order.
const TOGETHER_S: f64 = 0.25;

/// Who called, or was answered, so soon after somebody else may have come before: on their way two pass each other.
const AS_ONE_S: f64 = 0.02;

/// By the word of phones and callers alone: nobody was offered before somebody who had called before, and been answered before.
pub fn callers_in_order(rings: &[Ring], callers: &[String]) -> Result<()> {
    let at = |event: &str| -> Result<BTreeMap<&str, f64>> {
        Ok(said(callers, event)?.iter().map(|said| (said.call_id, said.at)).collect())
    };
    let (called, answered) = (at("sent")?, at("answered")?);
    let mut first: Vec<&Ring> = Vec::new();
    for ring in rings.iter().filter(|ring| ring.event == "invite") {
        let Ring { caller, .. } = ring;
        if first.iter().any(|before| before.caller == *caller) {
            continue;
        }
        for before in &first {
            let sooner = |times: &BTreeMap<&str, f64>| {
                let of =
                    |caller: &str| times.get(caller).with_context(|| format!("{caller} was never answered"));
                Ok::<f64, anyhow::Error>(of(&before.caller)? - of(caller)?)
            };
            let (called, answered, offered) = (sooner(&called)?, sooner(&answered)?, ring.at - before.at);
            ensure!(
                called.min(answered) <= AS_ONE_S || offered <= TOGETHER_S,
                "{} was offered {offered:.3} s before {caller}, who had called {called:.3} s, and been answered {answered:.3} s, earlier",
                before.caller
            );
        }
        first.push(ring);
    }
    Ok(())
}

/// The same where a node has died: its legs ended without a word to their phones, which wait for a BYE that does not come.
pub fn one_call_at_a_time_but_for_the_dead(rings: &[Ring]) -> Result<()> {
    let ended: BTreeSet<&str> = rings
        .iter()
        .filter(|ring| matches!(ring.event.as_str(), "bye" | "bye-sent" | "cancel"))
        .map(|ring| ring.call_id.as_str())
        .collect();
    let known: Vec<Ring> =
        rings.iter().filter(|ring| ended.contains(ring.call_id.as_str())).cloned().collect();
    one_call_at_a_time(&known)
}

/// Without legs that were up when a node died, of which a phone may believe that they go on.
pub fn without_those_up_at(rings: &[Ring], at: f64) -> Vec<Ring> {
    let of = |begun: bool| {
        let chosen = rings.iter().filter(move |ring| {
            let is_end = matches!(ring.event.as_str(), "bye" | "bye-sent" | "cancel");
            ring.at < at && if begun { ring.event == "invite" } else { is_end }
        });
        chosen.map(|ring| ring.call_id.as_str()).collect::<BTreeSet<&str>>()
    };
    let up: BTreeSet<&str> = of(true).difference(&of(false)).copied().collect();
    rings.iter().filter(|ring| !up.contains(ring.call_id.as_str())).cloned().collect()
}

/// A call, as events tell of it.
#[derive(Default)]
struct Told<'a> {
    enqueued: u64,
    /// There is no offer of it, and nobody has taken it.
    waits: bool,
    offer: &'a str,
    /// Agents that it is not offered to for a while.
    avoids: BTreeSet<&'a str>,
}

/// No call was ever offered to an agent while one that came before it waited for this agent, too: also one that had come back.
/// All calls have the same priority, and every agent serves all of them. Returns how many came back.
pub fn nobody_overtaken(events: &[Value]) -> Result<usize> {
    let mut calls: BTreeMap<&str, Told<'_>> = BTreeMap::new();
    let mut back = 0;
    for event in events {
        let (call, offer, agent) = (text(event, "call"), text(event, "offer"), text(event, "agent"));
        match text(event, "event") {
            "enqueued" => {
                let enqueued = event["at"].as_u64().context("at")?;
                calls.insert(call, Told { enqueued, waits: true, ..Told::default() });
            }
            "offered" => {
                let this = calls.get(call).with_context(|| format!("{call} was never enqueued"))?.enqueued;
                let before = calls
                    .iter()
                    .find(|(_, told)| told.waits && told.enqueued < this && !told.avoids.contains(agent));
                if let Some((other, _)) = before {
                    bail!("{call} was offered to {agent} while {other} waited, who came before");
                }
                let told = calls.get_mut(call).context("just found")?;
                (told.waits, told.offer) = (false, offer);
            }
            "offer-ended" => {
                let Some(told) = calls.get_mut(call) else { continue };
                let how = text(event, "how");
                if matches!(how, "no-answer" | "refused" | "busy" | "join-failed") {
                    told.avoids.insert(agent);
                }
                if told.offer == offer && how != "taken" {
                    told.waits = true;
                    back += 1;
                }
            }
            "connected" | "treated" => {
                if let Some(told) = calls.get_mut(call) {
                    told.waits = false;
                }
            }
            "done" => drop(calls.remove(call)),
            _ => {}
        }
    }
    Ok(back)
}

/// How long calls waited for their agents, in words.
pub fn waits(events: &[Value]) -> String {
    let mut waited: Vec<u64> =
        of(events, "connected").filter_map(|event| event["waited_ms"].as_u64()).collect();
    waited.sort_unstable();
    let at = |index: usize| waited.get(index).copied().unwrap_or_default();
    let (median, most) = (at(waited.len() / 2), at(waited.len().saturating_sub(1)));
    format!("{} connected after {median} ms (median), {most} ms at most", waited.len())
}

/// From an agent's first offer until their answered phone was joined with the caller, in ms, of each call.
pub fn offered_to_connected_ms(events: &[Value]) -> Vec<u64> {
    let at = |event: &Value| event["at"].as_u64().unwrap_or_default();
    let offered: BTreeMap<&str, u64> =
        of(events, "offered").map(|event| (text(event, "offer"), at(event))).collect();
    let connected =
        of(events, "connected").filter_map(|event| Some((offered.get(text(event, "offer"))?, at(event))));
    connected.map(|(offered, connected)| connected - offered).collect()
}

/// How the offers to an agent ended.
pub fn ends<'a>(events: &'a [Value], agent: &str) -> BTreeSet<&'a str> {
    of(events, "offer-ended")
        .filter(|event| text(event, "agent") == agent)
        .map(|event| text(event, "how"))
        .collect()
}

/// From the refusal of a phone until another one rang for the same caller, in ms, each.
pub fn again_after_ms(rings: &[Ring]) -> Vec<f64> {
    let mut times = Vec::new();
    for (index, ring) in rings.iter().enumerate().filter(|(_, ring)| ring.event == "refused") {
        let next = rings.iter().skip(index).find(|next| next.event == "invite" && next.caller == ring.caller);
        times.extend(next.map(|next| (next.at - ring.at) * 1000.0));
    }
    times.sort_by(f64::total_cmp);
    times
}

/// The callers whose calls rang, each once, in the order in which they first did.
pub fn first_rings(rings: &[Ring]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let invites = rings.iter().filter(|ring| ring.event == "invite");
    invites.map(|ring| ring.caller.as_str()).filter(|caller| seen.insert(*caller)).collect()
}

/// The calls that ended so.
pub fn done<'a>(events: &'a [Value], reason: &str) -> BTreeSet<&'a str> {
    of(events, "done")
        .filter(|event| text(event, "reason") == reason)
        .map(|event| text(event, "call"))
        .collect()
}
