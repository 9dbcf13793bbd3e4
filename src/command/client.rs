//! Asks a running instance, over its HTTP socket or an `http://` or `https://` address.

use super::output;
use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where an instance listens unless its configuration says otherwise.
const SOCKET: &str = "/run/mqs/http.sock";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that goes on says at least a comment so often: the instance does each 15 s.
const SILENCE: Duration = Duration::from_secs(40);

/// The largest answer, in bytes: all nodes of all pools fit.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Which instance to ask
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Which instance to ask")]
pub struct Instance {
    /// Its HTTP socket
    #[arg(long, value_name = "PATH", env = "MQS_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
    /// Its address instead of its socket: http://127.0.0.1:8088, https://mqs1.example.com:8443
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// File with its bearer token; needed for addresses that are not loopback
    #[arg(long, value_name = "FILE", env = "MQS_TOKEN_FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// File with the certificates (PEM) that its own must be signed by; needed for https
    #[arg(long, value_name = "FILE", env = "MQS_CA_FILE", requires = "url")]
    ca_file: Option<PathBuf>,
}

/// What an instance says when it refuses (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    title: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    field: Option<String>,
    retry_after_s: Option<u32>,
}

impl Instance {
    /// The instance behind this socket.
    pub fn at_socket(socket: &Path) -> Instance {
        Instance { socket: socket.to_owned(), url: None, token_file: None, ca_file: None }
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        match &self.url {
            Some(url) => url.to_string(),
            None => self.socket.display().to_string(),
        }
    }

    /// The options that lead to the same instance, for commands that people copy; empty for the default socket.
    pub fn options(&self) -> String {
        match &self.url {
            Some(url) => format!(" --url {url}"),
            None if self.socket == Path::new(SOCKET) => String::new(),
            None => format!(" --socket {}", self.socket.display()),
        }
    }

    /// `GET`, and its answer as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(&self.ask(Method::GET, path, None).await?)
    }

    /// `POST`, and its answer as JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        read(&self.ask(Method::POST, path, Some(body)).await?)
    }

    /// Asks, and returns the body of a 2xx. Everything else is an error that says what the instance said.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Bytes> {
        self.ask_with(method, path, &[], body).await
    }

    /// The same with headers.
    pub async fn ask_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Bytes> {
        let asked = async {
            let response = self.request(method, path, headers, body).await?;
            let status = response.status();
            let body = self.whole(response).await?;
            if status.is_success() { Ok(body) } else { Err(refused(status.as_u16(), &body, &self.place())) }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        asked.map_err(|_| anyhow!("{}: no answer within {} s", self.place(), PATIENCE.as_secs()))?
    }

    /// `GET`, whose answer goes on and on: `heard` is given each block of it, up to an empty line. Returns when the instance
    /// ends it.
    pub async fn listen(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        mut heard: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let opened = tokio::time::timeout(PATIENCE, self.request(Method::GET, path, headers, None)).await;
        let late = |limit: Duration| anyhow!("{}: silent for {} s", self.place(), limit.as_secs());
        let response = opened.map_err(|_| late(PATIENCE))??;
        let status = response.status();
        if !status.is_success() {
            let body = self.whole(response).await?;
            return Err(refused(status.as_u16(), &body, &self.place()));
        }
        let (mut body, mut buffer) = (response.into_body(), Vec::new());
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| late(SILENCE))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.with_context(|| self.place())?;
            buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = buffer.drain(..end + 2).collect();
                heard(String::from_utf8_lossy(&block).trim_end())?;
            }
            if buffer.len() > ANSWER_MAX {
                bail!("{}: a block of more than {ANSWER_MAX} bytes", self.place());
            }
        }
    }

    async fn whole(&self, response: Response<Incoming>) -> anyhow::Result<Bytes> {
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok(body.map_err(|e| anyhow!("{}: {e}", self.place()))?.to_bytes())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = self.url.as_ref().and_then(Uri::authority).map_or("mqs", |authority| authority.as_str());
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(file) = &self.token_file {
            let token = super::serve::peers_token(file).context("token file")?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(bytes))).context("the request")?;
        match self.url.as_ref().map(|url| (url, url.scheme_str())) {
            None => send(self.unix().await?, request, &self.place()).await,
            Some((url, Some("http"))) => send(self.tcp(url, 80).await?, request, &self.place()).await,
            Some((url, Some("https"))) => send(self.tls(url).await?, request, &self.place()).await,
            Some((url, _)) => bail!("{url}: write http://host:port or https://host:port"),
        }
    }

    async fn unix(&self) -> anyhow::Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).await;
        stream.with_context(|| format!("no instance answers at {}", self.socket.display()))
    }

    async fn tcp(&self, url: &Uri, port: u16) -> anyhow::Result<TcpStream> {
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, url.port_u16().unwrap_or(port))).await;
        stream.with_context(|| format!("no instance answers at {url}"))
    }

    async fn tls(&self, url: &Uri) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        let file = self.ca_file.as_ref().context("https needs --ca-file")?;
        let mut roots = rustls::RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(file).with_context(|| file.display().to_string())?;
        for certificate in found {
            roots.add(certificate.with_context(|| file.display().to_string())?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).with_context(|| url.to_string())?;
        let stream = self.tcp(url, 443).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.with_context(|| url.to_string())
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>, place: &str) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let at = || place.to_owned();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(at)?;
    tokio::spawn(connection);
    sender.send_request(request).await.with_context(at)
}

fn refused(status: u16, body: &[u8], place: &str) -> anyhow::Error {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let Some(Problem { title, code: Some(code), detail, field, retry_after_s }) = problem else {
        return anyhow!("{place} answered {status}; is it an instance of MQS?");
    };
    let mut text = detail.or(title).unwrap_or_default();
    if let Some(field) = field.filter(|field| !text.contains(field.as_str())) {
        text = format!("{field}: {text}");
    }
    if let Some(seconds) = retry_after_s {
        text.push_str(&format!("; try again in {seconds} s"));
    }
    // What is wrong with a file takes several lines.
    let text = text.lines().map(output::plain).collect::<Vec<_>>().join("\n");
    anyhow!("{text} ({})", output::plain(&code))
}

/// Reads an answer.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the instance's answer cannot be read; is it of another version?")
}
