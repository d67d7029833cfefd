//! The recent answers of the service, and the checks that wait for an answer.
//!
//! The key is a hash of the token with random keys, so the cache contains no token, and a client cannot choose two tokens with
//! the same key.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postern_core::Verdict;

use super::Done;

/// The keyed hash of a token and of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

#[derive(Debug)]
pub(super) struct Cache {
    hashes: [RandomState; 2],
    /// The time for which a definite answer is used.
    life: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The answers, until when each of them is used.
    answers: HashMap<Key, (Verdict, Instant)>,
    /// Their keys, the oldest first.
    order: VecDeque<Key>,
    /// The checks that wait for the answer to a request.
    waiting: HashMap<Key, Vec<Done>>,
    /// The number of all of them.
    count: usize,
}

/// The next step of a check.
pub(super) enum Step {
    /// Nothing: the answer is known, or another check has asked.
    Done,
    /// Ask the service, and call [`Cache::complete`].
    Ask,
}

impl Cache {
    pub(super) fn new(life: Duration) -> Cache {
        Cache { hashes: [RandomState::new(), RandomState::new()], life, state: Mutex::default() }
    }

    /// Returns the key of a token for a path.
    pub(super) fn key(&self, token: &[u8], path: &str) -> Key {
        let [high, low] = self.hashes.each_ref().map(|hash| u128::from(hash.hash_one((token, path))));
        Key(high << 64 | low)
    }

    /// Answers a check, or adds it to those that wait.
    pub(super) fn begin(&self, key: Key, done: Done, now: Instant) -> Step {
        let mut state = self.state();
        if let Some((verdict, until)) = state.answers.get(&key)
            && now < *until
        {
            let verdict = verdict.clone();
            drop(state);
            done(verdict);
            return Step::Done;
        }
        if state.count >= MOST_WAITING {
            drop(state);
            done(Verdict::Unknown);
            return Step::Done;
        }
        state.count += 1;
        let waiting = state.waiting.entry(key).or_default();
        waiting.push(done);
        if waiting.len() == 1 { Step::Ask } else { Step::Done }
    }

    /// Keeps an answer, and completes the checks that wait for it.
    pub(super) fn complete(&self, key: Key, verdict: &Verdict, now: Instant) {
        let life = match verdict {
            Verdict::Valid(_) | Verdict::Refused => self.life,
            Verdict::Unknown => self.life.min(UNKNOWN_LIFE),
        };
        let mut state = self.state();
        let waiting = state.waiting.remove(&key).unwrap_or_default();
        state.count = state.count.saturating_sub(waiting.len());
        if !life.is_zero() {
            if state.answers.insert(key, (verdict.clone(), now + life)).is_none() {
                state.order.push_back(key);
            }
            state.forget(now);
        }
        drop(state);
        waiting.into_iter().for_each(|done| done(verdict.clone()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of answers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().answers.len()
    }
}

impl State {
    /// Removes the oldest answers while they are too old or too many.
    fn forget(&mut self, now: Instant) {
        while let Some(&oldest) = self.order.front() {
            let is_old = self.answers.get(&oldest).is_none_or(|(_, until)| *until <= now);
            if !is_old && self.answers.len() <= MOST_ANSWERS {
                return;
            }
            self.order.pop_front();
            self.answers.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("answers", &self.answers.len()).field("waiting", &self.count).finish()
    }
}

/// The most answers that are kept, at some 300 bytes each.
pub(super) const MOST_ANSWERS: usize = 16 * 1024;

/// The most checks that wait. One more is answered at once, as unknown.
pub(super) const MOST_WAITING: usize = 16 * 1024;

/// The time after which the service is asked again about a token if it has failed to answer.
const UNKNOWN_LIFE: Duration = Duration::from_secs(1);
