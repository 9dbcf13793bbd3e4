//! The queue in the demo. Two instances of MQS on one store; nodes, Kamailio, callers and agents are stand-ins.
//!
//! * this file: all that runs, and the script carried out · `script`: what happens when · `shown`, `summary`: what is seen of it
//! * `instance`: an instance of MQS, which can be killed · `takeover`: the line before and after
//! * `node`, `exchange`, `ari`: a stand-in for an Asterisk: what it does, what it has, its REST interface
//! * `people`, `phones`, `helper`: a stand-in for Kamailio with its callers and agents
//! * `ledger`: what really happened, and which rules were broken

mod ari;
mod exchange;
mod helper;
mod instance;
mod ledger;
mod node;
mod people;
mod phones;
mod script;
mod shown;
mod summary;
mod takeover;
#[cfg(test)]
mod tests;

use super::super::node::NodeInfo;
use super::super::serve::drawn_secret;
use super::screen::Screen;
use super::signals::Signals;
use crate::clock::{self, Stopwatch};
use crate::domain::id::CellId;
use crate::store::cell::{CellStore as _, Position};
use crate::store::memory::MemoryStore;
use crate::wire::queue_api::{CallInfo, Listed};
use crate::wire::token::Secret;
use anyhow::Context as _;
use helper::Helpers;
use hyper::Method;
use instance::Mqs;
use ledger::Ledger;
use node::Node;
use people::{Caller, People, QUEUE};
use phones::{PROXY, Phones};
use script::{AGENTS, Act, QUIET_S, Script};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
pub use summary::Summary;
use takeover::TakeOver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(50);

/// How often the table is drawn: on a terminal, and where it is printed.
const DRAW_MS: (u64, u64) = (200, 4_000);

/// How often it is looked whether everybody has the place that they had.
const COMPARE_MS: u64 = 300;

/// How many call in a second, on average.
const RATE: f64 = 1.5;

/// A cell that nobody knows is founded after 3 s.
const LED_WITHIN: Duration = Duration::from_secs(10);

/// How long the callers may take to hang up at the end, and the legs to be dropped.
const HANG_UP: Duration = Duration::from_secs(5);

/// The cell.
const CELL: &str = "demo";

/// Two instances.
const NAMES: [&str; 2] = ["mqs-a", "mqs-b"];

/// Channels of one node.
const CAPACITY: u32 = 60;

/// How many nodes.
const NODES: u64 = 3;

/// Everything that runs.
pub struct Stage {
    directory: tempfile::TempDir,
    secret: Secret,
    cell: CellId,
    store: Arc<MemoryStore>,
    instances: Vec<Mqs>,
    people: Arc<People>,
    callers: TaskTracker,
    chance: fastrand::Rng,
    called: u32,
    next_call_ms: f64,
    takeovers: Vec<TakeOver>,
    /// Since when callers have waited, as was shown at first.
    places: BTreeMap<String, u64>,
    /// What agents ask for.
    asked: TaskTracker,
    seed: u64,
    /// Ends the nodes.
    stop: CancellationToken,
}

impl Stage {
    /// Starts everything but the callers.
    pub async fn set(seed: u64) -> anyhow::Result<Stage> {
        let directory = tempfile::Builder::new().prefix("mqs-demo-").tempdir()?;
        let (stop, watch) = (CancellationToken::new(), Stopwatch::start());
        let sockets = NAMES.map(|name| directory.path().join(format!("{name}.sock"))).to_vec();
        let ledger = Arc::new(Ledger::default());
        let phones = Arc::new(Phones::new(ledger.clone(), Helpers::new(sockets), seed ^ 1));
        let password = format!("{:016x}", fastrand::u64(..));
        std::fs::write(directory.path().join("ari.password"), &password)?;
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let (name, chance) = (format!("ast{number}"), seed.wrapping_add(number));
            let started =
                Node::start(name, password.clone(), phones.clone(), watch, chance, stop.clone()).await;
            nodes.push(started?);
        }
        let hang_up = CancellationToken::new();
        let people = People { nodes, ledger, phones, moved: AtomicU64::new(0), hang_up, watch };
        let mut stage = Stage {
            directory,
            secret: drawn_secret()?,
            cell: CELL.parse()?,
            store: Arc::new(MemoryStore::new(Box::new(clock::wall))),
            instances: Vec::new(),
            people: Arc::new(people),
            callers: TaskTracker::new(),
            chance: fastrand::Rng::with_seed(seed),
            called: 0,
            next_call_ms: 0.0,
            takeovers: Vec::new(),
            places: BTreeMap::new(),
            asked: TaskTracker::new(),
            seed,
            stop,
        };
        // The first one leads, as the lines to copy ask the second: it outlives the other.
        for name in NAMES {
            let instance = stage.instance(name).await?;
            stage.instances.push(instance);
            stage.is_led().await?;
        }
        Ok(stage)
    }

    async fn instance(&self, name: &'static str) -> anyhow::Result<Mqs> {
        let text = configuration(self.directory.path(), name, &self.people.nodes);
        let http = self.socket(name);
        Mqs::start(name, &text, &http, self.secret.clone(), self.store.clone()).await.context(name)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.http.sock"))
    }

    /// What is to be seen, and lines to copy.
    pub fn introduction(&self) -> String {
        let socket = self.socket(NAMES[1]);
        let socket = socket.display();
        format!(
            "\
The queue: two instances of MQS on one store drive {NODES} stand-ins for Asterisk over real HTTP and
websockets; callers and the phones of {} agents are behind a stand-in for Kamailio. Seed {}.

Try it from another terminal, while it runs:
  mqs queue show {QUEUE} --socket {socket}
  mqs agent list --socket {socket}
  mqs events --socket {socket}

",
            AGENTS.len(),
            self.seed
        )
    }

    /// Follows the script, and shows what happens. False: somebody pressed Ctrl-C.
    pub async fn play(&mut self, screen: &mut Screen, seconds: u64) -> anyhow::Result<bool> {
        let mut signals = Signals::listen()?;
        self.register_phones().await?;
        let (mut script, length_s) = Script::new(seconds);
        let begun = Stopwatch::start();
        let (mut drawn_ms, mut compared_ms) = (0, 0);
        if let Some(leader) = self.leader().await? {
            screen.event(0.0, &format!("{leader} leads; agents log in, callers come"))?;
        }
        loop {
            if signals.within(TICK).await {
                return Ok(false);
            }
            let elapsed_s = begun.elapsed().as_secs_f64();
            if elapsed_s >= length_s {
                return Ok(true);
            }
            while let Some(act) = script.due(elapsed_s) {
                self.act(act, elapsed_s, screen).await?;
            }
            if elapsed_s < length_s - QUIET_S {
                self.make_calls(elapsed_s * 1000.0);
            }
            self.look();
            self.follow_takeover(elapsed_s, screen).await?;
            if begun.millis() >= compared_ms + COMPARE_MS {
                compared_ms = begun.millis();
                self.compare_places().await?;
            }
            let every = if screen.is_terminal() { DRAW_MS.0 } else { DRAW_MS.1 };
            if begun.millis() >= drawn_ms + every {
                drawn_ms = begun.millis();
                screen.show(&self.table(screen).await?)?;
            }
        }
    }

    async fn register_phones(&self) -> anyhow::Result<()> {
        for agent in AGENTS {
            let said = format!("exp=3600;kam={PROXY};id=reg-{agent};cs=1");
            let said = self.people.phones.helpers.ask("REG", &[&aor(agent), &said]).await?;
            anyhow::ensure!(said.starts_with("OK"), "{agent} is not registered: {said}");
        }
        Ok(())
    }

    async fn is_led(&self) -> anyhow::Result<()> {
        let begun = Stopwatch::start();
        while self.leader().await?.is_none() {
            anyhow::ensure!(begun.elapsed() < LED_WITHIN, "no instance leads the cell");
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    /// Who holds the leadership, dead or alive.
    async fn leader(&self) -> anyhow::Result<Option<&'static str>> {
        let look = self.store.look(&self.cell).await?;
        // A holder's name is the instance's, and something that is another one after each start.
        let holder = look.leader.filter(|leader| leader.left_ms > 0 && leader.epoch == look.epoch);
        Ok(holder.and_then(|leader| NAMES.into_iter().find(|name| leader.holder.starts_with(name))))
    }

    fn make_calls(&mut self, now_ms: f64) {
        while self.next_call_ms <= now_ms {
            // Callers do not know of each other: exponential gaps (a Poisson process), the longest ones cut.
            self.next_call_ms += (-(1.0 - self.chance.f64()).ln()).min(4.0) / RATE * 1000.0;
            self.make_call();
        }
    }

    fn make_call(&mut self) {
        self.called += 1;
        let caller = Caller {
            call_id: format!("queue-{:x}-{}", self.seed, self.called),
            number: (1000 + self.called).to_string(),
            patience: draw_ms(&mut self.chance, 8_000..25_000),
        };
        let people = self.people.clone();
        self.callers.spawn(async move { people.call(caller).await });
    }

    async fn act(&mut self, act: Act, at_s: f64, screen: &mut Screen) -> anyhow::Result<()> {
        match act {
            Act::Login(agent) => self.ask(agent, "login", "comes to work", at_s, screen)?,
            Act::Logout(agent) => self.ask(agent, "logout", "goes home after the call", at_s, screen)?,
            Act::Pause(agent) => self.ask(agent, "pause", "wants a pause after the call", at_s, screen)?,
            Act::Resume(agent) => self.ask(agent, "resume", "takes calls again", at_s, screen)?,
            Act::Rush(callers) => {
                (0..callers).for_each(|_| self.make_call());
                screen.event(at_s, &format!("a rush: {callers} callers at once"))?;
            }
            Act::Die => {
                let Some(node) = self.people.nodes.last() else { return Ok(()) };
                let on_it = node.with(|exchange| exchange.callers().count());
                node.die();
                screen
                    .event(at_s, &format!("{} dies, and with it the calls of {on_it} callers", node.name))?;
            }
            Act::Restart => {
                let Some(node) = self.people.nodes.last() else { return Ok(()) };
                node.restart();
                screen.event(at_s, &format!("{} is restarted, empty", node.name))?;
            }
            Act::Kill => self.kill(at_s, screen).await?,
            Act::StandBy => {
                for at in 0..self.instances.len() {
                    let Some(name) = self.instances.get(at).filter(|one| !one.is_alive()).map(|one| one.name)
                    else {
                        continue;
                    };
                    let again = self.instance(name).await?;
                    self.instances.splice(at..=at, [again]);
                    screen.event(at_s, &format!("{name} is started again, and stands by"))?;
                }
            }
        }
        Ok(())
    }

    /// Asks an instance for something of an agent's. The answer comes from the leader; what if none comes is told at the end.
    fn ask(
        &self,
        agent: &str,
        verb: &str,
        words: &str,
        at_s: f64,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let Some(instance) = self.alive().map(|one| one.http.clone()) else { return Ok(()) };
        let (path, ledger) = (format!("/v1/agents/{agent}/{verb}"), self.people.ledger.clone());
        let body = if verb == "pause" { json!({"reason": "lunch"}) } else { json!({}) };
        self.asked.spawn(async move {
            if let Err(error) = instance.ask(Method::POST, &path, Some(&body)).await {
                ledger.breaks(format!("{path}: {error:#}"));
            }
        });
        // Eight lines at once say less than one.
        if at_s > 1.0 { Ok(screen.event(at_s, &format!("{agent} {words}"))?) } else { Ok(()) }
    }

    fn alive(&self) -> Option<&Mqs> {
        self.instances.iter().find(|one| one.is_alive())
    }

    async fn calls(&self) -> anyhow::Result<Vec<CallInfo>> {
        let instance = &self.alive().context("no instance is alive")?.http;
        let listed: Listed<CallInfo> = instance.get("/v1/calls?limit=20000").await?;
        Ok(listed.items)
    }

    async fn kill(&mut self, at_s: f64, screen: &mut Screen) -> anyhow::Result<()> {
        let Some(leader) = self.leader().await? else { return Ok(()) };
        let before = takeover::line(self.calls().await?);
        let Some(instance) = self.instances.iter_mut().find(|one| one.name == leader) else { return Ok(()) };
        instance.kill();
        let words = format!("{leader}, the leader, is killed; {} wait", before.len());
        screen.event(at_s, &words)?;
        screen.event(at_s, &format!("    the first in line: {}", takeover::first(&before)))?;
        self.takeovers.push(TakeOver {
            killed_ms: self.people.watch.millis(),
            killed_at: clock::wall(),
            before,
            talking: self.people.ledger.talking(),
            led_after_ms: None,
            compared: false,
            talks_through: 0,
        });
        Ok(())
    }

    async fn follow_takeover(&mut self, at_s: f64, screen: &mut Screen) -> anyhow::Result<()> {
        let Some(mut last) = self.takeovers.pop() else { return Ok(()) };
        let alive = self.alive().map(|one| one.name);
        let leader = self.leader().await?.filter(|name| Some(*name) == alive);
        if let (false, Some(leader)) = (last.compared, leader) {
            let after = self.people.watch.millis().saturating_sub(last.killed_ms);
            let led = *last.led_after_ms.get_or_insert(after);
            // What an instance shows of a cell may be a quarter of a second old.
            if after > led + 300 {
                let calls = self.calls().await?;
                last.compare(&self.people, &calls)
                    .into_iter()
                    .for_each(|said| self.people.ledger.breaks(said));
                let line = takeover::line(calls);
                let words =
                    format!("{leader} leads, {:.1} s after; {} wait", led as f64 / 1000.0, line.len());
                screen.event(at_s, &words)?;
                screen.event(at_s, &format!("    the first in line: {}", takeover::first(&line)))?;
            }
        }
        self.takeovers.push(last);
        Ok(())
    }

    /// Whether everybody who is in the cell has waited since when they had before.
    async fn compare_places(&mut self) -> anyhow::Result<()> {
        for call in self.calls().await? {
            let since = *self.places.entry(call.caller.sip_call_id).or_insert(call.enqueued_ms);
            if since != call.enqueued_ms {
                let CallInfo { id, enqueued_ms, .. } = call;
                self.people
                    .ledger
                    .breaks(format!("{id} had waited since {since}, and now since {enqueued_ms}"));
            }
        }
        Ok(())
    }

    /// Whether what the nodes have keeps the rules.
    fn look(&self) {
        let mut callers = BTreeSet::new();
        for node in &self.people.nodes {
            let wrong = node.with(|exchange| {
                let torn = std::mem::take(&mut exchange.parted);
                let torn = torn.into_iter().map(|bridge| format!("the talk {bridge} was torn apart"));
                let crowded = exchange.talks().filter(|(_, callers, legs)| *callers > 1 || *legs > 1);
                let crowded = crowded.map(|(bridge, ..)| format!("more than two talk in {bridge}"));
                torn.chain(crowded).collect::<Vec<_>>()
            });
            let twice = node.with(|exchange| {
                let twice = exchange.callers().filter(|call| !callers.insert((*call).clone()));
                twice.map(|call| format!("{call} is on two channels")).collect::<Vec<_>>()
            });
            wrong.into_iter().chain(twice).for_each(|said| self.people.ledger.breaks(said));
        }
    }

    /// Ends all calls, looks what is left, and stops.
    pub async fn end(self) -> anyhow::Result<Summary> {
        let (people, watch) = (&self.people, Stopwatch::start());
        people.hang_up.cancel();
        self.callers.close();
        let hung = tokio::time::timeout(HANG_UP, self.callers.wait()).await.is_err();
        self.asked.close();
        let unheard = tokio::time::timeout(HANG_UP, self.asked.wait()).await.is_err();
        let left = loop {
            let channels: usize =
                people.nodes.iter().map(|n| n.with(|exchange| exchange.channels.len())).sum();
            let instance = &self.alive().context("no instance is alive")?.http;
            let nodes: Vec<NodeInfo> = instance.get("/v1/nodes").await?;
            let leases: u64 = nodes.iter().map(|node| u64::from(node.load)).sum();
            let calls = self.calls().await?.len();
            if (channels, leases, calls) == (0, 0, 0) || watch.elapsed() > HANG_UP {
                break (channels, leases, calls);
            }
            tokio::time::sleep(TICK).await;
        };
        self.look();
        let told = self.store.outbox(&self.cell, Position(0), 100_000).await?;
        let counts = people.ledger.counts(people.watch.millis());
        let summary = Summary::new(counts, &self.takeovers, &told, left, hung || unheard, people);
        for instance in self.instances {
            instance.stop().await;
        }
        self.stop.cancel();
        Ok(summary)
    }
}

fn aor(agent: &str) -> String {
    format!("{agent}@demo.example")
}

/// A time, drawn evenly from a range in ms.
fn draw_ms(chance: &mut fastrand::Rng, ms: Range<u64>) -> Duration {
    Duration::from_millis(chance.u64(ms))
}

fn configuration(directory: &Path, name: &str, nodes: &[Arc<Node>]) -> String {
    let place = directory.display();
    let mut text = format!(
        "[store]\nurl = \"memory:\"\n[instance]\nid = \"{name}\"\n\
         [listen]\nresp = [\"unix:{place}/{name}.sock\"]\nhttp = [\"unix:{place}/{name}.http.sock\"]\n\
         [cell]\nid = \"{CELL}\"\n[ari]\npassword_file = \"{place}/ari.password\"\nuser = \"{}\"\n\
         [[queue]]\nid = \"{QUEUE}\"\nring_s = 3\nwrap_up_s = 1\npass_over_s = 2\n\
         [[pool]]\nname = \"demo\"\nfr_timer_ms = 300\nagent_reserve = 0.4\n\
         [pool.health]\nprobe_every_ms = 500\nprobe_timeout_ms = 200\ndown_after = 2\nslow_start_ms = 2000\n",
        ari::USER
    );
    for node in nodes {
        // A `String` takes everything.
        let _ = writeln!(
            text,
            "[[pool.node]]\nid = \"{}\"\nuri = \"sip:{}\"\ncapacity = {CAPACITY}\nari = \"http://{}\"",
            node.name, node.sip, node.ari
        );
    }
    for agent in AGENTS {
        let _ = writeln!(
            text,
            "[[agent]]\nid = \"{agent}\"\naor = \"{}\"\nqueues = [\"{QUEUE}\"]\nmisses_max = 0",
            aor(agent)
        );
    }
    text
}
