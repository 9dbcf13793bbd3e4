//! Floor 5: the command line, one file a verb.
//!
//! * [`serve`]: the service itself · [`check`]: is the configuration right, and will it work here
//! * the client's verbs ask a running instance over its HTTP socket
//!
//! Exit codes: 0 done · 1 it could not be done; standard error says why · 2 the command line is wrong.

mod notify;
mod output;
pub mod serve;

use crate::clock::Stopwatch;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs serve --config /etc/mqs/mqs.toml";

/// Tells Kamailio which Asterisk to send each call to.
#[derive(Parser)]
#[command(name = "mqs", version, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Serve(serve::Args),
}

/// Reads the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let clock = Stopwatch::start();
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Serve(args) => serve::run(&args, clock),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
