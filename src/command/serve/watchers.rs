//! What asks others by itself: probes of the nodes, and the DNS about pools that are looked up. Both follow the configuration.

use crate::config::{Config, PoolConfig};
use crate::dispatch::Dispatcher;
use crate::dispatch::discovery::{self, Discovery, Find, Watched};
use crate::domain::id::PoolId;
use crate::outbound::dns::{Finder, Resolver};
use crate::outbound::prober::OptionsProber;
use crate::outbound::trust::Trust;
use anyhow::Context as _;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a start or a reload waits for the DNS: the nodes that the store and the file have are there already.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// What asking takes: made before anything is changed, because it can fail.
pub struct Means {
    prober: Option<Arc<OptionsProber>>,
    find: Option<Arc<dyn Find>>,
}

impl Means {
    /// What this configuration needs.
    pub fn for_config(config: &Config) -> anyhow::Result<Means> {
        let probed = config.pools.iter().any(|pool| pool.health.probe_every_ms > 0);
        let looked_up = config.pools.iter().any(|pool| pool.discover.is_some());
        let prober = || {
            let resolver = Resolver::new(&config.dns).context("[dns]")?;
            // One list of the public authorities for all pools.
            let public = Trust::load(None).context("TLS")?;
            let of = |pool: &PoolConfig| match pool.health_ca_file {
                Some(_) => trust(pool),
                None => Ok(public.clone()),
            };
            let trust = config.pools.iter().map(|pool| Ok((pool.name.clone(), of(pool)?)));
            let trust = trust.collect::<anyhow::Result<BTreeMap<PoolId, Trust>>>()?;
            Ok::<_, anyhow::Error>(Arc::new(OptionsProber::new(resolver, trust)))
        };
        let find = || Ok::<_, anyhow::Error>(Arc::new(Finder::new(&config.dns)?) as Arc<dyn Find>);
        Ok(Means {
            prober: probed.then(prober).transpose()?,
            find: looked_up.then(find).transpose().context("[dns]")?,
        })
    }
}

/// The tasks that ask.
pub struct Watchers {
    /// For whom.
    pub dispatcher: Arc<Dispatcher>,
    tasks: TaskTracker,
    stop: CancellationToken,
    probes: Option<(Arc<OptionsProber>, CancellationToken)>,
    discoveries: BTreeMap<PoolId, (Watched, CancellationToken)>,
}

impl Watchers {
    /// None yet. They end with `stop`.
    pub fn new(dispatcher: Arc<Dispatcher>, tasks: TaskTracker, stop: CancellationToken) -> Watchers {
        Watchers { dispatcher, tasks, stop, probes: None, discoveries: BTreeMap::new() }
    }

    /// Starts and ends tasks so that they are those of a configuration; `anew`: whom they ask has changed. What is looked up for the
    /// first time is waited for, for [`FIRST_ANSWERS`] at most: the next lookup may find it.
    pub async fn follow(&mut self, config: &Config, means: Means, anew: bool) {
        match (means.prober, &self.probes) {
            (Some(fresh), Some((prober, _))) => prober.become_like(&fresh),
            (Some(prober), None) => {
                let task = self.spawn(self.dispatcher.clone().probe(prober.clone()));
                self.probes = Some((prober, task));
            }
            (None, Some((_, task))) => {
                task.cancel();
                self.probes = None;
            }
            (None, None) => {}
        }
        let wanted = discovery::from_config(config);
        let kept = |pool: &PoolId, known: &Watched| {
            !anew && wanted.iter().any(|watched| watched.pool == *pool && watched == known)
        };
        self.discoveries.retain(|pool, (known, task)| {
            let kept = kept(pool, known);
            if !kept {
                task.cancel();
            }
            kept
        });
        let Some(find) = means.find else { return };
        let fresh: Vec<Watched> =
            wanted.into_iter().filter(|w| !self.discoveries.contains_key(&w.pool)).collect();
        let found = self.dispatcher.discoveries(fresh.clone(), &find);
        let looks = fresh.into_iter().zip(found).map(|(watched, discovery)| look(watched, discovery));
        for (watched, discovery, next) in join_all(looks).await {
            let task = self.spawn(discovery.watch(next));
            self.discoveries.insert(watched.pool.clone(), (watched, task));
        }
    }

    /// Runs until the returned token is cancelled, or all is stopped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> CancellationToken {
        let until = self.stop.child_token();
        let token = until.clone();
        self.tasks.spawn(async move { until.run_until_cancelled(work).await });
        token
    }
}

/// Who certifies the nodes of a pool that are probed over TLS.
pub fn trust(pool: &PoolConfig) -> anyhow::Result<Trust> {
    Trust::load(pool.health_ca_file.as_deref()).with_context(|| format!("pool {}: health.ca_file", pool.name))
}

async fn look(watched: Watched, mut discovery: Discovery) -> (Watched, Discovery, Duration) {
    let looked = tokio::time::timeout(FIRST_ANSWERS, discovery.look()).await;
    (watched, discovery, looked.unwrap_or(Duration::ZERO))
}
