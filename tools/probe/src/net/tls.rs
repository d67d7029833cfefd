//! TLS: the handshake, with the certificate of the server and the verdict about it.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion,
    SignatureScheme, StreamOwned,
};
use rustls_platform_verifier::Verifier;

use super::certificate::Certificate;

/// The reason why a TLS handshake fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsFault {
    Expired,
    NotYetValid,
    WrongName,
    UnknownIssuer,
    /// Another fault of the certificate.
    Certificate(String),
    /// The server does not use TLS at this port.
    NotTls,
    /// The server has closed the connection.
    Closed,
    TimedOut,
    Other(String),
}

/// Observations about a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSeen {
    /// The version of the protocol, or the fault. A fault of the certificate that is ignored is in `ignored`.
    pub(crate) result: Result<&'static str, TlsFault>,
    /// The fault of the certificate, if the probe continues in spite of it.
    pub(crate) ignored: Option<TlsFault>,
    pub(crate) certificate: Option<Certificate>,
    /// The number of certificates that the server has sent.
    pub(crate) sent: usize,
}

/// The configuration of TLS for one server.
#[derive(Debug)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    observer: Arc<Observer>,
}

impl TlsClient {
    /// Trusts the certificates of the system, and those in the PEM file `ca`.
    ///
    /// # Errors
    /// The reason, as a sentence.
    pub(crate) fn new(host: &str, ca: Option<&Path>, is_insecure: bool) -> Result<TlsClient, String> {
        let provider = Arc::new(ring::default_provider());
        let extra = ca.map(read_certificates).transpose()?.unwrap_or_default();
        let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
            .map_err(|error| format!("the trusted certificates of this machine cannot be read: {error}"))?;
        let observer = Arc::new(Observer { verifier, is_insecure, seen: Mutex::default() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&observer) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        // A WebSocket upgrade needs HTTP/1.1, which a gateway must not replace by HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| "the host is not a name for TLS".to_owned())?;
        Ok(TlsClient { config: Arc::new(config), name, observer })
    }

    /// Performs a handshake.
    pub(crate) fn handshake(
        &self,
        mut tcp: TcpStream,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(StreamOwned::new(connection, tcp))
    }

    /// Performs a handshake, and returns observations about it.
    pub(crate) fn inspect(&self, tcp: io::Result<TcpStream>) -> TlsSeen {
        let result = tcp.and_then(|tcp| self.handshake(tcp));
        let seen = std::mem::take(&mut *self.observer.seen.lock().unwrap_or_else(PoisonError::into_inner));
        TlsSeen {
            result: result
                .map(|stream| version(stream.conn.protocol_version()))
                .map_err(|error| fault(&error)),
            ignored: seen.fault,
            certificate: seen.certificate.and_then(|der| Certificate::parse(&der)),
            sent: seen.sent,
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("--ca {}: {error}", path.display()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| format!("--ca {}: not a PEM file with certificates", path.display()))
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    if version == Some(ProtocolVersion::TLSv1_3) { "TLS 1.3" } else { "TLS 1.2" }
}

fn fault(error: &io::Error) -> TlsFault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(Error::InvalidCertificate(error)), _) => certificate_fault(error),
        (Some(Error::InvalidMessage(_)), _) => TlsFault::NotTls,
        (Some(error), _) => TlsFault::Other(error.to_string()),
        (None, ErrorKind::TimedOut | ErrorKind::WouldBlock) => TlsFault::TimedOut,
        (None, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            TlsFault::Closed
        }
        (None, _) => TlsFault::Other(error.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors are shown as text")]
fn certificate_fault(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        other => TlsFault::Certificate(other.to_string()),
    }
}

/// Verifies certificates by the rules of the system, and keeps the last one.
#[derive(Debug)]
struct Observer {
    verifier: Verifier,
    /// Whether a certificate that is not valid is accepted.
    is_insecure: bool,
    seen: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    certificate: Option<Vec<u8>>,
    sent: usize,
    fault: Option<TlsFault>,
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let fault = match &result {
            Err(Error::InvalidCertificate(error)) => Some(certificate_fault(error)),
            Err(error) => Some(TlsFault::Other(error.to_string())),
            Ok(_) => None,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Observed { certificate: Some(end_entity.to_vec()), sent: 1 + intermediates.len(), fault };
        if self.is_insecure { Ok(ServerCertVerified::assertion()) } else { result }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
