//! An Identity service with scripted answers, for values that no user of the development service has.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::Failure;

/// Answers each request that has an `Authorization` header with 200 and the header lines of the moment, and any other with
/// 401. Works until the process ends.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    /// Listens on a free port of this host.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::while_doing("listening"));
        let listener = listener.unwrap_or_else(|failure| panic!("{failure}"));
        let address = listener.local_addr().expect("a listener has an address");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let of_thread = Arc::clone(&lines);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let lines = of_thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A request that fails is seen by the test: the gateway refuses the upgrade.
                thread::spawn(move || stream.and_then(|stream| answer(stream, &lines)));
            }
        });
        Self { address, lines }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it answer with these headers from now on.
    pub fn say(&self, headers: &[(&str, &[u8])]) {
        let line = |(name, value): &(&str, &[u8])| [name.as_bytes(), b": ", value, b"\r\n"].concat();
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = headers.iter().flat_map(line).collect();
    }
}

fn answer(mut stream: TcpStream, lines: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let mut portion = [0; 4096];
        match stream.read(&mut portion)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&portion[..n]),
        }
    }
    let is_known = head.to_ascii_lowercase().windows(16).any(|bytes| bytes == b"\r\nauthorization:");
    let (status, lines) = if is_known { ("200 OK", lines) } else { ("401 Unauthorized", &b""[..]) };
    let begin = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n");
    stream.write_all(&[begin.as_bytes(), lines, b"\r\n"].concat())
}
