//! `mqs explain`: why did that call go there?

use super::client::{Instance, read};
use super::decision::Decision;
use super::output::{colours, print};
use super::route::{as_it_came, decision_path};
use crate::clock;
use crate::domain::time::EpochMs;
use crate::wire::ask::CallId;
use anyhow::Context as _;
use hyper::Method;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs explain 3c26700bcaeb-a1k@10.0.0.7
  mqs explain 3c26700bcaeb-a1k@10.0.0.7 --json

The instance keeps its last decisions (decisions_kept of the configuration, 10000). Ask the instance that answered:
the one beside the Kamailio that had the call. `mqs route … --dry --explain` says what would be answered now.";

/// Say what was answered for a call, and why
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Call-ID of the INVITE
    call_id: CallId,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Asks, and prints the answer.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = ask(args).await.with_context(|| format!("cannot explain {}", args.call_id))?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Args) -> anyhow::Result<String> {
    let answer = args.instance.ask(Method::GET, &decision_path(&args.call_id), None).await?;
    if args.json {
        return as_it_came(&answer);
    }
    let decision: Decision = read(&answer)?;
    let ago_s = clock::wall().since(EpochMs(decision.at_ms)) / 1000;
    let mut text = decision.summary("routed");
    text.push_str(&format!("lease    {}\nwhen     {ago_s} s ago\n\n", decision.lease()));
    text.push_str(&decision.table(colours()));
    Ok(text)
}
