//! One fault in the middle of a load, and what is measured of it.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::HELD_S;
use super::limits::{BACK_S, Limits, within};
use crate::cases::judge::{self, Call, Sample, Sampler};
use crate::cases::machine::{Machine, Pulse};
use crate::cases::row::Row;
use crate::cases::stage::{Plan, Stage, stands};
use crate::kamailio::Version;
use crate::net::{epoch_s, wait_until};
use crate::room::Lab;
use crate::store::Kind;

pub const RATE: u32 = 50;
const LOAD_S: u32 = 11;
/// Longer than a call: ends are seen too.
const BEFORE: Duration = Duration::from_secs(4);
const HOLD: Duration = Duration::from_millis(2500);
/// Up before the fault and after it: most real calls are of this sort.
const LONG_CALLS: u32 = 20;
const LONG_HOLD: Duration = Duration::from_secs(13);
const LIMIT: Duration = Duration::from_secs(60);

/// What a case does otherwise than the others, and what must hold.
pub struct Trial {
    pub name: &'static str,
    pub version: Version,
    pub http: bool,
    pub store: Kind,
    pub links: bool,
    pub static_list: bool,
    pub long_calls: bool,
    pub call_max_s: u64,
    /// Of the first helper's process.
    pub environment: Vec<(String, String)>,
    pub limits: Limits,
}

impl Trial {
    pub fn new(name: &'static str) -> Trial {
        Trial {
            name,
            version: Version::System,
            http: false,
            store: Kind::Alone,
            links: false,
            static_list: false,
            long_calls: true,
            call_max_s: 18,
            environment: Vec::new(),
            limits: within(BACK_S),
        }
    }
}

/// Measures, and holds what must hold against it.
pub fn hold(lab: &Lab, trial: &Trial, fault: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Row> {
    let row = measure(lab, trial, fault)?;
    trial.limits.check(&row)?;
    Ok(row)
}

/// Load, the fault after 4 s (`fault` returns when it is over), the end of the load, the end of the lifetimes; then the judge.
fn measure(lab: &Lab, trial: &Trial, fault: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Row> {
    let helper = format!("[dispatch]\nheld_ms = {}\ncall_max_s = {}", HELD_S * 1000.0, trial.call_max_s);
    let plan = Plan {
        version: trial.version,
        pairs: 2,
        http: trial.http,
        helper: &helper,
        // No node here is silent: one that is only slow must not lose its call to the next one.
        pool: "fr_timer_ms = 3900",
        store: trial.store,
        links: trial.links,
        static_list: trial.static_list,
        environment: trial.environment.clone(),
        ..Plan::new(stands("node.xml", &[150, 200, 250, 300]))
    };
    let mut stage = Stage::set(lab, plan)?;
    let (sampler, pulse) = (Sampler::start(stage.store.reader()), Pulse::start());
    let mut callers = Vec::new();
    for pair in 0..stage.proxies.len() {
        if trial.long_calls {
            let from = SocketAddrV4::new(stage.callers[pair], 5070);
            let call = stage.call(&format!("long{pair}"), pair, "caller.xml").local(from);
            callers.push(call.calls(LONG_CALLS).rate(RATE).limit(LONG_CALLS).hold(LONG_HOLD).start(lab)?);
        }
        let call = stage.call(&format!("caller{pair}"), pair, "caller.xml");
        let calls = RATE * LOAD_S;
        callers.push(call.calls(calls).rate(RATE).limit(calls).hold(HOLD).start(lab)?);
    }
    sleep(BEFORE);
    let before = Counted::ask(&stage)?;
    let failed_before =
        callers.iter().filter_map(|caller| caller.stats().ok()).map(|stats| stats.failed()).sum::<u64>();
    let begin = epoch_s();
    fault(&mut stage)?;
    let end = epoch_s();

    let mut row = Row { fault: trial.name.to_owned(), ..Row::default() };
    let mut refused = Vec::new();
    for caller in &mut callers {
        let stats = caller.finish(LIMIT)?;
        row.calls += stats.created();
        row.failed += stats.failed();
        for line in caller.logs().iter().filter(|line| line.contains("event=refused")) {
            let word =
                |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default();
            *row.refused.entry(word("code=").to_owned()).or_default() += 1;
            refused.extend(word("at=").parse::<f64>());
        }
    }
    let over = epoch_s();
    // However the calls ended, nothing outlives the lifetimes.
    let lifetimes = Duration::from_secs(trial.call_max_s.max(HELD_S as u64) + 2);
    drop(wait_until("no lease is live", lifetimes, || Ok(stage.load()? == 0)));
    row.empty_s = epoch_s() - over;
    row.residue = stage.load()?;
    let (samples, beats) = (sampler.stop()?, pulse.stop()?);
    for (now, before) in Counted::ask(&stage)?.iter().zip(&before) {
        let since = now.since(before);
        row.degraded += since.answers;
        row.degraded_s = row.degraded_s.max(since.seconds);
    }

    let calls: Vec<Call> =
        stage.nodes.iter().enumerate().flat_map(|(node, sipp)| judge::calls(node, sipp)).collect();
    let early: Vec<&Sample> = samples.iter().filter(|sample| sample.at < begin).collect();
    ensure!(early.len() > 10, "only {} samples before the fault", early.len());
    // No machine is busy enough for that.
    ensure!(
        judge::doubled(&calls) == 0,
        "{} calls have two leases or came to two nodes",
        judge::doubled(&calls)
    );
    let missed_before = before.iter().map(|counted| counted.answers).sum::<u64>() + failed_before;
    let machine = Machine::new(beats, missed_before, refused);
    row.machine = machine.clone().learn(&early, &calls).map_err(|error| machine.blame(error))?;
    let way = |from, to| judge::delays(&callers, &calls, from, to);
    row.judge_delays(&way(0.0, begin), &way(begin, end));
    lab.write("truth.csv", &row.judge(&samples, &calls, begin, end))?;
    lab.tell(row.line());
    row.publish()?;
    Ok(row)
}

/// What a helper says that it answered without the store, and for how long.
#[derive(Clone, Copy, Default)]
struct Counted {
    answers: u64,
    seconds: f64,
}

impl Counted {
    /// `GET /metrics` of each helper.
    fn ask(stage: &Stage) -> Result<Vec<Counted>> {
        let ask = |helper: &crate::mqs::Mqs| Ok(Counted::read(&helper.http("GET", "/metrics", None)?.body));
        stage.helpers.iter().map(ask).collect::<Result<_>>().context("reading the metrics")
    }

    fn read(text: &str) -> Counted {
        let sum = |name: &str, label: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Counted {
            answers: sum("mqs_lookups_total", "result=\"degraded\"") as u64,
            seconds: sum("mqs_degraded_seconds_total", ""),
        }
    }

    fn since(self, before: &Counted) -> Counted {
        // A helper that was started again counts from nothing.
        if self.answers < before.answers || self.seconds < before.seconds {
            return self;
        }
        Counted { answers: self.answers - before.answers, seconds: self.seconds - before.seconds }
    }
}
