//! SIPp, as callers and as nodes or phones.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::udp_is_bound;
use crate::parts::{self, Part};
use crate::process::{Process, describe};
use crate::room::Lab;

/// Which calls SIPp makes or takes.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Comes with SIPp: `uac`, `uas`.
    Builtin(&'static str),
    /// A file of `sipp-scenarios/`.
    File(&'static str),
    /// The XML itself.
    Text(&'static str),
}

/// A SIPp to be started.
pub struct SippConfig {
    name: String,
    scenario: Scenario,
    local: Option<SocketAddrV4>,
    target: Option<SocketAddrV4>,
    arguments: Vec<String>,
    automatic: bool,
}

/// A SIPp that calls `target` with `scenario`.
pub fn caller(name: &str, scenario: Scenario, target: SocketAddrV4) -> SippConfig {
    SippConfig {
        name: name.to_owned(),
        scenario,
        local: None,
        target: Some(target),
        arguments: vec!["-m".to_owned(), "1".to_owned()],
        automatic: true,
    }
}

/// A SIPp that is called: a node, or a phone.
pub fn callee(name: &str, scenario: Scenario) -> SippConfig {
    let (name, arguments) = (name.to_owned(), Vec::new());
    SippConfig { name, scenario, local: None, target: None, arguments, automatic: true }
}

impl SippConfig {
    /// The address to use; a fresh one with port 5060 where none is given.
    pub fn local(mut self, address: SocketAddrV4) -> SippConfig {
        self.local = Some(address);
        self
    }

    /// Answers only what its scenario knows. What comes while it has something else to do is sent again, and read then.
    pub fn patient(mut self) -> SippConfig {
        self.automatic = false;
        self
    }

    /// How many calls in all; 1 where nothing is said.
    pub fn calls(self, calls: u32) -> SippConfig {
        self.option("-m", &calls.to_string())
    }

    /// New calls a second.
    pub fn rate(self, calls_per_s: u32) -> SippConfig {
        self.option("-r", &calls_per_s.to_string())
    }

    /// Calls at a time, at most.
    pub fn limit(self, calls: u32) -> SippConfig {
        self.option("-l", &calls.to_string())
    }

    /// How long a call is held, for scenarios with a `<pause>` that does not say.
    pub fn hold(self, time: Duration) -> SippConfig {
        self.option("-d", &time.as_millis().to_string())
    }

    /// The user part of the Request-URI.
    pub fn service(self, user: &str) -> SippConfig {
        self.option("-s", user)
    }

    /// `[name]` in the scenario.
    pub fn key(mut self, name: &str, value: &str) -> SippConfig {
        self.arguments.extend(["-key", name, value].map(str::to_owned));
        self
    }

    /// `$name` in the scenario.
    pub fn set(mut self, name: &str, value: &str) -> SippConfig {
        self.arguments.extend(["-set", name, value].map(str::to_owned));
        self
    }

    /// `[field0]`, … of the scenario, one line a call; a first line `SEQUENTIAL` or `RANDOM` is added where none is.
    pub fn input(self, lab: &Lab, lines: &[String]) -> Result<SippConfig> {
        let file =
            lab.write(&format!("{}-input.csv", self.name), &format!("SEQUENTIAL\n{}\n", lines.join("\n")))?;
        Ok(self.option("-inf", &file.display().to_string()))
    }

    /// An answer that the scenario does not expect ends the call as failed. Not the default, since a late 100 would.
    pub fn strict(self) -> SippConfig {
        self.option("-default_behaviors", "all")
    }

    /// Any option with its value.
    pub fn option(mut self, name: &str, value: &str) -> SippConfig {
        if let Some(index) = self.arguments.iter().position(|argument| argument == name)
            && name.starts_with('-')
        {
            self.arguments.drain(index..index + 2);
        }
        self.arguments.extend([name, value].map(str::to_owned));
        self
    }

    /// Any option without a value.
    pub fn flag(mut self, name: &str) -> SippConfig {
        self.arguments.push(name.to_owned());
        self
    }

    /// Starts it and waits until it has bound its address.
    pub fn start(self, lab: &Lab) -> Result<Sipp> {
        let local = self.local.unwrap_or_else(|| SocketAddrV4::new(lab.address(), 5060));
        let file = |suffix: &str| lab.path(&format!("{}{suffix}", self.name));
        let mut command = lab.parts().get(Part::Sipp)?.command();
        match &self.scenario {
            Scenario::Builtin(name) => command.args(["-sn", name]),
            Scenario::File(name) => {
                let path = parts::checkout().join("sipp-scenarios").join(name);
                if !path.exists() {
                    bail!("there is no scenario {}", path.display());
                }
                command.arg("-sf").arg(path)
            }
            Scenario::Text(text) => command.arg("-sf").arg(lab.write(&format!("{}.xml", self.name), text)?),
        };
        let (ip, port) = (local.ip().to_string(), local.port().to_string());
        // -aa answers OPTIONS and others that the scenario does not know.
        command.args(self.automatic.then_some("-aa"));
        command.args(["-nostdin", "-default_behaviors", "all,-abortunexp"]);
        command.args(["-i", &ip, "-p", &port, "-ci", &ip, "-mi", &ip]);
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(file("-stat.csv"));
        command.args(["-trace_err", "-error_file"]).arg(file("-errors.txt"));
        command.args(["-trace_logs", "-log_file"]).arg(file("-logs.txt"));
        command.args(&self.arguments);
        command.args(self.target.map(|target| target.to_string()));
        // Otherwise every SIPp draws the same random sequence.
        let lots = self.name.bytes().fold(lab.seed(), |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        command.env("GSL_RNG_SEED", (lots % 1_000_000_007).to_string()).env("TERM", "dumb");
        let process = Process::spawn(lab, &self.name, command)?;
        let mut sipp = Sipp {
            process,
            local,
            stat_file: file("-stat.csv"),
            log_file: file("-logs.txt"),
            error_file: file("-errors.txt"),
        };
        if self.target.is_none() {
            sipp.process.wait_ready(Duration::from_secs(10), || udp_is_bound(local))?;
        }
        Ok(sipp)
    }
}

/// A running SIPp.
pub struct Sipp {
    pub process: Process,
    local: SocketAddrV4,
    stat_file: PathBuf,
    log_file: PathBuf,
    error_file: PathBuf,
}

impl Sipp {
    /// A called SIPp: `Sipp::node(&lab, "ast1", Scenario::Builtin("uas"))`.
    pub fn node(lab: &Lab, name: &str, scenario: Scenario) -> Result<Sipp> {
        callee(name, scenario).start(lab)
    }

    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    pub fn ip(&self) -> Ipv4Addr {
        *self.local.ip()
    }

    /// `sip:127.x.y.z:5060`
    pub fn uri(&self) -> String {
        format!("sip:{}", self.local)
    }

    /// Waits until all calls are made; fails where one of them failed.
    pub fn success(&mut self, limit: Duration) -> Result<Stats> {
        let stats = self.finish(limit)?;
        if stats.failed() > 0 {
            return Err(self.process.error(&format!(
                "had {} failed call(s): {}",
                stats.failed(),
                self.errors()
            )));
        }
        Ok(stats)
    }

    /// Waits until all calls are made, however they went.
    pub fn finish(&mut self, limit: Duration) -> Result<Stats> {
        let status = self.process.wait_exit(limit)?;
        match status.code() {
            // 1: a call failed. 97, 99: ended by a command, or without calls.
            Some(0 | 1 | 97 | 99) => self.stats(),
            Some(_) | None => {
                Err(self.process.error(&format!("ended: {}: {}", describe(status), self.errors())))
            }
        }
    }

    /// Asks a called SIPp to end (calls under way are ended first) and reads its figures.
    pub fn quit(&mut self, limit: Duration) -> Result<Stats> {
        self.process.check()?;
        self.process.signal("USR1")?;
        self.finish(limit)
    }

    /// The figures as of the last second.
    pub fn stats(&self) -> Result<Stats> {
        Stats::parse(&std::fs::read_to_string(&self.stat_file).unwrap_or_default())
            .with_context(|| format!("reading {}", self.stat_file.display()))
    }

    /// What the scenario's `<log>` actions said, a line each.
    pub fn logs(&self) -> Vec<String> {
        let text = std::fs::read(&self.log_file).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// How many of those lines tell of this event.
    pub fn logged(&self, event: &str) -> usize {
        let chosen = format!("event={event}");
        self.logs().iter().filter(|line| line.split_whitespace().any(|word| word == chosen)).count()
    }

    /// The unexpected, in SIPp's words.
    pub fn errors(&self) -> String {
        let text = std::fs::read(&self.error_file).unwrap_or_default();
        String::from_utf8_lossy(&text).chars().take(2000).collect()
    }
}

/// The last line of SIPp's statistics file: cumulative values by column, `SuccessfulCall(C)`.
#[derive(Clone, Default)]
pub struct Stats {
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Stats {
    /// Only what is not empty, zero or a repartition.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dull = |value: &str| value.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.'));
        let told = self.values.iter().filter(|(name, value)| !dull(value) && !name.contains("Repartition"));
        formatter.debug_map().entries(told.filter(|(name, _)| !name.starts_with('<'))).finish()
    }
}

impl Stats {
    fn parse(text: &str) -> Result<Stats> {
        let mut lines = text.lines();
        let header = lines.next().context("there are no figures yet")?;
        // A line that is still being written has fewer columns.
        let columns: Vec<&str> = header.trim_end_matches(';').split(';').collect();
        let last = lines.rfind(|line| line.trim_end_matches(';').split(';').count() >= columns.len());
        let values = last.context("there are no figures yet")?.split(';');
        let values =
            columns.into_iter().zip(values).map(|(column, value)| (column.to_owned(), value.to_owned()));
        Ok(Stats { values: values.collect() })
    }

    pub fn text(&self, column: &str) -> &str {
        self.values.get(column).map(String::as_str).unwrap_or_default()
    }

    pub fn count(&self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or(0)
    }

    pub fn created(&self) -> u64 {
        self.count("TotalCallCreated")
    }

    pub fn current(&self) -> u64 {
        self.count("CurrentCall")
    }

    pub fn successful(&self) -> u64 {
        self.count("SuccessfulCall(C)")
    }

    pub fn failed(&self) -> u64 {
        self.count("FailedCall(C)")
    }

    pub fn retransmissions(&self) -> u64 {
        self.count("Retransmissions(C)")
    }

    /// Columns whose name begins with `prefix`, for response times and counters of a scenario.
    pub fn columns(&self, prefix: &str) -> Vec<(&str, &str)> {
        let chosen = self.values.iter().filter(|(name, _)| name.starts_with(prefix));
        chosen.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}
