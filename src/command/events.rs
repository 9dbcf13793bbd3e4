//! `mqs events`: what has happened in the cell of a running instance, and what happens.

use super::output::{Look, colours, plain, print};
use super::queue::{Common, with_query};
use anyhow::Context as _;
use serde_json::{Map, Value};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  mqs events                                everything that is kept, at most the last 100,000
  mqs events --follow                       what happens from now on
  mqs events --since 1740800000000000 --follow --json";

/// How long to wait before a lost connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Show what has happened, or what happens
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Go on as things happen; a lost connection is tried again, and nothing is left out
    #[arg(long, short)]
    follow: bool,
    /// Begin behind the event with this id [default: the oldest; with --follow: now]
    #[arg(long, value_name = "ID")]
    since: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut last = args.since.or((!args.follow).then_some(0));
    let (json, paint) = (args.common.json, colours());
    let mut connected = false;
    loop {
        let parameters =
            [("after", last.map(|id| id.to_string())), ("follow", Some(args.follow.to_string()))];
        let heard = |block: &str| {
            connected = true;
            let Some(event) = Event::read(block) else { return Ok(()) };
            if event.kind == "forgotten" {
                eprintln!("mqs: what came behind {} is forgotten; this is what is kept", last.unwrap_or(0));
                return Ok(());
            }
            last = event.id.or(last);
            print(&if json { event.json() } else { event.line(paint) })?;
            Ok(())
        };
        let path = with_query("/v1/events", &parameters);
        let ended = args.common.instance.listen(&path, &[], heard).await.context("cannot show the events");
        if !args.follow || !connected {
            return ended.map(|()| ExitCode::SUCCESS);
        }
        let why = ended.err().map_or_else(|| "ended".to_owned(), |error| super::output::told(&error));
        eprintln!("mqs: {why}; trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// One block of the stream.
struct Event {
    id: Option<u64>,
    kind: String,
    data: Map<String, Value>,
}

impl Event {
    fn read(block: &str) -> Option<Event> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let data = serde_json::from_str(field("data:")?).ok()?;
        Some(Event {
            id: field("id:").and_then(|id| id.parse().ok()),
            kind: field("event:")?.to_owned(),
            data,
        })
    }

    fn json(mut self) -> String {
        self.data.insert("id".to_owned(), self.id.into());
        format!("{}\n", Value::Object(self.data))
    }

    /// `2023-11-14 22:13:25  connected    call=c1 agent=ann waited_ms=9000`
    fn line(&self, colours: bool) -> String {
        let at = self.data.get("at").and_then(Value::as_u64).map_or_else(String::new, utc);
        let order = ["key", "said", "queue", "call", "agent", "state"];
        let rank = |name: &str| order.iter().position(|n| *n == name).unwrap_or(order.len());
        let mut members: Vec<(&String, &Value)> =
            self.data.iter().filter(|(name, _)| !["at", "event"].contains(&name.as_str())).collect();
        members.sort_by_key(|(name, _)| rank(name));
        let words = members.into_iter().map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        });
        let rest = plain(&words.collect::<Vec<_>>().join(" "));
        let kind = Look::Bold.paint(&format!("{:<12}", plain(&self.kind)), colours);
        format!("{}  {kind}  {rest}\n", Look::Dim.paint(&at, colours))
    }
}

/// A point in time, UTC, by the days of the Gregorian calendar.
fn utc(ms: u64) -> String {
    let (days, s) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // Years begin in March here: the day that is sometimes there is the last one. An era has 400 years.
    let day = days + 719_468;
    let (era, in_era) = (day / 146_097, day % 146_097);
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * in_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let (year, day) = (era * 400 + year + u64::from(month <= 2), in_year - (153 * shifted + 2) / 5 + 1);
    let (hours, minutes, seconds) = (s / 3_600, s / 60 % 60, s % 60);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14 22:13:20.123Z");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28 23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000Z");
    }

    #[test]
    fn an_event_is_a_line() {
        let block = "id: 7\nevent: connected\ndata: {\"at\":1700000000123,\"event\":\"connected\",\"waited_ms\":9,\"agent\":\"a\\u001b\",\"call\":\"c\"}";
        let event = Event::read(block).unwrap();
        let line = "2023-11-14 22:13:20.123Z  connected     call=c agent=a\u{fffd} waited_ms=9\n";
        assert_eq!(event.line(false), line);
        assert!(event.json().contains("\"id\":7"));
        assert!(Event::read(":").is_none() && Event::read("retry: 1000").is_none());
    }
}
