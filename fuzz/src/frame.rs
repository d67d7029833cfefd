//! A second writer and reader of frames: of a server's, in the plainest way that RFC 6455 §5.2 allows.

/// A text message in one frame.
pub(crate) const TEXT: u8 = 1;
/// A binary message in one frame.
pub(crate) const BINARY: u8 = 2;
/// RFC 6455 §5.5.1.
pub(crate) const CLOSE: u8 = 8;
/// §5.5.3.
pub(crate) const PONG: u8 = 10;

/// Appends a frame, whole and not masked, whose payload comes in pieces.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend(len.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    payload.iter().for_each(|piece| out.extend_from_slice(piece));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455() {
        // §5.7.
        let mut out = Vec::new();
        write(&mut out, TEXT, &[b"Hel", b"lo"]);
        assert_eq!(out, b"\x81\x05Hello");
        for (len, head) in [(256, &[0x82, 126, 1, 0][..]), (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0])] {
            out.clear();
            write(&mut out, BINARY, &[&vec![7; len]]);
            assert!(out.starts_with(head) && out.len() == head.len() + len);
        }
    }
}
