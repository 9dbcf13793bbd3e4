//! What a store of cells promises, once for all stores: `support/cell_cases.rs` by cases, `support/cell_model.rs` by random
//! traces; `support/cell_alone.rs`: what concerns one store only.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/cell_alone.rs"]
mod cell_alone;
#[path = "support/cell_bench.rs"]
mod cell_bench;
#[path = "support/cell_cases.rs"]
mod cell_cases;
#[path = "support/cell_model.rs"]
mod cell_model;
#[allow(dead_code)] // What moves slots and replaces masters is tried with pools.
#[path = "support/redis_groups.rs"]
mod redis_groups;
#[path = "support/redis_server.rs"]
mod redis_server;

use cell_bench::Harness;
use mqs::domain::id::CellId;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{CellStore, KEY_KEPT_MS};
use mqs::store::file::FileStore;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use redis_server::RedisServer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const START: u64 = 1_700_000_000_000;

/// So that a slow machine does not fail a test that is not about time-outs.
const PATIENT: Options = Options { timeout: Duration::from_secs(5) };

/// Time that passes when it is told to.
#[derive(Clone)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn new() -> Hands {
        Hands(Arc::new(AtomicU64::new(START)))
    }

    fn clock(&self) -> Box<dyn Fn() -> EpochMs + Send + Sync> {
        let read = self.0.clone();
        Box::new(move || EpochMs(read.load(Ordering::SeqCst)))
    }

    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms + 1, Ordering::SeqCst);
    }

    fn now(&self) -> EpochMs {
        EpochMs(self.0.load(Ordering::SeqCst))
    }
}

struct Memory {
    store: MemoryStore,
    hands: Hands,
}

impl Memory {
    fn new() -> Memory {
        let hands = Hands::new();
        Memory { store: MemoryStore::new(hands.clock()), hands }
    }
}

impl Harness for Memory {
    fn store(&self) -> &dyn CellStore {
        &self.store
    }

    async fn pass(&self, ms: u64) {
        self.hands.pass(ms);
    }

    async fn pass_keys(&self, _cell: &CellId) {
        self.hands.pass(KEY_KEPT_MS);
    }

    async fn pass_registrations(&self, _cell: &CellId, ms: u64) {
        self.hands.pass(ms);
    }
}

struct InFile {
    /// `None` only while it is opened again.
    store: Option<FileStore>,
    hands: Hands,
    folder: TempDir,
    crashes: u32,
}

impl InFile {
    fn new() -> InFile {
        let folder = tempfile::tempdir().unwrap();
        let mut file = InFile { store: None, hands: Hands::new(), folder, crashes: 0 };
        file.open();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("mqs-{}.redb", self.crashes))
    }

    fn open(&mut self) {
        self.store = None;
        self.store = Some(FileStore::open(&self.path(), self.hands.clock(), PATIENT.timeout).unwrap());
    }

    /// What the file holds at this moment is what a killed process leaves behind: nothing is closed, nothing more is written.
    fn crash(&mut self) {
        let before = self.path();
        self.crashes += 1;
        std::fs::copy(before, self.path()).unwrap();
        self.open();
    }
}

impl Harness for InFile {
    fn store(&self) -> &dyn CellStore {
        self.store.as_ref().unwrap()
    }

    async fn pass(&self, ms: u64) {
        self.hands.pass(ms);
    }

    async fn pass_keys(&self, _cell: &CellId) {
        self.hands.pass(KEY_KEPT_MS);
    }

    async fn pass_registrations(&self, _cell: &CellId, ms: u64) {
        self.hands.pass(ms);
    }
}

/// A store on a Redis of its own; its time is real.
struct Redis {
    store: RedisStore,
    server: RedisServer,
}

impl Redis {
    fn new() -> Redis {
        let server = RedisServer::start();
        Redis { store: RedisStore::connect(&server.url(), PATIENT).unwrap(), server }
    }
}

impl Harness for Redis {
    fn store(&self) -> &dyn CellStore {
        &self.store
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms + 5)).await;
    }

    /// Nobody waits that long in a test: the server's own time-out is made shorter.
    async fn pass_keys(&self, cell: &CellId) {
        let keys: Vec<String> = self.server.say(&format!("KEYS {{mqs:c:{cell}}}:k:*"));
        assert!(!keys.is_empty());
        for key in keys {
            let left: u64 = self.server.say(&format!("PTTL {key}"));
            assert!(left > KEY_KEPT_MS - 60_000 && left <= KEY_KEPT_MS, "{left}");
            assert!(self.server.say::<bool>(&format!("PEXPIRE {key} 1")));
        }
        self.pass(1).await;
    }

    async fn pass_registrations(&self, cell: &CellId, ms: u64) {
        const OLDER: &str = "
            for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
                local past = redis.call('ZINCRBY', KEYS[2], -ARGV[1], name)
                local _, at, rest = string.match(redis.call('HGET', KEYS[1], name), '^(%d+) (%d+) (.*)$')
                local then_ = string.format('%d', tonumber(at) - tonumber(ARGV[1]))
                redis.call('HSET', KEYS[1], name, past .. ' ' .. then_ .. ' ' .. rest)
            end";
        let key = |name| format!("{{mqs:c:{cell}}}:{name}");
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(OLDER).arg(2).arg(key("reg")).arg(key("regx")).arg(ms);
        self.server.send::<()>(&cmd);
    }
}

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::cell_cases::$case(&super::Memory::new()).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $case() {
                super::cell_cases::$case(&super::InFile::new()).await;
            })*
        }
        mod redis_ {
            $(#[tokio::test]
            async fn $case() {
                super::cell_cases::$case(&super::Redis::new()).await;
            })*
        }
    };
}

contract!(
    a_cell_that_nobody_knows_is_empty_and_whole,
    one_of_two_candidates_leads_and_keeps_its_epoch,
    whoever_is_late_leads_on_unless_somebody_came_between,
    a_renewed_leadership_lasts_from_then_on,
    who_resigns_makes_room_at_once_and_the_epoch_rises,
    an_unknown_cell_is_given_to_who_led_or_may_found_it,
    a_leader_gets_a_new_epoch_when_it_wants_one,
    an_epoch_that_was_opened_is_not_given_again,
    twenty_candidates_at_once_have_one_leader,
    whoever_opens_shuts_out_older_epochs,
    batches_follow_each_other_and_a_repeated_one_changes_nothing,
    changes_are_made_in_their_order,
    a_batch_keeps_the_cursor_and_the_clock_which_never_go_back,
    a_batch_with_one_bad_change_is_refused_whole_and_the_culprit_named,
    the_largest_batch_is_applied_at_once,
    everything_is_written_anew_in_several_batches,
    a_queue_is_ordered_by_priority_then_time_then_name,
    a_token_is_good_for_one_leg_in_its_epoch,
    of_twenty_legs_at_once_one_may_ring,
    a_command_is_kept_once_and_in_order,
    a_key_is_forgotten_in_time,
    events_are_told_in_order_and_groups_never_go_back,
    registrations_are_kept_by_proxy_and_refreshed,
    a_late_register_changes_nothing,
    a_registration_ends_some_time_after_it_expires,
    whoever_looks_sees_everything_and_changes_nothing,
    names_and_numbers_that_are_none_are_refused,
);

impl cell_model::Driven for Memory {
    const REAL_TIME: bool = false;

    fn fresh() -> Memory {
        Memory::new()
    }

    fn now(&self) -> EpochMs {
        self.hands.now()
    }
}

impl cell_model::Driven for InFile {
    const REAL_TIME: bool = false;

    fn fresh() -> InFile {
        InFile::new()
    }

    fn now(&self) -> EpochMs {
        self.hands.now()
    }

    fn crash(&mut self) -> bool {
        InFile::crash(self);
        true
    }
}

/// A store on a Redis that all traces of a test share; each has a cell of its own.
struct SharedRedis(RedisStore);

thread_local! {
    static SHARED: RedisServer = RedisServer::start();
}

impl cell_model::Driven for SharedRedis {
    const REAL_TIME: bool = true;

    fn fresh() -> SharedRedis {
        SharedRedis(RedisStore::connect(&SHARED.with(RedisServer::url), PATIENT).unwrap())
    }

    fn now(&self) -> EpochMs {
        EpochMs(START)
    }
}

impl Harness for SharedRedis {
    fn store(&self) -> &dyn CellStore {
        &self.0
    }

    async fn pass(&self, _ms: u64) {
        unreachable!("traces pass no time");
    }

    async fn pass_keys(&self, _cell: &CellId) {
        unreachable!("traces pass no time");
    }

    async fn pass_registrations(&self, _cell: &CellId, _ms: u64) {
        unreachable!("traces pass no time");
    }
}

#[test]
fn memory_answers_any_trace_as_the_table_does() {
    cell_model::run::<Memory>(400, 80);
}

#[test]
fn a_file_answers_any_trace_as_the_table_does_crashes_included() {
    cell_model::run::<InFile>(60, 60);
}

#[test]
fn redis_answers_any_trace_as_the_table_does() {
    cell_model::run::<SharedRedis>(100, 80);
}
