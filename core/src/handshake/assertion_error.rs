//! The rules that a signed token can break.

use std::fmt;

/// Which rule a token breaks.
///
/// The client learns only the kind of the rule, by [`code`](Self::code) and [`message`](Self::message), so that an attacker
/// cannot find out how far a forged token got. The log also has the rule itself, by [`detail`](Self::detail). No variant
/// contains a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssertionError {
    /// The token is not three parts of base64url with a JSON object in the first (RFC 7515 §7.1).
    Form,
    /// A member of its header has the wrong type, or is present twice (RFC 7515 §4).
    Header,
    /// Its `alg` is missing, unknown, `none`, or one with a shared secret (RFC 8725 §3.1).
    Algorithm,
    /// Its `crit` requires an extension, and none is supported (RFC 7515 §4.1.11).
    Critical,
    /// It has no `kid`, and no key of the issuer supports its `alg`.
    KeyUnnamed,
    /// No key has its `kid`.
    KeyUnknown,
    /// The key with its `kid` does not support its `alg`.
    KeyUnfit,
    /// The signature does not match the key, the header and the payload.
    Signature,
    /// The payload is not a JSON object, or has a claim twice or with the wrong type (RFC 7519 §4).
    Claims,
    /// `iss` is missing or not a string (RFC 7519 §4.1.1).
    IssuerType,
    /// `aud` is missing, or neither a string nor a list of strings (RFC 7519 §4.1.3).
    AudienceType,
    /// `exp` is missing or not a number (RFC 7519 §4.1.4).
    ExpiryType,
    /// `nbf` is not a number (RFC 7519 §4.1.5).
    NotBeforeType,
    /// `iat` is not a number (RFC 7519 §4.1.6).
    IssuedAtType,
    /// `exp` has passed.
    Expired,
    /// `nbf` is in the future.
    TooEarly,
    /// `iat` is in the future.
    IssuedLater,
    /// `iss` is another issuer.
    Issuer,
    /// `aud` names other audiences only.
    Audience,
    /// It has no claim with the id of the user.
    Subject,
    /// The issuer's keys have not been fetched yet. The client may try again.
    KeysUnavailable,
    /// No key has its `kid`, but newer keys are being fetched. The client may try again.
    KeyAwaited,
}

/// The kind of a rule, which the client learns.
#[derive(Clone, Copy)]
enum Kind {
    Invalid,
    NotNow,
    Issuer,
    Audience,
    Subject,
    KeysUnavailable,
}

impl AssertionError {
    fn kind(self) -> Kind {
        match self {
            AssertionError::Form
            | AssertionError::Header
            | AssertionError::Algorithm
            | AssertionError::Critical
            | AssertionError::KeyUnnamed
            | AssertionError::KeyUnknown
            | AssertionError::KeyUnfit
            | AssertionError::Signature
            | AssertionError::Claims
            | AssertionError::IssuerType
            | AssertionError::AudienceType
            | AssertionError::ExpiryType
            | AssertionError::NotBeforeType
            | AssertionError::IssuedAtType => Kind::Invalid,
            AssertionError::Expired | AssertionError::TooEarly | AssertionError::IssuedLater => Kind::NotNow,
            AssertionError::Issuer => Kind::Issuer,
            AssertionError::Audience => Kind::Audience,
            AssertionError::Subject => Kind::Subject,
            AssertionError::KeysUnavailable | AssertionError::KeyAwaited => Kind::KeysUnavailable,
        }
    }

    /// The HTTP status of the refusal.
    pub fn status(self) -> u16 {
        match self.kind() {
            Kind::Invalid | Kind::NotNow | Kind::Issuer | Kind::Audience | Kind::Subject => 401,
            Kind::KeysUnavailable => 503,
        }
    }

    /// The code of the refusal for programs, as [`HandshakeError::code`](super::HandshakeError::code).
    pub fn code(self) -> &'static str {
        match self.kind() {
            Kind::Invalid => "assertion_invalid",
            Kind::NotNow => "assertion_not_now",
            Kind::Issuer => "assertion_issuer",
            Kind::Audience => "assertion_audience",
            Kind::Subject => "assertion_subject",
            Kind::KeysUnavailable => "assertion_keys_unavailable",
        }
    }

    /// The text for people, as [`HandshakeError::message`](super::HandshakeError::message).
    pub fn message(self) -> &'static str {
        match self.kind() {
            Kind::Invalid => "the assertion is not a token that is signed with a key of its issuer",
            Kind::NotNow => "the assertion has expired, or is not valid yet",
            Kind::Issuer => "the issuer of the assertion is not POSTERN_ASSERTION_ISSUER",
            Kind::Audience => "the assertion is for nobody in POSTERN_ASSERTION_AUDIENCE",
            Kind::Subject => {
                "the assertion has no text and no whole number in the claims that POSTERN_ASSERTION_ID_CLAIM names"
            }
            Kind::KeysUnavailable => "the keys to judge the assertion with are not there yet; try again",
        }
    }

    /// The rule that the token breaks, for the log only.
    pub fn detail(self) -> &'static str {
        match self {
            AssertionError::Form => "not three parts of base64url with a header of JSON",
            AssertionError::Header => "a member of the header has the wrong type or is there twice",
            AssertionError::Algorithm => "alg is missing or none that is taken",
            AssertionError::Critical => "crit demands an extension",
            AssertionError::KeyUnnamed => "kid is missing and no key is for alg",
            AssertionError::KeyUnknown => "kid is of no key",
            AssertionError::KeyUnfit => "kid is of a key that is not for alg",
            AssertionError::Signature => "the signature is wrong",
            AssertionError::Claims => {
                "the payload is no JSON object or has a claim twice or of the wrong type"
            }
            AssertionError::IssuerType => "iss is missing or not a text",
            AssertionError::AudienceType => "aud is missing or neither a text nor a list of texts",
            AssertionError::ExpiryType => "exp is missing or not a number",
            AssertionError::NotBeforeType => "nbf is not a number",
            AssertionError::IssuedAtType => "iat is not a number",
            AssertionError::Expired => "exp is over",
            AssertionError::TooEarly => "nbf has not come yet",
            AssertionError::IssuedLater => "iat has not come yet",
            AssertionError::Issuer => "iss is another",
            AssertionError::Audience => "aud is of others",
            AssertionError::Subject => {
                "the claim with the id is missing or neither a text nor a whole number"
            }
            AssertionError::KeysUnavailable => "there are no keys yet",
            AssertionError::KeyAwaited => "kid is of no key yet and newer keys are being fetched",
        }
    }
}

impl fmt::Display for AssertionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for AssertionError {}
