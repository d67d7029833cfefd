//! Frames of RFC 6455 §5.2 as bytes, for tests that send what a client library would not.

use std::io::Read;
use std::net::TcpStream;

/// The first byte of a text message in one frame.
pub const TEXT: u8 = 0x81;
/// The first byte of a binary message in one frame.
pub const BINARY: u8 = 0x82;
/// The first byte of a Close.
pub const CLOSE: u8 = 0x88;
/// The first byte of a ping.
pub const PING: u8 = 0x89;
/// The first byte of a pong.
pub const PONG: u8 = 0x8a;
/// The first byte of the first fragment of a text message.
pub const FIRST: u8 = 0x01;
/// The first byte of a fragment that is neither the first nor the last.
pub const MIDDLE: u8 = 0x00;
/// The first byte of the last fragment.
pub const LAST: u8 = 0x80;

/// Creates a frame of a client, masked.
pub fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Returns a frame of a server.
pub fn server(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header(first, 0, payload.len()), payload].concat()
}

/// Returns the shortest header for a payload of `len` bytes.
fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
    match len {
        0..=125 => vec![first, mask | len as u8],
        126..=0xffff => [&[first, mask | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// Returns the payload of a Close.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Reads the next `len` bytes.
///
/// # Panics
///
/// If the stream ends before.
#[track_caller]
pub fn receive(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut received = vec![0; len];
    stream.read_exact(&mut received).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
    received
}

/// Reads all bytes up to the end of the stream.
///
/// # Panics
///
/// If the stream ends by a reset.
#[track_caller]
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the server closes without a reset");
    received
}

/// Returns the code of the Close frame that ends `bytes`.
///
/// # Panics
///
/// If they do not end with one.
#[track_caller]
pub fn close_code(bytes: &[u8]) -> u16 {
    let at = bytes.iter().rposition(|&byte| byte == CLOSE).expect("a Close frame");
    let Some((&[_, len, high, low], _)) = bytes[at..].split_first_chunk() else { panic!("{bytes:?}") };
    assert_eq!(at + 2 + usize::from(len), bytes.len(), "bytes after the Close: {:?}", &bytes[at..]);
    u16::from_be_bytes([high, low])
}
