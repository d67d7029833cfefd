//! Several connections of one service, with any of its calls in any order and time that passes as it likes.
//!
//! Nothing here keeps to the contract of a runtime, but for what the kernel enforces: bytes do not come after the
//! end. Output may be left lying, connections forgotten in the middle, reads forced although reading has paused.
//!
//! * Nothing panics, and at the end no connection is left behind, nor does time have to pass for long.
//! * What one connection has to send is neither lost, doubled nor touched by a call for another.
//! * What it has sent begins with one head, of a 101 or of a refusal; behind a 101 there are valid frames of a
//!   server, and nothing behind a Close.
//! * The messages in them are those that its own client sent, in their order, compressed only if that was agreed.
//! * Each connection has the records of one life, from its beginning to its only end.
//! * When nothing more is due, the next deadline is in the future.
//!
//! [`contract`](crate::contract) says more, of one connection whose runtime keeps to it.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::crowd::{Crowd, PEERS};
use crate::frame;
use crate::upgrade;

/// Checks an input: one byte that chooses the limits, then calls. Each has one byte for the connection (bits 4
/// and 5) and the call (bits 0 to 3), and what `call` reads for it.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    run(input);
}

/// Checks an input. Returns what all connections have sent, in the order of their ends.
pub(crate) fn run(input: &[u8]) -> Vec<u8> {
    let mut script = Script(input);
    let mut crowd = Crowd::new(script.byte());
    while !script.0.is_empty() {
        call(&mut crowd, &mut script);
        crowd.check();
    }
    crowd.abandon()
}

/// What is left of the input. Behind its end there are zeros.
struct Script<'i>(&'i [u8]);

impl<'i> Script<'i> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// As many bytes as the next one says.
    fn bytes(&mut self) -> &'i [u8] {
        let len = self.byte();
        let (bytes, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// How much a socket takes: 255 is all.
    fn room(&mut self) -> usize {
        match self.byte() {
            255 => usize::MAX,
            room => room.into(),
        }
    }
}

fn call(crowd: &mut Crowd, script: &mut Script<'_>) {
    let byte = script.byte();
    let peer = usize::from(byte >> 4) % PEERS;
    match byte & 0x0f {
        0 => crowd.open(peer, script.byte()),
        1 => {
            let head = &HEADS[usize::from(script.byte()) % HEADS.len()];
            crowd.receive(peer, head);
        }
        2 => crowd.receive(peer, script.bytes()),
        3 => {
            if crowd.wants_read(peer) {
                crowd.receive(peer, script.bytes());
            }
        }
        4 | 5 => {
            let first = script.byte();
            let mut read = Vec::new();
            frame::write_masked(&mut read, first, script.bytes());
            crowd.receive(peer, &read);
        }
        6 => {
            let first = script.byte() & 0x0f | frame::COMPRESSED;
            let mut read = Vec::new();
            frame::write_masked(&mut read, first, &compress(script.bytes()));
            crowd.receive(peer, &read);
        }
        7 => crowd.write(peer, script.room()),
        8 => crowd.flush(peer, script.room()),
        9 => crowd.wait(8 * u64::from(script.byte())),
        10 => crowd.settle_due(script.room()),
        11 => crowd.end(peer),
        12 => crowd.fail(peer),
        13 => crowd.remove(peer),
        14 => match peer {
            1 => crowd.pause_reads(),
            2 => crowd.resume_reads(),
            _ => crowd.shut_down(),
        },
        _ => (0..PEERS).for_each(|peer| crowd.flush(peer, usize::MAX)),
    }
}

/// What a client may begin with.
static HEADS: LazyLock<[Vec<u8>; 8]> = LazyLock::new(|| {
    let admitted = |extensions: &[&str]| upgrade::request(extensions.iter().map(|value| value.as_bytes()));
    let plain = admitted(&[]);
    let without =
        |line: &str| String::from_utf8(plain.clone()).expect("ASCII").replace(line, "").into_bytes();
    [
        plain.clone(),
        admitted(&["permessage-deflate; client_max_window_bits"]),
        admitted(&["permessage-deflate; server_max_window_bits=8"]),
        without("User-ID: 123\r\n"),
        without("Upgrade: websocket\r\n"),
        // Two reads, or a client that is never done.
        plain[..plain.len() / 2].to_vec(),
        plain[plain.len() / 2..].to_vec(),
        // Frames in the same read.
        [&plain[..], b"\x81\x85\x00\x00\x00\x00hello\x89\x80\x00\x00\x00\x00"].concat(),
    ]
});

/// A message as a client compresses it.
fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("room");
    // A last block that says it is: RFC 7692 §7.2.3.4 allows it, and asks for one zero byte behind it.
    let mut compressed = encoder.finish().expect("room");
    compressed.push(0);
    compressed
}
