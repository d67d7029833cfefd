//! The current keys of the issuer: read by the workers, replaced by the thread that fetches them.
//!
//! A process accepts one issuer and has one cache. A key of another issuer with the same id cannot be in it (CVE-2026-49998).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::keys::KeySet;

/// The time for which keys are used after the last successful fetch. An issuer that is unavailable for some hours must
/// not lock out all users, and a withdrawn key must become invalid eventually.
pub(super) const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The minimum time between two fetches because of unknown keys: every client can send such tokens.
pub(super) const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last valid set, and when the source was last found to have it.
    keys: Option<(Arc<KeySet>, Instant)>,
    /// Whether a fetch has been requested or is in progress.
    is_fetching: bool,
    /// When a token with an unknown key last caused a fetch.
    asked_at: Option<Instant>,
}

/// The reaction to a token with an unknown key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Request a fetch. The next set may contain the key.
    Ask,
    /// A fetch is in progress. The next set may contain the key.
    Wait,
    /// The keys were fetched less than [`UNKNOWN_KEY_INTERVAL`] ago, so the key does not belong to the issuer.
    Refuse,
    /// The keys have been replaced since the token was verified. Verify it again.
    Again,
}

impl Cache {
    /// Returns the keys, if there are any that are not older than [`LIFE`].
    pub(super) fn keys(&self, now: Instant) -> Option<Arc<KeySet>> {
        let state = self.state();
        let (keys, confirmed_at) = state.keys.as_ref()?;
        (now.saturating_duration_since(*confirmed_at) < LIFE).then(|| keys.clone())
    }

    /// Records that a token needs a key that is not in `seen`, the set with which it was verified.
    pub(super) fn miss(&self, seen: &Arc<KeySet>, now: Instant) -> Unknown {
        let mut state = self.state();
        // A fetch has ended since. Refusing the token would be based on the previous keys.
        if state.keys.as_ref().is_some_and(|(keys, _)| !Arc::ptr_eq(keys, seen)) {
            return Unknown::Again;
        }
        if state.is_fetching {
            return Unknown::Wait;
        }
        let is_recent = |asked_at: Instant| now.saturating_duration_since(asked_at) < UNKNOWN_KEY_INTERVAL;
        if state.asked_at.is_some_and(is_recent) {
            return Unknown::Refuse;
        }
        state.asked_at = Some(now);
        // Set here, and not when the thread starts the fetch: other clients wait for the same fetch.
        state.is_fetching = true;
        Unknown::Ask
    }

    /// Records that a fetch starts.
    pub(super) fn begin(&self) {
        self.state().is_fetching = true;
    }

    /// Records that a fetch has returned a set, and returns the previous one.
    pub(super) fn replace(&self, keys: KeySet, now: Instant) -> Option<Arc<KeySet>> {
        let mut state = self.state();
        state.is_fetching = false;
        state.keys.replace((Arc::new(keys), now)).map(|(keys, _)| keys)
    }

    /// Records that a fetch has found the set unchanged.
    pub(super) fn confirm(&self, now: Instant) {
        let mut state = self.state();
        state.is_fetching = false;
        if let Some((_, confirmed_at)) = &mut state.keys {
            *confirmed_at = now;
        }
    }

    /// Records that a fetch has failed. Returns the time since the current set was last confirmed, if there is one.
    pub(super) fn fail(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        state.is_fetching = false;
        state.keys.as_ref().map(|(_, confirmed_at)| now.saturating_duration_since(*confirmed_at))
    }

    /// Locks the state. The lock is held for a few assignments, once per handshake, so there is no contention worth
    /// avoiding.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
