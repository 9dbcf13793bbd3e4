//! A Redis of the benchmark's own, on a Unix socket. It runs where the thread that starts it is pinned.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Redis {
    child: Child,
    pub url: String,
    pub socket: PathBuf,
}

impl Redis {
    /// `None`: there is no redis-server on the PATH.
    pub fn start(folder: &Path) -> Option<Redis> {
        let socket = folder.join("redis.sock");
        let text = socket.to_str()?;
        let dir = folder.to_str()?;
        let options = ["--port", "0", "--save", "", "--appendonly", "no", "--dir", dir, "--unixsocket", text];
        let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().ok()?;
        let redis = Redis { child, url: format!("redis+unix://{text}"), socket };
        for _ in 0..200 {
            if UnixStream::connect(&redis.socket).is_ok() {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server does not answer");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One script call a pick, with the writes of a pick of MQS, on a connection of its own without a library between.
pub struct Single {
    stream: UnixStream,
    sha: String,
    buffer: Vec<u8>,
    got: usize,
    asked: u64,
}

const SINGLE: &str = include_str!("single.lua");

impl Single {
    /// On a shelf of so many nodes.
    pub fn new(redis: &Redis, nodes: usize) -> Single {
        let stream = UnixStream::connect(&redis.socket).expect("Redis listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let mut single = Single { stream, sha: String::new(), buffer: vec![0; 256 * 1024], got: 0, asked: 0 };
        let reply = single.call(&command(&["SCRIPT", "LOAD", SINGLE]));
        single.sha = reply.lines().nth(1).expect("a digest").to_owned();
        single.call(&command(&["DEL", "{one}:lease", "{one}:own", "{one}:shelf", "{one}:touch"]));
        for node in 0..nodes {
            let member = format!("{node:04}:{}", capacity(node));
            single.call(&command(&["ZADD", "{one}:shelf", "0", &member]));
        }
        single
    }

    /// The command of one pick that was never asked before.
    pub fn question(&mut self) -> Vec<u8> {
        self.asked += 1;
        let id = format!(
            "{:032x}",
            u128::from(self.asked).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        );
        let keys = ["{one}:lease", "{one}:own", "{one}:shelf", "{one}:touch"];
        let mut words = vec!["EVALSHA", &self.sha, "4"];
        words.extend(keys);
        words.extend([id.as_str(), ",1,2", "30000"]);
        command(&words)
    }

    /// Sends what was prepared, and waits for so many integers.
    pub fn ask(&mut self, questions: &[u8], answers: usize) {
        self.stream.write_all(questions).expect("Redis reads");
        self.got = 0;
        while self.buffer.get(..self.got).is_none_or(|b| b.iter().filter(|b| **b == b'\n').count() < answers)
        {
            let read = self.stream.read(&mut self.buffer[self.got..]).expect("an answer");
            assert!(read > 0, "Redis closed the connection");
            self.got += read;
        }
        assert!(
            self.buffer.starts_with(b":"),
            "{}",
            String::from_utf8_lossy(&self.buffer[..self.got.min(200)])
        );
    }

    /// Forgets all leases.
    pub fn clear(&mut self) {
        self.call(&command(&["DEL", "{one}:lease", "{one}:own"]));
    }

    fn call(&mut self, bytes: &[u8]) -> String {
        self.stream.write_all(bytes).expect("Redis reads");
        let read = self.stream.read(&mut self.buffer).expect("an answer");
        let text = String::from_utf8_lossy(&self.buffer[..read]).into_owned();
        assert!(!text.starts_with('-'), "{text}");
        text
    }
}

/// The capacity of a node in these benchmarks.
pub fn capacity(node: usize) -> u32 {
    550 + 50 * (node as u32 % 8)
}

fn command(words: &[&str]) -> Vec<u8> {
    let parts: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{parts}", words.len()).into_bytes()
}
