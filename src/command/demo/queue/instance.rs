//! An instance of MQS: the service as `mqs serve` runs it, on threads of its own, so that it can be killed alone.

use super::super::super::client::Instance;
use super::super::super::serve::{Running, Stores};
use crate::config::Config;
use crate::store::memory::MemoryStore;
use crate::wire::token::Secret;
use anyhow::Context as _;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// An instance.
pub struct Mqs {
    /// Its name.
    pub name: &'static str,
    /// Where it is asked.
    pub http: Instance,
    runtime: Option<Runtime>,
    running: Option<Running>,
}

impl Mqs {
    /// Starts it.
    pub async fn start(
        name: &'static str,
        text: &str,
        http: &Path,
        secret: Secret,
        store: Arc<MemoryStore>,
    ) -> anyhow::Result<Mqs> {
        let config = Config::parse(text, "demo.toml")?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut mqs = Mqs {
            name,
            http: Instance::at_socket(http),
            runtime: Some(runtime.context("cannot start a runtime")?),
            running: None,
        };
        let stores = Stores { leases: store.clone(), cells: store };
        let starting = async move { Running::start(&config, secret, stores, None).await };
        if let Some(runtime) = &mqs.runtime {
            mqs.running = Some(runtime.spawn(starting).await??);
        }
        Ok(mqs)
    }

    /// Whether it was not killed.
    pub fn is_alive(&self) -> bool {
        self.runtime.is_some()
    }

    /// Everything in it ends at once, in the middle of whatever it does, without a word to anybody.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.running = None;
    }

    /// Ends it as SIGTERM does.
    pub async fn stop(mut self) {
        if let (Some(runtime), Some(running)) = (&self.runtime, self.running.take()) {
            // An error would be a panic, which was told.
            let _ = runtime.spawn(async move { running.stop().await }).await;
        }
        self.kill();
    }
}

impl Drop for Mqs {
    fn drop(&mut self) {
        self.kill();
    }
}
