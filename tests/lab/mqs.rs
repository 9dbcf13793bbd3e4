//! The `mqs` program itself.

use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::net::{self, HttpAnswer};
use crate::process::Process;
use crate::resp::{Reply, Resp};
use crate::room::Lab;

#[derive(Clone, Debug)]
pub struct Node {
    pub id: String,
    pub uri: String,
    pub capacity: u32,
    pub zone: Option<String>,
    /// How the leader drives it.
    pub ari: Option<String>,
}

impl Node {
    pub fn new(id: &str, uri: impl Into<String>, capacity: u32) -> Node {
        Node { id: id.to_owned(), uri: uri.into(), capacity, zone: None, ari: None }
    }
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub name: String,
    pub nodes: Vec<Node>,
    /// Further lines of the pool's table.
    pub extra: String,
}

impl Pool {
    pub fn new(name: &str, nodes: Vec<Node>) -> Pool {
        Pool { name: name.to_owned(), nodes, extra: String::new() }
    }
}

/// What differs between instances.
#[derive(Clone, Debug)]
pub struct MqsConfig {
    pub name: String,
    /// `memory:` or the URL of a Redis.
    pub store: String,
    pub pools: Vec<Pool>,
    /// Keys at the top of the file: `emergency_numbers = ["112"]`.
    pub top: String,
    /// Further lines of the table `[listen]`.
    pub listen: String,
    /// Further tables, put before the pools: `[dispatch]`.
    pub extra: String,
    /// Instances that share a store share it too.
    pub secret: String,
    pub environment: Vec<(String, String)>,
}

impl MqsConfig {
    pub fn new(name: &str, store: impl Into<String>, pools: Vec<Pool>) -> MqsConfig {
        MqsConfig {
            name: name.to_owned(),
            store: store.into(),
            pools,
            top: String::new(),
            listen: String::new(),
            extra: String::new(),
            secret: "0123456789abcdef0123456789abcdef".to_owned(),
            environment: Vec::new(),
        }
    }
}

pub struct Mqs {
    pub process: Process,
    config: MqsConfig,
    config_file: PathBuf,
    socket: PathBuf,
    http: SocketAddrV4,
}

impl Mqs {
    /// Starts `mqs serve` and waits until its RESP socket answers.
    pub fn start(lab: &Lab, config: MqsConfig) -> Result<Mqs> {
        let socket = lab.path(&format!("{}.sock", config.name));
        let http = SocketAddrV4::new(lab.address(), 8080);
        let secret_file = lab.write(&format!("{}.secret", config.name), &format!("{}\n", config.secret))?;
        let text = toml(&config, &socket, http, &secret_file);
        let config_file = lab.write(&format!("{}.toml", config.name), &text)?;
        let process = spawn(lab, &config, &config_file)?;
        let mut mqs = Mqs { process, config, config_file, socket, http };
        mqs.wait_ready()?;
        Ok(mqs)
    }

    /// Starts it again with the same configuration, after it was stopped or killed.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process.stop()?;
        self.process = spawn(lab, &self.config, &self.config_file)?;
        self.wait_ready()
    }

    /// The RESP Unix socket; `Version::sees` gives its path for a Kamailio.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::V4(self.http)
    }

    /// What `mqs check` prints of a configuration that nobody runs.
    pub fn check_only(lab: &Lab, config: &MqsConfig) -> Result<String> {
        let secret = lab.write(&format!("{}.secret", config.name), &format!("{}\n", config.secret))?;
        let socket = lab.path(&format!("{}.sock", config.name));
        let http = SocketAddrV4::new(lab.address(), 8080);
        let file = lab.write(&format!("{}.toml", config.name), &toml(config, &socket, http, &secret))?;
        let output = Command::new(env!("CARGO_BIN_EXE_mqs")).arg("check").arg(file).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `mqs check` prints of its configuration, and whether it was content.
    pub fn check(&self) -> Result<(bool, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_mqs")).arg("check").arg(&self.config_file).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    pub fn client(&self) -> Result<Resp> {
        Resp::unix(&self.socket)
    }

    /// One command on a connection of its own: the text of its bulk string.
    pub fn call(&self, words: &[&str]) -> Result<String> {
        let reply = self.client()?.call(words)?;
        reply.text().map(str::to_owned).with_context(|| format!("{words:?}"))
    }

    pub fn http(&self, method: &str, path: &str, body: Option<&str>) -> Result<HttpAnswer> {
        net::http(method, self.http_address(), path, None, body)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket.clone();
        self.process.wait_ready(Duration::from_secs(10), || {
            Ok(Resp::unix(&socket)?.call(&["PING"])? == Reply::Status("PONG".to_owned()))
        })
    }
}

fn spawn(lab: &Lab, config: &MqsConfig, config_file: &Path) -> Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
    command.arg("serve").arg("--config").arg(config_file);
    command.envs(config.environment.iter().map(|(name, value)| (name, value)));
    Process::spawn(lab, &config.name, command)
}

fn toml(config: &MqsConfig, socket: &Path, http: SocketAddrV4, secret_file: &Path) -> String {
    let mut text = format!(
        "{}\n\n[instance]\nid = {:?}\n\n[store]\nurl = {:?}\n\n[listen]\nresp = [{:?}]\nhttp = [{:?}]\n{}\n\n[token]\nsecret_file = {:?}\n",
        config.top,
        config.name,
        config.store,
        format!("unix:{}", socket.display()),
        http.to_string(),
        config.listen,
        secret_file.display().to_string(),
    );
    let _ = writeln!(text, "{}", config.extra);
    for pool in &config.pools {
        let _ = writeln!(text, "\n[[pool]]\nname = {:?}\n{}", pool.name, pool.extra);
        if !pool.extra.contains("[pool.health]") {
            // SIPp's scenarios answer no OPTIONS.
            let _ = writeln!(text, "[pool.health]\nprobe_every_ms = 0");
        }
        for node in &pool.nodes {
            let _ = writeln!(text, "\n[[pool.node]]\nid = {:?}\nuri = {:?}", node.id, node.uri);
            let _ = writeln!(text, "capacity = {}", node.capacity);
            if let Some(zone) = &node.zone {
                let _ = writeln!(text, "zone = {zone:?}");
            }
            if let Some(ari) = &node.ari {
                let _ = writeln!(text, "ari = {ari:?}");
            }
        }
    }
    text
}
