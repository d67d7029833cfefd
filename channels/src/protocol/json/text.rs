//! Validates JSON texts, and removes their white space.

use super::super::raw::{Form, MAX_DEPTH, RawError};
use super::super::{Malformed, Raw};
use super::lexer::{Lexer, plain_len};

/// Checks that `text` is one JSON text (RFC 8259) in UTF-8. Returns whether it is compact, that is without white space outside of
/// strings.
///
/// # Errors
/// It is not, or has more than [`MAX_DEPTH`] levels.
pub(in super::super) fn check(text: &[u8]) -> Result<bool, RawError> {
    let text = std::str::from_utf8(text).map_err(|_| RawError::NotJson)?;
    let mut lexer = Lexer::of_text(text);
    lexer.skip_space();
    let form = skip_value(&mut lexer).map_err(|_| RawError::NotJson)?;
    let has_tail = lexer.position() < text.len();
    lexer.skip_space();
    match form {
        _ if lexer.peek().is_some() => Err(RawError::NotJson),
        Form::TooDeep => Err(RawError::TooDeep),
        Form::Compact => Ok(!has_tail && !text.starts_with([' ', '\t', '\r', '\n'])),
        Form::Text | Form::Unchecked => Ok(false),
    }
}

/// Appends a valid JSON text without the white space outside of its strings.
pub(in super::super) fn write_compact(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => rest = after,
            b'"' => {
                let (string, tail) = rest.split_at_checked(string_len(rest)).unwrap_or((rest, &[]));
                out.extend_from_slice(string);
                rest = tail;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
}

/// Returns the length of the valid string at the beginning, with its quotation marks.
fn string_len(bytes: &[u8]) -> usize {
    let mut len = 1;
    loop {
        let rest = bytes.get(len..).unwrap_or_default();
        let plain = plain_len(rest);
        match rest.get(plain) {
            Some(b'\\') => len += plain + 2,
            _ => return len + plain + 1,
        }
    }
}

/// Reads a value that is passed on.
///
/// # Errors
/// The text does not continue with a value.
pub(super) fn raw<'a>(lexer: &mut Lexer<'a>) -> Result<Raw<'a>, Malformed> {
    let start = lexer.position();
    let form = skip_value(lexer)?;
    Ok(Raw::of_form(lexer.text_from(start).as_bytes(), form))
}

/// Skips a value of any depth, and returns its form. It is not recursive: memory grows only with values of more than
/// [`MAX_DEPTH`] levels, by a bit for each level.
///
/// # Errors
/// The text does not continue with a value.
pub(super) fn skip_value(lexer: &mut Lexer<'_>) -> Result<Form, Malformed> {
    lexer.take_skipped();
    let mut open = Open::default();
    'value: loop {
        match lexer.peek().ok_or(Malformed::Syntax)? {
            b'"' => {
                lexer.skip_string()?;
            }
            b'{' => {
                lexer.advance();
                lexer.skip_space();
                open.push(true);
                if !lexer.skip(b'}') {
                    member_name(lexer)?;
                    continue;
                }
                open.pop();
            }
            b'[' => {
                lexer.advance();
                lexer.skip_space();
                open.push(false);
                if !lexer.skip(b']') {
                    continue;
                }
                open.pop();
            }
            b't' => lexer.literal("true")?,
            b'f' => lexer.literal("false")?,
            b'n' => lexer.literal("null")?,
            _ => {
                lexer.number()?;
            }
        }
        // A value has ended: close what ends with it.
        while let Some(is_object) = open.innermost() {
            lexer.skip_space();
            if lexer.skip(b',') {
                lexer.skip_space();
                if is_object {
                    member_name(lexer)?;
                }
                continue 'value;
            }
            lexer.expect(if is_object { b'}' } else { b']' })?;
            open.pop();
        }
        return Ok(match lexer.take_skipped() {
            _ if open.deepest > MAX_DEPTH => Form::TooDeep,
            true => Form::Text,
            false => Form::Compact,
        });
    }
}

/// Skips the name of a member, the colon, and the white space around.
fn member_name(lexer: &mut Lexer<'_>) -> Result<(), Malformed> {
    lexer.skip_string()?;
    lexer.skip_space();
    lexer.expect(b':')?;
    lexer.skip_space();
    Ok(())
}

/// The arrays and objects that have not ended.
#[derive(Default)]
struct Open {
    /// The innermost 128 levels at most, a bit for each: 1 is an object. The lowest bit is the innermost.
    bits: u128,
    /// The levels outside of these, 128 in each element.
    outer: Vec<u128>,
    depth: u32,
    /// The highest `depth` so far.
    deepest: u32,
}

impl Open {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(128) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u128::from(is_object);
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(128) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }

    /// Returns whether the innermost level is an object, if there is a level.
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
