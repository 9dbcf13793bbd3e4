//! Who met whom, by Asterisk's own word: an application beside MQS's own hears what happens in each node's bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::judge::Ring;
use crate::ari::App;
use crate::asterisk::Asterisk;

/// Of the application that looks on.
const NAME: &str = "judge";

pub struct Bridges {
    stop: Arc<AtomicBool>,
    listeners: Vec<JoinHandle<Result<Vec<Value>>>>,
}

impl Bridges {
    /// Hears everything of these nodes from now on.
    pub fn watch(nodes: &[Asterisk]) -> Result<Bridges> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut listeners = Vec::new();
        for node in nodes {
            let (mut app, stop) = (App::attach_to_all(node, NAME)?, stop.clone());
            listeners.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    app.listen(Duration::from_millis(50))?;
                }
                Ok(app.seen)
            }));
        }
        Ok(Bridges { stop, listeners })
    }

    /// So many callers were each in a bridge with one leg of one agent, the one whose phone was answered for this caller; and with
    /// nobody else.
    pub fn each_met_one(mut self, rings: &[Ring], callers: usize) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut met: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for listener in self.listeners.drain(..) {
            let events = listener.join().map_err(|_| anyhow!("a listener has panicked"))??;
            add_meetings(&events, &mut met)?;
        }
        let answered = rings.iter().filter(|ring| ring.event == "answered");
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for ring in answered {
            expected.entry(ring.caller.clone()).or_default().insert(ring.call_id.clone());
            expected.entry(ring.call_id.clone()).or_default().insert(ring.caller.clone());
        }
        ensure!(met.len() == 2 * callers, "{} channels were in a bridge with another one", met.len());
        for (channel, others) in &met {
            ensure!(others.len() == 1, "{channel} was in a bridge with {others:?}");
            ensure!(
                Some(others) == expected.get(channel),
                "{channel} was in a bridge with {others:?}; the phones say {:?}",
                expected.get(channel)
            );
        }
        Ok(())
    }
}

impl Drop for Bridges {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Which calls were together in a mixing bridge, by their Call-IDs.
fn add_meetings(events: &[Value], met: &mut BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    let entered = || events.iter().filter(|event| event["type"] == "ChannelEnteredBridge");
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let mut call_ids: BTreeMap<String, String> = BTreeMap::new();
    for event in entered() {
        call_ids.insert(text(&event["channel"]["id"])?, text(&event["channel"]["protocol_id"])?);
    }
    // Those who wait together are in a holding bridge.
    for event in entered().filter(|event| event["bridge"]["bridge_type"] == "mixing") {
        let own = text(&event["channel"]["id"])?;
        for other in event["bridge"]["channels"].as_array().context("no channels")? {
            let other = text(other)?;
            if other == own {
                continue;
            }
            let of = |id: &str| call_ids.get(id).cloned().with_context(|| format!("who is {id}?"));
            let (own, other) = (of(&own)?, of(&other)?);
            met.entry(own.clone()).or_default().insert(other.clone());
            met.entry(other).or_default().insert(own);
        }
    }
    Ok(())
}
