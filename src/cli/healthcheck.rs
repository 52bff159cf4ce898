//! `bipedalnet healthcheck`

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bipedalnet_client::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{Failure, serve};
use crate::config::Config;

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Check whether a server runs, for containers without other tools
///
/// Takes the settings of `serve`, and asks the server that has them on this machine. Exits with 0 if it
/// runs, with 1 if not.
#[derive(clap::Args)]
// The group of `serve::Arguments` has the same name.
#[group(skip)]
pub struct Arguments {
    /// URL of a server, instead of the one with these settings. Its certificate must be trusted by the
    /// system
    #[arg(long, env = "BIPEDALNET_URL", value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    serve: serve::Arguments,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { url, serve } = arguments;
    if let Some(url) = url {
        let client = Client::new(&url, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return Ok(runtime.block_on(client.live())?);
    }
    if let Some(warning) = check(&serve.config)? {
        eprintln!("bipedalnet: the server runs, but {warning}");
    }
    Ok(())
}

/// Asks the server with these settings. Returns what is wrong with its certificate.
pub(super) fn check(config: &Config) -> Result<Option<String>, Failure> {
    let address = on_this_machine(config.listen);
    if address.port() == 0 {
        return Err("the server chose its port by itself; pass its address with --url".into());
    }
    let files = serve::tls_files(config)?;
    let asked = ask(address, files.as_ref().map(|files| files.certificate.as_path()));
    asked.map_err(|failure| format!("the server does not run at {address}: {failure}").into())
}

/// Where to reach a server that listens on an address.
pub(super) fn on_this_machine(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let is_v4 = listen.is_ipv4();
        listen.set_ip(if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listen
}

fn ask(address: SocketAddr, certificate: Option<&Path>) -> Result<Option<String>, Failure> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Some(certificate) = certificate else {
        live(stream, address)?;
        return Ok(None);
    };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), address.ip().into())?;
    let mut stream = StreamOwned::new(connection, stream);
    live(&mut stream, address)?;
    let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
    let file = certificate.display();
    Ok(match CertificateDer::from_pem_file(certificate) {
        Ok(own) if shown == Some(&own) => None,
        Ok(_) => Some(format!("with another certificate than {file}; its log says why")),
        Err(error) => Some(format!("{file} was not compared with its certificate: {error}")),
    })
}

/// Asks for `/livez`. Too many requests from this machine (429) are no reason for a restart.
fn live(mut stream: impl Read + Write, address: SocketAddr) -> Result<(), Failure> {
    let request = format!("GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    // The end of a connection may be an error, after the response.
    let end = stream.take(64 << 10).read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response);
    let runs = response.starts_with("HTTP/1.1 200 ") && response.ends_with("live\n");
    if runs || response.starts_with("HTTP/1.1 429 ") {
        return Ok(());
    }
    end?;
    let first = response.lines().next().unwrap_or("an empty response");
    Err(format!("{first:?} is not what bipedalnet answers").into())
}

/// Accepts every certificate that the server has the key of. A server with an old one runs, and a
/// restart with files that do not fit would end it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
