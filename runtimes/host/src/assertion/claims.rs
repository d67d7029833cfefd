//! The verification of one token: its signature, issuer, audience and time, and its claims about a user.
//!
//! jsonwebtoken verifies the signature, the issuer and the audience. This module verifies the time, because the library would
//! read the clock itself, and does not verify `iat`.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation};
use postern_core::handshake::{Asserted, AssertionError, IdCharset, Identity};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::AssertionSettings;
use super::keys::{Candidates, KeySet};
use super::signatures;

/// The allowed difference between the issuer's clock and ours, in seconds: a token is accepted for this long after its expiry
/// and before its start. Google recommends the same value.
pub(super) const LEEWAY: u64 = 30;

/// The requirements on a token.
#[derive(Debug)]
pub(super) struct Rules {
    validation: Validation,
    id_claims: Vec<String>,
    email_claims: Vec<String>,
    name_claims: Vec<String>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The set does not contain its key. A newer set may contain it. If there is no newer set, the token breaks this rule.
    UnknownKey(AssertionError),
    /// It is refused with any set of keys.
    Final(AssertionError),
}

impl From<AssertionError> for Refusal {
    fn from(error: AssertionError) -> Refusal {
        Refusal::Final(error)
    }
}

impl Rules {
    pub(super) fn new(settings: &AssertionSettings) -> Rules {
        signatures::install();
        // `verify` replaces the algorithm.
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&settings.audience);
        validation.validate_exp = false;
        Rules {
            validation,
            id_claims: settings.id_claims.clone(),
            email_claims: settings.email_claims.clone(),
            name_claims: settings.name_claims.clone(),
        }
    }

    /// Verifies a token in JWS Compact Serialization (RFC 7515 §7.1).
    ///
    /// # Errors
    /// The first rule that it breaks. Rules about claims come after the signature.
    pub(super) fn verify(&self, token: &[u8], keys: &KeySet, now: SystemTime) -> Result<Asserted, Refusal> {
        let claims: Map<String, Value> = decode(token, keys, &self.validation)?;
        // The library also accepts a list that contains the issuer. RFC 7519 §4.1.1 requires a string.
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(AssertionError::Claims.into());
        }
        let names = [&self.id_claims, &self.email_claims, &self.name_claims];
        Ok(user(&claims, names.map(Vec::as_slice), now)?)
    }
}

/// Returns what the claims of a verified token say about its user: the id, the e-mail address and the name are in these claims.
///
/// # Errors
/// The token is not valid now, or has no id of a user.
pub(super) fn user(
    claims: &Map<String, Value>,
    [id_claims, email_claims, name_claims]: [&[String]; 3],
    now: SystemTime,
) -> Result<Asserted, AssertionError> {
    let expires_at = check_time(claims, now)?;
    let id = id(claims, id_claims)?;
    let text = |names: &[String]| {
        let texts = names.iter().filter_map(|name| find(claims, name)?.as_str());
        texts.filter(|text| !text.is_empty()).map(str::to_owned).next().unwrap_or_default()
    };
    // An id that cannot be the id of a token identifies no token, and is not a reason to refuse one that is valid.
    let token_id = claims.get("jti").and_then(Value::as_str).filter(|id| is_token_id(id));
    Ok(Asserted {
        id,
        email: text(email_claims),
        name: text(name_claims),
        expires_at,
        issued_at: claims.get("iat").and_then(seconds),
        token_id: token_id.unwrap_or_default().to_owned(),
    })
}

fn is_token_id(id: &str) -> bool {
    id.len() <= Identity::MAX_ID && IdCharset::Strict.admits(id)
}

/// Verifies the signature of a token with the keys of a set, and the claims that `validation` requires. Returns its claims.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn decode<C: DeserializeOwned>(
    token: &[u8],
    keys: &KeySet,
    validation: &Validation,
) -> Result<C, Refusal> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| AssertionError::Malformed)?;
    // RFC 7515 §4.1.11: a token with a critical extension that is not supported is refused, and none is supported.
    if header.alg.family() == AlgorithmFamily::Hmac || header.crit.is_some() {
        return Err(AssertionError::Malformed.into());
    }
    // `jku`, `jwk`, `x5u` and `x5c` are ignored: an attacker would name their own key in them.
    let Candidates { keys, is_named } = keys.find(header.kid.as_deref(), header.alg);
    let validation = Validation { algorithms: vec![header.alg], ..validation.clone() };
    let mut decoded = Err(AssertionError::Key);
    for key in keys {
        decoded = jsonwebtoken::decode::<C>(token, key, &validation).map_err(|error| broken_rule(&error));
        if !matches!(decoded, Err(AssertionError::Signature)) {
            break;
        }
    }
    match decoded {
        Ok(token) => Ok(token.claims),
        Err(error @ (AssertionError::Key | AssertionError::Signature)) if !is_named => {
            Err(Refusal::UnknownKey(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the user's id: the first of these claims that is present and not empty. If all that are present are empty, the
/// result is empty, which the rules of identities refuse.
///
/// The digits of a whole number of at most 64 bits without a sign are an id. Other numbers are refused, because they can be
/// written in several ways (`42.0`, `1e3`), are not exact as floating point, or mean "no user" (`-1`).
fn id(claims: &Map<String, Value>, names: &[String]) -> Result<String, AssertionError> {
    let mut found = Err(AssertionError::Subject);
    for name in names {
        match find(claims, name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => found = Ok(String::new()),
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(Value::Number(number)) => {
                return number.as_u64().map(|number| number.to_string()).ok_or(AssertionError::Subject);
            }
            // The next claim could be the id of another user than the issuer means.
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(AssertionError::Subject),
        }
    }
    found
}

/// Returns a claim by its name, or by its path in nested objects, such as `user.id`. A claim whose own name contains the dots,
/// as a URL does, takes precedence.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let outer = claims.get(name.get(..dot)?)?.as_object()?;
            find(outer, name.get(dot + 1..)?)
        })
    })
}

/// Returns the rule behind an error of the library. The text of the error is not logged, because texts of JSON and base64
/// errors quote the token.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others mean that it is not signed with this key")]
pub(super) fn broken_rule(error: &jsonwebtoken::errors::Error) -> AssertionError {
    match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) => AssertionError::Malformed,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::MissingRequiredClaim(_) => {
            AssertionError::Claims
        }
        ErrorKind::InvalidIssuer => AssertionError::Issuer,
        ErrorKind::InvalidAudience => AssertionError::Audience,
        _ => AssertionError::Signature,
    }
}

/// Returns when the token expires, if it is valid now (RFC 7519 §4.1.4 to §4.1.6).
fn check_time(claims: &Map<String, Value>, now: SystemTime) -> Result<u64, AssertionError> {
    // With a clock before 1970, every token is from the future.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expires_at = claims.get("exp").and_then(seconds).ok_or(AssertionError::Claims)?;
    if now >= expires_at.saturating_add(LEEWAY) {
        return Err(AssertionError::Expired);
    }
    for starts_at in ["nbf", "iat"].into_iter().filter_map(|claim| claims.get(claim)) {
        if seconds(starts_at).ok_or(AssertionError::Claims)? > now.saturating_add(LEEWAY) {
            return Err(AssertionError::NotYetValid);
        }
    }
    Ok(expires_at)
}

/// Parses a NumericDate (RFC 7519 §2): seconds since 1970. A fraction is ignored.
pub(super) fn seconds(date: &Value) -> Option<u64> {
    let fractional = || date.as_f64().filter(|date| (0.0..1e18).contains(date)).map(|date| date as u64);
    date.as_u64().or_else(fractional)
}
