//! What an ACL user needs, and what of it is missing.

use super::conn::Conn;
use crate::store::StoreError;

/// The commands that the store sends and its scripts call, each as it changes nothing: on keys that nobody has, or in a
/// form that is refused after the rights are looked at.
const NEEDED: [(&str, &[&str]); 31] = [
    ("EVAL", &["return 1", "1", KEY]),
    ("EVALSHA", &["0000000000000000000000000000000000000000", "1", KEY]),
    ("TIME", &[]),
    ("GET", &[KEY]),
    ("MGET", &[KEY]),
    ("SET", &[KEY, "1", "XX"]),
    ("DEL", &[KEY]),
    ("PEXPIRE", &[KEY, "1"]),
    ("INCRBY", &[KEY, "none"]),
    ("HGET", &[KEY, "f"]),
    ("HMGET", &[KEY, "f"]),
    ("HSET", &[KEY, "f", "1", "odd"]),
    ("HDEL", &[KEY, "f"]),
    ("HVALS", &[KEY]),
    ("HLEN", &[KEY]),
    ("HSCAN", &[KEY, "0"]),
    ("ZADD", &[KEY, "XX", "1", "m"]),
    ("ZCOUNT", &[KEY, "0", "1"]),
    ("ZRANGE", &[KEY, "0", "0"]),
    ("ZRANGEBYSCORE", &[KEY, "0", "1"]),
    ("ZREM", &[KEY, "m"]),
    ("ZREMRANGEBYSCORE", &[KEY, "0", "1"]),
    ("ZSCORE", &[KEY, "m"]),
    ("XADD", &[KEY, "NOMKSTREAM", "*", "f", "1"]),
    ("XLEN", &[KEY]),
    ("XRANGE", &[KEY, "-", "+", "COUNT", "1"]),
    ("XTRIM", &[KEY, "MAXLEN", "0"]),
    ("TYPE", &[KEY]),
    ("INFO", &["server"]),
    ("ROLE", &[]),
    ("PING", &[]),
];

/// Nothing is ever written to it.
const KEY: &str = "{mqs:p:}:check";

/// The commands that the server refuses to this user, or to this user on the store's keys.
pub(super) async fn missing(conn: &Conn) -> Result<Vec<&'static str>, StoreError> {
    let mut missing = Vec::new();
    for (name, args) in NEEDED {
        let mut cmd = redis::cmd(name);
        cmd.arg(args);
        match conn.query("probe", cmd).await {
            Err(StoreError::Refused { cause, .. }) if cause.to_ascii_lowercase().contains("noperm") => {
                missing.push(name);
            }
            // Any other refusal came after the rights were looked at.
            Ok(_) | Err(StoreError::Refused { .. } | StoreError::Damaged { .. }) => {}
            Err(error @ (StoreError::Away { .. } | StoreError::Timeout { .. })) => return Err(error),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_scripts_is_asked_for() {
        let scripts = [
            include_str!("common.lua"),
            include_str!("pick.lua"),
            include_str!("pick_alone.lua"),
            include_str!("settle.lua"),
            include_str!("view.lua"),
            include_str!("nodes.lua"),
            include_str!("known.lua"),
            include_str!("sweep.lua"),
            include_str!("usage.lua"),
            include_str!("steward.lua"),
            include_str!("beat.lua"),
            include_str!("beats.lua"),
            include_str!("forget.lua"),
            include_str!("cell_common.lua"),
            include_str!("cell_lead.lua"),
            include_str!("cell_resign.lua"),
            include_str!("cell_open.lua"),
            include_str!("cell_commit.lua"),
            include_str!("cell_redeem.lua"),
            include_str!("cell_send.lua"),
            include_str!("cell_told.lua"),
            include_str!("cell_register.lua"),
            include_str!("cell_unregister.lua"),
        ];
        let calls = |script: &'static str| {
            ["redis.call(", "redis.pcall("].into_iter().flat_map(move |word| script.split(word).skip(1))
        };
        for call in scripts.into_iter().flat_map(calls) {
            let verb = call.split([',', ')']).next().unwrap();
            // Every second part is a quoted word: one command, or several to choose from.
            let names: Vec<&str> = verb.split('\'').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{verb}");
            for name in names {
                assert!(NEEDED.iter().any(|(needed, _)| *needed == name), "{name}");
            }
        }
        let docs = include_str!("../../../docs/redis.md");
        for (name, _) in NEEDED {
            assert!(docs.contains(&format!("+{}", name.to_lowercase())), "docs/redis.md: +{name}");
        }
    }
}
