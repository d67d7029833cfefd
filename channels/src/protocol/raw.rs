//! Values of the application, which are passed on without being interpreted.

use std::borrow::Cow;

use super::json::text;
use crate::ErrorCode;

/// The highest number of arrays and objects inside each other in a value of the application.
pub const MAX_DEPTH: u32 = 128;

/// A value of the application, as a client has sent it. A field that is absent is an empty value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    form: Form,
}

/// The facts about a value that are known from decoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Any bytes.
    #[default]
    Unchecked,
    /// A JSON text.
    Text,
    /// A JSON text without white space outside of strings.
    Compact,
    /// A JSON text of more than [`MAX_DEPTH`] levels.
    TooDeep,
}

impl<'a> Raw<'a> {
    /// Takes any bytes.
    pub fn new(bytes: &'a [u8]) -> Raw<'a> {
        Raw { bytes, form: Form::Unchecked }
    }

    /// Takes bytes of the given form.
    pub(super) fn of_form(bytes: &'a [u8], form: Form) -> Raw<'a> {
        Raw { bytes, form }
    }

    /// Whether the value is absent. No JSON text is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes as they were sent, for binary values.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the value as a compact JSON text: the value without white space outside of strings, otherwise unchanged. It
    /// contains no line break, so it can be embedded in a reply. It is copied only if it has such white space.
    ///
    /// # Errors
    /// The value is not one complete JSON text (RFC 8259) in UTF-8, or has more than [`MAX_DEPTH`] levels.
    pub fn compact(self) -> Result<Cow<'a, [u8]>, RawError> {
        let is_compact = match self.form {
            Form::Unchecked => text::check(self.bytes)?,
            Form::Text => false,
            Form::Compact => true,
            Form::TooDeep => return Err(RawError::TooDeep),
        };
        if is_compact {
            return Ok(Cow::Borrowed(self.bytes));
        }
        let mut compact = Vec::with_capacity(self.bytes.len());
        text::write_compact(self.bytes, &mut compact);
        Ok(Cow::Owned(compact))
    }

    /// Returns the value as a JSON text without line breaks, so that it can be embedded in a reply. A value that arrived as bytes,
    /// as all values of Protobuf do, stays as it is if it has none. All others are [compact](Raw::compact).
    ///
    /// # Errors
    /// See [`compact`](Raw::compact).
    pub fn one_line(self) -> Result<Cow<'a, [u8]>, RawError> {
        let compact = self.compact()?;
        let has_breaks = || self.bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        match self.form {
            Form::Unchecked if !has_breaks() => Ok(Cow::Borrowed(self.bytes)),
            Form::Unchecked | Form::Text | Form::Compact | Form::TooDeep => Ok(compact),
        }
    }
}

/// The reason why a value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawError {
    /// It is not one complete JSON text.
    NotJson,
    /// It has more than [`MAX_DEPTH`] levels.
    TooDeep,
}

impl From<RawError> for ErrorCode {
    fn from(_: RawError) -> ErrorCode {
        ErrorCode::BadRequest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_line_stay_as_they_are() {
        let text = |bytes: &'static [u8], form| Raw::of_form(bytes, form).one_line().map(Cow::into_owned);
        let spaced: &[u8] = b" {\t\"a\" : \"b c\" } ";
        assert_eq!(text(spaced, Form::Unchecked), Ok(spaced.to_vec()));
        for breaks in [&b"{\n\"a\": \"b c\"}"[..], b"{\r\"a\": \"b c\"}"] {
            assert_eq!(text(breaks, Form::Unchecked), Ok(b"{\"a\":\"b c\"}".to_vec()));
        }
        // A value of JSON is written for all subscribers, so it is compact.
        assert_eq!(text(b"[ 1 ]", Form::Text), Ok(b"[1]".to_vec()));
        assert_eq!(text(b"[1]", Form::Compact), Ok(b"[1]".to_vec()));
        for invalid in [&b"1}"[..], b"", b"{", b"\"\n\"", b"\xff"] {
            assert_eq!(text(invalid, Form::Unchecked), Err(RawError::NotJson), "{invalid:?}");
        }
    }
}
