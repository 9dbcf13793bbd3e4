//! Who was right: leases as Redis has them, several times a second, against calls as the nodes and the callers logged them.
//! MQS's own word counts for nothing here, but for how many answers it says it gave by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::stage::POOL;
use crate::resp::Reply;
use crate::sipp::Sipp;
use crate::store::Reader;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// The node logs the BYE when it has taken it, which is after it was told of in the other direction.
const END_S: f64 = 0.3;

/// The counts are true again once they have been so for this long.
const STEADY_S: f64 = 2.0;

/// What nobody notices, in ms.
pub const SLOW_MS: f64 = 20.0;

/// After that, what is shorter is not the fault's doing: a machine that was busy for a moment.
const BLIP_S: f64 = 0.5;

/// The bits of a score that are the expiry (`store/redis/common.lua`).
const SLOT: u64 = 1 << 42;

/// The live leases at one moment of Redis's clock, by lease id: the slot that each is counted on.
pub struct Sample {
    pub at: f64,
    pub live: HashMap<String, usize>,
}

/// One call, as a node logged it.
pub struct Call {
    pub id: String,
    pub node: usize,
    pub lease: Option<String>,
    pub from: f64,
    pub to: f64,
}

/// Takes samples until it is stopped.
pub struct Sampler {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    pub fn start(mut store: Reader) -> Sampler {
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                // While the store is away there is nothing to be seen.
                samples.extend(sample(&mut store));
                thread::sleep(SAMPLE_EVERY);
            }
            samples
        });
        Sampler { ended, thread: Some(thread) }
    }

    pub fn stop(mut self) -> Result<Vec<Sample>> {
        self.ended.store(true, Ordering::SeqCst);
        let samples = self.thread.take().context("the sampler was stopped before")?.join();
        samples.map_err(|_| anyhow::anyhow!("the sampler panicked"))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn sample(store: &mut Reader) -> Result<Sample> {
    const READ: &str =
        "local t=redis.call('TIME') return {t[1],t[2],redis.call('ZRANGE',KEYS[1],0,-1,'WITHSCORES')}";
    let key = format!("{{mqs:p:{POOL}}}:own");
    let reply = store.eval(READ, &key, "")?;
    let Reply::Array(parts) = &reply else { bail!("{reply:?}") };
    let [seconds, micros, Reply::Array(list)] = parts.as_slice() else { bail!("{reply:?}") };
    let at = seconds.text()?.parse::<f64>()? + micros.text()?.parse::<f64>()? / 1e6;
    let mut live = HashMap::new();
    for pair in list.chunks_exact(2) {
        let score = pair[1].text()?.parse::<f64>()? as u64;
        if (score % SLOT) as f64 > at * 1000.0 {
            live.insert(pair[0].text()?.to_owned(), (score / SLOT) as usize);
        }
    }
    Ok(Sample { at, live })
}

/// The calls that a node logged: from the INVITE to the BYE, or to the end of time.
pub fn calls(node: usize, sipp: &Sipp) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for line in sipp.logs() {
        let word = |name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)).filter(|word| !word.is_empty())
        };
        let (Some(event), Some(id)) = (word("event="), word("call_id=")) else { continue };
        let at = word("at=").and_then(|at| at.parse::<f64>().ok()).unwrap_or_default();
        match event {
            "invite" => {
                // m1.POOL.NODE.LEASE.ATTEMPT.ISSUED.MAC
                let lease = word("lease=").and_then(|token| token.split('.').nth(3)).map(str::to_owned);
                index.insert(id.to_owned(), calls.len());
                calls.push(Call { id: id.to_owned(), node, lease, from: at, to: f64::INFINITY });
            }
            "bye" | "cancel" => {
                if let Some(call) = index.get(id).and_then(|index| calls.get_mut(*index)) {
                    call.to = call.to.min(at);
                }
            }
            _ => {}
        }
    }
    calls
}

/// Calls up without their lease, and live leases without their call, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    pub missing: usize,
    pub extra: usize,
}

/// A lease begins before its call is at the node and is ended after the BYE, so it is only there too long, and then up to
/// `grace_s`. What a call lacks after its first `grace_s` it lacks. In these its lease may be on another node: the store chose
/// one, and too late, so that the helper had to choose itself; the CONFIRM sets that right.
pub fn compare(sample: &Sample, calls: &[Call], grace_s: f64) -> Wrong {
    let (mut may, mut young): (BTreeSet<(&str, usize)>, BTreeSet<&str>) = Default::default();
    let mut wrong = Wrong::default();
    for call in calls {
        let lease = call.lease.as_deref();
        if let Some(lease) = lease
            && call.from < sample.at + grace_s
            && call.to > sample.at - grace_s
        {
            may.insert((lease, call.node));
            if call.from > sample.at - grace_s {
                young.insert(lease);
            }
        }
        let is_up = call.from < sample.at - grace_s && call.to > sample.at + END_S;
        let counted = lease.and_then(|lease| sample.live.get(lease)) == Some(&call.node);
        wrong.missing += usize::from(is_up && !counted);
    }
    let is_strange = |(lease, slot): &(&String, &usize)| {
        !may.contains(&(lease.as_str(), **slot)) && !young.contains(lease.as_str())
    };
    wrong.extra = sample.live.iter().filter(is_strange).count();
    wrong
}

/// From the caller's INVITE to the node's, in ms, of the calls that were begun in a time; the shortest first.
pub fn delays(callers: &[Sipp], calls: &[Call], from: f64, to: f64) -> Vec<f64> {
    let sent = callers.iter().flat_map(Sipp::logs).filter_map(|line| {
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let is_begun = word("event=").as_deref() == Some("sent");
        is_begun.then_some(()).and_then(|()| Some((word("call_id=")?, word("at=")?.parse::<f64>().ok()?)))
    });
    let sent: HashMap<String, f64> = sent.filter(|(_, at)| (from..to).contains(at)).collect();
    let delay = |call: &Call| sent.get(&call.id).map(|at| (call.from - at) * 1000.0);
    let mut delays: Vec<f64> = calls.iter().filter_map(delay).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// The value that so many of a hundred do not exceed; 0 where there are none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Leases that are live and have no call, in words.
pub fn strangers(sample: &Sample, calls: &[Call], grace_s: f64) -> String {
    let only =
        |lease: &String, slot: usize| Sample { at: sample.at, live: HashMap::from([(lease.clone(), slot)]) };
    let strange =
        sample.live.iter().filter(|(lease, slot)| compare(&only(lease, **slot), calls, grace_s).extra > 0);
    let tell = |(lease, slot): (&String, &usize)| {
        let its = calls.iter().find(|call| call.lease.as_ref() == Some(lease));
        let its = its.map(|call| {
            format!("{} from {:.2} to {:.2} at ast{}", call.id, call.from, call.to, call.node + 1)
        });
        format!("{lease} on ast{}: {}", slot + 1, its.unwrap_or_else(|| "no call".to_owned()))
    };
    let list: Vec<String> = strange.map(tell).collect();
    format!("at {:.2}: {}", sample.at, list.join(", "))
}

/// Calls that have more than one lease, or came to more than one node.
pub fn doubled(calls: &[Call]) -> usize {
    let mut seen: BTreeMap<&str, BTreeSet<(usize, Option<&str>)>> = BTreeMap::new();
    for call in calls {
        seen.entry(&call.id).or_default().insert((call.node, call.lease.as_deref()));
    }
    seen.values().filter(|places| places.len() > 1).count()
}

/// When the counts were true again: the end of the last disagreement, in the time of `seen` (when, and whether they differ;
/// the fault is over at 0). What comes after a while without any, and is short, does not count.
pub fn true_again(seen: &[(f64, bool)]) -> f64 {
    let mut until = 0.0_f64;
    for stretch in seen.chunk_by(|(_, one), (_, next)| one == next) {
        let (Some((from, differ)), Some((to, _))) = (stretch.first(), stretch.last()) else { continue };
        if *differ && *to > 0.0 && (*from < until + STEADY_S || to - from >= BLIP_S) {
            until = *to;
        }
    }
    until
}
