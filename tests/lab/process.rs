//! One child process: started in a process group of its own, its output in a file, always ended and reaped.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};

use crate::net::{now, wait_until};
use crate::room::{Lab, tell_reaper};

const TAIL_LINES: usize = 30;
/// Asterisk needs up to 3 s after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(8);

pub struct Process {
    name: String,
    child: Child,
    exit: Option<ExitStatus>,
    log: PathBuf,
    /// Where its own part of the log begins: a process of the same name may have written before.
    log_from: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident_kib: u64,
    pub cpu_ms: u64,
}

impl Process {
    /// Starts `command`; standard output and error go to `NAME.log` in the test's directory.
    pub fn spawn(lab: &Lab, name: &str, mut command: Command) -> Result<Process> {
        let log = lab.path(&format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let log_from = file.metadata()?.len();
        let child = command
            .current_dir(lab.directory())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let process = Process { name: name.to_owned(), child, exit: None, log, log_from };
        tell_reaper(&format!("group {}", process.pid()))?;
        Ok(process)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process's id, and that of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What this process has written, without what others of its name have before it.
    pub fn own_log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
            if self.exit.is_some() {
                self.end_group();
            }
        }
        Ok(self.exit)
    }

    /// An error with the end of the log where the process is not running any more.
    pub fn check(&mut self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => Err(self.error(&format!("ended: {}", describe(status)))),
        }
    }

    /// Asks `ready` until it says yes; fails at once when the process ends.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = now() + limit;
        loop {
            self.check().context("before it was ready")?;
            let last = ready();
            if let Ok(true) = last {
                return Ok(());
            }
            if now() >= end {
                let why = last.err().map(|error| format!(": {error:#}")).unwrap_or_default();
                return Err(self.error(&format!("was not ready within {limit:?}{why}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if now() >= end {
                return Err(self.error(&format!("still runs after {limit:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `text` is in the log.
    pub fn wait_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        let log = self.log.clone();
        self.wait_ready(limit, || Ok(std::fs::read_to_string(&log)?.contains(text)))
            .with_context(|| format!("waiting for {text:?} in the log of {}", self.name))
    }

    /// Sends a signal (`"STOP"`, `"CONT"`, `"USR1"`) to the process and all in its group.
    pub fn signal(&self, signal: &str) -> Result<()> {
        if self.exit.is_some() {
            bail!("{} has ended already", self.name);
        }
        kill(signal, self.pid())
    }

    /// SIGKILL to the whole group: a crash.
    pub fn kill(&mut self) -> Result<()> {
        if self.exit_status()?.is_none() {
            kill("KILL", self.pid())?;
            self.wait_exit(TERM_LIMIT)?;
        }
        Ok(())
    }

    /// SIGTERM to the process itself (Kamailio tells its workers), then SIGKILL to all where that does not help;
    /// returns how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        run_kill("TERM", &self.pid().to_string());
        // A stopped process sees SIGTERM only when it goes on.
        kill("CONT", self.pid())?;
        if let Ok(status) = self.wait_exit(TERM_LIMIT) {
            return Ok(status);
        }
        eprintln!("{} did not end within {TERM_LIMIT:?} of SIGTERM: killed", self.name);
        kill("KILL", self.pid())?;
        self.wait_exit(TERM_LIMIT)
    }

    /// What the process and all in its group have used: resident memory in KiB (shared pages count for each), CPU in ms.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for stat in self.group_stats()? {
            // Ticks of 10 ms, pages of 4 KiB.
            usage.cpu_ms += (stat.number(14) + stat.number(15)) * 10;
            usage.resident_kib += stat.number(24) * 4;
        }
        Ok(usage)
    }

    /// How many processes its group has, where all of them sleep.
    pub fn sleepers(&self) -> Result<Option<usize>> {
        let stats = self.group_stats()?;
        Ok(stats.iter().all(|stat| stat.text(3) == "S").then_some(stats.len()))
    }

    fn group_stats(&self) -> Result<Vec<Stat>> {
        let mut stats = Vec::new();
        for entry in std::fs::read_dir("/proc").context("reading /proc")? {
            // A process may end while it is looked at.
            let Ok(text) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
            let stat = Stat::parse(&text);
            if stat.number(5) == u64::from(self.pid()) {
                stats.push(stat);
            }
        }
        Ok(stats)
    }

    /// An error that names the process and shows the end of its log.
    pub fn error(&self, what: &str) -> Error {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
        anyhow!("{} {what}; the end of its log:\n    {tail}", self.name)
    }

    /// After the leader's end: whoever is left in its group ends too.
    fn end_group(&self) {
        if group_is_alive(self.pid()) {
            drop(kill("KILL", self.pid()));
            let limit = Duration::from_secs(2);
            drop(wait_until("the group has ended", limit, || Ok(!group_is_alive(self.pid()))));
        }
        drop(tell_reaper(&format!("ended {}", self.pid())));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("ending {}: {error:#}", self.name);
        }
    }
}

/// A line of `/proc/PID/stat`, by the numbers of proc(5): 3 state, 5 group, 14 and 15 CPU time, 24 resident pages.
struct Stat {
    /// From field 3 on: the second one, the name in parentheses, may hold blanks.
    fields: Vec<String>,
}

impl Stat {
    fn parse(text: &str) -> Stat {
        let rest = text.rsplit(')').next().unwrap_or_default();
        Stat { fields: rest.split_whitespace().map(str::to_owned).collect() }
    }

    fn text(&self, number: usize) -> &str {
        self.fields.get(number - 3).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, number: usize) -> u64 {
        self.text(number).parse().unwrap_or(0)
    }
}

/// In words: `exit code 3`, `signal 9`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("{status}"),
    }
}

fn kill(signal: &str, group: u32) -> Result<()> {
    // A group that has just ended is no error.
    if !run_kill(signal, &format!("-{group}")) && group_is_alive(group) {
        bail!("kill -{signal} to the group {group} failed");
    }
    Ok(())
}

/// A leader that has ended but is not reaped yet counts as alive.
fn group_is_alive(group: u32) -> bool {
    run_kill("0", &format!("-{group}"))
}

/// The program `kill`, since the crate forbids the unsafe code that the system call needs.
fn run_kill(signal: &str, target: &str) -> bool {
    let output = Command::new("kill").arg(format!("-{signal}")).args(["--", target]).output();
    output.is_ok_and(|output| output.status.success())
}
