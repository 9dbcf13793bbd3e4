//! The lab itself: what it says about its children is true, and nothing of them is left.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::turns;
use crate::Case;
use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::net::{self, now};
use crate::parts::Part;
use crate::process::Process;
use crate::redis::Redis;
use crate::relay::{Faults, Relay};
use crate::resp::{Reply, Resp};
use crate::room::Lab;
use crate::sipp::{self, Scenario, Sipp};

pub const CASES: &[Case] = &[
    Case { name: "harness::finds_its_parts", needs: &[], run: finds_its_parts },
    Case { name: "harness::each_case_has_its_turn", needs: &[], run: |_| turns::check() },
    Case { name: "harness::reports_a_killed_child", needs: &[], run: reports_a_killed_child },
    Case { name: "harness::ends_whole_groups", needs: &[], run: ends_whole_groups },
    Case { name: "harness::leaves_nothing_when_killed", needs: &[], run: leaves_nothing_when_killed },
    Case { name: "harness::redis_starts_again", needs: &[Part::Redis], run: redis_starts_again },
    Case { name: "harness::relay_delays_and_cuts", needs: &[Part::Redis], run: relay_delays_and_cuts },
    Case { name: "harness::relay_loses_datagrams", needs: &[], run: relay_loses_datagrams },
    Case { name: "harness::sipp_calls_sipp", needs: &[Part::Sipp], run: sipp_calls_sipp },
    Case {
        name: "harness::kamailio_of_system",
        needs: &[Part::Kamailio],
        run: |lab| kamailio(lab, Version::System),
    },
    Case {
        name: "harness::kamailio_of_sid",
        needs: &[Part::KamailioNew],
        run: |lab| kamailio(lab, Version::New),
    },
];

const LIMIT: Duration = Duration::from_secs(10);

fn finds_its_parts(lab: &Lab) -> Result<()> {
    for part in Part::ALL {
        match lab.parts().get(part) {
            Ok(program) => ensure!(!program.version.is_empty(), "{part:?} has no version"),
            Err(_) => {
                ensure!(lab.parts().why_missing(part).is_some(), "{part:?} is missing without a reason")
            }
        }
    }
    Ok(())
}

fn reports_a_killed_child(lab: &Lab) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-c", "echo last words; kill -KILL $$"]);
    let mut child = Process::spawn(lab, "child", command)?;
    let error = child.wait_ready(LIMIT, || Ok(false)).expect_err("a dead child is not ready");
    let text = format!("{error:#}");
    ensure!(text.contains("child ended: signal 9") && text.contains("last words"), "{text}");
    Ok(())
}

fn ends_whole_groups(lab: &Lab) -> Result<()> {
    let mut command = Command::new("bash");
    // The leader ignores SIGCHLD's sorrows; its child ignores SIGTERM.
    command.args(["-c", "(trap '' TERM; echo ready; sleep 1000 & echo $! >grandchild; wait) & wait"]);
    let mut parent = Process::spawn(lab, "parent", command)?;
    parent.wait_log("ready", LIMIT)?;
    net::wait_until("the grandchild's id", LIMIT, || Ok(!std::fs::read(lab.path("grandchild"))?.is_empty()))?;
    let grandchild = std::fs::read_to_string(lab.path("grandchild"))?;
    parent.stop()?;
    let gone = || Ok(!Path::new("/proc").join(grandchild.trim()).exists());
    net::wait_until("the grandchild is gone", LIMIT, gone)
}

const HANG: &str = "MQS_LAB_HANG";

/// For `leaves_nothing_when_killed`: a run of the lab whose only test has a child, says so in a file, and hangs.
pub fn hanging_case() -> Option<Case> {
    std::env::var_os(HANG)?;
    Some(Case { name: "harness::hangs", needs: &[], run: hangs })
}

fn hangs(lab: &Lab) -> Result<()> {
    let mut command = Command::new("sleep");
    command.arg("1000");
    let child = Process::spawn(lab, "sleeper", command)?;
    let told = format!("{}\n{}\n", child.pid(), lab.directory().display());
    std::fs::write(std::env::var_os(HANG).unwrap_or_default(), told)?;
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}

fn leaves_nothing_when_killed(lab: &Lab) -> Result<()> {
    for signal in ["KILL", "INT"] {
        let told = lab.path(&format!("told-{signal}"));
        // A run in the background of a shell inherits SIGINT ignored, and so would its children.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(std::env::current_exe()?).env(HANG, &told);
        let mut run = Process::spawn(lab, &format!("run-{signal}"), command)?;
        run.wait_ready(LIMIT, || Ok(std::fs::read_to_string(&told)?.lines().count() == 2))?;
        let text = std::fs::read_to_string(&told)?;
        let (pid, directory) = text.trim().split_once('\n').context("two lines")?;
        let (child, directory) = (Path::new("/proc").join(pid), Path::new(directory));
        ensure!(child.exists() && directory.exists(), "{pid} or its directory is not there to begin with");
        run.signal(signal)?;
        run.wait_exit(LIMIT)?;
        let gone = || Ok(!child.exists() && !directory.exists());
        net::wait_until(&format!("after SIG{signal} nothing is left"), LIMIT, gone)?;
    }
    Ok(())
}

fn redis_starts_again(lab: &Lab) -> Result<()> {
    let mut redis = Redis::start(lab)?;
    redis.call(&["SET", "key", "value"])?;
    ensure!(redis.call(&["GET", "key"])? == Reply::Bulk("value".to_owned()));
    redis.process.kill()?;
    ensure!(redis.client().is_err(), "a killed Redis answers");
    redis.restart(lab)?;
    ensure!(redis.call(&["GET", "key"])? == Reply::Nil, "Redis has kept something");
    Ok(())
}

fn relay_delays_and_cuts(lab: &Lab) -> Result<()> {
    let redis = Redis::start(lab)?;
    let socket = lab.path("relay.sock");
    let relay = Relay::unix(&socket, redis.socket())?;
    let mut client = Resp::unix(&socket)?;
    ensure!(client.call(&["PING"])?.text()? == "PONG");
    relay.set(Faults { answers_delay: Duration::from_millis(150), ..Faults::default() });
    let start = now();
    client.call(&["PING"])?;
    let took = start.elapsed();
    ensure!(took >= Duration::from_millis(150) && took < Duration::from_millis(600), "{took:?}");
    relay.cut();
    ensure!(client.call(&["PING"]).is_err(), "a cut connection answers");
    ensure!(Resp::unix(&socket).and_then(|mut other| other.call(&["PING"])).is_err(), "a cut relay answers");
    relay.restore();
    ensure!(Resp::unix(&socket)?.call(&["PING"])?.text()? == "PONG");
    let tcp = Relay::tcp((lab.address(), 6379).into(), redis.address())?;
    ensure!(tcp.connections() == 0 && relay.connections() == 3);
    Ok(())
}

fn relay_loses_datagrams(lab: &Lab) -> Result<()> {
    let server = std::net::UdpSocket::bind((lab.address(), 5060))?;
    let listen = SocketAddrV4::new(lab.address(), 5060);
    let relay = Relay::udp(listen, net::v4(server.local_addr()?)?)?;
    relay.set(Faults { lose_every: 4, ..Faults::default() });
    let client = std::net::UdpSocket::bind((lab.address(), 0))?;
    client.set_read_timeout(Some(Duration::from_millis(300)))?;
    server.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut buffer = [0; 16];
    for _ in 0..8 {
        client.send_to(b"ping", listen)?;
    }
    let mut arrived = 0;
    while let Ok((length, from)) = server.recv_from(&mut buffer) {
        arrived += 1;
        server.send_to(&buffer[..length], from)?;
    }
    let mut answered = 0;
    while client.recv_from(&mut buffer).is_ok() {
        answered += 1;
    }
    ensure!((arrived, answered) == (6, 5), "{arrived} arrived, {answered} were answered");
    Ok(())
}

fn sipp_calls_sipp(lab: &Lab) -> Result<()> {
    let mut node = Sipp::node(lab, "node", Scenario::Builtin("uas"))?;
    let call = sipp::caller("caller", Scenario::Builtin("uac"), node.local());
    let stats = call.calls(50).rate(100).start(lab)?.success(LIMIT)?;
    ensure!((stats.created(), stats.successful(), stats.failed()) == (50, 50, 0), "{stats:?}");
    let stats = node.quit(LIMIT)?;
    ensure!(stats.successful() == 50, "{stats:?}");
    Ok(())
}

fn kamailio(lab: &Lab, version: Version) -> Result<()> {
    const CONFIG: &str = r#"
#!KAMAILIO
debug=2
log_stderror=yes
children=2
# Otherwise a slow name server delays the start.
auto_aliases=no
listen=udp:ADDRESS
loadmodule "sl.so"
loadmodule "ctl.so"
loadmodule "kex.so"
request_route {
    sl_send_reply("200", "Here");
}
"#;
    let config = KamailioConfig::new(lab, "kamailio");
    let config = config.clone().define("ADDRESS", config.address);
    let mut kamailio = Kamailio::start_text(lab, version, config.clone(), CONFIG)?;
    let answer = kamailio.rpc(lab, &["core.version"])?;
    ensure!(answer.contains("kamailio"), "{answer}");
    kamailio.restart(lab)?;
    kamailio.process.stop()?;
    ensure!(!net::udp_is_bound(config.address)?, "its port is still bound");
    let broken = KamailioConfig { name: "broken".to_owned(), ..config };
    let error = Kamailio::start_text(lab, version, broken, "route {").err();
    let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(text.contains("refuses its configuration") && text.contains("parse error"), "{text}");
    Ok(())
}
