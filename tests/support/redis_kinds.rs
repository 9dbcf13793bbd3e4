//! The contract behind Sentinel, in a cluster, over TLS, and as an ACL user with no right too many; and what only these
//! kinds can do: replace a master, move a slot.

use super::redis_groups::{Certificates, ClusterGroup, SentinelGroup, free_port, until};
use super::redis_server::RedisServer;
use super::store_bench::{Bench, Harness, call};
use super::{PATIENT, every_promise, make_tombs_older, store_model};
use mqs::clock::Stopwatch;
use mqs::domain::id::PoolId;
use mqs::store::redis::{Options, RedisStore};
use mqs::store::{Answer, Store, StoreError};
use std::cell::RefCell;
use std::time::Duration;

/// As in the field, with some room for a busy machine.
const HASTY: Options = Options { timeout: Duration::from_millis(250) };

/// A store, and the servers behind it, which are emptied for it.
struct Behind<'a> {
    store: RedisStore,
    servers: &'a [RedisServer],
}

impl<'a> Behind<'a> {
    fn new(store: RedisStore, servers: &'a [RedisServer]) -> Behind<'a> {
        for server in servers {
            // A replica refuses it, and is emptied by its master.
            let _ = on(server, redis::cmd("FLUSHALL").arg("SYNC"));
        }
        Behind { store, servers }
    }
}

impl Harness for Behind<'_> {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms + 5)).await;
    }

    async fn pass_tombs(&self, pool: &PoolId) {
        let done = self.servers.iter().filter(|server| on(server, &make_tombs_older(pool)).is_ok()).count();
        assert!(done > 0, "somebody has the pool; a replica takes it too when there is nothing to write");
    }
}

fn on(server: &RedisServer, cmd: &redis::Cmd) -> redis::RedisResult<redis::Value> {
    cmd.query(&mut redis::Client::open(server.url())?.get_connection()?)
}

fn store(url: &str) -> RedisStore {
    RedisStore::connect(url, PATIENT).unwrap()
}

thread_local! {
    /// Where the traces of this thread go, and who certifies it.
    static TRACED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A store for random traces; each has a pool of its own.
struct Traced(RedisStore);

impl store_model::Driven for Traced {
    fn fresh() -> Traced {
        Traced(store(&TRACED.with_borrow(String::clone)))
    }
}

impl Harness for Traced {
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

fn traces(url: &str) {
    TRACED.set(url.to_owned());
    store_model::run::<Traced, false>(8, 30);
}

/// A runtime for a test that also runs traces, which bring their own.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Picks until one is answered by the store; gives the time that took, and the last error.
async fn until_it_picks(bench: &Bench<'_, Behind<'_>>, lease: u32) -> (Duration, Option<StoreError>) {
    let (start, mut last) = (Stopwatch::start(), None);
    while start.elapsed() < Duration::from_secs(30) {
        let asked = Stopwatch::start();
        let ask = bench.ask(lease, &call());
        match bench.harness.store.pick(&bench.pool, &bench.rules, &bench.seen, &[ask]).await {
            Ok(_) => return (start.elapsed(), last),
            Err(error) => last = Some(error),
        }
        assert!(
            asked.elapsed() < HASTY.timeout * 3 + Duration::from_millis(500),
            "a failure is quick: {last:?} {:?}",
            asked.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no pick within 30 s: {last:?}");
}

#[test]
fn sentinel_keeps_every_promise() {
    let Some(group) = SentinelGroup::start() else { return };
    run(every_promise(|| Behind::new(store(&group.url()), &group.servers)));
    traces(&group.url());
}

#[test]
fn a_master_that_is_killed_is_replaced_without_a_restart() {
    let Some(mut group) = SentinelGroup::start() else { return };
    let url = group.url();
    let (pool, old) = (RedisStore::connect(&url, HASTY).unwrap(), group.ports[0]);
    run(async {
        let harness = Behind::new(pool, &[]);
        until_the_store_is_there(&harness.store).await;
        let bench = Bench::with(&harness, &["a 100", "b 100"]).await;
        assert!(matches!(bench.pick(1, &call()).await, Answer::Leased(_)));
        assert_eq!(group.servers[0].say::<i64>("WAIT 1 5000"), 1);
        until("the replica has it", || group.servers[1].say::<i64>("ZCARD {mqs:p:p}:own") == 1);
        group.servers[0].down();
        let (away, error) = until_it_picks(&bench, 2).await;
        println!(
            "Sentinel, master killed: picks again after {:.2} s (last error: {error:?})",
            away.as_secs_f64()
        );
        assert_eq!(group.servers[1].say::<i64>("ZCARD {mqs:p:p}:own"), 2, "the old lease, and the new one");
        // The old one comes back, and thinks that it is a master until a Sentinel tells it otherwise.
        group.servers[0].up();
        assert!(!group.servers[0].replication().is_empty());
        for lease in 3..20 {
            bench.pick(lease, &call()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(group.servers[1].say::<i64>("ZCARD {mqs:p:p}:own"), 19, "none went to port {old}");
    });
}

/// The connection is closed, and what was the master is a replica.
#[test]
fn a_master_that_steps_down_by_order_is_left_at_once() {
    let Some(group) = SentinelGroup::start() else { return };
    let pool = RedisStore::connect(&group.url(), HASTY).unwrap();
    run(async {
        let harness = Behind::new(pool, &[]);
        until_the_store_is_there(&harness.store).await;
        let bench = Bench::with(&harness, &["a 8000", "b 8000"]).await;
        group.fail_over();
        let (start, mut lease, mut refused) = (Stopwatch::start(), 100, Duration::ZERO);
        while !group.servers[0].replication().contains("role:slave") {
            refused += until_it_picks(&bench, lease).await.0;
            lease += 1;
            assert!(start.elapsed() < Duration::from_secs(60), "the order was not carried out");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        refused += until_it_picks(&bench, 1001).await.0;
        let asked = bench.ask(1001, &call());
        let again = bench.harness.store.pick(&bench.pool, &bench.rules, &bench.seen, &[asked]).await;
        assert!(matches!(again.as_deref(), Ok([Answer::Repeat(_)])), "{again:?}");
        assert!(group.servers[1].replication().contains("role:master"));
        println!("Sentinel, failover by order: picks waited {:.2} s in all", refused.as_secs_f64());
    });
}

async fn until_the_store_is_there(store: &RedisStore) {
    for _ in 0..300 {
        if store.now().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", store.now().await);
}

#[test]
fn sentinels_that_know_no_master_are_named_and_do_no_harm() {
    let Some(group) = SentinelGroup::start() else { return };
    run(async {
        let wrong = RedisStore::connect(&format!("redis+sentinel://{}/other", group.seats()), HASTY).unwrap();
        let e = wrong.now().await.unwrap_err();
        assert!(e.to_string().contains("No such master"), "{e}");
        // Most seats are wrong: those that answer count.
        let (a, b) = (free_port(), free_port());
        let url = format!("redis+sentinel://127.0.0.1:{a},127.0.0.1:{b},{}/mymaster", group.seats());
        let some = RedisStore::connect(&url, HASTY).unwrap();
        until_the_store_is_there(&some).await;
        let probe = some.probe().await.unwrap();
        assert_eq!((probe.kind, probe.servers[0].role.as_str()), ("Sentinel", "master"));
        assert_eq!(probe.servers[0].replicas, 1);
    });
}

#[test]
fn tls_keeps_every_promise_and_checks_the_certificate() {
    let (certs, port) = (Certificates::new(), free_port());
    let mut args = vec!["--tls-port".to_owned(), port.to_string(), "--bind".into(), "127.0.0.1".into()];
    args.extend(certs.args());
    let server = [RedisServer::start_with(&args.iter().map(String::as_str).collect::<Vec<_>>())];
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = |ca: &[u8]| RedisStore::connect_trusting(&url, PATIENT, Some(ca)).unwrap();
    run(async {
        every_promise(|| Behind::new(trusting(&certs.ca), &server)).await;
        let e = store(&url).now().await.unwrap_err();
        assert!(e.to_string().contains("certificate"), "a public authority did not sign it: {e}");
        let e = trusting(&Certificates::new().ca).now().await.unwrap_err();
        assert!(e.to_string().contains("certificate"), "another authority did not sign it: {e}");
    });
    assert!(RedisStore::connect_trusting("redis://127.0.0.1", PATIENT, Some(&certs.ca)).is_err());
}

#[test]
fn sentinel_may_be_tls_throughout() {
    let certs = Certificates::new();
    let Some(group) = SentinelGroup::start_tls(&certs) else { return };
    let url = format!("rediss+sentinel://{}/mymaster", group.seats());
    run(async {
        let store = RedisStore::connect_trusting(&url, PATIENT, Some(&certs.ca)).unwrap();
        until_the_store_is_there(&store).await;
        let harness = Behind::new(store, &group.servers);
        let bench = Bench::with(&harness, &["a 10"]).await;
        assert_eq!(bench.chosen(1, &call()).await, "a");
    });
}

/// The rule of docs/redis.md, word for word.
fn documented_user() -> String {
    let docs = include_str!("../../docs/redis.md");
    let rule = docs.lines().find(|line| line.starts_with("ACL SETUSER mqs ")).expect("the rule");
    rule.replace("PASSWORD", "pw")
}

#[test]
fn the_documented_user_has_every_right_that_is_needed_and_a_missing_one_is_named() {
    let server = [RedisServer::start()];
    server[0].say::<()>(&documented_user());
    let url = format!("{}?user=mqs&pass=pw", server[0].url());
    run(async {
        every_promise(|| Behind::new(store(&url), &server)).await;
        let harness = Behind::new(store(&url), &server);
        let bench = Bench::with(&harness, &["a 10"]).await;
        assert_eq!(bench.chosen(1, &call()).await, "a");
        let before: Vec<String> = server[0].say("KEYS *");
        let probe = harness.store.probe().await.unwrap();
        assert_eq!((probe.rights_missing.len(), probe.servers.len()), (0, 1));
        assert_eq!(server[0].say::<Vec<String>>("KEYS *").len(), before.len(), "nothing is changed");
        server[0].say::<()>("ACL SETUSER mqs -zadd -incrby -info");
        let probe = harness.store.probe().await.unwrap();
        assert_eq!((probe.rights_missing, probe.servers.len()), (vec!["INCRBY", "ZADD", "INFO"], 0));
        server[0].say::<()>("ACL SETUSER mqs +zadd +incrby +info resetkeys ~other:*");
        let missing = harness.store.probe().await.unwrap().rights_missing;
        assert!(
            missing.contains(&"EVALSHA") && missing.contains(&"ZADD") && !missing.contains(&"INFO"),
            "{missing:?}"
        );
    });
    let log: Vec<redis::Value> = server[0].say("ACL LOG");
    assert!(!log.is_empty(), "the refusals of the probe are in the log");
    traces_of_the_user(&server[0], &url);
}

fn traces_of_the_user(server: &RedisServer, url: &str) {
    server.say::<()>(&documented_user());
    server.say::<()>("ACL LOG RESET");
    traces(url);
    let log: Vec<redis::Value> = server.say("ACL LOG");
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn a_cluster_keeps_every_promise() {
    let group = ClusterGroup::start();
    run(async {
        every_promise(|| Behind::new(store(&group.url()), &group.servers)).await;
        let probe = store(&group.url()).probe().await.unwrap();
        assert_eq!((probe.kind, probe.rights_missing.len(), probe.servers.len()), ("cluster", 0, 3));
        assert!(probe.servers.iter().all(|server| server.in_cluster && !server.read_only), "{probe:?}");
    });
    traces(&group.url());
}

#[test]
fn the_documented_user_is_enough_in_a_cluster() {
    let group = ClusterGroup::start();
    for server in &group.servers {
        server.say::<()>(&documented_user());
        server.say::<()>("ACL SETUSER mqs +cluster|slots +asking");
    }
    traces(&group.url().replace("://", "://mqs:pw@"));
    for server in &group.servers {
        let log: Vec<redis::Value> = server.say("ACL LOG");
        assert!(log.is_empty(), "{log:?}");
    }
}

#[test]
fn a_master_of_a_cluster_that_is_killed_is_replaced_without_a_restart() {
    let mut group = ClusterGroup::start();
    // The first master has the replica: a pool that lives there.
    let name = (0..).map(|n| format!("p{n}")).find(|name| group.home_of(name).0 == 0).unwrap();
    run(async {
        let harness = Behind::new(RedisStore::connect(&group.url(), HASTY).unwrap(), &[]);
        until_the_store_is_there(&harness.store).await;
        let mut bench = Bench::new(&harness);
        bench.pool = name.parse().unwrap();
        bench.define(&["a 100", "b 100"]).await;
        assert!(matches!(bench.pick(1, &call()).await, Answer::Leased(_)));
        // WAIT counts only what its own connection wrote.
        let keys = |server: usize| group.servers[server].say::<i64>("DBSIZE");
        until("the replica has it", || keys(3) > 1 && keys(3) == keys(0));
        group.servers[0].down();
        let (away, error) = until_it_picks(&bench, 2).await;
        println!(
            "cluster, master killed: picks again after {:.2} s (last error: {error:?})",
            away.as_secs_f64()
        );
        assert_eq!(bench.store_load().await, 2, "the old lease, and the new one");
        group.servers[0].up();
        for lease in 3..20 {
            bench.pick(lease, &call()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(bench.store_load().await, 19);
    });
}

impl Bench<'_, Behind<'_>> {
    async fn store_load(&self) -> u32 {
        let view = self.harness.store.view(&self.pool, &self.seen).await.unwrap();
        view.loaded.iter().map(|node| node.load).sum()
    }
}

/// The pool's slot moves from one master to another while calls come in: some are not answered, none is answered wrongly.
#[test]
fn a_slot_that_moves_under_load_makes_no_answer_wrong() {
    let group = ClusterGroup::start();
    let (home, slot) = group.home_of("p");
    let goal = if home == 1 { 2 } else { 1 };
    run(async {
        let harness = Behind::new(RedisStore::connect(&group.url(), HASTY).unwrap(), &[]);
        until_the_store_is_there(&harness.store).await;
        let bench = Bench::with(&harness, &["a 1000", "b 1000"]).await;
        let (mut answered, mut unanswered) = (Vec::new(), 0);
        for lease in 0..240 {
            match lease {
                80 => {
                    let (from, to) = (group.id(home), group.id(goal));
                    group.servers[goal].say::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
                    group.servers[home].say::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
                }
                // Key by key, so that for a while some are here and some are there.
                100..160 if lease % 5 == 0 => {
                    let keys: Vec<String> =
                        group.servers[home].say(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
                    let port = group.ports[goal];
                    for key in keys {
                        let said: String =
                            group.servers[home].say(&format!("MIGRATE 127.0.0.1 {port} {key} 0 5000"));
                        assert_eq!(said, "OK");
                    }
                }
                165 => {
                    let left: i64 = group.servers[home].say(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
                    assert_eq!(left, 0, "all keys have moved");
                    let to = group.id(goal);
                    for at in [goal, home] {
                        group.servers[at].say::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
                    }
                }
                _ => {}
            }
            let ask = bench.ask(lease, &call());
            match harness.store.pick(&bench.pool, &bench.rules, &bench.seen, &[ask]).await {
                Ok(mut said) => match said.remove(0) {
                    Answer::Leased(targets) => answered.push((lease, targets)),
                    other @ (Answer::Repeat(_) | Answer::Refused(_) | Answer::Overflow) => {
                        panic!("lease {lease}: {other:?}")
                    }
                },
                Err(StoreError::Away { .. } | StoreError::Timeout { .. }) => unanswered += 1,
                Err(error) => panic!("lease {lease}: {error}"),
            }
        }
        println!("cluster, slot moved: {} of 240 answered, {unanswered} not", answered.len());
        assert!(answered.len() >= 100, "before and after, all are");
        assert!(answered.iter().any(|(lease, _)| *lease == 239));
        for (lease, targets) in &answered {
            let again = bench.pick(*lease, &call()).await;
            assert_eq!(again, Answer::Repeat(targets.clone()), "lease {lease}");
        }
        let load = usize::try_from(bench.store_load().await).unwrap();
        assert!(
            (answered.len()..=240).contains(&load),
            "{load} leases are counted, {} answered",
            answered.len()
        );
    });
}
