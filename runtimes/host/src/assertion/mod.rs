//! The signed identity: a token in a header, judged with the keys of its issuer.
//!
//! A gateway such as Pomerium, Google's Identity-Aware Proxy or Cloudflare Access signs who the user is (a JWT,
//! RFC 7519). That holds even if somebody reaches Postern past the gateway, so nothing else is asked then: the plain
//! identity headers are not looked at.
//!
//! * `presets`: what the known gateways use.
//! * `source`: one attempt to get the keys, from a URL or a file.
//! * `keys`: a JWK Set, and which key may judge which token.
//! * `cache`: the keys as they are known now.
//! * `refresh`: the thread that keeps them fresh.
//! * `claims`: one token.
//!
//! What can go wrong with the keys never costs a user who has a good token: the last good set stays for a day. A key
//! that is not in it causes one fetch a minute at most, and clients that come while it lasts are asked to try again. A
//! file is read every two seconds, whatever its metadata say: volumes and deployment tools keep modification times.

mod cache;
mod claims;
mod keys;
mod presets;
mod refresh;
mod source;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant, SystemTime};

use postern_core::handshake::{Asserted, Assertion, AssertionError, AssertionVerifier};
use slog::{Logger, info, warn};

use crate::url;
use cache::{Cache, Unknown};
use claims::{Refusal, Rules};
use refresh::{Cause, Refresher};

pub use presets::Preset;
pub use source::KeySource;

/// Which tokens are believed, and what is taken from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionSettings {
    /// The header with the token.
    pub header: String,
    /// The claim `iss`, to the byte.
    pub issuer: String,
    /// What may stand in the claim `aud`: one of these must.
    pub audience: Vec<String>,
    /// Where the issuer's keys are.
    pub keys: KeySource,
    /// The claims with the user's id: the first of them that is there and not empty. A dot leads into an object.
    pub id_claims: Vec<String>,
    /// Those with the e-mail address, for the log.
    pub email_claims: Vec<String>,
    /// Those with the display name, for the log.
    pub name_claims: Vec<String>,
}

/// Makes the judge of assertions, and starts to fetch the keys it needs. Does nothing without settings.
///
/// Keys in a file are there when it returns. For those of a URL nobody waits: until they have come, upgrades are
/// refused with 503. The thread that fetches ends with the last of the connections' configurations and the [`Refresh`].
///
/// # Errors
/// The file cannot be read or holds no keys; no thread was to be had.
pub fn start(settings: Option<&AssertionSettings>, log: &Logger) -> io::Result<Option<(Assertion, Refresh)>> {
    let Some(settings) = settings else { return Ok(None) };
    let verifier = JwtVerifier::start(settings, log)?;
    let refresh = Refresh(verifier.wake.clone());
    Ok(Some((Assertion { header: settings.header.clone(), verifier: Arc::new(verifier) }, refresh)))
}

/// Has the keys read or fetched again.
#[derive(Debug, Clone)]
pub struct Refresh(Sender<Cause>);

impl Refresh {
    /// Asks for it, and does not wait.
    pub(crate) fn request(&self) {
        // It fails only if the thread that fetches is gone, and then there are no other keys.
        let _ = self.0.send(Cause::Operator);
    }
}

/// Judges JSON Web Tokens with keys that may change meanwhile.
struct JwtVerifier {
    rules: Rules,
    cache: Arc<Cache>,
    /// Asks for a fetch; the thread that does them ends with it.
    wake: Sender<Cause>,
}

impl JwtVerifier {
    fn start(settings: &AssertionSettings, log: &Logger) -> io::Result<JwtVerifier> {
        info!(log, # "assertion_enabled", "identities come from the header {}", settings.header;
            "issuer" => %url::redact_url(&settings.issuer), "audience" => settings.audience.join(","),
            "keys" => %settings.keys);
        if settings.keys.is_exposed() {
            warn!(log, # "settings_warning", "POSTERN_ASSERTION_JWKS_INSECURE: the assertion keys come over plain http. \
                Anyone on the network path can replace them, and then be any user"; "keys" => %settings.keys);
        }
        let cache = Arc::new(Cache::default());
        let mut refresher = Refresher::new(&settings.keys, cache.clone(), log.clone());
        let first = match &settings.keys {
            KeySource::Url(_) => Duration::ZERO,
            KeySource::File(_) => refresher.fetch().map_err(|failure| {
                io::Error::other(format!("POSTERN_ASSERTION_JWKS={}: {}", settings.keys, failure.error))
            })?,
        };
        let (wake, woken) = mpsc::channel();
        refresher.spawn(first, woken)?;
        Ok(JwtVerifier { rules: Rules::new(settings), cache, wake })
    }

    fn verify_at(&self, token: &[u8], clock: SystemTime, now: Instant) -> Result<Asserted, AssertionError> {
        loop {
            let keys = self.cache.keys(now).ok_or(AssertionError::KeysUnavailable)?;
            let error = match self.rules.verify(token, &keys, clock) {
                Ok(asserted) => return Ok(asserted),
                Err(Refusal::Final(error)) => error,
                Err(Refusal::UnknownKey(error)) => match self.cache.miss(&keys, now) {
                    Unknown::Again => continue,
                    // Without the thread there will be no other keys.
                    Unknown::Ask if self.wake.send(Cause::UnknownKey).is_err() => error,
                    Unknown::Ask | Unknown::Wait => AssertionError::KeysUnavailable,
                    Unknown::Refuse => error,
                },
            };
            return Err(error);
        }
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
