//! A private Redis, without persistence: a Unix socket in the test's directory, and port 6379 of an address of its own.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::parts::Part;
use crate::process::Process;
use crate::resp::{Reply, Resp};
use crate::room::Lab;

pub struct Redis {
    pub process: Process,
    name: String,
    address: SocketAddrV4,
    socket: PathBuf,
    arguments: Vec<String>,
}

impl Redis {
    pub fn start(lab: &Lab) -> Result<Redis> {
        Redis::start_with(lab, "redis", &[])
    }

    /// With further options of redis-server: `&["--replicaof 127.0.0.1 6379"]`.
    pub fn start_with(lab: &Lab, name: &str, options: &[&str]) -> Result<Redis> {
        let address = SocketAddrV4::new(lab.address(), 6379);
        let socket = lab.path(&format!("{name}.sock"));
        let directory = lab.path(name);
        std::fs::create_dir_all(&directory)?;
        let mut arguments: Vec<String> = vec![
            format!("--bind {}", address.ip()),
            format!("--port {}", address.port()),
            format!("--unixsocket {}", socket.display()),
            "--unixsocketperm 777".to_owned(),
            format!("--dir {}", directory.display()),
            "--save".to_owned(),
            "--appendonly no".to_owned(),
            "--daemonize no".to_owned(),
        ];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let process = Process::spawn(lab, name, command(lab, &arguments)?)?;
        let mut redis = Redis { process, name: name.to_owned(), address, socket, arguments };
        redis.wait_ready()?;
        Ok(redis)
    }

    /// Starts it again at the same place, empty, after it was stopped or killed.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process.stop()?;
        self.process = Process::spawn(lab, &self.name, command(lab, &self.arguments)?)?;
        self.wait_ready()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::V4(self.address)
    }

    /// `redis://127.x.y.z:6379`
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    pub fn client(&self) -> Result<Resp> {
        Resp::unix(&self.socket)
    }

    /// One command on a connection of its own; an error reply is an error.
    pub fn call(&self, words: &[&str]) -> Result<Reply> {
        let reply = self.client()?.call(words)?;
        if let Reply::Error(text) = reply {
            bail!("{words:?}: {text}");
        }
        Ok(reply)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (socket, address) = (self.socket.clone(), self.address());
        self.process.wait_ready(Duration::from_secs(10), || {
            let pong = Reply::Status("PONG".to_owned());
            Ok(Resp::unix(&socket)?.call(&["PING"])? == pong && Resp::tcp(address)?.call(&["PING"])? == pong)
        })
    }
}

fn command(lab: &Lab, arguments: &[String]) -> Result<Command> {
    let mut command = lab.parts().get(Part::Redis)?.command();
    for argument in arguments {
        let (name, values) = argument.split_once(' ').unwrap_or((argument, ""));
        command.arg(name);
        // `--save` takes one empty value.
        if values.is_empty() {
            command.arg("");
        } else {
            command.args(values.split(' '));
        }
    }
    Ok(command)
}
