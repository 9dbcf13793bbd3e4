//! When the heartbeats of nodes run out: one sorted set a pool, with times of the server's clock.

use super::conn::{Call, Conn, Reply, Script};
use super::record;
use crate::domain::id::{NodeId, PoolId};
use crate::domain::time::EpochMs;
use crate::store::{Heartbeats, StoreError};

/// Names that one script run forgets at most: Lua can unpack 8000 values.
const FORGOTTEN_MAX: usize = 2048;

pub(super) struct Scripts {
    beat: Script,
    all: Script,
    forget: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let script = Script::new;
        Scripts {
            beat: script(concat!(include_str!("common.lua"), "\n", include_str!("beat.lua"))),
            all: script(concat!(include_str!("common.lua"), "\n", include_str!("beats.lua"))),
            forget: script(concat!(include_str!("common.lua"), "\n", include_str!("forget.lua"))),
        }
    }
}

fn key(pool: &PoolId, name: &str) -> String {
    format!("{{mqs:p:{pool}}}:{name}")
}

pub(super) async fn beat(
    conn: &Conn,
    scripts: &Scripts,
    pool: &PoolId,
    node: &NodeId,
    ttl_ms: u64,
) -> Result<EpochMs, StoreError> {
    let keys = [key(pool, "beat")];
    let mut call = Call::new(&scripts.beat, keys.iter());
    call.text(node.as_str()).number(ttl_ms);
    let reply = conn.run("beat", call).await?;
    time(&reply).ok_or_else(|| unexpected("beat", pool, &reply))
}

pub(super) async fn all(conn: &Conn, scripts: &Scripts, pool: &PoolId) -> Result<Heartbeats, StoreError> {
    let keys = [key(pool, "birth"), key(pool, "beat")];
    let reply = conn.run("beats", Call::new(&scripts.all, keys.iter())).await?;
    read(&reply).ok_or_else(|| unexpected("beats", pool, &reply))
}

pub(super) async fn forget(
    conn: &Conn,
    scripts: &Scripts,
    pool: &PoolId,
    nodes: &[NodeId],
) -> Result<(), StoreError> {
    for some in nodes.chunks(FORGOTTEN_MAX) {
        let keys = [key(pool, "beat")];
        let mut call = Call::new(&scripts.forget, keys.iter());
        some.iter().for_each(|node| _ = call.text(node.as_str()));
        conn.run("forget_beats", call).await?;
    }
    Ok(())
}

/// `{time, history, node, until, node, until, …}`.
fn read(reply: &Reply) -> Option<Heartbeats> {
    let Some([at, Reply::Text(history), pairs @ ..]) = reply.list() else { return None };
    let of = |pair: &[Reply]| match pair {
        [node, until] => Some((node.text()?.parse().ok()?, score(until)?)),
        _ => None,
    };
    let until = pairs.chunks(2).map(of).collect::<Option<_>>()?;
    Some(Heartbeats { at: time(at)?, history: record::history(history), until })
}

fn time(reply: &Reply) -> Option<EpochMs> {
    u64::try_from(reply.int()?).ok().map(EpochMs)
}

/// Scores come as texts.
fn score(reply: &Reply) -> Option<EpochMs> {
    reply.text()?.parse().ok().map(EpochMs)
}

fn unexpected(op: &'static str, pool: &PoolId, reply: &Reply) -> StoreError {
    let cause: String = format!("unexpected reply {reply:?}").chars().take(200).collect();
    StoreError::Damaged { op, key: key(pool, "beat"), cause }
}
