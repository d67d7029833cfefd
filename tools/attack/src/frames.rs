//! Frames that the core's client cannot send: incomplete ones, fragments without an end, compression bombs.

use flate2::{Compress, Compression, FlushCompress};

use super::Failure;

/// The bit of a frame that ends its message (RFC 6455 §5.2).
pub(crate) const FIN: u8 = 0x80;
/// The bit of the first frame of a compressed message (RFC 7692 §6).
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const PING: u8 = 0x9;

/// Returns a masked frame that announces `len` bytes of payload and contains `payload`.
pub(crate) fn frame(first: u8, len: usize, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Returns a complete masked frame.
pub(crate) fn whole(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload.len(), payload)
}

/// Returns a message of zeros, compressed to a thousandth of its size, which is the best ratio of DEFLATE.
pub(crate) fn bomb(zeros: usize) -> Result<Vec<u8>, Failure> {
    let mut compressed = Vec::with_capacity(zeros / 512 + 1024);
    let mut deflater = Compress::new(Compression::best(), false);
    deflater.compress_vec(&vec![0; zeros], &mut compressed, FlushCompress::Sync)?;
    if deflater.total_in() != zeros as u64 {
        return Err("the compressor did not take all zeros".into());
    }
    // RFC 7692 §7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
    let payload = compressed.strip_suffix(&[0, 0, 0xff, 0xff]).unwrap_or(&compressed);
    Ok(whole(FIN | RSV1 | BINARY, payload))
}

/// The masking key. It is the same in all frames, which does not matter to a server.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
