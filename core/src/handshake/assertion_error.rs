//! The rules that a signed token can break.

use std::fmt;

use crate::listed::listed;

listed! {
/// The rule that a token breaks.
///
/// The client learns only the kind of the rule, by the [`code`](super::HandshakeError::code) and
/// [`message`](super::HandshakeError::message) of the refusal, so that an attacker cannot find out how far a forged token got.
/// The log also has the rule itself, by [`detail`](Self::detail). No variant contains a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AssertionError {
    /// The token is not three parts of base64url (RFC 7515 §7.1), its header is not a JSON object with valid members, its
    /// `alg` is not supported (RFC 8725 §3.1), or its `crit` requires an extension (RFC 7515 §4.1.11).
    Malformed,
    /// No key of the issuer has its `kid` and supports its `alg`.
    Key,
    /// The signature does not match the key, the header and the payload.
    Signature,
    /// The payload is not a JSON object, or a required claim is missing, or a claim is present twice or has the wrong type
    /// (RFC 7519 §4).
    Claims,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
    /// `iss` is another issuer.
    Issuer,
    /// `aud` names other audiences only.
    Audience,
    /// It has no claim with the id of the user.
    Subject,
    /// The key could not be looked up, because keys of the issuer are being fetched. The client may try again.
    KeysUnavailable,
}
}

impl AssertionError {
    /// Returns the status, the code and the text of the refusal.
    pub(super) fn answer(self) -> (u16, &'static str, &'static str) {
        match self {
            AssertionError::Malformed
            | AssertionError::Key
            | AssertionError::Signature
            | AssertionError::Claims => (
                401,
                "assertion_invalid",
                "the assertion is not a token that is signed with a key of its issuer",
            ),
            AssertionError::Expired | AssertionError::NotYetValid => {
                (401, "assertion_not_now", "the assertion has expired, or is not valid yet")
            }
            AssertionError::Issuer => (401, "assertion_issuer", "the assertion is of another issuer"),
            AssertionError::Audience => (401, "assertion_audience", "the assertion is for other audiences"),
            AssertionError::Subject => (
                401,
                "assertion_subject",
                "the assertion has no text and no whole number as the id of the user",
            ),
            AssertionError::KeysUnavailable => (
                503,
                "assertion_keys_unavailable",
                "the keys to judge the assertion with are not there yet; try again",
            ),
        }
    }

    /// Returns the rule that the token breaks, for the log only.
    pub fn detail(self) -> &'static str {
        match self {
            AssertionError::Malformed => {
                "the token or its header is malformed or uses an unsupported alg or crit"
            }
            AssertionError::Key => "no key of the issuer has the kid and supports the alg of the token",
            AssertionError::Signature => "the signature is wrong",
            AssertionError::Claims => "a claim is missing or present twice or has the wrong type",
            AssertionError::Expired => "exp has passed",
            AssertionError::NotYetValid => "nbf or iat is in the future",
            AssertionError::Issuer => "iss is not the configured issuer",
            AssertionError::Audience => "aud contains no configured audience",
            AssertionError::Subject => {
                "the claim with the user id is missing or is not a string or whole number"
            }
            AssertionError::KeysUnavailable => "the keys of the issuer are being fetched",
        }
    }
}

impl fmt::Display for AssertionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.answer().2)
    }
}

impl std::error::Error for AssertionError {}
