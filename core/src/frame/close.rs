//! The payload of a Close frame (RFC 6455 §5.5.1 and §7.4).

use super::OpCode;
use super::error::ProtocolError;
use super::header::{MAX_CLOSE_REASON, MAX_CONTROL, write_frame};
use crate::close_code::CloseCode;

/// Returns the code and the reason of a peer's Close, without both if the payload is empty.
pub(crate) fn parse_close(payload: &[u8]) -> Result<(Option<CloseCode>, &str), ProtocolError> {
    if payload.is_empty() {
        return Ok((None, ""));
    }
    // "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(ProtocolError::ClosePayload)?;
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !may_be_sent(code) {
        return Err(ProtocolError::CloseCode);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| ProtocolError::Utf8)?;
    Ok((Some(code), reason))
}

/// Appends a Close frame. `reason` is truncated to the 123 bytes that fit after the code.
pub(crate) fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str, key: Option<[u8; 4]>) {
    let mut payload = Vec::with_capacity(MAX_CONTROL);
    if let Some(code) = code {
        payload.extend_from_slice(&u16::from(code).to_be_bytes());
        let cut = reason.floor_char_boundary(MAX_CLOSE_REASON);
        payload.extend_from_slice(reason.get(..cut).unwrap_or_default().as_bytes());
    }
    write_frame(out, OpCode::Close, &payload, key);
}

/// Whether a frame may contain a code (RFC 6455 §7.4.2; 1012 to 1014 by the IANA registry).
fn may_be_sent(code: CloseCode) -> bool {
    matches!(u16::from(code), 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let payload = code.to_be_bytes();
            let parsed = parse_close(&payload);
            match code {
                1000..=1003 | 1007..=1014 | 3000..=4999 => {
                    assert_eq!(parsed.map(|(code, _)| code.map(u16::from)), Ok(Some(code)));
                }
                _ => assert_eq!(parsed, Err(ProtocolError::CloseCode), "{code}"),
            }
        }
    }

    #[test]
    fn a_payload_is_empty_or_has_a_code_and_a_reason_in_utf8() {
        assert_eq!(parse_close(b""), Ok((None, "")));
        assert_eq!(parse_close(b"\x03"), Err(ProtocolError::ClosePayload));
        assert_eq!(parse_close(b"\x03\xe8bye"), Ok((Some(CloseCode::NORMAL), "bye")));
        assert_eq!(parse_close(b"\x03\xe8\xff"), Err(ProtocolError::Utf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, Some(CloseCode::NORMAL), &("x".repeat(122) + "é"), None);
        assert_eq!(out.get(..4), Some(&[0x88, 124, 0x03, 0xe8][..]));
        out.clear();
        write_close(&mut out, Some(CloseCode::NORMAL), &"x".repeat(200), None);
        assert_eq!(out.len(), 2 + 125);
        out.clear();
        write_close(&mut out, None, "no code, so no reason", None);
        assert_eq!(out, [0x88, 0]);
    }
}
