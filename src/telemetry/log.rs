//! The log: to standard error, for people or as one JSON object a line.

use std::io::{self, IsTerminal as _};
use tracing_subscriber::EnvFilter;

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

/// Starts the log, for the rest of the process: as JSON or for people, with a filter as `tracing` reads it.
pub fn start(as_json: bool, filter: &str) -> Result<(), LogError> {
    let wrong = |cause: String| LogError::Filter { filter: filter.to_owned(), cause };
    let filter = EnvFilter::try_new(filter).map_err(|e| wrong(e.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if as_json {
        log.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        log.with_ansi(io::stderr().is_terminal()).try_init()
    };
    started.map_err(|_| LogError::Twice)
}
