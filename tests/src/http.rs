//! One HTTP/1.1 request over one connection, exactly as the test wrote it.
//!
//! An HTTP client library folds the case of names, drops duplicates and refuses invalid values, which these tests must send.
//! `httparse` parses the response, and a wrong length is an error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Failure, canary};

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines; several of one name are kept apart.
    pub headers: HeaderMap,
    /// The body; empty for a 101.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the value of a header that must occur exactly once and be ASCII.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        let [value] = values[..] else { panic!("one {name} expected, not {values:?}, in {self}") };
        value.to_str().unwrap_or_else(|_| panic!("{name} is not ASCII in {self}"))
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}) in {self}"))
    }

    /// Returns the code of the error in the body.
    ///
    /// # Panics
    ///
    /// If the body does not contain one.
    #[track_caller]
    pub fn code(&self) -> String {
        let code = self.json()["error"]["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| panic!("no error.code in {self}"))
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the answer {}, headers {:?}, body {:?}", self.status, self.headers, self.text())
    }
}

/// Sends a request and returns the answer. `Host`, `Connection: close` and `Content-Length` are added.
pub fn request(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response, Failure> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut connection = Connection::open(to)?;
    connection.send(head.as_bytes())?;
    connection.send(body)?;
    connection.response()
}

/// A connection that takes any bytes and reads answers.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Read, but not yet part of an answer.
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a connection. Every later read and write has a limit of ten seconds.
    pub fn open(to: SocketAddr) -> Result<Self, Failure> {
        let doing = || Failure::while_doing(format!("connecting to {to}"));
        let stream = TcpStream::connect_timeout(&to, TIMEOUT).map_err(doing())?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(doing())?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(doing())?;
        stream.set_nodelay(true).map_err(doing())?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        canary::request(bytes);
        self.stream.write_all(bytes).map_err(Failure::while_doing("sending the request"))
    }

    /// Reads one answer with its body. What follows stays for the next one, or for [`into_parts`](Self::into_parts).
    pub fn response(&mut self) -> Result<Response, Failure> {
        let mut response = self.head()?;
        if response.status == 101 {
            return Ok(response);
        }
        if response.headers.contains_key("transfer-encoding") {
            return Err(Failure::new(format!(
                "a chunked body, which no server of the chain sends: {response}"
            )));
        }
        match response.headers.get("content-length") {
            Some(length) => {
                let length = length.to_str().ok().and_then(|length| length.parse().ok());
                let length: usize =
                    length.ok_or_else(|| Failure::new(format!("a bad length: {response}")))?;
                while self.buffer.len() < length {
                    if !self.read()? {
                        let got = self.buffer.len();
                        return Err(Failure::new(format!("the body ends after {got} bytes of {response}")));
                    }
                }
                response.body = self.buffer.drain(..length).collect();
            }
            None => {
                while self.read()? {}
                response.body = std::mem::take(&mut self.buffer);
            }
        }
        Ok(response)
    }

    /// Whether the peer closes the connection now, without another byte. Waits for it up to the time limit.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Returns the socket, and the bytes read from it that belong to no answer.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    fn head(&mut self) -> Result<Response, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse(&head);
            }
            if !self.read()? {
                let got = String::from_utf8_lossy(&self.buffer);
                return Err(Failure::new(format!(
                    "the connection was closed without an answer, after {got:?}"
                )));
            }
        }
    }

    /// Reads once; false at the end of the stream.
    fn read(&mut self) -> Result<bool, Failure> {
        let mut chunk = [0; 4096];
        let read = self.stream.read(&mut chunk).map_err(Failure::while_doing("reading the answer"))?;
        self.buffer.extend(chunk.iter().take(read));
        Ok(read > 0)
    }
}

fn parse(head: &[u8]) -> Result<Response, Failure> {
    let bad = || Failure::new(format!("no HTTP answer: {:?}", String::from_utf8_lossy(head)));
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut lines);
    if !parsed.parse(head).is_ok_and(|status| status.is_complete()) {
        return Err(bad());
    }
    let mut headers = HeaderMap::new();
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| bad())?);
    }
    Ok(Response { status: parsed.code.ok_or_else(bad)?, headers, body: Vec::new() })
}

/// Long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Returns the response that a client reads from a server that sends `bytes` and closes.
    fn answered(bytes: &'static [u8]) -> Result<Response, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
            stream.write_all(bytes).expect("the client reads");
        });
        let response = request(address, "GET", "/", &[], b"");
        server.join().expect("the server ends");
        response
    }

    #[test]
    fn body_has_its_length_or_the_response_is_an_error() {
        let response = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: 1\r\na: 2\r\n\r\n{}rest");
        let response = response.expect("a response");
        assert_eq!((response.status, response.text().as_str()), (200, "{}"));
        assert_eq!(response.headers.get_all("a").iter().count(), 2);
        let response = answered(b"HTTP/1.1 401 Unauthorized\r\n\r\nno").expect("a response");
        assert_eq!((response.status, response.text().as_str()), (401, "no"));
        for bad in [&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"[..], b"HTTP/1.1 20"] {
            answered(bad).expect_err("the response is not complete");
        }
    }
}
