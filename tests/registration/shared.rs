//! Two instances on one real Redis: heartbeats come to either, one of them watches, and Redis forgets.

use crate::redis_server::RedisServer;
use crate::scene::{HERE, Scene};
use crate::time::CONFIG;
use mqs::store::redis::{Options, RedisStore};
use mqs::wire::heartbeat::HeartbeatAsk;
use std::sync::Arc;
use std::time::Duration;

async fn instance(server: &RedisServer, id: &str) -> Scene {
    let store = RedisStore::connect(&server.url(), Options { timeout: Duration::from_secs(5) }).unwrap();
    let config = format!("[instance]\nid = \"{id}\"\n[dispatch]\npick_deadline_ms = 1000\n{CONFIG}");
    Scene::with(Arc::new(store), HERE, &config).await
}

async fn beat(scene: &Scene, id: &str, more: &str) -> String {
    let last: String = id.chars().filter(char::is_ascii_digit).collect();
    let attributes = format!("uri=sip:10.0.0.{last};capacity=10;ttl_s=5;{more}");
    let ask = HeartbeatAsk::from_attributes(id.parse().unwrap(), &attributes).unwrap();
    let info = scene.dispatcher.heartbeat(&"main".parse().unwrap(), &ask).await.unwrap();
    format!("{} {}", info.result, info.state)
}

async fn nodes(scene: &Scene) -> String {
    let nodes = scene.dispatcher.list(None).await.unwrap();
    let mut words: Vec<String> = nodes.iter().map(|n| format!("{}={}", n.id, n.state)).collect();
    words.sort();
    words.join(" ")
}

const BOTH: &str = "fixed=active n1=active n2=active";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_know_the_same_nodes_and_an_emptied_redis_drains_nobody() {
    let server = RedisServer::start();
    let (a, b) = (instance(&server, "a").await, instance(&server, "b").await);
    let (watch_a, watch_b) = (a.watch(), b.watch());
    // Both at once: one is first, and the other tries again.
    let joined = tokio::join!(beat(&a, "n1", ""), beat(&b, "n2", ""));
    assert_eq!(joined, ("joined active".to_owned(), "joined active".to_owned()));
    assert_eq!((nodes(&a).await.as_str(), nodes(&b).await.as_str()), (BOTH, BOTH));
    let version = a.dispatcher.pool(None).unwrap().refresh().await.unwrap().view.version;
    for _ in 0..3 {
        assert_eq!(beat(&b, "n1", "").await, "kept active");
        assert_eq!(beat(&a, "n2", "").await, "kept active");
    }
    assert_eq!(a.dispatcher.pool(None).unwrap().refresh().await.unwrap().view.version, version);

    server.send::<()>(&redis::cmd("FLUSHALL"));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(beat(&b, "n1", "").await, "kept active");
        assert_eq!(nodes(&a).await, BOTH);
    }
    let mut over = false;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        beat(&b, "n1", "").await;
        over = nodes(&a).await == "fixed=active n1=active";
        if over {
            break;
        }
    }
    assert!(over, "n2 was not heard of: {}", nodes(&a).await);
    watch_a.abort();
    watch_b.abort();
}
