//! Checks of tokens that clients send on open connections: the token of a `refresh`, of a first message, or of a connection whose
//! token is checked again.
//!
//! * `keys`: verifies a token with the secret or the keys of the tokens of channels.
//! * `service`: asks the service that the gateway asks about each request, at `POSTERN_AUTH_URL`.
//! * `tokens`: the tokens of channels when the service checks connection tokens.
//! * `cache`: the recent answers of that service, and the checks that wait for one.
//!
//! A worker never waits for a check: it passes a callback, which is called once, on the same thread or on another one.

mod cache;
mod keys;
mod service;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_core::handshake::{HandshakeConfig, IdentityRules};
use postern_core::{TokenCheck, Verdict};
use slog::{Logger, info, warn};

use crate::assertion::TokenVerifier;
use crate::outbound::HttpUrl;
use service::AuthService;

#[cfg(test)]
pub(crate) use keys::verdict;
pub(crate) use tokens::tokens;

/// The service that checks tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// The URL at which a gateway asks.
    pub(crate) url: HttpUrl,
    /// The time for which an answer is used again. Zero asks each time.
    pub(crate) cache: Duration,
}

/// Checks tokens. It can be shared by threads.
#[derive(Debug)]
pub struct Checker {
    source: Source,
    rules: IdentityRules,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Source {
    Keys(Arc<TokenVerifier>),
    Service(AuthService),
}

/// Figures of the checks of a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckStats {
    /// Tokens that held, that did not hold, and about which nothing was known.
    pub(crate) outcomes: [u64; 3],
    /// Requests to the service.
    pub(crate) requests: u64,
}

#[derive(Debug, Default)]
struct Counts {
    outcomes: [AtomicU64; 3],
    requests: AtomicU64,
}

impl Checker {
    /// Creates a checker. It asks the service, if there is one, and otherwise uses the keys. Returns `None` without both.
    pub(crate) fn start(
        service: Option<&AuthSettings>,
        keys: Option<&Arc<TokenVerifier>>,
        handshake: &HandshakeConfig,
        log: &Logger,
    ) -> Option<Arc<Checker>> {
        let rules = handshake.identity_rules;
        let counts = Arc::new(Counts::default());
        let source = match (service, keys) {
            (Some(settings), _) => {
                let url = &settings.url;
                info!(log, # "auth_enabled", "tokens on open connections are checked by a service"; "url" => %url);
                if url.is_exposed() {
                    warn!(log, # "settings_warning", "POSTERN_AUTH_URL: tokens are sent over plain http. Anyone on the network path \
                        can read them"; "url" => %url);
                }
                Source::Service(AuthService::new(settings, handshake, TIMEOUT, counts.clone(), log))
            }
            (None, Some(keys)) => Source::Keys(keys.clone()),
            (None, None) => return None,
        };
        Some(Arc::new(Checker { source, rules, counts }))
    }

    /// Checks a token, and does not wait. `done` is called once, on this thread or on another one. It must not block.
    pub(crate) fn check(&self, check: &TokenCheck, done: impl FnOnce(Verdict) + Send + 'static) {
        let counts = self.counts.clone();
        let done = move |verdict: Verdict| {
            counts.add(&verdict);
            done(verdict);
        };
        match &self.source {
            Source::Keys(keys) => done(keys::check(keys, self.rules, &check.token)),
            Source::Service(service) => service.check(check, Box::new(done)),
        }
    }

    /// Returns figures.
    pub(crate) fn stats(&self) -> CheckStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CheckStats {
            outcomes: self.counts.outcomes.each_ref().map(load),
            requests: load(&self.counts.requests),
        }
    }
}

impl Counts {
    fn add(&self, verdict: &Verdict) {
        let [valid, refused, unknown] = &self.outcomes;
        let count = match verdict {
            Verdict::Valid(_) => valid,
            Verdict::Refused => refused,
            Verdict::Unknown => unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Receives the result of a check.
type Done = Box<dyn FnOnce(Verdict) + Send>;

/// The longest time from a check to the answer of the service.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
