//! One agent's phone that speaks and hears: rings for a while, answers, holds and takes back, and waits for the BYE.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::link::Link;
use crate::net::now;
use crate::room::Lab;
use crate::voice::{Tone, Voice};

pub struct Answerer {
    pub link: Link,
    /// Where its voice is, and its SIP where that is UDP.
    address: SocketAddrV4,
    /// Where it says that its voice is.
    pub heard_at: Ipv4Addr,
    rings: Duration,
    says: Tone,
    call: Option<Call>,
    /// The number of the last re-INVITE, and of the last one that was answered with 200.
    asked: u32,
    pub agreed: u32,
    pub voice: Voice,
    /// The SIP statuses that it was told of a transfer.
    pub told: Vec<u16>,
    /// OPTIONS that it was asked, to keep its way open.
    pub pings: usize,
    /// When it took the call, and when that was over: the other side said BYE, or 200 to its own.
    pub answered: Option<Instant>,
    /// When the ACK of its answer came.
    pub confirmed: Option<Instant>,
    pub ended: Option<Instant>,
}

/// The call that rings, or is taken.
struct Call {
    invite: String,
    id: String,
    rung: Instant,
}

impl Answerer {
    pub fn new(lab: &Lab, rings: Duration, says: Tone) -> Result<Answerer> {
        let address = SocketAddrV4::new(lab.address(), 5060);
        Answerer::over(Link::udp(address)?, address, rings, says)
    }

    /// One whose SIP travels over `link`.
    pub fn over(link: Link, address: SocketAddrV4, rings: Duration, says: Tone) -> Result<Answerer> {
        let voice = Voice::new(*address.ip(), Some(says))?;
        Ok(Answerer {
            link,
            address,
            heard_at: *address.ip(),
            rings,
            says,
            call: None,
            asked: 0,
            agreed: 0,
            voice,
            told: Vec::new(),
            pings: 0,
            answered: None,
            confirmed: None,
            ended: None,
        })
    }

    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    pub fn has_rung(&self) -> bool {
        self.call.is_some()
    }

    pub fn step(&mut self) -> Result<()> {
        self.voice.step();
        if let Some(call) = &self.call
            && self.answered.is_none()
            && now() >= call.rung + self.rings
        {
            let text = call.invite.clone();
            self.voice.speak_to(&text)?;
            let sdp = self.sdp("sendrecv")?;
            self.answer(&text, "200 OK", &sdp)?;
            self.answered = Some(now());
        }
        match self.link.read()? {
            Some(text) => self.take(&text),
            None => Ok(()),
        }
    }

    /// Does what a message asks for.
    pub fn take(&mut self, text: &str) -> Result<()> {
        let of_call = self.call.as_ref().is_some_and(|call| text.contains(&call.id));
        match text.split(' ').next().context("an empty message")? {
            "INVITE" if self.call.is_none() => {
                self.answer(text, "180 Ringing", "")?;
                let id = format!("\r\nCall-ID: {}\r\n", field(text, "Call-ID:")?);
                self.call = Some(Call { invite: text.to_owned(), id, rung: now() });
            }
            "ACK" if of_call && self.answered.is_some() => {
                self.confirmed.get_or_insert_with(now);
            }
            "NOTIFY" => {
                self.answer(text, "200 OK", "")?;
                let fragment: Option<u16> =
                    text.rsplit("SIP/2.0 ").next().and_then(|rest| rest.get(..3)?.parse().ok());
                self.told.extend(fragment);
            }
            "OPTIONS" => {
                self.pings += 1;
                self.answer(text, "200 OK", "")?;
            }
            "BYE" => {
                self.answer(text, "200 OK", "")?;
                if of_call {
                    self.ended.get_or_insert_with(now);
                }
            }
            "SIP/2.0" if text.contains(" INVITE\r\n") => self.agree(text)?,
            "SIP/2.0" if of_call && text.contains(" BYE\r\n") => {
                ensure!(text.starts_with("SIP/2.0 200"), "its BYE was answered: {text}");
                self.ended.get_or_insert_with(now);
            }
            _ => {}
        }
        Ok(())
    }

    /// Is ready for another call.
    pub fn forget(&mut self) -> Result<()> {
        self.voice = Voice::new(*self.address.ip(), Some(self.says))?;
        (self.call, self.answered, self.confirmed, self.ended) = (None, None, None, None);
        Ok(())
    }

    /// Ends the call that it has taken.
    pub fn hang_up(&mut self) -> Result<()> {
        self.asked += 1;
        self.request("BYE", "Content-Length: 0\r\n\r\n")
    }

    /// Passes the caller on to this address (RFC 3515).
    pub fn refer(&mut self, to: &str) -> Result<()> {
        self.asked += 1;
        self.request("REFER", &format!("Refer-To: <{to}>\r\nContent-Length: 0\r\n\r\n"))
    }

    /// Puts the other side on hold and says nothing, or takes it back (RFC 6337 §5.3); what it says to that is read by `step`.
    pub fn hold(&mut self, held: bool) -> Result<()> {
        self.asked += 1;
        let sdp = self.sdp(if held { "sendonly" } else { "sendrecv" })?;
        self.voice.say((!held).then_some(self.says));
        let rest = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
        self.request("INVITE", &rest)
    }

    fn agree(&mut self, reply: &str) -> Result<()> {
        let status = reply.split(' ').nth(1).context("no status")?;
        let asked = format!("CSeq: {} INVITE", self.asked);
        if status.starts_with('1') || !reply.contains(&asked) {
            return Ok(());
        }
        ensure!(status == "200", "a re-INVITE was answered: {reply}");
        self.request("ACK", "Content-Length: 0\r\n\r\n")?;
        self.voice.speak_to(reply)?;
        self.agreed = self.asked;
        Ok(())
    }

    /// Inside the dialog, as the side that was called (RFC 3261 §12.1.1): the INVITE's Record-Route, in its order.
    fn request(&mut self, method: &str, rest: &str) -> Result<()> {
        let call = self.call.as_ref().context("there is no call")?;
        let contact = field(&call.invite, "Contact:")?;
        let (_, target) = contact.split_once('<').context("no < in the Contact")?;
        let (target, _) = target.split_once('>').context("no > in the Contact")?;
        let recorded = call.invite.lines().filter_map(|line| line.strip_prefix("Record-Route:"));
        let routes: String = recorded.map(|route| format!("Route: {}\r\n", route.trim())).collect();
        let (via, own, asked) = (self.link.via(), self.link.contact("agent"), self.asked);
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: {via};branch=z9hG4bKans{method}{asked}\r\n{routes}\
             Max-Forwards: 70\r\nFrom: {};tag=answerer\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {asked} {method}\r\n\
             Contact: <{own}>\r\n{rest}",
            field(&call.invite, "To:")?,
            field(&call.invite, "From:")?,
            field(&call.invite, "Call-ID:")?
        );
        self.link.send(&text)
    }

    /// What it says of its voice.
    pub fn sdp(&self, direction: &str) -> Result<String> {
        let (ip, version) = (self.heard_at, self.asked + 1);
        Ok(format!(
            "v=0\r\no=- 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\na={direction}\r\n",
            self.voice.port()?
        ))
    }

    pub fn answer(&mut self, request: &str, status: &str, sdp: &str) -> Result<()> {
        let kept = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"];
        let mut answer = format!("SIP/2.0 {status}\r\n");
        for line in request.lines().take_while(|line| !line.is_empty()) {
            if kept.iter().any(|name| line.starts_with(name)) {
                answer.push_str(&format!("{line}\r\n"));
            } else if line.starts_with("To:") {
                let tag = if line.contains(";tag=") { "" } else { ";tag=answerer" };
                answer.push_str(&format!("{line}{tag}\r\n"));
            }
        }
        answer.push_str(&format!("Contact: <{}>\r\n", self.link.contact("agent")));
        if !sdp.is_empty() {
            answer.push_str("Content-Type: application/sdp\r\n");
        }
        answer.push_str(&format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len()));
        self.link.send(&answer)
    }
}

pub fn field<'t>(message: &'t str, name: &str) -> Result<&'t str> {
    let line = message.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim).with_context(|| format!("no {name} in {message}"))
}
