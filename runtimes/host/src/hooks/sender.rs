//! The thread that sends events.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slog::{Logger, info, warn};
use ureq::http::Request;
use ureq::http::header::RETRY_AFTER;

use super::queue::{Batch, BatchEnd};
use super::signature::SigningSecrets;
use super::{SINGLE, Shared};
use crate::outbound::{Answer, Client, ClientConfig, HttpUrl};

/// Sends the events of a queue, one request after the other, so that the backend gets them in their order.
pub(super) struct Sender {
    url: HttpUrl,
    client: Client,
    secrets: SigningSecrets,
    shared: Arc<Shared>,
    /// Failed requests since the last successful one.
    failures: u32,
    /// The number of dropped events that was logged last, and when.
    reported: (u64, Option<Instant>),
    log: Logger,
}

/// The result of one request.
enum Outcome {
    Accepted,
    /// The backend will not accept these events.
    Refused(String),
    /// The backend may accept them later, not before this time has passed.
    Failed(String, Duration),
}

impl Sender {
    pub(super) fn new(url: &HttpUrl, secrets: SigningSecrets, shared: Arc<Shared>, log: Logger) -> Sender {
        let client = Client::new(url, CLIENT);
        Sender { url: url.clone(), client, secrets, shared, failures: 0, reported: (0, None), log }
    }

    /// Starts the thread, which ends after [`Queue::finish`](super::queue::Queue::finish). A process does not need to wait for
    /// it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn spawn(mut self) -> io::Result<()> {
        let run = move || {
            while let Some(batch) = self.shared.queue.next(&self.shared.source) {
                self.deliver(&batch);
                self.report_dropped();
            }
            self.report_dropped();
        };
        thread::Builder::new().name("hooks".to_owned()).spawn(run).map(drop)
    }

    /// Sends a batch until the backend accepts or refuses it, or it is too old.
    fn deliver(&mut self, batch: &Batch) {
        let start = Instant::now();
        let end = loop {
            match self.send(batch) {
                Outcome::Accepted => break BatchEnd::Delivered,
                Outcome::Refused(error) => {
                    self.shared.queue.count_failure();
                    warn!(self.log, # "hook_refused", "the backend refuses events, which are lost";
                        "url" => %self.url, "error" => error, "events" => batch.count);
                    break BatchEnd::Refused;
                }
                Outcome::Failed(error, least) => {
                    self.shared.queue.count_failure();
                    self.failures = self.failures.saturating_add(1);
                    if start.elapsed() >= MAX_AGE {
                        warn!(self.log, # "hook_expired", "events are lost, because the backend has not accepted them in time";
                            "url" => %self.url, "error" => error, "events" => batch.count);
                        break BatchEnd::Expired;
                    }
                    // At the 1st, 2nd, 4th, 8th… failure.
                    if self.failures.is_power_of_two() {
                        warn!(self.log, # "hook_failed", "cannot send events to the backend; trying again";
                            "url" => %self.url, "error" => error, "failures" => self.failures);
                    }
                    self.report_dropped();
                    self.pause(least);
                }
            }
        };
        if end == BatchEnd::Delivered && self.failures > 0 {
            info!(self.log, # "hook_recovered", "events can be sent again"; "url" => %self.url);
            self.failures = 0;
        }
        self.shared.queue.complete(batch, end);
    }

    fn send(&self, batch: &Batch) -> Outcome {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let media_type = if batch.count == 1 { SINGLE } else { BATCH };
        let request = Request::post(self.url.uri())
            .header("Content-Type", media_type)
            .header("webhook-id", &batch.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secrets.sign(&batch.id, timestamp, batch.body.as_bytes()))
            .body(batch.body.clone().into_bytes());
        let answer = match request {
            Ok(request) => self.client.send(request, None),
            // It cannot happen, because all values are ASCII.
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        match answer {
            Ok(Answer { status: 200..300, .. }) => Outcome::Accepted,
            // Statuses that are about the body: the next attempt would get the same one.
            Ok(Answer { status: status @ (400 | 413 | 415 | 422), .. }) => {
                Outcome::Refused(format!("the answer has the status {status}"))
            }
            Ok(Answer { status: status @ 300..400, .. }) => {
                let error = format!("the answer is a redirect ({status}), which is not followed");
                Outcome::Failed(error, Duration::ZERO)
            }
            Ok(Answer { status, headers, .. }) => {
                let seconds =
                    headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let least = Duration::from_secs(seconds.unwrap_or(0)).min(MAX_PAUSE);
                Outcome::Failed(format!("the answer has the status {status}"), least)
            }
            Err(error) => Outcome::Failed(error.to_string(), Duration::ZERO),
        }
    }

    /// Waits before the next attempt, for `least` at least.
    fn pause(&self, least: Duration) {
        if self.shared.queue.is_closed() {
            // The process ends soon.
            thread::sleep(END_PAUSE);
        } else {
            let random = RandomState::new().hash_one(self.failures);
            self.shared.queue.pause(pause_after(self.failures, random).max(least));
        }
    }

    /// Logs the number of events that were dropped since the last time, at most once a minute.
    fn report_dropped(&mut self) {
        let dropped = self.shared.queue.stats().dropped;
        let (before, at) = self.reported;
        let is_due = at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) || self.shared.queue.is_closed();
        if dropped > before && is_due {
            warn!(self.log, # "hook_events_dropped", "events for the backend were dropped, because too many wait";
                "url" => %self.url, "count" => dropped - before);
            self.reported = (dropped, Some(Instant::now()));
        }
    }
}

/// Returns how long to wait after this number of consecutive failures: half to all of 1 s, doubled each time, up to a minute.
/// `random` has random bits.
pub(super) fn pause_after(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    let most = Duration::from_secs(1 << doublings).min(MAX_PAUSE);
    most / 2 + (most / 2).mul_f64(random as f64 / u64::MAX as f64)
}

const CLIENT: ClientConfig = ClientConfig {
    timeout: Duration::from_secs(10),
    // The body of an answer is not used.
    max_body: 64 * 1024,
    max_idle: 1,
    accept: "*/*",
};

/// The media type of several events.
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";

/// The longest time between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The time between two attempts while the process ends.
const END_PAUSE: Duration = Duration::from_millis(500);

/// The time after which a batch is given up: a deployment of the backend takes less, and later events are more useful.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// The least time between two log records about dropped events.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
