//! A second writer and reader of frames, in the plainest way that RFC 6455 §5.2 allows.

/// Of the first byte: the last frame of its message.
pub(crate) const FIN: u8 = 0x80;
/// Of the first byte: the message is compressed (RFC 7692 §6).
pub(crate) const COMPRESSED: u8 = 0x40;

/// A text message.
pub(crate) const TEXT: u8 = 1;
/// A binary message.
pub(crate) const BINARY: u8 = 2;
/// RFC 6455 §5.5.1.
pub(crate) const CLOSE: u8 = 8;
/// §5.5.2.
pub(crate) const PING: u8 = 9;
/// §5.5.3.
pub(crate) const PONG: u8 = 10;

/// Appends a client's frame, whole.
pub(crate) fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    write_header(out, opcode, 0x80, payload.len());
    out.extend_from_slice(&KEY);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn write_header(out: &mut Vec<u8>, opcode: u8, masked: u8, len: usize) {
    out.push(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => out.push(masked | len),
        (_, Ok(len)) => {
            out.push(masked | 126);
            out.extend(len.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// Splits off the first frame of a server: its first byte, its payload, and the bytes after it. `None` if it is
/// not complete.
///
/// # Panics
/// If it is masked, or has a longer length than it needs.
pub(crate) fn read(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert!(second < 0x80, "a server does not mask");
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u16::from_be_bytes(*len);
            assert!(len > 125, "a length in more bytes than it needs");
            (u64::from(len), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u64::from_be_bytes(*len);
            assert!(len > 0xffff, "a length in more bytes than it needs");
            (len, rest)
        }
        len => (u64::from(len), rest),
    };
    let (payload, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((first, payload, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends a server's frame.
    fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
        write_header(out, opcode, 0, payload.len());
        out.extend_from_slice(payload);
    }

    #[test]
    fn the_examples_of_rfc_6455() {
        // §5.7.
        let mut out = Vec::new();
        write(&mut out, TEXT, b"Hello");
        assert_eq!(out, b"\x81\x05Hello");
        assert_eq!(read(&out), Some((FIN | TEXT, &b"Hello"[..], &b""[..])));
        out.clear();
        write_masked(&mut out, TEXT, b"Hello");
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        for (len, head) in [(256, &[0x82, 126, 1, 0][..]), (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0])] {
            out.clear();
            write(&mut out, BINARY, &vec![7; len]);
            assert!(out.starts_with(head) && out.len() == head.len() + len);
            assert_eq!(read(&out).map(|(_, payload, _)| payload.len()), Some(len));
            assert_eq!(read(&out[..len]), None);
        }
    }
}
