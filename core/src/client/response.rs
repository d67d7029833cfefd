//! The server's answer to an upgrade request.

use std::mem::MaybeUninit;

use tungstenite::handshake::derive_accept_key;

use super::error::{ConnectError, InvalidRequest};
use super::request::ClientRequest;
use crate::deflate::Deflate;
use crate::handshake::{HandshakeError, HeadReader};
use crate::input::Input;

/// A handshake whose request has been written, until its answer has arrived.
#[derive(Debug)]
pub struct ClientHandshake {
    reader: HeadReader,
    /// The expected `Sec-WebSocket-Accept`.
    accept: String,
    subprotocols: Vec<String>,
    offers_deflate: bool,
}

/// The result of a successful handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The subprotocol, one of the offered ones.
    pub subprotocol: Option<String>,
    /// The negotiated compression, if any. Pass it to [`Session::with_deflate`](crate::Session::with_deflate).
    pub deflate: Option<Deflate>,
}

impl ClientHandshake {
    /// Writes the request. `nonce` must be random, and a new one for each connection (RFC 6455 §4.1).
    ///
    /// # Errors
    /// [`InvalidRequest`]; nothing is written then.
    pub fn start(
        request: &ClientRequest<'_>,
        nonce: [u8; 16],
        out: &mut Vec<u8>,
    ) -> Result<ClientHandshake, InvalidRequest> {
        let key = base64(nonce);
        request.write(&key, out)?;
        Ok(ClientHandshake {
            reader: HeadReader::new(MAX_HEAD),
            accept: derive_accept_key(key.as_bytes()),
            subprotocols: request.subprotocols.iter().map(|name| (*name).to_owned()).collect(),
            offers_deflate: request.offers_deflate,
        })
    }

    /// Consumes bytes until the head of the answer is complete. `None` means that more bytes are needed. The bytes after a 101
    /// stay in `input`: they are frames.
    ///
    /// # Errors
    /// [`ConnectError`]: the connection must be closed.
    pub fn receive(&mut self, input: &mut Input<'_>) -> Result<Option<Connected>, ConnectError> {
        let head = self.reader.receive(input).map_err(|error| {
            if error == HandshakeError::HeadTooLarge {
                ConnectError::HeadTooLarge
            } else {
                ConnectError::NotHttp
            }
        })?;
        head.map(|head| self.check(&head)).transpose()
    }

    /// Checks an answer by the list "once the client's opening handshake has been sent" in RFC 6455 §4.1, in its order.
    fn check(&self, head: &[u8]) -> Result<Connected, ConnectError> {
        let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            head,
            &mut storage,
        );
        match parsed {
            Ok(httparse::Status::Complete(used)) if used == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ConnectError::HeadTooLarge),
            Ok(_) | Err(_) => return Err(ConnectError::NotHttp),
        }
        let fields = Fields(response.headers);
        match (response.code, response.version) {
            (Some(101), Some(1)) => {}
            (Some(101) | None, _) => return Err(ConnectError::NotHttp),
            (Some(status), _) => {
                let retry_after = fields.only("Retry-After").and_then(|value| value.parse().ok());
                return Err(ConnectError::Refused { status, retry_after });
            }
        }
        if !fields.only("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Err(ConnectError::NoUpgrade);
        }
        if !fields.all("Connection").any(|value| has_token(value, "upgrade")) {
            return Err(ConnectError::NoConnectionUpgrade);
        }
        if fields.only("Sec-WebSocket-Accept") != Some(&self.accept) {
            return Err(ConnectError::Accept);
        }
        let deflate = self.agreed_deflate(&fields)?;
        let subprotocol = self.agreed_subprotocol(&fields)?;
        Ok(Connected { subprotocol, deflate })
    }

    fn agreed_deflate(&self, fields: &Fields<'_, '_>) -> Result<Option<Deflate>, ConnectError> {
        let mut lines = fields.all("Sec-WebSocket-Extensions");
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) if self.offers_deflate => {
                Deflate::read_answer(line.as_bytes()).map(Some).ok_or(ConnectError::Extension)
            }
            (Some(_), _) => Err(ConnectError::Extension),
        }
    }

    fn agreed_subprotocol(&self, fields: &Fields<'_, '_>) -> Result<Option<String>, ConnectError> {
        let mut lines = fields.all("Sec-WebSocket-Protocol");
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(name), None) if self.subprotocols.iter().any(|offered| offered == name) => {
                Ok(Some(name.to_owned()))
            }
            (Some(_), _) => Err(ConnectError::Subprotocol),
        }
    }
}

/// The headers of an answer.
struct Fields<'f, 'h>(&'f [httparse::Header<'h>]);

impl<'h> Fields<'_, 'h> {
    /// Returns the values of all lines of a name. Values that are not UTF-8 are left out: none of the headers read here
    /// has one.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'h str> {
        let lines = self.0.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| str::from_utf8(line.value).unwrap_or("\u{fffd}").trim_ascii())
    }

    /// Returns the value of the only line of a name.
    fn only(&self, name: &'static str) -> Option<&'h str> {
        let mut lines = self.all(name);
        let first = lines.next();
        if lines.next().is_none() { first } else { None }
    }
}

/// Whether a list (RFC 9110 §5.6.1) has a token, in any case.
fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Encodes in base64 (RFC 4648 §4), for the one length that is needed here.
fn base64(nonce: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 128 bits, filled with zeros to 22 characters of six.
    let bits = u128::from_be_bytes(nonce);
    let character = |at: u32| {
        let index = if at < 21 { bits >> (122 - 6 * at) } else { bits << 4 } & 63;
        ALPHABET.get(index as usize).map_or('A', |&byte| char::from(byte))
    };
    (0..22).map(character).chain(['=', '=']).collect()
}

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// The most headers of an answer.
const MAX_HEADERS: usize = 100;
