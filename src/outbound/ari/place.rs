//! Where a node's HTTP server is, and how it is reached.

use crate::outbound::trust::Trust;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Who connects.
pub enum Way {
    /// The node has an HTTP server.
    At(Place),
    /// The node connects by itself.
    Comes,
}

impl Way {
    /// A connection to the node's HTTP server.
    pub async fn connect(&self) -> io::Result<Plug> {
        match self {
            Way::At(place) => place.connect().await,
            Way::Comes => Err(io::Error::new(io::ErrorKind::NotConnected, "the node connects by itself")),
        }
    }
}

/// Where a node's HTTP server is, and as whom to come.
pub struct Place {
    host: String,
    port: u16,
    trust: Option<Trust>,
    authorization: HeaderValue,
}

impl Place {
    /// `trust`: speak TLS, with whoever these certify.
    pub fn new(host: &str, port: u16, trust: Option<Trust>, user: &str, password: &str) -> Place {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        // Base64 is fit for any header.
        let mut authorization =
            HeaderValue::try_from(basic).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
        authorization.set_sensitive(true);
        Place { host: host.to_owned(), port, trust, authorization }
    }

    /// Whether it is there, reached in this way.
    pub fn is_at(&self, host: &str, port: u16, tls: bool) -> bool {
        self.host == host && self.port == port && self.trust.is_some() == tls
    }

    /// `http://host:port`.
    pub fn http(&self) -> String {
        self.url(if self.trust.is_some() { "https" } else { "http" })
    }

    /// `ws://host:port`.
    pub fn websocket(&self) -> String {
        self.url(if self.trust.is_some() { "wss" } else { "ws" })
    }

    fn url(&self, scheme: &str) -> String {
        let host = &self.host;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{}", self.port)
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }

    /// The header `Authorization` (RFC 7617).
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// A connection.
    pub async fn connect(&self) -> io::Result<Plug> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Plug(match &self.trust {
            None => Either::Left(stream),
            Some(trust) => Either::Right(trust.connect(&self.host, stream).await.map_err(io::Error::other)?),
        }))
    }
}

/// A connection, with TLS or without.
pub struct Plug(Either<TcpStream, TlsStream<TcpStream>>);

impl Connection for Plug {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Plug {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plug {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
