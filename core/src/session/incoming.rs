//! The partial frame and the partial message of a session.

use std::mem;

use zeroize::Zeroize;

use crate::deflate::longest_compressed;
use crate::frame::{DataKind, FrameHeader, ProtocolError, append_unmasked, unmask};
use crate::turn::LARGE;
use crate::wipe;

use super::config::SessionConfig;

/// A session has one only while a frame or message is partial, so an idle session owns no heap memory.
///
/// It grows with the bytes that arrived, never with an announced length.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The fragments of the partial message.
    pub(super) message: Option<Message>,
    /// The frame whose payload is not complete.
    pub(super) frame: Option<PartialFrame>,
    /// The partial payload, if that frame is a control frame. At most 125 bytes.
    pub(super) control: Vec<u8>,
}

impl Incoming {
    pub(super) fn is_idle(&self) -> bool {
        self.message.is_none() && self.frame.is_none()
    }

    /// Returns the size of its buffers, in bytes.
    pub(super) fn memory(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Incoming>() + message + self.control.capacity()
    }
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartialFrame {
    pub(super) header: FrameHeader,
    /// Payload bytes that have arrived; `received < header.len`.
    pub(super) received: u64,
}

/// A message in several frames or several reads. One buffer, not a list of fragments: a peer chooses how
/// many there are (ws CVE-2026-62389).
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: DataKind,
    /// RSV1 of its first frame (RFC 7692 §6): `bytes` are compressed, and only the whole can be inflated.
    pub(super) is_compressed: bool,
    pub(super) bytes: Vec<u8>,
    /// The number of frames, including empty ones.
    fragments: u32,
    /// The number of `bytes` that are known to be UTF-8; the rest is the beginning of one character. For binary it
    /// stays zero.
    checked: usize,
    /// The number of `bytes` that are unmasked. The runtime has appended the others, which must still be handled.
    unmasked: usize,
}

impl Message {
    /// Creates an empty message in the buffer `bytes`.
    pub(super) fn new(kind: DataKind, is_compressed: bool, bytes: Vec<u8>) -> Message {
        Message { kind, is_compressed, bytes, fragments: 0, checked: 0, unmasked: 0 }
    }

    /// Counts one more frame, before any of its payload.
    pub(super) fn begin_frame(&mut self, len: u64, config: &SessionConfig) -> Result<(), ProtocolError> {
        self.fragments = self.fragments.saturating_add(1);
        if self.fragments > config.max_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        // Subtracted, not added: a length near 2^63 must not overflow (aiohttp PYSEC-2026-4395).
        let most =
            if self.is_compressed { longest_compressed(config.max_message) } else { config.max_message };
        let room = most.saturating_sub(self.bytes.len());
        if len > room as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    /// Appends payload, masked with `mask` from byte `at` of its frame on.
    ///
    /// Text is refused at the first byte that makes it invalid (RFC 6455 §8.1), so invalid text is not buffered.
    pub(super) fn append(&mut self, bytes: &[u8], mask: [u8; 4], at: u64) -> Result<(), ProtocolError> {
        wipe::reserve(&mut self.bytes, bytes.len());
        append_unmasked(&mut self.bytes, bytes, mask, at);
        self.unmasked = self.bytes.len();
        self.check_text()
    }

    /// Returns the buffer for a read to append to, if the message is already large and the frame lacks many bytes
    /// (`left`). The spare capacity is at most `left`, and at most doubles the buffer: memory grows with bytes that
    /// arrived.
    pub(super) fn spare_buffer(&mut self, left: u64) -> Option<&mut Vec<u8>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if self.bytes.len() < LARGE || left < LARGE {
            return None;
        }
        let room = self.bytes.capacity() - self.bytes.len();
        if room < LARGE {
            self.bytes.reserve_exact(left.min(self.bytes.len()));
        }
        Some(&mut self.bytes)
    }

    /// Removes the bytes after the end of a frame that lacked `left` bytes: the beginning of the next frame.
    pub(super) fn take_excess(&mut self, left: u64) -> Vec<u8> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let end = self.unmasked.saturating_add(left);
        if self.bytes.len() > end { self.bytes.split_off(end) } else { Vec::new() }
    }

    /// Unmasks the bytes that reads have appended, from byte `at` of the frame on. Returns their number.
    pub(super) fn take_appended(&mut self, mask: [u8; 4], at: u64) -> Result<u64, ProtocolError> {
        let fresh = self.bytes.get_mut(self.unmasked..).unwrap_or_default();
        let len = fresh.len() as u64;
        if len > 0 {
            unmask(fresh, mask, at);
            self.unmasked = self.bytes.len();
            self.check_text()?;
        }
        Ok(len)
    }

    fn check_text(&mut self) -> Result<(), ProtocolError> {
        if self.kind == DataKind::Binary || self.is_compressed {
            return Ok(());
        }
        let fresh = self.bytes.get(self.checked..).unwrap_or_default();
        match simdutf8::compat::from_utf8(fresh) {
            Ok(_) => self.checked = self.bytes.len(),
            // An error without a length: the bytes end inside a character that is valid so far.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::Utf8),
        }
        Ok(())
    }

    /// Returns the bytes of the whole message. Text that was not compressed is UTF-8 then; it must not end inside a
    /// character.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ProtocolError> {
        if self.kind == DataKind::Text && !self.is_compressed && self.checked != self.bytes.len() {
            return Err(ProtocolError::Utf8);
        }
        Ok(mem::take(&mut self.bytes))
    }
}

/// Overwrites a message that is incomplete or invalid, and may contain a token.
impl Drop for Message {
    fn drop(&mut self) {
        if self.bytes.len() <= wipe::LONGEST {
            self.bytes.zeroize();
        }
    }
}

/// The deadlines of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// The partial message must be complete.
    Message,
    /// The peer must have answered the Close, or accepted the last output.
    Close,
    /// The peer must have closed its side after the connection failed.
    Linger,
}
