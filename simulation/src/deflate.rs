//! The client's side of permessage-deflate without context takeover (RFC 7692).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// Compresses and inflates the messages of one client.
#[derive(Debug)]
pub(crate) struct Deflate {
    compress: Compress,
    decompress: Decompress,
}

impl Deflate {
    /// `window_bits` is the largest window that the server may use.
    pub(crate) fn new(window_bits: u8) -> Deflate {
        Deflate {
            compress: Compress::new(Compression::fast(), false),
            decompress: Decompress::new_with_window_bits(false, window_bits),
        }
    }

    /// Returns the compressed message, without the last four bytes of the flush (RFC 7692 §7.2.1).
    pub(crate) fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        self.compress.reset();
        let mut out = Vec::new();
        loop {
            out.reserve(message.len() + 64);
            let done = self.compress.total_in() as usize;
            // It fails only if it is called in a wrong order.
            let _ = self.compress.compress_vec(&message[done..], &mut out, FlushCompress::Sync);
            if out.len() < out.capacity() {
                break;
            }
        }
        out.truncate(out.len().saturating_sub(TAIL.len()));
        out
    }

    /// Returns the message.
    pub(crate) fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.decompress.reset(false);
        let input = [compressed, &TAIL].concat();
        let mut out = Vec::new();
        loop {
            out.reserve(compressed.len().max(256));
            let done = self.decompress.total_in() as usize;
            let result = self.decompress.decompress_vec(&input[done..], &mut out, FlushDecompress::Sync);
            result.map_err(|_| "a compressed message cannot be inflated")?;
            if out.len() < out.capacity() {
                let is_whole = self.decompress.total_in() as usize == input.len();
                return if is_whole {
                    Ok(out)
                } else {
                    Err("a compressed message has more bytes than its end")
                };
            }
        }
    }
}

/// The end of a flushed block, which is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests {
    use super::Deflate;

    #[test]
    fn compressed_messages_can_be_inflated() {
        let mut deflate = Deflate::new(15);
        for len in [0, 1, 100, 100_000] {
            let message: Vec<u8> = (0..len).map(|at: u64| ((at * at) >> 8) as u8).collect();
            let compressed = deflate.compress(&message);
            assert_eq!(deflate.inflate(&compressed), Ok(message), "{len}");
        }
        assert!(deflate.inflate(b"\xff\xff").is_err());
    }
}
