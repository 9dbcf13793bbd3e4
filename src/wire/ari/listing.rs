//! What a node has, by its own word: the answers to `GET /channels` and `GET /bridges`.

use super::{ARGUMENT_IN, ARGUMENT_OFFER, ARGUMENTS, ChannelJson};
use crate::domain::call::Channel;
use crate::domain::controller::{Listing, SeenBridge, offer_of};
use crate::domain::id::{ChannelId, NodeId, OfferId};
use crate::domain::time::EpochMs;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// How the id of an offer's mixing bridge begins; the offer follows.
pub const TALK_PREFIX: &str = "mqs-talk-";

/// How the id of a holding bridge begins; the music class and a number follow.
pub const HOLD_PREFIX: &str = "mqs-hold-";

/// All that a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Everything {
    /// What concerns the queue.
    pub listing: Listing,
    /// The holding bridges of the application, and who is in them.
    pub holding: Vec<(String, Vec<ChannelId>)>,
    /// Channels that are in the application and have no business there, and what was said of them.
    pub strangers: Vec<(Channel, String)>,
    /// Each channel that carries calls (`PJSIP/…`), whoever drives it.
    pub carried: Vec<Carried>,
    /// Channels and bridges that could not be made out.
    pub odd: usize,
    /// Each channel could be made out: what is not shown is not there.
    pub complete: bool,
    /// A variable that `channelvars` of the node's `ari.conf` does not name, and without which a leg cannot be made out.
    pub lacks: Option<&'static str>,
}

/// A channel that carries a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The channel.
    pub channel: ChannelId,
    /// What `MQS_LEASE` says; empty: nothing.
    pub token: String,
    /// It is the leg of an offer.
    pub is_leg: bool,
}

/// What is subscribed to for the application: its channels, legs that ring among them, and the bridges that these are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Ids of channels.
    pub channels: Vec<ChannelId>,
    /// Ids of bridges of the application.
    pub bridges: Vec<String>,
}

impl Subscribed {
    /// Reads the answer to `GET /applications/…`. Ids that no channel of this application has are left out.
    pub fn read(answer: &[u8]) -> Result<Subscribed, serde_json::Error> {
        #[derive(Deserialize)]
        struct ApplicationJson<'a> {
            #[serde(borrow, default)]
            channel_ids: Vec<Cow<'a, str>>,
            #[serde(borrow, default)]
            bridge_ids: Vec<Cow<'a, str>>,
        }
        let json: ApplicationJson<'_> = serde_json::from_slice(answer)?;
        let ours = |id: &&Cow<'_, str>| id.starts_with(TALK_PREFIX) || id.starts_with(HOLD_PREFIX);
        Ok(Subscribed {
            channels: json.channel_ids.iter().filter_map(|id| id.parse().ok()).collect(),
            bridges: json.bridge_ids.iter().filter(ours).map(ToString::to_string).collect(),
        })
    }
}

/// Answers that came one by one, as if they had come together.
pub fn together<T: AsRef<[u8]>>(answers: &[T]) -> Vec<u8> {
    let all: Vec<&[u8]> = answers.iter().map(AsRef::as_ref).collect();
    [b"[".as_slice(), &all.join(b",".as_slice()), b"]"].concat()
}

#[derive(Deserialize)]
struct BridgeJson<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    channels: Vec<Cow<'a, str>>,
}

/// Puts both answers together. `begun`: when the first question was sent.
pub fn read(
    node: &NodeId,
    app: &str,
    begun: EpochMs,
    channels: &[u8],
    bridges: &[u8],
) -> Result<Everything, serde_json::Error> {
    let (channels, odd_channels) = several::<ChannelJson<'_>>(channels)?;
    let (bridges, odd_bridges) = several::<BridgeJson<'_>>(bridges)?;
    let listing =
        Listing { node: node.clone(), begun, callers: Vec::new(), legs: Vec::new(), bridges: Vec::new() };
    let (holding, strangers, carried) = (Vec::new(), Vec::new(), Vec::new());
    let (odd, complete) = (odd_channels, true);
    let mut all = Everything { listing, holding, strangers, carried, odd, complete, lacks: None };
    for channel in &channels {
        all.take_channel(channel, app);
    }
    all.complete = all.odd == 0;
    // Of a list that is not complete nobody is taken to be gone: it counts as one from before everything.
    if !all.complete {
        all.listing.begun = EpochMs(0);
    }
    all.odd += odd_bridges;
    let unknown: BTreeSet<OfferId> = channels.iter().filter_map(|json| all.unknown_leg(json)).collect();
    for bridge in &bridges {
        all.take_bridge(bridge);
    }
    // A bridge of no offer that is known is deleted. This one's leg is there: who talks, talks on.
    all.listing.bridges.retain(|bridge| !unknown.contains(&bridge.offer));
    Ok(all)
}

/// All that can be read, and how much cannot: one that is damaged does not hide the others.
fn several<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<(Vec<T>, usize), serde_json::Error> {
    if let Ok(all) = serde_json::from_slice::<Vec<T>>(text) {
        return Ok((all, 0));
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Fine(T),
        Odd(IgnoredAny),
    }
    let all: Vec<Lenient<T>> = serde_json::from_slice(text)?;
    let count = all.len();
    let fine: Vec<T> = all
        .into_iter()
        .filter_map(|one| match one {
            Lenient::Fine(one) => Some(one),
            Lenient::Odd(IgnoredAny) => None,
        })
        .collect();
    let odd = count - fine.len();
    Ok((fine, odd))
}

impl Everything {
    fn take_channel(&mut self, json: &ChannelJson<'_>, app: &str) {
        if json.name.starts_with("PJSIP/")
            && let Ok(channel) = json.id.parse()
        {
            let (token, is_leg) = (json.var("MQS_LEASE").to_owned(), json.is_leg());
            self.carried.push(Carried { channel, token, is_leg });
        }
        let node = &self.listing.node;
        // A leg that rings is in no application yet.
        if json.is_leg() {
            match json.leg(node) {
                Some(leg) => self.listing.legs.push(leg),
                None => {
                    self.lacks = self.lacks.or_else(|| json.leg_lacks());
                    self.odd += 1;
                }
            }
            return;
        }
        let Some(mut arguments) = json.stasis_arguments(app) else { return };
        let word = arguments.next().unwrap_or_default();
        if word == ARGUMENT_IN {
            match json.caller(node, arguments.next().unwrap_or_default()) {
                Some(caller) => self.listing.callers.push(caller),
                None => self.odd += 1,
            }
        } else if word == ARGUMENT_OFFER || !ARGUMENTS.contains(&word) {
            match json.channel(node) {
                // The event that said so was missed, or it could not be hung up then.
                Some(channel) => self.strangers.push((channel, super::text(&json.dialplan.app_data).into())),
                None => self.odd += 1,
            }
        }
    }

    /// The offer of a leg that could not be made out.
    fn unknown_leg(&self, json: &ChannelJson<'_>) -> Option<OfferId> {
        let channel = json.channel(&self.listing.node).filter(|_| json.is_leg())?;
        if self.listing.legs.iter().any(|seen| seen.leg == channel) {
            return None;
        }
        offer_of(&channel)
    }

    fn take_bridge(&mut self, json: &BridgeJson<'_>) {
        let members = || json.channels.iter().filter_map(|id| id.parse::<ChannelId>().ok());
        if let Some(offer) = json.id.strip_prefix(TALK_PREFIX) {
            let Ok(offer) = offer.parse() else {
                self.odd += 1;
                return;
            };
            let node = &self.listing.node;
            let members = members().map(|id| Channel { node: node.clone(), id }).collect();
            self.listing.bridges.push(SeenBridge { offer, members });
        } else if json.id.starts_with(HOLD_PREFIX) {
            self.holding.push((json.id.to_string(), members().collect()));
        }
    }
}
