//! Sockets for all servers: modes and groups, left-over files, TLS.

use crate::config::{Endpoint, Listen, TlsFiles};
use nix::unistd::Group;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("{0}: a live process listens there already")]
    Taken(PathBuf),
    /// A file that is not a socket is in the way; it is not touched.
    #[error("{0}: exists and is not a socket")]
    NotASocket(PathBuf),
    /// No such group.
    #[error("socket_group {0:?}: there is no such group on this host")]
    NoGroup(String),
    /// Certificate or key cannot be used.
    #[error("{path}: {cause}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The system said no.
    #[error("{what}: {cause}")]
    Io {
        /// Endpoint or file.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// A bound socket.
pub struct Listener {
    socket: Socket,
    endpoint: Endpoint,
    tls: Option<TlsAcceptor>,
}

enum Socket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Held for as long as the listener lives.
        _lock: File,
    },
}

impl Listener {
    /// Binds an endpoint. On TCP, TLS is spoken when the configuration names a certificate and the address is not loopback.
    pub async fn bind(endpoint: &Endpoint, listen: &Listen) -> Result<Listener, ListenError> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let io = |cause| ListenError::Io { what: endpoint.to_string(), cause };
                let socket = Socket::Tcp(TcpListener::bind(address).await.map_err(io)?);
                let tls =
                    listen.tls.as_ref().filter(|_| !address.ip().is_loopback()).map(acceptor).transpose()?;
                Ok(Listener { socket, endpoint: endpoint.clone(), tls })
            }
            Endpoint::Unix(path) => {
                let socket = bind_unix(path, listen.socket_mode, listen.socket_group.as_deref()).await?;
                Ok(Listener { socket, endpoint: endpoint.clone(), tls: None })
            }
        }
    }

    /// Where it listens, as it was configured.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address that the system gave, for a TCP endpoint with port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    /// True when a peer must show a token: whoever gets at a Unix socket, or at loopback, was let in by this host.
    pub fn needs_token(&self) -> bool {
        match &self.endpoint {
            Endpoint::Tcp(address) => !address.ip().is_loopback(),
            Endpoint::Unix(_) => false,
        }
    }

    /// The next connection. [`Incoming::open`] does the TLS handshake, which may take long and so belongs into the connection's task.
    pub async fn accept(&self) -> io::Result<Incoming> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Incoming { stream: Raw::Tcp(stream), peer: Peer::Tcp(peer), tls: self.tls.clone() })
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                Ok(Incoming { stream: Raw::Unix(stream), peer: Peer::Unix, tls: None })
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (Socket::Unix { .. }, Endpoint::Unix(path)) = (&self.socket, &self.endpoint) {
            // A newer instance may have its socket there already only after this one gave up its lock, which is later.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on this host.
    Unix,
    /// An address.
    Tcp(SocketAddr),
}

impl Peer {
    /// The word for its sort of socket, in metrics.
    pub fn socket(&self) -> &'static str {
        match self {
            Peer::Unix => "unix",
            Peer::Tcp(_) => "tcp",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix => f.write_str("unix"),
            Peer::Tcp(address) => address.fmt(f),
        }
    }
}

/// A connection before its handshake.
pub struct Incoming {
    stream: Raw,
    /// Who is there.
    pub peer: Peer,
    tls: Option<TlsAcceptor>,
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Incoming {
    /// Does the TLS handshake, where there is one.
    pub async fn open(self) -> io::Result<Stream> {
        match (self.stream, self.tls) {
            (Raw::Tcp(stream), Some(tls)) => Ok(Stream::Tls(Box::new(tls.accept(stream).await?))),
            (Raw::Tcp(stream), None) => Ok(Stream::Tcp(stream)),
            (Raw::Unix(stream), _) => Ok(Stream::Unix(stream)),
        }
    }
}

/// A connection, whatever it runs over.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

async fn bind_unix(path: &Path, mode: u32, group: Option<&str>) -> Result<Socket, ListenError> {
    let io = |cause| ListenError::Io { what: path.display().to_string(), cause };
    let group = group.map(find_group).transpose()?;
    let lock_path = with_suffix(path, ".lock");
    let lock_io = |cause| ListenError::Io { what: lock_path.display().to_string(), cause };
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(lock_io)?;
    if lock.try_lock().is_err() {
        return Err(ListenError::Taken(path.to_owned()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        // Another program's socket holds no lock of ours: ask it.
        Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(ListenError::Taken(path.to_owned())),
        Ok(_) => tracing::info!(path = %path.display(), "replacing the socket that a dead process left"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    // Bound under another name and then renamed, so that it is never there with the wrong mode.
    let fresh = with_suffix(path, ".new");
    let _ = std::fs::remove_file(&fresh);
    let socket = UnixListener::bind(&fresh).map_err(io)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(io)?;
    if let Some(gid) = group {
        std::os::unix::fs::chown(&fresh, None, Some(gid)).map_err(io)?;
    }
    std::fs::rename(&fresh, path).map_err(io)?;
    Ok(Socket::Unix { socket, _lock: lock })
}

fn find_group(name: &str) -> Result<u32, ListenError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(ListenError::NoGroup(name.to_owned())),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

/// Reads certificate and key.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ListenError> {
    let wrong = |path: &Path, cause: String| ListenError::Tls { path: path.to_owned(), cause };
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|e| wrong(&files.cert, e.to_string()))?;
    if certs.is_empty() {
        return Err(wrong(&files.cert, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(&files.key, e.to_string()))?;
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&files.cert, e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .map_err(|e| wrong(&files.key, e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
