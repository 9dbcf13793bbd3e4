//! One fault in the middle of a load, and what callers and counts make of it: two Kamailios, two helpers, one Redis, four
//! nodes, 100 calls a second. What each fault costs is told in `docs/failure-modes.md`.
//!
//! All of them take minutes, so a run of the tests takes a few by turns: `MQS_LAB_FAULTS=all`, or `=redis_killed,link_cut`.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::judge::{self, Call, Row, Sample, Sampler, Wrong, compare};
use super::stage::{Plan, Stage, stands};
use crate::Case;
use crate::kamailio::Version;
use crate::net::{epoch_s, wait_until};
use crate::parts::Part;
use crate::relay::Faults;
use crate::room::Lab;

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];

pub const CASES: &[Case] = &[
    Case { name: "faults::the_judge_sees_what_is_wrong", needs: &[], run: judge_sees },
    Case { name: "faults::redis_killed", needs: PARTS, run: redis_killed },
    Case { name: "faults::redis_stopped", needs: PARTS, run: redis_stopped },
    Case { name: "faults::redis_stopped_over_http", needs: PARTS, run: redis_stopped_over_http },
    Case { name: "faults::redis_stopped_on_kamailio_6", needs: PARTS_NEW, run: redis_stopped_on_kamailio_6 },
    Case { name: "faults::redis_paused", needs: PARTS, run: redis_paused },
    Case { name: "faults::redis_flushed", needs: PARTS, run: redis_flushed },
    Case { name: "faults::scripts_flushed", needs: PARTS, run: scripts_flushed },
    Case { name: "faults::link_cut", needs: PARTS, run: link_cut },
    Case { name: "faults::link_cut_for_one", needs: PARTS, run: link_cut_for_one },
    Case { name: "faults::link_half_open", needs: PARTS, run: link_half_open },
    Case { name: "faults::link_slow", needs: PARTS, run: link_slow },
    Case { name: "faults::helper_killed", needs: PARTS, run: helper_killed },
    Case { name: "faults::helper_killed_without_a_list", needs: PARTS, run: helper_killed_without_a_list },
    Case { name: "faults::helper_stopped", needs: PARTS, run: helper_stopped },
    Case { name: "faults::kamailio_restarted", needs: PARTS, run: kamailio_restarted },
];

/// How many of the long cases a run takes where nothing is said.
const A_TURN: usize = 3;

/// Why a case is left out of this run, if it is.
pub fn why_not_now(name: &str) -> Option<String> {
    let short = name.strip_prefix("faults::")?;
    let long: Vec<&str> = CASES.iter().filter(|case| !case.needs.is_empty()).map(|case| case.name).collect();
    let index = long.iter().position(|other| *other == name)?;
    let wanted = std::env::var("MQS_LAB_FAULTS").unwrap_or_default();
    let (taken, why) = if wanted.is_empty() {
        let day = (epoch_s() / 86_400.0) as usize;
        ((index + long.len() - day * A_TURN % long.len()) % long.len() < A_TURN, "another day's turn")
    } else {
        (wanted == "all" || wanted.split(',').any(|word| word == short), "not among MQS_LAB_FAULTS")
    };
    (!taken).then(|| format!("{why}; MQS_LAB_FAULTS={short} runs it, MQS_LAB_FAULTS=all all of them"))
}

const RATE: u32 = 50;
const LOAD_S: u32 = 11;
const HOLD: Duration = Duration::from_millis(2500);
/// Up before the fault and after it: most real calls are of this sort.
const LONG_CALLS: u32 = 20;
const LONG_HOLD: Duration = Duration::from_secs(13);
const HELD_S: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);
/// Kamailio looks each second whether the helper takes words again, and a connection may need a second try.
const BACK_S: f64 = 5.0;

/// What a case does otherwise than the others, and what must hold.
struct Trial {
    name: &'static str,
    version: Version,
    http: bool,
    links: bool,
    static_list: bool,
    long_calls: bool,
    call_max_s: u64,
    failed_max: u64,
    true_again_max_s: f64,
}

impl Trial {
    fn new(name: &'static str) -> Trial {
        Trial {
            name,
            version: Version::System,
            http: false,
            links: false,
            static_list: false,
            long_calls: true,
            call_max_s: 18,
            failed_max: 0,
            true_again_max_s: BACK_S,
        }
    }
}

/// Load, the fault after 3 s (`fault` returns when it is over), the end of the load, the end of the lifetimes; then the judge.
fn measure(lab: &Lab, trial: &Trial, fault: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Row> {
    let helper = format!("[dispatch]\nheld_ms = {}\ncall_max_s = {}", HELD_S * 1000, trial.call_max_s);
    let plan = Plan {
        version: trial.version,
        pairs: 2,
        http: trial.http,
        helper: &helper,
        // No node here is silent: one that is only slow must not lose its call to the next one.
        pool: "fr_timer_ms = 3900",
        links: trial.links,
        static_list: trial.static_list,
        ..Plan::new(stands("node.xml", &[150, 200, 250, 300]))
    };
    let mut stage = Stage::set(lab, plan)?;
    let sampler = Sampler::start(stage.redis.socket());
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
    sleep(Duration::from_secs(3));
    let before = degraded(&stage)?;
    let begin = epoch_s();
    fault(&mut stage)?;
    let end = epoch_s();

    let mut row = Row { fault: trial.name.to_owned(), ..Row::default() };
    for caller in &mut callers {
        let stats = caller.finish(LIMIT)?;
        row.calls += stats.created();
        row.failed += stats.failed();
        for line in caller.logs().iter().filter(|line| line.contains("event=refused")) {
            let code = line.split(' ').find_map(|word| word.strip_prefix("code=")).unwrap_or_default();
            *row.refused.entry(code.to_owned()).or_default() += 1;
        }
    }
    let over = epoch_s();
    // However the calls ended, nothing outlives the lifetimes.
    let lifetimes = Duration::from_secs(trial.call_max_s.max(HELD_S) + 2);
    drop(wait_until("no lease is live", lifetimes, || Ok(stage.load()? == 0)));
    row.empty_s = epoch_s() - over;
    row.residue = stage.load()?;
    let samples = sampler.stop()?;
    // A helper that was started again counts from nothing.
    let counted = degraded(&stage)?.into_iter().zip(before);
    row.degraded = counted.map(|(now, before)| if now < before { now } else { now - before }).sum();

    let calls: Vec<Call> =
        stage.nodes.iter().enumerate().flat_map(|(node, sipp)| judge::calls(node, sipp)).collect();
    let way = |from, to| judge::delays(&callers, &calls, from, to);
    row.judge_delays(&way(0.0, begin), &way(begin, end));
    lab.write("truth.csv", &row.judge(&samples, &calls, begin, end))?;
    println!("    {}", row.line());
    row.publish()?;
    let early = samples.iter().filter(|sample| sample.at < begin).count();
    ensure!(early > 10, "only {early} samples before the fault");
    // Of some 290 calls that are up.
    ensure!(row.noise.missing.max(row.noise.extra) < 30, "wrong before the fault: {:?}", row.noise);
    ensure!(row.calls > 1000, "only {} calls were made", row.calls);
    Ok(row)
}

/// Measures, and holds what must hold against it.
fn hold(lab: &Lab, trial: &Trial, fault: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Row> {
    let row = measure(lab, trial, fault)?;
    ensure!(row.failed <= trial.failed_max, "{} calls failed: {:?}", row.failed, row.refused);
    ensure!(row.doubled == 0, "{} calls have two leases or came to two nodes", row.doubled);
    ensure!(row.residue == 0, "{} leases are left", row.residue);
    ensure!(
        row.true_again_s <= trial.true_again_max_s,
        "the counts were wrong until {:.1} s after the fault",
        row.true_again_s
    );
    Ok(row)
}

/// `GET /metrics` of each helper: answers given without the store.
fn degraded(stage: &Stage) -> Result<Vec<u64>> {
    let count = |text: &str| -> u64 {
        let lines = text.lines().filter(|line| line.starts_with("mqs_lookups_total"));
        let lines = lines.filter(|line| line.contains("result=\"degraded\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let ask = |helper: &crate::mqs::Mqs| Ok(count(&helper.http("GET", "/metrics", None)?.body));
    stage.helpers.iter().map(ask).collect::<Result<_>>().context("reading the metrics")
}

// ---------------------------------------------------------------- Redis

/// All is forgotten: what is up is told again by the helpers, what comes is counted at once.
fn redis_killed(lab: &Lab) -> Result<()> {
    let row = hold(lab, &Trial::new("redis_killed"), |stage| {
        stage.redis.process.kill()?;
        sleep(Duration::from_secs(3));
        stage.redis.restart(lab)
    })?;
    ensure!(row.degraded > 100, "only {} degraded answers: the test shows nothing", row.degraded);
    Ok(())
}

fn redis_stopped(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial::new("redis_stopped"))
}

fn redis_stopped_over_http(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial { http: true, ..Trial::new("redis_stopped_over_http") })
}

fn redis_stopped_on_kamailio_6(lab: &Lab) -> Result<()> {
    stop_redis(lab, Trial { version: Version::New, ..Trial::new("redis_stopped_on_kamailio_6") })
}

fn stop_redis(lab: &Lab, trial: Trial) -> Result<()> {
    let row = hold(lab, &trial, |stage| {
        stage.redis.process.signal("STOP")?;
        sleep(Duration::from_secs(5));
        stage.redis.process.signal("CONT")
    })?;
    ensure!(row.degraded > 200, "only {} degraded answers: the test shows nothing", row.degraded);
    hardly_slower(&row)
}

/// Longer than a lookup with its deadline of 60 ms can wait, and Kamailio's worker with it, in ms.
const BUSY_MS: f64 = 120.0;

/// Some 500 calls are begun while the store hangs. Until the breakers are open, 0.15 s, each waits for the pick's deadline.
fn hardly_slower(row: &Row) -> Result<()> {
    let [p50, p95, p99, max] = row.added_ms;
    if p99 > BUSY_MS {
        // No lookup waits so long for a store: others had the machine, and this says nothing.
        println!("    {p99:.1} ms at 99 of 100: the machine is too busy to tell what the store cost");
        return Ok(());
    }
    ensure!(
        p50 < 5.0 && p95 < judge::SLOW_MS,
        "calls took {p50:.1} ms longer at the median, {p95:.1} at 95 of 100"
    );
    ensure!((1..60).contains(&row.slowed), "{} calls were slowed, {max:.1} ms at most", row.slowed);
    Ok(())
}

fn redis_paused(lab: &Lab) -> Result<()> {
    let trial = Trial::new("redis_paused");
    let row = hold(lab, &trial, |stage| {
        stage.redis.call(&["CLIENT", "PAUSE", "3000"])?;
        sleep(Duration::from_secs(3));
        Ok(())
    })?;
    ensure!(row.degraded > 100, "only {} degraded answers: the test shows nothing", row.degraded);
    Ok(())
}

fn redis_flushed(lab: &Lab) -> Result<()> {
    let flush = |stage: &mut Stage| stage.redis.call(&["FLUSHALL"]).map(drop);
    let row = hold(lab, &Trial::new("redis_flushed"), flush)?;
    ensure!(row.missing_max > 0, "no lease was lost: the test shows nothing");
    Ok(())
}

fn scripts_flushed(lab: &Lab) -> Result<()> {
    let trial = Trial { true_again_max_s: 1.0, ..Trial::new("scripts_flushed") };
    hold(lab, &trial, |stage| stage.redis.call(&["SCRIPT", "FLUSH"]).map(drop)).map(drop)
}

// ---------------------------------------------------------------- the link

fn link_cut(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_cut") };
    let row = hold(lab, &trial, |stage| {
        stage.links.iter().for_each(|link| link.cut());
        sleep(Duration::from_secs(4));
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    ensure!(row.degraded > 100, "only {} degraded answers: the test shows nothing", row.degraded);
    Ok(())
}

/// One helper goes on with exact answers while the other one gives stale ones.
fn link_cut_for_one(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_cut_for_one") };
    let row = hold(lab, &trial, |stage| {
        stage.links[0].cut();
        sleep(Duration::from_secs(4));
        stage.links[0].restore();
        Ok(())
    })?;
    ensure!(row.degraded > 50, "only {} degraded answers: the test shows nothing", row.degraded);
    Ok(())
}

/// Connections stand, new ones too, and nothing comes through: a host that vanished, a firewall that forgot.
fn link_half_open(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_half_open") };
    let row = hold(lab, &trial, |stage| {
        let swallow = Faults { swallow_requests: true, swallow_answers: true, ..Faults::default() };
        stage.links.iter().for_each(|link| link.set(swallow));
        sleep(Duration::from_secs(5));
        // A TCP connection never goes on behind lost bytes.
        stage.links.iter().for_each(|link| link.reset());
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    ensure!(row.degraded > 200, "only {} degraded answers: the test shows nothing", row.degraded);
    hardly_slower(&row)
}

/// Slower than the deadlines: Redis carries out everything, and MQS believes nothing of it.
fn link_slow(lab: &Lab) -> Result<()> {
    let trial = Trial { links: true, ..Trial::new("link_slow") };
    let row = hold(lab, &trial, |stage| {
        let delay = Duration::from_millis(60);
        let slow = Faults { requests_delay: delay, answers_delay: delay, ..Faults::default() };
        stage.links.iter().for_each(|link| link.set(slow));
        sleep(Duration::from_secs(5));
        stage.links.iter().for_each(|link| link.restore());
        Ok(())
    })?;
    ensure!(row.degraded > 200, "only {} degraded answers: the test shows nothing", row.degraded);
    hardly_slower(&row)
}

// ---------------------------------------------------------------- helpers and proxies

fn kill_a_helper(lab: &Lab, stage: &mut Stage) -> Result<()> {
    stage.helpers[0].process.kill()?;
    sleep(Duration::from_secs(3));
    stage.helpers[0].restart(lab)
}

/// Its Kamailio goes on by a list of its own; those calls are not counted.
fn helper_killed(lab: &Lab) -> Result<()> {
    let trial = Trial { static_list: true, ..Trial::new("helper_killed") };
    let row = hold(lab, &trial, |stage| kill_a_helper(lab, stage))?;
    ensure!(row.unleased > 50, "only {} calls by the list: the test shows nothing", row.unleased);
    Ok(())
}

/// Without the list its Kamailio refuses: with `MQS_AWAY_CODE`, at once, and nothing else breaks.
fn helper_killed_without_a_list(lab: &Lab) -> Result<()> {
    let failed_max = u64::from(RATE) * 6;
    let trial = Trial { failed_max, ..Trial::new("helper_killed_without_a_list") };
    let row = hold(lab, &trial, |stage| kill_a_helper(lab, stage))?;
    let away = row.refused.get("500").copied().unwrap_or(0);
    ensure!(row.failed == away, "{} calls failed, {away} of them refused with 500", row.failed);
    Ok(())
}

fn helper_stopped(lab: &Lab) -> Result<()> {
    let trial =
        Trial { static_list: true, true_again_max_s: HELD_S as f64 + 2.0, ..Trial::new("helper_stopped") };
    let row = hold(lab, &trial, |stage| {
        stage.helpers[0].process.signal("STOP")?;
        sleep(Duration::from_secs(5));
        stage.helpers[0].process.signal("CONT")
    })?;
    ensure!(row.unleased > 50, "only {} calls by the list: the test shows nothing", row.unleased);
    Ok(())
}

/// It forgets its dialogs: nobody says DONE for the calls that were up, and their leases end by their lifetime.
fn kamailio_restarted(lab: &Lab) -> Result<()> {
    let call_max_s = 10;
    let trial = Trial {
        long_calls: false,
        call_max_s,
        true_again_max_s: call_max_s as f64,
        ..Trial::new("kamailio_restarted")
    };
    let row = hold(lab, &trial, |stage| stage.proxies[0].restart(lab))?;
    ensure!(row.extra_max > 0, "no lease outlived its call: the test shows nothing");
    Ok(())
}

// ---------------------------------------------------------------- the judge, judged

fn judge_sees(_: &Lab) -> Result<()> {
    let call = |id: &str, node, lease: Option<&str>| Call {
        id: id.to_owned(),
        node,
        lease: lease.map(str::to_owned),
        from: 10.0,
        to: 20.0,
    };
    let sample = |at, live: &[(&str, usize)]| Sample {
        at,
        live: live.iter().map(|(lease, slot)| ((*lease).to_owned(), *slot)).collect(),
    };
    let calls = [call("a", 0, Some("l1")), call("b", 1, Some("l2")), call("c", 1, None)];
    for (what, sample, missing, extra) in [
        ("all but the call without a lease", sample(15.0, &[("l1", 0), ("l2", 1)]), 1, 0),
        ("a lease on another node", sample(15.0, &[("l1", 0), ("l2", 0)]), 2, 1),
        ("a lease too few", sample(15.0, &[("l1", 0)]), 2, 0),
        ("a lease of nobody", sample(15.0, &[("l1", 0), ("l2", 1), ("l3", 1)]), 1, 1),
        ("before the calls", sample(5.0, &[("l1", 0)]), 0, 1),
        ("at their end", sample(20.1, &[("l1", 0)]), 0, 0),
        ("after their end", sample(25.0, &[("l1", 0)]), 0, 1),
    ] {
        let wrong = compare(&sample, &calls);
        ensure!(wrong == Wrong { missing, extra }, "{what}: {wrong:?}");
    }
    ensure!(judge::doubled(&calls) == 0);
    let delays = [1.0, 2.0, 3.0, 50.0];
    ensure!([50, 75, 99].map(|percent| judge::percentile(&delays, percent)) == [2.0, 3.0, 50.0]);
    let mut row = Row::default();
    row.judge_delays(&[1.0, 1.0, 9.0], &delays);
    ensure!((row.added_ms, row.slowed) == ([1.0, 49.0, 49.0, 49.0], 1), "{:?} {}", row.added_ms, row.slowed);
    let twice = [call("a", 0, Some("l1")), call("a", 1, Some("l1")), call("b", 0, Some("l2"))];
    ensure!(judge::doubled(&twice) == 1, "a call at two nodes is not seen");
    Ok(())
}
