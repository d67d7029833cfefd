//! One connection: sends bytes, and compares the received ones with the expected ones.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::Failure;

/// A connection, and the bytes that were read but not used yet.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Async<TcpStream>,
    unused: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Client, Failure> {
        Ok(Client { stream: Async::<TcpStream>::connect(to).await?, unused: Vec::new() })
    }

    /// Sends an upgrade request, with a user if one is given.
    pub(crate) async fn ask(&mut self, path: &str, user: Option<&str>) -> Result<(), Failure> {
        let user = user.map(|user| format!("User-ID: {user}\r\n")).unwrap_or_default();
        self.send(format!("GET {path} {REQUEST}{user}\r\n").as_bytes()).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Expects an answer with this status.
    pub(crate) async fn expect_status(&mut self, status: u16) -> Result<(), Failure> {
        let end = loop {
            if let Some(at) = self.unused.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.unused.drain(..end).collect();
        if head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()) {
            return Ok(());
        }
        Err(format!("expected status {status}, received {:?}", String::from_utf8_lossy(&head)).into())
    }

    /// Expects these bytes.
    pub(crate) async fn expect(&mut self, expected: &[u8]) -> Result<(), Failure> {
        while self.unused.len() < expected.len() {
            self.more().await?;
        }
        let received: Vec<u8> = self.unused.drain(..expected.len()).collect();
        if received == expected {
            return Ok(());
        }
        Err(format!("expected {:?}, received {:?}", expected.escape_ascii(), received.escape_ascii()).into())
    }

    /// Reads to the end, and expects a Close with this code as the last frame.
    pub(crate) async fn expect_close(&mut self, code: u16) -> Result<(), Failure> {
        self.read_out().await?;
        let mut rest = &self.unused[..];
        // Pings may precede it. All frames are short.
        while let [first, length, behind @ ..] = rest {
            if *first == 0x88 && behind.starts_with(&code.to_be_bytes()) {
                return Ok(());
            }
            rest = behind.get(usize::from(*length)..).unwrap_or_default();
        }
        Err(format!("expected a Close with {code}, received {:?}", self.unused.escape_ascii()).into())
    }

    /// Reads to the end.
    pub(crate) async fn read_out(&mut self) -> Result<(), Failure> {
        self.stream.read_to_end(&mut self.unused).await?;
        Ok(())
    }

    /// Returns the bytes that were read and not used.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.unused
    }

    /// Reduces the receive buffer.
    pub(crate) fn narrow(&self) -> Result<(), Failure> {
        Ok(set_socket_recv_buffer_size(&self.stream, 4096)?)
    }

    /// Closes the socket by a reset.
    pub(crate) fn reset(self) -> Result<(), Failure> {
        Ok(set_socket_linger(&self.stream, Some(Duration::ZERO))?)
    }

    async fn more(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 2048];
        let n = self.stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(format!("the connection ended early, after {:?}", self.unused.escape_ascii()).into());
        }
        self.unused.extend(buffer.iter().take(n));
        Ok(())
    }
}

/// The part of each request after its target.
const REQUEST: &str = "HTTP/1.1\r\nHost: churn\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
