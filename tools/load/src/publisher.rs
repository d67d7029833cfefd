//! A connection to the server API, which publishes a message to all connections of the server.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use serde_json::json;

use super::Failure;
use super::connection::connect;

/// A connection to the server API.
pub(crate) struct Publisher {
    stream: TcpStream,
    /// The `Host`, and the key.
    api: (SocketAddr, String),
    text: String,
    /// The request for this number of messages.
    request: (usize, Vec<u8>),
    /// Unsent bytes of requests.
    unsent: Vec<u8>,
    /// The bytes of incomplete answers.
    received: Vec<u8>,
}

impl Publisher {
    /// Connects to the server API. A publication is a text.
    ///
    /// # Errors
    /// No connection was possible.
    pub(crate) fn new(api: SocketAddr, key: &str, text: &str) -> Result<Publisher, Failure> {
        let stream = connect(api).map_err(|error| format!("connection to {api}: {error}"))?;
        let (api, text) = ((api, key.to_owned()), text.to_owned());
        Ok(Publisher {
            stream,
            api,
            text,
            request: (0, Vec::new()),
            unsent: Vec::new(),
            received: Vec::new(),
        })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Publishes `n` messages with one request, a batch if there are several.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn publish(&mut self, n: usize) -> Result<(), Failure> {
        if self.request.0 != n {
            self.request = (n, self.request_for(n));
        }
        self.unsent.extend_from_slice(&self.request.1);
        self.write()
    }

    fn request_for(&self, n: usize) -> Vec<u8> {
        let send = json!({ "all": true, "text": self.text });
        let (method, body) = match n {
            1 => ("send", send),
            _ => ("batch", json!({ "commands": vec![json!({ "send": send }); n] })),
        };
        let (body, (api, key)) = (body.to_string(), &self.api);
        let head = format!(
            "POST /api/{method} HTTP/1.1\r\nHost: {api}\r\nX-API-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// Handles an event of its socket. Returns the number of answers that are complete.
    ///
    /// # Errors
    /// The connection has failed, or the server has refused a request.
    pub(crate) fn handle(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.write()?;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection to its API".into()),
                Ok(n) => self.received.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("reading from the API: {error}").into()),
            }
        }
        let (mut answers, mut done) = (0, 0);
        while let Some(len) = answer(self.received.get(done..).unwrap_or_default())? {
            done += len;
            answers += 1;
        }
        self.received.drain(..done);
        Ok(answers)
    }

    fn write(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                // Not connected yet: an event follows.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(format!("writing to the API: {error}").into()),
            }
        }
        Ok(())
    }
}

/// Returns the length of the first answer, if it is complete.
fn answer(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("the API answered {}", head.lines().next().unwrap_or_default()).into());
    }
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let (_, length) = length.ok_or("an answer of the API has no Content-Length")?;
    let len = end + 4 + length.trim().parse::<usize>()?;
    Ok((bytes.len() >= len).then_some(len))
}
