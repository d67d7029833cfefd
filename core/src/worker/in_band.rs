//! Messages with a token, and the answers to them: JSON objects with a `type`.
//!
//! | message of a client of [`Echo`](super::Echo) | answer |
//! |---|---|
//! | `{"type":"refresh","token":"…"}`, or `auth` for `refresh` | `{"type":"refreshed","expires_at":1800000000}`, or `{"type":"refresh_refused","code":"…"}` |
//! | the same as the first message of a connection without an identity | `{"type":"authenticated","expires_at":1800000000}`, or a Close |
//!
//! `expires_at` is in seconds since 1970, and absent if nothing is known about it. Other members of a message are ignored.

use zeroize::Zeroizing;

use crate::bearer_token::{BearerToken, InvalidToken};
use crate::record::RefreshRefusal;

/// Returns the token of a message, or its fault. `None` for a message of another kind.
///
/// A message that may contain a token is not another kind: it would be sent back, and logged.
pub(super) fn token(message: &[u8]) -> Option<Result<BearerToken, RefreshRefusal>> {
    let mut rest = Scanner(message);
    let mut found = Members::default();
    match rest.object(&mut found) {
        // Nothing follows.
        Ok(()) if rest.is_at_end() => {}
        Err(Stop::OtherType) => return None,
        Ok(()) | Err(Stop::Malformed) => {
            return (found.is_ours || found.has_token).then_some(Err(RefreshRefusal::Malformed));
        }
    }
    found.is_ours.then(|| {
        let token = found.token.ok_or(RefreshRefusal::Malformed)?;
        BearerToken::new(&token).map_err(|error| match error {
            InvalidToken::Malformed => RefreshRefusal::Malformed,
            InvalidToken::TooLong => RefreshRefusal::TooLong,
        })
    })
}

/// The members of a message.
#[derive(Default)]
struct Members {
    has_type: bool,
    /// Whether the type is one of the types above.
    is_ours: bool,
    /// Whether there is a token, which may be incomplete.
    has_token: bool,
    token: Option<Zeroizing<Vec<u8>>>,
}

/// Why the rest of a message is not read.
enum Stop {
    /// It is not a JSON object, or has a member twice.
    Malformed,
    /// Its type is another one.
    OtherType,
}

/// The rest of a message.
struct Scanner<'m>(&'m [u8]);

impl<'m> Scanner<'m> {
    /// Reads an object.
    fn object(&mut self, found: &mut Members) -> Result<(), Stop> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            match name {
                br#"type"# if found.has_type => return Err(Stop::Malformed),
                br#"type"# => {
                    if self.0.is_empty() {
                        return Err(Stop::Malformed);
                    }
                    found.has_type = true;
                    found.is_ours = self.0.starts_with(b"\"") && TYPES.contains(&self.string()?);
                    if !found.is_ours {
                        return Err(Stop::OtherType);
                    }
                }
                br#"token"# if found.token.is_some() => return Err(Stop::Malformed),
                br#"token"# if self.0.starts_with(b"\"") => {
                    found.has_token = true;
                    found.token = Some(unescape(self.string()?));
                }
                _ => self.skip_value()?,
            }
            self.skip_space();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.0.is_empty()
    }

    /// Returns the text of a string, as it is written.
    fn string(&mut self) -> Result<&'m [u8], Stop> {
        self.expect(b'"')?;
        let text = self.0;
        let mut is_escaped = false;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    self.0 = text.get(at + 1..).unwrap_or_default();
                    return Ok(text.get(..at).unwrap_or_default());
                }
                _ => {}
            }
        }
        Err(Stop::Malformed)
    }

    /// Skips a value. Its inner structure is not checked.
    fn skip_value(&mut self) -> Result<(), Stop> {
        let mut depth = 0_usize;
        while let Some((byte, rest)) = self.0.split_first() {
            match byte {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Ok(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => return Ok(()),
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.0 = rest;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.0 = rest;
        }
        Err(Stop::Malformed)
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.take(byte) { Ok(()) } else { Err(Stop::Malformed) }
    }
}

/// Returns the bytes of a string. An escape that no token contains becomes a byte that no token contains.
fn unescape(written: &[u8]) -> Zeroizing<Vec<u8>> {
    // It does not grow, so no copy of it stays in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(written.len()));
    let mut rest = written.iter();
    while let Some(&byte) = rest.next() {
        text.push(match byte {
            // Some encoders escape the slash, which a token may contain.
            b'\\' => rest.next().copied().filter(|byte| *byte == b'/').unwrap_or(b'\\'),
            byte => byte,
        });
    }
    text
}

/// Returns the answer to a token that holds.
pub(super) fn accepted(kind: &str, expires_at: Option<u64>) -> String {
    match expires_at {
        Some(exp) => format!(r#"{{"type":"{kind}","expires_at":{exp}}}"#),
        None => format!(r#"{{"type":"{kind}"}}"#),
    }
}

/// Returns the answer to a refresh that is refused.
pub(super) fn refused(refusal: RefreshRefusal) -> String {
    // The codes are words without anything that JSON would have to escape.
    format!(r#"{{"type":"refresh_refused","code":"{}"}}"#, refusal.code())
}

/// The types of messages with a token.
const TYPES: [&[u8]; 2] = [b"refresh", b"auth"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Option<Result<&str, RefreshRefusal>>) {
        let found = token(message.as_bytes());
        let expected = expected.map(|token| token.map(|token| BearerToken::new(token.as_bytes()).unwrap()));
        assert_eq!(found, expected, "{message}");
    }

    #[test]
    fn messages_with_a_token() {
        for message in [
            r#"{"type":"auth","token":"a.b-c"}"#,
            r#"{"token":"a.b-c","type":"refresh"}"#,
            " {\n\t\"type\" : \"refresh\" ,\r\n \"token\" : \"a.b-c\" } \n",
            r#"{"id":1,"x":{"type":"chat","y":["}",{"token":"z"}]},"type":"refresh","token":"a.b-c","last":null}"#,
            r#"{"x":"\"","type":"refresh","token":"a.b-c"}"#,
        ] {
            check(message, Some(Ok("a.b-c")));
        }
        check(r#"{"type":"auth","token":"a\/b+="}"#, Some(Ok("a/b+=")));
    }

    #[test]
    fn messages_of_other_kinds() {
        for message in [
            "",
            "hello",
            "{}",
            "[]",
            "null",
            r#""refresh""#,
            r#"{"type":"chat","token":"a"}"#,
            r#"{"type":"refreshed","token":"a"}"#,
            r#"{"type":1,"token":"a"}"#,
            r#"{"type":["refresh"],"token":"a"}"#,
            r#"{"token":"a"}"#,
            r#"{"Type":"refresh"}"#,
            r#"[{"type":"refresh","token":"a"}]"#,
            r#"{"x":{"type":"refresh","token":"a"}}"#,
            r#"{"a":"#,
        ] {
            check(message, None);
        }
    }

    #[test]
    fn malformed_messages_with_a_token_are_not_of_another_kind() {
        let whole = r#"{"type":"refresh","token":"a.b-c","x":1}"#;
        // Truncated after the type, at any byte.
        for end in r#"{"type":"refresh""#.len()..whole.len() {
            check(&whole[..end], Some(Err(RefreshRefusal::Malformed)));
        }
        let long = "a".repeat(BearerToken::MAX + 1);
        check(&format!(r#"{{"type":"auth","token":"{long}"}}"#), Some(Err(RefreshRefusal::TooLong)));
        for message in [
            r#"{"type":"refresh"}"#,
            r#"{"type":"refresh","token":1}"#,
            r#"{"type":"refresh","token":null}"#,
            r#"{"type":"refresh","token":""}"#,
            r#"{"type":"refresh","token":"a b"}"#,
            r#"{"type":"refresh","token":"a\u0062"}"#,
            r#"{"type":"refresh","token":"é"}"#,
            r#"{"type":"refresh","token":"a","token":"b"}"#,
            r#"{"type":"refresh","type":"refresh","token":"a"}"#,
            r#"{"type":"refresh","token":"a"}{"type":"refresh","token":"a"}"#,
            r#"{"type":"refresh","token":"a"},"#,
            r#"{"token":"a","type":"#,
            r#"{"token":"a" "type":"refresh"}"#,
            r#"{"token":"a","#,
            r#"{"token":"a.b"#,
        ] {
            check(message, Some(Err(RefreshRefusal::Malformed)));
        }
    }

    #[test]
    fn answers_are_json() {
        assert_eq!(accepted("refreshed", Some(7)), r#"{"type":"refreshed","expires_at":7}"#);
        assert_eq!(accepted("authenticated", None), r#"{"type":"authenticated"}"#);
        let refused = refused(RefreshRefusal::OtherUser);
        assert_eq!(refused, r#"{"type":"refresh_refused","code":"other_user"}"#);
    }
}
