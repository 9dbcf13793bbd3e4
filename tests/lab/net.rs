//! Addresses, ports, a few lines of HTTP, and the lab's only reading of the clock.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;

#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, as SIPp logs them.
#[allow(clippy::disallowed_methods)]
pub fn epoch_s() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|time| time.as_secs_f64()).unwrap_or_default()
}

/// Asks `ready` until it says yes; an error of `ready` counts as "not yet" and is told at the end.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = now() + limit;
    loop {
        let last = ready();
        if let Ok(true) = last {
            return Ok(());
        }
        if now() >= end {
            return match last {
                Ok(_) => bail!("{what}: not so within {limit:?}"),
                Err(error) => Err(error.context(format!("{what}: not so within {limit:?}"))),
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 254 loopback addresses that no other test, in this process or another one, has at the same time.
pub struct Block {
    second: u8,
    third: u8,
    /// Held as long as the block: the operating system gives it to one process only, and frees it at its death.
    _claim: TcpListener,
}

impl Block {
    const CLAIM_PORT: u16 = 61_999;

    /// Takes a free block out of 127.64.0.0 – 127.127.255.255.
    pub fn claim(seed: u32) -> Result<Block> {
        for step in 0..16_384u32 {
            let number = seed.wrapping_add(step) % 16_384;
            let (second, third) = (64 + (number / 256) as u8, (number % 256) as u8);
            let address = SocketAddrV4::new(Ipv4Addr::new(127, second, third, 254), Block::CLAIM_PORT);
            if let Ok(claim) = TcpListener::bind(address) {
                return Ok(Block { second, third, _claim: claim });
            }
        }
        bail!("no free block of loopback addresses")
    }

    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }
}

/// A port that nobody has, in UDP and TCP, on `address` now.
pub fn free_port(address: Ipv4Addr) -> Result<u16> {
    for _ in 0..64 {
        let tcp = TcpListener::bind((address, 0)).with_context(|| format!("no free port on {address}"))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((address, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {address} is free in UDP and TCP")
}

/// Whether any process has bound this UDP address. Reads the kernel's table and sends nothing.
pub fn udp_is_bound(address: SocketAddrV4) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/net/udp").context("reading /proc/net/udp")?;
    // The address is four bytes in memory order, printed as one native number; the port is printed as a number.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    Ok(table.lines().any(|line| line.split_whitespace().nth(1) == Some(local.as_str())))
}

pub fn tcp_is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// Sends one SIP OPTIONS from `from` (port 0: any) and returns the first line of the answer.
pub fn sip_options(from: SocketAddrV4, to: SocketAddrV4, limit: Duration) -> Result<String> {
    let socket = UdpSocket::bind(from).with_context(|| format!("binding {from}"))?;
    socket.set_read_timeout(Some(limit))?;
    let local = socket.local_addr()?;
    let unique = format!("{:x}{:x}", local.port(), std::process::id());
    let request = format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{unique}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:lab@{local}>;tag={unique}\r\nTo: <sip:{to}>\r\nCall-ID: {unique}@{local}\r\n\
         CSeq: 1 OPTIONS\r\nContact: <sip:lab@{local}>\r\nUser-Agent: lab\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(request.as_bytes(), to)?;
    let mut buffer = [0; 4096];
    let (length, _) =
        socket.recv_from(&mut buffer).with_context(|| format!("no answer to OPTIONS from {to}"))?;
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// One HTTP/1.1 exchange on a connection of its own.
pub struct HttpAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn http(
    method: &str,
    to: SocketAddr,
    path: &str,
    user: Option<(&str, &str)>,
    body: Option<&str>,
) -> Result<HttpAnswer> {
    let limit = Duration::from_secs(5);
    let mut stream =
        TcpStream::connect_timeout(&to, limit).with_context(|| format!("connecting to http://{to}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    if let Some((name, password)) = user {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        request.push_str(&format!("Authorization: Basic {credentials}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("reading the answer of http://{to}{path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP status")?;
    Ok(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}

/// `address:port` of version 4, from a general one.
pub fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match (address.ip(), address.port()) {
        (IpAddr::V4(ip), port) => Ok(SocketAddrV4::new(ip, port)),
        (IpAddr::V6(ip), _) => bail!("{ip} is not an IPv4 address"),
    }
}
