//! `mqs agent`: the agents of a running instance's cell, and what they are asked for.

use super::output::{Cell, Look, Side, Table, colours, count, plain};
use super::queue::{Common, Keyed, cut, doing_words, part, state_look, with_query};
use crate::domain::id::{AgentId, QueueId};
use crate::wire::queue_api::{AgentInfo, Listed};
use anyhow::Context as _;
use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs agent list --queue sales
  mqs agent show ann
  mqs agent login ann
  mqs agent pause ann --reason lunch
  mqs agent resume ann
  mqs agent logout ann
  mqs agent set eve --aor eve@example.com --queue sales --queue support:2 --skill german
  mqs agent remove eve";

/// Show agents; log them in and out, pause them; lay them down at run time
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
    /// The agent comes to work
    #[command(after_help = "Examples:\n  mqs agent login ann")]
    Login(Plain),
    /// The agent leaves; a call that is under way is ended first
    #[command(after_help = "Examples:\n  mqs agent logout ann")]
    Logout(Plain),
    Pause(Pause),
    /// The agent wants calls again; ends the rest after a call, too
    #[command(after_help = "Examples:\n  mqs agent resume ann")]
    Resume(Plain),
    #[command(visible_alias = "add")]
    Set(Set),
    /// Take away an agent who was laid down at run time; a call that is under way is ended first
    #[command(after_help = "Examples:\n  mqs agent remove eve")]
    Remove(Plain),
}

/// Lay down an agent who is not in the configuration, or change one who was laid down so
///
/// What is not said is as for a new agent: say all of it each time.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mqs agent set eve --aor eve@example.com --queue sales
  mqs agent set eve --aor eve@example.com --queue sales --queue support:2:10 --skill german --ring-s 30")]
struct Set {
    /// The name
    agent: AgentId,
    /// The address-of-record of the phone, user@host
    #[arg(long)]
    aor: String,
    /// A queue, with its penalty and weight; may be repeated
    #[arg(long = "queue", value_name = "QUEUE[:PENALTY[:WEIGHT]]", value_parser = member)]
    queues: Vec<serde_json::Value>,
    /// A skill; may be repeated
    #[arg(long = "skill", value_name = "SKILL")]
    skills: Vec<crate::domain::id::Skill>,
    /// Peace after each call [default: as the queue says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3600))]
    wrap_up_s: Option<u32>,
    /// How long the phone rings [default: as the queue says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=300))]
    ring_s: Option<u32>,
    /// Paused after so many missed calls in a row; 0: never
    #[arg(long, value_name = "CALLS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    misses_max: u32,
    #[command(flatten)]
    keyed: Keyed,
}

/// `sales`, `sales:2`, `sales:2:10`.
fn member(text: &str) -> Result<serde_json::Value, String> {
    let mut parts = text.split(':');
    let queue: QueueId = parts.next().unwrap_or_default().parse().map_err(|e| format!("{e}"))?;
    let mut rank = |what: &str| match parts.next() {
        None => Ok(0),
        Some(text) => {
            text.parse::<u16>().ok().filter(|n| *n <= 1_000).ok_or(format!("{what} {text:?}: 0 to 1000"))
        }
    };
    let (penalty, weight) = (rank("penalty")?, rank("weight")?);
    match parts.next() {
        None => Ok(json!({"id": queue.as_str(), "penalty": penalty, "weight": weight})),
        Some(_) => Err("QUEUE[:PENALTY[:WEIGHT]]".to_owned()),
    }
}

/// Show the agents
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs agent list\n  mqs agent list --queue sales --state paused")]
struct List {
    /// Only those of this queue
    #[arg(long)]
    queue: Option<QueueId>,
    /// Only those in this state
    #[arg(long, value_parser = crate::domain::agent::Agent::WORDS)]
    state: Option<String>,
    /// The most that are shown
    #[arg(long, value_name = "AGENTS", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    limit: Option<u32>,
    #[command(flatten)]
    common: Common,
}

/// Show one agent
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs agent show ann\n  mqs agent show ann --json")]
struct Show {
    /// The name
    agent: AgentId,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Plain {
    /// The name
    agent: AgentId,
    #[command(flatten)]
    keyed: Keyed,
}

/// The agent wants no calls for a while; a call that is under way is ended first
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs agent pause ann\n  mqs agent pause ann --reason lunch")]
struct Pause {
    /// The name
    agent: AgentId,
    /// Why; at most 64 bytes
    #[arg(long, default_value = "", value_parser = reason, hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    keyed: Keyed,
}

fn reason(text: &str) -> Result<String, String> {
    crate::wire::queue_api::pause_reason(text).map(|_| text.to_owned()).map_err(|bad| bad.reason)
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List(list) => list.run().await.context("cannot list the agents")?,
        Verb::Show(show) => {
            let path = format!("/v1/agents/{}", part(show.agent.as_str()));
            let shown = show.common.show_at(&path, |agent| show_text(&agent, colours())).await;
            shown.with_context(|| format!("cannot show agent {}", show.agent))?;
        }
        Verb::Login(plain) => plain.ask("login", "log in", "is logged in").await?,
        Verb::Logout(plain) => {
            plain.ask("logout", "log out", "is logged out, or will be after the call").await?
        }
        Verb::Resume(plain) => plain.ask("resume", "resume", "wants calls again").await?,
        Verb::Remove(plain) => {
            let path = format!("/v1/agents/{}", part(plain.agent.as_str()));
            let done = format!("{} is taken away", plain.agent);
            let asked = plain.keyed.ask_by(Method::DELETE, &path, None, &done).await;
            asked.with_context(|| format!("cannot remove agent {}", plain.agent))?;
        }
        Verb::Set(set) => set.run().await.with_context(|| format!("cannot set agent {}", set.agent))?,
        Verb::Pause(pause) => {
            let Pause { agent, reason, keyed } = pause;
            let path = format!("/v1/agents/{}/pause", part(agent.as_str()));
            let done = format!("{agent} is paused, or will be after the call");
            let asked = keyed.ask(&path, &json!({"reason": reason}), &done).await;
            asked.with_context(|| format!("cannot pause agent {agent}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Set {
    async fn run(&self) -> anyhow::Result<()> {
        let Set { agent, aor, queues, skills, wrap_up_s, ring_s, misses_max, keyed } = self;
        let skills: Vec<&str> = skills.iter().map(|skill| skill.as_str()).collect();
        let mut body = json!({"aor": aor, "queues": queues, "skills": skills, "misses_max": misses_max});
        for (key, seconds) in [("wrap_up_s", wrap_up_s), ("ring_s", ring_s)] {
            if let (Some(seconds), Some(all)) = (seconds, body.as_object_mut()) {
                all.insert(key.to_owned(), json!(seconds));
            }
        }
        let path = format!("/v1/agents/{}", part(agent.as_str()));
        keyed.ask_by(Method::PUT, &path, Some(&body), &format!("{agent} is laid down")).await
    }
}

impl Plain {
    async fn ask(&self, verb: &str, words: &str, done: &str) -> anyhow::Result<()> {
        let agent = &self.agent;
        let path = format!("/v1/agents/{}/{verb}", part(agent.as_str()));
        let asked = self.keyed.ask(&path, &json!({}), &format!("{agent} {done}")).await;
        asked.with_context(|| format!("cannot {words} agent {agent}"))
    }
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let parameters = [
            ("queue", self.queue.as_ref().map(ToString::to_string)),
            ("state", self.state.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        self.common.show_at(&with_query("/v1/agents", &parameters), list_text).await
    }
}

fn list_text(agents: Listed<AgentInfo>) -> String {
    let mut table = Table::new(&[
        ("AGENT", Side::Left),
        ("STATE", Side::Left),
        ("CALL", Side::Left),
        ("TAKEN", Side::Right),
        ("MISSES", Side::Right),
        ("PHONE", Side::Left),
        ("QUEUES", Side::Left),
    ]);
    for agent in &agents.items {
        let queues: Vec<&str> = agent.queues.iter().map(|one| one.queue.as_str()).collect();
        let phone = agent.registered.first().map_or("-", |phone| phone.proxy.as_str());
        let state = doing_words(&crate::wire::queue_api::Doing { call: None, ..agent.doing.clone() });
        table.row(vec![
            Cell::new(&agent.id, Look::Bold),
            Cell::new(state, state_look(&agent.doing.state)),
            agent.doing.call.as_deref().unwrap_or("-").into(),
            agent.taken.into(),
            agent.misses.into(),
            phone.into(),
            if queues.is_empty() { "-".into() } else { queues.join(",").into() },
        ]);
    }
    table.render(colours()) + &cut(&agents)
}

fn show_text(agent: &AgentInfo, colours: bool) -> String {
    let name = Look::Bold.paint(&plain(&agent.id), colours);
    let state = state_look(&agent.doing.state).paint(&plain(&doing_words(&agent.doing)), colours);
    let mut text = format!("{name} is {state}\n");
    let mut line = |what: &str, value: String| text.push_str(&format!("   {what:<12} {}\n", plain(&value)));
    line("address", agent.aor.clone().unwrap_or_else(|| "laid down no longer".to_owned()));
    match agent.registered.as_slice() {
        [] => line("phone", "not registered".to_owned()),
        phones => phones.iter().for_each(|phone| line("phone", format!("through {}", phone.proxy))),
    }
    if agent.doing.own_calls > 0 {
        line("own calls", agent.doing.own_calls.to_string());
    }
    if !agent.skills.is_empty() {
        line("skills", agent.skills.join(", "));
    }
    let taken = count(usize::try_from(agent.taken).unwrap_or(usize::MAX), "call");
    line("taken", format!("{taken}; {} missed since the last", agent.misses));
    for one in &agent.queues {
        line(
            "queue",
            format!("{} (penalty {}, weight {}, taken {})", one.queue, one.penalty, one.weight, one.taken),
        );
    }
    text
}
