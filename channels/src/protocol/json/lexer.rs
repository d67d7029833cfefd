//! Reads the elements of JSON texts (RFC 8259).

use std::borrow::Cow;

use super::super::Malformed;

/// A position in a text.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// At most the length of `text`.
    at: usize,
    /// Whether a line feed is white space. In commands it is not: it ends the command.
    is_multiline: bool,
    /// Whether white space was skipped since [`Lexer::take_skipped`].
    has_skipped: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of one command, or of several that are separated by line feeds.
    pub(super) fn of_commands(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0, is_multiline: false, has_skipped: false }
    }

    /// Starts at the beginning of a text in which line feeds are white space.
    pub(super) fn of_text(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0, is_multiline: true, has_skipped: false }
    }

    /// Returns the next byte, if the text has not ended.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Returns the position in bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Returns the text from an earlier position to here.
    pub(super) fn text_from(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Returns whether white space was skipped since the last call.
    pub(super) fn take_skipped(&mut self) -> bool {
        std::mem::take(&mut self.has_skipped)
    }

    /// Skips one byte, which must be ASCII.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Skips the next byte if it is `byte`, and returns whether it is.
    #[inline]
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Skips the next byte.
    ///
    /// # Errors
    /// It is not `byte`.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.skip(byte) { Ok(()) } else { Err(Malformed::Syntax) }
    }

    /// Skips white space.
    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => {}
                b'\n' if self.is_multiline => {}
                _ => return,
            }
            self.at += 1;
            self.has_skipped = true;
        }
    }

    /// Skips a literal: `true`, `false` or `null`.
    ///
    /// # Errors
    /// The text continues differently.
    pub(super) fn literal(&mut self, literal: &str) -> Result<(), Malformed> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal.as_bytes()) {
            return Err(Malformed::Syntax);
        }
        self.at += literal.len();
        Ok(())
    }

    /// Skips a string, and returns what is between its quotation marks, and whether that has escapes.
    ///
    /// # Errors
    /// The text continues differently, or the string has a control character or an invalid escape.
    pub(super) fn skip_string(&mut self) -> Result<(&'a str, bool), Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.at += plain_len(rest);
            match self.peek() {
                Some(b'"') => {
                    let content = self.text_from(start);
                    self.advance();
                    return Ok((content, has_escapes));
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.advance();
                    self.skip_escape()?;
                }
                _ => return Err(Malformed::Syntax),
            }
        }
    }

    /// Skips the rest of an escape after its backslash.
    fn skip_escape(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.advance(),
            Some(b'u') => {
                self.advance();
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(Malformed::Syntax);
                    }
                    self.advance();
                }
            }
            _ => return Err(Malformed::Syntax),
        }
        Ok(())
    }

    /// Reads a string. It is copied only if it has escapes.
    ///
    /// # Errors
    /// As [`Lexer::skip_string`].
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let (content, has_escapes) = self.skip_string()?;
        Ok(if has_escapes { Cow::Owned(unescape(content)) } else { Cow::Borrowed(content) })
    }

    /// Skips a number, and returns it.
    ///
    /// # Errors
    /// The text continues differently.
    pub(super) fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Ok(self.text_from(start))
    }

    /// Skips one or more digits.
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.advance();
        }
        if self.at > start { Ok(()) } else { Err(Malformed::Syntax) }
    }
}

/// Returns the number of bytes in front of the first quotation mark, backslash or control character (RFC 8259 §7).
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The highest bit of each byte of the result is set if a byte of `word` is zero, and perhaps if a lower one is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut len = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let ends =
            (zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | controls)
                & HIGH;
        if ends != 0 {
            return len + (ends.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
}

/// Replaces the escapes of a valid string. A surrogate without its other half (RFC 8259 §8.2) becomes U+FFFD.
fn unescape(content: &str) -> String {
    let mut plain = String::with_capacity(content.len());
    let mut rest = content;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => plain.push('\u{8}'),
            Some('f') => plain.push('\u{c}'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('t') => plain.push('\t'),
            Some('u') => {
                let (char, tail) = code_point(chars.as_str());
                plain.push(char);
                rest = tail;
                continue;
            }
            Some(char) => plain.push(char),
            None => {}
        }
        rest = chars.as_str();
    }
    plain.push_str(rest);
    plain
}

/// Decodes the four hexadecimal digits after `\u`, and a second escape if both are a surrogate pair. Returns the rest too.
fn code_point(digits: &str) -> (char, &str) {
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let rest = digits.get(4..).unwrap_or_default();
    let Some(first) = unit(digits) else { return (char::REPLACEMENT_CHARACTER, rest) };
    if let (0xd800..0xdc00, Some(after)) = (first, rest.strip_prefix("\\u"))
        && let Some(second @ 0xdc00..0xe000) = unit(after)
    {
        let char = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        return (char.unwrap_or(char::REPLACEMENT_CHARACTER), after.get(4..).unwrap_or_default());
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}
