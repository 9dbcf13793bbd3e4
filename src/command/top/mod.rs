//! `mqs top`: a running instance, as it changes.
//!
//! * this file: the loop, and the terminal that is always given back · [`keys`]: what the keys do
//! * [`reading`], [`figures`]: what the instance said, and the rates between two readings
//! * [`cell`]: queues, agents and nodes of its cell
//! * [`history`]: the load of the last minutes
//! * [`screen`]: drawn · [`plain`]: printed · [`words`]: what both say

pub mod cell;
pub mod figures;
pub mod history;
pub mod keys;
pub mod plain;
pub mod reading;
pub mod screen;
mod words;

use super::client::Instance;
use super::output::{colours, print, told};
use crate::clock::{self, Stopwatch};
use anyhow::{Context as _, anyhow};
use history::History;
use keys::{Choice, Reach, press};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use reading::Answers;
use screen::{Gone, State};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How long an answer may take before the instance counts as gone.
const PATIENCE: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  mqs top
  mqs top --interval 0.5
  mqs top --once
  mqs top --json | jq '.pools[] | {pool, occupancy}'

q quits, ? tells the other keys. Where standard output is not a terminal, it is as with --once.";

/// Watch a running instance: nodes, zones, load, lookups, latency; queues and agents
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How often to ask the instance, in seconds: 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Print what there is now, with rates since the instance's start, and end
    #[arg(long)]
    once: bool,
    /// The same as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.2..=60.0).contains(&seconds) {
        return Err(format!("{text} is not in 0.2..=60"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Shows it until somebody has seen enough, or once.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.once || args.json || !std::io::stdout().is_terminal() {
        once(args).await.context("cannot look at the instance")?;
    } else {
        live(args).await.context("cannot go on watching")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn once(args: &Args) -> anyhow::Result<()> {
    let reading = Answers::ask(&args.instance).await?.since(None, Duration::ZERO, clock::wall());
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string(&reading)?),
        false => plain::text(&reading, &args.instance.place(), colours()),
    };
    Ok(print(&text)?)
}

async fn live(args: &Args) -> anyhow::Result<()> {
    let clock = Stopwatch::start();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut screen = Screen::open()?;
    let mut typed = typed();
    let mut answers = asked(args.instance.clone(), args.interval);
    let history = History::every(args.interval);
    let (place, interval) = (args.instance.place(), args.interval);
    let mut state = State { place, interval, last: None, gone: None, history };
    let mut choice = Choice::default();
    while !choice.quit {
        let reach = screen.draw(&state, &choice, clock.elapsed())?;
        tokio::select! {
            event = typed.recv() => match event {
                Some(Event::Key(key)) => choice = press(choice, key, reach),
                // A new size is taken at the next drawing.
                Some(_) => {}
                None => break,
            },
            Some(answer) = answers.recv() => {
                if !choice.paused {
                    take(&mut state, answer, clock.elapsed());
                }
            }
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
        }
    }
    Ok(())
}

fn take(state: &mut State, answer: anyhow::Result<Answers>, now: Duration) {
    match answer {
        Ok(answers) => {
            let reading = answers.since(state.last.as_ref(), now, clock::wall());
            state.history.keep(&reading);
            state.last = Some(reading);
            state.gone = None;
        }
        Err(error) => {
            let since = state.gone.as_ref().map_or(now, |gone| gone.since);
            state.gone = Some(Gone { why: super::output::plain(&told(&error)), since });
        }
    }
}

/// Asks the instance again and again, until nobody listens.
fn asked(instance: Instance, every: Duration) -> mpsc::Receiver<anyhow::Result<Answers>> {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let late = || anyhow!("no answer within {} s", PATIENCE.as_secs());
            let answer = tokio::time::timeout(PATIENCE, Answers::ask(&instance)).await;
            if to.send(answer.unwrap_or_else(|_| Err(late()))).await.is_err() {
                return;
            }
        }
    });
    from
}

/// Keys and new sizes, until the terminal is gone. The thread waits for a key as long as the process lives.
fn typed() -> mpsc::Receiver<Event> {
    let (to, from) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if to.blocking_send(event).is_err() {
                return;
            }
        }
    });
    from
}

/// The terminal while it is ours. However this ends, it is given back: by `drop`, and by ratatui's hook in a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Screen> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(error) => {
                // It may have been taken half.
                ratatui::restore();
                Err(error).context("the terminal cannot be drawn on; --once needs none")
            }
        }
    }

    fn draw(&mut self, state: &State, choice: &Choice, now: Duration) -> anyhow::Result<Reach> {
        let mut reach = Reach::default();
        self.0.draw(|frame| reach = screen::draw(frame, state, choice, now))?;
        Ok(reach)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
