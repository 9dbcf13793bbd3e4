//! What `asterisk/make-node` makes of versions and of wrong options; an Asterisk that joins as docs/asterisk.md says.

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, UdpSocket};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::ari::App;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::parts::{self, Part};
use crate::phone::Invite;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "node::suits_older_versions", needs: &[Part::Asterisk], run: suits_older_versions },
    Case { name: "node::refuses_wrong_options", needs: &[Part::Asterisk], run: refuses_wrong_options },
    Case { name: "node::joins_as_the_manual_says", needs: &[Part::Asterisk], run: joins_as_the_manual_says },
];

const SOON: Duration = Duration::from_secs(5);

/// Runs the generator alone; nothing of it is started.
fn generate(lab: &Lab, options: &[&str]) -> Result<Output> {
    let program = lab.parts().get(Part::Asterisk)?;
    let mut command = Command::new(parts::checkout().join("asterisk/make-node"));
    command.args(["--id", "old1", "--address", "127.0.0.1", "--ari-secret", "a-lab-secret", "--directory"]);
    command.arg(program.sees(&lab.path("old1"))?);
    if let Some(root) = &program.root {
        command.arg("--root").arg(root);
    }
    command.args(options).output().context("running asterisk/make-node")
}

/// The versions are those in which the sections and options appeared, by Asterisk's own documentation.
fn suits_older_versions(lab: &Lab) -> Result<()> {
    for (version, pool, acl, connects) in [
        ("20.14.0", "threadpool", false, false),
        ("20.15.0", "threadpool", false, true),
        ("20.17.0", "taskpool", false, true),
        ("20.19.0", "taskpool", true, true),
        ("21.12.0", "threadpool", false, true),
        ("Asterisk 22.4.1", "threadpool", false, false),
        ("22.7.0", "taskpool", false, true),
        ("22.10.1", "taskpool", true, true),
        ("23.0.0", "threadpool", false, true),
        ("24.0.0", "taskpool", true, true),
    ] {
        let made = generate(lab, &["--kamailio", "127.0.0.2", "--asterisk-version", version])?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        ensure!(made.status.success(), "{version}: {said}");
        let read = |name: &str| std::fs::read_to_string(lab.path(&format!("old1/etc/{name}")));
        ensure!(
            read("stasis.conf")?.contains(&format!("\n[{pool}]\n")),
            "{version}: {}",
            read("stasis.conf")?
        );
        ensure!(read("stasis.conf")?.contains("minimum_size") == (pool == "taskpool"), "{version}");
        ensure!(read("ari.conf")?.contains("permit = ") == acl, "{version}: {}", read("ari.conf")?);
        ensure!(said.contains("firewall") != acl, "{version}: {said}");
        let options =
            ["--kamailio", "127.0.0.2", "--asterisk-version", version, "--ari-connect", "ws://127.0.0.3:1/a"];
        ensure!(generate(lab, &options)?.status.success() == connects, "{version}: --ari-connect");
    }
    Ok(())
}

fn refuses_wrong_options(lab: &Lab) -> Result<()> {
    let wrong: [&[&str]; 15] = [
        &[],
        &["--kamailio", "k1=10.0.0.1", "--kamailio", "K1=10.0.0.2"],
        &["--kamailio", "k2=10.0.0.1", "--kamailio", "10.0.0.2"],
        &["--kamailio", "tcp=10.0.0.1"],
        &["--kamailio", "10.0.0.1/tls"],
        &["--kamailio", "10.0.0.1;x"],
        &["--kamailio", "10.0.0.1", "--queue", "s=sales"],
        &["--kamailio", "10.0.0.1", "--queue", "7000=sa les"],
        &["--kamailio", "10.0.0.1", "--queue", "7000=sales,1001"],
        &["--kamailio", "10.0.0.1", "--queue", "7000=sales)\nexten => x"],
        &["--kamailio", "10.0.0.1", "--code-login", "*46"],
        &["--kamailio", "10.0.0.1", "--sound-sorry", "../etc/passwd"],
        &["--kamailio", "10.0.0.1", "--voicemail", "/nowhere"],
        &["--kamailio", "10.0.0.1", "--ari-connect", "http://10.0.0.1"],
        &["--kamailio", "10.0.0.1", "--asterisk-version", "18.9.0"],
    ];
    for options in wrong {
        let made = generate(lab, options)?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        ensure!(made.status.code() == Some(2) && said.starts_with("make-node: "), "{options:?}: {said}");
        ensure!(!lab.path("old1/etc").exists(), "{options:?}: something was written");
    }
    Ok(())
}

/// The blocks of the manual that begin with "; NAME.conf", by file.
fn blocks() -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut file = None;
    for line in include_str!("../../../docs/asterisk.md").lines().map(str::trim) {
        if line.starts_with("```") {
            file = None;
        } else if let Some(name) = line.strip_prefix("; ").filter(|name| name.ends_with(".conf")) {
            file = Some(name.to_owned());
        } else if let Some(file) = &file {
            found.entry(file.clone()).or_default().push_str(&format!("{line}\n"));
        }
    }
    found
}

/// An Asterisk with `autoload` and a transport of its own, and nothing else but what the manual says.
fn joins_as_the_manual_says(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let mut node = Asterisk::start(lab, "ast1", &NodeConfig::behind(kamailio))?;
    let mut blocks = blocks();
    let names: Vec<&str> = blocks.keys().map(String::as_str).collect();
    ensure!(
        names == ["ari.conf", "asterisk.conf", "extensions.conf", "http.conf", "pjsip.conf"],
        "{names:?}"
    );
    let directories = std::fs::read_to_string(lab.path("ast1/etc/asterisk.conf"))?;
    let directories = directories.split("[options]").next().unwrap_or_default().to_owned();
    let own = format!("[udp]\ntype = transport\nprotocol = udp\nbind = {}\n", node.sip());
    for (name, before) in [("asterisk.conf", directories), ("pjsip.conf", own)] {
        let text = blocks.get_mut(name).context(name)?;
        text.insert_str(0, &format!("{before}\n"));
    }
    blocks.insert(
        "modules.conf".to_owned(),
        "[modules]\nautoload = yes\nnoload = chan_iax2.so\nnoload = chan_unistim.so\n".to_owned(),
    );
    blocks.insert("stasis.conf".to_owned(), String::new());
    let (_, secret) = node.ari_user();
    for (name, text) in &blocks {
        let text = text.replace("10.0.1.1", &node.sip().ip().to_string());
        let text = text.replace("permit = 10.0.0.10", "permit = 127.0.0.1");
        let text = text.replace("10.0.0.10", &kamailio.ip().to_string());
        lab.write(&format!("ast1/etc/{name}"), &text.replace("put-a-secret-here", secret))?;
    }
    node.restart(lab)?;

    let mut app = App::attach(&node, "mqs")?;
    let socket = UdpSocket::bind(kamailio)?;
    let lease = ["X-MQS-Lease: m1.x"];
    let mut call = Invite::to("7001", "manual").with(&lease).send(&socket, node.sip())?;
    let start = app.event("StasisStart", SOON)?;
    ensure!(start["args"] == serde_json::json!(["in", "support", "manual", "m1.x"]), "{start}");
    ensure!(start["channel"]["channelvars"]["MQS_WISHES"] == "german,visa", "{start}");
    let id = start["channel"]["id"].as_str().unwrap_or_default().to_owned();
    ensure!(id.starts_with("ast1-") && start["asterisk_id"] == "02:00:0a:00:01:01", "{start}");
    let to = "context=mqs-announce&extension=sorry&priority=1";
    ensure!(node.ari("POST", &format!("/channels/{id}/continue?{to}"), None)?.status == 204, "going on");
    call.wait_end(SOON)?;
    ensure!(call.heard() > 20, "{}", call.story());

    let who = ["P-Asserted-Identity: <sip:anne@example.com>"];
    let mut code = Invite::to("*45", "code").with(&who).send(&socket, node.sip())?;
    let start = app.event("StasisStart", SOON)?;
    ensure!(start["args"] == serde_json::json!(["code", "login", "anne"]), "{start}");
    code.cancel()?;

    let query = "endpoint=PJSIP%2Fk1%2Fsip:anne@example.com&app=mqs&channelId=leg";
    ensure!(node.ari("POST", &format!("/channels?{query}"), None)?.status == 200, "ringing an agent");
    socket.set_read_timeout(Some(SOON))?;
    let mut buffer = [0; 4096];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).context("no INVITE for the agent")?;
        if buffer[..length].starts_with(b"INVITE sip:anne@example.com SIP/2.0\r\n") {
            return Ok(());
        }
    }
}
