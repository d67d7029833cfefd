//! What a server sent, as tungstenite's parser reads it.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The frames behind the 101.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wire<'w> {
    /// All but the Close: opcode and payload.
    pub(crate) frames: Vec<(OpCode, &'w [u8])>,
    /// The payload of the Close.
    pub(crate) close: Option<&'w [u8]>,
    /// Whether the wire ends inside a frame.
    pub(crate) is_cut: bool,
}

impl<'w> Wire<'w> {
    /// Reads all that was sent on a connection. Asserts that it is a 101 and then valid frames of a server,
    /// and that nothing follows a Close.
    pub(crate) fn read(sent: &'w [u8]) -> Wire<'w> {
        assert!(sent.starts_with(b"HTTP/1.1 101 "), "{}", sent.escape_ascii());
        let head = sent.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the end of the 101");
        let mut rest = &sent[head + 4..];
        let mut wire = Wire { frames: Vec::new(), close: None, is_cut: false };
        while !rest.is_empty() {
            assert!(wire.close.is_none(), "something follows our Close");
            let Some((header, payload, behind)) = split_frame(rest) else {
                wire.is_cut = true;
                break;
            };
            assert!(header.mask.is_none() && header.is_final, "{header:?}");
            assert!(!header.rsv1 && !header.rsv2 && !header.rsv3, "{header:?}");
            match header.opcode {
                OpCode::Data(Data::Text) => assert!(std::str::from_utf8(payload).is_ok()),
                OpCode::Data(Data::Binary) => {}
                OpCode::Control(Control::Pong) => assert!(payload.len() <= 125),
                OpCode::Control(Control::Close) => check_close(payload),
                other @ (OpCode::Data(_) | OpCode::Control(_)) => panic!("a server does not send {other:?}"),
            }
            match header.opcode {
                OpCode::Control(Control::Close) => wire.close = Some(payload),
                OpCode::Control(_) | OpCode::Data(_) => wire.frames.push((header.opcode, payload)),
            }
            rest = behind;
        }
        wire
    }

    /// The frames that are messages.
    pub(crate) fn data(&self) -> Vec<(OpCode, &'w [u8])> {
        self.frames.iter().filter(|(opcode, _)| matches!(opcode, OpCode::Data(_))).copied().collect()
    }

    /// The payloads of the pongs.
    pub(crate) fn pongs(&self) -> Vec<&'w [u8]> {
        let pongs = self.frames.iter().filter(|(opcode, _)| matches!(opcode, OpCode::Control(_)));
        pongs.map(|(_, payload)| *payload).collect()
    }
}

impl Wire<'_> {
    /// The data messages.
    pub(crate) fn messages(&self) -> Vec<(OpCode, &[u8])> {
        self.frames.iter().filter(|frame| matches!(frame.0, OpCode::Data(_))).copied().collect()
    }
}

/// The first frame, its payload, and what stands behind it.
fn split_frame(bytes: &[u8]) -> Option<(FrameHeader, &[u8], &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let (header, len) = FrameHeader::parse(&mut cursor).expect("a valid frame")?;
    let at = cursor.position() as usize;
    let (payload, behind) = bytes[at..].split_at_checked(usize::try_from(len).ok()?)?;
    Some((header, payload, behind))
}

fn check_close(payload: &[u8]) {
    assert!(payload.len() <= 125);
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        assert!(payload.is_empty(), "half a close code");
        return;
    };
    let code = u16::from_be_bytes(*code);
    // tungstenite does not know 1014, which IANA has registered since.
    assert!(CloseCode::from(code).is_allowed() || code == 1014, "{code}");
    assert!(std::str::from_utf8(reason).is_ok());
}
