//! Text that a user controls, made harmless: what it writes cannot end a line, move a cursor, hide, or turn
//! the direction in which the rest is read.
//!
//! The escape is reversible: the backslash is escaped as well, so every backslash in a log begins an escape.
//!
//! | what | written |
//! |---|---|
//! | `\` | `\\` |
//! | line feed, carriage return, tab | `\n`, `\r`, `\t` |
//! | other C0 controls, DEL | `\x1b` |
//! | bytes that are not UTF-8, all of them 0x80 or more | `\xff` |
//! | characters of [`is_harmful`] | `\u{202e}` |
//! | everything else | as it is |

use std::fmt::{self, Write};

/// Where text goes. What is ASCII need not be made a `str` first, which would be looked at once more for that.
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

/// The same between quotation marks, with `\"` for those inside: the look of a JSON string.
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

/// Writes `bytes` in as few pieces as there are escapes between them.
#[inline]
pub(crate) fn escape(bytes: &[u8], out: &mut impl Text) -> fmt::Result {
    // Most of what is logged.
    if prefix_without(bytes, |byte| is_suspect(byte) | (byte >= 0x80)) == bytes.len() {
        return out.write_ascii(bytes);
    }
    // Checking all at once is several times faster than looking for where UTF-8 ends.
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
    escape_if(|c| c == '\\' || is_harmful(c), text, out)
}

/// Writes `text` with its harmful characters escaped. It keeps its backslashes, so this is for text that no client
/// controls or that has been escaped.
pub(crate) fn escape_harmful(text: &str, out: &mut impl Write) -> fmt::Result {
    escape_if(is_harmful, text, out)
}

/// Escapes the characters that are `special`, each of which begins with a suspect byte.
#[inline]
fn escape_if(is_special: impl Fn(char) -> bool, text: &str, out: &mut impl Write) -> fmt::Result {
    let (mut written, mut seen) = (0, 0);
    loop {
        // A suspect byte is the first of its character, so text is only ever cut between characters.
        seen += prefix_without(text.as_bytes().get(seen..).unwrap_or_default(), is_suspect);
        let Some(c) = text.get(seen..).and_then(|rest| rest.chars().next()) else { break };
        if is_special(c) {
            out.write_str(text.get(written..seen).unwrap_or_default())?;
            escape_char(c, out)?;
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

/// Whether a character may do more in a log than show itself.
pub(crate) fn is_harmful(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\0'..='\u{9f}' => true,           // C0, DEL, C1: terminals obey them.
        '\u{61c}' => true,                 // Arabic letter mark.
        '\u{200b}'..='\u{200f}' => true,   // Zero-width space and joiners; marks of direction.
        '\u{2028}'..='\u{202e}' => true,   // Line and paragraph separator; embeddings, overrides.
        '\u{2060}'..='\u{206f}' => true,   // Word joiner, invisible operators, isolates, deprecated controls.
        '\u{feff}' => true,                // Zero-width no-break space.
        '\u{fff9}'..='\u{fffb}' => true,   // Interlinear annotation hides what it annotates.
        '\u{e0000}'..='\u{e007f}' => true, // Tags: a whole invisible alphabet.
        '\u{fdd0}'..='\u{fdef}' => true,   // Noncharacters, here and at the end of each plane.
        _ => u32::from(c) & 0xfffe == 0xfffe,
    }
}

/// Whether a backslash or a character of [`is_harmful`] may begin with this byte. Few others do, and no byte
/// inside a character is suspect.
#[inline]
pub(crate) fn is_suspect(byte: u8) -> bool {
    // All of it at once, for sixteen bytes at a time.
    (byte < b' ')
        | (byte == b'\\')
        | (byte == 0x7f)
        | (byte == 0xc2)
        | (byte == 0xd8)
        | (byte == 0xe2)
        | (byte >= 0xef)
}

/// How many bytes at the front are not `special`. Looks at sixteen at a time: without a short circuit among
/// them the compiler makes it a few vector instructions.
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
        // Behind and between text that needs none, at every alignment to the blocks.
        for length in [1, 7, 15, 16, 17, 33] {
            let text = "x".repeat(length);
            let inside = [text.as_bytes(), bytes.as_ref(), "é".as_bytes()].concat();
            assert_eq!(Escaped(&inside).to_string(), format!("{text}{escaped}é"));
        }
    }

    /// Takes an escape apart again.
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
    fn text_in_any_script_stays_as_it_is() {
        for text in ["", "Hello World", "Renée Дима 张三 🚀", "e\u{301}", r#""quotes" {"a":1}"#, "a\u{ad}b"]
        {
            check(text, text);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("\x1b[2J\x1b]0;x\x07", "\\x1b[2J\\x1b]0;x\\x07");
        check("\0\x7f", "\\x00\\x7f");
        check("\u{80}\u{9b}\u{9f}", "\\u{80}\\u{9b}\\u{9f}");
        check("\\n \\x1b", "\\\\n \\\\x1b");
    }

    #[test]
    fn what_hides_or_turns_text_is_written_out() {
        check("\u{202e}gnp.exe", "\\u{202e}gnp.exe");
        check("\u{2028}\u{2029}", "\\u{2028}\\u{2029}");
        check("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}");
        check("\u{e0041}", "\\u{e0041}");
        check("\u{fffe}\u{10ffff}\u{fdd0}", "\\u{fffe}\\u{10ffff}\\u{fdd0}");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_written_out() {
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
    fn a_quoted_string_ends_where_its_mark_is_not_escaped() {
        assert_eq!(Quoted("Admin (1): x").to_string(), r#""Admin (1): x""#);
        assert_eq!(Quoted(r#"a"b\"#).to_string(), r#""a\"b\\""#);
        assert_eq!(Quoted("\n\"").to_string(), r#""\n\"""#);
        assert_eq!(Quoted("").to_string(), r#""""#);
    }

    proptest::proptest! {
        #[test]
        fn an_escape_can_be_taken_back(bytes: Vec<u8>, text: String) {
            for original in [bytes.as_slice(), text.as_bytes()] {
                let escaped = Escaped(original).to_string();
                assert!(!escaped.contains(is_harmful), "{escaped}");
                assert_eq!(unescape(&escaped), original);
            }
        }
    }
}
