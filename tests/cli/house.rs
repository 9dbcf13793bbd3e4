//! The program, a configuration in a directory of its own, and an instance that serves it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

pub(super) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
    for name in ["MQS_SOCKET", "MQS_TOKEN_FILE", "MQS_CA_FILE", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command
}

pub(super) fn run(args: &[&str]) -> (i32, String, String) {
    shown(command().args(args).output().unwrap())
}

pub(super) fn shown(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

pub(super) const NODES: &str = r#"
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
zone = "a"
[[pool.node]]
id = "ast2"
uri = "sip:127.0.1.2:5060"
capacity = 600
zone = "b"
tags = ["video", "t38"]
[[pool.node]]
id = "ast3"
uri = "sip:127.0.1.3:5060"
capacity = 30
state = "draining"
"#;

/// A configuration in a directory of its own.
pub(super) struct House(pub(super) TempDir);

impl House {
    pub(super) fn new(nodes: &str) -> House {
        let house = House(tempfile::tempdir().unwrap());
        let text = format!(
            "emergency_numbers = [\"112\"]\n[store]\nurl = \"memory:\"\n[listen]\nresp = [\"unix:{0}/mqs.sock\"]\nhttp = [\"unix:{0}/http.sock\"]\n[[pool]]\nname = \"default\"\n{nodes}",
            house.0.path().display()
        );
        fs::write(house.path("mqs.toml"), text).unwrap();
        house
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(super) fn serve(&self) -> Service {
        let mut process = command()
            .args(["serve", "--config", &self.path("mqs.toml")])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (line_to, lines) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = line_to.send(line);
            }
        });
        let mut log = Vec::new();
        let ready = |line: &String| line.contains(" ready ") || line.contains("\"ready\"");
        while !log.last().is_some_and(ready) {
            log.push(lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{log:#?}")));
        }
        Service { process, log, lines }
    }

    /// Asks the service of this house. Directory and tokens are replaced: `DIR`, `TOKEN`.
    pub(super) fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let (code, out, err) = self.ask_as_it_is(args);
        (code, self.plain(&out), self.plain(&err))
    }

    pub(super) fn ask_as_it_is(&self, args: &[&str]) -> (i32, String, String) {
        shown(command().args(args).env("MQS_SOCKET", self.path("http.sock")).output().unwrap())
    }

    pub(super) fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.0.path().display().to_string(), "DIR");
        let words = |line: &str| line.split(' ').map(without_chance).collect::<Vec<_>>().join(" ");
        text.split('\n').map(words).collect::<Vec<_>>().join("\n")
    }
}

/// What differs from run to run.
pub(super) fn without_chance(word: &str) -> &str {
    let bare = word.trim_end_matches([':', ',']);
    if word.starts_with("m1.default.") {
        "TOKEN"
    } else if bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        "LEASE"
    } else {
        word
    }
}

pub(super) struct Service {
    pub(super) process: Child,
    pub(super) log: Vec<String>,
    /// What is logged after it was ready.
    pub(super) lines: mpsc::Receiver<String>,
}

impl Service {
    pub(super) fn signal(&mut self, name: &str) -> i32 {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
pub(super) fn fails(found: (i32, String, String), code: i32, stderr: &str) {
    assert_eq!((found.0, found.2.as_str()), (code, stderr), "stdout: {}", found.1);
}
