//! What operators see of a call centre: figures of one call, and what `mqs check` says of a node, right and wrong.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::mqs::{Mqs, MqsConfig, Node, Pool};
use crate::net::wait_until;
use crate::parts::Part;
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] = &[
    Case { name: "queue::the_figures_of_one_call", needs: PARTS, run: figures_of_one_call },
    Case { name: "queue::a_check_asks_the_nodes_over_ari", needs: &[Part::Asterisk], run: check_over_ari },
];

/// Metrics of an instance: the value of each line.
fn figures(mqs: &Mqs) -> Result<BTreeMap<String, f64>> {
    let text = mqs.http("GET", "/metrics", None)?.body;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((name.to_owned(), value.parse().with_context(|| line.to_owned())?))
        })
        .collect()
}

fn figures_of_one_call(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan::default())?;
    let mut callers = floor.callers(1, 1, Duration::from_secs(4))?;
    floor.wait_for("enqueued", 1, LIMIT)?;
    std::thread::sleep(Duration::from_millis(2_500));
    let waiting = figures(&floor.instances[0])?;
    let has = |found: &BTreeMap<String, f64>, name: &str, from: f64, to: f64| {
        let value = found.get(name).with_context(|| format!("no {name} in {found:#?}"))?;
        ensure!((from..=to).contains(value), "{name} is {value}, not in {from}..={to}");
        Ok(())
    };
    has(&waiting, "mqs_queue_waiting{queue=\"sales\"}", 1.0, 1.0)?;
    has(&waiting, "mqs_queue_longest_wait_seconds{queue=\"sales\"}", 1.5, 10.0)?;
    has(&waiting, "mqs_queue_agents{queue=\"sales\",state=\"offline\"}", 1.0, 1.0)?;
    has(&waiting, "mqs_cell_leads{}", 1.0, 1.0)?;
    has(&waiting, "mqs_ari_attached{node=\"ast1\"}", 1.0, 1.0)?;

    let _phones = floor.phones(Scenario::File("agent.xml"), Duration::from_millis(300))?;
    floor.login([1])?;
    floor.wait_for("connected", 1, LIMIT)?;
    // A channel is there now, and shows its variables.
    let (content, said) = floor.instances[0].check()?;
    println!("{said}");
    ensure!(content && said.contains("channelvars: complete"), "{said}");
    ensure!(said.contains("application mqs attached"), "{said}");
    callers.success(LIMIT)?;
    floor.wait_for("offer-ended", 1, LIMIT)?;
    floor.is_empty()?;
    let ended = |found: &BTreeMap<String, f64>| {
        found.contains_key("mqs_queue_ended_total{queue=\"sales\",reason=\"caller-hung-up\"}")
    };
    wait_until("the end of the call is counted", LIMIT, || Ok(ended(&figures(&floor.instances[0])?)))?;
    let done = figures(&floor.instances[0])?;
    for (name, from, to) in [
        ("mqs_queue_entered_total{queue=\"sales\"}", 1.0, 1.0),
        ("mqs_queue_answered_total{queue=\"sales\"}", 1.0, 1.0),
        ("mqs_queue_wait_seconds_count{queue=\"sales\"}", 1.0, 1.0),
        ("mqs_queue_wait_seconds_sum{queue=\"sales\"}", 2.5, 30.0),
        ("mqs_queue_offers_total{queue=\"sales\",result=\"taken\"}", 1.0, 1.0),
        ("mqs_queue_ended_total{queue=\"sales\",reason=\"caller-hung-up\"}", 1.0, 1.0),
        ("mqs_queue_waiting{queue=\"sales\"}", 0.0, 0.0),
        ("mqs_match_seconds_count{}", 1.0, 1.0),
        ("mqs_match_seconds_sum{}", 0.0, 0.2),
        ("mqs_cell_leader_changes_total{change=\"leads\"}", 1.0, 1.0),
        ("mqs_cell_commits_total{result=\"done\"}", 5.0, 1_000.0),
        ("mqs_ari_request_seconds_count{node=\"ast1\",result=\"done\"}", 5.0, 1_000.0),
        ("mqs_ari_attachments_total{node=\"ast1\"}", 1.0, 1.0),
        ("mqs_ari_ping_seconds_count{node=\"ast1\"}", 1.0, 1_000.0),
    ] {
        has(&done, name, from, to)?;
    }
    let mean = |name: &str, labels: &str| {
        let of = |what: &str| done.get(&format!("{name}_{what}{{{labels}}}")).copied().unwrap_or(f64::NAN);
        of("sum") / of("count") * 1000.0
    };
    lab.tell(format!(
        "commits {:.2} ms, requests {:.2} ms, pings {:.2} ms, match {:.0} ms, on average",
        mean("mqs_cell_commit_seconds", ""),
        mean("mqs_ari_request_seconds", "node=\"ast1\",result=\"done\""),
        mean("mqs_ari_ping_seconds", "node=\"ast1\""),
        mean("mqs_match_seconds", ""),
    ));
    Ok(())
}

/// A configuration that names nodes as they are, and as they are not.
fn check_over_ari(lab: &Lab) -> Result<()> {
    let proxy = SocketAddrV4::new(lab.address(), 5060);
    let mut node = Asterisk::start(lab, "ast1", &NodeConfig::behind(proxy))?;
    let (http, node_uri) = (node.http(), node.uri());
    let check = |user: &str, password: &str| {
        let file = lab.write("ari.secret", password)?;
        let extra = format!(
            "[cell]\n[ari]\nuser = {user:?}\npassword_file = {:?}\n[[queue]]\nid = \"sales\"\n",
            file.display().to_string()
        );

        let extra = extra.replace("[ari]\n", &format!("[ari]\nport = {}\n", http.port()));
        let pool = Pool::new("p", vec![Node::new("ast1", node_uri.clone(), 10)]);
        let config = MqsConfig { extra, ..MqsConfig::new("mqs", "memory:", vec![pool]) };
        let said = Mqs::check_only(lab, &config)?;
        let lines = said.lines().filter(|line| line.contains(" p/ast1 ") && line.contains("http"));
        Ok::<String, anyhow::Error>(
            lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect(),
        )
    };
    let (user, password) = node.ari_user();
    let here = format!("http://{http}");
    let well = check(user, password)?;
    println!("{well}");
    ensure!(well.starts_with(&format!("ok ari p/ast1 {here}: Asterisk 2")), "{well}");
    ensure!(well.contains("application mqs not attached: nobody drives it"), "{well}");
    ensure!(well.contains("ok ari p/ast1") && well.contains("channelvars: not known"), "{well}");
    ensure!(!well.contains("apart") && !well.contains("403") && !well.contains("error"), "{well}");
    let unknown = format!("error ari p/ast1 {here}: 401: it knows no such user, or another password\n");
    for (user, password) in [(user, "another"), ("nobody", password)] {
        let said = check(user, password)?;
        println!("{user}: {said}");
        ensure!(said == unknown, "{user}: {said}");
    }
    node.process.stop()?;
    let closed = check(user, password)?;
    println!("{closed}");
    ensure!(
        closed.starts_with(&format!("error ari p/ast1 {here}: ")) && closed.contains("refused"),
        "{closed}"
    );
    Ok(())
}
