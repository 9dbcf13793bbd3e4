//! What a store promises, once for all stores: `support/store_cases.rs` by cases, `support/store_model.rs` by random
//! traces; and here what concerns a real Redis only.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/choice_cases.rs"]
mod choice_cases;
#[path = "support/limit_cases.rs"]
mod limit_cases;
#[path = "support/redis_cases.rs"]
mod redis_cases;
#[path = "support/redis_groups.rs"]
mod redis_groups;
#[path = "support/redis_kinds.rs"]
mod redis_kinds;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/store_bench.rs"]
mod store_bench;
#[path = "support/store_cases.rs"]
mod store_cases;
#[path = "support/store_model.rs"]
mod store_model;

use mqs::domain::id::PoolId;
use mqs::domain::lease::TOMB_MS;
use mqs::domain::time::EpochMs;
use mqs::store::Store;
use mqs::store::file::FileStore;
use mqs::store::memory::MemoryStore;
use mqs::store::redis::{Options, RedisStore};
use redis_server::RedisServer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store_bench::Harness;
use tempfile::TempDir;

/// The embedded store; its time passes when it is told to.
struct Memory {
    store: MemoryStore,
    clock: Arc<AtomicU64>,
}

impl Memory {
    fn new() -> Memory {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let read = clock.clone();
        Memory { store: MemoryStore::new(Box::new(move || EpochMs(read.load(Ordering::SeqCst)))), clock }
    }
}

impl Harness for Memory {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms + 1, Ordering::SeqCst);
    }

    async fn pass_tombs(&self, _pool: &PoolId) {
        self.pass(TOMB_MS).await;
    }
}

/// The store in a file; its time passes when it is told to.
struct InFile {
    /// `None` only while it is opened again.
    store: Option<FileStore>,
    clock: Arc<AtomicU64>,
    folder: TempDir,
    crashes: u32,
}

impl InFile {
    fn new() -> InFile {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let mut file = InFile { store: None, clock, folder: tempfile::tempdir().unwrap(), crashes: 0 };
        file.open();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("mqs-{}.redb", self.crashes))
    }

    fn open(&mut self) {
        let read = self.clock.clone();
        let clock = Box::new(move || EpochMs(read.load(Ordering::SeqCst)));
        self.store = Some(FileStore::open(&self.path(), clock, PATIENT.timeout).unwrap());
    }
}

impl Harness for InFile {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    async fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms + 1, Ordering::SeqCst);
    }

    async fn pass_tombs(&self, _pool: &PoolId) {
        self.pass(TOMB_MS).await;
    }
}

/// A store on a Redis of its own; its time is real.
struct Redis {
    store: RedisStore,
    server: RedisServer,
}

/// So that a slow machine does not fail a test that is not about time-outs.
const PATIENT: Options = Options { timeout: Duration::from_secs(5) };

impl Redis {
    fn new() -> Redis {
        let server = RedisServer::start();
        Redis { store: RedisStore::connect(&server.url(), PATIENT).unwrap(), server }
    }
}

impl Harness for Redis {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms + 5)).await;
    }

    async fn pass_tombs(&self, pool: &PoolId) {
        self.server.send::<()>(&make_tombs_older(pool));
    }
}

/// Nobody waits that long in a test: the tombs are made older.
fn make_tombs_older(pool: &PoolId) -> redis::Cmd {
    const OLDER: &str = "
        for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
            local past = redis.call('ZINCRBY', KEYS[1], -ARGV[1], id)
            local record = redis.call('HGET', KEYS[2], id)
            redis.call('HSET', KEYS[2], id, (string.gsub(record, '%d+$', past)))
        end";
    let key = |name| format!("{{mqs:p:{pool}}}:{name}");
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(OLDER).arg(2).arg(key("tomb")).arg(key("lease")).arg(TOMB_MS + 1);
    cmd
}

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::store_cases::$case(&super::Memory::new()).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $case() {
                super::store_cases::$case(&super::InFile::new()).await;
            })*
        }
        mod redis_ {
            $(#[tokio::test]
            async fn $case() {
                super::store_cases::$case(&super::Redis::new()).await;
            })*
        }
        /// All cases, one after the other, on servers that are emptied between.
        async fn every_promise<H: Harness>(emptied: impl Fn() -> H) {
            $(store_cases::$case(&emptied()).await;)*
        }
    };
}

contract!(
    a_store_that_knows_nothing_says_so,
    definitions_come_back_as_they_were_written,
    only_one_of_two_changes_to_the_same_definitions_is_done,
    the_same_lookup_gets_the_same_answer_and_one_lease,
    lookups_of_one_batch_see_each_other,
    a_batch_chooses_as_one_lookup_after_the_other,
    least_occupancy_wins_then_touched_longest_ago_then_slot,
    a_load_is_the_number_of_live_leases,
    fail_moves_the_lease_once_to_the_next_target,
    a_move_counts_as_a_touch,
    verbs_of_one_batch_see_each_other,
    done_before_everything_else_keeps_a_late_confirm_from_counting,
    tombs_are_forgotten_in_time,
    an_unknown_lease_is_adopted_from_its_token,
    the_token_wins_over_what_is_remembered,
    nothing_is_counted_after_its_latest_time,
    an_expired_lease_frees_its_place,
    an_expired_lease_is_unknown_before_the_sweep_too,
    an_expired_lease_that_is_asked_for_again_frees_its_old_place,
    a_sweep_takes_no_more_than_it_may,
    a_node_knows_what_it_carries,
    live_leases_are_told_from_those_that_are_over,
    as_long_as_nothing_is_forgotten_its_history_is_one,
    excluded_nodes_are_not_chosen,
    the_callers_zone_comes_first_until_it_spills,
    a_node_needs_all_the_tags_asked_for,
    an_agents_leg_is_counted_on_its_node_whatever_that_carries,
    the_agents_share_is_kept_free,
    full_and_no_node_are_told_apart,
    emergency_calls_are_never_refused_while_there_is_a_node,
    a_change_of_state_counts_at_once_also_for_those_who_have_not_seen_it,
    a_change_of_capacity_changes_the_order,
    health_counts_for_choosing,
    a_change_of_definitions_keeps_loads_and_touches,
    a_removed_nodes_slot_keeps_its_load,
    answers_have_no_more_targets_than_allowed,
    calls_at_once_are_limited_for_the_pool_and_for_each_tenant,
    a_limit_counts_a_lease_until_it_ends,
    a_bucket_gives_exactly_its_burst_and_then_its_rate,
    a_refusal_and_a_repeat_use_nothing_up,
    a_key_sticks_to_its_node_while_that_may_take_the_call,
    keys_of_one_batch_see_each_other,
    a_lookup_that_overflowed_overflows_again,
    a_heartbeat_holds_for_its_time_and_is_remembered_after_it,
    a_heartbeat_changes_no_definition,
    only_heartbeats_that_are_over_are_forgotten,
);

impl store_model::Driven for Memory {
    const REAL_TIME: bool = false;

    fn fresh() -> Memory {
        Memory::new()
    }
}

impl store_model::Driven for InFile {
    const REAL_TIME: bool = false;

    fn fresh() -> InFile {
        InFile::new()
    }

    /// What the file holds at this moment is what a killed process leaves behind: nothing is closed, nothing more is written.
    fn crash(&mut self) {
        let before = self.path();
        self.crashes += 1;
        std::fs::copy(before, self.path()).unwrap();
        self.open();
    }
}

/// A store on a Redis that all traces of a test share; each has a pool of its own.
struct SharedRedis(RedisStore);

thread_local! {
    static SHARED: RedisServer = RedisServer::start();
}

impl store_model::Driven for SharedRedis {
    fn fresh() -> SharedRedis {
        SharedRedis(RedisStore::connect(&SHARED.with(RedisServer::url), PATIENT).unwrap())
    }
}

impl Harness for SharedRedis {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms + 5)).await;
    }

    async fn pass_tombs(&self, _pool: &PoolId) {
        unreachable!("traces are shorter than that");
    }
}

#[test]
fn memory_answers_any_trace_as_the_model_does() {
    store_model::run::<Memory, true>(400, 60);
}

#[test]
fn a_file_answers_any_trace_as_the_model_does_crashes_included() {
    store_model::run::<InFile, true>(60, 60);
}

#[test]
fn redis_answers_any_trace_as_the_model_does() {
    store_model::run::<SharedRedis, false>(60, 40);
}
