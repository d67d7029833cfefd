//! Signed identities: a token in a header, verified with the keys of its issuer. Also the tokens of channels.
//!
//! A gateway such as Pomerium, Google's Identity-Aware Proxy or Cloudflare Access signs the identity of the user (a JWT,
//! RFC 7519). A client that bypasses the gateway cannot forge it. The plain identity headers are ignored in this mode.
//!
//! * `presets`: the values that the known gateways use.
//! * `source`: one attempt to get the keys, from a URL or a file.
//! * `keys`: a JWK Set, and which key may verify which token.
//! * `cache`: the current keys.
//! * `refresh`: the thread that fetches the keys again.
//! * `issuer`: the keys of one issuer, and verification with them.
//! * `claims`: one token.
//! * `signatures`: the verification of signatures.
//! * `tokens`: connection tokens and subscription tokens of channels.
//!
//! A failed fetch does not affect users with valid tokens: the last valid set is used for a day. A token with an unknown key
//! causes at most one fetch per minute, and clients that connect during a fetch are asked to try again. A file is read every two
//! seconds even if its metadata have not changed, because volumes and deployment tools preserve modification times.

mod cache;
mod claims;
mod issuer;
mod keys;
mod presets;
mod refresh;
mod signatures;
mod source;
mod tokens;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

use postern_core::handshake::{Asserted, Assertion, AssertionError, AssertionVerifier};
use slog::{Logger, info, warn};

use crate::url;
use claims::Rules;
use issuer::IssuerKeys;
use refresh::{Cause, Subject};

pub use presets::Preset;
pub use source::KeySource;
pub(crate) use tokens::UserClaims;
pub use tokens::{StartedTokens, TokenSettings, TokenVerifier, start_tokens};

/// The tokens that are accepted, and the claims of them that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionSettings {
    /// The header with the token.
    pub header: String,
    /// The required value of the claim `iss`, compared byte by byte.
    pub issuer: String,
    /// The claim `aud` must contain one of these.
    pub audience: Vec<String>,
    /// The source of the issuer's keys.
    pub keys: KeySource,
    /// The claims with the user's id: the first one that is present and not empty. A dot separates the names of nested objects.
    pub id_claims: Vec<String>,
    /// The claims with the e-mail address, for the log.
    pub email_claims: Vec<String>,
    /// The claims with the display name, for the log.
    pub name_claims: Vec<String>,
}

/// Creates the verifier of assertions, and starts to fetch its keys. Does nothing without settings.
///
/// Keys in a file have been read when it returns. It does not wait for keys of a URL: until they have been fetched, upgrades are
/// refused with 503. The thread that fetches keys ends when the last clone of the verifier and of [`Refresh`] is dropped.
///
/// # Errors
/// The file cannot be read or contains no usable keys, or the thread cannot be started.
pub fn start(settings: Option<&AssertionSettings>, log: &Logger) -> io::Result<Option<(Assertion, Refresh)>> {
    let Some(settings) = settings else { return Ok(None) };
    let verifier = JwtVerifier::start(settings, log)?;
    let refresh = verifier.keys.refresh();
    Ok(Some((Assertion { header: settings.header.clone(), verifier: Arc::new(verifier) }, refresh)))
}

/// Requests that the keys are read or fetched again.
#[derive(Debug, Clone)]
pub struct Refresh(Sender<Cause>);

impl Refresh {
    /// Requests it, and does not wait.
    pub(crate) fn request(&self) {
        // It fails only if the thread that fetches keys has ended.
        let _ = self.0.send(Cause::Operator);
    }
}

/// Verifies JSON Web Tokens with keys that may change at any time.
struct JwtVerifier {
    rules: Rules,
    keys: IssuerKeys,
}

impl JwtVerifier {
    fn start(settings: &AssertionSettings, log: &Logger) -> io::Result<JwtVerifier> {
        info!(log, # "assertion_enabled", "identities come from signed tokens in the header {}", settings.header;
            "issuer" => %url::redact_url(&settings.issuer), "audience" => settings.audience.join(","),
            "keys" => %settings.keys);
        if settings.keys.is_exposed() {
            warn!(log, # "settings_warning", "POSTERN_ASSERTION_JWKS_INSECURE: the assertion keys come over plain http. \
                Anyone on the network path can replace them, and then be any user"; "keys" => %settings.keys);
        }
        let keys = IssuerKeys::start(&settings.keys, Subject::Assertions, log).map_err(|error| {
            io::Error::other(format!("POSTERN_ASSERTION_JWKS={}: {error}", settings.keys))
        })?;
        Ok(JwtVerifier { rules: Rules::new(settings), keys })
    }

    fn verify_at(&self, token: &[u8], clock: SystemTime, now: Instant) -> Result<Asserted, AssertionError> {
        self.keys.verify(now, |keys| self.rules.verify(token, keys, clock))
    }
}

impl AssertionVerifier for JwtVerifier {
    fn verify(&self, token: &[u8]) -> Result<Asserted, AssertionError> {
        self.verify_at(token, SystemTime::now(), Instant::now())
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("rules", &self.rules).finish_non_exhaustive()
    }
}
