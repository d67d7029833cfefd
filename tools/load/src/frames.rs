//! The bytes of a run, created before it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use postern_core::{Codec, Session, SessionConfig, Turn};

use super::Failure;
use super::options::{Kind, Options};

/// The bytes to send, and the size of the expected echoes.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Masked frames: one for each message in flight on a connection.
    pub(crate) out: Vec<u8>,
    /// The size of a frame in bytes.
    pub(crate) out_len: usize,
    /// The size of an echo in bytes.
    pub(crate) echo_len: u64,
    pub(crate) payload: Vec<u8>,
    /// The bytes of the payload that differ between connections: the number of their channel.
    number: Range<usize>,
}

impl Frames {
    pub(crate) fn new(options: &Options) -> Result<Frames, Failure> {
        let mut payload = payload(options.kind, options.size);
        let mut number = 0..0;
        if options.channels > 0 {
            let start = r#"{"push":{"channel":""#;
            let channel = channel(0);
            number = start.len() + channel.len() - DIGITS..start.len() + channel.len();
            payload =
                format!(r#"{start}{channel}","pub":{{"data":{}}}}}}}"#, data(options.size)).into_bytes();
        }
        let mut out = Vec::new();
        let mut codec = Codec::new();
        let mut key = 0x9e37_79b9u32;
        let keys = || {
            key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            key.to_ne_bytes()
        };
        let mut session = Session::client(Arc::new(SessionConfig::default()), keys);
        let mut turn = Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
        for _ in 0..options.pipeline {
            match options.kind {
                Kind::Binary => session.send_binary(&mut turn, &payload)?,
                Kind::Text | Kind::Utf8 => session.send_text(&mut turn, std::str::from_utf8(&payload)?)?,
            }
        }
        let out_len = out.len() / options.pipeline;
        // The frames of a server have no masking key; otherwise they are equal.
        Ok(Frames { out_len, echo_len: out_len as u64 - 4, out, payload, number })
    }

    /// Returns whether a received payload is as expected.
    pub(crate) fn is_expected(&self, received: &[u8]) -> bool {
        let Range { start, end } = self.number;
        received.get(..start) == self.payload.get(..start) && received.get(end..) == self.payload.get(end..)
    }
}

/// Returns the name of a channel. All names have the same length.
pub(crate) fn channel(number: usize) -> String {
    format!("bench-{number:0DIGITS$}")
}

/// Returns the data of a publication to a channel: JSON of this size.
pub(crate) fn data(size: usize) -> String {
    let text: String = ('a'..='z').cycle().take(size.saturating_sub(2)).collect();
    format!("\"{text}\"")
}

/// The digits of the number of a channel.
const DIGITS: usize = 3;

/// Returns a payload of `size` bytes.
fn payload(kind: Kind, size: usize) -> Vec<u8> {
    match kind {
        Kind::Binary => (0..size).map(|i| (i * 7) as u8).collect(),
        Kind::Text => (b'a'..=b'z').cycle().take(size).collect(),
        Kind::Utf8 => {
            let mut text = String::with_capacity(size + 4);
            for character in "né€😀я漢".chars().cycle() {
                if text.len() + character.len_utf8() > size {
                    break;
                }
                text.push(character);
            }
            let mut bytes = text.into_bytes();
            bytes.resize(size, b'.');
            bytes
        }
    }
}
