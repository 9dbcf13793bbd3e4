//! Does anybody answer SIP there? An OPTIONS (RFC 3261 §11) over UDP, TCP or TLS.

use super::trust::{NoTls, Trust};
use crate::clock::Stopwatch;
use crate::domain::uri::NodeUri;
use crate::wire::sip::{self, BRANCH_COOKIE, Draft, Message, Response};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// When a request over UDP is sent again (T1 of RFC 3261 §17.1.1.2).
const REPEAT_AFTER: Duration = Duration::from_millis(500);

/// What to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream that nobody else reads, with a peer whose name is certified.
    Tls,
}

impl Transport {
    /// What an address asks for; `None`: something that a probe does not speak.
    pub fn of(uri: &NodeUri) -> Option<Transport> {
        match (uri.secure(), uri.transport().as_deref()) {
            _ if uri.over_tls() => Some(Transport::Tls),
            (false, None | Some("udp")) => Some(Transport::Udp),
            (false, Some("tcp")) => Some(Transport::Tcp),
            (true, _) | (false, Some(_)) => None,
        }
    }

    /// As a Via has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The final status.
    pub code: u16,
    /// Its reason phrase.
    pub reason: String,
    /// How long it took.
    pub took: Duration,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Silence.
    #[error("no answer within {after_ms} ms")]
    Silence {
        /// How long was waited.
        after_ms: u64,
    },
    /// Nobody listens there, or there is no way to go there.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no TLS with who listens there.
    #[error("TLS: {0}")]
    Tls(#[from] NoTls),
    /// Nobody said whose word on certificates counts.
    #[error("TLS is not set up for this pool")]
    NoTrust,
    /// What came back over a stream is not SIP.
    #[error("what came back is not SIP: {0}")]
    NotSip(#[from] sip::SipError),
    /// The address cannot stand in a message.
    #[error(transparent)]
    NotSendable(#[from] sip::NotSendable),
}

/// An id for one question: nobody who has not seen it can answer it.
pub fn fresh_id() -> String {
    let mut random = [0; 12];
    // Without random bytes the question is only easier to guess.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|b| format!("{b:02x}")).collect()
}

/// Asks once; `trust`: who certifies the peer, for TLS. `id` makes this question differ from every other one: letters and digits.
pub async fn options(
    uri: &NodeUri,
    place: SocketAddr,
    transport: Transport,
    trust: Option<&Trust>,
    id: &str,
    patience: Duration,
) -> Result<Answer, ProbeError> {
    let clock = Stopwatch::start();
    let asked = async {
        match transport {
            Transport::Udp => over_udp(uri, place, id).await,
            Transport::Tcp => {
                let stream = TcpStream::connect(place).await?;
                let question = question(uri, stream.local_addr()?, transport, id)?;
                over_stream(stream, &question, id).await
            }
            Transport::Tls => {
                let trust = trust.ok_or(ProbeError::NoTrust)?;
                let stream = TcpStream::connect(place).await?;
                let question = question(uri, stream.local_addr()?, transport, id)?;
                over_stream(trust.connect(uri.host(), stream).await?, &question, id).await
            }
        }
    };
    let after_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let response =
        tokio::time::timeout(patience, asked).await.map_err(|_| ProbeError::Silence { after_ms })??;
    Ok(Answer { code: response.code, reason: response.reason, took: clock.elapsed() })
}

async fn over_udp(uri: &NodeUri, place: SocketAddr, id: &str) -> Result<Response, ProbeError> {
    let any = match place {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, so that only this peer is heard, and its "port unreachable" too.
    socket.connect(place).await?;
    let bytes = question(uri, socket.local_addr()?, Transport::Udp, id)?;
    let mut buffer = vec![0; sip::MESSAGE_MAX];
    loop {
        socket.send(&bytes).await?;
        let heard = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let datagram = buffer.get(..length).unwrap_or_default();
                if let Some(answer) = sip::parse(datagram).ok().and_then(|m| final_answer(m, id)) {
                    return Ok::<_, ProbeError>(answer);
                }
            }
        };
        if let Ok(answer) = tokio::time::timeout(REPEAT_AFTER, heard).await {
            return answer;
        }
    }
}

async fn over_stream<S>(mut stream: S, question: &[u8], id: &str) -> Result<Response, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if let Some((message, taken)) = sip::parse_stream(&bytes)? {
            bytes.drain(..taken);
            if let Some(answer) = final_answer(message, id) {
                return Ok(answer);
            }
        } else if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer").into());
        }
    }
}

fn final_answer(message: Message, id: &str) -> Option<Response> {
    match message {
        Message::Response(r) => {
            (r.code >= 200 && r.head.call_id() == id && r.head.cseq() == (1, "OPTIONS")).then_some(r)
        }
        Message::Request(_) => None,
    }
}

fn question(
    uri: &NodeUri,
    from: SocketAddr,
    transport: Transport,
    id: &str,
) -> Result<Vec<u8>, sip::NotSendable> {
    let shown = uri.as_str();
    Draft::request("OPTIONS", shown)?
        .with("Via", format!("SIP/2.0/{} {from};rport;branch={BRANCH_COOKIE}{id}", transport.as_str()))
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:mqs@{from}>;tag={id}"))
        .with("To", format!("<{shown}>"))
        .with("Call-ID", id)
        .with("CSeq", "1 OPTIONS")
        .with("Contact", format!("<sip:mqs@{from}>"))
        .with("User-Agent", concat!("mqs/", env!("CARGO_PKG_VERSION")))
        .bytes(b"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn answer(question: &[u8], code: u16) -> Vec<u8> {
        let Ok(Message::Request(request)) = sip::parse(question) else { panic!("not a request") };
        Draft::response(&request, code, "Word", Some("t")).bytes(b"").unwrap()
    }

    async fn ask(place: SocketAddr, transport: Transport) -> Result<Answer, ProbeError> {
        let uri: NodeUri = format!("sip:{place}").parse().unwrap();
        options(&uri, place, transport, None, "abc", Duration::from_millis(900)).await
    }

    #[tokio::test]
    async fn over_udp_strangers_and_other_answers_are_not_heard_and_a_lost_question_is_repeated() {
        let node = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let place = node.local_addr().unwrap();
        let asked = tokio::spawn(ask(place, Transport::Udp));
        let mut buffer = vec![0; 2000];
        let _lost = node.recv_from(&mut buffer).await.unwrap();
        let (length, peer) = node.recv_from(&mut buffer).await.unwrap();
        let question = buffer[..length].to_vec();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&answer(&question, 599), peer).await.unwrap();
        let other = String::from_utf8(answer(&question, 200)).unwrap().replace("abc", "xyz");
        for bytes in
            [b"nonsense".to_vec(), other.into_bytes(), answer(&question, 100), answer(&question, 404)]
        {
            node.send_to(&bytes, peer).await.unwrap();
        }
        let answer = asked.await.unwrap().unwrap();
        assert_eq!((answer.code, answer.reason.as_str()), (404, "Word"));
    }

    #[tokio::test]
    async fn silence_and_nobody_are_told_apart() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = ask(silent.local_addr().unwrap(), Transport::Udp).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 900 ms");
        let place = silent.local_addr().unwrap();
        drop(silent);
        assert!(matches!(ask(place, Transport::Udp).await, Err(ProbeError::Io(_))));
        assert!(matches!(ask(place, Transport::Tcp).await, Err(ProbeError::Io(_))));
    }

    #[tokio::test]
    async fn over_tcp_in_pieces() {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = tokio::spawn(ask(node.local_addr().unwrap(), Transport::Tcp));
        let (mut stream, _) = node.accept().await.unwrap();
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut question).await.unwrap();
        }
        let bytes = [answer(&question, 100), answer(&question, 503)].concat();
        for piece in bytes.chunks(50) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.code, 503);
    }
}
