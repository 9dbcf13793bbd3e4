//! `mqs call`: the calls of a running instance's cell, and what is asked for them.

use super::output::{Cell, Look, Side, Table, colours, plain};
use super::queue::{Common, Keyed, cut, part, wait, with_query};
use crate::domain::call::Stage;
use crate::domain::id::{CallId, QueueId, TreatmentId};
use crate::domain::matching::Priority;
use crate::wire::queue_api::{CallInfo, Listed};
use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs call list --queue sales
  mqs call show ast1-1700000000.42
  mqs call priority ast1-1700000000.42 500
  mqs call move ast1-1700000000.42 support
  mqs call withdraw ast1-1700000000.42 voicemail";

/// Show calls; move them, put them before others, take them out
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Move(Move),
    Priority(Prioritize),
    Withdraw(Withdraw),
}

/// Show the calls: by queue, and there those in line first and in their order
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mqs call list\n  mqs call list --queue sales --state waiting --limit 20"
)]
struct List {
    /// Only those of this queue
    #[arg(long)]
    queue: Option<QueueId>,
    /// Only those in this state
    #[arg(long, value_parser = Stage::WORDS)]
    state: Option<String>,
    /// The most that are shown
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    limit: Option<u32>,
    #[command(flatten)]
    common: Common,
}

/// Show one call
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs call show ast1-1700000000.42")]
struct Show {
    /// Its id
    call: CallId,
    #[command(flatten)]
    common: Common,
}

/// Put a call into another queue; it keeps its time and its priority
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs call move ast1-1700000000.42 support")]
struct Move {
    /// Its id
    call: CallId,
    /// Where to
    queue: QueueId,
    #[command(flatten)]
    keyed: Keyed,
}

/// Put a call before or behind others
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs call priority ast1-1700000000.42 500")]
struct Prioritize {
    /// Its id
    call: CallId,
    /// 0 to 1000, the highest first
    priority: Priority,
    #[command(flatten)]
    keyed: Keyed,
}

/// Send a call to a treatment: another queue, a place in the dialplan, or its end
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs call withdraw ast1-1700000000.42 voicemail")]
struct Withdraw {
    /// Its id
    call: CallId,
    /// Name of the treatment
    treatment: TreatmentId,
    #[command(flatten)]
    keyed: Keyed,
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List(list) => list.run().await.context("cannot list the calls")?,
        Verb::Show(show) => {
            let path = format!("/v1/calls/{}", part(show.call.as_str()));
            let shown = show.common.show_at(&path, |call| show_text(&call, colours())).await;
            shown.with_context(|| format!("cannot show call {}", show.call))?;
        }
        Verb::Move(Move { call, queue, keyed }) => {
            let body = json!({"queue": queue.as_str()});
            ask(keyed, call, "move", &body, &format!("{call} stands in {queue} now")).await?;
        }
        Verb::Priority(Prioritize { call, priority, keyed }) => {
            let body = json!({"priority": priority.get()});
            ask(keyed, call, "priority", &body, &format!("{call} has priority {priority} now")).await?;
        }
        Verb::Withdraw(Withdraw { call, treatment, keyed }) => {
            let body = json!({"treatment": treatment.as_str()});
            ask(keyed, call, "withdraw", &body, &format!("{call} goes to {treatment}")).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(keyed: &Keyed, call: &CallId, verb: &str, body: &Value, done: &str) -> anyhow::Result<()> {
    let asked = keyed.ask(&format!("/v1/calls/{}/{verb}", part(call.as_str())), body, done).await;
    let words = if verb == "priority" { "change the priority of" } else { verb };
    asked.with_context(|| format!("cannot {words} call {call}"))
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let parameters = [
            ("queue", self.queue.as_ref().map(ToString::to_string)),
            ("state", self.state.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        self.common.show_at(&with_query("/v1/calls", &parameters), list_text).await
    }
}

fn look(state: &str) -> Look {
    match state {
        "waiting" | "offered" => Look::Yellow,
        "connecting" | "connected" => Look::Green,
        _ => Look::Dim,
    }
}

fn list_text(calls: Listed<CallInfo>) -> String {
    let mut table = Table::new(&[
        ("QUEUE", Side::Left),
        ("POS", Side::Right),
        ("CALL", Side::Left),
        ("STATE", Side::Left),
        ("WAIT", Side::Right),
        ("PRIO", Side::Right),
        ("TRIES", Side::Right),
        ("CALLER", Side::Left),
        ("NODE", Side::Left),
        ("AGENT", Side::Left),
    ])
    .uncut();
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for call in &calls.items {
        table.row(vec![
            Cell::from(&call.queue),
            call.position.map_or_else(|| "-".to_owned(), |n| n.to_string()).into(),
            Cell::new(&call.id, Look::Bold),
            Cell::new(&call.state, look(&call.state)),
            wait(call.waited_ms).into(),
            call.priority.into(),
            call.tries.into(),
            dash(&call.caller.number).into(),
            Cell::from(&call.node),
            dash(&call.agents.join(",")).into(),
        ]);
    }
    table.render(colours()) + &cut(&calls)
}

fn show_text(call: &CallInfo, colours: bool) -> String {
    let name = Look::Bold.paint(&plain(&call.id), colours);
    let state = look(&call.state).paint(&plain(&call.state), colours);
    let mut text = format!("{name} is {state}\n");
    let mut line = |what: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("   {what:<12} {}\n", plain(value)));
        }
    };
    let place = call.position.map(|n| format!(", place {n}")).unwrap_or_default();
    line("queue", &format!("{}{place}, priority {}", call.queue, call.priority));
    line("waited", &wait(call.waited_ms));
    line("caller", format!("{} {}", call.caller.name, call.caller.number).trim());
    line("Call-ID", &call.caller.sip_call_id);
    line("channel", &format!("{} on {}", call.channel, call.node));
    line("agent", &call.agents.join(", "));
    line("asks for", &call.wishes.join(", "));
    line("tries", &format!("{}, {} of them crashed", call.tries, call.crashes));
    line("overflowed", &if call.hops > 0 { format!("{} times", call.hops) } else { String::new() });
    line("treatment", call.treatment.as_deref().unwrap_or(""));
    line("why", call.why.as_deref().unwrap_or(""));
    text
}
