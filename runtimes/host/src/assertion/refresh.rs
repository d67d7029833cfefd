//! The thread that fetches the keys repeatedly.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};

use super::cache::{Cache, LIFE};
use super::source::{FILE_INTERVAL, Fetched, Fetcher, KeySource};

/// Why keys are fetched before the interval has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A token needs an unknown key.
    UnknownKey,
    /// An operator has requested it.
    Operator,
}

/// The tokens that the keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Assertions,
    Tokens,
}

impl Subject {
    /// Returns the noun for the log.
    fn noun(self) -> &'static str {
        match self {
            Subject::Assertions => "assertion",
            Subject::Tokens => "token",
        }
    }

    /// Returns the consequence of a lack of keys.
    fn refused(self) -> &'static str {
        match self {
            Subject::Assertions => "upgrades are refused with 503",
            Subject::Tokens => "tokens cannot be verified",
        }
    }
}

/// Fetches keys into a cache.
pub(super) struct Refresher {
    source: KeySource,
    subject: Subject,
    fetcher: Fetcher,
    cache: Arc<Cache>,
    /// Failed attempts since the last successful one.
    failures: u32,
    log: Logger,
}

/// A failed attempt to fetch keys.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error, for the log.
    pub(super) error: String,
    /// The time since the current keys were last confirmed, if there are any.
    age: Option<Duration>,
}

impl Refresher {
    pub(super) fn new(source: &KeySource, subject: Subject, cache: Arc<Cache>, log: Logger) -> Refresher {
        Refresher { source: source.clone(), subject, fetcher: Fetcher::new(source), cache, failures: 0, log }
    }

    /// Fetches once, and returns how long to wait before the next attempt.
    ///
    /// # Errors
    /// The attempt failed. The last valid set remains in use.
    pub(super) fn fetch(&mut self) -> Result<Duration, Failure> {
        self.cache.begin();
        let fetched =
            self.fetcher.fetch().map_err(|error| Failure { error, age: self.cache.fail(Instant::now()) })?;
        let wait = self.store(fetched);
        // Logged after the keys are in effect, so that a reader of the log can rely on them.
        if self.failures > 0 {
            info!(self.log, # "assertion_keys_recovered", "{} keys can be fetched again", self.subject.noun(); "source" => %self.source);
            self.failures = 0;
        }
        Ok(wait)
    }

    fn store(&self, fetched: Option<Fetched>) -> Duration {
        let now = Instant::now();
        let Some(Fetched { keys, next }) = fetched else {
            self.cache.confirm(now);
            return FILE_INTERVAL;
        };
        let count = keys.len();
        let change = match self.cache.keys(now) {
            None => Some("loaded"),
            Some(known) if !known.is_same(&keys) => Some("changed"),
            Some(_) => None,
        };
        self.cache.replace(keys, now);
        if let Some(change) = change {
            info!(self.log, # "assertion_keys_changed", "{} keys {change}", self.subject.noun(); "source" => %self.source, "keys" => count);
        }
        next
    }

    /// Logs a failure, and returns how long to wait before the next attempt.
    pub(super) fn record_failure(&mut self, failure: &Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match self.source {
            KeySource::Url(_) => {
                self.warn(failure);
                retry(self.failures)
            }
            // A file is still read as often as before, so that it is used as soon as it is complete. Failures are logged at
            // growing intervals.
            KeySource::File(_) => {
                if self.failures.is_multiple_of(FILE_REMINDER) || self.failures.is_power_of_two() {
                    self.warn(failure);
                }
                FILE_INTERVAL
            }
        }
    }

    fn warn(&self, Failure { error, age }: &Failure) {
        let (noun, refused) = (self.subject.noun(), self.subject.refused());
        match age {
            None => {
                warn!(self.log, # "assertion_keys_failed", "cannot fetch the {noun} keys; {refused}";
                "source" => %self.source, "error" => error)
            }
            Some(age) => {
                let consequence = if *age < LIFE {
                    "remain in use".to_owned()
                } else {
                    format!("are too old, and {refused}")
                };
                warn!(self.log, # "assertion_keys_failed", "cannot fetch the {noun} keys; the last ones {consequence}";
                    "source" => %self.source, "error" => error, "age_s" => age.as_secs());
            }
        }
    }

    /// Starts a thread that fetches after `first`, after each interval, after failures, and on each message of `wake`. The thread
    /// ends when all senders of `wake` are dropped. A process does not need to wait for it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn spawn(mut self, first: Duration, wake: Receiver<Cause>) -> io::Result<()> {
        let run = move || {
            let mut wait = first;
            loop {
                match wake.recv_timeout(wait) {
                    Ok(Cause::UnknownKey) => {
                        info!(self.log, # "assertion_keys_requested", "a token names an unknown key; fetching the {} keys", self.subject.noun())
                    }
                    Ok(Cause::Operator) => {}
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                // One fetch serves all requests so far.
                while wake.try_recv().is_ok() {}
                wait = self.fetch().unwrap_or_else(|failure| self.record_failure(&failure));
            }
        };
        thread::Builder::new().name("assertion-keys".to_owned()).spawn(run).map(drop)
    }
}

/// A file that cannot be used is logged at least once per this number of attempts, which is every ten minutes.
const FILE_REMINDER: u32 = 300;

/// Returns how long to wait after this number of consecutive failures: 1 s, doubled each time, up to a minute.
fn retry(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    Duration::from_secs((1 << doublings).min(60))
}
