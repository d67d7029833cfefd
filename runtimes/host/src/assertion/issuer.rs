//! The keys of one issuer, and verification with them while they may change.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use postern_core::handshake::AssertionError;
use slog::Logger;

use super::Refresh;
use super::cache::{Cache, Unknown};
use super::claims::Refusal;
use super::keys::KeySet;
use super::refresh::{Cause, Refresher, Subject};
use super::source::KeySource;

/// The keys of one issuer. The thread that fetches them ends when this and all [`Refresh`] are dropped.
pub(super) struct IssuerKeys {
    pub(super) cache: Arc<Cache>,
    /// Requests a fetch.
    wake: Sender<Cause>,
}

impl IssuerKeys {
    /// Reads keys from a file, or starts to fetch them from a URL.
    ///
    /// # Errors
    /// The file cannot be read or contains no usable keys, or the thread cannot be started.
    pub(super) fn start(source: &KeySource, subject: Subject, log: &Logger) -> io::Result<IssuerKeys> {
        let cache = Arc::new(Cache::default());
        let mut refresher = Refresher::new(source, subject, cache.clone(), log.clone());
        let first = match source {
            KeySource::Url(_) => Duration::ZERO,
            KeySource::File(_) => refresher.fetch().map_err(|failure| io::Error::other(failure.error))?,
        };
        let (wake, woken) = mpsc::channel();
        refresher.spawn(first, woken)?;
        Ok(IssuerKeys { cache, wake })
    }

    /// Returns the means to request a fetch.
    pub(super) fn refresh(&self) -> Refresh {
        Refresh(self.wake.clone())
    }

    /// Verifies a token with the current keys, and requests a fetch if its key is unknown.
    ///
    /// # Errors
    /// The rule that it breaks. `KeysUnavailable` if there are no keys, or the next ones may contain its key.
    pub(super) fn verify<T>(
        &self,
        now: Instant,
        verify: impl Fn(&KeySet) -> Result<T, Refusal>,
    ) -> Result<T, AssertionError> {
        loop {
            let keys = self.cache.keys(now).ok_or(AssertionError::KeysUnavailable)?;
            let error = match verify(&keys) {
                Ok(verified) => return Ok(verified),
                Err(Refusal::Final(error)) => error,
                Err(Refusal::UnknownKey(error)) => match self.cache.miss(&keys, now) {
                    Unknown::Again => continue,
                    // Without the thread, the keys do not change any more.
                    Unknown::Ask if self.wake.send(Cause::UnknownKey).is_err() => error,
                    Unknown::Ask | Unknown::Wait => AssertionError::KeysUnavailable,
                    Unknown::Refuse => error,
                },
            };
            return Err(error);
        }
    }
}
