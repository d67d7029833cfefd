//! Signed identities: one header with a token, instead of plain headers that every system on the way could write.
//!
//! The core does not verify tokens: that needs keys, which have to be fetched, and a clock. The host provides an
//! [`AssertionVerifier`]. This module finds the token, applies the rules of identity headers to its header, and makes an
//! [`Identity`] of the claims.

use std::fmt;
use std::sync::Arc;

use super::assertion_error::AssertionError;
use super::display::NameEncoding;
use super::error::HandshakeError;
use super::identity::{Identity, IdentityRules, IdentityValues};
use super::single_header::SingleHeader;

/// The header with the token, and its verifier. With an assertion in [`HandshakeConfig`](super::HandshakeConfig), no user is
/// admitted without a token, and the plain identity headers are ignored.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// The name of the header, compared without case.
    pub header: String,
    /// The verifier, shared by all workers of a process.
    pub verifier: Arc<dyn AssertionVerifier>,
}

/// Verifies signed tokens.
///
/// A worker calls it once for each upgrade that has a token, and cannot serve other connections until it returns. It must not
/// wait for keys: it returns [`AssertionError::KeysUnavailable`], and another thread fetches them.
pub trait AssertionVerifier: fmt::Debug + Send + Sync {
    /// Returns the claims of the token if it is signed by the issuer, for this audience, and valid now. `token` is the value of
    /// the header without the scheme `Bearer`. It is not empty, and may contain any bytes that a header can contain.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    fn verify(&self, token: &[u8]) -> Result<Asserted, AssertionError>;
}

/// The claims of a valid token about a user, unchanged. [`IdentityRules`] are applied to them afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asserted {
    /// The id of the user.
    pub id: String,
    /// The e-mail address, for the log; empty if there is none.
    pub email: String,
    /// The display name, for the log; empty if there is none.
    pub name: String,
    /// When the token expires, in seconds since 1970, without the leeway that the verifier allows. It becomes
    /// [`Identity::token_exp`].
    pub expires_at: u64,
    /// When the token was issued, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// The id of the token; empty if there is none.
    pub token_id: String,
}

impl Assertion {
    /// Returns the identity that the token in `header` asserts. The token may follow the scheme `Bearer`.
    ///
    /// # Errors
    /// There is not exactly one line with a token, the verifier refuses it, or a claim breaks a rule of identities.
    pub(super) fn identity(
        &self,
        header: &SingleHeader<'_>,
        rules: IdentityRules,
    ) -> Result<Identity, HandshakeError> {
        let token = header.value()?.map(without_scheme).filter(|token| !token.is_empty());
        let token = token.ok_or(HandshakeError::AssertionMissing)?;
        let asserted = self.verifier.verify(token)?;
        // A token whose expiry exceeds the maximum still expires thousands of years from now.
        let token_exp = asserted.expires_at.min(Identity::MAX_EXP).to_string();
        let issued_at = asserted.issued_at.map(|time| time.min(Identity::MAX_EXP).to_string());
        let issued_at = issued_at.unwrap_or_default();
        // Encodings are for headers. Names in JSON are not encoded.
        IdentityRules { names: NameEncoding::Raw, ..rules }.identity(&IdentityValues {
            id: asserted.id.as_bytes(),
            email: asserted.email.as_bytes(),
            name: asserted.name.as_bytes(),
            session_id: b"",
            token_exp: token_exp.as_bytes(),
            token_issued_at: issued_at.as_bytes(),
            token_id: asserted.token_id.as_bytes(),
        })
    }
}

impl From<AssertionError> for HandshakeError {
    fn from(error: AssertionError) -> HandshakeError {
        HandshakeError::Assertion(error)
    }
}

/// Returns the value without the scheme `Bearer`, in any case, and the spaces after it (RFC 9110 §11.4, RFC 6750 §2.1). Some
/// gateways add the scheme in other headers than `Authorization`, too. A token contains no space, so none begins like this.
fn without_scheme(value: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at(SCHEME.len().min(value.len()));
    let is_scheme = scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(|byte| *byte == b' ');
    if is_scheme { rest.trim_ascii_start() } else { value }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;

    use super::*;
    use crate::handshake::{
        HandshakeConfig, IdentityHeaders, Peer, Reply, TokenDetails, UpgradeRequest, reject,
    };

    /// Accepts tokens of the form `user:ID`. For a token that is the name of an error it returns that error.
    #[derive(Debug)]
    struct ByName;

    impl AssertionVerifier for ByName {
        fn verify(&self, token: &[u8]) -> Result<Asserted, AssertionError> {
            let token = std::str::from_utf8(token).map_err(|_| AssertionError::Malformed)?;
            if let Some(error) = AssertionError::all().into_iter().find(|error| format!("{error:?}") == token)
            {
                return Err(error);
            }
            let id = token.strip_prefix("user:").ok_or(AssertionError::Malformed)?;
            let (email, name) = ("ann@example.com".to_owned(), "Ann\u{7} 李 ".to_owned());
            let token_id = "t-1".to_owned();
            Ok(Asserted { id: id.to_owned(), email, name, expires_at: 1, issued_at: Some(0), token_id })
        }
    }

    fn identify(lines: &str) -> Result<Identity, HandshakeError> {
        identify_by("X-Assertion", lines)
    }

    fn identify_by(header: &str, lines: &str) -> Result<Identity, HandshakeError> {
        let assertion = Assertion { header: header.to_owned(), verifier: Arc::new(ByName) };
        let config = HandshakeConfig { assertion: Some(assertion), ..HandshakeConfig::default() };
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut head = head.into_bytes();
        let request = UpgradeRequest::parse(&mut head, &config)?;
        Ok(request.identify(peer, &config)?.identity().clone())
    }

    #[track_caller]
    fn refused(lines: &str, status: u16, code: &str) {
        let error = identify(lines).expect_err(lines);
        assert_eq!((error.status(), error.code()), (status, code), "{lines}");
    }

    #[test]
    fn the_identity_is_that_of_the_token() {
        let user = identify("x-assertion: user:42\r\n").expect("a user");
        assert_eq!((user.id(), user.email(), user.name()), ("42", Some("ann@example.com"), Some("Ann 李")));
        let token = TokenDetails { exp: Some(1), issued_at: Some(0), id: Some("t-1") };
        assert_eq!((user.session_id(), user.token()), (None, token));
    }

    #[test]
    fn plain_identity_headers_are_ignored() {
        let IdentityHeaders { id, email, name, .. } = IdentityHeaders::default();
        for plain in [
            format!("{id}: admin\r\n"),
            format!("{id}: admin\r\n{id}: root\r\n{email}: a@b\r\n{name}: Admin\r\n"),
            "user_id: admin\r\nConnection: User-ID\r\n".to_owned(),
            format!("{id}: \u{e9} {{}},\r\n{name}: \u{1}\r\n"),
        ] {
            let user = identify(&format!("{plain}X-Assertion: user:42\r\n")).expect("a user");
            assert_eq!((user.id(), user.name()), ("42", Some("Ann 李")), "{plain}");
            refused(&plain, 401, "assertion_missing");
            refused(&format!("{plain}X-Assertion: forged\r\n"), 401, "assertion_invalid");
        }
    }

    #[test]
    fn an_upgrade_without_a_token_is_refused() {
        refused("", 401, "assertion_missing");
        refused("X-Assertion:\r\n", 401, "assertion_missing");
        refused("X-Assertion: \t \r\n", 401, "assertion_missing");
    }

    #[test]
    fn a_bearer_token_is_the_token_without_its_scheme() {
        for header in ["Authorization", "X-Assertion"] {
            for scheme in ["Bearer ", "bearer ", "BEARER ", "bEaReR   ", ""] {
                let user = identify_by(header, &format!("{header}: {scheme}user:42\r\n")).expect(scheme);
                assert_eq!(user.id(), "42", "{header}: {scheme}");
            }
            for empty in ["Bearer", "bearer ", "Bearer \t "] {
                let error = identify_by(header, &format!("{header}: {empty}\r\n")).expect_err(empty);
                assert_eq!(error, HandshakeError::AssertionMissing, "{header}: {empty}");
            }
            for other in
                ["Basic dXNlcjo0Mg==", "Beareruser:42", "Bearer-user:42", "Bearer,user:42", "user:42"]
            {
                let line = format!("{header}: Bearer user:1\r\n{header}: {other}\r\n");
                assert_eq!(
                    identify_by(header, &line),
                    Err(HandshakeError::IdentityTwice),
                    "{header}: {other}"
                );
            }
            for other in ["Basic dXNlcjo0Mg==", "Beareruser:42", "Bearer-user:42", "Bearer Bearer user:42"] {
                let error = identify_by(header, &format!("{header}: {other}\r\n")).expect_err(other);
                assert_eq!(error, AssertionError::Malformed.into(), "{header}: {other}");
            }
        }
    }

    #[test]
    fn a_second_token_an_alias_or_a_nomination_is_refused() {
        let line = "X-Assertion: user:42\r\n";
        refused(&format!("{line}{line}"), 400, "identity_twice");
        refused(&format!("{line}X-ASSERTION:\r\n"), 400, "identity_twice");
        refused(&format!("{line}X_Assertion: user:1\r\n"), 400, "identity_alias");
        refused("x.assertion: user:1\r\n", 400, "identity_alias");
        refused(&format!("{line}Connection: keep-alive, x-assertion\r\n"), 400, "identity_nominated");
        assert!(identify(&format!("{line}X-Assertions: a\r\nXAssertion: b\r\nConnection: x\r\n")).is_ok());
    }

    #[test]
    fn each_refusal_of_the_verifier_has_its_answer() {
        use AssertionError as E;
        for error in E::all() {
            let (status, code) = match error {
                E::Malformed | E::Key | E::Signature | E::Claims => (401, "assertion_invalid"),
                E::Expired | E::NotYetValid => (401, "assertion_not_now"),
                E::Issuer => (401, "assertion_issuer"),
                E::Audience => (401, "assertion_audience"),
                E::Subject => (401, "assertion_subject"),
                E::KeysUnavailable => (503, "assertion_keys_unavailable"),
            };
            refused(&format!("X-Assertion: {error:?}\r\n"), status, code);
            let refusal = HandshakeError::from(error);
            assert_eq!(error.to_string(), refusal.message());
            assert_eq!(refusal.is_temporary(), status == 503, "{error:?}");
        }
    }

    /// The client learns the kind of the rule, not the rule.
    #[test]
    fn each_rule_has_a_detail_of_its_own_that_no_answer_contains() {
        let errors = AssertionError::all();
        let details: HashSet<&str> = errors.iter().map(|error| error.detail()).collect();
        assert_eq!(details.len(), errors.len(), "two rules with the same detail");
        for error in errors {
            let refusal = HandshakeError::from(error);
            assert_eq!(refusal.detail(), Some(error.detail()));
            // In the term format, a value ends at a comma.
            assert!(!error.detail().contains([',', '"', '\\']), "{}", error.detail());
            let mut answer = Vec::new();
            reject(&mut answer, refusal, Reply { retry_after: 1, ..Reply::default() });
            let answer = String::from_utf8(answer).expect("ASCII");
            assert!(!answer.contains(error.detail()), "{answer}");
        }
        assert_eq!(HandshakeError::AssertionMissing.detail(), None);
    }

    #[test]
    fn an_asserted_id_must_satisfy_the_rules_of_ids() {
        assert_eq!(identify("X-Assertion: user:accounts.google.com:1234\r\n").map(drop), Ok(()));
        refused("X-Assertion: user:\r\n", 401, "identity_missing");
        refused("X-Assertion: user:a b\r\n", 400, "identity_invalid");
        refused(&format!("X-Assertion: user:{}\r\n", "x".repeat(256)), 400, "identity_invalid");
    }
}
