//! RTP with sound in it: sends a tone, and tells tones from music and from silence. G.711 μ-law, 20 ms a packet.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::net::now;

/// The codes of μ-law for nothing, and for next to nothing.
const QUIET: [u8; 6] = [0xff, 0x7f, 0xfe, 0x7e, 0xfd, 0x7d];

const HEADER: usize = 12;
const SAMPLES: usize = 160;
const SAMPLES_A_S: f64 = 8000.0;
const PACKET: Duration = Duration::from_millis(20);

/// Less than this part of a packet's energy is no tone.
const PURE: f64 = 0.8;

/// A multiple of 50 Hz: whole waves in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tone(pub u32);

/// What two people say, so that each can be told from the other, and both from music.
pub const TONES: [Tone; 2] = [Tone(600), Tone(1000)];

pub struct Voice {
    socket: UdpSocket,
    says: Option<Tone>,
    to: Option<SocketAddrV4>,
    begun: Instant,
    sent: u32,
    /// Packets in which something can be heard.
    pub heard: usize,
    /// Of these, packets that are one of the tones and nothing else.
    pub tones: BTreeMap<Tone, usize>,
}

impl Voice {
    /// On a free port.
    pub fn new(address: Ipv4Addr, says: Option<Tone>) -> Result<Voice> {
        let socket = UdpSocket::bind((address, 0)).context("a port for RTP")?;
        socket.set_nonblocking(true)?;
        Ok(Voice { socket, says, to: None, begun: now(), sent: 0, heard: 0, tones: BTreeMap::new() })
    }

    pub fn port(&self) -> Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Speaks to where this SDP says, from now on.
    pub fn speak_to(&mut self, sdp: &str) -> Result<()> {
        let field = |key: &str| sdp.lines().find_map(|line| line.strip_prefix(key));
        let ip = field("c=IN IP4 ").context("no c= in the SDP")?.trim();
        let port = field("m=audio ").and_then(|line| line.split(' ').next()).context("no m= in the SDP")?;
        if self.to.is_none() {
            self.begun = now();
        }
        self.to = Some(SocketAddrV4::new(ip.parse()?, port.parse()?));
        Ok(())
    }

    /// Says something else from now on, or nothing.
    pub fn say(&mut self, says: Option<Tone>) {
        self.says = says;
        self.begun = now();
        self.sent = 0;
    }

    pub fn heard_of(&self, tone: Tone) -> usize {
        self.tones.get(&tone).copied().unwrap_or(0)
    }

    /// Sends what is due, and hears what has come.
    pub fn step(&mut self) {
        let due = u32::try_from((now() - self.begun).as_millis() / PACKET.as_millis()).unwrap_or(u32::MAX);
        while let (Some(tone), Some(to)) = (self.says, self.to)
            && self.sent < due
        {
            // Lost on its way, if at all.
            drop(self.socket.send_to(&packet(tone, self.sent), to));
            self.sent += 1;
        }
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.hear(buffer.get(HEADER..length).unwrap_or_default());
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        if payload.iter().filter(|byte| !QUIET.contains(byte)).count() <= 20 {
            return;
        }
        self.heard += 1;
        let samples: Vec<f64> = payload.iter().map(|byte| linear(*byte)).collect();
        for tone in TONES {
            if share(&samples, tone) > PURE {
                *self.tones.entry(tone).or_default() += 1;
            }
        }
    }
}

/// The part of the energy that is this tone, 0 to 1 (Goertzel).
fn share(samples: &[f64], tone: Tone) -> f64 {
    let factor = 2.0 * (TAU * f64::from(tone.0) / SAMPLES_A_S).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + factor * last - before, last);
    }
    let power = last * last + before * before - factor * last * before;
    let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
    if energy > 0.0 { 2.0 * power / (samples.len() as f64 * energy) } else { 0.0 }
}

fn packet(tone: Tone, number: u32) -> Vec<u8> {
    let first = number.wrapping_mul(SAMPLES as u32);
    let mut bytes = vec![0x80, 0];
    bytes.extend((number as u16).to_be_bytes());
    bytes.extend(first.to_be_bytes());
    bytes.extend(tone.0.to_be_bytes());
    let wave = |at: usize| (TAU * f64::from(tone.0) * at as f64 / SAMPLES_A_S).sin() * 8000.0;
    bytes.extend((0..SAMPLES).map(|at| coded(wave(at) as i32)));
    bytes
}

/// Ten seconds of a chord, as a file that Asterisk plays: `music.ulaw`.
pub fn music() -> Vec<u8> {
    let wave = |hz: f64, at: f64| (TAU * hz * at / SAMPLES_A_S).sin() * 4000.0;
    let sample = |at: u32| wave(300.0, at.into()) + wave(350.0, at.into());
    (0..10 * SAMPLES_A_S as u32).map(|at| coded(sample(at) as i32)).collect()
}

/// ITU-T G.711: sign, three bits of exponent, four of mantissa, all inverted.
fn coded(sample: i32) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let size = (sample.abs() + 132).min(32_767);
    let exponent = (size >> 7).ilog2();
    let mantissa = (size >> (exponent + 3)) & 15;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

fn linear(code: u8) -> f64 {
    let code = !code;
    let size = ((i32::from(code & 15) * 8 + 132) << ((code >> 4) & 7)) - 132;
    f64::from(if code & 0x80 == 0 { size } else { -size })
}

/// Whether tones are told apart at all; for the lab's own tests.
pub fn check() -> Result<()> {
    for (said, other) in [(TONES[0], TONES[1]), (TONES[1], TONES[0])] {
        let samples: Vec<f64> = packet(said, 1)[HEADER..].iter().map(|byte| linear(*byte)).collect();
        let (own, wrong) = (share(&samples, said), share(&samples, other));
        anyhow::ensure!(own > 0.95 && wrong < 0.05, "{said:?}: {own}, {wrong}");
    }
    Ok(())
}
