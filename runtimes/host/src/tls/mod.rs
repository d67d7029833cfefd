//! Connections by TCP and TLS to servers that do not speak HTTP: Redis, its sentinels, RabbitMQ, and NATS.
//!
//! The authorities of the system are trusted, and those in a file. All files are read again for each connection, so that
//! certificates can be replaced without a restart.

mod stream;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_rustls::TlsConnector;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, InvalidMessage, RootCertStore,
};
use rustls_platform_verifier::Verifier;
use smol::net::TcpStream;

use crate::settings::TlsFiles;
pub(crate) use stream::Stream;

/// The configuration of a client.
pub(crate) type Tls = Arc<ClientConfig>;

/// Why a file cannot be used. Neither text has a part of its contents.
#[derive(Debug)]
pub(crate) enum FileError {
    /// It cannot be read.
    Read(io::Error),
    /// It has something else. The end of a sentence, with what to write.
    Content(String),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server cannot be reached, or has closed the connection.
    Tcp(io::Error),
    /// The TLS handshake has failed.
    Tls(String),
}

/// Reads the files of a server.
///
/// # Errors
/// The first file that cannot be used.
pub(crate) fn read(files: &TlsFiles) -> Result<Tls, (TlsFile, FileError)> {
    let provider: Arc<CryptoProvider> = ring::default_provider().into();
    let authorities = match &files.authorities {
        Some(path) => read_authorities(path).map_err(|error| (TlsFile::Authorities, error))?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(authorities, provider.clone())
        .map_err(|error| (TlsFile::Authorities, FileError::Content(error.to_string())))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder
        .map_err(|error| (TlsFile::Authorities, FileError::Content(error.to_string())))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = read_certificates(certificate).map_err(|error| (TlsFile::Certificate, error))?;
            let key = read_key(key).map_err(|error| (TlsFile::Key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let is_other = matches!(error, TlsError::InconsistentKeys(_));
                let text = if is_other { OTHER_KEY.to_owned() } else { error.to_string() };
                (TlsFile::Key, FileError::Content(text))
            })?
        }
        (_, _) => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// One of the files of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsFile {
    /// The certificates of authorities.
    Authorities,
    /// The certificate of this process.
    Certificate,
    /// Its key.
    Key,
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates = read_certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| FileError::Content(NO_CERTIFICATE.to_owned()))?;
    }
    Ok(certificates)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = fs::read(path).map_err(FileError::Read)?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(FileError::Content(NO_CERTIFICATE.to_owned())),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let text = fs::read(path).map_err(FileError::Read)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| FileError::Content(NO_KEY.to_owned()))
}

/// Connects to a server, by TLS if there is a configuration for it. The certificate must be valid for the host.
///
/// # Errors
/// See [`ConnectError`].
pub(crate) async fn connect(host: &str, port: u16, tls: Option<&Tls>) -> Result<Stream, ConnectError> {
    let socket = tcp(host, port).await?;
    match tls {
        Some(tls) => secure(host, socket, tls).await,
        None => Ok(Stream::Plain(socket)),
    }
}

/// Connects to a server without TLS.
///
/// # Errors
/// See [`ConnectError`].
pub(crate) async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let socket = TcpStream::connect((host, port)).await.map_err(ConnectError::Tcp)?;
    socket.set_nodelay(true).map_err(ConnectError::Tcp)?;
    Ok(socket)
}

/// Continues a connection by TLS. The certificate must be valid for the host.
///
/// # Errors
/// See [`ConnectError`].
pub(crate) async fn secure(host: &str, socket: TcpStream, tls: &Tls) -> Result<Stream, ConnectError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectError::Tls("no certificate can be for this host".to_owned()))?;
    match TlsConnector::from(tls.clone()).connect(name, socket).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(match describe(&error) {
            Some(text) => ConnectError::Tls(text),
            None => ConnectError::Tcp(error),
        }),
    }
}

/// Describes an error of TLS. Returns `None` for another error of the connection.
pub(crate) fn describe(error: &io::Error) -> Option<String> {
    let error: &(dyn Error + 'static) = error.get_ref()?;
    error.downcast_ref::<TlsError>().map(describe_error)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the texts of the others are clear")]
fn describe_error(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "the authority of the server's certificate is neither known to the system nor in the CA file"
            }
            CertificateError::BadSignature => {
                "the server's certificate is of another authority with the same name as a known one"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                return format!("the server's certificate is not for this host: {error}");
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet"
            }
            error => return format!("the server's certificate is not accepted: {error}"),
        },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not answer by TLS: its port is for connections without TLS"
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a certificate of this client"
        }
        error => return error.to_string(),
    }
    .to_owned()
}

/// The end of a sentence in the log.
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Read(error) => write!(f, "cannot read the file: {error}"),
            FileError::Content(text) => f.write_str(text),
        }
    }
}

/// The end of a sentence in the log.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Tcp(error) => error.fmt(f),
            ConnectError::Tls(text) => f.write_str(text),
        }
    }
}

const NO_CERTIFICATE: &str = "the file has no certificate that can be read; write a file in PEM format, with -----BEGIN CERTIFICATE-----";

const OTHER_KEY: &str = "it is not the key of the certificate; write the one that belongs to it";

const NO_KEY: &str = "the file has no private key that can be read; write a file in PEM format without a password, with \
                      -----BEGIN PRIVATE KEY-----";
