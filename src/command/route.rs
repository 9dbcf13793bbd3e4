//! `mqs route`: a lookup by hand.

use super::client::{Instance, read};
use super::decision::Decision;
use super::output::{colours, plain, print};
use crate::domain::id::{NodeId, PoolId, Tag, Tenant, Zone};
use crate::domain::pool::TARGETS_MAX;
use crate::domain::uri::RequestUri;
use crate::wire::ask::CallId;
use anyhow::Context as _;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs route call-1 sip:4930123@example.com                  a real lookup: holds a lease
  mqs route call-1 sip:4930123@example.com --dry --explain  what would be answered, and why; holds nothing
  mqs route call-2 tel:+4930123 --zone berlin --tag video --exclude ast3
  mqs route call-1 sip:agent@example.com --kind agent --node ast2
  mqs route call-1 sip:4930123@example.com --json           the document that Kamailio would get

A lease that nobody confirms ends by itself (held_ms of the configuration, 30 s). `mqs done TOKEN` ends it at once.";

/// Ask which node a call would go to, as Kamailio does
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Call-ID of the INVITE
    call_id: CallId,
    /// Its Request-URI: sip:, sips:, tel: or urn:service:
    request_uri: RequestUri,
    /// Its From tag
    #[arg(long, value_name = "TAG", default_value = "")]
    from_tag: String,
    /// Its CSeq number
    #[arg(long, value_name = "N", default_value_t = 0)]
    cseq: u32,
    /// What kind of call
    #[arg(long, value_name = "KIND", value_parser = ["new", "callback", "agent"], default_value = "new")]
    kind: String,
    /// The pool [default: the first of the configuration]
    #[arg(long)]
    pool: Option<PoolId>,
    /// Where the caller is
    #[arg(long)]
    zone: Option<Zone>,
    /// What the node must be able to do; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// A node not to use; may be given several times
    #[arg(long, value_name = "NODE")]
    exclude: Vec<NodeId>,
    /// The caller's own node, for --kind agent
    #[arg(long, required_if_eq("kind", "agent"))]
    node: Option<NodeId>,
    /// How many targets at most [default: as the pool says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(TARGETS_MAX)))]
    targets: Option<u8>,
    /// On whose behalf the call is: its limits count
    #[arg(long)]
    tenant: Option<Tenant>,
    /// Go where the last call with the same text went, while there is room
    #[arg(long, value_name = "TEXT")]
    sticky: Option<String>,
    /// Lease nothing: only say what would be answered
    #[arg(long)]
    dry: bool,
    /// Show every node with its numbers and why it was chosen or not
    #[arg(long)]
    explain: bool,
    /// Print JSON: the route document, or with --dry or --explain the decision
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// The part of a route document that people are told.
#[derive(Deserialize)]
struct Document {
    mqs: Members,
}

#[derive(Deserialize)]
struct Members {
    token: String,
    degraded: bool,
    repeat: bool,
}

/// Asks, and prints the answer.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = ask(args).await.with_context(|| format!("cannot route {}", args.call_id))?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Args) -> anyhow::Result<String> {
    let body = args.body();
    if args.dry {
        let answer = args.instance.ask(Method::POST, "/v1/explain", Some(&body)).await?;
        return if args.json { as_it_came(&answer) } else { Ok(dry(&read(&answer)?, args.explain)) };
    }
    let answer = args.instance.ask(Method::POST, "/v1/route", Some(&body)).await?;
    if args.json && !args.explain {
        return as_it_came(&answer);
    }
    let kept = args.instance.ask(Method::GET, &decision_path(&args.call_id), None).await?;
    if args.json {
        return as_it_came(&kept);
    }
    let Document { mqs } = read(&answer)?;
    Ok(real(&read(&kept)?, &mqs, args))
}

impl Args {
    fn body(&self) -> Value {
        let mut body = json!({
            "call_id": self.call_id.as_str(),
            "request_uri": self.request_uri.as_str(),
            "from_tag": self.from_tag,
            "cseq": self.cseq,
            "kind": self.kind,
            "tags": self.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            "exclude": self.exclude.iter().map(NodeId::as_str).collect::<Vec<_>>(),
            "explain": self.explain,
        });
        let optional = [
            ("pool", self.pool.as_ref().map(|p| json!(p.as_str()))),
            ("zone", self.zone.as_ref().map(|z| json!(z.as_str()))),
            ("node", self.node.as_ref().map(|n| json!(n.as_str()))),
            ("targets_max", self.targets.map(|n| json!(n))),
            ("tenant", self.tenant.as_ref().map(|t| json!(t.as_str()))),
            ("sticky", self.sticky.as_ref().map(|key| json!(key))),
        ];
        if let Value::Object(members) = &mut body {
            members.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        }
        body
    }
}

/// Where the decision for a Call-ID is.
pub fn decision_path(call_id: &CallId) -> String {
    format!("/v1/decisions/{}", utf8_percent_encode(call_id.as_str(), NON_ALPHANUMERIC))
}

/// A JSON answer, with a line end.
pub fn as_it_came(answer: &[u8]) -> anyhow::Result<String> {
    let text = std::str::from_utf8(answer).context("the instance's answer is not text")?;
    Ok(format!("{}\n", text.trim_end()))
}

fn real(decision: &Decision, mqs: &Members, args: &Args) -> String {
    let mut text = decision.summary(if mqs.repeat { "the same answer as before" } else { "routed" });
    let first = decision.first_node();
    let token = plain(&mqs.token);
    text.push_str(&if mqs.degraded {
        "lease    none: the store is away, and this was answered without it\n".to_owned()
    } else if mqs.repeat {
        format!("lease    {}: there already, and counted once\n", decision.lease())
    } else {
        format!("lease    {}: now HELD on {first}, and counted as one call there\n", decision.lease())
    });
    text.push_str(&format!("token    {token}\nend it   mqs done {token}{}\n", args.instance.options()));
    if args.explain {
        text.push('\n');
        text.push_str(&decision.table(colours()));
    }
    text
}

fn dry(decision: &Decision, explain: bool) -> String {
    let mut text = decision.summary("would be routed");
    text.push_str("lease    none: --dry asks only\n");
    if explain {
        text.push('\n');
        text.push_str(&decision.table(colours()));
    }
    text
}
