//! Escapes for text that a user controls, so that it cannot end a line, move a cursor, be invisible, or change the
//! direction of the text after it.
//!
//! An escape is reversible: the backslash is escaped, too, so every backslash in a log begins an escape.
//!
//! | character or byte | written |
//! |---|---|
//! | `\` | `\\` |
//! | line feed, carriage return, tab | `\n`, `\r`, `\t` |
//! | other C0 controls, DEL | `\x1b` |
//! | bytes that are not UTF-8, all of them 0x80 or more | `\xff` |
//! | characters of [`is_harmful`] | `\u{202e}` |
//! | all others | unchanged |

use std::fmt::{self, Write};

/// An output for text. ASCII bytes need not be converted to a `str` first, which would check them again.
pub(crate) trait Text: Write {
    /// Writes bytes that are ASCII.
    #[inline]
    fn write_ascii(&mut self, bytes: &[u8]) -> fmt::Result {
        self.write_str(std::str::from_utf8(bytes).unwrap_or_default())
    }
}

impl Text for fmt::Formatter<'_> {}

#[cfg(test)]
impl Text for String {}

/// Bytes from outside, escaped when displayed.
#[derive(Clone, Copy)]
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, f)
    }
}

/// Text from outside between quotation marks, with `\"` for quotation marks inside.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (index, part) in self.0.split('"').enumerate() {
            if index > 0 {
                f.write_str("\\\"")?;
            }
            escape(part.as_bytes(), f)?;
        }
        f.write_char('"')
    }
}

/// Writes `bytes` with their escapes.
#[inline]
pub(crate) fn escape(bytes: &[u8], out: &mut impl Text) -> fmt::Result {
    // Most text is ASCII without special characters.
    if prefix_without(bytes, |byte| is_suspect(byte) | (byte >= 0x80)) == bytes.len() {
        return out.write_ascii(bytes);
    }
    // Checking all bytes at once is several times faster than searching for invalid ones.
    match std::str::from_utf8(bytes) {
        Ok(text) => escape_text(text, out),
        Err(_) => escape_chunks(bytes, out),
    }
}

#[cold]
fn escape_chunks(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid(), out)?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

fn escape_text(text: &str, out: &mut impl Write) -> fmt::Result {
    escape_chars(text, out, is_suspect, |c| c == '\\' || is_harmful(c), escape_char)
}

/// Writes `text` with its harmful characters escaped. Backslashes are unchanged, so this is for text that no client
/// controls or that is already escaped.
pub(crate) fn escape_harmful(text: &str, out: &mut impl Write) -> fmt::Result {
    escape_chars(text, out, is_suspect, is_harmful, escape_char)
}

/// Writes `text`, with `write_escape` in place of each character that `is_escaped`. Each of these begins with a
/// byte that `is_candidate`, and no byte within a character does.
#[inline]
pub(crate) fn escape_chars<W: Write>(
    text: &str,
    out: &mut W,
    is_candidate: impl Fn(u8) -> bool + Copy,
    is_escaped: impl Fn(char) -> bool,
    write_escape: impl Fn(char, &mut W) -> fmt::Result,
) -> fmt::Result {
    let (mut written, mut seen) = (0, 0);
    loop {
        // A candidate is the first byte of its character, so text is only cut between characters.
        seen += prefix_without(text.as_bytes().get(seen..).unwrap_or_default(), is_candidate);
        let Some(c) = text.get(seen..).and_then(|rest| rest.chars().next()) else { break };
        if is_escaped(c) {
            out.write_str(text.get(written..seen).unwrap_or_default())?;
            write_escape(c, out)?;
            written = seen + c.len_utf8();
        }
        seen += c.len_utf8();
    }
    out.write_str(text.get(written..).unwrap_or_default())
}

fn escape_char(c: char, out: &mut impl Write) -> fmt::Result {
    match c {
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// Whether a character may do more in a log than be displayed.
pub(crate) fn is_harmful(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\0'..='\u{9f}' => true, // C0, DEL, C1: control characters of terminals.
        '\u{61c}' => true,       // Arabic letter mark.
        '\u{200b}'..='\u{200f}' => true, // Zero-width space and joiners; marks of direction.
        '\u{2028}'..='\u{202e}' => true, // Line and paragraph separator; embeddings, overrides.
        '\u{2060}'..='\u{206f}' => true, // Word joiner, invisible operators, isolates, deprecated controls.
        '\u{feff}' => true,      // Zero-width no-break space.
        '\u{fff9}'..='\u{fffb}' => true, // Interlinear annotation, which may be invisible.
        '\u{e0000}'..='\u{e007f}' => true, // Tags: an invisible alphabet.
        '\u{fdd0}'..='\u{fdef}' => true, // Noncharacters, here and at the end of each plane.
        _ => u32::from(c) & 0xfffe == 0xfffe,
    }
}

/// Whether a backslash or a character of [`is_harmful`] may begin with this byte. Few other characters do, and no
/// byte within a character is suspect.
#[inline]
pub(crate) fn is_suspect(byte: u8) -> bool {
    // Without a short circuit, so that `prefix_without` can test sixteen bytes at a time.
    (byte < b' ')
        | (byte == b'\\')
        | (byte == 0x7f)
        | (byte == 0xc2)
        | (byte == 0xd8)
        | (byte == 0xe2)
        | (byte >= 0xef)
}

/// Returns the number of bytes before the first `special` one. Tests sixteen at a time without a short circuit,
/// which the compiler vectorises.
#[inline]
pub(crate) fn prefix_without(bytes: &[u8], special: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = bytes.as_chunks::<16>();
    let is_clean = |block: &&[u8; 16]| !block.iter().fold(false, |any, &byte| any | special(byte));
    let clean = blocks.iter().take_while(is_clean).count() * 16;
    let rest = bytes.get(clean..).unwrap_or_default();
    clean + rest.iter().take_while(|&&byte| !special(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: impl AsRef<[u8]>, escaped: &str) {
        assert_eq!(Escaped(bytes.as_ref()).to_string(), escaped);
        // After and between text without escapes, at several alignments to the blocks.
        for length in [1, 7, 15, 16, 17, 33] {
            let text = "x".repeat(length);
            let inside = [text.as_bytes(), bytes.as_ref(), "é".as_bytes()].concat();
            assert_eq!(Escaped(&inside).to_string(), format!("{text}{escaped}é"));
        }
    }

    /// Decodes escapes.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend(before.as_bytes());
            let (kind, after) = escape.split_at(1);
            rest = match kind {
                "\\" => (bytes.push(b'\\'), after).1,
                "n" => (bytes.push(b'\n'), after).1,
                "r" => (bytes.push(b'\r'), after).1,
                "t" => (bytes.push(b'\t'), after).1,
                "x" => (bytes.push(u8::from_str_radix(&after[..2], 16).unwrap()), &after[2..]).1,
                "u" => {
                    let (digits, after) = after.strip_prefix('{').unwrap().split_once('}').unwrap();
                    let c = char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap();
                    bytes.extend(c.to_string().as_bytes());
                    after
                }
                kind => panic!("no escape begins with {kind}"),
            };
        }
        bytes.extend(rest.as_bytes());
        bytes
    }

    #[test]
    fn text_in_any_script_is_unchanged() {
        for text in ["", "Hello World", "Renée Дима 张三 🚀", "e\u{301}", r#""quotes" {"a":1}"#, "a\u{ad}b"]
        {
            check(text, text);
        }
    }

    #[test]
    fn control_characters_of_terminals_are_escaped() {
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("\x1b[2J\x1b]0;x\x07", "\\x1b[2J\\x1b]0;x\\x07");
        check("\0\x7f", "\\x00\\x7f");
        check("\u{80}\u{9b}\u{9f}", "\\u{80}\\u{9b}\\u{9f}");
        check("\\n \\x1b", "\\\\n \\\\x1b");
    }

    #[test]
    fn invisible_characters_and_changes_of_direction_are_escaped() {
        check("\u{202e}gnp.exe", "\\u{202e}gnp.exe");
        check("\u{2028}\u{2029}", "\\u{2028}\\u{2029}");
        check("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}");
        check("\u{e0041}", "\\u{e0041}");
        check("\u{fffe}\u{10ffff}\u{fdd0}", "\\u{fffe}\\u{10ffff}\\u{fdd0}");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_escaped() {
        check(b"\xff\xfe", "\\xff\\xfe");
        check(b"a\xc3(", "a\\xc3(");
        check(b"\xed\xa0\x80", "\\xed\\xa0\\x80");
        check(b"\xf0\x9f\x9a", "\\xf0\\x9f\\x9a");
    }

    #[test]
    fn exactly_the_listed_characters_are_harmful() {
        let mut ranges: Vec<(u32, u32)> = vec![
            (0x00, 0x1f),
            (0x7f, 0x9f),
            (0x61c, 0x61c),
            (0x200b, 0x200f),
            (0x2028, 0x202e),
            (0x2060, 0x206f),
            (0xfdd0, 0xfdef),
            (0xfeff, 0xfeff),
            (0xfff9, 0xfffb),
            (0xe0000, 0xe007f),
        ];
        ranges.extend((0..=16).map(|plane| (plane << 16 | 0xfffe, plane << 16 | 0xffff)));
        for c in '\0'..=char::MAX {
            let is_listed = ranges.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)));
            assert_eq!(is_harmful(c), is_listed, "{c:?}");
            let (first, rest) = c
                .encode_utf8(&mut [0; 4])
                .as_bytes()
                .split_first()
                .map_or((0, vec![]), |(f, r)| (*f, r.to_vec()));
            assert!(is_suspect(first) || !(is_listed || c == '\\'), "{c:?}");
            assert!(!rest.into_iter().any(is_suspect), "{c:?}");
            if is_listed || c == '\\' {
                let escaped = Escaped(c.to_string().as_bytes()).to_string();
                assert!(escaped.starts_with('\\') && escaped.is_ascii(), "{c:?}: {escaped}");
                assert_eq!(unescape(&escaped), c.to_string().as_bytes(), "{c:?}: {escaped}");
            }
        }
    }

    #[test]
    fn quotation_marks_within_a_quoted_string_are_escaped() {
        assert_eq!(Quoted("Admin (1): x").to_string(), r#""Admin (1): x""#);
        assert_eq!(Quoted(r#"a"b\"#).to_string(), r#""a\"b\\""#);
        assert_eq!(Quoted("\n\"").to_string(), r#""\n\"""#);
        assert_eq!(Quoted("").to_string(), r#""""#);
    }

    proptest::proptest! {
        #[test]
        fn an_escape_can_be_decoded(bytes: Vec<u8>, text: String) {
            for original in [bytes.as_slice(), text.as_bytes()] {
                let escaped = Escaped(original).to_string();
                assert!(!escaped.contains(is_harmful), "{escaped}");
                assert_eq!(unescape(&escaped), original);
            }
        }
    }
}
