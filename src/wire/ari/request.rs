//! What a node is asked: method, path with its query, body. Whatever comes from outside is escaped here and nowhere else.

use super::listing::TALK_PREFIX;
use super::{ARGUMENT_OFFER, write_place};
use crate::domain::controller::{Attend, Originate, Progress};
use crate::domain::id::{ChannelId, OfferId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

/// Everything but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest name or number that is shown to an agent, in characters.
const SHOWN_MAX: usize = 60;

/// After the phone's own time, the node gives up so much later, in s: the leader is to be first.
const NODE_GIVES_UP_S: u64 = 2;

/// Q.850 cause 26: the call was taken elsewhere. The phone shows no missed call (RFC 3326).
const TAKEN_ELSEWHERE: u16 = 26;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` or `DELETE`.
    pub method: Method,
    /// Path and query, behind `/ari`.
    pub path: String,
    /// JSON, or empty.
    pub body: String,
}

/// How something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// To know.
    Get,
    /// To do.
    Post,
    /// To end.
    Delete,
}

impl Method {
    /// As HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

impl Request {
    fn new(method: Method, path: &str, query: &[(&str, &str)]) -> Request {
        let mut path = path.to_owned();
        for (at, (key, value)) in query.iter().enumerate() {
            path.push(if at == 0 { '?' } else { '&' });
            path.push_str(key);
            path.push('=');
            path.push_str(&escape(value));
        }
        Request { method, path, body: String::new() }
    }

    fn post(path: &str, query: &[(&str, &str)]) -> Request {
        Request::new(Method::Post, path, query)
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn channel_path(channel: &ChannelId, what: &str) -> String {
    format!("/channels/{}{what}", escape(channel.as_str()))
}

fn bridge_path(bridge: &str, what: &str) -> String {
    format!("/bridges/{}{what}", escape(bridge))
}

/// All channels.
pub fn channels() -> Request {
    Request::new(Method::Get, "/channels", &[])
}

/// All bridges.
pub fn bridges() -> Request {
    Request::new(Method::Get, "/bridges", &[])
}

/// The application: the ids of its channels and bridges.
pub fn application(app: &str) -> Request {
    Request::new(Method::Get, &format!("/applications/{}", escape(app)), &[])
}

/// One channel.
pub fn channel(channel: &ChannelId) -> Request {
    Request::new(Method::Get, &channel_path(channel, ""), &[])
}

/// One bridge.
pub fn bridge(bridge: &str) -> Request {
    Request::new(Method::Get, &bridge_path(bridge, ""), &[])
}

/// The node, its version among others.
pub fn info() -> Request {
    Request::new(Method::Get, "/asterisk/info", &[("only", "system")])
}

/// Notes a call's place on its channel, and when the node ends the wait by itself: after a talk that would still be the time of
/// the talk. `ARRAY()` sets both in one request.
pub fn note_place(attend: &Attend) -> Request {
    let place = write_place(&attend.queue, attend.priority, attend.enqueued);
    let seconds = attend.ends_after_ms.div_ceil(1000);
    set(&attend.channel.id, "ARRAY(MQS_PLACE,TIMEOUT(absolute))", &format!("\"{place}\",{seconds}"))
}

/// The node ends a call after so long, counted from now.
pub fn end_after(channel: &ChannelId, ms: u64) -> Request {
    set(channel, "TIMEOUT(absolute)", &ms.div_ceil(1000).to_string())
}

fn set(channel: &ChannelId, variable: &str, value: &str) -> Request {
    Request::post(&channel_path(channel, "/variable"), &[("variable", variable), ("value", value)])
}

/// Answers a channel. One that is answered stays so.
pub fn answer(channel: &ChannelId) -> Request {
    Request::post(&channel_path(channel, "/answer"), &[])
}

/// The caller hears that it rings.
pub fn ring(channel: &ChannelId) -> Request {
    Request::post(&channel_path(channel, "/ring"), &[])
}

/// Media may flow before the answer (183). Known from 20.16 and 22.6 on.
pub fn progress(channel: &ChannelId) -> Request {
    Request::post(&channel_path(channel, "/progress"), &[])
}

/// Music for a channel in no bridge.
pub fn music(channel: &ChannelId, class: &str) -> Request {
    Request::post(&channel_path(channel, "/moh"), &class_of(class))
}

/// No music for a channel.
pub fn no_music(channel: &ChannelId) -> Request {
    Request::new(Method::Delete, &channel_path(channel, "/moh"), &[])
}

fn class_of(class: &str) -> Vec<(&str, &str)> {
    if class.is_empty() { Vec::new() } else { vec![("mohClass", class)] }
}

/// Makes a holding bridge; one that is there stays as it is.
pub fn make_holding(bridge: &str) -> Request {
    Request::post(&bridge_path(bridge, ""), &[("type", "holding"), ("name", bridge)])
}

/// Music for all in a bridge.
pub fn bridge_music(bridge: &str, class: &str) -> Request {
    Request::post(&bridge_path(bridge, "/moh"), &class_of(class))
}

/// Puts a channel into a bridge; it leaves the one that it was in.
pub fn add(bridge: &str, channels: &[&ChannelId]) -> Request {
    let ids: Vec<&str> = channels.iter().map(|id| id.as_str()).collect();
    Request::post(&bridge_path(bridge, "/addChannel"), &[("channel", &ids.join(","))])
}

/// Deletes a bridge; who was in it stays in the application.
pub fn delete_bridge(bridge: &str) -> Request {
    Request::new(Method::Delete, &bridge_path(bridge, ""), &[])
}

/// The mixing bridge of an offer.
pub fn talk(offer: &OfferId) -> String {
    format!("{TALK_PREFIX}{offer}")
}

/// Makes the mixing bridge of an offer; one that is there stays as it is.
pub fn make_talk(offer: &OfferId) -> Request {
    let id = talk(offer);
    Request::post(&bridge_path(&id, ""), &[("type", "mixing"), ("name", &id)])
}

/// What is announced on a leg begins with this; the offer follows.
pub(super) const ANNOUNCE_PREFIX: &str = "mqs-announce-";

/// Plays sounds on a leg, one after the other.
pub fn announce(offer: &OfferId, leg: &ChannelId, sounds: &[Box<str>]) -> Request {
    let path = channel_path(leg, &format!("/play/{ANNOUNCE_PREFIX}{}", escape(offer.as_str())));
    let media: Vec<String> = sounds.iter().map(|sound| format!("sound:{sound}")).collect();
    Request::post(&path, &[("media", &media.join(","))])
}

/// Stops that.
pub fn hush(offer: &OfferId) -> Request {
    let path = format!("/playbacks/{ANNOUNCE_PREFIX}{}", escape(offer.as_str()));
    Request::new(Method::Delete, &path, &[])
}

/// Hangs a leg up, or gives up calling it.
pub fn drop_leg(leg: &ChannelId) -> Request {
    hang_up(leg, TAKEN_ELSEWHERE)
}

/// Tells a phone how far the transfer is that it has asked for: a NOTIFY with a SIP fragment (RFC 3515 §2.4.5). From 20.13 and 22.3 on.
pub fn transfer_progress(leg: &ChannelId, progress: Progress) -> Request {
    let state = match progress {
        Progress::Rings => "channel_progress",
        Progress::Answered => "channel_answered",
        Progress::Unavailable => "channel_unavailable",
        Progress::Declined => "channel_declined",
    };
    Request::post(&channel_path(leg, "/transfer_progress"), &[("states", state)])
}

/// Hangs a channel up, with a Q.850 cause.
pub fn hang_up(channel: &ChannelId, cause: u16) -> Request {
    Request::new(Method::Delete, &channel_path(channel, ""), &[("reason_code", &cause.to_string())])
}

/// Sends a channel on in the dialplan.
pub fn go_on(channel: &ChannelId, context: &str, extension: &str) -> Request {
    let to = [("context", context), ("extension", extension), ("priority", "1")];
    Request::post(&channel_path(channel, "/continue"), &to)
}

/// Calls an agent. `token` is what Kamailio redeems before the phone rings.
pub fn originate(wanted: &Originate, app: &str, token: &str) -> Request {
    let Originate { offer, leg, caller, call, queue, agent, aor, proxy, identity, ring_ms } = wanted;
    let endpoint = format!("PJSIP/{proxy}/sip:{aor}");
    let arguments = format!("{ARGUMENT_OFFER},{offer}");
    let timeout = (ring_ms.div_ceil(1000) + NODE_GIVES_UP_S).to_string();
    let mut query = vec![
        ("endpoint", endpoint.as_str()),
        ("app", app),
        ("appArgs", &arguments),
        ("originator", caller.id.as_str()),
        ("timeout", &timeout),
    ];
    let shown = caller_id(&format!("{queue}: {}", identity.name), &identity.number);
    query.push(("callerId", &shown));
    let mut request = Request::post(&channel_path(&leg.id, ""), &query);
    let mut variables = json!({
        "PJSIP_HEADER(add,X-MQS-Offer)": token,
        "MQS_OFFER": offer.as_str(),
        "MQS_AGENT": agent.as_str(),
        "MQS_CALL": call.as_str(),
        "MQS_QUEUE": queue.as_str(),
        // A REFER is told to the application, and nothing is done about it (20.13 and 22.3; before, the phone is refused).
        "PJSIP_TRANSFER_HANDLING()": "ari-only",
    });
    // By this one finds both legs in a capture.
    if let (Some(all), true) = (variables.as_object_mut(), is_word(&identity.sip_call_id)) {
        all.insert("PJSIP_HEADER(add,X-Call-ID)".to_owned(), json!(identity.sip_call_id));
    }
    request.body = json!({ "variables": variables }).to_string();
    request
}

/// What RFC 3261 §25.1 calls a word, roughly: nothing in it ends a header.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `"name" <number>`, without what would end either of them.
fn caller_id(name: &str, number: &str) -> String {
    let name: String =
        name.chars().filter(|c| !c.is_control() && !"\"<>\\".contains(*c)).take(SHOWN_MAX).collect();
    let number: String = number
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "+*#-_.".contains(*c))
        .take(SHOWN_MAX)
        .collect();
    format!("\"{}\" <{number}>", name.trim_end_matches([':', ' ']))
}
