//! How the leader talks to nodes: `[ari]`, and `ari` of a node.

use super::super::endpoint::Endpoint;
use super::super::reader::{Reader, Spot};
use crate::domain::uri::NodeUri;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of Asterisk's HTTP server, as its own example has it.
const HTTP_PORT: u16 = 8088;

/// The same with TLS.
const HTTPS_PORT: u16 = 8089;

const NAME_MAX: usize = 64;

const ENDPOINTS_MAX: usize = 16;

/// How the leader talks to nodes: Asterisk's REST interface, ARI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AriConfig {
    /// The Stasis application.
    pub app: String,
    /// The user, as `ari.conf` names it.
    pub user: String,
    /// File with the user's password.
    pub password_file: PathBuf,
    /// Where the HTTP server of a node is that says nothing else: its port.
    pub port: u16,
    /// And whether it speaks TLS.
    pub tls: bool,
    /// Authorities that certify nodes, PEM, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, in ms.
    pub timeout_ms: u64,
    /// Connections for requests, to one node.
    pub connections_max: usize,
    /// Where nodes connect that do so by themselves.
    pub listen: Vec<Endpoint>,
    /// File with the password that they show; `None`: the one of `password_file`.
    pub inbound_password_file: Option<PathBuf>,
}

impl AriConfig {
    /// Reads the password. A failure comes in words that do not repeat it.
    pub fn password(&self) -> Result<String, String> {
        crate::config::read_password(&self.password_file)
    }

    /// Where the ARI of a node is of which only the address is known: on the same host.
    pub fn usual(&self, uri: &NodeUri) -> Ari {
        Ari::Url { tls: self.tls, host: uri.host().to_owned(), port: self.port }
    }
}

/// How one node is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ari {
    /// Its HTTP server is asked.
    Url {
        /// With TLS.
        tls: bool,
        /// Host name or address; IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// It connects by itself.
    Inbound,
}

impl fmt::Display for Ari {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ari::Url { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Ari::Inbound => f.write_str("inbound"),
        }
    }
}

/// What a node's `ari` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeAri {
    /// Nothing: as [`AriConfig::usual`] has it.
    #[default]
    Usual,
    /// There.
    At(Ari),
    /// It takes calls, and none that wait in a queue.
    Off,
}

impl FromStr for NodeAri {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<NodeAri, &'static str> {
        match text {
            "off" => return Ok(NodeAri::Off),
            "inbound" => return Ok(NodeAri::At(Ari::Inbound)),
            _ => {}
        }
        let (tls, place) = match text.split_once("://") {
            Some(("http", place)) => (false, place),
            Some(("https", place)) => (true, place),
            Some(_) | None => return Err(FORM),
        };
        if place.contains(';') {
            return Err(FORM);
        }
        // The rules for a host and its port are those of a SIP address.
        let place: NodeUri = format!("sip:{place}").parse().map_err(|_| FORM)?;
        let port = place.port().ok_or(FORM)?;
        Ok(NodeAri::At(Ari::Url { tls, host: place.host().to_owned(), port }))
    }
}

const FORM: &str = "write http://host:port or https://host:port, nothing behind it; \"off\", or \"inbound\": the node connects";

/// `ari` of a node.
pub(in crate::config) fn node_ari(t: &mut Reader<'_, '_>) -> NodeAri {
    t.text("ari", str::parse::<NodeAri>).unwrap_or_default()
}

/// `[ari]`; a cell at `cell` needs it.
pub(super) fn ari(mut t: Reader<'_, '_>, cell: &Spot) -> Option<AriConfig> {
    let app = t.text("app", name).unwrap_or_else(|| "mqs".to_owned());
    let user = t.text("user", name).unwrap_or_else(|| "mqs".to_owned());
    let password_file = t.path("password_file");
    if !t.has("password_file") {
        let spot = if t.is_written() { t.spot() } else { cell };
        let message = "missing: the leader of a cell needs the password of a user in the nodes' ari.conf";
        t.wrong(&spot.said_of("ari.password_file"), message);
    }
    let tls = t.flag("tls").unwrap_or(false);
    let port = t.number("port", 1..=65_535, "").unwrap_or(if tls { HTTPS_PORT } else { HTTP_PORT });
    let ca_file = t.path("ca_file");
    let timeout_ms = t.number("timeout_ms", 100..=10_000, " (ms)").unwrap_or(1500);
    let connections_max = t.number("connections_max", 1..=256, " (connections)").unwrap_or(16);
    let listen = t.list("listen", ENDPOINTS_MAX, str::parse::<Endpoint>).unwrap_or_default();
    let listen = once_each(&t, listen);
    let inbound_password_file = t.path("inbound_password_file");
    t.done();
    Some(AriConfig {
        app,
        user,
        password_file: password_file?,
        port,
        tls,
        ca_file,
        timeout_ms,
        connections_max,
        listen,
        inbound_password_file,
    })
}

fn once_each(t: &Reader<'_, '_>, listed: Vec<(Endpoint, Spot)>) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = Vec::new();
    for (endpoint, spot) in listed {
        match all.iter().find(|earlier| earlier.overlaps(&endpoint)) {
            Some(earlier) => t.wrong(
                &spot,
                format!("{endpoint} cannot be listened on twice: {earlier} is there before it"),
            ),
            None => all.push(endpoint),
        }
    }
    all
}

/// Of an application or a user: it travels in addresses, and before the colon of a password (RFC 7617).
fn name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("write 1 to {NAME_MAX} letters, digits, '.', '_' and '-'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print_alike() {
        for text in ["http://10.0.1.1:8088", "https://ast1.example.com:1", "http://[2001:db8::1]:65535"] {
            let NodeAri::At(ari) = text.parse().unwrap() else { panic!("{text}") };
            assert_eq!(ari.to_string(), text);
        }
        assert_eq!("off".parse(), Ok(NodeAri::Off));
        assert_eq!("inbound".parse(), Ok(NodeAri::At(Ari::Inbound)));
        for bad in [
            "",
            "on",
            "Off",
            "10.0.1.1:8088",
            "http://10.0.1.1",
            "http://10.0.1.1:0",
            "http://10.0.1.1:65536",
            "http://10.0.1.1:8088/",
            "http://10.0.1.1:8088/ari",
            "http://10.0.1.1:8088;x",
            "http://10.0.1.1:8088?x",
            "http://10.0.1.1:8088\r\n",
            "http://me:secret@10.0.1.1:8088",
            "HTTP://10.0.1.1:8088",
            "ws://10.0.1.1:8088",
            "http://:8088",
            "http://a b:8088",
        ] {
            assert_eq!(bad.parse::<NodeAri>(), Err(FORM), "{bad:?}");
        }
    }
}
