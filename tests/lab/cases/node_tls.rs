//! A node that speaks TLS and SRTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::Case;
use crate::ari::App;
use crate::asterisk::{Asterisk, NodeConfig};
use crate::net;
use crate::parts::Part;
use crate::phone::Invite;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "node::speaks_tls", needs: &[Part::Asterisk], run: speaks_tls },
    Case { name: "node::wants_srtp", needs: &[Part::Asterisk], run: wants_srtp },
];

const SOON: Duration = Duration::from_secs(5);

/// A certificate for all addresses, its own authority.
struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    option: String,
}

impl Certificate {
    /// Asterisk's websocket client looks at the common name and at names of hosts, not at addresses.
    fn new(lab: &Lab, addresses: &[String], common_name: &str) -> Result<Certificate> {
        let signing_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(addresses)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let cert = params.self_signed(&signing_key)?;
        let program = lab.parts().get(Part::Asterisk)?;
        let cert_file = program.sees(&lab.write("cert.pem", &cert.pem())?)?;
        let key = program.sees(&lab.write("key.pem", &signing_key.serialize_pem())?)?;
        let option = format!("{0},{1},{0}", cert_file.display(), key.display());
        Ok(Certificate { der: cert.der().clone(), key: signing_key.serialize_der(), option })
    }

    /// Connects and checks that it is this certificate that is shown.
    fn connect(&self, to: SocketAddr) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), to.ip().into())?, stream))
    }

    /// The other side of the one that connects to `listener`.
    fn accept(&self, listener: &TcpListener) -> Result<StreamOwned<ServerConnection, TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = config.with_no_client_auth().with_single_cert(vec![self.der.clone()], key)?;
        listener.set_nonblocking(true)?;
        let mut stream = None;
        net::wait_until("the node connects", SOON, || {
            stream = Some(listener.accept()?.0);
            Ok(true)
        })?;
        let stream = stream.context("no connection")?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(StreamOwned::new(ServerConnection::new(Arc::new(config))?, stream))
    }
}

fn first_bytes(from: &mut impl Read) -> Result<String> {
    let mut buffer = [0; 4096];
    let length = from.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn speaks_tls(lab: &Lab) -> Result<()> {
    let address = lab.address();
    let mqs_address = lab.address();
    let certificate =
        Certificate::new(lab, &[address.to_string(), "127.0.0.1".to_owned()], &mqs_address.to_string())?;
    // What connects to a loopback address without having been told another one comes from 127.0.0.1.
    let kamailio = TcpListener::bind("127.0.0.1:0")?;
    let mqs = TcpListener::bind((mqs_address, 8765))?;
    let config = NodeConfig {
        address: Some(address),
        options: vec![
            "--tls".to_owned(),
            certificate.option.clone(),
            "--kamailio".to_owned(),
            format!("safe={}/tls", kamailio.local_addr()?),
            "--ari-connect".to_owned(),
            format!("wss://{}/ari", mqs.local_addr()?),
        ],
        ..NodeConfig::default()
    };
    let node = Asterisk::start_unasked(lab, "ast1", &config)?;
    ensure!(!net::tcp_is_open(node.http()), "ARI is open without TLS");
    let (user, secret) = node.ari_user();
    let ask = |path: &str| -> Result<String> {
        let mut stream = certificate.connect((address, 8089).into())?;
        let key = format!("api_key={user}:{secret}");
        write!(stream, "POST /ari{path}&{key} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")?;
        first_bytes(&mut stream)
    };
    let answer = ask("/channels?endpoint=PJSIP%2Fsafe%2Fsip:anne@example.com&extension=1234&context=answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut phone = certificate.accept(&kamailio)?;
    let invite = first_bytes(&mut phone)?;
    ensure!(invite.starts_with("INVITE sip:anne@example.com SIP/2.0\r\nVia: SIP/2.0/TLS "), "{invite}");

    // It has tried before, and given up since nobody accepted.
    let mut upgrade = String::new();
    net::wait_until("the node connects to MQS", SOON, || {
        upgrade = first_bytes(&mut certificate.accept(&mqs)?)?;
        Ok(!upgrade.is_empty())
    })?;
    ensure!(upgrade.starts_with("GET /ari HTTP/1.1\r\n"), "{upgrade}");
    ensure!(upgrade.contains("Sec-WebSocket-Protocol: ari\r\n"), "{upgrade}");

    let mut stream = certificate.connect((address, 5061).into())?;
    write!(
        stream,
        "OPTIONS sip:1234@{address} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKx\r\nMax-Forwards: 9\r\n\
         From: <sip:x@127.0.0.1>;tag=x\r\nTo: <sip:{address}>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )?;
    let answer = first_bytes(&mut stream)?;
    ensure!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    Ok(())
}

fn wants_srtp(lab: &Lab) -> Result<()> {
    let crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    for (mode, plain_is) in [("require", 488), ("offer", 200)] {
        let kamailio = SocketAddrV4::new(lab.address(), 5060);
        let options = vec!["--srtp".to_owned(), mode.to_owned()];
        let config = NodeConfig { options, ..NodeConfig::behind(kamailio) };
        let node = Asterisk::start(lab, &format!("{mode}-1"), &config)?;
        let socket = UdpSocket::bind(kamailio)?;
        let mut plain = Invite::to("1234", "plain").send(&socket, node.sip())?;
        ensure!(plain.wait_final(SOON)? == plain_is, "{mode}, without SRTP: {}", plain.story());
        let sealed = Invite { profile: "RTP/SAVP", attributes: crypto, ..Invite::to("1234", "sealed") };
        let mut sealed = sealed.send(&socket, node.sip())?;
        ensure!(sealed.wait_final(SOON)? == 200, "{mode}: {}", sealed.story());
        let answer = &sealed.replies.last().context("no reply")?.2;
        ensure!(answer.contains("RTP/SAVP 0") && answer.contains("a=crypto:1 "), "{answer}");
        drop(App::attach(&node, "mqs")?);
    }
    Ok(())
}
