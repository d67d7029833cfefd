//! The thread that keeps the keys fresh.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};

use super::cache::{Cache, LIFE};
use super::source::{FILE_INTERVAL, Fetched, Fetcher, KeySource};

/// Fetches keys into a cache.
pub(super) struct Refresher {
    source: KeySource,
    fetcher: Fetcher,
    cache: Arc<Cache>,
    /// Attempts that failed since the last good one.
    failures: u32,
    log: Logger,
}

impl Refresher {
    pub(super) fn new(source: &KeySource, cache: Arc<Cache>, log: Logger) -> Refresher {
        Refresher { source: source.clone(), fetcher: Fetcher::new(source), cache, failures: 0, log }
    }

    /// Fetches once, and returns how long to wait before the next time.
    ///
    /// # Errors
    /// What went wrong. The last good set stays.
    pub(super) fn fetch(&mut self) -> Result<Duration, String> {
        self.cache.begin();
        match self.fetcher.fetch() {
            Ok(fetched) => {
                if self.failures > 0 {
                    info!(self.log, "assertion keys can be fetched again"; "source" => %self.source);
                    self.failures = 0;
                }
                Ok(self.keep(fetched))
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let age = self.cache.fail(Instant::now());
                let source = self.source.to_string();
                let consequence = match age {
                    Some(age) if age < LIFE => "the last ones stay",
                    Some(_) => "the last ones are too old, and upgrades are refused with 503",
                    None => "upgrades are refused with 503",
                };
                warn!(self.log, "cannot fetch the assertion keys; {consequence}";
                    "source" => source, "error" => &error, "age_s" => age.map(|age| age.as_secs()));
                Err(error)
            }
        }
    }

    fn keep(&self, fetched: Option<Fetched>) -> Duration {
        let now = Instant::now();
        let Some(Fetched { keys, next }) = fetched else {
            self.cache.confirm(now);
            return FILE_INTERVAL;
        };
        let count = keys.len();
        let news = match self.cache.keys(now) {
            None => Some("assertion keys loaded"),
            Some(known) if !known.is_same(&keys) => Some("assertion keys changed"),
            Some(_) => None,
        };
        self.cache.replace(keys, now);
        if let Some(news) = news {
            info!(self.log, "{news}"; "source" => %self.source, "keys" => count);
        }
        next
    }

    /// Fetches on a thread of its own: at once, or after `first`, and then as often as the answers say, after
    /// failures, and whenever `wake` says so. The thread ends when nobody can wake it any more; a process need not
    /// wait for that.
    ///
    /// # Errors
    /// No thread was to be had.
    pub(super) fn spawn(mut self, first: Duration, wake: Receiver<()>) -> io::Result<()> {
        let run = move || {
            let mut wait = first;
            loop {
                match wake.recv_timeout(wait) {
                    Ok(()) => {
                        info!(self.log, "an assertion names an unknown key; fetching the assertion keys")
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                wait = self.fetch().unwrap_or_else(|_| retry(self.failures));
            }
        };
        thread::Builder::new().name("assertion-keys".to_owned()).spawn(run).map(drop)
    }
}

/// How long to wait after so many failures in a row: 1 s, then twice as long each time, up to a minute.
fn retry(failures: u32) -> Duration {
    let seconds = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds.clamp(1, 60))
}
