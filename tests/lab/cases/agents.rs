//! Agents on a real Kamailio: their registrations are told, an offer's token lets one leg ring, and what they call shows who they
//! are. The helper is a server in this process, so that the tests can be the leader who makes offers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mqs::dispatch::cell::Cell;
use mqs::dispatch::settings::Settings;
use mqs::dispatch::{Dispatcher, nodes};
use mqs::domain::id::CellId;
use mqs::domain::time::EpochMs;
use mqs::store::cell::{Batch, CellStore, Change, Opened, Position, Registration};
use mqs::store::memory::MemoryStore;
use mqs::telemetry::metrics::Metrics;
use mqs::wire::offer_token::OfferToken;
use mqs::wire::token::{Secret, own_call};
use mqs::{clock, config, inbound};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Case;
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::net::{now, wait_until};
use crate::parts::Part;
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};

const PARTS: &[Part] = &[Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::KamailioNew, Part::Sipp];

pub const CASES: &[Case] = &[
    Case { name: "agents::registrations_are_told", needs: PARTS, run: registered },
    Case { name: "agents::registrations_are_told_over_http", needs: PARTS, run: registered_http },
    Case { name: "agents::registrations_are_told_by_kamailio_6", needs: PARTS_NEW, run: registered_6 },
    Case { name: "agents::a_token_lets_one_leg_ring", needs: PARTS, run: rings },
    Case { name: "agents::a_token_lets_one_leg_ring_over_http", needs: PARTS, run: rings_http },
    Case { name: "agents::a_token_lets_one_leg_ring_on_kamailio_6", needs: PARTS_NEW, run: rings_6 },
    Case { name: "agents::who_calls_is_who_registered", needs: PARTS, run: calls },
    Case { name: "agents::who_calls_is_who_registered_on_kamailio_6", needs: PARTS_NEW, run: calls_6 },
    Case { name: "agents::own_calls_are_told", needs: PARTS, run: own },
    Case { name: "agents::own_calls_are_told_over_http", needs: PARTS, run: own_http },
    Case { name: "agents::own_calls_are_told_by_kamailio_6", needs: PARTS_NEW, run: own_6 },
];

/// What runs each day. The same in other ways (over HTTP, on the other Kamailio) takes turns.
pub const ALWAYS: &[&str] = &[
    "agents::registrations_are_told",
    "agents::a_token_lets_one_leg_ring",
    "agents::who_calls_is_who_registered",
    "agents::own_calls_are_told",
];

const LIMIT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);
const DOMAIN: &str = "pbx.example";
const GRACE_MS: u64 = 30_000;

/// A Kamailio, its helper, one node, one phone.
struct Scene<'a> {
    lab: &'a Lab,
    helper: Helper,
    kamailio: Kamailio,
    node: Ipv4Addr,
    trunk: Ipv4Addr,
    phone: SocketAddrV4,
    /// Each SIPp has a name of its own.
    made: u32,
}

impl<'a> Scene<'a> {
    fn set(lab: &'a Lab, version: Version, http: bool) -> Result<Scene<'a>> {
        let (node, trunk) = (lab.address(), lab.address());
        let helper = Helper::start(lab, node)?;
        let config = KamailioConfig::new(lab, "kamailio");
        let config = config.project(lab, version, &helper.socket, &[trunk], &[("ast1", node)])?;
        let mut config = config.define("SIP_DOMAIN", DOMAIN).define("AGENT_SILENT_MS", 1000);
        if http {
            config = config.switch("WITH_MQS_HTTP").define("MQS_HTTP", format!("http://{}", helper.http));
        }
        let kamailio = Kamailio::start(lab, version, config)?;
        kamailio.rpc(lab, &["htable.sets", "agent", "agent17", "secret"])?;
        let phone = SocketAddrV4::new(lab.address(), 5060);
        Ok(Scene { lab, helper, kamailio, node, trunk, phone, made: 0 })
    }

    fn sipp(&mut self, what: &str, scenario: &'static str, from: SocketAddrV4) -> sipp::SippConfig {
        self.made += 1;
        let name = format!("{what}{}", self.made);
        let call = sipp::caller(&name, Scenario::File(scenario), self.kamailio.address());
        call.local(from).key("domain", DOMAIN).service("agent17")
    }

    /// REGISTER with digest, from a port beside the phone's: that may be in a call.
    fn register(&mut self, contact: &str, expires_s: u32) -> Result<()> {
        let from = SocketAddrV4::new(*self.phone.ip(), 5071);
        let register = self.sipp("register", "agent-register.xml", from);
        let register = register.key("contact", contact).key("expires", &expires_s.to_string());
        register.option("-au", "agent17").option("-ap", "secret").start(self.lab)?.success(LIMIT)?;
        Ok(())
    }

    fn contact(&self) -> String {
        format!("<sip:agent17@{}>", self.phone)
    }

    /// What comes of an INVITE with this token: the code, and the Reason.
    fn leg(&mut self, from: Ipv4Addr, agent: &str, token: &str) -> Result<String> {
        let call = self.sipp("leg", "node-calls-agent.xml", SocketAddrV4::new(from, 5070));
        let call = call.service(agent).key("offer", token).hold(Duration::from_millis(300));
        finish(call.start(self.lab)?)
    }

    /// INVITEs that the phone saw.
    fn rung(phone: &Sipp) -> Vec<String> {
        phone.logs().into_iter().filter(|line| line.contains("event=invite")).collect()
    }
}

/// `answered`, or `403 …` with the Reason.
fn finish(mut sipp: Sipp) -> Result<String> {
    sipp.success(LIMIT)?;
    let logs = sipp.logs();
    ensure!(logs.len() == 1, "{logs:?}");
    Ok(match logs[0].split_once("code=") {
        Some((_, refused)) => refused.to_owned(),
        None => "answered".to_owned(),
    })
}

fn registered(lab: &Lab) -> Result<()> {
    registrations(Scene::set(lab, Version::System, false)?)
}

fn registered_http(lab: &Lab) -> Result<()> {
    registrations(Scene::set(lab, Version::System, true)?)
}

fn registered_6(lab: &Lab) -> Result<()> {
    registrations(Scene::set(lab, Version::New, false)?)
}

fn registrations(mut scene: Scene<'_>) -> Result<()> {
    let contact = scene.contact();
    scene.register(&contact, 300)?;
    scene.helper.wait_for(300_000, 300_000)?;
    // What counts is what was granted: less than a minute is not.
    scene.register(&contact, 10)?;
    scene.helper.wait_for(60_000, 60_000)?;
    scene.register(&contact, 0)?;
    scene.helper.wait_gone()?;
    scene.register(&contact, 300)?;
    scene.helper.wait_for(300_000, 300_000)?;
    scene.register("*", 0)?;
    scene.helper.wait_gone()?;
    // A second phone takes the place of the first; when the first leaves, the agent is still there.
    let second = format!("<sip:agent17@{}:5060>", scene.lab.address());
    scene.register(&contact, 300)?;
    scene.register(&second, 200)?;
    scene.helper.wait_for(200_000, 200_000)?;
    scene.register(&contact, 0)?;
    std::thread::sleep(Duration::from_millis(300));
    scene.helper.wait_for(195_000, 200_000)?;
    scene.register("*", 0)?;
    scene.helper.wait_gone()?;

    // Away: nobody waits for it, and what is told late is what is left.
    scene.helper.stop()?;
    let began = now();
    scene.register(&contact, 300)?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(2), "the phone waited {took:?}");
    std::thread::sleep(Duration::from_secs(3));
    scene.helper.listen()?;
    scene.helper.wait_for(290_000, 297_500)?;
    scene.helper.stop()?;
    scene.register(&contact, 0)?;
    scene.helper.listen()?;
    scene.helper.wait_gone()
}

fn rings(lab: &Lab) -> Result<()> {
    one_leg_rings(Scene::set(lab, Version::System, false)?)
}

fn rings_http(lab: &Lab) -> Result<()> {
    one_leg_rings(Scene::set(lab, Version::System, true)?)
}

fn rings_6(lab: &Lab) -> Result<()> {
    one_leg_rings(Scene::set(lab, Version::New, false)?)
}

fn one_leg_rings(mut scene: Scene<'_>) -> Result<()> {
    let (lab, node, trunk) = (scene.lab, scene.node, scene.trunk);
    let contact = scene.contact();
    scene.register(&contact, 300)?;
    let phone = sipp::callee("phone", Scenario::File("agent.xml")).local(scene.phone);
    let phone = phone.hold(Duration::from_millis(300)).start(lab)?;
    let mut asterisk = sipp::callee("asterisk", Scenario::File("agent.xml"));
    asterisk = asterisk.local(SocketAddrV4::new(node, 5060));
    let asterisk = asterisk.start(lab)?;
    for offer in ["o1", "o2", "o3", "o4", "o5"] {
        scene.helper.issue(offer)?;
    }

    // Rings, counted on the caller's node while it is up; the phone sees who calls, and no token.
    let token = scene.helper.token("o1");
    let call = scene.sipp("leg", "node-calls-agent.xml", SocketAddrV4::new(node, 5070));
    let call = call.key("offer", &token).hold(Duration::from_secs(2)).start(lab)?;
    wait_until("the leg is counted", SOON, || Ok(scene.helper.load() == 1))?;
    ensure!(finish(call)? == "answered", "the agent was not rung");
    scene.helper.wait_load(0)?;
    let rung = Scene::rung(&phone);
    ensure!(rung.len() == 1, "{rung:?}");
    ensure!(rung[0].contains(" lease= offer= pai=sip:+4930123@"), "{rung:?}");

    // The same token in another INVITE; an altered one; one of a leader that leads no more; none at all.
    let seen = scene.leg(node, "agent17", &token)?;
    ensure!(seen.starts_with("403") && seen.contains("MQS VOID: used"), "{seen}");
    let altered = scene.helper.token("o2").replace(".ast1.", ".ast2.");
    let seen = scene.leg(node, "agent17", &altered)?;
    ensure!(seen.starts_with("403") && seen.contains("MQS VOID: altered"), "{seen}");
    let seen = scene.leg(node, "agent17", "nonsense")?;
    ensure!(seen.starts_with("403") && seen.contains("MQS VOID: altered"), "{seen}");
    scene.helper.lead_anew()?;
    let stale = scene.helper.token("o2");
    let seen = scene.leg(node, "agent17", &stale)?;
    ensure!(seen.starts_with("403") && seen.contains("MQS VOID: stale"), "{seen}");

    // A good token that was stolen: a stranger is asked who it is, a trunk's call is an ordinary call.
    for offer in ["o3", "o4", "o5"] {
        scene.helper.issue(offer)?;
    }
    let stolen = scene.helper.token("o3");
    let stranger = lab.address();
    let seen = scene.leg(stranger, "agent17", &stolen)?;
    ensure!(seen.starts_with("407"), "{seen}");
    ensure!(Scene::rung(&phone).len() == 1, "{:?}", Scene::rung(&phone));
    ensure!(scene.leg(trunk, "agent17", &stolen)? == "answered", "a trunk's call was not taken by the node");
    ensure!(Scene::rung(&phone).len() == 1, "{:?}", Scene::rung(&phone));
    let taken = Scene::rung(&asterisk);
    ensure!(taken.len() == 1 && taken[0].contains(" offer= "), "{taken:?}");
    // It is as good as new: nobody has used it.
    ensure!(scene.leg(node, "agent17", &stolen)? == "answered", "a stolen token was used up");

    // An agent who is not there, and what that leaves behind.
    let absent = scene.helper.token("o4");
    let seen = scene.leg(node, "agent18", &absent)?;
    ensure!(seen.starts_with("480"), "{seen}");
    scene.helper.wait_load(0)?;

    // Nobody to ask: nobody rings.
    scene.helper.stop()?;
    let good = scene.helper.token("o5");
    let seen = scene.leg(node, "agent17", &good)?;
    ensure!(seen.starts_with("503"), "{seen}");
    ensure!(Scene::rung(&phone).len() == 2, "{:?}", Scene::rung(&phone));
    scene.helper.listen()?;
    let mut seen = String::new();
    wait_until("the helper is asked again", SOON, || {
        seen = scene.leg(node, "agent17", &good)?;
        Ok(seen == "answered")
    })?;
    ensure!(Scene::rung(&phone).len() == 3, "{:?}", Scene::rung(&phone));
    scene.helper.wait_load(0)?;

    // A phone that is silent, although it is registered: told apart from one that is not.
    let silent = format!("<sip:agent17@{}:5060>", lab.address());
    scene.register(&silent, 300)?;
    scene.helper.issue("o6")?;
    let token = scene.helper.token("o6");
    let seen = scene.leg(node, "agent17", &token)?;
    ensure!(seen.starts_with("408"), "{seen}");
    ensure!(
        Scene::rung(&phone).len() == 3,
        "the phone that was replaced was rung: {:?}",
        Scene::rung(&phone)
    );
    scene.helper.wait_load(0)
}

fn calls(lab: &Lab) -> Result<()> {
    show_who_calls(Scene::set(lab, Version::System, false)?)
}

fn calls_6(lab: &Lab) -> Result<()> {
    show_who_calls(Scene::set(lab, Version::New, false)?)
}

/// A feature code reaches a node with the identity that the password proves, whatever the phone claims.
fn show_who_calls(mut scene: Scene<'_>) -> Result<()> {
    let asterisk = sipp::callee("asterisk", Scenario::File("agent.xml"));
    let asterisk = asterisk.local(SocketAddrV4::new(scene.node, 5060)).start(scene.lab)?;
    let call = |scene: &mut Scene<'_>, password: &str| -> Result<String> {
        let call = scene.sipp("code", "agent-calls.xml", SocketAddrV4::new(*scene.phone.ip(), 5070));
        let call =
            call.service("*45").key("user", "agent17").option("-au", "agent17").option("-ap", password);
        let mut sipp = call.start(scene.lab)?;
        sipp.finish(LIMIT)?;
        Ok(sipp.logs().join("\n"))
    };
    let seen = call(&mut scene, "secret")?;
    ensure!(seen.contains("event=answered"), "{seen}");
    let taken = Scene::rung(&asterisk);
    ensure!(taken.len() == 1 && taken[0].ends_with(&format!("pai=sip:agent17@{DOMAIN}")), "{taken:?}");
    ensure!(taken[0].contains("lease=m1."), "{taken:?}");
    let seen = call(&mut scene, "wrong")?;
    ensure!(!seen.contains("event=answered"), "{seen}");
    ensure!(Scene::rung(&asterisk).len() == 1, "{:?}", Scene::rung(&asterisk));
    scene.helper.wait_load(0)
}

fn own(lab: &Lab) -> Result<()> {
    own_calls(Scene::set(lab, Version::System, false)?)
}

fn own_http(lab: &Lab) -> Result<()> {
    own_calls(Scene::set(lab, Version::System, true)?)
}

fn own_6(lab: &Lab) -> Result<()> {
    own_calls(Scene::set(lab, Version::New, false)?)
}

/// What the leader is told of calls that an agent makes, and gets without an offer: not of codes, nor of what never was a call.
fn own_calls(mut scene: Scene<'_>) -> Result<()> {
    let lab = scene.lab;
    let start = r#"{"do":"own-calls-lost","proxy":"k1"}"#;
    wait_until("the start is told", SOON, || Ok(scene.helper.inbox()? == [start]))?;
    let asterisk = sipp::callee("asterisk", Scenario::File("agent.xml"));
    let _asterisk = asterisk.local(SocketAddrV4::new(scene.node, 5060)).start(lab)?;
    let call = |scene: &mut Scene<'_>, to: &str, password: &str| -> Result<String> {
        let call = scene.sipp("own", "agent-calls.xml", SocketAddrV4::new(*scene.phone.ip(), 5070));
        let call = call.service(to).key("user", "agent17").option("-au", "agent17").option("-ap", password);
        let mut call = call.hold(Duration::from_millis(500)).start(lab)?;
        call.finish(LIMIT)?;
        Ok(call.logs().join("\n"))
    };
    call(&mut scene, "*45", "secret")?;
    call(&mut scene, "600", "wrong")?;
    ensure!(scene.helper.inbox()? == [start], "{:?}", scene.helper.inbox()?);
    let own = call(&mut scene, "600", "secret")?;
    let words = |helper: &Helper| -> Result<Vec<String>> {
        let word = |text: &String| text.split('"').nth(3).unwrap_or_default().to_owned();
        Ok(helper.inbox()?.iter().skip(1).map(word).collect())
    };
    wait_until(
        "its end is told",
        SOON,
        || Ok(words(&scene.helper)? == ["own-call-began", "own-call-ended"]),
    )?;
    // The INVITE with the password is the second one.
    let call_id = own.split("call_id=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let name = own_call(call_id, 2);
    for text in scene.helper.inbox()?.iter().skip(1) {
        ensure!(text.contains("\"aor\":\"agent17@pbx.example\""), "{text}");
        ensure!(text.contains(&*name), "{text}: not {name}, of {own}");
    }
    // A call to the agent that no queue has made; then one that nobody answers.
    let contact = scene.contact();
    scene.register(&contact, 300)?;
    let phone = sipp::callee("phone", Scenario::File("agent.xml")).local(scene.phone);
    let mut phone = phone.hold(Duration::from_millis(300)).start(lab)?;
    let node = scene.node;
    let call = scene.sipp("direct", "caller.xml", SocketAddrV4::new(node, 5070));
    call.hold(Duration::from_millis(300)).start(lab)?.success(LIMIT)?;
    wait_until("its end is told", SOON, || Ok(words(&scene.helper)?.len() == 4))?;
    phone.process.kill()?;
    let call = scene.sipp("direct", "caller-expect-refusal.xml", SocketAddrV4::new(node, 5070));
    call.set("expect", "408").start(lab)?.success(LIMIT)?;
    wait_until("its end is told", SOON, || Ok(words(&scene.helper)?.len() == 6))?;
    ensure!(words(&scene.helper)?.chunks(2).all(|pair| pair == ["own-call-began", "own-call-ended"]));
    scene.helper.wait_load(0)
}

/// A helper in this process, which serves a cell, and the leader of that cell.
struct Helper {
    runtime: Runtime,
    dispatcher: Arc<Dispatcher>,
    store: Arc<MemoryStore>,
    socket: PathBuf,
    http: SocketAddrV4,
    listen: config::Listen,
    secret: Secret,
    cell: CellId,
    epoch: u64,
    seq: u64,
    serving: Option<(CancellationToken, Vec<JoinHandle<()>>)>,
}

impl Helper {
    fn start(lab: &Lab, node: Ipv4Addr) -> Result<Helper> {
        let runtime = Runtime::new()?;
        let socket = lab.path("mqs.sock");
        let http = SocketAddrV4::new(lab.address(), 8080);
        let text = format!(
            "[store]\nurl = \"memory:\"\n[listen]\nhttp = [\"{http}\"]\n[[pool]]\nname = \"default\"\n\
             [[pool.node]]\nid = \"ast1\"\nuri = \"sip:{node}:5060\"\ncapacity = 10\n"
        );
        let config = config::Config::parse(&text, "mqs.toml")?;
        let secret = Secret::new(&[b's'; 32])?;
        let settings = Settings::from_config(&config, secret.clone())?;
        let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
        let cell: CellId = "main".parse()?;
        let dispatcher = Dispatcher::new(settings, store.clone(), Arc::new(Metrics::new()));
        dispatcher.serve_cell(Cell { id: cell.clone(), store: store.clone() });
        runtime.block_on(dispatcher.start(&nodes::from_config(&config)))?;
        let mut helper = Helper {
            runtime,
            dispatcher,
            store,
            socket,
            http,
            listen: config.listen,
            secret,
            cell,
            epoch: 6,
            seq: 0,
            serving: None,
        };
        helper.lead_anew()?;
        helper.listen()?;
        Ok(helper)
    }

    fn listen(&mut self) -> Result<()> {
        let stop = CancellationToken::new();
        let unix = config::Endpoint::Unix(self.socket.clone());
        let resp = self.runtime.block_on(inbound::listen::Listener::bind(&unix, &self.listen))?;
        let options = inbound::resp::Options { connections_max: 64, idle_timeout_s: 30, token: None };
        let mut tasks = Vec::new();
        let serve = inbound::resp::serve(resp, self.dispatcher.clone(), options, stop.clone());
        tasks.push(self.runtime.spawn(serve));
        for at in &self.listen.http {
            let http = self.runtime.block_on(inbound::listen::Listener::bind(at, &self.listen))?;
            let options = inbound::http::Options {
                connections_max: 64,
                body_max_bytes: 65_536,
                header_timeout_ms: 1_000,
                idle_timeout_s: 30,
                token: None,
                reload: None,
                desk: None,
            };
            let serve = inbound::http::serve(http, self.dispatcher.clone(), options, stop.clone());
            tasks.push(self.runtime.spawn(serve));
        }
        open_to_all(&self.socket)?;
        self.serving = Some((stop, tasks));
        Ok(())
    }

    /// Closes all that is open.
    fn stop(&mut self) -> Result<()> {
        if let Some((stop, tasks)) = self.serving.take() {
            stop.cancel();
            for task in tasks {
                self.runtime.block_on(task)?;
            }
        }
        Ok(())
    }

    /// Another leader.
    fn lead_anew(&mut self) -> Result<()> {
        self.epoch += 1;
        match self.runtime.block_on(self.store.open(&self.cell, self.epoch, false))? {
            Opened::Here(image) => self.seq = image.seq,
            Opened::Fenced { epoch } => anyhow::bail!("epoch {epoch} leads"),
        }
        Ok(())
    }

    fn issue(&mut self, offer: &str) -> Result<()> {
        self.seq += 1;
        let batch = Batch {
            epoch: self.epoch,
            seq: self.seq,
            rewrite: None,
            changes: vec![Change::Issue { offer: offer.to_owned() }],
            cursor: Position(0),
            clock: EpochMs(0),
        };
        self.runtime.block_on(self.store.commit(&self.cell, &batch))?;
        Ok(())
    }

    fn token(&self, offer: &str) -> String {
        let token = OfferToken {
            cell: self.cell.clone(),
            pool: "default".parse().unwrap(),
            node: "ast1".parse().unwrap(),
            offer: offer.parse().unwrap(),
            leg: format!("leg-{offer}").parse().unwrap(),
        };
        token.sign(&self.secret)
    }

    fn load(&self) -> u32 {
        self.runtime.block_on(self.dispatcher.list(None)).unwrap().iter().map(|node| node.load).sum()
    }

    fn wait_load(&self, load: u32) -> Result<()> {
        wait_until(&format!("the load is {load}"), SOON, || Ok(self.load() == load))
    }

    /// What the leader is to read.
    fn inbox(&self) -> Result<Vec<String>> {
        let sent = self.runtime.block_on(self.store.inbox(&self.cell, Position(0), 100))?;
        Ok(sent.into_iter().map(|sent| sent.text).collect())
    }

    fn registrations(&self) -> Result<Vec<Registration>> {
        Ok(self.runtime.block_on(self.store.registrations(&self.cell))?)
    }

    /// The agent is known to be reachable for so long, in ms.
    fn wait_for(&self, least: u64, most: u64) -> Result<()> {
        let what = format!("registered for {least} to {most} ms");
        let fits = |found: &[Registration]| match found {
            [one] => {
                let ms = (one.until.0 - one.at.0).saturating_sub(GRACE_MS);
                // Kamailio counts in seconds, and one may pass on the way.
                let span = least.saturating_sub(1_000)..=most + 1_000;
                (one.aor.as_str(), one.proxy.as_str()) == ("agent17@pbx.example", "k1") && span.contains(&ms)
            }
            _ => false,
        };
        let waited = wait_until(&what, SOON, || Ok(fits(&self.registrations()?)));
        waited.map_err(|error| error.context(format!("{:?}", self.registrations())))
    }

    fn wait_gone(&self) -> Result<()> {
        wait_until("nobody is registered", SOON, || Ok(self.registrations()?.is_empty()))
    }
}

/// Kamailio runs as somebody else.
fn open_to_all(socket: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?)
}
