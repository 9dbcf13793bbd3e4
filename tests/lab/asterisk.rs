//! A real Asterisk node, configured by `asterisk/make-node`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{self, HttpAnswer};
use crate::parts::{self, Part};
use crate::process::Process;
use crate::room::Lab;

const ARI_USER: &str = "mqs";
const READY_LIMIT: Duration = Duration::from_secs(20);
const ARI_SECRET: &str = "lab-ari-secret";

/// What differs between nodes.
#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// Kamailios that may send it calls, and that its own calls go out through: k1, k2, …
    pub kamailios: Vec<SocketAddrV4>,
    /// The node's address; a fresh one where none is given.
    pub address: Option<Ipv4Addr>,
    /// A file for `extensions.d/`; begins with `[site]`.
    pub dialplan: Option<String>,
    /// Further options of `asterisk/make-node`.
    pub options: Vec<String>,
}

impl NodeConfig {
    pub fn behind(kamailio: SocketAddrV4) -> NodeConfig {
        NodeConfig { kamailios: vec![kamailio], ..NodeConfig::default() }
    }
}

pub struct Asterisk {
    pub process: Process,
    id: String,
    address: Ipv4Addr,
    /// As Asterisk sees it.
    config_file: PathBuf,
}

impl Asterisk {
    /// Starts node `id` and waits until it is fully booted.
    pub fn start(lab: &Lab, id: &str, config: &NodeConfig) -> Result<Asterisk> {
        let mut asterisk = Asterisk::start_unasked(lab, id, config)?;
        asterisk.wait_ready()?;
        Ok(asterisk)
    }

    /// Starts node `id` and waits for its own word that it is ready, where the lab has no access to its ARI.
    pub fn start_unasked(lab: &Lab, id: &str, config: &NodeConfig) -> Result<Asterisk> {
        let program = lab.parts().get(Part::Asterisk)?;
        let address = config.address.unwrap_or_else(|| lab.address());
        let directory = program.sees(&lab.path(id))?;
        let mut generator = Command::new(parts::checkout().join("asterisk/make-node"));
        generator.args(["--id", id, "--ari-secret", ARI_SECRET, "--address"]).arg(address.to_string());
        generator.arg("--directory").arg(&directory);
        if let Some(root) = &program.root {
            generator.arg("--root").arg(root);
        }
        for kamailio in &config.kamailios {
            generator.arg("--kamailio").arg(kamailio.to_string());
        }
        // Test calls have no media, and SIPp does not refresh sessions.
        generator.args(["--rtp-timeout", "0", "--session-timers", "no"]);
        if let Some(dialplan) = &config.dialplan {
            generator.arg("--dialplan").arg(lab.write(&format!("{id}-site.conf"), dialplan)?);
        }
        let output = generator.args(&config.options).output().context("running asterisk/make-node")?;
        if !output.status.success() {
            bail!("asterisk/make-node: {}", String::from_utf8_lossy(&output.stderr));
        }
        let config_file = directory.join("etc/asterisk.conf");
        let process = spawn(lab, id, &config_file)?;
        let mut asterisk = Asterisk { process, id: id.to_owned(), address, config_file };
        asterisk.process.wait_log("Asterisk Ready.", READY_LIMIT)?;
        Ok(asterisk)
    }

    /// Starts it again with the same configuration, after it was stopped or killed.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process.stop()?;
        self.process = spawn(lab, &self.id, &self.config_file)?;
        self.wait_ready()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn sip(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, 5060)
    }

    /// `sip:127.x.y.z:5060`
    pub fn uri(&self) -> String {
        format!("sip:{}", self.sip())
    }

    pub fn http(&self) -> SocketAddr {
        (self.address, 8088).into()
    }

    pub fn ari_user(&self) -> (&'static str, &'static str) {
        (ARI_USER, ARI_SECRET)
    }

    /// One ARI request: `ari("GET", "/channels", None)`.
    pub fn ari(&self, method: &str, path: &str, body: Option<&str>) -> Result<HttpAnswer> {
        net::http(method, self.http(), &format!("/ari{path}"), Some(self.ari_user()), body)
    }

    /// The channels that it has, as ARI lists them.
    pub fn channels(&self) -> Result<Vec<serde_json::Value>> {
        let answer = self.ari("GET", "/channels", None)?;
        serde_json::from_str(&answer.body)
            .with_context(|| format!("channels of {}: {}", self.id, answer.body))
    }

    /// A command of Asterisk's own command line.
    pub fn cli(&self, lab: &Lab, words: &str) -> Result<String> {
        let mut command = lab.parts().get(Part::Asterisk)?.command();
        let output = command.arg("-C").arg(&self.config_file).args(["-rx", words]).output()?;
        if !output.status.success() {
            bail!("asterisk -rx '{words}': {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let http = self.http();
        // ARI answers 503 until everything is loaded.
        self.process.wait_ready(READY_LIMIT, || {
            let answer = net::http("GET", http, "/ari/asterisk/ping", Some((ARI_USER, ARI_SECRET)), None)?;
            if answer.status == 200 { Ok(true) } else { bail!("ARI says {}", answer.status) }
        })
    }
}

fn spawn(lab: &Lab, id: &str, config_file: &std::path::Path) -> Result<Process> {
    let mut command = lab.parts().get(Part::Asterisk)?.command();
    command.arg("-C").arg(config_file).arg("-f");
    Process::spawn(lab, id, command)
}
