//! Whose word on a TLS peer's certificate counts.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Authorities, ready to be asked.
#[derive(Clone)]
pub struct Trust(TlsConnector);

/// Why there is nobody whose word counts.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not there, or is no PEM.
    #[error("{}: cannot be read: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// There is no certificate in it.
    #[error("{}: holds no certificate", .0.display())]
    Empty(PathBuf),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Why there is no TLS with a peer.
#[derive(Debug, thiserror::Error)]
pub enum NoTls {
    /// No certificate can name this host.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String, #[source] InvalidDnsNameError),
    /// It was tried.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Trust {
    /// The authorities in a file, PEM; without one the public ones.
    pub fn load(file: Option<&Path>) -> Result<Trust, TrustError> {
        let Some(file) = file else {
            return Trust::by(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        };
        let wrong = |cause: String| TrustError::Read { file: file.to_owned(), cause };
        let found = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in found {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() { Err(TrustError::Empty(file.to_owned())) } else { Trust::by(roots) }
    }

    fn by(roots: RootCertStore) -> Result<Trust, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS with a peer whose certificate must name `host` (RFC 5922 §7.1).
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, NoTls> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|cause| NoTls::Name(host.to_owned(), cause))?;
        Ok(self.0.connect(name, stream).await?)
    }
}
