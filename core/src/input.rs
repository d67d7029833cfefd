//! Received bytes, and the payloads that are split off their front.

use std::fmt;
use std::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// The bytes of one read, consumed from the front.
///
/// A payload that is split off lives as long as the read buffer. It borrows neither this cursor nor the session, so an
/// application can answer while it still uses the payload:
///
/// ```text
///   read buffer  [ frame | frame | fra ]
///                  taken   ^ rest          0 <= taken <= len, and taken only grows
/// ```
#[derive(Debug)]
pub struct Input<'b> {
    rest: &'b mut [u8],
}

impl<'b> Input<'b> {
    /// Creates a cursor at the front of the received bytes. They are unmasked in place as they are consumed.
    pub fn new(bytes: &'b mut [u8]) -> Input<'b> {
        Input { rest: bytes }
    }

    /// Returns the number of bytes that are left.
    #[inline]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether all bytes are consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the bytes that are left, not consumed.
    #[inline]
    pub(crate) fn peek(&self) -> &[u8] {
        self.rest
    }

    /// Returns the bytes that are left, not consumed.
    #[inline]
    pub(crate) fn peek_mut(&mut self) -> &mut [u8] {
        self.rest
    }

    /// Splits off the first `n` bytes, or all of them if there are fewer.
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> &'b mut [u8] {
        let rest = std::mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut(n.min(rest.len()));
        self.rest = rest;
        taken
    }

    /// Discards the bytes that are left.
    pub(crate) fn discard(&mut self) {
        self.rest = &mut [];
    }
}

/// A payload: borrowed from the read buffer if it arrived in one piece, owned if it was collected from several reads or frames.
///
/// The session keeps nothing of an owned payload, so dropping it frees the memory.
#[derive(PartialEq, Eq)]
pub enum Payload<'b> {
    /// Part of the read buffer.
    Borrowed(&'b mut [u8]),
    /// Collected from several reads or frames.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// Overwrites the bytes with zeros, because they contain a credential.
    pub fn wipe(&mut self) {
        (**self).zeroize();
    }

    /// Returns the bytes as a vector. Only borrowed bytes are copied.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Payload::Borrowed(bytes) => bytes.to_vec(),
            Payload::Owned(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for Payload<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// The payload of a text message. Only a session can create it, which has checked that it is UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'b>(Payload<'b>);

impl<'b> Text<'b> {
    /// Creates a text. The caller has checked `payload`.
    #[inline]
    pub(crate) fn from_checked(payload: Payload<'b>) -> Text<'b> {
        Text(payload)
    }

    /// Returns the text. This checks the bytes again, because the crate has no unsafe code. To send them on, use
    /// [`Session::send_text`](crate::Session::send_text) with the `Text`, which does not.
    pub fn as_str(&self) -> &str {
        // The session checked these bytes before it made the Text, so the fallback is never taken.
        simdutf8::basic::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the bytes, valid UTF-8.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the payload, which is no longer known to be UTF-8.
    #[inline]
    pub fn into_payload(self) -> Payload<'b> {
        self.0
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// Types that can be sent as text: their bytes are known to be UTF-8.
pub trait Utf8: sealed::Sealed {
    /// Returns the bytes.
    fn utf8(&self) -> &[u8];
}

impl Utf8 for str {
    fn utf8(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Utf8 for String {
    fn utf8(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Utf8 for Text<'_> {
    #[inline]
    fn utf8(&self) -> &[u8] {
        self.as_bytes()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for str {}
    impl Sealed for String {}
    impl Sealed for super::Text<'_> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_more_than_there_is_takes_all() {
        let mut bytes = *b"abcdef";
        let mut input = Input::new(&mut bytes);
        assert_eq!(input.take(2), b"ab");
        assert_eq!(input.take(0), b"");
        assert_eq!(input.take(99), b"cdef");
        assert!(input.is_empty());
        assert_eq!(input.take(1), b"");
    }

    #[test]
    fn an_input_knows_how_much_is_left() {
        let mut bytes = *b"abc";
        let mut input = Input::new(&mut bytes);
        assert_eq!((input.len(), input.is_empty(), input.peek()), (3, false, &b"abc"[..]));
        input.peek_mut().make_ascii_uppercase();
        assert_eq!(input.peek(), b"ABC");
        input.peek_mut().make_ascii_lowercase();
        input.take(2);
        assert_eq!((input.len(), input.is_empty(), input.peek()), (1, false, &b"c"[..]));
        input.discard();
        assert_eq!((input.len(), input.is_empty(), input.peek()), (0, true, &b""[..]));
    }

    #[test]
    fn a_payload_is_the_same_wherever_its_bytes_are() {
        let mut bytes = *b"abc";
        for mut payload in [Payload::Borrowed(&mut bytes), Payload::Owned(b"abc".to_vec())] {
            assert_eq!(&*payload, b"abc");
            assert_eq!(format!("{payload:?}"), "3 bytes", "a log must not show what users say");
            payload[0] = b'x';
            assert_eq!(payload.into_vec(), b"xbc");
        }
    }

    #[test]
    fn a_text_is_its_bytes() {
        let text = Text::from_checked(Payload::Owned("h€".into()));
        assert_eq!((text.as_str(), text.as_bytes(), text.utf8()), ("h€", "h€".as_bytes(), "h€".as_bytes()));
        assert_eq!(text.chars().count(), 2);
        assert_eq!(text.into_payload().into_vec(), "h€".as_bytes());
        assert_eq!(("h€".utf8(), "h€".to_owned().utf8()), ("h€".as_bytes(), "h€".as_bytes()));
    }

    #[test]
    fn a_payload_outlives_the_cursor_it_was_taken_from() {
        let mut bytes = *b"abcdef";
        let mut input = Input::new(&mut bytes);
        let front = Payload::Borrowed(input.take(3));
        input.discard();
        assert_eq!(&*front, b"abc");
        assert_eq!(front.into_vec(), b"abc");
    }
}
