//! A dispatcher over a store with faults, and short words for what is asked of it.

use crate::faulty::Faulty;
use mqs::clock;
use mqs::config::Config;
use mqs::dispatch::settings::Settings;
use mqs::dispatch::settle::{SettleError, Verb};
use mqs::dispatch::{Dispatcher, Routed, nodes};
use mqs::store::memory::MemoryStore;
use mqs::store::{Store, View};
use mqs::telemetry::metrics::Metrics;
use mqs::wire::ask::{BranchAsk, RouteAsk};
use mqs::wire::refusal::RefusalWord;
use mqs::wire::token::Secret;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

pub const CONFIG: &str = r#"
emergency_numbers = ["112"]
[[pool]]
name = "main"
refuse_code = 486
[[pool.node]]
id = "a"
uri = "sip:127.0.1.1"
capacity = 2
[[pool.node]]
id = "b"
uri = "sip:127.0.1.2"
capacity = 4
[[pool]]
name = "empty"
"#;

pub const HERE: u64 = 0;
/// Else so many ms that it takes.
pub const AWAY: u64 = u64::MAX - 1;

pub struct Scene {
    pub store: Arc<Faulty>,
    pub dispatcher: Arc<Dispatcher>,
}

impl Scene {
    pub async fn set(fault: u64) -> Scene {
        Scene::over(Arc::new(MemoryStore::new(Box::new(clock::wall))), fault).await
    }

    /// An instance on this store.
    pub async fn over(store: Arc<dyn Store>, fault: u64) -> Scene {
        Scene::with(store, fault, CONFIG).await
    }

    /// An instance on this store, with another configuration.
    pub async fn with(store: Arc<dyn Store>, fault: u64, config: &str) -> Scene {
        let store = Arc::new(Faulty::new(store));
        set(&store, fault);
        let config = Config::parse(config, "test").unwrap();
        let settings = Settings::from_config(&config, Secret::new(&[b's'; 32]).unwrap()).unwrap();
        let dispatcher = Dispatcher::new(settings, store.clone(), Arc::new(Metrics::new()));
        let started = dispatcher.start(&nodes::from_config(&config)).await;
        assert_eq!(started.is_ok(), fault == HERE);
        Scene { store, dispatcher }
    }

    pub fn fault(&self, fault: u64) {
        set(&self.store, fault);
    }

    pub async fn back(&self) {
        self.fault(HERE);
        let config = Config::parse(CONFIG, "test").unwrap();
        self.dispatcher.start(&nodes::from_config(&config)).await.unwrap();
    }

    /// What every instance does twice a second, until the task is ended.
    pub fn watch(&self) -> tokio::task::JoinHandle<()> {
        let config = Config::parse(CONFIG, "test").unwrap();
        tokio::spawn(self.dispatcher.clone().watch(nodes::from_config(&config), true))
    }

    pub async fn load(&self) -> u32 {
        self.loads().await.iter().sum()
    }

    /// A line of `/metrics`.
    pub fn metric(&self, line: &str) -> bool {
        self.dispatcher.metrics().render(&[]).lines().any(|l| l == line)
    }

    pub async fn route(&self, call: &str) -> Result<Routed, RefusalWord> {
        self.ask(call, "sip:100@example.com", "").await
    }

    pub async fn ask(&self, call: &str, uri: &str, attributes: &str) -> Result<Routed, RefusalWord> {
        let ask = RouteAsk::parse(call, uri, attributes).unwrap();
        self.dispatcher.route(&ask, "test").await.map_err(|refusal| refusal.word)
    }

    pub async fn settle(
        &self,
        verb: Verb,
        token: &str,
        attributes: &str,
    ) -> Result<&'static str, SettleError> {
        let ask = BranchAsk::parse(attributes).unwrap();
        self.dispatcher.settle(verb, token, ask).await.map(|report| report.result)
    }

    pub async fn loads(&self) -> Vec<u32> {
        let view = self.store.inner().view(&"main".parse().unwrap(), &View::empty()).await.unwrap();
        view.loaded.iter().map(|n| n.load).collect()
    }
}

fn set(store: &Faulty, fault: u64) {
    store.away.store(fault == AWAY, SeqCst);
    store.takes_ms.store(if fault == AWAY { 0 } else { fault }, SeqCst);
}

pub fn document(routed: &Routed) -> serde_json::Value {
    serde_json::from_str(&routed.document).unwrap()
}

pub fn token(routed: &Routed) -> String {
    document(routed)["mqs"]["token"].as_str().unwrap().to_owned()
}
