//! `mqs confirm`, `mqs fail`, `mqs done`: what Kamailio reports of a lease, by hand.

use super::client::{Instance, read};
use super::output::{plain, print};
use super::route::as_it_came;
use crate::domain::pool::TARGETS_MAX;
use anyhow::Context as _;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Report that the node was heard: the lease is confirmed
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs confirm TOKEN\n  mqs confirm TOKEN --branch 1   the second target was heard"
)]
pub struct Confirm {
    /// A token of the answer
    token: String,
    /// Index of the target that was heard [default: the one that the token is of]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..i64::from(TARGETS_MAX)))]
    branch: Option<u8>,
    #[command(flatten)]
    common: Common,
}

/// Report that a target failed: the lease moves to the next one
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs fail TOKEN --branch 0 --code 503\n  mqs fail TOKEN --branch 1 --code 408   silence"
)]
pub struct Fail {
    /// A token of the answer
    token: String,
    /// Index of the target that failed [default: the one that the token is of]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..i64::from(TARGETS_MAX)))]
    branch: Option<u8>,
    /// SIP status that it failed with; 408: silence; 0: transport error
    #[arg(long, value_name = "STATUS")]
    code: Option<u16>,
    #[command(flatten)]
    common: Common,
}

/// Report that the call is over: the lease ends
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs done TOKEN\n  mqs done \"$(mqs route call-1 sip:a@b --json | jq -r .mqs.token)\""
)]
pub struct Done {
    /// A token of the answer
    token: String,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Deserialize)]
struct Settled {
    result: String,
    attempt: Option<u8>,
    node: Option<String>,
}

/// Confirms.
pub async fn confirm(args: &Confirm) -> anyhow::Result<ExitCode> {
    say(&args.common, "confirm", &json!({"token": args.token, "branch": args.branch})).await
}

/// Fails a branch.
pub async fn fail(args: &Fail) -> anyhow::Result<ExitCode> {
    let body = json!({"token": args.token, "branch": args.branch, "code": args.code});
    say(&args.common, "fail", &body).await
}

/// Ends.
pub async fn done(args: &Done) -> anyhow::Result<ExitCode> {
    say(&args.common, "done", &json!({"token": args.token})).await
}

async fn say(common: &Common, verb: &str, body: &Value) -> anyhow::Result<ExitCode> {
    let answer = common.instance.ask(Method::POST, &format!("/v1/{verb}"), Some(body)).await;
    let answer = answer.with_context(|| match verb {
        "done" => "cannot end the lease",
        "fail" => "cannot move the lease",
        _ => "cannot confirm the lease",
    })?;
    let text = if common.json {
        as_it_came(&answer)?
    } else {
        let Settled { result, attempt, node } = read(&answer)?;
        let moved = match (attempt, node) {
            (Some(attempt), Some(node)) => format!(" to {}, target {attempt}", plain(&node)),
            (_, _) => String::new(),
        };
        format!("{}{moved}\n", plain(&result))
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
