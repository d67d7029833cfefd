//! The issuer's keys as they are known now: read by the workers, replaced by the thread that fetches them.
//!
//! One process believes one issuer, and has one cache, so a key is never found by its id alone: the same id of another
//! issuer is in nobody's cache here (CVE-2026-49998).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::keys::KeySet;

/// For how long keys are believed that could not be confirmed since. An issuer that is away for some hours must not
/// lock everyone out; one that has withdrawn a key must be heard in the end.
pub(super) const LIFE: Duration = Duration::from_secs(24 * 3600);

/// How often tokens with unknown keys may cause a fetch: anyone can send one.
pub(super) const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last good set, and when it was confirmed.
    keys: Option<(Arc<KeySet>, Instant)>,
    /// Whether a newer set may be on its way.
    is_fetching: bool,
    /// When a token with an unknown key caused a fetch the last time.
    asked_at: Option<Instant>,
}

/// What is to be done about a token with an unknown key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// To ask for a fetch. The key may be in the next set.
    Ask,
    /// A fetch is under way. The key may be in the next set.
    Wait,
    /// The keys were asked for not long ago. It is no key of the issuer.
    Refuse,
    /// Other keys have come since the token was looked at. It is to be looked at again.
    Again,
}

impl Cache {
    /// The keys, if there are any that may still be believed.
    pub(super) fn keys(&self, now: Instant) -> Option<Arc<KeySet>> {
        let state = self.state();
        let (keys, confirmed_at) = state.keys.as_ref()?;
        (now.saturating_duration_since(*confirmed_at) < LIFE).then(|| keys.clone())
    }

    /// Tells that a token named a key that is not among `seen`, the keys as they were when it was judged.
    pub(super) fn miss(&self, seen: &Arc<KeySet>, now: Instant) -> Unknown {
        let mut state = self.state();
        // A fetch that has ended meanwhile is no longer under way, and refusing would be for keys that are gone.
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
        // From now on, though the thread may take its time: whoever comes meanwhile waits for the same fetch.
        state.is_fetching = true;
        Unknown::Ask
    }

    /// Tells that a fetch begins.
    pub(super) fn begin(&self) {
        self.state().is_fetching = true;
    }

    /// Tells that it has ended, with a set, and returns the one before.
    pub(super) fn replace(&self, keys: KeySet, now: Instant) -> Option<Arc<KeySet>> {
        let mut state = self.state();
        state.is_fetching = false;
        state.keys.replace((Arc::new(keys), now)).map(|(keys, _)| keys)
    }

    /// Tells that it has ended, and that the set is still the one.
    pub(super) fn confirm(&self, now: Instant) {
        let mut state = self.state();
        state.is_fetching = false;
        if let Some((_, confirmed_at)) = &mut state.keys {
            *confirmed_at = now;
        }
    }

    /// Tells that it has ended without one. Returns for how long the set that stays has not been confirmed.
    pub(super) fn fail(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        state.is_fetching = false;
        state.keys.as_ref().map(|(_, confirmed_at)| now.saturating_duration_since(*confirmed_at))
    }

    /// Held for the time of a few assignments, and once for each handshake, so nobody waits for it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
