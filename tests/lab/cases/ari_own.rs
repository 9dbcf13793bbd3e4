//! Requests over the connection that a real Asterisk makes by itself: how long an answer takes, and how large it may be.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mqs::cell::pilot::Settings;
use mqs::cell::shell::{Nodes, Running};
use mqs::clock;
use mqs::domain::id::{CellId, NodeId};
use mqs::domain::queue::Answering;
use mqs::inbound::listen::Stream;
use mqs::inbound::nodes::Quick;
use mqs::outbound::ari::client::Answer;
use mqs::outbound::ari::{Address, AriNodes, At, Options};
use mqs::store::memory::MemoryStore;
use mqs::wire::ari::request;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::ari::setup;
use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::net::{self, now};
use crate::parts::Part;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "ari::own_connection_answers_soon", needs: &[Part::Asterisk], run: answers_soon },
    Case { name: "ari::own_connection_lists_a_full_node", needs: &[Part::Asterisk], run: lists_a_full_node },
];

const LIMIT: Duration = Duration::from_secs(20);

fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A node that connects, and a leader in this process.
struct Scene {
    runtime: Runtime,
    node: Asterisk,
    id: NodeId,
    ari: Arc<AriNodes>,
    _running: Running,
}

impl Scene {
    /// `quick`: what comes is acknowledged at once.
    fn set(lab: &Lab, quick: bool) -> Result<Scene> {
        let at: SocketAddr = (lab.address(), 8090).into();
        let config = NodeConfig {
            options: vec!["--ari-connect".to_owned(), format!("ws://{at}/ari/ast1")],
            dialplan: Some("[site]\nexten => wait,1,Answer()\n same => n,Wait(600)\n".to_owned()),
            ..NodeConfig::behind(std::net::SocketAddrV4::new(lab.address(), 5060))
        };
        let runtime = Runtime::new()?;
        // Of a second leader in this process: the first one's goes on.
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(std::env::var("MQS_LOG").unwrap_or_default())
            .try_init();
        let id: NodeId = name("ast1");
        let node = Asterisk::start(lab, "ast1", &config)?;
        let (user, password) = node.ari_user();
        let options = Options {
            app: "mqs".into(),
            user: user.to_owned(),
            password: "not used".to_owned(),
            own_password: password.to_owned(),
            timeout: Duration::from_millis(1500),
            connections_max: 1,
            sign: Arc::new(|_, _| String::new()),
            seen: Arc::new(|_, _, _| {}),
            desk: None,
            metrics: Arc::default(),
        };
        let ari = Arc::new(AriNodes::new(options));
        ari.know([(id.clone(), Address { pool: name("default"), at: At::Comes })].into());
        let running = runtime.block_on(async {
            let listener = TcpListener::bind(at).await?;
            let taker = ari.clone();
            tokio::spawn(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    let stream = Stream::Tcp(stream);
                    if quick {
                        taker.take(Quick::new(stream), &peer.to_string()).await;
                    } else {
                        taker.take(stream, &peer.to_string()).await;
                    }
                }
            });
            let store = Arc::new(MemoryStore::new(Box::new(clock::wall)));
            let settings = Settings { holder: "one".to_owned(), seed: 1, seeded: None };
            let running = Running::start(name::<CellId>("main"), settings, store, ari.clone());
            let mut setup = Arc::unwrap_or_clone(setup(Answering::Entry, &[]));
            setup.queues.values_mut().for_each(|queue| queue.waiting_max = 10_000);
            running.set_up(Arc::new(setup), vec![id.clone()]).await;
            Ok::<Running, anyhow::Error>(running)
        })?;
        net::wait_until("attached", LIMIT, || Ok(ari.is_attached(&id)))?;
        Ok(Scene { runtime, node, id, ari, _running: running })
    }

    /// How long answers take, sorted.
    fn times(&self, count: usize, pause: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..count {
            // Nobody asks without a pause: the connection is to forget that it was in a hurry.
            std::thread::sleep(pause);
            let begun = now();
            let answers = self.runtime.block_on(async {
                let info = request::info();
                // The second answer is what has to wait: for the acknowledgement of the first.
                tokio::join!(self.ari.ask(&self.id, &info), self.ari.ask(&self.id, &info))
            });
            times.push(begun.elapsed());
            for answer in [answers.0, answers.1] {
                let answer = answer.context("not known")??;
                ensure!(matches!(answer, Answer::Done(_)), "{answer:?}");
            }
        }
        times.sort_unstable();
        Ok(times)
    }
}

fn answers_soon(lab: &Lab) -> Result<()> {
    for quick in [false, true] {
        let scene = Scene::set(lab, quick)?;
        for pause in [0, 5] {
            let times = scene.times(100, Duration::from_millis(pause))?;
            let (p50, p99) = (times[50], times[98]);
            lab.tell(format!("quick {quick}, pause {pause} ms: p50 {p50:?}, p99 {p99:?}"));
            ensure!(!quick || p50 < Duration::from_millis(10), "p50 {p50:?}");
        }
    }
    Ok(())
}

/// More than Asterisk can say in one answer over this connection: it would not survive the attempt.
fn lists_a_full_node(lab: &Lab) -> Result<()> {
    const CALLS: usize = 600;
    let mut scene = Scene::set(lab, true)?;
    for _ in 0..CALLS {
        let path = "/channels?endpoint=Local/wait@site&app=mqs&appArgs=in,sales";
        let answer = scene.node.ari("POST", path, None)?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    }
    let list = |scene: &Scene| {
        let begun = now();
        let listed = scene.runtime.block_on(scene.ari.list(&scene.id, clock::wall()));
        listed.map(|listed| (listed, begun.elapsed())).context("no listing")
    };
    net::wait_until("all wait", LIMIT, || {
        let callers = list(&scene)?.0.callers;
        Ok(callers.len() == CALLS && callers.iter().all(|caller| caller.enqueued.is_some()))
    })?;
    let (listed, after) = list(&scene)?;
    let bytes = scene.node.ari("GET", "/channels", None)?.body.len();
    lab.tell(format!("{} callers, {bytes} bytes in one answer; listed in {after:?}", listed.callers.len()));
    ensure!(bytes > 500_000, "{bytes} bytes are not much");
    ensure!(after < Duration::from_secs(2), "{after:?}");
    ensure!(scene.ari.is_attached(&scene.id), "the connection has ended");
    scene.node.process.check()
}
