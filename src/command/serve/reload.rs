//! The configuration is read again: all of it is checked first, then what a running process can take over counts at once.

use super::super::notify;
use super::cell::Changed;
use super::watchers::{Means, Watchers};
use crate::clock::Stopwatch;
use crate::config::{Changes, Config};
use crate::dispatch::nodes::{self, Step};
use crate::dispatch::reload::{Ask, NodeStep, ReloadError, Report};
use crate::dispatch::settings::Settings;
use crate::telemetry::log::Filter;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// The most nodes that a line of the log names.
const NAMED_MAX: usize = 8;

/// Reads the configuration again when somebody asks: by SIGHUP or over HTTP.
pub struct Reloader {
    file: PathBuf,
    running: Config,
    watchers: Watchers,
    queue: Option<Changed>,
    filter: Filter,
}

impl Reloader {
    /// `running`: what the process was started with.
    pub fn new(
        file: PathBuf,
        running: Config,
        watchers: Watchers,
        queue: Option<Changed>,
        filter: Filter,
    ) -> Reloader {
        Reloader { file, running, watchers, queue, filter }
    }

    /// Waits for questions until the task is dropped. One is answered at a time.
    pub async fn run(mut self, mut asked: mpsc::Receiver<Ask>, mut hangup: Signal) {
        loop {
            tokio::select! {
                Some(Ask { check, answer }) = asked.recv() => {
                    // Who asked may have gone away.
                    let _ = answer.send(self.answer(check).await);
                }
                Some(()) = hangup.recv() => drop(self.answer(false).await),
                else => return,
            }
        }
    }

    async fn answer(&mut self, check: bool) -> Result<Report, ReloadError> {
        let clock = Stopwatch::start();
        if !check {
            notify::say("RELOADING=1");
        }
        let done = self.reload(check).await;
        if !check {
            notify::say("READY=1");
        }
        match done {
            Ok(report) => {
                let took_ms = (clock.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
                let report = Report { took_ms, ..report };
                if !check {
                    say(&report);
                }
                Ok(report)
            }
            Err(wrong) => {
                let text = format!("{wrong:#}");
                if !check {
                    error!(error = text, "not reloaded, everything stays as it is");
                }
                Err(ReloadError::Wrong(text))
            }
        }
    }

    async fn reload(&mut self, check: bool) -> anyhow::Result<Report> {
        let file = self.file.clone();
        let read =
            tokio::task::spawn_blocking(move || Config::load(&file)).await.context("reading the file")??;
        let changes = Changes::between(&self.running, &read);
        let warnings = read.warnings();
        let next = read.over(&self.running);
        let dispatcher = self.watchers.dispatcher.clone();
        let settings = Settings::from_config(&next, dispatcher.settings().secret.clone())?;
        let means = Means::for_config(&next)?;
        let defined = nodes::from_config(&next);
        let report = |steps: &[Step], waiting| Report {
            file: shown(&self.file),
            check,
            applied: changes.applied.clone(),
            nodes: steps.iter().map(NodeStep::from).collect(),
            waiting,
            restart: changes.restart.clone(),
            warnings: warnings.clone(),
            took_ms: 0.0,
        };
        if check {
            let steps = dispatcher.would_change_nodes(&settings, defined).await;
            return Ok(report(&steps, None));
        }
        let (steps, waiting) = match dispatcher.change_nodes(&settings, defined).await {
            Ok(steps) => (steps, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        // Pools that are new have all their nodes before anybody is sent to them.
        self.watchers.follow(&next, means, self.running.dns != next.dns).await;
        dispatcher.change_settings(settings);
        if let Err(error) = self.filter.set(&next.log.filter) {
            warn!(%error, "the log's filter stays as it is");
        }
        if let Some(queue) = &self.queue {
            queue.send_replace(Arc::new(next.clone()));
        }
        let report = report(&steps, waiting);
        self.running = next;
        Ok(report)
    }
}

fn say(report: &Report) {
    for warning in &report.warnings {
        warn!(file = report.file, "{warning}");
    }
    for key in &report.restart {
        warn!("needs a restart: {key}");
    }
    let mut by_kind: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for step in &report.nodes {
        by_kind.entry((&step.pool, &step.done)).or_default().push(&step.node);
    }
    for ((pool, done), nodes) in by_kind {
        let some = nodes.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(" ");
        info!(pool, done, count = nodes.len(), nodes = some, "nodes of the file");
    }
    if let Some(error) = &report.waiting {
        warn!(error, "the nodes of the file are not in the store");
    }
    info!(file = report.file, applied = report.applied.join(" "), took_ms = report.took_ms, "reloaded");
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
