//! Connection tokens and subscription tokens of channels: the signature, the issuer and the audience. The claims are judged by
//! `postern_channels::claims`.
//!
//! A token is signed with HS256 and the secret, or with a key of a JWK Set. The key determines the algorithm: HS256 is accepted
//! with the secret only, and a public key is never used as a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_channels::claims::{
    ConnectionClaims, Fault, Overrides, SubscriptionClaims, SubscriptionDetails, TokenClaims, Tokens,
};
use postern_core::handshake::{Asserted, AssertionError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use slog::{Logger, info, warn};

use super::Refresh;
use super::claims;
use super::issuer::IssuerKeys;
use super::refresh::Subject;
use super::signatures;
use super::source::KeySource;
use crate::url;

/// The tokens of channels that are accepted.
#[derive(Clone, Default)]
pub struct TokenSettings {
    /// The secret for HS256. `None` refuses all tokens with HS256.
    pub secret: Option<Vec<u8>>,
    /// The source of public keys. `None` refuses all tokens with other algorithms.
    pub keys: Option<KeySource>,
    /// The required value of the claim `iss`. `None` accepts any.
    pub issuer: Option<String>,
    /// The claim `aud` must contain one of these. Empty accepts any.
    pub audience: Vec<String>,
}

/// Without the secret.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenSettings { secret: _, keys, issuer, audience } = self;
        f.debug_struct("TokenSettings")
            .field("keys", keys)
            .field("issuer", issuer)
            .field("audience", audience)
            .finish_non_exhaustive()
    }
}

/// A verifier of tokens, and the means to request its keys again if they come from a JWK Set.
pub type StartedTokens = (Arc<TokenVerifier>, Option<Refresh>);

/// Creates the verifier of the tokens of channels, and starts to fetch its keys, as for [assertions](super::start). Does nothing
/// without settings.
///
/// # Errors
/// See [`TokenVerifier::start`].
pub fn start_tokens(settings: Option<&TokenSettings>, log: &Logger) -> io::Result<Option<StartedTokens>> {
    let Some(settings) = settings else { return Ok(None) };
    let keys = settings.keys.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    info!(log, # "tokens_enabled", "tokens of channels are accepted";
        "hs256" => settings.secret.is_some(), "keys" => keys,
        "issuer" => %url::redact_url(settings.issuer.as_deref().unwrap_or("any")),
        "audience" => settings.audience.join(","));
    if settings.keys.as_ref().is_some_and(KeySource::is_exposed) {
        warn!(log, # "settings_warning", "POSTERN_TOKEN_JWKS_INSECURE: the token keys come over plain http. \
            Anyone on the network path can replace them, and then subscribe to any channel");
    }
    let verifier = TokenVerifier::start(settings, log)
        .map_err(|error| io::Error::other(format!("POSTERN_TOKEN_JWKS: {error}")))?;
    let refresh = verifier.keys.as_ref().map(IssuerKeys::refresh);
    Ok(Some((Arc::new(verifier), refresh)))
}

/// The claims of a verified token about its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserClaims {
    pub(crate) user: Asserted,
    /// `sid`: the session. Empty if there is none.
    pub(crate) session_id: String,
}

/// Verifies tokens of channels. It can be shared by threads.
pub struct TokenVerifier {
    validation: Validation,
    secret: Option<DecodingKey>,
    keys: Option<IssuerKeys>,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("validation", &self.validation).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// Creates a verifier, and starts to fetch the keys of the JWK Set, if there is one, as for
    /// [assertions](super::start).
    ///
    /// # Errors
    /// The file of keys cannot be read or contains no usable keys, or the thread cannot be started.
    pub fn start(settings: &TokenSettings, log: &Logger) -> io::Result<TokenVerifier> {
        signatures::install();
        // `decode` replaces the algorithm.
        let mut validation = Validation::new(Algorithm::HS256);
        let mut required = Vec::new();
        match &settings.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        validation.validate_aud = !settings.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&settings.audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        // Times are judged together with the other claims.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let secret = settings.secret.as_deref().filter(|secret| !secret.is_empty());
        Ok(TokenVerifier {
            validation,
            secret: secret.map(DecodingKey::from_secret),
            keys: settings
                .keys
                .as_ref()
                .map(|keys| IssuerKeys::start(keys, Subject::Tokens, log))
                .transpose()?,
        })
    }

    /// Verifies a connection token, and returns its claims.
    ///
    /// # Errors
    /// It is not signed by the issuer, or its claims are not of the required types.
    pub fn connection(&self, token: &[u8]) -> Result<ConnectionClaims, Fault> {
        let claims: Claims = self.verify(token)?;
        claims.connection().ok_or(Fault::Invalid)
    }

    /// Verifies a subscription token, and returns its claims.
    ///
    /// # Errors
    /// It is not signed by the issuer, or its claims are not of the required types.
    pub fn subscription(&self, token: &[u8]) -> Result<SubscriptionClaims, Fault> {
        let claims: Claims = self.verify(token)?;
        claims.subscription().ok_or(Fault::Invalid)
    }

    /// Verifies a token about a user, which must have `exp` and `sub`, and may have `email`, `name`, `iat`, `jti` and `sid`.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn user(
        &self,
        token: &[u8],
        clock: SystemTime,
        now: Instant,
    ) -> Result<UserClaims, AssertionError> {
        let claims: Map<String, Value> = self.decode(token, now)?;
        // The library also accepts a list that contains the issuer. RFC 7519 §4.1.1 requires a string.
        if self.validation.iss.is_some() && !claims.get("iss").is_some_and(Value::is_string) {
            return Err(AssertionError::Claims);
        }
        let names = USER_CLAIMS.map(|name| [name.to_owned()]);
        let [id, email, name] = &names;
        let user = claims::user(&claims, [id, email, name], clock)?;
        let session_id = claims.get("sid").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(UserClaims { user, session_id })
    }

    fn verify(&self, token: &[u8]) -> Result<Claims, Fault> {
        self.decode(token, Instant::now()).map_err(|error| match error == AssertionError::KeysUnavailable {
            true => Fault::Unavailable,
            false => Fault::Invalid,
        })
    }

    fn decode<C: DeserializeOwned>(&self, token: &[u8], now: Instant) -> Result<C, AssertionError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AssertionError::Malformed)?;
        if header.alg == Algorithm::HS256 {
            // RFC 7515 §4.1.11: no critical extension is supported.
            let secret = self.secret.as_ref().filter(|_| header.crit.is_none());
            let secret = secret.ok_or(AssertionError::Malformed)?;
            let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
            let decoded = jsonwebtoken::decode(token, secret, &validation);
            return decoded.map(|token| token.claims).map_err(|error| claims::broken_rule(&error));
        }
        let keys = self.keys.as_ref().ok_or(AssertionError::Key)?;
        keys.verify(now, |keys| claims::decode(token, keys, &self.validation))
    }
}

impl Tokens for TokenVerifier {
    fn connection(&self, token: &str) -> Result<ConnectionClaims, Fault> {
        self.connection(token.as_bytes())
    }

    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, Fault> {
        self.subscription(token.as_bytes())
    }

    fn time(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The claims of both kinds of tokens. All others are ignored.
#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    channel: Option<String>,
    exp: Option<Value>,
    nbf: Option<Value>,
    expire_at: Option<Value>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Sub>>,
    r#override: Option<Override>,
}

/// An entry of `subs`.
#[derive(Deserialize)]
struct Sub {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    r#override: Option<Override>,
}

/// The claim `override`.
#[derive(Default, Deserialize)]
struct Override {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_positioning: Option<Switch>,
    force_recovery: Option<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    value: bool,
}

impl Claims {
    /// Returns `None` if a claim is not of its type.
    fn common(&self) -> Option<TokenClaims> {
        Some(TokenClaims {
            user: match &self.sub {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                // The digits of a whole number are an id, as in an assertion.
                Some(Value::Number(number)) => number.as_u64()?.to_string(),
                Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return None,
            },
            channel: self.channel.clone(),
            expires_at: time(self.exp.as_ref())?,
            not_before: time(self.nbf.as_ref())?,
            expire_at: time(self.expire_at.as_ref())?,
            info: bytes(self.info.as_deref(), self.b64info.as_deref())?,
        })
    }

    fn connection(self) -> Option<ConnectionClaims> {
        let common = self.common()?;
        let subs = self.subs.unwrap_or_default().into_iter();
        let subs = subs.map(|(channel, sub)| Some((channel, sub.details()?))).collect::<Option<_>>()?;
        Some(ConnectionClaims { common, channels: self.channels.unwrap_or_default(), subs })
    }

    fn subscription(self) -> Option<SubscriptionClaims> {
        let common = self.common()?;
        Some(SubscriptionClaims { common, overrides: self.r#override.unwrap_or_default().overrides() })
    }
}

impl Sub {
    fn details(self) -> Option<SubscriptionDetails> {
        Some(SubscriptionDetails {
            info: bytes(self.info.as_deref(), self.b64info.as_deref())?,
            data: bytes(self.data.as_deref(), self.b64data.as_deref())?,
            overrides: self.r#override.unwrap_or_default().overrides(),
        })
    }
}

impl Override {
    fn overrides(self) -> Overrides {
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_push_join_leave: value(self.force_push_join_leave),
            force_positioning: value(self.force_positioning),
            force_recovery: value(self.force_recovery),
        }
    }
}

/// Returns a time in seconds since 1970, `Some(None)` if it is absent, and `None` if it is not one.
fn time(date: Option<&Value>) -> Option<Option<u64>> {
    match date {
        None | Some(Value::Null) => Some(None),
        Some(date) => claims::seconds(date).map(Some),
    }
}

/// Returns a value of JSON or of base64, which takes precedence. `None` if the base64 is invalid. It counts as absent if it is
/// empty, and the JSON if it is `null`.
fn bytes(json: Option<&RawValue>, base64: Option<&str>) -> Option<Option<Vec<u8>>> {
    match base64.filter(|base64| !base64.is_empty()) {
        Some(base64) => STANDARD.decode(base64).ok().map(Some),
        None => {
            Some(json.map(RawValue::get).filter(|json| *json != "null").map(|json| json.as_bytes().to_vec()))
        }
    }
}

/// The claims of a token about a user: the id, the e-mail address and the name.
const USER_CLAIMS: [&str; 3] = ["sub", "email", "name"];
