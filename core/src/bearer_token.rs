//! The token of a user, which must not stay in memory longer than it is needed.

use std::fmt;

use zeroize::Zeroizing;

use crate::handshake::Identity;

/// A bearer token (RFC 6750 §2.1). Its memory is overwritten when it is dropped, and its `Debug` form does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Zeroizing<Box<[u8]>>);

/// Why a text cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidToken {
    /// It is empty, or has a character that a token cannot have.
    Malformed,
    /// It is longer than [`BearerToken::MAX`].
    TooLong,
}

/// A token to be checked, and what a gateway would pass on about the request of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCheck {
    /// The token.
    pub token: BearerToken,
    /// The path of the request, if it is known.
    pub path: Option<Box<str>>,
    /// The `Origin` of the page, if the client sent one.
    pub origin: Option<Box<str>>,
    /// The client as the gateway identifies it.
    pub client: Option<Box<str>>,
}

impl TokenCheck {
    /// Creates the check of a token that a client of this user has sent.
    pub fn new(token: BearerToken, user: &Identity) -> TokenCheck {
        let [origin, client] = [user.origin(), user.client()].map(|text| text.map(Box::from));
        TokenCheck { token, path: None, origin, client }
    }
}

/// The result of a check of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token holds, and belongs to this user.
    Valid(Identity),
    /// The token does not hold.
    Refused,
    /// It is unknown whether the token holds: the service that knows it is unavailable.
    Unknown,
}

impl BearerToken {
    /// The longest token, in bytes: what fits into a request head of usual size.
    pub const MAX: usize = 8 * 1024;

    /// Copies a token.
    ///
    /// # Errors
    /// It is not a token: RFC 6750 §2.1 allows letters, digits and `-._~+/=`.
    pub fn new(token: &[u8]) -> Result<BearerToken, InvalidToken> {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        if token.len() > BearerToken::MAX {
            return Err(InvalidToken::TooLong);
        }
        if token.is_empty() || !token.iter().all(is_allowed) {
            return Err(InvalidToken::Malformed);
        }
        Ok(BearerToken(Zeroizing::new(token.into())))
    }

    /// Returns the bytes, which are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Without the token.
impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_characters_of_rfc_6750_are_a_token() {
        for token in ["a", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "AZaz09-._~+/=="] {
            assert_eq!(BearerToken::new(token.as_bytes()).unwrap().as_bytes(), token.as_bytes());
        }
        for token in ["", " ", "a b", "a\r\nX: y", "a\"", "a,b", "\u{e9}", "a\0"] {
            assert_eq!(BearerToken::new(token.as_bytes()), Err(InvalidToken::Malformed), "{token:?}");
        }
        assert!(BearerToken::new(&vec![b'a'; BearerToken::MAX]).is_ok());
        assert_eq!(BearerToken::new(&vec![b'a'; BearerToken::MAX + 1]), Err(InvalidToken::TooLong));
    }

    #[test]
    fn debug_form_has_no_part_of_the_token() {
        let token = BearerToken::new(b"hunter2").unwrap();
        assert_eq!(
            format!("{token:?} {:?}", Some(&token)),
            "BearerToken(7 bytes) Some(BearerToken(7 bytes))"
        );
    }
}
