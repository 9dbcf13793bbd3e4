//! `mqs queue`: the queues of a running instance's cell. What its neighbours about queues share is here, too.

use super::client::{Instance, read};
use super::output::{Cell, Look, Side, Table, colours, count, plain, print};
use crate::domain::id::QueueId;
use crate::wire::queue_api::{Doing, Listed, MemberInfo, QueueDetail, QueueInfo, SaidInfo};
use anyhow::Context as _;
use clap::Subcommand;
use hyper::Method;
use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs queue list
  mqs queue show sales
  mqs queue set night ring_s=15";

/// Show queues: who waits, and who takes calls
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
    #[command(visible_alias = "add")]
    Set(Set),
    /// Take away a queue that was laid down at run time; the calls in it are treated
    #[command(after_help = "Examples:\n  mqs queue remove night")]
    Remove(Remove),
}

/// Lay down a queue that is not in the configuration, or change one that was laid down so
///
/// What is not said is as in a queue of the configuration that does not say it: say all of it each time.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mqs queue set night
  mqs queue set night strategy=ring-all ring_s=15 ends.longest-wait=voicemail
  mqs queue set night 'agent_announce=[\"beep\"]' 'widen=[{\"after_s\":30,\"penalty_max\":2}]'")]
struct Set {
    /// Its name
    queue: QueueId,
    /// Keys of a queue with their values: words and numbers as they are, all else as JSON; ends.REASON=TREATMENT
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    rules: Vec<(String, Value)>,
    #[command(flatten)]
    keyed: Keyed,
}

#[derive(clap::Args)]
struct Remove {
    /// Its name
    queue: QueueId,
    #[command(flatten)]
    keyed: Keyed,
}

/// `ring_s=15`, `strategy=ring-all`, `agent_announce=["beep"]`.
fn key_value(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE")?;
    if key.is_empty() {
        return Err("KEY=VALUE".to_owned());
    }
    let is_json = value.starts_with(['[', '{']) || value.parse::<u64>().is_ok();
    let value = if is_json {
        serde_json::from_str(value).map_err(|cause| format!("{key}: {cause}"))?
    } else {
        Value::from(value)
    };
    Ok((key.to_owned(), value))
}

impl Set {
    async fn run(&self) -> anyhow::Result<()> {
        let (mut body, mut ends) = (serde_json::Map::new(), serde_json::Map::new());
        for (key, value) in &self.rules {
            let (into, key) = match key.strip_prefix("ends.") {
                Some(why) => (&mut ends, why),
                None => (&mut body, key.as_str()),
            };
            // A name is a text, whatever it looks like.
            let is_name = key == "music";
            let value = if is_name { Value::from(text_of(value)) } else { value.clone() };
            anyhow::ensure!(into.insert(key.to_owned(), value).is_none(), "{key} is there twice");
        }
        if !ends.is_empty() {
            let ends = ends.into_iter().map(|(why, to)| (why, Value::from(text_of(&to)))).collect();
            anyhow::ensure!(
                body.insert("ends".to_owned(), Value::Object(ends)).is_none(),
                "ends is there twice"
            );
        }
        let path = format!("/v1/queues/{}", part(self.queue.as_str()));
        let done = format!("{} is laid down", self.queue);
        self.keyed.ask_by(Method::PUT, &path, Some(&Value::Object(body)), &done).await
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Show the queues in a few numbers
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs queue list\n  mqs queue list --json")]
struct List {
    #[command(flatten)]
    common: Common,
}

/// Show a queue with its members and its callers in their order
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs queue show sales\n  mqs queue show sales --limit 10")]
struct Show {
    /// Its name
    queue: QueueId,
    /// The most callers that are shown
    #[arg(long, value_name = "CALLERS", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    limit: Option<u32>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(super) struct Common {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) instance: Instance,
}

impl Common {
    /// What is at a path, as text for people, or as it came.
    pub(super) async fn show_at<T: DeserializeOwned>(
        &self,
        path: &str,
        text: impl FnOnce(T) -> String,
    ) -> anyhow::Result<()> {
        let answer = self.instance.ask(Method::GET, path, None).await?;
        self.show(&answer, text)
    }

    fn show<T: DeserializeOwned>(
        &self,
        answer: &Bytes,
        text: impl FnOnce(T) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            print(&super::route::as_it_came(answer)?)?;
        } else {
            print(&text(read(answer)?))?;
        }
        Ok(())
    }
}

/// What a command that changes something is told beside it.
#[derive(clap::Args)]
pub(super) struct Keyed {
    /// Names the command, so that it can be repeated and is done once [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Keyed {
    /// Asks for something, and says what was said.
    pub(super) async fn ask(&self, path: &str, body: &Value, done: &str) -> anyhow::Result<()> {
        self.ask_by(Method::POST, path, Some(body), done).await
    }

    /// The same by another method.
    pub(super) async fn ask_by(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        done: &str,
    ) -> anyhow::Result<()> {
        let headers: Vec<(&str, &str)> =
            self.key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
        let answer = self.common.instance.ask_with(method, path, &headers, body).await?;
        self.common.show(&answer, |said: SaidInfo| match said.said.as_str() {
            "already" => format!("{done} (it was so before)\n"),
            _ => format!("{done}\n"),
        })
    }
}

/// What may stand in a path as it is (RFC 3986 §2.3).
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a part of a path or a query.
pub(super) fn part(name: &str) -> String {
    utf8_percent_encode(name, &PLAIN).to_string()
}

/// A path with the parameters that are given.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(key, value)| Some(format!("{key}={}", part(value.as_ref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A time of waiting: `0:07`, `1:02:03`.
pub(super) fn wait(ms: u64) -> String {
    let s = ms / 1_000;
    let (hours, minutes, seconds) = (s / 3_600, s / 60 % 60, s % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A time of waiting, or a dash.
pub(super) fn wait_or_dash(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), wait)
}

/// What a list does not show.
pub(super) fn cut<T>(list: &Listed<T>) -> String {
    match list.total.saturating_sub(list.items.len()) {
        0 => String::new(),
        more => format!("{more} more; `--limit` shows them\n"),
    }
}

/// How an agent's state looks.
pub(super) fn state_look(state: &str) -> Look {
    match state {
        "ready" => Look::Green,
        "offered" | "wrap-up" | "paused" | "in-use" => Look::Yellow,
        "talking" => Look::Bold,
        _ => Look::Dim,
    }
}

/// What an agent does, in words: `paused (lunch)`, `talking with c1, then a pause`.
pub(super) fn doing_words(doing: &Doing) -> String {
    let mut text = doing.state.clone();
    match (doing.call.as_deref(), doing.state.as_str()) {
        (Some(call), "talking") => _ = write!(text, " with {call}"),
        (Some(call), "offered") => _ = write!(text, " {call}"),
        (_, _) => {}
    }
    let reason = doing.reason.as_deref().filter(|reason| !reason.is_empty());
    if let Some(then) = &doing.then {
        _ = write!(text, ", then {then}");
    }
    if let Some(reason) = reason {
        _ = write!(text, " ({reason})");
    }
    text
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List(list) => {
            list.common.show_at("/v1/queues", list_text).await.context("cannot list the queues")?
        }
        Verb::Show(show) => {
            let path = format!("/v1/queues/{}", part(show.queue.as_str()));
            let path = with_query(&path, &[("limit", show.limit.map(|limit| limit.to_string()))]);
            let shown = show.common.show_at(&path, |queue| show_text(&queue, colours())).await;
            shown.with_context(|| format!("cannot show queue {}", show.queue))?;
        }
        Verb::Set(set) => set.run().await.with_context(|| format!("cannot set queue {}", set.queue))?,
        Verb::Remove(Remove { queue, keyed }) => {
            let path = format!("/v1/queues/{}", part(queue.as_str()));
            let asked = keyed.ask_by(Method::DELETE, &path, None, &format!("{queue} is taken away")).await;
            asked.with_context(|| format!("cannot remove queue {queue}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list_text(queues: Listed<QueueInfo>) -> String {
    let mut table = Table::new(&[
        ("QUEUE", Side::Left),
        ("WAITING", Side::Right),
        ("LONGEST", Side::Right),
        ("WITH AGENTS", Side::Right),
        ("READY", Side::Right),
        ("LOGGED IN", Side::Right),
        ("MEMBERS", Side::Right),
        ("TAKEN", Side::Right),
        ("STRATEGY", Side::Left),
    ]);
    for queue in &queues.items {
        let of = |state: &str| queue.agents.get(state).copied().unwrap_or(0);
        let members: usize = queue.agents.values().sum();
        let look = match queue.waiting {
            0 => Look::Plain,
            n if n >= queue.waiting_max => Look::Red,
            _ => Look::Yellow,
        };
        table.row(vec![
            Cell::new(&queue.id, Look::Bold),
            Cell::new(queue.waiting.to_string(), look),
            wait_or_dash(queue.longest_wait_ms).into(),
            queue.connected.into(),
            of("ready").into(),
            members.saturating_sub(of("offline")).into(),
            members.into(),
            queue.taken.into(),
            Cell::from(&queue.strategy),
        ]);
    }
    table.render(colours()) + &cut(&queues)
}

/// As people know it from Asterisk's `queue show`.
fn show_text(queue: &QueueDetail, colours: bool) -> String {
    let QueueInfo { id, strategy, waiting, waiting_max, connected, mean_wait_ms, taken, .. } = &queue.summary;
    let holdtime = mean_wait_ms.map_or_else(|| "-".to_owned(), wait);
    let mut text = format!(
        "{} has {} (max {waiting_max}) in {} strategy ({holdtime} holdtime), W:{waiting}, C:{taken}, with agents: {connected}\n",
        Look::Bold.paint(&plain(id), colours),
        count(*waiting, "call"),
        plain(strategy),
    );
    if queue.members.is_empty() {
        text.push_str("   No Members\n");
    } else {
        text.push_str("   Members:\n");
        queue.members.iter().for_each(|member| text.push_str(&member_line(member, colours)));
    }
    if queue.calls.is_empty() {
        text.push_str("   No Callers\n");
    } else {
        text.push_str("   Callers:\n");
    }
    for call in &queue.calls {
        let offered = match call.agents.as_slice() {
            [] => String::new(),
            agents => format!(", offered to {}", plain(&agents.join(", "))),
        };
        let position = call.position.map(|n| n.to_string()).unwrap_or_default();
        let number = match call.caller.number.as_str() {
            "" => String::new(),
            number => format!(" {}", plain(number)),
        };
        text.push_str(&format!(
            "      {position}. {}{number} (wait: {}, prio: {}{offered})\n",
            plain(&call.id),
            wait(call.waited_ms),
            call.priority
        ));
    }
    match waiting.saturating_sub(queue.calls.len()) {
        0 => {}
        more => text.push_str(&format!("      {more} more; `--limit` shows them\n")),
    }
    text
}

fn member_line(member: &MemberInfo, colours: bool) -> String {
    let look = state_look(&member.doing.state);
    let taken = match member.taken {
        0 => "no calls yet".to_owned(),
        n => count(usize::try_from(n).unwrap_or(usize::MAX), "call"),
    };
    let penalty = if member.penalty > 0 { format!(" (penalty {})", member.penalty) } else { String::new() };
    let phone = if member.registered { "" } else { " (no phone)" };
    let state = look.paint(&plain(&doing_words(&member.doing)), colours);
    format!("      {}{penalty} ({state}){phone} has taken {taken}\n", plain(&member.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_reads_as_asterisk_shows_it() {
        let queue: QueueDetail = serde_json::from_str(include_str!("queue_golden.json")).unwrap();
        assert_eq!(
            show_text(&queue, false),
            "\
sales has 3 calls (max 10) in longest-idle strategy (0:12 holdtime), W:3, C:8, with agents: 1
   Members:
      ann (penalty 3) (talking with c7, then pause (lunch)) has taken 8 calls
      bob (paused (late\u{fffd}[2J)) (no phone) has taken no calls yet
      eve (offered c1) has taken no calls yet
   Callers:
      1. c1 +49301234 (wait: 1:02:03, prio: 500, offered to eve)
      2. c2 (wait: 0:07, prio: 0)
      1 more; `--limit` shows them
"
        );
        let members = Vec::new();
        let empty = QueueDetail { calls: Vec::new(), members, ..queue };
        assert!(show_text(&empty, true).contains("   No Members\n   No Callers\n"));
    }

    #[test]
    fn names_are_parts_of_a_path() {
        assert_eq!(part("PJSIP/trunk-2a;1"), "PJSIP%2Ftrunk-2a%3B1");
        let limit = Some("5".to_owned());
        assert_eq!(with_query("/v1/calls", &[("queue", None), ("limit", limit)]), "/v1/calls?limit=5");
        assert_eq!(with_query("/v1/calls", &[("queue", None)]), "/v1/calls");
        assert_eq!((wait(59_999), wait(3_600_000)), ("0:59".to_owned(), "1:00:00".to_owned()));
    }
}
