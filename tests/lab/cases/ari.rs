//! The client of Asterisk's REST interface, driven by a real pilot on the embedded store: one real Asterisk, callers and
//! phones of SIPp, no Kamailio in between. What the whole is to do with Kamailio is in `queue`.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mqs::cell::codec;
use mqs::cell::pilot::Settings;
use mqs::cell::shell::Running;
use mqs::clock;
use mqs::domain::agent::AgentRules;
use mqs::domain::controller::Command;
use mqs::domain::id::{CellId, NodeId};
use mqs::domain::matching::{MatchRules, Membership, Skills};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup};
use mqs::outbound::ari::{Address, AriNodes, At, Options};
use mqs::store::cell::{CellStore, Position, Register};
use mqs::store::memory::MemoryStore;
use tokio::runtime::Runtime;

use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::net;
use crate::parts::{self, Part};
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case {
        name: "ari::brings_a_caller_to_an_agent",
        needs: &[Part::Asterisk, Part::Sipp],
        run: brings_a_caller_to_an_agent,
    },
    Case {
        name: "ari::tells_the_ends_of_offers_apart",
        needs: &[Part::Asterisk, Part::Sipp],
        run: tells_the_ends_of_offers_apart,
    },
    Case {
        name: "ari::answers_callers_when_the_queue_says",
        needs: &[Part::Asterisk, Part::Sipp],
        run: answers_callers_when_the_queue_says,
    },
];

const LIMIT: Duration = Duration::from_secs(20);

const DIALPLAN: &str = "[site]
exten => _7XXX,1,Set(MQS_QUEUE=sales)
 same => n,Stasis(mqs,in,sales,${CHANNEL(pjsip,call-id)},)
 same => n,Hangup()
";

fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub fn setup(answering: Answering, agents: &[&str]) -> Arc<Setup> {
    let rules = QueueRules {
        matching: MatchRules::default(),
        waiting_max: 100,
        wait_max_ms: 600_000,
        offers_max: 100,
        ring_ms: 2_000,
        pass_over_ms: 1_000,
        wrap_up_ms: 100,
        talk_max_ms: 3_600_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering,
        music: "".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: [].into(),
    };
    let agent = |id: &str| AgentRules {
        aor: format!("{id}@example.com").into(),
        skills: Skills::default(),
        memberships: [(name("sales"), Membership::default())].into(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 3,
    };
    Arc::new(Setup {
        queues: [(name("sales"), rules)].into(),
        agents: agents.iter().map(|id| (name(id), agent(id))).collect(),
        treatments: BTreeMap::new(),
        last_resort: None,
        ..Setup::default()
    })
}

/// A leader in this process.
struct Leader {
    runtime: Runtime,
    cell: CellId,
    store: Arc<MemoryStore>,
    running: Option<Running>,
}

impl Leader {
    fn start(nodes: &[&Asterisk], setup: Arc<Setup>) -> Result<Leader> {
        let runtime = Runtime::new()?;
        // Of a second leader in this process: the first one's goes on.
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(std::env::var("MQS_LOG").unwrap_or_default())
            .try_init();
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let cell: CellId = name("main");
        let (user, password) = nodes[0].ari_user();
        let options = Options {
            app: "mqs".into(),
            user: user.to_owned(),
            password: password.to_owned(),
            own_password: password.to_owned(),
            timeout: Duration::from_millis(1500),
            connections_max: 8,
            sign: Arc::new(|_, originate| format!("token-{}", originate.offer)),
            seen: Arc::new(|_, _, _| {}),
            desk: None,
            metrics: Arc::default(),
        };
        let ari = AriNodes::new(options);
        let address = |node: &Asterisk| Address {
            pool: name("default"),
            at: At::Url { host: node.http().ip().to_string(), port: node.http().port(), trust: None },
        };
        let ids: Vec<NodeId> = nodes.iter().map(|node| name(node.id())).collect();
        ari.know(nodes.iter().map(|node| (name(node.id()), address(node))).collect());
        let running = runtime.block_on(async {
            let settings = Settings { holder: "one".to_owned(), seed: 1, seeded: None };
            let running = Running::start(cell.clone(), settings, store.clone(), Arc::new(ari));
            running.set_up(setup, ids).await;
            running
        });
        Ok(Leader { runtime, cell, store, running: Some(running) })
    }

    fn register(&self, agent: &str, proxy: &str) {
        let register = Register {
            aor: format!("{agent}@example.com"),
            proxy: name(proxy),
            expires_ms: 3_600_000,
            call_id: format!("reg-{agent}"),
            cseq: 1,
        };
        self.runtime.block_on(self.store.register(&self.cell, &register)).unwrap();
    }

    fn login(&self, agent: &str) {
        self.send(&format!("login-{agent}"), &Command::Login(name(agent)));
    }

    fn logout(&self, agent: &str) {
        self.send(&format!("logout-{agent}"), &Command::Logout(name(agent)));
    }

    fn send(&self, key: &str, command: &Command) {
        self.runtime.block_on(self.store.send(&self.cell, key, &codec::command(command))).unwrap();
    }

    fn events(&self) -> String {
        let told = self.runtime.block_on(self.store.outbox(&self.cell, Position(0), 1_000)).unwrap();
        told.into_iter().map(|told| told.text + "\n").collect()
    }

    fn wait(&self, word: &str) -> Result<()> {
        let seen = net::wait_until(word, LIMIT, || Ok(self.events().contains(word)));
        seen.map_err(|error| error.context(self.events()))
    }
}

/// One node, and where its Kamailio would be.
struct Scene {
    kamailio: SocketAddrV4,
    node: Asterisk,
    leader: Leader,
    calls: u16,
}

impl Scene {
    fn set(lab: &Lab, answering: Answering, agents: &[&str]) -> Result<Scene> {
        let kamailio = SocketAddrV4::new(lab.address(), 5060);
        let config = NodeConfig { dialplan: Some(DIALPLAN.to_owned()), ..NodeConfig::behind(kamailio) };
        let node = Asterisk::start(lab, "ast1", &config)?;
        let leader = Leader::start(&[&node], setup(answering, agents))?;
        agents.iter().for_each(|agent| leader.register(agent, "k1"));
        net::wait_until("attached", LIMIT, || Ok(node.ari("GET", "/applications/mqs", None)?.status == 200))?;
        Ok(Scene { kamailio, node, leader, calls: 0 })
    }

    fn phone(&self, lab: &Lab, name: &str, scenario: Scenario) -> Result<Sipp> {
        sipp::callee(name, scenario).local(self.kamailio).hold(Duration::from_millis(300)).start(lab)
    }

    fn caller(&mut self, lab: &Lab, hold: Duration) -> Result<Sipp> {
        self.calls += 1;
        let from = SocketAddrV4::new(*self.kamailio.ip(), 5070 + self.calls);
        let call = sipp::caller(&format!("caller{}", self.calls), Scenario::Builtin("uac"), self.node.sip());
        call.local(from).service("7000").hold(hold).start(lab)
    }

    fn is_empty(&self) -> Result<()> {
        net::wait_until("no channel is left", LIMIT, || Ok(self.node.channels()?.is_empty()))
    }
}

fn brings_a_caller_to_an_agent(lab: &Lab) -> Result<()> {
    let mut scene = Scene::set(lab, Answering::Entry, &["ann"])?;
    let _phone = scene.phone(lab, "phone", Scenario::File("node.xml"))?;
    let mut caller = scene.caller(lab, Duration::from_secs(4))?;
    scene.leader.wait("enqueued")?;
    scene.leader.login("ann");
    scene.leader.wait("connected")?;
    let channels = scene.node.channels()?;
    ensure!(channels.len() == 2, "{channels:?}");
    let bridges = scene.node.ari("GET", "/bridges", None)?.body;
    ensure!(bridges.contains("mqs-talk-") && bridges.contains("mqs-hold-"), "{bridges}");
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == 1, "{stats:?}");
    scene.leader.wait("caller-hung-up")?;
    scene.leader.wait("\"how\":\"taken\"")?;
    scene.is_empty()?;
    let bridges = scene.node.ari("GET", "/bridges", None)?.body;
    ensure!(!bridges.contains("mqs-talk-"), "{bridges}");
    lab.tell("no channel and no talk left");
    Ok(())
}

/// Each phone says no in its own way; the call keeps waiting.
fn tells_the_ends_of_offers_apart(lab: &Lab) -> Result<()> {
    let ends = [
        ("486 Busy Here", "busy"),
        ("600 Busy Everywhere", "busy"),
        ("603 Decline", "refused"),
        ("480 Temporarily Unavailable", "unregistered"),
        ("404 Not Found", "unregistered"),
        ("408 Request Timeout", "unreachable"),
        ("500 Server Internal Error", "unreachable"),
        ("503 Service Unavailable", "unreachable"),
        ("403 Forbidden", "fenced"),
        ("488 Not Acceptable Here", "refused"),
        ("", "no-answer"),
    ];
    let agents: Vec<String> = (0..ends.len()).map(|n| format!("a{n}")).collect();
    let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
    let mut scene = Scene::set(lab, Answering::Entry, &agents)?;
    let mut caller = scene.caller(lab, Duration::from_secs(60))?;
    scene.leader.wait("enqueued")?;
    let says_no = std::fs::read_to_string(parts::checkout().join("sipp-scenarios/node-603.xml"))?;
    for ((status, end), agent) in ends.into_iter().zip(&agents) {
        let scenario = match status {
            "" => Scenario::File("node-ring-forever.xml"),
            _ => Scenario::Text(says_no.replace("603 Decline", status).leak()),
        };
        let phone = scene.phone(lab, agent, scenario)?;
        scene.leader.login(agent);
        let told = |line: &str| line.contains("offer-ended") && line.contains(&format!("\"{agent}\""));
        net::wait_until("the offer's end", LIMIT, || Ok(scene.leader.events().lines().any(told)))?;
        let events = scene.leader.events();
        let line = events.lines().find(|line| told(line)).unwrap_or_default();
        ensure!(line.contains(&format!("\"how\":\"{end}\"")), "{status}: {line}");
        scene.leader.logout(agent);
        net::wait_until("only the caller is left", LIMIT, || Ok(scene.node.channels()?.len() == 1))?;
        drop(phone);
    }
    lab.tell(format!("{} ends told apart", ends.len()));
    // After all of that, somebody takes the call.
    let _phone = scene.phone(lab, "phone", Scenario::File("node.xml"))?;
    scene.leader.register("a0", "k1");
    scene.leader.send("again", &Command::Login(name("a0")));
    scene.leader.wait("connected")?;
    caller.process.stop()?;
    Ok(())
}

/// `entry`: at once. `agent`: not before one is there, and it rings until then. `early`: media flow, and still no answer.
fn answers_callers_when_the_queue_says(lab: &Lab) -> Result<()> {
    for (answering, state) in
        [(Answering::Entry, "Up"), (Answering::Agent, "Ring"), (Answering::Early, "Ring")]
    {
        let mut scene = Scene::set(lab, answering, &["ann"])?;
        let _phone = scene.phone(lab, "phone", Scenario::File("node.xml"))?;
        let mut caller = scene.caller(lab, Duration::from_secs(2))?;
        scene.leader.wait("enqueued")?;
        std::thread::sleep(Duration::from_millis(300));
        let channels = scene.node.channels()?;
        ensure!(channels.len() == 1 && channels[0]["state"] == state, "{answering:?}: {channels:?}");
        scene.leader.login("ann");
        scene.leader.wait("connected")?;
        let channels = scene.node.channels()?;
        ensure!(channels.iter().all(|channel| channel["state"] == "Up"), "{answering:?}: {channels:?}");
        ensure!(caller.success(LIMIT)?.successful() == 1);
        scene.is_empty()?;
    }
    lab.tell("answered on entry, by the agent, early");
    Ok(())
}
