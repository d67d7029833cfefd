//! The bytes of a client: frames that it sends, and a reader of everything that the server sends.
//!
//! Headers are written and parsed by tungstenite, which shares no code with the server.

use std::io::Cursor;

use postern_core::frame::DataKind;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::deflate::Deflate;

/// Appends a masked frame.
pub(crate) fn write_frame(out: &mut Vec<u8>, header: FrameHeader, payload: &[u8], mask: [u8; 4]) {
    let header = FrameHeader { mask: Some(mask), ..header };
    // A vector accepts all bytes.
    let _ = header.format(payload.len() as u64, out);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// An answer or a frame that a client has received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The status of the answer to its request.
    Status(u16),
    Message(DataKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Reads the answer to the request, and then frames.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) bytes: Vec<u8>,
    stage: Stage,
    /// The largest window that the client offered.
    window_bits: u8,
    /// Set if compression was negotiated.
    pub(crate) deflate: Option<Deflate>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    Frames,
    /// The body of a refusal.
    Body,
    /// A Close has arrived, after which there must be nothing.
    End,
}

impl Reader {
    pub(crate) fn new(window_bits: u8) -> Reader {
        Reader { window_bits, ..Reader::default() }
    }

    /// Returns the next thing that has arrived whole.
    ///
    /// # Errors
    /// The bytes are not what a server may send.
    pub(crate) fn next(&mut self) -> Result<Option<Received>, &'static str> {
        match self.stage {
            Stage::Head => self.next_head(),
            Stage::Frames => self.next_frame(),
            Stage::Body => {
                self.bytes.clear();
                Ok(None)
            }
            Stage::End if self.bytes.is_empty() => Ok(None),
            Stage::End => Err("bytes follow a Close"),
        }
    }

    /// Whether a part of a head or of a frame has arrived.
    pub(crate) fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }

    fn next_head(&mut self) -> Result<Option<Received>, &'static str> {
        let Some(end) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let status = self.bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or("the answer does not begin with a status line")?;
        if self
            .bytes
            .get(..end)
            .is_some_and(|head| head.windows(18).any(|bytes| bytes == b"permessage-deflate"))
        {
            self.deflate = Some(Deflate::new(self.window_bits));
        }
        self.bytes.drain(..end + 4);
        self.stage = if status == 101 { Stage::Frames } else { Stage::Body };
        Ok(Some(Received::Status(status)))
    }

    fn next_frame(&mut self) -> Result<Option<Received>, &'static str> {
        let mut cursor = Cursor::new(&self.bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| "the header of a frame is not valid")?;
        let Some((header, len)) = parsed else { return Ok(None) };
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let is_reserved = header.rsv2 || header.rsv3 || header.rsv1 && (is_control || self.deflate.is_none());
        if !header.is_final || is_reserved || header.mask.is_some() {
            return Err("a frame is fragmented, masked, or has reserved bits");
        }
        let start = cursor.position() as usize;
        let end = start + usize::try_from(len).map_err(|_| "the length of a frame is absurd")?;
        let kind = match header.opcode {
            OpCode::Data(Data::Text) => DataKind::Text,
            OpCode::Data(Data::Binary) => DataKind::Binary,
            OpCode::Data(Data::Continue | Data::Reserved(_)) | OpCode::Control(_) => {
                return self.next_control(header.opcode, start, end);
            }
        };
        let Some(payload) = self.bytes.get(start..end) else { return Ok(None) };
        let payload = match &mut self.deflate {
            Some(deflate) if header.rsv1 => deflate.inflate(payload)?,
            Some(_) | None => payload.to_vec(),
        };
        if kind == DataKind::Text && std::str::from_utf8(&payload).is_err() {
            return Err("a text message is not UTF-8");
        }
        self.bytes.drain(..end);
        Ok(Some(Received::Message(kind, payload)))
    }

    fn next_control(
        &mut self,
        opcode: OpCode,
        start: usize,
        end: usize,
    ) -> Result<Option<Received>, &'static str> {
        if end - start > 125 {
            return Err("a control frame is too long");
        }
        let Some(payload) = self.bytes.get(start..end).map(<[u8]>::to_vec) else { return Ok(None) };
        self.bytes.drain(..end);
        match opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Received::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Received::Pong(payload))),
            OpCode::Control(Control::Close) => {
                self.stage = Stage::End;
                let code = match payload.split_first_chunk::<2>() {
                    Some((code, reason)) if std::str::from_utf8(reason).is_ok() => {
                        Some(u16::from_be_bytes(*code))
                    }
                    None if payload.is_empty() => None,
                    Some(_) | None => return Err("the payload of a Close is not valid"),
                };
                if code.is_some_and(|code| !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)) {
                    return Err("a Close has a code that must not be sent");
                }
                Ok(Some(Received::Close(code)))
            }
            OpCode::Data(_) | OpCode::Control(Control::Reserved(_)) => {
                Err("a frame has an opcode that a server must not send")
            }
        }
    }
}
