//! Requests to a backend about commands of clients, which wait for its decision.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_channels::hooks::{HookAnswer, HookCommand, HookRequest};
use slog::{Logger, info, warn};
use ureq::http::Request;

use super::answer::{Expected, decode};
use super::event::Source;
use super::signature::SigningSecrets;
use super::{HookSettings, question};
use crate::metrics::Histogram;
use crate::outbound::{Answer, Client, ClientConfig, HttpUrl, Pool, PoolConfig, RequestError};

/// Asks a backend for decisions. Threads exist only while there are requests.
pub(super) struct Decisions {
    pool: Pool,
    secrets: SigningSecrets,
    source: Source,
    /// The number of requests so far.
    sequence: AtomicU64,
    shared: Arc<Shared>,
}

/// The parts that a request needs until its end.
struct Shared {
    url: HttpUrl,
    stats: Mutex<DecisionStats>,
    /// The memory of the requests without an answer.
    bytes: AtomicUsize,
    /// Failed requests since the last successful one.
    failures: AtomicU64,
    log: Logger,
}

/// Figures of the requests of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecisionStats {
    /// The requests with an end, by the index of their hook in [`HOOKS`] and of their end in [`OUTCOMES`].
    pub(crate) outcomes: [[u64; OUTCOMES.len()]; HOOKS.len()],
    /// The time from the command to the answer, for requests that were sent.
    pub(crate) times: Histogram,
    /// Requests without an end.
    pub(crate) in_flight: usize,
}

impl Default for DecisionStats {
    fn default() -> DecisionStats {
        DecisionStats { outcomes: Default::default(), times: Histogram::new(&TIMES), in_flight: 0 }
    }
}

/// The names of hooks.
pub(crate) const HOOKS: [&str; 3] = ["subscribe", "publish", "rpc"];

/// The names of the ends of requests.
pub(crate) const OUTCOMES: [&str; 5] = ["allowed", "refused", "failed", "timeout", "overload"];

/// The end of a request, with its index in [`OUTCOMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allowed,
    Refused,
    Failed,
    Timeout,
    Overload,
}

impl Decisions {
    pub(super) fn new(settings: &HookSettings, source: Source, log: Logger) -> Decisions {
        let HookSettings { url, timeout, concurrency, secrets } = settings;
        let config = ClientConfig {
            timeout: *timeout,
            max_body: MAX_ANSWER,
            max_idle: *concurrency,
            accept: "application/json",
        };
        let client = Client::new(url, config);
        let config = PoolConfig {
            name: "hook-decisions",
            max_threads: *concurrency,
            max_queued: MAX_QUEUED,
            timeout: *timeout,
        };
        let shared = Shared {
            url: url.clone(),
            stats: Mutex::default(),
            bytes: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
            log,
        };
        let (pool, shared) = (Pool::new(client, config), Arc::new(shared));
        Decisions { pool, secrets: secrets.clone(), source, sequence: AtomicU64::new(0), shared }
    }

    /// Asks the backend about a command. `complete` is called once, on this thread or another one, and must not block.
    pub(super) fn ask(&self, request: &HookRequest, complete: impl FnOnce(HookAnswer) + Send + 'static) {
        let (hook, memory, start) = (index(&request.command), request.command.memory(), Instant::now());
        let end = move |shared: &Shared, outcome: Outcome, answer: HookAnswer| {
            shared.bytes.fetch_sub(memory, Ordering::Relaxed);
            let mut stats = shared.stats();
            stats.outcomes[hook][outcome as usize] += 1;
            stats.in_flight -= 1;
            if outcome != Outcome::Overload {
                stats.times.observe(start.elapsed());
            }
            drop(stats);
            complete(answer);
        };
        self.shared.stats().in_flight += 1;
        if self.shared.bytes.fetch_add(memory, Ordering::Relaxed) + memory > MAX_BYTES {
            self.shared.report(HOOKS[hook], "too many requests are queued");
            return end(&self.shared, Outcome::Overload, HookAnswer::Failed);
        }
        let http = match self.http(request) {
            Ok(http) => http,
            // It cannot happen, because all values are ASCII.
            Err(error) => {
                self.shared.report(HOOKS[hook], &error.to_string());
                return end(&self.shared, Outcome::Failed, HookAnswer::Failed);
            }
        };
        // Taken by the callback, or by this function if the request is not accepted.
        let end = Arc::new(Mutex::new(Some(end)));
        let take = |end: &Mutex<Option<_>>| end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (shared, of_callback, expected) = (self.shared.clone(), end.clone(), Expected::of(request));
        let submitted = self.pool.submit(http, move |answer| {
            let (outcome, answer) = shared.judge(hook, answer, &expected);
            if let Some(end) = take(&of_callback) {
                end(&shared, outcome, answer);
            }
        });
        if let Err(error) = submitted
            && let Some(end) = take(&end)
        {
            self.shared.report(HOOKS[hook], &error.to_string());
            end(&self.shared, Outcome::Overload, HookAnswer::Failed);
        }
    }

    fn http(&self, request: &HookRequest) -> Result<Request<Vec<u8>>, ureq::http::Error> {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let id = self.source.request_id(number);
        let body = question::write(request, &id, &self.source);
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = format!("msg_{id}");
        Request::post(self.shared.url.uri())
            .header("Content-Type", super::SINGLE)
            .header("webhook-signature", self.secrets.sign(&id, timestamp, body.as_bytes()))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .body(body.into_bytes())
    }

    pub(super) fn stats(&self) -> DecisionStats {
        self.shared.stats().clone()
    }
}

impl Shared {
    /// Returns the end of a request, and the answer for its client.
    fn judge(
        &self,
        hook: usize,
        answer: Result<Answer, RequestError>,
        expected: &Expected,
    ) -> (Outcome, HookAnswer) {
        let decoded = match answer {
            Ok(Answer { status: 200, body, .. }) => {
                decode(&body, expected).map_err(|error| (Outcome::Failed, format!("the answer {error}")))
            }
            Ok(Answer { status: status @ 300..400, .. }) => {
                Err((Outcome::Failed, format!("the answer is a redirect ({status}), which is not followed")))
            }
            Ok(Answer { status, .. }) => {
                Err((Outcome::Failed, format!("the answer has the status {status}; only 200 has a decision")))
            }
            Err(error @ (RequestError::Timeout(_) | RequestError::NotSent)) => {
                Err((Outcome::Timeout, error.to_string()))
            }
            Err(error) => Err((Outcome::Failed, error.to_string())),
        };
        match decoded {
            Ok(answer) => {
                if self.failures.swap(0, Ordering::Relaxed) > 0 {
                    info!(self.log, # "hook_decisions_recovered", "the backend decides about commands again"; "url" => %self.url);
                }
                let is_allowed = matches!(answer, HookAnswer::Allowed(_));
                (if is_allowed { Outcome::Allowed } else { Outcome::Refused }, answer)
            }
            Err((outcome, error)) => {
                self.report(HOOKS[hook], &error);
                (outcome, HookAnswer::Failed)
            }
        }
    }

    /// Logs a failure: the 1st, 2nd, 4th, 8th… in a row.
    fn report(&self, hook: &str, error: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            warn!(self.log, # "hook_decision_failed", "the backend has not decided about a command, and the client gets error 100";
                "url" => %self.url, "hook" => hook, "error" => error, "failures" => failures);
        }
    }

    fn stats(&self) -> MutexGuard<'_, DecisionStats> {
        // Every change of the figures is complete before anything that can panic.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(command: &HookCommand) -> usize {
    match command {
        HookCommand::Subscribe { .. } => 0,
        HookCommand::Publish { .. } => 1,
        HookCommand::Rpc { .. } => 2,
    }
}

/// The maximum length of an answer, in bytes: more than a message of a client.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The most requests that wait for a thread.
const MAX_QUEUED: usize = 4096;

/// The most memory of requests, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The bounds of the histogram of times.
const TIMES: [Duration; 10] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
