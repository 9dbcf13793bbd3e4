//! A real Kamailio with the project's configuration (`kamailio/`), or one of the test's own.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net;
use crate::parts::{self, Part, Program};
use crate::process::Process;
use crate::room::Lab;

const READY_LIMIT: Duration = Duration::from_secs(20);
/// A documentation address (RFC 5737): matches nothing here, where a list must not be empty.
const NOBODY: &str = "192.0.2.255";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Of this system: 5.6.3 on Debian 12.
    System,
    /// 6.1, in the root folder.
    New,
}

impl Version {
    pub const ALL: [Version; 2] = [Version::System, Version::New];

    pub fn part(self) -> Part {
        match self {
            Version::System => Part::Kamailio,
            Version::New => Part::KamailioNew,
        }
    }

    /// A path of the test's directory, as this Kamailio sees it.
    pub fn sees(self, lab: &Lab, path: &Path) -> Result<PathBuf> {
        lab.parts().get(self.part())?.sees(path)
    }
}

/// What differs between Kamailios.
#[derive(Clone, Debug)]
pub struct KamailioConfig {
    pub name: String,
    /// The address that it serves; asked with OPTIONS until it answers.
    pub address: SocketAddrV4,
    /// A directory with `kamailio.cfg` and what it includes; the project's own where none is given.
    pub directory: Option<PathBuf>,
    /// `-A NAME` and `-A NAME=VALUE`.
    pub defines: Vec<String>,
    /// Further options of kamailio: `-n 4`.
    pub options: Vec<String>,
    pub shared_memory_mib: u32,
}

impl KamailioConfig {
    /// On port 5060 of a fresh address.
    pub fn new(lab: &Lab, name: &str) -> KamailioConfig {
        KamailioConfig {
            name: name.to_owned(),
            address: SocketAddrV4::new(lab.address(), 5060),
            directory: None,
            defines: Vec::new(),
            options: Vec::new(),
            shared_memory_mib: 256,
        }
    }

    /// For the project's own configuration: asks the helper at `socket`, takes calls of `callers` without a password,
    /// and believes `nodes` (name and address).
    pub fn project(
        self,
        lab: &Lab,
        version: Version,
        socket: &Path,
        callers: &[Ipv4Addr],
        nodes: &[(&str, Ipv4Addr)],
    ) -> Result<KamailioConfig> {
        let list = |words: Vec<String>, between: &str| {
            if words.is_empty() { NOBODY.into() } else { words.join(between) }
        };
        let nets = list(nodes.iter().map(|(_, address)| format!("{address}/32")).collect(), ",");
        let names = list(nodes.iter().map(|(name, address)| format!("{address}={name}")).collect(), ";");
        let trunks = list(callers.iter().map(|address| format!("{address}/32")).collect(), ",");
        let (listen, run) =
            (format!("udp:{}", self.address), version.sees(lab, &lab.path(&self.name).join("run"))?);
        let config = self.define("LISTEN", listen).define("RUN_DIR", run.display()).define("NODE_NETS", nets);
        let config = config.define("NODE_NAMES", names).define("TRUNK_NETS", trunks);
        let config = config.define("MQS_SOCKET", version.sees(lab, socket)?.display());
        // All test calls come from a few addresses, much faster than any stranger's should.
        Ok(config.switch("WITHOUT_PIKE"))
    }

    /// `-A NAME`: `WITH_MQS_HTTP`, `WITH_MQS_STATIC`, …
    pub fn switch(mut self, name: &str) -> KamailioConfig {
        self.defines.push(name.to_owned());
        self
    }

    /// `-A NAME=VALUE`
    pub fn define(mut self, name: &str, value: impl std::fmt::Display) -> KamailioConfig {
        self.defines.push(format!("{name}={value}"));
        self
    }
}

pub struct Kamailio {
    pub process: Process,
    version: Version,
    config: KamailioConfig,
    home: PathBuf,
}

impl Kamailio {
    pub fn start(lab: &Lab, version: Version, config: KamailioConfig) -> Result<Kamailio> {
        let home = lab.path(&config.name);
        let source = config.directory.clone().unwrap_or_else(|| parts::checkout().join("kamailio"));
        copy_files(&source, &home.join("etc"))?;
        std::fs::create_dir_all(home.join("run"))?;
        let process = spawn(lab, version, &config, &home)?;
        let mut kamailio = Kamailio { process, version, config, home };
        kamailio.wait_ready()?;
        Ok(kamailio)
    }

    /// Asks Kamailio whether the configuration is right; starts nothing.
    pub fn check(lab: &Lab, version: Version, config: &KamailioConfig) -> Result<()> {
        let home = lab.path(&config.name);
        let source = config.directory.clone().unwrap_or_else(|| parts::checkout().join("kamailio"));
        copy_files(&source, &home.join("etc"))?;
        std::fs::create_dir_all(home.join("run"))?;
        check(lab, version, config, &home)
    }

    /// With one configuration file, given as text.
    pub fn start_text(
        lab: &Lab,
        version: Version,
        mut config: KamailioConfig,
        text: &str,
    ) -> Result<Kamailio> {
        let file = lab.write(&format!("{}-config/kamailio.cfg", config.name), text)?;
        config.directory = file.parent().map(Path::to_owned);
        Kamailio::start(lab, version, config)
    }

    /// Starts it again with the same configuration, after it was stopped or killed.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process.stop()?;
        self.process = spawn(lab, self.version, &self.config, &self.home)?;
        self.wait_ready()
    }

    pub fn address(&self) -> SocketAddrV4 {
        self.config.address
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// `kamcmd` over the control socket, where the configuration loads `ctl` with its default socket.
    pub fn rpc(&self, lab: &Lab, words: &[&str]) -> Result<String> {
        let program = lab.parts().get(self.version.part())?;
        let socket = program.sees(&self.home.join("run/kamailio_ctl"))?;
        let kamcmd = Program { path: program.path.with_file_name("kamcmd"), ..program.clone() };
        let mut command = kamcmd.command();
        let output = command.arg("-s").arg(format!("unix:{}", socket.display())).args(words).output()?;
        if !output.status.success() {
            bail!("kamcmd {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let address = self.config.address;
        self.process.wait_ready(READY_LIMIT, || {
            if !net::udp_is_bound(address)? {
                bail!("nobody has bound {address}");
            }
            let local = SocketAddrV4::new(*address.ip(), 0);
            net::sip_options(local, address, Duration::from_millis(500))
                .map(|line| line.starts_with("SIP/2.0"))
        })?;
        // Its first worker answers while the main process still forks the others, and a worker that gets SIGTERM in its
        // first moments takes itself for the main process and stays.
        let (mut last, mut same) = (None, 0);
        net::wait_until("all of Kamailio's processes wait for work", READY_LIMIT, || {
            let now = self.process.sleepers()?;
            same = if now.is_some() && now == last { same + 1 } else { 0 };
            last = now;
            Ok(same >= 3)
        })
    }
}

fn spawn(lab: &Lab, version: Version, config: &KamailioConfig, home: &Path) -> Result<Process> {
    // Its own words about a mistake in the configuration are lost among the lines of a start.
    check(lab, version, config, home)?;
    let mut command = command(lab, version, config, home)?;
    let run = lab.parts().get(version.part())?.sees(home)?.join("run");
    command.args(["-DD", "-E", "-w"]).arg(&run).arg("-P").arg(run.join("kamailio.pid"));
    Process::spawn(lab, &config.name, command)
}

/// `kamailio -c`, and what it says of a mistake.
fn check(lab: &Lab, version: Version, config: &KamailioConfig, home: &Path) -> Result<()> {
    let output =
        command(lab, version, config, home)?.args(["-c", "-E"]).output().context("running kamailio -c")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let bad = |line: &&str| line.contains("CRITICAL") || line.contains("ERROR");
    if !output.status.success() || text.lines().any(|line| bad(&line)) {
        let lines: Vec<&str> = text.lines().filter(bad).take(20).collect();
        bail!("{} refuses its configuration:\n    {}", config.name, lines.join("\n    "));
    }
    Ok(())
}

fn command(lab: &Lab, version: Version, config: &KamailioConfig, home: &Path) -> Result<Command> {
    let program = lab.parts().get(version.part())?;
    let home = program.sees(home)?;
    let mut command = program.command();
    command.arg("-f").arg(home.join("etc/kamailio.cfg")).arg("-Y").arg(home.join("run"));
    command.args(["-m", &config.shared_memory_mib.to_string()]);
    for define in &config.defines {
        command.args(["-A", define]);
    }
    command.args(&config.options);
    Ok(command)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
