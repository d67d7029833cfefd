//! Any bytes as a compressed message, with any limit, and as a message that is compressed in any window.
//!
//! * The inflated message is never longer than the limit. It equals the result of one pass of flate2 over all of the
//!   input without a limit, and it is refused if that pass fails.
//! * miniz_oxide, which shares no code with it, inflates each accepted message to the same bytes. It accepts more
//!   malformed code tables, so it may accept a message that is refused; it may refuse a message that ends inside a table.
//! * A compressed message is restored by our inflater, and by one whose window has only the negotiated size.
//! * No message changes the result of a later one: at the end, the first gives the same result again.
//!
//! All messages go through sessions, as the messages of a client do.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use flate2::{Decompress, FlushDecompress, Status};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use postern_core::handshake::Deflate;
use postern_core::session::ProtocolError;
use postern_core::{Codec, Event, Input, Session, SessionConfig, Turn};

use crate::frame::{self, BINARY};
use crate::upgrade;

/// Checks an input:
///
/// ```text
///   [window: 1] [limit: 2, little-endian] [the message]
/// ```
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&[window, low, high], message)) = input.split_first_chunk() else { return };
    let limit = usize::from(u16::from_le_bytes([low, high]));
    let bits = 8 + window % 8;
    let mut codec = Codec::new();
    let inflated = receive(message, limit, &mut codec);
    check_inflated(message, limit, &inflated);
    check_window(message, bits, &mut codec);
    assert_eq!(receive(message, limit, &mut codec), inflated, "what the codec did since decides");
}

/// The negotiated parameters for a client of each window, from 8 bits.
static AGREED: LazyLock<[Deflate; 8]> = LazyLock::new(|| {
    [8, 9, 10, 11, 12, 13, 14, 15].map(|bits| {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let (_, accepted) = upgrade::accept(&mut upgrade::request([offer.as_bytes()])).expect("an upgrade");
        accepted.deflate.expect("a legal offer")
    })
});

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

type Inflated = Result<Vec<u8>, ProtocolError>;

fn session(limit: usize, bits: u8) -> Session {
    // Compresses all messages, even short ones.
    let config = SessionConfig {
        max_message: limit,
        max_frame: usize::MAX,
        compression_min: 0,
        ..SessionConfig::default()
    };
    Session::new(Arc::new(config)).with_deflate(Some(AGREED[usize::from(bits - 8)]))
}

/// Receives a compressed message of a client.
fn receive(compressed: &[u8], limit: usize, codec: &mut Codec) -> Inflated {
    let mut read = Vec::new();
    frame::write_masked(&mut read, frame::COMPRESSED | BINARY, compressed);
    let mut out = Vec::new();
    let mut turn = Turn { now: *NOW, out: &mut out, is_backlogged: false, codec };
    let mut input = Input::new(&mut read);
    match session(limit, 15).next_event(&mut turn, &mut input)? {
        Some(Event::Binary(payload)) => {
            assert!(payload.len() <= limit, "{} bytes with a limit of {limit}", payload.len());
            Ok(payload.into_vec())
        }
        other => panic!("{other:?}"),
    }
}

fn check_inflated(compressed: &[u8], limit: usize, inflated: &Inflated) {
    let by_flate2 = inflate_by_flate2(compressed, limit);
    match (inflated, &by_flate2) {
        (Ok(ours), Some(whole)) => assert!(ours == whole, "{ours:02x?}\nis not\n{whole:02x?}"),
        (Err(ProtocolError::Inflate), None) => {}
        (Err(ProtocolError::MessageTooBig), Some(whole)) => {
            // Only empty blocks are refused for their length before they are inflated.
            let is_long = compressed.len() > limit + limit / 8 + limit / 32 + 64;
            assert!(whole.len() > limit || is_long, "{} bytes with a limit of {limit}", whole.len());
        }
        // It exceeded the limit before its first invalid byte.
        (Err(ProtocolError::MessageTooBig), None) => {}
        (ours, _) => panic!("{ours:02x?}\nis not\n{by_flate2:02x?}"),
    }
    if let Ok(ours) = inflated {
        match inflate_by_miniz(compressed, limit) {
            Some(theirs) => assert!(ours == &theirs, "{ours:02x?}\nis not\n{theirs:02x?} of miniz_oxide"),
            // It refuses an invalid code table at its beginning, zlib at its end.
            None => assert!(!is_whole(compressed, limit), "miniz_oxide refuses it"),
        }
    }
}

/// Appends the end of the last block, which RFC 7692 §7.2.2 removes.
fn with_tail(compressed: &[u8]) -> Vec<u8> {
    [compressed, &[0x00, 0x00, 0xff, 0xff]].concat()
}

/// Inflates in one pass, with room for a little more than the limit.
pub(crate) fn inflate_by_flate2(compressed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let all = with_tail(compressed);
    let mut inflater = Decompress::new(false);
    let mut out = Vec::with_capacity(limit + 512);
    let mut used = 0;
    loop {
        let before = inflater.total_in();
        let status = inflater.decompress_vec(&all[used..], &mut out, FlushDecompress::Sync).ok()?;
        used += usize::try_from(inflater.total_in() - before).expect("no more than there is");
        match status {
            // RFC 7692 §7.2.3.4: a block with BFINAL set ends a stream, not the message.
            Status::StreamEnd if used < all.len() && out.len() <= limit => inflater.reset(false),
            Status::StreamEnd | Status::Ok | Status::BufError => return Some(out),
        }
    }
}

/// Whether the message ends at the end of a block. Otherwise zlib and Postern both accept the bytes inflated so far.
fn is_whole(compressed: &[u8], limit: usize) -> bool {
    let all = [&with_tail(compressed), LAST_BLOCK].concat();
    let (mut inflater, mut out) = (Decompress::new(false), Vec::with_capacity(limit + 512));
    let mut used = 0;
    loop {
        let before = inflater.total_in();
        let Ok(status) = inflater.decompress_vec(&all[used..], &mut out, FlushDecompress::Sync) else {
            return false;
        };
        used += usize::try_from(inflater.total_in() - before).expect("no more than there is");
        match status {
            Status::StreamEnd if used < all.len() => inflater.reset(false),
            Status::StreamEnd => return true,
            Status::Ok | Status::BufError => return false,
        }
    }
}

/// An empty block with BFINAL set.
const LAST_BLOCK: &[u8] = &[0x01, 0x00, 0x00, 0xff, 0xff];

/// Inflates with another library.
fn inflate_by_miniz(compressed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let all = with_tail(compressed);
    let flags =
        inflate_flags::TINFL_FLAG_HAS_MORE_INPUT | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut out = vec![0; limit + 1];
    let (mut used, mut written) = (0, 0);
    loop {
        // A new stream cannot refer to the last one.
        let (status, read, wrote) =
            decompress(&mut DecompressorOxide::new(), &all[used..], &mut out[written..], 0, flags);
        (used, written) = (used + read, written + wrote);
        if status == TINFLStatus::NeedsMoreInput || (status == TINFLStatus::Done && used == all.len()) {
            out.truncate(written);
            return Some(out);
        }
        if status != TINFLStatus::Done {
            return None;
        }
    }
}

/// Compresses in a window, and asserts that a client with a window of this size can read it.
fn check_window(message: &[u8], bits: u8, codec: &mut Codec) {
    let mut out = Vec::new();
    let mut turn = Turn { now: *NOW, out: &mut out, is_backlogged: false, codec };
    session(message.len(), bits).send_binary(&mut turn, message).expect("an open session");
    let (first, compressed, behind) = frame::read(&out).expect("a whole frame");
    assert_eq!((first, behind), (frame::FIN | frame::COMPRESSED | BINARY, &[][..]));
    assert!(inflate_in_window(compressed, bits) == message, "{bits} bits");
    // Incompressible bytes get longer, by less than a limit allows.
    assert_eq!(receive(compressed, message.len(), codec).as_deref(), Ok(message), "{bits} bits");
}

/// Inflates into a ring of the window's size. A reference further back is refused.
fn inflate_in_window(compressed: &[u8], bits: u8) -> Vec<u8> {
    let all = with_tail(compressed);
    let mut ring = vec![0; 1 << bits];
    let mut inflater = DecompressorOxide::new();
    let (mut out, mut used, mut at) = (Vec::new(), 0, 0);
    loop {
        let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
        let (status, read, wrote) = decompress(&mut inflater, &all[used..], &mut ring, at, flags);
        out.extend_from_slice(&ring[at..at + wrote]);
        used += read;
        at = (at + wrote) % ring.len();
        if status == TINFLStatus::NeedsMoreInput {
            return out;
        }
        assert_eq!(status, TINFLStatus::HasMoreOutput, "in a window of {bits} bits");
    }
}
