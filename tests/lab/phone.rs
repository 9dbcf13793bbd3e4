//! One call, message by message, by a caller that hears: what SIPp does not tell of a call.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::net::now;
use crate::voice::{Tone, Voice};

pub struct Call {
    sip: UdpSocket,
    pub voice: Voice,
    node: SocketAddrV4,
    /// Via, From, Call-ID, Max-Forwards and Contact.
    common: String,
    call_id: String,
    to: String,
    uri: String,
    /// Where requests inside the dialog go: the other side's Contact, by way of its Record-Route.
    remote: String,
    routes: String,
    begun: Instant,
    /// Status and text of each reply to the INVITE, with the time since it was sent.
    pub replies: Vec<(u16, Duration, String)>,
    /// When the node said BYE.
    pub ended: Option<Duration>,
}

/// What is to be called, and with which header lines of one's own.
pub struct Invite<'a> {
    pub user: &'a str,
    pub call_id: &'a str,
    pub headers: &'a [&'a str],
    /// `RTP/AVP`, or `RTP/SAVP` with its lines.
    pub profile: &'a str,
    pub attributes: &'a str,
    /// What it says, once it is answered.
    pub says: Option<Tone>,
}

impl<'a> Invite<'a> {
    pub fn to(user: &'a str, call_id: &'a str) -> Invite<'a> {
        Invite { user, call_id, headers: &[], profile: "RTP/AVP", attributes: "", says: None }
    }

    pub fn saying(self, tone: Tone) -> Invite<'a> {
        Invite { says: Some(tone), ..self }
    }

    pub fn with(self, headers: &'a [&'a str]) -> Invite<'a> {
        Invite { headers, ..self }
    }

    /// Sends it from `local`, which the node takes for a Kamailio.
    pub fn send(&self, local: &UdpSocket, node: SocketAddrV4) -> Result<Call> {
        let sip = local.try_clone()?;
        let address = crate::net::v4(sip.local_addr()?)?;
        let voice = Voice::new(*address.ip(), self.says)?;
        sip.set_read_timeout(Some(Duration::from_millis(5)))?;
        let (ip, uri) = (address.ip(), format!("sip:{}@{node}", self.user));
        let unique = self.call_id.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let common = format!(
            "Via: SIP/2.0/UDP {address};rport;branch=z9hG4bK{unique:x}\r\nMax-Forwards: 70\r\n\
             From: \"Bob\" <sip:bob@example.com>;tag={unique:x}\r\nCall-ID: {}\r\nContact: <sip:bob@{address}>\r\n",
            self.call_id
        );
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} {} 0\r\na=rtpmap:0 PCMU/8000\r\n{}",
            voice.port()?,
            self.profile,
            self.attributes
        );
        let extra: String = self.headers.iter().map(|line| format!("{line}\r\n")).collect();
        let to = format!("To: <{uri}>");
        let invite = format!(
            "INVITE {uri} SIP/2.0\r\n{common}{to}\r\nCSeq: 1 INVITE\r\n{extra}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        sip.send_to(invite.as_bytes(), node)?;
        let (remote, routes) = (uri.clone(), String::new());
        Ok(Call {
            sip,
            voice,
            node,
            common,
            call_id: format!("\r\nCall-ID: {}\r\n", self.call_id),
            to,
            uri,
            remote,
            routes,
            begun: now(),
            replies: Vec::new(),
            ended: None,
        })
    }
}

impl Call {
    /// Goes on until `done` says so.
    pub fn until(&mut self, what: &str, limit: Duration, done: impl Fn(&Call) -> bool) -> Result<()> {
        let end = now() + limit;
        while !done(self) {
            if now() >= end {
                bail!("{what}: not so within {limit:?}; {}", self.story());
            }
            self.step()?;
        }
        Ok(())
    }

    /// Hears and answers for `time`.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let end = now() + time;
        while now() < end {
            self.step()?;
        }
        Ok(())
    }

    pub fn wait_final(&mut self, limit: Duration) -> Result<u16> {
        self.until("a final reply", limit, |call| call.codes().iter().any(|code| *code >= 200))?;
        self.codes().last().copied().context("no reply")
    }

    /// Waits for the node's BYE.
    pub fn wait_end(&mut self, limit: Duration) -> Result<()> {
        self.until("the end of the call", limit, |call| call.ended.is_some())
    }

    /// RTP packets in which something can be heard.
    pub fn heard(&self) -> usize {
        self.voice.heard
    }

    pub fn codes(&self) -> Vec<u16> {
        self.replies.iter().map(|(code, _, _)| *code).collect()
    }

    /// When the first reply with this status came.
    pub fn when(&self, code: u16) -> Result<Duration> {
        let found = self.replies.iter().find(|(found, _, _)| *found == code);
        Ok(found.with_context(|| format!("no {code}; {}", self.story()))?.1)
    }

    pub fn story(&self) -> String {
        let replies: Vec<String> =
            self.replies.iter().map(|(code, at, _)| format!("{code} at {at:.1?}")).collect();
        format!("replies: {replies:?}, heard: {} packets, ended: {:?}", self.voice.heard, self.ended)
    }

    pub fn hang_up(&mut self) -> Result<()> {
        let bye = format!(
            "BYE {} SIP/2.0\r\n{}{}{}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
            self.remote, self.routes, self.common, self.to
        );
        self.send(&bye.replace("branch=z9hG4bK", "branch=z9hG4bKb"))
    }

    /// CANCEL of an INVITE that is not answered yet, and the end of that.
    pub fn cancel(&mut self) -> Result<()> {
        let to = self.to.split(";tag=").next().unwrap_or_default().to_owned();
        self.send(&format!(
            "CANCEL {} SIP/2.0\r\n{}{to}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
            self.uri, self.common
        ))?;
        self.wait_final(Duration::from_secs(5))?;
        Ok(())
    }

    pub fn step(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        self.voice.step();
        let Ok((length, from)) = self.sip.recv_from(&mut buffer) else { return Ok(()) };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        // The socket is that of all calls of a test.
        if !text.contains(&self.call_id) {
            return Ok(());
        }
        let line = text.lines().next().unwrap_or_default();
        if let Some(status) = line.strip_prefix("SIP/2.0 ") {
            if text.contains("CSeq: 1 INVITE") {
                let code = status.get(..3).and_then(|code| code.parse().ok()).context("no status")?;
                self.reply(code, text.clone())?;
            }
        } else if !line.starts_with("ACK ") {
            if line.starts_with("BYE ") && self.ended.is_none() {
                self.ended = Some(now() - self.begun);
            }
            let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
            let kept: Vec<&str> =
                text.lines().filter(|line| kept.iter().any(|name| line.starts_with(name))).collect();
            let answer = format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", kept.join("\r\n"));
            self.sip.send_to(answer.as_bytes(), from)?;
        }
        Ok(())
    }

    fn reply(&mut self, code: u16, text: String) -> Result<()> {
        if let Some(to) = text.lines().find(|line| line.starts_with("To:")) {
            self.to = to.to_owned();
        }
        if (200..300).contains(&code) {
            self.routes = routes(&text);
            self.remote = contact(&text).unwrap_or(&self.uri).to_owned();
            // A transaction of its own (RFC 3261 §13.2.2.4).
            let common = self.common.replace("branch=z9hG4bK", "branch=z9hG4bKa");
            self.send(&format!(
                "ACK {} SIP/2.0\r\n{}{common}{}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
                self.remote, self.routes, self.to
            ))?;
            self.voice.speak_to(&text)?;
        } else if code >= 300 {
            self.send(&format!(
                "ACK {} SIP/2.0\r\n{}{}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
                self.uri, self.common, self.to
            ))?;
        }
        // A final reply is sent again until its ACK has come.
        if code < 200 || self.replies.last().is_none_or(|(last, _, _)| *last < 200) {
            self.replies.push((code, now() - self.begun, text));
        }
        Ok(())
    }

    fn send(&self, text: &str) -> Result<()> {
        self.sip.send_to(text.as_bytes(), self.node)?;
        Ok(())
    }
}

/// The Route of requests inside a dialog: the Record-Route of the answer, backwards (RFC 3261 §12.1.2).
fn routes(answer: &str) -> String {
    let recorded = answer.lines().filter_map(|line| line.strip_prefix("Record-Route:"));
    let all: Vec<&str> = recorded.flat_map(|line| line.split(',')).map(str::trim).collect();
    all.iter().rev().map(|route| format!("Route: {route}\r\n")).collect()
}

fn contact(answer: &str) -> Option<&str> {
    let line = answer.lines().find_map(|line| line.strip_prefix("Contact:"))?;
    line.split_once('<')?.1.split_once('>').map(|(uri, _)| uri)
}
