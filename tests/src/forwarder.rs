//! Adds header lines to an upgrade request, for clients that cannot: the conformance suite does not send any.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::Failure;

/// Listens on a free loopback port, and forwards each connection to `to`: the first request head with `lines` added, all other
/// bytes unchanged. The end of either side is forwarded at once. Works until the process ends.
///
/// `lines` are whole header lines without CR LF: `User-ID: 1`.
pub fn start(to: SocketAddr, lines: &'static [&'static str]) -> Result<SocketAddr, Failure> {
    alternating(vec![to], lines)
}

/// Does the same with several servers, each of which gets a connection in turn.
pub fn alternating(to: Vec<SocketAddr>, lines: &'static [&'static str]) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::while_doing("listening"))?;
    let address = listener.local_addr().map_err(Failure::while_doing("asking for the port"))?;
    thread::spawn(move || {
        for (client, to) in listener.incoming().zip(to.into_iter().cycle()) {
            // The suite reports a failed connection, because it misses a response.
            thread::spawn(move || client.and_then(|client| forward(client, to, lines)));
        }
    });
    Ok(address)
}

fn forward(mut client: TcpStream, to: SocketAddr, lines: &[&str]) -> io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;

    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 2;
        }
        let mut portion = [0; 4096];
        match client.read(&mut portion)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&portion[..n]),
        }
    };
    let added: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    head.splice(end..end, added.bytes());
    server.write_all(&head)?;

    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass(from_client, to_server));
    pass(server, client)
}

/// Passes bytes on until `from` ends, then ends `to`'s writing side.
fn pass(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    // It fails if the other side has already disconnected.
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        // One side has failed, so the other must not wait for it.
        let _ = from.shutdown(Shutdown::Both);
    }
    copied.map(drop)
}
