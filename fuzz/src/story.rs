//! The life of one connection, by what it sent and what was recorded of it.

use postern_core::session::Traffic;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::frame::{self, BINARY, CLOSE, COMPRESSED, FIN, PING, PONG, TEXT};
use crate::inflate::inflate_by_flate2;
use crate::notes::Note;
use crate::response;

/// Asserts that a connection that is gone has sent what belongs together, up to wherever it was cut off, and that
/// its records tell one life.
pub(crate) fn check(wire: &[u8], notes: &[&Note]) {
    match notes {
        [Note::Established, between @ .., Note::Closed(_, traffic)] => {
            let is_message = |note: &&&Note| !matches!(note, Note::Pong | Note::Rate);
            let messages: Vec<(u8, &[u8])> =
                between.iter().filter(is_message).map(|note| message(note)).collect();
            check_traffic(*traffic, &messages);
            check_admitted(wire, &messages);
        }
        [Note::Rejected(error)] => response::check_cut_refusal(wire, *error),
        [Note::Abandoned] => assert!(wire.is_empty(), "{}", wire.escape_ascii()),
        other => panic!("not the records of one life: {other:?}"),
    }
}

fn message(note: &Note) -> (u8, &[u8]) {
    let Note::Message(opcode, payload) = note else { panic!("{note:?} in the middle") };
    (if *opcode == OpCode::Data(Data::Text) { TEXT } else { BINARY }, payload)
}

/// What was counted is what was recorded, and the application sends back whatever it gets.
fn check_traffic(traffic: Traffic, messages: &[(u8, &[u8])]) {
    let bytes = messages.iter().map(|(_, payload)| payload.len() as u64).sum();
    let count = messages.len() as u64;
    let counted = (traffic.messages_received, traffic.bytes_received);
    assert_eq!(counted, (count, bytes));
    assert_eq!((traffic.messages_sent, traffic.bytes_sent), counted);
}

fn check_admitted(wire: &[u8], messages: &[(u8, &[u8])]) {
    const BEGIN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
    let Some(end) = wire.windows(4).position(|end| end == b"\r\n\r\n") else {
        let begin = &wire[..wire.len().min(BEGIN.len())];
        assert!(BEGIN.starts_with(begin), "{}", wire.escape_ascii());
        return;
    };
    let (head, mut rest) = wire.split_at(end + 4);
    assert!(head.starts_with(BEGIN), "{}", head.escape_ascii());
    let may_compress = head.windows(18).any(|window| window == b"permessage-deflate");
    let mut expected = messages.iter();
    let mut is_closed = false;
    while !rest.is_empty() {
        assert!(!is_closed, "something follows our Close: {}", rest.escape_ascii());
        let Some((first, payload, behind)) = frame::read(rest) else { return };
        assert!(first & FIN != 0 && first & 0x30 == 0, "{first:02x}");
        let is_compressed = first & COMPRESSED != 0;
        match first & 0x0f {
            opcode @ (TEXT | BINARY) => {
                assert!(may_compress || !is_compressed, "compressed, which was not agreed on");
                let (kind, message) = expected.next().expect("a message that nobody sent");
                let inflated = is_compressed.then(|| inflate_by_flate2(payload, message.len() + 1));
                let payload = inflated.flatten().unwrap_or_else(|| payload.to_vec());
                assert!((opcode, &payload[..]) == (*kind, *message), "not what the client sent");
            }
            PING => assert!(payload.len() == 8 && !is_compressed),
            PONG => assert!(payload.len() <= 125 && !is_compressed),
            CLOSE => {
                assert!(!is_compressed);
                check_close(payload);
                is_closed = true;
            }
            other => panic!("a server does not send {other}"),
        }
        rest = behind;
    }
}

/// RFC 6455 §5.5.1 and §7.4: a code that may be sent and a reason in UTF-8, or nothing.
fn check_close(payload: &[u8]) {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        assert!(payload.is_empty(), "half a close code");
        return;
    };
    let code = u16::from_be_bytes(*code);
    assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "{code}");
    assert!(payload.len() <= 125 && std::str::from_utf8(reason).is_ok());
}
