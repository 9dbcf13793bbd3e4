//! What a stand-in node has: channels and bridges, and what its REST interface does to them. As Asterisk 22 does it where the
//! queue can tell the difference; there is no sound.

use super::phones::Leg;
use crate::wire::ari::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The one application that it knows.
pub const APP: &str = "mqs";

/// How a caller's channel came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// One of the two hung up.
    Person,
    /// Over the REST interface, or by the dialplan.
    Node,
    /// The node died.
    Death,
}

/// Whose channel it is.
#[derive(Debug)]
pub enum Line {
    /// A caller; told when the channel ends.
    Caller(Option<oneshot::Sender<Left>>),
    /// The leg to an agent; cancelled when the channel ends.
    Leg(CancellationToken, Leg),
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// Display name and number.
    pub caller: (String, String),
    /// The SIP Call-ID.
    pub sip_call_id: String,
    /// `Ring`, `Ringing`, `Up`.
    pub state: &'static str,
    /// What `channelvars` shows.
    pub variables: BTreeMap<String, String>,
    /// Arguments of `Stasis()`, while it is in there.
    pub stasis: Option<Vec<String>>,
    /// The bridge that it is in.
    pub bridge: Option<String>,
    /// Whose it is.
    pub line: Line,
}

/// An answer: status, and a body unless it is null.
pub type Reply = (u16, Value);

/// A talk that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The caller's channel.
    pub caller: String,
    /// The caller's SIP Call-ID.
    pub sip_call_id: String,
    /// The agent's leg.
    pub leg: String,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Whom events go to.
    app: Option<(u64, mpsc::UnboundedSender<String>)>,
    links: u64,
    /// By their ids.
    pub channels: BTreeMap<String, Channel>,
    /// Whether it mixes; holding bridges do not.
    bridges: BTreeMap<String, bool>,
    /// Talks that were torn apart while both were there.
    pub parted: Vec<String>,
}

/// Done, and there is nothing to say.
pub const DONE: Reply = (204, Value::Null);

fn wrong(status: u16, message: &str) -> Reply {
    (status, json!({"message": message}))
}

fn gone() -> Reply {
    wrong(404, "Channel not found")
}

impl Exchange {
    /// Another connection for events: the one before is told, and hears no more.
    pub fn attach(&mut self, to: mpsc::UnboundedSender<String>) -> u64 {
        self.tell(&json!({"type": "ApplicationReplaced", "application": APP}));
        self.links += 1;
        self.app = Some((self.links, to));
        self.links
    }

    /// A connection is gone.
    pub fn detach(&mut self, link: u64) {
        self.app = self.app.take().filter(|(of, _)| *of != link);
    }

    /// Whether somebody drives it.
    pub fn is_attached(&self) -> bool {
        self.app.is_some()
    }

    /// `Stasis(mqs,…)`. False: nobody is there.
    pub fn enter(&mut self, id: &str, arguments: Vec<String>) -> bool {
        if self.app.is_none() {
            return false;
        }
        if let Some(channel) = self.channels.get_mut(id) {
            channel.stasis = Some(arguments.clone());
            let event = json!({"type": "StasisStart", "application": APP, "args": arguments, "channel": show(id, channel)});
            self.tell(&event);
        }
        true
    }

    /// The phone has answered.
    pub fn leg_answers(&mut self, id: &str) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.state = "Up";
        let arguments =
            channel.variables.get("MQS_OFFER").map(|offer| vec!["offer".to_owned(), offer.clone()]);
        // With nobody there `Stasis()` fails, but an originated channel has no dialplan to go on with: it stays, as a listing shows.
        channel.stasis = arguments.clone();
        self.enter(id, arguments.unwrap_or_default());
    }

    /// A channel ends. `code`: the SIP code of a leg's last reply.
    pub fn end(&mut self, id: &str, left: Left, code: u16) -> bool {
        let Some(channel) = self.channels.remove(id) else { return false };
        let shown = show(id, &channel);
        if channel.stasis.is_some() {
            self.tell(&json!({"type": "StasisEnd", "application": APP, "channel": shown}));
        }
        match channel.line {
            // No ChannelDestroyed comes for a caller: the application is not subscribed to the channel any more.
            Line::Caller(told) => drop(told.map(|told| told.send(left))),
            Line::Leg(gone, leg) => {
                // The phone is free before anybody is told.
                drop(leg);
                let cause = if code == 0 { 16 } else { 0 };
                let event =
                    json!({"type": "ChannelDestroyed", "cause": cause, "tech_cause": code, "channel": shown});
                self.tell(&event);
                gone.cancel();
            }
        }
        true
    }

    /// A caller gives up, unless an agent is there by now.
    pub fn give_up(&mut self, id: &str) -> bool {
        let talks = self.channels.get(id).and_then(|channel| channel.bridge.as_ref());
        let talks = talks.is_some_and(|bridge| self.bridges.get(bridge) == Some(&true));
        !talks && self.end(id, Left::Person, 0)
    }

    /// Everything is gone at once, and nobody is told but the callers' and agents' phones.
    pub fn die(&mut self) {
        self.app = None;
        let ids: Vec<String> = self.channels.keys().cloned().collect();
        for id in ids {
            self.end(&id, Left::Death, 0);
        }
        self.bridges.clear();
    }

    /// `GET /channels`
    pub fn list_channels(&self) -> Reply {
        (200, self.channels.iter().map(|(id, channel)| show(id, channel)).collect())
    }

    /// `GET /bridges`
    pub fn list_bridges(&self) -> Reply {
        let shown = self.bridges.iter().map(|(id, mixes)| {
            let kind = if *mixes { "mixing" } else { "holding" };
            json!({"id": id, "bridge_type": kind, "channels": self.members(id)})
        });
        (200, shown.collect())
    }

    /// `POST /channels/{id}`: the channel is made, and rings from now on. 409: it is there.
    pub fn originate(
        &mut self,
        id: &str,
        caller: &str,
        variables: BTreeMap<String, String>,
        leg: impl FnOnce() -> Leg,
    ) -> Result<CancellationToken, Reply> {
        if self.channels.contains_key(id) {
            return Err(wrong(409, "Channel with given unique ID already exists"));
        }
        let gone = CancellationToken::new();
        let channel = Channel {
            caller: (caller.to_owned(), String::new()),
            sip_call_id: format!("leg-{id}"),
            state: "Ringing",
            variables,
            stasis: None,
            bridge: None,
            line: Line::Leg(gone.clone(), leg()),
        };
        self.channels.insert(id.to_owned(), channel);
        Ok(gone)
    }

    /// Whether a leg rings: its end takes a CANCEL, and an answer to the INVITE.
    pub fn is_ringing(&self, id: &str) -> bool {
        self.channels.get(id).is_some_and(|channel| channel.state == "Ringing")
    }

    /// `DELETE /channels/{id}`, of one that does not ring.
    pub fn hang_up(&mut self, id: &str) -> Reply {
        if let Some(bridge) = self.channels.get(id).and_then(|channel| channel.bridge.clone()) {
            self.part(&bridge);
        }
        if self.end(id, Left::Node, 0) { DONE } else { gone() }
    }

    /// Something for a channel that has to be in the application.
    pub fn with(&mut self, id: &str, change: impl FnOnce(&mut Channel)) -> Reply {
        match self.channels.get_mut(id) {
            None => gone(),
            Some(channel) if channel.stasis.is_none() => wrong(409, "Channel not in Stasis application"),
            Some(channel) => {
                change(channel);
                DONE
            }
        }
    }

    /// `POST /channels/{id}/variable`; asks for no application.
    pub fn set(&mut self, id: &str, variable: &str, value: &str) -> Reply {
        let Some(channel) = self.channels.get_mut(id) else { return gone() };
        // `ARRAY(FIRST,…)` has the value of the first one in quotes.
        let first = variable.strip_prefix("ARRAY(").and_then(|names| names.split(',').next());
        let value = first.and_then(|_| value.split('"').nth(1)).unwrap_or(value);
        let variable = first.unwrap_or(variable);
        if VARIABLES.contains(&variable) {
            channel.variables.insert(variable.to_owned(), value.to_owned());
        }
        DONE
    }

    /// `POST /channels/{id}/continue`: what the dialplan would play there is over at once.
    pub fn go_on(&mut self, id: &str) -> Reply {
        let done = self.with(id, |_| {});
        if done == DONE {
            self.end(id, Left::Node, 0);
        }
        done
    }

    /// `POST /bridges/{id}`; one that is there stays.
    pub fn make_bridge(&mut self, id: &str, mixes: bool) -> Reply {
        self.bridges.entry(id.to_owned()).or_insert(mixes);
        (200, json!({"id": id, "channels": self.members(id)}))
    }

    /// Whether there is such a bridge.
    pub fn bridge_music(&self, id: &str) -> Reply {
        if self.bridges.contains_key(id) { DONE } else { wrong(404, "Bridge not found") }
    }

    /// `POST /bridges/{id}/addChannel`; and the talk that begins with it.
    pub fn add(&mut self, bridge: &str, ids: &[&str]) -> (Reply, Option<Talk>) {
        let Some(mixes) = self.bridges.get(bridge).copied() else {
            return (wrong(404, "Bridge not found"), None);
        };
        for id in ids {
            match self.channels.get(*id) {
                None => return (wrong(400, "Channel not found"), None),
                Some(channel) if channel.stasis.is_none() => {
                    return (wrong(422, "Channel not in Stasis application"), None);
                }
                Some(_) => {}
            }
        }
        let before = self.members(bridge).len();
        for id in ids {
            if let Some(channel) = self.channels.get_mut(*id) {
                channel.bridge = Some(bridge.to_owned());
            }
        }
        let talk = if mixes && before < 2 { self.talk(bridge) } else { None };
        (DONE, talk)
    }

    /// `DELETE /bridges/{id}`
    pub fn delete_bridge(&mut self, id: &str) -> Reply {
        self.part(id);
        for channel in self.channels.values_mut().filter(|channel| channel.bridge.as_deref() == Some(id)) {
            channel.bridge = None;
        }
        if self.bridges.remove(id).is_some() { DONE } else { wrong(404, "Bridge not found") }
    }

    /// Callers and legs in a mixing bridge.
    pub fn talks(&self) -> impl Iterator<Item = (&String, usize, usize)> {
        self.bridges.iter().filter(|(_, mixes)| **mixes).map(|(id, _)| {
            let members = self.channels.values().filter(move |channel| channel.bridge.as_ref() == Some(id));
            let legs = members.clone().filter(|channel| matches!(channel.line, Line::Leg(..))).count();
            (id, members.count() - legs, legs)
        })
    }

    /// The SIP Call-IDs of the callers that it has.
    pub fn callers(&self) -> impl Iterator<Item = &String> {
        let callers = self.channels.values().filter(|channel| matches!(channel.line, Line::Caller(_)));
        callers.map(|channel| &channel.sip_call_id)
    }

    /// How many legs ring.
    pub fn ringing(&self) -> usize {
        self.channels.values().filter(|channel| channel.state == "Ringing").count()
    }

    fn members(&self, bridge: &str) -> Vec<&String> {
        let members = self.channels.iter().filter(|(_, channel)| channel.bridge.as_deref() == Some(bridge));
        members.map(|(id, _)| id).collect()
    }

    fn talk(&self, bridge: &str) -> Option<Talk> {
        let find = |leg: bool| {
            let mut members = self.channels.iter().filter(|(_, c)| c.bridge.as_deref() == Some(bridge));
            members.find(|(_, c)| matches!(c.line, Line::Leg(..)) == leg)
        };
        let ((caller, channel), (leg, _)) = (find(false)?, find(true)?);
        Some(Talk { caller: caller.clone(), sip_call_id: channel.sip_call_id.clone(), leg: leg.clone() })
    }

    /// Who is still with somebody is torn away by this.
    fn part(&mut self, bridge: &str) {
        if self.bridges.get(bridge) == Some(&true) && self.members(bridge).len() > 1 {
            self.parted.push(bridge.to_owned());
        }
    }

    fn tell(&self, event: &Value) {
        if let Some((_, to)) = &self.app {
            // A connection that is about to end hears nothing more.
            let _ = to.send(event.to_string());
        }
    }
}

fn show(id: &str, channel: &Channel) -> Value {
    let (name, number) = &channel.caller;
    let mut variables: BTreeMap<&str, &str> = VARIABLES.iter().map(|variable| (*variable, "")).collect();
    variables.extend(channel.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let (application, data) = match &channel.stasis {
        Some(arguments) => ("Stasis", format!("{APP},{}", arguments.join(","))),
        None => ("AppDial2", String::new()),
    };
    json!({
        "id": id, "name": format!("PJSIP/demo-{id}"), "state": channel.state, "protocol_id": channel.sip_call_id,
        "caller": {"name": name, "number": number}, "connected": {"name": "", "number": ""},
        "dialplan": {"context": "demo", "exten": "s", "priority": 1, "app_name": application, "app_data": data},
        "channelvars": variables,
    })
}
