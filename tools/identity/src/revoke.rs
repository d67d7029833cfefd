//! Ends the connections of a session by the server API of Postern.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

/// The control port of Postern, and the key for it.
#[derive(Clone)]
pub struct Revoker {
    /// The address of the control port.
    pub address: SocketAddr,
    /// The value of `X-API-Key`.
    pub key: String,
}

impl Revoker {
    /// Ends the connections of a session, and returns the status of the answer. It blocks for up to some seconds.
    ///
    /// # Errors
    /// Postern does not answer.
    pub fn revoke(&self, session: &str) -> io::Result<String> {
        let body = json!({ "session": session }).to_string();
        let Self { address, key } = self;
        let request = format!(
            "POST /api/revoke HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-API-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
    }
}

/// The time for each step.
const TIMEOUT: Duration = Duration::from_secs(2);
