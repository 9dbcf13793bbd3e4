//! `mqs serve` in a process of its own, and what it costs: memory and open files, as the system counts them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub struct Service {
    folder: TempDir,
    process: Child,
}

impl Service {
    /// Pools `default` with three nodes of `capacity` channels, and `wide` with 1000; `listen` is text for that table. Emergency
    /// calls go to 112.
    pub fn start(listen: &str, capacity: u32) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display();
        let mut text = format!(
            "emergency_numbers = [\"112\"]\n[log]\nfilter = \"warn\"\n[listen]\nresp = [\"unix:{home}/mqs.sock\"]\n\
             http = [\"unix:{home}/http.sock\"]\n{listen}"
        );
        for (pool, nodes) in [("default", 3), ("wide", 1000)] {
            // Nobody is there to be probed.
            text += &format!("[[pool]]\nname = \"{pool}\"\n[pool.health]\nprobe_every_ms = 0\n");
            for n in 0..nodes {
                let uri = format!("sip:{pool}-{n}.example.com:5060;transport=tcp");
                text +=
                    &format!("[[pool.node]]\nid = \"{pool}-{n}\"\nuri = \"{uri}\"\ncapacity = {capacity}\n");
            }
        }
        let config = folder.path().join("mqs.toml");
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let service = Service { process: command.spawn().unwrap(), folder };
        for _ in 0..1000 {
            if UnixStream::connect(service.path("http.sock")).is_ok() {
                return service;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not there within 10 s: {}", service.log());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A connection to the RESP socket.
    pub fn resp(&self) -> UnixStream {
        self.open("mqs.sock")
    }

    fn open(&self, socket: &str) -> UnixStream {
        let stream = UnixStream::connect(self.path(socket)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Status and text of the answer to one request on a connection of its own.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.open("http.sock");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: mqs\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap_or("0").parse().unwrap(), text)
    }

    /// Memory that the process has, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command as an array of bulk strings.
pub fn array(parts: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", parts.len());
    for part in parts {
        text += &format!("${}\r\n{part}\r\n", part.len());
    }
    text.into_bytes()
}

/// Asks all at once, and gives every answer, which are bulk strings.
pub fn ask_all(stream: &UnixStream, asks: &[Vec<u8>]) -> Vec<String> {
    let mut writer = stream.try_clone().unwrap();
    let all = asks.concat();
    std::thread::scope(|scope| {
        let wrote = scope.spawn(move || writer.write_all(&all));
        let mut reader = std::io::BufReader::new(stream);
        let answers = asks.iter().map(|_| bulk(&mut reader)).collect();
        wrote.join().unwrap().unwrap();
        answers
    })
}

fn bulk(reader: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = line.strip_prefix('$').and_then(|n| n.trim_end().parse::<usize>().ok());
    let mut bytes = vec![0; length.unwrap_or_else(|| panic!("{line:?} is no bulk string")) + 2];
    reader.read_exact(&mut bytes).unwrap();
    bytes.truncate(bytes.len() - 2);
    String::from_utf8(bytes).unwrap()
}
