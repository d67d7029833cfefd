//! What one read of a busy connection brings.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// What the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ASCII, as most text on the wire is.
    Text,
    /// Every byte value.
    Binary,
}

/// A read full of messages of one kind and size, each in one frame, masked with a key of its own.
#[derive(Debug, Clone)]
pub struct FullRead {
    bytes: Vec<u8>,
    messages: usize,
}

impl FullRead {
    /// Whole messages of `size` bytes until 64 KiB are reached. The last one may stand over a little, which
    /// makes it four of 16 KiB and not three; the read buffers of the benches are as long as the read.
    pub fn new(kind: Kind, size: usize) -> FullRead {
        let payload: Vec<u8> = match kind {
            Kind::Text => (b' '..=b'~').cycle().take(size).collect(),
            Kind::Binary => (0..=u8::MAX).cycle().take(size).collect(),
        };
        let mut read = FullRead { bytes: Vec::new(), messages: 0 };
        while read.bytes.len() < 64 * 1024 {
            read.push(kind, &payload);
        }
        read
    }

    /// One message, and nothing else.
    pub fn one(kind: Kind, payload: &[u8]) -> FullRead {
        let mut read = FullRead { bytes: Vec::new(), messages: 0 };
        read.push(kind, payload);
        read
    }

    /// What is read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages that is.
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn push(&mut self, kind: Kind, payload: &[u8]) {
        let opcode = match kind {
            Kind::Text => OpCode::Data(Data::Text),
            Kind::Binary => OpCode::Data(Data::Binary),
        };
        // Multiplied by an odd constant, so that all bytes of the key change from message to message.
        let mask = (self.messages as u32 + 1).wrapping_mul(0x9e37_79b1).to_ne_bytes();
        let header =
            FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask: Some(mask) };
        header.format(payload.len() as u64, &mut self.bytes).expect("a vector takes all");
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.messages += 1;
    }
}
