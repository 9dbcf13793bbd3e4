//! An agent's phone that does all by itself, over whatever link it has: it registers, dials, and takes calls.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use md5::{Digest as _, Md5};

use crate::answerer::{Answerer, field};
use crate::link::Link;
use crate::net::now;
use crate::room::Lab;

/// For the answer to a request.
const LIMIT: Duration = Duration::from_secs(5);

/// Whose phone it is.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    pub user: &'a str,
    pub domain: &'a str,
    pub secret: &'a str,
}

pub struct Handset<'a> {
    pub phone: Answerer,
    owner: Owner<'a>,
    /// Of this phone alone.
    unique: String,
    asked: u32,
}

/// A transaction of its own, outside any call that it has taken.
struct Ask<'a> {
    method: &'a str,
    uri: String,
    /// Of the call, the same for all of its requests.
    call: &'a str,
    to: String,
    /// Header lines, and a body.
    rest: String,
}

impl<'a> Handset<'a> {
    pub fn new(phone: Answerer, owner: Owner<'a>) -> Handset<'a> {
        Handset { phone, owner, unique: format!("{:x}", fastrand::u64(..)), asked: 0 }
    }

    /// Goes on over another link; the old one is closed.
    pub fn moves_to(&mut self, link: Link) {
        self.phone.link = link;
    }

    /// Closes its connection, and has none.
    pub fn closes(&mut self, lab: &Lab) -> Result<()> {
        self.moves_to(Link::udp(SocketAddrV4::new(lab.address(), 5060))?);
        Ok(())
    }

    /// As phones do: once without a word who it is, then with it.
    pub fn register(&mut self) -> Result<()> {
        let Owner { user, domain, .. } = self.owner;
        let contact = self.phone.link.contact(user);
        let ask = Ask {
            method: "REGISTER",
            uri: format!("sip:{domain}"),
            call: "registers",
            to: format!("<sip:{user}@{domain}>"),
            rest: format!("Contact: <{contact}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"),
        };
        let answer = self.proves(&ask)?;
        ensure!(answer.starts_with("SIP/2.0 200"), "{answer}");
        ensure!(answer.contains(&contact), "{contact} is not registered: {answer}");
        Ok(())
    }

    /// Calls `code`, and hears until the other side hangs up.
    pub fn dials(&mut self, code: &str) -> Result<()> {
        let Owner { user, domain, .. } = self.owner;
        let call = format!("dials{}", self.asked);
        let uri = format!("sip:{code}@{domain}");
        let contact = self.phone.link.contact(user);
        let sdp = self.phone.sdp("sendrecv")?;
        let rest = format!(
            "Contact: <{contact}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        let mut ask = Ask { method: "INVITE", uri: uri.clone(), call: &call, to: format!("<{uri}>"), rest };
        let answer = self.proves(&ask)?;
        ensure!(answer.starts_with("SIP/2.0 200"), "{answer}");
        ask.to = field(&answer, "To:")?.to_owned();
        self.confirms(&ask, &answer)?;
        let id = self.call_id(&call);
        let end = now() + LIMIT;
        while now() < end {
            let Some(text) = self.phone.link.read()? else { continue };
            self.phone.take(&text)?;
            if text.starts_with("BYE ") && text.contains(&id) {
                return Ok(());
            }
        }
        bail!("{code}: the other side did not hang up")
    }

    fn call_id(&self, call: &str) -> String {
        format!("{call}-{}", self.unique)
    }

    fn proves(&mut self, ask: &Ask<'_>) -> Result<String> {
        let first = self.asks(ask, "")?;
        let (challenge, answer) = match first.get(8..11) {
            Some("401") => ("WWW-Authenticate: Digest ", "Authorization"),
            Some("407") => ("Proxy-Authenticate: Digest ", "Proxy-Authorization"),
            _ => bail!("not asked who it is: {first}"),
        };
        let proof = self.proof(field(&first, challenge)?, ask)?;
        self.asks(ask, &format!("{answer}: Digest {proof}\r\n"))
    }

    /// RFC 2617 §3.2.2, without qop.
    fn proof(&self, challenge: &str, ask: &Ask<'_>) -> Result<String> {
        let Owner { user, secret, .. } = self.owner;
        let quoted = |name: &str| {
            let rest = challenge.split_once(&format!("{name}=\""));
            rest.and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value).context("no such word")
        };
        let (realm, nonce) = (quoted("realm")?, quoted("nonce")?);
        let hash = |text: String| hex(&Md5::digest(text));
        let whose = hash(format!("{user}:{realm}:{secret}"));
        let what = hash(format!("{}:{}", ask.method, ask.uri));
        let response = hash(format!("{whose}:{nonce}:{what}"));
        Ok(format!(
            "username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{}\", response=\"{response}\", algorithm=MD5",
            ask.uri
        ))
    }

    /// Sends a request and returns its final answer; whatever else comes meanwhile is dealt with.
    fn asks(&mut self, ask: &Ask<'_>, proof: &str) -> Result<String> {
        self.asked += 1;
        let text = self.request(ask, ask.method, &ask.uri, "", &format!("{proof}{}", ask.rest));
        self.phone.link.send(&text)?;
        let (id, asked) = (self.call_id(ask.call), format!("CSeq: {} {}\r\n", self.asked, ask.method));
        let end = now() + LIMIT;
        while now() < end {
            let Some(text) = self.phone.link.read()? else { continue };
            if !(text.starts_with("SIP/2.0 ") && text.contains(&id) && text.contains(&asked)) {
                self.phone.take(&text)?;
            } else if !text.starts_with("SIP/2.0 1") {
                if ask.method == "INVITE" && !text.starts_with("SIP/2.0 2") {
                    // Inside the transaction (RFC 3261 §17.1.1.3).
                    let to = field(&text, "To:")?.to_owned();
                    let refused = Ask { to, rest: String::new(), uri: ask.uri.clone(), ..*ask };
                    let ack = self.request(&refused, "ACK", &ask.uri, "", "Content-Length: 0\r\n\r\n");
                    self.phone.link.send(&ack)?;
                }
                return Ok(text);
            }
        }
        bail!("{}: no answer over {:?}", ask.method, self.phone.link)
    }

    /// The ACK of a 200 is a transaction of its own (RFC 3261 §13.2.2.4), by way of its Record-Route, backwards (§12.1.2).
    fn confirms(&mut self, ask: &Ask<'_>, answer: &str) -> Result<()> {
        let target = field(answer, "Contact:")?;
        let target = target.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let (target, _) = target.context("no <> in the Contact")?;
        let recorded: Vec<&str> =
            answer.lines().filter_map(|line| line.strip_prefix("Record-Route:")).collect();
        let recorded = recorded.iter().flat_map(|line| line.split(',')).rev();
        let routes: String = recorded.map(|route| format!("Route: {}\r\n", route.trim())).collect();
        let ack = self.request(ask, "ACK", target, &routes, "Content-Length: 0\r\n\r\n");
        self.phone.link.send(&ack.replace("branch=z9hG4bK", "branch=z9hG4bKa"))
    }

    fn request(&self, ask: &Ask<'_>, method: &str, uri: &str, routes: &str, rest: &str) -> String {
        let (Owner { user, domain, .. }, unique) = (self.owner, &self.unique);
        let (via, number) = (self.phone.link.via(), self.asked);
        format!(
            "{method} {uri} SIP/2.0\r\nVia: {via};branch=z9hG4bK{unique}{number}\r\n{routes}Max-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag={unique}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n{rest}",
            ask.to,
            self.call_id(ask.call)
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
