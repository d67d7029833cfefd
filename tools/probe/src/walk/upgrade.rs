//! An upgrade request.

use std::time::Instant;

use postern_core::Input;
use postern_core::client::{ClientHandshake, ClientRequest, InvalidRequest};

use super::USER_AGENT;
use crate::credentials::Credentials;
use crate::judge::answer::UpgradeSeen;
use crate::net::dial::{Dialer, Stream};
use crate::net::http::{Exchange, MAX_BODY, NoAnswer, exchange};
use crate::net::websocket::{Arrival, Socket, random};
use crate::options::Common;

/// The parts of a request that can be repeated.
#[derive(Clone, Copy)]
pub(crate) struct Knock<'k> {
    pub(crate) dialer: &'k Dialer,
    pub(crate) common: &'k Common,
    /// `None` leaves all credentials out, also those in the URL.
    pub(crate) credentials: Option<&'k Credentials>,
}

/// An open connection.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    pub(crate) is_compressed: bool,
}

impl Knock<'_> {
    /// Requests an upgrade, and sends a Ping: a server can close a connection after the 101.
    pub(crate) fn open(&self) -> (UpgradeSeen, Option<Opened>) {
        let (exchange, stream, mut handshake) = match self.request() {
            Ok(parts) => parts,
            Err(fault) => return (UpgradeSeen::NoAnswer(fault), None),
        };
        let Exchange { answer, mut head, rest, .. } = exchange;
        if answer.status != 101 {
            return (UpgradeSeen::Refused(answer), None);
        }
        let connected = match handshake.receive(&mut Input::new(&mut head)) {
            Ok(Some(connected)) => connected,
            Ok(None) => return (UpgradeSeen::Invalid("its head is not complete".to_owned()), None),
            Err(error) => return (UpgradeSeen::Invalid(error.to_string()), None),
        };
        let mut socket = Socket::new(stream, &connected, rest);
        let deadline = Instant::now() + self.common.timeout;
        if let Err(ended) = socket.ping(PAYLOAD) {
            return (UpgradeSeen::Ended(ended), None);
        }
        loop {
            match socket.next(deadline) {
                Ok(Some(Arrival::Pong(payload))) if payload == PAYLOAD => break,
                Ok(Some(_)) => {}
                Ok(None) => return (UpgradeSeen::Silent, None),
                Err(ended) => return (UpgradeSeen::Ended(ended), None),
            }
        }
        let is_compressed = connected.deflate.is_some();
        let seen = UpgradeSeen::Accepted {
            subprotocol: connected.subprotocol,
            request_id: answer.header("x-request-id").map(str::to_owned),
        };
        (seen, Some(Opened { socket, is_compressed }))
    }

    fn request(&self) -> Result<(Exchange, Stream, ClientHandshake), NoAnswer> {
        let mut request = Vec::new();
        let handshake = write(self.common, self.credentials, &mut request);
        let handshake = handshake.map_err(|error| NoAnswer::Broken(error.to_string()))?;
        let mut stream = self.dialer.open()?;
        let exchange = exchange(&mut stream, &request, self.common.timeout, MAX_BODY)?;
        Ok((exchange, stream, handshake))
    }
}

/// Writes an upgrade request. Without credentials, it has no parameter of the URL that is one.
///
/// # Errors
/// A header or a subprotocol cannot be sent.
pub(crate) fn write(
    common: &Common,
    credentials: Option<&Credentials>,
    out: &mut Vec<u8>,
) -> Result<ClientHandshake, InvalidRequest> {
    let target = &common.target;
    let path = if credentials.is_some() { target.path_and_query() } else { target.without_credentials() };
    let given = credentials.map(Credentials::headers).unwrap_or_default();
    let is_given = |name: &str| given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let headers: Vec<(&str, &str)> =
        [Some(("User-Agent", USER_AGENT)), common.origin.as_deref().map(|origin| ("Origin", origin))]
            .into_iter()
            .flatten()
            .filter(|(name, _)| !is_given(name))
            .chain(given.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .collect();
    let subprotocols = credentials.map(Credentials::subprotocols).unwrap_or_default();
    let host = target.authority();
    let request = ClientRequest {
        headers: &headers,
        subprotocols: &subprotocols,
        offers_deflate: true,
        ..ClientRequest::new(&host, &path)
    };
    ClientHandshake::start(&request, random(), out)
}

/// The content of the first Ping.
const PAYLOAD: &[u8] = b"postern-probe";
