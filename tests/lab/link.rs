//! How the messages of a phone travel: UDP, TCP, TLS, or WebSocket over either of the last two.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_tungstenite::tungstenite::client::{IntoClientRequest as _, client};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// A reader waits so long for something to come.
const POLL: Duration = Duration::from_millis(5);

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

const MESSAGE_BYTES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Udp,
    Tcp,
    Tls,
    WebSocket,
    SecureWebSocket,
}

impl Kind {
    /// Of a Via (RFC 3261 §20.42, RFC 7118 §5.1).
    fn in_via(self) -> &'static str {
        match self {
            Kind::Udp => "UDP",
            Kind::Tcp => "TCP",
            Kind::Tls => "TLS",
            Kind::WebSocket => "WS",
            Kind::SecureWebSocket => "WSS",
        }
    }

    /// Of a Contact: `ws` whether or not there is TLS below (RFC 7118 §5.2).
    fn in_contact(self) -> &'static str {
        match self {
            Kind::Udp => "",
            Kind::Tcp => ";transport=tcp",
            Kind::Tls => ";transport=tls",
            Kind::WebSocket | Kind::SecureWebSocket => ";transport=ws",
        }
    }
}

/// Whom a phone believes to be the server.
#[derive(Clone)]
pub struct Trust {
    pub certificate: CertificateDer<'static>,
    pub name: String,
}

pub struct Link {
    kind: Kind,
    /// Host and port that the phone gives as its own; whether or not it can be reached there.
    says: String,
    wire: Wire,
    /// First lines of what was sent and read, for who asks why something has not happened.
    story: Vec<String>,
}

enum Wire {
    Datagrams { socket: UdpSocket, peer: Option<SocketAddrV4> },
    Stream { stream: Box<dyn Pipe>, read: Vec<u8> },
    Frames(Box<WebSocket<Box<dyn Pipe>>>),
}

trait Pipe: Read + Write + Send {}
impl<P: Read + Write + Send> Pipe for P {}

impl Link {
    /// Answers whoever has sent the last message.
    pub fn udp(address: SocketAddrV4) -> Result<Link> {
        Link::datagrams(address, None, address.to_string())
    }

    /// Sends to `to`, and gives `says` as its own address.
    pub fn udp_that_says(says: &str, address: SocketAddrV4, to: SocketAddrV4) -> Result<Link> {
        Link::datagrams(address, Some(to), says.to_owned())
    }

    fn datagrams(address: SocketAddrV4, peer: Option<SocketAddrV4>, says: String) -> Result<Link> {
        let socket = UdpSocket::bind(address).with_context(|| format!("binding {address}"))?;
        socket.set_read_timeout(Some(POLL))?;
        Ok(Link { kind: Kind::Udp, says, wire: Wire::Datagrams { socket, peer }, story: Vec::new() })
    }

    /// Connects from any port of `says`, which is what the phone gives as its own; a WebSocket's client has no address to give (RFC 7118 §5).
    pub fn connect(kind: Kind, says: SocketAddrV4, to: SocketAddrV4, trust: &Trust) -> Result<Link> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV4::new(*says.ip(), 0).into())?;
        socket
            .connect_timeout(&SocketAddr::from(to).into(), CONNECT_LIMIT)
            .with_context(|| format!("connecting to {to}"))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_LIMIT))?;
        let patience = stream.try_clone()?;
        let host = format!("{}.invalid", fastrand::u64(..));
        let (says, wire) = match kind {
            Kind::Udp => bail!("UDP does not connect"),
            Kind::Tcp => (says.to_string(), Wire::stream(stream)),
            Kind::Tls => (says.to_string(), Wire::stream(secured(stream, trust)?)),
            Kind::WebSocket => (host, Wire::frames(stream, "ws", trust, to)?),
            Kind::SecureWebSocket => (host, Wire::frames(secured(stream, trust)?, "wss", trust, to)?),
        };
        patience.set_read_timeout(Some(POLL))?;
        Ok(Link { kind, says, wire, story: Vec::new() })
    }

    /// The Contact of the phone, as a URI.
    pub fn contact(&self, user: &str) -> String {
        format!("sip:{user}@{}{}", self.says, self.kind.in_contact())
    }

    /// The Via of a request of this phone's, without its branch.
    pub fn via(&self) -> String {
        format!("SIP/2.0/{} {};rport", self.kind.in_via(), self.says)
    }

    pub fn send(&mut self, text: &str) -> Result<()> {
        self.story.push(line('>', text));
        match &mut self.wire {
            Wire::Datagrams { socket, peer } => {
                socket.send_to(text.as_bytes(), peer.context("nobody to send to")?)?;
            }
            Wire::Stream { stream, .. } => {
                stream.write_all(text.as_bytes())?;
                stream.flush()?;
            }
            Wire::Frames(frames) => frames.send(Message::text(text))?,
        }
        Ok(())
    }

    /// The closing handshake of a WebSocket, or its beginning (RFC 6455 §7.1.2).
    pub fn says_goodbye(&mut self) -> Result<()> {
        match &mut self.wire {
            Wire::Frames(frames) => {
                frames.close(None)?;
                Ok(frames.flush()?)
            }
            Wire::Datagrams { .. } | Wire::Stream { .. } => bail!("{:?} knows no goodbye", self.kind),
        }
    }

    /// The next message, where one comes soon. An error where the other side has closed the connection.
    pub fn read(&mut self) -> Result<Option<String>> {
        let read = self.next()?;
        self.story.extend(read.as_deref().map(|text| line('<', text)));
        Ok(read)
    }

    fn next(&mut self) -> Result<Option<String>> {
        match &mut self.wire {
            Wire::Datagrams { socket, peer } => {
                let mut buffer = [0; MESSAGE_BYTES_MAX];
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { return Ok(None) };
                *peer = Some(crate::net::v4(from)?);
                Ok(Some(text(&buffer[..length])))
            }
            Wire::Stream { stream, read } => {
                if let Some(message) = framed(read)? {
                    return Ok(Some(message));
                }
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer) {
                    Ok(0) => bail!("the other side has closed the connection"),
                    Ok(length) => read.extend(&buffer[..length]),
                    Err(error) if is_later(&error) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
                framed(read)
            }
            Wire::Frames(frames) => match frames.read() {
                Ok(Message::Text(message)) => Ok(Some(message.to_string())),
                Ok(Message::Binary(message)) => Ok(Some(text(&message))),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
                Ok(Message::Close(_)) => bail!("the other side has closed the WebSocket"),
                Err(tungstenite::Error::Io(error)) if is_later(&error) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} of {}: {}", self.kind, self.says, self.story.join(", "))
    }
}

impl Wire {
    fn stream(stream: impl Pipe + 'static) -> Wire {
        Wire::Stream { stream: Box::new(stream), read: Vec::new() }
    }

    /// RFC 7118 §4: the sub-protocol is `sip`, and the server has to say so, too.
    fn frames(stream: impl Pipe + 'static, scheme: &str, trust: &Trust, to: SocketAddrV4) -> Result<Wire> {
        let mut request = format!("{scheme}://{}:{}/", trust.name, to.port()).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let stream: Box<dyn Pipe> = Box::new(stream);
        let upgraded = client(request, stream).map_err(|error| anyhow::anyhow!("WebSocket: {error}"));
        Ok(Wire::Frames(Box::new(upgraded?.0)))
    }
}

fn secured(stream: TcpStream, trust: &Trust) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.certificate.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(trust.name.clone())?;
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).context("TLS")?;
    }
    Ok(stream)
}

fn line(way: char, text: &str) -> String {
    format!("{way} {}", text.lines().next().unwrap_or_default())
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes one whole message off the beginning of what was read (RFC 3261 §18.3).
fn framed(read: &mut Vec<u8>) -> Result<Option<String>> {
    // Empty lines between messages keep a connection alive (RFC 5626 §3.5.1).
    let empty = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    read.drain(..empty);
    let Some(head) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        ensure!(read.len() < MESSAGE_BYTES_MAX, "a message without an end");
        return Ok(None);
    };
    let fields = text(&read[..head]);
    let length = fields.lines().find_map(|line| line.strip_prefix("Content-Length:"));
    let length: usize = length.with_context(|| format!("no Content-Length: {fields}"))?.trim().parse()?;
    let end = head + 4 + length;
    if read.len() < end {
        return Ok(None);
    }
    Ok(Some(text(&read.drain(..end).collect::<Vec<u8>>())))
}
