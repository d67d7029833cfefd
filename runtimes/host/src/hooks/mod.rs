//! Events for a backend: connections that are opened and closed, channels that get their first subscription or lose their last
//! one.
//!
//! * `event`: an event in the format of CloudEvents 1.0.
//! * `queue`: the events that wait to be sent, in their order.
//! * `signature`: the signature of a request, in the form of Standard Webhooks.
//! * `sender`: the thread that sends events, and repeats failed requests.
//!
//! * `decisions`: the threads that ask the backend about commands of clients.
//! * `question`, `answer`: the bodies of these requests and of their answers.
//!
//! Workers put events into the queue and never wait. If the queue is full, events are dropped and counted, and the backend finds
//! a gap in their numbers. The queue and the thread exist only with `POSTERN_HOOK_URL`.

mod answer;
mod decisions;
mod event;
mod question;
mod queue;
mod sender;
mod signature;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::hooks::{HookAnswer, HookRequest};
use postern_core::Record;
use slog::{Logger, info, warn};

use crate::outbound::HttpUrl;
use decisions::Decisions;
pub(crate) use decisions::{DecisionStats, HOOKS, OUTCOMES};
use event::{Event, Source};
use queue::Queue;
use sender::Sender;
pub(crate) use signature::SigningSecrets;

/// The URL to which events are sent, and the keys that sign them.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// The URL of the backend.
    pub(crate) url: HttpUrl,
    /// The keys of the signatures, at least one.
    pub(crate) secrets: SigningSecrets,
    /// The time that the backend has for a decision.
    pub(crate) timeout: Duration,
    /// The most requests for decisions at the same time.
    pub(crate) concurrency: usize,
}

impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSettings").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Parses secrets that are separated by commas. A secret that begins with `whsec_` is in base64 after that.
///
/// # Errors
/// The end of a sentence that begins with the setting. It does not quote a secret.
pub(crate) fn secrets(text: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    text.split(',').map(|secret| signature::parse_secret(secret.trim())).collect()
}

/// The media type of a request with one event.
const SINGLE: &str = "application/cloudevents+json; charset=utf-8";

/// Figures of the events of a process.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HookStats {
    /// Events that the backend has accepted.
    pub(crate) delivered: u64,
    /// Events that found the queue full.
    pub(crate) dropped: u64,
    /// Events that the backend has refused.
    pub(crate) refused: u64,
    /// Events that could not be delivered in time.
    pub(crate) expired: u64,
    /// Requests without the answer 200 to 299.
    pub(crate) failures: u64,
    /// Events in the queue.
    pub(crate) queued: usize,
    /// Decisions about commands.
    pub(crate) decisions: DecisionStats,
}

/// Accepts events, if they are sent anywhere.
#[derive(Clone, Default)]
pub struct Hooks(Option<Arc<Shared>>);

struct Shared {
    queue: Queue,
    source: Source,
    decisions: Decisions,
}

impl Hooks {
    /// Starts the thread that sends events. Does nothing without settings. `instance` is the number of the process in the ids of
    /// requests.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(settings: Option<&HookSettings>, instance: u32, log: &Logger) -> io::Result<Hooks> {
        let Some(settings) = settings else { return Ok(Hooks::default()) };
        let HookSettings { url, secrets, .. } = settings;
        let source = Source::of_this_host(instance);
        let decisions = Decisions::new(settings, source.clone(), log.clone());
        let shared = Arc::new(Shared { queue: Queue::default(), source, decisions });
        Sender::new(url, secrets.clone(), shared.clone(), log.clone()).spawn()?;
        info!(log, # "hooks_enabled", "events are sent to a backend"; "url" => %url);
        if url.is_exposed() {
            warn!(log, # "settings_warning", "POSTERN_HOOK_URL: the events are sent over plain http. Anyone on the network path can \
                read them"; "url" => %url);
        }
        Ok(Hooks(Some(shared)))
    }

    /// Adds the event of a record, if it has one.
    pub(crate) fn record(&self, record: &Record<'_>) {
        if let Some(shared) = &self.0
            && let Some(event) = Event::of_record(record, &shared.source)
        {
            shared.queue.push(event);
        }
    }

    /// Adds the event of a channel that has got its first subscription, or has lost its last one.
    pub(crate) fn channel(&self, channel: &str, is_occupied: bool) {
        if let Some(shared) = &self.0 {
            shared.queue.push(Event::of_channel(channel, is_occupied));
        }
    }

    /// Returns figures, if events are sent anywhere.
    pub(crate) fn stats(&self) -> Option<HookStats> {
        let shared = self.0.as_ref()?;
        Some(HookStats { decisions: shared.decisions.stats(), ..shared.queue.stats() })
    }

    /// Asks the backend about a command. `complete` is called once with the answer, on this thread or another one, and must not
    /// block. Without a backend the request fails.
    pub(crate) fn ask(&self, request: &HookRequest, complete: impl FnOnce(HookAnswer) + Send + 'static) {
        match &self.0 {
            Some(shared) => shared.decisions.ask(request, complete),
            None => complete(HookAnswer::Failed),
        }
    }

    /// Waits until all events are sent, but not longer than until `deadline`. Calls `is_urgent` every 50 ms, and ends when it
    /// returns true. No event is added after that. Returns the number of events that are lost.
    pub(crate) fn finish(&self, deadline: Instant, is_urgent: impl FnMut() -> bool) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.queue.finish(deadline, is_urgent))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hooks").field(&self.stats()).finish()
    }
}
