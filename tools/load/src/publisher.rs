//! A connection to the server API, which publishes messages to all connections of the server, or to channels.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use serde_json::{Value, json};

use super::Failure;
use super::connection::connect;
use super::frames::{channel, data};
use super::options::Options;

/// A connection to the server API.
pub(crate) struct Publisher {
    stream: TcpStream,
    /// The `Host`, and the key.
    api: (SocketAddr, String),
    /// The parameters of `send`, or the parameters of `publish` for each channel.
    targets: Vec<Value>,
    method: &'static str,
    /// The requests for this number of messages to each target.
    requests: (usize, Vec<Vec<u8>>),
    /// Unsent bytes of requests.
    unsent: Vec<u8>,
    /// The bytes of incomplete answers.
    received: Vec<u8>,
}

impl Publisher {
    /// Connects to the server API. `text` is the message to all connections.
    ///
    /// # Errors
    /// No connection was possible.
    pub(crate) fn new(api: SocketAddr, options: &Options, text: &str) -> Result<Publisher, Failure> {
        let stream = connect(api).map_err(|error| format!("connection to {api}: {error}"))?;
        let data: Value = serde_json::from_str(&data(options.size))?;
        let publish = |number| json!({ "channel": channel(number), "data": data });
        let (method, targets) = match options.channels {
            0 => ("send", vec![json!({ "all": true, "text": text })]),
            channels => ("publish", (0..channels).map(publish).collect()),
        };
        Ok(Publisher {
            stream,
            api: (api, options.api_key.clone()),
            targets,
            method,
            requests: (0, Vec::new()),
            unsent: Vec::new(),
            received: Vec::new(),
        })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Publishes `n` messages to a target, which is the number of a channel, with one request: a batch if there are several.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn publish(&mut self, target: usize, n: usize) -> Result<(), Failure> {
        if self.requests.0 != n {
            self.requests = (n, self.targets.iter().map(|target| self.request(&vec![target; n])).collect());
        }
        self.unsent.extend_from_slice(self.requests.1.get(target).map_or(&[], Vec::as_slice));
        self.write()
    }

    /// Publishes one message to each target, with one request.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn publish_to_all(&mut self) -> Result<(), Failure> {
        let request = self.request(&self.targets.iter().collect::<Vec<_>>());
        self.unsent.extend_from_slice(&request);
        self.write()
    }

    fn request(&self, targets: &[&Value]) -> Vec<u8> {
        let command = |target: &&Value| json!({ self.method: target });
        let (method, body) = match targets {
            [target] => (self.method, target.to_string()),
            _ => {
                ("batch", json!({ "commands": targets.iter().map(command).collect::<Vec<_>>() }).to_string())
            }
        };
        let (api, key) = &self.api;
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
    let Some(body) = bytes.get(end + 4..len) else { return Ok(None) };
    // The first result is enough: all messages of a request are alike.
    if body.get(..body.len().min(40)).is_some_and(|start| start.windows(7).any(|part| part == b"\"error\"")) {
        return Err(format!("the API answered {}", String::from_utf8_lossy(body)).into());
    }
    Ok(Some(len))
}
