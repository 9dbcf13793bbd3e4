//! The shared store: Redis (or Valkey), for many instances.
//!
//! What must be atomic is a script (`*.lua`, read them with `common.lua` first); everything else is here. A pool's keys:
//!
//! | key, after `{mqs:p:<pool>}` | type | content |
//! |---|---|---|
//! | `:lease` | HASH | lease id → state, attempt, targets, expiry |
//! | `:own` | ZSET | lease id; score = slot · 2⁴² + expiry in ms. **A load is a ZCOUNT of a slot's unexpired range** |
//! | `:s:<hash>` | ZSET | a shelf: its nodes in the order of choosing (`:s:off`: the nodes that are not for choosing) |
//! | `:node`, `:ver` | HASH, INT | the definitions and their version |
//! | `:at` | HASH | slot → member and key of the shelf that it is on |
//! | `:tomb` | ZSET | ended leases; score = when they are forgotten |
//! | `:beat` | ZSET | node; score = when its heartbeat runs out |
//! | `:touch` | INT | how often a node was given a call |
//! | `:calls:<scope>` | ZSET | the live leases that a limit counts; score = expiry in ms |
//! | `:rate:<scope>` | INT | the theoretical arrival time of a limit's token bucket, in µs |
//! | `:tie:<hash>` | INT | the slot that a key sticks to |
//! | `:birth` | STRING | when definitions were first written to it; another one: all was forgotten meanwhile |
//!
//! Those of a cell are in `cell.rs`. The hash tag keeps a pool, or a cell, in one place of a cluster. Keys hold no text from outside; what does is in the values.

mod beats;
mod cell;
mod cell_batch;
mod conn;
mod layout;
mod pick;
mod probe;
mod record;
mod rights;
mod sentinel;
mod wire;

pub use conn::{Options, UrlError};
pub use probe::{Probe, Server};

use super::{
    Answer, Carried, Heartbeats, Known, NodeRecord, Pick, PoolRules, SettleOne, Store, StoreError, Swept,
    View, Written, definition,
};
use crate::domain::admission::{Scope, Usage};
use crate::domain::id::{LeaseId, NodeId, PoolId, Slot};
use crate::domain::lease::{self, Settle, Settled};
use crate::domain::time::EpochMs;
use async_trait::async_trait;
use conn::{Call, Conn, Reply, Script};
use layout::{Layout, Layouts};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Lookups or verbs that one script run takes at most: Lua can unpack 8000 values, and nobody else is served meanwhile.
const BATCH_MAX: usize = 512;

/// How often an operation is begun again because the definitions changed under it.
const TRIES: u32 = 4;

/// Pools and cells in a Redis that other instances use too.
pub struct RedisStore {
    conn: Conn,
    scripts: Scripts,
    layouts: Layouts,
    /// The last view of a pool that was fetched because a caller's was too old.
    newer: Mutex<HashMap<PoolId, Arc<View>>>,
}

/// Leases that are read at once: others are not to wait.
const CARRIED_MAX: usize = 1_000;

struct Scripts {
    pick: Script,
    pick_alone: Script,
    settle: Script,
    view: Script,
    nodes: Script,
    known: Script,
    carried: Script,
    usage: Script,
    sweep: Script,
    steward: Script,
    beats: beats::Scripts,
    cell: cell::Scripts,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("common.lua"), "\n", include_str!(concat!($name, ".lua"))))
    };
}

impl RedisStore {
    /// Prepares a store at `url`: `redis://`, `rediss://` (TLS), `redis+unix://`, or a group of servers,
    /// [`crate::config::RedisGroup`].
    ///
    /// Nothing is sent yet: a Redis that is away is met by the first operation, and used as soon as it is there.
    ///
    /// # Errors
    /// [`UrlError`], when the URL is not one of a Redis.
    pub fn connect(url: &str, options: Options) -> Result<RedisStore, UrlError> {
        RedisStore::connect_trusting(url, options, None)
    }

    /// As [`RedisStore::connect`]; `ca`, PEM, certifies the servers instead of the public authorities.
    ///
    /// # Errors
    /// [`UrlError`], when the URL is not one of a Redis, or `ca` is given and is not PEM or the URL names no TLS.
    pub fn connect_trusting(url: &str, options: Options, ca: Option<&[u8]>) -> Result<RedisStore, UrlError> {
        Ok(RedisStore {
            conn: Conn::new(url, options, ca)?,
            scripts: Scripts {
                pick: script!("pick"),
                pick_alone: script!("pick_alone"),
                settle: script!("settle"),
                view: script!("view"),
                nodes: script!("nodes"),
                known: script!("known"),
                carried: script!("carried"),
                usage: script!("usage"),
                sweep: script!("sweep"),
                steward: script!("steward"),
                beats: beats::Scripts::new(),
                cell: cell::Scripts::new(),
            },
            layouts: Layouts::default(),
            newer: Mutex::default(),
        })
    }

    /// What kind of server this is, for `mqs check`.
    ///
    /// # Errors
    /// As of any operation.
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        probe::probe(&self.conn).await
    }

    async fn settle_some(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[SettleOne],
    ) -> Result<Said<Vec<Settled>>, StoreError> {
        const OP: &str = "settle";
        let layout = self.layouts.of(pool, view);
        let mut call = Call::new(&self.scripts.settle, layout.keys.pick());
        call.number(view.version)
            .number(rules.life.held_ms)
            .number(rules.life.call_max_ms)
            .number(lease::TOMB_MS);
        for one in batch {
            call.text(&one.lease.to_string());
            match &one.verb {
                Settle::Confirm { branch, slot, latest } => {
                    // Scores have no place for slots beyond.
                    let slot = slot.filter(|slot| slot.0 < Slot::COUNT).map(|slot| slot.to_string());
                    call.text("C").number(*branch).text(&slot.unwrap_or_default()).number(latest.0)
                }
                Settle::Fail { branch } => call.text("F").number(*branch).text("").number(0u8),
                Settle::Done => call.text("D").number(0u8).text("").number(0u8),
                Settle::Adopt { targets } => {
                    let known = targets.iter().filter(|slot| slot.0 < Slot::COUNT).map(ToString::to_string);
                    call.text("O").number(0u8).text(&known.collect::<Vec<_>>().join(",")).number(0u8)
                }
            };
        }
        match self.conn.run(OP, call).await? {
            Reply::Int(_) => Ok(Said::OtherVersion),
            reply @ (Reply::Text(_) | Reply::List(_) | Reply::Other) => {
                all(&reply, batch.len(), settled).map(Said::Here).ok_or_else(|| layout.unexpected(OP, &reply))
            }
        }
    }

    async fn sweep_some(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Said<Swept>, StoreError> {
        const OP: &str = "sweep";
        let layout = self.layouts.of(pool, view);
        let mut call = Call::new(&self.scripts.sweep, layout.keys.sweep());
        call.number(view.version).number(limit.min(SWEEP_MAX));
        let reply = self.conn.run(OP, call).await?;
        if reply.int().is_some() {
            return Ok(Said::OtherVersion);
        }
        match all(&reply, 3, |part| u32::try_from(part.int()?).ok()).as_deref() {
            Some([expired, forgotten, more]) => {
                Ok(Said::Here(Swept { expired: *expired, forgotten: *forgotten, more: *more != 0 }))
            }
            Some(_) | None => Err(layout.unexpected(OP, &reply)),
        }
    }

    /// The known definitions with their loads of now, or the definitions of another version without loads.
    async fn view_of(&self, pool: &PoolId, known: &View) -> Result<View, StoreError> {
        const OP: &str = "view";
        let layout = self.layouts.of(pool, known);
        let mut call = Call::new(&self.scripts.view, layout.keys.view());
        call.number(known.version);
        let reply = self.conn.run(OP, call).await?;
        match reply.list() {
            Some(
                [
                    Reply::Int(version),
                    Reply::Int(at),
                    Reply::Text(history),
                    Reply::Int(0),
                    Reply::List(nodes),
                ],
            ) => record::view(&layout, *version, *at, record::history(history), nodes),
            Some([Reply::Int(_), Reply::Int(at), Reply::Text(history), Reply::Int(1), table @ ..]) => {
                record::reload(&layout, known, *at, record::history(history), table)
            }
            Some(_) | None => Err(layout.unexpected(OP, &reply)),
        }
    }
}

/// Leases that one sweep takes out at most.
const SWEEP_MAX: u32 = 4000;

/// What a script that depends on the definitions says.
enum Said<T> {
    Here(T),
    /// The definitions are of another version than the view.
    OtherVersion,
}

/// The view that an operation goes by: the caller's, or a newer one once the store says that it has other definitions.
struct Seen<'a> {
    store: &'a RedisStore,
    pool: &'a PoolId,
    given: &'a View,
    newer: Option<Arc<View>>,
    tries: u32,
}

impl<'a> Seen<'a> {
    fn new(store: &'a RedisStore, pool: &'a PoolId, given: &'a View) -> Seen<'a> {
        let newer = store.newer.lock().unwrap_or_else(PoisonError::into_inner).get(pool).cloned();
        let newer = newer.filter(|newer| newer.version > given.version);
        Seen { store, pool, given, newer, tries: 0 }
    }

    fn view(&self) -> &View {
        self.newer.as_deref().unwrap_or(self.given)
    }

    async fn renew(&mut self, op: &'static str) -> Result<(), StoreError> {
        self.tries += 1;
        if self.tries >= TRIES {
            return Err(StoreError::Refused {
                op,
                cause: format!("the definitions changed {TRIES} times meanwhile"),
            });
        }
        let view = Arc::new(self.store.view(self.pool, self.view()).await?);
        self.store
            .newer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.pool.clone(), view.clone());
        self.newer = Some(view);
        Ok(())
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn pick(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[Pick],
    ) -> Result<Vec<Answer>, StoreError> {
        let mut seen = Seen::new(self, pool, view);
        let mut answers = Vec::with_capacity(batch.len());
        for some in batch.chunks(BATCH_MAX) {
            answers.extend(loop {
                match self.pick_some(pool, rules, seen.view(), some).await? {
                    Said::Here(answers) => break answers,
                    Said::OtherVersion => seen.renew("pick").await?,
                }
            });
        }
        Ok(answers)
    }

    async fn settle(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[SettleOne],
    ) -> Result<Vec<Settled>, StoreError> {
        let mut seen = Seen::new(self, pool, view);
        let mut said = Vec::with_capacity(batch.len());
        for some in batch.chunks(BATCH_MAX) {
            said.extend(loop {
                match self.settle_some(pool, rules, seen.view(), some).await? {
                    Said::Here(said) => break said,
                    Said::OtherVersion => seen.renew("settle").await?,
                }
            });
        }
        Ok(said)
    }

    async fn view(&self, pool: &PoolId, known: &View) -> Result<View, StoreError> {
        let mut seen = self.view_of(pool, known).await?;
        // New definitions come without loads: those are asked for by their shelves.
        for _ in 0..TRIES {
            if seen.loaded.len() == seen.nodes.len() {
                return Ok(seen);
            }
            seen = self.view_of(pool, &seen).await?;
        }
        let cause = format!("the definitions changed {TRIES} times meanwhile");
        Err(StoreError::Refused { op: "view", cause })
    }

    async fn known(&self, pool: &PoolId, leases: &[LeaseId]) -> Result<Known, StoreError> {
        const OP: &str = "known";
        let layout = self.layouts.any(pool);
        let mut known = Known { history: 0, live: Vec::with_capacity(leases.len()) };
        for some in leases.chunks(BATCH_MAX) {
            let mut call = Call::new(&self.scripts.known, layout.keys.known());
            some.iter().for_each(|lease| _ = call.text(&lease.to_string()));
            let reply = self.conn.run(OP, call).await?;
            let Some([Reply::Text(history), live @ ..]) =
                reply.list().filter(|all| all.len() == some.len() + 1)
            else {
                return Err(layout.unexpected(OP, &reply));
            };
            let history = record::history(history);
            if known.history != 0 && known.history != history {
                return Err(StoreError::Refused {
                    op: OP,
                    cause: "it was emptied or replaced meanwhile".to_owned(),
                });
            }
            known.history = history;
            known.live.extend(live.iter().map(|one| one.int() == Some(1)));
        }
        Ok(known)
    }

    async fn carried(&self, pool: &PoolId, slot: Slot) -> Result<Vec<Carried>, StoreError> {
        const OP: &str = "carried";
        let layout = self.layouts.any(pool);
        let mut all = Vec::new();
        loop {
            let mut call = Call::new(&self.scripts.carried, layout.keys.carried());
            for number in [usize::from(slot.0), all.len(), CARRIED_MAX] {
                call.text(&number.to_string());
            }
            let reply = self.conn.run(OP, call).await?;
            let some = record::carried(&reply).ok_or_else(|| layout.unexpected(OP, &reply))?;
            all.extend(&some);
            if some.len() < CARRIED_MAX {
                return Ok(all);
            }
        }
    }

    async fn usage(&self, pool: &PoolId, scopes: &[Scope]) -> Result<Vec<Usage>, StoreError> {
        const OP: &str = "usage";
        let layout = self.layouts.any(pool);
        let mut used = Vec::with_capacity(scopes.len());
        for some in scopes.chunks(BATCH_MAX) {
            let mut call = Call::new(&self.scripts.usage, layout.keys.usage());
            some.iter().for_each(|scope| _ = call.text(&scope.to_string()));
            let reply = self.conn.run(OP, call).await?;
            let rows = reply.list().filter(|all| all.len() == 2 * some.len());
            let rows = rows.ok_or_else(|| layout.unexpected(OP, &reply))?;
            for row in rows.chunks(2) {
                used.push(record::usage(row).ok_or_else(|| layout.unexpected(OP, &reply))?);
            }
        }
        Ok(used)
    }

    async fn write_nodes(
        &self,
        pool: &PoolId,
        expected: &View,
        nodes: &[NodeRecord],
    ) -> Result<Written, StoreError> {
        const OP: &str = "write_nodes";
        let layout = Layout::to_write(pool, expected, nodes);
        if let Some(beyond) = nodes.iter().find(|n| n.node.slot >= Slot(Slot::COUNT)) {
            let cause = format!(
                "node {} has slot {}; slots end at {}",
                beyond.node.id,
                beyond.node.slot,
                Slot::COUNT
            );
            return Err(StoreError::Refused { op: OP, cause });
        }
        let mut call = Call::new(&self.scripts.nodes, layout.keys.nodes());
        call.number(expected.version);
        for one in nodes {
            let (node, shelf) = (&one.node, layout.shelf_number(&one.node));
            call.text(node.id.as_str()).text(&definition::write(one)).number(node.slot.0);
            call.number(node.effective_capacity()).number(shelf);
        }
        let reply = self.conn.run(OP, call).await?;
        match reply.int().and_then(|version| u64::try_from(version).ok()) {
            Some(0) => Ok(Written::Conflict),
            Some(version) => Ok(Written::Done(version)),
            None => Err(layout.unexpected(OP, &reply)),
        }
    }

    async fn sweep(&self, pool: &PoolId, view: &View, limit: u32) -> Result<Swept, StoreError> {
        let mut seen = Seen::new(self, pool, view);
        loop {
            match self.sweep_some(pool, seen.view(), limit).await? {
                Said::Here(swept) => return Ok(swept),
                Said::OtherVersion => seen.renew("sweep").await?,
            }
        }
    }

    async fn beat(&self, pool: &PoolId, node: &NodeId, ttl_ms: u64) -> Result<EpochMs, StoreError> {
        beats::beat(&self.conn, &self.scripts.beats, pool, node, ttl_ms).await
    }

    async fn beats(&self, pool: &PoolId) -> Result<Heartbeats, StoreError> {
        beats::all(&self.conn, &self.scripts.beats, pool).await
    }

    async fn forget_beats(&self, pool: &PoolId, nodes: &[NodeId]) -> Result<(), StoreError> {
        beats::forget(&self.conn, &self.scripts.beats, pool, nodes).await
    }

    async fn hold_steward(&self, instance: &str, ttl_ms: u64) -> Result<bool, StoreError> {
        const KEY: &str = "{mqs:steward}";
        let keys = [KEY.to_owned()];
        let mut call = Call::new(&self.scripts.steward, keys.iter());
        call.text(instance).number(ttl_ms.max(1));
        let reply = self.conn.run("hold_steward", call).await?;
        let damaged = || StoreError::Damaged {
            op: "hold_steward",
            key: KEY.to_owned(),
            cause: format!("unexpected reply {reply:?}"),
        };
        reply.int().map(|held| held == 1).ok_or_else(damaged)
    }

    async fn now(&self) -> Result<EpochMs, StoreError> {
        let reply = self.conn.query("now", redis::cmd("TIME")).await?;
        let parts = all(&reply, 2, |part| part.text()?.parse::<u64>().ok());
        match parts.as_deref() {
            Some([seconds, micros]) => {
                Ok(EpochMs(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
            }
            Some(_) | None => {
                let cause = format!("unexpected reply {reply:?}");
                Err(StoreError::Damaged { op: "now", key: "TIME".to_owned(), cause })
            }
        }
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn wants_batches(&self) -> bool {
        true
    }
}

/// Reads a list of `count` things.
fn all<T>(reply: &Reply, count: usize, read: impl Fn(&Reply) -> Option<T>) -> Option<Vec<T>> {
    reply.list().filter(|parts| parts.len() == count)?.iter().map(read).collect()
}

fn settled(said: &Reply) -> Option<Settled> {
    let mut words = said.text()?.split(' ');
    Some(match words.next()? {
        "C" => Settled::Confirmed,
        "R" => Settled::Already,
        "A" => Settled::Adopted,
        "M" => {
            Settled::Moved { attempt: words.next()?.parse().ok()?, slot: Slot(words.next()?.parse().ok()?) }
        }
        "E" => Settled::Ended,
        "S" => Settled::Stale,
        "G" => Settled::Gone,
        _ => return None,
    })
}
