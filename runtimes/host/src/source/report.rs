//! Failures and rejected messages in the log, and the pauses between attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postern_channels::source::{self, Poison};
use slog::{Logger, info, warn};
use smol::future::or;

use super::{CONNECT_TIMEOUT, Shared, after, increment, random};
use crate::escape::Quoted;

/// The end of a connection, or of an attempt to connect.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may succeed soon.
    Temporary(String),
    /// It fails until an operator changes something: the setting, the error and the change.
    Refused(&'static str, String, &'static str),
}

/// Counts and logs what happens to the connection and the messages of a broker.
pub(super) struct Report {
    shared: Arc<Shared>,
    log: Logger,
    /// Failures since messages could be received.
    failures: u32,
    /// When a rejected message was logged.
    last: Option<Instant>,
    /// The number of rejected messages after that.
    hidden: u64,
}

impl Report {
    pub(super) fn new(shared: Arc<Shared>, log: Logger) -> Report {
        Report { shared, log, failures: 0, last: None, hidden: 0 }
    }

    /// Notes that messages can be received, from the queue or the subjects of this name.
    pub(super) fn connected(&mut self, key: &'static str, queue: &str) {
        let broker = self.shared.broker;
        self.shared.counts.is_up.store(true, Ordering::Relaxed);
        if self.failures > 0 {
            info!(self.log, # "source_recovered", "messages from {broker} are received again";
                "failures" => self.failures);
            self.failures = 0;
        } else {
            info!(self.log, # "source_connected", "receiving messages from {broker}"; key => %Quoted(queue));
        }
    }

    /// Notes that the connection has ended.
    pub(super) fn disconnected(&self) {
        self.shared.counts.is_up.store(false, Ordering::Relaxed);
        self.shared.counts.unacknowledged.store(0, Ordering::Relaxed);
    }

    /// Notes that the source has stopped.
    pub(super) fn stopped(&self) {
        info!(self.log, # "source_stopped", "no more messages are received from {}", self.shared.broker);
    }

    /// Logs a failure, and returns the time until the next attempt.
    pub(super) fn failed(&mut self, failure: &Failure) -> Duration {
        let broker = self.shared.broker;
        increment(&self.shared.counts.failures);
        self.failures = self.failures.saturating_add(1);
        // At the 1st, 2nd, 4th, 8th… failure.
        let is_logged = self.failures.is_power_of_two();
        match failure {
            Failure::Temporary(error) => {
                if is_logged {
                    warn!(self.log, # "source_failed", "cannot receive messages from {broker}; trying again";
                        "error" => error, "failures" => self.failures);
                }
                source::pause_after(self.failures, random())
            }
            Failure::Refused(setting, error, advice) => {
                if is_logged {
                    warn!(self.log, # "source_refused", "{setting}: {broker} refuses it: {advice}";
                        "error" => error, "failures" => self.failures);
                }
                REFUSED_PAUSE
            }
        }
    }

    /// Counts a rejected message, and logs at most one a second. The body may have secrets, and is left out.
    pub(super) fn rejected(&mut self, poison: Poison, key: &'static str, routing_key: &str, bytes: usize) {
        increment(&self.shared.counts.dead[poison as usize]);
        if self.last.is_some_and(|last| last.elapsed() < REJECTION_INTERVAL) {
            self.hidden += 1;
            return;
        }
        self.last = Some(Instant::now());
        warn!(self.log, # "source_rejected", "a message from {} is rejected: {poison}", self.shared.broker;
            "reason" => poison.label(), key => %Quoted(routing_key), "bytes" => bytes, "not_logged" => self.hidden);
        self.hidden = 0;
    }
}

/// Receives messages, one connection after the other, until the source is stopped. `receive` returns when it is stopped, and fails when
/// its connection ends.
pub(super) async fn receive_all<C>(
    consumer: &mut C,
    report: impl Fn(&mut C) -> &mut Report,
    mut receive: impl AsyncFnMut(&mut C) -> Result<(), Failure>,
) {
    loop {
        let result = receive(consumer).await;
        let report = report(consumer);
        report.disconnected();
        let pause = match result {
            Ok(()) => return,
            Err(failure) => report.failed(&failure),
        };
        if or(report.shared.stopped(), after(pause)).await {
            return;
        }
    }
}

/// Connects, within the time for it. `None`: the source is stopped.
pub(super) async fn attempt<T>(
    shared: &Shared,
    connect: impl Future<Output = Result<T, Failure>>,
) -> Result<Option<T>, Failure> {
    let stopped = async {
        shared.stopped().await;
        Ok(None)
    };
    or(timed(async { connect.await.map(Some) }), stopped).await
}

/// Fails if it takes longer than an attempt to connect may.
pub(super) async fn timed<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = async {
        after(CONNECT_TIMEOUT).await;
        Err(Failure::Temporary(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))
    };
    or(future, late).await
}

/// The time between two attempts if an operator has to change something.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The least time between two records of rejected messages.
const REJECTION_INTERVAL: Duration = Duration::from_secs(1);
