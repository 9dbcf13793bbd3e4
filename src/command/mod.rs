//! Floor 5: the command line, one file a verb.
//!
//! * [`serve`]: the service itself · [`check`]: is the configuration right, and will it work here · [`demo`]: all of it in one
//!   process, with stand-ins for nodes and callers
//! * [`route`], [`settle`], [`explain`], [`node`]: ask a running instance, by [`client`]
//! * [`queue`], [`agent`], [`call`], [`events`], [`cell`]: the same for queues
//! * [`top`]: watch a running instance · [`reload`]: it reads its configuration again · [`completions`], [`man`]: for shells, and for reading
//! * [`output`]: tables, colours, errors · [`decision`]: a decision, shown to people · `notify`: systemd
//!
//! Exit codes: 0 done · 1 it could not be done; standard error says why · 2 the command line is wrong.

pub mod agent;
pub mod call;
pub mod cell;
pub mod check;
pub mod client;
pub mod completions;
mod condition;
pub mod decision;
pub mod demo;
pub mod events;
pub mod explain;
pub mod man;
pub mod node;
mod notify;
pub mod output;
pub mod queue;
pub mod reload;
pub mod route;
pub mod serve;
pub mod settle;
pub mod top;

use crate::clock::Stopwatch;
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs demo                                      see it work: nothing else is needed
  mqs check /etc/mqs/mqs.toml                   is the configuration right, and do the nodes answer?
  mqs serve --config /etc/mqs/mqs.toml          run the service
  mqs node list                                 nodes with their load
  mqs queue show sales                          who waits, and who takes calls
  mqs top                                       the same and more, as it changes
  mqs reload --check                            what would change if the file was read again?
  mqs route call-1 sip:100@example.com --dry --explain
                                                which node would a call get, and why?

Exit codes: 0 done; 1 not done, standard error says why; 2 the command line is wrong.";

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
    Check(check::Args),
    Demo(demo::Args),
    Route(route::Args),
    Explain(explain::Args),
    Node(node::Args),
    Queue(queue::Args),
    Agent(agent::Args),
    Call(call::Args),
    Events(events::Args),
    Cell(cell::Args),
    Top(top::Args),
    Reload(reload::Args),
    Confirm(settle::Confirm),
    Fail(settle::Fail),
    Done(settle::Done),
    Completions(completions::Args),
    Man(man::Args),
}

/// Reads the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let clock = Stopwatch::start();
    let cli = Cli::parse();
    let done = match &cli.verb {
        Verb::Serve(args) => serve::run(args, clock),
        Verb::Check(args) => wait(check::run(args)),
        Verb::Demo(args) => wait(demo::run(args)),
        Verb::Route(args) => wait(route::run(args)),
        Verb::Explain(args) => wait(explain::run(args)),
        Verb::Node(args) => wait(node::run(args)),
        Verb::Queue(args) => wait(queue::run(args)),
        Verb::Agent(args) => wait(agent::run(args)),
        Verb::Call(args) => wait(call::run(args)),
        Verb::Events(args) => wait(events::run(args)),
        Verb::Cell(args) => wait(cell::run(args)),
        Verb::Top(args) => wait(top::run(args)),
        Verb::Reload(args) => wait(reload::run(args)),
        Verb::Confirm(args) => wait(settle::confirm(args)),
        Verb::Fail(args) => wait(settle::fail(args)),
        Verb::Done(args) => wait(settle::done(args)),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    };
    done.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::FAILURE
    })
}

/// The command line as clap knows it.
fn description() -> clap::Command {
    Cli::command()
}

/// Runs a short command.
fn wait(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(verb)
}
