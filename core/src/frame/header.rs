//! The frame header (RFC 6455 §5.2), in and out.
//!
//! ```text
//!    0               1
//!   +-+-+-+-+-------+-+-------------+- - - - - - - - -+- - - - - - - -+
//!   |F|R|R|R| opcode|M| length (7)  | length (16, 64) | masking key   |
//!   +-+-+-+-+-------+-+-------------+- - - - - - - - -+- - - - - - - -+
//! ```

use super::error::ProtocolError;
use super::{ControlKind, DataKind, OpCode, unmask};
use crate::role::Role;

/// The longest header: two bytes, a length of eight, a masking key of four.
pub(crate) const MAX_HEADER: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// The longest reason of a Close frame: a control frame's payload without the code.
pub(crate) const MAX_CLOSE_REASON: usize = MAX_CONTROL - 2;

/// A parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Whether this is the last frame of its message.
    pub(crate) fin: bool,
    /// The first reserved bit, which permessage-deflate gives a meaning; the other two never have one.
    pub(crate) rsv1: bool,
    pub(crate) kind: FrameKind,
    /// The masking key; zeros for a server's frame.
    pub(crate) mask: [u8; 4],
    /// Payload bytes, at most 2^63 - 1.
    pub(crate) len: u64,
}

/// The kind of a frame. A header with a reserved opcode is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Data(DataKind),
    Continuation,
    Control(ControlKind),
}

impl FrameHeader {
    /// Parses the header at the front of `bytes`, and returns it with its length. `None` means that more bytes are
    /// needed.
    ///
    /// The checks are in the order of the bytes, so the verdict does not depend on how the bytes are split.
    #[inline]
    pub(crate) fn parse<R: Role>(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        // RFC 6455 §5.2: "If a nonzero value is received and none of the negotiated extensions defines the
        // meaning of such a nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_."
        if first & 0x30 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & 0x80 != 0;
        let rsv1 = first & 0x40 != 0;
        let kind = match first & 0x0f {
            0x0 => FrameKind::Continuation,
            0x1 => FrameKind::Data(DataKind::Text),
            0x2 => FrameKind::Data(DataKind::Binary),
            0x8 => FrameKind::Control(ControlKind::Close),
            0x9 => FrameKind::Control(ControlKind::Ping),
            0xa => FrameKind::Control(ControlKind::Pong),
            _ => return Err(ProtocolError::ReservedOpcode),
        };
        let is_control = matches!(kind, FrameKind::Control(_));
        if is_control && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        // RFC 6455 §5.1: "The server MUST close the connection upon receiving a frame that is not masked."
        // "A client MUST close a connection if it detects a masked frame."
        match (second & 0x80 != 0, R::PEER_MASKS) {
            (false, true) => return Err(ProtocolError::Unmasked),
            (true, false) => return Err(ProtocolError::Masked),
            (true, true) | (false, false) => {}
        }
        let short = second & 0x7f;
        if is_control && usize::from(short) > MAX_CONTROL {
            return Err(ProtocolError::LongControl);
        }
        let (len, rest) = match short {
            126 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes(*bytes));
                if len < 126 {
                    return Err(ProtocolError::NonMinimalLength);
                }
                (len, rest)
            }
            127 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                let len = u64::from_be_bytes(*bytes);
                if len >> 63 != 0 {
                    return Err(ProtocolError::LengthOverflow);
                }
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::NonMinimalLength);
                }
                (len, rest)
            }
            len => (u64::from(len), rest),
        };
        let (mask, rest) = if R::PEER_MASKS {
            let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (*mask, rest)
        } else {
            ([0; 4], rest)
        };
        Ok(Some((FrameHeader { fin, rsv1, kind, mask, len }, bytes.len() - rest.len())))
    }
}

/// Appends a whole frame: final, without reserved bits, and masked if there is a key, as in a client.
#[inline(always)]
pub(crate) fn write_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], key: Option<[u8; 4]>) {
    write(out, 0x80 | opcode as u8, payload, key);
}

/// Appends a whole frame whose payload permessage-deflate has compressed: with RSV1 (RFC 7692 §6.1).
pub(crate) fn write_compressed_frame(
    out: &mut Vec<u8>,
    opcode: OpCode,
    payload: &[u8],
    key: Option<[u8; 4]>,
) {
    write(out, 0xc0 | opcode as u8, payload, key);
}

// It is small, and called once per message.
#[inline(always)]
fn write(out: &mut Vec<u8>, first: u8, payload: &[u8], key: Option<[u8; 4]>) {
    write_first(out, first, payload.len(), key);
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(payload)) = (key, out.get_mut(start..)) {
        unmask(payload, key, 0);
    }
}

/// Appends the header of a whole frame whose payload is sent from elsewhere.
pub(crate) fn write_header(out: &mut Vec<u8>, opcode: OpCode, len: usize, key: Option<[u8; 4]>) {
    write_first(out, 0x80 | opcode as u8, len, key);
}

#[inline(always)]
fn write_first(out: &mut Vec<u8>, first: u8, len: usize, key: Option<[u8; 4]>) {
    let masked = if key.is_some() { 0x80 } else { 0 };
    match len {
        // The casts do not truncate: each arm's range fits its type.
        0..=125 => out.extend_from_slice(&[first, masked | len as u8]),
        126..=0xffff => {
            let [a, b] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, masked | 126, a, b]);
        }
        _ => {
            out.extend_from_slice(&[first, masked | 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::{Client, Server};

    const MASK: [u8; 4] = [1, 2, 3, 4];

    #[track_caller]
    fn check(bytes: &[u8], verdict: Result<(bool, FrameKind, u64), ProtocolError>) {
        let parsed = FrameHeader::parse::<Server>(bytes);
        match verdict {
            Ok((fin, kind, len)) => {
                let header = FrameHeader { fin, rsv1: false, kind, mask: MASK, len };
                assert_eq!(parsed, Ok(Some((header, bytes.len()))));
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHeader::parse::<Server>(&bytes[..cut]), Ok(None), "cut at {cut}");
                }
            }
            Err(error) => {
                assert_eq!(parsed, Err(error));
                let early = (0..bytes.len()).map(|cut| FrameHeader::parse::<Server>(&bytes[..cut]));
                assert!(early.into_iter().all(|parsed| parsed == Ok(None) || parsed == Err(error)));
            }
        }
    }

    const TEXT: FrameKind = FrameKind::Data(DataKind::Text);
    const BINARY: FrameKind = FrameKind::Data(DataKind::Binary);

    #[test]
    fn lengths_are_read_in_their_three_forms() {
        check(&[0x81, 0x80, 1, 2, 3, 4], Ok((true, TEXT, 0)));
        check(&[0x02, 0xfd, 1, 2, 3, 4], Ok((false, BINARY, 125)));
        check(&[0x82, 0xfe, 0, 126, 1, 2, 3, 4], Ok((true, BINARY, 126)));
        check(&[0x80, 0xfe, 0xff, 0xff, 1, 2, 3, 4], Ok((true, FrameKind::Continuation, 0xffff)));
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], Ok((true, BINARY, 0x1_0000)));
        let most = [0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4];
        check(&most, Ok((true, BINARY, u64::MAX >> 1)));
    }

    #[test]
    fn a_length_must_be_minimal() {
        check(&[0x82, 0xfe, 0, 125, 1, 2, 3, 4], Err(ProtocolError::NonMinimalLength));
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Err(ProtocolError::NonMinimalLength));
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 5], Err(ProtocolError::NonMinimalLength));
    }

    #[test]
    fn the_highest_bit_of_a_length_must_be_zero() {
        check(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(ProtocolError::LengthOverflow));
        check(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], Err(ProtocolError::LengthOverflow));
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
        for first in [0xa1, 0x91, 0xb1, 0xf1, 0xa9] {
            check(&[first], Err(ProtocolError::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&[0x80 | opcode], Err(ProtocolError::ReservedOpcode));
        }
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        for opcode in [8, 9, 10] {
            check(&[opcode], Err(ProtocolError::FragmentedControl));
            check(&[0x80 | opcode, 0xfe], Err(ProtocolError::LongControl));
            check(&[0x80 | opcode, 0xff], Err(ProtocolError::LongControl));
        }
        check(&[0x89, 0xfd, 1, 2, 3, 4], Ok((true, FrameKind::Control(ControlKind::Ping), 125)));
    }

    #[test]
    fn a_client_must_mask() {
        check(&[0x81, 0x01], Err(ProtocolError::Unmasked));
        check(&[0x88, 0x00], Err(ProtocolError::Unmasked));
    }

    #[test]
    fn frames_are_written_with_the_shortest_length() {
        for (len, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (0xffff, &[0x82, 126, 0xff, 0xff]),
            (0x1_0000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_frame(&mut out, OpCode::Binary, &vec![7; len], None);
            assert_eq!(out.get(..head.len()), Some(head));
            assert_eq!(out.len(), head.len() + len);
        }
    }

    #[test]
    fn a_server_must_not_mask() {
        type Peer = Client<fn() -> [u8; 4]>;
        assert_eq!(FrameHeader::parse::<Peer>(&[0x81, 0x85]), Err(ProtocolError::Masked));
        let header = FrameHeader { fin: true, rsv1: false, kind: TEXT, mask: [0; 4], len: 5 };
        assert_eq!(FrameHeader::parse::<Peer>(&[0x81, 5, b'h']), Ok(Some((header, 2))));
    }

    #[test]
    fn what_a_client_writes_a_server_reads() {
        for len in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..len).map(|i: usize| i as u8).collect();
            let mut out = Vec::new();
            write_frame(&mut out, OpCode::Binary, &payload, Some(MASK));
            let (header, skip) = FrameHeader::parse::<Server>(&out).unwrap().unwrap();
            assert_eq!((header.mask, header.len), (MASK, len as u64));
            unmask(&mut out[skip..], MASK, 0);
            assert_eq!(out[skip..], payload);
        }
    }
}
