//! The bytes of a run, made before it.

use std::sync::Arc;
use std::time::Instant;

use postern_core::{Codec, Session, SessionConfig, Turn};

use super::Failure;
use super::options::{Kind, Options};

/// What goes out and what has to come back.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Masked frames, as many as are in flight on a connection.
    pub(crate) out: Vec<u8>,
    /// How many bytes one of them has.
    pub(crate) out_len: usize,
    /// How many bytes an echo has.
    pub(crate) echo_len: u64,
    pub(crate) payload: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(options: &Options) -> Result<Frames, Failure> {
        let payload = payload(options.kind, options.size);
        let mut out = Vec::new();
        let mut codec = Codec::new();
        let mut number = 0x9e37_79b9u32;
        let keys = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number.to_ne_bytes()
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
        // A server does not mask; all else is the same.
        Ok(Frames { out_len, echo_len: out_len as u64 - 4, out, payload })
    }
}

/// `size` bytes of a kind.
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
