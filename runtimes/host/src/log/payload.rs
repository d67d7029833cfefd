//! Payloads in the log.

use std::fmt;

use postern_core::frame::DataKind;

use super::MessageLog;
use super::json::hex;
use crate::escape::{Text, escape};

/// A payload, shown as far as the setting allows.
///
/// | | text | binary |
/// |---|---|---|
/// | full | `Hello World` | `binary, 123 bytes: 00ff13…` |
/// | truncated | `Hello… (+12345 bytes)` | the same |
/// | size | `11 bytes` | `123 bytes` |
///
/// Binary payloads are never written raw. Their first 16 bytes in hexadecimal distinguish most formats.
pub(super) struct Payload<'a> {
    pub(super) kind: DataKind,
    pub(super) bytes: &'a [u8],
    pub(super) shown: MessageLog,
}

impl Payload<'_> {
    /// Returns the text for the field `text` of a JSON record, as far as the setting allows; `None` for a binary
    /// message, and if only sizes are logged.
    #[inline]
    pub(super) fn text(&self) -> Option<&[u8]> {
        match (self.shown, self.kind) {
            (MessageLog::Off | MessageLog::Size, _) | (_, DataKind::Binary) => None,
            (MessageLog::Full, DataKind::Text) => Some(self.bytes),
            (MessageLog::Truncated, DataKind::Text) => Some(cut(self.bytes).0),
        }
    }

    #[inline]
    pub(super) fn write_to(&self, out: &mut impl Text) -> fmt::Result {
        match (self.shown, self.kind) {
            (MessageLog::Off | MessageLog::Size, _) => write!(out, "{} bytes", self.bytes.len()),
            (MessageLog::Full, DataKind::Text) => escape(self.bytes, out),
            (MessageLog::Truncated, DataKind::Text) => write_cut(self.bytes, out),
            (MessageLog::Full | MessageLog::Truncated, DataKind::Binary) => write_binary(self.bytes, out),
        }
    }
}

#[inline]
fn write_cut(bytes: &[u8], out: &mut impl Text) -> fmt::Result {
    let (shown, rest) = cut(bytes);
    escape(shown, out)?;
    if rest.is_empty() {
        return Ok(());
    }
    write!(out, "… (+{} bytes)", rest.len())
}

/// Splits a text into the part that is shown and the rest.
#[inline]
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(if bytes.len() <= MAX_TEXT { bytes.len() } else { boundary(bytes, MAX_TEXT) })
}

fn write_binary(bytes: &[u8], out: &mut impl Text) -> fmt::Result {
    out.write_str("binary, ")?;
    out.write_str(itoa::Buffer::new().format(bytes.len()))?;
    out.write_str(if bytes.is_empty() { " bytes" } else { " bytes: " })?;
    let mut digits = [0; 2 * BINARY_PREFIX];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [hex(byte >> 4), hex(byte & 0xf)];
    }
    let shown = digits.get(..2 * bytes.len().min(BINARY_PREFIX)).unwrap_or_default();
    out.write_ascii(shown)?;
    out.write_str(if bytes.len() > BINARY_PREFIX { "…" } else { "" })
}

/// Returns the last position up to `limit` that does not split a character. A character has at most three bytes
/// after its first.
fn boundary(bytes: &[u8], limit: usize) -> usize {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(|&at| !is_inside(at)).unwrap_or(limit)
}

/// The length of the part of a text that is shown, in bytes.
const MAX_TEXT: usize = 256;

/// The length of the part of a binary payload that is shown, in bytes.
const BINARY_PREFIX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: MessageLog, kind: DataKind, bytes: impl AsRef<[u8]>, expected: &str) {
        let mut out = String::new();
        Payload { kind, bytes: bytes.as_ref(), shown }.write_to(&mut out).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_text_of_256_bytes_is_shown_whole_and_a_longer_one_cut() {
        let text = "x".repeat(256);
        check(MessageLog::Truncated, DataKind::Text, &text, &text);
        check(MessageLog::Truncated, DataKind::Text, format!("{text}y"), &format!("{text}… (+1 bytes)"));
        let long = "x".repeat(64 * 1024);
        check(MessageLog::Truncated, DataKind::Text, &long, &format!("{text}… (+65280 bytes)"));
        check(MessageLog::Full, DataKind::Text, &long, &long);
    }

    #[test]
    fn no_character_is_split() {
        for (c, fitting) in [('é', 255), ('张', 255), ('🚀', 255), ('🚀', 254), ('🚀', 253)] {
            let before = "x".repeat(fitting);
            let cut = format!("{before}… (+{} bytes)", c.len_utf8() + 9);
            check(MessageLog::Truncated, DataKind::Text, format!("{before}{c}yyyyyyyyy"), &cut);
        }
        let before = format!("{}🚀", "x".repeat(252));
        check(MessageLog::Truncated, DataKind::Text, format!("{before}y"), &format!("{before}… (+1 bytes)"));
    }

    #[test]
    fn text_that_is_not_utf_8_is_cut_at_the_limit() {
        let cut = format!("{}… (+44 bytes)", "\\x80".repeat(256));
        check(MessageLog::Truncated, DataKind::Text, [0x80; 300], &cut);
    }

    #[test]
    fn binary_is_never_raw() {
        check(MessageLog::Truncated, DataKind::Binary, b"", "binary, 0 bytes");
        check(MessageLog::Full, DataKind::Binary, b"\x00\xff\n", "binary, 3 bytes: 00ff0a");
        let head = "41".repeat(16);
        check(MessageLog::Full, DataKind::Binary, [b'A'; 16], &format!("binary, 16 bytes: {head}"));
        check(MessageLog::Full, DataKind::Binary, [b'A'; 17], &format!("binary, 17 bytes: {head}…"));
    }

    #[test]
    fn with_size_only_the_number_of_bytes_is_shown() {
        check(MessageLog::Size, DataKind::Text, "Hello World", "11 bytes");
        check(MessageLog::Size, DataKind::Binary, b"\x00", "1 bytes");
    }
}
