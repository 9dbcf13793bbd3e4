//! `mqs demo`: see it work, with nothing else installed.
//!
//! The service is the real one, with its real sockets. `asterisk` stands in for the nodes, `kamailio` for the proxy and its
//! callers; `script` says what goes wrong, `screen` shows it. [`queue`] is the second part: callers who wait, and agents.

mod asterisk;
mod kamailio;
mod queue;
mod screen;
mod script;
mod signals;

use super::client::Instance;
use super::node::NodeInfo;
use super::serve::{Running, drawn_secret, open_store};
use crate::clock::Stopwatch;
use crate::config::Config;
use anyhow::Context as _;
use asterisk::StandIn;
use hyper::Method;
use kamailio::{Caller, Proxy, Tally};
use screen::Screen;
use script::{Act, Event, Script};
use serde_json::{Value, json};
use signals::Signals;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a part runs when nobody says how long, in s.
const SECONDS: u64 = 15;

/// How long a call talks on average, in s.
const TALK_S: f64 = 3.0;

/// How long the callers may take to hang up at the end.
const HANG_UP: Duration = Duration::from_secs(6);

/// How often the table is drawn on a terminal.
const TICK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  mqs demo
  mqs demo --dispatch-only --seconds 60 --calls-per-second 100 --nodes 8
  mqs demo --queue-only
  mqs demo --seed 7 --json

Nodes, callers and agents are stand-ins inside this process; the service and its sockets are real.
First calls are spread over nodes, then callers wait in a queue, whose leader is killed. Ctrl-C ends it.
Exit code 0: every call was answered by a node and every lease ended; every caller of the queue was
in one state at a time, kept the place in line, and no agent had two legs.";

/// See it work: nodes and callers in this process, nothing else needed
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How long each part runs, the queue in whole rounds of 15 s [default: 15; --dispatch-only on a
    /// terminal: until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=86_400))]
    seconds: Option<u64>,
    /// How many calls begin in a second, on average
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value_t = 20)]
    calls_per_second: u32,
    /// How many nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=24), default_value_t = 5)]
    nodes: u8,
    /// Calls are spread over nodes, and nothing more
    #[arg(long, conflicts_with = "queue_only")]
    dispatch_only: bool,
    /// Callers wait in a queue, and nothing more
    #[arg(long)]
    queue_only: bool,
    /// Draw the same chances again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the summary as JSON, and nothing else
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let well = demo(args).await.context("cannot run the demo")?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that runs.
struct Stage {
    directory: tempfile::TempDir,
    service: Running,
    instance: Instance,
    nodes: Vec<Arc<StandIn>>,
    tally: Arc<Tally>,
    proxy: Arc<Proxy>,
    callers: TaskTracker,
    /// Ends the calls, and no new ones begin.
    hang_up: CancellationToken,
    /// Ends the nodes.
    stop: CancellationToken,
}

async fn demo(args: &Args) -> anyhow::Result<bool> {
    let mut screen = Screen::new(args.json);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    // A cell that nobody knows is founded after 3 s: they pass while calls are dispatched.
    let queue = if args.dispatch_only { None } else { Some(queue::Stage::set(seed).await?) };
    let (dispatched, goes_on) = if args.queue_only {
        (None, true)
    } else {
        let (summary, goes_on) = dispatch(args, seed, queue.is_some(), &mut screen).await?;
        (Some(summary), goes_on)
    };
    let queued = match queue {
        Some(stage) if goes_on => Some(wait_in_line(stage, args, seed, &mut screen).await?),
        Some(_) | None => None,
    };
    if args.json {
        screen.say(&json_of(seed, dispatched.as_ref(), queued.as_ref()))?;
    }
    Ok(dispatched.is_none_or(|summary| summary.well()) && queued.is_none_or(|summary| summary.well()))
}

/// The first part; and whether the next one is wanted.
async fn dispatch(
    args: &Args,
    seed: u64,
    more_comes: bool,
    screen: &mut Screen,
) -> anyhow::Result<(Summary, bool)> {
    let stage = Stage::set(args, seed).await?;
    if !args.json {
        screen.say(&stage.introduction(args, seed))?;
    }
    let generator = stage.make_calls(args, seed);
    let without_end = screen.is_terminal() && !more_comes;
    let goes_on = stage.play(screen, args.seconds.or((!without_end).then_some(SECONDS))).await?;
    let summary = stage.end(generator).await?;
    if !args.json {
        screen.say(&summary.text(seed))?;
    }
    Ok((summary, goes_on))
}

/// The second part.
async fn wait_in_line(
    mut stage: queue::Stage,
    args: &Args,
    seed: u64,
    screen: &mut Screen,
) -> anyhow::Result<queue::Summary> {
    if !args.json {
        screen.say(&format!("\n{}", stage.introduction()))?;
    }
    stage.play(screen, args.seconds.unwrap_or(SECONDS)).await?;
    let summary = stage.end().await?;
    if !args.json {
        screen.say(&summary.text(&format!("mqs demo --queue-only --seed {seed}")))?;
    }
    Ok(summary)
}

fn json_of(seed: u64, dispatched: Option<&Summary>, queued: Option<&queue::Summary>) -> String {
    let mut all = dispatched.map_or_else(|| json!({"well": true}), Summary::json);
    if let Some(members) = all.as_object_mut() {
        members.insert("seed".to_owned(), seed.into());
        if let Some(queued) = queued {
            let well = dispatched.is_none_or(Summary::well) && queued.well();
            members.insert("well".to_owned(), well.into());
            members.insert("queue".to_owned(), queued.json());
        }
    }
    format!("{all}\n")
}

impl Stage {
    async fn set(args: &Args, seed: u64) -> anyhow::Result<Stage> {
        let directory = tempfile::Builder::new().prefix("mqs-demo-").tempdir()?;
        let (stop, hang_up) = (CancellationToken::new(), CancellationToken::new());
        let mut nodes = Vec::new();
        for (at, capacity) in capacities(args).into_iter().enumerate() {
            let chance = seed.wrapping_add(1 + at as u64);
            nodes.push(StandIn::start(format!("ast{}", at + 1), capacity, chance, stop.clone()).await?);
        }
        let text = configuration(directory.path(), &nodes);
        let config = Config::parse(&text, "demo.toml")?;
        let service = Running::start(&config, drawn_secret()?, open_store(&config).await?, None).await?;
        let tally = Arc::new(Tally::default());
        let resp = directory.path().join("mqs.sock");
        let proxy = Proxy::start(&resp, tally.clone(), hang_up.clone(), stop.clone()).await?;
        let instance = Instance::at_socket(&directory.path().join("http.sock"));
        let callers = TaskTracker::new();
        Ok(Stage { directory, service, instance, nodes, tally, proxy, callers, hang_up, stop })
    }

    fn introduction(&self, args: &Args, seed: u64) -> String {
        let place = self.directory.path().display();
        let Args { calls_per_second, nodes, .. } = args;
        format!(
            "\
The service is real. Its {nodes} nodes are stand-ins for Asterisk, and its callers ({calls_per_second} new ones a
second) a stand-in for Kamailio: all inside this process; nothing leaves this host. Seed {seed}.

Try it from another terminal, while it runs:
  redis-cli -s {place}/mqs.sock ROUTE my-call sip:100@example.com 'ft=1;cs=1'
  curl --unix-socket {place}/http.sock http://mqs/v1/nodes
  mqs route my-call sip:100@example.com --dry --explain --socket {place}/http.sock

"
        )
    }

    /// Begins calls until hang-up. All chances of the callers are drawn here, one after the other.
    fn make_calls(&self, args: &Args, seed: u64) -> JoinHandle<()> {
        let (proxy, callers, hang_up) = (self.proxy.clone(), self.callers.clone(), self.hang_up.clone());
        let rate = f64::from(args.calls_per_second);
        let mut chance = fastrand::Rng::with_seed(seed);
        tokio::spawn(async move {
            let clock = Stopwatch::start();
            let mut at_s = 0.0;
            for number in 0u32.. {
                // Callers do not know of each other: exponential gaps (a Poisson process), the longest ones cut.
                at_s += (-(1.0 - chance.f64()).ln()).min(4.0) / rate;
                let holds = Duration::from_secs_f64(TALK_S * (0.5 + chance.f64()));
                let wait = Duration::from_secs_f64(at_s).saturating_sub(clock.elapsed());
                if hang_up.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                let caller =
                    Caller { call_id: format!("demo-{seed:x}-{number}"), number: 1000 + number, holds };
                let proxy = proxy.clone();
                callers.spawn(async move { proxy.call(caller).await });
            }
        })
    }

    /// Follows the script, and shows what happens, until the time is over. False: somebody pressed Ctrl-C.
    async fn play(&self, screen: &mut Screen, seconds: Option<u64>) -> anyhow::Result<bool> {
        let clock = Stopwatch::start();
        let mut script = Script::new(seconds);
        let mut signals = Signals::listen()?;
        let snapshot_s = seconds.map_or(3.0, |s| (s as f64 / 5.0).clamp(1.0, 10.0));
        let mut drawn_s = 0.0;
        let mut health = BTreeMap::new();
        loop {
            if signals.within(TICK).await {
                return Ok(false);
            }
            let elapsed_s = clock.elapsed().as_secs_f64();
            if seconds.is_some_and(|s| elapsed_s >= s as f64) {
                return Ok(true);
            }
            while let Some(event) = script.due(elapsed_s) {
                self.act(event, elapsed_s, screen).await?;
            }
            let nodes: Vec<NodeInfo> = self.instance.get("/v1/nodes").await?;
            for node in &nodes {
                let before = health.insert(node.id.clone(), node.health.clone());
                if before.is_some_and(|before| before != node.health) {
                    screen.event(elapsed_s, &format!("    {}", node.health_line()))?;
                }
            }
            if screen.is_terminal() || elapsed_s - drawn_s >= snapshot_s {
                drawn_s = elapsed_s;
                screen.draw(&nodes, &self.nodes, &self.tally)?;
            }
        }
    }

    async fn act(&self, event: Event, at_s: f64, screen: &mut Screen) -> anyhow::Result<()> {
        let Some(node) = self.nodes.get(event.node % self.nodes.len().max(1)) else { return Ok(()) };
        match event.act {
            Act::Mood(mood) => node.set_mood(mood),
            Act::State(state) => {
                let path = format!("/v1/pools/demo/nodes/{}", node.name);
                self.instance.ask(Method::PATCH, &path, Some(&json!({"state": state}))).await?;
            }
        }
        screen.event(at_s, &format!("{} {}", node.name, event.words))?;
        Ok(())
    }

    /// Ends all calls, looks whether every lease ended, and stops.
    async fn end(self, generator: JoinHandle<()>) -> anyhow::Result<Summary> {
        self.hang_up.cancel();
        generator.await?;
        self.callers.close();
        let hung = tokio::time::timeout(HANG_UP, self.callers.wait()).await.is_err();
        let nodes: Vec<NodeInfo> = self.instance.get("/v1/nodes").await?;
        let by_hand = self.routed_in_all().await?.saturating_sub(self.tally.routed.load(Ordering::Relaxed));
        self.service.stop().await;
        self.stop.cancel();
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let tally = &self.tally;
        let last_loss = tally.last_loss.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok(Summary {
            calls: of(&tally.calls),
            answered: of(&tally.answered),
            moved: of(&tally.moved),
            lost: of(&tally.lost),
            hung,
            leases_left: nodes.iter().map(|n| u64::from(n.load)).sum(),
            unsettled: of(&tally.unsettled),
            by_hand,
            refused: self.nodes.iter().map(|n| of(&n.refused)).sum(),
            lookup_p50_ms: tally.lookup_ms(50),
            lookup_p99_ms: tally.lookup_ms(99),
            last_loss,
        })
    }

    /// Leases that the service gave, to whomever: somebody may have tried the commands that are shown.
    async fn routed_in_all(&self) -> anyhow::Result<u64> {
        let metrics = self.instance.ask(Method::GET, "/metrics", None).await?;
        let text = String::from_utf8_lossy(&metrics);
        let routed =
            text.lines().filter(|l| l.starts_with("mqs_lookups_total{") && l.contains("result=\"routed\""));
        Ok(routed.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}

/// What became of it all.
struct Summary {
    calls: u64,
    answered: u64,
    moved: u64,
    lost: u64,
    hung: bool,
    leases_left: u64,
    unsettled: u64,
    by_hand: u64,
    refused: u64,
    lookup_p50_ms: f64,
    lookup_p99_ms: f64,
    last_loss: Option<String>,
}

impl Summary {
    fn well(&self) -> bool {
        let all_answered = self.lost == 0 && !self.hung && self.answered == self.calls && self.calls > 0;
        // What somebody asked for by hand is his to end.
        all_answered && self.unsettled == 0 && self.leases_left <= self.by_hand
    }

    fn text(&self, seed: u64) -> String {
        let Summary { calls, answered, moved, lost, refused, leases_left, by_hand, .. } = self;
        let mut text = format!(
            "\nSummary: {calls} calls, {answered} answered, {lost} lost.\n\
             {moved} times a call moved on to its next target ({refused} refusals, otherwise silence).\n\
             Leases left after all callers hung up: {leases_left}; lookups took {:.2} ms (p50), {:.2} ms (p99).\n",
            self.lookup_p50_ms, self.lookup_p99_ms,
        );
        if *by_hand > 0 {
            let were = if *by_hand == 1 { "lease was" } else { "leases were" };
            text.push_str(&format!("{by_hand} {were} given to others than the demo's callers: by hand?\n"));
        }
        if let Some(why) = &self.last_loss {
            text.push_str(&format!("The last loss: {why}\n"));
        }
        text.push_str(&match self.well() {
            true => "Every call was answered by a node, and every caller's lease ended.\n".to_owned(),
            false => format!("NOT as it should be; `mqs demo --seed {seed}` draws the same chances again.\n"),
        });
        text
    }

    fn json(&self) -> Value {
        json!({
            "well": self.well(), "calls": self.calls, "answered": self.answered, "moved": self.moved,
            "lost": self.lost, "refused": self.refused, "leases_left": self.leases_left, "unsettled": self.unsettled,
            "by_hand": self.by_hand, "lookup_p50_ms": self.lookup_p50_ms, "lookup_p99_ms": self.lookup_p99_ms,
            "last_loss": self.last_loss,
        })
    }
}

/// Unequal capacities, so that a node more or less is no matter: without the largest, the others would be at 70 %.
fn capacities(args: &Args) -> Vec<u32> {
    let shapes = [8u32, 5, 3, 6, 4].iter().cycle().take(usize::from(args.nodes));
    let without_largest = f64::from(shapes.clone().sum::<u32>() - 8);
    let at_once = f64::from(args.calls_per_second) * (TALK_S + 0.2);
    let unit = at_once / 0.7 / without_largest;
    // At most 1000 × 3.2 / 0.7 / 5 × 8 channels, far below what fits.
    shapes.map(|shape| ((f64::from(*shape) * unit).ceil() as u32).clamp(4, 8000)).collect()
}

fn configuration(directory: &Path, nodes: &[Arc<StandIn>]) -> String {
    let place = directory.display();
    let mut text = format!(
        "[store]\nurl = \"memory:\"\n\
         [listen]\nresp = [\"unix:{place}/mqs.sock\"]\nhttp = [\"unix:{place}/http.sock\"]\n\
         [[pool]]\nname = \"demo\"\nfr_timer_ms = 300\n\
         [pool.health]\nprobe_every_ms = 500\nprobe_timeout_ms = 200\neject_ms = 1000\nslow_start_ms = 2000\n"
    );
    for (node, zone) in nodes.iter().zip(["a", "b"].into_iter().cycle()) {
        text.push_str(&format!(
            "[[pool.node]]\nid = \"{}\"\nuri = \"sip:{}\"\ncapacity = {}\nzone = \"{zone}\"\n",
            node.name, node.address, node.capacity
        ));
    }
    text
}
