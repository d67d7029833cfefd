//! The check of a token with a secret or with public keys.

use std::time::{Instant, SystemTime};

use postern_core::handshake::{AssertionError, Identity, IdentityRules, IdentityValues, NameEncoding};
use postern_core::{BearerToken, Verdict};

use crate::assertion::{TokenVerifier, UserClaims};

/// Checks a token now.
pub(super) fn check(keys: &TokenVerifier, rules: IdentityRules, token: &BearerToken) -> Verdict {
    verdict(keys.user(token.as_bytes(), SystemTime::now(), Instant::now()), rules)
}

/// Returns the verdict for the claims of a token.
pub(crate) fn verdict(verified: Result<UserClaims, AssertionError>, rules: IdentityRules) -> Verdict {
    match verified {
        Ok(claims) => identity(&claims, rules).map_or(Verdict::Refused, Verdict::Valid),
        Err(AssertionError::KeysUnavailable) => Verdict::Unknown,
        Err(_) => Verdict::Refused,
    }
}

fn identity(UserClaims { user, session_id }: &UserClaims, rules: IdentityRules) -> Option<Identity> {
    let number = |time: u64| time.min(MAX_EXP).to_string();
    let issued_at = user.issued_at.map(number).unwrap_or_default();
    // Encodings are for headers. Names in JSON are not encoded.
    let rules = IdentityRules { names: NameEncoding::Raw, ..rules };
    let identity = rules.identity(&IdentityValues {
        id: user.id.as_bytes(),
        email: user.email.as_bytes(),
        name: user.name.as_bytes(),
        session_id: session_id.as_bytes(),
        token_exp: number(user.expires_at).as_bytes(),
        token_issued_at: issued_at.as_bytes(),
        token_id: user.token_id.as_bytes(),
    });
    identity.ok()
}

/// The latest time of [`Identity::MAX_EXP_DIGITS`] digits, thousands of years from now.
const MAX_EXP: u64 = 99_999_999_999;
