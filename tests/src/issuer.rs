//! An issuer of signed identities: keys, tokens, and a server that publishes the keys.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::canary::{self, Kind};

/// A key on the curve P-256 with its id.
pub struct Signer {
    kid: &'static str,
    key: EncodingKey,
}

impl Signer {
    /// Creates the key whose secret consists of this byte.
    pub fn new(kid: &'static str, secret: u8) -> Self {
        Self { kid, key: EncodingKey::from_ec_der(&[PKCS8_P256, &[secret; 32]].concat()) }
    }

    /// Returns a token with these claims.
    ///
    /// # Panics
    ///
    /// If the key cannot sign.
    pub fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, claims, &self.key);
        canary::secret(Kind::Token, token.expect("a P-256 key signs with ES256"))
    }

    /// Returns the public key.
    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a P-256 key");
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).expect("a JWK is JSON")
    }
}

/// Returns a token with HS256, as a backend with `JWT_SECRET` makes it.
///
/// # Panics
///
/// If it cannot be signed.
pub fn hs256(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key);
    canary::secret(Kind::Token, token.expect("HS256 signs with any secret"))
}

/// Returns the time in seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns claims of John Doe, issued now by `issuer` for `audience`, and valid for five minutes.
pub fn claims_of_john(issuer: &str, audience: &str) -> Value {
    let now = unix_time();
    json!({
        "iss": issuer, "aud": audience, "iat": now, "exp": now + 300,
        "sub": "123", "email": "john@example.com", "name": "John Doe",
    })
}

/// Returns the public keys as a JWK Set.
pub fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// A self-signed certificate for 127.0.0.1.
pub struct Certificate {
    /// The certificate without its key.
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Generates a certificate with a new key.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn generate() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a key that matches the certificate");
        Self { pem: made.cert.pem(), config: Arc::new(config) }
    }
}

/// A server of one JWK Set over HTTP, at every path. It runs until the process ends.
pub struct KeyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// The configuration for TLS, if the server uses it.
    tls: Option<Arc<ServerConfig>>,
    /// The status line and the body.
    answer: Mutex<(&'static str, String)>,
    requests: AtomicUsize,
}

impl KeyServer {
    /// Starts the server on a free port.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start(set: String) -> Self {
        Self::start_with(set, None)
    }

    /// Starts the server on a free port with TLS.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start_tls(set: String, certificate: &Certificate) -> Self {
        Self::start_with(set, Some(Arc::clone(&certificate.config)))
    }

    fn start_with(set: String, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { tls, answer: Mutex::new((OK, set)), requests: AtomicUsize::new(0) });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client may close the connection early.
                let _ = server.serve(stream);
            }
        });
        Self { address, shared }
    }

    /// Returns the URL of the keys.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/jwks.json", self.address)
    }

    /// Replaces the set.
    pub fn rotate(&self, set: String) {
        self.shared.answer((OK, set));
    }

    /// Answers with status 500 from now on.
    pub fn fail(&self) {
        self.shared.answer(("500 Internal Server Error", String::new()));
    }

    /// Returns the number of requests.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn answer(&self, answer: (&'static str, String)) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let Some(config) = &self.tls else { return self.respond(&mut stream) };
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        self.respond(&mut stream)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn respond(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        let mut lines = BufReader::new(&mut *stream).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (status, body) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    }
}

const OK: &str = "200 OK";

/// The bytes before the secret of a P-256 key in PKCS #8 (RFC 5208 around RFC 5915).
const PKCS8_P256: &[u8] =
    b"\x30\x41\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\
    \x3d\x03\x01\x07\x04\x27\x30\x25\x02\x01\x01\x04\x20";
