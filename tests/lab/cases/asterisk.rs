//! One node alone: `asterisk/make-node` makes a configuration that works, and that lets nobody else in.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Case;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::net;
use crate::parts::Part;
use crate::room::Lab;
use crate::sipp::{self, Scenario};

pub const CASES: &[Case] = &[
    Case { name: "asterisk::answers_a_call", needs: &[Part::Asterisk, Part::Sipp], run: answers_a_call },
    Case {
        name: "asterisk::takes_calls_from_kamailio_only",
        needs: &[Part::Asterisk, Part::Sipp],
        run: takes_calls_from_kamailio_only,
    },
    Case { name: "asterisk::ari_wants_the_secret", needs: &[Part::Asterisk], run: ari_wants_the_secret },
    Case {
        name: "asterisk::starts_without_complaints",
        needs: &[Part::Asterisk],
        run: starts_without_complaints,
    },
    Case {
        name: "asterisk::runs_a_sites_dialplan",
        needs: &[Part::Asterisk, Part::Sipp],
        run: runs_a_sites_dialplan,
    },
];

const LIMIT: Duration = Duration::from_secs(20);

fn answers_a_call(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let node = Asterisk::start(lab, "ast1", &NodeConfig::behind(kamailio))?;
    let call = sipp::caller("caller", Scenario::Builtin("uac"), node.sip()).local(kamailio).service("1234");
    let mut caller = call.calls(3).hold(Duration::from_millis(1500)).start(lab)?;
    // While the calls are up, Asterisk lists them under its own name.
    net::wait_until("a channel is up", LIMIT, || {
        let channels = node.channels()?;
        Ok(channels.iter().any(|channel| {
            channel["state"] == "Up" && channel["id"].as_str().is_some_and(|id| id.starts_with("ast1-"))
        }))
    })?;
    let stats = caller.success(LIMIT)?;
    ensure!(stats.successful() == 3, "{stats:?}");
    net::wait_until("no channel is left", LIMIT, || Ok(node.channels()?.is_empty()))
}

fn takes_calls_from_kamailio_only(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let node = Asterisk::start(lab, "ast1", &NodeConfig::behind(kamailio))?;
    let call = sipp::caller("stranger", Scenario::Builtin("uac"), node.sip()).service("1234");
    let mut stranger = call.strict().start(lab)?;
    let stats = stranger.finish(LIMIT)?;
    ensure!(stats.successful() == 0, "a stranger was let in: {stats:?}");
    ensure!(node.channels()?.is_empty(), "a stranger has a channel");
    Ok(())
}

fn ari_wants_the_secret(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let node = Asterisk::start(lab, "ast1", &NodeConfig::behind(kamailio))?;
    for (user, status) in [(Some(node.ari_user()), 200), (Some(("mqs", "guess")), 401), (None, 401)] {
        let answer = net::http("GET", node.http(), "/ari/channels", user, None)?;
        ensure!(answer.status == status, "{user:?}: {} instead of {status}", answer.status);
    }
    // Another address than those of --ari-client has no use for the secret.
    let away = NodeConfig {
        options: vec!["--ari-client".to_owned(), "10.1.2.3".to_owned()],
        ..NodeConfig::behind(kamailio)
    };
    let started = Asterisk::start_unasked(lab, "ast2", &away)?;
    let answer = net::http("GET", started.http(), "/ari/channels", Some(started.ari_user()), None)?;
    ensure!(answer.status == 403, "let in from elsewhere: {}", answer.status);
    Ok(())
}

fn starts_without_complaints(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let mut node = Asterisk::start(lab, "ast1", &NodeConfig::behind(kamailio))?;
    let log = node.process.log_text();
    // Without music files there is no music; this is said in asterisk/README.md.
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("ERROR[") || line.contains("WARNING["))
        .filter(|line| !line.contains("No music on hold classes"))
        .collect();
    ensure!(complaints.is_empty(), "{complaints:#?}");
    let usage = node.process.usage()?;
    ensure!(usage.cpu_ms > 0 && (20_000..120_000).contains(&usage.resident_kib), "at rest: {usage:?}");
    let status = node.process.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn runs_a_sites_dialplan(lab: &Lab) -> Result<()> {
    let kamailio = SocketAddrV4::new(lab.address(), 5060);
    let config = NodeConfig {
        dialplan: Some("[site]\nexten => busy,1,Hangup(17)\n".to_owned()),
        ..NodeConfig::behind(kamailio)
    };
    let node = Asterisk::start(lab, "ast1", &config)?;
    let call = sipp::caller("caller", Scenario::Builtin("uac"), node.sip()).local(kamailio).service("busy");
    let mut caller = call.strict().start(lab)?;
    let stats = caller.finish(LIMIT)?;
    ensure!(stats.failed() == 1 && caller.errors().contains("SIP/2.0 486"), "{}", caller.errors());
    Ok(())
}
