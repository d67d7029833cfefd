//! permessage-deflate (RFC 7692 §7.2): one pair of contexts for all connections of a worker, reset for
//! each message.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Compresses and inflates messages. It owns no memory until the first one.
#[derive(Debug, Default)]
pub(crate) struct DeflateCodec {
    inflater: Option<Decompress>,
    /// One for each window, from 9 to 15 bits.
    deflaters: [Option<Compress>; 7],
    /// The buffer in which a message is compressed before its length is known.
    scratch: Vec<u8>,
    /// The number of messages that were compressed, or could not be made shorter.
    #[cfg(test)]
    pub(crate) compressions: usize,
}

/// Why a message could not be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is longer than a message may be.
    TooBig,
    /// It is not DEFLATE.
    Invalid,
}

impl DeflateCodec {
    /// Inflates a whole message of at most `limit` bytes.
    ///
    /// The limit stops the inflater. It is not checked afterwards, because 64 KiB can contain 64 MiB of zeros.
    pub(crate) fn inflate(&mut self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        let mut out = Vec::new();
        // RFC 7692 §7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload".
        for mut input in [compressed, &TAIL] {
            loop {
                if out.len() == out.capacity() {
                    // The buffer doubles with the inflated bytes, and ends one byte after the limit.
                    let room = limit.saturating_add(1).saturating_sub(out.len());
                    out.reserve_exact(room.min(out.len().max(2 * input.len()).max(SMALLEST_GROWTH)));
                }
                let (read, written) = (inflater.total_in(), out.len());
                let status = inflater.decompress_vec(input, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| InflateError::Invalid)?;
                if out.len() > limit {
                    return Err(InflateError::TooBig);
                }
                let used = usize::try_from(inflater.total_in() - read).unwrap_or(usize::MAX);
                input = input.get(used..).unwrap_or_default();
                if status == Status::StreamEnd {
                    // RFC 7692 §7.2.3.4: a block with BFINAL set ends a stream, not the message.
                    inflater.reset(false);
                } else if used == 0 && out.len() == written {
                    // No input is consumed and no output written: either all input is inflated, or the inflater cannot
                    // continue.
                    if input.is_empty() { break } else { return Err(InflateError::Invalid) }
                }
                if input.is_empty() && out.len() < out.capacity() {
                    break;
                }
            }
        }
        Ok(out)
    }

    /// Compresses a whole message of at least `threshold` bytes in a window of 2^`bits` bytes. `None` if it is
    /// shorter, or would not get shorter; with a threshold of zero all messages are compressed.
    pub(crate) fn deflate(&mut self, payload: &[u8], bits: u8, threshold: usize) -> Option<&[u8]> {
        if payload.len() < threshold {
            return None;
        }
        #[cfg(test)]
        {
            self.compressions += 1;
        }
        self.shrink();
        // zlib has no window of 256 bytes. With a window of 512 bytes and a full flush after each 256 bytes, no match
        // refers further back.
        let portion = if bits == 8 { 256 } else { usize::MAX };
        let bits = bits.clamp(9, 15);
        let slot = self.deflaters.get_mut(usize::from(bits - 9))?;
        let deflater =
            slot.get_or_insert_with(|| Compress::new_with_window_bits(Compression::fast(), false, bits));
        deflater.reset();
        self.scratch.clear();
        self.scratch.reserve(payload.len());
        let mut rest = payload;
        loop {
            let (now, later) = rest.split_at(portion.min(rest.len()));
            let flush = if later.is_empty() { FlushCompress::Sync } else { FlushCompress::Full };
            append(deflater, now, flush, &mut self.scratch)?;
            if later.is_empty() {
                break;
            }
            rest = later;
        }
        // RFC 7692 §7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
        let compressed = self.scratch.strip_suffix(&TAIL)?;
        (compressed.len() < payload.len() || threshold == 0).then_some(compressed)
    }

    /// Overwrites the window of the inflater, which has the end of the last message. The library has no call for that, so as many
    /// zeros as fit into the window are inflated.
    pub(crate) fn wipe(&mut self) {
        if let Some(inflater) = &mut self.inflater {
            inflater.reset(false);
            // RFC 1951 §3.2.4: a stored block has its length, the complement of the length, and uncompressed bytes.
            let block = [&[0x00, 0x00, 0x80, 0xff, 0x7f][..], &[0; WINDOW]].concat();
            // It is always the same valid block.
            let _ = inflater.decompress(&block, &mut vec![0; 2 * WINDOW], FlushDecompress::Sync);
        }
    }

    /// Frees the buffer if a large message has made it large.
    fn shrink(&mut self) {
        if self.scratch.capacity() > LARGEST_SCRATCH {
            self.scratch = Vec::new();
        }
    }
}

/// Appends all of `input`, compressed and flushed.
fn append(deflater: &mut Compress, mut input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Option<()> {
    loop {
        if out.capacity() - out.len() < SMALLEST_GROWTH {
            out.reserve(SMALLEST_GROWTH.max(out.len()));
        }
        let read = deflater.total_in();
        deflater.compress_vec(input, out, flush).ok()?;
        let used = usize::try_from(deflater.total_in() - read).ok()?;
        input = input.get(used..)?;
        // A flush is complete when it leaves room in the output.
        if input.is_empty() && out.len() < out.capacity() {
            return Some(());
        }
    }
}

/// The size of the largest window, in bytes (RFC 7692 §7.1.2.1).
const WINDOW: usize = 32 * 1024;

/// The bytes at the end of a flush, which are not sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Bytes by which an output buffer grows at least.
const SMALLEST_GROWTH: usize = 512;

/// The most memory that the scratch buffer keeps between messages.
const LARGEST_SCRATCH: usize = 256 * 1024;

/// Returns the length of the longest compressed form of a message of `limit` bytes. Data that does not compress is
/// stored, which adds five bytes for each block. A deflater with a small window may no longer have the data that it
/// would store, and then writes codes of up to nine bits for each byte (zlib, `deflateBound`). For a window of 8 bits,
/// a deflater like ours adds a flush for each 256 bytes. A longer form can only have empty blocks, which cost time and
/// add no content.
pub(crate) fn longest_compressed(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(limit / 32).saturating_add(64)
}

/// Whether messages can be compressed.
pub(crate) const IS_ENABLED: bool = true;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn the_examples_of_rfc_7692() {
        let mut codec = DeflateCodec::default();
        // §7.2.3.1, §7.2.3.3 (not compressed), §7.2.3.4 (BFINAL), §7.2.3.5 (two blocks).
        for compressed in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(codec.inflate(compressed, 5).as_deref(), Ok(&b"Hello"[..]), "{compressed:02x?}");
            assert_eq!(codec.inflate(compressed, 4), Err(InflateError::TooBig), "{compressed:02x?}");
        }
        // §7.2.3.6: an empty message is one byte.
        assert_eq!(codec.inflate(&[0x00], 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn what_is_compressed_comes_back_in_every_window() {
        let mut codec = DeflateCodec::default();
        let text = "Postern lets you in only if the gate says so. ".repeat(400);
        let mut mixed = text.clone().into_bytes();
        mixed.extend(noise(70_000));
        mixed.extend(text.bytes());
        for payload in [text.as_bytes(), &[0; 100_000], &mixed, &text.as_bytes()[..257], &[7; 512]] {
            for bits in 8..=15 {
                let compressed = codec.deflate(payload, bits, 64).expect("it gets shorter").to_vec();
                assert_eq!(codec.inflate(&compressed, payload.len()).as_deref(), Ok(payload), "{bits} bits");
                // A peer whose window has the negotiated size can read it.
                let mut small = Decompress::new_with_window_bits(false, bits.max(9));
                let mut out = Vec::with_capacity(payload.len() + 1);
                let all = [&compressed[..], &TAIL].concat();
                small
                    .decompress_vec(&all, &mut out, FlushDecompress::Sync)
                    .expect("a distance within the window");
                assert_eq!(out, payload, "{bits} bits");
            }
        }
    }

    #[test]
    fn what_does_not_get_shorter_is_not_compressed() {
        assert_eq!(DeflateCodec::default().deflate(&noise(1000), 15, 64), None);
        assert_eq!(DeflateCodec::default().deflate(&[0; 63], 15, 64), None);
    }

    #[test]
    fn one_large_message_does_not_keep_its_memory() {
        let mut codec = DeflateCodec::default();
        for (payload, usual) in [(b"small", 128 << 10), (b"other", 256 << 10)] {
            codec.scratch = Vec::with_capacity(usual);
            codec.deflate(payload, 15, 0).expect("compressed");
            assert_eq!(codec.scratch.capacity(), usual, "what is usual is kept");
        }
        codec.deflate(&noise(512 << 10), 15, 0).expect("compressed");
        assert!(codec.scratch.capacity() > 512 << 10);
        codec.deflate(b"small", 15, 0).expect("compressed");
        assert!(codec.scratch.capacity() < 4096, "{}", codec.scratch.capacity());
    }

    #[test]
    fn nothing_refers_further_back_than_the_window() {
        let mut codec = DeflateCodec::default();
        // Repetitions lie just outside one window and well inside the next; for the smallest, from
        // another of its portions.
        for bits in (8..15).rev() {
            let (fresh, again) = if bits == 8 { (256, 156) } else { ((1 << bits) + 50, 0) };
            let fresh = noise(fresh);
            let twice = [&fresh, &fresh[again..]].concat();
            assert!(codec.deflate(&twice, bits + 1, 64).is_some(), "{} bits", bits + 1);
            assert_eq!(codec.deflate(&twice, bits, 64), None, "{bits} bits");
        }
    }

    #[test]
    fn what_is_compressed_is_shorter_never_as_long() {
        let mut codec = DeflateCodec::default();
        for (odd, even) in (0..40).flat_map(|odd| (0..40).map(move |even| (odd, even))) {
            let payload = [noise(odd), vec![7; even]].concat();
            let len = codec.deflate(&payload, 15, 1).map(<[u8]>::len);
            assert!(len.is_none_or(|len| len < payload.len()), "{odd} and {even}: {len:?}");
        }
    }

    #[test]
    fn what_compresses_a_thousandfold_comes_out_whole() {
        let mut codec = DeflateCodec::default();
        for len in (0..70_000).step_by(997) {
            let mut small = Vec::new();
            let mut best = Compress::new(Compression::best(), false);
            append(&mut best, &vec![7; len], FlushCompress::Sync, &mut small).expect("it compresses");
            assert_eq!(codec.inflate(&small, 70_000), Ok(vec![7; len]), "{len}");
        }
    }

    #[test]
    fn a_message_may_consist_of_several_streams() {
        // RFC 7692 §7.2.3.4, a block with BFINAL set, twice, and then one without.
        let (last, open) =
            ([0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        let compressed = [last, last, open].concat();
        assert_eq!(DeflateCodec::default().inflate(&compressed, 15).as_deref(), Ok(&b"HelloHelloHello"[..]));
    }

    #[test]
    fn without_a_threshold_everything_is_compressed() {
        let mut codec = DeflateCodec::default();
        for payload in [&b""[..], b"x", &noise(1000)] {
            let compressed = codec.deflate(payload, 15, 0).expect("compressed").to_vec();
            assert_eq!(codec.inflate(&compressed, 1000).as_deref(), Ok(payload));
        }
    }

    #[test]
    fn what_does_not_compress_in_a_small_window_is_not_too_long() {
        let mut codec = DeflateCodec::default();
        for len in [0, 1, 255, 1_400, 5_000, 65_536] {
            // All bytes alike, or only those whose fixed codes are the long ones.
            for noise in [noise(len), noise(len).into_iter().map(|byte| byte | 0x90).collect()] {
                for bits in 8..=15 {
                    let compressed = codec.deflate(&noise, bits, 0).expect("compressed").len();
                    assert!(compressed <= longest_compressed(len), "{len} bytes, {bits} bits: {compressed}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let mut codec = DeflateCodec::default();
        let mut bomb = Vec::new();
        append(
            &mut Compress::new(Compression::best(), false),
            &vec![0; 64 << 20],
            FlushCompress::Sync,
            &mut bomb,
        )
        .expect("zeros compress");
        assert!((64 << 20) / bomb.len() > 1000, "{}", bomb.len());
        assert_eq!(codec.inflate(&bomb, 65_536), Err(InflateError::TooBig));
        let exact = codec.deflate(&[0; 65_536], 15, 64).expect("it gets shorter").to_vec();
        let message = codec.inflate(&exact, 65_536).expect("exactly the limit");
        assert!(message.len() == 65_536 && message.capacity() <= 65_537, "{}", message.capacity());
        assert_eq!(codec.inflate(&exact, 65_535), Err(InflateError::TooBig));
    }

    #[test]
    fn what_is_no_deflate_is_refused() {
        let mut codec = DeflateCodec::default();
        for invalid in
            [&[0xff, 0xff][..], &[0x06], b"Hello, this isn't DEFLATE", &[0x00, 0x05, 0x00, 0x00, 0x00]]
        {
            assert_eq!(codec.inflate(invalid, 1000), Err(InflateError::Invalid), "{invalid:02x?}");
        }
        // A distance that reaches before the message: no context is taken over.
        assert_eq!(codec.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 1000), Err(InflateError::Invalid));
        assert!(
            codec.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 1000).is_ok(),
            "and the next is fine"
        );
    }

    #[test]
    fn every_prefix_and_every_flipped_bit_gives_an_answer() {
        let mut codec = DeflateCodec::default();
        let whole =
            codec.deflate("Postern ".repeat(20).as_bytes(), 15, 64).expect("it gets shorter").to_vec();
        for len in 0..whole.len() {
            let _ = codec.inflate(&whole[..len], 1000);
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[len] ^= 1 << bit;
                if let Ok(message) = codec.inflate(&flipped, 1000) {
                    assert!(message.len() <= 1000);
                }
            }
        }
    }
}
