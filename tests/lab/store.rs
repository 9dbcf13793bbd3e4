//! The Redis that helpers share, in its three kinds, and where the judge reads what is in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::redis::Redis;
use crate::redis_groups::{ClusterGroup, MASTER, SentinelGroup};
use crate::redis_server::RedisServer;
use crate::resp::{Reply, Resp};
use crate::room::{Lab, tell_reaper};

/// Noticing that a master is gone takes a second, the election a few more where the machine is busy.
pub const ELECTED: Duration = Duration::from_secs(20);

/// What a server takes itself for: `master`, `slave`.
pub fn role(server: &RedisServer) -> String {
    let said = server.replication();
    said.lines().find_map(|line| line.strip_prefix("role:")).unwrap_or_default().trim().to_owned()
}

/// Whether each Sentinel of a group names the server on this port to whoever asks for the master.
pub fn all_name(group: &SentinelGroup, port: u16) -> Result<bool> {
    for seat in group.seats().split(',') {
        let named = Resp::tcp(seat.parse()?)?.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
        let Reply::Array(place) = named else { return Ok(false) };
        if place.get(1).and_then(|named| named.text().ok()) != Some(port.to_string().as_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Alone,
    /// A master, a replica, three Sentinels.
    Sentinel,
    /// Three masters with a replica each.
    Cluster,
}

pub enum Store {
    Alone(Redis),
    Sentinel(Watched<SentinelGroup>),
    Cluster(Watched<ClusterGroup>),
}

impl Store {
    pub fn start(lab: &Lab, kind: Kind) -> Result<Store> {
        Ok(match kind {
            Kind::Alone => Store::Alone(Redis::start(lab)?),
            Kind::Sentinel => {
                let group = SentinelGroup::start().context("there is no redis-sentinel")?;
                Store::Sentinel(Watched::new(group)?)
            }
            Kind::Cluster => Store::Cluster(Watched::new(ClusterGroup::with_replicas_of(&[0, 1, 2]))?),
        })
    }

    /// As the configuration of a helper names it.
    pub fn url(&self) -> String {
        match self {
            Store::Alone(redis) => redis.url(),
            Store::Sentinel(watched) => watched.group.url(),
            Store::Cluster(watched) => watched.group.url(),
        }
    }

    pub fn alone(&mut self) -> Result<&mut Redis> {
        match self {
            Store::Alone(redis) => Ok(redis),
            Store::Sentinel(_) | Store::Cluster(_) => bail!("this store is several servers"),
        }
    }

    pub fn sentinel(&mut self) -> Result<&mut Watched<SentinelGroup>> {
        match self {
            Store::Sentinel(watched) => Ok(watched),
            Store::Alone(_) | Store::Cluster(_) => bail!("no Sentinel here"),
        }
    }

    pub fn cluster(&mut self) -> Result<&mut Watched<ClusterGroup>> {
        match self {
            Store::Cluster(watched) => Ok(watched),
            Store::Alone(_) | Store::Sentinel(_) => bail!("no cluster here"),
        }
    }

    pub fn reader(&self) -> Reader {
        let local = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        let door = match self {
            Store::Alone(redis) => Door::Socket(redis.socket().to_owned()),
            Store::Sentinel(watched) => {
                let seats = watched.group.seats();
                Door::Sentinels(seats.split(',').filter_map(|seat| seat.parse().ok()).collect())
            }
            Store::Cluster(watched) => Door::Cluster(watched.group.ports.iter().map(local).collect()),
        };
        Reader { door, open: Vec::new() }
    }
}

/// Processes of a group that the reaper ends, should this program die before they do.
pub struct Watched<G: Group> {
    pub group: G,
    told: Vec<u32>,
}

pub trait Group {
    fn processes(&self) -> Vec<u32>;
    fn servers(&self) -> &[RedisServer];
}

impl Group for SentinelGroup {
    fn processes(&self) -> Vec<u32> {
        self.pids()
    }

    fn servers(&self) -> &[RedisServer] {
        &self.servers
    }
}

impl Group for ClusterGroup {
    fn processes(&self) -> Vec<u32> {
        self.pids()
    }

    fn servers(&self) -> &[RedisServer] {
        &self.servers
    }
}

impl<G: Group> Watched<G> {
    fn new(group: G) -> Result<Watched<G>> {
        let mut watched = Watched { group, told: Vec::new() };
        watched.tell()?;
        Ok(watched)
    }

    /// To be called when a server was started again, or ended.
    pub fn tell(&mut self) -> Result<()> {
        for pid in self.told.drain(..) {
            tell_reaper(&format!("left {pid}"))?;
        }
        self.told = self.group.processes();
        for pid in &self.told {
            tell_reaper(&format!("process {pid}"))?;
        }
        for folder in self.folders() {
            tell_reaper(&format!("dir {} {}", folder.display(), folder.display()))?;
        }
        Ok(())
    }

    fn folders(&self) -> Vec<PathBuf> {
        let sockets = self.group.servers().iter().map(RedisServer::socket);
        sockets.filter_map(|socket| Some(socket.parent()?.to_owned())).collect()
    }
}

impl<G: Group> Drop for Watched<G> {
    /// The group ends its processes itself, right after this.
    fn drop(&mut self) {
        for pid in &self.told {
            drop(tell_reaper(&format!("left {pid}")));
        }
        for folder in self.folders() {
            drop(tell_reaper(&format!("gone {}", folder.display())));
        }
    }
}

/// Reads the server that has the word now: the only one, the one that the Sentinels of the latest election name, the one
/// that the cluster's redirections lead to. Connections are kept.
pub struct Reader {
    door: Door,
    open: Vec<(SocketAddr, Resp)>,
}

enum Door {
    Socket(PathBuf),
    Sentinels(Vec<SocketAddr>),
    Cluster(Vec<SocketAddr>),
}

/// Where there is a connection by a Unix socket, it is kept under this.
const SOCKET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Reader {
    /// Runs a script on the pool's key of this name.
    pub fn eval(&mut self, script: &str, key: &str, argument: &str) -> Result<Reply> {
        let words = ["EVAL", script, "1", key, argument];
        let reply = match &self.door {
            Door::Socket(_) => self.ask(SOCKET, &words)?,
            Door::Sentinels(seats) => {
                let seats = seats.clone();
                let master = self.master(&seats)?;
                self.ask(master, &words)?
            }
            Door::Cluster(nodes) => {
                let nodes = nodes.clone();
                self.follow(&nodes, &words)?
            }
        };
        if let Reply::Error(text) = &reply {
            bail!("{text}");
        }
        Ok(reply)
    }

    /// Where the master is, by the Sentinel that knows of the latest election: the one that it tells clients of, which is the
    /// new one as soon as that is a master.
    fn master(&mut self, seats: &[SocketAddr]) -> Result<SocketAddr> {
        let mut latest: Option<(u64, SocketAddr)> = None;
        for seat in seats {
            let Ok(Reply::Array(said)) = self.ask(*seat, &["SENTINEL", "MASTER", MASTER]) else { continue };
            let words: Vec<&str> = said.iter().filter_map(|word| word.text().ok()).collect();
            let epoch =
                words.chunks(2).find(|pair| pair[0] == "config-epoch").and_then(|pair| pair[1].parse().ok());
            let named = self.ask(*seat, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
            let Reply::Array(place) = named else { continue };
            let [host, port] = place.as_slice() else { continue };
            latest =
                latest.max(Some((epoch.unwrap_or(0), format!("{}:{}", host.text()?, port.text()?).parse()?)));
        }
        latest.map(|(_, place)| place).context("no Sentinel names a master")
    }

    /// From whichever node answers, by its redirections.
    fn follow(&mut self, nodes: &[SocketAddr], words: &[&str]) -> Result<Reply> {
        for node in nodes {
            let (mut at, mut asking) = (*node, false);
            for _ in 0..5 {
                if asking && self.ask(at, &["ASKING"]).is_err() {
                    break;
                }
                let Ok(reply) = self.ask(at, words) else { break };
                let Reply::Error(text) = &reply else { return Ok(reply) };
                // `MOVED 10923 127.0.0.1:7002`, `ASK …`
                let mut parts = text.split(' ');
                asking = match parts.next() {
                    Some("ASK") => true,
                    Some("MOVED") => false,
                    Some(_) | None => break,
                };
                at = parts.nth(1).context("a redirection names a node")?.parse()?;
            }
        }
        bail!("no node of the cluster answers")
    }

    fn ask(&mut self, at: SocketAddr, words: &[&str]) -> Result<Reply> {
        let known = self.open.iter().position(|(place, _)| *place == at);
        let index = match known {
            Some(index) => index,
            None => {
                let client = match &self.door {
                    Door::Socket(path) => Resp::unix(path)?,
                    Door::Sentinels(_) | Door::Cluster(_) => Resp::tcp(at)?,
                };
                self.open.push((at, client));
                self.open.len() - 1
            }
        };
        let reply = self.open[index].1.call(words);
        if reply.is_err() {
            self.open.swap_remove(index);
        }
        reply
    }
}
