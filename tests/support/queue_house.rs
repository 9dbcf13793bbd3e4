//! The real `mqs serve` that leads a cell, and nodes that stand in for Asterisk.

use crate::ari_stand_in::StandIn;
use crate::instance::Instance;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Queues and agents, as most tests have them.
pub const LAID: &str = r#"
[[queue]]
id = "sales"
ring_s = 60
wrap_up_s = 0
pass_over_s = 0
[[queue]]
id = "support"
[[agent]]
id = "ann"
aor = "ann@example.com"
queues = ["sales"]
misses_max = 0
[[treatment]]
id = "sorry"
context = "mqs-announce"
extension = "sorry"
"#;

pub struct House {
    pub instance: Instance,
    pub nodes: Vec<StandIn>,
    store: String,
}

impl House {
    /// Leads, and is attached to one node, `ast1`.
    pub fn start() -> House {
        House::on(1, "memory:", LAID)
    }

    /// Leads so many nodes, `ast1` and so on.
    pub fn on(nodes: usize, store: &str, laid: &str) -> House {
        let nodes: Vec<StandIn> = (0..nodes).map(|_| StandIn::start()).collect();
        let instance = Instance::with(|dir| text(dir, &nodes, store, laid));
        fs::write(instance.path("ari"), "of-mqs\n").unwrap();
        let mut house = House { instance, nodes, store: store.to_owned() };
        house.up();
        house
    }

    /// Starts the instance (again), and waits until offers are made.
    pub fn up(&mut self) {
        self.instance.start();
        self.instance.until("offers are made", |_| self.log().contains("offers are made"));
    }

    pub fn node(&self) -> &StandIn {
        &self.nodes[0]
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.instance.path("log")).unwrap_or_default()
    }

    /// Lines of the log that have all of this.
    pub fn lines(&self, words: &[&str]) -> usize {
        self.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// Another file, not read yet.
    pub fn lay(&self, laid: &str) {
        let dir = self.instance.folder.path().display().to_string();
        fs::write(self.instance.path("mqs.toml"), text(&dir, &self.nodes, &self.store, laid)).unwrap();
    }

    /// Status and JSON.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.instance.path("http.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The answer to one command, whatever its bytes are.
    pub fn resp(&self, words: &[&[u8]]) -> String {
        let mut stream = UnixStream::connect(self.instance.path("mqs.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        stream.write_all(&bytes).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let Some(length) = line.strip_prefix('$').and_then(|text| text.parse::<usize>().ok()) else {
            return line;
        };
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }

    /// An agent is at the phone and logged in.
    pub fn login(&self, agent: &str) {
        let aor = format!("{agent}@example.com");
        let said = self.resp(&[b"REG", aor.as_bytes(), b"exp=3600;kam=k1;id=reg;cs=1"]);
        assert!(said.starts_with("OK"), "{said}");
        let (status, said) = self.http("POST", &format!("/v1/agents/{agent}/login"), "");
        assert_eq!(status, 200, "{said}");
    }

    /// The state of a call; empty: there is none.
    pub fn call(&self, id: &str) -> String {
        let (_, call) = self.http("GET", &format!("/v1/calls/{id}"), "");
        call["state"].as_str().unwrap_or_default().to_owned()
    }

    pub fn agent(&self, id: &str) -> String {
        let (_, agent) = self.http("GET", &format!("/v1/agents/{id}"), "");
        agent["state"].as_str().unwrap_or_default().to_owned()
    }

    pub fn until(&self, what: &str, so: impl Fn(&House) -> bool) {
        for _ in 0..750 {
            if so(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let asked: Vec<_> = self.nodes.iter().map(StandIn::asked).collect();
        panic!("{what}: not so within 15 s; asked: {asked:?}; the log:\n{}", self.log());
    }

    /// A caller comes, and is cared for: whatever went before has harmed nobody.
    pub fn serves(&self, id: &str) {
        self.node().enter(id, &["in", "sales", "", ""], &[]);
        self.until("a caller is answered", |s| s.node().was_asked(&format!("POST /channels/{id}/answer")));
        self.until("a caller waits", |s| !s.call(id).is_empty());
    }

    /// Nothing in the log breaks a line, and nothing is repeated at length.
    pub fn check_log(&self) {
        let bytes = fs::read(self.instance.path("log")).unwrap();
        assert!(!bytes.iter().any(|b| *b < b' ' && *b != b'\n'), "control bytes in the log");
        let longest = bytes.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
        assert!(longest < 1_500, "a line of {longest} bytes");
    }

    /// SIGHUP.
    pub fn hup(&self) {
        let id = self.instance.process.as_ref().unwrap().id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "HUP", &id]).status().unwrap().success());
    }

    /// Memory that the instance has, in bytes.
    pub fn memory(&self) -> u64 {
        let id = self.instance.process.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}

fn text(dir: &str, nodes: &[StandIn], store: &str, laid: &str) -> String {
    let mut text = format!(
        "[store]\nurl = \"{store}\"\n[listen]\nresp = [\"unix:{dir}/mqs.sock\"]\nhttp = [\"unix:{dir}/http.sock\"]\n\
         [token]\nsecret_file = \"{dir}/secret\"\n[cell]\nlast_resort = \"sorry\"\n[ari]\npassword_file = \"{dir}/ari\"\n\
         [[pool]]\nname = \"main\"\nagent_reserve = 0.0\n[pool.health]\nprobe_every_ms = 0\n"
    );
    for (number, node) in nodes.iter().enumerate() {
        let (number, port) = (number + 1, node.port);
        text += &format!(
            "[[pool.node]]\nid = \"ast{number}\"\nuri = \"sip:127.0.1.{number}\"\ncapacity = 8000\nari = \"http://127.0.0.1:{port}\"\n"
        );
    }
    text + laid
}
