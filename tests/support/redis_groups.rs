//! Several real servers that are one Redis: a master with its replica and three Sentinels, a cluster, a server with TLS.

use super::redis_server::RedisServer;
use mqs::clock::Stopwatch;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Sentinel's name for the master.
pub const MASTER: &str = "mymaster";

/// A master, a replica, and three Sentinels that replace it after a second.
pub struct SentinelGroup {
    pub servers: [RedisServer; 2],
    pub ports: [u16; 2],
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl SentinelGroup {
    /// None, said aloud, where there is no redis-sentinel.
    pub fn start() -> Option<SentinelGroup> {
        SentinelGroup::start_with(&|_| Vec::new(), "port")
    }

    /// With TLS everywhere.
    pub fn start_tls(certs: &Certificates) -> Option<SentinelGroup> {
        SentinelGroup::start_with(&|_| certs.args(), "tls-port")
    }

    fn start_with(more: &dyn Fn(u16) -> Vec<String>, port_key: &str) -> Option<SentinelGroup> {
        if Command::new("redis-sentinel").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: there is no redis-sentinel on PATH (Debian: apt-get install redis-sentinel)");
            return None;
        }
        let ports = [free_port(), free_port()];
        let start = |port: u16, master: Option<u16>| {
            let mut args =
                vec![format!("--{port_key}"), port.to_string(), "--bind".into(), "127.0.0.1".into()];
            args.extend(more(port));
            if !more(port).is_empty() {
                args.extend(["--tls-replication".into(), "yes".into()]);
            }
            if let Some(master) = master {
                args.extend(["--replicaof".into(), "127.0.0.1".into(), master.to_string()]);
            }
            args.extend(["--repl-diskless-sync-delay".into(), "0".into()]);
            RedisServer::start_with(&args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let servers = [start(ports[0], None), start(ports[1], Some(ports[0]))];
        until("the replica is in step", || servers[0].replication().contains("state=online"));
        let sentinels = (0..3).map(|_| Sentinel::start(ports[0], &more(0), port_key)).collect();
        let group = SentinelGroup { servers, ports, sentinels };
        group.until_they_know_each_other(port_key);
        Some(group)
    }

    fn until_they_know_each_other(&self, port_key: &str) {
        if port_key != "port" {
            // They are asked by the store itself.
            std::thread::sleep(Duration::from_secs(3));
            return;
        }
        for sentinel in &self.sentinels {
            until("the Sentinels know each other and the replica", || {
                let said = sentinel.say(&["INFO", "sentinel"]);
                said.contains("slaves=1,sentinels=3") && said.contains("status=ok")
            });
        }
    }

    pub fn seats(&self) -> String {
        let seats = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port));
        seats.collect::<Vec<_>>().join(",")
    }

    /// Its processes that run now.
    #[allow(dead_code)] // The lab wants to know them.
    pub fn pids(&self) -> Vec<u32> {
        let servers = self.servers.iter().filter_map(RedisServer::pid);
        servers.chain(self.sentinels.iter().map(|sentinel| sentinel.child.id())).collect()
    }

    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{MASTER}", self.seats())
    }

    /// Asks a Sentinel to replace the master, which is well.
    pub fn fail_over(&self) {
        until("a Sentinel takes the order", || {
            self.sentinels[0].say(&["SENTINEL", "FAILOVER", MASTER]).contains("OK")
        });
    }
}

impl Sentinel {
    fn start(master: u16, more: &[String], port_key: &str) -> Sentinel {
        let dir = tempfile::Builder::new().prefix("mqs-sentinel-").tempdir().expect("a temporary directory");
        let port = free_port();
        let mut text = format!(
            "bind 127.0.0.1\ndir {}\nlogfile sentinel.log\nport 0\n{port_key} {port}\n\
             sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 2000\n",
            dir.path().display()
        );
        for pair in more.chunks(2) {
            text += &format!("{} {}\n", pair[0].trim_start_matches('-'), pair[1]);
        }
        if !more.is_empty() {
            text += "tls-replication yes\n";
        }
        let conf = dir.path().join("sentinel.conf");
        std::fs::write(&conf, text).expect("a configuration");
        let child = Command::new("redis-sentinel")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-sentinel");
        Sentinel { port, child, _dir: dir }
    }

    fn say(&self, words: &[&str]) -> String {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let Ok(mut connection) = client.get_connection() else { return String::new() };
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        cmd.query(&mut connection).unwrap_or_default()
    }
}

/// Three masters, and replicas of some of them.
pub struct ClusterGroup {
    pub servers: Vec<RedisServer>,
    pub ports: Vec<u16>,
}

impl ClusterGroup {
    /// With a replica of the first master.
    pub fn start() -> ClusterGroup {
        ClusterGroup::with_replicas_of(&[0])
    }

    /// With a replica of each of these masters.
    pub fn with_replicas_of(masters: &[usize]) -> ClusterGroup {
        let count = 3 + masters.len();
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let buses: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let start = |at: usize| {
            let (port, bus) = (ports[at].to_string(), buses[at].to_string());
            RedisServer::start_with(&[
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--repl-diskless-sync-delay",
                "0",
            ])
        };
        let group = ClusterGroup { servers: (0..count).map(start).collect(), ports };
        for (at, range) in ["0 5460", "5461 10922", "10923 16383"].iter().enumerate() {
            group.servers[at].say::<()>(&format!("CLUSTER ADDSLOTSRANGE {range}"));
        }
        for (epoch, server) in (1..).zip(&group.servers) {
            server.say::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}"));
        }
        for (port, bus) in group.ports.iter().zip(&buses).skip(1) {
            group.servers[0].say::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
        let all_know = |words: &str| {
            group.servers.iter().all(|server| server.say::<String>("CLUSTER INFO").contains(words))
        };
        let known = format!("cluster_known_nodes:{count}");
        until("the nodes know each other", || all_know(&known) && all_know("cluster_state:ok"));
        for (replica, master) in (3..).zip(masters) {
            let its_master = group.id(*master);
            until("a node becomes a replica", || {
                let client = redis::Client::open(group.servers[replica].url()).unwrap();
                let mut connection = client.get_connection().unwrap();
                redis::cmd("CLUSTER").arg("REPLICATE").arg(&its_master).exec(&mut connection).is_ok()
            });
        }
        until("the replicas are in step", || {
            let has_one = |at: &usize| group.servers[*at].replication().contains("state=online");
            let knows = |server: &RedisServer| {
                server.say::<String>("CLUSTER NODES").matches("slave").count() == masters.len()
            };
            masters.iter().all(has_one) && group.servers.iter().all(knows)
        });
        group
    }

    /// Its processes that run now.
    #[allow(dead_code)] // The lab wants to know them.
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().filter_map(RedisServer::pid).collect()
    }

    pub fn id(&self, at: usize) -> String {
        self.servers[at].say("CLUSTER MYID")
    }

    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.ports[1], self.ports[2])
    }

    /// Which of the masters a pool is on.
    pub fn home_of(&self, pool: &str) -> (usize, u16) {
        let slot: u16 = self.servers[0].say(&format!("CLUSTER KEYSLOT {{mqs:p:{pool}}}"));
        (usize::from(slot >= 5461) + usize::from(slot >= 10923), slot)
    }
}

/// Certificates of an authority of our own, for 127.0.0.1.
pub struct Certificates {
    dir: TempDir,
    pub ca: Vec<u8>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
        ca.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        for (name, pem) in [("ca.pem", &ca_pem), ("cert.pem", &cert.pem()), ("key.pem", &key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), pem).unwrap();
        }
        Certificates { dir, ca: ca_pem.into_bytes() }
    }

    pub fn file(&self, name: &str) -> String {
        Path::join(self.dir.path(), name).display().to_string()
    }

    /// Arguments of a server that uses them.
    pub fn args(&self) -> Vec<String> {
        let file = |key: &str, name: &str| [format!("--tls-{key}-file"), self.file(name)];
        let mut args = [file("cert", "cert.pem"), file("key", "key.pem"), file("ca-cert", "ca.pem")].concat();
        args.extend(["--tls-auth-clients".to_owned(), "no".to_owned()]);
        args
    }
}

/// A port that is free now. Every test has its own.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Stopwatch::start();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
