//! What kind of server it is, for `mqs check`.

use super::{conn::Conn, rights};
use crate::store::StoreError;

/// What servers say about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How they are reached: `one server`, `Sentinel`, `cluster`.
    pub kind: &'static str,
    /// What each server that takes writes says; one, but for a cluster. Empty when INFO is not allowed.
    pub servers: Vec<Server>,
    /// Commands that this user needs and may not use, or not on the store's keys.
    pub rights_missing: Vec<&'static str>,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Product and version: `redis 7.0.15`.
    pub server: String,
    /// `master` or `slave`, in the server's own words.
    pub role: String,
    /// True for a replica: it cannot be written to, so it is the wrong server.
    pub read_only: bool,
    /// Whether it is a node of a cluster.
    pub in_cluster: bool,
    /// Replicas that are connected.
    pub replicas: u32,
    /// Whether it writes a log (AOF), so that leases survive its restart.
    pub has_log: Option<bool>,
    /// What it throws away when memory is short. Anything but `noeviction` may throw leases away.
    pub maxmemory_policy: Option<String>,
}

pub(super) async fn probe(conn: &Conn) -> Result<Probe, StoreError> {
    const OP: &str = "probe";
    let rights_missing = rights::missing(conn).await?;
    let mut servers = Vec::new();
    if !rights_missing.contains(&"INFO") {
        for reply in conn.query_masters(OP, redis::cmd("INFO")).await? {
            let none = || StoreError::Damaged { op: OP, key: "INFO".to_owned(), cause: "no text".to_owned() };
            servers.push(read(reply.text().ok_or_else(none)?));
        }
    }
    Ok(Probe { kind: conn.kind(), servers, rights_missing })
}

fn read(info: &str) -> Server {
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let product = field("server_name").unwrap_or_else(|| "redis".to_owned());
    // Valkey also names the Redis that it is like.
    let version =
        field("valkey_version").or_else(|| field("redis_version")).unwrap_or_else(|| "?".to_owned());
    let role = field("role").unwrap_or_else(|| "?".to_owned());
    Server {
        server: format!("{product} {version}"),
        read_only: role == "slave" || role == "replica",
        role,
        in_cluster: field("cluster_enabled").as_deref() == Some("1"),
        replicas: field("connected_slaves").and_then(|n| n.parse().ok()).unwrap_or(0),
        has_log: field("aof_enabled").map(|on| on == "1"),
        maxmemory_policy: field("maxmemory_policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_roles_are_told_apart() {
        let redis = read(
            "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n",
        );
        assert_eq!((redis.server.as_str(), redis.read_only), ("redis 7.0.15", false));
        assert_eq!(redis.maxmemory_policy.as_deref(), Some("noeviction"));
        let valkey = read("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.0.1\nrole:slave\n");
        assert_eq!((valkey.server.as_str(), valkey.read_only), ("valkey 8.0.1", true));
    }
}
