//! The bytes of one read from a busy connection.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// The content of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ASCII text.
    Text,
    /// All byte values.
    Binary,
}

/// A read that is filled with messages of one kind and size, each in one frame with its own masking key.
#[derive(Debug, Clone)]
pub struct FullRead {
    bytes: Vec<u8>,
    messages: usize,
}

impl FullRead {
    /// Creates a read with messages of `size` bytes and a total of at least 64 KiB. The last message may exceed that,
    /// so there are four messages of 16 KiB and not three. The read buffers of the benches have the size of the read.
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

    /// Creates a read with one message.
    pub fn one(kind: Kind, payload: &[u8]) -> FullRead {
        let mut read = FullRead { bytes: Vec::new(), messages: 0 };
        read.push(kind, payload);
        read
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of messages.
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn push(&mut self, kind: Kind, payload: &[u8]) {
        let opcode = match kind {
            Kind::Text => OpCode::Data(Data::Text),
            Kind::Binary => OpCode::Data(Data::Binary),
        };
        // The odd factor changes all bytes of the key from message to message.
        let mask = (self.messages as u32 + 1).wrapping_mul(0x9e37_79b1).to_ne_bytes();
        let header =
            FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask: Some(mask) };
        header.format(payload.len() as u64, &mut self.bytes).expect("a vector accepts all bytes");
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.messages += 1;
    }
}
