//! One token: its signature, its issuer, its audience, its time, and what it says about a user.
//!
//! jsonwebtoken verifies the signature, the issuer and the audience. The time is compared here: the library would ask
//! the clock itself, and knows no `iat`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation};
use postern_core::handshake::{Asserted, AssertionError};
use serde_json::{Map, Value};

use super::AssertionSettings;
use super::keys::{Found, KeySet};

/// How far the issuer's clock may be from ours, in seconds: for how long a token is still believed when it has
/// expired, and already before it begins. Google asks for as much.
pub(super) const LEEWAY: u64 = 30;

/// What a token must say.
#[derive(Debug)]
pub(super) struct Rules {
    validation: Validation,
    id_claims: Vec<String>,
    email_claims: Vec<String>,
    name_claims: Vec<String>,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its key is not in the set. A newer set may have it; if there is none, the token breaks this rule.
    UnknownKey(AssertionError),
    /// No newer set would change that.
    Final(AssertionError),
}

impl From<AssertionError> for Refusal {
    fn from(error: AssertionError) -> Refusal {
        Refusal::Final(error)
    }
}

impl Rules {
    pub(super) fn new(settings: &AssertionSettings) -> Rules {
        // The algorithm is set when the key is known.
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

    /// Judges a token in JWS Compact Serialization (RFC 7515 §7.1).
    ///
    /// # Errors
    /// The first rule that it breaks. What only a signed token can be told comes after the signature.
    pub(super) fn verify(&self, token: &[u8], keys: &KeySet, now: SystemTime) -> Result<Asserted, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| wrong_header(token))?;
        if header.alg.family() == AlgorithmFamily::Hmac {
            return Err(AssertionError::Algorithm.into());
        }
        // RFC 7515 §4.1.11: what we do not know and must is a reason to refuse, and we know no extension.
        if header.crit.is_some() {
            return Err(AssertionError::Critical.into());
        }
        // `jku`, `jwk`, `x5u` and `x5c` are the token's own word on which key it should be judged with.
        let (keys, is_named) = match keys.find(header.kid.as_deref(), header.alg) {
            Found::Named(keys) => (keys, true),
            Found::Possible(keys) => (keys, false),
            Found::Unknown => return Err(Refusal::UnknownKey(AssertionError::KeyUnknown)),
            Found::Unfit if header.kid.is_none() => {
                return Err(Refusal::UnknownKey(AssertionError::KeyUnnamed));
            }
            Found::Unfit => return Err(AssertionError::KeyUnfit.into()),
        };
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let mut decoded = Err(AssertionError::Signature);
        for key in keys {
            decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation)
                .map_err(|error| wrong_token(token, &error));
            if !matches!(decoded, Err(AssertionError::Signature)) {
                break;
            }
        }
        let claims = match decoded {
            Ok(token) => token.claims,
            // The key that signed it may be newer than the set.
            Err(error @ AssertionError::Signature) if !is_named => return Err(Refusal::UnknownKey(error)),
            Err(error) => return Err(error.into()),
        };
        // The library also takes a list in which the issuer stands; RFC 7519 §4.1.1 has one.
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(AssertionError::IssuerType.into());
        }
        let expires_at = check_time(&claims, now)?;
        let id = id(&claims, &self.id_claims)?;
        let text = |names: &[String]| {
            let texts = names.iter().filter_map(|name| find(&claims, name)?.as_str());
            texts.filter(|text| !text.is_empty()).map(str::to_owned).next().unwrap_or_default()
        };
        Ok(Asserted { id, email: text(&self.email_claims), name: text(&self.name_claims), expires_at })
    }
}

/// The user's id: the first of these claims that is present and not empty. If those that are present are empty, the result
/// is empty, which the rules of identities refuse.
///
/// A number is an id if it is written as a whole number of at most 64 bits without a sign: then its digits are the id,
/// exactly as the issuer wrote them. Others are refused, because there is more than one way to write them (`42.0`, `1e3`),
/// because they are not exact where they are read as floating point, or because issuers write them for "no user" (`-1`).
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
            // Taking the next claim instead could admit another user than the issuer means.
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(AssertionError::Subject),
        }
    }
    found
}

/// A claim by its name, or by the names of the objects that it is in with dots between them, such as `user.id`. A claim whose
/// name has dots itself, as a URL has, comes first.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let outer = claims.get(name.get(..dot)?)?.as_object()?;
            find(outer, name.get(dot + 1..)?)
        })
    })
}

/// Which rule a header breaks that the library could not read. Only for the log: it is refused in any case.
fn wrong_header(token: &[u8]) -> AssertionError {
    let has_three_parts = token.iter().filter(|byte| **byte == b'.').count() == 2;
    let Some(header) = object(token, 0).filter(|_| has_three_parts) else { return AssertionError::Form };
    let algorithm = header.get("alg").and_then(Value::as_str);
    if algorithm.is_none_or(|name| name.parse::<Algorithm>().is_err()) {
        AssertionError::Algorithm
    } else if header.get("crit").is_some_and(|crit| !crit.is_null()) {
        AssertionError::Critical
    } else {
        AssertionError::Header
    }
}

/// Which rule the library has found broken. Issuer and audience come after the signature: until then nothing in the
/// token is believed.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all others are ways to say that it is not signed by this key"
)]
fn wrong_token(token: &[u8], error: &jsonwebtoken::errors::Error) -> AssertionError {
    match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) => AssertionError::Form,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => wrong_claims(token),
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "iss" => AssertionError::IssuerType,
            "aud" => AssertionError::AudienceType,
            _ => AssertionError::ExpiryType,
        },
        ErrorKind::InvalidIssuer => AssertionError::Issuer,
        ErrorKind::InvalidAudience => AssertionError::Audience,
        _ => AssertionError::Signature,
    }
}

/// Which rule claims break that the library could not read. Only for the log, as well.
fn wrong_claims(token: &[u8]) -> AssertionError {
    let Some(claims) = object(token, 1) else { return AssertionError::Claims };
    let is = |claim: &str, type_of: fn(&Value) -> bool| claims.get(claim).is_some_and(type_of);
    if !is("exp", Value::is_number) {
        AssertionError::ExpiryType
    } else if !is("iss", Value::is_string) {
        AssertionError::IssuerType
    } else if !is("aud", |aud| {
        aud.is_string() || aud.as_array().is_some_and(|all| all.iter().all(Value::is_string))
    }) {
        AssertionError::AudienceType
    } else if claims.get("nbf").is_some_and(|nbf| !nbf.is_number()) {
        AssertionError::NotBeforeType
    } else {
        AssertionError::Claims
    }
}

/// A part of a token as the JSON object that it should be. Of a member that is there twice the last one counts.
fn object(token: &[u8], part: usize) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(token.split(|byte| *byte == b'.').nth(part)?).ok()?;
    serde_json::from_slice(&json).ok()
}

/// When the token expires, if it is valid now (RFC 7519 §4.1.4 to §4.1.6).
fn check_time(claims: &Map<String, Value>, now: SystemTime) -> Result<u64, AssertionError> {
    // A clock before 1970 makes every token one of the future.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expires_at = claims.get("exp").and_then(seconds).ok_or(AssertionError::ExpiryType)?;
    if now >= expires_at.saturating_add(LEEWAY) {
        return Err(AssertionError::Expired);
    }
    for (claim, wrong_type, too_early) in [
        ("nbf", AssertionError::NotBeforeType, AssertionError::TooEarly),
        ("iat", AssertionError::IssuedAtType, AssertionError::IssuedLater),
    ] {
        let Some(begins_at) = claims.get(claim) else { continue };
        if seconds(begins_at).ok_or(wrong_type)? > now.saturating_add(LEEWAY) {
            return Err(too_early);
        }
    }
    Ok(expires_at)
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction, which does not count.
fn seconds(date: &Value) -> Option<u64> {
    let fractional = || date.as_f64().filter(|date| (0.0..1e18).contains(date)).map(|date| date as u64);
    date.as_u64().or_else(fractional)
}
