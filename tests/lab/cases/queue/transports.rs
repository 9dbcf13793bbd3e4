//! Agents whose phones are registered over TCP, TLS and WebSockets, and from behind a NAT.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use super::floor::{DOMAIN, Floor, LIMIT, Plan, SECRET, agent};
use super::judge;
use super::media::{AGENT, CALLER, hear, step};
use super::{PARTS, PARTS_NEW};
use crate::Case;
use crate::answerer::Answerer;
use crate::handset::{Handset, Owner};
use crate::kamailio::Version;
use crate::link::{Kind, Link, Trust};
use crate::net::{now, wait_until};
use crate::phone::{Call, Invite};
use crate::relay::Relay;
use crate::room::Lab;
use crate::sipp::Scenario;

pub const CASES: &[Case] = &[
    Case { name: "queue::a_phone_over_tcp", needs: PARTS, run: |lab| over(lab, Version::System, Kind::Tcp) },
    Case { name: "queue::a_phone_over_tls", needs: PARTS, run: |lab| over(lab, Version::System, Kind::Tls) },
    Case {
        name: "queue::a_phone_over_websocket",
        needs: PARTS,
        run: |lab| over(lab, Version::System, Kind::WebSocket),
    },
    Case {
        name: "queue::a_phone_over_secure_websocket",
        needs: PARTS,
        run: |lab| over(lab, Version::System, Kind::SecureWebSocket),
    },
    Case { name: "queue::a_phone_behind_nat", needs: PARTS, run: behind_nat },
    Case {
        name: "queue::a_phone_whose_tcp_is_closed",
        needs: PARTS,
        run: |lab| closed(lab, Version::System, Kind::Tcp),
    },
    Case {
        name: "queue::a_phone_whose_websocket_is_closed",
        needs: PARTS,
        run: |lab| closed(lab, Version::System, Kind::WebSocket),
    },
    Case {
        name: "queue::a_phone_whose_websocket_is_closed_on_6_1",
        needs: PARTS_NEW,
        run: |lab| closed(lab, Version::New, Kind::WebSocket),
    },
    Case { name: "queue::a_closed_connection_is_told", needs: PARTS, run: |lab| told(lab, Version::System) },
    Case {
        name: "queue::a_closed_connection_is_told_on_6_1",
        needs: PARTS_NEW,
        run: |lab| told(lab, Version::New),
    },
    Case {
        name: "queue::a_phone_over_tcp_on_6_1",
        needs: PARTS_NEW,
        run: |lab| over(lab, Version::New, Kind::Tcp),
    },
    Case {
        name: "queue::a_phone_over_secure_websocket_on_6_1",
        needs: PARTS_NEW,
        run: |lab| over(lab, Version::New, Kind::SecureWebSocket),
    },
];

/// Over which phones connect.
const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Tls, Kind::WebSocket, Kind::SecureWebSocket];

/// Of the 100 packets of a talk: who is heard at all is asked here, not how well.
const ENOUGH: usize = 25;

const RINGS: Duration = Duration::from_millis(300);

/// Where Kamailio takes phones of each kind.
fn port(kind: Kind) -> u16 {
    match kind {
        Kind::Udp | Kind::Tcp => 5060,
        Kind::Tls => 5061,
        Kind::WebSocket => 8080,
        Kind::SecureWebSocket => 8443,
    }
}

/// A Kamailio that takes phones of all kinds, and its certificate.
fn plan(lab: &Lab, version: Version) -> Result<(Vec<String>, Trust)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([DOMAIN.to_owned()])?.self_signed(&key)?;
    let seen = |name: &str, text: &str| version.sees(lab, &lab.write(name, text)?);
    let certificate_file = seen("phones.pem", &certificate.pem())?;
    let key_file = seen("phones.key", &key.serialize_pem())?;
    let defines = vec![
        "WITH_TCP".to_owned(),
        "WITH_TLS".to_owned(),
        "WITH_WEBSOCKET".to_owned(),
        "LISTEN_TCP=tcp:{address}:5060".to_owned(),
        "LISTEN_TLS=tls:{address}:5061".to_owned(),
        "LISTEN_WS=tcp:{address}:8080".to_owned(),
        "LISTEN_WSS=tls:{address}:8443".to_owned(),
        format!("TLS_CERT={}", certificate_file.display()),
        format!("TLS_KEY={}", key_file.display()),
    ];
    let trust = Trust { certificate: certificate.der().clone(), name: DOMAIN.to_owned() };
    Ok((defines, trust))
}

fn over(lab: &Lab, version: Version, kind: Kind) -> Result<()> {
    let (defines, trust) = plan(lab, version)?;
    let defines: Vec<&str> = defines.iter().map(String::as_str).collect();
    let mut floor = Floor::set(lab, &Plan { version, defines: &defines, ..Plan::default() })?;
    let server = SocketAddrV4::new(*floor.proxies[0].address().ip(), port(kind));
    let address = SocketAddrV4::new(lab.address(), 5060);
    // Whoever called back what the phone says of itself, and not what it has connected, would be seen here.
    let (back, back_udp) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
    back.set_nonblocking(true)?;
    back_udp.set_nonblocking(true)?;
    let user = agent(1);
    let mut handset = handset(Link::connect(kind, address, server, &trust)?, address, &user)?;
    handset.register()?;
    is_registered(&floor, 1, true, || handset.phone.step())?;
    takes_two_calls(&mut floor, lab, &mut handset)?;
    ensure!(back.accept().is_err() && back_udp.recv(&mut [0; 8]).is_err(), "Kamailio came by another way");
    Ok(())
}

/// The relay stands in for a NAT: it gives what comes from inside its own address and another port, and lets in what answers that.
fn behind_nat(lab: &Lab) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { defines: &["NAT_PING_S=1"], ..Plan::default() })?;
    let (inside, outside) = (SocketAddrV4::new(lab.address(), 5060), SocketAddrV4::new(lab.address(), 5060));
    let _nat = Relay::udp(outside, floor.proxies[0].address())?;
    let user = agent(1);
    // No packet for an address of 10.0.0.0/8 would come to this phone.
    let private: Ipv4Addr = "10.20.30.40".parse()?;
    let link = Link::udp_that_says(&format!("{private}:5060"), inside, outside)?;
    let mut handset = handset(link, inside, &user)?;
    handset.phone.heard_at = private;
    handset.register()?;
    is_registered(&floor, 1, true, || handset.phone.step())?;
    takes_two_calls(&mut floor, lab, &mut handset)?;
    let pings = handset.phone.pings;
    lab.tell(format!("{pings} pings kept the way open"));
    ensure!(pings >= 3, "only {pings} pings came in all this time");
    Ok(())
}

fn handset<'a>(link: Link, address: SocketAddrV4, user: &'a str) -> Result<Handset<'a>> {
    let phone = Answerer::over(link, address, RINGS, AGENT)?;
    Ok(Handset::new(phone, Owner { user, domain: DOMAIN, secret: SECRET }))
}

/// The agent logs in by phone; then hangs up second, and first. Media goes straight from phone to node: there is no rtpengine here.
fn takes_two_calls(floor: &mut Floor<'_>, lab: &Lab, handset: &mut Handset<'_>) -> Result<()> {
    handset.dials("*45")?;
    floor.wait_agent(1, "ready")?;
    let phone = &mut handset.phone;
    let mut call = meets(floor, lab, phone, "caller-hangs-up")?;
    call.hang_up()?;
    step_until(&mut call, phone, "the phone gets the BYE", |_, phone| phone.ended.is_some())?;
    floor.is_empty()?;
    phone.forget()?;
    floor.wait_agent(1, "ready")?;
    let mut call = meets(floor, lab, phone, "agent-hangs-up")?;
    phone.hang_up()?;
    step_until(&mut call, phone, "both are told", |call, phone| {
        call.ended.is_some() && phone.ended.is_some()
    })?;
    floor.is_empty()
}

/// Whose connection is gone is not waited for, and gets calls again over the next one.
fn closed(lab: &Lab, version: Version, kind: Kind) -> Result<()> {
    let (defines, trust) = plan(lab, version)?;
    let defines: Vec<&str> = defines.iter().map(String::as_str).collect();
    let mut floor = Floor::set(lab, &Plan { version, agents: 2, defines: &defines, ..Plan::default() })?;
    let server = SocketAddrV4::new(*floor.proxies[0].address().ip(), port(kind));
    let address = SocketAddrV4::new(lab.address(), 5060);
    let connect = || Link::connect(kind, address, server, &trust);
    let user = agent(1);
    let mut handset = handset(connect()?, address, &user)?;
    handset.register()?;
    let _other = floor.phones_for(&[2], Scenario::File("agent-hangs-up.xml"), Duration::from_secs(1))?;
    floor.registrations_are_read();
    // Who has waited longest is asked first.
    floor.login([1])?;
    floor.wait_agent(1, "ready")?;
    floor.login([2])?;
    floor.wait_agent(2, "ready")?;
    handset.closes(lab)?;

    let mut callers = floor.waiting_callers(1, 1)?;
    callers.success(LIMIT)?;
    let events = floor.events()?;
    let ends = offers(&events, &user);
    let waited = waited_ms(&events)?;
    lab.tell(format!(
        "{kind:?} closed: the caller waited {waited} ms for another agent; offers to this one: {ends:?}"
    ));
    // No offer at all, where the leader has heard of it before the call came.
    ensure!(ends.iter().all(|(how, ms)| how == "unregistered" && *ms < 1000), "{ends:?}");
    ensure!(waited < 2000, "{waited} ms");
    ensure!(judge::ends(&events, &agent(2)) == ["taken"].into(), "{:?}", judge::ends(&events, &agent(2)));

    handset.moves_to(connect()?);
    handset.register()?;
    floor.registrations_are_read();
    let mut call = meets(&mut floor, lab, &mut handset.phone, "over-the-new-connection")?;
    call.hang_up()?;
    let ended = |_: &Call, phone: &Answerer| phone.ended.is_some();
    step_until(&mut call, &mut handset.phone, "the phone gets the BYE", ended)?;
    floor.is_empty()?;

    // In the middle of a talk: its BYE finds nobody, and nobody waits for that.
    floor.pause(2)?;
    floor.wait_agent(1, "ready")?;
    handset.phone.forget()?;
    let mut call = meets(&mut floor, lab, &mut handset.phone, "cut-in-the-middle")?;
    handset.closes(lab)?;
    let (by_caller, by_agent) = hear(&mut call, &mut handset.phone)?;
    ensure!(by_caller[2] >= ENOUGH && by_agent[1] >= ENOUGH, "{by_caller:?} and {by_agent:?} were heard");
    ensure!(floor.agent(1)?["state"] == "talking", "{}", floor.agent(1)?);
    call.hang_up()?;
    let hung_up = now();
    floor.is_empty()?;
    lab.tell(format!(
        "{kind:?} closed in a talk: no channel is left {:.0?} after the caller's BYE",
        hung_up.elapsed()
    ));
    floor.wait_agent(1, "ready")
}

/// Nobody needs to call to find out: Kamailio forgets the phone, and tells. Also of one that says nothing any more, but does not close.
fn told(lab: &Lab, version: Version) -> Result<()> {
    let (mut defines, trust) = plan(lab, version)?;
    defines.push("NAT_PING_S=1".to_owned());
    let defines: Vec<&str> = defines.iter().map(String::as_str).collect();
    let floor = Floor::set(lab, &Plan { version, agents: 4, defines: &defines, ..Plan::default() })?;
    for (kind, number) in KINDS.into_iter().zip(1..) {
        let server = SocketAddrV4::new(*floor.proxies[0].address().ip(), port(kind));
        let address = SocketAddrV4::new(lab.address(), 5060);
        let connect = || Link::connect(kind, address, server, &trust);
        let user = agent(number);
        let mut handset = handset(connect()?, address, &user)?;
        handset.register()?;
        is_registered(&floor, number, true, || handset.phone.step())?;
        // Keep-alives are answered, and it stays.
        let end = now() + Duration::from_secs(4);
        while now() < end {
            handset.phone.step()?;
        }
        is_registered(&floor, number, true, || Ok(()))?;
        if kind == Kind::SecureWebSocket {
            // As browsers do; the other kinds are cut.
            handset.phone.link.says_goodbye()?;
        }
        handset.closes(lab)?;
        let took = is_registered(&floor, number, false, || Ok(()))?;
        lab.tell(format!("{kind:?} closed: registered no longer after {took:.1?}"));
        handset.moves_to(connect()?);
        handset.register()?;
        is_registered(&floor, number, true, || handset.phone.step())?;
        if kind == Kind::WebSocket {
            let took = is_registered(&floor, number, false, || Ok(()))?;
            lab.tell(format!("{kind:?} answers no ping: registered no longer after {took:.1?}"));
        }
    }
    Ok(())
}

/// Waits until a phone is registered, or is not; how long that took.
fn is_registered(
    floor: &Floor<'_>,
    number: usize,
    wanted: bool,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Duration> {
    let begun = now();
    wait_until(&format!("{} is registered: {wanted}", agent(number)), Duration::from_secs(10), || {
        meanwhile()?;
        let said = floor.agent(number)?;
        let phones = said["registered"].as_array().with_context(|| said.to_string())?;
        Ok(phones.is_empty() != wanted)
    })?;
    Ok(begun.elapsed())
}

/// How long the one caller waited.
fn waited_ms(events: &[Value]) -> Result<u64> {
    let connected =
        events.iter().find(|event| event["event"] == "connected").context("nobody was connected")?;
    connected["waited_ms"].as_u64().with_context(|| connected.to_string())
}

/// Of each offer to an agent that is over: how it ended, and after how many ms.
fn offers(events: &[Value], agent: &str) -> Vec<(String, u64)> {
    let of = |kind: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["event"] == kind && event["agent"] == agent).collect()
    };
    let at = |event: &Value| event["at"].as_u64().unwrap_or_default();
    let pairs = of("offered").into_iter().zip(of("offer-ended"));
    pairs.map(|(from, to)| (to["how"].as_str().unwrap_or_default().to_owned(), at(to) - at(from))).collect()
}

/// A caller waits, the phone is rung and answers, and each hears the other.
fn meets(floor: &mut Floor<'_>, lab: &Lab, phone: &mut Answerer, call_id: &str) -> Result<Call> {
    let local = UdpSocket::bind(SocketAddrV4::new(floor.trunk, 0))?;
    let invite = Invite::to("7000", call_id).saying(CALLER);
    let mut call = invite.send(&local, floor.proxies[0].address())?;
    step_until(&mut call, phone, "they talk", |_, phone| phone.confirmed.is_some())?;
    step(&mut call, phone, Duration::from_millis(300))?;
    let (by_caller, by_agent) = hear(&mut call, phone)?;
    ensure!(by_caller[2] >= ENOUGH && by_caller[1] == 0, "the caller heard {by_caller:?}");
    ensure!(by_agent[1] >= ENOUGH && by_agent[2] == 0, "the agent heard {by_agent:?}");
    lab.tell(format!(
        "{call_id} call: the caller heard {} packets of the agent, the agent {}",
        by_caller[2], by_agent[1]
    ));
    Ok(call)
}

fn step_until(
    call: &mut Call,
    phone: &mut Answerer,
    what: &str,
    done: impl Fn(&Call, &Answerer) -> bool,
) -> Result<()> {
    let end = now() + LIMIT;
    while !done(call, phone) {
        ensure!(now() < end, "{what}: not so; {}, {:?}", call.story(), phone.link);
        call.step()?;
        phone.step()?;
    }
    Ok(())
}
