//! The log: to standard error, for people or as one JSON object a line.

use std::io::{self, IsTerminal as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("log.filter {filter:?}: {cause}")]
    Filter {
        /// As it was written.
        filter: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A log was started before in this process.
    #[error("the log was started already")]
    Twice,
}

/// The filter of the log that was started.
#[derive(Clone, Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Another filter, from the next line on.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let wrong = |e: reload::Error| LogError::Filter { filter: filter.to_owned(), cause: e.to_string() };
        self.0.reload(read(filter)?).map_err(wrong)
    }
}

/// Starts the log, for the rest of the process: as JSON or for people, with a filter as `tracing` reads it.
pub fn start(as_json: bool, filter: &str) -> Result<Filter, LogError> {
    let (filter, handle) = reload::Layer::new(read(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match as_json {
        true => lines.json().flatten_event(true).with_current_span(false).boxed(),
        false => lines.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|_| LogError::Twice)?;
    Ok(Filter(handle))
}

fn read(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = |cause: String| LogError::Filter { filter: filter.to_owned(), cause };
    EnvFilter::try_new(filter).map_err(|e| wrong(e.to_string()))
}
