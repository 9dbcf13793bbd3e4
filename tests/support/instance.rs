//! The real `mqs serve` as a child process in a folder of its own, and what its command line says.

use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// An instance with its configuration, in a folder of its own.
pub struct Instance {
    pub folder: TempDir,
    pub process: Option<Child>,
}

impl Instance {
    /// Not started yet. `config` writes the configuration, given the folder.
    pub fn with(config: impl FnOnce(&str) -> String) -> Instance {
        let folder = tempfile::tempdir().unwrap();
        let text = config(&folder.path().display().to_string());
        fs::write(folder.path().join("mqs.toml"), text).unwrap();
        fs::write(folder.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
        Instance { folder, process: None }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn start(&mut self) {
        self.start_by(&["env"]);
    }

    /// Starts it as the last words of another command, which becomes it.
    pub fn start_by(&mut self, by: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg(env!("CARGO_BIN_EXE_mqs"));
        command.args(["serve", "--config", &self.path("mqs.toml")]).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        self.until("it answers", |i| i.mqs(&["node", "list"]).0);
    }

    pub fn until(&self, what: &str, ready: impl Fn(&Instance) -> bool) {
        for _ in 0..500 {
            if ready(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "{what}: not so within 10 s; the log:\n{}",
            fs::read_to_string(self.path("log")).unwrap_or_default()
        );
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A client command: whether it went well, and what it printed.
    pub fn mqs(&self, args: &[&str]) -> (bool, String) {
        let output = run(&[args, &["--socket", &self.path("http.sock")]].concat());
        (output.status.success(), said(&output))
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let (well, text) = self.mqs(&[args, &["--json"]].concat());
        assert!(well, "{args:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Exit code and words of an instance that does not start.
    pub fn refused(&self) -> (Option<i32>, String) {
        let output = run(&["serve", "--config", &self.path("mqs.toml")]);
        (output.status.code(), said(&output))
    }

    pub fn check(&self) -> (Option<i32>, String) {
        let output = run(&["check", &self.path("mqs.toml"), "--no-nodes"]);
        (output.status.code(), said(&output))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mqs")).args(args).output().unwrap()
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
