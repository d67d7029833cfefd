//! Strings of JSON records (RFC 8259 §7).
//!
//! A parser gets back exactly the text that was written. The line itself contains no character that ends a line,
//! moves a cursor, is invisible, or changes the direction of text: those are escaped, such as `\u202e`.

use std::fmt::{self, Write};

use crate::escape::{Text, escape_chars, is_harmful, is_suspect, prefix_without};

/// Writes text that is already escaped.
pub(super) struct EscapedText<'a>(pub(super) &'a mut Vec<u8>);

impl Write for EscapedText<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Text for EscapedText<'_> {
    #[inline]
    fn write_ascii(&mut self, bytes: &[u8]) -> fmt::Result {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Writes any text as the contents of a JSON string.
pub(super) struct JsonText<'a>(pub(super) &'a mut Vec<u8>);

impl JsonText<'_> {
    /// Writes bytes that should be UTF-8. Invalid bytes become U+FFFD, because JSON cannot contain them.
    #[inline]
    pub(super) fn write_lossy(&mut self, bytes: &[u8]) {
        // Most text is ASCII without special characters.
        if prefix_without(bytes, |byte| is_special(byte) | (byte >= 0x7f)) == bytes.len() {
            return self.0.extend_from_slice(bytes);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.write_text(text),
            Err(_) => self.write_text(&String::from_utf8_lossy(bytes)),
        }
    }

    fn write_text(&mut self, text: &str) {
        let is_candidate = |byte| is_special(byte) | is_suspect(byte);
        let is_escaped = |c| c == '"' || c == '\\' || is_harmful(c);
        // Writing to a vector does not fail.
        let _ = escape_chars(text, &mut EscapedText(self.0), is_candidate, is_escaped, write_escape);
    }
}

impl Write for JsonText<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_lossy(text.as_bytes());
        Ok(())
    }
}

impl Text for JsonText<'_> {
    #[inline]
    fn write_ascii(&mut self, bytes: &[u8]) -> fmt::Result {
        self.write_lossy(bytes);
        Ok(())
    }
}

/// Writes the escape of one character.
fn write_escape(c: char, out: &mut EscapedText<'_>) -> fmt::Result {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.0.extend_from_slice(b"\\u");
                out.0.extend(
                    unit.to_be_bytes().into_iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 0xf)]),
                );
            }
            return Ok(());
        }
    };
    out.write_str(short)
}

/// Returns a hexadecimal digit.
pub(super) fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

/// Whether an ASCII character has to be escaped in a JSON string.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        JsonText(&mut out).write_lossy(bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_in_any_script_is_unchanged() {
        for text in ["", "Hello World", "Renée Дима 张三 🚀", "e\u{301}", "{a: 1}", "a\u{ad}b"] {
            assert_eq!(written(text.as_bytes()), text);
        }
    }

    #[test]
    fn special_characters_have_the_escapes_of_json() {
        assert_eq!(written(b"\"a\\b\"\n\r\t\x08\x0c\x1b\x7f"), r#"\"a\\b\"\n\r\t\b\f\u001b\u007f"#);
        assert_eq!(written("a\u{202e}b\u{e0041}".as_bytes()), "a\\u202eb\\udb40\\udc41");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(written(b"a\xff\"b"), "a\u{fffd}\\\"b");
    }

    proptest::proptest! {
        #[test]
        fn a_parser_gets_the_text_back_and_the_line_is_harmless(bytes: Vec<u8>, text: String, pad in 0..40usize) {
            let padded = [" ".repeat(pad), text].concat();
            for original in [bytes.as_slice(), padded.as_bytes()] {
                let written = written(original);
                assert!(!written.contains(is_harmful), "{written}");
                let parsed: String = serde_json::from_str(&format!("\"{written}\"")).unwrap();
                assert_eq!(parsed, String::from_utf8_lossy(original));
            }
        }
    }
}
