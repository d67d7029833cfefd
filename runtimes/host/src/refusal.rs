//! The texts of refused upgrades, with the names of the settings that an operator can change.

use postern_core::handshake::{AssertionError, HandshakeError};

/// Returns the text for people in the body of a refusal and in the log.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other texts name no setting")]
pub fn message(error: HandshakeError) -> &'static str {
    match error {
        HandshakeError::Host => {
            "exactly one Host header is needed, and it must be a host; so must be the header of POSTERN_HOST_HEADER"
        }
        HandshakeError::IdentityInvalid => {
            "the user id is longer than 255 bytes, not UTF-8, or has a character that POSTERN_USER_ID_CHARSET forbids"
        }
        HandshakeError::SessionIdInvalid => {
            "the session id is longer than 255 bytes, not UTF-8, or has a character that POSTERN_USER_ID_CHARSET forbids"
        }
        HandshakeError::AssertionMissing => {
            "no assertion: the gateway did not send the header that POSTERN_ASSERTION_HEADER names"
        }
        HandshakeError::Assertion(AssertionError::Issuer) => {
            "the issuer of the assertion is not POSTERN_ASSERTION_ISSUER"
        }
        HandshakeError::Assertion(AssertionError::Audience) => {
            "the assertion is for nobody in POSTERN_ASSERTION_AUDIENCE"
        }
        HandshakeError::Assertion(AssertionError::Subject) => {
            "the assertion has no text and no whole number in the claims that POSTERN_ASSERTION_ID_CLAIM names"
        }
        HandshakeError::PeerNotTrusted => {
            "the peer is not a trusted proxy; add its address to POSTERN_TRUSTED_PROXIES if it is your gateway"
        }
        HandshakeError::ProxySecret => {
            "the request must carry the secret of POSTERN_PROXY_SECRET, in exactly one header line"
        }
        HandshakeError::OriginNotAllowed => {
            "the page's origin is not that of Host; add it to POSTERN_ALLOWED_ORIGINS if it is yours, or set \
             POSTERN_HOST_HEADER if the gateway changes Host"
        }
        HandshakeError::NotFound => "nothing is served at this path; POSTERN_PATH names the paths",
        HandshakeError::HeadTooLarge => {
            "the request head is larger than POSTERN_MAX_HEAD; raise it if cookies or tokens are that large"
        }
        HandshakeError::TooManyHeaders => "the request has more header lines than POSTERN_MAX_HEADERS",
        HandshakeError::LogStalled => {
            "this instance cannot write its log, and POSTERN_LOG_STALL=pause keeps it from losing records; try again"
        }
        other => other.message(),
    }
}
