//! The real binary: `mqs serve` on the embedded store with a pool in the DNS, and `mqs check`.

use crate::authority::{Authority, Mood};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

struct Instance {
    folder: TempDir,
    process: Option<Child>,
}

impl Instance {
    fn new(authority: &Authority) -> Instance {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display();
        let text = format!(
            "emergency_numbers = [\"112\"]\n[listen]\nresp = [\"unix:{home}/mqs.sock\"]\nhttp = [\"unix:{home}/http.sock\"]\n\
             [dns]\nservers = [\"{}\"]\ntimeout_ms = 2000\n[[pool]]\nname = \"default\"\n\
             [pool.discover]\nname = \"sip:pool.example\"\ncapacity = 10\nrefresh_min_s = 1\nforget_after_s = 1\n\
             [[pool.node]]\nid = \"fixed\"\nuri = \"sip:127.0.1.9:5060\"\ncapacity = 10\n",
            authority.address
        );
        fs::write(folder.path().join("mqs.toml"), text).unwrap();
        Instance { folder, process: None }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        command.args(["serve", "--config", &self.path("mqs.toml")]).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        self.until("an answer", |i| i.mqs(&["node", "list"]).0);
    }

    fn until(&self, what: &str, is: impl Fn(&Instance) -> bool) {
        for _ in 0..500 {
            if is(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not {what} within 10 s: {:?}\n{}", self.nodes(), self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn mqs(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        let output = command.args(args).args(["--socket", &self.path("http.sock")]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    /// `ip-…-5060 active dns`, in the order of their names.
    fn nodes(&self) -> Vec<String> {
        let (_, text) = self.mqs(&["node", "list", "--json"]);
        let nodes: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let word = |n: &Value, key: &str| n[key].as_str().unwrap_or("-").to_owned();
        let mut all: Vec<String> = nodes
            .iter()
            .map(|n| format!("{} {} {}", word(n, "id"), word(n, "state"), word(n, "source")))
            .collect();
        all.sort();
        all
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

const ONE: &str = "ip-127-0-1-1-5060 active dns";
const TWO: &str = "ip-127-0-1-2-5060 active dns";
const FIXED: &str = "fixed active -";

#[test]
fn nodes_of_a_running_instance_follow_the_dns() {
    let authority = Authority::start("pool 1 IN A 127.0.1.1\npool 1 IN A 127.0.1.9");
    let mut instance = Instance::new(&authority);
    instance.start();
    assert_eq!(
        instance.nodes(),
        [FIXED, ONE],
        "there with the first answer; the file's own place is left to the file"
    );
    let (routed, said) = instance.mqs(&["route", "sip:1@example.com", "--tag", "none"]);
    assert!(!routed, "{said}");
    authority.zone("pool 1 IN A 127.0.1.1\npool 1 IN A 127.0.1.2");
    instance.until("both", |i| i.nodes() == [FIXED, ONE, TWO]);
    authority.zone("pool 1 IN A 127.0.1.2");
    instance.until("drained", |i| i.nodes().contains(&"ip-127-0-1-1-5060 draining dns".to_owned()));
    instance.until("removed", |i| i.nodes() == [FIXED, TWO]);
    authority.mood(Mood::Silent);
    instance.until("told", |i| i.log().contains("discovery failed; the nodes stay as they are"));
    assert_eq!(instance.nodes(), [FIXED, TWO]);
    authority.mood(Mood::Good);
    instance.until("well", |i| i.log().contains("discovery works again"));
    let (_, table) = instance.mqs(&["node", "list"]);
    assert!(table.contains("SOURCE") && table.contains("dns"), "{table}");
    let log = instance.log();
    for words in ["act=\"add\"", "act=\"drain\"", "act=\"remove\"", "service=sip:pool.example"] {
        assert!(log.contains(words), "{words} in\n{log}");
    }
}

#[test]
fn the_start_does_not_wait_for_a_dns_that_is_silent() {
    let authority = Authority::start("pool 1 IN A 127.0.1.1");
    authority.mood(Mood::Silent);
    let mut instance = Instance::new(&authority);
    instance.start();
    assert_eq!(instance.nodes(), [FIXED]);
    authority.mood(Mood::Good);
    instance.until("found", |i| i.nodes() == [FIXED, ONE]);
}

#[test]
fn check_shows_what_it_finds() {
    let authority = Authority::start("pool 7 IN A 127.0.1.1\npool 7 IN A 127.0.1.2");
    let instance = Instance::new(&authority);
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        let output = command.arg("check").arg(instance.path("mqs.toml")).args(more).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = check(&[]);
    assert!(said.contains("2 targets for 7 s: sip:127.0.1.1:5060, sip:127.0.1.2:5060"), "{said}");
    assert!(said.contains("default/ip-127-0-1-1-5060"), "its nodes are asked too: {said}");
    authority.asked();
    check(&["--no-nodes"]);
    assert!(authority.asked().is_empty());
    authority.zone("other 7 IN A 127.0.1.1");
    let said = check(&[]);
    assert!(said.contains("no target: sip:pool.example: no records"), "{said}");
}
