//! `mqs reload`: a running instance reads its configuration file again.

use super::client::Instance;
use super::output::{count, plain, print};
use crate::dispatch::reload::Report;
use anyhow::Context as _;
use serde_json::json;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs reload --check        what would change? Nothing is changed
  mqs reload
  mqs reload --json

The instance reads the file that it was started with, checks all of it, and takes over what a running process can: nodes, pools and
nearly all of their keys. What needs a restart is named, and stays as it is. A file that is wrong changes nothing.
No lookup waits for it. SIGHUP does the same, and says in the log what came of it.

Exit code 0: reloaded (something may still need a restart); 1: the file is wrong, or the instance did not answer.";

/// Make a running instance read its configuration file again
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only say what would change
    #[arg(long, visible_alias = "dry-run")]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Asks for it, and says what came of it.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = args.instance.post("/v1/reload", &json!({ "check": args.check })).await;
    let report: Report = asked.context(if args.check { "not good" } else { "not reloaded" })?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        print(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for key in &report.applied {
        lines.push(row("applied", key));
    }
    for step in &report.nodes {
        lines.push(row(&step.done, &format!("node {} of pool {}", step.node, step.pool)));
    }
    for key in &report.restart {
        lines.push(row("needs a restart", key));
    }
    for warning in &report.warnings {
        lines.push(row("warning", warning));
    }
    if let Some(error) = &report.waiting {
        lines.push(row("waiting", &format!("the nodes follow when the store is there: {error}")));
    }
    let (applied, nodes) = (count(report.applied.len(), "key"), count(report.nodes.len(), "node"));
    let file = plain(&report.file);
    let summary = match report.check {
        true => format!("{file}: would change {applied} and {nodes}; nothing was changed"),
        false => format!("{file}: {applied} and {nodes} changed, in {:.1} ms", report.took_ms),
    };
    lines.push(summary);
    lines.join("\n") + "\n"
}

fn row(what: &str, culprit: &str) -> String {
    format!("{:<15}  {}", plain(what), plain(culprit))
}
