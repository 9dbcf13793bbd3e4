//! `asterisk/mqs-heartbeat` against the real binary: a host that comes, serves, and goes.

use mqs::domain::registration::TTL_MIN_S;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/asterisk/mqs-heartbeat");

/// A running instance, with one node of the file that is down.
struct Service {
    folder: TempDir,
    process: Option<Child>,
    store: &'static str,
}

impl Service {
    fn start(store: &'static str) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let mut service = Service { folder, process: None, store };
        service.start_again();
        service
    }

    fn start_again(&mut self) {
        let home = self.folder.path().display();
        let url = self.store.replace("HOME", &home.to_string());
        fs::write(self.path("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let config = format!(
            "[store]\nurl = \"{url}\"\ntimeout_ms = 5000\n[dispatch]\npick_deadline_ms = 1000\n\
             [token]\nsecret_file = \"{home}/secret\"\n\
             [listen]\nresp = [\"unix:{home}/mqs.sock\"]\nhttp = [\"unix:{home}/http.sock\"]\n\
             [[pool]]\nname = \"default\"\n[pool.health]\nprobe_every_ms = 0\n\
             [pool.register]\nnetworks = [\"127.0.0.0/8\"]\n\
             [[pool.node]]\nid = \"fixed\"\nuri = \"sip:127.0.2.1\"\ncapacity = 1\nstate = \"down\"\n"
        );
        fs::write(self.path("mqs.toml"), config).unwrap();
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        command.args(["serve", "--config", &self.path("mqs.toml")]).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        self.until("an answer", |s| s.mqs(&["node", "list"]).0);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn until(&self, what: &str, is: impl Fn(&Service) -> bool) {
        for _ in 0..800 {
            if is(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        panic!("not {what} within 40 s: {:?}\n{}\n{}", self.nodes(), log("log"), log("ast7.log"));
    }

    fn mqs(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        let output = command.args(args).args(["--socket", &self.path("http.sock")]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    /// `ast7=active`, without the file's.
    fn nodes(&self) -> Vec<String> {
        let (_, text) = self.mqs(&["node", "list", "--json"]);
        let nodes: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let word = |n: &Value| format!("{}={}", n["id"].as_str().unwrap(), n["state"].as_str().unwrap());
        let mut words: Vec<String> = nodes.iter().filter(|n| n["id"] != "fixed").map(word).collect();
        words.sort();
        words
    }

    /// A call on a registered node; its token.
    fn call(&self, call_id: &str) -> String {
        let (well, text) = self.mqs(&["route", call_id, "sip:100@example.com", "--json"]);
        assert!(well, "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        let token = document["mqs"]["token"].as_str().unwrap().to_owned();
        assert!(self.mqs(&["confirm", &token]).0);
        token
    }

    fn script(&self, id: &str, more: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(SCRIPT).args(["--url", &format!("unix:{}", self.path("http.sock"))]);
        let last: String = id.chars().filter(char::is_ascii_digit).collect();
        command.args(["--id", id, "--uri", &format!("sip:127.0.1.{last}:5060"), "--capacity", "9"]);
        command.args(["--ttl", &TTL_MIN_S.to_string(), "--every", "1"]).args(more).stdin(Stdio::null());
        command
    }

    fn host(&self, id: &str, more: &[&str]) -> Host {
        let log = fs::File::create(self.path(&format!("{id}.log"))).unwrap();
        Host(self.script(id, more).stderr(log).spawn().unwrap())
    }

    fn said(&self, id: &str) -> String {
        fs::read_to_string(self.path(&format!("{id}.log"))).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The script on its host.
struct Host(Child);

impl Host {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        for _ in 0..800 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it goes on");
    }

    fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn no_curl() -> bool {
    let missing = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err();
    if missing {
        eprintln!("SKIPPED: curl is not installed (Debian: apt-get install curl)");
    }
    missing
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn a_host_comes_serves_drains_on_sigterm_and_goes_when_its_calls_are_over() {
    if no_curl() {
        return;
    }
    let service = Service::start("memory:");
    let mut host = service.host("ast7", &["--zone", "a", "--tags", "opus,video"]);
    service.until("there", |s| s.nodes() == ["ast7=active"]);
    let (_, table) = service.mqs(&["node", "list"]);
    for words in ["SOURCE", "heartbeat", "HEARTBEAT ENDS", "in ", "opus,video"] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
    let token = service.call("call-1");
    host.signal(Signal::SIGTERM);
    service.until("draining", |s| s.nodes() == ["ast7=draining"]);
    service.until("waiting", |s| s.said("ast7").contains("ast7 drains: 1 left"));
    assert!(!service.mqs(&["route", "call-2", "sip:100@example.com"]).0, "no new calls");
    // Its heartbeats go on while it waits.
    std::thread::sleep(Duration::from_secs(u64::from(TTL_MIN_S) + 2));
    assert!(host.is_there() && service.nodes() == ["ast7=draining"], "{:?}", service.nodes());
    assert!(service.mqs(&["done", &token]).0);
    assert!(host.ended().success(), "{}", service.said("ast7"));
    assert_eq!(service.nodes(), Vec::<String>::new());
    let log = fs::read_to_string(service.path("log")).unwrap();
    for words in ["act=\"joined\"", "act=\"leaving\"", "act=\"removed\""] {
        assert!(log.contains(words), "{words} in\n{log}");
    }
}

#[test]
fn a_host_that_dies_drains_and_a_second_signal_does_not_wait() {
    if no_curl() {
        return;
    }
    let service = Service::start("memory:");
    let (mut dying, mut living) = (service.host("ast7", &[]), service.host("ast8", &[]));
    service.until("both", |s| s.nodes() == ["ast7=active", "ast8=active"]);
    let tokens = ["call-1", "call-2"].map(|call_id| service.call(call_id));
    dying.signal(Signal::SIGKILL);
    dying.ended();
    service.until("drained", |s| s.nodes() == ["ast7=draining", "ast8=active"]);
    let log = fs::read_to_string(service.path("log")).unwrap();
    assert!(log.contains("no heartbeat for ") && log.contains("act=\"drained\""), "{log}");
    living.signal(Signal::SIGTERM);
    service.until("waiting", |s| s.said("ast8").contains(" left"));
    living.signal(Signal::SIGTERM);
    assert!(living.ended().success());
    assert!(service.said("ast8").contains("calls on it"), "{}", service.said("ast8"));
    assert_eq!(service.nodes(), ["ast7=draining", "ast8=draining"]);
    for token in tokens {
        assert!(service.mqs(&["done", &token]).0);
    }
    service.until("gone", |s| s.nodes().is_empty());
}

#[test]
fn a_restart_of_mqs_on_a_file_drains_nobody() {
    if no_curl() {
        return;
    }
    let mut service = Service::start("file:HOME/mqs.redb");
    let (one, two) = (service.host("ast7", &[]), service.host("ast8", &[]));
    service.until("both", |s| s.nodes() == ["ast7=active", "ast8=active"]);
    service.stop();
    // Longer than a heartbeat holds; and when MQS is back one host is heard of at once, the other one later.
    two.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(u64::from(TTL_MIN_S) + 1));
    service.start_again();
    for _ in 0..12 {
        assert_eq!(service.nodes(), ["ast7=active", "ast8=active"], "each has its time to be heard of");
        std::thread::sleep(Duration::from_millis(200));
    }
    two.signal(Signal::SIGCONT);
    for _ in 0..5 * (u64::from(TTL_MIN_S) + 2) {
        assert_eq!(service.nodes(), ["ast7=active", "ast8=active"]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!fs::read_to_string(service.path("log")).unwrap().contains("act=\"drained\""));
    drop(one);
    service.until("drained and gone", |s| s.nodes() == ["ast8=active"]);
    drop(two);
}

#[test]
fn one_heartbeat_and_leaving_by_hand_tell_by_their_exit_codes() {
    if no_curl() {
        return;
    }
    let service = Service::start("memory:");
    let once = |id: &str, more: &[&str]| service.script(id, more).output().unwrap();
    let joined = once("ast7", &["--once"]);
    let answer: Value =
        serde_json::from_slice(&joined.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&joined)));
    assert_eq!((&answer["result"], &answer["load"]), (&json!("joined"), &json!(0)));
    let refused = once("ast9", &["--uri", "sip:192.0.2.1", "--once"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("BADREQ: sip:192.0.2.1: 192.0.2.1 is in none of"), "{}", said(&refused));
    let owned = once("fixed", &["--uri", "sip:127.0.2.1", "--leave"]);
    assert_eq!(owned.status.code(), Some(1));
    assert!(said(&owned).contains("OWNED"), "{}", said(&owned));
    let token = service.call("call-1");
    let late = once("ast7", &["--leave", "--drain-max", "1"]);
    assert_eq!(late.status.code(), Some(1), "{}", said(&late));
    assert!(said(&late).contains("with 1 calls on it"), "{}", said(&late));
    assert!(service.mqs(&["done", &token]).0);
    assert_eq!(once("ast7", &["--leave"]).status.code(), Some(0));
    assert_eq!(service.nodes(), Vec::<String>::new());
    // The first address does not answer.
    let both = format!("http://127.0.0.1:1 unix:{}", service.path("http.sock"));
    assert!(once("ast7", &["--once", "--url", &both]).status.success());
    let mut by_environment = Command::new("sh");
    by_environment.arg(SCRIPT).arg("--once").env("MQS_URL", &both).env("MQS_NODE_URI", "sip:127.0.1.8");
    let output = by_environment.env("MQS_CAPACITY", "5").env("MQS_NODE_ID", "ast8").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_check_that_fails_sends_no_heartbeat() {
    if no_curl() {
        return;
    }
    let service = Service::start("memory:");
    let flag = service.path("flag");
    fs::write(&flag, "").unwrap();
    let _other = service.host("ast8", &[]);
    let _host = service.host("ast7", &["--check", &format!("test -e {flag}")]);
    service.until("both", |s| s.nodes().len() == 2);
    fs::remove_file(&flag).unwrap();
    service.until("gone", |s| s.nodes() == ["ast8=active"]);
    assert!(service.said("ast7").contains("no heartbeat is sent: --check fails"));
    fs::write(&flag, "").unwrap();
    service.until("back", |s| s.nodes().len() == 2);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let run = |args: &[&str]| Command::new("sh").arg(SCRIPT).args(args).output().unwrap();
    let good = ["--uri", "sip:127.0.1.7", "--capacity", "9"];
    for (args, words) in [
        (&["--capacity", "9"][..], "--uri is missing"),
        (&["--uri", "sip:127.0.1.7"], "--capacity ''"),
        (&["--uri", "sip:a\"b", "--capacity", "9"], "--uri 'sip:a\"b'"),
        (&[good[0], good[1], "--capacity", "nine"], "--capacity 'nine': write a whole number"),
        (&[good[0], good[1], good[2], good[3], "--id", "a.b"], "--id 'a.b'"),
        (&[good[0], good[1], good[2], good[3], "--tags", "a,$(b)"], "--tags '$(b)'"),
        (&[good[0], good[1], good[2], good[3], "--ttl", "9", "--every", "9"], "--every 9: must be less"),
        (
            &[good[0], good[1], good[2], good[3], "--token-file", "/nowhere"],
            "--token-file /nowhere cannot be read",
        ),
        (&["--colour", "red"], "unknown option '--colour'"),
        (&["now"], "unknown argument 'now'"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{args:?}: {}", said(&output));
    }
    let help = run(&["--help"]);
    assert!(help.status.success() && said(&help).contains("usage: mqs-heartbeat"));
}

/// The unit, its environment and the example for a cloud say nothing that the script does not know.
#[test]
fn what_ships_beside_the_script_fits_it() {
    let read = |name: &str| fs::read_to_string(Path::new(SCRIPT).with_file_name(name)).unwrap();
    let script = read("mqs-heartbeat");
    let mut settings = 0;
    for file in ["heartbeat.env", "cloud-init.yaml"] {
        let text = read(file);
        let names = text.lines().filter_map(|line| line.trim().split_once('=')?.0.strip_prefix("MQS_"));
        for name in names {
            assert!(script.contains(&format!("${{MQS_{name}:-")), "{file}: MQS_{name}");
            assert!(script.contains(&format!(" MQS_{name}\n")), "--help: MQS_{name}");
            settings += 1;
        }
    }
    assert!(settings > 15, "{settings}");
    let unit = read("mqs-heartbeat.service");
    let number = |text: &str, key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.parse().unwrap()
    };
    let limit = number(&read("heartbeat.env"), "MQS_DRAIN_MAX_S=");
    assert!(number(&unit, "TimeoutStopSec=") > limit, "systemd waits longer than the script");
    for line in ["After=asterisk.service", "PartOf=asterisk.service", "KillMode=mixed"] {
        assert!(unit.contains(line), "{line}");
    }
    let Ok(checked) = Command::new("shellcheck").arg(SCRIPT).output() else {
        return eprintln!("SKIPPED: shellcheck is not installed (Debian: apt-get install shellcheck)");
    };
    assert!(checked.status.success(), "{}", said(&checked));
}
