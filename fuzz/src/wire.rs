//! The bytes that a server sent on one connection, compared with its records.

use postern_core::session::Traffic;

use crate::frame::{self, BINARY, CLOSE, COMPRESSED, FIN, PING, PONG, TEXT};
use crate::inflate::inflate_by_flate2;
use crate::notes::Note;
use crate::response;

/// The frames after the 101.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wire<'w> {
    /// All but the Close: opcode, with `COMPRESSED` if it is, and payload.
    pub(crate) frames: Vec<(u8, &'w [u8])>,
    /// The payload of the Close.
    pub(crate) close: Option<&'w [u8]>,
    /// Whether the wire ends inside the 101 or a frame.
    pub(crate) is_cut: bool,
}

impl<'w> Wire<'w> {
    /// Reads all bytes that were sent on a connection. Asserts that they are a 101 and then valid frames of a server,
    /// compressed only if that was negotiated, and that no bytes follow a Close.
    pub(crate) fn read(sent: &'w [u8]) -> Wire<'w> {
        const BEGIN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
        let begin = &sent[..sent.len().min(BEGIN.len())];
        assert!(BEGIN.starts_with(begin), "{}", sent.escape_ascii());
        let mut wire = Wire { frames: Vec::new(), close: None, is_cut: false };
        let Some(end) = sent.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Wire { is_cut: true, ..wire };
        };
        let (head, mut rest) = sent.split_at(end + 4);
        let may_compress = head.windows(18).any(|window| window == b"permessage-deflate");
        while !rest.is_empty() {
            assert!(wire.close.is_none(), "sent after our Close: {}", rest.escape_ascii());
            let Some((first, payload, after)) = frame::read(rest) else {
                wire.is_cut = true;
                break;
            };
            assert!(first & FIN != 0 && first & 0x30 == 0, "{first:02x}");
            match first & !FIN {
                TEXT => assert!(std::str::from_utf8(payload).is_ok()),
                BINARY => {}
                opcode if opcode & !COMPRESSED == TEXT || opcode & !COMPRESSED == BINARY => {
                    assert!(may_compress, "compression was not negotiated");
                }
                PING => assert_eq!(payload.len(), 8),
                PONG => assert!(payload.len() <= 125),
                CLOSE => check_close(payload),
                other => panic!("a server does not send {other}"),
            }
            match first & !FIN {
                CLOSE => wire.close = Some(payload),
                opcode => wire.frames.push((opcode, payload)),
            }
            rest = after;
        }
        wire
    }

    /// Returns the data messages, as they were sent.
    pub(crate) fn messages(&self) -> Vec<(u8, &'w [u8])> {
        let is_message = |(opcode, _): &&(u8, _)| matches!(opcode & !COMPRESSED, TEXT | BINARY);
        self.frames.iter().filter(is_message).copied().collect()
    }

    /// Returns the payloads of the pongs.
    pub(crate) fn pongs(&self) -> Vec<&'w [u8]> {
        self.frames.iter().filter(|(opcode, _)| *opcode == PONG).map(|(_, payload)| *payload).collect()
    }
}

/// Asserts that a payload has a code that may be sent and a reason in UTF-8, or is empty (RFC 6455 §5.5.1 and §7.4).
fn check_close(payload: &[u8]) {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        assert!(payload.is_empty(), "half a close code");
        return;
    };
    let code = u16::from_be_bytes(*code);
    assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "{code}");
    assert!(payload.len() <= 125 && std::str::from_utf8(reason).is_ok());
}

/// Asserts that the records of a connection that has ended are complete and in order, and that it sent what follows
/// from them, up to the byte where it was cut off: a refusal, or a 101 and the echo of each message.
pub(crate) fn check_life(sent: &[u8], notes: &[&Note]) {
    match notes {
        [Note::Established, between @ .., Note::Closed(_, traffic)] => {
            let messages: Vec<_> = between
                .iter()
                .filter(|note| !matches!(note, Note::Pong | Note::Rate))
                .map(|note| note.message().unwrap_or_else(|| panic!("{note:?} between begin and end")))
                .collect();
            check_traffic(*traffic, &messages);
            check_echo(&Wire::read(sent), &messages);
        }
        [Note::Rejected(error)] => response::check_cut_refusal(sent, *error),
        [Note::Abandoned] => assert!(sent.is_empty(), "{}", sent.escape_ascii()),
        other => panic!("not the records of one connection: {other:?}"),
    }
}

/// Asserts that the counts match the recorded messages. The application echoes each message.
fn check_traffic(traffic: Traffic, messages: &[(u8, &[u8])]) {
    let bytes = messages.iter().map(|(_, payload)| payload.len() as u64).sum();
    let count = messages.len() as u64;
    let counted =
        Traffic { messages_received: count, bytes_received: bytes, messages_sent: count, bytes_sent: bytes };
    assert_eq!(traffic, counted);
}

fn check_echo(wire: &Wire<'_>, messages: &[(u8, &[u8])]) {
    let mut expected = messages.iter();
    for (opcode, payload) in wire.messages() {
        let (kind, message) = expected.next().expect("an echo of a received message");
        let is_compressed = opcode & COMPRESSED != 0;
        let inflated = is_compressed.then(|| inflate_by_flate2(payload, message.len() + 1));
        let payload = inflated.flatten().unwrap_or_else(|| payload.to_vec());
        assert!((opcode & !COMPRESSED, &payload[..]) == (*kind, *message), "not what the client sent");
    }
}
