//! A WebSocket client whose opening handshake is written byte for byte by the test.
//!
//! The frames after it are tungstenite's. Its handshake is not used here, because it folds header names to lower case and
//! refuses to send invalid requests. `tests/clients.rs` uses it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::canary::Kind;
use crate::http::{Connection, Response};
use crate::{Failure, canary};

/// An opening handshake: `GET /ws` with the headers of RFC 6455, and what the test changes.
#[derive(Clone, Debug)]
pub struct Handshake {
    to: SocketAddr,
    target: String,
    headers: Vec<(String, String)>,
}

/// The result of a handshake.
#[derive(Debug)]
pub enum Outcome {
    /// 101: the connection is open.
    Open(Box<Open>),
    /// Any other answer.
    Refused(Response),
}

/// An open connection.
#[derive(Debug)]
pub struct Open {
    /// The 101.
    pub response: Response,
    /// The connection. Reads and writes have a limit of ten seconds.
    pub socket: WebSocket<TcpStream>,
}

impl Handshake {
    /// Returns a handshake for `/ws` at this address.
    pub fn to(address: SocketAddr) -> Self {
        let headers = [
            ("Host", address.to_string().as_str()),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { to: address, target: "/ws".to_owned(), headers: headers.into() }
    }

    /// Sets another target than `/ws`.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Adds a header line after the others, in this spelling.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the value of a header that is there already, such as `Connection`.
    ///
    /// # Panics
    ///
    /// If it is not there.
    #[track_caller]
    pub fn instead(mut self, name: &str, value: &str) -> Self {
        let mut lines = self.headers.iter_mut();
        let line = lines.find(|(present, _)| present == name);
        let (_, present) = line.unwrap_or_else(|| panic!("there is no {name} to replace"));
        *present = value.to_owned();
        self
    }

    /// Removes a header, such as `Sec-WebSocket-Key`.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(present, _)| present != name);
        self
    }

    /// Adds `User-ID`, `User-Email` and `User-Name` as a gateway injects them for John Doe.
    pub fn as_john(self) -> Self {
        self.header("User-ID", "123").header("User-Email", "john@example.com").header("User-Name", "John Doe")
    }

    /// Adds the token in `Authorization`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Adds the token as the cookie `access_token`, between two others.
    pub fn cookie(self, token: &str) -> Self {
        self.header("Cookie", &format!("theme=dark; access_token={token}; lang=en"))
    }

    /// Adds the token as a query parameter.
    pub fn query(self, token: &str) -> Self {
        let target = format!("{}?room=7&token={token}", self.target);
        self.target(target)
    }

    /// Offers subprotocols; a browser passes a token as `["bearer", token]`.
    pub fn subprotocols(self, names: &[&str]) -> Self {
        self.header("Sec-WebSocket-Protocol", &names.join(", "))
    }

    /// Returns the bytes of the request. Their secrets are recorded for the canary, because the test will send them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("GET {} HTTP/1.1\r\n", self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        canary::request(head.as_bytes());
        head.into_bytes()
    }

    /// Sends the handshake. Fails if there is no response, or a 101 that is not valid for this handshake.
    pub fn send(&self) -> Result<Outcome, Failure> {
        let mut connection = Connection::open(self.to)?;
        connection.send(&self.bytes())?;
        let response = connection.response()?;
        if response.status != 101 {
            return Ok(Outcome::Refused(response));
        }

        let value =
            |name| response.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let key =
            self.headers.iter().find(|(name, _)| name == "Sec-WebSocket-Key").map_or("", |(_, key)| key);
        // RFC 6455 §4.1, the client's checks of the response.
        if !value("upgrade").eq_ignore_ascii_case("websocket")
            || !value("connection").eq_ignore_ascii_case("upgrade")
            || value("sec-websocket-accept") != derive_accept_key(key.as_bytes())
        {
            return Err(Failure::new(format!("a client must not accept {response}")));
        }
        let (stream, early) = connection.into_parts();
        let socket = WebSocket::from_partially_read(stream, early, Role::Client, None);
        Ok(Outcome::Open(Box::new(Open { response, socket })))
    }

    /// Sends the handshake and expects a 101.
    ///
    /// # Panics
    ///
    /// If the response is not one.
    #[track_caller]
    pub fn open(&self) -> Open {
        match self.send() {
            Ok(Outcome::Open(open)) => *open,
            Ok(Outcome::Refused(response)) => panic!("expected a 101 for {self:?}, got {response}"),
            Err(failure) => panic!("expected a 101 for {self:?}: {failure}"),
        }
    }

    /// Sends the handshake and expects a refusal.
    ///
    /// # Panics
    ///
    /// If something else comes.
    #[track_caller]
    pub fn refused(&self) -> Response {
        match self.send() {
            Ok(Outcome::Refused(response)) => response,
            Ok(Outcome::Open(open)) => panic!("expected a refusal for {self:?}, got {}", open.response),
            Err(failure) => panic!("expected a refusal for {self:?}: {failure}"),
        }
    }

    /// Sends the handshake and expects a refusal with this status and this code.
    ///
    /// # Panics
    ///
    /// If the response is another.
    #[track_caller]
    pub fn refused_with(&self, status: u16, code: &str) -> Response {
        let response = self.refused();
        assert_eq!((response.status, &*response.code()), (status, code), "{self:?}: {response}");
        response
    }

    /// Returns the status of the response. An open connection is closed.
    ///
    /// # Panics
    ///
    /// If there is no response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        match self.send().unwrap_or_else(|failure| panic!("{self:?}: {failure}")) {
            Outcome::Open(open) => {
                open.close();
                101
            }
            Outcome::Refused(response) => response.status,
        }
    }

    /// Sends the handshake again until it is admitted.
    ///
    /// # Panics
    ///
    /// If it is refused for ten seconds.
    #[track_caller]
    pub fn open_in_time(&self) -> Open {
        let begun = Instant::now();
        loop {
            match self.send() {
                Ok(Outcome::Open(open)) => return *open,
                refusal => assert!(begun.elapsed() < Duration::from_secs(10), "still refused: {refusal:?}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Open {
    /// Sends a message.
    ///
    /// # Panics
    ///
    /// If it cannot be sent.
    #[track_caller]
    pub fn send(&mut self, message: impl Into<Message>) {
        let message = message.into();
        if let Message::Text(_) | Message::Binary(_) = message {
            let payload = message.clone().into_data();
            // Postern does not log the end of a message without its beginning.
            canary::secret(Kind::Message, payload.get(..64).unwrap_or(&payload));
        }
        self.socket.send(message).unwrap_or_else(|error| panic!("sending a message: {error}"));
    }

    /// Waits for the next text, binary or Close message. Pings are answered, and pongs are ignored.
    ///
    /// # Panics
    ///
    /// If none comes.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        self.try_receive().unwrap_or_else(|error| panic!("waiting for a message: {error}"))
    }

    /// Waits for the next message, as [`receive`](Open::receive).
    ///
    /// # Errors
    ///
    /// The connection is lost, or nothing comes in time.
    pub fn try_receive(&mut self) -> Result<Message, tungstenite::Error> {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Ok(message),
                // A test process that is stopped and continued gets this if the socket has a time-out (signal(7)).
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message and expects it back.
    ///
    /// # Panics
    ///
    /// If something else comes.
    #[track_caller]
    pub fn echo(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.send(message.clone());
        assert_eq!(self.receive(), message);
    }

    /// Expects a Close, answers it, and expects the end of the connection. Returns the code and the reason.
    ///
    /// # Panics
    ///
    /// If something else comes.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let message = self.receive();
        let Message::Close(Some(frame)) = message else { panic!("a Close is expected, not {message:?}") };
        // tungstenite sends its Close at the next call.
        while self.socket.read().is_ok() {}
        (frame.code.into(), frame.reason.to_string())
    }

    /// Returns the code of [`closed`](Self::closed).
    ///
    /// # Panics
    ///
    /// As [`closed`](Self::closed).
    #[track_caller]
    pub fn close_code(&mut self) -> u16 {
        self.closed().0
    }

    /// Returns the connection as a socket.
    ///
    /// # Panics
    ///
    /// If the process has no descriptor left.
    #[track_caller]
    pub fn into_stream(self) -> TcpStream {
        self.socket.get_ref().try_clone().expect("a second descriptor of the socket")
    }

    /// Closes with 1000, and expects the same code and then the end of the connection.
    ///
    /// # Panics
    ///
    /// If something else comes.
    #[track_caller]
    pub fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(frame)).unwrap_or_else(|error| panic!("sending the Close: {error}"));
        let Message::Close(answer) = self.receive() else { panic!("a Close is expected") };
        assert_eq!(answer.map(|frame| frame.code), Some(CloseCode::Normal));
        let error = self.socket.read().expect_err("nothing follows a Close");
        assert!(matches!(error, tungstenite::Error::ConnectionClosed), "a clean end expected, not: {error}");
    }
}

/// The key of the example in RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
